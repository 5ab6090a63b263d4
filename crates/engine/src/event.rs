//! Events leave the engine on the side, through a bounded queue that the consumer empties at its own pace.
//!
//! Comes in: events of all workers; goes out: the same in batches, to one reader.
//!
//! Counters are not events: they are absolute, and polled. Until a consumer has asked once, events are dropped (failures
//! and notes are in the report anyway); from then on a full queue holds the workers back.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};

use bulkhaul_formats::digest::Digest;
use bulkhaul_sys::Kind;

use crate::entry::{Changes, Details, Outcome, Reason};
use crate::error::Failure;
use crate::report::{Note, Part};

/// Events that wait for their reader at most; a few batches, so that neither side stalls at each one.
pub const QUEUE_EVENTS: usize = 8192;
/// Events that one call takes at most.
pub const BATCH_EVENTS: usize = 1024;

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
    /// Digests of a file's content, in a manifest.
    pub digests: Vec<Digest>,
    /// What a list or a manifest tells beside it.
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
    /// A part is whole, and its list is there.
    Part(Part),
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
