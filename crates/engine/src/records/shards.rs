//! A directory of shards: which files it has, and what their indexes say.
//!
//! Comes in: a path; goes out: the numbers of its shards, indexes and states, and the lines of one. Nothing is changed. A line
//! that can't be read is a refusal that names it. Memory does not grow with the number of entries.

use std::collections::BTreeMap;

use bulkhaul_formats::manifest::LINE_BYTES;
use bulkhaul_formats::shards::{self, Line, Named};
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, OwnedFd};

use crate::error::{Refusal, describe};
use crate::job::desk::Desk;
use crate::tree::listing;
use crate::tree::path::{c_string, join, open_directory_path, show};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// The files of a packed tree, by number.
pub struct ShardDirectory {
    /// Itself.
    pub fd: OwnedFd,
    /// Its path, for messages.
    pub path: Vec<u8>,
    /// File names of shards.
    pub shards: BTreeMap<u64, Vec<u8>>,
    /// File names of their indexes.
    pub indexes: BTreeMap<u64, Vec<u8>>,
    /// File names of states.
    pub states: BTreeMap<u64, Vec<u8>>,
}

impl ShardDirectory {
    /// Looks what is there; `None`: nothing is at the path.
    pub fn open(path: &[u8], desk: &Desk) -> Result<Option<Self>, Refusal> {
        let refused = |errno| Refusal::NoDestination(format!("{}: {}", show(path), describe(errno)));
        let fd = match open_directory_path(path, Follow::Yes) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(refused(errno)),
        };
        let mut directory = Self {
            fd,
            path: path.to_vec(),
            shards: BTreeMap::new(),
            indexes: BTreeMap::new(),
            states: BTreeMap::new(),
        };
        let (shards, indexes, states) = (&mut directory.shards, &mut directory.indexes, &mut directory.states);
        let note = |name: &std::ffi::CStr, _| {
            let bytes = name.to_bytes().to_vec();
            match shards::named(&bytes) {
                Some(Named::Shard(number)) => drop(shards.insert(number, bytes)),
                Some(Named::Index(number)) => drop(indexes.insert(number, bytes)),
                Some(Named::State(number)) => drop(states.insert(number, bytes)),
                None => {}
            }
        };
        listing::each(directory.fd.as_fd(), || desk.step(), note).map_err(refused)?;
        Ok(Some(directory))
    }

    /// The lines of a file in it, one after the other.
    pub fn lines(
        &self,
        name: &[u8],
        desk: &Desk,
        mut take: impl FnMut(Line) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let path = join(&self.path, name);
        let failed = |errno| Refusal::List(format!("{}: {}", show(&path), describe(errno)));
        let name = c_string(name).map_err(failed)?;
        let file = sys::open_file(self.fd.as_fd(), &name).map_err(failed)?;
        let (mut buffer, mut pending, mut at, mut number) = (vec![0; BUFFER_BYTES], Vec::new(), 0, 0_u64);
        loop {
            let got = sys::read_full_at(file.as_fd(), &mut buffer, at).map_err(failed)?;
            at += got as u64;
            desk.step();
            let mut rest = &buffer[..got];
            // The last line may have no end.
            while !rest.is_empty() || (got == 0 && !pending.is_empty()) {
                let end = rest.iter().position(|byte| *byte == b'\n');
                let (line, more) = rest.split_at(end.unwrap_or(rest.len()));
                pending.extend_from_slice(line);
                rest = more.get(1..).unwrap_or_default();
                if pending.len() > LINE_BYTES {
                    return Err(Refusal::List(format!("{}: line {}: too long", show(&path), number + 1)));
                }
                if end.is_none() && got > 0 {
                    break;
                }
                number += 1;
                let parsed = shards::parse(&pending);
                let parsed = parsed.map_err(|why| Refusal::List(format!("{}: line {number}: {why}", show(&path))))?;
                if let Some(line) = parsed {
                    take(line)?;
                }
                pending.clear();
            }
            if got == 0 {
                return Ok(());
            }
        }
    }
}
