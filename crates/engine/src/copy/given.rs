//! What was given as sources: nothing is written into it, nothing takes its place, and it does not go.
//!
//! Comes in: the sources, and a directory of a destination or an entry in one; goes out: whether what comes there would come into
//! a source. A source may lie in a destination, and something in it may lead back to it. Whoever goes down a tree comes into a
//! source by its root, so of each directory that is opened device and inode tell. The other ways are a symlink, from which
//! one looks up, and a mount that shows a part of a source, where that begins.

use std::collections::HashSet;
use std::ffi::{CStr, CString};

use bulkhaul_sys::{self as sys, Identity, OwnedFd};

use crate::sweep::guard::Guard;
use crate::tree::mounts::nearest_above;
use crate::tree::places::Places;

/// Why an entry does not come.
pub const IN_A_SOURCE: &str = "it is a source of this run, or lies in one, and nothing is written into a source";

/// What was given as sources.
#[derive(Debug, Default)]
pub struct Given {
    directories: HashSet<Identity>,
    others: Places,
}

impl Given {
    /// A directory was named, or shows a part of one.
    pub fn add_directory(&mut self, id: Identity) {
        self.directories.insert(id);
    }

    /// Something else was named.
    pub fn add(&mut self, directory: Identity, name: CString, id: Identity) {
        self.others.insert(directory, name, Some(id));
    }

    /// Whether a directory is a source.
    pub fn has_directory(&self, id: Identity) -> bool {
        self.directories.contains(&id)
    }

    /// Whether a directory that a symlink led to lies in a source: in no destination that lies there in turn.
    pub fn reaches(&self, directory: &OwnedFd, destinations: &[Identity]) -> sys::Result<bool> {
        let nearest = nearest_above(directory, |at| {
            self.has_directory(at.id) || destinations.contains(&at.id)
        })?;
        Ok(nearest.is_some_and(|at| self.has_directory(at.id)))
    }

    /// Whether an entry that is no directory is a source.
    pub fn has(&self, directory: Identity, name: &CStr, id: Identity) -> bool {
        self.others.have(directory, name, || Some(id))
    }

    /// Nothing of it goes.
    pub fn guard(&self, guard: &mut Guard) {
        for id in &self.directories {
            guard.keep(*id, "in use");
        }
        guard.keep_places(&self.others);
    }
}
