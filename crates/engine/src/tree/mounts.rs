//! What is mounted where.
//!
//! Comes in: the system's table of mounts; goes out: which of them holds a path, what shows it too, and whether one
//! directory lies above another.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, OwnedFd, Stat};

use crate::tree::path::{c_string, join, open_directory_path, trim};

/// Whether `other` is this directory or one above it, by `..` up to the root.
pub fn has_ancestor(directory: &OwnedFd, other: &Stat) -> sys::Result<bool> {
    Ok(nearest_above(directory, |here| here.is_same(other))?.is_some())
}

/// The first for which `is_it` holds of this directory and those above it, by `..` up to the root.
pub fn nearest_above(directory: &OwnedFd, is_it: impl Fn(&Stat) -> bool) -> sys::Result<Option<Stat>> {
    let mut here = sys::stat_fd(directory.as_fd())?;
    let mut at: Option<OwnedFd> = None;
    while !is_it(&here) {
        let base = at.as_ref().map_or(directory.as_fd(), |fd| fd.as_fd());
        let up = sys::open_node(base, c"..")?;
        let above = sys::stat_fd(up.as_fd())?;
        if above.id == here.id {
            return Ok(None);
        }
        here = above;
        at = Some(up);
    }
    Ok(Some(here))
}

/// The mounts of this process: they tell when two paths lead into one tree (bind mounts).
#[derive(Debug, Default)]
pub struct Mounts(Vec<Mount>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    id: u64,
    device: String,
    root: Vec<u8>,
    point: Vec<u8>,
}

impl Mounts {
    /// Of this process; none where the system does not tell.
    pub fn read() -> Self {
        std::fs::read("/proc/self/mountinfo")
            .map(|text| Self::parse(&text))
            .unwrap_or_default()
    }

    /// Reads the format of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).
    fn parse(text: &[u8]) -> Self {
        let mounts = text.split(|b| *b == b'\n').filter_map(|line| {
            let mut fields = line.split(|b| *b == b' ');
            let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
            let device = String::from_utf8_lossy(fields.nth(1)?).into_owned();
            let root = unescape(fields.next()?);
            let point = unescape(fields.next()?);
            Some(Mount {
                id,
                device,
                root,
                point,
            })
        });
        Self(mounts.collect())
    }

    /// Where an absolute path on mount `id` lies inside its file system.
    pub fn inside(&self, id: u64, path: &[u8]) -> Option<(&str, Vec<u8>)> {
        let mount = self.0.iter().find(|m| m.id == id)?;
        let rest = below(path, &mount.point)?;
        Some((&mount.device, join(&mount.root, rest)))
    }

    /// Whether something is mounted on an absolute path or below it. Where the system does not tell, it may be.
    pub fn are_at_or_below(&self, path: &[u8]) -> bool {
        self.0.is_empty() || self.0.iter().any(|mount| below(&mount.point, path).is_some())
    }

    /// The directories at which parts of the tree at `path` show elsewhere. None where the system does not tell.
    pub fn parts_of(&self, path: &[u8]) -> Vec<OwnedFd> {
        let place = || {
            let fd = open_directory_path(path, Follow::Yes).ok()?;
            let real = std::fs::canonicalize(OsStr::from_bytes(path)).ok()?;
            self.inside(sys::mount_id(fd.as_fd()).ok()?, real.as_os_str().as_bytes())
        };
        let Some((device, outer)) = place() else {
            return Vec::new();
        };
        let shown = |mount: &&Mount| mount.device == device && below(&mount.root, &outer).is_some();
        let open = |mount: &Mount| {
            let fd = sys::open_node(sys::current_directory(), &c_string(&mount.point).ok()?).ok()?;
            // Something else may be mounted over it.
            (sys::mount_id(fd.as_fd()).ok()? == mount.id).then_some(fd)
        };
        self.0.iter().filter(shown).filter_map(open).collect()
    }

    /// Whether `directory` lies in the tree at `path`, whatever mounts lead there. Where the system can't tell (no mount
    /// ids, a path longer than it takes), the comparison by ancestors has to do.
    pub fn is_below(&self, directory: &OwnedFd, path: &[u8]) -> sys::Result<bool> {
        let place = || {
            let source = open_directory_path(path, Follow::Yes)?;
            let outer = std::fs::canonicalize(OsStr::from_bytes(path))
                .map_err(|e| e.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))?;
            let outer = self.inside(sys::mount_id(source.as_fd())?, outer.as_os_str().as_bytes());
            let inner = sys::path_of(directory.as_fd())?;
            let inner = self.inside(sys::mount_id(directory.as_fd())?, &inner);
            Ok(outer.zip(inner))
        };
        match place() {
            Ok(Some(((s, outer), (d, inner)))) => Ok(d == s && below(&inner, &outer).is_some()),
            Ok(None) | Err(Errno::NOSYS | Errno::NAMETOOLONG) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

/// The rest of `path` below `base`, without a leading slash; `None` where it is not below.
pub fn below<'p>(path: &'p [u8], base: &[u8]) -> Option<&'p [u8]> {
    let rest = path.strip_prefix(trim(base).strip_suffix(b"/").unwrap_or(trim(base)))?;
    match rest {
        [] => Some(rest),
        [b'/', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// Undoes the octal escapes of mountinfo.
pub fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut at = 0;
    while at < field.len() {
        let octal = (field[at] == b'\\').then(|| field.get(at + 1..at + 4)).flatten();
        let value = octal
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u8::from_str_radix(d, 8).ok());
        out.push(value.unwrap_or(field[at]));
        at += if value.is_some() { 4 } else { 1 };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_mounts_lead_into_one_tree() {
        let text = b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 8:1 /data/in\\040here /mnt/b rw - ext4 /dev/sda1 rw\n";
        let mounts = Mounts::parse(text);
        assert_eq!(
            mounts.inside(22, b"/data/in here/x"),
            Some(("8:1", b"/data/in here/x".to_vec()))
        );
        assert_eq!(
            mounts.inside(30, b"/mnt/b/x"),
            Some(("8:1", b"/data/in here/x".to_vec()))
        );
        assert_eq!(mounts.inside(30, b"/mnt/bb"), None);
        for (path, mounted) in [
            ("/mnt", true),
            ("/mnt/b", true),
            ("/mnt/bb", false),
            ("/mnt/b/x", false),
            ("/", true),
        ] {
            assert_eq!(mounts.are_at_or_below(path.as_bytes()), mounted, "{path}");
        }
        assert!(Mounts::default().are_at_or_below(b"/mnt"));
        assert_eq!(below(b"/data/in here/x", b"/data"), Some(&b"in here/x"[..]));
        assert_eq!(below(b"/database", b"/data"), None);
        assert_eq!(below(b"/a", b"/"), Some(&b"a"[..]));
    }
}
