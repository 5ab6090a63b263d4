//! Digests of content.
//!
//! Comes in: the bytes of a file, whole or in pieces. Goes out: its xxh64 (seed 0), the digest of the skip test, or its
//! BLAKE3, the digest of proof; that also from parts which several workers take in side by side; and what manifests have:
//! digests of any algorithm, several in one pass (`hashers`).

mod blake2b;
mod hashers;
mod lanes;

use std::collections::BTreeMap;

use blake3::hazmat::{HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root};

pub use blake2b::Blake2b;
pub use hashers::{Algorithm, Digest, Hashers, Share};

/// Bytes at the end of a file that the skip test hashes when nothing else is asked for: the default of hpcp
/// (`--hash_size`), so that both tools agree on what is unchanged.
pub const TAIL_BYTES: u64 = 65536;

/// The BLAKE3 of a whole file (256 bits).
pub type ContentDigest = [u8; 32];

/// Bytes of the parts whose digests add up to that of a file, but for the last part: a power of two.
pub const PART_BYTES: u64 = 16 * 1024 * 1024;

/// BLAKE3 over bytes that arrive in pieces.
#[derive(Clone, Debug, Default)]
pub struct Blake3(blake3::Hasher);

impl Blake3 {
    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes so far; more may follow.
    pub fn digest(&self) -> ContentDigest {
        *self.0.finalize().as_bytes()
    }

    /// For part number `part` of a file that has more than one.
    pub fn of_part(part: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(part * PART_BYTES);
        Self(hasher)
    }
}

/// The BLAKE3 of a file from its parts, in whatever order they come. Keeps a digest or two for each part that waits for
/// another one, not one for each part.
#[derive(Clone, Debug)]
pub struct Parts {
    parts: u64,
    /// Subtrees by their first part: how often two became one, and what of.
    subtrees: BTreeMap<u64, (u32, ContentDigest)>,
}

impl Parts {
    /// Of a file of this size, which has more than one part.
    pub fn new(size: u64) -> Self {
        Self {
            parts: size.div_ceil(PART_BYTES),
            subtrees: BTreeMap::new(),
        }
    }

    /// Takes in the digest of one part: all of its bytes, begun with [`Blake3::of_part`].
    pub fn add(&mut self, part: u64, digest: &Blake3) {
        if digest.0.count() == 0 {
            return;
        }
        let (mut first, mut level, mut sum) = (part, 0, digest.0.finalize_non_root());
        // The last two make the root, which is another one.
        while self.parts > 2 << level
            && let Some(&(there, other)) = self.subtrees.get(&(first ^ 1 << level))
            && there == level
        {
            let sibling = first ^ 1 << level;
            self.subtrees.remove(&sibling);
            let [left, right] = if first < sibling { [sum, other] } else { [other, sum] };
            sum = merge_subtrees_non_root(&left, &right, Mode::Hash);
            first = first.min(sibling);
            level += 1;
        }
        self.subtrees.insert(first, (level, sum));
    }

    /// The digest of the file; none where parts are missing.
    pub fn digest(&self) -> Option<ContentDigest> {
        let mut reached = 0;
        for (first, (level, _)) in &self.subtrees {
            if *first != reached {
                return None;
            }
            reached = self.parts.min(first + (1 << level));
        }
        let mut sums = self.subtrees.values().rev().map(|(_, sum)| sum);
        let (mut right, mut left) = (*sums.next()?, *sums.next()?);
        for further in sums {
            right = merge_subtrees_non_root(&left, &right, Mode::Hash);
            left = *further;
        }
        (reached == self.parts).then(|| *merge_subtrees_root(&left, &right, Mode::Hash).as_bytes())
    }
}

/// The BLAKE3 of bytes that come in their order, however many they are, and which another run can go on with.
#[derive(Clone, Debug)]
pub struct Growing {
    parts: Parts,
    part: Blake3,
    at: u64,
}

impl Default for Growing {
    fn default() -> Self {
        Self {
            // Nobody knows yet.
            parts: Parts::new(u64::MAX),
            part: Blake3::of_part(0),
            at: 0,
        }
    }
}

impl Growing {
    /// Goes on after so many whole parts, by what [`Growing::subtrees`] said of them. None: that is of no such number.
    pub fn after(parts: u64, subtrees: &[ContentDigest]) -> Option<Self> {
        let mut grown = Self::default();
        let mut first = 0;
        for sum in subtrees {
            // As [`Parts::add`] makes one of two: the largest that fit.
            let fits = |level: &u32| 1 << level <= parts - first;
            let level = (0..u64::BITS).take_while(fits).last()?;
            grown.parts.subtrees.insert(first, (level, *sum));
            first += 1 << level;
        }
        (first == parts).then(|| Self {
            part: Blake3::of_part(parts),
            at: parts * PART_BYTES,
            ..grown
        })
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.at > 0 && self.at.is_multiple_of(PART_BYTES) {
                // Now it is not the last one, which may be half of the root.
                let part = self.at / PART_BYTES;
                self.parts.add(part - 1, &self.part);
                self.part = Blake3::of_part(part);
            }
            let room = usize::try_from(PART_BYTES - self.at % PART_BYTES).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.part.update(now);
            self.at += now.len() as u64;
            bytes = later;
        }
    }

    /// Whole parts so far that something comes after.
    pub fn whole_parts(&self) -> u64 {
        (self.at - self.part.0.count()) / PART_BYTES
    }

    /// Digests of the subtrees that are made of them: one for each bit of their number, or one more.
    pub fn subtrees(&self) -> Vec<ContentDigest> {
        self.parts.subtrees.values().map(|(_, sum)| *sum).collect()
    }

    /// The digest of all bytes; none where those before were some that something came after, and nothing has come.
    pub fn digest(mut self) -> Option<ContentDigest> {
        let last = self.whole_parts();
        if last == 0 && self.parts.subtrees.is_empty() {
            return Some(self.part.digest());
        }
        self.parts.parts = last + 1;
        self.parts.add(last, &self.part);
        self.parts.digest()
    }
}

/// The xxh64 (seed 0) of a file's last bytes, as the skip test compares it.
pub type TailHash = u64;

/// The xxh64 (seed 0) of `bytes`.
pub fn xxh64(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh64::xxh64(bytes, 0)
}

/// xxh64 (seed 0) over bytes that arrive in pieces.
#[derive(Clone)]
pub struct Xxh64(xxhash_rust::xxh64::Xxh64);

impl Xxh64 {
    /// The state before the first byte.
    pub fn new() -> Self {
        Self(xxhash_rust::xxh64::Xxh64::new(0))
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes so far; more may follow.
    pub fn digest(&self) -> u64 {
        self.0.digest()
    }
}

impl Default for Xxh64 {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Xxh64 {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Xxh64({:016x})", self.digest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // From the xxHash specification's sanity checks and `printf … | xxhsum -H64`.
        for (text, digest) in [
            ("", 0xef46_db37_51d8_e999),
            ("a", 0xd24e_c4f1_a98c_6e5b),
            ("abc", 0x44bc_2cf5_ad77_0999),
            ("Nobody inspects the spammish repetition", 0xfbce_a83c_8a37_8bf1),
        ] {
            assert_eq!(xxh64(text.as_bytes()), digest, "{text:?}");
        }
    }

    #[test]
    fn blake3_of_nothing_and_of_pieces() {
        // From the BLAKE3 test vectors: the empty input.
        let empty = Blake3::default().digest();
        assert_eq!(empty[..4], [0xaf, 0x13, 0x49, 0xb9]);
        let mut pieces = Blake3::default();
        pieces.update(b"ab");
        pieces.update(b"c");
        // b3sum of `abc`.
        assert_eq!(pieces.digest()[..4], [0x64, 0x37, 0xb3, 0xac]);
    }

    /// Files of any number of parts, which come in any order; the last one is as long as it is. Parts of zeros are quick.
    #[test]
    fn parts_equal_the_whole() {
        let piece = vec![5; 1 << 20];
        for (size, turn) in [
            (PART_BYTES + 1, 1),
            (PART_BYTES + 1025, 0),
            (2 * PART_BYTES - 1, 1),
            (2 * PART_BYTES, 1),
            (2 * PART_BYTES + 1024, 2),
            (5 * PART_BYTES - 7, 3),
            (6 * PART_BYTES + 1023, 5),
        ] {
            let feed = |digest: &mut Blake3, from: u64, to: u64| {
                let mut at = from;
                while at < to {
                    let length = (to - at).min(piece.len() as u64);
                    digest.update(&piece[..usize::try_from(length).unwrap()]);
                    at += length;
                }
            };
            let mut whole = Blake3::default();
            feed(&mut whole, 0, size);
            let mut parts = Parts::new(size);
            let count = size.div_ceil(PART_BYTES);
            let mut order: Vec<u64> = (0..count).collect();
            order.rotate_left(turn);
            order.reverse();
            for (seen, part) in order.into_iter().enumerate() {
                assert_eq!(parts.digest(), None, "{size}: {seen} parts");
                let mut digest = Blake3::of_part(part);
                feed(&mut digest, part * PART_BYTES, size.min((part + 1) * PART_BYTES));
                parts.add(part, &digest);
            }
            assert_eq!(parts.digest(), Some(whole.digest()), "{size}");
        }
        let mut parts = Parts::new(PART_BYTES + 1);
        parts.add(0, &Blake3::of_part(0));
        assert_eq!(parts.digest(), None, "a part without bytes is none");
    }

    /// Files of some parts in their order, gone on with after each number of whole ones.
    #[test]
    fn what_grows_is_gone_on_with() {
        let piece = vec![5; usize::try_from(PART_BYTES).unwrap()];
        for (whole_parts, rest) in [
            (0, 0),
            (0, 5),
            (1, 0),
            (1, 1),
            (2, 0),
            (3, 1023),
            (4, 0),
            (5, 7),
            (8, 0),
            (9, 1),
        ] {
            let size = whole_parts * PART_BYTES + rest as u64;
            let mut whole = Blake3::default();
            let mut grown = Growing::default();
            for part in 0..=whole_parts {
                let subtrees = grown.subtrees();
                assert!(subtrees.len() <= 4, "{size}: {part}");
                // The last whole part comes once more: only what something comes after is noted.
                let noted = grown.whole_parts();
                assert_eq!(noted, part.saturating_sub(1), "{size}: {part}");
                let mut again = Growing::after(noted, &subtrees).unwrap();
                assert_eq!(&again.parts.subtrees, &grown.parts.subtrees, "{size}: {part}");
                if noted < part {
                    assert!(noted == 0 || again.clone().digest().is_none(), "{size}: {part}");
                    again.update(&piece);
                }
                grown = again;
                let bytes = if part < whole_parts { &piece[..] } else { &piece[..rest] };
                whole.update(bytes);
                // In two, wherever that is.
                let (some, more) = bytes.split_at(bytes.len() / 3);
                grown.update(some);
                grown.update(more);
            }
            assert_eq!(grown.digest(), Some(whole.digest()), "{size}");
        }
        assert!(Growing::after(3, &[[0; 32]; 3]).is_none());
    }

    #[test]
    fn pieces_equal_the_whole() {
        let bytes: Vec<u8> = (0..100_003_u32)
            .map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1])
            .collect();
        // Piece sizes around xxh64's 32-byte block.
        for piece in [1, 7, 31, 32, 33, 4096, 65_535, 100_003] {
            let mut state = Xxh64::new();
            bytes.chunks(piece).for_each(|chunk| state.update(chunk));
            assert_eq!(state.digest(), xxh64(&bytes), "pieces of {piece}");
        }
    }
}
