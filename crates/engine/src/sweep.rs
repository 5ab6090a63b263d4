//! Every delete that is not the plain end of an operation: what never goes, how much may, and what dead runs left.
//!
//! Comes in: what somebody takes for superfluous; goes out: less of it, with an outcome for each entry. Nothing is removed by
//! a path, through a link, across a mount, or above what is in use.

pub mod guard;
pub mod leftovers;
pub mod limit;
pub mod sweeper;
