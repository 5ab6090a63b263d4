//! Which name of the destination each source entry gets, and who wins where several bring the same.

use std::fs;

use bulkhaul_engine::copy::options::{Collision, SourceArgument};
use bulkhaul_engine::entry::{Outcome, Reason};
use bulkhaul_engine::error::Refusal;

use crate::rig::{Scratch, Tree, attempt, compare, contents, copy, named, renamed};

#[test]
fn contents_and_named_and_renamed() {
    type Case = (
        &'static str,
        fn(&Tree) -> Vec<SourceArgument>,
        &'static [&'static str],
        &'static str,
    );
    let cases: [Case; 7] = [
        (
            "contents",
            |t| vec![contents(t.path())],
            &["d", "d/b", "f", "l"],
            "made 3, copied 2",
        ),
        (
            "named",
            |t| vec![named(t.path())],
            &["source", "source/d", "source/d/b", "source/f", "source/l"],
            "made 3, copied 2",
        ),
        (
            "renamed",
            |t| vec![renamed(t.path(), "other")],
            &["other", "other/d", "other/d/b", "other/f", "other/l"],
            "made 3, copied 2",
        ),
        ("a file", |t| vec![named(t.at("f"))], &["f"], "copied 1"),
        ("a renamed file", |t| vec![renamed(t.at("f"), "g")], &["g"], "copied 1"),
        (
            "a link to a directory stays a link",
            |t| vec![named(t.at("l"))],
            &["l"],
            "made 1",
        ),
        (
            "a link to a directory, followed",
            |t| {
                vec![SourceArgument {
                    follow: true,
                    ..named(t.at("l"))
                }]
            },
            &["l", "l/b"],
            "made 1, copied 1",
        ),
    ];
    for (what, sources, names, counts) in cases {
        for existing in [false, true] {
            let scratch = Scratch::new();
            let source = scratch.tree("source");
            source
                .file("f", "x")
                .file("d/b", "y")
                .symlink("l", "d")
                .time("", 1_000_000_000, 1);
            if existing {
                fs::create_dir(scratch.at("to")).unwrap();
            }
            let copied = copy(&sources(&source), scratch.at("to"), |_| {}).complete();
            assert_eq!(Tree::new(scratch.at("to")).names(), names, "{what}, {existing}");
            // A destination that was there gets the metadata of a source whose contents it takes.
            let counts = match (what, existing) {
                ("contents", true) => "made 2, copied 2, metadata 1",
                _ => counts,
            };
            assert_eq!(copied.counts(), counts, "{what}, {existing}");
        }
    }
}

#[test]
fn absent_destination_with_missing_parents() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source.file("a", "x").file("d/b", "y");
    copy(&[contents(source.path())], scratch.at("p/q/r"), |_| {}).complete();
    compare(source.path(), &scratch.at("p/q/r"));
    assert_eq!(
        Tree::new(scratch.at("p")).names(),
        ["q", "q/r", "q/r/a", "q/r/d", "q/r/d/b"]
    );
}

#[test]
fn destinations_that_cannot_be() {
    type Case = (&'static str, &'static str, bool);
    let cases: [Case; 5] = [
        ("absent, and not to be made", "to", false),
        ("below what is absent, and not to be made", "p/to", false),
        ("a file", "file", true),
        ("below a file", "file/to", true),
        ("a link that leads nowhere", "dangling", true),
    ];
    for (what, to, create) in cases {
        let scratch = Scratch::new();
        let tree = Tree::new(scratch.path().to_owned());
        tree.file("source/a", "x")
            .file("file", "old")
            .symlink("dangling", "nowhere");
        let before = tree.names();
        let refusal = attempt(&[contents(scratch.at("source"))], scratch.at(to), |o| {
            o.create_destination = create;
        });
        assert!(matches!(refusal, Err(Refusal::NoDestination(_))), "{what}: {refusal:?}");
        assert_eq!(tree.names(), before, "{what}");
        assert_eq!(tree.read("file"), b"old", "{what}");
    }
}

#[test]
fn missing_sources() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source.file("a", "x");
    for gone in [named(source.at("gone")), contents(source.at("gone"))] {
        let refusal = attempt(std::slice::from_ref(&gone), scratch.at("to"), |_| {});
        assert!(matches!(refusal, Err(Refusal::NoSource(_))), "{refusal:?}");
        assert!(!scratch.at("to").exists());
        let copied = copy(&[gone, named(source.at("a"))], scratch.at("beside"), |_| {}).incomplete();
        assert_eq!(copied.counts(), "copied 1, failed 1");
        assert_eq!(copied.report.failure_kinds.get("missing"), Some(&1));
        assert_eq!(Tree::new(scratch.at("beside")).names(), ["a"]);
        fs::remove_dir_all(scratch.at("beside")).unwrap();
    }
}

#[test]
fn later_sources_win() {
    let scratch = Scratch::new();
    let one = scratch.tree("one");
    one.file("same", "one")
        .file("only-one", "1")
        .file("d/x", "one")
        .file("d/one", "1");
    one.file("file-then-dir", "one")
        .file("dir-then-file/inner", "one")
        .symlink("link", "one");
    let two = scratch.tree("two");
    two.file("same", "two")
        .file("only-two", "2")
        .file("d/x", "two")
        .file("d/two", "2");
    two.file("file-then-dir/inner", "two")
        .file("dir-then-file", "two")
        .symlink("link", "two");
    two.mode("d", 0o751).time("d", 1_000_000_000, 5);
    for jobs in [1, 4] {
        let to = scratch.tree("to");
        let copied = copy(&[contents(one.path()), contents(two.path())], to.path(), |o| {
            (o.jobs, o.on_collision) = (jobs, Collision::Last);
        })
        .complete();
        for (name, expected) in [
            ("same", "two"),
            ("only-one", "1"),
            ("only-two", "2"),
            ("d/x", "two"),
            ("d/one", "1"),
            ("d/two", "2"),
            ("file-then-dir/inner", "two"),
            ("dir-then-file", "two"),
        ] {
            assert_eq!(to.read(name), expected.as_bytes(), "{name}");
        }
        assert_eq!(fs::read_link(to.at("link")).unwrap().to_str(), Some("two"));
        assert_eq!(crate::rig::modified(&to.at("d")), (1_000_000_000, 5));
        // Of the first source: same, d, d/x, file-then-dir, dir-then-file, link.
        let overridden = copied.report.totals.reasons[Reason::Overridden as usize];
        assert_eq!(overridden, 6, "{}", copied.counts());
        assert_eq!(copied.report.totals.outcome_of(Outcome::Copied), 8);
        let losers = copied.entries.iter().filter(|e| e.reason == Some(Reason::Overridden));
        for loser in losers {
            assert!(
                loser.source.starts_with(one.path().as_os_str().as_encoded_bytes()),
                "{loser:?}"
            );
        }
        // Again: nothing is written a second time.
        let again = copy(&[contents(one.path()), contents(two.path())], to.path(), |o| {
            (o.jobs, o.on_collision) = (jobs, Collision::Last);
        })
        .complete();
        assert_eq!(
            again.report.totals.outcome_of(Outcome::Skipped),
            again.report.totals.all_found()
        );
        fs::remove_dir_all(to.path()).unwrap();
    }
}

#[test]
fn named_sources_from_several_directories() {
    let scratch = Scratch::new();
    let tree = scratch.tree("from");
    tree.file("one/x", "one")
        .file("one/y", "y")
        .file("two/x", "two")
        .file("two/d/z", "z");
    let sources = [
        named(tree.at("one/x")),
        named(tree.at("one/y")),
        named(tree.at("two/x")),
        named(tree.at("two/d")),
    ];
    let copied = copy(&sources, scratch.at("to"), |o| o.on_collision = Collision::Last).complete();
    let to = scratch.tree("to");
    assert_eq!(to.names(), ["d", "d/z", "x", "y"]);
    assert_eq!(to.read("x"), b"two");
    assert_eq!(copied.counts(), "made 1, copied 3, skipped 1 (overridden 1)");
}

/// Two names of one directory that become one name in the destination: the loser is told.
#[test]
fn renamed_sources_that_collide() {
    let scratch = Scratch::new();
    let tree = scratch.tree("from");
    tree.file("a", "one").file("b", "two");
    let sources = [renamed(tree.at("a"), "x"), renamed(tree.at("b"), "x")];
    let copied = copy(&sources, scratch.at("to"), |o| o.on_collision = Collision::Last).complete();
    let to = scratch.tree("to");
    assert_eq!(to.names(), ["x"]);
    assert_eq!(to.read("x"), b"two");
    assert_eq!(copied.counts(), "copied 1, skipped 1 (overridden 1)");
}

/// The destination gets the metadata of the source whose contents it takes, not of a directory that a named source is in.
#[test]
fn contents_and_a_named_file() {
    let scratch = Scratch::new();
    let (one, two) = (scratch.tree("one"), scratch.tree("two"));
    one.file("a", "x").mode("", 0o750).time("", 1_000_000_000, 7);
    two.file("b", "y").mode("", 0o711).time("", 1_100_000_000, 8);
    copy(&[contents(one.path()), named(two.at("b"))], scratch.at("to"), |_| {}).complete();
    let to = scratch.tree("to");
    assert_eq!(to.names(), ["a", "b"]);
    assert_eq!(crate::rig::modified(to.path()), (1_000_000_000, 7));
}

/// Promise 4: a source argument that ends in dots must not lead out of the destination.
#[test]
fn arguments_that_end_in_dots() {
    for dots in [".", ".."] {
        let scratch = Scratch::new();
        let source = scratch.tree("source");
        source.file("d/a", "x").file("b", "y");
        let to = scratch.tree("outer");
        to.dir("to");
        let result = attempt(&[named(source.path().join("d").join(dots))], to.at("to"), |_| {});
        assert!(
            to.names().iter().all(|n| n.starts_with("to")),
            "{dots}: {:?}",
            to.names()
        );
        if let Ok(copied) = result {
            copied.complete();
            assert!(to.names().len() > 1, "{dots}: {:?}", to.names());
        }
    }
}

/// What two sources bring under one name is the same, or one of them fails, or the first or the last one is wanted; a move
/// leaves what lost, and a dry run says the same.
#[test]
fn one_name_of_two_sources() {
    type Case = (Collision, &'static str, &'static [&'static str]);
    const FAILURES: [&str; 5] = ["d/x", "dir", "fifo", "file", "link"];
    let cases: [Case; 3] = [
        (Collision::Fail, "two", &FAILURES),
        (Collision::Last, "two", &[]),
        (Collision::First, "one", &[]),
    ];
    for (rule, wins, fail) in cases {
        for (dry_run, moves) in [(true, false), (false, false), (true, true), (false, true)] {
            let what = format!("{rule:?} {dry_run} {moves}");
            let scratch = Scratch::new();
            let [one, two] = ["one", "two"].map(|name| {
                let tree = scratch.tree(name);
                tree.file("d/x", name).file("file", name).symlink("link", name);
                tree.file("same", "same")
                    .symlink("same-link", "same")
                    .file("d/same", "");
                tree
            });
            // As long, and other; and of another kind.
            one.file("dir/inner", "one")
                .special("fifo", bulkhaul_engine::Kind::Fifo, 0);
            two.file("dir", "two").file("fifo", "two");
            let to = scratch.at("to");
            let copied = copy(&[contents(one.path()), contents(two.path())], &to, |o| {
                (o.on_collision, o.dry_run, o.remove_sources) = (rule, dry_run, moves);
            });
            assert!(copied.report.accounted, "{what}: {copied:?}");
            let named: Vec<String> = copied.failures(one.path());
            let wanted: Vec<String> = fail.iter().map(|name| format!("collision create - {name}")).collect();
            assert_eq!(named, wanted, "{what}");
            assert_eq!(copied.report.is_complete(), fail.is_empty(), "{what}: {copied:?}");
            for failure in &copied.report.failures {
                let other = format!("content: {}", two.path().display());
                assert!(failure.message.contains(&other), "{what}: {}", failure.message);
            }
            let notes = copied.report.notes.iter().filter(|note| note.kind == "same-name");
            let same: u64 = notes.map(|note| note.count).sum();
            assert_eq!(same, if rule == Collision::Fail { 3 } else { 0 }, "{what}");
            assert_eq!(to.exists(), !dry_run, "{what}");
            if !dry_run {
                let to = scratch.tree("to");
                assert_eq!(to.read("d/x"), wins.as_bytes(), "{what}");
                assert_eq!(to.read("file"), wins.as_bytes(), "{what}");
                assert_eq!(fs::read_link(to.at("link")).unwrap().to_str(), Some(wins), "{what}");
                assert_eq!(to.at("dir").is_dir(), rule == Collision::First, "{what}");
            }
            let loser = if rule == Collision::First { &two } else { &one };
            for name in ["d/x", "file", "dir", "fifo", "same"] {
                assert!(
                    loser.at(name).symlink_metadata().is_ok(),
                    "{what}: {name} of the loser stays"
                );
            }
        }
    }
}
