//! Where an entry of a patch is: beneath a root, and never anywhere else.
//!
//! Comes in: a root, and a path of the patch; goes out: the directory that holds it, by a descriptor. Every component is opened
//! by itself and never through a symlink; where one on the way may be followed, its text is read, and followed only as far as
//! it stays beneath the root. So whoever moves directories and links about meanwhile leads nobody out of it.

use std::collections::VecDeque;
use std::sync::Arc;

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, OwnedFd};

use crate::tree::path::{c_string, split};

/// Symlinks on the way to one entry, as Linux has it.
const MOST_LINKS: usize = 40;

/// Where the directory of an entry is.
#[derive(Clone, Debug)]
pub enum Parent {
    /// There.
    Here(Arc<OwnedFd>),
    /// It is not there, or what has its name is no directory.
    Missing,
    /// A symlink leads out of the root.
    Outside,
}

/// Finds the directories of paths beneath one root. Paths that come one after the other are mostly of one directory, so that
/// is kept.
pub struct Finder<'f> {
    root: &'f OwnedFd,
    kept: Option<(Vec<u8>, usize, Arc<OwnedFd>)>,
}

impl<'f> Finder<'f> {
    /// Beneath this root.
    pub fn new(root: &'f OwnedFd) -> Self {
        Self { root, kept: None }
    }

    /// The directory of the entry at `path`, whose first `links` components may be symlinks that stay beneath the root.
    pub fn parent(&mut self, path: &[u8], links: usize) -> sys::Result<Parent> {
        let (parent, _) = split(path);
        if let Some((kept, of, fd)) = &self.kept
            && kept == parent
            && *of == links
        {
            return Ok(Parent::Here(Arc::clone(fd)));
        }
        let found = reach(self.root, parent, links)?;
        if let Parent::Here(fd) = &found {
            self.kept = Some((parent.to_vec(), links, Arc::clone(fd)));
        }
        Ok(found)
    }
}

/// The directory at a path, whose first `links` components may be symlinks.
fn reach(root: &OwnedFd, path: &[u8], links: usize) -> sys::Result<Parent> {
    let own = || sys::open_directory(root.as_fd(), c".", Follow::No);
    let parts = |path: &[u8]| -> Vec<Vec<u8>> {
        let parts = path.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b"."));
        parts.map(<[u8]>::to_vec).collect()
    };
    let mut left: VecDeque<_> = parts(path)
        .into_iter()
        .enumerate()
        .map(|(at, part)| (part, at < links))
        .collect();
    // The names that lead to `at`, none of them a link.
    let mut real: Vec<Vec<u8>> = Vec::new();
    let mut at = own()?;
    let mut followed = 0;
    while let Some((part, may_follow)) = left.pop_front() {
        if part == b".." {
            if real.pop().is_none() {
                return Ok(Parent::Outside);
            }
            at = own()?;
            for name in &real {
                at = match sys::open_directory(at.as_fd(), &c_string(name)?, Follow::No) {
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Parent::Missing),
                    other => other?,
                };
            }
            continue;
        }
        let name = c_string(&part)?;
        match sys::open_directory(at.as_fd(), &name, Follow::No) {
            Ok(next) => {
                at = next;
                real.push(part);
            }
            Err(Errno::LOOP | Errno::NOTDIR) if may_follow => {
                let text = match sys::read_link(at.as_fd(), &name) {
                    // A file, or gone by now.
                    Err(Errno::INVAL | Errno::NOENT) => return Ok(Parent::Missing),
                    other => other?,
                };
                followed += 1;
                if followed > MOST_LINKS {
                    return Err(Errno::LOOP);
                }
                if text.to_bytes().starts_with(b"/") {
                    return Ok(Parent::Outside);
                }
                for part in parts(text.to_bytes()).into_iter().rev() {
                    left.push_front((part, true));
                }
            }
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => return Ok(Parent::Missing),
            Err(errno) => return Err(errno),
        }
    }
    Ok(Parent::Here(Arc::new(at)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::tree::path::open_directory_path;

    #[test]
    fn links_are_followed_as_far_as_they_stay_beneath_the_root() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |path: &str| scratch.path().join(path);
        fs::create_dir_all(at("root/a/b")).unwrap();
        fs::create_dir_all(at("out/b")).unwrap();
        fs::write(at("root/file"), "").unwrap();
        for (text, link) in [
            ("a/b", "inside"),
            ("../a", "a/up"),
            ("../out", "outside"),
            ("/", "absolute"),
            ("a/../../out", "around"),
            ("loop", "loop"),
            ("nowhere", "dangling"),
        ] {
            symlink(text, at("root").join(link)).unwrap();
        }
        let root = open_directory_path(at("root").as_os_str().as_encoded_bytes(), Follow::Yes).unwrap();
        let told = |path: &str, links| match reach(&root, path.as_bytes(), links) {
            Ok(Parent::Here(_)) => "here",
            Ok(Parent::Missing) => "missing",
            Ok(Parent::Outside) => "outside",
            Err(Errno::LOOP) => "loop",
            Err(_) => "other",
        };
        for (path, links, expected) in [
            ("", 0, "here"),
            ("a/b", 0, "here"),
            ("inside", 1, "here"),
            ("inside", 0, "missing"),
            ("a/up/b", 3, "here"),
            ("a/up/b", 1, "missing"),
            ("outside", 1, "outside"),
            ("outside/b", 2, "outside"),
            ("absolute", 1, "outside"),
            ("around", 1, "outside"),
            ("loop", 1, "loop"),
            ("dangling", 1, "missing"),
            ("file", 1, "missing"),
            ("a/c", 2, "missing"),
        ] {
            assert_eq!(told(path, links), expected, "{path} {links}");
        }
    }
}
