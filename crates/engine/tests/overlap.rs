//! A copy onto or into itself is refused before the first write.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use bulkhaul_engine::copy::given::IN_A_SOURCE;
use bulkhaul_engine::copy::options::{CopyOptions, DestinationArgument, FilesFrom, SourceArgument};
use bulkhaul_engine::entry::Reason;
use bulkhaul_engine::error::Refusal;

use crate::rig::{Scratch, Tree, attempt, compare, contents, copy, has_staging, listing, named, renamed};

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
            (renamed(t.at("source/a"), "b"), t.at("elsewhere"))
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
            let nested = |o: &mut CopyOptions| {
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

/// A tree that holds its source, of which an entry has the name that the source has.
fn nest(scratch: &Scratch, name: &str) -> Tree {
    let tree = Tree::new(scratch.at(name));
    tree.file("data/a", "own")
        .file("data/d/b", "own")
        .file("data/old", "own");
    tree.file("data/data/a", "inner")
        .file("data/data/d/b", "inner")
        .file("data/data/new", "inner");
    tree.file("stays", "x");
    tree
}

/// A source inside its destination is not written into: what would come there is in conflict, all else is copied.
#[test]
fn what_would_come_into_the_source_is_a_conflict() {
    type Case = (
        &'static str,
        fn(&Scratch, &Tree) -> SourceArgument,
        fn(&mut CopyOptions),
    );
    let cases: [Case; 8] = [
        ("plain", |_, q| contents(q.at("data")), |_| {}),
        ("one worker", |_, q| contents(q.at("data")), |o| o.jobs = 1),
        ("by dots", |_, q| contents(q.at("data/d/..")), |_| {}),
        (
            "by a link",
            |scratch, q| {
                symlink(q.at("data"), scratch.at("link")).unwrap();
                contents(scratch.at("link"))
            },
            |_| {},
        ),
        ("read back", |_, q| contents(q.at("data")), |o| o.verify = true),
        (
            "nothing extra stays",
            |_, q| contents(q.at("data")),
            |o| o.remove_extra = true,
        ),
        ("a dry run", |_, q| contents(q.at("data")), |o| o.dry_run = true),
        ("a move", |_, q| contents(q.at("data")), |o| o.remove_sources = true),
    ];
    for (what, source, change) in cases {
        let scratch = Scratch::new();
        let q = nest(&scratch, "q");
        let source = source(&scratch, &q);
        let before = listing(&q.at("data"));
        let copied = copy(&[source], q.path(), change).incomplete();
        assert_eq!(copied.failures(scratch.path()), ["conflict open - q/data"], "{what}");
        let failure = &copied.report.failures[0];
        assert!(failure.message.ends_with(IN_A_SOURCE), "{what}: {}", failure.message);
        match what {
            "a dry run" => assert_eq!(q.names().len(), 11, "{what}: {:?}", q.names()),
            "a move" => assert_eq!(
                [q.read("a"), q.read("d/b"), q.read("data/data/a")],
                [&b"own"[..], b"own", b"inner"]
            ),
            _ => {
                assert_eq!(listing(&q.at("data")), before, "{what}");
                assert_eq!([q.read("a"), q.read("d/b"), q.read("old")], [b"own"; 3], "{what}");
            }
        }
        assert_eq!(q.at("stays").exists(), what != "nothing extra stays", "{what}");
    }
}

#[test]
fn nothing_that_a_list_names_comes_into_the_source() {
    let scratch = Scratch::new();
    let q = nest(&scratch, "q");
    fs::write(scratch.at("list"), "a\ndata/a\n").unwrap();
    let before = listing(&q.at("data"));
    let listed = |o: &mut CopyOptions| {
        o.files_from = Some(FilesFrom {
            path: scratch.at("list").into_os_string().into_encoded_bytes(),
            nul: false,
            contents: false,
        });
    };
    let copied = copy(&[contents(q.at("data"))], q.path(), listed).incomplete();
    assert_eq!(copied.failures(scratch.path()), ["conflict open - q/data"]);
    assert_eq!(listing(&q.at("data")), before);
    assert_eq!(q.read("a"), b"own");
}

/// Of several destinations one that holds the source is left out for what would come there.
#[test]
fn another_destination_takes_what_would_come_into_the_source() {
    let scratch = Scratch::new();
    let (q, other) = (nest(&scratch, "q"), scratch.tree("other"));
    let before = listing(&q.at("data"));
    let copied = copy(&[contents(q.at("data"))], q.path(), |o| {
        o.destinations.push(DestinationArgument {
            path: other.path().as_os_str().as_encoded_bytes().to_vec(),
            follow: true,
        });
    })
    .incomplete();
    assert_eq!(copied.failures(scratch.path()), ["conflict open - q/data"]);
    assert_eq!(listing(&q.at("data")), before);
    assert_eq!(
        (q.read("a"), other.read("data/a")),
        (b"own".to_vec(), b"inner".to_vec())
    );
}

/// One source would come into another, in its place, or have it removed.
#[test]
fn a_source_is_safe_from_the_others() {
    for jobs in [1, 4] {
        for remove_extra in [false, true] {
            let scratch = Scratch::new();
            let (q, s) = (scratch.tree("q"), scratch.tree("s"));
            q.file("a/x", "source")
                .file("a/tree/f", "source")
                .file("a/l/x", "source")
                .dir("a/l/y");
            s.file("a/x", "other")
                .file("a/tree/f", "other")
                .file("a/tree/g", "other")
                .file("a/new", "other");
            s.file("a/l/x/below", "other").file("z", "other");
            // Extra in q/a/l, if it were no source.
            q.file("a/l/y/extra", "source");
            let sources = [
                contents(s.path()),
                named(q.at("a/x")),
                named(q.at("a/tree")),
                renamed(q.at("a/l/x"), "p"),
                renamed(q.at("a/l/y"), "r"),
            ];
            let copied = copy(&sources, q.path(), |o| (o.jobs, o.remove_extra) = (jobs, remove_extra)).incomplete();
            let what = format!("{jobs} jobs, {remove_extra}: {:?}", q.names());
            assert_eq!(
                copied.failures(scratch.path()),
                [
                    "conflict create - q/a/x",
                    "conflict mkdir - q/a/l/x",
                    "conflict open - q/a/tree"
                ],
                "{what}"
            );
            assert_eq!(q.read("a/new"), b"other", "{what}");
            let files = ["a/x", "a/tree/f", "a/l/x", "a/l/y/extra", "x", "tree/f", "p", "r/extra"];
            assert!(files.iter().all(|file| q.read(file) == b"source"), "{what}");
            assert_eq!(q.read("z"), b"other", "{what}");
        }
    }
}

/// What a link leads to, and is brought with it, does not come into the source either.
#[test]
fn targets_of_links_do_not_come_into_the_source() {
    let scratch = Scratch::new();
    let q = scratch.tree("q");
    q.file("data/data/x/f", "inner").symlink("data/l", "data/x/f");
    let names = q.names();
    let copied = copy(&[contents(q.at("data"))], q.path(), |o| o.link_tracking = true).incomplete();
    assert_eq!(copied.failures(scratch.path()), ["conflict open - q/data"]);
    assert_eq!(copied.notes(), ["link-target"]);
    let now = q.names().into_iter().filter(|name| name != "l");
    assert_eq!(now.collect::<Vec<_>>(), names);
}

/// A symlink of the destination that is followed, and a mount, lead into the source elsewhere than at its root.
#[test]
fn other_ways_into_the_source() {
    let scratch = Scratch::new();
    let q = nest(&scratch, "q");
    let before = listing(&q.at("data"));
    q.symlink("d", "data/data");
    let copied = copy(&[contents(q.at("data"))], q.path(), |o| o.keep_dirlinks = true).incomplete();
    assert_eq!(
        copied.failures(scratch.path()),
        ["conflict open - q/d", "conflict open - q/data"]
    );
    assert_eq!(listing(&q.at("data")), before);
    // A destination in its source, where that is allowed, may have links to what is its own.
    let s = scratch.tree("s");
    s.file("d/a", "x").dir("to/e").symlink("to/d", "e");
    let nested = |o: &mut CopyOptions| (o.allow_nested, o.keep_dirlinks) = (true, true);
    copy(&[contents(s.path())], s.at("to"), nested).complete();
    assert_eq!(s.read("to/e/a"), b"x");

    let p = nest(&scratch, "p");
    let before = listing(&p.at("data"));
    let whole = scratch.at("whole");
    if !Scratch::bind(p.path(), &whole) || !Scratch::bind(&p.at("data/data"), &p.at("d")) {
        return;
    }
    for to in [p.path(), &whole] {
        for source in [p.at("data"), whole.join("data")] {
            let copied = copy(&[contents(source)], to, |_| {}).incomplete();
            assert_eq!(copied.report.failures.len(), if to == p.path() { 2 } else { 1 });
            assert_eq!(listing(&p.at("data")), before);
        }
    }
}
