//! Patches: what a comparison says of two trees is done to one of them, which is the other then.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use bulkhaul_engine::compare::options::{CompareOptions, DiffForm, SideOptions};
use bulkhaul_engine::error::Refusal;
use bulkhaul_engine::event::Event;
use bulkhaul_engine::patch::options::{Hash, PatchOptions};
use bulkhaul_engine::walk::start::Root;
use bulkhaul_engine::{compare, patch};
use bulkhaul_sys::failpoint::{self, Effect, Plan};
use proptest::prelude::*;

use crate::rig::fault::{again, each, exhaustive, facts, finish, order, say};
use crate::rig::{Copied, NOBODY, Scratch, Tree, apart, has_staging, listing, must, root, run, watch};

/// The list that turns `base` into `new`.
fn changes(new: &Path, base: &Path, to: &Path) -> PathBuf {
    let side = |path: &Path| {
        SideOptions::Trees(vec![Root {
            path: path.as_os_str().as_bytes().to_vec(),
            follow: true,
            contents: true,
            pin: None,
        }])
    };
    let options = CompareOptions {
        hash_size: u64::MAX,
        metadata: true,
        directory_times: false,
        xattrs: true,
        specials: false,
        output: Some(to.as_os_str().as_bytes().to_vec()),
        form: DiffForm::Changes,
        jobs: 2,
        ..CompareOptions::new(side(new), side(base))
    };
    let report = compare::job(options).unwrap().run().unwrap();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    to.to_owned()
}

fn options(list: &Path, payload: &Path, target: &Path) -> PatchOptions {
    let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
    PatchOptions {
        changes: bytes(list),
        payloads: vec![bytes(payload)],
        target: bytes(target),
        hash_size: u64::MAX,
        jobs: 2,
        entry_events: true,
        ..PatchOptions::default()
    }
}

fn attempt(
    list: &Path,
    payload: &Path,
    target: &Path,
    change: impl FnOnce(&mut PatchOptions),
) -> Result<Copied, Refusal> {
    let mut options = options(list, payload, target);
    change(&mut options);
    run(&patch::job(options)?)
}

fn apply(list: &Path, payload: &Path, target: &Path) -> Copied {
    attempt(list, payload, target, |_| {}).unwrap()
}

/// What rsync finds between two trees, but for times of directories.
fn differences(one: &Path, other: &Path) -> String {
    let slash = |path: &Path| format!("{}/", path.display());
    let arguments: [&dyn AsRef<std::ffi::OsStr>; 6] =
        [&"-aniAX", &"--checksum", &"--delete", &"-O", &slash(one), &slash(other)];
    must("rsync", &arguments)
}

fn twin(tree: &Path, name: &str) -> PathBuf {
    let to = tree.with_file_name(name);
    must("cp", &[&"-a", &tree, &to]);
    to
}

/// Two trees with all that a patch has to do between them.
fn two_trees(scratch: &Scratch) -> (Tree, Tree) {
    let (new, base) = (scratch.tree("new"), scratch.tree("base"));
    for tree in [&new, &base] {
        tree.file("same", "same").time("same", 1_700_000_000, 5);
        tree.file("d/same", "same").time("d/same", 1_700_000_000, 0);
        tree.symlink("link-same", "same");
    }
    new.file("longer", vec![7; 300_000])
        .file("mode", "x")
        .file("d/new", "new");
    base.file("longer", vec![7; 299_999])
        .file("mode", "x")
        .file("d/old", "old");
    new.mode("mode", 0o4711)
        .mode("d", 0o2750)
        .time("mode", 1_600_000_000, 1);
    base.time("mode", 1_600_000_000, 1);
    new.file("head", [vec![1], vec![0; 200_000]].concat())
        .time("head", 1_600_000_000, 1);
    base.file("head", vec![0; 200_001]).time("head", 1_600_000_000, 1);
    new.file("was-dir", "a file now")
        .dir("was-file/in")
        .symlink("was-link/x", "y")
        .dir("closed/in");
    base.file("was-dir/in/it", "")
        .file("was-file", "1")
        .symlink("was-link", "d")
        .file("was-too", "");
    new.mode("closed", 0o500)
        .symlink("was-too", "nowhere")
        .symlink("text", "b");
    base.symlink("text", "a")
        .dir("gone/far/away")
        .file("gone/a", "")
        .symlink("gone/l", "..")
        .file("gone-", "");
    new.file("odd \t\n\\\u{e9}", "odd").file("empty", "");
    base.file("odd", "odd");
    new.file("x", "x").xattr("x", "user.k", b"v").xattr("d", "user.d", b"e");
    base.file("x", "x")
        .xattr("x", "user.k", b"w")
        .xattr("x", "user.more", b"");
    if root() {
        new.owner("x", 12, 34).owner("was-too", 12, 34);
    }
    new.mode("", 0o750).xattr("", "user.top", b"t");
    (new, base)
}

#[test]
fn turns_one_tree_into_the_other() {
    let scratch = Scratch::new();
    let (new, base) = two_trees(&scratch);
    new.file(std::ffi::OsStr::from_bytes(b"no UTF-8: \xff\xfe\r"), "odd");
    let list = changes(new.path(), base.path(), &scratch.at("list"));
    let rows = fs::read(&list).unwrap().split(|b| *b == b'\n').count() as u64 - 3;
    let target = twin(base.path(), "target");
    let before = listing(&target);
    let planned = attempt(&list, new.path(), &target, |options| options.dry_run = true).unwrap();
    assert_eq!(listing(&target), before);
    let done = apply(&list, new.path(), &target).complete();
    assert_eq!(done.report.totals.all_outcomes(), rows);
    assert_eq!(done.counts(), planned.counts());
    assert_eq!(differences(new.path(), &target), "");
    assert!(!has_staging(&target));
    // What is done is passed over.
    let after = listing(&target);
    let again = apply(&list, new.path(), &target).complete();
    assert_eq!(again.counts(), format!("skipped {rows} (unchanged {rows})"));
    assert_eq!(listing(&target), after);
    // It was made to be, so a patch for it has nothing to say.
    let none = changes(new.path(), &target, &scratch.at("none"));
    assert_eq!(fs::read_to_string(none).unwrap().lines().count(), 2);
}

#[test]
fn a_conflict_changes_nothing_until_it_is_overruled() {
    let scratch = Scratch::new();
    let (new, base) = two_trees(&scratch);
    let list = changes(new.path(), base.path(), &scratch.at("list"));
    let spoilers: [(&str, Spoiler); 9] = [
        ("longer", |tree| {
            _ = tree.file("longer", "other");
        }),
        ("head", |tree| {
            _ = tree.file("head", vec![2; 200_001]).time("head", 1_600_000_000, 1);
        }),
        ("mode", |tree| {
            _ = tree.mode("mode", 0o600);
        }),
        ("x", |tree| {
            _ = tree.xattr("x", "user.k", b"other");
        }),
        ("gone/far", |tree| {
            _ = tree.file("gone/far/unnamed", "");
        }),
        ("empty", |tree| {
            _ = tree.dir("empty/full");
        }),
        ("text", |tree| {
            fs::remove_file(tree.at("text")).unwrap();
            tree.symlink("text", "elsewhere");
        }),
        ("gone/a", |tree| {
            _ = tree.time("gone/a", 5, 5);
        }),
        ("was-file", |tree| {
            fs::remove_file(tree.at("was-file")).unwrap();
            tree.symlink("was-file", "d");
        }),
    ];
    for (path, spoil) in spoilers {
        let target = Tree::new(twin(base.path(), &format!("target-{}", path.replace('/', "-"))));
        spoil(&target);
        let before = listing(target.path());
        for dry_run in [true, false] {
            let refused = attempt(&list, new.path(), target.path(), |options| options.dry_run = dry_run).unwrap();
            let refused = refused.incomplete();
            let failures = refused.failures(target.path());
            assert!(
                failures.iter().any(|f| f == &format!("conflict stat - {path}")),
                "{path}: {failures:?}"
            );
            assert_eq!(listing(target.path()), before, "{path}");
        }
        let forced = attempt(&list, new.path(), target.path(), |options| options.force = true).unwrap();
        assert!(forced.complete().notes().contains(&"overruled"), "{path}");
        assert_eq!(differences(new.path(), target.path()), "", "{path}");
    }
}

#[test]
fn somebody_may_overrule_conflicts() {
    let scratch = Scratch::new();
    let (new, base) = two_trees(&scratch);
    let list = changes(new.path(), base.path(), &scratch.at("list"));
    base.file("longer", "other");
    let before = listing(base.path());
    for answer in [false, true] {
        let mut options = options(&list, new.path(), base.path());
        options.confirm = true;
        let job = patch::job(options).unwrap();
        let mut asked = Vec::new();
        let done = watch(&job, |event| {
            if let Event::Question(victims) = event {
                let first = String::from_utf8_lossy(&victims[0].first[0]).into_owned();
                asked.push((victims[0].what, victims[0].entries, first));
                job.answer(answer);
            }
        });
        let done = done.unwrap();
        let what = "longer: its content is neither what the patch expects nor what it brings";
        assert_eq!(asked, [(patch::CONFLICTS, 1, what.to_owned())]);
        if answer {
            done.complete();
            assert_eq!(differences(new.path(), base.path()), "");
        } else {
            assert_eq!(done.incomplete().failures(base.path()), ["conflict stat - longer"]);
            assert_eq!(listing(base.path()), before);
        }
    }
}

#[test]
fn what_is_hashed_is_as_the_patch_says() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let payload = scratch.tree("payload");
    payload.file("new", "head and tail").mode("new", 0o644);
    let xxh64 = |bytes: &[u8]| format!("{:016x}", bulkhaul_formats::digest::xxh64(bytes));
    let blake2b = |bytes: &[u8]| {
        let mut hash = bulkhaul_formats::digest::Blake2b::default();
        hash.update(bytes);
        hash.digest().map(|byte| format!("{byte:02x}")).concat()
    };
    let cases = [
        (Hash::Xxh64, 4, xxh64(b"tail"), true),
        (Hash::Xxh64, 4, xxh64(b"head and tail"), false),
        // Of the whole file, whatever the others are of.
        (Hash::Xxh64, 4, format!("F{}", xxh64(b"head and tail")), true),
        (Hash::Xxh64, 4, format!("F{}", xxh64(b"tail")), false),
        (Hash::Xxh64, u64::MAX, xxh64(b"head and tail"), true),
        (Hash::Blake2b, u64::MAX, blake2b(b"head and tail"), true),
        (Hash::Blake2b, 4, blake2b(b"tail"), true),
        (Hash::Blake2b, 4, xxh64(b"tail"), false),
        (Hash::Xxh64, 0, "-".to_owned(), true),
    ];
    for (number, (hash, hash_size, digits, fits)) in cases.into_iter().enumerate() {
        let target = scratch.tree(&format!("target-{number}"));
        let list = rows(
            &scratch,
            &[&format!("A\tnew\t-\tf:13:2000000001:100644:0:0:{digits}:-")],
        );
        let set = |options: &mut PatchOptions| (options.hash, options.hash_size) = (hash, hash_size);
        let done = attempt(&list, payload.path(), target.path(), set).unwrap();
        assert_eq!(done.report.is_complete(), fits, "{number}: {done:?}");
        assert_eq!(target.names().len(), usize::from(fits), "{number}");
        let again = attempt(&list, payload.path(), target.path(), set).unwrap();
        assert_eq!(again.counts() == "skipped 1 (unchanged 1)", fits, "{number}: {again:?}");
    }
}

#[test]
fn what_has_no_room_is_not_begun() {
    let scratch = Scratch::new();
    let Some(small) = scratch.file_system("tmpfs", "size=4m") else {
        return;
    };
    let payload = scratch.tree("payload");
    payload.file("new", vec![1; 5 << 20]).mode("new", 0o644);
    fs::File::create(payload.at("holes")).unwrap().set_len(1 << 30).unwrap();
    let row = |name: &str, size: u64| format!("A\t{name}\t-\tf:{size}:2000000001:100644:0:0:-:-");
    let list = rows(&scratch, &[&row("new", 5 << 20), "A\tlink\t-\tl:x"]);
    let refused = attempt(&list, payload.path(), &small, |_| {});
    assert!(matches!(refused, Err(Refusal::NoSpace(_))), "{refused:?}");
    assert_eq!(Tree::new(small.clone()).names().len(), 0);
    // Holes take none.
    payload.mode("holes", 0o644);
    apply(&rows(&scratch, &[&row("holes", 1 << 30)]), payload.path(), &small).complete();
}

#[test]
fn who_is_not_root_does_what_is_possible() {
    const TEST: &str = "patch::who_is_not_root_does_what_is_possible";
    let prepare = |scratch: &Scratch| {
        let (new, base) = (scratch.tree("new"), scratch.tree("base"));
        new.file("closed/in/file", "x")
            .file("closed/file", "y")
            .file("mine", "z")
            .dir("there");
        new.mode("closed/in", 0o500).mode("closed", 0o550).mode("there", 0o500);
        base.dir("there").file("there/old", "");
        must("chown", &[&"-R", &"65534:65534", &new.path(), &base.path()]);
        new.owner("mine", 0, 0).mode("mine", 0o4755);
        changes(new.path(), base.path(), &scratch.at("list"));
        must("chmod", &[&"644", &scratch.at("list")]);
    };
    let body = |scratch: &Path| {
        let (new, base) = (scratch.join("new"), scratch.join("base"));
        let done = apply(&scratch.join("list"), &new, &base).complete();
        // Nobody but root gives files away, nor the rights that go with them.
        assert_eq!(done.notes(), ["group", "owner", "setid-dropped"]);
        let again = apply(&scratch.join("list"), &new, &base).complete();
        assert_eq!(again.counts(), "skipped 7 (unchanged 7)");
    };
    let after = |scratch: &Scratch| {
        let (new, base) = (scratch.tree("new"), scratch.tree("base"));
        fs::set_permissions(base.at("mine"), fs::metadata(new.at("mine")).unwrap().permissions()).unwrap();
        base.owner("mine", 0, 0).mode("mine", 0o4755);
        assert_eq!(differences(new.path(), base.path()), "");
    };
    apart(TEST, NOBODY, prepare, body, after);
}

/// Makes a tree another than it was.
type Spoiler = fn(&Tree);

const FILE: &str = "f:1:2000000001:100644:0:0:-:-";

/// A list of these rows.
fn rows(scratch: &Scratch, rows: &[&str]) -> PathBuf {
    let text = format!("#hpcp-changes\t1\n{}\n", rows.join("\n"));
    let path = scratch.at(&format!("list-{:x}", bulkhaul_formats::digest::xxh64(text.as_bytes())));
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn nothing_outside_of_the_target_is_ever_touched() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (outside, payload, target) = (scratch.tree("outside"), scratch.tree("payload"), scratch.tree("target"));
    outside.file("x", "1").file("deep/x", "1").mode("x", 0o644);
    target
        .symlink("out", "../outside")
        .symlink("absolute", outside.path())
        .symlink("up", "..");
    target.symlink("in", "real").dir("real").file("file", "");
    for path in [
        "out/new",
        "absolute/new",
        "up/new",
        "out/deep/new",
        "in/new",
        "absent/new",
        "file/new",
    ] {
        payload.file(path, "n").mode(path, 0o644);
    }
    let before = listing(outside.path());
    for (row, expected) in [
        (
            format!("A\tout/new\t-\t{FILE}"),
            "a symlink on the way to it leads out of the target",
        ),
        (
            format!("A\tabsolute/new\t-\t{FILE}"),
            "a symlink on the way to it leads out of the target",
        ),
        (
            format!("A\tup/new\t-\t{FILE}"),
            "a symlink on the way to it leads out of the target",
        ),
        (
            format!("A\tout/deep/new\t-\t{FILE}"),
            "a symlink on the way to it leads out of the target",
        ),
        (
            format!("D\tout/x\t{FILE}\t-"),
            "a symlink on the way to it leads out of the target",
        ),
        (
            format!("M\tabsent/new\t{FILE}\t{FILE}"),
            "the directory that it belongs in is not there",
        ),
        (
            format!("A\tabsent/new\t-\t{FILE}"),
            "the directory that it belongs in is not there",
        ),
        (
            format!("A\tfile/new\t-\t{FILE}"),
            "the directory that it belongs in is not there",
        ),
    ] {
        let there = listing(target.path());
        let list = rows(&scratch, &[&row]);
        let refused = attempt(&list, payload.path(), target.path(), |options| options.force = true).unwrap();
        let refused = refused.incomplete();
        assert!(
            refused.report.failures[0].message.ends_with(expected),
            "{row}: {refused:?}"
        );
        assert_eq!(listing(outside.path()), before, "{row}");
        assert_eq!(listing(target.path()), there, "{row}");
    }
    // Links that stay inside are followed, and a link of this patch is none on the way.
    let list = rows(&scratch, &[&format!("A\tin/new\t-\t{FILE}")]);
    apply(&list, payload.path(), target.path()).complete();
    assert_eq!(target.read("real/new"), b"n");
    let list = rows(
        &scratch,
        &["A\tlink\t-\tl:../outside", &format!("A\tlink/new\t-\t{FILE}")],
    );
    let refused = attempt(&list, payload.path(), target.path(), |options| options.force = true);
    assert!(matches!(refused, Err(Refusal::List(_))), "{refused:?}");
    assert_eq!(listing(outside.path()), before);
}

#[test]
fn a_payload_that_is_not_what_it_says_changes_nothing() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let outside = scratch.tree("outside");
    outside.file("new", "n");
    let spoilers: [(&str, &str, Spoiler); 7] = [
        ("payload-missing", "", |_| {}),
        ("payload-damaged", "its size differs", |tree| {
            _ = tree.file("new", "longer");
        }),
        ("payload-damaged", "its type differs", |tree| {
            _ = tree.dir("new");
        }),
        ("payload-damaged", "its type differs", |tree| {
            _ = tree.symlink("new", "../outside/new");
        }),
        ("payload-damaged", "its content differs", |tree| {
            _ = tree.file("new", "x");
        }),
        ("payload-damaged", "its extended attributes differs", |tree| {
            _ = tree.file("new", "n").xattr("new", "user.k", b"v");
        }),
        ("payload-damaged", "its type differs", |tree| {
            _ = tree.special("new", bulkhaul_sys::Kind::Fifo, 0);
        }),
    ];
    let hash = format!("{:016x}", bulkhaul_formats::digest::xxh64(b"n"));
    let row = format!("A\tnew\t-\tf:1:2000000001:100644:0:0:{hash}:ef46db3751d8e999");
    for (number, (kind, what, spoil)) in spoilers.into_iter().enumerate() {
        let payload = scratch.tree(&format!("payload-{number}"));
        let target = scratch.tree(&format!("target-{number}"));
        spoil(&payload);
        target.file("old", "1").mode("old", 0o644).time("old", 2, 1);
        let before = listing(target.path());
        let list = rows(&scratch, &[&row, &format!("D\told\t{FILE}\t-")]);
        let refused = attempt(&list, payload.path(), target.path(), |options| options.force = true).unwrap();
        let refused = refused.incomplete();
        assert_eq!(refused.report.failures[0].kind, kind, "{number}: {refused:?}");
        assert!(
            refused.report.failures[0].message.ends_with(what),
            "{number}: {refused:?}"
        );
        assert_eq!(listing(target.path()), before, "{number}");
    }
}

#[test]
fn what_dead_runs_left_is_finished_or_goes() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (new, target) = (scratch.tree("new"), scratch.tree("target"));
    new.file("d/e/f", "1").file("d/g", "2").mode("d", 0o755).file("top", "");
    let list = changes(new.path(), target.path(), &scratch.at("list"));
    // As hpcp leaves them: directories without their mode, files without their name.
    target.dir("d/e").mode("d", 0o700).mode("d/e", 0o700);
    target
        .file("d/.hpcp_tmp_0123456789abcdef", "half")
        .file(".hpcp_tmp_0123456789abcdef", "half");
    apply(&list, new.path(), target.path()).complete();
    assert_eq!(differences(new.path(), target.path()), "");
    // What somebody else has put there is not taken for that.
    let other = scratch.tree("other");
    other.dir("d").mode("d", 0o700).file("d/theirs", "");
    let refused = apply(&list, new.path(), other.path()).incomplete();
    assert_eq!(refused.failures(other.path()), ["conflict stat - d"]);
    assert_eq!(other.names(), ["d", "d/theirs"]);
    // Names of its form that are none.
    let gone = scratch.tree("gone");
    gone.file("d/.hpcp_tmp_012", "1")
        .mode("d", 0o755)
        .mode("d/.hpcp_tmp_012", 0o644);
    let list = rows(&scratch, &["D\td/\td:40755:0:0:-\t-"]);
    let refused = apply(&list, new.path(), gone.path()).incomplete();
    assert_eq!(refused.failures(gone.path()), ["conflict stat - d"]);
}

#[test]
fn the_way_back_is_what_a_comparison_says() {
    let scratch = Scratch::new();
    let (new, base) = two_trees(&scratch);
    let list = changes(new.path(), base.path(), &scratch.at("list"));
    let back = changes(base.path(), new.path(), &scratch.at("back"));
    let target = twin(base.path(), "target");
    let undo = scratch.at("undo");
    let mut given = options(&list, new.path(), &target);
    given.undo = Some(undo.as_os_str().as_bytes().to_vec());
    for answer in [false, true] {
        let job = patch::job(given.clone()).unwrap();
        let mut written = Vec::new();
        let done = watch(&job, |event| {
            if matches!(event, Event::Question(victims) if victims[0].what == patch::UNDO) {
                // Nothing has changed yet.
                assert_eq!(differences(base.path(), &target), "");
                written = fs::read(&undo).unwrap();
                job.answer(answer);
            }
        });
        done.unwrap().complete();
        assert_eq!(
            String::from_utf8_lossy(&written),
            String::from_utf8_lossy(&fs::read(&back).unwrap())
        );
        let there = if answer { new.path() } else { base.path() };
        assert_eq!(differences(there, &target), "");
    }
    // Whoever stops it at the question has changed nothing.
    let stopped = twin(base.path(), "stopped");
    let mut stopping = options(&list, new.path(), &stopped);
    stopping.undo.clone_from(&given.undo);
    let job = patch::job(stopping).unwrap();
    let done = watch(&job, |event| {
        if matches!(event, Event::Question(_)) {
            job.drain();
        }
    });
    assert!(done.unwrap().report.interrupted);
    assert_eq!(differences(base.path(), &stopped), "");
    // What no patch could bring back is not overruled.
    let spoilt = Tree::new(twin(base.path(), "spoilt"));
    spoilt.file("gone/far/unnamed", "");
    let refused = attempt(&list, new.path(), spoilt.path(), |options| {
        (options.force, options.undo) = (true, given.undo.clone());
    });
    let refused = refused.unwrap().incomplete();
    assert!(
        refused
            .failures(spoilt.path())
            .contains(&"conflict stat - gone/far".to_owned()),
        "{refused:?}"
    );
    assert!(spoilt.path().join("gone/far/unnamed").exists());
}

#[test]
fn what_changes_after_the_look_stays() {
    let scratch = Scratch::new();
    let (new, base) = two_trees(&scratch);
    let list = changes(new.path(), base.path(), &scratch.at("list"));
    let mut options = options(&list, new.path(), base.path());
    options.undo = Some(scratch.at("undo").as_os_str().as_bytes().to_vec());
    let job = patch::job(options).unwrap();
    let done = watch(&job, |event| {
        if matches!(event, Event::Question(_)) {
            base.file("longer", "theirs")
                .file("empty", "theirs")
                .file("gone/a", "theirs");
            job.answer(true);
        }
    });
    let done = done.unwrap().incomplete();
    let failures = done.failures(base.path());
    for path in ["longer", "empty", "gone/a"] {
        assert!(failures.contains(&format!("conflict stat - {path}")), "{failures:?}");
        assert_eq!(base.read(path), b"theirs", "{path}");
    }
    assert_eq!(base.read("d/new"), b"new");
}

fn child(words: &[String]) {
    let at = |name: &str| Path::new(&words[0]).join(name);
    let mut options = options(&at("list"), &at("new"), &at(&words[1]));
    (options.jobs, options.entry_events) = (1, false);
    let job = patch::job(options).unwrap();
    if words[2] == "count" {
        failpoint::arm(None);
        assert!(job.run().unwrap().is_complete());
        return failpoint::disarm()
            .iter()
            .for_each(|call| say(&format!("call {call:?}")));
    }
    failpoint::arm(Some(Plan {
        call: None,
        nth: words[2].parse().unwrap(),
        count: 1,
        effect: Effect::Exit,
    }));
    panic!("it lived: {:?}", job.run());
}

/// The process dies at every call of an application: every name has its old state or its new one, and the same
/// application goes on.
#[test]
fn dies_at_every_call() {
    const TEST: &str = "patch::dies_at_every_call";
    if let Some(words) = order() {
        return child(&words);
    }
    let scratch = Scratch::new();
    let (new, base) = two_trees(&scratch);
    changes(new.path(), base.path(), &scratch.at("list"));
    let (wanted, before) = (facts(new.path()), facts(base.path()));
    let start = |name: &str, what: &str| {
        twin(base.path(), name);
        let log = scratch.at(&format!("{name}.log"));
        let words = [scratch.path().display().to_string(), name.to_owned(), what.to_owned()];
        finish(again(TEST, &words, &log), &log)
    };
    let (code, text) = start("count", "count");
    assert_eq!(code, Some(0), "{text}");
    let calls: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("call ")).collect();
    // What the plan looks at changes nothing: of that some points will do.
    let changed = calls
        .iter()
        .position(|call| ["Unlink", "RemoveDirectory", "MakeDirectory"].contains(call));
    let points: Vec<usize> = (0..calls.len())
        .filter(|nth| exhaustive() || nth % 16 == 0 || (*nth >= changed.unwrap_or(0) && nth % 2 == 0))
        .collect();
    let wrong = each(points.len(), |index| {
        let nth = points[index];
        let name = format!("target-{nth}");
        let (code, text) = start(&name, &nth.to_string());
        let target = scratch.at(&name);
        let mut wrong = Vec::new();
        if code != Some(99) {
            wrong.push(format!("{code:?}: {text}"));
        }
        for (path, fact) in facts(&target) {
            let known = [wanted.get(&path), before.get(&path)];
            let is_one = known.iter().flatten().any(|other| other.same_content(&fact));
            if !is_one && !path.contains(".bh-") {
                wrong.push(format!("{path} is neither old nor new"));
            }
        }
        let healed = run(&patch::job(options(&scratch.at("list"), new.path(), &target)).unwrap());
        if !healed.as_ref().is_ok_and(|copied| copied.report.is_complete()) {
            wrong.push(format!("it does not go on: {healed:?}"));
        }
        let unlike = differences(new.path(), &target);
        if !unlike.is_empty() || has_staging(&target) {
            wrong.push(format!("{unlike} {}", has_staging(&target)));
        }
        fs::remove_dir_all(&target).unwrap();
        wrong
            .iter()
            .map(|what| format!("call {nth} {}: {what}", calls[nth]))
            .collect()
    });
    println!("{} points tried", points.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A tree that is made up.
#[derive(Clone, Debug)]
enum Made {
    File(u8, bool),
    Link(u8),
    Directory(bool, BTreeMap<u8, Made>),
}

fn made() -> impl Strategy<Value = BTreeMap<u8, Made>> {
    let leaf = prop_oneof![
        (0..3_u8, any::<bool>()).prop_map(|(seed, closed)| Made::File(seed, closed)),
        (0..3_u8).prop_map(Made::Link),
    ];
    let entry = leaf.prop_recursive(3, 12, 4, |inner| {
        (any::<bool>(), prop::collection::btree_map(0..4_u8, inner, 0..4))
            .prop_map(|(closed, entries)| Made::Directory(closed, entries))
    });
    prop::collection::btree_map(0..4_u8, entry, 0..5)
}

fn lay(tree: &Tree, at: &str, entries: &BTreeMap<u8, Made>) {
    for (name, entry) in entries {
        let path = format!("{at}{}", (b'a' + name) as char);
        match entry {
            Made::File(seed, closed) => {
                tree.file(&path, vec![*seed; usize::from(*seed) * 70_000]);
                tree.mode(&path, if *closed { 0o400 } else { 0o644 });
                tree.time(&path, 1_600_000_000, 7);
            }
            Made::Link(seed) => {
                tree.symlink(&path, format!("../{seed}"));
            }
            Made::Directory(closed, entries) => {
                tree.dir(&path);
                lay(tree, &format!("{path}/"), entries);
                tree.mode(&path, if *closed { 0o750 } else { 0o755 });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_tree_becomes_any_other(one in made(), other in made()) {
        let scratch = Scratch::new();
        let (new, base) = (scratch.tree("new"), scratch.tree("base"));
        lay(&new, "", &one);
        lay(&base, "", &other);
        let list = changes(new.path(), base.path(), &scratch.at("list"));
        apply(&list, new.path(), base.path()).complete();
        prop_assert_eq!(differences(new.path(), base.path()), "");
        prop_assert!(!has_staging(base.path()));
    }
}
