//! Big files, whose chunks several workers copy.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use bulkhaul_engine::bytes::transfer::Sparse;
use bulkhaul_engine::copy::options::CopyOptions;
use bulkhaul_engine::report::Durability;
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};
use bulkhaul_sys::{self as sys, AsFd as _, Errno};

use crate::rig::fault::{again, finish, order, say};
use crate::rig::{Scratch, Tree, compare, content, contents, copy, options};

const MIB: u64 = 1 << 20;
const CHUNK: u64 = bulkhaul_engine::bytes::transfer::CHUNK_BYTES;
/// More than there are chunks in some files, fewer than in others.
const JOBS: usize = 4;

/// Content that differs from chunk to chunk.
fn big(tree: &Tree, name: &str, size: u64) {
    let block = content(5, usize::try_from(MIB).unwrap() + 7);
    let file = File::create(tree.at(name)).unwrap();
    let mut at = 0;
    while at < size {
        let length = usize::try_from((size - at).min(block.len() as u64)).unwrap();
        file.write_all_at(&block[..length], at).unwrap();
        at += length as u64;
    }
    tree.time(name, 1_500_000_000, 1);
}

#[test]
fn every_byte_comes_from_somebody() {
    for sparse in [Sparse::Auto, Sparse::Always, Sparse::Never] {
        let scratch = Scratch::new();
        let source = scratch.tree("source");
        for (name, size) in [
            ("undivided", 2 * CHUNK - 1),
            ("two", 2 * CHUNK),
            ("odd", 2 * CHUNK + 4097),
            ("five", 5 * CHUNK),
        ] {
            big(&source, name, size);
        }
        let holes = File::create(source.at("holes")).unwrap();
        holes.set_len(4 * CHUNK + 1).unwrap();
        for at in [CHUNK - 5000, 3 * CHUNK] {
            holes.write_all_at(&content(9, 70_000), at).unwrap();
        }
        let to = scratch.tree("to");
        copy(&[contents(source.path())], to.path(), |o| {
            o.jobs = JOBS;
            o.sparse = sparse;
        })
        .complete();
        compare(source.path(), to.path());
    }
}

/// In the child: one copy with a plan.
fn copy_armed(source: &Path, to: &Path, plan: Plan) {
    let options = CopyOptions {
        jobs: JOBS,
        // Everything is read and written here.
        sparse: Sparse::Always,
        entry_events: false,
        ..options(&[contents(source)], to)
    };
    let job = bulkhaul_engine::copy::job(options).unwrap();
    failpoint::arm(Some(plan));
    let report = job.run().unwrap();
    failpoint::disarm();
    assert!(report.accounted, "{report:?}");
    for failure in &report.failures {
        say(&format!("failed {} {}", failure.kind, failure.operation.text()));
    }
    say(&format!("complete {}", report.is_complete()));
}

/// Whoever meets an error, the file fails once, nothing of it stays, and the next run copies it.
#[test]
fn an_error_in_any_chunk_fails_the_file() {
    const TEST: &str = "chunks::an_error_in_any_chunk_fails_the_file";
    if let Some(words) = order() {
        let plan = Plan {
            call: Some(if words[2] == "read" { Call::Read } else { Call::Write }),
            nth: words[3].parse().unwrap(),
            // One of them may be of the ledger, which is no loss.
            count: 3,
            effect: Effect::Errno(Errno::IO),
        };
        return copy_armed(Path::new(&words[0]), Path::new(&words[1]), plan);
    }
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    big(&source, "big", 5 * CHUNK + 1);
    // Nothing of it is read or written: whoever makes the call that fails, it is of the big file.
    source.symlink("small", "x").time("", 1_500_000_000, 2);
    for operation in ["read", "write"] {
        for nth in ["2", "64", "200", "319"] {
            let to = scratch.tree(&format!("to-{operation}-{nth}"));
            let log = scratch.at("log");
            let paths = [source.path(), to.path()].map(|p| p.display().to_string());
            let words = [&paths[..], &[operation.to_owned(), nth.to_owned()]].concat();
            let (code, text) = finish(again(TEST, &words, &log), &log);
            let what = format!("{operation} {nth}: {text}");
            assert_eq!(code, Some(0), "{what}");
            assert_eq!(text.matches("failed ").count(), 1, "{what}");
            assert!(text.contains(&format!("failed io {operation}")), "{what}");
            assert!(text.contains("complete false"), "{what}");
            assert_eq!(to.names(), ["small"], "{what}");
            copy(&[contents(source.path())], to.path(), |_| {}).complete();
            compare(source.path(), to.path());
            std::fs::remove_dir_all(to.path()).unwrap();
        }
    }
}

/// Stopped at once in the middle of a big file: all of its workers leave it, and the next run goes on with it.
#[test]
fn an_abort_reaches_all_who_help() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    big(&source, "big", 20 * CHUNK);
    let to = scratch.tree("to");
    let options = CopyOptions {
        jobs: JOBS,
        ..options(&[contents(source.path())], to.path())
    };
    let job = bulkhaul_engine::copy::job(options).unwrap();
    let report = std::thread::scope(|scope| {
        let running = scope.spawn(|| job.run());
        while job.snapshot().totals.copied_bytes < CHUNK && !running.is_finished() {
            std::thread::yield_now();
        }
        job.abort();
        running.join().unwrap().unwrap()
    });
    assert!(report.interrupted, "{report:?}");
    assert!(!to.at("big").exists(), "{:?}", to.names());
    let again = copy(&[contents(source.path())], to.path(), |_| {}).complete();
    let totals = again.report.totals;
    assert!(totals.resumed_bytes > 0, "{totals:?}");
    assert_eq!(totals.resumed_bytes + totals.copied_bytes, 20 * CHUNK);
    assert_eq!(to.names(), ["big"]);
    compare(source.path(), to.path());
}

/// Of more than memory holds, hardly a page is left in the cache, on either side; of less all of the source stays, and all
/// of the copy where its content has not to be on the disk.
#[test]
fn what_memory_cannot_hold_leaves_the_cache() {
    let scratch = Scratch::new();
    let Some(base) = scratch.file_system("ext4", "rw") else {
        return;
    };
    let source = Tree::new(base.join("source"));
    let size = 4 * CHUNK + MIB + 1;
    source.dir("d");
    big(&source, "d/big", size);
    let cached = |path: &Path| sys::cached_bytes(File::open(path).unwrap().as_fd(), size);
    if cached(&source.at("d/big")) == Err(Errno::NOSYS) {
        println!("skip: this kernel does not tell what is cached");
        return;
    }
    for (memory, sync, name) in [
        (None, Durability::None, "roomy"),
        (None, Durability::Safe, "durable"),
        (Some(0), Durability::None, "crowded"),
        (Some(0), Durability::Safe, "crowded and durable"),
    ] {
        let to = Tree::new(base.join(name));
        // Pages that wait for their write-back stay where they are.
        std::process::Command::new("sync").status().unwrap();
        copy(&[contents(source.path())], to.path(), |o| {
            o.memory = memory;
            o.sync = sync;
            o.jobs = JOBS;
        })
        .complete();
        let [left, right] = [&source, &to].map(|tree| cached(&tree.at("d/big")).unwrap());
        // The kernel is asked, not told: a page that somebody holds at that moment stays.
        let few = size / 10;
        let what = format!("{name}: {left} and {right} of {size}");
        match (memory, sync) {
            (None, Durability::None) => assert!(left.min(right) >= size - few, "{what}"),
            // Which way the rest takes, past the cache or through it, the clock of this moment decides.
            (None, _) => assert!(left >= size - few, "{what}"),
            // The end of each chunk stays, of what was written until its sync.
            (Some(_), Durability::None) => assert!(left.max(right) <= size / 2 + few, "{what}"),
            (Some(_), _) => assert!(left <= size / 2 + few && right <= few, "{what}"),
        }
        compare(source.path(), to.path());
        std::fs::remove_dir_all(to.path()).unwrap();
    }
}

/// What happens to a call while big files go to a disk of this machine, and what comes of it.
struct Case {
    what: &'static str,
    plan: Option<(Call, usize, usize, Effect)>,
    verify: bool,
    /// The failure; none: everything arrives.
    fails: Option<&'static str>,
}

fn cases() -> Vec<Case> {
    let case = |what, call, effect| Case {
        what,
        plan: Some((call, 0, usize::MAX, effect)),
        verify: false,
        fails: None,
    };
    let once = |nth, of: Case| Case {
        plan: of.plan.map(|(call, _, _, effect)| (call, nth, 1, effect)),
        ..of
    };
    let fails = |failure, of: Case| Case {
        fails: Some(failure),
        ..of
    };
    let verified = |of: Case| Case { verify: true, ..of };
    let nothing = |what| Case {
        plan: None,
        ..case(what, Call::Write, Effect::Short)
    };
    let errno = Effect::Errno;
    vec![
        nothing("as it is"),
        verified(nothing("read back")),
        case("can't be opened so", Call::OpenDirect, errno(Errno::INVAL)),
        case("can't have blocks", Call::Allocate, errno(Errno::NOTSUP)),
        fails(
            "no-space write",
            case("has no blocks left", Call::Allocate, errno(Errno::NOSPC)),
        ),
        once(0, case("can't be written so", Call::Write, errno(Errno::INVAL))),
        once(
            2,
            case("can't be written so in the middle", Call::Write, errno(Errno::INVAL)),
        ),
        fails("no-space write", case("is full", Call::Write, errno(Errno::NOSPC))),
        once(0, case("has no room for the ledger", Call::Write, errno(Errno::NOSPC))),
        fails("io write", case("breaks", Call::Write, errno(Errno::IO))),
        case("writes half", Call::Write, Effect::Short),
        case("reads half", Call::Read, Effect::Short),
        fails("changed read", case("reads nothing", Call::Read, Effect::Answer(0))),
        verified(once(1, case("writes half and says all", Call::Write, Effect::Lie))),
        fails(
            "io write",
            once(0, case("can't wait", Call::WriteBack, errno(Errno::IO))),
        ),
    ]
}

/// What has to be on a disk of this machine in the end goes past the page cache, whatever its calls answer.
#[test]
fn past_the_page_cache() {
    const TEST: &str = "chunks::past_the_page_cache";
    if let Some(words) = order() {
        let case = &cases()[words[2].parse::<usize>().unwrap()];
        let options = CopyOptions {
            jobs: 1,
            verify: case.verify,
            entry_events: false,
            ..options(&[contents(&words[0])], &words[1])
        };
        let job = bulkhaul_engine::copy::job(options).unwrap();
        failpoint::arm(case.plan.map(|(call, nth, count, effect)| Plan {
            call: Some(call),
            nth,
            count,
            effect,
        }));
        let report = job.run().unwrap();
        let calls = failpoint::disarm();
        let made = |call| calls.iter().filter(|c| **c == call).count();
        say(&format!("accounted {}", report.accounted));
        say(&format!(
            "opened {}, allocated {}",
            made(Call::OpenDirect),
            made(Call::Allocate)
        ));
        for failure in &report.failures {
            say(&format!("failed {} {}", failure.kind, failure.operation.text()));
        }
        return say(&format!("complete {}", report.is_complete()));
    }
    let scratch = Scratch::new();
    let (source, holes) = (scratch.tree("source"), scratch.tree("holes"));
    big(&source, "big", 2 * CHUNK + 4097);
    big(&source, "less", 2 * CHUNK - 1);
    big(&holes, "big", 2 * CHUNK);
    let file = File::create(holes.at("holes")).unwrap();
    file.set_len(3 * CHUNK + 5).unwrap();
    for at in [0, CHUNK - 5000, 2 * CHUNK + 4096] {
        file.write_all_at(&content(9, 700_000), at).unwrap();
    }
    for kind in ["ext4", "xfs"] {
        let Some(disk) = scratch.file_system(kind, "") else {
            continue;
        };
        for (index, case) in cases().iter().enumerate() {
            let from = if case.plan.is_none() { &holes } else { &source };
            let to = Tree::new(disk.join("to"));
            let log = scratch.at("log");
            let paths = [from.path(), to.path()].map(|p| p.display().to_string());
            let words = [&paths[..], &[index.to_string()]].concat();
            let (code, text) = finish(again(TEST, &words, &log), &log);
            let what = format!("{kind}: {}: {text}", case.what);
            assert!(code == Some(0) && text.contains("accounted true"), "{what}");
            assert!(
                !text.contains("opened 0,") || case.what == "has no blocks left",
                "{what}"
            );
            assert!(!text.contains("allocated 0\n"), "{what}");
            match case.fails {
                None => {
                    assert!(text.contains("complete true"), "{what}");
                    compare(from.path(), to.path());
                }
                Some(failure) => {
                    assert!(text.contains(&format!("failed {failure}\n")), "{what}");
                    assert!(
                        text.contains("complete false") && !to.names().contains(&"big".to_owned()),
                        "{what}"
                    );
                }
            }
            if case.plan.is_none() {
                let blocks = |tree: &Tree| tree.at("holes").metadata().unwrap().blocks();
                assert!(blocks(&to) < blocks(&holes) + 100, "{what}: holes were filled");
            }
            std::fs::remove_dir_all(to.path()).unwrap();
        }
    }
}
