//! What to do about one entry: a pure function of what is there and what is asked for.
//!
//! Comes in: the source's facts, the destination's facts or their absence, the rules; goes out: an [`Action`], or the
//! need for a probe that reads what decides. A dry run prints the same actions that a real run takes.

use bulkhaul_sys::{Kind, Protection, Stat};

use crate::entry::{Changes, Reason};
use crate::options::Keep;
use crate::tree::times::Kept;

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
            let same_time = same_time || kept.is_same(source.mtime, existing.mtime);
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

/// Why nothing may be made in a directory, or take the place of what has its name there: their flags forbid it.
pub fn forbidden(directory: Option<&Stat>, existing: Option<&Stat>) -> Option<&'static str> {
    let directory = directory.and_then(|stat| match stat.protection {
        Protection::None => None,
        Protection::AppendOnly => Some("its directory is append-only (chattr +a): nothing gets its name or goes in it"),
        Protection::Immutable => Some("its directory is immutable (chattr +i)"),
    });
    directory.or_else(|| existing.and_then(|stat| protected(stat.protection)))
}

/// Why an entry stays as it is: its flags forbid the rest.
pub fn protected(protection: Protection) -> Option<&'static str> {
    match protection {
        Protection::None => None,
        Protection::AppendOnly => Some("it is append-only (chattr +a)"),
        Protection::Immutable => Some("it is immutable (chattr +i)"),
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

/// Owner, group and mode that an entry is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Owner to set; `None`: it is right, or out of reach.
    pub uid: Option<u32>,
    /// Group to set; `None`: it is right, or out of reach.
    pub gid: Option<u32>,
    /// Mode; `None`: as it is (where it is not kept, or of a symlink).
    pub mode: Option<u32>,
    /// The owner is asked for and out of this user's reach.
    pub short_of_uid: bool,
    /// The group is asked for and out of this user's reach.
    pub short_of_gid: bool,
    /// Set-id bits are left out: for somebody else's id they would be a gift of the wrong person's rights.
    pub short_of_setid: bool,
}

impl Wanted {
    /// Whether something is asked for that can't be had.
    pub fn falls_short(&self) -> bool {
        self.short_of_uid || self.short_of_gid || self.short_of_setid
    }
}

/// What metadata `source` asks for. `owner`: whose the entry is now; `born`: the mode that it is to have where the source's is
/// not kept, if it has not got that.
pub fn wanted(source: &Stat, keep: &Keep, owner: (u32, u32), born: Option<u32>) -> Wanted {
    let uid = keep
        .user
        .or(keep.owner.then_some(source.uid))
        .filter(|uid| *uid != owner.0);
    let gid = keep
        .group
        .or(keep.owner.then_some(source.gid))
        .filter(|gid| *gid != owner.1);
    let reach = &keep.reach;
    let (uid_set, gid_set) = (uid.filter(|u| reach.user(*u)), gid.filter(|g| reach.group(*g)));
    let base = if keep.mode { Some(source.mode) } else { born };
    let mut lost = 0;
    if source.kind != Kind::Directory {
        lost |= if uid_set.unwrap_or(owner.0) == source.uid {
            0
        } else {
            0o4000
        };
        lost |= if gid_set.unwrap_or(owner.1) == source.gid {
            0
        } else {
            0o2000
        };
    }
    let kept = base.map(|mode| mode & !lost);
    Wanted {
        uid: uid_set,
        gid: gid_set,
        mode: match (&keep.chmod, source.kind) {
            (_, Kind::Symlink) => None,
            (Some(chmod), kind) => Some(chmod.apply(kept.unwrap_or(source.mode & !lost), kind == Kind::Directory)),
            (None, _) => kept,
        },
        short_of_uid: uid != uid_set,
        short_of_gid: gid != gid_set,
        short_of_setid: kept != base,
    }
}

/// How `existing` differs from what is wanted, in what a stat shows.
pub fn differences(source: &Stat, existing: &Stat, keep: &Keep, kept: &Kept) -> Changes {
    let wanted = wanted(source, keep, (existing.uid, existing.gid), None);
    let mut changes = Changes::default();
    changes.insert_if(wanted.uid.is_some(), Changes::OWNER);
    changes.insert_if(wanted.gid.is_some(), Changes::GROUP);
    changes.insert_if(wanted.mode.is_some_and(|m| m != existing.mode), Changes::MODE);
    let same_time = kept.is_same(source.mtime, existing.mtime);
    changes.insert_if(keep.times && !same_time, Changes::TIME);
    changes
}
