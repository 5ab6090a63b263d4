//! Symlinks, FIFOs, sockets and devices.
//!
//! Comes in: an entry that is none of file and directory, with its facts; goes out: the same in a destination, or what kept it
//! from there.

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bulkhaul_sys::{self as sys, AsFd as _, Identity, Kind, Node, OwnedFd, Stat};

use crate::bytes::probe;
use crate::copy::act::file;
use crate::copy::act::link::{self, location};
use crate::copy::act::make::{Fit, all_changes, discard, keep, make, permit, publish};
use crate::copy::dir::Twinned as _;
use crate::copy::entry::{Done, Entry, SourceEntry};
use crate::copy::links::Claimed;
use crate::copy::memory::{Tracked, Undecided};
use crate::copy::plan::{Action, plan};
use crate::copy::times;
use crate::copy::worker::Worker;
use crate::entry::{Changes, Outcome};
use crate::error::{Fault, Operation, Side, Stopped};
use crate::tree::metadata::{Held, Subject, put_right, without_list};
use crate::tree::staging::Staging;
use crate::tree::times::Kept;

/// A symlink, FIFO, socket or device. `None`: it is put off until all else is there.
pub fn special(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    stat: &Stat,
    (at, name): (&OwnedFd, &CStr),
    text: Option<&CStr>,
    there: &[(usize, Option<Stat>)],
) -> Result<Option<Done>, Stopped> {
    let target = text.map(|t| t.to_bytes().to_vec());
    let mut claimed = Claimed::none(&worker.run.links, &worker.run.desk);
    if stat.nlink > 1 {
        // Nobody may wait for a file that waits here for its sync.
        file::flush(worker);
        let source = SourceEntry::named(at, name);
        let linked = link::link_or_claim(worker, entry, source, stat, there, &mut claimed)?;
        if linked.is_some() {
            return Ok(linked);
        }
    }
    let mut place = None;
    for (index, existing) in there {
        let faced = entry.faces(*index, existing.as_ref());
        let mut action = plan(stat, faced, worker.run.rules.tail, &Kept::UNKNOWN);
        if let (Action::Probe, Some(text)) = (action, text) {
            let (_, fd) = entry.dir.writable(*index)?;
            action = if probe::same_link(text, fd.as_fd(), entry.target, *index)? {
                Action::Keep
            } else {
                Action::Replace(Changes::TARGET)
            };
        }
        if let (Action::Keep, Some(existing)) = (action, existing) {
            let held = Held::Named(at.as_fd(), name);
            match keep(worker, entry, stat, held, None, *index, existing)? {
                Fit::Done(done) => {
                    claimed.settle(location(entry, *index, existing.id));
                    track(worker, entry, *index, text);
                    return Ok(Some(Done { target, ..done }));
                }
                Fit::Replace(changes) => action = Action::Replace(changes),
                Fit::Waits => return Ok(None),
            }
        }
        match action {
            Action::Skip(reason) => return Ok(Some(Done::skipped(reason).at(*index))),
            Action::Conflict(what) => return Err(Fault::conflict(Operation::Create, *index, what).into()),
            Action::Replace(changes) => {
                let changes = all_changes(worker, entry, stat, (*index, existing.as_ref()), changes);
                place = place.or(Some((*index, true, changes)));
            }
            _ => {}
        }
    }
    let relative = text.filter(|t| !t.to_bytes().starts_with(b"/"));
    if let (Some(text), None, true, true) = (relative, place, there.len() > 1, worker.run.pass.writes()) {
        if entry.last.is_none() {
            // Not closed before the link is there: the directory's times come after it.
            entry.dir.pending.fetch_add(1, Ordering::AcqRel);
            worker.run.waiting.put_off(Undecided {
                dir: Arc::clone(entry.dir),
                source: entry.source,
                target: entry.found.to_owned(),
                kind: Kind::Symlink,
            });
            return Ok(None);
        }
        let with = entry
            .dir
            .destination_with(text)
            .map_err(|e| Fault::new(Operation::Stat, Side::Destination(0), e))?;
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
    let named = (index, entry.target);
    permit(worker, (entry.dir, entry.is_packed()), named, operation, existing)?;
    if !worker.run.pass.writes() {
        worker.counters.planned(0, 0, !replace);
        claimed.settle(location(entry, index, stat.id));
        return Ok(Some(done));
    }
    let source = sys::open_node(at.as_fd(), name).map_err(|e| Fault::new(Operation::Open, Side::Source, e))?;
    let keep = &worker.run.rules.keep;
    let stat = &without_list(keep, stat, Held::Named(at.as_fd(), name), &mut worker.scratch)?;
    let bits = keep.made_with(stat.mode);
    let ((), staging) = make(worker, entry, index, operation, |fd, name| match text {
        Some(text) => sys::make_symlink(text, fd.as_fd(), name),
        None => sys::make_node_as(fd.as_fd(), name, stat.kind, stat.rdev, bits),
    })?;
    let result = dress_special(worker, entry, stat, &source, index, (staging.as_ref(), existing));
    let id = result.inspect_err(|_| discard(worker, entry.dir, index, entry.target, staging.as_ref()))?;
    claimed.settle(location(entry, index, id));
    track(worker, entry, index, text);
    Ok(Some(done))
}

/// Remembers a relative link whose target may have to come too.
pub fn track(worker: &Worker<'_>, entry: &Entry<'_>, destination: usize, text: Option<&CStr>) {
    let rules = &worker.run.rules;
    let relative = text.map(CStr::to_bytes).filter(|t| !t.starts_with(b"/"));
    if let (Some(text), true, true) = (relative, rules.asked.link_tracking, worker.run.pass.writes()) {
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
    (staging, replaces): (Option<&Staging>, Option<&Stat>),
) -> Result<Identity, Stopped> {
    let side = Side::Destination(index);
    let (twin, fd) = entry.dir.writable(index)?;
    let name = staging.map_or(entry.target, Staging::as_c_str);
    let node = sys::open_node(fd.as_fd(), name).map_err(|e| Fault::new(Operation::Open, side, e))?;
    let made = sys::stat_fd(node.as_fd()).map_err(|e| Fault::new(Operation::Stat, side, e))?;
    let keep = &worker.run.rules.keep;
    let copy = Subject {
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
        Some(copy.node),
        &mut worker.scratch,
    )?;
    times::set_times(worker, entry.dir, index, stat, copy.node)?;
    if let Some(staging) = staging {
        publish(worker, entry.dir, index, staging, entry.target, replaces)?;
    }
    Ok(made.id)
}
