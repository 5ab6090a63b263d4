//! Manifests: which files there are, and what their content is.
//!
//! Comes in: the bytes of a manifest, in pieces of any size (`read`), or entries (`write`); goes out: checked entries with
//! the number of their line, or lines. Promises: a path that comes out is relative, leads nowhere else, and has only
//! components that mean something; what is written reads back as it was; no input, however long its lines, takes more
//! memory than one line and one piece.
//!
//! Entries are sorted by the bytes of their paths. `merge` makes one of the entries of one path, and says where they
//! disagree.

pub(crate) mod json;
mod merge;
mod read;
mod sums;
mod utf16;
mod write;

pub use merge::Merge;
pub use read::{LINE_BYTES, Listed, Reader, Recognised, bare, is_called_one, recognise};
pub use utf16::{NoUtf16, Utf16};
pub use write::{Unwritable, Writer};

use crate::digest::{Algorithm, Digest};
use crate::lists::names::components;

/// How a manifest is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines of a digest, two blanks and a path, as `b3sum --check`, `sha256sum -c` and `md5sum -c` take them: where the
    /// path has `\`, LF or CR, these are written `\\`, `\n` and `\r`, and the line begins with `\` (manual of coreutils,
    /// "md5sum invocation"; `what_does_check_do.md` of b3sum). b3sum 1.2 does not know `\r`: it can't check such a name.
    ///
    /// What is read: also `*` before the path; one blank only, in the whole file (`md5 -r`); upper case, CRLF, leading
    /// blanks, comments (`#`, or `;` as in SFV files), and lines as BSD's tools write them (`SHA256 (path) = …`, also OpenSSL's `SHA256(path)= …`).
    /// rclone's SUM files are such lines, never escaped (manual of rclone, "hashsum").
    Sums,
    /// The same with NUL after each, and every byte of a path as it is (`sha256sum -z`).
    SumsNul,
    /// hashdeep's lines: `%%%% HASHDEEP-1.0`, `%%%% size,md5,sha256,filename`, and an entry a line; nothing is escaped
    /// (manual of hashdeep). Its names for files below what it was run in begin with `./`.
    Hashdeep,
    /// `manifest-ALGORITHM.txt` of a bag (RFC 8493, section 2.1.3): a digest, blanks, a path, in which `%`, LF and CR are
    /// `%25`, `%0A` and `%0D`. Payload has paths that begin with `data/`: that is up to the caller.
    Bagit,
    /// Our own: `{"type":"manifest","schema":1}`, then a JSON object a line, with all that is known of an [`Entry`]. The
    /// properties have the names and the form that events have, in this order: `path kind size mtimeNs ctimeNs mode user group
    /// target linkGroup digests`. Where a path or target is not UTF-8, U+FFFD stands in it, and `pathBase64` or
    /// `targetBase64` after it has its bytes. Read are also the strings of the library's names (a lone surrogate U+DCxx
    /// for the byte xx), properties in any order, and such that are not known, which are passed over.
    Json,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symlink.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A block device.
    Block,
    /// A character device.
    Char,
}

impl Kind {
    const ALL: [(Self, &'static str); 7] = [
        (Self::File, "file"),
        (Self::Directory, "directory"),
        (Self::Symlink, "symlink"),
        (Self::Fifo, "fifo"),
        (Self::Socket, "socket"),
        (Self::Block, "block"),
        (Self::Char, "char"),
    ];

    /// Its name, as events have it.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    fn named(name: &[u8]) -> Option<Self> {
        let known = Self::ALL.iter().find(|(_, known)| known.as_bytes() == name);
        known.map(|(kind, _)| *kind)
    }
}

/// What a manifest says of one path. All but path and digests is what only [`Format::Json`] can say (and hashdeep the
/// size).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Relative, with single slashes between its components, none of which is `.` or `..`.
    pub path: Vec<u8>,
    /// One an algorithm, in the order of [`Algorithm`].
    pub digests: Vec<Digest>,
    /// What it is; not known: a file.
    pub kind: Option<Kind>,
    /// Bytes of content.
    pub size: Option<u64>,
    /// Last change of content, in nanoseconds since 1970.
    pub mtime: Option<i128>,
    /// Last change of anything, in nanoseconds since 1970: what tells that content changed though the time of its last
    /// change was set back.
    pub ctime: Option<i128>,
    /// Permission, set-id and sticky bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// The text of a symlink.
    pub target: Option<Vec<u8>>,
    /// A number that all links of one file have.
    pub link_group: Option<u64>,
}

impl Entry {
    /// An entry of which path and digests are known.
    pub fn new(path: Vec<u8>, digests: Vec<Digest>) -> Self {
        Self {
            path,
            digests,
            ..Self::default()
        }
    }

    /// The digest that this algorithm made.
    pub fn digest(&self, algorithm: Algorithm) -> Option<&Digest> {
        self.digests.iter().find(|digest| digest.algorithm() == algorithm)
    }
}

/// Why a path stands in no manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// There is none, or only `.`.
    #[error("names no file")]
    Empty,
    /// It begins with a slash.
    #[error("is absolute, which may lead anywhere")]
    Absolute,
    /// It has a component `..`.
    #[error("has '..', which may lead anywhere")]
    Parent,
    /// It has a NUL byte.
    #[error("has a NUL byte, which no name has")]
    Nul,
}

/// The path with its components only: without `.`, repeated and trailing slashes.
pub fn inside(path: &[u8]) -> Result<Vec<u8>, PathError> {
    if path.starts_with(b"/") {
        return Err(PathError::Absolute);
    }
    if path.contains(&0) {
        return Err(PathError::Nul);
    }
    let mut clean = Vec::with_capacity(path.len());
    for component in components(path) {
        if component == b".." {
            return Err(PathError::Parent);
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(component);
    }
    if clean.is_empty() {
        Err(PathError::Empty)
    } else {
        Ok(clean)
    }
}

/// A manifest that is refused, and the line that it is refused for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ManifestError {
    /// The number of the line, from 1; of the last one where something is missing.
    pub line: u64,
    /// What is wrong.
    pub problem: Problem,
}

/// What can be wrong with a line of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is not of the format.
    #[error("no line of {0}")]
    Line(&'static str),
    /// It has more than [`LINE_BYTES`].
    #[error("longer than {LINE_BYTES} bytes")]
    TooLong,
    /// A path that is refused.
    #[error("the path '{path}' {why}")]
    Path {
        /// The path, as far as it is text.
        path: String,
        /// What is wrong with it.
        why: PathError,
    },
    /// So many digits are of no algorithm that is known here.
    #[error("a digest of {0} hexadecimal digits{of}, which is not known here", of = foreign(*.0))]
    Digits(usize),
    /// The name of an algorithm that is not known here.
    #[error("digests of '{0}' are not known here")]
    Algorithm(String),
    /// The digest may be of several algorithms, and nothing says which.
    #[error("a digest of {digits} hexadecimal digits is of {}: say which", either(.may))]
    Ambiguous {
        /// Its length.
        digits: usize,
        /// What it may be of.
        may: Vec<Algorithm>,
    },
    /// The digest is of another algorithm than the manifest is said to have.
    #[error("a digest of {found}, where {expected} was expected")]
    WrongAlgorithm {
        /// What was said.
        expected: Algorithm,
        /// What is there; its name, or names where its length does not tell.
        found: String,
    },
    /// rclone had no digest for it, and said so in its place.
    #[error("no digest: '{0}'")]
    NoDigest(String),
    /// It is of a version of the format that is not known here.
    #[error("{format} of version {version}, which is not known here")]
    Version {
        /// The format.
        format: &'static str,
        /// What it says.
        version: String,
    },
    /// `path` and `pathBase64`, or the two of the target, are not the same name.
    #[error("'{0}' and '{0}Base64' are two names")]
    Names(&'static str),
    /// The path stands in another line too, with something else.
    #[error("'{path}' has another {what} than in line {other}")]
    Disagree {
        /// The path, as far as it is text.
        path: String,
        /// What differs.
        what: &'static str,
        /// The line that came first.
        other: u64,
    },
    /// Entries that were said to be sorted are not.
    #[error("'{0}' comes after a path that sorts behind it")]
    Order(String),
    /// There is no entry at all: nothing would be verified, and that would look like success.
    #[error("nothing is listed")]
    Empty,
}

/// The algorithm that so many digits are of in other tools.
fn foreign(digits: usize) -> &'static str {
    match digits {
        40 => ", as SHA-1 has",
        56 => ", as SHA-224 has",
        96 => ", as SHA-384 has",
        _ => "",
    }
}

/// The names of algorithms, one of which it is.
fn either(algorithms: &[Algorithm]) -> String {
    let names: Vec<_> = algorithms.iter().map(|algorithm| algorithm.name()).collect();
    names.join(" or ")
}

/// Bytes as far as they are text.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
