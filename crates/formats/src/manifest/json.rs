//! An entry as a line of JSON (RFC 8259), and back.
//!
//! Written as `JSON.stringify` of the library's reporter does. Read is any JSON of that meaning; a lone surrogate from
//! U+DC80 to U+DCFF is a byte, as in the strings that the library has for names.

use super::read::number;
use super::{Entry, Kind, Problem, text};
use crate::digest::{Algorithm, Digest};
use crate::json::{Object, from_base64};

/// The version of the lines; a property that is added does not change it.
const SCHEMA: u64 = 1;
/// Objects and lists in each other; ours have two.
const DEEPEST: usize = 16;
/// Properties of an object; ours have twelve.
const MOST: usize = 256;
/// The bits of a mode that are not the kind.
const MODE: u32 = 0o7777;
const NO_LINE: Problem = Problem::Line("a manifest in JSON");

/// The first line.
pub(crate) fn head(line: &mut Vec<u8>) {
    line.extend_from_slice(format!("{{\"type\":\"manifest\",\"schema\":{SCHEMA}}}\n").as_bytes());
}

/// Appends the line of an entry, without its end.
pub(super) fn write(entry: &Entry, line: &mut Vec<u8>) {
    let mut object = Object::begin(line);
    put(entry, &mut object);
    object.end();
}

/// The properties of an entry.
pub(crate) fn put(entry: &Entry, object: &mut Object<'_>) {
    object.name("path", "pathBase64", &entry.path);
    if let Some(kind) = entry.kind {
        object.text("kind", kind.name());
    }
    object.number("size", entry.size);
    object.time("mtimeNs", entry.mtime);
    object.time("ctimeNs", entry.ctime);
    object.number("mode", entry.mode.map(|mode| mode & MODE));
    object.number("user", entry.uid);
    object.number("group", entry.gid);
    if let Some(target) = &entry.target {
        object.name("target", "targetBase64", target);
    }
    object.number("linkGroup", entry.link_group);
    if !entry.digests.is_empty() {
        put_digests("digests", &entry.digests, object);
    }
}

/// Digests by the names of their algorithms.
pub(crate) fn put_digests(key: &str, all: &[Digest], object: &mut Object<'_>) {
    object.key(key);
    let mut digests = Object::begin(object.line);
    for digest in all {
        digests.key(digest.algorithm().name());
        digests.line.push(b'"');
        digest.write_hex(digests.line);
        digests.line.push(b'"');
    }
    digests.end();
}

/// Reads a line; `None` for a blank one and for the first.
pub(super) fn parse(line: &[u8]) -> Result<Option<Entry>, Problem> {
    let Some(mut properties) = properties(line)? else {
        return Ok(None);
    };
    if let Some(kind) = properties.take("type") {
        let schema = properties.take("schema");
        return match (kind, schema) {
            (Value::Text(kind), Some(Value::Number(schema))) if kind == b"manifest" => {
                if number(schema) == Some(SCHEMA) {
                    Ok(None)
                } else {
                    Err(Problem::Version {
                        format: "a manifest in JSON",
                        version: text(schema),
                    })
                }
            }
            // What an index of shards says beside its entries.
            (Value::Text(kind), _) if crate::shards::TYPES.contains(&&kind[..]) => Ok(None),
            _ => Err(NO_LINE),
        };
    }
    entry(&mut properties).map(Some)
}

/// The properties of a line's object, each until it is taken.
pub(crate) struct Properties<'a>(Vec<(Vec<u8>, Value<'a>)>);

impl<'a> Properties<'a> {
    fn take(&mut self, key: &str) -> Option<Value<'a>> {
        let at = self.0.iter().position(|(name, _)| name == key.as_bytes())?;
        Some(self.0.swap_remove(at).1)
    }

    /// A whole number.
    pub(crate) fn whole<T: std::str::FromStr>(&mut self, key: &str) -> Result<Option<T>, Problem> {
        self.take(key).as_ref().map(whole).transpose()
    }

    /// Text.
    pub(crate) fn text(&mut self, key: &str) -> Result<Option<Vec<u8>>, Problem> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(NO_LINE),
        }
    }

    /// Digests.
    pub(crate) fn digests(&mut self, key: &str) -> Result<Vec<Digest>, Problem> {
        Ok(self.take(key).map(digests).transpose()?.unwrap_or_default())
    }
}

/// The properties of a line; `None` for a blank one.
pub(crate) fn properties(line: &[u8]) -> Result<Option<Properties<'_>>, Problem> {
    // All of JSON is UTF-8; so strings need no look at that any more.
    std::str::from_utf8(line).map_err(|_| NO_LINE)?;
    let mut scanner = Scanner { rest: line };
    scanner.blanks();
    if scanner.rest.is_empty() {
        return Ok(None);
    }
    let value = scanner.value(0).ok_or(NO_LINE)?;
    scanner.blanks();
    match (value, scanner.rest.is_empty()) {
        (Value::Object(properties), true) => Ok(Some(Properties(properties))),
        _ => Err(NO_LINE),
    }
}

/// Takes an entry out of the properties.
pub(crate) fn entry(properties: &mut Properties<'_>) -> Result<Entry, Problem> {
    let mut take = |key: &str| properties.take(key);
    let mut entry = Entry {
        path: name(take("path"), take("pathBase64"), "path")?.ok_or(NO_LINE)?,
        ..Entry::default()
    };
    entry.kind = match take("kind") {
        None => None,
        Some(Value::Text(kind)) => Some(Kind::named(&kind).ok_or(NO_LINE)?),
        Some(_) => return Err(NO_LINE),
    };
    entry.size = take("size").as_ref().map(whole).transpose()?;
    entry.mtime = take("mtimeNs").as_ref().map(time).transpose()?;
    entry.ctime = take("ctimeNs").as_ref().map(time).transpose()?;
    entry.mode = take("mode").as_ref().map(whole).transpose()?;
    if entry.mode.is_some_and(|mode| mode > MODE) {
        return Err(NO_LINE);
    }
    entry.uid = take("user").as_ref().map(whole).transpose()?;
    entry.gid = take("group").as_ref().map(whole).transpose()?;
    entry.target = name(take("target"), take("targetBase64"), "target")?;
    entry.link_group = take("linkGroup").as_ref().map(whole).transpose()?;
    entry.digests = properties.digests("digests")?;
    Ok(entry)
}

fn whole<T: std::str::FromStr>(value: &Value<'_>) -> Result<T, Problem> {
    match value {
        Value::Number(digits) => number(digits).ok_or(NO_LINE),
        _ => Err(NO_LINE),
    }
}

fn time(value: &Value<'_>) -> Result<i128, Problem> {
    let Value::Text(text) = value else {
        return Err(NO_LINE);
    };
    let time = match text.strip_prefix(b"-") {
        Some(digits) => number(digits).map(|time: i128| -time),
        None => number(text),
    };
    time.ok_or(NO_LINE)
}

/// A name from its text and, where there are, its bytes.
fn name(text: Option<Value<'_>>, base64: Option<Value<'_>>, what: &'static str) -> Result<Option<Vec<u8>>, Problem> {
    match (text, base64) {
        (None, None) => Ok(None),
        (Some(Value::Text(text)), None) => Ok(Some(text)),
        (Some(Value::Text(text)), Some(Value::Text(base64))) => {
            let bytes = from_base64(&base64).ok_or(NO_LINE)?;
            if String::from_utf8_lossy(&bytes).as_bytes() != text {
                return Err(Problem::Names(what));
            }
            Ok(Some(bytes))
        }
        _ => Err(NO_LINE),
    }
}

/// Digests; those of algorithms that are not known here are passed over, as long as one is known.
fn digests(value: Value<'_>) -> Result<Vec<Digest>, Problem> {
    let Value::Object(properties) = value else {
        return Err(NO_LINE);
    };
    let mut digests: Vec<Digest> = Vec::with_capacity(properties.len());
    for (name, value) in &properties {
        let Value::Text(hex) = value else {
            return Err(NO_LINE);
        };
        let Some(algorithm) = Algorithm::named(name) else {
            continue;
        };
        if digests.iter().any(|digest| digest.algorithm() == algorithm) {
            return Err(NO_LINE);
        }
        digests.push(Digest::from_hex(algorithm, hex).ok_or(NO_LINE)?);
    }
    match properties.first() {
        Some((name, _)) if digests.is_empty() => Err(Problem::Algorithm(text(name))),
        _ => {
            digests.sort_unstable();
            Ok(digests)
        }
    }
}

/// A value of JSON, as much of it as is looked at.
pub(crate) enum Value<'a> {
    Text(Vec<u8>),
    Number(&'a [u8]),
    Object(Vec<(Vec<u8>, Value<'a>)>),
    /// A list, true, false or null.
    Other,
}

/// What is left of a line. Each method takes off what it reads; `None` where that is not there.
struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    fn blanks(&mut self) {
        while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn take(&mut self, text: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(text)?;
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<Value<'a>> {
        if depth > DEEPEST {
            return None;
        }
        match self.rest.first()? {
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b'"' => self.text().map(Value::Text),
            b't' => self.take(b"true").map(|()| Value::Other),
            b'f' => self.take(b"false").map(|()| Value::Other),
            b'n' => self.take(b"null").map(|()| Value::Other),
            _ => self.number().map(Value::Number),
        }
    }

    fn object(&mut self, depth: usize) -> Option<Value<'a>> {
        let mut properties: Vec<(Vec<u8>, Value<'a>)> = Vec::new();
        self.take(b"{")?;
        self.blanks();
        if self.take(b"}").is_some() {
            return Some(Value::Object(properties));
        }
        loop {
            self.blanks();
            let key = self.text()?;
            // What a property means that is there twice, nobody can say.
            if properties.len() == MOST || properties.iter().any(|(name, _)| *name == key) {
                return None;
            }
            self.blanks();
            self.take(b":")?;
            self.blanks();
            let value = self.value(depth + 1)?;
            properties.push((key, value));
            self.blanks();
            if self.take(b"}").is_some() {
                return Some(Value::Object(properties));
            }
            self.take(b",")?;
        }
    }

    fn list(&mut self, depth: usize) -> Option<Value<'a>> {
        self.take(b"[")?;
        self.blanks();
        if self.take(b"]").is_some() {
            return Some(Value::Other);
        }
        loop {
            self.blanks();
            self.value(depth + 1)?;
            self.blanks();
            if self.take(b"]").is_some() {
                return Some(Value::Other);
            }
            self.take(b",")?;
        }
    }

    fn number(&mut self) -> Option<&'a [u8]> {
        let start = self.rest;
        self.take(b"-");
        if self.take(b"0").is_none() {
            self.digits()?;
        }
        if self.take(b".").is_some() {
            self.digits()?;
        }
        if let [b'e' | b'E', rest @ ..] = self.rest {
            self.rest = rest;
            if let [b'+' | b'-', rest @ ..] = self.rest {
                self.rest = rest;
            }
            self.digits()?;
        }
        Some(&start[..start.len() - self.rest.len()])
    }

    fn digits(&mut self) -> Option<()> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.rest = &self.rest[digits..];
        (digits > 0).then_some(())
    }

    fn text(&mut self) -> Option<Vec<u8>> {
        self.take(b"\"")?;
        let mut text = Vec::new();
        loop {
            let plain = self
                .rest
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
            text.extend_from_slice(&self.rest[..plain]);
            self.rest = &self.rest[plain..];
            match self.rest {
                [b'"', rest @ ..] => {
                    self.rest = rest;
                    return Some(text);
                }
                [b'\\', b'u', rest @ ..] => {
                    self.rest = rest;
                    self.escaped(&mut text)?;
                }
                [b'\\', byte, rest @ ..] => {
                    self.rest = rest;
                    text.push(match byte {
                        b'"' | b'\\' | b'/' => *byte,
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'b' => 0x08,
                        b'f' => 0x0c,
                        _ => return None,
                    });
                }
                _ => return None,
            }
        }
    }

    /// What stands behind `\u`.
    fn escaped(&mut self, text: &mut Vec<u8>) -> Option<()> {
        let unit = self.unit()?;
        let char = match unit {
            0xd800..=0xdbff => {
                self.take(b"\\u")?;
                let low = self.unit()?;
                char::decode_utf16([unit, low]).next()?.ok()?
            }
            0xdc80..=0xdcff => {
                text.push(unit.to_be_bytes()[1]);
                return Some(());
            }
            unit => char::from_u32(unit.into())?,
        };
        text.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
        Some(())
    }

    fn unit(&mut self) -> Option<u16> {
        let (digits, rest) = self.rest.split_at_checked(4)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        self.rest = rest;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }
}
