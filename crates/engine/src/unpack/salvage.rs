//! What can be had of a compressed archive that is damaged, and has no index.
//!
//! Comes in: an archive of pieces that are decoded alone, as packs make them; goes out: its content in a file, and where that
//! has gaps. A piece that can't be decoded is a gap as long as its content was, as far as what is around it tells that;
//! otherwise the content goes on in the next piece in which an entry begins.

use bulkhaul_formats::codec::{Decoder, Format, Piece, Scanner};
use bulkhaul_formats::tar::{self, BLOCK};
use bulkhaul_sys::{self as sys, AsFd as _, OwnedFd};

use super::tape::MOST_IN_FRAME;
use crate::bytes::transfer::BUFFER_BYTES;
use crate::error::{Fault, Operation, Side, Stopped};
use crate::job::desk::Desk;
use crate::records::shards::Volume;

/// Gaps that are told apart; what comes behind more of them is lost too.
const MOST_GAPS: usize = 100_000;

/// Content that is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where it begins.
    pub from: u64,
    /// Where content goes on.
    pub to: u64,
    /// It is as long as what was there.
    pub is_exact: bool,
}

/// What was missed since the last piece that could be decoded.
enum Missed {
    Nothing,
    /// Pieces with so much content, if the archive goes on at `next`.
    Pieces {
        next: u64,
        content: u64,
    },
    /// Nobody knows how much.
    More,
}

/// An archive that is read from front to back.
struct Salvage<'s> {
    volume: &'s dyn Volume,
    desk: &'s Desk,
    format: Format,
    /// What was read, up to byte `end` of the archive; before `start` it is done with.
    input: Vec<u8>,
    start: usize,
    end: u64,
    last: bool,
    /// Bytes of content so far, gaps included.
    at: u64,
    gaps: Vec<Gap>,
    missed: Missed,
}

/// Writes the content of an archive into a file; answers its gaps. Nothing: it is not of such pieces.
pub fn salvage(volume: &dyn Volume, format: Format, file: &OwnedFd, desk: &Desk) -> Result<Option<Vec<Gap>>, Stopped> {
    if !matches!(format, Format::Bgzf | Format::Zstd) {
        return Ok(None);
    }
    let mut salvage = Salvage {
        volume,
        desk,
        format,
        input: Vec::new(),
        start: 0,
        end: 0,
        last: false,
        at: 0,
        gaps: Vec::new(),
        missed: Missed::Nothing,
    };
    Ok(salvage.run(file)?.then_some(salvage.gaps))
}

impl Salvage<'_> {
    /// Where the next piece begins in the archive.
    fn offset(&self) -> u64 {
        self.end - (self.input.len() - self.start) as u64
    }

    fn run(&mut self, file: &OwnedFd) -> Result<bool, Stopped> {
        let (mut scanner, mut decoder) = (Scanner::new(self.format, MOST_IN_FRAME), Decoder::default());
        let (mut content, mut any) = (Vec::new(), false);
        while !(self.last && self.start == self.input.len()) && self.gaps.len() < MOST_GAPS {
            let begun = self.offset();
            match scanner.next(&self.input[self.start..], self.last) {
                Ok(Piece::Skip(bytes)) => self.start += bytes,
                Ok(Piece::More(bytes)) => self.fill(bytes)?,
                Ok(Piece::End) => break,
                // Nobody packed that here.
                Ok(Piece::Long(_)) if !any && matches!(self.missed, Missed::Nothing) => return Ok(false),
                Ok(Piece::Unit(unit)) => {
                    content.resize(unit.content, 0);
                    let piece = &self.input[self.start..self.start + unit.archive];
                    if decoder.unit(self.format, &unit, piece, &mut content, false).is_ok() {
                        self.start += unit.archive;
                        any = true;
                        if self.goes_on(begun, &content) {
                            let write = |errno| Fault::new(Operation::Write, Side::Destination(0), errno);
                            sys::write_all_at(file.as_fd(), &content, self.at).map_err(write)?;
                            self.at += content.len() as u64;
                        }
                        continue;
                    }
                    let (next, content) = (begun + unit.archive as u64, unit.content as u64);
                    self.missed = match self.missed {
                        Missed::Nothing => Missed::Pieces { next, content },
                        Missed::Pieces {
                            next: at,
                            content: more,
                        } if at == begun => Missed::Pieces {
                            next,
                            content: more + content,
                        },
                        Missed::Pieces { .. } | Missed::More => Missed::More,
                    };
                    scanner = self.next_piece()?;
                }
                Ok(Piece::Long(_)) | Err(_) => {
                    self.missed = Missed::More;
                    scanner = self.next_piece()?;
                }
            }
        }
        match self.missed {
            Missed::Nothing => {}
            Missed::Pieces { next, content } if next == self.offset() => self.gap(content, true),
            Missed::Pieces { .. } | Missed::More => self.gap(BLOCK as u64, false),
        }
        Ok(any)
    }

    /// Whether a piece that begins there can be put where the content goes on, which a gap may move.
    fn goes_on(&mut self, begun: u64, content: &[u8]) -> bool {
        match std::mem::replace(&mut self.missed, Missed::Nothing) {
            Missed::Nothing => return true,
            Missed::Pieces { next, content } if next == begun => {
                self.gap(content, true);
                return true;
            }
            Missed::Pieces { .. } | Missed::More => {}
        }
        // An entry begins at a whole block.
        let Some(first) = tar::find_header(content) else {
            self.missed = Missed::More;
            return false;
        };
        let block = BLOCK as u64;
        let before = first as u64 % block;
        let to = (self.at / block + 2) * block - before;
        self.gap(to - self.at, false);
        true
    }

    fn gap(&mut self, bytes: u64, is_exact: bool) {
        let (from, to) = (self.at, self.at + bytes);
        if bytes > 0 {
            self.gaps.push(Gap { from, to, is_exact });
        }
        self.at = to;
    }

    /// Goes to where a piece may begin, behind this place; what is scanned begins anew there.
    fn next_piece(&mut self) -> Result<Scanner, Stopped> {
        let magic: &[u8] = match self.format {
            Format::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
            _ => &[0x1f, 0x8b, 0x08, 0x04],
        };
        self.start = (self.start + 1).min(self.input.len());
        loop {
            let rest = &self.input[self.start..];
            if let Some(found) = rest.windows(magic.len()).position(|window| window == magic) {
                self.start += found;
                break;
            }
            let kept = rest.len().min(magic.len() - 1);
            self.start = self.input.len() - kept;
            if self.last {
                self.start = self.input.len();
                break;
            }
            self.fill(kept + 1)?;
        }
        Ok(Scanner::new(self.format, MOST_IN_FRAME))
    }

    /// Reads on, until so many bytes are there or the archive ends.
    fn fill(&mut self, bytes: usize) -> Result<(), Stopped> {
        self.desk.may_go_on(BUFFER_BYTES as u64)?;
        self.input.drain(..self.start);
        self.start = 0;
        let from = self.input.len();
        let more = bytes.saturating_sub(from).max(BUFFER_BYTES);
        self.input.resize(from + more, 0);
        let got = self.volume.read_at(&mut self.input[from..], self.end)?;
        self.input.truncate(from + got);
        self.end += got as u64;
        self.last = got < more;
        Ok(())
    }
}
