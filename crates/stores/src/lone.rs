//! A place that is read: what is below it, or else the one file that it names.
//!
//! Comes in: a [`Location`]; goes out: a [`Store`], which tells that file by a name without those above it. Nothing more is
//! asked where something is below.

use std::sync::{Arc, OnceLock};

use bulkhaul_engine::Kind;
use bulkhaul_engine::error::{Refusal, Side, Stopped, cause_of};
use bulkhaul_engine::job::desk::Desk;
use bulkhaul_engine::tree::path::{show, split};
use bytes::Bytes;

use crate::local::LocalOptions;
use crate::location::Location;
use crate::s3::Config;
use crate::session::Session;
use crate::store::{Abilities, Entry, Facts, Listing, Reading, Store, Told, Writing};

/// A place, of which it is known what it is when it was listed.
pub struct Lone {
    session: Arc<Session>,
    place: Location,
    config: Config,
    local: LocalOptions,
    /// What is below.
    below: Arc<dyn Store>,
    /// How the one file is called.
    name: Vec<u8>,
    file: OnceLock<File>,
}

/// The one file, where it is one.
struct File {
    /// What has it.
    store: Arc<dyn Store>,
    /// Its key there.
    key: Vec<u8>,
}

impl Lone {
    /// A place that is read. `name`: how its one file is called, if not as it is. Asks nothing yet.
    pub fn open(
        (place, config): (&Location, &Config),
        name: Option<&[u8]>,
        session: &Arc<Session>,
        local: &LocalOptions,
    ) -> Result<Arc<Self>, Refusal> {
        let below = place.open(session, Side::Source, config, local)?;
        let own = || place.above().map_or_else(Vec::new, |(_, key)| split(&key).1.to_vec());
        Ok(Arc::new(Self {
            session: Arc::clone(session),
            place: place.clone(),
            config: config.clone(),
            local: local.clone(),
            below,
            name: name.map_or_else(own, <[u8]>::to_vec),
            file: OnceLock::new(),
        }))
    }

    /// How its one file is called.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Whether it is one file. Known when it was listed.
    pub fn is_file(&self) -> bool {
        self.file.get().is_some()
    }

    /// The one file; none: there is none.
    fn look(&self) -> Result<Option<Entry>, Refusal> {
        let Some((above, key)) = self.place.above() else {
            return Ok(None);
        };
        let store = above.open(&self.session, Side::Source, &self.config, &self.local)?;
        match store.stat(&key) {
            Ok(Some(entry)) if entry.kind == Kind::File => {
                self.file.get_or_init(|| File { store, key });
                Ok(Some(self.told(entry)))
            }
            Err(Stopped::Fault(fault)) if fault.kind() == "unavailable" => {
                let text = format!("{}: {}", show(&store.path(&key)), cause_of(&fault));
                Err(Refusal::of_place(Side::Source, text, true))
            }
            // Why it can't be listed says more than why it can't be asked for.
            Ok(_) | Err(_) => Ok(None),
        }
    }

    fn told(&self, entry: Entry) -> Entry {
        Entry {
            key: self.name.clone(),
            ..entry
        }
    }

    /// Who has a key, and as what.
    fn holder<'k>(&'k self, key: &'k [u8]) -> (&'k dyn Store, &'k [u8]) {
        match self.file.get() {
            Some(file) if key.is_empty() || key == self.name => (&*file.store, &file.key),
            _ => (&*self.below, key),
        }
    }
}

/// Why a source can't be listed: where it is one file, that is why.
pub fn refused(
    refusal: Refusal,
    (place, config): (&Location, &Config),
    session: &Arc<Session>,
    local: &LocalOptions,
) -> Refusal {
    let lone = Lone::open((place, config), None, session, local);
    match lone.and_then(|lone| Ok(lone.look()?.map(|_| lone.path(b"")))) {
        Ok(Some(path)) => {
            let what = "this is a file: name the directory that it is in, and the file in a list";
            Refusal::NoSource(format!("{}: {what}", show(&path)))
        }
        Ok(None) | Err(_) => refusal,
    }
}

/// The one file.
struct One(Option<Entry>);

impl Listing for One {
    fn next(&mut self) -> Result<Option<Entry>, Stopped> {
        Ok(self.0.take())
    }
}

impl Store for Lone {
    fn abilities(&self) -> Abilities {
        let abilities = self.below.abilities();
        Abilities {
            walks: abilities.walks && !self.is_file(),
            ..abilities
        }
    }

    fn path(&self, key: &[u8]) -> Vec<u8> {
        let (store, key) = self.holder(key);
        store.path(key)
    }

    fn list<'s>(&'s self, desk: &'s Desk) -> Result<Box<dyn Listing + 's>, Refusal> {
        match self.below.list(desk) {
            Err(Refusal::NoSource(text)) => match self.look()? {
                Some(entry) => Ok(Box::new(One(Some(entry)))),
                None => Err(Refusal::NoSource(text)),
            },
            listing => listing,
        }
    }

    fn stat(&self, key: &[u8]) -> Result<Option<Entry>, Stopped> {
        let (store, held) = self.holder(key);
        let entry = store.stat(held)?;
        Ok(entry.map(|entry| Entry {
            key: key.to_vec(),
            ..entry
        }))
    }

    fn read<'s>(&'s self, entry: &Entry) -> Result<Box<dyn Reading + 's>, Stopped> {
        let (store, key) = match self.file.get() {
            Some(file) => (&file.store, &file.key),
            None => (&self.below, &entry.key),
        };
        store.read(&Entry {
            key: key.clone(),
            ..entry.clone()
        })
    }

    fn range(&self, entry: &Entry, from: u64, bytes: u64) -> Result<Bytes, Stopped> {
        let (store, key) = self.holder(&entry.key);
        let entry = Entry {
            key: key.to_vec(),
            ..entry.clone()
        };
        store.range(&entry, from, bytes)
    }

    fn part_bytes(&self, size: u64) -> u64 {
        self.below.part_bytes(size)
    }

    fn write<'s>(
        &'s self,
        key: &[u8],
        size: Option<u64>,
        facts: &Facts,
        replaces: bool,
    ) -> Result<Box<dyn Writing + 's>, Stopped> {
        self.below.write(key, size, facts, replaces)
    }

    fn delete(&self, keys: &[Vec<u8>], told: Told<'_>) -> Result<(), Stopped> {
        self.below.delete(keys, told)
    }
}
