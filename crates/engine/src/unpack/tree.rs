//! What is written below the target.
//!
//! Comes in: entries with their headers and content; goes out: the same in the tree. No step leaves the target: every path is
//! gone by its names, through directories only. A file is written under a staging name, gets owner, attributes, mode and
//! times, and then its name. A directory is this user's alone until all is done; then directories get what they are to have,
//! the deepest first.

use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bulkhaul_formats::digest::Hashers;
use bulkhaul_formats::shards::{self, Line, Packed};
use bulkhaul_formats::tar::{Entry, Header, What};
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Identity, Kind, Node, OwnedFd, Protection, Stat, Time};

use super::archive::{Archives, Opened};
use super::words::{Done, compare, inside};
use crate::entry::{Outcome, Reason};
use crate::error::{Failure, Fault, Operation, Refusal, Side, Stopped, describe};
use crate::job::desk::Desk;
use crate::job::process;
use crate::records::record::path_key;
use crate::records::sort::{Sorted, Sorter, Sorters};
use crate::report::counters::Counters;
use crate::tree::keep::{Keep, Reach};
use crate::tree::metadata::{Scratch, Subject, Valued, give, lose_times, put_right, set_mode, set_times};
use crate::tree::path::{c_string, join, open_beneath, open_directory_path, show, split};
use crate::tree::publish::publish;
use crate::tree::staging::{Stager, Staging};
use crate::tree::times::{is_doubtful, is_near};

const NO_DIRECTORY: &str = "what is above it is no directory, and links are not followed";
const IN_THE_WAY: &str = "a directory is in the way";

/// The target.
pub struct Tree {
    root: OwnedFd,
    path: Vec<u8>,
    keep: Keep,
    stager: Stager,
    /// Directories that were made or named, by their paths backwards.
    directories: Mutex<Sorter>,
    /// Further names of files, until all files are there.
    links: Mutex<Option<Sorter>>,
    linking: AtomicBool,
}

fn fault(operation: Operation, errno: Errno) -> Fault {
    match errno {
        Errno::LOOP | Errno::NOTDIR => Fault::conflict(operation, 0, NO_DIRECTORY),
        errno => Fault::new(operation, Side::Destination(0), errno),
    }
}

fn time(nanoseconds: i128) -> Time {
    const SECOND: i128 = 1_000_000_000;
    let sec = i64::try_from(nanoseconds.div_euclid(SECOND));
    Time {
        sec: sec.unwrap_or(if nanoseconds < 0 { i64::MIN } else { i64::MAX }),
        nsec: u32::try_from(nanoseconds.rem_euclid(SECOND)).unwrap_or_default(),
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
        let root = match open_directory_path(path, Follow::Yes) {
            Err(Errno::NOENT) => {
                let (above, name) = split(path);
                let at = open_directory_path(above, Follow::Yes).map_err(refused)?;
                let name = c_string(name).map_err(refused)?;
                match sys::make_directory_as(at.as_fd(), &name, 0o777) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(refused(errno)),
                }
                open_directory_path(path, Follow::Yes).map_err(refused)?
            }
            opened => opened.map_err(refused)?,
        };
        desk.step();
        let process = process::process();
        let keep = Keep {
            mode: true,
            owner,
            times: true,
            time_loss: false,
            acls: true,
            xattrs: true,
            capabilities: true,
            user: None,
            group: None,
            chmod: None,
            umask: process.umask,
            reach: Reach::of(process.user, process.groups),
        };
        Ok(Self {
            root,
            path: path.to_vec(),
            keep,
            stager: Stager::new(),
            directories: Mutex::new(sorters.sorter()),
            links: Mutex::new(Some(sorters.sorter())),
            linking: AtomicBool::new(false),
        })
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

    /// The further names, once all files are there; nothing when they had their turn.
    pub fn links(&self, sorters: &Sorters) -> Result<Option<Sorted>, Refusal> {
        let taken = self.links.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.linking.store(true, Relaxed);
        let Some(links) = taken else { return Ok(None) };
        Sorted::merge(vec![links])
            .map(Some)
            .map_err(|errno| sorters.refusal(errno))
    }

    /// Remembers a directory; `packed`: what is to become of it.
    fn directory(&self, path: &[u8], packed: Option<&Packed>) -> sys::Result<()> {
        let mut payload = Vec::new();
        if let Some(packed) = packed {
            shards::write(&Line::Entry(Box::new(packed.clone())), &mut payload);
        }
        let key = backwards(path);
        self.directories
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(&key, &payload)
    }

    fn link_later(&self, packed: &Packed) -> sys::Result<()> {
        let mut payload = Vec::new();
        shards::write(&Line::Entry(Box::new(packed.clone())), &mut payload);
        match &mut *self.links.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(links) => links.push(&packed.entry.path, &payload),
            None => Err(Errno::INVAL),
        }
    }

    /// Directories get what they are to have, and all that was written is synced.
    pub fn close(&self, archives: &Archives, sorters: &Sorters, desk: &Arc<Desk>) -> Result<(), Refusal> {
        let failed = |errno| sorters.refusal(errno);
        let mut own = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        let all = std::mem::replace(&mut *own, sorters.sorter());
        drop(own);
        let mut hand = self.hand(desk, &desk.counters[0]);
        let mut all = Sorted::merge(vec![all]).map_err(failed)?;
        let mut last: Option<(Vec<u8>, Vec<u8>)> = None;
        while !desk.cancel.is_draining() {
            let next = all
                .next()
                .map_err(failed)?
                .map(|(key, payload)| (key.to_vec(), payload.to_vec()));
            // What is said of one comes after what is only known to have been made.
            let is_same = matches!((&last, &next), (Some((before, _)), Some((key, _))) if before == key);
            if let Some((key, payload)) = last.take().filter(|_| !is_same) {
                hand.dress(&key, &payload, archives);
            }
            match next {
                Some(next) => last = Some(next),
                None => break,
            }
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
    kept: Option<(Vec<u8>, OwnedFd)>,
    scratch: Scratch,
}

impl Hand<'_> {
    /// The directory at a path, and those above it, made where they are not there.
    fn enter(&self, path: &[u8]) -> Result<OwnedFd, Fault> {
        let open = |errno| fault(Operation::Open, errno);
        let mut at = sys::open_directory(self.tree.root.as_fd(), c".", Follow::No).map_err(open)?;
        let ends = path
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'/')
            .map(|(end, _)| end);
        let mut from = 0;
        for end in ends.chain((!path.is_empty()).then_some(path.len())) {
            let name = c_string(&path[from..end]).map_err(open)?;
            at = match sys::open_directory(at.as_fd(), &name, Follow::No) {
                Err(Errno::NOENT) => {
                    match sys::make_directory(at.as_fd(), &name) {
                        Ok(()) => {
                            let told = self.tree.directory(&path[..end], None);
                            told.map_err(|errno| fault(Operation::MakeDirectory, errno))?;
                        }
                        Err(Errno::EXIST) => {}
                        Err(errno) => return Err(fault(Operation::MakeDirectory, errno)),
                    }
                    sys::open_directory(at.as_fd(), &name, Follow::No).map_err(open)?
                }
                opened => opened.map_err(open)?,
            };
            from = end + 1;
        }
        Ok(at)
    }

    /// The directory that holds a path, and the last name of that.
    fn holder(&mut self, path: &[u8]) -> Result<(OwnedFd, CString), Fault> {
        let (parent, name) = split(path);
        let (own, at) = match self.kept.take() {
            Some(kept) if kept.0 == parent => kept,
            _ => (parent.to_vec(), self.enter(parent)?),
        };
        let copy = sys::duplicate(at.as_fd()).map_err(|errno| fault(Operation::Open, errno))?;
        self.kept = Some((own, at));
        Ok((copy, c_string(name).map_err(|errno| fault(Operation::Open, errno))?))
    }

    /// One entry. Nothing: its turn comes later.
    pub fn entry(
        &mut self,
        packed: &Packed,
        archive: &Opened,
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
                self.enter(path)?;
                let told = self.tree.directory(path, Some(packed));
                told.map_err(|errno| fault(Operation::MakeDirectory, errno))?;
                None
            }
            What::Link(_) if !self.tree.linking.load(Relaxed) => {
                let told = self.tree.link_later(packed);
                told.map_err(|errno| fault(Operation::Link, errno))?;
                None
            }
            What::Link(first) => {
                let first = packed.entry.target.as_ref().unwrap_or(first);
                Some(self.link(path, &inside(first)?)?)
            }
            What::File => Some(self.file(packed, archive, entry, digest)?),
            What::Symlink(_) | What::Fifo | What::Block(..) | What::Char(..) => Some(self.special(path, header)?),
        };
        self.tell(path);
        Ok(done)
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

    /// What has a name already, and is no directory.
    fn there(at: &OwnedFd, name: &CStr) -> Result<Option<Stat>, Fault> {
        match sys::stat(at.as_fd(), name, Follow::No) {
            Ok(stat) if stat.kind == Kind::Directory => Err(Fault::conflict(Operation::Create, 0, IN_THE_WAY)),
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(fault(Operation::Stat, errno)),
        }
    }

    fn file(
        &mut self,
        packed: &Packed,
        archive: &Opened,
        entry: &Entry,
        digest: &mut Hashers,
    ) -> Result<Done, Stopped> {
        let header = &entry.header;
        let (at, name) = self.holder(&packed.entry.path)?;
        let there = Self::there(&at, &name)?;
        let stat = facts(header);
        if there.is_some_and(|there| {
            (there.kind, there.size, there.mtime, there.mode) == (Kind::File, stat.size, stat.mtime, stat.mode)
        }) {
            return Ok(Done {
                outcome: Outcome::Skipped,
                reason: Some(Reason::Unchanged),
                bytes: header.size,
            });
        }
        let create = |name: &CStr| sys::create_file(at.as_fd(), name);
        let (file, staging) = self
            .tree
            .stager
            .stage(&name, create)
            .map_err(|errno| fault(Operation::Create, errno))?;
        let counters = self.counters;
        let _in_hand = counters.flight.in_hand();
        counters.flight.begin(entry.stored);
        let written = archive.content(entry, digest, self.desk, &mut |bytes, offset| {
            counters.flight.moved(bytes.len() as u64);
            counters.written().fetch_add(bytes.len() as u64, Relaxed);
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
            publish(at.as_fd(), &staging, &name, there.is_some(), 0)?;
            Ok(())
        });
        Self::or_discard(&at, &staging, finished)?;
        Ok(Done {
            outcome: Outcome::Copied,
            reason: None,
            bytes: header.size,
        })
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
        let (at, name) = self.holder(path)?;
        let there = Self::there(&at, &name)?;
        let stat = facts(header);
        let (kind, device) = match header.what {
            What::Block(major, minor) => (Kind::Block, sys::device(major, minor)),
            What::Char(major, minor) => (Kind::Char, sys::device(major, minor)),
            _ => (Kind::Fifo, 0),
        };
        let text = match &header.what {
            What::Symlink(text) => Some(c_string(text).map_err(|errno| fault(Operation::MakeSymlink, errno))?),
            _ => None,
        };
        let operation = if text.is_some() {
            Operation::MakeSymlink
        } else {
            Operation::MakeNode
        };
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
            publish(at.as_fd(), &staging, &name, there.is_some(), 0)?;
            Ok(())
        };
        let dressed = dress();
        Self::or_discard(&at, &staging, dressed)?;
        Ok(Outcome::Made.into())
    }

    /// A further name of a file that is there.
    fn link(&mut self, path: &[u8], first: &[u8]) -> Result<Done, Stopped> {
        let (parent, first_name) = split(first);
        let gone = |errno| match errno {
            Errno::NOENT => Fault::conflict(Operation::Link, 0, "the file that it is a further name of is not there"),
            errno => fault(Operation::Link, errno),
        };
        let from = open_beneath(&self.tree.root, parent, false).map_err(gone)?;
        let first_name = c_string(first_name).map_err(gone)?;
        let file = sys::stat(from.as_fd(), &first_name, Follow::No).map_err(gone)?;
        let (at, name) = self.holder(path)?;
        let there = Self::there(&at, &name)?;
        if there.is_some_and(|there| there.id == file.id) {
            return Ok(Done {
                outcome: Outcome::Skipped,
                reason: Some(Reason::Unchanged),
                bytes: 0,
            });
        }
        let link = |name: &CStr| sys::make_link(from.as_fd(), &first_name, at.as_fd(), name);
        let ((), staging) = self.tree.stager.stage(&name, link).map_err(gone)?;
        let published = publish(at.as_fd(), &staging, &name, there.is_some(), 0).map_err(Stopped::from);
        Self::or_discard(&at, &staging, published)?;
        Ok(Outcome::Linked.into())
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
            } else if !is_near(stat.mtime, stored) {
                let message = "the destination can't keep its time".to_owned();
                self.scratch.note("time", message, false);
            }
        }
        Ok(())
    }

    /// A directory gets what it is to have.
    fn dress(&mut self, key: &[u8], payload: &[u8], archives: &Archives) {
        let path: Vec<u8> = key[..key.len().saturating_sub(2)].iter().map(|byte| !*byte).collect();
        let path: Vec<u8> = path
            .into_iter()
            .map(|byte| if byte == 0 { b'/' } else { byte })
            .collect();
        let packed = match shards::parse(payload) {
            Ok(Some(Line::Entry(packed))) => Some(packed),
            _ => None,
        };
        let dressed = self.dressed(&path, packed.as_deref(), archives);
        self.tell(&path);
        match (&dressed, &packed) {
            (Ok(()), Some(_)) => self.counters.outcome(Kind::Directory, Outcome::Made, None, 0),
            (Err(fault), _) => {
                if packed.is_some() {
                    self.counters.outcome(Kind::Directory, fault.outcome(), None, 0);
                }
                let path = join(&self.tree.path, &path);
                self.desk.fail(Failure::new(fault, path, Kind::Directory, None));
            }
            (Ok(()), None) => {}
        }
    }

    fn dressed(&mut self, path: &[u8], packed: Option<&Packed>, archives: &Archives) -> Result<(), Fault> {
        let at = open_beneath(&self.tree.root, path, false).map_err(|errno| fault(Operation::Open, errno))?;
        let born = sys::stat_fd(at.as_fd()).map_err(|errno| fault(Operation::Stat, errno))?;
        let Some(packed) = packed else {
            // Nothing is said of it: it is like any that is made here.
            let mode = 0o777 & !self.tree.keep.umask;
            return set_mode(
                &self.tree.keep,
                (Node::Open(at.as_fd()), mode, false),
                0,
                &mut self.scratch,
            )
            .map(drop);
        };
        let entry = archives.get(&packed.shard)?.header(packed)?;
        self.metadata(&entry.header, &facts(&entry.header), (Node::Open(at.as_fd()), &born))
    }
}
