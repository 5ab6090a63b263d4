//! What was packed or unpacked, by extension.
//!
//! Comes in: one file at a time; goes out: sums, the greatest first. Memory is bounded: names may have any number of
//! extensions.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::report::Conversion;

/// Extensions that are told apart.
const MOST: usize = 256;
/// What stands for all others.
const OTHERS: &[u8] = b"*";

/// Sums by extension.
#[derive(Debug, Default)]
pub struct Conversions(Mutex<BTreeMap<Vec<u8>, Conversion>>);

impl Conversions {
    /// A file of so many bytes became one of so many.
    pub fn add(&self, extension: &[u8], before: u64, after: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.contains_key(extension) || all.len() < MOST;
        let extension = if known { extension } else { OTHERS };
        let sum = all.entry(extension.to_vec()).or_insert_with(|| Conversion {
            extension: extension.to_vec(),
            ..Conversion::default()
        });
        sum.files += 1;
        sum.before += before;
        sum.after += after;
    }

    /// All of them.
    pub fn into_sums(self) -> Vec<Conversion> {
        let all = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut sums: Vec<_> = all.into_values().collect();
        sums.sort_by_key(|sum| std::cmp::Reverse(sum.before));
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_first_and_no_more_than_memory_holds() {
        let sums = Conversions::default();
        sums.add(b"tsv", 10, 3);
        sums.add(b"log", 100, 10);
        sums.add(b"tsv", 20, 4);
        for number in 0..2 * MOST {
            sums.add(number.to_string().as_bytes(), 1, 1);
        }
        let sums = sums.into_sums();
        assert_eq!(sums.len(), MOST + 1);
        let told = |sum: &Conversion| (sum.extension.clone(), sum.files, sum.before, sum.after);
        let others = 2 * MOST as u64 - (MOST as u64 - 2);
        assert_eq!(told(&sums[0]), (OTHERS.to_vec(), others, others, others));
        assert_eq!(told(&sums[1]), (b"log".to_vec(), 1, 100, 10));
        assert_eq!(told(&sums[2]), (b"tsv".to_vec(), 2, 30, 7));
    }
}
