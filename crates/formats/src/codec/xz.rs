//! xz (The .xz File Format, version 1.2.1): streams of blocks with an index of them.
//!
//! Each block is encoded by itself, and its header says how long it is on both sides, as that of `xz -T` does, so that it can
//! be decoded by itself.

use liblzma::stream::{Action, Check, Error, Filters, LzmaOptions, Status, Stream as Lzma};
use lzma_rust2::{Action as OtherAction, Status as OtherStatus, XzStream};

use super::pieces::{Piece, Step, Unit};
use super::{Format, TOO_LARGE};

/// The first bytes of a stream.
pub const MAGIC: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];
/// The number of the check by CRC-64.
pub const CRC64: u8 = 4;
const HEADER: usize = 12;
const FOOTER: usize = 12;
const END_MAGIC: [u8; 2] = *b"YZ";
/// The number of the filter that all blocks have.
const LZMA2: u64 = 0x21;
/// Bytes of a block's header at most.
pub const MOST_IN_HEADER: usize = 1024;
/// Content of a block at least.
const LEAST_BLOCK: usize = 1024 * 1024;
/// Content of a block at most, if it is not what its encoder looks back.
const MOST_BLOCK: usize = 64 * 1024 * 1024;

/// Bytes that are encoded before it is asked whether to go on.
const PIECE_BYTES: usize = 256 * 1024;
/// What a decoder looks back that decodes a block by itself, at most: as `xz -9`.
const MOST_WINDOW: u64 = 64 * 1024 * 1024;

const CUT_SHORT: &str = "it was cut short";
const GARBAGE: &str = "it goes on with something else after its end";
const BAD: &str = "what is compressed there is damaged";
const BAD_HEADER: &str = "the header of a block is damaged";
const BAD_STREAM: &str = "the header of the stream is damaged";

/// How far the encoder of a level looks back (`xz(1)`).
fn window(level: u32) -> usize {
    1 << match level {
        0 => 18,
        1 => 20,
        2 => 21,
        3 | 4 => 22,
        5 | 6 => 23,
        7 => 24,
        8 => 25,
        _ => 26,
    }
}

/// Content of a block: three times as much as the encoder looks back, as `xz -T` has it, but no more memory than is worth it.
pub fn block_bytes(level: u32) -> usize {
    (3 * window(level)).clamp(LEAST_BLOCK, MOST_BLOCK)
}

/// Memory of an encoder (`xz(1)`, in MiB).
pub fn encoder_bytes(level: u32) -> u64 {
    const MIB: [u64; 10] = [3, 9, 17, 32, 48, 94, 94, 186, 370, 674];
    MIB.get(level as usize).unwrap_or(&674) << 20
}

/// What the index says of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Bytes of the block without its padding.
    pub unpadded: u64,
    /// Bytes of its content.
    pub content: u64,
}

/// A number in seven bits a byte.
fn put_number(mut number: u64, into: &mut Vec<u8>) {
    while number > 0x7f {
        into.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    into.push(number.to_le_bytes()[0]);
}

/// Takes such a number off the front; none where it is not there, or too long.
fn take_number(input: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..9 {
        let (byte, rest) = input.split_first()?;
        *input = rest;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            // The last byte is not empty, unless it is the only one.
            return (*byte != 0 || place == 0).then_some(number);
        }
    }
    None
}

fn put_crc(bytes: &mut Vec<u8>, from: usize) {
    let crc = crc32fast::hash(&bytes[from..]);
    bytes.extend_from_slice(&crc.to_le_bytes());
}

fn has_crc(bytes: &[u8]) -> bool {
    let (content, crc) = bytes.split_at(bytes.len() - 4);
    crc32fast::hash(content).to_le_bytes() == *crc
}

/// The header of a stream whose content has this check.
pub fn stream_header(check: u8) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..6].copy_from_slice(&MAGIC);
    header[7] = check;
    let crc = crc32fast::hash(&header[6..8]);
    header[8..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// What comes after the last block: the index and the footer.
pub fn tail(records: &[Record], check: u8) -> Vec<u8> {
    let mut tail = vec![0];
    put_number(records.len() as u64, &mut tail);
    for record in records {
        put_number(record.unpadded, &mut tail);
        put_number(record.content, &mut tail);
    }
    tail.resize(tail.len().next_multiple_of(4), 0);
    put_crc(&mut tail, 0);
    // In units of four bytes, less one.
    let index = u32::try_from(tail.len() / 4 - 1).unwrap_or(u32::MAX);
    let mut footer = index.to_le_bytes().to_vec();
    footer.extend_from_slice(&[0, check]);
    tail.extend_from_slice(&crc32fast::hash(&footer).to_le_bytes());
    tail.extend_from_slice(&footer);
    tail.extend_from_slice(&END_MAGIC);
    tail
}

/// Makes a block; answers its size without the padding. None: the encoder failed, or was told to stop.
pub fn block(
    level: u32,
    content: &[u8],
    (scratch, framed): (&mut Vec<u8>, &mut Vec<u8>),
    goes_on: &dyn Fn() -> bool,
) -> Option<u64> {
    let mut options = LzmaOptions::new_preset(level).ok()?;
    // It can't look back beyond the beginning.
    let window = content.len().next_power_of_two().clamp(4096, window(level));
    options.dict_size(u32::try_from(window).ok()?);
    let mut filters = Filters::new();
    filters.lzma2(&options);
    let mut encoder = Lzma::new_stream_encoder(&filters, Check::Crc64).ok()?;
    scratch.clear();
    let mut pieces = content.chunks(PIECE_BYTES).peekable();
    while let Some(piece) = pieces.next() {
        if !goes_on() {
            return None;
        }
        let last = pieces.peek().is_none();
        let (action, begun) = (if last { Action::Finish } else { Action::Run }, encoder.total_in());
        loop {
            scratch.reserve(4096);
            let read = usize::try_from(encoder.total_in() - begun).ok()?;
            let status = encoder.process_vec(&piece[read..], scratch, action).ok()?;
            let all = encoder.total_in() - begun == piece.len() as u64;
            if status == Status::StreamEnd || (all && !last) {
                break;
            }
        }
    }
    // A stream of one block: its header is written anew, with both sizes.
    let header = (usize::from(*scratch.get(HEADER)?) + 1) * 4;
    let index = footer_index(scratch)?;
    let mut record = scratch.get(scratch.len() - FOOTER - index..)?.get(2..)?;
    let compressed = take_number(&mut record)?.checked_sub(header as u64 + 8)?;
    let body = scratch.get(HEADER + header..scratch.len() - FOOTER - index)?;
    framed.extend_from_slice(&[0, 0xc0]);
    put_number(compressed, framed);
    put_number(content.len() as u64, framed);
    framed.extend_from_slice(scratch.get(HEADER + 2..HEADER + 5)?);
    framed.resize(framed.len().next_multiple_of(4), 0);
    framed[0] = u8::try_from(framed.len() / 4).ok()?;
    put_crc(framed, 0);
    let unpadded = framed.len() as u64 + compressed + 8;
    framed.extend_from_slice(body);
    (framed.len() as u64 == unpadded.next_multiple_of(4)).then_some(unpadded)
}

/// Bytes of the index, as the footer of a stream says.
fn footer_index(stream: &[u8]) -> Option<usize> {
    let footer = stream.get(stream.len().checked_sub(FOOTER)?..)?;
    let units = u32::from_le_bytes(footer.get(4..8)?.try_into().ok()?);
    Some((units as usize + 1) * 4)
}

/// What a block's header says.
struct Header {
    length: usize,
    /// Bytes compressed and of content, where it says so and its decoder needs no more memory than it may.
    sizes: Option<(u64, u64)>,
}

/// Reads the header of a block; none where it is not there whole.
fn read_header(input: &[u8]) -> Result<Option<Header>, &'static str> {
    let Some(first) = input.first() else { return Ok(None) };
    let length = (usize::from(*first) + 1) * 4;
    let Some(header) = input.get(..length) else {
        return Ok(None);
    };
    if !has_crc(header) {
        return Err(BAD_HEADER);
    }
    let flags = header[1];
    if flags & 0x3c != 0 {
        return Err("a block has flags that are not known");
    }
    let mut rest = &header[2..length - 4];
    let mut size = |there: bool| {
        if there {
            take_number(&mut rest).map(Some).ok_or(BAD_HEADER)
        } else {
            Ok(None)
        }
    };
    let (compressed, content) = (size(flags & 0x40 != 0)?, size(flags & 0x80 != 0)?);
    let mut window = 0;
    for _ in 0..=flags & 3 {
        let filter = take_number(&mut rest).zip(take_number(&mut rest));
        let (kind, length) = filter.ok_or(BAD_HEADER)?;
        let (properties, other) = usize::try_from(length)
            .ok()
            .and_then(|length| rest.split_at_checked(length))
            .ok_or(BAD_HEADER)?;
        if let (LZMA2, [bits]) = (kind, properties) {
            window = u64::from(2 | bits & 1) << (u32::from(*bits / 2).min(20) + 11);
        }
        rest = other;
    }
    Ok(Some(Header {
        length,
        sizes: compressed.zip(content).filter(|_| window <= MOST_WINDOW),
    }))
}

/// What the index is to say of a block that begins so, in a stream with this check. None: it is none, or does not say it.
pub fn record(head: &[u8], check: u8) -> Option<Record> {
    let header = read_header(head).ok()??;
    let (compressed, content) = header.sizes?;
    let unpadded = compressed.checked_add(header.length as u64 + check_bytes(check)?)?;
    Some(Record { unpadded, content })
}

/// Bytes of a check by its number.
fn check_bytes(check: u8) -> Option<u64> {
    match check {
        0 => Some(0),
        1 => Some(4),
        CRC64 => Some(8),
        10 => Some(32),
        _ => None,
    }
}

/// The streams of an archive.
#[derive(Default)]
pub struct Streams {
    /// There was one, or a long one was begun.
    any: bool,
    /// The check of the stream whose blocks come now.
    check: Option<u8>,
    records: Vec<Record>,
    /// Padding so far, of which there are multiples of four.
    padding: usize,
}

impl Streams {
    /// The piece that begins with `input`; an error with where in it.
    pub fn next(&mut self, input: &[u8], last: bool, most: usize) -> Result<Piece, (usize, &'static str)> {
        let more = |wanted: usize| {
            if last {
                Err((input.len(), CUT_SHORT))
            } else {
                Ok(Piece::More(wanted))
            }
        };
        let Some(check) = self.check else {
            return self.between(input, last, most);
        };
        let Some(first) = input.first() else { return more(1) };
        if *first == 0 {
            let tail = tail(&self.records, check);
            if let Some(at) = input.iter().zip(&tail).position(|(is, should)| is != should) {
                return Err((at, "the index is not that of the blocks"));
            }
            if input.len() < tail.len() {
                return more(tail.len());
            }
            self.records.clear();
            self.check = None;
            return Ok(Piece::Skip(tail.len()));
        }
        let header = match read_header(input) {
            Ok(Some(header)) => header,
            Ok(None) => return more(MOST_IN_HEADER),
            Err(what) => return Err((0, what)),
        };
        let Some((compressed, content)) = header.sizes else {
            return Err((
                0,
                "only some of its blocks say how long they are, which can't be read here",
            ));
        };
        let checked = check_bytes(check).ok_or((0, BAD_STREAM))?;
        let unpadded = compressed.saturating_add(header.length as u64 + checked);
        let sizes = usize::try_from(unpadded.next_multiple_of(4))
            .ok()
            .zip(usize::try_from(content).ok());
        let Some((archive, content)) = sizes.filter(|(archive, content)| (*archive).max(*content) <= most) else {
            return Err((0, "a block is larger than those before it"));
        };
        if input.len() < archive {
            return more(archive);
        }
        self.records.push(Record {
            unpadded,
            content: content as u64,
        });
        Ok(Piece::Unit(Unit {
            archive,
            content,
            check,
        }))
    }

    /// Before a stream, or at the end.
    fn between(&mut self, input: &[u8], last: bool, most: usize) -> Result<Piece, (usize, &'static str)> {
        if input.is_empty() {
            return match last {
                false => Ok(Piece::More(1)),
                true if !self.any => Err((0, CUT_SHORT)),
                true if self.padding.is_multiple_of(4) => Ok(Piece::End),
                true => Err((0, "the zeros at its end are not so many as they may be")),
            };
        }
        if self.any && input[0] == 0 {
            let zeros = input.iter().position(|byte| *byte != 0).unwrap_or(input.len());
            self.padding += zeros;
            return Ok(Piece::Skip(zeros));
        }
        let magic = input.len().min(MAGIC.len());
        if input[..magic] != MAGIC[..magic] || !self.padding.is_multiple_of(4) {
            return Err((0, if self.any { GARBAGE } else { "it is no stream of xz" }));
        }
        let enough = HEADER + MOST_IN_HEADER;
        if input.len() < enough && !last {
            return Ok(Piece::More(enough));
        }
        let Some(header) = input.get(..HEADER) else {
            return Err((input.len(), CUT_SHORT));
        };
        let check = header[7];
        if header[6] != 0 || stream_header(check) != *header {
            return Err((6, BAD_STREAM));
        }
        if check_bytes(check).is_none() {
            return Err((7, "its content has a check that is not known"));
        }
        self.any = true;
        self.padding = 0;
        let fits = match input.get(HEADER) {
            // No block, or nothing: then that is told of next.
            Some(0) | None => true,
            Some(_) => match read_header(&input[HEADER..]) {
                Ok(Some(Header {
                    sizes: Some((compressed, content)),
                    ..
                })) => compressed.max(content).saturating_add(MOST_IN_HEADER as u64) <= most as u64,
                Ok(Some(_)) => false,
                Ok(None) => return Err((input.len(), CUT_SHORT)),
                Err(what) => return Err((HEADER, what)),
            },
        };
        if !fits {
            return Ok(Piece::Long(Format::Xz));
        }
        self.check = Some(check);
        Ok(Piece::Skip(HEADER))
    }
}

/// What is in a block. liblzma made it, if it is ours: lzma-rust2 proves it. What has several filters is none of ours, and
/// lzma-rust2 can't read all of that.
pub fn unit(check: u8, block: &[u8], content: &mut [u8], proof: bool) -> Result<(), &'static str> {
    let filters = block.get(1).map_or(0, |flags| flags & 3) + 1;
    let mut decoder = if proof && filters == 1 {
        Blocks::Other(Box::new(XzStream::new(false)))
    } else {
        // The block has its own limit, which is what it is.
        Blocks::Lzma(Lzma::new_stream_decoder(u64::MAX, 0).map_err(|_| BAD)?)
    };
    // As if it were a stream of its own, which ends before its index.
    decoder.feed(&stream_header(check), &mut [])?;
    let (mut read, mut written) = (0, 0);
    while read < block.len() {
        // Some filters want to write before they see their end: what comes beyond the content is none.
        let mut beyond = [0];
        let full = written == content.len();
        let room = if full { &mut beyond[..] } else { &mut content[written..] };
        let (took, gave) = decoder.feed(&block[read..], room)?;
        if (full && gave > 0) || (took, gave) == (0, 0) {
            return Err(BAD);
        }
        read += took;
        written += gave;
    }
    if written == content.len() { Ok(()) } else { Err(BAD) }
}

enum Blocks {
    Lzma(Lzma),
    Other(Box<XzStream>),
}

impl Blocks {
    fn feed(&mut self, input: &[u8], out: &mut [u8]) -> Result<(usize, usize), &'static str> {
        match self {
            Self::Lzma(stream) => {
                let (read, written) = (stream.total_in(), stream.total_out());
                match stream.process(input, out, Action::Run) {
                    Ok(Status::Ok | Status::MemNeeded) => {}
                    Ok(_) | Err(_) => return Err(BAD),
                }
                let moved = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
                Ok((moved(stream.total_in(), read), moved(stream.total_out(), written)))
            }
            Self::Other(stream) => {
                let result = stream.process(input, out, OtherAction::Run).map_err(|_| BAD)?;
                match result.status {
                    OtherStatus::Ok => Ok((result.bytes_consumed, result.bytes_produced)),
                    OtherStatus::StreamEnd => Err(BAD),
                }
            }
        }
    }
}

/// A stream of any length.
pub struct Stream(Lzma);

impl Stream {
    pub fn new(memory: u64) -> Result<Self, &'static str> {
        Lzma::new_stream_decoder(memory, 0).map(Self).map_err(|_| TOO_LARGE)
    }

    /// Reads on; an error with where in `input`.
    pub fn step(&mut self, input: &[u8], last: bool, out: &mut [u8]) -> Result<Step, (usize, &'static str)> {
        let (read, written) = (self.0.total_in(), self.0.total_out());
        let status = self.0.process(input, out, Action::Run);
        let moved = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
        let step = Step {
            read: moved(self.0.total_in(), read),
            written: moved(self.0.total_out(), written),
            ended: status == Ok(Status::StreamEnd),
        };
        match status {
            Ok(Status::Ok | Status::MemNeeded) if last && step.read == input.len() && step.written < out.len() => {
                Err((input.len(), CUT_SHORT))
            }
            Ok(_) => Ok(step),
            Err(Error::MemLimit) => Err((step.read, TOO_LARGE)),
            Err(_) => Err((step.read, BAD)),
        }
    }
}
