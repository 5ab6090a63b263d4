//! A bounded pool of workers over one stack of tasks, newest first.
//!
//! Tasks go in and workers run them until none is left and none is running. Newest first keeps the stack short: the walk
//! goes deep before it goes wide, so what waits is about one task for each open directory on the way down. Nobody ever
//! waits for room. Work is split only for somebody who has none: a worker asks [`Schedule::hungry`] and gives half away.
//!
//! How many may have a task at once can be changed at any moment ([`Schedule::allow`]): who is too many rests before its
//! next task, and long tasks ask [`Schedule::crowded`] on their way. No task waits for a particular worker, so a resting
//! one holds nothing up. [`drive`] starts the threads; with a [`Tuner`] it measures meanwhile and allows what serves best.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crate::pool::tune::{Range, Sample, Tuner};

/// Time between two looks at what the workers do, where their number is tuned.
const INTERVAL: Duration = Duration::from_millis(100);

/// The stack and who is at work.
pub struct Schedule<T> {
    inner: Mutex<Inner<T>>,
    wake: Condvar,
    /// Workers without a task that no queued task will serve; a hint, read without the lock.
    hungry: AtomicUsize,
    /// Workers with a task beyond those that may have one; a hint too.
    crowd: AtomicUsize,
}

struct Inner<T> {
    tasks: Vec<T>,
    workers: usize,
    /// How many of them may have a task.
    allowed: usize,
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
                allowed: workers,
                running: 0,
                idle: 0,
            }),
            wake: Condvar::new(),
            hungry: AtomicUsize::new(workers),
            crowd: AtomicUsize::new(0),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on so many workers may have a task: one at least, all at most.
    pub fn allow(&self, workers: usize) {
        let mut inner = self.inner();
        inner.allowed = workers.clamp(1, inner.workers.max(1));
        self.hint(&inner);
        self.crowd(&inner);
        self.wake.notify_all();
    }

    /// Workers that have a task.
    pub fn busy(&self) -> usize {
        self.inner().running
    }

    /// Adds a task on top.
    pub fn push(&self, task: T) {
        let mut inner = self.inner();
        inner.tasks.push(task);
        self.hint(&inner);
        if inner.idle > 0 && inner.running < inner.allowed {
            self.wake.notify_one();
        }
    }

    /// Whether somebody waits for work that nobody has offered yet.
    pub fn hungry(&self) -> bool {
        self.hungry.load(Relaxed) > 0
    }

    /// Whether more workers have a task than may have one. Who is told so should leave the rest of its task to others: it
    /// is told to about as many as are too many.
    pub fn crowded(&self) -> bool {
        self.crowd.load(Relaxed) > 0 && self.crowd.try_update(Relaxed, Relaxed, |n| n.checked_sub(1)).is_ok()
    }

    fn hint(&self, inner: &Inner<T>) {
        let free = inner.allowed.saturating_sub(inner.running);
        self.hungry.store(free.saturating_sub(inner.tasks.len()), Relaxed);
    }

    fn crowd(&self, inner: &Inner<T>) {
        self.crowd.store(inner.running.saturating_sub(inner.allowed), Relaxed);
    }

    /// Runs tasks until all are done, on this thread; every worker calls it.
    pub fn work(&self, mut run: impl FnMut(T)) {
        let mut inner = self.inner();
        loop {
            let task = if inner.running < inner.allowed {
                inner.tasks.pop()
            } else {
                None
            };
            if let Some(task) = task {
                inner.running += 1;
                self.hint(&inner);
                drop(inner);
                run(task);
                inner = self.inner();
                inner.running -= 1;
                self.hint(&inner);
                self.crowd(&inner);
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

fn start<'s, 'e>(
    scope: &'s Scope<'s, 'e>,
    index: usize,
    work: &'e (impl Fn(usize) + Sync),
) -> std::io::Result<ScopedJoinHandle<'s, ()>> {
    let thread = Builder::new().name(format!("bulkhaul-{index}")).stack_size(STACK_BYTES);
    thread.spawn_scoped(scope, move || work(index))
}

/// Runs `work` on this many threads, this one included, and waits for all; each is told its number. Answers why a thread
/// could not be started: one worker fewer is slower, not wrong.
pub fn drive(workers: usize, work: impl Fn(usize) + Sync) -> Option<std::io::Error> {
    let work = &work;
    std::thread::scope(|scope| {
        let failed = (1..workers).filter_map(|index| start(scope, index, work).err()).last();
        work(0);
        failed
    })
}

/// What was done so far.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Bytes of content.
    pub bytes: u64,
    /// Entries, as a [`Sample`] counts them.
    pub entries: u64,
    /// The processors' time that it took.
    pub spent: Duration,
}

/// How many workers there are.
pub enum Crew {
    /// So many.
    Fixed(usize),
    /// As many as are found to serve best, and so many at most.
    Tuned(usize, Mutex<Tuner>),
}

impl Crew {
    /// As many as serve best in this range, `most` at most.
    pub fn of(range: Range, processors: usize, most: usize) -> Self {
        let ceiling = range.ceiling.min(most).max(1);
        if range.fixed {
            return Self::Fixed(ceiling);
        }
        let range = Range {
            start: range.start.min(ceiling),
            ceiling,
            ..range
        };
        Self::Tuned(ceiling, Mutex::new(Tuner::new(range, processors)))
    }

    /// How many there may be.
    pub fn most(&self) -> usize {
        match self {
            Self::Fixed(workers) | Self::Tuned(workers, _) => *workers,
        }
    }

    /// How many shall be at work, while none is.
    pub fn active(&self) -> usize {
        match self {
            Self::Fixed(workers) => *workers,
            Self::Tuned(_, tuner) => tuner.lock().unwrap_or_else(PoisonError::into_inner).active(),
        }
    }

    /// Has them do `work`. Where their number changes, `told` hears of it, as [`drive_tuned`] has it.
    pub fn drive<T: Send>(
        &self,
        schedule: &Schedule<T>,
        progress: impl Fn() -> Progress + Sync,
        told: impl Fn(usize) + Sync,
        work: impl Fn(usize) + Sync,
    ) -> Option<std::io::Error> {
        match self {
            Self::Fixed(workers) => drive(*workers, work),
            Self::Tuned(_, tuner) => drive_tuned(schedule, tuner, progress, told, work),
        }
    }
}

/// The same with as many workers as `tuner` finds best by what is done, which `progress` tells. Threads are started when
/// they are first allowed to do something; `told` hears of each new number.
pub fn drive_tuned<T: Send>(
    schedule: &Schedule<T>,
    tuner: &Mutex<Tuner>,
    progress: impl Fn() -> Progress + Sync,
    told: impl Fn(usize) + Sync,
    work: impl Fn(usize) + Sync,
) -> Option<std::io::Error> {
    let (work, progress, told) = (&work, &progress, &told);
    std::thread::scope(|scope| {
        let (over, end) = mpsc::channel::<()>();
        let steer = move || {
            let mut tuner = tuner.lock().unwrap_or_else(PoisonError::into_inner);
            let processors = tuner.processors() as f64;
            let (mut started, mut failed) = (1, None);
            let mut before = (Instant::now(), progress());
            loop {
                let active = tuner.active();
                schedule.allow(active);
                told(active);
                while started < active && failed.is_none() {
                    failed = start(scope, started, work).err();
                    started += usize::from(failed.is_none());
                }
                if end.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
                    return failed;
                }
                let now = (Instant::now(), progress());
                let seconds = (now.0 - before.0).as_secs_f64();
                let spent = now.1.spent.saturating_sub(before.1.spent).as_secs_f64();
                tuner.observe(&Sample {
                    bytes: now.1.bytes - before.1.bytes,
                    entries: now.1.entries - before.1.entries,
                    seconds,
                    busy: schedule.busy(),
                    load: spent / seconds / processors,
                });
                before = now;
            }
        };
        let thread = Builder::new().name("bulkhaul-tune".into()).stack_size(STACK_BYTES);
        let steered = thread.spawn_scoped(scope, steer);
        work(0);
        drop(over);
        match steered {
            Ok(thread) => thread.join().unwrap_or(None),
            Err(error) => Some(error),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
    fn whatever_is_allowed_meanwhile_every_task_runs_once() {
        const WORKERS: usize = 5;
        for round in 0..20 {
            let schedule = Schedule::new(WORKERS);
            let (count, running, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
            schedule.allow(1 + round % WORKERS);
            schedule.push(12_u32);
            std::thread::scope(|scope| {
                let workers: Vec<_> = (0..WORKERS)
                    .map(|_| {
                        scope.spawn(|| {
                            schedule.work(|depth| {
                                running.fetch_add(1, Relaxed);
                                count.fetch_add(1, Relaxed);
                                if depth > 0 {
                                    schedule.push(depth - 1);
                                    schedule.push(depth - 1);
                                }
                                running.fetch_sub(1, Relaxed);
                            });
                        })
                    })
                    .collect();
                scope.spawn(|| {
                    for number in (0..WORKERS + 2).cycle() {
                        if over.load(Relaxed) > 0 {
                            break;
                        }
                        schedule.allow(number);
                        std::thread::yield_now();
                    }
                });
                for worker in workers {
                    worker.join().unwrap();
                }
                over.store(1, Relaxed);
            });
            assert_eq!((count.load(Relaxed), running.load(Relaxed)), ((1 << 13) - 1, 0));
            assert_eq!(schedule.busy(), 0);
        }
    }

    #[test]
    fn no_more_have_a_task_than_may() {
        let schedule = Schedule::new(4);
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        schedule.allow(2);
        (0..64).for_each(|_| schedule.push(()));
        let failed = drive(4, |_| {
            schedule.work(|()| {
                most.fetch_max(running.fetch_add(1, Relaxed) + 1, Relaxed);
                std::thread::yield_now();
                running.fetch_sub(1, Relaxed);
            });
        });
        assert!(failed.is_none() && most.load(Relaxed) <= 2);
    }

    #[test]
    fn as_many_are_told_to_leave_as_are_too_many() {
        let schedule = Schedule::new(3);
        (0..3).for_each(|_| schedule.push(()));
        let (there, told) = (std::sync::Barrier::new(3), AtomicUsize::new(0));
        let failed = drive(3, |_| {
            schedule.work(|()| {
                if there.wait().is_leader() {
                    schedule.allow(1);
                }
                there.wait();
                told.fetch_add(usize::from(schedule.crowded()), Relaxed);
                there.wait();
            });
        });
        assert!(failed.is_none());
        assert_eq!(told.load(Relaxed), 2);
    }

    #[test]
    fn a_tuned_pool_does_every_task_with_threads_started_on_demand() {
        let range = Range {
            start: 2,
            ceiling: 8,
            fixed: false,
        };
        let tuner = Mutex::new(Tuner::new(range, 1));
        let schedule = Schedule::new(8);
        let (done, seen) = (AtomicUsize::new(0), Mutex::new(BTreeSet::new()));
        let told = Mutex::new(Vec::new());
        (0..16).for_each(|_| schedule.push(()));
        // Tasks that wait and cost nothing gain from every worker. The time of the process is that of other tests too.
        let failed = drive_tuned(
            &schedule,
            &tuner,
            || Progress {
                bytes: 0,
                entries: done.load(Relaxed) as u64,
                spent: Duration::ZERO,
            },
            |active| told.lock().unwrap().push(active),
            |index| {
                schedule.work(|()| {
                    let workers = {
                        let mut seen = seen.lock().unwrap();
                        seen.insert(index);
                        seen.len()
                    };
                    std::thread::sleep(Duration::from_millis(10));
                    // A busy machine tells the tuner less; two workers would be a minute at these.
                    if done.fetch_add(1, Relaxed) < 12_000 && workers < 3 {
                        schedule.push(());
                    }
                });
            },
        );
        assert!(failed.is_none());
        let (told, seen) = (told.into_inner().unwrap(), seen.into_inner().unwrap());
        assert_eq!(told[0], 2);
        let most = told.iter().copied().max().unwrap();
        assert!(most > 2 && (3..=most).contains(&seen.len()), "{told:?}, {seen:?}");
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
