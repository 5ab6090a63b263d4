//! The copy: drives the rooms of the engine over whole trees and closes the books.
//!
//! Comes in: [`CopyOptions`]; goes out: a [`Job`] that copies, or a [`Refusal`] before anything was written.

pub mod act;
pub mod clear;
pub mod collision;
pub mod departure;
pub mod dir;
pub mod directory;
pub mod entry;
pub mod extra;
pub mod finder;
pub mod given;
pub mod links;
pub mod lookout;
pub mod manifest;
pub mod memory;
pub mod mirror;
pub mod options;
pub mod pass;
pub mod perform;
pub mod plan;
pub mod prepare;
pub mod run;
pub mod target;
pub mod ties;
pub mod times;
pub mod track;
pub mod views;
pub mod worker;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bulkhaul_formats::units;
use bulkhaul_sys::{self as sys, AsFd as _};

use crate::copy::departure::{Departed, Departure};
use crate::copy::options::{CopyOptions, Rules};
use crate::copy::pass::{Ended, copy, leaving};
use crate::copy::prepare::NameList;
use crate::copy::run::Run;
use crate::copy::target::Target;
use crate::error::Refusal;
use crate::job::desk::Desk;
use crate::job::{Job, Work, process};
use crate::records::ordered::Ordered;
use crate::report::Report;
use crate::report::counters::{Counters, Totals};

/// A job that copies. Checks the options; touches nothing.
pub fn job(options: CopyOptions) -> Result<Job, Refusal> {
    let rules = options.check(&process::process())?;
    let resources = rules.asked.resources;
    Job::new(rules.most_workers(), Copy(rules)).within(resources)
}

/// One copy with its checked options.
pub struct Copy(Rules);

impl Work for Copy {
    fn run(self: Box<Self>, desk: &Arc<Desk>) -> Result<Report, Refusal> {
        let Self(rules) = *self;
        let names = NameList::default();
        if rules.asked.require_space {
            require_space(&rules.asked, &names, desk)?;
        }
        let ordered = (rules.asked.dry_run && rules.asked.entry_events)
            .then(|| Ordered::hold(desk, rules.asked.spill_directory.as_deref()));
        let (mut run, ended) = copy(&names, rules, desk, None)?;
        if let Some(ordered) = ordered {
            ordered.release(desk);
        }
        // Before any source goes.
        let manifests = [run.manifest.take(), run.stored.take()].into_iter().flatten();
        let finished = manifests.map(|manifest| manifest.finish(desk, ended.interrupted));
        let noted = finished.fold(true, |all, finished| all & finished);
        let departed = run
            .rules
            .asked
            .remove_sources
            .then(|| depart(&names, &run, ended, noted));
        if let Some(pieces) = &run.pieces {
            let gone = departed.as_ref().is_none_or(|(departed, _)| !departed.interrupted);
            pieces.close(!run.rules.asked.shared.keep && !ended.interrupted && gone);
        }
        let mut report = desk.report(run.rules.sync, desk.most_staff(), ended.interrupted);
        report.conversions = run.conversions.into_sums();
        report.withheld.extend(run.surplus.withheld());
        report.withheld.extend(run.surplus.spared());
        if let Some((departed, verified)) = departed {
            report.removed_sources = departed.removed;
            report.kept_sources = departed.kept;
            report.accounted &= departed.accounted;
            report.interrupted |= departed.interrupted;
            report.withheld.extend(departed.withheld);
            report.totals.verified_files += verified.verified_files;
            report.totals.verified_bytes += verified.verified_bytes;
            report.totals.verified_from_cache += verified.verified_from_cache;
        }
        Ok(report)
    }
}

/// The second half of a move: walks the same trees again and removes what is proved. Answers the proofs too. `noted`: the
/// manifest is there, where one was asked for.
fn depart(names: &NameList, copied: &Run, ended: Ended, noted: bool) -> (Departed, Totals) {
    let withheld = |kind, message: &str| (Departed::withheld(kind, message), Totals::default());
    if ended.interrupted {
        return withheld("interrupted", "interrupted, so no source was removed");
    }
    if copied.rules.asked.dry_run {
        return match leaving(copied) {
            Ok(leaving) => (Departed::imagined(&copied.counters, leaving.entries), Totals::default()),
            Err(message) => withheld("max-delete", &message),
        };
    }
    if !ended.synced {
        return withheld(
            "not-synced",
            "what was written could not be synced, so no source was removed",
        );
    }
    if !noted {
        return withheld("failed", "there is no manifest, so no source was removed");
    }
    if copied
        .surplus
        .withheld()
        .is_some_and(|withheld| withheld.kind == "declined")
    {
        return withheld("declined", "the answer was no, so no source was removed");
    }
    let asked = match leaving(copied) {
        // What was renamed is gone, perhaps with all that was named.
        Ok(leaving) if copied.rules.asked.rename && leaving.entries == 0 => {
            return (Departed::imagined(&copied.counters, 0), Totals::default());
        }
        Ok(leaving) => {
            !copied.rules.asked.confirm
                || leaving.entries == 0
                || copied.agreed.load(Ordering::Relaxed)
                || copied.desk.ask(vec![leaving])
        }
        Err(message) => return withheld("max-delete", &message),
    };
    if !asked {
        return withheld("declined", "the answer was no, so no source was removed");
    }
    let doubtful = copied.doubtful.load(Ordering::Relaxed);
    let Some(departure) = Departure::after(copied.since, &copied.failed, doubtful, &copied.restored) else {
        return withheld("failed", "too much failed, so no source was removed");
    };
    let options = CopyOptions {
        verify: true,
        remove_extra: false,
        link_tracking: false,
        require_space: false,
        entry_events: false,
        ..copied.rules.asked.clone()
    };
    let counters: Arc<[Counters]> = copied.counters.iter().map(|_| Counters::default()).collect();
    copied.desk.counted_elsewhere(&counters);
    let walked = options
        .check(&process::process())
        .and_then(|rules| copy(names, rules, &copied.desk, Some((departure, copied, &counters))));
    match walked {
        Ok((_, ended)) => (Departed::of(&counters, ended.interrupted), Totals::of(&counters)),
        Err(refusal) => withheld("source-gone", &format!("{refusal}, so no source was removed")),
    }
}

/// Sizes what would be copied with a dry run of the same planner, and refuses what does not fit.
fn require_space(options: &CopyOptions, names: &NameList, desk: &Desk) -> Result<(), Refusal> {
    let options = CopyOptions {
        dry_run: true,
        require_space: false,
        entry_events: false,
        ..options.clone()
    };
    let rules = options.check(&process::process())?;
    let rehearsal = Arc::new(desk.rehearsal());
    let (run, _) = copy(names, rules, &rehearsal, None)?;
    fits(&Totals::of(&rehearsal.counters), &run.targets)
}

/// Whether what a dry run would make has room: files in all destinations together, directories in each of them.
fn fits(totals: &Totals, targets: &[Target]) -> Result<(), Refusal> {
    let mut free = (0_u64, 0_u64);
    let mut needed = totals.planned_inodes;
    // By device: several destinations may lie on one.
    let mut devices: Vec<(u64, u64, u64)> = Vec::new();
    for target in targets {
        let stat = target.file_system.as_ref().and_then(|fd| sys::stat_fd(fd.as_fd()).ok());
        let (Some(stat), Some(capacity)) = (stat, target.capacity) else {
            // Some file systems tell no size: then there is nothing to compare with.
            return Ok(());
        };
        let directories = target.directories.load(Ordering::Relaxed);
        needed = needed.saturating_add(directories);
        if let Some(device) = devices.iter_mut().find(|device| device.0 == stat.id.dev) {
            device.1 += directories;
        } else {
            free.0 = free.0.saturating_add(capacity.free_bytes);
            free.1 = free.1.saturating_add(capacity.free_inodes);
            devices.push((stat.id.dev, directories, capacity.free_inodes));
        }
    }
    if totals.planned_room > free.0 {
        let size = |bytes| format!("{} ({})", units::bytes(bytes), units::count(bytes, "byte", "bytes"));
        return Err(Refusal::NoSpace(format!(
            "{} are to be copied, and {} are free",
            size(totals.planned_room),
            size(free.0)
        )));
    }
    // A directory is made in every destination, whatever comes to lie in it there.
    let short = devices.iter().find(|(_, directories, inodes)| directories > inodes);
    let short = short.map(|(_, directories, inodes)| (*directories, *inodes));
    let short = (needed > free.1).then_some((needed, free.1)).or(short);
    short.map_or(Ok(()), |(needed, free)| {
        Err(Refusal::NoSpace(format!(
            "{} to be made, and {} free",
            units::count(needed, "entry is", "entries are"),
            units::count(free, "inode is", "inodes are")
        )))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use bulkhaul_sys::{self as sys, Capacity};

    use super::*;
    use crate::copy::options::{DestinationArgument, SourceArgument};

    fn copy_of(names: &[&str]) -> Report {
        let scratch = tempfile::tempdir().unwrap();
        let (source, destination) = (scratch.path().join("s"), scratch.path().join("d"));
        std::fs::create_dir(&source).unwrap();
        for name in names {
            std::fs::write(source.join(name), name).unwrap();
        }
        let bytes = |path: &std::path::Path| path.as_os_str().as_bytes().to_vec();
        let options = CopyOptions {
            sources: vec![SourceArgument {
                path: bytes(&source),
                contents: true,
                name: None,
                follow: true,
            }],
            destinations: vec![DestinationArgument {
                path: bytes(&destination),
                follow: true,
            }],
            ..CopyOptions::default()
        };
        job(options).unwrap().run().unwrap()
    }

    #[test]
    fn a_lost_entry_trips_the_count() {
        let whole = copy_of(&["a", "b"]);
        assert!(whole.accounted && whole.is_complete());
        // The recorder drops this one in test builds (worker.rs).
        let lossy = copy_of(&["a", "planted-loss"]);
        assert!(!lossy.accounted && !lossy.is_complete());
        assert_eq!(lossy.totals.all_found(), lossy.totals.all_outcomes() + 1);
    }

    #[test]
    fn what_tells_no_size_has_room() {
        let totals = Totals {
            planned_room: 2,
            planned_inodes: 2,
            ..Totals::default()
        };
        let target = |capacity| {
            let here = crate::tree::path::open_directory_path(b".", sys::Follow::No).unwrap();
            Target::new(Vec::new(), Some(here), capacity, 0)
        };
        let with = |free_bytes, free_inodes| {
            let total_bytes = 9;
            target(Some(Capacity {
                free_bytes,
                free_inodes,
                total_bytes,
            }))
        };
        assert!(fits(&totals, &[with(2, 2)]).is_ok());
        assert!(fits(&totals, &[with(2, u64::MAX), with(0, u64::MAX)]).is_ok());
        assert!(fits(&totals, &[target(None), with(0, 0)]).is_ok());
        for (short, message) in [
            (with(1, 2), "2 B (2 bytes) are to be copied, and 1 B (1 byte) are free"),
            (with(2, 1), "2 entries are to be made, and 1 inode is free"),
        ] {
            let Err(Refusal::NoSpace(said)) = fits(&totals, &[short]) else {
                panic!("{message}");
            };
            assert_eq!(said, message);
        }
    }
}
