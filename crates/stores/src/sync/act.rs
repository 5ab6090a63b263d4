//! One key: decided, copied, proved.
//!
//! Comes in: what both sides have under it; goes out: what became of it, and what both sides are then. The content is read
//! once, summed while it goes over, and held against every sum that either side has. What arrives otherwise is sent once
//! more; what is wrong then is removed again.

use bulkhaul_engine::entry::{Changes, Reason};
use bulkhaul_engine::error::{Cause, Fault, Operation, Side, Stopped};
use bulkhaul_engine::job::desk::Desk;
use bulkhaul_engine::report::counters::Counters;
use bulkhaul_engine::{Errno, Kind};

use crate::store::{Entry, Facts, Reading, Store, Summing, Sums, Writing};
use crate::sync::options::{Chosen, Proof};
use crate::sync::plan::{self, Plan, Rules};
use crate::sync::state::Remembered;

/// What the keys of a sync have in common.
pub struct Deed<'s> {
    /// Counts, and the wish to stop.
    pub desk: &'s Desk,
    /// Where entries come from.
    pub source: &'s dyn Store,
    /// Where they go.
    pub destination: &'s dyn Store,
    /// How it is decided.
    pub rules: Rules,
    /// What is taken.
    pub chosen: Chosen,
    /// What is proved.
    pub proof: Proof,
    /// Nothing is done.
    pub dry_run: bool,
}

/// A key to be done.
pub struct Task {
    /// What the source has.
    pub source: Entry,
    /// What the destination has.
    pub destination: Option<Entry>,
    /// Whether that is known.
    pub known: bool,
    /// Somebody has named the key: of the source nothing else is known.
    pub named: bool,
    /// What is remembered of both.
    pub remembered: Option<Remembered>,
}

/// What became of a key.
pub enum Done {
    /// Nothing was to be done. Both sides are what they are.
    Skipped(Reason, Option<Remembered>),
    /// The content went over.
    Copied(Changes, Option<Remembered>),
}

impl Deed<'_> {
    /// Does a key.
    pub fn perform(&self, task: &mut Task, counters: &Counters) -> Result<Done, Stopped> {
        if task.named {
            let now = self.source.stat(&task.source.key)?;
            let missing = || Fault::new(Operation::Stat, Side::Source, Errno::NOENT).of_named();
            task.source = now.ok_or_else(missing)?;
            counters.sized(task.source.size, task.source.size);
            if task.source.kind != Kind::File {
                return Ok(Done::Skipped(Reason::NotAFile, None));
            }
        }
        if !task.known {
            task.destination = self.destination.stat(&task.source.key)?;
        }
        let chosen = plan::is_chosen(&self.chosen, &task.source);
        if chosen.is_none() {
            self.know_source(task)?;
        }
        let chosen = chosen
            .or_else(|| plan::is_chosen(&self.chosen, &task.source))
            .unwrap_or(true);
        if !chosen {
            return Ok(Done::Skipped(Reason::NotSelected, None));
        }
        match self.decide(task)? {
            Plan::Skip(Reason::Unchanged) => {
                let both = task.destination.as_ref();
                let now = both.and_then(|destination| Remembered::of(&task.source, destination));
                Ok(Done::Skipped(Reason::Unchanged, now))
            }
            Plan::Skip(reason) => Ok(Done::Skipped(reason, None)),
            Plan::Copy(changes) if self.dry_run => {
                counters.planned(task.source.size, task.source.size, changes.contains(Changes::NEW));
                Ok(Done::Copied(changes, None))
            }
            Plan::Copy(changes) => {
                let (source, there) = self.copy(task, counters)?;
                Ok(Done::Copied(changes, Remembered::of(&source, &there)))
            }
            Plan::Conflict(what) => Err(Fault::conflict(Operation::Create, 0, what).into()),
            // Decided above.
            Plan::Facts | Plan::Content => Err(Fault::changed(Operation::Stat).into()),
        }
    }

    fn know_source(&self, task: &mut Task) -> Result<(), Stopped> {
        let now = self.source.stat(&task.source.key)?;
        let now = now.ok_or_else(|| Fault::new(Operation::Stat, Side::Source, Errno::NOENT))?;
        // A listing knows parts of seconds, an answer about one object does not.
        let (written, kind) = (task.source.written, task.source.kind);
        task.source = Entry { kind, written, ..now };
        Ok(())
    }

    fn decide(&self, task: &mut Task) -> Result<Plan, Stopped> {
        let (mut same, mut asked) = (None, false);
        loop {
            let known = task.remembered.as_ref();
            match plan::plan(&task.source, task.destination.as_ref(), known, same, self.rules) {
                Plan::Facts if !asked => {
                    asked = true;
                    if task.source.facts.is_none() {
                        self.know_source(task)?;
                    }
                    if let Some(listed) = task.destination.take() {
                        task.destination = match listed.facts {
                            Some(_) => Some(listed),
                            None => self.destination.stat(&listed.key)?.map(|now| Entry {
                                written: listed.written,
                                kind: listed.kind,
                                ..now
                            }),
                        };
                    }
                }
                Plan::Content if same.is_none() => same = Some(self.has_same_content(task)?),
                plan => return Ok(plan),
            }
        }
    }

    fn has_same_content(&self, task: &Task) -> Result<bool, Stopped> {
        let there = self.destination.stat(&task.source.key)?;
        let Some(there) = there else { return Ok(false) };
        let theirs = self.sums(self.source, &task.source)?;
        let facts = there.facts.clone().unwrap_or_default();
        if facts.crc64.is_some() || facts.blake3.is_some() {
            return Ok(theirs.bytes == there.size && theirs.fit(&facts));
        }
        let ours = self.sums(self.destination, &there)?;
        Ok((theirs.bytes, theirs.blake3) == (ours.bytes, ours.blake3))
    }

    /// Reads a content only for its sums.
    fn sums(&self, store: &dyn Store, entry: &Entry) -> Result<Sums, Stopped> {
        let mut reading = store.read(entry)?;
        let mut sums = Summing::new();
        let part_bytes = store.part_bytes(entry.size);
        while let Some(part) = self.next(&mut *reading, part_bytes)? {
            sums.update(&part.bytes);
        }
        reading.close()?;
        Ok(sums.finish())
    }

    fn next(&self, reading: &mut dyn Reading, bytes: u64) -> Result<Option<crate::store::Part>, Stopped> {
        let part = reading.next(bytes)?;
        let bytes = part.as_ref().map_or(0, |part| part.bytes.len() as u64);
        self.desk.may_go_on(bytes)?;
        Ok(part)
    }

    /// Brings a content over, within the server where it can; answers what both sides are then.
    fn copy(&self, task: &Task, counters: &Counters) -> Result<(Entry, Entry), Stopped> {
        let source = &task.source;
        if let Some(origin) = self.source.origin(&source.key)
            && let Some(there) = self.destination.copy(&origin, source, &source.key)?
        {
            return Ok((source.clone(), there));
        }
        match self.transfer(task, counters) {
            Err(Stopped::Fault(fault)) if is_damage(&fault) => {}
            done => return done,
        }
        self.desk.note("sent-again", || {
            let text = "what arrived was not what was read, and was sent once more".to_owned();
            (self.destination.path(&source.key), text)
        });
        self.transfer(task, counters)
    }

    fn transfer(&self, task: &Task, counters: &Counters) -> Result<(Entry, Entry), Stopped> {
        let mut reading = self.source.read(&task.source)?;
        let read = reading.entry().clone();
        let known = read.facts.clone().unwrap_or_default();
        let facts = Facts {
            mtime: Some(known.mtime.unwrap_or(read.written)),
            blake3: None,
            crc64: None,
            token: None,
            ..known.clone()
        };
        let replaces = task.destination.is_some();
        let key = &task.source.key;
        let mut writing = self.destination.write(key, read.size, &facts, replaces)?;
        let pumped = self
            .pump(&mut *reading, &mut *writing, &read, counters)
            .and_then(|sums| {
                if !sums.fit(&known) {
                    return Err(damaged(Operation::Read, Side::Source).into());
                }
                reading.close().map(|()| sums)
            });
        let sums = match pumped {
            Ok(sums) => sums,
            Err(stopped) => {
                writing.abort();
                return Err(stopped);
            }
        };
        let there = writing.finish(&sums)?;
        let there = self.prove(there, &sums, counters)?;
        Ok((read, there))
    }

    fn pump(
        &self,
        reading: &mut dyn Reading,
        writing: &mut dyn Writing,
        read: &Entry,
        counters: &Counters,
    ) -> Result<Sums, Stopped> {
        counters.flight.begin(read.size);
        let _in_hand = counters.flight.in_hand();
        let mut sums = Summing::new();
        let part_bytes = self.destination.part_bytes(read.size);
        while let Some(part) = self.next(reading, part_bytes)? {
            let bytes = part.bytes.len() as u64;
            sums.update(&part.bytes);
            writing.put(part)?;
            counters.flight.moved(bytes);
            counters
                .written()
                .fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        }
        let sums = sums.finish();
        if sums.bytes != read.size {
            return Err(Fault::size(Side::Source, read.size, sums.bytes).into());
        }
        Ok(sums)
    }

    /// Proves what was written, as far as was asked for, and as far as the store does not do it.
    fn prove(&self, there: Entry, sums: &Sums, counters: &Counters) -> Result<Entry, Stopped> {
        let abilities = self.destination.abilities();
        let (mut there, mut vouched) = (there, false);
        if self.proof == Proof::Hash && !abilities.directories {
            let now = self.destination.stat(&there.key)?;
            there = now.ok_or_else(|| damaged(Operation::Verify, Side::Destination(0)))?;
            vouched = there
                .facts
                .as_ref()
                .is_some_and(|facts| facts.crc64 == Some(sums.crc64));
        }
        let reads = match self.proof {
            Proof::Size => !abilities.verifies,
            Proof::Hash => !vouched,
            Proof::Full => true,
        };
        if !reads {
            return Ok(there);
        }
        if !abilities.verifies {
            self.desk.note("server-checks", || {
                let text = "the server checks nothing of what it is sent: all of it is read back".to_owned();
                (self.destination.path(b""), text)
            });
        }
        let back = self.sums(self.destination, &there)?;
        if (back.bytes, &back.blake3) == (sums.bytes, &sums.blake3) {
            counters.verified(back.bytes, if abilities.directories { back.bytes } else { 0 });
            return Ok(there);
        }
        let mut left = Ok(());
        let key = there.key.clone();
        self.destination
            .delete(std::slice::from_ref(&key), &mut |_, gone| left = gone.map(drop))?;
        left?;
        Err(damaged(Operation::Verify, Side::Destination(0)).into())
    }
}

fn damaged(operation: Operation, side: Side) -> Fault {
    Fault {
        operation,
        side,
        cause: Cause::Mismatch,
    }
}

/// Whether another try may tell a bad wire from bad content.
fn is_damage(fault: &Fault) -> bool {
    matches!(fault.cause, Cause::Mismatch | Cause::Answered("damaged", _))
}
