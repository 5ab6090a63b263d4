//! An archive read as the tar that it is, or that is in it.
//!
//! Comes in: an open archive, and places in the tar; goes out: bytes from there on. What is wanted next mostly comes next, so
//! some is read ahead, as far as the entries go that are wanted together. Of a compressed shard the frames are decoded that
//! hold what is wanted, and no others: the index says where they begin.

use bulkhaul_formats::codec::{Damage, Decoder, Format, Piece, Scanner};
use bulkhaul_formats::shards::Packed;
use bulkhaul_formats::tar::BLOCK;

use crate::error::{Cause, Fault, Operation, Side, Stopped};
use crate::records::shards::Volume;

/// Bytes that are read at once at least.
const LEAST_BYTES: usize = 64 * 1024;
/// What a frame has at most on either side; those of the highest levels are as large.
pub const MOST_IN_FRAME: usize = 65 * 1024 * 1024;

/// An archive that is read.
pub struct Tape {
    /// Up to here it goes on.
    until: u64,
    bytes: Vec<u8>,
    /// Where they are in the tar.
    at: u64,
    frames: Option<Frames>,
}

/// The frames of a compressed shard.
struct Frames {
    format: Format,
    scanner: Scanner,
    decoder: Decoder,
    /// What was read of the file, up to byte `end` of it; before `start` it is done with.
    input: Vec<u8>,
    start: usize,
    end: u64,
    last: bool,
}

/// What is wrong with an archive.
pub fn damaged(offset: u64, what: &'static str) -> Fault {
    Fault {
        operation: Operation::Read,
        side: Side::Source,
        cause: Cause::Damaged(Damage { offset, what }),
    }
}

impl Tape {
    /// Nothing is read yet. `format`: frames of it are what is read.
    pub fn new(format: Option<Format>) -> Self {
        Self {
            until: 0,
            bytes: Vec::new(),
            at: 0,
            frames: format.map(Frames::new),
        }
    }

    /// Entries are wanted up to this place.
    pub fn until(&mut self, end: u64) {
        self.until = end;
    }

    /// Goes to an entry of an index.
    pub fn seek(&mut self, packed: &Packed) -> Result<(), Fault> {
        let (Some(frames), Some((frame, skip))) = (&mut self.frames, packed.frame) else {
            return Ok(());
        };
        let begin = packed.offset.checked_sub(skip);
        let begin = begin.ok_or_else(|| damaged(packed.offset, "its index has it in a frame that begins later"))?;
        // What is decoded is there, and what comes next is not far.
        let goes_on = packed.offset >= self.at && frame <= frames.offset() && !(self.bytes.is_empty() && self.at == 0);
        if !goes_on {
            frames.seek(frame);
            self.bytes.clear();
            self.at = begin;
        }
        Ok(())
    }

    /// Fills the buffer with what is at a place of the tar; fewer bytes: it ends before.
    pub fn read(&mut self, volume: &dyn Volume, buffer: &mut [u8], offset: u64) -> Result<usize, Stopped> {
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let there = at
                .checked_sub(self.at)
                .and_then(|from| self.bytes.get(usize::try_from(from).ok()?..));
            if let Some(there) = there.filter(|there| !there.is_empty()) {
                let length = there.len().min(buffer.len() - done);
                buffer[done..done + length].copy_from_slice(&there[..length]);
                done += length;
                continue;
            }
            if let Some(frames) = &mut self.frames {
                if at < self.at {
                    return Err(damaged(at, "another entry is where the index has this one").into());
                }
                self.at += self.bytes.len() as u64;
                let wanted = self.until.saturating_sub(self.at);
                if !frames.next(volume, &mut self.bytes, wanted)? {
                    return Ok(done);
                }
                continue;
            }
            let stretch = volume.stretch().max(LEAST_BYTES);
            if buffer.len() - done >= stretch {
                let got = volume.read_at(&mut buffer[done..], at)?;
                return Ok(done + got);
            }
            let wanted = usize::try_from(self.until.saturating_sub(at)).unwrap_or(usize::MAX);
            self.bytes.resize(wanted.clamp(LEAST_BYTES, stretch), 0);
            let got = volume.read_at(&mut self.bytes, at);
            self.bytes.truncate(*got.as_ref().unwrap_or(&0));
            self.at = at;
            if got? == 0 {
                return Ok(done);
            }
        }
        Ok(done)
    }

    /// The block at a place; nothing: the archive ends before it does.
    pub fn block(&mut self, volume: &dyn Volume, offset: u64) -> Result<Option<[u8; BLOCK]>, Stopped> {
        let mut block = [0; BLOCK];
        let got = self.read(volume, &mut block, offset)?;
        Ok((got == BLOCK).then_some(block))
    }
}

impl Frames {
    fn new(format: Format) -> Self {
        Self {
            format,
            scanner: Scanner::new(format, MOST_IN_FRAME),
            decoder: Decoder::default(),
            input: Vec::new(),
            start: 0,
            end: 0,
            last: false,
        }
    }

    /// Where the next frame begins in the file.
    fn offset(&self) -> u64 {
        self.end - (self.input.len() - self.start) as u64
    }

    fn seek(&mut self, offset: u64) {
        self.scanner = Scanner::new(self.format, MOST_IN_FRAME);
        let from = offset
            .checked_sub(self.offset())
            .and_then(|more| usize::try_from(more).ok());
        if let Some(more) = from.filter(|more| self.start + more <= self.input.len()) {
            self.start += more;
        } else {
            self.input.clear();
            (self.start, self.end, self.last) = (0, offset, false);
        }
    }

    /// Decodes the next frame; false: there is none. `wanted`: bytes of content that will be.
    fn next(&mut self, volume: &dyn Volume, content: &mut Vec<u8>, wanted: u64) -> Result<bool, Stopped> {
        content.clear();
        loop {
            let offset = self.offset();
            let piece = self.scanner.next(&self.input[self.start..], self.last);
            match piece.map_err(|damage| damaged(offset, damage.what))? {
                Piece::Skip(bytes) => self.start += bytes,
                Piece::Unit(unit) => {
                    content.resize(unit.content, 0);
                    let frame = &self.input[self.start..self.start + unit.archive];
                    self.start += unit.archive;
                    let decoded = self.decoder.unit(self.format, &unit, frame, content, false);
                    if let Err(what) = decoded {
                        content.clear();
                        return Err(damaged(offset, what).into());
                    }
                    if unit.content > 0 {
                        return Ok(true);
                    }
                }
                Piece::More(bytes) => self.fill(volume, bytes, wanted)?,
                Piece::Long(_) => return Err(damaged(offset, "it is not cut as its index says").into()),
                Piece::End => return Ok(false),
            }
        }
    }

    fn fill(&mut self, volume: &dyn Volume, bytes: usize, wanted: u64) -> Result<(), Stopped> {
        self.input.drain(..self.start);
        self.start = 0;
        let from = self.input.len();
        let ahead = usize::try_from(wanted).unwrap_or(usize::MAX);
        let ahead = ahead.clamp(LEAST_BYTES, volume.stretch().max(LEAST_BYTES));
        let more = bytes.saturating_sub(from).max(ahead);
        self.input.resize(from + more, 0);
        let got = volume.read_at(&mut self.input[from..], self.end);
        self.input.truncate(from + *got.as_ref().unwrap_or(&0));
        let got = got?;
        self.end += got as u64;
        self.last = got < more;
        Ok(())
    }
}
