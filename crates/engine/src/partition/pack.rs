//! Packing: which part a thing goes to. Pure.
//!
//! Comes in: how many parts there are to be, or what each may hold, what all things are together, and then each thing, by
//! falling bytes; goes out: the number of its part. The same sequence gives the same numbers.
//!
//! A thing has two dimensions, bytes and entries, and neither is to be lopsided. What alone is more than a part has one of
//! its own. From the rest, each goes to the part that has least in the direction of the thing: its bytes and its entries,
//! each as a share of all there is, weigh what the part has of either. So large files even out the bytes and leave the
//! numbers alone, and the small ones, which come last and are many, even out the numbers (the dot product of R. Panigrahy
//! et al., "Heuristics for Vector Bin Packing", 2011, on the order of R. Graham's longest processing time first). Where the
//! number of parts is given, a part takes nothing more when it costs its share and `SLACK` of it: what can't be dealt out
//! evenly in one dimension makes the other a little lopsided, not wholly, and no part costs more than that and one thing. For things of about one size the direction is about the same: parts are kept in a heap for it, which is made anew
//! when the size has halved, so that a thing costs the logarithm of the number of parts.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// Parts at most: more have neither names nor use, and the least that is known of each has to be in memory.
pub const MOST_PARTS: u64 = 1_000_000;
/// A part of what a part may cost above its share: one in so many.
const SLACK: u128 = 8;
/// Parts that are tried before there is one more.
const TRIES: usize = 8;

/// Bytes and entries of a thing, or of all in a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Bytes of regular files.
    pub bytes: u64,
    /// Entries of all kinds.
    pub entries: u64,
}

impl Load {
    /// Both together, for entries that cost so many bytes each.
    pub fn cost(self, entry: u64) -> u128 {
        (u128::from(self.entries) * u128::from(entry)).saturating_add(self.bytes.into())
    }

    /// With more.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            entries: self.entries.saturating_add(other.entries),
        }
    }

    /// Without what was part of it.
    #[must_use]
    fn minus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(other.bytes),
            entries: self.entries.saturating_sub(other.entries),
        }
    }
}

/// What each part may hold. What alone is more than that is alone in a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Limits {
    /// Whether a part may hold this.
    pub fn allow(self, load: Load) -> bool {
        load.entries <= self.entries && load.bytes <= self.bytes
    }
}

/// How things are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Division {
    /// Into so many parts, or as many as there are things.
    Parts(u64),
    /// Into as many parts as these limits need, or a few more.
    Limits(Limits),
}

/// A part as the heap has it: what has least comes first, then what has the lower number.
#[derive(Clone, Copy, PartialEq)]
struct Place {
    weight: f64,
    part: usize,
}

impl Eq for Place {}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        self.weight.total_cmp(&other.weight).then(self.part.cmp(&other.part))
    }
}

/// Puts things into parts.
pub struct Packer {
    division: Division,
    /// What an entry costs, in bytes.
    entry: u64,
    /// What is still to come.
    rest: Load,
    parts: Vec<Load>,
    /// The parts that all that is left is divided among, once all that is too large is away.
    common: Option<Common>,
}

/// Parts with more than one thing.
struct Common {
    /// All that is divided among them.
    all: Load,
    /// A part that costs so much is full: its share and some more.
    share: u128,
    /// They are these, and the parts that were begun later.
    first: usize,
    /// Those that are not full, for things of the size `class`.
    open: BinaryHeap<Reverse<Place>>,
    class: u32,
}

impl Packer {
    /// For things that are `all` together, where an entry costs as much as `entry` bytes.
    pub fn new(division: Division, all: Load, entry: u64) -> Self {
        Self {
            division,
            entry,
            rest: all,
            parts: Vec::new(),
            common: None,
        }
    }

    /// What is in each part.
    pub fn parts(&self) -> &[Load] {
        &self.parts
    }

    /// The part of the next thing, counted from 0. None: there would be more than [`MOST_PARTS`].
    pub fn place(&mut self, thing: Load) -> Option<usize> {
        let part = if self.stands_alone(thing) {
            self.begin()?
        } else {
            self.join(thing)?
        };
        self.parts[part] = self.parts[part].plus(thing);
        self.rest = self.rest.minus(thing);
        Some(part)
    }

    fn begin(&mut self) -> Option<usize> {
        self.parts.push(Load::default());
        (self.parts.len() as u64 <= MOST_PARTS).then_some(self.parts.len() - 1)
    }

    /// Whether it has a part to itself.
    fn stands_alone(&self, thing: Load) -> bool {
        match self.division {
            Division::Limits(limits) => !limits.allow(thing),
            Division::Parts(number) => {
                let left = u128::from(number.saturating_sub(self.parts.len() as u64));
                self.common.is_none()
                    && left > 1
                    && thing.cost(self.entry).saturating_mul(left) > self.rest.cost(self.entry)
            }
        }
    }

    fn join(&mut self, thing: Load) -> Option<usize> {
        if self.common.is_none() {
            self.divide()?;
        }
        let class = class_of(thing);
        if self
            .common
            .as_ref()
            .is_some_and(|common| common.class != class || common.open.is_empty())
        {
            self.arrange(class);
        }
        let mut passed = Vec::new();
        let mut found = None;
        while let Some(common) = &mut self.common
            && passed.len() < TRIES
            && let Some(Reverse(place)) = common.open.pop()
        {
            let load = self.parts[place.part];
            match self.division {
                Division::Limits(limits) if !limits.allow(load.plus(thing)) => {
                    if load.entries < limits.entries {
                        passed.push(place);
                    }
                }
                Division::Limits(_) | Division::Parts(_) => {
                    found = Some(place.part);
                    break;
                }
            }
        }
        let part = match found {
            Some(part) => part,
            None => self.begin()?,
        };
        if let Some(common) = &mut self.common {
            common.open.extend(passed.into_iter().map(Reverse));
            let load = self.parts[part].plus(thing);
            if load.cost(self.entry) < common.share {
                let weight = common.weight(load);
                common.open.push(Reverse(Place { weight, part }));
            }
        }
        Some(part)
    }

    /// All that is left goes into parts together.
    fn divide(&mut self) -> Option<()> {
        let first = self.parts.len();
        let all = self.rest;
        let (number, share) = match self.division {
            Division::Parts(number) => {
                let number = number.saturating_sub(first as u64).max(1);
                let share = all.cost(self.entry).div_ceil(number.into());
                (number, share.saturating_add(share / SLACK))
            }
            Division::Limits(limits) => {
                let entries = all.entries.div_ceil(limits.entries.max(1));
                (entries.max(all.bytes.div_ceil(limits.bytes.max(1))).max(1), u128::MAX)
            }
        };
        // No more than have something in them.
        for _ in 0..number.min(all.entries.max(1)) {
            self.begin()?;
        }
        self.common = Some(Common {
            all,
            share,
            first,
            open: BinaryHeap::new(),
            class: u32::MAX,
        });
        Some(())
    }

    /// Puts the parts that are not full in order for things of a size. Where all are, they are again what they were: what is
    /// left costs nothing.
    fn arrange(&mut self, class: u32) {
        let Some(common) = &mut self.common else { return };
        common.class = class;
        let parts = self.parts.iter().enumerate().skip(common.first);
        let full = |load: &Load| match self.division {
            Division::Parts(_) => load.cost(self.entry) >= common.share,
            Division::Limits(limits) => load.entries >= limits.entries,
        };
        let alone = |load: &Load| match self.division {
            Division::Parts(_) => false,
            Division::Limits(limits) => !limits.allow(*load),
        };
        let places = |with_full: bool| -> Vec<Reverse<Place>> {
            let open = parts
                .clone()
                .filter(|(_, load)| !alone(load) && (with_full || !full(load)));
            open.map(|(part, load)| {
                let weight = common.weight(*load);
                Reverse(Place { weight, part })
            })
            .collect()
        };
        let mut open = places(false);
        if open.is_empty() && matches!(self.division, Division::Parts(_)) {
            open = places(true);
        }
        common.open = open.into();
    }
}

impl Common {
    /// What a part has in the direction of things of the present size.
    fn weight(&self, load: Load) -> f64 {
        let (bytes, entries) = (self.all.bytes.max(1) as f64, self.all.entries.max(1) as f64);
        let thing = if self.class == 0 {
            0.0
        } else {
            1.5 * 2_f64.powi(self.class.cast_signed() - 1)
        };
        load.bytes as f64 / bytes * (thing / bytes) + load.entries as f64 / entries / entries
    }
}

/// Things of one class have bytes between two powers of two.
fn class_of(thing: Load) -> u32 {
    u64::BITS - thing.bytes.leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn load(bytes: u64, entries: u64) -> Load {
        Load { bytes, entries }
    }

    fn all(things: &[Load]) -> Load {
        things.iter().fold(Load::default(), |sum, thing| sum.plus(*thing))
    }

    /// The part of each thing, and what is in each part.
    fn packed(division: Division, entry: u64, things: &[Load]) -> (Vec<usize>, Vec<Load>) {
        let mut packer = Packer::new(division, all(things), entry);
        let parts = things.iter().map(|thing| packer.place(*thing).unwrap()).collect();
        (parts, packer.parts().to_vec())
    }

    fn falling(mut things: Vec<Load>) -> Vec<Load> {
        things.sort_unstable_by_key(|thing| Reverse(thing.bytes));
        things
    }

    fn things() -> impl Strategy<Value = Vec<Load>> {
        let bytes = prop_oneof![Just(0), 0..100_u64, 0..1_000_000_u64, 0..u64::MAX / 1_000];
        let thing = (bytes, prop_oneof![8 => Just(1_u64), 1 => 1..20_u64]);
        prop::collection::vec(thing.prop_map(|(bytes, entries)| load(bytes, entries)), 0..200).prop_map(falling)
    }

    #[test]
    fn two_dimensions_are_even_where_one_would_be_lopsided() {
        // A hundred large files, ten thousand small ones, ten thousand empty ones.
        let sizes = (0..100)
            .map(|n| 100_000_000 + n * 1_000_003)
            .chain((0..10_000).map(|n| n % 4000 + 1));
        let things = falling(
            sizes
                .chain((0..10_000).map(|_| 0))
                .map(|bytes| load(bytes, 1))
                .collect(),
        );
        for number in [2, 4, 7, 16] {
            let (_, parts) = packed(Division::Parts(number), 65_536, &things);
            // The most, and how much it is of the average.
            let above = |of: fn(&Load) -> u64| {
                let all: Vec<u64> = parts.iter().map(of).collect();
                all.iter().max().copied().unwrap_or_default() as f64 * all.len() as f64 / all.iter().sum::<u64>() as f64
            };
            // A hundred files can't be dealt out to sixteen without a remainder.
            assert!(above(|part| part.entries) < 1.01, "{number}: {parts:?}");
            assert!(above(|part| part.bytes) < 1.1, "{number}: {parts:?}");
        }
    }

    #[test]
    fn what_is_more_than_a_part_is_alone_and_the_rest_is_even() {
        let things = falling((0..1000).map(|n| load(1000 + n, 1)).chain([load(1 << 40, 1)]).collect());
        let (places, parts) = packed(Division::Parts(4), 100, &things);
        assert_eq!(places[0], 0);
        assert_eq!(parts[0], load(1 << 40, 1));
        for part in &parts[1..] {
            assert!(
                part.entries.abs_diff(333) <= 1 && part.bytes.abs_diff(499_833) < 2000,
                "{parts:?}"
            );
        }
        let limits = Limits {
            entries: 100,
            bytes: 150_000,
        };
        let (_, parts) = packed(Division::Limits(limits), 100, &things);
        assert_eq!(parts[0], load(1 << 40, 1));
        assert!((11..=13).contains(&parts.len()), "{parts:?}");
    }

    #[test]
    fn fewer_things_than_parts_make_fewer_parts() {
        let (places, parts) = packed(Division::Parts(9), 0, &[load(5, 1), load(0, 1), load(0, 1)]);
        assert_eq!(places, [0, 1, 2]);
        assert_eq!(parts.len(), 3);
        assert_eq!(packed(Division::Parts(9), 0, &[]).1, []);
        let limits = Limits {
            entries: u64::MAX,
            bytes: 0,
        };
        assert_eq!(
            packed(Division::Limits(limits), 0, &[load(5, 1), load(0, 1), load(0, 2)]).0,
            [0, 1, 1]
        );
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_share_is_passed_by_more_than_one_thing(
            things in things(),
            number in 1..40_u64,
            entry in prop_oneof![Just(0), Just(65_536), 0..u64::MAX / 1_000],
        ) {
            let (places, parts) = packed(Division::Parts(number), entry, &things);
            let mut sums = vec![Load::default(); parts.len()];
            for (part, thing) in places.iter().zip(&things) {
                sums[*part] = sums[*part].plus(*thing);
            }
            prop_assert_eq!(&sums, &parts);
            prop_assert!(parts.len() as u64 <= number);
            prop_assert_eq!(&places, &packed(Division::Parts(number), entry, &things).0);
            // No part is empty where there are things for all.
            if things.len() as u64 >= number && things.iter().all(|thing| thing.cost(entry) > 0) {
                prop_assert!(parts.iter().all(|part| part.entries > 0), "{:?}", parts);
            }
            let most = parts.iter().map(|part| part.cost(entry)).max().unwrap_or(0);
            let largest = things.iter().map(|thing| thing.cost(entry)).max().unwrap_or(0);
            let share = all(&things).cost(entry).div_ceil(number.into());
            prop_assert!(most <= share + share / SLACK + largest, "{} of {} and {}", most, share, largest);
        }

        #[test]
        fn limits_are_kept(things in things(), entries in 1..30_u64, bytes in prop_oneof![0..2_000_000_u64, Just(u64::MAX)]) {
            let limits = Limits { entries, bytes };
            let (places, parts) = packed(Division::Limits(limits), 65_536, &things);
            let mut held = vec![Vec::new(); parts.len()];
            for (part, thing) in places.iter().zip(&things) {
                held[*part].push(*thing);
            }
            for (held, part) in held.iter().zip(&parts) {
                prop_assert_eq!(all(held), *part);
                prop_assert!(limits.allow(*part) || held.len() == 1, "{:?}", held);
            }
            prop_assert_eq!(&places, &packed(Division::Limits(limits), 65_536, &things).0);
        }
    }
}
