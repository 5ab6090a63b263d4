//! How what is extra goes, and how the way of an entry is cleared.
//!
//! Comes in: what [`mirror`](crate::copy::mirror) has decided about; goes out: its removal, by a
//! [`Sweeper`]. Before anything goes from a directory, its sources must still be where they
//! were. What is in the way of an entry goes last of all: the entry is complete under a staging name then, and gets its own
//! right after. Where anything of that has to stay, the entry is in conflict, and what was staged of it is taken back.
//! A directory is complete when its own files are done, though some may have failed; not where it could not be listed, or
//! nothing could be made in it.

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind};

use crate::copy::dir::{Dir, Twinned as _};
use crate::copy::memory::{Extras, FAILED};
use crate::copy::run::Run;
use crate::copy::worker::Worker;
use crate::error::{Fault, Operation, Side, Stopped};
use crate::pool::schedule::Crew;
use crate::sweep::guard::Guard;
use crate::sweep::sweeper::{Mode, Sweeper};
use crate::walk::start::{Part, Parts, Start};

/// What becomes of extra entries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// They are counted.
    Count,
    /// They go, or in a dry run would.
    Go,
    /// They were allowed to go before, and go now, whatever else has failed since.
    Clear,
}

/// Extra entries, for the walk below them.
pub struct Sweep<'r> {
    /// The run that found them.
    pub run: &'r Run,
    /// By directories.
    pub found: &'r [Extras],
    /// What becomes of them.
    pub turn: Turn,
}

impl Parts for Sweep<'_> {
    fn count(&self) -> usize {
        self.found.len()
    }

    fn open(&self, index: usize) -> Option<Part> {
        let extras = &self.found[index];
        let (dir, surplus) = (&extras.dir, &self.run.surplus);
        if self.turn != Turn::Clear && surplus.is_withheld() {
            return None;
        }
        for source in 0..dir.sources.len() {
            if let Err(errno) = dir.source_anew(source) {
                let path = crate::tree::path::show(&dir.source_path(source));
                let why = crate::error::describe(errno);
                surplus.withhold("source-gone", format!("{path}: {why}"));
                if self.turn == Turn::Clear {
                    surplus.settle();
                }
                return None;
            }
        }
        let part = extras.part();
        if self.turn != Turn::Clear {
            // What is open of it now, its part holds.
            dir.put_down();
        }
        part.unwrap_or_else(|fault| {
            if self.turn == Turn::Count {
                surplus.withhold("failed", FAILED);
            }
            let mut worker = Worker::new(self.run, &self.run.counters[0]);
            worker.fail_directory(dir, dir.winner(), &fault);
            None
        })
    }
}

/// One thread.
static ALONE: Crew = Crew::Fixed(1);

/// Who removes or counts extra entries, `left` of them at most, with one thread.
pub fn sweeper<'s>(run: &'s Run, guard: &'s Guard, left: &'s AtomicU64, mode: Mode) -> Sweeper<'s> {
    Sweeper {
        desk: &run.desk,
        guard,
        filter: &run.rules.filter,
        stager: Some(run.stager),
        budget: &run.budget,
        crew: &ALONE,
        mode,
        tell: 0,
        left,
        witness: None,
    }
}

/// For how many extra entries an event is sent.
pub fn told(run: &Run) -> u64 {
    if run.rules.asked.entry_events { u64::MAX } else { 0 }
}

/// Removes what has a name in a directory of destination number `twin`, as far as that was allowed.
pub fn clear(run: &Run, dir: &Arc<Dir>, twin: usize, name: &CStr, kind: Kind) {
    let Some(leave) = run.surplus.leave() else { return };
    let found = &[Extras::one(dir, twin, name, kind)];
    let turn = Turn::Clear;
    let crew = Crew::Fixed(if kind == Kind::Directory { leave.workers } else { 1 });
    Sweeper {
        tell: told(run),
        crew: &crew,
        ..sweeper(run, &leave.guard, &leave.left, Mode::Remove)
    }
    .run(Start::Parts(&Sweep { run, found, turn }));
}

/// The same for what is in the way of an entry that is about to get this name; `what`: why that is in conflict while
/// anything is there.
pub fn make_way(
    run: &Run,
    dir: &Arc<Dir>,
    twin: usize,
    name: &CStr,
    kind: Kind,
    (operation, what): (Operation, &'static str),
) -> Result<(), Stopped> {
    clear(run, dir, twin, name, kind);
    let (_, fd) = dir.writable(twin)?;
    match sys::stat(fd.as_fd(), name, Follow::No) {
        Err(Errno::NOENT) => Ok(()),
        // Whoever stops the run stops this, too.
        Ok(_) if run.desk.cancel.is_draining() => Err(Stopped::Aborted),
        Ok(_) => Err(Fault::conflict(operation, twin, what).into()),
        Err(errno) => Err(Fault::new(Operation::Stat, Side::Destination(twin), errno).into()),
    }
}
