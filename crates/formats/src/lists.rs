//! Lists as files: hpcp's, its lists of changes, plain lists of names, those of parts, and the order that all of them have.

pub mod changes;
pub mod hpcp;
pub mod names;
pub mod natural;
pub mod parts;
