//! What an operation writes for its user: a file that appears whole, under its final name, or not at all; or bytes that go
//! into what is no regular file.
//!
//! Comes in: bytes, in order; goes out: the file. It is made when there is something to write, so that a run that comes to
//! nothing has left nothing. A symlink stays, and what it leads to is the file. A device, a FIFO and a descriptor of this
//! process are written into, with waiting ([`crate::bytes::stream`]); what their reader does not want any more is dropped, and
//! that is noted. What is
//! more than one buffer is written by a thread of its own, some buffers behind whoever makes the bytes, so that neither
//! waits for the other. After an error it can only be discarded.

use std::ffi::{CStr, CString};
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, Builder, JoinHandle};

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Identity, Kind, Node, OwnedFd, Replace, Stat, Way};

use crate::bytes::stream::{GLANCE, Stream, descriptor_of, name_of};
use crate::error::{Cause, Refusal, describe};
use crate::job::desk::Desk;
use crate::job::process::process;
use crate::tree::keep::Keep;
use crate::tree::metadata::{Scratch, Shortfall, Subject, put_right};
use crate::tree::path::{c_string, join, open_directory_path, split};
use crate::tree::staging::{Stager, Staging};

/// Bytes that are written in one call; a piece that is longer is written alone.
const BUFFER_BYTES: usize = 256 * 1024;
/// Full buffers that wait to be written.
const BUFFERS_BEHIND: usize = 4;
/// Permission bits of what any program makes: its directory, or the file creation mask, takes away from them.
pub const PLAIN: u32 = 0o666;
/// Symlinks that may lead from one to the next, as Linux has it.
const MOST_LINKS: usize = 40;

/// What is being written.
pub struct Output {
    path: Vec<u8>,
    place: Place,
    desk: Arc<Desk>,
    buffer: Vec<u8>,
    /// Where the buffer goes in the file.
    offset: u64,
    behind: Option<Behind>,
}

/// Where it goes.
enum Place {
    /// Under this name in the end.
    Name {
        directory: OwnedFd,
        name: CString,
        /// Permission bits of a new file, for the directory or the file creation mask to take away from.
        bits: u32,
        /// Once there is something in it: the file, under a name of its own.
        file: Option<(Arc<OwnedFd>, Staging)>,
    },
    /// Into something that was there before.
    Stream(Arc<Stream>),
    /// Nowhere: its reader has left, or the run is to stop.
    Gone,
}

/// What bytes can be put into.
enum Sink {
    File(Arc<OwnedFd>),
    Stream(Arc<Stream>),
}

impl Sink {
    /// False: nobody wants more.
    fn put(&self, bytes: &[u8], offset: u64, desk: &Desk) -> sys::Result<bool> {
        match self {
            Self::File(file) => sys::write_all_at(file.as_fd(), bytes, offset).map(|()| true),
            Self::Stream(stream) => stream.write_all(bytes, desk),
        }
    }
}

/// The thread that writes.
struct Behind {
    /// Bytes, and where they go in the file.
    give: SyncSender<(Vec<u8>, u64)>,
    /// Ends with the first error, or when there is nothing more to come, or nobody who wants it: then it answers false.
    thread: JoinHandle<sys::Result<bool>>,
}

impl Place {
    /// What a path leads to, opened where it is to be written into. Waits for the reader of a FIFO.
    fn find(path: &[u8], bits: u32, desk: &Desk) -> sys::Result<Self> {
        let mut path = path.to_vec();
        for _ in 0..=MOST_LINKS {
            if descriptor_of(&path).is_some() {
                return Self::stream(&path, Kind::Unknown, desk);
            }
            let (directory, name) = split(&path);
            let at = open_directory_path(directory, Follow::Yes)?;
            let name = c_string(name)?;
            let kind = match sys::stat(at.as_fd(), &name, Follow::No) {
                _ if name.is_empty() => Kind::Directory,
                Ok(stat) => stat.kind,
                Err(Errno::NOENT) => Kind::File,
                Err(errno) => return Err(errno),
            };
            match kind {
                Kind::Directory => return Err(Errno::ISDIR),
                Kind::File => {
                    return Ok(Self::Name {
                        directory: at,
                        name,
                        bits,
                        file: None,
                    });
                }
                Kind::Symlink => {
                    // The system is asked first: it has links that it does not let everybody follow.
                    match sys::stat(at.as_fd(), &name, Follow::Yes) {
                        Ok(_) | Err(Errno::NOENT) => {}
                        Err(errno) => return Err(errno),
                    }
                    let text = sys::read_link(at.as_fd(), &name)?.into_bytes();
                    path = if text.starts_with(b"/") {
                        text
                    } else {
                        join(directory, &text)
                    };
                }
                _ => return Self::stream(&path, kind, desk),
            }
        }
        Err(Errno::LOOP)
    }

    fn stream(path: &[u8], kind: Kind, desk: &Desk) -> sys::Result<Self> {
        let _resting = desk.resting();
        while !desk.cancel.is_draining() {
            match Stream::open(path, Way::Out) {
                // Nobody reads it yet.
                Err(Errno::NXIO) if kind == Kind::Fifo => thread::sleep(GLANCE),
                opened => return opened.map(|stream| Self::Stream(Arc::new(stream))),
            }
        }
        Ok(Self::Gone)
    }

    /// Makes the file where there is none yet.
    fn sink(&mut self) -> sys::Result<Option<Sink>> {
        match self {
            Self::Gone => Ok(None),
            Self::Stream(stream) => Ok(Some(Sink::Stream(Arc::clone(stream)))),
            Self::Name {
                file: Some((file, _)), ..
            } => Ok(Some(Sink::File(Arc::clone(file)))),
            Self::Name {
                directory,
                name,
                bits,
                file,
            } => {
                let there = match sys::open_node(directory.as_fd(), name) {
                    Ok(there) => Some(there),
                    Err(Errno::NOENT) => None,
                    Err(errno) => return Err(errno),
                };
                // What it takes from another file may keep it from others.
                let bits = if there.is_some() { 0o600 } else { *bits };
                let create = |name: &CStr| sys::create_file_as(directory.as_fd(), name, bits);
                let made = Stager::new().stage(name, create)?;
                let (made, _) = file.insert((Arc::new(made.0), made.1));
                if let Some(there) = there {
                    // What could not be had of a list's rights is told by nobody.
                    follow(&there, made).map(drop)?;
                }
                Ok(Some(Sink::File(Arc::clone(made))))
            }
        }
    }

    /// Removes the file, if there is one.
    fn clear(&mut self) -> sys::Result<()> {
        match self {
            Self::Name { directory, file, .. } => match file.take() {
                Some((_, temporary)) => sys::unlink(directory.as_fd(), temporary.as_c_str()),
                None => Ok(()),
            },
            Self::Stream(_) | Self::Gone => Ok(()),
        }
    }

    /// What was written is whole: it gets its name once it is on disk.
    fn publish(&mut self) -> sys::Result<()> {
        match self {
            Self::Gone => Ok(()),
            Self::Stream(stream) => stream.sync(),
            Self::Name {
                directory, name, file, ..
            } => {
                let (made, temporary) = file.as_ref().ok_or(Errno::NOENT)?;
                sys::sync_data(made.as_fd())?;
                let at = directory.as_fd();
                sys::rename(at, temporary.as_c_str(), at, name, Replace::Yes)?;
                *file = None;
                Ok(())
            }
        }
    }
}

/// Gives a new file what the one has whose place it takes, as if that had been written into. What can't be had of it is
/// answered.
pub fn follow(there: &OwnedFd, made: &OwnedFd) -> sys::Result<Vec<Shortfall>> {
    let (old, new) = (sys::stat_fd(there.as_fd())?, sys::stat_fd(made.as_fd())?);
    // Writing takes set-id bits away.
    let old = Stat {
        mode: old.mode & 0o1777,
        ..old
    };
    let process = process();
    let keep = Keep::as_written(process.umask, process.reach);
    let copy = Subject {
        node: Node::Open(made.as_fd()),
        owner: (new.uid, new.gid),
        mode: new.mode,
        born: None,
        new: true,
        inherits: true,
        destination: 0,
    };
    let from = Some(Node::Path(there.as_fd()));
    let mut scratch = Scratch::default();
    let put = put_right(&keep, &old, from, copy, Some(copy.node), &mut scratch);
    put.map(|_| scratch.shortfalls).map_err(|fault| match fault.cause {
        Cause::Errno(errno) => errno,
        _ => Errno::IO,
    })
}

impl Output {
    /// Begins; what has the final name stays until the end. Waits for the reader of a FIFO. A new file has the mode that
    /// any program's has there.
    pub fn create(path: &[u8], desk: &Arc<Desk>) -> Result<Self, Refusal> {
        Self::begin(path, PLAIN, desk)
    }

    /// The same; nobody else may read a new file.
    pub fn create_private(path: &[u8], desk: &Arc<Desk>) -> Result<Self, Refusal> {
        Self::begin(path, 0o600, desk)
    }

    fn begin(path: &[u8], bits: u32, desk: &Arc<Desk>) -> Result<Self, Refusal> {
        let begin = || {
            let mut place = Place::find(path, bits, desk)?;
            // Whether a file can be made is told now, not when the work is done.
            let probed = place.sink().map(drop);
            place.clear()?;
            probed.map(|()| place)
        };
        Ok(Self {
            path: path.to_vec(),
            place: begin().map_err(|errno| Refusal::List(text(path, errno)))?,
            desk: Arc::clone(desk),
            buffer: Vec::with_capacity(BUFFER_BYTES),
            offset: 0,
            behind: None,
        })
    }

    /// Where the file will be, by its directory and its name there; none where bytes go into something that was there before.
    pub fn place(&self) -> Result<Option<(Identity, CString)>, Refusal> {
        match &self.place {
            Place::Name { directory, name, .. } => {
                let stat = sys::stat_fd(directory.as_fd()).map_err(|errno| refusal(&self.path, errno))?;
                Ok(Some((stat.id, name.clone())))
            }
            Place::Stream(_) | Place::Gone => Ok(None),
        }
    }

    /// Adds bytes. An error may be one of bytes that were added before.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if matches!(self.place, Place::Gone) {
            return Ok(());
        }
        if self.buffer.len() + bytes.len() > BUFFER_BYTES && !self.buffer.is_empty() {
            self.hand_over().map_err(|errno| refusal(&self.path, errno))?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Leaves the buffer to the thread that writes, and begins another.
    fn hand_over(&mut self) -> sys::Result<()> {
        if self.behind.is_none() {
            self.behind = self.start()?;
        }
        let Some(Behind { give, .. }) = &self.behind else {
            return self.flush();
        };
        let full = mem::replace(&mut self.buffer, Vec::with_capacity(BUFFER_BYTES));
        let length = full.len() as u64;
        if give.send((full, self.offset)).is_err() {
            // It ended early: why, it says.
            self.catch_up()?;
            return match self.place {
                Place::Gone => Ok(()),
                Place::Name { .. } | Place::Stream(_) => Err(Errno::IO),
            };
        }
        self.offset += length;
        Ok(())
    }

    /// None where no thread can be had: bytes are then written by whoever adds them, which is slower, not wrong.
    fn start(&mut self) -> sys::Result<Option<Behind>> {
        let Some(sink) = self.place.sink()? else {
            return Ok(None);
        };
        let (give, given) = mpsc::sync_channel::<(Vec<u8>, u64)>(BUFFERS_BEHIND);
        let desk = Arc::clone(&self.desk);
        let write = move || {
            for (bytes, offset) in given {
                if !sink.put(&bytes, offset, &desk)? {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        let thread = Builder::new().name("bulkhaul-write".into()).spawn(write);
        Ok(thread.ok().map(|thread| Behind { give, thread }))
    }

    /// Waits until what was handed over is written.
    fn catch_up(&mut self) -> sys::Result<()> {
        if let Some(Behind { give, thread }) = self.behind.take() {
            drop(give);
            if !thread.join().unwrap_or(Err(Errno::IO))? {
                self.place = Place::Gone;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> sys::Result<()> {
        if let Some(sink) = self.place.sink()?
            && !sink.put(&self.buffer, self.offset, &self.desk)?
        {
            self.place = Place::Gone;
        }
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Puts a file under its final name once its content is on disk; where that fails, nothing is left of it. False: the
    /// run was stopped while somebody was to read the rest.
    pub fn finish(mut self) -> Result<bool, Refusal> {
        let written = self.catch_up().and_then(|()| self.flush());
        match written.and_then(|()| self.place.publish()) {
            Ok(()) => {
                let gone = matches!(self.place, Place::Gone);
                let stopped = gone && self.desk.cancel.is_draining();
                if gone && !stopped {
                    let first = || (self.path.clone(), "whoever read it left before its end".to_owned());
                    self.desk.note("unread", first);
                }
                Ok(!stopped)
            }
            Err(errno) => {
                let because = refusal(&self.path, errno);
                self.discard().and(Err(because))
            }
        }
    }

    /// Gives it up: what has the final name stays as it is.
    pub fn discard(mut self) -> Result<(), Refusal> {
        self.place.clear().map_err(|errno| refusal(&self.path, errno))
    }
}

fn refusal(path: &[u8], errno: Errno) -> Refusal {
    Refusal::Output(text(path, errno))
}

fn text(path: &[u8], errno: Errno) -> String {
    format!("{} could not be written: {}", name_of(path), describe(errno))
}

/// A file without a name, on the file system of a directory; where that has none, its name is taken away at once.
pub fn unnamed_file(directory: &OwnedFd) -> sys::Result<OwnedFd> {
    match sys::create_unnamed(directory.as_fd()) {
        Err(Errno::NOTSUP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => {
            let make = |name: &CStr| sys::create_file(directory.as_fd(), name);
            let (file, name) = Stager::new().stage(c"unnamed", make)?;
            sys::unlink(directory.as_fd(), name.as_c_str())?;
            Ok(file)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    fn output(scratch: &tempfile::TempDir) -> (Output, std::path::PathBuf) {
        let path = scratch.path().join("file");
        let desk = Arc::new(Desk::new(1));
        (Output::create(path.as_os_str().as_bytes(), &desk).unwrap(), path)
    }

    #[test]
    fn pieces_of_all_sizes_come_one_after_the_other() {
        let sizes = [
            vec![],
            vec![3],
            vec![BUFFER_BYTES - 1, 1, 1],
            vec![BUFFER_BYTES, BUFFER_BYTES],
            vec![1, 3 * BUFFER_BYTES + 1, 1],
            vec![1000; 12 * BUFFERS_BEHIND * BUFFER_BYTES / 10_000],
        ];
        for sizes in sizes {
            let scratch = tempfile::tempdir().unwrap();
            let (mut output, path) = output(&scratch);
            let mut expected = Vec::new();
            for (number, size) in sizes.iter().enumerate() {
                let piece = vec![u8::try_from(number % 251).unwrap(); *size];
                output.write(&piece).unwrap();
                expected.extend(piece);
                assert!(!path.exists());
            }
            output.finish().unwrap();
            assert!(fs::read(&path).unwrap() == expected);
            assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_thread_that_dies_leaves_no_file() {
        for finish in [true, false] {
            let scratch = tempfile::tempdir().unwrap();
            let (mut output, path) = output(&scratch);
            let (give, given) = mpsc::sync_channel(BUFFERS_BEHIND);
            let thread = std::thread::spawn(move || {
                drop(given);
                panic!("for a test");
            });
            output.behind = Some(Behind { give, thread });
            if finish {
                assert!(matches!(output.finish(), Err(Refusal::Output(_))));
            } else {
                // The first fills the buffer, the second sends it.
                let piece = vec![1; BUFFER_BYTES];
                while output.write(&piece).is_ok() {}
                output.discard().unwrap();
            }
            assert!(!path.exists());
            assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
        }
    }
}
