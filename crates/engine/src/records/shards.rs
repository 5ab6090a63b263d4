//! A place with shards: which files it has, and what their indexes say.
//!
//! Comes in: a [`Shelf`], which is a directory or what a store has; goes out: the numbers of its shards, indexes and states,
//! and the lines of one. Nothing is changed. A line that can't be read is a refusal that names it. Memory does not grow with
//! the number of entries.

use std::collections::BTreeMap;
use std::sync::Arc;

use bulkhaul_formats::manifest::LINE_BYTES;
use bulkhaul_formats::shards::{self, Line, Named};
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow, Kind, OwnedFd};

use crate::error::{Failure, Fault, Operation, Refusal, Side, Stopped, describe};
use crate::job::desk::Desk;
use crate::report::counters::Counters;
use crate::tree::listing;
use crate::tree::path::{c_string, join, open_directory_path, show};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// Bytes around an entry that are read at once from a file of this machine.
const LOCAL_BYTES: usize = 64 * 1024;

/// A file that is read at any place.
pub trait Volume: Send + Sync {
    /// Fills the buffer with what is there from a place on; fewer bytes: it ends before.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Stopped>;

    /// Bytes that are read at once at most, where more of them are wanted.
    fn stretch(&self) -> usize;

    /// The file, where it is one of this machine.
    fn file(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Where files lie, under names without a slash.
pub trait Shelf: Send + Sync {
    /// The full path of one, for messages.
    fn path(&self, name: &[u8]) -> Vec<u8>;

    /// The names of all.
    fn names(&self, desk: &Desk, take: &mut dyn FnMut(&[u8])) -> Result<(), Refusal>;

    /// Opens one.
    fn open(&self, name: &[u8]) -> Result<Box<dyn Volume>, Stopped>;
}

/// Why a file is not put: nothing is ever written over.
pub const TAKEN: &str = "a file of this name is there: another run makes them";

/// What becomes of a file whose name another one is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It stays, and the other one is in conflict.
    Stays,
    /// It goes: it is of a run that did not end.
    Goes,
}

/// Where files are put that were made here.
pub trait Depot: Shelf {
    /// Puts one, which is there afterwards, whole and proved, or not at all. `name`: with what becomes of one
    /// that has it.
    fn put(
        &self,
        name: (&[u8], Taken),
        file: BorrowedFd<'_>,
        bytes: u64,
        work: (&Desk, &Counters),
    ) -> Result<(), Stopped>;
}

/// A directory.
pub struct Directory {
    fd: OwnedFd,
    path: Vec<u8>,
    /// What is named may be named by a link.
    follows: bool,
}

impl Directory {
    /// Whose path, for messages, is this.
    pub fn new(fd: OwnedFd, path: &[u8], follows: bool) -> Self {
        let path = path.to_vec();
        Self { fd, path, follows }
    }
}

/// A file of this machine.
struct Local(OwnedFd);

fn fault(operation: Operation, errno: Errno) -> Fault {
    Fault::new(operation, Side::Source, errno)
}

impl Volume for Local {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Stopped> {
        let got = sys::read_full_at(self.0.as_fd(), buffer, offset);
        Ok(got.map_err(|errno| fault(Operation::Read, errno))?)
    }

    fn stretch(&self) -> usize {
        LOCAL_BYTES
    }

    fn file(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

impl Shelf for Directory {
    fn path(&self, name: &[u8]) -> Vec<u8> {
        join(&self.path, name)
    }

    fn names(&self, desk: &Desk, take: &mut dyn FnMut(&[u8])) -> Result<(), Refusal> {
        listing::each(self.fd.as_fd(), || desk.step(), |name, _| take(name.to_bytes()))
            .map_err(|errno| Refusal::NoDestination(format!("{}: {}", show(&self.path), describe(errno))))
    }

    fn open(&self, name: &[u8]) -> Result<Box<dyn Volume>, Stopped> {
        let opened = c_string(name).and_then(|name| {
            if self.follows {
                sys::open_stream(self.fd.as_fd(), &name, sys::Way::In)
            } else {
                sys::open_file(self.fd.as_fd(), &name)
            }
        });
        let file = opened.map_err(|errno| fault(Operation::Open, errno))?;
        let stat = sys::stat_fd(file.as_fd()).map_err(|errno| fault(Operation::Stat, errno))?;
        match stat.kind {
            Kind::File => Ok(Box::new(Local(file))),
            Kind::Directory => Err(fault(Operation::Open, Errno::ISDIR).into()),
            // It is read from its middle.
            _ => Err(fault(Operation::Open, Errno::SPIPE).into()),
        }
    }
}

/// The files of a packed tree, by number.
pub struct ShardDirectory {
    shelf: Arc<dyn Shelf>,
    /// File names of shards.
    pub shards: BTreeMap<u64, Vec<u8>>,
    /// File names of their indexes.
    pub indexes: BTreeMap<u64, Vec<u8>>,
    /// File names of states.
    pub states: BTreeMap<u64, Vec<u8>>,
}

impl ShardDirectory {
    /// Looks what is in a directory; `None`: nothing is at the path.
    pub fn open(path: &[u8], desk: &Desk) -> Result<Option<Self>, Refusal> {
        match open_directory_path(path, Follow::Yes) {
            Ok(fd) => Self::of(Arc::new(Directory::new(fd, path, false)), desk).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Refusal::NoDestination(format!("{}: {}", show(path), describe(errno)))),
        }
    }

    /// Looks what is there.
    pub fn of(shelf: Arc<dyn Shelf>, desk: &Desk) -> Result<Self, Refusal> {
        let mut directory = Self {
            shelf,
            shards: BTreeMap::new(),
            indexes: BTreeMap::new(),
            states: BTreeMap::new(),
        };
        let (shards, indexes, states) = (&mut directory.shards, &mut directory.indexes, &mut directory.states);
        directory.shelf.names(desk, &mut |name| match shards::named(name) {
            Some(Named::Shard(number)) => drop(shards.insert(number, name.to_vec())),
            Some(Named::Index(number)) => drop(indexes.insert(number, name.to_vec())),
            Some(Named::State(number)) => drop(states.insert(number, name.to_vec())),
            None => {}
        })?;
        Ok(directory)
    }

    /// The lines of a file in it, one after the other.
    pub fn lines(
        &self,
        name: &[u8],
        desk: &Desk,
        mut take: impl FnMut(Line) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let path = self.shelf.path(name);
        let failed = |stopped| {
            Refusal::List(match stopped {
                Stopped::Fault(fault) => Failure::new(&fault, path.clone(), Kind::File, None).message,
                Stopped::Aborted => format!("{}: it was told to stop", show(&path)),
            })
        };
        let file = self.shelf.open(name).map_err(failed)?;
        let (mut buffer, mut pending, mut at, mut number) = (Vec::new(), Vec::new(), 0, 0_u64);
        buffer.resize(file.stretch().max(BUFFER_BYTES), 0);
        loop {
            let got = file.read_at(&mut buffer, at).map_err(failed)?;
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
