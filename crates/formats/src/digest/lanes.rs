//! The BLAKE3 of a small file that is at hand as a whole.
//!
//! Comes in: its bytes; goes out: its digest. The chunks of BLAKE3, of 1 KiB each, are hashed side by side in the lanes of the
//! processor. `blake3` takes so many at a time as lanes are full, and of what is left over again the most that fill some: 13
//! chunks are 8, 4 and 1, which take nearly as long each. Here lanes stay empty instead, and all of it is one turn, which
//! halves the time that files of 0 to 16 KiB take. What takes the lanes is no documented part of `blake3`, whose version is
//! pinned for it.

use blake3::IncrementCounter;
use blake3::hazmat::{HasherExt as _, Mode, merge_subtrees_root};
use blake3::platform::Platform;

use super::ContentDigest;

const CHUNK_BYTES: usize = 1024;
const SUM_BYTES: usize = 32;
/// What two sums are hashed as.
const PAIR_BYTES: usize = 2 * SUM_BYTES;
/// Lanes of the widest processors.
const LANES: usize = 16;

/// Section 2.2 of the specification of BLAKE3: what any hash begins with, and what is said of blocks.
const IV: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];
const CHUNK_START: u8 = 1 << 0;
const CHUNK_END: u8 = 1 << 1;
const PARENT: u8 = 1 << 2;

/// How chunks, or pairs of sums, are hashed.
struct Kind {
    counted: IncrementCounter,
    flags: u8,
    start: u8,
    end: u8,
}

const CHUNKS: Kind = Kind {
    counted: IncrementCounter::Yes,
    flags: 0,
    start: CHUNK_START,
    end: CHUNK_END,
};
const PAIRS: Kind = Kind {
    counted: IncrementCounter::No,
    flags: PARENT,
    start: 0,
    end: 0,
};

/// The BLAKE3 of bytes that are all there is; `None`: they are so few or so many that nothing is gained.
pub fn blake3_of(bytes: &[u8]) -> Option<ContentDigest> {
    let (chunks, rest) = bytes.as_chunks::<CHUNK_BYTES>();
    // A chunk that is all there is has no sum, but is the root.
    if chunks.is_empty() || chunks.len() > LANES || bytes.len() == CHUNK_BYTES {
        return None;
    }
    let mut sums = [[0; SUM_BYTES]; LANES + 1];
    side_by_side(chunks, &CHUNKS, &mut sums);
    let mut count = chunks.len();
    if !rest.is_empty() {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset((count * CHUNK_BYTES) as u64);
        sums[count] = hasher.update(rest).finalize_non_root();
        count += 1;
    }
    while count > 2 {
        let below = sums;
        let (pairs, odd) = below[..count].as_flattened().as_chunks::<PAIR_BYTES>();
        side_by_side(pairs, &PAIRS, &mut sums);
        count = pairs.len();
        if !odd.is_empty() {
            sums[count] = below[2 * count];
            count += 1;
        }
    }
    Some(*merge_subtrees_root(&sums[0], &sums[1], Mode::Hash).as_bytes())
}

/// The sums of no more than [`LANES`] inputs, in one turn where the processor has so many lanes.
fn side_by_side<const N: usize>(inputs: &[[u8; N]], kind: &Kind, sums: &mut [[u8; SUM_BYTES]; LANES + 1]) {
    let Some(first) = inputs.first() else { return };
    let platform = Platform::detect();
    let over = inputs.len() % platform.simd_degree();
    let lanes = inputs.len() - over + if over == 0 { 0 } else { over.next_power_of_two() };
    // What nobody asks for is in lanes that would be empty.
    let mut all = [first; LANES];
    all.iter_mut().zip(inputs).for_each(|(lane, input)| *lane = input);
    platform.hash_many(
        &all[..lanes],
        &IV,
        0,
        kind.counted,
        kind.flags,
        kind.start,
        kind.end,
        sums.as_flattened_mut(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_what_blake3_makes_of_it() {
        let content: Vec<u8> = (0_u32..20_000)
            .map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0])
            .collect();
        for chunks in 0..=LANES + 1 {
            for more in [0, 1, 2, 63, 64, 65, 127, 128, 511, 512, 960, 1022, 1023] {
                let bytes = &content[..chunks * CHUNK_BYTES + more];
                let expected = (1..=LANES).contains(&chunks) && bytes.len() > CHUNK_BYTES;
                let digest = expected.then(|| *blake3::hash(bytes).as_bytes());
                assert_eq!(blake3_of(bytes), digest, "{} bytes", bytes.len());
            }
        }
    }
}
