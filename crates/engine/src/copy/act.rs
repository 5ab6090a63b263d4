//! Carrying out what the plan says for one entry that is not a directory.
//!
//! Comes in: a name in a directory with open descriptors; goes out: what was done. Each kind of entry has a room of its own
//! below. Whatever stops on the way leaves no name behind, but for that of a file which the end of the run overtook.

pub mod archive;
pub mod begin;
pub mod content;
pub mod depart;
pub mod file;
pub mod link;
pub mod make;
pub mod note;
pub mod pack;
pub mod rename;
pub mod special;

use bulkhaul_sys::{self as sys, AsFd as _, Follow, Kind, Stat};

use crate::copy::act::make::{existing, make};
use crate::copy::act::special::special;
use crate::copy::entry::{Done, Entry};
use crate::copy::extra;
use crate::copy::memory::Coming;
use crate::copy::options::Directories;
use crate::copy::worker::Worker;
use crate::entry::Reason;
use crate::error::{Fault, Operation, Side, Stopped};

/// Times that an entry is planned when the destination changes under it (another run, or a network file system).
const STALE_ATTEMPTS: u32 = 3;

/// One entry that is not a directory. `None`: its outcome comes later, with its sync or in the end. What changes in
/// the destination between the look and the deed is looked at again.
pub fn entry(worker: &mut Worker<'_>, entry: &Entry<'_>, kind: Kind) -> Result<Option<Done>, Stopped> {
    if let Some(departure) = worker.run.pass.departure() {
        return depart::depart(worker, departure, entry, kind);
    }
    let mut entry = *entry;
    let mut attempts = 1;
    loop {
        match attempt(worker, &entry, kind) {
            Err(Stopped::Fault(fault)) if fault.is_stale() && attempts < STALE_ATTEMPTS => {
                attempts += 1;
                entry.again = true;
            }
            result => return result,
        }
    }
}

fn attempt(worker: &mut Worker<'_>, entry: &Entry<'_>, kind: Kind) -> Result<Option<Done>, Stopped> {
    if worker.run.rules.asked.directories == Directories::Only {
        return Ok(Some(Done::skipped(Reason::DirectoriesOnly)));
    }
    let name = entry.name();
    let at = entry
        .dir
        .source(entry.source)
        .map_err(|e| Fault::new(Operation::Open, Side::Source, e))?;
    let there = existing(worker, entry)?;
    if waits(worker, entry, kind, &there)? {
        return Ok(None);
    }
    if entry.last.is_none() && !entry.again {
        extra::note_there(
            worker,
            entry.dir,
            there.iter().filter(|(_, stat)| stat.is_some()).count(),
        );
    }
    if let Some(done) = rename::entry(worker, entry, kind, (&at, name), &there)? {
        return Ok(Some(done));
    }
    if kind == Kind::File {
        return file::regular(worker, entry, &at, name, &there);
    }
    let stat = sys::stat(at.as_fd(), name, Follow::No).map_err(|e| Fault::new(Operation::Stat, Side::Source, e))?;
    if stat.kind != kind {
        return Err(Fault::changed(Operation::Stat).into());
    }
    let text = match kind {
        Kind::Symlink => {
            Some(sys::read_link(at.as_fd(), name).map_err(|e| Fault::new(Operation::Read, Side::Source, e))?)
        }
        _ => None,
    };
    let done = special(worker, entry, &stat, (&at, name), text.as_deref(), &there)?;
    Ok(done.map(|done| note::special(worker, &stat, text.as_deref(), done)))
}

/// Whether an entry waits for the sweep: a directory is in its way, which may go. `there`: what has its name.
fn waits(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    kind: Kind,
    there: &[(usize, Option<Stat>)],
) -> Result<bool, Fault> {
    let directory = |(index, stat): &(usize, Option<Stat>)| {
        let kind = stat.as_ref().map(|stat| stat.kind)?;
        (kind == Kind::Directory).then_some((*index, kind))
    };
    // What has the name of an archive does not go for it: no source has that name.
    if entry.last.is_some() || entry.is_packed() {
        return Ok(false);
    }
    let blocked = extra::obstacles(worker, entry.dir, entry.target, there.iter().filter_map(directory))?;
    if blocked.is_empty() {
        return Ok(false);
    }
    let coming = Coming::Entry {
        source: entry.source,
        target: entry.found.to_owned(),
        kind,
    };
    extra::put_off(worker, entry.dir, coming, blocked);
    Ok(true)
}
