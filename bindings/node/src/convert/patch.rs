//! Options of an application of a patch.

use bulkhaul_engine::patch::options::{self, Hash};
use bulkhaul_engine::report::Durability;
use napi::bindgen_prelude::Buffer;
use napi_derive::napi;

use super::{JsLimits, choice, hash_size, paths, resources};

/// An application of a patch, as asked for.
#[napi(object, object_to_js = false)]
pub struct PatchOptions {
    pub changes: Buffer,
    pub payloads: Vec<Buffer>,
    pub target: Buffer,
    pub hash: Option<String>,
    pub hash_size: Option<i64>,
    pub force: Option<bool>,
    pub dry_run: Option<bool>,
    pub undo: Option<Buffer>,
    pub confirm: Option<bool>,
    pub sync: Option<String>,
    pub spill_directory: Option<Buffer>,
    pub jobs: Option<u32>,
    pub limits: Option<JsLimits>,
    pub nice: Option<i32>,
    pub ionice: Option<String>,
    pub entry_events: Option<bool>,
}

/// Options into the engine's form. The error names the option.
pub fn patch_options(given: PatchOptions) -> Result<options::PatchOptions, String> {
    Ok(options::PatchOptions {
        changes: given.changes.into(),
        payloads: paths(given.payloads),
        target: given.target.into(),
        hash: choice(
            "hash",
            given.hash.as_deref(),
            Hash::Xxh64,
            &[("xxh64", Hash::Xxh64), ("blake2b", Hash::Blake2b)],
        )?,
        hash_size: hash_size(given.hash_size, u64::MAX)?,
        force: given.force.unwrap_or_default(),
        dry_run: given.dry_run.unwrap_or_default(),
        undo: given.undo.map(Vec::from),
        confirm: given.confirm.unwrap_or_default(),
        sync: choice(
            "sync",
            given.sync.as_deref(),
            Durability::Safe,
            &[Durability::None, Durability::Safe, Durability::All].map(|sync| (sync.text(), sync)),
        )?,
        spill_directory: given.spill_directory.map(Vec::from),
        jobs: given.jobs.map_or(0, |n| n as usize),
        resources: resources(given.limits, given.nice, given.ionice.as_deref())?,
        entry_events: given.entry_events.unwrap_or_default(),
    })
}
