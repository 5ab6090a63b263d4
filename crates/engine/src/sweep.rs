//! Every delete that is not the plain end of an operation: what never goes, how much may, and what dead runs left.

pub mod guard;
pub mod leftovers;
pub mod limit;
pub mod sweeper;
