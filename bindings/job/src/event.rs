//! What leaves a job on the side.

use std::collections::BTreeMap;

use bulkhaul_engine::entry::{Reason, kind_text};
use bulkhaul_engine::error::{Failure, Missed, symbol};
use bulkhaul_engine::event::{EntryEvent, Event, Victims};
use bulkhaul_engine::report::{self, Note};
use napi::bindgen_prelude::{Buffer, Either5};
use napi_derive::napi;

/// What became of one entry.
#[napi(object, object_from_js = false)]
pub struct Entry {
    #[napi(ts_type = "'entry'")]
    pub r#type: &'static str,
    pub outcome: &'static str,
    pub kind: &'static str,
    pub path: Buffer,
    pub source: Buffer,
    pub destination: Buffer,
    pub bytes: f64,
    pub changes: Vec<&'static str>,
    pub reason: Option<&'static str>,
    pub target: Option<Buffer>,
    pub hash: Option<String>,
    pub digests: Option<BTreeMap<String, String>>,
    pub size: Option<f64>,
    pub mtime: Option<f64>,
    pub mtime_ns: Option<String>,
    pub mode: Option<u32>,
    pub user: Option<u32>,
    pub group: Option<u32>,
}

/// One entry that did not arrive.
#[napi(object, object_from_js = false, js_name = "Failure")]
pub struct JsFailure {
    #[napi(ts_type = "'error'")]
    pub r#type: &'static str,
    pub kind: &'static str,
    pub outcome: &'static str,
    pub operation: &'static str,
    pub path: Buffer,
    pub entry_kind: &'static str,
    pub errno: Option<String>,
    pub message: String,
    pub option: Option<&'static str>,
}

/// Something kept short, or a warning.
#[napi(object, object_from_js = false, js_name = "Note")]
pub struct JsNote {
    #[napi(ts_type = "'note'")]
    pub r#type: &'static str,
    pub kind: String,
    pub count: f64,
    pub lost: bool,
    pub path: Buffer,
    pub message: String,
}

/// What is about to be deleted.
#[napi(object, object_from_js = false, js_name = "Victims")]
pub struct JsVictims {
    pub what: &'static str,
    pub entries: f64,
    pub bytes: f64,
    pub first: Vec<Buffer>,
}

/// The job waits for an answer: may all this be deleted?
#[napi(object, object_from_js = false)]
pub struct Question {
    #[napi(ts_type = "'question'")]
    pub r#type: &'static str,
    pub victims: Vec<JsVictims>,
}

/// One part of a partition, whose list is there.
#[napi(object, object_from_js = false)]
pub struct Part {
    #[napi(ts_type = "'part'")]
    pub r#type: &'static str,
    pub number: f64,
    pub path: Option<Buffer>,
    pub entries: f64,
    pub bytes: f64,
    pub cost: f64,
    pub split: f64,
}

/// Anything that a reader of a job is told.
pub type JsEvent = Either5<Entry, JsFailure, JsNote, Question, Part>;

/// An event into JavaScript's form.
pub fn event(event: Event) -> JsEvent {
    match event {
        Event::Entry(e) => Either5::A(entry(e)),
        Event::Failure(f) => Either5::B(failure(f)),
        Event::Note(n) => Either5::C(note(n)),
        Event::Question(v) => Either5::D(question(v)),
        Event::Part(p) => Either5::E(part(p)),
    }
}

fn entry(e: EntryEvent) -> Entry {
    let digests = e.digests.iter();
    let digests: BTreeMap<_, _> = digests
        .map(|digest| (digest.algorithm().name().to_owned(), digest.to_string()))
        .collect();
    Entry {
        r#type: "entry",
        outcome: e.outcome.text(),
        kind: kind_text(e.kind),
        path: e.path.into(),
        source: e.source.into(),
        destination: e.destination.into(),
        bytes: e.bytes as f64,
        changes: e.changes.names().collect(),
        reason: e.reason.map(Reason::text),
        target: e.target.map(Buffer::from),
        hash: e.hash.map(|hash| format!("{hash:016x}")),
        digests: (!digests.is_empty()).then_some(digests),
        size: e.details.map(|d| d.size as f64),
        mtime: e.details.map(|d| d.mtime.as_float()),
        mtime_ns: e
            .details
            .map(|d| (i128::from(d.mtime.sec) * 1_000_000_000 + i128::from(d.mtime.nsec)).to_string()),
        mode: e.details.map(|d| d.mode),
        user: e.details.map(|d| d.uid),
        group: e.details.map(|d| d.gid),
    }
}

pub fn failure(f: Failure) -> JsFailure {
    JsFailure {
        r#type: "error",
        kind: f.kind,
        outcome: f.outcome.text(),
        operation: f.operation.text(),
        path: f.path.into(),
        entry_kind: kind_text(f.entry),
        errno: f.errno.map(symbol),
        message: f.message,
        option: f.option.map(|option| match option {
            Missed::RemoveExtra => "removeExtra",
            Missed::AcceptTimeLoss => "acceptTimeLoss",
        }),
    }
}

fn question(victims: Vec<Victims>) -> Question {
    Question {
        r#type: "question",
        victims: victims.into_iter().map(self::victims).collect(),
    }
}

fn victims(v: Victims) -> JsVictims {
    JsVictims {
        what: v.what,
        entries: v.entries as f64,
        bytes: v.bytes as f64,
        first: v.first.into_iter().map(Buffer::from).collect(),
    }
}

pub fn part(p: report::Part) -> Part {
    Part {
        r#type: "part",
        number: p.number as f64,
        path: (!p.path.is_empty()).then(|| p.path.into()),
        entries: p.entries as f64,
        bytes: p.bytes as f64,
        cost: p.cost as f64,
        split: p.split as f64,
    }
}

pub fn note(n: Note) -> JsNote {
    JsNote {
        r#type: "note",
        kind: n.kind,
        count: n.count as f64,
        lost: n.lost,
        path: n.path.into(),
        message: n.message,
    }
}
