//! The gatherer: a [`Visitor`] that finds the entries of a plan, and hands on each that a list can have.
//!
//! Comes in: what the walk finds; goes out, to whoever takes them: names relative to the root of the lists, with what the plan
//! has to know. Files are asked for their sizes, and nothing is read. What can't be read is handed on too, with its outcome
//! and its failure; what has vanished, and what no list can have, only gets these. Everything else gets its outcome from
//! whoever writes it down.

use std::convert::Infallible;
use std::ffi::CStr;
use std::sync::{Arc, OnceLock};

use bulkhaul_formats::lists::parts::Writer;
use bulkhaul_formats::staging;
use bulkhaul_sys::{self as sys, BorrowedFd, Errno, Follow, Identity, Kind, Stat};

use super::lists::Place;
use super::record::Record;
use crate::entry::{Outcome, Reason};
use crate::error::{Cause, Failure, Fault, Operation, Side};
use crate::job::desk::Desk;
use crate::records::entry::listed_kind;
use crate::report::counters::Counters;
use crate::tree::path::{join, split, trim};
use crate::walk::node::{Entered, Node};
use crate::walk::start::Root;
use crate::walk::visitor::{Entries, Missed, Next, Visitor};

/// Who takes what is found. One for all threads; each has a hand of its own.
pub trait Taker: Sync {
    /// What a thread keeps to itself.
    type Hand;

    /// For one thread.
    fn hand(&self) -> Self::Hand;

    /// A thread is through.
    fn finish(&self, hand: Self::Hand);

    /// An entry, and its inode where that has several links.
    fn take(&self, hand: &mut Self::Hand, counters: &Counters, name: &[u8], record: Record, links: Option<Identity>);
}

/// One walk's gatherer.
pub struct Gather<'g, T> {
    desk: &'g Desk,
    roots: &'g [Root],
    writer: Writer,
    /// Where the lists will be: older ones are left out.
    lists: Option<Arc<Place>>,
    taker: &'g T,
}

/// What a thread has for itself.
pub struct Hand<'g, T: Taker> {
    counters: &'g Counters,
    taker: T::Hand,
}

/// A directory on its way.
#[derive(Default)]
pub struct Directory {
    /// Set where it could not be listed to its end.
    failed: OnceLock<Outcome>,
}

impl<'g, T: Taker> Gather<'g, T> {
    /// For a walk of these roots.
    pub fn new(desk: &'g Desk, roots: &'g [Root], writer: Writer, lists: Option<Arc<Place>>, taker: &'g T) -> Self {
        Self {
            desk,
            roots,
            writer,
            lists,
            taker,
        }
    }

    /// An entry of this name, whose full path is `path`. `told`: it has its outcome.
    fn push(
        &self,
        hand: &mut Hand<'g, T>,
        name: &[u8],
        path: impl FnOnce() -> Vec<u8>,
        (kind, stat): (Kind, Option<&Stat>),
        told: bool,
    ) {
        if !self.writer.wants(listed_kind(kind)) {
            if !told {
                hand.counters.outcome(kind, Outcome::Skipped, Some(Reason::NotAFile), 0);
            }
            if kind != Kind::Directory {
                let text = "lists for rclone have files and symlinks only".to_owned();
                self.desk.note("special", || (path(), text));
            }
            return;
        }
        if let Err(why) = self.writer.takes(name) {
            let fault = Fault {
                operation: Operation::Write,
                side: Side::Source,
                cause: Cause::Unwritable(why.to_string()),
            };
            if !told {
                hand.counters.outcome(kind, fault.outcome(), None, 0);
            }
            return self.desk.fail(Failure::new(&fault, path(), kind, None));
        }
        let record = Record {
            kind,
            bytes: stat.map_or(0, |stat| if kind == Kind::File { stat.size } else { 0 }),
            unreadable: told,
            group: 0,
        };
        let several = kind != Kind::Directory && stat.is_some_and(|stat| stat.nlink > 1);
        let links = stat.filter(|_| several).map(|stat| stat.id);
        self.taker.take(&mut hand.taker, hand.counters, name, record, links);
    }

    /// Something went wrong with an entry: its outcome and its failure. Answers whether it is there nevertheless.
    fn failed(&self, hand: &Hand<'g, T>, path: Vec<u8>, kind: Kind, fault: &Fault) -> bool {
        hand.counters.outcome(kind, fault.outcome(), None, 0);
        self.desk.fail(Failure::new(fault, path, kind, None));
        fault.outcome() == Outcome::Failed && !matches!(fault.cause, Cause::Missing(_))
    }

    /// Why a name is left out whatever has it.
    fn unwanted(&self, directory: Identity, name: &CStr) -> Option<Reason> {
        if self
            .lists
            .as_ref()
            .is_some_and(|lists| lists.has(directory, name.to_bytes()))
        {
            return Some(Reason::InUse);
        }
        staging::parse(name.to_bytes()).map(|_| Reason::StagingName)
    }
}

impl<'g, T: Taker> Visitor for Gather<'g, T> {
    type Data = Directory;
    type Worker = Hand<'g, T>;
    type Task = Infallible;

    const ENTERS_BEYOND: bool = true;

    fn worker(&self, index: usize) -> Hand<'g, T> {
        Hand {
            counters: &self.desk.counters[index],
            taker: self.taker.hand(),
        }
    }

    fn finish(&self, hand: Hand<'g, T>) {
        self.taker.finish(hand.taker);
    }

    fn enter(&self, hand: &mut Hand<'g, T>, entered: &Entered<'_, Directory>) -> Option<Directory> {
        // What was named is taken, whatever it is called.
        if entered.root.is_none()
            && let Some(reason) = self.unwanted(entered.parent.id(), entered.name)
        {
            hand.counters
                .outcome(Kind::Directory, Outcome::Skipped, Some(reason), 0);
            return None;
        }
        Some(Directory::default())
    }

    fn entries(&self, hand: &mut Hand<'g, T>, at: BorrowedFd<'_>, entries: &mut Entries<'_, Self>) {
        let node = entries.node();
        let mut relative = node.relative_path();
        if !relative.is_empty() {
            relative.push(b'/');
        }
        let base = relative.len();
        while let Some((name, kind)) = entries.next() {
            // What was named is taken, whatever it is called.
            if node.data().is_some()
                && let Some(reason) = self.unwanted(node.id(), name)
            {
                hand.counters.outcome(kind, Outcome::Skipped, Some(reason), 0);
                continue;
            }
            relative.truncate(base);
            relative.extend_from_slice(name.to_bytes());
            let path = || join(&node.path(), name.to_bytes());
            match sys::stat(at, name, Follow::No) {
                Ok(stat) if stat.kind == kind => {
                    if kind == Kind::File {
                        hand.counters.sized(stat.size, stat.allocated);
                    }
                    self.push(hand, &relative, path, (kind, Some(&stat)), false);
                }
                Ok(_) => {
                    self.failed(hand, path(), kind, &Fault::changed(Operation::Stat));
                }
                Err(errno) => {
                    let fault = Fault::new(Operation::Stat, Side::Source, errno);
                    if self.failed(hand, path(), kind, &fault) {
                        self.push(hand, &relative, path, (kind, None), true);
                    }
                }
            }
        }
    }

    fn listed(&self, _hand: &mut Hand<'g, T>, node: &Arc<Node<Directory>>, _source: usize, names: usize) {
        if names == 0 && !self.writer.wants(listed_kind(Kind::Directory)) {
            let text = "rclone makes directories by the files in them, so an empty one is in no list".to_owned();
            self.desk.note("empty-directory", || (node.path(), text));
        }
    }

    fn leave(&self, hand: &mut Hand<'g, T>, node: &Arc<Node<Directory>>) -> Next {
        let failed = node.failed.get();
        if let Some(outcome) = failed {
            hand.counters.outcome(Kind::Directory, *outcome, None, 0);
        }
        // One that vanished while it was listed is not there.
        if failed.is_none_or(|outcome| *outcome == Outcome::Failed) {
            let relative = node.relative_path();
            let kind = (Kind::Directory, None);
            self.push(hand, &relative, || node.path(), kind, failed.is_some());
        }
        Next::Up
    }

    fn fault(&self, hand: &mut Hand<'g, T>, missed: &Missed<'_, Directory>, kind: Kind, fault: &Fault) {
        let path = missed.path();
        let is_root = self.roots.iter().any(|root| root.contents && trim(&root.path) == path);
        let relative = match missed.parent {
            _ if is_root => Vec::new(),
            Some(node) => join(&node.relative_path(), split(&path).1),
            None => split(&path).1.to_vec(),
        };
        if self.failed(hand, path.clone(), kind, fault) {
            self.push(hand, &relative, || path, (kind, None), true);
        }
    }

    fn unlisted(&self, _hand: &mut Hand<'g, T>, node: &Arc<Node<Directory>>, source: usize, errno: Errno) {
        let fault = Fault::new(Operation::List, Side::Source, errno);
        node.failed.get_or_init(|| fault.outcome());
        self.desk
            .fail(Failure::new(&fault, node.source_path(source), Kind::Directory, None));
    }
}
