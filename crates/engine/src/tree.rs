//! One entry or one directory at a time, by descriptor.
//!
//! Comes in: a name in an open directory; goes out: what it is, or the change that was made to it. Nothing here knows of jobs,
//! runs or other threads.

pub mod beneath;
pub mod descriptors;
pub mod full;
pub mod in_use;
pub mod keep;
pub mod listing;
pub mod medium;
pub mod metadata;
pub mod mounts;
pub mod path;
pub mod places;
pub mod protection;
pub mod publish;
pub mod selection;
pub mod spelling;
pub mod staging;
pub mod times;
