//! The copy: drives the rooms of the engine over whole trees and closes the books.
//!
//! Comes in: [`CopyOptions`]; goes out: a [`Report`], or a [`Refusal`] before anything was written. A [`Job`] is one
//! copy that can be watched and cancelled from other threads.
//!
//! A directory's life: entered (sources opened, twins opened or staged), listed, its own files done, published, its
//! subdirectories entered one after the other, and closed when the last of them is closed: only then does it get its own
//! mode and times.

use std::ffi::{CStr, CString};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bulkhaul_sys::{self as sys, AsFd as _, Capacity, Errno, Follow, Identity, Kind, Node, OwnedFd, Stat};

use crate::act::{Done, Worker};
use crate::entries::Batch;
use crate::error::{Cause, Fault, Operation, Refusal, Side};
use crate::event::{Changes, Event, Queue};
use crate::links::Links;
use crate::metadata::{self, Copy, put_right};
use crate::options::{CopyOptions, Directories, Rules, Sync};
use crate::plan::{Place, differences, place};
use crate::preflight::{self, Prepared};
use crate::publish::{Stager, clear_directory, merge_directory, publish_directory};
use crate::report::{Counters, Findings, Outcome, Reason, Report, Totals};
use crate::schedule::Schedule;
use crate::sweep;
use crate::transfer::{Cancel, Methods};
use crate::tree::{Below, Budget, Dir, Origin, Presence, Scope, Slot, Source, Subdirectory, Twin, join};

/// Descriptors that each worker may need at once beside directories: two files and two nodes.
const DESCRIPTORS_PER_WORKER: u64 = 4;
/// Descriptors that the rest of the process needs: Node.js, logs, standard streams.
const DESCRIPTORS_ELSEWHERE: u64 = 24;
/// Stack of a worker; nothing recurses, the buffers are on the heap.
const STACK_BYTES: usize = 1024 * 1024;

/// A piece of work.
pub enum Task {
    /// List a directory that has just been entered.
    List(Arc<Dir>),
    /// Enter the next subdirectory of a published directory.
    Descend(Arc<Dir>),
    /// Files that somebody else listed.
    Files(Arc<Dir>, Batch),
}

/// One destination as a whole.
pub struct Target {
    /// Its path as given.
    pub path: Vec<u8>,
    /// Descriptor for `syncfs`, opened before the first write so that it sees every error.
    pub file_system: Option<OwnedFd>,
    /// Free space when the run began.
    pub capacity: Option<Capacity>,
    reserved: AtomicU64,
    full: AtomicBool,
}

impl Target {
    /// A destination that nothing was written to yet.
    pub fn new(path: Vec<u8>, file_system: Option<OwnedFd>, capacity: Option<Capacity>) -> Self {
        Self {
            path,
            file_system,
            capacity,
            reserved: AtomicU64::new(0),
            full: AtomicBool::new(false),
        }
    }
}

/// Where a destination that did not exist will appear.
pub struct RootPlace {
    /// The directory that holds it.
    pub parent: OwnedFd,
    /// Its name there.
    pub name: CString,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Arguments and destinations are looked at.
    Preflight,
    /// The walk goes on: totals are not known yet.
    Scanning,
    /// The walk has ended.
    Copying,
    /// Everything is copied and waits for the disk.
    Closing,
    /// Over.
    Done,
}

impl Phase {
    /// As `--json` names it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Scanning => "scanning",
            Self::Copying => "copying",
            Self::Closing => "closing",
            Self::Done => "done",
        }
    }
}

/// Everything that the workers of one copy share.
pub struct Run {
    /// The checked options.
    pub rules: Rules,
    /// Makes and recognises staging names.
    pub stager: Stager,
    /// What is to be done.
    pub schedule: Schedule<Task>,
    /// Directories that may be open.
    pub budget: Arc<Budget>,
    /// Files that may wait for their sync at once in one worker.
    pub sync_batch: usize,
    /// Failures and notes.
    pub findings: Findings,
    /// Events.
    pub queue: Arc<Queue>,
    /// Whether to go on.
    pub cancel: Arc<Cancel>,
    /// What the kernel can copy by itself.
    pub methods: Methods,
    /// Hard links.
    pub links: Links,
    /// The destinations.
    pub targets: Vec<Target>,
    /// Where destinations that this run makes will appear.
    pub roots: Vec<Option<RootPlace>>,
    /// Inodes of the destinations: never descended into as a source.
    pub destination_ids: Vec<Identity>,
    /// Where relative paths start.
    pub working_directory: Vec<u8>,
    user: u32,
    unlisted: AtomicUsize,
}

impl Run {
    /// A subdirectory was found that has not been listed.
    pub fn unlisted(&self) {
        self.unlisted.fetch_add(1, Ordering::Relaxed);
    }

    /// A directory has been listed, or never will be.
    pub fn listed(&self) {
        self.unlisted.fetch_sub(1, Ordering::Relaxed);
    }

    /// Leaves a batch to another worker.
    pub fn give_away(&self, dir: &Arc<Dir>, batch: Batch) {
        dir.own.fetch_add(1, Ordering::AcqRel);
        self.schedule.push(Task::Files(Arc::clone(dir), batch));
    }

    /// Counts a note and sends it when it is the first of its kind.
    pub fn note(&self, kind: &str, first: impl FnOnce() -> (Vec<u8>, String)) {
        if let Some(note) = self.findings.note(kind, first) {
            self.queue.push(Event::Note(note));
        }
    }

    /// Whether a destination has run full and others may have room.
    pub fn is_full(&self, index: usize) -> bool {
        self.targets[index].full.load(Ordering::Relaxed)
    }

    /// A destination has run full.
    pub fn fill(&self, index: usize) {
        self.targets[index].full.store(true, Ordering::Relaxed);
    }

    /// Counts what a destination will have to hold; says so once when that is more than it had room for.
    pub fn reserve(&self, index: usize, bytes: u64) {
        let target = &self.targets[index];
        let Some(capacity) = target.capacity else { return };
        let reserved = target.reserved.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if reserved > capacity.free_bytes {
            self.note("space", || {
                let free = capacity.free_bytes;
                (
                    target.path.clone(),
                    format!("more than the {free} bytes that were free has been found to copy"),
                )
            });
        }
    }

    /// What else is known about a fault.
    pub fn hint(&self, fault: &Fault) -> Option<String> {
        let (Cause::Errno(errno), Side::Destination(index)) = (&fault.cause, fault.side) else {
            return None;
        };
        let target = self.targets.get(index)?;
        match *errno {
            Errno::DQUOT => Some(format!("the disk quota of user {} is used up", self.user)),
            Errno::NOSPC => {
                let now = target
                    .file_system
                    .as_ref()
                    .and_then(|fd| sys::capacity(fd.as_fd()).ok());
                Some(match now {
                    Some(c) if c.free_inodes == 0 => "the file system has no inode left".into(),
                    Some(c) => format!(
                        "{} of {} bytes are free on the file system",
                        c.free_bytes, c.total_bytes
                    ),
                    None => "the file system is full".into(),
                })
            }
            Errno::PERM if matches!(fault.operation, Operation::Rename | Operation::Remove) => {
                Some("it, or its directory, may be immutable or append-only".into())
            }
            _ => None,
        }
    }
}

impl Worker<'_> {
    /// Enters the next subdirectory; the rest of them stay for whoever is free.
    pub fn descend(&mut self, dir: &Arc<Dir>) {
        let next = dir.below.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some(sub) = next.filter(|_| !self.run.cancel.is_draining()) else {
            self.child_done(dir);
            return;
        };
        dir.pending.fetch_add(1, Ordering::AcqRel);
        self.run.schedule.push(Task::Descend(Arc::clone(dir)));
        let entered = catch_unwind(AssertUnwindSafe(|| self.enter(dir, &sub))).unwrap_or_else(|_| {
            let cause = Cause::Panic("entering a directory".into());
            Err(Fault {
                operation: Operation::Work,
                side: Side::Source,
                cause,
            })
        });
        let source = sub.sources[sub.sources.len() - 1];
        match entered {
            Ok(Ok(child)) => {
                self.tell_shortfalls(dir, &sub.target);
                self.list(&child);
                return;
            }
            Ok(Err(done)) => self.record(dir, source, &sub.target, Kind::Directory, Ok(done)),
            Err(fault) => self.record(dir, source, &sub.target, Kind::Directory, Err(fault.into())),
        }
        self.run.listed();
        self.child_done(dir);
    }

    /// Opens a subdirectory's sources and twins. The inner error is an outcome: it is left alone.
    fn enter(&mut self, parent: &Arc<Dir>, sub: &Subdirectory) -> Result<Result<Arc<Dir>, Done>, Fault> {
        let run = self.run;
        let mut sources = Vec::with_capacity(sub.sources.len());
        for &index in &sub.sources {
            match self.open_source(parent, index, sub) {
                Ok(source) if run.destination_ids.contains(&source.slot.id()) => {
                    if index == sub.sources[sub.sources.len() - 1] {
                        return Ok(Err(Done::skipped(Reason::Destination)));
                    }
                }
                Ok(source) => sources.push(source),
                // The last one is this entry; the others are entries of their own that were overridden.
                Err(fault) if index == sub.sources[sub.sources.len() - 1] => return Err(fault),
                Err(fault) => self.fail(
                    &fault,
                    join(&parent.source_path(index), sub.target.to_bytes()),
                    Kind::Directory,
                ),
            }
        }
        let mut twins = Vec::with_capacity(parent.twins.len());
        let mut conflict = None;
        for index in 0..parent.twins.len() {
            match self.open_twin(parent, index, &sub.target) {
                Ok(twin) => twins.push(twin),
                Err(fault) if parent.twins.len() == 1 => return Err(fault),
                // Another destination may still take it.
                Err(fault) => {
                    twins.push(None);
                    conflict = Some(fault);
                }
            }
        }
        if let Some(fault) = conflict {
            if twins.iter().all(Option::is_none) {
                return Err(fault);
            }
            if let Side::Destination(index) = fault.side {
                self.fail(
                    &fault,
                    join(&parent.twin_path(index), sub.target.to_bytes()),
                    Kind::Directory,
                );
            }
        }
        let dir = Arc::new(Dir {
            parent: Some(Arc::clone(parent)),
            name: sub.target.clone(),
            sources: sources.into_boxed_slice(),
            twins: twins.into_boxed_slice(),
            destinations: Arc::clone(&parent.destinations),
            own: AtomicUsize::new(1),
            pending: AtomicUsize::new(1),
            below: Mutex::new(Below::default()),
            recorded: AtomicBool::new(false),
            is_entry: true,
        });
        dir.relieve(&run.budget);
        for (index, twin) in dir.twins.iter().enumerate() {
            if let Some(twin) = twin
                && matches!(twin.presence, Presence::Staged(_))
                && !twin.fresh
            {
                self.clear_strangers(&dir, index)?;
            }
        }
        Ok(Ok(dir))
    }

    fn open_source(&self, parent: &Dir, index: usize, sub: &Subdirectory) -> Result<Source, Fault> {
        let fault = |operation, errno| Fault::new(operation, Side::Source, errno);
        let up = &parent.sources[index];
        let name = up.scope.name_of(&sub.target).unwrap_or(&sub.target);
        let at = parent.source(index).map_err(|e| fault(Operation::Open, e))?;
        let fd = sys::open_directory(at.as_fd(), name, Follow::No).map_err(|e| match e {
            // It was a directory when it was listed.
            Errno::NOTDIR | Errno::LOOP => Fault {
                operation: Operation::Open,
                side: Side::Source,
                cause: Cause::Changed,
            },
            e => fault(Operation::Open, e),
        })?;
        let stat = sys::stat_fd(fd.as_fd()).map_err(|e| fault(Operation::Stat, e))?;
        // What was named itself is a walk of its own and has a device of its own.
        let device = if matches!(up.scope, Scope::Names(_)) {
            stat.id.dev
        } else {
            up.device
        };
        let scope = if self.run.rules.one_file_system && stat.id.dev != device {
            Scope::Itself
        } else {
            sub.scope.clone()
        };
        Ok(Source {
            slot: Slot::new(fd, stat.id, &self.run.budget),
            stat,
            scope,
            device,
            origin: Origin::Name {
                parent: index,
                name: name.to_owned(),
            },
        })
    }

    fn open_twin(&mut self, parent: &Arc<Dir>, index: usize, name: &CStr) -> Result<Option<Twin>, Fault> {
        let fault = |operation, errno| Fault::new(operation, Side::Destination(index), errno);
        let Some(up) = &parent.twins[index] else {
            return Ok(None);
        };
        let Some(at) = parent.twin(index).map_err(|e| fault(Operation::Open, e))? else {
            return Ok(Some(Twin::imagined()));
        };
        let existing = if up.fresh {
            None
        } else {
            match sys::stat(at.as_fd(), name, Follow::No) {
                Ok(stat) => Some(stat),
                Err(Errno::NOENT) => None,
                Err(errno) => return Err(fault(Operation::Stat, errno)),
            }
        };
        let leads = || sys::stat(at.as_fd(), name, Follow::Yes).is_ok_and(|s| s.kind == Kind::Directory);
        match place(existing.as_ref(), self.run.rules.keep_dirlinks, leads) {
            Place::Taken(what) => Err(Fault::conflict(Operation::MakeDirectory, index, what)),
            Place::Directory => {
                let follow = if existing.is_some_and(|e| e.kind == Kind::Symlink) {
                    Follow::Yes
                } else {
                    Follow::No
                };
                self.existing_twin(&at, name, follow, index).map(Some)
            }
            Place::Free if self.run.rules.dry_run => Ok(Some(Twin::imagined())),
            Place::Free => self.staged_twin(&at, name, index, up.default_acl).map(Some),
        }
    }

    fn existing_twin(&mut self, at: &OwnedFd, name: &CStr, follow: Follow, index: usize) -> Result<Twin, Fault> {
        let fault = |operation, errno| Fault::new(operation, Side::Destination(index), errno);
        let dry = self.run.rules.dry_run;
        let fd = match sys::open_directory(at.as_fd(), name, follow) {
            // Our own, and closed to ourselves: it is opened while we work in it.
            Err(Errno::ACCESS) if !dry => {
                let node = sys::open_node(at.as_fd(), name).map_err(|e| fault(Operation::Open, e))?;
                let stat = sys::stat_fd(node.as_fd()).map_err(|e| fault(Operation::Stat, e))?;
                sys::set_mode(Node::Path(node.as_fd()), stat.mode | 0o700)
                    .map_err(|_| fault(Operation::Open, Errno::ACCESS))?;
                sys::open_directory(at.as_fd(), name, follow).map_err(|e| fault(Operation::Open, e))?
            }
            other => other.map_err(|e| fault(Operation::Open, e))?,
        };
        let stat = sys::stat_fd(fd.as_fd()).map_err(|e| fault(Operation::Stat, e))?;
        let keep = &self.run.rules.keep;
        if !dry && !keep.privileged && stat.uid == self.run.user && stat.mode & 0o700 != 0o700 {
            sys::set_mode(Node::Open(fd.as_fd()), stat.mode | 0o700).map_err(|e| fault(Operation::SetMode, e))?;
        }
        let default_acl = !dry && metadata::has_default_acl(Node::Open(fd.as_fd()), &mut self.scratch, index)?;
        Ok(Twin {
            slot: Some(Slot::new(fd, stat.id, &self.run.budget)),
            presence: Presence::Existing(stat),
            published: AtomicBool::new(true),
            fresh: false,
            default_acl,
            tainted: AtomicBool::new(false),
            creates: OnceLock::new(),
        })
    }

    fn staged_twin(&self, at: &OwnedFd, name: &CStr, index: usize, default_acl: bool) -> Result<Twin, Fault> {
        let staged = self.run.stager.stage_directory(at.as_fd(), name, index)?;
        if default_acl {
            metadata::disinherit(Node::Open(staged.fd.as_fd()), index)?;
        }
        Ok(Twin::staged(staged, &self.run.budget))
    }

    /// Takes out of an adopted directory what the source does not have: unfinished entries, and what has gone since.
    fn clear_strangers(&self, dir: &Dir, index: usize) -> Result<(), Fault> {
        let fault = |operation, errno| Fault::new(operation, Side::Destination(index), errno);
        let Some(fd) = dir.twin(index).map_err(|e| fault(Operation::Open, e))? else {
            return Ok(());
        };
        let mut names = Vec::new();
        let mut buffer = Vec::with_capacity(crate::entries::LISTING_BYTES);
        while sys::read_directory(fd.as_fd(), buffer.spare_capacity_mut(), |name, _| {
            names.push(name.to_owned())
        })
        .map_err(|e| fault(Operation::List, e))?
        {}
        for name in names {
            let stat = sys::stat(fd.as_fd(), &name, Follow::No).map_err(|e| fault(Operation::Stat, e))?;
            if self.belongs(dir, &name, stat.kind) {
                continue;
            }
            if stat.kind == Kind::Directory {
                let below =
                    sys::open_directory(fd.as_fd(), &name, Follow::No).map_err(|e| fault(Operation::Open, e))?;
                clear_directory(&Arc::new(below)).map_err(|e| fault(Operation::Remove, e))?;
                sys::remove_directory(fd.as_fd(), &name).map_err(|e| fault(Operation::Remove, e))?;
            } else {
                sys::unlink(fd.as_fd(), &name).map_err(|e| fault(Operation::Remove, e))?;
            }
        }
        Ok(())
    }

    /// Whether this run will look at an entry of an adopted directory: only then the skip test proves it.
    fn belongs(&self, dir: &Dir, name: &CStr, kind: Kind) -> bool {
        let rules = &self.run.rules;
        let left_out = rules.directories == Directories::Only && kind != Kind::Directory;
        let excluded = || {
            rules.filter.as_ref().is_some_and(|(_, filter)| {
                let parent = self.filter_parent(dir, dir.sources.len() - 1);
                filter.excludes(&parent.unwrap_or_default(), name.to_bytes(), kind == Kind::Directory)
            })
        };
        let winner = dir.sources.iter().enumerate().rev().find_map(|(index, source)| {
            let real = source.scope.name_of(name).filter(|_| source.scope.takes(name))?;
            dir.source(index)
                .and_then(|at| sys::stat(at.as_fd(), real, Follow::No))
                .ok()
        });
        !left_out && winner.is_some_and(|stat| stat.kind == kind) && !excluded()
    }

    /// A directory failed: its entry has its outcome now, what of it could be had is still copied.
    pub fn fail_directory(&mut self, dir: &Arc<Dir>, source: usize, fault: &Fault) {
        let path = match fault.side {
            Side::Source => dir.source_path(source),
            Side::Destination(index) => dir.twin_path(index),
        };
        if dir.is_entry && !dir.recorded.swap(true, Ordering::AcqRel) {
            self.counters.outcome(Kind::Directory, fault.outcome(), None, 0);
        }
        self.fail(fault, path, Kind::Directory);
    }

    /// A batch or the listing is done; the last of them publishes the directory and goes on below.
    pub fn own_done(&mut self, dir: &Arc<Dir>) {
        if dir.own.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        if !self.run.cancel.is_draining() {
            for index in 0..dir.twins.len() {
                if let Err(fault) = self.publish_twin(dir, index) {
                    self.fail_directory(dir, dir.sources.len() - 1, &fault);
                    self.abandon(dir, &fault);
                }
            }
        }
        if dir.below.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.child_done(dir);
        } else {
            self.run.schedule.push(Task::Descend(Arc::clone(dir)));
        }
    }

    fn publish_twin(&self, dir: &Dir, index: usize) -> Result<(), Fault> {
        let side = Side::Destination(index);
        let Some(Twin {
            presence: Presence::Staged(staging),
            slot: Some(_),
            published,
            tainted,
            ..
        }) = &dir.twins[index]
        else {
            return Ok(());
        };
        let fault = |errno| Fault::new(Operation::Rename, side, errno);
        if tainted.load(Ordering::Acquire) {
            return Err(Fault::conflict(
                Operation::Rename,
                index,
                "something unfinished could not be removed from it",
            ));
        }
        let (root, at);
        let (at, name) = match &dir.parent {
            Some(parent) => {
                at = parent.twin(index).map_err(fault)?.ok_or_else(|| fault(Errno::STALE))?;
                (at.as_fd(), dir.name.as_c_str())
            }
            None => {
                root = &self.run.roots[index];
                let Some(root) = root else { return Ok(()) };
                (root.parent.as_fd(), root.name.as_c_str())
            }
        };
        match publish_directory(at, staging, name) {
            Ok(()) => {}
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {
                // Somebody else made it meanwhile: its entries move in one by one.
                let existing = sys::open_directory(at, name, Follow::No)
                    .map_err(|_| Fault::conflict(Operation::Rename, index, "something else took its name meanwhile"))?;
                let staged = dir.twin(index).map_err(fault)?.ok_or_else(|| fault(Errno::STALE))?;
                merge_directory(at, staging, staged.as_fd(), existing.as_fd(), index)?;
                let id = sys::stat_fd(existing.as_fd()).map_err(fault)?.id;
                if let Some(slot) = dir.twins[index].as_ref().and_then(|t| t.slot.as_ref()) {
                    slot.replace(existing, id);
                }
            }
            Err(errno) => return Err(fault(errno)),
        }
        published.store(true, Ordering::Release);
        Ok(())
    }

    /// Everything below a directory that could not be published has an outcome too.
    fn abandon(&mut self, dir: &Arc<Dir>, fault: &Fault) {
        loop {
            let next = dir.below.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(sub) = next else { return };
            self.run.listed();
            self.record(
                dir,
                sub.sources[sub.sources.len() - 1],
                &sub.target,
                Kind::Directory,
                Err(fault.clone().into()),
            );
        }
    }

    /// One child fewer; the last one closes the directory, and perhaps its parent, and so on up.
    pub fn child_done(&mut self, dir: &Arc<Dir>) {
        let mut dir = Arc::clone(dir);
        while dir.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            if !self.run.cancel.is_draining() {
                self.close(&dir);
            }
            dir.release();
            let Some(parent) = dir.parent.clone() else { return };
            dir = parent;
        }
    }

    /// The directory's own metadata, times last, and its outcome.
    fn close(&mut self, dir: &Arc<Dir>) {
        let mut changes = Changes::default();
        let mut made = false;
        for index in 0..dir.twins.len() {
            let Some(twin) = &dir.twins[index] else { continue };
            made |= !matches!(twin.presence, Presence::Existing(_));
            match self.close_twin(dir, index, twin) {
                Ok(seen) => changes.insert(seen),
                Err(fault) => self.fail_directory(dir, dir.sources.len() - 1, &fault),
            }
        }
        if dir.is_entry && !dir.recorded.swap(true, Ordering::AcqRel) {
            let done = if made {
                Done {
                    changes: Changes::NEW,
                    ..Done::new(Outcome::Made)
                }
            } else if changes.is_empty() {
                Done::skipped(Reason::Unchanged)
            } else {
                Done {
                    changes,
                    ..Done::new(Outcome::Metadata)
                }
            };
            self.counters.outcome(Kind::Directory, done.outcome, done.reason, 0);
            self.tell_directory(dir, &done);
        }
    }

    fn tell_directory(&mut self, dir: &Arc<Dir>, done: &Done) {
        match (&dir.parent, &dir.winner().origin) {
            (Some(parent), Origin::Name { parent: source, .. }) => {
                self.tell(parent, *source, &dir.name, Kind::Directory, done);
                self.tell_shortfalls(parent, &dir.name);
            }
            _ => {
                self.tell(dir, dir.sources.len() - 1, c".", Kind::Directory, done);
                self.tell_shortfalls(dir, c".");
            }
        }
    }

    fn close_twin(&mut self, dir: &Arc<Dir>, index: usize, twin: &Twin) -> Result<Changes, Fault> {
        let rules = &self.run.rules;
        let side = Side::Destination(index);
        let Some(fd) = dir.twin(index).map_err(|e| Fault::new(Operation::Open, side, e))? else {
            return Ok(Changes::default());
        };
        if !twin.published.load(Ordering::Acquire) {
            // It failed to appear, and that was said.
            return Ok(Changes::default());
        }
        if !rules.dry_run && !twin.fresh {
            sweep::clear_leftovers(self.run, dir, index, &fd)?;
        }
        let now = sys::stat_fd(fd.as_fd()).map_err(|e| Fault::new(Operation::Stat, side, e))?;
        let staged = matches!(twin.presence, Presence::Staged(_));
        if !dir.is_entry || rules.directories == Directories::Needed {
            return self.close_plainly(dir, index, twin, &fd, &now, staged);
        }
        let source = &dir.winner().stat;
        let mut changes = match &twin.presence {
            Presence::Existing(before) => differences(source, before, &rules.keep),
            _ => Changes::default(),
        };
        let node = dir
            .source(dir.sources.len() - 1)
            .map_err(|e| Fault::new(Operation::Open, Side::Source, e))?;
        let copy = Copy {
            node: Node::Open(fd.as_fd()),
            owner: (now.uid, now.gid),
            mode: now.mode,
            new: staged,
            inherits_acl: false,
            destination: index,
        };
        let act = !rules.dry_run;
        let seen = put_right(
            &rules.keep,
            source,
            Some(Node::Open(node.as_fd())),
            copy,
            act,
            &mut self.scratch,
        )?;
        changes.insert(Changes(seen.0 & (Changes::ACL.0 | Changes::XATTR.0)));
        if let (false, Presence::Existing(before)) = (rules.keep.mode || rules.keep.chmod.is_some(), &twin.presence)
            && act
            && before.mode != now.mode
        {
            // It was opened for our own work only.
            sys::set_mode(Node::Open(fd.as_fd()), before.mode).map_err(|e| Fault::new(Operation::SetMode, side, e))?;
        }
        if act && (staged || now.mtime != source.mtime) {
            metadata::set_times(&rules.keep, source, Node::Open(fd.as_fd()), index)?;
        }
        Ok(changes)
    }

    /// A directory that stands for no source entry, or whose metadata was not asked for.
    fn close_plainly(
        &self,
        dir: &Dir,
        index: usize,
        twin: &Twin,
        fd: &OwnedFd,
        now: &Stat,
        staged: bool,
    ) -> Result<Changes, Fault> {
        let fault = |operation, errno| Fault::new(operation, Side::Destination(index), errno);
        let rules = &self.run.rules;
        if rules.dry_run {
            return Ok(Changes::default());
        }
        if staged {
            if let (Directories::Needed, true, Some(parent)) = (rules.directories, twin.fresh, &dir.parent) {
                let at = parent.twin(index).map_err(|e| fault(Operation::Open, e))?;
                match at.map(|at| sys::remove_directory(at.as_fd(), &dir.name)) {
                    Some(Ok(())) => return Ok(Changes::default()),
                    None | Some(Err(Errno::NOTEMPTY | Errno::EXIST)) => {}
                    Some(Err(errno)) => return Err(fault(Operation::Remove, errno)),
                }
            }
            sys::set_mode(Node::Open(fd.as_fd()), 0o777 & !rules.keep.umask)
                .map_err(|e| fault(Operation::SetMode, e))?;
        } else if let Presence::Existing(before) = &twin.presence
            && before.mode != now.mode
        {
            sys::set_mode(Node::Open(fd.as_fd()), before.mode).map_err(|e| fault(Operation::SetMode, e))?;
        }
        Ok(Changes::default())
    }
}

/// Counts at one moment, for progress.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// Where the run stands.
    pub phase: Phase,
    /// The sums.
    pub totals: Totals,
    /// Failures so far.
    pub failures: u64,
    /// Worker threads.
    pub workers: usize,
    /// Since the start.
    pub elapsed: Duration,
}

/// One copy, to be run once; watched and cancelled from any thread.
pub struct Job {
    options: CopyOptions,
    rules: Mutex<Option<Rules>>,
    workers: usize,
    counters: Box<[Counters]>,
    queue: Arc<Queue>,
    cancel: Arc<Cancel>,
    run: OnceLock<Run>,
    phase: Mutex<Phase>,
    start: OnceLock<Instant>,
}

impl Job {
    /// Checks the options; touches nothing.
    pub fn new(options: CopyOptions) -> Result<Self, Refusal> {
        let rules = options.check(preflight::process())?;
        let workers = rules.jobs;
        Ok(Self {
            options,
            rules: Mutex::new(Some(rules)),
            workers,
            counters: (0..workers).map(|_| Counters::default()).collect(),
            queue: Arc::default(),
            cancel: Arc::default(),
            run: OnceLock::new(),
            phase: Mutex::new(Phase::Preflight),
            start: OnceLock::new(),
        })
    }

    /// The events of this job.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Finish what is in flight and stop.
    pub fn drain(&self) {
        self.cancel.drain();
    }

    /// Stop at once; what is unfinished goes.
    pub fn abort(&self) {
        self.cancel.abort();
    }

    fn enter(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// Where it stands.
    pub fn snapshot(&self) -> Snapshot {
        let mut phase = *self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        let run = self.run.get();
        if phase == Phase::Scanning && run.is_some_and(|r| r.unlisted.load(Ordering::Relaxed) == 0) {
            phase = Phase::Copying;
        }
        Snapshot {
            phase,
            totals: Totals::of(&self.counters),
            failures: run.map_or(0, |r| r.findings.failed()),
            workers: self.workers,
            elapsed: self.start.get().map_or(Duration::ZERO, Instant::elapsed),
        }
    }

    /// Runs to the end on threads of its own and on this one. A second call is a usage error.
    pub fn run(&self) -> Result<Report, Refusal> {
        let result = self.run_once();
        self.enter(Phase::Done);
        self.queue.close();
        result
    }

    fn run_once(&self) -> Result<Report, Refusal> {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner).take();
        let rules = rules.ok_or_else(|| Refusal::Usage("a job runs once".into()))?;
        let start = *self.start.get_or_init(Instant::now);
        if self.options.require_space && !rules.dry_run {
            self.require_space()?;
        }
        let limit = sys::descriptor_limit();
        let spare = limit.saturating_sub(limit / 2 + DESCRIPTORS_ELSEWHERE);
        // Few descriptors mean few workers: each needs some for its files.
        let workers = self
            .workers
            .min(usize::try_from((spare / DESCRIPTORS_PER_WORKER).max(1)).unwrap_or(usize::MAX));
        let budget = Arc::new(Budget::new(usize::try_from(limit / 2).unwrap_or(usize::MAX)));
        let prepared = preflight::prepare(&self.options, &rules, &budget, Stager::new())?;
        let Prepared {
            root,
            targets,
            roots,
            destination_ids,
            working_directory,
            missing,
            outside,
        } = prepared;
        let run = Run {
            rules,
            stager: Stager::new(),
            schedule: Schedule::default(),
            budget,
            sync_batch: usize::try_from(spare / DESCRIPTORS_PER_WORKER / workers as u64)
                .unwrap_or(usize::MAX)
                .max(1),
            findings: Findings::default(),
            queue: Arc::clone(&self.queue),
            cancel: Arc::clone(&self.cancel),
            methods: Methods::default(),
            links: Links::default(),
            targets,
            roots,
            destination_ids,
            working_directory,
            user: sys::user_id(),
            unlisted: AtomicUsize::new(1),
        };
        let run = self.run.get_or_init(|| run);
        self.enter(Phase::Scanning);
        self.begin(run, &root, missing, &outside);
        run.schedule.push(Task::List(root));
        self.drive(run, workers);
        self.enter(Phase::Closing);
        let interrupted = self.cancel.is_draining();
        if !interrupted {
            Self::sync_targets(run);
        }
        Ok(Report::close(
            &self.counters,
            &run.findings,
            interrupted,
            run.rules.sync,
            workers,
            start.elapsed(),
        ))
    }

    /// What was found out about the arguments before the walk: entries that are missing, and the root's own.
    fn begin(&self, run: &Run, root: &Arc<Dir>, missing: Vec<(Vec<u8>, Fault)>, outside: &[Vec<u8>]) {
        let mut worker = Worker::new(run, &self.counters[0]);
        if root.is_entry {
            self.counters[0].found(Kind::Directory);
        }
        for (path, fault) in missing {
            self.counters[0].found(Kind::File);
            self.counters[0].outcome(Kind::File, fault.outcome(), None, 0);
            worker.fail(&fault, path, Kind::File);
        }
        for path in outside {
            self.counters[0].found(Kind::File);
            self.counters[0].outcome(Kind::File, Outcome::Failed, None, 0);
            let fault = Fault {
                operation: Operation::Open,
                side: Side::Source,
                cause: Cause::Errno(Errno::XDEV),
            };
            worker.fail(&fault, path.clone(), Kind::File);
        }
        for (index, twin) in root.twins.iter().enumerate() {
            let adopted = twin
                .as_ref()
                .is_some_and(|t| matches!(t.presence, Presence::Staged(_)) && !t.fresh);
            if adopted && let Err(fault) = worker.clear_strangers(root, index) {
                worker.fail_directory(root, 0, &fault);
            }
        }
    }

    fn drive(&self, run: &Run, workers: usize) {
        std::thread::scope(|scope| {
            for (index, counters) in self.counters.iter().enumerate().take(workers).skip(1) {
                let work = move || {
                    let mut worker = Worker::new(run, counters);
                    run.schedule.work(|task| worker.perform(task));
                };
                let thread = std::thread::Builder::new()
                    .name(format!("bulkhaul-{index}"))
                    .stack_size(STACK_BYTES);
                // One worker fewer is slower, not wrong.
                if let Err(error) = thread.spawn_scoped(scope, work) {
                    run.note("threads", || {
                        (Vec::new(), format!("a worker could not be started: {error}"))
                    });
                }
            }
            let mut worker = Worker::new(run, &self.counters[0]);
            run.schedule.work(|task| worker.perform(task));
        });
    }

    /// `--sync all`: one call for each file system that was written.
    fn sync_targets(run: &Run) {
        if run.rules.sync != Sync::All || run.rules.dry_run {
            return;
        }
        let mut done: Vec<u64> = Vec::new();
        for (index, target) in run.targets.iter().enumerate() {
            let Some(fd) = &target.file_system else { continue };
            let result = sys::stat_fd(fd.as_fd()).and_then(|stat| {
                if done.contains(&stat.id.dev) {
                    return Ok(());
                }
                done.push(stat.id.dev);
                sys::sync_file_system(fd.as_fd())
            });
            if let Err(errno) = result {
                let fault = Fault::new(Operation::Sync, Side::Destination(index), errno);
                let failure = crate::error::Failure::new(&fault, target.path.clone(), Kind::Directory, None);
                run.findings.fail(&failure);
                run.queue.push(Event::Failure(failure));
            }
        }
    }

    /// Sizes what would be copied with a dry run of the same planner, and refuses what does not fit.
    fn require_space(&self) -> Result<(), Refusal> {
        let options = CopyOptions {
            dry_run: true,
            require_space: false,
            entry_events: false,
            ..self.options.clone()
        };
        let rehearsal = Job::new(options)?;
        let report = rehearsal.run()?;
        let needed = report.totals.planned_bytes;
        let free = rehearsal.run.get().map_or(0, |run| {
            let mut seen: Vec<u64> = Vec::new();
            run.targets.iter().fold(0_u64, |sum, target| {
                let dev = target
                    .file_system
                    .as_ref()
                    .and_then(|fd| sys::stat_fd(fd.as_fd()).ok())
                    .map(|s| s.id.dev);
                match (dev, target.capacity) {
                    (Some(dev), Some(capacity)) if !seen.contains(&dev) => {
                        seen.push(dev);
                        sum.saturating_add(capacity.free_bytes)
                    }
                    _ => sum,
                }
            })
        });
        if needed > free {
            return Err(Refusal::NoSpace(format!(
                "{needed} bytes are to be copied, and {free} are free"
            )));
        }
        Ok(())
    }
}
