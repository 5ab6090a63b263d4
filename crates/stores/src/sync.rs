//! Sync: what changed is brought over, between object stores and local trees.
//!
//! Comes in: [`SyncOptions`]; goes out: a [`Job`]. Both sides are listed in the order of their keys and meet key by key; what
//! is to be done is planned purely, after what decides was asked for; workers do it. What only the destination has goes
//! last, where that was asked for, and not at all when anything is not known for sure: a listing that broke off, a source
//! that is empty, a name that can't be carried, a failure of any kind.

mod act;
mod batch;
mod blocked;
pub mod options;
mod plan;
mod state;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bulkhaul_engine::Kind;
use bulkhaul_engine::entry::{Changes, Outcome, Reason};
use bulkhaul_engine::error::{Failure, Fault, Operation, Refusal, Side, Stopped, cause_of};
use bulkhaul_engine::event::EntryEvent;
use bulkhaul_engine::job::desk::{Desk, Phase};
use bulkhaul_engine::job::{Job, Work};
use bulkhaul_engine::pool::schedule::drive;
use bulkhaul_engine::records::ordered::Ordered;
use bulkhaul_engine::report::counters::Counters;
use bulkhaul_engine::report::{Durability, Report, Withheld};
use bulkhaul_engine::tree::selection::Selection;
use bulkhaul_formats::hive::Conditions;
use bulkhaul_formats::staging;
use bulkhaul_sys::Time;

use self::act::{Deed, Done, Task};
use self::batch::Batches;
use self::blocked::{Blocked, Way};
use self::options::{Names, Proof, SyncOptions};
use self::plan::Rules;
use self::state::{Known, Remembered, State};
use crate::join::{Broken, Join, Met};
use crate::local::LocalOptions;
use crate::location::{Location, common, refuse_nested};
use crate::lone::refused;
use crate::nested::{refuse_view, shows};
use crate::session::{JOBS, Session};
use crate::store::{Entry, Gone, Store, Told};
use crate::sweep::Doomed;
use crate::uploads::Uploads;

/// Keys that wait for a worker.
const QUEUE: usize = 1024;

/// A job that syncs. Checks the options; asks and touches nothing.
pub fn job(options: SyncOptions) -> Result<Job, Refusal> {
    options.check()?;
    let places = [
        Location::parse(&options.source)?,
        Location::parse(&options.destination)?,
    ];
    places[1].says(&options.destination_config.headers)?;
    let backup = options.backup.as_deref().map(Location::parse).transpose()?;
    let [from, to] = [
        (&options.source[..], &places[0], &options.source_config),
        (&options.destination[..], &places[1], &options.destination_config),
    ];
    // Names that were named are read and written, and nothing else.
    if options.names.is_none() {
        refuse_nested(from, to)?;
    }
    if let (Some(text), Some(place)) = (&options.backup, &backup) {
        let aside = (&text[..], place, &options.backup_config);
        refuse_nested(aside, from)?;
        refuse_nested(aside, to)?;
    }
    let mut written = backup.iter().chain(&places[1..]);
    if options.abort_stale.is_some() && !written.any(|place| matches!(place, Location::S3 { .. })) {
        let text = "abort-stale: only s3: and gs: places have uploads that can be left over";
        return Err(Refusal::Usage(text.into()));
    }
    let selection = Selection::of(options.filter.as_ref())?;
    let customary = places.iter().map(Location::jobs).min().unwrap_or(JOBS);
    let workers = if options.jobs == 0 { customary } else { options.jobs };
    let resources = options.resources;
    let sync = Sync {
        options,
        places,
        backup,
        selection,
    };
    Job::new(workers, sync).within(resources)
}

/// One sync with its checked options.
struct Sync {
    options: SyncOptions,
    places: [Location; 2],
    backup: Option<Location>,
    selection: Selection,
}

impl Work for Sync {
    fn run(self: Box<Self>, desk: &Arc<Desk>) -> Result<Report, Refusal> {
        let options = &self.options;
        let session = Session::open(options.session, Arc::clone(&desk.cancel))?;
        if let Some(path) = options.uploads.as_ref().filter(|_| !options.dry_run) {
            session.remember(Uploads::open(path)?);
        }
        let local = LocalOptions {
            filter: options.filter.clone(),
            spill_directory: options.spill_directory.clone(),
            modes: options.modes,
            sync: options.sync,
            clears: !options.dry_run,
            unlisted: false,
            links: options.links,
            one_file_system: false,
            like: None,
        };
        // From one directory of this machine to another.
        let like = |place: &Location| LocalOptions {
            like: place.directory().map(<[u8]>::to_vec),
            ..local.clone()
        };
        let [from, to] = &self.places;
        if let (None, Some(source), Some(destination)) = (&options.names, from.directory(), to.directory()) {
            refuse_view([source, destination], !options.dry_run, desk)?;
        }
        let source = from.open(&session, Side::Source, &options.source_config, &local)?;
        let side = Side::Destination(0);
        let destination = to.open(&session, side, &options.destination_config, &like(from))?;
        let backup = self.backup.as_ref();
        let aside = LocalOptions {
            unlisted: true,
            ..like(to)
        };
        let backup = backup.map(|place| place.open(&session, side, &options.backup_config, &aside));
        let backup = backup.transpose()?;
        let stores = Stores {
            source: &*source,
            destination: &*destination,
            backup: backup.as_deref(),
            // What is named was named on both sides.
            common: options.names.is_none().then(|| common(from, to)).flatten(),
        };
        let mut report = between(options, &self.selection, stores, desk).map_err(|refusal| match refusal {
            Refusal::NoSource(_) => refused(refusal, (from, &options.source_config), &session, &local),
            refusal => refusal,
        })?;
        // Nothing stays of what was begun, but for uploads in parts that the next run goes on with.
        report.totals.unfinished = session.uploads().map_or(0, Uploads::begun);
        Ok(report)
    }
}

/// What a sync is between.
struct Stores<'s> {
    source: &'s dyn Store,
    destination: &'s dyn Store,
    /// Where is kept what is replaced or removed.
    backup: Option<&'s dyn Store>,
    /// The keys of a directory that may be both's.
    common: Option<[Vec<u8>; 2]>,
}

/// Syncs two stores.
fn between(
    options: &SyncOptions,
    selection: &Selection,
    stores: Stores<'_>,
    desk: &Arc<Desk>,
) -> Result<Report, Refusal> {
    let Stores {
        source,
        destination,
        backup,
        common,
    } = stores;
    let workers = desk.counters.len();
    desk.staff(workers);
    desk.enter(Phase::Scanning);
    desk.unlisted();
    // What is there is no finding of ours; what can't be listed is.
    let other = desk.rehearsal();
    let input = Input::of(options, [source, destination], desk, &other)?;
    if let Some(before) = options.abort_stale {
        for store in [Some(destination), backup].into_iter().flatten() {
            abort_stale(store, before, options.dry_run, desk)?;
        }
    }
    let (state, known) = remembered(options, source, destination)?;
    let run = Run {
        options,
        selection,
        partition: options.conditions()?,
        deed: Deed {
            desk,
            source,
            destination,
            rules: Rules {
                compare: options.compare,
                conflict: options.conflict,
            },
            chosen: options.chosen,
            proof: options.proof,
            retry: options.session.retry,
            backup,
            batches: Batches::new(desk, options.batch),
            links: options.links,
            dry_run: options.dry_run,
        },
        desk,
        common,
        state: state.as_ref(),
        blocked: Blocked::new(options.spill_directory.as_deref(), desk),
        broken: OnceLock::new(),
        partial: AtomicBool::new(false),
        interrupted: AtomicBool::new(false),
        met: AtomicU64::new(0),
        carried: AtomicU64::new(0),
        there: AtomicU64::new(0),
    };
    let walked = other.report(Durability::None, 0, false);
    for failure in walked.failures {
        run.partial.store(true, Ordering::Relaxed);
        desk.fail(failure);
    }
    let ordered =
        (options.dry_run && options.entry_events).then(|| Ordered::hold(desk, options.spill_directory.as_deref()));
    let extra = Mutex::new(Doomed::new(options.spill_directory.as_deref(), desk));
    let (give, given) = sync_channel(QUEUE);
    let given = Mutex::new(given);
    let input = Mutex::new(Some((input, known, give)));
    let unstarted = drive(workers, |index| {
        let first = input.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((input, mut known, give)) = first {
            match input {
                Input::Listed(mut join) => run.find(index, &mut join, known.as_mut(), &give, &extra),
                Input::Named(names) => run.find_named(index, names, known.as_mut(), &give, &extra),
            }
            desk.listed();
            desk.expect_found(|found| reads(options) * found);
        }
        run.work(index, &given);
    });
    note_unstarted(desk, unstarted);
    let extra = extra.into_inner().unwrap_or_else(PoisonError::into_inner);
    let withheld = run.sweep(extra, workers)?;
    run.unblock(workers, withheld.is_some())?;
    if let Some(ordered) = ordered {
        ordered.release(desk);
    }
    if let Some(refusal) = run.broken.into_inner() {
        return Err(refusal);
    }
    if let Some(state) = &state {
        desk.enter(Phase::Closing);
        state.close(desk)?;
    }
    let interrupted = run.interrupted.load(Ordering::Relaxed) || desk.cancel.is_draining();
    let whole = !interrupted && !run.partial.load(Ordering::Relaxed) && desk.findings.failed() == 0;
    if whole && !options.dry_run {
        abort_left([Some(destination), backup], desk);
    }
    let durability = if options.sync {
        Durability::All
    } else {
        Durability::None
    };
    let mut report = desk.report(durability, desk.most_staff(), interrupted);
    report.withheld.extend(withheld);
    Ok(report)
}

fn note_unstarted(desk: &Desk, unstarted: Option<std::io::Error>) {
    if let Some(error) = unstarted {
        desk.note("threads", || {
            (Vec::new(), format!("a worker could not be started: {error}"))
        });
    }
}

/// How often each byte of what is brought over is read, as far as that is known before.
fn reads(options: &SyncOptions) -> u64 {
    u64::from(!options.dry_run) * (1 + u64::from(options.proof == Proof::Full))
}

/// Gives up uploads below a place that nobody has ended.
fn abort_stale(store: &dyn Store, before: Time, dry_run: bool, desk: &Desk) -> Result<(), Refusal> {
    let mut told = |key: &[u8]| {
        desk.note("stale-uploads", || {
            let text = if dry_run {
                "an upload that nobody has ended would be given up"
            } else {
                "an upload that nobody has ended was given up"
            };
            (store.path(key), text.to_owned())
        });
    };
    match store.abort_stale(before, dry_run, &mut told) {
        Ok(()) | Err(Stopped::Aborted) => Ok(()),
        Err(Stopped::Fault(fault)) => {
            let text = format!("abort-stale: {}", cause_of(&fault));
            Err(Refusal::of_place(fault.side, text, fault.kind() == "unavailable"))
        }
    }
}

/// Gives up uploads that earlier runs of this job have begun, and nobody goes on with: what was to be sent is another now, or
/// gone.
fn abort_left(stores: [Option<&dyn Store>; 2], desk: &Desk) {
    for store in stores.into_iter().flatten() {
        let mut told = |key: &[u8]| {
            desk.note("stale-uploads", || {
                let text = "an upload that an earlier run has begun was given up: it is of no use any more";
                (store.path(key), text.to_owned())
            });
        };
        match store.abort_left(&mut told) {
            Ok(()) | Err(Stopped::Aborted) => {}
            // It is in no listing, and the next run tries again.
            Err(Stopped::Fault(fault)) => desk.note("stale-uploads", || {
                let text = format!("what earlier runs have begun can't be given up: {}", cause_of(&fault));
                (store.path(b""), text)
            }),
        }
    }
}

/// What the state file says, where there is one.
fn remembered(
    options: &SyncOptions,
    source: &dyn Store,
    destination: &dyn Store,
) -> Result<(Option<State>, Option<Known>), Refusal> {
    let Some(path) = &options.state else {
        return Ok((None, None));
    };
    let places = [&source.identity()[..], &destination.identity()[..]];
    let spill = options.spill_directory.as_deref();
    let (state, known) = State::open(path, places, spill, !options.dry_run)?;
    Ok((Some(state), Some(known)))
}

/// Where keys come from.
enum Input<'l> {
    Listed(Box<Join<'l>>),
    Named(&'l Names),
}

impl<'l> Input<'l> {
    /// Both sides listed, or what was named. What a walk has found is all that there is.
    fn of(
        options: &'l SyncOptions,
        [source, destination]: [&'l dyn Store; 2],
        desk: &'l Arc<Desk>,
        other: &'l Desk,
    ) -> Result<Self, Refusal> {
        if let Some(names) = &options.names {
            return Ok(Self::Named(names));
        }
        let theirs = source.list(desk)?;
        if source.abilities().walks {
            desk.expect_found(|found| reads(options) * found);
        }
        let ours = destination.list(other)?;
        let join = Join::new(theirs, ours, destination.abilities().directories);
        Ok(Self::Listed(Box::new(join)))
    }
}

/// What a sync knows on its way.
struct Run<'s> {
    options: &'s SyncOptions,
    selection: &'s Selection,
    partition: Option<Conditions>,
    deed: Deed<'s>,
    desk: &'s Arc<Desk>,
    common: Option<[Vec<u8>; 2]>,
    state: Option<&'s State>,
    /// What waits until extra entries are gone.
    blocked: Blocked,
    /// Why nothing more is done: temporary files, the state file.
    broken: OnceLock<Refusal>,
    /// Not all is known of what there is.
    partial: AtomicBool,
    interrupted: AtomicBool,
    /// Entries of the source, those of them that the destination may have, and entries of that.
    met: AtomicU64,
    carried: AtomicU64,
    there: AtomicU64,
}

impl Run<'_> {
    /// Whether rules exclude a key, or a directory above it, or it is in no partition that was asked for.
    fn is_excluded(&self, key: &[u8]) -> bool {
        if self.partition.as_ref().is_some_and(|wanted| !wanted.hold(key)) {
            return true;
        }
        match key.strip_suffix(b"/") {
            Some(path) => self.selection.excludes_path(path, Kind::Directory),
            None => self.selection.excludes_path(key, Kind::File),
        }
    }

    fn give_up(&self, refusal: Refusal) {
        self.broken.get_or_init(|| refusal);
        self.desk.cancel.drain();
    }

    /// Finds keys and gives them out.
    fn find(
        &self,
        index: usize,
        join: &mut Join<'_>,
        known: Option<&mut Known>,
        give: &SyncSender<Task>,
        extra: &Mutex<Doomed>,
    ) {
        let mut way = Way::default();
        self.meet(index, join, (&mut way, known), give, extra);
        for (task, is_empty) in way.end() {
            self.consider(index, task, is_empty, give);
        }
    }

    /// Meets keys until there are no more, or nothing more is known of the source.
    fn meet(
        &self,
        index: usize,
        join: &mut Join<'_>,
        (way, mut known): (&mut Way, Option<&mut Known>),
        give: &SyncSender<Task>,
        extra: &Mutex<Doomed>,
    ) {
        // Of a listing that is no walk nobody else is the finder.
        let walks = self.deed.source.abilities().walks;
        loop {
            if self.desk.cancel.is_draining() {
                self.interrupted.store(true, Ordering::Relaxed);
                return;
            }
            match join.next() {
                Ok(None) => return,
                Ok(Some(Met {
                    source,
                    destination: there,
                })) => {
                    self.there.fetch_add(u64::from(there.is_some()), Ordering::Relaxed);
                    let key = source.as_ref().or(there.as_ref()).map_or(&b""[..], |entry| &entry.key);
                    for (task, is_empty) in way.pass(key) {
                        self.consider(index, task, is_empty, give);
                    }
                    let Some(entry) = source else {
                        if let Some(entry) = there
                            && self.keep_extra(&entry, extra)
                        {
                            way.extra(&entry.key);
                        }
                        continue;
                    };
                    let excluded = !entry.failed && self.is_excluded(&entry.key);
                    if excluded && !walks {
                        self.desk.counters[index].excluded();
                        continue;
                    }
                    self.met.fetch_add(1, Ordering::Relaxed);
                    if !walks {
                        self.desk.counters[index].found(entry.kind);
                        if entry.kind == Kind::File {
                            self.desk.counters[index].sized(entry.size, entry.size);
                        }
                    }
                    let remembered = match known.as_mut().map(|known| known.of(&entry.key)) {
                        Some(Err(refusal)) => return self.give_up(refusal),
                        Some(Ok(remembered)) => remembered,
                        None => None,
                    };
                    let is_empty = !join.source_next().is_some_and(|next| next.key.starts_with(&entry.key));
                    let task = Task {
                        destination: there,
                        known: join.knows_destination(),
                        remembered,
                        ..Task::of(entry)
                    };
                    // A walk has found it already.
                    if excluded {
                        self.skipped(index, &task, Reason::NotSelected);
                        continue;
                    }
                    way.hold(task, is_empty);
                }
                Err(Broken::Source(stopped)) => return self.lost(stopped, self.deed.source),
                Err(Broken::Destination(stopped)) => self.lost(stopped, self.deed.destination),
            }
        }
    }

    /// Gives out keys that were named.
    fn find_named(
        &self,
        index: usize,
        names: &Names,
        mut known: Option<&mut Known>,
        give: &SyncSender<Task>,
        extra: &Mutex<Doomed>,
    ) {
        let (mut removed, mut taken) = (names.removed.clone(), names.taken.clone());
        removed.sort_unstable();
        removed.dedup();
        taken.sort_unstable();
        taken.dedup();
        let entry = |key| Entry {
            key,
            kind: Kind::File,
            size: 0,
            written: Time { sec: 0, nsec: 0 },
            tag: Vec::new(),
            facts: None,
            failed: false,
        };
        for key in removed {
            self.there.fetch_add(1, Ordering::Relaxed);
            self.keep_extra(&entry(key), extra);
        }
        for (key, renamed) in taken {
            if self.desk.cancel.is_draining() || !self.desk.may_begin() {
                self.interrupted.store(true, Ordering::Relaxed);
                return;
            }
            self.met.fetch_add(1, Ordering::Relaxed);
            self.desk.counters[index].found(Kind::File);
            let remembered = match known.as_mut().map(|known| known.of(&key)) {
                Some(Err(refusal)) => return self.give_up(refusal),
                Some(Ok(remembered)) => remembered,
                None => None,
            };
            let task = Task {
                renamed,
                named: true,
                remembered,
                ..Task::of(entry(key))
            };
            self.give(index, task, give);
        }
    }

    /// Whoever would wait for room works.
    fn give(&self, index: usize, task: Task, give: &SyncSender<Task>) {
        if let Err(TrySendError::Full(task) | TrySendError::Disconnected(task)) = give.try_send(task) {
            self.perform(index, task);
        }
    }

    /// A listing has ended in an error.
    fn lost(&self, stopped: Stopped, store: &dyn Store) {
        self.partial.store(true, Ordering::Relaxed);
        match stopped {
            Stopped::Aborted => self.interrupted.store(true, Ordering::Relaxed),
            Stopped::Fault(fault) => {
                self.desk
                    .fail(Failure::new(&fault, store.path(b""), Kind::Directory, None));
            }
        }
    }

    /// Keeps what is to go; answers whether it is.
    fn keep_extra(&self, entry: &Entry, extra: &Mutex<Doomed>) -> bool {
        if !self.removes() || entry.failed || self.is_excluded(&entry.key) {
            return false;
        }
        let mut extra = extra.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(refusal) = extra.push(entry, self.deed.destination.abilities().directories) {
            self.give_up(refusal);
        }
        true
    }

    /// Gives a key out, or closes it where nothing is to be done with what it is.
    fn consider(&self, index: usize, mut task: Task, is_empty: bool, give: &SyncSender<Task>) {
        let entry = &task.source;
        if entry.failed {
            self.partial.store(true, Ordering::Relaxed);
            return;
        }
        let parts = entry.key.split(|byte| *byte == b'/');
        if self.deed.source.abilities().directories && parts.clone().any(|part| staging::parse(part).is_some()) {
            return self.skipped(index, &task, Reason::StagingName);
        }
        match entry.kind {
            _ if !self.has_directories() => {
                // A marker is an object like any other.
                task.source.kind = Kind::File;
                if let Some(there) = &mut task.destination {
                    there.kind = Kind::File;
                }
            }
            Kind::File => {}
            Kind::Directory if is_empty && self.options.markers => {
                if task.destination.is_some() {
                    self.carried.fetch_add(1, Ordering::Relaxed);
                    return self.skipped(index, &task, Reason::Unchanged);
                }
            }
            Kind::Directory => {
                if is_empty && task.destination.is_none() {
                    self.desk.note("empty-directories", || {
                        let text = "an empty directory is not carried: nothing is in it that could be".to_owned();
                        (self.deed.source.path(&entry.key), text)
                    });
                }
                return self.skipped(index, &task, Reason::NotNeeded);
            }
            Kind::Symlink => {
                self.desk.note("symlinks", || {
                    (self.deed.source.path(&entry.key), "symlinks are not carried".to_owned())
                });
                return self.skipped(index, &task, Reason::NotAFile);
            }
            _ => {
                self.desk.note("special", || {
                    let text = "FIFOs, sockets and devices are left out".to_owned();
                    (self.deed.source.path(&entry.key), text)
                });
                return self.skipped(index, &task, Reason::Special);
            }
        }
        self.carried.fetch_add(1, Ordering::Relaxed);
        if !self.desk.may_begin() {
            self.interrupted.store(true, Ordering::Relaxed);
            return;
        }
        self.give(index, task, give);
    }

    /// Whether anything may go.
    fn removes(&self) -> bool {
        self.options.delete
            || self
                .options
                .names
                .as_ref()
                .is_some_and(|names| !names.removed.is_empty())
    }

    fn has_directories(&self) -> bool {
        self.deed.source.abilities().directories || self.deed.destination.abilities().directories
    }

    /// Does keys until there are no more.
    fn work(&self, index: usize, given: &Mutex<Receiver<Task>>) {
        loop {
            let task = given.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(task) = task else { return };
            if self.desk.cancel.is_draining() {
                self.interrupted.store(true, Ordering::Relaxed);
                continue;
            }
            self.perform(index, task);
        }
    }

    fn perform(&self, index: usize, mut task: Task) {
        let counters = &self.desk.counters[index];
        let done = catch_unwind(AssertUnwindSafe(|| self.deed.perform(&mut task, counters)));
        let done = done.unwrap_or_else(|panic| Err(Fault::panic(&*panic).into()));
        match done {
            Ok(Done::Skipped(reason, now)) => {
                if reason == Reason::Unchanged && now != task.remembered {
                    self.remember(&task.source.key, now.as_ref());
                }
                self.skipped(index, &task, reason);
            }
            Ok(Done::Copied(changes, now)) => {
                self.remember(&task.source.key, now.as_ref());
                let size = task.source.size;
                counters.outcome(Kind::File, Outcome::Copied, None, size);
                counters.brought(changes.contains(Changes::NEW));
                self.tell(&task, Outcome::Copied, None, (changes, size));
            }
            Ok(Done::Made) => {
                counters.outcome(Kind::Directory, Outcome::Made, None, 0);
                self.tell(&task, Outcome::Made, None, (Changes::NEW, 0));
            }
            Err(Stopped::Aborted) => self.interrupted.store(true, Ordering::Relaxed),
            Err(Stopped::Fault(fault)) if Blocked::is_why(&task, &fault) => {
                if let Err(refusal) = self.blocked.wait(&task.source) {
                    self.give_up(refusal);
                }
            }
            Err(Stopped::Fault(fault)) => self.failed(index, &task, &fault),
        }
    }

    fn failed(&self, index: usize, task: &Task, fault: &Fault) {
        let kind = task.source.kind;
        self.desk.counters[index].outcome(kind, fault.outcome(), None, 0);
        let path = match fault.side {
            Side::Source => self.deed.source.path(&task.source.key),
            Side::Destination(_) => self.deed.destination.path(task.target()),
        };
        self.desk.fail(Failure::new(fault, path, kind, None));
    }

    /// Does what waited until extra entries were gone, or tells that they are there still.
    fn unblock(&self, workers: usize, stays: bool) -> Result<(), Refusal> {
        let released = self.blocked.release()?;
        let in_the_way = Fault::conflict(
            Operation::Create,
            0,
            "something extra is in its way, which was not removed",
        );
        let unstarted = drive(workers, |index| {
            loop {
                match released.next() {
                    Ok(None) => return,
                    Ok(Some(_)) if self.is_stopped() => return self.interrupted.store(true, Ordering::Relaxed),
                    Ok(Some(task)) if stays => self.failed(index, &task, &in_the_way),
                    Ok(Some(task)) => self.perform(index, task),
                    Err(refusal) => return self.give_up(refusal),
                }
            }
        });
        note_unstarted(self.desk, unstarted);
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed) || self.desk.cancel.is_draining()
    }

    fn remember(&self, key: &[u8], remembered: Option<&Remembered>) {
        if self.options.dry_run {
            return;
        }
        if let Some(Err(refusal)) = self.state.map(|state| state.add(key, remembered)) {
            self.give_up(refusal);
        }
    }

    fn skipped(&self, index: usize, task: &Task, reason: Reason) {
        let entry = &task.source;
        self.desk.counters[index].outcome(entry.kind, Outcome::Skipped, Some(reason), entry.size);
        self.tell(task, Outcome::Skipped, Some(reason), (Changes::default(), 0));
    }

    fn tell(&self, task: &Task, outcome: Outcome, reason: Option<Reason>, (changes, bytes): (Changes, u64)) {
        if !self.options.entry_events {
            return;
        }
        let entry = &task.source;
        self.desk.tell(EntryEvent {
            outcome,
            kind: entry.kind,
            path: task.target().to_vec(),
            source: self.deed.source.path(&entry.key),
            destination: self.deed.destination.path(task.target()),
            bytes,
            changes,
            reason,
            target: None,
            hash: None,
            digests: Vec::new(),
            details: None,
        });
    }

    /// Why nothing extra goes.
    fn holds_back(&self, extra: u64) -> Option<(&'static str, String)> {
        let because = |kind, why: &str| Some((kind, format!("{why}, so nothing extra was removed")));
        let (there, met) = (self.there.load(Ordering::Relaxed), self.met.load(Ordering::Relaxed));
        if self.is_stopped() {
            return because("interrupted", "it was stopped before its end");
        }
        if self.partial.load(Ordering::Relaxed) {
            return because("failed", "not all of what there is could be listed");
        }
        if self.desk.findings.failed() > 0 {
            return because("failed", "something failed");
        }
        if self.options.names.is_none() && self.carried.load(Ordering::Relaxed) == 0 {
            let why = if met == 0 {
                "the source is empty"
            } else {
                "the source has nothing that is carried"
            };
            return because("empty-source", why);
        }
        let most = self.options.max_delete?;
        let text = format!(
            "{extra} of {there} entries would go, and max-delete allows {}",
            most.of(there)
        );
        most.forbids(extra, there).then_some(())?;
        because("max-delete", &text)
    }

    /// Removes what only the destination has, if that was asked for and nothing speaks against it.
    fn sweep(&self, extra: Doomed, workers: usize) -> Result<Option<Withheld>, Refusal> {
        if !self.removes() {
            return Ok(None);
        }
        if extra.entries == 0 && self.met.load(Ordering::Relaxed) > 0 {
            return Ok(None);
        }
        if let Some((kind, message)) = self.holds_back(extra.entries).or_else(|| self.is_view()) {
            return Ok(Some(Withheld {
                kind,
                what: "extra",
                message,
            }));
        }
        self.desk.enter(Phase::Sweeping);
        extra.sweep(workers, self.desk, |index, batch| {
            let keys: Vec<Vec<u8>> = batch.iter().map(|victim| victim.key.clone()).collect();
            self.remove(index, &keys);
        })?;
        Ok(None)
    }

    /// Why nothing may go where both sides show one directory.
    fn is_view(&self) -> Option<(&'static str, String)> {
        let [there, here] = self.common.as_ref().filter(|_| !self.options.dry_run)?;
        let Deed {
            source, destination, ..
        } = self.deed;
        let why = match shows([source, destination], [there, here]) {
            Ok(false) => return None,
            Ok(true) => {
                "the source and the destination are one place, or one is in the other, seen in another way".to_owned()
            }
            Err(Stopped::Aborted) => "it was interrupted".to_owned(),
            Err(Stopped::Fault(fault)) => {
                let cause = cause_of(&fault);
                format!("whether the destination shows what is in the source can't be told: {cause}")
            }
        };
        Some(("source-view", format!("{why}, so nothing extra was removed")))
    }

    fn remove(&self, index: usize, keys: &[Vec<u8>]) {
        let counters = &self.desk.counters[index];
        let kind = |key: &[u8]| {
            if key.ends_with(b"/") {
                Kind::Directory
            } else {
                Kind::File
            }
        };
        for key in keys {
            counters.found_in(Side::Destination(0), kind(key));
        }
        let mut told = |key: &[u8], gone: Result<Gone, Fault>| {
            let (outcome, reason) = match &gone {
                Ok(Gone::Removed) => (Outcome::Removed, None),
                Ok(Gone::Vanished) => (Outcome::Skipped, Some(Reason::Vanished)),
                Ok(Gone::NotEmpty) => (Outcome::Skipped, Some(Reason::NotEmpty)),
                Err(fault) => (fault.outcome(), None),
            };
            counters.extra_outcome(outcome, reason);
            if let Err(fault) = &gone {
                let path = self.deed.destination.path(key);
                return self.desk.fail(Failure::new(fault, path, kind(key), None));
            }
            self.remember(key, None);
            if self.options.entry_events {
                self.desk.tell(EntryEvent {
                    outcome,
                    kind: kind(key),
                    path: key.to_vec(),
                    source: Vec::new(),
                    destination: self.deed.destination.path(key),
                    bytes: 0,
                    changes: Changes::EXTRA,
                    reason,
                    target: None,
                    hash: None,
                    digests: Vec::new(),
                    details: None,
                });
            }
        };
        let removed = self.set_aside(keys, counters, &mut told).and_then(|left| {
            let keys = left.as_deref().unwrap_or(keys);
            if self.options.dry_run {
                for key in keys {
                    told(key, Ok(Gone::Removed));
                }
                return Ok(());
            }
            self.deed.destination.delete(keys, &mut told)
        });
        match removed {
            Ok(()) => {}
            Err(Stopped::Aborted) => self.interrupted.store(true, Ordering::Relaxed),
            Err(Stopped::Fault(fault)) => {
                let path = self.deed.destination.path(b"");
                self.desk.fail(Failure::new(&fault, path, Kind::Directory, None));
            }
        }
    }

    /// Keeps what is to be removed; answers what may go then, where that is not all. Of a name that somebody gave nobody knows yet
    /// whether it is there, and a server that removes many does not say it.
    fn set_aside(
        &self,
        keys: &[Vec<u8>],
        counters: &Counters,
        told: Told<'_>,
    ) -> Result<Option<Vec<Vec<u8>>>, Stopped> {
        if (self.deed.backup.is_none() || self.options.dry_run) && self.options.names.is_none() {
            return Ok(None);
        }
        let mut kept = Vec::with_capacity(keys.len());
        for key in keys {
            let set_aside = match self.deed.destination.stat(key) {
                // A directory of a disk goes only when nothing is in it.
                _ if key.ends_with(b"/") && self.deed.destination.abilities().directories => Ok(true),
                Ok(None) => Ok(false),
                Ok(Some(_)) if self.options.dry_run => Ok(true),
                Ok(Some(mut there)) => {
                    if !self.deed.destination.abilities().directories {
                        // A marker is an object like any other.
                        there.kind = Kind::File;
                    }
                    self.deed.set_aside(&there, counters).map(|()| true)
                }
                Err(stopped) => Err(stopped),
            };
            match set_aside {
                Ok(true) => kept.push(key.clone()),
                Ok(false) => told(key, Ok(Gone::Vanished)),
                Err(Stopped::Aborted) => return Err(Stopped::Aborted),
                Err(Stopped::Fault(fault)) => told(key, Err(fault)),
            }
        }
        Ok(Some(kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;
    use crate::store::Facts;
    use bulkhaul_engine::sweep::limit::MaxDelete;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Files = BTreeMap<String, (Vec<u8>, i64)>;

    fn store(side: Side, files: &Files) -> Memory {
        filled(Memory::new(side), files)
    }

    fn filled(memory: Memory, files: &Files) -> Memory {
        for (key, (content, sec)) in files {
            let mtime = Some(Time { sec: *sec, nsec: 0 });
            memory.insert(
                key.as_bytes(),
                content,
                Facts {
                    mtime,
                    ..Facts::default()
                },
            );
        }
        memory
    }

    fn sync(options: &SyncOptions, source: &Memory, destination: &Memory) -> Report {
        let desk = Arc::new(Desk::new(3));
        let selection = Selection::of(options.filter.as_ref()).unwrap();
        let stores = Stores {
            source,
            destination,
            backup: None,
            common: None,
        };
        between(options, &selection, stores, &desk).unwrap()
    }

    fn files() -> impl Strategy<Value = Files> {
        // Few keys, so that both sides have some of them, with what sorts before and after a slash.
        let key = "[ab][/!0]?[ab]?";
        let file = (proptest::collection::vec(0..3_u8, 0..3), 0..3_i64);
        proptest::collection::btree_map(key, file, 0..9)
    }

    /// As directories have them: no name is a file and a directory.
    fn paths() -> impl Strategy<Value = Files> {
        files().prop_map(|mut files| {
            let keys: Vec<String> = files.keys().cloned().collect();
            let is_above = |above: &String, key: &str| {
                key.strip_prefix(above.as_str())
                    .is_some_and(|rest| rest.starts_with('/'))
            };
            files.retain(|key, _| !key.ends_with('/') && !keys.iter().any(|above| is_above(above, key)));
            files
        })
    }

    #[test]
    fn what_was_listed_is_all_that_there_is_to_do() {
        let source = [("a", 5), ("b/c", 2), ("d", 0)];
        let source = source.map(|(key, size)| (key.to_owned(), (vec![1_u8; size], 0)));
        for (proof, times) in [(Proof::Size, 1), (Proof::Full, 2)] {
            let (from, to) = (
                store(Side::Source, &Files::from(source.clone())),
                Memory::new(Side::Destination(0)),
            );
            let desk = Arc::new(Desk::new(3));
            let options = SyncOptions {
                proof,
                ..SyncOptions::default()
            };
            let stores = Stores {
                source: &from,
                destination: &to,
                backup: None,
                common: None,
            };
            between(&options, &Selection::of(None).unwrap(), stores, &desk).unwrap();
            let expected = desk.peek().expected.unwrap();
            let bytes = expected.bytes.unwrap();
            assert_eq!((expected.files, bytes.found, bytes.to_read), (3, 7, 7 * times));
            assert_eq!(expected.to_do, expected.entries);
        }
    }

    proptest! {
        #[test]
        fn what_is_synced_is_the_same(source in files(), destination in files(), checksum: bool) {
            let options = SyncOptions {
                compare: if checksum { options::Compare::Checksum } else { options::Compare::Mtime },
                delete: true,
                ..SyncOptions::default()
            };
            let (from, to) = (store(Side::Source, &source), store(Side::Destination(0), &destination));
            let report = sync(&options, &from, &to);
            prop_assert!(report.accounted);
            if source.is_empty() {
                // What is empty may be a mistake.
                prop_assert_eq!(report.withheld.len(), 1);
                prop_assert_eq!(to.all().len(), destination.len());
                return Ok(());
            }
            prop_assert!(report.is_complete());
            let keys = |memory: &Memory| memory.all().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
            prop_assert_eq!(keys(&from), keys(&to));
            // What has the same size and time is taken for the same, but where contents are compared.
            let is_taken = |key: &[u8]| {
                let key = str::from_utf8(key).unwrap();
                let (theirs, ours) = (&source[key], destination.get(key));
                !checksum && ours.is_some_and(|ours| ours.0.len() == theirs.0.len() && ours.1 == theirs.1)
            };
            for ((key, theirs), (_, ours)) in from.all().iter().zip(&to.all()) {
                prop_assert!(theirs == ours || is_taken(key));
            }
            let again = sync(&options, &from, &to);
            prop_assert_eq!(again.totals.outcome_of(Outcome::Copied), 0);
        }

        #[test]
        fn what_is_in_the_way_goes_first(source in paths(), destination in paths(), allowed: bool) {
            let max_delete = (!allowed).then_some(MaxDelete::Entries(0));
            let options = SyncOptions { delete: true, max_delete, ..SyncOptions::default() };
            let from = filled(Memory::of_paths(Side::Source), &source);
            let to = filled(Memory::of_paths(Side::Destination(0)), &destination);
            let report = sync(&options, &from, &to);
            prop_assert!(report.accounted);
            let extra: Vec<&String> = destination.keys().filter(|key| !source.contains_key(*key)).collect();
            let is_below = |key: &str, above: &str| key.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'));
            let blocked = source.keys().filter(|key| {
                extra.iter().any(|extra| is_below(key, extra) || is_below(extra, key))
            });
            if source.is_empty() || !(allowed || extra.is_empty()) {
                prop_assert_eq!(report.totals.outcome_of(Outcome::Conflict), blocked.count() as u64);
                prop_assert!(destination.keys().all(|key| to.all().iter().any(|(there, _)| there == key.as_bytes())));
                return Ok(());
            }
            prop_assert!(report.is_complete());
            let keys = |memory: &Memory| memory.all().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
            prop_assert_eq!(keys(&from), keys(&to));
        }

        #[test]
        fn a_dry_run_tells_what_a_run_does_and_does_nothing(source in files(), destination in files()) {
            let options = SyncOptions { delete: true, ..SyncOptions::default() };
            let (from, to) = (store(Side::Source, &source), store(Side::Destination(0), &destination));
            let before = to.all();
            let told = sync(&SyncOptions { dry_run: true, ..options.clone() }, &from, &to);
            prop_assert_eq!(to.all(), before);
            let done = sync(&options, &from, &to);
            prop_assert_eq!(told.totals.outcomes, done.totals.outcomes);
        }
    }
}
