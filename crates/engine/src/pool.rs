//! Threads, how many of them, and results in order. Nothing here knows of files.

pub mod schedule;
pub mod tune;
pub mod window;
