//! Where many threads put what is to be sorted: each into a sorter of its own.
//!
//! Comes in: records; goes out: all of them in order, or none of them, and a refusal, where one could not be taken in.

use std::sync::{Mutex, OnceLock, PoisonError};

use bulkhaul_sys::Errno;

use crate::error::Refusal;
use crate::records::sort::{Sorted, Sorter, Sorters};

/// The sorters of one run.
pub struct Intake {
    sorters: Sorters,
    /// Those that nobody has in hand.
    resting: Mutex<Vec<Sorter>>,
    broken: OnceLock<Errno>,
}

impl Intake {
    /// With sorters of these.
    pub fn new(sorters: &Sorters) -> Self {
        Self {
            sorters: sorters.clone(),
            resting: Mutex::default(),
            broken: OnceLock::new(),
        }
    }

    /// A sorter for one thread, until it puts it down.
    pub fn take_up(&self) -> Sorter {
        let resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner).pop();
        resting.unwrap_or_else(|| self.sorters.sorter())
    }

    /// Takes a record in. False: that, or an earlier one, could not be had, and there will be none in the end.
    pub fn push(&self, sorter: &mut Sorter, (key, payload): (&[u8], &[u8])) -> bool {
        if self.broken.get().is_none()
            && let Err(errno) = sorter.push(key, payload)
        {
            self.broken.get_or_init(|| errno);
        }
        self.broken.get().is_none()
    }

    /// The sorter of a thread that needs it no more.
    pub fn put_down(&self, sorter: Sorter) {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting.push(sorter);
    }

    /// All records in order, when all sorters were put down. They are given out once.
    pub fn sorted(&self) -> Result<Sorted, Refusal> {
        if let Some(errno) = self.broken.get() {
            return Err(self.sorters.refusal(*errno));
        }
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        let all = std::mem::take(&mut *resting);
        Sorted::merge(all).map_err(|errno| self.sorters.refusal(errno))
    }
}
