//! The second half of a move as a whole: what it knows, and what it did.
//!
//! Comes in: what failed and what was doubtful in the copy; goes out, from its books: what has gone and what stays. The deeds are
//! [`crate::copy::act::depart`]'s.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bulkhaul_sys::{Identity, Time};

use crate::copy::memory::{Failed, FailedPaths, Restored};
use crate::entry::Outcome;
use crate::report::Withheld;
use crate::report::counters::{Counters, Totals};

/// What a copy may lack, and who moves may accept that.
pub const ITS_TIME: &str = "its time";
/// Locks for inodes with several links: names of one inode are removed one after the other.
const INODE_LOCKS: usize = 64;

/// What a pass over the trees is for.
pub enum Pass {
    /// Everything is copied.
    Copy,
    /// Everything is looked at as if it were copied, and nothing is written.
    Rehearse,
    /// What has arrived goes from the sources, and nothing is written.
    Depart(Departure),
}

impl Pass {
    /// Whether destinations are written.
    pub fn writes(&self) -> bool {
        matches!(self, Self::Copy)
    }

    /// Whether it only shows what would be done.
    pub fn rehearses(&self) -> bool {
        matches!(self, Self::Rehearse)
    }

    /// What the second walk of a move knows, where this is it.
    pub fn departure(&self) -> Option<&Departure> {
        match self {
            Self::Depart(departure) => Some(departure),
            Self::Copy | Self::Rehearse => None,
        }
    }
}

/// What the second walk knows.
pub struct Departure {
    /// When the copy began.
    pub(crate) since: Time,
    failed: FailedPaths,
    /// Something had the name of a source entry before the copy: it may be that entry.
    pub(crate) doubtful: bool,
    /// Inodes of which a name has been removed while others are there, and their change times since then: that change was
    /// ours.
    inodes: Box<[Mutex<HashMap<Identity, Time>>]>,
}

/// This moment.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time {
        sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nsec: since.subsec_nanos(),
    }
}

impl Departure {
    /// After a copy that began at `since`; `None` where too much failed to remember. `doubtful`: something had the name of a
    /// source entry before. `restored`: what was put back.
    pub fn after(since: Time, failed: &Failed, doubtful: bool, restored: &Restored) -> Option<Self> {
        let departure = Self {
            since,
            failed: failed.take()?,
            doubtful,
            inodes: (0..INODE_LOCKS).map(|_| Mutex::default()).collect(),
        };
        for (id, changed) in restored.take() {
            departure.inode(id).insert(id, changed);
        }
        Some(departure)
    }

    /// Whether this did not arrive, or must stay with what did not.
    pub fn has_failed(&self, path: impl FnOnce() -> Vec<u8>) -> bool {
        self.failed.has(path)
    }

    pub(crate) fn inode(&self, id: Identity) -> MutexGuard<'_, HashMap<Identity, Time>> {
        let lock = usize::try_from(id.ino % INODE_LOCKS as u64).unwrap_or_default();
        self.inodes[lock].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a move removed.
#[derive(Default)]
pub struct Departed {
    /// Entries that have gone.
    pub removed: u64,
    /// Entries that stay.
    pub kept: u64,
    /// The walk and its outcomes agree.
    pub accounted: bool,
    /// It was cancelled before it was through.
    pub interrupted: bool,
    /// Why nothing was begun.
    pub withheld: Option<Withheld>,
}

impl Departed {
    /// Nothing was begun.
    pub fn withheld(kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            accounted: true,
            withheld: Some(Withheld {
                kind,
                what: "sources",
                message: message.into(),
            }),
            ..Self::default()
        }
    }

    /// From the books of the copy, with what goes, or in a dry run would.
    pub fn imagined(counters: &[Counters], removed: u64) -> Self {
        let totals = Totals::of(counters);
        let found: u64 = totals.found.iter().sum();
        Self {
            removed,
            kept: found.saturating_sub(removed + totals.outcome_of(Outcome::Renamed)),
            accounted: true,
            ..Self::default()
        }
    }

    /// From the books of the second walk.
    pub fn of(counters: &[Counters], interrupted: bool) -> Self {
        let totals = Totals::of(counters);
        let removed = totals.outcome_of(Outcome::Removed);
        Self {
            removed,
            kept: totals.all_outcomes() - removed,
            accounted: interrupted || totals.all_found() == totals.all_outcomes(),
            interrupted,
            withheld: None,
        }
    }
}
