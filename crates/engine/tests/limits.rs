//! Limits, priorities and the number of workers on real trees. How exact a limit is, and what the tuner finds, is shown
//! beside them with a clock of its own; here it is that they are asked at all, and that nothing is lost by them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bulkhaul_engine::compare;
use bulkhaul_engine::compare::options::{CompareOptions, Content, SideOptions};
use bulkhaul_engine::copy::job;
use bulkhaul_engine::copy::options::CopyOptions;
use bulkhaul_engine::error::Refusal;
use bulkhaul_engine::job::Job;
use bulkhaul_engine::job::desk::Phase;
use bulkhaul_engine::job::pace::Limits;
use bulkhaul_engine::job::resources::{Resources, io_priority};
use bulkhaul_engine::list::{self, ListOptions};
use bulkhaul_engine::remove::{Removal, RemoveOptions};
use bulkhaul_engine::walk::start::Root;
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};
use bulkhaul_sys::{Errno, IoPriority};

use crate::rig::fault::{again, finish, order, say};
use crate::rig::{Scratch, command, compare, content, contents, has, options, run};

fn limited(scratch: &Scratch, limits: Limits) -> CopyOptions {
    CopyOptions {
        resources: Resources {
            limits,
            ..Resources::default()
        },
        ..options(&[contents(scratch.at("source"))], scratch.at("to"))
    }
}

type Change = fn(&mut CopyOptions);

/// Every way that bytes are read is limited, and pays for what it reads: never less time than the rate says.
#[test]
fn every_way_of_reading_pays() {
    const MIB: usize = 1024 * 1024;
    let rate = 8.0 * MIB as f64;
    let scratch = Scratch::new();
    let tree = scratch.tree("source");
    tree.file("big", content(1, 2 * MIB))
        .file("holes/none", content(2, 300));
    for number in 0..64 {
        tree.file(format!("small/{number}"), content(number, 16 * 1024));
    }
    let whole = (3 * MIB) as f64;
    // A copy, a comparison of all, and a copy that is read back (the source twice).
    let ways: [(&str, Change, f64); 3] = [
        ("a copy", |_| (), whole),
        ("a comparison", |o| o.full_hash = true, whole),
        ("a proof", |o| o.verify = true, whole),
    ];
    for (what, change, bytes) in ways {
        let mut options = limited(
            &scratch,
            Limits {
                bytes: rate,
                entries: 0.0,
            },
        );
        change(&mut options);
        let start = Instant::now();
        run(&job(options).unwrap()).unwrap().complete();
        let least = bytes / rate - 0.1 - 0.01;
        assert!(start.elapsed().as_secs_f64() >= least, "{what}: {:?}", start.elapsed());
    }
    compare(&scratch.at("source"), &scratch.at("to"));
}

/// What is no copy, with these limits.
fn without_a_copy(what: &str, scratch: &Scratch, limits: Limits) -> Job {
    let resources = Resources {
        limits,
        ..Resources::default()
    };
    let root = |name| Root {
        path: scratch.at(name).into_os_string().into_encoded_bytes(),
        follow: false,
        contents: true,
        pin: None,
    };
    let side = |name| SideOptions::Trees(vec![root(name)]);
    let removal = || {
        Removal::new(RemoveOptions {
            paths: vec![root("source").path],
            jobs: 2,
            resources,
            ..RemoveOptions::default()
        })
    };
    let job = match what {
        "list" => list::job(ListOptions {
            sources: vec![root("source")],
            jobs: 2,
            full_hash: true,
            resources,
            ..ListOptions::default()
        }),
        "compare" | "compare content" => compare::job(CompareOptions {
            jobs: 2,
            content: if what == "compare" {
                Content::Tail
            } else {
                Content::Whole
            },
            resources,
            ..CompareOptions::new(side("source"), side("to"))
        }),
        "preview" => removal().and_then(|removal| removal.preview()),
        "remove" => removal().and_then(|removal| removal.remove()),
        other => panic!("{other}"),
    };
    job.unwrap()
}

/// So does what is no copy, for bytes and for entries, and it can be stopped while it waits.
#[test]
fn every_operation_pays() {
    const FILES: u8 = 24;
    const BYTES: usize = 40_000;
    let scratch = Scratch::new();
    for top in ["source", "to"] {
        let tree = scratch.tree(top);
        for number in 0..FILES {
            tree.file(format!("{}/{number}", number % 3), content(number, BYTES));
        }
    }
    // With the three directories and the root.
    let entries = f64::from(FILES + 4);
    let bytes = f64::from(FILES) * BYTES as f64;
    let rates = |bytes, entries| Limits { bytes, entries };
    let many = rates(bytes * 4.0, 0.0);
    let few = rates(0.0, entries * 4.0);
    let cases = [
        ("list", many, 0.25),
        ("list", few, 0.25),
        ("compare", many, 0.5),
        ("compare content", many, 0.25),
        ("compare", few, 0.5),
        ("preview", few, 0.25),
        ("remove", few, 0.25),
    ];
    for (what, limits, seconds) in cases {
        if what == "remove" {
            // Before it is gone.
            for abort in [false, true] {
                for what in ["list", "compare", "preview", "remove"] {
                    let job = without_a_copy(what, &scratch, rates(0.0, 0.001));
                    std::thread::scope(|scope| {
                        let work = scope.spawn(|| job.run().unwrap());
                        while job.snapshot().totals.all_found() == 0 && !work.is_finished() {
                            std::thread::yield_now();
                        }
                        if abort {
                            job.abort();
                        } else {
                            job.drain();
                        }
                        assert!(work.join().unwrap().interrupted, "{what}");
                    });
                }
            }
        }
        let job = without_a_copy(what, &scratch, limits);
        let start = Instant::now();
        let report = job.run().unwrap();
        assert!(report.is_complete(), "{what}: {report:?}");
        let least = seconds - 0.1 - 0.01;
        assert!(
            start.elapsed().as_secs_f64() >= least,
            "{what} {limits:?}: {:?}",
            start.elapsed()
        );
    }
    assert!(!scratch.at("source").exists());
}

#[test]
fn entries_pay_and_a_limit_may_go_while_they_wait() {
    let scratch = Scratch::new();
    let tree = scratch.tree("source");
    for number in 0..20 {
        tree.file(format!("{number}"), "x");
    }
    // Some hours; without the limit, a moment.
    let slow = Limits {
        bytes: 0.0,
        entries: 0.001,
    };
    let job = job(limited(&scratch, slow)).unwrap();
    let changed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let copy = scope.spawn(|| {
            let copied = run(&job).unwrap().complete();
            assert!(changed.load(Ordering::SeqCst), "{copied:?}");
        });
        while job.snapshot().totals.all_found() == 0 && !copy.is_finished() {
            std::thread::yield_now();
        }
        assert_eq!(job.snapshot().limits, slow);
        changed.store(true, Ordering::SeqCst);
        job.set_limits(Limits::default()).unwrap();
        copy.join().unwrap();
    });
    assert_eq!(job.snapshot().limits, Limits::default());
    compare(&scratch.at("source"), &scratch.at("to"));
}

#[test]
fn a_run_that_waits_can_be_stopped() {
    let scratch = Scratch::new();
    scratch
        .tree("source")
        .file("big", content(1, 1 << 20))
        .file("other", "x");
    for (limits, abort) in [
        (
            Limits {
                bytes: 0.001,
                entries: 0.0,
            },
            true,
        ),
        (
            Limits {
                bytes: 0.0,
                entries: 0.001,
            },
            true,
        ),
        (
            Limits {
                bytes: 0.0,
                entries: 0.001,
            },
            false,
        ),
    ] {
        let job = job(limited(&scratch, limits)).unwrap();
        std::thread::scope(|scope| {
            let copy = scope.spawn(|| job.run().unwrap());
            while job.snapshot().phase == Phase::Preflight {
                std::thread::yield_now();
            }
            if abort {
                job.abort();
            } else {
                job.drain();
            }
            assert!(copy.join().unwrap().interrupted);
        });
    }
    // Nothing is left behind that stands in the way of the next run.
    run(&job(limited(&scratch, Limits::default())).unwrap())
        .unwrap()
        .complete();
    compare(&scratch.at("source"), &scratch.at("to"));
}

#[test]
fn what_no_system_would_take_is_refused() {
    let scratch = Scratch::new();
    scratch.tree("source").file("a", "x");
    for (limits, nice) in [
        (
            Limits {
                bytes: -1.0,
                entries: 0.0,
            },
            None,
        ),
        (
            Limits {
                bytes: 0.0,
                entries: f64::NAN,
            },
            None,
        ),
        (Limits::default(), Some(20)),
        (Limits::default(), Some(-21)),
    ] {
        let options = CopyOptions {
            resources: Resources { limits, nice, io: None },
            ..limited(&scratch, limits)
        };
        assert!(matches!(job(options), Err(Refusal::Usage(_))));
    }
    let cases = [
        ("idle", Some(IoPriority::Idle)),
        ("best-effort", Some(IoPriority::BestEffort(4))),
        ("best-effort:0", Some(IoPriority::BestEffort(0))),
        ("realtime:7", Some(IoPriority::Realtime(7))),
        ("idle:1", None),
        ("idle:", None),
        ("realtime:8", None),
        ("realtime:+1", None),
        ("best-effort:", None),
        ("best-effort:01", None),
        ("", None),
        ("Idle", None),
        ("3", None),
    ];
    for (text, wanted) in cases {
        assert_eq!(io_priority(text).ok(), wanted, "{text}");
    }
}

/// The nicenesses of the threads of this process that have this name.
fn niceness(name: &str) -> Vec<i32> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok());
    let of = |stat: String| {
        let (head, tail) = stat.rsplit_once(") ")?;
        let own = head.split_once('(')?.1 == name;
        own.then(|| tail.split(' ').nth(16)?.parse().ok())?
    };
    stats.filter_map(of).collect()
}

#[test]
fn workers_take_the_priority_of_their_job() {
    const TEST: &str = "limits::workers_take_the_priority_of_their_job";
    if order().is_some() {
        let scratch = Scratch::new();
        scratch.tree("source").file("a", "x").file("b", "y").file("c", "z");
        let resources = Resources {
            nice: Some(7),
            io: Some(IoPriority::Idle),
            limits: Limits {
                bytes: 0.0,
                entries: 0.001,
            },
        };
        let job = job(CopyOptions {
            resources,
            ..limited(&scratch, Limits::default())
        })
        .unwrap();
        std::thread::scope(|scope| {
            let copy = scope.spawn(|| job.run().unwrap());
            // They are there for as long as they wait.
            while niceness("bulkhaul-1").is_empty() {
                std::thread::yield_now();
            }
            let order = command("ionice", &[&"-p", &std::process::id().to_string()]);
            say(&format!("process {}", String::from_utf8_lossy(&order.stdout).trim()));
            for task in std::fs::read_dir("/proc/self/task").unwrap() {
                let task = task.unwrap();
                if std::fs::read_to_string(task.path().join("comm"))
                    .unwrap_or_default()
                    .trim()
                    == "bulkhaul-1"
                {
                    let order = command("ionice", &[&"-p", &task.file_name()]);
                    say(&format!("worker {}", String::from_utf8_lossy(&order.stdout).trim()));
                }
            }
            say(&format!("nice {:?}", niceness("bulkhaul-1")));
            job.abort();
            copy.join().unwrap();
        });
        // What is refused is a note, and no reason to stop.
        failpoint::arm(None);
        for (call, resources) in [
            (
                Call::Nice,
                Resources {
                    nice: Some(-20),
                    ..Resources::default()
                },
            ),
            (
                Call::IoPriority,
                Resources {
                    io: Some(IoPriority::Realtime(0)),
                    ..Resources::default()
                },
            ),
        ] {
            failpoint::arm(Some(Plan {
                call: Some(call),
                nth: 0,
                count: 1,
                effect: Effect::Errno(Errno::PERM),
            }));
            let job = job_of(&scratch, resources);
            let report = std::thread::scope(|scope| scope.spawn(|| job.run().unwrap()).join().unwrap());
            let notes: Vec<&str> = report.notes.iter().map(|n| n.kind.as_str()).collect();
            say(&format!("complete {} {notes:?}", report.is_complete()));
        }
        failpoint::disarm();
        return;
    }
    if !has("ionice") {
        println!("skip: ionice is not there");
        return;
    }
    let scratch = Scratch::new();
    let log = scratch.at("log");
    let (code, text) = finish(again(TEST, &["go".to_owned()], &log), &log);
    assert_eq!(code, Some(0), "{text}");
    for line in [
        "worker idle",
        "nice [7]",
        "complete true [\"nice\"]",
        "complete true [\"ionice\"]",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("process idle"), "{text}");
}

fn job_of(scratch: &Scratch, resources: Resources) -> bulkhaul_engine::job::Job {
    job(CopyOptions {
        resources,
        ..limited(scratch, Limits::default())
    })
    .unwrap()
}

/// In memory the workers are as many as was asked for, from the beginning to the end.
#[test]
fn in_memory_nothing_is_tuned() {
    let scratch = Scratch::new();
    if !scratch.path().starts_with("/dev/shm") {
        println!("skip: no memory file system at /dev/shm");
        return;
    }
    scratch.tree("source").file("a", "x");
    for (jobs, workers) in [(1, 1), (3, 3)] {
        let options = CopyOptions {
            jobs,
            ..limited(&scratch, Limits::default())
        };
        let copied = run(&job(options).unwrap()).unwrap().complete();
        assert_eq!(copied.report.workers, workers);
    }
}

/// On a disk a copy arrives whole while workers come and go.
#[test]
fn a_tuned_copy_arrives_whole() {
    let scratch = Scratch::new();
    let Some(disk) = scratch.file_system("ext4", "") else {
        return;
    };
    let tree = scratch.tree("source");
    for directory in 0..40 {
        for file in 0..50 {
            tree.file(format!("{directory}/{file}"), content(file, 3000));
        }
    }
    tree.file("big", content(1, 40 << 20));
    for limits in [
        Limits::default(),
        Limits {
            bytes: 0.0,
            entries: 1500.0,
        },
    ] {
        let to = disk.join(format!("to-{}", limits.entries));
        let options = CopyOptions {
            jobs: 0,
            resources: Resources {
                limits,
                ..Resources::default()
            },
            ..options(&[contents(scratch.at("source"))], &to)
        };
        let copied = run(&job(options).unwrap()).unwrap().complete();
        assert!((1..=256).contains(&copied.report.workers), "{}", copied.report.workers);
        compare(&scratch.at("source"), &to);
    }
}
