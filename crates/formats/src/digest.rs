//! Digests of content.
//!
//! Comes in: the bytes of a file, whole or in pieces. Goes out: its xxh64 (seed 0), the digest of the skip test, or its
//! BLAKE3, the digest of proof.

/// Bytes at the end of a file that the skip test hashes when nothing else is asked for: the default of hpcp
/// (`--hash_size`), so that both tools agree on what is unchanged.
pub const TAIL_BYTES: u64 = 65536;

/// The BLAKE3 of a whole file (256 bits).
pub type ContentDigest = [u8; 32];

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
