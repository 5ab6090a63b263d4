//! Hard links of a run whose memory for them is small: what is known goes to a file, and comes back as the same links.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use bulkhaul_engine::copy::options::CopyOptions;
use bulkhaul_engine::entry::Outcome;
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};

use crate::rig::fault::{again, order, say, with_stops};
use crate::rig::{Scratch, Tree, attempt, compare, contents, copy, has_staging, same_path};

/// Files with three links each.
const INODES: usize = 2000;

fn small(options: &mut CopyOptions, limit: usize, directory: &Path) {
    options.links_in_memory = limit;
    options.spill_directory = Some(directory.as_os_str().as_bytes().to_vec());
}

/// Files with a link beside them, and another far away.
fn many_pairs(tree: &Tree) {
    for number in 0..INODES {
        let (near, far) = (number % 37, number * 7 % 41);
        let name = format!("{near}/sub/one-{number}");
        tree.file(&name, number.to_le_bytes())
            .link(format!("{near}/sub/two-{number}"), &name)
            .link(format!("{far}/deep/er/three-{number}"), &name);
    }
}

#[test]
fn thousands_of_links_with_little_memory() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    many_pairs(&source);
    let spill = scratch.tree("spill");
    for (limit, jobs) in [(0, 1), (0, 4), (1, 4), (100, 4), (INODES * 2, 4)] {
        let to = scratch.at("to");
        // Into what is made, into what is there without the links, and where all is there.
        for turn in 0..3 {
            let copied = copy(&[contents(source.path())], &to, |o| {
                o.jobs = jobs;
                small(o, limit, spill.path());
            });
            let copied = copied.complete();
            let linked = copied.report.totals.outcome_of(Outcome::Linked);
            let expected = if turn == 2 { 0 } else { INODES as u64 * 2 };
            assert_eq!((linked, copied.notes()), (expected, vec![]), "{limit} {jobs} {turn}");
            compare(source.path(), &to);
            if turn == 0 {
                for name in Tree::new(to.clone()).names().iter().filter(|n| !n.contains("one-")) {
                    if to.join(name).is_file() {
                        fs::remove_file(to.join(name)).unwrap();
                    }
                }
            }
        }
        assert!(!has_staging(&to));
        assert!(spill.names().is_empty(), "{:?}", spill.names());
        fs::remove_dir_all(to).unwrap();
    }
}

/// Where the file can't be made or runs full, memory is used, and a note says so.
#[test]
fn the_file_fails() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    many_pairs(&source);
    let absent = scratch.at("absent");
    let tiny = scratch.file_system("tmpfs", "size=136k");
    for directory in [Some(absent), tiny].into_iter().flatten() {
        let to = scratch.at("to");
        let copied = copy(&[contents(source.path())], &to, |o| small(o, 10, &directory)).complete();
        assert_eq!(copied.notes(), ["hard-links"]);
        let note = &copied.report.notes[0];
        assert_eq!(OsStr::from_bytes(&note.path), directory);
        compare(source.path(), &to);
        fs::remove_dir_all(to).unwrap();
    }
}

/// A dry run says what would be linked to what.
#[test]
fn a_dry_run() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source
        .file("a/one", "x")
        .link("a/two", "a/one")
        .link("b/c/three", "a/one");
    let to = scratch.at("to");
    let would = copy(&[contents(source.path())], &to, |o| {
        (o.dry_run, o.jobs) = (true, 1);
        small(o, 0, scratch.path());
    });
    let targets = would.entries.iter().filter(|e| e.outcome == Outcome::Linked);
    let targets: Vec<_> = targets.map(|e| e.target.clone().unwrap()).collect();
    assert_eq!(targets.len(), 2);
    let first = would.entries.iter().find(|e| e.outcome == Outcome::Copied).unwrap();
    assert!(targets.iter().all(|t| *t == first.path), "{:?}", would.entries);
    assert!(!to.exists());
}

/// What is reached through a kept directory link is found through it again.
#[test]
fn below_a_kept_directory_link() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source
        .file("a/d/one", "x")
        .link("z/two", "a/d/one")
        .link("a/three", "a/d/one");
    for limit in [0, 100] {
        let to = scratch.tree(&format!("to-{limit}"));
        let elsewhere = scratch.tree(&format!("elsewhere-{limit}"));
        elsewhere.dir("d");
        to.symlink("a", elsewhere.path());
        copy(&[contents(source.path())], to.path(), |o| {
            (o.keep_dirlinks, o.jobs) = (true, 1);
            small(o, limit, scratch.path());
        })
        .complete();
        for name in ["z/two", "a/three"] {
            assert!(same_path(&to.at(name), &elsewhere.at("d/one")), "{limit} {name}");
        }
    }
}

/// What tracked links bring in after the walk is linked to what the walk copied.
#[test]
fn links_of_what_a_link_brings_in() {
    let scratch = Scratch::new();
    let source = scratch.tree("from/source");
    source.file("dir/sub/one", "x").symlink("dir/sub/l", "../../data/two");
    source.link("data/two", "dir/sub/one");
    for limit in [0, 100] {
        let to = scratch.at(&format!("to-{limit}"));
        copy(&[crate::rig::named(source.at("dir"))], &to, |o| {
            o.link_tracking = true;
            small(o, limit, scratch.path());
        })
        .complete();
        assert!(same_path(&to.join("dir/sub/one"), &to.join("data/two")), "{limit}");
    }
}

/// Somebody replaces the first copy before it is linked to: the content comes from the source again, and a note says it.
#[test]
fn the_first_copy_is_replaced_meanwhile() {
    const TEST: &str = "links::the_first_copy_is_replaced_meanwhile";
    if let Some(words) = order() {
        let [source, to, limit] = [&words[0], &words[1], &words[2]];
        failpoint::arm(Some(Plan {
            call: Some(Call::Link),
            nth: 0,
            count: 1,
            effect: Effect::Stop,
        }));
        let copied = attempt(&[contents(source)], to, |o| {
            o.jobs = 1;
            small(o, limit.parse().unwrap(), Path::new(source).parent().unwrap());
        })
        .unwrap()
        .complete();
        return say(&format!("{} {:?}", copied.counts(), copied.notes()));
    }
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source
        .file("a/one", "x")
        .link("b/two", "a/one")
        .link("c/three", "a/one");
    for (limit, existing) in [(100, false), (100, true), (0, false), (0, true)] {
        let to = scratch.at("to");
        if existing {
            for name in ["a", "b", "c"] {
                fs::create_dir_all(to.join(name)).unwrap();
            }
        }
        let words = [source.path(), &to].map(|p| p.display().to_string());
        let words = [&words[..], &[limit.to_string()]].concat();
        let log = scratch.at("log");
        let names = ["a/one", "b/two", "c/three"].map(|name| to.join(name));
        let mut replaced = None;
        let text = with_stops(again(TEST, &words, &log), &log, |_| {
            let first = names.iter().find(|name| name.exists()).unwrap();
            fs::remove_file(first).unwrap();
            fs::write(first, "somebody's").unwrap();
            replaced = Some(first.clone());
        });
        let replaced = replaced.expect(&text);
        assert!(
            text.contains("linked 1") && text.contains("[\"hard-link-copied\"]"),
            "{text}"
        );
        for name in &names {
            let (expected, links) = if *name == replaced { ("somebody's", 1) } else { ("x", 2) };
            assert_eq!(fs::read_to_string(name).unwrap(), expected, "{name:?}");
            assert_eq!(name.metadata().unwrap().nlink(), links, "{name:?}");
        }
        assert!(!has_staging(&to));
        fs::remove_dir_all(to).unwrap();
    }
}
