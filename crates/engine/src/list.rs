//! The list: what is in trees, each file with the hash of its end, in the order and the form of hpcp's lists.
//!
//! Comes in: [`ListOptions`]; goes out: a [`Job`] that walks and writes the list, or sends an event for each entry, in the
//! list's order. The list appears under its name when it is whole; what could not be read is a failure in the report and
//! is not in the list. What a run that died has hashed of more than the ends of files is not read again, where size and times are
//! as they were. Memory does not grow with the number of entries.

pub mod sources;

use std::sync::Arc;

use bulkhaul_formats::digest::TAIL_BYTES;
use bulkhaul_formats::lists::hpcp::{self, Form};
use bulkhaul_sys::{Errno, Kind};

use crate::bytes::output::Output;
use crate::bytes::probe::tail;
use crate::entry::{Changes, Outcome};
use crate::error::Refusal;
use crate::event::{EntryEvent, Event};
use crate::job::desk::Desk;
use crate::job::resources::{Resources, Staff};
use crate::job::{Job, Work, process};
use crate::records::facts::{FactFinder, Order, Wanted, hashed};
use crate::records::record::Record;
use crate::records::sort::{SORT_BYTES, Sorted, Sorters};
use crate::records::survey::Survey;
use crate::report::Report;
use crate::report::counters::Totals;
use crate::tree::selection::{self, Selection};
use crate::walk::start::{Root, check_roots};

/// A list, as asked for.
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an independent option of the command line"
)]
pub struct ListOptions {
    /// What to list; a path without a name (`.`, `..`, a slash at the end) stands for what is in it.
    pub sources: Vec<Root>,
    /// Exclude rules and their style.
    pub filter: Option<selection::Rules>,
    /// With hashes of files and texts of links.
    pub hashes: bool,
    /// Bytes at the end of a file that are hashed; 0: the list has hashes, and they are empty.
    pub hash_size: u64,
    /// Whole files are hashed.
    pub full_hash: bool,
    /// Lines end with NUL and are paths and nothing else, not escaped.
    pub nul: bool,
    /// Don't enter other file systems.
    pub one_file_system: bool,
    /// Where the list goes; none: only events.
    pub output: Option<Vec<u8>>,
    /// A file of the job's own, in which it says what it has hashed, so that the next run goes on should this one die; it goes
    /// with the end.
    pub finished: Option<Vec<u8>>,
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

impl Default for ListOptions {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            filter: None,
            hashes: true,
            hash_size: TAIL_BYTES,
            full_hash: false,
            nul: false,
            one_file_system: false,
            output: None,
            finished: None,
            spill_directory: None,
            sort_memory: SORT_BYTES,
            jobs: 0,
            resources: Resources::default(),
            entry_events: false,
        }
    }
}

/// A job that lists. Checks the options; touches nothing.
pub fn job(options: ListOptions) -> Result<Job, Refusal> {
    let process = process::process();
    let staff = Staff::of(options.jobs, process.processors)?;
    let list = List {
        staff,
        roots: check_roots(&options.sources)?,
        filter: Selection::of(options.filter.as_ref())?,
        options,
    };
    let resources = list.options.resources;
    Job::new(staff.most(), list).within(resources)
}

/// One list with its checked options.
struct List {
    options: ListOptions,
    staff: Staff,
    roots: Vec<Root>,
    filter: Selection,
}

impl List {
    fn form(&self) -> Form {
        if self.options.hashes && !self.options.nul {
            Form::Hashed
        } else {
            Form::Names
        }
    }

    fn write(
        &self,
        desk: &Desk,
        sorters: &Sorters,
        sorted: &mut Sorted,
        mut output: Option<&mut Output>,
    ) -> Result<(), Refusal> {
        let form = self.form();
        // A list of links alone would be taken for one of names with colons. Files with an outcome are those that failed.
        let totals = Totals::of(&desk.counters);
        let files = totals.found_of(Kind::File) - totals.file_outcomes.iter().sum::<u64>();
        let undecided = form == Form::Hashed && files == 0;
        let (mut plain, mut line) = (Vec::new(), Vec::new());
        while !desk.cancel.is_draining()
            && let Some((_, payload)) = sorted.next().map_err(|errno| sorters.refusal(errno))?
        {
            let record = Record::decode(payload).ok_or_else(|| sorters.refusal(Errno::IO))?;
            desk.counters[0].outcome(record.kind, Outcome::Listed, None, record.details.map_or(0, |d| d.size));
            if let Some(output) = &mut output {
                line.clear();
                if self.options.nul {
                    line.extend_from_slice(if record.path.is_empty() { b"." } else { record.path });
                } else {
                    let facts = record.facts();
                    hpcp::plain_line(record.path, &facts, form, &mut plain);
                    if undecided && record.kind == Kind::Symlink {
                        hpcp::escaped_line(record.path, &facts, form, &mut line);
                    } else {
                        hpcp::line(record.path, &facts, form, &plain, &mut line);
                    }
                }
                line.push(if self.options.nul { 0 } else { b'\n' });
                output.write(&line)?;
            }
            if self.options.entry_events {
                desk.queue.push(Event::Entry(event(&record)));
            }
        }
        Ok(())
    }
}

impl Work for List {
    fn run(self: Box<Self>, desk: &Arc<Desk>) -> Result<Report, Refusal> {
        let options = &self.options;
        let wanted = Wanted {
            details: options.entry_events,
            xattrs: false,
            portable: false,
            tail: if options.hashes {
                tail(options.hash_size, options.full_hash)
            } else {
                0
            },
            specials: false,
            order: Order::Lines(self.form()),
        };
        let survey = Survey {
            roots: &self.roots,
            filter: &self.filter,
            rules: options.filter.as_ref(),
            one_file_system: options.one_file_system,
            files_from: None,
            staff: self.staff,
            spill_directory: options.spill_directory.as_deref(),
            sort_memory: options.sort_memory,
            output: options.output.as_deref(),
            read_at_most: wanted.tail,
        };
        let sorters = Sorters::new(options.spill_directory.as_deref(), options.sort_memory, 1);
        let pieces = hashed(options.finished.as_deref(), wanted.tail, &sorters, desk);
        let done = survey.run(
            desk,
            |_| Ok(FactFinder::new(desk, wanted).going_on(pieces.as_ref(), 0)),
            |sorters, sorted, output| self.write(desk, sorters, sorted, output),
        );
        if let Some(pieces) = &pieces {
            pieces.close(done.as_ref().is_ok_and(|report| !report.interrupted));
        }
        done
    }
}

fn event(record: &Record<'_>) -> EntryEvent {
    let path = if record.path.is_empty() { b"." } else { record.path };
    EntryEvent {
        outcome: Outcome::Listed,
        kind: record.kind,
        path: path.to_vec(),
        source: path.to_vec(),
        destination: Vec::new(),
        bytes: 0,
        changes: Changes::default(),
        reason: None,
        target: record.target.map(<[u8]>::to_vec),
        hash: record.hash,
        digests: Vec::new(),
        details: record.details,
    }
}
