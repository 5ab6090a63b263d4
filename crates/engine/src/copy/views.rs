//! Whether two places show the same files: a bind or overlay mount, FUSE, a network file system of this very host.
//!
//! Comes in: open directories; goes out: whether what is made in one shows in the other, which neither device nor inode
//! tells. A [`Probe`] is a file of a staging name, so no copy takes it; what a dead run left of it the next one clears.

use std::ffi::CStr;
use std::sync::{PoisonError, RwLock};

use bulkhaul_sys::{self as sys, AsFd as _, Errno, OwnedFd, Protection};

use crate::copy::departure::now;
use crate::job::desk::Desk;
use crate::tree::path::{c_string, join};
use crate::tree::staging::{Stager, Staging};

/// A file in a directory by which it is known where else that shows.
pub struct Probe {
    at: OwnedFd,
    name: Staging,
}

/// One in each destination, where something is deleted.
#[derive(Default)]
pub struct Probes(RwLock<Vec<Probe>>);

impl Probe {
    /// Makes the file. `None` where none can be made, or could not be removed again: nothing else can either.
    pub fn plant(stager: Stager, directory: &OwnedFd) -> Option<Self> {
        if sys::stat_fd(directory.as_fd()).is_ok_and(|stat| stat.protection != Protection::None) {
            return None;
        }
        let at = sys::duplicate(directory.as_fd()).ok()?;
        let make = |name: &CStr| sys::create_file(directory.as_fd(), name);
        // A view may remember that a name was not there: this one nobody has asked for.
        let time = now();
        let fresh = c_string(format!("probe {} {}", time.sec, time.nsec).as_bytes()).ok()?;
        let (_, name) = stager.stage(&fresh, make).ok()?;
        Some(Self { at, name })
    }

    /// Whether it shows in a directory.
    pub fn shows_in(&self, directory: &OwnedFd) -> bool {
        sys::stat_anew(directory.as_fd(), self.name.as_c_str()).is_ok()
    }
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

    /// Whether a staging name that a source shows is one of these.
    pub fn have(&self, name: &CStr) -> bool {
        let probes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        probes.iter().any(|probe| probe.name.as_c_str() == name)
    }

    /// Removes them; those that can't be removed are tried again the next time.
    pub fn pull(&self) {
        let mut probes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let stays = |Probe { at, name }: &Probe| match sys::unlink(at.as_fd(), name.as_c_str()) {
            Ok(()) | Err(Errno::NOENT) => false,
            Err(_) => true,
        };
        probes.retain(stays);
    }

    /// Says which of them stay; the next run removes them.
    pub fn tell(&self, desk: &Desk) {
        for Probe { at, name } in &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            desk.note("probe", || {
                let directory = sys::path_of(at.as_fd()).unwrap_or_default();
                let what = "a file that this run made could not be removed: the next run does";
                (join(&directory, name.as_c_str().to_bytes()), what.into())
            });
        }
    }
}
