//! One key: decided, copied, proved.
//!
//! Comes in: what both sides have under it; goes out: what became of it, and what both sides are then. The content is read
//! once, summed while it goes over, and held against every sum that either side has. What arrives otherwise is sent once
//! more; what is wrong then is removed again. What is to be kept of the destination goes aside first: where that fails, it
//! stays where it is.

use std::time::{Duration, Instant};

use bulkhaul_engine::entry::{Changes, Reason};
use bulkhaul_engine::error::{Cause, Fault, Operation, Side, Stopped};
use bulkhaul_engine::job::desk::Desk;
use bulkhaul_engine::report::counters::Counters;
use bulkhaul_engine::tree::metadata::Shortfall;
use bulkhaul_engine::{Errno, Kind};
use chrono::DateTime;

use crate::local::LINK_SUFFIX;
use crate::objects::probe_note;
use crate::objects::said::META;
use crate::session::Retry;
use crate::store::{Entry, Facts, Reading, Store, Summing, Sums, Writing};
use crate::sync::batch::Batches;
use crate::sync::options::{Chosen, Compare, Conflict, Proof};
use crate::sync::plan::{self, Plan, Rules};
use crate::sync::state::Remembered;
use crate::times::is_same;

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
    /// When an entry is tried again.
    pub retry: Retry,
    /// What is replaced or removed is kept there.
    pub backup: Option<&'s dyn Store>,
    /// When a content may go over.
    pub batches: Batches<'s>,
    /// Symlinks have another name in a store.
    pub links: bool,
    /// Nothing is done.
    pub dry_run: bool,
}

/// Where a content goes.
#[derive(Clone, Copy)]
struct Goal<'g> {
    store: &'g dyn Store,
    key: &'g [u8],
    /// Something has the key.
    replaces: bool,
    /// It is only kept there, as it was.
    aside: bool,
}

/// How often somebody who waits looks whether the job is to stop.
const GLANCE: Duration = Duration::from_millis(100);
/// Names that are tried for what is kept beside another.
const NAMES_BESIDE: u32 = 100;

/// A key to be done.
pub struct Task {
    /// What the source has.
    pub source: Entry,
    /// The key that it has in the destination, where that is another.
    pub renamed: Option<Vec<u8>>,
    /// What the destination has.
    pub destination: Option<Entry>,
    /// Whether that is known.
    pub known: bool,
    /// Somebody has named the key: of the source nothing else is known.
    pub named: bool,
    /// What is remembered of both.
    pub remembered: Option<Remembered>,
    /// The destination has something extra above it, or below it.
    pub blocked: bool,
}

impl Task {
    /// An entry of the source, of which nothing else is known.
    pub fn of(source: Entry) -> Self {
        Self {
            source,
            renamed: None,
            destination: None,
            known: false,
            named: false,
            remembered: None,
            blocked: false,
        }
    }

    /// The key in the destination.
    pub fn target(&self) -> &[u8] {
        self.renamed.as_deref().unwrap_or(&self.source.key)
    }
}

/// What became of a key.
pub enum Done {
    /// Nothing was to be done. Both sides are what they are.
    Skipped(Reason, Option<Remembered>),
    /// The content went over.
    Copied(Changes, Option<Remembered>),
    /// A directory that nothing is in was made.
    Made,
}

impl Deed<'_> {
    /// Does a key.
    pub fn perform(&self, task: &mut Task, counters: &Counters) -> Result<Done, Stopped> {
        if task.source.kind == Kind::Directory {
            return self.make_directory(&task.source);
        }
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
            task.destination = self.destination.stat(task.target())?;
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
                self.destination.admit(task.target(), Some(task.source.size))?;
                counters.planned(task.source.size, task.source.size, changes.contains(Changes::NEW));
                Ok(Done::Copied(changes, None))
            }
            Plan::Copy(changes) => {
                let _turn = self.batches.begin()?;
                self.refuse_two(&task.source.key)?;
                if let Some(there) = &task.destination
                    && !self.is_there(task, there)?
                {
                    self.set_aside(there, counters)?;
                    if self.rules.conflict == Conflict::KeepBoth {
                        self.keep_beside(there, counters)?;
                    }
                }
                let (source, there) = self.copy(task, counters)?;
                Ok(Done::Copied(changes, Remembered::of(&source, &there)))
            }
            Plan::Conflict(what) => Err(Fault::conflict(Operation::Create, 0, what).into()),
            // Decided above.
            Plan::Facts | Plan::Content => Err(Fault::changed(Operation::Stat).into()),
        }
    }

    /// Makes a directory that nothing is in, or its marker.
    fn make_directory(&self, entry: &Entry) -> Result<Done, Stopped> {
        if !self.dry_run {
            let mtime = entry.facts.as_ref().and_then(|facts| facts.mtime);
            let facts = Facts {
                mtime,
                ..Facts::default()
            };
            let writing = self.destination.write(&entry.key, Some(0), &facts, false)?;
            writing.finish(&Summing::new().finish())?;
        }
        Ok(Done::Made)
    }

    /// A store may have a file and, under the other name, a symlink that both have one name here.
    fn refuse_two(&self, key: &[u8]) -> Result<(), Stopped> {
        let Some(plain) = key.strip_suffix(LINK_SUFFIX).filter(|_| self.links) else {
            return Ok(());
        };
        let [theirs, ours] = [self.source, self.destination].map(|store| store.abilities().directories);
        if ours && !theirs && self.source.stat(plain)?.is_some() {
            return Err(Fault::conflict(Operation::Create, 0, "a file has the name of this symlink").into());
        }
        Ok(())
    }

    /// Keeps what is replaced or removed, if that was asked for.
    pub fn set_aside(&self, there: &Entry, counters: &Counters) -> Result<(), Stopped> {
        let Some(backup) = self.backup else { return Ok(()) };
        if there.kind != Kind::File {
            let text = "what is no file can't be kept in the backup directory, so it stays";
            return Err(Fault {
                operation: Operation::Remove,
                side: Side::Destination(0),
                cause: Cause::Answered("unsupported", text.to_owned()),
            }
            .into());
        }
        let earlier = backup.stat(&there.key)?.is_some();
        let aside = Goal {
            store: backup,
            key: &there.key,
            replaces: earlier,
            aside: true,
        };
        self.bring((self.destination, there), aside, counters).map(drop)
    }

    /// Keeps what the destination has under a name of its own.
    fn keep_beside(&self, there: &Entry, counters: &Counters) -> Result<(), Stopped> {
        let now = self.destination.stat(&there.key)?;
        let missing = || Fault::conflict(Operation::Stat, 0, "it is not what it was when it was listed");
        let there = now.ok_or_else(missing)?;
        for number in 0..NAMES_BESIDE {
            let name = name_beside(&there, number);
            match self.destination.stat(&name)? {
                // Kept by a run that ended before the other came.
                Some(kept) if kept.size == there.size && kept.changed() == there.changed() => return Ok(()),
                Some(_) => {}
                None => {
                    let beside = Goal {
                        store: self.destination,
                        key: &name,
                        replaces: false,
                        aside: true,
                    };
                    return self.bring((self.destination, &there), beside, counters).map(drop);
                }
            }
        }
        Err(Fault::conflict(Operation::Create, 0, "no name is free to keep what is there under").into())
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

    /// Whether something that would be kept has the content that comes, as a run that ended before this one has brought it: what it
    /// kept then is not to be replaced by that. Others than [`Compare::Always`] have told it by now.
    fn is_there(&self, task: &Task, there: &Entry) -> Result<bool, Stopped> {
        let keeps = self.backup.is_some() || self.rules.conflict == Conflict::KeepBoth;
        let always = self.rules.compare == Compare::Always;
        Ok(keeps && always && there.size == task.source.size && self.has_same_content(task)?)
    }

    fn has_same_content(&self, task: &Task) -> Result<bool, Stopped> {
        let there = self.destination.stat(task.target())?;
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

    /// Brings a content over; answers what both sides are then.
    fn copy(&self, task: &Task, counters: &Counters) -> Result<(Entry, Entry), Stopped> {
        let source = &task.source;
        let goal = Goal {
            store: self.destination,
            key: task.target(),
            replaces: task.destination.is_some(),
            aside: false,
        };
        self.bring((self.source, source), goal, counters)
    }

    /// Brings a content from one store to another, within the server where it can.
    fn bring(
        &self,
        (from, entry): (&dyn Store, &Entry),
        goal: Goal<'_>,
        counters: &Counters,
    ) -> Result<(Entry, Entry), Stopped> {
        let Goal {
            store: to, key, aside, ..
        } = goal;
        // What is to be proved has to be seen.
        if self.proof == Proof::Size
            && let Some(origin) = from.origin(&entry.key)
            && let Some(there) = to.copy(&origin, entry, key, aside)?
        {
            return Ok((entry.clone(), there));
        }
        let (mut again, mut damaged) = (0, false);
        loop {
            let done = self.transfer((from, entry), goal, counters);
            let Err(Stopped::Fault(fault)) = &done else { return done };
            if is_damage(fault) && !damaged {
                damaged = true;
                self.desk.note("sent-again", || {
                    let text = "what arrived was not what was read, and was sent once more".to_owned();
                    (to.path(key), text)
                });
                continue;
            }
            let store = if fault.side == Side::Source { from } else { to };
            let may_help = matches!(fault.cause, Cause::Answered("unavailable", _)) && !store.abilities().retries;
            if !may_help || again >= self.retry.retries || self.desk.cancel.is_draining() {
                return done;
            }
            self.rest(self.retry.pause(again, 0.0));
            again += 1;
        }
    }

    /// Waits, unless the job is to stop.
    fn rest(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while let Some(left) = until.checked_duration_since(Instant::now())
            && !self.desk.cancel.is_draining()
        {
            std::thread::sleep(left.min(GLANCE));
        }
    }

    fn transfer(
        &self,
        (from, entry): (&dyn Store, &Entry),
        Goal {
            store: to,
            key,
            replaces,
            aside,
        }: Goal<'_>,
        counters: &Counters,
    ) -> Result<(Entry, Entry), Stopped> {
        let mut reading = from.read(entry)?;
        let read = reading.entry().clone();
        let known = read.facts.clone().unwrap_or_default();
        let facts = Facts {
            mtime: Some(known.mtime.unwrap_or(read.written)),
            blake3: None,
            crc64: None,
            md5: None,
            token: None,
            aside,
            ..known.clone()
        };
        let mut writing = to.write(key, Some(read.size), &facts, replaces)?;
        let unsaid = writing.unsaid();
        if !unsaid.is_empty() {
            self.desk.note("unsaid", || {
                let names: Vec<String> = unsaid.iter().map(|name| name.replacen(META, "metadata ", 1)).collect();
                let text = format!("not kept, because it can't be said there: {}", names.join(", "));
                (to.path(key), text)
            });
        }
        let part_bytes = to.part_bytes(read.size);
        let pumped = self
            .pump(&mut *reading, &mut *writing, (&read, part_bytes), counters)
            .and_then(|sums| {
                if !sums.fit(&known) {
                    return Err(damaged(Operation::Read, Side::Source).into());
                }
                self.tell_shortfalls(to, key, writing.resemble(reading.file())?);
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
        self.tell_refused(to, &there, &facts);
        let there = self.prove(to, there, &sums, counters)?;
        Ok((read, there))
    }

    /// Says what the destination has instead of the time and the mode that it was given.
    fn tell_refused(&self, to: &dyn Store, there: &Entry, given: &Facts) {
        let kept = there.facts.as_ref();
        let times = (given.mtime, kept.and_then(|kept| kept.mtime));
        if let (true, (Some(wanted), Some(kept))) = (to.abilities().lists_mtime, times)
            && !is_same(wanted, kept)
        {
            self.desk.lose("times", || {
                let text = format!("the times were not kept: {} s became {} s", wanted.sec, kept.sec);
                (to.path(&there.key), text)
            });
        }
        let modes = (to.mode_of(given), kept.and_then(|kept| kept.mode));
        if let (Some(wanted), Some(kept)) = modes
            && kept & 0o777 != wanted
        {
            self.desk.lose("mode", || {
                let text = format!("the mode was not kept: {wanted:o} became {:o}", kept & 0o777);
                (to.path(&there.key), text)
            });
        }
    }

    fn tell_shortfalls(&self, to: &dyn Store, key: &[u8], shortfalls: Vec<Shortfall>) {
        for short in shortfalls {
            let first = || (to.path(key), short.message);
            if short.lost {
                self.desk.lose(&short.kind, first);
            } else {
                self.desk.note(&short.kind, first);
            }
        }
    }

    fn pump(
        &self,
        reading: &mut dyn Reading,
        writing: &mut dyn Writing,
        (read, part_bytes): (&Entry, u64),
        counters: &Counters,
    ) -> Result<Sums, Stopped> {
        counters.flight.begin(read.size);
        let _in_hand = counters.flight.in_hand();
        let known = read.facts.as_ref();
        let (mut sums, mut resumes) = (known.map_or_else(Summing::new, Summing::of), false);
        while let Some(part) = self.next(reading, part_bytes)? {
            let bytes = part.bytes.len() as u64;
            sums.update(&part.bytes);
            let had = writing.had();
            writing.put(part)?;
            let had = writing.had() - had;
            counters.flight.moved(bytes);
            if had > 0 && !resumes {
                counters.resumes();
                resumes = true;
            }
            counters.resumed(had);
            counters
                .written()
                .fetch_add(bytes - had, std::sync::atomic::Ordering::Relaxed);
        }
        let sums = sums.finish();
        if sums.bytes != read.size {
            return Err(Fault::size(Side::Source, read.size, sums.bytes).into());
        }
        Ok(sums)
    }

    /// Proves what was written, as far as was asked for, and as far as the store does not do it.
    fn prove(&self, to: &dyn Store, there: Entry, sums: &Sums, counters: &Counters) -> Result<Entry, Stopped> {
        let abilities = to.abilities();
        if abilities.probe_stays {
            self.desk.note("probe", || probe_note(to));
        }
        let (mut there, mut vouched) = (there, false);
        if self.proof == Proof::Hash && !abilities.directories {
            let now = to.stat(&there.key)?;
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
                (to.path(b""), text)
            });
        }
        let back = self.sums(to, &there)?;
        if (back.bytes, &back.blake3) == (sums.bytes, &sums.blake3) {
            counters.verified(back.bytes, if abilities.directories { back.bytes } else { 0 });
            return Ok(there);
        }
        let mut left = Ok(());
        let key = there.key.clone();
        to.delete(std::slice::from_ref(&key), &mut |_, gone| left = gone.map(drop))?;
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

/// The name for what an entry was: the time of its last change comes before its extension, so that programs still know it.
fn name_beside(entry: &Entry, number: u32) -> Vec<u8> {
    let changed = entry.changed().unwrap_or(entry.written);
    let time = DateTime::from_timestamp(changed.sec, 0).map_or_else(
        || changed.sec.to_string(),
        |time| time.format("%Y%m%dT%H%M%SZ").to_string(),
    );
    let mark = match number {
        0 => format!(".conflict-{time}"),
        number => format!(".conflict-{time}-{number}"),
    };
    let start = entry.key.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let dot = entry.key[start..].iter().rposition(|byte| *byte == b'.');
    let at = dot.filter(|at| *at > 0).map_or(entry.key.len(), |at| start + at);
    [&entry.key[..at], mark.as_bytes(), &entry.key[at..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhaul_sys::Time;

    #[test]
    fn what_is_kept_beside_has_a_name_that_tells_when() {
        let name = |key: &str, number| {
            let entry = Entry {
                key: key.into(),
                kind: Kind::File,
                size: 1,
                written: Time { sec: 0, nsec: 5 },
                tag: Vec::new(),
                facts: None,
                failed: false,
            };
            String::from_utf8(name_beside(&entry, number)).unwrap()
        };
        assert_eq!(name("d.x/a.txt", 0), "d.x/a.conflict-19700101T000000Z.txt");
        assert_eq!(name("d.x/.a", 1), "d.x/.a.conflict-19700101T000000Z-1");
    }
}
