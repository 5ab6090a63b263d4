//! Big files, whose chunks several workers copy.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bulkhaul_engine::options::{CopyOptions, Sparse};
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};
use bulkhaul_sys::{self as sys, AsFd as _, Errno};

use crate::rig::fault::{again, finish, order, say};
use crate::rig::{Scratch, Tree, compare, content, contents, copy, options};

const MIB: u64 = 1 << 20;
const CHUNK: u64 = bulkhaul_engine::chunks::CHUNK_BYTES;
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
            count: 1,
            effect: Effect::Errno(Errno::IO),
        };
        return copy_armed(Path::new(&words[0]), Path::new(&words[1]), plan);
    }
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    big(&source, "big", 5 * CHUNK + 1);
    source.file("small", "x").time("", 1_500_000_000, 2);
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

/// Stopped at once in the middle of a big file: all of its workers leave it, and nothing of it stays.
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
    assert!(to.names().is_empty(), "{:?}", to.names());
}

/// Of more than memory holds, hardly a page is left in the cache, on either side; of less, all.
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
    for (memory, name) in [(None, "roomy"), (Some(0), "crowded")] {
        let to = Tree::new(base.join(name));
        // Pages that wait for their write-back stay where they are.
        std::process::Command::new("sync").status().unwrap();
        copy(&[contents(source.path())], to.path(), |o| {
            o.memory = memory;
            o.jobs = JOBS;
        })
        .complete();
        let [left, right] = [&source, &to].map(|tree| cached(&tree.at("d/big")).unwrap());
        // The kernel is asked, not told: a page that somebody holds at that moment stays.
        let few = size / 10;
        if memory.is_none() {
            assert!(left.min(right) >= size - few, "{left} and {right} of {size}");
        } else {
            // The source keeps the end of each chunk.
            assert!(left <= size / 2 + few && right <= few, "{left} and {right} of {size}");
        }
        compare(source.path(), to.path());
    }
}
