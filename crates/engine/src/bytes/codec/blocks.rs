//! The blocks of one file, over the workers that have nothing else to do.
//!
//! Comes in: a deed, which takes blocks in their order and makes something of each; goes out: what became of them, put down in
//! the same order. Who has the file waits for its helpers, who wait for nobody but the blocks before theirs. An error stops all
//! of them, and that of the first block is told, whoever comes to its own before. What waits for its turn is bounded: [`AHEAD`] blocks a worker.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bulkhaul_formats::codec::{Block, Codec, Decoder, Encoder, EncoderError, Unit};
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, OwnedFd};

use crate::bytes::codec::memory::{Grant, Memory};
use crate::error::{Fault, Operation, Side, Stopped};
use crate::job::desk::Desk;
use crate::report::counters::{Counters, Flight};

/// Blocks that may be taken and not put down yet, for each worker: the one in its hands, and one that waits for its turn.
const AHEAD: u64 = 2;
/// Buffers that a worker keeps from file to file are no larger.
const KEPT_BYTES: usize = 4 * 1024 * 1024;

/// What a worker packs and unpacks with, from file to file.
#[derive(Default)]
pub struct Tools {
    encoder: Option<Encoder>,
    pub(super) decoder: Decoder,
    /// The most that it has decoded at once.
    most: usize,
    /// What is read; what it has beyond that is nothing.
    pub(super) input: Vec<u8>,
    /// What of it is to be decoded.
    pub(super) units: Vec<Unit>,
    /// Buffers for what is made.
    spare: Vec<Vec<u8>>,
}

impl Tools {
    /// The encoder for this, and what it is to work on.
    pub(super) fn encoder(&mut self, codec: Codec) -> Result<(&mut Encoder, &[u8]), EncoderError> {
        let encoder = match self.encoder.take() {
            Some(encoder) if encoder.codec() == codec => encoder,
            _ => Encoder::new(codec)?,
        };
        Ok((self.encoder.insert(encoder), &self.input))
    }

    /// So much is to be decoded at once.
    pub(super) fn decoded(&mut self, bytes: usize) {
        self.most = self.most.max(bytes);
    }

    /// Lets go what is too large to be kept.
    fn tidy(&mut self) {
        if self.most > KEPT_BYTES {
            (self.most, self.decoder) = (0, Decoder::default());
        }
        if self.input.capacity() > KEPT_BYTES {
            self.input = Vec::new();
        }
        self.spare.retain(|buffer| buffer.capacity() <= KEPT_BYTES);
        self.encoder
            .take_if(|encoder| encoder.codec().memory() > 4 * KEPT_BYTES as u64);
    }
}

/// Who leads, with what.
pub struct Lead<'l> {
    /// Whether to go on, and how fast.
    pub desk: &'l Desk,
    /// Where it counts.
    pub counters: &'l Counters,
    /// What all together may use.
    pub memory: &'l Arc<Memory>,
    /// Its own encoders, decoders and buffers.
    pub tools: &'l mut Tools,
    /// Asked before each block to call somebody who has nothing to do.
    pub invite: &'l dyn Fn(&Arc<Blocks>),
}

/// A worker at a file.
pub struct Hand<'h> {
    pub desk: &'h Desk,
    pub counters: &'h Counters,
    /// The file of which it is.
    pub flight: &'h Flight,
    pub tools: &'h mut Tools,
    pub from: BorrowedFd<'h>,
    pub to: Option<BorrowedFd<'h>>,
}

/// What has been made of a block.
pub struct Ready {
    pub bytes: Vec<u8>,
    /// Of one that was packed.
    pub block: Option<Block>,
    /// Where it comes from.
    pub spot: Spot,
}

/// Where a block that was taken comes from.
#[derive(Clone, Copy, Default)]
pub struct Spot {
    /// Where it begins in the archive that it is taken from.
    pub archive: u64,
    /// Where its content begins.
    pub content: u64,
    /// Bytes before its content that only its encoder is to see.
    pub before: usize,
    /// Bytes that were read for it.
    pub read: u64,
}

/// What is done to each block.
pub trait Deed: Send + Sync {
    /// Takes the next block into the hand, or what is in it into `room`, whatever that has. None: there is no more.
    fn take(&self, hand: &mut Hand<'_>, room: &mut Vec<u8>) -> Result<Option<Spot>, Stopped>;

    /// Makes of a block what it is to become, in `room`, as it was left. Others do so meanwhile.
    fn work(&self, hand: &mut Hand<'_>, spot: Spot, room: Vec<u8>) -> Result<Ready, Stopped>;

    /// How many have something to do at once.
    fn hands(&self) -> u64;

    /// Puts down what was made of a block, in the order in which they were taken.
    fn put(&self, hand: &mut Hand<'_>, ready: &Ready) -> Result<(), Stopped>;
}

/// A file that is being packed or unpacked.
pub struct Blocks {
    deed: Arc<dyn Deed>,
    /// Bytes of the file that is read, as its facts say.
    size: u64,
    /// What each worker may use.
    needs: u64,
    memory: Arc<Memory>,
    begun: Instant,
    /// How far it has come, at who leads, and what of that is not the work of these blocks.
    flight: Arc<Flight>,
    before: u64,
    /// Number of the next block; a block is taken by whoever has this.
    next: Mutex<u64>,
    /// Bytes of the file that are taken.
    taken: AtomicU64,
    over: AtomicBool,
    order: Mutex<Order>,
    moved: Condvar,
    inner: Mutex<Inner>,
    left: Condvar,
}

/// What waits for its turn.
#[derive(Default)]
struct Order {
    /// Blocks that are taken, or about to be.
    taken: u64,
    /// The block whose turn it is.
    due: u64,
    waiting: BTreeMap<u64, Ready>,
    spare: Vec<Vec<u8>>,
}

struct Inner {
    /// What is read and what is written; taken away when all is over, so that who comes late keeps nothing open.
    files: Option<Arc<(OwnedFd, Option<OwnedFd>)>>,
    helpers: u64,
    /// By the number of a block.
    stopped: Option<(u64, Stopped)>,
}

/// Of what is no error of a block.
const NO_BLOCK: u64 = u64::MAX;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Blocks {
    /// Does the deed with whoever is free. `size`: of what is read, and of the part of it that is one block.
    pub(super) fn lead(
        lead: Lead<'_>,
        deed: Arc<dyn Deed>,
        (from, to): (BorrowedFd<'_>, Option<BorrowedFd<'_>>),
        (size, block): (u64, u64),
        needs: u64,
    ) -> Result<(), Stopped> {
        let Lead {
            desk,
            counters,
            memory,
            tools,
            invite,
        } = lead;
        let grant = memory.take(needs, desk).ok_or(Stopped::Aborted)?;
        let twice = |fd: BorrowedFd<'_>, side| sys::duplicate(fd).map_err(|e| Fault::new(Operation::Open, side, e));
        let files = if size > block {
            let to = to.map(|to| twice(to, Side::Destination(0))).transpose()?;
            Some(Arc::new((twice(from, Side::Source)?, to)))
        } else {
            None
        };
        let shared = files.is_some();
        let blocks = Arc::new(Self {
            deed,
            size,
            needs,
            memory: Arc::clone(memory),
            begun: Instant::now(),
            flight: Arc::clone(&counters.flight),
            before: counters.flight.all_moved(),
            next: Mutex::new(0),
            taken: AtomicU64::new(0),
            over: AtomicBool::new(false),
            order: Mutex::default(),
            moved: Condvar::new(),
            inner: Mutex::new(Inner {
                files,
                helpers: 0,
                stopped: None,
            }),
            left: Condvar::new(),
        });
        lock(&blocks.order).spare.append(&mut tools.spare);
        let hand = &mut Hand {
            desk,
            counters,
            flight: &blocks.flight,
            tools: &mut *tools,
            from,
            to,
        };
        let between = || {
            let left = size.saturating_sub(blocks.taken.load(Ordering::Relaxed));
            if shared && left > block && !blocks.is_crowded(0) {
                invite(&blocks);
            }
        };
        let mut presence = Presence::new(&blocks, grant);
        blocks.work(hand, between, || false);
        presence.done = true;
        drop(presence);
        let mut inner = lock(&blocks.inner);
        inner.files = None;
        while inner.helpers > 0 {
            inner = blocks.left.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        let stopped = inner.stopped.take();
        drop(inner);
        tools.spare.append(&mut lock(&blocks.order).spare);
        tools.tidy();
        match stopped {
            Some((_, stopped)) => Err(stopped),
            None => Ok(()),
        }
    }

    /// Helps with a big file, if there is still something to do, until it is time to `leave`.
    pub fn help(&self, desk: &Desk, counters: &Counters, tools: &mut Tools, leave: impl Fn() -> bool) {
        let Some(grant) = self.memory.take_if_any(self.needs) else {
            return;
        };
        let files = {
            let mut inner = lock(&self.inner);
            let Some(files) = inner.files.clone() else { return };
            inner.helpers += 1;
            files
        };
        let mut presence = Presence::new(self, grant);
        presence.helps = true;
        let hand = &mut Hand {
            desk,
            counters,
            flight: &self.flight,
            tools: &mut *tools,
            from: files.0.as_fd(),
            to: files.1.as_ref().map(sys::AsFd::as_fd),
        };
        self.work(hand, || (), || leave() || self.is_crowded(1));
        drop(files);
        presence.done = true;
        drop(presence);
        tools.tidy();
    }

    /// Whether one worker more would have nothing to do, `counted` of those who are there set aside.
    fn is_crowded(&self, counted: u64) -> bool {
        lock(&self.inner).helpers + 2 - counted > self.deed.hands()
    }

    /// Does blocks until none is left, something stopped it, or it is time to `leave` the rest to others.
    fn work(&self, hand: &mut Hand<'_>, between: impl Fn(), leave: impl Fn() -> bool) {
        while !leave() {
            let left = self.size.saturating_sub(self.taken.load(Ordering::Relaxed));
            let done = self.flight.all_moved().saturating_sub(self.before);
            if !hand.desk.cancel.lets_end(self.begun, done, left) {
                return self.stop(NO_BLOCK, Stopped::Aborted);
            }
            between();
            match self.one(hand) {
                Ok(true) => {}
                Ok(false) => return,
                Err((number, stopped)) => return self.stop(number, stopped),
            }
        }
    }

    /// Does one block; false: there is none for this worker. An error with the number of its block.
    fn one(&self, hand: &mut Hand<'_>) -> Result<bool, (u64, Stopped)> {
        let Some(mut room) = self.wait_for_room() else {
            return Ok(false);
        };
        let taken = {
            let mut next = lock(&self.next);
            if self.over.load(Ordering::Relaxed) {
                None
            } else {
                let taken = self.deed.take(hand, &mut room).map_err(|stopped| {
                    // Nobody goes on from where nobody knows what was read.
                    self.over.store(true, Ordering::Relaxed);
                    (*next, stopped)
                })?;
                taken.map(|spot| {
                    *next += 1;
                    self.taken.fetch_add(spot.read, Ordering::Relaxed);
                    self.flight.moved(spot.read);
                    (*next - 1, spot)
                })
            }
        };
        let Some((number, spot)) = taken else {
            let mut order = lock(&self.order);
            order.taken -= 1;
            order.spare.push(room);
            drop(order);
            // Who waits for room finds nothing left either.
            self.moved.notify_all();
            return Ok(false);
        };
        let ready = self.deed.work(hand, spot, room).map_err(|stopped| (number, stopped))?;
        self.put(hand, number, ready)?;
        Ok(true)
    }

    /// Waits until one more block may be taken; answers a buffer. None: nothing is to be taken any more.
    fn wait_for_room(&self) -> Option<Vec<u8>> {
        let mut order = lock(&self.order);
        loop {
            if self.over.load(Ordering::Relaxed) {
                return None;
            }
            let workers = lock(&self.inner).helpers + 1;
            if order.taken - order.due < AHEAD * workers {
                order.taken += 1;
                return Some(order.spare.pop().unwrap_or_default());
            }
            order = self.moved.wait(order).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What was made of a block comes to its place, and with it whatever waited for it.
    fn put(&self, hand: &mut Hand<'_>, number: u64, ready: Ready) -> Result<(), (u64, Stopped)> {
        let mut order = lock(&self.order);
        order.waiting.insert(number, ready);
        let mut moved = false;
        loop {
            let due = order.due;
            let Some(ready) = order.waiting.remove(&due) else { break };
            self.deed.put(hand, &ready).map_err(|stopped| (due, stopped))?;
            order.due += 1;
            order.spare.push(ready.bytes);
            moved = true;
        }
        drop(order);
        if moved {
            self.moved.notify_all();
        }
        Ok(())
    }

    fn stop(&self, number: u64, stopped: Stopped) {
        let mut inner = lock(&self.inner);
        if inner.stopped.as_ref().is_none_or(|(first, _)| number < *first) {
            inner.stopped = Some((number, stopped));
        }
        drop(inner);
        // Under its lock, so that nobody begins to wait who has not seen it.
        let order = lock(&self.order);
        self.over.store(true, Ordering::Relaxed);
        drop(order);
        self.moved.notify_all();
    }
}

/// A worker's presence: it leaves also when it panics, and the file then counts as failed.
struct Presence<'b> {
    blocks: &'b Blocks,
    helps: bool,
    done: bool,
    _grant: Grant,
}

impl<'b> Presence<'b> {
    fn new(blocks: &'b Blocks, grant: Grant) -> Self {
        Self {
            blocks,
            helps: false,
            done: false,
            _grant: grant,
        }
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.blocks.stop(0, Fault::panic(&"a worker at a block").into());
        }
        if self.helps {
            lock(&self.blocks.inner).helpers -= 1;
            self.blocks.left.notify_all();
        }
    }
}
