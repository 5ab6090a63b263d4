//! Accounting: what was found and what became of it, counted independently, and the report made of both.
//!
//! Comes in: counts, failures and notes; goes out: one [`Report`], and whether it is complete.
//!
//! The finder (the walk) counts an entry when it sees its name; the recorder counts an outcome when the entry is done
//! with. Nothing passes a number from one to the other, so an action that gets lost shows as a difference. Each worker
//! has counters of its own, on cache lines of their own; readers add them up.

pub mod conversions;
pub mod counters;
pub mod standouts;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::entry::Outcome;
use crate::error::Failure;
use crate::report::counters::{Counters, Totals};
use crate::report::standouts::{Share, Slow, Standouts};

/// Failures that a report keeps in full; beyond that they are counted by kind (memory must not grow with them).
pub const FAILURES_KEPT: usize = 1000;
/// Parts that a report keeps in full; beyond that they are only counted, and events have all of them.
pub const PARTS_KEPT: usize = 1000;
/// Kinds of notes that a report tells apart at most, where names from a file system are part of them.
pub const NOTES_KEPT: usize = 1000;

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

/// One part of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Counted from 1.
    pub number: u64,
    /// Where its list is; empty where it has no file of its own.
    pub path: Vec<u8>,
    /// Entries in it.
    pub entries: u64,
    /// Bytes of the regular files in it; links of one inode count once.
    pub bytes: u64,
    /// Both together, in bytes.
    pub cost: u64,
    /// Files in it that are to be split into ranges.
    pub split: u64,
}

/// What a partition came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// How many.
    pub number: u64,
    /// Entries in all of them.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their cost.
    pub cost: u64,
    /// Files that are to be split into ranges.
    pub split: u64,
    /// The first [`PARTS_KEPT`].
    pub first: Vec<Part>,
}

/// What became of the files of one extension that were packed or unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversion {
    /// In small letters, without its dot; `*` stands for those beyond the first 256.
    pub extension: Vec<u8>,
    /// How many.
    pub files: u64,
    /// Their bytes.
    pub before: u64,
    /// Bytes of what they became; 0 in a dry run, which does not know.
    pub after: u64,
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
    /// What a partition came to; none of anything else.
    pub parts: Option<Parts>,
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
    /// Files that were packed or unpacked, by extension, the greatest sum first.
    pub conversions: Vec<Conversion>,
    /// The directories that hold most, those two steps below a source with all that is below them.
    pub heaviest: Vec<Share>,
    /// The entries that took longest.
    pub slowest: Vec<Slow>,
    /// Deletes that were asked for and not begun.
    pub withheld: Vec<Withheld>,
    /// Finder and recorder agree (or the run was interrupted).
    pub accounted: bool,
    /// The run was cancelled before it was through.
    pub interrupted: bool,
    /// What is on disk for sure.
    pub sync: Durability,
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
        sync: Durability,
        workers: usize,
        elapsed: Duration,
    ) -> Self {
        let totals = Totals::of(counters);
        let (heaviest, slowest) = Standouts::of(counters.iter().map(|each| &each.standouts));
        let FindingsInner { failures, kinds, notes } = findings.take();
        Self {
            accounted: interrupted || totals.all_found() == totals.all_outcomes(),
            totals,
            differences: Differences::default(),
            parts: None,
            removed_sources: 0,
            kept_sources: 0,
            conversions: Vec::new(),
            heaviest,
            slowest,
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

/// When things are on disk (design.md section 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Never: only the death of the process is covered.
    None,
    /// What the skip test could mistake after a power cut is synced before its times are set.
    #[default]
    Safe,
    /// Everything, before success is reported.
    All,
}

impl Durability {
    /// As options and `--json` name it.
    pub fn text(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Safe => "safe",
            Self::All => "all",
        }
    }
}
