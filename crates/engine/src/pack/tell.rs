//! What is told of a pack while it goes on: entries, and shards as they are there.

use bulkhaul_sys::Kind;

use super::order::Item;
use crate::entry::{Changes, Outcome, Reason};
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
    /// What becomes of an entry. `places`: its own, and its shard's.
    pub fn tell(self, item: &Item, places: impl FnOnce() -> (Vec<u8>, Vec<u8>), outcome: Outcome, bytes: u64) {
        if self.entries && !item.again {
            let (source, destination) = places();
            self.desk.tell(EntryEvent {
                destination,
                target: item.leader.clone(),
                ..event((&item.path, item.kind(), &source), outcome, bytes)
            });
        }
    }

    /// It is in a shard already.
    pub fn unchanged(self, entry: (&[u8], Kind, &[u8]), bytes: u64) {
        let event = || EntryEvent {
            changes: Changes::default(),
            reason: Some(Reason::Unchanged),
            ..event(entry, Outcome::Skipped, bytes)
        };
        if self.entries {
            self.desk.tell(event());
        }
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

/// What is told of an entry of this path, kind and place.
fn event((path, kind, source): (&[u8], Kind, &[u8]), outcome: Outcome, bytes: u64) -> EntryEvent {
    EntryEvent {
        outcome,
        kind,
        path: path.to_vec(),
        source: source.to_vec(),
        destination: Vec::new(),
        bytes,
        changes: Changes::NEW,
        reason: None,
        target: None,
        hash: None,
        digests: Vec::new(),
        details: None,
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
