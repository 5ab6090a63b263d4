//! Descriptors of directories: how many may be open, and which can be found again.
//!
//! Comes in: open directories; goes out: the same for as long as there is room for them. One that was closed for others is
//! opened again by whoever knows its way, and only as the inode that it was.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Identity, OwnedFd};

use crate::tree::path::open_directory_path;

/// Descriptors that each worker may need at once beside directories: two files and two nodes.
pub const DESCRIPTORS_PER_WORKER: u64 = 4;

/// Descriptors that the rest of the process needs: Node.js, logs, standard streams.
pub const DESCRIPTORS_ELSEWHERE: u64 = 24;

/// Descriptors without which nothing can be done: one worker, and a way down in a source and in a destination.
const FEWEST: usize = 12;

/// Whether as few descriptors can be had as anything takes. Says so beforehand, in the place of a failure an entry.
pub fn require_some() -> sys::Result<()> {
    let first = open_directory_path(b"/", sys::Follow::Yes)?;
    let mut more = Vec::with_capacity(FEWEST);
    while more.len() < FEWEST {
        more.push(sys::duplicate(first.as_fd())?);
    }
    Ok(())
}

/// How many directories may be open, and how many are.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    open: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` descriptors.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            open: AtomicUsize::new(0),
        }
    }

    /// Shares out what this process may have open: half of it for directories, the rest for `workers` at most. Answers the
    /// budget, the workers that the rest is enough for, and how many times a worker has what it needs for its files.
    pub fn share(workers: usize) -> (Arc<Self>, usize, usize) {
        let limit = sys::descriptor_limit();
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let sets = number(limit.saturating_sub(limit / 2 + DESCRIPTORS_ELSEWHERE) / DESCRIPTORS_PER_WORKER);
        // Few descriptors mean few workers: each needs some for its files.
        let workers = workers.min(sets.max(1));
        (Arc::new(Self::new(number(limit / 2))), workers, (sets / workers).max(1))
    }

    /// Whether more is open than should be.
    pub fn exceeded(&self) -> bool {
        self.open.load(Ordering::Relaxed) > self.limit
    }
}

/// A place for a descriptor that may be closed and opened again.
#[derive(Debug)]
pub struct Slot {
    held: Mutex<Held>,
    budget: Arc<Budget>,
}

#[derive(Debug)]
struct Held {
    fd: Option<Arc<OwnedFd>>,
    id: Identity,
    /// Its directory is done: what is opened again for a link is not kept.
    retired: bool,
}

impl Slot {
    /// Takes a descriptor in and counts it.
    pub fn new(fd: impl Into<Arc<OwnedFd>>, id: Identity, budget: &Arc<Budget>) -> Self {
        budget.open.fetch_add(1, Ordering::Relaxed);
        Self {
            held: Mutex::new(Held {
                fd: Some(fd.into()),
                id,
                retired: false,
            }),
            budget: Arc::clone(budget),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The inode that the descriptor leads to.
    pub fn id(&self) -> Identity {
        self.held().id
    }

    /// The descriptor, where it is open.
    pub fn current(&self) -> Option<Arc<OwnedFd>> {
        self.held().fd.clone()
    }

    /// Takes a descriptor in that was opened again.
    pub fn restore(&self, fd: Arc<OwnedFd>) {
        let mut held = self.held();
        if held.fd.is_none() && !held.retired {
            self.budget.open.fetch_add(1, Ordering::Relaxed);
            held.fd = Some(fd);
        }
    }

    /// Another directory takes the place: its descriptor and inode.
    pub fn replace(&self, fd: OwnedFd, id: Identity) {
        let mut held = self.held();
        if held.fd.is_none() {
            self.budget.open.fetch_add(1, Ordering::Relaxed);
        }
        held.fd = Some(Arc::new(fd));
        held.id = id;
    }

    /// Closes it for good.
    pub fn retire(&self) {
        self.held().retired = true;
        self.release();
    }

    /// Closes it for now; answers whether it was open.
    pub fn release(&self) -> bool {
        let open = self.held().fd.take().is_some();
        if open {
            self.budget.open.fetch_sub(1, Ordering::Relaxed);
        }
        open
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.release();
    }
}

/// Checks that a directory found again is the one that was left.
pub fn reopened(slot: &Slot, fd: OwnedFd) -> sys::Result<Arc<OwnedFd>> {
    if sys::stat_fd(fd.as_fd())?.id == slot.id() {
        Ok(Arc::new(fd))
    } else {
        Err(Errno::STALE)
    }
}
