//! A bounded pool of workers over one stack of tasks, newest first.
//!
//! Tasks go in and workers run them until none is left and none is running. Newest first keeps the stack short: the walk
//! goes deep before it goes wide, so what waits is about one task for each open directory on the way down. Nobody ever
//! waits for room. Work is split only for somebody who has none: a worker asks [`Schedule::hungry`] and gives half away.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, PoisonError};

/// The stack and who is at work.
pub struct Schedule<T> {
    inner: Mutex<Inner<T>>,
    wake: Condvar,
    /// Workers without a task that no queued task will serve; a hint, read without the lock.
    hungry: AtomicUsize,
}

struct Inner<T> {
    tasks: Vec<T>,
    workers: usize,
    running: usize,
    idle: usize,
}

impl<T> Schedule<T> {
    /// For this many workers; who has not come yet counts as having nothing to do.
    pub fn new(workers: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                tasks: Vec::new(),
                workers,
                running: 0,
                idle: 0,
            }),
            wake: Condvar::new(),
            hungry: AtomicUsize::new(workers),
        }
    }

    /// Adds a task on top.
    pub fn push(&self, task: T) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.tasks.push(task);
        self.hint(&inner);
        if inner.idle > 0 {
            self.wake.notify_one();
        }
    }

    /// Whether somebody waits for work that nobody has offered yet.
    pub fn hungry(&self) -> bool {
        self.hungry.load(Relaxed) > 0
    }

    fn hint(&self, inner: &Inner<T>) {
        let free = inner.workers.saturating_sub(inner.running);
        self.hungry.store(free.saturating_sub(inner.tasks.len()), Relaxed);
    }

    /// Runs tasks until all are done, on this thread; every worker calls it.
    pub fn work(&self, mut run: impl FnMut(T)) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(task) = inner.tasks.pop() {
                inner.running += 1;
                self.hint(&inner);
                drop(inner);
                run(task);
                inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
                inner.running -= 1;
                self.hint(&inner);
            } else if inner.running == 0 {
                self.wake.notify_all();
                return;
            } else {
                inner.idle += 1;
                inner = self.wake.wait(inner).unwrap_or_else(PoisonError::into_inner);
                inner.idle -= 1;
            }
        }
    }
}

/// Stack of a worker; nothing recurses, the buffers are on the heap.
const STACK_BYTES: usize = 1024 * 1024;

/// Runs `work` on this many threads, this one included, and waits for all; each is told its number. Answers why a thread
/// could not be started: one worker fewer is slower, not wrong.
pub fn drive(workers: usize, work: impl Fn(usize) + Sync) -> Option<std::io::Error> {
    std::thread::scope(|scope| {
        let mut failed = None;
        for index in 1..workers {
            let work = &work;
            let thread = std::thread::Builder::new()
                .name(format!("bulkhaul-{index}"))
                .stack_size(STACK_BYTES);
            if let Err(error) = thread.spawn_scoped(scope, move || work(index)) {
                failed = Some(error);
            }
        }
        work(0);
        failed
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_not_come_yet_is_hungry() {
        let schedule = Schedule::new(2);
        schedule.push(());
        let mut seen = Vec::new();
        schedule.work(|()| seen.push(schedule.hungry()));
        assert_eq!(seen, [true]);
        let alone = Schedule::new(1);
        alone.push(());
        alone.work(|()| assert!(!alone.hungry()));
    }

    #[test]
    fn every_task_and_every_task_of_a_task_runs_once() {
        for workers in [1, 2, 7] {
            let schedule = Schedule::new(workers);
            let count = AtomicUsize::new(0);
            schedule.push(12_u32);
            std::thread::scope(|scope| {
                for _ in 0..workers {
                    scope.spawn(|| {
                        schedule.work(|depth| {
                            count.fetch_add(1, Relaxed);
                            if depth > 0 {
                                schedule.push(depth - 1);
                                schedule.push(depth - 1);
                            }
                        });
                    });
                }
            });
            assert_eq!(count.load(Relaxed), (1 << 13) - 1);
        }
    }
}
