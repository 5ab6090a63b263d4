//! What a manifest wants of an entry: the [`Look`] of a [`Gather`](crate::records::gather::Gather) that makes the entries of
//! manifests, digests of files included.
//!
//! Comes in: how the manifest is made, what the run itself uses, and perhaps an older manifest; goes out: a record of each
//! entry that can be written. Files are read as they come, by the thread that found them, but for those of which the older
//! manifest, or an earlier run, knows size, time of modification and time of change as they are.

use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};

use bulkhaul_formats::digest::{Algorithm, Digest, Hashers};
use bulkhaul_formats::manifest::Entry;
use bulkhaul_formats::staging;
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow, Identity, Kind, Stat};

use crate::bytes::digests::digests;
use crate::entry::Reason;
use crate::error::{Cause, Fault, Operation, Side};
use crate::job::desk::Desk;
use crate::records::entry::{self, Found, kind_of};
use crate::records::gather::{self, Look, Missing};
use crate::records::known::Known;
use crate::records::manifest::Making;
use crate::records::pieces::{Piece, Pieces, is_settled};
use crate::tree::in_use::{InUse, Place};
use crate::walk::node::Entered;

/// Finds out what a manifest says.
pub struct Contents<'c> {
    desk: &'c Desk,
    making: &'c Making,
    in_use: InUse,
    output: Option<Place>,
    older: Option<&'c Older>,
    pieces: Option<&'c Pieces>,
}

/// What an older manifest is for.
pub struct Older {
    /// It.
    pub known: Known,
    /// Read also what it seems to be right about.
    pub full: bool,
    /// Files of it that are there.
    pub there: AtomicU64,
}

/// An entry, and what is wrong with it.
type Seen = (Found, Option<Fault>);
type Hand<'h> = gather::Hand<'h, Hashers>;

impl<'c> Contents<'c> {
    /// For one run. `output`: where the manifest will be, by its directory and its name: an older one is left out.
    pub fn new(
        desk: &'c Desk,
        making: &'c Making,
        (in_use, output): (InUse, Option<Place>),
        (older, pieces): (Option<&'c Older>, Option<&'c Pieces>),
    ) -> Self {
        Self {
            desk,
            making,
            in_use,
            output,
            older,
            pieces,
        }
    }

    /// The digests that an earlier run of the job has made of a file.
    fn finished(&self, path: &[u8], stat: &Stat) -> Option<Vec<Digest>> {
        let value = self.pieces?.find(&Piece::content(path, stat, b""))?;
        let mut rest = &value[..];
        let digest = |algorithm: &Algorithm| {
            let (bytes, others) = rest.split_at_checked(algorithm.digest_bytes())?;
            rest = others;
            Digest::new(*algorithm, bytes)
        };
        self.making.algorithms().iter().map(digest).collect()
    }

    /// Keeps the digests of a file for the next run.
    fn finish(&self, path: &[u8], stat: &Stat, digests: &[Digest]) {
        let Some(pieces) = self.pieces.filter(|_| stat.size > 0 && is_settled(stat.ctime)) else {
            return;
        };
        let value: Vec<u8> = digests.iter().flat_map(|digest| digest.bytes().to_vec()).collect();
        pieces.add(&Piece::content(path, stat, b""), &value, stat.size);
    }

    /// What an older manifest says of a file.
    fn before(&self, path: &[u8]) -> Result<Option<Entry>, Missing> {
        let Some(older) = self.older else { return Ok(None) };
        let found = older.known.find(path).map_err(|refusal| Fault {
            operation: Operation::Read,
            side: Side::Source,
            cause: Cause::Unlike("older", refusal.to_string()),
        })?;
        let file = found.filter(|entry| kind_of(entry) == Kind::File);
        if file.is_some() {
            older.there.fetch_add(1, Ordering::Relaxed);
        }
        Ok(file)
    }

    /// The digests that are wanted, where an entry has all of them.
    fn digests_of(&self, entry: &Entry) -> Option<Vec<Digest>> {
        let algorithms = self.making.algorithms().iter();
        algorithms.map(|algorithm| entry.digest(*algorithm).copied()).collect()
    }

    /// What was found, and what the older manifest says of it: content that differs though size and time of modification are
    /// the same is a fault, and the older entry stays.
    fn judge(found: Found, before: Option<Entry>) -> Seen {
        let is = &found.0;
        let Some(before) = before.filter(|before| (before.size, before.mtime) == (is.size, is.mtime)) else {
            return (found, None);
        };
        let differs = |digest: &Digest| is.digest(digest.algorithm()).is_some_and(|is| is != digest);
        if !before.digests.iter().any(differs) {
            return (found, None);
        }
        let (kind, what) = if before.ctime == is.ctime {
            (
                "bit-rot",
                "its content has changed, and none of its times has: it is damaged",
            )
        } else {
            (
                "behind-mtime",
                "its content has changed, and its size and time of modification have not",
            )
        };
        let fault = Fault {
            operation: Operation::Verify,
            side: Side::Source,
            cause: Cause::Unlike(kind, format!("{what}; the manifest keeps what it was")),
        };
        ((before, found.1), Some(fault))
    }

    /// An entry with what `stat` says of it, without its path. An error where it is not what it was when it was listed, or is
    /// left out.
    fn found(&self, stat: &Stat, kind: Kind) -> Result<Found, Missing> {
        if stat.kind != kind {
            return Err(Fault::changed(Operation::Stat).into());
        }
        if self.in_use.has(stat.id) {
            return Err(Missing::Skipped(Reason::InUse));
        }
        Ok(entry::of(stat))
    }

    fn special(&self, at: BorrowedFd<'_>, name: &CStr, kind: Kind) -> Result<Found, Missing> {
        if !self.making.has_all_kinds() {
            return Err(Missing::Skipped(Reason::NotAFile));
        }
        let stat = sys::stat(at, name, Follow::No).map_err(|errno| fault(Operation::Stat, errno))?;
        let mut found = self.found(&stat, kind)?;
        if kind == Kind::Symlink {
            let target = sys::read_link(at, name).map_err(|errno| match errno {
                Errno::INVAL => Fault::changed(Operation::Read),
                errno => fault(Operation::Read, errno),
            })?;
            found.0.target = Some(target.into_bytes());
        }
        Ok(found)
    }
}

fn fault(operation: Operation, errno: Errno) -> Fault {
    Fault::new(operation, Side::Source, errno)
}

impl Look for Contents<'_> {
    /// What the manifest says of a directory, where it says something.
    type Directory = Option<Entry>;
    type Found = Seen;
    type Own = Hashers;
    type Stem = ();

    fn own(&self) -> Hashers {
        Hashers::new(self.making.algorithms())
    }

    fn leaves_out(&self, directory: Identity, name: &CStr, _kind: Kind) -> Option<Reason> {
        let is_one = |(parent, own): &Place| *parent == directory && **own == *name;
        if self.output.iter().chain(&self.in_use.to_come).any(is_one) {
            return Some(Reason::InUse);
        }
        staging::parse(name.to_bytes()).map(|_| Reason::StagingName)
    }

    fn enter(
        &self,
        _hand: &mut Hand<'_>,
        entered: &Entered<'_, gather::Directory<Option<Entry>>>,
    ) -> Result<Option<Entry>, Missing> {
        let (mut entry, _) = self.found(entered.stat, Kind::Directory)?;
        // What stands for what is in it has no name.
        if !self.making.has_all_kinds() || entered.relative_path().is_empty() {
            return Ok(None);
        }
        // Its times change with every manifest that is written there.
        if self.output.as_ref().is_some_and(|(at, _)| *at == entered.stat.id) {
            (entry.mtime, entry.ctime) = (None, None);
        }
        Ok(Some(entry))
    }

    fn stem(&self, _beginning: &[u8]) {}

    fn look(
        &self,
        hand: &mut Hand<'_>,
        at: BorrowedFd<'_>,
        (name, path): (&CStr, &[u8]),
        kind: Kind,
    ) -> Result<Seen, Missing> {
        if kind != Kind::File {
            return Ok((self.special(at, name, kind)?, None));
        }
        let before = self.before(path)?;
        if let Some(before) = before.as_ref().filter(|_| self.older.is_some_and(|older| !older.full)) {
            let stat = sys::stat(at, name, Follow::No).map_err(|errno| fault(Operation::Stat, errno))?;
            let mut found = self.found(&stat, kind)?;
            let same =
                |entry: &Entry| (entry.size, entry.mtime, entry.ctime) == (found.0.size, found.0.mtime, found.0.ctime);
            if let Some(digests) = self.digests_of(before).filter(|_| same(before)) {
                hand.counters.sized(stat.size, stat.allocated);
                found.0.digests = digests;
                return Ok((found, None));
            }
        }
        if self.pieces.is_some_and(Pieces::has_earlier) {
            let stat = sys::stat(at, name, Follow::No).map_err(|errno| fault(Operation::Stat, errno))?;
            let mut found = self.found(&stat, kind)?;
            if let Some(digests) = self.finished(path, &stat) {
                hand.counters.sized(stat.size, stat.allocated);
                hand.counters.resumes();
                hand.counters.resumed(stat.size);
                found.0.digests = digests;
                return Ok(Self::judge(found, before));
            }
        }
        let file = sys::open_file(at, name).map_err(|errno| match errno {
            // It was a file when it was listed.
            Errno::LOOP => Fault::changed(Operation::Open),
            errno => fault(Operation::Open, errno),
        })?;
        let stat = sys::stat_fd(file.as_fd()).map_err(|errno| fault(Operation::Stat, errno))?;
        let mut found = self.found(&stat, kind)?;
        hand.counters.sized(stat.size, stat.allocated);
        let run = (self.desk, hand.counters);
        let (digests, bytes) = digests((file.as_fd(), &stat), &[], &mut hand.own, run, &mut hand.content)?;
        // Where sizes say nothing it is more than was stated.
        hand.counters.grew(stat.size, bytes.saturating_sub(stat.size));
        if bytes == stat.size {
            self.finish(path, &stat, &digests);
        }
        (found.0.digests, found.0.size) = (digests, Some(bytes));
        Ok(Self::judge(found, before))
    }

    fn leave(&self, directory: &Option<Entry>) -> Result<Seen, Missing> {
        match directory {
            Some(entry) => Ok(((entry.clone(), None), None)),
            None => Err(Missing::Skipped(Reason::NotAFile)),
        }
    }

    fn record(
        &self,
        hand: &mut Hand<'_>,
        ((), path): (&(), &[u8]),
        _: Kind,
        (mut found, fault): Seen,
    ) -> Result<Option<Fault>, Fault> {
        found.0.path = path.to_vec();
        self.making.record(&found, fault.is_some(), &mut hand.payload)?;
        hand.key = found.0.path;
        Ok(fault)
    }

    fn record_failed(&self, _hand: &mut Hand<'_>, _path: &[u8], _kind: Kind) -> bool {
        false
    }
}
