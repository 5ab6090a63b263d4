//! Views: one file that two file systems show (FUSE, overlays), and file systems that show several as one. Neither device
//! nor inode tells, so a move and a hard link need more.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bulkhaul_engine::copy::options::{CopyOptions, SourceArgument};
use bulkhaul_engine::entry::{Outcome, Reason};
use bulkhaul_engine::error::Refusal;

use crate::rig::{
    Copied, Scratch, Tree, attempt, command, contents, copy, has, has_staging, must, named, root, same_path,
};

/// Mounts a view; `None`: it can't be had here, and that was printed.
fn mounted(program: &str, arguments: &[&str], point: PathBuf) -> Option<PathBuf> {
    if !root() {
        return None;
    }
    if !has(program) {
        println!("skip: there is no {program}");
        return None;
    }
    fs::create_dir_all(&point).unwrap();
    let mut all: Vec<&dyn AsRef<std::ffi::OsStr>> = arguments.iter().map(|a| a as _).collect();
    all.push(&point);
    let output = command(program, &all);
    if !output.status.success() {
        println!("skip: {program}: {}", String::from_utf8_lossy(&output.stderr).trim());
        return None;
    }
    Some(point)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Two places that show the same files, either way round.
fn views(scratch: &Scratch) -> Vec<(&'static str, PathBuf, PathBuf)> {
    let mut all = Vec::new();
    let plain = |name: &str| scratch.tree(name).path().to_owned();
    let from = plain("bound");
    if let Some(view) = mounted("bindfs", &[text(&from)], scratch.at("bindfs")) {
        all.push(("bindfs", from, view));
    }
    let (branch, other) = (plain("branch"), plain("other"));
    let branches = format!("{}:{}", text(&branch), text(&other));
    if let Some(pool) = mounted("mergerfs", &["-o", "category.create=ff", &branches], scratch.at("pool")) {
        all.push(("mergerfs", branch, pool));
    }
    if let Some(base) = scratch.file_system("ext4", "") {
        let parts = ["upper", "work", "lower"].map(|name| {
            let path = base.join(name);
            fs::create_dir(&path).unwrap();
            path
        });
        let options = format!(
            "upperdir={},workdir={},lowerdir={}",
            text(&parts[0]),
            text(&parts[1]),
            text(&parts[2])
        );
        let arguments = ["-t", "overlay", "-o", &options, "none"];
        if let Some(merged) = mounted("mount", &arguments, base.join("merged")) {
            all.push(("overlay", parts[0].clone(), merged));
        }
    }
    all
}

fn transfer(source: SourceArgument, to: &Path, change: impl FnOnce(&mut CopyOptions)) -> Result<Copied, Refusal> {
    attempt(&[source], to, |o| {
        o.remove_sources = true;
        change(o);
    })
}

/// What a tree holds that these tests made.
fn fill(at: &Path) {
    fs::create_dir_all(at.join("d/e/empty")).unwrap();
    fs::write(at.join("f"), "one").unwrap();
    fs::write(at.join("d/e/g"), "two").unwrap();
    fs::hard_link(at.join("f"), at.join("d/h")).unwrap();
    std::os::unix::fs::symlink("f", at.join("l")).unwrap();
}

fn holds_all(at: &Path) -> bool {
    let read = |name: &str| fs::read(at.join(name)).unwrap_or_default();
    let right = read("f") == b"one" && read("d/e/g") == b"two" && read("d/h") == b"one";
    right && at.join("d/e/empty").is_dir() && at.join("l").is_symlink() && !has_staging(at)
}

#[test]
fn a_move_into_a_view_of_its_source_is_refused() {
    let scratch = Scratch::new();
    for (kind, one, two) in views(&scratch) {
        fill(&one);
        for (from, to) in [(&one, &two), (&two, &one)] {
            for verify in [false, true] {
                let refused = transfer(contents(from), to, |o| o.verify = verify);
                assert!(
                    matches!(refused, Err(Refusal::Safety(_))),
                    "{kind} {from:?}: {refused:?}"
                );
                let refused = transfer(named(from.join("d")), to, |o| o.verify = verify);
                assert!(
                    matches!(refused, Err(Refusal::Safety(_))),
                    "{kind} {from:?}: {refused:?}"
                );
                let refused = transfer(named(from.join("f")), to, |o| o.verify = verify);
                assert!(
                    matches!(refused, Err(Refusal::Safety(_))),
                    "{kind} {from:?}: {refused:?}"
                );
                assert!(holds_all(&one) && holds_all(&two), "{kind} {from:?}");
            }
            // The destination is made in a view of the source.
            let refused = transfer(contents(from), &to.join("new/place"), |_| {});
            assert!(
                matches!(refused, Err(Refusal::Safety(_))),
                "{kind} {from:?}: {refused:?}"
            );
            assert!(!from.join("new").exists());
        }
    }
}

/// Preflight looks at the arguments only: deeper down each entry has to be shown to be another one.
#[test]
fn an_entry_that_is_its_own_copy_stays() {
    let scratch = Scratch::new();
    for (kind, one, two) in views(&scratch) {
        for (number, (from, to)) in [(&one, &two), (&two, &one)].into_iter().enumerate() {
            // The tree lies in the view; the arguments are links that lead in.
            let name = format!("t{number}");
            fill(&from.join(&name));
            let (source, destination) = (
                scratch.tree(&format!("{kind}-s{number}")),
                scratch.tree(&format!("{kind}-d{number}")),
            );
            source.file("plain", "x");
            Scratch::bind(&from.join(&name), &source.at("t"));
            Scratch::bind(&to.join(&name), &destination.at("t"));
            let moved = transfer(contents(source.path()), destination.path(), |_| {})
                .unwrap()
                .incomplete();
            assert!(
                holds_all(&from.join(&name)) && holds_all(&to.join(&name)),
                "{kind} {number}: {moved:#?}"
            );
            assert_eq!(destination.read("plain"), b"x");
            assert!(!source.at("plain").exists());
            let stays = |what: &str| {
                moved
                    .report
                    .failures
                    .iter()
                    .filter(|f| f.message.contains(what))
                    .count()
            };
            let (itself, changed) = (stays("is the entry itself"), stays("it changed after"));
            // A pool has its own idea of times: what a look at it changes counts as changed.
            assert!(
                itself + changed >= 5 && (itself >= 3 || kind == "mergerfs"),
                "{kind} {number}: {moved:#?}"
            );
            // And again.
            transfer(contents(source.path()), destination.path(), |_| {})
                .unwrap()
                .incomplete();
            assert!(
                holds_all(&from.join(&name)) && holds_all(&to.join(&name)),
                "{kind} {number}"
            );
        }
    }
}

/// What was there before and is another file goes as ever.
#[test]
fn a_move_over_what_is_there_already() {
    let scratch = Scratch::new();
    let (source, to) = (scratch.tree("s"), scratch.tree("d"));
    fill(source.path());
    copy(&[contents(source.path())], to.path(), |_| {}).complete();
    transfer(contents(source.path()), to.path(), |_| {}).unwrap().complete();
    assert!(!source.path().exists());
    assert!(holds_all(to.path()));
}

/// The destination lies in the source, deeper than the arguments show.
#[test]
fn a_destination_that_a_source_shows_on_the_way_is_not_entered() {
    let scratch = Scratch::new();
    let source = scratch.tree("s");
    source.file("a", "1").file("deep/inner/b", "2");
    let inner = source.at("deep/inner");
    let Some(view) = mounted("bindfs", &[text(&inner)], scratch.at("view")) else {
        return;
    };
    let copied = transfer(contents(source.path()), &view, |_| {}).unwrap().incomplete();
    assert!(
        copied.failures(source.path())[0].starts_with("conflict list - "),
        "{copied:#?}"
    );
    assert_eq!(source.read("deep/inner/b"), b"2");
    assert_eq!(source.read("deep/inner/a"), b"1");
    assert!(!source.at("deep/inner/deep/inner/deep").exists());
    assert!(!has_staging(source.path()));
    // It is made there.
    source.file("c", "3");
    let copied = transfer(contents(source.path()), &view.join("new"), |_| {})
        .unwrap()
        .incomplete();
    assert!(
        copied.failures(source.path())[0].starts_with("conflict list - "),
        "{copied:#?}"
    );
    assert_eq!(source.read("deep/inner/b"), b"2");
    assert_eq!(source.read("deep/inner/new/c"), b"3");
    assert!(!source.at("deep/inner/new/deep/inner/new").exists());
    assert!(!has_staging(source.path()));
}

/// Two file systems under one view: equal inode numbers of different files.
#[test]
fn equal_inode_numbers_are_no_hard_link() {
    let scratch = Scratch::new();
    let source = scratch.tree("s");
    let mut numbers = Vec::new();
    for name in ["one", "two"] {
        let Some(disk) = scratch.file_system("ext4", "") else {
            return;
        };
        fs::write(disk.join("f"), name).unwrap();
        fs::hard_link(disk.join("f"), disk.join("g")).unwrap();
        numbers.push(fs::metadata(disk.join("f")).unwrap().ino());
        assert!(Scratch::bind(&disk, &source.at(name)));
    }
    assert_eq!(numbers[0], numbers[1], "two fresh file systems number alike");
    let Some(view) = mounted("bindfs", &[text(source.path())], scratch.at("view")) else {
        return;
    };
    for (number, change) in [|_: &mut CopyOptions| {}, |o: &mut CopyOptions| o.verify = true]
        .into_iter()
        .enumerate()
    {
        let to = scratch.at(&format!("to-{number}"));
        for _ in 0..2 {
            copy(&[contents(&view)], &to, change).complete();
            for name in ["one", "two"] {
                assert_eq!(fs::read_to_string(to.join(name).join("f")).unwrap(), name);
                assert!(
                    same_path(&to.join(name).join("f"), &to.join(name).join("g")),
                    "{name} {number}"
                );
            }
        }
    }
    // From one to the other, which both have the number of a root, and files with equal numbers.
    let onto = copy(&[contents(view.join("one"))], view.join("two"), |_| {}).complete();
    assert_eq!(onto.report.totals.reasons[Reason::SameFile as usize], 0, "{onto:?}");
    assert_eq!(fs::read_to_string(source.at("two/f")).unwrap(), "one");
    fs::create_dir(source.at("two/in")).unwrap();
    let into = copy(&[named(view.join("one"))], view.join("two"), |_| {}).complete();
    assert_eq!(into.report.totals.reasons[Reason::Destination as usize], 0, "{into:?}");
    assert_eq!(fs::read_to_string(source.at("two/one/f")).unwrap(), "one");
    fs::write(source.at("two/f"), "two").unwrap();
    let to = scratch.at("to-moved");
    transfer(named(view.join("one")), &to, |_| {}).unwrap();
    transfer(named(view.join("two")), &to, |_| {}).unwrap();
    for name in ["one", "two"] {
        assert_eq!(fs::read_to_string(to.join(name).join("g")).unwrap(), name);
    }
}

/// Links of symlinks, FIFOs, sockets and devices are links in the copy, and a move takes them in one run.
#[test]
fn links_of_every_kind() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.tree("s");
    source.symlink("l", "nowhere").link("d/l", "l");
    for (name, kind) in [
        ("fifo", bulkhaul_engine::Kind::Fifo),
        ("socket", bulkhaul_engine::Kind::Socket),
        ("char", bulkhaul_engine::Kind::Char),
    ] {
        source.special(name, kind, 0x103).link(format!("d/{name}"), name);
    }
    let names = ["l", "fifo", "socket", "char"];
    let linked = |to: &Path| {
        names
            .iter()
            .all(|name| same_path(&to.join(name), &to.join("d").join(name)))
    };
    let would = copy(&[contents(source.path())], scratch.at("to"), |o| o.dry_run = true).complete();
    assert_eq!(would.report.totals.outcome_of(Outcome::Linked), 4);
    for jobs in [1, 3] {
        let to = scratch.at(&format!("to-{jobs}"));
        let copied = copy(&[contents(source.path())], &to, |o| o.jobs = jobs).complete();
        assert_eq!(copied.report.totals.outcome_of(Outcome::Linked), 4, "{copied:?}");
        assert!(linked(&to));
        let again = copy(&[contents(source.path())], &to, |o| o.jobs = jobs).complete();
        assert_eq!(again.report.totals.outcome_of(Outcome::Linked), 0);
        // A link that is broken in the destination is made again.
        fs::remove_file(to.join("d/l")).unwrap();
        std::os::unix::fs::symlink("nowhere", to.join("d/l")).unwrap();
        copy(&[contents(source.path())], &to, |o| o.jobs = jobs).complete();
        assert!(linked(&to));
    }
    transfer(contents(source.path()), &scratch.at("moved"), |_| {})
        .unwrap()
        .complete();
    assert!(!source.path().exists() && linked(&scratch.at("moved")));
}

/// A file system that takes `F` and `f` for one name.
fn folding(scratch: &Scratch) -> Option<PathBuf> {
    if !has("mkfs.ntfs") {
        println!("skip: there is no mkfs.ntfs");
        return None;
    }
    let image = scratch.at("ntfs.image");
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    must("mkfs.ntfs", &[&"-F", &"-Q", &"-q", &image]);
    mounted(
        "lowntfs-3g",
        &["-o", "ignore_case,permissions", text(&image)],
        scratch.at("ntfs"),
    )
}

/// ESTALE, though it was made: it has the number of one that is just going. In a new directory nobody looks for leftovers.
#[test]
fn a_directory_that_nothing_leads_to_yet_is_made_again() {
    let scratch = Scratch::new();
    let (source, real) = (scratch.tree("s"), scratch.tree("real"));
    source.file("d/e/f", "f");
    let Some(disk) = scratch.faulty(real.path(), "stale") else {
        return;
    };
    let copied = copy(&[contents(source.path())], &disk, |o| o.jobs = 1).complete();
    assert_eq!(copied.notes(), [""; 0]);
    assert_eq!(fs::read_to_string(real.at("d/e/f")).unwrap(), "f");
    assert!(!has_staging(real.path()));
}

/// Of the one that has arrived, the destination would have all that there is, and the next run the other one in its place.
#[test]
fn a_move_keeps_both_of_two_names_that_the_destination_takes_for_one() {
    let scratch = Scratch::new();
    let Some(disk) = folding(&scratch) else { return };
    let source = scratch.tree("s");
    for name in ["F", "f", "Dir/x", "dir/x"] {
        source.file(name, name);
    }
    source.symlink("L", "one").symlink("l", "two");
    let all = |root: &Path| {
        let mut all = Vec::new();
        for name in ["F", "f", "Dir/x", "dir/x"] {
            all.extend(fs::read_to_string(root.join(name)));
        }
        for name in ["L", "l"] {
            all.extend(fs::read_link(root.join(name)).map(|text| text.to_string_lossy().into_owned()));
        }
        all
    };
    for turn in 0..3 {
        transfer(contents(source.path()), &disk.join("to"), |_| {})
            .unwrap()
            .incomplete();
        assert_eq!(all(source.path()), ["F", "f", "Dir/x", "dir/x", "one", "two"], "{turn}");
    }
}

/// The same of names that differ by the form of their letters, on a destination that keeps one form.
#[test]
fn a_move_keeps_both_of_two_forms_of_one_name() {
    let scratch = Scratch::new();
    let (source, real) = (scratch.tree("s"), scratch.tree("real"));
    let Some(disk) = scratch.faulty(real.path(), "fold=form") else {
        return;
    };
    let names = ["caf\u{e9}", "cafe\u{301}", "d\u{e9}/x", "de\u{301}/x"];
    for name in names {
        source.file(name, name);
    }
    for turn in 0..3 {
        transfer(contents(source.path()), &disk.join("to"), |_| {})
            .unwrap()
            .incomplete();
        let all = names.map(|name| fs::read_to_string(source.at(name)).unwrap());
        assert_eq!(all, names, "{turn}");
    }
}

#[test]
fn two_names_that_the_destination_takes_for_one_are_a_conflict() {
    let scratch = Scratch::new();
    let Some(disk) = folding(&scratch) else { return };
    let source = scratch.tree("s");
    for name in [
        "F",
        "f",
        "sub/G",
        "sub/g",
        "Dir/x",
        "dir/y",
        "dir/sub/z",
        "sub/Deep/x",
        "sub/deep/y",
    ] {
        source.file(name, name);
    }
    source.symlink("L", "one").symlink("l", "two").link("H", "F");
    let conflicts = |copied: &Copied| {
        let mut all = copied.failures(&disk);
        // What is below a directory that did not come is one too.
        all.retain(|failure| failure.starts_with("conflict") && !failure.to_lowercase().ends_with("dir/sub"));
        let name = |failure: &String| failure.rsplit('/').next().unwrap().to_lowercase();
        let mut names: Vec<_> = all.iter().map(name).collect();
        names.sort();
        (names, all)
    };
    // A directory that another worker was faster with may stay, where files go late; that is said. It stays as long as the
    // process that made it, which this is.
    let mut said = false;
    for (number, jobs) in [1, 2, 4].into_iter().enumerate() {
        for existing in [false, true] {
            let to = disk.join(format!("to-{number}-{existing}"));
            if existing {
                fs::create_dir_all(to.join("sub")).unwrap();
            }
            // And again: what came first the first time may come second then.
            for turn in 0..3 {
                let copied = copy(&[contents(source.path())], &to, |o| {
                    o.jobs = jobs;
                })
                .incomplete();
                let (names, all) = conflicts(&copied);
                let ends: Vec<_> = names.iter().map(|n| n.rsplit(' ').next().unwrap()).collect();
                assert_eq!(
                    ends,
                    ["deep", "dir", "f", "g", "l"],
                    "{jobs} {existing} {turn}: {all:?} {copied:#?}"
                );
                said |= copied.notes().contains(&"left-behind");
                assert!(said || !has_staging(&disk), "{jobs} {existing} {turn}");
                // One of both, whole.
                let read = fs::read_to_string(to.join("f")).unwrap();
                assert_eq!(read.to_lowercase(), "f", "{jobs} {existing} {turn}");
            }
        }
    }
}

/// A file with several links shows nothing of where it lies: two that differ by case only are two, and stay one file.
#[test]
fn links_that_differ_by_case_only_are_two_names() {
    let names = ["README", "Readme", "X", "readme", "x"];
    let inodes = |at: &Path| names.map(|name| fs::symlink_metadata(at.join(name)).unwrap().ino());
    let linked = |at: &Path| {
        let [upper, mixed, great, lower, small] = inodes(at);
        assert!(upper == mixed && upper == lower && great == small && upper != small);
    };
    for jobs in [1, 4] {
        let scratch = Scratch::new();
        let source = scratch.tree("s");
        source.file("X", "x").link("x", "X").file("README", "r");
        source.link("Readme", "README").link("readme", "README");
        let to = scratch.at("d");
        for _ in 0..2 {
            copy(&[contents(source.path())], &to, |o| o.jobs = jobs).complete();
            linked(&to);
        }
        let moved = transfer(contents(source.path()), &to, |o| o.jobs = jobs);
        moved.unwrap().complete();
        assert!(!source.path().exists());
        linked(&to);

        // What is one file in the destination only becomes two.
        let two = scratch.tree("two");
        two.file("X", "X").file("x", "x");
        copy(&[contents(two.path())], &to, |o| o.jobs = jobs).complete();
        let read = |name: &str| fs::read_to_string(to.join(name)).unwrap();
        assert_eq!((read("X"), read("x")), ("X".into(), "x".into()));

        // All that is extra goes, whatever links it has.
        let one = scratch.tree("one");
        one.file("README", "r");
        for dry_run in [true, false] {
            let copied = copy(&[contents(one.path())], &to, |o| {
                (o.jobs, o.remove_extra, o.dry_run) = (jobs, true, dry_run);
            })
            .complete();
            assert_eq!(copied.report.totals.outcome_of(Outcome::Removed), 4, "{copied:#?}");
        }
        assert_eq!(fs::read_dir(&to).unwrap().count(), 1);
    }
}

/// And where names do meet, that is seen by such a file too.
#[test]
fn names_that_meet_are_seen_by_a_file_with_several_links() {
    let scratch = Scratch::new();
    let real = scratch.tree("real");
    let disks = [folding(&scratch), scratch.faulty(real.path(), "fold")];
    for disk in disks.into_iter().flatten() {
        let (source, to) = (Tree::new(scratch.at("s")), Tree::new(disk.join("to")));
        source.file("F", "F").time("F", 1_600_000_000, 0);
        source.file("f", "f").time("f", 1_600_000_001, 0);
        to.file("F", "F").time("F", 1_600_000_000, 0);
        fs::hard_link(to.at("F"), disk.join("other")).unwrap();
        assert_eq!(fs::metadata(to.at("f")).unwrap().nlink(), 2);
        let copied = copy(&[contents(source.path())], to.path(), |o| o.jobs = 1).incomplete();
        assert_eq!(copied.report.failure_kinds["conflict"], 1, "{copied:#?}");

        let to = Tree::new(disk.join("extra"));
        to.file("G", "G");
        fs::hard_link(to.at("G"), to.at("H")).unwrap();
        let withheld = copy(&[contents(source.path())], to.path(), |o| {
            (o.jobs, o.remove_extra) = (1, true);
        })
        .incomplete();
        assert_eq!(withheld.report.withheld[0].kind, "spelling", "{withheld:#?}");
        assert_eq!(to.read("G"), b"G");
        fs::remove_dir_all(source.path()).unwrap();
    }
}
