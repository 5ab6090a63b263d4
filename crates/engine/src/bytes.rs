//! The way of one file's bytes: moved, compared, proved, and the streams of those who call. Nothing here knows of runs.

pub mod chunks;
pub mod output;
pub mod probe;
pub mod proof;
pub mod stream;
pub mod transfer;
pub mod ways;
