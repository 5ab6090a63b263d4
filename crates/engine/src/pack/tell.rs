//! What is told of a pack while it goes on: entries, and shards as they are there.

use bulkhaul_sys::Kind;

use super::order::Item;
use crate::entry::{Changes, Outcome};
use crate::event::{EntryEvent, Event};
use crate::job::desk::Desk;
use crate::report::{PARTS_KEPT, Part, Parts};

/// Tells whoever watches.
#[derive(Clone, Copy)]
pub struct Teller<'t> {
    pub desk: &'t Desk,
    /// Entries too.
    pub entries: bool,
}

impl Teller<'_> {
    /// What becomes of an entry.
    pub fn tell(self, (item, source): (&Item, &[u8]), outcome: Outcome, bytes: u64) {
        if !self.entries || item.again {
            return;
        }
        self.desk.tell(EntryEvent {
            outcome,
            kind: item.kind(),
            path: item.path.clone(),
            source: source.to_vec(),
            destination: Vec::new(),
            bytes,
            changes: Changes::NEW,
            reason: None,
            target: item.leader.clone(),
            hash: None,
            digests: Vec::new(),
            details: None,
        });
    }

    /// A shard is there, or would be.
    pub fn add(self, parts: &mut Parts, part: Part) {
        parts.number += 1;
        parts.entries += part.entries;
        parts.bytes += part.bytes;
        if parts.first.len() < PARTS_KEPT {
            parts.first.push(part.clone());
        }
        self.desk.queue.push(Event::Part(part));
    }
}

/// What becomes of an entry that is packed.
pub fn outcome_of(kind: Kind, is_link: bool) -> Outcome {
    match kind {
        _ if is_link => Outcome::Linked,
        Kind::File => Outcome::Copied,
        _ => Outcome::Made,
    }
}
