//! One file's bytes packed into an archive, and out of one again, by whoever is free.
//!
//! Comes in: two open files, and how; goes out: how many bytes went each way, and the digest of the content, which is fed
//! from the buffer that the compressor gets: the source is read once. Who has the file does block after block and invites
//! whoever is free meanwhile, as [`crate::bytes::chunks`] does; pieces are read, and their results put down, in their order,
//! so that the bytes are the same for any number of workers. What all of them use is bounded by a [`Memory`]. After an
//! error the output is to be discarded. Nothing is synced, and whether the source stayed the same is for the caller to ask.

mod blocks;
mod memory;
mod packing;
mod unpacking;

pub use blocks::{Blocks, Lead, Tools};
pub use memory::{Memory, bound};
pub use packing::{Packed, pack};
pub use unpacking::{How, Target, Unpacked, has_same, has_units, unpack};

use std::ffi::CStr;

use bulkhaul_formats::codec::names::{content_of, indexed_by};
use bulkhaul_formats::codec::{self, Gzi, HEAD_BYTES, recognise};
use bulkhaul_sys::{self as sys, BorrowedFd, Errno, Follow, Kind};

use crate::error::{Fault, Operation, Side};

/// What a file is, by its first bytes; none: nothing that is compressed. An error is one of this operation on this side.
pub fn kind_of(file: BorrowedFd<'_>, operation: Operation, side: Side) -> Result<Option<codec::Kind>, Fault> {
    let mut head = [0; HEAD_BYTES];
    let length = sys::read_full_at(file, &mut head, 0);
    let length = length.map_err(|errno| Fault::new(operation, side, errno))?;
    Ok(recognise(&head[..length]))
}

/// Whether a file is compressed already, by its first bytes, or is the index of what is: an archive of that name is beside it.
pub fn is_compressed((at, name): (BorrowedFd<'_>, &CStr), file: BorrowedFd<'_>) -> Result<bool, Fault> {
    let fault = |operation| move |errno| Fault::new(operation, Side::Source, errno);
    if kind_of(file, Operation::Read, Side::Source)?.is_some() {
        return Ok(true);
    }
    let Some(archive) = indexed_by(name).filter(|archive| content_of(archive).is_some()) else {
        return Ok(false);
    };
    match sys::stat(at, &archive, Follow::No) {
        Ok(there) => Ok(there.kind == Kind::File),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(fault(Operation::Stat)(errno)),
    }
}

/// Writes the index of an archive into a new file.
pub fn write_index(index: &Gzi, file: BorrowedFd<'_>) -> sys::Result<()> {
    let mut offset = 0;
    index.write(|bytes| {
        sys::write_all_at(file, bytes, offset)?;
        offset += bytes.len() as u64;
        Ok(())
    })
}

#[cfg(test)]
mod tests;
