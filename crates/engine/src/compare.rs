//! The comparison: two sides, each a tree or a list, entry by entry.
//!
//! Comes in: [`CompareOptions`]; goes out: a [`Job`] that sorts what both sides have by path, joins the two, and tells what
//! only the left side has, what only the right side has, and what both have and differs: as counts, as events, and as a
//! file that says how to turn the left side into the right one. Every entry of either side ends as same, different or
//! failed; what could not be compared because something failed on the other side is skipped and said so. What a run that died
//! has read of whole contents is not read again, where sizes and times are as they were. Memory does not grow with the number
//! of entries.

pub mod changes;
pub mod join;
pub mod options;
pub mod pairs;
pub mod side;
pub mod tell;

use std::sync::Arc;

use crate::bytes::output::Output;
use crate::bytes::stream::{is_one, name_of};
use crate::compare::changes::ChangesFile;
use crate::compare::join::Join;
use crate::compare::options::{Checked, CompareOptions, Content, SideOptions};
use crate::compare::pairs::PairReader;
use crate::compare::side::{Stream, read_list, walk};
use crate::compare::tell::Teller;
use crate::error::Refusal;
use crate::job::desk::{Desk, Phase};
use crate::job::resources::Staff;
use crate::job::{Job, Work, process};
use crate::pool::window::in_order;
use crate::records::facts::hashed;
use crate::records::pieces::Pieces;
use crate::records::sort::Sorters;
use crate::report::{Differences, Durability, Report};
use crate::tree::descriptors::Budget;
use crate::tree::selection::Selection;
use crate::walk::scout::{Ahead, Begin, Scout};
use crate::walk::start::{Boundary, check_roots, require_one};

/// A job that compares. Checks the options; touches nothing.
pub fn job(mut options: CompareOptions) -> Result<Job, Refusal> {
    let process = process::process();
    let staff = Staff::of(options.jobs, process.processors)?;
    for side in [&mut options.left, &mut options.right] {
        match side {
            SideOptions::Trees(roots) => *roots = check_roots(roots)?,
            SideOptions::List { path, .. } if path.is_empty() => {
                return Err(Refusal::List("the path of a list is empty".into()));
            }
            SideOptions::List { .. } => {}
        }
    }
    let compare = Checked {
        filter: Selection::of(options.filter.as_ref())?,
        staff,
        options,
    };
    let resources = compare.options.resources;
    Job::new(staff.most(), Compare(compare)).within(resources)
}

/// One comparison.
struct Compare(Checked);

impl Work for Compare {
    fn run(self: Box<Self>, desk: &Arc<Desk>) -> Result<Report, Refusal> {
        let checked = &self.0;
        let options = &checked.options;
        for side in [&options.left, &options.right] {
            // No trees at all are a side that has nothing.
            if let SideOptions::Trees(roots) = side
                && !roots.is_empty()
            {
                require_one(roots)?;
            }
        }
        let (budget, most, _) = Budget::share(desk.counters.len());
        let workers = checked.staff.steady(most);
        desk.staff(workers);
        let sorters = Sorters::new(options.spill_directory.as_deref(), options.sort_memory / 2, workers);
        let sorters = sorters.counted(desk.steps());
        let output = options
            .output
            .as_ref()
            .map(|path| Output::create(path, desk))
            .transpose()?;
        let mut teller = Teller {
            checked,
            desk,
            counts: Differences::default(),
            changes: output
                .map(|output| ChangesFile::new(output, options.form, options.xattrs, &sorters))
                .transpose()?,
        };
        desk.enter(Phase::Scanning);
        let pieces = pieces(checked, &sorters, desk);
        let finished = pieces.as_ref();
        let scout = Scout::send(desk, ahead(checked));
        let done = sides(checked, (desk, &sorters), (&budget, most), finished).and_then(|(left, right)| {
            // Where contents are read, that is the work.
            if !checked.reads() {
                desk.enter(Phase::Closing);
            }
            let mut join = Join::new(checked, desk, &sorters, left, right);
            tell_all((checked, finished), &mut join, &mut teller, workers)?;
            desk.enter(Phase::Closing);
            (teller.counts.left_entries, teller.counts.right_entries) = (join.left.entries, join.right.entries);
            Ok(())
        });
        drop(scout);
        let mut interrupted = desk.cancel.is_draining();
        if let Some(pieces) = &pieces {
            pieces.close(done.is_ok() && !interrupted);
        }
        let Teller { counts, changes, .. } = teller;
        match (changes, &done) {
            (Some(changes), Ok(())) if !interrupted => {
                let _syncing = desk.syncing();
                interrupted = !changes.finish()?;
            }
            (Some(changes), _) => changes.discard()?,
            (None, _) => {}
        }
        done?;
        let mut report = desk.report(Durability::None, desk.most_staff(), interrupted);
        report.differences = counts;
        Ok(report)
    }
}

/// What a comparison has to do with. A list is not sized.
fn ahead(checked: &Checked) -> Ahead {
    let options = &checked.options;
    let roots = |side: &SideOptions| match side {
        SideOptions::Trees(roots) => roots.clone(),
        SideOptions::List { .. } => Vec::new(),
    };
    let both = [roots(&options.left), roots(&options.right)];
    let whole = checked.reads();
    let hashed = match options.content {
        Content::Nothing => 0,
        Content::Whole => u64::MAX,
        Content::Tail => options.hash_size,
    };
    Ahead {
        begin: Begin::Trees(both.concat()),
        filter: options.filter.clone(),
        boundary: Boundary::of(options.one_file_system),
        passes: 1,
        // Two files that are compared side by side count as one.
        to_read: Some(Box::new(move |_, size| if whole { size / 2 } else { size.min(hashed) })),
    }
}

/// What the job has read, and an earlier run of it: pairs of files, or hashes of what is on either side.
fn pieces(checked: &Checked, sorters: &Sorters, desk: &Arc<Desk>) -> Option<Pieces> {
    let path = checked.options.finished.as_deref()?;
    if checked.reads() {
        return Some(Pieces::open(path, (b"pairs", 1), sorters, desk));
    }
    hashed(Some(path), checked.tail(), sorters, desk)
}

/// Reads both sides.
fn sides(
    checked: &Checked,
    (desk, sorters): (&Desk, &Sorters),
    room: (&Arc<Budget>, usize),
    finished: Option<&Pieces>,
) -> Result<(Stream, Stream), Refusal> {
    if let (SideOptions::List { path, .. }, SideOptions::List { path: other, .. }) =
        (&checked.options.left, &checked.options.right)
        && is_one([path, other])
    {
        let what = format!("both lists are {}, which can be read once", name_of(path));
        return Err(Refusal::Usage(what));
    }
    let read = |side: &SideOptions, number| match side {
        SideOptions::Trees(roots) => walk(checked, (desk, sorters), room, roots, (finished, number)),
        SideOptions::List { path, form } => read_list(desk, sorters, path, *form, checked.options.align),
    };
    Ok((read(&checked.options.left, 0)?, read(&checked.options.right, 1)?))
}

/// Tells every verdict of the join, in its order, with contents read by all workers.
fn tell_all(
    (checked, finished): (&Checked, Option<&Pieces>),
    join: &mut Join<'_>,
    teller: &mut Teller<'_>,
    workers: usize,
) -> Result<(), Refusal> {
    if !checked.reads() {
        while let Some(verdict) = join.next()? {
            teller.tell(&verdict)?;
        }
        return Ok(());
    }
    let desk = teller.desk;
    in_order(
        workers,
        |index| PairReader::new(checked, (desk, &desk.counters[index]), finished),
        || {
            let verdict = join.next()?;
            Ok(verdict.map(|verdict| {
                let bytes = verdict.unread.then(|| verdict.bytes());
                (verdict, bytes)
            }))
        },
        |reader, verdict| {
            reader.read(verdict);
            0
        },
        |verdict| teller.tell(&verdict),
        |error| desk.lacks_worker(&error),
    )
}
