//! Keys in whose way the destination has something extra: a file where a directory comes, or the reverse, or one of both where a
//! symlink was, whose key has an end of its own. Disks can't have both, and neither can many stores.
//!
//! Comes in: keys as both sides are met, in the order of their bytes; goes out: tasks that know whether something is in their
//! way. What a destination refused for that waits here until the extra entries are gone, and memory does not grow with it.

use std::sync::{Mutex, PoisonError};

use bulkhaul_engine::Kind;
use bulkhaul_engine::error::{Fault, Refusal, Side};
use bulkhaul_engine::job::desk::Desk;
use bulkhaul_engine::records::sort::{SORT_BYTES, Sorted, Sorter, Sorters};
use bulkhaul_sys::Time;

use crate::local::LINK_SUFFIX;
use crate::store::Entry;
use crate::sync::act::Task;

/// What is found, as far as the next keys may be below it. Keys that begin alike come together, so no more is held than a key
/// has bytes.
#[derive(Default)]
pub struct Way {
    /// Extra entries of the destination.
    extra: Vec<Vec<u8>>,
    /// Tasks, and whether nothing follows in the directory that they are.
    tasks: Vec<(Task, bool)>,
}

impl Way {
    /// Goes on to a key: answers the tasks below which nothing more can be.
    pub fn pass(&mut self, key: &[u8]) -> Vec<(Task, bool)> {
        self.extra.retain(|extra| key.starts_with(plain(extra)));
        let stay = self.tasks.iter();
        let stay = stay.take_while(|(task, _)| key.starts_with(plain(task.target())));
        let stay = stay.count();
        self.tasks.split_off(stay)
    }

    /// All that is left.
    pub fn end(&mut self) -> Vec<(Task, bool)> {
        std::mem::take(&mut self.tasks)
    }

    /// An extra entry that is to go, at the key that was passed last.
    pub fn extra(&mut self, key: &[u8]) {
        for (task, _) in &mut self.tasks {
            task.blocked |= meets(key, task.target());
        }
        self.extra.push(key.to_vec());
    }

    /// A task, at the key that was passed last.
    pub fn hold(&mut self, mut task: Task, is_empty: bool) {
        task.blocked = self.extra.iter().any(|extra| meets(task.target(), extra));
        self.tasks.push((task, is_empty));
    }
}

/// A key without what a symlink has behind it.
fn plain(key: &[u8]) -> &[u8] {
    key.strip_suffix(LINK_SUFFIX).unwrap_or(key)
}

/// Whether a disk can't have both, if the second can be no directory or is another.
fn meets(key: &[u8], other: &[u8]) -> bool {
    let rest = key.strip_prefix(plain(other));
    rest.is_some_and(|rest| rest.starts_with(b"/") || rest == LINK_SUFFIX || (rest.is_empty() && key != other))
}

/// What waits until the way is free.
pub struct Blocked {
    sorters: Sorters,
    waiting: Mutex<Sorter>,
}

impl Blocked {
    /// Nothing yet.
    pub fn new(spill_directory: Option<&[u8]>, desk: &Desk) -> Self {
        let sorters = Sorters::new(spill_directory, SORT_BYTES / 8, 2).counted(desk.steps());
        Self {
            waiting: Mutex::new(sorters.sorter()),
            sorters,
        }
    }

    /// Whether a task failed by what is in its way, as far as that can be told: not every store has a word for it.
    pub fn is_why(task: &Task, fault: &Fault) -> bool {
        task.blocked && matches!(fault.side, Side::Destination(_)) && matches!(fault.kind(), "conflict" | "server")
    }

    /// One more that waits.
    pub fn wait(&self, entry: &Entry) -> Result<(), Refusal> {
        let mut payload = entry.size.to_le_bytes().to_vec();
        payload.extend(entry.written.sec.to_le_bytes());
        payload.extend(entry.written.nsec.to_le_bytes());
        payload.push(u8::from(entry.kind == Kind::Directory));
        payload.extend(&entry.tag);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting
            .push(&entry.key, &payload)
            .map_err(|errno| self.sorters.refusal(errno))
    }

    /// Those that waited until now.
    pub fn release(&self) -> Result<Released<'_>, Refusal> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = std::mem::replace(&mut *waiting, self.sorters.sorter());
        let sorted = Sorted::merge(vec![waited]).map_err(|errno| self.sorters.refusal(errno))?;
        Ok(Released {
            sorters: &self.sorters,
            sorted: Mutex::new(sorted),
        })
    }
}

/// Tasks that waited.
pub struct Released<'b> {
    sorters: &'b Sorters,
    sorted: Mutex<Sorted>,
}

impl Released<'_> {
    /// The next one; what the destination has now is not known.
    pub fn next(&self) -> Result<Option<Task>, Refusal> {
        let mut sorted = self.sorted.lock().unwrap_or_else(PoisonError::into_inner);
        match sorted.next() {
            Ok(found) => Ok(found.and_then(|(key, payload)| task(key, payload))),
            Err(errno) => Err(self.sorters.refusal(errno)),
        }
    }
}

fn task(key: &[u8], payload: &[u8]) -> Option<Task> {
    let (size, rest) = payload.split_first_chunk()?;
    let (sec, rest) = rest.split_first_chunk()?;
    let (nsec, rest) = rest.split_first_chunk()?;
    let (directory, tag) = rest.split_first()?;
    Some(Task::of(Entry {
        key: key.to_vec(),
        kind: if *directory == 1 { Kind::Directory } else { Kind::File },
        size: u64::from_le_bytes(*size),
        written: Time {
            sec: i64::from_le_bytes(*sec),
            nsec: u32::from_le_bytes(*nsec),
        },
        tag: tag.to_vec(),
        facts: None,
        failed: false,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(key: &str) -> Entry {
        Entry {
            key: key.into(),
            kind: Kind::File,
            size: 7,
            written: Time { sec: -1, nsec: 9 },
            tag: b"tag".to_vec(),
            facts: None,
            failed: false,
        }
    }

    proptest! {
        #[test]
        fn who_is_blocked_is_told(keys in proptest::collection::btree_map("[ab]([!/0]?[ab]?[/0]?[a]?|.rclonelink)", any::<bool>(), 0..12)) {
            let (mut way, mut told) = (Way::default(), Vec::new());
            for (key, extra) in &keys {
                told.extend(way.pass(key.as_bytes()));
                if *extra {
                    way.extra(key.as_bytes());
                } else {
                    way.hold(Task::of(entry(key)), false);
                }
            }
            told.extend(way.end());
            prop_assert_eq!(told.len(), keys.values().filter(|extra| !**extra).count());
            for (task, _) in told {
                let key = std::str::from_utf8(&task.source.key).unwrap();
                let extra = keys.iter().filter(|(_, extra)| **extra).map(|(extra, _)| extra);
                let blocked = extra.clone().any(|extra| {
                    let (plain, above) = (key.trim_end_matches(".rclonelink"), extra.trim_end_matches(".rclonelink"));
                    let is_below = |key: &str, above: &str| key.starts_with(&format!("{above}/"));
                    plain == above || is_below(extra, plain) || is_below(key, above)
                });
                prop_assert_eq!(task.blocked, blocked, "{}", key);
            }
        }
    }

    #[test]
    fn what_waited_is_what_it_was() {
        let blocked = Blocked::new(None, &Desk::new(1));
        for key in ["b/c", "a"] {
            blocked.wait(&entry(key)).unwrap();
        }
        let released = blocked.release().unwrap();
        for key in ["a", "b/c"] {
            let task = released.next().unwrap().unwrap();
            assert_eq!((task.source, task.known, task.blocked), (entry(key), false, false));
        }
        assert!(released.next().unwrap().is_none());
    }
}
