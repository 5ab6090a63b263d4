//! Manifests as bytes: what is written, what is read, what is refused.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use bulkhaul_formats::digest::{Algorithm, Digest, Hashers};
use bulkhaul_formats::manifest::{
    Entry, Format, Kind, LINE_BYTES, Listed, ManifestError, PathError, Problem, Reader, Unwritable, Writer, inside,
    is_called_one, recognise,
};
use proptest::prelude::*;

const FORMATS: [Format; 5] = [
    Format::Sums,
    Format::SumsNul,
    Format::Hashdeep,
    Format::Bagit,
    Format::Json,
];

const MD5: &str = "900150983cd24fb0d6963f7d28e17f72";
const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn digests(algorithms: &[Algorithm]) -> Vec<Digest> {
    let mut hashers = Hashers::new(algorithms);
    hashers.update(b"abc");
    hashers.finish()
}

/// Reads all in pieces of so many bytes; the last result is that of the end.
fn read(reader: &mut Reader, bytes: &[u8], piece: usize) -> Vec<Result<Listed, ManifestError>> {
    let mut all = Vec::new();
    for piece in bytes.chunks(piece) {
        all.extend(reader.read(piece));
    }
    all.extend(reader.finish().transpose());
    all
}

/// Paths with the numbers of their lines, or the first error.
fn paths(format: Format, algorithm: Option<Algorithm>, text: &[u8]) -> Result<Vec<(u64, String)>, String> {
    read(&mut Reader::new(format, algorithm), text, 7)
        .into_iter()
        .map(|listed| match listed {
            Ok(listed) => Ok((listed.line, listed.entry.path.escape_ascii().to_string())),
            Err(error) => Err(error.to_string()),
        })
        .collect()
}

fn written(format: Format, algorithms: &[Algorithm], entries: &[Entry]) -> Vec<u8> {
    let writer = Writer::new(format, algorithms).unwrap();
    let mut text = Vec::new();
    writer.head(&mut text);
    for entry in entries {
        writer.entry(entry, &mut text).unwrap();
    }
    text
}

fn unwritable(format: Format, algorithm: Algorithm, entry: &Entry) -> Unwritable {
    let mut text = b"before".to_vec();
    let error = Writer::new(format, &[algorithm])
        .unwrap()
        .entry(entry, &mut text)
        .unwrap_err();
    assert_eq!(text, b"before");
    error
}

#[test]
fn lines_of_checksums() {
    let text = format!(
        "\u{feff}# made by hand\n\n{MD5}  a\n{MD5} *b c\r\n  {upper}  d \n\\{MD5}  n\\nl\\\\\\r\n{MD5}  back\\slash\n\
         MD5 (t) = {MD5}\nMD5(o)= {MD5}\n\\MD5 (n\\n) (x) = {upper}\n{MD5}   blank\n{MD5}  ./x//y/.\n{MD5}  last",
        upper = MD5.to_uppercase(),
    );
    let expected = [
        (3, "a"),
        (4, "b c"),
        (5, "d "),
        (6, "n\\nl\\\\\\r"),
        (7, "back\\\\slash"),
        (8, "t"),
        (9, "o"),
        (10, "n\\n) (x"),
        (11, " blank"),
        (12, "x/y"),
        (13, "last"),
    ]
    .map(|(line, path)| (line, path.to_owned()));
    for algorithm in [None, Some(Algorithm::Md5)] {
        assert_eq!(paths(Format::Sums, algorithm, text.as_bytes()).unwrap(), expected);
    }
    let mut reader = Reader::new(Format::Sums, None);
    for listed in read(&mut reader, text.as_bytes(), 1) {
        assert_eq!(listed.unwrap().entry.digests, digests(&[Algorithm::Md5]));
    }
}

#[test]
fn one_blank_only_is_that_in_the_whole_file() {
    let text = format!("{MD5} a\n{MD5}  b\n{MD5} *c\n");
    let expected = [(1, "a".into()), (2, " b".into()), (3, "*c".into())];
    assert_eq!(paths(Format::Sums, None, text.as_bytes()).unwrap(), expected);
    let text = format!("{MD5}  a\n{MD5} b\n");
    assert_eq!(
        paths(Format::Sums, None, text.as_bytes()).unwrap_err(),
        "line 2: no line of checksums"
    );
}

#[test]
fn nul_lines_have_names_as_they_are() {
    let text = format!("{MD5}  a\nb\\c\r\0{MD5} *d\0MD5 (e) = {MD5}\0");
    let expected = [(1, "a\\nb\\\\c\\r".into()), (2, "d".into()), (3, "e".into())];
    assert_eq!(paths(Format::SumsNul, None, text.as_bytes()).unwrap(), expected);
}

#[test]
fn what_is_no_line_of_checksums() {
    for (line, problem) in [
        ("a", "no line of checksums"),
        (MD5, "no line of checksums"),
        ("900150983cd24fb0d6963f7d28e17f7g  a", "no line of checksums"),
        ("\\900150983cd24fb0d6963f7d28e17f72  a\\x", "no line of checksums"),
        ("\\900150983cd24fb0d6963f7d28e17f72  a\\", "no line of checksums"),
        ("MD5 (a) = 900150983cd24fb0d6963f7d28e17f7", "no line of checksums"),
        ("MD5 (a) = ", "no line of checksums"),
        ("MD5 (a = 900150983cd24fb0d6963f7d28e17f72", "no line of checksums"),
        ("MD5 )a( = 900150983cd24fb0d6963f7d28e17f72", "no line of checksums"),
        (
            "SHA1 (a) = 900150983cd24fb0d6963f7d28e17f72",
            "digests of 'SHA1' are not known here",
        ),
        (
            "a9993e364706816aba3e25717850c26c9cd0d89d  a",
            "a digest of 40 hexadecimal digits, as SHA-1 has, which is not known here",
        ),
        ("abc  a", "a digest of 3 hexadecimal digits, which is not known here"),
        ("                          UNSUPPORTED  a", "no digest: 'UNSUPPORTED'"),
        ("ERROR  a", "no digest: 'ERROR'"),
        (
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a",
            "a digest of 64 hexadecimal digits is of blake3 or sha256: say which",
        ),
    ] {
        let text = format!("{MD5}  first\n{line}\n");
        let error = paths(Format::Sums, None, text.as_bytes()).unwrap_err();
        assert_eq!(error, format!("line 2: {problem}"), "{line}");
    }
}

#[test]
fn a_wrong_algorithm_is_named() {
    for (format, text, problem) in [
        (
            Format::Sums,
            format!("{MD5}  a"),
            "a digest of md5, where sha256 was expected",
        ),
        (
            Format::Sums,
            format!("MD5 (a) = {MD5}"),
            "a digest of md5, where sha256 was expected",
        ),
        (
            Format::Bagit,
            format!("{MD5}  a"),
            "a digest of md5, where sha256 was expected",
        ),
        (
            Format::Json,
            format!(r#"{{"path":"a","digests":{{"blake3":"{SHA256}","md5":"{MD5}"}}}}"#),
            "a digest of blake3 or md5, where sha256 was expected",
        ),
        (
            Format::Hashdeep,
            format!("%%%% HASHDEEP-1.0\n%%%% size,md5,filename\n3,{MD5},a"),
            "a digest of md5, where sha256 was expected",
        ),
    ] {
        let error = paths(format, Some(Algorithm::Sha256), text.as_bytes()).unwrap_err();
        assert!(error.ends_with(problem), "{error}");
    }
    let error = paths(Format::Sums, Some(Algorithm::Md5), format!("{SHA256}  a").as_bytes()).unwrap_err();
    assert_eq!(error, "line 1: a digest of blake3 or sha256, where md5 was expected");
    for algorithm in [Algorithm::Blake3, Algorithm::Sha256] {
        assert!(paths(Format::Sums, Some(algorithm), format!("{SHA256}  a").as_bytes()).is_ok());
    }
}

#[test]
fn paths_that_lead_elsewhere_are_refused_in_every_format() {
    for (path, why) in [
        ("/etc/passwd", PathError::Absolute),
        ("../a", PathError::Parent),
        ("a/../../b", PathError::Parent),
        ("a/..", PathError::Parent),
        (".", PathError::Empty),
        ("./", PathError::Empty),
    ] {
        for format in FORMATS {
            let text = match format {
                Format::Sums | Format::Bagit => format!("{MD5}  {path}\n"),
                Format::SumsNul => format!("{MD5}  {path}\0"),
                Format::Hashdeep => format!("%%%% HASHDEEP-1.0\n%%%% size,md5,filename\n3,{MD5},{path}\n"),
                Format::Json => format!("{{\"path\":\"{path}\"}}\n"),
            };
            let all = read(&mut Reader::new(format, None), text.as_bytes(), 1000);
            let [Err(error)] = &all[..] else {
                panic!("{path} {format:?}: {all:?}")
            };
            let path = path.to_owned();
            assert_eq!(error.problem, Problem::Path { path, why }, "{format:?}");
        }
        let entry = Entry::new(path.into(), digests(&[Algorithm::Md5]));
        assert_eq!(unwritable(Format::Json, Algorithm::Md5, &entry), Unwritable::Path(why));
    }
    let nul = read(&mut Reader::new(Format::Json, None), b"{\"path\":\"a\\u0000b\"}", 99);
    assert!(matches!(
        &nul[..],
        [Err(ManifestError {
            line: 1,
            problem: Problem::Path {
                why: PathError::Nul,
                ..
            }
        })]
    ));
    let indirect = Entry::new(b"a//b".into(), digests(&[Algorithm::Md5]));
    assert_eq!(
        unwritable(Format::Sums, Algorithm::Md5, &indirect),
        Unwritable::Indirect
    );
}

#[test]
fn a_line_that_is_refused_does_not_hide_the_next() {
    let text = format!("{MD5}  ../a\n{MD5}  b\nx\n{MD5}  c");
    let all = read(&mut Reader::new(Format::Sums, None), text.as_bytes(), 3);
    let lines: Vec<_> = all
        .iter()
        .map(|listed| listed.as_ref().map(|l| l.line).map_err(|e| e.line))
        .collect();
    assert_eq!(lines, [Err(1), Ok(2), Err(3), Ok(4)]);
}

#[test]
fn an_empty_manifest_is_refused() {
    for (format, text, line) in [
        (Format::Sums, "", 1),
        (Format::Sums, "# nothing\n\n", 2),
        (Format::SumsNul, "", 1),
        (Format::Hashdeep, "%%%% HASHDEEP-1.0\n%%%% size,md5,filename\n", 2),
        (Format::Json, "{\"type\":\"manifest\",\"schema\":1}\n", 1),
        (Format::Bagit, "\n", 1),
    ] {
        let problem = Problem::Empty;
        let all = read(&mut Reader::new(format, None), text.as_bytes(), 9);
        assert_eq!(all, [Err(ManifestError { line, problem })], "{format:?}");
    }
}

#[test]
fn lines_have_a_limit() {
    for format in [Format::Sums, Format::SumsNul] {
        let end = if format == Format::SumsNul { '\0' } else { '\n' };
        let line = |bytes: usize| format!("{MD5}  {}{end}", "x".repeat(bytes - MD5.len() - 2));
        let text = [
            line(LINE_BYTES),
            line(LINE_BYTES + 1),
            line(100),
            "x".repeat(3 * LINE_BYTES),
        ]
        .concat();
        for piece in [1000, LINE_BYTES, text.len()] {
            let all = read(&mut Reader::new(format, None), text.as_bytes(), piece);
            let shown: Vec<_> = all
                .iter()
                .map(|l| l.as_ref().map(|l| l.line).map_err(ToString::to_string))
                .collect();
            let too_long = |line| Err(format!("line {line}: longer than 1048576 bytes"));
            assert_eq!(shown, [Ok(1), too_long(2), Ok(3), too_long(4)], "{piece}");
        }
    }
}

#[test]
fn what_could_not_be_read_is_not_written() {
    for format in FORMATS {
        let entry = |path: &str| Entry {
            size: Some(3),
            ..Entry::new(path.into(), digests(&[Algorithm::Md5]))
        };
        let around = written(format, &[Algorithm::Md5], &[entry("x")]);
        let around = around
            .split(|byte| matches!(byte, 0 | b'\n'))
            .rev()
            .nth(1)
            .unwrap()
            .len()
            - 1;
        let longest = entry(&"x".repeat(LINE_BYTES - around));
        let text = written(format, &[Algorithm::Md5], std::slice::from_ref(&longest));
        let all = read(&mut Reader::new(format, None), &text, 60_000);
        assert_eq!(
            all.last().unwrap().as_ref().unwrap().entry.path,
            longest.path,
            "{format:?}"
        );
        let longer = entry(&"x".repeat(LINE_BYTES - around + 1));
        assert_eq!(
            unwritable(format, Algorithm::Md5, &longer),
            Unwritable::TooLong,
            "{format:?}"
        );
    }
}

#[test]
fn a_line_without_an_end_is_told_as_soon_as_it_is_too_long() {
    let mut reader = Reader::new(Format::Sums, None);
    let piece = vec![b'x'; LINE_BYTES];
    assert_eq!(reader.read(&piece).count(), 0);
    assert_eq!(reader.read(b"x").count(), 1);
    assert_eq!(reader.read(&piece).count(), 0);
    assert_eq!(reader.finish(), Ok(None));
}

#[test]
fn hashdeep() {
    let entry = |path: &str| Entry {
        size: Some(3),
        ..Entry::new(path.into(), digests(&[Algorithm::Md5, Algorithm::Sha256]))
    };
    let both = [Algorithm::Sha256, Algorithm::Md5];
    let text = written(Format::Hashdeep, &both, &[entry("a,b"), entry("c\rd")]);
    let expected =
        format!("%%%% HASHDEEP-1.0\n%%%% size,md5,sha256,filename\n3,{MD5},{SHA256},./a,b\n3,{MD5},{SHA256},./c\rd\n");
    assert_eq!(text, expected.as_bytes());

    let text = format!(
        "%%%% HASHDEEP-1.0\r\n%%%% size,md5,sha1,sha256,tiger,filename\r\n## Invoked from: /x\r\n## \r\n\
         3,{MD5},unread,{SHA256},,./a,b\r\n"
    );
    let all = read(&mut Reader::new(Format::Hashdeep, None), text.as_bytes(), 5);
    let listed = all[0].as_ref().unwrap();
    assert_eq!((all.len(), listed.line, &listed.entry), (1, 5, &entry("a,b")));

    for (text, problem) in [
        (
            "%%%% HASHDEEP-2.0\n",
            "a file of hashdeep of version 2.0, which is not known here",
        ),
        (
            "%%%% size,sha1,filename\n",
            "digests of 'size,sha1,filename' are not known here",
        ),
        ("%%%% size,md5\n", "no line of hashdeep"),
        ("%%%% md5,size,md5,filename\n", "no line of hashdeep"),
        ("3,x,a\n", "no line of hashdeep"),
    ] {
        let error = paths(Format::Hashdeep, None, text.as_bytes()).unwrap_err();
        assert_eq!(error, format!("line 1: {problem}"));
    }
    for line in [
        "a",
        "3",
        &format!("3,{MD5}"),
        &format!("-3,{MD5},a"),
        &format!(",{MD5},a"),
        "3,00,a",
    ] {
        let text = format!("%%%% size,md5,filename\n{line}\n");
        let error = paths(Format::Hashdeep, None, text.as_bytes()).unwrap_err();
        assert_eq!(error, "line 2: no line of hashdeep", "{line}");
    }
    for name in ["a\nb", "a\r"] {
        assert!(matches!(
            unwritable(Format::Hashdeep, Algorithm::Md5, &entry(name)),
            Unwritable::Name(_)
        ));
    }
    // As hashdeep writes it.
    let text = format!("%%%% HASHDEEP-1.0\n%%%% size,md5,sha256,filename\n3,{MD5},{SHA256},./a\r\n");
    assert_eq!(
        paths(Format::Hashdeep, None, text.as_bytes()).unwrap(),
        [(3, "a\\r".into())]
    );
    let unsized_entry = Entry::new(b"a".into(), digests(&[Algorithm::Md5]));
    assert_eq!(
        unwritable(Format::Hashdeep, Algorithm::Md5, &unsized_entry),
        Unwritable::NoSize
    );
    assert!(Writer::new(Format::Hashdeep, &[Algorithm::Blake3]).is_err());
}

#[test]
fn bags() {
    let entry = |path: &str| Entry::new(path.into(), digests(&[Algorithm::Md5]));
    let entries = [entry("data/100%"), entry("data/a\r\nb"), entry("data/%0A")];
    let text = written(Format::Bagit, &[Algorithm::Md5], &entries);
    let expected = format!("{MD5}  data/100%25\n{MD5}  data/a%0D%0Ab\n{MD5}  data/%250A\n");
    assert_eq!(text, expected.as_bytes());

    let text = format!("{MD5} \t data/a%0a%0d%25%41%\r\n{MD5} *data/b\n{MD5}\tdata/c d \n");
    let expected = [
        (1, "data/a\\n\\r%%41%".into()),
        (2, "data/b".into()),
        (3, "data/c d ".into()),
    ];
    assert_eq!(paths(Format::Bagit, None, text.as_bytes()).unwrap(), expected);
    for line in [format!("{MD5} a\rb"), format!("\\{MD5}  a"), format!("MD5 (a) = {MD5}")] {
        let error = paths(Format::Bagit, None, line.as_bytes()).unwrap_err();
        assert_eq!(error, "line 1: no line of a manifest of a bag", "{line}");
    }
    for name in [" a", "*a", "\ta"] {
        assert!(matches!(
            unwritable(Format::Bagit, Algorithm::Md5, &entry(name)),
            Unwritable::Name(_)
        ));
    }
}

#[test]
fn json_lines() {
    let whole = Entry {
        path: b"caf\xe9\n\x01\"\\".into(),
        digests: digests(&[Algorithm::Crc32c, Algorithm::Md5]),
        kind: Some(Kind::File),
        size: Some(u64::MAX),
        mtime: Some(-1),
        ctime: Some(1_700_000_000_123_456_789),
        mode: Some(0o4755),
        uid: Some(0),
        gid: Some(u32::MAX),
        target: Some(b"t\xff".into()),
        link_group: Some(7),
    };
    let directory = Entry {
        kind: Some(Kind::Directory),
        ..Entry::new("é/\u{2028}".into(), Vec::new())
    };
    let text = written(Format::Json, &[Algorithm::Md5], &[whole.clone(), directory.clone()]);
    let expected = concat!(
        r#"{"type":"manifest","schema":1}"#,
        "\n",
        r#"{"path":"caf�\n\u0001\"\\","pathBase64":"Y2Fm6QoBIlw=","kind":"file","size":18446744073709551615,"#,
        r#""mtimeNs":"-1","ctimeNs":"1700000000123456789","mode":2541,"user":0,"group":4294967295,"#,
        r#""target":"t�","targetBase64":"dP8=","linkGroup":7,"#,
        r#""digests":{"md5":"900150983cd24fb0d6963f7d28e17f72","crc32c":"364b3fb7"}}"#,
        "\n{\"path\":\"é/\u{2028}\",\"kind\":\"directory\"}\n"
    );
    assert_eq!(String::from_utf8(text.clone()).unwrap(), expected);
    let all = read(&mut Reader::new(Format::Json, Some(Algorithm::Md5)), &text, 11);
    let entries: Vec<_> = all.into_iter().map(|listed| listed.unwrap().entry).collect();
    assert_eq!(entries, [whole, directory]);

    // Another order, what is not known, escapes of every kind, and a name as the library has it.
    let text = r#" { "digests" : { "sha1": "x", "MD5": "900150983CD24FB0D6963F7D28E17F72" }, "new": [1.5e-3, {"a": null}, true, []],
        "size": 3, "path": "\u0063af\udce9\/\ud83d\ude00\t" } "#;
    let all = read(
        &mut Reader::new(Format::Json, None),
        text.replace('\n', " ").as_bytes(),
        999,
    );
    let entry = Entry {
        size: Some(3),
        ..Entry::new(b"caf\xe9/\xf0\x9f\x98\x80\t".into(), digests(&[Algorithm::Md5]))
    };
    assert_eq!(all, [Ok(Listed { line: 1, entry })]);
}

#[test]
fn what_is_no_line_of_json() {
    let deep = format!(r#"{{"path":"a","x":{}{}}}"#, "[".repeat(20), "]".repeat(20));
    let wide: Vec<_> = (0..300).map(|number| format!("\"{number}\":0")).collect();
    let wide = format!(r#"{{"path":"a",{}}}"#, wide.join(","));
    for line in [
        "a",
        "[]",
        "{}",
        r#"{"path":"a""#,
        r#"{"path":"a"}}"#,
        r#"{"path":"a"}{"path":"b"}"#,
        r#"{"path":"a",}"#,
        r#"{"path":"a","path":"a"}"#,
        r#"{"path":1}"#,
        r#"{"pathBase64":"YQ=="}"#,
        r#"{"path":"a","pathBase64":"YQ="}"#,
        r#"{"path":"a","pathBase64":"YR=="}"#,
        r#"{"path":"a\x"}"#,
        r#"{"path":"a\ud800"}"#,
        r#"{"path":"a\udc7f"}"#,
        r#"{"path":"a\u00+1"}"#,
        "{\"path\":\"a\tb\"}",
        r#"{"path":"a","kind":"door"}"#,
        r#"{"path":"a","size":-1}"#,
        r#"{"path":"a","size":01}"#,
        r#"{"path":"a","size":1.0}"#,
        r#"{"path":"a","size":"1"}"#,
        r#"{"path":"a","size":18446744073709551616}"#,
        r#"{"path":"a","mtimeNs":1}"#,
        r#"{"path":"a","mtimeNs":"--1"}"#,
        r#"{"path":"a","mode":4096}"#,
        r#"{"path":"a","digests":{"md5":"00"}}"#,
        r#"{"path":"a","digests":{"crc32c":"00000000","CRC-32C":"00000000"}}"#,
        r#"{"path":"a","x":tru}"#,
        r#"{"type":"entry","schema":1,"path":"a"}"#,
        r#"{"type":"manifest"}"#,
        &deep,
        &wide,
    ] {
        let error = paths(Format::Json, None, line.as_bytes()).unwrap_err();
        assert_eq!(error, "line 1: no line of a manifest in JSON", "{line}");
    }
    assert!(paths(Format::Json, None, b"{\"path\":\"a\xff\"}").is_err());
    for (line, problem) in [
        (
            r#"{"type":"manifest","schema":2}"#,
            "a manifest in JSON of version 2, which is not known here",
        ),
        (
            r#"{"path":"a","pathBase64":"Yg=="}"#,
            "'path' and 'pathBase64' are two names",
        ),
        (
            r#"{"path":"a","digests":{"sha1":"00"}}"#,
            "digests of 'sha1' are not known here",
        ),
    ] {
        let error = paths(Format::Json, None, line.as_bytes()).unwrap_err();
        assert_eq!(error, format!("line 1: {problem}"), "{line}");
    }
}

#[test]
fn what_b3sum_never_takes_is_not_written_for_it() {
    let entry = |name: &[u8]| Entry::new(name.into(), digests(&[Algorithm::Blake3, Algorithm::Md5]));
    for name in [&b"caf\xe9"[..], "a\u{fffd}".as_bytes()] {
        let entry = entry(name);
        assert!(matches!(
            unwritable(Format::Sums, Algorithm::Blake3, &entry),
            Unwritable::Name(_)
        ));
        for (format, algorithm) in [
            (Format::Sums, Algorithm::Md5),
            (Format::SumsNul, Algorithm::Blake3),
            (Format::Bagit, Algorithm::Blake3),
        ] {
            written(format, &[algorithm], std::slice::from_ref(&entry));
        }
    }
    let link = Entry {
        kind: Some(Kind::Symlink),
        ..entry(b"a")
    };
    let error = unwritable(Format::Sums, Algorithm::Md5, &link);
    assert_eq!(
        error.to_string(),
        "a symlink, and only files can be listed in this format"
    );
    assert_eq!(
        unwritable(Format::Json, Algorithm::Sha512, &entry(b"a")),
        Unwritable::NoDigest(Algorithm::Sha512)
    );
    for format in [Format::Sums, Format::SumsNul, Format::Bagit] {
        assert!(Writer::new(format, &[]).is_err());
        assert!(Writer::new(format, &[Algorithm::Md5, Algorithm::Sha256]).is_err());
    }
}

#[test]
fn names_tell_manifests() {
    let one = "a.md5 a.fastq.gz.MD5 a.sha256sum A.SHA512SUMS a.b3 a.blake3.txt MD5SUMS sha256sums B3SUMS.gz BLAKE3SUMS \
               md5sum.txt md5checksums.txt SHA256SUMS.txt.xz manifest-sha512.txt tagmanifest-md5.txt.gz a.xxh3";
    for name in one.split_whitespace() {
        assert!(is_called_one(name.as_bytes()), "{name}");
    }
    let none = "md5sum md5 sha256 .md5 a.md5.bak a.sha1 manifest-sha1.txt SHA1SUMS notes.txt a.txt md5.txt.d a-md5 \
                a.my-md5 manifest-sha512";
    for name in none.split_whitespace() {
        assert!(!is_called_one(name.as_bytes()), "{name}");
    }
}

#[test]
fn formats_are_recognised() {
    use Algorithm::{Blake3, Md5, Sha256, Sha512};
    let sha512 = "0".repeat(128);
    for (name, head, format, named, algorithms) in [
        ("", format!("{MD5}  a\n"), Format::Sums, None, &[Md5][..]),
        ("x", format!("{SHA256}  a\n"), Format::Sums, None, &[Blake3, Sha256]),
        (
            "d/BLAKE3SUMS",
            format!("{SHA256}  a\n"),
            Format::Sums,
            Some(Blake3),
            &[Blake3],
        ),
        (
            "B3SUMS",
            format!("{SHA256}  a\n"),
            Format::Sums,
            Some(Blake3),
            &[Blake3],
        ),
        (
            "SHA256SUMS",
            format!("# x\n\n{SHA256}  a"),
            Format::Sums,
            Some(Sha256),
            &[Sha256],
        ),
        (
            "sha256sum.txt",
            format!("{SHA256}  a\n"),
            Format::Sums,
            Some(Sha256),
            &[Sha256],
        ),
        (
            "x.tar.b3.gz",
            format!("{SHA256}  a\n"),
            Format::Sums,
            Some(Blake3),
            &[Blake3],
        ),
        (
            "reads_1.fastq.gz.md5",
            format!("{MD5}  a\n"),
            Format::Sums,
            Some(Md5),
            &[Md5],
        ),
        (
            "reads.md5.sha512",
            format!("{sha512}  a\n"),
            Format::Sums,
            Some(Sha512),
            &[Sha512],
        ),
        ("SHA256SUMS", format!("{MD5}  a\n"), Format::Sums, Some(Sha256), &[Md5]),
        (
            "checksums",
            format!("\\SHA256 (a\\n) = {SHA256}\n"),
            Format::Sums,
            None,
            &[],
        ),
        ("checksums", format!("SHA1 (a) = {SHA256}\n"), Format::Sums, None, &[]),
        ("checksums", "abcdef  a\n".into(), Format::Sums, None, &[]),
        (
            "x",
            format!("{SHA256}  a\nb\0{SHA256}  "),
            Format::SumsNul,
            None,
            &[Blake3, Sha256],
        ),
        (
            "bag/manifest-sha256.txt",
            format!("{SHA256} data/a\n"),
            Format::Bagit,
            Some(Sha256),
            &[Sha256],
        ),
        (
            "tagmanifest-md5.txt",
            format!("{MD5}\tbagit.txt\n"),
            Format::Bagit,
            Some(Md5),
            &[Md5],
        ),
        ("x.md5", "%%%% HASHDEEP-1.0\r\n".into(), Format::Hashdeep, None, &[]),
        ("x.md5", "\u{feff}\n {\"path\":\"a\"}\n".into(), Format::Json, None, &[]),
    ] {
        let found = recognise(name.as_bytes(), head.as_bytes()).unwrap_or_else(|| panic!("{name}: {head}"));
        assert_eq!(
            (found.format, found.named, &found.algorithms[..]),
            (format, named, algorithms),
            "{name}: {head}"
        );
    }
    for head in ["", "\n# nothing\n", "a\n", "PK\x03\x04\0\0", "<html>"] {
        assert_eq!(recognise(b"SHA256SUMS", head.as_bytes()), None, "{head}");
    }
}

/// Paths that every grammar has trouble with, and that no manifest refuses.
fn path() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => prop::sample::select(&b"\\\n\r\t %*\",(){}#=.-nr0A25"[..]),
        2 => any::<u8>(),
    ];
    let name = prop::collection::vec(byte.prop_filter("of a name", |b| !matches!(b, 0 | b'/')), 1..9)
        .prop_filter("leads elsewhere", |name| name != b"." && name != b"..");
    prop::collection::vec(name, 1..4).prop_map(|names| names.join(&b'/'))
}

fn entry() -> impl Strategy<Value = Entry> {
    const KINDS: [Kind; 7] = [
        Kind::File,
        Kind::Directory,
        Kind::Symlink,
        Kind::Fifo,
        Kind::Socket,
        Kind::Block,
        Kind::Char,
    ];
    let facts = (
        prop::option::of(prop::sample::select(&KINDS[..])),
        any::<Option<u64>>(),
        any::<Option<i64>>(),
        any::<Option<i64>>(),
        prop::option::of(0..0o10000_u32),
        any::<(Option<u32>, Option<u32>, Option<u64>)>(),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..9)),
    );
    (path(), any::<[[u8; 64]; 6]>(), facts).prop_map(|(path, bytes, facts)| {
        let (kind, size, mtime, ctime, mode, (uid, gid, link_group), target) = facts;
        let digests = Algorithm::ALL.into_iter().zip(bytes);
        Entry {
            path,
            digests: digests
                .map(|(algorithm, bytes)| Digest::new(algorithm, &bytes[..algorithm.digest_bytes()]).unwrap())
                .collect(),
            kind,
            size,
            mtime: mtime.map(i128::from),
            ctime: ctime.map(|time| i128::from(time) * 1_000_000_007),
            mode,
            uid,
            gid,
            target,
            link_group,
        }
    })
}

/// Bytes that look like manifests.
fn raw() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => prop::sample::select(&[
            MD5, SHA256, "BLAKE3 (", ") = ", "  ", " *", "../", "/", "\\", "%0A", "%%%% HASHDEEP-1.0\n",
            "%%%% size,md5,filename\n", "3,", "{\"path\":\"", "\"}\n", "\",\"pathBase64\":\"", "Li4v", "\\u00", "\\ud8",
            "\\udc", "\",\"size\":", "\"digests\":{", "\n", "\0", "\r", "a", ".",
        ][..]).prop_map(|part| part.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn what_is_written_reads_back(entries in prop::collection::vec(entry(), 1..6), piece in 1..200_usize) {
        for format in FORMATS {
            for algorithm in Algorithm::ALL {
                let Ok(writer) = Writer::new(format, &[algorithm]) else {
                    prop_assert_eq!(format, Format::Hashdeep);
                    continue;
                };
                let mut text = Vec::new();
                writer.head(&mut text);
                let mut expected = Vec::new();
                for entry in &entries {
                    let before = text.len();
                    match writer.entry(entry, &mut text) {
                        Ok(()) if format == Format::Json => expected.push(entry.clone()),
                        Ok(()) => expected.push(Entry {
                            size: entry.size.filter(|_| format == Format::Hashdeep),
                            ..Entry::new(entry.path.clone(), vec![*entry.digest(algorithm).unwrap()])
                        }),
                        Err(_) => prop_assert_eq!(text.len(), before),
                    }
                }
                if expected.is_empty() {
                    continue;
                }
                let all = read(&mut Reader::new(format, Some(algorithm)), &text, piece);
                let shown = text.escape_ascii().to_string();
                let found: Vec<_> = all.into_iter().map(|listed| listed.unwrap().entry).collect();
                prop_assert_eq!(found, expected, "{}", shown);
                if !matches!(format, Format::Bagit) {
                    prop_assert_eq!(recognise(b"", &text).unwrap().format, format, "{}", shown);
                }
            }
        }
    }

    #[test]
    fn raw_bytes_give_no_path_that_is_refused(bytes in raw(), piece in 1..40_usize) {
        for format in FORMATS {
            for algorithm in [None, Some(Algorithm::Md5), Some(Algorithm::Blake3)] {
                let whole = read(&mut Reader::new(format, algorithm), &bytes, bytes.len().max(1));
                for listed in whole.iter().flatten() {
                    prop_assert_eq!(inside(&listed.entry.path), Ok(listed.entry.path.clone()));
                }
                // How the bytes arrive changes nothing.
                prop_assert_eq!(&read(&mut Reader::new(format, algorithm), &bytes, piece), &whole);
            }
        }
        for name in [&b""[..], b"SHA256SUMS", b"manifest-md5.txt", &bytes] {
            recognise(name, &bytes);
        }
    }

    #[test]
    fn a_path_keeps_its_components(path in path(), noise in prop::sample::select(&["./", "", ".//./"][..])) {
        prop_assert_eq!(inside(&path), Ok(path.clone()));
        let noisy = [noise.as_bytes(), &path, b"/./"].concat();
        prop_assert_eq!(inside(&noisy), Ok(path));
    }
}
