//! Names of unfinished entries: `.bh-HHHHHHHH-DDDDDDDDDDDDDDDD`, and `-N` after it where that name was taken.
//!
//! Comes in: the tag of this host, the final name of an entry, and which attempt it is. Goes out: a name of at most
//! [`MAX_BYTES`] bytes, made from a digest and not from the name's text, so that it fits where a 255-byte name does.
//! Promises: [`parse`] recognises exactly the names that [`name`] makes.

use crate::digest::xxh64;

const PREFIX: &[u8] = b".bh-";
const HOST_DIGITS: usize = 8;
const DIGEST_DIGITS: usize = 16;
const BASE_BYTES: usize = PREFIX.len() + HOST_DIGITS + 1 + DIGEST_DIGITS;

/// The longest staging name: the base, a dash and the ten digits of `u32::MAX`.
pub const MAX_BYTES: usize = BASE_BYTES + 11;

/// A staging name in a buffer of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StagingName {
    bytes: [u8; MAX_BYTES],
    length: usize,
}

impl StagingName {
    /// The name, without a terminating NUL.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn push_hex(&mut self, value: u64, digits: usize) {
        for digit in (0..digits).rev() {
            let nibble = usize::try_from((value >> (4 * digit)) & 0xf).unwrap_or_default();
            self.push(&b"0123456789abcdef"[nibble..=nibble]);
        }
    }
}

impl std::fmt::Debug for StagingName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "StagingName({})", self.as_bytes().escape_ascii())
    }
}

/// What a staging name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Tag of the host that made it.
    pub host: u32,
    /// xxh64 of the final name.
    pub digest: u64,
    /// 0: the name without a number.
    pub attempt: u32,
}

/// The staging name of `final_name` on the host with this tag; `attempt` 0 has no number.
pub fn name(host: u32, final_name: &[u8], attempt: u32) -> StagingName {
    let mut name = StagingName {
        bytes: [0; MAX_BYTES],
        length: 0,
    };
    name.push(PREFIX);
    name.push_hex(host.into(), HOST_DIGITS);
    name.push(b"-");
    name.push_hex(xxh64(final_name), DIGEST_DIGITS);
    if attempt > 0 {
        name.push(b"-");
        // Ten decimal digits, the first of them that is not zero and all after it.
        let mut started = false;
        for power in (0..10).rev() {
            let digit = attempt / 10_u32.pow(power) % 10;
            started |= digit > 0;
            if started {
                name.push_hex(digit.into(), 1);
            }
        }
    }
    name
}

/// What `name` says when it is a staging name, written exactly as [`name`] writes it.
pub fn parse(name: &[u8]) -> Option<Parsed> {
    let rest = name.strip_prefix(PREFIX)?;
    let (host, rest) = hex(rest, HOST_DIGITS)?;
    let (digest, rest) = hex(rest.strip_prefix(b"-")?, DIGEST_DIGITS)?;
    let attempt = match rest {
        [] => 0,
        [b'-', first @ b'1'..=b'9', digits @ ..] => {
            digits.iter().try_fold(u32::from(first - b'0'), |number, byte| {
                let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
                number.checked_mul(10)?.checked_add(digit)
            })?
        }
        _ => return None,
    };
    Some(Parsed {
        host: u32::try_from(host).ok()?,
        digest,
        attempt,
    })
}

/// The value of the first `digits` lower-case hex digits, and what follows them.
fn hex(bytes: &[u8], digits: usize) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_at_checked(digits)?;
    let value = number.iter().try_fold(0_u64, |value, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })?;
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn written_form() {
        for (host, final_name, attempt, expected) in [
            (0, &b""[..], 0, &b".bh-00000000-ef46db3751d8e999"[..]),
            (0x00c0_ffee, b"abc", 0, b".bh-00c0ffee-44bc2cf5ad770999"),
            (0xffff_ffff, b"abc", 1, b".bh-ffffffff-44bc2cf5ad770999-1"),
            (1, b"a", 10, b".bh-00000001-d24ec4f1a98c6e5b-10"),
            (1, b"a", u32::MAX, b".bh-00000001-d24ec4f1a98c6e5b-4294967295"),
        ] {
            let made = name(host, final_name, attempt);
            assert_eq!(made.as_bytes(), expected);
            assert!(made.as_bytes().len() <= MAX_BYTES);
        }
    }

    #[test]
    fn other_names_are_refused() {
        for other in [
            &b""[..],
            b".bh-",
            b".bh-00000000-ef46db3751d8e99",
            b".bh-00000000-ef46db3751d8e9999",
            b".bh-00000000-ef46db3751d8e999-",
            b".bh-00000000-ef46db3751d8e999-0",
            b".bh-00000000-ef46db3751d8e999-01",
            b".bh-00000000-ef46db3751d8e999-1a",
            b".bh-00000000-ef46db3751d8e999-4294967296",
            b".bh-00000000-EF46DB3751D8E999",
            b".bh-0000000g-ef46db3751d8e999",
            b".bh-00000000_ef46db3751d8e999",
            b"bh-00000000-ef46db3751d8e999",
        ] {
            assert_eq!(parse(other), None, "{}", other.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn parse_reads_what_name_writes(host: u32, final_name: Vec<u8>, attempt: u32) {
            let made = name(host, &final_name, attempt);
            prop_assert_eq!(parse(made.as_bytes()), Some(Parsed { host, digest: xxh64(&final_name), attempt }));
        }

        #[test]
        fn what_parses_is_what_name_writes(text in r"\.bh-[0-9a-fA-F]{8}-[0-9a-f]{16}(-[0-9]{1,11})?") {
            if let Some(parsed) = parse(text.as_bytes()) {
                let base = name(parsed.host, b"", parsed.attempt);
                prop_assert_eq!(base.as_bytes().len(), text.len());
                prop_assert_eq!(&base.as_bytes()[..13], &text.as_bytes()[..13]);
                prop_assert_eq!(&base.as_bytes()[BASE_BYTES..], &text.as_bytes()[BASE_BYTES..]);
            }
        }
    }
}
