//! What is known of one entry, in a form that a sort holds: bytes.
//!
//! Comes in: facts of an entry; goes out: a payload, and from it the same facts again.

use bulkhaul_formats::lists::changes::{Inode, State};
use bulkhaul_formats::lists::hpcp::{Facts, Hash};
use bulkhaul_sys::{Kind, Time};

use crate::entry::Details;
use crate::tree::times::nanoseconds;

/// One entry of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its path as lists have it; empty for what stands for a whole side.
    pub path: &'a [u8],
    /// What it is; unknown where a list says no more than that it is no directory.
    pub kind: Kind,
    /// Something went wrong with it, or below it: it has its outcome, and nothing is known for sure.
    pub failed: bool,
    /// Hash of a file.
    pub hash: Option<u64>,
    /// Text of a symlink.
    pub target: Option<&'a [u8]>,
    /// The rest, where it was asked for.
    pub details: Option<Details>,
}

const FAILED: u8 = 1;
const HASH: u8 = 1 << 1;
const TARGET: u8 = 1 << 2;
const DETAILS: u8 = 1 << 3;
const VAGUE: u8 = 1 << 4;

/// The kinds by their number in a record.
pub(crate) const KINDS: [Kind; 8] = [
    Kind::File,
    Kind::Directory,
    Kind::Symlink,
    Kind::Fifo,
    Kind::Socket,
    Kind::Block,
    Kind::Char,
    Kind::Unknown,
];

impl<'a> Record<'a> {
    /// An entry of which only path and kind are known.
    pub fn new(path: &'a [u8], kind: Kind) -> Self {
        Self {
            path,
            kind,
            failed: false,
            hash: None,
            target: None,
            details: None,
        }
    }

    /// As change lists tell it, with or without its extended attributes.
    pub fn state(&self, xattrs: bool) -> State {
        let inode = |details: Details| Inode {
            mode: details.mode,
            uid: details.uid,
            gid: details.gid,
            xattrs: xattrs.then(|| details.xattrs.into()),
        };
        match (self.kind, self.target, self.details) {
            (Kind::File, _, Some(details)) => State::File {
                size: details.size,
                mtime: nanoseconds(details.mtime),
                hash: self.hash.map(Into::into),
                inode: inode(details),
            },
            (Kind::Directory, _, Some(details)) => State::Directory(inode(details)),
            (Kind::Symlink, Some(target), _) => State::Symlink(target.to_vec()),
            _ => State::Unknown,
        }
    }

    /// As lists tell it.
    pub fn facts(&self) -> Facts {
        match (self.kind, self.target) {
            (Kind::Directory, _) => Facts::Directory,
            (Kind::Symlink, Some(target)) => Facts::Symlink(target.to_vec()),
            (Kind::File, _) => Facts::File(self.hash.map_or(Hash::Unknown, Hash::Xxh64)),
            _ => Facts::Nothing,
        }
    }

    /// Writes it into `bytes`, which is emptied first.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let kind = KINDS
            .iter()
            .position(|kind| *kind == self.kind)
            .unwrap_or(KINDS.len() - 1);
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        bytes.clear();
        bytes.push(u8::try_from(kind).unwrap_or_default());
        bytes.push(
            flag(self.failed, FAILED)
                | flag(self.hash.is_some(), HASH)
                | flag(self.target.is_some(), TARGET)
                | flag(self.details.is_some(), DETAILS)
                | flag(self.details.is_some_and(|d| d.vague), VAGUE),
        );
        if let Some(hash) = self.hash {
            bytes.extend_from_slice(&hash.to_le_bytes());
        }
        if let Some(d) = &self.details {
            bytes.extend_from_slice(&d.size.to_le_bytes());
            bytes.extend_from_slice(&d.mtime.sec.to_le_bytes());
            for number in [d.mtime.nsec, d.mode, d.uid, d.gid] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(&d.rdev.to_le_bytes());
            bytes.extend_from_slice(&d.xattrs.to_le_bytes());
        }
        bytes.extend_from_slice(&(self.path.len() as u64).to_le_bytes());
        bytes.extend_from_slice(self.path);
        if let Some(target) = self.target {
            bytes.extend_from_slice(target);
        }
    }

    /// Reads what [`Record::encode`] wrote; `None` where it did not.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (&[kind, flags], mut rest) = bytes.split_first_chunk()?;
        let long = |rest: &mut &[u8]| {
            let (number, after) = rest.split_first_chunk()?;
            *rest = after;
            Some(u64::from_le_bytes(*number))
        };
        let short = |rest: &mut &[u8]| {
            let (number, after) = rest.split_first_chunk()?;
            *rest = after;
            Some(u32::from_le_bytes(*number))
        };
        let hash = if flags & HASH != 0 {
            Some(long(&mut rest)?)
        } else {
            None
        };
        let details = if flags & DETAILS != 0 {
            Some(Details {
                size: long(&mut rest)?,
                vague: flags & VAGUE != 0,
                mtime: Time {
                    sec: long(&mut rest)?.cast_signed(),
                    nsec: short(&mut rest)?,
                },
                mode: short(&mut rest)?,
                uid: short(&mut rest)?,
                gid: short(&mut rest)?,
                rdev: long(&mut rest)?,
                xattrs: long(&mut rest)?,
            })
        } else {
            None
        };
        let length = usize::try_from(long(&mut rest)?).ok()?;
        let (path, target) = rest.split_at_checked(length)?;
        Some(Self {
            path,
            kind: *KINDS.get(usize::from(kind))?,
            failed: flags & FAILED != 0,
            hash,
            target: (flags & TARGET != 0).then_some(target),
            details,
        })
    }
}

/// The key by which entries of two sides meet: below a directory comes what is in it, before anything else. A name holds
/// no NUL, so that it may stand for the slash.
pub fn path_key(path: &[u8], key: &mut Vec<u8>) {
    key.clear();
    key.extend(path.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_below_a_directory_follows_it() {
        let key = |path: &str| {
            let mut key = Vec::new();
            path_key(path.as_bytes(), &mut key);
            key
        };
        let order = ["", "a", "a/!", "a/b", "a/b/c", "a/c", "a!", "a\u{1}"];
        for pair in order.windows(2) {
            let expected = pair[1] != "a\u{1}";
            assert_eq!(key(pair[0]) < key(pair[1]), expected, "{pair:?}");
        }
    }

    proptest! {
        #[test]
        fn reads_back(
            path: Vec<u8>,
            kind in 0..KINDS.len(),
            failed: bool,
            hash: Option<u64>,
            target: Option<Vec<u8>>,
            details: Option<(u64, bool, i64, u32, u32, u32, u32, u64, u64)>,
        ) {
            let details = details.map(|(size, vague, sec, nsec, mode, uid, gid, rdev, xattrs)| Details {
                size,
                vague,
                mtime: Time { sec, nsec },
                mode,
                uid,
                gid,
                rdev,
                xattrs,
            });
            let record = Record { path: &path, kind: KINDS[kind], failed, hash, target: target.as_deref(), details };
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            prop_assert_eq!(Record::decode(&bytes), Some(record));
        }

        #[test]
        fn anything_else_is_told(bytes: Vec<u8>) {
            if let Some(record) = Record::decode(&bytes) {
                let mut again = Vec::new();
                record.encode(&mut again);
                prop_assert_eq!(Record::decode(&again), Some(record));
            }
        }
    }
}
