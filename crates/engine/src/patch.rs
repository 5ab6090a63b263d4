//! A patch: what turns one tree into another, applied to a tree.
//!
//! Comes in: [`PatchOptions`]: a change list as [`crate::compare`] or hpcp writes it, the directories that have what it
//! brings, and the target; goes out: a [`Job`]. It plans every row before anything changes: a row that is done already is
//! passed over, one that meets something else is a conflict. With conflicts nothing is done, unless they are overruled; what
//! would leave the target, or has no directory to go to, or that the patch does not have whole, is never done. Then goes what
//! goes, directories are made, files and links come, metadata of directories that were there is put right, and all of it is
//! looked at again. Killed at any moment, the same application goes on: what is done is passed over, and what was begun and
//! not finished is taken away. Memory does not grow with the number of rows.

pub mod act;
pub mod look;
pub mod options;
pub mod place;
pub mod plan;
pub mod rows;

use std::sync::Arc;

use bulkhaul_formats::lists::changes::{self, Op, State};
use bulkhaul_formats::lists::natural;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind, OwnedFd};

use crate::bytes::output::Output;
use crate::bytes::transfer::BUFFER_BYTES;
use crate::bytes::ways::Methods;
use crate::entry::{Changes, Outcome, Reason};
use crate::error::{Failure, Fault, Operation, Refusal, Side, Stopped, describe};
use crate::event::{EntryEvent, Event, VICTIMS_SHOWN, Victims};
use crate::job::desk::{Desk, Expected, ExpectedBytes, Phase};
use crate::job::process::process;
use crate::job::resources::Staff;
use crate::job::{Job, Work};
use crate::patch::act::Actor;
use crate::patch::look::{Eyes, Keeps};
use crate::patch::options::PatchOptions;
use crate::patch::place::Finder;
use crate::patch::plan::{CONFLICT_TEXTS, Planned, Planner, Verdict, Waiting};
use crate::patch::rows::{Step, decode, encode, inner_first, kind_of};
use crate::pool::window::in_order;
use crate::records::record::path_key;
use crate::records::sort::{SORT_BYTES, Sorted, Sorter, Sorters};
use crate::report::{Durability, Report};
use crate::tree::descriptors::Budget;
use crate::tree::keep::Keep;
use crate::tree::metadata::Scratch;
use crate::tree::path::{check, join, open_directory_path, show, split, trim};
use crate::tree::staging::Stager;

/// What a question is about: conflicts that would be overruled.
pub const CONFLICTS: &str = "conflicts";
/// Nothing, but the way back is to be kept before the answer.
pub const UNDO: &str = "undo";

/// A job that applies a patch. Checks the options; touches nothing.
pub fn job(options: PatchOptions) -> Result<Job, Refusal> {
    for path in options.payloads.iter().chain([&options.changes, &options.target]) {
        check(path)?;
    }
    let staff = Staff::of(options.jobs, process().processors)?;
    let resources = options.resources;
    Job::new(staff.most(), Apply { options, staff }).within(resources)
}

struct Apply {
    options: PatchOptions,
    staff: Staff,
}

/// What all threads of an application share.
struct Ground<'g> {
    options: &'g PatchOptions,
    desk: &'g Desk,
    sorters: &'g Sorters,
    target: OwnedFd,
    payloads: Vec<OwnedFd>,
    keeps: Keeps,
    keep: Keep,
    mount: u64,
    stager: Stager,
    methods: Methods,
    workers: usize,
}

impl Work for Apply {
    fn run(self: Box<Self>, desk: &Arc<Desk>) -> Result<Report, Refusal> {
        let options = &self.options;
        let (_, most, _) = Budget::share(desk.counters.len());
        let workers = self.staff.steady(most).min(desk.counters.len());
        desk.staff(workers);
        let sorters = Sorters::new(options.spill_directory.as_deref(), SORT_BYTES, 8).counted(desk.steps());
        let ground = Ground::open(options, desk, &sorters, workers)?;
        desk.enter(Phase::Scanning);
        let Some(mut plan) = ground.plan(desk)? else {
            return Ok(desk.report(Durability::None, workers, true));
        };
        if !ground.consent(&mut plan)? {
            return Ok(desk.report(Durability::None, workers, desk.cancel.is_draining()));
        }
        let sync = ground.apply(plan)?;
        Ok(desk.report(sync, workers, desk.cancel.is_draining()))
    }
}

/// What is to be done, by the order in which it is.
struct Plan {
    /// What is no directory, and goes.
    going: Sorter,
    /// Directories that go, what is in one before it.
    emptied: Sorter,
    /// Directories that come.
    made: Sorter,
    /// Files and links that come.
    filled: Sorter,
    /// Directories that are there and become others, what is in one before it.
    dressed: Sorter,
    steps: u64,
    bytes: u64,
    /// Bytes that what comes takes, without holes.
    room: u64,
    /// What is in the way, until it is known whether it is overruled.
    conflicting: Sorter,
    conflicts: u64,
    first: Vec<Vec<u8>>,
    /// Nothing may be done.
    never: bool,
    undo: Option<Back>,
}

/// The way back, on its way.
struct Back {
    rows: Sorter,
    changes: Output,
    steps: u64,
    bytes: u64,
    line: Vec<u8>,
    key: Vec<u8>,
}

impl<'g> Ground<'g> {
    fn open(options: &'g PatchOptions, desk: &'g Desk, sorters: &'g Sorters, workers: usize) -> Result<Self, Refusal> {
        let open = |path: &[u8]| open_directory_path(trim(path), Follow::Yes);
        let refuse = |path: &[u8]| {
            let path = show(path);
            move |errno| Refusal::NoDestination(format!("{path}: {}", describe(errno)))
        };
        let target = open(&options.target).map_err(refuse(&options.target))?;
        let mut payloads = Vec::with_capacity(options.payloads.len());
        for path in &options.payloads {
            let refuse = |errno| Refusal::NoSource(format!("{}: {}", show(path), describe(errno)));
            payloads.push(open(path).map_err(refuse)?);
        }
        let (_, mount) = sys::stat_mounted(target.as_fd()).map_err(refuse(&options.target))?;
        let keeps = Keeps::of(target.as_fd());
        let process = process();
        let all = keeps == Keeps::All;
        let keep = Keep {
            mode: all,
            owner: all,
            acls: all,
            xattrs: all,
            capabilities: all,
            ..Keep::whole(process.umask, process.reach)
        };
        Ok(Self {
            options,
            desk,
            sorters,
            target,
            payloads,
            keeps,
            keep,
            mount,
            stager: Stager::new(),
            methods: Methods::default(),
            workers,
        })
    }

    fn planner(&self) -> Planner<'_> {
        let options = self.options;
        Planner {
            eyes: Eyes::new(self.desk, (options.hash, options.hash_size), self.keeps),
            target: Finder::new(&self.target),
            payloads: self.payloads.iter().map(Finder::new).collect(),
            stager: self.stager,
            undo: options.undo.is_some(),
            desk: self.desk,
        }
    }

    fn actor(&self, worker: usize) -> Actor<'_> {
        Actor {
            planner: self.planner(),
            keep: &self.keep,
            methods: &self.methods,
            sync: self.options.sync,
            mount: self.mount,
            counters: &self.desk.counters[worker],
            desk: self.desk,
            scratch: Scratch::default(),
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    /// Judges every row, and tells what is in the way. `None`: the run was told to stop.
    fn plan(&self, desk: &Arc<Desk>) -> Result<Option<Plan>, Refusal> {
        let Some(mut rows) = rows::read(&self.options.changes, self.desk, self.sorters)? else {
            return Ok(None);
        };
        self.desk.expect(Expected {
            entries: rows.number,
            files: rows.number,
            bytes: None,
            to_do: rows.number,
            estimated: false,
        });
        let sorter = || self.sorters.sorter();
        let undo = match (&self.options.undo, self.options.dry_run) {
            (Some(path), false) => {
                let mut changes = Output::create_private(path, desk)?;
                changes.write(changes::HEADER)?;
                Some(Back {
                    rows: sorter(),
                    changes,
                    steps: 0,
                    bytes: 0,
                    line: Vec::new(),
                    key: Vec::new(),
                })
            }
            _ => None,
        };
        let mut plan = Plan {
            going: sorter(),
            emptied: sorter(),
            made: sorter(),
            filled: sorter(),
            dressed: sorter(),
            steps: 0,
            bytes: 0,
            room: 0,
            conflicting: sorter(),
            conflicts: 0,
            first: Vec::new(),
            never: false,
            undo,
        };
        let mut waiting = Waiting::default();
        let next = || {
            // Nothing new is begun once the run is told to stop.
            let step = if self.desk.cancel.is_draining() {
                None
            } else {
                rows.next()?
            };
            Ok(step.map(|step| {
                let bytes = step.bytes();
                (Planned::new(step), Some(bytes))
            }))
        };
        let judged = in_order(
            self.workers,
            |_| self.planner(),
            next,
            |planner, planned| {
                planner.judge(planned);
                0
            },
            |planned| waiting.take(planned, |planned| self.settle(&mut plan, planned)),
            |error| self.desk.lacks_worker(&error),
        );
        let done = judged.and_then(|()| waiting.end(|planned| self.settle(&mut plan, planned)));
        if let Err(refusal) = done {
            if let Some(back) = plan.undo.take() {
                back.discard()?;
            }
            return Err(refusal);
        }
        self.has_room(&mut plan)?;
        Ok(Some(plan))
    }

    /// Takes a judged step into the plan.
    fn settle(&self, plan: &mut Plan, planned: Planned) -> Result<(), Refusal> {
        let (mut step, counters) = (planned.step, &self.desk.counters[0]);
        let kind = step.kind();
        match planned.verdict {
            Verdict::Stopped => return Ok(()),
            Verdict::Done => {
                counters.found(kind);
                self.record(0, &step, Outcome::Skipped, Some(Reason::Unchanged));
                return Ok(());
            }
            Verdict::Never(fault) => {
                plan.never = true;
                counters.found(kind);
                self.fail(0, &step, &fault);
                return Ok(());
            }
            Verdict::Conflict(_) if self.is_beyond_undo(&step, planned.before.as_ref()) => {
                plan.never = true;
                counters.found(kind);
                let what = "something else is there, and no patch could bring it back: not with the way back";
                self.fail(0, &step, &Fault::conflict(Operation::Stat, 0, what));
                return Ok(());
            }
            Verdict::Conflict(what) => {
                step.forced = true;
                plan.resist(&step, what, self.sorters)?;
            }
            Verdict::Apply => {}
        }
        if self.options.dry_run && (self.options.force || !step.forced) {
            counters.found(kind);
            self.record(0, &step, outcome_of(&step), None);
        }
        plan.steps += 1;
        plan.bytes += step.bytes();
        plan.room += planned.room;
        if let Some(back) = &mut plan.undo {
            back.add(&step, planned.before.as_ref(), self.sorters)?;
        }
        plan.put(&step, self.sorters)
    }

    /// Whether the way back is asked for, and what would be overruled has none: a directory with what it holds, and what no
    /// row tells.
    fn is_beyond_undo(&self, step: &Step, before: Option<&State>) -> bool {
        let Some(was) = step.was.filter(|_| self.options.undo.is_some()) else {
            return false;
        };
        let goes = step.op() == Op::Remove || step.kind() != Kind::Directory;
        (was.kind == Kind::Directory && goes) || matches!(before, None | Some(State::Absent))
    }

    /// Tells what is in the way, and is not overruled.
    fn resisted(&self, plan: &mut Plan) -> Result<(), Refusal> {
        let conflicting = std::mem::replace(&mut plan.conflicting, self.sorters.sorter());
        let mut sorted = Sorted::merge(vec![conflicting]).map_err(|errno| self.sorters.refusal(errno))?;
        while let Some((_, payload)) = sorted.next().map_err(|errno| self.sorters.refusal(errno))? {
            let broken = || self.sorters.refusal(Errno::IO);
            let (number, rest) = payload.split_first().ok_or_else(broken)?;
            let step = decode(rest).ok_or_else(broken)?;
            let what = CONFLICT_TEXTS.get(usize::from(*number)).ok_or_else(broken)?;
            self.desk.counters[0].found(step.kind());
            self.fail(0, &step, &Fault::conflict(Operation::Stat, 0, what));
        }
        Ok(())
    }

    /// Whether what comes has room.
    fn has_room(&self, plan: &mut Plan) -> Result<(), Refusal> {
        let Ok(room) = sys::capacity(self.target.as_fd()) else {
            return Ok(());
        };
        if plan.room <= room.free_bytes || self.options.dry_run {
            return Ok(());
        }
        if let Some(back) = plan.undo.take() {
            back.discard()?;
        }
        Err(Refusal::NoSpace(format!(
            "{}: the patch brings {} bytes, and {} are free; nothing was changed",
            show(&self.options.target),
            plan.room,
            room.free_bytes
        )))
    }

    /// Whether it is to be done, and may be.
    fn consent(&self, plan: &mut Plan) -> Result<bool, Refusal> {
        let asked = |what: &'static str, entries, bytes, first: Vec<Vec<u8>>| {
            self.desk.ask(vec![Victims {
                what,
                entries,
                bytes,
                first,
            }])
        };
        let mut agreed = !plan.never && !self.options.dry_run && !self.desk.cancel.is_draining();
        if plan.conflicts > 0 && !self.options.force {
            let first = std::mem::take(&mut plan.first);
            agreed = agreed && self.options.confirm && asked(CONFLICTS, plan.conflicts, 0, first);
            if !agreed && !self.desk.cancel.is_draining() {
                self.resisted(plan)?;
            }
        }
        if plan.conflicts > 0 && agreed {
            let message = format!("conflicts are overruled: {}", plan.conflicts);
            self.desk.note("overruled", || (self.options.target.clone(), message));
        }
        let Some(back) = plan.undo.take() else {
            return Ok(agreed);
        };
        if !agreed {
            back.discard()?;
            return Ok(false);
        }
        let (steps, bytes) = (back.steps, back.bytes);
        back.finish(self.sorters)?;
        Ok(asked(UNDO, steps, bytes, Vec::new()))
    }

    /// Does all of it.
    fn apply(&self, plan: Plan) -> Result<Durability, Refusal> {
        let all = self.desk.progress().0 + plan.steps;
        self.desk.expect(Expected {
            entries: all,
            files: all,
            bytes: Some(ExpectedBytes {
                found: plan.bytes,
                to_read: plan.bytes,
            }),
            to_do: all,
            estimated: false,
        });
        let mut proofs = self.sorters.sorter();
        self.desk.enter(Phase::Removing);
        self.stage(plan.going, self.workers, &mut proofs)?;
        // What is in a directory goes before it.
        self.stage(plan.emptied, 1, &mut proofs)?;
        self.desk.enter(Phase::Copying);
        self.stage(plan.made, 1, &mut proofs)?;
        self.stage(plan.filled, self.workers, &mut proofs)?;
        self.stage(plan.dressed, 1, &mut proofs)?;
        self.desk.enter(Phase::Closing);
        let sync = if self.options.sync == Durability::None {
            Durability::None
        } else {
            let _syncing = self.desk.syncing();
            match sys::sync_file_system(self.target.as_fd()) {
                Ok(()) => self.options.sync,
                Err(errno) => {
                    let fault = Fault::new(Operation::Sync, Side::Destination(0), errno);
                    self.desk
                        .fail(Failure::new(&fault, self.options.target.clone(), Kind::Directory, None));
                    Durability::None
                }
            }
        };
        self.prove(proofs)?;
        Ok(sync)
    }

    /// Does the steps of one kind, and hands those that are done on to be proved.
    fn stage(&self, steps: Sorter, workers: usize, proofs: &mut Sorter) -> Result<(), Refusal> {
        let mut sorted = Sorted::merge(vec![steps]).map_err(|errno| self.sorters.refusal(errno))?;
        let mut sweeper = Cleared {
            actor: self.actor(0),
            done: Vec::new(),
        };
        let next = || {
            if self.desk.cancel.is_draining() {
                return Ok(None);
            }
            let next = sorted.next().map_err(|errno| self.sorters.refusal(errno))?;
            let Some((_, payload)) = next else { return Ok(None) };
            let step = decode(payload).ok_or_else(|| self.sorters.refusal(Errno::IO))?;
            sweeper.clear(&step);
            self.desk.counters[0].found(step.kind());
            let bytes = step.bytes();
            Ok(Some(((step, None), Some(bytes))))
        };
        let work = |(actor, worker): &mut (Actor<'_>, usize), (step, result): &mut (Step, Option<Outcome>)| {
            match actor.act(step) {
                Ok(outcome) => *result = Some(outcome),
                Err(stopped) => self.stopped(*worker, step, stopped),
            }
            0
        };
        let (mut key, mut payload) = (Vec::new(), Vec::new());
        let tell = |(step, result): (Step, Option<Outcome>)| {
            let Some(outcome) = result else { return Ok(()) };
            // A directory may be closed to whoever is not root, in the end.
            inner_first(&step.row, &mut key);
            if self.keep.reach.privileged {
                path_key(step.path(), &mut key);
            }
            encode(&step, &mut payload);
            payload.insert(0, outcome as u8);
            proofs.push(&key, &payload).map_err(|errno| self.sorters.refusal(errno))
        };
        in_order(
            workers,
            |worker| (self.actor(worker), worker),
            next,
            work,
            tell,
            |error| self.desk.lacks_worker(&error),
        )
    }

    /// Looks at all that was done, and closes its books. What was done is told also where the run is to stop.
    fn prove(&self, proofs: Sorter) -> Result<(), Refusal> {
        let mut sorted = Sorted::merge(vec![proofs]).map_err(|errno| self.sorters.refusal(errno))?;
        let mut actor = self.actor(0);
        while let Some((_, payload)) = sorted.next().map_err(|errno| self.sorters.refusal(errno))? {
            let broken = || self.sorters.refusal(Errno::IO);
            let (number, rest) = payload.split_first().ok_or_else(broken)?;
            let step = decode(rest).ok_or_else(broken)?;
            let outcome = *Outcome::ALL.get(usize::from(*number)).ok_or_else(broken)?;
            match actor.prove(&step) {
                Ok(()) => self.record(0, &step, outcome, None),
                Err(stopped) => self.stopped(0, &step, stopped),
            }
        }
        Ok(())
    }

    fn stopped(&self, worker: usize, step: &Step, stopped: Stopped) {
        match stopped {
            Stopped::Fault(fault) => self.fail(worker, step, &fault),
            Stopped::Aborted => {}
        }
    }

    fn fail(&self, worker: usize, step: &Step, fault: &Fault) {
        self.desk.counters[worker].outcome(step.kind(), fault.outcome(), None, step.bytes());
        let root = match fault.side {
            Side::Source => self.options.payloads.get(step.volume),
            Side::Destination(_) => Some(&self.options.target),
        };
        let path = root.map_or_else(|| step.path().to_vec(), |root| join(trim(root), step.path()));
        self.desk.fail(Failure::new(fault, path, step.kind(), None));
    }

    fn record(&self, worker: usize, step: &Step, outcome: Outcome, reason: Option<Reason>) {
        let bytes = step.bytes();
        self.desk.counters[worker].outcome(step.kind(), outcome, reason, bytes);
        if !self.options.entry_events {
            return;
        }
        let path = step.path();
        let target = match &step.row.new {
            State::Symlink(text) => Some(text.clone()),
            _ => None,
        };
        let payload = self.options.payloads.get(step.volume);
        self.desk.queue.push(Event::Entry(EntryEvent {
            outcome,
            kind: step.kind(),
            path: if path.is_empty() { b".".to_vec() } else { path.to_vec() },
            source: payload.map_or_else(Vec::new, |root| join(trim(root), path)),
            destination: join(trim(&self.options.target), path),
            bytes: if outcome == Outcome::Copied { bytes } else { 0 },
            changes: changes_of(step),
            reason,
            target,
            hash: None,
            digests: Vec::new(),
            details: None,
        }));
    }
}

/// Directories whose leftovers are gone, from the root to where the work is.
struct Cleared<'c> {
    actor: Actor<'c>,
    done: Vec<Vec<u8>>,
}

impl Cleared<'_> {
    /// Takes away what dead runs have left beside a step. What can't be done costs nothing else.
    fn clear(&mut self, step: &Step) {
        let (parent, _) = split(step.path());
        let below = |above: &Vec<u8>| {
            above.is_empty()
                || parent == above
                || parent
                    .strip_prefix(&above[..])
                    .is_some_and(|rest| rest.starts_with(b"/"))
        };
        while self.done.last().is_some_and(|last| !below(last)) {
            self.done.pop();
        }
        if self.done.iter().any(|done| done == parent) {
            return;
        }
        self.done.push(parent.to_vec());
        match self.actor.clear_beside(step) {
            Ok(()) | Err(_) => {}
        }
    }
}

/// What becomes of the entry of a step.
fn outcome_of(step: &Step) -> Outcome {
    match (step.op(), step.kind()) {
        (Op::Remove, _) => Outcome::Removed,
        (_, Kind::File) => Outcome::Copied,
        (Op::Modify, Kind::Directory) => Outcome::Metadata,
        _ => Outcome::Made,
    }
}

/// In what its two states differ.
fn changes_of(step: &Step) -> Changes {
    let mut changes = Changes::default();
    changes.insert_if(step.op() == Op::Remove, Changes::EXTRA);
    changes.insert_if(step.op() == Op::Add, Changes::NEW);
    let (old, new) = match (&step.row.old, &step.row.new) {
        (State::Directory(old), State::Directory(new)) => (old, new),
        (State::Symlink(_), State::Symlink(_)) => {
            changes.insert(Changes::TARGET);
            return changes;
        }
        (
            State::File {
                size,
                mtime,
                hash,
                inode,
            },
            State::File {
                size: new_size,
                mtime: new_mtime,
                hash: new_hash,
                inode: new,
            },
        ) => {
            changes.insert_if(size != new_size, Changes::SIZE);
            changes.insert_if(size != new_size || hash != new_hash, Changes::CONTENT);
            changes.insert_if(mtime != new_mtime, Changes::TIME);
            (inode, new)
        }
        _ => return changes,
    };
    changes.insert_if(old.mode != new.mode, Changes::MODE);
    changes.insert_if(old.uid != new.uid, Changes::OWNER);
    changes.insert_if(old.gid != new.gid, Changes::GROUP);
    changes.insert_if(old.xattrs != new.xattrs, Changes::XATTR);
    changes
}

impl Plan {
    /// Something is in the way.
    fn resist(&mut self, step: &Step, what: &'static str, sorters: &Sorters) -> Result<(), Refusal> {
        self.conflicts += 1;
        if self.first.len() < VICTIMS_SHOWN {
            self.first.push([step.path(), b": ", what.as_bytes()].concat());
        }
        let (mut key, mut payload) = (Vec::new(), Vec::new());
        path_key(step.path(), &mut key);
        encode(step, &mut payload);
        let number = CONFLICT_TEXTS.iter().position(|text| *text == what);
        payload.insert(
            0,
            number.and_then(|number| u8::try_from(number).ok()).unwrap_or(u8::MAX),
        );
        self.conflicting
            .push(&key, &payload)
            .map_err(|errno| sorters.refusal(errno))
    }

    fn put(&mut self, step: &Step, sorters: &Sorters) -> Result<(), Refusal> {
        let (mut key, mut payload) = (Vec::new(), Vec::new());
        // What is there decides how it goes, and what the row says how it comes.
        let directory = match step.op() {
            Op::Remove => step.was.map_or(step.kind(), |was| was.kind) == Kind::Directory,
            _ => step.kind() == Kind::Directory,
        };
        let exists = step.was.is_some_and(|was| was.kind == Kind::Directory);
        let sorter = match (step.op(), directory) {
            (Op::Remove, true) => &mut self.emptied,
            (Op::Remove, false) => &mut self.going,
            (Op::Modify, true) if exists => &mut self.dressed,
            (_, true) => &mut self.made,
            (_, false) => &mut self.filled,
        };
        if (step.op() == Op::Remove && directory) || (step.op() == Op::Modify && directory && exists) {
            inner_first(&step.row, &mut key);
        } else {
            path_key(step.path(), &mut key);
        }
        encode(step, &mut payload);
        sorter.push(&key, &payload).map_err(|errno| sorters.refusal(errno))
    }
}

impl Back {
    /// Adds what leads back from a step. `before`: what is there, if anything is.
    fn add(&mut self, step: &Step, before: Option<&State>, sorters: &Sorters) -> Result<(), Refusal> {
        let before = before.cloned().unwrap_or(State::Absent);
        let after = &step.row.new;
        match (&before, after) {
            (State::Absent, State::Absent) => Ok(()),
            (State::Absent, _) => self.row(Op::Remove, step, after, &State::Absent, sorters),
            (_, State::Absent) => self.row(Op::Add, step, &State::Absent, &before, sorters),
            // What went by a row of its own has its way back.
            _ if step.instead.is_some() => self.row(Op::Remove, step, after, &State::Absent, sorters),
            _ if kind_of(&before) == kind_of(after) => self.row(Op::Modify, step, after, &before, sorters),
            _ => {
                self.row(Op::Remove, step, after, &State::Absent, sorters)?;
                self.row(Op::Add, step, &State::Absent, &before, sorters)
            }
        }
    }

    fn row(&mut self, op: Op, step: &Step, old: &State, new: &State, sorters: &Sorters) -> Result<(), Refusal> {
        let path = step.path();
        let directory = kind_of(if op == Op::Remove { old } else { new }) == Kind::Directory;
        let name = changes::name(path, directory);
        self.line.clear();
        changes::row(op, &name, old, new, &mut self.line);
        self.key.clear();
        self.key.push(op as u8);
        natural::append_key(&name, &mut self.key);
        self.rows
            .push(&self.key, &self.line)
            .map_err(|errno| sorters.refusal(errno))?;
        if op == Op::Remove {
            return Ok(());
        }
        self.steps += 1;
        if let State::File { size, .. } = new {
            self.bytes += size;
        }
        Ok(())
    }

    fn finish(mut self, sorters: &Sorters) -> Result<(), Refusal> {
        let mut sorted = Sorted::merge(vec![self.rows]).map_err(|errno| sorters.refusal(errno))?;
        while let Some((_, line)) = sorted.next().map_err(|errno| sorters.refusal(errno))? {
            self.changes.write(line)?;
        }
        self.changes.finish().map(drop)
    }

    fn discard(self) -> Result<(), Refusal> {
        self.changes.discard()
    }
}
