//! A file that appears whole, under its final name, or not at all.
//!
//! Comes in: bytes, in order; goes out: the file. A file of more than one buffer is written by a thread of its own, some
//! buffers behind whoever makes the bytes, so that neither waits for the other. After an error it can only be discarded.

use std::ffi::CString;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread::{Builder, JoinHandle};

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Node, OwnedFd, Replace};

use crate::error::{Refusal, describe};
use crate::preflight::split;
use crate::publish::{Stager, Staging};
use crate::tree::{c_string, open_directory_path};

/// Bytes that are written in one call; a piece that is longer is written alone.
const BUFFER_BYTES: usize = 256 * 1024;
/// Full buffers that wait to be written.
const BUFFERS_BEHIND: usize = 4;

/// A file that is being written under a name of its own, beside its final one.
pub struct Output {
    path: Vec<u8>,
    directory: OwnedFd,
    name: CString,
    temporary: Staging,
    file: Arc<OwnedFd>,
    buffer: Vec<u8>,
    /// Where the buffer goes in the file.
    offset: u64,
    behind: Option<Behind>,
}

/// The thread that writes.
struct Behind {
    /// Bytes, and where they go in the file.
    give: SyncSender<(Vec<u8>, u64)>,
    /// Ends with the first error, or when there is nothing more to come.
    thread: JoinHandle<sys::Result<()>>,
}

impl Output {
    /// Begins; what has the final name stays until the end. `mode`: permission bits in the end.
    pub fn create(path: &[u8], mode: u32) -> Result<Self, Refusal> {
        let (directory, name) = split(path);
        let begin = || {
            let directory = open_directory_path(directory, Follow::Yes)?;
            let name = c_string(name)?;
            if name.is_empty()
                || sys::stat(directory.as_fd(), &name, Follow::No).is_ok_and(|s| s.kind == sys::Kind::Directory)
            {
                return Err(Errno::ISDIR);
            }
            let (file, temporary) = Stager::new().stage(&name, |name| sys::create_file(directory.as_fd(), name))?;
            Ok((directory, name, temporary, file))
        };
        let (directory, name, temporary, file) = begin().map_err(|errno| refusal(path, errno))?;
        let output = Self {
            path: path.to_vec(),
            directory,
            name,
            temporary,
            file: Arc::new(file),
            buffer: Vec::with_capacity(BUFFER_BYTES),
            offset: 0,
            behind: None,
        };
        match sys::set_mode(Node::Open(output.file.as_fd()), mode) {
            Ok(()) => Ok(output),
            Err(errno) => output.discard().and(Err(refusal(path, errno))),
        }
    }

    /// Adds bytes. An error may be one of bytes that were added before.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES && !self.buffer.is_empty() {
            self.hand_over().map_err(|errno| refusal(&self.path, errno))?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Leaves the buffer to the thread that writes, and begins another.
    fn hand_over(&mut self) -> sys::Result<()> {
        if self.behind.is_none() {
            self.behind = self.start();
        }
        let Some(Behind { give, .. }) = &self.behind else {
            return self.flush();
        };
        let full = mem::replace(&mut self.buffer, Vec::with_capacity(BUFFER_BYTES));
        let length = full.len() as u64;
        if give.send((full, self.offset)).is_err() {
            // It ended early: why, it says.
            return self.catch_up().and(Err(Errno::IO));
        }
        self.offset += length;
        Ok(())
    }

    /// None where no thread can be had: bytes are then written by whoever adds them, which is slower, not wrong.
    fn start(&self) -> Option<Behind> {
        let (give, given) = mpsc::sync_channel::<(Vec<u8>, u64)>(BUFFERS_BEHIND);
        let file = Arc::clone(&self.file);
        let write = move || {
            let mut all = given.iter();
            all.try_for_each(|(bytes, offset)| sys::write_all_at(file.as_fd(), &bytes, offset))
        };
        let thread = Builder::new().name("bulkhaul-write".into()).spawn(write).ok()?;
        Some(Behind { give, thread })
    }

    /// Waits until what was handed over is written.
    fn catch_up(&mut self) -> sys::Result<()> {
        match self.behind.take() {
            Some(Behind { give, thread }) => {
                drop(give);
                thread.join().unwrap_or(Err(Errno::IO))
            }
            None => Ok(()),
        }
    }

    fn flush(&mut self) -> sys::Result<()> {
        sys::write_all_at(self.file.as_fd(), &self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Puts the file under its final name once its content is on disk; where that fails, nothing is left of it.
    pub fn finish(mut self) -> Result<(), Refusal> {
        let written = self.catch_up().and_then(|()| self.flush());
        let put = written.and_then(|()| {
            let at = self.directory.as_fd();
            sys::sync_data(self.file.as_fd())?;
            sys::rename(at, self.temporary.as_c_str(), at, &self.name, Replace::Yes)
        });
        match put {
            Ok(()) => Ok(()),
            Err(errno) => {
                let because = refusal(&self.path, errno);
                self.discard().and(Err(because))
            }
        }
    }

    /// Gives it up: what has the final name stays as it is.
    pub fn discard(self) -> Result<(), Refusal> {
        sys::unlink(self.directory.as_fd(), self.temporary.as_c_str()).map_err(|errno| refusal(&self.path, errno))
    }
}

fn refusal(path: &[u8], errno: Errno) -> Refusal {
    Refusal::Output(format!(
        "{} could not be written: {}",
        String::from_utf8_lossy(path),
        describe(errno)
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    fn output(scratch: &tempfile::TempDir) -> (Output, std::path::PathBuf) {
        let path = scratch.path().join("file");
        (Output::create(path.as_os_str().as_bytes(), 0o644).unwrap(), path)
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
