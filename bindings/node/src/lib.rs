//! The engine as a Node.js addon: conversion, no logic.

mod convert;

use bulkhaul_engine::error::Refusal;
use bulkhaul_engine::job::lease;
use bulkhaul_engine::list::{self, sources};
use bulkhaul_engine::{compare, compress, copy, doctor, manifest, pack, partition, patch, remove, unpack, verify};
use bulkhaul_job::{Job, begin, refused};
use napi::Env;
use napi::bindgen_prelude::{Buffer, Error, Result};
use napi_derive::napi;

use convert::{
    CompareOptions, CompressOptions, CopyOptions, DecompressOptions, JsAnswer, JsProbe, ListOptions, ManifestOptions,
    PackOptions, PartitionOptions, PatchOptions, RemoveOptions, UnpackOptions, VerifyOptions,
};

/// Checks the options and makes a job that copies.
#[napi]
pub fn copy(env: Env, options: CopyOptions) -> Result<Job> {
    let options = convert::copy_options(options).map_err(Refusal::Usage);
    begin(env, options.and_then(copy::job))
}

/// Checks the options and makes a job that lists.
#[napi]
pub fn list(env: Env, options: ListOptions) -> Result<Job> {
    let options = convert::list_options(options).map_err(Refusal::Usage);
    begin(env, options.and_then(list::job))
}

/// Checks the options and makes a job that makes a manifest.
#[napi]
pub fn manifest(env: Env, options: ManifestOptions) -> Result<Job> {
    let options = convert::manifest_options(options).map_err(Refusal::Usage);
    begin(env, options.and_then(manifest::job))
}

/// Checks the options and makes a job that packs trees into shards.
#[napi]
pub fn pack(env: Env, options: PackOptions) -> Result<Job> {
    let options = convert::pack_options(options).map_err(Refusal::Usage);
    begin(env, options.and_then(pack::job))
}

/// Checks the options and makes a job that unpacks shards or a tar, lists or verifies them.
#[napi]
pub fn unpack(env: Env, options: UnpackOptions) -> Result<Job> {
    let options = convert::unpack_options(options).map_err(Refusal::Usage);
    begin(env, options.and_then(unpack::job))
}

/// Checks the options and makes a job that divides trees into parts.
#[napi]
pub fn partition(env: Env, options: PartitionOptions) -> Result<Job> {
    let options = convert::partition_options(options).map_err(Refusal::Usage);
    begin(env, options.and_then(partition::job))
}

/// Checks the options and makes a job that verifies.
#[napi]
pub fn verify(env: Env, options: VerifyOptions) -> Result<Job> {
    let options = convert::verify_options(options).map_err(Refusal::Usage);
    begin(env, options.and_then(verify::job))
}

/// Checks the options and makes a job that compares.
#[napi]
pub fn compare(env: Env, options: CompareOptions) -> Result<Job> {
    let options = convert::compare_options(options).map_err(Refusal::Usage);
    begin(env, options.and_then(compare::job))
}

/// Checks the options and makes a job that applies a patch.
#[napi]
pub fn patch(env: Env, options: PatchOptions) -> Result<Job> {
    let options = convert::patch_options(options).map_err(Refusal::Usage);
    begin(env, options.and_then(patch::job))
}

/// Checks the options and makes a job that compresses.
#[napi]
pub fn compress(env: Env, options: CompressOptions) -> Result<Job> {
    let options = convert::compress_options(options).map_err(Refusal::Usage);
    begin(env, options.and_then(compress::compression))
}

/// Checks the options and makes a job that decompresses, or only reads.
#[napi]
pub fn decompress(env: Env, options: DecompressOptions) -> Result<Job> {
    let options = convert::decompress_options(options).map_err(Refusal::Usage);
    begin(env, options.and_then(compress::decompression))
}

/// The sources that a list names: their paths, in its order, without what is in a directory that it names too.
#[napi]
pub fn listed_sources(env: Env, list: Buffer, spill_directory: Option<Buffer>) -> Result<Vec<Buffer>> {
    let (list, spill_directory) = (Vec::from(list), spill_directory.map(Vec::from));
    let paths = sources::listed_sources(&list, spill_directory.as_deref());
    let paths = paths.map_err(|refusal| refused(env, &refusal))?;
    Ok(paths.into_iter().map(Buffer::from).collect())
}

/// Locks the file that a descriptor of this process has open, until that is closed. false: somebody else has the lock; none
/// where the file system has no locks.
#[napi]
pub fn lock_descriptor(number: i32) -> Option<bool> {
    lease::lock_descriptor(number).ok()
}

/// Whether a process of this number is there. One that has ended and was not waited for is not.
#[napi]
pub fn process_exists(number: u32) -> bool {
    lease::process_exists(number)
}

/// Ends this process at once: Node.js waits for its threads, and one that the kernel holds does not come.
#[napi]
pub fn end_process(code: i32) {
    lease::end_process(code)
}

/// Calls that not every kernel has, or that are forbidden here.
#[napi]
pub fn kernel_calls() -> Vec<JsAnswer> {
    doctor::calls().into_iter().map(convert::answer).collect()
}

/// What the directory of a descriptor allows, as far as that is seen without a change.
#[napi]
pub fn look_at(number: i32) -> Result<Vec<JsAnswer>> {
    let answers = doctor::look(number).map_err(|errno| Error::from_reason(errno.to_string()))?;
    Ok(answers.into_iter().map(convert::answer).collect())
}

/// The same by trying, in files without a name that it makes there; takes as long as 64 MiB take.
#[napi]
pub fn probe(number: i32) -> Result<JsProbe> {
    let probe = doctor::probe(number).map_err(|errno| Error::from_reason(errno.to_string()))?;
    Ok(convert::probe(probe))
}

/// A removal, which can be looked at before it is done.
#[napi]
pub struct Removal {
    inner: remove::Removal,
}

/// Checks the options of a removal.
#[napi]
pub fn removal(env: Env, options: RemoveOptions) -> Result<Removal> {
    let options = convert::remove_options(options).map_err(Refusal::Usage);
    match options.and_then(remove::Removal::new) {
        Ok(inner) => Ok(Removal { inner }),
        Err(refusal) => Err(refused(env, &refusal)),
    }
}

#[napi]
impl Removal {
    /// A job that counts what would go, with an event for each of the first few entries.
    #[napi]
    pub fn preview(&self, env: Env) -> Result<Job> {
        begin(env, self.inner.preview())
    }

    /// A job that removes: what the preview found, if there was one.
    #[napi]
    pub fn remove(&self, env: Env) -> Result<Job> {
        begin(env, self.inner.remove())
    }
}
