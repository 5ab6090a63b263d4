//! Accounting: what was found and what became of it, counted independently, and the report made of both.
//!
//! The finder (the walk) counts an entry when it sees its name; the recorder counts an outcome when the entry is done
//! with. Nothing passes a number from one to the other, so an action that gets lost shows as a difference. Each worker
//! has counters of its own, on cache lines of their own; readers add them up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bulkhaul_sys::Kind;

use crate::error::{Failure, Side};
use crate::options::Sync;

/// Failures that a report keeps in full; beyond that they are counted by kind (memory must not grow with them).
pub const FAILURES_KEPT: usize = 1000;
/// Kinds of notes that a report tells apart at most, where names from a file system are part of them.
pub const NOTES_KEPT: usize = 1000;

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A directory, symlink or special file was made.
    Made,
    /// A file's content was written.
    Copied,
    /// A hard link was made to a file of this run.
    Linked,
    /// Content was right, metadata was put right.
    Metadata,
    /// Nothing was done; a reason goes with it.
    Skipped,
    /// It was removed.
    Removed,
    /// It is in the list.
    Listed,
    /// Both sides have it, and nothing differs.
    Same,
    /// One side does not have it, or has it otherwise.
    Different,
    /// The source changed or vanished meanwhile.
    Changed,
    /// Something in the destination is in the way.
    Conflict,
    /// It was read back and differs.
    Mismatched,
    /// It did not arrive.
    Failed,
}

impl Outcome {
    /// All outcomes, in the order of their numbers.
    pub const ALL: [Outcome; 13] = [
        Self::Made,
        Self::Copied,
        Self::Linked,
        Self::Metadata,
        Self::Skipped,
        Self::Removed,
        Self::Listed,
        Self::Same,
        Self::Different,
        Self::Changed,
        Self::Conflict,
        Self::Mismatched,
        Self::Failed,
    ];

    /// The outcome as `--json` names it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Copied => "copied",
            Self::Linked => "linked",
            Self::Metadata => "metadata",
            Self::Skipped => "skipped",
            Self::Removed => "removed",
            Self::Listed => "listed",
            Self::Same => "same",
            Self::Different => "different",
            Self::Changed => "changed",
            Self::Conflict => "conflict",
            Self::Mismatched => "mismatched",
            Self::Failed => "failed",
        }
    }
}

/// Why an entry was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It is there already.
    Unchanged,
    /// An exclude rule names it. Excluded entries are not counted as found.
    Excluded,
    /// A later source brings the same name, or the same directory.
    Overridden,
    /// It lies on another file system.
    OtherFileSystem,
    /// It is an unfinished entry of an interrupted run.
    StagingName,
    /// It is the destination itself.
    Destination,
    /// Source and destination are the same file.
    SameFile,
    /// Only directories were asked for.
    DirectoriesOnly,
    /// A directory that nothing is in, where only needed ones were asked for.
    NotNeeded,
    /// A directory that was to be removed holds something that stays.
    NotEmpty,
    /// Somebody else removed it first.
    Vanished,
    /// A FIFO, socket or device, where only the others were asked for.
    Special,
    /// It could not be compared: something failed with it, or above it, on the other side.
    NotCompared,
}

impl Reason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Reason; 13] = [
        Self::Unchanged,
        Self::Excluded,
        Self::Overridden,
        Self::OtherFileSystem,
        Self::StagingName,
        Self::Destination,
        Self::SameFile,
        Self::DirectoriesOnly,
        Self::NotNeeded,
        Self::NotEmpty,
        Self::Vanished,
        Self::Special,
        Self::NotCompared,
    ];

    /// The reason as `--json` names it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Excluded => "excluded",
            Self::Overridden => "overridden",
            Self::OtherFileSystem => "other-file-system",
            Self::StagingName => "staging-name",
            Self::Destination => "destination",
            Self::SameFile => "same-file",
            Self::DirectoriesOnly => "directories-only",
            Self::NotNeeded => "not-needed",
            Self::NotEmpty => "not-empty",
            Self::Vanished => "vanished",
            Self::Special => "special",
            Self::NotCompared => "not-compared",
        }
    }
}

/// The kinds that entries are counted by.
pub const KINDS: [Kind; 7] = [
    Kind::File,
    Kind::Directory,
    Kind::Symlink,
    Kind::Fifo,
    Kind::Socket,
    Kind::Block,
    Kind::Char,
];

/// The kind as `--json` names it.
pub fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::File | Kind::Unknown => "file",
        Kind::Directory => "directory",
        Kind::Symlink => "symlink",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::Block => "block",
        Kind::Char => "char",
    }
}

fn kind_index(kind: Kind) -> usize {
    KINDS.iter().position(|k| *k == kind).unwrap_or(0)
}

/// One worker's counters; 128 bytes apart so that no two workers share a cache line (or its neighbour).
#[derive(Default)]
#[repr(align(128))]
pub struct Counters {
    found: [AtomicU64; KINDS.len()],
    extras: AtomicU64,
    there: AtomicU64,
    outcomes: [AtomicU64; Outcome::ALL.len()],
    file_outcomes: [AtomicU64; Outcome::ALL.len()],
    directory_outcomes: [AtomicU64; Outcome::ALL.len()],
    reasons: [AtomicU64; Reason::ALL.len()],
    found_bytes: AtomicU64,
    allocated_bytes: AtomicU64,
    copied_bytes: AtomicU64,
    skipped_files: AtomicU64,
    skipped_bytes: AtomicU64,
    done_bytes: AtomicU64,
    planned_bytes: AtomicU64,
    planned_inodes: AtomicU64,
    verified_files: AtomicU64,
    verified_bytes: AtomicU64,
    verified_from_cache: AtomicU64,
}

fn add(counter: &AtomicU64, n: u64) {
    // Only the owning worker writes, so a plain load and store would do; fetch_add keeps it right if that changes.
    counter.fetch_add(n, Relaxed);
}

impl Counters {
    /// The finder saw an entry.
    pub fn found(&self, kind: Kind) {
        add(&self.found[kind_index(kind)], 1);
    }

    /// The same in the tree on this side: all that is looked for in a destination is extra.
    pub fn found_in(&self, side: Side, kind: Kind) {
        match side {
            Side::Source => self.found(kind),
            Side::Destination(_) => add(&self.extras, 1),
        }
    }

    /// Names of a source were found in a destination too.
    pub fn found_there(&self, names: u64) {
        add(&self.there, names);
    }

    /// The recorder closes an extra entry of a destination.
    pub fn extra_outcome(&self, outcome: Outcome, reason: Option<Reason>) {
        add(&self.outcomes[outcome as usize], 1);
        if let Some(reason) = reason {
            add(&self.reasons[reason as usize], 1);
        }
    }

    /// The size of a regular file became known: apparent bytes, and allocated ones where they were asked for.
    pub fn sized(&self, size: u64, allocated: u64) {
        add(&self.found_bytes, size);
        add(&self.allocated_bytes, allocated);
    }

    /// A dry run found something to make, of so many bytes; `new`: nothing has its name, so it needs an inode more.
    pub fn planned(&self, bytes: u64, new: bool) {
        add(&self.planned_bytes, bytes);
        add(&self.planned_inodes, u64::from(new));
    }

    /// A file was proved: its bytes, and how many of them the cache gave instead of the medium.
    pub fn verified(&self, bytes: u64, from_cache: u64) {
        add(&self.verified_files, 1);
        add(&self.verified_bytes, bytes);
        add(&self.verified_from_cache, from_cache);
    }

    /// Where bytes of content are counted as they are written.
    pub fn written(&self) -> &AtomicU64 {
        &self.copied_bytes
    }

    /// The recorder closes an entry. `size` is a file's size in bytes.
    pub fn outcome(&self, kind: Kind, outcome: Outcome, reason: Option<Reason>, size: u64) {
        add(&self.outcomes[outcome as usize], 1);
        if let Some(reason) = reason {
            add(&self.reasons[reason as usize], 1);
        }
        if kind == Kind::Directory {
            add(&self.directory_outcomes[outcome as usize], 1);
        }
        if matches!(kind, Kind::File) {
            add(&self.file_outcomes[outcome as usize], 1);
            add(&self.done_bytes, size);
            if matches!(outcome, Outcome::Skipped | Outcome::Metadata) {
                add(&self.skipped_files, 1);
                add(&self.skipped_bytes, size);
            }
        }
    }

    /// An entry that an exclude rule took out before it was counted as found.
    pub fn excluded(&self) {
        add(&self.reasons[Reason::Excluded as usize], 1);
    }
}

/// A counter that all threads add to at once, each in a place of its own: one place would go from processor to processor
/// with every file, and with it whatever lies beside it.
#[derive(Debug)]
pub struct Steps([Place; PLACES]);

/// Far enough from the next one to share no cache line with it, nor a pair of lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Place(AtomicU64);

/// Threads beyond so many share places.
const PLACES: usize = 64;

impl Default for Steps {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Place::default()))
    }
}

impl Steps {
    /// Adds one.
    pub fn add(&self) {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static PLACE: usize = THREADS.fetch_add(1, Relaxed) % PLACES;
        }
        // A thread that is ending has no place any more.
        let place = PLACE.try_with(|place| *place).unwrap_or_default();
        self.0[place].0.fetch_add(1, Relaxed);
    }

    /// All of them.
    pub fn sum(&self) -> u64 {
        let places = self.0.iter();
        places.fold(0, |sum, place| sum.wrapping_add(place.0.load(Relaxed)))
    }
}

/// Sums over all workers at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Entries found, by [`KINDS`].
    pub found: [u64; KINDS.len()],
    /// Extra entries of the destination that the sweep came to.
    pub extras: u64,
    /// Names of sources that a mirror's destination had already.
    pub there: u64,
    /// Entries by [`Outcome`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// Regular files by [`Outcome`].
    pub file_outcomes: [u64; Outcome::ALL.len()],
    /// Directories by [`Outcome`].
    pub directory_outcomes: [u64; Outcome::ALL.len()],
    /// Skipped entries by [`Reason`].
    pub reasons: [u64; Reason::ALL.len()],
    /// Apparent bytes of regular files.
    pub found_bytes: u64,
    /// Allocated bytes of regular files, where they were asked for: what only the end is read of is not.
    pub allocated_bytes: u64,
    /// Bytes of content written.
    pub copied_bytes: u64,
    /// Files that needed no content.
    pub skipped_files: u64,
    /// Their bytes.
    pub skipped_bytes: u64,
    /// Bytes of files that have an outcome.
    pub done_bytes: u64,
    /// Bytes of files that a dry run would write.
    pub planned_bytes: u64,
    /// New entries, apart from directories and hard links, that a dry run would make.
    pub planned_inodes: u64,
    /// Files that were read back and match.
    pub verified_files: u64,
    /// Their bytes.
    pub verified_bytes: u64,
    /// How many of these the cache gave instead of the medium.
    pub verified_from_cache: u64,
}

impl Totals {
    /// Adds up.
    pub fn of(counters: &[Counters]) -> Self {
        let mut sum = Self::default();
        let fold = |into: &mut [u64], from: &[AtomicU64]| {
            for (i, f) in into.iter_mut().zip(from) {
                *i += f.load(Relaxed);
            }
        };
        for c in counters {
            fold(&mut sum.found, &c.found);
            fold(&mut sum.outcomes, &c.outcomes);
            fold(&mut sum.file_outcomes, &c.file_outcomes);
            fold(&mut sum.directory_outcomes, &c.directory_outcomes);
            fold(&mut sum.reasons, &c.reasons);
            sum.extras += c.extras.load(Relaxed);
            sum.there += c.there.load(Relaxed);
            sum.found_bytes += c.found_bytes.load(Relaxed);
            sum.allocated_bytes += c.allocated_bytes.load(Relaxed);
            sum.copied_bytes += c.copied_bytes.load(Relaxed);
            sum.skipped_files += c.skipped_files.load(Relaxed);
            sum.skipped_bytes += c.skipped_bytes.load(Relaxed);
            sum.done_bytes += c.done_bytes.load(Relaxed);
            sum.planned_bytes += c.planned_bytes.load(Relaxed);
            sum.planned_inodes += c.planned_inodes.load(Relaxed);
            sum.verified_files += c.verified_files.load(Relaxed);
            sum.verified_bytes += c.verified_bytes.load(Relaxed);
            sum.verified_from_cache += c.verified_from_cache.load(Relaxed);
        }
        sum
    }

    /// What the workers did, as their throughput is measured: bytes moved or read back, and entries found and done with.
    pub fn work(&self) -> (u64, u64) {
        let bytes = self.copied_bytes + self.verified_bytes;
        (bytes, self.all_found() + self.all_outcomes())
    }

    /// A number that grows with whatever is found, moved or done.
    pub fn moves(&self) -> u64 {
        let bytes = [
            self.found_bytes,
            self.copied_bytes,
            self.verified_bytes,
            self.planned_bytes,
        ];
        let all = bytes
            .iter()
            .chain(&self.reasons)
            .fold(0, |sum: u64, n| sum.wrapping_add(*n));
        all.wrapping_add(self.all_found()).wrapping_add(self.all_outcomes())
    }

    /// Entries of a kind that were found.
    pub fn found_of(&self, kind: Kind) -> u64 {
        self.found[kind_index(kind)]
    }

    /// Entries with an outcome.
    pub fn outcome_of(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    /// Entries that were skipped for this reason.
    pub fn reason_of(&self, reason: Reason) -> u64 {
        self.reasons[reason as usize]
    }

    /// All entries found, on either side.
    pub fn all_found(&self) -> u64 {
        self.found.iter().sum::<u64>() + self.extras
    }

    /// All outcomes recorded.
    pub fn all_outcomes(&self) -> u64 {
        self.outcomes.iter().sum()
    }
}

/// Something kept short of what the source has, or worth a warning: counted by kind, shown once.
#[derive(Clone, Debug)]
pub struct Note {
    /// Stable code for programs.
    pub kind: String,
    /// How often.
    pub count: u64,
    /// It was asked for, could have been had, and is lost: the operation is not complete.
    pub lost: bool,
    /// Where first.
    pub path: Vec<u8>,
    /// One sentence.
    pub message: String,
}

/// Failures and notes of a run, bounded.
#[derive(Default)]
pub struct Findings {
    inner: Mutex<FindingsInner>,
}

#[derive(Default)]
struct FindingsInner {
    failures: Vec<Failure>,
    kinds: BTreeMap<&'static str, u64>,
    notes: BTreeMap<String, Note>,
}

impl Findings {
    /// Remembers a failure.
    pub fn fail(&self, failure: &Failure) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        *inner.kinds.entry(failure.kind).or_default() += 1;
        if inner.failures.len() < FAILURES_KEPT {
            inner.failures.push(failure.clone());
        }
    }

    /// Counts a note; answers it when it is the first of its kind. The texts are only made then. Where a name in the kind
    /// makes very many of them, the rest is counted without it.
    pub fn note(&self, kind: &str, lost: bool, first: impl FnOnce() -> (Vec<u8>, String)) -> Option<Note> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let crowded = inner.notes.len() >= NOTES_KEPT && !inner.notes.contains_key(kind);
        let kind = match kind.split_once(':') {
            Some((general, _)) if crowded => general,
            _ => kind,
        };
        if let Some(note) = inner.notes.get_mut(kind) {
            note.count += 1;
            note.lost |= lost;
            return None;
        }
        let (path, message) = first();
        let note = Note {
            kind: kind.to_owned(),
            count: 1,
            lost,
            path,
            message,
        };
        inner.notes.insert(kind.to_owned(), note.clone());
        Some(note)
    }

    /// How many failures of all kinds.
    pub fn failed(&self) -> u64 {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .kinds
            .values()
            .sum()
    }

    fn take(&self) -> FindingsInner {
        std::mem::take(&mut *self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a comparison found: entries, by what is to be done to turn the left side into the right one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Only the left side has them.
    pub left: u64,
    /// Only the right side has them.
    pub right: u64,
    /// Both have them, and they differ.
    pub changed: u64,
    /// Entries of the left side.
    pub left_entries: u64,
    /// Entries of the right side.
    pub right_entries: u64,
}

/// Deletes that were asked for and not begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// Stable code for programs: `failed`, `interrupted`, `missing-source`, `empty-source`, `source-gone`, `source-view`,
    /// `spelling`, `max-delete`, `declined`, `not-synced`.
    pub kind: &'static str,
    /// `extra` or `sources`: what stays.
    pub what: &'static str,
    /// One sentence.
    pub message: String,
}

/// What an operation did.
#[derive(Clone, Debug)]
pub struct Report {
    /// The counts.
    pub totals: Totals,
    /// What a comparison found.
    pub differences: Differences,
    /// The first [`FAILURES_KEPT`].
    pub failures: Vec<Failure>,
    /// All failures by kind.
    pub failure_kinds: BTreeMap<&'static str, u64>,
    /// Notes by kind.
    pub notes: Vec<Note>,
    /// Source entries that a move removed.
    pub removed_sources: u64,
    /// Source entries that a move left where they are.
    pub kept_sources: u64,
    /// Deletes that were asked for and not begun.
    pub withheld: Vec<Withheld>,
    /// Finder and recorder agree (or the run was interrupted).
    pub accounted: bool,
    /// The run was cancelled before it was through.
    pub interrupted: bool,
    /// What is on disk for sure.
    pub sync: Sync,
    /// Worker threads.
    pub workers: usize,
    /// Wall time.
    pub elapsed: Duration,
}

impl Report {
    /// Closes the books.
    pub fn close(
        counters: &[Counters],
        findings: &Findings,
        interrupted: bool,
        sync: Sync,
        workers: usize,
        elapsed: Duration,
    ) -> Self {
        let totals = Totals::of(counters);
        let FindingsInner { failures, kinds, notes } = findings.take();
        Self {
            accounted: interrupted || totals.all_found() == totals.all_outcomes(),
            totals,
            differences: Differences::default(),
            removed_sources: 0,
            kept_sources: 0,
            withheld: Vec::new(),
            failures,
            failure_kinds: kinds,
            notes: notes.into_values().collect(),
            interrupted,
            sync,
            workers,
            elapsed,
        }
    }

    /// Complete: everything found arrived and is accounted for.
    pub fn is_complete(&self) -> bool {
        let bad = [
            Outcome::Changed,
            Outcome::Conflict,
            Outcome::Mismatched,
            Outcome::Failed,
        ];
        self.accounted
            && !self.interrupted
            && self.withheld.is_empty()
            && self.failure_kinds.is_empty()
            && !self.notes.iter().any(|note| note.lost)
            && bad.iter().all(|o| self.totals.outcome_of(*o) == 0)
    }
}
