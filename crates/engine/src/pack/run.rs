//! The workers of one pack: batches are read by all of them, and put into shards one after the other.
//!
//! Comes in: batches, in their order; goes out: shards, and the state that they are. A fault of an entry costs that entry, a
//! fault of a shard its own entries; either is told. What was begun when the run is told to stop leaves nothing behind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bulkhaul_formats::codec::Encoder;
use bulkhaul_formats::shards::{self, Line};
use bulkhaul_sys::{self as sys, AsFd as _, Kind};

use super::known::Next;
use super::lines::Lines;
use super::order::{Batch, Cutter, Item, of_key};
use super::place::Place;
use super::read::{Bases, Leader, Made, Reader, Seen};
use super::shard::{Done, Shard, encode, written};
use super::tell::{Teller, outcome_of};
use crate::bytes::transfer::BUFFER_BYTES;
use crate::entry::Outcome;
use crate::error::{Failure, Fault, Refusal, Stopped, describe};
use crate::job::desk::{Desk, Phase};
use crate::records::entry;
use crate::records::shards::Taken;
use crate::records::sort::{Sorted, Sorters};
use crate::report::counters::Counters;
use crate::report::{Part, Parts};
use crate::tree::path::{join, show};

/// What the workers of one run share.
pub struct Run<'r> {
    desk: &'r Arc<Desk>,
    teller: Teller<'r>,
    place: &'r Arc<Place>,
    bases: &'r Bases,
    next: Next,
    cutter: Mutex<Cutter<'r>>,
    writer: Mutex<Writer>,
    turned: Condvar,
    done: Mutex<(Vec<shards::Shard>, Parts)>,
}

/// Who puts batches into shards.
#[derive(Default)]
struct Writer {
    /// The batch whose turn it is.
    turn: u64,
    current: Current,
    /// The first of the links that may go on.
    leader: Option<Leader>,
    /// Entries of that batch that have their outcomes, or will have them with their shard.
    counted: usize,
    /// Nothing more is put.
    over: bool,
    refusal: Option<Refusal>,
}

#[derive(Default)]
enum Current {
    #[default]
    None,
    Open(Box<Shard>),
    /// It failed, and the rest of its entries with it.
    Failed(Outcome),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'r> Run<'r> {
    /// Nothing is begun.
    pub fn new(
        (desk, teller): (&'r Arc<Desk>, Teller<'r>),
        place: &'r Arc<Place>,
        (bases, cutter): (&'r Bases, Cutter<'r>),
        next: Next,
    ) -> Self {
        Self {
            desk,
            teller,
            place,
            bases,
            next,
            cutter: Mutex::new(cutter),
            writer: Mutex::default(),
            turned: Condvar::new(),
            done: Mutex::default(),
        }
    }

    /// What one worker does, to the end.
    pub fn work(&self, index: usize) {
        let done = catch_unwind(AssertUnwindSafe(|| self.batches(index)));
        let refusal = match done {
            Ok(Ok(())) => return,
            Ok(Err(refusal)) => Some(refusal),
            Err(panic) => {
                self.desk
                    .fail(Failure::new(&Fault::panic(&*panic), Vec::new(), Kind::File, None));
                None
            }
        };
        // Others wait for what does not come any more.
        let mut writer = locked(&self.writer);
        writer.over = true;
        if writer.refusal.is_none() {
            writer.refusal = refusal;
        }
        self.turned.notify_all();
    }

    fn batches(&self, index: usize) -> Result<(), Refusal> {
        let counters = &self.desk.counters[index];
        let mut reader = Reader::new(self.desk, self.bases);
        let mut tool = match self.place.codec.map(Encoder::new).transpose() {
            Ok(tool) => tool,
            Err(error) => return Err(Refusal::NoStart(error.to_string())),
        };
        let (mut buffer, mut framed) = (Vec::new(), Vec::new());
        loop {
            if self.desk.cancel.is_draining() || locked(&self.writer).over {
                break;
            }
            let Some(batch) = locked(&self.cutter).batch()? else {
                break;
            };
            let reading = self.desk.reading();
            let mut leader = assumed(&batch);
            let read = if batch.is_large() {
                Ok(None)
            } else {
                self.read(&mut reader, &batch, &mut leader, (tool.as_mut(), &mut framed))
            };
            let mut writer = self.turn(batch.number);
            if writer.over {
                break;
            }
            let put = read.and_then(|made| {
                let hand = (counters, &mut reader);
                self.put(
                    &mut writer,
                    &batch,
                    made.map(|made| (made, leader)),
                    hand,
                    (tool.as_mut(), &mut framed),
                )
            });
            let ended = match put {
                Ok(()) if batch.last => std::mem::take(&mut writer.current),
                Ok(()) => Current::None,
                Err(Stopped::Aborted) => {
                    writer.over = true;
                    Current::None
                }
                Err(Stopped::Fault(fault)) => {
                    self.shard_failed(&mut writer, &batch, counters, &fault);
                    if batch.last {
                        std::mem::take(&mut writer.current)
                    } else {
                        Current::None
                    }
                }
            };
            writer.turn += 1;
            self.turned.notify_all();
            drop((writer, reading));
            if let Current::Open(shard) = ended {
                buffer.resize(2 * BUFFER_BYTES, 0);
                self.finish(*shard, self.number(&batch), counters, &mut buffer);
            }
        }
        Ok(())
    }

    /// The number of the shard that a batch goes into.
    fn number(&self, batch: &Batch) -> u64 {
        self.next.shard + batch.shard
    }

    fn goes_on(&self) -> bool {
        !self.desk.cancel.is_over()
    }

    /// Nothing: it does not fit in memory.
    fn read(
        &self,
        reader: &mut Reader<'_>,
        batch: &Batch,
        leader: &mut Option<Leader>,
        (tool, framed): (Option<&mut Encoder>, &mut Vec<u8>),
    ) -> Result<Option<Made>, Stopped> {
        let made = reader.batch(batch, leader)?;
        if let (Some(tool), Some(made)) = (tool, &made) {
            encode(tool, &made.blocks, framed, &|| self.goes_on())?;
        }
        Ok(made)
    }

    /// Waits until it is a batch's turn.
    fn turn(&self, number: u64) -> MutexGuard<'_, Writer> {
        let mut writer = locked(&self.writer);
        let _resting = (writer.turn != number).then(|| self.desk.resting());
        while writer.turn != number && !writer.over {
            writer = self.turned.wait(writer).unwrap_or_else(PoisonError::into_inner);
        }
        writer
    }

    /// Puts a batch, whose turn it is. A fault is one of the shard.
    fn put(
        &self,
        writer: &mut Writer,
        batch: &Batch,
        made: Option<(Made, Option<Leader>)>,
        (counters, reader): (&Counters, &mut Reader<'_>),
        (mut tool, framed): (Option<&mut Encoder>, &mut Vec<u8>),
    ) -> Result<(), Stopped> {
        writer.counted = 0;
        if let Current::Failed(outcome) = writer.current {
            Self::lose(&batch.items, outcome, counters);
            return Ok(());
        }
        if let Current::None = writer.current {
            let begun = Shard::begin(self.place, (self.number(batch), self.next.state), self.desk)?;
            writer.current = Current::Open(Box::new(begun));
        }
        let Some((mut made, mut leader)) = made else {
            return self.put_large(writer, batch, (counters, reader), tool);
        };
        // What was taken for the first of the links may not have been read.
        let before = writer.leader.take();
        let goes_on = assumed(batch);
        if let Some(goes_on) = &goes_on {
            let real = before.filter(|real| real.group == goes_on.group);
            if real.as_ref().map(|real| &real.path) == Some(&goes_on.path) {
                let is_same = |leader: &Leader| leader.group == goes_on.group && leader.path == goes_on.path;
                if let Some(real) = &real {
                    for Seen { packed, .. } in made.entries.iter_mut().flatten() {
                        if packed.entry.link_group == Some(real.group) {
                            packed.entry.digests.clone_from(&real.content.1);
                            packed.stored.clone_from(&real.content.2);
                        }
                    }
                }
                if leader.as_ref().is_some_and(is_same) {
                    leader = real;
                }
            } else {
                leader.clone_from(&real);
                let Some(again) = self.read(reader, batch, &mut leader, (tool.as_deref_mut(), framed))? else {
                    writer.leader = real;
                    return self.put_large(writer, batch, (counters, reader), tool);
                };
                made = again;
            }
        }
        writer.leader = leader;
        let Current::Open(shard) = &mut writer.current else {
            return Ok(());
        };
        let (at, tar) = shard.offsets();
        let is_compressed = self.place.codec.is_some();
        let bytes = if is_compressed { &framed[..] } else { &made.blocks[..] };
        shard.put(bytes, made.blocks.len() as u64)?;
        written(counters, made.content);
        for (item, read) in batch.items.iter().zip(made.entries) {
            writer.counted += 1;
            match read {
                Ok(mut seen) => {
                    seen.packed.frame = is_compressed.then_some((at, seen.packed.offset));
                    seen.packed.offset += tar;
                    self.enter(shard, item, seen)?;
                }
                Err(fault) => self.entry_failed(item, &fault, counters),
            }
        }
        reader.reuse(made.blocks);
        Ok(())
    }

    /// Reads and puts entries of which one is large: that goes through memory in pieces.
    fn put_large(
        &self,
        writer: &mut Writer,
        batch: &Batch,
        (counters, reader): (&Counters, &mut Reader<'_>),
        mut tool: Option<&mut Encoder>,
    ) -> Result<(), Stopped> {
        let Current::Open(shard) = &mut writer.current else {
            return Ok(());
        };
        let (mut pending, mut framed) = (Vec::new(), Vec::new());
        for item in &batch.items {
            let (mark, (at, tar)) = (shard.mark(), shard.offsets());
            let _in_hand = counters.flight.in_hand();
            counters.flight.begin(item.content());
            // What goes wrong with the shard is not the file's.
            let mut broken = None;
            let read = reader.once(item, &mut writer.leader, &mut |bytes| {
                counters.flight.moved(bytes.len() as u64);
                let put = match tool.as_deref_mut() {
                    None => shard.put(bytes, bytes.len() as u64),
                    Some(tool) => {
                        pending.extend_from_slice(bytes);
                        if pending.len() < tool.codec().block_bytes() {
                            return Ok(());
                        }
                        encode(tool, &pending, &mut framed, &|| self.goes_on())?;
                        let put = shard.put(&framed, pending.len() as u64);
                        pending.clear();
                        put
                    }
                };
                put.map_err(|fault| {
                    broken = Some(fault);
                    Stopped::Aborted
                })
            });
            if let Some(fault) = broken {
                return Err(fault.into());
            }
            if let (Ok(_), Some(tool), false) = (&read, tool.as_deref_mut(), pending.is_empty()) {
                encode(tool, &pending, &mut framed, &|| self.goes_on())?;
                shard.put(&framed, pending.len() as u64)?;
            }
            pending.clear();
            match read {
                Ok(mut seen) => {
                    seen.packed.offset = tar;
                    seen.packed.length = shard.offsets().1 - tar;
                    seen.packed.frame = tool.is_some().then_some((at, 0));
                    written(counters, item.content().min(seen.packed.length));
                    writer.counted += 1;
                    self.enter(shard, item, seen)?;
                }
                Err(Stopped::Fault(fault)) => {
                    shard.back_to(mark);
                    writer.counted += 1;
                    self.entry_failed(item, &fault, counters);
                }
                Err(Stopped::Aborted) => return Err(Stopped::Aborted),
            }
        }
        Ok(())
    }

    /// An entry is in its shard.
    fn enter(&self, shard: &mut Shard, item: &Item, seen: Seen) -> Result<(), Fault> {
        if item.again {
            return Ok(());
        }
        let Seen { mut packed, is_link } = seen;
        let outcome = outcome_of(item.kind(), is_link);
        let bytes = if outcome == Outcome::Copied {
            packed.entry.size.unwrap_or_default()
        } else {
            0
        };
        packed.shard = shard.name().to_vec();
        let places = || (self.bases.path(&item.path), join(&self.place.path, shard.name()));
        self.teller.tell(item, places, outcome, bytes);
        shard.enter(&Line::Entry(Box::new(packed)), item.kind(), outcome, bytes)
    }

    fn entry_failed(&self, item: &Item, fault: &Fault, counters: &Counters) {
        // One that is there again has its outcome elsewhere.
        if !item.again {
            counters.outcome(item.kind(), fault.outcome(), None, 0);
            let path = self.bases.path(&item.path);
            self.desk.fail(Failure::new(fault, path, item.kind(), None));
        }
    }

    /// Entries get the outcome of their shard, which failed.
    fn lose(items: &[Item], outcome: Outcome, counters: &Counters) {
        for item in items.iter().filter(|item| !item.again) {
            counters.outcome(item.kind(), outcome, None, 0);
        }
    }

    /// A shard can't be written: it goes, and what was to be in it has failed.
    fn shard_failed(&self, writer: &mut Writer, batch: &Batch, counters: &Counters, fault: &Fault) {
        let suffix = self.place.suffix();
        let path = join(&self.place.path, &shards::name(self.number(batch), suffix));
        self.desk.fail(Failure::new(fault, path.clone(), Kind::File, None));
        let failed = Current::Failed(fault.outcome());
        if let Current::Open(shard) = std::mem::replace(&mut writer.current, failed)
            && let Err(fault) = shard.discard(counters, Some(fault.outcome()))
        {
            self.desk.fail(Failure::new(&fault, path, Kind::File, None));
        }
        Self::lose(&batch.items[writer.counted..], fault.outcome(), counters);
    }

    /// Proves a shard and gives it its name.
    fn finish(&self, shard: Shard, number: u64, counters: &Counters, buffer: &mut [u8]) {
        let path = join(&self.place.path, shard.name());
        match shard.finish(counters, self.desk, buffer) {
            Ok(Done { shard, bytes }) => {
                let mut done = locked(&self.done);
                let part = Part {
                    number,
                    path,
                    entries: shard.entries,
                    bytes,
                    ..Part::default()
                };
                self.teller.add(&mut done.1, part);
                done.0.push(shard);
            }
            Err(Some(fault)) => self.desk.fail(Failure::new(&fault, path, Kind::File, None)),
            Err(None) => {}
        }
    }

    /// The end of all: what is unfinished goes, and the state is written down.
    pub fn end(self, removed: Option<(Sorted, Sorters)>) -> Result<Parts, Refusal> {
        let writer = self.writer.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (mut all, parts) = self.done.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Current::Open(shard) = writer.current
            && let Err(fault) = shard.discard(&self.desk.counters[0], None)
        {
            self.desk
                .fail(Failure::new(&fault, self.place.path.clone(), Kind::File, None));
        }
        if let Some(refusal) = writer.refusal {
            return Err(refusal);
        }
        if self.desk.cancel.is_draining() || writer.over {
            return Ok(parts);
        }
        all.extend(self.next.unfinished);
        all.sort_by(|one, other| one.name.cmp(&other.name));
        if !all.is_empty() || removed.is_some() {
            self.desk.enter(Phase::Closing);
            state((self.place, self.desk), self.next.state, &all, removed)?;
        }
        if self.place.depot.is_some() {
            return Ok(parts);
        }
        let _syncing = self.desk.syncing();
        let synced = sys::sync_file_system(self.place.directory.as_fd());
        synced.map_err(|errno| Refusal::Output(format!("{}: {}", show(&self.place.path), describe(errno))))?;
        Ok(parts)
    }
}

/// Writes down what a state is: the sums of its shards, then these, and what is not there any more.
fn state(
    (place, desk): (&Place, &Arc<Desk>),
    number: u64,
    all: &[shards::Shard],
    removed: Option<(Sorted, Sorters)>,
) -> Result<(), Refusal> {
    let (name, sums) = shards::state_names(number);
    let counters = &desk.counters[0];
    let failed = |name: &[u8], stopped| match stopped {
        Stopped::Fault(fault) => {
            Refusal::Output(Failure::new(&fault, join(&place.path, name), Kind::File, None).message)
        }
        Stopped::Aborted => Refusal::Output(format!("{}: it was told to stop", show(&join(&place.path, name)))),
    };
    let write = || -> Result<(), Stopped> {
        let (mut output, mut line) = (Lines::begin(place, (&sums, Taken::Goes), desk)?, Vec::new());
        for shard in all {
            for digest in &shard.digests {
                digest.write_hex(&mut line);
                line.extend_from_slice(&[b"  ", &shard.name[..], b"\n"].concat());
            }
        }
        output.write(&line)?;
        output.finish(desk, counters)
    };
    write().map_err(|stopped| failed(&sums, stopped))?;
    let mut output = Lines::begin(place, (&name, Taken::Stays), desk).map_err(|fault| failed(&name, fault.into()))?;
    let put = |output: &mut Lines, line: &mut Vec<u8>| {
        let written = output.write(line).map_err(|fault| failed(&name, fault.into()));
        line.clear();
        written
    };
    let mut line = Vec::new();
    shards::head(&mut line);
    for shard in all {
        shards::write(&Line::Shard(shard.clone()), &mut line);
    }
    if let Some((mut removed, sorters)) = removed {
        while let Some((key, _)) = removed.next().map_err(|errno| sorters.refusal(errno))? {
            shards::write(&Line::Removed(of_key(key)), &mut line);
            put(&mut output, &mut line)?;
        }
    }
    shards::write(&Line::State(number, all.len() as u64), &mut line);
    put(&mut output, &mut line)?;
    output.finish(desk, counters).map_err(|stopped| failed(&name, stopped))
}

/// The link that the first one of a batch goes on with, if it is none of its own.
fn assumed(batch: &Batch) -> Option<Leader> {
    let first = batch.items.iter().find(|item| item.group > 0)?;
    Some(Leader {
        group: first.group,
        path: first.leader.clone()?,
        inode: first.links?.inode,
        facts: entry::facts(&first.entry),
        content: (0, Vec::new(), Vec::new()),
    })
}
