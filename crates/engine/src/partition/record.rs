//! What a plan knows of an entry, as the two sorts of a partition have it.
//!
//! Comes in: entries and groups of hard links; goes out: keys and payloads of bytes, and the same again. The first sort puts
//! things in the order in which they are packed: the largest first, things of one size by name. A group of links is one
//! thing: its head comes first, with the number of its names, then these. The second has parts, and in each its entries by
//! the bytes of their names.

use bulkhaul_sys::{Identity, Kind};

use crate::entry::{KINDS, kind_index};

/// An entry but for its name and its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: Kind,
    /// Bytes of a regular file.
    pub bytes: u64,
    /// It could not be read, and has its outcome.
    pub unreadable: bool,
    /// The group of links that it is in; 0: none.
    pub group: u64,
}

const RECORD_BYTES: usize = 2 + 2 * 8;

impl Record {
    /// Its payload.
    pub fn encode(self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        // One of seven.
        bytes[0] = u8::try_from(kind_index(self.kind)).unwrap_or_default();
        bytes[1] = self.unreadable.into();
        bytes[2..10].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[10..].copy_from_slice(&self.group.to_le_bytes());
        bytes
    }

    /// What [`Record::encode`] wrote; none for anything else.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let ([kind, unreadable], numbers) = payload.split_first_chunk::<2>()?;
        let (bytes, group) = numbers.split_first_chunk::<8>()?;
        Some(Self {
            kind: *KINDS.get(usize::from(*kind))?,
            bytes: u64::from_le_bytes(*bytes),
            unreadable: *unreadable != 0,
            group: u64::from_le_bytes(group.try_into().ok()?),
        })
    }
}

/// The key of a link among those of its inode, before they are a group: the same for all, but for the name.
pub fn link_key(inode: Identity, name: &[u8], key: &mut Vec<u8>) {
    key.clear();
    key.extend_from_slice(&inode.dev.to_be_bytes());
    key.extend_from_slice(&inode.ino.to_be_bytes());
    key.extend_from_slice(name);
}

/// Inode and name of such a key.
pub fn of_link_key(key: &[u8]) -> Option<(&[u8; 16], &[u8])> {
    key.split_first_chunk()
}

/// A record of the first sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing<'a> {
    /// An entry by itself, with its name.
    Entry(&'a [u8]),
    /// So many names of one inode follow.
    Group(u64),
    /// One of them.
    Member(&'a [u8]),
}

/// What stands before the name of an entry in the key of the first sort.
const SIZE_BYTES: usize = 8;
const ENTRY: u8 = 0;
const GROUP: u8 = 1;
const MEMBER: u8 = 2;

/// Key and payload of a thing of so many bytes. `leader`: the first name of a group. A name holds no NUL, so that what
/// comes behind one sorts right after it.
pub fn thing(thing: Thing<'_>, record: Record, leader: &[u8], key: &mut Vec<u8>, payload: &mut Vec<u8>) {
    key.clear();
    key.extend_from_slice(&(!record.bytes).to_be_bytes());
    payload.clear();
    payload.extend_from_slice(&record.encode());
    match thing {
        Thing::Entry(name) => {
            key.extend_from_slice(name);
            payload.push(ENTRY);
        }
        Thing::Group(number) => {
            key.extend_from_slice(leader);
            key.push(0);
            payload.push(GROUP);
            payload.extend_from_slice(&number.to_le_bytes());
        }
        Thing::Member(name) => {
            key.extend_from_slice(leader);
            key.push(0);
            key.extend_from_slice(name);
            payload.push(MEMBER);
        }
    }
}

/// What [`thing`] wrote; none for anything else.
pub fn of_thing<'a>(key: &'a [u8], payload: &[u8]) -> Option<(Thing<'a>, Record)> {
    let (record, rest) = payload.split_at_checked(RECORD_BYTES)?;
    let record = Record::decode(record)?;
    let name = key.get(SIZE_BYTES..)?;
    let thing = match rest.split_first()? {
        (&ENTRY, []) => Thing::Entry(name),
        (&GROUP, number) => Thing::Group(u64::from_le_bytes(number.try_into().ok()?)),
        (&MEMBER, []) => Thing::Member(&name[name.iter().position(|byte| *byte == 0)? + 1..]),
        _ => return None,
    };
    Some((thing, record))
}

/// The key of an entry in the second sort.
pub fn part_key(part: u64, name: &[u8], key: &mut Vec<u8>) {
    key.clear();
    key.extend_from_slice(&part.to_be_bytes());
    key.extend_from_slice(name);
}

/// Part and name of such a key.
pub fn of_part_key(key: &[u8]) -> Option<(u64, &[u8])> {
    let (part, name) = key.split_first_chunk()?;
    Some((u64::from_be_bytes(*part), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_comes_together_between_things_of_its_size() {
        let record = |bytes| Record {
            kind: Kind::File,
            bytes,
            unreadable: bytes == 4,
            group: bytes,
        };
        let of = |what, bytes, leader: &[u8]| {
            let (mut key, mut payload) = (Vec::new(), Vec::new());
            thing(what, record(bytes), leader, &mut key, &mut payload);
            (key, payload)
        };
        let in_order = [
            (Thing::Entry(b"z"), 5, &b""[..]),
            (Thing::Entry(b"a"), 4, b""),
            (Thing::Group(2), 4, b"b"),
            (Thing::Member(b"b"), 4, b"b"),
            (Thing::Member(b"c"), 4, b"b"),
            (Thing::Entry(b"b/a"), 4, b""),
            (Thing::Entry(b"\xff"), 0, b""),
        ];
        let mut records: Vec<_> = in_order.map(|(what, bytes, leader)| of(what, bytes, leader)).into();
        records.reverse();
        records.sort();
        for ((what, bytes, _), (key, payload)) in in_order.iter().zip(&records) {
            assert_eq!(of_thing(key, payload), Some((*what, record(*bytes))));
        }
        assert_eq!(of_thing(b"", b""), None);
    }
}
