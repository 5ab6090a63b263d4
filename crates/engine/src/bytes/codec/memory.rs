//! What all workers that pack and unpack may use together.
//!
//! Comes in: how much, and who wants how much of it; goes out: leave, at once or when others are done. Who asks for more than
//! there is gets it when nobody else has anything: a file is never refused for it, it only has to be alone.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulkhaul_formats::codec::Codec;

use crate::error::Refusal;
use crate::job::desk::Desk;

/// Whoever waits looks this often whether the run was given up.
const PATIENCE: Duration = Duration::from_millis(50);

/// Bytes that may be used at once.
#[derive(Debug)]
pub struct Memory {
    bytes: u64,
    used: Mutex<u64>,
    freed: Condvar,
}

/// Some of it, for as long as this lives.
#[derive(Debug)]
pub struct Grant {
    memory: Arc<Memory>,
    bytes: u64,
}

/// Bytes for a codec: as many as were asked for, else so many. A bound is refused that not one worker can keep: smaller
/// blocks would be other archives.
pub fn bound(asked: Option<u64>, otherwise: u64, codec: Codec) -> Result<u64, Refusal> {
    match asked {
        Some(asked) if asked < codec.memory() => {
            let (format, level, needed) = (codec.format().name(), codec.level(), codec.memory().div_ceil(1 << 20));
            let text =
                format!("memory: one worker takes {needed} MiB for {format} at level {level}, and less is given");
            Err(Refusal::Usage(text))
        }
        asked => Ok(asked.unwrap_or(otherwise)),
    }
}

impl Memory {
    /// So many.
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes,
            used: Mutex::new(0),
            freed: Condvar::new(),
        })
    }

    /// All there is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many may be at work at once that need so much each: one at least.
    fn workers(&self, each: u64) -> usize {
        usize::try_from(self.bytes / each.max(1)).unwrap_or(usize::MAX).max(1)
    }

    /// How many of `wanted` workers it is enough for that need so much each; where it is not for all, that is said.
    pub fn enough_for(&self, wanted: usize, each: u64, desk: &Desk) -> usize {
        let enough = self.workers(each);
        if enough < wanted {
            desk.note("memory", || {
                let text = format!("{enough} of {wanted} workers: each takes {} MiB of memory", each >> 20);
                (Vec::new(), text)
            });
        }
        enough
    }

    fn used(&self) -> MutexGuard<'_, u64> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grant(self: &Arc<Self>, used: &mut u64, bytes: u64) -> Option<Grant> {
        let fits = *used == 0 || used.checked_add(bytes).is_some_and(|sum| sum <= self.bytes);
        fits.then(|| {
            *used += bytes;
            Grant {
                memory: Arc::clone(self),
                bytes,
            }
        })
    }

    /// So much of it, if it is there.
    pub(super) fn take_if_any(self: &Arc<Self>, bytes: u64) -> Option<Grant> {
        self.grant(&mut self.used(), bytes)
    }

    /// So much of it, when it is there. Who has some must not ask for more. None: the run was told to stop.
    pub(super) fn take(self: &Arc<Self>, bytes: u64, desk: &Desk) -> Option<Grant> {
        let mut used = self.used();
        loop {
            if let Some(grant) = self.grant(&mut used, bytes) {
                return Some(grant);
            }
            if desk.cancel.is_draining() {
                return None;
            }
            let waited = self.freed.wait_timeout(used, PATIENCE);
            used = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        *self.memory.used() -= self.bytes;
        self.memory.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_there_is_but_one_always() {
        let memory = Memory::new(100);
        assert_eq!(
            (memory.workers(30), memory.workers(101), memory.workers(0)),
            (3, 1, 100)
        );
        let large = memory.take_if_any(1000).unwrap();
        assert!(memory.take_if_any(1).is_none());
        drop(large);
        let some = memory.take_if_any(60).unwrap();
        let desk = Desk::new(1);
        let rest = memory.take(40, &desk).unwrap();
        assert!(memory.take_if_any(1).is_none());
        desk.cancel.drain();
        assert!(memory.take(1, &desk).is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| memory.take(80, &Desk::new(1)).is_some());
            drop((some, rest));
            assert!(waiting.join().unwrap());
        });
        assert_eq!(*memory.used(), 0);
    }
}
