//! The verification: whether a directory has what manifests say.
//!
//! Comes in: [`VerifyOptions`]; goes out: a [`Job`] that sorts what the manifests say and what the directory has by path,
//! joins the two, and reads each file that both have, from the medium where the system allows it. What is missing, extra,
//! of another kind or of other content is a failure each, and so is what can't be read; all of them are found. A manifest
//! that is refused is a refusal before anything is read. What a run that died has proved is not read again, where size and
//! times are as they were. Nothing outside of the directory is ever looked at, and no link is
//! followed. Memory does not grow with the number of entries, only with that of manifests.

mod check;
mod files;
mod join;
mod manifests;
mod place;

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use bulkhaul_formats::digest::{Algorithm, xxh64};
use bulkhaul_formats::lists::names::FileList;
use bulkhaul_formats::spelling::other_forms;
use bulkhaul_formats::staging;
use bulkhaul_sys::{self as sys, Follow, Identity, Kind, Stat};

use self::check::Checker;
use self::files::Source;
use self::join::{Finding, Join, Pair, unlike};
use self::manifests::Given;
use self::place::place;
use crate::bytes::stream::{descriptor_of, name_of};
use crate::entry::{Changes, Details, Outcome, Reason};
use crate::error::{Failure, Refusal, describe};
use crate::event::EntryEvent;
use crate::job::desk::{Desk, Phase};
use crate::job::resources::{Resources, Staff};
use crate::job::{Job, Work, process};
use crate::pool::window::in_order;
use crate::records::entry::kind_of;
use crate::records::facts::{FactFinder, Order, Wanted};
use crate::records::gather::Gather;
use crate::records::ground::{Find, Ground, Sight};
use crate::records::pieces::{Pieces, Shared};
use crate::records::record::{Record, path_key};
use crate::records::sort::{SORT_BYTES, Sorted, Sorters};
use crate::report::{Durability, Report};
use crate::tree::beneath::Beneath;
use crate::tree::descriptors::Budget;
use crate::tree::path::{self, c_string, open_directory_path, show, split};
use crate::tree::selection::{self, Selection};
use crate::walk::Walk;
use crate::walk::named::Named;
use crate::walk::scout::{Ahead, Begin, Scout};
use crate::walk::start::{Boundary, Root, Start, media};

/// A part of the files, by a digest of their paths: which a file is in does not depend on what else there is, so that all
/// parts together are all files, whatever comes and goes between two runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Which part, from 0.
    pub part: u32,
    /// How many there are.
    pub parts: u32,
}

impl Sample {
    /// Whether a file is in it.
    fn has(self, path: &[u8]) -> bool {
        xxh64(path) % u64::from(self.parts.max(1)) == u64::from(self.part)
    }
}

/// A verification, as asked for.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// What says what there is: manifests, and directories, which stand for those that lie below them, by their names.
    pub manifests: Vec<Vec<u8>>,
    /// Where paths of the manifests begin; none: each where its manifest lies.
    pub directory: Option<Vec<u8>>,
    /// What is not verified, whether or not a manifest lists it: rules in rsync's style, about paths below the directory.
    pub filter: Option<selection::Rules>,
    /// The algorithm of the digests; none: the manifests tell.
    pub algorithm: Option<Algorithm>,
    /// Nothing but these paths below the directory; none: all.
    pub only: Option<HashSet<Vec<u8>>>,
    /// What no manifest names is a failure.
    pub extra: bool,
    /// Names, kinds and sizes only; no content is read.
    pub quick: bool,
    /// The content of a part of the files only.
    pub sample: Option<Sample>,
    /// Files and directories that the caller uses meanwhile: they are not extra. Nor are the manifests.
    pub in_use: Vec<Vec<u8>>,
    /// A file of the job's own, in which it says what it has proved, so that the next run goes on should this one die; it
    /// goes with the end.
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
    /// Send an event for each entry.
    pub entry_events: bool,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            manifests: Vec::new(),
            directory: None,
            filter: None,
            algorithm: None,
            only: None,
            extra: true,
            quick: false,
            sample: None,
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

/// A job that verifies. Checks the options; touches nothing.
pub fn job(options: VerifyOptions) -> Result<Job, Refusal> {
    job_of(options, None)
}

/// The same of files that lie where `find` says; what `directory` says is for messages then.
pub fn job_of(options: VerifyOptions, find: Option<Find>) -> Result<Job, Refusal> {
    let staff = Staff::of(options.jobs, process::process().processors)?;
    if options.manifests.is_empty() {
        return Err(Refusal::Usage("no manifest is given".into()));
    }
    for path in options.manifests.iter().chain(&options.directory) {
        path::check(path)?;
    }
    if options.directory.is_none()
        && let Some(stream) = options.manifests.iter().find(|path| descriptor_of(path).is_some())
    {
        let name = name_of(stream);
        return Err(Refusal::Usage(format!(
            "{name} lies in no directory: say where its paths begin"
        )));
    }
    let resources = options.resources;
    if options.sample.is_some_and(|sample| sample.part >= sample.parts) {
        return Err(Refusal::Usage("sample: there are not so many parts".into()));
    }
    let filter = Selection::of(options.filter.as_ref())?;
    if filter.is_about_paths() {
        return Err(Refusal::Usage(
            "filter: a verification has rules of rsync's style".into(),
        ));
    }
    let verify = Verify {
        options,
        staff,
        filter,
        find,
    };
    Job::new(staff.most(), verify).within(resources)
}

/// One verification with its checked options.
struct Verify {
    options: VerifyOptions,
    staff: Staff,
    filter: Selection,
    /// None: a walk finds all.
    find: Option<Find>,
}

impl Work for Verify {
    fn run(mut self: Box<Self>, desk: &Arc<Desk>) -> Result<Report, Refusal> {
        let ground = self.find.take().map(|find| find(desk)).transpose()?;
        let options = &self.options;
        desk.enter(Phase::Scanning);
        let given = (&options.manifests[..], options.directory.as_deref());
        let Some((directory, given)) = place(given, &self.filter, desk)? else {
            return Ok(desk.report(Durability::None, 0, true));
        };
        let base;
        let source = if let Some(ground) = &ground {
            Source::Elsewhere(&**ground)
        } else {
            base = open_directory_path(&directory, Follow::Yes)
                .map_err(|errno| Refusal::NoSource(format!("{}: {}", show(&directory), describe(errno))))?;
            Source::Here(&base)
        };
        let (budget, most, _) = Budget::share(desk.counters.len());
        let workers = match source {
            Source::Here(_) => self.staff.steady(most),
            Source::Elsewhere(_) => desk.counters.len(),
        };
        desk.staff(workers);
        let sorters = Sorters::new(options.spill_directory.as_deref(), options.sort_memory / 2, workers);
        let sorters = sorters.counted(desk.steps());
        let Some(claims) = manifests::read(&given, options.algorithm, source, (desk, &sorters))? else {
            return Ok(desk.report(Durability::None, workers, true));
        };
        let (sorted, scout) = match source {
            Source::Here(_) => {
                let (sorted, scout) = self.walked((&directory, claims.sizes), (&budget, most), &sorters, desk)?;
                (sorted, Some(scout))
            }
            Source::Elsewhere(ground) => (found(ground, &self.filter, &sorters, desk)?, None),
        };
        desk.staff(workers);
        let all_kinds = claims.all_kinds;
        let mut join = Join::new(claims, sorted, desk, &sorters);
        let mut teller = Teller {
            options,
            given: &given,
            filter: &self.filter,
            desk,
            directory: &directory,
            all_kinds,
            beneath: match source {
                Source::Here(base) => Some(Beneath::new(base)),
                Source::Elsewhere(_) => None,
            },
            in_use: None,
            passed: None,
        };
        let finished = options.finished.as_deref();
        let others = &options.shared.finished[..];
        let pieces = finished.map(|path| Pieces::joined(path, others, (b"proofs", 0), &sorters, desk));
        let told = all(options, &mut join, &mut teller, (source, workers), pieces.as_ref());
        drop(scout);
        let interrupted = desk.cancel.is_draining();
        if let Some(pieces) = pieces {
            pieces.close(!options.shared.keep && told.is_ok() && !interrupted);
        }
        told?;
        desk.enter(Phase::Closing);
        Ok(desk.report(Durability::None, desk.most_staff(), interrupted))
    }
}

impl Verify {
    /// What is below a directory, by its path, and who goes ahead meanwhile to see how much there is. Without `sizes` nobody
    /// looks at a file whose content is read, before that.
    fn walked(
        &self,
        (directory, sizes): (&[u8], bool),
        (budget, most): (&Arc<Budget>, usize),
        sorters: &Sorters,
        desk: &Arc<Desk>,
    ) -> Result<(Sorted, Scout), Refusal> {
        let options = &self.options;
        let roots = [Root {
            path: if directory.is_empty() {
                b".".to_vec()
            } else {
                directory.to_vec()
            },
            follow: true,
            contents: true,
            pin: None,
        }];
        let crew = self.staff.crew(&media(&roots), most);
        // Of a part nobody can tell beforehand how much it is, but on the whole.
        let parts = options.sample.map_or(1, |sample| u64::from(sample.parts));
        let quick = options.quick;
        let scout = Scout::send(
            desk,
            Ahead {
                begin: Begin::Trees(roots.to_vec()),
                filter: options.filter.clone(),
                boundary: Boundary::None,
                passes: 1,
                to_read: Some(Box::new(move |_, size| if quick { 0 } else { size / parts })),
            },
        );
        let wanted = Wanted {
            details: sizes || options.quick || options.sample.is_some(),
            xattrs: false,
            portable: false,
            tail: 0,
            specials: true,
            order: Order::Paths,
        };
        let found = sorters.anew(crew.active());
        let gather = Gather::new(desk, &roots, FactFinder::new(desk, wanted), &found);
        let walk = Walk {
            filter: &self.filter,
            boundary: Boundary::None,
            across: &[],
            desk,
            crew: &crew,
            budget,
        };
        match &options.only {
            Some(only) => {
                // What is not there is told where a manifest names it.
                let list = listed(only, &roots[0].path)?;
                walk.run(Start::Parts(&Named::of(&list, &roots[0], desk, false)?), &gather);
            }
            None => walk.run(Start::Roots(&roots), &gather),
        }
        Ok((gather.sorted()?, scout))
    }
}

/// What there is where no walk gets, by its path.
fn found(ground: &dyn Ground, filter: &Selection, sorters: &Sorters, desk: &Desk) -> Result<Sorted, Refusal> {
    let mut sorter = sorters.anew(1).sorter();
    let (mut key, mut payload) = (Vec::new(), Vec::new());
    ground.find(desk, filter, &mut |sight: Sight| {
        let details = Details {
            size: sight.size,
            ..Details::default()
        };
        let record = Record {
            failed: sight.failed,
            details: Some(details),
            ..Record::new(&sight.path, sight.kind)
        };
        record.encode(&mut payload);
        path_key(&sight.path, &mut key);
        sorter.push(&key, &payload).map_err(|errno| sorters.refusal(errno))
    })?;
    Sorted::merge(vec![sorter]).map_err(|errno| sorters.refusal(errno))
}

/// Paths below a directory, as a list of names.
fn listed(only: &HashSet<Vec<u8>>, directory: &[u8]) -> Result<FileList, Refusal> {
    let names = only.iter().flat_map(|path| [&path[..], b"\0"].concat()).collect();
    FileList::parse(names, true, directory).map_err(|error| Refusal::Usage(format!("only: {error}")))
}

/// Says what became of each path: counts, failures, events.
struct Teller<'t> {
    options: &'t VerifyOptions,
    given: &'t [Given],
    filter: &'t Selection,
    desk: &'t Desk,
    /// As messages begin.
    directory: &'t [u8],
    all_kinds: bool,
    /// None: nothing of what is there is used here.
    beneath: Option<Beneath<'t>>,
    /// Looked up when it matters: some of it may have come meanwhile.
    in_use: Option<HashSet<Identity>>,
    /// A directory of which all is passed over, and why.
    passed: Option<(Vec<u8>, Reason)>,
}

impl Teller<'_> {
    fn tell(&mut self, pair: Pair) {
        let Pair {
            claim, found, finding, ..
        } = pair;
        let counters = &self.desk.counters[0];
        let (path, kind, mut size) = match (found, &claim) {
            (Some(found), _) => (found.path, found.kind, found.size),
            (None, Some(claim)) => {
                let kind = kind_of(&claim.entry);
                if matches!(finding, Finding::Skipped(Reason::NotListed)) {
                    return;
                }
                // What is there of it was passed over, and counted.
                if self.filter.excludes_path(&claim.entry.path, kind) {
                    let what = "what is excluded is not verified, though a manifest lists it";
                    let path = || path::join(self.directory, &claim.entry.path);
                    return self.desk.note("excluded", || (path(), what.into()));
                }
                counters.found(kind);
                (claim.entry.path.clone(), kind, None)
            }
            (None, None) => return,
        };
        let finding = match finding {
            Finding::Extra => {
                let stat = self.beneath.as_mut().and_then(|beneath| beneath.stat(&path).ok());
                if let (Kind::File, None, Some(stat)) = (kind, size, &stat) {
                    counters.sized(stat.size, stat.allocated);
                    size = Some(stat.size);
                }
                self.extra(&path, kind, stat.as_ref())
            }
            Finding::Missing => {
                let place = claim.as_ref().map(|claim| claim.place.to_string()).unwrap_or_default();
                let instead = self
                    .other_form(&path)
                    .map(|form| format!("; what is there has its name in {form}"));
                unlike(
                    "missing",
                    format!("it is missing, and {place} names it{}", instead.unwrap_or_default()),
                )
            }
            finding => finding,
        };
        let (outcome, reason) = match finding {
            // It has its outcome and its failure.
            Finding::Failed => return,
            Finding::Same | Finding::Unread => (Outcome::Same, None),
            Finding::Skipped(reason) => (Outcome::Skipped, Some(reason)),
            Finding::Fault(fault) => {
                let outcome = fault.outcome();
                self.desk
                    .fail(Failure::new(&fault, path::join(self.directory, &path), kind, None));
                (outcome, None)
            }
            Finding::Extra | Finding::Missing => (Outcome::Mismatched, None),
        };
        counters.outcome(kind, outcome, reason, size.unwrap_or_default());
        if self.options.entry_events && reason.is_none() {
            self.desk.tell(EntryEvent {
                outcome,
                kind,
                source: path::join(self.directory, &path),
                path,
                destination: Vec::new(),
                bytes: 0,
                changes: Changes::default(),
                reason,
                target: None,
                hash: None,
                digests: claim.map(|claim| claim.entry.digests).unwrap_or_default(),
                details: None,
            });
        }
    }

    /// The form of Unicode that the name of what is missing has where it is there in another one than a manifest has it in.
    fn other_form(&mut self, path: &[u8]) -> Option<&'static str> {
        let beneath = self.beneath.as_mut()?;
        let mut forms = other_forms(path).into_iter();
        forms.find_map(|(form, path)| beneath.stat(&path).is_ok().then_some(form))
    }

    /// What becomes of an entry that no manifest names.
    fn extra(&mut self, path: &[u8], kind: Kind, stat: Option<&Stat>) -> Finding {
        // What stands for all of it.
        if path.is_empty() {
            return Finding::Same;
        }
        let below = |(passed, _): &&(Vec<u8>, Reason)| {
            path.strip_prefix(&passed[..])
                .is_some_and(|rest| rest.starts_with(b"/"))
        };
        if let Some((_, reason)) = self.passed.as_ref().filter(below) {
            return Finding::Skipped(*reason);
        }
        let reason = if staging::parse(split(path).1).is_some() {
            Some(Reason::StagingName)
        } else if stat.is_some_and(|stat| self.is_in_use(stat)) {
            Some(Reason::InUse)
        } else {
            None
        };
        if let Some(reason) = reason {
            if kind == Kind::Directory {
                self.passed = Some((path.to_vec(), reason));
            }
            return Finding::Skipped(reason);
        }
        if kind != Kind::File && !self.all_kinds {
            return Finding::Skipped(Reason::NotAFile);
        }
        if !self.options.extra {
            return Finding::Skipped(Reason::NotListed);
        }
        unlike("extra", "it is extra: no manifest names it")
    }

    fn is_in_use(&mut self, stat: &Stat) -> bool {
        let in_use = self.in_use.get_or_insert_with(|| {
            let manifests = self.given.iter().map(|given| &given.path);
            let paths = manifests.chain(&self.options.in_use);
            let led = |path: &Vec<u8>| sys::stat(sys::current_directory(), &c_string(path).ok()?, Follow::Yes).ok();
            paths.filter_map(|path| Some(led(path)?.id)).collect()
        });
        in_use.contains(&stat.id)
    }
}

/// Tells every pair of the join, in its order, with files read by all workers.
fn all(
    options: &VerifyOptions,
    join: &mut Join<'_>,
    teller: &mut Teller<'_>,
    (source, workers): (Source<'_>, usize),
    pieces: Option<&Pieces>,
) -> Result<(), Refusal> {
    let desk = teller.desk;
    // Bytes of a file, as those before it had; of the first nobody knows.
    let usual = Cell::new(u64::MAX);
    let next = || {
        let Some(mut pair) = join.next()? else { return Ok(None) };
        if options.only.as_ref().is_some_and(|only| !only.contains(pair.path())) {
            pair.leave_out();
        } else {
            let read = |path: &[u8]| !options.quick && options.sample.is_none_or(|sample| sample.has(path));
            pair.judge(read, |kind| source.keeps(kind));
        }
        let bytes = pair.unread(usual.get());
        Ok(Some((pair, bytes)))
    };
    in_order(
        workers,
        |index| Checker::new(source, (desk, &desk.counters[index]), pieces),
        next,
        Checker::check,
        |pair| {
            if let (Some(size), Some(_)) = (pair.found.as_ref().and_then(|found| found.size), &pair.claim) {
                usual.set(if usual.get() == u64::MAX {
                    size
                } else {
                    usual.get() / 8 * 7 + size / 8
                });
            }
            teller.tell(pair);
            Ok(())
        },
        |error| desk.lacks_worker(&error),
    )
}
