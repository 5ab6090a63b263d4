//! Lines for their readers: a file beside the shards, or one that goes to a store when it is whole.
//!
//! Comes in: lines, in order; goes out: the file, under its name, or nothing of it.

use std::sync::Arc;

use bulkhaul_sys::{self as sys, AsFd as _, Errno, OwnedFd};

use super::place::Place;
use crate::bytes::output::{Output, unnamed_file};
use crate::error::{Cause, Fault, Operation, Refusal, Side, Stopped};
use crate::job::desk::Desk;
use crate::records::shards::{Depot, Taken};
use crate::report::counters::Counters;
use crate::tree::path::join;

/// Bytes that are written at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// A file that is being written.
pub enum Lines {
    /// Beside the shards.
    Here(Output),
    /// For a store.
    Away(Away),
}

/// What will go to a store.
pub struct Away {
    depot: Arc<dyn Depot>,
    name: Vec<u8>,
    taken: Taken,
    file: OwnedFd,
    at: u64,
    buffer: Vec<u8>,
}

/// The fault of a file that can't be written.
fn refused(refusal: &Refusal) -> Fault {
    Fault {
        operation: Operation::Write,
        side: Side::Destination(0),
        cause: Cause::Answered("index", refusal.to_string()),
    }
}

fn fault(operation: Operation) -> impl Fn(Errno) -> Fault {
    move |errno| Fault::new(operation, Side::Destination(0), errno)
}

impl Lines {
    /// Begins a file of this name. `taken`: what becomes of one in a store that has it; in a
    /// directory it goes.
    pub fn begin(place: &Place, (name, taken): (&[u8], Taken), desk: &Arc<Desk>) -> Result<Self, Fault> {
        match &place.depot {
            None => {
                let output = Output::create(&join(&place.path, name), desk);
                Ok(Self::Here(output.map_err(|refusal| refused(&refusal))?))
            }
            Some(depot) => Ok(Self::Away(Away {
                depot: Arc::clone(depot),
                name: name.to_vec(),
                taken,
                file: unnamed_file(&place.directory).map_err(fault(Operation::Create))?,
                at: 0,
                buffer: Vec::new(),
            })),
        }
    }

    /// Adds lines.
    pub fn write(&mut self, lines: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Here(output) => output.write(lines).map_err(|refusal| refused(&refusal)),
            Self::Away(away) => {
                away.buffer.extend_from_slice(lines);
                if away.buffer.len() >= BUFFER_BYTES {
                    away.flush()?;
                }
                Ok(())
            }
        }
    }

    /// They are whole: they get their name.
    pub fn finish(self, desk: &Desk, counters: &Counters) -> Result<(), Stopped> {
        match self {
            Self::Here(output) => Ok(output.finish().map(drop).map_err(|refusal| refused(&refusal))?),
            Self::Away(mut away) => {
                away.flush()?;
                away.depot
                    .put((&away.name, away.taken), away.file.as_fd(), away.at, (desk, counters))
            }
        }
    }

    /// Nobody wants them.
    pub fn discard(self) -> Result<(), Fault> {
        match self {
            Self::Here(output) => output.discard().map_err(|refusal| refused(&refusal)),
            Self::Away(_) => Ok(()),
        }
    }
}

impl Away {
    fn flush(&mut self) -> Result<(), Fault> {
        sys::write_all_at(self.file.as_fd(), &self.buffer, self.at).map_err(fault(Operation::Write))?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
