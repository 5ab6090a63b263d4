//! Whether an entry is in a state that a patch tells.
//!
//! Comes in: an entry, and a state; goes out: what differs first, if anything does. Content is compared by the hashes of the
//! patch; times as hpcp does, as far as the coarser of the two seems to go; of file systems without owners and modes content
//! alone is compared.

use std::ffi::CStr;

use bulkhaul_formats::digest::{Blake2b, Xxh64};
use bulkhaul_formats::lists::changes::{Inode, State, Sum};
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Kind, Node, Stat, Time};

use crate::bytes::transfer::BUFFER_BYTES;
use crate::error::{Fault, Operation, Side, Stopped};
use crate::job::desk::Desk;
use crate::patch::options::Hash;
use crate::tree::metadata::each_xattr;
use crate::tree::times::nanoseconds;

const SECOND: i128 = 1_000_000_000;
/// Time zones differ by whole multiples of this, and FAT keeps local time.
const QUARTER_HOUR: i128 = 900 * SECOND;

/// What a file system can keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keeps {
    /// Owners, modes, attributes, times.
    #[default]
    All,
    /// Content and times (NTFS, exFAT).
    Content,
    /// The same, in local time (FAT).
    LocalTime,
}

impl Keeps {
    /// By the number that the file system of a directory has (`linux/magic.h`).
    pub fn of(directory: BorrowedFd<'_>) -> Self {
        match sys::file_system_magic(directory) {
            Ok(0x4d44) => Self::LocalTime,
            Ok(0x2011_bab0 | 0x7366_746e | 0x5346_544e) => Self::Content,
            Ok(_) | Err(_) => Self::All,
        }
    }
}

/// What of an entry differs from a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// It is not there, or of another type.
    Kind,
    /// Its bytes, or how many they are.
    Content,
    /// The text of a link.
    Text,
    /// Its mode.
    Mode,
    /// Its owner or group.
    Owner,
    /// Its time.
    Time,
    /// Its extended attributes.
    Xattrs,
}

/// Looks at entries.
pub struct Eyes<'e> {
    desk: &'e Desk,
    hash: Hash,
    hash_size: u64,
    keeps: Keeps,
    /// Owners are compared: whoever can't give files away can't be held to them, nor to the rights that go with them.
    owners: bool,
    buffer: Vec<u8>,
}

enum Hasher {
    Xxh64(Box<Xxh64>),
    Blake2b(Box<Blake2b>),
}

impl Hasher {
    fn new(hash: Hash) -> Self {
        match hash {
            Hash::Xxh64 => Self::Xxh64(Box::new(Xxh64::new())),
            Hash::Blake2b => Self::Blake2b(Box::default()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Xxh64(hash) => hash.update(bytes),
            Self::Blake2b(hash) => hash.update(bytes),
        }
    }

    fn sum(self, whole: bool) -> Sum {
        let digits = match self {
            Self::Xxh64(hash) => {
                return Sum {
                    whole,
                    ..hash.digest().into()
                };
            }
            Self::Blake2b(hash) => hash.digest(),
        };
        Sum {
            whole,
            digits: digits
                .iter()
                .flat_map(|byte| format!("{byte:02x}").into_bytes())
                .collect(),
        }
    }
}

impl<'e> Eyes<'e> {
    /// For a patch with such hashes, on a file system that keeps this.
    pub fn new(desk: &'e Desk, (hash, hash_size): (Hash, u64), keeps: Keeps) -> Self {
        Self {
            desk,
            hash,
            hash_size,
            keeps,
            owners: sys::user_id() == 0,
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    /// What of an entry differs from a state. `content`: files are read, too.
    pub fn difference(
        &mut self,
        (at, name): (BorrowedFd<'_>, &CStr),
        stat: Option<&Stat>,
        state: &State,
        content: bool,
        side: Side,
    ) -> Result<Option<Difference>, Stopped> {
        let (stat, inode) = match (stat, state) {
            (None, State::Absent) => return Ok(None),
            (Some(stat), State::File { inode, .. }) if stat.kind == Kind::File => (stat, inode),
            (Some(stat), State::Directory(inode)) if stat.kind == Kind::Directory => (stat, inode),
            (Some(stat), State::Symlink(target)) if stat.kind == Kind::Symlink => {
                let text = sys::read_link(at, name).map_err(|e| Fault::new(Operation::Read, side, e))?;
                return Ok((text.to_bytes() != target).then_some(Difference::Text));
            }
            _ => return Ok(Some(Difference::Kind)),
        };
        if let State::File { size, mtime, .. } = state {
            if stat.size != *size {
                return Ok(Some(Difference::Content));
            }
            if !self.same_time(nanoseconds(stat.mtime), *mtime) {
                return Ok(Some(Difference::Time));
            }
        }
        if self.keeps == Keeps::All {
            let (user, group) = (stat.uid != inode.uid, stat.gid != inode.gid);
            let lost = |bit: u32, other: bool| {
                if other && !self.owners && stat.kind == Kind::File {
                    bit
                } else {
                    0
                }
            };
            let dropped = lost(0o4000, user) | lost(0o2000, group);
            if stat.mode != inode.mode && stat.mode != inode.mode & !dropped {
                return Ok(Some(Difference::Mode));
            }
            if self.owners && (user || group) {
                return Ok(Some(Difference::Owner));
            }
            if let Some(sum) = &inode.xattrs
                && *sum != self.xattrs((at, name), side)?
            {
                return Ok(Some(Difference::Xattrs));
            }
        }
        if let (
            true,
            State::File {
                size, hash: Some(sum), ..
            },
        ) = (content, state)
            && *sum != self.content((at, name), *size, sum.whole, side)?
        {
            return Ok(Some(Difference::Content));
        }
        Ok(None)
    }

    /// The state of an entry; as one that is not there, what a patch has no word for.
    pub fn state(&mut self, (at, name): (BorrowedFd<'_>, &CStr), stat: &Stat) -> Result<State, Stopped> {
        let side = Side::Destination(0);
        let (mode, uid, gid) = (stat.mode, stat.uid, stat.gid);
        Ok(match stat.kind {
            Kind::Symlink => {
                let text = sys::read_link(at, name).map_err(|e| Fault::new(Operation::Read, side, e))?;
                State::Symlink(text.into_bytes())
            }
            Kind::File => State::File {
                size: stat.size,
                mtime: nanoseconds(stat.mtime),
                hash: (self.hash_size > 0)
                    .then(|| self.content((at, name), stat.size, false, side))
                    .transpose()?,
                inode: Inode {
                    mode,
                    uid,
                    gid,
                    xattrs: Some(self.xattrs((at, name), side)?),
                },
            },
            Kind::Directory => State::Directory(Inode {
                mode,
                uid,
                gid,
                xattrs: Some(self.xattrs((at, name), side)?),
            }),
            _ => State::Absent,
        })
    }

    /// The hash of the extended attributes of an entry.
    pub fn xattrs(&mut self, (at, name): (BorrowedFd<'_>, &CStr), side: Side) -> Result<Sum, Stopped> {
        let node = sys::open_node(at, name).map_err(|e| Fault::new(Operation::Open, side, e))?;
        let mut hasher = Hasher::new(self.hash);
        each_xattr(Node::Path(node.as_fd()), &mut self.buffer, true, side, |bytes| {
            hasher.update(bytes);
        })?;
        Ok(hasher.sum(false))
    }

    fn content(
        &mut self,
        (at, name): (BorrowedFd<'_>, &CStr),
        length: u64,
        whole: bool,
        side: Side,
    ) -> Result<Sum, Stopped> {
        let file = sys::open_file(at, name).map_err(|e| match e {
            Errno::LOOP => Fault::replaced(Operation::Open, side),
            e => Fault::new(Operation::Open, side, e),
        })?;
        self.sum(file.as_fd(), length, whole, side)
    }

    /// The hash of an open file of this size; `whole`: of all of it, whatever the patch hashes.
    pub fn sum(&mut self, file: BorrowedFd<'_>, length: u64, whole: bool, side: Side) -> Result<Sum, Stopped> {
        let mut hasher = Hasher::new(self.hash);
        let mut offset = if whole {
            0
        } else {
            length.saturating_sub(self.hash_size)
        };
        while offset < length {
            let piece = self.desk.pace.piece(BUFFER_BYTES as u64).min(length - offset);
            self.desk.may_read(piece)?;
            let want = usize::try_from(piece).unwrap_or(BUFFER_BYTES);
            let got = sys::read_full_at(file, &mut self.buffer[..want], offset)
                .map_err(|e| Fault::new(Operation::Read, side, e))?;
            if got < want {
                return Err(Fault::size(side, length, offset + got as u64).into());
            }
            hasher.update(&self.buffer[..want]);
            offset += piece;
        }
        Ok(hasher.sum(whole))
    }

    fn same_time(&self, found: i128, wanted: i128) -> bool {
        let allowed = 2 * precision(found).max(precision(wanted));
        let apart = (found - wanted).abs();
        if apart <= allowed {
            return true;
        }
        let off = apart % QUARTER_HOUR;
        self.keeps == Keeps::LocalTime && off.min(QUARTER_HOUR - off) <= allowed
    }
}

/// The same as a time; `None` where no file system has it.
pub fn time(nanoseconds: i128) -> Option<Time> {
    Some(Time {
        sec: i64::try_from(nanoseconds.div_euclid(SECOND)).ok()?,
        nsec: u32::try_from(nanoseconds.rem_euclid(SECOND)).ok()?,
    })
}

/// How fine the clock seems to be that a time is of, as hpcp guesses it.
fn precision(nanoseconds: i128) -> i128 {
    let steps = [2 * SECOND, SECOND, SECOND / 100, 100];
    steps.into_iter().find(|step| nanoseconds % step == 0).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_the_same_as_far_as_the_coarser_one_goes() {
        let desk = Desk::new(1);
        let eyes = |keeps| Eyes::new(&desk, (Hash::Xxh64, 1), keeps);
        for (found, wanted, same) in [
            (2 * SECOND, 2 * SECOND, true),
            (2 * SECOND, 6 * SECOND, true),
            (2 * SECOND, 6 * SECOND + 1, false),
            (3 * SECOND, 5 * SECOND, true),
            (3 * SECOND, 5 * SECOND + 1, false),
            (3 * SECOND + 1, 3 * SECOND + 3, true),
            (3 * SECOND + 1, 3 * SECOND + 4, false),
            (3 * SECOND + 100, 3 * SECOND + 300, true),
            (-3 * SECOND - 100, -3 * SECOND - 300, true),
            (-3 * SECOND - 100, -3 * SECOND - 401, false),
        ] {
            assert_eq!(eyes(Keeps::All).same_time(found, wanted), same, "{found} {wanted}");
            assert_eq!(eyes(Keeps::All).same_time(wanted, found), same, "{found} {wanted}");
        }
        let hours = 4 * 5 * QUARTER_HOUR;
        assert!(eyes(Keeps::LocalTime).same_time(3 * SECOND, 3 * SECOND - hours));
        assert!(!eyes(Keeps::LocalTime).same_time(3 * SECOND, 13 * SECOND - hours));
        assert!(!eyes(Keeps::Content).same_time(3 * SECOND, 3 * SECOND - hours));
        assert_eq!(
            time(-1),
            Some(Time {
                sec: -1,
                nsec: 999_999_999
            })
        );
        assert_eq!(nanoseconds(time(-1).unwrap()), -1);
    }
}
