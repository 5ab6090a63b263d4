//! The gatherer: a [`Visitor`] that makes a record of each entry of a walk, hashes of files included, and sorts them.
//!
//! Comes in: the roots of a tree; goes out: sorters with a record of everything that was found. Files are read as they
//! come, by the thread that found them: opened, asked, read at the end, closed, and nothing else. What goes wrong gets
//! its outcome here; every other entry gets it from whoever takes its record out of the sort, so that a record that is
//! lost on the way is missed in the books.

use std::convert::Infallible;
use std::ffi::CStr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bulkhaul_formats::digest::{Xxh64, xxh64};
use bulkhaul_formats::lists::hpcp::{self, Form};
use bulkhaul_formats::lists::natural;
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow, Kind, Stat};

use crate::bytes::transfer::BUFFER_BYTES;
use crate::entry::{Details, Outcome, Reason};
use crate::error::{Cause, Failure, Fault, Operation, Refusal, Side};
use crate::job::desk::Desk;
use crate::records::record::{Record, path_key};
use crate::records::sort::{Sorter, Sorters};
use crate::report::counters::Counters;
use crate::tree::medium::has_sizes;
use crate::tree::metadata;
use crate::tree::path::{join, trim};
use crate::walk::node::{Entered, Node};
use crate::walk::start::Root;
use crate::walk::visitor::{Entries, Missed, Next, Visitor};

/// Block devices end with a whole one of these, most files do not.
const SECTOR_BYTES: u64 = 512;

/// How records are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As hpcp sorts lists of this form: by the natural order of the lines. What failed has no record.
    Lines(Form),
    /// By path, so that two sides meet. What failed has a record that says so.
    Paths,
}

/// What is to be found out of each entry.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Size, times, mode, owner.
    pub details: bool,
    /// Extended attributes, with the details.
    pub xattrs: bool,
    /// Bytes at the end of a file that are hashed; 0: none; `u64::MAX`: all.
    pub tail: u64,
    /// FIFOs, sockets and devices are entries; otherwise they are left out with a note.
    pub specials: bool,
    /// Order of the records.
    pub order: Order,
}

/// One walk's gatherer.
pub struct Gather<'g> {
    desk: &'g Desk,
    roots: &'g [Root],
    wanted: Wanted,
    sorters: &'g Sorters,
    full: Mutex<Vec<Sorter>>,
    broken: OnceLock<Errno>,
}

/// What a thread has for itself.
pub struct Hand<'g> {
    counters: &'g Counters,
    sorter: Sorter,
    content: Vec<u8>,
    key: Vec<u8>,
    payload: Vec<u8>,
    plain: Vec<u8>,
}

/// A directory on its way.
#[derive(Default)]
pub struct Entry {
    details: Option<Details>,
    /// Set where it could not be listed to its end.
    failed: OnceLock<Outcome>,
}

/// What was found out of an entry that is no directory.
struct Found {
    kind: Kind,
    hash: Option<u64>,
    target: Option<Vec<u8>>,
    details: Option<Details>,
}

/// What the keys of all entries of a directory begin with, made once.
#[derive(Default)]
struct Stem {
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

impl<'g> Gather<'g> {
    /// For a walk of these roots.
    pub fn new(desk: &'g Desk, roots: &'g [Root], wanted: Wanted, sorters: &'g Sorters) -> Self {
        Self {
            desk,
            roots,
            wanted,
            sorters,
            full: Mutex::default(),
            broken: OnceLock::new(),
        }
    }

    /// The sorters, after the walk.
    pub fn into_sorters(self) -> Result<Vec<Sorter>, Refusal> {
        match self.broken.get() {
            Some(errno) => Err(self.sorters.refusal(*errno)),
            None => Ok(self.full.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    fn push(&self, hand: &mut Hand<'_>, stem: &Stem, record: &Record<'_>) {
        match self.wanted.order {
            Order::Lines(form) => {
                if record.failed {
                    return;
                }
                hpcp::plain_line(record.path, &record.facts(), form, &mut hand.plain);
                hand.key.clone_from(&stem.key);
                natural::append_key(&hand.plain[stem.length..], &mut hand.key);
            }
            Order::Paths => path_key(record.path, &mut hand.key),
        }
        record.encode(&mut hand.payload);
        if self.broken.get().is_none()
            && let Err(errno) = hand.sorter.push(&hand.key, &hand.payload)
        {
            self.broken.get_or_init(|| errno);
            self.desk.cancel.drain();
        }
    }

    /// Something went wrong with an entry: its outcome, its failure, and its record.
    fn failed(&self, hand: &mut Hand<'_>, relative: &[u8], path: Vec<u8>, kind: Kind, fault: &Fault) {
        hand.counters.outcome(kind, fault.outcome(), None, 0);
        self.desk.fail(Failure::new(fault, path, kind, None));
        let failed = Record {
            failed: true,
            ..Record::new(relative, kind)
        };
        self.push(hand, &Stem::default(), &failed);
    }

    fn look(&self, hand: &mut Hand<'_>, at: BorrowedFd<'_>, name: &CStr, kind: Kind) -> Result<Found, Fault> {
        let mut found = Found {
            kind,
            hash: None,
            target: None,
            details: None,
        };
        match kind {
            Kind::File if self.wanted.tail > 0 => {
                let fd = sys::open_file(at, name).map_err(|e| match e {
                    // It was a file when it was listed.
                    Errno::LOOP => Fault::changed(Operation::Open),
                    e => fault(Operation::Open, e),
                })?;
                let size = self.size(hand, fd.as_fd(), &mut found)?;
                let (hash, length) = self.hash(hand, fd.as_fd(), size)?;
                found.hash = Some(hash);
                hand.counters.sized(length.saturating_sub(size), 0);
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

    /// Bytes of an open file, and its details where they are wanted.
    fn size(&self, hand: &mut Hand<'_>, fd: BorrowedFd<'_>, found: &mut Found) -> Result<u64, Fault> {
        // What only the end is wanted of is asked for nothing else; what may be no file any more is asked what it is. A
        // directory may have an end too, but cannot be read.
        if !self.wanted.details
            && let Ok(end) = sys::seek_end(fd)
            && end % SECTOR_BYTES != 0
        {
            hand.counters.sized(end, 0);
            return Ok(end);
        }
        let stat = sys::stat_fd(fd).map_err(|e| fault(Operation::Stat, e))?;
        Self::sized(hand, &stat, found.kind)?;
        if self.wanted.details {
            let xattrs = self.xattrs(hand, sys::Node::Open(fd))?;
            found.details = Some(Details::new(&stat, xattrs));
        }
        Ok(stat.size)
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
        metadata::xattr_digest(node, &mut hand.content, Side::Source)
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
            self.desk.pace.give_back((want - got) as u64);
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

    fn special(&self, hand: &Hand<'_>, kind: Kind, path: Vec<u8>) {
        hand.counters.outcome(kind, Outcome::Skipped, Some(Reason::Special), 0);
        let text = "FIFOs, sockets and devices are left out";
        self.desk.note("special", || (path, text.to_owned()));
    }
}

fn fault(operation: Operation, errno: Errno) -> Fault {
    Fault::new(operation, Side::Source, errno)
}

/// Reads as [`fill_to`].
fn read(fd: BorrowedFd<'_>, buffer: &mut [u8], enough: usize, offset: u64) -> Result<usize, Fault> {
    sys::read_enough_at(fd, buffer, enough, offset).map_err(|e| match e {
        // It was a file when it was listed.
        Errno::ISDIR => Fault::changed(Operation::Read),
        e => fault(Operation::Read, e),
    })
}

fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or(path)
}

impl<'g> Visitor for Gather<'g> {
    type Data = Entry;
    type Worker = Hand<'g>;
    type Task = Infallible;

    fn worker(&self, index: usize) -> Hand<'g> {
        Hand {
            counters: &self.desk.counters[index],
            sorter: self.sorters.sorter(),
            content: vec![0; BUFFER_BYTES],
            key: Vec::new(),
            payload: Vec::new(),
            plain: Vec::new(),
        }
    }

    fn finish(&self, mut hand: Hand<'g>) {
        hand.sorter.sort();
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        full.push(hand.sorter);
    }

    fn enter(&self, hand: &mut Hand<'g>, entered: &Entered<'_, Entry>) -> Option<Entry> {
        let details = if self.wanted.details {
            match self.xattrs(hand, sys::Node::Open(entered.fd)) {
                Ok(xattrs) => Some(Details::new(entered.stat, xattrs)),
                Err(fault) => {
                    self.failed(hand, &entered.relative_path(), entered.path(), Kind::Directory, &fault);
                    return None;
                }
            }
        } else {
            None
        };
        Some(Entry {
            details,
            failed: OnceLock::new(),
        })
    }

    fn entries(&self, hand: &mut Hand<'g>, at: BorrowedFd<'_>, entries: &mut Entries<'_, Self>) {
        let (mut relative, path) = (entries.node().relative_path(), entries.node().path());
        if !relative.is_empty() {
            relative.push(b'/');
        }
        let base = relative.len();
        let stem = Stem::new(&relative, self.wanted.order);
        while let Some((name, kind)) = entries.next() {
            relative.truncate(base);
            relative.extend_from_slice(name.to_bytes());
            if !matches!(kind, Kind::File | Kind::Symlink) && !self.wanted.specials {
                self.special(hand, kind, join(&path, name.to_bytes()));
                continue;
            }
            match self.look(hand, at, name, kind) {
                Ok(found) => {
                    let record = Record {
                        path: &relative,
                        kind: found.kind,
                        failed: false,
                        hash: found.hash,
                        target: found.target.as_deref(),
                        details: found.details,
                    };
                    self.push(hand, &stem, &record);
                }
                Err(fault) => self.failed(hand, &relative, join(&path, name.to_bytes()), kind, &fault),
            }
        }
    }

    fn leave(&self, hand: &mut Hand<'g>, node: &Arc<Node<Entry>>) -> Next {
        let failed = node.failed.get();
        if let Some(outcome) = failed {
            hand.counters.outcome(Kind::Directory, *outcome, None, 0);
        }
        let path = node.relative_path();
        let record = Record {
            failed: failed.is_some(),
            details: node.details,
            ..Record::new(&path, Kind::Directory)
        };
        self.push(hand, &Stem::default(), &record);
        Next::Up
    }

    fn fault(&self, hand: &mut Hand<'g>, missed: &Missed<'_, Entry>, kind: Kind, fault: &Fault) {
        let path = missed.path();
        let relative = match missed.parent.filter(|node| node.data().is_some()) {
            Some(node) => join(&node.relative_path(), base_name(&path)),
            // An argument.
            None if self.roots.iter().any(|root| root.contents && trim(&root.path) == path) => Vec::new(),
            None => base_name(&path).to_vec(),
        };
        if fault.cause == Cause::Errno(Errno::XDEV) {
            hand.counters
                .outcome(kind, Outcome::Skipped, Some(Reason::OtherFileSystem), 0);
            let beyond = Record {
                failed: true,
                ..Record::new(&relative, kind)
            };
            self.push(hand, &Stem::default(), &beyond);
        } else {
            self.failed(hand, &relative, path, kind, fault);
        }
    }

    fn unlisted(&self, _hand: &mut Hand<'g>, node: &Arc<Node<Entry>>, source: usize, errno: Errno) {
        let fault = fault(Operation::List, errno);
        node.failed.get_or_init(|| fault.outcome());
        self.desk
            .fail(Failure::new(&fault, node.source_path(source), Kind::Directory, None));
    }
}
