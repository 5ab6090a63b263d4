//! What never goes.
//!
//! Comes in: directories that are in use or were named, by descriptor, and files that are in use; goes out: whether something
//! is one of them, or lies above one.

use std::collections::hash_map::{Entry, HashMap};
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow, Identity, OwnedFd};

use crate::error::{Refusal, describe};
use crate::tree::path::{c_string, join, open_directory_path, show, split};
use crate::tree::places::Places;

/// Why a file of this run itself stays.
pub const IN_USE: &str = "it is in use by this run";

/// Directories and files that are never removed.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    kept: HashMap<Identity, &'static str>,
    /// What is in use and no directory.
    files: Places,
    pub(crate) named: Vec<Identity>,
}

impl Guard {
    /// Protects `/`, the working directory and `protected`, and all above them, but not those in `named`.
    pub fn read(protected: &[Vec<u8>], named: &[Vec<u8>]) -> Result<Self, Refusal> {
        let mut guard = Self::default();
        for path in named {
            let id = open_directory_path(path, Follow::Yes).and_then(|fd| sys::stat_fd(fd.as_fd()));
            let stat = id.map_err(|e| Refusal::Usage(format!("no-preserve-root {}: {}", show(path), describe(e))))?;
            guard.named.push(stat.id);
        }
        guard.climb(b"/", "the root of the file system", "")?;
        guard.climb(b".", "the working directory", "a directory above the working directory")?;
        for path in protected {
            guard.climb(path, "the home directory", "a directory above the home directory")?;
        }
        Ok(guard)
    }

    /// Protects a directory and those above it.
    fn climb(&mut self, path: &[u8], own: &'static str, above: &'static str) -> Result<(), Refusal> {
        let refuse = |e: Errno| Refusal::Safety(format!("{}: it can't be protected: {}", show(path), describe(e)));
        // Only named, not opened: a directory above may be closed to us and what lies above that is not. The dot follows a
        // symlink.
        match sys::open_node(sys::current_directory(), &c_string(&join(path, b".")).map_err(refuse)?) {
            Ok(fd) => self.climb_from(fd, own, above).map_err(refuse),
            // What does not exist, or not for us, is nothing that we could remove by mistake.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(()),
            Err(errno) => Err(refuse(errno)),
        }
    }

    /// Protects an open directory and those above it. `own` and `above` say what they are.
    pub fn climb_from(&mut self, directory: OwnedFd, own: &'static str, above: &'static str) -> sys::Result<()> {
        let mut at = directory;
        let mut id = sys::stat_fd(at.as_fd())?.id;
        let mut what = own;
        loop {
            match self.kept.entry(id) {
                Entry::Vacant(place) => drop(place.insert(what)),
                // So is all above it.
                Entry::Occupied(_) if what == above => return Ok(()),
                Entry::Occupied(_) => {}
            }
            at = match sys::open_node(at.as_fd(), c"..") {
                Ok(fd) => fd,
                Err(Errno::NOENT | Errno::ACCESS) => return Ok(()),
                Err(errno) => return Err(errno),
            };
            let next = sys::stat_fd(at.as_fd())?.id;
            if next == id {
                return Ok(());
            }
            (id, what) = (next, above);
        }
    }

    /// Protects a file that is in use, or is about to be, by its path, and what a symlink of that name leads to.
    pub fn keep_file(&mut self, path: &[u8]) -> sys::Result<()> {
        let mut paths = vec![path.to_vec()];
        if let Ok(real) = std::fs::canonicalize(OsStr::from_bytes(path)) {
            paths.push(real.into_os_string().into_vec());
        }
        for path in paths {
            let (directory, name) = split(&path);
            let at = match open_directory_path(directory, Follow::Yes) {
                Ok(at) => at,
                // By this path nobody writes anything.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP | Errno::NAMETOOLONG) => continue,
                Err(errno) => return Err(errno),
            };
            let name = c_string(name)?;
            let file = sys::stat(at.as_fd(), &name, Follow::No).ok().map(|stat| stat.id);
            self.files.insert(sys::stat_fd(at.as_fd())?.id, name, file);
        }
        Ok(())
    }

    /// Whether what has a name in a directory is a file in use.
    pub(crate) fn is_in_use(&self, directory: Identity, at: BorrowedFd<'_>, name: &CStr) -> bool {
        let there = || sys::stat(at, name, Follow::No).map(|stat| stat.id).ok();
        self.files.have(directory, name, there)
    }

    /// Protects what is in these places and no directory.
    pub fn keep_places(&mut self, places: &Places) {
        self.files.add(places);
    }

    /// Protects a directory, and not those above it.
    pub fn keep(&mut self, id: Identity, what: &'static str) {
        self.kept.entry(id).or_insert(what);
    }

    /// Why a directory must stay, if it must.
    pub(crate) fn refuses(&self, id: Identity) -> Option<&'static str> {
        if self.named.contains(&id) {
            return None;
        }
        self.kept.get(&id).copied()
    }
}
