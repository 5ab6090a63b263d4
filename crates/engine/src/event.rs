//! Events leave the engine on the side, through a bounded queue that the consumer empties at its own pace.
//!
//! Counters are not events: they are absolute, and polled. Until a consumer has asked once, events are dropped (failures
//! and notes are in the report anyway); from then on a full queue holds the workers back.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};

use bulkhaul_sys::Kind;

use crate::error::Failure;
use crate::record::Details;
use crate::report::{Note, Outcome, Reason};

/// Events that wait for their reader at most; a few batches, so that neither side stalls at each one.
pub const QUEUE_EVENTS: usize = 8192;
/// Events that one call takes at most.
pub const BATCH_EVENTS: usize = 1024;

/// What differs between source and destination, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes(pub u16);

impl Changes {
    /// It was not there.
    pub const NEW: Self = Self(1);
    /// Content.
    pub const CONTENT: Self = Self(1 << 1);
    /// Size.
    pub const SIZE: Self = Self(1 << 2);
    /// Modification time.
    pub const TIME: Self = Self(1 << 3);
    /// Permission bits.
    pub const MODE: Self = Self(1 << 4);
    /// Owner.
    pub const OWNER: Self = Self(1 << 5);
    /// Group.
    pub const GROUP: Self = Self(1 << 6);
    /// ACL.
    pub const ACL: Self = Self(1 << 7);
    /// Extended attributes.
    pub const XATTR: Self = Self(1 << 8);
    /// A symlink's text or a device's number.
    pub const TARGET: Self = Self(1 << 9);
    /// It is there, and in the source it is not.
    pub const EXTRA: Self = Self(1 << 10);
    /// It is something else.
    pub const KIND: Self = Self(1 << 11);

    /// Names of the bits, in their order.
    pub const NAMES: [&'static str; 12] = [
        "new", "content", "size", "time", "mode", "owner", "group", "acl", "xattr", "target", "extra", "kind",
    ];

    /// Adds bits.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Adds bits on a condition.
    pub fn insert_if(&mut self, condition: bool, other: Self) {
        if condition {
            self.insert(other);
        }
    }

    /// All but these.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of these bits are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing differs.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names of the bits that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .enumerate()
            .filter(move |(bit, _)| self.0 & (1 << bit) != 0)
            .map(|(_, name)| name)
    }
}

/// What became of one entry.
#[derive(Clone, Debug)]
pub struct EntryEvent {
    /// Outcome; in a dry run the one it would have.
    pub outcome: Outcome,
    /// What it is.
    pub kind: Kind,
    /// Path relative to the destination.
    pub path: Vec<u8>,
    /// Full path in the source, as the argument was given plus the rest.
    pub source: Vec<u8>,
    /// Full path in the destination.
    pub destination: Vec<u8>,
    /// Bytes of content written, or that would be.
    pub bytes: u64,
    /// What differed.
    pub changes: Changes,
    /// Why it was skipped.
    pub reason: Option<Reason>,
    /// Text of a symlink, or path of a link's first name.
    pub target: Option<Vec<u8>>,
    /// xxh64 of a file's last bytes, in a list.
    pub hash: Option<u64>,
    /// What a list tells beside it.
    pub details: Option<Details>,
}

/// What is about to be deleted.
#[derive(Clone, Debug, Default)]
pub struct Victims {
    /// `extra` entries of the destination, or `sources` of a move whose copies are still to be proved.
    pub what: &'static str,
    /// Entries, what lies below directories included.
    pub entries: u64,
    /// Bytes of the regular files among them.
    pub bytes: u64,
    /// The first extra ones, in the order in which they were found, or the sources, as full paths.
    pub first: Vec<Vec<u8>>,
}

/// Names of victims that a question shows.
pub const VICTIMS_SHOWN: usize = 10;

/// Anything that a consumer is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// The job waits for [`crate::job::Job::answer`]: may all this be deleted? At most one of each kind.
    Question(Vec<Victims>),
    /// One entry is done with (opt-in).
    Entry(EntryEvent),
    /// One entry did not arrive.
    Failure(Failure),
    /// The first of a kind of shortfall.
    Note(Note),
}

/// The queue between workers and one reader.
#[derive(Default)]
pub struct Queue {
    inner: Mutex<Inner>,
    room: Condvar,
}

#[derive(Default)]
struct Inner {
    events: VecDeque<Event>,
    subscribed: bool,
    closed: bool,
    waiter: Option<Waiter>,
    /// Who waits for room.
    pressed: usize,
}

/// Called once with the next events: at once where some wait, otherwise when some come, empty when the queue has ended.
pub type Waiter = Box<dyn FnOnce(Vec<Event>) + Send>;

impl Queue {
    /// Puts an event in; waits while the queue is full and somebody reads it.
    pub fn push(&self, event: Event) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !inner.subscribed {
            return;
        }
        inner.pressed += 1;
        while inner.events.len() >= QUEUE_EVENTS && !inner.closed {
            inner = self.room.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.pressed -= 1;
        // Nobody reads on: who comes now comes from a job that was given up.
        if inner.closed {
            return;
        }
        inner.events.push_back(event);
        if let Some(waiter) = inner.waiter.take() {
            let batch = Self::batch(&mut inner);
            drop(inner);
            waiter(batch);
        }
    }

    /// From now on events are kept for a reader.
    pub fn subscribe(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).subscribed = true;
    }

    /// Whether somebody reads.
    pub fn is_read(&self) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.subscribed && !inner.closed
    }

    /// Whether somebody waits for the reader.
    pub fn is_full(&self) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.pressed > 0 && inner.events.len() >= QUEUE_EVENTS
    }

    /// Hands the next events to `waiter`, now or later.
    pub fn next(&self, waiter: Waiter) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.subscribed = true;
        if inner.events.is_empty() && !inner.closed {
            inner.waiter = Some(waiter);
            return;
        }
        let batch = Self::batch(&mut inner);
        self.room.notify_all();
        drop(inner);
        waiter(batch);
    }

    /// No more events come; a waiting reader gets what is there.
    pub fn close(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.closed = true;
        self.room.notify_all();
        if let Some(waiter) = inner.waiter.take() {
            let batch = Self::batch(&mut inner);
            drop(inner);
            waiter(batch);
        }
    }

    fn batch(inner: &mut Inner) -> Vec<Event> {
        let n = inner.events.len().min(BATCH_EVENTS);
        inner.events.drain(..n).collect()
    }
}
