//! Manifests and verifications: the same whatever the memory and the number of workers.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use bulkhaul_engine::entry::Outcome;
use bulkhaul_engine::manifest::{self, ManifestOptions};
use bulkhaul_engine::report::Report;
use bulkhaul_engine::verify::{self, VerifyOptions};
use bulkhaul_engine::walk::start::Root;
use bulkhaul_engine::{Algorithm, ManifestFormat};

use crate::rig::Scratch;

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
