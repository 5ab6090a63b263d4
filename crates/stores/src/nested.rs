//! Whether one of two directories of this machine is the other, or in it, however it is seen: through a bind mount, which device
//! and inode tell, or a view (bindfs, overlayfs, mergerfs; sshfs and NFS of the own host), which they don't.
//!
//! Comes in: both, open, before anything is done; goes out: a word of it. A view shows what it leads to by name, kind, size and
//! time: where a directory of the destination has the source's first entry so, a file that is made there is looked for in the
//! source. The other way round it is a file in the destination that each directory of the source is asked for. Nothing is made
//! in what only the source leads to. Directories that can't be read are passed over: who lists them tells.
//!
//! Of other places it is asked where their paths say that it may be: one server has several names, and some fold those of files.

use std::ffi::{CStr, CString};

use bulkhaul_engine::copy::views::{Probe, Probes, joined};
use bulkhaul_engine::error::{Refusal, Stopped, describe};
use bulkhaul_engine::job::desk::Desk;
use bulkhaul_engine::tree::listing::{each, find_name};
use bulkhaul_engine::tree::path::{join, open_beneath, open_directory_path, show};
use bulkhaul_engine::tree::staging::Stager;
use bulkhaul_sys::{self as sys, AsFd as _, Follow, Kind, OwnedFd, Stat, Time};

use crate::session::token;
use crate::store::{Facts, Store, Summing};

/// What a view shows of an entry as it is; the size of a directory is its own.
type Looks = (Kind, Option<u64>, Time);

/// Refuses two directories of which one is in the other, however that is seen. `makes`: files may be made in the destination.
pub fn refuse_view(paths: [&[u8]; 2], makes: bool, desk: &Desk) -> Result<(), Refusal> {
    let [Ok(source), Ok(destination)] = paths.map(|path| open_directory_path(path, Follow::Yes)) else {
        // What is not there, or can't be read, is told by who lists it.
        return Ok(());
    };
    let [from, to] = paths.map(show);
    match is_nested(&source, &destination, makes, desk) {
        Ok(false) => Ok(()),
        Ok(true) => Err(Refusal::Safety(format!(
            "{from} and {to} are one place, or one is in the other, seen in another way"
        ))),
        Err(errno) => Err(Refusal::NoSource(format!("{from}: {}", describe(errno)))),
    }
}

/// Whether a source shows what is written into a destination, at these keys of a directory that may be both's. What is not there
/// shows nothing.
pub fn shows([source, destination]: [&dyn Store; 2], [there, here]: [&[u8]; 2]) -> Result<bool, Stopped> {
    if destination.abilities().directories && !here.is_empty() && destination.stat(here)?.is_none() {
        return Ok(false);
    }
    let name = format!(".bulkhaul-probe-of-views-{}", token());
    let [seen, written] = [there, here].map(|at| [at, name.as_bytes()].concat());
    let writing = destination.write(&written, Some(0), &Facts::default(), false)?;
    writing.finish(&Summing::new().finish())?;
    let found = source.stat(&seen);
    let mut gone = Ok(());
    destination.delete(&[written], &mut |_, how| gone = how.map(drop))?;
    gone?;
    Ok(found?.is_some())
}

fn is_nested(source: &OwnedFd, destination: &OwnedFd, makes: bool, desk: &Desk) -> sys::Result<bool> {
    let [theirs, ours] = [source, destination].map(|fd| sys::stat_fd(fd.as_fd()).map(|stat| stat.id));
    let (theirs, ours) = (theirs?, ours?);
    let stager = Stager::new();
    let first = find_name(source, |name| stager.owner(name.to_bytes()).is_none())?;
    let first = first.and_then(|name| look(source, &name).map(|looks| (name, looks)));
    let holds = |at: &OwnedFd, stat: &Stat| {
        let is_view = |(name, looks): &(CString, Looks)| {
            makes && look(at, name).as_ref() == Some(looks) && joined(stager, at, source, desk) == Some(true)
        };
        stat.id == theirs || first.as_ref().is_some_and(is_view)
    };
    if any(destination, desk, holds) {
        return Ok(true);
    }
    let probe = makes.then(|| Probe::plant(stager, destination)).flatten();
    let is_in = |at: &OwnedFd, stat: &Stat| stat.id == ours || probe.as_ref().is_some_and(|probe| probe.shows_in(at));
    let found = any(source, desk, is_in);
    let probes = Probes::new(probe.into_iter().collect());
    probes.pull();
    probes.tell(desk);
    Ok(found)
}

fn look(at: &OwnedFd, name: &CStr) -> Option<Looks> {
    let stat = sys::stat(at.as_fd(), name, Follow::No).ok()?;
    let size = (stat.kind != Kind::Directory).then_some(stat.size);
    Some((stat.kind, size, stat.mtime))
}

/// Whether a directory, or one below it, is what is looked for. Memory grows with the directories that wait.
fn any(root: &OwnedFd, desk: &Desk, mut is_it: impl FnMut(&OwnedFd, &Stat) -> bool) -> bool {
    let mut waiting = vec![Vec::new()];
    while let Some(path) = waiting.pop().filter(|_| !desk.cancel.is_draining()) {
        let Ok(at) = open_beneath(root, &path, false) else {
            continue;
        };
        let Ok(stat) = sys::stat_fd(at.as_fd()) else { continue };
        if is_it(&at, &stat) {
            return true;
        }
        let take = |name: &CStr, kind| {
            let unknown = || sys::stat(at.as_fd(), name, Follow::No).is_ok_and(|stat| stat.kind == Kind::Directory);
            if kind == Kind::Directory || kind == Kind::Unknown && unknown() {
                waiting.push(join(&path, name.to_bytes()));
            }
        };
        match each(at.as_fd(), || desk.step(), take) {
            Ok(()) | Err(_) => {}
        }
    }
    false
}
