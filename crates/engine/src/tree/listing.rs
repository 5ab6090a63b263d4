//! What a listing gives, in forms that a million names fit in: packed batches, and queues of subdirectories.
//!
//! Comes in: an open directory; goes out: its names, with the kinds that the system tells.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::sync::Arc;

use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Follow, Kind, OwnedFd};

/// Bytes that one call lists: about a thousand names. The same buffer serves every directory of a worker.
pub const LISTING_BYTES: usize = 32 * 1024;

/// Entries of one directory, packed.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    names: Arc<Vec<u8>>,
    entries: Vec<(u32, Kind)>,
}

impl Batch {
    /// Entries of these names, packed, by where each begins.
    pub fn of(names: Vec<u8>, entries: Vec<(u32, Kind)>) -> Self {
        let names = Arc::new(names);
        Self { names, entries }
    }

    /// Adds an entry; before the batch is split only.
    pub fn push(&mut self, name: &CStr, kind: Kind) {
        let names = Arc::make_mut(&mut self.names);
        // One listing is bounded to far less than 4 GiB.
        self.entries
            .push((u32::try_from(names.len()).unwrap_or(u32::MAX), kind));
        names.extend_from_slice(name.to_bytes_with_nul());
    }

    /// Entries in it.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Name in the destination and kind of entry number `index`.
    pub fn get(&self, index: usize) -> (&CStr, Kind) {
        let (offset, kind) = self.entries[index];
        (sys::name_at(&self.names[offset as usize..]), kind)
    }

    /// All of them, as [`Batch::get`] tells them.
    pub fn iter(&self) -> impl Iterator<Item = (&CStr, Kind)> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Gives away the second half of what comes from `start` on, the larger one.
    #[must_use]
    pub fn split_off(&mut self, start: usize) -> Batch {
        self.take_from(start + (self.entries.len() - start) / 2)
    }

    /// Gives away all that comes from `start` on.
    #[must_use]
    pub fn take_from(&mut self, start: usize) -> Batch {
        Batch {
            names: Arc::clone(&self.names),
            entries: self.entries.split_off(start),
        }
    }
}

/// Hands every entry of a directory to `take`, from the beginning on; `step`: called between the pieces of a long one. Nobody
/// else may be listing it by this descriptor.
pub fn each(directory: BorrowedFd<'_>, step: impl Fn(), mut take: impl FnMut(&CStr, Kind)) -> sys::Result<()> {
    let mut buffer = Vec::with_capacity(LISTING_BYTES);
    sys::rewind_directory(directory)?;
    while sys::read_directory(directory, buffer.spare_capacity_mut(), |name, kind, _| take(name, kind))? {
        step();
    }
    Ok(())
}

/// The same by a descriptor of its own, where a walk may be listing the directory by this one right now.
pub fn each_apart(directory: &OwnedFd, step: impl Fn(), take: impl FnMut(&CStr, Kind)) -> sys::Result<()> {
    let own = sys::open_directory(directory.as_fd(), c".", Follow::No)?;
    each(own.as_fd(), step, take)
}

/// The first name of a directory that is looked for, if it has one. The descriptor's own place in a listing stays.
pub fn find_name(directory: &OwnedFd, mut is_it: impl FnMut(&CStr) -> bool) -> sys::Result<Option<CString>> {
    let directory = sys::open_directory(directory.as_fd(), c".", Follow::No)?;
    let mut buffer = Vec::with_capacity(LISTING_BYTES);
    let (mut found, mut more) = (None, true);
    while more && found.is_none() {
        more = sys::read_directory(directory.as_fd(), buffer.spare_capacity_mut(), |name, _, _| {
            if found.is_none() && is_it(name) {
                found = Some(name.to_owned());
            }
        })?;
    }
    Ok(found)
}

/// Whether a directory holds nothing. Nobody else may be listing it by this descriptor.
pub fn is_empty(directory: &OwnedFd) -> sys::Result<bool> {
    let mut buffer = [const { MaybeUninit::uninit() }; 512];
    let mut empty = true;
    sys::rewind_directory(directory.as_fd())?;
    sys::read_directory(directory.as_fd(), &mut buffer, |_, _, _| empty = false)?;
    Ok(empty)
}

/// Names of subdirectories that wait to be entered, first in first out: a million cost little more than their bytes.
#[derive(Debug, Default)]
pub struct Names {
    bytes: Vec<u8>,
    next: usize,
}

impl Names {
    /// Adds a name with a mark of the caller's.
    pub fn push(&mut self, mark: u8, name: &CStr) {
        self.bytes.push(mark);
        self.bytes.extend_from_slice(name.to_bytes_with_nul());
    }

    /// Adds all of another queue.
    pub fn append(&mut self, other: &mut Names) {
        self.bytes.extend_from_slice(&other.bytes[other.next..]);
        other.bytes.clear();
        other.next = 0;
    }

    /// The next name with its mark.
    pub fn pop(&mut self) -> Option<(u8, CString)> {
        let mark = *self.bytes.get(self.next)?;
        let name = sys::name_at(self.bytes.get(self.next + 1..)?).to_owned();
        self.next += 1 + name.as_bytes_with_nul().len();
        Some((mark, name))
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.next >= self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_apart_takes_nothing_from_one_that_is_under_way() {
        let scratch = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..1000).map(|number| format!("{number:0>100}")).collect();
        for name in &names {
            std::fs::write(scratch.path().join(name), "").unwrap();
        }
        let path = scratch.path().as_os_str().as_encoded_bytes();
        let directory = crate::tree::path::open_directory_path(path, Follow::No).unwrap();
        let (mut buffer, mut found, mut pieces) = (Vec::with_capacity(4096), Vec::new(), 0);
        while sys::read_directory(directory.as_fd(), buffer.spare_capacity_mut(), |name, _, _| {
            found.push(name.to_str().unwrap().to_owned());
        })
        .unwrap()
        {
            let mut apart = 0;
            each_apart(&directory, || (), |_, _| apart += 1).unwrap();
            assert_eq!(apart, names.len());
            pieces += 1;
        }
        found.sort();
        assert!(found == names && pieces > 2);
    }
}
