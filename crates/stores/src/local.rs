//! A directory of this machine as a store.
//!
//! Comes in: its path; goes out: a [`Store`]. Everything below the root is found by descriptors, through no symlink; a file
//! is written under a staging name and appears when it is whole, with its times, and synced before it has them: by its time
//! the next run takes it for finished. Where symlinks are carried, they are files to whoever asks: their text, under their name
//! with [`LINK_SUFFIX`], as rclone has them in a store.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bulkhaul_engine::bytes::output::{PLAIN, follow};
use bulkhaul_engine::bytes::transfer::stretches;
use bulkhaul_engine::entry::{Outcome, Reason};
use bulkhaul_engine::error::{Cause, Failure, Fault, Operation, Refusal, Side, Stopped, describe};
use bulkhaul_engine::job::desk::Desk;
use bulkhaul_engine::job::process::process;
use bulkhaul_engine::pool::schedule::Crew;
use bulkhaul_engine::records::facts::{FactFinder, Order, Wanted};
use bulkhaul_engine::records::gather::Gather;
use bulkhaul_engine::records::record::Record;
use bulkhaul_engine::records::sort::{SORT_BYTES, Sorted, Sorters};
use bulkhaul_engine::tree::descriptors::Budget;
use bulkhaul_engine::tree::metadata::{Shortfall, is_refusal};
use bulkhaul_engine::tree::path::{c_string, join, open_beneath, open_directory_path, show, split};
use bulkhaul_engine::tree::publish::publish;
use bulkhaul_engine::tree::selection::Selection;
use bulkhaul_engine::tree::staging::{Owner, Stager, Staging, appear};
use bulkhaul_engine::walk::Walk;
use bulkhaul_engine::walk::start::{Boundary, Root, Start, require_one};
use bulkhaul_engine::{Errno, Kind};
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Follow, Node, OwnedFd, Stat};
use bytes::Bytes;

use crate::likeness::Likeness;
use crate::session::Session;
use crate::store::{Abilities, Entry, Facts, Gone, Listing, Part, Reading, Store, Sums, Told, Writing};

/// What the name of a symlink ends with in a store (rclone, `--links`).
pub const LINK_SUFFIX: &[u8] = b".rclonelink";
/// The longest text of a symlink (Linux, `PATH_MAX`).
const LONGEST_TEXT: usize = 4096;

/// How a local side is used.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is an independent option")]
pub struct LocalOptions {
    /// Exclude rules: what they exclude is not looked at.
    pub filter: Option<bulkhaul_engine::tree::selection::Rules>,
    /// Other file systems are not entered.
    pub one_file_system: bool,
    /// Directory for temporary files without a name; none: memory is used.
    pub spill_directory: Option<Vec<u8>>,
    /// Modes that a store has kept are set; otherwise a new file has those of any, and a replaced one keeps its own.
    pub modes: bool,
    /// What is written is synced before it counts as finished.
    pub sync: bool,
    /// What dead runs left unfinished is cleared away as it is listed.
    pub clears: bool,
    /// Nobody lists it: what a dead run left of a file is found by the name of that, and goes when it is written again.
    pub unlisted: bool,
    /// Symlinks are carried.
    pub links: bool,
    /// The tree of this machine that what comes from there is like, in owner, mode and attributes; none: it is like anything new.
    pub like: Option<Vec<u8>>,
}

/// A directory.
pub struct Local {
    session: Arc<Session>,
    path: Vec<u8>,
    side: Side,
    options: LocalOptions,
    selection: Selection,
    stager: Stager,
    likeness: Option<Likeness>,
    root: OnceLock<Arc<OwnedFd>>,
}

impl Local {
    /// A store on this side of a job. Looks at nothing yet.
    pub fn new(session: &Arc<Session>, path: &[u8], side: Side, options: LocalOptions) -> Result<Self, Refusal> {
        bulkhaul_engine::tree::path::check(path)?;
        Ok(Self {
            session: Arc::clone(session),
            path: path.to_vec(),
            side,
            selection: Selection::of(options.filter.as_ref())?,
            likeness: options.like.as_deref().map(Likeness::of),
            options,
            stager: Stager::new(),
            root: OnceLock::new(),
        })
    }

    fn fault(&self, operation: Operation, errno: Errno) -> Fault {
        Fault::new(operation, self.side, errno)
    }

    fn conflict(&self, operation: Operation, what: &'static str) -> Fault {
        let index = match self.side {
            Side::Destination(index) => index,
            Side::Source => 0,
        };
        Fault::conflict(operation, index, what)
    }

    fn no_name(&self, operation: Operation, why: &str) -> Fault {
        Fault {
            operation,
            side: self.side,
            cause: Cause::Answered("name", why.to_owned()),
        }
    }

    /// Whether something in a destination is what a run has not finished; that of a dead one goes.
    fn is_unfinished(&self, key: &[u8]) -> bool {
        let owner = self.stager.owner(split(key).1);
        if self.side == Side::Source || owner.is_none() {
            return false;
        }
        if owner == Some(Owner::Dead) && self.options.clears && !key.ends_with(b"/") {
            // What stays is cleared by the next run.
            match self
                .holder(Operation::Remove, key, false)
                .map(|(at, name)| sys::unlink(at.as_fd(), &name))
            {
                Ok(Ok(()) | Err(_)) | Err(_) => {}
            }
        }
        true
    }

    /// The root, which is made where it is not there and `make` says so.
    fn root(&self, make: bool) -> Result<Arc<OwnedFd>, Errno> {
        if let Some(root) = self.root.get() {
            return Ok(Arc::clone(root));
        }
        let opened = match open_directory_path(&self.path, Follow::Yes) {
            Err(Errno::NOENT) if make => {
                self.make_root()?;
                open_directory_path(&self.path, Follow::Yes)
            }
            other => other,
        }?;
        Ok(Arc::clone(self.root.get_or_init(|| Arc::new(opened))))
    }

    fn make_root(&self) -> Result<(), Errno> {
        let mut missing: Vec<&[u8]> = Vec::new();
        let mut path = &self.path[..];
        let above = loop {
            let (directory, name) = split(path);
            if !matches!(name, b"" | b".") {
                missing.push(name);
            }
            match open_directory_path(directory, Follow::Yes) {
                Err(Errno::NOENT) if !directory.is_empty() => path = directory,
                other => break other?,
            }
        };
        let mut at = above;
        while let Some(name) = missing.pop() {
            at = if missing.is_empty() {
                self.step(&at, name, b"")?
            } else {
                step(&at, name, 0o777)?
            };
        }
        Ok(())
    }

    /// A directory of this store, whose path is `path` and whose name in the one above is `name`: made where it is not there, like
    /// the one that it stands for.
    fn step(&self, at: &OwnedFd, name: &[u8], path: &[u8]) -> Result<OwnedFd, Errno> {
        let opened = sys::open_directory(at.as_fd(), &c_string(name)?, Follow::No);
        let (Err(Errno::NOENT), Some(likeness)) = (&opened, &self.likeness) else {
            return match opened {
                Err(Errno::NOENT) => step(at, name, 0o777),
                opened => opened,
            };
        };
        let Some(original) = likeness.directory(path) else {
            return step(at, name, 0o777);
        };
        let made = step(at, name, 0o700)?;
        likeness
            .give(original.as_fd(), made.as_fd(), self.side)
            .map_err(|fault| match fault.cause {
                Cause::Errno(errno) => errno,
                _ => Errno::IO,
            })?;
        Ok(made)
    }

    /// The directory that holds a key, and the name in it.
    fn holder(&self, operation: Operation, key: &[u8], make: bool) -> Result<(OwnedFd, CString), Fault> {
        let (directory, name) = split(key);
        let fault = |errno| self.fault(operation, errno);
        if let Some(why) = unfit(key) {
            return Err(self.no_name(operation, why));
        }
        let root = self.root(make).map_err(fault)?;
        let name = c_string(name).map_err(fault)?;
        if !make {
            return Ok((open_beneath(&root, directory, false).map_err(fault)?, name));
        }
        let mut at = sys::open_directory(root.as_fd(), c".", Follow::No).map_err(fault)?;
        let mut end = 0;
        for part in directory.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            end += part.len() + usize::from(end > 0);
            at = self.step(&at, part, &directory[..end]).map_err(|errno| match errno {
                Errno::NOTDIR | Errno::LOOP => self.conflict(
                    Operation::MakeDirectory,
                    "something that is no directory has the name of one above it",
                ),
                errno => self.fault(Operation::MakeDirectory, errno),
            })?;
        }
        Ok((at, name))
    }
}

impl Local {
    /// Opens what was a file when it was listed.
    fn open(&self, key: &[u8]) -> Result<(OwnedFd, Stat), Fault> {
        let (at, name) = self.holder(Operation::Open, key, false)?;
        let file = sys::open_file(at.as_fd(), &name).map_err(|errno| match errno {
            Errno::LOOP => Fault::changed(Operation::Open),
            errno => self.fault(Operation::Open, errno),
        })?;
        let stat = sys::stat_fd(file.as_fd()).map_err(|errno| self.fault(Operation::Stat, errno))?;
        if stat.kind != Kind::File {
            return Err(Fault::changed(Operation::Open));
        }
        Ok((file, stat))
    }

    /// The key of a symlink without its end, where this is one.
    fn link_of<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        key.strip_suffix(LINK_SUFFIX)
            .filter(|plain| self.options.links && !plain.is_empty() && !plain.ends_with(b"/"))
    }

    /// A symlink, as a file with its text, if this is one.
    fn link(&self, operation: Operation, key: &[u8], plain: &[u8]) -> Result<(Entry, Bytes), Fault> {
        let (at, name) = self.holder(operation, plain, false)?;
        let fault = |errno| self.fault(operation, errno);
        let stat = sys::stat(at.as_fd(), &name, Follow::No).map_err(fault)?;
        if stat.kind != Kind::Symlink {
            return Err(fault(Errno::NOENT));
        }
        let text = sys::read_link(at.as_fd(), &name).map_err(fault)?.into_bytes();
        Ok((of_link(key.to_vec(), text.len() as u64, stat.mtime), text.into()))
    }
}

/// A symlink as a file. It has no mode of its own.
fn of_link(key: Vec<u8>, size: u64, mtime: sys::Time) -> Entry {
    Entry {
        facts: Some(Facts {
            mtime: Some(mtime),
            ..Facts::default()
        }),
        ..entry(key, Kind::File, size, mtime, (0, 0, 0))
    }
}

/// A file system that refuses a mode or a time has the content all the same, and shows what it has instead.
fn unless_refused(set: sys::Result<()>) -> sys::Result<()> {
    match set {
        Err(errno) if is_refusal(errno) => Ok(()),
        set => set,
    }
}

/// Why no local path is like a key. Two keys would become one.
fn unfit(key: &[u8]) -> Option<&'static str> {
    let key = key.strip_suffix(b"/").unwrap_or(key);
    let mut parts = key.split(|byte| *byte == b'/');
    if parts.any(|part| matches!(part, b"" | b"." | b"..")) {
        return Some("a local path has no empty name, and . and .. are others");
    }
    key.contains(&0).then_some("a local path has no NUL byte")
}

/// A directory in another, made with this mode where it is not there.
fn step(at: &OwnedFd, name: &[u8], mode: u32) -> Result<OwnedFd, Errno> {
    let name = c_string(name)?;
    match sys::open_directory(at.as_fd(), &name, Follow::No) {
        Err(Errno::NOENT) => {
            match sys::make_directory_as(at.as_fd(), &name, mode) {
                // Another worker needs it too.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            sys::open_directory(at.as_fd(), &name, Follow::No)
        }
        other => other,
    }
}

/// A path without symlinks, as far as it is there.
pub fn whole_path(path: &[u8]) -> PathBuf {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    for above in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (above.canonicalize(), path.strip_prefix(above)) {
            return real.join(rest);
        }
    }
    path
}

/// What `stat` says of a file.
fn of_stat(key: Vec<u8>, stat: &Stat) -> Entry {
    entry(key, stat.kind, stat.size, stat.mtime, (stat.mode, stat.uid, stat.gid))
}

fn entry(key: Vec<u8>, kind: Kind, size: u64, mtime: sys::Time, (mode, uid, gid): (u32, u32, u32)) -> Entry {
    Entry {
        key,
        kind,
        size: if kind == Kind::File { size } else { 0 },
        written: mtime,
        tag: Vec::new(),
        facts: Some(Facts {
            mtime: Some(mtime),
            mode: Some(mode),
            uid: Some(uid),
            gid: Some(gid),
            ..Facts::default()
        }),
        failed: false,
    }
}

/// A walk's records in order.
struct Sorting<'s> {
    store: &'s Local,
    desk: &'s Desk,
    sorted: Sorted,
    /// Symlinks whose place in the order is still to come, by the keys that they have here: those of names that the next one
    /// begins with.
    links: BTreeMap<Vec<u8>, Entry>,
    ahead: Option<Entry>,
}

impl Listing for Sorting<'_> {
    fn next(&mut self) -> Result<Option<Entry>, Stopped> {
        loop {
            if self.ahead.is_none() {
                self.ahead = self.walked()?;
            }
            let is_next = |key: &Vec<u8>| self.ahead.as_ref().is_none_or(|ahead| *key <= ahead.key);
            if self.links.first_key_value().is_some_and(|(key, _)| is_next(key)) {
                return Ok(self.links.pop_first().map(|(_, entry)| entry));
            }
            let Some(entry) = self.ahead.take() else {
                return Ok(None);
            };
            if self.store.options.links && entry.kind == Kind::Symlink && !entry.failed {
                let key = [&entry.key[..], LINK_SUFFIX].concat();
                let size = entry.size;
                self.links.insert(key.clone(), of_link(key, size, entry.written));
            } else if self.store.link_of(&entry.key).is_some() && entry.kind == Kind::File && !entry.failed {
                self.refuse(&entry);
            } else {
                return Ok(Some(entry));
            }
        }
    }
}

impl Sorting<'_> {
    /// A file that has the name of a symlink in a store would come back as one.
    fn refuse(&self, entry: &Entry) {
        let why = "a file with this name would come back as a symlink";
        let fault = self.store.no_name(Operation::List, why);
        let counters = &self.desk.counters[0];
        counters.outcome(entry.kind, fault.outcome(), None, entry.size);
        let path = self.store.path(&entry.key);
        self.desk.fail(Failure::new(&fault, path, entry.kind, None));
    }

    fn walked(&mut self) -> Result<Option<Entry>, Stopped> {
        let broken = |errno| Fault::new(Operation::List, Side::Source, errno);
        let Some((key, payload)) = self.sorted.next().map_err(broken)? else {
            return Ok(None);
        };
        let record = Record::decode(payload).ok_or_else(|| broken(Errno::IO))?;
        // The root itself, which is not carried.
        if key == b"/" && !record.failed {
            let (outcome, reason) = (Outcome::Skipped, Some(Reason::NotNeeded));
            self.desk.counters[0].outcome(Kind::Directory, outcome, reason, 0);
            return self.walked();
        }
        if self.store.is_unfinished(key) {
            return self.walked();
        }
        let details = record.details;
        let mut entry = entry(
            key.to_vec(),
            record.kind,
            details.map_or(0, |details| details.size),
            details.map_or(sys::Time { sec: 0, nsec: 0 }, |details| details.mtime),
            details.map_or((0, 0, 0), |details| (details.mode, details.uid, details.gid)),
        );
        entry.failed = record.failed;
        if record.kind == Kind::Symlink {
            entry.size = details.map_or(0, |details| details.size);
        }
        Ok(Some(entry))
    }
}

/// What was not there is a store with nothing in it.
struct Nothing;

impl Listing for Nothing {
    fn next(&mut self) -> Result<Option<Entry>, Stopped> {
        Ok(None)
    }
}

impl Store for Local {
    fn abilities(&self) -> Abilities {
        Abilities {
            directories: true,
            walks: true,
            retries: true,
            lists_mtime: true,
            verifies: true,
            probe_stays: false,
        }
    }

    fn path(&self, key: &[u8]) -> Vec<u8> {
        join(&self.path, key)
    }

    fn identity(&self) -> Vec<u8> {
        // It ends with a slash, whether it is there yet or not.
        whole_path(&self.path).join("").into_os_string().into_vec()
    }

    fn admit(&self, key: &[u8], size: Option<u64>) -> Result<(), Fault> {
        let ends = key.ends_with(b"/") && size != Some(0);
        let why = ends.then_some("no local file has a name with a slash at its end");
        match why.or_else(|| unfit(key)) {
            Some(why) => Err(self.no_name(Operation::Create, why)),
            None => Ok(()),
        }
    }

    fn list<'s>(&'s self, desk: &'s Desk) -> Result<Box<dyn Listing + 's>, Refusal> {
        let roots = [Root {
            path: self.path.clone(),
            follow: true,
            contents: true,
            pin: None,
        }];
        match self.root(false) {
            Err(Errno::NOENT) if self.side != Side::Source => return Ok(Box::new(Nothing)),
            Err(errno) => {
                require_one(&roots)?;
                let text = format!("{}: {}", show(&self.path), describe(errno));
                return Err(match self.side {
                    Side::Source => Refusal::NoSource(text),
                    Side::Destination(_) => Refusal::NoDestination(text),
                });
            }
            Ok(_) => {}
        }
        let (budget, most, _) = Budget::share(desk.counters.len());
        let crew = Crew::Fixed(process().processors.min(most).min(desk.counters.len()).max(1));
        let sorters = Sorters::new(self.options.spill_directory.as_deref(), SORT_BYTES / 2, crew.active());
        let sorters = sorters.counted(desk.steps());
        let wanted = Wanted {
            details: true,
            xattrs: false,
            portable: false,
            tail: 0,
            specials: true,
            order: Order::Keys,
        };
        let gather = Gather::new(desk, &roots, FactFinder::new(desk, wanted), &sorters);
        let walk = Walk {
            filter: &self.selection,
            boundary: Boundary::of(self.options.one_file_system),
            across: &[],
            desk,
            crew: &crew,
            budget: &budget,
        };
        walk.run(Start::Roots(&roots), &gather);
        let sorted = gather.sorted()?;
        Ok(Box::new(Sorting {
            store: self,
            desk,
            sorted,
            links: BTreeMap::new(),
            ahead: None,
        }))
    }

    fn stat(&self, key: &[u8]) -> Result<Option<Entry>, Stopped> {
        let looked = match self.link_of(key) {
            Some(plain) => self.link(Operation::Stat, key, plain).map(|(entry, _)| entry),
            None => self.holder(Operation::Stat, key, false).and_then(|(at, name)| {
                let stat = sys::stat(at.as_fd(), &name, Follow::No);
                let stat = stat.map_err(|errno| self.fault(Operation::Stat, errno))?;
                if key.ends_with(b"/") && stat.kind != Kind::Directory {
                    return Err(self.fault(Operation::Stat, Errno::NOTDIR));
                }
                Ok(of_stat(key.to_vec(), &stat))
            }),
        };
        match looked {
            Ok(entry) => Ok(Some(entry)),
            Err(Fault {
                cause: Cause::Errno(Errno::NOENT | Errno::NOTDIR),
                ..
            }) => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }

    fn read<'s>(&'s self, listed: &Entry) -> Result<Box<dyn Reading + 's>, Stopped> {
        if let Some(plain) = self.link_of(&listed.key) {
            let (entry, text) = self.link(Operation::Read, &listed.key, plain)?;
            return Ok(Box::new(Text(entry, Some(text))));
        }
        let (file, stat) = self.open(&listed.key)?;
        let entry = of_stat(listed.key.clone(), &stat);
        Ok(Box::new(File {
            store: self,
            fd: file,
            stat,
            entry,
            at: 0,
        }))
    }

    fn range(&self, entry: &Entry, from: u64, bytes: u64) -> Result<Bytes, Stopped> {
        if let Some(plain) = self.link_of(&entry.key) {
            let (_, text) = self.link(Operation::Read, &entry.key, plain)?;
            let cut = |byte: u64| usize::try_from(byte).map_or(text.len(), |byte| byte.min(text.len()));
            return Ok(text.slice(cut(from)..cut(from.saturating_add(bytes))));
        }
        let (file, stat) = self.open(&entry.key)?;
        if stat.size != entry.size {
            return Err(Fault::changed(Operation::Read).into());
        }
        let mut buffer = self.session.buffer(bytes.min(entry.size.saturating_sub(from)));
        let got = sys::read_full_at(file.as_fd(), &mut buffer, from);
        let got = got.map_err(|errno| self.fault(Operation::Read, errno))?;
        buffer.truncate(got);
        Ok(buffer.into())
    }

    fn part_bytes(&self, _size: u64) -> u64 {
        self.session.options.part
    }

    fn mode_of(&self, facts: &Facts) -> Option<u32> {
        facts.given_mode(self.options.modes)
    }

    fn write<'s>(
        &'s self,
        key: &[u8],
        size: Option<u64>,
        facts: &Facts,
        replaces: bool,
    ) -> Result<Box<dyn Writing + 's>, Stopped> {
        if let Some(plain) = self.link_of(key) {
            return Ok(Box::new(Linked {
                store: self,
                key: key.to_vec(),
                plain: plain.to_vec(),
                mtime: facts.mtime,
                text: Vec::new(),
            }));
        }
        if key.ends_with(b"/") && size == Some(0) {
            return Ok(Box::new(Made {
                store: self,
                key: key.to_vec(),
            }));
        }
        self.admit(key, size)?;
        let (at, name) = self.holder(Operation::Create, key, true)?;
        let fault = |errno| self.fault(Operation::Create, errno);
        // Its mode may keep it from others.
        let is_private = replaces || self.likeness.is_some() || self.mode_of(facts).is_some();
        let bits = if is_private { 0o600 } else { PLAIN };
        let create = |staged: &CStr| sys::create_file_as(at.as_fd(), staged, bits);
        let made = if self.options.unlisted {
            let anew = |_: &OwnedFd, _: &Stat| false;
            let staged = self.stager.stage_file(at.as_fd(), (&name, None), create, anew);
            staged.map(|(file, staging, _)| (file, staging))
        } else {
            self.stager.stage(&name, create)
        };
        let (file, staging) = made.map_err(fault)?;
        Ok(Box::new(Staged {
            store: self,
            key: key.to_vec(),
            at,
            name,
            file,
            staging,
            facts: facts.clone(),
            replaces,
            written: 0,
            resembles: false,
        }))
    }

    fn delete(&self, keys: &[Vec<u8>], told: Told<'_>) -> Result<(), Stopped> {
        for key in keys {
            let plain = self.link_of(key).unwrap_or(key);
            let gone = self.holder(Operation::Remove, plain, false).and_then(|(at, name)| {
                if plain != key {
                    self.link(Operation::Remove, key, plain)?;
                }
                let removed = if key.ends_with(b"/") {
                    sys::remove_directory(at.as_fd(), &name)
                } else {
                    sys::unlink(at.as_fd(), &name)
                };
                match removed {
                    Ok(()) => Ok(Gone::Removed),
                    Err(Errno::NOENT) => Ok(Gone::Vanished),
                    Err(Errno::NOTEMPTY | Errno::EXIST) if key.ends_with(b"/") => Ok(Gone::NotEmpty),
                    Err(errno) => Err(self.fault(Operation::Remove, errno)),
                }
            });
            let vanished = matches!(&gone, Err(fault) if fault.cause == Cause::Errno(Errno::NOENT));
            told(key, if vanished { Ok(Gone::Vanished) } else { gone });
        }
        Ok(())
    }
}

/// A file that is being read.
struct File<'s> {
    store: &'s Local,
    fd: OwnedFd,
    stat: Stat,
    entry: Entry,
    at: u64,
}

impl Reading for File<'_> {
    fn entry(&self) -> &Entry {
        &self.entry
    }

    fn next(&mut self, bytes: u64) -> Result<Option<Part>, Stopped> {
        let left = self.stat.size - self.at;
        if left == 0 {
            return Ok(None);
        }
        let want = bytes.min(left);
        let lease = self.store.session.wait(self.store.session.lease(want))?;
        let mut buffer = self.store.session.buffer(want);
        let got = sys::read_full_at(self.fd.as_fd(), &mut buffer, self.at);
        let got = got.map_err(|errno| self.store.fault(Operation::Read, errno))?;
        if got < buffer.len() {
            return Err(Fault::size(self.store.side, self.stat.size, self.at + got as u64).into());
        }
        self.at += want;
        if self.at == self.stat.size {
            let more = sys::read_full_at(self.fd.as_fd(), &mut [0], self.at);
            let more = more.map_err(|errno| self.store.fault(Operation::Read, errno))?;
            if more > 0 {
                return Err(Fault::size(self.store.side, self.stat.size, self.at + 1).into());
            }
        }
        Ok(Some(Part {
            bytes: buffer.into(),
            lease,
        }))
    }

    fn file(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }

    fn close(self: Box<Self>) -> Result<(), Stopped> {
        let now = sys::stat_fd(self.fd.as_fd()).map_err(|errno| self.store.fault(Operation::Stat, errno))?;
        if now.is_same(&self.stat) {
            Ok(())
        } else {
            Err(Fault::changed(Operation::Read).into())
        }
    }
}

/// A file under a staging name.
struct Staged<'s> {
    store: &'s Local,
    key: Vec<u8>,
    at: OwnedFd,
    name: CString,
    file: OwnedFd,
    staging: Staging,
    facts: Facts,
    replaces: bool,
    written: u64,
    /// It has owner and mode already.
    resembles: bool,
}

impl Staged<'_> {
    /// It is to those who may read it what the file is that it replaces.
    fn follow(&self) -> Result<Vec<Shortfall>, Fault> {
        let there = match sys::open_node(self.at.as_fd(), &self.name) {
            Err(Errno::NOENT) => return Ok(Vec::new()),
            opened => opened.map_err(|errno| self.store.fault(Operation::Open, errno))?,
        };
        follow(&there, &self.file).map_err(|errno| self.store.fault(Operation::SetMode, errno))
    }

    fn complete(&self, sums: &Sums) -> Result<Entry, Fault> {
        let fault = |operation| move |errno| self.store.fault(operation, errno);
        if sums.bytes != self.written {
            return Err(Fault::size(self.store.side, sums.bytes, self.written));
        }
        let options = &self.store.options;
        let node = Node::Open(self.file.as_fd());
        if self.store.likeness.is_some() {
            // It may end with blocks of zeros, which were not written.
            sys::set_size(self.file.as_fd(), self.written).map_err(fault(Operation::Write))?;
        }
        if let (false, Some(mode)) = (self.resembles, self.store.mode_of(&self.facts)) {
            unless_refused(sys::set_mode(node, mode)).map_err(fault(Operation::SetMode))?;
        }
        if options.sync {
            sys::sync_all(self.file.as_fd()).map_err(fault(Operation::Sync))?;
        }
        if let Some(mtime) = self.facts.mtime {
            unless_refused(sys::set_times(node, None, Some(mtime))).map_err(fault(Operation::SetTimes))?;
        }
        // Some servers know a file by its name only, and this one goes.
        let stat = sys::stat_fd(self.file.as_fd()).map_err(fault(Operation::Stat))?;
        let index = match self.store.side {
            Side::Destination(index) => index,
            Side::Source => 0,
        };
        if self.replaces {
            publish(self.at.as_fd(), &self.staging, &self.name, true, index)?;
        } else {
            match appear(self.at.as_fd(), self.staging.as_c_str(), &self.name) {
                Ok(()) => {}
                // Nothing had it when it was looked at: another key may be this name here, by its case.
                Err(Errno::EXIST) => {
                    let there = sys::stat(self.at.as_fd(), &self.name, Follow::No);
                    let is_link = there.is_ok_and(|there| there.kind == Kind::Symlink);
                    let what = if is_link {
                        "a symlink is in the way"
                    } else {
                        "something has this name that was not there, or another key is the same name here"
                    };
                    return Err(self.store.conflict(Operation::Rename, what));
                }
                Err(errno) => return Err(self.store.fault(Operation::Rename, errno)),
            }
        }
        Ok(of_stat(self.key.clone(), &stat))
    }
}

impl Writing for Staged<'_> {
    fn put(&mut self, part: Part) -> Result<(), Stopped> {
        let whole = 0..part.bytes.len();
        let pieces: Vec<Range<usize>> = if self.store.likeness.is_some() {
            stretches(&part.bytes, self.written).collect()
        } else {
            vec![whole]
        };
        for piece in pieces {
            let at = self.written + piece.start as u64;
            let written = sys::write_all_at(self.file.as_fd(), &part.bytes[piece], at);
            written.map_err(|errno| self.store.fault(Operation::Write, errno))?;
        }
        self.written += part.bytes.len() as u64;
        Ok(())
    }

    fn resemble(&mut self, original: Option<BorrowedFd<'_>>) -> Result<Vec<Shortfall>, Stopped> {
        match (&self.store.likeness, original) {
            (Some(likeness), Some(original)) => {
                likeness.give(original, self.file.as_fd(), self.store.side)?;
                self.resembles = true;
                Ok(likeness.shortfalls())
            }
            _ if self.replaces && self.store.mode_of(&self.facts).is_none() => Ok(self.follow()?),
            _ => Ok(Vec::new()),
        }
    }

    fn finish(self: Box<Self>, sums: &Sums) -> Result<Entry, Stopped> {
        match self.complete(sums) {
            Ok(entry) => Ok(entry),
            Err(fault) => {
                self.abort();
                Err(fault.into())
            }
        }
    }

    fn abort(self: Box<Self>) {
        // What stays is under a staging name, and the next run clears it.
        match sys::unlink(self.at.as_fd(), self.staging.as_c_str()) {
            Ok(()) | Err(_) => {}
        }
    }
}

/// The text of a symlink that is being read.
struct Text(Entry, Option<Bytes>);

impl Reading for Text {
    fn entry(&self) -> &Entry {
        &self.0
    }

    fn next(&mut self, _bytes: u64) -> Result<Option<Part>, Stopped> {
        let bytes = self.1.take().filter(|text| !text.is_empty());
        Ok(bytes.map(|bytes| Part { bytes, lease: None }))
    }

    fn close(self: Box<Self>) -> Result<(), Stopped> {
        Ok(())
    }
}

/// A symlink that is being made.
struct Linked<'s> {
    store: &'s Local,
    key: Vec<u8>,
    plain: Vec<u8>,
    mtime: Option<sys::Time>,
    text: Vec<u8>,
}

impl Writing for Linked<'_> {
    fn put(&mut self, part: Part) -> Result<(), Stopped> {
        if self.text.len() + part.bytes.len() >= LONGEST_TEXT {
            return Err(self.store.fault(Operation::Create, Errno::NAMETOOLONG).into());
        }
        self.text.extend_from_slice(&part.bytes);
        Ok(())
    }

    fn finish(self: Box<Self>, sums: &Sums) -> Result<Entry, Stopped> {
        let store = self.store;
        let fault = |operation| move |errno| store.fault(operation, errno);
        let (at, name) = store.holder(Operation::Create, &self.plain, true)?;
        let text = c_string(&self.text).map_err(fault(Operation::Create))?;
        let made = store
            .stager
            .stage(&name, |staged| sys::make_symlink(&text, at.as_fd(), staged));
        let ((), staging) = made.map_err(fault(Operation::Create))?;
        let staged = staging.as_c_str();
        let done = self.settle(&at, staged, &name);
        if done.is_err() {
            // What stays is under a staging name, and the next run clears it.
            match sys::unlink(at.as_fd(), staged) {
                Ok(()) | Err(_) => {}
            }
        }
        let mtime = done?;
        Ok(of_link(self.key, sums.bytes, mtime))
    }

    fn abort(self: Box<Self>) {}
}

impl Linked<'_> {
    /// Gives it its time and its name; only a symlink is replaced.
    fn settle(&self, at: &OwnedFd, staged: &CStr, name: &CString) -> Result<sys::Time, Fault> {
        let fault = |operation| move |errno| self.store.fault(operation, errno);
        let node = sys::open_node(at.as_fd(), staged).map_err(fault(Operation::Open))?;
        if let Some(mtime) = self.mtime {
            let set = sys::set_times(Node::Path(node.as_fd()), None, Some(mtime));
            unless_refused(set).map_err(fault(Operation::SetTimes))?;
        }
        let stat = sys::stat_fd(node.as_fd()).map_err(fault(Operation::Stat))?;
        match appear(at.as_fd(), staged, name) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let there = sys::stat(at.as_fd(), name, Follow::No).map_err(fault(Operation::Stat))?;
                if there.kind != Kind::Symlink {
                    let what = "something that is no symlink has its name";
                    return Err(self.store.conflict(Operation::Rename, what));
                }
                let renamed = sys::rename(at.as_fd(), staged, at.as_fd(), name, sys::Replace::Yes);
                renamed.map_err(fault(Operation::Rename))?;
            }
            Err(errno) => return Err(self.store.fault(Operation::Rename, errno)),
        }
        Ok(stat.mtime)
    }
}

/// A directory that nothing is in.
struct Made<'s> {
    store: &'s Local,
    key: Vec<u8>,
}

impl Writing for Made<'_> {
    fn put(&mut self, _part: Part) -> Result<(), Stopped> {
        Ok(())
    }

    fn finish(self: Box<Self>, _sums: &Sums) -> Result<Entry, Stopped> {
        let store = self.store;
        let (at, name) = store.holder(Operation::MakeDirectory, &self.key, true)?;
        let path = self.key.strip_suffix(b"/").unwrap_or(&self.key);
        let made = store.step(&at, name.as_bytes(), path);
        let made = made.map_err(|errno| match errno {
            Errno::NOTDIR | Errno::LOOP => {
                store.conflict(Operation::MakeDirectory, "something that is no directory has its name")
            }
            errno => store.fault(Operation::MakeDirectory, errno),
        })?;
        let stat = sys::stat_fd(made.as_fd()).map_err(|errno| store.fault(Operation::Stat, errno))?;
        Ok(of_stat(self.key, &stat))
    }

    fn abort(self: Box<Self>) {}
}
