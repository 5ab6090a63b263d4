//! Conversion between the engine's values and JavaScript's: one function each way.
//!
//! Paths are buffers. Sizes are numbers, exact to 2^53 bytes (8 PiB); what is larger is rounded. Times are seconds.

use std::collections::HashMap;
use std::time::Duration;

use bulkhaul_engine::bytes::transfer::Sparse;
use bulkhaul_engine::compare;
use bulkhaul_engine::compare::options::{self, Content, DiffForm, SideOptions};
use bulkhaul_engine::copy::options::{self, DestinationArgument, Directories, FilesFrom, SourceArgument};
use bulkhaul_engine::entry::{KINDS, Outcome, Reason, kind_text};
use bulkhaul_engine::error::{Failure, symbol};
use bulkhaul_engine::event::{EntryEvent, Event, Victims};
use bulkhaul_engine::job::desk::Snapshot;
use bulkhaul_engine::job::pace::Limits;
use bulkhaul_engine::job::resources;
use bulkhaul_engine::report::{Note, Report, Sync};
use bulkhaul_engine::sweep::limit::MaxDelete;
use bulkhaul_engine::walk::start::Root;
use bulkhaul_engine::{FilterStyle, Kind, ListForm as Form, list, remove};
use napi::bindgen_prelude::{Buffer, Either4};
use napi_derive::napi;

/// One source argument.
#[napi(object, object_to_js = false)]
pub struct Source {
    pub path: Buffer,
    pub contents: bool,
    pub name: Option<Buffer>,
    pub follow: bool,
}

/// One destination directory.
#[napi(object, object_to_js = false)]
pub struct Destination {
    pub path: Buffer,
    pub follow: bool,
}

/// Exclude rules.
#[napi(object, object_to_js = false)]
pub struct Filter {
    pub style: String,
    pub rules: Vec<Buffer>,
}

/// A list of names.
#[napi(object, object_to_js = false)]
pub struct NamesFrom {
    pub path: Buffer,
    pub nul: bool,
}

/// What is allowed in a second; absent or 0: no limit.
#[napi(object, js_name = "Limits")]
#[derive(Clone, Copy)]
pub struct JsLimits {
    pub bytes: Option<f64>,
    pub entries: Option<f64>,
}

/// A copy, as asked for.
#[napi(object, object_to_js = false)]
pub struct CopyOptions {
    pub sources: Vec<Source>,
    pub destinations: Vec<Destination>,
    pub create_destination: Option<bool>,
    pub allow_nested: Option<bool>,
    pub filter: Option<Filter>,
    pub files_from: Option<NamesFrom>,
    pub hash_size: Option<i64>,
    pub full_hash: Option<bool>,
    pub sparse: Option<String>,
    pub sync: Option<String>,
    pub jobs: Option<u32>,
    pub limits: Option<JsLimits>,
    pub nice: Option<i32>,
    pub ionice: Option<String>,
    pub dry_run: Option<bool>,
    pub one_file_system: Option<bool>,
    pub keep_dirlinks: Option<bool>,
    pub directories: Option<String>,
    pub link_tracking: Option<bool>,
    pub content_only: Option<bool>,
    pub owner: Option<bool>,
    pub permissions: Option<bool>,
    pub acls: Option<bool>,
    pub xattrs: Option<bool>,
    pub times: Option<bool>,
    pub chown_user: Option<u32>,
    pub chown_group: Option<u32>,
    pub chmod: Option<String>,
    pub require_space: Option<bool>,
    pub verify: Option<bool>,
    pub links_in_memory: Option<u32>,
    pub spill_directory: Option<Buffer>,
    pub remove_extra: Option<bool>,
    pub remove_sources: Option<bool>,
    pub accept_time_loss: Option<bool>,
    pub max_delete: Option<i64>,
    pub max_delete_percent: Option<u32>,
    pub confirm: Option<bool>,
    pub random_destination: Option<bool>,
    pub entry_events: Option<bool>,
}

/// A removal, as asked for.
#[napi(object, object_to_js = false)]
pub struct RemoveOptions {
    pub paths: Vec<Buffer>,
    pub filter: Option<Filter>,
    pub jobs: Option<u32>,
    pub limits: Option<JsLimits>,
    pub nice: Option<i32>,
    pub ionice: Option<String>,
    pub dry_run: Option<bool>,
    pub list_first: Option<bool>,
    pub max_delete: Option<i64>,
    pub max_delete_percent: Option<u32>,
    pub protected: Option<Vec<Buffer>>,
    pub no_preserve_root: Option<Vec<Buffer>>,
    pub ignore_missing: Option<bool>,
    pub entry_events: Option<bool>,
}

/// One argument of a walk.
#[napi(object, object_to_js = false)]
pub struct Tree {
    pub path: Buffer,
    pub contents: bool,
    pub follow: bool,
}

/// A list, as asked for.
#[napi(object, object_to_js = false)]
pub struct ListOptions {
    pub sources: Vec<Tree>,
    pub filter: Option<Filter>,
    pub hashes: Option<bool>,
    pub hash_size: Option<i64>,
    pub full_hash: Option<bool>,
    pub nul: Option<bool>,
    pub one_file_system: Option<bool>,
    pub output: Option<Buffer>,
    pub spill_directory: Option<Buffer>,
    pub jobs: Option<u32>,
    pub limits: Option<JsLimits>,
    pub nice: Option<i32>,
    pub ionice: Option<String>,
    pub entry_events: Option<bool>,
}

/// A side of a comparison: trees, or a list.
#[napi(object, object_to_js = false)]
pub struct ComparedSide {
    pub trees: Option<Vec<Tree>>,
    pub list: Option<Buffer>,
    /// The list holds names only; absent: it tells itself.
    pub names: Option<bool>,
}

/// A comparison, as asked for.
#[napi(object, object_to_js = false)]
pub struct CompareOptions {
    pub left: ComparedSide,
    pub right: ComparedSide,
    pub align: Option<bool>,
    pub filter: Option<Filter>,
    pub content: Option<String>,
    pub hash_size: Option<i64>,
    pub metadata: Option<bool>,
    pub directory_times: Option<bool>,
    pub xattrs: Option<bool>,
    pub specials: Option<bool>,
    pub one_file_system: Option<bool>,
    pub output: Option<Buffer>,
    pub form: Option<String>,
    pub spill_directory: Option<Buffer>,
    pub jobs: Option<u32>,
    pub limits: Option<JsLimits>,
    pub nice: Option<i32>,
    pub ionice: Option<String>,
    pub entry_events: Option<bool>,
}

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
    pub size: Option<f64>,
    pub mtime: Option<f64>,
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

/// The job waits for an answer: may all this be deleted?
#[napi(object, object_from_js = false)]
pub struct Question {
    #[napi(ts_type = "'question'")]
    pub r#type: &'static str,
    pub victims: Vec<JsVictims>,
}

/// What is about to be deleted.
#[napi(object, object_from_js = false, js_name = "Victims")]
pub struct JsVictims {
    pub what: &'static str,
    pub entries: f64,
    pub bytes: f64,
    pub first: Vec<Buffer>,
}

/// Deletes that were asked for and not begun.
#[napi(object, object_from_js = false, js_name = "Withheld")]
pub struct JsWithheld {
    pub kind: &'static str,
    pub what: &'static str,
    pub message: String,
}

/// Anything that a reader of a job is told.
pub type JsEvent = Either4<Entry, JsFailure, JsNote, Question>;

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
    pub errors: f64,
    pub workers: u32,
    pub limits: JsLimits,
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

/// What an operation did.
#[napi(object, object_from_js = false, js_name = "Report")]
pub struct JsReport {
    pub outcomes: HashMap<String, f64>,
    pub found: HashMap<String, f64>,
    pub files: HashMap<String, f64>,
    pub directories: HashMap<String, f64>,
    pub skipped: HashMap<String, f64>,
    pub found_bytes: f64,
    pub allocated_bytes: f64,
    pub copied_bytes: f64,
    pub planned_bytes: f64,
    pub verified_files: f64,
    pub verified_bytes: f64,
    pub verified_from_cache: f64,
    pub differences: JsDifferences,
    pub extras: f64,
    pub removed_sources: f64,
    pub kept_sources: f64,
    pub withheld: Vec<JsWithheld>,
    pub failures: Vec<JsFailure>,
    pub failure_kinds: HashMap<String, f64>,
    pub notes: Vec<JsNote>,
    pub accounted: bool,
    pub interrupted: bool,
    pub sync: &'static str,
    pub workers: u32,
    pub elapsed: f64,
}

fn choice<T: Copy>(name: &str, text: Option<&str>, default: T, choices: &[(&str, T)]) -> Result<T, String> {
    let Some(text) = text else { return Ok(default) };
    choices
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            format!("{name}: '{text}' is none of {}", words.join(", "))
        })
}

/// Exclude rules into the engine's form.
fn filter(given: Filter) -> Result<(FilterStyle, Vec<Vec<u8>>), String> {
    let styles = [("rsync", FilterStyle::Rsync), ("fnmatch", FilterStyle::Fnmatch)];
    let style = choice("filter", Some(&given.style), FilterStyle::Rsync, &styles)?;
    Ok((style, paths(given.rules)))
}

fn paths(given: Vec<Buffer>) -> Vec<Vec<u8>> {
    given.into_iter().map(Vec::from).collect()
}

/// What an operation may take of the machine, into the engine's form.
fn resources(given: Option<JsLimits>, nice: Option<i32>, ionice: Option<&str>) -> Result<resources::Resources, String> {
    let io = ionice.map(resources::io_priority).transpose();
    Ok(resources::Resources {
        limits: given.map(limits).unwrap_or_default(),
        nice,
        io: io.map_err(|refusal| refusal.to_string())?,
    })
}

/// A limit of deletions into the engine's form.
fn max_delete(entries: Option<i64>, percent: Option<u32>) -> Result<Option<MaxDelete>, String> {
    match (entries, percent) {
        (None, None) => Ok(None),
        (None, Some(percent)) => Ok(Some(MaxDelete::Percent(percent))),
        (Some(entries), None) => u64::try_from(entries)
            .map(|entries| Some(MaxDelete::Entries(entries)))
            .map_err(|_| format!("maxDelete: {entries} is not a number of entries")),
        (Some(_), Some(_)) => Err("maxDelete and maxDeletePercent exclude each other".into()),
    }
}

/// Options into the engine's form. The error names the option.
pub fn remove_options(given: RemoveOptions) -> Result<remove::RemoveOptions, String> {
    Ok(remove::RemoveOptions {
        paths: paths(given.paths),
        filter: given.filter.map(filter).transpose()?,
        jobs: given.jobs.unwrap_or_default() as usize,
        resources: resources(given.limits, given.nice, given.ionice.as_deref())?,
        dry_run: given.dry_run.unwrap_or_default(),
        list_first: given.list_first.unwrap_or_default(),
        max_delete: max_delete(given.max_delete, given.max_delete_percent)?,
        protected: paths(given.protected.unwrap_or_default()),
        no_preserve_root: paths(given.no_preserve_root.unwrap_or_default()),
        ignore_missing: given.ignore_missing.unwrap_or_default(),
        entry_events: given.entry_events.unwrap_or_default(),
    })
}

fn hash_size(given: Option<i64>, default: u64) -> Result<u64, String> {
    match given {
        None => Ok(default),
        Some(bytes) => u64::try_from(bytes).map_err(|_| format!("hashSize: {bytes} is not a number of bytes")),
    }
}

fn roots(given: Vec<Tree>) -> Vec<Root> {
    given
        .into_iter()
        .map(|tree| Root {
            path: tree.path.into(),
            follow: tree.follow,
            contents: tree.contents,
            pin: None,
        })
        .collect()
}

/// Options into the engine's form. The error names the option.
pub fn list_options(given: ListOptions) -> Result<list::ListOptions, String> {
    let default = list::ListOptions::default();
    Ok(list::ListOptions {
        sources: roots(given.sources),
        filter: given.filter.map(filter).transpose()?,
        hashes: given.hashes.unwrap_or(default.hashes),
        hash_size: hash_size(given.hash_size, default.hash_size)?,
        full_hash: given.full_hash.unwrap_or(default.full_hash),
        nul: given.nul.unwrap_or(default.nul),
        one_file_system: given.one_file_system.unwrap_or(default.one_file_system),
        output: given.output.map(Vec::from),
        spill_directory: given.spill_directory.map(Vec::from),
        jobs: given.jobs.map_or(default.jobs, |n| n as usize),
        resources: resources(given.limits, given.nice, given.ionice.as_deref())?,
        entry_events: given.entry_events.unwrap_or(default.entry_events),
        ..default
    })
}

fn side(given: ComparedSide, name: &str) -> Result<SideOptions, String> {
    match (given.trees, given.list) {
        (Some(trees), None) => Ok(SideOptions::Trees(roots(trees))),
        (None, Some(path)) => Ok(SideOptions::List {
            path: path.into(),
            form: given.names.map(|names| if names { Form::Names } else { Form::Hashed }),
        }),
        _ => Err(format!("{name}: either trees or a list")),
    }
}

/// Options into the engine's form. The error names the option.
pub fn compare_options(given: CompareOptions) -> Result<options::CompareOptions, String> {
    let default = options::CompareOptions::new(side(given.left, "left")?, side(given.right, "right")?);
    Ok(options::CompareOptions {
        align: given.align.unwrap_or(default.align),
        filter: given.filter.map(filter).transpose()?,
        content: choice(
            "content",
            given.content.as_deref(),
            default.content,
            &[
                ("nothing", Content::Nothing),
                ("tail", Content::Tail),
                ("whole", Content::Whole),
            ],
        )?,
        hash_size: hash_size(given.hash_size, default.hash_size)?,
        metadata: given.metadata.unwrap_or(default.metadata),
        directory_times: given.directory_times.unwrap_or(default.directory_times),
        xattrs: given.xattrs.unwrap_or(default.xattrs),
        specials: given.specials.unwrap_or(default.specials),
        one_file_system: given.one_file_system.unwrap_or(default.one_file_system),
        output: given.output.map(Vec::from),
        form: choice(
            "form",
            given.form.as_deref(),
            default.form,
            &[
                ("both", DiffForm::Both),
                ("tar", DiffForm::Tar),
                ("changes", DiffForm::Changes),
            ],
        )?,
        spill_directory: given.spill_directory.map(Vec::from),
        jobs: given.jobs.map_or(default.jobs, |n| n as usize),
        resources: resources(given.limits, given.nice, given.ionice.as_deref())?,
        entry_events: given.entry_events.unwrap_or(default.entry_events),
        ..default
    })
}

/// Options into the engine's form. The error names the option.
pub fn copy_options(given: CopyOptions) -> Result<options::CopyOptions, String> {
    let default = options::CopyOptions::default();
    Ok(options::CopyOptions {
        sources: given
            .sources
            .into_iter()
            .map(|s| SourceArgument {
                path: s.path.into(),
                contents: s.contents,
                name: s.name.map(Vec::from),
                follow: s.follow,
            })
            .collect(),
        destinations: given
            .destinations
            .into_iter()
            .map(|d| DestinationArgument {
                path: d.path.into(),
                follow: d.follow,
            })
            .collect(),
        create_destination: given.create_destination.unwrap_or(default.create_destination),
        allow_nested: given.allow_nested.unwrap_or(default.allow_nested),
        filter: given.filter.map(filter).transpose()?,
        files_from: given.files_from.map(|f| FilesFrom {
            path: f.path.into(),
            nul: f.nul,
        }),
        hash_size: hash_size(given.hash_size, default.hash_size)?,
        full_hash: given.full_hash.unwrap_or(default.full_hash),
        sparse: choice(
            "sparse",
            given.sparse.as_deref(),
            default.sparse,
            &[
                ("auto", Sparse::Auto),
                ("always", Sparse::Always),
                ("never", Sparse::Never),
            ],
        )?,
        sync: choice(
            "sync",
            given.sync.as_deref(),
            default.sync,
            &[("none", Sync::None), ("safe", Sync::Safe), ("all", Sync::All)],
        )?,
        memory: None,
        resources: resources(given.limits, given.nice, given.ionice.as_deref())?,
        jobs: given.jobs.map_or(default.jobs, |n| n as usize),
        dry_run: given.dry_run.unwrap_or(default.dry_run),
        one_file_system: given.one_file_system.unwrap_or(default.one_file_system),
        keep_dirlinks: given.keep_dirlinks.unwrap_or(default.keep_dirlinks),
        directories: choice(
            "directories",
            given.directories.as_deref(),
            default.directories,
            &[
                ("all", Directories::All),
                ("only", Directories::Only),
                ("needed", Directories::Needed),
            ],
        )?,
        link_tracking: given.link_tracking.unwrap_or(default.link_tracking),
        content_only: given.content_only.unwrap_or(default.content_only),
        owner: given.owner.unwrap_or(default.owner),
        permissions: given.permissions.unwrap_or(default.permissions),
        acls: given.acls.unwrap_or(default.acls),
        xattrs: given.xattrs.unwrap_or(default.xattrs),
        times: given.times.unwrap_or(default.times),
        chown_user: given.chown_user,
        chown_group: given.chown_group,
        chmod: given.chmod,
        require_space: given.require_space.unwrap_or(default.require_space),
        verify: given.verify.unwrap_or(default.verify),
        links_in_memory: given.links_in_memory.map_or(default.links_in_memory, |n| n as usize),
        spill_directory: given.spill_directory.map(|path| path.to_vec()),
        remove_extra: given.remove_extra.unwrap_or(default.remove_extra),
        remove_sources: given.remove_sources.unwrap_or(default.remove_sources),
        accept_time_loss: given.accept_time_loss.unwrap_or(default.accept_time_loss),
        max_delete: max_delete(given.max_delete, given.max_delete_percent)?,
        confirm: given.confirm.unwrap_or(default.confirm),
        scatter: given.random_destination.unwrap_or(default.scatter),
        entry_events: given.entry_events.unwrap_or(default.entry_events),
    })
}

/// A span of time. The error names what it is for.
pub fn seconds(name: &str, seconds: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("{name}: {seconds} is not a number of seconds"))
}

/// Limits into the engine's form.
pub fn limits(given: JsLimits) -> Limits {
    Limits {
        bytes: given.bytes.unwrap_or(0.0),
        entries: given.entries.unwrap_or(0.0),
    }
}

/// An event into JavaScript's form.
pub fn event(event: Event) -> JsEvent {
    match event {
        Event::Entry(e) => Either4::A(entry(e)),
        Event::Failure(f) => Either4::B(failure(f)),
        Event::Note(n) => Either4::C(note(n)),
        Event::Question(v) => Either4::D(question(v)),
    }
}

fn entry(e: EntryEvent) -> Entry {
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
        size: e.details.map(|d| d.size as f64),
        mtime: e.details.map(|d| d.mtime.as_float()),
        mode: e.details.map(|d| d.mode),
        user: e.details.map(|d| d.uid),
        group: e.details.map(|d| d.gid),
    }
}

fn failure(f: Failure) -> JsFailure {
    JsFailure {
        r#type: "error",
        kind: f.kind,
        outcome: f.outcome.text(),
        operation: f.operation.text(),
        path: f.path.into(),
        entry_kind: kind_text(f.entry),
        errno: f.errno.map(symbol),
        message: f.message,
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

fn note(n: Note) -> JsNote {
    JsNote {
        r#type: "note",
        kind: n.kind,
        count: n.count as f64,
        lost: n.lost,
        path: n.path.into(),
        message: n.message,
    }
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
        errors: s.failures as f64,
        workers: u32::try_from(s.workers).unwrap_or(u32::MAX),
        limits: JsLimits {
            bytes: Some(s.limits.bytes),
            entries: Some(s.limits.entries),
        },
        elapsed: s.elapsed.as_secs_f64(),
    }
}

/// A report into JavaScript's form.
pub fn report(r: Report) -> JsReport {
    let t = &r.totals;
    let by_outcome = |counts: &[u64]| {
        Outcome::ALL
            .iter()
            .zip(counts)
            .map(|(o, n)| (o.text().to_owned(), *n as f64))
            .collect::<HashMap<_, _>>()
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
        allocated_bytes: t.allocated_bytes as f64,
        copied_bytes: t.copied_bytes as f64,
        planned_bytes: t.planned_bytes as f64,
        verified_files: t.verified_files as f64,
        verified_bytes: t.verified_bytes as f64,
        verified_from_cache: t.verified_from_cache as f64,
        differences: JsDifferences {
            left: r.differences.left as f64,
            right: r.differences.right as f64,
            changed: r.differences.changed as f64,
            left_entries: r.differences.left_entries as f64,
            right_entries: r.differences.right_entries as f64,
        },
        extras: t.extras as f64,
        removed_sources: r.removed_sources as f64,
        kept_sources: r.kept_sources as f64,
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
        sync: r.sync.text(),
        workers: u32::try_from(r.workers).unwrap_or(u32::MAX),
        elapsed: r.elapsed.as_secs_f64(),
    }
}
