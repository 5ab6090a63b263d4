//! The engine of bulkhaul: it walks, plans, copies, publishes and accounts for every entry.
//!
//! ```text
//! list   manifest   partition   verify   compare   patch   remove   compress   pack   unpack   copy: pass ─> perform ─> directory, finder, act ─> worker (the recorder)
//!   │       │           │          │        │        │       │        │          │             │           │        │       │
//!   │       │           │          │        │        │       │        │          │             │           │        │       └─ plan, probe, make, content, publish, depart
//!   │       │           │          │        │        │       │        │          │             │           │        └─ names that are its own, or passed over
//!   │       │           │          │        │        │       │        │          │             │           └─ its twins: entered, published, closed; mirror: what is extra goes
//!   │       │           │          │        │        │       │        │          │             └─ the visitor of the walk
//!   └───────┴───────────┴──────────┴────────┴────────┴───────┴────────┴──────────┴── the operations: none of them knows another
//! sweep      every delete: what never goes, how much may, what dead runs left
//! records    what is known of many entries, in order
//! walk       trees in parallel, with a visitor: sources and what of them is taken, each name found once, the crew
//! bytes      one file's bytes: moved, compared, proved; streams
//! job        one operation as its caller sees it: desk, pace, stall, resources
//! doctor     what a machine and a directory allow
//! tree       one entry or one directory, by descriptor
//! pool       threads, how many, results in order
//! event, report, error, entry
//! ```
//!
//! Imports run down this picture, and inside a room as `ts/test/layers.test.ts` has it; a failure runs up as a [`error`],
//! and ends at one recorder. Data flows one way: what is found is planned (purely), what decides is read, then it is done,
//! proved, published, and counted. A [`job`] is one operation, given up when it stalls ([`job::stall`]). The engine is mute:
//! it prints nothing, reads no environment variable, never exits, and keeps no global state, so that any number of jobs in
//! one process are independent.

#![forbid(unsafe_code)]
// The methods of a type stand in its file: what another room does with it is a function of that room, and an import.
#![deny(clippy::multiple_inherent_impl)]

pub mod bytes;
pub mod compare;
pub mod compress;
pub mod copy;
pub mod doctor;
pub mod entry;
pub mod error;
pub mod event;
pub mod job;
pub mod list;
pub mod manifest;
pub mod pack;
pub mod partition;
pub mod patch;
pub mod pool;
pub mod records;
pub mod remove;
pub mod report;
pub mod sweep;
pub mod tree;
pub mod unpack;
pub mod verify;
pub mod walk;

pub use bulkhaul_formats::codec::Format as ArchiveFormat;
pub use bulkhaul_formats::digest::Algorithm;
pub use bulkhaul_formats::filter::Style as FilterStyle;
pub use bulkhaul_formats::lists::hpcp::Form as ListForm;
pub use bulkhaul_formats::lists::parts::Format as PartFormat;
pub use bulkhaul_formats::manifest::Format as ManifestFormat;
pub use bulkhaul_sys::{Errno, Kind};
