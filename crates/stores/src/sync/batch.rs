//! Contents that go over in batches, with a pause after each.
//!
//! Comes in: workers that want to begin one; goes out: when they may. Nothing of a batch is begun before all of the one before
//! has ended and the pause is over, counted from then.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bulkhaul_engine::error::Stopped;
use bulkhaul_engine::job::desk::Desk;

use crate::sync::options::Batch;

/// How often whoever waits looks whether the job is to stop.
const GLANCE: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
struct State {
    begun: u64,
    ended: u64,
    /// The last one of a batch ended then.
    rested_since: Option<Instant>,
}

/// Lets workers begin.
pub struct Batches<'d> {
    desk: &'d Desk,
    batch: Option<Batch>,
    state: Mutex<State>,
    changed: Condvar,
}

/// A content that was begun; it ends when this goes.
pub struct Turn<'b>(Option<&'b Batches<'b>>);

impl<'d> Batches<'d> {
    /// None: whoever wants to begin may.
    pub fn new(desk: &'d Desk, batch: Option<Batch>) -> Self {
        Self {
            desk,
            batch,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Waits until the next one may begin. An error: nobody wants that any more.
    pub fn begin(&self) -> Result<Turn<'_>, Stopped> {
        let Some(Batch { size, pause }) = self.batch else {
            return Ok(Turn(None));
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.desk.cancel.is_draining() {
                return Err(Stopped::Aborted);
            }
            let rested = state.rested_since.is_none_or(|since| since.elapsed() >= pause);
            if !state.begun.is_multiple_of(size) || (state.ended == state.begun && rested) {
                state.begun += 1;
                state.rested_since = None;
                return Ok(Turn(Some(self)));
            }
            let _resting = self.desk.resting();
            let waited = self.changed.wait_timeout(state, GLANCE);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(batches) = self.0 else { return };
        let mut state = batches.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ended += 1;
        if batches
            .batch
            .is_some_and(|batch| state.ended.is_multiple_of(batch.size))
        {
            state.rested_since = Some(Instant::now());
        }
        batches.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_begins_when_the_one_before_has_ended() {
        let desk = Desk::new(1);
        let pause = Duration::ZERO;
        let batches = Batches::new(&desk, Some(Batch { size: 2, pause }));
        let (first, second) = (batches.begin().ok(), batches.begin().ok());
        std::thread::scope(|scope| {
            let third = scope.spawn(|| batches.begin().map(drop).is_ok());
            drop(first);
            assert!(!third.is_finished());
            drop(second);
            assert!(third.join().unwrap());
        });
        desk.cancel.drain();
        let full = Batches::new(&desk, Some(Batch { size: 1, pause }));
        assert!(full.begin().is_err());
        assert!(Batches::new(&desk, None).begin().is_ok());
    }
}
