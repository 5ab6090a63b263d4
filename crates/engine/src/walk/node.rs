//! A directory of a walk: where it hangs, how it is found again, and when it is done.
//!
//! Comes in: a directory that was entered; goes out: its descriptor whenever it is wanted, though it may have been closed meanwhile.

use std::ffi::{CStr, CString};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow, Identity, OwnedFd, Stat};

use crate::error::Side;
use crate::tree::descriptors::{Slot, reopened};
use crate::tree::listing::Names;
use crate::tree::path::{join, trim};
use crate::walk::start::Root;

/// A directory that has been opened.
pub struct Entered<'e, D> {
    /// The directory above it.
    pub parent: &'e Node<D>,
    /// Its name there.
    pub name: &'e CStr,
    /// Its descriptor.
    pub fd: BorrowedFd<'e>,
    /// Its facts.
    pub stat: &'e Stat,
    /// The mount that it lies on.
    pub(crate) mount: u64,
    pub(crate) root: Option<&'e Root>,
}

impl<D> Entered<'_, D> {
    /// Its full path, as the argument was given plus the rest.
    pub fn path(&self) -> Vec<u8> {
        match self.root {
            Some(root) => trim(&root.path).to_vec(),
            None => join(&self.parent.path(), self.name.to_bytes()),
        }
    }

    /// As [`Node::is_subvolume`].
    pub fn is_subvolume(&self) -> bool {
        self.parent.mount == self.mount && self.parent.id().dev != self.stat.id.dev
    }

    /// Its path as [`Node::relative_path`] tells it.
    pub fn relative_path(&self) -> Vec<u8> {
        match self.root {
            Some(root) if root.contents => Vec::new(),
            _ => join(&self.parent.relative_path(), self.name.to_bytes()),
        }
    }
}

/// A directory that is being walked, from when it was entered until its last child is done. Above each root stands the
/// directory that holds it, and above a part its directory, which is no entry, has no data and stays open.
pub struct Node<D> {
    pub(crate) parent: Option<Arc<Node<D>>>,
    pub(crate) name: CString,
    /// Full path of a root and of what holds it.
    pub(crate) path: Option<Vec<u8>>,
    /// What relative paths below it begin with, and its paths in other trees, for the directory of a part.
    pub(crate) elsewhere: Option<Box<Elsewhere>>,
    pub(crate) side: Side,
    /// Its name is no part of relative paths.
    pub(crate) hidden: bool,
    pub(crate) follow: Follow,
    pub(crate) slot: Slot,
    pub(crate) mount: u64,
    pub(crate) below: Mutex<Names>,
    /// Its listing, and children and batches that are not done.
    pub(crate) pending: AtomicUsize,
    pub(crate) data: Option<D>,
}

/// How the directory of a part is known besides its path.
#[derive(Default)]
pub struct Elsewhere {
    pub(crate) relative_path: Vec<u8>,
    pub(crate) twins: Vec<Vec<u8>>,
}

impl<D> Node<D> {
    /// The directory above it; for a root, the one that holds it.
    pub fn parent(&self) -> Option<&Node<D>> {
        self.parent.as_deref()
    }

    /// Its name in the directory above it; empty for what holds a root.
    pub fn name(&self) -> &CStr {
        &self.name
    }

    /// The visitor's; none for what holds a root.
    pub fn data(&self) -> Option<&D> {
        self.data.as_ref()
    }

    /// The tree that it is in.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Its inode.
    pub fn id(&self) -> Identity {
        self.slot.id()
    }

    /// Whether something is mounted here, as seen from the directory above it.
    pub fn is_mount_point(&self, parent: &Node<D>) -> bool {
        parent.mount != self.mount
    }

    /// Whether it has a device number of its own without being mounted: a subvolume of btrfs.
    pub fn is_subvolume(&self, parent: &Node<D>) -> bool {
        !self.is_mount_point(parent) && parent.id().dev != self.id().dev
    }

    /// Its descriptor, opened again where it was closed.
    pub fn descriptor(&self) -> sys::Result<Arc<OwnedFd>> {
        let mut steps = Vec::new();
        let mut node = self;
        let mut at = loop {
            if let Some(fd) = node.slot.current() {
                break fd;
            }
            // What has none above it is never closed.
            let parent = node.parent.as_ref().ok_or(Errno::STALE)?;
            steps.push(node);
            node = parent;
        };
        for node in steps.into_iter().rev() {
            at = reopened(&node.slot, sys::open_directory(at.as_fd(), &node.name, node.follow)?)?;
        }
        self.slot.restore(Arc::clone(&at));
        Ok(at)
    }

    /// Descriptor of the directory above it.
    pub fn parent_descriptor(&self) -> sys::Result<Arc<OwnedFd>> {
        let parent = self.parent.as_deref().ok_or(Errno::STALE)?;
        if let Some(fd) = parent.slot.current() {
            return Ok(fd);
        }
        // One step back, so that a deep tree is left as fast as it was entered; from the top where somebody moved it.
        if let Some(own) = self.slot.current()
            && let Ok(fd) = sys::open_directory(own.as_fd(), c"..", Follow::No)
            && let Ok(fd) = reopened(&parent.slot, fd)
        {
            parent.slot.restore(Arc::clone(&fd));
            return Ok(fd);
        }
        parent.descriptor()
    }

    /// Its full path, as the argument was given plus the rest.
    pub fn path(&self) -> Vec<u8> {
        let mut names = Vec::new();
        let mut node = self;
        let base = loop {
            match (&node.path, &node.parent) {
                (Some(path), _) => break path.clone(),
                (None, Some(parent)) => {
                    names.push(node.name.to_bytes());
                    node = parent;
                }
                (None, None) => break Vec::new(),
            }
        };
        spell(base, &names)
    }

    /// Its path from the directory that holds the root on, or from the root where that stands for its contents; of a part,
    /// what that says and the rest.
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

    pub(crate) fn below(&self) -> std::sync::MutexGuard<'_, Names> {
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
