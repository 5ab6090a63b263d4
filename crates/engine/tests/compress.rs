//! Compression in place and back: what others make of the archives, what is left alone, and that whatever fails, dies, fills
//! up or lies, each file is there, or its proved archive, and never neither.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

use bulkhaul_engine::ArchiveFormat as Format;
use bulkhaul_engine::compress::options::{CompressOptions, DecompressOptions, Files};
use bulkhaul_engine::compress::{compression, decompression};
use bulkhaul_engine::entry::{Outcome, Reason};
use bulkhaul_engine::error::{Refusal, symbol};
use bulkhaul_engine::event::{EntryEvent, Event};
use bulkhaul_engine::job::Job;
use bulkhaul_engine::report::Report;
use bulkhaul_engine::walk::names::FilesFrom;
use bulkhaul_engine::walk::start::Root;
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};
use bulkhaul_sys::{Errno, Kind};

use crate::faults::assert_none;
use crate::power::Disk;
use crate::rig::fault::{again, can_hold_everything, each, exhaustive, finish, order, say, stopped, with_stops};
use crate::rig::{NOBODY, Scratch, Tree, alone, apart, content, has_staging, modified, run, watch};

/// The only root, for what is in it.
pub fn files(path: &Path) -> Files {
    Files {
        sources: vec![Root {
            path: path.as_os_str().as_bytes().to_vec(),
            follow: false,
            contents: false,
            pin: None,
        }],
        jobs: 2,
        entry_events: true,
        ..Files::default()
    }
}

/// Runs a job: its books agree, and its events with them.
fn checked(job: Result<Job, Refusal>) -> Report {
    run(&job.unwrap()).unwrap().report
}

fn packing(path: &Path, change: impl FnOnce(&mut CompressOptions)) -> CompressOptions {
    let mut options = CompressOptions {
        files: files(path),
        ..CompressOptions::default()
    };
    change(&mut options);
    options
}

fn compress(path: &Path, change: impl FnOnce(&mut CompressOptions)) -> Report {
    checked(compression(packing(path, change)))
}

fn decompress(path: &Path, change: impl FnOnce(&mut DecompressOptions)) -> Report {
    let mut options = DecompressOptions {
        files: files(path),
        ..DecompressOptions::default()
    };
    change(&mut options);
    checked(decompression(options))
}

fn complete(report: Report) -> Report {
    assert!(report.is_complete(), "{report:#?}");
    report
}

/// Of files: how many were compressed or decompressed.
fn done(report: &Report) -> u64 {
    report.totals.file_outcomes[Outcome::Copied as usize]
}

/// The failures, sorted: kind, operation, errno if there is one, and the last part of the path.
fn failures(report: &Report) -> Vec<String> {
    let line = |failure: &bulkhaul_engine::error::Failure| {
        let name = failure.path.rsplit(|byte| *byte == b'/').next().unwrap();
        let errno = failure.errno.map_or_else(|| "-".to_owned(), symbol);
        format!(
            "{} {} {errno} {}",
            failure.kind,
            failure.operation.text(),
            String::from_utf8_lossy(name)
        )
    };
    let mut lines: Vec<String> = report.failures.iter().map(line).collect();
    lines.sort();
    lines
}

/// Text that becomes smaller, other text for each seed.
pub fn text(seed: u8, length: usize) -> Vec<u8> {
    content(seed, 64)
        .into_iter()
        .cycle()
        .enumerate()
        .map(|(at, byte)| if at % 97 == 0 { b'\n' } else { byte & 0x3f | 0x40 })
        .take(length)
        .collect()
}

/// Whether a name has this extension.
fn is_a(name: &str, extension: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, end)| end == extension)
}

/// What is in an archive, by the program that is made for it.
pub fn content_of(archive: &Path) -> Option<Vec<u8>> {
    let program = match archive.extension()?.to_str()? {
        "gz" => "gzip",
        "xz" => "xz",
        "zst" => "zstd",
        _ => return None,
    };
    let output = Command::new(program)
        .args(["-q", "-d", "-c"])
        .arg(archive)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    output.status.success().then_some(output.stdout)
}

/// The same the other way round, by gzip.
fn gzip(content: &[u8]) -> Vec<u8> {
    let scratch = Scratch::new();
    let file = scratch.at("content");
    fs::write(&file, content).unwrap();
    let output = Command::new("gzip").args(["-n", "-c"]).arg(&file).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Mode, owner, group, time, content, and attributes as getfattr prints them.
type Facts = (u32, u32, u32, (i64, u32), Vec<u8>, String);

/// Facts of the files of a tree that are no directories, by name.
fn facts(root: &Path) -> BTreeMap<String, Facts> {
    let names = Tree::new(root.to_owned()).names();
    let of = |name: &String| {
        let path = root.join(name);
        let about = fs::symlink_metadata(&path).unwrap();
        if !about.is_file() {
            return None;
        }
        let attributes = Command::new("getfattr")
            .args(["-d", "-m", "-", "--absolute-names"])
            .arg(&path)
            .output();
        let attributes = attributes.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        // Without the line that names the file.
        let attributes = attributes.unwrap_or_default();
        let attributes = attributes.split_once('\n').map_or("", |(_, rest)| rest).to_owned();
        Some((
            name.clone(),
            (
                about.mode(),
                about.uid(),
                about.gid(),
                modified(&path),
                fs::read(&path).unwrap(),
                attributes,
            ),
        ))
    };
    names.iter().filter_map(of).collect()
}

/// A tree of files that become smaller, with all metadata that a file can have.
fn fill(tree: &Tree) {
    tree.file("a.tsv", text(1, 3000)).mode("a.tsv", 0o640);
    tree.file("b.TSV", text(2, 200_000)).mode("b.TSV", 0o4755);
    tree.file("d/c.tar.foo", text(3, 70_000));
    tree.file("d/e/deep.tsv", text(4, 1000)).mode("d/e/deep.tsv", 0o444);
    if crate::rig::root() {
        tree.owner("a.tsv", 12, 34).mode("a.tsv", 0o640);
        tree.owner("b.TSV", 56, 78).mode("b.TSV", 0o4755);
        tree.xattr("a.tsv", "user.colour", b"green");
    }
    for (number, name) in ["a.tsv", "b.TSV", "d/c.tar.foo", "d/e/deep.tsv"].iter().enumerate() {
        tree.time(name, 1_500_000_000 + i64::try_from(number).unwrap(), 123_456_789);
    }
}

#[test]
fn there_and_back_in_every_format() {
    for format in Format::ALL {
        let scratch = Scratch::new();
        let tree = scratch.tree("t");
        fill(&tree);
        let before = facts(tree.path());
        let report = complete(compress(tree.path(), |o| o.format = format));
        assert_eq!((done(&report), report.totals.verified_files), (4, 4), "{format:?}");
        let after = facts(tree.path());
        assert_eq!(after.len(), 4);
        for (name, (mode, uid, gid, time, content, attributes)) in &before {
            let archive = format!("{name}{}", format.suffix());
            let now = &after[&archive];
            assert_eq!(
                (&now.0, &now.1, &now.2, &now.3, &now.5),
                (mode, uid, gid, time, attributes),
                "{archive}"
            );
            assert!(now.4.len() < content.len());
            assert!(content_of(&tree.at(&archive)).unwrap() == *content, "{archive}");
        }
        let sums: Vec<_> = report
            .conversions
            .iter()
            .map(|c| (c.extension.as_slice(), c.files))
            .collect();
        assert_eq!(sums, [(b"tsv".as_slice(), 3), (b"foo".as_slice(), 1)]);
        // Once more: nothing is left to do.
        let again = complete(compress(tree.path(), |o| o.format = format));
        assert_eq!((done(&again), again.totals.reason_of(Reason::Compressed)), (0, 4));
        let tested = complete(decompress(tree.path(), |o| o.test = true));
        assert_eq!(tested.totals.file_outcomes[Outcome::Same as usize], 4);
        let back = complete(decompress(tree.path(), |_| ()));
        assert_eq!(done(&back), 4);
        assert!(facts(tree.path()) == before, "{format:?}");
        assert!(!has_staging(tree.path()));
    }
}

#[test]
fn what_is_chosen_and_what_is_left_alone() {
    let scratch = Scratch::new();
    let tree = scratch.tree("t");
    let long = text(1, 5000);
    for name in ["a.tsv", "b.TSV", "c.tar.foo", "d.foo", "e.tsv.bak", ".tsv", "tsv"] {
        tree.file(name, &long);
    }
    tree.file("small.tsv", text(2, 400));
    tree.file("random.tsv", content(3, 30));
    tree.file("empty.tsv", "")
        .file("gz.tsv", [b"\x1f\x8b\x08\x00", long.as_slice()].concat());
    tree.file("one.tsv", &long).link("two.tsv", "one.tsv");
    tree.symlink("link.tsv", "a.tsv").special("fifo.tsv", Kind::Fifo, 0);
    let report = complete(compress(tree.path(), |o| {
        o.files.extensions = vec![b".Tsv".to_vec(), b"tar.foo".to_vec()];
    }));
    let names = tree.names();
    for made in ["a.tsv.gz", "b.TSV.gz", "c.tar.foo.gz", "small.tsv.gz"] {
        assert!(names.contains(&made.to_owned()), "{made}: {names:?}");
    }
    assert_eq!(done(&report), 4);
    let reasons = [
        (Reason::OtherSuffix, 4),
        (Reason::NotSmaller, 2),
        (Reason::Compressed, 1),
        (Reason::SeveralNames, 2),
        (Reason::Symlink, 1),
        (Reason::Special, 1),
        // The directory.
        (Reason::NotAFile, 1),
    ];
    for (reason, number) in reasons {
        assert_eq!(report.totals.reason_of(reason), number, "{reason:?}");
    }
    let mut notes: Vec<_> = report.notes.iter().map(|note| note.kind.as_str()).collect();
    notes.sort_unstable();
    assert_eq!(notes, ["several-names", "special", "symlink"]);
    // What would not be smaller, all the same.
    let report = complete(compress(tree.path(), |o| {
        (o.force, o.files.extensions) = (true, vec![b"tsv".to_vec()]);
        o.files.min_size = 10;
    }));
    assert_eq!((done(&report), report.totals.reason_of(Reason::TooSmall)), (1, 1));
    assert!(content_of(&tree.at("random.tsv.gz")).unwrap() == content(3, 30));
}

/// Arguments below a directory, as they are.
fn roots<T: AsRef<str>>(directory: &Path, paths: &[T]) -> Vec<Root> {
    let root = |path: &T| Root {
        path: format!("{}/{}", directory.to_str().unwrap(), path.as_ref()).into(),
        follow: false,
        contents: false,
        pin: None,
    };
    paths.iter().map(root).collect()
}

#[test]
fn what_several_arguments_name_is_done_once() {
    // Each with the directories that are found below another argument, and left to the one that names them. A file may have
    // gone before that.
    let cases: [(&[&str], Option<u64>); 7] = [
        (&["t", "t/d"], Some(1)),
        (&["t/d/", "t"], Some(1)),
        (&["t", "./t/.", "link/"], Some(0)),
        (&["t", "t/d/f1.tsv", "link/d/f2.tsv", "link/d"], None),
        (&["t/d/f1.tsv", "t", "t//d/./f1.tsv"], None),
        (&["t", "link"], Some(0)),
        (&["t/d/e", "t/d", "t"], Some(2)),
    ];
    for (arguments, twice) in cases {
        let scratch = Scratch::new();
        let tree = scratch.tree("t");
        for number in 0..8 {
            tree.file(format!("d/f{number}.tsv"), text(number, 20_000));
            tree.file(format!("d/e/g{number}.tsv"), text(number, 20_000));
        }
        std::os::unix::fs::symlink("t", scratch.at("link")).unwrap();
        let packed = complete(compress(tree.path(), |o| {
            o.files.sources = roots(scratch.path(), arguments);
        }));
        let archive = |path: &&str| {
            if is_a(path, "tsv") {
                format!("{path}.gz")
            } else {
                (*path).into()
            }
        };
        let archives: Vec<String> = arguments.iter().map(archive).collect();
        let unpacked = complete(decompress(tree.path(), |o| {
            o.files.sources = roots(scratch.path(), &archives);
        }));
        for report in [packed, unpacked] {
            assert_eq!(done(&report), 16, "{arguments:?}");
            if let Some(twice) = twice {
                assert_eq!(report.totals.reason_of(Reason::Overridden), twice, "{arguments:?}");
            }
        }
    }
}

#[test]
fn of_archives_with_one_content_name_the_first_is_made_and_the_others_are_compared() {
    const EACH: u8 = 40;
    let pack = |tree: &Tree, name: &str, content: &[u8], format: Format| {
        tree.file(name, content);
        complete(compress(&tree.at(name), |o| (o.format, o.force) = (format, true)));
    };
    for by_name in [false, true] {
        let scratch = Scratch::new();
        let tree = scratch.tree("t");
        for number in 0..EACH {
            let (one, other) = (text(number, 3000), text(number + 100, 3000));
            let (same, different) = (format!("same{number}"), format!("different{number}"));
            for (name, second) in [(&same, &one), (&different, &other)] {
                // What comes last by its name is there first.
                pack(&tree, name, second, Format::Xz);
                pack(&tree, name, &one, Format::Gzip);
            }
            // What does not end in small letters comes after what does.
            let spelt = format!("spelt{number}");
            for (end, content) in [("GZ", &other), ("Xz", &one), ("xz", &one)] {
                pack(
                    &tree,
                    &spelt,
                    content,
                    if end == "GZ" { Format::Gzip } else { Format::Xz },
                );
                let made = end.to_ascii_lowercase();
                fs::rename(tree.at(format!("{spelt}.{made}")), tree.at(format!("{spelt}.{end}"))).unwrap();
            }
            // Only the second is whole.
            let damaged = format!("damaged{number}");
            pack(&tree, &damaged, &one, Format::Zstd);
            tree.file(format!("{damaged}.gz"), b"\x1f\x8b\x08\x00 and no more");
            // What has the name of the content is to become its own.
            let double = format!("double{number}");
            tree.file(format!("{double}.gz.gz"), gzip(&gzip(&one)));
            tree.file(format!("{double}.gz"), gzip(&other));
        }
        let report = decompress(tree.path(), |o| {
            if by_name {
                o.files.sources = roots(tree.path(), &tree.names());
            }
        });
        let each = u64::from(EACH);
        assert_eq!(done(&report), 6 * each, "{report:#?}");
        assert_eq!(report.totals.file_outcomes[Outcome::Removed as usize], 2 * each);
        let of_kind = |kind: &str| report.failures.iter().filter(|f| f.kind == kind).count() as u64;
        assert_eq!(
            (of_kind("conflict"), of_kind("damaged")),
            (2 * each, each),
            "{:?}",
            failures(&report)
        );
        for number in 0..EACH {
            let (one, other) = (text(number, 3000), text(number + 100, 3000));
            let read = |name: &str| tree.read(format!("{name}{number}"));
            assert!(read("same") == one && read("different") == one && read("damaged") == one);
            assert!(read("double") == other && read("spelt") == one && tree.at(format!("spelt{number}.GZ")).exists());
            assert_eq!(content_of(&tree.at(format!("double{number}.gz"))), Some(one.clone()));
            assert_eq!(content_of(&tree.at(format!("different{number}.xz"))), Some(other));
        }
        assert_eq!(tree.names().len(), 9 * usize::from(EACH), "{:?}", tree.names());
    }
}

#[test]
fn what_was_made_is_not_taken_for_an_archive_that_was_there() {
    const FILES: usize = 1500;
    let scratch = Scratch::new();
    let tree = scratch.tree("t");
    let double = gzip(&gzip(&text(1, 300)));
    for number in 0..FILES {
        tree.file(format!("{number}.gz.gz"), &double);
    }
    let report = complete(decompress(tree.path(), |_| ()));
    assert_eq!(done(&report), FILES as u64);
    assert!(tree.names().iter().all(|name| is_a(name, "gz")));
}

#[test]
fn names_of_a_list_and_no_others() {
    let scratch = Scratch::new();
    let tree = scratch.tree("t");
    for name in ["a", "b", "d/a", "d/b"] {
        tree.file(name, text(1, 5000));
    }
    let list = scratch.at("list");
    fs::write(&list, "a\nd/b\nmissing\n../outside\n").unwrap();
    let report = compress(tree.path(), |o| {
        o.files.files_from = Some(FilesFrom {
            path: list.as_os_str().as_bytes().to_vec(),
            nul: false,
            contents: false,
        });
    });
    assert_eq!(
        failures(&report),
        ["missing stat ENOENT missing", "outside open - outside"]
    );
    assert_eq!(done(&report), 2);
    assert_eq!(tree.names(), ["a.gz", "b", "d", "d/a", "d/b.gz"]);
}

#[test]
fn a_dry_run_tells_and_does_nothing() {
    let scratch = Scratch::new();
    let tree = scratch.tree("t");
    fill(&tree);
    tree.file("same", text(5, 3000));
    complete(compress(&tree.at("same"), |o| o.files.keep = true));
    let before = facts(tree.path());
    let report = complete(compress(tree.path(), |o| o.files.dry_run = true));
    assert_eq!((done(&report), report.totals.outcome_of(Outcome::Removed)), (4, 1));
    assert!(facts(tree.path()) == before);
    let sums: Vec<_> = report.conversions.iter().map(|c| (c.before, c.after)).collect();
    assert_eq!(sums, [(204_000, 0), (70_000, 0)]);
}

/// Archives whose fates depend on each other: what a dry run says of them is what the run does then.
#[test]
fn a_dry_run_says_of_archives_of_one_content_what_the_run_does() {
    let scratch = Scratch::new();
    let lay_out = |tree: &Tree| {
        let pack = |name: &str, content: &[u8], format: Format| {
            tree.file(name, content);
            complete(compress(&tree.at(name), |o| (o.format, o.force) = (format, true)));
        };
        let (one, other) = (text(1, 3000), text(2, 3000));
        for (name, second) in [("same", &one), ("different", &other)] {
            pack(name, &one, Format::Gzip);
            pack(name, second, Format::Xz);
        }
        // Of three the first two have the same.
        pack("three", &one, Format::Gzip);
        pack("three", &one, Format::Xz);
        pack("three", &other, Format::Zstd);
        // What has the name of the content is to become its own.
        tree.file("double.gz.gz", gzip(&gzip(&one)))
            .file("double.gz", gzip(&other));
        // The first leaves no place: what it becomes is there, and is another.
        tree.file("there.gz", gzip(&one))
            .file("there.xz.gz", gzip(b"no archive"));
        pack("there", &one, Format::Xz);
        tree.file("there", &other);
    };
    for (turn, keep) in [false, true].into_iter().enumerate() {
        let tree = scratch.tree(&format!("t{turn}"));
        lay_out(&tree);
        let before = facts(tree.path());
        let run = |dry_run: bool| {
            let options = DecompressOptions {
                files: Files {
                    keep,
                    dry_run,
                    ..files(tree.path())
                },
                ..DecompressOptions::default()
            };
            let ran = crate::rig::run(&decompression(options).unwrap()).unwrap();
            let of_file = |entry: &&EntryEvent| entry.kind == Kind::File;
            let said = ran.entries.iter().filter(of_file).map(|entry| {
                let source = String::from_utf8_lossy(&entry.source);
                format!("{source} {:?} {:?}", entry.outcome, entry.reason)
            });
            let mut said: Vec<_> = said.collect();
            said.sort();
            (said, failures(&ran.report))
        };
        let dry = run(true);
        assert!(facts(tree.path()) == before);
        assert_eq!(dry, run(false), "keep: {keep}");
    }
}

#[test]
fn an_archive_that_is_there_is_compared() {
    let scratch = Scratch::new();
    let tree = scratch.tree("t");
    let (one, other) = (text(1, 5000), text(2, 5000));
    for (name, content) in [
        ("same", &one),
        ("other", &one),
        ("stays", &one),
        ("damaged", &one),
        ("dir", &one),
    ] {
        tree.file(name, content);
    }
    let gzip = |content: &[u8], name: &str| {
        let path = tree.at(name);
        fs::write(&path, content).unwrap();
        let gzipped = Command::new("gzip").args(["-c"]).arg(&path).output().unwrap().stdout;
        fs::remove_file(&path).unwrap();
        fs::write(tree.at(format!("{name}.gz").replace("x-", "")), gzipped).unwrap();
    };
    gzip(&one, "x-same");
    gzip(&other, "x-other");
    gzip(&one, "x-stays");
    gzip(&one, "x-damaged");
    let mut damaged = tree.read("damaged.gz");
    let end = damaged.len() - 5;
    damaged[end] ^= 1;
    tree.file("damaged.gz", damaged).dir("dir.gz");
    tree.mode("same", 0o604).time("same", 1_400_000_000, 5);
    let kept = compress(&tree.at("stays"), |o| o.files.keep = true);
    assert_eq!(kept.totals.reason_of(Reason::Unchanged), 1);
    let report = compress(tree.path(), |_| ());
    assert_eq!(
        failures(&report),
        [
            "conflict create - dir.gz",
            "conflict create - other.gz",
            "damaged verify - damaged.gz"
        ]
    );
    assert_eq!(report.totals.outcome_of(Outcome::Removed), 2);
    let names = [
        "damaged",
        "damaged.gz",
        "dir",
        "dir.gz",
        "other",
        "other.gz",
        "same.gz",
        "stays.gz",
    ];
    assert_eq!(tree.names(), names);
    // It has the place of the file, and so its metadata.
    assert_eq!(
        fs::metadata(tree.at("same.gz")).unwrap().permissions().mode() & 0o7777,
        0o604
    );
    assert_eq!(modified(&tree.at("same.gz")), (1_400_000_000, 5));
    // And back: the same content lets the archive go.
    tree.file("same", &one).file("stays", &other);
    fs::remove_dir(tree.at("dir.gz")).unwrap();
    let report = decompress(tree.path(), |_| ());
    assert_eq!(
        failures(&report),
        [
            "conflict create - other",
            "conflict create - stays",
            "damaged read - damaged.gz"
        ]
    );
    assert_eq!(report.totals.outcome_of(Outcome::Removed), 1);
}

#[test]
fn an_index_is_beside_its_archive() {
    let scratch = Scratch::new();
    let tree = scratch.tree("t");
    tree.file("a", text(1, 300_000)).mode("a", 0o604);
    complete(compress(tree.path(), |o| o.index = true));
    assert_eq!(tree.names(), ["a.gz", "a.gz.gzi"]);
    let index = tree.read("a.gz.gzi");
    let number = |at: usize| u64::from_le_bytes(index[at..at + 8].try_into().unwrap());
    // The number of blocks but the first, then where each begins, in the archive and in the content.
    let entries = usize::try_from(number(0)).unwrap();
    assert_eq!(index.len(), 8 + 16 * entries);
    assert!(entries > 2 && number(16) < number(32) && number(8) < number(24));
    assert_eq!(
        fs::metadata(tree.at("a.gz.gzi")).unwrap().permissions().mode() & 0o7777,
        0o604
    );
    // It is nothing that is to be compressed.
    let again = complete(compress(tree.path(), |o| o.force = true));
    assert_eq!((done(&again), again.totals.reason_of(Reason::Compressed)), (0, 2));
    // It goes with its archive.
    complete(decompress(tree.path(), |_| ()));
    assert_eq!(tree.names(), ["a"]);
    // One that a dead run left is the same; another one is in the way.
    tree.file("a.gz.gzi", &index);
    complete(compress(&tree.at("a"), |o| o.index = true));
    // What is not its index stays: one entry is another, one is missing, or nothing is right.
    let mut other = index.clone();
    other[24] ^= 1;
    let short = [
        &(u64::try_from(entries).unwrap() - 1).to_le_bytes(),
        &index[8..index.len() - 16],
    ]
    .concat();
    for wrong in [other.as_slice(), &short, b"", b"other"] {
        tree.file("a.gz.gzi", wrong);
        let report = complete(decompress(&tree.at("a.gz"), |_| ()));
        assert_eq!(
            report.notes.iter().map(|note| note.kind.as_str()).collect::<Vec<_>>(),
            ["index"]
        );
        assert_eq!(tree.names(), ["a", "a.gz.gzi"]);
        let report = compress(&tree.at("a"), |o| o.index = true);
        assert_eq!(failures(&report), ["conflict rename - a.gz"]);
        assert_eq!(tree.names(), ["a", "a.gz.gzi"]);
        fs::remove_file(tree.at("a.gz.gzi")).unwrap();
        complete(compress(&tree.at("a"), |_| ()));
    }
}

#[test]
fn an_archive_that_was_there_gets_the_index_that_is_asked_for() {
    let scratch = Scratch::new();
    let tree = scratch.tree("t");
    let content = text(1, 300_000);
    let index = |o: &mut CompressOptions| o.index = true;
    tree.file("a", &content).mode("a", 0o604);
    complete(compress(tree.path(), |o| (o.index, o.files.keep) = (true, true)));
    let whole = tree.read("a.gz.gzi");
    for keep in [true, false] {
        fs::remove_file(tree.at("a.gz.gzi")).unwrap();
        let report = complete(compress(&tree.at("a"), |o| (o.index, o.files.keep) = (true, keep)));
        assert_eq!((done(&report), tree.at("a").exists()), (0, keep));
        assert!(tree.read("a.gz.gzi") == whole);
        assert_eq!(fs::metadata(tree.at("a.gz.gzi")).unwrap().mode() & 0o7777, 0o604);
        // It is there, and is what it would be.
        tree.file("a", &content).mode("a", 0o604);
        complete(compress(&tree.at("a"), |o| (o.index, o.files.keep) = (true, true)));
    }
    // Blocks of any length, as other programs make them.
    let member = |bytes: &[u8]| {
        let one = scratch.tree("one");
        one.file("b", bytes);
        complete(compress(&one.at("b"), |o| o.force = true));
        let member = one.read("b.gz");
        fs::remove_file(one.at("b.gz")).unwrap();
        // Without the member of nothing that ends it.
        member[..member.len() - 28].to_vec()
    };
    let parts = [&content[..1000], &content[1000..1001], &content[1001..40_000]];
    let end = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0\x1b\0\x03\0\0\0\0\0\0\0\0\0";
    let members: Vec<Vec<u8>> = parts.map(member).to_vec();
    tree.file("c", parts.concat())
        .file("c.gz", [members.concat().as_slice(), end].concat());
    complete(compress(&tree.at("c"), index));
    let entries = [members[0].len(), 1000, members[0].len() + members[1].len(), 1001];
    let entries = entries.map(|number| (number as u64).to_le_bytes()).concat();
    assert!(tree.read("c.gz.gzi") == [&2_u64.to_le_bytes(), entries.as_slice()].concat());
    // What is no BGZF has none, and what has its name stays.
    tree.file("d", &content).file("d.gz", gzip(&content));
    let report = complete(compress(&tree.at("d"), index));
    assert_eq!(
        report.notes.iter().map(|note| note.kind.as_str()).collect::<Vec<_>>(),
        ["index"]
    );
    tree.file("a.gz.gzi", b"other");
    assert_eq!(failures(&compress(&tree.at("a"), index)), ["conflict create - a.gz"]);
    let left = ["a", "a.gz", "a.gz.gzi", "c.gz", "c.gz.gzi", "d.gz"];
    assert_eq!(tree.names(), left);
}

#[test]
fn as_many_workers_as_there_are_make_the_same_bytes() {
    let scratch = Scratch::new();
    let long = text(7, 9 << 20);
    let mut archives = Vec::new();
    for jobs in [1, 2, 5] {
        let tree = scratch.tree(&jobs.to_string());
        tree.file("long", &long);
        for number in 0..40 {
            tree.file(format!("{}/{number}", number % 3), text(number, 1000));
        }
        complete(compress(tree.path(), |o| o.files.jobs = jobs));
        archives.push(tree.read("long.gz"));
        complete(decompress(tree.path(), |o| o.files.jobs = jobs));
        assert!(tree.read("long") == long);
    }
    assert!(archives[0] == archives[1] && archives[1] == archives[2]);
}

#[test]
fn zeros_become_holes_where_that_is_asked_for() {
    let scratch = Scratch::new();
    let tree = scratch.tree("t");
    let mut long = vec![0; 4 << 20];
    long[..1000].fill(7);
    tree.file("a", &long);
    complete(compress(tree.path(), |_| ()));
    complete(decompress(tree.path(), |o| o.sparse = true));
    assert!(tree.read("a") == long);
    assert!(fs::metadata(tree.at("a")).unwrap().blocks() * 512 < 1 << 20);
}

#[test]
fn damage_of_any_kind_is_told_and_nothing_goes() {
    let scratch = Scratch::new();
    let tree = scratch.tree("t");
    tree.file("a", text(1, 100_000));
    complete(compress(tree.path(), |_| ()));
    let whole = tree.read("a.gz");
    tree.file("cut.gz", &whole[..whole.len() - 1]);
    tree.file("more.gz", [whole.as_slice(), b"more"].concat());
    tree.file("none.gz", "none");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    tree.file("flipped.gz", flipped);
    for test in [true, false] {
        let report = decompress(tree.path(), |o| o.test = test);
        let names = [
            "damaged read - cut.gz",
            "damaged read - flipped.gz",
            "damaged read - more.gz",
        ];
        assert_eq!(failures(&report)[..3], names);
        assert!(
            failures(&report)[3].ends_with(" read - none.gz"),
            "{:?}",
            failures(&report)
        );
        assert_eq!(failures(&report).len(), 4);
    }
    assert_eq!(tree.names(), ["a", "cut.gz", "flipped.gz", "more.gz", "none.gz"]);
}

/// An archive of another program, or one whose name tells no other, is an error where it is named, and left alone where it is
/// only found.
#[test]
fn an_archive_that_is_named_and_does_not_become_its_content_is_told() {
    let scratch = Scratch::new();
    let tree = scratch.tree("t");
    let long = text(1, 3000);
    tree.file("bzip2.bz2", [b"BZh9", long.as_slice()].concat())
        .file("compress.Z", [b"\x1f\x9d\x90", long.as_slice()].concat())
        .file("plain", &long)
        .file("nameless", &long);
    complete(compress(&tree.at("nameless"), |_| ()));
    fs::rename(tree.at("nameless.gz"), tree.at("nameless")).unwrap();
    let names = tree.names();
    for (name, told) in [
        ("bzip2.bz2", Some("foreign read - bzip2.bz2")),
        ("compress.Z", Some("foreign read - compress.Z")),
        ("nameless", Some("conflict read - nameless")),
        ("plain", None),
    ] {
        let report = decompress(&tree.at(name), |_| ());
        assert_eq!(failures(&report), Vec::from_iter(told), "{name}");
    }
    let report = complete(decompress(tree.path(), |_| ()));
    assert_eq!(report.totals.reason_of(Reason::OtherSuffix), 4);
    let notes: Vec<_> = report
        .notes
        .iter()
        .map(|note| (note.kind.as_str(), note.count))
        .collect();
    assert_eq!(notes, [("foreign", 2)]);
    assert_eq!(tree.names(), names);
}

/// An archive that needs what is missing here may be whole: nobody is told that it is damaged.
#[test]
fn what_can_not_be_read_here_is_not_damaged() {
    let scratch = Scratch::new();
    let tree = scratch.tree("t");
    // Frames that look back 2^28 bytes, and that need the dictionary 7, each with one block of one byte as it is.
    let frame = |header: &[u8]| [b"\x28\xb5\x2f\xfd", header, b"\x09\0\0x"].concat();
    tree.file("wide.zst", frame(b"\0\x90"))
        .file("dictionary.zst", frame(b"\x01\0\x07"))
        .file("long", text(1, 3000));
    crate::rig::must("xz", &[&"--lzma2=preset=0,dict=256MiB", &tree.at("long")]);
    let with = |memory: u64| decompress(tree.path(), |o| o.files.memory = Some(memory));
    let report = with(1 << 27);
    let needs = |name: &str| format!("foreign read - {name}");
    assert_eq!(failures(&report), ["dictionary.zst", "long.xz", "wide.zst"].map(needs));
    assert_eq!(report.totals.outcome_of(Outcome::Mismatched), 0);
    assert_eq!(failures(&with(1 << 29)), [needs("dictionary.zst")]);
    assert_eq!(tree.names(), ["dictionary.zst", "long", "wide"]);
}

/// What must hold at any time of a tree that is being compressed: each file is there with its content, or its archive has
/// that; and nothing else is there but what has a staging name.
fn lost(tree: &Path, wanted: &BTreeMap<String, Vec<u8>>, format: Format) -> Option<String> {
    let suffix = format.suffix();
    for (name, content) in wanted {
        let plain = tree.join(name);
        let archive = tree.join(format!("{name}{suffix}"));
        if plain.exists() {
            if fs::read(&plain).unwrap() != *content {
                return Some(format!("{name} has other content"));
            }
        } else if !archive.exists() {
            return Some(format!("{name} is gone"));
        }
        if archive.exists() && content_of(&archive).as_ref() != Some(content) {
            return Some(format!("{name}{suffix} has not its content"));
        }
    }
    for name in Tree::new(tree.to_owned()).names() {
        let last = name.rsplit('/').next().unwrap();
        let known = name.strip_suffix(".gzi").unwrap_or(&name);
        let known = known.strip_suffix(suffix).unwrap_or(known);
        if !wanted.contains_key(known) && !last.starts_with(".bh-") && !tree.join(&name).is_dir() {
            return Some(format!("{name} is there"));
        }
    }
    None
}

/// Which way a trial goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Pack,
    Unpack,
}

/// The files of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    /// Small ones, two of them in a directory, and the archive of one there already.
    Few,
    /// So many that the last of them share their syncs.
    Many,
    /// One of several blocks, which is large enough to be gone on with, both ways. It is quickly made, and its archive smaller.
    Big,
}

/// What a trial does, with one worker, so that calls come in one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trial {
    direction: Direction,
    format: Format,
    set: Set,
}

impl Trial {
    fn new(direction: Direction, format: Format, set: Set) -> Self {
        Self { direction, format, set }
    }

    /// Both ways, in every format.
    fn of(set: Set) -> impl Iterator<Item = Self> {
        let both =
            move |format| [Direction::Pack, Direction::Unpack].map(|direction| Self::new(direction, format, set));
        Format::ALL.into_iter().flat_map(both)
    }

    /// It in a word.
    fn word(self) -> String {
        format!("{:?}-{}-{:?}", self.direction, self.format.name(), self.set)
    }

    /// The one of a word.
    fn from_word(word: &str) -> Self {
        let mut all = [Set::Few, Set::Many, Set::Big].into_iter().flat_map(Self::of);
        all.find(|trial| trial.word() == word).unwrap()
    }

    fn wanted(self) -> BTreeMap<String, Vec<u8>> {
        let several = |number: usize| text(u8::try_from(number).unwrap(), 2000 + number * 100);
        match self.set {
            Set::Few => {
                let names = ["a.tsv", "d/b.tsv", "d/c.tsv"];
                let contents = [text(1, 3000), text(2, 150_000), text(3, 2000)];
                names.iter().map(|name| (*name).to_owned()).zip(contents).collect()
            }
            Set::Many => (0..160)
                .map(|number| (format!("{}/{number}", number % 2), several(number)))
                .collect(),
            Set::Big => {
                let mut big = content(9, 20 << 20);
                big.resize(36 << 20, 0);
                BTreeMap::from([("big".to_owned(), big)])
            }
        }
    }

    /// The fastest level.
    fn level(self) -> u32 {
        *self.format.levels().start()
    }

    /// Lays out the files, and for the way back their archives.
    fn lay_out(self, base: &Path) {
        let tree = Tree::new(base.to_owned());
        for (name, content) in self.wanted() {
            tree.file(&name, content)
                .mode(&name, 0o640)
                .time(&name, 1_500_000_000, 7);
            tree.xattr(&name, "user.colour", b"green");
        }
        let make = |path: &Path, keep: bool| {
            complete(compress(path, |o| {
                (o.format, o.level, o.files.keep) = (self.format, Some(self.level()), keep);
                o.index = !keep && self.format == Format::Bgzf;
            }))
        };
        if self.set == Set::Few {
            make(&base.join("d/c.tsv"), true);
        }
        if self.direction == Direction::Unpack {
            make(base, false);
            if self.set == Set::Few {
                tree.file("d/c.tsv", text(3, 2000));
            }
        }
    }

    fn run(self, base: &Path) -> Result<Report, Refusal> {
        self.run_with(base, false)
    }

    fn run_with(self, base: &Path, verify_source: bool) -> Result<Report, Refusal> {
        let mut files = files(base);
        files.jobs = 1;
        files.entry_events = false;
        match self.direction {
            Direction::Pack => compression(CompressOptions {
                files,
                format: self.format,
                level: Some(self.level()),
                index: self.format == Format::Bgzf,
                verify_source,
                ..CompressOptions::default()
            })?
            .run(),
            Direction::Unpack => decompression(DecompressOptions {
                files,
                ..DecompressOptions::default()
            })?
            .run(),
        }
    }

    fn lost(self, base: &Path) -> Option<String> {
        lost(base, &self.wanted(), self.format)
    }

    /// What is wrong after one more run, in which nothing fails.
    fn not_healed(self, base: &Path) -> Option<String> {
        let report = match self.run(base) {
            Ok(report) => report,
            Err(refusal) => return Some(format!("the next run was refused: {refusal}")),
        };
        if !report.is_complete() {
            return Some(format!("the next run failed: {:?}", report.failures));
        }
        let what = self.not_done(base).or_else(|| self.lost(base));
        what.map(|what| format!("after the next run {what}"))
    }

    /// What is there, or is not, though all is done.
    fn not_done(self, base: &Path) -> Option<String> {
        let packs = self.direction == Direction::Pack;
        let mut names = Tree::new(base.to_owned()).names();
        names.retain(|name| !(base.join(name).is_dir() || packs && is_a(name, "gzi")));
        let ends = |name: &String| name.ends_with(self.format.suffix()) == packs;
        let done = names.len() == self.wanted().len() && names.iter().all(ends);
        (!done).then(|| format!("there is {names:?}"))
    }
}

/// Of so many calls, the one at which the power goes the nth time.
type Nth = fn(usize, usize) -> usize;

/// The power goes at some calls: what was there before is there, or what was proved, and after success all that was made.
#[test]
fn a_power_cut_costs_nothing() {
    const TEST: &str = "compress::a_power_cut_costs_nothing";
    const POINTS: usize = 14;
    if let Some(words) = order() {
        failpoint::arm(words[2].parse().ok().map(|nth| Plan {
            call: None,
            nth,
            count: 1,
            effect: Effect::Stop,
        }));
        let report = Trial::from_word(&words[1]).run(Path::new(&words[0])).unwrap();
        let calls = failpoint::disarm();
        return say(&format!(
            "complete after {} calls {}",
            calls.len(),
            report.is_complete()
        ));
    }
    // Where files begin to go, to beyond the last; and of a big one, from its beginning on.
    let ends: Nth = |calls: usize, number: usize| calls * (number * 5 % POINTS + POINTS) / (2 * POINTS - 4);
    let within: Nth = |calls: usize, number: usize| calls * (2 * ((7 + 5 * number) % POINTS) + 1) / (2 * POINTS);
    let rows = |trial: Trial| -> Vec<(Trial, usize, Nth)> {
        let of = |set| Trial { set, ..trial };
        match trial.format {
            Format::Bgzf => vec![
                (of(Set::Few), POINTS, ends),
                (of(Set::Many), POINTS / 2, ends),
                (of(Set::Big), if exhaustive() { POINTS } else { 2 }, within),
            ],
            _ if exhaustive() => vec![(of(Set::Big), POINTS / 2, within)],
            _ => Vec::new(),
        }
    };
    let mut wrong = Vec::new();
    for kind in ["ext4", "xfs"] {
        let scratch = Scratch::new();
        let Some(disk) = Disk::new(&scratch, kind) else { return };
        let on_it = |trial: &Trial| kind == "ext4" || *trial == Trial::new(Direction::Pack, Format::Bgzf, Set::Few);
        for (trial, points, nth) in Trial::of(Set::Few).filter(on_it).flat_map(rows) {
            let lay_out = |base: &Path| {
                trial.lay_out(base);
                disk.sync();
            };
            let log = scratch.at("log");
            let words = |base: &Path, nth: &str| [base.display().to_string(), trial.word(), nth.to_owned()];
            let base = disk.point.join("count");
            lay_out(&base);
            let (code, said) = finish(again(TEST, &words(&base, "-"), &log), &log);
            assert_eq!(code, Some(0), "{said}");
            let (_, calls) = said.split_once("complete after ").unwrap();
            let calls: usize = calls.split(' ').next().unwrap().parse().unwrap();
            fs::remove_dir_all(&base).unwrap();
            for number in 0..points {
                let base = disk.point.join(format!("{number}"));
                lay_out(&base);
                let nth = nth(calls, number);
                let mut child = again(TEST, &words(&base, &nth.to_string()), &log).spawn().unwrap();
                let midway = stopped(&mut child);
                disk.cut(number % 2 == 0);
                if midway {
                    child.kill().unwrap();
                }
                child.wait().unwrap();
                disk.restore();
                let mut what = trial.lost(&base);
                if !midway && what.is_none() {
                    what = trial.not_done(&base).map(|what| format!("after success {what}"));
                }
                let left = || has_staging(&base).then(|| "the next run left something".to_owned());
                let what = what.or_else(|| trial.not_healed(&base)).or_else(left);
                wrong.extend(what.map(|what| format!("{kind} {} call {nth} of {calls}: {what}", trial.word())));
                fs::remove_dir_all(&base).unwrap();
                disk.sync();
            }
        }
    }
    assert_none(&wrong);
}

/// Whoever is killed half-way through again and again comes further each time, and does little of it twice.
#[test]
fn killed_early_again_and_again() {
    const TEST: &str = "compress::killed_early_again_and_again";
    if let Some(words) = order() {
        failpoint::arm(words[1].parse().ok().map(|nth| Plan {
            call: None,
            nth,
            count: 1,
            effect: Effect::Stop,
        }));
        complete(Trial::from_word(&words[2]).run(Path::new(&words[0])).unwrap());
        return say(&format!("complete after {} calls", failpoint::disarm().len()));
    }
    for direction in [Direction::Pack, Direction::Unpack] {
        kill_early(TEST, direction);
    }
}

fn kill_early(test: &str, direction: Direction) {
    let scratch = Scratch::new();
    let wanted: BTreeMap<_, _> = (0..80)
        .map(|number| (format!("{number}"), text(1, 2000 + number)))
        .collect();
    let log = scratch.at("log");
    let lay_out = |base: &Path| {
        let tree = Tree::new(base.to_owned());
        for (name, content) in &wanted {
            tree.file(name, content);
        }
        if direction == Direction::Unpack {
            complete(compress(base, |_| ()));
        }
    };
    let base = scratch.at("count");
    lay_out(&base);
    let trial = Trial::new(direction, Format::Bgzf, Set::Few);
    let words = |base: &Path, nth: &str| [base.display().to_string(), nth.to_owned(), trial.word()];
    let (code, said) = finish(again(test, &words(&base, "-"), &log), &log);
    assert_eq!(code, Some(0), "{said}");
    let (_, rest) = said.split_once("complete after ").unwrap();
    let calls: usize = rest.split(' ').next().unwrap().parse().unwrap();
    let base = scratch.at("killed");
    lay_out(&base);
    // An archive that is there, and a file that has gone, or the other way round.
    let steps = || {
        let names = Tree::new(base.clone()).names();
        let archives = names.iter().filter(|name| is_a(name, "gz")).count();
        let files = names.iter().filter(|name| wanted.contains_key(*name)).count();
        match direction {
            Direction::Pack => archives + wanted.len() - files,
            Direction::Unpack => files + wanted.len() - archives,
        }
    };
    let mut done = 0;
    loop {
        let mut child = again(test, &words(&base, &(calls / 2).to_string()), &log)
            .spawn()
            .unwrap();
        let midway = stopped(&mut child);
        if midway {
            child.kill().unwrap();
        }
        child.wait().unwrap();
        assert_eq!(lost(&base, &wanted, Format::Bgzf), None);
        if !midway {
            break;
        }
        // After half of the calls not much less than half is done.
        let least = if done == 0 { wanted.len() * 3 / 4 } else { done + 1 };
        assert!(steps() >= least, "{direction:?}: {} steps after {done}", steps());
        done = steps();
    }
    assert!(done > 0);
    assert_eq!(steps(), 2 * wanted.len());
}

/// The number of calls of an undisturbed run, in a child.
fn count(scratch: &Path, trial: Trial) {
    let base = scratch.join(format!("count-{}", trial.word()));
    trial.lay_out(&base);
    failpoint::arm(None);
    let report = trial.run(&base);
    let calls = failpoint::disarm();
    assert!(complete(report.unwrap()).accounted);
    fs::remove_dir_all(&base).unwrap();
    for call in calls {
        say(&format!("call {call:?}"));
    }
}

fn calls(test: &str, scratch: &Path, trial: Trial) -> Vec<String> {
    let log = scratch.join("count.log");
    let words = ["count".into(), scratch.display().to_string(), trial.word()];
    let (code, said) = finish(again(test, &words, &log), &log);
    assert_eq!(code, Some(0), "{said}");
    let lines = said.lines().filter_map(|line| line.strip_prefix("call "));
    lines.map(str::to_owned).collect()
}

/// Points that one process tries, one after the other.
const BATCH: usize = 24;
const ERRNOS: [Errno; 3] = [Errno::IO, Errno::NOSPC, Errno::ACCESS];
/// Of a big archive one call in so many is tried, and by a process of its own: it takes long.
const BIG_STEP: usize = 15;

/// Which of so many calls are tried, the `turn`th time of several.
fn points(trial: Trial, calls: usize, turn: usize) -> Vec<usize> {
    match (trial.set, trial.format) {
        (Set::Big, _) => (5 * turn..calls).step_by(BIG_STEP).collect(),
        // Each call at least once.
        (_, Format::Bgzf) if turn == 0 => (0..calls).collect(),
        _ => (turn..calls).step_by(ERRNOS.len()).collect(),
    }
}

/// Both ways, in every format: small files, and with --exhaustive a big one.
fn trials() -> impl Iterator<Item = Trial> {
    let big = exhaustive().then_some(Set::Big);
    [Some(Set::Few), big].into_iter().flatten().flat_map(Trial::of)
}

#[test]
fn every_call_fails_once() {
    const TEST: &str = "compress::every_call_fails_once";
    if let Some(words) = order() {
        let (scratch, trial) = (Path::new(&words[1]), Trial::from_word(&words[2]));
        if words[0] == "count" {
            return count(scratch, trial);
        }
        let errno = ERRNOS[words[3].parse::<usize>().unwrap()];
        for nth in words[4].split(',').map(|nth| nth.parse::<usize>().unwrap()) {
            let base = scratch.join(format!("{}-{}-{nth}", trial.word(), words[3]));
            trial.lay_out(&base);
            failpoint::arm(Some(Plan {
                call: None,
                nth,
                count: 1,
                effect: Effect::Errno(errno),
            }));
            let result = trial.run(&base);
            failpoint::disarm();
            let wrong = match &result {
                Ok(report) if !report.accounted => Some(format!("{:?}", report.failures)),
                _ => None,
            };
            let wrong = wrong.or_else(|| trial.lost(&base)).or_else(|| trial.not_healed(&base));
            if let Some(wrong) = wrong {
                say(&format!(
                    "wrong {nth} {wrong}; {:?}",
                    result.map(|report| failures(&report))
                ));
            }
            fs::remove_dir_all(&base).unwrap();
        }
        return say("done");
    }
    let scratch = Scratch::new();
    if !can_hold_everything(scratch.path()) {
        return;
    }
    let mut batches = Vec::new();
    for trial in trials() {
        let calls = calls(TEST, scratch.path(), trial);
        for errno in 0..ERRNOS.len() {
            let batch = if trial.set == Set::Big { 1 } else { BATCH };
            batches.extend(
                points(trial, calls.len(), errno)
                    .chunks(batch)
                    .map(|batch| (trial, errno, batch.to_vec(), calls.clone())),
            );
        }
    }
    let wrong = each(batches.len(), |index| {
        let (trial, errno, batch, calls) = &batches[index];
        let list: Vec<String> = batch.iter().map(usize::to_string).collect();
        let words = [
            "try".into(),
            scratch.path().display().to_string(),
            trial.word(),
            errno.to_string(),
            list.join(","),
        ];
        let log = scratch.at(&format!("{index}.log"));
        let (code, text) = finish(again(TEST, &words, &log), &log);
        let name = |nth: &str| &calls[nth.parse::<usize>().unwrap()];
        let wrong = text
            .lines()
            .filter_map(|line| line.strip_prefix("wrong ")?.split_once(' '));
        let errno = symbol(ERRNOS[*errno]);
        let mut wrong: Vec<String> = wrong
            .map(|(nth, what)| format!("{} {errno} call {nth} {}: {what}", trial.word(), name(nth)))
            .collect();
        if code != Some(0) || !text.contains("done\n") {
            wrong.push(format!("{} {batch:?}: {code:?} {text}", trial.word()));
        }
        wrong
    });
    assert_none(&wrong);
}

#[test]
fn death_at_every_call() {
    const TEST: &str = "compress::death_at_every_call";
    if let Some(words) = order() {
        let (scratch, trial) = (Path::new(&words[1]), Trial::from_word(&words[2]));
        if words[0] == "count" {
            return count(scratch, trial);
        }
        failpoint::arm(Some(Plan {
            call: None,
            nth: words[3].parse().unwrap(),
            count: 1,
            effect: Effect::Exit,
        }));
        complete(trial.run(Path::new(&words[4])).unwrap());
        return say("it lived");
    }
    let scratch = Scratch::new();
    if !can_hold_everything(scratch.path()) {
        return;
    }
    let mut tried = Vec::new();
    for trial in trials() {
        let calls = calls(TEST, scratch.path(), trial);
        let turns = if trial.set == Set::Big { ERRNOS.len() } else { 1 };
        let all = (0..turns).flat_map(|turn| points(trial, calls.len(), turn));
        tried.extend(all.map(|nth| (trial, nth, calls[nth].clone())));
    }
    let wrong = each(tried.len(), |index| {
        let (trial, nth, call) = &tried[index];
        let base = scratch.at(&format!("{}-{nth}", trial.word()));
        trial.lay_out(&base);
        let log = scratch.at(&format!("{index}.log"));
        let words = [
            "die".into(),
            scratch.path().display().to_string(),
            trial.word(),
            nth.to_string(),
            base.display().to_string(),
        ];
        let (code, text) = finish(again(TEST, &words, &log), &log);
        // The clock decides how often it is noted how far a big one is: the last calls may not come.
        let lived = trial.set == Set::Big && code == Some(0) && text.contains("it lived\n");
        let wrong = if code == Some(99) || lived {
            trial.lost(&base).or_else(|| trial.not_healed(&base))
        } else {
            Some(format!("{code:?}: {text}"))
        };
        fs::remove_dir_all(&base).unwrap();
        let tell = |what| format!("{} call {nth} {call}: {what}", trial.word());
        wrong.map(tell).into_iter().collect()
    });
    println!("{} points tried", tried.len());
    assert_none(&wrong);
}

/// A bit that flips in any read, or in all from one on: what was written is found wrong, and made once more. Only what a
/// file gave wrongly in its one reading nobody can see, unless it is read twice.
#[test]
fn a_flipped_bit_between_writing_and_reading_back_is_found() {
    const TEST: &str = "compress::a_flipped_bit_between_writing_and_reading_back_is_found";
    if let Some(words) = order() {
        let (base, trial) = (Path::new(&words[0]), Trial::from_word(&words[1]));
        let (first, reads) = (words[3].parse().unwrap(), words[4].parse().unwrap());
        for (nth, count) in (first..).take(reads).flat_map(|nth| [(nth, 1), (nth, usize::MAX)]) {
            let base = base.join(format!("{nth}-{count}"));
            trial.lay_out(&base);
            failpoint::arm(Some(Plan {
                call: Some(Call::Read),
                nth,
                count,
                effect: Effect::Flip,
            }));
            let report = trial.run_with(&base, words[2] == "twice").unwrap();
            let hits = failpoint::hits();
            failpoint::disarm();
            let wrong = trial.lost(&base);
            fs::remove_dir_all(&base).unwrap();
            if hits == 0 {
                break;
            }
            let told = if report.is_complete() { "complete" } else { "told" };
            say(&format!(
                "{told} {count} {}",
                if wrong.is_some() { "wrong" } else { "right" }
            ));
        }
        return say("done");
    }
    let scratch = Scratch::new();
    if !can_hold_everything(scratch.path()) {
        return;
    }
    // Of the few files that become archives each is read in one piece. Of a big one some reads are tried, and it is read twice.
    let some = |trial: Trial, how: &'static str| {
        let reads = (0..400).step_by(40);
        reads.map(|first| (trial, how, 0, (first, 1))).collect::<Vec<_>>()
    };
    let all = (0, usize::MAX);
    let ways = trials().flat_map(|trial| match (trial.direction, trial.set) {
        (Direction::Pack, Set::Big) => some(trial, "twice"),
        (Direction::Unpack, Set::Big) => some(trial, "once"),
        (Direction::Pack, _) => vec![(trial, "once", 2, all), (trial, "twice", 0, all)],
        (Direction::Unpack, _) => vec![(trial, "once", 0, all)],
    });
    let ways: Vec<_> = ways.collect();
    let wrong = each(ways.len(), |index| {
        let (trial, how, blind, (first, reads)) = ways[index];
        let (base, log) = (scratch.at(&index.to_string()), scratch.at(&format!("{index}.log")));
        let words = [
            base.display().to_string(),
            trial.word(),
            how.to_owned(),
            first.to_string(),
            reads.to_string(),
        ];
        let (code, text) = finish(again(TEST, &words, &log), &log);
        let unseen: Vec<_> = text.lines().filter(|line| line.ends_with("wrong")).collect();
        let fine = code == Some(0)
            && text.contains("done\n")
            && unseen.len() == blind
            && unseen.iter().all(|line| line.starts_with("complete 1 "));
        // Once is made good, for good is told.
        let good = text.matches("complete 1 right").count();
        let told = text.matches(&format!("told {} right", usize::MAX)).count();
        let fine = fine && (trial.set == Set::Big || (good > 5 && told > 5));
        (!fine)
            .then(|| format!("{} {how}: {code:?} {text}", trial.word()))
            .into_iter()
            .collect()
    });
    assert_none(&wrong);
}

/// A file that goes on growing, replaced, or touched while it is read, or after it was read back: it stays, and is told.
#[test]
fn a_file_that_changes_is_kept() {
    const TEST: &str = "compress::a_file_that_changes_is_kept";
    if let Some(words) = order() {
        failpoint::arm(Some(Plan {
            call: Some(Call::StatFd),
            nth: words[1].parse().unwrap(),
            count: 1,
            effect: Effect::Stop,
        }));
        let trial = Trial::new(Direction::Pack, Format::Bgzf, Set::Few);
        let report = trial.run(Path::new(&words[0])).unwrap();
        failpoint::disarm();
        return say(&format!("{} {:?}", report.is_complete(), failures(&report)));
    }
    let scratch = Scratch::new();
    let mut told = 0;
    for nth in 0..40 {
        let base = scratch.at(&format!("{nth}"));
        let tree = Tree::new(base.clone());
        tree.file("a", text(1, 50_000));
        let log = scratch.at("log");
        let words = [base.display().to_string(), nth.to_string()];
        let mut stops = 0;
        let text_of = with_stops(again(TEST, &words, &log), &log, |_| {
            stops += 1;
            let file = fs::OpenOptions::new().append(true).open(base.join("a"));
            if let Ok(mut file) = file {
                file.write_all(b"more").unwrap();
            }
        });
        if stops == 0 {
            break;
        }
        let grown = [text(1, 50_000), b"more".to_vec()].concat();
        let plain = fs::read(base.join("a")).ok();
        let archive = content_of(&base.join("a.gz"));
        // Whatever was seen: what was written last is there.
        let there = plain.as_ref() == Some(&grown) || archive.as_ref() == Some(&grown);
        let late = plain.is_none() && archive == Some(text(1, 50_000));
        assert!(there || late, "call {nth}: {text_of}");
        if text_of.contains("changed") {
            told += 1;
            assert!(
                plain.as_ref() == Some(&grown) && archive.is_none(),
                "call {nth}: {text_of}"
            );
        }
        assert!(!has_staging(&base), "call {nth}: {text_of}");
    }
    assert!(told > 2, "{told}");
}

#[test]
fn what_another_run_has_done_meanwhile_is_no_failure() {
    const TEST: &str = "compress::what_another_run_has_done_meanwhile_is_no_failure";
    let trial = |word: &str| {
        let direction = if word == "unpack" {
            Direction::Unpack
        } else {
            Direction::Pack
        };
        Trial::new(direction, Format::Zstd, Set::Few)
    };
    if let Some(words) = order() {
        failpoint::arm(Some(Plan {
            call: Some(Call::StatFd),
            nth: words[1].parse().unwrap(),
            count: 1,
            effect: Effect::Stop,
        }));
        let report = trial(&words[2]).run(Path::new(&words[0])).unwrap();
        failpoint::disarm();
        let notes: Vec<_> = report.notes.iter().map(|note| note.kind.as_str()).collect();
        return say(&format!("{} {:?} {notes:?}", report.is_complete(), failures(&report)));
    }
    let scratch = Scratch::new();
    // A file that is open goes by a rename, in NFS and FUSE.
    for word in ["pack", "unpack", "compare", "renamed"] {
        let mut quicker = 0;
        for nth in 0.. {
            let tree = scratch.tree(&format!("{word}{nth}"));
            tree.file("a", text(1, 50_000));
            if word == "unpack" || word == "compare" {
                complete(compress(tree.path(), |o| {
                    (o.format, o.files.keep) = (Format::Zstd, word == "compare");
                }));
            }
            let log = scratch.at("log");
            let words = [tree.path().display().to_string(), nth.to_string(), word.to_owned()];
            let mut stops = 0;
            let said = with_stops(again(TEST, &words, &log), &log, |_| {
                stops += 1;
                if word == "renamed" {
                    complete(compress(tree.path(), |o| {
                        (o.format, o.files.keep) = (Format::Zstd, true);
                    }));
                    let renamed = fs::rename(tree.at("a"), scratch.at("renamed"));
                    assert!(renamed.is_ok() || !tree.at("a").exists());
                } else {
                    complete(trial(word).run(tree.path()).unwrap());
                }
            });
            if stops == 0 {
                break;
            }
            quicker += usize::from(said.contains("vanished"));
            assert!(said.contains("true []"), "{word} {nth}: {said}");
            let (there, is) = match word {
                "unpack" => ("a", Some(tree.read("a"))),
                _ => ("a.zst", content_of(&tree.at("a.zst"))),
            };
            assert_eq!(tree.names(), [there], "{word} {nth}: {said}");
            assert!(is == Some(text(1, 50_000)), "{word} {nth}");
        }
        assert!(quicker > 0, "{word}: {quicker}");
    }
}

#[test]
fn a_full_disk_costs_nothing() {
    alone("compress::a_full_disk_costs_nothing", || {
        let scratch = Scratch::new();
        let Some(disk) = scratch.file_system("tmpfs", "size=3m") else {
            return;
        };
        let tree = Tree::new(disk.join("t"));
        // Archives of these have no room beside them.
        let long = content(9, 2_200_000);
        tree.file("long", &long).file("short", text(1, 20_000));
        let report = compress(tree.path(), |o| o.files.jobs = 1);
        assert_eq!(failures(&report), ["no-space write ENOSPC long.gz"]);
        assert_eq!(tree.names(), ["long", "short.gz"]);
        assert!(tree.read("long") == long);
        let back = scratch.tree("back");
        back.file("zeros", vec![0; 5_000_000]);
        complete(compress(back.path(), |_| ()));
        fs::remove_file(tree.at("long")).unwrap();
        fs::copy(back.at("zeros.gz"), tree.at("zeros.gz")).unwrap();
        let report = decompress(tree.path(), |o| o.files.jobs = 1);
        assert_eq!(failures(&report), ["no-space write ENOSPC zeros"]);
        assert_eq!(tree.names(), ["short", "zeros.gz"]);
    });
}

/// Who waits for room may have it when others have gone: a batch goes before a file is given up.
#[test]
fn files_that_wait_make_room() {
    alone("compress::files_that_wait_make_room", || {
        let scratch = Scratch::new();
        let Some(disk) = scratch.file_system("tmpfs", "size=2m") else {
            return;
        };
        let tree = Tree::new(disk.join("t"));
        for number in 0..6 {
            tree.file(format!("{number}"), content(number, 280_000));
        }
        let report = complete(compress(tree.path(), |o| o.files.jobs = 1));
        assert_eq!(done(&report), 6);
    });
}

#[test]
fn in_a_directory_that_is_read_only_nothing_happens() {
    const TEST: &str = "compress::in_a_directory_that_is_read_only_nothing_happens";
    let prepare = |scratch: &Scratch| {
        let tree = scratch.tree("t");
        tree.file("mine", text(1, 5000))
            .mode("mine", 0o644)
            .owner("mine", 65534, 65534);
        tree.file("d/closed", text(1, 5000)).mode("d/closed", 0o600);
        tree.file("d/theirs", text(2, 5000))
            .mode("d/theirs", 0o644)
            .mode("d", 0o777);
        tree.mode("", 0o755);
    };
    let body = |scratch: &Path| {
        let report = compress(&scratch.join("t"), |_| ());
        let told = failures(&report);
        assert_eq!(
            told,
            [
                "not-kept remove - theirs",
                "permission create EACCES mine.gz",
                "unreadable open EACCES closed"
            ]
        );
        // Who may do without the owner.
        let report = compress(&scratch.join("t/d/theirs"), |o| o.files.no_owner = true);
        assert_eq!(done(&report), 1, "{report:?}");
    };
    let after = |scratch: &Scratch| {
        let names = Tree::new(scratch.at("t")).names();
        assert_eq!(names, ["d", "d/closed", "d/theirs.gz", "mine"]);
    };
    apart(TEST, NOBODY, prepare, body, after);
}

/// An archive that goes on growing while it is read, or after that: it stays, and is told.
#[test]
fn an_archive_that_changes_is_kept() {
    const TEST: &str = "compress::an_archive_that_changes_is_kept";
    if let Some(words) = order() {
        failpoint::arm(Some(Plan {
            call: Some(Call::StatFd),
            nth: words[1].parse().unwrap(),
            count: 1,
            effect: Effect::Stop,
        }));
        let trial = Trial::new(Direction::Unpack, Format::Bgzf, Set::Few);
        let report = trial.run(Path::new(&words[0])).unwrap();
        failpoint::disarm();
        return say(&format!("{} {:?}", report.is_complete(), failures(&report)));
    }
    let scratch = Scratch::new();
    let made = scratch.tree("made");
    made.file("a", text(1, 50_000));
    complete(compress(made.path(), |_| ()));
    let whole = made.read("a.gz");
    let mut told = 0;
    for nth in 0.. {
        let tree = scratch.tree(&nth.to_string());
        tree.file("a.gz", &whole);
        let log = scratch.at("log");
        let mut stops = 0;
        let said = with_stops(
            again(TEST, &[tree.path().display().to_string(), nth.to_string()], &log),
            &log,
            |_| {
                stops += 1;
                // One more archive: gzip takes both for one.
                if let Ok(mut file) = fs::OpenOptions::new().append(true).open(tree.at("a.gz")) {
                    file.write_all(&whole).unwrap();
                }
            },
        );
        if stops == 0 {
            break;
        }
        let (plain, archive) = (fs::read(tree.at("a")).ok(), fs::read(tree.at("a.gz")).ok());
        let twice = text(1, 50_000).repeat(2);
        assert!(
            archive.is_some() || plain == Some(twice) || said.contains("true "),
            "call {nth}: {said}"
        );
        if said.contains("changed") {
            told += 1;
            assert!(archive.is_some() && plain.is_none(), "call {nth}: {said}");
        }
        assert!(!has_staging(tree.path()), "call {nth}: {said}");
    }
    assert!(told > 2, "{told}");
}

/// Sizes around 2^32, where the size in the trailer of gzip begins anew, in every format, there and back, as others read it too.
#[test]
#[ignore = "takes minutes: scripts/test --exhaustive"]
fn of_four_gibibytes() {
    for size in [(1_u64 << 32) - 1, 1 << 32, (1 << 32) + 1] {
        for format in Format::ALL {
            let scratch = Scratch::new();
            let tree = scratch.tree("t");
            // Text at both ends, and zeros between.
            let lay_out = |path: &Path| {
                let file = fs::File::create(path).unwrap();
                file.set_len(size).unwrap();
                file.write_all_at(&text(1, 100_000), 0).unwrap();
                file.write_all_at(&text(2, 100_000), size - 100_000).unwrap();
            };
            lay_out(&tree.at("a"));
            lay_out(&scratch.at("other"));
            let with = |o: &mut CompressOptions| (o.format, o.level) = (format, Some(1));
            let report = complete(compress(tree.path(), with));
            assert_eq!((report.conversions[0].before, tree.names().len()), (size, 1));
            let archive = tree.at(tree.names()[0].as_str());
            let program = match format {
                Format::Bgzf | Format::Gzip => "gzip",
                Format::Xz => "xz",
                Format::Zstd => "zstd",
            };
            let script = "\"$1\" -dc \"$2\" | cmp - \"$3\"";
            crate::rig::must(
                "bash",
                &[
                    &"-o",
                    &"pipefail",
                    &"-c",
                    &script,
                    &"sh",
                    &program,
                    &archive,
                    &scratch.at("other"),
                ],
            );
            complete(decompress(tree.path(), |o| o.sparse = true));
            crate::rig::must("cmp", &[&tree.at("a"), &scratch.at("other")]);
        }
    }
}

#[test]
fn unpacking_in_a_directory_that_is_read_only_nothing_happens() {
    const TEST: &str = "compress::unpacking_in_a_directory_that_is_read_only_nothing_happens";
    let prepare = |scratch: &Scratch| {
        let tree = scratch.tree("t");
        for name in ["mine", "d/closed", "d/theirs"] {
            tree.file(name, text(1, 5000));
        }
        complete(compress(tree.path(), |_| ()));
        tree.owner("mine.gz", 65534, 65534).mode("d/closed.gz", 0o600);
        tree.mode("d/theirs.gz", 0o644).mode("d", 0o777).mode("", 0o755);
    };
    let body = |scratch: &Path| {
        let told = failures(&decompress(&scratch.join("t"), |_| ()));
        assert_eq!(
            told,
            [
                "not-kept remove - theirs.gz",
                "permission create EACCES mine",
                "unreadable open EACCES closed.gz"
            ]
        );
    };
    let after = |scratch: &Scratch| {
        let names = Tree::new(scratch.at("t")).names();
        assert_eq!(names, ["d", "d/closed.gz", "d/theirs.gz", "mine.gz"]);
    };
    apart(TEST, NOBODY, prepare, body, after);
}

#[test]
fn many_small_files_in_many_directories() {
    there_and_back_of_many(1500, 40);
}

/// More than one call lists: what is left of dead runs is looked for meanwhile, and takes no name from the walk.
#[test]
fn many_small_files_in_one_directory() {
    there_and_back_of_many(5000, 1);
}

#[test]
#[ignore = "takes minutes: scripts/test --exhaustive"]
fn a_hundred_thousand_small_files() {
    there_and_back_of_many(100_000, 40);
}

fn there_and_back_of_many(files: usize, directories: usize) {
    let scratch = Scratch::new();
    let tree = scratch.tree("t");
    for number in 0..files {
        tree.file(
            format!("{}/{number}", number % directories),
            text(u8::try_from(number % 200).unwrap(), 600 + number % 1500),
        );
    }
    // One program for each would take far longer than the compression.
    let look = |tree: &Tree| {
        if files > 10_000 {
            BTreeMap::new()
        } else {
            facts(tree.path())
        }
    };
    let before = look(&tree);
    let report = complete(compress(tree.path(), |o| o.files.jobs = 3));
    assert_eq!(done(&report), files as u64);
    assert!(tree.names().iter().all(|name| is_a(name, "gz") || !name.contains('/')));
    let report = complete(decompress(tree.path(), |o| o.files.jobs = 3));
    assert_eq!(done(&report), files as u64);
    assert!(look(&tree) == before);
}

/// Stopped in the middle, gently or at once: nothing is lost, nothing is left, and the next run does the rest.
#[test]
fn stopped_and_gone_on_with() {
    for (at_once, jobs) in [(false, 1), (true, 1), (false, 4), (true, 4)] {
        let scratch = Scratch::new();
        let tree = scratch.tree("t");
        let mut wanted = BTreeMap::new();
        // More than one worker does before the first of them goes.
        for number in 0..1200_usize {
            let content = text(u8::try_from(number % 200).unwrap(), 600 + number / 2);
            let name = format!("{}/{number}", number % 3);
            tree.file(&name, &content);
            wanted.insert(name, content);
        }
        tree.file("0/long", text(1, 4 << 20));
        wanted.insert("0/long".to_owned(), text(1, 4 << 20));
        let job = compression(packing(tree.path(), |o| o.files.jobs = jobs)).unwrap();
        let report = watch(&job, |event| match event {
            Event::Entry(entry) if entry.outcome == Outcome::Copied => {
                if at_once {
                    job.abort();
                } else {
                    job.drain();
                }
            }
            _ => {}
        });
        let report = report.unwrap().report;
        assert!(report.interrupted && done(&report) > 0);
        assert_eq!(lost(tree.path(), &wanted, Format::Bgzf), None);
        assert!(!has_staging(tree.path()), "{:?}", tree.names());
        let report = complete(compress(tree.path(), |_| ()));
        assert!(jobs > 1 || done(&report) + report.totals.outcome_of(Outcome::Removed) > 0);
        assert_eq!(lost(tree.path(), &wanted, Format::Bgzf), None);
        assert!(tree.names().iter().all(|name| is_a(name, "gz") || !name.contains('/')));
    }
}

#[test]
fn what_can_not_be_is_refused_before_any_work() {
    let refused = |change: &dyn Fn(&mut CompressOptions)| {
        let mut options = CompressOptions {
            files: files(Path::new("/nowhere")),
            ..CompressOptions::default()
        };
        change(&mut options);
        match compression(options) {
            Err(Refusal::Usage(text)) => text,
            other => panic!("{:?}", other.map(|_| ())),
        }
    };
    assert!(refused(&|o| o.level = Some(13)).contains("13"));
    assert!(refused(&|o| (o.format, o.level) = (Format::Xz, Some(10))).contains("10"));
    assert!(refused(&|o| (o.format, o.index) = (Format::Zstd, true)).contains("index"));
    assert!(refused(&|o| o.files.extensions = vec![b".".to_vec()]).contains("extensions"));
    assert!(refused(&|o| o.files.sources.clear()).contains("no file"));
    // A bound that not one worker can keep is refused, with what is needed.
    let of_memory =
        |format, level, bytes| refused(&|o| (o.format, o.level, o.files.memory) = (format, Some(level), Some(bytes)));
    assert!(of_memory(Format::Xz, 9, 100 << 20).contains("866 MiB for xz at level 9"));
    assert!(of_memory(Format::Bgzf, 6, 1 << 20).contains("memory"));
    let mut enough = packing(Path::new("/nowhere"), |o| (o.format, o.level) = (Format::Xz, Some(9)));
    enough.files.memory = Some(866 << 20);
    assert!(compression(enough).is_ok());
}
