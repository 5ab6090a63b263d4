//! Streams: what somebody else writes or reads meanwhile, as a pipe, a socket, a terminal or a device.
//!
//! Comes in: a path as the user gave it; goes out: its bytes to their end, or ours into it. Whatever anybody did to the
//! descriptor (Node.js lets pipes not wait), reading and writing wait here, and end when the run is to stop. Nothing is
//! made, replaced or cut short. A path that names a descriptor of this process (`/dev/stdin`, `/dev/fd/63`) is that
//! descriptor, with its position, and is not opened again: a socket could not be.

use std::time::Duration;

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind, OwnedFd, Way};

use crate::bytes::transfer::BUFFER_BYTES;
use crate::error::Refusal;
use crate::job::desk::{Cancel, Desk};
use crate::tree::path::{c_string, open_directory_path, show, split};

/// Whoever waits sees within this time that the run is to stop.
pub const GLANCE: Duration = Duration::from_millis(100);
/// Bytes that a pipe with room takes whole, and at once, also from a descriptor that waits (`PIPE_BUF`).
const PIECE_BYTES: usize = 4096;

/// The number of the descriptor of this process that a path names.
pub fn descriptor_of(path: &[u8]) -> Option<i32> {
    match path {
        b"/dev/stdin" => Some(0),
        b"/dev/stdout" => Some(1),
        b"/dev/stderr" => Some(2),
        _ => {
            let below = |directory: &[u8]| path.strip_prefix(directory);
            let number = below(b"/dev/fd/").or_else(|| below(b"/proc/self/fd/"))?;
            let digits = number.iter().all(u8::is_ascii_digit);
            std::str::from_utf8(number).ok().filter(|_| digits)?.parse().ok()
        }
    }
}

/// Why what is open in this process is nothing to work on.
pub const NO_ENTRY: &str = "it is an open pipe or file, not an entry of a directory: cat writes what it gives";

/// Whether a path that was given to be worked on may be an entry of a directory: not where it names a descriptor of this
/// process, as `<(command)` does. A link to that would lead nowhere. A directory is one by its descriptor too.
pub fn is_entry(path: &[u8]) -> bool {
    let led = || sys::stat(sys::current_directory(), &c_string(path)?, Follow::Yes);
    descriptor_of(path).is_none() || !led().is_ok_and(|led| led.kind != Kind::Directory)
}

/// Whether two paths lead to one thing that gives what it has only once: who reads both has it in one of them.
pub fn is_one(paths: [&[u8]; 2]) -> bool {
    let numbers = paths.map(descriptor_of);
    if numbers[0].is_some() && numbers[0] == numbers[1] {
        return true;
    }
    let led = |path| sys::stat(sys::current_directory(), &c_string(path)?, Follow::Yes);
    match paths.map(led) {
        [Ok(one), Ok(other)] => one.is_same(&other) && one.kind != Kind::File,
        _ => false,
    }
}

/// A path for a message.
pub fn name_of(path: &[u8]) -> String {
    match path {
        b"/dev/stdin" => "standard input".into(),
        b"/dev/stdout" => "standard output".into(),
        path => show(path),
    }
}

/// What a user named, opened for one way.
pub struct Stream {
    fd: OwnedFd,
    kind: Kind,
    /// By its name, and not for the first time as a descriptor.
    opened: bool,
}

impl Stream {
    /// Opens it; `ENXIO` for a FIFO that nobody reads, and for a socket by its name.
    pub fn open(path: &[u8], way: Way) -> sys::Result<Self> {
        let number = descriptor_of(path);
        let fd = if let Some(number) = number {
            sys::duplicate_number(number)?
        } else {
            let (directory, name) = split(path);
            let at = open_directory_path(directory, Follow::Yes)?;
            let name = c_string(if name.is_empty() { b"." } else { name })?;
            sys::open_stream(at.as_fd(), &name, way)?
        };
        let kind = sys::stat_fd(fd.as_fd())?.kind;
        if kind == Kind::Directory {
            return Err(Errno::ISDIR);
        }
        Ok(Self {
            fd,
            kind,
            opened: number.is_none(),
        })
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The descriptor of what can be read again from its beginning; otherwise the stream.
    pub fn into_file(self) -> Result<OwnedFd, Self> {
        if self.opened && self.kind == Kind::File {
            Ok(self.fd)
        } else {
            Err(self)
        }
    }

    /// Hands all bytes to `take`, some at a time. False: the run is to stop, and this is not the end of them.
    pub fn read_to_end(
        &self,
        cancel: &Cancel,
        refuse: impl Fn(Errno) -> Refusal,
        mut take: impl FnMut(&[u8]) -> Result<(), Refusal>,
    ) -> Result<bool, Refusal> {
        let mut buffer = vec![0; BUFFER_BYTES];
        while self.is_ready(Way::In, cancel).map_err(&refuse)? {
            match sys::read(self.fd.as_fd(), &mut buffer) {
                Ok(0) => return Ok(true),
                Ok(length) => take(&buffer[..length])?,
                // Somebody else was faster.
                Err(Errno::AGAIN) => {}
                Err(errno) => return Err(refuse(errno)),
            }
        }
        Ok(false)
    }

    /// Writes all bytes. False: nobody reads them any more, or the run is to stop.
    pub fn write_all(&self, mut bytes: &[u8], desk: &Desk) -> sys::Result<bool> {
        let waits = self.kind != Kind::File;
        let most = if waits { PIECE_BYTES } else { usize::MAX };
        while !bytes.is_empty() {
            if waits {
                let _resting = desk.resting();
                if !self.is_ready(Way::Out, &desk.cancel)? {
                    return Ok(false);
                }
            }
            match sys::write(self.fd.as_fd(), &bytes[..bytes.len().min(most)]) {
                Ok(0) => return Err(Errno::IO),
                Ok(length) => bytes = &bytes[length..],
                Err(Errno::AGAIN) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(false),
                Err(errno) => return Err(errno),
            }
        }
        Ok(true)
    }

    /// Waits until what was written is on the medium, where there is one.
    pub fn sync(&self) -> sys::Result<()> {
        match self.kind {
            Kind::Block => sys::sync_data(self.fd.as_fd()),
            _ => Ok(()),
        }
    }

    /// Waits until there is something to read, or room to write. False: the run is to stop.
    fn is_ready(&self, way: Way, cancel: &Cancel) -> sys::Result<bool> {
        while !cancel.is_draining() {
            if sys::wait_for(self.fd.as_fd(), way, GLANCE)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_descriptors() {
        let cases: [(&[u8], Option<i32>); 9] = [
            (b"/dev/stdin", Some(0)),
            (b"/dev/stdout", Some(1)),
            (b"/dev/stderr", Some(2)),
            (b"/dev/fd/63", Some(63)),
            (b"/proc/self/fd/0", Some(0)),
            (b"/dev/fd/", None),
            (b"/dev/fd/+1", None),
            (b"/dev/fd/99999999999", None),
            (b"/dev/null", None),
        ];
        for (path, number) in cases {
            assert_eq!(descriptor_of(path), number, "{}", show(path));
        }
    }
}
