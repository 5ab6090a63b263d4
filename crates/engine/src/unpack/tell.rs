//! What is told of the entries of an unpacking.

use bulkhaul_formats::shards::Packed;
use bulkhaul_sys::Time;

use super::archive::Archives;
use super::words::Done;
use crate::entry::{Changes, Details};
use crate::event::EntryEvent;
use crate::job::desk::Desk;
use crate::records::entry::kind_of;
use crate::tree::path::join;

const SECOND: i128 = 1_000_000_000;

/// Tells whoever watches, if anybody does.
#[derive(Clone, Copy)]
pub struct Teller<'t> {
    pub desk: &'t Desk,
    pub entries: bool,
    pub archives: &'t Archives,
    /// The target; none: nothing goes anywhere.
    pub target: Option<&'t [u8]>,
}

impl Teller<'_> {
    /// What became of an entry.
    pub fn tell(self, packed: &Packed, done: &Done) {
        if !self.entries {
            return;
        }
        let entry = &packed.entry;
        let mtime = entry.mtime.unwrap_or_default();
        self.desk.tell(EntryEvent {
            outcome: done.outcome,
            kind: kind_of(entry),
            path: entry.path.clone(),
            source: self.archives.path(&packed.shard),
            destination: self.target.map(|target| join(target, &entry.path)).unwrap_or_default(),
            bytes: done.bytes,
            changes: Changes::default(),
            reason: done.reason,
            target: entry.target.clone(),
            hash: None,
            digests: entry.digests.clone(),
            details: Some(Details {
                size: entry.size.unwrap_or_default(),
                vague: false,
                mtime: Time {
                    sec: i64::try_from(mtime.div_euclid(SECOND)).unwrap_or_default(),
                    nsec: u32::try_from(mtime.rem_euclid(SECOND)).unwrap_or_default(),
                },
                mode: entry.mode.unwrap_or_default(),
                uid: entry.uid.unwrap_or_default(),
                gid: entry.gid.unwrap_or_default(),
                rdev: 0,
                xattrs: 0,
            }),
        });
    }
}
