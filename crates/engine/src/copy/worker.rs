//! The workers, and the recorder that every entry ends at.
//!
//! A worker takes tasks, hands their entries to the rooms that act, and records what became of each, once. What it needs
//! again and again (buffers, counters) is its own, so that workers share nothing on the way of a file.

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bulkhaul_sys::Kind;

use crate::bytes::transfer::BUFFER_BYTES;
use crate::copy::act::file::{self, Finished};
use crate::copy::act::{self, Entry};
use crate::copy::dir::{Dir, Tries};
use crate::copy::{Run, Task, directory, finder, late};
use crate::entry::{Changes, Outcome, Reason};
use crate::error::{Cause, Failure, Fault, Side, Stopped};
use crate::event::{EntryEvent, Event};
use crate::report::counters::Counters;
use crate::tree::listing::{Batch, LISTING_BYTES};
use crate::tree::metadata::Scratch;
use crate::tree::path::join;

/// What became of an entry.
#[derive(Clone, Debug)]
pub struct Done {
    /// Outcome.
    pub outcome: Outcome,
    /// Why it was skipped.
    pub reason: Option<Reason>,
    /// What differed.
    pub changes: Changes,
    /// Bytes of content written, or that would be.
    pub bytes: u64,
    /// Size of the source file in bytes.
    pub size: u64,
    /// Text of a symlink, or path of a hard link's first name.
    pub target: Option<Vec<u8>>,
    /// Which destination.
    pub destination: usize,
}

impl Done {
    /// An outcome and nothing else.
    pub fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            reason: None,
            changes: Changes::default(),
            bytes: 0,
            size: 0,
            target: None,
            destination: 0,
        }
    }

    /// With what differed.
    #[must_use]
    pub fn with(self, changes: Changes) -> Self {
        Self { changes, ..self }
    }

    /// In this destination.
    #[must_use]
    pub fn at(self, destination: usize) -> Self {
        Self { destination, ..self }
    }
}

/// A thread's own things.
pub struct Worker<'r> {
    /// The run that it works for.
    pub run: &'r Run,
    /// Its counters.
    pub counters: &'r Counters,
    /// Room for a listing.
    pub listing: Vec<u8>,
    /// Room for content.
    pub buffer: Vec<u8>,
    /// Room for attributes.
    pub scratch: Scratch,
    /// Files that are written and wait for their sync.
    pub unsynced: Vec<Finished>,
    /// Their bytes.
    pub unsynced_bytes: u64,
    /// Digests of the names that the sources of the directory which is being listed have, where extra names matter.
    pub seen: Vec<u64>,
}

impl<'r> Worker<'r> {
    /// A worker with buffers of its own.
    pub fn new(run: &'r Run, counters: &'r Counters) -> Self {
        Self {
            run,
            counters,
            listing: Vec::with_capacity(LISTING_BYTES),
            buffer: vec![0; BUFFER_BYTES],
            scratch: Scratch::default(),
            unsynced: Vec::new(),
            unsynced_bytes: 0,
            seen: Vec::new(),
        }
    }

    /// Works until the run has no task left.
    pub fn work(mut self) {
        let run = self.run;
        run.schedule.work(|task| {
            // A panic outside of an entry loses that task's entries: the books will not balance, and the report says so.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.perform(task))) {
                self.fail(&Fault::panic(&*panic), Vec::new(), Kind::Directory);
            }
        });
    }

    fn perform(&mut self, task: Task) {
        match task {
            Task::List(dir) => finder::list(self, &dir),
            Task::Descend(dir) => directory::descend(self, &dir),
            Task::Files(dir, source, batch) => {
                self.files(&dir, source, batch);
                directory::own_done(self, &dir);
            }
            Task::Chunks(chunks) => {
                let terms = self.run.terms(chunks.destination());
                chunks.help(terms, self.counters, &mut self.buffer, || self.run.schedule.crowded());
            }
            Task::Link(link) => {
                self.file(&link.dir, link.source, &link.target, Kind::Symlink, Some(&[]));
                directory::child_done(self, &link.dir);
            }
            Task::Late(late) => late::late(self, late),
            Task::Close(dir) => directory::child_done(self, &dir),
        }
    }

    /// Works on the files of a batch; gives half of the rest to whoever has nothing to do, or all of it when fewer workers
    /// are to be at work.
    pub fn files(&mut self, dir: &Arc<Dir>, source: usize, mut batch: Batch) {
        let mut index = 0;
        while index < batch.len() && !self.run.desk.cancel.is_draining() {
            if self.run.schedule.crowded() {
                let rest = batch.take_from(index);
                self.run.give_away(dir, source, rest);
                break;
            }
            if batch.len() - index > 1 && self.run.schedule.hungry() {
                let rest = batch.split_off(index + 1);
                self.run.give_away(dir, source, rest);
            }
            if !self.run.desk.may_begin() {
                break;
            }
            let (target, kind) = batch.get(index);
            self.file(dir, source, target, kind, None);
            index += 1;
        }
        file::flush(self);
    }

    /// One entry that is not a directory. `last`: as [`Entry::last`]. A panic costs this entry only.
    pub fn file(&mut self, dir: &Arc<Dir>, source: usize, target: &CStr, kind: Kind, last: Option<&[usize]>) {
        let entry = Entry {
            dir,
            source,
            target,
            last,
            again: false,
        };
        let result = catch_unwind(AssertUnwindSafe(|| act::entry(self, &entry, kind)));
        let result = result.unwrap_or_else(|panic| Err(Fault::panic(&*panic).into()));
        match result {
            // Its outcome comes with its sync, or in the end.
            Ok(None) => self.tell_shortfalls(dir, target),
            Ok(Some(done)) => self.record(dir, source, target, kind, Ok(done)),
            Err(stopped) => self.record(dir, source, target, kind, Err(stopped)),
        }
    }

    /// The recorder: every entry that was found ends here, once.
    pub fn record(&mut self, dir: &Arc<Dir>, source: usize, target: &CStr, kind: Kind, result: Result<Done, Stopped>) {
        // Shows that the count check notices (copy.rs, tests).
        #[cfg(test)]
        if target.to_bytes() == b"planted-loss" {
            return;
        }
        match result {
            Ok(done) => {
                self.counters.outcome(kind, done.outcome, done.reason, done.size);
                if matches!(done.outcome, Outcome::Made | Outcome::Copied | Outcome::Linked) {
                    self.run.tries(dir, done.destination).for_each(Tries::come);
                }
                if kind != Kind::Directory
                    && (done.outcome != Outcome::Skipped || done.reason == Some(Reason::Unchanged))
                {
                    dir.holds.store(true, Ordering::Release);
                }
                self.tell(dir, source, target, kind, &done);
            }
            Err(Stopped::Fault(fault)) => {
                self.counters.outcome(kind, fault.outcome(), None, 0);
                self.missed(dir, &fault);
                self.run.failed.insert(&join(&dir.relative_path(), target.to_bytes()));
                let path = Self::path_of(dir, source, target, fault.side);
                self.fail(&fault, path, kind);
            }
            // No outcome: the run is reported as interrupted.
            Err(Stopped::Aborted) => {}
        }
        self.tell_shortfalls(dir, target);
    }

    /// Something that was to come into a directory did not: whether for a reason of the destination.
    pub fn missed(&self, dir: &Dir, fault: &Fault) {
        if let (Side::Destination(index), false) = (fault.side, matches!(fault.cause, Cause::Conflict(_))) {
            self.run.tries(dir, index).for_each(Tries::fail);
        }
    }

    /// Reports a fault with its path.
    pub fn fail(&self, fault: &Fault, path: Vec<u8>, kind: Kind) {
        self.run.surplus.heed(fault);
        let hint = self.run.hint(fault, &path);
        let failure = Failure::new(fault, path, kind, hint.as_deref());
        self.run.desk.fail(failure);
    }

    /// What could not be kept of the current entry, once for each kind.
    pub fn tell_shortfalls(&mut self, dir: &Dir, target: &CStr) {
        for short in std::mem::take(&mut self.scratch.shortfalls) {
            let first = || (join(&dir.twin_path(0), target.to_bytes()), short.message);
            if short.lost {
                self.run.desk.lose(&short.kind, first);
            } else {
                self.run.desk.note(&short.kind, first);
            }
        }
    }

    fn path_of(dir: &Dir, source: usize, target: &CStr, side: Side) -> Vec<u8> {
        match side {
            Side::Source => {
                let name = dir.sources[source].scope.name_of(target).unwrap_or(target);
                join(&dir.source_path(source), name.to_bytes())
            }
            Side::Destination(index) => join(&dir.twin_path(index), target.to_bytes()),
        }
    }

    /// Sends the event of one entry, where somebody asked for them.
    pub fn tell(&self, dir: &Dir, source: usize, target: &CStr, kind: Kind, done: &Done) {
        let name = dir.sources[source].scope.name_of(target).unwrap_or(target);
        self.tell_path(
            dir,
            [(source, name.to_bytes()), (done.destination, target.to_bytes())],
            kind,
            done,
        );
    }

    /// The same, with the entry's path below its directory on either side: its source's, and its destination's.
    pub fn tell_path(&self, dir: &Dir, sides: [(usize, &[u8]); 2], kind: Kind, done: &Done) {
        if !self.run.rules.entry_events {
            return;
        }
        let [(source, from), (destination, to)] = sides;
        self.run.desk.queue.push(Event::Entry(EntryEvent {
            outcome: done.outcome,
            kind,
            path: join(&dir.relative_path(), to),
            source: join(&dir.source_path(source), from),
            destination: join(&dir.twin_path(destination), to),
            bytes: done.bytes,
            changes: done.changes,
            reason: done.reason,
            target: done.target.clone(),
            hash: None,
            details: None,
        }));
    }
}
