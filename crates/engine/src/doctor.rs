//! What a machine and a directory allow: for people who ask why something is slow, refused or not kept.
//!
//! Comes in: the number of an open directory; goes out: answers, each with the system's own error where something can't be
//! had. [`calls`] and [`look`] change nothing. [`probe`] works in files that it makes in the directory and that have lost
//! their names before they are written; it takes as long as 64 MiB take to be written, synced and read.

use std::ffi::{CStr, CString};
use std::time::Instant;

use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow, Node, OwnedFd, Replace};

/// Bytes that are written and read to see how fast that is.
const PROBED: usize = 64 << 20;
/// Bytes of one write or read.
const BLOCK: usize = 1 << 20;

/// Whether one thing can be had.
#[derive(Debug)]
pub struct Answer {
    /// What was tried.
    pub name: &'static str,
    /// The system's answer where it can't be had.
    pub error: Option<String>,
}

/// What was found by trying.
#[derive(Debug)]
pub struct Probe {
    /// What can be had.
    pub answers: Vec<Answer>,
    /// Bytes a second: written and synced.
    pub written: f64,
    /// Bytes a second: read back.
    pub read: f64,
    /// Bytes of those that came from the cache; none where the kernel does not tell.
    pub from_cache: Option<u64>,
}

fn answer<T>(name: &'static str, result: sys::Result<T>) -> Answer {
    let error = result.err().map(|errno| std::io::Error::from(errno).to_string());
    Answer { name, error }
}

/// Calls that not every kernel has.
pub fn calls() -> Vec<Answer> {
    let asked = sys::ask_for_calls().into_iter();
    asked
        .map(|(name, errno)| match errno {
            Errno::NOSYS | Errno::PERM => answer::<()>(name, Err(errno)),
            _ => answer(name, Ok(())),
        })
        .collect()
}

/// What a directory allows, as far as that is seen without a change.
///
/// # Errors
/// The number is no descriptor.
pub fn look(descriptor: i32) -> sys::Result<Vec<Answer>> {
    let directory = sys::duplicate_number(descriptor)?;
    let node = Node::Open(directory.as_fd());
    let acl = match sys::get_xattr(node, c"system.posix_acl_access", &mut [0; 1024]) {
        Err(Errno::NODATA | Errno::RANGE) => Ok(0),
        other => other,
    };
    Ok(vec![
        answer("xattrs", sys::list_xattrs(node, &mut [0; 65_536])),
        answer("ACLs", acl),
    ])
}

/// The same by trying: what can be done with files there, and how fast.
///
/// # Errors
/// No file can be made there or written.
pub fn probe(descriptor: i32) -> sys::Result<Probe> {
    let directory = sys::duplicate_number(descriptor)?;
    let directory = directory.as_fd();
    let mut answers = vec![answer("files without a name", sys::create_unnamed(directory))];
    let file = scratch_file(directory, "a", |name| {
        let other = named("b");
        let linked = sys::make_link(directory, name, directory, &other);
        let unlinked = linked.and_then(|()| sys::unlink(directory, &other));
        answers.push(answer("hard links", unlinked));
        let upper = CString::new(name.to_bytes().to_ascii_uppercase()).unwrap_or_default();
        let one = sys::stat(directory, &upper, Follow::No).map_or(Ok(()), |_| Err(Errno::EXIST));
        answers.push(answer("names that differ by case", one));
        let renamed = sys::rename(directory, name, directory, &other, Replace::No);
        answers.push(answer("renaming without replacing", renamed));
        if renamed.is_ok() { other } else { name.to_owned() }
    })?;
    let file = file.as_fd();
    answers.push(answer(
        "user xattrs",
        sys::set_xattr(Node::Open(file), c"user.bulkhaul", b"x"),
    ));
    answers.push(answer("locks", sys::try_lock(file)));
    answers.push(answer("allocation", sys::allocate(file, BLOCK as u64)));
    let (written, read, from_cache) = speed(file)?;
    answers.push(answer("writes past the cache", sys::open_direct(file)));
    let copy = scratch_file(directory, "c", CStr::to_owned)?;
    answers.push(answer("clones (reflink)", sys::clone_file(file, copy.as_fd())));
    let range = sys::copy_range(file, 0, copy.as_fd(), 0, BLOCK);
    answers.push(answer("copies in the kernel", range));
    answers.push(answer("holes", hole(copy.as_fd())));
    Ok(Probe {
        answers,
        written,
        read,
        from_cache,
    })
}

fn named(part: &str) -> CString {
    CString::new(format!(".bulkhaul-doctor-{}-{part}", std::process::id())).unwrap_or_default()
}

/// A new file that has lost its name when this returns; `meanwhile` may rename it, and answers what it is called then.
fn scratch_file(
    directory: BorrowedFd<'_>,
    part: &str,
    meanwhile: impl FnOnce(&CStr) -> CString,
) -> sys::Result<OwnedFd> {
    let name = named(part);
    let file = sys::create_file(directory, &name)?;
    let last = meanwhile(&name);
    sys::unlink(directory, &last)?;
    Ok(file)
}

/// Whether a file may have a hole, and tells where it is.
fn hole(file: BorrowedFd<'_>) -> sys::Result<()> {
    sys::set_size(file, 0)?;
    sys::set_size(file, BLOCK as u64)?;
    // Where holes are not told, all of a file is data.
    if sys::seek_data(file, 0)?.is_some() {
        Err(Errno::OPNOTSUPP)
    } else {
        Ok(())
    }
}

/// Bytes a second written and read, and how many came from the cache.
fn speed(file: BorrowedFd<'_>) -> sys::Result<(f64, f64, Option<u64>)> {
    let mut block = vec![0_u8; BLOCK];
    // What can't be compressed, and is never the same twice.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let began = Instant::now();
    for at in (0..PROBED).step_by(BLOCK) {
        for part in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            part.copy_from_slice(&state.to_le_bytes());
        }
        sys::write_all_at(file, &block, at as u64)?;
    }
    sys::sync_data(file)?;
    let written = PROBED as f64 / began.elapsed().as_secs_f64();
    let dropped = sys::drop_cache(file, 0, 0);
    let cached = dropped.and_then(|()| sys::cached_bytes(file, PROBED as u64));
    let began = Instant::now();
    for at in (0..PROBED).step_by(BLOCK) {
        sys::read_full_at(file, &mut block, at as u64)?;
    }
    Ok((written, PROBED as f64 / began.elapsed().as_secs_f64(), cached.ok()))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn a_probe_leaves_nothing_and_a_look_changes_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = std::fs::File::open(scratch.path()).unwrap();
        let before = scratch.path().metadata().unwrap().modified().unwrap();
        look(directory.as_raw_fd()).unwrap();
        assert_eq!(scratch.path().metadata().unwrap().modified().unwrap(), before);
        let probe = probe(directory.as_raw_fd()).unwrap();
        assert_eq!(scratch.path().read_dir().unwrap().count(), 0);
        assert!(probe.written > 0.0 && probe.read > 0.0, "{probe:?}");
        let links = probe.answers.iter().find(|each| each.name == "hard links").unwrap();
        assert_eq!(links.error, None);
    }

    #[test]
    fn what_is_no_directory() {
        assert_eq!(look(-1).unwrap_err(), Errno::BADF);
        let file = tempfile::tempfile().unwrap();
        assert_eq!(probe(file.as_raw_fd()).unwrap_err(), Errno::NOTDIR);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn calls_are_asked_for() {
        let all = calls();
        let statx = all.iter().find(|each| each.name == "statx").unwrap();
        // Nothing works without it.
        assert_eq!(statx.error, None);
    }
}
