//! Extra entries: what is in a directory of the destination and in none of the sources that were copied into it.
//!
//! Comes in: the names that the listings of a directory's sources gave; goes out, when all sources are done: the removal
//! of what the destination has besides. What is extra is decided while the sources are listed, against all of them, and
//! only in directories that stand for source directories as wholes. Nothing is removed until everything is listed, also
//! what is below extra directories. Then it is all or nothing: a failure to list, a source that is missing, empty, not
//! where it was, or seen among what would go ([`Lookout`]), the limit, or a no of whoever is asked keep every entry; so does
//! a file system that takes two spellings for one name. Where something was to be made in a directory, or in a whole
//! destination, and nothing could be, what is extra there stays: else all would go and nothing come. Counting and removing
//! are the business of the [`Sweeper`]. Each directory with extra entries is closed after they have gone, so its times are
//! those of the source.
//!
//! Never removed: what exclude rules name, unfinished entries of live runs and other hosts, mounts and what lies below
//! them, and directories that hold a source, a destination or the working directory, or that something was copied into
//! through a symlink. A directory that holds such a thing stays too. Names are reached by the descriptor of the directory
//! that holds them, and no link is followed.

use std::ffi::CStr;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhaul_formats::digest::xxh64;
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow, Kind, OwnedFd};

use crate::copy::dir::{Dir, Origin, Presence, Scope, Tries};
use crate::copy::late::{self, Late};
use crate::copy::lookout::Lookout;
use crate::copy::worker::Worker;
use crate::copy::{Run, Task, act, directory};
use crate::entry::Outcome;
use crate::error::{Cause, Fault, Operation, Side};
use crate::event::{VICTIMS_SHOWN, Victims};
use crate::report::Withheld;
use crate::report::counters::Totals;
use crate::sweep::guard::Guard;
use crate::sweep::sweeper::{Mode, Sweeper, Witness};
use crate::tree::listing::{Batch, is_empty};
use crate::tree::medium::is_original;
use crate::tree::path::{join, show};
use crate::tree::spelling::has_two_spellings;
use crate::walk::start::{Part, Parts, Start};

/// Extra entries of one directory of one destination.
pub struct Extras {
    /// The directory.
    pub dir: Arc<Dir>,
    /// Which destination.
    pub twin: usize,
    /// Their names there.
    pub entries: Vec<Batch>,
}

impl Extras {
    /// Whether nothing can be made beside them.
    fn stay(&self, run: &Run) -> bool {
        run.tries(&self.dir, self.twin).any(Tries::are_vain)
    }

    /// For the walk; none where there is no such directory.
    fn part(&self) -> Result<Option<Part>, Fault> {
        let (dir, twin) = (&self.dir, self.twin);
        let fault = |operation, errno| Fault::new(operation, Side::Destination(twin), errno);
        let Some(fd) = dir.twin(twin).map_err(|e| fault(Operation::Open, e))? else {
            return Ok(None);
        };
        let (stat, mount) = sys::stat_mounted(fd.as_fd()).map_err(|e| fault(Operation::Stat, e))?;
        Ok(Some(Part {
            fd,
            id: stat.id,
            mount,
            side: Side::Destination(twin),
            path: dir.twin_path(twin),
            relative_path: dir.relative_path(),
            twins: source_paths(dir),
            entries: self.entries.clone(),
        }))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the walk has found out for the sweep.
#[derive(Default)]
pub struct Surplus {
    found: Mutex<Vec<Extras>>,
    /// Entries that wait until extra ones have gone.
    lates: Mutex<Vec<Late>>,
    withheld: Mutex<Option<Withheld>>,
    /// The same, where that has kept anything.
    told: Mutex<Option<Withheld>>,
    /// Removing has begun.
    begun: AtomicBool,
    /// Where nothing could be made: the first such directory with extra entries, and how many there are.
    spared: Mutex<Option<(Vec<u8>, u64)>>,
    /// Directories that something was copied into through a symlink in the destination, and all above them.
    reached: Mutex<Guard>,
    /// Directories that were named as sources, and the number of the source: they must still hold something.
    arguments: Mutex<Vec<(Arc<Dir>, usize)>>,
}

impl Surplus {
    /// Nothing extra is to be removed any more, for this reason. The first one counts.
    pub fn withhold(&self, kind: &'static str, why: impl Display) {
        let mut withheld = lock(&self.withheld);
        let what = if self.begun.load(Ordering::Relaxed) {
            "no more"
        } else {
            "nothing"
        };
        withheld.get_or_insert_with(|| Withheld {
            kind,
            what: "extra",
            message: format!("{why}, so {what} extra was removed"),
        });
    }

    /// Where extra entries stay because nothing could be made beside them.
    pub fn spared(&self) -> Option<Withheld> {
        let spared = lock(&self.spared);
        spared.as_ref().map(|(path, count)| {
            let path = show(path);
            let others = match count - 1 {
                0 => String::new(),
                1 => " and in another directory".into(),
                more => format!(" and in {more} other directories"),
            };
            Withheld {
                kind: "failed",
                what: "extra",
                message: format!("nothing could be made in {path}{others}, so nothing extra was removed there"),
            }
        })
    }

    fn spare(&self, extras: &Extras) {
        let mut spared = lock(&self.spared);
        spared.get_or_insert_with(|| (extras.dir.twin_path(extras.twin), 0)).1 += 1;
    }

    /// The same, because a name in a destination stands for two.
    pub fn withhold_for_spelling(&self, dir: &Dir, twin: usize, name: &CStr) {
        let path = join(&dir.twin_path(twin), name.to_bytes());
        let path = show(&path);
        self.withhold("spelling", format!("{path} answers to another spelling too"));
    }

    /// Why extra entries stay, if there were any.
    pub fn withheld(&self) -> Option<Withheld> {
        lock(&self.told).clone()
    }

    /// Something is copied into this directory, which a symlink in the destination leads to: it is in use, whatever names
    /// it has there.
    pub fn keep_reached(&self, directory: OwnedFd) -> sys::Result<()> {
        lock(&self.reached).climb_from(directory, "in use", "above what is in use")
    }

    /// An entry waits for the sweep.
    pub fn put_off(&self, late: Late) {
        lock(&self.lates).push(late);
    }

    /// As rsync: an input/output error of a source makes all deletes unsafe; what vanished or changed does not. A listing
    /// that failed does on either side.
    pub fn heed(&self, fault: &Fault) {
        let of_source = fault.side == Side::Source && fault.outcome() == Outcome::Failed;
        if of_source || fault.operation == Operation::List || matches!(fault.cause, Cause::Panic(_)) {
            self.withhold("failed", FAILED);
        }
    }

    fn is_withheld(&self) -> bool {
        lock(&self.withheld).is_some()
    }
}

/// A directory whose sources have all been listed: what its twins have besides waits for the sweep.
pub fn note_extras(worker: &mut Worker<'_>, dir: &Arc<Dir>) {
    let mut seen = std::mem::take(&mut worker.seen);
    if worker.run.rules.remove_extra && is_mirror(dir) && !worker.run.desk.cancel.is_draining() {
        seen.sort_unstable();
        for twin in 0..dir.twins.len() {
            if let Err(fault) = find_extras(worker, dir, twin, &seen) {
                directory::fail_directory(worker, dir, dir.winner(), &fault);
            }
        }
    }
    seen.clear();
    worker.seen = seen;
}

/// A source that was listed, and how many names it gave. One that was named as an argument must not be empty.
pub fn note_listed(worker: &Worker<'_>, dir: &Arc<Dir>, source: usize, names: usize) {
    if !worker.run.rules.remove_extra || !is_argument(dir, source) || worker.run.desk.cancel.is_draining() {
        return;
    }
    let surplus = &worker.run.surplus;
    if names == 0 {
        let path = show(&dir.source_path(source));
        surplus.withhold("empty-source", format!("{path} is empty"));
    } else {
        let mut arguments = lock(&surplus.arguments);
        arguments.push((Arc::clone(dir), source));
    }
}

/// How many names of a source the destinations had already: with what is extra they are what a limit is a part of.
/// What this run brings is not counted, so it matters not how much of it is there by now.
pub fn note_there(worker: &Worker<'_>, dir: &Dir, names: usize) {
    if worker.run.rules.remove_extra && names > 0 && is_mirror(dir) {
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
            if may_go(worker, (dir, twin), fd.as_fd(), &parents, name, kind)? {
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
        lock(&worker.run.surplus.found).push(extras);
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
    at: BorrowedFd<'_>,
    parents: &[Vec<u8>],
    name: &CStr,
    kind: Kind,
) -> Result<bool, Fault> {
    if worker.run.rules.filter.excludes(parents, name, kind) {
        return Ok(false);
    }
    let stat = |errno| Fault::new(Operation::Stat, Side::Destination(twin), errno);
    if has_two_spellings(at, name).map_err(stat)? {
        worker.run.surplus.withhold_for_spelling(dir, twin, name);
    }
    Ok(true)
}

/// Whether what has the name of a source's entry in a destination, and is of another kind, may go.
pub fn is_extra(worker: &Worker<'_>, dir: &Dir, twin: usize, name: &CStr, kind: Kind) -> Result<bool, Fault> {
    let (_, fd) = act::twin(dir, twin)?;
    may_go(
        worker,
        (dir, twin),
        fd.as_fd(),
        &parents_of_extras(worker, dir, twin),
        name,
        kind,
    )
}

/// Full paths of a directory in its sources, the one whose metadata counts last, and then in a destination: hpcp's rules
/// are about full paths, on either side.
fn paths(dir: &Dir, twin: usize) -> Vec<Vec<u8>> {
    let mut paths = source_paths(dir);
    paths.push(dir.twin_path(twin));
    paths
}

fn source_paths(dir: &Dir) -> Vec<Vec<u8>> {
    let winner = dir.winner();
    let others = (0..dir.sources.len()).filter(|source| *source != winner);
    others.chain([winner]).map(|source| dir.source_path(source)).collect()
}

/// All that is extra, for the walk below it.
struct Sweep<'r> {
    run: &'r Run,
    found: &'r [Extras],
    /// It goes now; else it is counted.
    go: bool,
}

impl Parts for Sweep<'_> {
    fn count(&self) -> usize {
        self.found.len()
    }

    fn open(&self, index: usize) -> Option<Part> {
        let extras = &self.found[index];
        let (dir, surplus) = (&extras.dir, &self.run.surplus);
        if surplus.is_withheld() {
            return None;
        }
        for source in 0..dir.sources.len() {
            if let Err(errno) = dir.source_anew(source) {
                let path = show(&dir.source_path(source));
                let why = crate::error::describe(errno);
                surplus.withhold("source-gone", format!("{path}: {why}"));
                return None;
            }
        }
        let part = extras.part();
        // What is open of it now, its part holds.
        dir.put_down();
        part.unwrap_or_else(|fault| {
            if !self.go {
                surplus.withhold("failed", FAILED);
            }
            let mut worker = Worker::new(self.run, &self.run.counters[0]);
            directory::fail_directory(&mut worker, dir, dir.winner(), &fault);
            None
        })
    }
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

/// All that is known is done: decides about the extra entries, and has them removed or left. Then comes what waited for
/// that, and every directory that waits is closed. Whether anything came, so that more may be extra now.
/// `leaving`: what a move would remove from the sources then; whoever is asked is asked about both.
pub fn sweep(run: &Run, root: &Dir, leaving: Option<Victims>) -> bool {
    let surplus = &run.surplus;
    let found = std::mem::take(&mut *lock(&surplus.found));
    let mut lates = std::mem::take(&mut *lock(&surplus.lates));
    if found.is_empty() && lates.is_empty() {
        return false;
    }
    run.desk.enter(crate::job::desk::Phase::Sweeping);
    let closing: Vec<_> = found.iter().map(|extras| Arc::clone(&extras.dir)).collect();
    let obstacles = obstacles(run, &mut lates);
    let part = |extras: Vec<Extras>| -> (Vec<_>, Vec<_>) { extras.into_iter().partition(|extras| extras.stay(run)) };
    let ((mut staying, mut going), (with_them, after_them)) = (part(found), part(obstacles));
    // What is in the way goes last, right before what comes in its place.
    let first = going.len();
    staying.extend(with_them);
    going.extend(after_them);
    if let Some((guard, mut limit)) = decide(run, root, &going, leaving) {
        for extras in &staying {
            surplus.spare(extras);
        }
        surplus.begun.store(!run.rules.dry_run, Ordering::Relaxed);
        let mode = if run.rules.dry_run { Mode::Count } else { Mode::Remove };
        let tell = if run.rules.entry_events { u64::MAX } else { 0 };
        for found in [&going[..first], &going[first..]] {
            let go = true;
            limit = Sweeper {
                tell,
                limit,
                ..sweeper(run, &guard, mode)
            }
            .run(Start::Parts(&Sweep { run, found, go }));
        }
        if run.rules.dry_run {
            imagine(run, &guard, &mut lates);
        }
    }
    // What fails from here on withholds what is found extra later, if anything is.
    let withheld = lock(&surplus.withheld).clone();
    let mut told = lock(&surplus.told);
    *told = told.take().or(withheld);
    drop(told);
    for dir in closing {
        run.schedule.push(Task::Close(dir));
    }
    let more = !lates.is_empty();
    if more {
        run.desk.enter(crate::job::desk::Phase::Scanning);
    }
    for late in lates {
        run.schedule.push(Task::Late(late));
    }
    run.drive();
    more
}

/// What is in the way of entries that wait, by directories.
fn obstacles(run: &Run, lates: &mut [Late]) -> Vec<Extras> {
    let mut obstacles = Vec::new();
    let mut worker = Worker::new(run, &run.counters[0]);
    lates.sort_by_key(|late| Arc::as_ptr(&late.dir));
    for of_dir in lates.chunk_by(|a, b| Arc::ptr_eq(&a.dir, &b.dir)) {
        let dir = &of_dir[0].dir;
        for twin in 0..dir.twins.len() {
            match late::gather_obstacles(&mut worker, of_dir, twin) {
                Ok(extras) => obstacles.extend(extras),
                Err(fault) => directory::fail_directory(&mut worker, dir, dir.winner(), &fault),
            }
        }
        dir.put_down();
    }
    obstacles
}

/// A dry run: where the way of those that wait would be clear now.
fn imagine(run: &Run, guard: &Guard, lates: &mut [Late]) {
    let desk = run.desk.rehearsal();
    let mut before = Totals::of(&desk.counters);
    for late in lates {
        for &(twin, kind) in &late.blocked {
            let (found, go) = (&[late.obstacle(twin, kind)], false);
            Sweeper {
                desk: &desk,
                workers: 1,
                ..sweeper(run, guard, Mode::Count)
            }
            .run(Start::Parts(&Sweep { run, found, go }));
            let after = Totals::of(&desk.counters);
            let removed = after.outcome_of(Outcome::Removed) - before.outcome_of(Outcome::Removed);
            if removed > 0 && removed == after.extras - before.extras {
                late.clear.push(twin);
            }
            before = after;
        }
    }
}

fn sweeper<'s>(run: &'s Run, guard: &'s Guard, mode: Mode) -> Sweeper<'s> {
    Sweeper {
        desk: &run.desk,
        guard,
        filter: &run.rules.filter,
        stager: Some(run.stager),
        budget: &run.budget,
        workers: run.active(),
        mode,
        tell: 0,
        limit: u64::MAX,
        witness: None,
    }
}

/// Why nothing goes where anything failed before.
pub const FAILED: &str = "something failed";

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
    let arguments = lock(&surplus.arguments).clone();
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
    let sweep = Sweep { run, found, go: false };
    // Only who is asked wants to know how much it is.
    let mode = if run.rules.confirm { Mode::Measure } else { Mode::Count };
    let lookout = match lookout(run, root, found, &arguments) {
        Ok(lookout) => lookout,
        Err(errno) => {
            let why = crate::error::describe(errno);
            surplus.withhold("failed", format!("whether a source is in it can't be told ({why})"));
            return None;
        }
    };
    let counted = Sweeper {
        witness: lookout.as_ref().map(|lookout| lookout as &dyn Witness),
        ..sweeper(run, &guard, mode)
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
    if let Some(limit) = run.rules.max_delete.filter(|limit| limit.forbids(going, all)) {
        let why = format!("{going} of {all} entries are extra, which is more than {limit}");
        surplus.withhold("max-delete", why);
        return None;
    }
    if run.rules.confirm && !run.rules.dry_run && would_go > 0 {
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
    let limit = run
        .rules
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
    let mut guard = lock(&run.surplus.reached).clone();
    let mut protect = |fd| guard.climb_from(fd, "in use", "above what is in use");
    protect(sys::open_directory(sys::current_directory(), c".", Follow::No)?)?;
    for source in 0..root.sources.len() {
        protect(sys::duplicate(root.source_anew(source)?.as_fd())?)?;
    }
    for id in &run.destination_ids {
        guard.keep(*id, "a destination");
    }
    Ok(guard)
}
