//! Threads, how many of them, and results in order.
//!
//! Comes in: tasks of any kind; goes out: all of them done. Nothing here knows of files.

pub mod schedule;
pub mod tune;
pub mod window;
