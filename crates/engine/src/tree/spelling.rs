//! Directories that take two names for one: file systems that fold case, or forms of one letter.
//!
//! Comes in: the names of this run that arrive in one directory of a destination, one after the other; goes out: whether a
//! name leads to what another one has arrived at, which would lose one of both. What is remembered of an arrival is the inode
//! and a digest of the name, and only where it can matter: a name of ASCII is of no interest in a directory that was seen to
//! tell upper from lower case, and one without letters in none. A new directory is as the one that it is made in. So on most
//! file systems this costs one look a directory that was there before, and a listing where the look finds two links of one
//! file whose names differ by case only. Names of one inode that has several are told apart where case is folded, by what is
//! the same in all spellings of a name; where only forms of a letter are, they are not.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bulkhaul_formats::digest::xxh64;
use bulkhaul_formats::spelling::of_any_spelling;
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow, Identity, Kind, OwnedFd, Stat};

use crate::error::{Fault, Operation, Side};
use crate::tree::listing;

/// Why a second name does not arrive.
pub const TWO_FOR_ONE: &str = "the destination takes two names of the source for one";

const UNKNOWN: u8 = 0;
const TELLS: u8 = 1;
const FOLDS: u8 = 2;

/// The names of this run that have arrived in a directory.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// Whether the directory tells upper from lower case.
    case: AtomicU8,
    names: Mutex<Names>,
}

/// Digests of names by the inodes that they lead to, and where one inode has several names, by what stands for their spellings.
type Names = HashMap<(Identity, u64), u64>;

/// Whether a name with its letters' case turned leads to the same entry: a file system that does not tell them apart shows
/// names in another spelling than the source's. Two links of one file do too, and are listed as two.
pub fn has_two_spellings(at: &OwnedFd, name: &CStr) -> sys::Result<bool> {
    match turned(at, name)? {
        None => Ok(false),
        Some((_, true)) => Ok(true),
        Some((other, false)) => Ok(!are_listed(at, [name, &other])?),
    }
}

/// A name with its letters' case turned, where that leads to the same entry, and whether this has one name only.
fn turned(at: &OwnedFd, name: &CStr) -> sys::Result<Option<(CString, bool)>> {
    let turn = |b: &u8| if b.is_ascii_alphabetic() { b ^ 0x20 } else { *b };
    let turned: Vec<u8> = name.to_bytes().iter().map(turn).collect();
    if turned == name.to_bytes() {
        return Ok(None);
    }
    let turned = CString::new(turned).map_err(|_| Errno::INVAL)?;
    let Some(other) = look_anew(at.as_fd(), &turned)? else {
        return Ok(None);
    };
    let own = look_anew(at.as_fd(), name)?.filter(|own| own.id == other.id);
    Ok(own.map(|own| (turned, has_one_name(&own) && has_one_name(&other))))
}

/// Whether a directory lists both names, as they are.
fn are_listed(at: &OwnedFd, names: [&CStr; 2]) -> sys::Result<bool> {
    let mut seen = [false; 2];
    let last = listing::find_name(at, |found| {
        for (seen, name) in seen.iter_mut().zip(names) {
            *seen |= found == name;
        }
        seen == [true; 2]
    })?;
    Ok(last.is_some())
}

/// What a name leads to, whatever another spelling of it led to a moment ago: the kernel may remember each for a second.
fn look_anew(at: BorrowedFd<'_>, name: &CStr) -> sys::Result<Option<Stat>> {
    sys::forget_name(at, name);
    look(at, name)
}

fn look(at: BorrowedFd<'_>, name: &CStr) -> sys::Result<Option<Stat>> {
    match sys::stat(at, name, Follow::No) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn has_one_name(there: &Stat) -> bool {
    there.kind == Kind::Directory || there.nlink < 2
}

impl Arrivals {
    /// Whether another name may lead to where this one does.
    fn matters(&self, name: &CStr) -> bool {
        let name = name.to_bytes();
        !name.is_ascii() || (name.iter().any(u8::is_ascii_alphabetic) && self.case.load(Ordering::Relaxed) != TELLS)
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no name is remembered here.
    pub fn is_empty(&self) -> bool {
        self.names().is_empty()
    }

    /// Whether it was seen not to tell upper from lower case.
    pub fn folds(&self) -> bool {
        self.case.load(Ordering::Relaxed) == FOLDS
    }

    fn is_other(&self, names: &Names, name: &CStr, there: &Stat) -> bool {
        // It may have had more names, or fewer, when it was remembered.
        let keys = [
            has_one_name(there).then_some(0),
            self.folds().then(|| of_any_spelling(name.to_bytes())),
        ];
        let mut known = keys.into_iter().flatten().filter_map(|key| names.get(&(there.id, key)));
        known.any(|known| *known != xxh64(name.to_bytes()))
    }

    fn remember(&self, names: &mut Names, at: &OwnedFd, name: &CStr, there: &Stat) -> sys::Result<()> {
        if self.case.load(Ordering::Relaxed) == UNKNOWN {
            self.learn(at, name)?;
        }
        if self.matters(name) {
            let digest = xxh64(name.to_bytes());
            if has_one_name(there) {
                names.insert((there.id, 0), digest);
            }
            // It may have several by the time that another one comes.
            if self.folds() && there.kind != Kind::Directory {
                names.insert((there.id, of_any_spelling(name.to_bytes())), digest);
            }
        }
        Ok(())
    }

    /// Finds out by a name that is in a directory whether that tells upper from lower case.
    pub fn learn(&self, at: &OwnedFd, name: &CStr) -> sys::Result<()> {
        if name.to_bytes().iter().any(u8::is_ascii_alphabetic) {
            let case = if has_two_spellings(at, name)? { FOLDS } else { TELLS };
            self.case.store(case, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The same as [`has_two_spellings`] for any number of names of a directory, which is listed once at most.
    pub fn has_two_spellings(&self, at: &OwnedFd, name: &CStr) -> sys::Result<bool> {
        match turned(at, name)? {
            None => Ok(false),
            Some((_, true)) => Ok(true),
            Some((_, false)) => {
                if self.case.load(Ordering::Relaxed) == UNKNOWN {
                    self.learn(at, name)?;
                }
                Ok(self.folds())
            }
        }
    }

    /// For a directory that is made in this one.
    #[must_use]
    pub fn inherited(&self) -> Self {
        Self {
            case: AtomicU8::new(self.case.load(Ordering::Relaxed)),
            names: Mutex::default(),
        }
    }

    /// A directory of this run is about to get this name in another one of this run, where nobody looks names up.
    pub fn expect(&self, name: &CStr, id: Identity) {
        if self.matters(name) {
            self.names().insert((id, 0), xxh64(name.to_bytes()));
        }
    }

    /// What was expected under this name goes: there is a directory of somebody else's, which is this run's from now on, or
    /// `None`. The number of what goes may be the next entry's.
    pub fn expect_no_more(&self, name: &CStr, id: Identity, there: Option<Identity>) {
        if !self.matters(name) {
            return;
        }
        let mut names = self.names();
        names.remove(&(id, 0));
        if let Some(there) = there {
            names.insert((there, 0), xxh64(name.to_bytes()));
        }
    }

    /// What this name leads to. Before the first name has arrived, none can have taken the place of another.
    pub fn look(&self, at: &OwnedFd, name: &CStr) -> sys::Result<Option<Stat>> {
        if self.folds() {
            look_anew(at.as_fd(), name)
        } else {
            look(at.as_fd(), name)
        }
    }

    /// Whether `there`, which this name leads to, is what another name of this run has arrived at.
    pub fn is_taken(&self, name: &CStr, there: &Stat) -> bool {
        self.matters(name) && self.is_other(&self.names(), name, there)
    }

    /// What this name leads to stays, and is this run's from now on. False: it is another name's. `ESTALE`: it is not what was
    /// looked up any more.
    pub fn take_over(&self, at: &OwnedFd, name: &CStr, there: &Stat) -> sys::Result<bool> {
        if !self.matters(name) {
            return Ok(true);
        }
        let mut names = self.names();
        let mut now = *there;
        if !names.is_empty() {
            // Another name may have taken its place since it was looked up.
            now = self.look(at, name)?.ok_or(Errno::STALE)?;
            if self.is_other(&names, name, &now) {
                return Ok(false);
            }
            if now.id != there.id {
                return Err(Errno::STALE);
            }
        }
        self.remember(&mut names, at, name, &now)?;
        Ok(true)
    }

    /// Gives something its name by `appear`, unless that leads to another name's: then it is a conflict.
    pub fn publish<E: From<Fault>>(
        &self,
        at: &OwnedFd,
        name: &CStr,
        destination: usize,
        appear: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.matters(name) {
            return appear();
        }
        let fault = |errno| Fault::new(Operation::Stat, Side::Destination(destination), errno);
        // Whoever comes at the same moment must see what has come before.
        let mut names = self.names();
        let there = self.look(at, name).map_err(fault)?;
        if there.is_some_and(|there| self.is_other(&names, name, &there)) {
            return Err(Fault::conflict(Operation::Rename, destination, TWO_FOR_ONE).into());
        }
        appear()?;
        match self.look(at, name).map_err(fault)? {
            Some(there) => Ok(self.remember(&mut names, at, name, &there).map_err(fault)?),
            // Somebody took it away.
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_leaves_its_number_to_others() {
        let mut there = sys::stat(rustix::fs::CWD, c"/", Follow::No).unwrap();
        let (staged, other) = (
            there.id,
            Identity {
                ino: there.id.ino + 1,
                ..there.id
            },
        );
        let arrivals = Arrivals::default();
        arrivals.expect(c"one", staged);
        assert!(!arrivals.is_taken(c"one", &there) && arrivals.is_taken(c"two", &there));
        arrivals.expect_no_more(c"one", staged, Some(other));
        assert!(!arrivals.is_taken(c"two", &there));
        there.id = other;
        assert!(!arrivals.is_taken(c"one", &there) && arrivals.is_taken(c"two", &there));
        arrivals.expect_no_more(c"one", other, None);
        assert!(!arrivals.is_taken(c"two", &there));
    }
}
