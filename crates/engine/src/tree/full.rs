//! What there was no room in: whose limit it was, and how much there is.
//!
//! Comes in: an error of what was written, and where that was; goes out: the same with words for people. To be asked before what was
//! written is taken back.

use bulkhaul_formats::units;
use bulkhaul_sys::{self as sys, BorrowedFd, Capacity, Errno, Quota};

use crate::error::{Cause, Fault, Side, Stopped};

/// The same of what stopped an operation.
pub fn explained(stopped: Stopped, at: BorrowedFd<'_>, path: &[u8], size: u64) -> Stopped {
    match stopped {
        Stopped::Fault(fault) => Stopped::Fault(told(fault, at, path, size)),
        Stopped::Aborted => Stopped::Aborted,
    }
}

/// The error of something of so many bytes that was written into the directory that is open as `at`, and has this path.
pub fn told(fault: Fault, at: BorrowedFd<'_>, path: &[u8], size: u64) -> Fault {
    let (Side::Destination(_), Cause::Errno(errno)) = (fault.side, &fault.cause) else {
        return fault;
    };
    match hint(*errno, Some(at), path, size) {
        Some(what) => Fault {
            cause: Cause::Full(*errno, what),
            ..fault
        },
        None => fault,
    }
}

/// What else is known about an error of an entry of so many bytes on the file system of a descriptor, which holds this path.
pub fn hint(errno: Errno, fd: Option<BorrowedFd<'_>>, path: &[u8], size: u64) -> Option<String> {
    match errno {
        Errno::DQUOT => Some(whose_quota(fd.and_then(|fd| sys::user_quota(fd).ok()), size)),
        Errno::NOSPC => Some(whose_space(
            fd.and_then(|fd| sys::capacity(fd).ok()),
            &String::from_utf8_lossy(path),
            size,
        )),
        _ => None,
    }
}

/// Bytes that a file system may want beside those of a file, for its own books: who has more left is not at a limit.
const AMPLE_BYTES: u64 = 64 * 1024 * 1024;

/// What a file system has that had no room for `size` bytes, and holds this path.
fn whose_space(now: Option<Capacity>, path: &str, size: u64) -> String {
    match now {
        Some(c) if c.free_inodes == 0 => format!("the file system of {path} has no inode left"),
        Some(c) if c.free_bytes > size.saturating_add(AMPLE_BYTES) => format!(
            "the file system of {path} has {} of {} free, so it is a limit within it, such as a project quota",
            units::bytes(c.free_bytes),
            units::bytes(c.total_bytes)
        ),
        Some(c) => format!(
            "the file system of {path} has {} of {} free",
            units::bytes(c.free_bytes),
            units::bytes(c.total_bytes)
        ),
        None => format!("the file system of {path} is full"),
    }
}

/// Whose quota had no room for `size` bytes, by what that of this user leaves.
fn whose_quota(left: Option<Quota>, size: u64) -> String {
    let user = sys::user_id();
    match left {
        Some(quota) if quota.inodes_left == 0 => format!("the quota of user {user} has no inode left"),
        Some(quota) if quota.bytes_left > size.saturating_add(AMPLE_BYTES) => {
            let free = match quota.bytes_left {
                u64::MAX => "has no limit of bytes".to_owned(),
                bytes => format!("has {} left", units::bytes(bytes)),
            };
            format!("the quota of user {user} {free}, so it is that of a group or project")
        }
        Some(quota) => format!("the quota of user {user} has {} left", units::bytes(quota.bytes_left)),
        None => format!("the disk quota of user {user}, or of a group or project, is used up"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_says_whose_it_is() {
        let disk = |free_bytes, free_inodes| Capacity {
            free_bytes,
            free_inodes,
            total_bytes: 1 << 40,
        };
        for (now, said) in [
            (Some(disk(1 << 30, 0)), "the file system of d has no inode left"),
            (
                Some(disk(4096, 9)),
                "the file system of d has 4.00 KiB of 1.00 TiB free",
            ),
            (
                Some(disk(1 << 30, 9)),
                "so it is a limit within it, such as a project quota",
            ),
            (None, "the file system of d is full"),
        ] {
            assert!(whose_space(now, "d", 5).ends_with(said), "{said}");
        }
        // More is free than ever, but not as much as is wanted.
        let huge = whose_space(Some(disk(1 << 30, 9)), "d", 1 << 31);
        assert_eq!(huge, "the file system of d has 1.00 GiB of 1.00 TiB free");
        let left = |bytes_left, inodes_left| {
            Some(Quota {
                bytes_left,
                inodes_left,
            })
        };
        for (quota, said) in [
            (left(1 << 30, 0), "has no inode left"),
            (left(4096, 9), "has 4.00 KiB left"),
            (
                left(1 << 30, 9),
                "has 1.00 GiB left, so it is that of a group or project",
            ),
            (
                left(u64::MAX, u64::MAX),
                "has no limit of bytes, so it is that of a group or project",
            ),
            (None, "or of a group or project, is used up"),
        ] {
            assert!(whose_quota(quota, 5).ends_with(said), "{said}");
        }
    }
}
