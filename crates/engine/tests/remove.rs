//! Removal: what was named goes, nothing else does, and what stays is told, whatever fails meanwhile.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use bulkhaul_engine::FilterStyle;
use bulkhaul_engine::entry::{Outcome, Reason};
use bulkhaul_engine::error::{Refusal, Side};
use bulkhaul_engine::job::desk::Desk;
use bulkhaul_engine::pool::schedule::Crew;
use bulkhaul_engine::remove::{PREVIEW_NAMES, Removal, RemoveOptions};
use bulkhaul_engine::report::Report;
use bulkhaul_engine::report::counters::Totals;
use bulkhaul_engine::sweep::guard::Guard;
use bulkhaul_engine::sweep::limit::MaxDelete;
use bulkhaul_engine::sweep::sweeper::{Mode, Sweeper};
use bulkhaul_engine::tree::descriptors::Budget;
use bulkhaul_engine::tree::listing::Batch;
use bulkhaul_engine::tree::selection::Selection;
use bulkhaul_engine::tree::staging::Stager;
use bulkhaul_engine::walk::names::FilesFrom;
use bulkhaul_engine::walk::start::{Part, Parts, Start};
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind, OwnedFd};

use crate::rig::fault::{again, each, finish, order, say, with_stops};
use crate::rig::{
    self, Copied, NOBODY, Scratch, Tree, apart, c_string, command, content, contents, has, must, run, watch,
};

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

fn options(paths: &[&Path]) -> RemoveOptions {
    RemoveOptions {
        paths: paths.iter().map(|path| bytes(path)).collect(),
        jobs: 2,
        entry_events: true,
        ..RemoveOptions::default()
    }
}

fn attempt(paths: &[&Path], change: impl FnOnce(&mut RemoveOptions)) -> Result<Copied, Refusal> {
    let mut options = options(paths);
    change(&mut options);
    run(&Removal::new(options)?.remove()?)
}

fn remove(paths: &[&Path], change: impl FnOnce(&mut RemoveOptions)) -> Copied {
    attempt(paths, change).unwrap()
}

fn exclude(rules: &[&str]) -> (FilterStyle, Vec<Vec<u8>>) {
    (
        FilterStyle::Rsync,
        rules.iter().map(|r| r.as_bytes().to_vec()).collect(),
    )
}

/// Names below a directory, a directory's with a slash.
fn names(tree: &Tree) -> BTreeSet<String> {
    let slash = |name: String| {
        let directory = tree.path().join(&name).symlink_metadata().unwrap().is_dir();
        if directory { name + "/" } else { name }
    };
    tree.names().into_iter().map(slash).collect()
}

/// One of each kind, some directories, 20 entries.
fn mixed(tree: &Tree) -> u64 {
    tree.file("file", content(1, 3000))
        .file("d/inside", "x")
        .file("d/e/deep", "y")
        .dir("empty");
    tree.symlink("link", "d")
        .symlink("loose", "nowhere")
        .symlink("d/up", "..");
    tree.special("fifo", Kind::Fifo, 0)
        .special("d/e/socket", Kind::Socket, 0);
    tree.link("d/hard", "file");
    for number in 0..8 {
        tree.file(format!("d/e/{number}"), "");
    }
    tree.names().len() as u64
}

#[test]
fn everything_goes_and_nothing_beside_it() {
    for jobs in [1, 2, 5] {
        let scratch = Scratch::new();
        let (tree, beside) = (scratch.tree("tree"), scratch.tree("beside"));
        beside.file("a", "stays");
        tree.symlink("to-beside", "../beside").symlink("to-file", "../beside/a");
        let count = mixed(&tree) + 1;
        let removed = remove(&[tree.path()], |o| o.jobs = jobs).complete();
        assert_eq!(removed.counts(), format!("removed {count}"));
        assert!(!tree.path().exists());
        assert_eq!(beside.read("a"), b"stays");
        assert_eq!(removed.entry("tree/d/e/deep").kind, Kind::File);
        assert_eq!(removed.entry("tree").source, bytes(tree.path()));
    }
}

#[test]
fn arguments_of_every_kind() {
    let scratch = Scratch::new();
    let tree = scratch.tree("tree");
    tree.file("d/a", "")
        .file("plain", "")
        .symlink("link", "d")
        .symlink("loose", "nowhere")
        .file("d2/b", "");
    let at = |name: &str| tree.path().join(name);
    // The same twice, also by another way, is one.
    let removed = remove(
        &[&at("plain"), &at("link"), &at("loose"), &at("d2/"), &at("d/../d2")],
        |_| {},
    )
    .complete();
    assert_eq!(removed.counts(), "removed 5");
    assert_eq!(names(&tree), ["d/", "d/a"].map(str::to_owned).into());
    // What lies in another argument goes once.
    let removed = remove(&[&at("d"), &at("d/a")], |_| {}).complete();
    assert_eq!(removed.report.totals.outcome_of(Outcome::Removed), 2);
    tree.file("f", "").symlink("l", "f").dir("x/y").symlink("to-x", "x");
    for (path, text) in [
        ("to-x/", "a symlink; without the slash"),
        ("x/.", "by its own name"),
        ("x/y/..", "by its own name"),
    ] {
        let refusal = attempt(&[&at("f"), &at(path)], |_| {}).unwrap_err();
        assert!(matches!(&refusal, Refusal::Usage(t) if t.contains(text)), "{refusal}");
    }
    let removed = remove(&[&at("l"), &at("f/"), &at("gone")], |_| {}).incomplete();
    let base = tree.path();
    assert_eq!(
        removed.failures(base),
        ["missing stat ENOENT gone", "other open - f"].map(|t| t.replace('-', "ENOTDIR"))
    );
    assert!(at("f").exists() && !at("l").is_symlink());
    assert!(matches!(attempt(&[&at("gone")], |_| {}), Err(Refusal::NoSource(_))));
    assert_eq!(
        remove(&[&at("gone")], |o| o.ignore_missing = true).complete().counts(),
        ""
    );
    for (paths, change) in [(vec![], 0), (vec![""], 0), (vec!["a\0b"], 0), (vec!["a"], 5000)] {
        let paths: Vec<_> = paths.iter().map(Path::new).collect();
        assert!(matches!(attempt(&paths, |o| o.jobs = change), Err(Refusal::Usage(_))));
    }
}

#[test]
fn what_is_excluded_stays_and_so_do_the_directories_above_it() {
    let scratch = Scratch::new();
    let tree = scratch.tree("tree");
    tree.file("a/keep.txt", "")
        .file("a/go", "")
        .file("b/go", "")
        .file("b/keep/x", "")
        .file("c/d/e", "")
        .file("keep", "");
    let removed = remove(&[tree.path()], |o| o.filter = Some(exclude(&["keep", "keep.txt"]))).complete();
    let stays = ["a/", "a/keep.txt", "b/", "b/keep/", "b/keep/x", "keep"];
    assert_eq!(names(&tree), stays.map(str::to_owned).into());
    assert_eq!(removed.counts(), "skipped 3, removed 5 (excluded 3, not-empty 3)");
    // Nothing else is left to do.
    let removed = remove(&[tree.path()], |o| o.filter = Some(exclude(&["keep", "keep.txt"]))).complete();
    assert_eq!(removed.report.totals.outcome_of(Outcome::Removed), 0);
    // The argument itself, and absolute rules of the other style.
    remove(&[tree.path()], |o| o.filter = Some(exclude(&["/tree"]))).complete();
    let rule = [bytes(tree.path()), b"/a/*".to_vec()].concat();
    remove(&[tree.path()], |o| o.filter = Some((FilterStyle::Fnmatch, vec![rule]))).complete();
    assert_eq!(names(&tree), ["a/", "a/keep.txt"].map(str::to_owned).into());
}

#[test]
fn a_dry_run_and_a_preview_remove_nothing() {
    let scratch = Scratch::new();
    let tree = scratch.tree("tree");
    let count = mixed(&tree) + 1;
    let before = names(&tree);
    let told = remove(&[tree.path()], |o| o.dry_run = true).complete();
    assert_eq!(told.counts(), format!("removed {count}"));
    // The hard link counts twice, as it does in a listing.
    assert_eq!(
        (told.report.totals.found_bytes, told.entry("tree/file").bytes),
        (6002, 3000)
    );
    let removal = Removal::new(options(&[tree.path()])).unwrap();
    let desk = removal.preview().unwrap();
    desk.queue().subscribe();
    let report = desk.run().unwrap();
    assert_eq!(report.totals.outcome_of(Outcome::Removed), count);
    let mut events = Vec::new();
    let (sender, receiver) = std::sync::mpsc::channel();
    desk.queue().next(Box::new(move |batch| sender.send(batch).unwrap()));
    events.extend(receiver.recv().unwrap());
    assert_eq!(events.len() as u64, PREVIEW_NAMES);
    assert_eq!(names(&tree), before);
    // Something else has the name now: it was not what was agreed to.
    fs::rename(tree.path(), scratch.at("moved")).unwrap();
    let other = scratch.tree("tree");
    other.file("precious", "");
    let removed = run(&removal.remove().unwrap()).unwrap().incomplete();
    assert_eq!(removed.failures(scratch.path()), ["changed stat - tree"]);
    assert!(other.path().join("precious").exists());
}

#[test]
fn no_more_than_was_allowed() {
    let scratch = Scratch::new();
    let tree = scratch.tree("tree");
    for number in 0..9 {
        tree.file(format!("{number}"), "");
    }
    let path = tree.path();
    // Ten entries, the directory included.
    for (limit, fits) in [
        (MaxDelete::Entries(0), false),
        (MaxDelete::Entries(9), false),
        (MaxDelete::Entries(10), true),
        (MaxDelete::Percent(99), false),
        (MaxDelete::Percent(100), true),
    ] {
        for dry_run in [true, false] {
            let result = attempt(&[path], |o| (o.max_delete, o.dry_run) = (Some(limit), dry_run));
            if fits {
                result.unwrap().complete();
                continue;
            }
            let refusal = result.unwrap_err();
            assert!(
                matches!(&refusal, Refusal::Safety(text) if text.contains("nothing was removed")),
                "{refusal}"
            );
            assert_eq!(tree.names().len(), 9);
        }
        for number in 0..9 {
            tree.file(format!("{number}"), "");
        }
    }
    // Of a hundred, the excluded ones are a part.
    let half = |o: &mut RemoveOptions| {
        o.max_delete = Some(MaxDelete::Percent(50));
        o.filter = Some(exclude(&["[0-4]"]));
    };
    remove(&[path], half).complete();
    assert_eq!(tree.names().len(), 5);
    assert!(matches!(
        attempt(&[path], |o| o.max_delete = Some(MaxDelete::Percent(101))),
        Err(Refusal::Usage(_))
    ));
}

#[test]
fn the_root_the_home_and_the_working_directory_are_refused() {
    apart(
        "remove::the_root_the_home_and_the_working_directory_are_refused",
        &["env"],
        |scratch| {
            let tree = scratch.tree("tree");
            tree.file("home/user/x", "")
                .file("work/here/y", "")
                .symlink("to-home", "home")
                .symlink("to-root", "/");
        },
        |scratch| {
            let tree = scratch.join("tree");
            std::env::set_current_dir(tree.join("work/here")).unwrap();
            let home = bytes(&tree.join("home/user"));
            let before = names(&Tree::new(tree.clone()));
            let alias = scratch.join("alias");
            let bound = Scratch::bind(&tree, &alias);
            let mut paths: Vec<_> = [
                "home/user",
                "home",
                "work/here",
                "work",
                "home/../home",
                "to-home/user",
                "to-root/..",
                "",
            ]
            .map(|name| tree.join(name))
            .into();
            paths.extend(["/", "/..", "/.", ".", "..", "../..", "../here", "/proc/self/root"].map(Into::into));
            if bound {
                paths.push(alias.join("home/user"));
                paths.push(alias.join("work"));
            }
            for path in paths {
                let result = attempt(&[&tree.join("to-root"), &path], |o| o.protected = vec![home.clone()]);
                // A symlink stands for itself, wherever it leads.
                if path.ends_with("root") && path.starts_with("/proc") {
                    assert!(result.is_ok_and(|r| !r.report.is_complete()));
                    symlink("/", tree.join("to-root")).unwrap();
                    continue;
                }
                let refusal = result.unwrap_err();
                assert!(matches!(refusal, Refusal::Safety(_)), "{}: {refusal}", path.display());
                assert_eq!(names(&Tree::new(tree.clone())), before, "{}", path.display());
            }
            // It is named.
            let path = tree.join("home");
            let allow = |o: &mut RemoveOptions| {
                o.protected = vec![home.clone()];
                o.no_preserve_root = vec![bytes(&path)];
            };
            // Only what is named: the home directory below it stays, and is told.
            let removed = remove(&[&path], allow).incomplete();
            assert_eq!(removed.failures(&tree), ["conflict remove - home/user"]);
            let allow = |o: &mut RemoveOptions| {
                o.protected = vec![home.clone()];
                o.no_preserve_root = vec![bytes(&path), home.clone()];
            };
            remove(&[&path], allow).complete();
            assert!(!path.exists());
        },
        |_| {},
    );
}

#[test]
fn mount_points_are_not_crossed() {
    let scratch = Scratch::new();
    let tree = scratch.tree("tree");
    tree.file("a/file", "").dir("same").dir("d/other").file("d/bound", "");
    let twin = scratch.tree("twin");
    twin.file("stays", "");
    let Some(other) = scratch.file_system("tmpfs", "") else {
        return;
    };
    Tree::new(other.clone()).file("stays/too", "");
    if !Scratch::bind(twin.path(), &tree.path().join("same")) || !Scratch::bind(&other, &tree.path().join("d/other")) {
        return;
    }
    let bound = tree.path().join("d/bound");
    assert!(
        command("mount", &[&"--bind", &twin.path().join("stays"), &bound])
            .status
            .success()
    );
    for list_first in [true, false] {
        let result = attempt(&[tree.path()], |o| o.list_first = list_first);
        if list_first {
            assert!(matches!(result, Err(Refusal::Safety(_))));
            assert!(tree.path().join("a/file").exists());
            continue;
        }
        let removed = result.unwrap().incomplete();
        let wanted = [
            "other open EXDEV d/other",
            "other open EXDEV same",
            "other remove EBUSY d/bound",
        ];
        assert_eq!(removed.failures(tree.path()), wanted);
        assert!(
            removed
                .report
                .failures
                .iter()
                .any(|f| f.message.contains("something is mounted there"))
        );
    }
    assert_eq!(
        names(&tree),
        [
            "d/",
            "d/bound",
            "d/other/",
            "d/other/stays/",
            "d/other/stays/too",
            "same/",
            "same/stays"
        ]
        .map(str::to_owned)
        .into()
    );
    // A mount point as an argument, and one that is named.
    for path in [other.clone(), tree.path().join("same")] {
        let refusal = attempt(&[&path], |_| {}).unwrap_err();
        assert!(
            matches!(&refusal, Refusal::Safety(text) if text.contains("mounted there")),
            "{refusal}"
        );
    }
    let removed = remove(&[&tree.path().join("same")], |o| {
        o.no_preserve_root = vec![bytes(&tree.path().join("same"))];
    })
    .complete();
    assert_eq!(removed.counts(), "skipped 1, removed 1 (other-file-system 1)");
    assert!(!twin.path().join("stays").exists() && other.join("stays/too").exists());
}

/// A btrfs whose `tree` holds a subvolume with another one in it, a snapshot of it, and a read-only one.
fn with_subvolumes(scratch: &Scratch) -> Option<Tree> {
    if !has("btrfs") {
        println!("skip: there is no btrfs");
        return None;
    }
    let tree = Tree::new(scratch.file_system("btrfs", "rw")?.join("tree"));
    tree.file("file", "x");
    let make = |name: &str| must("btrfs", &[&"subvolume", &"create", &tree.path().join(name)]);
    make("own");
    tree.file("own/d/f", "y");
    make("own/d/nested");
    tree.file("own/d/nested/g", "z");
    for (name, options) in [("taken", &[][..]), ("kept", &["-r"])] {
        let mut arguments: Vec<&dyn AsRef<OsStr>> = vec![&"subvolume", &"snapshot"];
        arguments.extend(options.iter().map(|option| option as &dyn AsRef<OsStr>));
        let (from, to) = (tree.path().join("own"), tree.path().join(name));
        arguments.extend([&from as &dyn AsRef<OsStr>, &to]);
        must("btrfs", &arguments);
    }
    Some(tree)
}

#[test]
fn subvolumes_go_as_directories_and_read_only_ones_are_told() {
    let scratch = Scratch::new();
    let Some(tree) = with_subvolumes(&scratch) else { return };
    let kept = ["conflict remove - kept"];
    let whole = names(&tree);
    for dry_run in [true, false] {
        let removed = remove(&[tree.path()], |o| o.dry_run = dry_run).incomplete();
        assert_eq!(removed.failures(tree.path()), kept);
        assert!(
            removed.report.failures[0]
                .message
                .contains("read-only subvolume of btrfs")
        );
        // A file, own, own/d, own/d/f, own/d/nested and what is in it, taken and what is in it (nested is empty there).
        assert_eq!(removed.counts(), "skipped 1, removed 10, conflict 1 (not-empty 1)");
        if dry_run {
            assert_eq!(names(&tree), whole);
        }
    }
    let left = ["kept/", "kept/d/", "kept/d/f", "kept/d/nested/"];
    assert_eq!(names(&tree), left.map(str::to_owned).into());

    // As the argument.
    let removed = remove(&[&tree.path().join("kept")], |_| {}).incomplete();
    assert_eq!(removed.failures(tree.path()), kept);
    must(
        "btrfs",
        &[&"property", &"set", &tree.path().join("kept"), &"ro", &"false"],
    );
    remove(&[&tree.path().join("kept")], |_| {}).complete();
    remove(&[tree.path()], |_| {}).complete();
}

#[test]
fn a_user_removes_subvolumes_too() {
    apart(
        "remove::a_user_removes_subvolumes_too",
        NOBODY,
        |scratch| {
            if let Some(tree) = with_subvolumes(scratch) {
                must("btrfs", &[&"subvolume", &"delete", &tree.path().join("kept")]);
                let point = tree.path().parent().unwrap();
                must("chown", &[&"-R", &"65534:65534", &point]);
                symlink(point, scratch.at("point")).unwrap();
            }
        },
        |scratch| {
            if scratch.join("point").exists() {
                let tree = scratch.join("point/tree");
                remove(&[&tree], |_| {}).complete();
                assert!(!tree.exists());
            }
        },
        |_| {},
    );
}

#[test]
fn extra_subvolumes_stay() {
    let scratch = Scratch::new();
    let Some(tree) = with_subvolumes(&scratch) else { return };
    let source = scratch.tree("source");
    source.file("new", "");
    let copied = rig::copy(&[contents(source.path())], tree.path(), |o| o.remove_extra = true).complete();
    assert_eq!(copied.report.totals.reason_of(Reason::OtherFileSystem), 3);
    let left = names(&tree);
    for name in ["own/d/nested/g", "taken/d/f", "kept/d/f", "new"] {
        assert!(left.contains(name), "{left:?}");
    }
    assert!(!left.contains("file"));
}

#[test]
fn what_refuses_to_go_is_told_and_the_rest_goes() {
    let scratch = Scratch::new();
    let Some(point) = scratch.file_system("ext4", "") else {
        return;
    };
    let tree = Tree::new(point.join("tree"));
    tree.file("a/fixed", "")
        .file("a/go", "")
        .file("b/go", "")
        .file("frozen/x", "")
        .file("frozen/y", "");
    for path in [tree.path().join("a/fixed"), tree.path().join("frozen")] {
        if !command("chattr", &[&"+i", &path]).status.success() {
            println!("skip: no chattr +i here");
            return;
        }
    }
    let removed = remove(&[tree.path()], |_| {}).incomplete();
    let wanted = [
        "permission remove EPERM a/fixed",
        "permission remove EPERM frozen/x",
        "permission remove EPERM frozen/y",
    ];
    assert_eq!(removed.failures(tree.path()), wanted);
    assert_eq!(removed.counts(), "skipped 3, removed 3, failed 3 (not-empty 3)");
    assert_eq!(
        names(&tree),
        ["a/", "a/fixed", "frozen/", "frozen/x", "frozen/y"]
            .map(str::to_owned)
            .into()
    );
    for path in [tree.path().join("a/fixed"), tree.path().join("frozen")] {
        assert!(command("chattr", &[&"-i", &path]).status.success());
    }
    remove(&[tree.path()], |_| {}).complete();
    assert!(!tree.path().exists());
}

#[test]
fn without_rights() {
    apart(
        "remove::without_rights",
        NOBODY,
        |scratch| {
            let tree = scratch.tree("tree");
            tree.file("others/x", "")
                .file("own/y", "")
                .dir("own/closed")
                .file("own/shut/z", "");
            for name in ["", "own", "own/y", "own/closed", "own/shut", "own/shut/z"] {
                tree.owner(name, 65534, 65534);
            }
            tree.mode("own/closed", 0)
                .mode("own/shut", 0)
                .mode("others", 0o755)
                .mode("", 0o755);
        },
        |scratch| {
            let tree = scratch.join("tree");
            let removed = remove(&[&tree], |_| {}).incomplete();
            // An empty directory goes though it can't be read.
            let wanted = ["permission remove EACCES others/x", "unreadable open EACCES own/shut"];
            assert_eq!(removed.failures(&tree), wanted);
        },
        |scratch| {
            let left = names(&Tree::new(scratch.at("tree")));
            assert_eq!(
                left,
                ["others/", "others/x", "own/", "own/shut/", "own/shut/z"]
                    .map(str::to_owned)
                    .into()
            );
        },
    );
}

/// What lies above a directory that can't be read is protected too.
#[test]
fn above_a_closed_directory() {
    apart(
        "remove::above_a_closed_directory",
        NOBODY,
        |scratch| {
            let tree = scratch.tree("tree");
            tree.file("open/closed/home/x", "").file("open/other", "");
            for name in ["", "open", "open/other", "open/closed/home", "open/closed/home/x"] {
                tree.owner(name, 65534, 65534);
            }
            tree.mode("open/closed", 0o711).mode("", 0o755);
        },
        |scratch| {
            let (tree, home) = (scratch.join("tree"), bytes(&scratch.join("tree/open/closed/home")));
            for name in ["", "open"] {
                let refusal = attempt(&[&tree.join(name)], |o| o.protected = vec![home.clone()]).unwrap_err();
                assert!(matches!(refusal, Refusal::Safety(_)), "{refusal}");
            }
        },
        |scratch| assert!(scratch.at("tree/open/other").exists()),
    );
}

#[test]
fn a_cancelled_removal_says_so_and_goes_on_when_it_is_run_again() {
    let scratch = Scratch::new();
    let tree = scratch.tree("tree");
    for number in 0..3000 {
        tree.file(format!("{}/{number}", number % 3), "");
    }
    let job = Removal::new(options(&[tree.path()])).unwrap().remove().unwrap();
    let removed = watch(&job, |_| job.drain()).unwrap();
    assert!(
        removed.report.interrupted && !removed.report.is_complete(),
        "{removed:?}"
    );
    assert!(tree.path().exists());
    remove(&[tree.path()], |_| {}).complete();
    assert!(!tree.path().exists());
}

/// Some entries of a directory that is held open.
struct Held {
    fd: Arc<OwnedFd>,
    entries: Vec<Batch>,
}

impl Parts for Held {
    fn count(&self) -> usize {
        2
    }

    fn open(&self, index: usize) -> Option<Part> {
        let (stat, mount) = sys::stat_mounted(self.fd.as_fd()).unwrap();
        (index > 0).then(|| Part {
            fd: Arc::clone(&self.fd),
            stat,
            mount,
            side: Side::Destination(0),
            path: b"/nowhere/to".to_vec(),
            relative_path: b"below".to_vec(),
            twins: vec![b"/from".to_vec()],
            entries: self.entries.clone(),
        })
    }
}

/// As another operation clears its destination: by the descriptor that it holds, whatever the paths lead to.
#[test]
fn inside_another_operation() {
    let scratch = Scratch::new();
    for workers in [1, 3] {
        let tree = scratch.tree(&format!("tree-{workers}"));
        tree.file("extra/a", "")
            .file("extra/b/c", "")
            .file("plain", "")
            .file("stays", "")
            .symlink("swapped", "extra")
            .file("kept/x.log", "")
            .file("kept/y", "");
        let foreign = bulkhaul_formats::staging::name(1, b"x", 0);
        let foreign = String::from_utf8(foreign.as_bytes().to_vec()).unwrap();
        tree.file(format!("kept/{foreign}"), "");
        let mut batches = [Batch::default(), Batch::default()];
        for (name, kind) in [
            ("extra", Kind::Directory),
            ("plain", Kind::File),
            ("swapped", Kind::Directory),
        ] {
            batches[0].push(&c_string(name), kind);
        }
        batches[1].push(c"gone", Kind::File);
        batches[1].push(c"kept", Kind::Directory);
        let held = Held {
            fd: Arc::new(sys::open_directory(sys::current_directory(), &c_string(tree.path()), Follow::No).unwrap()),
            entries: batches.to_vec(),
        };
        // By the path in the source, as by that in the destination.
        let rules = vec![b"/from/kept/x.log".to_vec()];
        let filter = Selection::of(Some(&(FilterStyle::Fnmatch, rules))).unwrap();
        let desk = Desk::new(workers);
        let sweeper = Sweeper {
            desk: &desk,
            guard: &Guard::default(),
            filter: &filter,
            stager: Some(Stager::new()),
            budget: &Arc::new(Budget::new(2)),
            crew: &Crew::Fixed(workers),
            mode: Mode::Count,
            tell: 0,
            left: &std::sync::atomic::AtomicU64::new(u64::MAX),
            witness: None,
        };
        let before = names(&tree);
        let counted = sweeper.count(Start::Parts(&held), 3);
        assert_eq!((names(&tree), counted.failed, counted.first.len()), (before, 1, 3));
        assert!(counted.first.iter().all(|path| path.starts_with(b"/nowhere/to/")));
        assert_eq!(Totals::of(&desk.counters).all_found(), 0);
        Sweeper {
            mode: Mode::Remove,
            ..sweeper
        }
        .run(Start::Parts(&held));
        let left = ["kept/", "kept/x.log", "stays", "swapped"].map(str::to_owned);
        let left: BTreeSet<String> = left.into_iter().chain([format!("kept/{foreign}")]).collect();
        assert_eq!(names(&tree), left);
        let totals = Totals::of(&desk.counters);
        // Nothing of it is an entry of the source.
        assert_eq!((totals.found.iter().sum::<u64>(), totals.extras), (0, 10));
        assert_eq!(totals.all_outcomes(), 10);
        let outcomes = [Outcome::Removed, Outcome::Skipped, Outcome::Conflict].map(|o| totals.outcome_of(o));
        assert_eq!(outcomes, [6, 3, 1]);
        let reasons = [
            Reason::Vanished,
            Reason::StagingName,
            Reason::NotEmpty,
            Reason::Excluded,
        ];
        assert_eq!(reasons.map(|reason| totals.reason_of(reason)), [1, 1, 1, 0]);
        assert_eq!(desk.findings.failed(), 1);
    }
}

/// 5000 levels, 15 kB.
#[test]
fn the_deepest_tree() {
    let scratch = Scratch::new();
    let base = scratch.tree("tree");
    let name = c_string("ab");
    let mut at = sys::open_directory(sys::current_directory(), &c_string(base.path()), Follow::No).unwrap();
    for _ in 0..5000 {
        sys::make_directory(at.as_fd(), &name).unwrap();
        at = sys::open_directory(at.as_fd(), &name, Follow::No).unwrap();
        sys::create_file(at.as_fd(), c"file").unwrap();
    }
    let removed = report(base.path(), |o| o.jobs = 2).unwrap();
    assert!(removed.is_complete() && removed.totals.outcome_of(Outcome::Removed) == 10_001);
    assert!(!base.path().exists());
}

fn report(path: &Path, change: impl FnOnce(&mut RemoveOptions)) -> Result<Report, Refusal> {
    let mut options = options(&[path]);
    (options.jobs, options.entry_events) = (1, false);
    change(&mut options);
    Removal::new(options)?.remove()?.run()
}

const ERRNOS: [Errno; 6] = [
    Errno::IO,
    Errno::ACCESS,
    Errno::STALE,
    Errno::INTR,
    Errno::MFILE,
    Errno::BUSY,
];

/// In a child: each call fails once, then everything is as it should be, and goes the next time.
fn fail_at_every_call(base: &Path, errno: Errno) {
    let outside = Tree::new(base.join("outside"));
    outside.file("a", "stays");
    let mut points = 0;
    for nth in 0.. {
        let tree = Tree::new(base.join(format!("tree-{nth}")));
        mixed(&tree);
        tree.symlink("d/out", "../../outside");
        failpoint::arm(Some(Plan {
            call: None,
            nth,
            count: 1,
            effect: Effect::Errno(errno),
        }));
        let result = report(tree.path(), |_| {});
        let calls = failpoint::disarm();
        assert_eq!(outside.read("a"), b"stays");
        let there = tree.path().exists();
        match &result {
            Ok(report) if report.is_complete() => assert!(!there, "call {nth} {:?}", calls.get(nth)),
            Ok(report) => {
                let said = report
                    .failures
                    .iter()
                    .any(|f| f.errno == Some(errno) && !f.path.is_empty());
                assert!(
                    said && report.accounted,
                    "call {nth} {:?}: {:?}",
                    calls.get(nth),
                    report.failures
                );
                assert_eq!(report.totals.all_found(), report.totals.all_outcomes());
            }
            // Before anything went.
            Err(refusal) => assert_eq!(tree.names().len(), 21, "call {nth}: {refusal}"),
        }
        if there {
            assert!(report(tree.path(), |_| {}).unwrap().is_complete());
            assert!(!tree.path().exists());
        }
        if calls.len() <= nth {
            break;
        }
        points += 1;
    }
    say(&format!("points {points}"));
}

#[test]
fn every_call_fails_once() {
    const TEST: &str = "remove::every_call_fails_once";
    if let Some(words) = order() {
        return fail_at_every_call(
            Path::new(&words[0]),
            Errno::from_raw_os_error(words[1].parse().unwrap()),
        );
    }
    let scratch = Scratch::new();
    let wrong = each(ERRNOS.len(), |index| {
        let errno = ERRNOS[index].raw_os_error();
        let base = scratch.tree(&errno.to_string());
        let log = scratch.at(&format!("{errno}.log"));
        let words = [base.path().display().to_string(), errno.to_string()];
        let (code, text) = finish(again(TEST, &words, &log), &log);
        let points = text
            .split("points ")
            .nth(1)
            .and_then(|t| t.split_whitespace().next()?.parse::<u32>().ok());
        println!("errno {errno}: {points:?} points");
        if code == Some(0) && points.is_some_and(|n| n > 40) {
            Vec::new()
        } else {
            vec![text]
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// In a child: it ends at a call.
fn die(tree: &Path, nth: usize) {
    failpoint::arm(Some(Plan {
        call: None,
        nth,
        count: 1,
        effect: Effect::Exit,
    }));
    report(tree, |_| {}).unwrap();
    say("lived");
}

#[test]
fn death_at_every_call() {
    const TEST: &str = "remove::death_at_every_call";
    if let Some(words) = order() {
        return die(Path::new(&words[0]), words[1].parse().unwrap());
    }
    let scratch = Scratch::new();
    let outside = scratch.tree("outside");
    outside.file("a", "stays");
    let mut died = 0;
    for nth in 0.. {
        let tree = scratch.tree(&format!("tree-{nth}"));
        mixed(&tree);
        tree.symlink("d/out", "../../outside");
        let log = scratch.at("log");
        let (code, text) = finish(
            again(TEST, &[tree.path().display().to_string(), nth.to_string()], &log),
            &log,
        );
        if code == Some(0) {
            assert!(text.contains("lived") && !tree.path().exists(), "{text}");
            break;
        }
        assert_eq!(code, Some(99), "{text}");
        died += 1;
        assert!(!tree.path().exists() || report(tree.path(), |_| {}).unwrap().is_complete());
        assert!(!tree.path().exists());
    }
    assert_eq!(outside.read("a"), b"stays");
    assert!(died > 40, "{died} deaths");
}

/// In a child, armed with a plan of the case that is named.
fn armed(case: &str, tree: &Path) {
    let plan = |call, nth, count, effect| {
        failpoint::arm(Some(Plan {
            call: Some(call),
            nth,
            count,
            effect,
        }));
    };
    match case {
        // The second stretch of the second directory, and all listings.
        "listing" => plan(Call::ReadDirectory, 1, 1, Effect::Errno(Errno::IO)),
        "listings" => plan(Call::ReadDirectory, 0, usize::MAX, Effect::Errno(Errno::IO)),
        "not-empty" => plan(Call::RemoveDirectory, 0, 3, Effect::Errno(Errno::NOTEMPTY)),
        "never-empty" => plan(Call::RemoveDirectory, 0, usize::MAX, Effect::Errno(Errno::NOTEMPTY)),
        "swap" => plan(Call::Unlink, 3, 1, Effect::Stop),
        "fill" => plan(Call::RemoveDirectory, 0, 1, Effect::Stop),
        other => panic!("{other}"),
    }
    let result = report(tree, |o| {
        o.list_first = case == "listing" && tree.ends_with("first");
    });
    failpoint::disarm();
    match result {
        Ok(report) => {
            for failure in &report.failures {
                say(&format!("failure {}", failure.message));
            }
            say(&format!(
                "complete {} removed {}",
                report.is_complete(),
                report.totals.outcome_of(Outcome::Removed)
            ));
            assert_eq!(report.totals.all_found(), report.totals.all_outcomes());
        }
        Err(refusal) => say(&format!("refused {refusal}")),
    }
}

fn in_child(name: &str, case: &str, tree: &Path) -> String {
    let log = tree.with_extension(format!("{case}.log"));
    let (code, said) = finish(again(name, &[case.to_owned(), tree.display().to_string()], &log), &log);
    assert_eq!(code, Some(0), "{said}");
    said
}

#[test]
fn a_directory_that_cannot_be_listed() {
    const TEST: &str = "remove::a_directory_that_cannot_be_listed";
    if let Some(words) = order() {
        return armed(&words[0], Path::new(&words[1]));
    }
    let scratch = Scratch::new();
    let fill = |name: &str| {
        let tree = scratch.tree(name);
        for number in 0..3000 {
            tree.file(format!("a-name-of-some-length-{number}"), "");
        }
        tree
    };
    // The rest of a listing is not taken for its end.
    let tree = fill("tree");
    let text = in_child(TEST, "listing", tree.path());
    assert!(
        text.contains("failure list ") && text.contains("complete false"),
        "{text}"
    );
    let left = tree.names().len();
    assert!((1..3000).contains(&left), "{left}");
    // Listed first, nothing goes.
    let tree = fill("first");
    let text = in_child(TEST, "listing", tree.path());
    assert!(text.contains("refused nothing was removed"), "{text}");
    assert_eq!(tree.names().len(), 3000);
    let tree = fill("all");
    let text = in_child(TEST, "listings", tree.path());
    assert!(text.contains("complete false removed 0"), "{text}");
    assert_eq!(tree.names().len(), 3000);
}

#[test]
fn a_directory_that_fills_again() {
    const TEST: &str = "remove::a_directory_that_fills_again";
    if let Some(words) = order() {
        return armed(&words[0], Path::new(&words[1]));
    }
    let scratch = Scratch::new();
    let tree = scratch.tree("tree");
    tree.file("d/a", "");
    assert!(in_child(TEST, "not-empty", tree.path()).contains("complete true removed 3"));
    // Not without end.
    tree.file("d/a", "");
    let text = in_child(TEST, "never-empty", tree.path());
    assert!(
        text.contains("Directory not empty") && text.contains("complete false removed 1"),
        "{text}"
    );
    // Somebody puts something in, as NFS does with what is open.
    tree.file("d/a", "");
    let log = scratch.at("log");
    let child = again(TEST, &["fill".into(), tree.path().display().to_string()], &log);
    let text = with_stops(child, &log, |_| {
        tree.file("d/.nfs0001", "").file("d/more/x", "");
    });
    assert!(text.contains("complete true removed 6"), "{text}");
    assert!(!tree.path().exists());
}

#[test]
fn a_directory_becomes_a_symlink_while_it_is_emptied() {
    const TEST: &str = "remove::a_directory_becomes_a_symlink_while_it_is_emptied";
    if let Some(words) = order() {
        return armed(&words[0], Path::new(&words[1]));
    }
    let scratch = Scratch::new();
    let (tree, outside) = (scratch.tree("tree"), scratch.tree("outside"));
    for number in 0..10 {
        tree.file(format!("d/{number}"), "");
        outside.file(format!("{number}"), "stays");
    }
    let log = scratch.at("log");
    let child = again(TEST, &["swap".into(), tree.path().display().to_string()], &log);
    let (d, moved) = (tree.path().join("d"), scratch.at("moved"));
    let text = with_stops(child, &log, |_| {
        fs::rename(&d, &moved).unwrap();
        symlink("../outside", &d).unwrap();
    });
    assert!(
        text.contains("complete false removed 10") && text.contains("changed"),
        "{text}"
    );
    assert_eq!(outside.names().len(), 10);
    assert!(d.is_symlink() && moved.read_dir().unwrap().count() == 0);
}

/// What the caller has open, or is about to make, stays.
#[test]
fn a_file_in_use_is_not_removed() {
    let scratch = Scratch::new();
    let tree = scratch.tree("t");
    mixed(&tree);
    tree.file("d/log", "told");
    let (log, later) = (tree.at("d/log"), tree.at("later"));
    let removed = remove(&[tree.path()], |o| o.in_use = vec![bytes(&log), bytes(&later)]).incomplete();
    assert_eq!(removed.failures(tree.path()), ["conflict remove - d/log"]);
    // The root and what holds it are left.
    assert_eq!(names(&tree), BTreeSet::from(["d/".to_owned(), "d/log".to_owned()]));
    let totals = &removed.report.totals;
    assert_eq!(totals.outcome_of(Outcome::Removed), totals.all_found() - 3);
    let itself = remove(&[&log], |o| o.in_use = vec![bytes(&log)]).incomplete();
    assert_eq!(itself.failures(tree.path()), ["conflict remove - d/log"]);
}

/// Removes what a list names below a tree, without a word of what is not there.
fn remove_listed(scratch: &Scratch, tree: &Tree, names: &[&str]) -> Copied {
    let list = scratch.at("list");
    fs::write(&list, names.join("\0")).unwrap();
    let from = FilesFrom {
        path: bytes(&list),
        nul: true,
        contents: false,
    };
    remove(&[tree.path()], |o| o.files_from = Some(from))
}

#[test]
fn of_a_list_only_what_it_names_goes() {
    let scratch = Scratch::new();
    let (tree, outside) = (scratch.tree("tree"), scratch.tree("outside"));
    mixed(&tree);
    for name in ["stays", "too"] {
        outside.file(name, name);
    }
    tree.symlink("led", "../outside").file("d/stays", "");
    let before = names(&tree);
    // What lies behind a symlink is not in the tree, and what has gone meanwhile is nobody's.
    let listed = ["file", "loose", "d/e/3", "d/up", "led/stays", "d/gone", "gone/too"];
    let removed = remove_listed(&scratch, &tree, &listed).complete();
    assert_eq!(removed.counts(), "removed 4");
    let gone = BTreeSet::from(["file", "loose", "d/e/3", "d/up"].map(str::to_owned));
    assert_eq!(names(&tree), &before - &gone);
    assert_eq!(outside.names().len(), 2);
    assert!(removed.report.totals.all_found() == 4 && tree.path().exists());
}

#[test]
fn of_a_list_nothing_goes_beyond_a_mount_point() {
    let scratch = Scratch::new();
    let (tree, twin) = (scratch.tree("tree"), scratch.tree("twin"));
    tree.dir("bound").file("goes", "");
    twin.file("stays", "");
    if !Scratch::bind(twin.path(), &tree.path().join("bound")) {
        return;
    }
    let removed = remove_listed(&scratch, &tree, &["bound/stays", "goes"]);
    assert_eq!(removed.complete().counts(), "removed 1");
    assert_eq!(twin.read("stays"), b"");
}

#[test]
fn a_list_goes_with_one_path() {
    let from = FilesFrom {
        path: b"list".to_vec(),
        nul: true,
        contents: false,
    };
    let refused = attempt(&[Path::new("a"), Path::new("b")], |o| o.files_from = Some(from));
    assert!(matches!(refused, Err(Refusal::Usage(text)) if text.contains("one path")));
}
