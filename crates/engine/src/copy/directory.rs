//! A directory's life in the destinations: entered, its own files done, published, its subdirectories done, closed.
//!
//! Comes in: a subdirectory with open sources, as the walk has it; goes out: its outcome, after those of
//! everything below it. Its own mode and times are set when the last child is done; until then its owner can write in it.

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bulkhaul_formats::codec::names;
use bulkhaul_formats::digest::xxh64;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind, Node, OwnedFd, Stat};

use crate::copy::act::archive::archive_for;
use crate::copy::act::{depart, make, rename};
use crate::copy::dir::{Dir, Left, Presence, Tries, Twin, Twinned as _, Twins, show_what_takes_renamed};
use crate::copy::entry::{Done, Entry};
use crate::copy::given::IN_A_SOURCE;
use crate::copy::memory::Coming;
use crate::copy::options::Directories;
use crate::copy::plan::{Place, place};
use crate::copy::worker::Worker;
use crate::copy::{clear, extra, times, views};
use crate::entry::{Changes, Outcome, Reason};
use crate::error::{Cause, Fault, Operation, Side, Stopped, describe};
use crate::sweep::leftovers;
use crate::tree::descriptors::Slot;
use crate::tree::listing;
use crate::tree::metadata::{self, Held, Heritage, Subject, put_right};
use crate::tree::path::{join, split};
use crate::tree::protection::protected;
use crate::tree::publish::{clear_directory, merge_directory, publish_directory};
use crate::tree::spelling::TWO_FOR_ONE;
use crate::tree::staging::Staging;
use crate::walk::finder::excludes;
use crate::walk::node::{Entered, Origin, Source};
use crate::walk::scope::{Scope, Subdirectory};

/// Where a subdirectory comes in a destination.
struct Spot {
    /// The directory that holds it; none in a dry run that would make that.
    at: Option<Arc<OwnedFd>>,
    /// What has its name.
    existing: Option<Stat>,
    place: Place,
}

/// Whether the second walk of a move leaves a subdirectory alone: it did not arrive.
pub fn leaves_alone(worker: &mut Worker<'_>, parent: &Arc<Dir>, sub: &Subdirectory) -> bool {
    let failed = worker
        .run
        .pass
        .departure()
        .is_some_and(|departure| departure.has_failed(|| join(&parent.relative_path(), sub.target.to_bytes())));
    if failed {
        let done = Done::new(Outcome::Skipped);
        worker.record(parent, sub.source(), &sub.target, Kind::Directory, Ok(done));
    }
    failed
}

/// Whether what was opened of a subdirectory in source number `index` is a destination.
pub fn refuses(worker: &mut Worker<'_>, parent: &Arc<Dir>, sub: &Subdirectory, index: usize, source: &Source) -> bool {
    let refused = is_destination(worker, parent, source);
    if refused && index == sub.source() {
        let done = Done::skipped(Reason::Destination);
        worker.record(parent, index, &sub.target, Kind::Directory, Ok(done));
    }
    refused
}

/// Opens a subdirectory's twins. `last`: as [`Entry::last`](crate::copy::entry::Entry). None: it has its outcome, or
/// waits.
pub fn enter(worker: &mut Worker<'_>, entered: &Entered<'_, Twins>, last: Option<&[usize]>) -> Option<Twins> {
    let (parent, sub) = (entered.parent, entered.sub);
    let twins = catch_unwind(AssertUnwindSafe(|| twins(worker, entered, last))).unwrap_or_else(|_| {
        let cause = Cause::Panic("entering a directory".into());
        Err(Fault {
            operation: Operation::Work,
            side: Side::Source,
            cause,
        })
    });
    match twins {
        Ok(Spots::Open(mut twins)) => {
            if worker.run.rules.asked.rename {
                show_what_takes_renamed(&mut twins, entered.sources);
            }
            worker.tell_shortfalls(parent, &sub.target);
            Some(Twins::of(twins))
        }
        Ok(Spots::Gone) => None,
        Ok(Spots::Blocked(blocked)) => {
            // It is listed when it comes.
            worker.run.desk.unlisted();
            extra::put_off(worker, parent, Coming::Directory(sub.clone()), blocked);
            if worker.run.budget.exceeded() {
                parent.put_down();
            }
            None
        }
        Err(fault) => {
            worker.record(parent, sub.source(), &sub.target, Kind::Directory, Err(fault.into()));
            None
        }
    }
}

/// Where a subdirectory comes in all destinations.
enum Spots {
    /// Its twins are open.
    Open(Vec<Option<Twin>>),
    /// Something that may go is in its way, in these destinations.
    Blocked(Vec<(usize, Kind)>),
    /// It was renamed, and has its outcome.
    Gone,
}

/// Opens the twins of a subdirectory, if its way is clear.
fn twins(worker: &mut Worker<'_>, entered: &Entered<'_, Twins>, last: Option<&[usize]>) -> Result<Spots, Fault> {
    let (parent, sub) = (entered.parent, entered.sub);
    let spots: Vec<_> = (0..parent.twins.len())
        .map(|index| look_up(worker, parent, index, &sub.target))
        .collect();
    if last.is_none() {
        let taken = |(index, spot): (usize, &Result<Option<Spot>, Fault>)| match spot {
            Ok(Some(Spot {
                place: Place::Taken(_),
                existing: Some(there),
                ..
            })) => Some((index, there.kind)),
            _ => None,
        };
        let taken = spots.iter().enumerate().filter_map(taken);
        let blocked = extra::obstacles(worker, parent, &sub.target, taken)?;
        if !blocked.is_empty() {
            return Ok(Spots::Blocked(blocked));
        }
        let there = |spot: &&Result<Option<Spot>, Fault>| matches!(spot, Ok(Some(spot)) if spot.existing.is_some());
        extra::note_there(worker, parent, spots.iter().filter(there).count());
    }
    if let [
        Ok(Some(Spot {
            at, place: Place::Free, ..
        })),
    ] = &spots[..]
        && rename::directory(worker, entered, at.as_deref())?
    {
        return Ok(Spots::Gone);
    }
    let mut twins = Vec::with_capacity(parent.twins.len());
    let mut conflict = None;
    for (index, spot) in spots.into_iter().enumerate() {
        let clears = last.is_some_and(|clear| clear.contains(&index));
        match spot.and_then(|spot| open_twin(worker, parent, index, &sub.target, spot, clears)) {
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
            worker.missed(parent, &fault);
            worker.fail(
                &fault,
                join(&parent.twin_path(index), sub.target.to_bytes()),
                Kind::Directory,
            );
        }
    }
    Ok(Spots::Open(twins))
}

/// A directory is about to be listed: what was adopted loses what is not its own, and what entries are renamed into gets its
/// name.
pub fn begin(worker: &Worker<'_>, dir: &Arc<Dir>) -> Result<(), Fault> {
    for (index, twin) in dir.twins.iter().enumerate() {
        match twin {
            Some(twin) if !matches!(twin.presence, Presence::Staged(_)) || twin.fresh => {}
            Some(twin) if twin.shown => show(worker, dir, index)?,
            Some(_) => clear_strangers(worker, dir, index)?,
            None => {}
        }
    }
    Ok(())
}

/// Publishes a directory that nothing is in yet, nor of a run that died.
fn show(worker: &Worker<'_>, dir: &Dir, index: usize) -> Result<(), Fault> {
    let fault = |operation| move |errno| Fault::new(operation, Side::Destination(index), errno);
    if let Some(fd) = dir.twin(index).map_err(fault(Operation::Open))? {
        clear_directory(&fd).map_err(fault(Operation::Remove))?;
    }
    match publish_twin(worker, dir, index) {
        Err(Stopped::Fault(fault)) => Err(fault),
        Ok(()) | Err(Stopped::Aborted) => Ok(()),
    }
}

/// Whether a source directory is a destination. Where inode numbers say so and may be those of two file systems, a file
/// that is made in the destination tells.
fn is_destination(worker: &Worker<'_>, parent: &Dir, source: &Source) -> bool {
    let run = worker.run;
    let id = source.slot.id();
    let Some(index) = run.destination_ids.iter().position(|known| *known == id) else {
        return false;
    };
    if run.pass.rehearses() {
        return true;
    }
    let mut root = parent;
    while let Some(up) = root.parent.as_deref() {
        root = up;
    }
    let destination = root.twin(index).ok().flatten().zip(source.slot.current());
    let joined = destination.and_then(|(one, other)| views::joined(run.stager, &one, &other, &run.desk));
    joined.unwrap_or(true)
}

/// What has the name of a subdirectory in destination number `index`. `None`: that destination was given up.
fn look_up(worker: &Worker<'_>, parent: &Dir, index: usize, name: &CStr) -> Result<Option<Spot>, Fault> {
    let fault = |operation, errno| Fault::new(operation, Side::Destination(index), errno);
    let Some(up) = &parent.twins[index] else {
        return Ok(None);
    };
    let Some(at) = parent.twin(index).map_err(|e| fault(Operation::Open, e))? else {
        return Ok(Some(Spot {
            at: None,
            existing: None,
            place: Place::Free,
        }));
    };
    // What this run made holds nothing but what it put in; but another name of that may lead there.
    let fresh = up.fresh && !up.arrivals.folds();
    let existing = if fresh {
        None
    } else {
        up.arrivals.look(&at, name).map_err(|e| fault(Operation::Stat, e))?
    };
    if existing.is_some_and(|there| up.arrivals.is_taken(name, &there)) {
        return Err(Fault::conflict(Operation::MakeDirectory, index, TWO_FOR_ONE));
    }
    let leads = || sys::stat(at.as_fd(), name, Follow::Yes).is_ok_and(|s| s.kind == Kind::Directory);
    let place = place(existing.as_ref(), worker.run.rules.asked.keep_dirlinks, leads);
    Ok(Some(Spot {
        at: Some(at),
        existing,
        place,
    }))
}

/// `clears`: what is in its way goes.
fn open_twin(
    worker: &mut Worker<'_>,
    parent: &Dir,
    index: usize,
    name: &CStr,
    spot: Option<Spot>,
    clears: bool,
) -> Result<Option<Twin>, Fault> {
    let fault = |operation, errno| Fault::new(operation, Side::Destination(index), errno);
    let (Some(up), Some(Spot { at, existing, place })) = (&parent.twins[index], spot) else {
        return Ok(None);
    };
    let Some(at) = at else {
        return Ok(Some(Twin::imagined()));
    };
    match place {
        Place::Taken(what) if !clears => Err(Fault::conflict(Operation::MakeDirectory, index, what)),
        Place::Directory => {
            let follow = if existing.is_some_and(|there| there.kind == Kind::Symlink) {
                Follow::Yes
            } else {
                Follow::No
            };
            let stays = existing.map_or(Ok(true), |there| up.arrivals.take_over(&at, name, &there));
            if !stays.map_err(|e| fault(Operation::Stat, e))? {
                return Err(Fault::conflict(Operation::MakeDirectory, index, TWO_FOR_ONE));
            }
            existing_twin(worker, &at, name, follow, index).map(Some)
        }
        Place::Free | Place::Taken(_) => {
            make::permit(
                worker,
                (parent, false),
                (index, name),
                Operation::MakeDirectory,
                existing.as_ref(),
            )?;
            if !worker.run.pass.writes() {
                return Ok(Some(Twin::imagined()));
            }
            worker.run.tries(parent, index).for_each(Tries::try_one);
            let twin = staged_twin(worker, parent, &at, name, index, up)?;
            Ok(Some(Twin {
                replaces: existing,
                ..twin
            }))
        }
    }
}

fn existing_twin(
    worker: &mut Worker<'_>,
    at: &OwnedFd,
    name: &CStr,
    follow: Follow,
    index: usize,
) -> Result<Twin, Fault> {
    let fault = |operation, errno| Fault::new(operation, Side::Destination(index), errno);
    let dry = !worker.run.pass.writes();
    let mut before = None;
    let fd = match sys::open_directory(at.as_fd(), name, follow) {
        // Our own, and closed to ourselves: it is opened while we work in it.
        Err(Errno::ACCESS) if !dry && follow == Follow::No => {
            let node = sys::open_node(at.as_fd(), name).map_err(|e| fault(Operation::Open, e))?;
            let stat = sys::stat_fd(node.as_fd()).map_err(|e| fault(Operation::Stat, e))?;
            sys::set_mode(Node::Path(node.as_fd()), stat.mode | 0o700)
                .map_err(|_| fault(Operation::Open, Errno::ACCESS))?;
            before = Some(stat);
            sys::open_directory(at.as_fd(), name, follow).map_err(|e| fault(Operation::Open, e))?
        }
        other => other.map_err(|e| fault(Operation::Open, e))?,
    };
    worker.run.doubt();
    let now = sys::stat_fd(fd.as_fd()).map_err(|e| fault(Operation::Stat, e))?;
    let given = &worker.run.given;
    let led = follow == Follow::Yes
        && given
            .reaches(&fd, &worker.run.destination_ids)
            .map_err(|e| fault(Operation::Open, e))?;
    if led || given.has_directory(now.id) {
        return Err(Fault::conflict(Operation::Open, index, IN_A_SOURCE));
    }
    if worker.run.rules.asked.remove_extra && follow == Follow::Yes {
        let reached = sys::duplicate(fd.as_fd()).and_then(|fd| worker.run.surplus.keep_reached(fd));
        reached.map_err(|e| fault(Operation::Open, e))?;
    }
    let stat = before.filter(|b| b.id == now.id).unwrap_or(now);
    let reach = &worker.run.rules.keep.reach;
    let closed = !dry && !reach.privileged && reach.user(stat.uid) && stat.mode & 0o700 != 0o700;
    if closed && now.mode == stat.mode {
        sys::set_mode(Node::Open(fd.as_fd()), stat.mode | 0o700).map_err(|e| fault(Operation::SetMode, e))?;
    }
    let heritage = if dry {
        Heritage::default()
    } else {
        Heritage::of(Node::Open(fd.as_fd()), &mut worker.scratch, index)?
    };
    Ok(Twin {
        slot: Some(Slot::new(fd, stat.id, &worker.run.budget)),
        presence: Presence::Existing(stat),
        fresh: false,
        heritage,
        lent: closed.then_some(stat.mode),
        ..Twin::imagined()
    })
}

fn staged_twin(
    worker: &mut Worker<'_>,
    parent: &Dir,
    at: &OwnedFd,
    name: &CStr,
    index: usize,
    up: &Twin,
) -> Result<Twin, Fault> {
    let rules = &worker.run.rules;
    let staged = worker.run.stager.stage_directory(at.as_fd(), name, index)?;
    if let Some(errno) = staged.left {
        left_behind(worker, || join(&parent.twin_path(index), name.to_bytes()), errno);
    }
    let keep = (rules.asked.directories != Directories::Needed).then_some(&rules.keep);
    let (fd, mode) = (staged.fd.as_fd(), staged.stat.mode);
    let heritage = metadata::inherit(up.heritage, keep, fd, mode, &mut worker.scratch, index)?;
    Ok(Twin::staged(
        staged,
        heritage,
        up.arrivals.inherited(),
        &worker.run.budget,
    ))
}

/// Takes out of an adopted directory what the source does not have: unfinished entries, and what has gone since.
pub fn clear_strangers(worker: &Worker<'_>, dir: &Arc<Dir>, index: usize) -> Result<(), Fault> {
    let fault = |operation, errno| Fault::new(operation, Side::Destination(index), errno);
    let (Some(twin), Some(fd)) = (
        &dir.twins[index],
        dir.twin(index).map_err(|e| fault(Operation::Open, e))?,
    ) else {
        return Ok(());
    };
    let mut names = Vec::new();
    let mut left = Vec::new();
    let listed = listing::each(fd.as_fd(), || (), |name, _| names.push(name.to_owned()));
    listed.map_err(|e| fault(Operation::List, e))?;
    for name in names {
        let stat = sys::stat(fd.as_fd(), &name, Follow::No).map_err(|e| fault(Operation::Stat, e))?;
        if belongs(worker, dir, &name, stat.kind).is_some() || becomes(worker, dir, &name, stat.kind) {
            if stat.kind != Kind::Directory {
                left.push(xxh64(name.to_bytes()));
            }
            continue;
        }
        if stat.kind == Kind::Directory {
            let below = sys::open_directory(fd.as_fd(), &name, Follow::No).map_err(|e| fault(Operation::Open, e))?;
            clear_directory(&Arc::new(below)).map_err(|e| fault(Operation::Remove, e))?;
            sys::remove_directory(fd.as_fd(), &name).map_err(|e| fault(Operation::Remove, e))?;
        } else {
            sys::unlink(fd.as_fd(), &name).map_err(|e| fault(Operation::Remove, e))?;
        }
    }
    twin.left.find(left.into_iter());
    Ok(())
}

/// Takes out of an adopted directory what this run came to nothing with: it may be a part of a file.
fn clear_left(left: &Left, staged: &OwnedFd, index: usize) -> Result<(), Fault> {
    let fault = |operation, errno| Fault::new(operation, Side::Destination(index), errno);
    if !left.is_anything(None) {
        return Ok(());
    }
    let mut names = Vec::new();
    let note = |name: &CStr, _| {
        if left.is_anything(Some(name)) {
            names.push(name.to_owned());
        }
    };
    listing::each(staged.as_fd(), || (), note).map_err(|e| fault(Operation::List, e))?;
    for name in names {
        match sys::unlink(staged.as_fd(), &name) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(fault(Operation::Remove, errno)),
        }
    }
    Ok(())
}

/// Which source has the entry of this name and kind that this run will look at in an adopted directory: only then the skip
/// test proves it.
fn belongs(worker: &Worker<'_>, dir: &Dir, name: &CStr, kind: Kind) -> Option<usize> {
    let rules = &worker.run.rules;
    let left_out = rules.asked.directories == Directories::Only && kind != Kind::Directory;
    let winner = dir.sources.iter().enumerate().rev().find_map(|(index, source)| {
        let real = source.scope.name_of(name).filter(|_| source.scope.takes(name))?;
        let stat = dir
            .source(index)
            .and_then(|at| sys::stat(at.as_fd(), real, Follow::No))
            .ok()?;
        Some((index, stat))
    });
    let (index, stat) = winner.filter(|_| !left_out)?;
    let excluded = excludes((&rules.filter, &worker.run.working_directory), dir, index, name, kind);
    (stat.kind == kind && !excluded).then_some(index)
}

/// Whether this is the name of an archive that such an entry becomes, or of its index.
fn becomes(worker: &Worker<'_>, dir: &Arc<Dir>, name: &CStr, kind: Kind) -> bool {
    let Some(packing) = worker.run.rules.packing.as_ref().filter(|_| kind == Kind::File) else {
        return false;
    };
    let indexed = names::indexed_by(name).filter(|_| packing.index);
    let archive = indexed.as_deref().unwrap_or(name);
    let Some(content) = names::content_of(archive) else {
        return false;
    };
    let Some(source) = belongs(worker, dir, &content, kind) else {
        return false;
    };
    let entry = Entry {
        dir,
        source,
        found: &content,
        target: &content,
        last: None,
        again: false,
    };
    // What can't be told now is made anew.
    archive_for(worker, &entry, kind).is_ok_and(|made| made.as_deref() == Some(archive))
}

/// A directory's own entries are done: it is published.
pub fn publish(worker: &mut Worker<'_>, dir: &Arc<Dir>) {
    if worker.run.desk.cancel.is_draining() {
        return;
    }
    for index in 0..dir.twins.len() {
        match publish_twin(worker, dir, index) {
            Err(Stopped::Fault(fault)) => {
                worker.fail_directory(dir, dir.winner(), &fault);
                abandon(worker, dir, &fault);
            }
            // The next run adopts it.
            Ok(()) | Err(Stopped::Aborted) => {}
        }
    }
}

fn publish_twin(worker: &Worker<'_>, dir: &Dir, index: usize) -> Result<(), Stopped> {
    let side = Side::Destination(index);
    let Some(Twin {
        presence: Presence::Staged(staging),
        slot: Some(slot),
        published,
        merged,
        holder,
        tainted,
        arrivals,
        left,
        replaces,
        tries,
        ..
    }) = &dir.twins[index]
    else {
        return Ok(());
    };
    if published.load(Ordering::Acquire) {
        return Ok(());
    }
    let fault = |errno| Fault::new(Operation::Rename, side, errno);
    if tainted.load(Ordering::Acquire) {
        let what = "something unfinished could not be removed from it";
        return Err(Fault::conflict(Operation::Rename, index, what).into());
    }
    let parent_twin;
    let (at, name) = if let Some(parent) = &dir.parent {
        parent_twin = parent.writable(index)?;
        (&*parent_twin.1, dir.name.as_c_str())
    } else {
        let Some(root) = &worker.run.roots[index] else {
            return Ok(());
        };
        (&root.parent, root.name.as_c_str())
    };
    let staged = dir.twin(index).map_err(fault)?.ok_or_else(|| fault(Errno::STALE))?;
    clear_left(left, &staged, index)?;
    let make_way = || {
        let (Some(old), Some(parent)) = (replaces, &dir.parent) else {
            return Ok(());
        };
        let Place::Taken(what) = place(Some(old), false, || false) else {
            return Ok(());
        };
        let conflict = (Operation::MakeDirectory, what);
        // What could not be listed, and what nothing could be made in, takes the place of nothing.
        if dir.recorded.load(Ordering::Acquire) || tries.are_vain() {
            return Err(Stopped::from(Fault::conflict(conflict.0, index, what)));
        }
        clear::make_way(worker.run, parent, index, name, old.kind, conflict)
    };
    let appear = || {
        make_way()?;
        match publish_directory(at.as_fd(), worker.run.stager, (&staged, staging), name) {
            Ok(held) => {
                if let Some(held) = held {
                    holder.get_or_init(|| held);
                }
                Ok(())
            }
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {
                merge(dir, index, (at, name), staging, &staged)?;
                merged.store(true, Ordering::Release);
                Ok(())
            }
            Err(errno) => Err(Stopped::from(fault(errno))),
        }
    };
    let above = dir.parent.as_ref().and_then(|parent| parent.twins[index].as_ref());
    let result = match above {
        Some(above) if above.fresh => {
            above.arrivals.expect(name, slot.id());
            appear()
        }
        Some(above) => above.arrivals.publish(at, name, index, appear),
        None => appear().and_then(|()| Ok(arrivals.learn(at, name).map_err(fault)?)),
    };
    let taken_back = |cause: &Cause| match cause {
        Cause::Conflict(what) => replaces.is_some() || *what == TWO_FOR_ONE,
        _ => false,
    };
    if matches!(&result, Err(Stopped::Fault(fault)) if taken_back(&fault.cause)) {
        let cleared = clear_directory(&staged);
        if let Some(above) = above.filter(|above| above.fresh) {
            above.arrivals.expect_no_more(name, slot.id(), None);
        }
        // Closed first: some file systems give its number to the next directory, which must not meet the dead one.
        slot.retire();
        drop(staged);
        let removed = cleared.and_then(|()| sys::remove_directory(at.as_fd(), staging.as_c_str()));
        if let Err(errno) = removed {
            left_behind(worker, || dir.twin_path(index), errno);
        }
    }
    result?;
    published.store(true, Ordering::Release);
    Ok(())
}

/// Something under a staging name could not be taken away.
fn left_behind(worker: &Worker<'_>, path: impl FnOnce() -> Vec<u8>, errno: Errno) {
    let message = || format!("what was made of it stays until the next run: {}", describe(errno));
    worker.run.desk.note("left-behind", || (path(), message()));
}

/// Somebody else made a directory meanwhile: the entries of the staged one move in one by one.
fn merge(
    dir: &Dir,
    index: usize,
    (at, name): (&OwnedFd, &CStr),
    staging: &Staging,
    staged: &OwnedFd,
) -> Result<(), Fault> {
    let fault = |operation| move |errno| Fault::new(operation, Side::Destination(index), errno);
    let existing = sys::open_directory(at.as_fd(), name, Follow::No)
        .map_err(|_| Fault::conflict(Operation::Rename, index, "something else took its name meanwhile"))?;
    let there = sys::stat_fd(existing.as_fd()).map_err(fault(Operation::Stat))?;
    let above = dir.parent.as_ref().and_then(|parent| parent.twins[index].as_ref());
    let above = above.filter(|above| above.fresh);
    if above.is_some_and(|above| above.arrivals.is_taken(name, &there)) {
        return Err(Fault::conflict(Operation::Rename, index, TWO_FOR_ONE));
    }
    let slot = dir.twins[index].as_ref().and_then(|twin| twin.slot.as_ref());
    if let (Some(above), Some(slot)) = (above, slot) {
        above.arrivals.expect_no_more(name, slot.id(), Some(there.id));
    }
    merge_directory(at.as_fd(), staging, staged.as_fd(), existing.as_fd(), index)?;
    if let Some(slot) = slot {
        slot.replace(existing, there.id);
    }
    Ok(())
}

/// Everything below a directory that could not be published has an outcome too.
fn abandon(worker: &mut Worker<'_>, dir: &Arc<Dir>, fault: &Fault) {
    loop {
        let next = dir.below().pop();
        let Some(sub) = next else { return };
        worker.run.desk.listed();
        worker.record(
            dir,
            sub.source(),
            &sub.target,
            Kind::Directory,
            Err(fault.clone().into()),
        );
    }
}

/// The directory's own metadata, times last, and its outcome.
pub fn close(worker: &mut Worker<'_>, dir: &Arc<Dir>) {
    if let Some(departure) = worker.run.pass.departure() {
        return depart::depart_directory(worker, departure, dir);
    }
    if dir.parent.is_none() {
        // Its times come after this.
        worker.run.probes.pull();
    }
    let mut changes = Changes::default();
    let mut made = false;
    let needed = worker.run.rules.asked.directories != Directories::Needed || dir.holds.load(Ordering::Acquire);
    if let (true, Some(parent)) = (needed, &dir.parent) {
        parent.holds.store(true, Ordering::Release);
    }
    for index in 0..dir.twins.len() {
        let Some(twin) = &dir.twins[index] else { continue };
        made |= twin.is_made();
        if needed && matches!(twin.presence, Presence::Imagined) {
            worker.run.targets[index].directories.fetch_add(1, Ordering::Relaxed);
        }
        let closed = if needed || !made {
            close_twin(worker, dir, index, twin)
        } else {
            unmake(worker, dir, index, twin)
        };
        match closed {
            Ok(seen) => changes.insert(seen),
            Err(fault) => worker.fail_directory(dir, dir.winner(), &fault),
        }
        if let (Some(parent), Presence::Staged(_)) = (&dir.parent, &twin.presence) {
            // One that nothing could be made in has not come for its own sake.
            let came = twin.published.load(Ordering::Acquire) && !twin.tries.are_vain();
            let note = if came { Tries::come } else { Tries::fail };
            worker.run.tries(parent, index).for_each(note);
        }
    }
    rename::restore_times(worker, dir);
    let mut leaves = false;
    if dir.is_entry && !dir.recorded.swap(true, Ordering::AcqRel) {
        let done = if made && !needed {
            Done::skipped(Reason::NotNeeded)
        } else if made {
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
        worker.record_directory(dir, &done);
        leaves = done.arrived() && may_leave(dir);
    }
    if leaves {
        worker.counters.leaves();
    } else if let Some(parent) = &dir.parent {
        parent.stays.store(true, Ordering::Release);
    }
}

/// Whether a move may remove a directory from a source once it has arrived: nothing of it stays, it was taken as a whole, and
/// it has a name to go by.
fn may_leave(dir: &Dir) -> bool {
    let whole = |source: &Source| matches!(source.scope, Scope::Whole);
    let named = |source: &Source| match &source.origin {
        Origin::Path(path) => !matches!(split(path).1, b"" | b"." | b".."),
        _ => true,
    };
    !dir.stays.load(Ordering::Acquire) && dir.sources.iter().any(|source| whole(source) && named(source))
}

fn close_twin(worker: &mut Worker<'_>, dir: &Arc<Dir>, index: usize, twin: &Twin) -> Result<Changes, Fault> {
    let run = worker.run;
    let (rules, side) = (&run.rules, Side::Destination(index));
    if !twin.published.load(Ordering::Acquire) {
        // It failed to appear, and that was said.
        return Ok(Changes::default());
    }
    let Some(fd) = dir.twin(index).map_err(|e| Fault::new(Operation::Open, side, e))? else {
        return Ok(Changes::default());
    };
    let_go(worker, dir, index, (twin, &fd));
    if run.pass.writes() && !twin.fresh {
        leftovers::clear(&fd, || dir.twin_path(index), side, run.stager, &run.desk)?;
    }
    let staged = matches!(twin.presence, Presence::Staged(_));
    let look = || sys::stat_fd(fd.as_fd()).map_err(|e| Fault::new(Operation::Stat, side, e));
    if !dir.is_entry || rules.asked.directories == Directories::Needed {
        // Where its mode is not to be kept it opens nothing that the source keeps closed.
        let bits = if dir.is_entry && !rules.keep.mode {
            dir.sources[dir.winner()].stat.mode | 0o700
        } else {
            0o777
        };
        let staged = if staged { Some((look()?.mode, bits)) } else { None };
        return close_plainly(worker, index, twin, &fd, staged);
    }
    let source = &dir.sources[dir.winner()].stat;
    let there = match &twin.presence {
        Presence::Existing(before) => Some(before),
        Presence::Staged(_) | Presence::Imagined => None,
    };
    let kept = times::kept_of(worker, dir, index, source, there);
    let now = look()?;
    let before = there.copied().unwrap_or(now);
    let node = dir
        .source(dir.winner())
        .map_err(|e| Fault::new(Operation::Open, Side::Source, e))?;
    let source = &metadata::without_list(&rules.keep, source, Held::Open(node.as_fd()), &mut worker.scratch)?;
    let copy = Subject {
        node: Node::Open(fd.as_fd()),
        owner: (now.uid, now.gid),
        mode: before.mode,
        // A directory in one with the set-group-id bit has that, too.
        born: staged.then(|| twin.heritage.leaves(&rules.keep, source.mode) | now.mode & 0o2000),
        new: staged,
        inherits: staged && twin.heritage.attributes,
        destination: index,
    };
    let obstacle = if staged { None } else { protected(before.protection) };
    let act = run.pass.writes() && obstacle.is_none();
    let put = put_right(
        &rules.keep,
        source,
        Some(Node::Open(node.as_fd())),
        copy,
        act.then_some(copy.node),
        &mut worker.scratch,
    )?;
    let mut changes = put.changes;
    if !changes.contains(Changes::MODE) {
        give_back(twin, &fd, index)?;
    }
    let mut timed = true;
    let late = rules.keep.times && !kept.is_same(source.mtime, before.mtime);
    if act && (staged || !kept.is_same(source.mtime, now.mtime)) {
        timed = times::set_times(worker, dir, index, source, Node::Open(fd.as_fd()))?;
    } else if there.is_some() && rules.keep.times && !late {
        times::tell_loss(worker, &kept, source.mtime, before.mtime);
    }
    changes.insert_if(late && timed, Changes::TIME);
    match obstacle.filter(|_| !changes.is_empty()) {
        Some(what) => Err(Fault::conflict(Operation::SetMode, index, what)),
        None => Ok(changes),
    }
}

/// A directory that stands for no source entry, or whose metadata was not asked for.
/// `staged`: the mode that this run made it with, and the bits that it may have.
fn close_plainly(
    worker: &mut Worker<'_>,
    index: usize,
    twin: &Twin,
    fd: &OwnedFd,
    staged: Option<(u32, u32)>,
) -> Result<Changes, Fault> {
    let rules = &worker.run.rules;
    if !worker.run.pass.writes() {
        return Ok(Changes::default());
    }
    match staged {
        Some((mode, bits)) => {
            let born = twin.heritage.leaves(&rules.keep, bits) | mode & 0o2000;
            if born != mode {
                let mode = (Node::Open(fd.as_fd()), born, false);
                metadata::set_mode(&rules.keep, mode, index, &mut worker.scratch)?;
            }
        }
        None => give_back(twin, fd, index)?,
    }
    Ok(Changes::default())
}

/// A directory that nothing came into goes again.
fn unmake(worker: &Worker<'_>, dir: &Dir, index: usize, twin: &Twin) -> Result<Changes, Fault> {
    let fault = |operation, errno| Fault::new(operation, Side::Destination(index), errno);
    if let (true, Some(parent), Presence::Staged(_)) = (twin.fresh, &dir.parent, &twin.presence)
        && let Some(at) = parent.twin(index).map_err(|e| fault(Operation::Open, e))?
    {
        if let Some(fd) = dir.twin(index).map_err(|e| fault(Operation::Open, e))? {
            let_go(worker, dir, index, (twin, &fd));
        }
        match sys::remove_directory(at.as_fd(), &dir.name) {
            // Somebody else put something in.
            Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return Err(fault(Operation::Remove, errno)),
        }
    }
    Ok(Changes::default())
}

/// Nothing more is to come into a directory that was held. What holds it costs nothing of what came where it can't go.
fn let_go(worker: &Worker<'_>, dir: &Dir, index: usize, (twin, fd): (&Twin, &OwnedFd)) {
    let Some(holder) = twin.holder.get() else { return };
    match sys::unlink(fd.as_fd(), holder.as_c_str()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => left_behind(worker, || dir.twin_path(index), errno),
    }
}

/// An existing directory that was opened for our own work is closed again.
fn give_back(twin: &Twin, fd: &OwnedFd, index: usize) -> Result<(), Fault> {
    let Some(mode) = twin.lent else { return Ok(()) };
    sys::set_mode(Node::Open(fd.as_fd()), mode).map_err(|e| Fault::new(Operation::SetMode, Side::Destination(index), e))
}

/// The run ends early: the directory keeps what it has, for the next run to go on with.
pub fn break_off(worker: &Worker<'_>, dir: &Arc<Dir>) {
    for (index, twin) in dir.twins.iter().enumerate() {
        let Some(twin) = twin else { continue };
        let unfinished = matches!(twin.presence, Presence::Staged(_)) && !twin.published.load(Ordering::Acquire);
        if !unfinished && twin.lent.is_none() && twin.holder.get().is_none() {
            continue;
        }
        let fault = |e| Fault::new(Operation::Open, Side::Destination(index), e);
        let left = dir.twin(index).map_err(fault).and_then(|fd| match fd {
            // The next run adopts it; closing alone would leave the lock to a child that was just started.
            Some(fd) if unfinished => sys::unlock(fd.as_fd()).map_err(fault),
            Some(fd) => {
                let_go(worker, dir, index, (twin, &fd));
                give_back(twin, &fd, index)
            }
            None => Ok(()),
        });
        if let Err(fault) = left {
            worker.fail(&fault, dir.twin_path(index), Kind::Directory);
        }
    }
}
