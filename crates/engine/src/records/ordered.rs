//! Entry events of a dry run, in the order of their paths: below a directory comes what is in it.
//!
//! Comes in: the desk of an operation that does nothing, whose events come as its workers find entries; goes out: the same
//! events in order, when all have come. What memory should not hold goes to a file without a name; where that can't be had,
//! events go out as they come, and a note says so.

use std::sync::{Arc, Mutex, PoisonError};

use bulkhaul_sys::Errno;

use crate::entry::{Changes, KINDS, Outcome, Reason, kind_index};
use crate::error::describe;
use crate::event::{EntryEvent, Event};
use crate::job::desk::Desk;
use crate::records::record::path_key;
use crate::records::sort::{SORT_BYTES, Sorted, Sorter, Sorters};

/// Holds the entry events of a desk back.
pub struct Ordered(Arc<Mutex<Sorter>>);

impl Ordered {
    /// From now on.
    pub fn hold(desk: &Desk, spill_directory: Option<&[u8]>) -> Self {
        let sorters = Sorters::new(spill_directory, SORT_BYTES, 1).counted(desk.steps());
        let held = Arc::new(Mutex::new(sorters.sorter()));
        let sorter = Arc::clone(&held);
        desk.divert(move |event| {
            let (mut key, mut payload) = (Vec::new(), Vec::new());
            path_key(&event.path, &mut key);
            encode(event, &mut payload);
            let mut sorter = sorter.lock().unwrap_or_else(PoisonError::into_inner);
            sorter.push(&key, &payload)
        });
        Self(held)
    }

    /// Gives all of them out.
    pub fn release(self, desk: &Desk) {
        let sorter = std::mem::replace(
            &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner),
            Sorters::new(None, 0, 1).sorter(),
        );
        let given = Sorted::merge(vec![sorter]).and_then(|mut sorted| {
            while let Some((_, payload)) = sorted.next()? {
                let event = decode(payload).ok_or(Errno::IO)?;
                desk.queue.push(Event::Entry(event));
            }
            Ok(())
        });
        if let Err(errno) = given {
            let message = format!("not all entries could be told in order: {}", describe(errno));
            desk.lose("order", || (Vec::new(), message));
        }
    }
}

fn encode(event: &EntryEvent, bytes: &mut Vec<u8>) {
    let reason = event.reason.map_or(u8::MAX, |reason| reason as u8);
    let kind = u8::try_from(kind_index(event.kind)).unwrap_or_default();
    bytes.extend_from_slice(&[event.outcome as u8, kind, reason, u8::from(event.target.is_some())]);
    bytes.extend_from_slice(&event.changes.0.to_le_bytes());
    bytes.extend_from_slice(&event.bytes.to_le_bytes());
    let target = event.target.as_deref().unwrap_or_default();
    for part in [&event.path, &event.source, &event.destination, target] {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
}

fn decode(bytes: &[u8]) -> Option<EntryEvent> {
    let (&[outcome, kind, reason, has_target], rest) = bytes.split_first_chunk()?;
    let (changes, rest) = rest.split_first_chunk()?;
    let (written, mut rest) = rest.split_first_chunk()?;
    let mut part = || {
        let (length, after) = rest.split_first_chunk()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (part, after) = after.split_at_checked(length)?;
        rest = after;
        Some(part.to_vec())
    };
    let [path, source, destination, target] = [part()?, part()?, part()?, part()?];
    Some(EntryEvent {
        outcome: *Outcome::ALL.get(usize::from(outcome))?,
        kind: *KINDS.get(usize::from(kind))?,
        path,
        source,
        destination,
        bytes: u64::from_le_bytes(*written),
        changes: Changes(u16::from_le_bytes(*changes)),
        reason: Reason::ALL.get(usize::from(reason)).copied(),
        target: (has_target != 0).then_some(target),
        hash: None,
        digests: Vec::new(),
        details: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Waiter;
    use bulkhaul_sys::Kind;
    use std::sync::mpsc;

    fn event(path: &str) -> EntryEvent {
        EntryEvent {
            outcome: Outcome::Copied,
            kind: Kind::File,
            path: path.into(),
            source: b"s".to_vec(),
            destination: Vec::new(),
            bytes: 1 << 40,
            changes: Changes::TIME,
            reason: Some(Reason::SameFile),
            target: Some(Vec::new()),
            hash: None,
            digests: Vec::new(),
            details: None,
        }
    }

    #[test]
    fn what_comes_in_any_order_goes_out_by_path() {
        let desk = Desk::new(1);
        desk.queue.subscribe();
        let ordered = Ordered::hold(&desk, None);
        let paths = ["a", "a/b", "a/b/c", "a!", "b"];
        for path in paths.iter().rev() {
            desk.tell(event(path));
        }
        ordered.release(&desk);
        let (give, given) = mpsc::channel();
        let waiter: Waiter = Box::new(move |events| give.send(events).unwrap());
        desk.queue.next(waiter);
        let events = given.recv().unwrap().into_iter();
        let told: Vec<String> = events.map(|event| format!("{event:?}")).collect();
        assert_eq!(told, paths.map(|path| format!("{:?}", Event::Entry(event(path)))));
    }
}
