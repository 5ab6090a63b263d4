//! Packing: trees become a few large tar files, shards, each with an index, in a directory.
//!
//! Comes in: [`PackOptions`]; goes out: a [`Job`] that walks, cuts (`order`), reads (`read`), writes (`shard`) and sends an event for
//! each shard that is there (`run`). Promises: a shard and its index appear under their names when they are whole,
//! were synced and read back, and nothing that is there is ever written over; every entry that is found is in one shard, but
//! sockets; all names of an inode are in one, and the directories above an entry are there too, so that each shard restores
//! on its own; what could not be read, or changed while it was, is a failure and is in none. Every file is read once. The
//! same tree gives the same bytes. Memory does not grow with the number of entries.
//!
//! Batches of entries are read, and compressed, by all workers at once, and put into the shard one after the other; while a
//! shard is read back the next one is written.

mod find;
mod known;
mod lines;
mod order;
mod place;
mod read;
mod run;
mod shard;
mod tell;

use std::sync::Arc;

use bulkhaul_formats::codec::{Codec, Format};
use bulkhaul_formats::shards;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind};

use self::find::Finder;
use self::known::{Known, Next};
use self::order::Cutter;
use self::place::Place;
use self::read::Bases;
use self::run::Run;
use self::tell::{Teller, outcome_of};
use crate::bytes::output::Output;
use crate::error::{Failure, Refusal, Side, describe};
use crate::job::desk::{Desk, Phase};
use crate::job::resources::{Resources, Staff};
use crate::job::{Job, Work, process};
use crate::pool::schedule::drive;
use crate::records::shards::{Depot, ShardDirectory, Shelf};
use crate::records::sort::{SORT_BYTES, Sorted, Sorters};
use crate::records::survey::Survey;
use crate::report::{Durability, Part, Parts, Report};
use crate::sweep::leftovers;
use crate::tree::descriptors::Budget;
use crate::tree::in_use::InUse;
use crate::tree::path::{self, c_string, join, open_directory_path, show, split, trim};
use crate::tree::protection::protected;
use crate::tree::selection::{self, Selection};
use crate::tree::staging::Stager;
use crate::walk::start::{Root, check_roots};

/// Bytes of a shard where nobody says: what tapes and object stores take well.
pub const SHARD_BYTES: u64 = 10 * 1024 * 1024 * 1024;

/// A packed tree, as asked for.
#[derive(Clone, Debug)]
pub struct PackOptions {
    /// What is packed; a path without a name (`.`, `..`, a slash at the end) stands for what is in it.
    pub sources: Vec<Root>,
    /// The directory that the shards go to; it is made where it is not there.
    pub destination: Vec<u8>,
    /// Exclude rules and their style.
    pub filter: Option<selection::Rules>,
    /// Don't enter other file systems.
    pub one_file_system: bool,
    /// Bytes of content and headers that a shard has at most, unless one file has more.
    pub shard_bytes: u64,
    /// How shards are compressed: as BGZF or zstd.
    pub compression: Option<Format>,
    /// The level of that.
    pub level: Option<u32>,
    /// Cut and tell, write nothing.
    pub dry_run: bool,
    /// Files and directories that the caller uses meanwhile: they are left out.
    pub in_use: Vec<Vec<u8>>,
    /// Directory for temporary files without a name, for what does not fit in memory; `None`: memory is used.
    pub spill_directory: Option<Vec<u8>>,
    /// Memory for sorting, in bytes.
    pub sort_memory: usize,
    /// Worker threads; 0: one a processor.
    pub jobs: usize,
    /// What it may take of the machine.
    pub resources: Resources,
    /// Send an event for each entry.
    pub entry_events: bool,
}

impl Default for PackOptions {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            destination: Vec::new(),
            filter: None,
            one_file_system: false,
            shard_bytes: SHARD_BYTES,
            compression: None,
            level: None,
            dry_run: false,
            in_use: Vec::new(),
            spill_directory: None,
            sort_memory: SORT_BYTES,
            jobs: 0,
            resources: Resources::default(),
            entry_events: false,
        }
    }
}

/// Finds the store that shards go to, where that is no directory.
pub type Find = Box<dyn FnOnce(&Arc<Desk>) -> Result<Arc<dyn Depot>, Refusal> + Send>;

/// A job that packs. Checks the options; touches nothing.
pub fn job(options: PackOptions) -> Result<Job, Refusal> {
    job_to(options, None)
}

/// The same to a store that `find` finds; what `destination` says is for messages then. Shards and indexes are made in files
/// without a name in the directory for temporary files, and go there when they are whole.
pub fn job_to(options: PackOptions, find: Option<Find>) -> Result<Job, Refusal> {
    let process = process::process();
    let staff = Staff::of(options.jobs, process.processors)?;
    path::check(&options.destination)?;
    if options.shard_bytes == 0 {
        return Err(Refusal::Usage("shardSize: a shard holds something".into()));
    }
    let codec = match options.compression {
        None if options.level.is_some() => {
            return Err(Refusal::Usage("level: nothing is compressed".into()));
        }
        None => None,
        Some(format @ (Format::Bgzf | Format::Zstd)) => {
            let codec = Codec::new(format, options.level);
            Some(codec.map_err(|why| Refusal::Usage(format!("level: {why}")))?)
        }
        Some(format) => {
            let text = format!(
                "compression: shards are read from the middle, which {} does not allow",
                format.name()
            );
            return Err(Refusal::Usage(text));
        }
    };
    let roots = check_roots(&options.sources)?;
    check_names(&roots)?;
    let pack = Pack {
        staff,
        roots,
        filter: Selection::of(options.filter.as_ref())?,
        codec,
        find,
        options,
    };
    let resources = pack.options.resources;
    Job::new(staff.most(), pack).within(resources)
}

/// Names in the shards are relative to the one root, or begin with that of their own. Two must not have the same.
fn check_names(roots: &[Root]) -> Result<(), Refusal> {
    if roots.len() > 1
        && let Some(root) = roots.iter().find(|root| root.contents)
    {
        return Err(Refusal::Usage(format!(
            "{}: names relative to what it holds can't be told from those of the others; it can be packed alone",
            show(&root.path)
        )));
    }
    let mut names: Vec<&[u8]> = roots.iter().map(|root| split(trim(&root.path)).1).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Refusal::Usage(format!(
            "{}: two of the sources have this name, and could not be told apart",
            show(pair[0])
        ))),
        None => Ok(()),
    }
}

/// One packed tree with its checked options.
struct Pack {
    options: PackOptions,
    find: Option<Find>,
    staff: Staff,
    roots: Vec<Root>,
    filter: Selection,
    codec: Option<Codec>,
}

impl Pack {
    /// The directory that the shards go to, made where it is not there.
    fn place(&self, depot: Option<&Arc<dyn Depot>>, desk: &Desk) -> Result<Place, Refusal> {
        let path = &self.options.destination;
        let stager = Stager::new();
        if let Some(depot) = depot {
            let scratch = self.options.spill_directory.as_deref().unwrap_or(b".");
            let directory = open_directory_path(scratch, Follow::Yes);
            return Ok(Place {
                directory: directory
                    .map_err(|errno| Refusal::NoStart(format!("{}: {}", show(scratch), describe(errno))))?,
                path: path.clone(),
                depot: Some(Arc::clone(depot)),
                codec: self.codec,
                stager,
            });
        }
        let refused = |errno| Refusal::NoDestination(format!("{}: {}", show(path), describe(errno)));
        let open = || open_directory_path(path, Follow::Yes);
        let directory = match open() {
            Err(Errno::NOENT) => {
                let (above, name) = split(path);
                let at = open_directory_path(above, Follow::Yes).map_err(refused)?;
                let name = c_string(name).map_err(refused)?;
                match sys::make_directory_as(at.as_fd(), &name, 0o777) {
                    Ok(()) | Err(Errno::EXIST) => open().map_err(refused)?,
                    Err(errno) => return Err(refused(errno)),
                }
            }
            opened => opened.map_err(refused)?,
        };
        let stat = sys::stat_fd(directory.as_fd()).map_err(refused)?;
        if let Some(why) = protected(stat.protection) {
            return Err(Refusal::NoDestination(format!(
                "{}: {why}, so no shard gets its name there",
                show(path)
            )));
        }
        leftovers::clear_files(&directory, Side::Destination(0), stager, desk).map_err(|fault| {
            Refusal::NoDestination(Failure::new(&fault, path.clone(), Kind::Directory, None).message)
        })?;
        Ok(Place {
            directory,
            path: path.clone(),
            depot: None,
            codec: self.codec,
            stager,
        })
    }

    fn pack(
        &self,
        desk: &Arc<Desk>,
        (sorters, sorted): (&Sorters, &mut Sorted),
        (next, known): (Next, Option<Known>),
        depot: Option<&Arc<dyn Depot>>,
    ) -> Result<Parts, Refusal> {
        desk.enter(Phase::Copying);
        let (bases, teller) = (Bases::open(&self.roots)?, self.teller(desk));
        let (mut changed, mut unchanged) = (None, 0);
        if let Some(known) = known {
            let mut same = |path: &[u8], kind, bytes| {
                unchanged += bytes;
                teller.unchanged((path, kind, &bases.path(path)), bytes);
            };
            changed = Some(known.join((desk, &mut same), sorters, sorted, self.options.dry_run)?);
        }
        let (sorted, removed) = match &mut changed {
            Some((changed, removed)) => (changed, removed.take()),
            None => (sorted, None),
        };
        let rooted = self.roots.iter().any(|root| root.contents);
        let mut cutter = Cutter::new(desk, (sorters, sorted), self.options.shard_bytes, rooted)?;
        let suffix = self.codec.map_or("", |codec| codec.format().suffix());
        if self.options.dry_run {
            return self.rehearse((teller, &bases), &mut cutter, (next.shard, suffix));
        }
        // Once as it is packed, and once as it is proved.
        let unread = unchanged + cutter.further_bytes();
        desk.expect_found(|found| desk.read_bytes() + 2 * found.saturating_sub(unread));
        let place = Arc::new(self.place(depot, desk)?);
        let run = Run::new((desk, teller), &place, (&bases, cutter), next);
        let (_, most, _) = Budget::share(desk.counters.len());
        let workers = self.staff.steady(most);
        desk.staff(workers);
        if let Some(error) = drive(workers, |index| run.work(index)) {
            desk.lacks_worker(&error);
        }
        run.end(removed)
    }

    fn teller<'t>(&self, desk: &'t Desk) -> Teller<'t> {
        Teller {
            desk,
            entries: self.options.entry_events,
        }
    }

    /// Tells of the shards that there would be.
    fn rehearse(
        &self,
        (teller, bases): (Teller<'_>, &Bases),
        cutter: &mut Cutter<'_>,
        (first, suffix): (u64, &str),
    ) -> Result<Parts, Refusal> {
        let (mut parts, mut part) = (Parts::default(), Part::default());
        let desk = teller.desk;
        let counters = &desk.counters[0];
        while !desk.cancel.is_draining()
            && let Some(batch) = cutter.batch()?
        {
            part.number = batch.shard + first;
            part.path = join(&self.options.destination, &shards::name(part.number, suffix));
            for item in batch.items.iter().filter(|item| !item.again) {
                let bytes = if item.leader.is_none() { item.content() } else { 0 };
                let outcome = outcome_of(item.kind(), item.leader.is_some());
                counters.planned(bytes, bytes, true);
                counters.outcome(item.kind(), outcome, None, bytes);
                teller.tell(item, || (bases.path(&item.path), part.path.clone()), outcome, bytes);
                (part.entries, part.bytes) = (part.entries + 1, part.bytes + bytes);
            }
            if batch.last {
                teller.add(&mut parts, std::mem::take(&mut part));
            }
        }
        Ok(parts)
    }
}

impl Work for Pack {
    fn run(mut self: Box<Self>, desk: &Arc<Desk>) -> Result<Report, Refusal> {
        let find = self.find.take();
        let options = &self.options;
        let depot = find.map(|find| find(desk)).transpose()?;
        let there = match &depot {
            Some(depot) => Some(ShardDirectory::of(Arc::clone(depot) as Arc<dyn Shelf>, desk)?),
            None => ShardDirectory::open(&options.destination, desk)?,
        };
        let (next, known) = there.map_or(Ok((Next::default(), None)), |there| {
            let sorters = Sorters::new(options.spill_directory.as_deref(), options.sort_memory / 2, 1);
            Known::read(&there, &sorters.counted(desk.steps()), desk)
        })?;
        let mut used = options.in_use.clone();
        if depot.is_none() {
            used.push(options.destination.clone());
        }
        let survey = Survey {
            roots: &self.roots,
            filter: &self.filter,
            rules: options.filter.as_ref(),
            one_file_system: options.one_file_system,
            files_from: None,
            staff: self.staff,
            spill_directory: options.spill_directory.as_deref(),
            sort_memory: options.sort_memory,
            output: None,
            read_at_most: u64::MAX,
        };
        let (mut parts, by_path) = (Parts::default(), known.is_some());
        let look = |_: Option<&Output>| Ok(Finder::new(desk, InUse::of(&used), by_path));
        let mut report = survey.run(desk, look, |sorters, sorted, _| {
            parts = self.pack(desk, (sorters, sorted), (next, known), depot.as_ref())?;
            Ok(())
        })?;
        report.parts = Some(parts);
        if !options.dry_run {
            report.sync = Durability::All;
        }
        Ok(report)
    }
}
