//! Tar archives in the pax interchange format (POSIX.1-2017, `pax`, "pax Interchange Format"): entries written and read.
//!
//! Comes in: entries, or blocks of an archive; goes out: blocks, or entries and where in the archive their content is.
//! Promises: what is written here is read back the same, by GNU tar and by bsdtar too: names of any bytes and any length,
//! times to the nanosecond, owners and sizes of any number, extended attributes and ACLs (`SCHILY.xattr`, `SCHILY.acl`, as
//! star defined them), holes (GNU tar's sparse format 1.0), hard links, symlinks, FIFOs and devices. What is read may be
//! damaged or hostile: it is [`Damage`] with its offset, never a panic, and takes no more memory than
//! [`EXTENSION_BYTES`] and [`MOST_STRETCHES`] allow. Names are not judged here: `../` is a name like others.

mod pax;
mod read;
mod write;

pub use crate::codec::Damage;
pub use read::{Entry, Reader, Step, find_header, is_header};
pub use write::{padding, write};

/// Bytes of a block: everything in an archive is a multiple of it.
pub const BLOCK: usize = 512;
/// An archive ends with two blocks of zeros.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
/// Bytes of one extended header that are read at most.
pub const EXTENSION_BYTES: u64 = 16 * 1024 * 1024;
/// Stretches of data in one file with holes that are read at most.
pub const MOST_STRETCHES: usize = 1 << 20;

/// What an entry is, with what only entries of its kind have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A regular file.
    File,
    /// A further name of the file that this path of the archive names.
    Link(Vec<u8>),
    /// A directory.
    Directory,
    /// A symlink with this text.
    Symlink(Vec<u8>),
    /// A FIFO.
    Fifo,
    /// A block device: major and minor number.
    Block(u32, u32),
    /// A character device: major and minor number.
    Char(u32, u32),
}

/// A stretch of data in a file; between them are holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
}

/// What an archive says of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its path, without a slash at the end.
    pub path: Vec<u8>,
    /// What it is.
    pub what: What,
    /// Bytes of content of a file, holes included.
    pub size: u64,
    /// The stretches of data of a file with holes, in their order; `None`: it is all data.
    pub data: Option<Vec<Stretch>>,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Last change of content, in nanoseconds since 1970.
    pub mtime: i128,
    /// Last access, likewise.
    pub atime: Option<i128>,
    /// Last change of anything, likewise.
    pub ctime: Option<i128>,
    /// Extended attributes by name, as the system has them: ACLs are `system.posix_acl_access` and
    /// `system.posix_acl_default`.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// What of the attributes could not be read: names of keywords.
    pub lost: Vec<String>,
}

impl Header {
    /// Of an entry of which nothing else is known.
    pub fn new(path: Vec<u8>, what: What) -> Self {
        Self {
            path,
            what,
            size: 0,
            data: None,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: 0,
            atime: None,
            ctime: None,
            xattrs: Vec::new(),
            lost: Vec::new(),
        }
    }

    /// Bytes of content that the archive has of it.
    pub fn stored(&self) -> u64 {
        match (&self.what, &self.data) {
            (What::File, None) => self.size,
            (What::File, Some(data)) => data
                .iter()
                .fold(0, |sum: u64, stretch| sum.saturating_add(stretch.length)),
            _ => 0,
        }
    }
}

/// Offsets of the fields of a header block, and their lengths.
mod field {
    pub(super) type Field = (usize, usize);
    pub(super) const NAME: Field = (0, 100);
    pub(super) const MODE: Field = (100, 8);
    pub(super) const UID: Field = (108, 8);
    pub(super) const GID: Field = (116, 8);
    pub(super) const SIZE: Field = (124, 12);
    pub(super) const MTIME: Field = (136, 12);
    pub(super) const CHECKSUM: Field = (148, 8);
    pub(super) const TYPE: usize = 156;
    pub(super) const LINK: Field = (157, 100);
    pub(super) const MAGIC: Field = (257, 8);
    pub(super) const MAJOR: Field = (329, 8);
    pub(super) const MINOR: Field = (337, 8);
    pub(super) const PREFIX: Field = (345, 155);
}

/// The sum of a header block's bytes, its own field taken as blanks.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let (from, length) = field::CHECKSUM;
    let all: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let own: u32 = block[from..from + length].iter().map(|byte| u32::from(*byte)).sum();
    // Eight blanks.
    all - own + 8 * 0x20
}

#[cfg(test)]
mod tests;
