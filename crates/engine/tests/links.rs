//! Hard links of a run whose memory for them is small: what is known goes to a file, and comes back as the same links.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use bulkhaul_engine::copy::options::CopyOptions;
use bulkhaul_engine::entry::{Changes, Outcome};
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

fn inode(tree: &Tree, name: &str) -> (u32, u64) {
    let about = fs::symlink_metadata(tree.at(name)).unwrap();
    (about.mode() & 0o7777, about.ino())
}

/// Files that were links of one in the destination, and are not in the source any more, each get what is theirs.
#[test]
fn links_that_the_source_has_no_more() {
    for (verify, jobs) in [(false, 1), (true, 1), (false, 3)] {
        let scratch = Scratch::new();
        let (source, to) = (scratch.tree("s"), scratch.tree("d"));
        for tree in [&source, &to] {
            tree.file("private", "k").mode("private", 0o640).time("private", 9, 0);
            tree.symlink("led", "private");
        }
        source
            .file("public", "k")
            .time("public", 9, 0)
            .symlink("other", "private");
        to.link("public", "private").link("other", "led");
        source.mode("private", 0o600).mode("public", 0o644);
        source.owner("led", 5, 6).owner("other", 7, 8);
        for tree in [&source, &to] {
            tree.time("", 8, 0);
        }
        let mirror = |dry_run: bool| {
            copy(&[contents(source.path())], to.path(), |o| {
                (o.verify, o.jobs, o.dry_run) = (verify, jobs, dry_run);
            })
            .complete()
        };
        let before = inode(&to, "private");
        let dry = (jobs == 1).then(|| mirror(true).counts());
        assert_eq!(inode(&to, "private"), before);
        let copied = mirror(false);
        compare(source.path(), to.path());
        assert_eq!(inode(&to, "private").0, 0o600);
        assert_eq!(inode(&to, "public").0, 0o644);
        // The dry run knows no better than that all are replaced; when one is, the other may be alone.
        if let Some(dry) = dry {
            assert_eq!(dry, "made 2, copied 2, skipped 1 (unchanged 1)");
            assert_eq!(copied.counts(), "made 1, copied 1, metadata 2, skipped 1 (unchanged 1)");
        }
        let again = mirror(false);
        assert_eq!(again.counts(), "skipped 5 (unchanged 5)");
        assert!(!has_staging(scratch.path()));
    }
}

/// A name outside of the destination, as in a snapshot of hard links, keeps what it has.
#[test]
fn a_snapshot_of_links_stays_as_it_is() {
    let scratch = Scratch::new();
    let (source, to, snapshot) = (scratch.tree("s"), scratch.tree("snap/0"), scratch.tree("snap/1"));
    source.file("a", "x").file("b", "y").link("c", "b").file("same", "z");
    copy(&[contents(source.path())], to.path(), |_| {}).complete();
    for name in ["a", "b", "c", "same"] {
        fs::hard_link(to.at(name), snapshot.at(name)).unwrap();
    }
    let before = ["a", "b", "c", "same"].map(|name| inode(&snapshot, name));
    source.mode("a", 0o600).mode("b", 0o751);
    let copied = copy(&[contents(source.path())], to.path(), |_| {}).complete();
    assert_eq!(copied.counts(), "copied 2, linked 1, skipped 2 (unchanged 2)");
    assert!(copied.entry("a").changes.contains(Changes::MODE));
    compare(source.path(), to.path());
    assert!(same_path(&to.at("b"), &to.at("c")) && !same_path(&to.at("b"), &snapshot.at("b")));
    assert!(same_path(&to.at("same"), &snapshot.at("same")));
    assert_eq!(["a", "b", "c", "same"].map(|name| inode(&snapshot, name)), before);
    // Those that are alone now are changed where they are.
    let there = inode(&to, "a").1;
    source.mode("a", 0o640);
    let copied = copy(&[contents(source.path())], to.path(), |_| {}).complete();
    assert_eq!(copied.counts(), "metadata 1, skipped 4 (unchanged 4)");
    assert_eq!(inode(&to, "a"), (0o640, there));
    assert_eq!(inode(&snapshot, "a"), before[0]);
}

/// Links of the source that are links in the destination, and of nothing else, are changed where they are, once. Where one
/// name is another's, or nothing may be remembered, they get a file of their own.
#[test]
fn whole_groups_are_changed_in_place() {
    for (limit, jobs) in [(100, 1), (100, 3), (3, 1), (0, 3)] {
        let scratch = Scratch::new();
        let (source, to, snapshot) = (scratch.tree("s"), scratch.tree("d"), scratch.tree("snap"));
        source.file("d/a", "x").link("b", "d/a").link("e/f/c", "b");
        source.symlink("l", "b").link("e/m", "l");
        // Its other name is outside of what is copied, and so is that of its copy.
        source.file("half", "y");
        fs::hard_link(source.at("half"), scratch.at("elsewhere")).unwrap();
        // Another name of it comes, where the copy has a name that goes.
        source.file("torn", "z").link("torn-2", "torn");
        let small = |options: &mut CopyOptions| {
            options.jobs = jobs;
            small(options, limit, scratch.path());
        };
        copy(&[contents(source.path())], to.path(), small).complete();
        fs::hard_link(to.at("half"), snapshot.at("half")).unwrap();
        fs::remove_file(to.at("torn-2")).unwrap();
        fs::hard_link(to.at("torn"), snapshot.at("torn")).unwrap();
        let held = ["half", "torn"].map(|name| inode(&snapshot, name));
        let before = ["b", "l"].map(|name| inode(&to, name).1);
        source
            .mode("b", 0o600)
            .owner("l", 5, 6)
            .mode("half", 0o600)
            .mode("torn", 0o600);
        source.time("d", 3, 0);
        let run = |dry_run: bool| {
            let copied = copy(&[contents(source.path())], to.path(), |o| {
                small(o);
                o.dry_run = dry_run;
            });
            copied.complete().counts()
        };
        let dry = run(true);
        let real = run(false);
        compare(source.path(), to.path());
        assert_eq!(["half", "torn"].map(|name| inode(&snapshot, name)), held);
        let in_place = before == ["b", "l"].map(|name| inode(&to, name).1);
        assert_eq!(in_place, limit == 100, "{limit}");
        if limit == 100 {
            assert_eq!(real, "copied 2, linked 1, metadata 4, skipped 5 (unchanged 5)");
            assert_eq!(dry, real);
        }
        assert_eq!(run(false), "skipped 12 (unchanged 12)");
        assert!(!has_staging(scratch.path()));
    }
}

/// What the destination refuses, a copy would not have either: what is there stays, in every run.
#[test]
fn a_refusal_replaces_nothing() {
    let scratch = Scratch::new();
    let (source, below) = (scratch.tree("s"), scratch.tree("below"));
    source
        .file("a", "x")
        .link("b", "a")
        .owner("a", 5, 6)
        .xattr("a", "user.a", b"1");
    source.symlink("l", "a").link("m", "l").owner("l", 5, 6);
    let Some(to) = scratch.faulty(below.path(), "nochown=EPERM,noxattr=EPERM") else {
        return;
    };
    let once = copy(&[contents(source.path())], &to, |o| o.jobs = 1).incomplete();
    assert_eq!(once.counts(), "made 1, copied 1, linked 2, metadata 1", "{once:?}");
    // Others have them too.
    for name in ["a", "l"] {
        fs::hard_link(below.at(name), scratch.at(name)).unwrap();
    }
    let there = ["a", "l"].map(|name| inode(&below, name));
    let again = copy(&[contents(source.path())], &to, |o| o.jobs = 1).incomplete();
    assert_eq!(again.counts(), "skipped 5 (unchanged 5)", "{again:?}");
    assert_eq!(again.notes(), once.notes());
    // What it takes is had at the price of a copy.
    source.mode("a", 0o600);
    let changed = copy(&[contents(source.path())], &to, |o| o.jobs = 1).incomplete();
    assert_eq!(
        changed.counts(),
        "copied 1, linked 1, skipped 3 (unchanged 3)",
        "{changed:?}"
    );
    assert_eq!(inode(&below, "a").0, 0o600);
    assert_eq!(inode(&below, "b"), inode(&below, "a"));
    assert_eq!(inode(&below, "l"), there[1]);
    assert!(!has_staging(scratch.path()));
}
