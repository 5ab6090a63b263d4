//! Unpacking: what is in shards, or in any tar, becomes a tree again; or is listed, or verified.
//!
//! Comes in: [`UnpackOptions`]; goes out: a [`Job`] that finds out what there is (`plan`), reads it (`archive`), and writes
//! it below the target (`tree`). Promises: nothing is written outside of the target, whatever the archive says: absolute
//! names and `..` are refused and counted, and no link is followed, neither one that is there nor one that was just made. A
//! file appears under its name when it is whole and has the digest that the index knows; what is there already with size and
//! time is left. Damage costs the entries that it hits, which are named. Of several entries of one path the last counts.
//! Memory does not grow with the number of entries.
//!
//! Files come first, by all workers at once, then further names of them, then what directories are to have, the deepest
//! first.

mod archive;
mod names;
mod plan;
mod rehearse;
mod salvage;
mod tape;
mod tell;
mod tree;
mod words;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhaul_formats::digest::{Algorithm, Hashers};
use bulkhaul_formats::shards::Packed;
use bulkhaul_sys::Kind;

use self::archive::{Archives, Opened};
pub use self::archive::{Find, Place};
use self::names::{Counted, Counting};
use self::plan::{Chosen, plan};
use self::rehearse::Rehearsal;
use self::tape::Tape;
use self::tell::Teller;
use self::tree::{Hand, Tree};
pub use self::words::Task;
use self::words::{Done, compare};
use crate::entry::Outcome;
use crate::error::{Failure, Fault, Refusal, Stopped};
use crate::job::desk::{Desk, Phase};
use crate::job::resources::{Resources, Staff};
use crate::job::{Job, Work, process};
use crate::pool::schedule::drive;
use crate::records::entry::kind_of;
use crate::records::sort::{SORT_BYTES, Sorters};
use crate::report::counters::Counters;
use crate::report::{Durability, Report};
use crate::tree::descriptors::Budget;
use crate::tree::path;

/// Entries that a worker takes at once.
const BATCH_ENTRIES: usize = 64;
/// What lies between two entries is read too, where it is no more.
const GAP_BYTES: u64 = 64 * 1024;
/// Bytes of an archive that they have together, about.
const BATCH_BYTES: u64 = 1024 * 1024;

/// What is unpacked, as asked for.
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an independent option of the command line"
)]
pub struct UnpackOptions {
    /// A directory of shards, or a tar file, which may be compressed.
    pub archive: Vec<u8>,
    /// What is done.
    pub task: Task,
    /// Only these paths, with what is in them; `*`, `?` and `[` as rsync has them. Empty: all.
    pub only: Vec<Vec<u8>>,
    /// What follows the end of an archive belongs to it: several in a row are taken for one.
    pub ignore_zeros: bool,
    /// Owner and group are kept.
    pub owner: bool,
    /// Tell, and write nothing.
    pub dry_run: bool,
    /// Directory for temporary files without a name; `None`: memory is used.
    pub spill_directory: Option<Vec<u8>>,
    /// Memory for sorting, in bytes.
    pub sort_memory: usize,
    /// Worker threads; 0: one a processor.
    pub jobs: usize,
    /// What it may take of the machine.
    pub resources: Resources,
    /// Send an event for each entry.
    pub entry_events: bool,
}

impl Default for UnpackOptions {
    fn default() -> Self {
        Self {
            archive: Vec::new(),
            task: Task::List,
            only: Vec::new(),
            ignore_zeros: false,
            owner: true,
            dry_run: false,
            spill_directory: None,
            sort_memory: SORT_BYTES,
            jobs: 0,
            resources: Resources::default(),
            entry_events: false,
        }
    }
}

/// A job that unpacks, lists or verifies. Checks the options; touches nothing.
pub fn job(options: UnpackOptions) -> Result<Job, Refusal> {
    job_from(options, None)
}

/// The same of archives that lie where `find` says; what `archive` says is for messages then.
pub fn job_from(options: UnpackOptions, find: Option<Find>) -> Result<Job, Refusal> {
    let staff = Staff::of(options.jobs, process::process().processors)?;
    path::check(&options.archive)?;
    if let Task::Into(target) = &options.task {
        path::check(target)?;
    }
    let chosen = Chosen::of(&options.only)?;
    let unpack = Unpack {
        options,
        find,
        staff,
        chosen,
    };
    let resources = unpack.options.resources;
    Job::new(staff.most(), unpack).within(resources)
}

struct Unpack {
    options: UnpackOptions,
    find: Option<Find>,
    staff: Staff,
    chosen: Chosen,
}

/// What the workers of one run share.
struct Run<'r> {
    desk: &'r Arc<Desk>,
    teller: Teller<'r>,
    options: &'r UnpackOptions,
    archives: &'r Archives,
    tree: Option<&'r Tree>,
    /// In a dry run.
    rehearsal: Option<&'r Rehearsal>,
    entries: Mutex<Counting>,
    sorters: &'r Sorters,
    refusal: Mutex<Option<Refusal>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Run<'_> {
    /// Has all workers take entries, to the end. `links`: they are further names of files that are there.
    fn drive(&self, workers: usize) {
        let work = |index: usize| {
            let done = catch_unwind(AssertUnwindSafe(|| self.work(&self.desk.counters[index])));
            match done {
                Ok(Ok(())) => {}
                Ok(Err(refusal)) => {
                    locked(&self.refusal).get_or_insert(refusal);
                    self.desk.cancel.drain();
                }
                Err(panic) => {
                    let fault = Fault::panic(&*panic);
                    self.desk.fail(Failure::new(&fault, Vec::new(), Kind::File, None));
                }
            }
        };
        if let Some(error) = drive(workers, work) {
            self.desk.lacks_worker(&error);
        }
    }

    /// Some entries.
    fn batch(&self) -> Result<Vec<Counted>, Refusal> {
        let mut entries = locked(&self.entries);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_ENTRIES && bytes < BATCH_BYTES {
            let next = entries.next().map_err(|errno| self.sorters.refusal(errno))?;
            let Some(counted) = next else { break };
            bytes += counted.packed.length;
            batch.push(counted);
        }
        Ok(batch)
    }

    fn work(&self, counters: &Counters) -> Result<(), Refusal> {
        let mut hand = self.tree.map(|tree| tree.hand(self.desk, counters));
        let (mut digest, mut reader) = (Hashers::new(&[Algorithm::Blake3]), None);
        loop {
            let batch = self.batch()?;
            if batch.is_empty() {
                return Ok(());
            }
            let until = until(&batch);
            for (counted, until) in batch.into_iter().zip(until) {
                if self.desk.cancel.is_draining() || !self.desk.may_begin() {
                    return Ok(());
                }
                let packed = &counted.packed;
                match self.entry((&counted, until), hand.as_mut(), &mut digest, &mut reader) {
                    Ok(Some(done)) => self.record(counters, packed, &done),
                    // Further names and directories have their turn later.
                    Ok(None) => {}
                    Err(Stopped::Fault(fault)) => {
                        // Where it stands is not known any more.
                        reader = None;
                        self.failed(counters, packed, &fault);
                    }
                    Err(Stopped::Aborted) => return Ok(()),
                }
            }
        }
    }

    fn entry(
        &self,
        (counted, until): (&Counted, u64),
        hand: Option<&mut Hand<'_>>,
        digest: &mut Hashers,
        reader: &mut Option<(Arc<Opened>, Tape)>,
    ) -> Result<Option<Done>, Stopped> {
        let packed = &counted.packed;
        if let Some(rehearsal) = self.rehearsal {
            return Ok(Some(rehearsal.entry(packed, counted.meets)?));
        }
        let kind = kind_of(&packed.entry);
        let bytes = if kind == Kind::File {
            packed.entry.size.unwrap_or_default()
        } else {
            0
        };
        let told = |outcome| Done::of(outcome, bytes);
        if self.options.task == Task::List {
            return Ok(Some(told(Outcome::Listed)));
        }
        let mut hand = hand;
        if let Some(hand) = hand.as_deref_mut() {
            if let Some(done) = hand.further_name(packed)? {
                return Ok(Some(done));
            }
            if let Some(first) = &counted.first {
                hand.later(packed, first)?;
                return Ok(None);
            }
        }
        let archive = self.archives.of(packed)?;
        if self.options.task == Task::Verify && archive.is_proved {
            return Ok(Some(told(Outcome::Same)));
        }
        let (archive, tape) = match reader.take() {
            Some(open) if Arc::ptr_eq(&open.0, &archive) => reader.insert(open),
            _ => reader.insert((Arc::clone(&archive), archive.tape())),
        };
        tape.until(until);
        let entry = archive.header(tape, packed)?;
        let Some(hand) = hand else {
            let found = archive.content((tape, &entry), digest, self.desk, &mut |_, _| Ok(()))?;
            compare(packed, &entry.header, &found)?;
            return Ok(Some(told(Outcome::Same)));
        };
        hand.entry(packed, (archive, tape), &entry, digest)
    }

    fn record(&self, counters: &Counters, packed: &Packed, done: &Done) {
        let kind = kind_of(&packed.entry);
        if self.options.dry_run && done.outcome != Outcome::Skipped {
            counters.planned(done.bytes, done.bytes, true);
        }
        counters.outcome(kind, done.outcome, done.reason, done.bytes);
        self.teller.tell(packed, done);
    }

    fn failed(&self, counters: &Counters, packed: &Packed, fault: &Fault) {
        let kind = kind_of(&packed.entry);
        counters.outcome(kind, fault.outcome(), None, 0);
        let shard = format!("in {}", path::show(&packed.shard));
        let path = packed.entry.path.clone();
        self.desk.fail(Failure::new(fault, path, kind, Some(&shard)));
    }
}

/// For each entry of a batch, up to where those lie that come right after it in its archive.
fn until(batch: &[Counted]) -> Vec<u64> {
    let mut ends: Vec<u64> = Vec::with_capacity(batch.len());
    for Counted { packed, .. } in batch.iter().rev() {
        let end = packed.offset.saturating_add(packed.length);
        let next = batch.len() - ends.len();
        let goes_on = batch.get(next).is_some_and(|Counted { packed: next, .. }| {
            next.shard == packed.shard && next.offset.saturating_sub(end) <= GAP_BYTES
        });
        ends.push(ends.last().copied().filter(|_| goes_on).unwrap_or(end));
    }
    ends.reverse();
    ends
}

impl Unpack {
    /// Where the content of a compressed archive goes.
    fn scratch(&self) -> Vec<u8> {
        match &self.options.task {
            Task::Into(target) if !self.options.dry_run => target.clone(),
            _ => self.options.spill_directory.clone().unwrap_or_else(|| b".".to_vec()),
        }
    }
}

impl Work for Unpack {
    fn run(mut self: Box<Self>, desk: &Arc<Desk>) -> Result<Report, Refusal> {
        let options = &self.options;
        desk.enter(Phase::Scanning);
        let (_, most, _) = Budget::share(desk.counters.len());
        let workers = self.staff.steady(most);
        desk.staff(workers);
        let sorters = Sorters::new(options.spill_directory.as_deref(), options.sort_memory, 4).counted(desk.steps());
        let how = (self.scratch(), options.ignore_zeros);
        let mut archives = Archives::open(&options.archive, self.find.take(), how, desk)?;
        let options = &self.options;
        let rehearsal = match &options.task {
            Task::Into(target) if options.dry_run => Some(Rehearsal::open(target)?),
            Task::Into(_) | Task::List | Task::Verify => None,
        };
        let folds = rehearsal.as_ref().is_some_and(|rehearsal| rehearsal.folds);
        let mut entries = plan(&archives, (&self.chosen, folds), &sorters, desk)?;
        desk.expect_found(|found| desk.read_bytes() + found);
        desk.enter(Phase::Copying);
        let tree = match &options.task {
            Task::Into(target) if !options.dry_run => Some(Tree::open(target, options.owner, &sorters, desk)?),
            Task::Into(_) | Task::List | Task::Verify => None,
        };
        if options.task == Task::Verify {
            archives.prove(desk);
        }
        let teller = Teller {
            desk,
            entries: options.entry_events,
            archives: &archives,
            target: options.task.target(),
        };
        loop {
            let run = Run {
                desk,
                teller,
                options,
                archives: &archives,
                tree: tree.as_ref(),
                rehearsal: rehearsal.as_ref(),
                entries: Mutex::new(entries),
                sorters: &sorters,
                refusal: Mutex::default(),
            };
            run.drive(workers);
            if let Some(refusal) = locked(&run.refusal).take() {
                return Err(refusal);
            }
            // Further names of files that are there by now.
            match tree.as_ref().and_then(|tree| tree.links(&sorters).transpose()) {
                Some(links) => entries = links?,
                None => break,
            }
        }
        if let Some(tree) = &tree {
            desk.enter(Phase::Closing);
            tree.close(teller, &sorters, desk)?;
        }
        let sync = if tree.is_some() {
            Durability::All
        } else {
            Durability::None
        };
        Ok(desk.report(sync, workers, desk.cancel.is_draining()))
    }
}
