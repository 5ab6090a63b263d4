//! Carrying out what the plan says for one entry that is not a directory.
//!
//! Comes in: a name in a directory with open descriptors; goes out: what was done. Symlinks, FIFOs, sockets and devices are
//! made here; regular files have a room of their own. Whatever stops on the way leaves no name behind.

pub mod depart;
pub mod file;

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Identity, Kind, Node, OwnedFd, Stat};

use crate::bytes::probe;
use crate::copy::act::file::Source;
use crate::copy::dir::{Dir, Presence, Tries, Twin};
use crate::copy::extra;
use crate::copy::late::{self, Coming};
use crate::copy::links::{self, Claimed, location};
use crate::copy::options::Directories;
use crate::copy::plan::{Action, forbidden, plan, protected};
use crate::copy::track::{Tracked, Undecided, destination_with};
use crate::copy::worker::{Done, Worker};
use crate::entry::{Changes, Outcome, Reason};
use crate::error::{Fault, Operation, Side, Stopped};
use crate::tree::keep::{differences, wanted};
use crate::tree::metadata::{self, Copy, Held, put_right};
use crate::tree::path::join;
use crate::tree::publish;
use crate::tree::spelling::TWO_FOR_ONE;
use crate::tree::staging::Staging;
use crate::tree::times::{self, Kept};

/// Times that an entry is planned when the destination changes under it (another run, or a network file system).
const STALE_ATTEMPTS: u32 = 3;

/// An entry of the source that is being worked on.
#[derive(Clone, Copy)]
pub struct Entry<'e> {
    /// Its directory.
    pub dir: &'e Arc<Dir>,
    /// Which of the directory's sources has it.
    pub source: usize,
    /// Its name in the destination.
    pub target: &'e CStr,
    /// It was put off until all else was done. In a dry run: destinations in which what was in its way would be gone now.
    pub last: Option<&'e [usize]>,
    /// It was counted already, and is looked at again.
    pub again: bool,
}

/// One entry that is not a directory. `None`: its outcome comes later, with its sync or in the end. What changes in
/// the destination between the look and the deed is looked at again.
pub fn entry(worker: &mut Worker<'_>, entry: &Entry<'_>, kind: Kind) -> Result<Option<Done>, Stopped> {
    if let Some(departure) = &worker.run.departure {
        return depart::depart(worker, departure, entry, kind);
    }
    let mut entry = *entry;
    let mut attempts = 1;
    loop {
        match attempt(worker, &entry, kind) {
            Err(Stopped::Fault(fault)) if fault.is_stale() && attempts < STALE_ATTEMPTS => {
                attempts += 1;
                entry.again = true;
            }
            result => return result,
        }
    }
}

fn attempt(worker: &mut Worker<'_>, entry: &Entry<'_>, kind: Kind) -> Result<Option<Done>, Stopped> {
    if worker.run.rules.directories == Directories::Only {
        return Ok(Some(Done::skipped(Reason::DirectoriesOnly)));
    }
    let source = &entry.dir.sources[entry.source];
    let name = source.scope.name_of(entry.target).unwrap_or(entry.target);
    let at = entry
        .dir
        .source(entry.source)
        .map_err(|e| Fault::new(Operation::Open, Side::Source, e))?;
    let there = existing(worker, entry)?;
    if waits(worker, entry, kind, &there)? {
        return Ok(None);
    }
    if entry.last.is_none() && !entry.again {
        extra::note_there(
            worker,
            entry.dir,
            there.iter().filter(|(_, stat)| stat.is_some()).count(),
        );
    }
    if kind == Kind::File {
        return file::regular(worker, entry, &at, name, &there);
    }
    let stat = sys::stat(at.as_fd(), name, Follow::No).map_err(|e| Fault::new(Operation::Stat, Side::Source, e))?;
    if stat.kind != kind {
        return Err(Fault::changed(Operation::Stat).into());
    }
    let text = match kind {
        Kind::Symlink => {
            Some(sys::read_link(at.as_fd(), name).map_err(|e| Fault::new(Operation::Read, Side::Source, e))?)
        }
        _ => None,
    };
    special(worker, entry, &stat, (&at, name), text.as_deref(), &there)
}

/// What has this name in each destination: where it was looked up, and the facts.
pub fn existing(worker: &Worker<'_>, entry: &Entry<'_>) -> Result<Vec<(usize, Option<Stat>)>, Fault> {
    let mut there = Vec::with_capacity(entry.dir.twins.len());
    for (index, twin) in entry.dir.twins.iter().enumerate() {
        let Some(twin) = twin else { continue };
        let fault = |errno| Fault::new(Operation::Stat, Side::Destination(index), errno);
        let known = match (
            twin.fresh || entry.last.is_some_and(|clear| clear.contains(&index)),
            entry
                .dir
                .twin(index)
                .map_err(|e| Fault::new(Operation::Open, Side::Destination(index), e))?,
        ) {
            (false, Some(fd)) => twin.arrivals.look(&fd, entry.target).map_err(fault)?,
            _ => None,
        };
        if let Some(stat) = &known {
            depart::doubt(worker);
            if twin.arrivals.is_taken(entry.target, stat) {
                return Err(Fault::conflict(Operation::Create, index, TWO_FOR_ONE));
            }
        }
        there.push((index, known));
    }
    Ok(there)
}

/// Whether an entry waits for the sweep: a directory is in its way, which may go. `there`: what has its name.
pub fn waits(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    kind: Kind,
    there: &[(usize, Option<Stat>)],
) -> Result<bool, Fault> {
    let directory = |(index, stat): &(usize, Option<Stat>)| {
        let kind = stat.as_ref().map(|stat| stat.kind)?;
        (kind == Kind::Directory).then_some((*index, kind))
    };
    if entry.last.is_some() {
        return Ok(false);
    }
    let blocked = late::obstacles(worker, entry.dir, entry.target, there.iter().filter_map(directory))?;
    if blocked.is_empty() {
        return Ok(false);
    }
    entry.dir.pending.fetch_add(1, Ordering::AcqRel);
    let coming = Coming::Entry {
        source: entry.source,
        target: entry.target.to_owned(),
        kind,
    };
    late::put_off(worker, entry.dir, coming, blocked);
    Ok(true)
}

/// The content is there: puts the metadata right, by descriptors that lead to what was looked at. `copy`: the file of
/// the destination, where its content was compared.
pub fn keep(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    stat: &Stat,
    source: Held<'_>,
    copy: Option<&OwnedFd>,
    index: usize,
    existing: &Stat,
) -> Result<Done, Fault> {
    let keep = &worker.run.rules.keep;
    let side = Side::Destination(index);
    let open = |e| Fault::new(Operation::Open, side, e);
    let kept = times::kept_of(worker, entry.dir, index, stat, Some(existing));
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
            return Ok(Done::skipped(Reason::Unchanged).at(index));
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
        let copy = Copy {
            node,
            owner: (existing.uid, existing.gid),
            mode: existing.mode,
            born: None,
            new: false,
            inherits: false,
            destination: index,
        };
        let obstacle = protected(existing.protection);
        let act = !worker.run.rules.dry_run && obstacle.is_none();
        let late = changes.contains(Changes::TIME);
        changes = put_right(keep, stat, Some(source), copy, act, &mut worker.scratch)?.changes;
        if late && (!act || times::set_times(worker, entry.dir, index, stat, node)?) {
            changes.insert(Changes::TIME);
        }
        if let Some(what) = obstacle.filter(|_| !changes.is_empty()) {
            return Err(Fault::conflict(Operation::SetMode, index, what));
        }
    }
    Ok(if changes.is_empty() {
        Done::skipped(Reason::Unchanged).at(index)
    } else {
        Done::new(Outcome::Metadata).with(changes).at(index)
    })
}

/// Refuses what the flags of a directory, or of what has the name in it, forbid: before anything is written.
pub fn permit(dir: &Dir, index: usize, operation: Operation, existing: Option<&Stat>) -> Result<(), Fault> {
    let directory = match dir.twins[index].as_ref().map(|twin| &twin.presence) {
        Some(Presence::Existing(stat)) => Some(stat),
        _ => None,
    };
    match forbidden(directory, existing) {
        Some(what) => Err(Fault::conflict(operation, index, what)),
        None => Ok(()),
    }
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
    let (twin, fd) = twin(entry.dir, index)?;
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

/// What is there already stays, as this entry's.
pub fn take_over(entry: &Entry<'_>, index: usize, existing: &Stat) -> Result<(), Fault> {
    let (twin, fd) = twin(entry.dir, index)?;
    let stays = twin.arrivals.take_over(&fd, entry.target, existing);
    if stays.map_err(|e| Fault::new(Operation::Stat, Side::Destination(index), e))? {
        Ok(())
    } else {
        Err(Fault::conflict(Operation::Create, index, TWO_FOR_ONE))
    }
}

/// Gives an entry its name that was made under a staging name.
pub fn publish(dir: &Dir, index: usize, staging: &Staging, target: &CStr, replace: bool) -> Result<(), Fault> {
    let (twin, fd) = twin(dir, index)?;
    let appear = || publish::publish(fd.as_fd(), staging, target, replace, index);
    twin.arrivals.publish(&fd, target, index, appear)
}

/// A directory's twin and its descriptor, where something is to be written.
pub fn twin(dir: &Dir, index: usize) -> Result<(&Twin, Arc<OwnedFd>), Fault> {
    let stale = |e| Fault::new(Operation::Open, Side::Destination(index), e);
    let fd = dir.twin(index).map_err(stale)?.ok_or_else(|| stale(Errno::STALE))?;
    let twin = dir.twins[index].as_ref().ok_or_else(|| stale(Errno::STALE))?;
    Ok((twin, fd))
}

/// Takes back what was made; a directory with something unfinished in it must not be published.
pub fn discard(worker: &Worker<'_>, dir: &Dir, index: usize, target: &CStr, staging: Option<&Staging>) {
    let removed = twin(dir, index).and_then(|(twin, fd)| {
        let name = staging.map_or(target, Staging::as_c_str);
        match sys::unlink(fd.as_fd(), name) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => {
                if twin.fresh {
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

/// A symlink, FIFO, socket or device. `None`: it is put off until all else is there.
fn special(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    stat: &Stat,
    (at, name): (&OwnedFd, &CStr),
    text: Option<&CStr>,
    there: &[(usize, Option<Stat>)],
) -> Result<Option<Done>, Stopped> {
    let target = text.map(|t| t.to_bytes().to_vec());
    let mut claimed = Claimed {
        run: worker.run,
        of: None,
    };
    if stat.nlink > 1 {
        let source = Source { at, name, file: None };
        let linked = links::link_or_claim(worker, entry, source, stat, there, &mut claimed)?;
        if linked.is_some() {
            return Ok(linked);
        }
    }
    let mut place = None;
    for (index, existing) in there {
        let mut action = plan(stat, existing.as_ref(), worker.run.rules.tail, &Kept::UNKNOWN);
        if let (Action::Probe, Some(text)) = (action, text) {
            let (_, fd) = twin(entry.dir, *index)?;
            action = if probe::same_link(text, fd.as_fd(), entry.target, *index)? {
                Action::Keep
            } else {
                Action::Replace(Changes::TARGET)
            };
        }
        match (action, existing) {
            (Action::Skip(reason), _) => return Ok(Some(Done::skipped(reason).at(*index))),
            (Action::Keep, Some(existing)) => {
                let done = keep(
                    worker,
                    entry,
                    stat,
                    Held::Named(at.as_fd(), name),
                    None,
                    *index,
                    existing,
                )?;
                claimed.settle(location(entry, *index, existing.id));
                track(worker, entry, *index, text);
                return Ok(Some(Done { target, ..done }));
            }
            (Action::Conflict(what), _) => return Err(Fault::conflict(Operation::Create, *index, what).into()),
            (Action::Replace(changes), _) => place = place.or(Some((*index, true, changes))),
            _ => {}
        }
    }
    let relative = text.filter(|t| !t.to_bytes().starts_with(b"/"));
    if let (Some(text), None, true, false) = (relative, place, there.len() > 1, worker.run.rules.dry_run) {
        if entry.last.is_none() {
            // Not closed before the link is there: the directory's times come after it.
            entry.dir.pending.fetch_add(1, Ordering::AcqRel);
            worker.run.waiting.put_off(Undecided {
                dir: Arc::clone(entry.dir),
                source: entry.source,
                target: entry.target.to_owned(),
            });
            return Ok(None);
        }
        let with =
            destination_with(entry.dir, text).map_err(|e| Fault::new(Operation::Stat, Side::Destination(0), e))?;
        place = Some((with, false, Changes::NEW));
    }
    let place = place.or_else(|| there.first().map(|t| (t.0, false, Changes::NEW)));
    let (index, replace, changes) =
        place.ok_or_else(|| Fault::conflict(Operation::Create, 0, "no destination is left for this directory"))?;
    let done = Done {
        target,
        ..Done::new(Outcome::Made)
    }
    .with(changes)
    .at(index);
    let operation = if text.is_some() {
        Operation::MakeSymlink
    } else {
        Operation::MakeNode
    };
    let existing = there
        .iter()
        .find(|(twin, _)| *twin == index)
        .and_then(|(_, s)| s.as_ref());
    permit(entry.dir, index, operation, existing)?;
    if worker.run.rules.dry_run {
        worker.counters.planned(0, !replace);
        claimed.settle(location(entry, index, stat.id));
        return Ok(Some(done));
    }
    let source = sys::open_node(at.as_fd(), name).map_err(|e| Fault::new(Operation::Open, Side::Source, e))?;
    let bits = worker.run.rules.keep.made_with(stat.mode);
    let ((), staging) = make(worker, entry, index, operation, |fd, name| match text {
        Some(text) => sys::make_symlink(text, fd.as_fd(), name),
        None => sys::make_node_as(fd.as_fd(), name, stat.kind, stat.rdev, bits),
    })?;
    let result = dress_special(worker, entry, stat, &source, index, staging.as_ref(), replace);
    let id = result.inspect_err(|_| discard(worker, entry.dir, index, entry.target, staging.as_ref()))?;
    claimed.settle(location(entry, index, id));
    track(worker, entry, index, text);
    Ok(Some(done))
}

/// Remembers a relative link whose target may have to come too.
fn track(worker: &Worker<'_>, entry: &Entry<'_>, destination: usize, text: Option<&CStr>) {
    let rules = &worker.run.rules;
    let relative = text.map(CStr::to_bytes).filter(|t| !t.starts_with(b"/"));
    if let (Some(text), true, false) = (relative, rules.link_tracking, rules.dry_run) {
        worker.run.waiting.track(Tracked {
            source: entry.dir.source_path(entry.source),
            directory: entry.dir.relative_path(),
            destination,
            text: text.to_vec(),
        });
    }
}

/// Metadata, times and name of a new symlink or node. Answers its inode.
fn dress_special(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    stat: &Stat,
    source: &OwnedFd,
    index: usize,
    staging: Option<&Staging>,
    replace: bool,
) -> Result<Identity, Fault> {
    let side = Side::Destination(index);
    let (twin, fd) = twin(entry.dir, index)?;
    let name = staging.map_or(entry.target, Staging::as_c_str);
    let node = sys::open_node(fd.as_fd(), name).map_err(|e| Fault::new(Operation::Open, side, e))?;
    let made = sys::stat_fd(node.as_fd()).map_err(|e| Fault::new(Operation::Stat, side, e))?;
    let keep = &worker.run.rules.keep;
    let copy = Copy {
        node: Node::Path(node.as_fd()),
        owner: (made.uid, made.gid),
        mode: made.mode,
        born: keep.chmod.is_some().then(|| twin.heritage.leaves(keep, stat.mode)),
        new: true,
        inherits: twin.heritage.attributes && stat.kind != Kind::Symlink,
        destination: index,
    };
    put_right(
        keep,
        stat,
        Some(Node::Path(source.as_fd())),
        copy,
        true,
        &mut worker.scratch,
    )?;
    times::set_times(worker, entry.dir, index, stat, copy.node)?;
    if let Some(staging) = staging {
        publish(entry.dir, index, staging, entry.target, replace)?;
    }
    Ok(made.id)
}
