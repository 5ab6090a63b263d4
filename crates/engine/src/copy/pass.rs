//! One pass over the trees of a copy: what a rehearsal, a copy, and the second half of a move have in common.
//!
//! Comes in: options, checked, and what the pass is for; goes out: the run as it ended. The arguments are looked at, the
//! workers do what is scheduled, links that waited are made, what is extra goes, and all is synced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bulkhaul_formats::lists::names::FileList;
use bulkhaul_sys::{self as sys, AsFd as _, Follow, Identity, Kind};

use crate::bytes::codec::Memory;
use crate::bytes::ways::Methods;
use crate::copy::departure::{self, Departure, Pass};
use crate::copy::dir::{Dir, Presence};
use crate::copy::links::Links;
use crate::copy::manifest::Manifest;
use crate::copy::memory::{Failed, Surplus, Waiting};
use crate::copy::options::{ManifestTo, Rules, SourceArgument};
use crate::copy::prepare::{self, NameList, Prepared};
use crate::copy::run::{Run, Task};
use crate::copy::target::Target;
use crate::copy::ties::Ties;
use crate::copy::worker::Worker;
use crate::copy::{directory, mirror, perform, track};
use crate::entry::Reason;
use crate::error::{Cause, Failure, Fault, Operation, Refusal, Side};
use crate::event::Victims;
use crate::job::desk::{Desk, Phase};
use crate::pool::schedule::{Crew, Schedule};
use crate::pool::tune::Medium;
use crate::records::pieces::Pieces;
use crate::records::sort::{SORT_BYTES, Sorters};
use crate::report::Durability;
use crate::report::conversions::Conversions;
use crate::report::counters::{Counters, Totals};
use crate::sweep::leftovers;
use crate::tree::descriptors::Budget;
use crate::tree::medium::medium;
use crate::tree::path::c_string;
use crate::tree::staging::Stager;
use crate::walk::scout::{Ahead, Begin, Scout};
use crate::walk::start::{Boundary, Root};

/// How a copy ended.
#[derive(Clone, Copy)]
pub struct Ended {
    /// Something was left undone.
    pub(crate) interrupted: bool,
    /// With `--sync all`: everything that was written is on disk.
    pub(crate) synced: bool,
}

/// What the second walk of a move goes by: what it knows, the copy that it follows, and its own books.
pub type Second<'c> = (Departure, &'c Run, &'c Arc<[Counters]>);

/// Copies; answers the run as it ended, and how. With `second` nothing is copied: the sources of a move go.
pub fn copy(
    names: &NameList,
    rules: Rules,
    desk: &Arc<Desk>,
    second: Option<Second<'_>>,
) -> Result<(Run, Ended), Refusal> {
    let since = departure::now();
    // How many workers share the rest is known when their media are.
    let (budget, _, sets) = Budget::share(1);
    let writes = second.is_none() && !rules.asked.dry_run;
    let (manifest, stored) = manifests(&rules, desk, writes)?;
    let prepared = prepare::prepare(names, (&rules, writes), desk, &budget, Stager::new())?;
    let Prepared {
        root,
        mut targets,
        roots,
        destination_ids,
        given,
        working_directory,
        missing,
        outside,
        restored,
        probes,
    } = prepared;
    if let Some((_, copied, _)) = &second {
        if destination_ids.iter().any(|id| !copied.destination_ids.contains(id)) {
            return Err(Refusal::Safety("a destination is not what it was".into()));
        }
        // The copy has just synced them, and knows their times.
        for (target, copied) in targets.iter_mut().zip(&copied.targets) {
            target.synced = true;
            target.clock = Arc::clone(&copied.clock);
        }
    } else if rules.asked.verify {
        sync_before(&mut targets, desk);
    }
    let range = rules.range(&media(&root, &targets));
    // Few descriptors mean few workers: each needs some for its files.
    let most = sets.min(desk.counters.len());
    let memory = Memory::new(rules.packing.as_ref().map_or(0, |packing| packing.memory));
    let crew = Crew::of(range, rules.processors, within(&memory, &rules, most, desk));
    let workers = crew.most();
    desk.staff(crew.active());
    let in_use = led_to(&rules.asked.in_use);
    let ties = if rules.asked.rename && second.is_none() {
        Ties::read(&rules.asked.in_use)
    } else {
        Ties::default()
    };
    let (pass, counters) = match second {
        Some((departure, _, counters)) => (Pass::Depart(departure), Arc::clone(counters)),
        None if writes => (Pass::Copy, Arc::clone(&desk.counters)),
        None => (Pass::Rehearse, Arc::clone(&desk.counters)),
    };
    let pieces = pass.writes().then(|| pieces(&rules, desk)).flatten();
    let run = Run {
        links: Links::new(&rules, Arc::clone(&root)),
        crew,
        rules,
        stager: Stager::new(),
        schedule: Schedule::new(workers),
        budget,
        sync_batch: (sets / workers).max(1),
        desk: Arc::clone(desk),
        methods: Methods::default(),
        waiting: Waiting::default(),
        surplus: Surplus::default(),
        failed: Failed::default(),
        doubtful: AtomicBool::new(false),
        restored,
        since,
        probes,
        ties,
        pass,
        agreed: AtomicBool::new(false),
        counters,
        targets,
        roots,
        destination_ids,
        given,
        in_use,
        manifest,
        stored,
        memory,
        conversions: Conversions::default(),
        pieces,
        working_directory,
    };
    desk.unlisted();
    desk.enter(if run.pass.departure().is_some() {
        Phase::Proving
    } else {
        Phase::Scanning
    });
    let _scout = (run.pass.departure().is_none() && !renames(&run, &root))
        .then(|| Scout::send(desk, ahead(&run.rules, names.names())));
    begin(&run, &root, missing, &outside);
    run.push_listing(Arc::clone(&root));
    perform::drive(&run);
    settle(&run, &root);
    run.probes.pull();
    run.probes.tell(desk);
    let interrupted = desk.cancel.is_draining();
    if run.pass.departure().is_none() {
        desk.enter(Phase::Closing);
    }
    let synced = !interrupted && sync_targets(&run);
    Ok((run, Ended { interrupted, synced }))
}

/// The manifests that there are to be: whether they can be written is seen before anything is done.
fn manifests(rules: &Rules, desk: &Arc<Desk>, writes: bool) -> Result<(Option<Manifest>, Option<Manifest>), Refusal> {
    let begin = |to: &Option<ManifestTo>| {
        let to = to.as_ref().filter(|_| writes);
        to.map(|to| Manifest::begin(to, rules, desk)).transpose()
    };
    Ok((begin(&rules.asked.manifest)?, begin(&rules.asked.stored_manifest)?))
}

/// How many workers the memory is enough for, of `most`.
fn within(memory: &Memory, rules: &Rules, most: usize, desk: &Desk) -> usize {
    let Some(packing) = &rules.packing else { return most };
    let wanted = rules.processors.min(most);
    most.min(memory.enough_for(wanted, packing.codec.memory(), desk))
}

/// What the job has proved. No source goes by that: each is proved anew when it goes.
fn pieces(rules: &Rules, desk: &Arc<Desk>) -> Option<Pieces> {
    let asked = &rules.asked;
    let path = asked.finished.as_deref().filter(|_| asked.verify)?;
    let sorters = Sorters::new(asked.spill_directory.as_deref(), SORT_BYTES, 1);
    let others = &asked.shared.finished;
    Some(Pieces::joined(path, others, (b"copies", 0), &sorters, desk))
}

/// What waits for the end of the walk: links, extra entries, and what comes in their place.
fn settle(run: &Run, root: &Arc<Dir>) {
    let moves = run.rules.asked.remove_sources && run.pass.departure().is_none();
    loop {
        finish_links(run);
        let asks = moves && !run.agreed.load(Ordering::Relaxed);
        let leaving = asks.then(|| leaving(run).ok()).flatten();
        // What waited for the sweep may bring more links, and directories of which extra entries are known only then.
        let (tasks, more) = mirror::sweep(run, root, leaving);
        if !tasks.is_empty() {
            for task in tasks {
                run.push(task);
            }
            perform::drive(run);
        }
        if !more {
            break;
        }
    }
}

/// The inodes that paths lead to, where they lead to any.
fn led_to(paths: &[Vec<u8>]) -> Vec<Identity> {
    let led = |path: &Vec<u8>| sys::stat(sys::current_directory(), &c_string(path).ok()?, Follow::Yes).ok();
    paths.iter().filter_map(|path| Some(led(path)?.id)).collect()
}

/// What was there before is to be read from the medium. Where it fails, each file is synced before it is read.
fn sync_before(targets: &mut [Target], desk: &Desk) {
    let _syncing = desk.syncing();
    for target in targets {
        let file_system = target.file_system.as_ref();
        target.synced = file_system.is_some_and(|fd| sys::sync_file_system(fd.as_fd()).is_ok());
    }
}

/// What a copy has to do with: trees, or what a list names.
fn ahead(rules: &Rules, list: Option<&Arc<FileList>>) -> Ahead {
    let asked = &rules.asked;
    let root = |source: &SourceArgument| Root {
        path: source.path.clone(),
        follow: source.follow,
        contents: source.contents,
        pin: None,
    };
    let passes = [true, asked.remove_sources, asked.require_space];
    // The bytes of each are read to be copied, to be proved, and to be proved once more before the source goes.
    let reads = [true, asked.verify, asked.remove_sources];
    let times = |all: [bool; 3]| all.into_iter().map(u64::from).sum();
    let reads: u64 = times(reads);
    Ahead {
        begin: match (list, &asked.sources[..]) {
            (Some(list), [source, ..]) => Begin::Listed(source.path.clone(), Arc::clone(list)),
            (_, sources) => Begin::Trees(sources.iter().map(root).collect()),
        },
        filter: asked.filter.clone(),
        boundary: Boundary::of(asked.one_file_system),
        passes: times(passes),
        to_read: Some(Box::new(move |_, size| size.saturating_mul(reads))),
    }
}

/// Whether most of the work may be renames, which take no longer where there is much below: that is not counted beforehand.
fn renames(run: &Run, root: &Dir) -> bool {
    let device = |target: &Target| Some(sys::stat_fd(target.file_system.as_ref()?.as_fd()).ok()?.id.dev);
    let here = |device: u64| root.sources.iter().any(|source| source.slot.id().dev == device);
    run.rules.asked.rename && run.targets.iter().filter_map(device).any(here)
}

/// What holds the sources and the destinations.
pub fn media(root: &Dir, targets: &[Target]) -> Vec<Medium> {
    let sources = root.sources.iter().filter_map(|source| source.slot.current());
    let targets = targets.iter().filter_map(|target| target.file_system.as_ref());
    let targets = targets.map(|fd| medium(fd.as_fd()));
    sources.map(|fd| medium(fd.as_fd())).chain(targets).collect()
}

/// What was found out about the arguments before the walk: entries that are missing, and the root's own.
pub fn begin(run: &Run, root: &Arc<Dir>, missing: Vec<(Vec<u8>, Fault)>, outside: &[Vec<u8>]) {
    let mut worker = Worker::new(run, &run.counters[0]);
    if root.is_entry {
        run.counters[0].found(Kind::Directory);
    }
    if run.pass.departure().is_some() {
        // The copy has said all that.
        return;
    }
    if !missing.is_empty() {
        run.surplus.withhold("missing-source", "a source is missing");
    }
    for (path, fault) in missing {
        run.counters[0].found(Kind::File);
        worker.record_missing(&fault, path);
    }
    for path in outside {
        let fault = Fault {
            operation: Operation::Open,
            side: Side::Source,
            cause: Cause::Outside("it leaves the source"),
        };
        run.counters[0].found(Kind::File);
        worker.record_missing(&fault, path.clone());
    }
    let mut faults: Vec<_> = directory::begin(&worker, root).err().into_iter().collect();
    for (index, twin) in root.twins.iter().enumerate() {
        if run.pass.writes() && matches!(twin, Some(twin) if matches!(twin.presence, Presence::Existing(_))) {
            let (path, side) = (&run.targets[index].path, Side::Destination(index));
            faults.extend(leftovers::clear_beside(path, side, run.stager).err());
        }
    }
    for fault in &faults {
        worker.fail_directory(root, 0, fault);
    }
}

/// What waits for the end, until nothing new comes of it.
fn finish_links(run: &Run) {
    loop {
        let links = run.waiting.take_undecided();
        let roots = if links.is_empty() && !run.desk.cancel.is_draining() {
            track::roots(run)
        } else {
            Vec::new()
        };
        if links.is_empty() && roots.is_empty() {
            return;
        }
        for link in links {
            run.push(Task::Link(link));
        }
        for root in roots {
            run.desk.unlisted();
            run.push_listing(root);
        }
        perform::drive(run);
    }
}

/// What a move is about to remove from the sources: all that arrived, or is about to: directories that wait for the
/// sweep have no outcome yet. The error says that it is more than may go.
pub fn leaving(run: &Run) -> Result<Victims, String> {
    let totals = Totals::of(&run.counters);
    let arrived = totals.leaving + totals.all_found().saturating_sub(totals.all_outcomes());
    let all = totals.found.iter().sum::<u64>() + totals.reason_of(Reason::Excluded);
    if let Some(limit) = run.rules.asked.max_delete.filter(|limit| limit.forbids(arrived, all)) {
        return Err(format!(
            "{arrived} of {all} entries would go, which is more than {limit}, so no source was removed"
        ));
    }
    Ok(Victims {
        what: "sources",
        entries: arrived,
        bytes: totals.done_bytes,
        first: run
            .rules
            .asked
            .sources
            .iter()
            .map(|source| source.path.clone())
            .collect(),
    })
}

/// `--sync all`: one call for each file system that was written. Whether all is on disk.
fn sync_targets(run: &Run) -> bool {
    if run.rules.sync != Durability::All || !run.pass.writes() {
        return false;
    }
    let _syncing = run.desk.syncing();
    let mut synced = true;
    let mut done: Vec<u64> = Vec::new();
    for (index, target) in run.targets.iter().enumerate() {
        let Some(fd) = &target.file_system else { continue };
        let result = sys::stat_fd(fd.as_fd()).and_then(|stat| {
            if done.contains(&stat.id.dev) {
                return Ok(());
            }
            done.push(stat.id.dev);
            sys::sync_file_system(fd.as_fd())
        });
        if let Err(errno) = result {
            let fault = Fault::new(Operation::Sync, Side::Destination(index), errno);
            let failure = Failure::new(&fault, target.path.clone(), Kind::Directory, None);
            run.desk.fail(failure);
            synced = false;
        }
    }
    synced
}
