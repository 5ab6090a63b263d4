//! What the stores of one job share: threads for requests, the memory of the parts that are in flight, the rules for trying
//! again, and the wish to stop.
//!
//! Comes in: [`SessionOptions`]; goes out: a [`Session`] that blocking code waits in. Promises: parts in flight together are
//! never longer than the memory that was given; whoever waits here is back soon after the job is told to stop at once.

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::{BuildHasher as _, Hasher as _};
use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bulkhaul_engine::error::{Refusal, Stopped};
use bulkhaul_engine::job::desk::Cancel;
use bytes::Bytes;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::uploads::Uploads;

/// Bytes of the parts in flight together.
pub const MEMORY_BYTES: u64 = 64 << 20;
/// Bytes of a part.
pub const PART_BYTES: u64 = 8 << 20;
/// The smallest part that S3 takes, but for the last of an object.
pub const LEAST_PART_BYTES: u64 = 5 << 20;
/// Entries at work at once where nobody says how many: more gained nothing, and each is a connection.
pub const JOBS: usize = 16;
/// Threads that drive requests; they wait more than they work.
const THREADS: usize = 2;
/// Memory is counted in pieces of so many bytes.
const PIECE_BYTES: u64 = 1 << 10;
/// Memory of shorter parts is not kept for later ones: the allocator itself does that.
const LEAST_KEPT_BYTES: usize = 128 << 10;
/// How often somebody who waits looks whether the job is to stop.
const GLANCE: Duration = Duration::from_millis(100);
/// The longest pause before another try.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// When something is tried again that failed for a moment.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Tries after the first.
    pub retries: u32,
    /// The pause before the first of them is half a second, before each later one so many times as long; 0: no pauses.
    pub backoff: f64,
    /// A part of each pause, 0 to 1, that chance adds at most.
    pub jitter: f64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            retries: 3,
            backoff: 2.0,
            jitter: 0.1,
        }
    }
}

impl Retry {
    /// Refuses what no pause can be.
    pub fn check(&self) -> Result<(), Refusal> {
        if !(0.0..=100.0).contains(&self.backoff) {
            return Err(Refusal::Usage(format!(
                "backoff: {} is not from 0 to 100",
                self.backoff
            )));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(Refusal::Usage(format!("jitter: {} is not from 0 to 1", self.jitter)));
        }
        Ok(())
    }

    /// The pause before try number `again`, 0 for the first after a failure. `chance`: 0 to 1.
    pub fn pause(&self, again: u32, chance: f64) -> Duration {
        if self.backoff == 0.0 {
            return Duration::ZERO;
        }
        let exponent = i32::try_from(again).unwrap_or(i32::MAX);
        let seconds = 0.5 * self.backoff.powi(exponent) * (1.0 + self.jitter * chance);
        Duration::try_from_secs_f64(seconds).map_or(LONGEST_PAUSE, |pause| pause.min(LONGEST_PAUSE))
    }
}

/// How the stores of a job are used.
#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    /// Bytes of the parts in flight together.
    pub memory: u64,
    /// Bytes of a part.
    pub part: u64,
    /// Trying again.
    pub retry: Retry,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            memory: MEMORY_BYTES,
            part: PART_BYTES,
            retry: Retry::default(),
        }
    }
}

/// A word that nobody else makes.
pub fn token() -> String {
    let half = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", half(), half())
}

/// Memory that a part may take; given back when it goes.
pub type Lease = OwnedSemaphorePermit;

/// Memory of parts that are gone, for the next ones: what the system gives anew costs a fault for each of its pages.
struct Kept {
    buffers: Mutex<Vec<Vec<u8>>>,
    /// Bytes that are kept at most.
    most: usize,
}

impl Kept {
    fn take(&self, bytes: usize) -> Vec<u8> {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        // A much longer one would be more memory than its part has a lease of.
        let fits = |buffer: &Vec<u8>| (bytes..=bytes.saturating_mul(2)).contains(&buffer.capacity());
        let Some(found) = buffers.iter().position(fits) else {
            // Other lengths are asked for now.
            if bytes >= LEAST_KEPT_BYTES {
                buffers.clear();
            }
            return vec![0; bytes];
        };
        let mut buffer = buffers.swap_remove(found);
        buffer.resize(bytes, 0);
        buffer
    }

    fn put(&self, buffer: Vec<u8>) {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: usize = buffers.iter().map(Vec::capacity).sum();
        if buffer.capacity() >= LEAST_KEPT_BYTES && kept + buffer.capacity() <= self.most {
            buffers.push(buffer);
        }
    }
}

/// Memory of one part, which the next one has after it.
pub struct Buffer {
    bytes: Vec<u8>,
    home: Arc<Kept>,
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Buffer> for Bytes {
    fn from(buffer: Buffer) -> Self {
        Self::from_owner(buffer)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.put(std::mem::take(&mut self.bytes));
    }
}

/// What the stores of a job share.
pub struct Session {
    /// None: it is going.
    threads: Option<Runtime>,
    runtime: Handle,
    memory: Arc<Semaphore>,
    pieces: u32,
    kept: Arc<Kept>,
    /// How they are used.
    pub options: SessionOptions,
    /// Whether to go on.
    pub cancel: Arc<Cancel>,
    uploads: OnceLock<Uploads>,
}

impl Session {
    /// Starts the threads.
    pub fn open(options: SessionOptions, cancel: Arc<Cancel>) -> Result<Arc<Self>, Refusal> {
        options.retry.check()?;
        if options.part < LEAST_PART_BYTES {
            let text = format!("chunk-size: {} is less than {LEAST_PART_BYTES} bytes", options.part);
            return Err(Refusal::Usage(text));
        }
        if options.memory < options.part {
            let text = format!(
                "memory: {} is less than a part of {} bytes",
                options.memory, options.part
            );
            return Err(Refusal::Usage(text));
        }
        let threads = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("bulkhaul-store")
            .enable_all()
            .build()
            .map_err(|error| Refusal::NoStart(format!("no thread could be started: {error}")))?;
        let pieces = u32::try_from(options.memory / PIECE_BYTES).unwrap_or(u32::MAX);
        Ok(Arc::new(Self {
            runtime: threads.handle().clone(),
            threads: Some(threads),
            memory: Arc::new(Semaphore::new(pieces as usize)),
            pieces,
            kept: Arc::new(Kept {
                buffers: Mutex::default(),
                most: usize::try_from(options.memory).unwrap_or(usize::MAX),
            }),
            options,
            cancel,
            uploads: OnceLock::new(),
        }))
    }

    /// From now on uploads in parts are written down.
    pub fn remember(&self, uploads: Uploads) {
        self.uploads.get_or_init(|| uploads);
    }

    /// What is written down of uploads in parts, if anything is.
    pub fn uploads(&self) -> Option<&Uploads> {
        self.uploads.get()
    }

    /// Where requests run.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Waits for what comes; an error where the job is to stop at once.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T, Stopped> {
        self.runtime.block_on(self.watched(future))
    }

    /// The same in another place than where the session's requests run.
    pub fn wait_in<T>(&self, runtime: &Runtime, future: impl Future<Output = T>) -> Result<T, Stopped> {
        runtime.block_on(self.watched(future))
    }

    async fn watched<T>(&self, future: impl Future<Output = T>) -> Result<T, Stopped> {
        let mut future = pin!(future);
        loop {
            match tokio::time::timeout(GLANCE, &mut future).await {
                Ok(done) => return Ok(done),
                Err(_) if self.cancel.is_aborted() => return Err(Stopped::Aborted),
                Err(_) => {}
            }
        }
    }

    /// So many bytes to be written over; what they are now is of no meaning.
    pub fn buffer(&self, bytes: u64) -> Buffer {
        Buffer {
            bytes: self.kept.take(usize::try_from(bytes).unwrap_or(usize::MAX)),
            home: Arc::clone(&self.kept),
        }
    }

    /// The right to memory for a part of so many bytes, when there is some; a part longer than all of it has all of it. Whoever has asked
    /// first gets it first, whenever the answer is waited for: a part that is wanted sooner never waits for a later one.
    pub fn lease(&self, bytes: u64) -> impl Future<Output = Option<Lease>> + Send + 'static {
        let wanted = u32::try_from(bytes.div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX);
        let (memory, wanted) = (Arc::clone(&self.memory), wanted.clamp(1, self.pieces.max(1)));
        // It is never closed.
        let mut lease = Box::pin(async move { memory.acquire_many_owned(wanted).await.ok() });
        // The place in the queue is taken by looking once.
        let first = lease.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        async move {
            match first {
                Poll::Ready(lease) => lease,
                Poll::Pending => lease.await,
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A request that is still on its way may be the last that has it, and waits for no thread.
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let retry = Retry::default();
        let seconds = |again, chance| retry.pause(again, chance).as_secs_f64();
        let pauses = [0, 1, 3].map(|again| retry.pause(again, 0.0).as_millis());
        assert_eq!(pauses, [500, 1000, 4000]);
        assert!((seconds(1, 1.0) - 1.1).abs() < 1e-9);
        assert_eq!(retry.pause(u32::MAX, 1.0), LONGEST_PAUSE);
        let none = Retry { backoff: 0.0, ..retry };
        assert_eq!(none.pause(5, 1.0), Duration::ZERO);
    }

    #[test]
    fn memory_is_given_in_the_order_in_which_it_was_asked_for() {
        let session = Session::open(SessionOptions::default(), Arc::default()).unwrap();
        let all = session.wait(session.lease(u64::MAX)).unwrap();
        let (first, second) = (session.lease(u64::MAX), session.lease(u64::MAX));
        // Whoever asked later waits from now on, and whoever asked first does not yet.
        let later = session.runtime().spawn(second);
        drop(all);
        let first = session.wait(first).unwrap();
        assert!(first.is_some() && !later.is_finished());
        drop(first);
        assert!(session.wait(later).unwrap().unwrap().is_some());
    }

    #[test]
    fn memory_of_a_part_is_used_again_for_one_that_is_about_as_long() {
        let session = Session::open(SessionOptions::default(), Arc::default()).unwrap();
        let kept = || {
            session
                .kept
                .buffers
                .lock()
                .unwrap()
                .iter()
                .map(Vec::capacity)
                .sum::<usize>() as u64
        };
        drop(Bytes::from(session.buffer(PART_BYTES)));
        assert_eq!(kept(), PART_BYTES);
        // It is in use, and not beside another.
        let part = session.buffer(PART_BYTES - 1);
        assert_eq!(
            (kept(), part.len() as u64, part.capacity() as u64),
            (0, PART_BYTES - 1, PART_BYTES)
        );
        drop(part);
        // What is far too long is no memory for it, and goes.
        let part = session.buffer(PART_BYTES / 4);
        assert_eq!((kept(), part.capacity() as u64), (0, PART_BYTES / 4));
        drop(part);
        let parts: Vec<_> = (0..20).map(|_| session.buffer(PART_BYTES)).collect();
        drop(parts);
        assert_eq!(kept(), MEMORY_BYTES);
    }

    #[test]
    fn parts_wait_for_memory() {
        let session = Session::open(SessionOptions::default(), Arc::default()).unwrap();
        let all = session.wait(session.lease(u64::MAX)).unwrap().unwrap();
        session.cancel.abort();
        assert!(session.wait(session.lease(1)).is_err());
        drop(all);
        assert!(session.wait(session.lease(1)).unwrap().is_some());
    }
}
