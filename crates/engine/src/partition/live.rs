//! Parts that are handed on while the walk goes on.
//!
//! Comes in: entries from all threads of a walk, as they are found; goes out: lists, each as soon as nothing more fits into
//! its part. Limits are kept; what alone is more than a part has one of its own. Which entry is in which part depends on who
//! finds what first. Links wait for the end of the walk, when all of an inode's are known, and go into the parts after it.
//! Memory does not grow with what is found.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bulkhaul_sys::{Errno, Identity};

use super::gather::Taker;
use super::lists::{Lists, OpenPart};
use super::pack::{Limits, Load};
use super::plan::{Sorts, groups};
use super::record::{Record, Thing, link_key, of_thing};
use crate::error::Refusal;
use crate::job::desk::Desk;
use crate::records::sort::{Sorted, Sorter};
use crate::report::Parts;
use crate::report::counters::Counters;

/// Takes what a walk finds, and hands parts on.
pub struct Live<'l> {
    sorts: &'l Sorts,
    desk: &'l Desk,
    filling: Mutex<Filling>,
    links: Mutex<Vec<Sorter>>,
    broken: OnceLock<Refusal>,
}

/// The part that is being filled.
struct Filling {
    lists: Lists,
    limits: Limits,
    open: Option<(OpenPart, Load)>,
    line: Vec<u8>,
}

impl Filling {
    /// An entry, into the open part or the next one; what is more than a part, into one of its own.
    fn add(&mut self, name: &[u8], record: Record, load: Load) -> Result<(), Refusal> {
        if self.limits.allow(load) {
            self.room(load)?;
            return self.put(name, record, load);
        }
        let open = self.open.replace((self.lists.begin()?, Load::default()));
        self.put(name, record, load)?;
        match std::mem::replace(&mut self.open, open) {
            Some((part, held)) => self.close(part, held),
            None => Ok(()),
        }
    }

    /// Room for something, in the open part or the next one.
    fn room(&mut self, load: Load) -> Result<(), Refusal> {
        if let Some((part, held)) = self.open.take_if(|(_, held)| !self.limits.allow(held.plus(load))) {
            self.close(part, held)?;
        }
        if self.open.is_none() {
            self.open = Some((self.lists.begin()?, Load::default()));
        }
        Ok(())
    }

    fn close(&mut self, part: OpenPart, held: Load) -> Result<(), Refusal> {
        // A file of more than a part is alone in it.
        let split = u64::from(held.bytes > self.limits.bytes);
        self.lists.end(part, held, split)
    }

    /// Puts an entry into the open part.
    fn put(&mut self, name: &[u8], record: Record, load: Load) -> Result<(), Refusal> {
        let range = (record.bytes > self.limits.bytes).then_some(self.limits.bytes.max(1));
        if let Some((part, held)) = &mut self.open {
            *held = held.plus(load);
            self.lists.write(part, (name, record), range, &mut self.line)?;
        }
        Ok(())
    }
}

impl<'l> Live<'l> {
    /// Into these lists.
    pub fn new(sorts: &'l Sorts, desk: &'l Desk, lists: Lists, limits: Limits) -> Self {
        Self {
            sorts,
            desk,
            filling: Mutex::new(Filling {
                lists,
                limits,
                open: None,
                line: Vec::new(),
            }),
            links: Mutex::default(),
            broken: OnceLock::new(),
        }
    }

    fn filling(&self) -> MutexGuard<'_, Filling> {
        self.filling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_up(&self, refusal: Refusal) {
        self.broken.get_or_init(|| refusal);
        self.desk.cancel.drain();
    }

    /// After the walk: links go into parts, and the last part is handed on.
    pub fn finish(self) -> Result<Parts, Refusal> {
        let Self {
            sorts,
            desk,
            filling,
            links,
            broken,
        } = self;
        let mut filling = filling.into_inner().unwrap_or_else(PoisonError::into_inner);
        let links = links.into_inner().unwrap_or_else(PoisonError::into_inner);
        let ended = match broken.into_inner() {
            Some(refusal) => Err(refusal),
            None => rest(&mut filling, links, sorts, desk),
        };
        let stopped = ended.is_err() || desk.cancel.is_draining();
        let Filling { mut lists, open, .. } = filling;
        if let Some((part, held)) = open {
            if stopped {
                OpenPart::give_up(part)?;
            } else {
                let split = u64::from(held.bytes > filling.limits.bytes);
                lists.end(part, held, split)?;
            }
        }
        let parts = lists.close(!stopped)?;
        ended.map(|()| parts)
    }
}

/// Puts links into parts, those of one inode into one.
fn rest(filling: &mut Filling, links: Vec<Sorter>, sorts: &Sorts, desk: &Desk) -> Result<(), Refusal> {
    let failed = |errno| sorts.links().refusal(errno);
    let (groups, _) = groups(links, sorts.links())?;
    let mut things = Sorted::merge(vec![groups]).map_err(failed)?;
    let mut group = 0;
    while !desk.cancel.is_draining()
        && let Some((key, payload)) = things.next().map_err(failed)?
    {
        let (what, mut record) = of_thing(key, payload).ok_or_else(|| failed(Errno::IO))?;
        let load = |entries| Load {
            bytes: record.bytes,
            entries,
        };
        match what {
            Thing::Entry(name) => filling.add(name, record, load(1))?,
            Thing::Group(names) => {
                group += 1;
                filling.room(load(names))?;
                // It counts at once; its names then count no more.
                if let Some((_, held)) = &mut filling.open {
                    *held = held.plus(load(names));
                }
            }
            Thing::Member(name) => {
                record.group = group;
                filling.put(name, record, Load::default())?;
            }
        }
    }
    Ok(())
}

impl Taker for Live<'_> {
    type Hand = (Sorter, Vec<u8>);

    fn hand(&self) -> Self::Hand {
        (self.sorts.links().sorter(), Vec::new())
    }

    fn finish(&self, (mut links, _): Self::Hand) {
        links.sort();
        self.links.lock().unwrap_or_else(PoisonError::into_inner).push(links);
    }

    fn take(
        &self,
        (links, key): &mut Self::Hand,
        _counters: &Counters,
        name: &[u8],
        record: Record,
        inode: Option<Identity>,
    ) {
        if self.broken.get().is_some() {
            return;
        }
        if let Some(inode) = inode {
            link_key(inode, name, key);
            if let Err(errno) = links.push(key, &record.encode()) {
                self.give_up(self.sorts.links().refusal(errno));
            }
            return;
        }
        let load = Load {
            bytes: record.bytes,
            entries: 1,
        };
        let mut filling = self.filling();
        let taken = filling.add(name, record, load);
        drop(filling);
        if let Err(refusal) = taken {
            self.give_up(refusal);
        }
    }
}
