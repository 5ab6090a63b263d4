//! Big files in chunks, over the workers that have nothing else to do: copied, or compared.
//!
//! Comes in: two files, a source and its copy; goes out: what [`Transfer::part`] answers over all of it, or whether both are
//! the same, and the digest of all bytes where it is wanted. Who has the file does chunk after chunk and invites whoever is
//! free meanwhile; it waits for its helpers, who wait for nobody, and the first error stops all of them. Consecutive chunks
//! go to whoever is next, so that the file grows from front to back; what its ledger says is there is passed over. When the
//! run is told to stop and the file would take too long, the chunks that were begun end where they can, and no other is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bulkhaul_formats::digest::{Blake3, ContentDigest, Digest, Parts};
use bulkhaul_sys::{self as sys, AsFd as _, OwnedFd, Stat};

use crate::bytes::ledger::{Ledger, Part};
use crate::bytes::transfer::{CHUNK_BYTES, Terms, Transfer};
use crate::error::{Fault, Operation, Side, Stopped};
use crate::report::counters::{Counters, Flight};

/// A file that is being copied or compared in chunks.
pub struct Chunks {
    size: u64,
    destination: usize,
    deed: Deed,
    /// What is done and what is proved.
    ledger: Option<Arc<Ledger>>,
    /// Takes in all bytes, where their digest is wanted.
    parts: Option<Mutex<Parts>>,
    /// Digests are wanted for which all is to be read from front to back: nobody helps.
    in_order: bool,
    /// These, in the end.
    others: Mutex<Option<Vec<Digest>>>,
    begun: Instant,
    /// How far it has come, at who leads.
    flight: Arc<Flight>,
    /// What of that is not the work of these chunks.
    before: AtomicU64,
    /// Where the next chunk starts.
    next: AtomicU64,
    /// Where the source ended: its size, unless it became shorter.
    end: AtomicU64,
    differs: AtomicBool,
    inner: Mutex<Inner>,
    left: Condvar,
}

enum Deed {
    Copy { stat: Stat, to_device: u64 },
    Compare,
}

struct Inner {
    /// Source and copy; taken away when all is over, so that who comes late keeps nothing open.
    files: Option<Arc<(OwnedFd, OwnedFd)>>,
    helpers: usize,
    stopped: Option<Stopped>,
}

/// A big file that was copied.
pub struct Copied {
    /// Where the source ended, as [`Transfer::part`].
    pub end: u64,
    /// The BLAKE3 of all that it gave, where that is wanted and all of it was read.
    pub digest: Option<ContentDigest>,
    /// The same of other digests.
    pub others: Option<Vec<Digest>>,
}

/// Who leads, with what.
pub struct Lead<'l> {
    /// What goes for the destination.
    pub terms: Terms<'l>,
    /// Where it counts.
    pub counters: &'l Counters,
    /// Room for content.
    pub buffer: &'l mut [u8],
    /// Asked before each chunk to call somebody who has nothing to do.
    pub invite: &'l dyn Fn(&Arc<Chunks>),
}

impl Chunks {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does chunks until none is left, something stopped it, or it is time to `leave` the rest to others.
    fn work(
        &self,
        (terms, counters): (Terms<'_>, &Counters),
        files: &(OwnedFd, OwnedFd),
        buffer: &mut [u8],
        between: impl Fn(),
        leave: impl Fn() -> bool,
    ) {
        let transfer = match &self.deed {
            Deed::Copy { stat, to_device } => {
                let files = (files.0.as_fd(), files.1.as_fd());
                let transfer = Transfer::new(terms, counters, files, *stat, *to_device);
                Some(
                    transfer
                        .in_flight(&self.flight, self.ledger.as_deref())
                        .sized(self.size),
                )
            }
            Deed::Compare => None,
        };
        if let Some(transfer) = transfer.as_ref().filter(|_| !self.in_order) {
            transfer.take_others();
        }
        while !leave() {
            let start = self.next.fetch_add(CHUNK_BYTES, Ordering::Relaxed);
            if start >= self.size {
                break;
            }
            let moved = self
                .flight
                .all_moved()
                .saturating_sub(self.before.load(Ordering::Relaxed));
            let to_read_back = if transfer.is_some() && terms.proved {
                self.size
            } else {
                0
            };
            let left = (self.size - start).saturating_add(to_read_back);
            if !terms.desk.cancel.lets_end(self.begun, moved, left) {
                return self.stop(Stopped::Aborted);
            }
            between();
            let done = match &transfer {
                Some(transfer) => self.copy(transfer, counters, files, start, buffer),
                None => self.compare(terms, files, start, buffer),
            };
            if let Err(stopped) = done {
                self.stop(stopped);
            }
        }
        if let Some(others) = transfer.and_then(|transfer| transfer.take_others()) {
            *self.others.lock().unwrap_or_else(PoisonError::into_inner) = Some(others);
        }
    }

    /// Copies what is not there yet of the chunk that begins at `start`, or finds that it is a hole, and where that ends.
    fn copy(
        &self,
        transfer: &Transfer<'_>,
        counters: &Counters,
        files: &(OwnedFd, OwnedFd),
        start: u64,
        buffer: &mut [u8],
    ) -> Result<(), Stopped> {
        let end = self.size.min(start + CHUNK_BYTES);
        let ledger = self.ledger.as_ref();
        let from = self.pass_over(Part::Done, start, end);
        counters.resumed(from - start);
        if from == end {
            return Ok(());
        }
        let data = transfer.next_data(from)?.unwrap_or(self.size);
        if data >= end {
            // A hole may be of any length: what is left of it is nobody's chunk.
            self.next.fetch_max(data - data % CHUNK_BYTES, Ordering::Relaxed);
            return match ledger {
                Some(ledger) => {
                    let part = (Part::Done, from, data);
                    ledger.enter(files.1.as_fd(), part, self.destination, transfer.desk())
                }
                None => Ok(()),
            };
        }
        transfer.begin_chunk(start / CHUNK_BYTES);
        let reached = match (transfer.part(from, end, buffer), ledger) {
            (Err(Stopped::Fault(fault)), Some(ledger)) if fault.is_full() => {
                // The ledger is nobody's content.
                let write = |e| Fault::new(Operation::Write, Side::Destination(self.destination), e);
                ledger.give_up(files.1.as_fd(), self.size).map_err(write)?;
                transfer.begin_chunk(start / CHUNK_BYTES);
                // A part of it was taken in, and comes again.
                transfer.take_others();
                transfer.part(from, end, buffer)?
            }
            (result, _) => result?,
        };
        if reached < end {
            self.end.fetch_min(reached, Ordering::Relaxed);
        } else if let (true, Some(digest)) = (from == start, transfer.take_digest()) {
            self.add(start, &digest);
        }
        Ok(())
    }

    /// Compares one chunk.
    fn compare(
        &self,
        terms: Terms<'_>,
        files: &(OwnedFd, OwnedFd),
        start: u64,
        buffer: &mut [u8],
    ) -> Result<(), Stopped> {
        let read = |file: &OwnedFd, buffer: &mut [u8], at, operation, side| {
            sys::read_full_at(file.as_fd(), buffer, at).map_err(|e| Fault::new(operation, side, e))
        };
        let (left, right) = buffer.split_at_mut(buffer.len() / 2);
        let mut digest = self.parts.as_ref().map(|_| Blake3::of_part(start / CHUNK_BYTES));
        let end = self.size.min(start + CHUNK_BYTES);
        let from = self.pass_over(Part::Proved, start, end);
        let mut at = from;
        while at < end && !self.differs.load(Ordering::Relaxed) {
            let piece = terms.desk.pace.piece((end - at).min(right.len() as u64));
            let length = usize::try_from(piece).unwrap_or(right.len());
            let (left, right) = (&mut left[..length], &mut right[..length]);
            terms.desk.may_go_on(piece)?;
            let there = Side::Destination(self.destination);
            let n = read(&files.1, right, at, Operation::Verify, there)?;
            let m = read(&files.0, left, at, Operation::Read, Side::Source)?;
            if n < length || left[..m] != right[..n] {
                self.differs.store(true, Ordering::Relaxed);
                self.next.store(self.size, Ordering::Relaxed);
                return Ok(());
            }
            if let Some(digest) = &mut digest {
                digest.update(right);
            }
            self.flight.moved(piece);
            at += piece;
            if let Some(ledger) = &self.ledger {
                let part = (Part::Proved, from, at);
                ledger.enter(files.1.as_fd(), part, self.destination, terms.desk)?;
            }
        }
        if let Some(digest) = digest.filter(|_| from == start) {
            self.add(start, &digest);
        }
        Ok(())
    }

    /// Where the first byte of a chunk lies that is still to be done.
    fn pass_over(&self, part: Part, start: u64, end: u64) -> u64 {
        let reaches = |ledger: &Arc<Ledger>| ledger.reaches(part, start, end);
        let from = self.ledger.as_ref().map_or(start, reaches);
        self.before.fetch_add(from - start, Ordering::Relaxed);
        self.flight.moved(from - start);
        from
    }

    fn add(&self, start: u64, digest: &Blake3) {
        if let Some(parts) = &self.parts {
            let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
            parts.add(start / CHUNK_BYTES, digest);
        }
    }

    fn stop(&self, stopped: Stopped) {
        self.next.store(self.size, Ordering::Relaxed);
        self.inner().stopped.get_or_insert(stopped);
    }

    /// Number of the destination that the file is in.
    pub fn destination(&self) -> usize {
        self.destination
    }

    /// Copies a big file with whoever is free. The new file has its full size already. What the ledger says is there is not
    /// copied.
    pub fn copied(
        lead: Lead<'_>,
        files: (&OwnedFd, &OwnedFd),
        stat: &Stat,
        to_device: u64,
        ledger: Option<&Arc<Ledger>>,
    ) -> Result<Copied, Stopped> {
        let deed = Deed::Copy { stat: *stat, to_device };
        let wanted = lead.terms.in_parts();
        let chunks = Self::lead(lead, files, stat.size, deed, (ledger, wanted))?;
        let others = chunks.others.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(Copied {
            end: chunks.end.load(Ordering::Relaxed),
            digest: chunks.digest(),
            others,
        })
    }

    /// Compares the first `size` bytes of two files, which both shall have, with whoever is free, but for what the ledger says
    /// is proved. `wanted`: their digest, where all of them are read.
    pub fn same(
        lead: Lead<'_>,
        files: (&OwnedFd, &OwnedFd),
        size: u64,
        ledger: Option<&Arc<Ledger>>,
        wanted: bool,
    ) -> Result<(bool, Option<ContentDigest>), Stopped> {
        let chunks = Self::lead(lead, files, size, Deed::Compare, (ledger, wanted))?;
        Ok((!chunks.differs.load(Ordering::Relaxed), chunks.digest()))
    }

    fn digest(&self) -> Option<ContentDigest> {
        let parts = self.parts.as_ref()?;
        parts.lock().unwrap_or_else(PoisonError::into_inner).digest()
    }

    fn lead(
        lead: Lead<'_>,
        (from, to): (&OwnedFd, &OwnedFd),
        size: u64,
        deed: Deed,
        (ledger, wanted): (Option<&Arc<Ledger>>, bool),
    ) -> Result<Arc<Self>, Stopped> {
        let Lead {
            terms,
            counters,
            buffer,
            invite,
        } = lead;
        let destination = terms.destination;
        // What is there already is not read: the digests would not be of all.
        let whole = ledger.is_none_or(|ledger| ledger.bytes() == 0);
        let in_order = matches!(deed, Deed::Copy { .. }) && whole && terms.in_order().next().is_some();
        let twice = |fd: &OwnedFd, side| sys::duplicate(fd.as_fd()).map_err(|e| Fault::new(Operation::Open, side, e));
        let files = Arc::new((twice(from, Side::Source)?, twice(to, Side::Destination(destination))?));
        let chunks = Arc::new(Self {
            size,
            destination,
            deed,
            ledger: ledger.cloned(),
            parts: wanted.then(|| Mutex::new(Parts::new(size))),
            in_order,
            others: Mutex::default(),
            begun: Instant::now(),
            flight: Arc::clone(&counters.flight),
            before: AtomicU64::new(counters.flight.all_moved()),
            next: AtomicU64::new(0),
            end: AtomicU64::new(size),
            differs: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                files: Some(Arc::clone(&files)),
                helpers: 0,
                stopped: None,
            }),
            left: Condvar::new(),
        });
        let invite = || {
            if !chunks.in_order {
                invite(&chunks);
            }
        };
        chunks.work((terms, counters), &files, buffer, invite, || false);
        let mut inner = chunks.inner();
        inner.files = None;
        while inner.helpers > 0 {
            inner = chunks.left.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        let stopped = inner.stopped.take();
        drop(inner);
        if let Some(ledger) = ledger {
            ledger.save(to.as_fd());
        }
        match stopped {
            Some(stopped) => Err(stopped),
            None => Ok(chunks),
        }
    }

    /// Helps with a big file, if there is still something to do, until it is time to `leave`.
    pub fn help(&self, terms: Terms<'_>, counters: &Counters, buffer: &mut [u8], leave: impl Fn() -> bool) {
        let files = {
            let mut inner = self.inner();
            let Some(files) = inner.files.clone() else { return };
            inner.helpers += 1;
            files
        };
        let mut presence = Presence {
            chunks: self,
            done: false,
        };
        self.work((terms, counters), &files, buffer, || (), leave);
        drop(files);
        presence.done = true;
    }
}

/// A helper's presence: it leaves also when it panics, and the file then counts as failed.
struct Presence<'c> {
    chunks: &'c Chunks,
    done: bool,
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.chunks
                .stop(Fault::panic(&"a worker that helped with a chunk").into());
        }
        self.chunks.inner().helpers -= 1;
        self.chunks.left.notify_all();
    }
}
