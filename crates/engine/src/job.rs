//! A job: one operation that is run once, watched and cancelled from any thread.
//!
//! Comes in: an [`Work`] with its checked options; goes out: a [`Report`], or a [`Refusal`] before anything was
//! written. Work and watchers meet at the [`Desk`]: counters, findings, events and the wish to stop.

pub mod desk;
pub mod lease;
pub mod pace;
pub mod process;
pub mod resources;
pub mod stall;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bulkhaul_sys::{self as sys, Errno};

use crate::error::{Refusal, describe};
use crate::event::Queue;
use crate::job::desk::{Desk, Phase, Snapshot};
use crate::job::pace::Limits;
use crate::job::resources::Resources;
use crate::report::Report;
use crate::tree::descriptors::require_some;

/// What a job does.
pub trait Work: Send {
    /// Runs to the end, on threads of its own and on this one.
    fn run(self: Box<Self>, desk: &Arc<Desk>) -> Result<Report, Refusal>;
}

/// One operation, to be run once; watched and cancelled from any thread.
pub struct Job {
    desk: Arc<Desk>,
    resources: Resources,
    /// Milliseconds of silence after which it is given up; 0: never.
    stall_timeout: AtomicU64,
    operation: Mutex<Option<Box<dyn Work>>>,
}

impl Job {
    /// An operation on this many workers at most; nothing is started.
    pub fn new(workers: usize, operation: impl Work + 'static) -> Self {
        Self {
            desk: Arc::new(Desk::new(workers)),
            resources: Resources::default(),
            stall_timeout: AtomicU64::new(0),
            operation: Mutex::new(Some(Box::new(operation))),
        }
    }

    /// The same within these bounds. Priorities are those of its own threads.
    pub fn within(self, resources: Resources) -> Result<Self, Refusal> {
        resources.check()?;
        self.set_limits(resources.limits)?;
        Ok(Self { resources, ..self })
    }

    /// Changes how fast it may go, from now on.
    pub fn set_limits(&self, limits: Limits) -> Result<(), Refusal> {
        if let Some((name, rate)) = limits.wrong() {
            return Err(Refusal::Usage(format!(
                "limit of {name}: {rate} is no number for a second"
            )));
        }
        self.desk.pace.set(limits);
        Ok(())
    }

    /// When it runs, gives it up after so much silence (see [`stall`]); zero: never.
    pub fn set_stall_timeout(&self, timeout: Duration) {
        let milliseconds = u64::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        self.stall_timeout.store(milliseconds, Ordering::Relaxed);
    }

    /// The events of this job.
    pub fn queue(&self) -> &Queue {
        &self.desk.queue
    }

    /// Finish what is in flight and ends within seconds, leave the rest of it unfinished, and stop.
    pub fn drain(&self) {
        self.desk.cancel.drain();
        self.desk.wake(None);
    }

    /// Stop at once; what is unfinished goes. A thread that is held by the system a second later is left behind, and noted.
    pub fn abort(&self) {
        self.desk.cancel.abort();
        self.desk.wake(None);
    }

    /// Answers [`crate::event::Event::Question`].
    pub fn answer(&self, yes: bool) {
        self.desk.wake(Some(yes));
    }

    /// Where it stands.
    pub fn snapshot(&self) -> Snapshot {
        self.desk.snapshot()
    }

    /// The same, of somebody who does not watch: no scout sets out for it.
    pub fn peek(&self) -> Snapshot {
        self.desk.peek()
    }

    /// Runs to the end on threads of its own. A second call is a usage error.
    pub fn run(&self) -> Result<Report, Refusal> {
        let operation = self.operation.lock().unwrap_or_else(PoisonError::into_inner).take();
        let operation = operation.ok_or_else(|| Refusal::Usage("a job runs once".into()))?;
        self.desk.begin();
        let (desk, resources) = (Arc::clone(&self.desk), self.resources);
        let work = move || {
            if let Err(errno @ (Errno::MFILE | Errno::NFILE)) = require_some() {
                let limit = sys::descriptor_limit();
                let text = format!(
                    "{}: more are needed to begin (the limit is {limit}: ulimit -n)",
                    describe(errno)
                );
                return Err(Refusal::NoStart(text));
            }
            make_way(&desk, &resources);
            operation.run(&desk)
        };
        let limit = Duration::from_millis(self.stall_timeout.load(Ordering::Relaxed));
        let result = stall::watched(&self.desk, limit, work);
        self.desk.enter(Phase::Done);
        self.desk.queue.close();
        result
    }
}

/// Takes its place behind others, as it was asked to; what the system refuses is a note.
fn make_way(desk: &Desk, resources: &Resources) {
    let tell = |kind: &str, result: Result<(), Errno>, what: String| {
        if let Err(errno) = result {
            let message = format!("{what} was refused ({}): the priority is as it was", describe(errno));
            desk.note(kind, || (Vec::new(), message));
        }
    };
    if let Some(nice) = resources.nice {
        tell("nice", sys::set_nice(nice), format!("a niceness of {nice}"));
    }
    if let Some(priority) = resources.io {
        tell(
            "ionice",
            sys::set_io_priority(priority),
            "the order of disk requests".to_owned(),
        );
    }
}
