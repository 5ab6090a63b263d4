//! Owner, mode, extended attributes, ACLs and times of one entry: compared, and put right by descriptor.
//!
//! Comes in: what an entry of the source has, and a node of a destination; goes out: what differed, put right, and what could
//! not be kept.
//!
//! The order matters: owner first, because a change of owner clears set-id bits and capabilities; then attributes and
//! ACLs; then the mode, whose group bits are an ACL's mask; times last of all and on their own, because they mark a
//! finished file. What the destination refuses costs the entry nothing else: it is told by its kind, and counts as lost
//! where the run could have had it. Whether a destination drops owners and modes without a word is looked at when it takes
//! the first. What was not asked for is neither looked at nor set.

use std::ffi::{CStr, CString};

use bulkhaul_formats::acl::Acl;
use bulkhaul_formats::digest::Xxh64;
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Kind, Node, OwnedFd, Stat};

use crate::entry::Changes;
use crate::error::{Fault, Operation, Side, describe};
use crate::tree::keep::{Keep, wanted};

/// The kernel's limits for a list of attribute names and for a value (`linux/limits.h`).
const XATTR_BYTES: usize = 64 * 1024;
/// Room for the names that nearly all files get by with.
const SHORT_LIST_BYTES: usize = 512;
const SHORT_OF_UID: &str = "the owner was not kept: only root may give files away";
const SHORT_OF_GID: &str = "the group was not kept: this user may not give it";
const SHORT_OF_SETID: &str = "set-user-id or set-group-id was dropped, because the owner or group is not the source's";
const ACL_ACCESS: &CStr = c"system.posix_acl_access";
const ACL_DEFAULT: &CStr = c"system.posix_acl_default";
const CAPABILITY: &[u8] = b"security.capability";
/// What a host's security policy gives to every file: it is taken over where it is taken, and no loss where not.
const LABELS: [&[u8]; 2] = [b"security.selinux", b"security.SMACK64"];
/// XFS shows its ACLs to root a second time.
const DOUBLES: [&[u8]; 2] = [b"trusted.SGI_ACL_FILE", b"trusted.SGI_ACL_DEFAULT"];
/// What file systems note about the place of a file: an overlay the lower file that it came from, Lustre its objects, Gluster
/// its identity and the state of its copies, a kernel that checks metadata the inode. On another file it would do harm.
const BOUND: [&[u8]; 15] = [
    b"trusted.overlay.origin",
    b"trusted.overlay.uuid",
    b"trusted.overlay.impure",
    b"user.overlay.origin",
    b"user.overlay.uuid",
    b"user.overlay.impure",
    b"trusted.lov",
    b"trusted.lma",
    b"trusted.lmv",
    b"trusted.link",
    b"trusted.fid",
    b"trusted.hsm",
    b"trusted.som",
    b"trusted.dmv",
    b"security.evm",
];
/// The same for all names that begin so.
const BOUND_PREFIXES: [&[u8]; 7] = [
    b"lustre.",
    b"trusted.gluster",
    b"trusted.gfid",
    b"trusted.pgfid.",
    b"trusted.afr.",
    b"trusted.ec.",
    b"trusted.bit-rot.",
];
/// Properties of btrfs, which what is made in a directory gets from it.
const PROPERTIES: &[u8] = b"btrfs.";

/// Something that the copy has and the original has not, or the other way round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// Code of the note: what was not kept.
    pub kind: String,
    /// One sentence.
    pub message: String,
    /// It was asked for, could have been had, and was refused: the copy is not complete.
    pub lost: bool,
}

/// Buffers for attributes, reused from entry to entry.
pub struct Scratch {
    lists: [Vec<u8>; 2],
    values: [Vec<u8>; 2],
    /// By destination.
    trusts: Vec<Trust>,
    /// What could not be kept of the current entry.
    pub shortfalls: Vec<Shortfall>,
}

/// Whether a destination was seen to have what it said that it took: some take owners and modes without a word, and drop them.
#[derive(Clone, Copy, Default)]
struct Trust {
    owner: bool,
    mode: bool,
}

impl Default for Scratch {
    fn default() -> Self {
        let buffer = || vec![0; XATTR_BYTES];
        Self {
            lists: [buffer(), buffer()],
            values: [buffer(), buffer()],
            trusts: Vec::new(),
            shortfalls: Vec::new(),
        }
    }
}

impl Scratch {
    /// Something of the current entry was not kept; `lost`: it could have been had.
    pub fn note(&mut self, kind: &str, message: impl Into<String>, lost: bool) {
        self.shortfalls.push(Shortfall {
            kind: kind.to_owned(),
            message: message.into(),
            lost,
        });
    }

    fn trust(&mut self, destination: usize) -> &mut Trust {
        if self.trusts.len() <= destination {
            self.trusts.resize(destination + 1, Trust::default());
        }
        &mut self.trusts[destination]
    }

    /// What this user can't have.
    fn short(&mut self, kind: &str, message: &str) {
        self.note(kind, message, false);
    }
}

/// The entry of the destination and what is known of it.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Itself.
    pub node: Node<'a>,
    /// Its owner and group now.
    pub owner: (u32, u32),
    /// Its mode now.
    pub mode: u32,
    /// The mode that it is to have where none is kept; `None`: it has that.
    pub born: Option<u32>,
    /// This run made it, so it has no attributes but inherited ones.
    pub new: bool,
    /// It may have inherited some from its directory.
    pub inherits: bool,
    /// Number of the destination.
    pub destination: usize,
}

/// What became of the metadata of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Put {
    /// What was put right, or would be.
    pub changes: Changes,
    /// What the destination refused.
    pub refused: Changes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Acl,
    Capability,
    Label,
    /// It binds a file to its place.
    Bound,
    /// Another face of something that is kept.
    Double,
    /// How a file system shows what it has of its own.
    System,
    /// All others.
    Plain,
}

fn class(name: &[u8]) -> Class {
    if name == ACL_ACCESS.to_bytes() || name == ACL_DEFAULT.to_bytes() {
        Class::Acl
    } else if name.starts_with(b"user.") && !name.starts_with(b"user.overlay.") {
        Class::Plain
    } else if name == CAPABILITY {
        Class::Capability
    } else if LABELS.contains(&name) {
        Class::Label
    } else if DOUBLES.contains(&name) {
        Class::Double
    } else if BOUND.contains(&name) || BOUND_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        Class::Bound
    } else if name.starts_with(b"system.") {
        Class::System
    } else {
        Class::Plain
    }
}

/// Whether attributes of this class are asked for.
fn takes(keep: &Keep, class: Class) -> bool {
    match class {
        Class::Acl => keep.acls,
        Class::Capability => keep.capabilities,
        Class::Plain => keep.xattrs,
        // Everybody else's files have what the policy says.
        Class::Label => keep.xattrs && keep.reach.privileged,
        Class::Bound | Class::Double | Class::System => false,
    }
}

/// Whether a refusal says that the destination, or this user, can't have something, and nothing worse. Servers of SMB and NFS
/// say it by EACCES too.
pub fn is_refusal(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL
    )
}

/// Whether an attribute has no room beside its file: file systems limit their size and number (ext4 to a block), whoever asks.
fn is_too_large(errno: Errno) -> bool {
    matches!(errno, Errno::NOSPC | Errno::DQUOT | Errno::TOOBIG | Errno::RANGE)
}

/// A source's facts as its copy is to show them. The group's bits in the mode of an entry with an ACL are the most that its
/// list gives anybody: without the list the group gets what the list gives it.
pub fn without_list(keep: &Keep, source: &Stat, held: Held<'_>, scratch: &mut Scratch) -> Result<Stat, Fault> {
    let fault = |operation, e| Fault::new(operation, Side::Source, e);
    let mut bare = *source;
    if keep.acls || !keep.sets_mode() || source.kind == Kind::Symlink || source.mode & 0o070 == 0 {
        return Ok(bare);
    }
    let mut opened = None;
    let node = held.node(&mut opened).map_err(|e| fault(Operation::Open, e))?;
    let value = &mut scratch.values[0];
    // As with lists of names: nearly none is longer.
    let answer = match sys::get_xattr(node, ACL_ACCESS, &mut value[..SHORT_LIST_BYTES]) {
        Err(Errno::RANGE) => sys::get_xattr(node, ACL_ACCESS, value),
        other => other,
    };
    match answer {
        Ok(length) => {
            if let Some(acl) = Acl::parse(&value[..length]) {
                bare.mode = source.mode & !0o777 | acl.mode_without();
            }
        }
        Err(Errno::NODATA | Errno::NOTSUP | Errno::NOSYS) => {}
        Err(errno) => return Err(fault(Operation::GetXattr, errno)),
    }
    Ok(bare)
}

/// Makes everything but the times of `copy` like `source`; answers what differed. `onto`: what is changed, `copy` itself or
/// something in its stead; without it this only looks.
pub fn put_right(
    keep: &Keep,
    source: &Stat,
    source_node: Option<Node<'_>>,
    copy: Subject<'_>,
    onto: Option<Node<'_>>,
    scratch: &mut Scratch,
) -> Result<Put, Fault> {
    let onto = onto.map(|node| Subject { node, ..copy });
    let mut put = Put::default();
    let wanted = wanted(source, keep, copy.owner, copy.born);
    let mut mode = wanted.mode;
    let mut owner_set = false;

    // Owner.
    if wanted.short_of_uid {
        scratch.short("owner", SHORT_OF_UID);
    }
    if wanted.short_of_gid {
        scratch.short("group", SHORT_OF_GID);
    }
    if wanted.short_of_setid {
        scratch.short("setid-dropped", SHORT_OF_SETID);
    }
    put.changes.insert_if(wanted.uid.is_some(), Changes::OWNER);
    put.changes.insert_if(wanted.gid.is_some(), Changes::GROUP);
    if let Some(onto) = onto.filter(|_| wanted.uid.is_some() || wanted.gid.is_some()) {
        let (uid_kept, gid_kept) = set_owner(keep, onto, wanted.uid, wanted.gid, scratch)?;
        owner_set = true;
        put.refused.insert_if(!uid_kept, Changes::OWNER);
        put.refused.insert_if(!gid_kept, Changes::GROUP);
        let lost = if uid_kept { 0 } else { 0o4000 } | if gid_kept { 0 } else { 0o2000 };
        if let Some(m) = &mut mode
            && *m & lost != 0
            && source.kind != Kind::Directory
        {
            *m &= !lost;
            scratch.short("setid-dropped", SHORT_OF_SETID);
        }
    }

    // Attributes.
    let mut done = Changes::default();
    let mut acl_changed = false;
    for attribute in &attribute_changes(keep, source_node, copy, scratch)? {
        let is_acl = class(attribute.name.to_bytes()) == Class::Acl;
        let change = if is_acl { Changes::ACL } else { Changes::XATTR };
        put.changes.insert(change);
        let Some(onto) = onto else { continue };
        if set_attribute(keep, onto, attribute, scratch)? {
            done.insert(change);
            acl_changed |= is_acl;
            continue;
        }
        put.refused.insert(change);
        if let (true, Some(acl)) = (
            attribute.name.as_c_str() == ACL_ACCESS,
            attribute.value.as_deref().and_then(Acl::parse),
        ) {
            // Without its list, the group's bits of the mode would give the owning group what the mask allows others.
            mode = mode.map(|mode| mode & (!0o777 | acl.mode_without()));
        }
    }

    // Mode.
    if let Some(mode) = mode {
        let differs = mode != copy.mode;
        put.changes.insert_if(differs && !copy.new, Changes::MODE);
        // A change of owner takes set-id bits away.
        let due = differs || acl_changed || (owner_set && mode & 0o6000 != 0);
        if let Some(onto) = onto.filter(|_| due) {
            let kept = set_mode(keep, (onto.node, mode, keep.sets_mode()), copy.destination, scratch)?;
            put.refused.insert_if(!kept, Changes::MODE);
        }
    }
    put.changes = put.changes.without(put.refused);
    put.changes.insert(done);
    Ok(put)
}

/// What of a source's metadata its copy `found` does not have though it was asked for, in words. `nodes`: both, where they have
/// attributes. What is never copied is not looked for; nor are the times.
pub fn missing(
    keep: &Keep,
    source: &Stat,
    found: &Stat,
    nodes: Option<(Node<'_>, Node<'_>)>,
    destination: usize,
    scratch: &mut Scratch,
) -> Result<Option<String>, Fault> {
    let owner = (found.uid, found.gid);
    let wanted = wanted(source, keep, owner, None);
    let text = |what: &str| Ok(Some(what.to_owned()));
    if wanted.uid.is_some() || wanted.short_of_uid {
        return text("its owner");
    }
    if wanted.gid.is_some() || wanted.short_of_gid {
        return text("its group");
    }
    if let Some((node, copy)) = nodes {
        let copy = Subject {
            node: copy,
            owner,
            mode: found.mode,
            born: None,
            new: false,
            inherits: false,
            destination,
        };
        let changes = attribute_changes(keep, Some(node), copy, scratch)?;
        // What it says of attributes that are never copied, the copy has said.
        scratch.shortfalls.clear();
        for attribute in changes.iter().filter(|attribute| attribute.value.is_some()) {
            match class(attribute.name.to_bytes()) {
                Class::Label => {}
                Class::Acl => return text("its ACL"),
                _ => return text(&format!("extended attribute {}", attribute.name.to_string_lossy())),
            }
        }
    }
    if wanted.short_of_setid || wanted.mode.is_some_and(|mode| mode != found.mode) {
        return text("its mode");
    }
    Ok(None)
}

/// How an entry is held that is only looked at.
#[derive(Clone, Copy)]
pub enum Held<'h> {
    /// Open for reading.
    Open(BorrowedFd<'h>),
    /// By its name in a directory.
    Named(BorrowedFd<'h>, &'h CStr),
}

impl Held<'_> {
    /// Itself, for more than a look; `opened` is where its descriptor lives.
    pub fn node<'n>(&'n self, opened: &'n mut Option<OwnedFd>) -> sys::Result<Node<'n>> {
        match self {
            Self::Open(fd) => Ok(Node::Open(*fd)),
            Self::Named(at, name) => {
                let opened: &OwnedFd = opened.insert(sys::open_node(*at, name)?);
                Ok(Node::Path(opened.as_fd()))
            }
        }
    }
}

/// Whether an entry has no attribute that this run would keep or tell of. Asked by its name only where that is all there is;
/// false where nobody can tell by name, or the answer is long.
pub fn is_bare(keep: &Keep, held: Held<'_>, side: Side) -> Result<bool, Fault> {
    if !keep.xattrs && !keep.acls {
        return Ok(true);
    }
    let mut names = [0; SHORT_LIST_BYTES];
    let bytes = match held {
        Held::Open(file) => sys::list_xattrs(Node::Open(file), &mut names),
        Held::Named(at, name) => sys::list_xattrs_at(at, name, &mut names),
    };
    match bytes {
        Ok(bytes) => Ok(names[..bytes]
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .all(|name| match class(name) {
                Class::Bound | Class::System => !keep.xattrs,
                class => !takes(keep, class),
            })),
        Err(Errno::NOTSUP) => Ok(true),
        Err(Errno::NOSYS | Errno::RANGE) => Ok(false),
        Err(e) => Err(Fault::new(Operation::GetXattr, side, e)),
    }
}

/// Sets the times of a finished entry; whether they are as they should be.
pub fn set_times(
    keep: &Keep,
    source: &Stat,
    node: Node<'_>,
    destination: usize,
    scratch: &mut Scratch,
) -> Result<bool, Fault> {
    if !keep.times {
        return Ok(true);
    }
    match sys::set_times(node, Some(source.atime), Some(source.mtime)) {
        Ok(()) => Ok(true),
        Err(errno) if is_refusal(errno) => {
            lose_times(keep, Some(errno), scratch);
            Ok(false)
        }
        Err(errno) => Err(Fault::new(Operation::SetTimes, Side::Destination(destination), errno)),
    }
}

/// The times were refused; without an errno they were taken and dropped.
pub fn lose_times(keep: &Keep, errno: Option<Errno>, scratch: &mut Scratch) {
    let what = because("the times were not kept", errno);
    scratch.note("times", what, keep.reach.privileged && !keep.time_loss);
}

/// Sets a mode; whether it is there now. `asked`: it is one that was asked for, not one that what is made here has anyway.
pub fn set_mode(
    keep: &Keep,
    (node, mode, asked): (Node<'_>, u32, bool),
    destination: usize,
    scratch: &mut Scratch,
) -> Result<bool, Fault> {
    let fault = |operation, e| Fault::new(operation, Side::Destination(destination), e);
    let errno = match sys::set_mode(node, mode) {
        Ok(()) if scratch.trust(destination).mode => return Ok(true),
        Ok(()) => {
            let now = stat(node).map_err(|e| fault(Operation::Stat, e))?;
            scratch.trust(destination).mode = now.mode == mode;
            if now.mode == mode {
                return Ok(true);
            }
            None
        }
        Err(errno) if is_refusal(errno) => Some(errno),
        Err(errno) => return Err(fault(Operation::SetMode, errno)),
    };
    let what = if asked {
        "the mode was not kept"
    } else {
        "it stays closed to others"
    };
    scratch.note("mode", because(what, errno), asked && keep.reach.privileged);
    Ok(false)
}

/// Answers which of both ids are now as wanted.
fn set_owner(
    keep: &Keep,
    copy: Subject<'_>,
    uid: Option<u32>,
    gid: Option<u32>,
    scratch: &mut Scratch,
) -> Result<(bool, bool), Fault> {
    let fault = |operation, e| Fault::new(operation, Side::Destination(copy.destination), e);
    let set = sys::set_owner(copy.node, uid, gid);
    let (uid_kept, gid_kept) = match set {
        Ok(()) if scratch.trust(copy.destination).owner => return Ok((true, true)),
        Ok(()) => {
            let now = stat(copy.node).map_err(|e| fault(Operation::Stat, e))?;
            let kept = (
                uid.is_none_or(|uid| uid == now.uid),
                gid.is_none_or(|gid| gid == now.gid),
            );
            scratch.trust(copy.destination).owner = kept == (true, true);
            kept
        }
        Err(e) if !is_refusal(e) => return Err(fault(Operation::SetOwner, e)),
        // Not both; but a group that the user belongs to may be given.
        Err(_) => match gid.filter(|_| uid.is_some()) {
            None => (uid.is_none(), gid.is_none()),
            Some(gid) => match sys::set_owner(copy.node, None, Some(gid)) {
                Ok(()) => (false, true),
                Err(e) if is_refusal(e) => (false, false),
                Err(e) => return Err(fault(Operation::SetOwner, e)),
            },
        },
    };
    let lost = keep.reach.privileged;
    for (kind, kept, short) in [("owner", uid_kept, SHORT_OF_UID), ("group", gid_kept, SHORT_OF_GID)] {
        if kept {
            continue;
        }
        let message = if lost {
            because(&format!("the {kind} was not kept"), set.err())
        } else {
            short.to_owned()
        };
        scratch.note(kind, message, lost);
    }
    Ok((uid_kept, gid_kept))
}

/// What was not kept, and why; without an errno the destination has said nothing.
fn because(what: &str, errno: Option<Errno>) -> String {
    let why = errno.map_or_else(|| "taken and dropped".to_owned(), describe);
    format!("{what}: the destination refuses it ({why})")
}

fn stat(node: Node<'_>) -> sys::Result<Stat> {
    let (Node::Open(fd) | Node::Path(fd)) = node;
    sys::stat_fd(fd)
}

/// An attribute to set, or to remove where there is no value.
struct Attribute {
    name: CString,
    value: Option<Vec<u8>>,
}

/// Whether it was taken.
fn set_attribute(keep: &Keep, copy: Subject<'_>, attribute: &Attribute, scratch: &mut Scratch) -> Result<bool, Fault> {
    let result = match &attribute.value {
        Some(value) => sys::set_xattr(copy.node, &attribute.name, value),
        None => match sys::remove_xattr(copy.node, &attribute.name) {
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
            other => other,
        },
    };
    let class = class(attribute.name.to_bytes());
    let errno = match result {
        Ok(()) => return Ok(true),
        Err(errno) if is_refusal(errno) || is_too_large(errno) => errno,
        Err(errno) => {
            let side = Side::Destination(copy.destination);
            return Err(Fault::new(Operation::SetXattr, side, errno));
        }
    };
    let lost = keep.reach.privileged || is_too_large(errno);
    let errno = Some(errno);
    let name = attribute.name.to_string_lossy();
    match class {
        Class::Acl => scratch.note("acl", because("an ACL was not kept", errno), lost),
        Class::Capability if !keep.reach.privileged => {
            scratch.short("capability", "file capabilities were not kept: only root may set them");
        }
        Class::Label => {
            let message = format!("the label {name} was not kept: here the host's policy says it");
            scratch.note(&format!("xattr:{name}"), message, false);
        }
        _ => {
            let message = because(&format!("extended attribute {name} was not kept"), errno);
            scratch.note(&format!("xattr:{name}"), message, lost);
        }
    }
    Ok(false)
}

/// What has to be set on the copy, and removed from it.
fn attribute_changes(
    keep: &Keep,
    source: Option<Node<'_>>,
    copy: Subject<'_>,
    scratch: &mut Scratch,
) -> Result<Vec<Attribute>, Fault> {
    let mut changes = Vec::new();
    if !keep.xattrs && !keep.acls {
        return Ok(changes);
    }
    let destination = Side::Destination(copy.destination);
    let used = match source {
        Some(node) => list(node, &mut scratch.lists[0], Side::Source)?,
        None => 0,
    };
    let there = if copy.new && !copy.inherits {
        0
    } else {
        list(copy.node, &mut scratch.lists[1], destination)?
    };
    if used == 0 && there == 0 {
        return Ok(changes);
    }
    let names = split(&scratch.lists[0][..used]);
    let existing = split(&scratch.lists[1][..there]);
    for name in &names {
        let class = class(name.to_bytes());
        if matches!(class, Class::Bound | Class::System) && keep.xattrs {
            let name = name.to_string_lossy();
            let why = if class == Class::Bound {
                ": it binds a file to its place"
            } else {
                ""
            };
            let message = format!("extended attribute {name} is not copied{why}");
            scratch.note(&format!("dropped-xattr:{name}"), message, false);
        }
        if !takes(keep, class) {
            continue;
        }
        let Some(source) = source else { continue };
        let Some(wanted) = get(source, name, &mut scratch.values[0], Side::Source)? else {
            continue;
        };
        if existing.contains(name) {
            let now = get(copy.node, name, &mut scratch.values[1], destination)?;
            if now.is_some_and(|n| scratch.values[1][..n] == scratch.values[0][..wanted]) {
                continue;
            }
        }
        changes.push(Attribute {
            name: name.clone(),
            value: Some(scratch.values[0][..wanted].to_vec()),
        });
    }
    for name in existing.iter().filter(|name| !names.contains(name)) {
        let class = class(name.to_bytes());
        // Nobody may take a label away.
        if takes(keep, class) && class != Class::Label {
            changes.push(Attribute {
                name: name.clone(),
                value: None,
            });
        }
    }
    // A list that goes must be gone before one that comes sets the mode.
    changes.sort_by_key(|attribute| attribute.value.is_some());
    Ok(changes)
}

fn split(list: &[u8]) -> Vec<CString> {
    list.split(|b| *b == 0)
        .filter(|n| !n.is_empty())
        .filter_map(|n| CString::new(n).ok())
        .collect()
}

fn list(node: Node<'_>, buffer: &mut [u8], side: Side) -> Result<usize, Fault> {
    // The kernel allocates what it is offered, so most files are asked with little room.
    let short = SHORT_LIST_BYTES.min(buffer.len());
    let answer = match sys::list_xattrs(node, &mut buffer[..short]) {
        Err(Errno::RANGE) => sys::list_xattrs(node, buffer),
        other => other,
    };
    match answer {
        Ok(n) => Ok(n),
        Err(Errno::NOTSUP | Errno::NOSYS) => Ok(0),
        Err(e) => Err(Fault::new(Operation::GetXattr, side, e)),
    }
}

/// The value's length; `None` where the attribute went away or may not be read.
fn get(node: Node<'_>, name: &CStr, value: &mut [u8], side: Side) -> Result<Option<usize>, Fault> {
    match sys::get_xattr(node, name, value) {
        Ok(n) => Ok(Some(n)),
        Err(Errno::NODATA) => Ok(None),
        Err(e) => Err(Fault::new(Operation::GetXattr, side, e)),
    }
}

/// Name and value of an extended attribute.
pub type Valued = (CString, Vec<u8>);

/// The attributes of an entry that another copy of it may have: ACLs, capabilities and labels too, but nothing that binds a
/// file to its place, of which a note is left.
pub fn attributes(held: Held<'_>, side: Side, scratch: &mut Scratch) -> Result<Vec<Valued>, Fault> {
    let fault = |operation, errno| Fault::new(operation, side, errno);
    if let Held::Named(at, name) = held {
        let mut short = [0; SHORT_LIST_BYTES];
        match sys::list_xattrs_at(at, name, &mut short) {
            Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Ok(_) | Err(Errno::NOSYS | Errno::RANGE) => {}
            Err(errno) => return Err(fault(Operation::GetXattr, errno)),
        }
    }
    let mut opened = None;
    let node = held.node(&mut opened).map_err(|errno| fault(Operation::Open, errno))?;
    let used = list(node, &mut scratch.lists[0], side)?;
    let mut attributes = Vec::new();
    for name in split(&scratch.lists[0][..used]) {
        match class(name.to_bytes()) {
            Class::Bound | Class::System => {
                let text = name.to_string_lossy();
                let message = format!("extended attribute {text} is not kept: it belongs to the place of a file");
                scratch.note(&format!("dropped-xattr:{text}"), message, false);
            }
            Class::Double => {}
            Class::Acl | Class::Capability | Class::Label | Class::Plain => {
                if let Some(length) = get(node, &name, &mut scratch.values[0], side)? {
                    attributes.push((name, scratch.values[0][..length].to_vec()));
                }
            }
        }
    }
    Ok(attributes)
}

/// Sets attributes that somebody brings, as far as they are asked for: after owner and mode, which would take some away.
pub fn give(keep: &Keep, copy: Subject<'_>, given: &[Valued], scratch: &mut Scratch) -> Result<(), Fault> {
    for (name, value) in given {
        if takes(keep, class(name.to_bytes())) {
            let attribute = Attribute {
                name: name.clone(),
                value: Some(value.clone()),
            };
            set_attribute(keep, copy, &attribute, scratch)?;
        }
    }
    Ok(())
}

/// xxh64 over names and values of all extended attributes that may be read, as [`each_xattr`] takes them; of nothing where
/// there are none. `portable`: only of those.
pub fn xattr_digest(node: Node<'_>, buffer: &mut [u8], portable: bool, side: Side) -> Result<u64, Fault> {
    let mut digest = Xxh64::new();
    each_xattr(node, buffer, portable, side, |bytes| digest.update(bytes))?;
    Ok(digest.digest())
}

/// Hands the extended attributes that may be read to `take`, in the order of their names: each name with its NUL, the length
/// of its value in eight bytes, the first the highest, and the value, as hpcp 9.79 hashes them. `portable`: only those that it
/// hashes: of users, ACLs and capabilities. `buffer` has room for the longest list or value that the system knows.
pub fn each_xattr(
    node: Node<'_>,
    buffer: &mut [u8],
    portable: bool,
    side: Side,
    mut take: impl FnMut(&[u8]),
) -> Result<(), Fault> {
    let used = list(node, buffer, side)?;
    let mut names = split(&buffer[..used]);
    let is_portable = |name: &CStr| {
        let bytes = name.to_bytes();
        bytes.starts_with(b"user.") || [ACL_ACCESS, ACL_DEFAULT].contains(&name) || bytes == CAPABILITY
    };
    names.retain(|name| !portable || is_portable(name));
    names.sort_unstable();
    for name in names {
        if let Some(length) = get(node, &name, buffer, side)? {
            take(name.as_bytes_with_nul());
            take(&(length as u64).to_be_bytes());
            take(&buffer[..length]);
        }
    }
    Ok(())
}

/// What a directory gives to what is made in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heritage {
    /// It has attributes that are passed on.
    pub attributes: bool,
    /// What its default ACL leaves of the mode that something is made with; `None`: it has none, and the file creation mask
    /// says.
    mode: Option<u32>,
}

impl Heritage {
    /// What becomes of permission bits that something is made with, as the system has it.
    pub fn leaves(self, keep: &Keep, bits: u32) -> u32 {
        bits & 0o777 & self.mode.unwrap_or(!keep.umask)
    }

    /// Of a directory.
    pub fn of(directory: Node<'_>, scratch: &mut Scratch, destination: usize) -> Result<Self, Fault> {
        let side = Side::Destination(destination);
        let used = list(directory, &mut scratch.lists[0], side)?;
        let mut heritage = Self::default();
        for name in split(&scratch.lists[0][..used]) {
            if name.as_c_str() == ACL_DEFAULT {
                let length = get(directory, ACL_DEFAULT, &mut scratch.values[0], side)?;
                let acl = length.and_then(|length| Acl::parse(&scratch.values[0][..length]));
                heritage.mode = acl.map(Acl::mode);
                heritage.attributes |= length.is_some();
            }
            heritage.attributes |= name.to_bytes().starts_with(PROPERTIES);
        }
        Ok(heritage)
    }
}

/// What a directory that was just made in one of this `heritage` passes on: nothing where its own metadata comes from a
/// source, as `keep` says, since it loses then what it inherited; otherwise what it has from above. It stays closed to others
/// for now.
pub fn inherit(
    heritage: Heritage,
    keep: Option<&Keep>,
    directory: BorrowedFd<'_>,
    mode: u32,
    scratch: &mut Scratch,
    destination: usize,
) -> Result<Heritage, Fault> {
    if !heritage.attributes {
        return Ok(heritage);
    }
    let node = Node::Open(directory);
    let side = Side::Destination(destination);
    if mode & 0o777 != 0o700 {
        // A default ACL may keep the owner out of its own directory.
        sys::set_mode(node, mode | 0o700).map_err(|e| Fault::new(Operation::SetMode, side, e))?;
    }
    if let Some(keep) = keep {
        let used = list(node, &mut scratch.lists[0], side)?;
        for name in split(&scratch.lists[0][..used]) {
            let class = class(name.to_bytes());
            if !takes(keep, class) || class == Class::Label {
                continue;
            }
            match sys::remove_xattr(node, &name) {
                Err(errno) if errno != Errno::NODATA && !is_refusal(errno) => {
                    return Err(Fault::new(Operation::SetXattr, side, errno));
                }
                _ => {}
            }
        }
    }
    Heritage::of(node, scratch, destination)
}
