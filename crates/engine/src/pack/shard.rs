//! One shard, from its first block to its name.
//!
//! Comes in: blocks of a tar, in order, and the lines of its index; goes out: both under their names, the shard first, once
//! what is on the medium was read back and is what was written. Until then it has a staging name, and what was put last can
//! be taken back. An error leaves neither behind.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bulkhaul_formats::codec::{Encoder, Format, Frame};
use bulkhaul_formats::digest::{Algorithm, Blake3, Digest};
use bulkhaul_formats::shards::{self, Line};
use bulkhaul_formats::tar;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Kind, OwnedFd};

use super::lines::Lines;
use super::place::Place;
use crate::bytes::output::{PLAIN, unnamed_file};
use crate::bytes::proof::{forget, read_back};
use crate::entry::{KINDS, Outcome, kind_index};
use crate::error::{Cause, Fault, Operation, Side, Stopped};
use crate::job::desk::Desk;
use crate::records::shards::{TAKEN, Taken};
use crate::report::counters::Counters;
use crate::tree::full::told;
use crate::tree::path::c_string;
use crate::tree::staging::{Staging, appear};

/// How often the medium is to have written down what was begun, in bytes.
const WRITE_BACK_BYTES: u64 = 64 * 1024 * 1024;

/// Entries that are in a shard, by what they are and what became of them.
#[derive(Default)]
struct Tally(Vec<(usize, Outcome, u64, u64)>);

impl Tally {
    fn add(&mut self, kind: Kind, outcome: Outcome, bytes: u64) {
        let kind = kind_index(kind);
        match self
            .0
            .iter_mut()
            .find(|(own, other, ..)| (*own, *other) == (kind, outcome))
        {
            Some((.., entries, all)) => {
                *entries += 1;
                *all += bytes;
            }
            None => self.0.push((kind, outcome, 1, bytes)),
        }
    }

    /// All get their outcomes; `instead`: this one.
    fn record(&self, counters: &Counters, instead: Option<Outcome>) {
        for (kind, outcome, entries, bytes) in &self.0 {
            for number in 0..*entries {
                let size = if number == 0 { *bytes } else { 0 };
                counters.outcome(KINDS[*kind], instead.unwrap_or(*outcome), None, size);
            }
        }
    }
}

/// A shard that is being written.
pub struct Shard {
    place: Arc<Place>,
    name: CString,
    /// None: it goes to a store.
    staging: Option<Staging>,
    file: OwnedFd,
    index: Lines,
    line: Vec<u8>,
    state: u64,
    /// Bytes in the file, and bytes of the tar.
    at: u64,
    tar: u64,
    begun: u64,
    digest: Blake3,
    entries: u64,
    bytes: u64,
    tally: Tally,
}

/// Where a shard stood.
pub struct Mark {
    at: u64,
    tar: u64,
    digest: Blake3,
}

/// What a shard came to.
pub struct Done {
    /// As its index says it.
    pub shard: shards::Shard,
    /// Bytes of content in it.
    pub bytes: u64,
}

fn fault(operation: Operation, errno: Errno) -> Fault {
    Fault::new(operation, Side::Destination(0), errno)
}

impl Shard {
    /// Number `number` of all, which belongs to this state.
    pub fn begin(place: &Arc<Place>, (number, state): (u64, u64), desk: &Arc<Desk>) -> Result<Self, Fault> {
        let name = shards::name(number, place.suffix());
        let index = Lines::begin(place, (&shards::index_name(number), Taken::Stays), desk)?;
        let create = |errno| fault(Operation::Create, errno);
        let name = c_string(&name).map_err(create)?;
        let (file, staging) = if place.depot.is_some() {
            (unnamed_file(&place.directory).map_err(create)?, None)
        } else {
            let make = |name: &std::ffi::CStr| sys::create_file_as(place.directory.as_fd(), name, PLAIN);
            let (file, staging) = place.stager.stage(&name, make).map_err(create)?;
            (file, Some(staging))
        };
        let mut shard = Self {
            place: Arc::clone(place),
            name,
            staging,
            file,
            index,
            line: Vec::new(),
            state,
            at: 0,
            tar: 0,
            begun: 0,
            digest: Blake3::default(),
            entries: 0,
            bytes: 0,
            tally: Tally::default(),
        };
        shards::head(&mut shard.line);
        shard.index.write(&shard.line)?;
        Ok(shard)
    }

    /// Its file name.
    pub fn name(&self) -> &[u8] {
        self.name.to_bytes()
    }

    /// Where it stands: in the file, and in the tar.
    pub fn offsets(&self) -> (u64, u64) {
        (self.at, self.tar)
    }

    /// Where it stands, to come back to.
    pub fn mark(&self) -> Mark {
        Mark {
            at: self.at,
            tar: self.tar,
            digest: self.digest.clone(),
        }
    }

    /// What was put since then is not there.
    pub fn back_to(&mut self, mark: Mark) {
        (self.at, self.tar, self.digest) = (mark.at, mark.tar, mark.digest);
    }

    /// An error of so many bytes; where they had no room, whose limit it was.
    fn fault(&self, operation: Operation, errno: Errno, size: u64) -> Fault {
        let fault = fault(operation, errno);
        match self.place.depot {
            Some(_) => fault,
            None => told(fault, self.place.directory.as_fd(), &self.place.path, size),
        }
    }

    /// Adds bytes, which stand for `tar` bytes of a tar.
    pub fn put(&mut self, bytes: &[u8], tar: u64) -> Result<(), Fault> {
        self.digest.update(bytes);
        sys::write_all_at(self.file.as_fd(), bytes, self.at)
            .map_err(|errno| self.fault(Operation::Write, errno, bytes.len() as u64))?;
        self.at += bytes.len() as u64;
        self.tar += tar;
        let new = self.at.saturating_sub(self.begun);
        if new >= WRITE_BACK_BYTES {
            // Only a head start: an error is told by the sync that follows.
            match sys::start_write_back(self.file.as_fd(), self.begun, new) {
                Ok(()) | Err(_) => self.begun = self.at,
            }
        }
        Ok(())
    }

    /// Adds a line to its index, and counts the entry.
    pub fn enter(&mut self, line: &Line, kind: Kind, outcome: Outcome, bytes: u64) -> Result<(), Fault> {
        self.tally.add(kind, outcome, bytes);
        self.entries += 1;
        self.bytes += bytes;
        self.line.clear();
        shards::write(line, &mut self.line);
        self.index.write(&self.line)
    }

    /// Ends the tar, syncs it, reads it back, and gives shard and index their names; all entries get their outcomes. The error
    /// that comes with none was told by somebody else.
    pub fn finish(mut self, counters: &Counters, desk: &Desk, buffer: &mut [u8]) -> Result<Done, Option<Fault>> {
        let closed = self.close(counters, desk, buffer);
        let name = (Arc::clone(&self.place), self.staging.take());
        let stopped = match closed {
            Ok(done) => match self.index.finish(desk, counters) {
                Ok(()) => {
                    self.tally.record(counters, None);
                    return Ok(done);
                }
                Err(stopped) => (stopped, Ok(())),
            },
            Err(stopped) => (stopped, self.index.discard().and(remove(name))),
        };
        match stopped {
            (Stopped::Aborted, left) => Err(left.err()),
            (Stopped::Fault(fault), _) => {
                self.tally.record(counters, Some(fault.outcome()));
                Err(Some(fault))
            }
        }
    }

    /// The same of one that nobody wants, or that failed before: its entries get this outcome, if there is one.
    pub fn discard(self, counters: &Counters, outcome: Option<Outcome>) -> Result<(), Fault> {
        if outcome.is_some() {
            self.tally.record(counters, outcome);
        }
        self.index.discard().and(remove((self.place, self.staging)))
    }

    fn close(&mut self, counters: &Counters, desk: &Desk, buffer: &mut [u8]) -> Result<Done, Stopped> {
        self.end()?;
        let file = self.file.as_fd();
        sys::set_size(file, self.at).map_err(|errno| self.fault(Operation::Write, errno, 0))?;
        match (&self.place.depot, &self.staging) {
            (Some(depot), _) => depot.put((self.name.to_bytes(), Taken::Stays), file, self.at, (desk, counters))?,
            (None, Some(staging)) => self.appear(staging, counters, desk, buffer)?,
            (None, None) => return Err(fault(Operation::Rename, Errno::NOENT).into()),
        }
        self.line.clear();
        let digest = self.digest.digest();
        let shard = shards::Shard {
            name: self.name.to_bytes().to_vec(),
            state: self.state,
            size: self.at,
            entries: self.entries,
            digests: Digest::new(Algorithm::Blake3, &digest).into_iter().collect(),
        };
        shards::write(&Line::Shard(shard.clone()), &mut self.line);
        self.index.write(&self.line)?;
        let bytes = self.bytes;
        Ok(Done { shard, bytes })
    }

    /// What is on the medium is proved, and gets its name.
    fn appear(&self, staging: &Staging, counters: &Counters, desk: &Desk, buffer: &mut [u8]) -> Result<(), Stopped> {
        let file = self.file.as_fd();
        {
            let _syncing = desk.syncing();
            sys::sync_data(file).map_err(|errno| self.fault(Operation::Sync, errno, self.at))?;
        }
        let from_cache = forget(file, self.at);
        let digest = self.digest.digest();
        let back = read_back(None, file, (self.at, from_cache), 0, (desk, &counters.flight), buffer)?;
        match back {
            Some(back) if (back.digest, back.bytes) == (digest, self.at) => {
                counters.verified(back.bytes, back.from_cache);
            }
            _ => {
                return Err(Stopped::Fault(Fault {
                    operation: Operation::Verify,
                    side: Side::Destination(0),
                    cause: Cause::Unlike("mismatch", "what was read back is not what was written".to_owned()),
                }));
            }
        }
        let at = self.place.directory.as_fd();
        appear(at, staging.as_c_str(), &self.name).map_err(|errno| match errno {
            Errno::EXIST => Fault::conflict(Operation::Rename, 0, TAKEN),
            errno => fault(Operation::Rename, errno),
        })?;
        Ok(())
    }

    /// The blocks that end a tar, and what ends its archive.
    fn end(&mut self) -> Result<(), Stopped> {
        let Some(codec) = self.place.codec else {
            return Ok(self.put(&tar::END, tar::END.len() as u64)?);
        };
        let mut framed = Vec::new();
        encode(
            &mut Encoder::new(codec).map_err(|error| encoder(&error))?,
            &tar::END,
            &mut framed,
            &|| true,
        )?;
        self.put(&framed, tar::END.len() as u64)?;
        if codec.format() == Format::Bgzf {
            let tail = Frame::new(codec, 0, false).end().tail;
            self.put(&tail, 0)?;
        }
        Ok(())
    }
}

/// What is staged goes.
fn remove((place, staging): (Arc<Place>, Option<Staging>)) -> Result<(), Fault> {
    let Some(staging) = staging else { return Ok(()) };
    match sys::unlink(place.directory.as_fd(), staging.as_c_str()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(fault(Operation::Remove, errno)),
    }
}

fn encoder(error: &dyn std::fmt::Display) -> Fault {
    Fault {
        operation: Operation::Write,
        side: Side::Destination(0),
        cause: Cause::Encoder(error.to_string()),
    }
}

/// Compresses blocks into a frame of their own, or several.
pub fn encode(
    tool: &mut Encoder,
    blocks: &[u8],
    framed: &mut Vec<u8>,
    goes_on: &dyn Fn() -> bool,
) -> Result<(), Stopped> {
    framed.clear();
    let mut frame = Vec::new();
    for part in blocks.chunks(tool.codec().block_bytes()) {
        tool.block((b"", part), &mut frame, goes_on)
            .map_err(|error| match error {
                bulkhaul_formats::codec::EncoderError::Stopped => Stopped::Aborted,
                error @ bulkhaul_formats::codec::EncoderError::Failed(_) => Stopped::Fault(encoder(&error)),
            })?;
        framed.extend_from_slice(&frame);
    }
    Ok(())
}

/// Counts bytes of content as written.
pub fn written(counters: &Counters, bytes: u64) {
    counters.written().fetch_add(bytes, Relaxed);
}
