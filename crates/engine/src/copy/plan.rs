//! What to do about one entry: a pure function of what is there and what is asked for.
//!
//! Comes in: the source's facts, the destination's facts or their absence, the rules; goes out: an [`Action`], or the
//! need for a probe that reads what decides. A dry run prints the same actions that a real run takes.

use bulkhaul_sys::{Kind, Stat};

use crate::entry::{Changes, Reason};
use crate::tree::publish::DIRECTORY_IN_THE_WAY;
use crate::tree::times::Kept;

const SYMLINK_IN_THE_WAY: &str = "a symlink is in the way of a directory";
const FILE_IN_THE_WAY: &str = "a file is in the way of a directory";
/// What is in the way and of another kind: it goes where what is extra goes.
pub const IN_THE_WAY: [&str; 3] = [DIRECTORY_IN_THE_WAY, SYMLINK_IN_THE_WAY, FILE_IN_THE_WAY];

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing has this name: make it.
    Create,
    /// Something else has this name: put the new one in its place.
    Replace(Changes),
    /// It looks the same: content (or a link's text) decides.
    Probe,
    /// It looks the same, and its time says nothing: whole contents decide.
    Compare,
    /// Content is right for sure; metadata may not be.
    Keep,
    /// Leave it alone.
    Skip(Reason),
    /// It can't be replaced: what is in the way.
    Conflict(&'static str),
}

/// Plans for an entry that is not a directory. `tail`: bytes that the skip test compares (0: none). `kept`: what the
/// destination makes of times.
pub fn plan(source: &Stat, existing: Option<&Stat>, tail: u64, kept: &Kept) -> Action {
    let Some(existing) = existing else {
        return Action::Create;
    };
    if existing.is_same(source) {
        return Action::Skip(Reason::SameFile);
    }
    if existing.kind == Kind::Directory {
        return Action::Conflict(DIRECTORY_IN_THE_WAY);
    }
    if existing.kind != source.kind {
        return Action::Replace(Changes(Changes::CONTENT.0 | Changes::KIND.0));
    }
    let mut changes = Changes::default();
    match source.kind {
        Kind::File => {
            changes.insert_if(source.size != existing.size, Changes::SIZE);
            // As the originals: equal as seconds in a double. What is finer is put right as metadata.
            let same_time = source.mtime.as_float().to_bits() == existing.mtime.as_float().to_bits();
            let same_time = same_time || kept.is_same(source.mtime, existing.mtime);
            changes.insert_if(!same_time, Changes::TIME);
            if changes.is_empty() {
                return if source.mtime != existing.mtime && source.size > 0 && kept.is_limited(source.mtime) {
                    Action::Compare
                } else if tail == 0 || source.size == 0 {
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
        Some(Kind::Symlink) => Place::Taken(SYMLINK_IN_THE_WAY),
        Some(_) => Place::Taken(FILE_IN_THE_WAY),
    }
}
