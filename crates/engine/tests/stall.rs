//! A run in which nothing moves is given up and can be gone on with; one that is slow, or waits for somebody, is not.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bulkhaul_engine::compare::options::{CompareOptions, Content, SideOptions};
use bulkhaul_engine::copy::options::CopyOptions;
use bulkhaul_engine::event::Event;
use bulkhaul_engine::job::Job;
use bulkhaul_engine::job::pace::Limits;
use bulkhaul_engine::job::resources::Resources;
use bulkhaul_engine::list::{self, ListOptions};
use bulkhaul_engine::remove::{Removal, RemoveOptions};
use bulkhaul_engine::report::{Durability, Report};
use bulkhaul_engine::walk::start::Root;
use bulkhaul_engine::{compare, copy};
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};

use crate::rig::fault::{again, finish, order, say};
use crate::rig::{Scratch, Tree, compare as judge, content, contents, has_staging, options};

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

fn root(path: &Path) -> Root {
    Root {
        path: bytes(path),
        follow: true,
        contents: true,
        pin: None,
    }
}

/// The job of a case, on `from`, and on `to` where there are two sides.
fn job(work: &str, from: &Path, to: &Path) -> Job {
    let copying = CopyOptions {
        jobs: 1,
        entry_events: false,
        ..options(&[contents(from)], to)
    };
    let job = match work {
        "copy" => copy::job(copying),
        "sync" => copy::job(CopyOptions {
            sync: Durability::All,
            ..copying
        }),
        "verify" => copy::job(CopyOptions {
            verify: true,
            ..copying
        }),
        "space" => copy::job(CopyOptions {
            require_space: true,
            ..copying
        }),
        "list" => list::job(ListOptions {
            sources: vec![root(from)],
            jobs: 2,
            output: Some(bytes(to)),
            ..ListOptions::default()
        }),
        "compare" => {
            let side = || SideOptions::Trees(vec![root(from)]);
            compare::job(CompareOptions {
                output: Some(bytes(to)),
                ..CompareOptions::new(side(), side())
            })
        }
        "remove" => {
            let options = RemoveOptions {
                paths: vec![bytes(to)],
                jobs: 2,
                ..RemoveOptions::default()
            };
            Removal::new(options).and_then(|removal| removal.remove())
        }
        other => panic!("{other}"),
    };
    job.unwrap()
}

/// Says how a run ended.
fn tell(report: &Report) {
    say(&format!("complete {}", report.is_complete()));
    for failure in &report.failures {
        say(&format!("{} {}", failure.kind, failure.message));
    }
    for note in &report.notes {
        say(&format!("note {}", note.kind));
    }
    say(&format!(
        "interrupted {}, accounted {}",
        report.interrupted, report.accounted
    ));
}

/// In the child: runs with the plan; says how it ended.
fn run_armed(words: &[String], plan: Plan, timeout: Duration) {
    let job = job(&words[0], Path::new(&words[1]), Path::new(&words[2]));
    job.set_stall_timeout(timeout);
    failpoint::arm(Some(plan));
    tell(&job.run().unwrap());
}

fn fill(tree: &Tree) {
    tree.file("a", content(1, 1 << 20)).file("d/b", "b\n").dir("e");
}

const HANGS: [(&str, Call); 12] = [
    ("copy", Call::ReadDirectory),
    ("copy", Call::OpenFile),
    ("copy", Call::Read),
    ("copy", Call::Write),
    ("copy", Call::Rename),
    // These may take ten times as long.
    ("copy", Call::SyncData),
    ("sync", Call::SyncFileSystem),
    ("verify", Call::DropCache),
    ("space", Call::ReadDirectory),
    ("list", Call::OpenFile),
    ("compare", Call::ReadDirectory),
    ("remove", Call::Unlink),
];

#[test]
fn a_call_that_does_not_come_back() {
    const NAME: &str = "stall::a_call_that_does_not_come_back";
    if let Some(words) = order() {
        let call = HANGS.iter().map(|(_, call)| *call);
        let call = call.into_iter().find(|call| format!("{call:?}") == words[3]).unwrap();
        let hang = Plan {
            call: Some(call),
            nth: 0,
            count: usize::MAX,
            effect: Effect::Wait(Duration::MAX),
        };
        return run_armed(&words, hang, Duration::from_millis(300));
    }
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    fill(&source);
    for (number, (work, call)) in HANGS.into_iter().enumerate() {
        let to = scratch.at(&format!("{number}"));
        if work == "remove" {
            fill(&Tree::new(to.clone()));
        }
        let words = [
            work.to_owned(),
            source.path().display().to_string(),
            to.display().to_string(),
            format!("{call:?}"),
        ];
        let log = scratch.at("log");
        let (code, text) = finish(again(NAME, &words, &log), &log);
        assert_eq!(code, Some(0), "{work} {call:?}: {text}");
        assert!(text.contains("complete false\nstalled wait"), "{work} {call:?}: {text}");
        assert!(
            text.contains(": nothing moved for 0.3 s, so the run was given up ("),
            "{text}"
        );
        assert!(text.contains("\ninterrupted true, accounted true\n"), "{text}");
        if let "list" | "compare" = work {
            // It was to be a file, and nothing is left of it.
            assert!(!to.exists() && !has_staging(scratch.path()), "{work} {call:?}");
        }
        // What was left is gone on with.
        let report = job(work, source.path(), &to).run().unwrap();
        assert!(report.is_complete(), "{work} {call:?}: {report:?}");
        match work {
            "remove" => assert!(!to.exists()),
            "list" | "compare" => {}
            _ => judge(source.path(), &to),
        }
    }
}

/// Stopped at once, a run ends whatever its threads do, and says that it left some behind.
#[test]
fn a_call_that_does_not_hear_of_the_end() {
    const NAME: &str = "stall::a_call_that_does_not_hear_of_the_end";
    if let Some(words) = order() {
        let (work, call) = HANGS[words[0].parse::<usize>().unwrap()];
        let job = job(work, Path::new(&words[1]), Path::new(&words[2]));
        failpoint::arm(Some(Plan {
            call: Some(call),
            nth: 0,
            count: usize::MAX,
            effect: Effect::Wait(Duration::MAX),
        }));
        return std::thread::scope(|scope| {
            scope.spawn(|| {
                while failpoint::hits() == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                job.abort();
            });
            tell(&job.run().unwrap());
        });
    }
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    fill(&source);
    for (number, (work, call)) in HANGS.into_iter().enumerate() {
        let to = scratch.at(&format!("{number}"));
        if work == "remove" {
            fill(&Tree::new(to.clone()));
        }
        let paths = [source.path(), &to].map(|path| path.display().to_string());
        let words = [&[number.to_string()][..], &paths].concat();
        let log = scratch.at("log");
        let (code, text) = finish(again(NAME, &words, &log), &log);
        assert!(code == Some(0), "{work} {call:?}: {text}");
        let ended = "note left-behind\ninterrupted true";
        assert!(text.contains(ended), "{work} {call:?}: {text}");
    }
}

/// Every loop over bytes hears of an end at its next piece, also of one that lets things end which end soon. Each of these
/// files would keep it for weeks.
#[test]
fn every_loop_hears_of_the_end() {
    every_loop("abort", Job::abort);
    every_loop("drain", Job::drain);
}

fn every_loop(how: &str, end: fn(&Job)) {
    const SIZE: u64 = 1 << 50;
    let scratch = Scratch::new();
    let (left, right) = (scratch.tree("left"), scratch.tree("right"));
    for tree in [&left, &right] {
        let file = fs::File::create(tree.at("f")).unwrap();
        if let Err(error) = file.set_len(SIZE) {
            println!("skip: no file is so long here: {error}");
            return;
        }
        tree.time("f", 1_500_000_000, 0);
    }
    let copying = |to: &Path, change: fn(&mut CopyOptions)| {
        let mut options = CopyOptions {
            entry_events: false,
            ..options(&[contents(left.path())], to)
        };
        change(&mut options);
        copy::job(options).unwrap()
    };
    let listing = |full_hash, hash_size| {
        let sources = vec![root(left.path())];
        list::job(ListOptions {
            sources,
            full_hash,
            hash_size,
            ..ListOptions::default()
        })
        .unwrap()
    };
    let comparing = |content, hash_size| {
        let [left, right] = [&left, &right].map(|tree| SideOptions::Trees(vec![root(tree.path())]));
        let mut options = CompareOptions::new(left, right);
        (options.content, options.hash_size) = (content, hash_size);
        compare::job(options).unwrap()
    };
    let cases = [
        ("copied and verified", copying(&scratch.at("a"), |o| o.verify = true)),
        ("there, whole hash", copying(right.path(), |o| o.full_hash = true)),
        ("there, verified", copying(right.path(), |o| o.verify = true)),
        ("moved", copying(&scratch.at("b"), |o| o.remove_sources = true)),
        ("listed", listing(true, 1)),
        ("listed by a large end", listing(false, SIZE - 1)),
        ("compared", comparing(Content::Whole, 1)),
        ("compared by a large end", comparing(Content::Tail, SIZE - 1)),
    ];
    for (what, job) in cases {
        let report = std::thread::scope(|scope| {
            let running = scope.spawn(|| job.run().unwrap());
            // Long enough to be in the loop, mostly; if it is not, it ends before.
            while job.snapshot().totals.all_found() == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(50));
            end(&job);
            running.join().unwrap()
        });
        let notes: Vec<_> = report.notes.iter().map(|note| &note.kind).collect();
        assert!(
            report.interrupted && !report.notes.iter().any(|n| n.kind == "left-behind"),
            "{how}, {what}: {notes:?}"
        );
        assert!(left.at("f").exists(), "{how}, {what}");
    }
}

#[test]
fn slow_is_not_given_up() {
    const NAME: &str = "stall::slow_is_not_given_up";
    if let Some(words) = order() {
        // Each call is well within the limit, all of them together are not.
        let slow = Plan {
            call: Some(Call::Read),
            nth: 0,
            count: usize::MAX,
            effect: Effect::Wait(Duration::from_millis(150)),
        };
        return run_armed(&words, slow, Duration::from_secs(1));
    }
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source.file("a", content(1, 3 << 20));
    for work in ["copy", "verify", "compare"] {
        let to = scratch.at(work);
        let words = [
            work.to_owned(),
            source.path().display().to_string(),
            to.display().to_string(),
        ];
        let log = scratch.at("log");
        let (code, text) = finish(again(NAME, &words, &log), &log);
        assert_eq!(code, Some(0), "{text}");
        assert!(
            text.contains("complete true\ninterrupted false, accounted true\n"),
            "{work}: {text}"
        );
    }
}

fn complete(job: &Job) -> Report {
    job.set_stall_timeout(Duration::from_millis(200));
    let report = job.run().unwrap();
    assert!(report.is_complete(), "{report:?}");
    report
}

#[test]
fn who_waits_for_leave_is_not_given_up() {
    let scratch = Scratch::new();
    scratch.tree("source").file("a", "a\n").file("b", "b\n");
    let limits = Limits {
        bytes: 0.0,
        entries: 2.0,
    };
    let copying = CopyOptions {
        resources: Resources {
            limits,
            ..Resources::default()
        },
        ..options(&[contents(scratch.at("source"))], scratch.at("to"))
    };
    let report = complete(&copy::job(copying).unwrap());
    assert!(
        report.elapsed > Duration::from_millis(400),
        "it did not wait: {report:?}"
    );
}

#[test]
fn who_waits_for_an_answer_or_its_reader_is_not_given_up() {
    let scratch = Scratch::new();
    scratch.tree("source").file("a", "a\n");
    scratch.tree("to").file("extra", "x\n");
    let copying = CopyOptions {
        remove_extra: true,
        confirm: true,
        ..options(&[contents(scratch.at("source"))], scratch.at("to"))
    };
    let job = copy::job(copying).unwrap();
    job.queue().subscribe();
    let patience = Duration::from_secs(1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                let (told, events) = std::sync::mpsc::channel();
                job.queue().next(Box::new(move |events| told.send(events).unwrap()));
                let events = events.recv().unwrap();
                if events.is_empty() {
                    break;
                }
                if events.iter().any(|event| matches!(event, Event::Question(_))) {
                    std::thread::sleep(patience);
                    job.answer(true);
                }
            }
        });
        let report = complete(&job);
        assert!(report.elapsed > patience, "nobody was asked");
    });
    assert!(!scratch.at("to/extra").exists());

    // More events than the queue holds, and a reader that comes late.
    let many = scratch.tree("many");
    for number in 0..9000 {
        fs::write(many.at(format!("{number}")), "").unwrap();
    }
    let job = list::job(ListOptions {
        sources: vec![root(many.path())],
        entry_events: true,
        ..ListOptions::default()
    })
    .unwrap();
    job.queue().subscribe();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(patience);
            loop {
                let (told, events) = std::sync::mpsc::channel();
                job.queue()
                    .next(Box::new(move |events| told.send(events.len()).unwrap()));
                if events.recv().unwrap() == 0 {
                    break;
                }
            }
        });
        assert!(complete(&job).elapsed > patience, "the queue held all of them");
    });

    // An output that is full, and a reader that comes late.
    let (read, write) = UnixStream::pair().unwrap();
    write.set_nonblocking(true).unwrap();
    while (&write).write(&[b'x'; 4096]).is_ok() {}
    let job = list::job(ListOptions {
        sources: vec![root(scratch.at("source").as_path())],
        output: Some(format!("/dev/fd/{}", write.as_raw_fd()).into_bytes()),
        ..ListOptions::default()
    })
    .unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(patience);
            io::copy(&mut &read, &mut io::sink()).unwrap();
        });
        let report = complete(&job);
        drop(write);
        assert!(report.elapsed > patience, "it was not full");
    });
}
