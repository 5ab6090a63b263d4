//! Options of a removal.

use bulkhaul_engine::remove;
use napi::bindgen_prelude::Buffer;
use napi_derive::napi;

use super::{Filter, JsLimits, NamesFrom, files_from, filter, max_delete, paths, resources};

/// A removal, as asked for.
#[napi(object, object_to_js = false)]
pub struct RemoveOptions {
    pub paths: Vec<Buffer>,
    pub files_from: Option<NamesFrom>,
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
    pub in_use: Option<Vec<Buffer>>,
    pub ignore_missing: Option<bool>,
    pub spill_directory: Option<Buffer>,
    pub entry_events: Option<bool>,
}

/// Options into the engine's form. The error names the option.
pub fn remove_options(given: RemoveOptions) -> Result<remove::RemoveOptions, String> {
    Ok(remove::RemoveOptions {
        paths: paths(given.paths),
        files_from: given.files_from.map(|list| files_from(list, false)),
        filter: given.filter.map(filter).transpose()?,
        jobs: given.jobs.unwrap_or_default() as usize,
        resources: resources(given.limits, given.nice, given.ionice.as_deref())?,
        dry_run: given.dry_run.unwrap_or_default(),
        list_first: given.list_first.unwrap_or_default(),
        max_delete: max_delete(given.max_delete, given.max_delete_percent)?,
        protected: paths(given.protected.unwrap_or_default()),
        no_preserve_root: paths(given.no_preserve_root.unwrap_or_default()),
        in_use: paths(given.in_use.unwrap_or_default()),
        ignore_missing: given.ignore_missing.unwrap_or_default(),
        spill_directory: given.spill_directory.map(Vec::from),
        entry_events: given.entry_events.unwrap_or_default(),
    })
}
