//! What is written below the target.
//!
//! Comes in: entries with their headers and content; goes out: the same in the tree. No step leaves the target: every path is
//! gone by its names, through directories only. A file is written under a staging name, gets owner, attributes, mode and
//! times, and then its name. A directory is this user's alone until all is done; then directories get what they are to have,
//! the deepest first. Where the target takes two names for one, the second is in conflict, and so is what is in it: there
//! alone the names of all entries are remembered.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bulkhaul_formats::digest::Hashers;
use bulkhaul_formats::shards::{self, Line, Packed};
use bulkhaul_formats::tar::{self, BLOCK, Entry, Header, Reader, Step, What};
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Identity, Kind, Node, OwnedFd, Protection, Stat, Time};

use super::archive::Opened;
use super::names::{Counting, Later};
use super::tape::Tape;
use super::tell::Teller;
use super::words::{Done, compare, directory_in_the_way, inside, met};
use crate::entry::Outcome;
use crate::error::{Cause, Failure, Fault, Operation, Refusal, Side, Stopped, describe};
use crate::job::desk::Desk;
use crate::job::process;
use crate::records::record::path_key;
use crate::records::sort::{Sorted, Sorter, Sorters};
use crate::report::counters::Counters;
use crate::sweep::leftovers::clear_files;
use crate::tree::full::explained;
use crate::tree::keep::Keep;
use crate::tree::metadata::{Scratch, Subject, Valued, give, lose_times, put_right, set_mode, set_times};
use crate::tree::path::{c_string, join, open_beneath, open_directory_path, show, split};
use crate::tree::protection::forbidden;
use crate::tree::publish::publish;
use crate::tree::spelling::Arrivals;
use crate::tree::staging::{Stager, Staging};
use crate::tree::times::{Clock, is_doubtful, is_near, time};

const NO_DIRECTORY: &str = "what is above it is no directory, and links are not followed";

/// The target.
pub struct Tree {
    root: OwnedFd,
    path: Vec<u8>,
    keep: Keep,
    stager: Stager,
    /// What file systems keep of a time.
    clock: Clock,
    /// Names that have arrived, by the directories that they are in.
    arrivals: Mutex<HashMap<Identity, Arc<Arrivals>>>,
    /// Directories that were made or named, by their paths backwards.
    directories: Mutex<Sorter>,
    /// Further names of files, until all files are there.
    links: Mutex<Option<Later>>,
    linking: AtomicBool,
}

fn fault(operation: Operation, errno: Errno) -> Fault {
    match errno {
        Errno::LOOP | Errno::NOTDIR => Fault::conflict(operation, 0, NO_DIRECTORY),
        errno => Fault::new(operation, Side::Destination(0), errno),
    }
}

/// What a header says, as a stat would.
fn facts(header: &Header) -> Stat {
    let kind = match header.what {
        What::File | What::Link(_) => Kind::File,
        What::Directory => Kind::Directory,
        What::Symlink(_) => Kind::Symlink,
        What::Fifo => Kind::Fifo,
        What::Block(..) => Kind::Block,
        What::Char(..) => Kind::Char,
    };
    let mtime = time(header.mtime);
    Stat {
        kind,
        mode: header.mode,
        // A number that this system has not is nobody's.
        uid: u32::try_from(header.uid).unwrap_or(u32::MAX),
        gid: u32::try_from(header.gid).unwrap_or(u32::MAX),
        nlink: 1,
        size: header.size,
        allocated: 0,
        id: Identity { dev: 0, ino: 0 },
        rdev: 0,
        atime: header.atime.map_or(mtime, time),
        mtime,
        ctime: mtime,
        protection: Protection::None,
    }
}

/// The key of a directory: what is in it comes before it.
fn backwards(path: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(path.len() + 2);
    path_key(path, &mut key);
    for byte in &mut key {
        *byte = !*byte;
    }
    key.extend_from_slice(&[0xff, 0xff]);
    key
}

impl Tree {
    /// Opens the target, and makes it where it is not there.
    pub fn open(path: &[u8], owner: bool, sorters: &Sorters, desk: &Desk) -> Result<Self, Refusal> {
        let refused = |errno| Refusal::NoDestination(format!("{}: {}", show(path), describe(errno)));
        let mut is_new = false;
        let root = match open_directory_path(path, Follow::Yes) {
            Err(Errno::NOENT) => {
                let (above, name) = split(path);
                let at = open_directory_path(above, Follow::Yes).map_err(refused)?;
                let name = c_string(name).map_err(refused)?;
                match sys::make_directory_as(at.as_fd(), &name, 0o777) {
                    Ok(()) => is_new = true,
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(refused(errno)),
                }
                open_directory_path(path, Follow::Yes).map_err(refused)?
            }
            opened => opened.map_err(refused)?,
        };
        desk.step();
        let process = process::process();
        let keep = Keep {
            owner,
            ..Keep::whole(process.umask, process.reach)
        };
        let tree = Self {
            root,
            path: path.to_vec(),
            keep,
            stager: Stager::new(),
            clock: Clock::default(),
            arrivals: Mutex::default(),
            directories: Mutex::new(sorters.sorter()),
            links: Mutex::new(Some(Later::new(sorters))),
            linking: AtomicBool::new(false),
        };
        if is_new {
            tree.directory(b"", None).map_err(|errno| sorters.refusal(errno))?;
        }
        Ok(tree)
    }

    /// For a worker.
    pub fn hand<'t>(&'t self, desk: &'t Desk, counters: &'t Counters) -> Hand<'t> {
        Hand {
            tree: self,
            desk,
            counters,
            kept: None,
            scratch: Scratch::default(),
        }
    }

    /// A directory, with the names that have arrived in it. `above`: it was made by this run, in that one.
    fn place(&self, path: &[u8], at: OwnedFd, above: Option<&Arrivals>) -> Result<Place, Fault> {
        let stat = sys::stat_fd(at.as_fd()).map_err(|errno| fault(Operation::Stat, errno))?;
        let anew = || Arc::new(above.map_or_else(Arrivals::default, Arrivals::inherited));
        let mut all = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Place {
            path: path.to_vec(),
            at,
            stat,
            arrivals: Arc::clone(all.entry(stat.id).or_insert_with(anew)),
        })
    }

    /// A worker leaves a directory: where no name can meet another, nothing is remembered of it.
    fn leave(&self, place: &Place) {
        let mut all = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        // One of both is the place's own.
        if Arc::strong_count(&place.arrivals) == 2 && place.arrivals.is_empty() {
            all.remove(&place.stat.id);
        }
    }

    /// The further names, once all files are there; nothing when they had their turn.
    pub fn links(&self, sorters: &Sorters) -> Result<Option<Counting>, Refusal> {
        let taken = self.links.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.linking.store(true, Relaxed);
        taken
            .map(Later::all)
            .transpose()
            .map_err(|errno| sorters.refusal(errno))
    }

    /// Remembers a directory; `packed`: what is to become of it; none: it was made.
    fn directory(&self, path: &[u8], packed: Option<(&Packed, &Header)>) -> sys::Result<()> {
        let mut payload = Vec::new();
        if let Some((packed, header)) = packed {
            // A line has no line feed before its end.
            shards::write(&Line::Entry(Box::new(packed.clone())), &mut payload);
            tar::write(header, &mut payload);
        }
        let key = backwards(path);
        self.directories
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(&key, &payload)
    }

    /// Remembers a further name of the file `first`.
    fn link_later(&self, packed: &Packed, first: &[u8]) -> sys::Result<()> {
        match &mut *self.links.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(links) => links.push(packed, first),
            None => Err(Errno::INVAL),
        }
    }

    /// What dead runs have left unfinished in a directory goes.
    fn clear(&self, at: &OwnedFd, desk: &Desk) -> Result<(), Fault> {
        clear_files(at, Side::Destination(0), self.stager, desk).map(drop)
    }

    /// Directories get what they are to have, and all that was written is synced.
    pub fn close(&self, teller: Teller<'_>, sorters: &Sorters, desk: &Arc<Desk>) -> Result<(), Refusal> {
        let failed = |errno| sorters.refusal(errno);
        let mut own = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        let all = std::mem::replace(&mut *own, sorters.sorter());
        drop(own);
        let mut hand = self.hand(desk, &desk.counters[0]);
        let mut all = Sorted::merge(vec![all]).map_err(failed)?;
        let mut last: Option<(Vec<u8>, Vec<u8>)> = None;
        let mut is_new = false;
        while !desk.cancel.is_draining() {
            let next = all
                .next()
                .map_err(failed)?
                .map(|(key, payload)| (key.to_vec(), payload.to_vec()));
            // What is said of one comes after what is only known to have been made.
            let is_same = matches!((&last, &next), (Some((before, _)), Some((key, _))) if before == key);
            if let Some((key, payload)) = last.take() {
                is_new |= payload.is_empty();
                if !is_same {
                    hand.dress(&key, &payload, is_new, teller);
                    is_new = false;
                }
            }
            match next {
                Some(next) => last = Some(next),
                None => break,
            }
        }
        if let Err(fault) = self.clear(&self.root, desk) {
            desk.fail(Failure::new(&fault, self.path.clone(), Kind::Directory, None));
        }
        let _syncing = desk.syncing();
        let synced = sys::sync_file_system(self.root.as_fd());
        synced.map_err(|errno| Refusal::Output(format!("{}: {}", show(&self.path), describe(errno))))
    }
}

/// What a worker writes with.
pub struct Hand<'t> {
    tree: &'t Tree,
    desk: &'t Desk,
    counters: &'t Counters,
    kept: Option<Arc<Place>>,
    scratch: Scratch,
}

/// A directory of the tree.
struct Place {
    path: Vec<u8>,
    at: OwnedFd,
    stat: Stat,
    arrivals: Arc<Arrivals>,
}

impl Hand<'_> {
    /// The directory at a path; it and those above it are made where they are not there, if `make` says so.
    fn enter(&mut self, path: &[u8], make: bool) -> Result<Arc<Place>, Fault> {
        let open = |errno| fault(Operation::Open, errno);
        let is_above = |kept: &Place| {
            let rest = path.strip_prefix(&kept.path[..]);
            rest.is_some_and(|rest| kept.path.is_empty() || matches!(rest, [] | [b'/', ..]))
        };
        // What comes next is mostly in the same directory, or in one of its own.
        let mut place = match self.kept.take() {
            Some(kept) if is_above(&kept) => kept,
            other => {
                if let Some(kept) = other {
                    self.tree.leave(&kept);
                }
                let at = sys::open_directory(self.tree.root.as_fd(), c".", Follow::No).map_err(open)?;
                Arc::new(self.tree.place(b"", at, None)?)
            }
        };
        while place.path.len() < path.len() {
            let from = place.path.len() + usize::from(!place.path.is_empty());
            let length = path[from..].iter().position(|byte| *byte == b'/');
            let end = length.map_or(path.len(), |length| from + length);
            let next = Arc::new(self.step(&place, &path[..end], &path[from..end], make)?);
            self.tree.leave(&place);
            place = next;
        }
        self.kept = Some(Arc::clone(&place));
        Ok(place)
    }

    /// The directory of this name in another one.
    fn step(&self, above: &Place, path: &[u8], name: &[u8], make: bool) -> Result<Place, Fault> {
        let open = |errno| fault(Operation::Open, errno);
        let (name, at) = (c_string(name).map_err(open)?, above.at.as_fd());
        let there = match sys::open_directory(at, &name, Follow::No) {
            Err(Errno::NOENT) if make => {
                let mut is_new = false;
                above
                    .arrivals
                    .publish(&above.at, &name, 0, || match sys::make_directory(at, &name) {
                        Ok(()) => {
                            is_new = true;
                            Ok(())
                        }
                        Err(Errno::EXIST) => Ok(()),
                        Err(errno) => Err(fault(Operation::MakeDirectory, errno)),
                    })?;
                let there = sys::open_directory(at, &name, Follow::No).map_err(open)?;
                if is_new {
                    let told = self.tree.directory(path, None);
                    told.map_err(|errno| fault(Operation::MakeDirectory, errno))?;
                    return self.tree.place(path, there, Some(&above.arrivals));
                }
                there
            }
            opened => opened.map_err(open)?,
        };
        let place = self.tree.place(path, there, None)?;
        match above.arrivals.take_over(&above.at, &name, &place.stat) {
            Ok(true) => Ok(place),
            Ok(false) => Err(met()),
            Err(errno) => Err(fault(Operation::Stat, errno)),
        }
    }

    /// The directory that holds a path, and the last name of that.
    fn holder(&mut self, path: &[u8]) -> Result<(Arc<Place>, CString), Fault> {
        let (parent, name) = split(path);
        let place = self.enter(parent, true)?;
        Ok((place, c_string(name).map_err(|errno| fault(Operation::Open, errno))?))
    }

    /// One entry. Nothing: its turn comes later.
    pub fn entry(
        &mut self,
        packed: &Packed,
        archive: (&Opened, &mut Tape),
        entry: &Entry,
        digest: &mut Hashers,
    ) -> Result<Option<Done>, Stopped> {
        let path = &packed.entry.path;
        let header = &entry.header;
        if path.is_empty() && header.what != What::Directory {
            return Err(fault(Operation::Create, Errno::INVAL).into());
        }
        for keyword in &header.lost {
            let message = format!("{keyword} could not be read: it names somebody who has no number here");
            self.scratch.note(&format!("lost:{keyword}"), message, true);
        }
        let done = match &header.what {
            What::Directory => {
                self.enter(path, true)?;
                let told = self.tree.directory(path, Some((packed, header)));
                told.map_err(|errno| fault(Operation::MakeDirectory, errno))?;
                None
            }
            What::Link(first) => {
                self.later(packed, first)?;
                None
            }
            What::File => Some(self.file(packed, archive, entry, digest)?),
            What::Symlink(_) | What::Fifo | What::Block(..) | What::Char(..) => Some(self.special(path, header)?),
        };
        self.tell(path);
        Ok(done)
    }

    /// A further name of what comes under the name `first`: its turn comes later.
    pub fn later(&self, packed: &Packed, first: &[u8]) -> Result<(), Fault> {
        let told = self.tree.link_later(packed, first);
        told.map_err(|errno| fault(Operation::Link, errno))
    }

    /// A further name of a file, when these have their turn.
    pub fn further_name(&mut self, packed: &Packed) -> Result<Option<Done>, Stopped> {
        match &packed.entry.target {
            Some(first) if self.tree.linking.load(Relaxed) => {
                let done = self.link(&packed.entry.path, &inside(first)?)?;
                self.tell(&packed.entry.path);
                Ok(Some(done))
            }
            _ => Ok(None),
        }
    }

    /// What could not be kept of an entry.
    fn tell(&mut self, path: &[u8]) {
        for shortfall in self.scratch.shortfalls.drain(..) {
            let first = || (join(&self.tree.path, path), shortfall.message.clone());
            if shortfall.lost {
                self.desk.lose(&shortfall.kind, first);
            } else {
                self.desk.note(&shortfall.kind, first);
            }
        }
    }

    /// What has a name already, and is no directory, nor what another name of this run has arrived at.
    fn there(place: &Place, name: &CStr) -> Result<Option<Stat>, Fault> {
        match place.arrivals.look(&place.at, name) {
            Ok(Some(stat)) if place.arrivals.is_taken(name, &stat) => Err(met()),
            Ok(Some(stat)) if stat.kind == Kind::Directory => Err(directory_in_the_way()),
            Ok(there) => Ok(there),
            Err(errno) => Err(fault(Operation::Stat, errno)),
        }
    }

    /// What is there stays as it is.
    fn unchanged(place: &Place, name: &CStr, there: &Stat, bytes: u64) -> Result<Done, Fault> {
        match place.arrivals.take_over(&place.at, name, there) {
            Ok(true) => Ok(Done::unchanged(bytes)),
            Ok(false) => Err(met()),
            Err(errno) => Err(fault(Operation::Stat, errno)),
        }
    }

    /// Whether what is there has the time that an archive says, as far as its file system can tell.
    fn has_time(&self, place: &Place, there: &Stat, wanted: Time) -> bool {
        there.mtime == wanted
            || (is_doubtful(wanted, there.mtime) && {
                let kept = self.tree.clock.kept(there.id.dev, &place.at, self.tree.stager);
                kept.is_same(wanted, there.mtime)
            })
    }

    /// Refuses what flags of a directory, or of what has the name there, forbid, before anything is written.
    fn permit(operation: Operation, place: &Place, there: Option<&Stat>) -> Result<(), Fault> {
        match forbidden(Some(&place.stat), there) {
            Some(what) => Err(Fault::conflict(operation, 0, what)),
            None => Ok(()),
        }
    }

    /// Gives what is staged its name.
    fn appear(place: &Place, staging: &Staging, name: &CStr, replaces: bool) -> Result<(), Fault> {
        let publish = || publish(place.at.as_fd(), staging, name, replaces, 0);
        place.arrivals.publish(&place.at, name, 0, publish)
    }

    fn file(
        &mut self,
        packed: &Packed,
        (archive, tape): (&Opened, &mut Tape),
        entry: &Entry,
        digest: &mut Hashers,
    ) -> Result<Done, Stopped> {
        let header = &entry.header;
        let (place, name) = self.holder(&packed.entry.path)?;
        let there = Self::there(&place, &name)?;
        let stat = facts(header);
        let is_same = |there: &Stat| (there.kind, there.size) == (Kind::File, stat.size) && there.mode == stat.mode;
        if let Some(there) = there.filter(is_same)
            && self.has_time(&place, &there, stat.mtime)
        {
            self.tell_time(stat.mtime, there.mtime);
            return Ok(Self::unchanged(&place, &name, &there, header.size)?);
        }
        Self::permit(Operation::Create, &place, there.as_ref())?;
        let create = |name: &CStr| sys::create_file(place.at.as_fd(), name);
        let (file, staging) = self
            .tree
            .stager
            .stage(&name, create)
            .map_err(|errno| fault(Operation::Create, errno))?;
        let counters = self.counters;
        let _in_hand = counters.flight.in_hand();
        counters.flight.begin(entry.stored);
        counters.flight.staged();
        let written = archive.content((tape, entry), digest, self.desk, &mut |bytes, offset| {
            counters.flight.moved(bytes.len() as u64);
            counters.written().fetch_add(bytes.len() as u64, Relaxed);
            counters.flight.wrote(bytes.len() as u64);
            sys::write_all_at(file.as_fd(), bytes, offset).map_err(|errno| fault(Operation::Write, errno))
        });
        let finished = written.and_then(|found| {
            compare(packed, header, &found)?;
            if header.data.is_some() {
                let sized = sys::set_size(file.as_fd(), header.size);
                sized.map_err(|errno| fault(Operation::Write, errno))?;
            }
            let born = sys::stat_fd(file.as_fd()).map_err(|errno| fault(Operation::Stat, errno))?;
            self.metadata(header, &stat, (Node::Open(file.as_fd()), &born))?;
            Self::appear(&place, &staging, &name, there.is_some())?;
            Ok(())
        });
        let finished = finished.map_err(|stopped| {
            counters.took_back(counters.flight.all_written());
            explained(stopped, place.at.as_fd(), &packed.entry.path, header.size)
        });
        Self::or_discard(&place.at, &staging, finished)?;
        Ok(Done::of(Outcome::Copied, header.size))
    }

    /// What was staged goes where it did not get its name.
    fn or_discard<T>(at: &OwnedFd, staging: &Staging, result: Result<T, Stopped>) -> Result<T, Stopped> {
        if result.is_err() {
            match sys::unlink(at.as_fd(), staging.as_c_str()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(fault(Operation::Remove, errno).into()),
            }
        }
        result
    }

    fn special(&mut self, path: &[u8], header: &Header) -> Result<Done, Stopped> {
        let (place, name) = self.holder(path)?;
        let there = Self::there(&place, &name)?;
        let (at, stat) = (&place.at, facts(header));
        let (kind, device) = match header.what {
            What::Block(major, minor) => (Kind::Block, sys::device(major, minor)),
            What::Char(major, minor) => (Kind::Char, sys::device(major, minor)),
            _ => (Kind::Fifo, 0),
        };
        let text = match &header.what {
            What::Symlink(text) => Some(c_string(text).map_err(|errno| fault(Operation::MakeSymlink, errno))?),
            _ => None,
        };
        let is_same = |there: &Stat| match &text {
            Some(text) => there.kind == Kind::Symlink && sys::read_link(at.as_fd(), &name).as_ref() == Ok(text),
            None => (there.kind, there.rdev, there.mode) == (kind, device, stat.mode),
        };
        if let Some(there) = there.filter(is_same)
            && self.has_time(&place, &there, stat.mtime)
        {
            self.tell_time(stat.mtime, there.mtime);
            return Ok(Self::unchanged(&place, &name, &there, 0)?);
        }
        let operation = if text.is_some() {
            Operation::MakeSymlink
        } else {
            Operation::MakeNode
        };
        Self::permit(operation, &place, there.as_ref())?;
        let make = |name: &CStr| match &text {
            Some(text) => sys::make_symlink(text, at.as_fd(), name),
            None => sys::make_node(at.as_fd(), name, kind, device),
        };
        let ((), staging) = self
            .tree
            .stager
            .stage(&name, make)
            .map_err(|errno| fault(operation, errno))?;
        let mut dress = || -> Result<(), Stopped> {
            let node = sys::open_node(at.as_fd(), staging.as_c_str()).map_err(|errno| fault(Operation::Open, errno))?;
            let born = sys::stat_fd(node.as_fd()).map_err(|errno| fault(Operation::Stat, errno))?;
            self.metadata(header, &stat, (Node::Path(node.as_fd()), &born))?;
            Self::appear(&place, &staging, &name, there.is_some())?;
            Ok(())
        };
        let dressed = dress();
        Self::or_discard(at, &staging, dressed)?;
        Ok(Done::of(Outcome::Made, 0))
    }

    /// A further name of a file that is there.
    fn link(&mut self, path: &[u8], first: &[u8]) -> Result<Done, Stopped> {
        let (parent, first_name) = split(first);
        let absent = || Fault::conflict(Operation::Link, 0, "the file that it is a further name of is not there");
        let gone = |errno| match errno {
            Errno::NOENT => absent(),
            errno => fault(Operation::Link, errno),
        };
        let first_name = c_string(first_name).map_err(gone)?;
        let from = self.enter(parent, false).map_err(|fault| match fault.cause {
            Cause::Errno(Errno::NOENT) => absent(),
            _ => fault,
        })?;
        // What leads to the file of another name is not that file.
        let file = from.arrivals.look(&from.at, &first_name).map_err(gone)?;
        let file = file.filter(|file| !from.arrivals.is_taken(&first_name, file));
        let file = file.ok_or_else(absent)?;
        let (place, name) = self.holder(path)?;
        let there = Self::there(&place, &name)?;
        if let Some(there) = there.filter(|there| there.id == file.id) {
            return Ok(Self::unchanged(&place, &name, &there, 0)?);
        }
        Self::permit(Operation::Link, &place, there.as_ref())?;
        let link = |name: &CStr| sys::make_link(from.at.as_fd(), &first_name, place.at.as_fd(), name);
        let ((), staging) = self.tree.stager.stage(&name, link).map_err(gone)?;
        let published = Self::appear(&place, &staging, &name, there.is_some()).map_err(Stopped::from);
        Self::or_discard(&place.at, &staging, published)?;
        Ok(Done::of(Outcome::Linked, 0))
    }

    /// Owner, attributes, mode and times.
    fn metadata(&mut self, header: &Header, stat: &Stat, (node, born): (Node<'_>, &Stat)) -> Result<(), Fault> {
        let keep = &self.tree.keep;
        let given: Vec<Valued> = header
            .xattrs
            .iter()
            .filter_map(|(name, value)| Some((CString::new(&name[..]).ok()?, value.clone())))
            .collect();
        // Who is not root may set attributes only of what it may write into.
        let open = !given.is_empty() && !keep.reach.privileged && stat.kind == Kind::File && stat.mode & 0o200 == 0;
        let meanwhile = Stat {
            mode: if open { stat.mode | 0o200 } else { stat.mode },
            ..*stat
        };
        let copy = Subject {
            node,
            owner: (born.uid, born.gid),
            mode: born.mode,
            born: None,
            new: true,
            inherits: true,
            destination: 0,
        };
        put_right(keep, &meanwhile, None, copy, Some(node), &mut self.scratch)?;
        give(keep, copy, &given, &mut self.scratch)?;
        if open {
            set_mode(keep, (node, stat.mode, true), 0, &mut self.scratch)?;
        }
        if keep.times && set_times(keep, stat, node, 0, &mut self.scratch)? {
            let (Node::Open(at) | Node::Path(at)) = node;
            let stored = sys::stat_fd(at).map_err(|errno| fault(Operation::Stat, errno))?.mtime;
            if stored != stat.mtime && !is_doubtful(stat.mtime, stored) {
                lose_times(keep, None, &mut self.scratch);
            } else {
                self.tell_time(stat.mtime, stored);
            }
        }
        Ok(())
    }

    /// Tells where a file system has made another time of the one that an archive says.
    fn tell_time(&mut self, wanted: Time, stored: Time) {
        if self.tree.keep.times && !is_near(wanted, stored) {
            let message = "the destination can't keep its time".to_owned();
            self.scratch.note("time", message, false);
        }
    }

    /// A directory gets what it is to have. `is_new`: this run has made it.
    fn dress(&mut self, key: &[u8], payload: &[u8], is_new: bool, teller: Teller<'_>) {
        let path: Vec<u8> = key[..key.len().saturating_sub(2)].iter().map(|byte| !*byte).collect();
        let path: Vec<u8> = path
            .into_iter()
            .map(|byte| if byte == 0 { b'/' } else { byte })
            .collect();
        let line = payload
            .split_inclusive(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        let packed = match shards::parse(line) {
            Ok(Some(Line::Entry(packed))) => Some(packed),
            _ => None,
        };
        let header = packed.is_some().then(|| header(&payload[line.len()..])).flatten();
        let dressed = self.dressed(&path, header.as_ref());
        self.tell(&path);
        match (&dressed, &packed) {
            (Ok(differed), Some(packed)) => {
                let done = match (is_new, differed) {
                    (true, _) => Done::of(Outcome::Made, 0),
                    (false, true) => Done::of(Outcome::Metadata, 0),
                    (false, false) => Done::unchanged(0),
                };
                self.counters.outcome(Kind::Directory, done.outcome, done.reason, 0);
                teller.tell(packed, &done);
            }
            (Err(fault), _) => {
                if packed.is_some() {
                    self.counters.outcome(Kind::Directory, fault.outcome(), None, 0);
                }
                let path = join(&self.tree.path, &path);
                self.desk.fail(Failure::new(fault, path, Kind::Directory, None));
            }
            (Ok(_), None) => {}
        }
    }

    /// Answers whether its mode, owner or time became another.
    fn dressed(&mut self, path: &[u8], header: Option<&Header>) -> Result<bool, Fault> {
        let at = open_beneath(&self.tree.root, path, false).map_err(|errno| fault(Operation::Open, errno))?;
        self.tree.clear(&at, self.desk)?;
        let born = sys::stat_fd(at.as_fd()).map_err(|errno| fault(Operation::Stat, errno))?;
        let Some(header) = header else {
            // Nothing is said of it: it is like any that is made here.
            let mode = 0o777 & !self.tree.keep.umask;
            return set_mode(
                &self.tree.keep,
                (Node::Open(at.as_fd()), mode, false),
                0,
                &mut self.scratch,
            );
        };
        self.metadata(header, &facts(header), (Node::Open(at.as_fd()), &born))?;
        let now = sys::stat_fd(at.as_fd()).map_err(|errno| fault(Operation::Stat, errno))?;
        let shown = |stat: &Stat| (stat.mode, stat.uid, stat.gid, stat.mtime);
        Ok(shown(&now) != shown(&born))
    }
}

/// The header in these blocks.
fn header(blocks: &[u8]) -> Option<Header> {
    let mut reader = Reader::default();
    blocks
        .chunks_exact(BLOCK)
        .find_map(|block| match reader.block(block.first_chunk()?) {
            Ok(Step::Entry(entry)) => Some(entry.header),
            Ok(Step::More | Step::End) | Err(_) => None,
        })
}
