//! The change list of hpcp 9.79: how to turn one tree into another, a row for each entry.
//!
//! Comes in: a path, and what is known of it before and after; goes out: its row, and from the row the same. Rows are `OP`, path, state before, state after, with tabs between: `D` for what goes, `A` for what comes, `M` for what becomes
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

/// A hash in hexadecimal digits, of the algorithm that all of a list has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    /// It is of a whole file, where the list may have hashes of the last bytes only.
    pub whole: bool,
    /// Its digits.
    pub digits: Vec<u8>,
}

impl From<u64> for Sum {
    fn from(hash: u64) -> Self {
        Self {
            whole: false,
            digits: format!("{hash:016x}").into_bytes(),
        }
    }
}

/// What files and directories have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Hash of the extended attributes; `None`: not compared.
    pub xattrs: Option<Sum>,
}

/// An entry on one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
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
        /// Hash of its last bytes; `None`: not compared.
        hash: Option<Sum>,
        /// The rest.
        inode: Inode,
    },
    /// A directory.
    Directory(Inode),
    /// A symlink with this text.
    Symlink(Vec<u8>),
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
pub fn row(op: Op, name: &[u8], old: &State, new: &State, row: &mut Vec<u8>) {
    row.extend_from_slice(op.letter());
    row.push(b'\t');
    escape(name, row);
    for state in [old, new] {
        row.push(b'\t');
        write_state(state, row);
    }
    row.push(b'\n');
}

/// The type bits of a mode (`inode(7)`).
const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o40_000;
const TYPE: u32 = 0o170_000;

fn write_state(state: &State, row: &mut Vec<u8>) {
    let hex = |sum: &Option<Sum>| match sum {
        None => "-".to_owned(),
        Some(Sum { whole, digits }) => {
            let mark = if *whole { "F" } else { "" };
            format!("{mark}{}", String::from_utf8_lossy(digits))
        }
    };
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
            let (mode, uid, gid, xattrs) = inode(FILE, about);
            format!("f:{size}:{mtime}:{mode:o}:{uid}:{gid}:{}:{xattrs}", hex(hash))
        }
        State::Directory(about) => {
            let (mode, uid, gid, xattrs) = inode(DIRECTORY, about);
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

/// A row with all that it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What becomes of what.
    pub change: Change,
    /// What is there before.
    pub old: State,
    /// What is there after.
    pub new: State,
}

/// Reads a line without its newline; `None` for a comment or a blank one.
pub fn parse(line: &[u8]) -> Result<Option<Change>, ChangesError> {
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(None);
    }
    read_row(line).ok_or(ChangesError::Row).map(Some)
}

/// The same with all that it says, for a list that is to be done: no state is unknown, `M` is of one type, what is a
/// directory has a slash at its end, and the root of the tree neither comes nor goes.
pub fn parse_row(line: &[u8]) -> Result<Option<Row>, ChangesError> {
    let Some(change) = parse(line)? else { return Ok(None) };
    let mut states = line.split(|b| *b == b'\t').skip(2).map(read_state);
    let (Some(Some(old)), Some(Some(new))) = (states.next(), states.next()) else {
        return Err(ChangesError::Row);
    };
    let fits = |state: &State| match state {
        State::Absent => true,
        State::Unknown => false,
        State::Directory(_) => change.directory,
        State::File { .. } | State::Symlink(_) => !change.directory,
    };
    let one_type = change.op != Op::Modify || core::mem::discriminant(&old) == core::mem::discriminant(&new);
    let root = change.path.is_empty() && change.op != Op::Modify;
    if fits(&old) && fits(&new) && one_type && !root {
        Ok(Some(Row { change, old, new }))
    } else {
        Err(ChangesError::Row)
    }
}

fn read_state(text: &[u8]) -> Option<State> {
    match text {
        b"-" => return Some(State::Absent),
        b"?" => return Some(State::Unknown),
        [b'l', b':', target @ ..] => return unescape(target).map(State::Symlink),
        _ => {}
    }
    let mut fields = core::str::from_utf8(text).ok()?.split(':');
    let state = match fields.next()? {
        "f" => {
            let (size, mtime) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            let (mode, uid, gid) = read_inode(FILE, &mut fields)?;
            let hash = read_sum(fields.next()?)?;
            let xattrs = read_sum(fields.next()?)?;
            State::File {
                size,
                mtime,
                hash,
                inode: Inode { mode, uid, gid, xattrs },
            }
        }
        "d" => {
            let (mode, uid, gid) = read_inode(DIRECTORY, &mut fields)?;
            let xattrs = read_sum(fields.next()?)?;
            State::Directory(Inode { mode, uid, gid, xattrs })
        }
        _ => return None,
    };
    fields.next().is_none().then_some(state)
}

fn read_inode<'f>(kind: u32, fields: &mut impl Iterator<Item = &'f str>) -> Option<(u32, u32, u32)> {
    let mode = u32::from_str_radix(fields.next()?, 8).ok()?;
    let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (mode & TYPE == kind && mode & !(TYPE | 0o7777) == 0).then_some((mode & 0o7777, uid, gid))
}

/// The outer `None`: it is no hash.
#[allow(clippy::option_option, reason = "whether it can be read, and whether there is one")]
fn read_sum(text: &str) -> Option<Option<Sum>> {
    if text == "-" {
        return Some(None);
    }
    let digits = text.strip_prefix('F').unwrap_or(text);
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (!digits.is_empty() && digits.bytes().all(hex)).then(|| {
        Some(Sum {
            whole: digits.len() < text.len(),
            digits: digits.as_bytes().to_vec(),
        })
    })
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

    fn inode() -> Inode {
        Inode {
            mode: 0o644,
            uid: 1,
            gid: 2,
            xattrs: Some(0xef46_db37_51d8_e999.into()),
        }
    }

    fn written(op: Op, path: &[u8], directory: bool, old: &State, new: &State) -> Vec<u8> {
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
            hash: Some(0xfbbd.into()),
            inode: inode(),
        };
        let bare = State::Directory(Inode {
            mode: 0o755,
            xattrs: None,
            ..inode()
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
                    &State::Symlink(b"a\tb".to_vec()),
                    &State::Symlink(b"c".to_vec()),
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
    fn what_is_no_row_to_be_done() {
        let (file, link) = ("f:1:-5:100644:0:0:ab:-", "l:b");
        for line in [
            format!("D\ta\t{file}\t-"),
            format!("M\ta\t{file}\tf:1:2:100644:0:0:Fab:ef46db3751d8e999"),
            "M\t./\td:40755:0:0:-\td:40750:1:2:ab".to_owned(),
            format!("A\td/e\t-\t{link}"),
        ] {
            let row = parse_row(line.as_bytes()).unwrap().unwrap();
            let mut again = Vec::new();
            let own = name(&row.change.path, row.change.directory);
            super::row(row.change.op, &own, &row.old, &row.new, &mut again);
            assert_eq!(String::from_utf8_lossy(&again), format!("{line}\n"));
        }
        for line in [
            "A\ta\t-\t?".to_owned(),
            format!("M\ta\t{file}\t{link}"),
            format!("A\ta/\t-\t{file}"),
            "A\ta\t-\td:40755:0:0:-".to_owned(),
            "A\t./\t-\td:40755:0:0:-".to_owned(),
            "D\t./\td:40755:0:0:-\t-".to_owned(),
            "A\ta\t-\tf:1:2:40755:0:0:-:-".to_owned(),
            "A\ta\t-\tf:1:2:1100644:0:0:-:-".to_owned(),
            "A\ta\t-\tf:-1:2:100644:0:0:-:-".to_owned(),
            "A\ta\t-\tf:1:2:100644:0:0:xy:-".to_owned(),
            "A\ta\t-\tf:1:2:100644:0:0:-:-:-".to_owned(),
            "A\ta\t-\tf:1:2:100644:0:0:F:-".to_owned(),
            "A\ta\t-\td:40755:0:0".to_owned(),
        ] {
            assert_eq!(parse_row(line.as_bytes()), Err(ChangesError::Row), "{line:?}");
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
                Op::Add => (State::Absent, State::Symlink(path.clone())),
                Op::Modify => (State::Symlink(path.clone()), State::Symlink(Vec::new())),
            };
            let line = written(op, &path, directory, &old, &new);
            prop_assert!(!line.contains(&b'\n'));
            prop_assert_eq!(parse(&line), Ok(Some(Change { op, path: path.clone(), directory })));
        }

        #[test]
        fn no_line_is_too_strange_to_read(line: Vec<u8>) {
            prop_assert!(parse_row(&line).is_err() || parse(&line).is_ok());
            if let Ok(Some(change)) = parse(&line) {
                prop_assert!(change.directory || !change.path.is_empty());
            }
        }
    }
}
