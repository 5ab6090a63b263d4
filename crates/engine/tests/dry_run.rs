//! A dry run writes nothing and says what the real run then does.

use std::collections::BTreeMap;
use std::fs;

use bulkhaul_engine::bytes::transfer::Sparse;
use bulkhaul_engine::copy::options::CopyOptions;

use crate::rig::{Copied, Scratch, Tree, contents, copy, listing};

/// A destination with one entry of each fate, and its source.
fn trees(scratch: &Scratch) -> (Tree, Tree) {
    let (source, to) = (scratch.tree("source"), scratch.tree("to"));
    for tree in [&source, &to] {
        for name in [
            "unchanged",
            "changed",
            "tail",
            "mode",
            "later",
            "d/unchanged",
            "d/e/changed",
        ] {
            tree.file(name, name).time(name, 1_000_000_000, 5);
        }
        tree.symlink("link-same", "x")
            .symlink("link-other", "x")
            .time("link-same", 1, 1);
        tree.file("x-one", "linked")
            .link("x-two", "x-one")
            .time("x-one", 1_000_000_000, 1);
    }
    source
        .file("changed", "other size")
        .file("d/e/changed", "changed in place")
        .time("d/e/changed", 1_000_000_001, 0);
    source
        .file("tail", "TAIL")
        .time("tail", 1_000_000_000, 5)
        .time("later", 1_000_000_000, 6);
    source
        .mode("mode", 0o711)
        .xattr("unchanged", "user.new", b"1")
        .mode("d/e", 0o700);
    to.mode("mode", 0o600).xattr("d/unchanged", "user.old", b"1");
    source
        .file("new", "n")
        .file("new-d/f", "n")
        .file("new-d/deep/f", "n")
        .link("new-d/linked", "new")
        .dir("new-d/empty");
    source
        .symlink("new-link", "n")
        .special("fifo", bulkhaul_engine::Kind::Fifo, 0);
    fs::remove_file(source.at("link-other")).unwrap();
    source.symlink("link-other", "y");
    source
        .file("dir-there", "f")
        .file("file-there/inside", "f")
        .file("link-there/inside", "f");
    to.file("dir-there/kept", "k")
        .file("file-there", "k")
        .symlink("link-there", "d")
        .file("only-there", "k");
    source.file("x-three", "").link("x-four", "x-one");
    fs::remove_file(to.at("x-two")).unwrap();
    to.file("x-two", "linked").time("x-two", 1_000_000_000, 1);
    (source, to)
}

/// Path to outcome, what differs, why it was skipped, and bytes.
fn told(copied: &Copied) -> BTreeMap<String, String> {
    let entries = copied.entries.iter().map(|e| {
        let changes: Vec<&str> = e.changes.names().collect();
        let text = format!("{:?} {changes:?} {:?} {}", e.outcome, e.reason, e.bytes);
        (String::from_utf8_lossy(&e.path).into_owned(), text)
    });
    entries.collect()
}

#[test]
fn says_what_the_real_run_does() {
    type Change = fn(&mut CopyOptions);
    let cases: [(&str, Change); 6] = [
        ("by default", |_| {}),
        ("content only", |o| o.content_only = true),
        ("full hash, sparse", |o| {
            (o.full_hash, o.sparse) = (true, Sparse::Always);
        }),
        ("chmod", |o| o.chmod = Some("Fg+w,D750".into())),
        ("links to directories are kept", |o| o.keep_dirlinks = true),
        ("no owner, no tail", |o| (o.owner, o.hash_size) = (false, 0)),
    ];
    for (what, change) in cases {
        let scratch = Scratch::new();
        let (source, to) = trees(&scratch);
        let before = [listing(source.path()), listing(to.path())];
        // One worker: which of several links comes first is the same in both runs.
        let change = |o: &mut CopyOptions| {
            o.jobs = 1;
            change(o);
        };
        let dry = copy(&[contents(source.path())], to.path(), |o| {
            change(o);
            o.dry_run = true;
        });
        assert_eq!([listing(source.path()), listing(to.path())], before, "{what}");
        let real = copy(&[contents(source.path())], to.path(), change);
        assert_eq!(dry.counts(), real.counts(), "{what}");
        assert_eq!(told(&dry), told(&real), "{what}");
        assert_eq!(dry.failures(to.path()), real.failures(to.path()), "{what}");
        assert!(!real.report.is_complete(), "{what}: there are conflicts");
        assert_eq!(listing(source.path()), before[0], "{what}");
        let (dry, real) = (dry.report.totals, real.report.totals);
        assert_eq!(dry.copied_bytes, 0, "{what}");
        assert!(dry.planned_bytes >= real.copied_bytes, "{what}");
        assert_eq!(
            (dry.found_bytes, dry.skipped_files),
            (real.found_bytes, real.skipped_files),
            "{what}"
        );
    }
}

#[test]
fn makes_no_destination() {
    let scratch = Scratch::new();
    let (source, _) = trees(&scratch);
    for to in ["absent", "p/q/absent"] {
        // One worker: which of several links comes first is the same in both runs.
        let dry = copy(&[contents(source.path())], scratch.at(to), |o| {
            (o.jobs, o.dry_run) = (1, true);
        })
        .complete();
        assert!(!scratch.at(to.split('/').next().unwrap()).exists());
        let real = copy(&[contents(source.path())], scratch.at(to), |o| o.jobs = 1).complete();
        assert_eq!((dry.counts(), told(&dry)), (real.counts(), told(&real)));
    }
}

#[test]
fn lists_everything_even_where_nobody_may_write() {
    let scratch = Scratch::new();
    let Some(base) = scratch.file_system("tmpfs", "rw") else {
        return;
    };
    let (source, _) = trees(&scratch);
    let to = Tree::new(base.join("to"));
    to.file("changed", "old");
    crate::rig::must("mount", &[&"-o", &"remount,ro", &base]);
    let dry = copy(&[contents(source.path())], to.path(), |o| o.dry_run = true).complete();
    assert_eq!(dry.entry("new-d/deep/f").bytes, 1);
    assert_eq!(to.names(), ["changed"]);
}
