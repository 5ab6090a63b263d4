//! What is known of many entries, more than memory holds, in order.

pub mod gather;
pub mod listfile;
pub mod record;
pub mod sort;
