//! What a packed tree wants to know of an entry before it is read: the [`Look`] of a
//! [`Gather`](crate::records::gather::Gather) that makes the records of a pack.
//!
//! Comes in: what the walk finds; goes out: a record of each entry, in the order in which entries are packed: links of one
//! inode come first and together, then all others by their paths, what is in a directory right after it.

use std::ffi::CStr;

use bulkhaul_formats::manifest::Entry;
use bulkhaul_formats::staging;
use bulkhaul_sys::{self as sys, BorrowedFd, Errno, Follow, Identity, Kind, Stat};

use crate::entry::Reason;
use crate::error::{Fault, Operation, Side};
use crate::job::desk::Desk;
use crate::records::entry::{self, Found, Links};
use crate::records::gather::{self, Look, Missing};
use crate::records::record::path_key;
use crate::tree::in_use::InUse;
use crate::walk::node::Entered;

/// What the keys of links begin with, and those of all others.
pub const LINK: u8 = 0;
const OTHER: u8 = 1;

/// Asks entries what they are.
pub struct Finder<'f> {
    desk: &'f Desk,
    in_use: InUse,
    /// Records come by their paths only: somebody else puts them in order.
    by_path: bool,
}

type Hand<'h> = gather::Hand<'h, ()>;

impl<'f> Finder<'f> {
    /// For one run.
    pub fn new(desk: &'f Desk, in_use: InUse, by_path: bool) -> Self {
        Self { desk, in_use, by_path }
    }

    fn found(&self, stat: &Stat, kind: Kind) -> Result<Found, Missing> {
        if stat.kind != kind {
            return Err(Fault::changed(Operation::Stat).into());
        }
        if self.in_use.has(stat.id) {
            return Err(Missing::Skipped(Reason::InUse));
        }
        Ok(entry::of(stat))
    }
}

/// The key of an entry in the order of packing.
pub fn order_key(path: &[u8], found: &Entry, links: Option<Links>, key: &mut Vec<u8>) {
    let mut path_part = Vec::with_capacity(path.len());
    path_key(path, &mut path_part);
    key.clear();
    match links {
        Some(links) => {
            key.push(LINK);
            key.extend_from_slice(&links.inode.dev.to_be_bytes());
            key.extend_from_slice(&links.inode.ino.to_be_bytes());
            entry::facts_key(entry::facts(found), key);
        }
        None => key.push(OTHER),
    }
    key.extend_from_slice(&path_part);
}

impl Look for Finder<'_> {
    type Directory = Option<Found>;
    type Found = Found;
    type Own = ();
    type Stem = ();

    fn own(&self) {}

    fn leaves_out(&self, directory: Identity, name: &CStr, _kind: Kind) -> Option<Reason> {
        if self.in_use.awaits(directory, name) {
            return Some(Reason::InUse);
        }
        staging::parse(name.to_bytes()).map(|_| Reason::StagingName)
    }

    fn enter(
        &self,
        _hand: &mut Hand<'_>,
        entered: &Entered<'_, gather::Directory<Option<Found>>>,
    ) -> Result<Option<Found>, Missing> {
        self.found(entered.stat, Kind::Directory).map(Some)
    }

    fn stem(&self, _beginning: &[u8]) {}

    fn look(
        &self,
        hand: &mut Hand<'_>,
        at: BorrowedFd<'_>,
        (name, path): (&CStr, &[u8]),
        kind: Kind,
    ) -> Result<Found, Missing> {
        let stat = sys::stat(at, name, Follow::No);
        let stat = stat.map_err(|errno| Fault::new(Operation::Stat, Side::Source, errno))?;
        let found = self.found(&stat, kind)?;
        if kind == Kind::File {
            hand.counters.sized(stat.size, stat.allocated);
        }
        if kind == Kind::Socket {
            let text = "sockets are left out: tar has no form for them".to_owned();
            self.desk.note("socket", || (path.to_vec(), text));
            return Err(Missing::Skipped(Reason::NotAFile));
        }
        Ok(found)
    }

    fn leave(&self, directory: &Option<Found>) -> Result<Found, Missing> {
        let gone = Fault::new(Operation::Stat, Side::Source, Errno::NOENT);
        directory.clone().ok_or(Missing::Fault(gone))
    }

    fn record(
        &self,
        hand: &mut Hand<'_>,
        ((), path): (&(), &[u8]),
        _: Kind,
        (found, links): Found,
    ) -> Result<Option<Fault>, Fault> {
        if self.by_path {
            path_key(path, &mut hand.key);
        } else {
            order_key(path, &found, links, &mut hand.key);
        }
        hand.payload.clear();
        entry::encode(&found, links, &mut hand.payload);
        Ok(None)
    }

    fn record_failed(&self, _hand: &mut Hand<'_>, _path: &[u8], _kind: Kind) -> bool {
        false
    }
}
