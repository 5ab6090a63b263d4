//! Reading what decides whether an entry is there already: the tails of two files, the texts of two links.
//!
//! Comes in: two open files, or two links; goes out: whether they are alike, as far as was asked.
//!
//! The bytes themselves are compared, which is stronger than comparing their xxh64 and costs less; the rule is the
//! originals': equal tails of the given length, after size and time were found equal.

use std::ffi::CStr;

use bulkhaul_sys::{self as sys, BorrowedFd, Errno};

use crate::error::{Fault, Operation, Side, Stopped};
use crate::job::desk::Desk;

/// How two files compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// Byte for byte.
    Same,
    /// They differ.
    Different,
    /// This one is not as long as its size says: where reading ended, which is before, or after where it goes on.
    WrongSize(Side, u64),
}

/// What two files are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The last `tail` of the `size` bytes that both have.
    Tail {
        /// Size of both in bytes.
        size: u64,
        /// Bytes at their end.
        tail: u64,
    },
    /// All that there is, whatever their sizes say.
    All,
}

/// Compares two files. `buffer` is used in halves.
pub fn compare(
    source: BorrowedFd<'_>,
    existing: BorrowedFd<'_>,
    extent: Extent,
    destination: usize,
    desk: &Desk,
    buffer: &mut [u8],
) -> Result<Likeness, Stopped> {
    let (left, right) = buffer.split_at_mut(buffer.len() / 2);
    let room = left.len().min(right.len());
    let (size, mut offset) = match extent {
        Extent::Tail { size, tail } => (Some(size), size.saturating_sub(tail)),
        Extent::All => (None, 0),
    };
    loop {
        let rest = size.map_or(usize::MAX, |size| usize::try_from(size - offset).unwrap_or(usize::MAX));
        let piece = usize::try_from(desk.pace.piece(u64::MAX)).unwrap_or(usize::MAX);
        let want = rest.min(room).min(piece);
        desk.may_read(want as u64)?;
        // One byte more than there should be tells whether there is.
        let ask = if want == rest { room.min(want + 1) } else { want };
        let read = |fd, buffer: &mut [u8], side| {
            sys::read_enough_at(fd, &mut buffer[..ask], want, offset).map_err(|e| Fault::new(Operation::Read, side, e))
        };
        let sides = [Side::Source, Side::Destination(destination)];
        let ends = [read(source, left, sides[0])?, read(existing, right, sides[1])?];
        let wrong = ends.iter().position(|end| size.is_some() && *end != want);
        if let Some(index) = wrong {
            return Ok(Likeness::WrongSize(sides[index], offset + ends[index] as u64));
        }
        if left[..ends[0]] != right[..ends[1]] {
            return Ok(Likeness::Different);
        }
        if ask > want || ends[0] < want {
            return Ok(Likeness::Same);
        }
        offset += want as u64;
    }
}

/// Compares the text of a link in the destination with `text`.
pub fn same_link(text: &CStr, at: BorrowedFd<'_>, name: &CStr, destination: usize) -> Result<bool, Fault> {
    let fault = |errno| Fault::new(Operation::Read, Side::Destination(destination), errno);
    let existing = sys::read_link(at, name).map_err(|errno| match errno {
        // It was a link when it was looked up: that is done again.
        Errno::NOENT | Errno::INVAL => fault(Errno::STALE),
        errno => fault(errno),
    })?;
    Ok(existing.as_c_str() == text)
}

/// Bytes at the end of a file to hash. No bytes is no hash, whatever else is asked for.
pub(crate) fn tail(hash_size: u64, full_hash: bool) -> u64 {
    if full_hash && hash_size > 0 {
        u64::MAX
    } else {
        hash_size
    }
}
