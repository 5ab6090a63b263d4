//! The change list of hpcp 9.79: how to turn one tree into another, a row for each entry.
//!
//! Comes in: a path, and what is known of it before and after; goes out: its row, and path and kind from the row. Rows
//! are `OP`, path, state before, state after, with tabs between: `D` for what goes, `A` for what comes, `M` for what becomes
//! another. In paths and link texts `\\` is a backslash, `\t`, `\n` and `\r` what they are in C; every other byte stands for
//! itself, UTF-8 or not, so that a list is bytes.

/// The first line: what it is, and the version of its form.
const MARK: &[u8] = b"#hpcp-changes\t";
const VERSION: &[u8] = b"1";
/// What a list begins with.
pub const HEADER: &[u8] = b"#hpcp-changes\t1\n#op\tpath\told\tnew\n";

/// What becomes of an entry. Lists have these in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// It goes.
    Remove,
    /// It comes.
    Add,
    /// It is on both sides, and of one type.
    Modify,
}

impl Op {
    const ALL: [(Self, &'static [u8]); 3] = [(Self::Remove, b"D"), (Self::Add, b"A"), (Self::Modify, b"M")];

    fn letter(self) -> &'static [u8] {
        Self::ALL[self as usize].1
    }
}

/// What files and directories have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// xxh64 over the extended attributes; `None`: not compared.
    pub xattrs: Option<u64>,
}

/// An entry on one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State<'a> {
    /// It is not there.
    Absent,
    /// Nothing is known of it but that it is there.
    Unknown,
    /// A file.
    File {
        /// Bytes of content.
        size: u64,
        /// Nanoseconds since 1970.
        mtime: i128,
        /// Hash of its last bytes.
        hash: Option<u64>,
        /// The rest.
        inode: Inode,
    },
    /// A directory.
    Directory(Inode),
    /// A symlink with this text.
    Symlink(&'a [u8]),
}

/// The path of an entry as it is sorted and written: directories end with a slash, and what the list is relative to is `./`.
pub fn name(path: &[u8], directory: bool) -> Vec<u8> {
    match (path, directory) {
        ([], _) => b"./".to_vec(),
        (path, true) => [path, b"/"].concat(),
        (path, false) => path.to_vec(),
    }
}

/// Appends a row, with its newline; `name` as [`name`] makes it.
pub fn row(op: Op, name: &[u8], old: &State<'_>, new: &State<'_>, row: &mut Vec<u8>) {
    row.extend_from_slice(op.letter());
    row.push(b'\t');
    escape(name, row);
    for state in [old, new] {
        row.push(b'\t');
        write_state(state, row);
    }
    row.push(b'\n');
}

fn write_state(state: &State<'_>, row: &mut Vec<u8>) {
    let hex = |digest: &Option<u64>| digest.map_or_else(|| "-".to_owned(), |digest| format!("{digest:016x}"));
    let inode = |kind: u32, inode: &Inode| (kind | inode.mode, inode.uid, inode.gid, hex(&inode.xattrs));
    let text = match state {
        State::Absent => "-".to_owned(),
        State::Unknown => "?".to_owned(),
        State::File {
            size,
            mtime,
            hash,
            inode: about,
        } => {
            let (mode, uid, gid, xattrs) = inode(0o100_000, about);
            format!("f:{size}:{mtime}:{mode:o}:{uid}:{gid}:{}:{xattrs}", hex(hash))
        }
        State::Directory(about) => {
            let (mode, uid, gid, xattrs) = inode(0o40_000, about);
            format!("d:{mode:o}:{uid}:{gid}:{xattrs}")
        }
        State::Symlink(target) => {
            row.extend_from_slice(b"l:");
            return escape(target, row);
        }
    };
    row.extend_from_slice(text.as_bytes());
}

fn escape(bytes: &[u8], row: &mut Vec<u8>) {
    for byte in bytes {
        match byte {
            b'\\' => row.extend_from_slice(b"\\\\"),
            b'\t' => row.extend_from_slice(b"\\t"),
            b'\n' => row.extend_from_slice(b"\\n"),
            b'\r' => row.extend_from_slice(b"\\r"),
            byte => row.push(*byte),
        }
    }
}

fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut text = text.iter();
    while let Some(byte) = text.next() {
        bytes.push(match byte {
            b'\\' => match text.next()? {
                b'\\' => b'\\',
                b't' => b'\t',
                b'n' => b'\n',
                b'r' => b'\r',
                _ => return None,
            },
            byte => *byte,
        });
    }
    Some(bytes)
}

/// A list that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangesError {
    /// It is of another version.
    #[error("a change list of version {0}, which is not known here")]
    Version(String),
    /// A row that is none.
    #[error("no row of a change list")]
    Row,
}

/// Whether a list that begins with this line is a change list; an error where it is one that can't be read.
pub fn is_header(line: &[u8]) -> Result<bool, ChangesError> {
    match line.strip_suffix(b"\r").unwrap_or(line).strip_prefix(MARK) {
        None => Ok(false),
        Some(VERSION) => Ok(true),
        Some(version) => Err(ChangesError::Version(String::from_utf8_lossy(version).into_owned())),
    }
}

/// A row that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What becomes of it.
    pub op: Op,
    /// Its path, without the slash of directories; empty for `./`.
    pub path: Vec<u8>,
    /// It is a directory.
    pub directory: bool,
}

/// Reads a line without its newline; `None` for a comment or a blank one.
pub fn parse(line: &[u8]) -> Result<Option<Change>, ChangesError> {
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(None);
    }
    read_row(line).ok_or(ChangesError::Row).map(Some)
}

fn read_row(line: &[u8]) -> Option<Change> {
    let mut fields = line.split(|b| *b == b'\t');
    let (letter, name, old, new) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let (op, _) = *Op::ALL.iter().find(|(_, known)| *known == letter)?;
    let whole = fields.next().is_none() && !old.is_empty() && !new.is_empty();
    let sides = match op {
        Op::Remove => new == b"-" && old != b"-",
        Op::Add => old == b"-" && new != b"-",
        Op::Modify => old != b"-" && new != b"-",
    };
    let name = unescape(name)?;
    let (path, directory) = match &name[..] {
        b"./" => (&b""[..], true),
        [path @ .., b'/'] => (path, true),
        path => (path, false),
    };
    // Nothing leads out of the tree, and no part is empty.
    let inside = |part: &[u8]| !matches!(part, b"" | b"." | b"..") && !part.contains(&0);
    let named = name == b"./" || path.split(|b| *b == b'/').all(inside);
    (whole && sides && named).then(|| Change {
        op,
        path: path.to_vec(),
        directory,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INODE: Inode = Inode {
        mode: 0o644,
        uid: 1,
        gid: 2,
        xattrs: Some(0xef46_db37_51d8_e999),
    };

    fn written(op: Op, path: &[u8], directory: bool, old: &State<'_>, new: &State<'_>) -> Vec<u8> {
        let mut line = Vec::new();
        row(op, &name(path, directory), old, new, &mut line);
        assert_eq!(line.pop(), Some(b'\n'));
        line
    }

    #[test]
    fn as_hpcp_writes() {
        let file = State::File {
            size: 2,
            mtime: -1,
            hash: Some(0xfbbd),
            inode: INODE,
        };
        let bare = State::Directory(Inode {
            mode: 0o755,
            xattrs: None,
            ..INODE
        });
        for (line, expected) in [
            (
                written(Op::Remove, b"a", false, &file, &State::Absent),
                &b"D\ta\tf:2:-1:100644:1:2:000000000000fbbd:ef46db3751d8e999\t-"[..],
            ),
            (
                written(Op::Add, b"d", true, &State::Absent, &bare),
                b"A\td/\t-\td:40755:1:2:-",
            ),
            (
                written(Op::Modify, b"", true, &State::Unknown, &bare),
                b"M\t./\t?\td:40755:1:2:-",
            ),
            (
                written(
                    Op::Modify,
                    b"\t\n\r\\\xff",
                    false,
                    &State::Symlink(b"a\tb"),
                    &State::Symlink(b"c"),
                ),
                b"M\t\\t\\n\\r\\\\\xff\tl:a\\tb\tl:c",
            ),
        ] {
            assert_eq!(line.escape_ascii().to_string(), expected.escape_ascii().to_string());
        }
    }

    #[test]
    fn what_is_no_row() {
        for line in [
            "D\ta\t-\t-",
            "A\ta\tl:b\tl:c",
            "M\ta\t-\tl:c",
            "D\ta\tl:b\tl:c",
            "X\ta\t-\tl:c",
            "A\ta\t-",
            "A\ta\t-\tl:c\t",
            "A\t\t-\tl:c",
            "A\t/\t-\td:",
            "A\t/a\t-\tl:c",
            "A\ta//b\t-\tl:c",
            "A\t../a\t-\tl:c",
            "A\ta/..\t-\tl:c",
            "A\t.\t-\tl:c",
            "A\ta\\\t-\tl:c",
            "A\ta\\x\t-\tl:c",
            "a",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(ChangesError::Row), "{line:?}");
        }
        for line in ["", "#op\tpath\told\tnew", "# anything"] {
            assert_eq!(parse(line.as_bytes()), Ok(None));
        }
    }

    #[test]
    fn headers_tell_the_version() {
        let first = HEADER.split(|b| *b == b'\n').next().unwrap();
        assert_eq!(is_header(first), Ok(true));
        assert_eq!(is_header(b"#hpcp-changes\t1\r"), Ok(true));
        assert_eq!(is_header(b"#hpcp-changes\t2"), Err(ChangesError::Version("2".into())));
        for other in ["a", "", "#hpcp-changes", "#hpcp-disk\t1"] {
            assert_eq!(is_header(other.as_bytes()), Ok(false), "{other}");
        }
    }

    proptest! {
        #[test]
        fn every_row_reads_back(
            parts in prop::collection::vec(prop::collection::vec(
                prop_oneof![Just(b'\\'), Just(b'\t'), Just(b'\n'), Just(b'\r'), Just(b't'), 1..=255_u8]
                    .prop_filter("a slash separates", |b| *b != b'/'), 1..8), 1..4),
            directory: bool,
            op in prop_oneof![Just(Op::Remove), Just(Op::Add), Just(Op::Modify)],
        ) {
            prop_assume!(parts.iter().all(|part| part != b"." && part != b".."));
            let path = parts.join(&b'/');
            let (old, new) = match op {
                Op::Remove => (State::Unknown, State::Absent),
                Op::Add => (State::Absent, State::Symlink(&path)),
                Op::Modify => (State::Symlink(&path), State::Symlink(b"")),
            };
            let line = written(op, &path, directory, &old, &new);
            prop_assert!(!line.contains(&b'\n'));
            prop_assert_eq!(parse(&line), Ok(Some(Change { op, path: path.clone(), directory })));
        }

        #[test]
        fn no_line_is_too_strange_to_read(line: Vec<u8>) {
            if let Ok(Some(change)) = parse(&line) {
                prop_assert!(change.directory || !change.path.is_empty());
            }
        }
    }
}
