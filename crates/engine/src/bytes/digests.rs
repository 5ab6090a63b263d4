//! The digests of one file.
//!
//! Comes in: an open file and its facts; goes out: the digest of each algorithm, made in one pass over its bytes. A large file
//! is the work of all workers that have nothing to read: they read parts of it where only BLAKE3 is wanted, and else one reads
//! it in order and each takes some of the algorithms, of which all others are made from front to back. Promises: they are those
//! of content that was there at one time, as far as the system tells: a file whose size or times changed while it was read has
//! no digest, but where it is the one that was expected, nor has one that is not as long as its size says. What was written is read back the same way ([`in_parts`]).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ScopedJoinHandle;

use bulkhaul_formats::digest::{Algorithm, Blake3, ContentDigest, Digest, Hashers, PART_BYTES, Parts, Share};
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
/// The same of bytes, where one thread reads.
const SECTION_BYTES: u64 = 64 * 1024 * 1024;
/// Blocks that wait for each thread which helps, at most.
const BLOCKS: usize = 4;

/// Reads a file to its end; answers its digests, and how many bytes there were. `before`: its facts when it was opened;
/// `expected`: digests that it may have, all of them. Of an error the hashers know nothing.
pub fn digests(
    (file, before): (BorrowedFd<'_>, &Stat),
    expected: &[Digest],
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
    if hashers.count() > 1 && is_large(file, before.size) {
        let read = side_by_side(file, before, hashers, (desk, counters));
        // Whatever came of it: the next file begins anew.
        let digests = hashers.finish();
        return Ok((digests, read?));
    }
    let (got, more) = next(file, (0, before.size), (desk, counters), buffer)?;
    let (made, bytes) = if more {
        hashers.update(&buffer[..got]);
        let read = read_on(file, (got as u64, before.size), hashers, (desk, counters), buffer);
        let digests = hashers.finish();
        (digests, read?)
    } else {
        (hashers.whole(&buffer[..got]), got as u64)
    };
    // What has the content that it should have is not asked whether it was written to.
    let expected = !expected.is_empty() && expected.iter().all(|digest| made.contains(digest));
    if !expected || bytes != before.size {
        is_whole(file, before, bytes)?;
    }
    Ok((made, bytes))
}

/// Takes in what follows `at`; answers where that ends.
fn read_on(
    file: BorrowedFd<'_>,
    (mut at, size): (u64, u64),
    hashers: &mut Hashers,
    run: (&Desk, &Counters),
    buffer: &mut [u8],
) -> Result<u64, Stopped> {
    loop {
        let (got, more) = next(file, (at, size), run, buffer)?;
        hashers.update(&buffer[..got]);
        at += got as u64;
        if !more {
            return Ok(at);
        }
    }
}

/// Reads what follows; answers how many bytes there were, and whether more may come. Where a read ends just where the size
/// says, nobody is asked once more whether that is the end: all others are read until nothing comes.
fn next(
    file: BorrowedFd<'_>,
    (at, size): (u64, u64),
    (desk, counters): (&Desk, &Counters),
    buffer: &mut [u8],
) -> Result<(usize, bool), Stopped> {
    let want = usize::try_from(desk.pace.piece(buffer.len() as u64)).unwrap_or(buffer.len());
    desk.may_read(want as u64)?;
    let left = usize::try_from(size.saturating_sub(at)).unwrap_or(want);
    let enough = if left == 0 { want } else { left.min(want) };
    let got = sys::read_enough_at(file, &mut buffer[..want], enough, at).map_err(|errno| match errno {
        // It was a file when it was listed.
        Errno::ISDIR => Fault::changed(Operation::Read),
        errno => Fault::new(Operation::Read, Side::Source, errno),
    })?;
    desk.read_less((want - got) as u64);
    counters.hashed(got as u64);
    Ok((got, got == want || got > enough))
}

/// An error where a file that was read to its end was written to meanwhile, or has another size than it says.
fn is_whole(file: BorrowedFd<'_>, before: &Stat, bytes: u64) -> Result<(), Stopped> {
    unchanged(file, before)?;
    if bytes != before.size && has_sizes(file) {
        return Err(Fault::size(Side::Source, before.size, bytes).into());
    }
    Ok(())
}

/// Takes in a file in its order: this thread reads, and it and as many as have nothing to read make some of the digests each.
/// How many that are changes on the way.
fn side_by_side(
    file: BorrowedFd<'_>,
    before: &Stat,
    hashers: &mut Hashers,
    run: (&Desk, &Counters),
) -> Result<u64, Stopped> {
    let (mut bytes, mut more) = (0, true);
    while more {
        let helpers = run.0.idle(processors()).min(hashers.count() - 1);
        (bytes, more) = section(file, (bytes, before.size), hashers, helpers, run)?;
    }
    is_whole(file, before, bytes)?;
    Ok(bytes)
}

/// Takes in what follows of it with so many helpers; answers where that ends, and whether more may come.
fn section(
    file: BorrowedFd<'_>,
    (from, size): (u64, u64),
    hashers: &mut Hashers,
    helpers: usize,
    run: (&Desk, &Counters),
) -> Result<(u64, bool), Stopped> {
    std::thread::scope(|scope| {
        let begin = |_| {
            let (order, orders) = mpsc::sync_channel::<(Share<'_>, Receiver<Arc<Vec<u8>>>)>(1);
            let help = move || {
                let _reading = run.0.reading();
                for (mut share, blocks) in orders {
                    for block in blocks {
                        share.update(&block);
                    }
                }
            };
            let helper = std::thread::Builder::new().spawn_scoped(scope, help).ok()?;
            Some((order, helper))
        };
        // Where none can be had this one does it all.
        let helpers: Vec<_> = (0..helpers).filter_map(begin).collect();
        let mut shares = hashers.shares(1 + helpers.len()).into_iter();
        let mut own = shares.next();
        let (mut ways, mut ends) = (Vec::new(), Vec::new());
        for ((order, helper), share) in helpers.into_iter().zip(shares) {
            let (way, blocks) = mpsc::sync_channel(BLOCKS);
            // One that has died says so in the end.
            if order.send((share, blocks)).is_ok() {
                ways.push(way);
            }
            ends.push(helper);
        }
        let mut read = || {
            let (mut at, mut more) = (from, true);
            while more && at - from < SECTION_BYTES {
                let mut block = vec![0; BUFFER_BYTES];
                let got;
                (got, more) = next(file, (at, size), run, &mut block)?;
                block.truncate(got);
                let block = Arc::new(block);
                ways.retain(|way| way.send(Arc::clone(&block)).is_ok());
                if let Some(share) = &mut own {
                    share.update(&block);
                }
                at += got as u64;
            }
            Ok((at, more))
        };
        let read = read();
        drop(ways);
        let panicked = |panic: Box<dyn std::any::Any + Send>| Stopped::from(Fault::panic(&*panic));
        let ended = |end: ScopedJoinHandle<'_, ()>| end.join().map_err(panicked);
        let ended = ends.into_iter().map(ended).fold(Ok(()), Result::and);
        read.and_then(|read| ended.map(|()| read))
    })
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
    is_large(file, size) && medium(file) != Medium::Rotating
}

/// Whether a file is the work of more than one thread.
fn is_large(file: BorrowedFd<'_>, size: u64) -> bool {
    size >= LARGE_BYTES && processors() > 1 && has_sizes(file)
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

    /// Several algorithms, with fewer threads than there are of them, as many, and more; sections end with the file or not.
    #[test]
    fn of_a_large_file_side_by_side() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        let mut algorithms = Algorithm::ALL.to_vec();
        for (size, helpers) in [
            (0, 1),
            (1, 2),
            (BUFFER_BYTES, 5),
            (3 * BUFFER_BYTES + 7, 0),
            (9 * BUFFER_BYTES, 9),
        ] {
            let content: Vec<u8> = (0..=250).cycle().take(size).collect();
            fs::write(&path, &content).unwrap();
            let desk = Desk::new(1);
            let run = (&desk, &desk.counters[0]);
            let file = fs::File::open(&path).unwrap();
            let mut hashers = Hashers::new(&algorithms);
            let (mut at, mut more) = (0, true);
            while more {
                (at, more) = section(file.as_fd(), (at, 0), &mut hashers, helpers, run).unwrap();
            }
            let mut expected = Hashers::new(&algorithms);
            expected.update(&content);
            assert_eq!((at, hashers.finish()), (size as u64, expected.finish()), "{size}");
            // Nobody counts as reading any more.
            desk.staff(9);
            assert_eq!((desk.peek().read_bytes, desk.idle(9)), (size as u64, 9));
            algorithms.rotate_left(1);
        }
        let file = fs::File::options().read(true).write(true).open(&path).unwrap();
        let before = sys::stat_fd(file.as_fd()).unwrap();
        let desk = Desk::new(1);
        let run = (&desk, &desk.counters[0]);
        for other in [before.size - 1, before.size + 1] {
            file.set_len(other).unwrap();
            let mut hashers = Hashers::new(&algorithms);
            assert!(
                side_by_side(file.as_fd(), &before, &mut hashers, run).is_err(),
                "{other}"
            );
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
                digests((file.as_fd(), before), &[], &mut hashers, desk, &mut buffer)
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
