//! `BLAKE2b` with 64 bytes of output and without a key, as RFC 7693 has it: what hpcp hashes with where it has no xxh64.

const BLOCK_BYTES: usize = 128;
const ROUNDS: usize = 12;

const IV: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

const SIGMA: [[usize; 16]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];

/// Which words of the state a step mixes: four columns, then four diagonals.
const LANES: [[usize; 4]; 8] = [
    [0, 4, 8, 12],
    [1, 5, 9, 13],
    [2, 6, 10, 14],
    [3, 7, 11, 15],
    [0, 5, 10, 15],
    [1, 6, 11, 12],
    [2, 7, 8, 13],
    [3, 4, 9, 14],
];

/// `BLAKE2b` over bytes that arrive in pieces.
#[derive(Clone, Debug)]
pub struct Blake2b {
    state: [u64; 8],
    /// Bytes that were taken in, without those that wait.
    taken: u128,
    waiting: [u8; BLOCK_BYTES],
    waits: usize,
}

impl Default for Blake2b {
    fn default() -> Self {
        let mut state = IV;
        // The parameter block: 64 bytes of output, no key, no tree.
        state[0] ^= 0x0101_0040;
        Self {
            state,
            taken: 0,
            waiting: [0; BLOCK_BYTES],
            waits: 0,
        }
    }
}

impl Blake2b {
    /// Takes in the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // The last block is compressed otherwise, so one always waits.
            if self.waits == BLOCK_BYTES {
                self.compress(BLOCK_BYTES, false);
                self.waits = 0;
            }
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.waits));
            self.waiting[self.waits..self.waits + now.len()].copy_from_slice(now);
            self.waits += now.len();
            bytes = later;
        }
    }

    /// The digest of all bytes so far.
    pub fn digest(mut self) -> [u8; 64] {
        self.waiting[self.waits..].fill(0);
        self.compress(self.waits, true);
        let mut digest = [0; 64];
        for (out, word) in digest.chunks_exact_mut(8).zip(self.state) {
            out.copy_from_slice(&word.to_le_bytes());
        }
        digest
    }

    #[allow(clippy::cast_possible_truncation, reason = "the two halves of a counter")]
    fn compress(&mut self, bytes: usize, last: bool) {
        self.taken += bytes as u128;
        let mut message = [0; 16];
        for (word, bytes) in message.iter_mut().zip(self.waiting.chunks_exact(8)) {
            *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        let mut v = [0; 16];
        v[..8].copy_from_slice(&self.state);
        v[8..].copy_from_slice(&IV);
        v[12] ^= self.taken as u64;
        v[13] ^= (self.taken >> 64) as u64;
        if last {
            v[14] = !v[14];
        }
        for round in 0..ROUNDS {
            let order = &SIGMA[round % SIGMA.len()];
            for (step, lane) in LANES.iter().enumerate() {
                mix(&mut v, *lane, [message[order[2 * step]], message[order[2 * step + 1]]]);
            }
        }
        for (index, word) in self.state.iter_mut().enumerate() {
            *word ^= v[index] ^ v[index + 8];
        }
    }
}

#[allow(clippy::many_single_char_names, reason = "as the RFC calls them")]
fn mix(v: &mut [u64; 16], [a, b, c, d]: [usize; 4], words: [u64; 2]) {
    for (word, turns) in words.into_iter().zip([[32, 24], [16, 63]]) {
        v[a] = v[a].wrapping_add(v[b]).wrapping_add(word);
        v[d] = (v[d] ^ v[a]).rotate_right(turns[0]);
        v[c] = v[c].wrapping_add(v[d]);
        v[b] = (v[b] ^ v[c]).rotate_right(turns[1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(pieces: &[&[u8]]) -> String {
        let mut hash = Blake2b::default();
        for piece in pieces {
            hash.update(piece);
        }
        let digits = hash.digest().map(|byte| format!("{byte:02x}"));
        digits.concat()
    }

    #[test]
    fn as_the_rfc_has_it() {
        assert!(hex(&[b"abc"]).starts_with("ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"));
        assert!(hex(&[]).starts_with("786a02f742015903c6c6fd852552d272912f4740e15847618a86e217f71f5419"));
    }

    #[test]
    fn pieces_make_no_difference() {
        // As Python's hashlib has them.
        for (length, expected) in [
            (127, "b6292669ccd38d5f"),
            (128, "2319e3789c47e2da"),
            (129, "f59711d44a031d5f"),
            (1000, "c11e1c0340bd7e5a"),
        ] {
            let bytes: Vec<u8> = (0..length).map(|n: u32| u8::try_from(n % 251).unwrap()).collect();
            let whole = hex(&[&bytes]);
            assert!(whole.starts_with(expected), "{length}: {whole}");
            for piece in [1, 64, 127, 128, 129] {
                assert_eq!(hex(&bytes.chunks(piece).collect::<Vec<_>>()), whole);
            }
        }
    }
}
