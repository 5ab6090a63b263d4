//! The content of one file: compared with what is there, or copied, and its metadata put right.
//!
//! Comes in: an open source, and the file of a destination, old or new; goes out: whether both are the same, or the bytes that
//! were written, with what proves them.

use std::ffi::CStr;
use std::sync::Arc;

use bulkhaul_formats::digest::ContentDigest;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Kind, Node, OwnedFd, Stat};

use crate::bytes::chunks::Chunks;
use crate::bytes::probe::{self, Extent, Likeness};
use crate::bytes::proof::forget;
use crate::bytes::transfer::Transfer;
use crate::copy::dir::{Created, Twinned as _};
use crate::copy::entry::{Entry, SourceEntry, same_version};
use crate::copy::run::Task;
use crate::copy::worker::Worker;
use crate::entry::Changes;
use crate::error::{Fault, Operation, Side, Stopped};
use crate::tree::keep::Keep;
use crate::tree::metadata::{Subject, put_right};

/// Compares the last `tail` bytes of a file, or all where all is to be proved, with those of one in destination number
/// `index`, by its name in a directory there; the latter is answered, open, when they are the same.
pub fn same_content(
    worker: &mut Worker<'_>,
    source: SourceEntry<'_>,
    stat: &Stat,
    there: (&OwnedFd, &CStr),
    index: usize,
    tail: u64,
) -> Result<Option<OwnedFd>, Stopped> {
    let side = Side::Destination(index);
    let opened;
    let file = if let Some(file) = source.file {
        file
    } else {
        let open = |e| Fault::new(Operation::Open, Side::Source, e);
        opened = sys::open_file(source.at.as_fd(), source.name).map_err(open)?;
        &opened
    };
    let existing = match sys::open_file(there.0.as_fd(), there.1) {
        Ok(fd) => fd,
        // What may not be read can't be trusted; it may still be replaced.
        Err(Errno::ACCESS | Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(Fault::new(Operation::Open, side, errno).into()),
    };
    let verify = worker.run.rules.asked.verify;
    let mut from_cache = 0;
    if verify {
        // What was not written back yet can't be read from the medium; the file system was synced in the beginning.
        if !worker.run.targets[index].synced {
            let _syncing = worker.run.desk.syncing();
            sys::sync_data(existing.as_fd()).map_err(|e| Fault::new(Operation::Sync, side, e))?;
        }
        from_cache = forget(existing.as_fd(), stat.size);
    }
    let tail = if verify { u64::MAX } else { tail };
    let extent = Extent::Tail { size: stat.size, tail };
    let (source, buffer) = (file.as_fd(), &mut worker.buffer);
    let likeness = probe::compare(source, existing.as_fd(), extent, index, &worker.run.desk, buffer)?;
    // A source that is not as long as its size says is copied, and the copy will tell.
    let same = likeness == Likeness::Same;
    if verify && same {
        worker.counters.verified(stat.size, from_cache);
    }
    Ok(same.then_some(existing))
}

/// Copies the content of a file into a new one, and puts the metadata right. Answers the bytes, and where they are to be proved
/// the source once more, with the digest of what was read.
pub fn fill_file(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    file: &OwnedFd,
    stat: &Stat,
    place: &Place,
    bits: u32,
    new: &OwnedFd,
) -> Result<(u64, Option<(OwnedFd, ContentDigest)>), Stopped> {
    let rules = &worker.run.rules;
    let index = place.destination;
    let (twin, twin_fd) = entry.dir.writable(index)?;
    let to_device = twin.device();
    let files = (file.as_fd(), new.as_fd());
    let transfer = Transfer::new(worker.run.terms(index), worker.counters, files, *stat, to_device);
    let (bytes, wrong_size) = if let Some(bytes) = transfer.share()? {
        (bytes, None)
    } else {
        let end = if transfer.is_divisible() {
            transfer.make_room(stat.size)?;
            let schedule = &worker.run.schedule;
            let invite = |chunks: &Arc<Chunks>| {
                if schedule.hungry() {
                    worker.run.push(Task::Chunks(Arc::clone(chunks)));
                }
            };
            let (terms, files) = (worker.run.terms(index), (file, new));
            let end = Chunks::lead(
                terms,
                worker.counters,
                files,
                stat,
                to_device,
                &mut worker.buffer,
                invite,
            )?;
            transfer.end_at(end)?;
            end
        } else {
            transfer.whole(&mut worker.buffer)?
        };
        (end, transfer.wrong_size(end)?)
    };
    let digest = transfer.into_digest();
    drop(twin_fd);
    let after = sys::stat_fd(file.as_fd()).map_err(|e| Fault::new(Operation::Stat, Side::Source, e))?;
    if !same_version(&after, stat) {
        return Err(Fault::changed(Operation::Read).into());
    }
    if let Some(fault) = wrong_size {
        return Err(fault.into());
    }
    let keep = &rules.keep;
    let left = twin.heritage.leaves(keep, bits);
    let created = if let Some(created) = twin.creates.get() {
        *created
    } else {
        let made = sys::stat_fd(new.as_fd()).map_err(|e| Fault::new(Operation::Stat, Side::Destination(index), e))?;
        *twin.creates.get_or_init(|| Created {
            owner: (made.uid, made.gid),
            mode: (made.mode != left).then_some(made.mode),
        })
    };
    let mut copy = Subject {
        node: Node::Open(new.as_fd()),
        owner: created.owner,
        mode: created.mode.unwrap_or(left),
        born: keep.chmod.is_some().then(|| twin.heritage.leaves(keep, stat.mode)),
        new: true,
        inherits: twin.heritage.attributes,
        destination: index,
    };
    if let (Some(rest), Some(old)) = (&rules.keep_replaced, place.replaced_file()) {
        follow(worker, entry, rest, old, &mut copy)?;
    }
    put_right(
        keep,
        stat,
        Some(Node::Open(file.as_fd())),
        copy,
        Some(copy.node),
        &mut worker.scratch,
    )?;
    let again = |digest| match sys::duplicate(file.as_fd()) {
        Ok(source) => Ok((source, digest)),
        Err(errno) => Err(Fault::new(Operation::Open, Side::Source, errno)),
    };
    Ok((bytes, digest.map(again).transpose()?))
}

/// Gives a new file what it keeps of the one whose place it takes, as if that had been written into. Nobody asked for it,
/// so nobody is told what can't be had.
pub fn follow(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    rest: &Keep,
    old: &Stat,
    copy: &mut Subject<'_>,
) -> Result<(), Fault> {
    let index = copy.destination;
    let open = |e| Fault::new(Operation::Open, Side::Destination(index), e);
    let mut node = None;
    if rest.acls || rest.xattrs {
        let (_, fd) = entry.dir.writable(index)?;
        let there = node.insert(sys::open_node(fd.as_fd(), entry.target).map_err(open)?);
        if sys::stat_fd(there.as_fd()).map_err(open)?.id != old.id {
            return Err(open(Errno::STALE));
        }
    }
    // Writing takes set-id bits away.
    let old = Stat {
        mode: old.mode & 0o1777,
        ..*old
    };
    let node = node.as_ref().map(|fd| Node::Path(fd.as_fd()));
    let told = worker.scratch.shortfalls.len();
    let put = put_right(rest, &old, node, *copy, Some(copy.node), &mut worker.scratch)?;
    worker.scratch.shortfalls.truncate(told);
    if rest.owner && !put.refused.contains(Changes::OWNER) {
        copy.owner.0 = old.uid;
    }
    if rest.owner && !put.refused.contains(Changes::GROUP) {
        copy.owner.1 = old.gid;
    }
    if rest.mode && !put.refused.contains(Changes::MODE) {
        copy.mode = old.mode;
    }
    Ok(())
}

/// Where a file's content has to go.
pub struct Place {
    pub(crate) destination: usize,
    /// What has the name now.
    pub(crate) replaces: Option<Stat>,
    pub(crate) changes: Changes,
}

impl Place {
    /// What is there, where it could be written into.
    pub(crate) fn replaced_file(&self) -> Option<&Stat> {
        self.replaces.as_ref().filter(|old| old.kind == Kind::File)
    }
}
