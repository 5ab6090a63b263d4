//! What is known of many entries, more than memory holds, in order.
//!
//! Comes in: what a walk or a list gives, by any number of threads; goes out: records, sorted, one by one.

pub mod entry;
pub mod facts;
pub mod gather;
pub mod ground;
pub mod intake;
pub mod known;
pub mod listfile;
pub mod manifest;
pub mod ordered;
mod packed;
pub mod pieces;
pub mod record;
pub mod shards;
pub mod sort;
pub mod survey;
