//! Names of what is not finished.
//!
//! Comes in: the name that an entry is to have; goes out: one that nobody else takes for it, that this run and later ones
//! know by its letters, and whose owner can be told: this run, a live one, a dead one, another host.

use std::ffi::{CStr, CString};

use bulkhaul_formats::digest::xxh64;
use bulkhaul_formats::staging;
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow, Kind, Node, OwnedFd, Replace, Stat};

use crate::error::{Fault, Operation, Side};
use crate::tree::listing::{find_name, is_empty};

/// Staging names that one process may have for one final name.
const NAMES_PER_PROCESS: u32 = 64;

/// The first of them that stand for an entry of a source that was taken aside; as many jobs may write one name at once.
const ASIDE: u32 = NAMES_PER_PROCESS / 2;

/// The process of what was left by a run that ended before it could finish: none has this number.
const NOBODY: u32 = u32::MAX / NAMES_PER_PROCESS;

/// Live runs that may fill the same new directory at once.
const DIRECTORY_ATTEMPTS: u32 = NAMES_PER_PROCESS - 1;

/// The name of an entry that is not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staging(CString);

impl Staging {
    /// As a file name.
    pub fn as_c_str(&self) -> &CStr {
        &self.0
    }
}

/// Who makes staging names: this host, this process.
#[derive(Clone, Copy, Debug)]
pub struct Stager {
    host: u32,
    process: u32,
}

/// Whose a staging name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A directory of this host, or a big file: its lock tells whether its run lives.
    Lockable,
    /// Another live process of this host, or this one.
    Live,
    /// A process of this host that is gone.
    Dead,
    /// The same: an entry of a source that was about to go, complete, and the only one of its name.
    Aside,
    /// Another host: left alone.
    Foreign,
}

/// A new directory under its staging name.
pub struct StagedDirectory {
    /// Open, and locked where the file system has locks.
    pub fd: OwnedFd,
    /// Its facts.
    pub stat: Stat,
    /// Its name until it is published.
    pub staging: Staging,
    /// Nothing is in it; otherwise it was adopted from a run that died.
    pub fresh: bool,
    /// Why an empty one stays beside it until the next run, if one does.
    pub left: Option<Errno>,
}

impl Stager {
    /// For this process. The host tag covers the process namespace too: process numbers mean nothing outside it.
    pub fn new() -> Self {
        let mut identity = sys::host_name();
        identity.extend_from_slice(&sys::process_namespace());
        // The upper half of the digest is as good as any.
        let host = (xxh64(&identity) >> 32) as u32;
        Self {
            host,
            process: std::process::id(),
        }
    }

    /// The name that a directory is staged under by the first run that makes it, by the second at the same time, …
    pub fn name(self, final_name: &CStr, attempt: u32) -> Staging {
        let name = staging::name(self.host, final_name.to_bytes(), attempt);
        Staging(CString::new(name.as_bytes()).unwrap_or_default())
    }

    /// Whose a name is; `None` for a name that is not a staging name.
    pub fn owner(self, name: &[u8]) -> Option<Owner> {
        let parsed = staging::parse(name)?;
        if parsed.host != self.host {
            return Some(Owner::Foreign);
        }
        if parsed.attempt <= DIRECTORY_ATTEMPTS {
            return Some(Owner::Lockable);
        }
        let process = parsed.attempt / NAMES_PER_PROCESS;
        Some(if process == NOBODY {
            Owner::Dead
        } else if process == self.process || sys::process_exists(process) {
            Owner::Live
        } else if parsed.attempt % NAMES_PER_PROCESS >= ASIDE {
            Owner::Aside
        } else {
            Owner::Dead
        })
    }

    /// Whether a staging name was made for this final name.
    pub fn is_of(staging: &[u8], final_name: &CStr) -> bool {
        staging::parse(staging).is_some_and(|parsed| parsed.digest == xxh64(final_name.to_bytes()))
    }

    /// Makes something that must not exist under a staging name: a file, link or node.
    pub fn stage<T>(self, final_name: &CStr, make: impl FnMut(&CStr) -> sys::Result<T>) -> sys::Result<(T, Staging)> {
        self.first_free(final_name, 0..ASIDE, make)
    }

    /// What is not finished is left for the next run, which may be one of this very process.
    pub fn leave(self, at: BorrowedFd<'_>, staging: &Staging, final_name: &CStr) {
        let left = self.name(final_name, NOBODY * NAMES_PER_PROCESS);
        // Where it can't be renamed, it counts as this process's for as long as that lives.
        match sys::rename(at, staging.as_c_str(), at, left.as_c_str(), Replace::Yes) {
            Ok(()) | Err(_) => {}
        }
    }

    /// Takes an entry of a source out of its place, under a name that says so.
    pub fn take_aside(self, at: BorrowedFd<'_>, name: &CStr) -> sys::Result<Staging> {
        self.first_free(name, ASIDE..NAMES_PER_PROCESS, |aside| appear(at, name, aside))
            .map(|((), aside)| aside)
    }

    /// Gives an entry of a source its name back that a move which died took aside. Answers whether there was one.
    pub fn put_back(self, at: &OwnedFd, name: &CStr) -> sys::Result<bool> {
        let is_it =
            |aside: &CStr| self.owner(aside.to_bytes()) == Some(Owner::Aside) && Self::is_of(aside.to_bytes(), name);
        match find_name(at, is_it)? {
            Some(aside) => appear(at.as_fd(), &aside, name).map(|()| true),
            None => Ok(false),
        }
    }

    fn first_free<T>(
        self,
        final_name: &CStr,
        mut attempts: std::ops::Range<u32>,
        mut make: impl FnMut(&CStr) -> sys::Result<T>,
    ) -> sys::Result<(T, Staging)> {
        loop {
            let attempt = attempts.next().ok_or(Errno::EXIST)?;
            let staging = self.name(final_name, self.process.saturating_mul(NAMES_PER_PROCESS) + attempt);
            match make(staging.as_c_str()) {
                Err(Errno::EXIST) => {}
                other => return other.map(|value| (value, staging)),
            }
        }
    }

    /// Makes a directory under a staging name, or adopts the one that a dead run left under it.
    pub fn stage_directory(
        self,
        at: BorrowedFd<'_>,
        final_name: &CStr,
        destination: usize,
    ) -> Result<StagedDirectory, Fault> {
        let fault = |operation, errno| Fault::new(operation, Side::Destination(destination), errno);
        let mut attempt = 0;
        let mut stale = None;
        loop {
            let staging = self.name(final_name, attempt);
            let made = match sys::make_directory(at, staging.as_c_str()) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                // It was made, but has the number of one that is just going, so Linux has no place for it (FUSE). The next
                // one has another number.
                Err(Errno::STALE) if stale.is_none() => {
                    stale = Some(staging);
                    attempt += 1;
                    continue;
                }
                Err(errno) => return Err(fault(Operation::MakeDirectory, errno)),
            };
            match Self::claim(at, &staging, made) {
                Ok(Some((fd, stat))) => {
                    // One that was made here and is not empty was somebody else's for a moment.
                    let fresh = match made.then(|| is_empty(&fd)) {
                        None => false,
                        Some(Ok(empty)) => empty,
                        // It went at once, or has the number of one that is just going.
                        Some(Err(Errno::NOENT)) if attempt < DIRECTORY_ATTEMPTS => {
                            attempt += 1;
                            continue;
                        }
                        Some(Err(errno)) => return Err(fault(Operation::List, errno)),
                    };
                    return Ok(StagedDirectory {
                        fd,
                        stat,
                        staging,
                        fresh,
                        left: stale.and_then(|stale| Self::unmake(at, &stale).err()),
                    });
                }
                Ok(None) if attempt < DIRECTORY_ATTEMPTS => attempt += 1,
                Ok(None) => return Err(fault(Operation::MakeDirectory, Errno::EXIST)),
                Err(errno) => return Err(fault(Operation::Open, errno)),
            }
        }
    }

    /// Makes a file under a name by which it is found again, as directories are, or takes over what a dead run left there and
    /// `fits`; what does not goes. Answers whether it is locked: without locks it has a name of this process, and nobody takes
    /// it over. `given`: whom that run may have given it to.
    pub fn stage_file(
        self,
        at: BorrowedFd<'_>,
        (final_name, given): (&CStr, Option<u32>),
        mut create: impl FnMut(&CStr) -> sys::Result<OwnedFd>,
        mut fits: impl FnMut(&OwnedFd, &Stat) -> bool,
    ) -> sys::Result<(OwnedFd, Staging, bool)> {
        for attempt in 0..=DIRECTORY_ATTEMPTS {
            let staging = self.name(final_name, attempt);
            let name = staging.as_c_str();
            let file = match create(name) {
                Err(Errno::EXIST) => match claim_writable(at, name, given) {
                    Ok(Some((file, stat, true))) if fits(&file, &stat) => return Ok((file, staging, true)),
                    Ok(Some(_locked)) => match sys::unlink(at, name).and_then(|()| create(name)) {
                        Err(Errno::EXIST) => continue,
                        other => other?,
                    },
                    Ok(None) => continue,
                    Err(_) => break,
                },
                other => other?,
            };
            // What shows another owner, as where root is nobody, would never be known for ours.
            let locked = match sys::stat_fd(file.as_fd())? {
                stat if is_own(&stat) => sys::try_lock(file.as_fd()),
                _ => Err(Errno::PERM),
            };
            match locked {
                // Whoever saw it before it was locked may have taken it, or taken it away.
                Ok(()) if leads(at, name, &file)? => return Ok((file, staging, true)),
                Ok(()) | Err(Errno::WOULDBLOCK) => {}
                Err(_) => {
                    sys::unlink(at, name)?;
                    break;
                }
            }
        }
        self.stage(final_name, create)
            .map(|(file, staging)| (file, staging, false))
    }

    /// Takes an empty staged directory away that nobody has adopted.
    fn unmake(at: BorrowedFd<'_>, staging: &Staging) -> sys::Result<()> {
        match Self::claim(at, staging, true)? {
            Some(_locked) => sys::remove_directory(at, staging.as_c_str()),
            None => Ok(()),
        }
    }

    /// Opens and locks a staged directory; `None` when it is somebody else's.
    fn claim(at: BorrowedFd<'_>, staging: &Staging, made: bool) -> sys::Result<Option<(OwnedFd, Stat)>> {
        let name = staging.as_c_str();
        let fd = match sys::open_directory(at, name, Follow::No) {
            Ok(fd) => fd,
            // Somebody else has adopted, published or cleared it since.
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) if !made => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let stat = sys::stat_fd(fd.as_fd())?;
        match sys::try_lock(fd.as_fd()) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            // Without locks nobody adopts anything, and nobody takes away what was just made.
            Err(_) => return Ok(made.then_some((fd, stat))),
        }
        if !made && !is_unfinished(&stat) {
            return Ok(None);
        }
        // Locked, but is it still what the name leads to? A run that held the lock before may have published it.
        match sys::stat(at, name, Follow::No) {
            Ok(now) if now.id == stat.id => {}
            Ok(_) | Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno),
        }
        Ok(Some((fd, stat)))
    }
}

/// Opens and locks a file of this user, or of whom it may have been `given` to, that a dead run left under a staging name, and
/// tells whether it can be written into. `None`: it is somebody else's, or something else. An error: nobody can tell.
pub fn claim_file(at: BorrowedFd<'_>, name: &CStr, given: Option<u32>) -> sys::Result<Option<(OwnedFd, Stat, bool)>> {
    let made = sys::open_made(at, name);
    let writable = made.is_ok();
    // It may have the mode of a source that nobody writes into.
    let Ok(file) = made.or_else(|_| sys::open_file(at, name)) else {
        return Ok(None);
    };
    let stat = sys::stat_fd(file.as_fd())?;
    if !is_alone_of(&stat, given.filter(|uid| *uid == stat.uid).unwrap_or_else(sys::user_id)) {
        return Ok(None);
    }
    match sys::try_lock(file.as_fd()) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(errno) => return Err(errno),
    }
    // What is known of it may have been of the time before another run gave up its lock.
    let stat = sys::stat_fd(file.as_fd())?;
    Ok(leads(at, name, &file)?.then_some((file, stat, writable)))
}

/// The same, of what is written into. One that had its source's mode already may have none that lets its owner do so: that is
/// taken from it, and it is claimed again, since it may be somebody else's in between.
fn claim_writable(at: BorrowedFd<'_>, name: &CStr, given: Option<u32>) -> sys::Result<Option<(OwnedFd, Stat, bool)>> {
    match claim_file(at, name, given)? {
        Some((file, stat, false)) if stat.uid == sys::user_id() => {
            sys::set_mode(Node::Open(file.as_fd()), 0o600)?;
            // Closing alone would leave the lock to a child that was just started.
            sys::unlock(file.as_fd())?;
            claim_file(at, name, given)
        }
        claimed => Ok(claimed),
    }
}

/// Whether a file can be one that a run of this user made, and is nobody else's too.
pub fn is_own(stat: &Stat) -> bool {
    is_alone_of(stat, sys::user_id())
}

/// The same of another user.
fn is_alone_of(stat: &Stat, uid: u32) -> bool {
    stat.kind == Kind::File && stat.uid == uid && stat.nlink == 1
}

/// Whether somebody holds the lock of a file under a staging name.
pub fn is_locked(at: BorrowedFd<'_>, name: &CStr) -> bool {
    sys::open_file(at, name).is_ok_and(|file| sys::try_lock(file.as_fd()) == Err(Errno::WOULDBLOCK))
}

/// Whether a name still leads to an open file: who held its lock before may have published it, or taken it away.
fn leads(at: BorrowedFd<'_>, name: &CStr, file: &OwnedFd) -> sys::Result<bool> {
    let id = sys::stat_fd(file.as_fd())?.id;
    match sys::stat(at, name, Follow::No) {
        Ok(now) => Ok(now.id == id),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Whether a directory under a staging name can be ours: made by this user, and nobody else's to read. A directory made in
/// a set-group-id directory has that bit too.
pub fn is_unfinished(stat: &Stat) -> bool {
    stat.uid == sys::user_id() && stat.mode & 0o777 == 0o700
}

impl Default for Stager {
    fn default() -> Self {
        Self::new()
    }
}

/// A new name in the same directory, never in the place of another.
pub fn appear(at: BorrowedFd<'_>, staged: &CStr, name: &CStr) -> sys::Result<()> {
    relocate((at, staged), (at, name))
}

/// A new name, in any directory of the file system, never in the place of another.
pub fn relocate((from, old): (BorrowedFd<'_>, &CStr), (to, name): (BorrowedFd<'_>, &CStr)) -> sys::Result<()> {
    match sys::rename(from, old, to, name, Replace::No) {
        // NFS, GPFS and older Lustre: a hard link never replaces either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => match sys::make_link(from, old, to, name) {
            Ok(()) => sys::unlink(from, old),
            // Neither, or a directory: look, then rename. Between the two a name that appears would be replaced; a directory
            // that holds anything never is.
            Err(Errno::PERM | Errno::NOTSUP | Errno::NOSYS | Errno::MLINK) => match sys::stat(to, name, Follow::No) {
                Err(Errno::NOENT) => sys::rename(from, old, to, name, Replace::Yes),
                Ok(_) => Err(Errno::EXIST),
                Err(errno) => Err(errno),
            },
            Err(errno) => Err(errno),
        },
        other => other,
    }
}
