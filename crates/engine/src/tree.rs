//! One entry or one directory at a time, by descriptor. Nothing here knows of jobs, runs or other threads.

pub mod descriptors;
pub mod mounts;
pub mod path;
