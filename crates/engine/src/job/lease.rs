//! The lock of a file that somebody else has opened: who holds it works on a job, until its process ends.
//!
//! Comes in: the number of a descriptor; goes out: whether the lock is its. The lock belongs to the open file, so it stays
//! when the duplicate that it was taken by is closed.

use bulkhaul_sys::{self as sys, AsFd as _, Errno};

/// Locks the file that a descriptor of this process has open. `false`: somebody else has it. An error where the file system
/// has no locks, or the number is no descriptor.
pub fn lock_descriptor(number: i32) -> sys::Result<bool> {
    let file = sys::duplicate_number(number)?;
    match sys::try_lock(file.as_fd()) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Whether a process of this number is there. One that has ended and was not waited for is not: it holds nothing.
pub fn process_exists(number: u32) -> bool {
    sys::process_exists(number)
}

/// Ends this process at once, whatever its threads are at.
pub fn end_process(code: i32) -> ! {
    sys::end_process(code)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn one_at_a_time_until_it_is_closed() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("lock");
        let first = std::fs::File::create(&path).unwrap();
        let second = std::fs::File::open(&path).unwrap();
        assert_eq!(lock_descriptor(first.as_raw_fd()), Ok(true));
        assert_eq!(lock_descriptor(first.as_raw_fd()), Ok(true));
        assert_eq!(lock_descriptor(second.as_raw_fd()), Ok(false));
        drop(first);
        assert_eq!(lock_descriptor(second.as_raw_fd()), Ok(true));
    }

    #[test]
    fn what_is_no_descriptor() {
        assert_eq!(lock_descriptor(-1), Err(Errno::BADF));
    }
}
