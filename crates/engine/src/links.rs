//! Hard links within a run: which file of the destination stands for which inode of the source.
//!
//! Only files with more than one link come here. The first worker to claim an inode copies it; who comes later waits for
//! that copy, which is under way and waits for nobody, and links to it. An inode whose links have all been seen is
//! forgotten. Past a number of inodes, those whose copy is complete go to a file ([`spill`]), and so does nothing that
//! keeps a directory: their copies are found again by path, below the destination and through no symlink.
//!
//! Whatever was exchanged meanwhile, only a link to the very inode that this run copied stays: it is looked at after it was
//! made, and taken back if it leads to another. Where no link can be made, the file is copied again, and is the one to
//! link to from then on. A spill file that fails costs memory or links, never content, and a note says so.

mod spill;

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Identity, Kind, OwnedFd, Stat};

use self::spill::{Spill, Whereabouts};
use crate::act::Entry;
use crate::copy::Run;
use crate::error::{Cause, Fault, Operation, Side, describe};
use crate::event::Changes;
use crate::options::Rules;
use crate::preflight::split;
use crate::publish::{Staging, publish};
use crate::report::{Outcome, Reason};
use crate::transfer::Stopped;
use crate::tree::{Dir, Presence, join, open_beneath};
use crate::worker::{Done, Worker};

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

/// What to do with a file that has several links.
pub enum Claim {
    /// Copy it, then say where it is with [`Claimed::settle`].
    First,
    /// Link to this, then say so with [`Worker::seen`].
    Link(First),
}

/// The inodes of a run with more than one link.
pub struct Links {
    /// The root of the run: what was spilled is found from here.
    root: Arc<Dir>,
    /// Inodes in memory at most, beside those that are being copied.
    limit: usize,
    known: Mutex<Known>,
    settled: Condvar,
}

struct Known {
    inodes: HashMap<Identity, Inode>,
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
        let ready = |(id, inode): (&Identity, &Inode)| match &inode.state {
            State::Ready(location) => Some((location.clone(), *id, inode.left)),
            State::Copying => None,
        };
        let mut out: Vec<_> = self.inodes.iter().filter_map(ready).collect();
        out.sort_by_key(|(location, ..)| (Arc::as_ptr(&location.dir), location.destination));
        let mut written: Option<(Location, u64)> = None;
        for (location, id, left) in out {
            let same = |(last, _): &&(Location, u64)| {
                Arc::ptr_eq(&last.dir, &location.dir) && last.destination == location.destination
            };
            let result = match written.as_ref().filter(same) {
                Some((_, directory)) => Ok(*directory),
                None => spill.directory(&location.dir.relative_path(), &location.staging()),
            }
            .and_then(|directory| {
                spill.insert(id, left, directory, location.destination, &location.name, location.id)?;
                Ok(directory)
            });
            match result {
                Ok(directory) => written = Some((location, directory)),
                Err(errno) => {
                    self.full = true;
                    return Err(errno);
                }
            }
            self.inodes.remove(&id);
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
    fn destination(&self) -> usize {
        match self {
            Self::Near(location) => location.destination,
            Self::Far(there) => there.destination,
        }
    }

    fn name(&self) -> &CStr {
        match self {
            Self::Near(location) => &location.name,
            Self::Far(there) => &there.name,
        }
    }

    fn id(&self) -> Identity {
        match self {
            Self::Near(location) => location.id,
            Self::Far(there) => there.id,
        }
    }

    /// Below the destination.
    fn path(&self) -> Vec<u8> {
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
            limit: rules.links_in_memory,
            known: Mutex::new(Known {
                inodes: HashMap::new(),
                spill_directory: rules.spill_directory.clone(),
                spill: None,
                full: false,
            }),
            settled: Condvar::new(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims an inode with `nlink` links; waits while another worker copies it. The error is that of the spill file: the
    /// inode may have been in it.
    fn claim(&self, id: Identity, nlink: u32) -> (Claim, sys::Result<()>) {
        let mut known = self.known();
        loop {
            match known.inodes.get(&id).map(|inode| &inode.state) {
                Some(State::Ready(location)) => return (Claim::Link(First::Near(location.clone())), Ok(())),
                Some(State::Copying) => {
                    known = self.settled.wait(known).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                None => {}
            }
            let spilled = known.spill.as_ref().map_or(Ok(None), |spill| spill.find(id));
            if let Ok(Some(there)) = spilled {
                return (Claim::Link(First::Far(there)), Ok(()));
            }
            let (state, left) = (State::Copying, nlink.saturating_sub(1));
            known.inodes.insert(id, Inode { state, left });
            return (Claim::First, spilled.map(drop));
        }
    }

    /// Claims an inode that cannot be linked to.
    fn claim_anew(&self, id: Identity, nlink: u32) {
        let (state, left) = (State::Copying, nlink.saturating_sub(1));
        self.known().inodes.insert(id, Inode { state, left });
    }

    /// Another name of the inode is done with.
    fn seen(&self, id: Identity) -> sys::Result<()> {
        let mut known = self.known();
        let Some(inode) = known.inodes.get_mut(&id) else {
            return known.spill.as_mut().map_or(Ok(()), |spill| spill.seen(id));
        };
        inode.left = inode.left.saturating_sub(1);
        if inode.left == 0 {
            known.inodes.remove(&id);
        }
        Ok(())
    }

    /// The first copy is complete.
    fn ready(&self, id: Identity, location: Location) -> sys::Result<()> {
        let mut known = self.known();
        if let Some(inode) = known.inodes.get_mut(&id) {
            inode.state = State::Ready(location);
        }
        self.settled.notify_all();
        if known.inodes.len() > self.limit {
            known.spill()
        } else {
            Ok(())
        }
    }

    /// The first copy failed: who comes next is the first.
    fn failed(&self, id: Identity) {
        self.known().inodes.remove(&id);
        self.settled.notify_all();
    }
}

/// Holds the claim on an inode with several links; an end without a copy gives it to the next.
pub struct Claimed<'r> {
    /// The run in which it was claimed.
    pub run: &'r Run,
    /// The inode, while the claim holds.
    pub id: Option<Identity>,
}

impl Claimed<'_> {
    /// Leaves the inode to the next.
    pub fn give_up(&mut self) {
        if let Some(id) = self.id.take() {
            self.run.links.failed(id);
        }
    }

    /// The copy is complete.
    pub fn settle(&mut self, location: Location) {
        if let Some(id) = self.id.take() {
            spilled(self.run, self.run.links.ready(id, location));
        }
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Says that the spill file failed.
fn spilled(run: &Run, result: sys::Result<()>) {
    if let Err(errno) = result {
        run.desk.note("hard-links", || {
            let directory = run.rules.spill_directory.clone().unwrap_or_default();
            let message = format!(
                "the file for what is known of hard links failed: {}; some stay in memory, and some may be copied instead",
                describe(errno)
            );
            (directory, message)
        });
    }
}

/// Where a file of this run is.
pub fn location(entry: &Entry<'_>, destination: usize, id: Identity) -> Location {
    Location {
        dir: Arc::clone(entry.dir),
        destination,
        name: entry.target.to_owned(),
        id,
    }
}

impl Worker<'_> {
    /// Claims the inode of a file with several links; waits while another worker copies it.
    pub fn claim(&self, stat: &Stat) -> Claim {
        let (claim, spill) = self.run.links.claim(stat.id, stat.nlink);
        spilled(self.run, spill);
        claim
    }

    /// Another name of the inode is done with.
    pub fn seen(&self, stat: &Stat) {
        spilled(self.run, self.run.links.seen(stat.id));
    }

    /// It could not be linked to: it is copied again, for the next ones to link to.
    pub fn claim_anew(&self, entry: &Entry<'_>, stat: &Stat) {
        self.run.links.claim_anew(stat.id, stat.nlink);
        self.run.desk.note("hard-link-copied", || {
            let path = join(&entry.dir.source_path(entry.source), entry.target.to_bytes());
            (path, "could not be made a hard link, and was copied".into())
        });
    }

    /// The directory that holds the first copy. `None`: it is not there any more.
    fn directory_of(&self, first: &First) -> Result<Option<Arc<OwnedFd>>, Fault> {
        let index = first.destination();
        let there = match first {
            First::Near(location) => return Self::twin(&location.dir, index).map(|(_, fd)| Some(fd)),
            First::Far(there) => there,
        };
        let (_, base) = Self::twin(&self.run.links.root, index)?;
        let fault = |operation, errno| Fault::new(operation, Side::Destination(index), errno);
        let mut paths = vec![there.directory.clone()];
        if !there.staging.is_empty() {
            // First: it may get its final name meanwhile, but not lose it.
            paths.insert(0, join(split(&there.directory).0, &there.staging));
        }
        for path in paths {
            let follow = self.run.rules.keep_dirlinks;
            let fd = match open_beneath(&base, &path, follow) {
                Ok(fd) => fd,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(errno) => return Err(fault(Operation::Open, errno)),
            };
            match sys::stat(fd.as_fd(), &there.name, Follow::No) {
                Ok(stat) if stat.id == there.id => return Ok(Some(Arc::new(fd))),
                Ok(_) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(fault(Operation::Stat, errno)),
            }
        }
        Ok(None)
    }

    /// Makes a hard link to the first copy. `None`: that can't be linked to from here, so this one is copied too.
    pub fn link(
        &mut self,
        entry: &Entry<'_>,
        stat: &Stat,
        there: &[(usize, Option<Stat>)],
        first: &First,
    ) -> Result<Option<Done>, Stopped> {
        let (index, id) = (first.destination(), first.id());
        let existing = there.iter().find(|(i, _)| *i == index).and_then(|(_, s)| s.as_ref());
        match existing {
            Some(existing) if existing.id == id && !self.run.rules.dry_run => {
                return Ok(Some(
                    Done {
                        size: stat.size,
                        ..Done::skipped(Reason::Unchanged)
                    }
                    .at(index),
                ));
            }
            Some(existing) if existing.kind == Kind::Directory => {
                return Err(Fault::conflict(Operation::Link, index, "a directory is in the way").into());
            }
            _ => {}
        }
        let changes = if existing.is_some() {
            Changes::CONTENT
        } else {
            Changes::NEW
        };
        let done = Done {
            size: stat.size,
            target: Some(first.path()),
            ..Done::new(Outcome::Linked)
        }
        .with(changes)
        .at(index);
        if self.run.rules.dry_run {
            let same = existing.is_some_and(|e| e.id == id);
            return Ok(Some(if same {
                Done {
                    size: stat.size,
                    ..Done::skipped(Reason::Unchanged)
                }
            } else {
                done
            }));
        }
        if !there.iter().any(|(i, _)| *i == index) {
            return Ok(None);
        }
        let Some(from) = self.directory_of(first)? else {
            return Ok(None);
        };
        let made = self.make(entry, index, Operation::Link, |fd, name| {
            sys::make_link(from.as_fd(), first.name(), fd.as_fd(), name)
        });
        let staging = match made {
            Ok(((), staging)) => staging,
            // Too many links, or no links here at all: a copy keeps the content.
            Err(Fault {
                cause: Cause::Errno(Errno::MLINK | Errno::XDEV | Errno::PERM | Errno::NOTSUP | Errno::NOSYS),
                ..
            }) => {
                return Ok(None);
            }
            // The directory of the first name was merged into another meanwhile: look for it again.
            Err(Fault {
                cause: Cause::Errno(Errno::NOENT),
                ..
            }) => {
                return Err(Fault::new(Operation::Link, Side::Destination(index), Errno::STALE).into());
            }
            Err(fault) => return Err(fault.into()),
        };
        let (_, fd) = Self::twin(entry.dir, index)?;
        let name = staging.as_ref().map_or(entry.target, Staging::as_c_str);
        // Its name may have been exchanged: what was linked is looked at, not what was meant.
        let made = sys::stat(fd.as_fd(), name, Follow::No);
        if !made.is_ok_and(|made| made.id == id) {
            self.discard(entry.dir, index, entry.target, staging.as_ref());
            made.map_err(|e| Fault::new(Operation::Stat, Side::Destination(index), e))?;
            return Ok(None);
        }
        if let Some(staging) = &staging {
            let published = publish(fd.as_fd(), staging, entry.target, existing.is_some(), index);
            // A rename between two links of one inode does nothing and leaves both.
            self.discard(entry.dir, index, entry.target, Some(staging));
            published?;
        }
        Ok(Some(done))
    }
}
