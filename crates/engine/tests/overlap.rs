//! A copy onto or into itself is refused before the first write.

use std::fs;
use std::path::PathBuf;

use bulkhaul_engine::copy::options::SourceArgument;
use bulkhaul_engine::entry::Reason;
use bulkhaul_engine::error::Refusal;

use crate::rig::{Scratch, Tree, attempt, compare, contents, copy, has_staging, listing, named};

/// A tree with something of everything in which a destination may hide.
fn tree(scratch: &Scratch) -> Tree {
    let tree = Tree::new(scratch.at("t"));
    tree.file("source/a", "x")
        .file("source/d/b", "y")
        .link("beside", "source/a");
    tree.symlink("to-source", "source")
        .symlink("to-d", "source/d")
        .symlink("d-up", "source/d/..");
    tree.file("elsewhere/a", "z").link("elsewhere/b", "source/a");
    tree
}

#[test]
fn refused_before_the_first_write() {
    type Arguments = fn(&Tree) -> (SourceArgument, PathBuf);
    let cases: [(&str, Arguments); 13] = [
        ("onto itself", |t| (contents(t.at("source")), t.at("source"))),
        ("onto itself, by a link", |t| {
            (contents(t.at("source")), t.at("to-source"))
        }),
        ("onto itself, by dots", |t| {
            (contents(t.at("source")), t.at("source/d/.."))
        }),
        ("the source by a link", |t| {
            (contents(t.at("to-source")), t.at("source"))
        }),
        ("into its own directory", |t| {
            (named(t.at("source")), t.path().to_owned())
        }),
        ("inside, there", |t| {
            (contents(t.at("source")), t.path().join("source/d"))
        }),
        ("inside, absent", |t| {
            (contents(t.at("source")), t.path().join("source/d/new"))
        }),
        ("inside, far below what is absent", |t| {
            (contents(t.at("source")), t.path().join("source/p/q/r"))
        }),
        ("inside, by a link", |t| {
            (contents(t.at("source")), t.path().join("to-d/new"))
        }),
        ("named, inside", |t| (named(t.at("source")), t.path().join("source/d"))),
        ("named, into itself", |t| {
            (named(t.at("source")), t.path().join("source"))
        }),
        ("a file onto itself", |t| (named(t.at("source/a")), t.at("source"))),
        ("a file onto its hard link", |t| {
            (crate::rig::renamed(t.at("source/a"), "b"), t.at("elsewhere"))
        }),
    ];
    for (what, arguments) in cases {
        for dry_run in [false, true] {
            let scratch = Scratch::new();
            let tree = tree(&scratch);
            let (source, destination) = arguments(&tree);
            let before = listing(tree.path());
            let result = attempt(&[source], destination, |o| o.dry_run = dry_run);
            assert!(matches!(result, Err(Refusal::Safety(_))), "{what}: {result:?}");
            assert_eq!(listing(tree.path()), before, "{what}");
        }
    }
}

#[test]
fn not_an_overlap() {
    type Arguments = fn(&Tree) -> (SourceArgument, PathBuf);
    let cases: [(&str, Arguments); 4] = [
        ("a name that begins alike", |t| {
            (contents(t.at("source")), t.path().join("source-2"))
        }),
        ("the source inside the destination", |t| {
            (contents(t.at("source/d")), t.path().join("source"))
        }),
        ("beside it", |t| (named(t.at("source")), t.path().join("elsewhere"))),
        ("a link to it, as a link", |t| {
            (named(t.at("to-source")), t.path().join("source"))
        }),
    ];
    for (what, arguments) in cases {
        let scratch = Scratch::new();
        let tree = tree(&scratch);
        let (source, destination) = arguments(&tree);
        let copied = copy(&[source], destination, |_| {});
        assert!(copied.report.is_complete(), "{what}: {copied:?}");
    }
}

/// Bind mounts: other paths to the same directories.
#[test]
fn refused_through_bind_mounts() {
    let scratch = Scratch::new();
    let tree = tree(&scratch);
    let (whole, part) = (scratch.at("whole"), scratch.at("part"));
    if !Scratch::bind(&tree.at("source"), &whole) || !Scratch::bind(&tree.at("source/d"), &part) {
        return;
    }
    let cases = [
        ("the source itself", contents(tree.at("source")), whole.clone()),
        ("into the source", contents(tree.at("source")), whole.join("new")),
        (
            "out of the mount, into what it shows",
            contents(&whole),
            tree.path().join("source/new"),
        ),
        ("a part of the source", contents(tree.at("source")), part.clone()),
        (
            "into a part of the source",
            contents(tree.at("source")),
            part.join("p/q"),
        ),
        ("named, into a part of it", named(tree.at("source")), part.join("p")),
        (
            "a mount of the whole, into a mount of a part",
            contents(&whole),
            part.join("p"),
        ),
        ("a file onto itself", named(tree.at("source/a")), whole.clone()),
    ];
    for (what, source, destination) in cases {
        let before = listing(tree.path());
        let result = attempt(&[source], destination, |_| {});
        assert!(matches!(result, Err(Refusal::Safety(_))), "{what}: {result:?}");
        assert_eq!(listing(tree.path()), before, "{what}");
    }
    // The other way round nothing overlaps.
    copy(&[contents(&part)], scratch.at("to"), |_| {}).complete();
    compare(&part, &scratch.at("to"));
}

/// Where it is allowed, a destination below the source is made, filled, and not descended into.
#[test]
fn nested_where_allowed() {
    for (below, existing, dry_run) in [
        ("new", false, false),
        ("d/new", false, false),
        ("p/q/new", false, false),
        ("d", true, false),
        ("d", true, true),
        ("new", false, true),
    ] {
        for jobs in [1, 4] {
            let scratch = Scratch::new();
            let source = scratch.tree("source");
            source.file("a", "x").file("d/b", "y").file("z/c", "z");
            let to = source.path().join(below);
            let nested = |o: &mut bulkhaul_engine::copy::options::CopyOptions| {
                (o.allow_nested, o.dry_run, o.jobs) = (true, dry_run, jobs);
            };
            let copied = copy(&[contents(source.path())], &to, nested).complete();
            let what = format!("{below}, dry: {dry_run}, {jobs} jobs: {:?}", source.names());
            if dry_run {
                assert_eq!(source.names().len(), 5, "{what}");
                continue;
            }
            assert_eq!(fs::read(to.join("a")).unwrap(), b"x", "{what}");
            assert_eq!(fs::read(to.join("z/c")).unwrap(), b"z", "{what}");
            assert!(!to.join(below).join("a").exists(), "{what}");
            assert!(!has_staging(source.path()), "{what}");
            let reasons = copied.report.totals.reasons;
            let passed_over = reasons[Reason::Destination as usize] + reasons[Reason::StagingName as usize];
            assert_eq!(passed_over, 1, "{what}: {}", copied.counts());
            if existing {
                continue;
            }
            // Again, now that it is there.
            let names = source.names();
            let again = copy(&[contents(source.path())], &to, nested).complete();
            assert_eq!(again.report.totals.reasons[Reason::Destination as usize], 1, "{what}");
            assert_eq!(source.names(), names, "{what}");
        }
    }
    // Onto itself is refused even so.
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source.file("a", "x");
    let result = attempt(&[contents(source.path())], source.path(), |o| o.allow_nested = true);
    assert!(matches!(result, Err(Refusal::Safety(_))), "{result:?}");
}
