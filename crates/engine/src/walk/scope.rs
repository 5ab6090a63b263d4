//! What of a directory's sources is taken, and whose a name is that several of them may have.
//!
//! Comes in: what arguments and lists name; goes out: for each name, where it is taken from; and the subdirectories that wait to
//! be entered, each with the sources that have it.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{CStr, CString};
use std::sync::Arc;

use bulkhaul_formats::digest::xxh64;
use bulkhaul_formats::lists::names::{FileList, Slice};

use crate::tree::listing::Names;

/// What of a source directory is taken.
#[derive(Clone, Debug)]
pub enum Scope {
    /// Everything that a listing shows.
    Whole,
    /// These entries and no others.
    Names(Arc<Named>),
    /// What a list names at and below this level.
    Listed(Arc<FileList>, Slice),
    /// Nothing below it: a listed directory, or one on another file system.
    Itself,
}

/// Entries of one directory that were named one by one: the name that they get to the name in the source.
#[derive(Debug, Default)]
pub struct Named(pub BTreeMap<CString, CString>);

impl Scope {
    /// The name in the source of what gets the name `target`.
    pub fn name_of<'a>(&'a self, target: &'a CStr) -> Option<&'a CStr> {
        match self {
            Scope::Names(names) => names.0.get(target).map(CString::as_c_str),
            Scope::Whole | Scope::Listed(..) => Some(target),
            Scope::Itself => None,
        }
    }

    /// The same of what is known to be taken.
    pub fn source_name<'a>(&'a self, target: &'a CStr) -> &'a CStr {
        self.name_of(target).unwrap_or(target)
    }

    /// Whether an entry of this name is taken, if the source has it.
    pub fn takes(&self, target: &CStr) -> bool {
        match self {
            Scope::Listed(list, slice) => list.children(*slice).any(|child| child.name == target.to_bytes()),
            other => other.name_of(target).is_some(),
        }
    }
}

/// Which sources of a directory may have a name, without asking each of them: there may be very many.
#[derive(Debug)]
pub struct Owners {
    /// Those of which more than single names are taken.
    wide: Vec<usize>,
    /// Hashes of single names and the sources that they were named in, in this order.
    named: Vec<(u64, usize)>,
}

impl Owners {
    /// For sources of these scopes.
    pub fn of<'s>(scopes: impl Iterator<Item = &'s Scope>) -> Self {
        let (mut wide, mut named) = (Vec::new(), Vec::new());
        for (index, scope) in scopes.enumerate() {
            match scope {
                Scope::Names(single) => named.extend(single.0.keys().map(|name| (xxh64(name.to_bytes()), index))),
                Scope::Whole | Scope::Listed(..) | Scope::Itself => wide.push(index),
            }
        }
        named.sort_unstable();
        Self { wide, named }
    }

    /// The sources that may have what gets the name `target`, in their order.
    pub fn of_name(&self, target: &CStr) -> Vec<usize> {
        let hash = xxh64(target.to_bytes());
        let start = self.named.partition_point(|(other, _)| *other < hash);
        let named = self.named[start..].iter().take_while(|(other, _)| *other == hash);
        let mut indices: Vec<usize> = self
            .wide
            .iter()
            .copied()
            .chain(named.map(|(_, index)| *index))
            .collect();
        indices.sort_unstable();
        indices.dedup();
        indices
    }
}

/// One subdirectory to enter.
#[derive(Clone, Debug)]
pub struct Subdirectory {
    /// The name that it gets.
    pub target: CString,
    /// The parent's sources that have it; none where the parent has a single one.
    indices: Vec<usize>,
    /// What of it is taken.
    pub scope: Scope,
}

impl Subdirectory {
    /// What the only source of a directory has, all of it.
    pub fn plain(target: CString) -> Self {
        let (indices, scope) = (Vec::new(), Scope::Whole);
        Self { target, indices, scope }
    }

    /// Indices of the parent's sources that have it.
    pub fn sources(&self) -> &[usize] {
        if self.indices.is_empty() { &[0] } else { &self.indices }
    }

    /// The one of them whose entry it is: the others were overridden, and merge with it.
    pub fn source(&self) -> usize {
        self.indices.last().copied().unwrap_or(0)
    }
}

/// Sources that have a subdirectory, and what of it is taken.
type Special = (Vec<usize>, Scope);

/// Subdirectories found and not entered yet: packed names, each with the sources that have it.
#[derive(Debug, Default)]
pub struct Below {
    /// Marked 1 where the only source has all of it.
    names: Names,
    /// Sources and scope of those that are not plain, in the order of the names.
    special: Option<VecDeque<Special>>,
}

impl Below {
    /// Remembers a subdirectory that the only source has, all of it.
    pub fn push_plain(&mut self, target: &CStr) {
        self.names.push(1, target);
    }

    /// Remembers any other subdirectory, with the sources that have it; none: the only one.
    pub fn push(&mut self, target: &CStr, indices: Vec<usize>, scope: Scope) {
        self.names.push(0, target);
        self.special.get_or_insert_default().push_back((indices, scope));
    }

    /// Adds all of another one.
    pub fn append(&mut self, other: &mut Self) {
        if self.is_empty() {
            return std::mem::swap(self, other);
        }
        self.names.append(&mut other.names);
        if let Some(special) = &mut other.special {
            self.special.get_or_insert_default().append(special);
        }
    }

    /// The next subdirectory.
    pub fn pop(&mut self) -> Option<Subdirectory> {
        let (plain, target) = self.names.pop()?;
        if plain == 1 {
            return Some(Subdirectory::plain(target));
        }
        let (indices, scope) = self.special.as_mut()?.pop_front()?;
        Some(Subdirectory { target, indices, scope })
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}
