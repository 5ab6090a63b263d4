//! UTF-16 as UTF-8: PowerShell's `>` writes what a tool says as UTF-16.
//!
//! Comes in: bytes, in pieces of any size; goes out: the same text as UTF-8, without its byte order mark. Holds three bytes.

/// Makes UTF-8 of UTF-16.
#[derive(Clone, Debug)]
pub struct Utf16 {
    of_bytes: fn([u8; 2]) -> u16,
    /// A half of a unit.
    half: Option<u8>,
    /// The first unit of two.
    high: Option<u16>,
    /// The byte order mark has not come yet.
    begins: bool,
}

/// It ends in the middle of a character, or has what is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it begins as UTF-16, and is none")]
pub struct NoUtf16;

impl Utf16 {
    /// For what begins so; `None`: it is no UTF-16 that says so.
    pub fn of(head: &[u8]) -> Option<Self> {
        let of_bytes = match head {
            [0xff, 0xfe, ..] => u16::from_le_bytes,
            [0xfe, 0xff, ..] => u16::from_be_bytes,
            _ => return None,
        };
        Some(Self {
            of_bytes,
            half: None,
            high: None,
            begins: true,
        })
    }

    /// Appends the text of the next bytes.
    pub fn read(&mut self, bytes: &[u8], text: &mut Vec<u8>) -> Result<(), NoUtf16> {
        for byte in bytes {
            let Some(half) = self.half.take() else {
                self.half = Some(*byte);
                continue;
            };
            let unit = (self.of_bytes)([half, *byte]);
            if std::mem::take(&mut self.begins) {
                continue;
            }
            let units = match self.high.take() {
                None if (0xd800..0xdc00).contains(&unit) => {
                    self.high = Some(unit);
                    continue;
                }
                None => vec![unit],
                Some(high) => vec![high, unit],
            };
            for char in char::decode_utf16(units) {
                let char = char.map_err(|_| NoUtf16)?;
                text.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        Ok(())
    }

    /// Nothing follows.
    pub fn finish(&self) -> Result<(), NoUtf16> {
        if self.half.is_some() || self.high.is_some() {
            return Err(NoUtf16);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Read in two pieces.
    fn read(bytes: &[u8], at: usize) -> Result<Vec<u8>, NoUtf16> {
        let mut text = Vec::new();
        let mut reader = Utf16::of(bytes).ok_or(NoUtf16)?;
        let (first, second) = bytes.split_at(at.min(bytes.len()));
        reader.read(first, &mut text)?;
        reader.read(second, &mut text)?;
        reader.finish()?;
        Ok(text)
    }

    proptest! {
        #[test]
        fn gives_the_text_wherever_it_is_cut(text in any::<String>(), big in any::<bool>(), at in 0..200_usize) {
            let to_bytes = if big { u16::to_be_bytes } else { u16::to_le_bytes };
            let marked = format!("\u{feff}{text}");
            let bytes: Vec<u8> = marked.encode_utf16().flat_map(to_bytes).collect();
            prop_assert_eq!(read(&bytes, at), Ok(text.into_bytes()));
            prop_assert_eq!(read(&bytes[..bytes.len() - 1], at), Err(NoUtf16));
        }

        #[test]
        fn is_text_whatever_comes(bytes in proptest::collection::vec(any::<u8>(), 0..60), at in 0..60_usize) {
            let read = read(&[&[0xff, 0xfe], &bytes[..]].concat(), at);
            let units: Vec<u16> = bytes.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
            let text = String::from_utf16(&units).ok().filter(|_| bytes.len() % 2 == 0);
            prop_assert_eq!(read.ok(), text.map(String::into_bytes));
        }
    }

    #[test]
    fn says_what_is_none() {
        assert!(Utf16::of(b"").is_none() && Utf16::of(b"\xff").is_none() && Utf16::of(b"\xef\xbb\xbf").is_none());
    }
}
