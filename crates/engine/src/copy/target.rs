//! One destination of a copy as a whole: its room, and what came of what was to be made in it.
//!
//! Comes in: what is about to be written; goes out: whether it is full, and what else is known of an error there.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bulkhaul_formats::units;
use bulkhaul_sys::{AsFd, Capacity, Errno, OwnedFd, Quota};

use crate::copy::dir::Tries;
use crate::job::desk::Desk;
use crate::tree::full;
use crate::tree::times::Clock;

/// One destination as a whole.
pub struct Target {
    /// Its path as given.
    pub path: Vec<u8>,
    /// Descriptor for `syncfs`, opened before the first write so that it sees every error.
    pub file_system: Option<OwnedFd>,
    /// It was synced in the beginning: what was there is on the medium.
    pub synced: bool,
    /// Free space when the run began.
    pub capacity: Option<Capacity>,
    /// What came of what was to be made in it.
    pub tries: Tries,
    pub(crate) reserved: AtomicU64,
    pub(crate) reserved_inodes: AtomicU64,
    /// Bytes that files will take which are to come here.
    promised: AtomicU64,
    /// Directories that a dry run would make.
    pub directories: AtomicU64,
    pub(crate) full: AtomicBool,
    /// What it keeps of times.
    pub clock: Arc<Clock>,
}

impl Target {
    /// A destination that nothing was written to yet. `parents`: directories that lead to it and are missing.
    pub fn new(path: Vec<u8>, file_system: Option<OwnedFd>, capacity: Option<Capacity>, parents: usize) -> Self {
        Self {
            path,
            file_system,
            synced: false,
            capacity,
            tries: Tries::default(),
            reserved: AtomicU64::new(0),
            reserved_inodes: AtomicU64::new(0),
            promised: AtomicU64::new(0),
            directories: AtomicU64::new(parents as u64),
            full: AtomicBool::new(false),
            clock: Arc::default(),
        }
    }

    /// Whether it has run full and others may have room.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// It has run full.
    pub fn fill(&self) {
        self.full.store(true, Ordering::Relaxed);
    }

    /// Keeps room for a file that is to come here.
    pub fn promise(&self, bytes: u64) {
        self.promised.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A file comes that room was kept for.
    pub fn redeem(&self, bytes: u64) {
        let less = |promised: u64| Some(promised.saturating_sub(bytes));
        let _was = self.promised.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Whether so many bytes more have room beside what has come and what is to come; where nobody knows, they have.
    pub fn holds(&self, bytes: u64) -> bool {
        let taken = self.reserved.load(Ordering::Relaxed);
        let wanted = taken
            .saturating_add(self.promised.load(Ordering::Relaxed))
            .saturating_add(bytes);
        let inodes = self.reserved_inodes.load(Ordering::Relaxed);
        self.capacity
            .is_none_or(|capacity| wanted <= capacity.free_bytes && inodes < capacity.free_inodes)
    }

    /// Counts an entry that it will have to hold; says so once when that is more than it had room for.
    pub fn reserve(&self, bytes: u64, desk: &Desk) {
        let bytes = self.reserved.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let Some(capacity) = self.capacity else { return };
        let inodes = self.reserved_inodes.fetch_add(1, Ordering::Relaxed) + 1;
        let free = if bytes > capacity.free_bytes {
            units::bytes(capacity.free_bytes)
        } else if inodes > capacity.free_inodes {
            units::count(capacity.free_inodes, "inode", "inodes")
        } else {
            return;
        };
        desk.note("space", || {
            let message = format!("more has been found to copy than the {free} that were free, quota included");
            (self.path.clone(), message)
        });
    }

    /// Whether more goes to it than `memory` bytes hold: what is cached of it is of no use to anybody.
    pub fn is_crowded(&self, memory: u64) -> bool {
        self.reserved.load(Ordering::Relaxed) > memory
    }

    /// What else is known about an error of an entry of so many bytes in it: whose limit it was, and how much there is.
    pub fn hint(&self, errno: Errno, size: u64) -> Option<String> {
        full::hint(errno, self.file_system.as_ref().map(AsFd::as_fd), &self.path, size)
    }
}

/// Where a destination that did not exist will appear.
pub struct RootPlace {
    /// The directory that holds it.
    pub parent: OwnedFd,
    /// Its name there.
    pub name: CString,
}

/// What there is room for: what is free, and not more than a quota leaves. Some file systems tell no size; then there is
/// nothing to compare with.
pub fn room(capacity: Option<Capacity>, quota: Option<Quota>) -> Option<Capacity> {
    let free = capacity.filter(|c| c.total_bytes > 0)?;
    let quota = quota.unwrap_or(Quota {
        bytes_left: u64::MAX,
        inodes_left: u64::MAX,
    });
    Some(Capacity {
        free_bytes: free.free_bytes.min(quota.bytes_left),
        free_inodes: free.free_inodes.min(quota.inodes_left),
        ..free
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_is_no_room_for_others() {
        let capacity = Capacity {
            free_bytes: 100,
            free_inodes: 9,
            total_bytes: 200,
        };
        let target = Target::new(Vec::new(), None, Some(capacity), 0);
        assert!(target.holds(100) && !target.holds(101));
        target.promise(60);
        assert!(target.holds(40) && !target.holds(41));
        target.redeem(60);
        assert!(target.holds(100));
        target.redeem(1);
        assert!(target.holds(100) && !target.holds(101));
        assert!(Target::new(Vec::new(), None, None, 0).holds(u64::MAX));
    }

    #[test]
    fn room_is_what_is_free_within_the_quota() {
        let disk = |free_bytes, total_bytes| Capacity {
            free_bytes,
            free_inodes: 9,
            total_bytes,
        };
        let left = |bytes_left| {
            Some(Quota {
                bytes_left,
                inodes_left: 4,
            })
        };
        let free = |room: Option<Capacity>| room.map(|c| (c.free_bytes, c.free_inodes));
        assert_eq!(free(room(Some(disk(100, 200)), None)), Some((100, 9)));
        assert_eq!(free(room(Some(disk(100, 200)), left(50))), Some((50, 4)));
        assert_eq!(free(room(Some(disk(100, 200)), left(u64::MAX))), Some((100, 4)));
        assert_eq!(free(room(Some(disk(0, 0)), left(50))), None);
        assert_eq!(free(room(None, left(50))), None);
    }
}
