//! The digests of one file.
//!
//! Comes in: an open file and its facts; goes out: the digest of each algorithm, made in one pass over its bytes. Promises:
//! they are those of content that was there at one time, as far as the system tells: a file whose size or times changed
//! while it was read has no digest, nor has one that is not as long as its size says.

use bulkhaul_formats::digest::{Digest, Hashers};
use bulkhaul_sys::{self as sys, BorrowedFd, Errno, Stat};

use crate::error::{Fault, Operation, Side, Stopped};
use crate::job::desk::Desk;
use crate::report::counters::Counters;
use crate::tree::medium::has_sizes;

/// Reads a file to its end; answers its digests, and how many bytes there were. `before`: its facts when it was opened. Of
/// an error the hashers know nothing.
pub fn digests(
    (file, before): (BorrowedFd<'_>, &Stat),
    hashers: &mut Hashers,
    (desk, counters): (&Desk, &Counters),
    buffer: &mut [u8],
) -> Result<(Vec<Digest>, u64), Stopped> {
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
    let after = sys::stat_fd(file).map_err(|errno| fault(Operation::Stat, errno))?;
    if (after.size, after.mtime, after.ctime) != (before.size, before.mtime, before.ctime) {
        return Err(Fault::changed(Operation::Read).into());
    }
    if bytes != before.size && has_sizes(file) {
        return Err(Fault::size(Side::Source, before.size, bytes).into());
    }
    Ok(bytes)
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
