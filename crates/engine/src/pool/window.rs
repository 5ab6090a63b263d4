//! Work in order: things that come one after the other, are worked on in any order, and are told in the order in which
//! they came.
//!
//! Comes in: where the next thing comes from, what is to be done with it, and who is told; goes out: each thing told once,
//! done, in order. Who asks for things and tells them is one thread, which works too while the oldest one is not done. What
//! waits is bounded by [`WINDOW`]. Small things go from hand to hand in groups, larger ones the more have come, so that
//! threads do not spend their time on handing over; what little there is, is still shared by all, and so is what turns out
//! to be more than was said.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Things that wait at once at most: those that are done wait for the first one.
pub const WINDOW: usize = 4096;
/// Things in a group at most.
const GROUP: usize = 32;
/// Bytes of work in a group: with so many it is closed.
const GROUP_BYTES: u64 = 512 << 10;
/// Groups for each thread that all that came so far would have made, at least.
const SHARES: usize = 8;

/// Does `work` on each of what `next` gives, by so many threads, this one among them; `tell` gets them in their order.
///
/// `next` says how many bytes of work a thing is, as far as it knows; `None`: nothing is to be done about it. `work` says how
/// many they were. `hand` makes what a thread works with, for its number, beginning with 0. A thread that can't be started is told to `missing`, and others do its part.
pub fn in_order<T: Send, H, E>(
    workers: usize,
    hand: impl Fn(usize) -> H + Sync,
    next: impl FnMut() -> Result<Option<(T, Option<u64>)>, E>,
    work: impl Fn(&mut H, &mut T) -> u64 + Sync,
    tell: impl FnMut(T) -> Result<(), E>,
    mut missing: impl FnMut(io::Error),
) -> Result<(), E> {
    let window = Window::default();
    std::thread::scope(|scope| {
        for index in 1..workers {
            let (window, hand, work) = (&window, &hand, &work);
            let thread = std::thread::Builder::new().name(format!("bulkhaul-{index}"));
            let started = thread.spawn_scoped(scope, move || {
                let mut own = hand(index);
                while let Some(taken) = window.take() {
                    window.work(taken, |thing| work(&mut own, thing));
                }
            });
            if let Err(error) = started {
                missing(error);
            }
        }
        let mut own = hand(0);
        let done = feed(&window, workers, next, |thing| work(&mut own, thing), tell);
        window.close();
        done
    })
}

/// Puts things into the window, tells what comes out of it, and works too where nothing else is to do.
fn feed<T, E>(
    window: &Window<T>,
    workers: usize,
    mut next: impl FnMut() -> Result<Option<(T, Option<u64>)>, E>,
    mut work: impl FnMut(&mut T) -> u64,
    mut tell: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E> {
    // Things that came, and those that were not told yet.
    let (mut came, mut waiting, mut ended) = (0_usize, 0, false);
    loop {
        let mut group = Group::default();
        while !ended && waiting < WINDOW {
            let Some((thing, bytes)) = next()? else {
                ended = true;
                break;
            };
            group.add(thing, bytes);
            (came, waiting) = (came + 1, waiting + 1);
            if group.things.len() >= (came / (SHARES * workers)).clamp(1, GROUP) || group.bytes >= GROUP_BYTES {
                window.push(std::mem::take(&mut group));
            }
        }
        if !group.things.is_empty() {
            window.push(group);
        }
        while let Some(group) = window.pop() {
            waiting -= group.things.len();
            group.things.into_iter().try_for_each(|(thing, _)| tell(thing))?;
        }
        if ended && waiting == 0 {
            return Ok(());
        }
        if waiting < WINDOW && !ended {
            continue;
        }
        // The oldest one is not done yet.
        if let Some(taken) = window.take_if_any() {
            window.work(taken, &mut work);
        } else {
            window.wait_for_first();
        }
    }
}

/// Things that follow each other, each with whether something is to be done about it.
struct Group<T> {
    things: Vec<(T, bool)>,
    /// Of work.
    bytes: u64,
    open: bool,
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        Self {
            things: Vec::new(),
            bytes: 0,
            open: false,
        }
    }
}

impl<T> Group<T> {
    fn add(&mut self, thing: T, bytes: Option<u64>) {
        self.things.push((thing, bytes.is_some()));
        self.bytes = self.bytes.saturating_add(bytes.unwrap_or(0));
        self.open |= bytes.is_some();
    }
}

/// Groups in their order, of which some are to be worked on.
struct Window<T> {
    inner: Mutex<Waiting<T>>,
    /// Something is to be worked on, or nothing comes any more.
    work: Condvar,
    /// The first one is done, or something is to be worked on.
    first: Condvar,
    /// Threads that have nothing to do.
    hungry: AtomicUsize,
}

struct Waiting<T> {
    /// By the number of the first thing in each.
    slots: BTreeMap<usize, Slot<T>>,
    /// Those that nobody has taken, the first one first.
    open: VecDeque<usize>,
    /// The number of the next thing that comes.
    next: usize,
    /// Threads that wait for work: nobody else is to be woken, which costs a call of the kernel.
    idle: usize,
    closed: bool,
}

enum Slot<T> {
    Open(Group<T>),
    Taken,
    Done(Group<T>),
}

impl<T> Default for Window<T> {
    fn default() -> Self {
        let waiting = Waiting {
            slots: BTreeMap::new(),
            open: VecDeque::new(),
            next: 0,
            idle: 0,
            closed: false,
        };
        Self {
            inner: Mutex::new(waiting),
            work: Condvar::new(),
            first: Condvar::new(),
            hungry: AtomicUsize::new(0),
        }
    }
}

impl<T> Window<T> {
    fn inner(&self) -> MutexGuard<'_, Waiting<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works through a group that was taken. Where it has more work than anybody knew, and others have none, it is shared.
    fn work(&self, (number, mut group): (usize, Group<T>), mut work: impl FnMut(&mut T) -> u64) {
        let (mut done, mut bytes) = (0, 0_u64);
        while let Some((thing, open)) = group.things.get_mut(done) {
            if *open {
                bytes = bytes.saturating_add(work(thing));
            }
            done += 1;
            if bytes >= GROUP_BYTES && self.hungry.load(Ordering::Relaxed) > 0 {
                self.share(number + done, group.things.split_off(done));
            }
        }
        self.put(number, group);
    }

    /// Adds one to the end.
    fn push(&self, group: Group<T>) {
        let mut inner = self.inner();
        let number = inner.next;
        inner.next += group.things.len();
        if group.open {
            inner.slots.insert(number, Slot::Open(group));
            inner.open.push_back(number);
            if inner.idle > 0 {
                self.work.notify_one();
            }
        } else {
            inner.slots.insert(number, Slot::Done(group));
        }
    }

    /// Gives back what follows in a group that was taken, from this number on, each thing by itself.
    fn share(&self, number: usize, rest: Vec<(T, bool)>) {
        let mut inner = self.inner();
        for (at, (thing, open)) in rest.into_iter().enumerate().rev() {
            let mut group = Group::default();
            group.add(thing, open.then_some(0));
            if open {
                inner.slots.insert(number + at, Slot::Open(group));
                inner.open.push_front(number + at);
            } else {
                inner.slots.insert(number + at, Slot::Done(group));
            }
        }
        self.work.notify_all();
        self.first.notify_one();
    }

    /// The first one, where it is done.
    fn pop(&self) -> Option<Group<T>> {
        let mut inner = self.inner();
        let first = inner.slots.first_entry()?;
        if !matches!(first.get(), Slot::Done(_)) {
            return None;
        }
        match first.remove() {
            Slot::Done(group) => Some(group),
            Slot::Open(_) | Slot::Taken => None,
        }
    }

    fn try_take(inner: &mut Waiting<T>) -> Option<(usize, Group<T>)> {
        let number = inner.open.pop_front()?;
        match std::mem::replace(inner.slots.get_mut(&number)?, Slot::Taken) {
            Slot::Open(group) => Some((number, group)),
            Slot::Taken | Slot::Done(_) => None,
        }
    }

    /// Something to work on, with its number, if there is anything.
    fn take_if_any(&self) -> Option<(usize, Group<T>)> {
        Self::try_take(&mut self.inner())
    }

    /// Waits for something to work on; `None`: nothing comes any more.
    fn take(&self) -> Option<(usize, Group<T>)> {
        let mut inner = self.inner();
        loop {
            if let Some(taken) = Self::try_take(&mut inner) {
                return Some(taken);
            }
            if inner.closed {
                return None;
            }
            inner.idle += 1;
            self.hungry.fetch_add(1, Ordering::Relaxed);
            inner = self.work.wait(inner).unwrap_or_else(PoisonError::into_inner);
            self.hungry.fetch_sub(1, Ordering::Relaxed);
            inner.idle -= 1;
        }
    }

    /// What was taken is done.
    fn put(&self, number: usize, group: Group<T>) {
        let mut inner = self.inner();
        inner.slots.insert(number, Slot::Done(group));
        if inner.slots.first_key_value().is_some_and(|(first, _)| *first == number) {
            self.first.notify_one();
        }
    }

    /// Waits until somebody else is done with the first one, or has something to share.
    fn wait_for_first(&self) {
        let mut inner = self.inner();
        let is_taken = |slots: &BTreeMap<usize, Slot<T>>| matches!(slots.first_key_value(), Some((_, Slot::Taken)));
        self.hungry.fetch_add(1, Ordering::Relaxed);
        while is_taken(&inner.slots) && inner.open.is_empty() {
            inner = self.first.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        self.hungry.fetch_sub(1, Ordering::Relaxed);
    }

    /// Nothing more comes.
    fn close(&self) {
        self.inner().closed = true;
        self.work.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Things of all sizes, every seventh with nothing to do: how each was told. `known`: how much it is, before.
    fn told(
        workers: usize,
        count: usize,
        refused_at: Option<usize>,
        known: bool,
    ) -> (Result<(), &'static str>, Vec<(usize, bool)>) {
        let size = |number: usize| (number as u64 % 5) << 18;
        let (mut number, mut told) = (0, Vec::new());
        let hands = AtomicUsize::new(0);
        let done = in_order(
            workers,
            |_| hands.fetch_add(1, Ordering::Relaxed),
            || {
                if refused_at == Some(number) {
                    return Err("refused");
                }
                number += 1;
                let bytes = (number % 7 != 0).then_some(if known { size(number) } else { 0 });
                Ok((number <= count).then_some(((number, false), bytes)))
            },
            |_, (number, worked)| {
                assert!(!*worked, "it was worked on");
                *worked = true;
                size(*number)
            },
            |thing| {
                told.push(thing);
                Ok(())
            },
            |error| panic!("{error}"),
        );
        assert!(refused_at.is_some() || hands.into_inner() == workers);
        (done, told)
    }

    #[test]
    fn everything_is_told_once_and_in_its_order_by_any_number() {
        for workers in [1, 2, 3, 16] {
            for count in [0, 1, 2, 31, 1000, 3 * WINDOW + 5] {
                for known in [true, false] {
                    let (done, told) = told(workers, count, None, known);
                    assert_eq!(done, Ok(()));
                    assert!(told.into_iter().eq((1..=count).map(|number| (number, number % 7 != 0))));
                }
            }
        }
    }

    #[test]
    fn a_group_of_more_than_was_said_is_shared() {
        let (window, mut group) = (Window::default(), Group::default());
        for thing in 0..3 {
            group.add(thing, Some(0));
        }
        window.push(group);
        let taken = window.take_if_any().unwrap();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| window.take());
            while window.hungry.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
            window.work(taken, |_| GROUP_BYTES);
            let (number, group) = other.join().unwrap().unwrap();
            assert_eq!((number, &group.things[..]), (1, &[(1, true)][..]));
            window.work((number, group), |_| 0);
            window.work(window.take_if_any().unwrap(), |_| 0);
        });
        let all = std::iter::from_fn(|| window.pop()).flat_map(|group| group.things);
        assert_eq!(all.map(|(thing, _)| thing).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn what_ends_it_is_answered() {
        for workers in [1, 4] {
            let (done, told) = told(workers, usize::MAX, Some(2 * WINDOW), true);
            assert_eq!(done, Err("refused"));
            // No more than the window waits.
            assert!((WINDOW..=2 * WINDOW).contains(&told.len()), "{}", told.len());
            let length = told.len();
            assert!(
                told.into_iter()
                    .eq((1..=length).map(|number| (number, number % 7 != 0)))
            );
        }
    }
}
