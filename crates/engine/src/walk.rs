//! The walk: one or several trees, in parallel, by descriptors, with a [`Visitor`] that is told what is found.
//!
//! Comes in: [`Root`]s or [`Part`]s of directories, exclude rules and where to stop; goes out, to the visitor: each
//! directory as it is entered, its entries in stretches, and the directory again when everything below it is done. The walk
//! is the finder of the books: it counts every entry that it sees, and the visitor owes each one an outcome. Every call is
//! relative to a directory's descriptor and follows no symlink (but the argument, where that was asked for); paths are made
//! for messages only.
//!
//! One task a directory, newest first. A directory's entries are handed to the visitor while the listing goes on, and
//! whoever has nothing to do is given a part of them, so one huge directory keeps every worker busy. Memory: a stretch
//! of names for each worker, the names of subdirectories that wait, and the directories on the way down. Open
//! directories have a budget; what lies above the current ones is closed and found again by `..` or from the top, and
//! checked to be the same inode. Depth is neither stack nor path length.

pub mod node;
pub mod scout;
pub mod start;

use std::ffi::{CStr, CString};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow, Identity, Kind, OwnedFd, Stat};

use crate::error::{Failure, Fault, Operation, Side};
use crate::job::desk::Desk;
use crate::pool::schedule::{Schedule, drive};
use crate::report::counters::Counters;
use crate::tree::descriptors::{Budget, Slot};
use crate::tree::listing::{Batch, LISTING_BYTES, Names};
use crate::tree::path::{c_string, join, open_directory_path, split, trim};
use crate::tree::selection::Selection;
use crate::walk::node::{Elsewhere, Entered, Node};
use crate::walk::start::{Part, Root, Start};

/// What the walk does not go past. It always enters its roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// Nothing.
    None,
    /// Another file system.
    FileSystem,
    /// Anything mounted, also from the same file system. A subvolume of btrfs is not mounted where it lies.
    Mount,
}

/// Whether a directory is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// On to the directory above it.
    Up,
    /// It is to be listed again; what is found then counts as found.
    Again,
}

/// Who is told what the walk finds. One for all threads; each thread has a `Worker` of its own.
pub trait Visitor: Sync {
    /// What it keeps of a directory from `enter` to `leave`.
    type Data: Send + Sync;
    /// What a thread keeps to itself: buffers, counters.
    type Worker;

    /// A worker; `index` is the number of its counters at the desk.
    fn worker(&self, index: usize) -> Self::Worker;

    /// A thread has nothing left to do; its worker goes.
    fn finish(&self, _worker: Self::Worker) {}

    /// A directory has been opened. `None`: it is not descended into, `leave` is not called, and it has its outcome.
    fn enter(&self, worker: &mut Self::Worker, entered: &Entered<'_, Self::Data>) -> Option<Self::Data>;

    /// Entries of a directory that are no directories, each owed an outcome. `at` is the directory's descriptor.
    fn entries(&self, worker: &mut Self::Worker, at: BorrowedFd<'_>, entries: &mut Entries<'_, Self::Data>);

    /// Everything below a directory is done; it is owed its outcome now. Not called in a cancelled walk.
    fn leave(&self, worker: &mut Self::Worker, node: &Node<Self::Data>) -> Next;

    /// An entry that was found and can't be had: it could not be asked about or opened, or lies past the boundary
    /// (`EXDEV`). It is owed an outcome. `parent` is none where not even the directory above an argument could be opened.
    fn fault(
        &self,
        worker: &mut Self::Worker,
        parent: Option<&Node<Self::Data>>,
        path: Vec<u8>,
        kind: Kind,
        fault: &Fault,
    );

    /// A directory that was entered could not be listed, or not to its end. It is left as always.
    fn unlisted(&self, worker: &mut Self::Worker, node: &Node<Self::Data>, errno: Errno);

    /// An entry that a rule excludes. It was not counted as found and is owed nothing.
    fn excluded(&self, _worker: &mut Self::Worker, _parent: &Node<Self::Data>, _name: &CStr, _kind: Kind) {}

    /// Too much is open: descriptors in a directory's data are better closed until they are needed again.
    fn relieve(&self, _data: &Self::Data) {}
}

/// Entries of one directory, taken one by one. Whoever has nothing to do is given half of the rest meanwhile.
pub struct Entries<'w, D> {
    node: &'w Arc<Node<D>>,
    batch: Batch,
    next: usize,
    schedule: &'w Schedule<Task<D>>,
    desk: &'w Desk,
}

impl<'w, D> Entries<'w, D> {
    /// Their directory.
    pub fn node(&self) -> &'w Node<D> {
        self.node
    }

    /// The next entry's name and kind, which is known, when the limit of entries allows it; none also when the walk was
    /// cancelled.
    #[allow(clippy::should_implement_trait, reason = "the name is lent")]
    pub fn next(&mut self) -> Option<(&CStr, Kind)> {
        if self.next >= self.batch.len() || self.desk.cancel.is_draining() {
            return None;
        }
        if self.batch.len() - self.next > 1 && self.schedule.hungry() {
            let rest = self.batch.split_off(self.next + 1);
            give_away(self.schedule, self.node, rest);
        }
        if !self.desk.may_begin() {
            return None;
        }
        self.next += 1;
        Some(self.batch.get(self.next - 1))
    }
}

fn give_away<D>(schedule: &Schedule<Task<D>>, node: &Arc<Node<D>>, batch: Batch) {
    node.pending.fetch_add(1, Ordering::AcqRel);
    schedule.push(Task::Entries(Arc::clone(node), batch));
}

enum Task<D> {
    /// Begin with this root or part, and leave the ones after it to whoever is free.
    Begin(usize),
    /// Enter the next subdirectory.
    Descend(Arc<Node<D>>),
    /// Entries that somebody else listed.
    Entries(Arc<Node<D>>, Batch),
    /// List it from the first name.
    Again(Arc<Node<D>>),
}

/// What is walked, and how.
pub struct Walk<'w> {
    /// Where to begin.
    pub start: Start<'w>,
    /// Exclude rules.
    pub filter: &'w Selection,
    /// Where to stop.
    pub boundary: Boundary,
    /// Directories that it enters all the same.
    pub across: &'w [Identity],
    /// Counters of each worker, and the wish to stop.
    pub desk: &'w Desk,
    /// Threads.
    pub workers: usize,
    /// Directories that may be open.
    pub budget: &'w Arc<Budget>,
}

impl Walk<'_> {
    /// Walks to the end, or until the job is cancelled.
    pub fn run<V: Visitor>(&self, visitor: &V) {
        if self.start.count() == 0 {
            return;
        }
        let schedule = Schedule::new(self.workers);
        self.desk.unlisted();
        schedule.push(Task::Begin(0));
        let working_directory = sys::working_directory();
        let failed = drive(self.workers, |index| {
            let mut hand = Hand {
                walk: self,
                visitor,
                schedule: &schedule,
                working_directory: &working_directory,
                counters: &self.desk.counters[index],
                listing: Vec::with_capacity(LISTING_BYTES),
                worker: visitor.worker(index),
            };
            schedule.work(|task| {
                // What a panic loses has no outcome: the books will not balance, and the report says so.
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| hand.perform(task))) {
                    let fault = Fault::panic(&*panic);
                    self.desk.fail(Failure::new(&fault, Vec::new(), Kind::Directory, None));
                }
            });
            visitor.finish(hand.worker);
        });
        if let Some(error) = failed {
            let message = format!("a worker could not be started: {error}");
            self.desk.note("threads", || (Vec::new(), message));
        }
    }
}

/// A thread at work.
struct Hand<'w, V: Visitor> {
    walk: &'w Walk<'w>,
    visitor: &'w V,
    schedule: &'w Schedule<Task<V::Data>>,
    working_directory: &'w [u8],
    counters: &'w Counters,
    listing: Vec<u8>,
    worker: V::Worker,
}

/// Roots are in the source.
fn fault(operation: Operation, errno: Errno) -> Fault {
    Fault::new(operation, Side::Source, errno)
}

impl<V: Visitor> Hand<'_, V> {
    fn draining(&self) -> bool {
        self.walk.desk.cancel.is_draining()
    }

    fn perform(&mut self, task: Task<V::Data>) {
        match task {
            Task::Begin(index) => {
                let start = self.walk.start;
                if index + 1 < start.count() && !self.draining() {
                    self.walk.desk.unlisted();
                    self.schedule.push(Task::Begin(index + 1));
                }
                match start {
                    _ if self.draining() => {}
                    Start::Roots(roots) => self.begin(&roots[index]),
                    Start::Parts(parts) => {
                        if let Some(part) = parts.open(index) {
                            self.begin_part(part);
                        }
                    }
                }
                self.walk.desk.listed();
            }
            Task::Descend(node) => self.descend(&node),
            Task::Entries(node, batch) => {
                self.entries(&node, batch);
                self.done(&node);
            }
            Task::Again(node) => {
                let rewound = node.descriptor().and_then(|fd| sys::rewind_directory(fd.as_fd()));
                self.list(&node, rewound);
            }
        }
    }

    /// Finds a root by the directory that holds it.
    fn begin(&mut self, root: &Root) {
        let path = trim(&root.path);
        let (holder, name) = split(path);
        let follow = if root.follow { Follow::Yes } else { Follow::No };
        let opened = open_directory_path(holder, Follow::Yes);
        let found = opened.map_err(|e| fault(Operation::Open, e)).and_then(|fd| {
            let stat = sys::stat_mounted(fd.as_fd()).map_err(|e| fault(Operation::Stat, e))?;
            let name = c_string(if name.is_empty() { b"." } else { name });
            Ok((fd, stat, name.map_err(|e| fault(Operation::Open, e))?))
        });
        // What had been looked at has vanished.
        let of_root = |fault: Fault| if root.pin.is_some() { fault } else { fault.of_named() };
        let (fd, (stat, mount), name) = match found.map_err(of_root) {
            Ok(found) => found,
            Err(fault) => {
                self.counters.found(Kind::File);
                return self
                    .visitor
                    .fault(&mut self.worker, None, path.to_vec(), Kind::File, &fault);
            }
        };
        let holder = Arc::new(Node {
            parent: None,
            name: CString::default(),
            path: Some(holder.to_vec()),
            elsewhere: None,
            side: Side::Source,
            hidden: true,
            follow: Follow::Yes,
            slot: Slot::new(fd, stat.id, self.walk.budget),
            mount,
            below: Mutex::default(),
            pending: AtomicUsize::new(1),
            data: None,
        });
        let looked = holder
            .descriptor()
            .and_then(|at| {
                let itself = sys::stat(at.as_fd(), &name, Follow::No)?;
                if itself.kind != Kind::Symlink || follow == Follow::No {
                    return Ok(itself);
                }
                // Only to a directory: a link to anything else stands for itself.
                match sys::stat(at.as_fd(), &name, Follow::Yes) {
                    Ok(led) if led.kind == Kind::Directory => Ok(led),
                    _ => Ok(itself),
                }
            })
            .map_err(|e| of_root(fault(Operation::Stat, e)))
            .and_then(|stat| match root.pin {
                Some(pin) if pin != stat.id => Err(Fault::changed(Operation::Stat)),
                _ => Ok(stat),
            });
        let kind = match &looked {
            Ok(stat) => stat.kind,
            Err(fault) => {
                self.counters.found(Kind::File);
                return self
                    .visitor
                    .fault(&mut self.worker, Some(&holder), path.to_vec(), Kind::File, fault);
            }
        };
        if !root.contents && self.walk.filter.excludes(&self.filter_parents(&holder), &name, kind) {
            self.counters.excluded();
            return self.visitor.excluded(&mut self.worker, &holder, &name, kind);
        }
        self.counters.found(kind);
        if kind == Kind::Directory {
            self.walk.desk.unlisted();
            holder.pending.fetch_add(1, Ordering::AcqRel);
            self.enter(&holder, &name, Some(root));
        } else {
            let mut batch = Batch::default();
            batch.push(&name, kind);
            self.entries(&holder, batch);
        }
    }

    /// Begins with entries of a directory.
    fn begin_part(&mut self, part: Part) {
        let node = Arc::new(Node {
            parent: None,
            name: CString::default(),
            path: Some(part.path),
            elsewhere: Some(Box::new(Elsewhere {
                relative_path: part.relative_path,
                twins: part.twins,
            })),
            side: part.side,
            hidden: true,
            follow: Follow::No,
            slot: Slot::new(part.fd, part.id, self.walk.budget),
            mount: part.mount,
            below: Mutex::default(),
            pending: AtomicUsize::new(1),
            data: None,
        });
        let mut left = part.entries.len();
        for batch in part.entries {
            left -= 1;
            let mut found = Found::default();
            for (name, kind) in batch.iter() {
                self.found(&node, name, kind, &mut found);
            }
            self.offer(&node, found, left > 0);
        }
        self.descend_into(&node);
    }

    fn filter_parents(&self, node: &Node<V::Data>) -> Vec<Vec<u8>> {
        let paths = || {
            let mut paths = node.twins();
            paths.push(node.path());
            paths
        };
        self.walk
            .filter
            .parents(|| node.relative_path(), paths, self.working_directory)
    }

    fn descend(&mut self, node: &Arc<Node<V::Data>>) {
        let next = node.below().pop();
        let Some((_, name)) = next.filter(|_| !self.draining()) else {
            // Nothing is left to enter, and what was entered has descriptors of its own.
            if self.walk.budget.exceeded() {
                self.let_go(node);
            }
            self.done(node);
            return;
        };
        node.pending.fetch_add(1, Ordering::AcqRel);
        self.schedule.push(Task::Descend(Arc::clone(node)));
        self.enter(node, &name, None);
    }

    /// Opens a directory and lists it, when the limit of entries allows it; its parent waits for it.
    fn enter(&mut self, parent: &Arc<Node<V::Data>>, name: &CStr, root: Option<&Root>) {
        let opened = self.walk.desk.may_begin().then(|| self.open(parent, name, root));
        match opened {
            Some(Ok(Some(node))) => return self.list(&node, Ok(())),
            None | Some(Ok(None)) => {}
            Some(Err(fault)) => {
                let path = match root {
                    Some(root) => trim(&root.path).to_vec(),
                    None => join(&parent.path(), name.to_bytes()),
                };
                self.visitor
                    .fault(&mut self.worker, Some(parent), path, Kind::Directory, &fault);
            }
        }
        self.walk.desk.listed();
        self.done(parent);
    }

    fn open(
        &mut self,
        parent: &Arc<Node<V::Data>>,
        name: &CStr,
        root: Option<&Root>,
    ) -> Result<Option<Arc<Node<V::Data>>>, Fault> {
        let follow = match root {
            Some(root) if root.follow => Follow::Yes,
            _ => Follow::No,
        };
        let fault = |operation, errno| Fault::new(operation, parent.side, errno);
        let at = parent.descriptor().map_err(|e| fault(Operation::Open, e))?;
        let fd = sys::open_directory(at.as_fd(), name, follow).map_err(|e| match e {
            // It was a directory when it was listed.
            Errno::NOTDIR | Errno::LOOP => Fault::replaced(Operation::Open, parent.side),
            e => fault(Operation::Open, e),
        })?;
        drop(at);
        let (stat, mount) = sys::stat_mounted(fd.as_fd()).map_err(|e| fault(Operation::Stat, e))?;
        match root {
            Some(root) if root.pin.is_some_and(|pin| pin != stat.id) => {
                return Err(Fault::changed(Operation::Open));
            }
            None if self.is_beyond(parent, &stat, mount) => return Err(fault(Operation::Open, Errno::XDEV)),
            _ => {}
        }
        let entered = Entered {
            parent,
            name,
            fd: fd.as_fd(),
            stat: &stat,
            mount,
            root,
        };
        let Some(data) = self.visitor.enter(&mut self.worker, &entered) else {
            return Ok(None);
        };
        let node = Arc::new(Node {
            parent: Some(Arc::clone(parent)),
            name: name.to_owned(),
            path: root.map(|root| trim(&root.path).to_vec()),
            elsewhere: None,
            side: parent.side,
            hidden: root.is_some_and(|root| root.contents),
            follow,
            slot: Slot::new(fd, stat.id, self.walk.budget),
            mount,
            below: Mutex::default(),
            pending: AtomicUsize::new(1),
            data: Some(data),
        });
        self.relieve(&node);
        Ok(Some(node))
    }

    fn is_beyond(&self, parent: &Node<V::Data>, stat: &Stat, mount: u64) -> bool {
        if self.walk.across.contains(&stat.id) {
            return false;
        }
        match self.walk.boundary {
            Boundary::None => false,
            Boundary::FileSystem => parent.id().dev != stat.id.dev,
            Boundary::Mount => parent.mount != mount,
        }
    }

    /// Closes what lies above a directory when too much is open; its parent stays.
    fn relieve(&self, node: &Node<V::Data>) {
        let mut up = node.parent().and_then(Node::parent);
        while let Some(node) = up
            && self.walk.budget.exceeded()
            && node.slot.current().is_some()
        {
            self.let_go(node);
            up = node.parent();
        }
    }

    fn let_go(&self, node: &Node<V::Data>) {
        if node.parent.is_none() {
            return;
        }
        node.slot.release();
        if let Some(data) = &node.data {
            self.visitor.relieve(data);
        }
    }

    fn list(&mut self, node: &Arc<Node<V::Data>>, begun: sys::Result<()>) {
        if let Err(errno) = begun.and_then(|()| self.read(node)) {
            self.visitor.unlisted(&mut self.worker, node, errno);
        }
        self.walk.desk.listed();
        self.descend_into(node);
    }

    /// A directory has been listed: on to what is below it.
    fn descend_into(&mut self, node: &Arc<Node<V::Data>>) {
        if node.below().is_empty() {
            self.done(node);
        } else {
            self.schedule.push(Task::Descend(Arc::clone(node)));
        }
    }

    fn read(&mut self, node: &Arc<Node<V::Data>>) -> sys::Result<()> {
        let fd = node.descriptor()?;
        let parents = self.filter_parents(node);
        let mut more = true;
        while more && !self.draining() {
            let mut found = Found::default();
            // The buffer is lent to the listing while this thread's other things are used.
            let mut buffer = std::mem::take(&mut self.listing);
            buffer.reserve(LISTING_BYTES);
            let read = sys::read_directory(fd.as_fd(), buffer.spare_capacity_mut(), |name, kind, _| {
                self.sift(node, &fd, &parents, name, kind, &mut found);
            });
            self.listing = buffer;
            // What came before an error is worked on all the same: it was counted.
            more = *read.as_ref().unwrap_or(&false);
            self.offer(node, found, more);
            read?;
        }
        Ok(())
    }

    /// Works on a stretch of entries; where `more` are to come, whoever has nothing to do gets it.
    fn offer(&mut self, node: &Arc<Node<V::Data>>, mut found: Found, more: bool) {
        if !found.below.is_empty() {
            node.below().append(&mut found.below);
            if more && self.schedule.hungry() {
                node.pending.fetch_add(1, Ordering::AcqRel);
                self.schedule.push(Task::Descend(Arc::clone(node)));
            }
        }
        if found.files.is_empty() {
        } else if more && self.schedule.hungry() {
            give_away(self.schedule, node, found.files);
        } else {
            self.entries(node, found.files);
        }
    }

    /// Sorts one name.
    fn sift(
        &mut self,
        node: &Node<V::Data>,
        fd: &OwnedFd,
        parents: &[Vec<u8>],
        name: &CStr,
        mut kind: Kind,
        found: &mut Found,
    ) {
        if kind == Kind::Unknown {
            match sys::stat(fd.as_fd(), name, Follow::No) {
                Ok(stat) => kind = stat.kind,
                Err(errno) => {
                    self.counters.found_in(node.side, Kind::File);
                    let path = join(&node.path(), name.to_bytes());
                    let fault = Fault::new(Operation::Stat, node.side, errno);
                    return self
                        .visitor
                        .fault(&mut self.worker, Some(node), path, Kind::File, &fault);
                }
            }
        }
        if self.walk.filter.excludes(parents, name, kind) {
            if node.side == Side::Source {
                self.counters.excluded();
            }
            return self.visitor.excluded(&mut self.worker, node, name, kind);
        }
        self.found(node, name, kind, found);
    }

    /// The finder.
    fn found(&self, node: &Node<V::Data>, name: &CStr, kind: Kind, found: &mut Found) {
        self.counters.found_in(node.side, kind);
        if kind == Kind::Directory {
            self.walk.desk.unlisted();
            found.below.push(0, name);
        } else {
            found.files.push(name, kind);
        }
    }

    fn entries(&mut self, node: &Arc<Node<V::Data>>, batch: Batch) {
        let mut entries = Entries {
            node,
            batch,
            next: 0,
            schedule: self.schedule,
            desk: self.walk.desk,
        };
        match node.descriptor() {
            Ok(fd) => self.visitor.entries(&mut self.worker, fd.as_fd(), &mut entries),
            Err(errno) => {
                while let Some((name, kind)) = entries.next() {
                    let path = join(&node.path(), name.to_bytes());
                    let fault = Fault::new(Operation::Open, node.side, errno);
                    self.visitor.fault(&mut self.worker, Some(node), path, kind, &fault);
                }
            }
        }
    }

    /// One thing fewer that a directory waits for; the last one leaves it, and perhaps the one above, and so on up.
    fn done(&mut self, node: &Arc<Node<V::Data>>) {
        let mut node = Arc::clone(node);
        while node.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            let Some(parent) = node.parent.clone() else {
                return;
            };
            if !self.draining() && self.visitor.leave(&mut self.worker, &node) == Next::Again {
                node.pending.store(1, Ordering::Release);
                self.walk.desk.unlisted();
                self.schedule.push(Task::Again(node));
                return;
            }
            node.slot.retire();
            node = parent;
        }
    }
}

/// What one stretch of a listing has.
#[derive(Default)]
struct Found {
    files: Batch,
    below: Names,
}
