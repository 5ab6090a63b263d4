//! The scout: says how much there is in all, for whoever watches.
//!
//! Comes in: where an operation begins; goes out, at its desk: how many entries it has to do with, and then how many bytes,
//! each as soon as that is known. The scout sets out after a second, and only where somebody asks how far the operation is.
//! First it looks at names only, which costs little beside any work on them, and nothing where a list has them; then at
//! sizes, at the lowest priority: where processors or disks are busy, that may come to nothing. What it can't look at it
//! leaves out, and what changes meanwhile it does not hear of: what it says is for people. It is told to stop when the
//! operation is over, and nobody waits for it.

use std::convert::Infallible;
use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::Builder;
use std::time::{Duration, Instant};

use bulkhaul_formats::lists::names::FileList;
use bulkhaul_formats::staging;
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow, IoPriority, Kind, OwnedFd, Stat};

use crate::error::Fault;
use crate::job::desk::{Cancel, Desk, Expected, ExpectedBytes};
use crate::pool::schedule::Crew;
use crate::tree::descriptors::Budget;
use crate::tree::path::{c_string, join, open_directory_path};
use crate::tree::selection::{Rules, Selection};
use crate::walk::Walk;
use crate::walk::arguments::Arguments;
use crate::walk::node::{Entered, Node};
use crate::walk::start::{Boundary, Root, Start};
use crate::walk::visitor::{Entries, Missed, Next, Visitor};

/// An operation that is over before needs no scout; and how often a scout looks whether anybody watches.
const PATIENCE: Duration = Duration::from_secs(1);
/// Directories that it has open at most, beside those on its way. What a list names deeper down has no size.
const OPEN: usize = 64;
/// What looking at sizes takes, when looking at names takes one.
const SIZES_TO_NAMES: f64 = 5.0;
/// The part of an operation's time that sizes may take.
const PART: f64 = 0.02;
/// The lowest priority that there is.
const NICE: i32 = 19;

/// Where an operation begins.
pub enum Begin {
    /// With trees.
    Trees(Vec<Root>),
    /// With trees that are walked once where one lies in another.
    Distinct(Arc<Arguments>),
    /// With trees that go meanwhile: what went before the scout set out counts too.
    Going(Vec<Root>),
    /// With what a list names below the directory of this path.
    Listed(Vec<u8>, Arc<FileList>),
}

impl Begin {
    fn roots(&self) -> &[Root] {
        match self {
            Self::Trees(roots) | Self::Going(roots) => roots,
            Self::Distinct(arguments) => arguments.roots(),
            Self::Listed(..) => &[],
        }
    }
}

/// What is ahead of an operation.
pub struct Ahead {
    /// Where it begins.
    pub begin: Begin,
    /// What it leaves out.
    pub filter: Option<Rules>,
    /// Where it stops.
    pub boundary: Boundary,
    /// How often it comes to each entry.
    pub passes: u64,
    /// Bytes that it reads of a file of so many bytes, in all. `None`: it reads nothing.
    pub to_read: Option<ToRead>,
}

/// From a name and a size to what is read.
pub type ToRead = Box<BytesToRead>;
type BytesToRead = dyn Fn(&CStr, u64) -> u64 + Send + Sync;

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
    let Ok(filter) = Selection::of(ahead.filter.as_ref()) else {
        return;
    };
    let look = |sizes: bool, until: Option<Instant>| {
        let count = Count {
            arguments: match &ahead.begin {
                Begin::Distinct(arguments) => Some(arguments),
                Begin::Trees(_) | Begin::Going(_) | Begin::Listed(..) => None,
            },
            to_read: ahead.to_read.as_deref().filter(|_| sizes),
            entries: AtomicU64::new(0),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            reads: AtomicU64::new(0),
        };
        let whole = match &ahead.begin {
            // Nothing to walk is nothing known.
            Begin::Trees(roots) if roots.is_empty() => false,
            Begin::Trees(_) | Begin::Distinct(_) | Begin::Going(_) => {
                let goes = matches!(ahead.begin, Begin::Going(_));
                let gone = || if goes { desk.progress().0 } else { 0 };
                let before = gone();
                Walk {
                    filter: &filter,
                    boundary: ahead.boundary,
                    across: &[],
                    desk: own,
                    crew: &Crew::Fixed(1),
                    budget: &Arc::new(Budget::new(OPEN)),
                }
                .run(Start::Roots(ahead.begin.roots()), &count);
                // Of what goes meanwhile it has seen about half.
                count
                    .entries
                    .fetch_add(u64::midpoint(before, gone()), Ordering::Relaxed);
                true
            }
            Begin::Listed(root, list) => count.listed(root, list, &filter, || {
                own.cancel.is_draining() || until.is_some_and(|until| Instant::now() > until)
            }),
        };
        if !whole || own.cancel.is_draining() {
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
            estimated: matches!(ahead.begin, Begin::Going(_)),
        };
        desk.expect(expected);
        Some(expected)
    };
    let began = Instant::now();
    let Some(expected) = look(false, None).filter(|_| ahead.to_read.is_some()) else {
        return;
    };
    let price = began.elapsed().mul_f64(SIZES_TO_NAMES);
    let most = worth(desk, expected.to_do);
    if price > most {
        return;
    }
    // A courtesy: where it is refused, the scout is as quick as others.
    for asked in [sys::set_nice(NICE), sys::set_io_priority(IoPriority::Idle)] {
        match asked {
            Ok(()) | Err(_) => {}
        }
    }
    look(true, Instant::now().checked_add(most));
}

/// What sizes may cost: a look at each file, beside what the operation still takes at its present speed. A tree of small
/// files is done with nearly as fast as it can be looked at, and there entries tell enough.
fn worth(desk: &Desk, entries: u64) -> Duration {
    let (done, elapsed) = desk.progress();
    let left = entries.saturating_sub(done) as f64;
    Duration::try_from_secs_f64(PART * elapsed.as_secs_f64() * left / done as f64).unwrap_or(Duration::MAX)
}

/// Counts what there is.
struct Count<'c> {
    /// What is below none but itself.
    arguments: Option<&'c Arguments>,
    /// `None`: sizes are not asked for.
    to_read: Option<&'c BytesToRead>,
    entries: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
    reads: AtomicU64,
}

impl Visitor for Count<'_> {
    type Data = ();
    type Worker = ();
    type Task = Infallible;

    fn worker(&self, _index: usize) {}

    fn enter(&self, (): &mut (), entered: &Entered<'_, ()>) -> Option<()> {
        self.entries.fetch_add(1, Ordering::Relaxed);
        let named = |arguments: &Arguments| arguments.name_directory(entered.stat.id);
        let elsewhere = entered.root.is_none() && self.arguments.is_some_and(named);
        (!elsewhere).then_some(())
    }

    fn entries(&self, (): &mut (), at: BorrowedFd<'_>, entries: &mut Entries<'_, Self>) {
        while let Some((name, kind)) = entries.next() {
            // What is being made beside them comes and goes.
            if staging::parse(name.to_bytes()).is_some() {
                continue;
            }
            self.entries.fetch_add(1, Ordering::Relaxed);
            if kind == Kind::File {
                self.file(name, || sys::stat(at, name, Follow::No).ok());
            }
        }
    }

    fn leave(&self, (): &mut (), _node: &Arc<Node<()>>) -> Next {
        Next::Up
    }

    fn fault(&self, (): &mut (), _missed: &Missed<'_, ()>, _kind: Kind, _fault: &Fault) {
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    fn unlisted(&self, (): &mut (), _node: &Arc<Node<()>>, _source: usize, _errno: Errno) {}
}

impl Count<'_> {
    /// What a list names below a directory, and the directories between. False: it was told to stop.
    fn listed(&self, root: &[u8], list: &FileList, filter: &Selection, stop: impl Fn() -> bool) -> bool {
        let working_directory = sys::working_directory();
        let top = self.to_read.and_then(|_| open_directory_path(root, Follow::Yes).ok());
        let mut levels = vec![(top, Vec::new(), list.children(list.root()))];
        self.entries.fetch_add(1, Ordering::Relaxed);
        loop {
            let depth = levels.len();
            let Some((at, path, children)) = levels.last_mut() else {
                return true;
            };
            if stop() {
                return false;
            }
            let Some(child) = children.next() else {
                levels.pop();
                continue;
            };
            let Ok(name) = c_string(child.name) else { continue };
            let stat = at.as_ref().and_then(|at| sys::stat(at.as_fd(), &name, Follow::No).ok());
            let kind = match stat {
                Some(stat) => stat.kind,
                None if child.below.is_empty() => Kind::File,
                None => Kind::Directory,
            };
            let parents = filter.parents(|| path.clone(), || vec![join(root, path)], &working_directory);
            if filter.excludes(&parents, &name, kind) {
                continue;
            }
            self.entries.fetch_add(1, Ordering::Relaxed);
            if kind == Kind::File {
                self.file(&name, || stat);
            }
            if !child.below.is_empty() {
                let open = |at: &OwnedFd| sys::open_directory(at.as_fd(), &name, Follow::No).ok();
                let below = at.as_ref().filter(|_| depth <= OPEN).and_then(open);
                let path = join(path, child.name);
                levels.push((below, path, list.children(child.below)));
            }
        }
    }

    fn file(&self, name: &CStr, stat: impl FnOnce() -> Option<Stat>) {
        self.files.fetch_add(1, Ordering::Relaxed);
        if let Some(to_read) = self.to_read
            && let Some(stat) = stat()
        {
            self.bytes.fetch_add(stat.size, Ordering::Relaxed);
            self.reads.fetch_add(to_read(name, stat.size), Ordering::Relaxed);
        }
    }
}
