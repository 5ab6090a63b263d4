//! The copy: drives the rooms of the engine over whole trees and closes the books.
//!
//! Comes in: [`CopyOptions`]; goes out: a [`Job`] that copies, or a [`Refusal`] before anything was written.

pub mod act;
pub mod dir;
pub mod directory;
pub mod extra;
pub mod finder;
pub mod late;
pub mod links;
pub mod lookout;
pub mod options;
pub mod plan;
pub mod prepare;
pub mod track;
pub mod views;
pub mod worker;

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bulkhaul_formats::units;
use bulkhaul_sys::{self as sys, AsFd as _, Capacity, Errno, Identity, Kind, OwnedFd, Time};

use crate::bytes::chunks::Chunks;
use crate::bytes::transfer::Terms;
use crate::bytes::ways::Methods;
use crate::copy::act::depart::{self, Departed, Departure, Failed, Restored};
use crate::copy::dir::{Dir, Presence, Scope, Tries};
use crate::copy::extra::Surplus;
use crate::copy::late::Late;
use crate::copy::links::Links;
use crate::copy::options::{CopyOptions, Rules};
use crate::copy::prepare::{NameList, Prepared};
use crate::copy::track::{Undecided, Waiting};
use crate::copy::views::Probes;
use crate::copy::worker::Worker;
use crate::entry::{Outcome, Reason};
use crate::error::{Cause, Failure, Fault, Operation, Refusal, Side};
use crate::event::Victims;
use crate::job::desk::{Desk, Phase};
use crate::job::{Job, Work, process};
use crate::pool::schedule::{Progress, Schedule, drive, drive_tuned};
use crate::pool::tune::{Medium, Range, Tuner};
use crate::report::counters::{Counters, Totals};
use crate::report::{Report, Sync};
use crate::sweep::leftovers;
use crate::tree::descriptors::Budget;
use crate::tree::listing::Batch;
use crate::tree::medium::medium;
use crate::tree::staging::Stager;
use crate::tree::times::Clock;

/// A piece of work.
pub enum Task {
    /// List a directory that has just been entered.
    List(Arc<Dir>),
    /// Enter the next subdirectory of a published directory.
    Descend(Arc<Dir>),
    /// Files of one source that somebody else listed.
    Files(Arc<Dir>, usize, Batch),
    /// Chunks of a big file that another worker has.
    Chunks(Arc<Chunks>),
    /// A symlink that was put off until its target's place is known.
    Link(Undecided),
    /// A directory whose extra entries have gone, or stay: it waited for that.
    Close(Arc<Dir>),
    /// An entry that waited for something in its way to go.
    Late(Late),
}

/// One destination as a whole.
pub struct Target {
    /// Its path as given.
    pub path: Vec<u8>,
    /// Descriptor for `syncfs`, opened before the first write so that it sees every error.
    pub file_system: Option<OwnedFd>,
    /// It was synced in the beginning: what was there is on the medium.
    pub synced: bool,
    /// Free space when the run began.
    pub capacity: Option<Capacity>,
    /// What came of what was to be made in it.
    pub tries: Tries,
    reserved: AtomicU64,
    reserved_inodes: AtomicU64,
    /// Directories that a dry run would make.
    pub directories: AtomicU64,
    full: AtomicBool,
    /// What it keeps of times.
    pub clock: Arc<Clock>,
}

impl Target {
    /// A destination that nothing was written to yet. `parents`: directories that lead to it and are missing.
    pub fn new(path: Vec<u8>, file_system: Option<OwnedFd>, capacity: Option<Capacity>, parents: usize) -> Self {
        Self {
            path,
            file_system,
            synced: false,
            capacity,
            tries: Tries::default(),
            reserved: AtomicU64::new(0),
            reserved_inodes: AtomicU64::new(0),
            directories: AtomicU64::new(parents as u64),
            full: AtomicBool::new(false),
            clock: Arc::default(),
        }
    }
}

/// Where a destination that did not exist will appear.
pub struct RootPlace {
    /// The directory that holds it.
    pub parent: OwnedFd,
    /// Its name there.
    pub name: CString,
}

/// Everything that the workers of one copy share.
pub struct Run {
    /// The checked options.
    pub rules: Rules,
    /// Makes and recognises staging names.
    pub stager: Stager,
    /// What is to be done.
    pub schedule: Schedule<Task>,
    /// Directories that may be open.
    pub budget: Arc<Budget>,
    /// Files that may wait for their sync at once in one worker.
    pub sync_batch: usize,
    /// Where the run is watched from.
    pub desk: Arc<Desk>,
    /// Worker threads at most.
    pub workers: usize,
    /// Finds how many of them serve best; `None`: all.
    tuner: Option<Mutex<Tuner>>,
    /// What the kernel can copy by itself.
    pub methods: Methods,
    /// Hard links.
    pub links: Links,
    /// Symlinks that wait for the end.
    pub waiting: Waiting,
    /// What the destinations have and no source has.
    pub surplus: Surplus,
    /// What did not arrive.
    pub failed: Failed,
    /// Something of a destination had the name of a source entry: it may be that entry, seen in another way.
    pub doubtful: AtomicBool,
    /// What a move that died had taken aside.
    pub restored: Restored,
    /// Where something is deleted: what tells a destination in a source.
    pub probes: Probes,
    /// This is the second walk of a move: sources go, nothing is written.
    pub departure: Option<Departure>,
    /// Whoever was asked about extra entries has agreed that sources go too.
    pub agreed: AtomicBool,
    /// One for each worker.
    pub counters: Arc<[Counters]>,
    /// The destinations.
    pub targets: Vec<Target>,
    /// Where destinations that this run makes will appear.
    pub roots: Vec<Option<RootPlace>>,
    /// Inodes of the destinations: never descended into as a source.
    pub destination_ids: Vec<Identity>,
    /// Inodes of the source directories: where something is deleted, they are no destinations.
    pub source_ids: Vec<Identity>,
    /// Where relative paths start.
    pub working_directory: Vec<u8>,
    /// Effective user id.
    pub user: u32,
}

impl Run {
    /// Workers that shall be at work now.
    pub fn active(&self) -> usize {
        let tuner = self.tuner.as_ref();
        tuner.map_or(self.workers, |tuner| {
            tuner.lock().unwrap_or_else(PoisonError::into_inner).active()
        })
    }

    /// What transfers to a destination go by.
    pub fn terms(&self, destination: usize) -> Terms<'_> {
        let rules = &self.rules;
        Terms {
            destination,
            sparse: rules.sparse,
            lasting: rules.sync != Sync::None || rules.verify,
            proved: rules.verify,
            crowded: self.is_crowded(destination),
            methods: &self.methods,
            desk: &self.desk,
        }
    }

    /// Leaves a batch to another worker.
    pub fn give_away(&self, dir: &Arc<Dir>, source: usize, batch: Batch) {
        dir.own.fetch_add(1, Ordering::AcqRel);
        self.schedule.push(Task::Files(Arc::clone(dir), source, batch));
    }

    /// What came of what was to be made in a directory of a destination, and in all of it.
    pub fn tries<'t>(&'t self, dir: &'t Dir, index: usize) -> impl Iterator<Item = &'t Tries> {
        let twin = dir.twins[index].as_ref().map(|twin| &twin.tries);
        twin.into_iter().chain([&self.targets[index].tries])
    }

    /// Whether a destination has run full and others may have room.
    pub fn is_full(&self, index: usize) -> bool {
        self.targets[index].full.load(Ordering::Relaxed)
    }

    /// A destination has run full.
    pub fn fill(&self, index: usize) {
        self.targets[index].full.store(true, Ordering::Relaxed);
    }

    /// Counts an entry that a destination will have to hold; says so once when that is more than it had room for.
    pub fn reserve(&self, index: usize, bytes: u64) {
        let target = &self.targets[index];
        let bytes = target
            .reserved
            .fetch_add(bytes, Ordering::Relaxed)
            .saturating_add(bytes);
        let Some(capacity) = target.capacity else { return };
        let inodes = target.reserved_inodes.fetch_add(1, Ordering::Relaxed) + 1;
        let free = if bytes > capacity.free_bytes {
            units::bytes(capacity.free_bytes)
        } else if inodes > capacity.free_inodes {
            units::count(capacity.free_inodes, "inode", "inodes")
        } else {
            return;
        };
        self.desk.note("space", || {
            let message = format!("more has been found to copy than the {free} that were free, quota included");
            (target.path.clone(), message)
        });
    }

    /// Whether more goes to a destination than memory can hold: what is cached of it is of no use to anybody.
    pub fn is_crowded(&self, index: usize) -> bool {
        self.targets[index].reserved.load(Ordering::Relaxed) > self.rules.memory
    }

    /// What else is known about a fault with what has this path.
    pub fn hint(&self, fault: &Fault, path: &[u8]) -> Option<String> {
        let Cause::Errno(errno) = fault.cause else {
            return None;
        };
        if errno == Errno::PERM {
            return prepare::protection(path).map(str::to_owned);
        }
        let Side::Destination(index) = fault.side else {
            return None;
        };
        let target = self.targets.get(index)?;
        match errno {
            Errno::DQUOT => Some(format!("the disk quota of user {} is used up", self.user)),
            Errno::NOSPC => {
                let now = target
                    .file_system
                    .as_ref()
                    .and_then(|fd| sys::capacity(fd.as_fd()).ok());
                Some(match now {
                    Some(c) if c.free_inodes == 0 => "the file system has no inode left".into(),
                    Some(c) => format!(
                        "{} of {} are free on the file system",
                        units::bytes(c.free_bytes),
                        units::bytes(c.total_bytes)
                    ),
                    None => "the file system is full".into(),
                })
            }
            _ => None,
        }
    }
}

/// A job that copies. Checks the options; touches nothing.
pub fn job(options: CopyOptions) -> Result<Job, Refusal> {
    let rules = options.check(&process::process())?;
    let resources = options.resources;
    Job::new(rules.most_workers(), Copy { options, rules }).within(resources)
}

/// One copy with its checked options.
struct Copy {
    options: CopyOptions,
    rules: Rules,
}

impl Work for Copy {
    fn run(self: Box<Self>, desk: &Arc<Desk>) -> Result<Report, Refusal> {
        let Self { options, rules } = *self;
        let names = NameList::default();
        if options.require_space && !rules.dry_run {
            require_space(&options, &names, desk)?;
        }
        let since = depart::now();
        let (run, ended) = copy(&options, &names, rules, desk, None)?;
        let departed =
            (run.rules.remove_sources && !run.rules.dry_run).then(|| depart(&options, &names, &run, ended, since));
        let mut report = desk.report(run.rules.sync, desk.most_staff(), ended.interrupted);
        report.withheld.extend(run.surplus.withheld());
        report.withheld.extend(run.surplus.spared());
        if let Some((departed, verified)) = departed {
            report.removed_sources = departed.removed;
            report.kept_sources = departed.kept;
            report.accounted &= departed.accounted;
            report.interrupted |= departed.interrupted;
            report.withheld.extend(departed.withheld);
            report.totals.verified_files += verified.verified_files;
            report.totals.verified_bytes += verified.verified_bytes;
            report.totals.verified_from_cache += verified.verified_from_cache;
        }
        Ok(report)
    }
}

/// How a copy ended.
#[derive(Clone, Copy)]
struct Ended {
    /// Something was left undone.
    interrupted: bool,
    /// With `--sync all`: everything that was written is on disk.
    synced: bool,
}

/// The second half of a move: walks the same trees again and removes what is proved. Answers the proofs too.
fn depart(options: &CopyOptions, names: &NameList, copied: &Run, ended: Ended, since: Time) -> (Departed, Totals) {
    let withheld = |kind, message: &str| (Departed::withheld(kind, message), Totals::default());
    if ended.interrupted {
        return withheld("interrupted", "interrupted, so no source was removed");
    }
    if !ended.synced {
        return withheld(
            "not-synced",
            "what was written could not be synced, so no source was removed",
        );
    }
    if copied
        .surplus
        .withheld()
        .is_some_and(|withheld| withheld.kind == "declined")
    {
        return withheld("declined", "the answer was no, so no source was removed");
    }
    let asked = match copied.leaving(options) {
        Ok(leaving) => {
            !copied.rules.confirm
                || leaving.entries == 0
                || copied.agreed.load(Ordering::Relaxed)
                || copied.desk.ask(vec![leaving])
        }
        Err(message) => return withheld("max-delete", &message),
    };
    if !asked {
        return withheld("declined", "the answer was no, so no source was removed");
    }
    let doubtful = copied.doubtful.load(Ordering::Relaxed);
    let Some(departure) = Departure::after(since, &copied.failed, doubtful, &copied.restored) else {
        return withheld("failed", "too much failed, so no source was removed");
    };
    let options = CopyOptions {
        dry_run: true,
        verify: true,
        remove_extra: false,
        link_tracking: false,
        require_space: false,
        entry_events: false,
        ..options.clone()
    };
    let counters: Arc<[Counters]> = copied.counters.iter().map(|_| Counters::default()).collect();
    copied.desk.counted_elsewhere(&counters);
    let walked = options.check(&process::process()).and_then(|rules| {
        copy(
            &options,
            names,
            rules,
            &copied.desk,
            Some((departure, copied, &counters)),
        )
    });
    match walked {
        Ok((_, ended)) => (Departed::of(&counters, ended.interrupted), Totals::of(&counters)),
        Err(refusal) => withheld("source-gone", &format!("{refusal}, so no source was removed")),
    }
}

/// What the second walk of a move goes by: what it knows, the copy that it follows, and its own books.
type Second<'c> = (Departure, &'c Run, &'c Arc<[Counters]>);

/// Copies; answers the run as it ended, and how. With `second` nothing is copied: the sources of a move go.
fn copy(
    options: &CopyOptions,
    names: &NameList,
    rules: Rules,
    desk: &Arc<Desk>,
    second: Option<Second<'_>>,
) -> Result<(Run, Ended), Refusal> {
    // How many workers share the rest is known when their media are.
    let (budget, _, sets) = Budget::share(1);
    let prepared = prepare::prepare(options, names, &rules, desk, &budget, Stager::new())?;
    let Prepared {
        root,
        mut targets,
        roots,
        destination_ids,
        working_directory,
        missing,
        outside,
        restored,
        probes,
    } = prepared;
    if let Some((_, copied, _)) = &second {
        if destination_ids.iter().any(|id| !copied.destination_ids.contains(id)) {
            return Err(Refusal::Safety("a destination is not what it was".into()));
        }
        // The copy has just synced them, and knows their times.
        for (target, copied) in targets.iter_mut().zip(&copied.targets) {
            target.synced = true;
            target.clock = Arc::clone(&copied.clock);
        }
    } else if rules.verify {
        sync_before(&mut targets, desk);
    }
    let range = rules.range(&media(&root, &targets));
    // Few descriptors mean few workers: each needs some for its files.
    let workers = range.ceiling.min(sets).min(desk.counters.len());
    let range = Range {
        start: range.start.min(workers),
        ceiling: workers,
        ..range
    };
    let source_ids = root.sources.iter().filter(|s| !matches!(s.scope, Scope::Names(_)));
    let source_ids = source_ids.map(|source| source.slot.id()).collect();
    let (departure, counters) = match second {
        Some((departure, _, counters)) => (Some(departure), Arc::clone(counters)),
        None => (None, Arc::clone(&desk.counters)),
    };
    let run = Run {
        links: Links::new(&rules, Arc::clone(&root)),
        tuner: (!range.fixed).then(|| Mutex::new(Tuner::new(range, rules.processors))),
        rules,
        stager: Stager::new(),
        schedule: Schedule::new(workers),
        budget,
        sync_batch: (sets / workers).max(1),
        desk: Arc::clone(desk),
        workers,
        methods: Methods::default(),
        waiting: Waiting::default(),
        surplus: Surplus::default(),
        failed: Failed::default(),
        doubtful: AtomicBool::new(false),
        restored,
        probes,
        departure,
        agreed: AtomicBool::new(false),
        counters,
        targets,
        roots,
        destination_ids,
        source_ids,
        working_directory,
        user: sys::user_id(),
    };
    desk.unlisted();
    desk.enter(if run.departure.is_some() {
        Phase::Proving
    } else {
        Phase::Scanning
    });
    run.begin(&root, missing, &outside);
    run.schedule.push(Task::List(Arc::clone(&root)));
    run.drive();
    let moves = run.rules.remove_sources && run.departure.is_none();
    loop {
        run.finish_links();
        let asks = moves && !run.agreed.load(Ordering::Relaxed);
        let leaving = asks.then(|| run.leaving(options).ok()).flatten();
        // What waited for the sweep may bring more links, and directories of which extra entries are known only then.
        if !extra::sweep(&run, &root, leaving) {
            break;
        }
    }
    run.probes.pull();
    run.probes.tell(desk);
    let interrupted = desk.cancel.is_draining();
    if run.departure.is_none() {
        desk.enter(Phase::Closing);
    }
    let synced = !interrupted && run.sync_targets();
    Ok((run, Ended { interrupted, synced }))
}

/// What was there before is to be read from the medium. Where it fails, each file is synced before it is read.
fn sync_before(targets: &mut [Target], desk: &Desk) {
    let _syncing = desk.syncing();
    for target in targets {
        let file_system = target.file_system.as_ref();
        target.synced = file_system.is_some_and(|fd| sys::sync_file_system(fd.as_fd()).is_ok());
    }
}

/// What holds the sources and the destinations.
fn media(root: &Dir, targets: &[Target]) -> Vec<Medium> {
    let sources = root.sources.iter().filter_map(|source| source.slot.current());
    let targets = targets.iter().filter_map(|target| target.file_system.as_ref());
    let targets = targets.map(|fd| medium(fd.as_fd()));
    sources.map(|fd| medium(fd.as_fd())).chain(targets).collect()
}

impl Run {
    /// What was found out about the arguments before the walk: entries that are missing, and the root's own.
    fn begin(&self, root: &Arc<Dir>, missing: Vec<(Vec<u8>, Fault)>, outside: &[Vec<u8>]) {
        let mut worker = Worker::new(self, &self.counters[0]);
        if root.is_entry {
            self.counters[0].found(Kind::Directory);
        }
        if self.departure.is_some() {
            // The copy has said all that.
            return;
        }
        if !missing.is_empty() {
            self.surplus.withhold("missing-source", "a source is missing");
        }
        for (path, fault) in missing {
            self.counters[0].found(Kind::File);
            self.counters[0].outcome(Kind::File, fault.outcome(), None, 0);
            worker.fail(&fault, path, Kind::File);
        }
        for path in outside {
            self.counters[0].found(Kind::File);
            self.counters[0].outcome(Kind::File, Outcome::Failed, None, 0);
            let fault = Fault {
                operation: Operation::Open,
                side: Side::Source,
                cause: Cause::Errno(Errno::XDEV),
            };
            worker.fail(&fault, path.clone(), Kind::File);
        }
        for (index, twin) in root.twins.iter().enumerate() {
            let cleared = match twin.as_ref().map(|t| (&t.presence, t.fresh)) {
                Some((Presence::Staged(_), false)) => directory::clear_strangers(&worker, root, index),
                Some((Presence::Existing(_), _)) if !self.rules.dry_run => leftovers::clear_beside(self, index),
                _ => Ok(()),
            };
            if let Err(fault) = cleared {
                directory::fail_directory(&mut worker, root, 0, &fault);
            }
        }
    }

    /// What waits for the end, until nothing new comes of it.
    fn finish_links(&self) {
        loop {
            let links = self.waiting.take_undecided();
            let roots = if links.is_empty() {
                track::roots(self)
            } else {
                Vec::new()
            };
            if self.desk.cancel.is_draining() || (links.is_empty() && roots.is_empty()) {
                return;
            }
            for link in links {
                self.schedule.push(Task::Link(link));
            }
            for root in roots {
                self.desk.unlisted();
                self.schedule.push(Task::List(root));
            }
            self.drive();
        }
    }

    /// What a move is about to remove from the sources: all that arrived, or is about to: directories that wait for the
    /// sweep have no outcome yet. The error says that it is more than may go.
    fn leaving(&self, options: &CopyOptions) -> Result<Victims, String> {
        let totals = Totals::of(&self.counters);
        let arrived = [Outcome::Made, Outcome::Copied, Outcome::Linked, Outcome::Metadata];
        let arrived = arrived.map(|outcome| totals.outcome_of(outcome)).iter().sum::<u64>()
            + totals.reason_of(Reason::Unchanged)
            + totals.all_found().saturating_sub(totals.all_outcomes());
        let all: u64 = totals.found.iter().sum();
        if let Some(limit) = self.rules.max_delete.filter(|limit| limit.forbids(arrived, all)) {
            return Err(format!(
                "{arrived} of {all} entries would go, which is more than {limit}, so no source was removed"
            ));
        }
        Ok(Victims {
            what: "sources",
            entries: arrived,
            bytes: totals.done_bytes,
            first: options.sources.iter().map(|source| source.path.clone()).collect(),
        })
    }

    /// Runs what is scheduled to its end.
    pub fn drive(&self) {
        let work = |index: usize| Worker::new(self, &self.counters[index]).work();
        let failed = match &self.tuner {
            None => {
                self.desk.staff(self.workers);
                drive(self.workers, work)
            }
            Some(tuner) => {
                let progress = || {
                    let (bytes, entries) = Totals::of(&self.counters).work();
                    let spent = sys::processor_time();
                    Progress { bytes, entries, spent }
                };
                let told = |workers| self.desk.staff(workers);
                drive_tuned(&self.schedule, tuner, progress, told, work)
            }
        };
        if let Some(error) = failed {
            let message = format!("a worker could not be started: {error}");
            self.desk.note("threads", || (Vec::new(), message));
        }
    }

    /// `--sync all`: one call for each file system that was written. Whether all is on disk.
    fn sync_targets(&self) -> bool {
        if self.rules.sync != Sync::All || self.rules.dry_run {
            return false;
        }
        let _syncing = self.desk.syncing();
        let mut synced = true;
        let mut done: Vec<u64> = Vec::new();
        for (index, target) in self.targets.iter().enumerate() {
            let Some(fd) = &target.file_system else { continue };
            let result = sys::stat_fd(fd.as_fd()).and_then(|stat| {
                if done.contains(&stat.id.dev) {
                    return Ok(());
                }
                done.push(stat.id.dev);
                sys::sync_file_system(fd.as_fd())
            });
            if let Err(errno) = result {
                let fault = Fault::new(Operation::Sync, Side::Destination(index), errno);
                let failure = Failure::new(&fault, target.path.clone(), Kind::Directory, None);
                self.desk.fail(failure);
                synced = false;
            }
        }
        synced
    }
}

/// Sizes what would be copied with a dry run of the same planner, and refuses what does not fit.
fn require_space(options: &CopyOptions, names: &NameList, desk: &Desk) -> Result<(), Refusal> {
    let options = CopyOptions {
        dry_run: true,
        require_space: false,
        entry_events: false,
        ..options.clone()
    };
    let rules = options.check(&process::process())?;
    let rehearsal = Arc::new(desk.rehearsal());
    let (run, _) = copy(&options, names, rules, &rehearsal, None)?;
    fits(&Totals::of(&rehearsal.counters), &run.targets)
}

/// Whether what a dry run would make has room: files in all destinations together, directories in each of them.
fn fits(totals: &Totals, targets: &[Target]) -> Result<(), Refusal> {
    let mut free = (0_u64, 0_u64);
    let mut needed = totals.planned_inodes;
    // By device: several destinations may lie on one.
    let mut devices: Vec<(u64, u64, u64)> = Vec::new();
    for target in targets {
        let stat = target.file_system.as_ref().and_then(|fd| sys::stat_fd(fd.as_fd()).ok());
        let (Some(stat), Some(capacity)) = (stat, target.capacity) else {
            // Some file systems tell no size: then there is nothing to compare with.
            return Ok(());
        };
        let directories = target.directories.load(Ordering::Relaxed);
        needed = needed.saturating_add(directories);
        if let Some(device) = devices.iter_mut().find(|device| device.0 == stat.id.dev) {
            device.1 += directories;
        } else {
            free.0 = free.0.saturating_add(capacity.free_bytes);
            free.1 = free.1.saturating_add(capacity.free_inodes);
            devices.push((stat.id.dev, directories, capacity.free_inodes));
        }
    }
    if totals.planned_bytes > free.0 {
        let size = |bytes| format!("{} ({})", units::bytes(bytes), units::count(bytes, "byte", "bytes"));
        return Err(Refusal::NoSpace(format!(
            "{} are to be copied, and {} are free",
            size(totals.planned_bytes),
            size(free.0)
        )));
    }
    // A directory is made in every destination, whatever comes to lie in it there.
    let short = devices.iter().find(|(_, directories, inodes)| directories > inodes);
    let short = short.map(|(_, directories, inodes)| (*directories, *inodes));
    let short = (needed > free.1).then_some((needed, free.1)).or(short);
    short.map_or(Ok(()), |(needed, free)| {
        Err(Refusal::NoSpace(format!(
            "{} to be made, and {} free",
            units::count(needed, "entry is", "entries are"),
            units::count(free, "inode is", "inodes are")
        )))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;
    use crate::copy::options::{DestinationArgument, SourceArgument};

    fn copy_of(names: &[&str]) -> Report {
        let scratch = tempfile::tempdir().unwrap();
        let (source, destination) = (scratch.path().join("s"), scratch.path().join("d"));
        std::fs::create_dir(&source).unwrap();
        for name in names {
            std::fs::write(source.join(name), name).unwrap();
        }
        let bytes = |path: &std::path::Path| path.as_os_str().as_bytes().to_vec();
        let options = CopyOptions {
            sources: vec![SourceArgument {
                path: bytes(&source),
                contents: true,
                name: None,
                follow: true,
            }],
            destinations: vec![DestinationArgument {
                path: bytes(&destination),
                follow: true,
            }],
            ..CopyOptions::default()
        };
        job(options).unwrap().run().unwrap()
    }

    #[test]
    fn a_lost_entry_trips_the_count() {
        let whole = copy_of(&["a", "b"]);
        assert!(whole.accounted && whole.is_complete());
        // The recorder drops this one in test builds (worker.rs).
        let lossy = copy_of(&["a", "planted-loss"]);
        assert!(!lossy.accounted && !lossy.is_complete());
        assert_eq!(lossy.totals.all_found(), lossy.totals.all_outcomes() + 1);
    }

    #[test]
    fn what_tells_no_size_has_room() {
        let totals = Totals {
            planned_bytes: 2,
            planned_inodes: 2,
            ..Totals::default()
        };
        let target = |capacity| {
            let here = crate::tree::path::open_directory_path(b".", sys::Follow::No).unwrap();
            Target::new(Vec::new(), Some(here), capacity, 0)
        };
        let with = |free_bytes, free_inodes| {
            let total_bytes = 9;
            target(Some(Capacity {
                free_bytes,
                free_inodes,
                total_bytes,
            }))
        };
        assert!(fits(&totals, &[with(2, 2)]).is_ok());
        assert!(fits(&totals, &[with(2, u64::MAX), with(0, u64::MAX)]).is_ok());
        assert!(fits(&totals, &[target(None), with(0, 0)]).is_ok());
        for (short, message) in [
            (with(1, 2), "2 B (2 bytes) are to be copied, and 1 B (1 byte) are free"),
            (with(2, 1), "2 entries are to be made, and 1 inode is free"),
        ] {
            let Err(Refusal::NoSpace(said)) = fits(&totals, &[short]) else {
                panic!("{message}");
            };
            assert_eq!(said, message);
        }
    }
}
