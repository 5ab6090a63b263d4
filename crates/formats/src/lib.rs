//! Pure data: digests, archives of one file and of many, manifests, exclude rules, file lists, listings, indexes of shards,
//! natural order, partitions in paths, modes, staging names, spellings, what of a big file is done, and numbers for people.
//!
//! Comes in: bytes. Goes out: checked values and decisions. Promises: no input or output, no unsafe code, no state
//! beyond the values themselves, and no input that makes a decision take exponential time.

#![forbid(unsafe_code)]

pub mod acl;
pub mod chmod;
pub mod codec;
pub mod digest;
pub mod filter;
pub mod hive;
mod json;
pub mod lists;
pub mod manifest;
mod pattern;
pub mod progress;
pub mod shards;
pub mod spelling;
pub mod staging;
pub mod tar;
pub mod units;

pub use chmod::{Chmod, ChmodError};
pub use digest::{TAIL_BYTES, TailHash, Xxh64, xxh64};
pub use filter::{Filter, FilterError, Style};
pub use lists::names::{Child, FileList, FileListError, Slice};
pub use staging::StagingName;
