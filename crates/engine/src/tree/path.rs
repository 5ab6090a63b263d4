//! Paths of any length, and names.
//!
//! Comes in: bytes of a path; goes out: a descriptor, or the path's parts. No component is followed that was not meant to
//! be, and nothing is longer than the system takes in one call.

use std::ffi::{CStr, CString};

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, OwnedFd};

use crate::error::Refusal;

/// Paths longer than this are opened in stretches; the kernel takes 4096 bytes with the NUL.
pub const PATH_STRETCH: usize = 4000;

/// A path as a C string; `EINVAL` where it holds a NUL.
pub fn c_string(path: &[u8]) -> sys::Result<CString> {
    CString::new(path).map_err(|_| Errno::INVAL)
}

/// Joins bytes of a path with a name.
pub fn join(base: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(base.len() + 1 + name.len());
    path.extend_from_slice(base);
    if !path.is_empty() && !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Opens a directory by a path of any length that the user named.
pub fn open_directory_path(path: &[u8], follow: Follow) -> sys::Result<OwnedFd> {
    let mut at: Option<OwnedFd> = None;
    let mut rest = path;
    while rest.len() > PATH_STRETCH {
        let cut = rest[..PATH_STRETCH]
            .iter()
            .rposition(|b| *b == b'/')
            .filter(|c| *c > 0)
            .ok_or(Errno::NAMETOOLONG)?;
        let base = at.as_ref().map_or(sys::current_directory(), |fd| fd.as_fd());
        let next = sys::open_directory(base, &c_string(&rest[..cut])?, Follow::Yes)?;
        rest = &rest[cut..];
        while let [b'/', more @ ..] = rest {
            rest = more;
        }
        at = Some(next);
    }
    let name = if rest.is_empty() {
        c_string(b".")?
    } else {
        c_string(rest)?
    };
    sys::open_directory(
        at.as_ref().map_or(sys::current_directory(), |fd| fd.as_fd()),
        &name,
        follow,
    )
}

/// Opens a directory by its path below `base`, name by name and through no symlink, or through those that are there when
/// `follow` is true: then the caller has to know what it found by its inode.
pub fn open_beneath(base: &OwnedFd, path: &[u8], follow: bool) -> sys::Result<OwnedFd> {
    let mut at = sys::open_directory(base.as_fd(), c".", Follow::No)?;
    for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
        at = open_step(&at, &c_string(part)?, follow)?;
    }
    Ok(at)
}

/// Opens a subdirectory, through a symlink where that is followed.
pub fn open_step(at: &OwnedFd, name: &CStr, follow: bool) -> sys::Result<OwnedFd> {
    match sys::open_directory(at.as_fd(), name, Follow::No) {
        Err(Errno::LOOP | Errno::NOTDIR) if follow => sys::open_directory(at.as_fd(), name, Follow::Yes),
        other => other,
    }
}

/// Refuses what no path can be.
pub fn check(path: &[u8]) -> Result<(), Refusal> {
    if path.is_empty() {
        return Err(Refusal::Usage("a path is empty".into()));
    }
    if path.contains(&0) {
        return Err(Refusal::Usage(format!("{}: a path holds a NUL byte", show(path))));
    }
    Ok(())
}

/// A path for a message.
pub fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// A path without trailing slashes; `/` stays.
pub fn trim(path: &[u8]) -> &[u8] {
    let end = path
        .iter()
        .rposition(|b| *b != b'/')
        .map_or(usize::from(!path.is_empty()), |i| i + 1);
    &path[..end]
}

/// A path's directory (empty: the current one) and last component.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let path = trim(path);
    match path.iter().rposition(|b| *b == b'/') {
        Some(0) => (b"/", &path[1..]),
        Some(at) => (trim(&path[..at]), &path[at + 1..]),
        None => (b"", path),
    }
}

/// The directory at a path, or the nearest one above it that exists.
pub fn nearest(path: &[u8]) -> sys::Result<OwnedFd> {
    let mut path = path.to_vec();
    loop {
        match open_directory_path(&path, Follow::Yes) {
            Err(Errno::NOENT) if !path.is_empty() => path = split(&path).0.to_vec(),
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_split_and_trim() {
        let cases: [(&[u8], &[u8], &[u8]); 7] = [
            (b"a", b"", b"a"),
            (b"a/", b"", b"a"),
            (b"/a", b"/", b"a"),
            (b"/", b"/", b""),
            (b"a/b//", b"a", b"b"),
            (b"a//b", b"a", b"b"),
            (b"//", b"/", b""),
        ];
        for (path, parent, name) in cases {
            assert_eq!(split(path), (parent, name), "{}", show(path));
        }
    }
}
