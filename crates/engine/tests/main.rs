//! The engine on real trees: every test builds a tree, copies it, and asserts on bytes, metadata and the report.
//!
//! [`rig`] makes the trees and runs the copies; it checks what must hold for every copy at all (the books agree, events
//! and counts agree). What arrived is judged by rsync where rsync can judge it. Tests that need root, loop devices or a
//! program that is not there print `skip: reason`.

#![allow(clippy::too_many_lines, reason = "tables of cases are long")]

#[cfg(test)]
mod attributes;
#[cfg(test)]
mod chunks;
#[cfg(test)]
mod compress;
#[cfg(test)]
mod death;
#[cfg(test)]
mod dry_run;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod inherited;
#[cfg(test)]
mod interrupted;
#[cfg(test)]
mod late;
#[cfg(test)]
mod lies;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod links;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod manifest;
#[cfg(test)]
mod mapping;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod metadata;
#[cfg(test)]
mod migrate;
#[cfg(test)]
mod r#move;
#[cfg(test)]
mod names;
#[cfg(test)]
mod overlap;
#[cfg(test)]
mod partition;
#[cfg(test)]
mod patch;
#[cfg(test)]
mod power;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod races;
#[cfg(test)]
mod remove;
#[cfg(test)]
mod rename;
#[cfg(test)]
mod resume;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod scout;
#[cfg(test)]
mod selection;
#[cfg(test)]
mod shards;
#[cfg(test)]
mod skip;
#[cfg(test)]
mod sparse;
#[cfg(test)]
mod stall;
#[cfg(test)]
mod stop;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod sweep;
#[cfg(test)]
mod symlinks;
#[cfg(test)]
mod times;
#[cfg(test)]
mod views;
#[cfg(test)]
mod walk;
