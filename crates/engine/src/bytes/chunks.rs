//! Big files in chunks, over the workers that have nothing else to do.
//!
//! Comes in: the transfer of one big file; goes out: the same as from [`Transfer::part`] over all of it. Who has the file
//! copies chunk after chunk and invites whoever is free meanwhile; it waits for its helpers, who wait for nobody, and the
//! first error stops all of them. Consecutive chunks go to whoever is next, so that the file grows from front to back. When
//! the run is told to stop and the file would take too long, the chunks that were begun end where they can, and no other is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bulkhaul_sys::{self as sys, AsFd as _, OwnedFd, Stat};

use crate::bytes::transfer::{CHUNK_BYTES, Terms, Transfer};
use crate::error::{Fault, Operation, Side, Stopped};
use crate::job::desk::Cancel;
use crate::report::counters::{Counters, Flight};

/// A file that is being copied in chunks.
pub struct Chunks {
    stat: Stat,
    to_device: u64,
    destination: usize,
    begun: Instant,
    /// How far it has come, at who leads.
    flight: Arc<Flight>,
    /// Where the next chunk starts.
    next: AtomicU64,
    /// Where the source ended: its size, unless it became shorter.
    end: AtomicU64,
    inner: Mutex<Inner>,
    left: Condvar,
}

struct Inner {
    /// Source and new file; taken away when the copy is over, so that who comes late keeps nothing open.
    files: Option<Arc<(OwnedFd, OwnedFd)>>,
    helpers: usize,
    stopped: Option<Stopped>,
}

impl Chunks {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies chunks until none is left, something stopped the copy, or it is time to `leave` the rest to others.
    fn work(
        &self,
        (transfer, cancel): (&Transfer<'_>, &Cancel),
        buffer: &mut [u8],
        between: impl Fn(),
        leave: impl Fn() -> bool,
    ) {
        while !leave() {
            let start = self.next.fetch_add(CHUNK_BYTES, Ordering::Relaxed);
            if start >= self.stat.size {
                return;
            }
            if !cancel.lets_end(self.begun, self.flight.all_moved(), self.stat.size - start) {
                return self.stop(Stopped::Aborted);
            }
            between();
            match self.chunk(transfer, start, buffer) {
                Ok(end) => {
                    self.end.fetch_min(end, Ordering::Relaxed);
                }
                Err(stopped) => self.stop(stopped),
            }
        }
    }

    /// Copies the chunk that begins at `start`, or finds that it is a hole, and where that ends. Answers where the source
    /// ended, or its size.
    fn chunk(&self, transfer: &Transfer<'_>, start: u64, buffer: &mut [u8]) -> Result<u64, Stopped> {
        let size = self.stat.size;
        let data = transfer.next_data(start)?.unwrap_or(size);
        let end = size.min(start + CHUNK_BYTES);
        if data >= end {
            // A hole may be of any length: what is left of it is nobody's chunk.
            self.next.fetch_max(data - data % CHUNK_BYTES, Ordering::Relaxed);
            return Ok(size);
        }
        let reached = transfer.part(start, end, buffer)?;
        Ok(if reached < end { reached } else { size })
    }

    fn stop(&self, stopped: Stopped) {
        self.next.store(self.stat.size, Ordering::Relaxed);
        self.inner().stopped.get_or_insert(stopped);
    }

    fn transfer<'t>(&'t self, terms: Terms<'t>, counters: &'t Counters, files: &'t (OwnedFd, OwnedFd)) -> Transfer<'t> {
        let files = (files.0.as_fd(), files.1.as_fd());
        let transfer = Transfer::new(terms, counters, files, self.stat, self.to_device);
        transfer.in_flight(&self.flight).sized(self.stat.size)
    }

    /// Number of the destination that the file goes to.
    pub fn destination(&self) -> usize {
        self.destination
    }

    /// Copies a big file with whoever is free; answers where the source ended, as [`Transfer::part`]. The new file has its
    /// full size already. `invite`: asked before each chunk to call somebody who has nothing to do.
    pub fn lead(
        terms: Terms<'_>,
        counters: &Counters,
        (from, to): (&OwnedFd, &OwnedFd),
        stat: &Stat,
        to_device: u64,
        buffer: &mut [u8],
        invite: impl Fn(&Arc<Self>),
    ) -> Result<u64, Stopped> {
        let destination = terms.destination;
        let twice = |fd: &OwnedFd, side| sys::duplicate(fd.as_fd()).map_err(|e| Fault::new(Operation::Open, side, e));
        let files = Arc::new((twice(from, Side::Source)?, twice(to, Side::Destination(destination))?));
        let chunks = Arc::new(Self {
            stat: *stat,
            to_device,
            destination,
            begun: Instant::now(),
            flight: Arc::clone(&counters.flight),
            next: AtomicU64::new(0),
            end: AtomicU64::new(stat.size),
            inner: Mutex::new(Inner {
                files: Some(Arc::clone(&files)),
                helpers: 0,
                stopped: None,
            }),
            left: Condvar::new(),
        });
        let transfer = chunks.transfer(terms, counters, &files);
        let cancel = &terms.desk.cancel;
        chunks.work((&transfer, cancel), buffer, || invite(&chunks), || false);
        let mut inner = chunks.inner();
        inner.files = None;
        while inner.helpers > 0 {
            inner = chunks.left.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        match inner.stopped.take() {
            Some(stopped) => Err(stopped),
            None => Ok(chunks.end.load(Ordering::Relaxed)),
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
        let transfer = self.transfer(terms, counters, &files);
        self.work((&transfer, &terms.desk.cancel), buffer, || (), leave);
        drop(transfer);
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
