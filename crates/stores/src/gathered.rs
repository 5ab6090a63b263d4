//! A listing that is gathered first and told in order: for places that have an order of their own.
//!
//! Comes in: entries in any order; goes out: the same in the order of the bytes of their keys. Memory does not grow with their
//! number. What runs have not finished in a destination is none of it: that of dead ones is told apart, to be cleared.

use bulkhaul_engine::error::{Cause, Fault, Operation, Refusal, Side, Stopped};
use bulkhaul_engine::job::desk::Desk;
use bulkhaul_engine::records::sort::{SORT_BYTES, Sorted, Sorter, Sorters};
use bulkhaul_engine::tree::path::split;
use bulkhaul_engine::tree::staging::{Owner, Stager};
use bulkhaul_engine::{Errno, Kind};
use bulkhaul_sys::Time;

use crate::store::{Entry, Facts, Listing};

/// Bytes of what is kept beside a key: kind, size, time, mode.
const PAYLOAD_BYTES: usize = 25;
/// There is no mode.
const NO_MODE: u32 = u32::MAX;
/// What dead runs have left that is cleared at once; the rest is by the next run.
const MOST_LEFT: usize = 10_000;

/// Takes entries in.
pub struct Gathering {
    sorters: Sorters,
    sorter: Sorter,
    side: Side,
    stager: Stager,
    /// What dead runs have not finished.
    pub left: Vec<Vec<u8>>,
}

impl Gathering {
    /// None yet.
    pub fn new(desk: &Desk, side: Side, spill_directory: Option<&[u8]>) -> Self {
        let sorters = Sorters::new(spill_directory, SORT_BYTES / 2, 1).counted(desk.steps());
        Self {
            sorter: sorters.sorter(),
            sorters,
            side,
            stager: Stager::new(),
            left: Vec::new(),
        }
    }

    /// One more: its key, kind, size, last change and mode.
    pub fn push(&mut self, entry: &Entry) -> Result<(), Fault> {
        match self.stager.owner(split(&entry.key).1) {
            Some(owner) if self.side != Side::Source && entry.kind != Kind::Directory => {
                if owner == Owner::Dead && self.left.len() < MOST_LEFT {
                    self.left.push(entry.key.clone());
                }
                return Ok(());
            }
            _ => {}
        }
        let kind = match entry.kind {
            Kind::File => 0_u8,
            Kind::Directory => 1,
            Kind::Symlink => 2,
            _ => 3,
        };
        let mode = entry.facts.as_ref().and_then(|facts| facts.mode).unwrap_or(NO_MODE);
        let payload = [
            &[kind][..],
            &entry.size.to_le_bytes(),
            &entry.written.sec.to_le_bytes(),
            &entry.written.nsec.to_le_bytes(),
            &mode.to_le_bytes(),
        ]
        .concat();
        let pushed = self.sorter.push(&entry.key, &payload);
        pushed.map_err(|errno| Fault::new(Operation::List, self.side, errno))
    }

    /// All of them, in order.
    pub fn told(self) -> Result<Box<dyn Listing>, Refusal> {
        let sorted = Sorted::merge(vec![self.sorter]).map_err(|errno| self.sorters.refusal(errno))?;
        let side = self.side;
        Ok(Box::new(Gathered {
            sorted,
            side,
            last: Vec::new(),
        }))
    }
}

struct Gathered {
    sorted: Sorted,
    side: Side,
    last: Vec<u8>,
}

impl Listing for Gathered {
    fn next(&mut self) -> Result<Option<Entry>, Stopped> {
        let broken = |errno| Fault::new(Operation::List, self.side, errno);
        let Some((key, payload)) = self.sorted.next().map_err(broken)? else {
            return Ok(None);
        };
        if key == self.last {
            let text = format!("there are two of one name: {}", String::from_utf8_lossy(key));
            return Err(Fault {
                operation: Operation::List,
                side: self.side,
                cause: Cause::Answered("listing", text),
            }
            .into());
        }
        self.last = key.to_vec();
        entry(key, payload).map(Some).ok_or_else(|| broken(Errno::IO).into())
    }
}

fn entry(key: &[u8], payload: &[u8]) -> Option<Entry> {
    let payload: [u8; PAYLOAD_BYTES] = payload.try_into().ok()?;
    let (kind, rest) = payload.split_first()?;
    let (size, rest) = rest.split_first_chunk()?;
    let (sec, rest) = rest.split_first_chunk()?;
    let (nsec, rest) = rest.split_first_chunk()?;
    let (mode, _) = rest.split_first_chunk()?;
    let written = Time {
        sec: i64::from_le_bytes(*sec),
        nsec: u32::from_le_bytes(*nsec),
    };
    let mode = u32::from_le_bytes(*mode);
    let kind = match kind {
        0 => Kind::File,
        1 => Kind::Directory,
        2 => Kind::Symlink,
        _ => Kind::Unknown,
    };
    Some(Entry {
        key: key.to_vec(),
        kind,
        size: u64::from_le_bytes(*size),
        written,
        tag: Vec::new(),
        facts: Some(Facts {
            mtime: (kind != Kind::Directory).then_some(written),
            mode: (mode != NO_MODE).then_some(mode),
            ..Facts::default()
        }),
        failed: false,
    })
}

/// The listing of a place that is not there, or that nobody wants to have listed any more.
pub struct Nothing {
    /// Nobody wants it any more.
    pub stopped: bool,
}

impl Listing for Nothing {
    fn next(&mut self) -> Result<Option<Entry>, Stopped> {
        if self.stopped { Err(Stopped::Aborted) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gathered_is_told_in_order() {
        let desk = Desk::new(1);
        let mut gathering = Gathering::new(&desk, Side::Source, None);
        let of = |key: &str, kind, mode| Entry {
            key: key.into(),
            kind,
            size: 5,
            written: Time { sec: -7, nsec: 8 },
            tag: Vec::new(),
            facts: Some(Facts {
                mtime: (kind != Kind::Directory).then_some(Time { sec: -7, nsec: 8 }),
                mode,
                ..Facts::default()
            }),
            failed: false,
        };
        let entries = [
            of("a!", Kind::File, Some(0o640)),
            of("a/", Kind::Directory, None),
            of("a/b", Kind::Symlink, Some(0o777)),
            of("b", Kind::File, None),
        ];
        for entry in entries.iter().rev() {
            gathering.push(entry).unwrap();
        }
        let mut listing = gathering.told().unwrap();
        for entry in entries {
            assert_eq!(listing.next().unwrap(), Some(entry));
        }
        assert_eq!(listing.next().unwrap(), None);
    }
}
