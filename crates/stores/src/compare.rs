//! Compare: two places side by side, of which one at least is a store.
//!
//! Comes in: [`CompareOptions`]; goes out: a [`Job`], whose report counts what only one side has and what both have otherwise,
//! and, where that is asked for, the engine's file that says how to turn one into the other. Both are listed in the order of
//! their keys, meet key by key, and are told in that order. Files differ when their sizes do, or, where that is asked for,
//! their contents or their ends, which are read on both sides: no sum that somebody kept is taken for them. Nothing else is
//! written.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bulkhaul_engine::Kind;
use bulkhaul_engine::bytes::output::Output;
use bulkhaul_engine::compare::changes::ChangesFile;
use bulkhaul_engine::compare::options::{Content, DiffForm};
use bulkhaul_engine::entry::{Changes, Outcome, Reason};
use bulkhaul_engine::error::{Failure, Fault, Operation, Refusal, Stopped};
use bulkhaul_engine::event::{EntryEvent, Event};
use bulkhaul_engine::job::desk::{Desk, Phase};
use bulkhaul_engine::job::resources::Resources;
use bulkhaul_engine::job::{Job, Work};
use bulkhaul_engine::pool::window::in_order;
use bulkhaul_engine::records::record::Record;
use bulkhaul_engine::records::sort::{SORT_BYTES, Sorters};
use bulkhaul_engine::report::{Differences, Durability, Report};
use bulkhaul_engine::tree::path::show;
use bulkhaul_engine::tree::selection::{Rules, Selection};
use bulkhaul_formats::digest::TAIL_BYTES;

use crate::join::{Broken, Join, Met};
use crate::local::{LINK_SUFFIX, LocalOptions};
use crate::location::Location;
use crate::lone::Lone;
use crate::s3::Config;
use crate::session::{JOBS, Session, SessionOptions};
use crate::store::{Entry, Facts, Store, Summing, Sums};
use crate::times::is_same;

/// What a question costs, in bytes that could be read meanwhile: so much work is one for the pool.
const QUESTION_BYTES: u64 = 256 << 10;

/// A comparison, as asked for.
#[derive(Clone)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an independent option of the command line"
)]
pub struct CompareOptions {
    /// URL or path: what is, or was.
    pub left: Vec<u8>,
    /// What it is compared with.
    pub right: Vec<u8>,
    /// How the store of the left side is reached.
    pub left_config: Config,
    /// The same of the right side.
    pub right_config: Config,
    /// What is read of files where the sizes are equal.
    pub content: Content,
    /// Bytes at the ends of files that are compared with [`Content::Tail`]; none: as many as of two trees.
    pub hash_size: Option<u64>,
    /// Also modes, owners and times, as far as both sides keep them.
    pub metadata: bool,
    /// Symlinks are compared by their texts, with the objects that hold those in a store.
    pub links: bool,
    /// Of a path: don't enter other file systems.
    pub one_file_system: bool,
    /// Where the differences go.
    pub output: Option<Vec<u8>>,
    /// In which form.
    pub form: DiffForm,
    /// Exclude rules; what they exclude is nowhere looked at.
    pub filter: Option<Rules>,
    /// Requests and parts.
    pub session: SessionOptions,
    /// Entries at work at once; 0: as many as suit the places.
    pub jobs: usize,
    /// What it may take of the machine.
    pub resources: Resources,
    /// Directory for temporary files without a name; none: memory is used.
    pub spill_directory: Option<Vec<u8>>,
    /// An event for each difference.
    pub entry_events: bool,
}

/// A job that compares. Checks the options; asks nothing yet.
pub fn job(options: CompareOptions) -> Result<Job, Refusal> {
    let places = [Location::parse(&options.left)?, Location::parse(&options.right)?];
    if let [Location::Local(_), Location::Local(_)] = places {
        return Err(Refusal::Usage("both places are paths: compare compares them".into()));
    }
    let refusal = match (options.form, &places[1]) {
        (DiffForm::Changes, _) => Some("form: a change list has what is known of files, and a store knows too little"),
        (DiffForm::Tar, Location::Local(_)) | (DiffForm::Both, _) => None,
        (DiffForm::Tar, _) => Some("form: tar reads files of this machine, and the right side is elsewhere"),
    };
    if let Some(text) = refusal {
        return Err(Refusal::Usage(text.into()));
    }
    let customary = places.iter().map(Location::jobs).min().unwrap_or(JOBS);
    let workers = match options.jobs {
        // What is only listed comes in its order.
        _ if options.content == Content::Nothing && !options.metadata => 1,
        0 => customary,
        jobs => jobs,
    };
    let (resources, selection) = (options.resources, Selection::of(options.filter.as_ref())?);
    let compare = Compare {
        options,
        places,
        selection,
    };
    Job::new(workers, compare).within(resources)
}

struct Compare {
    options: CompareOptions,
    places: [Location; 2],
    selection: Selection,
}

impl Work for Compare {
    fn run(self: Box<Self>, desk: &Arc<Desk>) -> Result<Report, Refusal> {
        let options = &self.options;
        let session = Session::open(options.session, Arc::clone(&desk.cancel))?;
        let local = LocalOptions {
            filter: options.filter.clone(),
            one_file_system: options.one_file_system,
            links: options.links,
            spill_directory: options.spill_directory.clone(),
            ..LocalOptions::default()
        };
        let [left, right] = &self.places;
        // Both are read only.
        let left = Lone::open((left, &options.left_config), None, &session, &local)?;
        // Two files are one pair, whatever they are called.
        let right = Lone::open((right, &options.right_config), Some(left.name()), &session, &local)?;
        let workers = desk.counters.len();
        desk.staff(workers);
        desk.enter(Phase::Scanning);
        // What is compared is found on the way: nobody knows how much there is before the end.
        desk.unlisted();
        let (ours, theirs) = (left.list(desk)?, right.list(desk)?);
        if left.is_file() != right.is_file() {
            let (file, other) = if left.is_file() {
                (&left, &right)
            } else {
                (&right, &left)
            };
            let [file, other] = [file, other].map(|place| show(&place.path(b"")));
            return Err(Refusal::Usage(format!("{file} is a file, and {other} is a directory")));
        }
        let join = Join::new(ours, theirs, false);
        let sorters = Sorters::new(options.spill_directory.as_deref(), SORT_BYTES / 4, 1).counted(desk.steps());
        let output = options.output.as_ref();
        let output = output.map(|path| Output::create(path, desk));
        let changes = output
            .transpose()?
            .map(|output| ChangesFile::new(output, options.form, false, &sorters));
        let look = Look {
            options,
            desk,
            sides: [&*left, &*right],
            directories: left.abilities().directories == right.abilities().directories,
        };
        let mut finder = Finder {
            look: &look,
            selection: &self.selection,
            join,
            walks: [&left, &right].map(|side| side.abilities().walks),
            entries: [0; 2],
            partial: false,
        };
        let mut teller = Teller {
            look: &look,
            counts: Differences::default(),
            changes: changes.transpose()?,
        };
        let done = in_order(
            workers,
            |_| (),
            || Ok(finder.next()),
            |(), pair| look.compare(pair),
            |pair| teller.tell(pair),
            |error| desk.lacks_worker(&error),
        );
        desk.listed();
        let mut interrupted = desk.cancel.is_draining();
        let Teller {
            mut counts, changes, ..
        } = teller;
        [counts.left_entries, counts.right_entries] = finder.entries;
        desk.enter(Phase::Closing);
        match changes {
            Some(changes) if done.is_ok() && !interrupted => interrupted = !changes.finish()?,
            Some(changes) => changes.discard()?,
            None => {}
        }
        done?;
        let mut report = desk.report(Durability::None, desk.most_staff(), interrupted);
        report.differences = counts;
        Ok(report)
    }
}

/// A key, and what is to be said of it.
struct Pair {
    both: [Option<Entry>; 2],
    /// None: the contents, or what else is kept, have to tell.
    verdict: Option<Result<Verdict, Stopped>>,
}

/// What became of it, what differs, and why it was not compared.
type Verdict = (Outcome, Changes, Option<Reason>);

/// Where keys come from.
struct Finder<'f> {
    look: &'f Look<'f>,
    selection: &'f Selection,
    join: Join<'f>,
    /// A walk counts what it finds.
    walks: [bool; 2],
    entries: [u64; 2],
    /// Not all is known of what there is: what one side has alone after that is no difference.
    partial: bool,
}

impl Finder<'_> {
    /// The next key, and the bytes of work that it is. An error of a listing is told.
    fn next(&mut self) -> Option<(Pair, Option<u64>)> {
        let desk = self.look.desk;
        while !desk.cancel.is_draining() {
            let (stopped, side) = match self.join.next() {
                Ok(Some(met)) if self.is_excluded(&met) => {
                    desk.counters[0].excluded();
                    continue;
                }
                Ok(Some(met)) => {
                    let both = [met.source, met.destination];
                    self.found(&both);
                    let verdict = self.look.judge(&both, self.partial);
                    let work = verdict.is_none().then(|| self.look.work(&both));
                    return Some((Pair { both, verdict }, work));
                }
                Ok(None) => return None,
                Err(Broken::Source(stopped)) => (stopped, 0),
                Err(Broken::Destination(stopped)) => (stopped, 1),
            };
            self.partial = true;
            if let Stopped::Fault(fault) = stopped {
                let path = self.look.sides[side].path(b"");
                desk.fail(Failure::new(&fault, path, Kind::Directory, None));
            }
        }
        None
    }

    /// Whether rules exclude a key; a walk has heeded them.
    fn is_excluded(&self, met: &Met) -> bool {
        met.source
            .as_ref()
            .or(met.destination.as_ref())
            .is_some_and(|entry| !entry.failed && self.selection.excludes_path(entry.path(), entry.kind))
    }

    fn found(&mut self, both: &[Option<Entry>; 2]) {
        let counters = &self.look.desk.counters[0];
        for (at, entry) in both.iter().enumerate() {
            let Some(entry) = entry else { continue };
            if !self.walks[at] {
                counters.found(entry.kind);
                counters.sized(entry.size, entry.size);
            }
            self.entries[at] += 1;
        }
    }
}

/// How two entries are looked at.
struct Look<'l> {
    options: &'l CompareOptions,
    desk: &'l Arc<Desk>,
    sides: [&'l dyn Store; 2],
    /// Both sides have directories of their own, or neither: to two stores a marker is an object like any other.
    directories: bool,
}

impl Look<'_> {
    /// What a listing tells, if that is enough.
    fn judge(&self, both: &[Option<Entry>; 2], partial: bool) -> Option<Result<Verdict, Stopped>> {
        let there: Vec<&Entry> = both.iter().flatten().collect();
        let unknown = there.iter().any(|entry| entry.failed) || partial && there.len() < 2;
        let reason = there.iter().find_map(|entry| match entry.kind {
            _ if unknown => Some(Reason::NotCompared),
            Kind::File => None,
            Kind::Directory if self.directories => None,
            Kind::Directory => Some(Reason::NotNeeded),
            Kind::Symlink => Some(Reason::NotAFile),
            _ => Some(Reason::Special),
        });
        let verdict = match (reason, both) {
            (Some(reason), _) => (Outcome::Skipped, Changes::default(), Some(reason)),
            (None, [Some(left), Some(right)]) => {
                let changes = differing(left, right);
                let open = left.kind == Kind::File && changes.is_empty() && self.read_from(left) < left.size;
                if open || self.options.metadata && left.kind == right.kind {
                    return None;
                }
                said(changes)
            }
            (None, [Some(_), None]) => said(Changes::NEW),
            (None, _) => said(Changes::EXTRA),
        };
        Some(Ok(verdict))
    }

    /// Bytes at the end of a file.
    fn tail(&self) -> u64 {
        self.options.hash_size.unwrap_or(TAIL_BYTES)
    }

    /// The byte from which on both contents are read. The text of a symlink is all that it is.
    fn read_from(&self, entry: &Entry) -> u64 {
        match self.options.content {
            _ if self.options.links && entry.key.ends_with(LINK_SUFFIX) => 0,
            Content::Nothing => entry.size,
            Content::Tail => entry.size.saturating_sub(self.tail()),
            Content::Whole => 0,
        }
    }

    /// Bytes of work that both are.
    fn work(&self, both: &[Option<Entry>; 2]) -> u64 {
        let read = |entry: &Entry| entry.size - self.read_from(entry);
        let most = both.iter().flatten().map(read).max().unwrap_or(0);
        most.saturating_add(QUESTION_BYTES)
    }

    /// Finds out what the listing did not tell; answers the bytes of work that it was.
    fn compare(&self, pair: &mut Pair) -> u64 {
        if let [Some(left), Some(right)] = &pair.both {
            let found = catch_unwind(AssertUnwindSafe(|| self.differs(left, right)));
            pair.verdict = Some(found.unwrap_or_else(|panic| Err(Fault::panic(&*panic).into())));
        }
        self.work(&pair.both)
    }

    fn differs(&self, left: &Entry, right: &Entry) -> Result<Verdict, Stopped> {
        let mut changes = differing(left, right);
        let entries = [left, right];
        if self.options.metadata {
            let mut kept = [Facts::default(), Facts::default()];
            for (at, entry) in entries.into_iter().enumerate() {
                kept[at] = self.kept(at, entry)?;
            }
            changes.insert(otherwise(&kept[0], &kept[1], left.kind));
        }
        if left.kind == Kind::File && !changes.contains(Changes::CONTENT) {
            let from = self.read_from(left);
            if from < left.size {
                let sums = [self.sums(0, left, from)?, self.sums(1, right, from)?];
                let differ = (sums[0].bytes, &sums[0].blake3) != (sums[1].bytes, &sums[1].blake3);
                changes.insert_if(differ, Changes::CONTENT);
            }
        }
        Ok(said(changes))
    }

    /// What a side keeps of an entry beside its content.
    fn kept(&self, at: usize, entry: &Entry) -> Result<Facts, Stopped> {
        if let Some(facts) = &entry.facts {
            return Ok(facts.clone());
        }
        let now = self.sides[at].stat(&entry.key)?;
        let now = now.ok_or_else(|| Fault::changed(Operation::Stat))?;
        Ok(now.facts.unwrap_or_default())
    }

    /// Reads an entry from a byte on.
    fn sums(&self, at: usize, entry: &Entry, from: u64) -> Result<Sums, Stopped> {
        let (store, mut sums) = (self.sides[at], Summing::new());
        let part_bytes = store.part_bytes(entry.size);
        if from > 0 {
            let mut at = from;
            while at < entry.size {
                let wanted = part_bytes.min(entry.size - at);
                self.desk.may_go_on(wanted)?;
                let part = store.range(entry, at, wanted)?;
                if part.len() as u64 != wanted {
                    return Err(Fault::changed(Operation::Read).into());
                }
                sums.update(&part);
                at += wanted;
            }
            return Ok(sums.finish());
        }
        let mut reading = store.read(entry)?;
        while let Some(part) = reading.next(part_bytes)? {
            self.desk.may_go_on(part.bytes.len() as u64)?;
            sums.update(&part.bytes);
        }
        reading.close()?;
        Ok(sums.finish())
    }
}

fn said(changes: Changes) -> Verdict {
    let outcome = if changes.is_empty() {
        Outcome::Same
    } else {
        Outcome::Different
    };
    (outcome, changes, None)
}

/// What differs as listings tell it.
fn differing(left: &Entry, right: &Entry) -> Changes {
    let mut changes = Changes::default();
    if left.kind != right.kind || left.kind == Kind::File && left.size != right.size {
        changes.insert(Changes::SIZE);
        changes.insert(Changes::CONTENT);
    }
    changes
}

/// What else differs of what both sides keep. Directories have times of their own on a disk only.
fn otherwise(left: &Facts, right: &Facts, kind: Kind) -> Changes {
    fn differ<T: PartialEq>(left: Option<T>, right: Option<T>) -> bool {
        matches!((left, right), (Some(left), Some(right)) if left != right)
    }
    let mut changes = Changes::default();
    let times = left.mtime.zip(right.mtime);
    let other = kind == Kind::File && times.is_some_and(|(left, right)| !is_same(left, right));
    changes.insert_if(other, Changes::TIME);
    changes.insert_if(differ(left.mode, right.mode), Changes::MODE);
    changes.insert_if(differ(left.uid, right.uid), Changes::OWNER);
    changes.insert_if(differ(left.gid, right.gid), Changes::GROUP);
    changes
}

/// Tells pairs: to the books, to who reads events, and to the file of changes.
struct Teller<'t> {
    look: &'t Look<'t>,
    counts: Differences,
    changes: Option<ChangesFile<'t>>,
}

impl Teller<'_> {
    fn tell(&mut self, Pair { both, verdict }: Pair) -> Result<(), Refusal> {
        let (desk, sides) = (self.look.desk, self.look.sides);
        // What could not be looked at has its outcome.
        let there = || both.iter().flatten().filter(|entry| !entry.failed);
        match verdict {
            Some(Ok((outcome, changes, reason))) => {
                for entry in there() {
                    desk.counters[0].outcome(entry.kind, outcome, reason, entry.size);
                }
                if outcome == Outcome::Different {
                    return self.differs(&both, changes);
                }
            }
            // Nothing stays of what is only read.
            None | Some(Err(Stopped::Aborted)) => {}
            Some(Err(Stopped::Fault(fault))) => {
                for entry in there() {
                    desk.counters[0].outcome(entry.kind, fault.outcome(), None, 0);
                }
                let path = there().next().map_or_else(Vec::new, |entry| sides[0].path(&entry.key));
                desk.fail(Failure::new(&fault, path, Kind::File, None));
            }
        }
        Ok(())
    }

    fn differs(&mut self, both: &[Option<Entry>; 2], changes: Changes) -> Result<(), Refusal> {
        match both {
            [Some(_), Some(_)] => self.counts.changed += 1,
            [Some(_), None] => self.counts.left += 1,
            [None, _] => self.counts.right += 1,
        }
        let [left, right] = both.each_ref().map(|entry| {
            let entry = entry.as_ref()?;
            Some(Record::new(entry.path(), entry.kind))
        });
        if let Some(file) = &mut self.changes {
            file.add(left.as_ref(), right.as_ref())?;
        }
        let [left, right] = both;
        let (true, Some(one)) = (self.look.options.entry_events, left.as_ref().or(right.as_ref())) else {
            return Ok(());
        };
        self.look.desk.queue.push(Event::Entry(EntryEvent {
            outcome: Outcome::Different,
            kind: one.kind,
            path: one.key.clone(),
            source: self.look.sides[0].path(&one.key),
            destination: self.look.sides[1].path(&one.key),
            bytes: 0,
            changes,
            reason: None,
            target: None,
            hash: None,
            digests: Vec::new(),
            details: None,
        }));
        Ok(())
    }
}
