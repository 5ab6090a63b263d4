//! The engine of bulkhaul: it walks, plans, copies, publishes and accounts for every entry.
//!
//! Data flows one way: [`entries`] finds, [`plan`] decides (purely), [`probe`] reads what decides, [`act`] does it
//! ([`directory`], [`regular`] and [`links`] for what their names say, [`track`] for links that wait for the end),
//! [`transfer`] moves bytes ([`chunks`] those of big files, on several workers), [`metadata`] puts the rest right,
//! [`times`] knows what a file system keeps of a time, [`verify`] proves, [`publish`] gives the name, [`sweep`] clears what
//! dead runs left, [`extra`] what no source has ([`late`]: and what waited for that; [`lookout`]: unless a source would lose
//! it), [`departure`] the sources of a move, [`views`] tells when both sides are one, [`spelling`] when two names are, and
//! [`copy`] drives them on the workers of [`schedule`] and closes the books in [`report`]. A [`job`] is one operation as its
//! caller sees it, given up when it [`stall`]s; those that look at trees without copying them go by [`walk`], as [`remove`]
//! does. The engine is mute: it prints nothing, reads no environment variable, never exits, and
//! keeps no global state, so that any number of jobs in one process are independent.

#![forbid(unsafe_code)]
// The methods of a type stand in its file: what another room does with it is a function of that room, and an import.
#![deny(clippy::multiple_inherent_impl)]

pub mod bytes;
pub mod compare;
pub mod copy;
pub mod entry;
pub mod error;
pub mod event;
pub mod job;
pub mod list;
pub mod pool;
pub mod records;
pub mod remove;
pub mod report;
pub mod sweep;
pub mod tree;
pub mod walk;

pub use bulkhaul_formats::filter::Style as FilterStyle;
pub use bulkhaul_formats::lists::hpcp::Form as ListForm;
pub use bulkhaul_sys::{Errno, Kind};
