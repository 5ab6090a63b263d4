//! Compare: two places side by side, of which one at least is a store.
//!
//! Comes in: [`CompareOptions`]; goes out: a [`Job`], whose report counts what only one side has and what both have otherwise.
//! Both are listed in the order of their keys and meet key by key. Files differ when their sizes do, or, where that is asked for,
//! their contents, which are read on both sides: no sum that somebody kept is taken for them. Nothing is written.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhaul_engine::Kind;
use bulkhaul_engine::entry::{Changes, Outcome, Reason};
use bulkhaul_engine::error::{Failure, Fault, Refusal, Side, Stopped};
use bulkhaul_engine::event::{EntryEvent, Event};
use bulkhaul_engine::job::desk::{Desk, Phase};
use bulkhaul_engine::job::resources::Resources;
use bulkhaul_engine::job::{Job, Work};
use bulkhaul_engine::pool::schedule::drive;
use bulkhaul_engine::report::counters::Counters;
use bulkhaul_engine::report::{Differences, Durability, Report};
use bulkhaul_engine::tree::selection::{Rules, Selection};

use crate::join::{Broken, Join, Met};
use crate::local::LocalOptions;
use crate::location::Location;
use crate::s3::Config;
use crate::session::{JOBS, Session, SessionOptions};
use crate::store::{Entry, Store, Summing, Sums};

/// A comparison, as asked for.
#[derive(Clone, Default)]
pub struct CompareOptions {
    /// URL or path: what is, or was.
    pub left: Vec<u8>,
    /// What it is compared with.
    pub right: Vec<u8>,
    /// How the store of the left side is reached.
    pub left_config: Config,
    /// The same of the right side.
    pub right_config: Config,
    /// Contents are read where the sizes are equal.
    pub content: bool,
    /// Exclude rules; what they exclude is nowhere looked at.
    pub filter: Option<Rules>,
    /// Requests and parts.
    pub session: SessionOptions,
    /// Entries at work at once; 0: as many as suit the places.
    pub jobs: usize,
    /// What it may take of the machine.
    pub resources: Resources,
    /// Directory for temporary files without a name; none: memory is used.
    pub spill_directory: Option<Vec<u8>>,
    /// An event for each difference.
    pub entry_events: bool,
}

/// A job that compares. Checks the options; asks nothing yet.
pub fn job(options: CompareOptions) -> Result<Job, Refusal> {
    let places = [Location::parse(&options.left)?, Location::parse(&options.right)?];
    if let [Location::Local(_), Location::Local(_)] = places {
        return Err(Refusal::Usage("both places are paths: compare compares them".into()));
    }
    let customary = places.iter().map(Location::jobs).min().unwrap_or(JOBS);
    let workers = match options.jobs {
        // What is only listed comes in its order.
        _ if !options.content => 1,
        0 => customary,
        jobs => jobs,
    };
    let (resources, selection) = (options.resources, Selection::of(options.filter.as_ref())?);
    let compare = Compare {
        options,
        places,
        selection,
    };
    Job::new(workers, compare).within(resources)
}

struct Compare {
    options: CompareOptions,
    places: [Location; 2],
    selection: Selection,
}

impl Work for Compare {
    fn run(self: Box<Self>, desk: &Arc<Desk>) -> Result<Report, Refusal> {
        let options = &self.options;
        let session = Session::open(options.session, Arc::clone(&desk.cancel))?;
        let local = LocalOptions {
            filter: options.filter.clone(),
            spill_directory: options.spill_directory.clone(),
            ..LocalOptions::default()
        };
        let [left, right] = &self.places;
        // Both are read only.
        let left = left.open(&session, Side::Source, &options.left_config, &local)?;
        let right = right.open(&session, Side::Source, &options.right_config, &local)?;
        let workers = desk.counters.len();
        desk.staff(workers);
        desk.enter(Phase::Scanning);
        // What is compared is found on the way: nobody knows how much there is before the end.
        desk.unlisted();
        let join = Join::new(left.list(desk)?, right.list(desk)?, false);
        let run = Run {
            options,
            selection: &self.selection,
            desk,
            sides: [&*left, &*right],
            walks: [&left, &right].map(|side| side.abilities().walks),
            directories: left.abilities().directories && right.abilities().directories,
            counts: Mutex::default(),
            partial: AtomicBool::new(false),
        };
        let join = Mutex::new(join);
        let unstarted = drive(workers, |index| {
            while let Some(met) = run.next(&join, &desk.counters[index]) {
                run.compare(met, &desk.counters[index]);
            }
        });
        desk.listed();
        if let Some(error) = unstarted {
            desk.note("threads", || {
                (Vec::new(), format!("a worker could not be started: {error}"))
            });
        }
        let mut report = desk.report(Durability::None, desk.most_staff(), desk.cancel.is_draining());
        report.differences = *run.counts();
        Ok(report)
    }
}

/// What a comparison knows on its way.
struct Run<'s> {
    options: &'s CompareOptions,
    selection: &'s Selection,
    desk: &'s Arc<Desk>,
    sides: [&'s dyn Store; 2],
    /// A walk counts what it finds.
    walks: [bool; 2],
    /// Both sides have directories of their own.
    directories: bool,
    counts: Mutex<Differences>,
    /// Not all is known of what there is.
    partial: AtomicBool,
}

impl Run<'_> {
    fn counts(&self) -> MutexGuard<'_, Differences> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next key. An error of a listing is told, and what the other side has after it is no difference.
    fn next(&self, join: &Mutex<Join<'_>>, counters: &Counters) -> Option<Met> {
        let mut join = join.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.desk.cancel.is_draining() {
            let (stopped, side) = match join.next() {
                Ok(Some(met)) if self.is_excluded(&met) => {
                    counters.excluded();
                    continue;
                }
                Ok(Some(met)) => {
                    self.found([met.source.as_ref(), met.destination.as_ref()], counters);
                    return Some(met);
                }
                Ok(None) => return None,
                Err(Broken::Source(stopped)) => (stopped, self.sides[0]),
                Err(Broken::Destination(stopped)) => (stopped, self.sides[1]),
            };
            self.partial.store(true, Ordering::Relaxed);
            if let Stopped::Fault(fault) = stopped {
                let failure = Failure::new(&fault, side.path(b""), Kind::Directory, None);
                self.desk.fail(failure);
            }
        }
        None
    }

    /// Whether rules exclude a key; a walk has heeded them.
    fn is_excluded(&self, met: &Met) -> bool {
        met.source
            .as_ref()
            .or(met.destination.as_ref())
            .is_some_and(|entry| !entry.failed && self.selection.excludes_path(entry.path(), entry.kind))
    }

    fn found(&self, both: [Option<&Entry>; 2], counters: &Counters) {
        let mut counts = self.counts();
        for (at, entry) in both.into_iter().enumerate() {
            let Some(entry) = entry else { continue };
            if !self.walks[at] {
                counters.found(entry.kind);
                counters.sized(entry.size, entry.size);
            }
            if at == 0 {
                counts.left_entries += 1;
            } else {
                counts.right_entries += 1;
            }
        }
    }

    fn compare(&self, met: Met, counters: &Counters) {
        let both = [met.source, met.destination];
        let there: Vec<&Entry> = both.iter().flatten().collect();
        // What could not be looked at has its outcome.
        if there.iter().any(|entry| entry.failed) {
            for entry in there.iter().filter(|entry| !entry.failed) {
                counters.outcome(entry.kind, Outcome::Skipped, Some(Reason::NotNeeded), entry.size);
            }
            return;
        }
        let unknown = self.partial.load(Ordering::Relaxed) && there.len() < 2;
        let reason = there.iter().find_map(|entry| match entry.kind {
            _ if unknown => Some(Reason::NotNeeded),
            Kind::File => None,
            Kind::Directory if self.directories => None,
            Kind::Directory => Some(Reason::NotNeeded),
            Kind::Symlink => Some(Reason::NotAFile),
            _ => Some(Reason::Special),
        });
        let outcome = match (reason, &both) {
            (Some(_), _) => Ok((Outcome::Skipped, Changes::default())),
            (None, [Some(left), Some(right)]) => {
                let differs = catch_unwind(AssertUnwindSafe(|| self.differs(left, right)));
                differs.unwrap_or_else(|panic| Err(Fault::panic(&*panic).into()))
            }
            (None, [Some(_), None]) => Ok((Outcome::Different, Changes::NEW)),
            (None, _) => Ok((Outcome::Different, Changes::EXTRA)),
        };
        match outcome {
            Ok((outcome, changes)) => {
                for entry in &there {
                    counters.outcome(entry.kind, outcome, reason, entry.size);
                }
                if outcome == Outcome::Different {
                    self.tell(&both, changes);
                }
            }
            // Nothing stays of what is only read.
            Err(Stopped::Aborted) => {}
            Err(Stopped::Fault(fault)) => {
                for entry in &there {
                    counters.outcome(entry.kind, fault.outcome(), None, 0);
                }
                let path = there
                    .first()
                    .map_or_else(Vec::new, |entry| self.sides[0].path(&entry.key));
                self.desk.fail(Failure::new(&fault, path, Kind::File, None));
            }
        }
    }

    fn differs(&self, left: &Entry, right: &Entry) -> Result<(Outcome, Changes), Stopped> {
        let mut changes = Changes::default();
        if left.kind != right.kind || left.size != right.size {
            changes.insert(Changes::SIZE);
            changes.insert(Changes::CONTENT);
        } else if self.options.content && left.kind == Kind::File {
            let sums = [self.sums(self.sides[0], left)?, self.sums(self.sides[1], right)?];
            if (sums[0].bytes, &sums[0].blake3) != (sums[1].bytes, &sums[1].blake3) {
                changes.insert(Changes::CONTENT);
            }
        }
        let same = changes.is_empty();
        Ok((if same { Outcome::Same } else { Outcome::Different }, changes))
    }

    fn sums(&self, store: &dyn Store, entry: &Entry) -> Result<Sums, Stopped> {
        let mut reading = store.read(entry)?;
        let mut sums = Summing::new();
        let part_bytes = store.part_bytes(entry.size);
        while let Some(part) = reading.next(part_bytes)? {
            self.desk.may_go_on(part.bytes.len() as u64)?;
            sums.update(&part.bytes);
        }
        reading.close()?;
        Ok(sums.finish())
    }

    fn tell(&self, both: &[Option<Entry>; 2], changes: Changes) {
        let mut counts = self.counts();
        let one = match both {
            [Some(left), Some(_)] => {
                counts.changed += 1;
                left
            }
            [Some(left), None] => {
                counts.left += 1;
                left
            }
            [None, Some(right)] => {
                counts.right += 1;
                right
            }
            [None, None] => return,
        };
        drop(counts);
        if !self.options.entry_events {
            return;
        }
        self.desk.queue.push(Event::Entry(EntryEvent {
            outcome: Outcome::Different,
            kind: one.kind,
            path: one.key.clone(),
            source: self.sides[0].path(&one.key),
            destination: self.sides[1].path(&one.key),
            bytes: 0,
            changes,
            reason: None,
            target: None,
            hash: None,
            digests: Vec::new(),
            details: None,
        }));
    }
}
