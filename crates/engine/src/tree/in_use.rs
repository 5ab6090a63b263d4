//! What a run itself uses, so that it takes it for no entry of its trees.
//!
//! Comes in: paths; goes out: what they lead to, and where they begin if they are not there yet.

use std::ffi::{CStr, CString};

use bulkhaul_sys::{self as sys, Follow, Identity};

use crate::tree::path::{c_string, split, trim};

/// A directory and a name in it.
pub type Place = (Identity, CString);

/// Files and directories that a run uses.
#[derive(Default)]
pub struct InUse {
    /// What is there.
    pub there: Vec<Identity>,
    /// What may come to be there, by the directory where it begins and its name in that.
    pub to_come: Vec<Place>,
}

impl InUse {
    /// What is at these paths, and where it will be if it is not there yet.
    pub fn of(paths: &[Vec<u8>]) -> Self {
        let mut in_use = Self::default();
        let identity = |path: &[u8]| {
            let path = c_string(if path.is_empty() { b"." } else { path }).ok()?;
            Some(sys::stat(sys::current_directory(), &path, Follow::Yes).ok()?.id)
        };
        for path in paths {
            let mut path = trim(path);
            if let Some(id) = identity(path) {
                in_use.there.push(id);
                continue;
            }
            // A directory above it is there.
            while !path.is_empty() && path != b"/" {
                let (above, name) = split(path);
                if let (Some(id), Ok(name)) = (identity(above), c_string(name)) {
                    in_use.to_come.push((id, name));
                    break;
                }
                path = trim(above);
            }
        }
        in_use
    }

    /// Whether this inode is in use.
    pub fn has(&self, id: Identity) -> bool {
        self.there.contains(&id)
    }

    /// Whether this name in a directory is to be in use.
    pub fn awaits(&self, directory: Identity, name: &CStr) -> bool {
        self.to_come
            .iter()
            .any(|(parent, own)| *parent == directory && **own == *name)
    }
}
