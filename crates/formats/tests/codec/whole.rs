//! Whole archives in memory, by one worker.

use bulkhaul_formats::codec::{
    Codec, Damage, Decoder, Encoder, Format, Frame, Gzi, Kind, Long, Piece, Scanner, recognise,
};

/// Units are this large at most.
pub const MOST: usize = 64 << 20;

/// Packs with blocks as they are made, and answers where members begin.
pub fn packed(codec: Codec, content: &[u8]) -> (Vec<u8>, Option<Gzi>) {
    let mut encoder = Encoder::new(codec).unwrap();
    let mut frame = Frame::new(codec, content.len() as u64, true);
    let (mut archive, mut framed) = (frame.head(), Vec::new());
    let mut at = 0;
    for block in content.chunks(codec.block_bytes()) {
        let before = at - at.min(codec.primed_bytes());
        let made = encoder
            .block((&content[before..at], block), &mut framed, &|| true)
            .unwrap();
        frame.add(&made);
        archive.extend_from_slice(&framed);
        at += block.len();
    }
    let end = frame.end();
    archive.extend_from_slice(&end.tail);
    if let Some(head) = end.head {
        archive[..head.len()].copy_from_slice(&head);
    }
    (archive, end.index)
}

/// Packs.
pub fn pack(codec: Codec, content: &[u8]) -> Vec<u8> {
    packed(codec, content).0
}

/// How to unpack.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Bytes that are given at once at first.
    pub window: usize,
    /// Units are this large at most.
    pub most: usize,
    pub proof: bool,
}

/// All at once, by the usual decoders.
pub const USUAL: How = How {
    window: usize::MAX,
    most: MOST,
    proof: false,
};

/// The same by those that prove.
pub const PROOF: How = How { proof: true, ..USUAL };

/// Unpacks; the window grows only where more is asked for.
pub fn unpack(archive: &[u8], how: How) -> Result<Vec<u8>, Damage> {
    let damage = |offset: usize, what| Damage {
        offset: offset as u64,
        what,
    };
    let Some(Kind::Archive(format)) = recognise(&archive[..archive.len().min(512)]) else {
        return Err(damage(0, "no archive"));
    };
    unpack_as(format, archive, how)
}

/// The same of an archive that is known to be one.
pub fn unpack_as(format: Format, archive: &[u8], how: How) -> Result<Vec<u8>, Damage> {
    let mut scanner = Scanner::new(format, how.most);
    let mut decoder = Decoder::default();
    let (mut content, mut at, mut window) = (Vec::new(), 0_usize, how.window);
    loop {
        assert_eq!(scanner.offset(), at as u64);
        assert_eq!(scanner.content(), content.len() as u64);
        let end = at.saturating_add(window).min(archive.len());
        let last = end == archive.len();
        match scanner.next(&archive[at..end], last)? {
            Piece::Skip(bytes) => at += bytes,
            Piece::Unit(unit) => {
                let from = content.len();
                content.resize(from + unit.content, 0);
                let own = &archive[at..at + unit.archive];
                let result = decoder.unit(format, &unit, own, &mut content[from..], how.proof);
                result.map_err(|what| Damage {
                    offset: at as u64,
                    what,
                })?;
                at += unit.archive;
                window = how.window;
            }
            Piece::More(bytes) => {
                assert!(!last && bytes > end - at, "{bytes} of {}", end - at);
                window = bytes;
            }
            Piece::Long(format) => {
                let mut long = Long::new(format, how.proof, MOST as u64).unwrap();
                let mut out = vec![0; 1000.max(how.window.min(1 << 20))];
                loop {
                    let end = at.saturating_add(window.max(64 << 10)).min(archive.len());
                    let last = end == archive.len();
                    let step = long.step(&archive[at..end], last, &mut out);
                    let step = step.map_err(|(after, what)| Damage {
                        offset: (at + after) as u64,
                        what,
                    })?;
                    scanner.passed(step.read as u64, step.written as u64);
                    at += step.read;
                    content.extend_from_slice(&out[..step.written]);
                    if step.ended {
                        break;
                    }
                    assert!(
                        (step.read, step.written) != (0, 0) || !last,
                        "nothing moves at {at} of {}",
                        archive.len()
                    );
                }
            }
            Piece::End => return Ok(content),
        }
    }
}

/// Content that is neither easy nor hard to compress, the same on every run.
pub fn text(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::with_capacity(length + 32);
    while bytes.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let (chromosome, position, quality) = (state >> 59, state >> 40 & 0xf_ffff, state >> 33 & 0x3f);
        bytes.extend_from_slice(format!("chr{chromosome}\t{position}\tPASS\t{quality}\n").as_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Content that can't be compressed.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}
