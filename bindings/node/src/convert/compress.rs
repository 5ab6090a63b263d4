//! Options of a compression and of a decompression.

use bulkhaul_engine::ArchiveFormat;
use bulkhaul_engine::compress::options;
use napi::bindgen_prelude::Buffer;
use napi_derive::napi;

use super::{Filter, JsLimits, NamesFrom, Tree, choice, files_from, filter, paths, resources, roots};

/// Which files are meant, and what holds whatever is done with them.
#[napi(object, object_to_js = false)]
pub struct ConvertedFiles {
    pub sources: Vec<Tree>,
    pub files_from: Option<NamesFrom>,
    pub filter: Option<Filter>,
    pub one_file_system: Option<bool>,
    pub extensions: Option<Vec<Buffer>>,
    pub min_size: Option<i64>,
    pub keep: Option<bool>,
    pub owner: Option<bool>,
    pub in_use: Option<Vec<Buffer>>,
    pub memory: Option<i64>,
    pub jobs: Option<u32>,
    pub limits: Option<JsLimits>,
    pub nice: Option<i32>,
    pub ionice: Option<String>,
    pub dry_run: Option<bool>,
    pub spill_directory: Option<Buffer>,
    pub entry_events: Option<bool>,
}

/// A compression, as asked for.
#[napi(object, object_to_js = false)]
pub struct CompressOptions {
    pub files: ConvertedFiles,
    pub format: Option<String>,
    pub level: Option<u32>,
    pub index: Option<bool>,
    pub force: Option<bool>,
    pub verify_source: Option<bool>,
}

/// A decompression, as asked for.
#[napi(object, object_to_js = false)]
pub struct DecompressOptions {
    pub files: ConvertedFiles,
    pub test: Option<bool>,
    pub output: Option<Buffer>,
    pub sparse: Option<bool>,
}

fn files(given: ConvertedFiles) -> Result<options::Files, String> {
    Ok(options::Files {
        sources: roots(given.sources),
        files_from: given.files_from.map(|list| files_from(list, false)),
        filter: given.filter.map(filter).transpose()?,
        one_file_system: given.one_file_system.unwrap_or_default(),
        extensions: given.extensions.map(paths).unwrap_or_default(),
        min_size: bytes("minSize", given.min_size)?.unwrap_or_default(),
        keep: given.keep.unwrap_or_default(),
        no_owner: !given.owner.unwrap_or(true),
        in_use: given.in_use.map(paths).unwrap_or_default(),
        memory: bytes("memory", given.memory)?,
        jobs: given.jobs.unwrap_or_default() as usize,
        resources: resources(given.limits, given.nice, given.ionice.as_deref())?,
        dry_run: given.dry_run.unwrap_or_default(),
        spill_directory: given.spill_directory.map(Vec::from),
        entry_events: given.entry_events.unwrap_or_default(),
    })
}

/// A number of bytes. The error names the option.
pub fn bytes(name: &str, given: Option<i64>) -> Result<Option<u64>, String> {
    let checked = |bytes| u64::try_from(bytes).map_err(|_| format!("{name}: {bytes} is not a number of bytes"));
    given.map(checked).transpose()
}

/// The form of an archive. The error names the option.
pub fn archive_format(given: Option<&str>) -> Result<ArchiveFormat, String> {
    let known = ArchiveFormat::ALL.map(|format| (format.name(), format));
    choice("format", given, options::CompressOptions::default().format, &known)
}

/// Options into the engine's form. The error names the option.
pub fn compress_options(given: CompressOptions) -> Result<options::CompressOptions, String> {
    let default = options::CompressOptions::default();
    Ok(options::CompressOptions {
        format: archive_format(given.format.as_deref())?,
        level: given.level,
        index: given.index.unwrap_or(default.index),
        force: given.force.unwrap_or(default.force),
        verify_source: given.verify_source.unwrap_or(default.verify_source),
        files: files(given.files)?,
    })
}

/// Options into the engine's form. The error names the option.
pub fn decompress_options(given: DecompressOptions) -> Result<options::DecompressOptions, String> {
    Ok(options::DecompressOptions {
        test: given.test.unwrap_or_default(),
        output: given.output.map(Vec::from),
        sparse: given.sparse.unwrap_or_default(),
        files: files(given.files)?,
    })
}
