//! The class `Job` and what leaves it, for each addon: conversion and threads, no logic.
//!
//! A `Job` runs on threads of its own, never on libuv's pool; its promise settles from there. Cancelling sets a flag that
//! the engine looks at between blocks. Events are pulled: a call waits for the next ones, so an unread job waits too.

#![allow(
    missing_docs,
    reason = "fields are those of ts/src/native, which has the words for them"
)]

pub mod event;
pub mod manifests;
pub mod options;
pub mod report;
pub mod shards;

use std::sync::Arc;

use bulkhaul_engine::error::Refusal;
use bulkhaul_engine::event::Event;
use bulkhaul_engine::job::Job as EngineJob;
use bulkhaul_engine::report::Report;
use napi::bindgen_prelude::{Error, JsValue, Object, Result, Status};
use napi::{Env, JsDeferred};
use napi_derive::napi;

use event::JsEvent;
use options::JsLimits;
use report::{JsReport, JsSnapshot};

/// Made on the JavaScript thread when a promise settles.
type Resolver<T> = Box<dyn FnOnce(Env) -> Result<T> + Send>;

/// An error that carries its stable code as `code`, and where it may pass as `kind` what failures are called that do.
pub fn refused(env: Env, refusal: &Refusal) -> Error {
    let (code, message) = (refusal.code(), refusal.to_string());
    let with_code = env
        .create_error(Error::new(Status::GenericFailure, message.clone()))
        .and_then(|mut error: Object<'_>| {
            error.set("code", code)?;
            if let Some(kind) = refusal.kind() {
                error.set("kind", kind)?;
            }
            Ok(Error::from(error.to_unknown()))
        });
    with_code.unwrap_or_else(|_| Error::new(Status::GenericFailure, message))
}

/// One operation, to be run once.
#[napi]
pub struct Job {
    inner: Arc<EngineJob>,
}

/// The job, or why there is none.
pub fn begin(env: Env, job: std::result::Result<EngineJob, Refusal>) -> Result<Job> {
    match job {
        Ok(job) => Ok(Job { inner: Arc::new(job) }),
        Err(refusal) => Err(refused(env, &refusal)),
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
                    Ok(report) => Ok(report::report(report)),
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
            deferred.resolve(Box::new(move |_| Ok(events.into_iter().map(event::event).collect())));
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
        let changed = self.inner.set_limits(options::limits(limits));
        changed.map_err(|refusal| refused(env, &refusal))
    }

    /// When it runs, gives it up when nothing moves for so many seconds; 0: never.
    #[napi]
    pub fn set_stall_timeout(&self, env: Env, seconds: f64) -> Result<()> {
        let timeout = options::seconds("stallTimeout", seconds);
        let timeout = timeout.map_err(|message| refused(env, &Refusal::Usage(message)))?;
        self.inner.set_stall_timeout(timeout);
        Ok(())
    }

    /// Counts at this moment.
    #[napi]
    pub fn snapshot(&self) -> JsSnapshot {
        report::snapshot(&self.inner.snapshot())
    }

    /// The same, of somebody who does not watch: nobody goes ahead to see how much there is.
    #[napi]
    pub fn peek(&self) -> JsSnapshot {
        report::snapshot(&self.inner.peek())
    }
}
