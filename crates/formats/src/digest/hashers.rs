//! Digests as manifests have them: of several algorithms, in one pass over the bytes, and as hexadecimal text.
//!
//! Comes in: the bytes of a file, in pieces of any size. Goes out: a digest for each algorithm that was asked for.
//! Promises: how the bytes are cut into pieces changes nothing.

use std::cmp::Reverse;

use md5::Md5;
use sha2::{Digest as _, Sha256, Sha512};
use xxhash_rust::xxh3::Xxh3;

use super::lanes::blake3_of;

/// The longest digest there is, SHA-512's.
const LONGEST: usize = 64;
/// So many bytes go through all algorithms before the next: they stay in the cache of the processor, and are enough for
/// the widest lanes of BLAKE3.
const BLOCK_BYTES: usize = 64 << 10;

/// How a digest is made. Digests of one file have this order everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// BLAKE3 with 256 bits, the default; as `b3sum` prints it.
    Blake3,
    /// SHA-256 (FIPS 180-4); as `sha256sum` prints it.
    Sha256,
    /// SHA-512 (FIPS 180-4); as `sha512sum` prints it.
    Sha512,
    /// MD5 (RFC 1321); as `md5sum` prints it. It proves nothing where somebody means harm.
    Md5,
    /// CRC-32C (Castagnoli, RFC 3720), most significant byte first; as `rhash --crc32c` and object stores have it.
    Crc32c,
    /// XXH3 with 64 bits and seed 0, most significant byte first; as `xxhsum -H3` prints it.
    Xxh3,
}

impl Algorithm {
    /// All of them, in their order.
    pub const ALL: [Self; 6] = [
        Self::Blake3,
        Self::Sha256,
        Self::Sha512,
        Self::Md5,
        Self::Crc32c,
        Self::Xxh3,
    ];

    /// Its name in options, JSON, `BagIt` and hashdeep.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blake3 => "blake3",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Md5 => "md5",
            Self::Crc32c => "crc32c",
            Self::Xxh3 => "xxh3",
        }
    }

    /// Its name in lines as BSD's tools write them, and in names of files (`SHA256SUMS`).
    pub fn tag(self) -> &'static str {
        match self {
            Self::Blake3 => "BLAKE3",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
            Self::Md5 => "MD5",
            Self::Crc32c => "CRC32C",
            Self::Xxh3 => "XXH3",
        }
    }

    /// The algorithm that has this name: in any case, with or without `-` and `_`; also `b3`, `sha2-256` and `sha2-512`
    /// (OpenSSL) and `xxh3-64`.
    pub fn named(name: &[u8]) -> Option<Self> {
        let plain: Vec<u8> = name
            .iter()
            .filter(|byte| !matches!(byte, b'-' | b'_'))
            .map(u8::to_ascii_lowercase)
            .collect();
        match &plain[..] {
            b"blake3" | b"b3" => Some(Self::Blake3),
            b"sha256" | b"sha2256" => Some(Self::Sha256),
            b"sha512" | b"sha2512" => Some(Self::Sha512),
            b"md5" => Some(Self::Md5),
            b"crc32c" => Some(Self::Crc32c),
            b"xxh3" | b"xxh364" => Some(Self::Xxh3),
            _ => None,
        }
    }

    /// The length of its digests in bytes; in hexadecimal digits it is twice that.
    pub fn digest_bytes(self) -> usize {
        match self {
            Self::Blake3 | Self::Sha256 => 32,
            Self::Sha512 => 64,
            Self::Md5 => 16,
            Self::Crc32c => 4,
            Self::Xxh3 => 8,
        }
    }

    /// The algorithms whose digests have so many hexadecimal digits: two for 64, BLAKE3 and SHA-256.
    pub fn of_digits(digits: usize) -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(move |algorithm| algorithm.digest_bytes() * 2 == digits)
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A digest and the algorithm that made it. Shown as lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    /// Zeros after the digest.
    bytes: [u8; LONGEST],
}

impl Digest {
    /// A digest from its bytes; `None` where these are not as many as the algorithm has.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        let mut digest = Self {
            algorithm,
            bytes: [0; LONGEST],
        };
        if bytes.len() != algorithm.digest_bytes() {
            return None;
        }
        digest.bytes[..bytes.len()].copy_from_slice(bytes);
        Some(digest)
    }

    /// A digest from hexadecimal digits of either case; `None` where it is not that, or of another length.
    pub fn from_hex(algorithm: Algorithm, hex: &[u8]) -> Option<Self> {
        if hex.len() != algorithm.digest_bytes() * 2 {
            return None;
        }
        let mut digest = Self {
            algorithm,
            bytes: [0; LONGEST],
        };
        for (byte, pair) in digest.bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(digest)
    }

    /// What made it.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its bytes, in the order in which they are printed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.digest_bytes()]
    }

    /// Appends its lower-case hexadecimal digits.
    pub fn write_hex(&self, text: &mut Vec<u8>) {
        let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
        text.extend(
            self.bytes()
                .iter()
                .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]),
        );
    }
}

/// The value of a hexadecimal digit.
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.bytes().iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{self}", self.algorithm)
    }
}

/// The state of one algorithm.
#[derive(Clone)]
enum Hasher {
    Blake3(Box<blake3::Hasher>),
    Sha256(Sha256),
    Sha512(Sha512),
    Md5(Md5),
    Crc32c(u32),
    Xxh3(Box<Xxh3>),
}

impl Hasher {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Blake3 => Self::Blake3(Box::default()),
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
            Algorithm::Md5 => Self::Md5(Md5::new()),
            Algorithm::Crc32c => Self::Crc32c(0),
            Algorithm::Xxh3 => Self::Xxh3(Box::default()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Blake3(state) => {
                state.update(bytes);
            }
            Self::Sha256(state) => state.update(bytes),
            Self::Sha512(state) => state.update(bytes),
            Self::Md5(state) => state.update(bytes),
            Self::Crc32c(state) => *state = crc32c::crc32c_append(*state, bytes),
            Self::Xxh3(state) => state.update(bytes),
        }
    }

    /// About how long a byte takes, beside the others, where the processor knows nothing of SHA.
    fn cost(&self) -> u32 {
        match self {
            Self::Sha256(_) => 8,
            Self::Sha512(_) | Self::Md5(_) => 5,
            Self::Blake3(_) | Self::Crc32c(_) | Self::Xxh3(_) => 1,
        }
    }

    /// The digest; the state is that before the first byte again.
    fn finish(&mut self) -> Digest {
        let mut bytes = [0; LONGEST];
        let mut keep = |digest: &[u8]| bytes[..digest.len()].copy_from_slice(digest);
        let algorithm = match self {
            Self::Blake3(state) => {
                keep(state.finalize().as_bytes());
                state.reset();
                Algorithm::Blake3
            }
            Self::Sha256(state) => {
                keep(&state.finalize_reset());
                Algorithm::Sha256
            }
            Self::Sha512(state) => {
                keep(&state.finalize_reset());
                Algorithm::Sha512
            }
            Self::Md5(state) => {
                keep(&state.finalize_reset());
                Algorithm::Md5
            }
            Self::Crc32c(state) => {
                keep(&std::mem::take(state).to_be_bytes());
                Algorithm::Crc32c
            }
            Self::Xxh3(state) => {
                keep(&state.digest().to_be_bytes());
                state.reset();
                Algorithm::Xxh3
            }
        };
        Digest { algorithm, bytes }
    }
}

/// Several algorithms over bytes that arrive in pieces.
#[derive(Clone)]
pub struct Hashers(Vec<Hasher>);

impl Hashers {
    /// The state before the first byte, for these algorithms; one that is there twice counts once.
    pub fn new(algorithms: &[Algorithm]) -> Self {
        let mut algorithms = algorithms.to_vec();
        algorithms.sort_unstable();
        algorithms.dedup();
        Self(algorithms.into_iter().map(Hasher::new).collect())
    }

    /// Whether BLAKE3 is all that is asked for, of which a file's digest adds up from its parts (`Parts`).
    pub fn adds_up(&self) -> bool {
        matches!(self.0[..], [Hasher::Blake3(_)])
    }

    /// How many algorithms there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        for block in blocks(bytes, self.0.len()) {
            self.0.iter_mut().for_each(|hasher| hasher.update(block));
        }
    }

    /// The algorithms in so many shares, or in fewer where there are fewer, for as many threads: each has to be given the same
    /// bytes. The first has the least to do.
    pub fn shares(&mut self, count: usize) -> Vec<Share<'_>> {
        let mut hashers: Vec<&mut Hasher> = self.0.iter_mut().collect();
        hashers.sort_by_key(|hasher| Reverse(hasher.cost()));
        let count = count.min(hashers.len());
        let mut shares: Vec<Share<'_>> = (0..count).map(|_| Share(Vec::new())).collect();
        for hasher in hashers {
            if let Some(lightest) = shares.iter_mut().min_by_key(|share| share.cost()) {
                lightest.0.push(hasher);
            }
        }
        shares.sort_by_key(Share::cost);
        shares
    }

    /// The digests of bytes that are all there is of a file, before whose first byte this is.
    pub fn whole(&mut self, bytes: &[u8]) -> Vec<Digest> {
        if let [Hasher::Blake3(_)] = self.0[..]
            && let Some(digest) = blake3_of(bytes).and_then(|digest| Digest::new(Algorithm::Blake3, &digest))
        {
            return vec![digest];
        }
        self.update(bytes);
        self.finish()
    }

    /// The digests of all bytes since the last call, in the order of [`Algorithm`]; the next file can follow.
    pub fn finish(&mut self) -> Vec<Digest> {
        self.0.iter_mut().map(Hasher::finish).collect()
    }
}

/// Some of several algorithms ([`Hashers::shares`]).
pub struct Share<'h>(Vec<&'h mut Hasher>);

impl Share<'_> {
    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        for block in blocks(bytes, self.0.len()) {
            self.0.iter_mut().for_each(|hasher| hasher.update(block));
        }
    }

    fn cost(&self) -> u32 {
        self.0.iter().map(|hasher| hasher.cost()).sum()
    }
}

/// Bytes as so many algorithms take them in, one after the other.
fn blocks(bytes: &[u8], algorithms: usize) -> std::slice::Chunks<'_, u8> {
    bytes.chunks(if algorithms == 1 {
        bytes.len().max(1)
    } else {
        BLOCK_BYTES
    })
}

impl std::fmt::Debug for Hashers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Hashers({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(algorithm: Algorithm, bytes: &[u8]) -> String {
        let mut hashers = Hashers::new(&[algorithm]);
        hashers.update(bytes);
        let digests = hashers.finish();
        assert_eq!(digests.len(), 1);
        assert_eq!(digests[0].algorithm(), algorithm);
        digests[0].to_string()
    }

    /// The input of the BLAKE3 test vectors.
    fn numbers(length: usize) -> Vec<u8> {
        (0..=250).cycle().take(length).collect()
    }

    /// The table of the BLAKE3 project (`test_vectors.json`), the first 32 bytes of `hash`.
    const BLAKE3: [(usize, &str); 35] = [
        (0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
        (1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"),
        (2, "7b7015bb92cf0b318037702a6cdd81dee41224f734684c2c122cd6359cb1ee63"),
        (3, "e1be4d7a8ab5560aa4199eea339849ba8e293d55ca0a81006726d184519e647f"),
        (4, "f30f5ab28fe047904037f77b6da4fea1e27241c5d132638d8bedce9d40494f32"),
        (5, "b40b44dfd97e7a84a996a91af8b85188c66c126940ba7aad2e7ae6b385402aa2"),
        (6, "06c4e8ffb6872fad96f9aaca5eee1553eb62aed0ad7198cef42e87f6a616c844"),
        (7, "3f8770f387faad08faa9d8414e9f449ac68e6ff0417f673f602a646a891419fe"),
        (8, "2351207d04fc16ade43ccab08600939c7c1fa70a5c0aaca76063d04c3228eaeb"),
        (63, "e9bc37a594daad83be9470df7f7b3798297c3d834ce80ba85d6e207627b7db7b"),
        (64, "4eed7141ea4a5cd4b788606bd23f46e212af9cacebacdc7d1f4c6dc7f2511b98"),
        (65, "de1e5fa0be70df6d2be8fffd0e99ceaa8eb6e8c93a63f2d8d1c30ecb6b263dee"),
        (127, "d81293fda863f008c09e92fc382a81f5a0b4a1251cba1634016a0f86a6bd640d"),
        (128, "f17e570564b26578c33bb7f44643f539624b05df1a76c81f30acd548c44b45ef"),
        (129, "683aaae9f3c5ba37eaaf072aed0f9e30bac0865137bae68b1fde4ca2aebdcb12"),
        (1023, "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11"),
        (1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"),
        (1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"),
        (2048, "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a"),
        (2049, "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030"),
        (3072, "b98cb0ff3623be03326b373de6b9095218513e64f1ee2edd2525c7ad1e5cffd2"),
        (3073, "7124b49501012f81cc7f11ca069ec9226cecb8a2c850cfe644e327d22d3e1cd3"),
        (4096, "015094013f57a5277b59d8475c0501042c0b642e531b0a1c8f58d2163229e969"),
        (4097, "9b4052b38f1c5fc8b1f9ff7ac7b27cd242487b3d890d15c96a1c25b8aa0fb995"),
        (5120, "9cadc15fed8b5d854562b26a9536d9707cadeda9b143978f319ab34230535833"),
        (5121, "628bd2cb2004694adaab7bbd778a25df25c47b9d4155a55f8fbd79f2fe154cff"),
        (6144, "3e2e5b74e048f3add6d21faab3f83aa44d3b2278afb83b80b3c35164ebeca205"),
        (6145, "f1323a8631446cc50536a9f705ee5cb619424d46887f3c376c695b70e0f0507f"),
        (7168, "61da957ec2499a95d6b8023e2b0e604ec7f6b50e80a9678b89d2628e99ada77a"),
        (7169, "a003fc7a51754a9b3c7fae0367ab3d782dccf28855a03d435f8cfe74605e7817"),
        (8192, "aae792484c8efe4f19e2ca7d371d8c467ffb10748d8a5a1ae579948f718a2a63"),
        (8193, "bab6c09cb8ce8cf459261398d2e7aef35700bf488116ceb94a36d0f5f1b7bc3b"),
        (
            16384,
            "f875d6646de28985646f34ee13be9a576fd515f76b5b0a26bb324735041ddde4",
        ),
        (
            31744,
            "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47",
        ),
        (
            102_400,
            "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085",
        ),
    ];

    #[test]
    fn blake3_test_vectors() {
        for (length, digest) in BLAKE3 {
            assert_eq!(hex(Algorithm::Blake3, &numbers(length)), digest, "{length} bytes");
            let whole = Hashers::new(&[Algorithm::Blake3]).whole(&numbers(length));
            assert_eq!(whole[0].to_string(), digest, "{length} bytes at once");
        }
    }

    /// NIST's examples of SHA-256 and SHA-512 (FIPS 180-2, and its additional test vectors around the lengths of blocks):
    /// a text and how often it stands there.
    const SHA2: [(&[u8], usize, &str, &str); 12] = [
        (
            b"",
            1,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
        ),
        (
            b"abc",
            1,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            1,
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            "204a8fc6dda82f0a0ced7beb8e08a41657c16ef468b228a8279be331a703c33596fd15c13b1b07f9aa1d3bea57789ca031ad85c7a71dd70354ec631238ca3445",
        ),
        (
            b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
            1,
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
            "8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018501d289e4900f7e4331b99dec4b5433ac7d329eeb6dd26545e96e55b874be909",
        ),
        (
            b"a",
            1_000_000,
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
            "e718483d0ce769644e2e42c7bc15b4638e1f98b13b2044285632a803afa973ebde0ff244877ea60a4cb0432ce577c31beb009c5c2c49aa2e4eadb217ad8cc09b",
        ),
        (
            b"\xbd",
            1,
            "68325720aabd7c82f30f554b313d0570c95accbb7dc4b5aae11204c08ffe732b",
            "296e2267d74c278daaaa940d17b0cfb74a5083f8e069726d8c841cbe596e0431cb7741a5b50f71666cfd54bacb7b00aea891499cf4ef6a03c8a83fe37c3f7baf",
        ),
        (
            b"\xc9\x8c\x8e\x55",
            1,
            "7abc22c0ae5af26ce93dbb94433a0e0b2e119d014f8e7f65bd56c61ccccd9504",
            "09a985c15fa5cc68a8968ffaeaf3b5ec234569ad567450394c075b9061c8f7df58ff11299570188216c631de604df0ab08cdd193291ce5763acdc427df060489",
        ),
        (
            b"\0",
            55,
            "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7",
            "2c2481278f62cd07726383b036775306ae6b693f199a6c700f735fe22507c9084bb91ce5f6458d3c3926514970226c563464723aa99c210b77518830576f8c0b",
        ),
        (
            b"\0",
            56,
            "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb",
            "2146aa8ab60c48acff43ae8c33c5da4c2586f20a39f8f1308aefb6f833b758ad7158bd5e9a386e45feba446f33855d393857b557fe8ba6fe52364e7a7af3be9b",
        ),
        (
            b"\0",
            111,
            "24b920fb2f49f521a4fce8f8d0bca1098aa7b380733f96fd6de736dca5006a2e",
            "77ddd3a542e530fd047b8977c657ba6ce72f1492e360b2b2212cd264e75ec03882e4ff0525517ab4207d14c70c2259ba88d4d335ee0e7e20543d22102ab1788c",
        ),
        (
            b"\0",
            112,
            "b5fdab78d8947eacc864bfeecb4d2100780e5afe1cd8efafb124887913ac49fa",
            "2be2e788c8a8adeaa9c89a7f78904cacea6e39297d75e0573a73c756234534d6627ab4156b48a6657b29ab8beb73334040ad39ead81446bb09c70704ec707952",
        ),
        (
            b"A",
            1_000,
            "c2e686823489ced2017f6059b8b239318b6364f6dcd835d0a519105a1eadd6e4",
            "329c52ac62d1fe731151f2b895a00475445ef74f50b979c6f7bb7cae349328c1d4cb4f7261a0ab43f936a24b000651d4a824fcdd577f211aef8f806b16afe8af",
        ),
    ];

    #[test]
    fn sha2_examples() {
        for (text, times, sha256, sha512) in SHA2 {
            let bytes = text.repeat(times);
            assert_eq!(hex(Algorithm::Sha256, &bytes), sha256, "{} bytes", bytes.len());
            assert_eq!(hex(Algorithm::Sha512, &bytes), sha512, "{} bytes", bytes.len());
        }
    }

    /// The test suite of RFC 1321, appendix A.5.
    #[test]
    fn md5_test_suite() {
        for (text, digest) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("a", "0cc175b9c0f1b6a831c399e269772661"),
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
            (
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
                "d174ab98d277d9f5a5611c2c9f419d9f",
            ),
            (
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                "57edf4a22be3c955ac49da2e2107b67a",
            ),
        ] {
            assert_eq!(hex(Algorithm::Md5, text.as_bytes()), digest, "{text:?}");
        }
    }

    /// The examples of RFC 3720, appendix B.4 (there with the least significant byte first), and the check value of the
    /// catalogue of CRCs.
    #[test]
    fn crc32c_examples() {
        let read_command = [
            0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0, 0, 0, 0, 0x14, 0, 0, 0,
            0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0,
        ];
        let up: Vec<u8> = (0..32).collect();
        let down: Vec<u8> = (0..32).rev().collect();
        for (bytes, digest) in [
            (&[0; 32][..], "8a9136aa"),
            (&[0xff; 32], "62a8ab43"),
            (&up, "46dd794e"),
            (&down, "113fdb5c"),
            (&read_command, "d9963a56"),
            (b"123456789", "e3069283"),
            (b"", "00000000"),
        ] {
            assert_eq!(hex(Algorithm::Crc32c, bytes), digest);
        }
    }

    /// The sanity checks of the xxHash project (XXH3 with 64 bits, seed 0) on its test buffer.
    #[test]
    fn xxh3_sanity() {
        let mut generator = 2_654_435_761_u64;
        let buffer: Vec<u8> = (0..2367)
            .map(|_| {
                let byte = generator.to_be_bytes()[0];
                generator = generator.wrapping_mul(11_400_714_785_074_694_797);
                byte
            })
            .collect();
        for (length, digest) in [
            (0, "2d06800538d394c2"),
            (1, "c44bdff4074eecdb"),
            (6, "27b56a84cd2d7325"),
            (12, "a713daf0dfbb77e7"),
            (24, "a3fe70bf9d3510eb"),
            (48, "397da259ecba1f11"),
            (80, "bcdefbbb2c47c90a"),
            (195, "cd94217ee362ec3a"),
            (403, "cdeb804d65c6dea4"),
            (512, "617e49599013cb6b"),
            (2048, "dd59e2c3a5f038e0"),
            (2099, "c6b9d9b3fc9ac765"),
            (2240, "6e73a90539cf2948"),
            (2367, "cb37aeb9e5d361ed"),
        ] {
            assert_eq!(hex(Algorithm::Xxh3, &buffer[..length]), digest, "{length} bytes");
        }
    }

    #[test]
    fn several_at_once_are_the_same_as_each_alone_at_every_boundary() {
        let mut hashers = Hashers::new(&[
            Algorithm::Xxh3,
            Algorithm::Md5,
            Algorithm::Blake3,
            Algorithm::Sha512,
            Algorithm::Crc32c,
            Algorithm::Sha256,
            Algorithm::Md5,
        ]);
        // The lengths of blocks and chunks of the algorithms, and of what goes through all of them at once.
        for boundary in [
            1,
            32,
            56,
            64,
            112,
            128,
            240,
            256,
            1024,
            16 << 10,
            BLOCK_BYTES,
            2 * BLOCK_BYTES,
        ] {
            for length in boundary - 1..=boundary + 1 {
                let bytes = numbers(length);
                hashers.update(&bytes);
                let digests = hashers.finish();
                let found: Vec<_> = digests.iter().map(Digest::algorithm).collect();
                assert_eq!(found, Algorithm::ALL);
                for digest in digests {
                    assert_eq!(digest.to_string(), hex(digest.algorithm(), &bytes), "{length} bytes");
                }
            }
        }
        assert_eq!(Hashers::new(&[]).finish(), []);
    }

    #[test]
    fn names() {
        for algorithm in Algorithm::ALL {
            for name in [algorithm.name(), algorithm.tag()] {
                assert_eq!(Algorithm::named(name.as_bytes()), Some(algorithm));
            }
        }
        for (name, algorithm) in [
            ("b3", Algorithm::Blake3),
            ("SHA-256", Algorithm::Sha256),
            ("SHA2-512", Algorithm::Sha512),
            ("xxh3_64", Algorithm::Xxh3),
        ] {
            assert_eq!(Algorithm::named(name.as_bytes()), Some(algorithm), "{name}");
        }
        for name in ["", "sha1", "crc32", "xxh64", "xxh128", "blake2b", "sha512/256"] {
            assert_eq!(Algorithm::named(name.as_bytes()), None, "{name}");
        }
        let of = |digits| Algorithm::of_digits(digits).collect::<Vec<_>>();
        assert_eq!(of(64), [Algorithm::Blake3, Algorithm::Sha256]);
        assert_eq!(of(32), [Algorithm::Md5]);
        assert_eq!(of(40), []);
    }

    #[test]
    fn hexadecimal() {
        let digest = Digest::from_hex(Algorithm::Crc32c, b"00fFAb9c").unwrap();
        assert_eq!(digest.bytes(), [0, 0xff, 0xab, 0x9c]);
        assert_eq!(format!("{digest} {digest:?}"), "00ffab9c crc32c:00ffab9c");
        assert_eq!(Digest::new(Algorithm::Crc32c, digest.bytes()), Some(digest));
        for hex in ["", "00ffab9", "00ffab9c0", "00ffab9g", "00ffab 9", "0x00ffab"] {
            assert_eq!(Digest::from_hex(Algorithm::Crc32c, hex.as_bytes()), None, "{hex}");
        }
        assert_eq!(Digest::new(Algorithm::Crc32c, &[0; 5]), None);
    }

    proptest! {
        // Each case hashes a lot.
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_split_gives_the_same(cuts in prop::collection::vec(0..70_000_usize, 0..12)) {
            let bytes = numbers(70_000);
            let mut whole = Hashers::new(&Algorithm::ALL);
            whole.update(&bytes);
            let mut pieces = Hashers::new(&Algorithm::ALL);
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut from = 0;
            for cut in cuts {
                pieces.update(&bytes[from..cut]);
                from = cut;
            }
            pieces.update(&bytes[from..]);
            prop_assert_eq!(pieces.finish(), whole.finish());
        }

        #[test]
        fn shares_give_the_same(which in prop::collection::vec(0..6_usize, 0..8), count in 1..9_usize) {
            let algorithms: Vec<Algorithm> = which.into_iter().map(|which| Algorithm::ALL[which]).collect();
            let bytes = numbers(70_001);
            let (mut whole, mut shared) = (Hashers::new(&algorithms), Hashers::new(&algorithms));
            whole.update(&bytes);
            let shares = shared.shares(count);
            prop_assert_eq!(shares.len(), count.min(whole.count()));
            prop_assert!(shares.iter().all(|share| !share.0.is_empty() && share.cost() >= shares[0].cost()));
            for mut share in shares {
                bytes.chunks(30_000).for_each(|piece| share.update(piece));
            }
            prop_assert_eq!(shared.finish(), whole.finish());
        }

        #[test]
        fn hexadecimal_reads_back(bytes: [u8; 64], which in 0..6_usize) {
            let algorithm = Algorithm::ALL[which];
            let digest = Digest::new(algorithm, &bytes[..algorithm.digest_bytes()]).unwrap();
            let mut hex = Vec::new();
            digest.write_hex(&mut hex);
            prop_assert_eq!(&hex, &digest.to_string().into_bytes());
            prop_assert_eq!(Digest::from_hex(algorithm, &hex), Some(digest));
            prop_assert_eq!(Digest::from_hex(algorithm, &hex.to_ascii_uppercase()), Some(digest));
        }
    }
}
