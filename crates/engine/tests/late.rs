//! A file became a directory, or the reverse, in a mirror: what is in the way goes with what is extra, under the same
//! guards, and the entry comes after it.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use bulkhaul_engine::copy::options::{CopyOptions, DestinationArgument, Directories, SourceArgument};
use bulkhaul_engine::entry::{Outcome, Reason};
use bulkhaul_engine::event::Event;
use bulkhaul_engine::job::Job;
use bulkhaul_engine::sweep::limit::MaxDelete;
use bulkhaul_engine::{FilterStyle, Kind, copy};
use bulkhaul_sys::Errno;
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};

use crate::rig::fault::{again, finish, order};
use crate::rig::{
    Copied, FEW_DESCRIPTORS, NOBODY, Scratch, Tree, alone, apart, attempt, compare, content, contents, copy,
    has_staging, named, options, run, same_path, watch,
};

/// A mirror: a copy that removes what is extra.
fn mirror(sources: &[SourceArgument], to: &Path, change: impl FnOnce(&mut CopyOptions)) -> Copied {
    copy(sources, to, |o| {
        o.remove_extra = true;
        change(o);
    })
}

fn withheld(copied: &Copied) -> Vec<&str> {
    copied.report.withheld.iter().map(|w| w.kind).collect()
}

fn also(options: &mut CopyOptions, to: &Tree) {
    options.destinations.push(DestinationArgument {
        path: to.path().as_os_str().as_bytes().to_vec(),
        follow: true,
    });
}

/// Entries of each kind with something of another kind in their way, in the root and below it: 10 of them, in the place of
/// 21 entries.
fn pair(scratch: &Scratch) -> (Tree, Tree) {
    let (source, to) = (scratch.tree("s"), scratch.tree("d"));
    for at in ["", "sub/"] {
        let name = |name: &str| format!("{at}{name}");
        source
            .file(name("file"), content(1, 5000))
            .link(name("link"), name("file"))
            .symlink(name("symlink"), "file")
            .special(name("fifo"), Kind::Fifo, 0)
            .file(name("dir/in/f"), "1");
        to.file(name("file/deep/f"), "x").symlink(name("file/up"), "..");
        to.dir(name("link")).file(name("symlink/f"), "x").dir(name("fifo"));
        to.file(name("dir"), "x");
    }
    // Where the directory is to go, something leads elsewhere.
    source.file("sub/led/f", "1");
    to.symlink("sub/led", "../file").time("sub", 1, 1);
    (source, to)
}

const BLOCKED: u64 = 11;
const IN_THE_WAY: u64 = 19;

#[test]
fn what_became_another_kind_is_replaced() {
    for jobs in [1, 3] {
        let scratch = Scratch::new();
        let (source, to) = pair(&scratch);
        let plain = copy(&[contents(source.path())], to.path(), |o| o.jobs = jobs).incomplete();
        assert_eq!(plain.report.totals.outcome_of(Outcome::Conflict), BLOCKED, "{plain:?}");
        let copied = mirror(&[contents(source.path())], to.path(), |o| o.jobs = jobs).complete();
        compare(source.path(), to.path());
        assert_eq!(copied.report.totals.extras, IN_THE_WAY);
        assert_eq!(copied.report.totals.outcome_of(Outcome::Removed), IN_THE_WAY);
        let told = copied
            .entries
            .iter()
            .filter(|e| e.path == b"sub/dir/in/f" || e.path == b"sub/dir");
        let told: Vec<_> = told.map(|e| (e.outcome, e.kind)).collect();
        let expected = [
            (Outcome::Removed, Kind::File),
            (Outcome::Copied, Kind::File),
            (Outcome::Made, Kind::Directory),
        ];
        assert_eq!(told, expected);
        let again = mirror(&[contents(source.path())], to.path(), |o| o.jobs = jobs).complete();
        assert_eq!(again.counts(), "skipped 18 (unchanged 18)");
        assert!(!has_staging(scratch.path()));
    }
}

#[test]
fn a_dry_run_tells_both() {
    let scratch = Scratch::new();
    let (source, to) = pair(&scratch);
    // One of them has to stay.
    source.file("kept", "1");
    to.file("kept/a.log", "x").file("kept/b", "x");
    let told = |copied: &Copied| {
        let told = copied.entries.iter().map(|e| (e.path.clone(), e.outcome as u8));
        let mut told: Vec<_> = told.collect();
        told.sort();
        (told, copied.counts(), copied.failures(to.path()))
    };
    let excluding = |dry_run: bool| {
        mirror(&[contents(source.path())], to.path(), |o| {
            // Of two names of a file, the one that is copied is always the same.
            (o.dry_run, o.jobs) = (dry_run, 1);
            o.filter = Some((FilterStyle::Rsync, vec![b"*.log".to_vec()]));
        })
        .incomplete()
    };
    let before = to.names();
    let dry = excluding(true);
    assert_eq!(to.names(), before);
    let real = excluding(false);
    assert_eq!(told(&dry), told(&real));
    assert_eq!(real.failures(to.path()), ["conflict create - kept"]);
    assert!(to.at("kept/a.log").exists() && !to.at("kept/b").exists());
}

/// What keeps everything extra keeps what is in the way, and then it is in conflict as ever.
#[test]
fn what_keeps_extra_entries_keeps_these() {
    type Spoil = fn(&Tree, &mut CopyOptions);
    let cases: [(&str, &str, Spoil); 5] = [
        ("a missing source", "missing-source", |s, o| {
            o.sources.push(named(s.path().with_file_name("none")));
        }),
        ("an empty source", "empty-source", |s, o| {
            let empty = s.path().with_file_name("nothing");
            fs::create_dir(&empty).unwrap();
            o.sources.push(contents(empty));
        }),
        ("too many", "max-delete", |_, o| {
            o.max_delete = Some(MaxDelete::Entries(IN_THE_WAY - 1));
        }),
        // 19 of 20.
        ("too great a part", "max-delete", |_, o| {
            o.max_delete = Some(MaxDelete::Percent(94));
        }),
        ("nobody to ask", "declined", |_, o| o.confirm = true),
    ];
    for (what, kind, spoil) in cases {
        let scratch = Scratch::new();
        let (source, to) = pair(&scratch);
        let before = to.names();
        let mut options = options(&[contents(source.path())], to.path());
        options.remove_extra = true;
        spoil(&source, &mut options);
        let job = copy::job(options).unwrap();
        let report = if kind == "declined" {
            job.run().unwrap()
        } else {
            run(&job).unwrap().report
        };
        let kinds: Vec<_> = report.withheld.iter().map(|w| w.kind).collect();
        assert_eq!(kinds, [kind], "{what}");
        assert!(report.accounted && !report.is_complete(), "{what}");
        assert_eq!(report.totals.outcome_of(Outcome::Conflict), BLOCKED, "{what}");
        assert_eq!(to.names(), before, "{what}");
        // Directories that waited are closed all the same.
        let time = |tree: &Tree| fs::metadata(tree.at("sub")).unwrap().modified().unwrap();
        assert_eq!(time(&source), time(&to), "{what}");
    }
    for limit in [MaxDelete::Entries(IN_THE_WAY), MaxDelete::Percent(95)] {
        let scratch = Scratch::new();
        let (source, to) = pair(&scratch);
        mirror(&[contents(source.path())], to.path(), |o| o.max_delete = Some(limit)).complete();
        compare(source.path(), to.path());
    }
}

/// A source that can't be read keeps them, and a listing that fails, of what is in the way too.
#[test]
fn failures_keep_them() {
    const TEST: &str = "late::failures_keep_them";
    if let Some(words) = order() {
        let (source, to) = (Path::new(&words[0]).join("s"), Path::new(&words[0]).join("d"));
        failpoint::arm(Some(Plan {
            call: Some(Call::ReadDirectory),
            nth: words[1].parse().unwrap(),
            count: 1,
            effect: Effect::Errno(Errno::IO),
        }));
        let mut options = options(&[contents(&source)], &to);
        (options.remove_extra, options.jobs, options.confirm) = (true, 1, true);
        let job = copy::job(options).unwrap();
        let mut asked = false;
        let copied = watch(&job, |event| {
            if matches!(event, Event::Question(_)) {
                asked = true;
                job.answer(false);
            }
        })
        .unwrap();
        failpoint::disarm();
        if asked {
            return crate::rig::fault::say("over");
        }
        assert_eq!(copied.report.totals.outcome_of(Outcome::Removed), 0);
        assert!(
            matches!(withheld(&copied)[..], ["failed" | "source-gone"]),
            "{:?}",
            copied.report.withheld
        );
        return;
    }
    let mut listings = 0;
    for nth in 0.. {
        let scratch = Scratch::new();
        let (_, to) = pair(&scratch);
        let before = to.names();
        let log = scratch.at("log");
        let words = [scratch.path().display().to_string(), nth.to_string()];
        let (code, text) = finish(again(TEST, &words, &log), &log);
        assert_eq!(code, Some(0), "{nth}: {text}");
        assert_eq!(to.names(), before, "{nth}");
        if text.contains("over") {
            break;
        }
        listings = nth + 1;
    }
    assert!(listings > 12, "{listings}");
}

#[test]
fn what_is_protected_stays() {
    let scratch = Scratch::new();
    let (source, to, elsewhere) = (scratch.tree("s"), scratch.tree("d"), scratch.tree("elsewhere"));
    for name in ["mounted", "source", "excluded", "within"] {
        source.file(name, "1");
    }
    to.dir("mounted/point")
        .file("excluded/f", "x")
        .file("within/a.log", "x");
    to.file("source/inner/f", "x");
    elsewhere.file("precious", "x");
    if !Scratch::bind(elsewhere.path(), &to.at("mounted/point")) {
        return;
    }
    let sources = [contents(source.path()), named(to.at("source/inner"))];
    let copied = mirror(&sources, to.path(), |o| {
        let rules = vec![b"*.log".to_vec(), b"excluded/".to_vec()];
        o.filter = Some((FilterStyle::Rsync, rules));
    })
    .incomplete();
    let conflicts = ["excluded", "mounted", "source", "within"].map(|name| format!("conflict create - {name}"));
    assert_eq!(copied.failures(to.path()), conflicts);
    assert_eq!(elsewhere.names(), ["precious"]);
    assert_eq!(to.read("source/inner/f"), b"x");
    assert_eq!(to.read("excluded/f"), b"x");
    assert_eq!(to.names().iter().filter(|name| name.starts_with("within")).count(), 2);
}

/// An argument stands for itself: its siblings are nobody's business, what has its name is.
#[test]
fn an_argument_is_replaced_too() {
    let scratch = Scratch::new();
    let (source, to) = (scratch.tree("s"), scratch.tree("d"));
    source.file("f", "1").file("dir/in", "2");
    to.file("f/x", "x").file("dir", "x").file("sibling/x", "x");
    let arguments = [named(source.at("f")), named(source.at("dir"))];
    mirror(&arguments, to.path(), |o| o.max_delete = Some(MaxDelete::Entries(2))).incomplete();
    mirror(&arguments, to.path(), |o| o.max_delete = Some(MaxDelete::Entries(3))).complete();
    assert_eq!(to.names(), ["dir", "dir/in", "f", "sibling", "sibling/x"]);
}

#[test]
fn each_destination_has_its_own() {
    for dry_run in [true, false] {
        let scratch = Scratch::new();
        let (source, to, other) = (scratch.tree("s"), scratch.tree("d"), scratch.tree("e"));
        source.file("dir/a", "1").file("f", "2").symlink("led/link", "../f");
        source.file("both/deep/a", "3").file("both/file", "4");
        to.file("dir", "x").file("f/x", "x").dir("led");
        // Only when the way is clear in the first one, the second is looked at: it has an extra entry, and another in the
        // way, of something that waits again.
        other.file("dir/extra", "x").file("led", "x");
        other.file("both/deep", "x").file("both/file/x", "x");
        to.file("both", "x");
        let before = (to.names(), other.names());
        let copied = mirror(&[contents(source.path())], to.path(), |o| {
            also(o, &other);
            o.dry_run = dry_run;
            o.max_delete = Some(MaxDelete::Entries(9));
        })
        .complete();
        assert_eq!(copied.report.totals.outcome_of(Outcome::Removed), 9);
        if dry_run {
            assert_eq!((to.names(), other.names()), before);
            continue;
        }
        let name = |tree: &Tree, name: &str| tree.names().contains(&name.to_owned());
        assert!(!name(&other, "dir/extra") && name(&other, "dir") && name(&to, "both/deep"));
        assert!(name(&other, "both/deep") && (name(&to, "f") || name(&other, "f")));
        for file in ["dir/a", "f", "led/link", "both/deep/a", "both/file"] {
            assert!(name(&to, file) != name(&other, file), "{file}");
        }
        mirror(&[contents(source.path())], to.path(), |o| also(o, &other)).complete();
    }
    // The limit is one for all of it: what has gone counts.
    let scratch = Scratch::new();
    let (source, to, other) = (scratch.tree("s"), scratch.tree("d"), scratch.tree("e"));
    source.file("dir/a", "1");
    to.file("dir", "x");
    other.file("dir/extra/x", "x");
    let copied = mirror(&[contents(source.path())], to.path(), |o| {
        also(o, &other);
        o.max_delete = Some(MaxDelete::Entries(2));
    })
    .incomplete();
    assert_eq!(withheld(&copied), ["max-delete"]);
    assert!(
        copied.report.withheld[0]
            .message
            .ends_with("so no more extra was removed")
    );
    assert_eq!(other.names(), ["dir", "dir/extra", "dir/extra/x"]);
    assert!(to.path().join("dir").is_dir());
}

/// Nothing goes where nothing can come.
#[test]
fn a_way_is_not_cleared_where_nothing_can_be_made() {
    alone("late::a_way_is_not_cleared_where_nothing_can_be_made", || {
        let scratch = Scratch::new();
        // Five inodes, all in use.
        let Some(to) = scratch.file_system("tmpfs", "nr_inodes=5").map(Tree::new) else {
            return;
        };
        to.file("file/f", "x").file("extra", "x").file("other", "x");
        let source = scratch.tree("s");
        source.file("file", "1");
        let copied = mirror(&[contents(source.path())], to.path(), |_| {}).incomplete();
        assert_eq!(to.names(), ["extra", "file", "file/f", "other"]);
        assert_eq!(
            copied.failures(to.path()),
            ["conflict create - file", "no-space create ENOSPC "]
        );
        assert_eq!(withheld(&copied), ["failed"]);
        // A run needs room for one file of its own.
        for name in ["extra", "other"] {
            fs::remove_file(to.at(name)).unwrap();
        }
        mirror(&[contents(source.path())], to.path(), |_| {}).complete();
        assert_eq!(to.names(), ["file"]);
    });
}

/// What comes late is measured with the rest, before anything goes.
#[test]
fn what_comes_late_needs_room() {
    let scratch = Scratch::new();
    let Some(to) = scratch.file_system("tmpfs", "size=4m").map(Tree::new) else {
        return;
    };
    to.file("file/f", "x");
    let source = scratch.tree("s");
    source.file("file", content(1, 5 << 20));
    let refused = attempt(&[contents(source.path())], to.path(), |o| {
        (o.remove_extra, o.require_space) = (true, true);
    });
    assert_eq!(refused.unwrap_err().code(), "NO_SPACE");
    assert_eq!(to.names(), ["file", "file/f"]);
}

/// A destination that takes two names for one: what is in the way of one may be what came for the other.
#[test]
fn a_destination_that_folds_names_keeps_all() {
    let scratch = Scratch::new();
    let Some(to) = scratch.ntfs("ignore_case").map(|point| Tree::new(point.join("d"))) else {
        return;
    };
    let source = scratch.tree("s");
    // One that is told by turning its letters, and one that is not.
    for names in [["data", "DATA"], ["Ärger", "ärger"]] {
        let [file, directory] = names;
        source.file(file, "file").file(format!("{directory}/f"), "1");
        for to_directory in [false, true] {
            if to_directory {
                to.file(format!("{directory}/old"), "x");
            }
            let copied = mirror(&[contents(source.path())], to.path(), |_| {}).incomplete();
            // What came first is told from what was there.
            let expected: &[&str] = if to_directory { &["spelling"] } else { &[] };
            assert_eq!(withheld(&copied), expected, "{names:?}");
            assert_eq!(copied.report.failure_kinds["conflict"], 1, "{names:?}");
            let old = to.names().into_iter().filter(|name| name.ends_with("/old")).count();
            assert_eq!(old, usize::from(to_directory), "{names:?}");
            if !to_directory {
                assert_eq!(to.read(file), b"file");
                fs::remove_file(to.at(file)).unwrap();
            }
        }
        fs::remove_dir_all(to.at(directory)).unwrap();
        fs::remove_file(source.at(file)).unwrap();
        fs::remove_dir_all(source.at(directory)).unwrap();
    }
}

/// Stopped while the question is open: nothing has gone, nothing is lost from the books, and the next run does it.
#[test]
fn stopped_before_the_sweep() {
    let scratch = Scratch::new();
    let (source, to) = pair(&scratch);
    let before = to.names();
    let mut options = options(&[contents(source.path())], to.path());
    (options.remove_extra, options.confirm) = (true, true);
    let job = copy::job(options).unwrap();
    let copied = watch(&job, |event| {
        if matches!(event, Event::Question(_)) {
            job.drain();
        }
    })
    .unwrap();
    assert!(copied.report.interrupted && copied.report.accounted);
    assert_eq!(withheld(&copied), ["declined"]);
    assert_eq!(to.names(), before);
    mirror(&[contents(source.path())], to.path(), |_| {}).complete();
    compare(source.path(), to.path());
}

/// The process ends before each call in turn from the first removal on: the next run makes a mirror of it.
#[test]
fn killed_on_the_way() {
    const TEST: &str = "late::killed_on_the_way";
    if let Some(words) = order() {
        let (source, to) = (Path::new(&words[0]).join("s"), Path::new(&words[0]).join("d"));
        failpoint::arm(Some(Plan {
            call: None,
            nth: words[1].parse().unwrap(),
            count: 1,
            effect: Effect::Exit,
        }));
        let mut options = options(&[contents(&source)], &to);
        (options.remove_extra, options.jobs) = (true, 1);
        copy::job(options).unwrap().run().unwrap();
        let calls = failpoint::disarm();
        let first = calls
            .iter()
            .position(|c| matches!(c, Call::Unlink | Call::RemoveDirectory));
        return crate::rig::fault::say(&format!("first {}", first.unwrap()));
    }
    let run = |nth: usize| {
        let scratch = Scratch::new();
        let (source, to) = (scratch.tree("s"), scratch.tree("d"));
        source
            .file("file", content(1, 5000))
            .file("dir/in/f", "1")
            .file("sub/file", "2");
        to.file("file/deep/f", "x").file("dir", "x").file("sub/file/x", "x");
        let log = scratch.at("log");
        let words = [scratch.path().display().to_string(), nth.to_string()];
        let (code, text) = finish(again(TEST, &words, &log), &log);
        // What is no longer whole has a whole successor, under its name or beside it.
        let read = |name: &str| fs::read(to.path().join(name)).ok();
        let staged = |file: bool, content: &[u8]| {
            let names = to.names().into_iter().filter(|name| name.contains(".bh-"));
            let mut contents = names.filter(|name| to.at(name).is_file()).map(|name| to.read(name));
            contents.any(|there| there == content) || !file && to.names().iter().any(|name| name.starts_with(".bh-"))
        };
        let whole = content(1, 5000);
        let file = read("file/deep/f").is_some() || read("file").is_some_and(|it| it == whole) || staged(true, &whole);
        let dir = read("dir").is_some() || to.at("dir").is_dir() || staged(false, b"");
        let sub = read("sub/file/x").is_some() || read("sub/file").is_some_and(|it| it == b"2") || staged(true, b"2");
        assert!(file && dir && sub, "{nth}: {:?}", to.names());
        mirror(&[contents(source.path())], to.path(), |_| {}).complete();
        compare(source.path(), to.path());
        assert!(!has_staging(scratch.path()), "{nth}");
        (code, text)
    };
    let (code, text) = run(usize::MAX);
    assert_eq!(code, Some(0), "{text}");
    let first = text
        .split("first ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    let first: usize = first.unwrap().parse().unwrap();
    let ends = (first..).step_by(3).take_while(|nth| run(*nth).0 == Some(99)).count();
    assert!(ends > 20, "{ends}");
}

/// Something important has the name of an entry of another kind.
fn important(to: &Tree) {
    to.file("file/only", "important").file("dir", "important");
}

/// It is there still, and nothing beside it but what came.
fn is_untouched(to: &Tree) {
    assert_eq!(to.read("file/only"), b"important");
    assert_eq!(to.read("dir"), b"important");
    assert_eq!(to.names(), ["dir", "file", "file/only"]);
    assert!(!has_staging(to.path()));
}

/// Whoever cannot come costs nothing of what is there: what can't be read.
#[test]
fn what_cannot_be_read_clears_nothing() {
    apart(
        "late::what_cannot_be_read_clears_nothing",
        NOBODY,
        |scratch| {
            let to = scratch.tree("d");
            scratch.tree("s").file("file", "new").mode("file", 0);
            scratch.tree("t").file("dir/f", "new").mode("dir", 0);
            important(&to);
            for name in ["s", "t", "d", "d/dir", "d/file", "d/file/only"] {
                std::os::unix::fs::lchown(scratch.at(name), Some(65534), Some(65534)).unwrap();
            }
        },
        |at| {
            for (source, name) in [("s", "file"), ("t", "dir")] {
                for moves in [false, true] {
                    let source = at.join(source);
                    let arguments = [contents(&source)];
                    let copied = mirror(&arguments, &at.join("d"), |o| {
                        // The other name is none of its business.
                        o.filter = Some((FilterStyle::Rsync, vec![format!("+ {name}").into(), b"- /*".to_vec()]));
                        o.remove_sources = moves;
                    })
                    .incomplete();
                    let denied = [format!("unreadable open EACCES {name}")];
                    assert_eq!(copied.failures(&source), denied, "{copied:?}");
                    assert_eq!(copied.report.totals.outcome_of(Outcome::Removed), 0);
                }
            }
        },
        |scratch| is_untouched(&Tree::new(scratch.at("d"))),
    );
}

/// What has no room, and a directory that nothing can be made in; beside them others come.
#[test]
fn what_has_no_room_clears_nothing() {
    apart(
        "late::what_has_no_room_clears_nothing",
        &["env"],
        |scratch| {
            let source = scratch.tree("s");
            source
                .file("file", content(1, 6 << 20))
                .file("dir/f", content(2, 6 << 20));
            if let Some(small) = scratch.file_system("tmpfs", "size=4m") {
                important(&Tree::new(small.clone()));
                std::os::unix::fs::symlink(small, scratch.at("d")).unwrap();
            }
        },
        |at| {
            let to = at.join("d");
            if to.exists() {
                let copied = mirror(&[contents(at.join("s"))], &to, |o| o.jobs = 1).incomplete();
                let failures = [
                    "conflict mkdir - dir",
                    "no-space write ENOSPC dir/f",
                    "no-space write ENOSPC file",
                ];
                assert_eq!(copied.failures(&to), failures, "{copied:?}");
                assert_eq!(copied.report.totals.outcome_of(Outcome::Removed), 0);
            }
        },
        |scratch| {
            if scratch.at("d").exists() {
                is_untouched(&Tree::new(scratch.at("d")));
            }
        },
    );
}

/// A source that ends early, also when it is to be proved, and in several destinations.
#[test]
fn what_ends_early_clears_nothing() {
    for (verify, two) in [(false, false), (true, false), (false, true)] {
        let scratch = Scratch::new();
        let (source, to, other) = (scratch.tree("s"), scratch.tree("d"), scratch.tree("e"));
        source.file("file", content(1, 50_000)).file("good", content(2, 5000));
        let Some(seen) = scratch.faulty(source.path(), "short=7,only=file") else {
            return;
        };
        for each in [&to, &other] {
            each.file("file/only", "important").file("good/x", "x");
        }
        let mirror = || {
            mirror(&[contents(&seen)], to.path(), |o| {
                o.verify = verify;
                if two {
                    also(o, &other);
                }
            })
        };
        let copied = mirror().incomplete();
        assert_eq!(copied.failures(&seen), ["changed read - file"], "{copied:?}");
        // What has failed keeps nobody else from coming.
        assert_eq!(to.names(), ["file", "file/only", "good"], "{copied:?}");
        assert_eq!(to.read("file/only"), b"important");
        assert_eq!(to.read("good"), content(2, 5000));
        // Where it has come, it is in the way of nothing any more.
        let left: &[&str] = if two {
            &["file", "file/only"]
        } else {
            &["file", "file/only", "good", "good/x"]
        };
        assert_eq!(other.names(), left);
        assert!(!has_staging(scratch.path()));
    }
}

/// Who stops the run on the way of a file stops it before anything has gone.
#[test]
fn who_is_stopped_clears_nothing() {
    // At once, what is worth going on with stays: where it was not written down yet, nothing does.
    for (stop, least) in [(Job::drain as fn(&Job), 1), (Job::abort, 0)] {
        let scratch = Scratch::new();
        let (source, to) = (scratch.tree("s"), scratch.tree("d"));
        source.file("file", content(1, 96 << 20));
        to.file("file/only", "important");
        let mut options = options(&[contents(source.path())], to.path());
        options.remove_extra = true;
        let job = copy::job(options).unwrap();
        let stopped = std::thread::scope(|scope| {
            scope.spawn(|| {
                while job.snapshot().totals.copied_bytes == 0 {
                    std::thread::yield_now();
                }
                stop(&job);
            });
            run(&job).unwrap()
        });
        // It may have been too late.
        if stopped.report.totals.outcome_of(Outcome::Copied) == 0 {
            let (unfinished, names): (Vec<_>, Vec<_>) = to.names().into_iter().partition(|name| name.contains(".bh-"));
            assert_eq!(names, ["file", "file/only"], "{stopped:?}");
            // It has no name, but it is there.
            assert!((least..=1).contains(&unfinished.len()), "{stopped:?}");
            assert_eq!(stopped.report.totals.unfinished, unfinished.len() as u64, "{stopped:?}");
            assert!(
                stopped.report.interrupted && stopped.report.failures.is_empty(),
                "{stopped:?}"
            );
        }
        mirror(&[contents(source.path())], to.path(), |_| {}).complete();
        compare(source.path(), to.path());
        assert!(!has_staging(scratch.path()));
    }
}

/// What comes late may be another name of what came before, or of another that comes late.
#[test]
fn links_come_late_too() {
    for jobs in [1, 3] {
        let scratch = Scratch::new();
        let (source, to) = (scratch.tree("s"), scratch.tree("d"));
        source
            .file("a", "1")
            .link("b", "a")
            .link("sub/c", "a")
            .file("d", "2")
            .link("e", "d");
        to.file("b/x", "x")
            .file("sub/c/x", "x")
            .file("d/x", "x")
            .file("e/x", "x");
        mirror(&[contents(source.path())], to.path(), |o| o.jobs = jobs).complete();
        compare(source.path(), to.path());
        assert!(same_path(&to.at("a"), &to.at("sub/c")) && same_path(&to.at("d"), &to.at("e")));
        assert!(!has_staging(scratch.path()));
    }
}

/// A move is told the same, and takes what came late.
#[test]
fn a_move_takes_them() {
    let scratch = Scratch::new();
    let (source, to) = pair(&scratch);
    let names = source.names();
    let copied = mirror(&[contents(source.path())], to.path(), |o| o.remove_sources = true).complete();
    assert_eq!(to.names(), names);
    assert!(!source.path().exists(), "{copied:?}");
}

#[test]
fn what_is_not_copied_clears_nothing() {
    let scratch = Scratch::new();
    let (source, to) = pair(&scratch);
    let copied = mirror(&[contents(source.path())], to.path(), |o| {
        o.directories = Directories::Only;
    })
    .complete();
    assert!(to.at("dir").is_dir() && to.at("sub/led").is_dir() && to.at("file/deep/f").exists());
    assert_eq!(copied.report.totals.reason_of(Reason::DirectoriesOnly), 11);
    // A link to a directory that is to be kept is not in the way.
    let (source, to) = (scratch.tree("a"), scratch.tree("b"));
    source.file("led/f", "1");
    to.symlink("led", "real/deep")
        .file("real/deep/extra", "x")
        .file("real/extra", "x");
    mirror(&[contents(source.path())], to.path(), |o| o.keep_dirlinks = true).complete();
    // Nor is what it leads to extra, for something was copied there.
    assert_eq!(to.names(), ["led", "real", "real/deep", "real/deep/f", "real/extra"]);
}

#[test]
fn many_with_few_descriptors() {
    const NUMBER: usize = 300;
    apart(
        "late::many_with_few_descriptors",
        FEW_DESCRIPTORS,
        |scratch| {
            let (source, to) = (scratch.tree("s"), scratch.tree("d"));
            for number in 0..NUMBER {
                source
                    .file(format!("{number}/file"), "1")
                    .file(format!("{number}/dir/f"), "1");
                source.file(format!("all-{number}"), "1");
                to.file(format!("{number}/file/x"), "x")
                    .file(format!("{number}/dir"), "x");
                to.file(format!("all-{number}/x"), "x");
            }
        },
        |scratch| {
            mirror(&[contents(scratch.join("s"))], &scratch.join("d"), |_| {}).complete();
        },
        |scratch| compare(&scratch.at("s"), &scratch.at("d")),
    );
}
