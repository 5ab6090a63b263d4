//! What options of several operations are made of: one function each into the engine's form.

use std::time::Duration;

use bulkhaul_engine::job::pace::Limits;
use bulkhaul_engine::job::resources;
use bulkhaul_engine::sweep::limit::MaxDelete;
use bulkhaul_engine::walk::names::FilesFrom;
use bulkhaul_engine::walk::start::Root;
use bulkhaul_engine::{Algorithm, FilterStyle};
use napi::bindgen_prelude::Buffer;
use napi_derive::napi;

/// Exclude rules.
#[napi(object, object_to_js = false)]
pub struct Filter {
    pub style: String,
    pub rules: Vec<Buffer>,
}

/// One argument of a walk.
#[napi(object, object_to_js = false)]
pub struct Tree {
    pub path: Buffer,
    pub contents: bool,
    pub follow: bool,
}

/// What is allowed in a second; absent or 0: no limit.
#[napi(object, js_name = "Limits")]
#[derive(Clone, Copy)]
pub struct JsLimits {
    pub bytes: Option<f64>,
    pub entries: Option<f64>,
}

/// A list of names.
#[napi(object, object_to_js = false)]
pub struct NamesFrom {
    pub path: Buffer,
    pub nul: bool,
    pub contents: Option<bool>,
}

/// Into the engine's form; `contents`: whether a directory brings what is in it where nothing is said.
pub fn files_from(given: NamesFrom, contents: bool) -> FilesFrom {
    FilesFrom {
        path: given.path.into(),
        nul: given.nul,
        contents: given.contents.unwrap_or(contents),
    }
}

/// One of these words.
pub fn choice<T: Copy>(name: &str, text: Option<&str>, default: T, choices: &[(&str, T)]) -> Result<T, String> {
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

/// The algorithm of this name.
pub fn algorithm(name: &str, text: &str) -> Result<Algorithm, String> {
    let known = Algorithm::ALL.map(|algorithm| (algorithm.name(), algorithm));
    choice(name, Some(text), Algorithm::Blake3, &known)
}

/// Exclude rules into the engine's form.
pub fn filter(given: Filter) -> Result<(FilterStyle, Vec<Vec<u8>>), String> {
    let styles = [("rsync", FilterStyle::Rsync), ("fnmatch", FilterStyle::Fnmatch)];
    let style = choice("filter", Some(&given.style), FilterStyle::Rsync, &styles)?;
    Ok((style, paths(given.rules)))
}

/// Arguments of a walk into the engine's form.
pub fn roots(given: Vec<Tree>) -> Vec<Root> {
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

/// Paths into the engine's form.
pub fn paths(given: Vec<Buffer>) -> Vec<Vec<u8>> {
    given.into_iter().map(Vec::from).collect()
}

/// What an operation may take of the machine, into the engine's form.
pub fn resources(
    given: Option<JsLimits>,
    nice: Option<i32>,
    ionice: Option<&str>,
) -> Result<resources::Resources, String> {
    let io = ionice.map(resources::io_priority).transpose();
    Ok(resources::Resources {
        limits: given.map(limits).unwrap_or_default(),
        nice,
        io: io.map_err(|refusal| refusal.to_string())?,
    })
}

/// A limit of deletions into the engine's form.
pub fn max_delete(entries: Option<i64>, percent: Option<u32>) -> Result<Option<MaxDelete>, String> {
    match (entries, percent) {
        (None, None) => Ok(None),
        (None, Some(percent)) => Ok(Some(MaxDelete::Percent(percent))),
        (Some(entries), None) => u64::try_from(entries)
            .map(|entries| Some(MaxDelete::Entries(entries)))
            .map_err(|_| format!("maxDelete: {entries} is not a number of entries")),
        (Some(_), Some(_)) => Err("maxDelete and maxDeletePercent exclude each other".into()),
    }
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
