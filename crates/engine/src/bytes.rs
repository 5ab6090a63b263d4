//! The way of one file's bytes: moved, compared, packed, proved, and the streams of those who call.
//!
//! Comes in: open files, and the terms of their transfer; goes out: bytes in their place, digests, or whether two files are
//! the same.
//! Nothing here knows of runs, trees or options of an operation.

pub mod chunks;
pub mod codec;
pub mod digests;
pub mod ledger;
pub mod output;
pub mod probe;
pub mod proof;
pub mod stream;
pub mod transfer;
pub mod ways;
