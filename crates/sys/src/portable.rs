//! Other Unix systems, macOS above all: what POSIX has, by descriptor. Best effort, and honest about it: what can't be
//! done answers `ENOSYS` or `EOPNOTSUPP`, and the engine takes its slower way or reports it.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

use rustix::fs::{self, AtFlags, CWD, FlockOperation, Gid, Mode, OFlags, Timestamps, Uid};
use rustix::io::retry_on_intr as again;

use crate::{BorrowedFd, Capacity, Errno, Follow, Identity, Kind, Node, OwnedFd, Replace, Result, Stat, Time};

/// The directory that relative arguments start from.
pub fn current_directory() -> BorrowedFd<'static> {
    CWD
}
