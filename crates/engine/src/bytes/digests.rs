//! The digests of one file.
//!
//! Comes in: an open file and its facts; goes out: the digest of each algorithm, made in one pass over its bytes, and of a
//! large file, where that is BLAKE3 alone, by all workers that have nothing to read. Promises: they are those of content that
//! was there at one time, as far as the system tells: a file whose size or times changed while it was read has no digest, nor
//! has one that is not as long as its size says. What was written is read back the same way ([`in_parts`]).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bulkhaul_formats::digest::{Algorithm, Blake3, ContentDigest, Digest, Hashers, PART_BYTES, Parts};
use bulkhaul_sys::{self as sys, BorrowedFd, Errno, Stat};

use crate::bytes::transfer::BUFFER_BYTES;
use crate::error::{Fault, Operation, Side, Stopped};
use crate::job::desk::Desk;
use crate::job::process::processors;
use crate::pool::tune::Medium;
use crate::report::counters::Counters;
use crate::tree::medium::{has_sizes, medium};

/// A file of so many bytes is read in parts.
const LARGE_BYTES: u64 = 4 * PART_BYTES;
/// Parts that each thread reads before it is seen again how many there may be.
const PARTS_AT_ONCE: u64 = 4;

/// Reads a file to its end; answers its digests, and how many bytes there were. `before`: its facts when it was opened. Of
/// an error the hashers know nothing.
pub fn digests(
    (file, before): (BorrowedFd<'_>, &Stat),
    hashers: &mut Hashers,
    (desk, counters): (&Desk, &Counters),
    buffer: &mut [u8],
) -> Result<(Vec<Digest>, u64), Stopped> {
    let _reading = desk.reading();
    if hashers.adds_up() && has_parts(file, before.size) {
        let take = |piece| {
            desk.may_read(piece)?;
            counters.hashed(piece);
            Ok(())
        };
        let whole = (before.size, Side::Source, Operation::Read);
        let digest = in_parts(file, whole, (desk, &take), buffer)?;
        unchanged(file, before)?;
        // What goes on behind its size is no content that anybody has stated.
        if goes_on(file, whole)? {
            return Err(Fault::size(Side::Source, before.size, before.size + 1).into());
        }
        let digest = Digest::new(Algorithm::Blake3, &digest).ok_or_else(|| Fault::changed(Operation::Read))?;
        return Ok((vec![digest], before.size));
    }
    let read = read(file, before, hashers, (desk, counters), buffer);
    // Whatever came of it: the next file begins anew.
    let digests = hashers.finish();
    Ok((digests, read?))
}

fn read(
    file: BorrowedFd<'_>,
    before: &Stat,
    hashers: &mut Hashers,
    (desk, counters): (&Desk, &Counters),
    buffer: &mut [u8],
) -> Result<u64, Stopped> {
    let fault = |operation, errno| Fault::new(operation, Side::Source, errno);
    let mut bytes = 0;
    loop {
        let want = usize::try_from(desk.pace.piece(buffer.len() as u64)).unwrap_or(buffer.len());
        desk.may_read(want as u64)?;
        let got = sys::read_enough_at(file, &mut buffer[..want], want, bytes).map_err(|errno| match errno {
            // It was a file when it was listed.
            Errno::ISDIR => Fault::changed(Operation::Read),
            errno => fault(Operation::Read, errno),
        })?;
        desk.read_less((want - got) as u64);
        hashers.update(&buffer[..got]);
        counters.hashed(got as u64);
        bytes += got as u64;
        if got < want {
            break;
        }
    }
    unchanged(file, before)?;
    if bytes != before.size && has_sizes(file) {
        return Err(Fault::size(Side::Source, before.size, bytes).into());
    }
    Ok(bytes)
}

/// An error where a file was written to since it was opened.
fn unchanged(file: BorrowedFd<'_>, before: &Stat) -> Result<(), Stopped> {
    let after = sys::stat_fd(file).map_err(|errno| Fault::new(Operation::Stat, Side::Source, errno))?;
    if (after.size, after.mtime, after.ctime) != (before.size, before.mtime, before.ctime) {
        return Err(Fault::changed(Operation::Read).into());
    }
    Ok(())
}

/// Whether a file is read in parts, by threads side by side.
pub fn has_parts(file: BorrowedFd<'_>, size: u64) -> bool {
    // A disk that rotates gives more when it is read in order, and no more than one thread takes.
    size >= LARGE_BYTES && processors() > 1 && has_sizes(file) && medium(file) != Medium::Rotating
}

/// Takes leave to read so many bytes.
pub type Take<'t> = dyn Fn(u64) -> Result<(), Stopped> + Sync + 't;
/// A file: its bytes, and what is told of a fault.
type Whole = (u64, Side, Operation);

/// Whether a file is longer than it is said to be.
pub fn goes_on(file: BorrowedFd<'_>, (bytes, side, operation): Whole) -> Result<bool, Stopped> {
    let more = sys::read_full_at(file, &mut [0], bytes).map_err(|errno| Fault::new(operation, side, errno))?;
    Ok(more > 0)
}

/// The BLAKE3 of a file of more than one part, which threads read side by side: this one, and as many as have nothing else to
/// read, which changes on the way.
pub fn in_parts(
    file: BorrowedFd<'_>,
    whole: Whole,
    (desk, take): (&Desk, &Take<'_>),
    buffer: &mut [u8],
) -> Result<ContentDigest, Stopped> {
    let (bytes, side, _) = whole;
    let sum = Mutex::new(Parts::new(bytes));
    let (all, next) = (bytes.div_ceil(PART_BYTES), AtomicU64::new(0));
    let processors = processors();
    let mut until = 0;
    while until < all {
        let helpers = desk.idle(processors);
        until = all.min(until + (1 + helpers as u64) * PARTS_AT_ONCE);
        let work = |buffer: &mut [u8]| -> Result<(), Stopped> {
            loop {
                let part = next.fetch_add(1, Ordering::Relaxed);
                if part >= until {
                    return Ok(());
                }
                let digest = of_part(file, whole, part, (desk, take), buffer)?;
                sum.lock().unwrap_or_else(PoisonError::into_inner).add(part, &digest);
            }
        };
        std::thread::scope(|scope| {
            let helping = || {
                let _reading = desk.reading();
                work(&mut vec![0; BUFFER_BYTES])
            };
            // Where none can be had this one does it all.
            let begin = |_| std::thread::Builder::new().spawn_scoped(scope, helping).ok();
            let helpers: Vec<_> = (0..helpers).filter_map(begin).collect();
            let own = work(buffer);
            let panicked = |panic: Box<dyn std::any::Any + Send>| Err(Fault::panic(&*panic).into());
            let helped = helpers.into_iter().map(|helper| helper.join().unwrap_or_else(panicked));
            helped.fold(own, Result::and)
        })?;
        next.store(until, Ordering::Relaxed);
    }
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(sum.digest().ok_or_else(|| Fault::size(side, bytes, 0))?)
}

/// The digest of one part.
fn of_part(
    file: BorrowedFd<'_>,
    (bytes, side, operation): Whole,
    part: u64,
    (desk, take): (&Desk, &Take<'_>),
    buffer: &mut [u8],
) -> Result<Blake3, Stopped> {
    let mut digest = Blake3::of_part(part);
    let (mut at, end) = (part * PART_BYTES, bytes.min((part + 1) * PART_BYTES));
    while at < end {
        let piece = desk.pace.piece(buffer.len() as u64).min(end - at);
        let want = usize::try_from(piece).unwrap_or(buffer.len());
        take(piece)?;
        let read = |errno| Fault::new(operation, side, errno);
        let got = sys::read_full_at(file, &mut buffer[..want], at).map_err(read)?;
        digest.update(&buffer[..got]);
        at += got as u64;
        if got < want {
            return Err(Fault::size(side, bytes, at).into());
        }
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use bulkhaul_formats::digest::Algorithm;
    use bulkhaul_sys::AsFd as _;

    use super::*;
    use crate::error::Cause;

    #[test]
    fn of_a_large_file_by_as_many_as_there_are() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        for (more, workers) in [(1, 1), (PART_BYTES + 1, 3), (2 * PART_BYTES, 2)] {
            let size = PART_BYTES + more;
            let mut content: Vec<u8> = (0..=250).cycle().take(usize::try_from(size).unwrap()).collect();
            // No part is like another.
            for (number, part) in content.chunks_mut(usize::try_from(PART_BYTES).unwrap()).enumerate() {
                part[0] = u8::try_from(number).unwrap();
            }
            fs::write(&path, &content).unwrap();
            let mut expected = Blake3::default();
            expected.update(&content);
            let desk = Desk::new(1);
            desk.staff(workers);
            let file = fs::File::open(&path).unwrap();
            let take = |piece| desk.may_read(piece);
            let mut buffer = vec![0; 65537];
            let mut of = |size| {
                in_parts(
                    file.as_fd(),
                    (size, Side::Source, Operation::Read),
                    (&desk, &take),
                    &mut buffer,
                )
            };
            assert_eq!(of(size).unwrap(), expected.digest(), "{size}");
            assert_eq!((desk.peek().read_bytes, desk.idle(9)), (size, workers));
            // It ends before, or goes on.
            assert!(of(size + 1).is_err(), "{size}");
            let goes_on = |size| goes_on(file.as_fd(), (size, Side::Source, Operation::Read)).unwrap();
            assert_eq!((goes_on(size - 1), goes_on(size)), (true, false), "{size}");
        }
    }

    #[test]
    fn of_all_sizes_around_the_buffer_and_of_nothing_that_changed() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        let desk = Desk::new(1);
        let mut hashers = Hashers::new(&[Algorithm::Md5]);
        let mut buffer = vec![0; 4096];
        for size in [0, 1, 4095, 4096, 4097, 3 * 4096] {
            let content = vec![7; size];
            fs::write(&path, &content).unwrap();
            let file = fs::File::open(&path).unwrap();
            let mut of = |file: &fs::File, before: &Stat| {
                let desk = (&desk, &desk.counters[0]);
                digests((file.as_fd(), before), &mut hashers, desk, &mut buffer)
            };
            let before = sys::stat_fd(file.as_fd()).unwrap();
            let mut expected = Hashers::new(&[Algorithm::Md5]);
            expected.update(&content);
            let counted = desk.peek().read_bytes;
            assert_eq!(of(&file, &before).unwrap(), (expected.finish(), size as u64));
            // What was asked for and not there was not read.
            assert_eq!(desk.peek().read_bytes - counted, size as u64);
            let mut writer = fs::File::options().append(true).open(&path).unwrap();
            writer.write_all(b"more").unwrap();
            let Err(Stopped::Fault(fault)) = of(&file, &before) else {
                panic!("{size}");
            };
            assert_eq!(fault.cause, Cause::Changed);
            // What was read in vain is no part of the next.
            fs::write(&path, &content).unwrap();
            let before = sys::stat_fd(file.as_fd()).unwrap();
            expected.update(&content);
            assert_eq!(of(&file, &before).unwrap().0, expected.finish());
        }
    }
}
