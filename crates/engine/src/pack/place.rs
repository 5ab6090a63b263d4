//! Where shards go: a directory, or a store.

use std::sync::Arc;

use bulkhaul_formats::codec::Codec;
use bulkhaul_sys::OwnedFd;

use crate::records::shards::Depot;
use crate::tree::staging::Stager;

/// Where shards go.
pub struct Place {
    /// The directory, or one for files without a name that go to a store when they are whole.
    pub directory: OwnedFd,
    /// Its path, or that of the store, for messages.
    pub path: Vec<u8>,
    /// The store.
    pub depot: Option<Arc<dyn Depot>>,
    /// How they are compressed.
    pub codec: Option<Codec>,
    pub stager: Stager,
}

impl Place {
    /// What the names of shards end with.
    pub fn suffix(&self) -> &'static str {
        self.codec.map_or("", |codec| codec.format().suffix())
    }
}
