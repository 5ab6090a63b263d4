//! Extra entries: what is in a directory of the destination and in none of the sources that were copied into it.
//!
//! Comes in: the names that the listings of a directory's sources gave; goes out, when all sources are done: the removal
//! of what the destination has besides. What is extra is decided while the sources are listed, against all of them, and
//! only in directories that stand for source directories as wholes. Nothing is removed until everything is listed, also
//! what is below extra directories. Then it is all or nothing: a failure to list, a source that is missing, empty, or not
//! where it was, the limit, or a no of whoever is asked keep every entry; so does a file system that takes two spellings
//! for one name. Where something was to be made in a directory, or in a whole destination, and nothing could be, what is
//! extra there stays: else all would go and nothing come. Counting and removing are the business of the [`Sweeper`]. Each
//! directory with extra entries is closed after they have gone, so its times are those of the source.
//!
//! Never removed: what exclude rules name, unfinished entries of live runs and other hosts, mounts and what lies below
//! them, and directories that hold a source, a destination or the working directory. A directory that holds such a thing
//! stays too. Names are reached by the descriptor of the directory that holds them, and no link is followed.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bulkhaul_formats::digest::xxh64;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind};

use crate::copy::{Run, Task};
use crate::error::{Cause, Fault, Operation, Side};
use crate::event::{VICTIMS_SHOWN, Victims};
use crate::listing::{Batch, excludes, filter_parents, is_empty};
use crate::remove::{Guard, Mode, Sweeper};
use crate::report::{Outcome, Withheld};
use crate::spelling::has_two_spellings;
use crate::tree::{Dir, Origin, Presence, Scope, Tries, join};
use crate::walk::{Part, Parts, Start};
use crate::worker::Worker;

/// Extra entries of one directory of one destination.
pub struct Extras {
    dir: Arc<Dir>,
    twin: usize,
    entries: Vec<Batch>,
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

/// What the walk has found out for the sweep.
#[derive(Default)]
pub struct Surplus {
    found: Mutex<Vec<Extras>>,
    withheld: Mutex<Option<Withheld>>,
    /// Removing has begun.
    begun: AtomicBool,
    /// Where nothing could be made: the first such directory with extra entries, and how many there are.
    spared: Mutex<Option<(Vec<u8>, u64)>>,
    /// Entries of the destinations that were looked at.
    listed: AtomicU64,
    /// Directories that were named as sources, and the number of the source: they must still hold something.
    arguments: Mutex<Vec<(Arc<Dir>, usize)>>,
}

impl Surplus {
    /// Nothing extra is to be removed any more, for this reason. The first one counts.
    pub fn withhold(&self, kind: &'static str, why: impl Display) {
        let mut withheld = self.withheld.lock().unwrap_or_else(PoisonError::into_inner);
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
        let spared = self.spared.lock().unwrap_or_else(PoisonError::into_inner);
        spared.as_ref().map(|(path, count)| {
            let path = String::from_utf8_lossy(path);
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
        let mut spared = self.spared.lock().unwrap_or_else(PoisonError::into_inner);
        spared.get_or_insert_with(|| (extras.dir.twin_path(extras.twin), 0)).1 += 1;
    }

    /// Why extra entries stay, if there were any.
    pub fn withheld(&self) -> Option<Withheld> {
        self.withheld.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
        self.withheld.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

impl Worker<'_> {
    /// A directory whose sources have all been listed: what its twins have besides waits for the sweep.
    pub fn note_extras(&mut self, dir: &Arc<Dir>) {
        let mut seen = std::mem::take(&mut self.seen);
        if self.run.rules.remove_extra && is_mirror(dir) && !self.run.desk.cancel.is_draining() {
            seen.sort_unstable();
            for twin in 0..dir.twins.len() {
                if let Err(fault) = self.find_extras(dir, twin, &seen) {
                    self.fail_directory(dir, dir.winner(), &fault);
                }
            }
        }
        seen.clear();
        self.seen = seen;
    }

    /// A source that was listed, and how many names it gave. One that was named as an argument must not be empty.
    pub fn note_listed(&self, dir: &Arc<Dir>, source: usize, names: usize) {
        if !self.run.rules.remove_extra || !is_argument(dir, source) || self.run.desk.cancel.is_draining() {
            return;
        }
        let surplus = &self.run.surplus;
        if names == 0 {
            let path = String::from_utf8_lossy(&dir.source_path(source)).into_owned();
            surplus.withhold("empty-source", format!("{path} is empty"));
        } else {
            let mut arguments = surplus.arguments.lock().unwrap_or_else(PoisonError::into_inner);
            arguments.push((Arc::clone(dir), source));
        }
    }

    fn find_extras(&mut self, dir: &Arc<Dir>, twin: usize, seen: &[u64]) -> Result<(), Fault> {
        let fault = |operation, errno| Fault::new(operation, Side::Destination(twin), errno);
        if !matches!(&dir.twins[twin], Some(t) if matches!(t.presence, Presence::Existing(_))) {
            return Ok(());
        }
        let Some(fd) = dir.twin(twin).map_err(|e| fault(Operation::Open, e))? else {
            return Ok(());
        };
        let rules = self.run.rules.filter.as_ref();
        let paths = || paths(dir, twin);
        let parents = filter_parents(rules, || dir.relative_path(), paths, &self.run.working_directory);
        let (mut entries, mut listed) = (Vec::new(), 0);
        sys::rewind_directory(fd.as_fd()).map_err(|e| fault(Operation::List, e))?;
        let mut more = true;
        while more {
            let mut found = Batch::default();
            more = sys::read_directory(fd.as_fd(), self.listing.spare_capacity_mut(), |name, kind, _| {
                if self.run.stager.owner(name.to_bytes()).is_none() {
                    listed += 1;
                    if seen.binary_search(&xxh64(name.to_bytes())).is_err() {
                        found.push(name, kind);
                    }
                }
            })
            .map_err(|e| fault(Operation::List, e))?;
            self.run.desk.step();
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
                if excludes(rules, &parents, name, kind) {
                    continue;
                }
                if has_two_spellings(fd.as_fd(), name).map_err(|e| fault(Operation::Stat, e))? {
                    // It may be what was just copied.
                    let path = String::from_utf8_lossy(&join(&dir.twin_path(twin), name.to_bytes())).into_owned();
                    let why = format!("{path} answers to another spelling too");
                    self.run.surplus.withhold("spelling", why);
                }
                extra.push(name, kind);
            }
            if !extra.is_empty() {
                entries.push(extra);
            }
        }
        self.run.surplus.listed.fetch_add(listed, Ordering::Relaxed);
        if !entries.is_empty() {
            // Not closed before they are gone: the directory's times come after that.
            dir.pending.fetch_add(1, Ordering::AcqRel);
            let extras = Extras {
                dir: Arc::clone(dir),
                twin,
                entries,
            };
            let mut found = self.run.surplus.found.lock().unwrap_or_else(PoisonError::into_inner);
            found.push(extras);
        }
        Ok(())
    }
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
                let path = String::from_utf8_lossy(&dir.source_path(source)).into_owned();
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
            Worker::new(self.run, &self.run.counters[0]).fail_directory(dir, dir.winner(), &fault);
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

/// All sources are done: decides about the extra entries, and has them removed or left. Every directory that waits for
/// that is closed in either case.
/// `leaving`: what a move would remove from the sources then; whoever is asked is asked about both.
pub fn sweep(run: &Run, root: &Dir, leaving: Option<Victims>) {
    let found = std::mem::take(&mut *run.surplus.found.lock().unwrap_or_else(PoisonError::into_inner));
    if found.is_empty() {
        // There was nothing to withhold.
        *run.surplus.withheld.lock().unwrap_or_else(PoisonError::into_inner) = None;
        return;
    }
    run.desk.enter(crate::job::Phase::Sweeping);
    let (staying, going): (Vec<_>, Vec<_>) = found.into_iter().partition(|extras| extras.stay(run));
    if let Some((guard, limit)) = decide(run, root, &going, leaving) {
        staying.iter().for_each(|extras| run.surplus.spare(extras));
        run.surplus.begun.store(!run.rules.dry_run, Ordering::Relaxed);
        let mode = if run.rules.dry_run { Mode::Count } else { Mode::Remove };
        let tell = if run.rules.entry_events { u64::MAX } else { 0 };
        let sweep = Sweep {
            run,
            found: &going,
            go: true,
        };
        Sweeper {
            tell,
            limit,
            ..sweeper(run, &guard, mode)
        }
        .run(Start::Parts(&sweep));
    }
    for extras in staying.into_iter().chain(going) {
        run.schedule.push(Task::Close(extras.dir));
    }
    run.drive();
}

fn sweeper<'s>(run: &'s Run, guard: &'s Guard, mode: Mode) -> Sweeper<'s> {
    Sweeper {
        desk: &run.desk,
        guard,
        filter: run.rules.filter.as_ref(),
        stager: Some(run.stager),
        budget: &run.budget,
        workers: run.active(),
        mode,
        tell: 0,
        limit: u64::MAX,
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
    let arguments = std::mem::take(&mut *surplus.arguments.lock().unwrap_or_else(PoisonError::into_inner));
    for (dir, source) in &arguments {
        let why = match dir.source_anew(*source).and_then(|fd| is_empty(&fd)) {
            Ok(false) => continue,
            Ok(true) => "it has been emptied".into(),
            Err(errno) => crate::error::describe(errno),
        };
        let path = String::from_utf8_lossy(&dir.source_path(*source)).into_owned();
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
    let counted = sweeper(run, &guard, mode).count(Start::Parts(&sweep), VICTIMS_SHOWN);
    if counted.failed > 0 {
        surplus.withhold("failed", FAILED);
        for failure in counted.failures {
            run.desk.fail(failure);
        }
    }
    if interrupted() {
        return None;
    }
    let known: usize = found.iter().flat_map(|extras| &extras.entries).map(Batch::len).sum();
    let going = counted.totals.outcome_of(Outcome::Removed);
    let all = surplus.listed.load(Ordering::Relaxed) + counted.totals.extras.saturating_sub(known as u64);
    if let Some(limit) = run.rules.max_delete.filter(|limit| limit.forbids(going, all)) {
        let why = format!("{going} of {all} entries are extra, which is more than {limit}");
        surplus.withhold("max-delete", why);
        return None;
    }
    if run.rules.confirm && !run.rules.dry_run && going > 0 {
        let extra = Victims {
            what: "extra",
            entries: going,
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
    Some((guard, run.rules.max_delete.map_or(u64::MAX, |limit| limit.of(all))))
}

/// The sources, the destinations and the working directory, and everything that they lie in.
fn guard(run: &Run, root: &Dir) -> sys::Result<Guard> {
    let mut guard = Guard::default();
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
