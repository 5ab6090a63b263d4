//! What a file is, by its first bytes.
//!
//! Comes in: the first bytes of a file; goes out: the archive that it is, or what else is compressed already. Sources: the
//! specification of each format, and the magic numbers of `file(1)`.

use super::{Format, gzip, xz, zstd};

/// Bytes of a file that tell what it is.
pub const HEAD_BYTES: usize = 512;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An archive that can be read here.
    Archive(Format),
    /// An archive that can't, by the name of its format.
    Foreign(&'static str),
    /// Content that is compressed in itself.
    Compressed(&'static str),
}

/// Where some bytes are that tell a kind, and which.
type Sign = (usize, &'static [u8], Kind);

const SIGNS: [Sign; 31] = [
    (0, b"BZh", Kind::Foreign("bzip2")),
    (0, b"\x1f\x9d", Kind::Foreign("compress (.Z)")),
    (0, b"\x1f\xa0", Kind::Foreign("compress (.Z)")),
    (0, b"\x1f\x1e", Kind::Foreign("pack (.z)")),
    (0, b"\x04\x22\x4d\x18", Kind::Foreign("lz4")),
    (0, b"\x02\x21\x4c\x18", Kind::Foreign("lz4 (legacy)")),
    (0, b"LZIP", Kind::Foreign("lzip")),
    (0, b"\x89LZO\0\r\n\x1a\n", Kind::Foreign("lzop")),
    (0, b"\x5d\0\0", Kind::Foreign("lzma")),
    (0, b"\xff\x06\0\0sNaPpY", Kind::Foreign("snappy")),
    (0, b"PK\x03\x04", Kind::Foreign("zip")),
    (0, b"PK\x05\x06", Kind::Foreign("zip")),
    (0, b"PK\x07\x08", Kind::Foreign("zip")),
    (0, b"7z\xbc\xaf\x27\x1c", Kind::Foreign("7-Zip")),
    (0, b"Rar!\x1a\x07", Kind::Foreign("RAR")),
    (0, b"\xce\xb2\xcf\x81", Kind::Foreign("brotli")),
    (0, b"CRAM", Kind::Compressed("CRAM")),
    (0, b"NCBI.sra", Kind::Compressed("SRA")),
    (0, b"PAR1", Kind::Compressed("Parquet")),
    (0, b"\x89PNG\r\n\x1a\n", Kind::Compressed("PNG")),
    (0, b"\xff\xd8\xff", Kind::Compressed("JPEG")),
    (0, b"GIF8", Kind::Compressed("GIF")),
    (8, b"WEBP", Kind::Compressed("WebP")),
    (4, b"ftyp", Kind::Compressed("MP4")),
    (0, b"\x1aE\xdf\xa3", Kind::Compressed("Matroska")),
    (0, b"OggS", Kind::Compressed("Ogg")),
    (0, b"fLaC", Kind::Compressed("FLAC")),
    (0, b"ID3", Kind::Compressed("MP3")),
    (0, b"hsqs", Kind::Compressed("SquashFS")),
    (0, b"wOF2", Kind::Compressed("WOFF2")),
    (0, b"MSCF", Kind::Compressed("cabinet")),
];

/// What a file is that begins with these bytes: [`HEAD_BYTES`], or all that it has. None: nothing that is known to be
/// compressed.
pub fn recognise(head: &[u8]) -> Option<Kind> {
    if head.starts_with(&gzip::MAGIC) {
        let format = if gzip::is_bgzf(head) {
            Format::Bgzf
        } else {
            Format::Gzip
        };
        return Some(Kind::Archive(format));
    }
    if head.starts_with(&xz::MAGIC) {
        return Some(Kind::Archive(Format::Xz));
    }
    if zstd::begins(head) {
        return Some(Kind::Archive(Format::Zstd));
    }
    let has = |(at, bytes, _): &&Sign| head.get(*at..).is_some_and(|rest| rest.starts_with(bytes));
    SIGNS.iter().find(has).map(|(.., kind)| *kind)
}
