//! Files that become archives on their way.
//!
//! Comes in: an open source and a new file; goes out: the archive, written from the one pass over the source that its digests
//! are made in too, and beside it its index, where there is to be one.

use std::ffi::CStr;

use bulkhaul_formats::codec::Gzi;
use bulkhaul_formats::codec::names::index_of;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind, Node, OwnedFd, Stat};

use crate::bytes::chunks::Copied;
use crate::bytes::codec::{self, Packed};
use crate::copy::act::archive::lend;
use crate::copy::act::content::{Filled, Place, dress_file};
use crate::copy::act::make;
use crate::copy::dir::Twinned as _;
use crate::copy::entry::{Entry, Index, Proof, Unfinished, same_version};
use crate::copy::times;
use crate::copy::worker::Worker;
use crate::error::{Cause, Fault, Operation, Side, Stopped};
use crate::tree::medium::has_sizes;
use crate::tree::publish::DIRECTORY_IN_THE_WAY;
use crate::tree::staging::Staging;

/// Writes the archive of a file into a new one, and its index beside it.
pub fn fill(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    (file, stat): (&OwnedFd, &Stat),
    place: &Place,
    (new, unfinished): (&OwnedFd, Option<&Unfinished>),
) -> Result<Filled, Stopped> {
    let Some(packing) = &worker.run.rules.packing else {
        return Err(Stopped::Aborted);
    };
    let (codec, destination) = (packing.codec, place.destination);
    let terms = worker.run.terms(destination);
    let (proved, others) = (terms.proved, terms.in_order().collect::<Vec<_>>());
    let wanted = packing.index || has_old_index(entry, place)?;
    let ledger = unfinished.and_then(|of| of.ledger.as_ref());
    let packed = lend(worker, |lead| {
        codec::pack(lead, file.as_fd(), new.as_fd(), codec, (wanted, &others), ledger)
    })?;
    let source = |operation| move |errno| Fault::new(operation, Side::Source, errno);
    let after = sys::stat_fd(file.as_fd()).map_err(source(Operation::Stat))?;
    if !same_version(&after, stat) {
        return Err(Fault::changed(Operation::Read).into());
    }
    if packed.read != stat.size && has_sizes(file.as_fd()) {
        return Err(Fault::size(Side::Source, stat.size, packed.read).into());
    }
    let Packed {
        read,
        written,
        content: digest,
        others,
        index,
    } = packed;
    worker.run.targets[destination].reserve(written, &worker.run.desk);
    if worker.run.stored.is_some()
        && let Some(ledger) = ledger
    {
        // It is read now for what the manifest says of it.
        let fault = |errno| Fault::new(Operation::Write, Side::Destination(destination), errno);
        ledger.give_up(new.as_fd(), written).map_err(fault)?;
    }
    let proof = proved.then(|| -> Result<Proof, Fault> {
        Ok(Proof {
            source: sys::duplicate(file.as_fd()).map_err(source(Operation::Open))?,
            digest: Some(digest),
        })
    });
    let proof = proof.transpose()?;
    let content = Copied {
        end: read,
        digest: Some(digest),
        others: (!others.is_empty()).then_some(others),
    };
    let index = index.map(|index| write_index(worker, entry, (file, stat), place, &index));
    Ok(Filled {
        content,
        proof,
        bytes: written,
        index: index.transpose()?,
    })
}

/// Whether what is replaced has an index, which would tell of another archive then.
fn has_old_index(entry: &Entry<'_>, place: &Place) -> Result<bool, Fault> {
    if place.replaces.is_none() {
        return Ok(false);
    }
    let (_, at) = entry.dir.writable(place.destination)?;
    Ok(sys::stat(at.as_fd(), &index_of(entry.target), Follow::No).is_ok_and(|stat| stat.kind == Kind::File))
}

/// Writes the index of an archive, with owner, mode and attributes of its source, which may be read by the same.
fn write_index(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    source: (&OwnedFd, &Stat),
    place: &Place,
    index: &Gzi,
) -> Result<Index, Fault> {
    let destination = place.destination;
    let fault = |operation| move |errno| Fault::new(operation, Side::Destination(destination), errno);
    let name = index_of(entry.target);
    let beside = Entry {
        target: &name,
        ..*entry
    };
    let bits = worker.run.rules.keep.made_with(source.1.mode);
    let create = |fd: &OwnedFd, name: &CStr| sys::create_file_as(fd.as_fd(), name, bits);
    let (file, staging) = make::make(worker, &beside, destination, Operation::Create, create)?;
    let written = codec::write_index(index, file.as_fd())
        .map_err(fault(Operation::Write))
        .and_then(|()| dress_file(worker, &beside, source, (destination, None), (&file, bits, None)))
        .and_then(|()| times::set_times(worker, entry.dir, destination, source.1, Node::Open(file.as_fd())));
    if let Err(fault) = written {
        make::discard(worker, entry.dir, destination, &name, staging.as_ref());
        return Err(fault);
    }
    Ok(Index { file, name, staging })
}

/// Takes the index of an archive back that is not to be.
pub fn discard_index(worker: &Worker<'_>, entry: &Entry<'_>, destination: usize, index: &Index) {
    make::discard(worker, entry.dir, destination, &index.name, index.staging.as_ref());
}

/// The index of an archive gets its name, right before its archive: whoever finds that finds the index too.
pub fn publish_index(worker: &Worker<'_>, entry: &Entry<'_>, destination: usize, index: &Index) -> Result<(), Stopped> {
    match &index.staging {
        Some(staging) => publish_as(worker, entry, destination, (staging, &index.name)),
        None => Ok(()),
    }
}

/// Another name of an archive has its index too: a link to that of the first one, `first` in the directory `from`.
pub fn link_index(
    worker: &Worker<'_>,
    entry: &Entry<'_>,
    destination: usize,
    (from, first): (&OwnedFd, &CStr),
) -> Result<(), Stopped> {
    let fault = |operation| move |errno| Fault::new(operation, Side::Destination(destination), errno);
    let (_, at) = entry.dir.writable(destination)?;
    let (name, first) = (index_of(entry.target), index_of(first));
    let look = |at: &OwnedFd, name: &CStr| match sys::stat(at.as_fd(), name, Follow::No) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(fault(Operation::Stat)(errno)),
    };
    let (there, wanted) = (look(&at, &name)?, look(from, &first)?);
    let is_asked = worker.run.rules.packing.as_ref().is_some_and(|packing| packing.index);
    let Some(wanted) = wanted.filter(|_| is_asked || there.is_some()) else {
        return Ok(());
    };
    if there.is_some_and(|there| there.id == wanted.id) {
        return Ok(());
    }
    let beside = Entry {
        target: &name,
        ..*entry
    };
    let link = |fd: &OwnedFd, name: &CStr| sys::make_link(from.as_fd(), &first, fd.as_fd(), name);
    let staging = match make::make(worker, &beside, destination, Operation::Link, link) {
        Ok(((), staging)) => staging,
        // Nor can the archive be linked then: it will have an index of its own.
        Err(Fault {
            cause: Cause::Errno(Errno::MLINK | Errno::XDEV | Errno::PERM | Errno::NOTSUP | Errno::NOSYS),
            ..
        }) => None,
        Err(fault) => return Err(fault.into()),
    };
    let Some(staging) = staging else { return Ok(()) };
    let published = publish_as(worker, entry, destination, (&staging, &name));
    // A rename between two links of one inode does nothing and leaves both.
    make::discard(worker, entry.dir, destination, &name, Some(&staging));
    published
}

fn publish_as(
    worker: &Worker<'_>,
    entry: &Entry<'_>,
    destination: usize,
    (staging, name): (&Staging, &CStr),
) -> Result<(), Stopped> {
    let (_, at) = entry.dir.writable(destination)?;
    let there = match sys::stat(at.as_fd(), name, Follow::No) {
        Ok(there) if there.kind == Kind::Directory => {
            return Err(Fault::conflict(Operation::Create, destination, DIRECTORY_IN_THE_WAY).into());
        }
        Ok(there) => Some(there),
        Err(Errno::NOENT) => None,
        Err(errno) => return Err(Fault::new(Operation::Stat, Side::Destination(destination), errno).into()),
    };
    make::permit(
        worker,
        (entry.dir, entry.is_packed()),
        (destination, name),
        Operation::Create,
        there.as_ref(),
    )?;
    make::publish(worker, entry.dir, destination, staging, name, there.as_ref())
}
