//! What a big file that is not finished says of itself: of which source it is, and which of its bytes are there, or how far it
//! has come where it is an archive.
//!
//! Comes in: a [`Progress`]; goes out: a record of at most [`SLOT_BYTES`], and back. There are two places for it, past the
//! end that the file will have, and records are written to them in turn, so that one which was torn loses only what is new.
//! Promises: nothing that [`Progress::encode`] did not write is taken for a record, whatever bytes there are.

use crate::digest::{ContentDigest, xxh64};

/// Bytes of a place for a record: a block, as far as disks and memory go.
pub const SLOT_BYTES: u64 = 4096;
/// Ranges of one kind that a record holds at most. There are about as many as workers; what is beyond is done again.
pub const MOST_RANGES: usize = 100;

/// Subtrees of a digest that a record holds at most: there is no file with more.
const MOST_SUBTREES: usize = 40;

const MAGIC: [u8; 8] = *b"bh-part\x02";
/// Numbers before the ranges.
const HEAD: usize = 20;
/// Numbers of a mark before its subtrees, and of one of these.
const MARK: usize = 4;
const SUBTREE: usize = 4;
const WORD: usize = 8;

/// What identifies a source and its version, as its file system tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Last change of content: seconds and nanoseconds since the epoch.
    pub modified: (i64, u32),
    /// Last change of anything.
    pub changed: (i64, u32),
}

/// What an unfinished file was made as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Inode number.
    pub inode: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits that it has.
    pub mode: u32,
    /// Permission bits that were asked for.
    pub asked: u32,
    /// A number for how it is made of its source: how holes are treated, or as what archive.
    pub manner: u32,
}

/// Parts of a file: in order, apart from each other, none of them empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds what lies from `start` to `end`.
    pub fn insert(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let first = self.0.partition_point(|range| range.1 < start);
        let last = self.0.partition_point(|range| range.0 <= end);
        let touched = &self.0[first..last];
        let start = touched.first().map_or(start, |range| start.min(range.0));
        let end = touched.last().map_or(end, |range| end.max(range.1));
        self.0.splice(first..last, [(start, end)]);
    }

    /// Where what lies from `start` on without a gap ends; `start` where nothing does.
    pub fn end_from(&self, start: u64) -> u64 {
        let next = self.0.partition_point(|range| range.1 <= start);
        self.0
            .get(next)
            .filter(|range| range.0 <= start)
            .map_or(start, |range| range.1)
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }

    /// The same without what lies past `end`.
    #[must_use]
    pub fn up_to(&self, end: u64) -> Self {
        let within = self.0.iter().map(|range| (range.0, range.1.min(end)));
        Self(within.filter(|(start, end)| start < end).collect())
    }
}

/// How far an archive has come, from its front, or the content that is made of one: all that is to be known to go on with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Bytes of its source that are in it.
    pub content: u64,
    /// Its own bytes.
    pub archive: u64,
    /// Blocks that it is made of; of content, whole parts of its digest.
    pub blocks: u64,
    /// The CRC-32 of the content, where that is wanted.
    pub crc: u32,
    /// What the digest of the content is made from, as far as whole parts of it go.
    pub subtrees: Vec<ContentDigest>,
}

impl Mark {
    fn encode(&self) -> impl Iterator<Item = u64> {
        let head = [self.content, self.archive, self.blocks, self.crc.into()];
        let sums = self.subtrees.iter().take(MOST_SUBTREES);
        let words = sums.flat_map(|sum| sum.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)));
        head.into_iter().chain(words.collect::<Vec<_>>())
    }

    fn decode(words: &[u64]) -> Option<Self> {
        let (head, sums) = words.split_at_checked(MARK)?;
        let sum = |words: &[u64]| {
            let mut sum = ContentDigest::default();
            for (bytes, word) in sum.as_chunks_mut().0.iter_mut().zip(words) {
                *bytes = word.to_le_bytes();
            }
            sum
        };
        Some(Self {
            content: head[0],
            archive: head[1],
            blocks: head[2],
            crc: u32::try_from(head[3]).ok()?,
            subtrees: sums.chunks(SUBTREE).map(sum).collect(),
        })
    }
}

/// What a record says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The source, as it was when the file was begun.
    pub source: Version,
    /// The file itself.
    pub made: Made,
    /// When and where what is done can be relied on as it is: the digest of a boot and a mount; 0: nowhere.
    pub session: u64,
    /// How many records were written before.
    pub sequence: u64,
    /// Up to here all is on the medium, whatever happens.
    pub durable: u64,
    /// What is done.
    pub done: Ranges,
    /// What of that was read back from the medium and is the source's.
    pub proved: Ranges,
    /// Of an archive, instead: how far it has come, and how far it had when that was on the medium. What is done is the
    /// content that is in it.
    pub marks: [Option<Mark>; 2],
}

/// Where the places for the records of a file of this size begin. `None`: a file has no room for them.
pub fn base(size: u64) -> Option<u64> {
    let base = size.checked_next_multiple_of(SLOT_BYTES)?;
    let end = base.checked_add(2 * SLOT_BYTES)?;
    i64::try_from(end).ok().map(|_| base)
}

/// The newest record in the two places: their bytes, as far as they could be read.
pub fn newest(places: &[u8]) -> Option<Progress> {
    let records = places.chunks(usize::try_from(SLOT_BYTES).unwrap_or(usize::MAX));
    records
        .filter_map(Progress::decode)
        .max_by_key(|progress| progress.sequence)
}

impl Progress {
    /// Its place past the [`base`].
    pub fn slot(&self) -> u64 {
        self.sequence % 2 * SLOT_BYTES
    }

    /// As it is written.
    pub fn encode(&self) -> Vec<u8> {
        let Version { modified, changed, .. } = self.source;
        // An archive has one: it grows from front to back.
        let most = if self.marks[0].is_some() { 1 } else { MOST_RANGES };
        let [done, proved] = [&self.done.0, &self.proved.0].map(|ranges| &ranges[..ranges.len().min(most)]);
        let marks: [Vec<u64>; 2] = [0, 1].map(|at| self.marks[at].iter().flat_map(Mark::encode).collect());
        let made = self.made;
        let head: [u64; HEAD] = [
            self.source.device,
            self.source.inode,
            self.source.size,
            modified.0.cast_unsigned(),
            modified.1.into(),
            changed.0.cast_unsigned(),
            changed.1.into(),
            made.inode,
            made.uid.into(),
            made.gid.into(),
            made.mode.into(),
            made.asked.into(),
            made.manner.into(),
            self.session,
            self.sequence,
            self.durable,
            done.len() as u64,
            proved.len() as u64,
            marks[0].len() as u64,
            marks[1].len() as u64,
        ];
        let mut bytes = MAGIC.to_vec();
        let numbers = head
            .into_iter()
            .chain(done.iter().chain(proved).flat_map(|range| [range.0, range.1]))
            .chain(marks.into_iter().flatten());
        bytes.extend(numbers.flat_map(u64::to_le_bytes));
        bytes.extend(xxh64(&bytes).to_le_bytes());
        bytes
    }

    /// What a record says, if it is one. What follows it is not looked at.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let word = |index: usize| {
            let bytes = rest.get(index * WORD..(index + 1) * WORD)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let count = |at: usize| usize::try_from(word(at)?).ok().filter(|count| *count <= MOST_RANGES);
        let counts = [count(HEAD - 4)?, count(HEAD - 3)?];
        let most = (MARK + SUBTREE * MOST_SUBTREES) as u64;
        let length = |at: usize| usize::try_from(word(at)?).ok().filter(|count| *count as u64 <= most);
        let lengths = [length(HEAD - 2)?, length(HEAD - 1)?];
        let marks = HEAD + 2 * (counts[0] + counts[1]);
        let words = marks + lengths[0] + lengths[1];
        if word(words)? != xxh64(&bytes[..MAGIC.len() + words * WORD]) {
            return None;
        }
        let small = |at: usize| u32::try_from(word(at)?).ok();
        let time = |at: usize| Some((word(at)?.cast_signed(), small(at + 1)?));
        let size = word(2)?;
        let ranges = |first: usize, count: usize| {
            let mut ranges = Ranges::default();
            for at in (first..).step_by(2).take(count) {
                let range = (word(at)?, word(at + 1)?);
                let apart = ranges.0.last().is_none_or(|last: &(u64, u64)| last.1 < range.0);
                if range.0 >= range.1 || range.1 > size || !apart {
                    return None;
                }
                ranges.0.push(range);
            }
            Some(ranges)
        };
        let done = ranges(HEAD, counts[0])?;
        let proved = ranges(HEAD + 2 * counts[0], counts[1])?;
        let mark = |from: usize, length: usize| {
            let words: Option<Vec<u64>> = (from..from + length).map(word).collect();
            match length {
                0 => Some(None),
                _ => Mark::decode(&words?).map(Some),
            }
        };
        let durable = word(15)?;
        (durable <= done.end_from(0)).then_some(Self {
            source: Version {
                device: word(0)?,
                inode: word(1)?,
                size,
                modified: time(3)?,
                changed: time(5)?,
            },
            made: Made {
                inode: word(7)?,
                uid: small(8)?,
                gid: small(9)?,
                mode: small(10)?,
                asked: small(11)?,
                manner: small(12)?,
            },
            session: word(13)?,
            sequence: word(14)?,
            durable,
            done,
            proved,
            marks: [mark(marks, lengths[0])?, mark(marks + lengths[0], lengths[1])?],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranges() -> impl Strategy<Value = Ranges> {
        proptest::collection::vec((0..1_000_000_u64, 0..5000_u64), 0..300).prop_map(|parts| {
            let mut ranges = Ranges::default();
            for (start, length) in parts {
                ranges.insert(start, start + length);
            }
            ranges
        })
    }

    prop_compose! {
        fn mark()(
            numbers: [u64; 3], crc: u32, subtrees in proptest::collection::vec(any::<ContentDigest>(), 0..=MOST_SUBTREES),
        ) -> Mark {
            let [content, archive, blocks] = numbers;
            Mark { content, archive, blocks, crc, subtrees }
        }
    }

    prop_compose! {
        fn progress()(
            numbers: [u64; 6], times: [(i64, u32); 2], made: [u32; 5], share in 0..=100_u64, done in ranges(),
            proved in ranges(), marks in prop_oneof![
                Just([None, None]),
                mark().prop_map(|mark| [Some(mark), None]),
                (mark(), mark()).prop_map(|(mark, safe)| [Some(mark), Some(safe)]),
            ],
        ) -> Progress {
            let [device, inode, size, half, session, sequence] = numbers;
            let [uid, gid, mode, asked, manner] = made;
            Progress {
                source: Version {
                    device,
                    inode,
                    size: size.max(2_000_000),
                    modified: times[0],
                    changed: times[1],
                },
                made: Made { inode: half, uid, gid, mode, asked, manner },
                session,
                sequence,
                durable: done.end_from(0) * share / 100,
                done,
                proved,
                marks,
            }
        }
    }

    #[test]
    fn ranges_grow_together() {
        let mut ranges = Ranges::default();
        assert_eq!((ranges.end_from(0), ranges.bytes()), (0, 0));
        for (start, end, expected) in [
            (10, 20, &[(10, 20)][..]),
            (5, 5, &[(10, 20)]),
            (30, 40, &[(10, 20), (30, 40)]),
            (0, 9, &[(0, 9), (10, 20), (30, 40)]),
            (9, 10, &[(0, 20), (30, 40)]),
            (15, 35, &[(0, 40)]),
            (40, 41, &[(0, 41)]),
            (3, 4, &[(0, 41)]),
        ] {
            ranges.insert(start, end);
            assert_eq!(ranges.0, expected, "after {start}..{end}");
        }
        assert_eq!(
            (ranges.end_from(0), ranges.end_from(40), ranges.end_from(41)),
            (41, 41, 41)
        );
        assert_eq!(ranges.up_to(7).0, [(0, 7)]);
        assert_eq!(ranges.up_to(0).0, []);
    }

    #[test]
    fn places() {
        for (size, expected) in [
            (0, Some(0)),
            (1, Some(4096)),
            (4095, Some(4096)),
            (4096, Some(4096)),
            (4097, Some(8192)),
            (i64::MAX as u64, None),
            (u64::MAX, None),
        ] {
            assert_eq!(base(size), expected, "{size}");
        }
        let at = |sequence| Progress {
            sequence,
            ..Progress::default()
        };
        assert_eq!((at(7).slot(), at(8).slot()), (SLOT_BYTES, 0));
        // Written in turn, the newer one counts; where it is torn, the one before.
        let mut both = vec![0; 2 * usize::try_from(SLOT_BYTES).unwrap()];
        for sequence in [7, 8] {
            let record = at(sequence).encode();
            let slot = usize::try_from(at(sequence).slot()).unwrap();
            both[slot..slot + record.len()].copy_from_slice(&record);
            assert_eq!(newest(&both).unwrap().sequence, sequence);
        }
        both[3] ^= 1;
        assert_eq!(newest(&both).unwrap().sequence, 7);
        assert_eq!(newest(&both[..4096]), None);
        assert_eq!(newest(&[]), None);
    }

    proptest! {
        #[test]
        fn ranges_hold_what_was_put_in(parts: Vec<(u8, u8)>) {
            let (mut ranges, mut seen) = (Ranges::default(), [false; 600]);
            for (start, length) in parts {
                let (start, end) = (u64::from(start), u64::from(start) + u64::from(length));
                ranges.insert(start, end);
                seen[usize::from(u16::try_from(start).unwrap())..usize::from(u16::try_from(end).unwrap())].fill(true);
            }
            prop_assert_eq!(ranges.bytes(), seen.iter().filter(|seen| **seen).count() as u64);
            prop_assert!(ranges.0.windows(2).all(|pair| pair[0].1 < pair[1].0));
            for at in 0..600_usize {
                let end = (at..600).find(|at| !seen[*at]).unwrap();
                prop_assert_eq!(ranges.end_from(at as u64), end as u64);
            }
        }

        #[test]
        fn read_as_written(mut progress in progress()) {
            let bytes = progress.encode();
            prop_assert!(bytes.len() as u64 <= SLOT_BYTES);
            let most = if progress.marks[0].is_some() { 1 } else { MOST_RANGES };
            progress.done.0.truncate(most);
            progress.proved.0.truncate(most);
            prop_assert_eq!(Progress::decode(&bytes), Some(progress.clone()));
            let padded = [bytes, vec![7; 100]].concat();
            prop_assert_eq!(Progress::decode(&padded), Some(progress));
        }

        #[test]
        fn what_is_torn_or_flipped_is_no_record(progress in progress(), at: prop::sample::Index, bit in 0..8_u8) {
            let mut bytes = progress.encode();
            prop_assert_eq!(Progress::decode(&bytes[..at.index(bytes.len())]), None);
            let at = at.index(bytes.len());
            let mut torn = bytes.clone();
            torn[at..].fill(0);
            prop_assert!(torn == bytes || Progress::decode(&torn).is_none());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(Progress::decode(&bytes), None);
        }

        #[test]
        fn any_bytes_are_no_harm(bytes: Vec<u8>, counts: [u8; 4]) {
            prop_assert_eq!(Progress::decode(&bytes), None);
            let mut bytes = [&MAGIC[..], &bytes].concat();
            for (at, count) in (HEAD - 4..HEAD).zip(counts) {
                if let Some(place) = bytes.get_mut(MAGIC.len() + at * WORD) {
                    *place = count;
                }
            }
            prop_assert_eq!(Progress::decode(&bytes), None);
            prop_assert_eq!(newest(&bytes), None);
        }
    }
}
