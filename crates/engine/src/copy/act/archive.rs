//! Archives in a destination that stand for files of a source.
//!
//! Comes in: an entry that a listing called a file; goes out: the name of its archive, where it becomes one, whether what has
//! that name has this content, and the proof of one that was written.
//!
//! A name decides, a size, and the first bytes, so the same file becomes the same in every run; what is compressed already is
//! copied as it is. What an archive is called must be nobody else's name in the sources: that is a conflict, and nothing is
//! written. That an archive is there already is never taken from its name: where its time is that of the source, all its pieces
//! are counted, and those with the end of the content are decoded and compared, as the ends of files are elsewhere; with
//! `--verify`, and wherever else the whole content decides, all of it.

use std::ffi::{CStr, CString};
use std::sync::Arc;

use bulkhaul_formats::codec::names::{archive_of, index_of};
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow, Kind, OwnedFd};

use crate::bytes::codec::{self, Blocks, How, Lead, Target};
use crate::bytes::proof::{ReadBack, gives_again};
use crate::copy::entry::{Entry, Finished};
use crate::copy::options::Directories;
use crate::copy::run::Task;
use crate::copy::worker::Worker;
use crate::error::{Cause, Fault, Operation, Side, Stopped};

/// Why something does not become an archive.
const NAME_OF_ANOTHER: &str = "another entry of the source has the name of its archive";

/// The name of the archive that an entry becomes; none where it is copied as it is.
pub fn archive_for(worker: &Worker<'_>, entry: &Entry<'_>, kind: Kind) -> Result<Option<CString>, Stopped> {
    let rules = &worker.run.rules;
    let fault = |operation| move |errno| Fault::new(operation, Side::Source, errno);
    let Some(packing) = rules.packing.as_ref().filter(|_| kind == Kind::File) else {
        return Ok(None);
    };
    if packing.extensions.of(entry.name()).is_none() || rules.asked.directories == Directories::Only {
        return Ok(None);
    }
    let at = entry.dir.source(entry.source).map_err(fault(Operation::Open))?;
    let file = sys::open_file(at.as_fd(), entry.name()).map_err(fault(Operation::Open))?;
    let stat = sys::stat_fd(file.as_fd()).map_err(fault(Operation::Stat))?;
    if stat.kind != Kind::File {
        return Err(Fault::changed(Operation::Open).into());
    }
    if stat.size < packing.min_size || codec::is_compressed((at.as_fd(), entry.name()), file.as_fd())? {
        return Ok(None);
    }
    let archive = archive_of(entry.target, packing.codec.format());
    let index = packing.index.then(|| index_of(&archive));
    for name in [Some(&archive), index.as_ref()].into_iter().flatten() {
        if is_named(worker, entry, name)? {
            return Err(Fault {
                operation: Operation::Create,
                side: Side::Source,
                cause: Cause::Conflict(NAME_OF_ANOTHER),
            }
            .into());
        }
    }
    Ok(Some(archive))
}

/// Whether the directory of an entry has something of this name in one of its sources, which is taken.
fn is_named(worker: &Worker<'_>, entry: &Entry<'_>, target: &CStr) -> Result<bool, Fault> {
    let (dir, filter) = (entry.dir, &worker.run.rules.filter);
    let fault = |operation| move |errno| Fault::new(operation, Side::Source, errno);
    for (index, source) in dir.sources.iter().enumerate() {
        let Some(name) = source.scope.name_of(target) else {
            continue;
        };
        let at = dir.source(index).map_err(fault(Operation::Open))?;
        let kind = match sys::stat(at.as_fd(), name, Follow::No) {
            Ok(stat) => stat.kind,
            Err(Errno::NOENT) => continue,
            // Nor can the destination have it, which says so.
            Err(Errno::NAMETOOLONG) => return Ok(false),
            Err(errno) => return Err(fault(Operation::Stat)(errno)),
        };
        let paths = || vec![dir.source_path(index)];
        let parents = filter.parents(|| dir.relative_path(), paths, &worker.run.working_directory);
        if !filter.excludes(&parents, target, kind) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a codec is lent of a worker.
pub fn lend<T>(worker: &mut Worker<'_>, deed: impl FnOnce(Lead<'_>) -> T) -> T {
    let run = worker.run;
    let invite = |blocks: &Arc<Blocks>| {
        if run.schedule.hungry() {
            run.push(Task::Blocks(Arc::clone(blocks)));
        }
    };
    deed(Lead {
        desk: &run.desk,
        counters: worker.counters,
        memory: &run.memory,
        tools: &mut worker.tools,
        invite: &invite,
    })
}

/// Whether an archive that is there has the content of a source in it, as far as `tail` bytes at the end of that and all
/// lengths tell.
pub fn has_same(
    worker: &mut Worker<'_>,
    source: (BorrowedFd<'_>, u64),
    archive: BorrowedFd<'_>,
    tail: u64,
) -> Result<bool, Stopped> {
    let (from, proof) = (source.1.saturating_sub(tail), worker.run.rules.asked.verify);
    lend(worker, |lead| codec::has_same(lead, archive, source, from, proof))
}

/// Whether the index of an archive is there, where there is to be one.
pub fn has_index(worker: &Worker<'_>, at: &OwnedFd, archive: &CStr, destination: usize) -> Result<bool, Fault> {
    if !worker.run.rules.packing.as_ref().is_some_and(|packing| packing.index) {
        return Ok(true);
    }
    match sys::stat(at.as_fd(), &index_of(archive), Follow::No) {
        Ok(stat) => Ok(stat.kind == Kind::File),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(Fault::new(Operation::Stat, Side::Destination(destination), errno)),
    }
}

/// Reads an archive back that is synced, and decompresses it. `None`: it is not whole, or its source gives something else when
/// it is read once more, where that is asked for.
pub fn read_back(worker: &mut Worker<'_>, finished: &Finished, from_cache: u64) -> Result<Option<ReadBack>, Stopped> {
    if let Some(ledger) = finished.unfinished.as_ref().and_then(|of| of.ledger.as_ref()) {
        ledger.synced(finished.file.as_fd());
    }
    let how = How {
        proof: true,
        bytes: finished.end,
        ..How::default()
    };
    let unpacked = lend(worker, |lead| {
        codec::unpack(lead, finished.file.as_fd(), Target::Nothing, how)
    });
    let twice = worker
        .run
        .rules
        .packing
        .as_ref()
        .is_some_and(|packing| packing.verify_source);
    if let (true, Ok(unpacked), Some(proof)) = (twice, &unpacked, &finished.proof) {
        let (was, desk) = (
            (finished.stat.size, unpacked.content),
            (&*worker.run.desk, &*worker.counters.flight),
        );
        if !gives_again(proof.source.as_fd(), was, desk, &mut worker.buffer)? {
            return Ok(None);
        }
    }
    match unpacked {
        Ok(unpacked) => Ok(Some(ReadBack {
            digest: unpacked.content,
            bytes: finished.end,
            from_cache,
        })),
        // It was whole when it was written.
        Err(Stopped::Fault(Fault {
            cause: Cause::Damaged(_) | Cause::Foreign(_),
            ..
        })) => Ok(None),
        Err(stopped) => Err(stopped),
    }
}
