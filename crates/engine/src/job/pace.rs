//! Limits of speed: a token bucket for bytes, and one for entries.
//!
//! Comes in: what is about to be done, by any number of workers; goes out: when it may be. [`Bucket`] is the rule, without
//! a clock of its own; [`Pace`] waits by it. In any span of time no more is let through than the rate times the span plus
//! one [burst](BURST) (what was asked for in one piece counts as one), and whoever asks first goes first, so that no worker
//! starves. A limit may change at any moment, also for those who wait already.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What may be let through at once after a pause: what the rate gives in this time, or [`LEAST_PIECE`] bytes or one entry
/// where that is more. It makes up for workers that come late.
pub const BURST: Duration = Duration::from_millis(100);
/// A piece takes at most this share of a second, less than a burst, so that several workers share a rate smoothly.
const PIECES_PER_SECOND: u64 = 16;
/// Bytes of a piece at least: a rate is kept whatever the pieces are, but smaller ones cost more than they smooth.
pub const LEAST_PIECE: u64 = 1024;
/// Whoever waits looks this often whether the run was given up.
const PATIENCE: Duration = Duration::from_millis(50);
/// The rule counts in thousandths of a unit, times nanoseconds: whole numbers, so that nothing is lost by rounding.
const MILLI: u64 = 1000;
const NANOS: u128 = 1_000_000_000;
/// Units a second at most: beyond it there is nothing to limit.
const MOST: f64 = 1e16;

/// What a run may do in a second; 0: as much as it can.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Bytes that are read from the sources, also to compare; two files that are compared byte by byte count as one.
    pub bytes: f64,
    /// Entries that are looked at, whatever becomes of them.
    pub entries: f64,
}

impl Limits {
    /// The first that is no rate, by name.
    pub fn wrong(&self) -> Option<(&'static str, f64)> {
        let limits = [("bytes", self.bytes), ("entries", self.entries)];
        limits.into_iter().find(|(_, rate)| !(0.0..=MOST).contains(rate))
    }
}

/// A rate in thousandths of a unit a second; 0: no limit.
fn milli(rate: f64) -> u64 {
    if rate == 0.0 {
        return 0;
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is not negative and at most 10^19"
    )]
    let milli = (rate * MILLI as f64).round() as u64;
    milli.max(1)
}

/// A place in the line of those who wait at a [`Bucket`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// How much it is for, and where that ends in all that was ever asked for.
    volume: u128,
    end: u128,
}

/// One limit. Time is what the caller says: any clock that does not go back. Volumes are thousandths of units times
/// nanoseconds.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Thousandths of a unit a second; 0: no limit.
    rate: u64,
    /// A burst is not smaller than this many units.
    least: u64,
    /// When `granted` was right.
    at: Duration,
    /// All that was ever asked for, how far of it may be let through, and how much was.
    asked: u128,
    granted: u128,
    taken: u128,
    /// Who waits: one for each worker at most.
    line: VecDeque<Ticket>,
}

impl Bucket {
    /// A limit of `rate` units a second (0: none; see [`Limits::wrong`]), with bursts of `least` units at least.
    pub fn new(rate: f64, least: u64) -> Self {
        Self {
            rate: milli(rate),
            least,
            at: Duration::ZERO,
            asked: 0,
            granted: 0,
            taken: 0,
            line: VecDeque::new(),
        }
    }

    fn volume(units: u64) -> u128 {
        u128::from(units) * u128::from(MILLI) * NANOS
    }

    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_nanos();
        self.at = self.at.max(now);
        self.grant(u128::from(self.rate) * passed);
    }

    /// Lets more through: what is not fetched is kept up to one burst, or up to what the first in line wants.
    fn grant(&mut self, volume: u128) {
        let burst = (u128::from(self.rate) * BURST.as_nanos()).max(Self::volume(self.least));
        let first = self.line.front().map_or(0, |ticket| ticket.end);
        self.granted = (self.granted + volume).min((self.taken + burst).max(first));
    }

    /// Gets in line for `units`.
    pub fn ask(&mut self, now: Duration, units: u64) -> Ticket {
        self.advance(now);
        let volume = Self::volume(units);
        self.asked += volume;
        let ticket = Ticket {
            volume,
            end: self.asked,
        };
        self.line.push_back(ticket);
        ticket
    }

    /// How long a ticket has to wait from now on, at the present rate. Zero: go, it is out of the line.
    pub fn wait(&mut self, now: Duration, ticket: Ticket) -> Duration {
        self.advance(now);
        if self.rate == 0 || ticket.end <= self.granted {
            self.leave(ticket);
            return Duration::ZERO;
        }
        let nanos = (ticket.end - self.granted).div_ceil(u128::from(self.rate));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Takes a ticket out of the line, let through or given up.
    pub fn leave(&mut self, ticket: Ticket) {
        if let Some(place) = self.line.iter().position(|t| *t == ticket) {
            self.line.remove(place);
            self.taken += ticket.volume;
        }
    }

    /// Takes back units that were let through and then not used.
    pub fn give_back(&mut self, units: u64) {
        self.grant(Self::volume(units));
    }

    /// Changes the rate from now on, also for those in line.
    pub fn set(&mut self, now: Duration, rate: f64) {
        self.advance(now);
        let limited = self.rate > 0;
        self.rate = milli(rate);
        if !limited {
            // What passed without a limit is no credit, nor a debt.
            self.granted = self.asked;
        }
        self.grant(0);
    }
}

/// A bucket that threads wait at.
struct Limit {
    /// As in the bucket: nobody pays for a limit that is not there.
    rate: AtomicU64,
    bucket: Mutex<Bucket>,
    changed: Condvar,
}

impl Limit {
    fn new(rate: f64, least: u64) -> Self {
        Self {
            rate: AtomicU64::new(milli(rate)),
            bucket: Mutex::new(Bucket::new(rate, least)),
            changed: Condvar::new(),
        }
    }

    /// Units a second; 0: no limit.
    fn rate(&self) -> u64 {
        self.rate.load(Relaxed)
    }
}

/// The limits of one run, shared by its workers.
pub struct Pace {
    start: Instant,
    bytes: Limit,
    entries: Limit,
    /// Who waits for leave.
    waiting: AtomicUsize,
}

impl Default for Pace {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Pace {
    /// Begins with these limits.
    pub fn new(limits: Limits) -> Self {
        Self {
            start: Instant::now(),
            bytes: Limit::new(limits.bytes, LEAST_PIECE),
            entries: Limit::new(limits.entries, 1),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Changes the limits from now on.
    pub fn set(&self, limits: Limits) {
        for (limit, rate) in [(&self.bytes, limits.bytes), (&self.entries, limits.entries)] {
            let mut bucket = limit.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.set(self.start.elapsed(), rate);
            limit.rate.store(milli(rate), Relaxed);
            limit.changed.notify_all();
        }
    }

    /// The limits as they are now.
    pub fn limits(&self) -> Limits {
        let rate = |limit: &Limit| limit.rate() as f64 / MILLI as f64;
        Limits {
            bytes: rate(&self.bytes),
            entries: rate(&self.entries),
        }
    }

    /// Bytes that are to be moved between two questions for leave: `most`, or fewer where a limit is low.
    pub fn piece(&self, most: u64) -> u64 {
        match self.bytes.rate() {
            0 => most,
            rate => {
                let even = (rate / MILLI / PIECES_PER_SECOND).max(LEAST_PIECE);
                (1 << even.ilog2()).min(most)
            }
        }
    }

    /// Waits until so many bytes may be read, or `stop` says that nobody wants them any more; answers whether they may.
    pub fn bytes(&self, bytes: u64, stop: impl Fn() -> bool) -> bool {
        self.wait(&self.bytes, bytes, stop)
    }

    /// Bytes that were asked for and were not there.
    pub fn give_back(&self, bytes: u64) {
        if bytes > 0 && self.bytes.rate() > 0 {
            let mut bucket = self.bytes.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.give_back(bytes);
        }
    }

    /// The same as [`Pace::bytes`] for one more entry.
    pub fn entry(&self, stop: impl Fn() -> bool) -> bool {
        self.wait(&self.entries, 1, stop)
    }

    /// Whether somebody waits for leave.
    pub fn is_waited_for(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    fn wait(&self, limit: &Limit, units: u64, stop: impl Fn() -> bool) -> bool {
        if limit.rate() == 0 || units == 0 {
            return true;
        }
        self.waiting.fetch_add(1, Relaxed);
        let let_through = Self::wait_in_line(self.start, limit, units, stop);
        self.waiting.fetch_sub(1, Relaxed);
        let_through
    }

    fn wait_in_line(start: Instant, limit: &Limit, units: u64, stop: impl Fn() -> bool) -> bool {
        let mut bucket = limit.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = bucket.ask(start.elapsed(), units);
        loop {
            let wait = bucket.wait(start.elapsed(), ticket);
            if wait.is_zero() {
                return true;
            }
            if stop() {
                bucket.leave(ticket);
                return false;
            }
            bucket = limit
                .changed
                .wait_timeout(bucket, wait.min(PATIENCE))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    /// A worker of the simulation: asks for pieces, does something with each, and comes late sometimes.
    #[derive(Clone, Debug)]
    struct Demand {
        piece: u64,
        /// Microseconds that a piece takes when it was let through.
        work: u64,
        /// Microseconds that a wait may take longer than it should.
        late: u64,
    }

    #[derive(Clone, Copy)]
    struct Passed {
        at: Duration,
        worker: usize,
        units: u64,
    }

    /// Lets workers run at a bucket until `end`, with the rate changed at given times; answers what was let through.
    fn simulate(rate: f64, changes: &[(Duration, f64)], demands: &[Demand], end: Duration) -> Vec<Passed> {
        let mut bucket = Bucket::new(rate, 1);
        // When each looks again, and what it holds.
        let mut looks: Vec<(Duration, Option<Ticket>)> = demands.iter().map(|_| (Duration::ZERO, None)).collect();
        let mut changes = changes.iter().copied().peekable();
        let mut passed: Vec<Passed> = Vec::new();
        let mut random = 1_u64;
        loop {
            let (worker, at) = looks
                .iter()
                .enumerate()
                .map(|(worker, (at, _))| (worker, *at))
                .min_by_key(|(_, at)| *at)
                .unwrap();
            if let Some((when, rate)) = changes.next_if(|(when, _)| *when <= at) {
                bucket.set(when, rate);
                // All who wait are woken.
                for (look, ticket) in &mut looks {
                    if ticket.is_some() {
                        *look = when;
                    }
                }
                continue;
            }
            if at >= end {
                return passed;
            }
            let demand = &demands[worker];
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let late = Duration::from_micros((random >> 33) % (demand.late + 1));
            let look = &mut looks[worker];
            let ticket = look.1.unwrap_or_else(|| bucket.ask(at, demand.piece));
            let wait = bucket.wait(at, ticket);
            if wait.is_zero() {
                let units = demand.piece;
                passed.push(Passed { at, worker, units });
                *look = (at + Duration::from_micros(demand.work), None);
            } else {
                *look = (at + wait + late, Some(ticket));
            }
        }
    }

    /// What was let through in a span, both ends included.
    fn within(passed: &[Passed], from: Duration, to: Duration) -> f64 {
        let inside = passed.iter().filter(|p| p.at >= from && p.at <= to);
        inside.map(|p| p.units as f64).sum()
    }

    /// What a rate with changes gives in a span.
    fn given(rate: f64, changes: &[(Duration, f64)], from: Duration, to: Duration) -> f64 {
        let mut sum = 0.0;
        let mut since = (Duration::ZERO, rate);
        for next in changes.iter().copied().chain([(Duration::MAX, 0.0)]) {
            let (start, end) = (since.0.max(from), next.0.min(to));
            sum += end.saturating_sub(start).as_secs_f64() * since.1;
            since = next;
        }
        sum
    }

    fn demands() -> impl Strategy<Value = Vec<Demand>> {
        let demand = (50_u64..5_000, 0_u64..2_000, 0_u64..20_000);
        let demand = demand.prop_map(|(piece, work, late)| Demand { piece, work, late });
        prop::collection::vec(demand, 1..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn no_window_gets_more_than_the_rate_and_a_burst(
            rate in 1_000.0_f64..50_000.0,
            demands in demands(),
            times in prop::collection::vec((0_u64..40_000, 1_000.0_f64..50_000.0), 0..4),
        ) {
            let mut changes: Vec<(Duration, f64)> =
                times.into_iter().map(|(ms, rate)| (Duration::from_millis(ms), rate)).collect();
            changes.sort_by_key(|c| c.0);
            let passed = simulate(rate, &changes, &demands, Duration::from_secs(40));
            let fastest = changes.iter().map(|c| c.1).fold(rate, f64::max);
            let largest = demands.iter().map(|d| d.piece).max().unwrap() as f64;
            let burst = (fastest * BURST.as_secs_f64()).max(largest);
            for window in passed.iter().step_by(passed.len() / 100 + 1) {
                let end = window.at + WINDOW;
                let most = given(rate, &changes, window.at, end) + burst + 1.0;
                prop_assert!(within(&passed, window.at, end) <= most);
            }
        }

        #[test]
        fn what_is_wanted_is_let_through(rate in 1_000.0_f64..50_000.0, workers in 1_usize..6, late in 0_u64..20_000) {
            // As the pieces are chosen; a little work for each, and late wake-ups.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
            let piece = (rate as u64 / PIECES_PER_SECOND).max(1);
            let demands = vec![Demand { piece, work: 500, late }; workers];
            let end = Duration::from_secs(30);
            let passed = simulate(rate, &[], &demands, end);
            for from in (0..20).map(Duration::from_secs) {
                let through = within(&passed, from, from + WINDOW);
                prop_assert!(through >= 0.98 * 10.0 * rate - piece as f64, "{through} of {}", 10.0 * rate);
            }
        }

        #[test]
        fn whoever_asks_first_goes_first(rate in 1_000.0_f64..50_000.0, demands in demands()) {
            let prompt: Vec<Demand> = demands.into_iter().map(|d| Demand { work: 0, late: 0, ..d }).collect();
            let passed = simulate(rate, &[], &prompt, Duration::from_secs(10));
            // All ask again at once: in line, each has its turn before anybody has a second one.
            for turn in passed.chunks_exact(prompt.len()).skip(1) {
                let mut workers: Vec<usize> = turn.iter().map(|p| p.worker).collect();
                workers.sort_unstable();
                prop_assert!(workers.iter().copied().eq(0..prompt.len()));
            }
        }
    }

    #[test]
    fn a_change_reaches_those_who_wait() {
        let second = Duration::from_secs(1);
        let mut bucket = Bucket::new(10.0, 1);
        let ticket = bucket.ask(Duration::ZERO, 100);
        assert_eq!(bucket.wait(Duration::ZERO, ticket), second * 10);
        bucket.set(second * 5, 100.0);
        assert_eq!(bucket.wait(second * 5, ticket), second / 2);
        bucket.set(second * 5, 0.5);
        assert_eq!(bucket.wait(second * 5, ticket), second * 100);
        bucket.set(second * 5, 0.0);
        assert_eq!(bucket.wait(second * 5, ticket), Duration::ZERO);
        // A time without a limit is neither credit nor debt.
        let free = bucket.ask(second * 6, 1_000_000);
        bucket.set(second * 600, 10.0);
        assert_eq!(bucket.wait(second * 600, free), Duration::ZERO);
        let next = bucket.ask(second * 600, 10);
        assert_eq!(bucket.wait(second * 600, next), second);
    }

    #[test]
    fn a_pause_is_worth_one_burst() {
        let mut bucket = Bucket::new(1000.0, 1);
        let late = Duration::from_secs(1000);
        let ticket = bucket.ask(late, 100);
        assert_eq!(bucket.wait(late, ticket), Duration::ZERO);
        let ticket = bucket.ask(late, 1);
        assert_eq!(bucket.wait(late, ticket), Duration::from_millis(1));
        // What was not used is there again, and no more than a burst of it.
        bucket.give_back(1_000_000);
        assert_eq!(bucket.wait(late, ticket), Duration::ZERO);
        let ticket = bucket.ask(late, 99);
        assert_eq!(bucket.wait(late, ticket), Duration::ZERO);
        let ticket = bucket.ask(late, 1);
        assert!(bucket.wait(late, ticket) > Duration::ZERO);
    }

    #[test]
    fn pieces_shrink_with_the_rate() {
        let cases = [
            (0.0, 262_144),
            (0.5, 1024),
            (1024.0, 1024),
            (16_384.0, 1024),
            (32_767.0, 1024),
            (32_768.0, 2048),
            (1e6, 32_768),
            (4_194_304.0, 262_144),
            (1e15, 262_144),
        ];
        for (rate, piece) in cases {
            let pace = Pace::new(Limits {
                bytes: rate,
                entries: 0.0,
            });
            assert_eq!(pace.piece(262_144), piece, "{rate}");
        }
    }

    #[test]
    fn only_rates_are_limits() {
        let limits = |bytes, entries| Limits { bytes, entries }.wrong().map(|(name, _)| name);
        assert_eq!(limits(0.0, 0.0), None);
        assert_eq!(limits(0.001, 1e15), None);
        assert_eq!(limits(-1.0, 0.0), Some("bytes"));
        assert_eq!(limits(f64::NAN, 0.0), Some("bytes"));
        assert_eq!(limits(0.0, f64::INFINITY), Some("entries"));
        let pace = Pace::new(Limits {
            bytes: 1.5,
            entries: 0.1,
        });
        assert_eq!(
            pace.limits(),
            Limits {
                bytes: 1.5,
                entries: 0.1
            }
        );
    }

    #[test]
    fn who_waits_hears_of_the_end_and_of_a_change() {
        // At these rates both would wait for years.
        let pace = Pace::new(Limits {
            bytes: 0.001,
            entries: 0.001,
        });
        let given_up = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let bytes = scope.spawn(|| pace.bytes(1_000_000_000, || given_up.load(Relaxed)));
            let entry = scope.spawn(|| (0..1000).all(|_| pace.entry(|| false)));
            given_up.store(true, Relaxed);
            assert!(!bytes.join().unwrap());
            pace.set(Limits::default());
            assert!(entry.join().unwrap());
        });
        assert!(pace.bytes(u64::MAX, || false));
    }
}
