//! Options of a copy.

use bulkhaul_engine::bytes::transfer::Sparse;
use bulkhaul_engine::copy::options::{
    self, Collision, DestinationArgument, Directories, Gathered, ManifestTo, Packing, Placement, SourceArgument,
};
use bulkhaul_engine::records::sort::SORT_BYTES;
use bulkhaul_engine::report::Durability;
use bulkhaul_job::manifests::{format, shared};
use bulkhaul_job::options::algorithm;
use napi::bindgen_prelude::Buffer;
use napi_derive::napi;

use super::compress::{archive_format, bytes};
use super::{Filter, JsLimits, NamesFrom, choice, files_from, filter, hash_size, max_delete, paths, resources};

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

/// Where a file goes.
#[napi(object, object_to_js = false)]
pub struct CopyPlacement {
    pub inode: i64,
    pub size: i64,
    pub room: i64,
    pub destination: u32,
}

fn placement(given: &CopyPlacement) -> Result<Placement, String> {
    let number = |name, value: i64| u64::try_from(value).map_err(|_| format!("placement.{name} is below 0"));
    Ok(Placement {
        inode: number("inode", given.inode)?,
        size: number("size", given.size)?,
        room: number("room", given.room)?,
        destination: given.destination as usize,
    })
}

/// A manifest that is made in the copying pass.
#[napi(object, object_to_js = false)]
pub struct CopyManifest {
    pub path: Buffer,
    pub algorithms: Option<Vec<String>>,
    pub format: Option<String>,
    pub nul: Option<bool>,
}

fn manifest_to(given: CopyManifest) -> Result<ManifestTo, String> {
    let names = given.algorithms.unwrap_or_default();
    let algorithms = names.iter().map(|name| algorithm("algorithms", name));
    Ok(ManifestTo {
        path: given.path.into(),
        format: format(given.format.as_deref(), given.nul.unwrap_or(false))?,
        algorithms: algorithms.collect::<Result<_, _>>()?,
        sort_memory: SORT_BYTES,
    })
}

/// Files that become archives on their way.
#[napi(object, object_to_js = false)]
pub struct CopyPacking {
    pub format: Option<String>,
    pub level: Option<u32>,
    pub extensions: Option<Vec<Buffer>>,
    pub min_size: Option<i64>,
    pub index: Option<bool>,
    pub memory: Option<i64>,
    pub replace: Option<bool>,
    pub verify_source: Option<bool>,
}

fn packing(given: CopyPacking) -> Result<Packing, String> {
    Ok(Packing {
        format: archive_format(given.format.as_deref())?,
        level: given.level,
        extensions: given.extensions.map(paths).unwrap_or_default(),
        min_size: bytes("minSize", given.min_size)?.unwrap_or_default(),
        index: given.index.unwrap_or_default(),
        memory: bytes("memory", given.memory)?,
        replace: given.replace.unwrap_or(true),
        verify_source: given.verify_source.unwrap_or_default(),
    })
}

/// A file that has all content of a source.
#[napi(object, object_to_js = false)]
pub struct CopyGathered {
    pub name: Buffer,
    pub version: String,
}

fn gathered(given: CopyGathered) -> Gathered {
    Gathered {
        name: given.name.into(),
        version: given.version,
    }
}

/// A group of options, where it is given. The error names the option.
fn within<Given, Made>(
    name: &str,
    given: Option<Given>,
    make: impl FnOnce(Given) -> Result<Made, String>,
) -> Result<Option<Made>, String> {
    given.map(make).transpose().map_err(|why| format!("{name}.{why}"))
}

/// A copy, as asked for.
#[napi(object, object_to_js = false)]
pub struct CopyOptions {
    pub sources: Vec<Source>,
    pub destinations: Vec<Destination>,
    pub create_destination: Option<bool>,
    pub allow_nested: Option<bool>,
    pub on_collision: Option<String>,
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
    pub rename: Option<bool>,
    pub replace: Option<bool>,
    pub accept_time_loss: Option<bool>,
    pub max_delete: Option<i64>,
    pub max_delete_percent: Option<u32>,
    pub confirm: Option<bool>,
    pub random_destination: Option<bool>,
    pub placement: Option<Vec<CopyPlacement>>,
    pub manifest: Option<CopyManifest>,
    pub stored_manifest: Option<CopyManifest>,
    pub packing: Option<CopyPacking>,
    pub gathered: Option<CopyGathered>,
    pub in_use: Option<Vec<Buffer>>,
    pub finished: Option<Buffer>,
    pub finished_elsewhere: Option<Vec<Buffer>>,
    pub keep_finished: Option<bool>,
    pub entry_events: Option<bool>,
}

fn source(given: Source) -> SourceArgument {
    SourceArgument {
        path: given.path.into(),
        contents: given.contents,
        name: given.name.map(Vec::from),
        follow: given.follow,
    }
}

/// Options into the engine's form. The error names the option.
pub fn copy_options(given: CopyOptions) -> Result<options::CopyOptions, String> {
    let default = options::CopyOptions::default();
    Ok(options::CopyOptions {
        sources: given.sources.into_iter().map(source).collect(),
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
        on_collision: choice(
            "onCollision",
            given.on_collision.as_deref(),
            default.on_collision,
            &[
                ("fail", Collision::Fail),
                ("last", Collision::Last),
                ("first", Collision::First),
            ],
        )?,
        filter: given.filter.map(filter).transpose()?,
        files_from: given.files_from.map(|list| files_from(list, false)),
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
            &[
                ("none", Durability::None),
                ("safe", Durability::Safe),
                ("all", Durability::All),
            ],
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
        rename: given.rename.unwrap_or(default.rename),
        replace: given.replace.unwrap_or(default.replace),
        accept_time_loss: given.accept_time_loss.unwrap_or(default.accept_time_loss),
        max_delete: max_delete(given.max_delete, given.max_delete_percent)?,
        confirm: given.confirm.unwrap_or(default.confirm),
        scatter: given.random_destination.unwrap_or(default.scatter),
        placement: given
            .placement
            .iter()
            .flatten()
            .map(placement)
            .collect::<Result<_, _>>()?,
        manifest: within("manifest", given.manifest, manifest_to)?,
        stored_manifest: within("storedManifest", given.stored_manifest, manifest_to)?,
        packing: within("packing", given.packing, packing)?,
        gathered: given.gathered.map(gathered),
        in_use: paths(given.in_use.unwrap_or_default()),
        finished: given.finished.map(Vec::from),
        shared: shared(given.finished_elsewhere, given.keep_finished),
        entry_events: given.entry_events.unwrap_or(default.entry_events),
    })
}
