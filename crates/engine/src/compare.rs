//! The comparison: two sides, each a tree or a list, entry by entry.
//!
//! Comes in: [`CompareOptions`]; goes out: a [`Job`] that sorts what both sides have by path, joins the two, and tells what
//! only the left side has, what only the right side has, and what both have and differs: as counts, as events, and as a
//! file that says how to turn the left side into the right one. Every entry of either side ends as same, different or
//! failed; what could not be compared because something failed on the other side is skipped and said so. Memory does not
//! grow with the number of entries.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bulkhaul_formats::changes::{self, Change, Op, State};
use bulkhaul_formats::digest::TAIL_BYTES;
use bulkhaul_formats::listing::{self, Facts, Form, Hash, Listed};
use bulkhaul_formats::natural;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind, OwnedFd};

use crate::bytes::output::Output;
use crate::bytes::probe::{self, Extent, Likeness, tail};
use crate::bytes::transfer::BUFFER_BYTES;
use crate::entry::{Changes, Outcome, Reason};
use crate::error::{Cause, Failure, Fault, Operation, Refusal, Side, Stopped};
use crate::event::{EntryEvent, Event};
use crate::job::desk::{Cancel, Desk, Phase};
use crate::job::resources::{Resources, check_jobs};
use crate::job::{Job, Work, process};
use crate::pool::window::Window;
use crate::records::gather::{Gather, Order, Wanted};
use crate::records::listfile::ListFile;
use crate::records::record::{Record, path_key};
use crate::records::sort::{SORT_BYTES, Sorted, Sorter, Sorters};
use crate::report::{Differences, Report, Sync};
use crate::tree::descriptors::Budget;
use crate::tree::medium::has_sizes;
use crate::tree::path::{c_string, join, open_directory_path, split, trim};
use crate::tree::selection::{self, Selection};
use crate::walk::start::{Root, Start, check_roots, require_one};
use crate::walk::{Boundary, Walk};

/// One side.
#[derive(Clone, Debug)]
pub enum SideOptions {
    /// Trees, as arguments.
    Trees(Vec<Root>),
    /// A list as [`crate::list`] or hpcp writes it.
    List {
        /// Its file.
        path: Vec<u8>,
        /// Its form, where it does not tell itself.
        form: Option<Form>,
    },
}

/// How the contents of files are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// Not at all, sizes aside.
    Nothing,
    /// By a hash of their ends.
    #[default]
    Tail,
    /// Byte for byte, where the sizes are equal.
    Whole,
}

/// What the file of differences is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiffForm {
    /// hpcp: what the right side has, then what the left side has with `-` and NUL in front.
    #[default]
    Both,
    /// `tar -T`: what the right side has.
    Tar,
    /// The change list of hpcp 9.79: how to turn the right side into the left one, with what is known of both.
    Changes,
}

/// A comparison, as asked for.
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an independent option of the command line"
)]
pub struct CompareOptions {
    /// What is, or was.
    pub left: SideOptions,
    /// What it is compared with.
    pub right: SideOptions,
    /// Where a side is one entry, or a list of one directory, its name does not matter.
    pub align: bool,
    /// Exclude rules and their style, for trees.
    pub filter: Option<selection::Rules>,
    /// Contents of files.
    pub content: Content,
    /// Bytes at the end that are hashed.
    pub hash_size: u64,
    /// Also mode, owner and time, where both sides are trees.
    pub metadata: bool,
    /// With the metadata, times of directories.
    pub directory_times: bool,
    /// With the metadata, extended attributes.
    pub xattrs: bool,
    /// FIFOs, sockets and devices too, where both sides are trees.
    pub specials: bool,
    /// Don't enter other file systems.
    pub one_file_system: bool,
    /// Where the differences go.
    pub output: Option<Vec<u8>>,
    /// In which form.
    pub form: DiffForm,
    /// Directory for temporary files without a name, for what does not fit in memory; `None`: memory is used.
    pub spill_directory: Option<Vec<u8>>,
    /// Memory for sorting, in bytes.
    pub sort_memory: usize,
    /// Worker threads; 0: from affinity and cgroup.
    pub jobs: usize,
    /// What it may take of the machine.
    pub resources: Resources,
    /// Send an event for each entry that differs.
    pub entry_events: bool,
}

impl CompareOptions {
    /// The usual comparison of these two.
    pub fn new(left: SideOptions, right: SideOptions) -> Self {
        Self {
            left,
            right,
            align: true,
            filter: None,
            content: Content::default(),
            hash_size: TAIL_BYTES,
            metadata: false,
            directory_times: true,
            xattrs: false,
            specials: true,
            one_file_system: false,
            output: None,
            form: DiffForm::default(),
            spill_directory: None,
            sort_memory: SORT_BYTES,
            jobs: 0,
            resources: Resources::default(),
            entry_events: false,
        }
    }
}

/// A job that compares. Checks the options; touches nothing.
pub fn job(mut options: CompareOptions) -> Result<Job, Refusal> {
    let process = process::process();
    let jobs = check_jobs(options.jobs, process.processors)?;
    for side in [&mut options.left, &mut options.right] {
        match side {
            SideOptions::Trees(roots) => *roots = check_roots(roots)?,
            SideOptions::List { path, .. } if path.is_empty() => {
                return Err(Refusal::List("the path of a list is empty".into()));
            }
            SideOptions::List { .. } => {}
        }
    }
    let compare = Compare {
        filter: Selection::of(options.filter.as_ref())?,
        mode: 0o666 & !process.umask,
        options,
    };
    let resources = compare.options.resources;
    Job::new(jobs, compare).within(resources)
}

/// One comparison with its checked options.
struct Compare {
    options: CompareOptions,
    filter: Selection,
    mode: u32,
}

/// A side on its way: its records, and what of their paths is its own name.
pub struct Stream {
    sorted: Sorted,
    /// The name that all its paths begin with, with a slash after it, and that does not count.
    own: Vec<u8>,
    /// Key of the last record.
    last: Option<Vec<u8>>,
    /// Path of the last directory that failed: what is below it on the other side can't be compared.
    failed: Option<Vec<u8>>,
    entries: u64,
}

/// A record that is kept while its stream goes on.
#[derive(Clone, Debug)]
struct Kept {
    /// Its key without the side's own name.
    key: Vec<u8>,
    bytes: Vec<u8>,
    /// Bytes of its path that are the side's own name.
    own: usize,
}

impl Kept {
    fn key(&self) -> &[u8] {
        &self.key
    }

    /// With its path below the side's own name.
    fn record(&self) -> Option<Record<'_>> {
        Record::decode(&self.bytes).map(|record| Record {
            path: record.path.get(self.own..).unwrap_or_default(),
            ..record
        })
    }

    /// The same; but what is a whole side and no directory has its own name.
    fn named(&self) -> Option<Record<'_>> {
        let whole = Record::decode(&self.bytes)?;
        let below = self.record()?;
        let name = if below.path.is_empty() && below.kind != Kind::Directory {
            whole.path
        } else {
            below.path
        };
        Some(Record { path: name, ..whole })
    }
}

/// What was found out about one path.
#[derive(Default)]
pub struct Verdict {
    left: Option<Kept>,
    right: Option<Kept>,
    changes: Changes,
    /// Why it was not compared.
    reason: Option<Reason>,
    /// It is for the contents to tell.
    pub(crate) unread: bool,
    /// They could not be read.
    failure: Option<Failure>,
}

impl Work for Compare {
    fn run(self: Box<Self>, desk: &Arc<Desk>) -> Result<Report, Refusal> {
        let options = &self.options;
        for side in [&options.left, &options.right] {
            // No trees at all are a side that has nothing.
            if let SideOptions::Trees(roots) = side
                && !roots.is_empty()
            {
                require_one(roots)?;
            }
        }
        let (budget, workers, _) = Budget::share(desk.counters.len());
        let sorters = Sorters::new(options.spill_directory.as_deref(), options.sort_memory / 2, workers);
        let sorters = sorters.counted(desk.steps());
        let output = options
            .output
            .as_ref()
            .map(|path| Output::create(path, self.mode, desk))
            .transpose()?;
        let mut teller = Teller {
            compare: &self,
            desk,
            counts: Differences::default(),
            changes: output
                .map(|output| ChangesFile::new(output, options.form, options.xattrs, &sorters))
                .transpose()?,
        };
        desk.enter(Phase::Scanning);
        let done = self.sides(desk, &sorters, &budget, workers).and_then(|(left, right)| {
            desk.enter(Phase::Closing);
            let mut join = Join::new(&self, desk, &sorters, left, right);
            self.tell_all(&mut join, &mut teller, workers)?;
            (teller.counts.left_entries, teller.counts.right_entries) = (join.left.entries, join.right.entries);
            Ok(())
        });
        let mut interrupted = desk.cancel.is_draining();
        let Teller { counts, changes, .. } = teller;
        match (changes, &done) {
            (Some(changes), Ok(())) if !interrupted => {
                let _syncing = desk.syncing();
                interrupted = !changes.finish()?;
            }
            (Some(changes), _) => changes.output.discard()?,
            (None, _) => {}
        }
        done?;
        let mut report = desk.report(Sync::None, workers, interrupted);
        report.differences = counts;
        Ok(report)
    }
}

impl Compare {
    fn both_trees(&self) -> bool {
        let tree = |side: &SideOptions| matches!(side, SideOptions::Trees(_));
        tree(&self.options.left) && tree(&self.options.right)
    }

    /// Reads both sides.
    fn sides(
        &self,
        desk: &Desk,
        sorters: &Sorters,
        budget: &Arc<Budget>,
        workers: usize,
    ) -> Result<(Stream, Stream), Refusal> {
        let read = |side: &SideOptions| match side {
            SideOptions::Trees(roots) => self.walk(desk, sorters, budget, workers, roots),
            SideOptions::List { path, form } => read_list(desk, sorters, path, *form, self.options.align),
        };
        Ok((read(&self.options.left)?, read(&self.options.right)?))
    }

    fn walk(
        &self,
        desk: &Desk,
        sorters: &Sorters,
        budget: &Arc<Budget>,
        workers: usize,
        roots: &[Root],
    ) -> Result<Stream, Refusal> {
        let options = &self.options;
        let both = self.both_trees();
        let told = options.output.is_some() && options.form == DiffForm::Changes;
        let wanted = Wanted {
            details: both || told,
            xattrs: (both && options.metadata || told) && options.xattrs,
            tail: match options.content {
                Content::Nothing => 0,
                // With a list there is nothing to read on the other side.
                Content::Whole if self.reads() => 0,
                Content::Whole => tail(options.hash_size, true),
                Content::Tail => options.hash_size,
            },
            specials: both && options.specials,
            order: Order::Paths,
        };
        let gather = Gather::new(desk, roots, wanted, sorters);
        Walk {
            start: Start::Roots(roots),
            filter: &self.filter,
            boundary: if options.one_file_system {
                Boundary::FileSystem
            } else {
                Boundary::None
            },
            across: &[],
            desk,
            workers,
            budget,
        }
        .run(&gather);
        let own = match roots {
            [root] if options.align && !root.contents => [split(&root.path).1, b"/"].concat(),
            _ => Vec::new(),
        };
        Stream::new(gather.into_sorters()?, own, sorters)
    }

    /// Both sides are one tree each, whose names do not matter: their files can be found again by path.
    fn readable(&self) -> bool {
        let one = |side: &SideOptions| matches!(side, SideOptions::Trees(roots) if roots.len() == 1);
        self.options.align && one(&self.options.left) && one(&self.options.right)
    }

    /// Tells every verdict of the join, in its order, with contents read by all workers.
    fn tell_all(&self, join: &mut Join<'_>, teller: &mut Teller<'_>, workers: usize) -> Result<(), Refusal> {
        if !self.reads() {
            while let Some(verdict) = join.next()? {
                teller.tell(&verdict)?;
            }
            return Ok(());
        }
        let window = Window::default();
        let desk = teller.desk;
        let (mut done, mut main) = (Ok(()), Some((join, teller)));
        std::thread::scope(|scope| {
            for index in 1..workers {
                let window = &window;
                let thread = std::thread::Builder::new().name(format!("bulkhaul-{index}"));
                let started = thread.spawn_scoped(scope, move || {
                    let mut reader = PairReader::new(self, desk);
                    while let Some((number, mut verdict)) = window.take() {
                        reader.read(&mut verdict);
                        window.put(number, verdict);
                    }
                });
                if let Err(error) = started {
                    let message = format!("a worker could not be started: {error}");
                    desk.note("threads", || (Vec::new(), message));
                }
            }
            if let Some((join, teller)) = main.take() {
                done = self.feed(join, teller, &window);
            }
            window.close();
        });
        done
    }

    /// Puts what is to be read into the window, tells what comes out of it, and reads too where nothing else is to do.
    fn feed(&self, join: &mut Join<'_>, teller: &mut Teller<'_>, window: &Window<Verdict>) -> Result<(), Refusal> {
        let mut reader = PairReader::new(self, teller.desk);
        let mut ended = false;
        loop {
            while !ended && window.has_room() {
                match join.next()? {
                    Some(verdict) => {
                        let done = !verdict.unread;
                        window.push(verdict, done);
                    }
                    None => ended = true,
                }
            }
            while let Some(verdict) = window.pop() {
                teller.tell(&verdict)?;
            }
            if ended && window.is_empty() {
                return Ok(());
            }
            if window.has_room() && !ended {
                continue;
            }
            // The oldest one is not read yet.
            if let Some((number, mut verdict)) = window.take_if_any() {
                reader.read(&mut verdict);
                window.put(number, verdict);
            } else {
                window.wait_for_first();
            }
        }
    }
}

/// Two sorted sides as one sequence of verdicts.
struct Join<'j> {
    compare: &'j Compare,
    desk: &'j Desk,
    sorters: &'j Sorters,
    left: Stream,
    right: Stream,
    next_left: Option<Kept>,
    next_right: Option<Kept>,
    begun: bool,
}

impl<'j> Join<'j> {
    fn new(compare: &'j Compare, desk: &'j Desk, sorters: &'j Sorters, left: Stream, right: Stream) -> Self {
        Self {
            compare,
            desk,
            sorters,
            left,
            right,
            next_left: None,
            next_right: None,
            begun: false,
        }
    }

    /// The next verdict; `None` at the end, and when the job was cancelled.
    fn next(&mut self) -> Result<Option<Verdict>, Refusal> {
        if self.desk.cancel.is_draining() {
            return Ok(None);
        }
        if !self.begun {
            self.begun = true;
            self.next_left = self.left.next(self.desk, self.sorters)?;
            self.next_right = self.right.next(self.desk, self.sorters)?;
        }
        let order = match (&self.next_left, &self.next_right) {
            (None, None) => return Ok(None),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => left.key().cmp(right.key()),
        };
        let mut verdict = Verdict::default();
        if order != Ordering::Greater {
            verdict.left = self.next_left.take();
            self.left.consumed(verdict.left.as_ref());
            self.next_left = self.left.next(self.desk, self.sorters)?;
        }
        if order != Ordering::Less {
            verdict.right = self.next_right.take();
            self.right.consumed(verdict.right.as_ref());
            self.next_right = self.right.next(self.desk, self.sorters)?;
        }
        self.judge(&mut verdict);
        Ok(Some(verdict))
    }

    fn judge(&self, verdict: &mut Verdict) {
        let (left, right) = (verdict.left.as_ref(), verdict.right.as_ref());
        let records = (left.and_then(Kept::record), right.and_then(Kept::record));
        let (reason, changes, unread) = match records {
            (Some(left), Some(right)) if left.failed || right.failed => (Some(Reason::NotCompared), None, false),
            (Some(left), Some(right)) => {
                let changes = self.compare.changes(&left, &right);
                let unread = self.compare.must_read(&left, &right, changes);
                (None, Some(changes), unread)
            }
            (Some(one), None) if self.right.is_unknown(one.path) => (Some(Reason::NotCompared), None, false),
            (None, Some(one)) if self.left.is_unknown(one.path) => (Some(Reason::NotCompared), None, false),
            // What stands for all of one side is no entry of the other.
            (Some(one), None) | (None, Some(one)) if one.path.is_empty() && one.kind == Kind::Directory => {
                (None, None, false)
            }
            (Some(one), None) | (None, Some(one)) if one.failed => (Some(Reason::NotCompared), None, false),
            (Some(_), None) => (None, Some(Changes::NEW), false),
            (None, Some(_)) => (None, Some(Changes::EXTRA), false),
            (None, None) => (None, None, false),
        };
        verdict.unread = unread;
        verdict.reason = reason;
        verdict.changes = changes.unwrap_or_default();
    }
}

impl Compare {
    /// What differs, as far as records tell.
    fn changes(&self, left: &Record<'_>, right: &Record<'_>) -> Changes {
        let mut changes = Changes::default();
        let vague = [left.kind, right.kind].contains(&Kind::Unknown);
        let directory = |record: &Record<'_>| record.kind == Kind::Directory;
        if left.kind != right.kind && (!vague || directory(left) != directory(right)) {
            changes.insert(Changes::KIND);
            return changes;
        }
        let differ = |left: Option<u64>, right: Option<u64>| matches!((left, right), (Some(l), Some(r)) if l != r);
        changes.insert_if(differ(left.hash, right.hash), Changes::CONTENT);
        if let (Some(left), Some(right)) = (left.target, right.target) {
            changes.insert_if(left != right, Changes::TARGET);
        }
        let (Some(l), Some(r)) = (&left.details, &right.details) else {
            return changes;
        };
        if left.kind == Kind::File && l.size != r.size && !(self.reads() && (l.vague || r.vague)) {
            changes.insert(Changes::SIZE);
            changes.insert(Changes::CONTENT);
        }
        changes.insert_if(l.rdev != r.rdev, Changes::TARGET);
        if self.options.metadata {
            let timed = self.options.directory_times || !directory(left);
            changes.insert_if(
                timed && l.mtime.as_float().total_cmp(&r.mtime.as_float()).is_ne(),
                Changes::TIME,
            );
            changes.insert_if(left.kind != Kind::Symlink && l.mode != r.mode, Changes::MODE);
            changes.insert_if(l.uid != r.uid, Changes::OWNER);
            changes.insert_if(l.gid != r.gid, Changes::GROUP);
            changes.insert_if(l.xattrs != r.xattrs, Changes::XATTR);
        }
        changes
    }

    /// Whether only their contents tell.
    fn must_read(&self, left: &Record<'_>, right: &Record<'_>, changes: Changes) -> bool {
        let file = |record: &Record<'_>| record.kind == Kind::File && record.details.is_some();
        let open = !changes.contains(Changes::CONTENT) && !changes.contains(Changes::KIND);
        open && self.reads() && file(left) && file(right)
    }

    /// Whether contents are compared byte for byte, after the walk.
    fn reads(&self) -> bool {
        self.options.content == Content::Whole && self.readable()
    }

    /// Full path of an entry of a side.
    fn full_path(side: &SideOptions, path: &[u8]) -> Vec<u8> {
        match side {
            SideOptions::Trees(roots) => match &roots[..] {
                [root] => join(trim(&root.path), path),
                _ => path.to_vec(),
            },
            SideOptions::List { .. } => path.to_vec(),
        }
    }
}

impl Stream {
    /// From all records of a side. `own`: its own name, see there.
    fn new(records: Vec<Sorter>, own: Vec<u8>, sorters: &Sorters) -> Result<Self, Refusal> {
        Ok(Self {
            sorted: Sorted::merge(records).map_err(|errno| sorters.refusal(errno))?,
            own,
            last: None,
            failed: None,
            entries: 0,
        })
    }

    /// The next record. A path that comes again is passed over.
    fn next(&mut self, desk: &Desk, sorters: &Sorters) -> Result<Option<Kept>, Refusal> {
        while let Some((key, payload)) = self.sorted.next().map_err(|errno| sorters.refusal(errno))? {
            let record = Record::decode(payload).ok_or_else(|| sorters.refusal(Errno::IO))?;
            if self.last.as_deref() == Some(key) {
                if !record.failed {
                    desk.counters[0].outcome(record.kind, Outcome::Skipped, Some(Reason::Overridden), 0);
                }
                continue;
            }
            self.last = Some(key.to_vec());
            self.entries += 1;
            let own = self.own.len();
            return Ok(Some(Kept {
                key: key.get(own..).unwrap_or_default().to_vec(),
                bytes: payload.to_vec(),
                own,
            }));
        }
        Ok(None)
    }

    /// A record of this side takes part in a verdict now.
    fn consumed(&mut self, kept: Option<&Kept>) {
        if let Some(record) = kept.and_then(Kept::record)
            && record.failed
            && !self.is_unknown(record.path)
        {
            self.failed = Some(record.path.to_vec());
        }
    }

    /// Whether nothing is known of this path on this side, because something above it failed.
    fn is_unknown(&self, path: &[u8]) -> bool {
        let Some(failed) = &self.failed else { return false };
        match path.strip_prefix(&failed[..]) {
            Some(rest) => failed.is_empty() || rest.is_empty() || rest.starts_with(b"/"),
            None => false,
        }
    }
}

/// Tells verdicts: to the books, to who reads events, and to the file of changes.
struct Teller<'t> {
    compare: &'t Compare,
    desk: &'t Desk,
    counts: Differences,
    changes: Option<ChangesFile<'t>>,
}

impl Teller<'_> {
    fn tell(&mut self, verdict: &Verdict) -> Result<(), Refusal> {
        let records = [&verdict.left, &verdict.right].map(|kept| kept.as_ref().and_then(Kept::named));
        let different = verdict.failure.is_none() && !verdict.changes.is_empty();
        let outcome = match &verdict.failure {
            Some(failure) => failure.outcome,
            None if verdict.reason.is_some() => Outcome::Skipped,
            None if different => Outcome::Different,
            None => Outcome::Same,
        };
        for record in records.iter().flatten().filter(|record| !record.failed) {
            let size = record.details.map_or(0, |d| d.size);
            self.desk.counters[0].outcome(record.kind, outcome, verdict.reason, size);
        }
        if let Some(failure) = &verdict.failure {
            self.desk.fail(failure.clone());
        }
        if !different {
            return Ok(());
        }
        match records {
            [Some(_), Some(_)] => self.counts.changed += 1,
            [Some(_), None] => self.counts.left += 1,
            [None, _] => self.counts.right += 1,
        }
        let [left, right] = records;
        if let Some(changes) = &mut self.changes {
            changes.add(left.as_ref(), right.as_ref())?;
        }
        if let (true, Some(one)) = (self.compare.options.entry_events, left.or(right)) {
            let kept = verdict.left.as_ref().or(verdict.right.as_ref());
            let below = kept.and_then(Kept::record).map_or(&[][..], |record| record.path);
            self.desk.queue.push(Event::Entry(EntryEvent {
                outcome,
                kind: one.kind,
                path: if one.path.is_empty() {
                    b".".to_vec()
                } else {
                    one.path.to_vec()
                },
                source: Compare::full_path(&self.compare.options.left, below),
                destination: Compare::full_path(&self.compare.options.right, below),
                bytes: 0,
                changes: verdict.changes,
                reason: None,
                target: one.target.map(<[u8]>::to_vec),
                hash: None,
                details: None,
            }));
        }
        Ok(())
    }
}

/// The file that says how to turn the left side into the right one.
struct ChangesFile<'c> {
    output: Output,
    form: DiffForm,
    sorters: &'c Sorters,
    /// What the left side has waits here for the end.
    removed: Option<BufWriter<File>>,
    /// The rows of a change list, which has an order of its own.
    rows: Option<Sorter>,
    /// With the extended attributes.
    xattrs: bool,
    /// tar was told not to go into directories.
    flat: bool,
    plain: Vec<u8>,
    line: Vec<u8>,
}

impl<'c> ChangesFile<'c> {
    fn new(mut output: Output, form: DiffForm, xattrs: bool, sorters: &'c Sorters) -> Result<Self, Refusal> {
        if form == DiffForm::Changes {
            output.write(changes::HEADER)?;
        }
        Ok(Self {
            output,
            form,
            sorters,
            removed: None,
            rows: (form == DiffForm::Changes).then(|| sorters.sorter()),
            xattrs,
            flat: false,
            plain: Vec::new(),
            line: Vec::new(),
        })
    }

    /// A row of a change list, or two for what is of another type.
    fn add_row(&mut self, left: Option<&Record<'_>>, right: Option<&Record<'_>>) -> Result<(), Refusal> {
        if let (Some(new), Some(old)) = (left, right)
            && new.kind != old.kind
            && ![new.kind, old.kind].contains(&Kind::Unknown)
        {
            self.add_row(None, right)?;
            return self.add_row(left, None);
        }
        let Some(rows) = &mut self.rows else { return Ok(()) };
        let (op, one) = match (left, right) {
            (Some(left), Some(_)) => (Op::Modify, left),
            (Some(left), None) => (Op::Add, left),
            (None, Some(right)) => (Op::Remove, right),
            (None, None) => return Ok(()),
        };
        let name = changes::name(one.path, one.kind == Kind::Directory);
        let xattrs = self.xattrs;
        let old = right.map_or(State::Absent, |record| record.state(xattrs));
        let new = left.map_or(State::Absent, |record| record.state(xattrs));
        self.line.clear();
        changes::row(op, &name, &old, &new, &mut self.line);
        self.plain.clear();
        self.plain.push(op as u8);
        natural::append_key(&name, &mut self.plain);
        rows.push(&self.plain, &self.line)
            .map_err(|errno| self.sorters.refusal(errno))
    }

    fn add(&mut self, left: Option<&Record<'_>>, right: Option<&Record<'_>>) -> Result<(), Refusal> {
        if self.form == DiffForm::Changes {
            return self.add_row(left, right);
        }
        if let Some(right) = right {
            let directory = right.kind == Kind::Directory;
            if self.form == DiffForm::Tar {
                self.line.clear();
                // What is in a new directory has lines of its own.
                if directory && !self.flat {
                    self.line.extend_from_slice(b"--no-recursion\n");
                    self.flat = true;
                }
                listing::tar_line(right.path, directory, &mut self.line);
            } else {
                self.name(right);
            }
            self.output.write(&self.line)?;
        }
        if let (Some(left), DiffForm::Both) = (left, self.form) {
            self.name(left);
            let removed = match &mut self.removed {
                Some(removed) => removed,
                none => none.insert(BufWriter::new(File::from(self.sorters.file()?))),
            };
            let written = removed
                .write_all(listing::REMOVED)
                .and_then(|()| removed.write_all(&self.line));
            written.map_err(|error| self.sorters.failed(&error))?;
        }
        Ok(())
    }

    fn name(&mut self, record: &Record<'_>) {
        let facts = if record.kind == Kind::Directory {
            Facts::Directory
        } else {
            Facts::Nothing
        };
        listing::plain_line(record.path, &facts, Form::Names, &mut self.plain);
        listing::line(record.path, &facts, Form::Names, &self.plain, &mut self.line);
        self.line.push(b'\n');
    }

    /// False: the run was stopped while somebody was to read the rest.
    fn finish(mut self) -> Result<bool, Refusal> {
        match self.append() {
            Ok(()) => self.output.finish(),
            Err(refusal) => self.output.discard().and(Err(refusal)),
        }
    }

    fn append(&mut self) -> Result<(), Refusal> {
        if let Some(rows) = self.rows.take() {
            let mut sorted = Sorted::merge(vec![rows]).map_err(|errno| self.sorters.refusal(errno))?;
            while let Some((_, row)) = sorted.next().map_err(|errno| self.sorters.refusal(errno))? {
                self.output.write(row)?;
            }
        }
        let Some(removed) = self.removed.take() else {
            return Ok(());
        };
        let failed = |error: &io::Error| self.sorters.failed(error);
        let mut removed = removed.into_inner().map_err(|error| failed(error.error()))?;
        removed.rewind().map_err(|error| failed(&error))?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match removed.read(&mut buffer).map_err(|error| failed(&error))? {
                0 => return Ok(()),
                length => self.output.write(&buffer[..length])?,
            }
        }
    }
}

/// Reads pairs of files, found by their paths.
struct PairReader<'r> {
    compare: &'r Compare,
    desk: &'r Desk,
    left: Finder<'r>,
    right: Finder<'r>,
    buffer: Vec<u8>,
}

impl<'r> PairReader<'r> {
    fn new(compare: &'r Compare, desk: &'r Desk) -> Self {
        Self {
            compare,
            desk,
            left: Finder::new(&compare.options.left),
            right: Finder::new(&compare.options.right),
            buffer: vec![0; 2 * BUFFER_BYTES],
        }
    }

    fn read(&mut self, pair: &mut Verdict) {
        pair.unread = false;
        if self.desk.cancel.is_draining() {
            pair.reason = Some(Reason::NotCompared);
            return;
        }
        let records = [&pair.left, &pair.right].map(|kept| kept.as_ref().and_then(Kept::record));
        let [Some(record), Some(other)] = records else { return };
        let sizes = [record, other].map(|record| record.details.map_or(0, |d| d.size));
        let answer = catch_unwind(AssertUnwindSafe(|| self.same(record.path, sizes)));
        match answer.unwrap_or_else(|panic| Err(Fault::panic(&*panic).into())) {
            Ok(true) => {}
            Ok(false) => {
                pair.changes.insert(Changes::CONTENT);
                pair.changes.insert_if(sizes[0] != sizes[1], Changes::SIZE);
            }
            // Given up on the way: nobody knows.
            Err(Stopped::Aborted) => pair.reason = Some(Reason::NotCompared),
            Err(Stopped::Fault(fault)) => {
                let side = match fault.side {
                    Side::Source => &self.compare.options.left,
                    Side::Destination(_) => &self.compare.options.right,
                };
                let path = Compare::full_path(side, record.path);
                // Both sides are only read: what is gone on either vanished.
                let fault = Fault {
                    side: Side::Source,
                    ..fault
                };
                pair.failure = Some(Failure::new(&fault, path, record.kind, None));
            }
        }
    }

    /// Whether two files are the same, which had these sizes when they were found.
    fn same(&mut self, path: &[u8], sizes: [u64; 2]) -> Result<bool, Stopped> {
        let mut extent = Extent::Tail {
            size: sizes[0],
            tail: sizes[0],
        };
        let mut open = |finder: &mut Finder<'_>, index: usize| {
            let side = if index == 0 { Side::Source } else { Side::Destination(0) };
            let fd = finder.open(path).map_err(|e| Fault::new(Operation::Open, side, e))?;
            let stat = sys::stat_fd(fd.as_fd()).map_err(|e| Fault::new(Operation::Stat, side, e))?;
            if stat.kind != Kind::File || stat.size != sizes[index] {
                return Err(Fault {
                    operation: Operation::Stat,
                    side,
                    cause: Cause::Changed,
                });
            }
            if stat.size == 0 || (stat.allocated == 0 && !has_sizes(fd.as_fd())) {
                extent = Extent::All;
            }
            Ok(fd)
        };
        let fds = [open(&mut self.left, 0)?, open(&mut self.right, 1)?];
        if extent != Extent::All && sizes[0] != sizes[1] {
            return Ok(false);
        }
        let (left, right) = (fds[0].as_fd(), fds[1].as_fd());
        match probe::compare(left, right, extent, 0, self.desk, &mut self.buffer)? {
            Likeness::Same => Ok(true),
            Likeness::Different => Ok(false),
            Likeness::WrongSize(side, ended) => Err(Fault::size(side, sizes[0], ended).into()),
        }
    }
}

/// Opens files of a tree by their paths, without following a link below its root. Paths that come one after the other
/// are mostly of one directory, so that is kept.
struct Finder<'f> {
    root: Option<&'f Root>,
    directory: Option<(Vec<u8>, OwnedFd)>,
}

impl<'f> Finder<'f> {
    fn new(side: &'f SideOptions) -> Self {
        let root = match side {
            SideOptions::Trees(roots) => roots.first(),
            SideOptions::List { .. } => None,
        };
        Self { root, directory: None }
    }

    fn open(&mut self, path: &[u8]) -> sys::Result<OwnedFd> {
        let root = self.root.ok_or(Errno::NOENT)?;
        if path.is_empty() {
            let (directory, name) = split(&root.path);
            let at = open_directory_path(directory, Follow::Yes)?;
            return sys::open_file(at.as_fd(), &c_string(name)?);
        }
        let (parent, name) = split(path);
        if self.directory.as_ref().is_none_or(|(kept, _)| kept != parent) {
            let follow = if root.follow { Follow::Yes } else { Follow::No };
            let mut at = open_directory_path(trim(&root.path), follow)?;
            for component in parent.split(|b| *b == b'/').filter(|c| !c.is_empty()) {
                at = sys::open_directory(at.as_fd(), &c_string(component)?, Follow::No)?;
            }
            self.directory = Some((parent.to_vec(), at));
        }
        let (_, at) = self.directory.as_ref().ok_or(Errno::NOENT)?;
        sys::open_file(at.as_fd(), &c_string(name)?)
    }
}

/// Reads a list into a side.
fn read_list(desk: &Desk, sorters: &Sorters, path: &[u8], form: Option<Form>, align: bool) -> Result<Stream, Refusal> {
    let mut sorter = sorters.sorter();
    // Somebody may still be writing it.
    let resting = desk.resting();
    let Some(list) = ListFile::open(path, sorters, &desk.cancel)? else {
        return Stream::new(vec![sorter], Vec::new(), sorters);
    };
    list.refuse_changes()?;
    let (told, own) = list.survey()?;
    drop(resting);
    let form = form.unwrap_or(told);
    let (mut key, mut payload) = (Vec::new(), Vec::new());
    list.each(|number, line| {
        let listed = listing::parse(line, form).map_err(|error| list.refusal(&format!("line {number}: {error}")))?;
        let Some(Listed { path, facts }) = listed else {
            return Ok(());
        };
        let (kind, hash, target) = match &facts {
            Facts::Nothing => (Kind::Unknown, None, None),
            Facts::Directory => (Kind::Directory, None, None),
            Facts::File(Hash::Xxh64(hash)) => (Kind::File, Some(*hash), None),
            Facts::File(Hash::Unknown) => (Kind::File, None, None),
            Facts::Symlink(target) => (Kind::Symlink, None, Some(&target[..])),
        };
        desk.counters[0].found(kind);
        let record = Record {
            hash,
            target,
            ..Record::new(&path, kind)
        };
        path_key(&path, &mut key);
        record.encode(&mut payload);
        sorter.push(&key, &payload).map_err(|errno| sorters.refusal(errno))
    })?;
    Stream::new(vec![sorter], if align { own } else { Vec::new() }, sorters)
}

/// The sources that a list names, in its order and as arguments: directories with a slash at their end. Hashes and link
/// texts are left off, but where a name with a colon is meant, which is there as it stands. What is in a directory that
/// the list names too comes with that, and is left out; so is what comes again. Of a change list these are the entries
/// that came or became others, but no directory that was there before: it would bring all that is in it. Of hpcp's older
/// list of differences, they are those without a mark.
pub fn listed_sources(path: &[u8], spill_directory: Option<&[u8]>) -> Result<Vec<Vec<u8>>, Refusal> {
    let sorters = Sorters::new(spill_directory, SORT_BYTES, 1);
    // Nobody stops this but with the process.
    let Some(list) = ListFile::open(path, &sorters, &Cancel::default())? else {
        return Ok(Vec::new());
    };
    let is_changes = list.is_changes()?;
    let form = if is_changes { Form::Names } else { list.survey()?.0 };
    let read = |number, line: &[u8]| {
        if is_changes {
            let change = changes::parse(line).map_err(|error| list.refusal(&format!("line {number}: {error}")))?;
            return Ok(change.and_then(came));
        }
        if line.starts_with(listing::REMOVED) {
            return Ok(None);
        }
        let listed = listing::parse(line, form).map_err(|error| list.refusal(&format!("line {number}: {error}")))?;
        let Some(mut listed) = listed else { return Ok(None) };
        if let (Facts::Symlink(target), false) = (&listed.facts, line.starts_with(b"\0")) {
            let whole = [&listed.path[..], b":", target].concat();
            if is_there(&whole) && !is_there(&listed.path) {
                listed.path = whole;
            }
        }
        if listed.path.is_empty() {
            listed.path = b".".to_vec();
        }
        Ok(Some(listed))
    };
    let mut directories = HashSet::new();
    list.each(|number, line| {
        if let Some(listed) = read(number, line)?.filter(|listed| listed.facts == Facts::Directory) {
            let above = above(&listed.path).any(|above| directories.contains(above));
            if !above {
                directories.insert(listed.path);
            }
        }
        Ok(())
    })?;
    let (mut paths, mut seen) = (Vec::new(), HashSet::new());
    list.each(|number, line| {
        let Some(listed) = read(number, line)? else {
            return Ok(());
        };
        if above(&listed.path).any(|above| directories.contains(above)) || !seen.insert(listed.path.clone()) {
            return Ok(());
        }
        let mut path = listed.path;
        if listed.facts == Facts::Directory && !path.ends_with(b"/") {
            path.push(b'/');
        }
        paths.push(path);
        Ok(())
    })?;
    Ok(paths)
}

/// What a change list says that there is and was not, or was not so.
fn came(change: Change) -> Option<Listed> {
    let facts = if change.directory {
        Facts::Directory
    } else {
        Facts::Nothing
    };
    let wanted = change.op == Op::Add || (change.op == Op::Modify && !change.directory);
    wanted.then_some(Listed {
        path: change.path,
        facts,
    })
}

/// The directories above a path, as the path spells them. Above every relative one is `.`.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(at, b)| **b == b'/' && *at > 0);
    let root = if path.starts_with(b"/") { &b"/"[..] } else { b"." };
    let own = (path != root && !path.starts_with(b"../") && path != b"..").then_some(root);
    slashes.map(|(at, _)| &path[..at]).chain(own)
}

fn is_there(path: &[u8]) -> bool {
    std::fs::symlink_metadata(OsStr::from_bytes(path)).is_ok()
}
