//! An external merge sort: more records than memory holds, in order.
//!
//! Comes in: records, each a key and a payload, to one [`Sorter`] a thread; goes out: all of them once, by key, where keys
//! are equal by payload, both as bytes ([`Sorted`]). Memory is what [`Sorters`] was given, whatever the number of records:
//! a sorter that is full writes what it has, sorted, to a file without a name in the spill directory, and begins again.
//! What they hold is merged by a thread of its own, some batches ahead of whoever takes it: nobody else has anything to do
//! then, and the more threads took records in, the more of the whole time this end of it is. Promises: no record is lost
//! or made without an error that says so, and no file is left, however the process ends.

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as Order};
use std::sync::mpsc::{self, Receiver};
use std::thread::Builder;

use bulkhaul_sys::{self as sys, AsFd as _, Errno, OwnedFd};

use crate::bytes::output::unnamed_file;
use crate::error::{Refusal, describe};
use crate::report::counters::Steps;
use crate::tree::path::open_directory_path;

/// Memory of all sorters of an operation together, in bytes.
pub const SORT_BYTES: usize = 128 * 1024 * 1024;
/// Bytes of a run that are written, and read back, in one call.
const STRETCH_BYTES: usize = 256 * 1024;
/// Runs of one sorter; beyond them they are merged into one, so that descriptors and buffers stay few.
const MOST_RUNS: usize = 32;
/// Bytes of a batch of merged records; a record that is longer is one of its own.
const BATCH_BYTES: usize = 256 * 1024;
/// Batches that wait to be taken.
const BATCHES_AHEAD: usize = 4;
/// What stands before a record in a run and in a batch: the lengths of its key and payload.
const HEAD_BYTES: usize = 8;
/// Bytes of a key that are compared at a time.
const PREFIX_BYTES: usize = size_of::<u64>();
/// So many records are compared as they are.
const FEW_RECORDS: usize = 16;

/// Where runs go, and how much memory a sorter has.
#[derive(Clone, Debug)]
pub struct Sorters {
    spill_directory: Option<Vec<u8>>,
    /// Of all of them together.
    memory: usize,
    /// So many share it, or as many more as there are.
    least: usize,
    handed_out: Arc<AtomicUsize>,
    /// Stretches that were written.
    steps: Arc<Steps>,
}

impl Sorters {
    /// For this many sorters at once, or more, with `memory` bytes together. `spill_directory`: where runs go; it is looked
    /// at only when one is written. `None`: everything stays in memory.
    pub fn new(spill_directory: Option<&[u8]>, memory: usize, sorters: usize) -> Self {
        Self {
            spill_directory: spill_directory.map(<[u8]>::to_vec),
            memory: if spill_directory.is_some() { memory } else { usize::MAX },
            least: sorters.max(1),
            handed_out: Arc::default(),
            steps: Arc::default(),
        }
    }

    /// The same, with each stretch of a run that is written counted here.
    #[must_use]
    pub fn counted(self, steps: Arc<Steps>) -> Self {
        Self { steps, ..self }
    }

    /// The same for this many others, or more, which share memory of their own.
    #[must_use]
    pub fn anew(&self, sorters: usize) -> Self {
        Self {
            least: sorters.max(1),
            handed_out: Arc::default(),
            ..self.clone()
        }
    }

    /// What a sorter may take by now.
    fn share(&self) -> usize {
        self.memory / self.handed_out.load(Order::Relaxed).max(self.least)
    }

    /// Why an operation could not go on when the spill directory answered so.
    pub fn refusal(&self, errno: Errno) -> Refusal {
        let directory = self
            .spill_directory
            .as_deref()
            .map(String::from_utf8_lossy)
            .unwrap_or_default();
        Refusal::NoStart(format!(
            "no room for temporary files in {directory}: {}",
            describe(errno)
        ))
    }

    /// The same for an error of the library.
    pub fn failed(&self, error: &std::io::Error) -> Refusal {
        self.refusal(error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))
    }

    /// A file without a name for what else does not fit in memory.
    pub fn file(&self) -> Result<OwnedFd, Refusal> {
        self.unnamed().map_err(|errno| self.refusal(errno))
    }

    fn unnamed(&self) -> sys::Result<OwnedFd> {
        let directory = self.spill_directory.as_deref().ok_or(Errno::NOMEM)?;
        unnamed_file(&open_directory_path(directory, sys::Follow::Yes)?)
    }

    /// An empty sorter.
    pub fn sorter(&self) -> Sorter {
        self.handed_out.fetch_add(1, Order::Relaxed);
        Sorter {
            sorters: self.clone(),
            bytes: Vec::new(),
            index: Vec::new(),
            sorted: true,
            runs: Vec::new(),
        }
    }
}

/// Where a record is in a sorter's memory.
#[derive(Clone, Copy)]
struct Slot {
    /// The bytes of its key that are being compared.
    prefix: u64,
    offset: u32,
}

/// Takes records in.
pub struct Sorter {
    sorters: Sorters,
    /// Each record: two lengths, key, payload.
    bytes: Vec<u8>,
    index: Vec<Slot>,
    /// The index is in order.
    sorted: bool,
    runs: Vec<Run>,
}

/// A sorted file.
struct Run {
    file: OwnedFd,
    length: u64,
}

/// The first bytes of a key as a number; a key that is shorter comes first, or is the same.
fn prefix(key: &[u8]) -> u64 {
    let mut bytes = [0; PREFIX_BYTES];
    let length = key.len().min(PREFIX_BYTES);
    bytes[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(bytes)
}

/// Adds a record to such bytes.
fn append(key: &[u8], payload: &[u8], bytes: &mut Vec<u8>) -> sys::Result<()> {
    let length = |part: &[u8]| u32::try_from(part.len()).map_err(|_| Errno::OVERFLOW);
    let (key_length, payload_length) = (length(key)?, length(payload)?);
    bytes.extend_from_slice(&key_length.to_le_bytes());
    bytes.extend_from_slice(&payload_length.to_le_bytes());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(payload);
    Ok(())
}

/// Key and payload of the record that such bytes begin with.
fn split(record: &[u8]) -> (&[u8], &[u8]) {
    let number = |at: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&record[at..at + 4]);
        u32::from_le_bytes(bytes) as usize
    };
    let (key, payload) = (number(0), number(4));
    let rest = &record[HEAD_BYTES..];
    (&rest[..key], &rest[key..key + payload])
}

impl Sorter {
    /// Takes a record in. An error is one of the spill directory; what was taken in before is then lost.
    pub fn push(&mut self, key: &[u8], payload: &[u8]) -> sys::Result<()> {
        let size = HEAD_BYTES + key.len() + payload.len();
        let used = self.bytes.len() + self.index.len() * size_of::<Slot>();
        if used + size + size_of::<Slot>() > self.sorters.share() && !self.index.is_empty() {
            self.spill()?;
        }
        let offset = u32::try_from(self.bytes.len()).map_err(|_| Errno::OVERFLOW)?;
        // What comes in order is left as it is.
        let follows = |last: &Slot| self.record(*last) <= (key, payload);
        self.sorted = self.sorted && self.index.last().is_none_or(follows);
        append(key, payload, &mut self.bytes)?;
        self.index.push(Slot { prefix: 0, offset });
        Ok(())
    }

    /// Whether each record has a key of its own, where that can be told from memory.
    pub fn has_each_key_once(&mut self) -> bool {
        self.sort();
        let rises = |a: &Slot, b: &Slot| self.record(*a).0 < self.record(*b).0;
        self.runs.is_empty() && self.index.is_sorted_by(rises)
    }

    fn record(&self, slot: Slot) -> (&[u8], &[u8]) {
        split(&self.bytes[slot.offset as usize..])
    }

    /// Puts what is in memory in order. Whoever has taken records in does it best, while others are at work too.
    pub fn sort(&mut self) {
        if self.sorted {
            return;
        }
        let mut index = std::mem::take(&mut self.index);
        self.arrange(&mut index);
        self.index = index;
        self.sorted = true;
    }

    /// A few bytes of each key at a time, past what the keys have in common, so that a comparison seldom needs the records
    /// themselves: those are all over the memory.
    fn arrange(&self, index: &mut [Slot]) {
        let mut waiting = vec![(0..index.len(), 0)];
        while let Some((range, from)) = waiting.pop() {
            let part = &mut index[range.clone()];
            if part.len() <= FEW_RECORDS {
                part.sort_unstable_by(|a, b| self.record(*a).cmp(&self.record(*b)));
                continue;
            }
            let rest = |slot: &Slot| self.record(*slot).0.get(from..).unwrap_or_default();
            let first = rest(&part[0]);
            let (mut common, mut longest) = (first.len(), 0);
            for slot in &*part {
                let key = rest(slot);
                common = first[..common].iter().zip(key).take_while(|(a, b)| a == b).count();
                longest = longest.max(key.len());
            }
            for slot in &mut *part {
                slot.prefix = prefix(rest(slot).get(common..).unwrap_or_default());
            }
            part.sort_unstable_by_key(|slot| slot.prefix);
            let mut start = range.start;
            for same in part.chunk_by_mut(|a, b| a.prefix == b.prefix) {
                let end = start + same.len();
                if longest <= common + PREFIX_BYTES {
                    // There is no more of the keys.
                    same.sort_unstable_by(|a, b| self.record(*a).cmp(&self.record(*b)));
                } else if same.len() > 1 {
                    waiting.push((start..end, from + common + PREFIX_BYTES));
                }
                start = end;
            }
        }
    }

    fn spill(&mut self) -> sys::Result<()> {
        self.sort();
        let mut writer = Writer::new(&self.sorters)?;
        for slot in &self.index {
            let (key, payload) = self.record(*slot);
            writer.write(key, payload)?;
        }
        self.runs.push(writer.finish()?);
        self.bytes.clear();
        self.index.clear();
        if self.runs.len() >= MOST_RUNS {
            let mut merged = Writer::new(&self.sorters)?;
            let readers = self.runs.drain(..).map(|run| Source::Run(Reader::new(run))).collect();
            let mut all = Merge::new(readers)?;
            while let Some((key, payload)) = all.next()? {
                merged.write(key, payload)?;
            }
            self.runs.push(merged.finish()?);
        }
        Ok(())
    }

    fn into_sources(mut self) -> Vec<Source> {
        self.sort();
        let mut sources: Vec<Source> = self.runs.drain(..).map(|run| Source::Run(Reader::new(run))).collect();
        if !self.index.is_empty() {
            sources.push(Source::Memory { sorter: self, next: 0 });
        }
        sources
    }
}

/// Writes a run.
struct Writer {
    file: OwnedFd,
    steps: Arc<Steps>,
    buffer: Vec<u8>,
    written: u64,
}

impl Writer {
    fn new(sorters: &Sorters) -> sys::Result<Self> {
        Ok(Self {
            file: sorters.unnamed()?,
            steps: Arc::clone(&sorters.steps),
            buffer: Vec::with_capacity(STRETCH_BYTES),
            written: 0,
        })
    }

    fn write(&mut self, key: &[u8], payload: &[u8]) -> sys::Result<()> {
        let size = HEAD_BYTES + key.len() + payload.len();
        if self.buffer.len() + size > STRETCH_BYTES {
            self.flush()?;
        }
        append(key, payload, &mut self.buffer)
    }

    fn flush(&mut self) -> sys::Result<()> {
        sys::write_all_at(self.file.as_fd(), &self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.steps.add(1);
        Ok(())
    }

    fn finish(mut self) -> sys::Result<Run> {
        self.flush()?;
        Ok(Run {
            file: self.file,
            length: self.written,
        })
    }
}

/// Reads a run.
struct Reader {
    run: Run,
    /// What of the file is in the buffer begins here.
    offset: u64,
    buffer: Vec<u8>,
    /// Where the current record is in the buffer.
    at: usize,
    /// Its bytes; 0 before the first.
    size: usize,
}

impl Reader {
    fn new(run: Run) -> Self {
        Self {
            run,
            offset: 0,
            buffer: Vec::new(),
            at: 0,
            size: 0,
        }
    }

    /// Goes on to the next record; false at the end.
    fn advance(&mut self) -> sys::Result<bool> {
        self.at += self.size;
        self.size = 0;
        if self.offset + self.at as u64 == self.run.length {
            return Ok(false);
        }
        self.hold(HEAD_BYTES)?;
        let mut lengths = [0; HEAD_BYTES];
        lengths.copy_from_slice(&self.buffer[self.at..self.at + HEAD_BYTES]);
        let lengths = u64::from_le_bytes(lengths);
        // Two 32-bit numbers: the sum does not overflow.
        let size = HEAD_BYTES + (lengths & 0xffff_ffff) as usize + (lengths >> 32) as usize;
        self.hold(size)?;
        self.size = size;
        Ok(true)
    }

    /// Sees to it that this many bytes from the current place on are in the buffer.
    fn hold(&mut self, size: usize) -> sys::Result<()> {
        if self.buffer.len() - self.at >= size {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.offset += self.at as u64;
        self.at = 0;
        let have = self.buffer.len();
        let left = usize::try_from(self.run.length - self.offset).unwrap_or(usize::MAX);
        let want = left.min(size.max(STRETCH_BYTES));
        if want < size {
            return Err(Errno::IO);
        }
        self.buffer.resize(want, 0);
        let got = sys::read_full_at(
            self.run.file.as_fd(),
            &mut self.buffer[have..],
            self.offset + have as u64,
        )?;
        // A run that ends early was not read as it was written.
        if have + got < want {
            return Err(Errno::IO);
        }
        Ok(())
    }

    fn record(&self) -> (&[u8], &[u8]) {
        split(&self.buffer[self.at..])
    }
}

enum Source {
    /// `next` is one past the current record.
    Memory {
        sorter: Sorter,
        next: usize,
    },
    Run(Reader),
}

impl Source {
    fn advance(&mut self) -> sys::Result<bool> {
        match self {
            Self::Memory { sorter, next } => {
                *next += 1;
                Ok(*next <= sorter.index.len())
            }
            Self::Run(reader) => reader.advance(),
        }
    }

    fn record(&self) -> (&[u8], &[u8]) {
        match self {
            Self::Memory { sorter, next } => sorter.record(sorter.index[*next - 1]),
            Self::Run(reader) => reader.record(),
        }
    }
}

/// Sorted records as one sequence.
struct Merge {
    sources: Vec<Source>,
    /// A heap of indices of the sources that have a record; the first has the smallest.
    heap: Vec<usize>,
    begun: bool,
}

impl Merge {
    fn new(sources: Vec<Source>) -> sys::Result<Self> {
        let mut merge = Self {
            sources,
            heap: Vec::new(),
            begun: false,
        };
        for index in 0..merge.sources.len() {
            if merge.sources[index].advance()? {
                merge.heap.push(index);
            }
        }
        for place in (0..merge.heap.len() / 2).rev() {
            merge.sink(place);
        }
        Ok(merge)
    }

    fn order(&self, a: usize, b: usize) -> Ordering {
        let record = |place: usize| self.sources[self.heap[place]].record();
        record(a).cmp(&record(b))
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let mut smallest = place;
            for child in [2 * place + 1, 2 * place + 2] {
                if child < self.heap.len() && self.order(child, smallest) == Ordering::Less {
                    smallest = child;
                }
            }
            if smallest == place {
                return;
            }
            self.heap.swap(place, smallest);
            place = smallest;
        }
    }

    /// The next record's key and payload; `None` at the end.
    fn next(&mut self) -> sys::Result<Option<(&[u8], &[u8])>> {
        if self.begun
            && let Some(&first) = self.heap.first()
        {
            if !self.sources[first].advance()? {
                self.heap.swap_remove(0);
            }
            self.sink(0);
        }
        self.begun = true;
        Ok(self.heap.first().map(|first| self.sources[*first].record()))
    }

    /// The next batch; an empty one at the end.
    fn batch(&mut self) -> sys::Result<Vec<u8>> {
        let mut batch = Vec::with_capacity(BATCH_BYTES);
        while batch.len() < BATCH_BYTES
            && let Some((key, payload)) = self.next()?
        {
            append(key, payload, &mut batch)?;
        }
        Ok(batch)
    }
}

/// Where batches come from.
enum Supply {
    /// From another thread. Without the empty batch at the end, that thread has not come to its end.
    Ahead(Receiver<sys::Result<Vec<u8>>>),
    /// From this one, where no other could be started: slower, not wrong.
    Here(Merge),
}

/// All records in order.
pub struct Sorted {
    supply: Supply,
    batch: Vec<u8>,
    /// Where the next record is in the batch.
    at: usize,
    ended: bool,
}

impl Sorted {
    /// What these sorters took in, together.
    pub fn merge(sorters: Vec<Sorter>) -> sys::Result<Self> {
        let merge = Merge::new(sorters.into_iter().flat_map(Sorter::into_sources).collect())?;
        let (give, given) = mpsc::sync_channel::<Merge>(1);
        let (put, batches) = mpsc::sync_channel(BATCHES_AHEAD);
        let thread = Builder::new().name("bulkhaul-merge".into()).spawn(move || {
            let Ok(mut merge) = given.recv() else { return };
            loop {
                let batch = merge.batch();
                let last = batch.as_ref().map_or(true, Vec::is_empty);
                // Refused where nobody wants the rest.
                if put.send(batch).is_err() || last {
                    return;
                }
            }
        });
        // What could not be started has dropped its end of the channel, and hands the work back.
        drop(thread);
        let supply = match give.send(merge) {
            Ok(()) => Supply::Ahead(batches),
            Err(mpsc::SendError(merge)) => Supply::Here(merge),
        };
        Ok(Self::new(supply))
    }

    fn new(supply: Supply) -> Self {
        Self {
            supply,
            batch: Vec::new(),
            at: 0,
            ended: false,
        }
    }

    /// The next record's key and payload; `None` at the end.
    #[allow(clippy::should_implement_trait, reason = "the record is lent")]
    pub fn next(&mut self) -> sys::Result<Option<(&[u8], &[u8])>> {
        if self.at == self.batch.len() && !self.ended {
            self.batch = match &mut self.supply {
                Supply::Ahead(batches) => batches.recv().unwrap_or(Err(Errno::IO))?,
                Supply::Here(merge) => merge.batch()?,
            };
            self.at = 0;
            self.ended = self.batch.is_empty();
        }
        if self.ended {
            return Ok(None);
        }
        let record = split(&self.batch[self.at..]);
        self.at += HEAD_BYTES + record.0.len() + record.1.len();
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Records = Vec<(Vec<u8>, Vec<u8>)>;

    /// What was taken in, merged by another thread and by this one, and how many runs that took.
    fn sorted(records: &Records, memory: usize, threads: usize) -> (Records, usize) {
        let ahead = taken(records, memory, threads, |all| Sorted::merge(all).unwrap());
        let here = taken(records, memory, threads, |all| {
            let sources = all.into_iter().flat_map(Sorter::into_sources).collect();
            Sorted::new(Supply::Here(Merge::new(sources).unwrap()))
        });
        assert!(ahead == here);
        ahead
    }

    fn taken(
        records: &Records,
        memory: usize,
        threads: usize,
        merge: impl FnOnce(Vec<Sorter>) -> Sorted,
    ) -> (Records, usize) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().as_os_str().as_encoded_bytes().to_vec();
        let sorters = Sorters::new(Some(&path), memory, threads);
        let mut all: Vec<Sorter> = (0..threads).map(|_| sorters.sorter()).collect();
        for (number, (key, payload)) in records.iter().enumerate() {
            let sorter = &mut all[number % threads];
            sorter.push(key, payload).unwrap();
            assert!(sorter.bytes.len() <= (memory / threads).max(HEAD_BYTES + key.len() + payload.len()));
            assert!(sorter.runs.len() < MOST_RUNS);
        }
        let runs = all.iter().map(|sorter| sorter.runs.len()).sum();
        let mut merged = merge(all);
        let mut seen = Vec::new();
        while let Some((key, payload)) = merged.next().unwrap() {
            seen.push((key.to_vec(), payload.to_vec()));
        }
        assert!(merged.next().unwrap().is_none());
        assert_eq!(
            std::fs::read_dir(scratch.path()).unwrap().count(),
            0,
            "no file has a name"
        );
        (seen, runs)
    }

    #[test]
    fn more_than_memory_holds() {
        // Ten thousand records of about 40 bytes in 4 KiB: a hundred runs, so that runs are merged on the way.
        let records: Records = (0..10_000_u32)
            .map(|n| {
                (
                    format!("key {:05}", n.wrapping_mul(7919) % 10_007).into(),
                    n.to_le_bytes().to_vec(),
                )
            })
            .collect();
        let mut expected = records.clone();
        expected.sort();
        for threads in [1, 3] {
            let (seen, runs) = sorted(&records, 4096, threads);
            assert!(seen == expected && runs > 3, "{runs} runs");
        }
        let (seen, runs) = sorted(&records, SORT_BYTES, 2);
        assert!(seen == expected && runs == 0);
    }

    #[test]
    fn keys_with_much_in_common() {
        // All of up to thirteen letters and ends of keys, after what all begin with; and one of them very often.
        let of = |length: u32, bits: u32| (0..length).map(move |place| if bits >> place & 1 == 0 { 0 } else { b'a' });
        let keys = (0..14).flat_map(|length| (0..1 << length).map(move |bits| (length, bits)));
        let many = (0..200).map(|_| (13, 0x1a5a));
        let records: Records = keys
            .chain(many)
            .enumerate()
            .map(|(number, (length, bits))| {
                let key = b"common".iter().copied().chain(of(length, bits)).collect();
                (key, number.wrapping_mul(7919).to_le_bytes().to_vec())
            })
            .collect();
        let mut expected = records.clone();
        expected.sort();
        assert!(sorted(&records, SORT_BYTES, 1).0 == expected);
        assert!(sorted(&records, 100_000, 2).0 == expected);
    }

    #[test]
    fn records_around_the_size_of_a_stretch() {
        for size in [
            STRETCH_BYTES - HEAD_BYTES - 1,
            STRETCH_BYTES - HEAD_BYTES,
            STRETCH_BYTES,
            3 * STRETCH_BYTES,
        ] {
            let records: Records = (0..6).map(|n| (vec![b'a' + (n * 5 % 6); size], vec![n; 3])).collect();
            let mut expected = records.clone();
            expected.sort();
            assert!(sorted(&records, 1000, 1).0 == expected, "{size}");
        }
    }

    #[test]
    fn a_run_that_was_cut_is_an_error_wherever_it_is_merged() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().as_os_str().as_encoded_bytes().to_vec();
        let cut = || {
            let mut sorter = Sorters::new(Some(&path), 10_000, 1).sorter();
            for number in 0..100_000_u32 {
                sorter.push(&number.to_be_bytes(), b"payload").unwrap();
            }
            let run = &sorter.runs[0];
            sys::set_size(run.file.as_fd(), run.length - 1).unwrap();
            sorter
        };
        let end = |mut merged: Sorted| loop {
            match merged.next() {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        };
        assert_eq!(end(Sorted::merge(vec![cut()]).unwrap()), Err(Errno::IO));
        let merge = Merge::new(cut().into_sources()).unwrap();
        assert_eq!(end(Sorted::new(Supply::Here(merge))), Err(Errno::IO));
    }

    #[test]
    fn a_thread_that_does_not_come_to_its_end_is_an_error() {
        let (put, batches) = mpsc::sync_channel(1);
        let mut batch = Vec::new();
        append(b"key", b"payload", &mut batch).unwrap();
        put.send(Ok(batch)).unwrap();
        drop(put);
        let mut merged = Sorted::new(Supply::Ahead(batches));
        assert_eq!(merged.next(), Ok(Some((&b"key"[..], &b"payload"[..]))));
        assert_eq!(merged.next(), Err(Errno::IO));
    }

    #[test]
    fn a_spill_directory_that_is_not_there() {
        let mut sorter = Sorters::new(Some(b"/nowhere/at/all"), 10, 1).sorter();
        sorter.push(b"a", b"").unwrap();
        assert_eq!(sorter.push(b"b", b""), Err(Errno::NOENT));
    }

    proptest! {
        #[test]
        fn as_in_memory(
            records in prop::collection::vec(
                // The second kind have much in common, and much that looks like the end of a key.
                (prop_oneof!["[ab/]{0,12}", "(aaaaaaa){0,3}[a\u{0}]{0,12}"], any::<Vec<u8>>()),
                0..80,
            ),
            memory in 1..2000_usize,
            threads in 1..4_usize,
        ) {
            let records: Records = records.into_iter().map(|(key, payload)| (key.into_bytes(), payload)).collect();
            let mut expected = records.clone();
            expected.sort();
            prop_assert_eq!(sorted(&records, memory, threads).0, expected);
        }
    }
}
