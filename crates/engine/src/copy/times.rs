//! The times of entries: set, and what the destination keeps of them asked where that is in doubt.
//!
//! Comes in: the time that an entry is to have; goes out: whether it has it, as far as its file system can tell, and a note where
//! more was lost than its granularity.

use std::sync::atomic::Ordering;

use bulkhaul_sys::{self as sys, Kind, Node, Stat, Time};

use crate::copy::dir::{Dir, Twin, Twinned as _};
use crate::copy::worker::Worker;
use crate::error::{Fault, Operation, Side};
use crate::tree::metadata;
use crate::tree::times::{Kept, is_doubtful, is_usual};

/// What a destination makes of the time of `source`, where something has its name in a directory. Nobody is asked
/// unless it can matter.
pub fn kept_of(worker: &Worker<'_>, dir: &Dir, index: usize, source: &Stat, existing: Option<&Stat>) -> Kept {
    match existing.filter(|existing| is_doubtful(source.mtime, existing.mtime)) {
        None => Kept::UNKNOWN,
        Some(existing) if !worker.run.pass.writes() => Kept::assumed(source.mtime, existing),
        Some(_) => learnt(worker, dir, index),
    }
}

fn learnt(worker: &Worker<'_>, dir: &Dir, index: usize) -> Kept {
    let clock = &worker.run.targets[index].clock;
    match dir.writable(index) {
        Ok((twin, fd)) => clock.kept(twin.device(), &fd, worker.run.stager),
        Err(_) => Kept::UNKNOWN,
    }
}

/// Sets the times of a finished entry in a directory. The first one of a destination is read back, and so are those
/// that not every file system keeps. False: they were refused, or taken and dropped, and that was said.
pub fn set_times(
    worker: &mut Worker<'_>,
    dir: &Dir,
    index: usize,
    source: &Stat,
    node: Node<'_>,
) -> Result<bool, Fault> {
    let run = worker.run;
    if !metadata::set_times(&run.rules.keep, source, node, index, &mut worker.scratch)? {
        return Ok(false);
    }
    let (clock, device) = (&run.targets[index].clock, device(dir, index));
    let usual = is_usual(source.mtime);
    if !run.rules.keep.times || (usual && clock.trusted.load(Ordering::Relaxed) == device) {
        return Ok(true);
    }
    let (Node::Open(fd) | Node::Path(fd)) = node;
    let look = || sys::stat_fd(fd).map_err(|e| Fault::new(Operation::Stat, Side::Destination(index), e));
    let mut stored = look()?;
    let kept = if stored.mtime == source.mtime {
        Kept::UNKNOWN
    } else {
        let kept = learnt(worker, dir, index);
        if source.kind == Kind::Directory {
            // What was asked may have been made in this very directory.
            let before = look()?;
            metadata::set_times(&run.rules.keep, source, node, index, &mut worker.scratch)?;
            stored = look()?;
            if kept.is_lost(source.mtime, stored.mtime) && stored.mtime != before.mtime {
                // Neither what was set nor what was there: somebody else writes into it, and has it have the time of that.
                return Ok(true);
            }
        }
        kept
    };
    if usual && kept.is_lost(source.mtime, stored.mtime) && !kept.is_limited(source.mtime) {
        // Every file system has room for this one.
        metadata::lose_times(&run.rules.keep, None, &mut worker.scratch);
        return Ok(false);
    }
    tell_loss(worker, &kept, source.mtime, stored.mtime);
    if usual && !kept.is_lost(source.mtime, stored.mtime) {
        clock.trusted.store(device, Ordering::Relaxed);
    }
    Ok(true)
}

/// Notes where a destination has no room for the time that an entry should have.
pub fn tell_loss(worker: &mut Worker<'_>, kept: &Kept, wanted: Time, stored: Time) {
    if kept.is_lost(wanted, stored) {
        let (wanted, stored) = (date(wanted), date(stored));
        let message = format!("the destination can't keep its time: {wanted} became {stored}");
        worker.scratch.note("time", message, false);
    }
}

/// Whether a copy, because of which a move is about to remove its source, lacks the source's time, beyond what the file
/// system rounds and without that being accepted. By what was learnt in the copy: nothing is asked any more.
pub fn lacks_time(worker: &Worker<'_>, dir: &Dir, index: usize, source: &Stat, copy: &Stat) -> bool {
    let rules = &worker.run.rules;
    let wanted = rules.keep.times && !rules.asked.accept_time_loss && source.mtime != copy.mtime;
    wanted && {
        let kept = worker.run.targets[index].clock.known(device(dir, index));
        kept.is_lost(source.mtime, copy.mtime)
    }
}

fn device(dir: &Dir, index: usize) -> u64 {
    dir.twins[index].as_ref().map_or(0, Twin::device)
}

/// A second in UTC, as `2038-01-19T03:14:07Z`.
pub fn date(time: Time) -> String {
    let (days, second) = (time.sec.div_euclid(86_400), time.sec.rem_euclid(86_400));
    // In years that begin in March, so that leap days are last.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year + i64::from(month >= 10), (month + 2) % 12 + 1);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_their_names() {
        for (sec, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (i64::from(i32::MAX), "2038-01-19T03:14:07Z"),
            (i64::from(i32::MIN), "1901-12-13T20:45:52Z"),
            (16_725_225_600, "2500-01-01T00:00:00Z"),
            (1 << 40, "36812-02-20T00:36:16Z"),
        ] {
            assert_eq!(date(Time { sec, nsec: 0 }), text);
        }
    }
}
