//! Removes trees, or counts what would go.
//!
//! Comes in: where to begin, what must stay, how much may go; goes out: an outcome for each entry. A directory goes after
//! all that is in it, by the descriptor of the one that holds it, and no link is followed.

use std::convert::Infallible;
use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow, Identity, Kind};

use crate::entry::{Changes, Outcome, Reason};
use crate::error::{Cause, Failure, Fault, Operation, Side};
use crate::event::EntryEvent;
use crate::job::desk::Desk;
use crate::pool::schedule::Crew;
use crate::report::Durability;
use crate::report::counters::Totals;
use crate::sweep::guard::{Guard, IN_USE};
use crate::tree::descriptors::Budget;
use crate::tree::path::{c_string, join, split};
use crate::tree::protection::protection;
use crate::tree::selection::Selection;
use crate::tree::staging::{Owner, Stager, is_locked};
use crate::walk::Walk;
use crate::walk::node::{Entered, Node};
use crate::walk::start::{Boundary, Start};
use crate::walk::visitor::{Entries, Missed, Next, Visitor};

/// How often a directory is listed again because it is not empty after all that was in it went: somebody fills it, the
/// file system lists wrongly while names go, or NFS keeps what is open under another name.
const LISTINGS: u32 = 16;

/// What the system says only by an error number of subvolumes.
const READ_ONLY: &str = "it is a read-only subvolume of btrfs: `btrfs subvolume delete` removes it";

const HELD: &str = "it is a subvolume of btrfs that is held: the default one, or one that is being sent";

/// Whether anything is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// What is found goes.
    Remove,
    /// What is found is counted as if it went.
    Count,
    /// The same with the sizes of files.
    Measure,
}

/// Removes trees: for a job of its own, and inside another operation.
///
/// Everything found is counted as found at the desk and gets its outcome there, and what refuses is a failure there: the
/// caller's books stay balanced. What is in a source counts as entries, what is in a destination as extra ones; there what
/// must stay, or is on another file system, is skipped, where a removal of its own fails. It works with a `crew` and
/// returns when all is done, or the desk's job is cancelled.
#[derive(Clone, Copy)]
pub struct Sweeper<'s> {
    /// Counters, failures, events and the wish to stop.
    pub desk: &'s Desk,
    /// What must stay.
    pub guard: &'s Guard,
    /// Exclude rules: what matches stays.
    pub filter: &'s Selection,
    /// Knows unfinished entries by their names: those of live runs and of other hosts stay. None: they are like any other.
    pub stager: Option<Stager>,
    /// Directories that may be open.
    pub budget: &'s Arc<Budget>,
    /// Threads; not more than the desk has counters.
    pub crew: &'s Crew,
    /// Whether anything is changed.
    pub mode: Mode,
    /// For how many entries an event is sent.
    pub tell: u64,
    /// Entries that may still go; what is found beyond is in conflict and stays. `u64::MAX`: no end.
    pub left: &'s AtomicU64,
    /// Is shown every entry that would go.
    pub witness: Option<&'s dyn Witness>,
}

/// An entry that would go.
pub struct Seen<'s> {
    /// The directory that holds it.
    pub directory: Identity,
    /// The same, open.
    pub at: BorrowedFd<'s>,
    /// Its name there.
    pub name: &'s CStr,
    /// Full path of the directory.
    pub path: &'s dyn Fn() -> Vec<u8>,
}

/// Who has a look at what would go.
pub trait Witness: Sync {
    /// Called by any thread, before the entry's outcome is known.
    fn see(&self, seen: &Seen<'_>);
}

/// What would go.
pub struct Counted {
    /// The books.
    pub totals: Totals,
    /// Full paths of the first entries that would go.
    pub first: Vec<Vec<u8>>,
    /// What can't be listed, and other failures: all of them, and the first.
    pub failed: u64,
    /// See [`crate::report::Report::failures`].
    pub failures: Vec<Failure>,
}

impl Sweeper<'_> {
    /// Removes.
    pub fn run(&self, start: Start<'_>) {
        self.walk(start, None);
    }

    /// Counts what would go, in books of its own; in the end the job may be cancelled. `names`: how many of the first ones
    /// are told.
    pub fn count(&self, start: Start<'_>, names: usize) -> Counted {
        let desk = self.desk.rehearsal();
        let first = Mutex::default();
        let sweeper = Sweeper {
            desk: &desk,
            tell: names as u64,
            left: &AtomicU64::new(u64::MAX),
            ..*self
        };
        sweeper.walk(start, Some(&first));
        let failed = desk.findings.failed();
        let report = desk.report(Durability::None, desk.most_staff(), desk.cancel.is_draining());
        Counted {
            totals: report.totals,
            first: first.into_inner().unwrap_or_else(PoisonError::into_inner),
            failed,
            failures: report.failures,
        }
    }

    fn walk(&self, start: Start<'_>, names: Option<&Mutex<Vec<Vec<u8>>>>) {
        let remover = Remover {
            sweeper: *self,
            told: AtomicU64::new(0),
            names,
        };
        Walk {
            filter: self.filter,
            boundary: Boundary::Mount,
            across: &self.guard.named,
            desk: self.desk,
            crew: self.crew,
            budget: self.budget,
        }
        .run(start, &remover);
    }
}

/// What is known of a directory on its way out.
#[derive(Default)]
struct Going {
    /// Something in it stays.
    kept: AtomicBool,
    /// It could not be listed, and that was said.
    unlisted: AtomicBool,
    listings: AtomicU32,
}

struct Remover<'s> {
    sweeper: Sweeper<'s>,
    told: AtomicU64,
    /// Where the paths of what would go are put, and no events are sent.
    names: Option<&'s Mutex<Vec<Vec<u8>>>>,
}

/// What became of an entry.
enum End {
    Removed,
    Skipped(Reason),
    Fault(Fault),
}

impl End {
    /// What holds it cannot go.
    fn stays(&self) -> bool {
        !matches!(self, End::Removed | End::Skipped(Reason::Vanished))
    }
}

/// How messages and events name an entry.
struct Place {
    /// As [`Node::relative_path`] tells it.
    relative: Vec<u8>,
    path: Vec<u8>,
    /// Its path in the source, where it is in a destination.
    twin: Option<Vec<u8>>,
}

impl Place {
    fn of(node: &Node<Going>) -> Self {
        Self {
            relative: node.relative_path(),
            path: node.path(),
            twin: node.twins().pop(),
        }
    }

    fn within(node: &Node<Going>, name: &[u8]) -> Self {
        let Self { relative, path, twin } = Self::of(node);
        Self {
            relative: join(&relative, name),
            path: join(&path, name),
            twin: twin.map(|twin| join(&twin, name)),
        }
    }
}

fn conflict(operation: Operation, side: Side, what: &'static str) -> Fault {
    Fault {
        operation,
        side,
        cause: Cause::Conflict(what),
    }
}

/// Why a subvolume stays, if it does.
fn subvolume_stays(fd: BorrowedFd<'_>, side: Side) -> Option<End> {
    if let Side::Destination(_) = side {
        return Some(End::Skipped(Reason::OtherFileSystem));
    }
    match sys::is_read_only_subvolume(fd) {
        Ok(false) => None,
        Ok(true) => Some(End::Fault(conflict(Operation::Remove, side, READ_ONLY))),
        Err(errno) => Some(End::Fault(Fault::new(Operation::Stat, side, errno))),
    }
}

fn keep(node: Option<&Arc<Node<Going>>>) {
    if let Some(node) = node {
        node.kept.store(true, Ordering::Release);
    }
}

impl Remover<'_> {
    fn removes(&self) -> bool {
        self.sweeper.mode == Mode::Remove
    }

    fn show(&self, node: &Node<Going>, at: BorrowedFd<'_>, name: &CStr) {
        if let Some(witness) = self.sweeper.witness {
            witness.see(&Seen {
                directory: node.id(),
                at,
                name,
                path: &|| node.path(),
            });
        }
    }

    /// One entry fewer that may go.
    fn take(&self, side: Side) -> Result<(), Fault> {
        let left = self.sweeper.left;
        if left.load(Ordering::Relaxed) == u64::MAX {
            return Ok(());
        }
        let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        taken
            .map(drop)
            .map_err(|_| conflict(Operation::Remove, side, "max-delete allows no more"))
    }

    /// Whether a name is of something unfinished that is not ours to remove.
    fn is_held(&self, name: &CStr) -> bool {
        let owner = self.sweeper.stager.and_then(|stager| stager.owner(name.to_bytes()));
        matches!(owner, Some(Owner::Live | Owner::Foreign))
    }

    fn unlink(&self, at: BorrowedFd<'_>, name: &CStr, side: Side) -> End {
        let lockable = |stager: Stager| stager.owner(name.to_bytes()) == Some(Owner::Lockable);
        if self.is_held(name) || self.sweeper.stager.is_some_and(lockable) && is_locked(at, name) {
            return End::Skipped(Reason::StagingName);
        }
        if let Err(fault) = self.take(side) {
            return End::Fault(fault);
        }
        if !self.removes() {
            return End::Removed;
        }
        match sys::unlink(at, name) {
            Ok(()) => End::Removed,
            Err(Errno::NOENT) => End::Skipped(Reason::Vanished),
            // It was none when it was listed.
            Err(Errno::ISDIR) => End::Fault(Fault::replaced(Operation::Remove, side)),
            Err(errno) => End::Fault(Fault::new(Operation::Remove, side, errno)),
        }
    }

    /// Removes a directory that was emptied; `None`: it is not empty.
    fn unlink_directory(&self, node: &Node<Going>) -> Option<End> {
        let fault = |operation, errno| Fault::new(operation, node.side(), errno);
        if let Err(fault) = self.take(node.side()) {
            return Some(End::Fault(fault));
        }
        if !self.removes() {
            return Some(End::Removed);
        }
        let removed = node
            .parent_descriptor()
            .map_err(|e| fault(Operation::Open, e))
            .and_then(|at| {
                match sys::stat(at.as_fd(), node.name(), Follow::No) {
                    Ok(stat) if stat.id == node.id() => {}
                    Ok(_) => return Err(Fault::replaced(Operation::Remove, node.side())),
                    Err(errno) => return Err(fault(Operation::Stat, errno)),
                }
                sys::remove_directory(at.as_fd(), node.name()).map_err(|errno| match errno {
                    Errno::PERM if node.parent().is_some_and(|above| node.is_subvolume(above)) => {
                        conflict(Operation::Remove, node.side(), HELD)
                    }
                    errno => fault(Operation::Remove, errno),
                })
            });
        Some(match removed {
            Ok(()) => End::Removed,
            Err(fault) => match fault.cause {
                Cause::Errno(Errno::NOENT) => End::Skipped(Reason::Vanished),
                Cause::Errno(Errno::NOTEMPTY | Errno::EXIST) if fault.operation == Operation::Remove => {
                    // It is asked for again.
                    let left = self.sweeper.left;
                    left.fetch_add(u64::from(left.load(Ordering::Relaxed) < u64::MAX), Ordering::Relaxed);
                    return None;
                }
                _ => End::Fault(fault),
            },
        })
    }

    /// The recorder: everything that was found ends here, once.
    fn record(&self, worker: usize, side: Side, kind: Kind, end: End, bytes: u64, place: impl Fn() -> Place) {
        let desk = self.sweeper.desk;
        let (outcome, reason) = match &end {
            End::Removed => (Outcome::Removed, None),
            End::Skipped(reason) => (Outcome::Skipped, Some(*reason)),
            End::Fault(fault) => (fault.outcome(), None),
        };
        match side {
            Side::Source => desk.counters[worker].outcome(kind, outcome, reason, bytes),
            Side::Destination(_) => desk.counters[worker].extra_outcome(outcome, reason),
        }
        match end {
            End::Fault(fault) => {
                let path = place().path;
                let hint = match fault.cause {
                    Cause::Errno(Errno::PERM) => protection(&path),
                    Cause::Errno(Errno::XDEV) => Some("something is mounted there"),
                    _ => None,
                };
                desk.fail(Failure::new(&fault, path, kind, hint));
            }
            End::Removed | End::Skipped(_) => self.tell(outcome, reason, kind, bytes, place),
        }
    }

    fn tell(&self, outcome: Outcome, reason: Option<Reason>, kind: Kind, size: u64, place: impl Fn() -> Place) {
        let most = self.sweeper.tell;
        let goes = outcome == Outcome::Removed;
        if most == 0
            || (self.names.is_some() && !goes)
            || (most < u64::MAX && self.told.fetch_add(1, Ordering::Relaxed) >= most)
        {
            return;
        }
        let Place { relative, path, twin } = place();
        if let Some(names) = self.names {
            return names.lock().unwrap_or_else(PoisonError::into_inner).push(path);
        }
        self.sweeper.desk.tell(EntryEvent {
            outcome,
            kind,
            path: relative,
            source: twin.unwrap_or_else(|| path.clone()),
            destination: path,
            bytes: size,
            changes: Changes::default(),
            reason,
            target: None,
            hash: None,
            digests: Vec::new(),
            details: None,
        });
    }
}

impl Visitor for Remover<'_> {
    type Data = Going;
    /// The number of its counters.
    type Worker = usize;
    type Task = Infallible;

    fn worker(&self, index: usize) -> usize {
        index
    }

    fn enter(&self, worker: &mut usize, entered: &Entered<'_, Going>) -> Option<Going> {
        let side = entered.parent.side();
        // Where that can't be opened, nothing goes from it.
        if let (Some(_), Ok(at)) = (self.sweeper.witness, entered.parent.descriptor()) {
            self.show(entered.parent, at.as_fd(), entered.name);
        }
        let end = match (self.sweeper.guard.refuses(entered.stat.id), side) {
            _ if self.is_held(entered.name) => End::Skipped(Reason::StagingName),
            (None, _) if !entered.is_subvolume() => return Some(Going::default()),
            (None, _) => match subvolume_stays(entered.fd, side) {
                Some(end) => end,
                None => return Some(Going::default()),
            },
            (Some(what), Side::Source) => End::Fault(conflict(Operation::Remove, side, what)),
            // It is, or holds, what is not extra.
            (Some(_), Side::Destination(_)) => End::Skipped(Reason::NotEmpty),
        };
        keep(Some(entered.parent));
        self.record(*worker, side, Kind::Directory, end, 0, || Place {
            relative: entered.relative_path(),
            path: entered.path(),
            twin: Place::within(entered.parent, entered.name.to_bytes()).twin,
        });
        None
    }

    fn entries(&self, worker: &mut usize, at: BorrowedFd<'_>, entries: &mut Entries<'_, Self>) {
        let node = entries.node();
        while let Some((name, kind)) = entries.next() {
            self.show(node, at, name);
            let mut size = 0;
            if self.sweeper.mode == Mode::Measure
                && kind == Kind::File
                && let Ok(stat) = sys::stat(at, name, Follow::No)
            {
                size = stat.size;
                self.sweeper.desk.counters[*worker].sized(size, stat.allocated);
            }
            let end = if self.sweeper.guard.is_in_use(node.id(), at, name) {
                match node.side() {
                    Side::Source => End::Fault(conflict(Operation::Remove, node.side(), IN_USE)),
                    Side::Destination(_) => End::Skipped(Reason::InUse),
                }
            } else {
                self.unlink(at, name, node.side())
            };
            if end.stays() {
                keep(Some(node));
            }
            self.record(*worker, node.side(), kind, end, size, || {
                Place::within(node, name.to_bytes())
            });
        }
    }

    fn leave(&self, worker: &mut usize, node: &Arc<Node<Going>>) -> Next {
        let end = if node.kept.load(Ordering::Acquire) || node.unlisted.load(Ordering::Acquire) {
            End::Skipped(Reason::NotEmpty)
        } else if self.sweeper.guard.named.contains(&node.id()) && stays(node) {
            End::Skipped(Reason::OtherFileSystem)
        } else if let Some(end) = self.unlink_directory(node) {
            end
        } else if node.listings.fetch_add(1, Ordering::Relaxed) < LISTINGS {
            return Next::Again;
        } else {
            End::Fault(Fault::new(Operation::Remove, node.side(), Errno::NOTEMPTY))
        };
        if end.stays() {
            keep(node.parent());
        }
        self.record(*worker, node.side(), Kind::Directory, end, 0, || Place::of(node));
        Next::Up
    }

    fn fault(&self, worker: &mut usize, missed: &Missed<'_, Going>, kind: Kind, fault: &Fault) {
        let (parent, path) = (missed.parent, missed.path());
        let end = match (&fault.cause, parent) {
            (Cause::Errno(Errno::NOENT), _) => End::Skipped(Reason::Vanished),
            (Cause::Errno(Errno::XDEV), _) if matches!(fault.side, Side::Destination(_)) => {
                End::Skipped(Reason::OtherFileSystem)
            }
            // Nothing has to be read of a directory that is empty.
            (Cause::Errno(Errno::ACCESS), Some(parent)) if kind == Kind::Directory && self.removes() => {
                let removed = c_string(split(&path).1)
                    .and_then(|name| sys::remove_directory(parent.descriptor()?.as_fd(), &name));
                match removed {
                    Ok(()) => End::Removed,
                    Err(_) => End::Fault(fault.clone()),
                }
            }
            _ => End::Fault(fault.clone()),
        };
        if end.stays() {
            keep(parent);
        }
        let name = split(&path).1;
        self.record(*worker, fault.side, kind, end, 0, || Place {
            relative: join(&parent.map(|node| node.relative_path()).unwrap_or_default(), name),
            path: path.clone(),
            twin: parent.and_then(|parent| Place::within(parent, name).twin),
        });
    }

    fn unlisted(&self, _: &mut usize, node: &Arc<Node<Going>>, _source: usize, errno: Errno) {
        // Listing what somebody else has just removed.
        if errno == Errno::NOENT {
            return;
        }
        node.unlisted.store(true, Ordering::Release);
        let fault = Fault::new(Operation::List, node.side(), errno);
        let failure = Failure::new(&fault, node.path(), Kind::Directory, None);
        self.sweeper.desk.fail(failure);
    }

    fn excluded(&self, _: &mut usize, parent: &Arc<Node<Going>>, _source: usize, name: &CStr, kind: Kind) {
        keep(Some(parent));
        // Those beside what is extra have not been found either.
        if parent.side() == Side::Source {
            self.tell(Outcome::Skipped, Some(Reason::Excluded), kind, 0, || {
                Place::within(parent, name.to_bytes())
            });
        }
    }
}

/// A mount point can be emptied and not removed.
fn stays(node: &Node<Going>) -> bool {
    node.parent()
        .is_none_or(|parent| node.name() == c"." || node.is_mount_point(parent))
}
