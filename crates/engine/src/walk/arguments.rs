//! Arguments of which each entry is taken once, in whatever way and however often they name it.
//!
//! Comes in: arguments as they were given; goes out: those that name something else than the ones before them, and, for what is
//! found below one of them, whether another names it. What can't be looked at stays: the walk says so.

use std::collections::HashSet;
use std::ffi::CStr;

use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Follow, Identity, Kind, Stat};

use crate::tree::path::{c_string, open_directory_path, split, trim};
use crate::tree::places::Places;
use crate::walk::start::Root;

/// Arguments, each entry of which is named once.
#[derive(Debug, Default)]
pub struct Arguments {
    roots: Vec<Root>,
    directories: HashSet<Identity>,
    others: Places,
}

impl Arguments {
    /// The first of those that name the same.
    pub fn distinct(given: &[Root]) -> Self {
        let mut arguments = Self::default();
        let mut paths = HashSet::new();
        for root in given {
            if paths.insert(trim(&root.path)) && arguments.is_new(root) {
                arguments.roots.push(root.clone());
            }
        }
        if arguments.roots.len() < 2 {
            // Nothing is found below another one.
            (arguments.directories, arguments.others) = Default::default();
        }
        arguments
    }

    /// These.
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// Whether one of them is this directory.
    pub fn name_directory(&self, id: Identity) -> bool {
        self.directories.contains(&id)
    }

    /// Whether one of them is what has this name in a directory, and is no directory.
    pub fn name(&self, directory: Identity, at: BorrowedFd<'_>, name: &CStr) -> bool {
        let only = |stat: Stat| (stat.nlink == 1).then_some(stat.id);
        self.others
            .have(directory, name, || sys::stat(at, name, Follow::No).ok().and_then(only))
    }

    fn is_new(&mut self, root: &Root) -> bool {
        let (above, name) = split(trim(&root.path));
        let looked = open_directory_path(above, Follow::Yes).and_then(|at| {
            let name = c_string(if name.is_empty() { b"." } else { name })?;
            let mut stat = sys::stat(at.as_fd(), &name, Follow::No)?;
            if stat.kind == Kind::Symlink && root.follow {
                stat = sys::stat(at.as_fd(), &name, Follow::Yes)?;
            }
            Ok((sys::stat_fd(at.as_fd())?.id, at, name, stat))
        });
        let Ok((directory, at, name, stat)) = looked else {
            return true;
        };
        if stat.kind == Kind::Directory {
            return self.directories.insert(stat.id);
        }
        let known = self.name(directory, at.as_fd(), &name);
        self.others
            .insert(directory, name, (stat.nlink == 1).then_some(stat.id));
        !known
    }
}
