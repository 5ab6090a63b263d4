//! What a copy makes of the names that the walk finds: which of them are its own, and which are passed over.
//!
//! Comes in: names of a directory's sources, before they are counted; goes out: what a move took aside has its name back,
//! staging names and what another source overrides have their outcomes, and a destination that shows in a source is told.

use std::ffi::{CStr, CString};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bulkhaul_formats::codec::names::{archive_of, index_of};
use bulkhaul_formats::digest::xxh64;
use bulkhaul_sys::{BorrowedFd, Kind};

use crate::copy::act::depart;
use crate::copy::collision;
use crate::copy::dir::Dir;
use crate::copy::entry::Done;
use crate::copy::memory::FAILED;
use crate::copy::options::Collision;
use crate::copy::worker::Worker;
use crate::entry::Reason;
use crate::error::{Fault, Operation};
use crate::tree::path::join;
use crate::tree::staging::Owner;
use crate::walk::visitor::Met;

/// Whether names of a source are taken: not where one of them is a probe in a destination.
pub fn admits<'n>(
    worker: &mut Worker<'_>,
    dir: &Arc<Dir>,
    source: usize,
    names: impl Iterator<Item = &'n CStr>,
) -> bool {
    if worker.run.probes.show(names, || dir.sources[source].slot.current()) {
        let what = "it is a destination, seen in another way";
        worker.fail_directory(dir, source, &Fault::conflict(Operation::List, 0, what));
        return false;
    }
    true
}

/// A name of a source.
pub fn meet(worker: &mut Worker<'_>, dir: &Arc<Dir>, source: usize, at: BorrowedFd<'_>, name: &CStr) -> Met {
    let stager = worker.run.stager;
    let owner = stager.owner(name.to_bytes());
    let restored = match owner {
        Some(Owner::Aside) if worker.run.rules.asked.remove_sources => take_back(worker, dir, source, at, name),
        _ => None,
    };
    let now = restored.as_deref().unwrap_or(name);
    if worker.run.rules.asked.remove_extra {
        worker.seen.push(xxh64(now.to_bytes()));
        // What an entry becomes is not known before it is looked at: what it may become is not extra either.
        if let Some(packing) = &worker.run.rules.packing
            && packing
                .extensions
                .of(dir.sources[source].scope.source_name(now))
                .is_some()
        {
            let archive = archive_of(now, packing.codec.format());
            worker.seen.push(xxh64(archive.to_bytes()));
            worker.seen.push(xxh64(index_of(&archive).to_bytes()));
        }
    }
    if owner.is_some() && stager.owner(now.to_bytes()).is_some() {
        return Met::Stranger;
    }
    restored.map_or(Met::Entry, Met::Renamed)
}

/// The name of an entry that a move which died took aside. `None`: it keeps the other one, and that was said.
fn take_back(worker: &Worker<'_>, dir: &Arc<Dir>, source: usize, fd: BorrowedFd<'_>, aside: &CStr) -> Option<CString> {
    if worker.run.pass.rehearses() {
        return None;
    }
    let path = || join(&dir.source_path(source), aside.to_bytes());
    match depart::put_back(worker, dir, fd, aside) {
        Ok(Some(name)) => return Some(name),
        Ok(None) => {
            let what = "a move that was interrupted took this aside, and its own name is not known";
            worker.run.surplus.withhold("failed", FAILED);
            worker.run.desk.note("aside", || (path(), what.into()));
        }
        Err(fault) => worker.fail(&fault, path(), Kind::Unknown),
    }
    None
}

/// An entry that is seen and left alone.
pub fn pass_over(worker: &mut Worker<'_>, dir: &Arc<Dir>, source: usize, name: &CStr, kind: Kind, reason: Reason) {
    worker.counters.found(kind);
    worker.record(dir, source, name, kind, Ok(Done::skipped(reason)));
}

/// An entry that a rule excludes.
pub fn excluded(worker: &mut Worker<'_>, dir: &Arc<Dir>, source: usize, name: &CStr, kind: Kind) {
    dir.stays.store(true, Ordering::Release);
    worker.tell(dir, source, name, kind, &Done::skipped(Reason::Excluded));
}

/// An entry of a source that another one wins over. Directories merge; anything else that is not the same may be a failure.
pub fn overridden(
    worker: &mut Worker<'_>,
    dir: &Arc<Dir>,
    (source, name, kind): (usize, &CStr, Kind),
    (winner, other): (usize, Kind),
) {
    let merge = kind == Kind::Directory && other == Kind::Directory;
    let told = worker.run.pass.departure().is_some();
    if merge || told || worker.run.rules.asked.on_collision != Collision::Fail {
        return pass_over(worker, dir, source, name, kind, Reason::Overridden);
    }
    worker.counters.found(kind);
    let compared = collision::compare(worker, dir, name, source, winner);
    let result = compared.map(|()| Done::skipped(Reason::Overridden));
    worker.record(dir, source, name, kind, result);
}
