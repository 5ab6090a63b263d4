//! Objects of JSON (RFC 8259) as they are written, as `JSON.stringify` of the library's reporter does.
//!
//! Comes in: keys and values, in their order; goes out: text without its end. A name that is not UTF-8 is there twice: with
//! U+FFFD for what is none, and its bytes in base64 (RFC 4648).

/// An object that is being written.
pub(crate) struct Object<'a> {
    pub(crate) line: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    /// Behind what is there.
    pub(crate) fn begin(line: &'a mut Vec<u8>) -> Self {
        Self { line, first: true }
    }

    pub(crate) fn key(&mut self, key: &str) {
        self.line.push(if self.first { b'{' } else { b',' });
        self.first = false;
        quote(key, self.line);
        self.line.push(b':');
    }

    pub(crate) fn end(self) {
        if self.first {
            self.line.push(b'{');
        }
        self.line.push(b'}');
    }

    pub(crate) fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        quote(text, self.line);
    }

    pub(crate) fn number(&mut self, key: &str, number: Option<impl Into<u64>>) {
        if let Some(number) = number {
            self.key(key);
            self.line.extend_from_slice(number.into().to_string().as_bytes());
        }
    }

    /// As text: JSON's numbers lose some of it.
    pub(crate) fn time(&mut self, key: &str, time: Option<i128>) {
        if let Some(time) = time {
            self.text(key, &time.to_string());
        }
    }

    pub(crate) fn name(&mut self, key: &str, bytes_key: &str, name: &[u8]) {
        let text = String::from_utf8_lossy(name);
        self.text(key, &text);
        if text.as_bytes() != name {
            self.text(bytes_key, &to_base64(name));
        }
    }
}

/// Appends a text as JSON has it.
pub(crate) fn quote(text: &str, line: &mut Vec<u8>) {
    line.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(plain) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
        line.extend_from_slice(&rest[..plain]);
        match rest[plain] {
            b'"' => line.extend_from_slice(b"\\\""),
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            0x08 => line.extend_from_slice(b"\\b"),
            0x0c => line.extend_from_slice(b"\\f"),
            byte => line.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
        rest = &rest[plain + 1..];
    }
    line.extend_from_slice(rest);
    line.push(b'"');
}

/// The digits of base64 (RFC 4648, section 4).
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Bytes as such digits.
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let group = u32::from_be_bytes(group);
        for at in 0..4_u32 {
            let digit = BASE64[(group >> (18 - 6 * at) & 63) as usize];
            text.push(if at as usize <= chunk.len() { digit.into() } else { '=' });
        }
    }
    text
}

/// The bytes; `None` where it is not what [`to_base64`] gives for them.
pub(crate) fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in text.chunks(4) {
        let mut group = 0_u32;
        for digit in chunk {
            let value = BASE64.iter().position(|known| known == digit).unwrap_or_default();
            group = group << 6 | u32::try_from(value).ok()?;
        }
        bytes.extend_from_slice(&group.to_be_bytes()[1..]);
    }
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    bytes.truncate(bytes.len().checked_sub(padding)?);
    (to_base64(&bytes).as_bytes() == text).then_some(bytes)
}
