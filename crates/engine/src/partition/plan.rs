//! The plan: all that was found is sorted, packed, and sorted again by parts.
//!
//! Comes in: entries from all threads of a walk; goes out: the loads of the parts, and their entries, part by part and by
//! the bytes of their names. The same entries give the same parts, whoever found them when. Memory is that of three sorts and
//! of the parts.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use bulkhaul_sys::{Errno, Identity};

use super::gather::Taker;
use super::pack::{Division, Load, MOST_PARTS, Packer};
use super::record::{self, Record, Thing, link_key, of_link_key, of_thing, part_key, thing};
use crate::error::Refusal;
use crate::job::desk::Desk;
use crate::records::sort::{Sorted, Sorter, Sorters};
use crate::report::counters::Counters;

/// The least bytes that a range of a split file has, and what ranges are multiples of.
const RANGE_BYTES: u64 = 1024 * 1024;

/// The sorts of a plan; together they have the memory that was given for it.
pub struct Sorts {
    /// Entries that are packed by themselves, and groups of links.
    things: Sorters,
    /// Links, by their inodes.
    links: Sorters,
    /// Entries by their parts.
    parts: Sorters,
}

impl Sorts {
    /// For so many threads that find.
    pub fn new(spill_directory: Option<&[u8]>, memory: usize, threads: usize, desk: &Desk) -> Self {
        let sorters = |memory, threads| Sorters::new(spill_directory, memory, threads).counted(desk.steps());
        Self {
            things: sorters(memory / 2, threads + 1),
            links: sorters(memory / 4, threads),
            parts: sorters(memory / 4, 1),
        }
    }

    /// Puts links in order by their inodes.
    pub fn links(&self) -> &Sorters {
        &self.links
    }
}

/// Takes what a walk finds.
pub struct Found<'p> {
    sorts: &'p Sorts,
    desk: &'p Desk,
    full: Mutex<(Vec<Sorter>, Vec<Sorter>, Load)>,
    broken: OnceLock<Errno>,
}

/// What a thread of the walk has for itself.
pub struct Hand {
    things: Sorter,
    links: Sorter,
    all: Load,
    key: Vec<u8>,
    payload: Vec<u8>,
}

impl<'p> Found<'p> {
    /// Nothing yet.
    pub fn new(sorts: &'p Sorts, desk: &'p Desk) -> Self {
        Self {
            sorts,
            desk,
            full: Mutex::default(),
            broken: OnceLock::new(),
        }
    }

    /// All that was found, as things in the order in which they are packed, and what they are together.
    pub fn into_things(self) -> Result<(Sorted, Load), Refusal> {
        let (mut things, links, mut all) = self.full.into_inner().unwrap_or_else(PoisonError::into_inner);
        let sorters = &self.sorts.things;
        if let Some(errno) = self.broken.get() {
            return Err(sorters.refusal(*errno));
        }
        let (groups, load) = groups(links, sorters)?;
        all = all.plus(load);
        things.push(groups);
        let things = Sorted::merge(things).map_err(|errno| sorters.refusal(errno))?;
        Ok((things, all))
    }
}

impl Taker for Found<'_> {
    type Hand = Hand;

    fn hand(&self) -> Hand {
        Hand {
            things: self.sorts.things.sorter(),
            links: self.sorts.links.sorter(),
            all: Load::default(),
            key: Vec::new(),
            payload: Vec::new(),
        }
    }

    fn finish(&self, mut hand: Hand) {
        hand.things.sort();
        hand.links.sort();
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        full.0.push(hand.things);
        full.1.push(hand.links);
        full.2 = full.2.plus(hand.all);
    }

    fn take(&self, hand: &mut Hand, _counters: &Counters, name: &[u8], record: Record, links: Option<Identity>) {
        if self.broken.get().is_some() {
            return;
        }
        let Hand { key, payload, .. } = hand;
        let pushed = if let Some(inode) = links {
            link_key(inode, name, key);
            hand.links.push(key, &record.encode())
        } else {
            hand.all = hand.all.plus(Load {
                bytes: record.bytes,
                entries: 1,
            });
            thing(Thing::Entry(name), record, b"", key, payload);
            hand.things.push(key, payload)
        };
        if let Err(errno) = pushed {
            self.broken.get_or_init(|| errno);
            self.desk.cancel.drain();
        }
    }
}

/// Links of one inode, as they come.
struct Group {
    inode: [u8; 16],
    /// The first of their names.
    leader: Vec<u8>,
    record: Record,
    names: u64,
}

/// Links as groups: those of one inode, of which there are several, are one thing, with the bytes of one.
pub fn groups(links: Vec<Sorter>, sorters: &Sorters) -> Result<(Sorter, Load), Refusal> {
    let failed = |errno| sorters.refusal(errno);
    let mut sorted = Sorted::merge(links).map_err(failed)?;
    let (mut things, mut all) = (sorters.sorter(), Load::default());
    let (mut key, mut payload) = (Vec::new(), Vec::new());
    let mut group: Option<Group> = None;
    loop {
        let next = sorted.next().map_err(failed)?;
        let next = match next {
            None => None,
            Some((key, payload)) => {
                let of = of_link_key(key).zip(Record::decode(payload));
                Some(of.ok_or_else(|| failed(Errno::IO))?)
            }
        };
        if let (Some(group), Some(((inode, name), _))) = (&mut group, &next)
            && group.inode == **inode
        {
            let Group { leader, record, .. } = &*group;
            if group.names == 1 {
                thing(Thing::Member(leader), *record, leader, &mut key, &mut payload);
                things.push(&key, &payload).map_err(failed)?;
            }
            thing(Thing::Member(name), *record, leader, &mut key, &mut payload);
            things.push(&key, &payload).map_err(failed)?;
            group.names += 1;
            continue;
        }
        if let Some(Group {
            leader, record, names, ..
        }) = group.take()
        {
            let what = if names == 1 {
                Thing::Entry(&leader)
            } else {
                Thing::Group(names)
            };
            thing(what, record, &leader, &mut key, &mut payload);
            things.push(&key, &payload).map_err(failed)?;
            all = all.plus(Load {
                bytes: record.bytes,
                entries: names,
            });
        }
        let Some(((inode, name), record)) = next else {
            things.sort();
            return Ok((things, all));
        };
        group = Some(Group {
            inode: *inode,
            leader: name.to_vec(),
            record,
            names: 1,
        });
    }
}

/// A plan.
pub struct Plan {
    /// What is in each part; nothing in some.
    pub loads: Vec<Load>,
    /// Files of a part that are to be split, where it has some.
    pub split: BTreeMap<usize, u64>,
    /// Bytes of the ranges that a file of more is split into.
    pub range: u64,
    /// All entries by their parts; none where nobody wants them.
    pub entries: Option<Sorted>,
}

/// Bytes of the ranges that a file of more than a part is split into.
fn range_of(division: Division, all: Load) -> u64 {
    let part = match division {
        Division::Parts(number) => all.bytes.div_ceil(number.max(1)),
        Division::Limits(limits) => limits.bytes,
    };
    match part / RANGE_BYTES {
        // What somebody asked for is kept, however small.
        0 if matches!(division, Division::Limits(_)) => part.max(1),
        whole => whole.max(1) * RANGE_BYTES,
    }
}

/// Packs. `wanted`: the entries are, not only what is in the parts.
pub fn pack(
    (mut things, all): (Sorted, Load),
    (division, entry): (Division, u64),
    sorts: &Sorts,
    desk: &Desk,
    wanted: bool,
) -> Result<Plan, Refusal> {
    let failed = |errno| sorts.things.refusal(errno);
    let mut packer = Packer::new(division, all, entry);
    let range = range_of(division, all);
    let mut sorter = sorts.parts.sorter();
    let mut split: BTreeMap<usize, u64> = BTreeMap::new();
    let (mut key, mut group, mut place) = (Vec::new(), 0, None);
    while !desk.cancel.is_draining()
        && let Some((name, payload)) = things.next().map_err(failed)?
    {
        let (what, mut record) = of_thing(name, payload).ok_or_else(|| failed(Errno::IO))?;
        let entries = match what {
            Thing::Entry(_) => Some(1),
            Thing::Group(names) => Some(names),
            Thing::Member(_) => None,
        };
        if let Some(entries) = entries {
            let load = Load {
                bytes: record.bytes,
                entries,
            };
            let most = || Refusal::Usage(format!("there would be more than {MOST_PARTS} parts"));
            let part = packer.place(load).ok_or_else(most)?;
            if record.bytes > range {
                *split.entry(part).or_default() += 1;
            }
            place = Some(part);
        }
        let name = match what {
            Thing::Group(_) => {
                group += 1;
                continue;
            }
            Thing::Member(name) => {
                record.group = group;
                name
            }
            Thing::Entry(name) => name,
        };
        if !wanted {
            // What is only planned ends here.
            if !record.unreadable {
                desk.counters[0].outcome(record.kind, crate::entry::Outcome::Listed, None, record.bytes);
            }
            continue;
        }
        let part = place.ok_or_else(|| failed(Errno::IO))? as u64;
        part_key(part, name, &mut key);
        let pushed = sorter.push(&key, &record.encode());
        pushed.map_err(|errno| sorts.parts.refusal(errno))?;
    }
    let entries = wanted.then(|| Sorted::merge(vec![sorter])).transpose();
    Ok(Plan {
        loads: packer.parts().to_vec(),
        split,
        range,
        entries: entries.map_err(|errno| sorts.parts.refusal(errno))?,
    })
}

/// An entry, the place of its part before it.
type Placed<'e> = (usize, &'e [u8], Record);

/// The entries of a plan, one after the other.
pub fn next_entry<'e>(entries: &'e mut Sorted, sorts: &Sorts) -> Result<Option<Placed<'e>>, Refusal> {
    let failed = |errno| sorts.parts.refusal(errno);
    let Some((key, payload)) = entries.next().map_err(failed)? else {
        return Ok(None);
    };
    let of = record::of_part_key(key).zip(Record::decode(payload));
    let ((part, name), record) = of.ok_or_else(|| failed(Errno::IO))?;
    let part = usize::try_from(part).map_err(|_| failed(Errno::OVERFLOW))?;
    Ok(Some((part, name, record)))
}
