//! Hard links within a run: which file of the destination stands for which inode of the source.
//!
//! Only entries with more than one link come here, of any kind but directories. The first worker to claim an inode copies
//! it; who comes later waits for that copy, which is under way and waits for nobody, and links to it. An inode whose links
//! have all been seen is forgotten. Views of several file systems (overlays, FUSE) give one inode number to different files:
//! names belong together only where size, mode, owner and both times of change agree too, to the nanosecond, and where
//! content is to be proved, that as well. Past a number of inodes, those whose copy is complete go to a file ([`spill`]), and so does nothing that
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

use bulkhaul_formats::digest::xxh64;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Identity, Kind, OwnedFd, Stat};

use self::spill::{Spill, Whereabouts};
use crate::copy::Run;
use crate::copy::act::file::{self, Source};
use crate::copy::act::{self, Entry};
use crate::copy::dir::{Dir, Presence};
use crate::copy::options::Rules;
use crate::copy::worker::{Done, Worker};
use crate::entry::{Changes, Outcome, Reason};
use crate::error::{Cause, Fault, Operation, Side, Stopped, describe};
use crate::tree::path::{join, open_beneath, split};
use crate::tree::staging::Staging;

/// What a file of the source is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Original {
    id: Identity,
    /// A digest of what all its names show.
    facts: u64,
}

impl From<&Stat> for Original {
    fn from(stat: &Stat) -> Self {
        let ids = [stat.kind as u32, stat.mode, stat.uid, stat.gid].map(u64::from);
        let times = [stat.mtime, stat.ctime].map(|time| [time.sec.cast_unsigned(), time.nsec.into()]);
        let facts = [&ids[..], times.as_flattened(), &[stat.size, stat.rdev]].concat();
        let bytes: Vec<_> = facts.into_iter().flat_map(u64::to_le_bytes).collect();
        Self {
            id: stat.id,
            facts: xxh64(&bytes),
        }
    }
}

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
    root: Arc<Dir>,
    /// Inodes in memory at most, beside those that are being copied.
    limit: usize,
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
    fn claim(&self, of: Original, nlink: u32) -> (Claim, sys::Result<()>) {
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
    fn claim_anew(&self, of: Original, nlink: u32) {
        let (state, left) = (State::Copying, nlink.saturating_sub(1));
        self.known().inodes.insert(of, Inode { state, left });
    }

    /// Another name of the inode is done with.
    fn seen(&self, of: Original) -> sys::Result<()> {
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
    /// The run in which it was claimed.
    pub run: &'r Run,
    /// The file, while the claim holds.
    pub of: Option<Original>,
}

impl Claimed<'_> {
    /// Leaves the inode to the next.
    pub fn give_up(&mut self) {
        if let Some(of) = self.of.take() {
            self.run.links.failed(of);
        }
    }

    /// What is copied is this by now: who waits for the old one must copy it.
    pub fn becomes(&mut self, now: &Stat) {
        let now = Original::from(now);
        if let Some(of) = self.of.filter(|of| *of != now) {
            self.of = self.run.links.becomes(of, now).then_some(now);
        }
    }

    /// The copy is complete.
    pub fn settle(&mut self, location: Location) {
        if let Some(of) = self.of.take() {
            spilled(self.run, self.run.links.ready(of, location));
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

/// An entry with several links: made a link to the first copy of its file, or `claimed`, to be copied. Waits while
/// another worker copies it.
pub fn link_or_claim(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    source: Source<'_>,
    stat: &Stat,
    there: &[(usize, Option<Stat>)],
    claimed: &mut Claimed<'_>,
) -> Result<Option<Done>, Stopped> {
    // Nobody may wait for a file that waits here for its sync.
    file::flush(worker);
    let of = Original::from(stat);
    let links = &worker.run.links;
    let (claim, spill) = links.claim(of, stat.nlink);
    spilled(worker.run, spill);
    let Claim::Link(first) = claim else {
        claimed.of = Some(of);
        return Ok(None);
    };
    let linked = link(worker, entry, source, stat, there, &first)?;
    if linked.is_some() {
        spilled(worker.run, links.seen(of));
    } else {
        // The next ones link to what is copied now.
        links.claim_anew(of, stat.nlink);
        claimed.of = Some(of);
        worker.run.desk.note("hard-link-copied", || {
            let path = join(&entry.dir.source_path(entry.source), entry.target.to_bytes());
            (path, "could not be made a hard link, and was copied".into())
        });
    }
    Ok(linked)
}

/// The directory that holds the first copy. `None`: it is not there any more.
fn directory_of(worker: &Worker<'_>, first: &First) -> Result<Option<Arc<OwnedFd>>, Fault> {
    let index = first.destination();
    let there = match first {
        First::Near(location) => return act::twin(&location.dir, index).map(|(_, fd)| Some(fd)),
        First::Far(there) => there,
    };
    let (_, base) = act::twin(&worker.run.links.root, index)?;
    let fault = |operation, errno| Fault::new(operation, Side::Destination(index), errno);
    let mut paths = vec![there.directory.clone()];
    if !there.staging.is_empty() {
        // First: it may get its final name meanwhile, but not lose it.
        paths.insert(0, join(split(&there.directory).0, &there.staging));
    }
    for path in paths {
        let follow = worker.run.rules.keep_dirlinks;
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
fn link(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    source: Source<'_>,
    stat: &Stat,
    there: &[(usize, Option<Stat>)],
    first: &First,
) -> Result<Option<Done>, Stopped> {
    let (index, id) = (first.destination(), first.id());
    let existing = there.iter().find(|(i, _)| *i == index).and_then(|(_, s)| s.as_ref());
    if existing.is_some_and(|existing| existing.kind == Kind::Directory) {
        return Err(Fault::conflict(Operation::Link, index, "a directory is in the way").into());
    }
    let unchanged = Done {
        size: stat.size,
        ..Done::skipped(Reason::Unchanged)
    }
    .at(index);
    let is_linked = existing.is_some_and(|existing| existing.id == id);
    if !is_linked {
        act::permit(entry.dir, index, Operation::Link, existing)?;
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
    let rules = &worker.run.rules;
    if rules.dry_run {
        return Ok(Some(if is_linked { unchanged } else { done }));
    }
    let compares = stat.kind == Kind::File && (rules.verify || rules.remove_sources);
    if let Some(existing) = existing.filter(|_| is_linked) {
        act::take_over(entry, index, existing)?;
        if !compares {
            return Ok(Some(unchanged));
        }
    }
    if !there.iter().any(|(i, _)| *i == index) {
        return Ok(None);
    }
    let Some(from) = directory_of(worker, first)? else {
        return Ok(None);
    };
    if compares {
        let copy = file::same_content(worker, source, stat, (&from, first.name()), index)?;
        if !copy.is_some_and(|copy| sys::stat_fd(copy.as_fd()).is_ok_and(|copy| copy.id == id)) {
            return Ok(None);
        }
    }
    if is_linked {
        return Ok(Some(unchanged));
    }
    let made = act::make(worker, entry, index, Operation::Link, |fd, name| {
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
    let (_, fd) = act::twin(entry.dir, index)?;
    let name = staging.as_ref().map_or(entry.target, Staging::as_c_str);
    // Its name may have been exchanged: what was linked is looked at, not what was meant.
    let made = sys::stat(fd.as_fd(), name, Follow::No);
    if !made.is_ok_and(|made| made.id == id) {
        act::discard(worker, entry.dir, index, entry.target, staging.as_ref());
        made.map_err(|e| Fault::new(Operation::Stat, Side::Destination(index), e))?;
        return Ok(None);
    }
    if let Some(staging) = &staging {
        let published = act::publish(entry.dir, index, staging, entry.target, existing.is_some());
        // A rename between two links of one inode does nothing and leaves both.
        act::discard(worker, entry.dir, index, entry.target, Some(staging));
        published?;
    }
    Ok(Some(done))
}
