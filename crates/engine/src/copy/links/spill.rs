//! Where what is known of hard links goes when there is too much of it for memory: into two files without a name.
//!
//! Comes in: a file of the source, and where its copy is, by path; goes out: the same, found again with one read of the
//! table (expected) and a few of the records. The table is open addressing with linear probing, never more than half full
//! and doubled when it would be; the records are appended. Nothing of either is kept in memory, and neither is synced: they
//! are gone with the process. An error changes nothing that was stored before.

use std::ffi::{CStr, CString};

use bulkhaul_formats::digest::xxh64;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Identity, OwnedFd};

use crate::bytes::output::unnamed_file;
use crate::copy::entry::Original;
use crate::tree::path::{c_string, open_directory_path};

/// Bytes of a slot: device, inode, facts, record + 1, links left, each a 64-bit number.
const SLOT_BYTES: usize = 40;
/// Slots that one read brings; a stretch that is probed is seldom longer.
const BLOCK_SLOTS: usize = 16;
/// Slots of the first table, a power of two.
const FIRST_SLOTS: u64 = 4096;
/// Bytes of the length in front of a record.
const LENGTH_BYTES: usize = 4;

/// Where a copy is, without anything held open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// Which destination.
    pub destination: usize,
    /// Path of its directory below the destination.
    pub directory: Vec<u8>,
    /// Name that the directory has, or had, until it is published; empty for one that was when this was written.
    pub staging: Vec<u8>,
    /// Its name in the directory.
    pub name: CString,
    /// Its inode.
    pub id: Identity,
}

/// The inodes that are not in memory.
pub struct Spill {
    directory: OwnedFd,
    table: Table,
    records: OwnedFd,
    end: u64,
}

impl Spill {
    /// Makes the files in this directory.
    pub fn create(directory: &[u8]) -> sys::Result<Self> {
        let directory = open_directory_path(directory, Follow::Yes)?;
        Ok(Self {
            table: Table::create(&directory, FIRST_SLOTS)?,
            records: unnamed_file(&directory)?,
            end: 0,
            directory,
        })
    }

    /// Remembers a directory (see [`Whereabouts`]); answers what stands for it in [`Spill::insert`].
    pub fn directory(&mut self, path: &[u8], staging: &[u8]) -> sys::Result<u64> {
        // No name holds a NUL.
        self.append(&[staging, b"\0", path])
    }

    /// Remembers a copy of the file `of`, in the place of what was known of it; `left` links to it are still to come.
    pub fn insert(
        &mut self,
        of: Original,
        left: u32,
        directory: u64,
        destination: usize,
        name: &CStr,
        id: Identity,
    ) -> sys::Result<()> {
        let numbers = [directory, destination as u64, id.dev, id.ino].map(u64::to_le_bytes);
        let record = self.append(&[numbers.as_flattened(), name.to_bytes()])?;
        if self.table.is_half_full() {
            self.table = self.table.doubled(&self.directory)?;
        }
        self.table.put(Slot {
            of,
            record,
            left: u64::from(left),
        })
    }

    /// Where the copy of an inode is, if links to it are still to come.
    pub fn find(&self, of: Original) -> sys::Result<Option<Whereabouts>> {
        let (_, Some(slot)) = self.table.find(of)? else {
            return Ok(None);
        };
        if slot.left == 0 {
            return Ok(None);
        }
        let file = self.record(slot.record)?;
        let (numbers, name) = file.split_at_checked(32).ok_or(Errno::IO)?;
        let number = |at: usize| number(&numbers[at * 8..]);
        let directory = self.record(number(0))?;
        let cut = directory.iter().position(|b| *b == 0).ok_or(Errno::IO)?;
        Ok(Some(Whereabouts {
            destination: usize::try_from(number(1)).map_err(|_| Errno::IO)?,
            directory: directory[cut + 1..].to_vec(),
            staging: directory[..cut].to_vec(),
            name: c_string(name)?,
            id: Identity {
                dev: number(2),
                ino: number(3),
            },
        }))
    }

    /// One more link to an inode is done with; without any left it is not found again.
    pub fn seen(&mut self, of: Original) -> sys::Result<()> {
        match self.table.find(of)? {
            (index, Some(slot)) => self.table.write(
                index,
                Slot {
                    left: slot.left.saturating_sub(1),
                    ..slot
                },
            ),
            (_, None) => Ok(()),
        }
    }

    fn append(&mut self, parts: &[&[u8]]) -> sys::Result<u64> {
        let mut bytes = vec![0; LENGTH_BYTES];
        for part in parts {
            bytes.extend_from_slice(part);
        }
        let length = u32::try_from(bytes.len() - LENGTH_BYTES).map_err(|_| Errno::NAMETOOLONG)?;
        bytes[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
        sys::write_all_at(self.records.as_fd(), &bytes, self.end)?;
        let at = self.end;
        self.end += bytes.len() as u64;
        Ok(at)
    }

    fn record(&self, at: u64) -> sys::Result<Vec<u8>> {
        let mut length = [0; LENGTH_BYTES];
        read_exactly(&self.records, &mut length, at)?;
        let (length, from) = (u32::from_le_bytes(length), at + LENGTH_BYTES as u64);
        if from + u64::from(length) > self.end {
            return Err(Errno::IO);
        }
        let mut bytes = vec![0; length as usize];
        read_exactly(&self.records, &mut bytes, from)?;
        Ok(bytes)
    }
}

#[derive(Clone, Copy)]
struct Slot {
    of: Original,
    record: u64,
    left: u64,
}

impl Slot {
    /// `None`: free.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| number(&bytes[at * 8..]);
        Some(Self {
            of: Original {
                id: Identity {
                    dev: number(0),
                    ino: number(1),
                },
                facts: number(2),
            },
            record: number(3).checked_sub(1)?,
            left: number(4),
        })
    }

    fn encode(self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        let Original { id, facts } = self.of;
        let numbers = [id.dev, id.ino, facts, self.record + 1, self.left].map(u64::to_le_bytes);
        bytes.copy_from_slice(numbers.as_flattened());
        bytes
    }
}

struct Table {
    file: OwnedFd,
    /// A power of two, and a multiple of a block.
    slots: u64,
    /// Slots that are not free, with those that nobody looks for any more.
    used: u64,
}

impl Table {
    fn create(directory: &OwnedFd, slots: u64) -> sys::Result<Self> {
        let file = unnamed_file(directory)?;
        sys::set_size(file.as_fd(), slots * SLOT_BYTES as u64)?;
        Ok(Self { file, slots, used: 0 })
    }

    fn is_half_full(&self) -> bool {
        self.used >= self.slots / 2
    }

    /// The slot of a file, or the free one where it would be.
    fn find(&self, of: Original) -> sys::Result<(u64, Option<Slot>)> {
        let key = [of.id.dev, of.id.ino, of.facts].map(u64::to_le_bytes);
        let mut at = xxh64(key.as_flattened()) % self.slots;
        let mut block = [0; BLOCK_SLOTS * SLOT_BYTES];
        // Half of it is free, so this ends long before all was seen.
        for _ in 0..=self.slots / BLOCK_SLOTS as u64 {
            let first = at - at % BLOCK_SLOTS as u64;
            read_exactly(&self.file, &mut block, first * SLOT_BYTES as u64)?;
            for (bytes, index) in block.chunks_exact(SLOT_BYTES).zip(first..).filter(|(_, i)| *i >= at) {
                match Slot::decode(bytes) {
                    Some(slot) if slot.of != of => {}
                    found => return Ok((index, found)),
                }
            }
            at = (first + BLOCK_SLOTS as u64) % self.slots;
        }
        Err(Errno::IO)
    }

    fn write(&self, index: u64, slot: Slot) -> sys::Result<()> {
        sys::write_all_at(self.file.as_fd(), &slot.encode(), index * SLOT_BYTES as u64)
    }

    fn put(&mut self, slot: Slot) -> sys::Result<()> {
        let (index, found) = self.find(slot.of)?;
        self.write(index, slot)?;
        self.used += u64::from(found.is_none());
        Ok(())
    }

    /// The same in twice the room, without what nobody looks for any more.
    fn doubled(&self, directory: &OwnedFd) -> sys::Result<Self> {
        let mut table = Self::create(directory, self.slots * 2)?;
        let mut block = [0; BLOCK_SLOTS * SLOT_BYTES];
        for first in (0..self.slots).step_by(BLOCK_SLOTS) {
            read_exactly(&self.file, &mut block, first * SLOT_BYTES as u64)?;
            let slots = block.chunks_exact(SLOT_BYTES).filter_map(Slot::decode);
            for slot in slots.filter(|s| s.left > 0) {
                table.put(slot)?;
            }
        }
        Ok(table)
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk()
        .map_or(0, |eight: &[u8; 8]| u64::from_le_bytes(*eight))
}

fn read_exactly(file: &OwnedFd, buffer: &mut [u8], at: u64) -> sys::Result<()> {
    let read = sys::read_full_at(file.as_fd(), buffer, at)?;
    if read == buffer.len() { Ok(()) } else { Err(Errno::IO) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    /// Every fourth has the inode number of the one before, and other facts.
    fn original(number: u64) -> Original {
        let other = u64::from(number % 4 == 3);
        Original {
            id: Identity {
                dev: (number - other) % 3,
                ino: number - other,
            },
            facts: other,
        }
    }

    fn whereabouts(number: u64) -> Whereabouts {
        Whereabouts {
            destination: usize::try_from(number % 2).unwrap(),
            directory: b"a/long ".repeat(usize::try_from(number % 700).unwrap()),
            staging: if number.is_multiple_of(2) {
                b".bh-x".to_vec()
            } else {
                Vec::new()
            },
            name: c_string(format!("name {number}").as_bytes()).unwrap(),
            id: original(number + 7).id,
        }
    }

    fn insert(spill: &mut Spill, number: u64, left: u32) {
        let there = whereabouts(number);
        let directory = spill.directory(&there.directory, &there.staging).unwrap();
        spill
            .insert(
                original(number),
                left,
                directory,
                there.destination,
                &there.name,
                there.id,
            )
            .unwrap();
    }

    #[test]
    fn what_is_put_in_is_found_and_nothing_else() {
        let scratch = tempfile::tempdir().unwrap();
        let mut spill = Spill::create(scratch.path().as_os_str().as_bytes()).unwrap();
        let count = FIRST_SLOTS * 2 + 3;
        for number in 0..count {
            insert(&mut spill, number, 2);
        }
        assert_eq!(spill.table.slots, FIRST_SLOTS * 8, "it doubles when it is half full");
        for number in 0..count {
            assert_eq!(spill.find(original(number)).unwrap(), Some(whereabouts(number)));
            assert_eq!(spill.find(original(number + count)).unwrap(), None);
        }
        assert_eq!(scratch.path().read_dir().unwrap().count(), 0, "the files have no name");
    }

    #[test]
    fn what_was_seen_is_forgotten() {
        let scratch = tempfile::tempdir().unwrap();
        let mut spill = Spill::create(scratch.path().as_os_str().as_bytes()).unwrap();
        for number in 0..FIRST_SLOTS / 2 {
            insert(&mut spill, number, 2);
            spill.seen(original(number)).unwrap();
            assert!(spill.find(original(number)).unwrap().is_some());
            spill.seen(original(number)).unwrap();
            assert!(spill.find(original(number)).unwrap().is_none());
        }
        assert!(spill.table.is_half_full());
        // Doubling leaves the dead behind; one of them comes again.
        insert(&mut spill, FIRST_SLOTS, 1);
        insert(&mut spill, 5, 1);
        assert_eq!(spill.table.used, 2);
        assert_eq!(spill.find(original(5)).unwrap(), Some(whereabouts(5)));
        assert_eq!(spill.find(original(6)).unwrap(), None);
        // What nobody knows is not missed.
        spill.seen(original(7)).unwrap();
    }

    #[test]
    fn the_later_copy_counts() {
        let scratch = tempfile::tempdir().unwrap();
        let mut spill = Spill::create(scratch.path().as_os_str().as_bytes()).unwrap();
        insert(&mut spill, 1, 1);
        let directory = spill.directory(b"d", b"").unwrap();
        spill
            .insert(original(1), 3, directory, 0, c"other", original(9).id)
            .unwrap();
        assert_eq!(spill.find(original(1)).unwrap().unwrap().name, c"other".to_owned());
        assert_eq!(spill.table.used, 1);
    }
}
