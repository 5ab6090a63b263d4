//! Entries that come late: what has their name in a destination is of another kind, a directory where something else
//! comes, or the reverse.
//!
//! Comes in: an entry in whose way such a thing is, where extra entries are removed; goes out: the thing, as an extra
//! entry, for it is one: no source has it; and the entry, to be worked on when the sweep is over. Until then its directory
//! waits. Whether the way is clear by then, the entry finds out itself: where the sweep was withheld, or something in the
//! way had to stay, it is in conflict, as it is where nothing extra is removed.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::sync::Arc;

use bulkhaul_formats::digest::xxh64;
use bulkhaul_sys::{self as sys, AsFd as _, Kind};

use crate::copy::act::{self, file};
use crate::copy::dir::{Dir, Presence, Scope, Subdirectory};
use crate::copy::directory;
use crate::copy::extra::{self, Extras};
use crate::copy::worker::Worker;
use crate::error::{Fault, Operation, Side};
use crate::tree::listing::{Batch, LISTING_BYTES};

/// An entry that waits until the way is clear.
pub struct Late {
    /// Its directory, which is not closed before it has come.
    pub dir: Arc<Dir>,
    /// Itself.
    pub coming: Coming,
    /// Destinations in which something is in the way, and what.
    pub blocked: Vec<(usize, Kind)>,
    /// In a dry run: those of them in which the way would be clear now.
    pub clear: Vec<usize>,
}

/// What waits.
pub enum Coming {
    /// A subdirectory.
    Directory(Subdirectory),
    /// Anything else.
    Entry {
        /// Which of the directory's sources has it.
        source: usize,
        /// Its name in the destination.
        target: CString,
        /// What it is.
        kind: Kind,
    },
}

impl Late {
    /// Its name in the destination.
    pub fn target(&self) -> &CStr {
        match &self.coming {
            Coming::Directory(sub) => &sub.target,
            Coming::Entry { target, .. } => target,
        }
    }

    /// What is in its way in one destination.
    pub fn obstacle(&self, twin: usize, kind: Kind) -> Extras {
        let mut batch = Batch::default();
        batch.push(self.target(), kind);
        Extras {
            dir: Arc::clone(&self.dir),
            twin,
            entries: vec![batch],
        }
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
    if !worker.run.rules.remove_extra {
        return Ok(obstacles);
    }
    for (twin, kind) in in_the_way {
        let existing = matches!(&dir.twins[twin], Some(t) if matches!(t.presence, Presence::Existing(_)));
        if existing && extra::is_extra(worker, dir, twin, target, kind)? {
            obstacles.push((twin, kind));
        }
    }
    Ok(obstacles)
}

/// Leaves an entry to the end. Its directory counts it as a child already.
pub fn put_off(worker: &Worker<'_>, dir: &Arc<Dir>, coming: Coming, blocked: Vec<(usize, Kind)>) {
    worker.run.surplus.put_off(Late {
        dir: Arc::clone(dir),
        coming,
        blocked,
        clear: Vec::new(),
    });
}

/// What is in the way of entries of one directory in one of its destinations; none where it has to stay, or nothing
/// could be made in its place.
pub fn gather_obstacles(worker: &mut Worker<'_>, lates: &[Late], twin: usize) -> Result<Option<Extras>, Fault> {
    let blocks = |late: &&Late| late.blocked.iter().any(|(other, _)| *other == twin);
    let Some(first) = lates.iter().find(blocks) else {
        return Ok(None);
    };
    let dir = &first.dir;
    if let Some(name) = folded_name(worker, dir, twin)? {
        worker.run.surplus.withhold_for_spelling(dir, twin, &name);
        return Ok(None);
    }
    if !worker.run.rules.dry_run {
        try_making(worker, dir, twin, first.target())?;
    }
    let mut batch = Batch::default();
    for late in lates {
        let kinds = late.blocked.iter().filter(|(other, _)| *other == twin);
        kinds.for_each(|(_, kind)| batch.push(late.target(), *kind));
    }
    let obstacles = Extras {
        dir: Arc::clone(dir),
        twin,
        entries: vec![batch],
    };
    Ok(Some(obstacles))
}

/// Makes something in a directory of which it is not known that anything can be made there, and takes it away again:
/// what is in the way of an entry does not go before that is known.
fn try_making(worker: &Worker<'_>, dir: &Dir, twin: usize, target: &CStr) -> Result<(), Fault> {
    let (there, fd) = act::twin(dir, twin)?;
    if there.tries.have_told() {
        return Ok(());
    }
    there.tries.try_one();
    let make = |name: &CStr| sys::create_file(fd.as_fd(), name);
    match worker.run.stager.stage(target, make) {
        Ok((_, staging)) => {
            there.tries.come();
            act::discard(worker, dir, twin, target, Some(&staging));
            Ok(())
        }
        Err(errno) => {
            there.tries.fail();
            Err(Fault::new(Operation::Create, Side::Destination(twin), errno))
        }
    }
}

/// A name of the sources that a directory of a destination answers to and does not list, when all that comes there has
/// come: it takes two names for one, so what is in the way of an entry may be what came for another.
fn folded_name(worker: &mut Worker<'_>, dir: &Dir, twin: usize) -> Result<Option<CString>, Fault> {
    let fault = |operation, errno| Fault::new(operation, Side::Destination(twin), errno);
    let list = |fd: &sys::OwnedFd, each: &mut dyn FnMut(&CStr)| {
        let mut buffer = Vec::with_capacity(LISTING_BYTES);
        sys::rewind_directory(fd.as_fd())?;
        while sys::read_directory(fd.as_fd(), buffer.spare_capacity_mut(), |name, _, _| each(name))? {
            worker.run.desk.step();
        }
        Ok(())
    };
    let (there, fd) = act::twin(dir, twin)?;
    let mut listed = BTreeSet::new();
    list(&fd, &mut |name| listed.extend([xxh64(name.to_bytes())])).map_err(|e| fault(Operation::List, e))?;
    let mut folded = Ok(None);
    let mut look = |name: &CStr| {
        if matches!(folded, Ok(None)) && !listed.contains(&xxh64(name.to_bytes())) {
            let found = there.arrivals.look(&fd, name).map_err(|e| fault(Operation::Stat, e));
            folded = found.map(|found| found.map(|_| name.to_owned()));
        }
    };
    for (index, source) in dir.sources.iter().enumerate() {
        match &source.scope {
            Scope::Whole => dir.source(index).and_then(|at| list(&at, &mut look)),
            Scope::Names(names) => {
                names.0.keys().for_each(|name| look(name));
                Ok(())
            }
            Scope::Listed(..) | Scope::Itself => Ok(()),
        }
        .map_err(|e| Fault::new(Operation::List, Side::Source, e))?;
    }
    folded
}

/// An entry that waited: the sweep is over.
pub fn late(worker: &mut Worker<'_>, late: Late) {
    let Late { dir, coming, clear, .. } = late;
    match coming {
        _ if !worker.run.desk.may_begin() => directory::child_done(worker, &dir),
        Coming::Directory(sub) => directory::step_into(worker, &dir, sub, Some(&clear)),
        Coming::Entry { source, target, kind } => {
            worker.file(&dir, source, &target, kind, Some(&clear));
            file::flush(worker);
            directory::child_done(worker, &dir);
        }
    }
}
