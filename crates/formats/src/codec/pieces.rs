//! An archive into its pieces, and those into content.
//!
//! Comes in: the bytes of an archive in their order; goes out: where the pieces are that can be decoded each by itself, by
//! whoever has a [`Decoder`], where something of any length begins, which one [`Long`] decodes from front to back, and what
//! carries no content. Whatever holds an archive together is checked here: that it ends where it says, that nothing is
//! missing between, and that nothing follows.

use ruzstd::decoding::FrameDecoder;
use zlib_rs::Inflate;
use zstd_safe::DCtx;

use super::{Damage, Format, gzip, xz, zstd};

/// The next piece of an archive, from the front of what was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// So many bytes carry no content.
    Skip(usize),
    /// Something that can be decoded by itself.
    Unit(Unit),
    /// Something of any length begins here, of this format.
    Long(Format),
    /// So many bytes are needed to tell, with those that are there.
    More(usize),
    /// The archive ends here, and is whole.
    End,
}

/// Something that can be decoded by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its bytes in the archive.
    pub archive: usize,
    /// Bytes of its content.
    pub content: usize,
    /// How the content is checked, in xz.
    pub(super) check: u8,
}

/// What one step has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the archive.
    pub read: usize,
    /// Bytes of content.
    pub written: usize,
    /// That was the end of it.
    pub ended: bool,
}

/// Finds the pieces of one archive.
pub struct Scanner {
    kind: Kind,
    /// Where in the archive the next piece begins.
    at: u64,
    /// Bytes of content before it.
    content: u64,
    /// What is larger, on either side, is decoded from front to back.
    most: usize,
}

enum Kind {
    Gzip(gzip::Members),
    Xz(xz::Streams),
    Zstd(zstd::Frames),
}

impl Scanner {
    /// Of an archive of this format. `most`: bytes that a unit may have, on either side.
    pub fn new(format: Format, most: usize) -> Self {
        let kind = match format {
            Format::Bgzf | Format::Gzip => Kind::Gzip(gzip::Members::default()),
            Format::Xz => Kind::Xz(xz::Streams::default()),
            Format::Zstd => Kind::Zstd(zstd::Frames::default()),
        };
        Self {
            kind,
            at: 0,
            content: 0,
            most,
        }
    }

    /// Where in the archive the next piece begins.
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// Bytes of content before the next piece.
    pub fn content(&self) -> u64 {
        self.content
    }

    /// The piece that begins with `input`, which is passed over then, but for a long one: [`Scanner::passed`] tells of that.
    /// `last`: `input` reaches to the end of the archive.
    pub fn next(&mut self, input: &[u8], last: bool) -> Result<Piece, Damage> {
        let piece = match &mut self.kind {
            Kind::Gzip(members) => members.next(input, last),
            Kind::Xz(streams) => streams.next(input, last, self.most),
            Kind::Zstd(frames) => frames.next(input, last, (self.at, self.content), self.most),
        };
        let piece = piece.map_err(|(at, what)| self.damage(at as u64, what))?;
        match &piece {
            Piece::Skip(bytes) => self.at += *bytes as u64,
            Piece::Unit(unit) => self.passed(unit.archive as u64, unit.content as u64),
            Piece::Long(_) | Piece::More(_) | Piece::End => {}
        }
        Ok(piece)
    }

    /// So much of a long piece was read, and so much was in it.
    pub fn passed(&mut self, archive: u64, content: u64) {
        self.at += archive;
        self.content += content;
    }

    fn damage(&self, after: u64, what: &'static str) -> Damage {
        Damage {
            offset: self.at + after,
            what,
        }
    }
}

/// Decodes units, one at a time.
#[derive(Default)]
pub struct Decoder {
    inflate: Option<Inflate>,
    zstd: Option<DCtx<'static>>,
    ruzstd: Option<FrameDecoder>,
}

impl Decoder {
    /// Decodes a unit into `content`, which has its size. `proof`: by another implementation than that which makes such.
    pub fn unit(
        &mut self,
        format: Format,
        unit: &Unit,
        archive: &[u8],
        content: &mut [u8],
        proof: bool,
    ) -> Result<(), &'static str> {
        match format {
            Format::Bgzf | Format::Gzip => gzip::member(&mut self.inflate, archive, content),
            Format::Xz => xz::unit(unit.check, archive, content, proof),
            Format::Zstd if proof => zstd::prove(self.ruzstd.get_or_insert_default(), archive, content),
            Format::Zstd => zstd::unit(self.zstd.get_or_insert_with(DCtx::create), archive, content),
        }
    }
}

/// Decodes something of any length, from front to back.
pub struct Long(Inner);

enum Inner {
    Gzip(gzip::Member),
    Xz(xz::Stream),
    Zstd(zstd::Stream),
}

impl Long {
    /// What begins with a long piece. `memory`: bytes that it may need.
    pub fn new(format: Format, proof: bool, memory: u64) -> Result<Self, &'static str> {
        Ok(Self(match format {
            Format::Bgzf | Format::Gzip => Inner::Gzip(gzip::Member::new(proof)),
            Format::Xz => Inner::Xz(xz::Stream::new(memory)?),
            Format::Zstd => Inner::Zstd(zstd::Stream::new(memory)?),
        }))
    }

    /// Reads on into `out`, which is not empty. Where nothing was read or written and it has not ended, it wants more of the
    /// archive. `last`: `input` reaches to the archive's end. An error with where in `input`.
    pub fn step(&mut self, input: &[u8], last: bool, out: &mut [u8]) -> Result<Step, (usize, &'static str)> {
        match &mut self.0 {
            Inner::Gzip(member) => member.step(input, last, out),
            Inner::Xz(stream) => stream.step(input, last, out),
            Inner::Zstd(stream) => stream.step(input, last, out),
        }
    }
}
