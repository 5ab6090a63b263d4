//! What interrupted runs left behind.
//!
//! Comes in: a directory in which the work is done; goes out: the same without unfinished entries of dead runs of this host.
//! What a live run holds and what other hosts left stays, the latter counted.

use std::ffi::CStr;
use std::sync::Arc;

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind, OwnedFd};

use crate::error::{Fault, Operation, Side};
use crate::job::desk::Desk;
use crate::tree::listing;
use crate::tree::path::{c_string, join, open_directory_path, split};
use crate::tree::publish::clear_directory;
use crate::tree::staging::{Owner, Stager, claim_file, is_unfinished};

/// Removes the leftovers of dead runs from a directory of the destination in which this run has nothing in flight.
/// `path`: the directory's, for messages; `side`: which destination it belongs to.
pub fn clear(fd: &OwnedFd, path: impl Fn() -> Vec<u8>, side: Side, stager: Stager, desk: &Desk) -> Result<(), Fault> {
    let fault = |operation, errno| Fault::new(operation, side, errno);
    let mut leftovers = Vec::new();
    let note = |name: &CStr, kind| {
        if let Some(owner) = stager.owner(name.to_bytes()) {
            leftovers.push((name.to_owned(), kind, owner));
        }
    };
    listing::each(fd.as_fd(), || desk.step(), note).map_err(|e| fault(Operation::List, e))?;
    for (name, kind, owner) in leftovers {
        match owner {
            Owner::Live | Owner::Aside => {}
            Owner::Foreign => desk.note("foreign-staging", || {
                let path = join(&path(), name.to_bytes());
                (path, "an unfinished entry of another host is left alone".into())
            }),
            Owner::Dead if kind != Kind::Directory => match sys::unlink(fd.as_fd(), &name) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(fault(Operation::Remove, errno)),
            },
            Owner::Dead | Owner::Lockable => clear_staged(fd, &name, &fault)?,
        }
    }
    Ok(())
}

/// What is left of dead runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// What a run may go on with: a directory, or a big file that was begun.
    Begun,
}

/// Removes the unfinished files of dead runs from a directory that others may write into, and list, too. What a run may go on with is
/// that run's; answers whether there is any.
pub fn clear_files(fd: &OwnedFd, side: Side, stager: Stager, desk: &Desk) -> Result<Left, Fault> {
    let fault = |operation, errno| Fault::new(operation, side, errno);
    let (mut leftovers, mut left) = (Vec::new(), Left::Nothing);
    let note = |name: &CStr, kind| match stager.owner(name.to_bytes()) {
        Some(Owner::Lockable) => left = Left::Begun,
        Some(Owner::Dead) if kind != Kind::Directory => leftovers.push(name.to_owned()),
        _ => {}
    };
    listing::each_apart(fd, || desk.step(), note).map_err(|e| fault(Operation::List, e))?;
    for name in leftovers {
        match sys::unlink(fd.as_fd(), &name) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(fault(Operation::Remove, errno)),
        }
    }
    Ok(left)
}

/// Removes the big files that dead runs have begun from such a directory, once nobody will go on with them.
pub fn clear_begun(fd: &OwnedFd, side: Side, stager: Stager, desk: &Desk) -> Result<(), Fault> {
    let fault = |operation, errno| Fault::new(operation, side, errno);
    let mut leftovers = Vec::new();
    let note = |name: &CStr, kind| {
        if kind != Kind::Directory && stager.owner(name.to_bytes()) == Some(Owner::Lockable) {
            leftovers.push(name.to_owned());
        }
    };
    listing::each_apart(fd, || desk.step(), note).map_err(|e| fault(Operation::List, e))?;
    leftovers.iter().try_for_each(|name| clear_staged(fd, name, &fault))
}

/// Removes what dead runs staged beside a destination that exists by now: nobody lists the directory that holds it.
pub fn clear_beside(destination: &[u8], side: Side, stager: Stager) -> Result<(), Fault> {
    let fault = |operation, errno| Fault::new(operation, side, errno);
    let (parent, name) = split(destination);
    if matches!(name, b"" | b"." | b"..") {
        return Ok(());
    }
    let name = c_string(name).map_err(|e| fault(Operation::Open, e))?;
    let at = open_directory_path(parent, Follow::Yes).map_err(|e| fault(Operation::Open, e))?;
    for attempt in 0.. {
        let staging = stager.name(&name, attempt);
        match sys::stat(at.as_fd(), staging.as_c_str(), Follow::No) {
            Ok(_) => clear_staged(&at, staging.as_c_str(), &fault)?,
            Err(Errno::NOENT) => break,
            Err(errno) => return Err(fault(Operation::Stat, errno)),
        }
    }
    Ok(())
}

/// Removes a staged directory, or a big file that was begun, unless its run holds the lock.
fn clear_staged(at: &OwnedFd, name: &CStr, fault: &impl Fn(Operation, Errno) -> Fault) -> Result<(), Fault> {
    let fd = match sys::open_directory(at.as_fd(), name, Follow::No) {
        Ok(fd) => Arc::new(fd),
        Err(Errno::NOTDIR) => {
            return match claim_file(at.as_fd(), name, None) {
                Ok(Some(_locked)) => match sys::unlink(at.as_fd(), name) {
                    Ok(()) | Err(Errno::NOENT) => Ok(()),
                    Err(errno) => Err(fault(Operation::Remove, errno)),
                },
                Ok(None) | Err(_) => Ok(()),
            };
        }
        Err(Errno::NOENT | Errno::LOOP | Errno::ACCESS) => return Ok(()),
        Err(errno) => return Err(fault(Operation::Open, errno)),
    };
    let stat = sys::stat_fd(fd.as_fd()).map_err(|e| fault(Operation::Stat, e))?;
    if !is_unfinished(&stat) || sys::try_lock(fd.as_fd()).is_err() {
        return Ok(());
    }
    match sys::stat(at.as_fd(), name, Follow::No) {
        Ok(now) if now.id == stat.id => {}
        // Published or adopted meanwhile.
        Ok(_) | Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(fault(Operation::Stat, errno)),
    }
    let removed = clear_directory(&fd).and_then(|()| sys::remove_directory(at.as_fd(), name));
    match removed {
        // Somebody else was faster.
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(fault(Operation::Remove, errno)),
    }
}
