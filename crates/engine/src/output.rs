//! A file that appears whole, under its final name, or not at all.

use std::ffi::CString;

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Node, OwnedFd, Replace};

use crate::error::{Refusal, describe};
use crate::preflight::split;
use crate::publish::{Stager, Staging};
use crate::tree::{c_string, open_directory_path};

/// Bytes that are written in one call.
const BUFFER_BYTES: usize = 256 * 1024;

/// A file that is being written under a name of its own, beside its final one.
pub struct Output {
    path: Vec<u8>,
    directory: OwnedFd,
    name: CString,
    temporary: Staging,
    file: OwnedFd,
    buffer: Vec<u8>,
    written: u64,
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
            file,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            written: 0,
        };
        match sys::set_mode(Node::Open(output.file.as_fd()), mode) {
            Ok(()) => Ok(output),
            Err(errno) => output.discard().and(Err(refusal(path, errno))),
        }
    }

    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush().map_err(|errno| refusal(&self.path, errno))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> sys::Result<()> {
        sys::write_all_at(self.file.as_fd(), &self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Puts the file under its final name once its content is on disk; where that fails, nothing is left of it.
    pub fn finish(mut self) -> Result<(), Refusal> {
        let put = self.flush().and_then(|()| {
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
