//! Which way bytes go fastest between two file systems: the kernel's copy, or reading and writing, through the page cache or
//! past it.
//!
//! Comes in: how long pieces took; goes out: the way for the next file. What was tried once stays.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Bytes that each way is tried with between two devices before one stays.
const TRIAL_BYTES: u64 = 16 * 1024 * 1024;

/// The kernel's copy stays if it takes less than this share of the other's time. Where a server or a disk does the work it
/// is many times faster; where memory is copied it is somewhat slower, and the trial says little.
const CLEARLY_FASTER: f64 = 0.5;

/// They stay unless they take so many times as long as writing and waiting does: where the device is the limit both take
/// equally long, and these leave memory and processors to others.
const CLEARLY_SLOWER: f64 = 2.0;

/// How the bytes of a piece get from one file to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `copy_file_range`.
    Range,
    /// Read and write.
    Plain,
    /// Read, and write past the page cache.
    Direct,
    /// Read, write, and wait for the write-back: what [`Method::Direct`] is measured by.
    Waited,
}

/// What has been found out about a pair of devices.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pair {
    pub(crate) no_clone: bool,
    pub(crate) no_range: bool,
    range: Spent,
    plain: Spent,
    /// The destination is on a block device of this machine, and takes writes past the page cache.
    pub(crate) direct_works: Option<bool>,
    direct: Spent,
    waited: Spent,
}

/// Bytes copied in one way, and the best that it has shown: the time that writers of one file wait for each other says
/// nothing about either way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    bytes: u64,
    /// Bytes a second of the fastest piece.
    rate: f64,
}

impl Pair {
    /// The way to take: in turns of a piece, the kernel's first, until both were tried.
    pub(crate) fn method(&self) -> Method {
        let (range, plain) = (self.range, self.plain);
        let kernel = if range.bytes.min(plain.bytes) < TRIAL_BYTES {
            range.bytes / PIECE_BYTES <= plain.bytes / PIECE_BYTES
        } else {
            range.rate * CLEARLY_FASTER > plain.rate
        };
        if kernel { Method::Range } else { Method::Plain }
    }

    /// The way to take for what has to be on the medium in the end: past the page cache, unless that is clearly slower. None:
    /// as for anything else, with the write-back under way meanwhile.
    pub(crate) fn lasting(&self) -> Option<Method> {
        let (direct, waited) = (self.direct, self.waited);
        if self.direct_works != Some(true) {
            None
        } else if direct.bytes.min(waited.bytes) >= TRIAL_BYTES {
            (direct.rate * CLEARLY_SLOWER >= waited.rate).then_some(Method::Direct)
        } else if direct.bytes / PIECE_BYTES <= waited.bytes / PIECE_BYTES {
            Some(Method::Direct)
        } else {
            Some(Method::Waited)
        }
    }

    /// A piece was copied. Once the choice is made it stays: what comes later is measured beside other work.
    pub(crate) fn spent(&mut self, method: Method, bytes: u64, time: Duration) {
        let (spent, other) = match method {
            Method::Range => (&mut self.range, self.plain),
            Method::Plain => (&mut self.plain, self.range),
            Method::Direct => (&mut self.direct, self.waited),
            Method::Waited => (&mut self.waited, self.direct),
        };
        if spent.bytes.min(other.bytes) < TRIAL_BYTES {
            spent.bytes += bytes;
            spent.rate = spent.rate.max(bytes as f64 / time.as_secs_f64());
        }
    }
}

/// What the kernel can do between which devices; learnt from its refusals.
#[derive(Debug, Default)]
pub struct Methods(Mutex<HashMap<(u64, u64), Pair>>);

impl Methods {
    pub(crate) fn of(&self, pair: (u64, u64)) -> Pair {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&pair)
            .copied()
            .unwrap_or_default()
    }

    pub(crate) fn learn<T>(&self, pair: (u64, u64), change: impl FnOnce(&mut Pair) -> T) -> T {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(known.entry(pair).or_default())
    }
}

/// What writes past the page cache are aligned to, in the file and in memory: no disk has larger blocks.
pub const DIRECT_ALIGNMENT: usize = 4096;

/// Bytes that are copied in one way before the next choice: progress moves, and cancelling works.
pub const PIECE_BYTES: u64 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Copies 1 GiB in pieces that take so long one way or the other; answers how much went the first way.
    fn choices(pair: Pair, choose: fn(&Pair) -> Option<Method>, first: (Method, Duration), other: Duration) -> u64 {
        let (mut pair, mut bytes) = (pair, 0);
        for _ in 0..256 {
            let Some(method) = choose(&pair) else { continue };
            let way = method == first.0;
            bytes += if way { PIECE_BYTES } else { 0 };
            pair.spent(method, PIECE_BYTES, if way { first.1 } else { other });
        }
        bytes
    }

    #[test]
    fn the_faster_way_stays_after_both_were_tried() {
        let (tried, rest) = (TRIAL_BYTES, (1 << 30) - TRIAL_BYTES);
        let range = |range, plain| {
            let choose = |pair: &Pair| Some(pair.method());
            choices(Pair::default(), choose, (Method::Range, range), plain)
        };
        let times = [490, 510, 1000].map(Duration::from_micros);
        assert_eq!(range(times[0], times[2]), rest);
        assert_eq!(range(times[1], times[2]), tried, "about equal");
        assert_eq!(range(times[2], times[1]), tried);
        assert_eq!(
            Pair::default().method(),
            Method::Range,
            "the kernel first: it may share or offload"
        );
    }

    #[test]
    fn past_the_page_cache_unless_that_is_clearly_slower() {
        let works = |answer| Pair {
            direct_works: answer,
            ..Pair::default()
        };
        let direct = |direct, waited| choices(works(Some(true)), Pair::lasting, (Method::Direct, direct), waited);
        let times = [490, 510, 1000].map(Duration::from_micros);
        assert_eq!(direct(times[2], times[1]), (1 << 30) - TRIAL_BYTES);
        assert_eq!(direct(times[0], times[2]), (1 << 30) - TRIAL_BYTES);
        assert_eq!(direct(times[2], times[0]), TRIAL_BYTES);
        assert_eq!(works(Some(true)).lasting(), Some(Method::Direct));
        for unknown in [None, Some(false)] {
            assert_eq!(works(unknown).lasting(), None);
        }
    }
}
