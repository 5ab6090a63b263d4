//! What a manifest says of files that no walk finds.
//!
//! Comes in: a [`Ground`]; goes out: the sorted records of all that it has. One worker finds, and reads where the others have
//! enough to do; what waits between them is bounded.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{TrySendError, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};

use bulkhaul_formats::digest::Hashers;
use bulkhaul_formats::manifest::Entry;
use bulkhaul_sys::Kind;

use crate::entry::{Outcome, Reason};
use crate::error::{Failure, Fault, Refusal, Stopped};
use crate::job::desk::Desk;
use crate::pool::schedule::drive;
use crate::records::entry::listed_kind;
use crate::records::ground::{Ground, Sight};
use crate::records::manifest::Making;
use crate::records::sort::{Sorted, Sorter, Sorters};
use crate::report::counters::Counters;
use crate::tree::selection::Selection;

/// Entries that wait for a worker.
const QUEUE: usize = 1024;

/// Reads all that there is.
pub(super) fn read(
    ground: &dyn Ground,
    making: &Making,
    filter: &Selection,
    sorters: &Sorters,
    desk: &Desk,
) -> Result<Sorted, Refusal> {
    let (give, given) = sync_channel(QUEUE);
    let (give, given) = (Mutex::new(Some(give)), Mutex::new(given));
    let done = Mutex::new(Vec::new());
    let broken = OnceLock::new();
    let keep = |refusal: Result<(), Refusal>| {
        if let Err(refusal) = refusal {
            broken.get_or_init(|| refusal);
            desk.cancel.drain();
        }
    };
    desk.unlisted();
    let unstarted = drive(desk.counters.len(), |index| {
        let mut reader = Reader {
            ground,
            making,
            desk,
            counters: &desk.counters[index],
            sorters,
            sorter: sorters.sorter(),
            hashers: Hashers::new(making.algorithms()),
            payload: Vec::new(),
        };
        let first = give.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(give) = first {
            keep(ground.find(desk, filter, &mut |sight| match give.try_send(sight) {
                Ok(()) => Ok(()),
                Err(TrySendError::Full(sight) | TrySendError::Disconnected(sight)) => reader.take(&sight),
            }));
            desk.listed();
            desk.expect_found(|found| found);
        }
        loop {
            let next = given.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(sight) = next else { break };
            keep(reader.take(&sight));
        }
        done.lock().unwrap_or_else(PoisonError::into_inner).push(reader.sorter);
    });
    if let Some(error) = unstarted {
        desk.lacks_worker(&error);
    }
    if let Some(refusal) = broken.into_inner() {
        return Err(refusal);
    }
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    Sorted::merge(done).map_err(|errno| sorters.refusal(errno))
}

/// One worker.
struct Reader<'r> {
    ground: &'r dyn Ground,
    making: &'r Making,
    desk: &'r Desk,
    counters: &'r Counters,
    sorters: &'r Sorters,
    sorter: Sorter,
    hashers: Hashers,
    payload: Vec<u8>,
}

impl Reader<'_> {
    fn take(&mut self, sight: &Sight) -> Result<(), Refusal> {
        if sight.failed || self.desk.cancel.is_draining() {
            return Ok(());
        }
        let kind = sight.kind;
        let seen = catch_unwind(AssertUnwindSafe(|| self.look(sight)));
        let recorded = match seen.unwrap_or_else(|panic| Err(Fault::panic(&*panic).into())) {
            Ok(Some(entry)) => self.making.record(&(entry, None), false, &mut self.payload),
            Ok(None) => {
                self.counters
                    .outcome(kind, Outcome::Skipped, Some(Reason::NotAFile), sight.size);
                return Ok(());
            }
            Err(Stopped::Aborted) => return Ok(()),
            Err(Stopped::Fault(fault)) => Err(fault),
        };
        match recorded {
            Ok(()) => {
                let pushed = self.sorter.push(&sight.path, &self.payload);
                pushed.map_err(|errno| self.sorters.refusal(errno))
            }
            Err(fault) => {
                self.counters.outcome(kind, fault.outcome(), None, 0);
                let path = self.ground.name(&sight.path);
                self.desk.fail(Failure::new(&fault, path, kind, None));
                Ok(())
            }
        }
    }

    /// What the manifest says of it; none: nothing.
    fn look(&mut self, sight: &Sight) -> Result<Option<Entry>, Stopped> {
        let entry = match sight.kind {
            Kind::File => self.ground.read(sight, &mut self.hashers, (self.desk, self.counters))?,
            Kind::Directory if self.making.has_all_kinds() => Entry {
                kind: Some(listed_kind(Kind::Directory)),
                size: Some(0),
                ..Entry::default()
            },
            _ => return Ok(None),
        };
        Ok(Some(Entry {
            path: sight.path.clone(),
            ..entry
        }))
    }
}
