//! Hard links within a run: which file of the destination stands for which inode of the source.
//!
//! Only files with more than one link come here. The first worker to claim an inode copies it; who comes later waits for
//! that copy, which is under way and waits for nobody, and links to it. An inode whose links have all been seen is
//! forgotten.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bulkhaul_sys::Identity;

use crate::tree::Dir;

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
    /// Copy it, then say where it is with [`Links::ready`] or that it failed with [`Links::failed`].
    First,
    /// Link to this, then say so with [`Links::seen`].
    Link(Location),
}

/// The inodes of this run with more than one link.
#[derive(Default)]
pub struct Links {
    inodes: Mutex<HashMap<Identity, Inode>>,
    settled: Condvar,
}

impl Links {
    /// Claims an inode with `nlink` links; waits while another worker copies it.
    pub fn claim(&self, id: Identity, nlink: u32) -> Claim {
        let mut inodes = self.inodes.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match inodes.get_mut(&id) {
                None => {
                    inodes.insert(
                        id,
                        Inode {
                            state: State::Copying,
                            left: nlink.saturating_sub(1),
                        },
                    );
                    return Claim::First;
                }
                Some(inode) => {
                    if let State::Ready(location) = &inode.state {
                        return Claim::Link(location.clone());
                    }
                }
            }
            inodes = self.settled.wait(inodes).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Another name of the inode is done with.
    pub fn seen(&self, id: Identity) {
        let mut inodes = self.inodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inode) = inodes.get_mut(&id) {
            inode.left = inode.left.saturating_sub(1);
            if inode.left == 0 {
                inodes.remove(&id);
            }
        }
    }

    /// The first copy is complete.
    pub fn ready(&self, id: Identity, location: Location) {
        let mut inodes = self.inodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inode) = inodes.get_mut(&id) {
            inode.state = State::Ready(location);
        }
        self.settled.notify_all();
    }

    /// The first copy failed: who comes next is the first.
    pub fn failed(&self, id: Identity) {
        self.inodes.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        self.settled.notify_all();
    }
}
