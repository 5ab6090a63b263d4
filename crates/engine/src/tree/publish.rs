//! How a name appears: complete, or not at all.
//!
//! Comes in: what is finished, under a staging name; goes out: the same under its own.
//!
//! A directory that a run makes is filled under a staging name and renamed when its own files are done. In a directory
//! that existed, a file is written under a staging name and renamed. Both names say which host made them; a directory is
//! locked while its run lives, everything else carries the number of its process. What a dead run left is adopted (a
//! directory) or cleared (the rest); what a live one holds is left alone.

use std::ffi::{CStr, CString};
use std::sync::Arc;

use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow, Kind, OwnedFd, Replace};

use crate::error::{Fault, Operation, Side};
use crate::tree::listing;
use crate::tree::staging::{Stager, Staging, appear};

/// Why nothing takes the place of a directory by itself.
pub const DIRECTORY_IN_THE_WAY: &str = "a directory is in the way";

/// Gives a staged directory its final name; `EEXIST` or `ENOTEMPTY` where that is taken.
///
/// What is answered lies in it until its run has no more to do with it: where a rename can't be told to replace nothing, it
/// still never replaces a directory that holds anything. So another process that makes the same directory at the same moment
/// does not take this one's place while its run works in it.
pub fn publish_directory(
    at: BorrowedFd<'_>,
    stager: Stager,
    (fd, staging): (&OwnedFd, &Staging),
    name: &CStr,
) -> sys::Result<Option<Staging>> {
    match sys::rename(at, staging.as_c_str(), at, name, Replace::No) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => match sys::stat(at, name, Follow::No) {
            Err(Errno::NOENT) => {
                let make = |holder: &CStr| sys::create_file(fd.as_fd(), holder);
                // Where nothing can be made, nothing can be lost.
                let holder = match listing::is_empty(fd)?.then(|| stager.stage(name, make)) {
                    Some(Ok((_file, holder))) => Some(holder),
                    Some(Err(_)) | None => None,
                };
                let renamed = sys::rename(at, staging.as_c_str(), at, name, Replace::Yes);
                if let (Err(_), Some(holder)) = (renamed, &holder) {
                    sys::unlink(fd.as_fd(), holder.as_c_str())?;
                }
                renamed.map(|()| holder)
            }
            Ok(_) => Err(Errno::EXIST),
            Err(errno) => Err(errno),
        },
        other => other.map(|()| None),
    }
}

/// Gives a staged file, link or node its final name. `replace`: something else has that name now.
pub fn publish(
    at: BorrowedFd<'_>,
    staging: &Staging,
    name: &CStr,
    replace: bool,
    destination: usize,
) -> Result<(), Fault> {
    let staged = staging.as_c_str();
    let fault = |errno| Fault::new(Operation::Rename, Side::Destination(destination), errno);
    let result = if replace {
        Err(Errno::EXIST)
    } else {
        appear(at, staged, name)
    };
    match result {
        // It was to be replaced, or somebody made it meanwhile: the later of two complete files stays.
        Err(Errno::EXIST) => match sys::rename(at, staged, at, name, Replace::Yes) {
            Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {
                Err(Fault::conflict(Operation::Rename, destination, DIRECTORY_IN_THE_WAY))
            }
            other => other.map_err(fault),
        },
        other => other.map_err(fault),
    }
}

/// Moves what a staged directory holds into the directory that took its name meanwhile, entry by entry, then removes it.
pub fn merge_directory(
    at: BorrowedFd<'_>,
    staging: &Staging,
    from: BorrowedFd<'_>,
    into: BorrowedFd<'_>,
    destination: usize,
) -> Result<(), Fault> {
    let side = Side::Destination(destination);
    let mut names = Vec::new();
    let listed = listing::each(from, || (), |name, kind| names.push((name.to_owned(), kind)));
    listed.map_err(|e| Fault::new(Operation::List, side, e))?;
    for (name, kind) in names {
        match sys::rename(from, &name, into, &name, Replace::No) {
            Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) if kind != Kind::Directory => {
                // Two links of one inode stay both; then this one goes.
                sys::rename(from, &name, into, &name, Replace::Yes).and_then(|()| match sys::unlink(from, &name) {
                    Err(Errno::NOENT) => Ok(()),
                    other => other,
                })
            }
            other => other,
        }
        .map_err(|e| Fault::new(Operation::Rename, side, e))?;
    }
    sys::remove_directory(at, staging.as_c_str()).map_err(|e| Fault::new(Operation::Remove, side, e))
}

/// Removes a directory's content, never leaving it: for unfinished entries only.
pub fn clear_directory(fd: &Arc<OwnedFd>) -> sys::Result<()> {
    // A stack instead of recursion: depth must not become stack.
    let mut stack: Vec<(Arc<OwnedFd>, Option<CString>)> = vec![(Arc::clone(fd), None)];
    while let Some((dir, _)) = stack.last() {
        let dir = Arc::clone(dir);
        let mut entries = Vec::new();
        listing::each(dir.as_fd(), || (), |name, kind| entries.push((name.to_owned(), kind)))?;
        let mut deeper = None;
        for (name, kind) in entries {
            let kind = if kind == Kind::Unknown {
                sys::stat(dir.as_fd(), &name, Follow::No)?.kind
            } else {
                kind
            };
            if kind != Kind::Directory {
                sys::unlink(dir.as_fd(), &name)?;
            } else if let Err(errno) = sys::remove_directory(dir.as_fd(), &name) {
                if !matches!(errno, Errno::NOTEMPTY | Errno::EXIST) {
                    return Err(errno);
                }
                deeper = Some((
                    Arc::new(sys::open_directory(dir.as_fd(), &name, Follow::No)?),
                    Some(name),
                ));
            }
        }
        match deeper {
            Some(level) => stack.push(level),
            None => {
                if let Some((_, Some(name))) = stack.pop()
                    && let Some((up, _)) = stack.last()
                {
                    sys::remove_directory(up.as_fd(), &name)?;
                }
            }
        }
    }
    Ok(())
}
