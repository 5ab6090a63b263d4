//! The content of one file: compared with what is there, or copied, and its metadata put right.
//!
//! Comes in: an open source, and the file of a destination, old or new; goes out: whether both are the same, or the bytes that
//! were written, with what proves them.

use std::ffi::CStr;
use std::sync::Arc;

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Kind, Node, OwnedFd, Stat};

use crate::bytes::chunks::{Chunks, Copied, Lead};
use crate::bytes::probe::{self, Extent, Likeness};
use crate::bytes::proof::forget;
use crate::bytes::transfer::{Transfer, is_long};
use crate::copy::act::archive;
use crate::copy::dir::{Created, Twinned as _};
use crate::copy::entry::{Entry, Index, Proof, SourceEntry, Unfinished, same_version};
use crate::copy::run::Task;
use crate::copy::worker::Worker;
use crate::entry::Changes;
use crate::error::{Fault, Operation, Side, Stopped};
use crate::tree::keep::Keep;
use crate::tree::medium::has_sizes;
use crate::tree::metadata::{Subject, put_right};

/// Compares the last `tail` bytes of a file, or all where all is to be proved, with those of one in destination number
/// `index`, by its name in a directory there; the latter is answered, open, when they are the same.
pub fn same_content(
    worker: &mut Worker<'_>,
    source: SourceEntry<'_>,
    stat: &Stat,
    (at, name): (&OwnedFd, &CStr),
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
    let existing = match sys::open_file(at.as_fd(), name) {
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
        let there = sys::stat_fd(existing.as_fd()).map_err(|e| Fault::new(Operation::Stat, side, e))?;
        from_cache = forget(existing.as_fd(), there.size);
    }
    let tail = if verify { u64::MAX } else { tail };
    if source.packed {
        let same = archive::has_index(worker, at, name, index)?
            && archive::has_same(worker, (file.as_fd(), stat.size), existing.as_fd(), tail)?;
        if verify && same {
            worker.counters.verified(stat.size, from_cache);
        }
        return Ok(same.then_some(existing));
    }
    let extent = Extent::Tail { size: stat.size, tail };
    let likeness = if tail >= stat.size && is_long(stat.size) && has_sizes(file.as_fd()) {
        same_in_chunks(worker, (file, &existing), stat.size, index)?
    } else {
        let (source, buffer) = (file.as_fd(), &mut worker.buffer);
        probe::compare(source, existing.as_fd(), extent, index, &worker.run.desk, buffer)?
    };
    // A source that is not as long as its size says is copied, and the copy will tell.
    let same = likeness == Likeness::Same;
    if verify && same {
        worker.counters.verified(stat.size, from_cache);
    }
    Ok(same.then_some(existing))
}

/// Compares all of two big files of this size, side by side over the workers.
pub fn same_in_chunks(
    worker: &mut Worker<'_>,
    files: (&OwnedFd, &OwnedFd),
    size: u64,
    index: usize,
) -> Result<Likeness, Stopped> {
    let (same, _) = in_chunks(worker, index, |lead| Chunks::same(lead, files, size, None, false))?;
    for (file, side) in [(files.0, Side::Source), (files.1, Side::Destination(index))] {
        if sys::read_at(file.as_fd(), &mut [0], size).map_err(|e| Fault::new(Operation::Read, side, e))? > 0 {
            return Ok(Likeness::WrongSize(side, size + 1));
        }
    }
    Ok(if same { Likeness::Same } else { Likeness::Different })
}

/// What a new file was filled with.
pub struct Filled {
    /// Bytes of the content, with the digests that were made of them.
    pub(crate) content: Copied,
    /// What it is proved by, where it is to be.
    pub(crate) proof: Option<Proof>,
    /// Bytes that it holds: of an archive others than its content has.
    pub(crate) bytes: u64,
    /// The index of an archive.
    pub(crate) index: Option<Index>,
}

/// Copies the content of a file into a new one, or what is not there yet of a big one.
pub fn fill_file(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    file: &OwnedFd,
    stat: &Stat,
    index: usize,
    (new, unfinished): (&OwnedFd, Option<&Unfinished>),
) -> Result<Filled, Stopped> {
    let (twin, twin_fd) = entry.dir.writable(index)?;
    let to_device = twin.device();
    let files = (file.as_fd(), new.as_fd());
    let terms = worker.run.terms(index);
    let transfer = Transfer::new(terms, worker.counters, files, *stat, to_device);
    let resumed = unfinished.is_some_and(|of| of.resumed);
    let shared = if resumed { None } else { transfer.share()? };
    let copied = if let Some(bytes) = shared {
        Copied {
            end: bytes,
            digest: None,
            others: None,
        }
    } else if transfer.is_divisible() {
        if !resumed {
            transfer.make_room(stat.size)?;
        }
        let ledger = unfinished.and_then(|of| of.ledger.as_ref());
        in_chunks(worker, index, |lead| {
            Chunks::copied(lead, (file, new), stat, to_device, ledger)
        })?
    } else {
        let end = transfer.whole(&mut worker.buffer)?;
        Copied {
            end,
            digest: transfer.take_digest().map(|digest| digest.digest()),
            others: transfer.take_others(),
        }
    };
    let wrong_size = if shared.is_some() {
        None
    } else {
        transfer.wrong_size(copied.end)?
    };
    drop(twin_fd);
    let after = sys::stat_fd(file.as_fd()).map_err(|e| Fault::new(Operation::Stat, Side::Source, e))?;
    if !same_version(&after, stat) {
        return Err(Fault::changed(Operation::Read).into());
    }
    if let Some(fault) = wrong_size {
        return Err(fault.into());
    }
    let again = || match sys::duplicate(file.as_fd()) {
        Ok(source) => Ok(Proof {
            source,
            digest: copied.digest,
        }),
        Err(errno) => Err(Fault::new(Operation::Open, Side::Source, errno)),
    };
    let proof = terms.proved.then(again).transpose()?;
    Ok(Filled {
        bytes: copied.end,
        content: copied,
        proof,
        index: None,
    })
}

/// Has a big file of a destination done in chunks, by this worker and whoever has nothing to do.
pub fn in_chunks<T>(worker: &mut Worker<'_>, index: usize, deed: impl FnOnce(Lead<'_>) -> T) -> T {
    let run = worker.run;
    let invite = |chunks: &Arc<Chunks>| {
        if run.schedule.hungry() {
            run.push(Task::Chunks(Arc::clone(chunks)));
        }
    };
    deed(Lead {
        terms: worker.run.terms(index),
        counters: worker.counters,
        buffer: &mut worker.buffer,
        invite: &invite,
    })
}

/// Gives a new file the metadata of its source. `replaces`: what has its name now; `unfinished`: what is known of a big one.
pub fn dress_file(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    (file, stat): (&OwnedFd, &Stat),
    (index, replaces): (usize, Option<&Stat>),
    (new, bits, unfinished): (&OwnedFd, u32, Option<&Unfinished>),
) -> Result<(), Fault> {
    let rules = &worker.run.rules;
    let keep = &rules.keep;
    let (twin, _) = entry.dir.writable(index)?;
    let left = twin.heritage.leaves(keep, bits);
    let created = |made: &Stat| Created {
        owner: (made.uid, made.gid),
        mode: (made.mode != left).then_some(made.mode),
    };
    let created = match (unfinished, twin.creates.get()) {
        (Some(of), _) => created(&of.made),
        (None, Some(created)) => *created,
        (None, None) => {
            let made =
                sys::stat_fd(new.as_fd()).map_err(|e| Fault::new(Operation::Stat, Side::Destination(index), e))?;
            *twin.creates.get_or_init(|| created(&made))
        }
    };
    let mut copy = Subject {
        node: Node::Open(new.as_fd()),
        owner: created.owner,
        mode: created.mode.unwrap_or(left),
        born: keep.chmod.is_some().then(|| twin.heritage.leaves(keep, stat.mode)),
        new: unfinished.is_none_or(|of| !of.resumed),
        inherits: twin.heritage.attributes,
        destination: index,
    };
    let old = replaces.filter(|old| old.kind == Kind::File);
    if let (Some(rest), Some(old)) = (&rules.keep_replaced, old) {
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
    Ok(())
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
