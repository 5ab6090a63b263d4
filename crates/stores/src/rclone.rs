//! Whatever rclone reaches, as a store: each question is a run of the real rclone.
//!
//! Comes in: `REMOTE:PATH` as rclone takes it; goes out: a [`Store`]. What the remote can do is asked of rclone once. It is slower
//! than a store that is spoken to: a run for each entry, and what is written lies in a temporary file first, which rclone then
//! brings over with its time, and checks by size and, where the remote has sums, by them. Where a remote shows files while they
//! grow, they have a staging name until they are whole. rclone finds its own configuration and credentials. A listing that it
//! ends with an error is none. Names go as they are, in arguments; what is not UTF-8 is a failure.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ChildStdout;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bulkhaul_engine::entry::Outcome;
use bulkhaul_engine::error::{Cause, Failure, Fault, Operation, Refusal, Side, Stopped};
use bulkhaul_engine::job::desk::Desk;
use bulkhaul_engine::tree::path::split;
use bulkhaul_engine::tree::staging::Stager;
use bulkhaul_engine::{Errno, Kind};
use bulkhaul_sys::{self as sys, AsFd as _, Node, Time};
use bytes::{Bytes, BytesMut};
use chrono::DateTime;
use serde_json::Value;

use crate::gathered::{Gathering, Nothing};
use crate::program::{Ended, Program};
use crate::session::Session;
use crate::store::{Abilities, Entry, Facts, Gone, Listing, Origin, Part, Reading, Store, Sums, Told, Writing};

/// Runs at once where nobody says how many: each is a program.
pub const RUNS: usize = 4;
/// rclone's codes for a directory and a file that are not there.
const ABSENT: [i32; 2] = [3, 4];
/// Its code for what may work later: nobody has answered, or only that.
const LATER: i32 = 5;
/// The coarsest time that is one, in nanoseconds: a remote that keeps none says a century.
const COARSEST: u64 = 3_600_000_000_000;
/// Where temporary files are if nobody says.
const TEMPORARY: &str = "/tmp";

/// What a remote can do, as rclone says it.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is asked by itself")]
struct Features {
    /// Objects appear when they are whole, and there are no directories.
    buckets: bool,
    /// It keeps directories that nothing is in.
    directories: bool,
    /// It keeps the time that a file is given.
    times: bool,
    /// A file can be given another name.
    moves: bool,
}

/// A remote, and a path in it.
pub struct Rclone {
    session: Arc<Session>,
    target: String,
    side: Side,
    spill_directory: Option<Vec<u8>>,
    clears: bool,
    stager: Stager,
    features: OnceLock<Features>,
    made: AtomicU64,
}

/// The end of the remote in `REMOTE:PATH`, behind its colon: a connection string may have some in quotes.
fn end_of_remote(target: &str) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in target.bytes().enumerate().skip(1) {
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            (None, b':') => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// The path in `REMOTE:PATH`.
pub fn path(target: &str) -> &str {
    &target[end_of_remote(target).unwrap_or(target.len())..]
}

/// The place that may have `REMOTE:PATH` as one file, and its key there; none: it is a root, or ends with a slash.
pub fn above(target: &str) -> Option<(String, Vec<u8>)> {
    let (remote, path) = target.split_at(end_of_remote(target)?);
    let (directory, name) = match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some(split) => split,
        None => ("", path),
    };
    let key = unspelt(name).filter(|name| !name.is_empty())?;
    Some((format!("{remote}{directory}"), key.as_bytes().to_vec()))
}

/// Whether a connection string holds what nobody should see.
fn has_secret(remote: &str) -> bool {
    remote.split(',').skip(1).any(|setting| {
        let name = setting
            .split_once('=')
            .map_or(setting, |(name, _)| name)
            .to_ascii_lowercase();
        ["pass", "secret", "token"].iter().any(|word| name.contains(word)) || name.ends_with("key")
    })
}

impl Rclone {
    /// A store on this side of a job. Refuses what can be none; runs nothing yet.
    pub fn new(
        session: &Arc<Session>,
        target: &str,
        side: Side,
        (spill_directory, clears): (Option<&[u8]>, bool),
    ) -> Result<Self, Refusal> {
        let Some(end) = end_of_remote(target).filter(|_| !target.starts_with('-') && !target.contains('\0')) else {
            return Err(Refusal::Usage(format!("rclone:{target}: write rclone:REMOTE:PATH")));
        };
        if has_secret(&target[..end]) {
            let text =
                "rclone: passwords and keys belong into rclone's own configuration, not into the name of a place";
            return Err(Refusal::Usage(text.into()));
        }
        let below = target[end..].trim_end_matches('/');
        // What is in the root of a remote.
        let whole = if below.is_empty() && target.ends_with('/') {
            target
        } else {
            &target[..end + below.len()]
        };
        Ok(Self {
            session: Arc::clone(session),
            target: whole.to_owned(),
            side,
            spill_directory: spill_directory.map(<[u8]>::to_vec),
            clears,
            stager: Stager::new(),
            features: OnceLock::new(),
            made: AtomicU64::new(0),
        })
    }

    fn fault(&self, operation: Operation, kind: &'static str, text: impl Into<String>) -> Fault {
        Fault {
            operation,
            side: self.side,
            cause: Cause::Answered(kind, text.into()),
        }
    }

    fn failed(&self, operation: Operation, error: &std::io::Error) -> Fault {
        let errno = error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
        Fault::new(operation, self.side, errno)
    }

    /// A key as rclone takes it.
    fn name(&self, operation: Operation, key: &[u8]) -> Result<String, Fault> {
        let key = str::from_utf8(key)
            .map_err(|_| self.fault(operation, "name", "rclone takes UTF-8, and this name is not"))?;
        let plain = key.strip_suffix('/').unwrap_or(key);
        let folds = !plain.is_empty() && plain.split('/').any(|part| matches!(part, "" | "." | ".."));
        let spelt = spelt(plain).filter(|_| !folds);
        let spelt = spelt.ok_or_else(|| self.fault(operation, "name", "rclone would take it for another name"))?;
        let slash = if self.target.ends_with([':', '/']) || plain.is_empty() {
            ""
        } else {
            "/"
        };
        Ok(format!("{}{slash}{spelt}", self.target))
    }

    fn start(&self, operation: Operation, arguments: &[&str]) -> Result<Program, Fault> {
        let retries = (self.session.options.retry.retries + 1).to_string();
        let always = ["--quiet", "--use-json-log=false", "--retries", &retries];
        let started = Program::start(&self.session, "rclone", &[&always, arguments].concat(), false);
        started.map_err(|error| self.fault(operation, "unavailable", format!("rclone can't be run: {error}")))
    }

    /// Runs it to its end.
    fn run(&self, operation: Operation, arguments: &[&str]) -> Result<Ended, Stopped> {
        self.start(operation, arguments)?.end(&self.session)
    }

    fn done(&self, operation: Operation, ended: &Ended) -> Result<(), Fault> {
        if ended.status.success() {
            return Ok(());
        }
        Err(self.fault(operation, "server", reason(ended)))
    }

    /// rclone has come to no answer of the remote.
    fn unavailable(&self, operation: Operation, ended: &Ended) -> Fault {
        self.fault(operation, "unavailable", reason(ended))
    }

    /// What the remote can do.
    fn features(&self) -> Result<Features, Stopped> {
        if let Some(features) = self.features.get() {
            return Ok(*features);
        }
        let remote = &self.target[..end_of_remote(&self.target).unwrap_or(self.target.len())];
        let ended = self.run(Operation::Stat, &["backend", "features", remote])?;
        // It asks nobody for anything in the remote: one that it does not know, or that it can't speak to.
        if !ended.status.success() {
            return Err(self.unavailable(Operation::Stat, &ended).into());
        }
        let told: Value = serde_json::from_slice(&ended.output).map_err(|error| {
            self.fault(
                Operation::Stat,
                "server",
                format!("rclone does not say what it can do: {error}"),
            )
        })?;
        let can = |name: &str| told["Features"][name].as_bool().unwrap_or(false);
        let features = Features {
            buckets: can("BucketBased"),
            directories: can("CanHaveEmptyDirectories"),
            times: told["Precision"].as_u64().is_some_and(|step| step <= COARSEST),
            moves: can("Move"),
        };
        Ok(*self.features.get_or_init(|| features))
    }

    /// What one line or answer of `lsjson` says; none where it does not say how long something is.
    fn entry(value: &Value, key: Vec<u8>, times: bool) -> Option<Entry> {
        let directory = value.get("IsDir")?.as_bool()?;
        let size = value.get("Size")?.as_i64()?;
        let changed = value.get("ModTime").and_then(Value::as_str);
        let changed = changed.and_then(|text| DateTime::parse_from_rfc3339(text).ok());
        let mtime = changed.map(|time| Time {
            sec: time.timestamp(),
            nsec: time.timestamp_subsec_nanos(),
        });
        Some(Entry {
            key,
            kind: if directory { Kind::Directory } else { Kind::File },
            size: if directory { 0 } else { u64::try_from(size).ok()? },
            written: mtime.unwrap_or_default(),
            tag: Vec::new(),
            facts: Some(Facts {
                mtime: mtime.filter(|_| !directory && times),
                ..Facts::default()
            }),
            failed: false,
        })
    }

    /// Hands on what `lsjson` lists, by its path as rclone spells it. Answers false where the place is not there.
    fn each(
        &self,
        place: &str,
        options: &[&str],
        mut take: impl FnMut(&str, &Value) -> Result<(), Fault>,
    ) -> Result<bool, Stopped> {
        let lost = |text: String| Stopped::Fault(self.fault(Operation::List, "listing", text));
        let mut program = self.start(
            Operation::List,
            &[&["lsjson", "--no-mimetype"], options, &[place]].concat(),
        )?;
        let Some(output) = program.output.take() else {
            return Err(lost("rclone has no output".into()));
        };
        let mut lines = BufReader::new(output);
        loop {
            let reading = self.session.runtime().spawn_blocking(move || {
                let mut batch = Vec::new();
                let mut ends = false;
                // Many at once: each wait is a question between threads.
                while batch.len() < 1000 && !ends {
                    let mut line = String::new();
                    ends = lines.read_line(&mut line)? == 0;
                    batch.push(line);
                }
                Ok::<_, std::io::Error>((lines, batch, ends))
            });
            let read = self.session.wait(reading)?.map_err(|error| lost(error.to_string()))?;
            let (rest, batch, ends) = read.map_err(|error| lost(error.to_string()))?;
            lines = rest;
            for line in batch {
                let text = line.trim().trim_end_matches(',');
                if matches!(text, "" | "[" | "]" | "[]" | "null") {
                    continue;
                }
                let value: Value = serde_json::from_str(text).map_err(|error| lost(error.to_string()))?;
                let Some(path) = value.get("Path").and_then(Value::as_str) else {
                    return Err(lost("rclone lists something that has no name".into()));
                };
                take(path, &value)?;
            }
            if ends {
                break;
            }
        }
        let ended = program.end(&self.session)?;
        match ended.status.code() {
            Some(0) => Ok(true),
            Some(code) if ABSENT.contains(&code) => Ok(false),
            Some(LATER) => Err(self.unavailable(Operation::List, &ended).into()),
            _ => Err(lost(reason(&ended))),
        }
    }

    /// All that is there; none where the root is not there.
    fn gather(&self, desk: &Desk) -> Result<Option<Gathering>, Stopped> {
        let features = self.features()?;
        let mut gathering = Gathering::new(desk, self.side, self.spill_directory.as_deref());
        let mut options = vec!["--recursive"];
        if !features.directories {
            options.push("--files-only");
        }
        let (mut entries, mut is_alone) = (0_u64, false);
        let own = above(&self.target).map(|(_, key)| key);
        let there = self.each(&self.target, &options, |path, value| {
            entries += 1;
            is_alone = entries == 1 && own.as_deref() == Some(path.as_bytes());
            let Some(key) = key_of(path, value) else {
                self.refuse(desk, path, ("name", "this may be another name than rclone says"));
                return Ok(());
            };
            // Some remotes don't know how long it is before all is read.
            let Some(entry) = Self::entry(value, key, features.times) else {
                self.refuse(desk, path, ("unsupported", "rclone does not say how long it is"));
                return Ok(());
            };
            gathering.push(&entry)
        })?;
        // A file is listed as if it were in itself.
        if is_alone && self.stat(b"")?.is_some_and(|root| root.kind == Kind::File) {
            return Err(self
                .fault(Operation::List, "server", "it is a file, and no directory")
                .into());
        }
        Ok(there.then_some(gathering))
    }

    /// What can't be carried is counted and told.
    fn refuse(&self, desk: &Desk, path: &str, (kind, why): (&'static str, &str)) {
        let fault = self.fault(Operation::List, kind, why);
        let counters = &desk.counters[0];
        counters.found(Kind::File);
        counters.outcome(Kind::File, Outcome::Failed, None, 0);
        desk.fail(Failure::new(&fault, self.path(path.as_bytes()), Kind::File, None));
    }

    /// A file that nobody else has, which goes away when it is let go.
    fn temporary(&self) -> Result<Temporary, Fault> {
        let directory = self.spill_directory.as_deref();
        let directory = directory.map_or(Path::new(TEMPORARY), |directory| {
            Path::new(OsStr::from_bytes(directory))
        });
        for _ in 0..100 {
            let number = self.made.fetch_add(1, Ordering::Relaxed);
            let side = if self.side == Side::Source { 's' } else { 'd' };
            let path = directory.join(format!(".bulkhaul-rclone-{}-{side}{number}", std::process::id()));
            match File::options().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Temporary { path, file }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(self.failed(Operation::Create, &error)),
            }
        }
        Err(Fault::new(Operation::Create, self.side, Errno::EXIST))
    }

    /// Has rclone bring a file to a key, so that it appears when it is whole.
    fn bring(&self, from: &str, key: &[u8], size: u64) -> Result<Entry, Stopped> {
        let name = self.name(Operation::Create, key)?;
        let copy = |to: &str| {
            let ended = self.run(Operation::Write, &["copyto", "--ignore-times", from, to])?;
            Ok::<_, Stopped>(self.done(Operation::Write, &ended)?)
        };
        let features = self.features()?;
        if features.buckets || !features.moves {
            copy(&name)?;
        } else {
            let (directory, last) = split(key);
            let nul = |_| self.fault(Operation::Create, "name", "a name has no NUL byte");
            let last = CString::new(last).map_err(nul)?;
            let ((), staging) = self
                .stager
                .stage(&last, |_| Ok(()))
                .map_err(|errno| Fault::new(Operation::Create, self.side, errno))?;
            let slash: &[u8] = if directory.is_empty() || directory.ends_with(b"/") {
                b""
            } else {
                b"/"
            };
            let staged = self.name(
                Operation::Create,
                &[directory, slash, staging.as_c_str().to_bytes()].concat(),
            )?;
            let moved = copy(&staged).and_then(|()| {
                let ended = self.run(Operation::Rename, &["moveto", "--ignore-times", &staged, &name])?;
                Ok(self.done(Operation::Rename, &ended)?)
            });
            if let Err(stopped) = moved {
                // What stays is under a staging name, and a later run clears it.
                match self.run(Operation::Remove, &["deletefile", &staged]) {
                    Ok(_) | Err(_) => {}
                }
                return Err(stopped);
            }
        }
        match self.stat(key)? {
            Some(there) if there.kind == Kind::File && there.size == size => Ok(there),
            _ => {
                let text = "rclone says that it is there, and there is something else";
                Err(self.fault(Operation::Verify, "damaged", text).into())
            }
        }
    }

    fn remove(&self, key: &[u8]) -> Result<Gone, Stopped> {
        let name = self.name(Operation::Remove, key)?;
        let directory = key.ends_with(b"/");
        let ended = self.run(
            Operation::Remove,
            &[if directory { "rmdir" } else { "deletefile" }, &name],
        )?;
        if ended.status.success() {
            return Ok(Gone::Removed);
        }
        if self.stat(key)?.is_none() {
            return Ok(Gone::Vanished);
        }
        let said = reason(&ended);
        if directory && said.contains("not empty") {
            return Ok(Gone::NotEmpty);
        }
        Err(self.fault(Operation::Remove, "server", said).into())
    }
}

/// rclone shows control characters by their pictures, and other characters that some remote has no place for by wide ones; these
/// themselves it marks, and marks the mark, not always so that they can be told apart
/// ([overview of rclone, restricted characters](https://rclone.org/overview/#restricted-characters)).
fn is_ambiguous(c: char) -> bool {
    matches!(
        c,
        '\u{201b}' | '\u{2400}'..='\u{241f}' | '\u{2421}' | '\u{ff0e}' | '\u{ff0f}' | '\u{fffd}'
    )
}

/// A name as rclone spells it; none: it has no spelling of its own.
fn spelt(name: &str) -> Option<String> {
    let picture = |c: char| match c {
        '\u{1}'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)),
        '\u{7f}' => Some('\u{2421}'),
        '\0' => None,
        c if is_ambiguous(c) => None,
        c => Some(c),
    };
    name.chars().map(picture).collect()
}

/// What a spelling of rclone means; none: nobody can tell.
fn unspelt(path: &str) -> Option<String> {
    let plain = |c: char| match c {
        '\u{2401}'..='\u{241f}' => char::from_u32(u32::from(c) - 0x2400),
        '\u{2421}' => Some('\u{7f}'),
        c if is_ambiguous(c) => None,
        c => Some(c),
    };
    path.chars().map(plain).collect()
}

/// A path that `lsjson` lists, as a key; none: it can't be told what it is.
fn key_of(path: &str, value: &Value) -> Option<Vec<u8>> {
    let directory = value.get("IsDir") == Some(&Value::Bool(true));
    Some([unspelt(path)?.as_bytes(), if directory { b"/" } else { b"" }].concat())
}

/// Why it failed: what rclone said, without the date and time that it begins with.
fn reason(ended: &Ended) -> String {
    let line = &ended.reason;
    let mut words = line.splitn(3, ' ');
    match (words.next(), words.next(), words.next()) {
        (Some(""), ..) => "rclone failed and does not say why".to_owned(),
        (Some(date), Some(_), Some(rest)) if date.len() == 10 && date.contains('/') => format!("rclone: {rest}"),
        _ => format!("rclone: {line}"),
    }
}

struct Temporary {
    path: PathBuf,
    file: File,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What stays is a temporary file.
        match std::fs::remove_file(&self.path) {
            Ok(()) | Err(_) => {}
        }
    }
}

impl Store for Rclone {
    fn abilities(&self) -> Abilities {
        let features = self.features.get();
        Abilities {
            directories: features.is_some_and(|features| features.directories),
            walks: false,
            retries: false,
            lists_mtime: features.is_some_and(|features| features.times),
            verifies: true,
            probe_stays: false,
        }
    }

    fn path(&self, key: &[u8]) -> Vec<u8> {
        let slash: &[u8] = if self.target.ends_with([':', '/']) || key.is_empty() {
            b""
        } else {
            b"/"
        };
        [b"rclone:", self.target.as_bytes(), slash, key].concat()
    }

    fn admit(&self, key: &[u8], size: Option<u64>) -> Result<(), Fault> {
        self.name(Operation::Create, key)?;
        if key.ends_with(b"/") && size != Some(0) {
            let text = "no file has a name with a slash at its end";
            return Err(self.fault(Operation::Create, "name", text));
        }
        Ok(())
    }

    fn list<'s>(&'s self, desk: &'s Desk) -> Result<Box<dyn Listing + 's>, Refusal> {
        let refuse = |why: &str, answered: bool| {
            let text = format!("{}: {why}", String::from_utf8_lossy(&self.path(b"")));
            match self.side {
                // Nobody has said that it is missing.
                Side::Source if !answered => Refusal::NoStart(text),
                side => Refusal::of_place(side, text, !answered),
            }
        };
        match self.gather(desk) {
            Ok(Some(mut gathering)) => {
                if self.clears {
                    for key in std::mem::take(&mut gathering.left) {
                        // What stays is cleared by the next run.
                        match self.remove(&key) {
                            Ok(_) | Err(_) => {}
                        }
                    }
                }
                gathering.told()
            }
            Ok(None) if self.side == Side::Source => Err(refuse("directory not found", true)),
            Ok(None) => Ok(Box::new(Nothing { stopped: false })),
            Err(Stopped::Aborted) => Ok(Box::new(Nothing { stopped: true })),
            Err(Stopped::Fault(Fault {
                cause: Cause::Answered(kind, why),
                ..
            })) => Err(refuse(&why, kind != "unavailable")),
            Err(Stopped::Fault(fault)) => Err(refuse(&bulkhaul_engine::error::cause_of(&fault), true)),
        }
    }

    fn directory(&self, key: &[u8]) -> Result<Vec<Entry>, Stopped> {
        let features = self.features()?;
        let name = self.name(Operation::List, key)?;
        let mut entries = Vec::new();
        self.each(&name, &[], |path, value| {
            let below = key_of(path, value);
            let below =
                below.ok_or_else(|| self.fault(Operation::List, "name", format!("{path} may be another name")))?;
            let entry = Self::entry(value, [key, &below].concat(), features.times);
            let unclear = || {
                self.fault(
                    Operation::List,
                    "unsupported",
                    format!("rclone does not say how long {path} is"),
                )
            };
            entries.push(entry.ok_or_else(unclear)?);
            Ok(())
        })?;
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }

    fn stat(&self, key: &[u8]) -> Result<Option<Entry>, Stopped> {
        let times = self.features()?.times;
        let name = self.name(Operation::Stat, key)?;
        let ended = self.run(Operation::Stat, &["lsjson", "--stat", "--no-mimetype", &name])?;
        if ended.status.code().is_some_and(|code| ABSENT.contains(&code)) {
            return Ok(None);
        }
        self.done(Operation::Stat, &ended)?;
        let value = serde_json::from_slice(&ended.output)
            .map_err(|error| self.fault(Operation::Stat, "server", error.to_string()))?;
        if value == Value::Null {
            return Ok(None);
        }
        let entry = Self::entry(&value, key.to_vec(), times);
        let entry =
            entry.ok_or_else(|| self.fault(Operation::Stat, "unsupported", "rclone does not say how long it is"))?;
        // A file has no slash at its end.
        Ok(Some(entry).filter(|entry| !key.ends_with(b"/") || entry.kind == Kind::Directory))
    }

    fn read<'s>(&'s self, entry: &Entry) -> Result<Box<dyn Reading + 's>, Stopped> {
        let name = self.name(Operation::Read, &entry.key)?;
        let mut program = self.start(Operation::Read, &["cat", &name])?;
        let output = program.output.take();
        Ok(Box::new(Content {
            store: self,
            entry: entry.clone(),
            program,
            output,
            at: 0,
        }))
    }

    fn range(&self, entry: &Entry, from: u64, bytes: u64) -> Result<Bytes, Stopped> {
        let bytes = bytes.min(entry.size.saturating_sub(from));
        let name = self.name(Operation::Read, &entry.key)?;
        let (offset, count) = (from.to_string(), bytes.to_string());
        let mut all = BytesMut::new();
        if bytes == 0 {
            return Ok(all.freeze());
        }
        let stretch = ["cat", "--offset", &offset, "--count", &count, &name];
        let mut program = self.start(Operation::Read, &stretch)?;
        let output = program.output.take();
        let mut content = Content {
            store: self,
            entry: Entry {
                size: bytes,
                ..entry.clone()
            },
            program,
            output,
            at: 0,
        };
        while let Some(part) = content.next(bytes)? {
            all.extend_from_slice(&part.bytes);
        }
        Box::new(content).close()?;
        Ok(all.freeze())
    }

    fn part_bytes(&self, _size: u64) -> u64 {
        self.session.options.part
    }

    fn write<'s>(
        &'s self,
        key: &[u8],
        size: Option<u64>,
        facts: &Facts,
        _replaces: bool,
    ) -> Result<Box<dyn Writing + 's>, Stopped> {
        self.admit(key, size)?;
        Ok(Box::new(Growing {
            store: self,
            key: key.to_vec(),
            mtime: facts.mtime,
            temporary: self.temporary()?,
            written: 0,
        }))
    }

    fn origin(&self, key: &[u8]) -> Option<Origin> {
        // Whatever rclone reaches it copies itself, within a server where that can.
        Some(Origin {
            service: "rclone".to_owned(),
            object: self.name(Operation::Read, key).ok()?,
        })
    }

    fn copy(&self, origin: &Origin, entry: &Entry, key: &[u8], _aside: bool) -> Result<Option<Entry>, Stopped> {
        if origin.service != "rclone" {
            return Ok(None);
        }
        self.bring(&origin.object, key, entry.size).map(Some)
    }

    fn delete(&self, keys: &[Vec<u8>], told: Told<'_>) -> Result<(), Stopped> {
        for key in keys {
            match self.remove(key) {
                Ok(gone) => told(key, Ok(gone)),
                Err(Stopped::Aborted) => return Err(Stopped::Aborted),
                Err(Stopped::Fault(fault)) => told(key, Err(fault)),
            }
        }
        Ok(())
    }
}

/// What `rclone cat` gives.
struct Content<'s> {
    store: &'s Rclone,
    entry: Entry,
    program: Program,
    output: Option<ChildStdout>,
    at: u64,
}

impl Reading for Content<'_> {
    fn entry(&self) -> &Entry {
        &self.entry
    }

    fn next(&mut self, bytes: u64) -> Result<Option<Part>, Stopped> {
        let Some(output) = self.output.take() else {
            return Ok(None);
        };
        let session = &self.store.session;
        // One byte more would show that it is longer.
        let want = bytes.min((self.entry.size - self.at).max(1));
        let lease = session.wait(session.lease(want))?;
        let reading = session.runtime().spawn_blocking(move || {
            let mut buffer = Vec::new();
            let mut part = output.take(want);
            part.read_to_end(&mut buffer).map(|_| (part.into_inner(), buffer))
        });
        let broken = |error: &std::io::Error| self.store.failed(Operation::Read, error);
        let read = session.wait(reading)?.map_err(|error| broken(&error.into()))?;
        let (output, buffer) = read.map_err(|error| broken(&error))?;
        if buffer.is_empty() {
            return Ok(None);
        }
        self.output = Some(output);
        self.at += buffer.len() as u64;
        if self.at > self.entry.size {
            return Err(Fault::size(self.store.side, self.entry.size, self.at).into());
        }
        Ok(Some(Part {
            bytes: buffer.into(),
            lease,
        }))
    }

    fn close(self: Box<Self>) -> Result<(), Stopped> {
        let ended = self.program.end(&self.store.session)?;
        Ok(self.store.done(Operation::Read, &ended)?)
    }
}

/// A file that rclone brings over when it is whole.
struct Growing<'s> {
    store: &'s Rclone,
    key: Vec<u8>,
    mtime: Option<Time>,
    temporary: Temporary,
    written: u64,
}

impl Writing for Growing<'_> {
    fn put(&mut self, part: Part) -> Result<(), Stopped> {
        let written = self.temporary.file.write_all(&part.bytes);
        written.map_err(|error| self.store.failed(Operation::Write, &error))?;
        self.written += part.bytes.len() as u64;
        Ok(())
    }

    fn finish(self: Box<Self>, sums: &Sums) -> Result<Entry, Stopped> {
        let store = self.store;
        if self.key.ends_with(b"/") {
            let name = store.name(Operation::MakeDirectory, &self.key)?;
            let ended = store.run(Operation::MakeDirectory, &["mkdir", &name])?;
            store.done(Operation::MakeDirectory, &ended)?;
            return Ok(Entry {
                key: self.key.clone(),
                kind: Kind::Directory,
                size: 0,
                written: Time::default(),
                tag: Vec::new(),
                facts: Some(Facts::default()),
                failed: false,
            });
        }
        if sums.bytes != self.written {
            return Err(Fault::size(store.side, sums.bytes, self.written).into());
        }
        if let Some(mtime) = self.mtime {
            let set = sys::set_times(Node::Open(self.temporary.file.as_fd()), None, Some(mtime));
            set.map_err(|errno| Fault::new(Operation::SetTimes, store.side, errno))?;
        }
        // A path is no remote.
        let path = self.temporary.path.to_string_lossy().into_owned();
        store.bring(&path, &self.key, self.written)
    }

    fn abort(self: Box<Self>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelt_so_that_they_come_back() {
        for (name, spelling) in [("a b", "a b"), ("a\nb\u{7f}", "a\u{240a}b\u{2421}"), ("ü‘", "ü‘")] {
            assert_eq!(spelt(name).as_deref(), Some(spelling));
            assert_eq!(unspelt(spelling).as_deref(), Some(name));
        }
        for name in ["a\u{240a}", "\u{201b}", "\u{ff0e}", "a\0"] {
            assert_eq!(spelt(name), None, "{name}");
        }
        // What is no UTF-8 rclone shows as if it were.
        assert_eq!(unspelt("b\u{fffd}ad"), None);
    }

    #[test]
    fn a_remote_ends_at_its_colon() {
        for (target, end) in [
            ("x:b/p", Some("x:")),
            ("x:", Some("x:")),
            (":local:/a:b", Some(":local:")),
            (":s3,endpoint=\"http://h:1\":b", Some(":s3,endpoint=\"http://h:1\":")),
            ("x", None),
            ("", None),
            (":", None),
        ] {
            assert_eq!(end_of_remote(target).map(|end| &target[..end]), end, "{target}");
        }
        assert!(has_secret(":s3,access_key_id=a,secret_access_key=b:"));
        assert!(!has_secret(":sftp,host=h,user=u:") && !has_secret("token:"));
    }
}
