//! Archives that are not whole: an error, or the same content; never other content, and never less.

use bulkhaul_formats::codec::{Codec, Format};

use crate::whole::{How, PROOF, USUAL, noise, pack, text, unpack, unpack_as};

/// The smallest archives that have all there is in them: several blocks, and some that can't be compressed.
fn archives() -> Vec<(Format, Vec<u8>, Vec<u8>)> {
    let content = [text(900), noise(100), vec![0; 300]].concat();
    let archive = |format: Format| pack(Codec::new(format, None).unwrap(), &content);
    let mut archives: Vec<_> = Format::ALL
        .into_iter()
        .map(|format| (format, archive(format), content.clone()))
        .collect();
    // Two of each behind one another are one of both, and of nothing.
    for format in Format::ALL {
        let nothing = pack(Codec::new(format, None).unwrap(), b"");
        archives.push((
            format,
            [archive(format), nothing.clone(), archive(format)].concat(),
            content.repeat(2),
        ));
        archives.push((format, nothing, Vec::new()));
    }
    archives
}

/// Nothing is decoded by itself.
const LONG: How = How { most: 0, ..USUAL };
const HOWS: [How; 4] = [USUAL, PROOF, LONG, How { proof: true, ..LONG }];

#[test]
fn no_flipped_bit_goes_unseen() {
    for (format, archive, content) in archives() {
        for how in HOWS {
            assert!(unpack_as(format, &archive, how).unwrap() == content, "{format:?}");
            let mut unseen = Vec::new();
            for at in 0..archive.len() {
                for bit in [0_u8, 3, 7] {
                    let mut flipped = archive.clone();
                    flipped[at] ^= 1 << bit;
                    match unpack_as(format, &flipped, how) {
                        Ok(other) => {
                            assert!(
                                other == content,
                                "{format:?}: bit {bit} of byte {at} makes other content"
                            );
                            unseen.push(at);
                        }
                        Err(damage) => assert!(damage.offset <= archive.len() as u64, "{format:?} {at}: {damage}"),
                    }
                }
            }
            unseen.dedup();
            // What carries no content: of gzip the time, the level, the system, and whether it is said to be text; of BGZF
            // what its field is called; of zstd the size of the window, and a bit that is nobody's.
            let share = unseen.len() * 100 / archive.len();
            let most = match format {
                Format::Xz => 0,
                Format::Bgzf | Format::Gzip | Format::Zstd if content.is_empty() => 60,
                Format::Bgzf | Format::Gzip | Format::Zstd => 8,
            };
            assert!(share <= most, "{format:?}: {unseen:?} of {}", archive.len());
        }
    }
}

#[test]
fn what_is_cut_short_is_seen_at_every_length() {
    for (format, archive, content) in archives() {
        for how in HOWS {
            for length in 0..archive.len() {
                if let Ok(part) = unpack_as(format, &archive[..length], how) {
                    // Only where one archive ends and the next would begin.
                    let whole = archive.len() / 2 <= length + 64 && content.len() > 1300;
                    assert!(
                        whole && part == content[..content.len() / 2],
                        "{format:?}: {length} of {}",
                        archive.len()
                    );
                }
            }
        }
    }
}

/// Several blocks are more than any test should flip through: each boundary is one place where an archive might end.
#[test]
fn what_is_cut_short_between_blocks_is_seen() {
    for (format, level) in [(Format::Bgzf, 1), (Format::Gzip, 1), (Format::Xz, 0), (Format::Zstd, 1)] {
        let codec = Codec::new(format, Some(level)).unwrap();
        let block = codec.block_bytes();
        let content = vec![b'a'; 2 * block + 1];
        let (one, all) = (pack(codec, &content[..block]), pack(codec, &content));
        for length in one.len().saturating_sub(80)..one.len() + 80 {
            assert!(unpack(&all[..length], USUAL).is_err(), "{format:?}: {length}");
        }
    }
}

#[test]
fn what_follows_the_end_is_seen_unless_it_is_padding() {
    for (format, archive, content) in archives() {
        for how in HOWS {
            for (rest, fine) in [
                (&b"\n"[..], false),
                (&b"\x1f"[..], false),
                (&b"garbage that is long enough for a header"[..], false),
                (&[0, 0, 0, 0, 7][..], false),
                (&[0, 0, 0, 0][..], format != Format::Zstd),
                (&[0, 0, 0][..], matches!(format, Format::Bgzf | Format::Gzip)),
            ] {
                let longer = [&archive[..], rest].concat();
                let result = unpack_as(format, &longer, how);
                assert_eq!(result.is_ok(), fine, "{format:?} and {rest:?}: {result:?}");
                if let Ok(other) = result {
                    assert!(other == content);
                }
            }
        }
    }
}

/// A member of BGZF says how long it is: what is in it behind its content is as bad as what is behind its end.
#[test]
fn what_lies_between_content_and_checksum_is_seen() {
    let whole = pack(Codec::new(Format::Bgzf, None).unwrap(), &text(1000));
    let member = usize::from(u16::from_le_bytes([whole[16], whole[17]])) + 1;
    let trailer = &whole[member - 8..member];
    for more in [&[0][..], &[3, 0], b"more", trailer, &[trailer, trailer].concat()] {
        let length = u16::try_from(member - 1 + more.len()).unwrap().to_le_bytes();
        let longer = [
            &whole[..16],
            &length,
            &whole[18..member - 8],
            more,
            &whole[member - 8..],
        ]
        .concat();
        for how in HOWS {
            assert_eq!(unpack(&longer, how).unwrap_err().offset, 0, "{more:?}");
        }
    }
}

#[test]
fn no_bytes_are_no_archive() {
    for format in Format::ALL {
        assert_eq!(unpack_as(format, b"", USUAL).unwrap_err().offset, 0);
    }
}

#[test]
fn damage_is_told_with_its_place() {
    let codec = Codec::new(Format::Bgzf, None).unwrap();
    let content = text(3 * 65280);
    let mut archive = pack(codec, &content);
    let second = usize::from(u16::from_le_bytes([archive[16], archive[17]])) + 1;
    archive[second + 100] ^= 4;
    for how in [USUAL, PROOF] {
        assert_eq!(unpack(&archive, how).unwrap_err().offset, second as u64);
    }
}

/// What goes before several frames of zstd carries no content: it is what tells that all are there.
#[test]
fn the_mark_before_frames_is_checked() {
    let codec = Codec::new(Format::Zstd, Some(1)).unwrap();
    let content = vec![b'a'; codec.block_bytes() + 1];
    let archive = pack(codec, &content);
    // After its magic number and its length, and what it is called.
    for at in 16..32 {
        let mut flipped = archive.clone();
        flipped[at] ^= 1;
        let damage = unpack(&flipped, USUAL).unwrap_err();
        assert_eq!(damage.offset, archive.len() as u64, "{at}");
    }
    let renamed = [&archive[..8], b"somebody", &archive[16..]].concat();
    assert!(unpack(&renamed, USUAL).unwrap() == content);
}
