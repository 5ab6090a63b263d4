//! The order in which entries are packed, and where one shard ends.
//!
//! Comes in: the records of a walk, sorted; goes out: batches of entries for one worker each. Entries come by their paths,
//! what is in a directory right after it; all links of an inode come where the first of them does, so that no shard needs
//! another one. Before the first entry of a shard, and where a link is elsewhere in the tree, the directories above it come
//! again. The same tree is cut in the same places.

use bulkhaul_formats::manifest::Entry;
use bulkhaul_sys::{Errno, Kind};

use super::find::LINK;
use crate::error::Refusal;
use crate::job::desk::Desk;
use crate::records::entry::{self, FACTS_BYTES, Links, kind_of};
use crate::records::sort::{Sorted, Sorters};
use crate::tree::path::split;

/// Entries of one batch, and bytes of content that they have together; what alone has more is a batch of its own.
const BATCH_ENTRIES: usize = 512;
pub const BATCH_BYTES: u64 = 1024 * 1024;
/// What an entry is taken to cost beside its content: its headers.
const HEADER_BYTES: u64 = 1536;
/// Device, inode and facts in the key of a link.
const INODE_BYTES: usize = 16 + FACTS_BYTES;
/// Bytes of the key of a link before its path.
pub const LINK_BYTES: usize = 1 + INODE_BYTES;

/// An entry that is to be packed.
#[derive(Clone, Debug)]
pub struct Item {
    /// Relative to the roots; empty: the directory that stands for what is in it.
    pub path: Vec<u8>,
    /// What the walk saw of it, without its path.
    pub entry: Entry,
    /// Its inode, where that has several links.
    pub links: Option<Links>,
    /// The number that all links of its inode have; 0: it is the only one here.
    pub group: u64,
    /// The first of them, where that is another.
    pub leader: Option<Vec<u8>>,
    /// A directory that has its own place in another shard, or elsewhere in this one.
    pub again: bool,
}

impl Item {
    /// What it is.
    pub fn kind(&self) -> Kind {
        kind_of(&self.entry)
    }

    /// Bytes that it adds to a shard, about.
    fn cost(&self) -> u64 {
        let content = if self.leader.is_none() { self.content() } else { 0 };
        content.saturating_add(HEADER_BYTES + self.path.len() as u64)
    }

    /// Bytes of its content.
    pub fn content(&self) -> u64 {
        if self.kind() == Kind::File {
            self.entry.size.unwrap_or_default()
        } else {
            0
        }
    }
}

/// Entries that a worker reads together.
#[derive(Debug)]
pub struct Batch {
    /// Its place among all batches, from 0.
    pub number: u64,
    /// The shard that it goes into, from 0.
    pub shard: u64,
    /// The last one of that.
    pub last: bool,
    /// What is in it; not empty.
    pub items: Vec<Item>,
}

impl Batch {
    /// Whether it is one file that is too large to be held in memory.
    pub fn is_large(&self) -> bool {
        self.items
            .last()
            .is_some_and(|item| item.leader.is_none() && item.content() > BATCH_BYTES)
    }
}

/// A key and a payload.
type Record = (Vec<u8>, Vec<u8>);

/// All entries in their order.
struct Order<'o> {
    others: &'o mut Sorted,
    links: Sorted,
    sorters: Sorters,
    next_other: Option<Record>,
    next_link: Option<Record>,
    /// Bytes of content that files have under further names too.
    further_bytes: u64,
}

pub fn of_key(key: &[u8]) -> Vec<u8> {
    key.iter().map(|byte| if *byte == 0 { b'/' } else { *byte }).collect()
}

impl<'o> Order<'o> {
    fn new(desk: &Desk, sorters: &Sorters, found: &'o mut Sorted) -> Result<Self, Refusal> {
        let own = sorters.anew(1).counted(desk.steps());
        let failed = |errno| own.refusal(errno);
        let mut sorter = own.sorter();
        let (mut group, mut leader): (u64, Option<Record>) = (0, None);
        // A leader waits for the second link, which makes it one.
        let mut waiting: Option<Vec<u8>> = None;
        let (mut next, mut further_bytes) = (None, 0);
        while let Some((key, payload)) = found.next().map_err(failed)? {
            let Some((inode, name)) = key
                .strip_prefix(&[LINK])
                .and_then(|rest| rest.split_at_checked(INODE_BYTES))
            else {
                next = Some((key[1..].to_vec(), payload.to_vec()));
                break;
            };
            match &leader {
                Some((own, first)) if own == inode => {
                    if let Some(waited) = waiting.take() {
                        group += 1;
                        sorter.push(first, &numbered(group, &waited)).map_err(failed)?;
                    }
                    let (further, _) = entry::decode(b"", payload).ok_or_else(|| failed(Errno::IO))?;
                    if kind_of(&further) == Kind::File {
                        further_bytes += further.size.unwrap_or_default();
                    }
                    sorter
                        .push(&[first, &b"\0\0"[..], name].concat(), &numbered(group, payload))
                        .map_err(failed)?;
                }
                _ => {
                    if let (Some((_, first)), Some(waited)) = (&leader, waiting.take()) {
                        sorter.push(first, &numbered(0, &waited)).map_err(failed)?;
                    }
                    leader = Some((inode.to_vec(), name.to_vec()));
                    waiting = Some(payload.to_vec());
                }
            }
        }
        if let (Some((_, first)), Some(waited)) = (&leader, waiting) {
            sorter.push(first, &numbered(0, &waited)).map_err(failed)?;
        }
        let mut links = Sorted::merge(vec![sorter]).map_err(failed)?;
        let next_link = links.next().map_err(failed)?.map(owned);
        Ok(Self {
            others: found,
            links,
            sorters: own,
            next_other: next,
            next_link,
            further_bytes,
        })
    }

    fn next(&mut self) -> Result<Option<Item>, Refusal> {
        let failed = |errno| self.sorters.refusal(errno);
        let is_link = match (&self.next_other, &self.next_link) {
            (None, None) => return Ok(None),
            (Some(other), Some(link)) => link.0 < other.0,
            (other, _) => other.is_none(),
        };
        let lost = || failed(Errno::IO);
        if !is_link {
            let next = self
                .others
                .next()
                .map_err(failed)?
                .map(|(key, payload)| (key[1..].to_vec(), payload.to_vec()));
            let (key, payload) = std::mem::replace(&mut self.next_other, next).ok_or_else(lost)?;
            return item(&key, &payload, (0, None)).ok_or_else(lost).map(Some);
        }
        let next = self.links.next().map_err(failed)?.map(owned);
        let (key, payload) = std::mem::replace(&mut self.next_link, next).ok_or_else(lost)?;
        let (group, payload) = payload.split_first_chunk::<8>().ok_or_else(lost)?;
        let between = key.windows(2).position(|two| two == b"\0\0");
        let (name, leader) = match between {
            Some(at) => (&key[at + 2..], Some(of_key(&key[..at]))),
            None => (&key[..], None),
        };
        item(name, payload, (u64::from_le_bytes(*group), leader))
            .ok_or_else(lost)
            .map(Some)
    }
}

fn owned((key, payload): (&[u8], &[u8])) -> Record {
    (key.to_vec(), payload.to_vec())
}

fn numbered(group: u64, payload: &[u8]) -> Vec<u8> {
    [&group.to_le_bytes(), payload].concat()
}

fn item(key: &[u8], payload: &[u8], (group, leader): (u64, Option<Vec<u8>>)) -> Option<Item> {
    let (entry, links) = entry::decode(b"", payload)?;
    Some(Item {
        path: of_key(key),
        entry,
        links,
        group,
        leader,
        again: false,
    })
}

/// Cuts all entries into shards, and these into batches.
pub struct Cutter<'o> {
    order: Order<'o>,
    shard_bytes: u64,
    /// All paths are relative to a directory that is packed too.
    rooted: bool,
    next: Option<Item>,
    number: u64,
    shard: u64,
    used: u64,
    /// The directory of this shard that the last entry is in, or is.
    within: Option<Vec<u8>>,
}

impl<'o> Cutter<'o> {
    /// For shards of about so many bytes. `rooted`: the root stands for what is in it.
    pub fn new(
        desk: &Desk,
        (sorters, found): (&Sorters, &'o mut Sorted),
        shard_bytes: u64,
        rooted: bool,
    ) -> Result<Self, Refusal> {
        let mut order = Order::new(desk, sorters, found)?;
        let next = order.next()?;
        Ok(Self {
            order,
            shard_bytes,
            rooted,
            next,
            number: 0,
            shard: 0,
            used: 0,
            within: None,
        })
    }

    /// Bytes of files under all their names but one each: these are not read.
    pub fn further_bytes(&self) -> u64 {
        self.order.further_bytes
    }

    /// Whether the shard ends before this one.
    fn ends_before(&self, item: &Item) -> bool {
        item.leader.is_none() && self.used > 0 && self.used.saturating_add(item.cost()) > self.shard_bytes
    }

    /// The next batch; nothing at the end.
    pub fn batch(&mut self) -> Result<Option<Batch>, Refusal> {
        let (mut items, mut content) = (Vec::new(), 0_u64);
        let last = loop {
            let Some(item) = self.next.take() else { break true };
            let large = item.leader.is_none() && item.content() > BATCH_BYTES;
            if !items.is_empty() && self.ends_before(&item) {
                self.next = Some(item);
                break true;
            }
            if !items.is_empty() && large {
                self.next = Some(item);
                break false;
            }
            self.above(&item, &mut items);
            self.used = self.used.saturating_add(item.cost());
            if item.leader.is_none() {
                content = content.saturating_add(item.content());
            }
            items.push(item);
            self.next = self.order.next()?;
            if large || items.len() >= BATCH_ENTRIES || content >= BATCH_BYTES {
                break self.next.as_ref().is_none_or(|next| self.ends_before(next));
            }
        };
        if items.is_empty() {
            return Ok(None);
        }
        let batch = Batch {
            number: self.number,
            shard: self.shard,
            last,
            items,
        };
        self.number += 1;
        if last {
            self.shard += 1;
            self.used = 0;
            self.within = None;
        }
        Ok(Some(batch))
    }

    /// The directories above an entry that this shard does not have at this place yet.
    fn above(&mut self, item: &Item, items: &mut Vec<Item>) {
        let mut again = |path: &[u8]| {
            items.push(Item {
                path: path.to_vec(),
                entry: Entry {
                    kind: Some(bulkhaul_formats::manifest::Kind::Directory),
                    ..Entry::default()
                },
                links: None,
                group: 0,
                leader: None,
                again: true,
            });
        };
        if self.within.is_none() && self.rooted && !item.path.is_empty() {
            again(b"");
        }
        let parent = split(&item.path).0;
        let before = self.within.take().unwrap_or_default();
        let is_above = |path: &[u8]| {
            before
                .strip_prefix(path)
                .is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
        };
        let ends = parent
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'/')
            .map(|(at, _)| at);
        for end in ends.chain((!parent.is_empty()).then_some(parent.len())) {
            if !is_above(&parent[..end]) {
                again(&parent[..end]);
            }
        }
        self.within = Some(if item.kind() == Kind::Directory {
            item.path.clone()
        } else {
            parent.to_vec()
        });
    }
}
