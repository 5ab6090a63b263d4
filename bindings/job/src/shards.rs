//! Options of packing and unpacking, which go to paths, or to stores: one function each into the engine's form.

use bulkhaul_engine::ArchiveFormat as Format;
use bulkhaul_engine::pack;
use bulkhaul_engine::unpack::{self, Task};
use napi::bindgen_prelude::Buffer;
use napi_derive::napi;

use crate::options::{Filter, JsLimits, Tree, choice, filter, paths, resources, roots};

/// A packed tree, as asked for.
#[napi(object, object_to_js = false)]
pub struct PackOptions {
    pub sources: Vec<Tree>,
    pub destination: Buffer,
    pub filter: Option<Filter>,
    pub one_file_system: Option<bool>,
    pub shard_size: Option<i64>,
    pub compression: Option<String>,
    pub level: Option<u32>,
    pub dry_run: Option<bool>,
    pub in_use: Option<Vec<Buffer>>,
    pub spill_directory: Option<Buffer>,
    pub jobs: Option<u32>,
    pub limits: Option<JsLimits>,
    pub nice: Option<i32>,
    pub ionice: Option<String>,
    pub entry_events: Option<bool>,
}

/// Options into the engine's form. The error names the option.
pub fn pack_options(given: PackOptions) -> Result<pack::PackOptions, String> {
    let default = pack::PackOptions::default();
    let size = given.shard_size.map(u64::try_from).transpose();
    let known = [
        ("none", None),
        ("zstd", Some(Format::Zstd)),
        ("bgzf", Some(Format::Bgzf)),
    ];
    Ok(pack::PackOptions {
        sources: roots(given.sources),
        destination: given.destination.into(),
        filter: given.filter.map(filter).transpose()?,
        one_file_system: given.one_file_system.unwrap_or(default.one_file_system),
        shard_bytes: size
            .map_err(|_| "shardSize: it is negative".to_owned())?
            .unwrap_or(default.shard_bytes),
        compression: choice("compression", given.compression.as_deref(), None, &known)?,
        level: given.level,
        dry_run: given.dry_run.unwrap_or(default.dry_run),
        in_use: given.in_use.map(paths).unwrap_or_default(),
        spill_directory: given.spill_directory.map(Vec::from),
        jobs: given.jobs.map_or(default.jobs, |n| n as usize),
        resources: resources(given.limits, given.nice, given.ionice.as_deref())?,
        entry_events: given.entry_events.unwrap_or(default.entry_events),
        ..default
    })
}

/// What is unpacked, as asked for.
#[napi(object, object_to_js = false)]
pub struct UnpackOptions {
    pub source: Buffer,
    pub destination: Option<Buffer>,
    pub task: Option<String>,
    pub only: Option<Vec<Buffer>>,
    pub ignore_zeros: Option<bool>,
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
        ignore_zeros: given.ignore_zeros.unwrap_or(default.ignore_zeros),
        owner: given.owner.unwrap_or(default.owner),
        dry_run: given.dry_run.unwrap_or(default.dry_run),
        spill_directory: given.spill_directory.map(Vec::from),
        jobs: given.jobs.map_or(default.jobs, |n| n as usize),
        resources: resources(given.limits, given.nice, given.ionice.as_deref())?,
        entry_events: given.entry_events.unwrap_or(default.entry_events),
        ..default
    })
}
