//! Lines of one digest and one path, of coreutils, b3sum, BSD, OpenSSL, rclone and `BagIt`.
//!
//! Comes in: a line without its end; goes out: its parts. Which algorithm untagged digits are of is decided elsewhere.

use super::{Format, Problem, text};
use crate::digest::Algorithm;

/// The parts of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    /// The algorithm, where the line says it.
    pub tag: Option<Algorithm>,
    /// Without a tag: hexadecimal digits, as many as an algorithm has. With one: what stands where a digest does.
    pub digits: &'a [u8],
    /// The path, not checked.
    pub path: Vec<u8>,
}

/// What `xxhsum` has before digits of XXH3, which are as many as those of its older hash.
const XXH3_MARK: &[u8] = b"XXH3_";

/// How many blanks there are between digest and path in a file of lines: two (or one and `*`), or one. As in coreutils the
/// first line decides: else a name that begins with a blank could stand for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spacing {
    One,
    Two,
}

/// Parts of a line of checksums; `None` where there is nothing in it, or a comment.
pub(super) fn parse<'a>(
    line: &'a [u8],
    format: Format,
    spacing: &mut Option<Spacing>,
) -> Result<Option<Parts<'a>>, Problem> {
    let nul = format == Format::SumsNul;
    let line = if nul {
        line
    } else {
        trimmed(line.strip_suffix(b"\r").unwrap_or(line))
    };
    if line.first().is_none_or(|first| matches!(first, b'#' | b';')) {
        return Ok(None);
    }
    let no_line = || {
        Problem::Line(if format == Format::Bagit {
            "a manifest of a bag"
        } else {
            "checksums"
        })
    };
    let (line, escaped) = match line.strip_prefix(b"\\") {
        Some(rest) if matches!(format, Format::Sums) => (rest, true),
        _ => (line, false),
    };
    let word = line.iter().position(|byte| is_blank(*byte)).unwrap_or(line.len());
    let (digits, rest) = line.split_at(word);
    let (digits, tag) = match digits.strip_prefix(XXH3_MARK) {
        Some(digits) => (digits, Some(Algorithm::Xxh3)),
        None => (digits, None),
    };
    let mut parts = if !digits.is_empty() && !rest.is_empty() && digits.iter().all(u8::is_ascii_hexdigit) {
        if Algorithm::of_digits(digits.len()).next().is_none() {
            return Err(Problem::Digits(digits.len()));
        }
        let path = match format {
            Format::Bagit => {
                let path = trimmed(rest);
                percent_decoded(path.strip_prefix(b"*").unwrap_or(path)).ok_or_else(no_line)?
            }
            _ => after_blank(&rest[1..], spacing).ok_or_else(no_line)?.to_vec(),
        };
        Parts { tag, digits, path }
    } else if matches!(digits, b"ERROR" | b"UNSUPPORTED") && rest.starts_with(b"  ") {
        return Err(Problem::NoDigest(text(digits)));
    } else if format == Format::Bagit {
        return Err(no_line());
    } else {
        tagged(line).ok_or_else(no_line)??
    };
    if escaped {
        parts.path = unescaped(&parts.path).ok_or_else(no_line)?;
    }
    Ok(Some(parts))
}

/// The path behind the first blank.
fn after_blank<'a>(rest: &'a [u8], spacing: &mut Option<Spacing>) -> Option<&'a [u8]> {
    let marked = rest.len() > 1 && matches!(rest[0], b' ' | b'*');
    match *spacing.get_or_insert(if marked { Spacing::Two } else { Spacing::One }) {
        Spacing::Two => marked.then(|| &rest[1..]),
        Spacing::One => (!rest.is_empty()).then_some(rest),
    }
}

/// `ALGORITHM (path) = digits`.
fn tagged(line: &[u8]) -> Option<Result<Parts<'_>, Problem>> {
    let open = line.iter().position(|byte| *byte == b'(')?;
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let name = &line[..open];
    let name = name.strip_suffix(b" ").unwrap_or(name);
    let digits = trimmed(trimmed(&line[close + 1..]).strip_prefix(b"=")?);
    let path = line.get(open + 1..close)?;
    let named = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/');
    if name.is_empty() || !name.iter().all(named) {
        return None;
    }
    Some(match Algorithm::named(name) {
        None => Err(Problem::Algorithm(text(name))),
        tag => Ok(Parts {
            tag,
            digits,
            path: path.to_vec(),
        }),
    })
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    let text = bytes.iter().position(|byte| !is_blank(*byte)).unwrap_or(bytes.len());
    &bytes[text..]
}

/// Appends a path with `\`, LF and CR escaped; whether there was any.
pub(super) fn escape(path: &[u8], line: &mut Vec<u8>) -> bool {
    let before = line.len() + path.len();
    for byte in path {
        match byte {
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            byte => line.push(*byte),
        }
    }
    line.len() > before
}

fn unescaped(path: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut path = path.iter();
    while let Some(byte) = path.next() {
        bytes.push(match byte {
            b'\\' => match path.next()? {
                b'\\' => b'\\',
                b'n' => b'\n',
                b'r' => b'\r',
                _ => return None,
            },
            byte => *byte,
        });
    }
    Some(bytes)
}

/// Appends a path with `%`, LF and CR as RFC 8493 has them.
pub(super) fn percent_encode(path: &[u8], line: &mut Vec<u8>) {
    for byte in path {
        match byte {
            b'%' => line.extend_from_slice(b"%25"),
            b'\n' => line.extend_from_slice(b"%0A"),
            b'\r' => line.extend_from_slice(b"%0D"),
            byte => line.push(*byte),
        }
    }
}

/// The path that was encoded; `%` before anything else stands for itself, as in bags before version 1.0. `None` where a
/// CR is in it, which ends a line in a bag, but is no line's end here.
fn percent_decoded(mut path: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(path.len());
    while let [byte, rest @ ..] = path {
        let (byte, rest) = match (byte, rest) {
            (b'\r', _) => return None,
            (b'%', [b'2', b'5', rest @ ..]) => (b'%', rest),
            (b'%', [b'0', b'A' | b'a', rest @ ..]) => (b'\n', rest),
            (b'%', [b'0', b'D' | b'd', rest @ ..]) => (b'\r', rest),
            (byte, rest) => (*byte, rest),
        };
        bytes.push(byte);
        path = rest;
    }
    Some(bytes)
}
