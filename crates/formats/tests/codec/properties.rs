//! What goes in comes out, whatever the format, the level and the size.

use std::cell::Cell;

use bulkhaul_formats::codec::{Codec, Encoder, EncoderError, Format, HEAD_BYTES, Kind, Piece, Scanner, recognise};
use proptest::prelude::*;

use crate::whole::{How, PROOF, USUAL, noise, pack, text, unpack};

fn codec(format: Format, level: u32) -> Codec {
    Codec::new(format, Some(level)).unwrap()
}

fn there_and_back(codec: Codec, content: &[u8]) {
    let archive = pack(codec, content);
    let head = &archive[..archive.len().min(HEAD_BYTES)];
    assert_eq!(recognise(head), Some(Kind::Archive(codec.format())), "{codec:?}");
    for how in [USUAL, PROOF] {
        let back = unpack(&archive, how).unwrap_or_else(|damage| panic!("{codec:?} {}: {damage}", content.len()));
        assert!(back == content, "{codec:?} {}", content.len());
    }
    assert_eq!(pack(codec, content), archive, "{codec:?}: the same bytes again");
}

#[test]
fn every_level_of_every_format() {
    let contents = [text(70_000), noise(70_000), vec![0; 70_000]];
    for format in Format::ALL {
        for level in format.levels() {
            for content in &contents {
                there_and_back(codec(format, level), content);
            }
        }
    }
}

#[test]
fn sizes_around_members_and_blocks() {
    for (format, level) in [(Format::Bgzf, 1), (Format::Gzip, 1), (Format::Xz, 0), (Format::Zstd, 1)] {
        let codec = codec(format, level);
        let block = codec.block_bytes();
        let content = text(block + 40_000);
        for size in [0, 1, 2, 65279, 65280, 65281, 65535, 65536, 65537] {
            there_and_back(codec, &content[..size]);
        }
        for size in [block - 1, block, block + 1, block + 40_000] {
            there_and_back(codec, &content[..size]);
        }
    }
}

/// A block that sees what is before it is smaller: what it repeats is there.
#[test]
fn one_member_is_primed_with_what_is_before() {
    let half = noise(16 * 1024);
    let codec = codec(Format::Gzip, 6);
    let block = codec.block_bytes();
    let content: Vec<u8> = half.iter().copied().cycle().take(block + half.len()).collect();
    let (one, both) = (pack(codec, &content[..block]), pack(codec, &content));
    assert!(both.len() - one.len() < 1024, "{} and {}", one.len(), both.len());
}

/// Whoever makes a block, the same comes out: nothing of what an encoder made before is in it.
#[test]
fn a_block_does_not_depend_on_what_its_encoder_made_before() {
    for format in Format::ALL {
        for level in format.levels() {
            let codec = codec(format, level);
            // What comes again begins as what is before ends, and goes on with what the other content has at that place.
            let primed = codec.primed_bytes();
            let before = [noise(primed).as_slice(), b"abcdefgh", &noise(300), b"abc"].concat();
            let before = &before[before.len() - primed..];
            let content = [noise(200).as_slice(), b"abcdefgh", &text(5000)].concat();
            let block = |encoder: &mut Encoder| {
                let mut framed = Vec::new();
                encoder.block((before, &content), &mut framed, &|| true).unwrap();
                framed
            };
            let mut used = Encoder::new(codec).unwrap();
            used.block((&[], &vec![b'd'; 40_000]), &mut Vec::new(), &|| true)
                .unwrap();
            let fresh = block(&mut Encoder::new(codec).unwrap());
            assert!(block(&mut used) == fresh, "{codec:?}");
        }
    }
}

/// No encoder goes on for long that nobody waits for, and it is as good as new then.
#[test]
fn a_long_block_is_given_up() {
    let content = text(3 << 20);
    for format in [Format::Xz, Format::Zstd] {
        let codec = codec(format, *format.levels().start());
        let mut encoder = Encoder::new(codec).unwrap();
        let (mut framed, mut again) = (Vec::new(), Vec::new());
        let asked = Cell::new(0);
        let goes_on = || asked.replace(asked.get() + 1) < 1;
        let block = encoder.block((&[], &content), &mut framed, &goes_on);
        assert_eq!(block, Err(EncoderError::Stopped), "{format:?}");
        let block = encoder.block((&[], &content[..1000]), &mut framed, &|| true);
        let fresh = Encoder::new(codec)
            .unwrap()
            .block((&[], &content[..1000]), &mut again, &|| true);
        assert!((block, framed) == (fresh, again), "{format:?}");
    }
}

/// All but one member is decoded block by block, by whoever is free.
#[test]
fn archives_of_ours_are_cut_into_units() {
    let content = text(100_000);
    for format in Format::ALL {
        let archive = pack(codec(format, *format.levels().start()), &content);
        let mut scanner = Scanner::new(format, 1 << 20);
        let (mut at, mut units) = (0, 0);
        loop {
            match scanner.next(&archive[at..], true).unwrap() {
                Piece::Skip(bytes) => at += bytes,
                Piece::Unit(unit) => (at, units) = (at + unit.archive, units + 1),
                Piece::Long(long) => {
                    assert_eq!((format, long), (Format::Gzip, Format::Gzip));
                    break;
                }
                Piece::End => break,
                Piece::More(_) => panic!("{format:?}: there is no more"),
            }
        }
        let expected = match format {
            Format::Bgzf => 3,
            Format::Gzip => 0,
            Format::Xz | Format::Zstd => 1,
        };
        assert_eq!(units, expected, "{format:?}");
    }
}

#[test]
fn levels_are_those_of_the_format() {
    for (format, first, last) in [
        (Format::Bgzf, 1, 12),
        (Format::Gzip, 1, 12),
        (Format::Xz, 0, 9),
        (Format::Zstd, 1, 19),
    ] {
        assert_eq!(format.levels(), first..=last);
        assert!(Codec::new(format, Some(last + 1)).is_err());
        assert!(format.levels().contains(&Codec::new(format, None).unwrap().level()));
        assert_eq!(Format::from_name(format.name()), Some(format));
    }
    let error = Codec::new(Format::Bgzf, Some(13)).unwrap_err();
    assert_eq!(error.to_string(), "level 13 is not one of bgzf: 1 to 12");
    assert!(Codec::new(Format::Gzip, Some(0)).is_err());
    assert!(Codec::new(Format::Zstd, Some(0)).is_err());
}

#[test]
fn what_files_are_by_their_first_bytes() {
    let cases: [(&[u8], Option<Kind>); 9] = [
        (b"", None),
        (b"chr1\t5\n", None),
        (b"BZh91AY&SY", Some(Kind::Foreign("bzip2"))),
        (b"\x1f\x9d\x90", Some(Kind::Foreign("compress (.Z)"))),
        (b"PK\x03\x04", Some(Kind::Foreign("zip"))),
        (b"\x04\x22\x4d\x18", Some(Kind::Foreign("lz4"))),
        (b"\x89PNG\r\n\x1a\n", Some(Kind::Compressed("PNG"))),
        (b"\0\0\0\x20ftypisom", Some(Kind::Compressed("MP4"))),
        (b"\x1f\x8b", None),
    ];
    for (head, kind) in cases {
        assert_eq!(recognise(head), kind, "{head:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the content, and however few bytes are at hand at once, also where nothing is decoded by itself.
    #[test]
    fn any_content_through_any_window(
        pieces in prop::collection::vec((any::<u8>(), 0_usize..3000, any::<bool>()), 0..40),
        number in 0..4_usize,
        window in 1_usize..70_000,
        whole in any::<bool>(),
    ) {
        let mut content = Vec::new();
        for (byte, length, random) in pieces {
            if random {
                content.extend(noise(length).iter().map(|other| other ^ byte));
            } else {
                content.resize(content.len() + length, byte);
            }
        }
        let format = Format::ALL[number];
        let archive = pack(codec(format, *format.levels().start()), &content);
        for proof in [false, true] {
            let how = How { window, most: if whole { 0 } else { crate::whole::MOST }, proof };
            prop_assert!(unpack(&archive, how).unwrap() == content);
        }
    }
}
