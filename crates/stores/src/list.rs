//! What is in a store: its keys, in the order of their bytes; of one object its name.
//!
//! Comes in: [`ListOptions`]; goes out: a [`Job`] that lists, into a file, whole or not at all, or as events with size, time
//! and tag.

use std::sync::Arc;

use bulkhaul_engine::Kind;
use bulkhaul_engine::ListForm;
use bulkhaul_engine::bytes::output::Output;
use bulkhaul_engine::entry::{Changes, Details, Outcome};
use bulkhaul_engine::error::{Failure, Refusal, Stopped};
use bulkhaul_engine::event::{EntryEvent, Event};
use bulkhaul_engine::job::desk::{Desk, Phase};
use bulkhaul_engine::job::resources::Resources;
use bulkhaul_engine::job::{Job, Work};
use bulkhaul_engine::report::{Durability, Report};
use bulkhaul_engine::tree::selection::{Rules, Selection};
use bulkhaul_formats::lists::hpcp::{self, Facts};

use crate::local::LocalOptions;
use crate::location::Location;
use crate::lone::Lone;
use crate::s3::Config;
use crate::session::{Session, SessionOptions};
use crate::store::Store as _;

/// A list, as asked for.
#[derive(Clone, Default)]
pub struct ListOptions {
    /// The URL.
    pub place: Vec<u8>,
    /// How its store is reached.
    pub config: Config,
    /// Exclude rules: what they exclude is not listed.
    pub filter: Option<Rules>,
    /// Keys end with NUL, as they are.
    pub nul: bool,
    /// Where it goes; none: only events.
    pub output: Option<Vec<u8>>,
    /// Requests.
    pub session: SessionOptions,
    /// What it may take of the machine.
    pub resources: Resources,
    /// An event for each entry.
    pub entry_events: bool,
}

/// A job that lists. Checks the options; asks nothing yet.
pub fn job(options: ListOptions) -> Result<Job, Refusal> {
    let place = Location::parse(&options.place)?;
    if let Location::Local(_) = place {
        return Err(Refusal::Usage("this is a path: list lists it".into()));
    }
    let (resources, selection) = (options.resources, Selection::of(options.filter.as_ref())?);
    let list = List {
        options,
        place,
        selection,
    };
    Job::new(1, list).within(resources)
}

struct List {
    options: ListOptions,
    place: Location,
    selection: Selection,
}

impl List {
    fn line(&self, key: &[u8], line: &mut Vec<u8>) {
        if self.options.nul {
            line.clear();
            line.extend_from_slice(key);
            line.push(0);
            return;
        }
        let mut plain = Vec::new();
        let (path, facts) = match key.strip_suffix(b"/") {
            Some(path) => (path, Facts::Directory),
            None => (key, Facts::Nothing),
        };
        hpcp::plain_line(path, &facts, ListForm::Names, &mut plain);
        hpcp::line(path, &facts, ListForm::Names, &plain, line);
        line.push(b'\n');
    }
}

impl Work for List {
    fn run(self: Box<Self>, desk: &Arc<Desk>) -> Result<Report, Refusal> {
        let options = &self.options;
        let session = Session::open(options.session, Arc::clone(&desk.cancel))?;
        let store = Lone::open((&self.place, &options.config), None, &session, &LocalOptions::default())?;
        desk.staff(1);
        desk.enter(Phase::Scanning);
        let mut listing = store.list(desk)?;
        let mut output = match &options.output {
            Some(path) => Some(Output::create(path, desk)?),
            None => None,
        };
        let (counters, mut line, mut interrupted) = (&desk.counters[0], Vec::new(), false);
        loop {
            let entry = match listing.next() {
                _ if desk.cancel.is_draining() => {
                    interrupted = true;
                    break;
                }
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(Stopped::Aborted) => {
                    interrupted = true;
                    break;
                }
                Err(Stopped::Fault(fault)) => {
                    desk.fail(Failure::new(&fault, store.path(b""), Kind::Directory, None));
                    break;
                }
            };
            if !entry.failed && self.selection.excludes_path(entry.path(), entry.kind) {
                counters.excluded();
                continue;
            }
            counters.found(entry.kind);
            counters.sized(entry.size, entry.size);
            // It has its outcome already.
            if entry.failed {
                continue;
            }
            if let Some(output) = &mut output {
                self.line(&entry.key, &mut line);
                output.write(&line)?;
            }
            if options.entry_events {
                let source = store.path(&entry.key);
                desk.queue.push(Event::Entry(EntryEvent {
                    outcome: Outcome::Listed,
                    kind: entry.kind,
                    path: entry.key,
                    source,
                    destination: Vec::new(),
                    bytes: 0,
                    changes: Changes::default(),
                    reason: None,
                    target: None,
                    hash: None,
                    digests: Vec::new(),
                    details: Some(Details {
                        size: entry.size,
                        vague: false,
                        mtime: entry.written,
                        mode: 0,
                        uid: 0,
                        gid: 0,
                        rdev: 0,
                        xattrs: 0,
                    }),
                }));
            }
            counters.outcome(entry.kind, Outcome::Listed, None, entry.size);
        }
        match output {
            Some(output) if !interrupted => interrupted = !output.finish()?,
            Some(output) => output.discard()?,
            None => {}
        }
        Ok(desk.report(Durability::None, 1, interrupted))
    }
}
