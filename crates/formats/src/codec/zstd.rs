//! zstd (RFC 8878): frames, one after another.
//!
//! An archive of several frames begins with a mark: a frame that readers skip, which says how many follow and how much is in
//! them. Nothing else would tell that some of them are missing.

use ruzstd::decoding::FrameDecoder;
use zstd_safe::zstd_sys::{ZSTD_EndDirective, ZSTD_ErrorCode};
use zstd_safe::{CCtx, CParameter, DCtx, DParameter, ErrorCode, InBuffer, OutBuffer, ResetDirective};

use super::pieces::{Piece, Step, Unit};
use super::{Format, NEEDS_DICTIONARY, TOO_LARGE};

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// What the last three bytes of the magic number of frames are that readers skip; the first is 0x50 to 0x5f.
const SKIPPED: [u8; 3] = [0x2a, 0x4d, 0x18];
/// The one of these that marks, the length of what it says, and the first of that.
const MARK: [u8; 16] = *b"\x5b\x2a\x4d\x18\x18\0\0\0bulkhaul";
const MARK_BYTES: usize = 32;
/// A frame of nothing, with its check.
pub const EMPTY: [u8; 13] = [0x28, 0xb5, 0x2f, 0xfd, 0x24, 0, 1, 0, 0, 0x99, 0xe9, 0xd8, 0x51];
/// Bytes of a frame's header at most.
const MOST_IN_HEADER: usize = 18;
/// Bytes of a block at most, and of its header.
const MOST_IN_BLOCK: usize = 128 * 1024 + 3;

/// Bytes that are encoded before it is asked whether to go on.
const PIECE_BYTES: usize = 1024 * 1024;

const CUT_SHORT: &str = "it was cut short";
const BAD: &str = "what is compressed there is damaged";

/// Whether a file that begins so is one.
pub fn begins(head: &[u8]) -> bool {
    head.starts_with(&MAGIC) || is_skipped(head)
}

fn is_skipped(input: &[u8]) -> bool {
    input.len() >= 4 && input[0] & 0xf0 == 0x50 && input[1..4] == SKIPPED
}

/// Content of a frame: some times what the encoder of a level looks back.
pub fn block_bytes(level: u32) -> usize {
    match level {
        ..=8 => 8 << 20,
        9..=15 => 16 << 20,
        _ => 32 << 20,
    }
}

/// Memory of an encoder, as `zstd_safe::CCtx::sizeof` tells after a frame, and some more.
pub fn encoder_bytes(level: u32) -> u64 {
    match level {
        ..=8 => 24 << 20,
        9..=15 => 64 << 20,
        _ => 112 << 20,
    }
}

/// The encoder of a level.
pub fn encoder(level: i32) -> Option<CCtx<'static>> {
    let mut context = CCtx::try_create()?;
    for parameter in [
        CParameter::CompressionLevel(level),
        CParameter::ChecksumFlag(true),
        CParameter::ContentSizeFlag(true),
    ] {
        context.set_parameter(parameter).ok()?;
    }
    Some(context)
}

/// Makes a frame. None: the encoder failed, or was told to stop.
pub fn frame(encoder: &mut CCtx<'_>, content: &[u8], framed: &mut Vec<u8>, goes_on: &dyn Fn() -> bool) -> Option<()> {
    // What an earlier frame that was given up has left.
    encoder.reset(ResetDirective::SessionOnly).ok()?;
    encoder.set_pledged_src_size(Some(content.len() as u64)).ok()?;
    framed.reserve(zstd_safe::compress_bound(content.len()));
    let mut out = OutBuffer::around(framed);
    let mut pieces = content.chunks(PIECE_BYTES).peekable();
    while let Some(piece) = pieces.next() {
        if !goes_on() {
            return None;
        }
        let last = pieces.peek().is_none();
        let end = if last {
            ZSTD_EndDirective::ZSTD_e_end
        } else {
            ZSTD_EndDirective::ZSTD_e_continue
        };
        let mut input = InBuffer::around(piece);
        // All of it has room: there is nothing to wait for.
        let left = encoder.compress_stream2(&mut out, &mut input, end).ok()?;
        if input.pos() < piece.len() || (last && left > 0) {
            return None;
        }
    }
    Some(())
}

/// What goes before several frames.
pub fn mark(frames: u64, content: u64) -> Vec<u8> {
    [&MARK[..], &frames.to_le_bytes(), &content.to_le_bytes()].concat()
}

/// The frames of an archive.
#[derive(Default)]
pub struct Frames {
    /// How many there were that are not skipped.
    seen: u64,
    /// There was anything.
    any: bool,
    /// Bytes that are still to be skipped.
    skip: u64,
    /// How many frames there shall be, and how much is in them.
    marked: Option<(u64, u64)>,
}

/// What a frame's header says.
struct Header {
    length: usize,
    content: Option<u64>,
    checked: bool,
}

/// Reads a frame's header after its magic number; none where it is not there whole.
fn read_header(input: &[u8]) -> Result<Option<Header>, &'static str> {
    let Some(flags) = input.get(4).copied() else {
        return Ok(None);
    };
    if flags & 8 != 0 {
        return Err("a frame has flags that are not known");
    }
    let single = flags & 0x20 != 0;
    let dictionary = [0, 1, 2, 4][usize::from(flags & 3)];
    let size = match flags >> 6 {
        0 => usize::from(single),
        more => 1 << more,
    };
    let at = 5 + usize::from(!single);
    let length = at + dictionary + size;
    let Some(header) = input.get(..length) else {
        return Ok(None);
    };
    if header[at..at + dictionary].iter().any(|byte| *byte != 0) {
        return Err(NEEDS_DICTIONARY);
    }
    let number = header[at + dictionary..]
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let content = match size {
        0 => None,
        2 => Some(number + 256),
        _ => Some(number),
    };
    Ok(Some(Header {
        length,
        content,
        checked: flags & 4 != 0,
    }))
}

impl Frames {
    /// The piece that begins with `input`; an error with where in it. `at`: how far the archive and its content have come.
    pub fn next(
        &mut self,
        input: &[u8],
        last: bool,
        at: (u64, u64),
        most: usize,
    ) -> Result<Piece, (usize, &'static str)> {
        if self.skip > 0 && !input.is_empty() {
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(input.len());
            self.skip -= skipped as u64;
            return Ok(Piece::Skip(skipped));
        }
        if input.is_empty() {
            return match last {
                false => Ok(Piece::More(1)),
                true if self.skip > 0 || !self.any => Err((0, CUT_SHORT)),
                true => match self.marked {
                    Some(marked) if marked != (self.seen, at.1) => {
                        Err((0, "not as much is in it as its beginning says, so it was cut short"))
                    }
                    _ => Ok(Piece::End),
                },
            };
        }
        let more = |wanted: usize| {
            if last {
                Err((input.len(), CUT_SHORT))
            } else {
                Ok(Piece::More(wanted))
            }
        };
        if input.len() < 8 && !last {
            return more(MOST_IN_HEADER);
        }
        if is_skipped(input) {
            let Some(length) = input.get(4..8) else { return more(8) };
            if at.0 == 0 && input.starts_with(&MARK) {
                let Some(mark) = input.get(MARK.len()..MARK_BYTES) else {
                    return more(MARK_BYTES);
                };
                let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
                self.marked = Some((number(&mark[..8]), number(&mark[8..])));
            }
            self.any = true;
            self.skip = length.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            return Ok(Piece::Skip(8));
        }
        let magic = input.len().min(MAGIC.len());
        if input[..magic] != MAGIC[..magic] {
            return Err((
                0,
                if self.any {
                    "it goes on with something else after its end"
                } else {
                    "it is no frame of zstd"
                },
            ));
        }
        let header = match read_header(input) {
            Ok(Some(header)) => header,
            Ok(None) => return more(MOST_IN_HEADER),
            Err(what) => return Err((4, what)),
        };
        let content = header.content.and_then(|content| usize::try_from(content).ok());
        let Some(content) = content.filter(|content| *content <= most) else {
            return Ok(self.long());
        };
        let mut end = header.length;
        while let Some(block) = input.get(end..end + 3) {
            let number = block.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            end += match number >> 1 & 3 {
                0 | 2 => 3 + (number >> 3),
                1 => 4,
                _ => return Err((end, BAD)),
            };
            if number & 1 == 1 {
                end += if header.checked { 4 } else { 0 };
                if input.len() < end {
                    break;
                }
                self.any = true;
                self.seen += 1;
                return Ok(Piece::Unit(Unit {
                    archive: end,
                    content,
                    check: 0,
                }));
            }
        }
        if end > most && !last {
            return Ok(self.long());
        }
        // What is asked for grows, so that the blocks are not gone through again for each.
        more(end.max(2 * input.len()).max(MOST_IN_BLOCK))
    }

    fn long(&mut self) -> Piece {
        self.any = true;
        self.seen += 1;
        Piece::Long(Format::Zstd)
    }
}

/// What is in a frame.
pub fn unit(decoder: &mut DCtx<'_>, frame: &[u8], content: &mut [u8]) -> Result<(), &'static str> {
    match decoder.decompress(content, frame) {
        Ok(length) if length == content.len() => Ok(()),
        _ => Err(BAD),
    }
}

/// The same by another implementation than made it.
pub fn prove(decoder: &mut FrameDecoder, frame: &[u8], content: &mut [u8]) -> Result<(), &'static str> {
    // The content is bounded, and so is what is looked back on.
    decoder.set_max_window_size(u64::MAX);
    match decoder.decode_all(frame, content) {
        Ok(length) if length == content.len() => {}
        _ => return Err(BAD),
    }
    match decoder.get_checksum_from_data() {
        Some(sum) if Some(sum) != decoder.get_calculated_checksum() => Err("its content is not what its checksum says"),
        _ => Ok(()),
    }
}

/// A frame of any length.
pub struct Stream(DCtx<'static>);

impl Stream {
    pub fn new(memory: u64) -> Result<Self, &'static str> {
        let mut context = DCtx::try_create().ok_or(TOO_LARGE)?;
        let window = memory.max(1 << 27).ilog2().min(31);
        context
            .set_parameter(DParameter::WindowLogMax(window))
            .map_err(|_| TOO_LARGE)?;
        Ok(Self(context))
    }

    /// Reads on; an error with where in `input`.
    pub fn step(&mut self, input: &[u8], last: bool, out: &mut [u8]) -> Result<Step, (usize, &'static str)> {
        let room = out.len();
        let (mut from, mut into) = (InBuffer::around(input), OutBuffer::around(out));
        let left = self.0.decompress_stream(&mut into, &mut from);
        let step = Step {
            read: from.pos(),
            written: into.pos(),
            ended: left == Ok(0),
        };
        match left {
            Ok(0) => Ok(step),
            Ok(_) if last && step.read == input.len() && step.written < room => Err((input.len(), CUT_SHORT)),
            Ok(_) => Ok(step),
            Err(code) => Err((step.read, meaning(code))),
        }
    }
}

/// What an error of the decoder says of a frame.
fn meaning(code: ErrorCode) -> &'static str {
    use ZSTD_ErrorCode::{ZSTD_error_frameParameter_windowTooLarge, ZSTD_error_memory_allocation};
    let large = [ZSTD_error_frameParameter_windowTooLarge, ZSTD_error_memory_allocation];
    // It is told negated.
    if large.iter().any(|each| *each as usize == code.wrapping_neg()) {
        TOO_LARGE
    } else {
        BAD
    }
}
