//! How a big file begins: new, where a run that died has left it, or with all of its content, which others have gathered.
//!
//! Comes in: an entry and its place; goes out: an open file that is written to its end, with the ledger of what is there
//! already. In a directory that nobody sees yet it has its final name; elsewhere one by which it is found again, and a lock
//! for as long as its run lives. Until its content is there, and proved where that was asked for, it is longer than it will
//! be: that is where the ledger lies, and why nothing takes it for finished. A run that dies after that, and before the file
//! has its name, leaves one without a ledger: it is compared with its source.

use std::ffi::{CStr, CString};
use std::sync::Arc;

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Kind, OwnedFd, Stat};

use crate::bytes::ledger::{Ledger, Manner};
use crate::bytes::probe::Likeness;
use crate::copy::act::content::{Place, same_in_chunks};
use crate::copy::act::make;
use crate::copy::dir::{Tries, Twinned as _};
use crate::copy::entry::{Entry, Unfinished};
use crate::copy::worker::Worker;
use crate::error::{Fault, Operation, Side, Stopped};
use crate::tree::keep::wanted;
use crate::tree::spelling::TWO_FOR_ONE;
use crate::tree::staging::{Staging, appear, is_own};
use crate::tree::times::nanoseconds;

/// A file that has begun.
pub struct Begun {
    /// Open for reading and writing.
    pub file: OwnedFd,
    /// Its name until it is published; none where that is its final one.
    pub staging: Option<Staging>,
    /// What has its final name, and goes.
    pub replaces: Option<Stat>,
    /// What else is known of a big one until it has all its content.
    pub unfinished: Option<Unfinished>,
}

/// Begins with a big file, or goes on with it.
pub fn begin(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    (source, stat): (&OwnedFd, &Stat),
    place: &Place,
    bits: u32,
) -> Result<Begun, Stopped> {
    let index = place.destination;
    let fault = |operation| move |e| Fault::new(operation, Side::Destination(index), e);
    let source = sys::duplicate(source.as_fd()).map_err(|e| Fault::new(Operation::Open, Side::Source, e))?;
    let lasting = worker.run.terms(index).lasting;
    let manner = match &worker.run.rules.packing {
        Some(packing) if entry.is_packed() => Manner::archive(packing.codec, stat.size, bits, lasting),
        _ => Manner {
            bits,
            number: worker.run.rules.asked.sparse as u32,
            room: stat.size,
            grows: false,
            lasting,
        },
    };
    let (twin, at) = entry.dir.writable(index)?;
    worker.run.tries(entry.dir, index).for_each(Tries::try_one);
    let mut found = None;
    let mut fits = |file: &OwnedFd, made: &Stat| {
        found = Ledger::found(file.as_fd(), stat, made, manner);
        found.is_some()
    };
    let hidden = twin.is_hidden() && place.replaces.is_none_or(|old| old.kind != Kind::Directory);
    let create = |name: &CStr| sys::create_file_as(at.as_fd(), name, bits);
    let gathered = if hidden || entry.is_packed() {
        None
    } else {
        gathered(worker, (&at, entry.target), stat, manner)
    };
    let (file, staging, locked) = if let Some((file, staging, ledger)) = gathered {
        found = Some(ledger);
        (file, Some(staging), false)
    } else if hidden {
        let left = match place.replaces {
            Some(_) => left_under(&at, entry.target, &mut fits),
            None => Ok(None),
        };
        let file = match left.transpose() {
            Some(file) => file,
            None => create(entry.target),
        };
        let file = file.map_err(|errno| match errno {
            Errno::EXIST => Fault::conflict(Operation::Create, index, TWO_FOR_ONE),
            errno => fault(Operation::Create)(errno),
        })?;
        (file, None, false)
    } else {
        let stager = worker.run.stager;
        let named = (entry.target, given(worker, stat));
        // One that is finished but for its name has no ledger any more.
        let mut left = None;
        let fits = |file: &OwnedFd, made: &Stat| {
            left = Some(*made).filter(|made| !entry.is_packed() && made.size == stat.size);
            fits(file, made) || left.is_some()
        };
        let begun = stager.stage_file(at.as_fd(), named, create, fits);
        let (mut file, mut staging, mut locked) = begun.map_err(fault(Operation::Create))?;
        if let Some(made) = left.filter(|_| found.is_none()) {
            found = whole(worker, (&source, stat), (&file, &made), manner, index)?;
            if found.is_none() {
                let begun = sys::unlink(at.as_fd(), staging.as_c_str())
                    .and_then(|()| stager.stage_file(at.as_fd(), named, create, |_, _| false));
                (file, staging, locked) = begun.map_err(fault(Operation::Create))?;
            }
        }
        (file, Some(staging), locked)
    };
    let facts = || -> Result<_, Fault> {
        let made = sys::stat_fd(file.as_fd()).map_err(fault(Operation::Stat))?;
        if hidden && !twin.fresh {
            make::take_over(entry, index, &made)?;
            twin.left.forget(entry.target);
        }
        let lock = locked.then(|| sys::duplicate(file.as_fd())).transpose();
        Ok((made, lock.map_err(fault(Operation::Open))?))
    };
    let (made, lock) = match facts() {
        Ok(facts) => facts,
        Err(fault) => {
            make::discard(worker, entry.dir, index, entry.target, staging.as_ref());
            return Err(fault.into());
        }
    };
    let resumed = found.is_some();
    if resumed {
        worker.counters.resumes();
    }
    // What nobody would find again needs no ledger.
    let new = || Ledger::new(file.as_fd(), stat, &made, manner);
    let ledger = found.or_else(|| (hidden || locked).then(new).flatten()).map(Arc::new);
    Ok(Begun {
        replaces: place.replaces.filter(|_| !hidden),
        staging,
        unfinished: Some(Unfinished {
            made,
            bits,
            source,
            lock,
            ledger,
            resumed,
        }),
        file,
    })
}

/// Whose a file is that a run which died had finished but for its name.
fn given(worker: &Worker<'_>, source: &Stat) -> Option<u32> {
    wanted(source, &worker.run.rules.keep, (sys::user_id(), source.gid), None).uid
}

/// The ledger of a file that is found to have all content of its source. An error, as where the run is to end: it stays as it is.
fn whole(
    worker: &mut Worker<'_>,
    (source, stat): (&OwnedFd, &Stat),
    (file, made): (&OwnedFd, &Stat),
    manner: Manner,
    index: usize,
) -> Result<Option<Ledger>, Stopped> {
    let compared = same_in_chunks(worker, (source, file), stat.size, index);
    worker.counters.flight.begin_anew();
    match compared {
        Ok(Likeness::Same) => Ok(Ledger::whole(file.as_fd(), stat, (made, false), manner)),
        Ok(_) => Ok(None),
        // What can't be read is not gone on with.
        Err(Stopped::Fault(fault)) if fault.side == Side::Destination(index) => Ok(None),
        Err(stopped) => {
            // Closing alone would leave the lock to a child that was just started; more than that can't be done.
            match sys::unlock(file.as_fd()) {
                Ok(()) | Err(_) => Err(stopped),
            }
        }
    }
}

/// The file that was named for having all content of the one that is copied. It becomes what a dead run would have left with
/// nothing to do; what can't be taken for that stays where it is.
fn gathered(
    worker: &Worker<'_>,
    (at, target): (&OwnedFd, &CStr),
    source: &Stat,
    manner: Manner,
) -> Option<(OwnedFd, Staging, Ledger)> {
    let gathered = worker.run.rules.asked.gathered.as_ref()?;
    if gathered.version != version(source) {
        return None;
    }
    let name = CString::new(gathered.name.as_slice()).ok()?;
    let file = sys::open_made(at.as_fd(), &name).ok()?;
    let made = sys::stat_fd(file.as_fd()).ok()?;
    if !is_own(&made) || made.size != source.size {
        return None;
    }
    let take = |staged: &CStr| appear(at.as_fd(), &name, staged);
    let ((), staging) = worker.run.stager.stage(target, take).ok()?;
    let ledger = Ledger::whole(file.as_fd(), source, (&made, true), manner)?;
    Some((file, staging, ledger))
}

/// What tells a version of a source from others: its inode, its size, and its times of modification and of change in
/// nanoseconds.
fn version(source: &Stat) -> String {
    let times = [source.mtime, source.ctime].map(nanoseconds);
    format!("{} {} {} {}", source.id.ino, source.size, times[0], times[1])
}

/// What a run that died has left under a final name, where nobody else sees it and the lock is the directory's. What does not
/// fit goes.
fn left_under(
    at: &OwnedFd,
    name: &CStr,
    fits: &mut impl FnMut(&OwnedFd, &Stat) -> bool,
) -> sys::Result<Option<OwnedFd>> {
    if let Ok(file) = sys::open_made(at.as_fd(), name) {
        let made = sys::stat_fd(file.as_fd())?;
        if is_own(&made) && fits(&file, &made) {
            return Ok(Some(file));
        }
    }
    sys::unlink(at.as_fd(), name).map(|()| None)
}
