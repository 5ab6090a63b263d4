//! Symlinks in the destination, and entries of one kind where another comes.

use std::fs;

use bulkhaul_engine::Kind;
use bulkhaul_engine::copy::options::Collision;
use bulkhaul_engine::entry::Outcome;
use bulkhaul_engine::error::Refusal;

use crate::rig::{Scratch, Tree, compare, contents, copy, has_staging, named, options, run};

#[test]
fn what_may_take_whose_place() {
    // Source entry, destination entry, and whether it is replaced (or a directory entered).
    type Make = fn(&Tree);
    let file: Make = |t| {
        t.file("x", "a file");
    };
    let dir: Make = |t| {
        t.file("x/inside", "of a directory");
    };
    let link: Make = |t| {
        t.file("target", "untouched").symlink("x", "target");
    };
    let link_to_dir: Make = |t| {
        t.file("target/inside", "untouched").symlink("x", "target");
    };
    let dangling: Make = |t| {
        t.symlink("x", "nowhere");
    };
    let fifo: Make = |t| {
        t.special("x", Kind::Fifo, 0);
    };
    let cases: [(&str, Make, Make, bool); 14] = [
        ("file, link to a file", file, link, true),
        ("file, link to a directory", file, link_to_dir, true),
        ("file, dangling link", file, dangling, true),
        ("file, FIFO", file, fifo, true),
        ("file, directory", file, dir, false),
        ("link, file", dangling, file, true),
        ("link, another link", dangling, link, true),
        ("link, directory", dangling, dir, false),
        ("FIFO, file", fifo, file, true),
        ("FIFO, directory", fifo, dir, false),
        ("directory, file", dir, file, false),
        ("directory, dangling link", dir, dangling, false),
        ("directory, link to a directory", dir, link_to_dir, false),
        ("directory, FIFO", dir, fifo, false),
    ];
    for (what, from, there, replaced) in cases {
        let scratch = Scratch::new();
        let (source, to) = (scratch.tree("source"), scratch.tree("to"));
        from(&source);
        source
            .file("beside", "copied anyway")
            .file("zz/beside", "copied anyway");
        there(&to);
        let old = crate::rig::listing(&to.at("x"));
        let dry = copy(&[contents(source.path())], to.path(), |o| o.dry_run = true);
        let copied = copy(&[contents(source.path())], to.path(), |_| {});
        assert_eq!(dry.counts(), copied.counts(), "{what}");
        assert_eq!(copied.report.is_complete(), replaced, "{what}: {copied:?}");
        assert_eq!(
            (to.read("beside"), to.read("zz/beside")),
            (b"copied anyway".into(), b"copied anyway".into())
        );
        if replaced {
            let kind = |tree: &Tree| fs::symlink_metadata(tree.at("x")).unwrap().file_type();
            assert_eq!(kind(&to), kind(&source), "{what}");
        } else {
            assert_eq!(
                crate::rig::listing(&to.at("x")),
                old,
                "{what}: the old one is not intact"
            );
            assert_eq!(copied.report.totals.outcome_of(Outcome::Conflict), 1, "{what}");
            let failure = &copied.report.failures[0];
            assert_eq!(failure.path, to.at("x").as_os_str().as_encoded_bytes(), "{what}");
            assert_eq!((failure.kind, failure.errno), ("conflict", None), "{what}");
        }
        for kept in ["target", "target/inside"] {
            if to.path().join(kept).is_file() {
                assert_eq!(to.read(kept), b"untouched", "{what}");
            }
        }
        assert!(!has_staging(to.path()), "{what}");
    }
}

/// A link to a directory where a directory comes: a conflict, or followed.
#[test]
fn links_to_directories_in_the_destination() {
    for keep in [false, true] {
        let scratch = Scratch::new();
        let (source, to) = (scratch.tree("source"), scratch.tree("to"));
        source.file("d/deeper/f", "new").file("d/g", "new");
        let outside = scratch.tree("outside");
        outside.file("other", "stays");
        to.symlink("d", "../outside");
        let copied = copy(&[contents(source.path())], to.path(), |o| o.keep_dirlinks = keep);
        assert!(fs::symlink_metadata(to.at("d")).unwrap().is_symlink());
        assert_eq!(copied.report.is_complete(), keep);
        let names: &[&str] = if keep {
            &["deeper", "deeper/f", "g", "other"]
        } else {
            &["other"]
        };
        assert_eq!(outside.names(), names);
        if keep {
            // Times of the directory that the link leads to, not of the link.
            let time = |path| crate::rig::modified(path);
            assert_eq!(time(&source.at("d")), time(outside.path()));
        }
    }
    // A link to anything else is a conflict also where links are kept.
    let scratch = Scratch::new();
    let (source, to) = (scratch.tree("source"), scratch.tree("to"));
    source.file("d/f", "new");
    to.file("file", "old").symlink("d", "file");
    let copied = copy(&[contents(source.path())], to.path(), |o| o.keep_dirlinks = true).incomplete();
    assert_eq!(copied.failures(to.path()), ["conflict mkdir - d"]);
    assert_eq!(to.read("file"), b"old");
}

#[test]
fn the_destination_argument_itself() {
    for follow in [true, false] {
        let scratch = Scratch::new();
        let source = scratch.tree("source");
        source.file("f", "x");
        let real = scratch.tree("real");
        std::os::unix::fs::symlink("real", scratch.at("to")).unwrap();
        let mut options = options(&[contents(source.path())], scratch.at("to"));
        options.destinations[0].follow = follow;
        let result = bulkhaul_engine::copy::job(options).and_then(|job| run(&job));
        if follow {
            result.unwrap().complete();
            compare(source.path(), real.path());
        } else {
            assert!(matches!(result, Err(Refusal::NoDestination(_))), "{result:?}");
            assert!(real.names().is_empty());
        }
    }
}

#[test]
fn links_are_copied_as_they_are() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    let long = "x/".repeat(2000);
    for (name, text) in [
        ("relative", "d/f"),
        ("up", "../source/d/f"),
        ("absolute", "/etc/hostname"),
        ("dangling", "nowhere"),
        ("directory", "d"),
        ("itself", "itself"),
        ("long", long.as_str()),
        ("odd", " \n\u{202e}"),
    ] {
        source.symlink(name, text).time(name, 1_000_000_000, 5);
    }
    source.file("d/f", "x");
    let copied = copy(&[contents(source.path())], scratch.at("to"), |_| {}).complete();
    compare(source.path(), &scratch.at("to"));
    assert_eq!(copied.counts(), "made 10, copied 1");
    assert_eq!(copied.entry("dangling").target.as_deref(), Some(&b"nowhere"[..]));
    // Another text is another link, and its own times are put right.
    let to = Tree::new(scratch.at("to"));
    fs::remove_file(to.at("relative")).unwrap();
    to.symlink("relative", "else")
        .time("up", 5, 5)
        .time("", 1_000_000_000, 0);
    source.time("", 1_000_000_000, 0);
    let again = copy(&[contents(source.path())], to.path(), |_| {}).complete();
    compare(source.path(), to.path());
    assert_eq!(again.counts(), "made 1, metadata 1, skipped 9 (unchanged 9)");
}

/// A source argument that is a link leads out of nothing, even where an earlier copy put a link there.
#[test]
fn a_link_of_the_source_is_no_way_out() {
    let scratch = Scratch::new();
    let (one, two) = (scratch.tree("one"), scratch.tree("two"));
    let outside = scratch.tree("outside");
    one.symlink("d", outside.path().to_str().unwrap());
    two.file("d/f", "x");
    copy(&[contents(one.path())], scratch.at("to"), |_| {}).complete();
    let copied = copy(&[contents(two.path())], scratch.at("to"), |_| {}).incomplete();
    assert_eq!(copied.failures(&scratch.at("to")), ["conflict mkdir - d"]);
    assert!(outside.names().is_empty());
    // Both at once: the later one wins, and it is a directory.
    copy(&[contents(one.path()), contents(two.path())], scratch.at("both"), |o| {
        o.on_collision = Collision::Last;
    })
    .complete();
    assert!(outside.names().is_empty());
    assert_eq!(fs::read(scratch.at("both/d/f")).unwrap(), b"x");
    copy(&[named(one.at("d"))], scratch.at("named"), |_| {}).complete();
    assert!(fs::symlink_metadata(scratch.at("named/d")).unwrap().is_symlink());
}
