//! The content of a file, and what a manifest says of it.
//!
//! Comes in: a [`Pair`] whose content is to be read; goes out: the same with its [`Finding`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use bulkhaul_formats::digest::{Algorithm, Digest, Hashers};
use bulkhaul_formats::manifest::Entry;
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Kind, Stat};

use super::files::{Files, Source};
use super::join::{Finding, Pair, unlike};
use super::manifests::Claim;
use crate::bytes::digests::digests;
use crate::bytes::proof::{forget, leave};
use crate::bytes::transfer::BUFFER_BYTES;
use crate::entry::Reason;
use crate::error::{Fault, Operation, Side, Stopped};
use crate::job::desk::Desk;
use crate::records::pieces::{Piece, Pieces, is_settled};
use crate::report::counters::Counters;
use crate::tree::medium::is_in_memory;

/// Reads files.
pub(super) struct Checker<'c> {
    files: Files<'c>,
    desk: &'c Desk,
    counters: &'c Counters,
    /// What the job has proved, and an earlier run of it.
    pieces: Option<&'c Pieces>,
    /// For files of the same algorithms.
    hashers: (Vec<Algorithm>, Hashers),
    buffer: Vec<u8>,
    /// The last device, and whether it is memory.
    device: Option<(u64, bool)>,
}

impl<'c> Checker<'c> {
    pub(super) fn new(
        source: Source<'c>,
        (desk, counters): (&'c Desk, &'c Counters),
        pieces: Option<&'c Pieces>,
    ) -> Self {
        Self {
            files: source.files(),
            desk,
            counters,
            pieces,
            hashers: (Vec::new(), Hashers::new(&[])),
            buffer: vec![0; BUFFER_BYTES],
            device: None,
        }
    }

    /// Answers how many bytes the file has.
    pub(super) fn check(&mut self, pair: &mut Pair) -> u64 {
        let (Some(claim), Some(found)) = (&pair.claim, &mut pair.found) else {
            return 0;
        };
        let answer = catch_unwind(AssertUnwindSafe(|| self.read(claim, &mut found.size)));
        pair.finding = match answer.unwrap_or_else(|panic| Err(Fault::panic(&*panic).into())) {
            Ok(finding) => finding,
            // Given up on the way: nobody knows.
            Err(Stopped::Aborted) => Finding::Skipped(Reason::NotCompared),
            Err(Stopped::Fault(fault)) => Finding::Fault(fault),
        };
        found.size.unwrap_or_default()
    }

    /// `size`: that of the file, as far as it is known, and then in any case.
    fn read(&mut self, claim: &Claim, size: &mut Option<u64>) -> Result<Finding, Stopped> {
        let algorithms = claim.entry.digests.iter().map(Digest::algorithm);
        if !algorithms.clone().eq(self.hashers.0.iter().copied()) {
            let algorithms: Vec<Algorithm> = algorithms.collect();
            self.hashers = (algorithms.clone(), Hashers::new(&algorithms));
        }
        let run = (self.desk, self.counters);
        let Files::Here(beneath) = &mut self.files else {
            let size = size.unwrap_or_default();
            let read = (&claim.entry.path[..], size);
            let made = self.files.digests(read, &mut self.hashers.1, run, &mut self.buffer)?;
            if let Some(finding) = differs(claim, &made) {
                return Ok(finding);
            }
            self.counters.verified(size, 0);
            return Ok(Finding::Same);
        };
        let entry = &claim.entry;
        let fault = |operation, errno| Fault::new(operation, Side::Source, errno);
        let file = beneath.open(&entry.path).map_err(|errno| match errno {
            // It was a file when it was listed.
            Errno::LOOP | Errno::NOTDIR => Fault::changed(Operation::Open),
            errno => fault(Operation::Open, errno),
        })?;
        let stat = sys::stat_fd(file.as_fd()).map_err(|errno| fault(Operation::Stat, errno))?;
        if stat.kind != Kind::File {
            return Err(Fault::changed(Operation::Stat).into());
        }
        if size.is_none() {
            self.counters.sized(stat.size, stat.allocated);
            *size = Some(stat.size);
        }
        let piece = self.pieces.map(|_| piece(entry, &stat));
        if let (Some(pieces), Some(piece)) = (self.pieces, &piece)
            && pieces.find(piece).is_some()
        {
            self.counters.resumes();
            self.counters.resumed(stat.size);
            return Ok(Finding::Same);
        }
        // What is in memory says nothing of the medium.
        let from_cache = self.forget(file.as_fd(), &stat);
        let (hashers, buffer) = (&mut self.hashers.1, &mut self.buffer);
        let (made, bytes) = digests((file.as_fd(), &stat), &entry.digests, hashers, run, buffer)?;
        leave(file.as_fd(), bytes, from_cache);
        if let Some(finding) = differs(claim, &made) {
            return Ok(finding);
        }
        self.counters.verified(bytes, from_cache);
        if let (Some(pieces), Some(piece)) = (self.pieces, &piece)
            && bytes == stat.size
            && is_settled(stat.ctime)
        {
            pieces.add(piece, &[], bytes);
        }
        Ok(Finding::Same)
    }

    /// As [`forget`]; of what has no medium nothing is asked.
    fn forget(&mut self, file: BorrowedFd<'_>, stat: &Stat) -> u64 {
        let of = stat.id.dev;
        let is_memory = match self.device {
            Some((device, is_memory)) if device == of => is_memory,
            _ => is_in_memory(file),
        };
        self.device = Some((of, is_memory));
        if is_memory { stat.size } else { forget(file, stat.size) }
    }
}

/// What is wrong where a file does not have the digests that a manifest says.
fn differs(Claim { entry, place }: &Claim, made: &[Digest]) -> Option<Finding> {
    let wrong = entry.digests.iter().find(|digest| !made.contains(digest))?;
    let algorithm = wrong.algorithm();
    let what = format!("its content is not that of {place}, by its {algorithm} digest");
    Some(unlike("mismatch", what))
}

/// That a file has the content that a manifest says.
fn piece(entry: &Entry, stat: &Stat) -> Piece {
    let mut of = Vec::with_capacity(64);
    for digest in &entry.digests {
        of.extend_from_slice(digest.algorithm().name().as_bytes());
        of.extend_from_slice(digest.bytes());
    }
    Piece::content(&entry.path, stat, &of)
}
