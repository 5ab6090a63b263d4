//! What to do about one entry: a pure function of what is there and what is asked for.
//!
//! Comes in: the source's facts, the destination's facts or their absence, the rules; goes out: an [`Action`], or the
//! need for a probe that reads what decides. A dry run prints the same actions that a real run takes.

use bulkhaul_sys::{Kind, Stat};

use crate::event::Changes;
use crate::options::Keep;
use crate::report::Reason;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing has this name: make it.
    Create,
    /// Something else has this name: put the new one in its place.
    Replace(Changes),
    /// It looks the same: content (or a link's text) decides.
    Probe,
    /// Content is right for sure; metadata may not be.
    Keep,
    /// Leave it alone.
    Skip(Reason),
    /// It can't be replaced: what is in the way.
    Conflict(&'static str),
}

/// Plans for an entry that is not a directory. `tail`: bytes that the skip test compares (0: none).
pub fn plan(source: &Stat, existing: Option<&Stat>, tail: u64) -> Action {
    let Some(existing) = existing else {
        return Action::Create;
    };
    if existing.id == source.id {
        return Action::Skip(Reason::SameFile);
    }
    if existing.kind == Kind::Directory {
        return Action::Conflict("a directory is in the way");
    }
    if existing.kind != source.kind {
        return Action::Replace(Changes::CONTENT);
    }
    let mut changes = Changes::default();
    match source.kind {
        Kind::File => {
            changes.insert_if(source.size != existing.size, Changes::SIZE);
            // As the originals: equal as seconds in a double. What is finer is put right as metadata.
            let same_time = source.mtime.as_float().to_bits() == existing.mtime.as_float().to_bits();
            changes.insert_if(!same_time, Changes::TIME);
            if changes.is_empty() {
                return if tail == 0 || source.size == 0 {
                    Action::Keep
                } else {
                    Action::Probe
                };
            }
            changes.insert(Changes::CONTENT);
            Action::Replace(changes)
        }
        Kind::Symlink => Action::Probe,
        Kind::Block | Kind::Char if source.rdev != existing.rdev => Action::Replace(Changes::TARGET),
        _ => Action::Keep,
    }
}

/// What may have the name where a directory comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nothing: make it.
    Free,
    /// A directory, or a link to one that is to be kept: go in.
    Directory,
    /// Anything else.
    Taken(&'static str),
}

/// Plans for a directory. `leads_to_directory`: asked only for a symlink, when links to directories are kept.
pub fn place(existing: Option<&Stat>, keep_dirlinks: bool, leads_to_directory: impl FnOnce() -> bool) -> Place {
    match existing.map(|e| e.kind) {
        None => Place::Free,
        Some(Kind::Directory) => Place::Directory,
        Some(Kind::Symlink) if keep_dirlinks && leads_to_directory() => Place::Directory,
        Some(Kind::Symlink) => Place::Taken("a symlink is in the way of a directory"),
        Some(_) => Place::Taken("a file is in the way of a directory"),
    }
}

/// Owner, group and mode that an entry is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Owner; `None`: as it comes.
    pub uid: Option<u32>,
    /// Group; `None`: as it comes.
    pub gid: Option<u32>,
    /// Mode; `None`: as it is (an existing entry whose mode is not kept).
    pub mode: Option<u32>,
}

/// What metadata `source` asks for. `new`: the entry is made by this run.
pub fn wanted(source: &Stat, keep: &Keep, new: bool) -> Wanted {
    let base = match (keep.mode, new) {
        (true, _) => Some(source.mode),
        (false, true) => Some(source.mode & 0o777 & !keep.umask),
        (false, false) => None,
    };
    Wanted {
        uid: keep.user.or(keep.owner.then_some(source.uid)),
        gid: keep.group.or(keep.owner.then_some(source.gid)),
        mode: match (&keep.chmod, source.kind) {
            (_, Kind::Symlink) => None,
            (Some(chmod), kind) => Some(chmod.apply(base.unwrap_or(source.mode), kind == Kind::Directory)),
            (None, _) => base,
        },
    }
}

/// How `existing` differs from what is wanted, in what a stat shows.
pub fn differences(source: &Stat, existing: &Stat, keep: &Keep) -> Changes {
    let wanted = wanted(source, keep, false);
    let mut changes = Changes::default();
    changes.insert_if(wanted.uid.is_some_and(|u| u != existing.uid), Changes::OWNER);
    changes.insert_if(wanted.gid.is_some_and(|g| g != existing.gid), Changes::GROUP);
    changes.insert_if(wanted.mode.is_some_and(|m| m != existing.mode), Changes::MODE);
    changes.insert_if(keep.times && source.mtime != existing.mtime, Changes::TIME);
    changes
}
