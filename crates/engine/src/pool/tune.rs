//! How many workers are at work: a controller of samples, without a clock and without I/O.
//!
//! Comes in: what the devices are, how many processors there are, and a [`Sample`] each interval; goes out: the number of
//! workers that shall be active from now on, between 1 and a ceiling. It climbs by doubling while more workers move more,
//! looks left and right of where that ends, and then holds, until the throughput changes or a while has passed.
//!
//! Two numbers are compared in turns: a few samples of the one, a few of the other, longer turns while the noise is larger
//! than the difference. So what the workload does meanwhile strikes both, and noise costs time, not the answer. Where the
//! processors are what is short, more workers are never tried. Latency needs no sample of its own: it is workers over
//! throughput, and what answers slowly is seen as gaining from more of them.

use std::cmp::Ordering;

/// What an entry counts in bytes: on all media an entry without content costs about as much as this much content.
pub const ENTRY_BYTES: u64 = 64 * 1024;
/// The least gain that is worth more workers.
const GAIN: f64 = 0.04;
/// Samples of each number before a comparison says anything.
const FIRST_TURN: u32 = 3;
/// A turn is not longer than this; after it the better mean decides.
const LAST_TURN: u32 = 24;
/// Standard deviations by which a difference must stand out of the noise; few samples need more, see [`Contest::verdict`].
const SURE: f64 = 2.5;
/// The same as a share of the throughput: no device repeats itself more exactly.
const LEAST_NOISE: f64 = 0.01;
/// Share of the processors' time from which on they are what is short.
const BUSY: f64 = 0.85;
/// Weight of the newest sample in the moving averages.
const FRESH: f64 = 0.1;
/// The workload is another one when the throughput has moved by this factor.
const DRIFT: f64 = 1.5;
/// Samples between two searches; doubled each time that nothing came of one.
const HOLD: u32 = 300;
/// The same at most.
const LONGEST_HOLD: u32 = 4800;

/// What holds the files, in the order of what it asks of the start: the last one of several decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Medium {
    /// Memory: as fast as the processors, so nothing is to be found out.
    Memory,
    /// A solid-state disk, or a local file system whose disk is not known.
    Solid,
    /// A network file system, or nobody knows: many requests at once hide its latency.
    Network,
    /// A rotating disk, which loses by many streams. Virtual disks often say that they are one.
    Rotating,
}

/// Where the number of workers begins, and how far it may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Workers at first.
    pub start: usize,
    /// Workers at most.
    pub ceiling: usize,
    /// There is nothing to find out: `start` stays.
    pub fixed: bool,
}

impl Range {
    /// For these media. `jobs`: the ceiling that was asked for; 0: by the media.
    pub fn of(media: &[Medium], processors: usize, jobs: usize) -> Self {
        let ceiling = |medium: &Medium| match medium {
            Medium::Memory => processors,
            Medium::Solid | Medium::Rotating => (processors * 4).clamp(16, 64).max(processors),
            Medium::Network => (processors * 4).clamp(64, 256).max(processors),
        };
        let ceiling = match jobs {
            0 => media.iter().map(ceiling).max().unwrap_or(processors),
            jobs => jobs,
        };
        let ceiling = ceiling.max(1);
        let slowest = media.iter().max().copied().unwrap_or(Medium::Memory);
        let start = match slowest {
            Medium::Memory => ceiling,
            Medium::Solid => processors,
            Medium::Network => processors.max(8),
            Medium::Rotating => processors.min(2),
        };
        Self {
            start: start.clamp(1, ceiling),
            ceiling,
            fixed: slowest == Medium::Memory || ceiling == 1,
        }
    }
}

/// What was done in one interval.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Bytes of content that were moved, or read to compare.
    pub bytes: u64,
    /// Entries that were found, and entries that were done with.
    pub entries: u64,
    /// Length of the interval in seconds.
    pub seconds: f64,
    /// Workers that had a task when it ended.
    pub busy: usize,
    /// Share of the processors' time that the process took, 0 to 1.
    pub load: f64,
}

impl Sample {
    /// Work a second, in bytes.
    fn rate(&self) -> f64 {
        (self.bytes as f64 + self.entries as f64 * ENTRY_BYTES as f64) / self.seconds
    }
}

/// Mean and spread of what was seen at one number of workers.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    count: u32,
    mean: f64,
    /// Sum of the squared differences from the mean.
    squares: f64,
}

impl Seen {
    fn add(&mut self, rate: f64) {
        self.count += 1;
        let before = rate - self.mean;
        self.mean += before / f64::from(self.count);
        self.squares += before * (rate - self.mean);
    }
}

/// Which way the search goes, and how far at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// To twice as many.
    Double,
    /// To half as many: only where twice as many were worse.
    Halve,
    /// To the next number above.
    Above,
    /// To the next number below.
    Below,
}

/// Two numbers of workers, measured in turns.
#[derive(Clone, Copy, Debug)]
struct Contest {
    step: Step,
    challenger: usize,
    /// Of the best so far, then of the challenger.
    seen: [Seen; 2],
    /// Whose turn it is: 0 or 1.
    turn: usize,
    /// Samples that are left of it, and its whole length.
    left: u32,
    length: u32,
    /// The first sample after a change still holds work of before.
    settling: bool,
}

impl Contest {
    fn new(step: Step, challenger: usize, best: Seen) -> Self {
        let measured = best.count >= FIRST_TURN;
        Self {
            step,
            challenger,
            seen: [best, Seen::default()],
            turn: usize::from(measured),
            left: FIRST_TURN,
            length: FIRST_TURN,
            settling: true,
        }
    }

    /// Takes a sample of whose turn it is; answers how the challenger compares with the best so far plus the gain that is
    /// asked of it, when that is clear.
    fn take(&mut self, rate: f64) -> Option<Ordering> {
        if self.settling {
            self.settling = false;
            return None;
        }
        self.seen[self.turn].add(rate);
        self.left -= 1;
        if self.seen.iter().all(|s| s.count >= FIRST_TURN)
            && let Some(verdict) = self.verdict()
        {
            return Some(verdict);
        }
        if self.left == 0 {
            let again = self.seen.iter().all(|s| s.count >= self.length);
            if again && self.length >= LAST_TURN {
                return Some(self.difference().total_cmp(&0.0));
            }
            if again && self.turn == 1 {
                self.length *= 2;
            }
            self.turn = 1 - self.turn;
            self.left = self.length;
            self.settling = true;
        }
        None
    }

    /// By which share the challenger is better than is asked of it.
    fn difference(&self) -> f64 {
        let [best, challenger] = self.seen;
        challenger.mean / best.mean - 1.0 - GAIN
    }

    fn verdict(&self) -> Option<Ordering> {
        let [best, challenger] = self.seen;
        let freedom = f64::from(best.count + challenger.count - 2);
        let squares = best.squares / best.mean.powi(2) + challenger.squares / challenger.mean.powi(2);
        let noise = (squares / freedom).sqrt().max(LEAST_NOISE);
        let error = noise * (1.0 / f64::from(best.count) + 1.0 / f64::from(challenger.count)).sqrt();
        // Few samples know little of the noise itself.
        let sure = (SURE + 10.0 / freedom) * error;
        let difference = self.difference();
        if difference > sure {
            Some(Ordering::Greater)
        } else if difference < -sure {
            Some(Ordering::Less)
        } else {
            None
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    Search(Contest),
    Hold {
        /// Samples so far.
        samples: u32,
        /// Moving average of the throughput, and what it was when holding began.
        average: f64,
        reference: f64,
    },
}

/// The controller.
#[derive(Clone, Debug)]
pub struct Tuner {
    processors: usize,
    /// The numbers that are tried: 1, 2, 3, 4, 6, 8, 12, 16, …, and the ceiling.
    ladder: Vec<usize>,
    /// Place of the best so far.
    best: usize,
    state: State,
    /// This search has come here from fewer workers: going back to half of them tells nothing new.
    climbed: bool,
    /// Moving average of the processors' load, once it is known.
    load: Option<f64>,
    /// Length of the next hold.
    patience: u32,
}

impl Tuner {
    /// Begins at the start of the range.
    pub fn new(range: Range, processors: usize) -> Self {
        let mut ladder: Vec<usize> = (0..usize::BITS - 1)
            .flat_map(|power| [1 << power, (1 << power) + (1 << power) / 2])
            .take_while(|n| *n < range.ceiling)
            .chain([range.start, range.ceiling])
            .collect();
        ladder.sort_unstable();
        ladder.dedup();
        let best = ladder.iter().position(|n| *n == range.start).unwrap_or(0);
        let mut tuner = Self {
            processors,
            ladder,
            best,
            state: State::Hold {
                samples: 0,
                average: 0.0,
                reference: 0.0,
            },
            climbed: false,
            load: None,
            patience: HOLD,
        };
        tuner.begin();
        tuner
    }

    /// Processors that it reckons with.
    pub fn processors(&self) -> usize {
        self.processors
    }

    /// Workers that shall be active now.
    pub fn active(&self) -> usize {
        match self.state {
            State::Search(contest) if contest.turn == 1 => self.ladder[contest.challenger],
            _ => self.ladder[self.best],
        }
    }

    /// Whether the search is over for now.
    pub fn is_settled(&self) -> bool {
        matches!(self.state, State::Hold { .. })
    }

    /// Takes a sample; answers the number of workers that shall be active from now on. Intervals in which another number
    /// was at work say nothing (there was too little to do, or long tasks are still running out), nor do idle ones.
    pub fn observe(&mut self, sample: &Sample) -> usize {
        let rate = sample.rate();
        if sample.busy == self.active() && rate > 0.0 && rate.is_finite() {
            let load = self.load.unwrap_or(sample.load);
            self.load = Some(load + FRESH * (sample.load - load));
            self.step(rate);
        }
        self.active()
    }

    fn step(&mut self, rate: f64) {
        let patience = self.patience;
        match &mut self.state {
            State::Search(contest) => {
                let verdict = contest.take(rate);
                let contest = *contest;
                if self.is_short_of_processors() && contest.challenger > self.best {
                    // Begun before it was known: more workers would only wait for each other.
                    self.hold(if contest.seen[0].count > 0 {
                        contest.seen[0].mean
                    } else {
                        rate
                    });
                } else if let Some(verdict) = verdict {
                    self.decide(&contest, verdict);
                }
            }
            State::Hold {
                samples,
                average,
                reference,
            } => {
                *samples += 1;
                *average += FRESH * (rate - *average);
                let drifted = *average > *reference * DRIFT || *average * DRIFT < *reference;
                if drifted {
                    self.patience = HOLD;
                }
                if drifted || *samples >= patience {
                    self.begin();
                }
            }
        }
    }

    /// More workers can't help: there are as many as processors, and these have no time left.
    fn is_short_of_processors(&self) -> bool {
        self.load.is_some_and(|load| load > BUSY) && self.ladder[self.best] >= self.processors
    }

    fn hold(&mut self, rate: f64) {
        self.state = State::Hold {
            samples: 0,
            average: rate,
            reference: rate,
        };
    }

    fn decide(&mut self, contest: &Contest, verdict: Ordering) {
        let better = verdict == Ordering::Greater;
        let seen = contest.seen[usize::from(better)];
        if better {
            self.best = contest.challenger;
            self.patience = HOLD;
        }
        let [best, challenger] = contest.seen;
        let worse = challenger.mean < best.mean * (1.0 - GAIN);
        self.climbed |= contest.step == Step::Double && better;
        match (contest.step, better) {
            (Step::Double, true) => self.search(Step::Double, seen),
            (Step::Halve, true) => self.search(Step::Halve, seen),
            (Step::Double, false) if worse && !self.climbed => self.search(Step::Halve, seen),
            (Step::Double | Step::Halve, false) => self.search(Step::Above, seen),
            (Step::Above, false) => self.search(Step::Below, seen),
            (Step::Above | Step::Below, true) | (Step::Below, false) => self.rest(seen),
        }
    }

    /// Begins a search from where it is.
    fn begin(&mut self) {
        self.climbed = false;
        self.search(Step::Double, Seen::default());
    }

    /// Ends a search.
    fn rest(&mut self, seen: Seen) {
        self.patience = (self.patience * 2).min(LONGEST_HOLD);
        self.hold(seen.mean);
    }

    /// Begins the next comparison, or the next kind of step where there is nothing to compare with.
    fn search(&mut self, step: Step, seen: Seen) {
        let here = self.ladder[self.best];
        let challenger = match step {
            Step::Double => self
                .ladder
                .iter()
                .rposition(|n| *n <= here * 2)
                .filter(|i| *i > self.best),
            Step::Halve => self
                .ladder
                .iter()
                .position(|n| *n >= here.div_ceil(2))
                .filter(|i| *i < self.best),
            Step::Above => Some(self.best + 1).filter(|i| *i < self.ladder.len()),
            Step::Below => self.best.checked_sub(1),
        };
        match (challenger, step) {
            (Some(challenger), _) => self.state = State::Search(Contest::new(step, challenger, seen)),
            (None, Step::Double) if !self.climbed => self.search(Step::Halve, seen),
            (None, Step::Double | Step::Halve) => self.search(Step::Above, seen),
            (None, Step::Above) => self.search(Step::Below, seen),
            (None, Step::Below) => self.rest(seen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds of an interval.
    const INTERVAL: f64 = 0.1;
    /// A search without noise is over after this many samples, with noise after the other.
    const QUIET: usize = 60;
    const NOISY: usize = 500;
    /// The share of the best fixed number that it must settle at.
    const REACHED: f64 = 0.9;

    /// A device: how many bytes a second it moves for this many workers.
    type Device = fn(f64) -> f64;

    /// Heads fly between streams: beyond two each costs all.
    fn disk(workers: f64) -> f64 {
        match workers {
            ..1.5 => 100e6,
            ..2.5 => 130e6,
            _ => 130e6 * (2.0 / workers).powf(0.8),
        }
    }

    /// One stream is best.
    fn tape(workers: f64) -> f64 {
        100e6 / workers
    }

    /// Gains to 32, evenly, then loses a little.
    fn solid(workers: f64) -> f64 {
        let lost = (workers - 32.0).max(0.0) * 0.003;
        100e6 * workers.min(32.0).powf(0.9) * (1.0 - lost)
    }

    /// Gains ever less: 12,500 reads a second for one, 105,000 for 64.
    fn queue(workers: f64) -> f64 {
        4096.0 / (1.0 / 12_500.0 / workers + (1.0 / 105_000.0 - 1.0 / 12_500.0 / 64.0))
    }

    /// Answers after 5 ms; serves 20,000 a second at most.
    fn network(workers: f64) -> f64 {
        (workers / 0.005).min(20_000.0) * ENTRY_BYTES as f64
    }

    /// As fast for one as for many.
    fn flat(_: f64) -> f64 {
        500e6
    }

    struct Random(u64);

    impl Random {
        /// Evenly between -1 and 1.
        fn next(&mut self) -> f64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
        }
    }

    fn range(start: usize, ceiling: usize) -> Range {
        Range {
            start,
            ceiling,
            fixed: false,
        }
    }

    fn sample(active: usize, rate: f64, load: f64) -> Sample {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate of a test"
        )]
        let bytes = (rate * INTERVAL) as u64;
        Sample {
            bytes,
            entries: 0,
            seconds: INTERVAL,
            busy: active,
            load,
        }
    }

    fn best(device: Device, ceiling: usize) -> f64 {
        (1..=ceiling).map(|n| device(n as f64)).fold(0.0, f64::max)
    }

    /// Feeds samples until it settles; answers how many there were.
    fn settle(tuner: &mut Tuner, device: Device, noise: f64, random: &mut Random) -> usize {
        for count in 0.. {
            if tuner.is_settled() {
                return count;
            }
            assert!(count < 10_000, "it never settles");
            feed(tuner, device, noise, random);
        }
        unreachable!()
    }

    fn feed(tuner: &mut Tuner, device: Device, noise: f64, random: &mut Random) {
        let active = tuner.active();
        let rate = device(active as f64) * (1.0 + noise * random.next());
        tuner.observe(&sample(active, rate, 0.2));
    }

    const DEVICES: [(&str, Device); 6] = [
        ("disk", disk),
        ("tape", tape),
        ("solid", solid),
        ("queue", queue),
        ("network", network),
        ("flat", flat),
    ];

    #[test]
    fn it_settles_near_the_best_fixed_number_from_wherever_it_starts() {
        for (name, device) in DEVICES {
            for ceiling in [1, 2, 3, 8, 50, 64, 128] {
                for start in [1, 2, 8, 64].into_iter().filter(|start| *start <= ceiling) {
                    let mut tuner = Tuner::new(range(start, ceiling), 2);
                    let samples = settle(&mut tuner, device, 0.0, &mut Random(1));
                    let reached = device(tuner.active() as f64) / best(device, ceiling);
                    let end = tuner.active();
                    assert!(reached >= REACHED, "{name} {start}..{ceiling}: {end}, {reached}");
                    assert!(samples <= QUIET, "{name} {start}..{ceiling}: {samples} samples");
                }
            }
        }
    }

    #[test]
    fn it_settles_there_through_noise_too() {
        const SEEDS: u64 = 200;
        for (name, device) in DEVICES {
            for noise in [0.2, 0.3] {
                let mut missed = 0;
                for seed in 1..=SEEDS {
                    let start = if name == "disk" { 2 } else { 8 };
                    let mut tuner = Tuner::new(range(start, 64), 2);
                    let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
                    let samples = settle(&mut tuner, device, noise, &mut random);
                    let reached = device(tuner.active() as f64) / best(device, 64);
                    missed += u64::from(reached < REACHED);
                    assert!(
                        samples <= NOISY && reached > 0.7,
                        "{name} {noise} {seed}: {samples}, {reached}"
                    );
                }
                // Chance can hide a tenth; another search finds it.
                assert!(missed * 50 <= SEEDS, "{name} {noise}: {missed} of {SEEDS} missed it");
            }
        }
    }

    #[test]
    fn what_is_settled_stays() {
        const SAMPLES: u32 = 3000;
        for (name, device) in DEVICES {
            for noise in [0.0, 0.3] {
                let mut tuner = Tuner::new(range(4, 64), 2);
                let mut random = Random(7);
                settle(&mut tuner, device, noise, &mut random);
                let settled = tuner.active() as f64;
                let (mut moved, mut far) = (0.0, 0);
                for _ in 0..SAMPLES {
                    let active = tuner.active() as f64;
                    moved += device(active) / f64::from(SAMPLES);
                    far += u32::from(!(settled / 1.6..=settled * 1.6).contains(&active));
                    feed(&mut tuner, device, noise, &mut random);
                }
                let share = moved / best(device, 64);
                assert!(share > 0.95, "{name} {noise}: {share} of the best fixed number");
                assert!(
                    far * 20 < SAMPLES,
                    "{name} {noise}: {far} of {SAMPLES} samples elsewhere"
                );
            }
        }
    }

    #[test]
    fn another_workload_is_noticed() {
        let mut tuner = Tuner::new(range(2, 64), 2);
        let mut random = Random(3);
        settle(&mut tuner, disk, 0.1, &mut random);
        assert_eq!(tuner.active(), 2);
        // Much sooner than the hold would end.
        for _ in 0..HOLD / 3 {
            feed(&mut tuner, network, 0.1, &mut random);
        }
        settle(&mut tuner, network, 0.1, &mut random);
        assert_eq!(tuner.active(), 64);
        for _ in 0..HOLD / 3 {
            feed(&mut tuner, disk, 0.1, &mut random);
        }
        settle(&mut tuner, disk, 0.1, &mut random);
        assert!(tuner.active() <= 3, "{}", tuner.active());
    }

    #[test]
    fn where_processors_are_short_nothing_is_tried() {
        let mut tuner = Tuner::new(range(2, 64), 2);
        let mut random = Random(5);
        for _ in 0..2 * LONGEST_HOLD {
            let active = tuner.active();
            assert_eq!(active, 2);
            tuner.observe(&sample(active, 1e9 * (1.0 + 0.3 * random.next()), 0.95));
        }
    }

    #[test]
    fn what_was_not_done_by_that_many_workers_says_nothing() {
        let mut tuner = Tuner::new(range(4, 64), 2);
        for n in 0..1000 {
            let idle = sample(4, 0.0, 0.1);
            let few = Sample {
                busy: 3,
                ..sample(4, 1e6 * f64::from(n), 0.1)
            };
            let many = Sample { busy: 5, ..few };
            for sample in [idle, few, many] {
                assert_eq!(tuner.observe(&sample), 4);
            }
        }
        assert!(!tuner.is_settled());
    }

    #[test]
    fn an_entry_is_work_too() {
        let mut tuner = Tuner::new(range(1, 16), 2);
        for _ in 0..100 {
            let active = tuner.active();
            tuner.observe(&Sample {
                bytes: 0,
                entries: 20 * active as u64,
                ..sample(active, 0.0, 0.1)
            });
        }
        assert_eq!(tuner.active(), 16);
    }

    #[test]
    fn the_range_comes_from_the_media() {
        use Medium::{Memory, Network, Rotating, Solid};
        let cases: [(&[Medium], usize, usize, usize, usize); 15] = [
            (&[], 2, 0, 2, 2),
            (&[Memory], 2, 0, 2, 2),
            (&[Memory, Memory], 16, 0, 16, 16),
            (&[Memory], 2, 7, 7, 7),
            (&[Memory], 8, 1, 1, 1),
            (&[Solid, Memory], 2, 0, 2, 16),
            (&[Solid], 8, 0, 8, 32),
            (&[Solid], 128, 0, 128, 128),
            (&[Solid], 2, 1, 1, 1),
            (&[Solid], 8, 4, 4, 4),
            (&[Rotating, Solid], 8, 0, 2, 32),
            (&[Rotating], 1, 0, 1, 16),
            (&[Network, Solid], 2, 0, 8, 64),
            (&[Network, Rotating], 4, 0, 2, 64),
            (&[Network], 256, 3, 3, 3),
        ];
        for (media, processors, jobs, start, ceiling) in cases {
            let range = Range::of(media, processors, jobs);
            let fixed = !media.iter().any(|m| *m != Memory) || ceiling == 1;
            let wanted = Range { start, ceiling, fixed };
            assert_eq!(range, wanted, "{media:?} {processors} {jobs}");
        }
    }
}
