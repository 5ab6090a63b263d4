//! What ties a directory to its place, so that it is not renamed as a whole: what is mounted in it would go with it, and so
//! would what this run uses.
//!
//! Comes in: the files that are in use; goes out: whether a directory is tied.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use bulkhaul_sys::{self as sys, BorrowedFd, Follow, Identity};

use crate::sweep::guard::Guard;
use crate::tree::mounts::Mounts;
use crate::tree::path::{open_directory_path, split};

/// What ties directories, as it was when the run began.
#[derive(Default)]
pub struct Ties {
    /// None: it can't be told what is in use, so everything may be.
    used: Option<Guard>,
    mounts: Mounts,
}

impl Ties {
    /// By what is mounted, the working directory, and these files.
    pub fn read(in_use: &[Vec<u8>]) -> Self {
        Self {
            used: used(in_use).ok(),
            mounts: Mounts::read(),
        }
    }

    /// Whether an open directory is tied.
    pub fn hold(&self, directory: BorrowedFd<'_>, id: Identity) -> bool {
        let free = |used: &Guard| used.refuses(id).is_none();
        let mounted = || sys::path_of(directory).map_or(true, |path| self.mounts.are_at_or_below(&path));
        !self.used.as_ref().is_some_and(free) || mounted()
    }
}

/// The directories that hold what is in use, and all above them.
fn used(in_use: &[Vec<u8>]) -> sys::Result<Guard> {
    let mut guard = Guard::default();
    let mut tie = |fd| guard.climb_from(fd, "in use", "above what is in use");
    tie(sys::open_directory(sys::current_directory(), c".", Follow::No)?)?;
    for path in in_use {
        // What is not there is nowhere.
        if let Ok(real) = std::fs::canonicalize(OsStr::from_bytes(path)) {
            tie(open_directory_path(split(real.as_os_str().as_bytes()).0, Follow::Yes)?)?;
        }
    }
    Ok(guard)
}
