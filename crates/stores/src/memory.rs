//! A store in memory, as exact about keys as S3: for tests, and for whoever wants a place that is gone afterwards.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bulkhaul_engine::error::{Fault, Operation, Refusal, Side, Stopped};
use bulkhaul_engine::job::desk::Desk;
use bulkhaul_engine::{Errno, Kind};
use bulkhaul_sys::Time;
use bytes::Bytes;

use crate::store::{Abilities, Entry, Facts, Gone, Listing, Part, Reading, Store, Sums, Told, Writing};

type Objects = BTreeMap<Vec<u8>, (Entry, Bytes)>;

/// Objects by their keys.
pub struct Memory {
    side: Side,
    objects: Mutex<Objects>,
    writings: AtomicU64,
    /// Keys are paths: none is another and a directory of others.
    paths: bool,
}

impl Memory {
    /// An empty one, on this side of a job.
    pub fn new(side: Side) -> Self {
        Self {
            side,
            objects: Mutex::default(),
            writings: AtomicU64::new(0),
            paths: false,
        }
    }

    /// An empty one that refuses a key beside keys below it, as servers do that keep objects in a file system.
    pub fn of_paths(side: Side) -> Self {
        Self {
            paths: true,
            ..Self::new(side)
        }
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an object in.
    pub fn insert(&self, key: &[u8], content: &[u8], facts: Facts) -> Entry {
        let number = self.writings.fetch_add(1, Ordering::Relaxed) + 1;
        let entry = Entry {
            key: key.to_vec(),
            kind: if key.ends_with(b"/") && content.is_empty() {
                Kind::Directory
            } else {
                Kind::File
            },
            size: content.len() as u64,
            written: Time {
                sec: i64::try_from(number).unwrap_or(i64::MAX),
                nsec: 0,
            },
            tag: number.to_string().into_bytes(),
            facts: Some(facts),
            failed: false,
        };
        self.objects()
            .insert(key.to_vec(), (entry.clone(), Bytes::copy_from_slice(content)));
        entry
    }

    /// Keys and contents.
    pub fn all(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let objects = self.objects();
        objects
            .iter()
            .map(|(key, (_, bytes))| (key.clone(), bytes.to_vec()))
            .collect()
    }
}

struct Entries(std::vec::IntoIter<Entry>);

impl Listing for Entries {
    fn next(&mut self) -> Result<Option<Entry>, Stopped> {
        Ok(self.0.next())
    }
}

struct Object(Entry, Bytes);

impl Reading for Object {
    fn entry(&self) -> &Entry {
        &self.0
    }

    fn next(&mut self, bytes: u64) -> Result<Option<Part>, Stopped> {
        let length = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.1.len());
        let bytes = self.1.split_to(length);
        Ok((!bytes.is_empty()).then_some(Part { bytes, lease: None }))
    }

    fn close(self: Box<Self>) -> Result<(), Stopped> {
        Ok(())
    }
}

struct Growing<'s> {
    store: &'s Memory,
    key: Vec<u8>,
    facts: Facts,
    content: Vec<u8>,
}

impl Writing for Growing<'_> {
    fn put(&mut self, part: Part) -> Result<(), Stopped> {
        self.content.extend_from_slice(&part.bytes);
        Ok(())
    }

    fn finish(self: Box<Self>, _sums: &Sums) -> Result<Entry, Stopped> {
        Ok(self.store.insert(&self.key, &self.content, self.facts))
    }

    fn abort(self: Box<Self>) {}
}

impl Store for Memory {
    fn abilities(&self) -> Abilities {
        Abilities {
            directories: false,
            walks: false,
            retries: true,
            lists_mtime: true,
            verifies: true,
            probe_stays: false,
        }
    }

    fn path(&self, key: &[u8]) -> Vec<u8> {
        [b"memory:", key].concat()
    }

    fn list<'s>(&'s self, _desk: &'s Desk) -> Result<Box<dyn Listing + 's>, Refusal> {
        let entries: Vec<Entry> = self.objects().values().map(|(entry, _)| entry.clone()).collect();
        Ok(Box::new(Entries(entries.into_iter())))
    }

    fn stat(&self, key: &[u8]) -> Result<Option<Entry>, Stopped> {
        Ok(self.objects().get(key).map(|(entry, _)| entry.clone()))
    }

    fn read<'s>(&'s self, entry: &Entry) -> Result<Box<dyn Reading + 's>, Stopped> {
        match self.objects().get(&entry.key) {
            Some((now, bytes)) if now.tag == entry.tag => Ok(Box::new(Object(now.clone(), bytes.clone()))),
            Some(_) => Err(Fault::changed(Operation::Read).into()),
            None => Err(Fault::new(Operation::Read, self.side, Errno::NOENT).into()),
        }
    }

    fn part_bytes(&self, _size: u64) -> u64 {
        crate::session::PART_BYTES
    }

    fn write<'s>(
        &'s self,
        key: &[u8],
        _size: Option<u64>,
        facts: &Facts,
        _replaces: bool,
    ) -> Result<Box<dyn Writing + 's>, Stopped> {
        let is_below = |key: &[u8], above: &[u8]| key.strip_prefix(above).is_some_and(|rest| rest.starts_with(b"/"));
        if self.paths
            && self
                .objects()
                .keys()
                .any(|there| is_below(there, key) || is_below(key, there))
        {
            return Err(Fault::conflict(Operation::Create, 0, "something else is in its way").into());
        }
        Ok(Box::new(Growing {
            store: self,
            key: key.to_vec(),
            facts: facts.clone(),
            content: Vec::new(),
        }))
    }

    fn delete(&self, keys: &[Vec<u8>], told: Told<'_>) -> Result<(), Stopped> {
        for key in keys {
            let gone = self.objects().remove(key);
            told(key, Ok(if gone.is_some() { Gone::Removed } else { Gone::Vanished }));
        }
        Ok(())
    }
}
