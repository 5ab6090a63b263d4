//! The interface of a store: entries in order, bytes in parts, and what a store can do of itself.
//!
//! A store knows which side of the job it is, and answers with the engine's faults. Keys are bytes relative to the root that
//! was named; that of a directory ends with a slash. What a store can't do is asked ([`Abilities`]), not found out by
//! failing. Promises of every store: what [`Writing::finish`] answered is there whole, and nothing is there before it;
//! a listing comes in the order of the bytes of keys, each once, or says that it could not.

use bulkhaul_engine::Kind;
use bulkhaul_engine::error::{Cause, Fault, Operation, Refusal, Side, Stopped};
use bulkhaul_engine::job::desk::Desk;
use bulkhaul_engine::tree::metadata::Shortfall;
use bulkhaul_formats::digest::{Algorithm, Digest, Hashers};
use bulkhaul_sys::{BorrowedFd, Time};
use bytes::{Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest as Crc};

use crate::session::Lease;

/// What is known of an entry beside its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Last change of the content, as whoever wrote it has said.
    pub mtime: Option<Time>,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// BLAKE3 of the content, as whoever wrote it has said.
    pub blake3: Option<Digest>,
    /// CRC-64/NVME of the whole content, as the store vouches for it.
    pub crc64: Option<u64>,
    /// MD5 of the content, as the store has it.
    pub md5: Option<Digest>,
    /// Which writing it comes from.
    pub token: Option<String>,
    /// What is said of it to whoever reads it (`content-type`), and what others keep with it (`meta-NAME`).
    pub said: Vec<(String, String)>,
    /// Names of what else is said of it, and can't be taken along.
    pub untold: Vec<String>,
    /// It is kept as it was: nothing else is said of it.
    pub aside: bool,
}

impl Facts {
    /// Whether the contents of two are the same, by all sums that both have; none: they have none in common.
    pub fn agree(&self, other: &Self) -> Option<bool> {
        fn are_same<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> Option<bool> {
            Some(one? == other?)
        }
        let found = [
            are_same(self.crc64.as_ref(), other.crc64.as_ref()),
            are_same(self.blake3.as_ref(), other.blake3.as_ref()),
            are_same(self.md5.as_ref(), other.md5.as_ref()),
        ];
        found.into_iter().flatten().reduce(|one, other| one && other)
    }

    /// The mode that a file is given: where modes are `wanted`, and whatever is kept aside. Whoever kept it may have run as
    /// somebody else: nothing is given set-id bits.
    pub fn given_mode(&self, wanted: bool) -> Option<u32> {
        Some(self.mode.filter(|_| wanted || self.aside)? & 0o777)
    }
}

/// One entry, as a listing or a question tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the root.
    pub key: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Bytes of content.
    pub size: u64,
    /// When it was written, by the clock of the store; of a local file, its last change.
    pub written: Time,
    /// What changes when the content does; empty: the store does not say.
    pub tag: Vec<u8>,
    /// The rest; a listing of objects does not tell it.
    pub facts: Option<Facts>,
    /// Something went wrong with it: it has its outcome already.
    pub failed: bool,
}

impl Entry {
    /// Its key without the slash of a directory, as rules for names see it.
    pub fn path(&self) -> &[u8] {
        self.key.strip_suffix(b"/").unwrap_or(&self.key)
    }

    /// The last change of its content, as far as it is known: of an object that nobody gave a time, when it was written.
    pub fn changed(&self) -> Option<Time> {
        let facts = self.facts.as_ref()?;
        Some(facts.mtime.unwrap_or(self.written))
    }
}

/// What a store can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is asked by itself")]
pub struct Abilities {
    /// It has directories of its own.
    pub directories: bool,
    /// Its listing is a walk of the engine, which counts what it finds and heeds rules for names.
    pub walks: bool,
    /// It tries a request again itself where that may help; else an entry is.
    pub retries: bool,
    /// A listing tells times that whoever wrote an entry gave it.
    pub lists_mtime: bool,
    /// It checks what it is sent, so that what arrived otherwise is refused. Known once something was written.
    pub verifies: bool,
    /// The object that asked what it checks could not be removed. Known once something was written.
    pub probe_stays: bool,
}

/// Entries in the order of the bytes of their keys.
pub trait Listing: Send {
    /// The next one; none at the end. An error: the rest is not known.
    fn next(&mut self) -> Result<Option<Entry>, Stopped>;
}

/// A part of a content, with the memory that it takes.
pub struct Part {
    /// What there is.
    pub bytes: Bytes,
    /// Given back with it.
    pub lease: Option<Lease>,
}

/// An entry that is being read, from its beginning to its end.
pub trait Reading {
    /// Size and facts, as of the moment when reading began.
    fn entry(&self) -> &Entry;

    /// The next part, `bytes` long but for the last; none at the end.
    fn next(&mut self, bytes: u64) -> Result<Option<Part>, Stopped>;

    /// The file itself, where it is one of this machine.
    fn file(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Whether it is still the entry that reading began with.
    fn close(self: Box<Self>) -> Result<(), Stopped>;
}

/// An entry that is being written.
pub trait Writing {
    /// The next part. All but the last are as long as [`Store::part_bytes`] says.
    fn put(&mut self, part: Part) -> Result<(), Stopped>;

    /// Bytes of what was put that did not have to be sent: an earlier run has.
    fn had(&self) -> u64 {
        0
    }

    /// Names of what is said of it ([`Facts::said`], [`Facts::untold`]) and can't be said there.
    fn unsaid(&self) -> Vec<String> {
        Vec::new()
    }

    /// After the last part: makes it like the file of this machine that it comes from, if that is asked for, or else like the one
    /// that it replaces; answers what could not be kept.
    fn resemble(&mut self, _original: Option<BorrowedFd<'_>>) -> Result<Vec<Shortfall>, Stopped> {
        Ok(Vec::new())
    }

    /// Makes it appear, and answers it as the store has it now.
    fn finish(self: Box<Self>, sums: &Sums) -> Result<Entry, Stopped>;

    /// Leaves nothing of it.
    fn abort(self: Box<Self>);
}

/// Where an object is, for a copy within its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The service, and who asks it.
    pub service: String,
    /// The object, as that service names it.
    pub object: String,
}

/// A root of entries.
pub trait Store: Send + Sync {
    /// What it can do.
    fn abilities(&self) -> Abilities;

    /// The full path or URL of a key, for messages.
    fn path(&self, key: &[u8]) -> Vec<u8>;

    /// The root, as it is called wherever and however somebody names it.
    fn identity(&self) -> Vec<u8> {
        self.path(b"")
    }

    /// Refuses a key under which nothing so long can be written, as [`Store::write`] does.
    fn admit(&self, _key: &[u8], _size: Option<u64>) -> Result<(), Fault> {
        Ok(())
    }

    /// Everything that is there. A refusal where the root is missing or can't be asked.
    fn list<'s>(&'s self, desk: &'s Desk) -> Result<Box<dyn Listing + 's>, Refusal>;

    /// What is in one directory, whose key is empty or ends with a slash; directories come as such.
    fn directory(&self, _key: &[u8]) -> Result<Vec<Entry>, Stopped> {
        let fault = Fault {
            operation: Operation::List,
            side: Side::Source,
            cause: Cause::Answered(
                "unsupported",
                "this place lists all that is below it, or nothing".to_owned(),
            ),
        };
        Err(fault.into())
    }

    /// One entry, with its facts; none where there is none.
    fn stat(&self, key: &[u8]) -> Result<Option<Entry>, Stopped>;

    /// Begins to read an entry that a listing has told.
    fn read<'s>(&'s self, entry: &Entry) -> Result<Box<dyn Reading + 's>, Stopped>;

    /// So many bytes of an entry that a listing or a question has told, from a byte on; fewer: it ends before. Where a store
    /// can't read from the middle, it is read from its beginning.
    fn range(&self, entry: &Entry, from: u64, bytes: u64) -> Result<Bytes, Stopped> {
        let (end, mut at) = (from.saturating_add(bytes), 0);
        let (mut reading, mut all) = (self.read(entry)?, BytesMut::new());
        while at < end
            && let Some(part) = reading.next(self.part_bytes(entry.size))?
        {
            let cut = |byte: u64| {
                usize::try_from(byte.saturating_sub(at))
                    .unwrap_or(usize::MAX)
                    .min(part.bytes.len())
            };
            all.extend_from_slice(&part.bytes[cut(from)..cut(end)]);
            at += part.bytes.len() as u64;
        }
        Ok(all.freeze())
    }

    /// Bytes of a part of a content of this size.
    fn part_bytes(&self, size: u64) -> u64;

    /// Begins to write so many bytes; none: nobody knows how many. `replaces`: something has this key.
    fn write<'s>(
        &'s self,
        key: &[u8],
        size: Option<u64>,
        facts: &Facts,
        replaces: bool,
    ) -> Result<Box<dyn Writing + 's>, Stopped>;

    /// The mode that a file with these facts is given here; none: that of any new file, or of the one that it replaces. Where
    /// it is refused the file comes all the same, and has another.
    fn mode_of(&self, _facts: &Facts) -> Option<u32> {
        None
    }

    /// Where an object is, where its server can copy it.
    fn origin(&self, _key: &[u8]) -> Option<Origin> {
        None
    }

    /// Copies an object of the same service, if it can; none where it can't. `aside`: it is kept as it is.
    fn copy(&self, _origin: &Origin, _entry: &Entry, _key: &[u8], _aside: bool) -> Result<Option<Entry>, Stopped> {
        Ok(None)
    }

    /// Gives up uploads that others began before a moment and have not ended; `told` hears their keys.
    fn abort_stale(&self, _before: Time, _dry_run: bool, _told: &mut dyn FnMut(&[u8])) -> Result<(), Stopped> {
        Ok(())
    }

    /// Gives up what earlier runs of the same job have begun in parts and this one, which has done all that there was to do, had
    /// no use for; `told` hears of each.
    fn abort_left(&self, _told: &mut dyn FnMut(&[u8])) -> Result<(), Stopped> {
        Ok(())
    }

    /// Removes all these; `told` hears of each what became of it, once.
    fn delete(&self, keys: &[Vec<u8>], told: Told<'_>) -> Result<(), Stopped>;
}

/// Hears of each key what became of it.
pub type Told<'t> = &'t mut dyn FnMut(&[u8], Result<Gone, Fault>);

/// How a key went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It was removed.
    Removed,
    /// Somebody else had removed it.
    Vanished,
    /// A directory that holds something stays.
    NotEmpty,
}

/// The sums over a content, as it was read.
#[derive(Clone, Debug)]
pub struct Sums {
    /// Bytes.
    pub bytes: u64,
    /// BLAKE3.
    pub blake3: Option<Digest>,
    /// CRC-64/NVME, as S3 knows it.
    pub crc64: u64,
    /// MD5, where nothing else is known to hold the content against.
    pub md5: Option<Digest>,
}

impl Sums {
    /// Whether a content with these facts can be this one, by every sum that they have.
    pub fn fit(&self, facts: &Facts) -> bool {
        facts.crc64.is_none_or(|crc64| crc64 == self.crc64)
            && (facts.blake3.is_none() || self.blake3.is_none() || facts.blake3 == self.blake3)
            && (facts.md5.is_none() || self.md5.is_none() || facts.md5 == self.md5)
    }
}

/// Makes [`Sums`].
pub struct Summing {
    hashers: Hashers,
    crc: Crc,
    bytes: u64,
}

impl Summing {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self::with(&[Algorithm::Blake3])
    }

    fn with(algorithms: &[Algorithm]) -> Self {
        Self {
            hashers: Hashers::new(algorithms),
            crc: Crc::new(CrcAlgorithm::Crc64Nvme),
            bytes: 0,
        }
    }

    /// Of nothing yet, for a content with these facts: with the dearer sum, where there is no other.
    pub fn of(facts: &Facts) -> Self {
        if facts.md5.is_some() && facts.crc64.is_none() && facts.blake3.is_none() {
            return Self::with(&[Algorithm::Blake3, Algorithm::Md5]);
        }
        Self::new()
    }

    /// Of this too.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hashers.update(bytes);
        self.crc.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// Of all that came.
    pub fn finish(mut self) -> Sums {
        let mut digests = self.hashers.finish().into_iter();
        Sums {
            bytes: self.bytes,
            blake3: digests.next(),
            crc64: self.crc.finalize(),
            md5: digests.next(),
        }
    }
}

impl Default for Summing {
    fn default() -> Self {
        Self::new()
    }
}
