//! Options of manifests and of verifications, which are about paths, or about stores: one function each into the engine's form.

use bulkhaul_engine::ManifestFormat as Format;
use bulkhaul_engine::manifest::{self, Update};
use bulkhaul_engine::records::pieces::Shared;
use bulkhaul_engine::verify;
use napi::bindgen_prelude::Buffer;
use napi_derive::napi;

use crate::options::{
    Filter, JsLimits, NamesFrom, Tree, algorithm, choice, files_from, filter, paths, resources, roots,
};

/// A manifest, as asked for.
#[napi(object, object_to_js = false)]
pub struct ManifestOptions {
    pub sources: Vec<Tree>,
    pub filter: Option<Filter>,
    pub files_from: Option<NamesFrom>,
    pub one_file_system: Option<bool>,
    pub algorithms: Option<Vec<String>>,
    pub format: Option<String>,
    pub nul: Option<bool>,
    pub output: Option<Buffer>,
    pub update: Option<String>,
    pub in_use: Option<Vec<Buffer>>,
    pub finished: Option<Buffer>,
    pub finished_elsewhere: Option<Vec<Buffer>>,
    pub keep_finished: Option<bool>,
    pub spill_directory: Option<Buffer>,
    pub jobs: Option<u32>,
    pub limits: Option<JsLimits>,
    pub nice: Option<i32>,
    pub ionice: Option<String>,
    pub entry_events: Option<bool>,
}

/// How a manifest is written. The error names the option.
pub fn format(name: Option<&str>, nul: bool) -> Result<Format, String> {
    let known = [
        ("sums", Format::Sums),
        ("jsonl", Format::Json),
        ("hashdeep", Format::Hashdeep),
        ("bagit", Format::Bagit),
    ];
    match choice("format", name, Format::Sums, &known)? {
        Format::Sums if nul => Ok(Format::SumsNul),
        _ if nul => Err("nul: only lines of the format sums can end with NUL".into()),
        format => Ok(format),
    }
}

/// What a job has to do with others that do parts of it.
pub fn shared(finished: Option<Vec<Buffer>>, keep: Option<bool>) -> Shared {
    Shared {
        finished: finished.map(paths).unwrap_or_default(),
        keep: keep.unwrap_or_default(),
    }
}

/// Options into the engine's form. The error names the option.
pub fn manifest_options(given: ManifestOptions) -> Result<manifest::ManifestOptions, String> {
    let default = manifest::ManifestOptions::default();
    let names = given.algorithms.unwrap_or_default();
    let algorithms = names.iter().map(|name| algorithm("algorithms", name));
    Ok(manifest::ManifestOptions {
        sources: roots(given.sources),
        filter: given.filter.map(filter).transpose()?,
        files_from: given.files_from.map(|list| files_from(list, false)),
        one_file_system: given.one_file_system.unwrap_or(default.one_file_system),
        algorithms: algorithms.collect::<Result<_, _>>()?,
        format: format(given.format.as_deref(), given.nul.unwrap_or(false))?,
        output: given.output.map(Vec::from),
        update: choice(
            "update",
            given.update.as_deref(),
            default.update,
            &[("changed", Some(Update::Changed)), ("full", Some(Update::Full))],
        )?,
        in_use: given.in_use.map(paths).unwrap_or_default(),
        finished: given.finished.map(Vec::from),
        shared: shared(given.finished_elsewhere, given.keep_finished),
        spill_directory: given.spill_directory.map(Vec::from),
        jobs: given.jobs.map_or(default.jobs, |n| n as usize),
        resources: resources(given.limits, given.nice, given.ionice.as_deref())?,
        entry_events: given.entry_events.unwrap_or(default.entry_events),
        ..default
    })
}

/// A part of the files.
#[napi(object, object_to_js = false)]
pub struct VerifySample {
    pub part: u32,
    pub parts: u32,
}

/// A verification, as asked for.
#[napi(object, object_to_js = false)]
pub struct VerifyOptions {
    pub manifests: Vec<Buffer>,
    pub directory: Option<Buffer>,
    pub filter: Option<Filter>,
    pub algorithm: Option<String>,
    pub only: Option<Vec<Buffer>>,
    pub extra: Option<bool>,
    pub quick: Option<bool>,
    pub sample: Option<VerifySample>,
    pub in_use: Option<Vec<Buffer>>,
    pub finished: Option<Buffer>,
    pub finished_elsewhere: Option<Vec<Buffer>>,
    pub keep_finished: Option<bool>,
    pub spill_directory: Option<Buffer>,
    pub jobs: Option<u32>,
    pub limits: Option<JsLimits>,
    pub nice: Option<i32>,
    pub ionice: Option<String>,
    pub entry_events: Option<bool>,
}

/// Options into the engine's form. The error names the option.
pub fn verify_options(given: VerifyOptions) -> Result<verify::VerifyOptions, String> {
    let default = verify::VerifyOptions::default();
    let told = given.algorithm.as_deref();
    Ok(verify::VerifyOptions {
        manifests: paths(given.manifests),
        directory: given.directory.map(Vec::from),
        filter: given.filter.map(filter).transpose()?,
        algorithm: told.map(|name| algorithm("algorithm", name)).transpose()?,
        only: given.only.map(|only| paths(only).into_iter().collect()),
        extra: given.extra.unwrap_or(default.extra),
        quick: given.quick.unwrap_or(default.quick),
        sample: given
            .sample
            .map(|VerifySample { part, parts }| verify::Sample { part, parts }),
        in_use: given.in_use.map(paths).unwrap_or_default(),
        finished: given.finished.map(Vec::from),
        shared: shared(given.finished_elsewhere, given.keep_finished),
        spill_directory: given.spill_directory.map(Vec::from),
        jobs: given.jobs.map_or(default.jobs, |n| n as usize),
        resources: resources(given.limits, given.nice, given.ionice.as_deref())?,
        entry_events: given.entry_events.unwrap_or(default.entry_events),
        ..default
    })
}
