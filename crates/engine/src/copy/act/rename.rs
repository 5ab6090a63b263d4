//! The short way of a move: an entry gets its new place within its file system, and a directory with all that is in it.
//!
//! Comes in: an entry whose name is free in the one destination; goes out: the entry there, or nothing was done and it is to be
//! copied: another file system, another view of it, a subvolume. Nothing is replaced. A directory goes as a whole where all of
//! it is taken and nothing ties it to its place; otherwise it is entered, and a directory that is made for it has its name
//! before anything is renamed into it, because nobody would find it under another. Killed at any moment, each entry is in the
//! source or in the destination, and the next run goes on.

use std::ffi::CStr;
use std::sync::atomic::Ordering;

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind, Node, OwnedFd, Stat};

use crate::copy::act::make::permit;
use crate::copy::dir::{Dir, Tries, Twinned as _, Twins};
use crate::copy::entry::{Done, Entry};
use crate::copy::options::Directories;
use crate::copy::run::Run;
use crate::copy::worker::Worker;
use crate::entry::{Changes, Outcome};
use crate::error::{Cause, Fault, Operation, Side, Stopped, describe};
use crate::tree::staging::relocate;
use crate::walk::node::Entered;
use crate::walk::scope::Scope;

/// Whether entries of a source of a directory may be renamed into its twin number `index`.
fn may_rename(run: &Run, dir: &Dir, source: usize, index: usize) -> bool {
    let device = || match dir.twins[index].as_ref()?.device() {
        // It would be made.
        0 => Some(
            sys::stat_fd(run.targets[index].file_system.as_ref()?.as_fd())
                .ok()?
                .id
                .dev,
        ),
        device => Some(device),
    };
    run.rules.asked.rename
        && run.pass.departure().is_none()
        && run.targets.len() == 1
        && run.rules.asked.directories == Directories::All
        && device() == Some(dir.sources[source].slot.id().dev)
}

/// One entry that is not a directory. `there`: what has its name. `None`: it goes the long way.
pub fn entry(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    kind: Kind,
    (at, name): (&OwnedFd, &CStr),
    there: &[(usize, Option<Stat>)],
) -> Result<Option<Done>, Stopped> {
    let run = worker.run;
    let &[(index, None)] = there else { return Ok(None) };
    if !may_rename(run, entry.dir, entry.source, index) || has_rival(entry)? {
        return Ok(None);
    }
    let look = |e| Fault::new(Operation::Stat, Side::Source, e);
    let stat = sys::stat(at.as_fd(), name, Follow::No).map_err(look)?;
    if stat.kind != kind {
        return Err(Fault::changed(Operation::Rename).into());
    }
    if run.in_use.contains(&stat.id) {
        return Ok(None);
    }
    permit(
        worker,
        (entry.dir, false),
        (index, entry.target),
        Operation::Rename,
        None,
    )?;
    if run.pass.writes() {
        let (_, to) = entry.dir.writable(index)?;
        if !give_place(run, (entry.dir, index), (at, name), (&to, entry.target))? {
            return Ok(None);
        }
        if stat.nlink > 1
            && let Ok(now) = sys::stat(to.as_fd(), entry.target, Follow::No)
        {
            run.restored.replaced(&stat, &now, run.since);
        }
    }
    if kind == Kind::File && !entry.again {
        worker.counters.sized(stat.size, stat.allocated);
    }
    let done = Done {
        size: if kind == Kind::File { stat.size } else { 0 },
        ..Done::new(Outcome::Renamed)
    };
    Ok(Some(done.with(Changes::NEW).at(index)))
}

/// Whether another source of the directory has the name too: that one is compared with this entry, where it is.
fn has_rival(entry: &Entry<'_>) -> Result<bool, Fault> {
    let dir = entry.dir;
    if dir.sources.len() < 2 {
        return Ok(false);
    }
    for other in dir
        .owners(entry.target)
        .into_iter()
        .filter(|other| *other != entry.source)
    {
        let Some(name) = dir.sources[other].scope.name_of(entry.target) else {
            continue;
        };
        let found = dir.source(other).and_then(|at| sys::stat(at.as_fd(), name, Follow::No));
        match found {
            Err(Errno::NOENT) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(Fault::new(Operation::Stat, Side::Source, errno)),
        }
    }
    Ok(false)
}

/// A subdirectory with all that is in it, into its parent's only twin. False: it is to be entered.
pub fn directory(worker: &mut Worker<'_>, entered: &Entered<'_, Twins>, at: Option<&OwnedFd>) -> Result<bool, Fault> {
    let run = worker.run;
    let Entered { parent, sub, .. } = *entered;
    let source = sub.source();
    let whole = matches!(sub.scope, Scope::Whole) && sub.sources().len() == 1 && run.rules.filter.takes_all();
    if !whole
        || run.rules.asked.one_file_system
        || !may_rename(run, parent, source, 0)
        || entered.stat.id.dev != parent.sources[source].slot.id().dev
        || run.ties.hold(entered.fd, entered.stat.id)
    {
        return Ok(false);
    }
    permit(worker, (parent, false), (0, &sub.target), Operation::Rename, None)?;
    let renamed = match at {
        Some(to) if run.pass.writes() => {
            let from = parent
                .source(source)
                .map_err(|e| Fault::new(Operation::Open, Side::Source, e))?;
            give_place(run, (parent, 0), (&from, entered.name), (to, &sub.target))?
        }
        _ => true,
    };
    if renamed {
        let done = Done::new(Outcome::Renamed).with(Changes::NEW);
        worker.record(parent, source, &sub.target, Kind::Directory, Ok(done));
    }
    Ok(renamed)
}

/// Renames what has a name in a source directory. False: that can't be, so it is to be copied.
fn give_place(
    run: &Run,
    (dir, index): (&Dir, usize),
    (from, name): (&OwnedFd, &CStr),
    (to, target): (&OwnedFd, &CStr),
) -> Result<bool, Fault> {
    let Some(twin) = &dir.twins[index] else {
        return Ok(false);
    };
    run.tries(dir, index).for_each(Tries::try_one);
    let appear = || {
        relocate((from.as_fd(), name), (to.as_fd(), target)).map_err(|errno| match errno {
            // Somebody has just made it: it is looked at again.
            Errno::EXIST | Errno::NOTEMPTY => Fault::new(Operation::Rename, Side::Destination(index), Errno::STALE),
            Errno::NOSPC | Errno::DQUOT => Fault::new(Operation::Rename, Side::Destination(index), errno),
            errno => Fault::new(Operation::Rename, Side::Source, errno),
        })
    };
    match twin.arrivals.publish(to, target, index, appear) {
        Ok(()) => Ok(true),
        // Another mount, subvolume or quota; something is mounted on it; too many links; or it can't be renamed there at all.
        Err(Fault {
            side: Side::Source,
            cause: Cause::Errno(Errno::XDEV | Errno::BUSY | Errno::MLINK | Errno::INVAL | Errno::NOSYS | Errno::NOTSUP),
            ..
        }) => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// The sources of a directory that something was renamed out of have the times that they had before: what stays keeps them,
/// and the next run looks at them.
pub fn restore_times(worker: &Worker<'_>, dir: &Dir) {
    if !dir.is_entry || !dir.drained.load(Ordering::Acquire) || !worker.run.pass.writes() {
        return;
    }
    for (index, source) in dir.sources.iter().enumerate() {
        if !matches!(source.scope, Scope::Whole) {
            continue;
        }
        let set = |fd: &OwnedFd| sys::set_times(Node::Open(fd.as_fd()), None, Some(source.stat.mtime));
        if let Err(errno) = dir.source(index).and_then(|fd| set(&fd)) {
            let message = format!(
                "its time could not be put back after entries were renamed: {}",
                describe(errno)
            );
            worker
                .run
                .desk
                .note("source-time", || (dir.source_path(index), message));
        }
    }
}
