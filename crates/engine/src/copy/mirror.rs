//! The sweep of a mirror: when everything is listed, what is extra goes, or all of it stays.
//!
//! Comes in: what [`crate::copy::extra`] found; goes out: the removal of what the destination has besides, and what waited
//! for that. Nothing is removed until everything is listed, also what is below extra directories. Then it is all or nothing:
//! a failure to list, a source that is missing, empty, not where it was, or seen among what would go
//! ([`Lookout`]), the limit, or a no of whoever is asked keep every entry; so does a file
//! system that takes two spellings for one name. Where something was to be made in a directory, or in a whole destination,
//! and nothing could be, what is extra there stays: else all would go and nothing come. Counting and removing are the
//! business of the [`Sweeper`]. Each directory with extra entries is closed after they have
//! gone, so its times are those of the source.
//!
//! What is in the way of an entry is counted with the rest, and goes only when the entry is complete beside it
//! ([`clear`](crate::copy::clear)): an entry that can't be had costs nothing of what is there. What a round has allowed
//! holds for all its entries that come late, whatever fails among them. Where the sweep was withheld, or something in the
//! way has to stay, they are in conflict.
//!
//! Never removed: what exclude rules name, unfinished entries of live runs and other hosts, mounts and what lies below
//! them, and directories that hold a source, a destination or the working directory, or that something was copied into
//! through a symlink. A directory that holds such a thing stays too. Names are reached by the descriptor of the directory
//! that holds them, and no link is followed.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bulkhaul_formats::digest::xxh64;
use bulkhaul_sys::{self as sys, AsFd as _, Follow};

use crate::copy::act::make;
use crate::copy::clear::{Sweep, Turn, sweeper, told};
use crate::copy::dir::{Dir, Tries, Twinned as _};
use crate::copy::lookout::Lookout;
use crate::copy::memory::{Extras, FAILED, Late, Leave};
use crate::copy::run::{Run, Task};
use crate::copy::worker::Worker;
use crate::entry::Outcome;
use crate::error::{Fault, Operation, Side};
use crate::event::{VICTIMS_SHOWN, Victims};
use crate::job::desk::Phase;
use crate::pool::schedule::Crew;
use crate::report::counters::Totals;
use crate::sweep::guard::Guard;
use crate::sweep::sweeper::{Mode, Sweeper, Witness};
use crate::tree::listing::{self, Batch, is_empty};
use crate::tree::medium::is_original;
use crate::tree::path::show;
use crate::walk::scope::Scope;
use crate::walk::start::Start;

/// All that is known is done: decides about the extra entries, and has them removed or left. Then comes what waited for
/// that, and every directory that waits is to be closed. Answers what is to be done now, and whether something comes of it,
/// so that more may be extra then. `leaving`: what a move would remove from the sources then; whoever is asked is asked
/// about both.
pub fn sweep(run: &Run, root: &Dir, leaving: Option<Victims>) -> (Vec<Task>, bool) {
    let surplus = &run.surplus;
    let (found, mut lates) = surplus.take();
    if found.is_empty() && lates.is_empty() {
        return (Vec::new(), false);
    }
    run.desk.enter(Phase::Sweeping);
    let closing: Vec<_> = found.iter().map(|extras| Arc::clone(&extras.dir)).collect();
    let obstacles = in_the_way(run, &mut lates);
    let part = |extras: Vec<Extras>| -> (Vec<_>, Vec<_>) { extras.into_iter().partition(|extras| stays(run, extras)) };
    let ((mut staying, mut going), (with_them, after_them)) = (part(found), part(obstacles));
    let first = going.len();
    staying.extend(with_them);
    going.extend(after_them);
    if let Some((guard, limit)) = decide(run, root, &going, leaving) {
        for extras in &staying {
            surplus.spare(extras);
        }
        let dry_run = !run.pass.writes();
        let (mode, found) = if dry_run {
            (Mode::Count, &going[..])
        } else {
            surplus.begin();
            // What is in the way goes later, right before what comes in its place.
            (Mode::Remove, &going[..first])
        };
        let (left, turn) = (AtomicU64::new(limit), Turn::Go);
        let crew = Crew::Fixed(run.crew.active());
        Sweeper {
            tell: told(run),
            crew: &crew,
            ..sweeper(run, &guard, &left, mode)
        }
        .run(Start::Parts(&Sweep { run, found, turn }));
        if dry_run {
            imagine(run, &guard, &mut lates);
        } else if !surplus.is_withheld() {
            allow(&going[first..], &mut lates);
            let workers = (run.crew.active() / lates.len().max(1)).max(1);
            surplus.allow(Leave { guard, left, workers });
        }
    }
    surplus.settle();
    let more = !lates.is_empty();
    if more {
        run.desk.enter(Phase::Scanning);
    }
    let closing = closing.into_iter().map(Task::Close);
    (closing.chain(lates.into_iter().map(Task::Late)).collect(), more)
}

/// Whether nothing can be made beside some extra entries.
fn stays(run: &Run, extras: &Extras) -> bool {
    run.tries(&extras.dir, extras.twin).any(Tries::are_vain)
}

/// What is in the way of entries that wait, by directories.
fn in_the_way(run: &Run, lates: &mut [Late]) -> Vec<Extras> {
    let mut obstacles = Vec::new();
    let mut worker = Worker::new(run, &run.counters[0]);
    lates.sort_by_key(|late| Arc::as_ptr(&late.dir));
    for of_dir in lates.chunk_by(|a, b| Arc::ptr_eq(&a.dir, &b.dir)) {
        let dir = &of_dir[0].dir;
        for twin in 0..dir.twins.len() {
            match gather_obstacles(&mut worker, of_dir, twin) {
                Ok(extras) => obstacles.extend(extras),
                Err(fault) => worker.fail_directory(dir, dir.winner(), &fault),
            }
        }
        dir.put_down();
    }
    obstacles
}

/// Where what is in the way of those that wait may go.
fn allow(going: &[Extras], lates: &mut [Late]) {
    let places: BTreeSet<_> = going
        .iter()
        .map(|extras| (Arc::as_ptr(&extras.dir), extras.twin))
        .collect();
    for late in lates {
        let dir = Arc::as_ptr(&late.dir);
        let blocked = late.blocked.iter().map(|(twin, _)| *twin);
        late.clear = blocked.filter(|twin| places.contains(&(dir, *twin))).collect();
    }
}

/// A dry run: where the way of those that wait would be clear.
fn imagine(run: &Run, guard: &Guard, lates: &mut [Late]) {
    let desk = run.desk.rehearsal();
    let mut before = Totals::of(&desk.counters);
    for late in lates {
        for &(twin, kind) in &late.blocked {
            let found = &[Extras::one(&late.dir, twin, late.target(), kind)];
            let turn = Turn::Count;
            Sweeper {
                desk: &desk,
                ..sweeper(run, guard, &AtomicU64::new(u64::MAX), Mode::Count)
            }
            .run(Start::Parts(&Sweep { run, found, turn }));
            let after = Totals::of(&desk.counters);
            let removed = after.outcome_of(Outcome::Removed) - before.outcome_of(Outcome::Removed);
            if removed > 0 && removed == after.extras - before.extras {
                late.clear.push(twin);
            }
            before = after;
        }
    }
}

/// Whether what is extra goes: then with what must stay, and how many entries may go.
fn decide(run: &Run, root: &Dir, found: &[Extras], leaving: Option<Victims>) -> Option<(Guard, u64)> {
    let surplus = &run.surplus;
    let interrupted = || {
        if run.desk.cancel.is_draining() {
            surplus.withhold("interrupted", "interrupted");
        }
        surplus.is_withheld()
    };
    if interrupted() {
        return None;
    }
    let arguments = surplus.arguments();
    for (dir, source) in &arguments {
        let why = match dir.source_anew(*source).and_then(|fd| is_empty(&fd)) {
            Ok(false) => continue,
            Ok(true) => "it has been emptied".into(),
            Err(errno) => crate::error::describe(errno),
        };
        let path = show(&dir.source_path(*source));
        surplus.withhold("source-gone", format!("{path}: {why}"));
        return None;
    }
    let guard = match guard(run, root) {
        Ok(guard) => guard,
        Err(errno) => {
            let why = crate::error::describe(errno);
            surplus.withhold("failed", format!("what must stay can't be told ({why})"));
            return None;
        }
    };
    let sweep = Sweep {
        run,
        found,
        turn: Turn::Count,
    };
    // Only who is asked wants to know how much it is.
    let mode = if run.rules.asked.confirm {
        Mode::Measure
    } else {
        Mode::Count
    };
    let lookout = match lookout(run, root, found, &arguments) {
        Ok(lookout) => lookout,
        Err(errno) => {
            let why = crate::error::describe(errno);
            surplus.withhold("failed", format!("whether a source is in it can't be told ({why})"));
            return None;
        }
    };
    let crew = Crew::Fixed(run.crew.active());
    let counted = Sweeper {
        witness: lookout.as_ref().map(|lookout| lookout as &dyn Witness),
        crew: &crew,
        ..sweeper(run, &guard, &AtomicU64::new(u64::MAX), mode)
    }
    .count(Start::Parts(&sweep), VICTIMS_SHOWN);
    if counted.failed > 0 {
        surplus.withhold("failed", FAILED);
        for failure in counted.failures {
            run.desk.fail(failure);
        }
    }
    if interrupted() {
        return None;
    }
    let so_far = Totals::of(&run.counters);
    // What an earlier round came to is among them.
    let all = so_far.there + so_far.extras + counted.totals.extras;
    let gone = so_far.outcome_of(Outcome::Removed);
    let would_go = counted.totals.outcome_of(Outcome::Removed);
    let going = gone + would_go;
    if let Some(limit) = run.rules.asked.max_delete.filter(|limit| limit.forbids(going, all)) {
        let mut why = format!("{going} of {all} entries are extra, which is more than {limit}");
        let named: Vec<_> = counted.first.iter().map(|path| show(path)).collect();
        if !named.is_empty() {
            let rest = if would_go > named.len() as u64 { ", …" } else { "" };
            why = format!("{why} ({}{rest})", named.join(", "));
        }
        surplus.withhold("max-delete", why);
        return None;
    }
    if run.rules.asked.confirm && run.pass.writes() && would_go > 0 {
        let extra = Victims {
            what: "extra",
            entries: would_go,
            bytes: counted.totals.found_bytes,
            first: counted.first,
        };
        let leaving = leaving.filter(|leaving| leaving.entries > 0);
        let both = leaving.is_some();
        if !run.desk.ask([extra].into_iter().chain(leaving).collect()) {
            surplus.withhold("declined", "the answer was no");
            return None;
        }
        run.agreed.store(both, Ordering::Relaxed);
    }
    run.desk.expect_extras(going);
    let limit = run
        .rules
        .asked
        .max_delete
        .map_or(u64::MAX, |limit| limit.of(all).saturating_sub(gone));
    Some((guard, limit))
}

/// What looks out for sources among what would go; none where device and inode tell.
fn lookout<'r>(
    run: &'r Run,
    root: &Dir,
    found: &[Extras],
    arguments: &[(Arc<Dir>, usize)],
) -> sys::Result<Option<Lookout<'r>>> {
    let (mut devices, mut original) = (Vec::new(), true);
    for Extras { dir, twin, .. } in found {
        let slot = dir.twins[*twin].as_ref().and_then(|twin| twin.slot.as_ref());
        let Some(device) = slot
            .map(|slot| slot.id().dev)
            .filter(|device| !devices.contains(device))
        else {
            continue;
        };
        devices.push(device);
        if let Some(fd) = dir.twin(*twin)? {
            original &= is_original(fd.as_fd());
        }
    }
    // Those that hold what was named, where it was no directory, are sources too.
    let named = |source: &usize| matches!(root.sources[*source].scope, Scope::Names(_));
    let holders = (0..root.sources.len()).filter(named).map(|source| (root, source));
    let sources = arguments.iter().map(|(dir, source)| (&**dir, *source)).chain(holders);
    let mut lookout = Lookout::new(run);
    for (dir, source) in sources {
        let fd = dir.source_anew(source)?;
        let device = dir.sources[source].slot.id().dev;
        let told = devices.iter().all(|other| *other == device) || (original && is_original(fd.as_fd()));
        if !told {
            lookout.add(dir, source, fd)?;
        }
    }
    Ok(lookout.is_needed().then_some(lookout))
}

/// The sources, the destinations and the working directory, everything that they lie in, and what symlinks led to.
fn guard(run: &Run, root: &Dir) -> sys::Result<Guard> {
    let mut guard = run.surplus.reached();
    let mut protect = |fd| guard.climb_from(fd, "in use", "above what is in use");
    protect(sys::open_directory(sys::current_directory(), c".", Follow::No)?)?;
    for source in 0..root.sources.len() {
        protect(sys::duplicate(root.source_anew(source)?.as_fd())?)?;
    }
    for id in &run.destination_ids {
        guard.keep(*id, "a destination");
    }
    run.given.guard(&mut guard);
    for path in &run.rules.asked.in_use {
        guard.keep_file(path)?;
    }
    Ok(guard)
}

/// What is in the way of entries of one directory in one of its destinations; none where it has to stay, or nothing
/// could be made in its place.
fn gather_obstacles(worker: &mut Worker<'_>, lates: &[Late], twin: usize) -> Result<Option<Extras>, Fault> {
    let blocks = |late: &&Late| late.blocked.iter().any(|(other, _)| *other == twin);
    let Some(first) = lates.iter().find(blocks) else {
        return Ok(None);
    };
    let dir = &first.dir;
    if let Some(name) = folded_name(worker, dir, twin)? {
        worker.run.surplus.withhold_for_spelling(dir, twin, &name);
        return Ok(None);
    }
    if worker.run.pass.writes() {
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
    let (there, fd) = dir.writable(twin)?;
    if there.tries.have_told() {
        return Ok(());
    }
    there.tries.try_one();
    let make = |name: &CStr| sys::create_file(fd.as_fd(), name);
    match worker.run.stager.stage(target, make) {
        Ok((_, staging)) => {
            there.tries.come();
            make::discard(worker, dir, twin, target, Some(&staging));
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
    let list = |fd: &sys::OwnedFd, take: &mut dyn FnMut(&CStr)| {
        listing::each(fd.as_fd(), || worker.run.desk.step(), |name, _| take(name))
    };
    let (there, fd) = dir.writable(twin)?;
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
