//! The walk: one or several trees, in parallel, by descriptors, with a [`Visitor`] that is told what is found.
//!
//! Comes in: [`Start`], exclude rules and where to stop, or directories that were opened; goes out, to the visitor: each
//! directory as it is entered, its entries in stretches and in the order in which they lie on the medium, and the directory
//! again when everything below it is done. The walk is the finder of the books: it counts every entry that it sees, and the
//! visitor owes each one an outcome. Every call is relative to a directory's descriptor and follows no symlink (but the
//! argument, where that was asked for); paths are made for messages only.
//!
//! A directory may have several sources, and of each all is taken or what was named; then the last one wins. One task a
//! directory, newest first. A directory's entries are handed to the visitor while the listing goes on, and whoever has
//! nothing to do is given a part of them, so one huge directory keeps every worker busy; where a visitor wants that, all of
//! them are done before what is below is entered. There are as many workers as serve best. Memory: a stretch of names for
//! each worker, the names of subdirectories that wait, and the directories on the way down. Open directories have a budget;
//! what lies above the current ones is closed and found again. Depth is neither stack nor path length.

pub mod arguments;
pub mod finder;
pub mod named;
pub mod names;
pub mod node;
pub mod scope;
pub mod scout;
pub mod start;
pub mod visitor;

use std::ffi::{CStr, CString};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Identity, Kind, OwnedFd, Stat};

use crate::error::{Fault, Operation, Side};
use crate::job::desk::Desk;
use crate::pool::schedule::{Crew, Progress, Schedule};
use crate::report::counters::Totals;
use crate::tree::descriptors::{Budget, Slot};
use crate::tree::listing::{Batch, LISTING_BYTES};
use crate::tree::path::{c_string, open_directory_path, split, trim};
use crate::tree::selection::Selection;
use crate::walk::finder::{list, list_again, own_listed, take};
use crate::walk::node::{Elsewhere, Entered, Node, Origin, Source, Sources};
use crate::walk::scope::{Scope, Subdirectory};
use crate::walk::start::{Boundary, Part, Root, Start};
use crate::walk::visitor::{Hand, Missed, Stretch, Task, TaskOf, Visitor};

/// How a walk goes.
pub struct Walk<'w> {
    /// Exclude rules.
    pub filter: &'w Selection,
    /// Where to stop.
    pub boundary: Boundary,
    /// Directories that it enters all the same.
    pub across: &'w [Identity],
    /// Counters of each worker, and the wish to stop.
    pub desk: &'w Desk,
    /// Threads.
    pub crew: &'w Crew,
    /// Directories that may be open.
    pub budget: &'w Arc<Budget>,
}

impl Walk<'_> {
    /// Walks to the end, or until the job is cancelled.
    pub fn run<V: Visitor>(&self, start: Start<'_>, visitor: &V) {
        if start.count() == 0 {
            return;
        }
        self.run_on(start, &Schedule::new(self.crew.most()), visitor);
    }

    /// The same with a schedule that the visitor knows: it may leave work of its own to whoever has nothing to do.
    pub fn run_on<V: Visitor>(&self, start: Start<'_>, schedule: &Schedule<TaskOf<V>>, visitor: &V) {
        self.desk.unlisted();
        schedule.push(Task::Begin(0));
        self.drive(start, schedule, visitor);
    }

    /// Does what is scheduled, and all that comes of it. More may be scheduled after that, and done in the same way.
    pub fn resume<V: Visitor>(&self, schedule: &Schedule<TaskOf<V>>, visitor: &V) {
        self.drive(Start::Roots(&[]), schedule, visitor);
    }

    fn drive<V: Visitor>(&self, start: Start<'_>, schedule: &Schedule<TaskOf<V>>, visitor: &V) {
        let working_directory = sys::working_directory();
        let counters = visitor.counters(self.desk);
        let work = |index: usize| {
            let mut hand = Hand {
                visitor,
                worker: visitor.worker(index),
                schedule,
                filter: self.filter,
                boundary: self.boundary,
                across: self.across,
                desk: self.desk,
                budget: self.budget,
                working_directory: &working_directory,
                counters: &counters[index],
                listing: Vec::with_capacity(LISTING_BYTES),
                stretch: Stretch::default(),
            };
            schedule.work(|task| {
                // What a panic loses has no outcome: the books will not balance, and the report says so.
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| perform(&mut hand, start, task))) {
                    visitor.failed(&mut hand.worker, self.desk, &Fault::panic(&*panic));
                }
            });
            visitor.finish(hand.worker);
        };
        let progress = || {
            let (bytes, entries) = Totals::of(counters).work();
            let spent = sys::processor_time();
            Progress { bytes, entries, spent }
        };
        let told = |workers| self.desk.staff(workers);
        if let Some(error) = self.crew.drive(schedule, progress, told, work) {
            self.desk.lacks_worker(&error);
        }
    }
}

fn perform<V: Visitor>(hand: &mut Hand<'_, V>, start: Start<'_>, task: TaskOf<V>) {
    match task {
        Task::Begin(index) => begin(hand, start, index),
        Task::List(node) => list(hand, &node),
        Task::Again(node) => list_again(hand, &node),
        Task::Descend(node) => {
            if let Some(child) = descend(hand, &node) {
                list(hand, &child);
            }
        }
        Task::Entries(node, source, batch) => {
            hand.entries(&node, source, batch);
            hand.own_done(&node);
        }
        Task::Other(task) => V::perform(hand, task),
    }
}

fn begin<V: Visitor>(hand: &mut Hand<'_, V>, start: Start<'_>, index: usize) {
    if index + 1 < start.count() && !hand.draining() {
        hand.desk.unlisted();
        hand.schedule.push(Task::Begin(index + 1));
    }
    match start {
        _ if hand.draining() => {}
        Start::Roots(roots) => begin_root(hand, &roots[index]),
        Start::Parts(parts) => {
            if let Some(part) = parts.open(index) {
                begin_part(hand, part);
            }
        }
    }
    hand.desk.listed();
}

/// Roots are in the source.
fn fault(operation: Operation, errno: Errno) -> Fault {
    Fault::new(operation, Side::Source, errno)
}

/// What an open directory is, and the mount that it lies on, where that matters.
fn look<V: Visitor>(hand: &Hand<'_, V>, fd: &OwnedFd) -> sys::Result<(Stat, u64)> {
    match hand.boundary {
        Boundary::Mount => sys::stat_mounted(fd.as_fd()),
        Boundary::None | Boundary::FileSystem => sys::stat_fd(fd.as_fd()).map(|stat| (stat, 0)),
    }
}

/// Finds a root by the directory that holds it.
fn begin_root<V: Visitor>(hand: &mut Hand<'_, V>, root: &Root) {
    let path = trim(&root.path);
    let (above, name) = split(path);
    let opened = open_directory_path(above, Follow::Yes);
    let found = opened.map_err(|e| fault(Operation::Open, e)).and_then(|fd| {
        let looked = look(hand, &fd).map_err(|e| fault(Operation::Stat, e))?;
        let name = c_string(if name.is_empty() { b"." } else { name });
        Ok((fd, looked, name.map_err(|e| fault(Operation::Open, e))?))
    });
    // What had been looked at has vanished.
    let of_root = |fault: Fault| if root.pin.is_some() { fault } else { fault.of_named() };
    let (fd, (stat, mount), name) = match found.map_err(of_root) {
        Ok(found) => found,
        Err(fault) => {
            hand.counters.found(Kind::File);
            let missed = Missed::at(path);
            return hand.visitor.fault(&mut hand.worker, &missed, Kind::File, &fault);
        }
    };
    let source = Source {
        slot: Slot::new(fd, stat.id, hand.budget),
        device: stat.id.dev,
        stat,
        scope: Scope::Itself,
        mount,
        origin: Origin::Held(above.to_vec()),
    };
    let holder = Arc::new(Node::top(source.into(), V::Data::default(), false));
    look_up_root(hand, root, &holder, name);
    hand.own_done(&holder);
}

/// A root, in the directory that holds it.
fn look_up_root<V: Visitor>(hand: &mut Hand<'_, V>, root: &Root, holder: &Arc<Node<V::Data>>, name: CString) {
    let path = trim(&root.path);
    // What had been looked at has vanished.
    let of_root = |fault: Fault| if root.pin.is_some() { fault } else { fault.of_named() };
    let looked = holder
        .descriptor()
        .and_then(|at| {
            let itself = sys::stat(at.as_fd(), &name, Follow::No)?;
            if itself.kind != Kind::Symlink || !root.follow {
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
            hand.counters.found(Kind::File);
            let missed = Missed {
                path: Some(path),
                ..Missed::within(holder, 0, &name)
            };
            return hand.visitor.fault(&mut hand.worker, &missed, Kind::File, fault);
        }
    };
    let rules = (hand.filter, hand.working_directory);
    if !root.contents && finder::excludes(rules, holder, 0, &name, kind) {
        hand.counters.excluded();
        return hand.visitor.excluded(&mut hand.worker, holder, 0, &name, kind);
    }
    hand.counters.found(kind);
    if kind == Kind::Directory {
        hand.desk.unlisted();
        holder.pending.fetch_add(1, Ordering::AcqRel);
        let sub = Subdirectory::plain(name);
        if let Some(node) = enter(hand, holder, sub, Some(root), |hand, entered| {
            hand.visitor.enter(&mut hand.worker, entered)
        }) {
            list(hand, &node);
        }
    } else {
        let mut batch = Batch::default();
        batch.push(&name, kind);
        hand.entries(holder, 0, batch);
    }
}

/// Begins with entries of a directory.
fn begin_part<V: Visitor>(hand: &mut Hand<'_, V>, part: Part) {
    let source = Source {
        slot: Slot::new(part.fd, part.stat.id, hand.budget),
        device: part.stat.id.dev,
        stat: part.stat,
        scope: Scope::Itself,
        mount: part.mount,
        origin: Origin::Held(part.path),
    };
    let mut top = Node::top(source.into(), V::Data::default(), false);
    top.side = part.side;
    top.elsewhere = Some(Box::new(Elsewhere {
        relative_path: part.relative_path,
        twins: part.twins,
    }));
    let top = Arc::new(top);
    let mut left = part.entries.len();
    for batch in &part.entries {
        left -= 1;
        take(hand, &top, batch, left > 0);
    }
    own_listed(hand, &top);
}

/// Enters the next subdirectory, and answers it where it is to be listed; the rest of them stay for whoever is free.
fn descend<V: Visitor>(hand: &mut Hand<'_, V>, node: &Arc<Node<V::Data>>) -> Option<Arc<Node<V::Data>>> {
    let next = node.below().pop();
    let Some(sub) = next.filter(|_| !hand.draining()) else {
        // Nothing is left to enter, and what was entered has descriptors of its own.
        if hand.budget.exceeded() {
            hand.put_down(node);
        }
        hand.done(node);
        return None;
    };
    node.pending.fetch_add(1, Ordering::AcqRel);
    hand.schedule.push(Task::Descend(Arc::clone(node)));
    enter(hand, node, sub, None, |hand, entered| {
        hand.visitor.enter(&mut hand.worker, entered)
    })
}

/// Enters a subdirectory, which its directory counts as a child already, and has it listed. `how`: as [`Visitor::enter`].
pub fn step_into<V: Visitor>(
    hand: &mut Hand<'_, V>,
    parent: &Arc<Node<V::Data>>,
    sub: Subdirectory,
    how: impl FnOnce(&mut Hand<'_, V>, &Entered<'_, V::Data>) -> Option<V::Data>,
) {
    if let Some(node) = enter(hand, parent, sub, None, how) {
        list(hand, &node);
    }
}

fn enter<V: Visitor>(
    hand: &mut Hand<'_, V>,
    parent: &Arc<Node<V::Data>>,
    sub: Subdirectory,
    root: Option<&Root>,
    how: impl FnOnce(&mut Hand<'_, V>, &Entered<'_, V::Data>) -> Option<V::Data>,
) -> Option<Arc<Node<V::Data>>> {
    let own = sub.source();
    let fault = match open(hand, parent, &sub, root, how) {
        Ok(Some((sources, data))) => {
            let hidden = root.is_some_and(|root| root.contents);
            let node = Node::child(parent, sub.target, sources, data, hidden);
            hand.relieve(&node);
            match hand.visitor.begin(&mut hand.worker, &node) {
                Ok(()) => return Some(node),
                Err(fault) => Some((node.name.clone(), fault)),
            }
        }
        Ok(None) => None,
        Err(fault) => Some((sub.target, fault)),
    };
    if let Some((name, fault)) = fault {
        let missed = Missed {
            path: root.map(|root| trim(&root.path)),
            ..Missed::within(parent, own, &name)
        };
        hand.visitor.fault(&mut hand.worker, &missed, Kind::Directory, &fault);
    }
    hand.desk.listed();
    hand.done(parent);
    None
}

/// Opens the sources of a subdirectory. None: it has its outcome.
fn open<V: Visitor>(
    hand: &mut Hand<'_, V>,
    parent: &Arc<Node<V::Data>>,
    sub: &Subdirectory,
    root: Option<&Root>,
    how: impl FnOnce(&mut Hand<'_, V>, &Entered<'_, V::Data>) -> Option<V::Data>,
) -> Result<Option<(Sources, V::Data)>, Fault> {
    let visitor = hand.visitor;
    if visitor.leaves_alone(&mut hand.worker, parent, sub) {
        return Ok(None);
    }
    // The last one is this entry; the others are entries of their own that were overridden.
    let (own, others) = (sub.source(), &sub.sources()[..sub.sources().len() - 1]);
    let mut merged = Vec::new();
    for &index in others {
        match open_source(hand, parent, index, sub, None) {
            Ok((source, _)) if visitor.refuses(&mut hand.worker, parent, sub, index, &source) => {}
            Ok((source, _)) => merged.push(source),
            Err(fault) => {
                let missed = Missed::within(parent, index, &sub.target);
                visitor.unmerged(&mut hand.worker, &missed, &fault);
            }
        }
    }
    let (source, fd) = open_source(hand, parent, own, sub, root)?;
    if visitor.refuses(&mut hand.worker, parent, sub, own, &source) {
        return Ok(None);
    }
    let stat = source.stat;
    let sources = if merged.is_empty() {
        Sources::from(source)
    } else {
        merged.push(source);
        Sources::from(merged)
    };
    let entered = Entered {
        parent,
        sub,
        name: parent.sources[own].scope.source_name(&sub.target),
        sources: &sources,
        fd: fd.as_fd(),
        stat: &stat,
        root,
    };
    Ok(how(hand, &entered).map(|data| (sources, data)))
}

/// Opens one source of a subdirectory.
fn open_source<V: Visitor>(
    hand: &Hand<'_, V>,
    parent: &Node<V::Data>,
    index: usize,
    sub: &Subdirectory,
    root: Option<&Root>,
) -> Result<(Source, Arc<OwnedFd>), Fault> {
    let fault = |operation, errno| Fault::new(operation, parent.side, errno);
    let up = &parent.sources[index];
    let name: &CStr = up.scope.source_name(&sub.target);
    let follow = match root {
        Some(root) if root.follow => Follow::Yes,
        _ => Follow::No,
    };
    let at = parent.source(index).map_err(|e| fault(Operation::Open, e))?;
    let fd = sys::open_directory(at.as_fd(), name, follow).map_err(|e| match e {
        // It was a directory when it was listed.
        Errno::NOTDIR | Errno::LOOP => Fault::replaced(Operation::Open, parent.side),
        e => fault(Operation::Open, e),
    })?;
    drop(at);
    let (stat, mount) = look(hand, &fd).map_err(|e| fault(Operation::Stat, e))?;
    if root.and_then(|root| root.pin).is_some_and(|pin| pin != stat.id) {
        return Err(Fault::changed(Operation::Open));
    }
    // What was named itself is a walk of its own and has a device of its own.
    let named = root.is_some() || matches!(up.scope, Scope::Names(_));
    let device = if named { stat.id.dev } else { up.device };
    let beyond = root.is_none()
        && !hand.across.contains(&stat.id)
        && match hand.boundary {
            Boundary::None => false,
            Boundary::FileSystem => stat.id.dev != device,
            Boundary::Mount => mount != up.mount,
        };
    if beyond && !V::ENTERS_BEYOND {
        return Err(fault(Operation::Open, Errno::XDEV));
    }
    let fd = Arc::new(fd);
    let source = Source {
        slot: Slot::new(Arc::clone(&fd), stat.id, hand.budget),
        stat,
        scope: if beyond { Scope::Itself } else { sub.scope.clone() },
        device,
        mount,
        origin: match root {
            Some(root) => Origin::Argument(trim(&root.path).to_vec(), follow),
            None => Origin::Name {
                parent: index,
                name: (*name != *sub.target).then(|| name.to_owned()),
            },
        },
    };
    Ok((source, fd))
}
