//! Object stores as entries and bytes, and what is done between them and local trees.
//!
//! ```text
//! sync   compare   prune   list   digests   files   shards   the operations: none runs another
//!   ├── join ┘       └── sweep                           two listings side by side; what is to be removed
//!   ├── nested                                           whether two directories are one, seen in another way
//!   ├────────────────┴── lone                            what is read, also where it is one file
//!   └────────────────┴── location                        what a URL or a path names
//!                 └── s3   azure   local   sftp   rclone   memory      one store each
//!                     └──┬───┘       │      └──┬────┘        │
//!                     objects        │     gathered   program    what HTTP has in common; what is told in another order; a child
//!                        └───────────┴──┬──────┴───────┴─────┘
//!                                     store   times              what all of them are: the interface; when two times are one
//!                                       └── session              what the stores of a job share
//!                                              └── uploads       what has begun, for the next run
//! ```
//!
//! Imports run down this picture. The engine's rooms serve here too: a listing is a finder of the books as a walk is, the
//! recorder closes each entry once, and desk, pace, sort, limits of deletion and report are those of the engine, so that a
//! verdict means the same.

#![forbid(unsafe_code)]

pub mod azure;
pub mod compare;
pub mod digests;
pub mod files;
pub mod gathered;
mod join;
pub mod likeness;
pub mod list;
pub mod local;
pub mod location;
pub mod lone;
pub mod memory;
mod nested;
pub mod objects;
pub mod program;
pub mod prune;
pub mod rclone;
pub mod s3;
pub mod session;
pub mod sftp;
pub mod shards;
pub mod store;
pub mod sweep;
pub mod sync;
mod times;
pub mod uploads;
