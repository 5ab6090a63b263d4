//! The copy as a visitor of the walk: has each room do its part.
//!
//! Comes in: what the walk finds, and the copy's own tasks; goes out: all of it done, and an outcome for each entry. The rooms
//! that do so do not know each other.

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bulkhaul_sys::{BorrowedFd, Errno, Kind};

use crate::copy::act::{self, file as files_of};
use crate::copy::dir::{Dir, Twinned as _, Twins};
use crate::copy::entry::{Done, Entry, Names};
use crate::copy::memory::{Coming, Late};
use crate::copy::run::{Run, Task};
use crate::copy::worker::Worker;
use crate::copy::{clear, directory, extra, finder};
use crate::entry::{Outcome, Reason};
use crate::error::{Fault, Operation, Side};
use crate::job::desk::Desk;
use crate::report::counters::Counters;
use crate::tree::path::join;
use crate::walk::node::{Entered, Source};
use crate::walk::scope::Subdirectory;
use crate::walk::start::Boundary;
use crate::walk::visitor::{Entries, Hand, Met, Missed, Next, Visitor};
use crate::walk::{Walk, step_into};

/// Runs what is scheduled to its end.
pub fn drive(run: &Run) {
    let walk = Walk {
        filter: &run.rules.filter,
        boundary: Boundary::of(run.rules.asked.one_file_system),
        across: &[],
        desk: &run.desk,
        crew: &run.crew,
        budget: &run.budget,
    };
    walk.resume(&run.schedule, &Copying(run));
}

/// Whoever copies.
struct Copying<'r>(&'r Run);

impl<'r> Visitor for Copying<'r> {
    type Data = Twins;
    type Worker = Worker<'r>;
    type Task = Task;

    // A directory that nobody sees yet is published before anything can be found below it.
    const OWN_FIRST: bool = true;
    // It is an entry as well as any, and empty.
    const ENTERS_BEYOND: bool = true;

    fn worker(&self, index: usize) -> Worker<'r> {
        Worker::new(self.0, &self.0.counters[index])
    }

    fn counters<'c>(&'c self, _desk: &'c Desk) -> &'c [Counters] {
        &self.0.counters
    }

    fn perform(hand: &mut Hand<'_, Self>, task: Task) {
        let run = hand.worker.run;
        match task {
            Task::Chunks(chunks) => {
                let (terms, worker) = (run.terms(chunks.destination()), &mut hand.worker);
                chunks.help(terms, worker.counters, &mut worker.buffer, || run.schedule.crowded());
            }
            Task::Blocks(blocks) => {
                let worker = &mut hand.worker;
                blocks.help(&run.desk, worker.counters, &mut worker.tools, || run.schedule.crowded());
            }
            Task::Link(link) => {
                if run.desk.may_begin() {
                    let entry = Entry {
                        dir: &link.dir,
                        source: link.source,
                        found: &link.target,
                        target: &link.target,
                        last: Some(&[]),
                        again: true,
                    };
                    file(&mut hand.worker, &entry, link.kind);
                }
                hand.done(&link.dir);
            }
            Task::Late(late) => come_late(hand, late),
            Task::Close(dir) => hand.done(&dir),
        }
    }

    fn failed(&self, worker: &mut Worker<'r>, _desk: &Desk, fault: &Fault) {
        worker.fail(fault, Vec::new(), Kind::Directory);
    }

    fn leaves_alone(&self, worker: &mut Worker<'r>, parent: &Arc<Dir>, sub: &Subdirectory) -> bool {
        directory::leaves_alone(worker, parent, sub)
    }

    fn refuses(
        &self,
        worker: &mut Worker<'r>,
        parent: &Arc<Dir>,
        sub: &Subdirectory,
        index: usize,
        source: &Source,
    ) -> bool {
        directory::refuses(worker, parent, sub, index, source)
    }

    fn enter(&self, worker: &mut Worker<'r>, entered: &Entered<'_, Twins>) -> Option<Twins> {
        directory::enter(worker, entered, None)
    }

    fn begin(&self, worker: &mut Worker<'r>, dir: &Arc<Dir>) -> Result<(), Fault> {
        directory::begin(worker, dir)
    }

    fn admits<'n>(
        &self,
        worker: &mut Worker<'r>,
        dir: &Arc<Dir>,
        source: usize,
        names: impl Iterator<Item = &'n CStr>,
    ) -> bool {
        finder::admits(worker, dir, source, names)
    }

    fn meet(&self, worker: &mut Worker<'r>, dir: &Arc<Dir>, source: usize, at: BorrowedFd<'_>, name: &CStr) -> Met {
        finder::meet(worker, dir, source, at, name)
    }

    fn stranger(&self, worker: &mut Worker<'r>, dir: &Arc<Dir>, source: usize, name: &CStr, kind: Kind) {
        finder::pass_over(worker, dir, source, name, kind, Reason::StagingName);
    }

    fn excluded(&self, worker: &mut Worker<'r>, dir: &Arc<Dir>, source: usize, name: &CStr, kind: Kind) {
        finder::excluded(worker, dir, source, name, kind);
    }

    fn overridden(&self, worker: &mut Worker<'r>, dir: &Arc<Dir>, entry: (usize, &CStr, Kind), winner: (usize, Kind)) {
        finder::overridden(worker, dir, entry, winner);
    }

    fn ignores_missing(&self) -> bool {
        // The copy has told what was missing, and what has gone since needs no removal.
        self.0.pass.departure().is_some()
    }

    fn entries(&self, worker: &mut Worker<'r>, _at: BorrowedFd<'_>, entries: &mut Entries<'_, Self>) {
        let (dir, source) = (entries.node(), entries.source());
        while let Some((name, kind)) = entries.next() {
            let entry = Entry {
                dir,
                source,
                found: name,
                target: name,
                last: None,
                again: false,
            };
            file(worker, &entry, kind);
        }
        files_of::flush(worker);
    }

    fn unlisted(&self, worker: &mut Worker<'r>, dir: &Arc<Dir>, source: usize, errno: Errno) {
        worker.fail_directory(dir, source, &Fault::new(Operation::List, Side::Source, errno));
    }

    fn listed(&self, worker: &mut Worker<'r>, dir: &Arc<Dir>, source: usize, names: usize) {
        extra::note_listed(worker, dir, source, names);
    }

    fn listed_all(&self, worker: &mut Worker<'r>, dir: &Arc<Dir>) {
        extra::note_extras(worker, dir);
    }

    fn settle(&self, worker: &mut Worker<'r>, dir: &Arc<Dir>) {
        directory::publish(worker, dir);
    }

    fn leave(&self, worker: &mut Worker<'r>, dir: &Arc<Dir>) -> Next {
        directory::close(worker, dir);
        Next::Up
    }

    fn break_off(&self, worker: &mut Worker<'r>, dir: &Arc<Dir>) {
        directory::break_off(worker, dir);
    }

    fn fault(&self, worker: &mut Worker<'r>, missed: &Missed<'_, Twins>, kind: Kind, fault: &Fault) {
        let Some(dir) = missed.parent else {
            return worker.record_missing(fault, missed.path());
        };
        let path = || join(&dir.relative_path(), missed.name.to_bytes());
        let told = worker.run.pass.departure().is_some_and(|d| d.has_failed(path));
        let result = if told {
            Ok(Done::new(Outcome::Skipped))
        } else {
            Err(fault.clone().into())
        };
        worker.record(dir, missed.source, missed.name, kind, result);
    }

    fn unmerged(&self, worker: &mut Worker<'r>, missed: &Missed<'_, Twins>, fault: &Fault) {
        worker.fail(fault, missed.path(), Kind::Directory);
    }

    fn relieve(&self, dir: &Dir) -> bool {
        dir.close_twins()
    }

    fn release(&self, dir: &Dir) {
        dir.retire_twins();
    }
}

/// An entry that waited: the sweep is over. Where it has come, what has its name in other destinations and is of another
/// kind is extra there, and goes too.
fn come_late(hand: &mut Hand<'_, Copying<'_>>, late: Late) {
    let Late {
        dir,
        coming,
        blocked,
        clear,
    } = late;
    let run = hand.worker.run;
    match coming {
        _ if !run.desk.may_begin() => hand.done(&dir),
        Coming::Directory(sub) => step_into(hand, &dir, sub, |hand, entered| {
            directory::enter(&mut hand.worker, entered, Some(&clear))
        }),
        Coming::Entry { source, target, kind } => {
            let entry = Entry {
                dir: &dir,
                source,
                found: &target,
                target: &target,
                last: Some(&clear),
                again: false,
            };
            if let Some(place) = file(&mut hand.worker, &entry, kind) {
                let others = blocked
                    .iter()
                    .filter(|(twin, _)| *twin != place && clear.contains(twin));
                others.for_each(|(twin, kind)| clear::clear(run, &dir, *twin, &target, *kind));
            }
            hand.done(&dir);
        }
    }
}

/// One entry that is not a directory. A panic costs this entry only. Answers the destination in which it is, where that is
/// known by now.
fn file(worker: &mut Worker<'_>, entry: &Entry<'_>, kind: Kind) -> Option<usize> {
    let &Entry { dir, source, .. } = entry;
    let mut archive = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        archive = act::archive::archive_for(worker, entry, kind)?;
        let target = archive.as_deref().unwrap_or(entry.target);
        act::entry(worker, &Entry { target, ..*entry }, kind)
    }));
    let names = Names {
        target: archive.as_deref().unwrap_or(entry.target),
        ..entry.names()
    };
    let result = result.unwrap_or_else(|panic| Err(Fault::panic(&*panic).into()));
    let place = match &result {
        Ok(Some(done)) => Some(done.destination),
        Ok(None) | Err(_) => None,
    };
    match result {
        // Its outcome comes with its sync, or in the end.
        Ok(None) => worker.tell_shortfalls(dir, names.target),
        Ok(Some(done)) => worker.record(dir, source, names, kind, Ok(done)),
        Err(stopped) => worker.record(dir, source, names, kind, Err(stopped)),
    }
    place
}
