//! Runs that are cancelled or killed, what they leave, and runs that meet.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulkhaul_engine::copy;
use bulkhaul_engine::copy::options::CopyOptions;
use bulkhaul_engine::entry::{Outcome, Reason};
use bulkhaul_engine::event::Event;
use bulkhaul_engine::job::Job;
use bulkhaul_engine::tree::staging::Stager;
use bulkhaul_formats::staging;
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};
use rustix::process::{Pid, Signal, kill_process};

use crate::rig::fault::{again, finish, order, say, stopped};
use crate::rig::{
    Scratch, Tree, child, child_scratch, compare, content, contents, copy, has_staging, must, options, root, run, watch,
};

/// 5,000 small files in 50 directories, 10 of them inside others, and some in the root.
fn many(tree: &Tree) {
    for d in 0..50_usize {
        let directory = match d % 5 {
            0 if d > 0 => format!("directory-{}/inner-{d}", d - 1),
            _ => format!("directory-{d}"),
        };
        for f in 0..90 {
            tree.file(format!("{directory}/file-{f}"), content(7, d + f));
        }
    }
    for f in 0..500 {
        tree.file(format!("file-{f}"), content(8, f));
    }
}
const FILES: u64 = 5000;

/// Asserts that every file of the destination that is not in something unfinished is the same as in the source.
fn nothing_partial(source: &Path, to: &Path) {
    if !to.exists() {
        return;
    }
    for name in Tree::new(to.to_owned()).names() {
        let path = to.join(&name);
        if !name.contains(".bh-") && path.is_file() {
            assert!(
                fs::read(&path).unwrap() == fs::read(source.join(&name)).unwrap(),
                "{name} is not whole"
            );
        }
    }
}

/// The places where staging is different.
fn destinations(scratch: &Scratch) -> Vec<(&'static str, PathBuf)> {
    let mut all = vec![("absent", scratch.at("absent")), ("existing", scratch.at("existing"))];
    fs::create_dir_all(scratch.at("existing")).unwrap();
    let group = scratch.tree("set-group-id");
    fs::set_permissions(group.path(), fs::Permissions::from_mode(0o2755)).unwrap();
    all.push(("in a set-group-id directory", group.path().join("to")));
    all.push(("a set-group-id directory", group.path().to_owned()));
    let acl = scratch.tree("acl");
    must("setfacl", &[&"-m", &"d:u:1009:rwx,d:o::rwx", &acl.path()]);
    all.push(("in a directory with a default ACL", acl.path().join("to")));
    all
}

/// Cancelled in the middle: what is visible is whole, and the next run does what is left and nothing again.
#[test]
fn cancelled_runs_are_gone_on_with() {
    let mut in_the_middle = 0;
    for (how, cancel) in [("drain", Job::drain as fn(&Job)), ("abort", Job::abort)] {
        let scratch = Scratch::new();
        let source = scratch.tree("source");
        many(&source);
        for after in [1, 2000] {
            for (place, to) in destinations(&scratch) {
                // An abort is a drain and more; what is staged where is the same.
                if how == "abort" && place.contains(' ') {
                    continue;
                }
                let what = format!("{how} after {after}, {place}");
                let job = copy::job(options(&[contents(source.path())], &to)).unwrap();
                let mut seen = 0;
                let first = watch(&job, |event| {
                    seen += u32::from(matches!(event, Event::Entry(_)));
                    if seen == after {
                        cancel(&job);
                    }
                })
                .unwrap();
                // A slow reader may be late: then everything was done.
                assert_eq!(first.report.is_complete(), !first.report.interrupted, "{what}");
                assert!(first.report.failures.is_empty(), "{what}: {first:?}");
                nothing_partial(source.path(), &to);
                let done = first.report.totals.outcome_of(Outcome::Copied);
                in_the_middle += u32::from((1..FILES).contains(&done));

                let second = copy(&[contents(source.path())], &to, |_| {}).complete();
                assert_eq!(second.report.totals.outcome_of(Outcome::Copied), FILES - done, "{what}");
                let parent = to.parent().unwrap();
                let left: Vec<String> = Tree::new(parent.to_owned()).names();
                let left: Vec<_> = left.iter().filter(|n| n.contains(".bh-")).collect();
                assert!(left.is_empty(), "{what}: {left:?}");
                compare(source.path(), &to);
                fs::remove_dir_all(&to).unwrap();
            }
        }
    }
    assert!(in_the_middle > 0, "none of 14 was in the middle");
}

/// A cancelled run goes on also where the source has changed meanwhile: what is no longer there goes from the unfinished
/// directory, what was replaced is replaced.
#[test]
fn the_source_changes_before_the_next_run() {
    let mut unfinished = 0;
    for _ in 0..6 {
        for to in ["to", "existing"] {
            let scratch = Scratch::new();
            let source = scratch.tree("source");
            for f in 0..2000 {
                source.file(format!("d/file-{f}"), content(1, 10));
            }
            let to = scratch.at(to);
            if to.ends_with("existing") {
                fs::create_dir_all(to.join("d")).unwrap();
            }
            let job = copy::job(options(&[contents(source.path())], &to)).unwrap();
            let mut seen = 0;
            let first = watch(&job, |_| {
                seen += 1;
                if seen == 500 {
                    job.drain();
                }
            });
            first.unwrap();
            for f in (0..2000).step_by(3) {
                let name = source.at(format!("d/file-{f}"));
                fs::remove_file(&name).unwrap();
                match f % 4 {
                    0 => fs::create_dir(&name).unwrap(),
                    1 => fs::write(&name, content(2, 10)).unwrap(),
                    _ => {}
                }
            }
            let staged = !to.join("d").exists();
            let second = copy(&[contents(source.path())], &to, |_| {});
            if staged {
                unfinished += 1;
                second.complete();
                compare(source.path(), &to);
            } else {
                // Nothing is deleted from a directory that was there, and a file stays in the way of a directory.
                let only_conflicts = second.report.failures.iter().all(|f| f.kind == "conflict");
                assert!(only_conflicts, "{second:?}");
            }
            assert!(!has_staging(scratch.path()));
        }
    }
    assert!(unfinished > 0, "the directory was always finished");
}

#[test]
fn an_aborted_file_is_not_there() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source.file("big", content(1, 96 << 20));
    for existing in [false, true] {
        let to = scratch.at("to");
        if existing {
            Tree::new(to.clone()).file("big", "old");
        }
        let job = copy::job(options(&[contents(source.path())], &to)).unwrap();
        let aborted = std::thread::scope(|scope| {
            scope.spawn(|| {
                while job.snapshot().totals.copied_bytes == 0 {
                    std::thread::yield_now();
                }
                job.abort();
            });
            run(&job).unwrap()
        });
        let seen = fs::read(to.join("big")).ok();
        match aborted.report.totals.outcome_of(Outcome::Copied) {
            0 => assert_eq!(seen.as_deref(), existing.then_some(&b"old"[..])),
            _ => assert!(!existing || seen.unwrap().len() == 96 << 20),
        }
        let again = copy(&[contents(source.path())], &to, |_| {}).complete();
        compare(source.path(), &to);
        let left = Tree::new(scratch.path().to_owned()).names();
        assert!(
            !has_staging(scratch.path()),
            "existing: {existing}: {left:?}, {aborted:?}, {again:?}"
        );
        fs::remove_dir_all(&to).unwrap();
    }
}

/// A cancel before the run begins.
#[test]
fn cancelled_before_it_began() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source.file("a", "x");
    let job = copy::job(options(&[contents(source.path())], scratch.at("to"))).unwrap();
    job.drain();
    let copied = run(&job).unwrap();
    assert!(copied.report.interrupted && !scratch.at("to").exists());
    copy(&[contents(source.path())], scratch.at("to"), |_| {}).complete();
    compare(source.path(), &scratch.at("to"));
    assert!(!has_staging(scratch.path()));
    assert!(job.run().is_err(), "a job runs once");
}

/// Killed at any moment: what is visible is whole, and the next run converges.
#[test]
fn killed_runs_are_gone_on_with() {
    if let Some(at) = child_scratch() {
        let to = fs::read_to_string(at.join("where")).unwrap();
        copy(&[contents(at.join("source"))], at.join(to), |_| {}).complete();
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    many(&source);
    source.file("directory-9/big", content(1, 24 << 20));
    fs::create_dir(scratch.at("existing")).unwrap();
    for to in ["new", "existing"] {
        fs::write(scratch.at("where"), to).unwrap();
        let mut killed = 0;
        for wait in [3, 8, 15, 25, 40, 60, 90, 130] {
            let mut run = child("interrupted::killed_runs_are_gone_on_with", &["env"], &scratch);
            std::thread::sleep(Duration::from_millis(wait));
            run.kill().unwrap();
            killed += u32::from(!run.wait().unwrap().success());
            nothing_partial(source.path(), &scratch.at(to));
        }
        assert!(killed > 0);
        copy(&[contents(source.path())], scratch.at(to), |_| {}).complete();
        compare(source.path(), &scratch.at(to));
        assert!(!has_staging(scratch.path()), "{to}");
    }
}

/// The tag by which this host's staging names are known.
fn host() -> u32 {
    let made = Stager::new().stage(c"x", |name| Ok(name.to_bytes().to_vec())).unwrap();
    staging::parse(&made.0).unwrap().host
}

fn staging_name(host: u32, name: &str, attempt: u32) -> String {
    String::from_utf8(staging::name(host, name.as_bytes(), attempt).as_bytes().to_vec()).unwrap()
}

/// A process number that no process can have (the kernel's limit is 2^22), in the numbering of staged files.
const DEAD: u32 = ((1 << 22) + 7) * 64;

#[test]
fn leftovers_of_others() {
    type Make = fn(&Tree, &str);
    let file: Make = |t, name| {
        t.file(name, "half").mode(name, 0o600);
    };
    let dir: Make = |t, name| {
        t.file(format!("{name}/d/e/f"), "half").mode(name, 0o700);
    };
    let foreign = |name, attempt| staging_name(host() ^ 1, name, attempt);
    let own = |name, attempt| staging_name(host(), name, attempt);
    let live = std::process::id() * 64;
    // What it is, its name, how it is made, whether it stays, whether a note says so.
    let cases: [(&str, String, Make, bool, bool); 13] = [
        ("a dead run's file", own("a", DEAD), file, false, false),
        ("a dead run's second file", own("a", DEAD + 1), file, false, false),
        (
            "a dead run's file of no known name",
            own("gone", DEAD),
            file,
            false,
            false,
        ),
        ("a dead run's big file", own("a", 0), file, false, false),
        (
            "a dead run's big file of no known name",
            own("gone", 1),
            file,
            false,
            false,
        ),
        ("a dead run's directory", own("new", 0), dir, false, false),
        (
            "a dead run's directory of no known name",
            own("gone", 0),
            dir,
            false,
            false,
        ),
        ("a dead run's second directory", own("gone", 2), dir, false, false),
        ("another host's file", foreign("a", DEAD), file, true, true),
        ("another host's directory", foreign("a", 0), dir, true, true),
        ("a live run's file", own("a", live), file, true, false),
        (
            "somebody's directory with another mode",
            own("gone", 0),
            |t, name| {
                t.dir(name).mode(name, 0o755);
            },
            true,
            false,
        ),
        ("no staging name", ".bh-backup".into(), file, true, false),
    ];
    for (what, name, make, stays, noted) in cases {
        for below in ["", "d/"] {
            let scratch = Scratch::new();
            let (source, to) = (scratch.tree("source"), scratch.tree("to"));
            source
                .file("a", "x")
                .file("d/a", "y")
                .file("d/new/b", "z")
                .file("new/b", "z");
            to.dir("d");
            make(&to, &format!("{below}{name}"));
            let copied = copy(&[contents(source.path())], to.path(), |_| {}).complete();
            assert_eq!(to.at(format!("{below}{name}")).exists(), stays, "{what}, in {below:?}");
            assert_eq!(
                copied.notes() == ["foreign-staging"],
                noted,
                "{what}: {:?}",
                copied.notes()
            );
            assert_eq!(
                (to.read("a"), to.read("d/new/b")),
                (b"x".to_vec(), b"z".to_vec()),
                "{what}"
            );
        }
    }
}

/// A staged directory whose run lives (its lock is held) is left alone, also by a run that wants its name.
#[test]
fn a_staged_directory_that_is_locked() {
    let scratch = Scratch::new();
    let (source, to) = (scratch.tree("source"), scratch.tree("to"));
    source.file("d/a", "x");
    let name = staging_name(host(), "d", 0);
    to.file(format!("{name}/a"), "of the other run").mode(&name, 0o700);
    let held = fs::File::open(to.at(&name)).unwrap();
    held.lock().unwrap();
    copy(&[contents(source.path())], to.path(), |_| {}).complete();
    assert_eq!(to.read("d/a"), b"x");
    assert_eq!(to.read(format!("{name}/a")), b"of the other run");
    // A program that is just being started has the descriptor too: closing alone would leave it the lock.
    held.unlock().unwrap();
    copy(&[contents(source.path())], to.path(), |_| {}).complete();
    assert_eq!(to.names(), ["d", "d/a"]);
}

#[test]
fn staging_names_in_the_source() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source
        .file("a", "x")
        .file(staging_name(host(), "a", DEAD), "x")
        .file(staging_name(1, "a", 3), "x");
    source
        .file(format!("d/{}/inside", staging_name(host(), "a", 0)), "x")
        .file(".bh-plain", "x");
    source.symlink(staging_name(2, "l", 0), "x");
    let copied = copy(&[contents(source.path())], scratch.at("to"), |_| {}).complete();
    assert_eq!(copied.counts(), "made 2, copied 2, skipped 4 (staging-name 4)");
    assert_eq!(scratch.tree("to").names(), [".bh-plain", "a", "d"]);
}

/// Nobody has to read the events: the report says the same.
#[test]
fn without_a_reader() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    many(&source);
    let job = copy::job(options(&[contents(source.path())], scratch.at("to"))).unwrap();
    let report = job.run().unwrap();
    assert!(report.is_complete());
    assert_eq!(report.totals.all_found(), FILES + 51);
    compare(source.path(), &scratch.at("to"));
}

/// Runs several copies at the same time. How many directories they say they have made, in all.
fn at_once(copies: &[(&Tree, &Path)], change: impl Fn(&mut CopyOptions) + Sync) -> u64 {
    std::thread::scope(|scope| {
        let runs = copies.iter().map(|(source, to)| {
            let change = &change;
            scope.spawn(move || {
                let ended = copy(&[contents(source.path())], to, change).complete();
                ended.report.totals.directory_outcomes[Outcome::Made as usize]
            })
        });
        runs.collect::<Vec<_>>()
            .into_iter()
            .map(|run| run.join().unwrap())
            .sum()
    })
}

#[test]
fn two_jobs_of_one_source_at_once() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    for d in 0..60 {
        for f in 0..10 {
            source.file(format!("d-{d}/e/f-{f}"), content(1, d * 10 + f));
        }
        source
            .symlink(format!("d-{d}/l"), "e/f-1")
            .link(format!("d-{d}/hard"), format!("d-{d}/e/f-0"));
    }
    for turn in 0..12 {
        let to = scratch.at(&format!("to-{turn}"));
        if turn % 2 == 1 {
            fs::create_dir(&to).unwrap();
        }
        let made = at_once(&[(&source, &to), (&source, &to), (&source, &to)], |_| {});
        // Each of them was made by one.
        assert_eq!(made, 120 + u64::from(turn % 2 == 0), "turn {turn}");
        assert!(!has_staging(scratch.path()), "turn {turn}");
        assert_eq!(must("diff", &[&"-r", &source.path(), &to]), "");
        copy(&[contents(source.path())], &to, |_| {}).complete();
        compare(source.path(), &to);
    }
}

#[test]
fn two_jobs_of_different_sources_at_once() {
    let scratch = Scratch::new();
    let (one, two) = (scratch.tree("one"), scratch.tree("two"));
    // Some names are the same and some are not; the contents are told apart by their first byte and their length.
    for d in 0..40 {
        for f in 0..10 {
            one.file(format!("d-{d}/f-{f}"), vec![1; 3000 + f]);
            two.file(format!("d-{d}/f-{f}"), vec![2; 70_000 + f]);
            one.file(format!("d-{d}/one-{f}"), vec![1; f]);
            two.file(format!("d-{d}/two-{f}"), vec![2; f]);
        }
    }
    for turn in 0..8 {
        let to = scratch.tree(&format!("to-{turn}"));
        if turn % 2 == 0 {
            fs::remove_dir(to.path()).unwrap();
        }
        at_once(&[(&one, to.path()), (&two, to.path())], |_| {});
        assert!(!has_staging(scratch.path()), "turn {turn}");
        let names = to.names();
        assert_eq!(names.len(), 40 + 40 * 30);
        for name in names.iter().filter(|n| n.contains('/')) {
            let content = to.read(name);
            let from = |tree: &Tree| tree.path().join(name).is_file() && content == tree.read(name);
            assert!(from(&one) || from(&two), "{name} is neither: {} bytes", content.len());
        }
        fs::remove_dir_all(to.path()).unwrap();
    }
}

/// The same between processes, which tell each other by their numbers and locks.
#[test]
fn two_processes_at_once() {
    if let Some(at) = child_scratch() {
        copy(&[contents(at.join("source"))], at.join("to"), |_| {}).complete();
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    many(&source);
    for existing in [false, true] {
        if existing {
            fs::create_dir(scratch.at("to")).unwrap();
        }
        let start = || child("interrupted::two_processes_at_once", &["env"], &scratch);
        for run in [start(), start(), start()] {
            let output = run.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && text.contains("1 passed"), "{text}");
        }
        compare(source.path(), &scratch.at("to"));
        assert!(!has_staging(scratch.path()));
        fs::remove_dir_all(scratch.at("to")).unwrap();
    }
}

/// The user who copies is not alone: what was made for others stays theirs.
#[test]
fn a_leftover_of_another_user_stays() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (source, to) = (scratch.tree("source"), scratch.tree("to"));
    source.file("d/a", "x");
    let name = staging_name(host(), "d", 0);
    to.file(format!("{name}/a"), "theirs")
        .mode(&name, 0o700)
        .owner(&name, 1001, 1001);
    copy(&[contents(source.path())], to.path(), |_| {}).complete();
    assert_eq!(
        (to.read("d/a"), to.read(format!("{name}/a"))),
        (b"x".to_vec(), b"theirs".to_vec())
    );
    // One that is no directory can't be told from a live one's by a lock; nothing looks into it.
    let copied = copy(&[contents(source.path())], to.path(), |_| {}).complete();
    assert_eq!(copied.report.totals.reasons[Reason::StagingName as usize], 0);
}

/// Two runs make one directory at the same moment, where a rename can't be told to replace nothing (NFS, older Lustre, libfuse
/// 2): the one that comes second does not take away what the first has just made, and is at work in, because it is empty.
#[test]
fn runs_that_make_one_directory_where_a_rename_replaces() {
    const TEST: &str = "interrupted::runs_that_make_one_directory_where_a_rename_replaces";
    if let Some(words) = order() {
        // The second after it has seen that there is none; the first before it makes the next one in its own, whose first
        // unfinished name the second has.
        let (call, nth) = match words[2].as_str() {
            "second" => (Call::Rename, 1),
            _ => (Call::MakeDirectory, 2),
        };
        failpoint::arm(Some(Plan {
            call: Some(call),
            nth,
            count: 1,
            effect: Effect::Stop,
        }));
        let options = CopyOptions {
            jobs: 1,
            ..options(&[contents(&words[0])], &words[1])
        };
        let report = copy::job(options).unwrap().run().unwrap();
        failpoint::disarm();
        return say(&format!("{:?}", report.failures));
    }
    for name in ["top/second", "top/other/second"] {
        let scratch = Scratch::new();
        let (first, second, real) = (scratch.tree("first"), scratch.tree("second"), scratch.tree("real"));
        first.file("top/sub/first", "1");
        second.file(name, "2");
        let Some(to) = scratch.faulty(real.path(), "") else {
            return;
        };
        let runs = [("second", &second), ("first", &first)].map(|(which, source)| {
            let log = scratch.at(&format!("{which}.log"));
            let words = [source.path(), &to].map(|path| path.display().to_string());
            let mut run = again(TEST, &[&words[..], &[which.to_owned()]].concat(), &log)
                .spawn()
                .unwrap();
            assert!(stopped(&mut run), "{which}: {}", fs::read_to_string(&log).unwrap());
            (run, log)
        });
        assert_eq!(fs::read_dir(real.at("top")).unwrap().count(), 1, "what holds it");
        for (mut run, log) in runs {
            kill_process(Pid::from_child(&run), Signal::CONT).unwrap();
            let code = run.wait().unwrap().code();
            let said = fs::read_to_string(&log).unwrap();
            assert!(code == Some(0) && said.contains(" []\n"), "{name}: {code:?} {said}");
        }
        assert!(!has_staging(real.path()));
        assert_eq!(
            (real.read("top/sub/first"), real.read(name)),
            (b"1".to_vec(), b"2".to_vec())
        );
    }
}

/// Nothing stays of what held an empty directory: not when its run ends early, and of one that died not for longer than until
/// the next.
#[test]
fn what_held_a_directory_goes() {
    const TEST: &str = "interrupted::what_held_a_directory_goes";
    if let Some(words) = order() {
        failpoint::arm(Some(Plan {
            call: Some(Call::MakeDirectory),
            nth: 1,
            count: 1,
            effect: Effect::Exit,
        }));
        copy(&[contents(&words[0])], &words[1], |o| o.jobs = 1);
        return;
    }
    let scratch = Scratch::new();
    let (source, real) = (scratch.tree("s"), scratch.tree("real"));
    source.file("top/sub/a", "1");
    let Some(to) = scratch.faulty(real.path(), "") else {
        return;
    };
    let log = scratch.at("log");
    let words = [source.path(), &to].map(|path| path.display().to_string());
    let (code, text) = finish(again(TEST, &words, &log), &log);
    assert!(code == Some(99) && has_staging(&real.at("top")), "{code:?} {text}");
    copy(&[contents(source.path())], &to, |_| {}).complete();
    assert_eq!(real.names(), ["top", "top/sub", "top/sub/a"]);

    fs::remove_dir_all(real.at("top")).unwrap();
    let until = scratch.at("until");
    let hangs = format!("hang,until={}", until.display());
    let Some(seen) = scratch.faulty(source.path(), &hangs) else {
        return;
    };
    let job = copy::job(options(&[contents(&seen)], &to)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let begin = Instant::now();
            while !real.at("top").exists() && begin.elapsed() < Duration::from_mins(1) {
                std::thread::sleep(Duration::from_millis(1));
            }
            job.drain();
            fs::write(&until, "").unwrap();
        });
        assert!(run(&job).unwrap().report.interrupted);
    });
    // What is unfinished is a directory.
    let left: Vec<_> = fs::read_dir(real.at("top")).unwrap().map(Result::unwrap).collect();
    assert!(left.iter().all(|entry| entry.path().is_dir()), "{left:?}");

    // Where it can't go it costs nothing of what came, and is told.
    let kept = scratch.tree("kept");
    let Some(to) = scratch.faulty(kept.path(), "nounlink=EPERM") else {
        return;
    };
    let copied = copy(&[contents(source.path())], &to, |_| {});
    assert!(copied.report.failures.is_empty(), "{copied:?}");
    assert_eq!(copied.notes(), ["left-behind"]);
    assert_eq!(kept.read("top/sub/a"), b"1");
}
