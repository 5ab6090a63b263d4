//! Partitions: the same whatever the memory and the number of workers, and nothing is lost that goes wrong on the way.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use bulkhaul_engine::entry::Outcome;
use bulkhaul_engine::partition::pack::{Division, Limits};
use bulkhaul_engine::partition::{self, PartitionOptions, Target};
use bulkhaul_engine::report::Report;
use bulkhaul_engine::walk::start::Root;
use bulkhaul_engine::{Errno, PartFormat};
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};

use crate::rig::{Scratch, apart};

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

/// The report of a partition of what is in `base/s`, and its lists, one behind the other.
fn made(base: &Path, change: impl FnOnce(&mut PartitionOptions)) -> (Report, Vec<Vec<u8>>) {
    let lists = base.join("lists");
    fs::create_dir(&lists).unwrap();
    let mut options = PartitionOptions {
        sources: vec![Root {
            path: bytes(&base.join("s")),
            follow: false,
            contents: true,
            pin: None,
        }],
        division: Division::Parts(7),
        nul: true,
        target: Target::Template(bytes(&lists.join("p"))),
        ..PartitionOptions::default()
    };
    change(&mut options);
    let report = partition::job(options).unwrap().run().unwrap();
    let number = report.parts.as_ref().unwrap().number;
    let lists_of = (1..=number).map(|number| fs::read(lists.join(format!("p.{number}"))).unwrap());
    let texts = lists_of.collect();
    assert_eq!(fs::read_dir(&lists).unwrap().count() as u64, number);
    fs::remove_dir_all(&lists).unwrap();
    (report, texts)
}

/// The names in lists.
fn names(lists: &[Vec<u8>]) -> Vec<String> {
    let names = lists.iter().flat_map(|list| list.split(|byte| *byte == 0));
    let names = names.filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8(name.to_vec()).unwrap()).collect()
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
    let limits = Limits {
        entries: 50,
        bytes: 40_000,
    };
    for division in [Division::Parts(7), Division::Limits(limits)] {
        let (report, plain) = made(scratch.path(), |options| {
            (options.division, options.format, options.nul, options.jobs) = (division, PartFormat::Json, false, 1);
        });
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(report.parts.unwrap().entries, 500 + 167 + 8);
        for jobs in [2, 5] {
            let (report, lists) = made(scratch.path(), |options| {
                (options.division, options.format, options.nul, options.jobs) =
                    (division, PartFormat::Json, false, jobs);
                options.spill_directory = Some(bytes(scratch.path()));
                options.sort_memory = 10_000;
            });
            assert!(report.is_complete(), "{report:?}");
            assert!(lists == plain, "{division:?}, {jobs} workers");
        }
    }
    let (report, lists) = made(scratch.path(), |options| {
        (options.division, options.live) = (Division::Limits(limits), true);
        options.spill_directory = Some(bytes(scratch.path()));
        options.sort_memory = 10_000;
    });
    let parts = report.parts.unwrap().first;
    for part in &parts {
        assert!(part.entries <= 50 && part.bytes <= 40_000, "{part:?}");
    }
    let listed = names(&lists);
    assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), 675);
    assert_eq!(listed.len(), 675);
    for list in lists.iter().map(|list| names(std::slice::from_ref(list))) {
        for link in list.iter().filter(|name| name.ends_with("-again")) {
            let number: usize = link
                .trim_end_matches("-again")
                .split('/')
                .nth(1)
                .unwrap()
                .parse()
                .unwrap();
            assert!(list.contains(&format!("{}/{number}", number % 7)), "{link}");
        }
    }
    // No temporary file has a name.
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
}

/// Whatever call fails, each entry that is found is in a list or has a failure, or is below one that has; and the report
/// agrees.
#[test]
fn what_goes_wrong_on_the_way() {
    apart(
        "partition::what_goes_wrong_on_the_way",
        &["env"],
        |scratch| {
            let tree = scratch.tree("s");
            for name in ["a", "d/b", "d/e/c", "d/e/f", "g/h"] {
                tree.file(name, "x");
            }
            tree.link("d/again", "a");
        },
        |base| {
            let (_, whole) = made(base, |_| {});
            let all: BTreeSet<String> = names(&whole).into_iter().collect();
            assert_eq!(all.len(), 10);
            let mut hits = 0;
            for (call, errno) in [
                (Call::Stat, Errno::NOENT),
                (Call::Stat, Errno::ACCESS),
                (Call::OpenDirectory, Errno::NOENT),
                (Call::OpenDirectory, Errno::ACCESS),
                (Call::ReadDirectory, Errno::IO),
            ] {
                for nth in 1..12 {
                    let lists = base.join("lists");
                    fs::create_dir(&lists).unwrap();
                    let job = partition::job(PartitionOptions {
                        sources: vec![Root {
                            path: bytes(&base.join("s")),
                            follow: false,
                            contents: true,
                            pin: None,
                        }],
                        division: Division::Parts(2),
                        nul: true,
                        jobs: 1,
                        target: Target::Template(bytes(&lists.join("p"))),
                        ..PartitionOptions::default()
                    });
                    failpoint::arm(Some(Plan {
                        call: Some(call),
                        nth,
                        count: 1,
                        effect: Effect::Errno(errno),
                    }));
                    let report = job.unwrap().run();
                    failpoint::disarm();
                    let texts: Vec<Vec<u8>> = fs::read_dir(&lists)
                        .unwrap()
                        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
                        .collect();
                    fs::remove_dir_all(&lists).unwrap();
                    // Before there was anything to divide.
                    let Ok(report) = report else { continue };
                    let listed = names(&texts);
                    let once: BTreeSet<String> = listed.iter().cloned().collect();
                    assert_eq!(once.len(), listed.len(), "{call:?} {nth}");
                    assert!(report.accounted, "{call:?} {nth}: {report:?}");
                    assert!(once.is_subset(&all), "{call:?} {nth}: {once:?}");
                    let root = format!("{}/", base.join("s").display());
                    let failed: Vec<String> = report
                        .failures
                        .iter()
                        .map(|failure| String::from_utf8_lossy(&failure.path).replace(&root, ""))
                        .collect();
                    for name in all.difference(&once) {
                        let below = |failed: &String| {
                            name == failed || name.starts_with(&format!("{failed}/")) || failed.ends_with("/s")
                        };
                        assert!(failed.iter().any(below), "{call:?} {nth}: {name} is lost: {report:?}");
                    }
                    // What was named itself is missing, and did not vanish.
                    if !failed.is_empty() && !failed.iter().any(|name| name.ends_with("/s")) {
                        hits += 1;
                        assert!(!report.is_complete());
                        let gone = report.totals.outcome_of(Outcome::Changed) > 0;
                        assert_eq!(gone, errno == Errno::NOENT, "{call:?} {nth}: {report:?}");
                        // What is there and can't be read is listed, and is a failure.
                        if errno != Errno::NOENT {
                            assert!(failed.iter().all(|name| once.contains(name)), "{failed:?}");
                        }
                    }
                }
            }
            assert!(hits > 10, "{hits}");
        },
        |_| {},
    );
}
