//! What stands out of a run: the directories that hold most of it, and what took longest.
//!
//! Comes in: what a worker came to in a directory, and how long an entry was in its hands; goes out: the first of both. Memory
//! is bounded, and each worker has its own, so that none waits for another.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Steps below a source down to which directories are told apart: those below count for the one above them.
pub const STEPS: usize = 2;
/// Directories that a worker tells apart; beyond them it counts for those above, and at last for none.
const APART: usize = 1024;
/// Of both, so many are told.
const TOLD: usize = 20;
/// What took less is nothing to tell of.
const LEAST: Duration = Duration::from_millis(10);

/// What lies in a directory, or below one that stands for more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Its full path; empty for what no directory was told apart for.
    pub path: Vec<u8>,
    /// Regular files.
    pub files: u64,
    /// Apparent bytes of them.
    pub bytes: u64,
}

/// An entry that took its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slow {
    /// Its full path.
    pub path: Vec<u8>,
    /// Apparent bytes of a regular file.
    pub bytes: u64,
    /// How long a worker had it in its hands.
    pub took: Duration,
}

/// One worker's.
#[derive(Debug, Default)]
pub struct Standouts(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    shares: BTreeMap<Vec<u8>, (u64, u64)>,
    slow: Vec<Slow>,
}

impl Standouts {
    /// Files of a directory are known, and their bytes. `path`: of the directory so many steps below its source that it is in.
    pub fn hold(&self, files: u64, bytes: u64, path: impl Fn(usize) -> Vec<u8>) {
        let mut inner = self.lock();
        let there = inner.shares.len();
        let known = (0..=STEPS).rev().map(path).zip([APART, APART, 2 * APART]);
        let place = known
            .into_iter()
            .find_map(|(path, most)| (there < most || inner.shares.contains_key(&path)).then_some(path));
        let sum = inner.shares.entry(place.unwrap_or_default()).or_default();
        sum.0 += files;
        sum.1 += bytes;
    }

    /// An entry was in a worker's hands for so long.
    pub fn took(&self, took: Duration, bytes: u64, path: impl FnOnce() -> Vec<u8>) {
        if took < LEAST {
            return;
        }
        let slow = &mut self.lock().slow;
        if slow.len() == TOLD && slow.last().is_some_and(|least| least.took >= took) {
            return;
        }
        let at = slow.partition_point(|other| other.took >= took);
        slow.truncate(TOLD - 1);
        let path = path();
        slow.insert(at, Slow { path, bytes, took });
    }

    /// What stands out of all of it: the greatest first.
    pub fn of<'s>(all: impl Iterator<Item = &'s Self>) -> (Vec<Share>, Vec<Slow>) {
        let (mut sums, mut slow) = (BTreeMap::<Vec<u8>, (u64, u64)>::new(), Vec::new());
        for each in all {
            let inner = each.lock();
            for (path, (files, bytes)) in &inner.shares {
                let sum = sums.entry(path.clone()).or_default();
                *sum = (sum.0 + files, sum.1 + bytes);
            }
            slow.extend(inner.slow.iter().cloned());
        }
        let share = |(path, (files, bytes))| Share { path, files, bytes };
        let mut shares: Vec<Share> = sums.into_iter().map(share).collect();
        shares.sort_by_key(|share| Reverse((share.bytes, share.files)));
        shares.truncate(TOLD);
        slow.sort_by_key(|slow| Reverse(slow.took));
        slow.truncate(TOLD);
        (shares, slow)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: usize) -> impl Fn(usize) -> Vec<u8> {
        move |steps| {
            let parts = [String::from("s"), format!("{}", name % 10), format!("{name}")];
            parts[..=steps].join("/").into_bytes()
        }
    }

    #[test]
    fn directories_are_summed_up_and_none_is_lost_where_there_are_too_many() {
        let (one, other) = (Standouts::default(), Standouts::default());
        for name in 0..3 * APART {
            one.hold(1, 10, path(name));
        }
        one.hold(1, 5000, path(3));
        other.hold(2, 5000, path(3));
        let (shares, _) = Standouts::of([&one, &other].into_iter());
        assert_eq!(shares.len(), TOLD);
        assert_eq!(shares[0].path, b"s");
        assert_eq!(
            shares[1],
            Share {
                path: b"s/3/3".to_vec(),
                files: 4,
                bytes: 10_010
            }
        );
        let files: u64 = one.lock().shares.values().map(|sum| sum.0).sum();
        assert_eq!(files, 3 * APART as u64 + 1);
        assert!(one.lock().shares.len() <= APART + 1);
    }

    #[test]
    fn what_took_longest_comes_first_and_the_rest_is_forgotten() {
        let all = Standouts::default();
        all.took(Duration::from_millis(9), 1, || unreachable!("it was quick"));
        for millis in (10..100).chain(20..50) {
            all.took(Duration::from_millis(millis), millis, || vec![b'x']);
        }
        let (_, slow) = Standouts::of(std::iter::once(&all));
        let told: Vec<u64> = slow.iter().map(|slow| slow.bytes).collect();
        assert_eq!(told, (80..100).rev().collect::<Vec<_>>());
    }
}
