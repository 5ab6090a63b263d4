//! A run that is told to stop ends within seconds, whatever it is at: what is nearly done is done, what is not stays
//! unfinished, is counted as that and as nothing else, and the next run makes it good.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bulkhaul_engine::bytes::transfer::Sparse;
use bulkhaul_engine::copy;
use bulkhaul_engine::copy::options::CopyOptions;
use bulkhaul_engine::entry::Outcome;
use bulkhaul_engine::job::Job;
use bulkhaul_engine::job::desk::{Phase, Snapshot};
use bulkhaul_engine::remove::{Removal, RemoveOptions};
use bulkhaul_engine::report::Report;
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};

use crate::rig::fault::{again, finish, order, say};
use crate::rig::{Scratch, compare, content, contents, copy as copied, has_staging, options};

const MIB: usize = 1 << 20;

/// One worker unless told otherwise, and every byte is read and written here.
fn job(from: &Path, to: &Path, change: impl FnOnce(&mut CopyOptions)) -> Job {
    let mut options = CopyOptions {
        jobs: 1,
        sparse: Sparse::Always,
        entry_events: false,
        ..options(&[contents(from)], to)
    };
    change(&mut options);
    copy::job(options).unwrap()
}

/// Runs a job whose calls of this kind take so long, and tells it to stop as soon as `now` says so. Answers what it was
/// waiting for then, too.
fn stopped(job: &Job, slow: (Call, Duration), now: impl Fn(&Snapshot) -> bool + Sync) -> (Report, Snapshot) {
    failpoint::arm(Some(Plan {
        call: Some(slow.0),
        nth: 0,
        count: usize::MAX,
        effect: Effect::Wait(slow.1),
    }));
    let ended = std::thread::scope(|scope| {
        let stopper = scope.spawn(|| {
            loop {
                let snapshot = job.snapshot();
                assert!(
                    snapshot.stopping.is_none() && snapshot.phase != Phase::Done,
                    "{snapshot:?}"
                );
                if now(&snapshot) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            job.drain();
            job.snapshot()
        });
        (job.run().unwrap(), stopper.join().unwrap())
    });
    failpoint::disarm();
    ended
}

/// Says what a run did.
fn tell(report: &Report) {
    let Report { totals, .. } = report;
    let failed = report.failure_kinds.values().sum::<u64>();
    let outcome = |outcome| totals.outcome_of(outcome);
    say(&format!(
        "interrupted {}, accounted {}, failed {failed}, copied {}, removed {}, unfinished {}",
        report.interrupted,
        report.accounted,
        outcome(Outcome::Copied),
        report.removed_sources,
        totals.unfinished,
    ));
}

/// Starts the test again with an order, and answers what it said.
fn ordered(name: &str, scratch: &Scratch, words: &[&str]) -> String {
    let log = scratch.at("log");
    let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
    let (code, text) = finish(again(name, &words, &log), &log);
    assert_eq!(code, Some(0), "{words:?}: {text}");
    text
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_big_file_is_left_where_it_is() {
    const NAME: &str = "stop::a_big_file_is_left_where_it_is";
    if let Some(words) = order() {
        let [from, to] = [Path::new(&words[0]), Path::new(&words[1])];
        let (bytes, jobs) = (words[2].parse::<u64>().unwrap(), words[3].parse().unwrap());
        let copying = || job(from, to, |o| o.jobs = jobs);
        // Each worker has 1 MiB a second: the rest would take a minute.
        let slow = (Call::Write, Duration::from_millis(250));
        let (report, at) = stopped(&copying(), slow, |s| s.totals.copied_bytes > 256 << 10);
        let stopping = at.stopping.unwrap();
        let written = report.totals.copied_bytes;
        assert!(
            written < bytes / 2 && stopping.bytes >= bytes - written && stopping.bytes < bytes,
            "{at:?}"
        );
        say(&format!("waits for {}", stopping.files));
        assert!(has_staging(to.parent().unwrap()));
        tell(&report);
        if words[4] == "same" {
            // Also where the process goes on.
            let report = copying().run().unwrap();
            assert!(report.is_complete() && !has_staging(to.parent().unwrap()), "{report:?}");
        }
        return;
    }
    // Not divided, and in chunks that two workers copy.
    for (size, jobs) in [(16 * MIB, 1), (64 * MIB, 2)] {
        for (place, process) in [("absent", "other"), ("existing", "other"), ("existing", "same")] {
            let scratch = Scratch::new();
            let source = scratch.tree("source");
            source.file("big", content(3, size));
            let to = scratch.at("base/to");
            fs::create_dir_all(if place == "absent" { to.parent().unwrap() } else { &to }).unwrap();
            let (bytes, jobs) = (size.to_string(), jobs.to_string());
            let said = ordered(
                NAME,
                &scratch,
                &[text(source.path()), text(&to), &bytes, &jobs, process],
            );
            let wanted = "waits for 1\ninterrupted true, accounted true, failed 0, copied 0, removed 0, unfinished 1\n";
            assert!(said.contains(wanted), "{place}: {said}");
            assert_eq!(to.join("big").exists(), process == "same", "{place}");
            copied(&[contents(source.path())], &to, |_| {}).complete();
            compare(source.path(), &to);
            assert!(!has_staging(&scratch.at("base")), "{place}");
        }
    }
}

#[test]
fn what_ends_soon_is_ended() {
    const NAME: &str = "stop::what_ends_soon_is_ended";
    if let Some(words) = order() {
        let copying = job(Path::new(&words[0]), Path::new(&words[1]), |_| {});
        // In the middle of one file, which is written at once.
        let slow = (Call::Write, Duration::from_millis(300));
        let (report, at) = stopped(&copying, slow, |_| failpoint::hits() > 0);
        say(&format!("{:?}", at.stopping.unwrap()));
        return tell(&report);
    }
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source.file("a", content(1, 5000)).file("b", content(2, 5000));
    let to = scratch.at("to");
    let said = ordered(NAME, &scratch, &[text(source.path()), text(&to)]);
    let wanted = "InFlight { files: 1, bytes: 5000 }\n\
                  interrupted true, accounted true, failed 0, copied 1, removed 0, unfinished 0\n";
    assert!(said.contains(wanted), "{said}");
    let again = copied(&[contents(source.path())], &to, |_| {}).complete();
    assert_eq!(again.report.totals.outcome_of(Outcome::Copied), 1);
    assert!(!has_staging(scratch.path()));
}

/// What is to be read back has that still before it when it is written.
#[test]
fn a_file_that_is_to_be_proved_needs_twice_the_time() {
    const NAME: &str = "stop::a_file_that_is_to_be_proved_needs_twice_the_time";
    if let Some(words) = order() {
        let copying = job(Path::new(&words[0]), Path::new(&words[1]), |o| o.verify = true);
        // The rest is written in less than two seconds, and takes four more to be read back.
        let slow = (Call::Write, Duration::from_millis(80));
        let (report, _) = stopped(&copying, slow, |s| s.totals.copied_bytes > 7 << 20);
        assert!(report.totals.copied_bytes < 12 << 20, "{report:?}");
        return tell(&report);
    }
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source.file("big", content(3, 12 * MIB));
    let to = scratch.tree("to");
    let said = ordered(NAME, &scratch, &[text(source.path()), text(to.path())]);
    assert!(said.contains("copied 0, removed 0, unfinished 1\n"), "{said}");
    copied(&[contents(source.path())], to.path(), |_| {}).complete();
    assert!(!has_staging(to.path()));
}

/// Files that are written and wait for their sync: those that come to it in time are done.
#[test]
fn a_batch_of_slow_syncs_has_its_time() {
    const NAME: &str = "stop::a_batch_of_slow_syncs_has_its_time";
    if let Some(words) = order() {
        let copying = job(Path::new(&words[0]), Path::new(&words[1]), |_| {});
        let slow = (Call::SyncData, Duration::from_millis(700));
        let (report, at) = stopped(&copying, slow, |_| failpoint::hits() > 0);
        // The first is in hand.
        say(&format!("{:?}", at.stopping.unwrap()));
        let copied = report.totals.outcome_of(Outcome::Copied);
        assert!(copied > 0 && report.totals.unfinished > 0, "{report:?}");
        say(&format!("all {}", copied + report.totals.unfinished));
        return tell(&report);
    }
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    // In a directory that is made for them: of what has a staging name fewer wait at first.
    for number in 0..32 {
        source.file(format!("new/{number}"), content(number, 70_000));
    }
    let to = scratch.tree("to");
    let said = ordered(NAME, &scratch, &[text(source.path()), text(to.path())]);
    let wanted = "InFlight { files: 32, bytes: 0 }\nall 32\ninterrupted true, accounted true, failed 0, ";
    assert!(said.contains(wanted), "{said}");
    copied(&[contents(source.path())], to.path(), |_| {}).complete();
    compare(source.path(), to.path());
    assert!(!has_staging(to.path()));
}

#[test]
fn reading_back_is_not_waited_for() {
    const NAME: &str = "stop::reading_back_is_not_waited_for";
    if let Some(words) = order() {
        let [from, to] = [Path::new(&words[0]), Path::new(&words[1])];
        let proving = job(from, to, |o| {
            (o.verify, o.remove_sources) = (words[2] == "verify", words[2] == "move");
        });
        let size = fs::metadata(from.join("big")).unwrap().len();
        // Reading back takes ten seconds and more.
        let slow = (Call::Read, Duration::from_millis(40));
        let (report, _) = stopped(&proving, slow, |s| match words[2].as_str() {
            "verify" => s.totals.copied_bytes == size,
            _ => s.phase == Phase::Proving && s.read_bytes > size + (256 << 10),
        });
        return tell(&report);
    }
    for (how, what) in [
        ("verify", "copied 0, removed 0, unfinished 1"),
        ("move", "copied 1, removed 0, unfinished 0"),
    ] {
        let scratch = Scratch::new();
        let source = scratch.tree("source");
        source.file("big", content(3, 16 * MIB));
        let to = scratch.tree("to");
        let said = ordered(NAME, &scratch, &[text(source.path()), text(to.path()), how]);
        let wanted = format!("interrupted true, accounted true, failed 0, {what}\n");
        assert!(said.contains(&wanted), "{how}: {said}");
        assert!(source.at("big").exists(), "{how}");
        assert_eq!(to.at("big").exists(), how == "move");
        let again = copied(&[contents(source.path())], to.path(), |o| {
            o.remove_sources = how == "move";
        });
        let again = again.complete();
        assert_eq!(again.report.removed_sources > 0, how == "move");
        assert_eq!(fs::read(to.at("big")).unwrap(), content(3, 16 * MIB));
        assert!(!has_staging(to.path()), "{how}");
    }
}

#[test]
fn a_slow_removal_ends() {
    const NAME: &str = "stop::a_slow_removal_ends";
    if let Some(words) = order() {
        let removal = RemoveOptions {
            paths: vec![words[0].clone().into_bytes()],
            jobs: 2,
            ..RemoveOptions::default()
        };
        let removing = Removal::new(removal).and_then(|removal| removal.remove()).unwrap();
        let slow = (Call::Unlink, Duration::from_millis(100));
        let (report, at) = stopped(&removing, slow, |_| failpoint::hits() > 0);
        let gone = report.totals.outcome_of(Outcome::Removed);
        assert!((1..200).contains(&gone), "{report:?}");
        return say(&format!(
            "{:?}, interrupted {}",
            at.stopping.unwrap(),
            report.interrupted
        ));
    }
    let scratch = Scratch::new();
    let tree = scratch.tree("tree");
    for number in 0..200 {
        tree.file(format!("{number}"), "");
    }
    let said = ordered(NAME, &scratch, &[text(tree.path())]);
    assert!(
        said.contains("InFlight { files: 0, bytes: 0 }, interrupted true\n"),
        "{said}"
    );
    assert!(tree.path().exists());
}

/// Who waits for the first name of a file does not begin it anew.
#[test]
fn another_name_of_the_same_file_is_not_begun() {
    const NAME: &str = "stop::another_name_of_the_same_file_is_not_begun";
    if let Some(words) = order() {
        let copying = job(Path::new(&words[0]), Path::new(&words[1]), |o| o.jobs = 2);
        let slow = (Call::Write, Duration::from_millis(250));
        let (report, _) = stopped(&copying, slow, |s| s.totals.copied_bytes > 256 << 10);
        return tell(&report);
    }
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source
        .file("a/one", content(3, 16 * MIB))
        .dir("b")
        .link("b/other", "a/one");
    let to = scratch.tree("to");
    to.dir("a").dir("b");
    let said = ordered(NAME, &scratch, &[text(source.path()), text(to.path())]);
    assert!(said.contains("copied 0, removed 0, unfinished 1\n"), "{said}");
    let names = to.names();
    assert_eq!(
        names.iter().filter(|name| name.contains(".bh-")).count(),
        1,
        "{names:?}"
    );
    copied(&[contents(source.path())], to.path(), |_| {}).complete();
    compare(source.path(), to.path());
    assert!(!has_staging(to.path()));
}
