use proptest::prelude::*;

use super::*;

/// Entries with their content, damage, and whether the archive ended.
type Seen = (Vec<(Entry, Vec<u8>)>, Vec<Damage>, bool);

/// All entries of an archive with their content, and what is damaged in it. The last block may be cut short.
fn read(archive: &[u8]) -> Seen {
    let (mut reader, mut entries, mut damages) = (Reader::default(), Vec::new(), Vec::new());
    loop {
        let at = usize::try_from(reader.offset()).unwrap_or(usize::MAX);
        let Some(block) = archive.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>()) else {
            return (entries, damages, false);
        };
        match reader.block(block) {
            Ok(Step::More) => {}
            Ok(Step::End) => return (entries, damages, true),
            Ok(Step::Entry(entry)) => {
                let content = usize::try_from(entry.content).unwrap_or(usize::MAX);
                let stored = usize::try_from(entry.stored).unwrap_or(usize::MAX);
                let bytes = archive.get(content..content.saturating_add(stored));
                reader.seek(entry.end);
                entries.push((*entry, bytes.unwrap_or_default().to_vec()));
            }
            Err(damage) => damages.push(damage),
        }
        assert!(reader.offset() > at as u64, "it goes on");
    }
}

fn append(header: &Header, archive: &mut Vec<u8>) {
    write(header, archive);
    let stored = header.stored();
    archive.extend((0..stored).map(|n| u8::try_from(n % 251).unwrap()));
    archive.resize(archive.len() + padding(stored), 0);
}

fn what() -> impl Strategy<Value = What> {
    let name = || prop::collection::vec(1..=255_u8, 1..300);
    prop_oneof![
        4 => Just(What::File),
        1 => name().prop_map(What::Link),
        1 => Just(What::Directory),
        1 => name().prop_map(What::Symlink),
        1 => Just(What::Fifo),
        1 => (0..0o7_777_777_u32, 0..0o7_777_777_u32).prop_map(|(major, minor)| What::Block(major, minor)),
        1 => (0..0o7_777_777_u32, 0..0o7_777_777_u32).prop_map(|(major, minor)| What::Char(major, minor)),
    ]
}

fn time() -> impl Strategy<Value = i128> {
    prop_oneof![
        (0..4_000_000_000_i128).prop_map(|seconds| seconds * 1_000_000_000),
        (-(1_i128 << 63)..1 << 63).prop_map(|time| time),
        (i128::from(i64::MIN + 1) * 1_000_000_000..=i128::from(i64::MAX) * 1_000_000_000).prop_map(|time| time),
    ]
}

prop_compose! {
    fn header()(
        path in prop::collection::vec(1..=255_u8, 1..400),
        what in what(),
        gaps in prop::option::of(prop::collection::vec((1..5000_u64, 1..3000_u64), 0..60)),
        tail in prop_oneof![Just(0), 0..5000_u64, Just(1_u64 << 62)],
        size in 0..3000_u64,
        mode in 0..=0o7777_u32,
        (uid, gid) in (prop_oneof![0..100_u64, any::<u64>()], prop_oneof![0..100_u64, any::<u64>()]),
        (mtime, atime, ctime) in (time(), prop::option::of(time()), prop::option::of(time())),
        xattrs in prop::collection::btree_map("user\\.[a-z]{1,9}", prop::collection::vec(any::<u8>(), 0..600), 0..4),
    ) -> Header {
        let mut path = path;
        while path.len() > 1 && path.ends_with(b"/") {
            path.pop();
        }
        let mut at = 0;
        let data: Option<Vec<Stretch>> = gaps.map(|gaps| gaps.into_iter().map(|(gap, length)| {
            at += gap + length;
            Stretch { offset: at - length, length }
        }).collect());
        let is_file = what == What::File && path != b"/";
        let size = if data.is_some() { at + tail } else { size };
        let what = if path == b"/" { What::Directory } else { what };
        Header {
            size: if is_file { size } else { 0 },
            data: data.filter(|_| is_file),
            mode, uid, gid, mtime, atime, ctime,
            xattrs: xattrs.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect(),
            ..Header::new(path, what)
        }
    }
}

proptest! {
    #[test]
    fn reads_back(headers in prop::collection::vec(header(), 0..6)) {
        let mut archive = Vec::new();
        for header in &headers {
            append(header, &mut archive);
        }
        archive.extend_from_slice(&END);
        let (entries, damages, ended) = read(&archive);
        prop_assert!(damages.is_empty() && ended, "{:?}", damages);
        prop_assert_eq!(entries.len(), headers.len());
        let mut at = 0;
        for ((entry, content), header) in entries.iter().zip(&headers) {
            prop_assert_eq!(&entry.header, header);
            prop_assert_eq!(entry.offset, at);
            prop_assert_eq!(entry.stored, header.stored());
            prop_assert!(content.iter().enumerate().all(|(n, byte)| usize::from(*byte) == n % 251));
            at = entry.end;
        }
    }

    /// Whatever is wrong with one entry, those that are whole and lie apart from it are found.
    #[test]
    fn damage_costs_what_it_hits(
        headers in prop::collection::vec(header(), 3..6),
        hit in any::<prop::sample::Index>(),
        value: u8,
    ) {
        let (mut archive, mut ends) = (Vec::new(), Vec::new());
        for header in &headers {
            append(header, &mut archive);
            ends.push(archive.len());
        }
        archive.extend_from_slice(&END);
        let at = hit.index(archive.len());
        archive[at] = value;
        let (entries, _, _) = read(&archive);
        for ((number, header), end) in headers.iter().enumerate().zip(&ends) {
            let from = if number == 0 { 0 } else { ends[number - 1] };
            // What stands after the damaged one may be taken for content of it where its size was hit.
            if at >= *end {
                prop_assert_eq!(&entries[number].0.header, header);
                prop_assert_eq!(entries[number].0.offset, from as u64);
            }
        }
    }

    #[test]
    fn anything_is_read_to_its_end(
        blocks in prop::collection::vec(any::<[u8; 32]>(), 0..40),
        kinds in prop::collection::vec(prop::sample::select(&b"0123456789xgLKSDVX"[..]), 40),
    ) {
        let mut archive = Vec::new();
        for (seed, kind) in blocks.iter().zip(kinds) {
            let mut block = [0; BLOCK];
            block[..32].copy_from_slice(seed);
            block[124..135].copy_from_slice(format!("{:011o}", u64::from(seed[0]) * 7).as_bytes());
            block[156] = kind;
            block[257..265].copy_from_slice(b"ustar\x0000");
            let sum = format!("{:06o}\0 ", checksum(&block));
            block[148..156].copy_from_slice(sum.as_bytes());
            archive.extend_from_slice(&block);
            archive.extend_from_slice(&seed.repeat(16));
        }
        read(&archive);
    }
}

fn one(records: &[(&[u8], &[u8])], what: u8, content: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (keyword, value) in records {
        pax::put(keyword, value, &mut body);
    }
    let mut archive = Vec::new();
    for (kind, bytes) in [(b'x', &body[..]), (what, content)] {
        let mut block = [0; BLOCK];
        block[0] = b'a';
        block[100..107].copy_from_slice(b"0000644");
        block[108..115].copy_from_slice(b"0000000");
        block[116..123].copy_from_slice(b"0000000");
        block[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
        block[136..147].copy_from_slice(b"00000000000");
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        let sum = format!("{:06o}\0 ", checksum(&block));
        block[148..156].copy_from_slice(sum.as_bytes());
        archive.extend_from_slice(&block);
        archive.extend_from_slice(bytes);
        archive.resize(archive.len() + padding(bytes.len() as u64), 0);
    }
    archive.extend_from_slice(&END);
    archive
}

#[test]
fn hostile_headers_are_damage() {
    let sparse: [(&[u8], &[u8]); 3] = [
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.realsize", b"100"),
    ];
    let mut map = b"2\n0\n10\n5\n10\n".to_vec();
    map.resize(BLOCK, 0);
    let mut beyond = b"1\n18446744073709551615\n10\n".to_vec();
    beyond.resize(BLOCK, 0);
    let cases: [(Vec<u8>, &str); 11] = [
        (
            one(&[(b"size", b"18446744073709551615")], b'0', b""),
            "a size beyond all archives",
        ),
        (one(&[(b"size", b"-1")], b'0', b""), "a size that is no number"),
        (one(&[(b"path", b"a\0b")], b'0', b""), "a name with a NUL"),
        (one(&[(b"mtime", b"soon")], b'0', b""), "a time that is no number"),
        (
            one(&sparse, b'0', b"99999999999999\n"),
            "more holes in a file than are read",
        ),
        (one(&sparse, b'0', &map), "a map of holes that is none"),
        (one(&sparse, b'0', &beyond), "a map of holes that is none"),
        (
            one(&[(b"GNU.sparse.map", b"0,1,9")], b'0', b""),
            "a map of holes that is none",
        ),
        (
            one(&[(b"GNU.sparse.size", b"9"), (b"GNU.sparse.map", b"0,2")], b'0', b"x"),
            "a map of holes for other content",
        ),
        (
            one(&[(b"GNU.sparse.major", b"2")], b'0', b""),
            "a file with holes in a form that is not known here",
        ),
        (one(&[], b'?', b""), "an entry of a type that is not known here"),
    ];
    for (archive, what) in cases {
        let (entries, damages, _) = read(&archive);
        assert!(entries.is_empty(), "{what}");
        assert_eq!(damages.iter().map(|damage| damage.what).next(), Some(what));
    }
    let mut large = one(&[], b'0', b"");
    large[124..135].copy_from_slice(b"77777777777");
    let sum = format!("{:06o}\0 ", checksum(large.first_chunk().unwrap()));
    large[148..156].copy_from_slice(sum.as_bytes());
    assert_eq!(read(&large).1[0].what, "an extended header that is too large");
}

#[test]
fn forms_of_old() {
    let holes: [&[(&[u8], &[u8])]; 2] = [
        &[
            (b"GNU.sparse.name", b"b"),
            (b"GNU.sparse.size", b"100"),
            (b"GNU.sparse.numblocks", b"2"),
            (b"GNU.sparse.map", b"10,2,50,1,100,0"),
        ],
        &[
            (b"GNU.sparse.size", b"100"),
            (b"GNU.sparse.numblocks", b"2"),
            (b"GNU.sparse.offset", b"10"),
            (b"GNU.sparse.numbytes", b"2"),
            (b"GNU.sparse.offset", b"50"),
            (b"GNU.sparse.numbytes", b"1"),
        ],
    ];
    for (records, path) in holes.into_iter().zip([b"b", b"a"]) {
        let (entries, damages, _) = read(&one(records, b'0', b"xyz"));
        assert!(damages.is_empty(), "{damages:?}");
        let (entry, content) = &entries[0];
        assert_eq!(
            (&entry.header.path[..], entry.header.size, &content[..]),
            (&path[..], 100, &b"xyz"[..])
        );
        let data = [(10, 2), (50, 1)].map(|(offset, length)| Stretch { offset, length });
        assert_eq!(entry.header.data.as_deref(), Some(&data[..]));
    }
    // The label of a volume, and a directory that says what was in it.
    let mut archive = one(&[], b'V', b"");
    archive.truncate(archive.len() - END.len());
    archive.extend(one(&[], b'D', b"Yfile\0\0"));
    archive.truncate(archive.len() - END.len());
    archive.extend(one(&[], b'0', b"after"));
    let (entries, damages, ended) = read(&archive);
    assert!(damages.is_empty() && ended, "{damages:?}");
    let seen: Vec<_> = entries.iter().map(|(entry, _)| entry.header.what.clone()).collect();
    assert_eq!(seen, [What::Directory, What::File]);
    assert_eq!(entries[1].1, b"after");
}

#[test]
fn times_and_records() {
    let cases: [(&[u8], i128); 7] = [
        (b"0", 0),
        (b"1.5", 1_500_000_000),
        (b"-1.5", -1_500_000_000),
        (b"-0.000000001", -1),
        (b"1.0000000019", 1_000_000_001),
        (b"-1.0000000019", -1_000_000_002),
        (b"1.", 1_000_000_000),
    ];
    for (text, time) in cases {
        assert_eq!(pax::of_time(text), Some(time), "{}", text.escape_ascii());
    }
    for wrong in [&b""[..], b"-", b"1.x", b".5", b"1e3", b"99999999999999999999"] {
        assert_eq!(pax::of_time(wrong), None, "{}", wrong.escape_ascii());
    }
    // A length that gets a digit more because it counts itself.
    for length in [0, 1, 88, 89, 90, 91, 985, 986, 987, 988, 989] {
        let mut records = Vec::new();
        pax::put(b"path", &vec![b'a'; length], &mut records);
        let ((keyword, value), rest) = pax::next(&records).unwrap().unwrap();
        assert_eq!((keyword, value.len(), rest.len()), (&b"path"[..], length, 0));
    }
    for wrong in [
        &b"9 a=b\n"[..],
        b"x a=b\n",
        b"5 a=b\n",
        b"6 a=bc\n",
        b"5 ab\n",
        b"3 \n",
        b"aaaaaaaaaaaaaaaaaaaaaaaaa",
    ] {
        assert!(pax::next(wrong).is_err(), "{}", wrong.escape_ascii());
    }
    assert_eq!(pax::next(b"\0\0"), Ok(None));
}

/// libarchive and GNU tar have names for attributes of their own beside those of star; a value that is empty takes back what was said before.
#[test]
fn attributes_as_libarchive_has_them_and_what_is_taken_back() {
    let mut archive = one(&[(b"mtime", b"5")], b'0', b"");
    archive[156] = b'g';
    let sum = format!("{:06o}\0 ", checksum(archive.first_chunk().unwrap()));
    archive[148..156].copy_from_slice(sum.as_bytes());
    archive.truncate(2 * BLOCK);
    let own: [(&[u8], &[u8]); 7] = [
        (b"SCHILY.xattr.user.both", b"mine"),
        (b"SCHILY.xattr.user.none", b""),
        (b"LIBARCHIVE.xattr.user.both", b"AA"),
        (b"LIBARCHIVE.xattr.user.%3d%zz", b"AHY"),
        (b"LIBARCHIVE.xattr.user.no", b"*"),
        (b"mtime", b""),
        (b"RHT.security.selinux", b"u:r:t:s0"),
    ];
    archive.extend(one(&own, b'0', b""));
    let (entries, damages, ended) = read(&archive);
    assert!(damages.is_empty() && ended, "{damages:?}");
    let header = &entries[0].0.header;
    let xattrs: [(&[u8], &[u8]); 4] = [
        (b"user.both", b"mine"),
        (b"user.none", b""),
        (b"user.=%zz", b"\0v"),
        (b"security.selinux", b"u:r:t:s0\0"),
    ];
    assert_eq!(
        header.xattrs,
        xattrs.map(|(name, value)| (name.to_vec(), value.to_vec()))
    );
    assert_eq!(
        (header.mtime, &header.lost[..]),
        (0, &["LIBARCHIVE.xattr.user.no".to_owned()][..])
    );
}

/// What can't be a header is passed over, and two blocks of zeros in it end nothing.
#[test]
fn zeros_behind_damage_are_no_end() {
    let mut archive = Vec::new();
    append(&Header::new(b"lost".to_vec(), What::File), &mut archive);
    archive[0] = b'L';
    archive.extend_from_slice(&END);
    append(&Header::new(b"found".to_vec(), What::File), &mut archive);
    archive.extend_from_slice(&END);
    let (entries, damages, _) = read(&archive);
    assert_eq!((entries.len(), damages.len()), (1, 1));
    assert_eq!(entries[0].0.header.path, b"found");
    assert_eq!(
        find_header(&archive[BLOCK + 1..]),
        usize::try_from(entries[0].0.offset).ok().map(|at| at - BLOCK - 1)
    );
}
