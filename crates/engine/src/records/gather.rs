//! The gatherer: a [`Visitor`] that makes a record of each entry of a walk, and sorts them.
//!
//! Comes in: the roots of a tree, and a [`Look`], which knows what is wanted of an entry and how a record has it; goes out:
//! the records of everything that was found, in their order. What goes wrong, and what is left out, gets its outcome here;
//! every other entry gets it from whoever takes its record out of the sort, so that a record that is lost on the way is
//! missed in the books.

use std::convert::Infallible;
use std::ffi::CStr;
use std::sync::{Arc, OnceLock};

use bulkhaul_sys::{BorrowedFd, Errno, Identity, Kind};

use crate::bytes::transfer::BUFFER_BYTES;
use crate::entry::{Outcome, Reason};
use crate::error::{Cause, Failure, Fault, Operation, Refusal, Side, Stopped};
use crate::job::desk::Desk;
use crate::records::intake::Intake;
use crate::records::sort::{Sorted, Sorter, Sorters};
use crate::report::counters::Counters;
use crate::tree::path::{join, trim};
use crate::walk::node::{Entered, Node};
use crate::walk::start::Root;
use crate::walk::visitor::{Entries, Missed, Next, Visitor};

/// What is wanted of each entry, and how a record has it.
pub trait Look: Sync {
    /// What is known of a directory until all in it is done.
    type Directory: Default + Send + Sync;
    /// What is known of any entry when it was looked at.
    type Found;
    /// What a thread has for itself.
    type Own: Send;
    /// What is made once for all entries of a directory.
    type Stem;

    /// For a new thread.
    fn own(&self) -> Self::Own;

    /// Why a name in a directory is left out, whatever is in it.
    fn leaves_out(&self, directory: Identity, name: &CStr, kind: Kind) -> Option<Reason>;

    /// Looks at a directory that was opened.
    fn enter(
        &self,
        hand: &mut Hand<'_, Self::Own>,
        entered: &Entered<'_, Directory<Self::Directory>>,
    ) -> Result<Self::Directory, Missing>;

    /// For entries whose paths begin with this: nothing, or a directory and its slash.
    fn stem(&self, beginning: &[u8]) -> Self::Stem;

    /// Looks at an entry that is no directory, by its name in one, and its path below the root.
    fn look(
        &self,
        hand: &mut Hand<'_, Self::Own>,
        at: BorrowedFd<'_>,
        place: (&CStr, &[u8]),
        kind: Kind,
    ) -> Result<Self::Found, Missing>;

    /// What is known of a directory when all in it is done.
    fn leave(&self, directory: &Self::Directory) -> Result<Self::Found, Missing>;

    /// Writes the record of an entry into the hand's key and payload. It may have one though something is wrong with it.
    fn record(
        &self,
        hand: &mut Hand<'_, Self::Own>,
        place: (&Self::Stem, &[u8]),
        kind: Kind,
        found: Self::Found,
    ) -> Result<Option<Fault>, Fault>;

    /// The same of one that failed. False: it has none.
    fn record_failed(&self, hand: &mut Hand<'_, Self::Own>, path: &[u8], kind: Kind) -> bool;
}

/// Why there is nothing of what was found.
pub enum Missing {
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

/// One walk's gatherer.
pub struct Gather<'g, L> {
    desk: &'g Desk,
    roots: &'g [Root],
    look: L,
    intake: Intake,
}

/// What a thread has in hand.
pub struct Hand<'g, Own> {
    /// Its counters.
    pub counters: &'g Counters,
    sorter: Sorter,
    /// Room for content.
    pub content: Vec<u8>,
    /// The key of a record.
    pub key: Vec<u8>,
    /// The rest of it.
    pub payload: Vec<u8>,
    /// What the look needs.
    pub own: Own,
}

/// A directory on its way.
#[derive(Default)]
pub struct Directory<D> {
    kept: D,
    /// Set where it could not be listed to its end.
    failed: OnceLock<Outcome>,
}

impl<'g, L: Look> Gather<'g, L> {
    /// For a walk of these roots.
    pub fn new(desk: &'g Desk, roots: &'g [Root], look: L, sorters: &Sorters) -> Self {
        Self {
            desk,
            roots,
            look,
            intake: Intake::new(sorters),
        }
    }

    /// All records, after the walk.
    pub fn sorted(self) -> Result<Sorted, Refusal> {
        self.intake.sorted()
    }

    fn push(&self, hand: &mut Hand<'g, L::Own>) {
        let record = (&hand.key[..], &hand.payload[..]);
        if !self.intake.push(&mut hand.sorter, record) {
            // Nothing comes of it any more.
            self.desk.cancel.drain();
        }
    }

    /// The end of an entry's way here. `path`: its own, and below the root.
    fn settle(
        &self,
        hand: &mut Hand<'g, L::Own>,
        (path, relative): (impl FnOnce() -> Vec<u8>, &[u8]),
        (stem, kind): (&L::Stem, Kind),
        found: Result<L::Found, Missing>,
    ) {
        let kept = found.and_then(|found| Ok(self.look.record(hand, (stem, relative), kind, found)?));
        match kept {
            Ok(None) => self.push(hand),
            Ok(Some(fault)) => {
                self.push(hand);
                self.fault_of(hand, path(), kind, &fault);
            }
            Err(Missing::Skipped(reason)) => {
                hand.counters.outcome(kind, Outcome::Skipped, Some(reason), 0);
                if reason == Reason::Special {
                    let text = "FIFOs, sockets and devices are left out";
                    self.desk.note("special", || (path(), text.to_owned()));
                }
            }
            Err(Missing::Fault(fault)) => self.failed(hand, relative, path(), kind, &fault),
            // No outcome: the run is reported as interrupted.
            Err(Missing::Stopped) => {}
        }
    }

    /// Something went wrong with an entry: its outcome, its failure, and its record.
    fn failed(&self, hand: &mut Hand<'g, L::Own>, relative: &[u8], path: Vec<u8>, kind: Kind, fault: &Fault) {
        self.fault_of(hand, path, kind, fault);
        self.lost(hand, relative, kind);
    }

    fn fault_of(&self, hand: &Hand<'g, L::Own>, path: Vec<u8>, kind: Kind, fault: &Fault) {
        hand.counters.outcome(kind, fault.outcome(), None, 0);
        self.desk.fail(Failure::new(fault, path, kind, None));
    }

    /// The record of an entry of which nothing is known for sure.
    fn lost(&self, hand: &mut Hand<'g, L::Own>, relative: &[u8], kind: Kind) {
        if self.look.record_failed(hand, relative, kind) {
            self.push(hand);
        }
    }
}

fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or(path)
}

impl<'g, L: Look> Visitor for Gather<'g, L> {
    type Data = Directory<L::Directory>;
    type Worker = Hand<'g, L::Own>;
    type Task = Infallible;

    fn worker(&self, index: usize) -> Self::Worker {
        Hand {
            counters: &self.desk.counters[index],
            sorter: self.intake.take_up(),
            content: vec![0; BUFFER_BYTES],
            key: Vec::new(),
            payload: Vec::new(),
            own: self.look.own(),
        }
    }

    fn finish(&self, mut hand: Self::Worker) {
        hand.sorter.sort();
        self.intake.put_down(hand.sorter);
    }

    fn enter(&self, hand: &mut Self::Worker, entered: &Entered<'_, Self::Data>) -> Option<Self::Data> {
        // What was named is taken, whatever it is called.
        let left_out = match entered.root {
            Some(_) => None,
            None => self.look.leaves_out(entered.parent.id(), entered.name, Kind::Directory),
        };
        let found = match left_out {
            Some(reason) => Err(Missing::Skipped(reason)),
            None => self.look.enter(hand, entered),
        };
        match found {
            Ok(kept) => {
                let failed = OnceLock::new();
                return Some(Directory { kept, failed });
            }
            Err(Missing::Skipped(reason)) => {
                hand.counters
                    .outcome(Kind::Directory, Outcome::Skipped, Some(reason), 0);
            }
            Err(Missing::Fault(fault)) => {
                self.failed(hand, &entered.relative_path(), entered.path(), Kind::Directory, &fault);
            }
            Err(Missing::Stopped) => {}
        }
        None
    }

    fn entries(&self, hand: &mut Self::Worker, at: BorrowedFd<'_>, entries: &mut Entries<'_, Self>) {
        let (mut relative, path) = (entries.node().relative_path(), entries.node().path());
        let directory = entries.node().id();
        if !relative.is_empty() {
            relative.push(b'/');
        }
        let base = relative.len();
        let stem = self.look.stem(&relative);
        while let Some((name, kind)) = entries.next() {
            relative.truncate(base);
            relative.extend_from_slice(name.to_bytes());
            let found = match self.look.leaves_out(directory, name, kind) {
                Some(reason) => Err(Missing::Skipped(reason)),
                None => self.look.look(hand, at, (name, &relative), kind),
            };
            let stopped = matches!(found, Err(Missing::Stopped));
            let own = || join(&path, name.to_bytes());
            self.settle(hand, (own, &relative), (&stem, kind), found);
            if stopped {
                return;
            }
        }
    }

    fn leave(&self, hand: &mut Self::Worker, node: &Arc<Node<Self::Data>>) -> Next {
        let relative = node.relative_path();
        if let Some(outcome) = node.failed.get() {
            hand.counters.outcome(Kind::Directory, *outcome, None, 0);
            self.lost(hand, &relative, Kind::Directory);
        } else {
            let (stem, found) = (self.look.stem(&[]), self.look.leave(&node.kept));
            self.settle(hand, (|| node.path(), &relative), (&stem, Kind::Directory), found);
        }
        Next::Up
    }

    fn fault(&self, hand: &mut Self::Worker, missed: &Missed<'_, Self::Data>, kind: Kind, fault: &Fault) {
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
            self.lost(hand, &relative, kind);
        } else {
            self.failed(hand, &relative, path, kind, fault);
        }
    }

    fn unlisted(&self, _hand: &mut Self::Worker, node: &Arc<Node<Self::Data>>, source: usize, errno: Errno) {
        let fault = Fault::new(Operation::List, Side::Source, errno);
        node.failed.get_or_init(|| fault.outcome());
        self.desk
            .fail(Failure::new(&fault, node.source_path(source), Kind::Directory, None));
    }
}
