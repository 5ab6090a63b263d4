//! Owner, mode, extended attributes, ACLs and times of one entry: compared, and put right by descriptor.
//!
//! The order matters: owner first, because a change of owner clears set-id bits and capabilities; then user attributes;
//! then the mode; then ACLs, whose mask is the mode's group bits, and capabilities; times last of all and on their own,
//! because they mark a finished file. What an unprivileged run may not keep is a note; anything else is a fault.

use std::ffi::{CStr, CString};

use bulkhaul_formats::digest::Xxh64;
use bulkhaul_sys::{self as sys, BorrowedFd, Errno, Kind, Node, Stat};

use crate::error::{Fault, Operation, Side};
use crate::event::Changes;
use crate::options::Keep;
use crate::plan::wanted;

/// The kernel's limits for a list of attribute names and for a value (`linux/limits.h`).
const XATTR_BYTES: usize = 64 * 1024;
/// Room for the names that nearly all files get by with.
const SHORT_LIST_BYTES: usize = 512;
const SHORT_OF_UID: &str = "the owner was not kept: only root may give files away";
const SHORT_OF_GID: &str = "the group was not kept: this user may not give it";
const SHORT_OF_SETID: &str = "set-user-id or set-group-id was dropped, because the owner or group is not the source's";
const ACL_ACCESS: &CStr = c"system.posix_acl_access";
const ACL_DEFAULT: &CStr = c"system.posix_acl_default";
/// What a host with `SELinux` gives to every file.
const LABEL: &CStr = c"security.selinux";
const CAPABILITY: &CStr = c"security.capability";

/// Something that the copy has and the original has not, or the other way round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// Code of the note: what was not kept.
    pub kind: String,
    /// One sentence.
    pub message: String,
}

/// Buffers for attributes, reused from entry to entry.
pub struct Scratch {
    lists: [Vec<u8>; 2],
    values: [Vec<u8>; 2],
    /// What could not be kept of the current entry.
    pub shortfalls: Vec<Shortfall>,
}

impl Default for Scratch {
    fn default() -> Self {
        let buffer = || vec![0; XATTR_BYTES];
        Self {
            lists: [buffer(), buffer()],
            values: [buffer(), buffer()],
            shortfalls: Vec::new(),
        }
    }
}

impl Scratch {
    /// Something of the current entry could not be kept.
    pub fn short(&mut self, kind: &str, message: impl Into<String>) {
        self.shortfalls.push(Shortfall {
            kind: kind.to_owned(),
            message: message.into(),
        });
    }
}

/// The entry of the destination and what is known of it.
#[derive(Clone, Copy)]
pub struct Copy<'a> {
    /// Itself.
    pub node: Node<'a>,
    /// Its owner and group now.
    pub owner: (u32, u32),
    /// Its mode now.
    pub mode: u32,
    /// This run made it, so it has no attributes but inherited ones.
    pub new: bool,
    /// It may have inherited an ACL from its directory.
    pub inherits_acl: bool,
    /// Number of the destination.
    pub destination: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    User,
    Acl,
    Capability,
    /// Another face of something that is kept: XFS shows its ACLs a second time.
    Double,
    Dropped,
}

/// What of the attributes is kept: the user's, ACLs and capabilities. Labels of security modules belong to a host's
/// policy, `trusted.*` to its administrator, and what file systems use inside (`lustre.*`) would do harm elsewhere.
fn class(name: &CStr) -> Class {
    if name == ACL_ACCESS || name == ACL_DEFAULT {
        Class::Acl
    } else if name == CAPABILITY {
        Class::Capability
    } else if name == c"trusted.SGI_ACL_FILE" || name == c"trusted.SGI_ACL_DEFAULT" {
        Class::Double
    } else if name.to_bytes().starts_with(b"user.") {
        Class::User
    } else {
        Class::Dropped
    }
}

/// Makes everything but the times of `copy` like `source`; answers what differed. With `act` false it only looks.
pub fn put_right(
    keep: &Keep,
    source: &Stat,
    source_node: Option<Node<'_>>,
    copy: Copy<'_>,
    act: bool,
    scratch: &mut Scratch,
) -> Result<Changes, Fault> {
    let mut changes = Changes::default();
    let wanted = wanted(source, keep, copy.owner, copy.new);
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
    changes.insert_if(wanted.uid.is_some(), Changes::OWNER);
    changes.insert_if(wanted.gid.is_some(), Changes::GROUP);
    if act && (wanted.uid.is_some() || wanted.gid.is_some()) {
        let (uid_kept, gid_kept) = set_owner(keep, copy, wanted.uid, wanted.gid, scratch)?;
        owner_set = true;
        let lost = if uid_kept { 0 } else { 0o4000 } | if gid_kept { 0 } else { 0o2000 };
        if let Some(m) = &mut mode
            && *m & lost != 0
            && source.kind != Kind::Directory
        {
            *m &= !lost;
            scratch.short("setid-dropped", SHORT_OF_SETID);
        }
    }

    // Attributes, in two turns around the mode.
    let attributes = if keep.xattrs && source_node.is_some() {
        attribute_changes(source_node, copy, scratch)?
    } else {
        let inherited = copy.inherits_acl.then(|| Attribute {
            name: ACL_ACCESS.to_owned(),
            value: None,
        });
        inherited.into_iter().collect()
    };
    let mut acl_changed = false;
    for attribute in &attributes {
        let class = class(&attribute.name);
        changes.insert(if class == Class::Acl {
            Changes::ACL
        } else {
            Changes::XATTR
        });
        acl_changed |= class == Class::Acl;
        // An ACL that has to go must go before the mode, which would only set its mask.
        if act && (class == Class::User || attribute.value.is_none()) {
            set_attribute(keep, copy, attribute, scratch)?;
        }
    }

    if let Some(mode) = mode {
        changes.insert_if(mode != copy.mode && !copy.new, Changes::MODE);
        if act && (mode != copy.mode || owner_set || acl_changed) && source.kind != Kind::Symlink {
            sys::set_mode(copy.node, mode)
                .map_err(|e| Fault::new(Operation::SetMode, Side::Destination(copy.destination), e))?;
        }
    }

    if act {
        for attribute in attributes
            .iter()
            .filter(|a| class(&a.name) != Class::User && a.value.is_some())
        {
            set_attribute(keep, copy, attribute, scratch)?;
        }
        if let (Some(mode), Some(_), true) = (mode, &keep.chmod, acl_changed) {
            sys::set_mode(copy.node, mode)
                .map_err(|e| Fault::new(Operation::SetMode, Side::Destination(copy.destination), e))?;
        }
    }
    Ok(changes)
}

/// Whether an entry has no attribute that anybody gave it. Asked by its name only where that is all there is; false where
/// nobody can tell by name, or the answer is long.
pub fn is_bare(held: Held<'_>, side: Side) -> Result<bool, Fault> {
    let mut names = [0; SHORT_LIST_BYTES];
    let bytes = match held {
        Held::Open(file) => sys::list_xattrs(Node::Open(file), &mut names),
        Held::Named(at, name) => sys::list_xattrs_at(at, name, &mut names),
    };
    match bytes {
        Ok(bytes) => Ok(bytes == 0 || names[..bytes] == *LABEL.to_bytes_with_nul()),
        Err(Errno::NOTSUP) => Ok(true),
        Err(Errno::NOSYS | Errno::RANGE) => Ok(false),
        Err(e) => Err(Fault::new(Operation::GetXattr, side, e)),
    }
}

/// How an entry is held that is only looked at.
#[derive(Clone, Copy)]
pub enum Held<'h> {
    /// Open for reading.
    Open(BorrowedFd<'h>),
    /// By its name in a directory.
    Named(BorrowedFd<'h>, &'h CStr),
}

/// Sets the times of a finished entry.
pub fn set_times(keep: &Keep, source: &Stat, node: Node<'_>, destination: usize) -> Result<(), Fault> {
    if !keep.times {
        return Ok(());
    }
    sys::set_times(node, Some(source.atime), Some(source.mtime))
        .map_err(|e| Fault::new(Operation::SetTimes, Side::Destination(destination), e))
}

/// Whether a refusal is what an unprivileged run has to live with.
fn tolerable(keep: &Keep, errno: Errno) -> bool {
    !keep.reach.privileged && matches!(errno, Errno::PERM | Errno::NOTSUP | Errno::INVAL)
}

/// Answers which of both ids are now as wanted.
fn set_owner(
    keep: &Keep,
    copy: Copy<'_>,
    uid: Option<u32>,
    gid: Option<u32>,
    scratch: &mut Scratch,
) -> Result<(bool, bool), Fault> {
    let fault = |e| Fault::new(Operation::SetOwner, Side::Destination(copy.destination), e);
    match sys::set_owner(copy.node, uid, gid) {
        Ok(()) => return Ok((true, true)),
        Err(e) if !tolerable(keep, e) => return Err(fault(e)),
        Err(_) => {}
    }
    // Not both; but a group that the user belongs to may be given.
    let gid_kept = match gid.map(|gid| sys::set_owner(copy.node, None, Some(gid))) {
        None | Some(Ok(())) => true,
        Some(Err(e)) if tolerable(keep, e) => {
            scratch.short("group", SHORT_OF_GID);
            false
        }
        Some(Err(e)) => return Err(fault(e)),
    };
    let uid_kept = uid.is_none();
    if !uid_kept {
        scratch.short("owner", SHORT_OF_UID);
    }
    Ok((uid_kept, gid_kept))
}

/// An attribute to set, or to remove where there is no value.
struct Attribute {
    name: CString,
    value: Option<Vec<u8>>,
}

fn set_attribute(keep: &Keep, copy: Copy<'_>, attribute: &Attribute, scratch: &mut Scratch) -> Result<(), Fault> {
    let result = match &attribute.value {
        Some(value) => sys::set_xattr(copy.node, &attribute.name, value),
        None => match sys::remove_xattr(copy.node, &attribute.name) {
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
            other => other,
        },
    };
    match result {
        Ok(()) => Ok(()),
        Err(e) if tolerable(keep, e) => {
            let name = attribute.name.to_string_lossy();
            match class(&attribute.name) {
                Class::Acl => scratch.short("acl", "an ACL was not kept: the destination does not take it"),
                Class::Capability => {
                    scratch.short("capability", "file capabilities were not kept: only root may set them");
                }
                _ => scratch.short(
                    "xattr",
                    format!("extended attribute {name} was not kept: the destination does not take it"),
                ),
            }
            Ok(())
        }
        Err(e) => Err(Fault::new(Operation::SetXattr, Side::Destination(copy.destination), e)),
    }
}

/// What has to be set on the copy, and removed from it.
fn attribute_changes(source: Option<Node<'_>>, copy: Copy<'_>, scratch: &mut Scratch) -> Result<Vec<Attribute>, Fault> {
    let destination = Side::Destination(copy.destination);
    let used = match source {
        Some(node) => list(node, &mut scratch.lists[0], Side::Source)?,
        None => 0,
    };
    let there = if copy.new {
        0
    } else {
        list(copy.node, &mut scratch.lists[1], destination)?
    };
    let mut changes = Vec::new();
    if used == 0 && there == 0 {
        if copy.inherits_acl {
            changes.push(Attribute {
                name: ACL_ACCESS.to_owned(),
                value: None,
            });
        }
        return Ok(changes);
    }
    let names = split(&scratch.lists[0][..used]);
    let existing = split(&scratch.lists[1][..there]);
    for name in &names {
        match class(name) {
            Class::User | Class::Acl | Class::Capability => {}
            Class::Double => continue,
            Class::Dropped => {
                let name = name.to_string_lossy();
                let message = format!("extended attribute {name} is not copied");
                scratch.short(&format!("dropped-xattr:{name}"), message);
                continue;
            }
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
    for name in existing
        .iter()
        .filter(|n| !matches!(class(n), Class::Double | Class::Dropped) && !names.contains(n))
    {
        changes.push(Attribute {
            name: name.clone(),
            value: None,
        });
    }
    if copy.inherits_acl && !names.iter().any(|n| n.as_c_str() == ACL_ACCESS) {
        changes.push(Attribute {
            name: ACL_ACCESS.to_owned(),
            value: None,
        });
    }
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

/// xxh64 over names and values of all extended attributes that may be read, in the order of their names; of nothing where
/// there are none: each name with its NUL, the length of its value in eight bytes, the first the highest, and the value, as
/// hpcp 9.79 has it. `buffer` has room for the longest list or value that the system knows.
pub fn xattr_digest(node: Node<'_>, buffer: &mut [u8], side: Side) -> Result<u64, Fault> {
    let used = list(node, buffer, side)?;
    let mut names = split(&buffer[..used]);
    names.sort_unstable();
    let mut digest = Xxh64::new();
    for name in names {
        if let Some(length) = get(node, &name, buffer, side)? {
            digest.update(name.as_bytes_with_nul());
            digest.update(&(length as u64).to_be_bytes());
            digest.update(&buffer[..length]);
        }
    }
    Ok(digest.digest())
}

/// Whether what is made in a directory inherits an ACL from it.
pub fn has_default_acl(directory: Node<'_>, scratch: &mut Scratch, destination: usize) -> Result<bool, Fault> {
    match get(
        directory,
        ACL_DEFAULT,
        &mut scratch.values[0],
        Side::Destination(destination),
    ) {
        Ok(found) => Ok(found.is_some()),
        Err(fault) => match fault.cause {
            crate::error::Cause::Errno(Errno::NOTSUP | Errno::NOSYS) => Ok(false),
            _ => Err(fault),
        },
    }
}

/// Removes the ACLs that a directory inherited when it was made, so that what is made in it inherits none.
pub fn disinherit(directory: Node<'_>, destination: usize) -> Result<(), Fault> {
    for name in [ACL_ACCESS, ACL_DEFAULT] {
        match sys::remove_xattr(directory, name) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(e) => return Err(Fault::new(Operation::SetXattr, Side::Destination(destination), e)),
        }
    }
    Ok(())
}
