//! What the manifest of a copy says of an entry.
//!
//! Comes in: an entry that is there now, and its source; goes out: its facts, and the digests of its content: those that were
//! made while it was copied, or when another name of it was; else it is read for them, which finds a source that has changed.

use std::ffi::CStr;

use bulkhaul_formats::digest::{Algorithm, Digest, Hashers};
use bulkhaul_sys::{self as sys, AsFd as _, Kind, OwnedFd, Stat};

use crate::bytes::chunks::Copied;
use crate::bytes::digests::digests;
use crate::copy::dir::Twinned as _;
use crate::copy::entry::{Done, Entry, Original, SourceEntry};
use crate::copy::worker::Worker;
use crate::error::{Fault, Operation, Side, Stopped};
use crate::records::entry::{self, Found};

/// The digests that a manifest has of a file, from what was taken in while it was copied; none where some of them are
/// missing.
pub fn of_copied(worker: &Worker<'_>, copied: &Copied) -> Option<Vec<Digest>> {
    let manifest = worker.run.manifests().next()?;
    let digest = |algorithm: &Algorithm| {
        if *algorithm == Algorithm::Blake3 {
            return Digest::new(*algorithm, &copied.digest?);
        }
        let mut others = copied.others.iter().flatten();
        others.find(|digest| digest.algorithm() == *algorithm).copied()
    };
    manifest.making().algorithms().iter().map(digest).collect()
}

/// A file that was copied, with the digests that were made then.
pub fn copied(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    (file, stat): (&OwnedFd, &Stat),
    made: Option<Vec<Digest>>,
    bytes: u64,
) -> Result<Option<Box<Found>>, Stopped> {
    let place = (&**entry.dir, entry.source, entry.found);
    let Some(manifest) = worker.run.noting(place, Kind::File) else {
        return Ok(None);
    };
    let (mut found, several) = (entry::of(stat), stat.nlink > 1);
    let of = Original::from(stat);
    let known = made.or_else(|| manifest.known(of).filter(|_| several));
    (found.0.digests, found.0.size) = if let Some(digests) = known {
        (digests, Some(bytes))
    } else {
        let (digests, bytes) = digests_of(worker, file, stat)?;
        (digests, Some(bytes))
    };
    if several {
        manifest.remember(of, &found.0.digests);
    }
    Ok(Some(Box::new(found)))
}

/// A file that was there already, or is another name of one.
pub fn kept(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    source: SourceEntry<'_>,
    stat: &Stat,
    done: Done,
) -> Result<Done, Stopped> {
    if worker.run.manifests().next().is_none() || !done.arrived() {
        return Ok(done);
    }
    let opened;
    let file = if let Some(file) = source.file {
        file
    } else {
        let open = |e| Fault::new(Operation::Open, Side::Source, e);
        opened = sys::open_file(source.at.as_fd(), source.name).map_err(open)?;
        &opened
    };
    let noted = copied(worker, entry, (file, stat), None, stat.size)?;
    let stored = if entry.is_packed() {
        let fault = |errno| Fault::new(Operation::Open, Side::Destination(done.destination), errno);
        let (_, at) = entry.dir.writable(done.destination)?;
        let archive = sys::open_file(at.as_fd(), entry.target).map_err(fault)?;
        stored(worker, entry, &archive, done.destination)?
    } else {
        None
    };
    Ok(Done { stored, ..done }.noted(noted))
}

/// Where a file became an archive, that, read for what the manifest of what is stored says of it.
pub fn stored(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    archive: &OwnedFd,
    destination: usize,
) -> Result<Option<Box<Found>>, Stopped> {
    let place = (&**entry.dir, entry.source, entry.found);
    if !entry.is_packed() || worker.run.stored.is_none() || worker.run.noting(place, Kind::File).is_none() {
        return Ok(None);
    }
    let side = Side::Destination(destination);
    let stat = sys::stat_fd(archive.as_fd()).map_err(|e| Fault::new(Operation::Stat, side, e))?;
    let (digests, _) = digests_of(worker, archive, &stat).map_err(|stopped| match stopped {
        Stopped::Fault(fault) => Fault { side, ..fault }.into(),
        Stopped::Aborted => Stopped::Aborted,
    })?;
    let mut found = entry::of(&stat);
    found.0.digests = digests;
    Ok(Some(Box::new(found)))
}

/// Reads a file for the digests that manifests have.
fn digests_of(worker: &mut Worker<'_>, file: &OwnedFd, stat: &Stat) -> Result<(Vec<Digest>, u64), Stopped> {
    let run = worker.run;
    let Some(manifest) = run.manifests().next() else {
        return Ok((Vec::new(), 0));
    };
    let algorithms = manifest.making().algorithms();
    let hashers = worker.hashers.get_or_insert_with(|| Hashers::new(algorithms));
    digests(
        (file.as_fd(), stat),
        &[],
        hashers,
        (&run.desk, worker.counters),
        &mut worker.buffer,
    )
}

/// An entry that is no file.
pub fn special(worker: &Worker<'_>, stat: &Stat, text: Option<&CStr>, done: Done) -> Done {
    let manifest = worker.run.manifests().next();
    if !done.arrived() || manifest.is_none_or(|manifest| !manifest.has(stat.kind)) {
        return done;
    }
    let mut found = entry::of(stat);
    found.0.target = text.map(|text| text.to_bytes().to_vec());
    done.noted(Some(Box::new(found)))
}
