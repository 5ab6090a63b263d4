//! An entry at work: what it is, and what became of it.
//!
//! Values that rooms hand to each other; nothing is done here.

use std::ffi::{CStr, CString};
use std::sync::Arc;

use bulkhaul_formats::digest::{ContentDigest, xxh64};
use bulkhaul_sys::{Identity, Kind, OwnedFd, Stat};

use crate::bytes::ledger::Ledger;
use crate::copy::dir::Dir;
use crate::entry::{Changes, Outcome, Reason};
use crate::records::entry::Found;
use crate::tree::staging::Staging;

/// An entry of the source that is being worked on.
#[derive(Clone, Copy)]
pub struct Entry<'e> {
    /// Its directory.
    pub dir: &'e Arc<Dir>,
    /// Which of the directory's sources has it.
    pub source: usize,
    /// The name by which it was found: what it gets in the destination where it is copied as it is.
    pub found: &'e CStr,
    /// Its name in the destination.
    pub target: &'e CStr,
    /// It was put off until all else was done: destinations in which a directory that is in its way may go.
    pub last: Option<&'e [usize]>,
    /// It was counted already, and is looked at again.
    pub again: bool,
}

impl<'e> Entry<'e> {
    /// Its name in the source.
    pub fn name(&self) -> &'e CStr {
        self.dir.sources[self.source].scope.source_name(self.found)
    }

    /// Both of its other names.
    pub fn names(&self) -> Names<'e> {
        Names {
            found: self.found,
            target: self.target,
        }
    }

    /// Whether it becomes an archive.
    pub fn is_packed(&self) -> bool {
        self.names().are_of_packed()
    }

    /// What it is known by where it has several names: those that become archives are others than those that don't.
    pub fn original(&self, stat: &Stat) -> Original {
        let mut of = Original::from(stat);
        of.facts ^= u64::from(self.is_packed());
        of
    }

    /// What of `there`, which has its name in a destination, it has to reckon with: not a directory that goes for it.
    pub fn faces<'t>(&self, destination: usize, there: Option<&'t Stat>) -> Option<&'t Stat> {
        let clears = self.last.is_some_and(|clear| clear.contains(&destination));
        there.filter(|there| !(clears && there.kind == Kind::Directory))
    }
}

/// The names of an entry: they differ where it becomes an archive.
#[derive(Clone, Copy)]
pub struct Names<'n> {
    /// By which it was found.
    pub found: &'n CStr,
    /// In the destination.
    pub target: &'n CStr,
}

impl Names<'_> {
    /// Whether they are those of what becomes an archive.
    pub fn are_of_packed(&self) -> bool {
        self.found != self.target
    }
}

impl<'n, Name: AsRef<CStr> + ?Sized> From<&'n Name> for Names<'n> {
    fn from(name: &'n Name) -> Self {
        let name = name.as_ref();
        Self {
            found: name,
            target: name,
        }
    }
}

/// What became of an entry.
#[derive(Clone, Debug)]
pub struct Done {
    /// Outcome.
    pub outcome: Outcome,
    /// Why it was skipped.
    pub reason: Option<Reason>,
    /// What differed.
    pub changes: Changes,
    /// Bytes of content written, or that would be.
    pub bytes: u64,
    /// Size of the source file in bytes.
    pub size: u64,
    /// Text of a symlink, or path of a hard link's first name.
    pub target: Option<Vec<u8>>,
    /// Which destination.
    pub destination: usize,
    /// What a manifest says of it, where it does.
    pub noted: Option<Box<Found>>,
    /// The same of the archive that it became.
    pub stored: Option<Box<Found>>,
}

impl Done {
    /// An outcome and nothing else.
    pub fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            reason: None,
            changes: Changes::default(),
            bytes: 0,
            size: 0,
            target: None,
            destination: 0,
            noted: None,
            stored: None,
        }
    }

    /// It is in the destination now, or was there.
    pub fn arrived(&self) -> bool {
        match self.outcome {
            Outcome::Made | Outcome::Copied | Outcome::Linked | Outcome::Renamed | Outcome::Metadata => true,
            _ => matches!(self.reason, Some(Reason::Unchanged | Reason::SameFile)),
        }
    }

    /// With what differed.
    #[must_use]
    pub fn with(self, changes: Changes) -> Self {
        Self { changes, ..self }
    }

    /// With what a manifest says of it.
    #[must_use]
    pub fn noted(self, noted: Option<Box<Found>>) -> Self {
        Self { noted, ..self }
    }

    /// In this destination.
    #[must_use]
    pub fn at(self, destination: usize) -> Self {
        Self { destination, ..self }
    }

    /// Left alone for a reason.
    pub fn skipped(reason: Reason) -> Self {
        Self {
            reason: Some(reason),
            ..Self::new(Outcome::Skipped)
        }
    }
}

/// What a copy is proved by.
pub struct Proof {
    /// The source, to be read a second time.
    pub(crate) source: OwnedFd,
    /// The digest of what it gave when it was copied, where that was all of it.
    pub(crate) digest: Option<ContentDigest>,
}

/// A big file that does not have its size, owner, attributes and mode yet.
pub struct Unfinished {
    /// Its facts as it was made.
    pub(crate) made: Stat,
    /// Permission bits that it was made with.
    pub(crate) bits: u32,
    /// Its source.
    pub(crate) source: OwnedFd,
    /// Holds the lock of its staging name until it has another one.
    pub(crate) lock: Option<OwnedFd>,
    /// What of it is there; none where nobody could go on with it.
    pub(crate) ledger: Option<Arc<Ledger>>,
    /// A run that died has begun it, and may have given it some of its metadata.
    pub(crate) resumed: bool,
}

impl Unfinished {
    /// Bytes of it that are there.
    pub fn bytes(&self) -> u64 {
        let there = |ledger: &Arc<Ledger>| ledger.mark().map_or_else(|| ledger.bytes(), |mark| mark.archive);
        self.ledger.as_ref().map_or(0, there)
    }
}

/// A file that is written and waits for its sync.
pub struct Finished {
    pub(crate) dir: Arc<Dir>,
    pub(crate) source: usize,
    pub(crate) found: CString,
    pub(crate) target: CString,
    pub(crate) destination: usize,
    pub(crate) file: OwnedFd,
    /// `None`: it was written under its final name, inside a staged directory.
    pub(crate) staging: Option<Staging>,
    pub(crate) replaces: Option<Stat>,
    pub(crate) stat: Stat,
    pub(crate) done: Done,
    /// Bytes that it holds.
    pub(crate) end: u64,
    /// The index of an archive: its file, its name, and the one that it has until it is published.
    pub(crate) index: Option<Index>,
    /// It is a big one, which is not cut to its end yet and has no metadata.
    pub(crate) unfinished: Option<Unfinished>,
    /// Where the bytes are to be proved.
    pub(crate) proof: Option<Proof>,
    /// How often it was copied: what does not read back as it should is copied again.
    pub(crate) attempt: u32,
    /// Its file system was synced after it was written, its pages were given up, and these bytes stayed cached.
    pub(crate) forgotten: Option<u64>,
}

impl Finished {
    /// As an entry that is looked at again.
    pub fn entry(&self) -> Entry<'_> {
        Entry {
            dir: &self.dir,
            source: self.source,
            found: &self.found,
            target: &self.target,
            last: None,
            again: true,
        }
    }
}

/// The index of an archive that is written.
pub struct Index {
    pub(crate) file: OwnedFd,
    pub(crate) name: CString,
    /// `None`: it has its final name.
    pub(crate) staging: Option<Staging>,
}

/// A file of the source: its name, and itself where it was opened.
#[derive(Clone, Copy)]
pub struct SourceEntry<'s> {
    /// Its directory.
    pub at: &'s OwnedFd,
    /// Its name there.
    pub name: &'s CStr,
    /// Itself.
    pub file: Option<&'s OwnedFd>,
    /// It becomes an archive.
    pub packed: bool,
}

impl<'s> SourceEntry<'s> {
    /// One that is copied as it is, and is not open.
    pub fn named(at: &'s OwnedFd, name: &'s CStr) -> Self {
        Self {
            at,
            name,
            file: None,
            packed: false,
        }
    }
}

/// Whether nobody wrote to a file between two looks: a writer that puts size and time back is told by the change time.
pub fn same_version(now: &Stat, then: &Stat) -> bool {
    (now.size, now.mtime, now.ctime) == (then.size, then.mtime, then.ctime)
}

/// What a file of the source is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Original {
    pub(crate) id: Identity,
    /// A digest of what all its names show.
    pub(crate) facts: u64,
}

impl From<&Stat> for Original {
    fn from(stat: &Stat) -> Self {
        let ids = [stat.kind as u32, stat.mode, stat.uid, stat.gid].map(u64::from);
        let times = [stat.mtime, stat.ctime].map(|time| [time.sec.cast_unsigned(), time.nsec.into()]);
        let facts = [&ids[..], times.as_flattened(), &[stat.size, stat.rdev]].concat();
        let bytes: Vec<_> = facts.into_iter().flat_map(u64::to_le_bytes).collect();
        Self {
            id: stat.id,
            facts: xxh64(&bytes),
        }
    }
}
