//! What every kind of entry needs in a destination: what is there, a name for what is new, and metadata.
//!
//! Comes in: an entry and a destination; goes out: facts, something new under a name that nobody takes for it, or the name that
//! it was made for. What fails is taken back.

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bulkhaul_formats::codec::names::index_of;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Kind, Node, OwnedFd, Stat};

use crate::copy::clear;
use crate::copy::dir::{Dir, Presence, Tries, Twinned as _};
use crate::copy::entry::{Done, Entry, Original, Unfinished};
use crate::copy::given::IN_A_SOURCE;
use crate::copy::memory::Undecided;
use crate::copy::times;
use crate::copy::worker::Worker;
use crate::entry::{Changes, Outcome, Reason};
use crate::error::{Fault, Operation, Side, Stopped};
use crate::sweep::guard::IN_USE;
use crate::tree;
use crate::tree::descriptors::Slot;
use crate::tree::keep::{differences, wanted};
use crate::tree::metadata::{self, Held, Subject, put_right};
use crate::tree::path::join;
use crate::tree::protection::{forbidden, protected};
use crate::tree::publish::DIRECTORY_IN_THE_WAY;
use crate::tree::spelling::TWO_FOR_ONE;
use crate::tree::staging::Staging;

/// Why an entry does not come where nothing is replaced.
const SOMETHING_ELSE: &str = "something else has its name, and stays";

/// What has this name in each destination: where it was looked up, and the facts.
pub fn existing(worker: &Worker<'_>, entry: &Entry<'_>) -> Result<Vec<(usize, Option<Stat>)>, Fault> {
    let mut there = Vec::with_capacity(entry.dir.twins.len());
    let is_manifest = |at| {
        let mut manifests = worker.run.manifests();
        manifests.any(|manifest| manifest.is_at(at, entry.target))
    };
    for (index, twin) in entry.dir.twins.iter().enumerate() {
        let Some(twin) = twin else { continue };
        let fault = |errno| Fault::new(Operation::Stat, Side::Destination(index), errno);
        if twin.slot.as_ref().is_some_and(|slot| is_manifest(slot.id())) {
            return Err(Fault::conflict(Operation::Create, index, IN_USE));
        }
        let known = match (
            twin.fresh,
            entry
                .dir
                .twin(index)
                .map_err(|e| Fault::new(Operation::Open, Side::Destination(index), e))?,
        ) {
            (false, Some(fd)) => twin.arrivals.look(&fd, entry.target).map_err(fault)?,
            _ => None,
        };
        if let Some(stat) = &known {
            worker.run.doubt();
            if worker.run.in_use.contains(&stat.id) {
                return Err(Fault::conflict(Operation::Create, index, IN_USE));
            }
            let at = twin.slot.as_ref().map(Slot::id);
            if at.is_some_and(|at| worker.run.given.has(at, entry.target, stat.id)) {
                return Err(Fault::conflict(Operation::Create, index, IN_A_SOURCE));
            }
            if twin.arrivals.is_taken(entry.target, stat) {
                return Err(Fault::conflict(Operation::Create, index, TWO_FOR_ONE));
            }
        }
        there.push((index, known));
    }
    Ok(there)
}

/// What is to be done about an entry whose content is there.
pub enum Fit {
    /// Nothing more.
    Done(Done),
    /// It has to be replaced, for these differences.
    Replace(Changes),
    /// It is put off until all else is there.
    Waits,
}

/// The content is there: puts the metadata right, by descriptors that lead to what was looked at. `copy`: the file of
/// the destination, where its content was compared.
///
/// What has other names, in the destination or beside it, is not changed in place: they may be of other files of the source,
/// or nobody's here. It is replaced, if anything is gained by that. Only where all of them turn out to be names of this very
/// file, it is changed: those wait until all names of the source have been seen.
pub fn keep(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    stat: &Stat,
    source: Held<'_>,
    copy: Option<&OwnedFd>,
    index: usize,
    existing: &Stat,
) -> Result<Fit, Fault> {
    let keep = &worker.run.rules.keep;
    let side = Side::Destination(index);
    let open = |e| Fault::new(Operation::Open, side, e);
    let kept = times::kept_of(worker, entry.dir, index, stat, Some(existing));
    let told = worker.scratch.shortfalls.len();
    let stat = &metadata::without_list(keep, stat, source, &mut worker.scratch)?;
    let mut changes = differences(stat, existing, keep, &kept);
    if keep.times && !changes.contains(Changes::TIME) {
        times::tell_loss(worker, &kept, stat.mtime, existing.mtime);
    }
    if let Some(twin) = entry.dir.twin(index).map_err(open)? {
        take_over(entry, index, existing)?;
        let held = copy.map_or(Held::Named(twin.as_fd(), entry.target), |fd| Held::Open(fd.as_fd()));
        // Nearly all of an unchanged tree ends here.
        if changes.is_empty()
            && !wanted(stat, keep, (existing.uid, existing.gid), None).falls_short()
            && metadata::is_bare(keep, source, Side::Source)?
            && metadata::is_bare(keep, held, side)?
        {
            return Ok(Fit::Done(Done::skipped(Reason::Unchanged).at(index)));
        }
        let (mut opened, mut there) = (None, None);
        let source = source
            .node(&mut opened)
            .map_err(|e| Fault::new(Operation::Open, Side::Source, e))?;
        let node = held.node(&mut there).map_err(open)?;
        let (Node::Open(fd) | Node::Path(fd)) = node;
        let now = sys::stat_fd(fd).map_err(|e| Fault::new(Operation::Stat, side, e))?;
        if now.id != existing.id {
            return Err(open(Errno::STALE));
        }
        let copy = Subject {
            node,
            owner: (existing.uid, existing.gid),
            mode: existing.mode,
            born: None,
            new: false,
            inherits: false,
            destination: index,
        };
        let obstacle = protected(existing.protection);
        let act = worker.run.pass.writes() && obstacle.is_none();
        let late = changes.contains(Changes::TIME);
        let alone = now.nlink < 2 || entry.last.is_some() && is_all(worker, entry.original(stat), &now);
        let put = |worker: &mut Worker<'_>, onto: Option<Node<'_>>| {
            let mut changes = put_right(keep, stat, Some(source), copy, onto, &mut worker.scratch)?.changes;
            let timed = |node| times::set_times(worker, entry.dir, index, stat, node);
            changes.insert_if(late && onto.map_or(Ok(true), timed)?, Changes::TIME);
            Ok(changes)
        };
        changes = put(worker, Some(node).filter(|_| act && alone))?;
        if let Some(what) = obstacle.filter(|_| !changes.is_empty()) {
            return Err(Fault::conflict(Operation::SetMode, index, what));
        }
        if !alone && !changes.is_empty() && entry.last.is_none() && put_off(worker, entry, index, stat, &now)? {
            worker.scratch.shortfalls.truncate(told);
            return Ok(Fit::Waits);
        }
        if act && !alone && !changes.is_empty() {
            // What a new file is refused beside it, another copy would not have either.
            worker.scratch.shortfalls.truncate(told);
            let create = |fd: &OwnedFd, name: &CStr| sys::create_file(fd.as_fd(), name);
            let (file, staging) = make(worker, entry, index, Operation::Create, create)?;
            let tried = put(worker, Some(Node::Open(file.as_fd())));
            discard(worker, entry.dir, index, entry.target, staging.as_ref());
            changes = tried?;
        }
        if !alone && !changes.is_empty() {
            // The copy will tell.
            worker.scratch.shortfalls.truncate(told);
            return Ok(Fit::Replace(changes));
        }
    }
    Ok(Fit::Done(if changes.is_empty() {
        Done::skipped(Reason::Unchanged).at(index)
    } else {
        Done::new(Outcome::Metadata).with(changes).at(index)
    }))
}

/// Whether all names of a file in a destination are known to be names of one of the source.
fn is_all(worker: &Worker<'_>, of: Original, there: &Stat) -> bool {
    let known = worker.run.waiting.shared(of, there.id);
    usize::try_from(there.nlink).is_ok_and(|names| known >= names)
}

/// Puts off an entry whose copy may have no other names than its own.
fn put_off(worker: &Worker<'_>, entry: &Entry<'_>, index: usize, stat: &Stat, there: &Stat) -> Result<bool, Fault> {
    let (twin, _) = entry.dir.writable(index)?;
    let Some(at) = twin.slot.as_ref().filter(|_| stat.nlink >= there.nlink) else {
        return Ok(false);
    };
    let undecided = Undecided {
        dir: Arc::clone(entry.dir),
        source: entry.source,
        target: entry.found.to_owned(),
        kind: stat.kind,
    };
    let (of, most) = (entry.original(stat), worker.run.rules.asked.links_in_memory);
    // Not closed before it is done: the directory's times come after it.
    entry.dir.pending.fetch_add(1, Ordering::AcqRel);
    let waits = worker
        .run
        .waiting
        .put_off_shared(undecided, of, there.id, at.id(), most);
    if !waits {
        entry.dir.pending.fetch_sub(1, Ordering::AcqRel);
    }
    Ok(waits)
}

/// What differs of an entry that is replaced: these, and where something of its kind is there all that a stat shows.
pub fn all_changes(
    worker: &Worker<'_>,
    entry: &Entry<'_>,
    stat: &Stat,
    there: (usize, Option<&Stat>),
    mut changes: Changes,
) -> Changes {
    if let (index, Some(existing)) = there
        && existing.kind == stat.kind
    {
        let kept = times::kept_of(worker, entry.dir, index, stat, Some(existing));
        changes.insert(differences(stat, existing, &worker.run.rules.keep, &kept));
    }
    changes
}

/// Refuses what the flags of a directory, or of what has the name in it, forbid, and to replace anything where that is not
/// wanted: before anything is written. `packed`: of what becomes an archive; `name`: what it gets.
pub fn permit(
    worker: &Worker<'_>,
    (dir, packed): (&Dir, bool),
    (index, name): (usize, &CStr),
    operation: Operation,
    existing: Option<&Stat>,
) -> Result<(), Fault> {
    let is_left = || dir.twins[index].as_ref().is_some_and(|twin| twin.left.holds(name));
    if existing.is_some() && !replaces(worker, packed) && !is_left() {
        return Err(Fault::conflict(operation, index, SOMETHING_ELSE));
    }
    let directory = match dir.twins[index].as_ref().map(|twin| &twin.presence) {
        Some(Presence::Existing(stat)) => Some(stat),
        _ => None,
    };
    match forbidden(directory, existing) {
        Some(what) => Err(Fault::conflict(operation, index, what)),
        None => Ok(()),
    }
}

/// Whether what is other content gives its name up to an entry, or to what it becomes.
pub fn replaces(worker: &Worker<'_>, packed: bool) -> bool {
    let rules = &worker.run.rules;
    let packing = rules.packing.as_ref().filter(|_| packed);
    packing.map_or(rules.asked.replace, |packing| packing.replace)
}

/// Makes an entry: under its final name where nobody sees it yet, otherwise under a staging name.
pub fn make<T>(
    worker: &Worker<'_>,
    entry: &Entry<'_>,
    index: usize,
    operation: Operation,
    mut make: impl FnMut(&OwnedFd, &CStr) -> sys::Result<T>,
) -> Result<(T, Option<Staging>), Fault> {
    let fault = |e| Fault::new(operation, Side::Destination(index), e);
    let (twin, fd) = entry.dir.writable(index)?;
    worker.run.tries(entry.dir, index).for_each(Tries::try_one);
    if twin.fresh {
        return match make(&fd, entry.target) {
            Ok(value) => Ok((value, None)),
            Err(Errno::EXIST) => Err(Fault::conflict(operation, index, TWO_FOR_ONE)),
            Err(errno) => Err(fault(errno)),
        };
    }
    let (value, staging) = worker
        .run
        .stager
        .stage(entry.target, |name| make(&fd, name))
        .map_err(fault)?;
    Ok((value, Some(staging)))
}

/// Makes a regular file. One that replaces nothing has its own name in a directory that nobody sees, also where a run that died
/// has begun that: whoever dies in turn leaves it where the next run finds it.
pub fn make_file(
    worker: &Worker<'_>,
    entry: &Entry<'_>,
    (index, old): (usize, Option<&Stat>),
    bits: u32,
) -> Result<(OwnedFd, Option<Staging>), Fault> {
    let create = |fd: &OwnedFd, name: &CStr| sys::create_file_as(fd.as_fd(), name, bits);
    let fault = |operation| move |e| Fault::new(operation, Side::Destination(index), e);
    let (twin, at) = entry.dir.writable(index)?;
    let own = twin.is_hidden() && !twin.fresh && old.is_none() && !entry.is_packed();
    if !own {
        return make(worker, entry, index, Operation::Create, create);
    }
    let file = match create(&at, entry.target) {
        // What has the name since it was looked up, or another name that is the same here, is for who publishes.
        Err(Errno::EXIST) => return make(worker, entry, index, Operation::Create, create),
        made => made.map_err(fault(Operation::Create))?,
    };
    worker.run.tries(entry.dir, index).for_each(Tries::try_one);
    let known = sys::stat_fd(file.as_fd())
        .map_err(fault(Operation::Stat))
        .and_then(|made| take_over(entry, index, &made));
    if let Err(fault) = known {
        discard(worker, entry.dir, index, entry.target, None);
        return Err(fault);
    }
    Ok((file, None))
}

/// What is there already stays, as this entry's.
pub fn take_over(entry: &Entry<'_>, index: usize, existing: &Stat) -> Result<(), Fault> {
    let (twin, fd) = entry.dir.writable(index)?;
    let stays = twin.arrivals.take_over(&fd, entry.target, existing);
    if stays.map_err(|e| Fault::new(Operation::Stat, Side::Destination(index), e))? {
        twin.left.take(entry.target);
        if entry.is_packed() {
            // It was finished before its archive.
            twin.left.take(&index_of(entry.target));
        }
        Ok(())
    } else {
        Err(Fault::conflict(Operation::Create, index, TWO_FOR_ONE))
    }
}

/// Gives an entry its name that was made under a staging name, in the place of what has that now: a directory goes right
/// before.
pub fn publish(
    worker: &Worker<'_>,
    dir: &Arc<Dir>,
    index: usize,
    staging: &Staging,
    target: &CStr,
    replaces: Option<&Stat>,
) -> Result<(), Stopped> {
    let (twin, fd) = dir.writable(index)?;
    let directory = replaces.is_some_and(|old| old.kind == Kind::Directory);
    let replace = replaces.is_some() && !directory;
    let appear = || -> Result<(), Stopped> {
        if directory {
            let conflict = (Operation::Create, DIRECTORY_IN_THE_WAY);
            clear::make_way(worker.run, dir, index, target, Kind::Directory, conflict)?;
        }
        Ok(tree::publish::publish(fd.as_fd(), staging, target, replace, index)?)
    };
    let publish = || {
        twin.arrivals.publish(&fd, target, index, appear)?;
        twin.left.forget(target);
        Ok(())
    };
    if replace && worker.run.rules.asked.remove_sources {
        replacing(worker, &fd, target, publish)
    } else {
        publish()
    }
}

/// Puts something in the place of what has its name in a directory of a destination. In a move that may be another name of a
/// source entry, of which the time of change is then another, through no change of it.
fn replacing(
    worker: &Worker<'_>,
    at: &OwnedFd,
    name: &CStr,
    replace: impl FnOnce() -> Result<(), Stopped>,
) -> Result<(), Stopped> {
    let look = || {
        let node = sys::open_node(at.as_fd(), name).ok()?;
        let before = sys::stat_fd(node.as_fd()).ok()?;
        (before.nlink > 1).then_some((node, before))
    };
    let seen = look();
    replace()?;
    // Where that can't be told, it counts as changed, and stays.
    if let Some((node, before)) = seen
        && let Ok(now) = sys::stat_fd(node.as_fd())
    {
        worker.run.restored.replaced(&before, &now, worker.run.since);
    }
    Ok(())
}

/// Whether what was made of an entry stays unfinished, as where a run dies: when the run was told to end, and not at once, or
/// the next one can go on with it.
pub fn stays(worker: &Worker<'_>, stopped: &Stopped, unfinished: Option<&Unfinished>) -> bool {
    let resumable = || unfinished.is_some_and(|of| of.ledger.is_some());
    matches!(stopped, Stopped::Aborted) && (!worker.run.desk.cancel.is_aborted() || resumable())
}

/// An entry was stopped on its way: what was made of it, with so many bytes that were written, stays or goes.
pub fn give_up(
    worker: &Worker<'_>,
    (dir, index): (&Dir, usize),
    target: &CStr,
    (staging, unfinished, written): (Option<&Staging>, Option<&Unfinished>, u64),
    stopped: &Stopped,
) {
    if !stays(worker, stopped, unfinished) {
        worker.counters.took_back(written);
        return discard(worker, dir, index, target, staging);
    }
    worker.counters.left_unfinished();
    if let Some(lock) = unfinished.and_then(|of| of.lock.as_ref()) {
        // Closing alone would leave the lock to a child that was just started; more than that can't be done.
        match sys::unlock(lock.as_fd()) {
            Ok(()) | Err(_) => {}
        }
    } else if let (Some(staging), Ok((_, fd))) = (staging, dir.writable(index)) {
        worker.run.stager.leave(fd.as_fd(), staging, target);
    }
}

/// Takes back what was made; a directory with something unfinished in it must not be published.
pub fn discard(worker: &Worker<'_>, dir: &Dir, index: usize, target: &CStr, staging: Option<&Staging>) {
    let removed = dir.writable(index).and_then(|(twin, fd)| {
        let name = staging.map_or(target, Staging::as_c_str);
        match sys::unlink(fd.as_fd(), name) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => {
                if staging.is_none() {
                    twin.tainted.store(true, Ordering::Release);
                }
                Err(Fault::new(Operation::Remove, Side::Destination(index), errno))
            }
        }
    });
    if let Err(fault) = removed {
        worker.fail(&fault, join(&dir.twin_path(index), target.to_bytes()), Kind::File);
    }
}
