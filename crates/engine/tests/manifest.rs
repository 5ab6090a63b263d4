//! Manifests and verifications: the same whatever the memory and the number of workers. What a copy writes down is the
//! manifest of its source.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use bulkhaul_engine::copy::options::{CopyOptions, ManifestTo};
use bulkhaul_engine::entry::Outcome;
use bulkhaul_engine::manifest::{self, ManifestOptions};
use bulkhaul_engine::records::sort::SORT_BYTES;
use bulkhaul_engine::report::Report;
use bulkhaul_engine::verify::{self, VerifyOptions};
use bulkhaul_engine::walk::start::Root;
use bulkhaul_engine::{Algorithm, ManifestFormat};

use crate::rig::{Copied, Scratch, Tree, compare, content, contents, copy};

/// The report, and the manifest of what is in `s`.
fn made(scratch: &Scratch, change: impl FnOnce(&mut ManifestOptions)) -> (Report, Vec<u8>) {
    let output = scratch.at("M");
    let mut options = ManifestOptions {
        sources: vec![Root {
            path: scratch.at("s").as_os_str().as_bytes().to_vec(),
            follow: false,
            contents: true,
            pin: None,
        }],
        output: Some(output.as_os_str().as_bytes().to_vec()),
        ..ManifestOptions::default()
    };
    change(&mut options);
    let report = manifest::job(options).unwrap().run().unwrap();
    assert!(report.is_complete(), "{report:?}");
    (report, fs::read(output).unwrap())
}

#[test]
fn memory_and_workers_change_nothing() {
    let scratch = Scratch::new();
    let tree = scratch.tree("s");
    for number in 0..500 {
        tree.file(format!("{}/{number}", number % 7), number.to_string().repeat(number));
        if number % 3 == 0 {
            tree.link(
                format!("{}/{number}-again", number % 5),
                format!("{}/{number}", number % 7),
            );
        }
    }
    for format in [ManifestFormat::Sums, ManifestFormat::Json, ManifestFormat::Hashdeep] {
        let (report, plain) = made(&scratch, |options| (options.format, options.jobs) = (format, 1));
        let lines = plain.split(|byte| *byte == b'\n').count();
        assert!(lines > 660, "{lines}");
        assert!(report.totals.hashed_bytes > 300_000);
        for jobs in [2, 5] {
            let (_, text) = made(&scratch, |options| {
                (options.format, options.jobs) = (format, jobs);
                options.spill_directory = Some(scratch.path().as_os_str().as_bytes().to_vec());
                options.sort_memory = 10_000;
            });
            assert!(text == plain, "{format:?}, {jobs} workers");
        }
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2);
}

#[test]
fn several_algorithms_are_those_of_one_each() {
    let scratch = Scratch::new();
    scratch.tree("s").file("f", vec![9; 300_000]);
    let (_, all) = made(&scratch, |options| {
        options.format = ManifestFormat::Json;
        options.algorithms = Algorithm::ALL.to_vec();
    });
    let all = String::from_utf8(all).unwrap();
    for algorithm in Algorithm::ALL {
        let (_, line) = made(&scratch, |options| options.algorithms = vec![algorithm]);
        let digits = String::from_utf8(line).unwrap().split_once(' ').unwrap().0.to_owned();
        assert!(
            all.contains(&format!("\"{algorithm}\":\"{digits}\"")),
            "{algorithm}: {all}"
        );
    }
}

#[test]
fn a_verification_finds_the_same_whatever_the_memory_and_the_workers() {
    let scratch = Scratch::new();
    let tree = scratch.tree("s");
    for number in 0..600 {
        tree.file(format!("{}/{number}", number % 7), number.to_string().repeat(number));
    }
    made(&scratch, |_| ());
    // Reversed: a manifest comes in any order.
    let text = fs::read_to_string(scratch.at("M")).unwrap();
    let reversed: Vec<&str> = text.lines().rev().collect();
    fs::write(scratch.at("M"), reversed.join("\n")).unwrap();
    for number in (0..600).step_by(10) {
        let path = format!("{}/{number}", number % 7);
        match number % 30 {
            0 => fs::remove_file(tree.at(path)).unwrap(),
            10 => fs::write(tree.at(path), "other").unwrap(),
            _ => fs::rename(tree.at(&path), tree.at(format!("{path}-moved"))).unwrap(),
        }
    }
    for (jobs, sort_memory) in [(1, usize::MAX), (2, 20_000), (5, 20_000)] {
        let options = VerifyOptions {
            manifests: vec![scratch.at("M").as_os_str().as_bytes().to_vec()],
            directory: Some(tree.path().as_os_str().as_bytes().to_vec()),
            spill_directory: Some(scratch.path().as_os_str().as_bytes().to_vec()),
            sort_memory,
            jobs,
            ..VerifyOptions::default()
        };
        let report = verify::job(options).unwrap().run().unwrap();
        assert!(report.accounted && !report.interrupted, "{report:?}");
        let kinds: Vec<_> = report.failure_kinds.into_iter().collect();
        assert_eq!(kinds, [("extra", 20), ("mismatch", 20), ("missing", 40)]);
        assert_eq!(report.totals.outcome_of(Outcome::Mismatched), 80);
        // With the directories, and the one that stands for all.
        assert_eq!(report.totals.file_outcomes[Outcome::Same as usize], 540);
        assert_eq!(report.totals.verified_files, 540);
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2);
}

const CHUNK: usize = 16 << 20;

/// A source with files of all sizes that are copied in another way, holes, links, and names of all kinds.
fn source(scratch: &Scratch) -> Tree {
    let tree = scratch.tree("s");
    for (name, size) in [
        ("empty", 0),
        ("one", 1),
        ("piece", 256 * 1024),
        ("more", 256 * 1024 + 1),
        ("undivided", CHUNK / 8 + 1),
        ("long/chunks", 2 * CHUNK + 4097),
        ("a/b/c", 5000),
        ("a/b!", 7),
        ("a/new line", 9),
    ] {
        tree.file(name, content(3, size));
    }
    tree.link("a/again", "one");
    tree.link("z", "one");
    tree.symlink("link", "one");
    fs::create_dir(tree.at("nothing")).unwrap();
    let holes = fs::File::create(tree.at("holes")).unwrap();
    holes.set_len(2 * CHUNK as u64 + 5).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, &content(4, 70_000), CHUNK as u64 - 9).unwrap();
    tree
}

/// One copy of `s` to `d` with the manifest `C`, and that.
fn copied(scratch: &Scratch, to: &str, change: impl FnOnce(&mut CopyOptions)) -> (Copied, Vec<u8>) {
    let path = scratch.at("C");
    let copied = copy(&[contents(scratch.at("s"))], scratch.at(to), |options| {
        options.manifest = Some(ManifestTo {
            path: path.as_os_str().as_bytes().to_vec(),
            format: ManifestFormat::Sums,
            algorithms: Vec::new(),
            sort_memory: SORT_BYTES,
        });
        change(options);
    });
    (copied, fs::read(path).unwrap_or_default())
}

#[test]
fn a_copy_writes_the_manifest_of_its_source_whatever_is_there_already() {
    let scratch = Scratch::new();
    source(&scratch);
    for (format, algorithms) in [
        (ManifestFormat::Sums, vec![]),
        (ManifestFormat::Hashdeep, vec![]),
        (ManifestFormat::Json, vec![Algorithm::Blake3, Algorithm::Md5]),
    ] {
        let (_, expected) = made(&scratch, |options| {
            (options.format, options.algorithms) = (format, algorithms.clone());
        });
        let to = format!("{format:?}{}", algorithms.len());
        for (jobs, verify) in [(1, false), (4, true)] {
            let with = |options: &mut CopyOptions| {
                (options.jobs, options.verify) = (jobs, verify);
                if let Some(to) = &mut options.manifest {
                    (to.format, to.algorithms) = (format, algorithms.clone());
                }
            };
            // The first time all is copied, then nothing, then one.
            let (report, text) = copied(&scratch, &to, with);
            report.complete();
            assert!(text == expected, "{format:?} {algorithms:?}, {jobs} workers");
            fs::remove_file(scratch.at(&to).join("long/chunks")).unwrap();
        }
        let (report, text) = copied(&scratch, &to, |options| {
            options.jobs = 2;
            if let Some(to) = &mut options.manifest {
                (to.format, to.algorithms) = (format, algorithms.clone());
            }
        });
        assert_eq!(report.report.totals.outcome_of(Outcome::Copied), 1);
        assert!(text == expected, "{format:?} {algorithms:?}, again");
    }
}

#[test]
fn a_copy_reads_its_source_once() {
    let scratch = Scratch::new();
    source(&scratch);
    let (report, _) = copied(&scratch, "d", |options| options.jobs = 1);
    let totals = report.complete().report.totals;
    // Other names of one inode are known by its digests.
    assert_eq!(totals.hashed_bytes, 0);
    let (report, _) = copied(&scratch, "d", |options| options.jobs = 1);
    let totals = report.complete().report.totals;
    assert_eq!(totals.hashed_bytes, totals.found_bytes - 2);
}

#[test]
fn a_manifest_in_source_or_destination_does_not_list_itself() {
    let scratch = Scratch::new();
    source(&scratch);
    let (_, expected) = made(&scratch, |_| ());
    for place in ["s/SUMS", "d/SUMS", "e/SUMS"] {
        let to = if place.starts_with('e') { "e" } else { "d" };
        for round in 0..2 {
            let (report, _) = copied(&scratch, to, |options| {
                options.remove_extra = true;
                if let Some(to) = &mut options.manifest {
                    to.path = scratch.at(place).as_os_str().as_bytes().to_vec();
                }
            });
            report.complete();
            assert!(fs::read(scratch.at(place)).unwrap() == expected, "{place} {round}");
        }
        if place.starts_with('s') {
            fs::remove_file(scratch.at(place)).unwrap();
        }
    }
}

#[test]
fn what_has_the_name_of_the_manifest_is_in_conflict() {
    let scratch = Scratch::new();
    let tree = scratch.tree("s");
    tree.file("SUMS", "of the source");
    tree.file("other", "");
    for (to, made) in [("d", true), ("e", false)] {
        if made {
            scratch.tree(to);
        }
        let path = scratch.at(to).join("SUMS");
        let (report, _) = copied(&scratch, to, |options| {
            if let Some(to) = &mut options.manifest {
                to.path = path.as_os_str().as_bytes().to_vec();
            }
        });
        report.incomplete();
        let expected: &[u8] = if made { b"other\n" } else { b"of the source" };
        assert!(fs::read(path).unwrap().ends_with(expected), "{to}");
    }
}

#[test]
fn where_the_manifest_can_not_be_nothing_is_begun() {
    let scratch = Scratch::new();
    scratch.tree("s").file("a", "");
    let path = scratch.at("absent/SUMS").as_os_str().as_bytes().to_vec();
    let refused = crate::rig::attempt(&[contents(scratch.at("s"))], scratch.at("d"), |options| {
        options.manifest = Some(ManifestTo {
            path,
            format: ManifestFormat::Sums,
            algorithms: Vec::new(),
            sort_memory: SORT_BYTES,
        });
    });
    assert!(refused.is_err());
    assert!(!scratch.at("d").exists());
}

#[test]
fn a_move_leaves_a_manifest_of_what_it_moved() {
    let scratch = Scratch::new();
    source(&scratch);
    let (_, expected) = made(&scratch, |_| ());
    let (report, text) = copied(&scratch, "d", |options| options.remove_sources = true);
    report.complete();
    assert!(text == expected);
    assert!(!scratch.at("s/long").exists());
}

#[test]
fn what_the_form_can_not_write_is_not_complete_and_stays_in_a_move() {
    let scratch = Scratch::new();
    let tree = scratch.tree("s");
    tree.file("fine", "");
    let name = std::ffi::OsStr::from_bytes(b"latin-\xe9");
    fs::write(tree.path().join(name), "1").unwrap();
    let (report, text) = copied(&scratch, "d", |options| options.remove_sources = true);
    let report = report.incomplete();
    assert_eq!(report.report.failure_kinds.get("unwritable"), Some(&1));
    assert!(text.ends_with(b"  fine\n"), "{text:?}");
    assert!(tree.path().join(name).exists());
}

#[test]
fn a_copy_goes_on_where_there_is_no_room_for_its_manifest() {
    let scratch = Scratch::new();
    source(&scratch);
    let (report, text) = copied(&scratch, "d", |options| {
        options.spill_directory = Some(scratch.at("absent").as_os_str().as_bytes().to_vec());
        if let Some(to) = &mut options.manifest {
            to.sort_memory = 100;
        }
    });
    let report = report.incomplete();
    assert_eq!(report.notes(), ["manifest"]);
    assert!(report.report.notes[0].lost && text.is_empty());
    compare(&scratch.at("s"), &scratch.at("d"));
}
