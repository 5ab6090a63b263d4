//! What a run needs of memory does not grow with what it copies.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use bulkhaul_engine::copy::options::CopyOptions;
use bulkhaul_engine::entry::Outcome;
use bulkhaul_engine::partition::pack::Division;
use bulkhaul_engine::partition::{self, PartitionOptions, Target};
use bulkhaul_engine::report::{Part, Report};
use bulkhaul_engine::walk::start::Root;
use bulkhaul_sys::{self as sys, AsFd as _, Follow};

use crate::rig::{apart, c_string, contents, options};

/// Node.js takes some 60 MiB beside this: 256 MiB is what a user may see.
const RESIDENT_BYTES: u64 = 192 << 20;
const ENTRIES: usize = 1_000_000;
const PARTS: u64 = 64;

/// The most that was resident since the mark, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

/// Makes `directories` directories, each with its share of the entries.
fn fill(root: &Path, directories: usize) {
    fs::create_dir(root).unwrap();
    for d in 0..directories {
        let directory = root.join(format!("directory-{:03}/{d:06}", d / 100));
        fs::create_dir_all(&directory).unwrap();
        let at = sys::open_directory(sys::current_directory(), &c_string(&directory), Follow::No).unwrap();
        for n in 0..ENTRIES / directories {
            sys::create_file(at.as_fd(), &c_string(format!("an-ordinary-name-{n:07}.dat"))).unwrap();
        }
    }
}

/// What is in `source`, divided, with its lists in a directory.
fn divided(source: &Path, lists: &Path) -> Report {
    let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
    let options = PartitionOptions {
        sources: vec![Root {
            path: bytes(source),
            follow: false,
            contents: true,
            pin: None,
        }],
        division: Division::Parts(PARTS),
        target: Target::Template(bytes(&lists.join("part"))),
        spill_directory: Some(bytes(lists)),
        ..PartitionOptions::default()
    };
    partition::job(options).unwrap().run().unwrap()
}

/// A million files are divided, copied, looked at again, and looked at by a dry run, in one flat directory and in a bushy tree.
#[test]
fn a_million_entries() {
    apart(
        "memory::a_million_entries",
        &["env"],
        |_| {},
        |base| {
            for directories in [1, 10_000] {
                let (source, to) = (base.join("source"), base.join("to"));
                fill(&source, directories);
                fs::write("/proc/self/clear_refs", "5").unwrap();
                let lists = base.join("lists");
                fs::create_dir(&lists).unwrap();
                let report = divided(&source, &lists);
                assert!(report.is_complete(), "{report:?}");
                let parts = report.parts.unwrap();
                assert!(parts.entries > ENTRIES as u64);
                let even = |part: &Part| part.entries.abs_diff(parts.entries / PARTS) <= 1;
                assert!(parts.number == PARTS && parts.first.iter().all(even), "{parts:?}");
                let divided = peak();
                assert!(
                    divided < RESIDENT_BYTES,
                    "{directories} directories, divided: {} MiB",
                    divided >> 20
                );
                println!("{directories} directories, divided: {} MiB", divided >> 20);
                fs::remove_dir_all(&lists).unwrap();
                for dry_run in [true, false, false] {
                    // The peak is counted from here on.
                    fs::write("/proc/self/clear_refs", "5").unwrap();
                    let options = CopyOptions {
                        dry_run,
                        entry_events: false,
                        ..options(&[contents(&source)], &to)
                    };
                    let report = bulkhaul_engine::copy::job(options).unwrap().run().unwrap();
                    assert!(report.is_complete(), "{report:?}");
                    let files = [Outcome::Copied, Outcome::Skipped].map(|o| report.totals.file_outcomes[o as usize]);
                    assert_eq!(files.iter().sum::<u64>(), ENTRIES as u64);
                    let peak = peak();
                    assert!(
                        peak < RESIDENT_BYTES,
                        "{directories} directories, dry run {dry_run}: {} MiB",
                        peak >> 20
                    );
                    println!("{directories} directories, dry run {dry_run}: {} MiB", peak >> 20);
                }
                fs::remove_dir_all(&source).unwrap();
                fs::remove_dir_all(&to).unwrap();
            }
        },
        |_| {},
    );
}
