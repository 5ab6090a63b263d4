//! The manifest: which files there are in trees, and the digests of their content, sorted by the bytes of their paths.
//!
//! Comes in: [`ManifestOptions`]; goes out: a [`Job`] that walks, hashes and writes the manifest, and sends an event for each
//! entry, in its order, where that is asked for. Promises: the same trees give the same bytes; the manifest appears under its
//! name when it is whole, and lists neither itself nor what the run uses; a file that changes while it is hashed, and what
//! could not be read or written down, is a failure in the report and is not in the manifest; where an older one is updated,
//! what has other content though nothing tells that it was written to is a failure too, and keeps its line. What a run that
//! died has read is not read again, where size and times are as they were. Memory does not grow with the
//! number of entries, but for inodes of which not all links have come yet.

mod contents;
mod elsewhere;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bulkhaul_formats::digest::Algorithm;
use bulkhaul_formats::manifest::{Entry, Format};
use bulkhaul_formats::units;
use bulkhaul_sys::{self as sys, Errno, Follow, Kind};

use self::contents::{Contents, Older};
use crate::bytes::output::Output;
use crate::entry::{Changes, Outcome};
use crate::error::{Failure, Refusal};
use crate::event::{EntryEvent, Event};
use crate::job::desk::{Desk, Phase};
use crate::job::resources::{Resources, Staff};
use crate::job::{Job, Work, process};
use crate::records::entry::{details, kind_of};
use crate::records::ground::{Find, Ground};
use crate::records::known::Known;
use crate::records::manifest::{Making, Told};
use crate::records::pieces::{Pieces, Shared};
use crate::records::sort::{SORT_BYTES, Sorted, Sorters};
use crate::records::survey::{self, Survey};
use crate::report::Report;
use crate::tree::in_use::InUse;
use crate::tree::path::c_string;
use crate::tree::selection::{self, Selection};
use crate::walk::names::FilesFrom;
use crate::walk::start::{Root, check_roots};

/// What of the files that an older manifest knows is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Those that have another size, time of modification or time of change.
    Changed,
    /// All.
    Full,
}

/// A manifest, as asked for.
#[derive(Clone, Debug)]
pub struct ManifestOptions {
    /// What it is of; a path without a name (`.`, `..`, a slash at the end) stands for what is in it.
    pub sources: Vec<Root>,
    /// Exclude rules and their style.
    pub filter: Option<selection::Rules>,
    /// Nothing but what this list names below the one source.
    pub files_from: Option<FilesFrom>,
    /// Don't enter other file systems.
    pub one_file_system: bool,
    /// Digests of each file; none: as the format has it.
    pub algorithms: Vec<Algorithm>,
    /// How it is written.
    pub format: Format,
    /// Where it goes; none: only events.
    pub output: Option<Vec<u8>>,
    /// What is there of it already tells what has to be read.
    pub update: Option<Update>,
    /// Files and directories that the caller uses meanwhile: they are left out.
    pub in_use: Vec<Vec<u8>>,
    /// A file of the job's own, in which it says what it has read, so that the next run goes on should this one die; it goes
    /// with the end.
    pub finished: Option<Vec<u8>>,
    /// Whether others do parts of the same job.
    pub shared: Shared,
    /// Directory for temporary files without a name, for what does not fit in memory; `None`: memory is used.
    pub spill_directory: Option<Vec<u8>>,
    /// Memory for sorting, in bytes.
    pub sort_memory: usize,
    /// Worker threads; 0: as many as serve best on the media.
    pub jobs: usize,
    /// What it may take of the machine.
    pub resources: Resources,
    /// Send an event for each entry, with its details.
    pub entry_events: bool,
}

impl Default for ManifestOptions {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            filter: None,
            files_from: None,
            one_file_system: false,
            algorithms: Vec::new(),
            format: Format::Sums,
            output: None,
            update: None,
            in_use: Vec::new(),
            finished: None,
            shared: Shared::default(),
            spill_directory: None,
            sort_memory: SORT_BYTES,
            jobs: 0,
            resources: Resources::default(),
            entry_events: false,
        }
    }
}

/// A job that makes a manifest. Checks the options; touches nothing.
pub fn job(options: ManifestOptions) -> Result<Job, Refusal> {
    job_of(options, None)
}

/// The same of files that lie where `find` says; what the one source says is for messages then.
pub fn job_of(options: ManifestOptions, find: Option<Find>) -> Result<Job, Refusal> {
    let process = process::process();
    let staff = Staff::of(options.jobs, process.processors)?;
    if options.update.is_some() && (options.format != Format::Json || options.output.is_none()) {
        let what = "update: only a manifest of the form jsonl, in a file, has the times to go by";
        return Err(Refusal::Usage(what.into()));
    }
    if options.files_from.is_some() && options.sources.len() != 1 {
        return Err(Refusal::Usage("files-from needs exactly one directory".into()));
    }
    let manifest = Manifest {
        staff,
        roots: check_roots(&options.sources)?,
        filter: Selection::of(options.filter.as_ref())?,
        making: Making::new(options.format, &options.algorithms)?,
        find,
        options,
    };
    let resources = manifest.options.resources;
    Job::new(staff.most(), manifest).within(resources)
}

/// One manifest with its checked options.
struct Manifest {
    options: ManifestOptions,
    staff: Staff,
    roots: Vec<Root>,
    filter: Selection,
    making: Making,
    /// None: a walk finds all.
    find: Option<Find>,
}

impl Manifest {
    fn write(&self, desk: &Desk, sorted: (&Sorters, &mut Sorted), output: Option<&mut Output>) -> Result<(), Refusal> {
        let counters = &desk.counters[0];
        self.making.write(desk, sorted, output, |told| {
            let (entry, written) = match told {
                Told::Written(entry) => (entry, true),
                Told::Again(entry) => (entry, false),
                Told::Differs(entry, fault) => {
                    let kind = kind_of(&entry);
                    counters.outcome(kind, fault.outcome(), None, 0);
                    return desk.fail(Failure::new(&fault, entry.path, kind, None));
                }
                Told::Settled => return,
            };
            let kind = kind_of(&entry);
            counters.outcome(kind, Outcome::Listed, None, entry.size.unwrap_or_default());
            if written && self.options.entry_events {
                desk.queue.push(Event::Entry(event(entry, kind)));
            }
        })
    }

    /// The manifest that is to be updated, if there is one yet.
    fn older(&self, desk: &Desk) -> Result<Option<Older>, Refusal> {
        let (Some(update), Some(path)) = (self.options.update, &self.options.output) else {
            return Ok(None);
        };
        let there = c_string(path)
            .is_ok_and(|path| sys::stat(sys::current_directory(), &path, Follow::Yes).err() != Some(Errno::NOENT));
        if !there {
            return Ok(None);
        }
        let sorters = Sorters::new(self.options.spill_directory.as_deref(), self.options.sort_memory, 1);
        let known = Known::open(path, &sorters, &desk.cancel)?;
        Ok(known.map(|known| Older {
            known,
            full: update == Update::Full,
            there: AtomicU64::new(0),
        }))
    }

    /// What is where no walk gets.
    fn elsewhere(&self, ground: &dyn Ground, desk: &Arc<Desk>) -> Result<Report, Refusal> {
        let options = &self.options;
        let workers = desk.counters.len();
        desk.staff(workers);
        desk.enter(Phase::Scanning);
        let mut output = match &options.output {
            Some(path) => Some(Output::create(path, desk)?),
            None => None,
        };
        let spill = options.spill_directory.as_deref();
        let sorters = Sorters::new(spill, options.sort_memory, workers).counted(desk.steps());
        let read = elsewhere::read(ground, &self.making, &self.filter, &sorters, desk);
        let written = read.and_then(|mut sorted| {
            desk.enter(Phase::Closing);
            self.write(desk, (&sorters, &mut sorted), output.as_mut())
        });
        survey::close(output, written, desk)
    }

    /// What the job has read, and an earlier run of it.
    fn pieces(&self, desk: &Arc<Desk>) -> Option<Pieces> {
        let options = &self.options;
        let path = options.finished.as_deref()?;
        let sorters = Sorters::new(options.spill_directory.as_deref(), options.sort_memory, 1);
        let algorithms = self.making.algorithms().iter();
        let names: Vec<_> = algorithms.clone().map(|algorithm| algorithm.name()).collect();
        let bytes = algorithms.map(|algorithm| algorithm.digest_bytes()).sum();
        let work = format!("digests {}", names.join(" "));
        let others = &options.shared.finished[..];
        Some(Pieces::joined(path, others, (work.as_bytes(), bytes), &sorters, desk))
    }
}

impl Work for Manifest {
    fn run(mut self: Box<Self>, desk: &Arc<Desk>) -> Result<Report, Refusal> {
        if let Some(find) = self.find.take() {
            let ground = find(desk)?;
            return self.elsewhere(&*ground, desk);
        }
        let options = &self.options;
        let older = self.older(desk)?;
        let pieces = self.pieces(desk);
        let survey = Survey {
            roots: &self.roots,
            filter: &self.filter,
            rules: options.filter.as_ref(),
            files_from: options.files_from.as_ref(),
            one_file_system: options.one_file_system,
            staff: self.staff,
            spill_directory: options.spill_directory.as_deref(),
            sort_memory: options.sort_memory,
            output: options.output.as_deref(),
            // Of what is known already nobody can tell how much is to be read.
            read_at_most: if older.as_ref().is_some_and(|older| !older.full) {
                0
            } else {
                u64::MAX
            },
        };
        let look = |output: Option<&Output>| {
            let place = output.map(Output::place).transpose()?.flatten();
            Ok(Contents::new(
                desk,
                &self.making,
                (InUse::of(&self.options.in_use), place),
                (older.as_ref(), pieces.as_ref()),
            ))
        };
        let done = survey.run(desk, look, |sorters, sorted, output| {
            if let Some(older) = &older {
                let gone = older.known.files.saturating_sub(older.there.load(Ordering::Relaxed));
                if gone > 0 {
                    let files = units::count(gone, "file of the older manifest is", "files of the older manifest are");
                    desk.note("gone", || {
                        (
                            options.output.clone().unwrap_or_default(),
                            format!("{files} not there any more"),
                        )
                    });
                }
            }
            self.write(desk, (sorters, sorted), output)
        });
        if let Some(pieces) = pieces {
            pieces.close(!options.shared.keep && done.as_ref().is_ok_and(|report| !report.interrupted));
        }
        done
    }
}

fn event(entry: Entry, kind: Kind) -> EntryEvent {
    let details = entry.mtime.map(|_| details(&entry));
    EntryEvent {
        outcome: Outcome::Listed,
        kind,
        source: entry.path.clone(),
        path: entry.path,
        destination: Vec::new(),
        bytes: 0,
        changes: Changes::default(),
        reason: None,
        target: entry.target,
        hash: None,
        digests: entry.digests,
        details,
    }
}
