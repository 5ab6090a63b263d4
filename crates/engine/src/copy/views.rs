//! Whether two places show the same files: a bind or overlay mount, FUSE, a network file system of this very host.
//!
//! Comes in: open directories; goes out: whether what is made in one shows in the other, which neither device nor inode
//! tells. A [`Probe`] is a file of a staging name, so no copy takes it; what a dead run left of it the next one clears, because it
//! lies in a directory that it lists: a destination, or the directory that becomes one, under its own staging name.

use std::ffi::{CStr, CString};
use std::sync::{Arc, PoisonError, RwLock};

use bulkhaul_sys::{self as sys, AsFd as _, Errno, OwnedFd, Protection};

use crate::copy::departure::now;
use crate::error::Side;
use crate::job::desk::Desk;
use crate::sweep::leftovers;
use crate::tree::path::{c_string, join};
use crate::tree::staging::{Stager, Staging};

/// A file in a directory by which it is known where else that shows.
pub struct Probe {
    at: OwnedFd,
    name: Staging,
    /// The names that the directory which it is in has, now and later, where it is looked for in the one above.
    below: Vec<CString>,
}

/// One in each destination, where something is deleted.
#[derive(Default)]
pub struct Probes(RwLock<Vec<Probe>>);

impl Probe {
    /// Makes the file. `None` where none can be made, or could not be removed again: nothing else can either.
    pub fn plant(stager: Stager, directory: &OwnedFd) -> Option<Self> {
        if is_protected(directory) {
            return None;
        }
        let at = sys::duplicate(directory.as_fd()).ok()?;
        let make = |name: &CStr| sys::create_file(directory.as_fd(), name);
        // A view may remember that a name was not there: this one nobody has asked for.
        let time = now();
        let fresh = c_string(format!("probe {} {}", time.sec, time.nsec).as_bytes()).ok()?;
        let (_, name) = stager.stage(&fresh, make).ok()?;
        Some(Self {
            at,
            name,
            below: Vec::new(),
        })
    }

    /// The same in a directory that has a staging name until it has its own: it is the one above that may show elsewhere.
    pub fn plant_below(stager: Stager, directory: &OwnedFd, staging: &Staging, name: &CStr) -> Option<Self> {
        let below = vec![staging.as_c_str().to_owned(), name.to_owned()];
        Self::plant(stager, directory).map(|probe| Self { below, ..probe })
    }

    /// Whether it shows in a directory.
    pub fn shows_in(&self, directory: &OwnedFd) -> bool {
        match &*self.below {
            [] => sys::stat_anew(directory.as_fd(), self.name.as_c_str()).is_ok(),
            names => names.iter().any(|name| self.shows_below(name, directory)),
        }
    }

    fn shows_below(&self, name: &CStr, directory: &OwnedFd) -> bool {
        let path = c_string(&join(name.to_bytes(), self.name.as_c_str().to_bytes()));
        path.is_ok_and(|path| sys::stat_anew(directory.as_fd(), &path).is_ok())
    }

    /// Whether a directory that has an entry of this name shows it.
    fn is_told_by(&self, name: &CStr, directory: &impl Fn() -> Option<Arc<OwnedFd>>) -> bool {
        if self.below.is_empty() {
            return self.name.as_c_str() == name;
        }
        let is_it = self.below.iter().any(|below| **below == *name);
        is_it && directory().is_none_or(|directory| self.shows_below(name, &directory))
    }
}

/// What `look` finds out by a probe in a directory where `name` is to appear: below the name that this has until then, so that a
/// run that dies leaves nothing else than one which dies a moment later. `None`: nothing can be made there.
pub fn probed<T>(
    stager: Stager,
    (directory, name): (&OwnedFd, &CStr),
    desk: &Desk,
    look: impl FnOnce(&Probe) -> T,
) -> Option<T> {
    if is_protected(directory) {
        return None;
    }
    let made = stager.stage_directory(directory.as_fd(), name, 0).ok()?;
    let told = Probe::plant_below(stager, &made.fd, &made.staging, name).map(|probe| {
        let told = look(&probe);
        let probes = Probes::new(vec![probe]);
        probes.pull();
        probes.tell(desk);
        told
    });
    // The probe of a run that died goes; what else it left stays for whoever fills it, and what fails fails there again.
    match leftovers::clear_files(&made.fd, Side::Destination(0), stager, desk) {
        Ok(_) | Err(_) => {}
    }
    match sys::remove_directory(directory.as_fd(), made.staging.as_c_str()) {
        Ok(()) | Err(_) => {}
    }
    // Whoever fills it adopts it; closing alone would leave the lock to a child that was just started.
    match sys::unlock(made.fd.as_fd()) {
        Ok(()) | Err(_) => told,
    }
}

/// What is made there could not be removed again.
fn is_protected(directory: &OwnedFd) -> bool {
    sys::stat_fd(directory.as_fd()).is_ok_and(|stat| stat.protection != Protection::None)
}

/// Whether two directories are one, seen in two ways. `None`: nothing can be made in the first.
pub fn joined(stager: Stager, one: &OwnedFd, other: &OwnedFd, desk: &Desk) -> Option<bool> {
    let probe = Probe::plant(stager, one)?;
    let shows = probe.shows_in(other);
    let probes = Probes::new(vec![probe]);
    probes.pull();
    probes.tell(desk);
    Some(shows)
}

impl Probes {
    /// Takes them in.
    pub fn new(probes: Vec<Probe>) -> Self {
        Self(RwLock::new(probes))
    }

    /// Takes in more.
    pub fn add(&self, more: impl IntoIterator<Item = Probe>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).extend(more);
    }

    /// Whether one of the names that `source` has, a directory, tells that it shows one of these.
    pub fn show<'n>(
        &self,
        mut names: impl Iterator<Item = &'n CStr>,
        source: impl Fn() -> Option<Arc<OwnedFd>>,
    ) -> bool {
        let probes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        !probes.is_empty() && names.any(|name| probes.iter().any(|probe| probe.is_told_by(name, &source)))
    }

    /// Removes them; those that can't be removed are tried again the next time.
    pub fn pull(&self) {
        let mut probes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let stays = |Probe { at, name, .. }: &Probe| match sys::unlink(at.as_fd(), name.as_c_str()) {
            Ok(()) | Err(Errno::NOENT) => false,
            Err(_) => true,
        };
        probes.retain(stays);
    }

    /// Says which of them stay; the next run removes them.
    pub fn tell(&self, desk: &Desk) {
        for Probe { at, name, .. } in &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            desk.note("probe", || {
                let directory = sys::path_of(at.as_fd()).unwrap_or_default();
                let what = "a file that this run made could not be removed: the next run does";
                (join(&directory, name.as_c_str().to_bytes()), what.into())
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use bulkhaul_sys::Follow;

    use super::*;

    #[test]
    fn what_looks_in_an_unfinished_directory_gives_its_lock_back() {
        let root = tempfile::tempdir().unwrap();
        let path = c_string(root.path().as_os_str().as_bytes()).unwrap();
        let at = sys::open_directory(sys::current_directory(), &path, Follow::No).unwrap();
        let (stager, desk, name) = (Stager::new(), Desk::new(1), c"d");
        let dead = stager.stage_directory(at.as_fd(), name, 0).unwrap();
        drop(sys::create_file(dead.fd.as_fd(), c"a").unwrap());
        let begun = dead.staging.as_c_str().to_owned();
        drop(dead);
        // As a child process has a copy that is started just then.
        let copied = |probe: &Probe| sys::duplicate(probe.at.as_fd()).unwrap();
        let held = probed(stager, (&at, name), &desk, copied).unwrap();
        let next = stager.stage_directory(at.as_fd(), name, 0).unwrap();
        assert_eq!(next.staging.as_c_str(), &*begun);
        drop(held);
    }
}
