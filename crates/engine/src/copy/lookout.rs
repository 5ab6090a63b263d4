//! Whoever looks out for sources among what would go: a directory of a destination may be one, seen from elsewhere
//! (bindfs, overlayfs, mergerfs; sshfs and NFS of the own host), and neither device nor inode tells.
//!
//! Comes in: each name that would go with the sweep, before anything does; goes out: the first that a source would lose.
//! A source can lose an entry only if it has one of that name, and a view shows size and time of what it leads to: where
//! both agree, a file that is made beside the one is looked for beside the other ([`views`]). Nothing is made in a place
//! that only a source leads to. In a dry run, and where no file can be made, the time of the last change decides, which
//! nobody can set: where it is equal, the two are taken for one.
//!
//! A file system of its own (on a disk of this machine, in memory) tells its files apart, and so does any one file system:
//! there, nothing is asked.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhaul_formats::digest::xxh64;
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Follow, Identity, Kind, Node, OwnedFd, Stat};

use crate::copy::dir::Dir;
use crate::copy::run::Run;
use crate::copy::views;
use crate::sweep::sweeper::{Seen, Witness};
use crate::tree::listing::find_name;
use crate::tree::path::{join, show};
use crate::walk::scope::Scope;

/// A source as a whole: the directory that was named, or that holds the entries that were.
struct Source {
    fd: Arc<OwnedFd>,
    path: Vec<u8>,
    /// Digests of the names that it has.
    names: HashSet<u64>,
}

/// The sources that something in a destination may be a view of, or the reverse.
pub struct Lookout<'r> {
    run: &'r Run,
    sources: Vec<Source>,
    /// Directories of a destination, and sources that they turned out not to be.
    others: Mutex<HashSet<(Identity, usize)>>,
}

impl<'r> Lookout<'r> {
    /// For no source yet.
    pub fn new(run: &'r Run) -> Self {
        Self {
            run,
            sources: Vec::new(),
            others: Mutex::default(),
        }
    }

    /// Adds a source of a directory, open, all of which was named, or entries of it.
    pub fn add(&mut self, dir: &Dir, source: usize, fd: Arc<OwnedFd>) -> sys::Result<()> {
        let mut names = HashSet::new();
        if let Scope::Names(named) = &dir.sources[source].scope {
            names.extend(named.0.values().map(|name| xxh64(name.to_bytes())));
        } else {
            find_name(&fd, |name| {
                names.insert(xxh64(name.to_bytes()));
                false
            })?;
        }
        let path = dir.source_path(source);
        self.sources.push(Source { fd, path, names });
        Ok(())
    }

    /// Whether there is any.
    pub fn is_needed(&self) -> bool {
        !self.sources.is_empty()
    }

    fn others(&self) -> MutexGuard<'_, HashSet<(Identity, usize)>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether source number `index` would lose an entry.
    fn would_lose(&self, index: usize, seen: &Seen<'_>) -> bool {
        if self.others().contains(&(seen.directory, index)) {
            return false;
        }
        let source = &self.sources[index];
        let look = |at: BorrowedFd<'_>| sys::stat(at, seen.name, Follow::No);
        // What one of them does not have any more, it can't lose.
        let (Ok(here), Ok(there)) = (look(seen.at), look(source.fd.as_fd())) else {
            return false;
        };
        if !alike(&here, &there) {
            return false;
        }
        let told = if self.run.pass.writes() {
            // One at a time: each puts the directory's time back as it found it.
            let mut others = self.others();
            if others.contains(&(seen.directory, index)) {
                return false;
            }
            let told = self.is_joined(seen.at, source);
            if told == Some(false) {
                others.insert((seen.directory, index));
            }
            told
        } else {
            None
        };
        told.unwrap_or((here.ctime, here.mtime) == (there.ctime, there.mtime))
    }

    /// Whether a directory is a source, seen in another way; it keeps its time. `None`: that can't be told.
    fn is_joined(&self, at: BorrowedFd<'_>, source: &Source) -> Option<bool> {
        let directory = sys::duplicate(at).ok()?;
        let before = sys::stat_fd(at).ok()?;
        let joined = views::joined(self.run.stager, &directory, &source.fd, &self.run.desk)?;
        if sys::set_times(Node::Open(at), None, Some(before.mtime)).is_err() {
            self.run.desk.note("probe-time", || {
                let what =
                    "a file was made here and removed again, and the time of the directory could not be put back";
                (sys::path_of(at).unwrap_or_default(), what.into())
            });
        }
        Some(joined)
    }
}

/// As a view shows what it leads to; some have whole seconds.
fn alike(here: &Stat, there: &Stat) -> bool {
    let size = |stat: &Stat| if stat.kind == Kind::File { stat.size } else { 0 };
    (here.kind, here.mtime.sec, size(here)) == (there.kind, there.mtime.sec, size(there))
}

impl Witness for Lookout<'_> {
    fn see(&self, seen: &Seen<'_>) {
        let digest = xxh64(seen.name.to_bytes());
        for (index, source) in self.sources.iter().enumerate() {
            if source.names.contains(&digest) && self.would_lose(index, seen) {
                let here = join(&(seen.path)(), seen.name.to_bytes());
                let there = join(&source.path, seen.name.to_bytes());
                let (here, there) = (show(&here), show(&there));
                let why = format!("{here} is {there}, seen in another way");
                self.run.surplus.withhold("source-view", why);
            }
        }
    }
}
