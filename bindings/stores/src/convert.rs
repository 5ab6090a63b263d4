//! Options into the form of the stores: one function each.
//!
//! Paths and URLs are buffers. Sizes are numbers, exact to 2^53 bytes. Times are seconds.

use std::collections::HashMap;

use crate::files::FilesOptions;
use bulkhaul_engine::compare::options::{Content, DiffForm};
use bulkhaul_job::options::{Filter, JsLimits, choice, filter, max_delete, paths, resources, seconds};
use bulkhaul_stores::objects::client::{Headers, Way};
use bulkhaul_stores::prune::{self, Rule, Stays};
use bulkhaul_stores::s3::Config;
use bulkhaul_stores::session::{Retry, SessionOptions};
use bulkhaul_stores::shards::Reach;
use bulkhaul_stores::sync::options::{self as sync, Batch, Chosen, Compare, Conflict, Proof};
use bulkhaul_stores::{compare, files, list};
use bulkhaul_sys::Time;
use napi::bindgen_prelude::Buffer;
use napi_derive::napi;

/// How a store is reached.
#[napi(object, object_to_js = false, js_name = "StoreAccess")]
pub struct StoreAccess {
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub key: Option<String>,
    pub secret: Option<String>,
    pub token: Option<String>,
    pub path_style: Option<bool>,
    pub authorities: Option<Buffer>,
    pub proxy: Option<String>,
    pub direct: Option<String>,
}

/// How requests go.
#[napi(object, object_to_js = false, js_name = "StoreRequests")]
pub struct StoreRequests {
    pub memory: Option<f64>,
    pub chunk_size: Option<f64>,
    pub retries: Option<u32>,
    pub backoff: Option<f64>,
    pub jitter: Option<f64>,
}

/// A key, and the one that it has in the destination.
#[napi(object, object_to_js = false, js_name = "SyncName")]
pub struct SyncName {
    pub key: Buffer,
    pub to: Option<Buffer>,
}

/// Keys that were named.
#[napi(object, object_to_js = false, js_name = "SyncNames")]
pub struct SyncNames {
    pub taken: Vec<SyncName>,
    pub removed: Vec<Buffer>,
}

/// A removal, as asked for.
#[napi(object, object_to_js = false)]
pub struct PruneOptions {
    pub place: Buffer,
    pub access: Option<StoreAccess>,
    pub requests: Option<StoreRequests>,
    pub keys: Option<Vec<String>>,
    pub keep: Option<u32>,
    pub within: Option<String>,
    pub max_delete: Option<i64>,
    pub max_delete_percent: Option<u32>,
    pub dry_run: Option<bool>,
    pub spill_directory: Option<Buffer>,
    pub jobs: Option<u32>,
    pub limits: Option<JsLimits>,
    pub nice: Option<i32>,
    pub ionice: Option<String>,
    pub entry_events: Option<bool>,
}

/// A sync, as asked for.
#[napi(object, object_to_js = false)]
pub struct SyncOptions {
    pub source: Buffer,
    pub destination: Buffer,
    pub source_access: Option<StoreAccess>,
    pub destination_access: Option<StoreAccess>,
    pub backup_access: Option<StoreAccess>,
    pub headers: Option<HashMap<String, String>>,
    pub requests: Option<StoreRequests>,
    pub compare: Option<String>,
    pub conflict: Option<String>,
    pub verify: Option<String>,
    pub filter: Option<Filter>,
    pub newer_than: Option<f64>,
    pub older_than: Option<f64>,
    pub min_size: Option<f64>,
    pub max_size: Option<f64>,
    pub partition: Option<String>,
    pub names: Option<SyncNames>,
    pub remove_extra: Option<bool>,
    pub max_delete: Option<i64>,
    pub max_delete_percent: Option<u32>,
    pub backup: Option<Buffer>,
    pub batch_size: Option<u32>,
    pub batch_pause: Option<f64>,
    pub links: Option<bool>,
    pub markers: Option<bool>,
    pub state: Option<Buffer>,
    pub uploads: Option<Buffer>,
    pub abort_stale: Option<f64>,
    pub dry_run: Option<bool>,
    pub modes: Option<bool>,
    pub sync: Option<bool>,
    pub spill_directory: Option<Buffer>,
    pub jobs: Option<u32>,
    pub limits: Option<JsLimits>,
    pub nice: Option<i32>,
    pub ionice: Option<String>,
    pub entry_events: Option<bool>,
}

/// A comparison, as asked for.
#[napi(object, object_to_js = false)]
pub struct StoreCompareOptions {
    pub left: Buffer,
    pub right: Buffer,
    pub left_access: Option<StoreAccess>,
    pub right_access: Option<StoreAccess>,
    pub requests: Option<StoreRequests>,
    pub content: Option<String>,
    pub hash_size: Option<f64>,
    pub metadata: Option<bool>,
    pub links: Option<bool>,
    pub one_file_system: Option<bool>,
    pub output: Option<Buffer>,
    pub form: Option<String>,
    pub filter: Option<Filter>,
    pub spill_directory: Option<Buffer>,
    pub jobs: Option<u32>,
    pub limits: Option<JsLimits>,
    pub nice: Option<i32>,
    pub ionice: Option<String>,
    pub entry_events: Option<bool>,
}

/// A list of a store, as asked for.
#[napi(object, object_to_js = false)]
pub struct StoreListOptions {
    pub place: Buffer,
    pub access: Option<StoreAccess>,
    pub requests: Option<StoreRequests>,
    pub filter: Option<Filter>,
    pub nul: Option<bool>,
    pub output: Option<Buffer>,
    pub limits: Option<JsLimits>,
    pub nice: Option<i32>,
    pub ionice: Option<String>,
    pub entry_events: Option<bool>,
}

pub fn bytes(name: &str, given: f64) -> Result<u64, String> {
    // Whole numbers of a double are exact up to there.
    if given.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&given) {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is whole, and in the range"
        )]
        return Ok(given as u64);
    }
    Err(format!("{name}: {given} is not a number of bytes"))
}

pub fn moment(name: &str, given: f64) -> Result<Time, String> {
    if !(-1e11..=1e11).contains(&given) {
        return Err(format!("{name}: {given} is not a number of seconds"));
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "both are in the range"
    )]
    let (sec, nsec) = (given.floor() as i64, ((given - given.floor()) * 1e9) as u32);
    Ok(Time { sec, nsec })
}

fn access(given: Option<StoreAccess>) -> Result<Config, String> {
    let Some(given) = given else {
        return Ok(Config::default());
    };
    let credential = match (given.key, given.secret, given.token) {
        (Some(key), Some(secret), token) => Some((key, secret, token)),
        // Azure: an account with a signature, or with nothing.
        (Some(key), None, token) => Some((key, String::new(), token)),
        (None, None, None) => None,
        _ => return Err("access: key and secret go together".into()),
    };
    Ok(Config {
        endpoint: given.endpoint,
        region: given.region.unwrap_or_default(),
        credential,
        path_style: given.path_style,
        way: Way {
            authorities: given.authorities.map(Vec::from),
            proxy: given.proxy,
            direct: given.direct,
        },
        headers: Headers::new(),
    })
}

/// The same of a place where something is written. The names of headers have no case.
fn written(given: Option<StoreAccess>, headers: Option<HashMap<String, String>>) -> Result<Config, String> {
    let named = headers.unwrap_or_default().into_iter();
    let mut headers: Headers = named.map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    // A map has no order, and the same is to be the same.
    headers.sort();
    Ok(Config {
        headers,
        ..access(given)?
    })
}

fn requests(given: Option<StoreRequests>) -> Result<SessionOptions, String> {
    let default = SessionOptions::default();
    let Some(given) = given else { return Ok(default) };
    let part = given.chunk_size.map(|chunk| bytes("chunkSize", chunk)).transpose()?;
    let memory = given.memory.map(|memory| bytes("memory", memory)).transpose()?;
    let part = part.unwrap_or(default.part);
    Ok(SessionOptions {
        part,
        // A part has to fit.
        memory: memory.unwrap_or(default.memory.max(part)),
        retry: Retry {
            retries: given.retries.unwrap_or(default.retry.retries),
            backoff: given.backoff.unwrap_or(default.retry.backoff),
            jitter: given.jitter.unwrap_or(default.retry.jitter),
        },
    })
}

/// How the store of a job is reached. The error names the option.
pub fn reach(given: Option<StoreAccess>, asked: Option<StoreRequests>) -> Result<Reach, String> {
    Ok(Reach {
        config: access(given)?,
        session: requests(asked)?,
    })
}

fn batch(size: Option<u32>, pause: Option<f64>) -> Result<Option<Batch>, String> {
    match (size, pause) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err("batchPause goes with batchSize".into()),
        (Some(size), pause) => Ok(Some(Batch {
            size: u64::from(size),
            pause: seconds("batchPause", pause.unwrap_or(0.0))?,
        })),
    }
}

/// Options of a sync. The error names the option.
pub fn sync_options(given: SyncOptions) -> Result<sync::SyncOptions, String> {
    let compare = [
        ("size", Compare::Size),
        ("mtime", Compare::Mtime),
        ("checksum", Compare::Checksum),
        ("state", Compare::State),
        ("always", Compare::Always),
    ];
    let conflict = [
        ("source", Conflict::Source),
        ("newer", Conflict::Newer),
        ("larger", Conflict::Larger),
        ("destination", Conflict::Destination),
        ("skip", Conflict::Destination),
        ("keep-both", Conflict::KeepBoth),
        ("fail", Conflict::Fail),
    ];
    let proof = [("size", Proof::Size), ("hash", Proof::Hash), ("full", Proof::Full)];
    let customary = if given.state.is_some() {
        Compare::State
    } else {
        Compare::Mtime
    };
    Ok(sync::SyncOptions {
        source: given.source.into(),
        destination: given.destination.into(),
        source_config: access(given.source_access)?,
        destination_config: written(given.destination_access, given.headers.clone())?,
        backup_config: written(given.backup_access, given.headers)?,
        compare: choice("compare", given.compare.as_deref(), customary, &compare)?,
        conflict: choice("conflict", given.conflict.as_deref(), Conflict::Source, &conflict)?,
        proof: choice("verify", given.verify.as_deref(), Proof::Size, &proof)?,
        filter: given.filter.map(filter).transpose()?,
        chosen: Chosen {
            since: given.newer_than.map(|time| moment("newerThan", time)).transpose()?,
            until: given.older_than.map(|time| moment("olderThan", time)).transpose()?,
            least: given.min_size.map(|size| bytes("minSize", size)).transpose()?,
            most: given.max_size.map(|size| bytes("maxSize", size)).transpose()?,
        },
        partition: given.partition.map(String::into_bytes),
        names: given.names.map(|names| sync::Names {
            taken: names
                .taken
                .into_iter()
                .map(|name| (name.key.into(), name.to.map(Vec::from)))
                .collect(),
            removed: paths(names.removed),
        }),
        delete: given.remove_extra.unwrap_or(false),
        max_delete: max_delete(given.max_delete, given.max_delete_percent)?,
        backup: given.backup.map(Vec::from),
        batch: batch(given.batch_size, given.batch_pause)?,
        links: given.links.unwrap_or(false),
        markers: given.markers.unwrap_or(false),
        state: given.state.map(Vec::from),
        uploads: given.uploads.map(Vec::from),
        abort_stale: given.abort_stale.map(|time| moment("abortStale", time)).transpose()?,
        dry_run: given.dry_run.unwrap_or(false),
        modes: given.modes.unwrap_or(false),
        sync: given.sync.unwrap_or(true),
        session: requests(given.requests)?,
        jobs: given.jobs.map_or(0, |jobs| jobs as usize),
        resources: resources(given.limits, given.nice, given.ionice.as_deref())?,
        spill_directory: given.spill_directory.map(Vec::from),
        entry_events: given.entry_events.unwrap_or(false),
    })
}

/// Options of a list. The error names the option.
pub fn list_options(given: StoreListOptions) -> Result<list::ListOptions, String> {
    Ok(list::ListOptions {
        place: given.place.into(),
        config: access(given.access)?,
        filter: given.filter.map(filter).transpose()?,
        nul: given.nul.unwrap_or(false),
        output: given.output.map(Vec::from),
        session: requests(given.requests)?,
        resources: resources(given.limits, given.nice, given.ionice.as_deref())?,
        entry_events: given.entry_events.unwrap_or(false),
    })
}

/// Options of a comparison. The error names the option.
pub fn compare_options(given: StoreCompareOptions) -> Result<compare::CompareOptions, String> {
    let content = [
        ("nothing", Content::Nothing),
        ("tail", Content::Tail),
        ("whole", Content::Whole),
    ];
    let form = [
        ("both", DiffForm::Both),
        ("tar", DiffForm::Tar),
        ("changes", DiffForm::Changes),
    ];
    Ok(compare::CompareOptions {
        left: given.left.into(),
        right: given.right.into(),
        left_config: access(given.left_access)?,
        right_config: access(given.right_access)?,
        content: choice("content", given.content.as_deref(), Content::Nothing, &content)?,
        hash_size: given.hash_size.map(|size| bytes("hashSize", size)).transpose()?,
        metadata: given.metadata.unwrap_or(false),
        links: given.links.unwrap_or(false),
        one_file_system: given.one_file_system.unwrap_or(false),
        output: given.output.map(Vec::from),
        form: choice("form", given.form.as_deref(), DiffForm::Both, &form)?,
        filter: given.filter.map(filter).transpose()?,
        session: requests(given.requests)?,
        jobs: given.jobs.map_or(0, |jobs| jobs as usize),
        resources: resources(given.limits, given.nice, given.ionice.as_deref())?,
        spill_directory: given.spill_directory.map(Vec::from),
        entry_events: given.entry_events.unwrap_or(false),
    })
}

/// Options of a removal. The error names the option.
pub fn prune_options(given: PruneOptions) -> Result<prune::PruneOptions, String> {
    let stays = match (given.keys, given.keep) {
        (Some(keys), Some(keep)) => Stays::Last(Rule {
            keys: keys.into_iter().map(String::into_bytes).collect(),
            keep: u64::from(keep),
            within: given.within.map(String::into_bytes),
        }),
        (None, None) => Stays::Nothing,
        _ => return Err("keys and keep go together".into()),
    };
    Ok(prune::PruneOptions {
        place: given.place.into(),
        config: access(given.access)?,
        stays,
        max_delete: max_delete(given.max_delete, given.max_delete_percent)?,
        dry_run: given.dry_run.unwrap_or(false),
        session: requests(given.requests)?,
        jobs: given.jobs.map_or(0, |jobs| jobs as usize),
        resources: resources(given.limits, given.nice, given.ionice.as_deref())?,
        spill_directory: given.spill_directory.map(Vec::from),
        entry_events: given.entry_events.unwrap_or(false),
    })
}

/// Options of a store that is opened. The error names the option.
pub fn files_options(given: FilesOptions) -> Result<files::FilesOptions, String> {
    Ok(files::FilesOptions {
        place: given.place.into(),
        config: written(given.access, given.headers)?,
        session: requests(given.requests)?,
    })
}
