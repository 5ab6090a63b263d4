//! Records of extended headers: `LENGTH KEYWORD=VALUE` and a line feed, the length in decimal and of all of it.

use std::fmt::Write as _;

const SECOND: i128 = 1_000_000_000;

/// Appends a record.
pub(super) fn put(keyword: &[u8], value: &[u8], records: &mut Vec<u8>) {
    let rest = keyword.len() + value.len() + 3;
    // The length counts its own digits.
    let mut length = rest;
    while length != rest + digits(length) {
        length = rest + digits(length);
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(keyword);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// The next record, as keyword and value, and what is behind it. `None`: there is none.
pub(super) type Next<'r> = Option<((&'r [u8], &'r [u8]), &'r [u8])>;

/// Takes the first record off. An error: that is no record.
pub(super) fn next(records: &[u8]) -> Result<Next<'_>, &'static str> {
    const WRONG: &str = "a damaged extended header";
    // What fills a header up.
    if records.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let blank = records.iter().take(20).position(|byte| *byte == b' ').ok_or(WRONG)?;
    let length: usize = number(&records[..blank]).ok_or(WRONG)?;
    if length <= blank + 1 || length > records.len() {
        return Err(WRONG);
    }
    let (record, rest) = records.split_at(length);
    let (b'\n', record) = record.split_last().map(|(last, all)| (*last, all)).ok_or(WRONG)? else {
        return Err(WRONG);
    };
    let record = &record[blank + 1..];
    let equals = record.iter().position(|byte| *byte == b'=').ok_or(WRONG)?;
    Ok(Some(((&record[..equals], &record[equals + 1..]), rest)))
}

/// Digits as a number.
pub(super) fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A time in seconds, with as many decimals as it has, from nanoseconds.
pub(super) fn time(nanoseconds: i128) -> String {
    let whole = nanoseconds.unsigned_abs();
    let (seconds, rest) = (whole / SECOND.unsigned_abs(), whole % SECOND.unsigned_abs());
    let mut text = String::new();
    if nanoseconds < 0 {
        text.push('-');
    }
    text.push_str(&seconds.to_string());
    if rest > 0 {
        // Writing to a string does not fail.
        if write!(text, ".{rest:09}").is_ok() {
            text.truncate(text.trim_end_matches('0').len());
        }
    }
    text
}

/// The same back; decimals that are finer are cut off, towards the past.
pub(super) fn of_time(text: &[u8]) -> Option<i128> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, decimals) = match text.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &b""[..]),
    };
    let seconds: i64 = number(whole)?;
    if !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let rest = (0..9).fold(0, |sum: i128, at| {
        sum * 10 + i128::from(decimals.get(at).map_or(0, |digit| digit - b'0'))
    });
    let finer = decimals
        .get(9..)
        .is_some_and(|more| more.iter().any(|digit| *digit != b'0'));
    let time = i128::from(seconds) * SECOND + rest;
    Some(if negative { -time - i128::from(finer) } else { time })
}
