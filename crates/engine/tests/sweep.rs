//! Extra entries of the destination: what goes, what stays, and when nothing may go.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Mutex;

use bulkhaul_engine::copy::options::{CopyOptions, DestinationArgument, SourceArgument};
use bulkhaul_engine::entry::{Outcome, Reason};
use bulkhaul_engine::event::{Event, Victims};
use bulkhaul_engine::sweep::limit::MaxDelete;
use bulkhaul_engine::{FilterStyle, copy};
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};
use bulkhaul_sys::{Errno, Kind};

use crate::rig::fault::{again, finish, order, say};
use crate::rig::{
    Copied, FEW_DESCRIPTORS, NOBODY, Scratch, Tree, apart, attempt, command, compare, content, contents, copy, named,
    options, renamed, root, run, watch,
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

/// A source, and a destination that has one of each kind besides.
fn pair(scratch: &Scratch) -> (Tree, Tree) {
    let (source, to) = (scratch.tree("s"), scratch.tree("d"));
    source
        .file("a", "1")
        .file("sub/b", "2")
        .file("sub/deep/c", "3")
        .dir("empty");
    to.file("a", "old")
        .file("extra", "x")
        .symlink("dangling", "nowhere")
        .symlink("link", "a");
    to.special("fifo", Kind::Fifo, 0).file("sub/extra", "x");
    to.file("gone/f", "x")
        .file("gone/deeper/g", "x")
        .symlink("gone/up", "..")
        .dir("gone/empty");
    to.dir("sub/deep/also").time("sub/deep", 1, 1);
    (source, to)
}

#[test]
fn files_links_and_directories_go() {
    let scratch = Scratch::new();
    let (source, to) = pair(&scratch);
    let copied = mirror(&[contents(source.path())], to.path(), |_| {}).complete();
    compare(source.path(), to.path());
    assert_eq!(copied.report.totals.extras, 12);
    assert_eq!(copied.report.totals.outcome_of(Outcome::Removed), 12);
    let deep = copied.entry("gone/deeper/g");
    assert_eq!(
        deep.destination,
        to.path().join("gone/deeper/g").as_os_str().as_encoded_bytes()
    );
    // Nothing to do the second time, and directory times are the source's.
    let again = mirror(&[contents(source.path())], to.path(), |_| {}).complete();
    assert_eq!(again.counts(), "skipped 7 (unchanged 7)");
}

/// Before anything goes all of it is counted, also in the directories that go whole.
#[test]
fn how_far_it_is_shows_while_it_goes_on() {
    let scratch = Scratch::new();
    let (source, to) = pair(&scratch);
    let mut options = options(&[contents(source.path())], to.path());
    (options.remove_extra, options.jobs) = (true, 1);
    let job = copy::job(options).unwrap();
    assert!(job.snapshot().sweep.is_none());
    let seen = Mutex::new(Vec::new());
    watch(&job, |event| {
        if matches!(event, Event::Entry(entry) if entry.outcome == Outcome::Removed) {
            seen.lock().unwrap().extend(job.snapshot().sweep);
        }
    })
    .unwrap()
    .complete();
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.len(), 12);
    assert!(
        seen.iter()
            .all(|sweep| sweep.of == 12 && (1..=12).contains(&sweep.gone)),
        "{seen:?}"
    );
    assert_eq!(job.snapshot().sweep.map(|sweep| sweep.gone), Some(12));
}

#[test]
fn a_dry_run_tells_the_same_and_removes_nothing() {
    let scratch = Scratch::new();
    let (source, to) = pair(&scratch);
    let told = |copied: &Copied| {
        let mut paths: Vec<_> = copied
            .entries
            .iter()
            .map(|e| (e.path.clone(), e.outcome as u8))
            .collect();
        paths.sort();
        paths
    };
    let before = to.names();
    let dry = mirror(&[contents(source.path())], to.path(), |o| o.dry_run = true).complete();
    assert_eq!(to.names(), before);
    let real = mirror(&[contents(source.path())], to.path(), |_| {}).complete();
    assert_eq!(told(&dry), told(&real));
}

#[test]
fn only_below_what_was_mirrored() {
    let scratch = Scratch::new();
    let (source, to) = (scratch.tree("s"), scratch.tree("d"));
    source.file("f", "1").file("dir/in", "2");
    to.file("sibling", "x").file("dir/extra", "x").file("other/x", "x");
    // A file has no siblings to clear, and a directory only its own twin.
    mirror(&[named(source.at("f"))], to.path(), |_| {}).complete();
    assert_eq!(to.names(), ["dir", "dir/extra", "f", "other", "other/x", "sibling"]);
    mirror(&[named(source.at("dir"))], to.path(), |_| {}).complete();
    assert_eq!(to.names(), ["dir", "dir/in", "f", "other", "other/x", "sibling"]);
}

#[test]
fn sources_count_together() {
    let scratch = Scratch::new();
    let (one, two, to) = (scratch.tree("one"), scratch.tree("two"), scratch.tree("d"));
    one.file("a", "1").file("both/a", "1");
    two.file("b", "2").file("both/b", "2");
    to.file("extra", "x").file("both/extra", "x");
    mirror(&[contents(one.path()), contents(two.path())], to.path(), |_| {}).complete();
    assert_eq!(to.names(), ["a", "b", "both", "both/a", "both/b"]);
    // A directory's contents and another one by its name.
    let third = scratch.tree("third");
    third.file("both/c", "3");
    to.file("both/extra", "x");
    mirror(&[contents(one.path()), named(third.at("both"))], to.path(), |_| {}).complete();
    assert_eq!(to.names(), ["a", "both", "both/a", "both/c"]);
}

#[test]
fn several_destinations_are_swept_each() {
    let scratch = Scratch::new();
    let (source, to, other) = (scratch.tree("s"), scratch.tree("d"), scratch.tree("e"));
    source.file("a", "1").file("sub/b", "2");
    to.file("extra", "x").file("sub/extra", "x");
    other.file("sub/b", "2").file("extra", "x");
    mirror(&[contents(source.path())], to.path(), |o| {
        o.destinations.push(DestinationArgument {
            path: other.path().as_os_str().as_encoded_bytes().to_vec(),
            follow: true,
        });
    })
    .complete();
    assert_eq!(to.names(), ["a", "sub"]);
    assert_eq!(other.names(), ["sub", "sub/b"]);
}

#[test]
fn excluded_entries_stay_on_both_sides() {
    for style in [FilterStyle::Rsync, FilterStyle::Fnmatch] {
        let scratch = Scratch::new();
        let (source, to) = (scratch.tree("s"), scratch.tree("d"));
        source.file("keep.log", "new").file("a", "1");
        to.file("keep.log", "old").file("other.log", "x").file("extra", "x");
        to.file("gone/deep/kept.log", "x")
            .file("gone/deep/not", "x")
            .file("gone/not", "x");
        let copied = mirror(&[contents(source.path())], to.path(), |o| {
            o.filter = Some((style, vec![b"*.log".to_vec()]));
        })
        .complete();
        let left = ["a", "gone", "gone/deep", "gone/deep/kept.log", "keep.log", "other.log"];
        assert_eq!(to.names(), left, "{style:?}");
        assert_eq!(to.read("keep.log"), b"old");
        assert_eq!(copied.entry("gone").reason.unwrap().text(), "not-empty");
    }
}

#[test]
fn unfinished_entries_of_others_stay() {
    let scratch = Scratch::new();
    let (source, to) = (scratch.tree("s"), scratch.tree("d"));
    source.file("a", "1");
    let foreign = bulkhaul_formats::staging::name(1, b"x", 0);
    let foreign = String::from_utf8(foreign.as_bytes().to_vec()).unwrap();
    to.file(&foreign, "x")
        .file(format!("gone/{foreign}"), "x")
        .file("gone/f", "x");
    mirror(&[contents(source.path())], to.path(), |_| {}).complete();
    let mut left = vec![
        foreign.clone(),
        "a".to_owned(),
        "gone".to_owned(),
        format!("gone/{foreign}"),
    ];
    left.sort();
    assert_eq!(to.names(), left);
}

#[test]
fn mounts_stay() {
    let scratch = Scratch::new();
    let (source, to, elsewhere) = (scratch.tree("s"), scratch.tree("d"), scratch.tree("elsewhere"));
    source.file("a", "1");
    elsewhere.file("precious", "x");
    to.file("gone/f", "x").dir("gone/point").dir("point");
    // A bind mount of the same file system: only the mount tells.
    if !Scratch::bind(elsewhere.path(), &to.at("gone/point")) || !Scratch::bind(elsewhere.path(), &to.at("point")) {
        return;
    }
    mirror(&[contents(source.path())], to.path(), |_| {}).complete();
    assert_eq!(elsewhere.names(), ["precious"]);
    assert_eq!(
        to.names(),
        [
            "a",
            "gone",
            "gone/point",
            "gone/point/precious",
            "point",
            "point/precious"
        ]
    );
}

#[test]
fn what_holds_a_source_stays() {
    let scratch = Scratch::new();
    let to = scratch.tree("d");
    to.file("in/side/source/a", "1")
        .file("in/extra", "x")
        .file("extra", "x");
    mirror(&[contents(to.at("in/side/source"))], to.path(), |_| {}).complete();
    assert_eq!(
        to.names(),
        ["a", "in", "in/extra", "in/side", "in/side/source", "in/side/source/a"]
    );
    // The twin of a directory would be the source itself.
    to.file("in/side/source/in/side/source/f", "x");
    let copied = mirror(&[contents(to.at("in/side/source"))], to.path(), |_| {}).incomplete();
    assert_eq!(to.read("in/side/source/a"), b"1");
    assert_eq!(to.read("in/side/source/in/side/source/f"), b"x");
    assert_eq!(copied.report.failure_kinds["conflict"], 1);
}

/// What keeps every extra entry: how the sources and options are spoilt, and the reason.
#[test]
fn all_or_nothing() {
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
            o.max_delete = Some(MaxDelete::Entries(11));
        }),
        ("too great a part", "max-delete", |_, o| {
            o.max_delete = Some(MaxDelete::Percent(79));
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
        assert_eq!(
            report.withheld.iter().map(|w| w.kind).collect::<Vec<_>>(),
            [kind],
            "{what}"
        );
        assert!(!report.is_complete(), "{what}");
        for name in before {
            assert!(to.path().join(&name).symlink_metadata().is_ok(), "{what}: {name}");
        }
    }
    // Right at the limit it all goes: 12 of the 15 that were there.
    for limit in [MaxDelete::Entries(12), MaxDelete::Percent(80)] {
        let scratch = Scratch::new();
        let (source, to) = pair(&scratch);
        // The same parts, though nothing comes.
        for (limit, expected) in [(MaxDelete::Percent(79), &["max-delete"][..]), (limit, &[])] {
            let dry = mirror(&[contents(source.path())], to.path(), |o| {
                (o.max_delete, o.dry_run) = (Some(limit), true);
            });
            assert_eq!(withheld(&dry), expected, "{limit:?}");
        }
        mirror(&[contents(source.path())], to.path(), |o| o.max_delete = Some(limit)).complete();
        compare(source.path(), to.path());
    }
}

/// Where the destination does not tell upper from lower case, what looks extra may be what was just copied.
#[test]
fn a_second_spelling_keeps_all() {
    let scratch = Scratch::new();
    let (source, real) = (scratch.tree("s"), scratch.tree("real"));
    let Some(disk) = scratch.faulty(real.path(), "fold") else {
        return;
    };
    source.file("Name-1", "new");
    real.file("d/nAME-1", "old").file("d/1", "x");
    let to = disk.join("d");
    let copied = mirror(&[contents(source.path())], &to, |_| {});
    assert_eq!(withheld(&copied), ["spelling"]);
    assert_eq!(real.names(), ["d", "d/1", "d/nAME-1"]);
    assert_eq!(real.read("d/nAME-1"), b"new");
    fs::remove_file(real.at("d/nAME-1")).unwrap();
    mirror(&[contents(source.path())], &to, |_| {}).complete();
    assert_eq!(real.names(), ["d", "d/Name-1"]);
}

#[test]
fn nothing_extra_is_no_reason_to_complain() {
    let scratch = Scratch::new();
    let (source, to) = (scratch.tree("s"), scratch.tree("d"));
    let empty = mirror(&[contents(source.path())], to.path(), |_| {}).complete();
    assert!(empty.report.withheld.is_empty());
    source.file("a", "1");
    mirror(&[contents(source.path())], &scratch.at("new"), |o| {
        o.max_delete = Some(MaxDelete::Entries(0));
    })
    .complete();
}

#[test]
fn whoever_watches_is_asked() {
    for yes in [true, false] {
        let scratch = Scratch::new();
        let (source, to) = pair(&scratch);
        to.file("extra", "12345");
        let mut options = options(&[contents(source.path())], to.path());
        (options.remove_extra, options.confirm) = (true, true);
        let job = copy::job(options).unwrap();
        let mut asked: Vec<Victims> = Vec::new();
        let copied = watch(&job, |event| {
            if let Event::Question(victims) = event {
                asked.extend(victims.iter().cloned());
                job.answer(yes);
            }
        })
        .unwrap();
        assert_eq!(asked.len(), 1);
        assert_eq!(
            (asked[0].entries, asked[0].bytes, asked[0].first.len()),
            (12, 5 + 3, 10)
        );
        assert_eq!(to.path().join("extra").exists(), !yes);
        assert_eq!(withheld(&copied), if yes { vec![] } else { vec!["declined"] });
    }
}

/// A move with extra entries: one question, and a no keeps what is on both sides.
#[test]
fn one_question_for_both_sides() {
    for yes in [true, false] {
        let scratch = Scratch::new();
        let (source, to) = pair(&scratch);
        let before = source.names();
        let mut options = options(&[contents(source.path())], to.path());
        (options.remove_extra, options.remove_sources, options.confirm) = (true, true, true);
        let job = copy::job(options).unwrap();
        let mut asked: Vec<Vec<Victims>> = Vec::new();
        let copied = watch(&job, |event| {
            if let Event::Question(victims) = event {
                asked.push(victims.clone());
                job.answer(yes);
            }
        })
        .unwrap();
        let told: Vec<_> = asked
            .iter()
            .map(|victims| victims.iter().map(|v| (v.what, v.entries)).collect())
            .collect::<Vec<Vec<_>>>();
        // Directories count that have no outcome yet.
        assert_eq!(told, [[("extra", 12), ("sources", 7)]]);
        assert_eq!(asked[0][1].bytes, 3);
        assert_eq!(source.path().exists(), !yes);
        assert!(yes || source.names() == before);
        assert_eq!(to.at("gone/f").exists(), !yes);
        assert_eq!(copied.report.removed_sources, if yes { 7 } else { 0 });
        assert_eq!(
            withheld(&copied),
            if yes { vec![] } else { vec!["declined", "declined"] }
        );
    }
}

#[test]
fn a_wish_to_stop_is_a_no() {
    let scratch = Scratch::new();
    let (source, to) = pair(&scratch);
    let before = to.names().len();
    let mut options = options(&[contents(source.path())], to.path());
    (options.remove_extra, options.confirm) = (true, true);
    let job = copy::job(options).unwrap();
    let copied = watch(&job, |event| {
        if matches!(event, Event::Question(_)) {
            job.drain();
        }
    })
    .unwrap();
    assert!(copied.report.interrupted);
    assert!(to.names().len() >= before);
}

/// What happens to the source between its listing and the sweep: the question is the moment.
#[test]
fn the_source_goes_away_meanwhile() {
    type Spoil = fn(&Path);
    let cases: [(&str, Spoil); 3] = [
        ("renamed", |s| fs::rename(s, s.with_file_name("away")).unwrap()),
        ("another in its place", |s| {
            fs::rename(s, s.with_file_name("away")).unwrap();
            fs::create_dir(s).unwrap();
        }),
        ("emptied", |s| {
            fs::remove_dir_all(s).unwrap();
            fs::create_dir(s).unwrap();
        }),
    ];
    for (what, spoil) in cases {
        let scratch = Scratch::new();
        let (source, to) = pair(&scratch);
        let mut options = options(&[contents(source.path())], to.path());
        (options.remove_extra, options.confirm) = (true, true);
        let job = copy::job(options).unwrap();
        let copied = watch(&job, |event| {
            if matches!(event, Event::Question(_)) {
                spoil(source.path());
                job.answer(true);
            }
        })
        .unwrap();
        assert!(!copied.report.is_complete(), "{what}");
        assert!(
            to.path().join("extra").exists() && to.path().join("gone/f").exists(),
            "{what}"
        );
    }
}

#[test]
fn the_source_is_unmounted_meanwhile() {
    let scratch = Scratch::new();
    let Some(source) = scratch.file_system("tmpfs", "rw").map(Tree::new) else {
        return;
    };
    let to = scratch.tree("d");
    source.file("a", "1").file("sub/b", "2");
    to.file("extra", "x").file("sub/extra", "x");
    let mut options = options(&[contents(source.path())], to.path());
    (options.remove_extra, options.confirm) = (true, true);
    let job = copy::job(options).unwrap();
    let copied = watch(&job, |event| {
        if matches!(event, Event::Question(_)) {
            assert!(command("umount", &[&"-l", &source.path()]).status.success());
            job.answer(true);
        }
    })
    .unwrap();
    assert!(!copied.report.is_complete());
    assert_eq!(to.names(), ["a", "extra", "sub", "sub/b", "sub/extra"]);
}

/// Every listing fails once, on either side: nothing that a source has is removed, and nothing at all where the listing
/// failed before the first removal.
#[test]
fn no_listing_may_fail() {
    const TEST: &str = "sweep::no_listing_may_fail";
    if let Some(words) = order() {
        let scratch = Path::new(&words[0]);
        let (source, to) = (scratch.join("s"), scratch.join("d"));
        let nth: usize = words[1].parse().unwrap();
        failpoint::arm(Some(Plan {
            call: Some(Call::ReadDirectory),
            nth,
            count: 1,
            effect: Effect::Errno(Errno::IO),
        }));
        let report = copy::job(CopyOptions {
            remove_extra: true,
            jobs: 1,
            ..options(&[contents(source)], to)
        })
        .unwrap()
        .run()
        .unwrap();
        let calls = failpoint::disarm();
        let removal = calls
            .iter()
            .position(|c| matches!(c, Call::Unlink | Call::RemoveDirectory));
        let listings = calls.iter().enumerate().filter(|(_, c)| **c == Call::ReadDirectory);
        let failed = listings.map(|(at, _)| at).nth(nth);
        let Some(failed) = failed else { return say("over") };
        assert!(!report.is_complete(), "{nth}");
        if removal.is_none_or(|removal| failed < removal) {
            say("before");
            assert_eq!(
                report.totals.outcome_of(Outcome::Removed),
                0,
                "{nth}: {:?}",
                report.withheld
            );
            assert!(
                matches!(report.withheld[0].kind, "failed" | "source-gone"),
                "{:?}",
                report.withheld
            );
        } else {
            say("after");
        }
        return;
    }
    let mut seen = [0, 0];
    for nth in 0.. {
        let scratch = Scratch::new();
        let (source, to) = pair(&scratch);
        let log = scratch.at("log");
        let words = [scratch.path().display().to_string(), nth.to_string()];
        let (code, text) = finish(again(TEST, &words, &log), &log);
        assert_eq!(code, Some(0), "{nth}: {text}");
        for name in source.names() {
            let there = to.path().join(&name).exists();
            assert!(there || !name.starts_with('a'), "{nth}: {name}");
        }
        if text.contains("over") {
            break;
        }
        seen[usize::from(text.contains("after"))] += 1;
    }
    println!("{seen:?} listings before and after the first removal");
    assert!(seen[0] > 8 && seen[1] > 1, "{seen:?}");
}

/// Somebody else is at work in the destination while the question is open: an extra file and an extra directory go, files
/// appear, one beside what is extra and one within. Everything is counted, and nothing of it is a failure.
#[test]
fn the_destination_changes_meanwhile() {
    let scratch = Scratch::new();
    let (source, to) = pair(&scratch);
    to.file("whole/f", "x");
    let mut options = options(&[contents(source.path())], to.path());
    (options.remove_extra, options.confirm, options.entry_events) = (true, true, true);
    let job = copy::job(options).unwrap();
    let copied = watch(&job, |event| {
        if let Event::Question(victims) = event {
            assert_eq!(victims[0].entries, 14);
            fs::remove_file(to.at("extra")).unwrap();
            fs::remove_dir_all(to.at("gone/deeper")).unwrap();
            fs::remove_dir_all(to.at("whole")).unwrap();
            to.file("gone/late", "x").file("late", "x").file("sub/late", "x");
            job.answer(true);
        }
    })
    .unwrap()
    .complete();
    assert_eq!(
        to.names(),
        [
            "a",
            "empty",
            "late",
            "sub",
            "sub/b",
            "sub/deep",
            "sub/deep/c",
            "sub/late"
        ]
    );
    let totals = &copied.report.totals;
    // Without what nobody has seen: gone/deeper and what was in it, and what was in whole. With gone/late.
    assert_eq!(totals.extras, 14 - 3 + 1);
    assert_eq!(totals.reason_of(Reason::Vanished), 2);
    assert_eq!(totals.outcome_of(Outcome::Removed), totals.extras - 2);
    for name in ["extra", "whole"] {
        assert_eq!(copied.entry(name).reason, Some(Reason::Vanished));
    }
}

/// What was agreed to is the limit also when more appears.
#[test]
fn no_more_goes_than_is_allowed() {
    let scratch = Scratch::new();
    let (source, to) = pair(&scratch);
    let mut options = options(&[contents(source.path())], to.path());
    (options.remove_extra, options.confirm) = (true, true);
    options.max_delete = Some(MaxDelete::Entries(12));
    let job = copy::job(options).unwrap();
    let copied = watch(&job, |event| {
        if matches!(event, Event::Question(_)) {
            to.file("gone/one", "x").file("gone/two", "x");
            job.answer(true);
        }
    })
    .unwrap();
    assert!(copied.report.accounted && !copied.report.is_complete());
    let totals = &copied.report.totals;
    assert!(totals.outcome_of(Outcome::Removed) <= 12, "{totals:?}");
    assert!(totals.outcome_of(Outcome::Conflict) >= 1, "{totals:?}");
    assert!(to.names().len() >= source.names().len() + 2, "{:?}", to.names());
}

/// A directory of the destination that was copied into has gone, and what was copied with it: that is a failure of this
/// directory, and what is extra elsewhere goes.
#[test]
fn a_directory_that_was_copied_into_goes_away_meanwhile() {
    let scratch = Scratch::new();
    let (source, to) = pair(&scratch);
    let mut options = options(&[contents(source.path())], to.path());
    (options.remove_extra, options.confirm) = (true, true);
    let job = copy::job(options).unwrap();
    let copied = watch(&job, |event| {
        if matches!(event, Event::Question(_)) {
            fs::rename(to.at("sub"), scratch.at("away")).unwrap();
            job.answer(true);
        }
    })
    .unwrap();
    assert!(copied.report.accounted && !copied.report.is_complete());
    assert_eq!(withheld(&copied), Vec::<&str>::new());
    let failed: Vec<&Path> = copied
        .report
        .failures
        .iter()
        .map(|failure| Path::new(std::ffi::OsStr::from_bytes(&failure.path)))
        .collect();
    assert!(failed.iter().all(|path| path.starts_with(to.at("sub"))), "{failed:?}");
    assert_eq!(to.names(), ["a", "empty"]);
    assert!(scratch.at("away/extra").exists());
}

/// A listing that fails half way through a directory of the destination, or through one that is extra: nothing goes,
/// neither what it had told already nor anything else, and it is told which one it was.
#[test]
fn a_listing_that_breaks_off_keeps_all() {
    const TEST: &str = "sweep::a_listing_that_breaks_off_keeps_all";
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
            return say("over");
        }
        assert_eq!(copied.report.totals.outcome_of(Outcome::Removed), 0);
        let Some(failure) = copied.report.failures.first() else {
            // The last look at the source, which is named there.
            assert_eq!(withheld(&copied), ["source-gone"]);
            return;
        };
        assert_eq!((failure.kind, failure.errno), ("io", Some(Errno::IO)));
        assert_eq!(withheld(&copied), ["failed"]);
        for (path, what) in [("/d/many", "at many"), ("/d/extra", "at extra")] {
            if failure.path.ends_with(path.as_bytes()) {
                say(what);
            }
        }
        return;
    }
    let scratch = Scratch::new();
    let (source, to) = (scratch.tree("s"), scratch.tree("d"));
    source.file("many/a", "1");
    // Several stretches of names each.
    for number in 0..2000 {
        to.file(format!("many/a-name-of-some-length-{number}"), "")
            .file(format!("extra/a-name-of-some-length-{number}"), "");
    }
    let mut seen = [0, 0];
    for nth in 0.. {
        let log = scratch.at("log");
        let words = [scratch.path().display().to_string(), nth.to_string()];
        let (code, text) = finish(again(TEST, &words, &log), &log);
        assert_eq!(code, Some(0), "{nth}: {text}");
        assert!(to.names().len() >= 4002, "{nth}");
        if text.contains("over") {
            break;
        }
        seen[0] += usize::from(text.contains("at many"));
        seen[1] += usize::from(text.contains("at extra"));
    }
    println!("{seen:?} listings of the directory and of the extra one");
    assert!(seen[0] > 2 && seen[1] > 2, "{seen:?}");
}

#[test]
fn an_unreadable_source_directory_keeps_all() {
    apart(
        "sweep::an_unreadable_source_directory_keeps_all",
        NOBODY,
        |scratch| {
            let (source, to) = pair(scratch);
            source.mode("sub", 0o700);
            to.mode("", 0o777)
                .mode("sub", 0o777)
                .mode("sub/deep", 0o777)
                .mode("gone", 0o777);
        },
        |scratch| {
            let before = Tree::new(scratch.join("d")).names();
            let copied = mirror(&[contents(scratch.join("s"))], &scratch.join("d"), |o| {
                o.owner = false;
            })
            .incomplete();
            assert_eq!(withheld(&copied), ["failed"]);
            let after = Tree::new(scratch.join("d")).names();
            assert!(before.iter().all(|name| after.contains(name)));
        },
        |_| {},
    );
}

#[test]
fn a_directory_closed_to_its_owner_is_swept() {
    apart(
        "sweep::a_directory_closed_to_its_owner_is_swept",
        NOBODY,
        |scratch| fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o777)).unwrap(),
        |scratch| {
            let (source, to) = (Tree::new(scratch.join("s")), Tree::new(scratch.join("d")));
            source.file("sub/a", "1").mode("sub", 0o555);
            to.file("sub/extra", "x").mode("sub", 0o555);
            mirror(&[contents(source.path())], to.path(), |_| {}).complete();
            assert_eq!(to.names(), ["sub", "sub/a"]);
            assert_eq!(fs::metadata(to.at("sub")).unwrap().permissions().mode() & 0o777, 0o555);
        },
        |_| {},
    );
}

#[test]
fn deep_and_wide_with_few_descriptors() {
    apart(
        "sweep::deep_and_wide_with_few_descriptors",
        FEW_DESCRIPTORS,
        |scratch| {
            let (source, to) = (scratch.tree("s"), scratch.tree("d"));
            source.file("a", "1");
            let deep: String = (0..150).map(|_| "level-of-a-deep-tree/").collect();
            // Two branches at each level for a while, and one that is longer than a path may be.
            to.file(format!("{deep}f"), "x");
            for number in 0..200 {
                source.file(format!("many/{number}/a"), "1");
                to.file(format!("many/{number}/extra"), "x")
                    .file(format!("many/{number}/gone/f"), "x");
            }
        },
        |scratch| {
            mirror(&[contents(scratch.join("s"))], &scratch.join("d"), |_| {}).complete();
        },
        |scratch| compare(&scratch.at("s"), &scratch.at("d")),
    );
}

#[test]
fn lists_and_extras_exclude_each_other() {
    let scratch = Scratch::new();
    let (source, to) = pair(&scratch);
    let refusal = attempt(&[contents(source.path())], to.path(), |o| {
        o.remove_extra = true;
        o.files_from = Some(bulkhaul_engine::copy::options::FilesFrom {
            path: b"/dev/null".to_vec(),
            nul: false,
            contents: false,
        });
    });
    assert_eq!(refusal.unwrap_err().code(), "USAGE");
}

#[test]
fn another_file_system_in_the_source_is_unknown() {
    let scratch = Scratch::new();
    if !root() {
        return;
    }
    let Some(point) = scratch.file_system("tmpfs", "rw") else {
        return;
    };
    let (source, to) = (scratch.tree("s"), scratch.tree("d"));
    fs::write(point.join("f"), "x").unwrap();
    source.dir("mounted").file("a", content(1, 10));
    if !Scratch::bind(&point, &source.at("mounted")) {
        return;
    }
    to.file("mounted/f", "x").file("mounted/g", "x").file("extra", "x");
    mirror(&[contents(source.path())], to.path(), |o| o.one_file_system = true).complete();
    assert_eq!(to.names(), ["a", "mounted", "mounted/f", "mounted/g"]);
}

/// A file system in which nothing more can be made, and that gives nothing back: a quota that is used up, a locked
/// directory. Here there are no inodes left, and enough files to be removed.
fn full(scratch: &Scratch, names: &[&str]) -> Option<Tree> {
    // The root is one of them.
    let inodes = format!("nr_inodes={}", names.len() + 1);
    let full = scratch.file_system("tmpfs", &inodes).map(Tree::new)?;
    for name in names {
        full.file(name, "x");
    }
    Some(full)
}

#[test]
fn where_nothing_can_be_made_nothing_goes() {
    let scratch = Scratch::new();
    let Some(to) = full(&scratch, &["one", "two", "three"]) else {
        return;
    };
    let source = scratch.tree("s");
    source.file("f", "1").file("sub/g", "2").symlink("link", "f");
    let copied = mirror(&[contents(source.path())], to.path(), |_| {}).incomplete();
    assert_eq!(to.names(), ["one", "three", "two"]);
    assert_eq!(copied.counts(), "metadata 1, failed 3");
    assert_eq!(withheld(&copied), ["failed"]);
    let message = &copied.report.withheld[0].message;
    assert!(message.starts_with("nothing could be made in /") && message.ends_with("nothing extra was removed there"));
    // One that comes is enough: then it is a mirror again. A run needs room for one file of its own.
    for name in ["two", "three"] {
        fs::remove_file(to.at(name)).unwrap();
    }
    mirror(&[contents(source.path())], to.path(), |_| {}).incomplete();
    assert!(!to.at("one").exists());
}

/// A directory whose key is not there: it shows names that no source has, and takes no others.
#[test]
fn a_locked_directory_keeps_what_it_has() {
    let scratch = Scratch::new();
    let (source, to) = (scratch.tree("s"), scratch.tree("d"));
    source
        .file("locked/a", "1")
        .file("locked/sub/b", "2")
        .file("open/c", "3");
    to.file("locked/x7q", "?")
        .file("locked/kTz/Ww", "?")
        .file("open/extra", "x");
    let Some(seen) = scratch.faulty(to.path(), "nocreate=ENOKEY,only=/locked") else {
        return;
    };
    let copied = mirror(&[contents(source.path())], &seen, |_| {}).incomplete();
    let left = ["locked", "locked/kTz", "locked/kTz/Ww", "locked/x7q", "open", "open/c"];
    assert_eq!(to.names(), left);
    assert_eq!(withheld(&copied), ["failed"]);
}

/// Only there: the rest of the destination is mirrored.
#[test]
fn a_directory_in_which_nothing_can_be_made_keeps_what_it_has() {
    let scratch = Scratch::new();
    let names = ["extra", "kept"];
    let Some(one) = full(&scratch, &names) else { return };
    let Some(two) = full(&scratch, &names) else { return };
    let (source, to) = (scratch.tree("s"), scratch.tree("d"));
    for sub in ["one", "two"] {
        source.file(format!("{sub}/kept"), "x").file(format!("{sub}/new"), "n");
        source.time(format!("{sub}/kept"), 1, 0);
    }
    source.file("fine", "f").time("fine", 1, 0);
    to.file("extra", "x").file("sub/f", "x");
    to.file("fine", "f").time("fine", 1, 0);
    assert!(Scratch::bind(one.path(), &to.at("one")) && Scratch::bind(two.path(), &to.at("two")));
    for sub in ["one", "two"] {
        to.time(format!("{sub}/kept"), 1, 0);
    }
    let copied = mirror(&[contents(source.path())], to.path(), |_| {}).incomplete();
    // Nothing came elsewhere either, though all was there: nothing goes from the whole of it.
    assert!(to.at("extra").exists() && to.at("sub/f").exists(), "{copied:?}");
    assert!(
        copied.report.withheld[0]
            .message
            .contains(" and in 2 other directories")
    );
    source.file("another", "f");
    let copied = mirror(&[contents(source.path())], to.path(), |_| {}).incomplete();
    assert_eq!(withheld(&copied), ["failed"]);
    assert!(copied.report.withheld[0].message.contains(" and in another directory"));
    let left = [
        "another",
        "fine",
        "one",
        "one/extra",
        "one/kept",
        "two",
        "two/extra",
        "two/kept",
    ];
    assert_eq!(to.names(), left);
}

/// The source is a view of a directory of the destination, which no source has: it is not extra.
#[test]
fn a_source_seen_otherwise_stays() {
    type Branches = for<'b> fn(&'b Path, &'b Path) -> Vec<&'b Path>;
    let views: [(&str, &str, Branches); 5] = [
        ("bindfs", "", |origin, _| vec![origin]),
        ("bindfs", "ro", |origin, _| vec![origin]),
        ("mergerfs", "", |origin, other| vec![other, origin]),
        ("overlay", "", |origin, other| vec![origin, other]),
        ("overlay", "", |origin, other| vec![other, origin]),
    ];
    // Where it is in the destination, and whether the source goes there by its name.
    let cases = [("x", false), ("x/deep/er", false), ("v/x", true)];
    for ((kind, options, branches), (at, by_name)) in views.into_iter().flat_map(|view| cases.map(|case| (view, case)))
    {
        for dry_run in [true, false] {
            let scratch = Scratch::new();
            let (to, other) = (scratch.tree("d"), scratch.tree("other"));
            let origin = Tree::new(to.at(at));
            origin.file("f", "precious").file("sub/g", "more");
            other.file("h", "1");
            to.file("extra", "x").file("v/extra", "x");
            let Some(point) = scratch.view(kind, &branches(origin.path(), other.path()), options) else {
                break;
            };
            let modified = || fs::metadata(origin.path()).unwrap().modified().unwrap();
            let before = (to.names(), modified());
            let source = [contents(&point), renamed(&point, "v")];
            let copied = mirror(&source[usize::from(by_name)..][..1], to.path(), |o| o.dry_run = dry_run);
            assert_eq!(withheld(&copied), ["source-view"], "{kind} {at}: {copied:?}");
            assert_eq!(copied.report.failure_kinds.len(), 0);
            let left = to.names();
            assert!(before.0.iter().all(|name| left.contains(name)), "{kind} {at}: {left:?}");
            assert_eq!(modified(), before.1, "{kind} {at}");
        }
    }
}

/// What only looks like the source is extra: an old copy of it, with the same names, sizes and times.
#[test]
fn what_looks_like_a_source_goes() {
    let scratch = Scratch::new();
    let (origin, to) = (scratch.tree("s"), scratch.tree("d"));
    origin.file("f", "content").file("sub/g", "more").file("link", "");
    for copy in ["old", "older/one"] {
        to.file(format!("{copy}/f"), "another").time(format!("{copy}/f"), 1, 1);
        to.dir(format!("{copy}/sub")).time(format!("{copy}/sub"), 2, 2);
    }
    // A dry run goes by the time of the last change, which some kernels keep in steps.
    std::thread::sleep(std::time::Duration::from_millis(30));
    origin.time("sub", 2, 2).time("f", 1, 1);
    let Some(point) = scratch.view("bindfs", &[origin.path()], "") else {
        return;
    };
    mirror(&[contents(&point)], to.path(), |o| o.dry_run = true).complete();
    mirror(&[contents(&point)], to.path(), |_| {}).complete();
    assert_eq!(to.names(), ["f", "link", "sub", "sub/g"]);
    // The other way round: the destination is a view of what holds the source.
    if let Some(seen) = scratch.view("bindfs", &[origin.path()], "") {
        let copied = mirror(&[contents(origin.at("sub"))], &seen, |_| {});
        assert_eq!(withheld(&copied), ["source-view"]);
        // What was open when its name went has such a one until the server hears of the end.
        let mut names = origin.names();
        names.retain(|name| !name.starts_with(".fuse_hidden"));
        assert_eq!(names, ["f", "g", "link", "sub", "sub/g"]);
    }
}

/// What the caller has open in a destination stays, and so does all that holds it, under whatever name it was opened.
#[test]
fn a_file_in_use_stays() {
    let scratch = Scratch::new();
    let (source, to) = pair(&scratch);
    to.file("log", "told").file("gone/log", "told").file("outside", "x");
    fs::rename(to.at("outside"), scratch.at("real")).unwrap();
    to.symlink("named", "../real");
    // One of another name, that the destination lists, is in the way of a directory, or of a file.
    source.file("blocked/f", "x").file("sub/taken", "other");
    to.file("blocked", "told").file("sub/taken", "told");
    for dry_run in [true, false] {
        let copied = mirror(&[contents(source.path())], to.path(), |o| {
            o.dry_run = dry_run;
            for name in ["log", "gone/deeper/../log", "named", "blocked", "sub/taken"] {
                o.in_use.push(to.at(name).as_os_str().as_bytes().to_vec());
            }
        })
        .incomplete();
        assert_eq!(
            copied.failures(to.path()),
            ["conflict create - sub/taken", "conflict mkdir - blocked"]
        );
        assert_eq!(withheld(&copied), Vec::<&str>::new());
        let totals = &copied.report.totals;
        assert_eq!(totals.reasons[Reason::InUse as usize], 4, "{copied:?}");
    }
    assert_eq!(
        to.names(),
        [
            "a",
            "blocked",
            "empty",
            "gone",
            "gone/log",
            "log",
            "named",
            "sub",
            "sub/b",
            "sub/deep",
            "sub/deep/c",
            "sub/taken"
        ]
    );
    for name in ["log", "gone/log", "blocked", "sub/taken"] {
        assert_eq!(to.read(name), b"told", "{name}");
    }
}

/// Who looks at what a limit keeps sees some of it.
#[test]
fn what_a_limit_keeps_is_named() {
    let scratch = Scratch::new();
    for dry_run in [true, false] {
        let (source, to) = (scratch.tree("s"), scratch.tree("d"));
        source.file("kept", "x");
        to.file("kept", "x").file("extra", "x");
        let copied = mirror(&[contents(source.path())], to.path(), |o| {
            (o.dry_run, o.max_delete) = (dry_run, Some(MaxDelete::Entries(0)));
        });
        let path = to.at("extra");
        let wanted = format!(
            "1 of 2 entries are extra, which is more than 0 ({}), so nothing extra was removed",
            path.display()
        );
        assert_eq!(copied.report.withheld[0].message, wanted);
    }
}
