//! A compressed list on its way out of its archive, from front to back.
//!
//! Comes in: the format of an archive, and a way to read in it; goes out: its content, some at a time. What is not whole to
//! its last byte is a refusal, so that a list that was cut short never looks like a shorter one. Memory is bounded by what
//! the decoder looks back on; how much comes out is for whoever takes it.

use bulkhaul_formats::codec::{Damage, Decoder, Format, Long, Piece, Scanner};

use crate::bytes::transfer::BUFFER_BYTES;
use crate::error::Refusal;

/// What is larger, on either side, is decoded a buffer at a time.
const UNIT_BYTES: usize = 1 << 20;
/// What a decoder needs that looks back as far as that of `xz -9`.
const DECODER_BYTES: u64 = 66 << 20;

/// An archive that is being read.
pub(crate) struct Packed<R, B> {
    format: Format,
    /// Reads at an offset, until the buffer is full or the archive ends.
    read: R,
    /// What is told of damage.
    refuse: B,
    /// Bytes that were read and not passed over yet, from `start` on.
    window: Vec<u8>,
    start: usize,
    /// Where the window ends in the archive.
    at: u64,
    /// It reaches to the archive's end.
    last: bool,
}

impl<R, B> Packed<R, B>
where
    R: Fn(&mut [u8], u64) -> Result<usize, Refusal>,
    B: Fn(Damage) -> Refusal,
{
    pub(crate) fn new(format: Format, read: R, refuse: B) -> Self {
        Self {
            format,
            read,
            refuse,
            window: Vec::new(),
            start: 0,
            at: 0,
            last: false,
        }
    }

    /// Hands all content to `take`, until it answers false. Whether that was all of it.
    pub(crate) fn unpack(mut self, mut take: impl FnMut(&[u8]) -> Result<bool, Refusal>) -> Result<bool, Refusal> {
        let mut scanner = Scanner::new(self.format, UNIT_BYTES);
        let (mut decoder, mut content) = (Decoder::default(), Vec::new());
        loop {
            let offset = scanner.offset();
            let piece = scanner.next(&self.window[self.start..], self.last);
            match piece.map_err(&self.refuse)? {
                Piece::Skip(bytes) => self.start += bytes,
                Piece::Unit(unit) => {
                    let end = self.start + unit.archive;
                    content.resize(unit.content, 0);
                    let archive = &self.window[self.start..end];
                    let unpacked = decoder.unit(self.format, &unit, archive, &mut content, false);
                    unpacked.map_err(|what| (self.refuse)(Damage { offset, what }))?;
                    self.start = end;
                    if !take(&content)? {
                        return Ok(false);
                    }
                }
                Piece::Long(format) => {
                    let long = Long::new(format, false, DECODER_BYTES);
                    let long = long.map_err(|what| (self.refuse)(Damage { offset, what }))?;
                    content.resize(BUFFER_BYTES, 0);
                    if !self.long(long, &mut scanner, &mut content, &mut take)? {
                        return Ok(false);
                    }
                }
                Piece::More(bytes) => self.fill(bytes)?,
                Piece::End => return Ok(true),
            }
        }
    }

    /// The same of something long, to its end.
    fn long(
        &mut self,
        mut long: Long,
        scanner: &mut Scanner,
        content: &mut [u8],
        take: &mut impl FnMut(&[u8]) -> Result<bool, Refusal>,
    ) -> Result<bool, Refusal> {
        loop {
            let step = long.step(&self.window[self.start..], self.last, content);
            let step = step.map_err(|(at, what)| {
                let offset = scanner.offset() + at as u64;
                (self.refuse)(Damage { offset, what })
            })?;
            self.start += step.read;
            scanner.passed(step.read as u64, step.written as u64);
            if step.written > 0 && !take(&content[..step.written])? {
                return Ok(false);
            }
            if step.ended {
                return Ok(true);
            }
            if (step.read, step.written) == (0, 0) {
                if self.last {
                    let (offset, what) = (scanner.offset(), "it was cut short");
                    return Err((self.refuse)(Damage { offset, what }));
                }
                self.fill(self.window.len() - self.start + 1)?;
            }
        }
    }

    /// Reads on, until the window has so many bytes or reaches to the end.
    fn fill(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.window.drain(..self.start);
        self.start = 0;
        let from = self.window.len();
        self.window.resize(bytes.max(from + BUFFER_BYTES), 0);
        let room = &mut self.window[from..];
        let wanted = room.len();
        let read = (self.read)(room, self.at)?;
        self.window.truncate(from + read);
        self.at += read as u64;
        self.last = read < wanted;
        Ok(())
    }
}
