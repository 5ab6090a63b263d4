//! Who is told what a walk finds, and the thread that tells it.
//!
//! Comes in: directories and names as the walk comes to them; goes out: calls of a [`Visitor`], each by one thread with a
//! [`Hand`] of its own, and tasks for whoever has nothing to do. A directory's own entries are counted, and so are its
//! children; the last one that is done with goes on, and perhaps up.

use std::ffi::{CStr, CString};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Identity, Kind};

use crate::error::{Failure, Fault, Operation};
use crate::job::desk::Desk;
use crate::pool::schedule::Schedule;
use crate::report::counters::Counters;
use crate::tree::descriptors::Budget;
use crate::tree::listing::Batch;
use crate::tree::path::join;
use crate::tree::selection::Selection;
use crate::walk::node::{Entered, Node, Source};
use crate::walk::scope::Subdirectory;
use crate::walk::start::Boundary;

/// Whether a directory is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// On to the directory above it.
    Up,
    /// It is to be listed again; what is found then counts as found.
    Again,
}

/// What a visitor makes of a name before anything else is done with it.
pub enum Met {
    /// An entry like any other.
    Entry,
    /// The same, which has this name by now.
    Renamed(CString),
    /// None of the tree's: [`Visitor::stranger`] is told of it when it is known what it is.
    Stranger,
}

/// An entry that can't be had.
pub struct Missed<'m, D> {
    /// The directory that holds it; none where not even that could be opened, or it is not in a directory.
    pub parent: Option<&'m Arc<Node<D>>>,
    /// Which of the directory's sources has it.
    pub source: usize,
    /// The name that it gets; empty where there is no directory.
    pub name: &'m CStr,
    pub(crate) path: Option<&'m [u8]>,
}

impl<'m, D> Missed<'m, D> {
    /// In a directory.
    pub(crate) fn within(parent: &'m Arc<Node<D>>, source: usize, name: &'m CStr) -> Self {
        Self {
            parent: Some(parent),
            source,
            name,
            path: None,
        }
    }

    /// Nothing is known of it but its path.
    pub(crate) fn at(path: &'m [u8]) -> Self {
        Self {
            parent: None,
            source: 0,
            name: c"",
            path: Some(path),
        }
    }

    /// Its full path.
    pub fn path(&self) -> Vec<u8> {
        match (self.path, self.parent) {
            (Some(path), _) => path.to_vec(),
            (None, Some(node)) => {
                let name = node.sources[self.source].scope.source_name(self.name);
                join(&node.source_path(self.source), name.to_bytes())
            }
            (None, None) => Vec::new(),
        }
    }
}

/// Who is told what the walk finds. One for all threads; each thread has a `Worker` of its own.
///
/// The walk counts what it finds; the visitor owes each entry that was counted an outcome.
pub trait Visitor: Sync + Sized {
    /// What it keeps of a directory from `enter` to `leave`.
    type Data: Send + Sync + Default;
    /// What a thread keeps to itself: buffers, counters.
    type Worker;
    /// Work of its own, beside that of the walk.
    type Task: Send;

    /// Subdirectories are entered when all of a directory's own entries are done.
    const OWN_FIRST: bool = false;
    /// What lies past the boundary is entered, and nothing in it; otherwise it can't be had.
    const ENTERS_BEYOND: bool = false;

    /// A worker; `index` is the number of its counters.
    fn worker(&self, index: usize) -> Self::Worker;

    /// A thread has nothing left to do; its worker goes.
    fn finish(&self, _worker: Self::Worker) {}

    /// Where it counts.
    fn counters<'c>(&'c self, desk: &'c Desk) -> &'c [Counters] {
        &desk.counters
    }

    /// Does work of its own.
    fn perform(_hand: &mut Hand<'_, Self>, _task: Self::Task) {}

    /// A task was lost to a panic. What has no outcome then is missed in the books, and the report says so.
    fn failed(&self, _worker: &mut Self::Worker, desk: &Desk, fault: &Fault) {
        desk.fail(Failure::new(fault, Vec::new(), Kind::Directory, None));
    }

    /// Whether a directory is left alone before it is even opened; then it has its outcome.
    fn leaves_alone(&self, _worker: &mut Self::Worker, _parent: &Arc<Node<Self::Data>>, _sub: &Subdirectory) -> bool {
        false
    }

    /// Whether what was opened of a directory in source number `index` is no source of it; where that is the one whose
    /// entry it is, it has its outcome then.
    fn refuses(
        &self,
        _worker: &mut Self::Worker,
        _parent: &Arc<Node<Self::Data>>,
        _sub: &Subdirectory,
        _index: usize,
        _source: &Source,
    ) -> bool {
        false
    }

    /// A directory has been opened. `None`: it is not descended into, `leave` is not called, and it has its outcome.
    fn enter(&self, worker: &mut Self::Worker, entered: &Entered<'_, Self::Data>) -> Option<Self::Data>;

    /// A directory is about to be listed. An error: it is not, and can't be had.
    fn begin(&self, _worker: &mut Self::Worker, _node: &Arc<Node<Self::Data>>) -> Result<(), Fault> {
        Ok(())
    }

    /// Whether a stretch of a directory's names is taken; otherwise nothing of it was found.
    fn admits<'n>(
        &self,
        _worker: &mut Self::Worker,
        _node: &Arc<Node<Self::Data>>,
        _source: usize,
        _names: impl Iterator<Item = &'n CStr>,
    ) -> bool {
        true
    }

    /// A name of a directory's source, before it is counted.
    fn meet(
        &self,
        _worker: &mut Self::Worker,
        _node: &Arc<Node<Self::Data>>,
        _source: usize,
        _at: BorrowedFd<'_>,
        _name: &CStr,
    ) -> Met {
        Met::Entry
    }

    /// What it took for none of the tree's. It was not counted.
    fn stranger(
        &self,
        _worker: &mut Self::Worker,
        _node: &Arc<Node<Self::Data>>,
        _source: usize,
        _name: &CStr,
        _kind: Kind,
    ) {
    }

    /// An entry that a rule excludes. It was not counted as found and is owed nothing.
    fn excluded(
        &self,
        _worker: &mut Self::Worker,
        _parent: &Arc<Node<Self::Data>>,
        _source: usize,
        _name: &CStr,
        _kind: Kind,
    ) {
    }

    /// An entry of a source that has another one's name, which wins. It was not counted as found and is owed nothing.
    fn overridden(
        &self,
        _worker: &mut Self::Worker,
        _node: &Arc<Node<Self::Data>>,
        _entry: (usize, &CStr, Kind),
        _winner: (usize, Kind),
    ) {
    }

    /// What was named and is not there is as if nobody had named it.
    fn ignores_missing(&self) -> bool {
        false
    }

    /// Entries of a directory that are no directories, each owed an outcome. `at` is the descriptor of their source.
    fn entries(&self, worker: &mut Self::Worker, at: BorrowedFd<'_>, entries: &mut Entries<'_, Self>);

    /// A source of a directory that was entered could not be listed, or not to its end. The directory is left as always.
    fn unlisted(&self, worker: &mut Self::Worker, node: &Arc<Node<Self::Data>>, source: usize, errno: Errno);

    /// A source of a directory has been listed; it gave so many names.
    fn listed(&self, _worker: &mut Self::Worker, _node: &Arc<Node<Self::Data>>, _source: usize, _names: usize) {}

    /// All sources of a directory have been listed.
    fn listed_all(&self, _worker: &mut Self::Worker, _node: &Arc<Node<Self::Data>>) {}

    /// A directory's own entries are done; what is below it may be entered from now on, or given up.
    fn settle(&self, _worker: &mut Self::Worker, _node: &Arc<Node<Self::Data>>) {}

    /// Everything below a directory is done; it is owed its outcome now. Not called in a cancelled walk.
    fn leave(&self, worker: &mut Self::Worker, node: &Arc<Node<Self::Data>>) -> Next;

    /// The same in a cancelled walk: it is owed nothing.
    fn break_off(&self, _worker: &mut Self::Worker, _node: &Arc<Node<Self::Data>>) {}

    /// An entry that was found and can't be had: it could not be asked about or opened, or lies past the boundary
    /// (`EXDEV`). It is owed an outcome.
    fn fault(&self, worker: &mut Self::Worker, missed: &Missed<'_, Self::Data>, kind: Kind, fault: &Fault);

    /// A directory that was overridden can't be opened, to merge with the one that it stands behind. It has its outcome.
    fn unmerged(&self, _worker: &mut Self::Worker, _missed: &Missed<'_, Self::Data>, _fault: &Fault) {}

    /// Too much is open: descriptors in a directory's data are better closed until they are needed again. Answers whether
    /// any was open.
    fn relieve(&self, _node: &Node<Self::Data>) -> bool {
        false
    }

    /// Nothing below a directory needs the descriptors in its data any more.
    fn release(&self, _node: &Node<Self::Data>) {}
}

/// What a visitor has as tasks.
pub type TaskOf<V> = Task<<V as Visitor>::Data, <V as Visitor>::Task>;

/// A piece of work.
pub enum Task<D, O> {
    /// Begin with this root or part, and leave the ones after it to whoever is free.
    Begin(usize),
    /// List a directory that has been entered.
    List(Arc<Node<D>>),
    /// List it once more from the first name.
    Again(Arc<Node<D>>),
    /// Enter the next subdirectory.
    Descend(Arc<Node<D>>),
    /// Entries of one source that somebody else listed.
    Entries(Arc<Node<D>>, usize, Batch),
    /// The visitor's own.
    Other(O),
}

/// Entries of one directory, taken one by one. Whoever has nothing to do is given half of the rest meanwhile, or all of it
/// when fewer workers are to be at work.
pub struct Entries<'w, V: Visitor> {
    node: &'w Arc<Node<V::Data>>,
    source: usize,
    batch: Batch,
    next: usize,
    schedule: &'w Schedule<TaskOf<V>>,
    desk: &'w Desk,
    counters: &'w Counters,
    /// When the entry in hand was taken, and the bytes that were known before it.
    taken: Option<(Instant, u64)>,
}

impl<'w, V: Visitor> Entries<'w, V> {
    /// Their directory.
    pub fn node(&self) -> &'w Arc<Node<V::Data>> {
        self.node
    }

    /// Which of its sources has them.
    pub fn source(&self) -> usize {
        self.source
    }

    /// The next entry's name and kind, which is known, when the limit of entries allows it; none also when the walk was
    /// cancelled.
    #[allow(clippy::should_implement_trait, reason = "the name is lent")]
    pub fn next(&mut self) -> Option<(&CStr, Kind)> {
        self.put_back();
        if self.next >= self.batch.len() || self.desk.cancel.is_draining() {
            return None;
        }
        if self.schedule.crowded() {
            let rest = self.batch.take_from(self.next);
            give_away::<V>(self.schedule, self.node, self.source, rest);
            return None;
        }
        if self.batch.len() - self.next > 1 && self.schedule.hungry() {
            let rest = self.batch.split_off(self.next + 1);
            give_away::<V>(self.schedule, self.node, self.source, rest);
        }
        if !self.desk.may_begin() {
            return None;
        }
        self.next += 1;
        self.taken = Some((Instant::now(), self.counters.all_sized().1));
        Some(self.batch.get(self.next - 1))
    }

    /// The entry in hand is done with: what took long is remembered.
    fn put_back(&mut self) {
        let Some((since, before)) = self.taken.take() else {
            return;
        };
        let bytes = self.counters.all_sized().1.saturating_sub(before);
        self.counters.standouts.took(since.elapsed(), bytes, || {
            Missed::within(self.node, self.source, self.batch.get(self.next - 1).0).path()
        });
    }
}

fn give_away<V: Visitor>(schedule: &Schedule<TaskOf<V>>, node: &Arc<Node<V::Data>>, source: usize, batch: Batch) {
    node.own.fetch_add(1, Ordering::AcqRel);
    schedule.push(Task::Entries(Arc::clone(node), source, batch));
}

/// A thread at work.
pub struct Hand<'w, V: Visitor> {
    /// Whom it tells.
    pub visitor: &'w V,
    /// What the visitor keeps for this thread.
    pub worker: V::Worker,
    pub(crate) schedule: &'w Schedule<TaskOf<V>>,
    pub(crate) filter: &'w Selection,
    pub(crate) boundary: Boundary,
    pub(crate) across: &'w [Identity],
    pub(crate) desk: &'w Desk,
    pub(crate) budget: &'w Arc<Budget>,
    pub(crate) working_directory: &'w [u8],
    pub(crate) counters: &'w Counters,
    /// Room for a listing, and for its names.
    pub(crate) listing: Vec<u8>,
    pub(crate) stretch: Stretch,
}

/// Room for the names of a small directory.
const NAME_BYTES: usize = 512;

/// Names as a listing gave them.
#[derive(Default)]
pub struct Stretch {
    names: Vec<u8>,
    found: Vec<Name>,
}

/// One of them.
#[derive(Clone, Copy)]
struct Name {
    offset: u32,
    kind: Kind,
    inode: u64,
}

impl Stretch {
    /// Forgets all of it.
    pub(crate) fn clear(&mut self) {
        self.names.clear();
        self.found.clear();
        self.names.reserve(NAME_BYTES);
    }

    /// Adds a name. `inode`: 0 where it was not listed.
    pub(crate) fn push(&mut self, name: &CStr, kind: Kind, inode: u64) {
        let offset = self.spell(name);
        self.found.push(Name { offset, kind, inode });
    }

    /// Adds a name to those that entries may have, and answers where it begins.
    pub(crate) fn spell(&mut self, name: &CStr) -> u32 {
        // One listing is bounded to far less than 4 GiB.
        let offset = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.extend_from_slice(name.to_bytes_with_nul());
        offset
    }

    /// Entries by where their names begin. The names go with them.
    pub(crate) fn batch(&mut self, entries: Vec<(u32, Kind)>) -> Batch {
        if entries.is_empty() {
            return Batch::default();
        }
        Batch::of(std::mem::take(&mut self.names), entries)
    }

    /// Puts them in order as they lie on the medium: a listing of hashed names jumps from one end to the other. Names of
    /// one inode by their own order, so that the same one comes first each time.
    pub(crate) fn sort(&mut self) {
        let name_of = |found: &Name| self.names.get(found.offset as usize..).unwrap_or_default();
        let by = |a: &Name, b: &Name| a.inode.cmp(&b.inode).then_with(|| name_of(a).cmp(name_of(b)));
        self.found.sort_unstable_by(by);
    }

    /// All of them, each with where it begins.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &CStr, Kind)> {
        self.found.iter().map(|found| {
            let name = self.names.get(found.offset as usize..).unwrap_or_default();
            (found.offset, sys::name_at(name), found.kind)
        })
    }
}

impl<V: Visitor> Hand<'_, V> {
    /// Whether nothing more is to be begun.
    pub(crate) fn draining(&self) -> bool {
        self.desk.cancel.is_draining()
    }

    /// Leaves a batch to whoever has nothing to do.
    pub(crate) fn give_away(&self, node: &Arc<Node<V::Data>>, source: usize, batch: Batch) {
        give_away::<V>(self.schedule, node, source, batch);
    }

    /// Has entries of a directory worked on, here and now.
    pub(crate) fn entries(&mut self, node: &Arc<Node<V::Data>>, source: usize, batch: Batch) {
        let mut entries = Entries {
            node,
            source,
            batch,
            next: 0,
            schedule: self.schedule,
            desk: self.desk,
            counters: self.counters,
            taken: None,
        };
        let before = self.counters.all_sized();
        match node.source(source) {
            Ok(fd) => {
                self.visitor.entries(&mut self.worker, fd.as_fd(), &mut entries);
                entries.put_back();
            }
            Err(errno) => {
                let fault = Fault::new(Operation::Open, node.side, errno);
                while let Some((name, kind)) = entries.next() {
                    let missed = Missed::within(node, source, name);
                    self.visitor.fault(&mut self.worker, &missed, kind, &fault);
                }
            }
        }
        let after = self.counters.all_sized();
        let (files, bytes) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
        if files > 0 {
            let path = |steps| node.source_path_above(source, steps);
            self.counters.standouts.hold(files, bytes, path);
        }
    }

    /// A batch or the listing of a directory is done; the last of them lets what is below it come.
    pub(crate) fn own_done(&mut self, node: &Arc<Node<V::Data>>) {
        if node.own.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        if V::OWN_FIRST {
            self.visitor.settle(&mut self.worker, node);
            if !node.below().is_empty() {
                return self.schedule.push(Task::Descend(Arc::clone(node)));
            }
            if node.pending.load(Ordering::Acquire) > 1 {
                // Something of it waits for the end.
                self.put_down(node);
            }
        }
        self.done(node);
    }

    /// One thing fewer that a directory waits for; the last one leaves it, and perhaps the one above, and so on up.
    pub fn done(&mut self, node: &Arc<Node<V::Data>>) {
        let mut node = Arc::clone(node);
        while node.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            if !node.entered {
            } else if self.draining() {
                self.visitor.break_off(&mut self.worker, &node);
            } else if self.visitor.leave(&mut self.worker, &node) == Next::Again {
                node.own.store(1, Ordering::Release);
                node.pending.store(1, Ordering::Release);
                self.desk.unlisted();
                return self.schedule.push(Task::Again(node));
            }
            node.retire();
            self.visitor.release(&node);
            let Some(parent) = node.parent.clone() else { return };
            node = parent;
        }
    }

    /// Closes a directory for now: nothing is left to enter in it, or it waits. Answers whether any of it was open.
    pub(crate) fn put_down(&self, node: &Node<V::Data>) -> bool {
        node.close() | self.visitor.relieve(node)
    }

    /// Closes what lies above a directory when too much is open; its parent stays.
    pub(crate) fn relieve(&self, node: &Node<V::Data>) {
        let mut above = node.parent.as_deref().and_then(|parent| parent.parent.as_deref());
        while let Some(node) = above
            && self.budget.exceeded()
            && self.put_down(node)
        {
            above = node.parent.as_deref();
        }
    }
}
