//! The workers, and the recorder that every entry ends at.
//!
//! Comes in: what a room did with an entry, or what kept it from that; goes out: a count, a failure, an event, once each.
//!
//! A worker takes tasks, hands their entries to the rooms that act, and records what became of each, once. What it needs
//! again and again (buffers, counters) is its own, so that workers share nothing on the way of a file.

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bulkhaul_formats::digest::Hashers;
use bulkhaul_sys::{Errno, Kind};

use crate::bytes::codec::Tools;
use crate::bytes::transfer::BUFFER_BYTES;
use crate::copy::departure::ITS_TIME;
use crate::copy::dir::{Dir, Tries, Twinned as _};
use crate::copy::entry::{Done, Finished, Names};
use crate::copy::plan::IN_THE_WAY;
use crate::copy::run::Run;
use crate::entry::{Changes, Outcome, Reason};
use crate::error::{Cause, Failure, Fault, Missed, Side, Stopped};
use crate::event::EntryEvent;
use crate::records::entry;
use crate::report::counters::Counters;
use crate::tree::metadata::Scratch;
use crate::tree::path::join;
use crate::tree::protection::protection;
use crate::walk::node::Origin;

/// A thread's own things.
pub struct Worker<'r> {
    /// The run that it works for.
    pub run: &'r Run,
    /// Its counters.
    pub counters: &'r Counters,
    /// Room for a listing of a destination, made when there is one.
    pub listing: Vec<u8>,
    /// Room for content.
    pub buffer: Vec<u8>,
    /// Room for attributes.
    pub scratch: Scratch,
    /// Files that are written and wait for their sync.
    pub unsynced: Vec<Finished>,
    /// Their bytes.
    pub unsynced_bytes: u64,
    /// Files that have waited before these.
    pub synced: usize,
    /// Their bytes.
    pub synced_bytes: u64,
    /// The digests of a manifest, made when there is one.
    pub hashers: Option<Hashers>,
    /// An encoder and a decoder, made when there is something to pack.
    pub tools: Tools,
    /// Digests of the names that the sources of the directory which is being listed have, where extra names matter.
    pub seen: Vec<u64>,
}

impl<'r> Worker<'r> {
    /// A worker with buffers of its own.
    pub fn new(run: &'r Run, counters: &'r Counters) -> Self {
        Self {
            run,
            counters,
            listing: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
            scratch: Scratch::default(),
            unsynced: Vec::new(),
            unsynced_bytes: 0,
            synced: 0,
            synced_bytes: 0,
            hashers: None,
            tools: Tools::default(),
            seen: Vec::new(),
        }
    }

    /// The recorder: every entry that was found ends here, once.
    pub fn record<'n>(
        &mut self,
        dir: &Arc<Dir>,
        source: usize,
        names: impl Into<Names<'n>>,
        kind: Kind,
        result: Result<Done, Stopped>,
    ) {
        let names = names.into();
        let Names { found, target } = names;
        let result = result.and_then(|done| self.note(dir, source, names, kind, done));
        // Shows that the count check notices (copy.rs, tests).
        #[cfg(test)]
        if target.to_bytes() == b"planted-loss" {
            return;
        }
        match &result {
            Ok(done) if done.outcome == Outcome::Renamed => dir.drained.store(true, Ordering::Release),
            Ok(done) if done.arrived() && kind != Kind::Directory => {
                if self.run.rules.asked.remove_sources {
                    self.counters.leaves();
                }
            }
            Ok(_) | Err(_) => dir.stays.store(true, Ordering::Release),
        }
        match result {
            Ok(done) => {
                self.counters.outcome(kind, done.outcome, done.reason, done.size);
                if kind == Kind::File && done.outcome == Outcome::Copied {
                    self.counters.brought(done.changes.contains(Changes::NEW));
                }
                if matches!(
                    done.outcome,
                    Outcome::Made | Outcome::Copied | Outcome::Linked | Outcome::Renamed
                ) {
                    self.run.tries(dir, done.destination).for_each(Tries::come);
                }
                if kind != Kind::Directory
                    && (done.outcome != Outcome::Skipped || done.reason == Some(Reason::Unchanged))
                {
                    dir.holds.store(true, Ordering::Release);
                }
                self.count_packed(names, &done);
                self.tell(dir, source, names, kind, &done);
            }
            Err(Stopped::Fault(fault)) => {
                self.counters.outcome(kind, fault.outcome(), None, 0);
                self.missed(dir, &fault);
                self.run
                    .failed
                    .insert(&join(&dir.relative_path(), found.to_bytes()), &fault);
                let path = Self::path_of(dir, source, names, fault.side);
                self.fail(&fault, path, kind);
            }
            // No outcome: the run is reported as interrupted.
            Err(Stopped::Aborted) => {}
        }
        self.tell_shortfalls(dir, target);
    }

    /// What became an archive now is counted by its extension.
    fn count_packed(&self, names: Names<'_>, done: &Done) {
        let packing = self.run.rules.packing.as_ref();
        let packing = packing.filter(|_| names.are_of_packed() && done.outcome == Outcome::Copied);
        if let Some(extension) = packing.and_then(|packing| packing.extensions.of(names.found)) {
            let bytes = if self.run.pass.writes() { done.bytes } else { 0 };
            self.run.conversions.add(&extension, done.size, bytes);
        }
    }

    /// Writes what arrived down, where there is a manifest. What that has no place for is not complete.
    fn note(&self, dir: &Arc<Dir>, source: usize, names: Names<'_>, kind: Kind, done: Done) -> Result<Done, Stopped> {
        let Names { found, target } = names;
        if self.run.noting((dir, source, found), kind).is_some() && done.arrived() {
            let path = |name: &CStr| join(&dir.relative_path(), name.to_bytes());
            if let Some(manifest) = &self.run.manifest {
                manifest.note(path(found), done.noted.as_deref().cloned())?;
            }
            if let Some(stored) = &self.run.stored {
                let of = if names.are_of_packed() {
                    &done.stored
                } else {
                    &done.noted
                };
                stored.note(path(target), of.as_deref().cloned())?;
            }
        }
        Ok(done)
    }

    /// A directory failed: its entry has its outcome now, what of it could be had is still copied.
    pub fn fail_directory(&mut self, dir: &Arc<Dir>, source: usize, fault: &Fault) {
        let path = match fault.side {
            Side::Source => dir.source_path(source),
            Side::Destination(index) => dir.twin_path(index),
        };
        if dir.is_entry && !dir.recorded.swap(true, Ordering::AcqRel) {
            self.counters.outcome(Kind::Directory, fault.outcome(), None, 0);
        }
        self.run.failed.insert(&dir.relative_path(), fault);
        self.fail(fault, path, Kind::Directory);
    }

    /// The recorder of directories that are done.
    pub fn record_directory(&mut self, dir: &Arc<Dir>, done: &Done) {
        self.counters.outcome(Kind::Directory, done.outcome, done.reason, 0);
        if self.run.pass.departure().is_some() {
            return;
        }
        self.note_directory(dir, done);
        let (above, source, name) = match (&dir.parent, &dir.sources[dir.winner()].origin) {
            (Some(parent), Origin::Name { parent: source, .. }) => (parent, *source, dir.name.as_c_str()),
            _ => (dir, dir.winner(), c"."),
        };
        self.tell(above, source, name, Kind::Directory, done);
        self.tell_shortfalls(above, name);
    }

    /// The same as [`Worker::note`] of a directory that is done. What stands for what is in it has no name.
    fn note_directory(&self, dir: &Arc<Dir>, done: &Done) {
        let path = dir.relative_path();
        if path.is_empty() || !done.arrived() {
            return;
        }
        let source = &dir.sources[dir.winner()];
        let holds = self.run.manifests().any(|manifest| manifest.is_in(source.slot.id()));
        for manifest in self.run.manifests().filter(|of| of.has(Kind::Directory)) {
            let (mut entry, links) = entry::of(&source.stat);
            if holds {
                (entry.mtime, entry.ctime) = (None, None);
            }
            if let Err(fault) = manifest.note(path.clone(), Some((entry, links))) {
                self.fail(&fault, dir.source_path(dir.winner()), Kind::Directory);
            }
        }
    }

    /// The recorder of what was named and can't be had: it was counted by its name only.
    pub fn record_missing(&self, fault: &Fault, path: Vec<u8>) {
        self.counters.outcome(Kind::File, fault.outcome(), None, 0);
        self.fail(fault, path, Kind::File);
    }

    /// Something that was to come into a directory did not: whether for a reason of the destination.
    pub fn missed(&self, dir: &Dir, fault: &Fault) {
        if let (Side::Destination(index), false) = (fault.side, matches!(fault.cause, Cause::Conflict(_))) {
            self.run.tries(dir, index).for_each(Tries::fail);
        }
    }

    /// Says what there was no room in for so many bytes, before what was made is taken back.
    pub fn explain(&self, stopped: Stopped, size: u64) -> Stopped {
        match stopped {
            Stopped::Fault(Fault {
                operation,
                side: Side::Destination(index),
                cause: Cause::Errno(errno @ (Errno::NOSPC | Errno::DQUOT)),
            }) => Fault {
                operation,
                side: Side::Destination(index),
                cause: match self.run.targets.get(index).and_then(|target| target.hint(errno, size)) {
                    Some(what) => Cause::Full(errno, what),
                    None => Cause::Errno(errno),
                },
            }
            .into(),
            stopped => stopped,
        }
    }

    /// Reports a fault with its path.
    pub fn fail(&self, fault: &Fault, path: Vec<u8>, kind: Kind) {
        self.run.surplus.heed(fault);
        let hint = match (&fault.cause, fault.side) {
            (Cause::Errno(Errno::PERM), _) => protection(&path).map(str::to_owned),
            (Cause::Errno(errno), Side::Destination(index)) => {
                self.run.targets.get(index).and_then(|t| t.hint(*errno, 0))
            }
            _ => None,
        };
        let option = match &fault.cause {
            Cause::Conflict(what) if IN_THE_WAY.contains(what) && !self.run.rules.asked.remove_extra => {
                Some(Missed::RemoveExtra)
            }
            Cause::NotKept(what) if what == ITS_TIME => Some(Missed::AcceptTimeLoss),
            _ => None,
        };
        let failure = Failure::new(fault, path, kind, hint.as_deref());
        self.run.desk.fail(Failure { option, ..failure });
    }

    /// What could not be kept of the current entry, once for each kind.
    pub fn tell_shortfalls(&mut self, dir: &Dir, target: &CStr) {
        for short in std::mem::take(&mut self.scratch.shortfalls) {
            let first = || (within(dir.twin_path(0), target.to_bytes()), short.message);
            if short.lost {
                self.run.desk.lose(&short.kind, first);
            } else {
                self.run.desk.note(&short.kind, first);
            }
        }
    }

    fn path_of(dir: &Dir, source: usize, names: Names<'_>, side: Side) -> Vec<u8> {
        match side {
            Side::Source => {
                let name = dir.sources[source].scope.source_name(names.found);
                join(&dir.source_path(source), name.to_bytes())
            }
            Side::Destination(index) => join(&dir.twin_path(index), names.target.to_bytes()),
        }
    }

    /// Sends the event of one entry, where somebody asked for them.
    pub fn tell<'n>(&self, dir: &Dir, source: usize, names: impl Into<Names<'n>>, kind: Kind, done: &Done) {
        let Names { found, target } = names.into();
        let name = dir.sources[source].scope.source_name(found);
        self.tell_path(
            dir,
            [(source, name.to_bytes()), (done.destination, target.to_bytes())],
            kind,
            done,
        );
    }

    /// The same, with the entry's path below its directory on either side: its source's, and its destination's.
    pub fn tell_path(&self, dir: &Dir, sides: [(usize, &[u8]); 2], kind: Kind, done: &Done) {
        if !self.run.rules.asked.entry_events {
            return;
        }
        let [(source, from), (destination, to)] = sides;
        self.run.desk.tell(EntryEvent {
            outcome: done.outcome,
            kind,
            path: join(&dir.relative_path(), to),
            source: within(dir.source_path(source), from),
            destination: within(dir.twin_path(destination), to),
            bytes: done.bytes,
            changes: done.changes,
            reason: done.reason,
            target: done.target.clone(),
            hash: None,
            digests: done
                .noted
                .as_ref()
                .map_or_else(Vec::new, |noted| noted.0.digests.clone()),
            details: None,
        });
    }
}

/// The path of what has a name in a directory; a dot stands for the directory.
fn within(directory: Vec<u8>, name: &[u8]) -> Vec<u8> {
    if name == b"." {
        directory
    } else {
        join(&directory, name)
    }
}
