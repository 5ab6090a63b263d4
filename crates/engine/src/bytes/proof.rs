//! Proof: what is in the destination is what was read from the source.
//!
//! Comes in: a file that is written and synced, its source, and the digest of the bytes that the source gave when it was
//! copied; goes out: whether the destination gives the same bytes, and the source gives them again. They are read from the
//! medium where the system allows it: after the sync the cached pages are given up, and what is cached nevertheless (tmpfs,
//! some network file systems) is counted as such. Hashing what is in memory would miss what the disk wrote wrongly.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use bulkhaul_formats::digest::{Blake3, ContentDigest};
use bulkhaul_sys::{self as sys, BorrowedFd};

use crate::bytes::digests::{goes_on, has_parts, in_parts};
use crate::error::{Fault, Operation, Side, Stopped};
use crate::job::desk::Desk;
use crate::report::counters::Flight;

/// What a file gave when it was read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadBack {
    /// Digest of its bytes.
    pub digest: ContentDigest,
    /// How many there were.
    pub bytes: u64,
    /// How many of them the cache gave.
    pub from_cache: u64,
}

/// Gives up what is cached of a file of `size` bytes; answers how much stays cached. Where nobody can tell, all of it.
pub fn forget(file: BorrowedFd<'_>, size: u64) -> u64 {
    // A refusal leaves the pages where they are, and the count says so.
    if sys::drop_cache(file, 0, 0).is_err() {
        return size;
    }
    sys::cached_bytes(file, size).unwrap_or(size)
}

/// Gives up the pages that were read of a file for its proof: they are of no use to anybody, and the cache is left to others.
/// What stayed when it was to go, of which there is `from_cache`, stays.
pub fn leave(file: BorrowedFd<'_>, bytes: u64, from_cache: u64) {
    if from_cache < bytes {
        // Only a courtesy.
        match sys::drop_cache(file, 0, 0) {
            Ok(()) | Err(_) => {}
        }
    }
}

/// Gives up what is cached of a synced file and has it read anew in the background; answers as [`forget`]. Reads of many
/// small files overlap that way.
pub fn read_ahead(file: BorrowedFd<'_>, size: u64) -> u64 {
    let from_cache = forget(file, size);
    // Only a head start: the read that follows tells what went wrong.
    match sys::prefetch(file) {
        Ok(()) | Err(_) => from_cache,
    }
}

/// Reads a source once more, from the medium where that can be had: whether it gives what it gave before. A bit that flipped
/// in its only reading is in its digest too, and in whatever was proved by that.
pub fn gives_again(
    source: BorrowedFd<'_>,
    (size, digest): (u64, ContentDigest),
    (desk, flight): (&Desk, &Flight),
    buffer: &mut [u8],
) -> Result<bool, Stopped> {
    forget(source, size);
    let (begun, mut again, mut bytes) = (Instant::now(), Blake3::default(), 0);
    loop {
        if !desk.cancel.lets_end(begun, bytes, size.saturating_sub(bytes)) {
            return Err(Stopped::Aborted);
        }
        let piece = usize::try_from(desk.pace.piece(buffer.len() as u64)).unwrap_or(buffer.len());
        let got = sys::read_full_at(source, &mut buffer[..piece], bytes)
            .map_err(|errno| Fault::new(Operation::Verify, Side::Source, errno))?;
        if got == 0 {
            break;
        }
        desk.may_go_on(got as u64)?;
        flight.moved(got as u64);
        again.update(&buffer[..got]);
        bytes += got as u64;
    }
    Ok(again.digest() == digest)
}

/// Whether the first bytes of a synced file, so many, are those of this digest. What follows them is not looked at.
pub fn begins_with(
    file: BorrowedFd<'_>,
    (size, digest): (u64, ContentDigest),
    destination: usize,
    (desk, flight): (&Desk, &Flight),
    buffer: &mut [u8],
) -> Result<bool, Stopped> {
    if has_parts(file, size) {
        return Ok(by_all(file, size, destination, (desk, flight), buffer)? == Some(digest));
    }
    let (begun, mut sum, mut bytes) = (Instant::now(), Blake3::default(), 0);
    while bytes < size {
        if !desk.cancel.lets_end(begun, bytes, size - bytes) {
            return Err(Stopped::Aborted);
        }
        let piece = desk.pace.piece((size - bytes).min(buffer.len() as u64));
        let piece = usize::try_from(piece).unwrap_or(buffer.len());
        let got = sys::read_full_at(file, &mut buffer[..piece], bytes)
            .map_err(|e| Fault::new(Operation::Verify, Side::Destination(destination), e))?;
        if got == 0 {
            return Ok(false);
        }
        desk.may_go_on(got as u64)?;
        flight.moved(got as u64);
        sum.update(&buffer[..got]);
        bytes += got as u64;
    }
    Ok(sum.digest() == digest)
}

/// The digest of so many bytes of a large file, read by all who have nothing to read. None: it ends before.
fn by_all(
    file: BorrowedFd<'_>,
    size: u64,
    destination: usize,
    (desk, flight): (&Desk, &Flight),
    buffer: &mut [u8],
) -> Result<Option<ContentDigest>, Stopped> {
    let _reading = desk.reading();
    let (begun, all) = (Instant::now(), AtomicU64::new(0));
    let take = |piece: u64| {
        let done = all.fetch_add(piece, Relaxed);
        if !desk.cancel.lets_end(begun, done, size.saturating_sub(done)) {
            return Err(Stopped::Aborted);
        }
        desk.may_go_on(piece)?;
        flight.moved(piece);
        Ok(())
    };
    let whole = (size, Side::Destination(destination), Operation::Verify);
    match in_parts(file, whole, (desk, &take), buffer) {
        Err(Stopped::Fault(fault)) if fault.is_changed() => Ok(None),
        read => read.map(Some),
    }
}

/// Reads a synced file back, and its source a second time, side by side: a bit that flipped on the way in is found as well
/// as one that flipped on the way out. Without a source (one that is made anew at each read) only the digest tells, and a
/// large file is read by all who have nothing to read.
/// `size`: the bytes that it should have; `from_cache`: what [`forget`] or [`read_ahead`] answered before. `None`: they
/// differ.
pub fn read_back(
    source: Option<BorrowedFd<'_>>,
    file: BorrowedFd<'_>,
    (size, from_cache): (u64, u64),
    destination: usize,
    (desk, flight): (&Desk, &Flight),
    buffer: &mut [u8],
) -> Result<Option<ReadBack>, Stopped> {
    let begun = Instant::now();
    if source.is_none() && has_parts(file, size) {
        let Some(digest) = by_all(file, size, destination, (desk, flight), buffer)? else {
            return Ok(None);
        };
        if goes_on(file, (size, Side::Destination(destination), Operation::Verify))? {
            return Ok(None);
        }
        forget(file, size);
        return Ok(Some(ReadBack {
            digest,
            bytes: size,
            from_cache,
        }));
    }
    let (left, right) = buffer.split_at_mut(buffer.len() / 2);
    let mut digest = Blake3::default();
    let mut bytes = 0;
    loop {
        if !desk.cancel.lets_end(begun, bytes, size.saturating_sub(bytes)) {
            return Err(Stopped::Aborted);
        }
        let piece = usize::try_from(desk.pace.piece(right.len() as u64)).unwrap_or(right.len());
        let (left, right) = (&mut left[..piece], &mut right[..piece]);
        let n = sys::read_full_at(file, right, bytes)
            .map_err(|e| Fault::new(Operation::Verify, Side::Destination(destination), e))?;
        if let Some(source) = source {
            let m = sys::read_full_at(source, left, bytes).map_err(|e| Fault::new(Operation::Read, Side::Source, e))?;
            if left[..m] != right[..n] {
                return Ok(None);
            }
        }
        if n == 0 {
            break;
        }
        desk.may_go_on(n as u64)?;
        flight.moved(n as u64);
        digest.update(&right[..n]);
        bytes += n as u64;
    }
    leave(file, bytes, from_cache);
    Ok(Some(ReadBack {
        digest: digest.digest(),
        bytes,
        from_cache,
    }))
}
