//! Archives of one file's bytes: gzip as BGZF or as one member, xz, and zstd.
//!
//! Comes in: content, block by block, or the bytes of an archive; goes out: framed blocks ([`Encoder`], [`Frame`]), or pieces
//! of an archive ([`Scanner`]) and what is in them ([`Decoder`], [`Long`]). Promises: the same content, format and level make
//! the same bytes, whoever makes the blocks and in whatever order; no time and no name is in them. Whatever is not whole to
//! the last byte is [`Damage`], with its offset: a short archive never looks whole. Proof comes from another implementation
//! than the one that made an archive.

mod block;
mod gzip;
mod kind;
pub mod names;
mod pieces;
mod xz;
mod zstd;

use std::ops::RangeInclusive;

pub use block::{Block, Encoder, End, Frame, PIECE_HEAD, SoFar};
pub use gzip::{Gzi, MEMBER_HEAD, member_bytes};
pub use kind::{HEAD_BYTES, Kind, recognise};
pub use pieces::{Decoder, Long, Piece, Scanner, Step, Unit};

/// How an archive is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// gzip in many small members, as the specification of SAM has it: every reader of gzip takes it, and it can be read in
    /// parallel and from the middle.
    Bgzf,
    /// gzip in one member, for readers that stop after the first.
    Gzip,
    /// xz in several blocks.
    Xz,
    /// zstd in several frames.
    Zstd,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Bgzf, Self::Gzip, Self::Xz, Self::Zstd];

    /// As options name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bgzf => "bgzf",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }

    /// The one of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// What the names of its files end with.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Bgzf | Self::Gzip => ".gz",
            Self::Xz => ".xz",
            Self::Zstd => ".zst",
        }
    }

    /// From the fastest level to the smallest result.
    pub fn levels(self) -> RangeInclusive<u32> {
        match self {
            Self::Bgzf | Self::Gzip => 1..=12,
            Self::Xz => 0..=9,
            Self::Zstd => 1..=19,
        }
    }

    /// The level where none is asked for: that of the format's own tool.
    pub fn default_level(self) -> u32 {
        match self {
            Self::Bgzf | Self::Gzip | Self::Xz => 6,
            Self::Zstd => 3,
        }
    }
}

/// A level that a format does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("level {level} is not one of {}: {} to {}", .format.name(), .format.levels().start(), .format.levels().end())]
pub struct LevelError {
    /// The format.
    pub format: Format,
    /// What was asked for.
    pub level: u32,
}

/// A format and one of its levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Codec {
    format: Format,
    level: u32,
}

impl Codec {
    /// Refuses a level that the format does not have. Those of gzip beyond 9 are 9: its encoder goes no further, that of BGZF
    /// does.
    pub fn new(format: Format, level: Option<u32>) -> Result<Self, LevelError> {
        let level = level.unwrap_or(format.default_level());
        if format.levels().contains(&level) {
            Ok(Self { format, level })
        } else {
            Err(LevelError { format, level })
        }
    }

    /// The format.
    pub fn format(self) -> Format {
        self.format
    }

    /// The level.
    pub fn level(self) -> u32 {
        self.level
    }

    /// Bytes of content that make one block: what one worker packs at a time. The last block may be shorter.
    pub fn block_bytes(self) -> usize {
        match self.format {
            Format::Bgzf | Format::Gzip => gzip::BLOCK_BYTES,
            Format::Xz => xz::block_bytes(self.level),
            Format::Zstd => zstd::block_bytes(self.level),
        }
    }

    /// Bytes of content before a block that its encoder is to see.
    pub fn primed_bytes(self) -> usize {
        match self.format {
            Format::Gzip => gzip::WINDOW_BYTES,
            Format::Bgzf | Format::Xz | Format::Zstd => 0,
        }
    }

    /// A number that no other codec has.
    pub fn number(self) -> u32 {
        let format = match self.format {
            Format::Bgzf => 1,
            Format::Gzip => 2,
            Format::Xz => 3,
            Format::Zstd => 4,
        };
        format << 8 | self.level
    }

    /// Bytes that an archive of so much content may have at most: what can't be compressed is stored, in pieces with a head
    /// of some bytes for each 64 KiB or more.
    pub fn most_bytes(self, content: u64) -> u64 {
        content.saturating_add(content / 256).saturating_add(64 * 1024)
    }

    /// Bytes of memory that one worker needs, with its block and what becomes of it.
    pub fn memory(self) -> u64 {
        let encoder = match self.format {
            // libdeflate takes most at the levels that look for the best way (10 and more), zlib-rs always the same.
            Format::Bgzf | Format::Gzip => 10 << 20,
            Format::Xz => xz::encoder_bytes(self.level),
            Format::Zstd => zstd::encoder_bytes(self.level),
        };
        // Content, its archive, and one more archive that waits for its turn.
        encoder + 3 * self.block_bytes() as u64
    }
}

/// Why there is no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncoderError {
    /// There is no memory for the encoder, or it has a defect.
    #[error("the encoder of {} failed", .0.name())]
    Failed(Format),
    /// Nobody wants it any more.
    #[error("it was told to stop")]
    Stopped,
}

/// An archive is not whole, or not what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}, at byte {offset}")]
pub struct Damage {
    /// Where in the archive: the byte itself, or where the piece begins that it is in.
    pub offset: u64,
    /// In which way.
    pub what: &'static str,
}

/// What an archive can need that is not to be had here, be it whole or not.
const TOO_LARGE: &str = "it needs more memory than there may be";
const NEEDS_DICTIONARY: &str = "it needs a dictionary, which can't be given here";

impl Damage {
    /// Nothing says that the archive is not whole: what it needs to be read is missing.
    pub fn may_be_whole(&self) -> bool {
        [TOO_LARGE, NEEDS_DICTIONARY].contains(&self.what)
    }
}
