//! The index of shards: what is in the tar files of a packed tree, and where.
//!
//! Comes in: entries, shards, states; goes out: lines of JSON, and the same back. An index is a manifest of the form
//! [`Format::Json`](crate::manifest::Format) whose lines say more: `bulkhaul verify` reads it as one. The properties of an
//! entry are those of a manifest, then `shard` (the name of the file), `offset` and `length` (where its blocks are in the
//! tar, from its first header to the end of its content), `device` (major and minor number), and of a file with holes
//! `storedDigests`: of what is stored of it, in the place of `digests`; and `frame` of a compressed shard (where in the file
//! its frame begins, and bytes of content in that before it). Lines with a `type` are no entries: `root` is the
//! directory that all paths are relative to, `shard` ends the index of a shard, with its size and its digests, `state` says
//! that all shards up to it are one state of the tree, and `removed` a path that this state has no more.

use crate::digest::Digest;
use crate::json::Object;
use crate::manifest::{Entry, Kind, Problem, json};

/// Lines that are no entries.
pub(crate) const TYPES: [&[u8]; 4] = [ROOT.as_bytes(), SHARD.as_bytes(), STATE.as_bytes(), REMOVED.as_bytes()];
const ROOT: &str = "root";
const SHARD: &str = "shard";
const STATE: &str = "state";
const REMOVED: &str = "removed";
const NO_LINE: Problem = Problem::Line("an index of shards");

/// An entry, and where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// What is known of it; an empty path: the directory that all paths are relative to.
    pub entry: Entry,
    /// The file name of its shard.
    pub shard: Vec<u8>,
    /// Where its first block is in the tar.
    pub offset: u64,
    /// Bytes of its blocks, content included.
    pub length: u64,
    /// Major and minor number of a device.
    pub device: Option<(u32, u32)>,
    /// Digests of what is stored of a file with holes.
    pub stored: Vec<Digest>,
    /// Of a compressed shard: where in the file the frame begins that its first block is in, and how many bytes of content
    /// come before it there.
    pub frame: Option<(u64, u64)>,
}

/// A shard that is whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shard {
    /// Its file name.
    pub name: Vec<u8>,
    /// The number of the state that it came with, from 1.
    pub state: u64,
    /// Its bytes.
    pub size: u64,
    /// Entries in it.
    pub entries: u64,
    /// Digests of all of it.
    pub digests: Vec<Digest>,
}

/// A line of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// An entry.
    Entry(Box<Packed>),
    /// A shard is whole.
    Shard(Shard),
    /// A state is whole: its number, and how many shards came with it.
    State(u64, u64),
    /// A path that is not there any more.
    Removed(Vec<u8>),
}

/// The file name of a shard, by its number from 1. `suffix`: of its compression.
pub fn name(number: u64, suffix: &str) -> Vec<u8> {
    format!("shard-{number:05}.tar{suffix}").into_bytes()
}

/// The file name of a shard's index.
pub fn index_name(number: u64) -> Vec<u8> {
    format!("shard-{number:05}.jsonl").into_bytes()
}

/// The file name of a state, and of the sums of its shards.
pub fn state_names(number: u64) -> (Vec<u8>, Vec<u8>) {
    let name = format!("state-{number:05}");
    (format!("{name}.jsonl").into_bytes(), format!("{name}.b3").into_bytes())
}

/// What a file of a packed tree is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// The shard of this number.
    Shard(u64),
    /// Its index.
    Index(u64),
    /// The state of this number.
    State(u64),
}

/// What a file name says.
pub fn named(name: &[u8]) -> Option<Named> {
    let name = std::str::from_utf8(name).ok()?;
    let (what, rest) = name.split_once('-')?;
    let (digits, kind) = rest.split_once('.')?;
    if digits.len() < 5 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    match (what, kind) {
        ("shard", "tar" | "tar.gz" | "tar.zst") => Some(Named::Shard(number)),
        ("shard", "jsonl") => Some(Named::Index(number)),
        ("state", "jsonl") => Some(Named::State(number)),
        _ => None,
    }
}

/// Appends the line that an index begins with.
pub fn head(text: &mut Vec<u8>) {
    json::head(text);
}

/// Appends a line, with its end.
pub fn write(line: &Line, text: &mut Vec<u8>) {
    let mut object = Object::begin(text);
    match line {
        Line::Entry(packed) => {
            if packed.entry.path.is_empty() {
                object.text("type", ROOT);
            }
            json::put(&packed.entry, &mut object);
            object.name("shard", "shardBase64", &packed.shard);
            object.number("offset", Some(packed.offset));
            object.number("length", Some(packed.length));
            if let Some((major, minor)) = packed.device {
                object.text("device", &format!("{major}:{minor}"));
            }
            if !packed.stored.is_empty() {
                json::put_digests("storedDigests", &packed.stored, &mut object);
            }
            if let Some((at, skip)) = packed.frame {
                object.text("frame", &format!("{at}:{skip}"));
            }
        }
        Line::Shard(shard) => {
            object.text("type", SHARD);
            object.name("shard", "shardBase64", &shard.name);
            object.number("state", Some(shard.state));
            object.number("size", Some(shard.size));
            object.number("entries", Some(shard.entries));
            json::put_digests("digests", &shard.digests, &mut object);
        }
        Line::State(number, shards) => {
            object.text("type", STATE);
            object.number("state", Some(*number));
            object.number("shards", Some(*shards));
        }
        Line::Removed(path) => {
            object.text("type", REMOVED);
            object.name("path", "pathBase64", path);
        }
    }
    object.end();
    text.push(b'\n');
}

/// Reads a line; `None` for a blank one and for the first.
pub fn parse(line: &[u8]) -> Result<Option<Line>, Problem> {
    let Some(mut properties) = json::properties(line)? else {
        return Ok(None);
    };
    let kind = properties.text("type")?;
    match kind.as_deref() {
        Some(b"manifest") => Ok(None),
        Some(kind) if kind == SHARD.as_bytes() => Ok(Some(Line::Shard(Shard {
            name: properties.text("shard")?.ok_or(NO_LINE)?,
            state: properties.whole("state")?.ok_or(NO_LINE)?,
            size: properties.whole("size")?.ok_or(NO_LINE)?,
            entries: properties.whole("entries")?.ok_or(NO_LINE)?,
            digests: properties.digests("digests")?,
        }))),
        Some(kind) if kind == STATE.as_bytes() => Ok(Some(Line::State(
            properties.whole("state")?.ok_or(NO_LINE)?,
            properties.whole("shards")?.ok_or(NO_LINE)?,
        ))),
        Some(kind) if kind == REMOVED.as_bytes() => Ok(Some(Line::Removed(json::entry(&mut properties)?.path))),
        None => packed(&mut properties).map(Some),
        Some(kind) if kind == ROOT.as_bytes() => {
            let Line::Entry(mut root) = packed(&mut properties)? else {
                return Err(NO_LINE);
            };
            if root.entry.kind != Some(Kind::Directory) || !root.entry.path.is_empty() {
                return Err(NO_LINE);
            }
            root.entry.path.clear();
            Ok(Some(Line::Entry(root)))
        }
        Some(_) => Err(NO_LINE),
    }
}

fn packed(properties: &mut json::Properties<'_>) -> Result<Line, Problem> {
    let entry = json::entry(properties)?;
    let device = properties.text("device")?.map(|text| pair(&text)).transpose()?;
    let frame = properties.text("frame")?.map(|text| pair(&text)).transpose()?;
    Ok(Line::Entry(Box::new(Packed {
        entry,
        shard: properties.text("shard")?.ok_or(NO_LINE)?,
        offset: properties.whole("offset")?.ok_or(NO_LINE)?,
        length: properties.whole("length")?.ok_or(NO_LINE)?,
        device,
        stored: properties.digests("storedDigests")?,
        frame,
    })))
}

/// Two numbers with a colon between them.
fn pair<T: std::str::FromStr>(text: &[u8]) -> Result<(T, T), Problem> {
    let numbers = std::str::from_utf8(text).ok().and_then(|text| text.split_once(':'));
    let (first, second) = numbers.ok_or(NO_LINE)?;
    let number = |digits: &str| digits.parse().map_err(|_| NO_LINE);
    Ok((number(first)?, number(second)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::digest::{Algorithm, Hashers};
    use crate::manifest::{Format, Reader};

    fn digests(bytes: &[u8]) -> Vec<Digest> {
        let mut hashers = Hashers::new(&[Algorithm::Blake3]);
        hashers.update(bytes);
        hashers.finish()
    }

    fn line() -> impl Strategy<Value = Line> {
        let name = || prop::collection::vec(1..=255_u8, 1..40);
        let entry = (
            name(),
            any::<u64>(),
            any::<u64>(),
            prop::option::of(any::<(u32, u32)>()),
            any::<bool>(),
        )
            .prop_map(|(path, offset, length, device, holes)| {
                let digest = digests(&path);
                let mut entry = Entry::new(path, if holes { Vec::new() } else { digest.clone() });
                entry.kind = Some(Kind::File);
                entry.size = Some(offset);
                entry.mtime = Some(-i128::from(length));
                let (shard, stored) = (b"shard-00001.tar".to_vec(), if holes { digest } else { Vec::new() });
                let frame = device.map(|_| (length, offset));
                Line::Entry(Box::new(Packed {
                    entry,
                    shard,
                    offset,
                    length,
                    device,
                    stored,
                    frame,
                }))
            });
        let shard = (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(state, size, entries)| {
            let (name, digests) = (b"shard-00002.tar".to_vec(), digests(b""));
            Line::Shard(Shard {
                name,
                state,
                size,
                entries,
                digests,
            })
        });
        prop_oneof![
            entry,
            shard,
            any::<(u64, u64)>().prop_map(|(number, shards)| Line::State(number, shards)),
            name().prop_map(Line::Removed),
        ]
    }

    proptest! {
        #[test]
        fn reads_back(lines in prop::collection::vec(line(), 0..8)) {
            let mut text = Vec::new();
            head(&mut text);
            for line in &lines {
                write(line, &mut text);
            }
            let back: Vec<_> = text.split(|byte| *byte == b'\n').filter_map(|line| parse(line).unwrap()).collect();
            prop_assert_eq!(&back, &lines);
        }

        #[test]
        fn anything_else_is_told(bytes: Vec<u8>) {
            prop_assert!(!matches!(parse(&bytes), Ok(Some(_))));
        }
    }

    #[test]
    fn names_of_files() {
        for number in [1, 99_999, 100_000, u64::MAX] {
            for suffix in ["", ".gz", ".zst"] {
                assert_eq!(named(&name(number, suffix)), Some(Named::Shard(number)));
            }
            assert_eq!(named(&index_name(number)), Some(Named::Index(number)));
            assert_eq!(named(&state_names(number).0), Some(Named::State(number)));
        }
        for other in [
            &b"shard-1.tar"[..],
            b"shard-0000x.tar",
            b"shard-00001.tgz",
            b"x-00001.tar",
            b"\xff",
            b"shard-00001",
        ] {
            assert_eq!(named(other), None);
        }
    }

    #[test]
    fn the_root_and_its_manifest() {
        let mut root = Packed {
            shard: b"s".to_vec(),
            ..Packed::default()
        };
        root.entry.kind = Some(Kind::Directory);
        let mut file = root.clone();
        (file.entry.path, file.entry.kind, file.entry.size) = (b"a".to_vec(), Some(Kind::File), Some(0));
        file.entry.digests = digests(b"");
        let (mut text, shard) = (
            Vec::new(),
            Shard {
                digests: digests(b"x"),
                ..Shard::default()
            },
        );
        head(&mut text);
        for line in [
            Line::Entry(Box::new(root.clone())),
            Line::Entry(Box::new(file.clone())),
            Line::Shard(shard),
        ] {
            write(&line, &mut text);
        }
        let first = text.split(|byte| *byte == b'\n').nth(1).unwrap();
        assert_eq!(parse(first), Ok(Some(Line::Entry(Box::new(root)))));
        // As a manifest it has the file only.
        let mut reader = Reader::new(Format::Json, None);
        let entries: Vec<_> = reader.read(&text).map(|listed| listed.unwrap().entry).collect();
        assert_eq!(entries, [file.entry]);
    }
}
