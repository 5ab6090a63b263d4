//! One file's bytes packed into an archive, and out of one again, by whoever is free.
//!
//! Comes in: two open files, and how; goes out: how many bytes went each way, and the digest of the content, which is fed
//! from the buffer that the compressor gets: the source is read once. Who has the file does block after block and invites
//! whoever is free meanwhile, as [`crate::bytes::chunks`] does; pieces are read, and their results put down, in their order,
//! so that the bytes are the same for any number of workers. What all of them use is bounded by a [`Memory`]. After an
//! error the output is to be discarded. Nothing is synced, and whether the source stayed the same is for the caller to ask.

mod blocks;
mod memory;
mod packing;
mod unpacking;

pub use blocks::{Blocks, Lead, Tools};
pub use memory::Memory;
pub use packing::{Packed, pack};
pub use unpacking::{How, Target, Unpacked, unpack};

#[cfg(test)]
mod tests;
