//! Failures provoked for real: each is one report with path, operation and errno; the rest is copied, what was there
//! stays as it was, and nothing unfinished is left.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bulkhaul_engine::copy::options::FilesFrom;
use bulkhaul_engine::entry::Outcome;
use bulkhaul_engine::error::Refusal;
use bulkhaul_engine::{Errno, Kind};
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};
use bulkhaul_sys::{self as sys, AsFd as _};

use crate::rig::fault::{again, order, with_stops};
use crate::rig::{
    NOBODY, Scratch, Tree, apart, attempt, compare, content, contents, copy, has, has_staging, listing, must, named,
    root,
};

/// In a process of its own: what other tests start would hold removed files, and their space, for a moment.
#[test]
fn a_full_file_system() {
    const FIT: [&str; 4] = ["a", "d/b", "e/c", "z"];
    const TOO_BIG: [(&str, usize); 3] = [("d/big", 8 << 20), ("huge", 5 << 20), ("d/deeper/big", 6 << 20)];
    apart(
        "failures::a_full_file_system",
        &["env"],
        |scratch| {
            let source = scratch.tree("source");
            for name in FIT {
                source.file(name, content(1, 100 << 10));
            }
            for (name, size) in TOO_BIG {
                source.file(name, content(2, size));
            }
            if let Some(small) = scratch.file_system("tmpfs", "size=4m") {
                std::os::unix::fs::symlink(small, scratch.at("small")).unwrap();
            }
        },
        |at| {
            let (source, small) = (Tree::new(at.join("source")), at.join("small"));
            for existing in [false, true] {
                if !small.exists() {
                    return;
                }
                let to = small.join(format!("{existing}"));
                if existing {
                    let old = Tree::new(to.clone());
                    for (name, _) in TOO_BIG {
                        old.file(name, "old");
                    }
                }
                // One after the other, so that what fails has given its space back.
                let copied = copy(&[contents(source.path())], &to, |o| o.jobs = 1).incomplete();
                assert_eq!(
                    copied.failures(&to),
                    [
                        "no-space write ENOSPC d/big",
                        "no-space write ENOSPC d/deeper/big",
                        "no-space write ENOSPC huge"
                    ]
                );
                assert!(
                    copied.report.failures[0].message.ends_with("has 0 B of 4.00 MiB free)"),
                    "{copied:?}"
                );
                assert_eq!(copied.notes(), ["space"]);
                let totals = &copied.report.totals;
                assert_eq!(
                    (totals.outcome_of(Outcome::Failed), totals.outcome_of(Outcome::Copied)),
                    (3, 4)
                );
                for name in FIT {
                    assert_eq!(fs::read(to.join(name)).unwrap(), source.read(name), "{name}");
                }
                for (name, _) in TOO_BIG {
                    let old = fs::read(to.join(name)).ok();
                    assert_eq!(old.as_deref(), existing.then_some(&b"old"[..]), "{name}");
                }
                assert!(!has_staging(&to));
                // Directories are finished all the same.
                let deeper = "d/deeper";
                assert_eq!(
                    crate::rig::modified(&to.join(deeper)),
                    crate::rig::modified(&source.at(deeper))
                );
                fs::remove_dir_all(&to).unwrap();
            }
        },
        |_| {},
    );
}

#[test]
fn no_inode_left() {
    let scratch = Scratch::new();
    let Some(small) = scratch.file_system("tmpfs", "nr_inodes=40") else {
        return;
    };
    let source = scratch.tree("source");
    for n in 0..60 {
        source.file(format!("d/file-{n:02}"), "x");
    }
    source.dir("z");
    for existing in [false, true] {
        let to = small.join(format!("{existing}"));
        if existing {
            fs::create_dir_all(to.join("d")).unwrap();
        }
        let copied = copy(&[contents(source.path())], &to, |_| {}).incomplete();
        let there = Tree::new(to.clone()).names().len() as u64;
        let made = copied.report.totals.outcome_of(Outcome::Copied);
        assert!((30..40).contains(&there), "{there}");
        assert_eq!(
            copied.report.failure_kinds.get("no-space"),
            Some(&(62 - there)),
            "{}",
            copied.counts()
        );
        assert_eq!(copied.report.failure_kinds.len(), 1);
        for failure in &copied.report.failures {
            assert!(matches!(failure.operation.text(), "create" | "mkdir"), "{failure:?}");
            assert!(failure.message.contains("no inode"), "{failure:?}");
            assert!(
                !Path::new(&*String::from_utf8_lossy(&failure.path)).exists(),
                "{failure:?}"
            );
        }
        assert!(made >= 30);
        assert!(!has_staging(&to));
        fs::remove_dir_all(&to).unwrap();
    }
}

#[test]
fn nobody_may_not_read() {
    apart(
        "failures::nobody_may_not_read",
        NOBODY,
        |scratch| {
            let source = scratch.tree("source");
            source.file("open", "x").file("secret", "s").mode("secret", 0o600);
            source.file("closed/inside", "s").mode("closed", 0o711);
            source
                .file("list-only/inside", "s")
                .mode("list-only", 0o744)
                .file("d/also-open", "y");
            source
                .file("d/secret", "s")
                .mode("d/secret", 0)
                .special("d/char", Kind::Char, 0x103);
            let to = scratch.tree("to");
            to.file("secret", "old")
                .file("closed/old", "old")
                .file("d/unreadable", "old");
            source.file("d/unreadable", "new");
            let (sec, nsec) = crate::rig::modified(&source.at("d/unreadable"));
            to.time("d/unreadable", sec, nsec).mode("d/unreadable", 0);
            must("chown", &[&"-R", &"65534:65534", &to.path()]);
        },
        |at| {
            let copied = copy(&[contents(at.join("source"))], at.join("to"), |_| {}).incomplete();
            let char = format!("permission mknod EPERM {}", at.join("to/d/char").display());
            assert_eq!(
                copied.failures(&at.join("source")),
                [
                    &*char,
                    "unreadable open EACCES closed",
                    "unreadable open EACCES d/secret",
                    "unreadable open EACCES list-only/inside",
                    "unreadable open EACCES secret",
                ]
            );
            assert_eq!(copied.report.totals.outcome_of(Outcome::Failed), 5);
        },
        |scratch| {
            let to = scratch.tree("to");
            assert_eq!(
                to.names(),
                [
                    "closed",
                    "closed/old",
                    "d",
                    "d/also-open",
                    "d/unreadable",
                    "list-only",
                    "open",
                    "secret"
                ]
            );
            assert_eq!(
                (to.read("secret"), to.read("d/unreadable")),
                (b"old".to_vec(), b"new".to_vec())
            );
        },
    );
}

/// Memory and the report do not grow with the number of failures.
#[test]
fn more_failures_than_are_kept() {
    apart(
        "failures::more_failures_than_are_kept",
        NOBODY,
        |scratch| {
            let source = scratch.tree("source");
            for n in 0..1500 {
                source
                    .file(format!("secret-{n}"), "s")
                    .mode(format!("secret-{n}"), 0o600);
            }
            source.file("open", "x");
            scratch.tree("outer").owner("", 65534, 65534);
        },
        |at| {
            let copied = copy(&[contents(at.join("source"))], at.join("outer/to"), |_| {}).incomplete();
            assert_eq!(copied.counts(), "made 1, copied 1, failed 1500");
            assert_eq!(copied.report.failure_kinds.get("unreadable"), Some(&1500));
            assert_eq!(copied.report.failures.len(), 1000);
        },
        |scratch| assert_eq!(scratch.tree("outer").names(), ["to", "to/open"]),
    );
}

#[test]
fn immutable_targets() {
    let scratch = Scratch::new();
    let Some(base) = scratch.file_system("ext4", "rw") else {
        return;
    };
    let (source, to) = (scratch.tree("source"), Tree::new(base.join("to")));
    for tree in [&source, &to] {
        tree.file("content", "old")
            .file("metadata", "same")
            .file("untouched", "same")
            .file("d/old", "same")
            .dir("e");
        for name in ["content", "metadata", "untouched", "d/old", "d", "e", ""] {
            tree.time(name, 1_000_000_000, 1);
        }
    }
    source
        .file("content", "new!")
        .mode("metadata", 0o4711)
        .file("d/new", "x")
        .file("e/new", "x")
        .dir("d/deeper/still");
    source.time("d", 1_000_000_000, 1).time("", 1_000_000_000, 1);
    let protected = ["content", "metadata", "untouched", "d"];
    for name in protected {
        must("chattr", &[&"+i", &to.at(name)]);
    }
    let copied = copy(&[contents(source.path())], to.path(), |_| {}).incomplete();
    for name in protected {
        must("chattr", &[&"-i", &to.at(name)]);
    }
    assert_eq!(
        copied.failures(to.path()),
        [
            "conflict chmod - metadata",
            "conflict create - content",
            "conflict create - d/new",
            "conflict mkdir - d/deeper",
        ]
    );
    assert!(copied.report.failures.iter().all(|f| f.message.contains("immutable")));
    assert_eq!(copied.report.totals.copied_bytes, 1, "only e/new is written");
    assert_eq!((to.read("content"), to.read("e/new")), (b"old".to_vec(), b"x".to_vec()));
    assert_eq!(fs::metadata(to.at("metadata")).unwrap().mode() & 0o7777, 0o644);
    assert!(!has_staging(to.path()));
    // With the protection gone, the next run does what is left.
    copy(&[contents(source.path())], to.path(), |_| {}).complete();
    compare(source.path(), to.path());
}

/// In an append-only directory nothing can be renamed or removed: nothing is begun in it, and nothing is left.
#[test]
fn append_only_directories() {
    let scratch = Scratch::new();
    let Some(base) = scratch.file_system("ext4", "rw") else {
        return;
    };
    let (source, to) = (scratch.tree("source"), Tree::new(base.join("to")));
    source
        .file("d/new", "content")
        .file("d/changed", "newer")
        .symlink("d/link", "new")
        .file("d/sub/f", "x")
        .file("e/first", "x")
        .link("d/linked", "e/first");
    to.file("d/changed", "old").file("d/extra", "x").dir("log");
    must("chattr", &[&"+a", &to.at("d"), &to.at("log")]);
    let before = listing(&to.at("d"));
    let expected = [
        "conflict create - d/changed",
        "conflict create - d/new",
        "conflict mkdir - d/sub",
        "conflict symlink - d/link",
    ];
    for dry_run in [true, false, false] {
        let copied = copy(&[contents(source.path())], to.path(), |o| {
            (o.jobs, o.dry_run, o.remove_extra) = (1, dry_run, true);
        })
        .incomplete();
        let failures = copied.failures(to.path());
        for line in expected {
            assert!(failures.contains(&line.to_owned()), "{line}: {failures:?}");
        }
        let told = |f: &&bulkhaul_engine::error::Failure| f.message.contains("append-only (chattr +a)");
        assert_eq!(copied.report.failures.iter().filter(told).count(), failures.len());
        assert_eq!(listing(&to.at("d")), before, "{failures:?}");
        assert!(copied.report.totals.copied_bytes <= 1, "only e/first is written");
    }
    // A destination that would be made in one.
    let refused = crate::rig::attempt(&[contents(source.path())], to.at("log/new"), |_| {}).unwrap_err();
    assert!(refused.to_string().contains("append-only"), "{refused}");
    assert!(to.at("log").read_dir().unwrap().next().is_none());
    must("chattr", &[&"-a", &to.at("d"), &to.at("log")]);
    assert!(!has_staging(to.path()));
    copy(&[contents(source.path())], to.path(), |_| {}).complete();
}

#[test]
fn a_read_only_file_system() {
    let scratch = Scratch::new();
    let Some(base) = scratch.file_system("ext4", "rw") else {
        return;
    };
    let (source, to) = (scratch.tree("source"), Tree::new(base.join("to")));
    for tree in [&source, &to] {
        tree.file("same", "x").file("d/same", "x").file("changed", "old");
        for name in ["same", "d/same", "changed", "d", ""] {
            tree.time(name, 1_000_000_000, 1);
        }
    }
    source
        .file("changed", "new!")
        .file("new", "x")
        .file("d/new", "x")
        .dir("e")
        .time("d", 1_000_000_000, 1);
    source.time("", 1_000_000_000, 1);
    let before = listing(to.path());
    must("mount", &[&"-o", &"remount,ro", &base]);
    let copied = copy(&[contents(source.path())], to.path(), |_| {}).incomplete();
    assert_eq!(
        copied.failures(to.path()),
        [
            "read-only create EROFS changed",
            "read-only create EROFS d/new",
            "read-only create EROFS new",
            "read-only mkdir EROFS e",
        ]
    );
    assert_eq!(copied.counts(), "skipped 4, failed 4 (unchanged 4)");
    assert_eq!(listing(to.path()), before);
    let refused = attempt(&[contents(source.path())], base.join("absent"), |_| {});
    assert!(matches!(refused, Err(Refusal::NoDestination(_))), "{refused:?}");
}

#[test]
fn a_quota_that_is_used_up() {
    if !has("btrfs") {
        println!("skip: there is no btrfs");
        return;
    }
    let scratch = Scratch::new();
    let Some(base) = scratch.file_system("btrfs", "rw") else {
        return;
    };
    let to = base.join("to");
    must("btrfs", &[&"quota", &"enable", &base]);
    must("btrfs", &[&"subvolume", &"create", &to]);
    must("btrfs", &[&"qgroup", &"limit", &"8M", &to]);
    let source = scratch.tree("source");
    source
        .file("a", content(1, 1000))
        .file("big", content(2, 20 << 20))
        .file("z", content(3, 1000));
    let copied = copy(&[contents(source.path())], &to, |o| o.jobs = 1).incomplete();
    let failures = copied.failures(&to);
    assert!(failures.contains(&"quota write EDQUOT big".to_owned()), "{failures:?}");
    assert_eq!(
        copied.report.failure_kinds.get("quota"),
        Some(&(failures.len() as u64)),
        "{failures:?}"
    );
    assert!(copied.report.failures[0].message.contains("quota of user 0"));
    assert!(!to.join("big").exists() && !has_staging(&to));
}

#[test]
fn names_that_are_gone() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source.file("a", "x").file("d/b", "y");
    fs::write(scratch.at("list"), "a\ngone\nd/gone-too\nd/b\nno/such/path\n").unwrap();
    let to = scratch.tree("to");
    to.file("gone", "old");
    let copied = copy(&[contents(source.path())], to.path(), |o| {
        o.files_from = Some(FilesFrom {
            path: scratch.at("list").into_os_string().into_encoded_bytes(),
            nul: false,
            contents: false,
        });
    })
    .incomplete();
    assert_eq!(
        copied.failures(source.path()),
        [
            "missing stat ENOENT d/gone-too",
            "missing stat ENOENT gone",
            "missing stat ENOENT no"
        ]
    );
    assert_eq!(copied.report.totals.outcome_of(Outcome::Failed), 3);
    assert_eq!(to.names(), ["a", "d", "d/b", "gone"]);
    assert_eq!(to.read("gone"), b"old");
}

/// A read that fails in the middle of nowhere: the first page of a process can't be read.
#[test]
fn a_read_error() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source.file("a", "x");
    let to = scratch.tree("to");
    to.file("mem", "old");
    let copied = copy(&[named("/proc/self/mem"), named(source.at("a"))], to.path(), |_| {}).incomplete();
    assert_eq!(copied.failures(Path::new("/proc/self")), ["io read EIO mem"]);
    assert_eq!((to.read("mem"), to.read("a")), (b"old".to_vec(), b"x".to_vec()));
    assert_eq!(to.names(), ["a", "mem"]);
}

/// A file system without attributes: the content is there for everybody; root, who could have had them, is not done.
#[test]
fn attributes_that_the_destination_does_not_take() {
    fn prepare(scratch: &Scratch) -> bool {
        let to = scratch.at("to");
        fs::create_dir(&to).unwrap();
        let mounted = crate::rig::command("mount", &[&"-t", &"ramfs", &"none", &to])
            .status
            .success();
        let source = scratch.tree("source");
        source
            .file("plain", "x")
            .file("xattr", "x")
            .xattr("xattr", "user.a", b"1")
            .file("acl", "x");
        must("setfacl", &[&"-m", &"u:1001:rwx", &source.at("acl")]);
        must("chown", &[&"-R", &"65534:65534", &scratch.at("source"), &to]);
        mounted
    }
    if crate::rig::child_scratch().is_none() && root() {
        let scratch = Scratch::new();
        if !prepare(&scratch) {
            println!("skip: no ramfs can be mounted");
            return;
        }
        let to = scratch.at("to");
        let copied = copy(&[contents(scratch.at("source"))], &to, |_| {}).incomplete();
        assert_eq!(copied.failures(&to), Vec::<String>::new());
        assert_eq!(copied.notes(), ["acl", "xattr:user.a"]);
        assert!(copied.report.notes.iter().all(|note| note.lost));
        // Nothing changes in a second run, and what is lost is told again.
        let again = copy(&[contents(scratch.at("source"))], &to, |_| {}).incomplete();
        assert_eq!(
            (again.counts(), again.notes()),
            ("skipped 4 (unchanged 4)".into(), copied.notes())
        );
        // Without its list, the group's bits would give the owning group what the mask allows alice.
        assert_eq!(fs::metadata(to.join("acl")).unwrap().mode() & 0o777, 0o644);
        copy(&[contents(scratch.at("source"))], &to, |o| {
            (o.acls, o.xattrs) = (false, false);
        })
        .complete();
        assert_eq!(Tree::new(to).names(), ["acl", "plain", "xattr"]);
    }
    apart(
        "failures::attributes_that_the_destination_does_not_take",
        NOBODY,
        |scratch| assert!(prepare(scratch)),
        |at| {
            let copied = copy(&[contents(at.join("source"))], at.join("to"), |_| {}).complete();
            assert_eq!(copied.notes(), ["acl", "xattr:user.a"]);
        },
        |scratch| assert_eq!(scratch.tree("to").names(), ["acl", "plain", "xattr"]),
    );
}

/// Sets a flag when it goes, also by a panic: the thread that watches it ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A file that is written while it is copied is whole: never the head of one and the tail of another.
#[test]
fn a_source_that_is_rewritten() {
    const PIECE: usize = 256 << 10;
    const PIECES: usize = 24;
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source.file("f", vec![1; PIECE]).file("still", "x");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut generation = 1_u8;
            while !stop.load(Ordering::Relaxed) {
                generation = generation % 200 + 1;
                let mut file = File::create(source.at("f")).unwrap();
                for _ in 0..PIECES {
                    file.write_all(&vec![generation; PIECE]).unwrap();
                }
            }
        });
        let stop = Stop(&stop);
        for turn in 0..20 {
            let to = scratch.tree(&format!("to-{turn}"));
            to.file("f", "old").file("still", "old");
            let copied = copy(&[contents(source.path())], to.path(), |_| {});
            assert_eq!(to.read("still"), b"x");
            assert!(!has_staging(to.path()));
            let content = to.read("f");
            if copied.report.totals.outcome_of(Outcome::Changed) == 0 {
                let odd = content.iter().position(|b| *b != content[0]);
                assert_eq!(odd, None, "a mix: {} bytes", content.len());
            } else {
                assert_eq!(copied.failures(source.path()), ["changed read - f"]);
                assert_eq!(content, b"old");
            }
        }
        drop(stop);
    });
}

/// A file that never stays the same is reported, and what was there stays.
#[test]
fn a_source_that_grows_all_the_time() {
    const TEST: &str = "failures::a_source_that_grows_all_the_time";
    if let Some(words) = order() {
        let base = Path::new(&words[0]);
        // Whenever it is looked at.
        failpoint::arm(Some(Plan {
            call: Some(Call::StatFd),
            nth: 0,
            count: usize::MAX,
            effect: Effect::Stop,
        }));
        let copied = copy(&[contents(base.join("source"))], base.join("to"), |o| o.jobs = 1);
        failpoint::disarm();
        let copied = copied.incomplete();
        return assert_eq!(copied.failures(&base.join("source")), ["changed read - f"]);
    }
    let scratch = Scratch::new();
    let (source, to) = (scratch.tree("source"), scratch.tree("to"));
    source.file("f", vec![1; 16 << 20]).file("still", "x");
    to.file("f", "old");
    let log = scratch.at("log");
    let words = [scratch.path().display().to_string()];
    let said = with_stops(again(TEST, &words, &log), &log, |_| {
        let mut file = File::options().append(true).open(source.at("f")).unwrap();
        file.write_all(&[1]).unwrap();
    });
    assert!(said.contains("1 passed"), "{said}");
    assert_eq!((to.read("f"), to.read("still")), (b"old".to_vec(), b"x".to_vec()));
    assert_eq!(to.names(), ["f", "still"]);
}

/// A name in the place of a directory that the run meets on its way: only what lies there fails.
#[test]
fn several_destinations_one_in_the_way() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source.file("d/f", "x").file("g", "y");
    let (one, two) = (scratch.tree("one"), scratch.tree("two"));
    one.file("d", "in the way");
    let mut options = crate::rig::options(&[contents(source.path())], one.path());
    options
        .destinations
        .push(bulkhaul_engine::copy::options::DestinationArgument {
            path: two.path().as_os_str().as_encoded_bytes().to_vec(),
            follow: true,
        });
    let job = bulkhaul_engine::copy::job(options).unwrap();
    let copied = crate::rig::run(&job).unwrap().incomplete();
    assert_eq!(copied.failures(one.path()), ["conflict mkdir - d"]);
    assert_eq!(
        (one.read("d"), two.read("d/f")),
        (b"in the way".to_vec(), b"x".to_vec())
    );
}

/// A disk that ends early: the image of a mounted file system is cut short. What lies behind the end can't be read.
#[test]
fn a_disk_that_ends_early() {
    let scratch = Scratch::new();
    let Some(disk) = scratch.file_system("ext4", "") else {
        return;
    };
    let source = Tree::new(disk.join("source"));
    source
        .file("a", content(1, 1000))
        .file("big", content(2, 160 << 20))
        .file("d/z", content(3, 1000));
    must("sync", &[&"-f", &disk]);
    let image = format!("{}.image", disk.display());
    File::options()
        .write(true)
        .open(image)
        .unwrap()
        .set_len(100 << 20)
        .unwrap();
    let big = File::open(source.at("big")).unwrap();
    sys::drop_cache(big.as_fd(), 0, 0).unwrap();
    // The control: nobody can read it to its end.
    let error = fs::read(source.at("big")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()));

    let to = scratch.tree("to");
    to.file("big", "old");
    let copied = copy(&[contents(source.path())], to.path(), |_| {}).incomplete();
    assert_eq!(copied.failures(source.path()), ["io read EIO big"]);
    assert_eq!(to.read("big"), b"old");
    assert_eq!((to.read("a"), to.read("d/z")), (content(1, 1000), content(3, 1000)));
    assert!(!has_staging(to.path()));
}
