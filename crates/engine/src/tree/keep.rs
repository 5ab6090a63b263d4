//! Which metadata an entry is to have, and what of it is missing.
//!
//! Comes in: what is asked for, and the facts of both sides; goes out: owner, group and mode to set, and how two entries
//! differ in what a stat shows. Pure: nothing is read or set here.

use bulkhaul_formats::chmod::Chmod;
use bulkhaul_sys::{Kind, Stat};

use crate::entry::Changes;
use crate::tree::times::Kept;

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
    let with = |lost: u32| match (&keep.chmod, source.kind) {
        (_, Kind::Symlink) => None,
        (Some(chmod), kind) => Some(chmod.apply(base.unwrap_or(source.mode) & !lost, kind == Kind::Directory)),
        (None, _) => base.map(|mode| mode & !lost),
    };
    Wanted {
        uid: uid_set,
        gid: gid_set,
        mode: with(lost),
        short_of_uid: uid != uid_set,
        short_of_gid: gid != gid_set,
        short_of_setid: with(lost) != with(0),
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

/// What metadata an entry gets.
#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an independent option of the command line"
)]
pub struct Keep {
    /// Permission bits.
    pub mode: bool,
    /// Owner and group.
    pub owner: bool,
    /// Times.
    pub times: bool,
    /// Times that are not kept are no loss.
    pub time_loss: bool,
    /// ACLs; never without the mode, which is part of them.
    pub acls: bool,
    /// Extended attributes.
    pub xattrs: bool,
    /// File capabilities.
    pub capabilities: bool,
    /// Owner to set instead.
    pub user: Option<u32>,
    /// Group to set instead.
    pub group: Option<u32>,
    /// Permission changes.
    pub chmod: Option<Chmod>,
    /// This process's file creation mask, for what is made without the source's mode.
    pub umask: u32,
    /// What this process may give away.
    pub reach: Reach,
}

impl Keep {
    /// Whether a mode is asked for.
    pub fn sets_mode(&self) -> bool {
        self.mode || self.chmod.is_some()
    }

    /// The permission bits that something new is made with: none for others where its mode is set in the end, and otherwise
    /// those that the source has, for the directory and the file creation mask to take away from.
    pub fn made_with(&self, source: u32) -> u32 {
        if self.sets_mode() { 0o600 } else { source & 0o777 }
    }

    /// All that the source has, and nothing instead of it.
    pub fn whole(umask: u32, reach: Reach) -> Self {
        Self {
            mode: true,
            owner: true,
            times: true,
            time_loss: false,
            acls: true,
            xattrs: true,
            capabilities: true,
            user: None,
            group: None,
            chmod: None,
            umask,
            reach,
        }
    }

    /// What of a file stays when it is written into.
    pub fn as_written(umask: u32, reach: Reach) -> Self {
        Self {
            times: false,
            // Writing takes them away.
            capabilities: false,
            ..Self::whole(umask, reach)
        }
    }

    /// What an entry that takes the place of another keeps of that one: what it does not get from its source, as a program
    /// does that writes into what is there. `None`: nothing.
    pub fn of_replaced(&self) -> Option<Self> {
        let rest = Self {
            mode: !self.mode && self.chmod.is_none(),
            owner: !self.owner && self.user.is_none() && self.group.is_none(),
            acls: !self.acls && self.chmod.is_none(),
            xattrs: !self.xattrs,
            ..Self::as_written(self.umask, self.reach.clone())
        };
        (rest.mode || rest.owner || rest.acls || rest.xattrs).then_some(rest)
    }
}

/// Whose files a process may make.
#[derive(Clone, Debug)]
pub struct Reach {
    /// Effective user id 0: everybody's; what is refused nevertheless is a failure then, not a note.
    pub privileged: bool,
    pub(crate) user: u32,
    pub(crate) groups: Vec<u32>,
}

impl Reach {
    /// That of a process with this effective user and these groups.
    pub fn of(user: u32, groups: Vec<u32>) -> Self {
        Self {
            privileged: user == 0,
            user,
            groups,
        }
    }

    /// Whether files may be given to this user.
    pub fn user(&self, uid: u32) -> bool {
        self.privileged || uid == self.user
    }

    /// Whether own files may be given to this group.
    pub fn group(&self, gid: u32) -> bool {
        self.privileged || self.groups.contains(&gid)
    }
}
