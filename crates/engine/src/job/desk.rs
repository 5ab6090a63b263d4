//! The desk of an operation: where its work and whoever watches it meet.
//!
//! Comes in: counts, findings, events, and the wish to stop or to go slower; goes out: the same to the other side, and
//! whether anything moves.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bulkhaul_sys::{Errno, Kind};

use crate::entry::Outcome;
use crate::error::{Failure, Stopped, describe};
use crate::event::{EntryEvent, Event, Queue, Victims};
use crate::job::pace::{Limits, Pace};
use crate::report::counters::{Counters, InFlight, Steps, Totals};
use crate::report::{Durability, Findings, Report};

/// Where an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Arguments and destinations are looked at.
    Preflight,
    /// The walk goes on: totals are not known yet.
    Scanning,
    /// The walk has ended.
    Copying,
    /// What is found goes; how much there is, nobody knows before the end.
    Removing,
    /// Extra entries of the destination are removed.
    Sweeping,
    /// Everything is copied and waits for the disk.
    Closing,
    /// Sources whose copies are proved are removed.
    Proving,
    /// Over.
    Done,
}

impl Phase {
    /// As `--json` names it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Scanning => "scanning",
            Self::Copying => "copying",
            Self::Removing => "removing",
            Self::Sweeping => "sweeping",
            Self::Closing => "closing",
            Self::Proving => "proving",
            Self::Done => "done",
        }
    }
}

/// When a run is told to stop, what is in flight may take so long to end. What takes longer is left unfinished.
pub const WIND_UP: Duration = Duration::from_secs(3);

/// How far a run may go on. Asked at every file by every worker, so that nothing that changes may share its cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Cancel {
    state: AtomicU8,
    /// When it was first told to stop.
    since: OnceLock<Instant>,
}

impl Cancel {
    /// Finish what is in flight and ends within [`WIND_UP`], start nothing new.
    pub fn drain(&self) {
        self.since.get_or_init(Instant::now);
        self.state.fetch_max(1, Ordering::Relaxed);
    }

    /// Stop at once.
    pub fn abort(&self) {
        self.since.get_or_init(Instant::now);
        self.state.store(2, Ordering::Relaxed);
    }

    /// Nothing new is to be started.
    pub fn is_draining(&self) -> bool {
        self.state.load(Ordering::Relaxed) > 0
    }

    /// What is in flight is to be given up.
    pub fn is_aborted(&self) -> bool {
        self.state.load(Ordering::Relaxed) > 1
    }

    /// What is in flight has had its time, or is to be given up.
    pub fn is_over(&self) -> bool {
        self.is_draining() && (self.is_aborted() || self.since.get().is_some_and(|since| since.elapsed() > WIND_UP))
    }

    /// Whether something may go on that has begun then, has `done` so many bytes, and has so many `left`: always, until the
    /// run is told to stop; from then on only what ends in time at the speed that it has had.
    pub fn lets_end(&self, begun: Instant, done: u64, left: u64) -> bool {
        if !self.is_draining() {
            return true;
        }
        if self.is_aborted() {
            return false;
        }
        let stopping = self.since.get().map_or(Duration::ZERO, Instant::elapsed);
        let needed = if done == 0 {
            // Its speed is not known yet.
            0.0
        } else {
            begun.elapsed().as_secs_f64() / done as f64 * left as f64
        };
        left == 0 || stopping.as_secs_f64() + needed <= WIND_UP.as_secs_f64()
    }
}

/// Counts at one moment, for progress.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// Where the operation stands.
    pub phase: Phase,
    /// The sums.
    pub totals: Totals,
    /// Failures so far.
    pub failures: u64,
    /// Workers that may be at work now.
    pub workers: usize,
    /// How fast it may go now.
    pub limits: Limits,
    /// Bytes read of sources, or copied by the kernel: also to compare, to hash and to prove.
    pub read_bytes: u64,
    /// Entries that are done with, each as often as that was: a move comes to each twice.
    pub done_entries: u64,
    /// What there is in all, once that is known.
    pub expected: Option<Expected>,
    /// Something is being synced: for so long.
    pub syncing: Option<Duration>,
    /// The operation was told to stop: what it still waits for.
    pub stopping: Option<InFlight>,
    /// What is extra goes: how many entries have gone, and how many will have, once they are counted.
    pub sweep: Option<SweepProgress>,
    /// Since the start.
    pub elapsed: Duration,
}

/// How far the removal of extra entries is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepProgress {
    /// Entries that have gone.
    pub gone: u64,
    /// Entries that are to go in all.
    pub of: u64,
}

/// How many bytes an operation has to do with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpectedBytes {
    /// Sizes of all files.
    pub found: u64,
    /// What will be read of them.
    pub to_read: u64,
}

/// What an operation has to do with, as somebody saw who went ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Entries.
    pub entries: u64,
    /// Regular files among them.
    pub files: u64,
    /// Their bytes, and those that will be read of them: also to hash, to compare and to prove. `None`: not known yet.
    pub bytes: Option<ExpectedBytes>,
    /// Entries that will be done with, each as often as it is looked at.
    pub to_do: u64,
    /// Entries went while they were counted: the numbers are near.
    pub estimated: bool,
}

/// What an operation shares with whoever watches it.
pub struct Desk {
    /// One for each worker.
    pub counters: Arc<[Counters]>,
    /// Failures and notes.
    pub findings: Findings,
    /// Events.
    pub queue: Queue,
    /// Whether to go on.
    pub cancel: Arc<Cancel>,
    /// How fast to go on.
    pub pace: Arc<Pace>,
    /// Workers that may be at work now, and the most that might so far.
    workers: AtomicUsize,
    most: AtomicUsize,
    answer: Mutex<Option<bool>>,
    answered: Condvar,
    phase: Mutex<Phase>,
    unlisted: AtomicUsize,
    start: OnceLock<Instant>,
    /// Where entry events go, if not to the queue.
    diverted: OnceLock<Divert>,
    motion: Arc<Motion>,
    /// Somebody asks how far the operation is.
    watched: AtomicBool,
    expected: Mutex<Option<Expected>>,
    /// Extra entries that are to go in all; 0: nobody has counted them, or there are none.
    extras: AtomicU64,
    /// Since when something is being synced.
    syncing_since: Mutex<Option<Instant>>,
}

/// Takes an entry event, if it can.
type Divert = Box<dyn Fn(&EntryEvent) -> Result<(), Errno> + Send + Sync>;

/// What tells whether an operation moves, where the counters at its desk do not; also what it does in rehearsals.
#[derive(Default)]
pub struct Motion {
    /// Steps that nothing else counts.
    steps: Arc<Steps>,
    /// Bytes read, or copied by the kernel.
    read: Steps,
    /// Who waits for something that is no device.
    resting: AtomicUsize,
    /// Syncs that go on.
    syncing: AtomicUsize,
    /// Threads that read contents for their digests.
    reading: AtomicUsize,
    /// Counters beside those at the desk.
    others: Mutex<Vec<Arc<[Counters]>>>,
}

/// Counts somebody in for as long as it lives.
pub struct Presence<'d>(&'d AtomicUsize);

impl<'d> Presence<'d> {
    fn new(count: &'d AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Desk {
    /// For an operation of this many workers at most.
    pub fn new(workers: usize) -> Self {
        Self {
            counters: (0..workers).map(|_| Counters::default()).collect(),
            findings: Findings::default(),
            queue: Queue::default(),
            cancel: Arc::default(),
            pace: Arc::default(),
            workers: AtomicUsize::new(workers),
            most: AtomicUsize::new(0),
            answer: Mutex::new(None),
            answered: Condvar::new(),
            phase: Mutex::new(Phase::Preflight),
            unlisted: AtomicUsize::new(0),
            start: OnceLock::new(),
            diverted: OnceLock::new(),
            motion: Arc::default(),
            watched: AtomicBool::new(false),
            expected: Mutex::new(None),
            extras: AtomicU64::new(0),
            syncing_since: Mutex::new(None),
        }
    }

    /// For a dry run before the operation itself: counts on its own, stops with it, and goes no faster.
    #[must_use]
    pub fn rehearsal(&self) -> Self {
        let desk = Self {
            cancel: Arc::clone(&self.cancel),
            pace: Arc::clone(&self.pace),
            motion: Arc::clone(&self.motion),
            ..Self::new(self.counters.len())
        };
        self.counted_elsewhere(&desk.counters);
        desk
    }

    /// What these counters count is motion too.
    pub fn counted_elsewhere(&self, counters: &Arc<[Counters]>) {
        let mut others = self.motion.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.push(Arc::clone(counters));
    }

    /// A step of something long that no counter counts.
    pub fn step(&self) {
        self.motion.steps.add(1);
    }

    /// Where such steps are counted.
    pub fn steps(&self) -> Arc<Steps> {
        Arc::clone(&self.motion.steps)
    }

    /// For as long as the answer lives, somebody waits for something that is no device.
    #[must_use]
    pub fn resting(&self) -> Presence<'_> {
        Presence::new(&self.motion.resting)
    }

    /// For as long as the answer lives, something is being synced.
    #[must_use]
    pub fn syncing(&self) -> Presence<'_> {
        Presence::new(&self.motion.syncing)
    }

    /// For as long as the answer lives, a thread reads a content for its digest.
    #[must_use]
    pub fn reading(&self) -> Presence<'_> {
        Presence::new(&self.motion.reading)
    }

    /// Of the workers that may be at work, and so many processors, those that nobody reads with.
    pub fn idle(&self, processors: usize) -> usize {
        let may = self.workers.load(Ordering::Relaxed).min(processors);
        may.saturating_sub(self.motion.reading.load(Ordering::Relaxed))
    }

    /// A number that changes whenever anything moves.
    pub fn moves(&self) -> u64 {
        let others = self.motion.others.lock().unwrap_or_else(PoisonError::into_inner);
        let all = others.iter().chain([&self.counters]);
        let counted = all.fold(0, |sum: u64, counters| sum.wrapping_add(Totals::of(counters).moves()));
        let steps = self.motion.steps.sum().wrapping_add(self.motion.read.sum());
        counted.wrapping_add(steps).wrapping_add(self.findings.failed())
    }

    /// Whether somebody waits for something that is no device: an answer, leave, a reader, a list.
    pub fn rests(&self) -> bool {
        self.motion.resting.load(Ordering::Relaxed) > 0 || self.pace.is_waited_for() || self.queue.is_full()
    }

    /// Whether something is being synced.
    pub fn is_syncing(&self) -> bool {
        self.motion.syncing.load(Ordering::Relaxed) > 0
    }

    /// Where the operation stands.
    pub fn phase(&self) -> Phase {
        let phase = *self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if phase == Phase::Scanning && self.unlisted.load(Ordering::Relaxed) == 0 {
            return Phase::Copying;
        }
        phase
    }

    /// The operation goes on to this phase.
    pub fn enter(&self, phase: Phase) {
        self.step();
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// So many workers may be at work from now on.
    pub fn staff(&self, workers: usize) {
        self.workers.store(workers, Ordering::Relaxed);
        self.most.fetch_max(workers, Ordering::Relaxed);
    }

    /// The most workers that might be at work at once so far.
    pub fn most_staff(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// Waits for leave to read so many bytes of a source only to look at them. An error: the run was told to stop before or
    /// meanwhile, and nothing is lost by that.
    pub fn may_read(&self, bytes: u64) -> Result<(), Stopped> {
        self.has_leave(bytes, || self.cancel.is_draining())
    }

    /// The same for what something in flight needs to end.
    pub fn may_go_on(&self, bytes: u64) -> Result<(), Stopped> {
        self.has_leave(bytes, || self.cancel.is_over())
    }

    fn has_leave(&self, bytes: u64, stop: impl Fn() -> bool) -> Result<(), Stopped> {
        if stop() || !self.pace.bytes(bytes, stop) {
            return Err(Stopped::Aborted);
        }
        self.motion.read.add(bytes.max(1));
        Ok(())
    }

    /// So many bytes were less than there was leave to read.
    pub fn read_less(&self, bytes: u64) {
        self.motion.read.take_back(bytes);
        self.pace.give_back(bytes);
    }

    /// Waits for leave to look at one more entry; answers whether anybody still wants that.
    pub fn may_begin(&self) -> bool {
        self.pace.entry(|| self.cancel.is_draining())
    }

    /// A directory was found that has not been listed.
    pub fn unlisted(&self) {
        self.unlisted.fetch_add(1, Ordering::Relaxed);
    }

    /// A directory has been listed, or never will be.
    pub fn listed(&self) {
        self.unlisted.fetch_sub(1, Ordering::Relaxed);
    }

    /// What becomes of an entry.
    pub fn tell(&self, event: EntryEvent) {
        match self.diverted.get().map(|divert| divert(&event)) {
            Some(Ok(())) => return,
            Some(Err(errno)) => {
                let message = format!("entries are not told in order: temporary files: {}", describe(errno));
                self.note("order", || (Vec::new(), message));
            }
            None => {}
        }
        self.queue.push(Event::Entry(event));
    }

    /// From now on entry events go there.
    pub fn divert(&self, divert: impl Fn(&EntryEvent) -> Result<(), Errno> + Send + Sync + 'static) {
        self.diverted.get_or_init(|| Box::new(divert));
    }

    /// Counts a failure and sends it.
    pub fn fail(&self, failure: Failure) {
        self.findings.fail(&failure);
        self.queue.push(Event::Failure(failure));
    }

    /// Counts a note and sends it when it is the first of its kind.
    pub fn note(&self, kind: &str, first: impl FnOnce() -> (Vec<u8>, String)) {
        if let Some(note) = self.findings.note(kind, false, first) {
            self.queue.push(Event::Note(note));
        }
    }

    /// A worker could not be started: the others do its part.
    pub fn lacks_worker(&self, error: &io::Error) {
        self.note("threads", || {
            (Vec::new(), format!("a worker could not be started: {error}"))
        });
    }

    /// The same of something that was asked for and is lost: the operation is not complete.
    pub fn lose(&self, kind: &str, first: impl FnOnce() -> (Vec<u8>, String)) {
        if let Some(note) = self.findings.note(kind, true, first) {
            self.queue.push(Event::Note(note));
        }
    }

    /// Asks whoever reads the events, and waits for the answer. Nobody there, or a wish to stop, is a no.
    pub fn ask(&self, victims: Vec<Victims>) -> bool {
        if !self.queue.is_read() {
            return false;
        }
        self.queue.push(Event::Question(victims));
        let _resting = self.resting();
        let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.cancel.is_draining() {
                return false;
            }
            if let Some(answer) = answer.take() {
                return answer;
            }
            answer = self.answered.wait(answer).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Wakes whoever waits for an answer.
    pub fn wake(&self, answer: Option<bool>) {
        let mut given = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        *given = answer.or(*given);
        self.answered.notify_all();
    }

    /// Entries that are done with, and since when: as [`Snapshot::done_entries`], without being a watcher's question.
    pub fn progress(&self) -> (u64, Duration) {
        let others = self.motion.others.lock().unwrap_or_else(PoisonError::into_inner);
        let all = others.iter().chain([&self.counters]);
        let done = all.map(|counters| Totals::of(counters).all_outcomes()).sum();
        (done, self.elapsed())
    }

    /// Whether somebody asks how far the operation is.
    pub fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// What there is in all is known now, or known better.
    pub fn expect(&self, expected: Expected) {
        *self.expected.lock().unwrap_or_else(PoisonError::into_inner) = Some(expected);
    }

    /// All that there is has been found. Of its bytes, `to_read` says how many are read in all, to be proved too, with those that
    /// [were](Self::read_bytes) already.
    pub fn expect_found(&self, to_read: impl FnOnce(u64) -> u64) {
        let totals = Totals::of(&self.counters);
        self.expect(Expected {
            entries: totals.all_found(),
            files: totals.found_of(Kind::File),
            bytes: Some(ExpectedBytes {
                found: totals.found_bytes,
                to_read: to_read(totals.found_bytes),
            }),
            to_do: totals.all_found(),
            estimated: false,
        });
    }

    /// Bytes read so far, as [`Snapshot::read_bytes`].
    pub fn read_bytes(&self) -> u64 {
        self.motion.read.sum()
    }

    /// So many extra entries are to go in all, those that have gone among them.
    pub fn expect_extras(&self, entries: u64) {
        self.extras.store(entries, Ordering::Relaxed);
    }

    fn sweep(&self, totals: &Totals) -> Option<SweepProgress> {
        let of = self.extras.load(Ordering::Relaxed);
        let gone = totals.outcome_of(Outcome::Removed);
        // Somebody else may have put more in the directories that go.
        (of > 0).then(|| SweepProgress { gone, of: of.max(gone) })
    }

    /// Since when something is being synced without a break, as far as anybody has looked.
    fn syncing_for(&self) -> Option<Duration> {
        let mut since = self.syncing_since.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_syncing() {
            *since = None;
        }
        self.is_syncing()
            .then(|| since.get_or_insert_with(Instant::now).elapsed())
    }

    /// The operation begins.
    pub fn begin(&self) {
        self.start.get_or_init(Instant::now);
    }

    /// Where the operation stands, for whoever watches.
    pub fn snapshot(&self) -> Snapshot {
        self.watched.store(true, Ordering::Relaxed);
        self.peek()
    }

    /// The same, for somebody who does not.
    pub fn peek(&self) -> Snapshot {
        let (done_entries, elapsed) = self.progress();
        let totals = Totals::of(&self.counters);
        Snapshot {
            phase: self.phase(),
            totals,
            done_entries,
            failures: self.findings.failed(),
            workers: self.workers.load(Ordering::Relaxed),
            limits: self.pace.limits(),
            read_bytes: self.read_bytes(),
            expected: *self.expected.lock().unwrap_or_else(PoisonError::into_inner),
            syncing: self.syncing_for(),
            stopping: self.cancel.is_draining().then(|| InFlight::of(&self.counters)),
            sweep: self.sweep(&totals),
            elapsed,
        }
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Closes the books. `sync`: what is on disk for sure; `interrupted`: something was left undone.
    pub fn report(&self, sync: Durability, workers: usize, interrupted: bool) -> Report {
        Report::close(
            &self.counters,
            &self.findings,
            interrupted,
            sync,
            workers,
            self.elapsed(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_in_time_may_go_on() {
        let cancel = Cancel::default();
        let begun = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        assert!(cancel.lets_end(begun, 1, u64::MAX) && !cancel.is_over());
        cancel.drain();
        // A thousand bytes took 10 s, so 3 s are enough for 300; some of them have passed.
        for (done, left, ends) in [
            (1000, 0, true),
            (1000, 200, true),
            (1000, 301, false),
            (0, u64::MAX, true),
        ] {
            assert_eq!(cancel.lets_end(begun, done, left), ends, "{done} {left}");
        }
        assert!(!cancel.is_over());
        let late = Cancel {
            state: AtomicU8::new(1),
            since: OnceLock::from(begun),
        };
        assert!(late.is_over());
        for (left, ends) in [(0, true), (1, false)] {
            assert_eq!(late.lets_end(begun, 0, left), ends, "{left}");
            assert_eq!(late.lets_end(begun, 1000, left), ends, "{left}");
        }
        cancel.abort();
        assert!(cancel.is_over() && !cancel.lets_end(begun, 1, 0));
    }
}
