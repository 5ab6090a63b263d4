//! What an application of a patch is asked to do.

use crate::job::resources::Resources;
use crate::report::Durability;

/// What the hashes of a change list are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hash {
    /// With seed 0.
    #[default]
    Xxh64,
    /// With 64 bytes.
    Blake2b,
}

/// An application of a patch, as asked for.
#[derive(Clone, Debug, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an independent option of the command line"
)]
pub struct PatchOptions {
    /// The change list.
    pub changes: Vec<u8>,
    /// The directories that have what the list brings, at its paths: one for each volume.
    pub payloads: Vec<Vec<u8>>,
    /// The directory that is to become another.
    pub target: Vec<u8>,
    /// What the list is hashed with.
    pub hash: Hash,
    /// Bytes at the end of a file that are hashed; `u64::MAX`: all.
    pub hash_size: u64,
    /// Conflicts are overruled.
    pub force: bool,
    /// Plan, and tell what would be done.
    pub dry_run: bool,
    /// Where the change list that leads back is written before anything changes; whoever is asked then keeps what it needs.
    pub undo: Option<Vec<u8>>,
    /// Whoever reads the events is asked where there are conflicts.
    pub confirm: bool,
    /// What is on disk before success is reported.
    pub sync: Durability,
    /// Directory for temporary files without a name, for what does not fit in memory; `None`: memory is used.
    pub spill_directory: Option<Vec<u8>>,
    /// Worker threads; 0: as many as there are processors.
    pub jobs: usize,
    /// What it may take of the machine.
    pub resources: Resources,
    /// Send an event for each entry.
    pub entry_events: bool,
}
