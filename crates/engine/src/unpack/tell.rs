//! What is told of the entries of an unpacking.

use bulkhaul_formats::shards::Packed;

use super::archive::Archives;
use super::words::Done;
use crate::entry::Changes;
use crate::event::EntryEvent;
use crate::job::desk::Desk;
use crate::records::entry::{details, kind_of};
use crate::tree::path::join;

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
            details: Some(details(entry)),
        });
    }
}
