//! A directory of a walk: its sources, where it hangs, how it is found again, and when it is done.
//!
//! Comes in: a directory that was entered; goes out: the descriptors of its sources whenever they are wanted, though they may
//! have been closed meanwhile, and its paths. A [`Node`] exists from the moment a worker enters it until its last child is
//! done. Everything below it is reached by its descriptors, never by a path. Descriptors have a budget: past it, the
//! directories above the current one are closed and, when they are needed again, walked to anew from the nearest open one,
//! name by name, and checked to be the same inode.

use std::ffi::{CStr, CString};
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow, Identity, OwnedFd, Stat};

use crate::error::Side;
use crate::tree::descriptors::{Slot, reopened};
use crate::tree::path::{join, open_directory_path, trim};
use crate::walk::scope::{Below, Owners, Scope, Subdirectory};
use crate::walk::start::Root;

/// A directory of a tree that is walked.
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
    /// The mount that it lies on, where that is asked for.
    pub mount: u64,
    /// Where it comes from.
    pub origin: Origin,
}

/// How a source is found again.
#[derive(Debug)]
pub enum Origin {
    /// By the path of the argument (as given, without its trailing slashes).
    Path(Vec<u8>),
    /// It is never closed; this is its path.
    Held(Vec<u8>),
    /// By its name in the directory above it, through a symlink where that is followed; this is its path as it was given.
    Argument(Vec<u8>, Follow),
    /// Under its name in source number `parent` of the directory above it.
    Name {
        /// Index of the source in the parent.
        parent: usize,
        /// Its name there, where that is not the one that it gets.
        name: Option<CString>,
    },
}

/// The sources of a directory, at least one: as a rule there is no more.
#[derive(Debug)]
pub struct Sources(Held);

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "as a rule it is the large one")]
enum Held {
    One(Source),
    Many(Box<[Source]>),
}

impl From<Source> for Sources {
    fn from(source: Source) -> Self {
        Self(Held::One(source))
    }
}

impl From<Vec<Source>> for Sources {
    fn from(sources: Vec<Source>) -> Self {
        Self(Held::Many(sources.into_boxed_slice()))
    }
}

impl Deref for Sources {
    type Target = [Source];

    fn deref(&self) -> &[Source] {
        match &self.0 {
            Held::One(source) => std::slice::from_ref(source),
            Held::Many(sources) => sources,
        }
    }
}

/// A directory that has been opened.
pub struct Entered<'e, D> {
    /// The directory above it.
    pub parent: &'e Arc<Node<D>>,
    /// What was to be entered.
    pub sub: &'e Subdirectory,
    /// Its name there.
    pub name: &'e CStr,
    /// Its sources, the one whose entry it is last.
    pub sources: &'e [Source],
    /// The descriptor of that one.
    pub fd: BorrowedFd<'e>,
    /// Its facts.
    pub stat: &'e Stat,
    pub(crate) root: Option<&'e Root>,
}

impl<D> Entered<'_, D> {
    /// Its full path, as the argument was given plus the rest.
    pub fn path(&self) -> Vec<u8> {
        match self.root {
            Some(root) => trim(&root.path).to_vec(),
            None => join(&self.parent.source_path(self.sub.source()), self.name.to_bytes()),
        }
    }

    /// As [`Node::is_subvolume`].
    pub fn is_subvolume(&self) -> bool {
        let above = &self.parent.sources[0];
        let mounted = self.sources.last().is_none_or(|own| own.mount != above.mount);
        !mounted && above.slot.id().dev != self.stat.id.dev
    }

    /// Its path as [`Node::relative_path`] tells it.
    pub fn relative_path(&self) -> Vec<u8> {
        match self.root {
            Some(root) if root.contents => Vec::new(),
            _ => join(&self.parent.relative_path(), self.name.to_bytes()),
        }
    }
}

/// A directory that is being walked; what a visitor keeps of it is reached as if it were the node's own. Above each root
/// stands the directory that holds it, and above a part its directory, which was not entered itself and stays open.
pub struct Node<D> {
    /// The directory above it.
    pub(crate) parent: Option<Arc<Node<D>>>,
    /// The name that it gets there; empty where it has none.
    pub(crate) name: CString,
    /// Its sources, later ones before earlier ones in importance.
    pub(crate) sources: Sources,
    /// What relative paths below it begin with, and its paths in other trees, where nothing is above it.
    pub(crate) elsewhere: Option<Box<Elsewhere>>,
    pub(crate) side: Side,
    /// Its name is no part of relative paths.
    pub(crate) hidden: bool,
    /// The visitor was told of it, and is told when it is done.
    pub(crate) entered: bool,
    /// Which of its sources may have a name; made when that is first asked.
    owners: OnceLock<Owners>,
    /// Batches of its own entries that are not done, plus one while it is being listed.
    pub(crate) own: AtomicUsize,
    /// Children that are not done, plus one until its own entries are.
    pub(crate) pending: AtomicUsize,
    below: Mutex<Below>,
    data: D,
}

/// How a directory that has none above it is known besides its path.
#[derive(Default)]
pub struct Elsewhere {
    pub(crate) relative_path: Vec<u8>,
    pub(crate) twins: Vec<Vec<u8>>,
}

impl<D> Deref for Node<D> {
    type Target = D;

    fn deref(&self) -> &D {
        &self.data
    }
}

impl<D> Node<D> {
    /// Whether what is in it was not found there, but named by arguments.
    pub fn holds_arguments(&self) -> bool {
        self.parent.is_none() && self.elsewhere.is_none() && !self.entered
    }

    /// A directory that has none above it. `entered`: it is walked itself; otherwise only what is put into it.
    pub fn top(sources: Sources, data: D, entered: bool) -> Self {
        Self {
            parent: None,
            name: CString::default(),
            sources,
            elsewhere: None,
            side: Side::Source,
            hidden: true,
            entered,
            owners: OnceLock::new(),
            own: AtomicUsize::new(1),
            pending: AtomicUsize::new(1),
            below: Mutex::default(),
            data,
        }
    }

    /// A subdirectory. `hidden`: its name is no part of relative paths.
    pub fn child(parent: &Arc<Self>, name: CString, sources: Sources, data: D, hidden: bool) -> Arc<Self> {
        Arc::new(Self {
            parent: Some(Arc::clone(parent)),
            name,
            sources,
            elsewhere: None,
            side: parent.side,
            hidden,
            entered: true,
            owners: OnceLock::new(),
            own: AtomicUsize::new(1),
            pending: AtomicUsize::new(1),
            below: Mutex::default(),
            data,
        })
    }

    /// Some of its entries come later, as a batch of their own: it is not done before that is.
    pub fn expects_entries(&self) {
        self.own.fetch_add(1, Ordering::AcqRel);
    }

    /// The directory above it; for a root, the one that holds it.
    pub fn parent(&self) -> Option<&Arc<Node<D>>> {
        self.parent.as_ref()
    }

    /// Its name in the directory above it; empty for what holds a root.
    pub fn name(&self) -> &CStr {
        &self.name
    }

    /// The visitor's; none for what holds a root.
    pub fn data(&self) -> Option<&D> {
        self.entered.then_some(&self.data)
    }

    /// The tree that it is in.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The inode of its first source.
    pub fn id(&self) -> Identity {
        self.sources[0].slot.id()
    }

    /// Whether something is mounted here, as seen from the directory above it.
    pub fn is_mount_point(&self, parent: &Node<D>) -> bool {
        parent.sources[0].mount != self.sources[0].mount
    }

    /// Whether it has a device number of its own without being mounted: a subvolume of btrfs.
    pub fn is_subvolume(&self, parent: &Node<D>) -> bool {
        !self.is_mount_point(parent) && parent.id().dev != self.id().dev
    }

    /// The sources that may have what gets the name `target`, in their order.
    pub fn owners(&self, target: &CStr) -> Vec<usize> {
        let scopes = || self.sources.iter().map(|source| &source.scope);
        self.owners.get_or_init(|| Owners::of(scopes())).of_name(target)
    }

    /// Index of the source whose metadata counts: the last one that stands for the directory itself.
    pub fn winner(&self) -> usize {
        let stands = |source: &Source| !matches!(source.scope, Scope::Names(_));
        self.sources.iter().rposition(stands).unwrap_or(self.sources.len() - 1)
    }

    /// Its descriptor, opened again where it was closed.
    pub fn descriptor(&self) -> sys::Result<Arc<OwnedFd>> {
        self.source(0)
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
        let mut steps = Vec::new();
        let (mut node, mut i) = (self, index);
        let mut at: Arc<OwnedFd> = loop {
            let source = &node.sources[i];
            let above = match &source.origin {
                Origin::Path(path) => break reopened(&source.slot, open_directory_path(path, Follow::Yes)?)?,
                Origin::Held(_) => break source.slot.current().ok_or(Errno::STALE)?,
                Origin::Argument(..) => 0,
                Origin::Name { parent, .. } => *parent,
            };
            let up = node.parent.as_deref().ok_or(Errno::STALE)?;
            steps.push((node, i));
            if let Some(fd) = known(&up.sources[above].slot) {
                break fd;
            }
            (node, i) = (up, above);
        };
        for (node, i) in steps.into_iter().rev() {
            let source = &node.sources[i];
            let follow = match source.origin {
                Origin::Argument(_, follow) => follow,
                _ => Follow::No,
            };
            at = reopened(&source.slot, sys::open_directory(at.as_fd(), node.name_in(i), follow)?)?;
        }
        Ok(at)
    }

    /// Its name in the directory that holds source number `index`.
    pub fn name_in(&self, index: usize) -> &CStr {
        match &self.sources[index].origin {
            Origin::Name { name: Some(name), .. } => name,
            _ => &self.name,
        }
    }

    /// Descriptor of the directory above it.
    pub fn parent_descriptor(&self) -> sys::Result<Arc<OwnedFd>> {
        let parent = self.parent.as_deref().ok_or(Errno::STALE)?;
        let (own, above) = (&self.sources[0].slot, &parent.sources[0].slot);
        if let Some(fd) = above.current() {
            return Ok(fd);
        }
        // One step back, so that a deep tree is left as fast as it was entered; from the top where somebody moved it.
        if let Some(own) = own.current()
            && let Ok(fd) = sys::open_directory(own.as_fd(), c"..", Follow::No)
            && let Ok(fd) = reopened(above, fd)
        {
            above.restore(Arc::clone(&fd));
            return Ok(fd);
        }
        parent.descriptor()
    }

    /// Closes its sources for now; answers whether any was open.
    pub fn close(&self) -> bool {
        let held = |source: &&Source| matches!(source.origin, Origin::Held(_));
        let mut closed = false;
        for source in self.sources.iter().filter(|source| !held(source)) {
            closed |= source.slot.release();
        }
        closed
    }

    /// Closes its sources for good.
    pub(crate) fn retire(&self) {
        self.sources.iter().for_each(|source| source.slot.retire());
    }

    /// Its full path in its first source.
    pub fn path(&self) -> Vec<u8> {
        self.source_path(0)
    }

    /// Full path of source number `index`, as the argument was given plus the rest.
    pub fn source_path(&self, index: usize) -> Vec<u8> {
        let mut names = Vec::new();
        let (mut node, mut i) = (self, index);
        let base = loop {
            match (&node.sources[i].origin, node.parent.as_deref()) {
                (Origin::Path(path) | Origin::Held(path) | Origin::Argument(path, _), _) => break path.clone(),
                (Origin::Name { parent, .. }, up) => {
                    names.push(node.name_in(i).to_bytes());
                    match up {
                        Some(up) => (node, i) = (up, *parent),
                        None => break Vec::new(),
                    }
                }
            }
        };
        spell(base, &names)
    }

    /// Full path of the directory that holds source number `index`, or is it, no more than so many steps below its argument.
    pub fn source_path_above(&self, index: usize, steps: usize) -> Vec<u8> {
        let mut chain = vec![(self, index)];
        let (mut node, mut i) = (self, index);
        while let (Origin::Name { parent, .. }, Some(up)) = (&node.sources[i].origin, node.parent.as_deref()) {
            (node, i) = (up, *parent);
            chain.push((node, i));
        }
        let (node, i) = chain[chain.len().saturating_sub(steps + 1)];
        node.source_path(i)
    }

    /// Full paths in all its sources, that of the winner last.
    pub fn source_paths(&self) -> Vec<Vec<u8>> {
        let winner = self.winner();
        let others = (0..self.sources.len()).filter(|source| *source != winner);
        others.chain([winner]).map(|source| self.source_path(source)).collect()
    }

    /// Its path from the directory that holds the root on, or from the root where that stands for its contents; where the
    /// top says what it begins with, that and the rest.
    pub fn relative_path(&self) -> Vec<u8> {
        let (top, names) = self.names();
        let base = top.elsewhere.as_ref().map(|known| known.relative_path.clone());
        spell(base.unwrap_or_default(), &names)
    }

    /// Its full paths in other trees.
    pub fn twins(&self) -> Vec<Vec<u8>> {
        let (top, names) = self.names();
        let known = top.elsewhere.iter().flat_map(|known| &known.twins);
        known.map(|twin| spell(twin.clone(), &names)).collect()
    }

    /// Its full path in another tree, where the top is at this path.
    pub fn path_below(&self, base: impl FnOnce(&Self) -> Vec<u8>) -> Vec<u8> {
        let (top, names) = self.names();
        spell(base(top), &names)
    }

    /// What stands above it, and the names from it upwards to that.
    fn names(&self) -> (&Self, Vec<&[u8]>) {
        let mut names = Vec::new();
        let mut node = self;
        while let Some(parent) = &node.parent {
            if !node.hidden {
                names.push(node.name.to_bytes());
            }
            node = parent;
        }
        (node, names)
    }

    /// Subdirectories that are still to be entered.
    pub(crate) fn below(&self) -> MutexGuard<'_, Below> {
        self.below.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A path of names that were gathered from below.
fn spell(mut path: Vec<u8>, names: &[&[u8]]) -> Vec<u8> {
    for name in names.iter().rev() {
        if !path.is_empty() && !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(name);
    }
    path
}

impl<D> Drop for Node<D> {
    fn drop(&mut self) {
        // A chain of parents whose last user this was is taken apart in a loop: depth must not become stack.
        let mut next = self.parent.take();
        while let Some(node) = next {
            next = Arc::into_inner(node).and_then(|mut last| last.parent.take());
        }
    }
}
