//! The index of an archive, which goes with it.
//!
//! Comes in: an archive of BGZF, and what has the name of its index, or is to get it; goes out: whether it is that, or it is
//! written. Nothing is decompressed: each member says how long it is, and how long its content.

use bulkhaul_formats::codec::{MEMBER_HEAD, member_bytes};
use bulkhaul_sys::{self as sys, AsFd as _, OwnedFd};

use crate::compress::make::MADE;
use crate::error::{Fault, Operation, Side, Stopped};
use crate::job::desk::Desk;

/// Bytes of an entry: where a member begins in the archive, and in the content.
const ENTRY_BYTES: usize = 16;
/// Entries that are read at a time.
const ENTRIES: u64 = 4096;
/// Bytes of the number before them.
const NUMBER_BYTES: usize = 8;

/// Where a member begins, in the archive and in the content.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    archive: u64,
    content: u64,
}

impl Place {
    /// Where the next one begins; none where this is none.
    fn next(self, archive: &OwnedFd) -> sys::Result<Option<Self>> {
        let mut head = [0; MEMBER_HEAD];
        let length = sys::read_full_at(archive.as_fd(), &mut head, self.archive)?;
        let Some(bytes) = member_bytes(&head[..length]).filter(|bytes| *bytes > 4) else {
            return Ok(None);
        };
        let (mut content, end) = ([0; 4], self.archive + bytes);
        if sys::read_full_at(archive.as_fd(), &mut content, end - 4)? < content.len() {
            return Ok(None);
        }
        let content = u64::from(u32::from_le_bytes(content));
        Ok(Some(Self {
            archive: end,
            content: self.content + content,
        }))
    }
}

/// Writes the index of an archive into a new file. False: the archive is no BGZF, and has none.
pub fn write(archive: &OwnedFd, size: u64, into: &OwnedFd, desk: &Desk) -> Result<bool, Stopped> {
    let of_archive = |errno| Fault::new(Operation::Read, MADE, errno);
    let of_index = |errno| Fault::new(Operation::Write, MADE, errno);
    let (mut place, mut number, mut offset) = (Place::default(), 0_u64, NUMBER_BYTES as u64);
    let mut entries = Vec::with_capacity(usize::try_from(ENTRIES).unwrap_or(0) * ENTRY_BYTES);
    let mut put = |entries: &mut Vec<u8>| {
        sys::write_all_at(into.as_fd(), entries, offset).map_err(of_index)?;
        offset += entries.len() as u64;
        entries.clear();
        Ok::<(), Fault>(())
    };
    while place.archive < size {
        if desk.cancel.is_over() {
            return Err(Stopped::Aborted);
        }
        let Some(next) = place.next(archive).map_err(of_archive)? else {
            return Ok(false);
        };
        // The first one begins where the archive does, and that of nothing ends it.
        let ends = next.archive >= size && next.content == place.content;
        if place.archive > 0 && !ends {
            entries.extend(place.archive.to_le_bytes());
            entries.extend(place.content.to_le_bytes());
            number += 1;
            if number.is_multiple_of(ENTRIES) {
                put(&mut entries)?;
            }
        }
        place = next;
    }
    put(&mut entries)?;
    sys::write_all_at(into.as_fd(), &number.to_le_bytes(), 0).map_err(of_index)?;
    Ok(true)
}

/// Whether a file is the index of an archive.
pub fn is_of(index: &OwnedFd, archive: &OwnedFd, desk: &Desk) -> Result<bool, Stopped> {
    let is_of = || -> sys::Result<Option<bool>> {
        let mut number = [0; NUMBER_BYTES];
        let length = sys::read_full_at(index.as_fd(), &mut number, 0)?;
        let number = u64::from_le_bytes(number);
        let size = sys::stat_fd(index.as_fd())?.size;
        if length < NUMBER_BYTES || number.checked_mul(ENTRY_BYTES as u64) != size.checked_sub(NUMBER_BYTES as u64) {
            return Ok(Some(false));
        }
        let mut place = Place::default();
        let mut entries = vec![0; usize::try_from(number.min(ENTRIES)).unwrap_or(0) * ENTRY_BYTES];
        let mut read = 0;
        while read < number {
            if desk.cancel.is_over() {
                return Ok(None);
            }
            let some = usize::try_from((number - read).min(ENTRIES)).unwrap_or(0);
            let entries = &mut entries[..some * ENTRY_BYTES];
            let offset = NUMBER_BYTES as u64 + read * ENTRY_BYTES as u64;
            if sys::read_full_at(index.as_fd(), entries, offset)? < entries.len() {
                return Ok(Some(false));
            }
            for entry in entries.chunks_exact(ENTRY_BYTES) {
                let half = |half: &[u8]| half.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
                let told = Place {
                    archive: half(&entry[..ENTRY_BYTES / 2]),
                    content: half(&entry[ENTRY_BYTES / 2..]),
                };
                match place.next(archive)? {
                    Some(next) if next == told => place = next,
                    _ => return Ok(Some(false)),
                }
            }
            read += some as u64;
        }
        // After the last one that it has comes that of nothing, which ends the archive.
        let Some(last) = place.next(archive)? else {
            return Ok(Some(false));
        };
        let end = last.next(archive)?;
        Ok(Some(end.is_none_or(|end| end.content == last.content)))
    };
    match is_of() {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(Stopped::Aborted),
        Err(errno) => Err(Fault::new(Operation::Verify, Side::Source, errno).into()),
    }
}
