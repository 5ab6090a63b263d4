//! What whoever watches is told of how much there is in all, of each operation, while it has hardly begun.

use std::fs;

use bulkhaul_engine::compare;
use bulkhaul_engine::compare::options::{CompareOptions, Content, SideOptions};
use bulkhaul_engine::copy;
use bulkhaul_engine::copy::options::{CopyOptions, FilesFrom};
use bulkhaul_engine::job::Job;
use bulkhaul_engine::job::desk::{Expected, ExpectedBytes, Phase};
use bulkhaul_engine::job::pace::Limits;
use bulkhaul_engine::job::resources::Resources;
use bulkhaul_engine::list::{self, ListOptions};
use bulkhaul_engine::remove::{Removal, RemoveOptions};
use bulkhaul_engine::walk::start::Root;
use bulkhaul_formats::filter::Style;

use crate::rig::{Scratch, content, contents, options};

const FILES: u64 = 40;
const BYTES: u64 = 1000;

/// The first answer that satisfies, of a job that would take hours.
fn told(what: &str, job: &Job, enough: impl Fn(&Expected) -> bool) -> Expected {
    std::thread::scope(|scope| {
        let work = scope.spawn(|| job.run());
        let expected = loop {
            if let Some(expected) = job.snapshot().expected.filter(&enough) {
                break expected;
            }
            assert!(!work.is_finished(), "{what}: {:?}", job.snapshot());
            std::thread::yield_now();
        };
        job.abort();
        assert!(work.join().unwrap().unwrap().interrupted, "{what}");
        expected
    })
}

#[test]
fn every_operation_says_how_much_there_is() {
    let scratch = Scratch::new();
    for top in ["source", "other", "going", "gone"] {
        let tree = scratch.tree(top);
        for number in 0..FILES {
            tree.file(
                format!("{}/{number}", number % 4),
                content(1, usize::try_from(BYTES).unwrap()),
            );
        }
    }
    // Every second file, in two of the four directories, one name that is not there, and one that a rule excludes.
    let mut lines: Vec<String> = (0..FILES)
        .step_by(2)
        .map(|number| format!("{}/{number}", number % 4))
        .collect();
    lines.extend(["absent".into(), "excluded/deep".into()]);
    fs::write(scratch.at("names"), lines.join("\n")).unwrap();
    fs::write(scratch.at("list"), "1/1:0123456789abcdef\n").unwrap();
    let bytes = |name: &str| scratch.at(name).into_os_string().into_encoded_bytes();
    let resources = Resources {
        limits: Limits {
            bytes: 0.0,
            entries: 0.001,
        },
        ..Resources::default()
    };
    let root = |name: &str| Root {
        path: bytes(name),
        follow: false,
        contents: true,
        pin: None,
    };
    let side = |name: &str| SideOptions::Trees(vec![root(name)]);
    let comparing = |content, right| CompareOptions {
        content,
        resources,
        ..CompareOptions::new(side("source"), right)
    };
    let copying = |change: fn(&mut CopyOptions)| {
        let mut asked = CopyOptions {
            resources,
            ..options(&[contents(scratch.at("source"))], scratch.at("to"))
        };
        change(&mut asked);
        copy::job(asked)
    };
    let removal = |name: &str| {
        let paths = vec![bytes(name)];
        Removal::new(RemoveOptions {
            paths,
            resources,
            ..RemoveOptions::default()
        })
        .unwrap()
    };
    let known = |entries: u64, files: u64, times: u64, reads: Option<u64>| Expected {
        entries,
        files,
        bytes: reads.map(|to_read| ExpectedBytes {
            found: files * BYTES,
            to_read,
        }),
        to_do: entries * times,
        estimated: false,
    };
    // With the four directories and the root.
    let tree = FILES + 5;
    let all = FILES * BYTES;
    let list = SideOptions::List {
        path: bytes("list"),
        form: None,
    };
    let named = copy::job(CopyOptions {
        resources,
        files_from: Some(FilesFrom {
            path: bytes("names"),
            nul: false,
            contents: false,
        }),
        filter: Some((Style::Rsync, vec![b"/excluded".to_vec()])),
        ..options(&[contents(scratch.at("source"))], scratch.at("to"))
    });
    let cases = [
        ("copy", copying(|_| ()), known(tree, FILES, 1, Some(all))),
        (
            "move",
            copying(|o| o.remove_sources = true),
            known(tree, FILES, 2, Some(2 * all)),
        ),
        // With the two directories, the root, and the name that is not there, which is taken for a file.
        (
            "copy of names",
            named,
            Expected {
                files: FILES / 2 + 1,
                ..known(FILES / 2 + 4, FILES / 2, 1, Some(all / 2))
            },
        ),
        (
            "list",
            list::job(ListOptions {
                sources: vec![root("source")],
                full_hash: true,
                resources,
                ..ListOptions::default()
            }),
            known(tree, FILES, 1, Some(all)),
        ),
        (
            "compare",
            compare::job(comparing(Content::Whole, side("other"))),
            known(2 * tree, 2 * FILES, 1, Some(all)),
        ),
        (
            "compare with a list",
            compare::job(comparing(Content::Whole, list)),
            known(tree, FILES, 1, Some(all)),
        ),
        (
            "remove",
            removal("going").remove(),
            Expected {
                estimated: true,
                ..known(tree, FILES, 1, None)
            },
        ),
    ];
    std::thread::scope(|scope| {
        for (what, job, expected) in cases {
            scope.spawn(move || {
                let job = job.unwrap();
                let enough = |now: &Expected| now.bytes.is_some() == expected.bytes.is_some();
                assert_eq!(told(what, &job, enough), expected, "{what}");
            });
        }
    });
    // Where somebody has counted before, it is known at once.
    let removal = removal("gone");
    let preview = removal.preview().unwrap();
    preview.set_limits(Limits::default()).unwrap();
    preview.run().unwrap();
    let again = removal.remove().unwrap();
    assert_eq!(
        told("remove after a look", &again, |_| true),
        known(tree, FILES, 1, None)
    );
}

/// Reading contents is what a comparison of them is about, not its end.
#[test]
fn a_comparison_of_contents_is_at_work() {
    let scratch = Scratch::new();
    for top in ["one", "two"] {
        scratch.tree(top).file("big", content(1, 1 << 20));
    }
    let side = |name: &str| {
        SideOptions::Trees(vec![Root {
            path: scratch.at(name).into_os_string().into_encoded_bytes(),
            follow: false,
            contents: true,
            pin: None,
        }])
    };
    let job = compare::job(CompareOptions {
        content: Content::Whole,
        resources: Resources {
            limits: Limits {
                bytes: 1000.0,
                entries: 0.0,
            },
            ..Resources::default()
        },
        ..CompareOptions::new(side("one"), side("two"))
    })
    .unwrap();
    std::thread::scope(|scope| {
        let work = scope.spawn(|| job.run());
        while job.snapshot().read_bytes == 0 && !work.is_finished() {
            std::thread::yield_now();
        }
        assert_eq!(job.snapshot().phase, Phase::Copying);
        job.abort();
        assert!(work.join().unwrap().unwrap().interrupted);
    });
}
