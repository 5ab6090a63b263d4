//! Reading what decides whether an entry is there already: the tails of two files, the texts of two links.
//!
//! The bytes themselves are compared, which is stronger than comparing their xxh64 and costs less; the rule is the
//! originals': equal tails of the given length, after size and time were found equal.

use std::ffi::CStr;

use bulkhaul_sys::{self as sys, BorrowedFd};

use crate::error::{Fault, Operation, Side};
use crate::job::Desk;
use crate::transfer::Stopped;

/// Compares the last `tail` bytes of two files of `size` bytes. `buffer` is used in halves.
pub fn same_tail(
    source: BorrowedFd<'_>,
    existing: BorrowedFd<'_>,
    size: u64,
    tail: u64,
    destination: usize,
    desk: &Desk,
    buffer: &mut [u8],
) -> Result<bool, Stopped> {
    let (left, right) = buffer.split_at_mut(buffer.len() / 2);
    let mut offset = size.saturating_sub(tail);
    while offset < size {
        let want = usize::try_from(size - offset)
            .unwrap_or(usize::MAX)
            .min(left.len())
            .min(right.len())
            .min(usize::try_from(desk.pace.piece(u64::MAX)).unwrap_or(usize::MAX));
        desk.may_read(want as u64)?;
        let a = fill(source, &mut left[..want], offset).map_err(|e| Fault::new(Operation::Read, Side::Source, e))?;
        let b = fill(existing, &mut right[..want], offset)
            .map_err(|e| Fault::new(Operation::Read, Side::Destination(destination), e))?;
        // A file that ended early is not the one whose size was compared: copy it, and the copy will tell.
        if a != want || b != want || left[..want] != right[..want] {
            return Ok(false);
        }
        offset += want as u64;
    }
    Ok(true)
}

/// Reads until `buffer` is full or the file ends.
pub fn fill(fd: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> sys::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match sys::read_at(fd, &mut buffer[done..], offset + done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

/// Compares the text of a link in the destination with `text`.
pub fn same_link(text: &CStr, at: BorrowedFd<'_>, name: &CStr, destination: usize) -> Result<bool, Fault> {
    let existing =
        sys::read_link(at, name).map_err(|e| Fault::new(Operation::Read, Side::Destination(destination), e))?;
    Ok(existing.as_c_str() == text)
}
