//! The ledger of a big file: which of its bytes are there, written down in the file itself, past the end that it will have.
//!
//! Comes in: parts of the file as they are written, and as they are proved, or how far an archive has come that is made of its
//! source, or the content that is made of an archive; goes out: now and then a record, by which the next run goes on should
//! this one die. What is on the medium for sure is noted apart: after another start of the system, or another mount, nothing
//! else counts. Where a record can't be written the copy goes on without. Where nobody knows how much a file will have, the
//! records move on before its content reaches them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bulkhaul_formats::codec::Codec;
use bulkhaul_formats::digest::xxh64;
use bulkhaul_formats::progress::{self, Made, Mark, Progress, Ranges, SLOT_BYTES, Version};
use bulkhaul_sys::{self as sys, BorrowedFd, Errno, Stat};

use crate::bytes::ways::{DIRECT_ALIGNMENT, PIECE_BYTES};
use crate::error::{Fault, Operation, Side, Stopped};
use crate::job::desk::Desk;

/// A record is due when this part of what the run has done is new, or of the time that it has taken has passed. So much is
/// lost at most when it dies, and what its workers have in hand.
const SHARE: u32 = 32;
/// In the beginning that would be too little.
const LEAST_BYTES: u64 = 1024 * 1024;
/// And in the end too much.
const LONGEST: Duration = Duration::from_millis(100);
/// What has to be on the medium in the end is synced whenever so much is new: what is lost when the power goes.
const DURABLE_BYTES: u64 = 256 * 1024 * 1024;

/// As much as the places for records have, which are two.
const ZEROS: [u8; 8192] = [0; 8192];

/// How a file is made of its source. Only a file that is made in the same way is gone on with.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Permission bits that it was made with.
    pub bits: u32,
    /// A number for the rest of it.
    pub number: u32,
    /// Bytes that it has in the end, or may have.
    pub room: u64,
    /// It may have more than that.
    pub grows: bool,
    /// Its content has to be on the medium in the end.
    pub lasting: bool,
}

impl Manner {
    /// An archive of a source of this size.
    pub fn archive(codec: Codec, size: u64, bits: u32, lasting: bool) -> Self {
        Self {
            bits,
            // Copies have small ones.
            number: 1 << 16 | codec.number(),
            room: codec.most_bytes(size),
            grows: false,
            lasting,
        }
    }

    /// The content of an archive of this size.
    pub fn content(size: u64, bits: u32) -> Self {
        Self {
            bits,
            number: 2 << 16,
            room: size.saturating_mul(2),
            grows: true,
            lasting: true,
        }
    }
}

/// The ledger of one file.
pub struct Ledger {
    /// Its content has to be on the medium in the end.
    lasting: bool,
    begun: Instant,
    /// Bytes that were there.
    before: u64,
    inner: Mutex<Inner>,
}

/// What has become of a part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It is there.
    Done,
    /// It was read back and is its source's.
    Proved,
}

struct Inner {
    /// Where the records lie.
    base: u64,
    progress: Progress,
    /// Bytes that the last record spoke of, and when it was written.
    written: (u64, Instant),
    /// Bytes that were done when the file was synced.
    synced: u64,
    syncing: bool,
    /// Records can't be written, or shall not.
    off: bool,
}

/// The facts by which a source is known again.
fn version(source: &Stat) -> Version {
    let time = |time: sys::Time| (time.sec, time.nsec);
    Version {
        device: source.id.dev,
        inode: source.id.ino,
        size: source.size,
        modified: time(source.mtime),
        changed: time(source.ctime),
    }
}

fn session(file: BorrowedFd<'_>) -> u64 {
    sys::session(file).map_or(0, |session| xxh64(&session))
}

impl Ledger {
    /// For a new file with these facts. `None`: there is no room past its end.
    pub fn new(file: BorrowedFd<'_>, source: &Stat, made: &Stat, manner: Manner) -> Option<Self> {
        let progress = Progress {
            source: version(source),
            made: Made {
                inode: made.id.ino,
                uid: made.uid,
                gid: made.gid,
                mode: made.mode,
                asked: manner.bits,
                manner: manner.number,
            },
            session: session(file),
            ..Progress::default()
        };
        Self::of(progress, progress::base(manner.room)?, manner)
    }

    /// For a file that has all of its content already. `sure`: on the medium.
    pub fn whole(file: BorrowedFd<'_>, source: &Stat, (made, sure): (&Stat, bool), manner: Manner) -> Option<Self> {
        let ledger = Self::new(file, source, made, manner)?;
        ledger.inner().of(Part::Done).insert(0, source.size);
        if sure {
            ledger.synced(file);
        } else {
            ledger.save(file);
        }
        Some(ledger)
    }

    /// The ledger that a dead run left in a file, if it is that of a copy of this very source, made as it would be now.
    pub fn found(file: BorrowedFd<'_>, source: &Stat, made: &Stat, manner: Manner) -> Option<Self> {
        let base = if manner.grows {
            last_of(file, made.size)?
        } else {
            progress::base(manner.room)?
        };
        if made.size < base || made.size > base + 2 * SLOT_BYTES {
            return None;
        }
        let mut places = vec![0; usize::try_from(2 * SLOT_BYTES).ok()?];
        let length = sys::read_full_at(file, &mut places, base).ok()?;
        let mut progress = progress::newest(&places[..length])?;
        let like = Self::new(file, source, made, manner)?.into_progress();
        if (progress.source, progress.made) != (like.source, like.made) {
            return None;
        }
        let sure = like.session != 0 && progress.session == like.session;
        progress.session = like.session;
        if !sure {
            progress.done = progress.done.up_to(progress.durable);
            progress.marks = [progress.marks[1].take(), None];
        }
        // Nothing is proved before all of it is there.
        if progress.done.bytes() < source.size {
            progress.proved = Ranges::default();
        }
        let ledger = Self::of(progress, base, manner).filter(|ledger| ledger.bytes() > 0)?;
        if !sure {
            // What else there is may be anything; what is a hole of the source is not written, and must be one here too.
            let there = ledger.mark().map_or(ledger.bytes(), |mark| mark.archive);
            sys::set_size(file, there).ok()?;
            ledger.save(file);
        }
        Some(ledger)
    }

    fn of(progress: Progress, base: u64, manner: Manner) -> Option<Self> {
        (base + 2 * SLOT_BYTES <= sys::file_size_limit()).then(|| Self {
            lasting: manner.lasting,
            begun: Instant::now(),
            before: all(&progress),
            inner: Mutex::new(Inner {
                base,
                synced: progress.durable,
                written: (all(&progress), Instant::now()),
                progress,
                syncing: false,
                off: false,
            }),
        })
    }

    fn into_progress(self) -> Progress {
        self.inner.into_inner().unwrap_or_else(PoisonError::into_inner).progress
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes to copy from `at` on before that is entered, at most: up to a multiple of a power of two.
    pub fn piece(&self, at: u64) -> u64 {
        let there = all(&self.inner().progress);
        let piece = 1 << self.portion(there).min(PIECE_BYTES).ilog2();
        piece - at % piece
    }

    /// Bytes that are few, where so many are there.
    fn portion(&self, bytes: u64) -> u64 {
        (bytes.saturating_sub(self.before) / u64::from(SHARE)).max(LEAST_BYTES)
    }

    /// Bytes that are there.
    pub fn bytes(&self) -> u64 {
        self.inner().progress.done.bytes()
    }

    /// How far an archive has come, or what is made of one.
    pub fn mark(&self) -> Option<Mark> {
        self.inner().progress.marks[0].clone()
    }

    /// What is there of an archive can't be gone on with.
    pub fn forget(&self) {
        let mut inner = self.inner();
        let Progress { source, made, .. } = inner.progress;
        inner.progress = Progress {
            source,
            made,
            session: inner.progress.session,
            sequence: inner.progress.sequence,
            ..Progress::default()
        };
        (inner.synced, inner.written) = (0, (0, Instant::now()));
    }

    /// Where what has become so of the file from `start` on ends, in whole blocks, and no further than `end`.
    pub fn reaches(&self, part: Part, start: u64, end: u64) -> u64 {
        let reached = self.inner().of(part).end_from(start);
        if reached >= end {
            return end;
        }
        start.max(reached - reached % DIRECT_ALIGNMENT as u64)
    }

    /// A part of the file is there now, or proved: written down at once, or soon.
    pub fn enter(
        &self,
        file: BorrowedFd<'_>,
        (part, start, end): (Part, u64, u64),
        destination: usize,
        desk: &Desk,
    ) -> Result<(), Stopped> {
        self.entered(file, |inner| inner.of(part).insert(start, end), destination, desk)
    }

    /// Content comes that reaches up to `end`: where records lie, there are zeros then, and they move on, or are given up.
    pub fn make_room(&self, file: BorrowedFd<'_>, end: u64) -> sys::Result<()> {
        let mut inner = self.inner();
        if end <= inner.base {
            return Ok(());
        }
        // Of content that becomes a hole nothing is written there.
        sys::write_all_at(file, &ZEROS, inner.base)?;
        let further = progress::base(end.saturating_mul(2));
        let further = further.filter(|base| base + 2 * SLOT_BYTES <= sys::file_size_limit());
        inner.off |= further.is_none();
        inner.base = further.unwrap_or(u64::MAX);
        if !inner.off {
            inner.write(file);
        }
        Ok(())
    }

    /// An archive, or what is made of one, has come so far: written down as parts are. Another worker may have told more.
    pub fn reach(&self, file: BorrowedFd<'_>, mark: Mark, destination: usize, desk: &Desk) -> Result<(), Stopped> {
        self.entered(file, |inner| inner.reach(mark), destination, desk)
    }

    fn entered(
        &self,
        file: BorrowedFd<'_>,
        enter: impl FnOnce(&mut Inner),
        destination: usize,
        desk: &Desk,
    ) -> Result<(), Stopped> {
        let mut inner = self.inner();
        enter(&mut inner);
        if inner.off {
            return Ok(());
        }
        if self.lasting && !inner.syncing && inner.progress.done.bytes() - inner.synced >= DURABLE_BYTES {
            let seen = inner.seen();
            inner.syncing = true;
            drop(inner);
            let syncing = desk.syncing();
            // Told once: the sync in the end would not hear of it again.
            let side = Side::Destination(destination);
            sys::sync_data(file).map_err(|e| Fault::new(Operation::Sync, side, e))?;
            drop(syncing);
            inner = self.inner();
            inner.rely(seen);
            inner.syncing = false;
            inner.write(file);
            // What nobody reads after the power went is of no use.
            return match sys::finish_write_back(file, inner.base, 2 * SLOT_BYTES) {
                Ok(()) | Err(Errno::NOSYS | Errno::INVAL | Errno::NOTSUP) => Ok(()),
                Err(errno) => Err(Fault::new(Operation::Write, side, errno).into()),
            };
        }
        let bytes = all(&inner.progress);
        let wait = (self.begun.elapsed() / SHARE).min(LONGEST);
        if bytes - inner.written.0 >= self.portion(bytes) || inner.written.1.elapsed() >= wait {
            inner.write(file);
        }
        Ok(())
    }

    /// All that is there was synced.
    pub fn synced(&self, file: BorrowedFd<'_>) {
        let mut inner = self.inner();
        let seen = inner.seen();
        inner.rely(seen);
        if !inner.off {
            inner.write(file);
        }
    }

    /// Writes down what is there.
    pub fn save(&self, file: BorrowedFd<'_>) {
        let mut inner = self.inner();
        if !inner.off {
            inner.write(file);
        }
    }

    /// No record is written any more, and the room that they took is given back. An error: it can't be.
    pub fn give_up(&self, file: BorrowedFd<'_>, size: u64) -> sys::Result<()> {
        self.inner().off = true;
        sys::set_size(file, size)
    }
}

/// Where the records of a file of this size lie, if they are the last that it has.
fn last_of(file: BorrowedFd<'_>, size: u64) -> Option<u64> {
    let last = size.checked_sub(1)? / SLOT_BYTES * SLOT_BYTES;
    let mut place = vec![0; usize::try_from(SLOT_BYTES).ok()?];
    let length = sys::read_full_at(file, &mut place, last).ok()?;
    // One that is torn was the second, or the only one.
    let slot = progress::newest(&place[..length]).map_or(SLOT_BYTES, |record| record.slot());
    last.checked_sub(slot)
}

/// Bytes that are there, and that are proved.
fn all(progress: &Progress) -> u64 {
    progress.done.bytes() + progress.proved.bytes()
}

impl Inner {
    fn of(&mut self, part: Part) -> &mut Ranges {
        match part {
            Part::Done => &mut self.progress.done,
            Part::Proved => &mut self.progress.proved,
        }
    }

    fn reach(&mut self, mark: Mark) {
        let further = |last: &Mark| last.content < mark.content;
        if self.progress.marks[0].as_ref().is_none_or(further) {
            self.progress.done.insert(0, mark.content);
            self.progress.marks[0] = Some(mark);
        }
    }

    /// What is there, and how far an archive has come.
    fn seen(&self) -> (Ranges, Option<Mark>) {
        (self.progress.done.clone(), self.progress.marks[0].clone())
    }

    fn rely(&mut self, (synced, mark): (Ranges, Option<Mark>)) {
        let end = synced.end_from(0);
        if end >= self.progress.durable {
            (self.progress.durable, self.progress.marks[1]) = (end, mark);
        }
        self.synced = synced.bytes();
    }

    fn write(&mut self, file: BorrowedFd<'_>) {
        self.progress.sequence += 1;
        let record = self.progress.encode();
        self.off = sys::write_all_at(file, &record, self.base + self.progress.slot()).is_err();
        self.written = (all(&self.progress), Instant::now());
    }
}
