//! Object stores as a Node.js addon: conversion, no logic.

mod convert;
mod files;

use bulkhaul_engine::error::Refusal;
use bulkhaul_job::manifests::{ManifestOptions, VerifyOptions, manifest_options, verify_options};
use bulkhaul_job::shards::{PackOptions, UnpackOptions, pack_options, unpack_options};
use bulkhaul_job::{Job, begin, refused};
use bulkhaul_stores::{compare, digests, files as stores, list, prune, shards, sync};
use napi::Env;
use napi::bindgen_prelude::Result;
use napi_derive::napi;

use convert::{PruneOptions, StoreAccess, StoreCompareOptions, StoreListOptions, StoreRequests, SyncOptions};
use files::{Files, FilesOptions};

/// Checks the options and makes a job that syncs.
#[napi]
pub fn sync(env: Env, options: SyncOptions) -> Result<Job> {
    let options = convert::sync_options(options).map_err(Refusal::Usage);
    begin(env, options.and_then(sync::job))
}

/// Checks the options and makes a job that lists what a URL names.
#[napi]
pub fn list_store(env: Env, options: StoreListOptions) -> Result<Job> {
    let options = convert::list_options(options).map_err(Refusal::Usage);
    begin(env, options.and_then(list::job))
}

/// Checks the options and makes a job that compares two places.
#[napi]
pub fn compare_stores(env: Env, options: StoreCompareOptions) -> Result<Job> {
    let options = convert::compare_options(options).map_err(Refusal::Usage);
    begin(env, options.and_then(compare::job))
}

/// Checks the options and makes a job that packs trees into shards below a URL.
#[napi]
pub fn pack(
    env: Env,
    options: PackOptions,
    access: Option<StoreAccess>,
    requests: Option<StoreRequests>,
) -> Result<Job> {
    let options = pack_options(options).and_then(|options| Ok((options, convert::reach(access, requests)?)));
    let options = options.map_err(Refusal::Usage);
    begin(env, options.and_then(|(options, reach)| shards::pack(options, reach)))
}

/// Checks the options and makes a job that unpacks shards below a URL, or a tar there, lists or verifies them.
#[napi]
pub fn unpack(
    env: Env,
    options: UnpackOptions,
    access: Option<StoreAccess>,
    requests: Option<StoreRequests>,
) -> Result<Job> {
    let options = unpack_options(options).and_then(|options| Ok((options, convert::reach(access, requests)?)));
    let options = options.map_err(Refusal::Usage);
    begin(env, options.and_then(|(options, reach)| shards::unpack(options, reach)))
}

/// Checks the options and makes a job that makes a manifest of what is below a URL.
#[napi]
pub fn manifest(
    env: Env,
    options: ManifestOptions,
    access: Option<StoreAccess>,
    requests: Option<StoreRequests>,
) -> Result<Job> {
    let options = manifest_options(options).and_then(|options| Ok((options, convert::reach(access, requests)?)));
    let options = options.map_err(Refusal::Usage);
    begin(
        env,
        options.and_then(|(options, reach)| digests::manifest(options, reach)),
    )
}

/// Checks the options and makes a job that verifies what is below a URL.
#[napi]
pub fn verify(
    env: Env,
    options: VerifyOptions,
    access: Option<StoreAccess>,
    requests: Option<StoreRequests>,
) -> Result<Job> {
    let options = verify_options(options).and_then(|options| Ok((options, convert::reach(access, requests)?)));
    let options = options.map_err(Refusal::Usage);
    begin(
        env,
        options.and_then(|(options, reach)| digests::verify(options, reach)),
    )
}

/// Checks the options and makes a job that removes what is old enough, or all that is there.
#[napi]
pub fn prune(env: Env, options: PruneOptions) -> Result<Job> {
    let options = convert::prune_options(options).map_err(Refusal::Usage);
    begin(env, options.and_then(prune::job))
}

/// Checks the options and opens a store. Asks nothing yet.
#[napi]
pub fn open_files(env: Env, options: FilesOptions) -> Result<Files> {
    let options = convert::files_options(options).map_err(Refusal::Usage);
    let opened = options.and_then(|options| stores::Files::open(&options));
    opened.map(Files::from).map_err(|refusal| refused(env, &refusal))
}
