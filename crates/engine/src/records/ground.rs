//! Files that no walk of this machine finds: what somebody else's crate reaches.
//!
//! Comes in: paths; goes out: what is there, each entry once, and the digests of its content. Who lies behind it counts what it
//! finds, and says what it could not list.

use bulkhaul_formats::digest::Hashers;
use bulkhaul_formats::manifest::Entry;
use bulkhaul_sys::Kind;

use crate::error::{Refusal, Stopped};
use crate::job::desk::Desk;
use crate::report::counters::Counters;
use crate::tree::selection::Selection;

/// An entry as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Relative, and without a slash at its end; empty where all that is below is not known.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Bytes of content.
    pub size: u64,
    /// What tells this version of the content from others; empty: any will do.
    pub version: Vec<u8>,
    /// Something went wrong with it, or with what is below it: it has its outcome.
    pub failed: bool,
}

/// Whoever takes what is found, one by one.
pub type Taker<'t> = &'t mut dyn FnMut(Sight) -> Result<(), Refusal>;

/// Where the files are.
pub trait Ground: Send + Sync {
    /// The full name of a path, for messages.
    fn name(&self, path: &[u8]) -> Vec<u8>;

    /// Whether it has entries of its own of a kind.
    fn keeps(&self, kind: Kind) -> bool;

    /// Finds all that no rule excludes, in any order, and counts it; ends early when the run is to stop.
    fn find(&self, desk: &Desk, filter: &Selection, take: Taker<'_>) -> Result<(), Refusal>;

    /// Kind and size of what is at a path, if there is anything.
    fn look(&self, path: &[u8]) -> Option<(Kind, u64)>;

    /// Reads a file from its beginning to its end: what a manifest says of it, with the digests that `hashers` make. Of an error
    /// the hashers know nothing.
    fn read(&self, sight: &Sight, hashers: &mut Hashers, run: (&Desk, &Counters)) -> Result<Entry, Stopped>;
}

/// Finds the files of a run, when that begins.
pub type Find = Box<dyn FnOnce(&std::sync::Arc<Desk>) -> Result<Box<dyn Ground>, Refusal> + Send>;
