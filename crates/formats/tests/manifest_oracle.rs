//! Manifests against the programs whose formats they are: what they write is read, what is written they take.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod oracle;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Command, Output};

use bulkhaul_formats::digest::{Algorithm, Hashers};
use bulkhaul_formats::manifest::{Entry, Format, Problem, Reader, Writer};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use tempfile::TempDir;

/// Names that formats have trouble with, sorted by their bytes.
fn names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        &b"plain"[..],
        b" leading",
        b"trailing ",
        b"two  blanks",
        b"*star",
        b"-x",
        b"--check",
        b"#comment",
        b"back\\slash",
        b"\\leading",
        b"literal\\n",
        b"new\nline",
        b"\n",
        b"ends\n",
        b"carriage\rreturn",
        b"ends\r",
        b"tab\there",
        b"a,b",
        b"percent%0A",
        b"paren) = (x",
        b"MD5 (a) = b",
        b"\"quoted\"",
        b"\x01\x1b[31m\x7f",
        b"caf\xc3\xa9",
        b"latin\xe9",
        b"\xff",
        b"\xed\xb2\x80",
        b"replaced\xef\xbf\xbd",
        b"...",
        b"900150983cd24fb0d6963f7d28e17f72  x",
    ]
    .map(<[u8]>::to_vec)
    .into();
    names.push(b"x".repeat(255));
    names.sort();
    names
}

/// A tree with a file of each name, and one below a directory; with sizes around the blocks of the algorithms.
fn tree(names: &[Vec<u8>], algorithms: &[Algorithm]) -> (TempDir, Vec<Entry>) {
    let rig = tempfile::tempdir().unwrap();
    fs::create_dir(rig.path().join("d")).unwrap();
    let sizes = [
        0, 1, 55, 56, 63, 64, 65, 111, 112, 128, 1023, 1024, 1025, 4097, 65_537, 200_000,
    ];
    let mut entries = Vec::new();
    let mut hashers = Hashers::new(algorithms);
    let mut paths = names.to_vec();
    paths.extend(names.iter().map(|name| [b"d/", &name[..]].concat()));
    paths.sort();
    for (index, path) in paths.into_iter().enumerate() {
        let size = sizes[index % sizes.len()];
        let content: Vec<u8> = (0..=255).cycle().skip(index).take(size).collect();
        fs::write(rig.path().join(OsStr::from_bytes(&path)), &content).unwrap();
        hashers.update(&content);
        entries.push(Entry {
            size: Some(size as u64),
            ..Entry::new(path, hashers.finish())
        });
    }
    (rig, entries)
}

fn run(program: &str, directory: &Path, arguments: &[&str], paths: &[OsString]) -> Output {
    Command::new(program)
        .args(arguments)
        .args(paths)
        .current_dir(directory)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap()
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

fn read(format: Format, algorithm: Option<Algorithm>, text: &[u8]) -> Vec<Entry> {
    let mut reader = Reader::new(format, algorithm);
    let mut entries: Vec<_> = reader.read(text).map(|listed| listed.unwrap().entry).collect();
    entries.extend(reader.finish().unwrap().map(|listed| listed.entry));
    entries
}

/// Each with that digest only.
fn with(entries: &[Entry], algorithm: Algorithm) -> Vec<Entry> {
    let one = |entry: &Entry| Entry::new(entry.path.clone(), vec![*entry.digest(algorithm).unwrap()]);
    entries.iter().map(one).collect()
}

fn as_paths(entries: &[Entry]) -> Vec<OsString> {
    entries
        .iter()
        .map(|entry| OsString::from_vec(entry.path.clone()))
        .collect()
}

#[test]
fn coreutils() {
    let programs = [
        ("sha256sum", Algorithm::Sha256),
        ("sha512sum", Algorithm::Sha512),
        ("md5sum", Algorithm::Md5),
    ];
    let (rig, entries) = tree(&names(), &programs.map(|(_, algorithm)| algorithm));
    let paths = as_paths(&entries);
    for (program, algorithm) in programs {
        if !oracle::available(program) {
            continue;
        }
        let ours = with(&entries, algorithm);
        let theirs = |options: &[&str]| {
            let output = run(program, rig.path(), &[options, &["--"]].concat(), &paths);
            assert!(output.status.success(), "{output:?}");
            output.stdout
        };
        let text = written(Format::Sums, &[algorithm], &entries);
        assert_eq!(theirs(&[]).escape_ascii().to_string(), text.escape_ascii().to_string());
        assert_eq!(theirs(&["-z"]), written(Format::SumsNul, &[algorithm], &entries));
        for (options, format) in [
            (&["-b"][..], Format::Sums),
            (&["--tag"], Format::Sums),
            (&["--tag", "-z"], Format::SumsNul),
        ] {
            assert_eq!(
                read(format, Some(algorithm), &theirs(options)),
                ours,
                "{program} {options:?}"
            );
        }
        let list = tempfile::NamedTempFile::new().unwrap();
        fs::write(list.path(), text).unwrap();
        let checked = run(program, rig.path(), &["--check", "--strict"], &[list.path().into()]);
        assert!(checked.status.success(), "{checked:?}");
    }
}

#[test]
fn b3sum() {
    if !oracle::available("b3sum") {
        return;
    }
    // Those that know --tag escape CR, as coreutils do; by 1.2 a name with it can't be checked.
    let help = run("b3sum", Path::new("/"), &["--help"], &[]);
    let escapes = String::from_utf8(help.stdout).unwrap().contains("--tag");
    let mut names = names();
    names.retain(|name| std::str::from_utf8(name).is_ok_and(|name| !name.contains('\u{fffd}')));
    names.retain(|name| escapes || !name.contains(&b'\r'));
    let (rig, entries) = tree(&names, &[Algorithm::Blake3]);
    let text = written(Format::Sums, &[Algorithm::Blake3], &entries);
    let theirs = run("b3sum", rig.path(), &["--"], &as_paths(&entries));
    assert!(theirs.status.success(), "{theirs:?}");
    assert_eq!(
        theirs.stdout.escape_ascii().to_string(),
        text.escape_ascii().to_string()
    );
    if escapes {
        let tagged = run("b3sum", rig.path(), &["--tag", "--"], &as_paths(&entries));
        assert_eq!(
            read(Format::Sums, None, &tagged.stdout),
            with(&entries, Algorithm::Blake3)
        );
    }
    assert_eq!(
        read(Format::Sums, Some(Algorithm::Blake3), &text),
        with(&entries, Algorithm::Blake3)
    );
    let list = tempfile::NamedTempFile::new().unwrap();
    fs::write(list.path(), text).unwrap();
    let checked = run("b3sum", rig.path(), &["--check"], &[list.path().into()]);
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn hashdeep() {
    if !oracle::available("hashdeep") {
        return;
    }
    let mut names = names();
    // A CR at the end it takes for a part of the line's end, also where it wrote it itself.
    names.retain(|name| !name.contains(&b'\n') && !name.ends_with(b"\r"));
    let both = [Algorithm::Md5, Algorithm::Sha256];
    let (rig, mut entries) = tree(&names, &both);
    let list = tempfile::NamedTempFile::new().unwrap();
    for algorithms in [&both[..], &both[..1], &both[1..]] {
        for entry in &mut entries {
            entry.digests.retain(|digest| both.contains(&digest.algorithm()));
        }
        let known: Vec<_> = algorithms.iter().map(|algorithm| algorithm.name()).collect();
        let theirs = run("hashdeep", rig.path(), &["-c", &known.join(","), "-r", "-l", "."], &[]);
        assert!(theirs.status.success(), "{theirs:?}");
        let mut found = read(Format::Hashdeep, None, &theirs.stdout);
        found.sort_by(|a, b| a.path.cmp(&b.path));
        let mut expected = entries.clone();
        for entry in &mut expected {
            entry.digests.retain(|digest| algorithms.contains(&digest.algorithm()));
        }
        assert_eq!(found, expected);

        fs::write(list.path(), written(Format::Hashdeep, algorithms, &entries)).unwrap();
        let options = ["-r", "-l", "-a", "-vv", ".", "-k"];
        let audit = run("hashdeep", rig.path(), &options, &[list.path().into()]);
        assert!(audit.status.success(), "{audit:?}");
        assert!(audit.stdout.starts_with(b"hashdeep: Audit passed\n"), "{audit:?}");
    }
}

const HEX: &str = "900150983cd24fb0d6963f7d28e17f72";

fn line() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::string::bytes_regex(r"(?-u)[ *a\\\t\)#n\xff=]{0,3}b[ca \)\r]{0,3}").unwrap();
    let escaped = prop::string::bytes_regex(r"([ *a]|\\n|\\r|\\\\|\\x){0,3}b\\?").unwrap();
    let line = (
        prop::sample::select(&["", "", "", "", " ", "\t "][..]),
        prop::sample::select(&["", "", "", "\\"][..]),
        prop_oneof![3 => name, 1 => escaped],
        prop::sample::select(&["  ", "  ", "  ", " *", "\t ", "", "--"][..]),
        prop::sample::select(&["MD5 (", "MD5(", "MD5  (", "SHA9 (", "MD5"][..]),
        prop::sample::select(&[") = ", ")= ", ")=", ") =", ") \t= \t", "= ", ") == "][..]),
        prop::sample::select(&["", "", "", "\r", "\r\r"][..]),
        prop::sample::select(
            &[
                HEX,
                HEX,
                HEX,
                "900150983CD24FB0D6963f7d28e17f72",
                "900150983cd24fb0d6963f7d28e17f7x",
            ][..],
        ),
        any::<bool>(),
    );
    line.prop_map(|(blanks, mark, name, separator, open, close, end, hex, tagged)| {
        let (before, after) = (blanks.to_owned() + mark, end.to_owned());
        if tagged {
            [
                (before + open).as_bytes(),
                &name,
                (close.to_owned() + hex + &after).as_bytes(),
            ]
            .concat()
        } else {
            [(before + hex + separator).as_bytes(), &name, after.as_bytes()].concat()
        }
    })
}

/// Random lines: the same ones are refused as in md5sum, and the others are of the same files.
#[test]
fn lines_as_md5sum() {
    if !oracle::available("md5sum") {
        return;
    }
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::default()
    });
    let rig = tempfile::tempdir().unwrap();
    // Several files, some of which begin with a line of one blank.
    for round in 0..8 {
        let first = format!("{HEX}{}first", if round % 4 == 0 { " " } else { "  " }).into_bytes();
        let mut lines = vec![first];
        lines.extend((0..1000).map(|_| line().new_tree(&mut runner).unwrap().current()));
        let text = lines.join(&b'\n');
        fs::write(rig.path().join("list"), &text).unwrap();
        let output = run("md5sum", rig.path(), &["--check", "--warn", "list"], &[]);
        let warnings = String::from_utf8_lossy(&output.stderr).into_owned();
        let refused: BTreeSet<usize> = warnings
            .lines()
            .filter_map(|line| {
                line.strip_prefix("md5sum: list: ")?
                    .strip_suffix(": improperly formatted MD5 checksum line")
            })
            .map(|number| number.parse().unwrap())
            .collect();

        let mut reader = Reader::new(Format::Sums, Some(Algorithm::Md5));
        let mut listed: Vec<_> = reader.read(&text).collect();
        listed.extend(reader.finish().transpose());
        let writer = Writer::new(Format::Sums, &[Algorithm::Md5]).unwrap();
        let mut ours = BTreeSet::new();
        let mut results = Vec::new();
        for listed in listed {
            match listed {
                Ok(listed) => {
                    let mut line = Vec::new();
                    writer.entry(&listed.entry, &mut line).unwrap();
                    let mark = usize::from(line.starts_with(b"\\"));
                    let name = [&line[..mark], &line[mark + HEX.len() + 2..line.len() - 1]].concat();
                    results.push([name, listed.entry.path].map(|name| [&name[..], b": FAILED open or read"].concat()));
                }
                Err(error) => {
                    assert!(
                        matches!(
                            error.problem,
                            Problem::Line(_) | Problem::Algorithm(_) | Problem::Digits(_)
                        ),
                        "{error}"
                    );
                    ours.insert(usize::try_from(error.line).unwrap());
                }
            }
        }
        let show = |line: &usize| format!("{line}: {}", lines[line - 1].escape_ascii());
        let different: Vec<_> = ours.symmetric_difference(&refused).map(show).collect();
        assert_eq!(different, [""; 0], "refused by one of the two");
        assert!(refused.len() > 100 && results.len() > 100, "too few to mean anything");
        let theirs: Vec<_> = output
            .stdout
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .collect();
        assert_eq!(theirs.len(), results.len());
        for (theirs, ours) in theirs.into_iter().zip(results) {
            // Escaped where a newline is in it, by some versions also for a backslash.
            assert!(
                ours.iter().any(|ours| ours == theirs),
                "{}: {}",
                ours[0].escape_ascii(),
                theirs.escape_ascii()
            );
        }
    }
}

/// JSON of ours in Python, and of Python here: there a byte that is not UTF-8 is a lone surrogate.
#[test]
fn json_as_python() {
    if !oracle::available("python3") {
        return;
    }
    let (rig, entries) = tree(&names(), &[Algorithm::Md5]);
    let list = rig.path().join("list");
    fs::write(&list, written(Format::Json, &[Algorithm::Md5], &entries)).unwrap();
    let script = "import base64, json, os, sys
for line in list(open(sys.argv[1], encoding='utf-8', newline='\\n'))[1:]:
    entry = json.loads(line)
    raw = entry.pop('pathBase64', None)
    path = base64.b64decode(raw, validate=True) if raw else entry['path'].encode()
    assert entry['path'] == path.decode('utf-8', 'replace')
    entry['path'] = os.fsdecode(path)
    print(json.dumps(entry, ensure_ascii=len(path) % 2 == 0 or bool(raw)))";
    let output = run("python3", rig.path(), &["-X", "utf8", "-c", script], &[list.into()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(read(Format::Json, None, &output.stdout), entries);
}
