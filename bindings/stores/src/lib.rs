//! Object stores as a Node.js addon: conversion, no logic.

mod convert;

use bulkhaul_engine::error::Refusal;
use bulkhaul_job::{Job, begin};
use bulkhaul_stores::{list, sync};
use napi::Env;
use napi::bindgen_prelude::Result;
use napi_derive::napi;

use convert::{StoreListOptions, SyncOptions};

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
