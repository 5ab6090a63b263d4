//! The scout: says how much there is in all, for whoever watches.
//!
//! Comes in: where an operation begins; goes out, at its desk: how many entries it has to do with, and then how many bytes,
//! each as soon as that is known. The scout sets out after a second, and only where somebody asks how far the operation is.
//! First it looks at names only, which costs little beside any work on them; then at sizes, at the lowest priority: where
//! processors or disks are busy, that may come to nothing. What it can't look at it leaves out, and what changes meanwhile
//! it does not hear of: what it says is for people. It is told to stop when the operation is over, and nobody waits for it.

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::Builder;
use std::time::{Duration, Instant};

use bulkhaul_sys::{self as sys, BorrowedFd, Errno, Follow, IoPriority, Kind};

use crate::error::Fault;
use crate::job::desk::{Cancel, Desk, Expected, ExpectedBytes};
use crate::tree::descriptors::Budget;
use crate::tree::selection::{Rules, Selection};
use crate::walk::node::{Entered, Node};
use crate::walk::start::{Root, Start};
use crate::walk::{Boundary, Entries, Next, Visitor, Walk};

/// An operation that is over before needs no scout; and how often a scout looks whether anybody watches.
const PATIENCE: Duration = Duration::from_secs(1);
/// Directories that it has open at most, beside those on its way.
const OPEN: usize = 64;
/// What looking at sizes takes, when looking at names takes one.
const SIZES_TO_NAMES: f64 = 5.0;
/// The part of an operation's time that sizes may take.
const PART: f64 = 0.02;
/// The lowest priority that there is.
const NICE: i32 = 19;

/// What is ahead of an operation.
pub struct Ahead {
    /// Where it begins.
    pub roots: Vec<Root>,
    /// What it leaves out.
    pub filter: Option<Rules>,
    /// Where it stops.
    pub boundary: Boundary,
    /// How often it comes to each entry.
    pub passes: u64,
    /// Bytes that it reads of a file of so many bytes, in all.
    pub to_read: Box<dyn Fn(u64) -> u64 + Send + Sync>,
}

/// A scout on its way: it is told to stop when this goes.
pub struct Scout {
    cancel: Arc<Cancel>,
    /// Nothing is sent: who waits for something hears that this is gone.
    _end: Sender<()>,
}

impl Drop for Scout {
    fn drop(&mut self) {
        self.cancel.abort();
    }
}

impl Scout {
    /// Sends a scout ahead. Where no thread can be had there is none, and nobody knows how much there is.
    pub fn send(desk: &Arc<Desk>, ahead: Ahead) -> Self {
        // Its counts are its own, and whether it moves says nothing about the operation.
        let own = Desk::new(1);
        let cancel = Arc::clone(&own.cancel);
        let (end, ended) = mpsc::channel();
        let desk = Arc::clone(desk);
        let started = Builder::new()
            .name("bulkhaul-scout".into())
            .spawn(move || go(&desk, &own, &ahead, &ended));
        match started {
            Ok(_) | Err(_) => Self { cancel, _end: end },
        }
    }
}

fn go(desk: &Desk, own: &Desk, ahead: &Ahead, ended: &Receiver<()>) {
    loop {
        if ended.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        if desk.is_watched() {
            break;
        }
    }
    // Nothing to walk is nothing known.
    let Some(filter) = Selection::of(ahead.filter.as_ref())
        .ok()
        .filter(|_| !ahead.roots.is_empty())
    else {
        return;
    };
    let walk = |sizes: bool| {
        let count = Count {
            to_read: sizes.then_some(&*ahead.to_read),
            entries: AtomicU64::new(0),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            reads: AtomicU64::new(0),
        };
        Walk {
            start: Start::Roots(&ahead.roots),
            filter: &filter,
            boundary: ahead.boundary,
            across: &[],
            desk: own,
            workers: 1,
            budget: &Arc::new(Budget::new(OPEN)),
        }
        .run(&count);
        if own.cancel.is_draining() {
            return None;
        }
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let expected = Expected {
            entries: of(&count.entries),
            to_do: of(&count.entries).saturating_mul(ahead.passes),
            files: of(&count.files),
            bytes: sizes.then(|| ExpectedBytes {
                found: of(&count.bytes),
                to_read: of(&count.reads),
            }),
        };
        desk.expect(expected);
        Some(expected)
    };
    let began = Instant::now();
    let Some(entries) = walk(false).map(|expected| expected.to_do) else {
        return;
    };
    if !is_worth_it(desk, entries, began.elapsed()) {
        return;
    }
    // A courtesy: where it is refused, the scout is as quick as others.
    for asked in [sys::set_nice(NICE), sys::set_io_priority(IoPriority::Idle)] {
        match asked {
            Ok(()) | Err(_) => {}
        }
    }
    walk(true);
}

/// Whether sizes are worth their price: a look at each file, beside what the operation still takes at its present speed. A
/// tree of small files is done with nearly as fast as it can be looked at, and there entries tell enough.
fn is_worth_it(desk: &Desk, entries: u64, names: Duration) -> bool {
    let (done, elapsed) = desk.progress();
    let left = entries.saturating_sub(done) as f64;
    let price = names.as_secs_f64() * SIZES_TO_NAMES;
    done == 0 || price <= PART * elapsed.as_secs_f64() * left / done as f64
}

/// Counts what a walk finds.
struct Count<'c> {
    /// `None`: sizes are not asked for.
    to_read: Option<&'c (dyn Fn(u64) -> u64 + Send + Sync)>,
    entries: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
    reads: AtomicU64,
}

impl Visitor for Count<'_> {
    type Data = ();
    type Worker = ();

    fn worker(&self, _index: usize) {}

    fn enter(&self, (): &mut (), _entered: &Entered<'_, ()>) -> Option<()> {
        self.entries.fetch_add(1, Ordering::Relaxed);
        Some(())
    }

    fn entries(&self, (): &mut (), at: BorrowedFd<'_>, entries: &mut Entries<'_, ()>) {
        while let Some((name, kind)) = entries.next() {
            self.entries.fetch_add(1, Ordering::Relaxed);
            if kind == Kind::File {
                self.file(at, name);
            }
        }
    }

    fn leave(&self, (): &mut (), _node: &Node<()>) -> Next {
        Next::Up
    }

    fn fault(&self, (): &mut (), _parent: Option<&Node<()>>, _path: Vec<u8>, _kind: Kind, _fault: &Fault) {
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    fn unlisted(&self, (): &mut (), _node: &Node<()>, _errno: Errno) {}
}

impl Count<'_> {
    fn file(&self, at: BorrowedFd<'_>, name: &CStr) {
        self.files.fetch_add(1, Ordering::Relaxed);
        let Some(to_read) = self.to_read else { return };
        if let Ok(stat) = sys::stat(at, name, Follow::No) {
            self.bytes.fetch_add(stat.size, Ordering::Relaxed);
            self.reads.fetch_add(to_read(stat.size), Ordering::Relaxed);
        }
    }
}
