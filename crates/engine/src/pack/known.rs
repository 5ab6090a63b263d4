//! What a directory of shards has already of the trees that are packed into it.
//!
//! Comes in: the indexes of its shards, and what a walk found; goes out: what is new or has changed, in the order of packing,
//! and what is not there any more. An entry is the same when kind, size, mode, owner and the times of modification and of any
//! change are; whatever is done to an inode moves the last of these. Where one name of an inode has changed, or is new, all
//! have. Shards that a dead run left with their indexes count, so that the next run goes on where it stopped; a shard without
//! an index does not, and stays.

use bulkhaul_formats::manifest::Entry;
use bulkhaul_formats::shards::{Line, Shard};
use bulkhaul_sys::{Errno, Kind};

use super::find::order_key;
use super::order::{LINK_BYTES, of_key};
use crate::entry::{Outcome, Reason};
use crate::error::Refusal;
use crate::job::desk::Desk;
use crate::records::entry::{self, kind_of};
use crate::records::record::path_key;
use crate::records::shards::ShardDirectory;
use crate::records::sort::{Sorted, Sorters};

/// What the next run begins with.
#[derive(Clone, Debug)]
pub struct Next {
    /// The number of its first shard.
    pub shard: u64,
    /// The number of its state.
    pub state: u64,
    /// Shards of that state that are there already: the run that made them did not end.
    pub unfinished: Vec<Shard>,
}

impl Default for Next {
    fn default() -> Self {
        Self {
            shard: 1,
            state: 1,
            unfinished: Vec::new(),
        }
    }
}

/// The newest of each path.
pub struct Known {
    entries: Sorted,
    sorters: Sorters,
}

/// A key and a payload.
type Record = (Vec<u8>, Vec<u8>);
/// A path, as the key of a sort, and what it has; nothing: it was removed.
type Newest = (Vec<u8>, Option<Entry>);
/// Hears of what is the same: its path, what it is, bytes of its content.
pub type Same<'s> = dyn FnMut(&[u8], Kind, u64) + 's;
/// What is removed, in the order of paths.
pub type Removed = (Sorted, Sorters);

impl Known {
    /// Reads all indexes of a directory; nothing where it has none.
    pub fn read(there: &ShardDirectory, sorters: &Sorters, desk: &Desk) -> Result<(Next, Option<Self>), Refusal> {
        let largest = |numbers: &std::collections::BTreeMap<u64, Vec<u8>>| numbers.keys().last().copied().unwrap_or(0);
        let mut next = Next {
            shard: largest(&there.shards).max(largest(&there.indexes)) + 1,
            state: largest(&there.states) + 1,
            unfinished: Vec::new(),
        };
        if there.indexes.is_empty() {
            return Ok((next, None));
        }
        let mut sorter = sorters.sorter();
        let (mut key, mut payload) = (Vec::new(), Vec::new());
        // What comes later hides what came before.
        let mut push = |path: &[u8], order: (u64, u64), entry: Option<&Entry>| {
            path_key(path, &mut key);
            payload.clear();
            payload.extend_from_slice(&order.0.to_be_bytes());
            payload.extend_from_slice(&order.1.to_be_bytes());
            payload.push(entry.is_some().into());
            if let Some(entry) = entry {
                entry::encode(entry, None, &mut payload);
            }
            sorter.push(&key, &payload).map_err(|errno| sorters.refusal(errno))
        };
        for (number, name) in &there.indexes {
            if !there.shards.contains_key(number) {
                continue;
            }
            // Its state stands at its end.
            let mut state = 0;
            there.lines(name, desk, |line| {
                if let Line::Shard(shard) = line {
                    state = shard.state;
                    if state == next.state {
                        next.unfinished.push(shard);
                    }
                }
                Ok(())
            })?;
            there.lines(name, desk, |line| match line {
                Line::Entry(packed) => push(&packed.entry.path, (state, *number), Some(&packed.entry)),
                Line::Shard(_) | Line::State(..) | Line::Removed(_) => Ok(()),
            })?;
        }
        for (number, name) in &there.states {
            there.lines(name, desk, |line| match line {
                Line::Removed(path) => push(&path, (*number, 0), None),
                Line::Entry(_) | Line::Shard(_) | Line::State(..) => Ok(()),
            })?;
        }
        let entries = Sorted::merge(vec![sorter]).map_err(|errno| sorters.refusal(errno))?;
        let sorters = sorters.clone();
        Ok((next, Some(Self { entries, sorters })))
    }

    /// The next path, and the newest that is known of it.
    fn next(&mut self, ahead: &mut Option<Record>) -> Result<Option<Newest>, Refusal> {
        let failed = |errno| self.sorters.refusal(errno);
        let owned = |(key, payload): (&[u8], &[u8])| (key.to_vec(), payload.to_vec());
        if ahead.is_none() {
            *ahead = self.entries.next().map_err(failed)?.map(owned);
        }
        let Some((key, mut payload)) = ahead.take() else {
            return Ok(None);
        };
        while let Some((other, more)) = self.entries.next().map_err(failed)? {
            if other != key {
                *ahead = Some(owned((other, more)));
                break;
            }
            payload = more.to_vec();
        }
        let rest = payload.get(16..).ok_or_else(|| failed(Errno::IO))?;
        let entry = match rest.split_first() {
            Some((1, entry)) => Some(entry::decode(b"", entry).ok_or_else(|| failed(Errno::IO))?.0),
            _ => None,
        };
        Ok(Some((key, entry)))
    }

    /// Goes through what was found, in the order of paths, beside what is known. Answers what is to be packed, in its order,
    /// and what has been removed; what is the same gets its outcome here.
    pub fn join(
        mut self,
        (desk, same): (&Desk, &mut Same<'_>),
        sorters: &Sorters,
        found: &mut Sorted,
        dry: bool,
    ) -> Result<(Sorted, Option<Removed>), Refusal> {
        let sorters = sorters.anew(3).counted(desk.steps());
        let failed = |errno| sorters.refusal(errno);
        let (mut changed, mut linked) = (sorters.sorter(), sorters.sorter());
        let (mut removed, mut gone) = (sorters.sorter(), 0_u64);
        let (mut key, mut ahead) = (Vec::new(), None);
        let mut known = self.next(&mut ahead)?;
        let mut pass = |known: Option<Newest>| match known {
            Some((key, Some(_))) => {
                gone += 1;
                removed.push(&key, b"").map_err(failed)
            }
            _ => Ok(()),
        };
        let mut skip = |path: &[u8], entry: &Entry| {
            let kind = kind_of(entry);
            let bytes = entry.size.filter(|_| kind == Kind::File).unwrap_or_default();
            desk.counters[0].outcome(kind, Outcome::Skipped, Some(Reason::Unchanged), bytes);
            same(path, kind, bytes);
        };
        while let Some((path, payload)) = found.next().map_err(failed)? {
            let (entry, links) = entry::decode(b"", payload).ok_or_else(|| failed(Errno::IO))?;
            while known.as_ref().is_some_and(|(known, _)| &known[..] < path) {
                pass(known)?;
                known = self.next(&mut ahead)?;
            }
            let before = known.take_if(|(known, _)| &known[..] == path);
            if before.is_some() {
                known = self.next(&mut ahead)?;
            }
            let is_same = before.is_some_and(|(_, before)| before.is_some_and(|before| is_same(&before, &entry)));
            order_key(&of_key(path), &entry, links, &mut key);
            if links.is_some() {
                // The names of an inode that have changed come first.
                key.insert(LINK_BYTES, is_same.into());
                linked.push(&key, payload).map_err(failed)?;
            } else if is_same {
                skip(&of_key(path), &entry);
            } else {
                changed.push(&key, payload).map_err(failed)?;
            }
        }
        while known.is_some() {
            pass(known)?;
            known = self.next(&mut ahead)?;
        }
        // All names of an inode are packed again where one is: they are in one shard.
        let (mut linked, mut inode) = (Sorted::merge(vec![linked]).map_err(failed)?, Vec::new());
        while let Some((linked, payload)) = linked.next().map_err(failed)? {
            key.clear();
            key.extend_from_slice(linked);
            let is_same = key.remove(LINK_BYTES) > 0;
            if !is_same || inode == key[..LINK_BYTES] {
                inode = key[..LINK_BYTES].to_vec();
                changed.push(&key, payload).map_err(failed)?;
            } else {
                let (entry, _) = entry::decode(b"", payload).ok_or_else(|| failed(Errno::IO))?;
                skip(&of_key(&key[LINK_BYTES..]), &entry);
            }
        }
        let changed = Sorted::merge(vec![changed]).map_err(failed)?;
        if gone == 0 || dry {
            return Ok((changed, None));
        }
        // Who has not seen all can't tell what is gone.
        if desk.findings.failed() > 0 || desk.cancel.is_draining() {
            let text = "something could not be listed, so what was not found is not taken for removed".to_owned();
            desk.note("not-removed", || (Vec::new(), text));
            return Ok((changed, None));
        }
        let removed = Sorted::merge(vec![removed]).map_err(failed)?;
        Ok((changed, Some((removed, sorters))))
    }
}

fn is_same(before: &Entry, now: &Entry) -> bool {
    let facts = |entry: &Entry| {
        let Entry {
            kind,
            size,
            mtime,
            ctime,
            mode,
            uid,
            gid,
            ..
        } = entry;
        (*kind, *size, *mtime, *ctime, *mode, *uid, *gid)
    };
    facts(before) == facts(now)
}
