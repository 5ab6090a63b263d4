//! Counts on the way, and the report.

use std::collections::BTreeMap;

use bulkhaul_engine::Kind;
use bulkhaul_engine::entry::{KINDS, Outcome, Reason, kind_text};
use bulkhaul_engine::job::desk::Snapshot;
use bulkhaul_engine::report::Report;
use bulkhaul_engine::report::counters::SIZE_CLASSES;
use bulkhaul_engine::report::standouts::{Share, Slow};
use napi::bindgen_prelude::Buffer;
use napi_derive::napi;

use crate::event::{JsFailure, JsNote, Part, failure, note, part};
use crate::options::JsLimits;

/// Deletes that were asked for and not begun.
#[napi(object, object_from_js = false, js_name = "Withheld")]
pub struct JsWithheld {
    pub kind: &'static str,
    pub what: &'static str,
    pub message: String,
}

/// What an operation has to do with, once that is known.
#[napi(object, object_from_js = false, js_name = "Expected")]
pub struct JsExpected {
    pub entries: f64,
    pub files: f64,
    pub bytes: Option<f64>,
    pub to_read: Option<f64>,
    pub to_do: f64,
    pub estimated: Option<bool>,
}

/// What an operation that was told to stop still waits for.
#[napi(object, object_from_js = false, js_name = "Stopping")]
pub struct JsStopping {
    pub files: f64,
    pub bytes: f64,
}

/// How far the removal of extra entries is.
#[napi(object, object_from_js = false, js_name = "Sweep")]
pub struct JsSweep {
    pub gone: f64,
    pub of: f64,
}

/// Counts at one moment.
#[napi(object, object_from_js = false, js_name = "Snapshot")]
pub struct JsSnapshot {
    pub phase: &'static str,
    pub found_files: f64,
    pub found_bytes: f64,
    pub found_directories: f64,
    pub found_links: f64,
    pub done_entries: f64,
    pub done_files: f64,
    pub done_bytes: f64,
    pub skipped_files: f64,
    pub skipped_bytes: f64,
    pub copied_bytes: f64,
    pub copied_files: f64,
    pub resumed_bytes: f64,
    pub errors: f64,
    pub workers: u32,
    pub limits: JsLimits,
    pub verified_bytes: f64,
    pub read_bytes: f64,
    pub worked_entries: f64,
    pub expected: Option<JsExpected>,
    pub syncing: Option<f64>,
    pub stopping: Option<JsStopping>,
    pub sweep: Option<JsSweep>,
    pub elapsed: f64,
}

/// What a comparison found.
#[napi(object, object_from_js = false, js_name = "Differences")]
pub struct JsDifferences {
    pub left: f64,
    pub right: f64,
    pub changed: f64,
    pub left_entries: f64,
    pub right_entries: f64,
}

/// Files of one class of sizes.
#[napi(object, object_from_js = false, js_name = "SizeClass")]
pub struct JsSizeClass {
    pub most: Option<f64>,
    pub files: f64,
    pub bytes: f64,
}

/// What a partition came to.
#[napi(object, object_from_js = false, js_name = "Parts")]
pub struct JsParts {
    pub number: f64,
    pub entries: f64,
    pub bytes: f64,
    pub cost: f64,
    pub split: f64,
    pub first: Vec<Part>,
}

/// What became of the files of one extension that were packed or unpacked.
#[napi(object, object_from_js = false, js_name = "Conversion")]
pub struct JsConversion {
    pub extension: Buffer,
    pub files: f64,
    pub before: f64,
    pub after: f64,
}

/// What lies in a directory, or below one that stands for more.
#[napi(object, object_from_js = false, js_name = "Share")]
pub struct JsShare {
    pub path: Buffer,
    pub files: f64,
    pub bytes: f64,
}

/// An entry that took its time.
#[napi(object, object_from_js = false, js_name = "Slow")]
pub struct JsSlow {
    pub path: Buffer,
    pub bytes: f64,
    pub seconds: f64,
}

impl From<Share> for JsShare {
    fn from(share: Share) -> Self {
        Self {
            path: share.path.into(),
            files: share.files as f64,
            bytes: share.bytes as f64,
        }
    }
}

impl From<Slow> for JsSlow {
    fn from(slow: Slow) -> Self {
        Self {
            path: slow.path.into(),
            bytes: slow.bytes as f64,
            seconds: slow.took.as_secs_f64(),
        }
    }
}

/// What an operation did.
#[napi(object, object_from_js = false, js_name = "Report")]
pub struct JsReport {
    pub outcomes: BTreeMap<String, f64>,
    pub found: BTreeMap<String, f64>,
    pub files: BTreeMap<String, f64>,
    pub directories: BTreeMap<String, f64>,
    pub skipped: BTreeMap<String, f64>,
    pub found_bytes: f64,
    pub sizes: Vec<JsSizeClass>,
    pub heaviest: Vec<JsShare>,
    pub slowest: Vec<JsSlow>,
    pub allocated_bytes: f64,
    pub copied_bytes: f64,
    pub added: Option<f64>,
    pub updated: Option<f64>,
    pub resumed_files: f64,
    pub resumed_bytes: f64,
    pub planned_bytes: f64,
    pub verified_files: f64,
    pub verified_bytes: f64,
    pub verified_from_cache: f64,
    pub hashed_bytes: f64,
    pub differences: JsDifferences,
    pub parts: Option<JsParts>,
    pub extras: f64,
    pub removed_sources: f64,
    pub kept_sources: f64,
    pub conversions: Vec<JsConversion>,
    pub withheld: Vec<JsWithheld>,
    pub failures: Vec<JsFailure>,
    pub failure_kinds: BTreeMap<String, f64>,
    pub notes: Vec<JsNote>,
    pub accounted: bool,
    pub interrupted: bool,
    pub unfinished: f64,
    pub sync: &'static str,
    pub workers: u32,
    pub elapsed: f64,
}

/// Counts into JavaScript's form.
pub fn snapshot(s: &Snapshot) -> JsSnapshot {
    let t = &s.totals;
    JsSnapshot {
        phase: s.phase.text(),
        found_files: t.found_of(Kind::File) as f64,
        found_bytes: t.found_bytes as f64,
        found_directories: t.found_of(Kind::Directory) as f64,
        found_links: t.found_of(Kind::Symlink) as f64,
        done_entries: t.all_outcomes() as f64,
        done_files: t.file_outcomes.iter().sum::<u64>() as f64,
        done_bytes: t.done_bytes as f64,
        skipped_files: t.skipped_files as f64,
        skipped_bytes: t.skipped_bytes as f64,
        copied_bytes: t.copied_bytes as f64,
        copied_files: t.file_outcomes[Outcome::Copied as usize] as f64,
        resumed_bytes: t.resumed_bytes as f64,
        errors: s.failures as f64,
        workers: u32::try_from(s.workers).unwrap_or(u32::MAX),
        limits: JsLimits {
            bytes: Some(s.limits.bytes),
            entries: Some(s.limits.entries),
        },
        verified_bytes: t.verified_bytes as f64,
        read_bytes: s.read_bytes as f64,
        worked_entries: s.done_entries as f64,
        expected: s.expected.map(|e| JsExpected {
            entries: e.entries as f64,
            files: e.files as f64,
            bytes: e.bytes.map(|bytes| bytes.found as f64),
            to_read: e.bytes.map(|bytes| bytes.to_read as f64),
            to_do: e.to_do as f64,
            estimated: e.estimated.then_some(true),
        }),
        syncing: s.syncing.map(|since| since.as_secs_f64()),
        stopping: s.stopping.map(|left| JsStopping {
            files: left.files as f64,
            bytes: left.bytes as f64,
        }),
        sweep: s.sweep.map(|sweep| JsSweep {
            gone: sweep.gone as f64,
            of: sweep.of as f64,
        }),
        elapsed: s.elapsed.as_secs_f64(),
    }
}

/// A report into JavaScript's form.
pub fn report(r: Report) -> JsReport {
    let t = &r.totals;
    // Not all operations that copy tell both apart.
    let told = t.added_files + t.updated_files == t.file_outcomes[Outcome::Copied as usize];
    let by_outcome = |counts: &[u64]| {
        Outcome::ALL
            .iter()
            .zip(counts)
            .map(|(o, n)| (o.text().to_owned(), *n as f64))
            .collect::<BTreeMap<_, _>>()
    };
    JsReport {
        outcomes: by_outcome(&t.outcomes),
        found: KINDS
            .iter()
            .zip(&t.found)
            .map(|(k, n)| (kind_text(*k).to_owned(), *n as f64))
            .collect(),
        files: by_outcome(&t.file_outcomes),
        directories: by_outcome(&t.directory_outcomes),
        skipped: Reason::ALL
            .iter()
            .zip(&t.reasons)
            .filter(|(_, n)| **n > 0)
            .map(|(reason, n)| (reason.text().to_owned(), *n as f64))
            .collect(),
        found_bytes: t.found_bytes as f64,
        sizes: t
            .sizes
            .iter()
            .enumerate()
            .map(|(class, of)| JsSizeClass {
                most: SIZE_CLASSES.get(class).map(|most| *most as f64),
                files: of.files as f64,
                bytes: of.bytes as f64,
            })
            .collect(),
        allocated_bytes: t.allocated_bytes as f64,
        copied_bytes: t.kept_bytes() as f64,
        added: told.then_some(t.added_files as f64),
        updated: told.then_some(t.updated_files as f64),
        resumed_files: t.resumed_files as f64,
        resumed_bytes: t.resumed_bytes as f64,
        planned_bytes: t.planned_bytes as f64,
        verified_files: t.verified_files as f64,
        verified_bytes: t.verified_bytes as f64,
        verified_from_cache: t.verified_from_cache as f64,
        hashed_bytes: t.hashed_bytes as f64,
        differences: JsDifferences {
            left: r.differences.left as f64,
            right: r.differences.right as f64,
            changed: r.differences.changed as f64,
            left_entries: r.differences.left_entries as f64,
            right_entries: r.differences.right_entries as f64,
        },
        parts: r.parts.map(|parts| JsParts {
            number: parts.number as f64,
            entries: parts.entries as f64,
            bytes: parts.bytes as f64,
            cost: parts.cost as f64,
            split: parts.split as f64,
            first: parts.first.into_iter().map(part).collect(),
        }),
        extras: t.extras as f64,
        removed_sources: r.removed_sources as f64,
        kept_sources: r.kept_sources as f64,
        heaviest: r.heaviest.into_iter().map(JsShare::from).collect(),
        slowest: r.slowest.into_iter().map(JsSlow::from).collect(),
        conversions: r
            .conversions
            .into_iter()
            .map(|sums| JsConversion {
                extension: sums.extension.into(),
                files: sums.files as f64,
                before: sums.before as f64,
                after: sums.after as f64,
            })
            .collect(),
        withheld: r
            .withheld
            .into_iter()
            .map(|w| JsWithheld {
                kind: w.kind,
                what: w.what,
                message: w.message,
            })
            .collect(),
        failures: r.failures.into_iter().map(failure).collect(),
        failure_kinds: r
            .failure_kinds
            .into_iter()
            .map(|(kind, n)| (kind.to_owned(), n as f64))
            .collect(),
        notes: r.notes.into_iter().map(note).collect(),
        accounted: r.accounted,
        interrupted: r.interrupted,
        unfinished: t.unfinished as f64,
        sync: r.sync.text(),
        workers: u32::try_from(r.workers).unwrap_or(u32::MAX),
        elapsed: r.elapsed.as_secs_f64(),
    }
}
