//! Entries known by their place: the directory that holds them, and their name there.
//!
//! Comes in: places; goes out: whether an entry has one of them, also by another spelling of the name. What it costs does not
//! grow with their number.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};

use bulkhaul_sys::Identity;

/// Places, by directories.
#[derive(Clone, Debug, Default)]
pub struct Places(HashMap<Identity, Held>);

#[derive(Clone, Debug, Default)]
struct Held {
    names: HashSet<CString>,
    /// What has the names now.
    there: HashSet<Identity>,
}

impl Places {
    /// Takes in a name in a directory, and what has it where anything does.
    pub fn insert(&mut self, directory: Identity, name: CString, there: Option<Identity>) {
        let held = self.0.entry(directory).or_default();
        held.names.insert(name);
        held.there.extend(there);
    }

    /// Takes in all of others.
    pub fn add(&mut self, others: &Self) {
        for (directory, more) in &others.0 {
            let held = self.0.entry(*directory).or_default();
            held.names.extend(more.names.iter().cloned());
            held.there.extend(&more.there);
        }
    }

    /// Whether what has a name in a directory is in one of them. `there` looks what that is: some file systems take two
    /// spellings for one name.
    pub fn have(&self, directory: Identity, name: &CStr, there: impl FnOnce() -> Option<Identity>) -> bool {
        let Some(held) = self.0.get(&directory) else {
            return false;
        };
        held.names.contains(name) || there().is_some_and(|id| held.there.contains(&id))
    }
}
