//! Lists of what is in the parts of a tree, for the tools that read such lists.
//!
//! Comes in: entries, each with its part; goes out: their text, one behind the other. Promises: a name that the tool would
//! take for another, or not at all, is never written: [`Writer::takes`] says why.
//!
//! What each tool makes of a list was found out with rsync 3.5.0, GNU tar 1.34 and rclone 1.60.1, and the tests of the
//! command do so again with those that are there.

use super::hpcp::tar_line;
use crate::json::Object;
use crate::manifest::Kind;

/// For whom a list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Names as they are.
    Names,
    /// `rsync --from0 --files-from`, which takes `#` and `;` in front for a comment.
    Rsync,
    /// `rclone --files-from-raw`: regular files and symlinks, by rclone's own names for them.
    Rclone,
    /// `tar --no-recursion -T`, with `nul` `tar --no-recursion --null -T`.
    Tar,
    /// A line of JSON for each entry, with all that the plan knows of it.
    Json,
}

/// An entry of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    /// Relative to the root of the lists; empty: the root itself.
    pub path: &'a [u8],
    /// What it is.
    pub kind: Kind,
    /// Bytes of a regular file; 0 of all else.
    pub size: u64,
    /// The same number for all names of one inode; none where it has one.
    pub link_group: Option<u64>,
    /// It is to be moved in ranges of so many bytes, the last of which is shorter.
    pub range: Option<u64>,
    /// It could not be read.
    pub unreadable: bool,
}

/// Why a list can't have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// A line ends there.
    #[error("the name has a newline, where a line would end")]
    Newline,
    /// rclone takes this character for a sign of its own.
    #[error("the name has the character \u{201b}, by which rclone quotes others")]
    Quote,
}

/// Writes lists of one form.
#[derive(Clone, Copy, Debug)]
pub struct Writer {
    /// For whom.
    format: Format,
    /// Names end with NUL.
    nul: bool,
    /// Each line begins with the number of its part: one list has all of them.
    numbered: bool,
}

impl Writer {
    /// A writer. `nul`: names end with NUL; rsync's do always, and rclone's and JSON never. `numbered`: all parts are in one
    /// list, of names or of JSON.
    pub fn new(format: Format, nul: bool, numbered: bool) -> Result<Self, &'static str> {
        if nul && matches!(format, Format::Rclone | Format::Json) {
            return Err("only names, and lists for rsync and tar, can end with NUL");
        }
        if numbered && !matches!(format, Format::Names | Format::Json) {
            return Err("only lists of names and of JSON lines can have all parts in one");
        }
        let nul = nul || format == Format::Rsync;
        Ok(Self { format, nul, numbered })
    }

    /// Whether entries of this kind are in such lists; rclone makes directories by the files in them.
    pub fn wants(&self, kind: Kind) -> bool {
        self.format != Format::Rclone || matches!(kind, Kind::File | Kind::Symlink)
    }

    /// Whether a name can be written.
    pub fn takes(&self, path: &[u8]) -> Result<(), Unwritable> {
        match self.format {
            Format::Names if !self.nul && path.contains(&b'\n') => Err(Unwritable::Newline),
            Format::Rclone if path.windows(QUOTE.len()).any(|bytes| bytes == QUOTE) => Err(Unwritable::Quote),
            Format::Names | Format::Rsync | Format::Rclone | Format::Tar | Format::Json => Ok(()),
        }
    }

    /// Appends an entry of part number `part`, whose kind the list wants and whose name it takes.
    pub fn entry(&self, part: u64, entry: &Listed<'_>, text: &mut Vec<u8>) {
        let path: &[u8] = if entry.path.is_empty() { b"." } else { entry.path };
        match self.format {
            Format::Json => return json(part, path, entry, text),
            Format::Tar if !self.nul => return tar_line(path, false, text),
            Format::Names if self.numbered => {
                text.extend_from_slice(format!("{part}\t{}\t", entry.size).as_bytes());
                text.extend_from_slice(path);
            }
            Format::Rsync if matches!(path[0], b'#' | b';') => {
                text.extend_from_slice(b"./");
                text.extend_from_slice(path);
            }
            Format::Rclone => rclone(path, text),
            Format::Names | Format::Tar | Format::Rsync => text.extend_from_slice(path),
        }
        text.push(if self.nul { 0 } else { b'\n' });
    }
}

fn json(part: u64, path: &[u8], entry: &Listed<'_>, text: &mut Vec<u8>) {
    let mut object = Object::begin(text);
    object.number("part", Some(part));
    object.name("path", "pathBase64", path);
    object.text("kind", entry.kind.name());
    object.number("size", (entry.kind == Kind::File).then_some(entry.size));
    object.number("linkGroup", entry.link_group);
    if let Some(range) = entry.range {
        object.key("ranges");
        let mut ranges = Object::begin(object.line);
        ranges.number("number", Some(entry.size.div_ceil(range.max(1))));
        ranges.number("bytes", Some(range));
        ranges.end();
    }
    if entry.unreadable {
        object.key("unreadable");
        object.line.extend_from_slice(b"true");
    }
    object.end();
    text.push(b'\n');
}

/// U+201B, which quotes in rclone's names.
const QUOTE: &[u8] = "\u{201b}".as_bytes();
/// U+2400 to U+243F without its last byte: pictures of control characters.
const PICTURE: [u8; 2] = [0xe2, 0x90];
/// The last byte of U+2400.
const PICTURE_OF_NUL: u8 = 0x80;
/// The last byte of U+2421, the picture of DEL.
const PICTURE_OF_DEL: u8 = 0xa1;

/// A name of a local file as rclone knows it: pictures stand for control characters, and are themselves quoted
/// (<https://rclone.org/overview/#restricted-characters>). What is not UTF-8 it takes as it is.
fn rclone(path: &[u8], text: &mut Vec<u8>) {
    for (at, byte) in path.iter().enumerate() {
        match byte {
            0x7f => text.extend_from_slice(&[PICTURE[0], PICTURE[1], PICTURE_OF_DEL]),
            0..0x20 => text.extend_from_slice(&[PICTURE[0], PICTURE[1], PICTURE_OF_NUL + byte]),
            _ => {
                let pictures = PICTURE_OF_NUL + 1..PICTURE_OF_NUL + 0x20;
                if path[at..].starts_with(&PICTURE)
                    && path
                        .get(at + 2)
                        .is_some_and(|last| pictures.contains(last) || *last == PICTURE_OF_DEL)
                {
                    text.extend_from_slice(QUOTE);
                }
                text.push(*byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format, nul: bool, path: &[u8]) -> Vec<u8> {
        let writer = Writer::new(format, nul, false).unwrap();
        let (kind, mut text) = (Kind::File, Vec::new());
        let entry = Listed {
            path,
            kind,
            size: 5,
            link_group: None,
            range: None,
            unreadable: false,
        };
        writer.entry(3, &entry, &mut text);
        text
    }

    #[test]
    fn names_as_the_tools_take_them() {
        let cases: [(Format, bool, &[u8], &[u8]); 12] = [
            (Format::Names, false, b"a b", b"a b\n"),
            (Format::Names, true, b"a\nb", b"a\nb\0"),
            (Format::Names, true, b"", b".\0"),
            (Format::Rsync, false, b"#a", b"./#a\0"),
            (Format::Rsync, true, b";a/#b", b"./;a/#b\0"),
            (Format::Rsync, false, b"a#", b"a#\0"),
            (Format::Tar, false, b"a\\b\nc", b"a\\\\b\\nc\n"),
            (Format::Tar, true, b"-a\nc", b"-a\nc\0"),
            (Format::Rclone, false, b"a\nb\x7f", "a\u{240a}b\u{2421}\n".as_bytes()),
            (
                Format::Rclone,
                false,
                "\u{2401}\u{2400}".as_bytes(),
                "\u{201b}\u{2401}\u{2400}\n".as_bytes(),
            ),
            (Format::Rclone, false, b"\xff\xe2\x90", b"\xff\xe2\x90\n"),
            (
                Format::Json,
                false,
                b"\xff",
                "{\"part\":3,\"path\":\"\u{fffd}\",\"pathBase64\":\"/w==\",\"kind\":\"file\",\"size\":5}\n".as_bytes(),
            ),
        ];
        for (format, nul, path, expected) in cases {
            let text = written(format, nul, path);
            assert!(
                text == expected,
                "{format:?} {path:?}: {:?}",
                String::from_utf8_lossy(&text)
            );
        }
    }

    #[test]
    fn what_a_list_can_not_have_is_refused() {
        let takes = |format, nul, path: &[u8]| Writer::new(format, nul, false).unwrap().takes(path);
        assert_eq!(takes(Format::Names, false, b"a\nb"), Err(Unwritable::Newline));
        assert_eq!(takes(Format::Names, true, b"a\nb"), Ok(()));
        assert_eq!(
            takes(Format::Rclone, false, "a\u{201b}".as_bytes()),
            Err(Unwritable::Quote)
        );
        assert_eq!(takes(Format::Rclone, false, b"a\nb"), Ok(()));
        assert_eq!(takes(Format::Tar, false, b"a\nb"), Ok(()));
        assert!(Writer::new(Format::Json, true, false).is_err());
        assert!(Writer::new(Format::Rclone, true, false).is_err());
        assert!(Writer::new(Format::Rsync, false, true).is_err());
    }

    #[test]
    fn a_line_of_json_has_all_that_is_known() {
        let entry = Listed {
            path: b"big",
            kind: Kind::File,
            size: 10,
            link_group: Some(2),
            range: Some(4),
            unreadable: true,
        };
        let mut text = Vec::new();
        Writer::new(Format::Json, false, true)
            .unwrap()
            .entry(1, &entry, &mut text);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "{\"part\":1,\"path\":\"big\",\"kind\":\"file\",\"size\":10,\"linkGroup\":2,\
             \"ranges\":{\"number\":3,\"bytes\":4},\"unreadable\":true}\n"
        );
    }
}
