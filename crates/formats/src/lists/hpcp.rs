//! Lists of entries as hpcp writes them, one a line: `path:xxh64` for a file, `path:target` for a symlink, `path/` for a
//! directory; without hashes `path`. And the lists of what differs that are made of them.
//!
//! Comes in: a path as bytes and what is known of the entry; goes out: its line, and the same values from the line.
//! Promises: every line reads back as exactly what was written, whatever bytes the names have, and the names that the
//! original can carry are written as it writes them.
//!
//! What its format can't carry (a newline, bytes that are not UTF-8, blanks at the ends, what would read back as something
//! else) is escaped: NUL, the path, NUL, then `/` for a directory, `:` and the hash for a file, `>` and the target for a
//! symlink, or nothing. In path and target `\\` is a backslash, `\n` a newline and `\xHH` any other byte. No name holds a
//! NUL, so that no ordinary line looks like this. All of a list is UTF-8.

use std::fmt::Write as _;

/// Hexadecimal digits of an xxh64.
const XXH64_DIGITS: usize = 16;
/// Hexadecimal digits of a `BLAKE2b`, which the original uses where it has no xxhash.
const BLAKE2B_DIGITS: usize = 128;
/// What stands before an entry of a list of differences that only the old side has.
pub const REMOVED: &[u8] = b"-\0";

/// Which lines a list has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// With hashes and link targets.
    Hashed,
    /// Paths only.
    Names,
}

/// The hash of a file in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// Of its last bytes, or of all.
    Xxh64(u64),
    /// The list has none, or one of another algorithm.
    Unknown,
}

/// What a list knows of an entry beside its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Facts {
    /// Nothing: not a directory, for all that the list says.
    Nothing,
    /// It is a directory.
    Directory,
    /// It is a file.
    File(Hash),
    /// It is a symlink with this text.
    Symlink(Vec<u8>),
}

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its path without a slash at the end; empty for the directory itself that the list is relative to (`./`).
    pub path: Vec<u8>,
    /// What is known.
    pub facts: Facts,
}

/// A line that begins as an escaped one and is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line of the list is not escaped as this program escapes")]
pub struct Malformed;

/// The line of an entry as the original writes it, without the newline; `plain` is emptied first. What sorts a list.
pub fn plain_line(path: &[u8], facts: &Facts, form: Form, plain: &mut Vec<u8>) {
    plain.clear();
    plain.extend_from_slice(path);
    match facts {
        Facts::Directory if path.is_empty() => plain.extend_from_slice(b"./"),
        Facts::Directory if path.ends_with(b"/") => {}
        Facts::Directory => plain.push(b'/'),
        _ if form == Form::Names => {}
        Facts::Nothing => {}
        Facts::File(hash) => {
            plain.push(b':');
            append_hash(*hash, plain);
        }
        Facts::Symlink(target) => {
            plain.push(b':');
            plain.extend_from_slice(target);
        }
    }
}

fn append_hash(hash: Hash, text: &mut Vec<u8>) {
    let Hash::Xxh64(value) = hash else { return };
    // Sixteen digits, without a formatter: every line of a list has them.
    let digits: [u8; XXH64_DIGITS] = std::array::from_fn(|place| {
        let digit = (value >> (4 * (XXH64_DIGITS - 1 - place))) & 0xf;
        b"0123456789abcdef"[digit as usize]
    });
    text.extend_from_slice(&digits);
}

/// The line that is written where [`plain_line`] made `plain`, without the newline, into `line`, which is emptied first.
/// Answers whether it is another one: escaped.
pub fn line(path: &[u8], facts: &Facts, form: Form, plain: &[u8], line: &mut Vec<u8>) -> bool {
    line.clear();
    if reads_back(path, facts, form, plain) {
        line.extend_from_slice(plain);
        return false;
    }
    escaped_line(path, facts, form, line);
    true
}

/// Appends the escaped line of an entry.
pub fn escaped_line(path: &[u8], facts: &Facts, form: Form, line: &mut Vec<u8>) {
    line.push(0);
    escape(path, line);
    line.push(0);
    match facts {
        Facts::Directory => line.push(b'/'),
        _ if form == Form::Names => {}
        Facts::Nothing => {}
        Facts::File(hash) => {
            line.push(b':');
            append_hash(*hash, line);
        }
        Facts::Symlink(target) => {
            line.push(b'>');
            escape(target, line);
        }
    }
}

fn reads_back(path: &[u8], facts: &Facts, form: Form, plain: &[u8]) -> bool {
    // A carriage return ends a line for Python, which the originals are read by.
    let Ok(text) = std::str::from_utf8(plain) else {
        return false;
    };
    if plain.contains(&b'\n') || plain.contains(&b'\r') || trim(text) != text {
        return false;
    }
    if form == Form::Names && *facts != Facts::Directory {
        // What looks like a hash would make the whole list look like one with hashes.
        return !plain.ends_with(b"/") && hash_suffix(plain).is_none();
    }
    if matches!(facts, Facts::File(_)) {
        // No hash holds a colon, so that the last one of the line is the one before it.
        return true;
    }
    match parse(plain, form) {
        Ok(Some(read)) => read.path == path && read.facts == *facts,
        _ => false,
    }
}

fn escape(bytes: &[u8], line: &mut Vec<u8>) {
    let hex = |byte: u8, line: &mut Vec<u8>| {
        let mut text = String::new();
        // Writing to a String does not fail.
        write!(text, "\\x{byte:02x}").unwrap_or_default();
        line.extend_from_slice(text.as_bytes());
    };
    for chunk in bytes.utf8_chunks() {
        for byte in chunk.valid().bytes() {
            match byte {
                b'\\' => line.extend_from_slice(b"\\\\"),
                b'\n' => line.extend_from_slice(b"\\n"),
                0..=0x1f | 0x7f => hex(byte, line),
                _ => line.push(byte),
            }
        }
        for byte in chunk.invalid() {
            hex(*byte, line);
        }
    }
}

fn unescape(text: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        let plain = rest.iter().position(|b| *b == b'\\').unwrap_or(rest.len());
        bytes.extend_from_slice(&rest[..plain]);
        rest = match &rest[plain..] {
            [] => return Ok(bytes),
            [b'\\', b'\\', rest @ ..] => {
                bytes.push(b'\\');
                rest
            }
            [b'\\', b'n', rest @ ..] => {
                bytes.push(b'\n');
                rest
            }
            [b'\\', b'x', high, low, rest @ ..] => {
                let digit = |byte: u8| {
                    (byte as char)
                        .to_digit(16)
                        .and_then(|d| u8::try_from(d).ok())
                        .ok_or(Malformed)
                };
                bytes.push(digit(*high)? << 4 | digit(*low)?);
                rest
            }
            _ => return Err(Malformed),
        }
    }
}

/// Reads a line without its newline; `None` for a blank one. Blanks around it mean nothing.
pub fn parse(line: &[u8], form: Form) -> Result<Option<Listed>, Malformed> {
    if let [0, escaped @ ..] = line {
        return parse_escaped(escaped.strip_suffix(b"\r").unwrap_or(escaped)).map(Some);
    }
    let line = match std::str::from_utf8(line) {
        Ok(text) => trim(text).as_bytes(),
        // Somebody else's list.
        Err(_) => line.trim_ascii(),
    };
    if line.is_empty() {
        return Ok(None);
    }
    if !line.ends_with(b"/") {
        return Ok(Some(parse_plain(line, form)));
    }
    // Of the root the slash stays.
    let end = line.iter().rposition(|b| *b != b'/').map_or(1, |at| at + 1);
    let path = if line == b"./" { &[][..] } else { &line[..end] };
    Ok(Some(Listed {
        path: path.to_vec(),
        facts: Facts::Directory,
    }))
}

fn parse_plain(line: &[u8], form: Form) -> Listed {
    let listed = |path: &[u8], facts| Listed {
        path: path.to_vec(),
        facts,
    };
    if form == Form::Names {
        return listed(line, Facts::Nothing);
    }
    if let Some((path, hash)) = hash_suffix(line) {
        return listed(path, Facts::File(hash));
    }
    match line.iter().rposition(|b| *b == b':') {
        Some(at) => listed(&line[..at], Facts::Symlink(line[at + 1..].to_vec())),
        None => listed(line, Facts::Nothing),
    }
}

fn parse_escaped(escaped: &[u8]) -> Result<Listed, Malformed> {
    let end = escaped.iter().position(|b| *b == 0).ok_or(Malformed)?;
    let facts = match &escaped[end + 1..] {
        [] => Facts::Nothing,
        [b'/'] => Facts::Directory,
        [b':', hash @ ..] => Facts::File(parse_hash(hash).ok_or(Malformed)?),
        [b'>', target @ ..] => Facts::Symlink(unescape(target)?),
        _ => return Err(Malformed),
    };
    Ok(Listed {
        path: unescape(&escaped[..end])?,
        facts,
    })
}

/// The path and the hash of a file's line; `None` where what follows the last colon is no hash.
fn hash_suffix(line: &[u8]) -> Option<(&[u8], Hash)> {
    let colon = line.iter().rposition(|b| *b == b':')?;
    Some((&line[..colon], parse_hash(&line[colon + 1..])?))
}

fn parse_hash(text: &[u8]) -> Option<Hash> {
    if !text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    match text.len() {
        0 | BLAKE2B_DIGITS => Some(Hash::Unknown),
        XXH64_DIGITS => {
            let text = std::str::from_utf8(text).ok()?;
            Some(Hash::Xxh64(u64::from_str_radix(text, 16).ok()?))
        }
        _ => None,
    }
}

/// The form of the list that a line comes from; `None` where such a line may be in both.
pub fn form_of(line: &[u8]) -> Option<Form> {
    if line.first() == Some(&0) {
        return match parse(line, Form::Hashed) {
            Ok(Some(Listed {
                facts: Facts::Nothing, ..
            })) => Some(Form::Names),
            Ok(Some(Listed {
                facts: Facts::File(_) | Facts::Symlink(_),
                ..
            })) => Some(Form::Hashed),
            _ => None,
        };
    }
    match parse(line, Form::Hashed) {
        Ok(Some(listed)) => match listed.facts {
            Facts::File(_) => Some(Form::Hashed),
            Facts::Nothing => Some(Form::Names),
            Facts::Directory | Facts::Symlink(_) => None,
        },
        _ => None,
    }
}

/// The text without the blanks at its ends, those that Python's `strip` takes.
fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c))
}

/// Appends a path as `tar -T` reads it, with its newline: GNU tar undoes backslashes, and takes a line with a dash in front,
/// also behind blanks, as options, which it cuts into words as a shell does. A directory's path ends with a slash.
pub fn tar_line(path: &[u8], directory: bool, line: &mut Vec<u8>) {
    let option = path.iter().find(|byte| !matches!(byte, b' ' | b'\t'..=b'\r')) == Some(&b'-');
    if option {
        line.extend_from_slice(b"--add-file=\"");
    }
    for byte in if path.is_empty() { b"." } else { path } {
        match byte {
            // Undone three times.
            b'\\' if option => line.extend_from_slice(&[b'\\'; 8]),
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'"' if option => line.extend_from_slice(b"\\\""),
            b'\n' => line.extend_from_slice(b"\\n"),
            byte => line.push(*byte),
        }
    }
    if directory {
        line.push(b'/');
    }
    if option {
        line.push(b'"');
    }
    line.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(path: &[u8], facts: &Facts, form: Form) -> (Vec<u8>, bool) {
        let (mut plain, mut text) = (Vec::new(), Vec::new());
        plain_line(path, facts, form, &mut plain);
        let escaped = line(path, facts, form, &plain, &mut text);
        (text, escaped)
    }

    /// What a list of this form keeps.
    fn kept(facts: &Facts, form: Form) -> Facts {
        match (form, facts) {
            (Form::Hashed, facts) | (Form::Names, facts @ Facts::Directory) => facts.clone(),
            (Form::Names, _) => Facts::Nothing,
        }
    }

    #[test]
    fn as_hpcp_writes() {
        let file = Facts::File(Hash::Xxh64(0x0228_7692_33fc_f0b2));
        let link = |target: &str| Facts::Symlink(target.into());
        for (path, facts, hashed, names) in [
            ("s/é", &file, "s/é:0228769233fcf0b2", "s/é"),
            ("s/x:y", &file, "s/x:y:0228769233fcf0b2", "s/x:y"),
            ("a b", &file, "a b:0228769233fcf0b2", "a b"),
            ("a", &Facts::File(Hash::Unknown), "a:", "a"),
            ("s/ln", &link("../a"), "s/ln:../a", "s/ln"),
            ("s/x:ln", &link("a"), "s/x:ln:a", "s/x:ln"),
            ("s/d", &Facts::Directory, "s/d/", "s/d/"),
            ("", &Facts::Directory, "./", "./"),
        ] {
            let show = |(line, escaped)| (String::from_utf8(line).unwrap(), escaped);
            assert_eq!(
                show(written(path.as_bytes(), facts, Form::Hashed)),
                (hashed.to_owned(), false)
            );
            assert_eq!(
                show(written(path.as_bytes(), facts, Form::Names)),
                (names.to_owned(), false)
            );
        }
    }

    #[test]
    fn what_it_can_not_carry_is_escaped() {
        let file = Facts::File(Hash::Xxh64(1));
        let link = |target: &[u8]| Facts::Symlink(target.to_vec());
        for (path, facts, hashed, names) in [
            (
                &b"a\nb"[..],
                &file,
                &b"\0a\\nb\0:0000000000000001"[..],
                &b"\0a\\nb\0"[..],
            ),
            (b"\xff\\", &file, b"\0\\xff\\\\\0:0000000000000001", b"\0\\xff\\\\\0"),
            (b" a", &file, b"\0 a\0:0000000000000001", b"\0 a\0"),
            (b"a\r", &file, b"\0a\\x0d\0:0000000000000001", b"\0a\\x0d\0"),
            (
                "\u{a0}a".as_bytes(),
                &file,
                "\0\u{a0}a\0:0000000000000001".as_bytes(),
                "\0\u{a0}a\0".as_bytes(),
            ),
            (b"a", &link(b"b:c"), b"\0a\0>b:c", b"a"),
            (b"a", &link(b"b/"), b"\0a\0>b/", b"a"),
            (b"a", &link(b"b "), b"\0a\0>b ", b"a"),
            (b"a", &link(b"0123456789abcdef"), b"\0a\0>0123456789abcdef", b"a"),
            (b"\n", &Facts::Directory, b"\0\\n\0/", b"\0\\n\0/"),
        ] {
            let show = |text: &[u8]| text.escape_ascii().to_string();
            assert_eq!(show(&written(path, facts, Form::Hashed).0), show(hashed));
            assert_eq!(show(&written(path, facts, Form::Names).0), show(names));
        }
        // Only lists of names are in doubt about these.
        for path in ["a:0123456789abcdef", "a:", "a "] {
            assert!(written(path.as_bytes(), &file, Form::Names).1, "{path}");
            assert!(!written(path.as_bytes(), &file, Form::Hashed).1, "{path}");
        }
    }

    #[test]
    fn lines_of_others() {
        let listed = |path: &str, facts| {
            Ok(Some(Listed {
                path: path.into(),
                facts,
            }))
        };
        for (line, form, expected) in [
            ("", Form::Hashed, Ok(None)),
            (" \t\r", Form::Hashed, Ok(None)),
            ("  a \r", Form::Names, listed("a", Facts::Nothing)),
            ("a:b", Form::Names, listed("a:b", Facts::Nothing)),
            ("a:b:c", Form::Hashed, listed("a:b", Facts::Symlink(b"c".to_vec()))),
            ("a", Form::Hashed, listed("a", Facts::Nothing)),
            ("a//", Form::Hashed, listed("a", Facts::Directory)),
            ("/", Form::Hashed, listed("/", Facts::Directory)),
            (".", Form::Names, listed(".", Facts::Nothing)),
            ("\0a", Form::Names, Err(Malformed)),
            ("\0a\\\0", Form::Names, Err(Malformed)),
            ("\0a\\x1\0", Form::Names, Err(Malformed)),
            ("\0a\\xgg\0", Form::Names, Err(Malformed)),
            ("\0a\0:12", Form::Names, Err(Malformed)),
            ("\0a\0?", Form::Names, Err(Malformed)),
        ] {
            assert_eq!(parse(line.as_bytes(), form), expected, "{line:?}");
        }
        let blake = format!("a:{}", "0".repeat(128));
        assert_eq!(
            parse(blake.as_bytes(), Form::Hashed),
            listed("a", Facts::File(Hash::Unknown))
        );
    }

    #[test]
    fn forms_tell_themselves() {
        for (line, form) in [
            ("a:0123456789abcdef", Some(Form::Hashed)),
            ("a:", Some(Form::Hashed)),
            ("a", Some(Form::Names)),
            ("a/", None),
            ("a:b", None),
            ("", None),
            ("\0a\0", Some(Form::Names)),
            ("\0a\0>b", Some(Form::Hashed)),
            ("\0a\0/", None),
        ] {
            assert_eq!(form_of(line.as_bytes()), form, "{line:?}");
        }
    }

    #[test]
    fn lines_for_tar() {
        for (path, directory, expected) in [
            ("a", false, "a\n"),
            ("d", true, "d/\n"),
            ("", true, "./\n"),
            ("-x", false, "--add-file=\"-x\"\n"),
            (" -\\\"", false, "--add-file=\" -\\\\\\\\\\\\\\\\\\\"\"\n"),
            ("a\\n\nb", false, "a\\\\n\\nb\n"),
        ] {
            let mut line = Vec::new();
            tar_line(path.as_bytes(), directory, &mut line);
            assert_eq!(String::from_utf8(line).unwrap(), expected);
        }
    }

    fn names() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            Just(b':'),
            Just(b'\n'),
            Just(b'\r'),
            Just(b' '),
            Just(b'\\'),
            Just(b'0'),
            Just(b'a'),
            Just(b'-'),
            1..=255_u8
        ];
        let name = prop::collection::vec(byte.prop_filter("a slash separates", |b| *b != b'/'), 1..20);
        let hashlike =
            (name.clone(), "(:|:[0-9a-f]{16}|:[0-9a-f]{128}|)").prop_map(|(name, hash)| [name, hash.into()].concat());
        prop::collection::vec(hashlike.prop_filter("not a name", |n| n != b"." && n != b".."), 1..4)
            .prop_map(|names| names.join(&b'/'))
    }

    fn facts() -> impl Strategy<Value = Facts> {
        prop_oneof![
            Just(Facts::Nothing),
            Just(Facts::Directory),
            Just(Facts::File(Hash::Unknown)),
            any::<u64>().prop_map(|hash| Facts::File(Hash::Xxh64(hash))),
            (names(), "/?").prop_map(|(target, slash)| Facts::Symlink([target, slash.into()].concat())),
        ]
    }

    proptest! {
        #[test]
        fn every_line_reads_back(path in names(), facts in facts(), hashed: bool) {
            let form = if hashed { Form::Hashed } else { Form::Names };
            let (line, _) = written(&path, &facts, form);
            prop_assert!(!line.contains(&b'\n') && std::str::from_utf8(&line).is_ok());
            let expected = Listed { path, facts: kept(&facts, form) };
            prop_assert_eq!(parse(&line, form), Ok(Some(expected.clone())));
            // Also the form of a line, where it shows, is the one that it was written in.
            let shown = form_of(&line);
            let told = form == Form::Hashed && facts == Facts::Nothing;
            prop_assert!(told || shown.is_none_or(|shown| shown == form), "{:?}", line.escape_ascii().to_string());
        }

        #[test]
        fn no_line_is_too_strange_to_read(line: Vec<u8>) {
            for form in [Form::Hashed, Form::Names] {
                if let Ok(Some(listed)) = parse(&line, form) {
                    prop_assert!(!listed.path.is_empty() || listed.facts == Facts::Directory || line.contains(&b':') || line.contains(&0));
                }
            }
            form_of(&line);
        }
    }
}
