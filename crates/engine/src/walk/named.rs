//! What a list names of a tree, for a walk: entries of directories, found without a look at anything else.
//!
//! Comes in: a list, and the directory that its names are relative to; goes out: for each directory that has some of them,
//! these. A directory that is named is taken with all that is in it, so that names below it say nothing. A name that is not
//! there is a failure, or somebody else's to tell.

use std::sync::Arc;

use bulkhaul_formats::lists::names::FileList;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind, OwnedFd};

use crate::error::{Failure, Fault, Operation, Refusal, Side, describe};
use crate::job::desk::Desk;
use crate::tree::listing::Batch;
use crate::tree::path::{c_string, join, open_beneath, open_directory_path, show, split, trim};
use crate::walk::start::{Part, Parts, Root};

/// The names of a list, by their directories.
pub struct Named<'n> {
    desk: &'n Desk,
    root: OwnedFd,
    path: &'n [u8],
    /// What relative paths begin with: nothing, or the name of the root.
    prefix: &'n [u8],
    /// What is not there is told.
    tells: bool,
    /// Each relative to the root, with what is named in it.
    directories: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
}

impl<'n> Named<'n> {
    /// What `list` names below `root`. `tells`: of names that are not there.
    pub fn of(list: &FileList, root: &'n Root, desk: &'n Desk, tells: bool) -> Result<Self, Refusal> {
        let path = trim(&root.path);
        let prefix = if root.contents { b"" } else { split(path).1 };
        let failed = |errno| Refusal::NoSource(format!("{}: {}", show(path), describe(errno)));
        let pin = root.pin;
        let root = open_directory_path(path, Follow::Yes).map_err(failed)?;
        let id = sys::stat_fd(root.as_fd()).map_err(failed)?.id;
        if pin.is_some_and(|pin| pin != id) {
            return Err(Refusal::NoSource(format!("{}: it was replaced meanwhile", show(path))));
        }
        let mut directories = Vec::new();
        let mut waiting = vec![(Vec::new(), list.root())];
        while let Some((directory, level)) = waiting.pop() {
            let mut names = Vec::new();
            for child in list.children(level) {
                if child.listed {
                    names.push(child.name.to_vec());
                } else {
                    waiting.push((join(&directory, child.name), child.below));
                }
            }
            if !names.is_empty() {
                directories.push((directory, names));
            }
        }
        Ok(Self {
            desk,
            root,
            path,
            prefix,
            tells,
            directories,
        })
    }

    /// The mount that the root lies on.
    pub fn mount(&self) -> sys::Result<u64> {
        sys::stat_mounted(self.root.as_fd()).map(|(_, mount)| mount)
    }

    /// A name that can't be had: it counts as found, and as failed.
    fn missing(&self, path: Vec<u8>, operation: Operation, errno: Errno) {
        if !self.tells {
            return;
        }
        let fault = Fault::new(operation, Side::Source, errno).of_named();
        let counters = &self.desk.counters[0];
        counters.found(Kind::File);
        counters.outcome(Kind::File, fault.outcome(), None, 0);
        self.desk.fail(Failure::new(&fault, path, Kind::File, None));
    }
}

impl Parts for Named<'_> {
    fn count(&self) -> usize {
        self.directories.len()
    }

    fn open(&self, index: usize) -> Option<Part> {
        let (directory, names) = &self.directories[index];
        let path = join(self.path, directory);
        let opened = if directory.is_empty() {
            sys::open_directory(self.root.as_fd(), c".", Follow::No)
        } else {
            open_beneath(&self.root, directory, false)
        };
        let opened = opened.and_then(|fd| Ok((sys::stat_fd(fd.as_fd())?, fd)));
        let (stat, fd) = match opened {
            Ok(opened) => opened,
            Err(errno) => {
                for name in names {
                    self.missing(join(&path, name), Operation::Open, errno);
                }
                return None;
            }
        };
        let mut batch = Batch::default();
        for name in names {
            let looked = c_string(name).and_then(|name| Ok((sys::stat(fd.as_fd(), &name, Follow::No)?, name)));
            match looked {
                Ok((stat, name)) => batch.push(&name, stat.kind),
                Err(errno) => self.missing(join(&path, name), Operation::Stat, errno),
            }
        }
        Some(Part {
            fd: Arc::new(fd),
            stat,
            mount: 0,
            side: Side::Source,
            path,
            relative_path: join(self.prefix, directory),
            twins: Vec::new(),
            entries: vec![batch],
        })
    }
}
