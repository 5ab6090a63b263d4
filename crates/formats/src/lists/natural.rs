//! Natural order, as people count: runs of digits by their value, letters whatever their case.
//!
//! Comes in: a text; goes out: a key whose order as bytes is the natural order of the texts, so that a sort compares
//! bytes and nothing else. Two texts may have one key (`a1` and `A01`): whoever needs a total order compares the texts too.

/// Ends a key.
const END: u8 = 0;
/// Ends a stretch of text that a number follows.
const NUMBER: u8 = 1;
/// Stands before a byte of a text that looks like one of these three.
const ESCAPE: u8 = 2;
/// A number of more digits has its length in four bytes.
const SHORT_DIGITS: usize = 254;

/// Appends the key of `text`. Digits are those of ASCII; letters count as Unicode's lower case where `text` is UTF-8; what
/// is not UTF-8 counts as it is.
pub fn append_key(text: &[u8], key: &mut Vec<u8>) {
    append_stem(text, key);
    key.push(END);
}

/// Appends what the keys of all texts begin with that begin with `text`; the key of the rest may be appended to it. So it
/// is for a text that ends with a slash: no number goes on after it, and no letter of it depends on what follows.
pub fn append_stem(text: &[u8], key: &mut Vec<u8>) {
    // Loops over bytes: a hash is many short stretches, for which anything cleverer takes longer.
    let mut at = 0;
    loop {
        let (start, mut seen) = (at, 0);
        while at < text.len() && !text[at].is_ascii_digit() {
            seen |= text[at];
            at += 1;
        }
        if seen.is_ascii() {
            append_bytes(text[start..at].iter().map(u8::to_ascii_lowercase), key);
        } else {
            append_text(&text[start..at], key);
        }
        if at == text.len() {
            return;
        }
        let start = at;
        while at < text.len() && text[at].is_ascii_digit() {
            at += 1;
        }
        key.push(NUMBER);
        append_number(&text[start..at], key);
    }
}

fn append_text(text: &[u8], key: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        append_bytes(chunk.valid().to_lowercase().bytes(), key);
        append_bytes(chunk.invalid().iter().copied(), key);
    }
}

fn append_bytes(bytes: impl Iterator<Item = u8>, key: &mut Vec<u8>) {
    for byte in bytes {
        if byte <= ESCAPE {
            key.push(ESCAPE);
        }
        key.push(byte);
    }
}

/// A number is its length without leading zeros, then its digits.
fn append_number(digits: &[u8], key: &mut Vec<u8>) {
    let zeros = digits.iter().position(|b| *b != b'0').unwrap_or(digits.len());
    let digits = &digits[zeros..];
    match u8::try_from(digits.len()) {
        Ok(length) if digits.len() <= SHORT_DIGITS => key.push(length),
        _ => {
            key.push(u8::MAX);
            key.extend_from_slice(&u32::try_from(digits.len()).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
    key.extend_from_slice(digits);
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;
    use proptest::prelude::*;

    fn key(text: &[u8]) -> Vec<u8> {
        let mut key = Vec::new();
        append_key(text, &mut key);
        key
    }

    /// The plain form: stretches of text and numbers in turn, compared one by one.
    fn slow(text: &str) -> (Vec<String>, Vec<u128>) {
        let texts = text.split(|c: char| c.is_ascii_digit()).map(str::to_lowercase);
        let mut texts: Vec<String> = texts.collect();
        let numbers: Vec<u128> = text
            .split(|c: char| !c.is_ascii_digit())
            .filter(|n| !n.is_empty())
            .map(|n| n.parse().unwrap())
            .collect();
        // Between two digits of one number there is an empty text that does not count.
        let bytes = text.as_bytes();
        let mut inside: Vec<usize> = (1..bytes.len())
            .filter(|at| bytes[*at].is_ascii_digit() && bytes[at - 1].is_ascii_digit())
            .map(|at| bytes[..at].iter().filter(|b| b.is_ascii_digit()).count())
            .collect();
        inside.reverse();
        for index in inside {
            texts.remove(index);
        }
        (texts, numbers)
    }

    fn slow_order(a: &str, b: &str) -> Ordering {
        let ((a, an), (b, bn)) = (slow(a), slow(b));
        for index in 0..a.len().min(b.len()) {
            let order = a[index]
                .cmp(&b[index])
                .then_with(|| match (an.get(index), bn.get(index)) {
                    (Some(a), Some(b)) => a.cmp(b),
                    (a, b) => a.is_some().cmp(&b.is_some()),
                });
            if order != Ordering::Equal {
                return order;
            }
        }
        Ordering::Equal
    }

    #[test]
    fn as_hpcp_sorts() {
        // Seen from hpcp 9.79.
        let lists: [&[&str]; 2] = [
            &[
                "s/",
                "s/0:36",
                "s/1a:0d",
                "s/007:0d",
                "s/_u:93",
                "s/a9:9",
                "s/a10:9",
                "s/a b:a1",
                "s/a-b:a3",
                "s/a.txt:0a",
                "s/a:fb",
                "s/B:af",
                "s/d2/",
                "s/d2/q:e6",
                "s/D3/",
                "s/d10/",
                "s/d10/q:e6",
                "s/dang:/nowhere",
                "s/empty0:ef",
                "s/empty/",
                "s/ln:a",
                "s/lnd:d2",
                "s/Z1:8c",
                "s/é:02",
            ],
            &[
                "u/",
                "u/a\u{1}",
                "u/a\u{2}b",
                "u/i",
                "u/İ",
                "u/x2",
                "u/x³",
                "u/x١",
                "u/x٣",
                "u/z",
                "u/ẞ",
                "u/è",
                "u/é",
                "u/ı",
                "u/ας",
                "u/Ω",
            ],
        ];
        for list in lists {
            for pair in list.windows(2) {
                assert!(key(pair[0].as_bytes()) <= key(pair[1].as_bytes()), "{pair:?}");
            }
        }
    }

    #[test]
    fn boundaries() {
        let order = |a: &[u8], b: &[u8]| key(a).cmp(&key(b));
        for (a, b) in [
            (&b""[..], &b"0"[..]),
            (b"0", b"a"),
            (b"a", b"a0"),
            (b"a0", b"a\x01"),
            (b"a\x01", b"a\x02"),
            (b"a\x02", b"a\x03"),
            (b"a9", b"a10"),
            (b"a10", b"a10b"),
            (b"a10b", b"a11"),
            (b"a", b"a\xff"),
            (b"\xc3\xa9", b"\xff"),
        ] {
            assert_eq!(order(a, b), Ordering::Less, "{} {}", a.escape_ascii(), b.escape_ascii());
        }
        for (a, b) in [
            (&b"A01"[..], &b"a1"[..]),
            (b"000", b"0"),
            ("É".as_bytes(), "é".as_bytes()),
        ] {
            assert_eq!(order(a, b), Ordering::Equal);
        }
        for length in [253, 254, 255, 256, 70_000] {
            let (nines, more) = (vec![b'9'; length], [b"1".as_slice(), &vec![b'0'; length]].concat());
            assert_eq!(order(&nines, &more), Ordering::Less, "{length}");
            assert_eq!(order(&more, &nines), Ordering::Greater, "{length}");
        }
    }

    proptest! {
        #[test]
        fn as_the_plain_form(a in "[aAbé0-2./:\u{1}\u{2}-]{0,12}", b in "[aAbé0-2./:\u{1}\u{2}-]{0,12}") {
            prop_assert_eq!(key(a.as_bytes()).cmp(&key(b.as_bytes())), slow_order(&a, &b));
        }

        #[test]
        fn of_a_directory_and_the_rest(
            directory in "([aAΣé0-2.:\u{1}\u{2}-]{0,6}/){1,3}",
            invalid in any::<Vec<u8>>(),
            rest in "[aAΣé0-2./:\u{1}\u{2}-]{0,12}",
        ) {
            for directory in [directory.into_bytes(), [&invalid, b"/".as_slice()].concat()] {
                let mut parts = Vec::new();
                append_stem(&directory, &mut parts);
                append_key(rest.as_bytes(), &mut parts);
                prop_assert_eq!(parts, key(&[&directory, rest.as_bytes()].concat()));
            }
        }

        #[test]
        fn a_common_directory_does_not_matter(a: Vec<u8>, b: Vec<u8>) {
            let below = |name: &[u8]| key(&[b"s1/".as_slice(), name].concat());
            prop_assert_eq!(key(&a).cmp(&key(&b)), below(&a).cmp(&below(&b)));
        }
    }
}
