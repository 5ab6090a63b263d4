//! What is in a directory, by paths below it, through no link.
//!
//! Comes in: a directory, and paths without `..`; goes out: what is there, opened. Nothing outside of the directory is ever
//! reached. Paths that come one after the other are mostly of one directory, so that is kept.

use bulkhaul_sys::{self as sys, AsFd as _, Follow, OwnedFd, Stat};

use crate::tree::path::{c_string, open_beneath, split};

/// Opens what is below a directory.
pub struct Beneath<'b> {
    base: &'b OwnedFd,
    kept: Option<(Vec<u8>, OwnedFd)>,
}

impl<'b> Beneath<'b> {
    /// Below this one.
    pub fn new(base: &'b OwnedFd) -> Self {
        Self { base, kept: None }
    }

    /// The directory that holds a path, and the last name of that.
    pub fn holder<'p>(&mut self, path: &'p [u8]) -> sys::Result<(&OwnedFd, &'p [u8])> {
        let (parent, name) = split(path);
        let kept = match self.kept.take() {
            Some(kept) if kept.0 == parent => kept,
            _ => (parent.to_vec(), open_beneath(self.base, parent, false)?),
        };
        let (_, at) = self.kept.insert(kept);
        Ok((at, name))
    }

    /// Opens a file.
    pub fn open(&mut self, path: &[u8]) -> sys::Result<OwnedFd> {
        let (at, name) = self.holder(path)?;
        sys::open_file(at.as_fd(), &c_string(name)?)
    }

    /// The facts of an entry.
    pub fn stat(&mut self, path: &[u8]) -> sys::Result<Stat> {
        let (at, name) = self.holder(path)?;
        sys::stat(at.as_fd(), &c_string(name)?, Follow::No)
    }
}
