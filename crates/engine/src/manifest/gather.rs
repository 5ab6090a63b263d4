//! The gatherer: a [`Visitor`] that makes an entry of all that a manifest has of a walk, digests of files included, and
//! sorts them by the bytes of their paths.
//!
//! Comes in: what of each entry is wanted; goes out: sorters with a record of everything that can be written. Files are read
//! as they come, by the thread that found them. What goes wrong, and what is left out, gets its outcome here; every other
//! entry gets it from whoever takes its record out of the sort.

use std::convert::Infallible;
use std::ffi::CStr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bulkhaul_formats::digest::{Algorithm, Hashers};
use bulkhaul_formats::manifest::{Entry, Writer};
use bulkhaul_formats::staging;
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow, Identity, Kind, Stat, Time};

use crate::bytes::digests::digests;
use crate::bytes::transfer::BUFFER_BYTES;
use crate::entry::{Outcome, Reason};
use crate::error::{Cause, Failure, Fault, Operation, Refusal, Side, Stopped};
use crate::job::desk::Desk;
use crate::records::entry::{self, Links};
use crate::records::sort::{Sorter, Sorters};
use crate::report::counters::Counters;
use crate::tree::in_use::{InUse, Place};
use crate::tree::path::join;
use crate::walk::node::{Entered, Node};
use crate::walk::visitor::{Entries, Missed, Next, Visitor};

/// What of a walk comes into a manifest.
pub struct Wanted<'g> {
    /// Of each file.
    pub algorithms: &'g [Algorithm],
    /// Whether an entry can be written.
    pub writer: &'g Writer,
    /// Entries of all kinds; otherwise regular files only.
    pub all_kinds: bool,
    /// What the run itself uses, which is left out.
    pub in_use: InUse,
    /// Where the manifest will be, by its directory and its name: an older one is left out.
    pub output: Option<Place>,
}

/// One walk's gatherer.
pub struct Gather<'g> {
    desk: &'g Desk,
    wanted: Wanted<'g>,
    sorters: &'g Sorters,
    full: Mutex<Vec<Sorter>>,
    broken: OnceLock<Errno>,
}

/// What a thread has for itself.
pub struct Hand<'g> {
    counters: &'g Counters,
    sorter: Sorter,
    hashers: Hashers,
    content: Vec<u8>,
    payload: Vec<u8>,
    line: Vec<u8>,
}

/// A directory on its way.
#[derive(Default)]
pub struct Directory {
    /// What the manifest says of it, where it says something.
    entry: Option<Entry>,
    /// Set where it could not be listed to its end.
    failed: OnceLock<Outcome>,
}

impl<'g> Gather<'g> {
    /// For one walk.
    pub fn new(desk: &'g Desk, wanted: Wanted<'g>, sorters: &'g Sorters) -> Self {
        Self {
            desk,
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

    /// Keeps an entry that was found at `path`, if it can be written.
    fn push(&self, hand: &mut Hand<'_>, path: impl FnOnce() -> Vec<u8>, kind: Kind, (entry, links): &Found) {
        hand.line.clear();
        if let Err(why) = self.wanted.writer.entry(entry, &mut hand.line) {
            let cause = Cause::Unwritable(why.to_string());
            let fault = Fault {
                operation: Operation::Write,
                side: Side::Source,
                cause,
            };
            return self.failed(hand, path(), kind, &fault);
        }
        hand.payload.clear();
        entry::encode(entry, *links, &mut hand.payload);
        if self.broken.get().is_none()
            && let Err(errno) = hand.sorter.push(&entry.path, &hand.payload)
        {
            self.broken.get_or_init(|| errno);
            self.desk.cancel.drain();
        }
    }

    /// Something went wrong with an entry: its outcome and its failure.
    fn failed(&self, hand: &Hand<'_>, path: Vec<u8>, kind: Kind, fault: &Fault) {
        hand.counters.outcome(kind, fault.outcome(), None, 0);
        self.desk.fail(Failure::new(fault, path, kind, None));
    }

    /// Why a name is left out whatever has it.
    fn unwanted(&self, directory: Identity, name: &CStr) -> Option<Reason> {
        let is_one = |(parent, own): &Place| *parent == directory && **own == *name;
        if self.wanted.output.as_ref().is_some_and(is_one) || self.wanted.in_use.awaits(directory, name) {
            return Some(Reason::InUse);
        }
        staging::parse(name.to_bytes()).map(|_| Reason::StagingName)
    }

    /// What is to be known of an entry that is no directory; none where the run was told to stop.
    fn look(&self, hand: &mut Hand<'_>, at: BorrowedFd<'_>, name: &CStr, kind: Kind) -> Result<Found, Missing> {
        if kind != Kind::File {
            if !self.wanted.all_kinds {
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
            return Ok(found);
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
        let (digests, bytes) = digests((file.as_fd(), &stat), &mut hand.hashers, run, &mut hand.content)?;
        // Where sizes say nothing it is more than was stated.
        hand.counters.sized(bytes.saturating_sub(stat.size), 0);
        (found.0.digests, found.0.size) = (digests, Some(bytes));
        Ok(found)
    }

    /// An entry with what `stat` says of it, without its path. An error where it is not what it was when it was listed, or is
    /// left out.
    fn found(&self, stat: &Stat, kind: Kind) -> Result<Found, Missing> {
        if stat.kind != kind {
            return Err(Fault::changed(Operation::Stat).into());
        }
        if self.wanted.in_use.has(stat.id) {
            return Err(Missing::Skipped(Reason::InUse));
        }
        let links = Links {
            inode: stat.id,
            number: stat.nlink,
        };
        let several = kind != Kind::Directory && stat.nlink > 1;
        Ok((entry_of(stat), several.then_some(links)))
    }
}

/// An entry, and its inode where that has several links.
type Found = (Entry, Option<Links>);

/// Why there is no entry of what was found.
enum Missing {
    /// It is left out.
    Skipped(Reason),
    /// It can't be had.
    Fault(Fault),
    /// Nobody wants it any more.
    Stopped,
}

impl From<Fault> for Missing {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Stopped> for Missing {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Fault(fault) => Self::Fault(fault),
            Stopped::Aborted => Self::Stopped,
        }
    }
}

fn fault(operation: Operation, errno: Errno) -> Fault {
    Fault::new(operation, Side::Source, errno)
}

fn nanoseconds(time: Time) -> i128 {
    i128::from(time.sec) * 1_000_000_000 + i128::from(time.nsec)
}

/// What `stat` says, as manifests have it.
fn entry_of(stat: &Stat) -> Entry {
    let content = matches!(stat.kind, Kind::File | Kind::Symlink);
    Entry {
        kind: Some(entry::listed_kind(stat.kind)),
        size: Some(if content { stat.size } else { 0 }),
        mtime: Some(nanoseconds(stat.mtime)),
        ctime: Some(nanoseconds(stat.ctime)),
        mode: Some(stat.mode),
        uid: Some(stat.uid),
        gid: Some(stat.gid),
        ..Entry::default()
    }
}

impl<'g> Visitor for Gather<'g> {
    type Data = Directory;
    type Worker = Hand<'g>;
    type Task = Infallible;

    fn worker(&self, index: usize) -> Hand<'g> {
        Hand {
            counters: &self.desk.counters[index],
            sorter: self.sorters.sorter(),
            hashers: Hashers::new(self.wanted.algorithms),
            content: vec![0; BUFFER_BYTES],
            payload: Vec::new(),
            line: Vec::new(),
        }
    }

    fn finish(&self, mut hand: Hand<'g>) {
        hand.sorter.sort();
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        full.push(hand.sorter);
    }

    fn enter(&self, hand: &mut Hand<'g>, entered: &Entered<'_, Directory>) -> Option<Directory> {
        // What was named is taken, whatever it is called.
        let unwanted = if entered.root.is_some() {
            None
        } else {
            self.unwanted(entered.parent.id(), entered.name)
        };
        let in_use = self.wanted.in_use.has(entered.stat.id);
        let in_use = in_use.then_some(Reason::InUse);
        if let Some(reason) = in_use.or(unwanted) {
            hand.counters
                .outcome(Kind::Directory, Outcome::Skipped, Some(reason), 0);
            return None;
        }
        let path = entered.relative_path();
        // What stands for what is in it has no name.
        let mut entry = (self.wanted.all_kinds && !path.is_empty()).then(|| Entry {
            path,
            ..entry_of(entered.stat)
        });
        // Its times change with every manifest that is written there.
        let holds = |output: &Place| output.0 == entered.stat.id;
        if let Some(entry) = &mut entry
            && self.wanted.output.as_ref().is_some_and(holds)
        {
            (entry.mtime, entry.ctime) = (None, None);
        }
        Some(Directory {
            entry,
            failed: OnceLock::new(),
        })
    }

    fn entries(&self, hand: &mut Hand<'g>, at: BorrowedFd<'_>, entries: &mut Entries<'_, Self>) {
        let node = entries.node();
        let mut relative = node.relative_path();
        if !relative.is_empty() {
            relative.push(b'/');
        }
        while let Some((name, kind)) = entries.next() {
            let found = match self.unwanted(node.id(), name) {
                Some(reason) => Err(Missing::Skipped(reason)),
                None => self.look(hand, at, name, kind),
            };
            let path = || join(&node.path(), name.to_bytes());
            match found {
                Ok(mut found) => {
                    found.0.path = [&relative, name.to_bytes()].concat();
                    self.push(hand, path, kind, &found);
                }
                Err(Missing::Skipped(reason)) => hand.counters.outcome(kind, Outcome::Skipped, Some(reason), 0),
                Err(Missing::Fault(fault)) => self.failed(hand, path(), kind, &fault),
                Err(Missing::Stopped) => return,
            }
        }
    }

    fn leave(&self, hand: &mut Hand<'g>, node: &Arc<Node<Directory>>) -> Next {
        if let Some(outcome) = node.failed.get() {
            hand.counters.outcome(Kind::Directory, *outcome, None, 0);
        } else if let Some(entry) = &node.entry {
            self.push(hand, || node.path(), Kind::Directory, &(entry.clone(), None));
        } else {
            hand.counters
                .outcome(Kind::Directory, Outcome::Skipped, Some(Reason::NotAFile), 0);
        }
        Next::Up
    }

    fn fault(&self, hand: &mut Hand<'g>, missed: &Missed<'_, Directory>, kind: Kind, fault: &Fault) {
        if fault.cause == Cause::Errno(Errno::XDEV) {
            hand.counters
                .outcome(kind, Outcome::Skipped, Some(Reason::OtherFileSystem), 0);
        } else {
            self.failed(hand, missed.path(), kind, fault);
        }
    }

    fn unlisted(&self, _hand: &mut Hand<'g>, node: &Arc<Node<Directory>>, source: usize, errno: Errno) {
        let fault = fault(Operation::List, errno);
        node.failed.get_or_init(|| fault.outcome());
        self.desk
            .fail(Failure::new(&fault, node.source_path(source), Kind::Directory, None));
    }
}
