//! A directory of another host as a store, over the system's ssh.
//!
//! Comes in: host and path; goes out: a [`Store`]. ssh finds its own configuration, keys and known hosts, and asks nothing. Names
//! are bytes. What is written has a staging name until it is whole and has its time, is synced before that where the host can
//! do it, and replaces in one step where the host can (OpenSSH: both). SFTP keeps whole seconds. It has no way to stay below a
//! directory by descriptors: that nothing above a name is a symlink is asked first, and who may write there could change it in
//! between.

mod connection;

use std::collections::HashSet;
use std::ffi::CString;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bulkhaul_engine::bytes::output::PLAIN;
use bulkhaul_engine::entry::Outcome;
use bulkhaul_engine::error::{Cause, Failure, Fault, Operation, Refusal, Side, Stopped};
use bulkhaul_engine::job::desk::Desk;
use bulkhaul_engine::pool::schedule::drive;
use bulkhaul_engine::tree::path::{join, show, split};
use bulkhaul_engine::tree::staging::Stager;
use bulkhaul_engine::{Errno, Kind};
use bulkhaul_sys::Time;
use bytes::Bytes;

use self::connection::{Ask, Attributes, Connection, Pending, Wrong, text};
use crate::gathered::{Gathering, Nothing};
use crate::local::LocalOptions;
use crate::session::Session;
use crate::store::{Abilities, Entry, Facts, Gone, Listing, Part, Reading, Store, Sums, Told, Writing};

/// Bytes of one request: every server takes so many.
const PIECE_BYTES: usize = 32 << 10;
/// Directories that are listed at once.
const LISTED_AT_ONCE: usize = 8;
/// Directories that are remembered to be there.
const MOST_KNOWN: usize = 100_000;
/// How a file is opened: to be written, made, and nobody else's; to be read.
const EXCLUSIVE_WRITE: u32 = 0x02 | 0x08 | 0x20;
const READ: u32 = 0x01;
/// Extensions of OpenSSH.
const RENAME: &str = "posix-rename@openssh.com";
const SYNC: &str = "fsync@openssh.com";

/// A host, and a path on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Who logs in; none: as ssh has it.
    pub user: Option<String>,
    /// The host, as ssh knows it.
    pub host: String,
    /// Its port; none: as ssh has it.
    pub port: Option<u16>,
    /// From the root with a slash in front; else from where a login begins.
    pub path: Vec<u8>,
}

impl Place {
    /// Reads what stands behind `sftp://`: `[USER@]HOST[:PORT]/PATH`, where `/~/` is where a login begins.
    pub fn parse(below: &[u8]) -> Option<Self> {
        let at = below.iter().position(|byte| *byte == b'/').unwrap_or(below.len());
        let (authority, path) = below.split_at(at);
        let authority = str::from_utf8(authority).ok()?;
        let (user, rest) = match authority.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, authority),
        };
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':')?)),
            None => rest
                .split_once(':')
                .map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map(str::parse).transpose().ok()?;
        // A password belongs nowhere, and a dash in front would be an option.
        let is_word = |word: &str| {
            !word.is_empty()
                && !word.starts_with('-')
                && word.chars().all(|c| c.is_alphanumeric() || "._-+%".contains(c))
        };
        let is_host =
            |host: &str| is_word(host) || (!host.is_empty() && host.chars().all(|c| c.is_ascii_hexdigit() || c == ':'));
        if !is_host(host) || !user.is_none_or(is_word) {
            return None;
        }
        let path = match path.strip_prefix(b"/~") {
            Some([]) => b"",
            Some([b'/', rest @ ..]) => rest,
            _ => path,
        };
        let end = path
            .iter()
            .rposition(|byte| *byte != b'/')
            .map_or(path.len().min(1), |at| at + 1);
        Some(Self {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
            path: path[..end].to_vec(),
        })
    }

    /// The same written.
    pub fn url(&self) -> Vec<u8> {
        let mut url = b"sftp://".to_vec();
        if let Some(user) = &self.user {
            url.extend_from_slice(format!("{user}@").as_bytes());
        }
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        url.extend_from_slice(host.as_bytes());
        if let Some(port) = self.port {
            url.extend_from_slice(format!(":{port}").as_bytes());
        }
        if !self.path.starts_with(b"/") {
            url.extend_from_slice(b"/~/");
        }
        url.extend_from_slice(&self.path);
        url
    }
}

/// A directory of a host.
pub struct Sftp {
    session: Arc<Session>,
    place: Place,
    side: Side,
    options: LocalOptions,
    stager: Stager,
    connection: Mutex<Option<Arc<Connection>>>,
    /// Directories that are there, and are no symlinks.
    known: Mutex<HashSet<Vec<u8>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sftp {
    /// A store on this side of a job. Connects when it is first asked.
    pub fn new(session: &Arc<Session>, place: &Place, side: Side, options: LocalOptions) -> Self {
        Self {
            session: Arc::clone(session),
            place: place.clone(),
            side,
            options,
            stager: Stager::new(),
            connection: Mutex::new(None),
            known: Mutex::default(),
        }
    }

    fn answered(&self, operation: Operation, kind: &'static str, text: impl Into<String>) -> Fault {
        Fault {
            operation,
            side: self.side,
            cause: Cause::Answered(kind, text.into()),
        }
    }

    fn conflict(&self, operation: Operation, what: &'static str) -> Fault {
        let index = match self.side {
            Side::Destination(index) => index,
            Side::Source => 0,
        };
        Fault::conflict(operation, index, what)
    }

    fn stopped(&self, operation: Operation, wrong: Wrong) -> Stopped {
        let fault = match wrong {
            Wrong::Stopped => return Stopped::Aborted,
            Wrong::Absent => Fault::new(operation, self.side, Errno::NOENT),
            Wrong::Denied => Fault::new(operation, self.side, Errno::ACCESS),
            Wrong::Unable => self.answered(operation, "unsupported", "the host can't do this"),
            Wrong::Lost(why) => self.answered(operation, "unavailable", why),
            Wrong::Failed(why) => self.answered(operation, "server", why),
            Wrong::End => self.answered(operation, "server", "it ended too early"),
        };
        fault.into()
    }

    /// The connection, which is made where there is none, or none any more.
    fn connection(&self, operation: Operation) -> Result<Arc<Connection>, Stopped> {
        let mut held = locked(&self.connection);
        if let Some(connection) = held.as_ref().filter(|connection| !connection.is_lost()) {
            return Ok(Arc::clone(connection));
        }
        *held = None;
        let Place { user, host, port, .. } = &self.place;
        let opened = Connection::open(&self.session, (user.as_deref(), host, *port));
        let opened = Arc::new(opened.map_err(|wrong| self.stopped(operation, wrong))?);
        *held = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// A key on the host.
    fn whole(&self, operation: Operation, key: &[u8]) -> Result<Vec<u8>, Fault> {
        let plain = key.strip_suffix(b"/").unwrap_or(key);
        let folds = !plain.is_empty()
            && plain
                .split(|byte| *byte == b'/')
                .any(|part| matches!(part, b"" | b"." | b".."));
        if folds || plain.contains(&0) {
            return Err(self.answered(operation, "name", "a host has no empty name, and . and .. are others"));
        }
        let root = &self.place.path[..];
        Ok(match (root, plain) {
            (b"", b"") => b".".to_vec(),
            (root, b"") => root.to_vec(),
            (b"", plain) => plain.to_vec(),
            (root, plain) => join(root, plain),
        })
    }

    fn entry(key: Vec<u8>, attributes: &Attributes) -> Entry {
        let (kind, changed) = (attributes.kind(), attributes.changed());
        Entry {
            key,
            kind,
            size: if kind == Kind::File {
                attributes.size.unwrap_or(0)
            } else {
                0
            },
            written: changed,
            tag: Vec::new(),
            facts: Some(Facts {
                mtime: attributes.mtime.map(|_| changed).filter(|_| kind != Kind::Directory),
                mode: attributes.mode.map(|mode| mode & 0o7777),
                uid: attributes.owner.map(|(user, _)| user),
                gid: attributes.owner.map(|(_, group)| group),
                ..Facts::default()
            }),
            failed: false,
        }
    }

    /// What is in a directory; a directory's key ends with a slash.
    fn names(&self, connection: &Connection, key: &[u8]) -> Result<Vec<Entry>, Wrong> {
        let whole = self
            .whole(Operation::List, key)
            .map_err(|fault| Wrong::Failed(bulkhaul_engine::error::cause_of(&fault)))?;
        let handle = connection.handle(Ask::Opendir, &[&text(&whole)])?;
        let mut entries = Vec::new();
        let listed = loop {
            match connection
                .begin(Ask::Readdir, &[&text(&handle)])
                .and_then(Pending::names)
            {
                Ok(names) => entries.extend(names.into_iter().filter_map(|(name, attributes)| {
                    if matches!(&name[..], b"" | b"." | b"..") || name.contains(&b'/') {
                        return None;
                    }
                    let slash: &[u8] = if attributes.kind() == Kind::Directory {
                        b"/"
                    } else {
                        b""
                    };
                    Some(Self::entry([key, &name, slash].concat(), &attributes))
                })),
                Err(Wrong::End) => break Ok(()),
                Err(wrong) => break Err(wrong),
            }
        };
        // It ends with the connection, too.
        match connection.begin(Ask::Close, &[&text(&handle)]) {
            Ok(_) | Err(_) => {}
        }
        listed.map(|()| entries)
    }

    /// Lists all that is below the root.
    fn gather(&self, connection: &Connection, desk: &Desk) -> Result<Gathering, Stopped> {
        let gathering = Gathering::new(desk, self.side, self.options.spill_directory.as_deref());
        let listing = Mutex::new(Walk {
            waiting: vec![Self::entry(Vec::new(), &Attributes::default())],
            busy: 0,
            gathering,
            ended: None,
        });
        let more = Condvar::new();
        // Who can't be started leaves the rest to the others.
        drive(LISTED_AT_ONCE, |_| self.walk(connection, desk, &listing, &more));
        let walk = listing.into_inner().unwrap_or_else(PoisonError::into_inner);
        match walk.ended {
            Some(stopped) => Err(stopped),
            None => Ok(walk.gathering),
        }
    }

    fn walk(&self, connection: &Connection, desk: &Desk, walk: &Mutex<Walk>, more: &Condvar) {
        let mut held = locked(walk);
        loop {
            if held.ended.is_some() || desk.cancel.is_aborted() {
                held.ended.get_or_insert(Stopped::Aborted);
                break;
            }
            let Some(mut directory) = held.waiting.pop() else {
                if held.busy == 0 {
                    break;
                }
                held = more.wait(held).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            held.busy += 1;
            drop(held);
            let names = self.names(connection, &directory.key);
            held = locked(walk);
            held.busy -= 1;
            let found = match names {
                Ok(names) => names,
                Err(wrong @ (Wrong::Stopped | Wrong::Lost(_))) => {
                    held.ended = Some(self.stopped(Operation::List, wrong));
                    break;
                }
                Err(wrong) if directory.key.is_empty() => {
                    held.ended = Some(self.stopped(Operation::List, wrong));
                    break;
                }
                Err(wrong) => {
                    directory.failed = true;
                    if let Stopped::Fault(fault) = self.stopped(Operation::List, wrong) {
                        desk.counters[0].outcome(Kind::Directory, Outcome::Failed, None, 0);
                        desk.fail(Failure::new(&fault, self.path(&directory.key), Kind::Directory, None));
                    }
                    Vec::new()
                }
            };
            let mut all = Vec::with_capacity(found.len());
            for entry in found {
                if entry.kind == Kind::Directory {
                    held.waiting.push(entry);
                } else {
                    all.push(entry);
                }
            }
            if !directory.key.is_empty() {
                all.push(directory);
            }
            for entry in &all {
                if let Err(fault) = held.gathering.push(entry) {
                    held.ended = Some(fault.into());
                    break;
                }
            }
            more.notify_all();
        }
        more.notify_all();
    }

    /// Makes sure that the directories above a key are there, and no symlinks.
    fn make_above(&self, connection: &Connection, key: &[u8]) -> Result<(), Stopped> {
        let (above, _) = split(key.strip_suffix(b"/").unwrap_or(key));
        let root = self.place.path.clone();
        if !root.is_empty() && !locked(&self.known).contains(&root) {
            self.make_root(connection, &root)?;
            locked(&self.known).insert(root);
        }
        let parts = above.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        let mut at = Vec::new();
        for part in parts {
            if !at.is_empty() {
                at.push(b'/');
            }
            at.extend_from_slice(part);
            let whole = self.whole(Operation::MakeDirectory, &at)?;
            if locked(&self.known).contains(&whole) {
                continue;
            }
            self.make_one(connection, &whole, Ask::Lstat)?;
            let mut known = locked(&self.known);
            if known.len() >= MOST_KNOWN {
                known.clear();
            }
            known.insert(whole);
        }
        Ok(())
    }

    /// The root itself may be a symlink, and those above it.
    fn make_root(&self, connection: &Connection, root: &[u8]) -> Result<(), Stopped> {
        let mut missing = Vec::new();
        let mut at = root;
        loop {
            match connection.attributes(Ask::Stat, &[&text(at)]) {
                Ok(_) => break,
                Err(Wrong::Absent) => {
                    missing.push(at);
                    let (above, _) = split(at);
                    let above = above
                        .strip_suffix(b"/")
                        .filter(|above| !above.is_empty())
                        .unwrap_or(above);
                    if above.is_empty() || above == at {
                        break;
                    }
                    at = above;
                }
                Err(wrong) => return Err(self.stopped(Operation::Stat, wrong)),
            }
        }
        for directory in missing.into_iter().rev() {
            self.make_one(connection, directory, Ask::Stat)?;
        }
        Ok(())
    }

    fn make_one(&self, connection: &Connection, whole: &[u8], ask: Ask) -> Result<(), Stopped> {
        let name = text(whole);
        for made in [false, true] {
            match connection.attributes(ask, &[&name]) {
                Ok(attributes) if attributes.kind() == Kind::Directory => return Ok(()),
                Ok(_) => {
                    let what = "something that is no directory has the name of one above it";
                    return Err(self.conflict(Operation::MakeDirectory, what).into());
                }
                Err(Wrong::Absent) if !made => {}
                Err(wrong) => return Err(self.stopped(Operation::Stat, wrong)),
            }
            match connection.done(Ask::Mkdir, &[&name, &Attributes::default().encoded()]) {
                // Another worker may have made it: that is looked at now.
                Ok(()) | Err(Wrong::Failed(_)) => {}
                Err(wrong) => return Err(self.stopped(Operation::MakeDirectory, wrong)),
            }
        }
        Err(self.stopped(Operation::MakeDirectory, Wrong::Absent))
    }

    /// Opens a file that a listing has told.
    fn content(&self, listed: &Entry) -> Result<Content<'_>, Stopped> {
        let connection = self.connection(Operation::Open)?;
        let name = text(&self.whole(Operation::Open, &listed.key)?);
        let fault = |operation| move |wrong| self.stopped(operation, wrong);
        let none = Attributes::default().encoded();
        let (looked, opened) = {
            let looked = connection.begin(Ask::Lstat, &[&name]).map_err(fault(Operation::Stat))?;
            let opened = connection
                .begin(Ask::Open, &[&name, &READ.to_be_bytes(), &none])
                .map_err(fault(Operation::Open))?;
            (looked.attributes(), opened.handle())
        };
        let handle = text(&opened.map_err(fault(Operation::Open))?);
        let begun = looked.map_err(fault(Operation::Stat)).and_then(|looked| {
            let now = connection.attributes(Ask::Fstat, &[&handle]);
            Ok((looked, now.map_err(fault(Operation::Stat))?))
        });
        match begun {
            // It was a file when it was listed, and a symlink leads elsewhere.
            Ok((looked, now))
                if looked.kind() == Kind::File && (looked.size, looked.mtime) == (now.size, now.mtime) =>
            {
                let entry = Self::entry(listed.key.clone(), &now);
                Ok(Content {
                    store: self,
                    connection,
                    handle,
                    entry,
                    now,
                    at: 0,
                })
            }
            other => {
                close(&connection, &handle);
                other.and_then(|_| Err(Fault::changed(Operation::Open).into()))
            }
        }
    }

    fn remove(&self, connection: &Connection, key: &[u8]) -> Result<Gone, Stopped> {
        let whole = text(&self.whole(Operation::Remove, key)?);
        let directory = key.ends_with(b"/");
        let ask = if directory { Ask::Rmdir } else { Ask::Remove };
        match connection.done(ask, &[&whole]) {
            Ok(()) => Ok(Gone::Removed),
            Err(Wrong::Absent) => Ok(Gone::Vanished),
            Err(Wrong::Failed(why)) => match self.names(connection, key) {
                Ok(names) if directory && !names.is_empty() => Ok(Gone::NotEmpty),
                _ => Err(self.stopped(Operation::Remove, Wrong::Failed(why))),
            },
            Err(wrong) => Err(self.stopped(Operation::Remove, wrong)),
        }
    }
}

/// Directories that are being listed.
struct Walk {
    waiting: Vec<Entry>,
    busy: usize,
    gathering: Gathering,
    /// Why it ends before its end.
    ended: Option<Stopped>,
}

impl Store for Sftp {
    fn abilities(&self) -> Abilities {
        Abilities {
            directories: true,
            walks: false,
            retries: false,
            lists_mtime: true,
            // What ssh carries it proves.
            verifies: true,
            probe_stays: false,
        }
    }

    fn path(&self, key: &[u8]) -> Vec<u8> {
        let url = self.place.url();
        if key.is_empty() { url } else { join(&url, key) }
    }

    fn admit(&self, key: &[u8], size: Option<u64>) -> Result<(), Fault> {
        self.whole(Operation::Create, key)?;
        if key.ends_with(b"/") && size != Some(0) {
            let why = "no file has a name with a slash at its end";
            return Err(self.answered(Operation::Create, "name", why));
        }
        Ok(())
    }

    fn list<'s>(&'s self, desk: &'s Desk) -> Result<Box<dyn Listing + 's>, Refusal> {
        let listed = self
            .connection(Operation::List)
            .and_then(|connection| self.gather(&connection, desk).map(|gathering| (connection, gathering)));
        let fault = match listed {
            Ok((connection, mut gathering)) => {
                if self.options.clears {
                    for key in std::mem::take(&mut gathering.left) {
                        // What stays is cleared by the next run.
                        match self.remove(&connection, &key) {
                            Ok(_) | Err(_) => {}
                        }
                    }
                }
                return gathering.told();
            }
            Err(Stopped::Aborted) => return Ok(Box::new(Nothing { stopped: true })),
            Err(Stopped::Fault(fault)) => fault,
        };
        if self.side != Side::Source && fault.cause == Cause::Errno(Errno::NOENT) {
            return Ok(Box::new(Nothing { stopped: false }));
        }
        let why = format!(
            "{}: {}",
            show(&self.path(b"")),
            bulkhaul_engine::error::cause_of(&fault)
        );
        let unanswered = matches!(fault.cause, Cause::Answered("unavailable", _));
        Err(match self.side {
            // Nobody has said that it is missing.
            Side::Source if unanswered => Refusal::NoStart(why),
            side => Refusal::of_place(side, why, unanswered),
        })
    }

    fn directory(&self, key: &[u8]) -> Result<Vec<Entry>, Stopped> {
        let connection = self.connection(Operation::List)?;
        match self.names(&connection, key) {
            Ok(mut entries) => {
                entries.sort_by(|a, b| a.key.cmp(&b.key));
                Ok(entries)
            }
            Err(Wrong::Absent) => Ok(Vec::new()),
            Err(wrong) => Err(self.stopped(Operation::List, wrong)),
        }
    }

    fn stat(&self, key: &[u8]) -> Result<Option<Entry>, Stopped> {
        let connection = self.connection(Operation::Stat)?;
        let whole = self.whole(Operation::Stat, key)?;
        match connection.attributes(Ask::Lstat, &[&text(&whole)]) {
            Ok(attributes) => {
                let fits = !key.ends_with(b"/") || attributes.kind() == Kind::Directory;
                Ok(fits.then(|| Self::entry(key.to_vec(), &attributes)))
            }
            Err(Wrong::Absent) => Ok(None),
            // OpenSSH says only that it failed where a file is above it.
            Err(Wrong::Failed(_)) if split(key).0 != b"" => Ok(None),
            Err(wrong) => Err(self.stopped(Operation::Stat, wrong)),
        }
    }

    fn read<'s>(&'s self, entry: &Entry) -> Result<Box<dyn Reading + 's>, Stopped> {
        Ok(Box::new(self.content(entry)?))
    }

    fn range(&self, entry: &Entry, from: u64, bytes: u64) -> Result<Bytes, Stopped> {
        let content = self.content(entry)?;
        let bytes = bytes.min(content.entry.size.saturating_sub(from));
        let taken = content.take(from, usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(taken.map_err(|wrong| self.stopped(Operation::Read, wrong))?.into())
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
        self.admit(key, size)?;
        let connection = self.connection(Operation::Create)?;
        let whole = self.whole(Operation::Create, key)?;
        self.make_above(&connection, key)?;
        if key.ends_with(b"/") {
            return Ok(Box::new(Made {
                store: self,
                connection,
                key: key.to_vec(),
            }));
        }
        let (directory, last) = split(&whole);
        let last =
            CString::new(last).map_err(|_| self.answered(Operation::Create, "name", "a name has no NUL byte"))?;
        // It is to those who may read it what the file is that it replaces.
        let there = replaces.then(|| connection.attributes(Ask::Lstat, &[&text(&whole)]).ok());
        let bits = self.mode_of(facts).or(there.flatten().and_then(|file| file.mode));
        let begun = Attributes {
            mode: Some(bits.map_or(PLAIN, |_| 0o600)),
            ..Attributes::default()
        }
        .encoded();
        let mut wrong = None;
        let made = self.stager.stage(&last, |staged| {
            let name = text(&join_plain(directory, staged.to_bytes()));
            let opened = connection.handle(Ask::Open, &[&name, &EXCLUSIVE_WRITE.to_be_bytes(), &begun]);
            opened.map_err(|error| {
                // It may only be that this name is taken.
                let taken = matches!(error, Wrong::Failed(_)) && connection.attributes(Ask::Lstat, &[&name]).is_ok();
                wrong = Some(error);
                if taken { Errno::EXIST } else { Errno::IO }
            })
        });
        let (handle, staging) = made.map_err(|errno| match wrong.take() {
            Some(wrong) => self.stopped(Operation::Create, wrong),
            None => Fault::new(Operation::Create, self.side, errno).into(),
        })?;
        Ok(Box::new(Staged {
            store: self,
            aside: join_plain(directory, staging.as_c_str().to_bytes()),
            handle: text(&handle),
            connection,
            key: key.to_vec(),
            whole,
            mode: bits.map(|bits| bits & 0o777),
            mtime: facts.mtime,
            replaces,
            written: 0,
        }))
    }

    fn delete(&self, keys: &[Vec<u8>], told: Told<'_>) -> Result<(), Stopped> {
        let connection = self.connection(Operation::Remove)?;
        for key in keys {
            match self.remove(&connection, key) {
                Ok(gone) => told(key, Ok(gone)),
                Err(Stopped::Aborted) => return Err(Stopped::Aborted),
                Err(Stopped::Fault(fault)) => told(key, Err(fault)),
            }
        }
        Ok(())
    }
}

/// A name in a directory, which may be where a login begins.
fn join_plain(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        name.to_vec()
    } else {
        join(directory, name)
    }
}

/// Lets a handle go. It ends with the connection, too.
fn close(connection: &Connection, handle: &[u8]) {
    match connection.begin(Ask::Close, &[handle]) {
        Ok(_) | Err(_) => {}
    }
}

/// A file that is being read.
struct Content<'s> {
    store: &'s Sftp,
    connection: Arc<Connection>,
    handle: Vec<u8>,
    entry: Entry,
    now: Attributes,
    at: u64,
}

impl Content<'_> {
    fn ask(&self, at: u64, bytes: usize) -> Result<Pending<'_>, Wrong> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.connection
            .begin(Ask::Read, &[&self.handle, &at.to_be_bytes(), &bytes.to_be_bytes()])
    }

    /// Bytes from here; fewer only at the end of the file.
    fn take(&self, at: u64, bytes: usize) -> Result<Vec<u8>, Wrong> {
        let begin = |piece: usize| {
            let start = piece * PIECE_BYTES;
            self.ask(at + start as u64, PIECE_BYTES.min(bytes - start))
        };
        let pieces: Vec<Pending<'_>> = (0..bytes.div_ceil(PIECE_BYTES)).map(begin).collect::<Result<_, _>>()?;
        let mut all = Vec::with_capacity(bytes);
        for (piece, pending) in pieces.into_iter().enumerate() {
            let wanted = (piece * PIECE_BYTES + PIECE_BYTES).min(bytes);
            let mut got = pending.data();
            loop {
                match got {
                    Ok(data) if data.is_empty() || data.len() > wanted - all.len() => {
                        return Err(Wrong::Failed(
                            "the host gives something else than it was asked for".into(),
                        ));
                    }
                    Ok(data) => all.extend_from_slice(&data),
                    Err(Wrong::End) => return Ok(all),
                    Err(wrong) => return Err(wrong),
                }
                if all.len() == wanted {
                    break;
                }
                // A server may give less at once.
                got = self
                    .ask(at + all.len() as u64, wanted - all.len())
                    .and_then(Pending::data);
            }
        }
        Ok(all)
    }
}

impl Reading for Content<'_> {
    fn entry(&self) -> &Entry {
        &self.entry
    }

    fn next(&mut self, bytes: u64) -> Result<Option<Part>, Stopped> {
        let left = self.entry.size - self.at;
        if left == 0 {
            return Ok(None);
        }
        let (store, want) = (self.store, bytes.min(left));
        let lease = store.session.wait(store.session.lease(want))?;
        let fault = |wrong| store.stopped(Operation::Read, wrong);
        let buffer = self
            .take(self.at, usize::try_from(want).unwrap_or(usize::MAX))
            .map_err(fault)?;
        self.at += buffer.len() as u64;
        let ends = (buffer.len() as u64) < want;
        if ends {
            return Err(Fault::size(store.side, self.entry.size, self.at).into());
        }
        if self.at == self.entry.size && !self.take(self.at, 1).map_err(fault)?.is_empty() {
            return Err(Fault::size(store.side, self.entry.size, self.at + 1).into());
        }
        Ok(Some(Part {
            bytes: buffer.into(),
            lease,
        }))
    }

    fn close(self: Box<Self>) -> Result<(), Stopped> {
        let now = self.connection.attributes(Ask::Fstat, &[&self.handle]);
        let now = now.map_err(|wrong| self.store.stopped(Operation::Stat, wrong))?;
        if (now.size, now.mtime) == (self.now.size, self.now.mtime) {
            Ok(())
        } else {
            Err(Fault::changed(Operation::Read).into())
        }
    }
}

impl Drop for Content<'_> {
    fn drop(&mut self) {
        close(&self.connection, &self.handle);
    }
}

/// A file under a staging name.
struct Staged<'s> {
    store: &'s Sftp,
    connection: Arc<Connection>,
    key: Vec<u8>,
    whole: Vec<u8>,
    aside: Vec<u8>,
    handle: Vec<u8>,
    /// None: that which it was made with.
    mode: Option<u32>,
    mtime: Option<Time>,
    replaces: bool,
    written: u64,
}

impl Staged<'_> {
    fn complete(&self, sums: &Sums) -> Result<Entry, Stopped> {
        let (store, connection) = (self.store, &self.connection);
        let fault = |operation| move |wrong| store.stopped(operation, wrong);
        if sums.bytes != self.written {
            return Err(Fault::size(store.side, sums.bytes, self.written).into());
        }
        let set = |attributes: Attributes, operation| {
            match connection.done(Ask::Fsetstat, &[&self.handle, &attributes.encoded()]) {
                // The content is there all the same, and the host says what it has instead.
                Err(Wrong::Denied | Wrong::Unable) => Ok(()),
                done => done.map_err(fault(operation)),
            }
        };
        if self.mode.is_some() {
            let mode = Attributes {
                mode: self.mode,
                ..Attributes::default()
            };
            set(mode, Operation::SetMode)?;
        }
        if store.options.sync && connection.extends(SYNC) {
            let done = connection.done(Ask::Extended, &[&text(SYNC.as_bytes()), &self.handle]);
            done.map_err(fault(Operation::Sync))?;
        }
        // SFTP has no time before 1970, nor after 2106.
        if let Some(mtime) = self.mtime.and_then(|mtime| u32::try_from(mtime.sec).ok()) {
            let times = Attributes {
                mtime: Some(mtime),
                ..Attributes::default()
            };
            set(times, Operation::SetTimes)?;
        }
        let done = connection.done(Ask::Close, &[&self.handle]);
        done.map_err(fault(Operation::Write))?;
        self.appear()?;
        match store.stat(&self.key)? {
            Some(there) if there.kind == Kind::File && there.size == self.written => Ok(there),
            _ => Err(store
                .answered(
                    Operation::Verify,
                    "damaged",
                    "the host says that it is there, and has something else",
                )
                .into()),
        }
    }

    fn appear(&self) -> Result<(), Stopped> {
        let (store, connection) = (self.store, &self.connection);
        let names = [&text(&self.aside)[..], &text(&self.whole)];
        let fault = |wrong| store.stopped(Operation::Rename, wrong);
        if self.replaces && connection.extends(RENAME) {
            let done = connection.done(Ask::Extended, &[&text(RENAME.as_bytes()), names[0], names[1]]);
            return done.map_err(fault);
        }
        if self.replaces {
            // Without the extension the host has no way to do it in one step.
            match connection.done(Ask::Remove, &[names[1]]) {
                Ok(()) | Err(Wrong::Absent) => {}
                Err(wrong) => return Err(fault(wrong)),
            }
        }
        match connection.done(Ask::Rename, &names) {
            Ok(()) => Ok(()),
            Err(Wrong::Failed(_)) if connection.attributes(Ask::Lstat, &[names[1]]).is_ok() => {
                let what = "something has this name that was not there, or another key is the same name here";
                Err(store.conflict(Operation::Rename, what).into())
            }
            Err(wrong) => Err(fault(wrong)),
        }
    }

    fn leave(&self) {
        close(&self.connection, &self.handle);
        // What stays is under a staging name, and a later run clears it.
        match self.connection.done(Ask::Remove, &[&text(&self.aside)]) {
            Ok(()) | Err(_) => {}
        }
    }
}

impl Writing for Staged<'_> {
    fn put(&mut self, part: Part) -> Result<(), Stopped> {
        let fault = |wrong| self.store.stopped(Operation::Write, wrong);
        let mut sent = Vec::new();
        for (piece, bytes) in part.bytes.chunks(PIECE_BYTES).enumerate() {
            let at = self.written + (piece * PIECE_BYTES) as u64;
            let pending = self
                .connection
                .begin(Ask::Write, &[&self.handle, &at.to_be_bytes(), &text(bytes)]);
            sent.push(pending.map_err(fault)?);
        }
        for pending in sent {
            pending.done().map_err(fault)?;
        }
        self.written += part.bytes.len() as u64;
        Ok(())
    }

    fn finish(self: Box<Self>, sums: &Sums) -> Result<Entry, Stopped> {
        let done = self.complete(sums);
        if done.is_err() {
            self.leave();
        }
        done
    }

    fn abort(self: Box<Self>) {
        self.leave();
    }
}

/// A directory that nothing is in.
struct Made<'s> {
    store: &'s Sftp,
    connection: Arc<Connection>,
    key: Vec<u8>,
}

impl Writing for Made<'_> {
    fn put(&mut self, _part: Part) -> Result<(), Stopped> {
        Ok(())
    }

    fn finish(self: Box<Self>, _sums: &Sums) -> Result<Entry, Stopped> {
        let whole = self.store.whole(Operation::MakeDirectory, &self.key)?;
        self.store.make_one(&self.connection, &whole, Ask::Lstat)?;
        let now = Attributes {
            mode: Some(0o040_000),
            ..Attributes::default()
        };
        Ok(Entry {
            written: Time::default(),
            ..Sftp::entry(self.key, &now)
        })
    }

    fn abort(self: Box<Self>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_what_they_say() {
        let of = |user: Option<&str>, host: &str, port, path: &str| Place {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
            path: path.into(),
        };
        for (text, place, url) in [
            ("h/p", of(None, "h", None, "/p"), "sftp://h/p"),
            (
                "u@h:2222/p/q//",
                of(Some("u"), "h", Some(2222), "/p/q"),
                "sftp://u@h:2222/p/q",
            ),
            ("h/~/p", of(None, "h", None, "p"), "sftp://h/~/p"),
            ("h/~", of(None, "h", None, ""), "sftp://h/~/"),
            ("h", of(None, "h", None, ""), "sftp://h/~/"),
            ("h/", of(None, "h", None, "/"), "sftp://h/"),
            ("[::1]:22/p", of(None, "::1", Some(22), "/p"), "sftp://[::1]:22/p"),
        ] {
            assert_eq!(Place::parse(text.as_bytes()), Some(place.clone()), "{text}");
            assert_eq!(String::from_utf8(place.url()).unwrap(), url);
        }
        for text in [
            "",
            "/p",
            "-oProxyCommand=x/p",
            "u:secret@h/p",
            "h:x/p",
            "h h/p",
            "-l@h/p",
        ] {
            assert_eq!(Place::parse(text.as_bytes()), None, "{text}");
        }
    }
}
