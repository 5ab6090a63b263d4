//! A directory on its way: its sources, its twins in the destinations, and the descriptors to both.
//!
//! A [`Dir`] exists from the moment a worker enters it until its last child is done. Everything below it is reached by
//! its descriptors, never by a path. Descriptors have a budget: past it, the directories above the current one are
//! closed and, when they are needed again, walked to anew from the nearest open one, name by name, and checked to be the
//! same inode. A staged directory is never closed: its name is not its own yet.

use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind, OwnedFd, Stat};

use crate::error::{Fault, Operation, Side};
use crate::tree::descriptors::{Budget, Slot, reopened};
use crate::tree::metadata::Heritage;
use crate::tree::path::{join, open_directory_path, open_step};
use crate::tree::spelling::Arrivals;
use crate::tree::staging::{StagedDirectory, Staging};
use crate::walk::scope::{Below, Owners, Scope};

/// A directory of a source tree.
#[derive(Debug)]
pub struct Source {
    /// Its descriptor.
    pub slot: Slot,
    /// Its facts when it was entered.
    pub stat: Stat,
    /// What of it is taken.
    pub scope: Scope,
    /// Device that the walk started on.
    pub device: u64,
    /// Where it comes from.
    pub origin: Origin,
}

/// How a source directory is found again.
#[derive(Debug)]
pub enum Origin {
    /// By the path of the argument (as given, without its trailing slashes).
    Path(Vec<u8>),
    /// Under this name in source number `parent` of the parent directory.
    Name {
        /// Index of the source in the parent.
        parent: usize,
        /// Its name there.
        name: CString,
    },
}

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

/// A directory of a destination tree.
#[derive(Debug)]
pub struct Twin {
    /// Its descriptor; none where it is imagined.
    pub slot: Option<Slot>,
    /// Where it stands.
    pub presence: Presence,
    /// It has its final name.
    pub published: AtomicBool,
    /// Nothing was in it when it was made, so nothing is looked up.
    pub fresh: bool,
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
    /// What came of what was to be made in it.
    pub tries: Tries,
}

/// A directory that is being copied.
#[derive(Debug)]
pub struct Dir {
    /// Its parent; none for the root of the run.
    pub parent: Option<Arc<Dir>>,
    /// Path of a root below its destinations: empty, but for what links brought in.
    pub base: Vec<u8>,
    /// Its name in the destination; empty for the root.
    pub name: CString,
    /// Its sources, later ones before earlier ones in importance. At least one.
    pub sources: Box<[Source]>,
    /// Which of its sources may have a name; made when that is first asked.
    pub owners: OnceLock<Owners>,
    /// Its twins, one for each destination; `None` where that destination was given up.
    pub twins: Box<[Option<Twin>]>,
    /// Paths of the destinations, for the root.
    pub destinations: Arc<[Vec<u8>]>,
    /// Own files that are not done, plus one while it is being listed; published at 0.
    pub own: AtomicUsize,
    /// Children that are not done, plus one until it is published; closed at 0.
    pub pending: AtomicUsize,
    /// Names of subdirectories that are still to be entered.
    pub below: Mutex<Below>,
    /// Its entry has an outcome already (it failed).
    pub recorded: AtomicBool,
    /// Something other than directories is in it or below it.
    pub holds: AtomicBool,
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
            fresh: true,
            replaces: None,
            heritage: Heritage::default(),
            lent: None,
            tainted: AtomicBool::new(false),
            creates: OnceLock::new(),
            arrivals: Arrivals::default(),
            tries: Tries::default(),
        }
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

impl Dir {
    /// A root: sources and twins without a parent, with the paths of the twins. `is_entry`: it stands for a source directory
    /// itself.
    pub fn root(sources: Vec<Source>, twins: Vec<Option<Twin>>, paths: Vec<Vec<u8>>, is_entry: bool) -> Self {
        Self::new(sources, twins, paths.into(), is_entry)
    }

    fn new(sources: Vec<Source>, twins: Vec<Option<Twin>>, destinations: Arc<[Vec<u8>]>, is_entry: bool) -> Self {
        Self {
            base: Vec::new(),
            parent: None,
            name: CString::default(),
            is_entry,
            sources: sources.into_boxed_slice(),
            owners: OnceLock::new(),
            twins: twins.into_boxed_slice(),
            destinations,
            own: AtomicUsize::new(1),
            pending: AtomicUsize::new(1),
            below: Mutex::new(Below::default()),
            recorded: AtomicBool::new(false),
            holds: AtomicBool::new(false),
            stays: AtomicBool::new(false),
        }
    }

    /// A subdirectory.
    pub fn child(parent: &Arc<Self>, name: CString, sources: Vec<Source>, twins: Vec<Option<Twin>>) -> Self {
        let mut child = Self::new(sources, twins, Arc::clone(&parent.destinations), true);
        child.parent = Some(Arc::clone(parent));
        child.name = name;
        child
    }

    /// The sources that may have what is `target` in the destination, in their order.
    pub fn owners(&self, target: &CStr) -> Vec<usize> {
        let scopes = || self.sources.iter().map(|source| &source.scope);
        self.owners.get_or_init(|| Owners::of(scopes())).of_name(target)
    }

    /// Descriptor of source number `index`.
    pub fn source(&self, index: usize) -> sys::Result<Arc<OwnedFd>> {
        if let Some(fd) = self.sources[index].slot.current() {
            return Ok(fd);
        }
        let at = self.find_source(index, Slot::current)?;
        self.sources[index].slot.restore(Arc::clone(&at));
        Ok(at)
    }

    /// Finds source number `index` anew by the path of its argument: the path leads to the same directory still.
    pub fn source_anew(&self, index: usize) -> sys::Result<Arc<OwnedFd>> {
        self.find_source(index, |_| None)
    }

    fn find_source(&self, index: usize, known: impl Fn(&Slot) -> Option<Arc<OwnedFd>>) -> sys::Result<Arc<OwnedFd>> {
        // Climb to the nearest open directory, then walk down again, name by name.
        let mut steps = vec![(self, index)];
        let mut at: Arc<OwnedFd> = loop {
            let (dir, i) = steps[steps.len() - 1];
            match &dir.sources[i].origin {
                Origin::Path(path) => {
                    steps.pop();
                    break reopened(&dir.sources[i].slot, open_directory_path(path, Follow::Yes)?)?;
                }
                Origin::Name { parent, .. } => {
                    let up = dir.parent.as_deref().ok_or(Errno::STALE)?;
                    if let Some(fd) = known(&up.sources[*parent].slot) {
                        break fd;
                    }
                    steps.push((up, *parent));
                }
            }
        };
        for (dir, i) in steps.into_iter().rev() {
            if let Origin::Name { name, .. } = &dir.sources[i].origin {
                at = reopened(&dir.sources[i].slot, sys::open_directory(at.as_fd(), name, Follow::No)?)?;
            }
        }
        Ok(at)
    }

    /// Descriptor of twin number `index`; `None` where there is none (a dry run, or a destination given up).
    pub fn twin(&self, index: usize) -> sys::Result<Option<Arc<OwnedFd>>> {
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

    /// Twin number `index` with its descriptor, where something is to be written.
    pub fn writable(&self, index: usize) -> Result<(&Twin, Arc<OwnedFd>), Fault> {
        let stale = |e| Fault::new(Operation::Open, Side::Destination(index), e);
        let fd = self.twin(index).map_err(stale)?.ok_or_else(|| stale(Errno::STALE))?;
        let twin = self.twins[index].as_ref().ok_or_else(|| stale(Errno::STALE))?;
        Ok((twin, fd))
    }

    /// Which of its twins has what a relative link leads to; the first one where none has.
    pub fn destination_with(&self, text: &CStr) -> sys::Result<usize> {
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

    /// Closes what lies above this directory when too much is open; the parent stays, and so does what is staged.
    pub fn relieve(&self, budget: &Budget) {
        if !budget.exceeded() {
            return;
        }
        let mut dir = self.parent.as_deref();
        while let Some(up) = dir.and_then(|d| d.parent.as_deref()) {
            up.let_go(budget);
            dir = Some(up);
        }
    }

    /// Closes this directory for now when too much is open: nothing is left to enter, and what was entered has
    /// descriptors of its own. What is staged stays open, and so do the destinations themselves.
    pub fn let_go(&self, budget: &Budget) {
        if budget.exceeded() {
            self.put_down();
        }
    }

    /// Closes this directory for now: it waits for the end.
    pub fn put_down(&self) {
        for source in &self.sources {
            source.slot.release();
        }
        if self.parent.is_none() {
            return;
        }
        for twin in self.twins.iter().flatten() {
            if let (Some(slot), true) = (&twin.slot, twin.published.load(Ordering::Acquire)) {
                slot.release();
            }
        }
    }

    /// Closes its descriptors: nothing below needs them any more. A root stays open in the destinations: what is in it may
    /// still be linked to.
    pub fn release(&self) {
        for source in &self.sources {
            source.slot.retire();
        }
        if self.parent.is_none() {
            return;
        }
        for slot in self.twins.iter().flatten().filter_map(|t| t.slot.as_ref()) {
            slot.retire();
        }
    }

    /// Index of the source whose metadata counts: the last one that stands for the directory itself.
    pub fn winner(&self) -> usize {
        let stands = |source: &Source| !matches!(source.scope, Scope::Names(_));
        self.sources.iter().rposition(stands).unwrap_or(self.sources.len() - 1)
    }

    /// Full paths in all its sources, that of the winner last.
    pub fn source_paths(&self) -> Vec<Vec<u8>> {
        let winner = self.winner();
        let others = (0..self.sources.len()).filter(|source| *source != winner);
        others.chain([winner]).map(|source| self.source_path(source)).collect()
    }

    /// Names from the root down to this directory.
    fn names(&self) -> Vec<&CStr> {
        let mut names = Vec::new();
        let mut dir = self;
        while let Some(up) = &dir.parent {
            names.push(dir.name.as_c_str());
            dir = up;
        }
        names.reverse();
        names
    }

    /// Path relative to the destination, without a leading slash; empty for the root.
    pub fn relative_path(&self) -> Vec<u8> {
        let mut root = self;
        while let Some(up) = &root.parent {
            root = up;
        }
        let names = self.names();
        names
            .iter()
            .fold(root.base.clone(), |path, name| join(&path, name.to_bytes()))
    }

    /// Full path of source number `index`, as the argument was given plus the rest.
    pub fn source_path(&self, index: usize) -> Vec<u8> {
        let mut names = Vec::new();
        let (mut dir, mut i) = (self, index);
        let base = loop {
            match (&dir.sources[i].origin, dir.parent.as_deref()) {
                (Origin::Name { parent, name }, Some(up)) => {
                    names.push(name.as_bytes());
                    (dir, i) = (up, *parent);
                }
                (Origin::Path(path), _) => break path.clone(),
                (Origin::Name { name, .. }, None) => break name.as_bytes().to_vec(),
            }
        };
        names.iter().rev().fold(base, |path, name| join(&path, name))
    }

    /// Full path of twin number `index`.
    pub fn twin_path(&self, index: usize) -> Vec<u8> {
        let base = self.destinations.get(index).cloned().unwrap_or_default();
        self.names()
            .iter()
            .fold(base, |path, name| join(&path, name.to_bytes()))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // A chain of parents whose last user this was is taken apart in a loop: depth must not become stack.
        let mut next = self.parent.take();
        while let Some(dir) = next {
            next = Arc::into_inner(dir).and_then(|mut last| last.parent.take());
        }
    }
}
