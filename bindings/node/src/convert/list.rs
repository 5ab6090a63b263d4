//! Options of a list.

use bulkhaul_engine::list;
use napi::bindgen_prelude::Buffer;
use napi_derive::napi;

use super::{Filter, JsLimits, Tree, filter, hash_size, resources, roots};

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
    pub finished: Option<Buffer>,
    pub spill_directory: Option<Buffer>,
    pub jobs: Option<u32>,
    pub limits: Option<JsLimits>,
    pub nice: Option<i32>,
    pub ionice: Option<String>,
    pub entry_events: Option<bool>,
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
        finished: given.finished.map(Vec::from),
        spill_directory: given.spill_directory.map(Vec::from),
        jobs: given.jobs.map_or(default.jobs, |n| n as usize),
        resources: resources(given.limits, given.nice, given.ionice.as_deref())?,
        entry_events: given.entry_events.unwrap_or(default.entry_events),
        ..default
    })
}
