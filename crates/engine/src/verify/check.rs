//! The content of a file, and what a manifest says of it.
//!
//! Comes in: a [`Pair`] whose content is to be read; goes out: the same with its [`Finding`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use bulkhaul_formats::digest::{Algorithm, Digest, Hashers};
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Kind, OwnedFd};

use super::beneath::Beneath;
use super::join::{Finding, Pair, unlike};
use super::manifests::Claim;
use crate::bytes::digests::digests;
use crate::bytes::proof::forget;
use crate::bytes::transfer::BUFFER_BYTES;
use crate::entry::Reason;
use crate::error::{Fault, Operation, Side, Stopped};
use crate::job::desk::Desk;
use crate::report::counters::Counters;

/// Reads files below a directory.
pub(super) struct Checker<'c> {
    beneath: Beneath<'c>,
    desk: &'c Desk,
    counters: &'c Counters,
    /// For files of the same algorithms.
    hashers: (Vec<Algorithm>, Hashers),
    buffer: Vec<u8>,
}

impl<'c> Checker<'c> {
    pub(super) fn new(base: &'c OwnedFd, desk: &'c Desk, counters: &'c Counters) -> Self {
        Self {
            beneath: Beneath::new(base),
            desk,
            counters,
            hashers: (Vec::new(), Hashers::new(&[])),
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    pub(super) fn check(&mut self, pair: &mut Pair) {
        let Some(claim) = &pair.claim else { return };
        let answer = catch_unwind(AssertUnwindSafe(|| self.read(claim)));
        pair.finding = match answer.unwrap_or_else(|panic| Err(Fault::panic(&*panic).into())) {
            Ok(finding) => finding,
            // Given up on the way: nobody knows.
            Err(Stopped::Aborted) => Finding::Skipped(Reason::NotCompared),
            Err(Stopped::Fault(fault)) => Finding::Fault(fault),
        };
    }

    fn read(&mut self, Claim { entry, place }: &Claim) -> Result<Finding, Stopped> {
        let fault = |operation, errno| Fault::new(operation, Side::Source, errno);
        let file = self.beneath.open(&entry.path).map_err(|errno| match errno {
            // It was a file when it was listed.
            Errno::LOOP | Errno::NOTDIR => Fault::changed(Operation::Open),
            errno => fault(Operation::Open, errno),
        })?;
        let stat = sys::stat_fd(file.as_fd()).map_err(|errno| fault(Operation::Stat, errno))?;
        if stat.kind != Kind::File {
            return Err(Fault::changed(Operation::Stat).into());
        }
        let algorithms: Vec<Algorithm> = entry.digests.iter().map(Digest::algorithm).collect();
        if self.hashers.0 != algorithms {
            self.hashers = (algorithms.clone(), Hashers::new(&algorithms));
        }
        // What is in memory says nothing of the medium.
        let from_cache = forget(file.as_fd(), stat.size);
        let run = (self.desk, self.counters);
        let (made, bytes) = digests((file.as_fd(), &stat), &mut self.hashers.1, run, &mut self.buffer)?;
        // The pages are of no use to anybody: leave the cache to others.
        forget(file.as_fd(), bytes);
        if let Some(wrong) = entry.digests.iter().find(|digest| !made.contains(digest)) {
            let algorithm = wrong.algorithm();
            let what = format!("its content is not that of {place}, by its {algorithm} digest");
            return Ok(unlike("mismatch", what));
        }
        self.counters.verified(bytes, from_cache);
        Ok(Finding::Same)
    }
}
