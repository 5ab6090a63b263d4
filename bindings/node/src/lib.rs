//! The engine as a Node.js addon: conversion and threads, no logic.
//!
//! A `Job` runs on threads of its own, never on libuv's pool; its promise settles from there. Cancelling sets a flag that
//! the engine looks at between blocks. Events are pulled: a call waits for the next ones, so an unread job waits too.

mod convert;

use std::sync::Arc;

use bulkhaul_engine::error::Refusal;
use bulkhaul_engine::event::Event;
use bulkhaul_engine::job::{Job as EngineJob, lease};
use bulkhaul_engine::list::{self, sources};
use bulkhaul_engine::report::Report;
use bulkhaul_engine::{compare, compress, copy, doctor, manifest, partition, remove, verify};
use napi::bindgen_prelude::{Buffer, Error, JsValue, Object, Result, Status};
use napi::{Env, JsDeferred};
use napi_derive::napi;

use convert::{
    CompareOptions, CompressOptions, CopyOptions, DecompressOptions, JsAnswer, JsEvent, JsLimits, JsProbe, JsReport,
    JsSnapshot, ListOptions, ManifestOptions, PartitionOptions, RemoveOptions, VerifyOptions,
};

/// Made on the JavaScript thread when a promise settles.
type Resolver<T> = Box<dyn FnOnce(Env) -> Result<T> + Send>;

/// An error that carries its stable code as `code`.
fn refused(env: Env, refusal: &Refusal) -> Error {
    let (code, message) = (refusal.code(), refusal.to_string());
    let with_code = env
        .create_error(Error::new(Status::GenericFailure, message.clone()))
        .and_then(|mut error: Object<'_>| {
            error.set("code", code)?;
            Ok(Error::from(error.to_unknown()))
        });
    with_code.unwrap_or_else(|_| Error::new(Status::GenericFailure, message))
}

/// One operation, to be run once.
#[napi]
pub struct Job {
    inner: Arc<EngineJob>,
}

fn begin(env: Env, job: std::result::Result<EngineJob, Refusal>) -> Result<Job> {
    match job {
        Ok(job) => Ok(Job { inner: Arc::new(job) }),
        Err(refusal) => Err(refused(env, &refusal)),
    }
}

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

#[napi]
impl Job {
    /// Runs to the end; rejects where nothing was begun.
    #[napi(ts_return_type = "Promise<Report>")]
    pub fn run<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let (deferred, promise): (JsDeferred<JsReport, Resolver<JsReport>>, _) = env.create_deferred()?;
        let job = Arc::clone(&self.inner);
        let thread = std::thread::Builder::new().name("bulkhaul-0".into());
        thread
            .spawn(move || {
                let result: std::result::Result<Report, Refusal> = job.run();
                deferred.resolve(Box::new(move |env| match result {
                    Ok(report) => Ok(convert::report(report)),
                    Err(refusal) => Err(refused(env, &refusal)),
                }));
            })
            .map_err(|error| Error::new(Status::GenericFailure, format!("no thread could be started: {error}")))?;
        Ok(promise)
    }

    /// The next events; none when the job has ended and all were taken.
    #[napi(ts_return_type = "Promise<Array<Entry | Failure | Note | Question | Part>>")]
    pub fn next_events<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let (deferred, promise): (JsDeferred<Vec<JsEvent>, Resolver<Vec<JsEvent>>>, _) = env.create_deferred()?;
        self.inner.queue().next(Box::new(move |events: Vec<Event>| {
            deferred.resolve(Box::new(move |_| Ok(events.into_iter().map(convert::event).collect())));
        }));
        Ok(promise)
    }

    /// false: finish what is in flight and ends within seconds, and stop; true: stop at once, and leave behind what does not come back.
    #[napi]
    pub fn cancel(&self, abort: bool) {
        if abort {
            self.inner.abort();
        } else {
            self.inner.drain();
        }
    }

    /// Answers a question.
    #[napi]
    pub fn answer(&self, yes: bool) {
        self.inner.answer(yes);
    }

    /// Changes how fast it may go, from now on.
    #[napi]
    pub fn set_limits(&self, env: Env, limits: JsLimits) -> Result<()> {
        let changed = self.inner.set_limits(convert::limits(limits));
        changed.map_err(|refusal| refused(env, &refusal))
    }

    /// When it runs, gives it up when nothing moves for so many seconds; 0: never.
    #[napi]
    pub fn set_stall_timeout(&self, env: Env, seconds: f64) -> Result<()> {
        let timeout = convert::seconds("stallTimeout", seconds);
        let timeout = timeout.map_err(|message| refused(env, &Refusal::Usage(message)))?;
        self.inner.set_stall_timeout(timeout);
        Ok(())
    }

    /// Counts at this moment.
    #[napi]
    pub fn snapshot(&self) -> JsSnapshot {
        convert::snapshot(&self.inner.snapshot())
    }

    /// The same, of somebody who does not watch: nobody goes ahead to see how much there is.
    #[napi]
    pub fn peek(&self) -> JsSnapshot {
        convert::snapshot(&self.inner.peek())
    }
}
