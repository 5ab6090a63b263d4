//! Who takes the tasks of a copy, and has each room do its part.
//!
//! Comes in: what is scheduled; goes out: all of it done, and an outcome for each entry. A directory is entered, listed, its
//! files worked on, and ended here, in this order; the rooms that do so do not know each other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bulkhaul_sys::{self as sys, Kind};

use crate::copy::act::{self, file as files_of};
use crate::copy::dir::Dir;
use crate::copy::entry::Entry;
use crate::copy::memory::{Coming, Late};
use crate::copy::run::{Run, Task};
use crate::copy::worker::Worker;
use crate::copy::{clear, directory, finder};
use crate::error::Fault;
use crate::pool::schedule::{self, Progress};
use crate::report::counters::Totals;
use crate::tree::listing::Batch;

/// Runs what is scheduled to its end.
pub fn drive(run: &Run) {
    let work = |index: usize| work(Worker::new(run, &run.counters[index]));
    let failed = match &run.tuner {
        None => {
            run.desk.staff(run.workers);
            schedule::drive(run.workers, work)
        }
        Some(tuner) => {
            let progress = || {
                let (bytes, entries) = Totals::of(&run.counters).work();
                let spent = sys::processor_time();
                Progress { bytes, entries, spent }
            };
            let told = |workers| run.desk.staff(workers);
            schedule::drive_tuned(&run.schedule, tuner, progress, told, work)
        }
    };
    if let Some(error) = failed {
        let message = format!("a worker could not be started: {error}");
        run.desk.note("threads", || (Vec::new(), message));
    }
}

/// Works until the run has no task left.
fn work(mut worker: Worker<'_>) {
    let run = worker.run;
    run.schedule.work(|task| {
        // A panic outside of an entry loses that task's entries: the books will not balance, and the report says so.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| perform(&mut worker, task))) {
            worker.fail(&Fault::panic(&*panic), Vec::new(), Kind::Directory);
        }
    });
}

fn perform(worker: &mut Worker<'_>, task: Task) {
    match task {
        Task::List(dir) => list(worker, &dir),
        Task::Descend(dir) => {
            if let Some(child) = directory::descend(worker, &dir) {
                list(worker, &child);
            }
        }
        Task::Files(dir, source, batch) => {
            files(worker, &dir, source, batch);
            directory::own_done(worker, &dir);
        }
        Task::Chunks(chunks) => {
            let run = worker.run;
            let terms = run.terms(chunks.destination());
            chunks.help(terms, worker.counters, &mut worker.buffer, || run.schedule.crowded());
        }
        Task::Link(link) => {
            if worker.run.desk.may_begin() {
                let entry = Entry {
                    dir: &link.dir,
                    source: link.source,
                    target: &link.target,
                    last: Some(&[]),
                    again: true,
                };
                file(worker, &entry, link.kind);
            }
            directory::child_done(worker, &link.dir);
        }
        Task::Late(late) => come_late(worker, late),
        Task::Close(dir) => directory::child_done(worker, &dir),
    }
}

/// A directory that was entered: what it has, and then the end of its own part.
fn list(worker: &mut Worker<'_>, dir: &Arc<Dir>) {
    finder::list(worker, dir, files);
    directory::own_done(worker, dir);
}

/// An entry that waited: the sweep is over. Where it has come, what has its name in other destinations and is of another
/// kind is extra there, and goes too.
fn come_late(worker: &mut Worker<'_>, late: Late) {
    let Late {
        dir,
        coming,
        blocked,
        clear,
    } = late;
    match coming {
        _ if !worker.run.desk.may_begin() => directory::child_done(worker, &dir),
        Coming::Directory(sub) => {
            if let Some(child) = directory::step_into(worker, &dir, sub, Some(&clear)) {
                list(worker, &child);
            }
        }
        Coming::Entry { source, target, kind } => {
            let entry = Entry {
                dir: &dir,
                source,
                target: &target,
                last: Some(&clear),
                again: false,
            };
            if let Some(place) = file(worker, &entry, kind) {
                let others = blocked
                    .iter()
                    .filter(|(twin, _)| *twin != place && clear.contains(twin));
                others.for_each(|(twin, kind)| clear::clear(worker.run, &dir, *twin, &target, *kind));
            }
            directory::child_done(worker, &dir);
        }
    }
}

/// Works on the files of a batch; gives half of the rest to whoever has nothing to do, or all of it when fewer workers are
/// to be at work.
fn files(worker: &mut Worker<'_>, dir: &Arc<Dir>, source: usize, mut batch: Batch) {
    let mut index = 0;
    while index < batch.len() && !worker.run.desk.cancel.is_draining() {
        if worker.run.schedule.crowded() {
            let rest = batch.take_from(index);
            worker.run.give_away(dir, source, rest);
            break;
        }
        if batch.len() - index > 1 && worker.run.schedule.hungry() {
            let rest = batch.split_off(index + 1);
            worker.run.give_away(dir, source, rest);
        }
        if !worker.run.desk.may_begin() {
            break;
        }
        let (target, kind) = batch.get(index);
        let entry = Entry {
            dir,
            source,
            target,
            last: None,
            again: false,
        };
        file(worker, &entry, kind);
        index += 1;
    }
    files_of::flush(worker);
}

/// One entry that is not a directory. A panic costs this entry only. Answers the destination in which it is, where that is
/// known by now.
fn file(worker: &mut Worker<'_>, entry: &Entry<'_>, kind: Kind) -> Option<usize> {
    let &Entry {
        dir, source, target, ..
    } = entry;
    let result = catch_unwind(AssertUnwindSafe(|| act::entry(worker, entry, kind)));
    let result = result.unwrap_or_else(|panic| Err(Fault::panic(&*panic).into()));
    let place = match &result {
        Ok(Some(done)) => Some(done.destination),
        Ok(None) | Err(_) => None,
    };
    match result {
        // Its outcome comes with its sync, or in the end.
        Ok(None) => worker.tell_shortfalls(dir, target),
        Ok(Some(done)) => worker.record(dir, source, target, kind, Ok(done)),
        Err(stopped) => worker.record(dir, source, target, kind, Err(stopped)),
    }
    place
}
