//! Options of a partition.

use bulkhaul_engine::PartFormat as Format;
use bulkhaul_engine::partition::pack::{Division, Limits};
use bulkhaul_engine::partition::{self, Target};
use napi::bindgen_prelude::Buffer;
use napi_derive::napi;

use super::{Filter, JsLimits, NamesFrom, Tree, choice, files_from, filter, resources, roots};

/// A partition, as asked for.
#[napi(object, object_to_js = false)]
pub struct PartitionOptions {
    pub sources: Vec<Tree>,
    pub filter: Option<Filter>,
    pub files_from: Option<NamesFrom>,
    pub one_file_system: Option<bool>,
    pub parts: Option<i64>,
    pub max_entries: Option<i64>,
    pub max_bytes: Option<i64>,
    pub live: Option<bool>,
    pub entry_cost: Option<i64>,
    pub format: Option<String>,
    pub nul: Option<bool>,
    pub template: Option<Buffer>,
    pub output: Option<Buffer>,
    pub replace: Option<bool>,
    pub dry_run: Option<bool>,
    pub spill_directory: Option<Buffer>,
    pub jobs: Option<u32>,
    pub limits: Option<JsLimits>,
    pub nice: Option<i32>,
    pub ionice: Option<String>,
}

fn format(name: Option<&str>) -> Result<Format, String> {
    let known = [
        ("names", Format::Names),
        ("rsync", Format::Rsync),
        ("rclone", Format::Rclone),
        ("tar", Format::Tar),
        ("jsonl", Format::Json),
    ];
    choice("format", name, Format::Names, &known)
}

fn number(name: &str, given: i64) -> Result<u64, String> {
    u64::try_from(given).map_err(|_| format!("{name}: {given} is negative"))
}

fn division(parts: Option<i64>, entries: Option<i64>, bytes: Option<i64>) -> Result<Division, String> {
    match (parts, entries, bytes) {
        (Some(parts), None, None) => Ok(Division::Parts(number("parts", parts)?)),
        (Some(_), ..) => Err("parts: the number of parts, and what one may hold, exclude each other".into()),
        (None, None, None) => Err("parts: neither how many parts, nor what one may hold (maxEntries, maxBytes)".into()),
        (None, entries, bytes) => {
            let or_any = |name, given: Option<i64>| given.map_or(Ok(u64::MAX), |given| number(name, given));
            Ok(Division::Limits(Limits {
                entries: or_any("maxEntries", entries)?,
                bytes: or_any("maxBytes", bytes)?,
            }))
        }
    }
}

fn target(template: Option<Buffer>, output: Option<Buffer>) -> Result<Target, String> {
    match (template, output) {
        (None, None) => Ok(Target::Nowhere),
        (Some(template), None) => Ok(Target::Template(template.into())),
        (None, Some(output)) => Ok(Target::One(output.into())),
        (Some(_), Some(_)) => Err("template: the lists go into files of their own, or all into one".into()),
    }
}

/// Options into the engine's form. The error names the option.
pub fn partition_options(given: PartitionOptions) -> Result<partition::PartitionOptions, String> {
    let default = partition::PartitionOptions::default();
    let cost = given.entry_cost.map(|cost| number("entryCost", cost)).transpose()?;
    Ok(partition::PartitionOptions {
        sources: roots(given.sources),
        filter: given.filter.map(filter).transpose()?,
        files_from: given.files_from.map(|list| files_from(list, true)),
        one_file_system: given.one_file_system.unwrap_or(default.one_file_system),
        division: division(given.parts, given.max_entries, given.max_bytes)?,
        live: given.live.unwrap_or(default.live),
        cost: cost.unwrap_or(default.cost),
        format: format(given.format.as_deref())?,
        nul: given.nul.unwrap_or(default.nul),
        target: target(given.template, given.output)?,
        replace: given.replace.unwrap_or(default.replace),
        dry_run: given.dry_run.unwrap_or(default.dry_run),
        spill_directory: given.spill_directory.map(Vec::from),
        jobs: given.jobs.map_or(default.jobs, |n| n as usize),
        resources: resources(given.limits, given.nice, given.ionice.as_deref())?,
        ..default
    })
}
