//! What an unpacking would do, without doing it.
//!
//! Comes in: entries as the index has them; goes out: what would become of each, by what is below the target now. Nothing is
//! changed. Where the target takes two names for one, entries come with all spellings of a name together, so that the second
//! is seen to be in conflict; what lies in a directory of two names that meet is not.

use bulkhaul_formats::shards::Packed;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind, OwnedFd, Stat};

use super::words::{Done, directory_in_the_way, met};
use crate::entry::Outcome;
use crate::error::{Fault, Operation, Refusal, Side, describe};
use crate::records::entry::kind_of;
use crate::tree::listing;
use crate::tree::path::{c_string, open_beneath, open_directory_path, show, split};
use crate::tree::spelling::has_two_spellings;
use crate::tree::times::{Kept, is_doubtful, time};

/// A target that nothing is written into.
pub struct Rehearsal {
    /// None: it is not there yet.
    root: Option<OwnedFd>,
    /// It takes two names for one.
    pub folds: bool,
}

impl Rehearsal {
    /// Looks at a target, and at its names.
    pub fn open(path: &[u8]) -> Result<Self, Refusal> {
        let refused = |errno| Refusal::NoDestination(format!("{}: {}", show(path), describe(errno)));
        let (above, name) = split(path);
        let at = open_directory_path(above, Follow::Yes).map_err(refused)?;
        let name = c_string(name).map_err(refused)?;
        let root = match open_directory_path(path, Follow::Yes) {
            Ok(root) => Some(root),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(refused(errno)),
        };
        // A directory that is not there yet will be as the one above it is.
        let mut folds = match &root {
            Some(_) => has_two_spellings(&at, &name).map_err(refused)?,
            None => folds(&at).map_err(refused)?,
        };
        if let Some(root) = &root {
            folds = folds || self::folds(root).map_err(refused)?;
        }
        Ok(Self { root, folds })
    }

    fn there(&self, path: &[u8]) -> sys::Result<Option<(OwnedFd, Stat)>> {
        let Some(root) = &self.root else { return Ok(None) };
        let (parent, name) = split(path);
        let found = open_beneath(root, parent, false).and_then(|at| {
            let name = c_string(if name.is_empty() { b"." } else { name })?;
            let stat = sys::stat(at.as_fd(), &name, Follow::No)?;
            Ok((at, stat))
        });
        match found {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// What would become of an entry. `meets`: another one has come that the target takes for it.
    pub fn entry(&self, packed: &Packed, meets: bool) -> Result<Done, Fault> {
        if meets {
            return Err(met());
        }
        let (entry, kind) = (&packed.entry, kind_of(&packed.entry));
        let is_further_name = kind == Kind::File && entry.target.is_some();
        let outcome = match kind {
            Kind::File if is_further_name => Outcome::Linked,
            Kind::File => Outcome::Copied,
            _ => Outcome::Made,
        };
        let bytes = if outcome == Outcome::Copied {
            entry.size.unwrap_or_default()
        } else {
            0
        };
        let there = self.there(&entry.path);
        let there = there.map_err(|errno| Fault::new(Operation::Stat, Side::Destination(0), errno))?;
        let Some((at, stat)) = there else {
            return Ok(Done::of(outcome, bytes));
        };
        if kind == Kind::Directory {
            return Self::directory(packed, &stat);
        }
        if stat.kind == Kind::Directory {
            return Err(directory_in_the_way());
        }
        let is_same = match kind {
            // What it is a further name of is not known before that is there.
            Kind::File if is_further_name => false,
            Kind::File => (stat.kind, Some(stat.size), Some(stat.mode)) == (kind, entry.size, entry.mode),
            Kind::Symlink => {
                let name = c_string(split(&entry.path).1);
                let text = name.and_then(|name| sys::read_link(at.as_fd(), &name));
                text.is_ok_and(|text| Some(text.to_bytes()) == entry.target.as_deref())
            }
            _ => false,
        };
        if is_same && has_time(&stat, entry.mtime.unwrap_or_default()) {
            return Ok(Done::unchanged(bytes));
        }
        Ok(Done::of(outcome, bytes))
    }

    /// What would become of a directory whose name is there.
    fn directory(packed: &Packed, there: &Stat) -> Result<Done, Fault> {
        if there.kind != Kind::Directory {
            return Err(Fault::new(Operation::Open, Side::Destination(0), Errno::NOTDIR));
        }
        let entry = &packed.entry;
        if Some(there.mode) == entry.mode && has_time(there, entry.mtime.unwrap_or_default()) {
            return Ok(Done::unchanged(0));
        }
        Ok(Done::of(Outcome::Metadata, 0))
    }
}

fn has_time(there: &Stat, nanoseconds: i128) -> bool {
    let wanted = time(nanoseconds);
    there.mtime == wanted
        || (is_doubtful(wanted, there.mtime) && Kept::assumed(wanted, there).is_same(wanted, there.mtime))
}

/// Whether a directory takes two names for one, as far as the names in it tell.
fn folds(at: &OwnedFd) -> sys::Result<bool> {
    let mut letters = None;
    listing::each(
        at.as_fd(),
        || (),
        |name, _| {
            if letters.is_none() && name.to_bytes().iter().any(u8::is_ascii_alphabetic) {
                letters = Some(name.to_owned());
            }
        },
    )?;
    letters.map_or(Ok(false), |name| has_two_spellings(at, &name))
}
