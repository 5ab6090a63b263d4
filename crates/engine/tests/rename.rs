//! Moves within one file system: an entry is renamed where its name is free, and nothing is ever replaced by that.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use bulkhaul_engine::copy::options::{CopyOptions, SourceArgument};
use bulkhaul_engine::entry::Outcome;
use bulkhaul_engine::error::Refusal;
use bulkhaul_engine::sweep::limit::MaxDelete;
use bulkhaul_engine::{FilterStyle, copy as engine};
use bulkhaul_sys::Errno;
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};

use crate::rig::fault::{again, can_hold_everything, everything, facts, finish, order};
use crate::rig::{
    Copied, FEW_DESCRIPTORS, Scratch, Tree, apart, attempt, contents, copy, has_staging, modified, named, options,
    renamed, root,
};

/// A move as `bulkhaul move` asks for it.
fn transfer(sources: &[SourceArgument], to: &Path, change: impl FnOnce(&mut CopyOptions)) -> Copied {
    copy(sources, to, |o| {
        (o.remove_sources, o.rename, o.replace) = (true, true, false);
        change(o);
    })
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

#[test]
fn a_tree_goes_as_a_whole() {
    let scratch = Scratch::new();
    if !can_hold_everything(scratch.path()) {
        return;
    }
    let kinds = ["tmpfs", "ext4", "xfs", "btrfs"];
    for place in kinds.iter().filter_map(|kind| scratch.file_system(kind, "rw")) {
        let source = Tree::new(place.join("s"));
        everything(&source);
        let (wanted, own) = (facts(source.path()), inode(&source.at("d/e/deep")));
        let to = Tree::new(place.join("d"));
        for dry_run in [true, false] {
            let moved = transfer(&[named(source.path())], to.path(), |o| o.dry_run = dry_run).complete();
            assert_eq!(moved.counts(), "renamed 1");
            assert_eq!((moved.report.removed_sources, moved.report.kept_sources), (0, 0));
            assert_eq!(source.path().exists(), dry_run);
        }
        assert_eq!(facts(&to.at("s")), wanted);
        assert_eq!(inode(&to.at("s/d/e/deep")), own);
        // Into a directory that does not exist yet, in which they get their place one by one.
        let moved = transfer(&[contents(to.at("s"))], &place.join("new/er"), |_| {}).complete();
        assert_eq!(moved.report.totals.outcome_of(Outcome::Renamed), 17, "{moved:?}");
        assert_eq!(facts(&place.join("new/er")), wanted);
        assert!(to.names().is_empty());
    }
}

/// Directories merge, what is free is renamed, what is the same goes from the source, and what is not stays in both.
#[test]
fn into_an_existing_tree() {
    for (number, jobs) in [1, 2, 7].into_iter().enumerate() {
        let scratch = Scratch::new();
        let (source, to) = (scratch.tree("s"), scratch.tree("d"));
        source
            .file("merged/free", "1")
            .file("merged/sub/free", "2")
            .file("merged/new/deep", "3")
            .symlink("merged/link", "free")
            .dir("gone/empty")
            .file("gone/same", "same")
            .time("gone/same", 5, 5)
            .time("gone", 1_500_000_000, 7)
            .file("held/other", "source's")
            .file("held/free", "4")
            .dir("held/file")
            .file("held/directory", "5")
            .symlink("held/link", "here")
            .time("held", 1_400_000_000, 9);
        to.file("merged/own", "x")
            .file("merged/sub/own", "y")
            .file("gone/same", "same")
            .time("gone/same", 6, 6)
            .file("held/other", "destination's")
            .file("held/file", "z")
            .dir("held/directory")
            .symlink("held/link", "there");
        let own = inode(&source.at("merged/sub/free"));
        let dry = transfer(&[contents(source.path())], to.path(), |o| {
            (o.jobs, o.dry_run) = (jobs, true);
        })
        .incomplete();
        let moved = transfer(&[contents(source.path())], to.path(), |o| o.jobs = jobs).incomplete();
        assert_eq!(
            moved.failures(scratch.path()),
            [
                "conflict create - d/held/directory",
                "conflict create - d/held/other",
                "conflict mkdir - d/held/file",
                "conflict symlink - d/held/link"
            ]
        );
        let renamed = moved.report.totals.outcome_of(Outcome::Renamed);
        assert_eq!(renamed, dry.report.totals.outcome_of(Outcome::Renamed), "{number}");
        // free, sub/free, new, link, gone/empty, held/free
        assert_eq!(renamed, 6, "{moved:?}");
        assert_eq!(
            source.names(),
            ["held", "held/directory", "held/file", "held/link", "held/other"]
        );
        assert_eq!(to.read("held/other"), b"destination's");
        assert_eq!(fs::read_link(to.at("held/link")).unwrap(), Path::new("there"));
        assert_eq!(inode(&to.at("merged/sub/free")), own);
        assert_eq!(modified(&to.at("gone/same")), (5, 5));
        assert_eq!(modified(&to.at("gone")), (1_500_000_000, 7));
        assert_eq!(modified(&to.at("held")), (1_400_000_000, 9));
        // What stays keeps its time, for when it comes after all.
        assert_eq!(modified(&source.at("held")), (1_400_000_000, 9));
        assert!(!has_staging(scratch.path()));
        // What was in the way has gone: it goes on.
        for name in ["directory", "file", "link", "other"] {
            let path = to.at(format!("held/{name}"));
            fs::remove_dir(&path).or_else(|_| fs::remove_file(&path)).unwrap();
        }
        transfer(&[contents(source.path())], to.path(), |_| {}).complete();
        assert!(!source.path().exists());
        assert_eq!(to.read("held/other"), b"source's");
        assert_eq!(modified(&to.at("held")), (1_400_000_000, 9));
    }
}

/// What replaces is asked for: then it is copied and proved, and the rest renamed.
#[test]
fn what_may_be_replaced_is_copied() {
    let scratch = Scratch::new();
    let (source, to) = (scratch.tree("s"), scratch.tree("d"));
    source.file("a", "new").file("b", "free").link("c", "b");
    to.file("a", "old").file("c", "old, too");
    let moved = transfer(&[contents(source.path())], to.path(), |o| o.replace = true).complete();
    assert_eq!(moved.counts(), "copied 2, renamed 1, metadata 1");
    assert!(!source.path().exists());
    assert_eq!(
        ["a", "b", "c"].map(|name| to.read(name)),
        [&b"new"[..], b"free", b"free"]
    );
}

/// Rules, several sources, and single names: each entry is taken or stays on its own account.
#[test]
fn what_is_left_out_stays() {
    let scratch = Scratch::new();
    let (one, two, to) = (scratch.tree("one"), scratch.tree("two"), scratch.at("d"));
    one.file("tree/sub/a", "1")
        .file("tree/sub/b.tmp", "2")
        .file("tree/keep.tmp", "3")
        .file("both", "same")
        .file("own", "4");
    two.file("both", "same").file("tree/sub/c", "5");
    let own = inode(&one.at("tree/sub/a"));
    let moved = transfer(&[contents(one.path()), contents(two.path())], &to, |o| {
        o.filter = Some((FilterStyle::Rsync, vec![b"*.tmp".to_vec()]));
    })
    .complete();
    assert_eq!(inode(&to.join("tree/sub/a")), own);
    assert_eq!(
        Tree::new(to.clone()).names(),
        ["both", "own", "tree", "tree/sub", "tree/sub/a", "tree/sub/c"]
    );
    assert_eq!(
        one.names(),
        ["both", "tree", "tree/keep.tmp", "tree/sub", "tree/sub/b.tmp"]
    );
    assert!(!two.path().exists(), "{moved:?}");

    let three = scratch.tree("three");
    three.file("f", "1").file("tree/x", "2").file("stays", "3");
    let sources = [renamed(three.at("f"), "g"), renamed(three.at("tree"), "wood")];
    let moved = transfer(&sources, &scratch.at("e"), |_| {}).complete();
    assert_eq!(moved.counts(), "renamed 2");
    assert_eq!(Tree::new(scratch.at("e")).names(), ["g", "wood", "wood/x"]);
    assert_eq!(three.names(), ["stays"]);
}

/// Names are bytes, and links stay links, whether their directory goes as a whole or not.
#[test]
fn names_and_links() {
    let scratch = Scratch::new();
    let (source, to) = (scratch.tree("s"), scratch.tree("d"));
    let odd: Vec<OsString> = [&b"\xff\xfe"[..], b"new\nline", b" ", &[b'n'; 255], b"-rf", b"*"]
        .map(|name| OsString::from_vec(name.to_vec()))
        .into();
    for (number, name) in odd.iter().enumerate() {
        source.file(name, [u8::try_from(number).unwrap()]);
        source.link(Path::new("merged").join(name), name);
        source.dir(Path::new("trees").join(name));
    }
    source.file(".bh-0123456789abcdef-0-0", "is no staging name");
    to.dir("merged").dir("trees");
    let wanted: Vec<_> = odd.iter().map(|name| inode(&source.at(name))).collect();
    transfer(&[contents(source.path())], to.path(), |_| {}).complete();
    assert!(!source.path().exists());
    for (name, inode_before) in odd.iter().zip(wanted) {
        for there in [to.at(name), to.at(Path::new("merged").join(name))] {
            assert_eq!(
                (inode(&there), fs::metadata(&there).unwrap().nlink()),
                (inode_before, 2)
            );
        }
        assert!(to.at(Path::new("trees").join(name)).is_dir());
    }
}

/// What is mounted in a tree is copied, and where it is mounted stays; another view of the file system takes no renames.
#[test]
fn across_mounts() {
    let scratch = Scratch::new();
    let Some(mounted) = scratch.file_system("tmpfs", "rw") else {
        return;
    };
    let (source, to) = (scratch.tree("s"), scratch.tree("d"));
    source
        .file("tree/plain/a", "1")
        .dir("tree/sub/point")
        .file("tree/sub/b", "2");
    fs::write(mounted.join("x"), "on the mount").unwrap();
    assert!(Scratch::bind(&mounted, &source.at("tree/sub/point")));
    let own = inode(&source.at("tree/plain/a"));
    let moved = transfer(&[named(source.at("tree"))], to.path(), |_| {}).complete();
    assert_eq!(to.read("tree/sub/point/x"), b"on the mount");
    assert_eq!(inode(&to.at("tree/plain/a")), own);
    assert_eq!(moved.report.totals.outcome_of(Outcome::Copied), 1, "{moved:?}");
    assert_eq!(moved.report.totals.outcome_of(Outcome::Renamed), 2, "{moved:?}");
    assert_eq!(source.names(), ["tree", "tree/sub", "tree/sub/point"]);
    assert_eq!(fs::read_dir(&mounted).unwrap().count(), 0);

    // The same device, and yet not the same mount.
    let (view, source) = (scratch.at("view"), scratch.tree("again"));
    source.file("tree/a", "1").file("b", "2");
    assert!(Scratch::bind(to.path(), &view));
    let moved = transfer(&[contents(source.path())], &view, |_| {}).complete();
    assert_eq!(moved.report.totals.outcome_of(Outcome::Renamed), 0, "{moved:?}");
    assert!(!source.path().exists());
    assert_eq!((to.read("tree/a"), to.read("b")), (b"1".to_vec(), b"2".to_vec()));
}

/// A subvolume is a file system of its own for a rename of what is in it, and answers so for that part of a tree.
#[test]
fn subvolumes() {
    let scratch = Scratch::new();
    let Some(place) = scratch.file_system("btrfs", "rw") else {
        return;
    };
    let volume = place.join("s/tree/volume");
    let source = Tree::new(place.join("s"));
    source.file("tree/a", "1");
    crate::rig::must("btrfs", &[&"-q", &"subvolume", &"create", &volume]);
    fs::write(volume.join("x"), "2").unwrap();
    let to = Tree::new(place.join("d"));
    to.dir("tree/volume");
    transfer(&[contents(source.path())], to.path(), |_| {}).complete();
    assert_eq!(
        (to.read("tree/a"), to.read("tree/volume/x")),
        (b"1".to_vec(), b"2".to_vec())
    );
    assert!(!source.path().exists());
}

#[test]
fn what_is_in_use_keeps_its_place() {
    const TEST: &str = "rename::what_is_in_use_keeps_its_place";
    if let Some(words) = order() {
        std::env::set_current_dir(Path::new(&words[0]).join("tree/here")).unwrap();
        let moved = transfer(&[named(&words[0])], Path::new(&words[1]), |_| {}).complete();
        assert_eq!(moved.notes(), ["working-directory"]);
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.tree("s");
    source.file("d/log", "told").file("d/a", "x").file("e/b", "y");
    let own = inode(&source.at("e/b"));
    let moved = transfer(&[named(source.path())], &scratch.at("to"), |o| {
        o.in_use = vec![source.at("d/log").into_os_string().into_encoded_bytes()];
    })
    .incomplete();
    assert_eq!(moved.failures(source.path()), ["conflict remove - d/log"]);
    assert_eq!(source.names(), ["d", "d/log"]);
    assert_eq!(inode(&scratch.at("to/s/e/b")), own);

    let source = scratch.tree("t");
    source.file("tree/here/a", "x");
    let (to, log) = (scratch.at("there"), scratch.at("log"));
    let words = [source.path(), &to].map(|path| path.display().to_string());
    let (code, text) = finish(again(TEST, &words, &log), &log);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(source.names(), ["tree", "tree/here"]);
    assert_eq!(fs::read(to.join("t/tree/here/a")).unwrap(), b"x");
}

/// File systems without a rename that does not replace, or one that says so late; a name that appears meanwhile; and few
/// descriptors.
#[test]
fn whatever_a_rename_answers() {
    const TEST: &str = "rename::whatever_a_rename_answers";
    let answers = [
        (Errno::INVAL, usize::MAX, "renamed"),
        (Errno::XDEV, usize::MAX, "copied"),
        (Errno::EXIST, 1, "renamed"),
        (Errno::ACCESS, usize::MAX, "failed"),
    ];
    if let Some(words) = order() {
        let (errno, count, outcome) = answers[words[1].parse::<usize>().unwrap()];
        let base = Path::new(&words[0]);
        let source = Tree::new(base.join("s"));
        source.file("merged/a", "1").file("merged/b", "2");
        Tree::new(base.join("d")).dir("merged");
        failpoint::arm(Some(Plan {
            call: Some(Call::Rename),
            nth: 0,
            count,
            effect: Effect::Errno(errno),
        }));
        let options = CopyOptions {
            remove_sources: true,
            rename: true,
            replace: false,
            jobs: 1,
            entry_events: false,
            ..options(&[contents(source.path())], base.join("d"))
        };
        let report = engine::job(options).unwrap().run().unwrap();
        failpoint::disarm();
        let outcomes = Outcome::ALL.map(|o| (o.text(), report.totals.outcome_of(o)));
        // A copy gets its name by a rename, too.
        let wanted = if outcome == "copied" { "failed" } else { outcome };
        assert!(outcomes.contains(&(wanted, 2)), "{outcomes:?} {:?}", report.failures);
        assert_eq!(source.at("merged/a").exists(), wanted == "failed");
        return;
    }
    let scratch = Scratch::new();
    for number in 0..answers.len() {
        let log = scratch.at("log");
        let words = [
            scratch.at(&number.to_string()).display().to_string(),
            number.to_string(),
        ];
        let (code, text) = finish(again(TEST, &words, &log), &log);
        assert_eq!(code, Some(0), "{number}: {text}");
    }
}

#[test]
fn deep_trees_with_few_descriptors() {
    let name = |depth: usize| "level/".repeat(depth);
    apart(
        "rename::deep_trees_with_few_descriptors",
        FEW_DESCRIPTORS,
        |scratch| {
            let (source, to) = (scratch.tree("s"), scratch.tree("d"));
            for depth in 0..200 {
                source.file(name(depth) + "f", depth.to_string());
                to.dir(name(depth));
            }
        },
        |path| {
            let moved = transfer(&[contents(path.join("s"))], &path.join("d"), |_| {}).complete();
            assert_eq!(moved.report.totals.outcome_of(Outcome::Renamed), 200);
        },
        |scratch| {
            assert!(!scratch.at("s").exists());
            assert_eq!(fs::read(scratch.at("d").join(name(199) + "f")).unwrap(), b"199");
        },
    );
}

#[test]
fn what_does_not_go_together_is_refused() {
    let scratch = Scratch::new();
    let source = scratch.tree("s");
    source.file("a", "x");
    let changes: [fn(&mut CopyOptions); 6] = [
        |o| (o.rename, o.remove_sources, o.chmod) = (true, true, Some("a-w".into())),
        |o| o.rename = true,
        |o| (o.rename, o.remove_sources, o.remove_extra) = (true, true, true),
        |o| (o.rename, o.remove_sources, o.confirm) = (true, true, true),
        |o| (o.rename, o.remove_sources, o.max_delete) = (true, true, Some(MaxDelete::Entries(1))),
        |o| (o.replace, o.remove_extra) = (false, true),
    ];
    for change in changes {
        let refused = attempt(&[contents(source.path())], scratch.at("d"), change);
        assert!(matches!(refused, Err(Refusal::Usage(_))));
    }
    assert!(!scratch.at("d").exists());
    // Into itself, by whatever path.
    let within = scratch.at("s/sub");
    let refused = attempt(&[named(source.path())], &within, |o| {
        (o.remove_sources, o.rename) = (true, true);
    });
    assert!(matches!(refused, Err(Refusal::Safety(_))));
    assert_eq!(source.names(), ["a"]);
}

/// Several destinations get copies.
#[test]
fn to_several_destinations() {
    let scratch = Scratch::new();
    let source = scratch.tree("s");
    source.file("a", "x").file("d/b", "y");
    let second = scratch.at("two");
    transfer(&[contents(source.path())], &scratch.at("one"), |o| {
        let mut other = o.destinations[0].clone();
        other.path = OsStr::as_bytes(second.as_os_str()).to_vec();
        o.destinations.push(other);
    })
    .complete();
    assert!(!source.path().exists());
    assert_eq!(fs::read(scratch.at("one/a")).unwrap(), b"x");
}

/// Another user's directory: what may not be renamed fails, and stays.
#[test]
fn without_permission() {
    if !root() {
        return;
    }
    apart(
        "rename::without_permission",
        crate::rig::NOBODY,
        |scratch| {
            let source = scratch.tree("s");
            source.file("d/a", "x").owner("d", 1, 1);
            scratch.tree("to").owner("", 65534, 65534);
        },
        |path| {
            let moved = transfer(&[contents(path.join("s"))], &path.join("to"), |_| {}).incomplete();
            assert_eq!(moved.failures(path), ["permission rename EACCES s/d"]);
        },
        |scratch| {
            assert_eq!(scratch.tree("s").names(), ["d", "d/a"]);
            assert!(scratch.tree("to").names().is_empty());
        },
    );
}
