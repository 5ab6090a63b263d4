//! A window of results: in order, though several threads work on them in any order.
//!
//! Comes in: things in their order, done already or still to be worked on; goes out: the same, each done, in the same order.
//! Whoever fills the window sees that it has room first, so what waits is bounded by [`WINDOW`].

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Things that wait at once at most: those that are done wait for the first one.
pub const WINDOW: usize = 4096;

/// Things in their order, of which some are to be worked on.
pub struct Window<T> {
    inner: Mutex<Waiting<T>>,
    changed: Condvar,
}

struct Waiting<T> {
    slots: VecDeque<Slot<T>>,
    /// Number of the first slot.
    first: usize,
    /// Number of the first that nobody has taken.
    untaken: usize,
    closed: bool,
}

enum Slot<T> {
    Open(T),
    Taken,
    Done(T),
}

impl<T> Default for Window<T> {
    fn default() -> Self {
        let waiting = Waiting {
            slots: VecDeque::new(),
            first: 0,
            untaken: 0,
            closed: false,
        };
        Self {
            inner: Mutex::new(waiting),
            changed: Condvar::new(),
        }
    }
}

impl<T> Window<T> {
    fn inner(&self) -> MutexGuard<'_, Waiting<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more may wait.
    pub fn has_room(&self) -> bool {
        self.inner().slots.len() < WINDOW
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.inner().slots.is_empty()
    }

    /// Adds one to the end; `done`: nothing is to be done about it.
    pub fn push(&self, thing: T, done: bool) {
        let slot = if done { Slot::Done(thing) } else { Slot::Open(thing) };
        self.inner().slots.push_back(slot);
        self.changed.notify_all();
    }

    /// The first one, where it is done.
    pub fn pop(&self) -> Option<T> {
        let mut inner = self.inner();
        if !matches!(inner.slots.front(), Some(Slot::Done(_))) {
            return None;
        }
        inner.first += 1;
        match inner.slots.pop_front() {
            Some(Slot::Done(thing)) => Some(thing),
            _ => None,
        }
    }

    fn try_take(inner: &mut Waiting<T>) -> Option<(usize, T)> {
        inner.untaken = inner.untaken.max(inner.first);
        while inner.untaken < inner.first + inner.slots.len() {
            let number = inner.untaken;
            inner.untaken += 1;
            let slot = &mut inner.slots[number - inner.first];
            if matches!(slot, Slot::Open(_))
                && let Slot::Open(thing) = std::mem::replace(slot, Slot::Taken)
            {
                return Some((number, thing));
            }
        }
        None
    }

    /// Something to work on, with its number, if there is anything.
    pub fn take_if_any(&self) -> Option<(usize, T)> {
        Self::try_take(&mut self.inner())
    }

    /// Waits for something to work on; `None`: nothing comes any more.
    pub fn take(&self) -> Option<(usize, T)> {
        let mut inner = self.inner();
        loop {
            if let Some(taken) = Self::try_take(&mut inner) {
                return Some(taken);
            }
            if inner.closed {
                return None;
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What was taken is done.
    pub fn put(&self, number: usize, thing: T) {
        let mut inner = self.inner();
        let at = number - inner.first;
        inner.slots[at] = Slot::Done(thing);
        self.changed.notify_all();
    }

    /// Waits until somebody else is done with the first one.
    pub fn wait_for_first(&self) {
        let mut inner = self.inner();
        while matches!(inner.slots.front(), Some(Slot::Taken)) {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing more comes.
    pub fn close(&self) {
        self.inner().closed = true;
        self.changed.notify_all();
    }
}
