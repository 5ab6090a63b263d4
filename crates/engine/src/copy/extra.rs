//! Extra entries: what is in a directory of the destination and in none of the sources that were copied into it.
//!
//! Comes in: the names that the listings of a directory's sources gave; goes out: what the destination has besides, which waits
//! for [`crate::copy::mirror`]. What is extra is decided while the sources are listed, against all of them, and only in
//! directories that stand for source directories as wholes. What has the name of an entry and is of another kind (a directory
//! where something else comes, or the reverse) is extra too, for no source has it; the entry waits until it has gone, and its
//! directory with it.

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bulkhaul_formats::digest::xxh64;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind};

use crate::copy::dir::{Dir, Presence, Twinned as _};
use crate::copy::memory::{Coming, Extras, Late};
use crate::copy::worker::Worker;
use crate::error::{Fault, Operation, Side};
use crate::tree::listing::{Batch, LISTING_BYTES};
use crate::tree::path::show;
use crate::walk::node::Origin;
use crate::walk::scope::Scope;

/// A directory whose sources have all been listed: what its twins have besides waits for the sweep.
pub fn note_extras(worker: &mut Worker<'_>, dir: &Arc<Dir>) {
    let mut seen = std::mem::take(&mut worker.seen);
    if worker.run.rules.asked.remove_extra && is_mirror(dir) && !worker.run.desk.cancel.is_draining() {
        seen.sort_unstable();
        for twin in 0..dir.twins.len() {
            if let Err(fault) = find_extras(worker, dir, twin, &seen) {
                worker.fail_directory(dir, dir.winner(), &fault);
            }
        }
    }
    seen.clear();
    worker.seen = seen;
}

/// A source that was listed, and how many names it gave. One that was named as an argument must not be empty.
pub fn note_listed(worker: &Worker<'_>, dir: &Arc<Dir>, source: usize, names: usize) {
    if !worker.run.rules.asked.remove_extra || !is_argument(dir, source) || worker.run.desk.cancel.is_draining() {
        return;
    }
    let surplus = &worker.run.surplus;
    if names == 0 {
        let path = show(&dir.source_path(source));
        surplus.withhold("empty-source", format!("{path} is empty"));
    } else {
        surplus.add_argument(dir, source);
    }
}

/// How many names of a source the destinations had already: with what is extra they are what a limit is a part of.
/// What this run brings is not counted, so it matters not how much of it is there by now.
pub fn note_there(worker: &Worker<'_>, dir: &Dir, names: usize) {
    if worker.run.rules.asked.remove_extra && names > 0 && is_mirror(dir) {
        worker.counters.found_there(names as u64);
    }
}

fn find_extras(worker: &mut Worker<'_>, dir: &Arc<Dir>, twin: usize, seen: &[u64]) -> Result<(), Fault> {
    let fault = |operation, errno| Fault::new(operation, Side::Destination(twin), errno);
    if !matches!(&dir.twins[twin], Some(t) if matches!(t.presence, Presence::Existing(_))) {
        return Ok(());
    }
    let Some(fd) = dir.twin(twin).map_err(|e| fault(Operation::Open, e))? else {
        return Ok(());
    };
    let parents = parents_of_extras(worker, dir, twin);
    worker.listing.reserve(LISTING_BYTES);
    let mut entries = Vec::new();
    sys::rewind_directory(fd.as_fd()).map_err(|e| fault(Operation::List, e))?;
    let mut more = true;
    while more {
        let mut found = Batch::default();
        more = sys::read_directory(fd.as_fd(), worker.listing.spare_capacity_mut(), |name, kind, _| {
            let bytes = name.to_bytes();
            if worker.run.stager.owner(bytes).is_none() && seen.binary_search(&xxh64(bytes)).is_err() {
                found.push(name, kind);
            }
        })
        .map_err(|e| fault(Operation::List, e))?;
        worker.run.desk.step();
        let mut extra = Batch::default();
        for (name, kind) in found.iter() {
            let kind = match kind {
                Kind::Unknown => match sys::stat(fd.as_fd(), name, Follow::No) {
                    Ok(stat) => stat.kind,
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(fault(Operation::Stat, errno)),
                },
                kind => kind,
            };
            if may_go(worker, (dir, twin), &parents, name, kind)? {
                extra.push(name, kind);
            }
        }
        if !extra.is_empty() {
            entries.push(extra);
        }
    }
    if !entries.is_empty() {
        // Not closed before they are gone: the directory's times come after that.
        dir.pending.fetch_add(1, Ordering::AcqRel);
        let extras = Extras {
            dir: Arc::clone(dir),
            twin,
            entries,
        };
        worker.run.surplus.add(extras);
    }
    Ok(())
}

/// What exclude rules see above the names of a directory in a destination.
fn parents_of_extras(worker: &Worker<'_>, dir: &Dir, twin: usize) -> Vec<Vec<u8>> {
    let paths = || paths(dir, twin);
    let filter = &worker.run.rules.filter;
    filter.parents(|| dir.relative_path(), paths, &worker.run.working_directory)
}

/// Whether an entry of a destination that no source has may go by its name. One that answers to another spelling too
/// may be what was just copied: then nothing goes.
fn may_go(
    worker: &Worker<'_>,
    (dir, twin): (&Dir, usize),
    parents: &[Vec<u8>],
    name: &CStr,
    kind: Kind,
) -> Result<bool, Fault> {
    if worker.run.rules.filter.excludes(parents, name, kind) {
        return Ok(false);
    }
    let (there, fd) = dir.writable(twin)?;
    let stat = |errno| Fault::new(Operation::Stat, Side::Destination(twin), errno);
    if there.arrivals.has_two_spellings(&fd, name).map_err(stat)? {
        worker.run.surplus.withhold_for_spelling(dir, twin, name);
    }
    Ok(true)
}

/// Whether what has the name of a source's entry in a destination, and is of another kind, may go.
fn is_extra(worker: &Worker<'_>, dir: &Dir, twin: usize, name: &CStr, kind: Kind) -> Result<bool, Fault> {
    may_go(worker, (dir, twin), &parents_of_extras(worker, dir, twin), name, kind)
}

/// Full paths of a directory in its sources, the one whose metadata counts last, and then in a destination: hpcp's rules
/// are about full paths, on either side.
fn paths(dir: &Dir, twin: usize) -> Vec<Vec<u8>> {
    let mut paths = dir.source_paths();
    paths.push(dir.twin_path(twin));
    paths
}

/// Whether a directory stands for source directories as wholes: only then can anything in its twins be extra.
fn is_mirror(dir: &Dir) -> bool {
    let mut scopes = dir.sources.iter().map(|source| &source.scope);
    let known = scopes
        .clone()
        .all(|scope| matches!(scope, Scope::Whole | Scope::Names(_)));
    known && scopes.any(|scope| matches!(scope, Scope::Whole))
}

/// Whether a source of a directory is an argument itself.
fn is_argument(dir: &Dir, source: usize) -> bool {
    let source = &dir.sources[source];
    if !matches!(source.scope, Scope::Whole) {
        return false;
    }
    match (&source.origin, &dir.parent) {
        (Origin::Name { parent, .. }, Some(above)) => matches!(above.sources[*parent].scope, Scope::Names(_)),
        _ => true,
    }
}

/// Which of the things that are in the way of an entry, by destinations, may go with the sweep: the entry waits for
/// that. None where nothing extra is removed, and where a rule keeps them.
pub fn obstacles(
    worker: &mut Worker<'_>,
    dir: &Dir,
    target: &CStr,
    in_the_way: impl Iterator<Item = (usize, Kind)>,
) -> Result<Vec<(usize, Kind)>, Fault> {
    let mut obstacles = Vec::new();
    if !worker.run.rules.asked.remove_extra {
        return Ok(obstacles);
    }
    for (twin, kind) in in_the_way {
        let existing = matches!(&dir.twins[twin], Some(t) if matches!(t.presence, Presence::Existing(_)));
        if existing && is_extra(worker, dir, twin, target, kind)? {
            obstacles.push((twin, kind));
        }
    }
    Ok(obstacles)
}

/// Leaves an entry to the end. Its directory counts it as a child.
pub fn put_off(worker: &Worker<'_>, dir: &Arc<Dir>, coming: Coming, blocked: Vec<(usize, Kind)>) {
    dir.pending.fetch_add(1, Ordering::AcqRel);
    worker.run.surplus.put_off(Late {
        dir: Arc::clone(dir),
        coming,
        blocked,
        clear: Vec::new(),
    });
}
