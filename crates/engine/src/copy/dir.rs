//! What a copy keeps of a directory on its way: its twins in the destinations, and the descriptors to them.
//!
//! A [`Dir`] is a directory of the walk; its sources and its place are the walk's, its twins are reached as if they were
//! its own. Past the budget of descriptors, twins are closed with the sources and, when they are needed again, walked to
//! anew from the nearest open one, name by name, and checked to be the same inode. A staged directory is never closed: its
//! name is not its own yet.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bulkhaul_formats::digest::xxh64;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind, OwnedFd, Stat};

use crate::error::{Fault, Operation, Side};
use crate::tree::descriptors::{Budget, Slot, reopened};
use crate::tree::metadata::Heritage;
use crate::tree::path::open_step;
use crate::tree::spelling::Arrivals;
use crate::tree::staging::{StagedDirectory, Staging};
use crate::walk::node::{Node, Source};

/// Where a destination directory stands.
#[derive(Debug)]
pub enum Presence {
    /// It was there.
    Existing(Stat),
    /// This run makes it; the name it has until it is published.
    Staged(Staging),
    /// Not there, and not to be made: a dry run.
    Imagined,
}

/// What came of all that was to be made in one place.
#[derive(Debug, Default)]
pub struct Tries(AtomicU8);

impl Tries {
    const TRIED: u8 = 1;
    const FAILED: u8 = 2;
    const CAME: u8 = 4;

    /// Every file comes here, and after the first nothing is written: its memory stays shared.
    fn note(&self, what: u8) {
        if self.0.load(Ordering::Relaxed) & what == 0 {
            self.0.fetch_or(what, Ordering::Relaxed);
        }
    }

    /// Something is about to be made.
    pub fn try_one(&self) {
        self.note(Self::TRIED);
    }

    /// Something failed for a reason of the destination.
    pub fn fail(&self) {
        self.note(Self::FAILED);
    }

    /// Something has come.
    pub fn come(&self) {
        self.note(Self::CAME);
    }

    /// Whether they tell if anything can be made here.
    pub fn have_told(&self) -> bool {
        self.0.load(Ordering::Relaxed) & (Self::FAILED | Self::CAME) != 0
    }

    /// Whether something was to be made, and could not be, and nothing has come.
    pub fn are_vain(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::TRIED | Self::FAILED
    }
}

/// What a file system gives to what is made.
#[derive(Clone, Copy, Debug)]
pub struct Created {
    /// Owner and group.
    pub owner: (u32, u32),
    /// A mode of its own, whatever is asked for.
    pub mode: Option<u32>,
}

/// The files that a dead run has left in a directory that nobody sees: what this run does not take for its own, or put something
/// in the place of, may be anything, and goes before the directory has its name. Known by digests of their names; whether one
/// was taken.
#[derive(Debug, Default)]
pub struct Left(OnceLock<Mutex<HashMap<u64, bool>>>);

impl Left {
    fn names(&self) -> Option<MutexGuard<'_, HashMap<u64, bool>>> {
        let names = self.0.get()?;
        Some(names.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// These were found.
    pub fn find(&self, names: impl Iterator<Item = u64>) {
        self.0.get_or_init(Mutex::default);
        if let Some(mut left) = self.names() {
            left.extend(names.map(|name| (name, false)));
        }
    }

    /// Whether what has this name was left, by which it is nobody's.
    pub fn holds(&self, name: &CStr) -> bool {
        self.names()
            .is_some_and(|left| left.contains_key(&xxh64(name.to_bytes())))
    }

    /// What has this name stays.
    pub fn take(&self, name: &CStr) {
        if let Some(mut left) = self.names() {
            left.entry(xxh64(name.to_bytes())).and_modify(|taken| *taken = true);
        }
    }

    /// What has this name is what this run made.
    pub fn forget(&self, name: &CStr) {
        if let Some(mut left) = self.names() {
            left.remove(&xxh64(name.to_bytes()));
        }
    }

    /// Whether one of these names may be of anything; `None`: of any.
    pub fn is_anything(&self, name: Option<&CStr>) -> bool {
        self.names().is_some_and(|left| match name {
            Some(name) => left.get(&xxh64(name.to_bytes())) == Some(&false),
            None => left.values().any(|taken| !taken),
        })
    }
}

/// A directory of a destination tree.
#[derive(Debug)]
pub struct Twin {
    /// Its descriptor; none where it is imagined.
    pub slot: Option<Slot>,
    /// Where it stands.
    pub presence: Presence,
    /// It has its final name.
    pub published: AtomicBool,
    /// Somebody else has made it meanwhile, so that it was not made here: what it held has moved there.
    pub merged: AtomicBool,
    /// What keeps it from being replaced while nothing else is in it: see
    /// [`publish_directory`](crate::tree::publish::publish_directory).
    pub holder: OnceLock<Staging>,
    /// Nothing was in it when it was made, so nothing is looked up.
    pub fresh: bool,
    /// It gets its name before anything comes into it: what is renamed into it exists nowhere else, so it must be found.
    pub shown: bool,
    /// What has its name until it is published, and goes right before.
    pub replaces: Option<Stat>,
    /// What it gives to what is made in it.
    pub heritage: Heritage,
    /// The mode that it had before it was opened to its own owner for the time of the work.
    pub lent: Option<u32>,
    /// Something unfinished could not be taken out of it again: it must not be published.
    pub tainted: AtomicBool,
    /// What new entries get here, seen on the first one.
    pub creates: OnceLock<Created>,
    /// The names of this run that have arrived here.
    pub arrivals: Arrivals,
    /// What a dead run has left here.
    pub left: Left,
    /// What came of what was to be made in it.
    pub tries: Tries,
}

/// A directory that is being copied.
pub type Dir = Node<Twins>;

/// What a copy keeps of a directory.
#[derive(Debug, Default)]
pub struct Twins {
    /// Its twins, one for each destination; `None` where that destination was given up.
    pub twins: Box<[Option<Twin>]>,
    /// Paths of the destinations, for a root.
    pub paths: Vec<Vec<u8>>,
    /// Its entry has an outcome already (it failed).
    pub recorded: AtomicBool,
    /// Something other than directories is in it or below it.
    pub holds: AtomicBool,
    /// Something was renamed out of its sources.
    pub drained: AtomicBool,
    /// Something of it stays in the sources, whatever goes from them.
    pub stays: AtomicBool,
    /// It stands for a source directory that counts as an entry (the root may not).
    pub is_entry: bool,
}

impl Twin {
    /// A directory that a dry run does not make.
    pub fn imagined() -> Self {
        Self {
            slot: None,
            presence: Presence::Imagined,
            published: AtomicBool::new(true),
            merged: AtomicBool::new(false),
            holder: OnceLock::new(),
            fresh: true,
            shown: false,
            replaces: None,
            heritage: Heritage::default(),
            lent: None,
            tainted: AtomicBool::new(false),
            creates: OnceLock::new(),
            arrivals: Arrivals::default(),
            left: Left::default(),
            tries: Tries::default(),
        }
    }

    /// This run has made it, or in a dry run would have.
    pub fn is_made(&self) -> bool {
        !matches!(self.presence, Presence::Existing(_)) && !self.merged.load(Ordering::Acquire)
    }

    /// It has a staging name, so that nobody else sees what is in it.
    pub fn is_hidden(&self) -> bool {
        matches!(self.presence, Presence::Staged(_)) && !self.published.load(Ordering::Acquire)
    }

    /// The device that it lies on; 0 where it is imagined.
    pub fn device(&self) -> u64 {
        self.slot.as_ref().map_or(0, |slot| slot.id().dev)
    }

    /// A directory under its staging name.
    pub fn staged(staged: StagedDirectory, heritage: Heritage, arrivals: Arrivals, budget: &Arc<Budget>) -> Self {
        Self {
            slot: Some(Slot::new(staged.fd, staged.stat.id, budget)),
            presence: Presence::Staged(staged.staging),
            published: AtomicBool::new(false),
            fresh: staged.fresh,
            heritage,
            arrivals,
            ..Self::imagined()
        }
    }
}

/// New twins into which entries of these sources may be renamed are not filled under another name. Several destinations get
/// copies.
pub fn show_what_takes_renamed(twins: &mut [Option<Twin>], sources: &[Source]) {
    let [Some(twin)] = twins else { return };
    let device = twin.device();
    if matches!(twin.presence, Presence::Staged(_)) && sources.iter().any(|source| source.slot.id().dev == device) {
        twin.shown = true;
        twin.fresh = false;
    }
}

impl Twins {
    /// Those of a directory that counts as an entry.
    pub fn of(twins: Vec<Option<Twin>>) -> Self {
        Self {
            twins: twins.into_boxed_slice(),
            is_entry: true,
            ..Self::default()
        }
    }

    /// Those of a root, with their paths. `is_entry`: it stands for a source directory itself.
    pub fn of_root(twins: Vec<Option<Twin>>, paths: Vec<Vec<u8>>, is_entry: bool) -> Self {
        Self {
            paths,
            is_entry,
            ..Self::of(twins)
        }
    }
}

/// A directory with twins.
pub trait Twinned {
    /// Descriptor of twin number `index`; `None` where there is none (a dry run, or a destination given up).
    fn twin(&self, index: usize) -> sys::Result<Option<Arc<OwnedFd>>>;

    /// Twin number `index` with its descriptor, where something is to be written.
    fn writable(&self, index: usize) -> Result<(&Twin, Arc<OwnedFd>), Fault>;

    /// Which of its twins has what a relative link leads to; the first one where none has.
    fn destination_with(&self, text: &CStr) -> sys::Result<usize>;

    /// Full path of twin number `index`.
    fn twin_path(&self, index: usize) -> Vec<u8>;

    /// Closes its twins for now; answers whether any was open. What is staged stays open, and so do the destinations
    /// themselves.
    fn close_twins(&self) -> bool;

    /// Closes its twins: nothing below needs them any more. Those of a root stay open: what is in them may still be linked
    /// to.
    fn retire_twins(&self);

    /// Closes this directory for now: it waits for the end.
    fn put_down(&self);
}

impl Twinned for Dir {
    fn twin(&self, index: usize) -> sys::Result<Option<Arc<OwnedFd>>> {
        let Some(slot) = self.twins[index].as_ref().and_then(|t| t.slot.as_ref()) else {
            return Ok(None);
        };
        if let Some(fd) = slot.current() {
            return Ok(Some(fd));
        }
        let mut steps = vec![(self, slot)];
        let mut at = loop {
            let up = steps[steps.len() - 1].0.parent.as_deref().ok_or(Errno::STALE)?;
            let slot = up.twins[index]
                .as_ref()
                .and_then(|t| t.slot.as_ref())
                .ok_or(Errno::STALE)?;
            if let Some(fd) = slot.current() {
                break fd;
            }
            steps.push((up, slot));
        };
        for (dir, slot) in steps.into_iter().rev() {
            // A kept directory link is found again through the link; the inode check covers both.
            at = reopened(slot, open_step(&at, &dir.name, true)?)?;
        }
        slot.restore(Arc::clone(&at));
        Ok(Some(at))
    }

    fn writable(&self, index: usize) -> Result<(&Twin, Arc<OwnedFd>), Fault> {
        let stale = |e| Fault::new(Operation::Open, Side::Destination(index), e);
        let fd = self.twin(index).map_err(stale)?.ok_or_else(|| stale(Errno::STALE))?;
        let twin = self.twins[index].as_ref().ok_or_else(|| stale(Errno::STALE))?;
        Ok((twin, fd))
    }

    fn destination_with(&self, text: &CStr) -> sys::Result<usize> {
        let mut first = None;
        for index in 0..self.twins.len() {
            let Some(fd) = self.twin(index)? else { continue };
            first = first.or(Some(index));
            if sys::stat(fd.as_fd(), text, Follow::Yes).is_ok_and(|s| s.kind != Kind::Unknown) {
                return Ok(index);
            }
        }
        first.ok_or(Errno::STALE)
    }

    fn twin_path(&self, index: usize) -> Vec<u8> {
        self.path_below(|root| root.paths.get(index).cloned().unwrap_or_default())
    }

    fn close_twins(&self) -> bool {
        let mut closed = false;
        if self.parent.is_some() {
            for twin in self.twins.iter().flatten() {
                if let (Some(slot), true) = (&twin.slot, twin.published.load(Ordering::Acquire)) {
                    closed |= slot.release();
                }
            }
        }
        closed
    }

    fn retire_twins(&self) {
        if self.parent.is_some() {
            let slots = self.twins.iter().flatten().filter_map(|twin| twin.slot.as_ref());
            slots.for_each(Slot::retire);
        }
    }

    fn put_down(&self) {
        self.close();
        self.close_twins();
    }
}
