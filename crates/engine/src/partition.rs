//! The partition: what is in trees, divided into parts that are worked on side by side, each with a list.
//!
//! Comes in: [`PartitionOptions`]; goes out: a [`Job`] that walks, packs ([`pack`]), writes the lists, and sends an event for
//! each part. Promises: every entry that is found is in one list, once: directories too, empty ones and those that can't be
//! read, which are failures in the report as well; names of one inode are in one part; what a list can't have is a failure
//! with its name. The same tree and options give the same parts, but for those that are handed on while the walk goes on. A
//! list appears under its name when it is whole, and lists of another run are never mixed with those of this one. Memory
//! does not grow with the number of entries, only with that of parts.

mod gather;
mod lists;
mod live;
pub mod pack;
mod plan;
mod record;

use std::sync::Arc;

use bulkhaul_formats::lists::parts::{Format, Writer};

use self::gather::{Gather, Taker};
use self::lists::Lists;
pub use self::lists::Target;
use self::live::Live;
use self::pack::{Division, MOST_PARTS};
use self::plan::{Found, Plan, Sorts};
use crate::error::Refusal;
use crate::job::desk::{Desk, Phase};
use crate::job::resources::{Resources, Staff};
use crate::job::{Job, Work, process};
use crate::pool::schedule::Crew;
use crate::records::sort::SORT_BYTES;
use crate::report::{Durability, Parts, Report};
use crate::tree::descriptors::Budget;
use crate::tree::path::{self, show, split, trim};
use crate::tree::selection::{self, Selection};
use crate::walk::Walk;
use crate::walk::named::Named;
use crate::walk::names::FilesFrom;
use crate::walk::scout::{Ahead, Begin, Scout};
use crate::walk::start::{Boundary, Root, Start, check_roots, media, require_one};

/// What an entry costs beside its bytes, in bytes, where nobody says: what a copy moves in the time that a file takes
/// whatever its size.
pub const ENTRY_COST: u64 = 64 * 1024;
/// The most that an entry may cost: 1 TiB.
const MOST_COST: u64 = 1 << 40;

/// A partition, as asked for.
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an independent option of the command line"
)]
pub struct PartitionOptions {
    /// What is divided; a path without a name (`.`, `..`, a slash at the end) stands for what is in it.
    pub sources: Vec<Root>,
    /// Exclude rules and their style.
    pub filter: Option<selection::Rules>,
    /// Only what a list names of the one source, which stands for its contents.
    pub files_from: Option<FilesFrom>,
    /// Don't enter other file systems.
    pub one_file_system: bool,
    /// Into how many parts, or how much each may hold.
    pub division: Division,
    /// Parts are handed on while the walk goes on; with limits only.
    pub live: bool,
    /// What an entry costs beside its bytes, in bytes.
    pub cost: u64,
    /// For whom the lists are.
    pub format: Format,
    /// Names end with NUL.
    pub nul: bool,
    /// Where the lists go.
    pub target: Target,
    /// Lists that are there go when those of this run come. Otherwise they are a refusal.
    pub replace: bool,
    /// Plan and tell, write nothing.
    pub dry_run: bool,
    /// Directory for temporary files without a name, for what does not fit in memory; `None`: memory is used.
    pub spill_directory: Option<Vec<u8>>,
    /// Memory for sorting, in bytes.
    pub sort_memory: usize,
    /// Worker threads; 0: as many as serve best on the media.
    pub jobs: usize,
    /// What it may take of the machine.
    pub resources: Resources,
}

impl Default for PartitionOptions {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            filter: None,
            files_from: None,
            one_file_system: false,
            division: Division::Parts(1),
            live: false,
            cost: ENTRY_COST,
            format: Format::Names,
            nul: false,
            target: Target::Nowhere,
            replace: false,
            dry_run: false,
            spill_directory: None,
            sort_memory: SORT_BYTES,
            jobs: 0,
            resources: Resources::default(),
        }
    }
}

/// A job that divides trees. Checks the options; touches nothing.
pub fn job(options: PartitionOptions) -> Result<Job, Refusal> {
    let process = process::process();
    let staff = Staff::of(options.jobs, process.processors)?;
    check(&options)?;
    let numbered = matches!(options.target, Target::One(_));
    let writer = Writer::new(options.format, options.nul, numbered).map_err(|why| Refusal::Usage(why.to_owned()))?;
    let roots = check_roots(&options.sources)?;
    check_names(&roots)?;
    if options.files_from.as_ref().is_some_and(|from| !from.contents) {
        return Err(Refusal::Usage(
            "files-from: a directory that is named comes with what is in it".into(),
        ));
    }
    if options.files_from.is_some() && (roots.len() != 1 || !roots[0].contents) {
        return Err(Refusal::Usage(
            "files-from: its names are relative to one source with a slash at its end".into(),
        ));
    }
    let partition = Partition {
        staff,
        roots,
        filter: Selection::of(options.filter.as_ref())?,
        writer,
        options,
    };
    let resources = partition.options.resources;
    Job::new(staff.most(), partition).within(resources)
}

fn check(options: &PartitionOptions) -> Result<(), Refusal> {
    let usage = |text: String| Err(Refusal::Usage(text));
    match options.division {
        Division::Parts(0) => return usage("parts: there is no tree in no parts".into()),
        Division::Parts(number) if number > MOST_PARTS => {
            return usage(format!("parts: {number} is more than {MOST_PARTS}"));
        }
        Division::Parts(_) if options.live => {
            return usage("live: how much goes into one of so many parts is known when the walk has ended".into());
        }
        Division::Limits(limits) if limits.entries == 0 => return usage("maxEntries: a part holds something".into()),
        Division::Parts(_) | Division::Limits(_) => {}
    }
    if options.cost > MOST_COST {
        return usage(format!("cost: {} is more than {MOST_COST}", options.cost));
    }
    match &options.target {
        Target::Template(template) => {
            path::check(template)?;
            if template.ends_with(b"/") || matches!(split(template).1, b"" | b"." | b"..") {
                let template = show(template);
                return usage(format!(
                    "{template}: a directory; lists are called by a name in one, a dot and a number"
                ));
            }
        }
        Target::One(path) => path::check(path)?,
        Target::Nowhere => {}
    }
    Ok(())
}

/// Names in the lists are relative to the one root, or begin with that of their own. Two must not have the same.
fn check_names(roots: &[Root]) -> Result<(), Refusal> {
    if roots.len() > 1
        && let Some(root) = roots.iter().find(|root| root.contents)
    {
        return Err(Refusal::Usage(format!(
            "{}: names relative to what it holds can't be told from those of the others; it can be divided alone",
            show(&root.path)
        )));
    }
    let mut names: Vec<&[u8]> = roots.iter().map(|root| split(trim(&root.path)).1).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Refusal::Usage(format!(
            "{}: the names below two of the sources begin so, and could not be told apart",
            show(pair[0])
        ))),
        None => Ok(()),
    }
}

/// One partition with its checked options.
struct Partition {
    options: PartitionOptions,
    staff: Staff,
    roots: Vec<Root>,
    filter: Selection,
    writer: Writer,
}

/// What a walk needs beside its visitor.
struct Way<'w> {
    crew: &'w Crew,
    budget: &'w Arc<Budget>,
    /// What is walked instead of the roots.
    named: Option<&'w Named<'w>>,
}

impl Partition {
    /// What the list names. None: there is no list, or it names the root itself.
    fn named<'n>(&'n self, desk: &'n Desk) -> Result<Option<Named<'n>>, Refusal> {
        let Some(from) = &self.options.files_from else {
            return Ok(None);
        };
        let path = &self.roots[0].path;
        let list = from.read_within(path, desk)?;
        if list.lists_root() {
            return Ok(None);
        }
        Named::of(&list, &self.roots[0], desk, true).map(Some)
    }

    fn walk(&self, desk: &Arc<Desk>, way: &Way<'_>, place: Option<Arc<lists::Place>>, taker: &impl Taker) {
        let walk = Walk {
            filter: &self.filter,
            boundary: Boundary::of(self.options.one_file_system),
            across: &[],
            desk,
            crew: way.crew,
            budget: way.budget,
        };
        let gather = Gather::new(desk, &self.roots, self.writer, place, taker);
        if let Some(named) = way.named {
            return walk.run(Start::Parts(named), &gather);
        }
        let _scout = Scout::send(
            desk,
            Ahead {
                begin: Begin::Trees(self.roots.clone()),
                filter: self.options.filter.clone(),
                boundary: walk.boundary,
                passes: 1,
                to_read: None,
            },
        );
        walk.run(Start::Roots(&self.roots), &gather);
    }

    /// Walks, packs, and writes the lists.
    fn planned(&self, desk: &Arc<Desk>, way: &Way<'_>, sorts: &Sorts, mut lists: Lists) -> Result<Parts, Refusal> {
        let found = Found::new(sorts, desk);
        self.walk(desk, way, lists.place(), &found);
        let things = found.into_things()?;
        desk.enter(Phase::Closing);
        let division = (self.options.division, self.options.cost);
        let plan = plan::pack(things, division, sorts, desk, !self.options.dry_run)?;
        let written = write(desk, sorts, plan, &mut lists);
        let whole = written.is_ok() && !desk.cancel.is_draining();
        let parts = lists.close(whole)?;
        written.map(|()| parts)
    }
}

/// Writes the lists of a plan, or only tells of its parts.
fn write(desk: &Desk, sorts: &Sorts, plan: Plan, lists: &mut Lists) -> Result<(), Refusal> {
    let Plan {
        loads,
        split,
        range,
        entries,
    } = plan;
    let splits = |part: usize| split.get(&part).copied().unwrap_or_default();
    let Some(mut entries) = entries else {
        for (number, load) in loads.iter().enumerate() {
            if load.entries > 0 && !desk.cancel.is_draining() {
                let part = lists.begin()?;
                lists.end(part, *load, splits(number))?;
            }
        }
        return Ok(());
    };
    let (mut line, mut open) = (Vec::new(), None);
    while let Some((number, name, record)) = plan::next_entry(&mut entries, sorts)? {
        if desk.cancel.is_draining() {
            return open.map_or(Ok(()), |(_, part): (usize, lists::OpenPart)| part.give_up());
        }
        if let Some((number, part)) = open.take_if(|(other, _)| *other != number) {
            lists.end(part, loads[number], splits(number))?;
        }
        let (_, part) = match &mut open {
            Some(open) => open,
            None => open.insert((number, lists.begin()?)),
        };
        let range = (record.bytes > range).then_some(range);
        lists.write(part, (name, record), range, &mut line)?;
    }
    match open {
        Some((number, part)) => lists.end(part, loads[number], splits(number)),
        None => Ok(()),
    }
}

impl Work for Partition {
    fn run(self: Box<Self>, desk: &Arc<Desk>) -> Result<Report, Refusal> {
        require_one(&self.roots)?;
        let options = &self.options;
        let (budget, most, _) = Budget::share(desk.counters.len());
        let crew = self.staff.crew(&media(&self.roots), most);
        desk.staff(crew.active());
        let named = self.named(desk)?;
        let way = Way {
            crew: &crew,
            budget: &budget,
            named: named.as_ref(),
        };
        let target = if options.dry_run {
            Target::Nowhere
        } else {
            options.target.clone()
        };
        let lists = Lists::open(desk, target, options.replace, (self.writer, options.cost))?;
        desk.enter(Phase::Scanning);
        let spill_directory = options.spill_directory.as_deref();
        let sorts = Sorts::new(spill_directory, options.sort_memory, crew.active(), desk);
        let parts = match options.division {
            Division::Limits(limits) if options.live => {
                let place = lists.place();
                let live = Live::new(&sorts, desk, lists, limits);
                self.walk(desk, &way, place, &live);
                live.finish()?
            }
            Division::Limits(_) | Division::Parts(_) => self.planned(desk, &way, &sorts, lists)?,
        };
        let mut report = desk.report(Durability::None, desk.most_staff(), desk.cancel.is_draining());
        report.parts = Some(parts);
        Ok(report)
    }
}
