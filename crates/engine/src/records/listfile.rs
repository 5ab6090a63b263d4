//! A list as a file: its lines, read to the end, in the form that it has.
//!
//! Comes in: a path, which may be a pipe, of what may be compressed; goes out: lines with their numbers, as often as they are
//! asked for.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;

use bulkhaul_formats::codec::{HEAD_BYTES, Kind, recognise};
use bulkhaul_formats::lists::changes;
use bulkhaul_formats::lists::hpcp::{self, Form};
use bulkhaul_formats::manifest::{NoUtf16, Utf16};
use bulkhaul_sys::{self as sys, AsFd as _, Way};

use crate::bytes::stream::{self, name_of};
use crate::bytes::transfer::BUFFER_BYTES;
use crate::error::{Refusal, describe};
use crate::job::desk::Cancel;
use crate::records::packed::Packed;
use crate::records::sort::Sorters;

/// Bytes of a list that tell whether it has a header.
const HEADER_BYTES: u64 = 64;

/// A list that can be read more than once.
pub(crate) struct ListFile {
    /// For messages.
    name: String,
    file: File,
}

impl ListFile {
    /// Opens a list; what can be read only once (a pipe) is kept in a file without a name. `None`: the run is to stop.
    pub(crate) fn open(path: &[u8], sorters: &Sorters, cancel: &Cancel) -> Result<Option<Self>, Refusal> {
        let name = name_of(path);
        let refuse = |errno| Refusal::List(format!("{name}: {}", describe(errno)));
        let stream = match stream::Stream::open(path, Way::In).map_err(refuse)?.into_file() {
            Ok(file) => {
                let file = File::from(file);
                return Ok(Some(Self { name, file }));
            }
            Err(stream) => stream,
        };
        let mut file = File::from(sorters.file()?);
        let keep = |bytes: &[u8]| file.write_all(bytes).map_err(|error| sorters.failed(&error));
        let whole = stream.read_to_end(cancel, refuse, keep)?;
        Ok(whole.then_some(Self { name, file }))
    }

    /// The same list as it is; what is compressed is unpacked into a file without a name. `None`: the run is to stop.
    pub(crate) fn unpacked(self, sorters: &Sorters, cancel: &Cancel) -> Result<Option<Self>, Refusal> {
        let read = |buffer: &mut [u8], at| self.read_full_at(buffer, at);
        let mut head = [0; HEAD_BYTES];
        let length = read(&mut head, 0)?;
        let format = match recognise(&head[..length]) {
            Some(Kind::Archive(format)) => format,
            Some(Kind::Foreign(name)) => return Err(self.refusal(&format!("it is {name}, which is not read here"))),
            Some(Kind::Compressed(_)) | None => return Ok(Some(self)),
        };
        let mut file = File::from(sorters.file()?);
        let packed = Packed::new(format, read, |damage| self.refusal(&damage.to_string()));
        let whole = packed.unpack(|bytes| {
            file.write_all(bytes).map_err(|error| sorters.failed(&error))?;
            Ok(!cancel.is_draining())
        })?;
        Ok(whole.then_some(Self { file, ..self }))
    }

    /// The same list as UTF-8, where it says that it is UTF-16. `None`: the run is to stop.
    pub(crate) fn in_utf8(self, sorters: &Sorters, cancel: &Cancel) -> Result<Option<Self>, Refusal> {
        let mut head = [0; 2];
        let length = self.read_full_at(&mut head, 0)?;
        let Some(mut utf16) = Utf16::of(&head[..length]) else {
            return Ok(Some(self));
        };
        let refuse = |error: NoUtf16| self.refusal(&error.to_string());
        let (mut file, mut text) = (File::from(sorters.file()?), Vec::new());
        self.pieces(|piece| {
            text.clear();
            utf16.read(piece, &mut text).map_err(refuse)?;
            file.write_all(&text).map_err(|error| sorters.failed(&error))?;
            Ok(!cancel.is_draining())
        })?;
        if cancel.is_draining() {
            return Ok(None);
        }
        utf16.finish().map_err(refuse)?;
        Ok(Some(Self { file, ..self }))
    }

    /// The same list with other bytes, which are kept in a file without a name.
    pub(crate) fn rewritten(self, bytes: &[u8], sorters: &Sorters) -> Result<Self, Refusal> {
        let mut file = File::from(sorters.file()?);
        file.write_all(bytes).map_err(|error| sorters.failed(&error))?;
        Ok(Self { file, ..self })
    }

    /// Hands all bytes, some at a time, to `take`, from the first on; until it answers false.
    pub(crate) fn pieces(&self, mut take: impl FnMut(&[u8]) -> Result<bool, Refusal>) -> Result<(), Refusal> {
        let mut file = &self.file;
        let failed = |error: io::Error| self.refusal(&error.to_string());
        file.rewind().map_err(failed)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            // A whole buffer, where there is that much.
            let mut length = 0;
            while length < buffer.len() {
                match file.read(&mut buffer[length..]).map_err(failed)? {
                    0 => break,
                    more => length += more,
                }
            }
            if length == 0 || !take(&buffer[..length])? {
                return Ok(());
            }
        }
    }

    /// Reads from an offset on; answers how many bytes there were.
    pub(crate) fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<usize, Refusal> {
        let read = self.file.read_at(buffer, at);
        read.map_err(|error| self.refusal(&error.to_string()))
    }

    /// The same until the buffer is full, or the list ends.
    fn read_full_at(&self, buffer: &mut [u8], at: u64) -> Result<usize, Refusal> {
        let read = sys::read_full_at(self.file.as_fd(), buffer, at);
        read.map_err(|errno| self.refusal(&describe(errno)))
    }

    pub(crate) fn refusal(&self, what: &str) -> Refusal {
        Refusal::List(format!("{}: {what}", self.name))
    }

    /// Refuses a change list: it says what differs, not what there is.
    pub(crate) fn refuse_changes(&self) -> Result<(), Refusal> {
        if self.is_changes()? {
            return Err(self.refusal("it is a list of changes, which is no side of a comparison"));
        }
        Ok(())
    }

    /// Whether it is a change list, by its first line.
    pub(crate) fn is_changes(&self) -> Result<bool, Refusal> {
        let mut file = &self.file;
        let mut first = Vec::new();
        let read = file.rewind().and_then(|()| {
            let mut reader = BufReader::new(file.take(HEADER_BYTES));
            reader.read_until(b'\n', &mut first)
        });
        read.map_err(|error| self.refusal(&error.to_string()))?;
        let first = first.strip_suffix(b"\n").unwrap_or(&first);
        changes::is_header(first).map_err(|error| self.refusal(&error.to_string()))
    }

    /// Hands each line, with its number from 1 on and without its newline, to `each`.
    pub(crate) fn each(&self, mut each: impl FnMut(u64, &[u8]) -> Result<(), Refusal>) -> Result<(), Refusal> {
        let failed = |error: &io::Error| self.refusal(&error.to_string());
        let mut file = &self.file;
        file.rewind().map_err(|error| failed(&error))?;
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, file);
        let (mut line, mut number) = (Vec::new(), 0);
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line).map_err(|error| failed(&error))? == 0 {
                return Ok(());
            }
            number += 1;
            each(number, line.strip_suffix(b"\n").unwrap_or(&line))?;
        }
    }

    /// The form of the list, and the name, with a slash, of the one entry that all others are in.
    pub(crate) fn survey(&self) -> Result<(Form, Vec<u8>), Refusal> {
        let mut form = None;
        self.each(|_, line| {
            form = form.or_else(|| hpcp::form_of(line));
            Ok(())
        })?;
        let form = form.unwrap_or(Form::Names);
        let mut own: Option<Vec<u8>> = None;
        let (mut single, mut itself) = (true, false);
        self.each(|number, line| {
            let listed = hpcp::parse(line, form).map_err(|error| self.refusal(&format!("line {number}: {error}")))?;
            let Some(listed) = listed.filter(|_| single) else {
                return Ok(());
            };
            let first = listed.path.split(|b| *b == b'/').next().unwrap_or_default();
            match &own {
                None => own = Some(first.to_vec()),
                Some(own) => single = own == first,
            }
            itself |= listed.path == first;
            Ok(())
        })?;
        let own = own.filter(|own| single && itself && !own.is_empty());
        Ok((form, own.map_or_else(Vec::new, |own| [&own[..], b"/"].concat())))
    }
}
