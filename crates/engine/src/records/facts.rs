//! What lists and comparisons want of an entry: the [`Look`] of a [`Gather`](crate::records::gather::Gather) that makes
//! [`Record`]s, with hashes of the ends of files.
//!
//! Comes in: what is to be found out, and in which order, and perhaps what a run that died has hashed; goes out: a record of
//! each entry. Files are read as they come, by the thread that found them: opened, asked, read at the end, closed, and nothing
//! else.

use std::ffi::CStr;
use std::sync::Arc;

use bulkhaul_formats::digest::{TAIL_BYTES, Xxh64, xxh64};
use bulkhaul_formats::lists::hpcp::{self, Form};
use bulkhaul_formats::lists::natural;
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow, Identity, Kind, Stat};

use crate::bytes::transfer::BUFFER_BYTES;
use crate::entry::{Details, Reason};
use crate::error::{Cause, Fault, Operation, Side};
use crate::job::desk::Desk;
use crate::records::gather::{self, Look, Missing};
use crate::records::pieces::{Piece, Pieces, is_settled};
use crate::records::record::{Record, path_key};
use crate::records::sort::Sorters;
use crate::tree::medium::has_sizes;
use crate::tree::metadata;
use crate::walk::node::Entered;

/// Block devices end with a whole one of these, most files do not.
const SECTOR_BYTES: u64 = 512;

/// How records are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As hpcp sorts lists of this form: by the natural order of the lines. What failed has no record.
    Lines(Form),
    /// By path, so that two sides meet. What failed has a record that says so.
    Paths,
    /// The same by the bytes of the path, of a directory with a slash after it, as object stores list keys.
    Keys,
}

/// The key that an object store would list an entry by.
fn key_of_store(record: &Record<'_>, key: &mut Vec<u8>) {
    key.clear();
    key.extend_from_slice(record.path);
    if record.kind == Kind::Directory {
        key.push(b'/');
    }
}

/// What is to be found out of each entry.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is asked for by itself")]
pub struct Wanted {
    /// Size, times, mode, owner.
    pub details: bool,
    /// Extended attributes, with the details.
    pub xattrs: bool,
    /// Of those only what hpcp's change lists know.
    pub portable: bool,
    /// Bytes at the end of a file that are hashed; 0: none; `u64::MAX`: all.
    pub tail: u64,
    /// FIFOs, sockets and devices are entries; otherwise they are left out with a note.
    pub specials: bool,
    /// Order of the records.
    pub order: Order,
}

/// What was found out of an entry that is no directory.
pub struct Found {
    kind: Kind,
    hash: Option<u64>,
    target: Option<Vec<u8>>,
    details: Option<Details>,
}

impl Found {
    /// Nothing is known of it but what it is.
    fn of(kind: Kind) -> Self {
        Self {
            kind,
            hash: None,
            target: None,
            details: None,
        }
    }
}

/// What the keys of all entries of a directory begin with, made once.
#[derive(Default)]
pub struct Stem {
    key: Vec<u8>,
    /// So many bytes of a path it stands for.
    length: usize,
}

impl Stem {
    /// For paths that begin so: with nothing, or with a directory and its slash.
    fn new(beginning: &[u8], order: Order) -> Self {
        let mut stem = Self::default();
        if let Order::Lines(_) = order {
            natural::append_stem(beginning, &mut stem.key);
            stem.length = beginning.len();
        }
        stem
    }
}

/// Finds out what is wanted.
pub struct FactFinder<'f> {
    desk: &'f Desk,
    wanted: Wanted,
    /// What the job has hashed, and an earlier run of it, and which of its trees these are.
    finished: Option<(&'f Pieces, u8)>,
}

type Hand<'h> = gather::Hand<'h, Vec<u8>>;

impl<'f> FactFinder<'f> {
    /// For one run.
    pub fn new(desk: &'f Desk, wanted: Wanted) -> Self {
        Self {
            desk,
            wanted,
            finished: None,
        }
    }

    /// The same, of which a run that dies is gone on with; `side`: which trees of the job these are.
    #[must_use]
    pub fn going_on(self, pieces: Option<&'f Pieces>, side: u8) -> Self {
        let finished = pieces.map(|pieces| (pieces, side));
        Self { finished, ..self }
    }

    fn find(
        &self,
        hand: &mut Hand<'_>,
        at: BorrowedFd<'_>,
        (name, path): (&CStr, &[u8]),
        kind: Kind,
    ) -> Result<Found, Fault> {
        let mut found = Found::of(kind);
        match kind {
            Kind::File if self.wanted.tail > 0 => {
                let fd = sys::open_file(at, name).map_err(|e| match e {
                    // It was a file when it was listed.
                    Errno::LOOP => Fault::changed(Operation::Open),
                    e => fault(Operation::Open, e),
                })?;
                let (size, stat) = self.size(hand, fd.as_fd(), &mut found)?;
                let finished = self.finished.zip(stat);
                let finished = finished.map(|((pieces, side), stat)| (pieces, self.piece_of(path, &stat, side), stat));
                if let Some((pieces, piece, _)) = &finished
                    && let Some(hash) = pieces.find(piece).and_then(|hash| hash.try_into().ok())
                {
                    hand.counters.resumes();
                    hand.counters.resumed(size.min(self.wanted.tail));
                    found.hash = Some(u64::from_le_bytes(hash));
                    return Ok(found);
                }
                let (hash, length) = self.hash(hand, fd.as_fd(), size)?;
                found.hash = Some(hash);
                // What was given up has no hash.
                if let Some((pieces, piece, stat)) = &finished
                    && (size, length) == (stat.size, size)
                    && size > 0
                    && is_settled(stat.ctime)
                    && !self.desk.cancel.is_draining()
                {
                    pieces.add(piece, &hash.to_le_bytes(), size.min(self.wanted.tail));
                }
                hand.counters.grew(size, length.saturating_sub(size));
                found.details = found.details.map(|details| Details {
                    size: length,
                    ..details
                });
                return Ok(found);
            }
            Kind::Symlink => {
                let target = sys::read_link(at, name).map_err(|e| match e {
                    Errno::INVAL => Fault::changed(Operation::Read),
                    e => fault(Operation::Read, e),
                })?;
                found.target = Some(target.into_bytes());
            }
            _ => {}
        }
        if self.wanted.details {
            let stat = sys::stat(at, name, Follow::No).map_err(|e| fault(Operation::Stat, e))?;
            Self::sized(hand, &stat, kind)?;
            let xattrs = if self.wanted.xattrs {
                let node = sys::open_node(at, name).map_err(|e| fault(Operation::Open, e))?;
                self.xattrs(hand, sys::Node::Path(node.as_fd()))?
            } else {
                0
            };
            found.details = Some(Details::new(&stat, xattrs));
        }
        Ok(found)
    }

    /// The hash of a file's end.
    fn piece_of(&self, path: &[u8], stat: &Stat, side: u8) -> Piece {
        let of = [&[side][..], &self.wanted.tail.to_le_bytes()].concat();
        Piece::content(path, stat, &of)
    }

    /// Bytes of an open file, its details where they are wanted, and what tells whether it changes where that was asked.
    fn size(&self, hand: &mut Hand<'_>, fd: BorrowedFd<'_>, found: &mut Found) -> Result<(u64, Option<Stat>), Fault> {
        // What only the end is wanted of is asked for nothing else; what may be no file any more is asked what it is. A
        // directory may have an end too, but cannot be read.
        if !self.wanted.details
            && self.finished.is_none()
            && let Ok(end) = sys::seek_end(fd)
            && end % SECTOR_BYTES != 0
        {
            hand.counters.sized(end, 0);
            return Ok((end, None));
        }
        let stat = sys::stat_fd(fd).map_err(|e| fault(Operation::Stat, e))?;
        Self::sized(hand, &stat, found.kind)?;
        if self.wanted.details {
            let xattrs = self.xattrs(hand, sys::Node::Open(fd))?;
            found.details = Some(Details::new(&stat, xattrs));
        }
        Ok((stat.size, Some(stat)))
    }

    /// It is still what it was when it was listed.
    fn sized(hand: &Hand<'_>, stat: &Stat, kind: Kind) -> Result<(), Fault> {
        if stat.kind != kind {
            return Err(Fault::changed(Operation::Stat));
        }
        if kind == Kind::File {
            hand.counters.sized(stat.size, stat.allocated);
        }
        Ok(())
    }

    fn xattrs(&self, hand: &mut Hand<'_>, node: sys::Node<'_>) -> Result<u64, Fault> {
        if !self.wanted.xattrs {
            return Ok(0);
        }
        metadata::xattr_digest(node, &mut hand.content, self.wanted.portable, Side::Source)
    }

    /// The hash of a file's last bytes, and how many it has: as many as its size says, but where sizes say nothing.
    fn hash(&self, hand: &mut Hand<'_>, fd: BorrowedFd<'_>, size: u64) -> Result<(u64, u64), Fault> {
        if size == 0 {
            return self.hash_to_the_end(hand, fd);
        }
        match self.hash_tail(hand, fd, size) {
            Err(Fault {
                cause: Cause::Size { .. },
                ..
            }) if !has_sizes(fd) => self.hash_to_the_end(hand, fd),
            hash => Ok((hash?, size)),
        }
    }

    /// The hash of the last bytes of a file of this size.
    fn hash_tail(&self, hand: &mut Hand<'_>, fd: BorrowedFd<'_>, size: u64) -> Result<u64, Fault> {
        let length = size.min(self.wanted.tail);
        let mut offset = size - length;
        let mut state = Xxh64::new();
        while let Some(want) = self.piece(size - offset) {
            let last = offset + want as u64 == size && want < BUFFER_BYTES;
            // One byte more than there should be tells whether there is.
            let buffer = &mut hand.content[..want + usize::from(last)];
            let got = read(fd, buffer, want, offset)?;
            if got != want {
                return Err(Fault::size(Side::Source, size, offset + got as u64));
            }
            if last && want as u64 == length {
                // One call of the hash's short form.
                return Ok(xxh64(&buffer[..want]));
            }
            state.update(&buffer[..want]);
            offset += want as u64;
            if last {
                break;
            }
        }
        Ok(state.digest())
    }

    /// The same of a file whose size says nothing, and where it ends.
    fn hash_to_the_end(&self, hand: &mut Hand<'_>, fd: BorrowedFd<'_>) -> Result<(u64, u64), Fault> {
        let mut start = 0;
        if self.wanted.tail < u64::MAX {
            let end = self.read_on(hand, fd, 0, |_| ())?;
            if end == 0 {
                return Ok((xxh64(&[]), 0));
            }
            start = end.saturating_sub(self.wanted.tail);
        }
        let mut state = Xxh64::new();
        let end = self.read_on(hand, fd, start, |bytes| state.update(bytes))?;
        Ok((state.digest(), end))
    }

    /// Reads from `at` on to the end; answers where that was.
    fn read_on(
        &self,
        hand: &mut Hand<'_>,
        fd: BorrowedFd<'_>,
        mut at: u64,
        mut take: impl FnMut(&[u8]),
    ) -> Result<u64, Fault> {
        while let Some(want) = self.piece(u64::MAX) {
            let got = read(fd, &mut hand.content[..want], want, at)?;
            self.desk.read_less((want - got) as u64);
            take(&hand.content[..got]);
            at += got as u64;
            if got < want {
                break;
            }
        }
        Ok(at)
    }

    /// Bytes that are to be read next, of `rest`. None: the run was given up, and nobody gets a list of it.
    fn piece(&self, rest: u64) -> Option<usize> {
        let piece = self.desk.pace.piece(BUFFER_BYTES as u64).min(rest);
        self.desk.may_read(piece).ok()?;
        Some(usize::try_from(piece).unwrap_or(BUFFER_BYTES))
    }
}

fn fault(operation: Operation, errno: Errno) -> Fault {
    Fault::new(operation, Side::Source, errno)
}

/// What a job has hashed of its trees, by a log at this path, where each file has so much to be read that it is worth its
/// record.
pub fn hashed(path: Option<&[u8]>, tail: u64, sorters: &Sorters, desk: &Arc<Desk>) -> Option<Pieces> {
    let path = path.filter(|_| tail > TAIL_BYTES)?;
    Some(Pieces::open(path, (b"xxh64", 8), sorters, desk))
}

/// Reads as [`fill_to`].
fn read(fd: BorrowedFd<'_>, buffer: &mut [u8], enough: usize, offset: u64) -> Result<usize, Fault> {
    sys::read_enough_at(fd, buffer, enough, offset).map_err(|e| match e {
        // It was a file when it was listed.
        Errno::ISDIR => Fault::changed(Operation::Read),
        e => fault(Operation::Read, e),
    })
}

impl Look for FactFinder<'_> {
    type Directory = Option<Details>;
    type Found = Found;
    /// Room for a line.
    type Own = Vec<u8>;
    type Stem = Stem;

    fn own(&self) -> Vec<u8> {
        Vec::new()
    }

    fn leaves_out(&self, _directory: Identity, _name: &CStr, kind: Kind) -> Option<Reason> {
        let special = !matches!(kind, Kind::File | Kind::Symlink | Kind::Directory);
        (special && !self.wanted.specials).then_some(Reason::Special)
    }

    fn enter(
        &self,
        hand: &mut Hand<'_>,
        entered: &Entered<'_, gather::Directory<Option<Details>>>,
    ) -> Result<Option<Details>, Missing> {
        if !self.wanted.details {
            return Ok(None);
        }
        let xattrs = self.xattrs(hand, sys::Node::Open(entered.fd))?;
        Ok(Some(Details::new(entered.stat, xattrs)))
    }

    fn stem(&self, beginning: &[u8]) -> Stem {
        Stem::new(beginning, self.wanted.order)
    }

    fn look(
        &self,
        hand: &mut Hand<'_>,
        at: BorrowedFd<'_>,
        named: (&CStr, &[u8]),
        kind: Kind,
    ) -> Result<Found, Missing> {
        Ok(self.find(hand, at, named, kind)?)
    }

    fn leave(&self, details: &Option<Details>) -> Result<Found, Missing> {
        Ok(Found {
            details: *details,
            ..Found::of(Kind::Directory)
        })
    }

    fn record(
        &self,
        hand: &mut Hand<'_>,
        (stem, path): (&Stem, &[u8]),
        _: Kind,
        found: Found,
    ) -> Result<Option<Fault>, Fault> {
        let record = Record {
            path,
            kind: found.kind,
            failed: false,
            hash: found.hash,
            target: found.target.as_deref(),
            details: found.details,
        };
        match self.wanted.order {
            Order::Lines(form) => {
                hpcp::plain_line(record.path, &record.facts(), form, &mut hand.own);
                hand.key.clone_from(&stem.key);
                natural::append_key(&hand.own[stem.length..], &mut hand.key);
            }
            Order::Paths => path_key(record.path, &mut hand.key),
            Order::Keys => key_of_store(&record, &mut hand.key),
        }
        record.encode(&mut hand.payload);
        Ok(None)
    }

    fn record_failed(&self, hand: &mut Hand<'_>, path: &[u8], kind: Kind) -> bool {
        let failed = Record {
            failed: true,
            ..Record::new(path, kind)
        };
        match self.wanted.order {
            Order::Lines(_) => return false,
            Order::Paths => path_key(path, &mut hand.key),
            Order::Keys => key_of_store(&failed, &mut hand.key),
        }
        failed.encode(&mut hand.payload);
        true
    }
}
