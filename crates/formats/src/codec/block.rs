//! Content into blocks of an archive, and what holds them together.
//!
//! Comes in: content, in blocks of [`Codec::block_bytes`]; goes out: what stands for each in the archive, made by whoever has
//! an [`Encoder`], and by the one [`Frame`] what goes before, between and after them in their order.

use libdeflater::{CompressionLvl, Compressor};
use zstd_safe::CCtx;

use super::{Codec, EncoderError, Format, Gzi, gzip, xz, zstd};

/// What a worker makes blocks with.
pub struct Encoder {
    codec: Codec,
    engine: Engine,
}

enum Engine {
    /// With room for a member.
    Bgzf(Box<Compressor>, Vec<u8>),
    /// The level.
    Gzip(i32),
    Xz(Vec<u8>),
    Zstd(CCtx<'static>),
}

/// What is to be known of a block that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Bytes of content in it.
    pub content: u64,
    pub(super) detail: Detail,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Sizes of the members that it is made of.
    Bgzf(Vec<u16>),
    /// The CRC-32 of its content.
    Gzip(u32),
    /// Its size without the padding.
    Xz(u64),
    Zstd,
}

impl Encoder {
    /// For this format and level.
    pub fn new(codec: Codec) -> Result<Self, EncoderError> {
        let failed = EncoderError::Failed(codec.format);
        let level = i32::try_from(codec.level).map_err(|_| failed)?;
        let engine = match codec.format {
            Format::Bgzf => {
                let level = CompressionLvl::new(level).map_err(|_| failed)?;
                Engine::Bgzf(Box::new(Compressor::new(level)), Vec::new())
            }
            Format::Gzip => Engine::Gzip(level),
            Format::Xz => Engine::Xz(Vec::new()),
            Format::Zstd => Engine::Zstd(zstd::encoder(level).ok_or(failed)?),
        };
        Ok(Self { codec, engine })
    }

    /// What it makes.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Makes a block of `content`, which is not empty, into `framed`, which is emptied first. `before`: up to
    /// [`Codec::primed_bytes`] of the content before it. `goes_on` is asked meanwhile, where a block takes long.
    pub fn block(
        &mut self,
        (before, content): (&[u8], &[u8]),
        framed: &mut Vec<u8>,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Block, EncoderError> {
        framed.clear();
        let detail = match &mut self.engine {
            Engine::Bgzf(compressor, room) => gzip::members(compressor, room, content, framed).map(Detail::Bgzf),
            Engine::Gzip(level) => gzip::stretch(*level, before, content, framed).map(Detail::Gzip),
            Engine::Xz(scratch) => xz::block(self.codec.level, content, (scratch, framed), goes_on).map(Detail::Xz),
            Engine::Zstd(encoder) => zstd::frame(encoder, content, framed, goes_on).map(|()| Detail::Zstd),
        };
        match detail {
            Some(detail) => Ok(Block {
                content: content.len() as u64,
                detail,
            }),
            None if goes_on() => Err(EncoderError::Failed(self.codec.format)),
            None => Err(EncoderError::Stopped),
        }
    }
}

/// What holds the blocks of one archive together.
pub struct Frame {
    content: u64,
    blocks: u64,
    kind: Kind,
}

enum Kind {
    Bgzf(Option<Gzi>),
    Gzip(u32, crc32fast::Hasher),
    Xz(Vec<xz::Record>),
    /// Whether a mark of the size goes before the frames.
    Zstd(bool),
}

/// What is to be known of blocks to go on after them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoFar {
    /// Bytes of content in them.
    pub content: u64,
    /// How many they are.
    pub blocks: u64,
    /// The CRC-32 of their content, where the format wants it.
    pub crc: u32,
}

/// Bytes that are enough to know how long a piece of an archive is.
pub const PIECE_HEAD: usize = xz::MOST_IN_HEADER;

/// What ends an archive.
pub struct End {
    /// What comes after the last block.
    pub tail: Vec<u8>,
    /// What stands at the archive's beginning from now on, over what was there.
    pub head: Option<Vec<u8>>,
    /// Where its members begin, where that was asked for.
    pub index: Option<Gzi>,
}

impl Frame {
    /// Of an archive of content that is thought to have `size` bytes. `index`: of BGZF, where its members begin.
    pub fn new(codec: Codec, size: u64, index: bool) -> Self {
        let kind = match codec.format {
            Format::Bgzf => Kind::Bgzf(index.then(Gzi::default)),
            Format::Gzip => Kind::Gzip(codec.level, crc32fast::Hasher::new()),
            Format::Xz => Kind::Xz(Vec::new()),
            Format::Zstd => Kind::Zstd(size > codec.block_bytes() as u64),
        };
        Self {
            content: 0,
            blocks: 0,
            kind,
        }
    }

    /// Goes on after blocks that others have made: of an archive of content that is thought to have `size` bytes.
    /// [`Frame::pass`] has to see the heads of what it has [to know](Frame::wants_heads) more of.
    pub fn after(codec: Codec, size: u64, index: bool, so_far: SoFar) -> Self {
        let mut frame = Self::new(codec, size, index);
        (frame.content, frame.blocks) = (so_far.content, so_far.blocks);
        if let Kind::Gzip(_, sum) = &mut frame.kind {
            *sum = crc32fast::Hasher::new_with_initial_len(so_far.crc, so_far.content);
        }
        frame
    }

    /// What another one has to know of the blocks so far.
    pub fn so_far(&self) -> SoFar {
        let crc = match &self.kind {
            Kind::Gzip(_, sum) => sum.clone().finalize(),
            Kind::Bgzf(_) | Kind::Xz(_) | Kind::Zstd(_) => 0,
        };
        SoFar {
            content: self.content,
            blocks: self.blocks,
            crc,
        }
    }

    /// Whether it has to see the head of each piece of an archive that others have made.
    pub fn wants_heads(&self) -> bool {
        matches!(self.kind, Kind::Bgzf(Some(_)) | Kind::Xz(_))
    }

    /// The next such piece, by its first [`PIECE_HEAD`] bytes; answers how many it has. None: it is none.
    pub fn pass(&mut self, head: &[u8]) -> Option<u64> {
        match &mut self.kind {
            Kind::Bgzf(Some(index)) => {
                let bytes = gzip::member_bytes(head)?;
                index.add(&[u16::try_from(bytes - 1).ok()?], gzip::MEMBER_BYTES as u64);
                Some(bytes)
            }
            Kind::Xz(records) => {
                let record = xz::record(head, xz::CRC64)?;
                records.push(record);
                Some(record.unpadded.next_multiple_of(4))
            }
            Kind::Bgzf(None) | Kind::Gzip(..) | Kind::Zstd(_) => None,
        }
    }

    /// What comes before the first block.
    pub fn head(&self) -> Vec<u8> {
        match &self.kind {
            Kind::Bgzf(_) | Kind::Zstd(false) => Vec::new(),
            Kind::Gzip(level, _) => gzip::header(*level).to_vec(),
            Kind::Xz(_) => xz::stream_header(xz::CRC64).to_vec(),
            Kind::Zstd(true) => zstd::mark(0, 0),
        }
    }

    /// The next block in their order.
    pub fn add(&mut self, block: &Block) {
        self.content += block.content;
        self.blocks += 1;
        match (&mut self.kind, &block.detail) {
            (Kind::Bgzf(Some(index)), Detail::Bgzf(sizes)) => index.add(sizes, block.content),
            (Kind::Gzip(_, sum), Detail::Gzip(crc)) => {
                sum.combine(&crc32fast::Hasher::new_with_initial_len(*crc, block.content));
            }
            (Kind::Xz(records), Detail::Xz(unpadded)) => records.push(xz::Record {
                unpadded: *unpadded,
                content: block.content,
            }),
            _ => {}
        }
    }

    /// After the last block.
    pub fn end(self) -> End {
        let mut end = End {
            tail: Vec::new(),
            head: None,
            index: None,
        };
        match self.kind {
            Kind::Bgzf(index) => {
                end.tail.extend_from_slice(&gzip::END_OF_BGZF);
                end.index = index;
            }
            Kind::Gzip(_, sum) => end.tail = gzip::trailer(sum.finalize(), self.content),
            Kind::Xz(records) => end.tail = xz::tail(&records, xz::CRC64),
            Kind::Zstd(marked) => {
                if self.blocks == 0 {
                    end.tail.extend_from_slice(&zstd::EMPTY);
                }
                end.head = marked.then(|| zstd::mark(self.blocks, self.content));
            }
        }
        end
    }
}
