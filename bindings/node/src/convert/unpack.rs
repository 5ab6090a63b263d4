//! Options of an unpacking.

use bulkhaul_engine::unpack::{self, Task};
use napi::bindgen_prelude::Buffer;
use napi_derive::napi;

use super::{JsLimits, choice, paths, resources};

/// What is unpacked, as asked for.
#[napi(object, object_to_js = false)]
pub struct UnpackOptions {
    pub source: Buffer,
    pub destination: Option<Buffer>,
    pub task: Option<String>,
    pub only: Option<Vec<Buffer>>,
    pub owner: Option<bool>,
    pub dry_run: Option<bool>,
    pub spill_directory: Option<Buffer>,
    pub jobs: Option<u32>,
    pub limits: Option<JsLimits>,
    pub nice: Option<i32>,
    pub ionice: Option<String>,
    pub entry_events: Option<bool>,
}

/// Options into the engine's form. The error names the option.
pub fn unpack_options(given: UnpackOptions) -> Result<unpack::UnpackOptions, String> {
    let default = unpack::UnpackOptions::default();
    let into = given.destination.map(Vec::from);
    let known = [("unpack", 0), ("list", 1), ("verify", 2)];
    let task = match (choice("task", given.task.as_deref(), 0, &known)?, into) {
        (0, Some(target)) => Task::Into(target),
        (0, None) => return Err("destination: a destination is needed".into()),
        (_, Some(_)) => return Err("destination: nothing goes there with this task".into()),
        (1, None) => Task::List,
        (_, None) => Task::Verify,
    };
    Ok(unpack::UnpackOptions {
        archive: given.source.into(),
        task,
        only: given.only.map(paths).unwrap_or_default(),
        owner: given.owner.unwrap_or(default.owner),
        dry_run: given.dry_run.unwrap_or(default.dry_run),
        spill_directory: given.spill_directory.map(Vec::from),
        jobs: given.jobs.map_or(default.jobs, |n| n as usize),
        resources: resources(given.limits, given.nice, given.ionice.as_deref())?,
        entry_events: given.entry_events.unwrap_or(default.entry_events),
        ..default
    })
}
