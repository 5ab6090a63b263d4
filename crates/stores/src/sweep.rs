//! What is to be removed: gathered while it is found, removed when nothing speaks against it any more.
//!
//! Comes in: entries; goes out: batches of them for workers, files first, then directories from the inside out. Memory does not
//! grow with their number.

use std::sync::{Mutex, PoisonError};

use bulkhaul_engine::error::Refusal;
use bulkhaul_engine::job::desk::Desk;
use bulkhaul_engine::pool::schedule::drive;
use bulkhaul_engine::records::sort::{SORT_BYTES, Sorted, Sorter, Sorters};
use bulkhaul_engine::{Errno, Kind};

use crate::store::Entry;

/// Keys that are removed by one worker at once.
const REMOVED_AT_ONCE: usize = 250;

/// One that is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    /// Its key.
    pub key: Vec<u8>,
    /// What it is; whatever is neither a file nor a directory is a symlink here.
    pub kind: Kind,
    /// Bytes of content.
    pub size: u64,
}

/// Those that are to go.
pub struct Doomed {
    sorters: Sorters,
    files: Sorter,
    /// By keys turned round, so that what is in a directory comes before it.
    directories: Sorter,
    /// How many.
    pub entries: u64,
}

impl Doomed {
    /// None yet.
    pub fn new(spill_directory: Option<&[u8]>, desk: &Desk) -> Self {
        let sorters = Sorters::new(spill_directory, SORT_BYTES / 4, 2).counted(desk.steps());
        Self {
            files: sorters.sorter(),
            directories: sorters.sorter(),
            sorters,
            entries: 0,
        }
    }

    /// One more. `directories`: the store has some of its own, which go last.
    pub fn push(&mut self, entry: &Entry, directories: bool) -> Result<(), Refusal> {
        self.entries += 1;
        let pushed = if entry.kind == Kind::Directory && directories {
            let mut key: Vec<u8> = entry.key.iter().map(|byte| !byte).collect();
            key.push(u8::MAX);
            self.directories.push(&key, b"")
        } else {
            let mut payload = entry.size.to_le_bytes().to_vec();
            payload.push(match entry.kind {
                Kind::File => 0,
                Kind::Directory => 1,
                _ => 2,
            });
            self.files.push(&entry.key, &payload)
        };
        pushed.map_err(|errno| self.sorters.refusal(errno))
    }

    /// Hands them out to workers, in batches, until the job is to stop.
    pub fn sweep(self, workers: usize, desk: &Desk, remove: impl Fn(usize, &[Victim]) + Sync) -> Result<(), Refusal> {
        let refusal = |errno| self.sorters.refusal(errno);
        let files = Mutex::new(Sorted::merge(vec![self.files]).map_err(refusal)?);
        let broken = Mutex::new(None);
        let unstarted = drive(workers, |index| {
            loop {
                match batch(&files, file) {
                    Ok(batch) if batch.is_empty() || desk.cancel.is_draining() => return,
                    Ok(batch) => remove(index, &batch),
                    Err(errno) => {
                        let mut broken = broken.lock().unwrap_or_else(PoisonError::into_inner);
                        broken.get_or_insert(errno);
                        return;
                    }
                }
            }
        });
        if let Some(error) = unstarted {
            desk.note("threads", || {
                (Vec::new(), format!("a worker could not be started: {error}"))
            });
        }
        if let Some(errno) = broken.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(refusal(errno));
        }
        let directories = Mutex::new(Sorted::merge(vec![self.directories]).map_err(refusal)?);
        loop {
            let batch = batch(&directories, directory).map_err(refusal)?;
            if batch.is_empty() || desk.cancel.is_draining() {
                return Ok(());
            }
            remove(0, &batch);
        }
    }
}

fn file(key: &[u8], payload: &[u8]) -> Victim {
    let (size, kind) = payload.split_at_checked(8).unwrap_or((payload, b""));
    Victim {
        key: key.to_vec(),
        kind: match kind.first() {
            Some(1) => Kind::Directory,
            Some(2) => Kind::Symlink,
            _ => Kind::File,
        },
        size: size.try_into().map_or(0, u64::from_le_bytes),
    }
}

fn directory(key: &[u8], _payload: &[u8]) -> Victim {
    Victim {
        key: key[..key.len() - 1].iter().map(|byte| !byte).collect(),
        kind: Kind::Directory,
        size: 0,
    }
}

fn batch(sorted: &Mutex<Sorted>, victim: impl Fn(&[u8], &[u8]) -> Victim) -> Result<Vec<Victim>, Errno> {
    let mut sorted = sorted.lock().unwrap_or_else(PoisonError::into_inner);
    let mut batch = Vec::new();
    while batch.len() < REMOVED_AT_ONCE
        && let Some((key, payload)) = sorted.next()?
    {
        batch.push(victim(key, payload));
    }
    Ok(batch)
}
