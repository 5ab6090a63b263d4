//! Hard links within a run: which file of the destination stands for which inode of the source.
//!
//! Comes in: inodes of the source, as their names are found; goes out, for each: that it is to be copied, or where its copy is.
//!
//! Only entries with more than one link come here, of any kind but directories. The first worker to claim an inode copies
//! it; who comes later waits for that copy, which is under way and waits for nobody, and links to it. An inode whose links
//! have all been seen is forgotten. Views of several file systems (overlays, FUSE) give one inode number to different files:
//! names belong together only where size, mode, owner and both times of change agree too, to the nanosecond, and where
//! content is to be proved, that as well. Past a number of inodes, those whose copy is complete go to a file
//! (`links/spill.rs`), and so does nothing that keeps a directory: their copies are found again by path, below the
//! destination and through no symlink.
//!
//! Whatever was exchanged meanwhile, only a link to the very inode that this run copied stays: it is looked at after it was
//! made, and taken back if it leads to another. Where no link can be made, the file is copied again, and is the one to
//! link to from then on. A spill file that fails costs memory or links, never content, and a note says so.

mod spill;

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bulkhaul_sys::{self as sys, Identity};

use self::spill::{Spill, Whereabouts};
use crate::copy::dir::{Dir, Presence};
use crate::copy::entry::Original;
use crate::copy::options::Rules;
use crate::error::describe;
use crate::job::desk::Desk;
use crate::tree::path::join;

/// Where a file of the destination is.
#[derive(Clone)]
pub struct Location {
    /// Its directory.
    pub dir: Arc<Dir>,
    /// Which destination.
    pub destination: usize,
    /// Its name.
    pub name: CString,
    /// Its inode, to tell whether another name is a link to it already.
    pub id: Identity,
}

/// A copy that can be linked to.
pub enum First {
    /// Its directory is in memory.
    Near(Location),
    /// It was read from the spill file.
    Far(Whereabouts),
}

enum State {
    Copying,
    Ready(Location),
}

struct Inode {
    state: State,
    /// Links of the source that have not been seen.
    left: u32,
}

/// What to do with an entry that has several links.
pub enum Claim {
    /// Copy it, then say where it is with [`Claimed::settle`].
    First,
    /// Link to this.
    Link(First),
}

/// The inodes of a run with more than one link.
pub struct Links {
    /// The root of the run: what was spilled is found from here.
    pub(crate) root: Arc<Dir>,
    /// Inodes in memory at most, beside those that are being copied.
    limit: usize,
    /// Where the spill file is.
    directory: Vec<u8>,
    known: Mutex<Known>,
    settled: Condvar,
}

struct Known {
    inodes: HashMap<Original, Inode>,
    /// Where the spill file is to be made, while it has not been tried.
    spill_directory: Option<Vec<u8>>,
    spill: Option<Spill>,
    /// It takes no more.
    full: bool,
}

impl Known {
    /// Writes every inode whose copy is complete to the spill file. On an error what was not written stays in memory, and
    /// so does what comes.
    fn spill(&mut self) -> sys::Result<()> {
        if let Some(directory) = self.spill_directory.take() {
            self.spill = Some(Spill::create(&directory)?);
        }
        let Some(spill) = self.spill.as_mut().filter(|_| !self.full) else {
            return Ok(());
        };
        let ready = |(of, inode): (&Original, &Inode)| match &inode.state {
            State::Ready(location) => Some((location.clone(), *of, inode.left)),
            State::Copying => None,
        };
        let mut out: Vec<_> = self.inodes.iter().filter_map(ready).collect();
        out.sort_by_key(|(location, ..)| (Arc::as_ptr(&location.dir), location.destination));
        let mut written: Option<(Location, u64)> = None;
        for (location, of, left) in out {
            let same = |(last, _): &&(Location, u64)| {
                Arc::ptr_eq(&last.dir, &location.dir) && last.destination == location.destination
            };
            let result = match written.as_ref().filter(same) {
                Some((_, directory)) => Ok(*directory),
                None => spill.directory(&location.dir.relative_path(), &location.staging()),
            }
            .and_then(|directory| {
                spill.insert(of, left, directory, location.destination, &location.name, location.id)?;
                Ok(directory)
            });
            match result {
                Ok(directory) => written = Some((location, directory)),
                Err(errno) => {
                    self.full = true;
                    return Err(errno);
                }
            }
            self.inodes.remove(&of);
        }
        Ok(())
    }
}

impl Location {
    /// The name that its directory has until it is published; empty once it is.
    fn staging(&self) -> Vec<u8> {
        match &self.dir.twins[self.destination] {
            Some(twin) if !twin.published.load(Ordering::Acquire) && self.dir.parent.is_some() => {
                match &twin.presence {
                    Presence::Staged(staging) => staging.as_c_str().to_bytes().to_vec(),
                    _ => Vec::new(),
                }
            }
            _ => Vec::new(),
        }
    }
}

impl First {
    pub(crate) fn destination(&self) -> usize {
        match self {
            Self::Near(location) => location.destination,
            Self::Far(there) => there.destination,
        }
    }

    pub(crate) fn name(&self) -> &CStr {
        match self {
            Self::Near(location) => &location.name,
            Self::Far(there) => &there.name,
        }
    }

    pub(crate) fn id(&self) -> Identity {
        match self {
            Self::Near(location) => location.id,
            Self::Far(there) => there.id,
        }
    }

    /// Below the destination.
    pub(crate) fn path(&self) -> Vec<u8> {
        match self {
            Self::Near(location) => join(&location.dir.relative_path(), location.name.to_bytes()),
            Self::Far(there) => join(&there.directory, there.name.to_bytes()),
        }
    }
}

impl Links {
    /// For a run with this root.
    pub fn new(rules: &Rules, root: Arc<Dir>) -> Self {
        Self {
            root,
            limit: rules.asked.links_in_memory,
            directory: rules.asked.spill_directory.clone().unwrap_or_default(),
            known: Mutex::new(Known {
                inodes: HashMap::new(),
                spill_directory: rules.asked.spill_directory.clone(),
                spill: None,
                full: false,
            }),
            settled: Condvar::new(),
        }
    }

    /// Says that the spill file failed, if it did.
    pub fn note(&self, desk: &Desk, result: sys::Result<()>) {
        if let Err(errno) = result {
            desk.note("hard-links", || {
                let message = format!(
                    "the file for what is known of hard links failed: {}; some stay in memory, and some may be copied instead",
                    describe(errno)
                );
                (self.directory.clone(), message)
            });
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims an inode with `nlink` links; waits while another worker copies it. The error is that of the spill file: the
    /// inode may have been in it.
    pub(crate) fn claim(&self, of: Original, nlink: u32) -> (Claim, sys::Result<()>) {
        let mut known = self.known();
        loop {
            match known.inodes.get(&of).map(|inode| &inode.state) {
                Some(State::Ready(location)) => return (Claim::Link(First::Near(location.clone())), Ok(())),
                Some(State::Copying) => {
                    known = self.settled.wait(known).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                None => {}
            }
            let spilled = known.spill.as_ref().map_or(Ok(None), |spill| spill.find(of));
            if let Ok(Some(there)) = spilled {
                return (Claim::Link(First::Far(there)), Ok(()));
            }
            let (state, left) = (State::Copying, nlink.saturating_sub(1));
            known.inodes.insert(of, Inode { state, left });
            return (Claim::First, spilled.map(drop));
        }
    }

    /// Claims an inode that cannot be linked to.
    pub(crate) fn claim_anew(&self, of: Original, nlink: u32) {
        let (state, left) = (State::Copying, nlink.saturating_sub(1));
        self.known().inodes.insert(of, Inode { state, left });
    }

    /// Another name of the inode is done with.
    pub(crate) fn seen(&self, of: Original) -> sys::Result<()> {
        let mut known = self.known();
        let Some(inode) = known.inodes.get_mut(&of) else {
            return known.spill.as_mut().map_or(Ok(()), |spill| spill.seen(of));
        };
        inode.left = inode.left.saturating_sub(1);
        if inode.left == 0 {
            known.inodes.remove(&of);
        }
        Ok(())
    }

    /// The first copy is complete.
    fn ready(&self, of: Original, location: Location) -> sys::Result<()> {
        let mut known = self.known();
        if let Some(inode) = known.inodes.get_mut(&of) {
            inode.state = State::Ready(location);
        }
        self.settled.notify_all();
        if known.inodes.len() > self.limit {
            known.spill()
        } else {
            Ok(())
        }
    }

    /// What is being copied has become another file, or another version. Answers whether it is still to be settled by who
    /// copies it.
    fn becomes(&self, of: Original, now: Original) -> bool {
        let mut known = self.known();
        let inode = known.inodes.remove(&of);
        self.settled.notify_all();
        match inode {
            Some(inode) if !known.inodes.contains_key(&now) => known.inodes.insert(now, inode).is_none(),
            _ => false,
        }
    }

    /// The first copy failed: who comes next is the first.
    fn failed(&self, of: Original) {
        self.known().inodes.remove(&of);
        self.settled.notify_all();
    }
}

/// Holds the claim on an inode with several links; an end without a copy gives it to the next.
pub struct Claimed<'r> {
    links: &'r Links,
    desk: &'r Desk,
    /// The file, while the claim holds.
    pub of: Option<Original>,
}

impl<'r> Claimed<'r> {
    /// Nothing is claimed yet.
    pub fn none(links: &'r Links, desk: &'r Desk) -> Self {
        Self { links, desk, of: None }
    }

    /// Leaves the inode to the next.
    pub fn give_up(&mut self) {
        if let Some(of) = self.of.take() {
            self.links.failed(of);
        }
    }

    /// What is copied is this by now: who waits for the old one must copy it.
    pub fn becomes(&mut self, now: Original) {
        if let Some(of) = self.of.filter(|of| *of != now) {
            self.of = self.links.becomes(of, now).then_some(now);
        }
    }

    /// The copy is complete.
    pub fn settle(&mut self, location: Location) {
        if let Some(of) = self.of.take() {
            self.links.note(self.desk, self.links.ready(of, location));
        }
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        self.give_up();
    }
}
