//! gzip (RFC 1952): members, and BGZF, which is gzip in members of at most 64 KiB that say how long they are (the
//! specification of SAM, section 4.1).
//!
//! One member of any length is made as pigz does it: stretches of deflate that end at a byte, each primed with the 32 KiB
//! before it.

use libdeflater::Compressor;
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};
use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateFlush, Status};

use super::pieces::{Piece, Step, Unit};

/// The first bytes of a member that is compressed by deflate, the only method there is.
pub const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
/// How far deflate looks back.
pub const WINDOW_BYTES: usize = 32 * 1024;
/// Content of a member of BGZF, as bgzip has it: what can't be compressed still fits.
pub const MEMBER_BYTES: usize = 65280;
/// Content of a block: many members to one turn of a worker, and few enough that all have their turn.
pub const BLOCK_BYTES: usize = 16 * MEMBER_BYTES;
/// Content of a member of BGZF at most.
const MOST_IN_MEMBER: usize = 65536;
/// The member of nothing that ends BGZF (the specification of SAM, 4.1.2).
pub const END_OF_BGZF: [u8; 28] = [
    0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 6, 0, b'B', b'C', 2, 0, 0x1b, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];
/// The first bytes of a member of BGZF, enough to know how long it is: headers have no more in them as a rule.
pub const MEMBER_HEAD: usize = 64;
/// Bytes of a header of ours that says how long its member is.
const BGZF_HEADER: usize = 18;
/// CRC-32 and size.
const TRAILER: usize = 8;
/// A header of more bytes is none.
const MOST_IN_HEADER: usize = 1024 * 1024;
/// The last block of deflate, and nothing in it.
const LAST: [u8; 2] = [3, 0];

const CUT_SHORT: &str = "it was cut short";
const GARBAGE: &str = "it goes on with something else after its end";
const WRONG: &str = "its content is not what its checksum says";
const BAD: &str = "what is compressed there is damaged";

/// Where the members of BGZF begin, as `bgzip` writes it into files that end with `.gzi`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gzi {
    /// Their sizes, less one.
    sizes: Vec<u16>,
    /// Content of all of them, full but for the last.
    content: u64,
}

impl Gzi {
    pub(super) fn add(&mut self, sizes: &[u16], content: u64) {
        self.sizes.extend_from_slice(sizes);
        self.content += content;
    }

    /// Hands the bytes of such a file to `put`, some at a time: how many members there are but for the first, and for each
    /// of these where it begins in the archive and in the content (64 bits each, little-endian).
    pub fn write<E>(&self, mut put: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let rest = self.sizes.len().saturating_sub(1);
        put(&(rest as u64).to_le_bytes())?;
        let (mut archive, mut content) = (0_u64, 0_u64);
        for size in &self.sizes[..rest] {
            archive += u64::from(*size) + 1;
            content += MEMBER_BYTES as u64;
            put(&archive.to_le_bytes())?;
            put(&content.to_le_bytes())?;
        }
        Ok(())
    }
}

/// Bytes of a member of BGZF, by its first [`MEMBER_HEAD`]; the last four of them are the bytes of its content. None: it
/// is none.
pub fn member_bytes(head: &[u8]) -> Option<u64> {
    read_header(head).ok()??.member.map(|length| length as u64)
}

/// Makes members of BGZF in `framed`, of which `room` is kept from one to the next; answers their sizes less one. None: the
/// encoder failed.
pub fn members(
    compressor: &mut Compressor,
    room: &mut Vec<u8>,
    content: &[u8],
    framed: &mut Vec<u8>,
) -> Option<Vec<u16>> {
    let mut sizes = Vec::with_capacity(content.len().div_ceil(MEMBER_BYTES));
    for part in content.chunks(MEMBER_BYTES) {
        let bound = compressor.deflate_compress_bound(part.len());
        if room.len() < bound {
            room.resize(bound, 0);
        }
        let length = compressor.deflate_compress(part, room).ok()?;
        let size = u16::try_from(BGZF_HEADER + length + TRAILER - 1).ok()?;
        framed.extend_from_slice(&END_OF_BGZF[..BGZF_HEADER - 2]);
        framed.extend_from_slice(&size.to_le_bytes());
        framed.extend_from_slice(&room[..length]);
        framed.extend_from_slice(&crc32fast::hash(part).to_le_bytes());
        framed.extend_from_slice(&u32::try_from(part.len()).ok()?.to_le_bytes());
        sizes.push(size);
    }
    Some(sizes)
}

/// The header of one member: no name, no time, and whether the level is the least or the most.
pub fn header(level: u32) -> [u8; 10] {
    let [a, b, c] = MAGIC;
    let extra = match level {
        1 => 4,
        9.. => 2,
        _ => 0,
    };
    [a, b, c, 0, 0, 0, 0, 0, extra, 0xff]
}

/// A stretch of the one member; answers the CRC-32 of its content. None: the encoder failed.
pub fn stretch(level: i32, before: &[u8], content: &[u8], framed: &mut Vec<u8>) -> Option<u32> {
    // A new one for each, because one that is reset sees a byte of what it made before behind what it is primed with, and
    // finds less. Beyond 9 there is nothing more that it could do.
    let mut deflate = Deflate::new(level.min(9), false, 15);
    if !before.is_empty() {
        let from = before.len().saturating_sub(WINDOW_BYTES);
        deflate.set_dictionary(&before[from..]).ok()?;
    }
    loop {
        let (read, written) = (usize::try_from(deflate.total_in()).ok()?, framed.len());
        framed.resize(written + content.len() / 2 + 1024, 0);
        let before = deflate.total_out();
        let status = deflate.compress(&content[read..], &mut framed[written..], DeflateFlush::SyncFlush);
        let made = usize::try_from(deflate.total_out() - before).ok()?;
        let full = written + made == framed.len();
        framed.truncate(written + made);
        match status {
            // A flush is over when it leaves room.
            Ok(Status::Ok | Status::BufError) if !full => break,
            Ok(Status::Ok | Status::BufError) => {}
            Ok(Status::StreamEnd) | Err(_) => return None,
        }
    }
    let all = deflate.total_in() == content.len() as u64;
    all.then(|| crc32fast::hash(content))
}

/// The end of the one member.
pub fn trailer(crc: u32, content: u64) -> Vec<u8> {
    let mut tail = LAST.to_vec();
    tail.extend_from_slice(&crc.to_le_bytes());
    // The size modulo 2^32, as the format has it.
    tail.extend_from_slice(&content.to_le_bytes()[..4]);
    tail
}

/// A member's header.
struct Header {
    length: usize,
    /// How long the whole member is, where it is one of BGZF.
    member: Option<usize>,
}

/// Reads a header; none where it is not there whole.
fn read_header(input: &[u8]) -> Result<Option<Header>, &'static str> {
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let magic = input.len().min(MAGIC.len());
    if input[..magic] != MAGIC[..magic] {
        return Err(if input.len() > 2 && input[..2] == MAGIC[..2] {
            "it is compressed by a method that is not known"
        } else {
            "it is no member of gzip"
        });
    }
    let Some(flags) = input.get(3).copied() else {
        return Ok(None);
    };
    if flags & 0xe0 != 0 {
        return Err("its header has flags that are not known");
    }
    let mut at = 10;
    let mut member = None;
    if flags & 4 != 0 {
        let Some(bytes) = input.get(at..at + 2) else {
            return Ok(None);
        };
        let length = usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        let Some(mut fields) = input.get(at + 2..at + 2 + length) else {
            return Ok(None);
        };
        while let [first, second, low, high, rest @ ..] = fields {
            let length = usize::from(u16::from_le_bytes([*low, *high]));
            if (*first, *second, length) == (b'B', b'C', 2) && rest.len() >= 2 {
                member = Some(usize::from(u16::from_le_bytes([rest[0], rest[1]])) + 1);
            }
            fields = rest.get(length..).unwrap_or_default();
        }
        at += 2 + length;
    }
    for flag in [NAME, COMMENT] {
        if flags & flag != 0 {
            let rest = input.get(at..).unwrap_or_default();
            let Some(end) = rest.iter().position(|byte| *byte == 0) else {
                return Ok(None);
            };
            at += end + 1;
        }
    }
    if flags & 2 != 0 {
        let Some(sum) = input.get(at..at + 2) else {
            return Ok(None);
        };
        if crc32fast::hash(&input[..at]).to_le_bytes()[..2] != *sum {
            return Err("its header is not what its checksum says");
        }
        at += 2;
    }
    if input.len() < at {
        return Ok(None);
    }
    Ok(Some(Header { length: at, member }))
}

/// Whether what begins so is a member of BGZF.
pub fn is_bgzf(input: &[u8]) -> bool {
    matches!(read_header(input), Ok(Some(header)) if header.member.is_some())
}

/// Where the members of an archive begin.
#[derive(Default)]
pub struct Members {
    /// There was one.
    any: bool,
    /// Zeros follow, and nothing else.
    padding: bool,
    /// The last one was one of BGZF, and not the one that ends it.
    open: bool,
}

impl Members {
    /// The piece that begins with `input`; an error with where in it.
    pub fn next(&mut self, input: &[u8], last: bool) -> Result<Piece, (usize, &'static str)> {
        if input.is_empty() {
            return match last {
                false => Ok(Piece::More(1)),
                true if self.open => Err((0, "the member that ends BGZF is missing, so it was cut short")),
                true if !self.any => Err((0, CUT_SHORT)),
                true => Ok(Piece::End),
            };
        }
        if self.padding || (self.any && input[0] == 0) {
            self.padding = true;
            return match input.iter().position(|byte| *byte != 0) {
                Some(at) => Err((at, GARBAGE)),
                None => Ok(Piece::Skip(input.len())),
            };
        }
        let more = |wanted| {
            if last {
                Err((input.len(), CUT_SHORT))
            } else {
                Ok(Piece::More(wanted))
            }
        };
        let header = match read_header(input) {
            Ok(Some(header)) => header,
            Ok(None) if input.len() < MOST_IN_HEADER => return more(2 * input.len().max(512)),
            Ok(None) => return Err((0, "its header has no end")),
            Err(_) if self.any && !input.starts_with(&MAGIC[..2]) => return Err((0, GARBAGE)),
            Err(what) => return Err((0, what)),
        };
        self.any = true;
        self.open = false;
        let Some(length) = header.member else {
            return Ok(Piece::Long(super::Format::Gzip));
        };
        if length < header.length + LAST.len() + TRAILER {
            return Err((0, "a member of BGZF is shorter than it can be"));
        }
        if input.len() < length {
            return more(length);
        }
        let content = number(&input[length - 4..length]) as usize;
        if content > MOST_IN_MEMBER {
            return Err((0, "a member of BGZF is longer than it can be"));
        }
        self.open = content > 0;
        Ok(Piece::Unit(Unit {
            archive: length,
            content,
            check: 0,
        }))
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

/// What is in a member of BGZF. libdeflate made it, if it is ours: zlib-rs proves it. It reads all others too, nearly as fast:
/// libdeflate does not tell where deflate has ended, so that what lies between that and the checksum would go unseen.
pub fn member(inflate: &mut Option<Inflate>, member: &[u8], content: &mut [u8]) -> Result<(), &'static str> {
    let header = read_header(member)?.ok_or(CUT_SHORT)?;
    let end = member.len() - TRAILER;
    let deflated = &member[header.length..end];
    let inflate = inflate.get_or_insert_with(|| Inflate::new(false, 15));
    inflate.reset(false);
    let (read, written) = (inflate.total_in(), inflate.total_out());
    let mut none = [0];
    let empty = content.is_empty();
    let room = if empty { &mut none[..] } else { &mut *content };
    let status = inflate.decompress(deflated, room, InflateFlush::Finish);
    let done = (inflate.total_in() - read, inflate.total_out() - written);
    if status != Ok(Status::StreamEnd) || done != (deflated.len() as u64, content.len() as u64) {
        return Err(BAD);
    }
    if crc32fast::hash(content) != number(&member[end..end + 4]) {
        return Err(WRONG);
    }
    Ok(())
}

/// One member of any length. zlib-rs made it, if it is ours: miniz proves it.
/// ISA-L would decode it faster, and is no choice: its crates build it with nasm and autotools, which users do not have.
pub struct Member {
    engine: Engine,
    stage: Stage,
    crc: crc32fast::Hasher,
    /// Bytes of content, modulo 2^32.
    content: u32,
}

enum Engine {
    Zlib(Box<Inflate>),
    Miniz(Box<InflateState>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Header,
    Body,
    Trailer,
}

impl Member {
    pub fn new(proof: bool) -> Self {
        let engine = if proof {
            Engine::Miniz(InflateState::new_boxed(DataFormat::Raw))
        } else {
            Engine::Zlib(Box::new(Inflate::new(false, 15)))
        };
        Self {
            engine,
            stage: Stage::Header,
            crc: crc32fast::Hasher::new(),
            content: 0,
        }
    }

    /// Reads on; an error with where in `input`.
    pub fn step(&mut self, input: &[u8], last: bool, out: &mut [u8]) -> Result<Step, (usize, &'static str)> {
        let mut step = Step::default();
        if self.stage == Stage::Header {
            // The scanner has seen that it is whole.
            let header = read_header(input).map_err(|what| (0, what))?;
            step.read = header.ok_or((input.len(), CUT_SHORT))?.length;
            self.stage = Stage::Body;
        }
        if self.stage == Stage::Body {
            let (read, written, ended) = self
                .engine
                .run(&input[step.read..], out)
                .map_err(|what| (step.read, what))?;
            self.crc.update(&out[..written]);
            self.content = self.content.wrapping_add(u32::try_from(written).unwrap_or(u32::MAX));
            step.read += read;
            step.written = written;
            if !ended {
                return if last && step.read == input.len() && written < out.len() {
                    Err((input.len(), CUT_SHORT))
                } else {
                    Ok(step)
                };
            }
            self.stage = Stage::Trailer;
        }
        let Some(trailer) = input.get(step.read..step.read + TRAILER) else {
            return if last { Err((input.len(), CUT_SHORT)) } else { Ok(step) };
        };
        if number(&trailer[..4]) != self.crc.clone().finalize() {
            return Err((step.read, WRONG));
        }
        if number(&trailer[4..]) != self.content {
            return Err((step.read + 4, "its content is not as long as it says"));
        }
        step.read += TRAILER;
        step.ended = true;
        Ok(step)
    }
}

impl Engine {
    /// Bytes read and written, and whether that was the end.
    fn run(&mut self, input: &[u8], out: &mut [u8]) -> Result<(usize, usize, bool), &'static str> {
        match self {
            Self::Zlib(inflate) => {
                let (read, written) = (inflate.total_in(), inflate.total_out());
                let status = inflate.decompress(input, out, InflateFlush::NoFlush).map_err(|_| BAD)?;
                let moved = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
                let done = (moved(inflate.total_in(), read), moved(inflate.total_out(), written));
                Ok((done.0, done.1, status == Status::StreamEnd))
            }
            Self::Miniz(state) => {
                let result = inflate(state, input, out, MZFlush::None);
                let ended = match result.status {
                    Ok(MZStatus::StreamEnd) => true,
                    Ok(MZStatus::Ok) | Err(MZError::Buf) => false,
                    Ok(MZStatus::NeedDict) | Err(_) => return Err(BAD),
                };
                Ok((result.bytes_consumed, result.bytes_written, ended))
            }
        }
    }
}
