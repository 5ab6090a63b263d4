//! Big files that a run which died has begun: the next one goes on where it was, and only where that is sure.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use bulkhaul_engine::ArchiveFormat as Format;
use bulkhaul_engine::bytes::transfer::CHUNK_BYTES;
use bulkhaul_engine::compress::options::{CompressOptions, DecompressOptions};
use bulkhaul_engine::compress::{compression, decompression};
use bulkhaul_engine::copy::options::{CopyOptions, FilesFrom, Gathered, Packing};
use bulkhaul_engine::report::Report;
use bulkhaul_engine::report::counters::Totals;
use bulkhaul_formats::codec::Codec;
use bulkhaul_formats::digest::PART_BYTES;
use bulkhaul_formats::progress::{self, Progress, Ranges};
use bulkhaul_sys::Errno;
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};
use rustix::process::{Pid, Signal, kill_process};

use crate::compress::{content_of, files, text};
use crate::faults::assert_none;
use crate::rig::fault::{again, each, exhaustive, finish, order, say, stopped};
use crate::rig::{NOBODY, Scratch, Tree, apart, compare, content, contents, copy, has_staging, must, options, root};

const MIB: u64 = 1 << 20;
/// Two chunks and a bit.
const SIZE: u64 = 2 * CHUNK_BYTES + 5000;

/// Content that differs from place to place.
fn big(tree: &Tree, name: &str, size: u64) {
    repeat(tree, name, size, &content(5, usize::try_from(MIB).unwrap() + 7));
}

fn repeat(tree: &Tree, name: &str, size: u64, block: &[u8]) {
    let file = File::create(tree.at(name)).unwrap();
    let mut at = 0;
    while at < size {
        let length = usize::try_from((size - at).min(block.len() as u64)).unwrap();
        file.write_all_at(&block[..length], at).unwrap();
        at += length as u64;
    }
    tree.time(name, 1_500_000_000, 1);
}

/// The one file below a directory that is longer than it is to be, or has a staging name and is not empty.
fn begun(below: &Path, size: u64) -> Option<PathBuf> {
    let mut left = vec![below.to_owned()];
    while let Some(path) = left.pop() {
        let about = fs::symlink_metadata(&path).ok()?;
        let staged = path.file_name().unwrap().to_str().unwrap().starts_with(".bh-");
        if about.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if about.is_file() && about.len() > if staged { 0 } else { size } {
            return Some(path);
        }
    }
    None
}

/// What a file that was begun says of itself.
fn record(file: &Path, size: u64) -> Option<Progress> {
    let mut places = Vec::new();
    let file = File::open(file).unwrap();
    let at = progress::base(size).unwrap();
    let rest = file.metadata().unwrap().len().saturating_sub(at);
    places.resize(usize::try_from(rest).unwrap(), 0);
    file.read_exact_at(&mut places, at).unwrap();
    progress::newest(&places)
}

/// Two places for a copy: one is there, the other is made.
const PLACES: [&str; 2] = ["existing/to", "new"];

fn place(scratch: &Scratch, name: &str) -> PathBuf {
    if name == PLACES[0] {
        fs::create_dir_all(scratch.at(name)).unwrap();
    }
    scratch.at(name)
}

/// In the child: a copy of what is in `words[0]` to `words[1]`, in this manner, with this plan.
fn child(words: &[String], jobs: usize, plan: Option<Plan>) {
    let manner = words[2].as_str();
    let options = CopyOptions {
        jobs,
        verify: manner == "verify",
        remove_sources: ["move", "mv"].contains(&manner),
        replace: manner != "mv",
        entry_events: false,
        ..options(&[contents(&words[0])], &words[1])
    };
    let job = bulkhaul_engine::copy::job(options).unwrap();
    failpoint::arm(plan);
    let report = job.run().unwrap();
    let calls = failpoint::disarm();
    assert!(report.is_complete(), "{report:?}");
    for call in calls {
        say(&format!("call {call:?}"));
    }
}

fn words(source: &Path, to: &Path, rest: &[&str]) -> Vec<String> {
    let paths = [source, to].map(|path| path.display().to_string());
    paths
        .into_iter()
        .chain(rest.iter().map(|word| (*word).to_owned()))
        .collect()
}

/// Bytes that a process has read and written so far.
fn moved(process: u32) -> [u64; 2] {
    let text = fs::read_to_string(format!("/proc/{process}/io")).unwrap_or_default();
    ["rchar: ", "wchar: "].map(|what| {
        let line = text.lines().find_map(|line| line.strip_prefix(what));
        line.map_or(0, |number| number.parse().unwrap())
    })
}

/// Killed again and again until it is done: what is there, and what is proved, never becomes less, and little is written
/// twice.
#[test]
fn killed_until_done() {
    const TEST: &str = "resume::killed_until_done";
    if let Some(words) = order() {
        return child(&words, 2, None);
    }
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    let size = 384 * MIB + 12_345;
    big(&source, "big", size);
    for name in PLACES {
        for manner in ["plain", "verify"] {
            let to = place(&scratch, name);
            let what = format!("{name} {manner}");
            let (mut there, mut all, mut kills) = ([0; 2], 0, 0_u64);
            loop {
                let log = scratch.at("log");
                let mut run = again(TEST, &words(source.path(), &to, &[manner]), &log)
                    .spawn()
                    .unwrap();
                // After so much was read and written, another time each time, wherever that is.
                let most = (48 + kills * 7 % 40) * MIB;
                let ended = loop {
                    if let Some(status) = run.try_wait().unwrap() {
                        assert!(status.success(), "{what}: {}", fs::read_to_string(&log).unwrap());
                        break true;
                    }
                    if moved(run.id()).iter().sum::<u64>() >= most {
                        break false;
                    }
                    std::thread::yield_now();
                };
                if ended {
                    break;
                }
                let id = Pid::from_child(&run);
                kill_process(id, Signal::STOP).unwrap();
                let now = stopped(&mut run).then(|| begun(scratch.path(), size)).flatten();
                let Some(now) = now.and_then(|file| record(&file, size)) else {
                    // It has all there is to it, and is about to get its name, or has it.
                    if kill_process(id, Signal::CONT).is_err() {
                        println!("{what}: it has ended");
                    }
                    assert!(run.wait().unwrap().success(), "{what}");
                    break;
                };
                all += moved(run.id())[1];
                run.kill().unwrap();
                run.wait().unwrap();
                kills += 1;
                let now = [&now.done, &now.proved].map(Ranges::bytes);
                let whole = [size, if manner == "verify" { size } else { 0 }];
                assert!(now > there || now == whole, "{what}: {now:?} after {there:?}");
                assert!(
                    now[1] >= there[1] && now[1] <= now[0],
                    "{what}: {now:?} after {there:?}"
                );
                assert!(kills < 100, "{what}: {there:?} of {size} are there");
                there = now;
            }
            all += size - there[0];
            println!(
                "{what}: {kills} kills, {:.2} times its bytes were written",
                all as f64 / size as f64
            );
            assert!(kills > 0, "{what}");
            assert!(all <= size / 5 * 6, "{what}: {all} of {size}");
            assert!(!has_staging(scratch.path()), "{what}");
            compare(source.path(), &to);
            fs::remove_dir_all(&to).unwrap();
        }
    }
}

/// The process dies at every call of a copy of a big file, or at every few of them.
#[test]
fn death_at_every_call() {
    const TEST: &str = "resume::death_at_every_call";
    if let Some(words) = order() {
        let plan = words[3].parse().ok().map(|nth| Plan {
            call: None,
            nth,
            count: 1,
            effect: Effect::Exit,
        });
        return child(&words, 1, plan);
    }
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    big(&source, "big", SIZE);
    let mut points = Vec::new();
    for name in PLACES {
        for manner in ["plain", "verify"] {
            let to = place(&scratch, name);
            let log = scratch.at("log");
            let (code, text) = finish(again(TEST, &words(source.path(), &to, &[manner, "-"]), &log), &log);
            assert_eq!(code, Some(0), "{text}");
            let calls = text.lines().filter(|line| line.starts_with("call ")).count();
            fs::remove_dir_all(&to).unwrap();
            let step = if exhaustive() { 1 } else { 13 };
            points.extend((0..calls).step_by(step).map(|nth| (name, manner, nth)));
        }
    }
    let wrong = each(points.len(), |index| {
        let (name, manner, nth) = points[index];
        let base = scratch.at(&format!("point-{index}"));
        let to = base.join(name);
        fs::create_dir_all(if name == PLACES[0] { &to } else { &base }).unwrap();
        let log = scratch.at(&format!("log-{index}"));
        let (code, text) = finish(
            again(TEST, &words(source.path(), &to, &[manner, &nth.to_string()]), &log),
            &log,
        );
        let mut wrong = Vec::new();
        // The clock decides how many records there are: the last calls may not come.
        if code != Some(99) && !(code == Some(0) && text.contains("call ")) {
            wrong.push(format!("{code:?} {text}"));
        }
        let same = || fs::read(to.join("big")).unwrap() == fs::read(source.at("big")).unwrap();
        if to.join("big").exists() && !same() {
            wrong.push("it is not complete, and has its name".into());
        }
        let there = begun(&base, SIZE).and_then(|file| record(&file, SIZE));
        let there = there.map_or(0, |record| record.done.bytes());
        let next = copy(&[contents(source.path())], &to, |o| o.verify = manner == "verify");
        let totals = next.report.totals;
        // A part of a block is copied again.
        if !next.report.is_complete() || totals.resumed_bytes + 4096 < there {
            wrong.push(format!("{there} were there: {next:?} {totals:?}"));
        }
        if has_staging(&base) || !same() {
            wrong.push("the next run did not make it good".into());
        }
        fs::remove_dir_all(&base).unwrap();
        wrong
            .iter()
            .map(|what| format!("{name} {manner} call {nth}: {what}"))
            .collect()
    });
    println!("{} points tried", points.len());
    assert_none(&wrong);
}

/// What has happened, whether the next run goes on, and how it is done.
type Case = (&'static str, bool, fn(&Half));

/// A destination with the first half of a big file, of a run that died.
struct Half {
    scratch: Scratch,
    source: Tree,
    to: PathBuf,
    file: PathBuf,
}

impl Half {
    fn of(test: &str, name: &str, manner: &str, lay: impl Fn(&Tree)) -> Self {
        Self::when(test, name, &[manner], lay)
    }

    /// The same with more to say to the child.
    fn when(test: &str, name: &str, manner: &[&str], lay: impl Fn(&Tree)) -> Self {
        let scratch = Scratch::new();
        let source = scratch.tree("source");
        lay(&source);
        let to = place(&scratch, name);
        let log = scratch.at("log");
        let (code, said) = finish(again(test, &words(source.path(), &to, manner), &log), &log);
        assert_eq!(code, Some(99), "{said}");
        let file = begun(scratch.path(), SIZE).unwrap();
        Self {
            scratch,
            source,
            to,
            file,
        }
    }

    fn there(&self) -> u64 {
        record(&self.file, self.source.at("big").metadata().unwrap().len()).map_or(0, |record| record.done.bytes())
    }

    /// The next run, which must make it good.
    fn again(&self, change: impl FnOnce(&mut CopyOptions)) -> Totals {
        let next = copy(&[contents(self.source.path())], &self.to, change).complete();
        next.report.totals
    }
}

/// In the child: dies in the middle.
fn die_halfway(words: &[String]) {
    let plan = Plan {
        call: Some(Call::Write),
        nth: 50,
        count: 1,
        effect: Effect::Exit,
    };
    child(words, 1, Some(plan));
}

/// Changes the beginnings of both records; `change` is told how far from the first one each lies.
fn at_slots(half: &Half, change: impl Fn(&mut [u8], u64)) {
    let file = File::options().read(true).write(true).open(&half.file).unwrap();
    let base = progress::base(SIZE).unwrap();
    for slot in [base, base + progress::SLOT_BYTES] {
        let mut head = [0; 64];
        file.read_exact_at(&mut head, slot).unwrap();
        change(&mut head, slot - base);
        file.write_all_at(&head, slot).unwrap();
    }
}

/// Puts what was begun aside, and something else in its place.
fn replace(half: &Half, with: impl Fn(&Path)) {
    let aside = half.scratch.at("aside");
    fs::rename(&half.file, &aside).unwrap();
    with(&aside);
}

/// What may have happened between two runs: whether the second still goes on where the first was.
#[test]
fn only_where_it_is_sure() {
    const TEST: &str = "resume::only_where_it_is_sure";
    if let Some(words) = order() {
        return die_halfway(&words);
    }
    let cases: [Case; 16] = [
        ("nothing", true, |_| {}),
        ("the older record is spoilt", true, |h| {
            let newest = record(&h.file, SIZE).unwrap().slot();
            at_slots(h, |bytes, slot| bytes[9] ^= u8::from(slot != newest));
        }),
        ("the newer record is spoilt", true, |h| {
            let newest = record(&h.file, SIZE).unwrap().slot();
            at_slots(h, |bytes, slot| bytes[9] ^= u8::from(slot == newest));
        }),
        ("both records are spoilt", false, |h| {
            at_slots(h, |bytes, _| bytes[60] ^= 1);
        }),
        ("the source grows", false, |h| {
            big(&h.source, "big", SIZE + 1);
        }),
        ("the source has other content", false, |h| {
            let file = File::options().write(true).open(h.source.at("big")).unwrap();
            file.write_all_at(b"other", 1000).unwrap();
            h.source.time("big", 1_500_000_000, 1);
        }),
        ("the source has another time", false, |h| {
            h.source.time("big", 1_500_000_000, 2);
        }),
        (
            "the source was changed in nothing that is seen but its time of change",
            false,
            |h| {
                h.source.mode("big", 0o644);
            },
        ),
        ("the source is another file", false, |h| {
            let (from, to) = (h.source.at("big"), h.source.at("second"));
            must("cp", &[&"-p", &from, &to]);
            fs::rename(&to, &from).unwrap();
        }),
        ("it was cut", false, |h| {
            File::options()
                .write(true)
                .open(&h.file)
                .unwrap()
                .set_len(SIZE / 2)
                .unwrap();
        }),
        ("it was cut before its records", false, |h| {
            let base = progress::base(SIZE).unwrap();
            File::options()
                .write(true)
                .open(&h.file)
                .unwrap()
                .set_len(base)
                .unwrap();
        }),
        ("a copy is in its place", false, |h| {
            replace(h, |aside| drop(must("cp", &[&"-p", &aside, &h.file])));
        }),
        ("it has another name", false, |h| {
            fs::hard_link(&h.file, h.scratch.at("other")).unwrap();
        }),
        ("somebody else's file is in its place", false, |h| {
            must("chown", &[&"1001", &h.file]);
        }),
        ("its mode is another", false, |h| {
            must("chmod", &[&"640", &h.file]);
        }),
        ("a symlink is in its place", false, |h| {
            replace(h, |aside| std::os::unix::fs::symlink(aside, &h.file).unwrap());
        }),
    ];
    if !root() {
        return;
    }
    for name in PLACES {
        for (what, goes_on, happen) in cases {
            let half = Half::of(TEST, name, "plain", |tree| big(tree, "big", SIZE));
            let there = half.there();
            assert!(there > MIB && there < SIZE, "{there}");
            happen(&half);
            let totals = half.again(|_| {});
            let what = format!("{name}: {what}: {totals:?}");
            assert_eq!(
                (totals.resumed_bytes > 0, totals.resumed_files > 0),
                (goes_on, goes_on),
                "{what}"
            );
            let size = half.source.at("big").metadata().unwrap().len();
            assert_eq!(totals.resumed_bytes + totals.copied_bytes, size, "{what}");
            let stays = what.contains("somebody else's file") && name == PLACES[0];
            let stays = stays || (name == PLACES[0] && ["another name", "a symlink"].iter().any(|w| what.contains(w)));
            assert_eq!(has_staging(half.scratch.path()), stays, "{what}");
            if stays {
                fs::remove_file(&half.file).unwrap();
            }
            must("cmp", &[&half.source.at("big"), &half.to.join("big")]);
        }
    }
}

/// A move that replaces nothing goes on with what a dead one has left where nobody saw it: that is nobody's.
#[test]
fn a_move_that_replaces_nothing_goes_on() {
    const TEST: &str = "resume::a_move_that_replaces_nothing_goes_on";
    if let Some(words) = order() {
        return die_halfway(&words);
    }
    for name in PLACES {
        let half = Half::of(TEST, name, "mv", |tree| big(tree, "big", SIZE));
        let kept = half.scratch.at("kept");
        must("cp", &[&half.source.at("big"), &kept]);
        let totals = half.again(|o| (o.remove_sources, o.replace) = (true, false));
        assert_eq!(totals.resumed_files, 1, "{name}: {totals:?}");
        must("cmp", &[&kept, &half.to.join("big")]);
        assert!(!half.source.at("big").exists() && !has_staging(&half.to), "{name}");
    }
}

/// What a dead run has left where nobody saw it, and this one comes to nothing with, is not there when its directory appears.
#[test]
fn what_comes_to_nothing_is_not_there() {
    const TEST: &str = "resume::what_comes_to_nothing_is_not_there";
    if let Some(words) = order() {
        return die_halfway(&words);
    }
    apart(
        TEST,
        NOBODY,
        |scratch| {
            scratch.tree("theirs").owner("", 65534, 65534);
        },
        |at| {
            let base = at.join("theirs");
            let (source, to, log) = (Tree::new(base.join("source")), base.join("new"), base.join("log"));
            big(&source, "big", SIZE);
            source.file("small", "x");
            let words = words(source.path(), &to, &["plain"]);
            let (code, said) = finish(again(TEST, &words, &log), &log);
            assert_eq!(code, Some(99), "{said}");
            assert!(begun(&base, SIZE).is_some());
            source.mode("big", 0);
            let report = copy(&[contents(source.path())], &to, |_| {}).report;
            assert_eq!(report.failures.len(), 1, "{report:?}");
            assert_eq!(Tree::new(to.clone()).names(), ["small"]);
            source.mode("big", 0o644);
            assert!(copy(&[contents(source.path())], &to, |_| {}).report.is_complete());
            compare(source.path(), &to);
        },
        |_| {},
    );
}

/// In the child: dies when all content is there, and no ledger any more: before the time, or before the name.
fn die_after_the_ledger(words: &[String]) {
    let call = if words[3] == "time" {
        Call::SetTimes
    } else {
        Call::Rename
    };
    let plan = Plan {
        call: Some(call),
        nth: 0,
        count: 1,
        effect: Effect::Exit,
    };
    child(words, 1, Some(plan));
}

/// The same by somebody who may not write into what has the mode of its source already: it is gone on with, too.
#[test]
fn killed_after_the_ledger_by_whoever_may_not_write() {
    const TEST: &str = "resume::killed_after_the_ledger_by_whoever_may_not_write";
    if let Some(words) = order() {
        return die_after_the_ledger(&words);
    }
    apart(
        TEST,
        NOBODY,
        |scratch| {
            scratch.tree("theirs").owner("", 65534, 65534);
        },
        |at| {
            for moment in ["time", "name"] {
                let base = at.join("theirs").join(moment);
                let (source, to) = (Tree::new(base.join("source")), base.join("to"));
                fs::create_dir_all(source.path()).unwrap();
                fs::create_dir(&to).unwrap();
                big(&source, "big", SIZE);
                source.mode("big", 0o444);
                let log = base.join("log");
                let words = words(source.path(), &to, &["plain", moment]);
                let (code, said) = finish(again(TEST, &words, &log), &log);
                assert_eq!(code, Some(99), "{moment}: {said}");
                let left = begun(&to, SIZE).unwrap().metadata().unwrap();
                assert_eq!((left.len(), left.mode() & 0o777), (SIZE, 0o444), "{moment}");
                let totals = copy(&[contents(source.path())], &to, |_| {}).complete().report.totals;
                assert_eq!((totals.resumed_bytes, totals.copied_bytes), (SIZE, 0), "{moment}");
                assert!(!has_staging(&to), "{moment}");
                compare(source.path(), &to);
            }
        },
        |_| {},
    );
}

/// The process dies when all content is there, and no ledger any more: before the time, and before the name. What is there is
/// compared, and not written again; it has the metadata of the source as it is then.
#[test]
fn killed_after_the_ledger() {
    const TEST: &str = "resume::killed_after_the_ledger";
    const OWNER: u32 = 1001;
    if let Some(words) = order() {
        return die_after_the_ledger(&words);
    }
    if !root() {
        return;
    }
    // What has happened meanwhile, and whether what is there is its content.
    let cases: [Case; 4] = [
        ("nothing", true, |_| {}),
        ("the source has lost an attribute", true, |h| {
            must("setfattr", &[&"-x", &"user.old", &h.source.at("big")]);
        }),
        ("the source has other content", false, |h| {
            let file = File::options().write(true).open(h.source.at("big")).unwrap();
            file.write_all_at(b"other", SIZE - 5).unwrap();
            h.source.time("big", 1_500_000_000, 1);
        }),
        ("the source is longer", false, |h| big(&h.source, "big", SIZE + 1)),
    ];
    for moment in ["time", "name"] {
        for (what, goes_on, happen) in cases {
            for manner in ["plain", "verify"] {
                let half = Half::when(TEST, PLACES[0], &[manner, moment], |tree| {
                    big(tree, "big", SIZE);
                    tree.xattr("big", "user.old", b"here").owner("big", OWNER, OWNER);
                    tree.time("big", 1_500_000_000, 1);
                });
                let what = format!("{moment}, {manner}: {what}");
                let left = half.file.metadata().unwrap();
                assert_eq!((left.len(), left.uid()), (SIZE, OWNER), "{what}");
                happen(&half);
                let totals = half.again(|o| o.verify = manner == "verify");
                let size = half.source.at("big").metadata().unwrap().len();
                let there = if goes_on { SIZE } else { 0 };
                assert_eq!(
                    (totals.resumed_files, totals.resumed_bytes, totals.copied_bytes),
                    (u64::from(goes_on), there, size - there),
                    "{what}"
                );
                assert!(!has_staging(half.scratch.path()), "{what}");
                compare(half.source.path(), &half.to);
            }
        }
    }
}

/// A run that lives holds what it has begun: another one makes its own.
#[test]
fn two_runs_at_once() {
    const TEST: &str = "resume::two_runs_at_once";
    if let Some(words) = order() {
        return die_halfway(&words);
    }
    let half = Half::of(TEST, PLACES[0], "plain", |tree| big(tree, "big", SIZE));
    let held = File::open(&half.file).unwrap();
    held.lock().unwrap();
    let there = half.there();
    let totals = half.again(|_| {});
    assert_eq!((totals.resumed_bytes, half.there()), (0, there));
    fs::remove_file(half.to.join("big")).unwrap();
    // A tree that holds it is not removed under it.
    let keep = half.scratch.tree("empty");
    keep.file("other", "x");
    let swept = copy(&[contents(keep.path())], half.to.parent().unwrap(), |o| {
        o.remove_extra = true;
    });
    assert!(half.file.exists(), "{swept:?}");
    // A program that is just being started has the descriptor too: closing alone would leave it the lock.
    held.unlock().unwrap();
    assert!(half.again(|_| {}).resumed_bytes > 0);
    assert!(!has_staging(half.scratch.path()));
    fs::remove_file(half.to.join("big")).unwrap();
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| half.again(|o| o.verify = true)))
            .collect();
        for run in runs {
            assert!(run.join().unwrap().verified_bytes >= SIZE);
        }
    });
    assert!(!has_staging(half.scratch.path()));
    compare(half.source.path(), &half.to);
}

/// What is there is proved with the rest; where it is not the source's, all of it is copied again.
#[test]
fn what_was_there_is_proved() {
    const TEST: &str = "resume::what_was_there_is_proved";
    if let Some(words) = order() {
        return die_halfway(&words);
    }
    for (manner, name) in [("verify", PLACES[0]), ("verify", PLACES[1]), ("move", PLACES[0])] {
        for spoilt in [false, true] {
            let half = Half::of(TEST, name, manner, |tree| big(tree, "big", SIZE));
            let wanted = fs::read(half.source.at("big")).unwrap();
            if spoilt {
                let file = File::options().read(true).write(true).open(&half.file).unwrap();
                let mut byte = [0];
                file.read_exact_at(&mut byte, 4000).unwrap();
                file.write_all_at(&[byte[0] ^ 1], 4000).unwrap();
            }
            let change = |o: &mut CopyOptions| {
                o.verify = manner == "verify";
                o.remove_sources = manner == "move";
            };
            let what = format!("{manner} {name}, spoilt: {spoilt}");
            if manner == "move" && spoilt {
                // Nobody has asked for a proof of the copy, but the source goes only with one.
                let next = copy(&[contents(half.source.path())], &half.to, change);
                assert!(
                    !next.report.is_complete() && half.source.at("big").exists(),
                    "{what}: {next:?}"
                );
                continue;
            }
            let totals = half.again(change);
            assert!(totals.resumed_bytes > 0, "{what}");
            let written = if spoilt { SIZE } else { 0 } + SIZE - totals.resumed_bytes;
            assert_eq!(totals.copied_bytes, written, "{what}");
            assert!(fs::read(half.to.join("big")).unwrap() == wanted, "{what}");
            assert_eq!(half.source.at("big").exists(), manner == "verify", "{what}");
            assert!(!has_staging(half.scratch.path()), "{what}");
        }
    }
}

/// Holes stay holes, whichever run comes to them.
#[test]
fn holes_are_kept() {
    const TEST: &str = "resume::holes_are_kept";
    if let Some(words) = order() {
        let plan = Plan {
            call: Some(Call::SeekData),
            nth: 3,
            count: 1,
            effect: Effect::Exit,
        };
        return child(&words, 1, Some(plan));
    }
    for name in PLACES {
        let half = Half::of(TEST, name, "plain", |tree| {
            let file = File::create(tree.at("big")).unwrap();
            file.set_len(40 * CHUNK_BYTES + 1).unwrap();
            for at in [CHUNK_BYTES - 5000, 7 * CHUNK_BYTES, 30 * CHUNK_BYTES + 77] {
                file.write_all_at(&content(9, 70_000), at).unwrap();
            }
            tree.time("big", 1_500_000_000, 1);
        });
        let totals = half.again(|_| {});
        assert!(totals.resumed_bytes > 0, "{totals:?}");
        compare(half.source.path(), &half.to);
        let blocks = |path: PathBuf| path.metadata().unwrap().blocks();
        assert!(blocks(half.to.join("big")) <= blocks(half.source.at("big")) + 64);
    }
}

/// Whatever call fails once, and wherever there are no locks: what has its name is complete, and the next run makes it good.
#[test]
fn every_call_fails() {
    const TEST: &str = "resume::every_call_fails";
    const ERRNOS: [Errno; 4] = [Errno::IO, Errno::NOSPC, Errno::ACCESS, Errno::MFILE];
    if let Some(words) = order() {
        let number: usize = words[3].parse().unwrap();
        let plan = match words[4].as_str() {
            "locks" => Plan {
                call: Some(Call::Lock),
                nth: 0,
                count: usize::MAX,
                effect: Effect::Errno(Errno::NOSYS),
            },
            _ => Plan {
                call: None,
                nth: number,
                count: 1,
                effect: Effect::Errno(ERRNOS[number % ERRNOS.len()]),
            },
        };
        let options = CopyOptions {
            jobs: 1,
            verify: words[2] == "verify",
            entry_events: false,
            ..options(&[contents(&words[0])], &words[1])
        };
        let job = bulkhaul_engine::copy::job(options).unwrap();
        failpoint::arm(Some(plan));
        let result = job.run();
        let calls = failpoint::disarm().len();
        say(&format!("calls {calls}"));
        return match result {
            Ok(report) if report.is_complete() => say("complete"),
            Ok(report) => {
                assert!(!report.failures.is_empty() && report.accounted, "{report:?}");
                say("failed");
            }
            Err(refusal) => say(&format!("refused {refusal}")),
        };
    }
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    big(&source, "big", SIZE);
    let attempt = |base: &Path, name: &str, manner: &str, nth: usize, how: &str| {
        let to = base.join(name);
        fs::create_dir_all(if name == PLACES[0] { &to } else { base }).unwrap();
        let log = base.join("log");
        let words = words(source.path(), &to, &[manner, &nth.to_string(), how]);
        let (code, text) = finish(again(TEST, &words, &log), &log);
        let mut wrong = Vec::new();
        let same = || fs::read(to.join("big")).unwrap() == fs::read(source.at("big")).unwrap();
        if code != Some(0) || (text.contains("complete\n") && !to.join("big").exists()) {
            wrong.push(format!("{code:?} {text}"));
        }
        if to.join("big").exists() && !same() {
            wrong.push("it is not complete, and has its name".into());
        }
        if how == "locks" && (has_staging(base) || !text.contains("complete\n")) {
            wrong.push(format!("without locks: {text}"));
        }
        let next = copy(&[contents(source.path())], &to, |_| {});
        if !next.report.is_complete() || has_staging(base) || !same() {
            wrong.push(format!("the next run did not make it good: {next:?}"));
        }
        fs::remove_dir_all(base).unwrap();
        let calls = text.split("calls ").nth(1).and_then(|rest| rest.lines().next());
        let wrong = wrong
            .iter()
            .map(|what| format!("{name} {manner} call {nth} {how}: {what}"));
        (
            calls.map_or(0, |calls| calls.parse().unwrap()),
            wrong.collect::<Vec<_>>(),
        )
    };
    let mut points = Vec::new();
    for name in PLACES {
        for manner in ["plain", "verify"] {
            let (calls, wrong): (usize, _) = attempt(&scratch.at("count"), name, manner, 0, "locks");
            assert_none(&wrong);
            let step = if exhaustive() { 1 } else { 13 };
            points.extend((0..calls).step_by(step).map(|nth| (name, manner, nth)));
        }
    }
    let wrong = each(points.len(), |index| {
        let (name, manner, nth) = points[index];
        attempt(&scratch.at(&format!("point-{index}")), name, manner, nth, "once").1
    });
    println!("{} points tried", points.len());
    assert_none(&wrong);
}

/// There is just room for the content: the ledger gives way.
#[test]
fn without_room_for_the_ledger() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    big(&source, "big", SIZE.next_multiple_of(4096));
    for spare in [0, 1] {
        // A new one each time: a program that is just being started may still have files open that were removed.
        let Some(small) = scratch.file_system("tmpfs", "") else {
            return;
        };
        let filler = File::create(small.join("filler")).unwrap();
        let free = {
            let text = must("stat", &[&"-f", &"-c", &"%a", &small]);
            text.trim().parse::<u64>().unwrap() * 4096
        };
        // The blocks of the content, and of the directory's own nothing.
        let length = free - SIZE.next_multiple_of(4096) - spare * 4096;
        let block = vec![1; usize::try_from(MIB).unwrap()];
        let mut at = 0;
        while at < length {
            let part = usize::try_from((length - at).min(MIB)).unwrap();
            filler.write_all_at(&block[..part], at).unwrap();
            at += part as u64;
        }
        copy(&[contents(source.path())], small.join("to"), |_| {}).complete();
        compare(source.path(), &small.join("to"));
    }
}

/// A file may be as long as this process may make it, and not by a ledger longer.
#[test]
fn up_to_the_limit_of_a_file() {
    let limit = format!("--fsize={SIZE}");
    crate::rig::apart(
        "resume::up_to_the_limit_of_a_file",
        &["prlimit", &limit],
        |scratch| big(&scratch.tree("source"), "big", SIZE),
        |at| drop(copy(&[contents(at.join("source"))], at.join("to"), |_| {}).complete()),
        |scratch| compare(&scratch.at("source"), &scratch.at("to")),
    );
}

/// What others have gathered becomes the copy, with what belongs to it; what is of another version, or is no whole file, does
/// not, and stays.
#[test]
fn what_was_gathered_becomes_the_copy() {
    for (wrong_version, missing, verify) in [(0, 0, false), (0, 0, true), (1, 0, false), (0, 1, false)] {
        let scratch = Scratch::new();
        let source = scratch.tree("source");
        big(&source, "big", SIZE);
        must("chmod", &[&"640", &source.at("big")]);
        let to = scratch.tree("to");
        fs::copy(source.at("big"), to.at("gathered")).unwrap();
        let gathered = File::options().write(true).open(to.at("gathered")).unwrap();
        gathered.set_len(SIZE - missing).unwrap();
        gathered
            .set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        let inode = gathered.metadata().unwrap().ino();
        let list = scratch.at("list");
        fs::write(&list, "big\0").unwrap();
        let about = fs::metadata(source.at("big")).unwrap();
        let version = format!(
            "{} {SIZE} {} {}",
            about.ino(),
            about.mtime() * 1_000_000_000 + about.mtime_nsec() + wrong_version,
            about.ctime() * 1_000_000_000 + about.ctime_nsec()
        );
        let done = copy(&[contents(source.path())], to.path(), |o| {
            o.verify = verify;
            o.files_from = Some(FilesFrom {
                path: list.as_os_str().as_encoded_bytes().to_vec(),
                nul: true,
                contents: false,
            });
            o.gathered = Some(Gathered {
                name: b"gathered".to_vec(),
                version,
            });
        })
        .complete();
        let taken = wrong_version + i64::try_from(missing).unwrap() == 0;
        assert_eq!(fs::metadata(to.at("big")).unwrap().ino() == inode, taken);
        assert_eq!(to.at("gathered").exists(), !taken);
        let copied = if taken { 0 } else { SIZE };
        assert_eq!(done.report.totals.copied_bytes, copied);
        must("rm", &[&"-f", &to.at("gathered")]);
        must("touch", &[&"-r", &source.path(), &to.path()]);
        compare(source.path(), to.path());
    }
}

/// How an archive of a big file is made in a test: in place, or on its way to one of [`PLACES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Manner {
    place: &'static str,
    format: Format,
    level: u32,
    index: bool,
}

const IN_PLACE: &str = "source";

impl Manner {
    fn new(place: &'static str, format: Format) -> Self {
        Self {
            place,
            format,
            level: 1,
            index: format == Format::Bgzf,
        }
    }

    /// In a base that has the source, as [`Manner::lay_out`] leaves it.
    fn job(self, base: &Path, jobs: usize) -> bulkhaul_engine::job::Job {
        let (format, level, index) = (self.format, Some(self.level), self.index);
        let source = base.join("source");
        if self.place == IN_PLACE {
            let mut files = files(&source);
            (files.jobs, files.entry_events) = (jobs, false);
            return compression(CompressOptions {
                files,
                format,
                level,
                index,
                ..CompressOptions::default()
            })
            .unwrap();
        }
        let packing = Packing {
            format,
            level,
            extensions: vec![b"tsv".to_vec()],
            min_size: 0,
            index,
            memory: None,
            replace: true,
            verify_source: false,
        };
        bulkhaul_engine::copy::job(CopyOptions {
            jobs,
            verify: true,
            entry_events: false,
            packing: Some(packing),
            ..options(&[contents(&source)], base.join(self.place))
        })
        .unwrap()
    }

    fn run(self, base: &Path) -> Report {
        self.job(base, 2).run().unwrap()
    }

    fn lay_out(self, base: &Path) {
        // It becomes smaller, and quickly.
        let block = text(5, usize::try_from(MIB).unwrap() + 7);
        repeat(&Tree::new(base.join("source")), "big.tsv", SIZE, &block);
        if self.place == PLACES[0] {
            fs::create_dir_all(base.join(self.place)).unwrap();
        }
    }

    fn archive(self, base: &Path) -> PathBuf {
        base.join(self.place).join(format!("big.tsv{}", self.format.suffix()))
    }

    /// What the archive that was begun says of itself.
    fn record(self, base: &Path) -> Option<Progress> {
        let room = Codec::new(self.format, None).unwrap().most_bytes(SIZE);
        begun(base, SIZE).and_then(|file| record(&file, room))
    }

    /// The words of a child that dies, which has to begin with [`die_packing`].
    fn words(self, base: &Path, call: &str, nth: usize) -> [String; 6] {
        let format = Format::ALL.iter().position(|format| *format == self.format).unwrap();
        let place = [IN_PLACE, PLACES[0], PLACES[1]].iter().position(|p| *p == self.place);
        [
            base.display().to_string(),
            place.unwrap().to_string(),
            format.to_string(),
            self.level.to_string(),
            call.to_owned(),
            nth.to_string(),
        ]
    }

    /// What is wrong when it is done: `wanted`, the archive that an undisturbed run makes.
    fn wrong(self, base: &Path, wanted: &[u8]) -> Option<String> {
        let archive = self.archive(base);
        if fs::read(&archive).ok().as_deref() != Some(wanted) {
            return Some("the archive is another".into());
        }
        if self.index {
            let part = must("bgzip", &[&"-b", &"33000000", &"-s", &"20", &archive]);
            let content = content_of(&archive).unwrap();
            if part.as_bytes() != &content[33_000_000..33_000_020] {
                return Some("the index is another".into());
            }
        }
        if (self.place == IN_PLACE) == base.join("source/big.tsv").exists() {
            return Some("the source is there when it should not, or gone".into());
        }
        has_staging(base).then(|| "something is left".into())
    }
}

/// In the child: makes an archive, and dies on the way.
fn die_packing(words: &[String]) {
    let format = Format::ALL[words[2].parse::<usize>().unwrap()];
    let place = [IN_PLACE, PLACES[0], PLACES[1]][words[1].parse::<usize>().unwrap()];
    let level = words[3].parse().unwrap();
    let manner = Manner {
        level,
        ..Manner::new(place, format)
    };
    let call = match words[4].as_str() {
        "write" => Some(Call::Write),
        "sync" => Some(Call::SyncData),
        _ => None,
    };
    let job = manner.job(Path::new(&words[0]), 1);
    failpoint::arm(words[5].parse().ok().map(|nth| Plan {
        call,
        nth,
        count: 1,
        effect: Effect::Exit,
    }));
    let report = job.run().unwrap();
    let calls = failpoint::disarm();
    assert!(report.is_complete(), "{report:?}");
    say(&format!("calls {}", calls.len()));
}

/// The archive that an undisturbed run makes.
fn archive_of(manner: Manner) -> Vec<u8> {
    let scratch = Scratch::new();
    manner.lay_out(scratch.path());
    assert!(manner.run(scratch.path()).is_complete());
    let archive = fs::read(manner.archive(scratch.path())).unwrap();
    let content = content_of(&manner.archive(scratch.path())).unwrap();
    assert!(content.len() as u64 == SIZE);
    archive
}

/// A big file that is being packed is gone on with where a run that died was, and it is as if none had: in the middle, and
/// where the archive has all its content and is being proved.
#[test]
fn an_archive_is_gone_on_with() {
    const TEST: &str = "resume::an_archive_is_gone_on_with";
    if let Some(words) = order() {
        return die_packing(&words);
    }
    for (format, places) in [
        (Format::Bgzf, &[IN_PLACE, PLACES[0], PLACES[1]][..]),
        (Format::Gzip, &[PLACES[0]]),
        (Format::Xz, &[IN_PLACE]),
        (Format::Zstd, &[PLACES[1]]),
    ] {
        let wanted = archive_of(Manner::new(IN_PLACE, format));
        for place in places {
            let manner = Manner::new(place, format);
            // The third block of the largest ones has just come.
            let points = [("write", 7), ("sync", 0)];
            let both = format == Format::Bgzf && *place == IN_PLACE;
            let points = if both { &points[..] } else { &points[..1] };
            for &(call, nth) in points {
                let scratch = Scratch::new();
                let base = scratch.path();
                manner.lay_out(base);
                let log = scratch.at("log");
                let (code, said) = finish(again(TEST, &manner.words(base, call, nth), &log), &log);
                assert_eq!(code, Some(99), "{said}");
                let what = format!("{manner:?} {call}");
                let there = manner.record(base).unwrap().marks[0].clone().unwrap();
                assert!(call == "write" || there.content == SIZE, "{what}: {there:?}");
                let report = manner.run(base);
                let totals = report.totals;
                assert!(report.is_complete(), "{what}: {report:?}");
                assert_eq!(
                    (totals.resumed_files, totals.resumed_bytes),
                    (1, there.content),
                    "{what}"
                );
                assert_eq!(manner.wrong(base, &wanted), None, "{what}");
            }
        }
    }
}

/// The process dies at every call of a compression of a big file, or at every few of them, and the next one too.
#[test]
fn death_at_every_call_of_a_compression() {
    const TEST: &str = "resume::death_at_every_call_of_a_compression";
    if let Some(words) = order() {
        return die_packing(&words);
    }
    let scratch = Scratch::new();
    let manner = Manner::new(IN_PLACE, Format::Bgzf);
    let wanted = archive_of(manner);
    let (count, log) = (scratch.at("count"), scratch.at("log"));
    manner.lay_out(&count);
    let mut words = manner.words(&count, "any", 0);
    words[5] = "-".into();
    let (code, said) = finish(again(TEST, &words, &log), &log);
    assert_eq!(code, Some(0), "{said}");
    let calls: usize = said
        .split("calls ")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let points: Vec<usize> = (0..calls).step_by(if exhaustive() { 1 } else { 97 }).collect();
    let wrong = each(points.len(), |index| {
        let nth = points[index];
        let base = scratch.at(&format!("point-{index}"));
        manner.lay_out(&base);
        let log = scratch.at(&format!("log-{index}"));
        let mut wrong = Vec::new();
        let mut there = 0;
        for nth in [nth, nth / 2] {
            let (code, said) = finish(again(TEST, &manner.words(&base, "any", nth), &log), &log);
            // The clock decides how many records there are: the last calls may not come.
            if code != Some(99) && !(code == Some(0) && said.contains("calls ")) {
                wrong.push(format!("{code:?} {said}"));
            }
            let now = manner.record(&base).map_or(0, |record| record.done.bytes());
            if now < there && !manner.archive(&base).exists() && nth > 60 {
                wrong.push(format!("{there} bytes were there, {now} are"));
            }
            there = now;
        }
        let report = manner.run(&base);
        if !report.is_complete() || report.totals.resumed_bytes < there {
            wrong.push(format!("{there} were there: {report:?}"));
        }
        wrong.extend(manner.wrong(&base, &wanted));
        fs::remove_dir_all(&base).unwrap();
        wrong.iter().map(|what| format!("call {nth}: {what}")).collect()
    });
    println!("{} points tried", points.len());
    assert_none(&wrong);
}

/// What happens to a source, and to the archive that was begun.
type Change = fn(&Path, &Path, &mut Manner);

/// What may have happened between two runs of a compression: whether the second still goes on where the first was.
#[test]
fn an_archive_is_gone_on_with_only_where_it_is_sure() {
    const TEST: &str = "resume::an_archive_is_gone_on_with_only_where_it_is_sure";
    if let Some(words) = order() {
        return die_packing(&words);
    }
    let cases: [(&str, bool, Format, Change); 6] = [
        ("another level", false, Format::Bgzf, |_, _, manner| manner.level = 2),
        ("another time", false, Format::Bgzf, |base, _, _| {
            Tree::new(base.join("source")).time("big.tsv", 1_500_000_000, 2);
        }),
        ("an index now", true, Format::Bgzf, |_, _, manner| manner.index = true),
        ("no index now", true, Format::Bgzf, |_, _, manner| manner.index = false),
        (
            "the head of its first block is spoilt",
            false,
            Format::Xz,
            |_, file, _| spoil(file, 20),
        ),
        ("its first block is spoilt", true, Format::Bgzf, |_, file, _| {
            spoil(file, 3000);
        }),
    ];
    let mut made: Vec<(Manner, Vec<u8>)> = Vec::new();
    for (what, goes_on, format, change) in cases {
        let scratch = Scratch::new();
        let base = scratch.path();
        let mut manner = Manner::new(IN_PLACE, format);
        manner.lay_out(base);
        let log = scratch.at("log");
        let (code, said) = finish(again(TEST, &manner.words(base, "write", 9), &log), &log);
        assert_eq!(code, Some(99), "{said}");
        change(base, &begun(base, SIZE).unwrap(), &mut manner);
        let report = manner.run(base);
        assert!(report.is_complete(), "{what}: {report:?}");
        assert_eq!(report.totals.resumed_bytes > 0, goes_on, "{what}: {:?}", report.totals);
        let alike = |(other, _): &&(Manner, Vec<u8>)| (other.format, other.level) == (manner.format, manner.level);
        if !made.iter().any(|one| alike(&one)) {
            made.push((manner, archive_of(manner)));
        }
        let (_, wanted) = made.iter().find(alike).unwrap();
        assert_eq!(manner.wrong(base, wanted), None, "{what}");
    }
}

/// Another bit is in a file.
fn spoil(file: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// What was begun of a file that is not there any more goes with the next compression of its directory.
#[test]
fn what_nobody_goes_on_with_goes() {
    const TEST: &str = "resume::what_nobody_goes_on_with_goes";
    if let Some(words) = order() {
        return die_packing(&words);
    }
    let scratch = Scratch::new();
    let (base, log) = (scratch.path(), scratch.at("log"));
    let manner = Manner::new(IN_PLACE, Format::Bgzf);
    manner.lay_out(base);
    let (code, said) = finish(again(TEST, &manner.words(base, "write", 7), &log), &log);
    assert_eq!(code, Some(99), "{said}");
    fs::remove_file(base.join("source/big.tsv")).unwrap();
    Tree::new(base.join("source")).file("small.tsv", vec![b'a'; 5000]);
    assert!(manner.run(base).is_complete());
    assert_eq!(
        Tree::new(base.join("source")).names(),
        ["small.tsv.gz", "small.tsv.gz.gzi"]
    );
}

/// Content that nothing makes smaller, and zeros after it: more than twice as much as its archive has.
const RANDOM: u64 = 20 * MIB;
const ALL: u64 = 56 * MIB;

/// An archive of that in place.
fn lay_out_archive(base: &Path, format: Format) {
    let from = Tree::new(base.join("source"));
    big(&from, "big.tsv", RANDOM);
    File::options()
        .write(true)
        .open(from.at("big.tsv"))
        .unwrap()
        .set_len(ALL)
        .unwrap();
    from.time("big.tsv", 1_500_000_000, 1);
    if format == Format::Xz {
        // Its blocks say how long they are.
        must("xz", &[&"-0", &"-T2", &"--block-size=1MiB", &from.at("big.tsv")]);
        return;
    }
    let manner = Manner {
        level: 1,
        index: false,
        ..Manner::new(IN_PLACE, format)
    };
    assert!(manner.run(base).is_complete());
}

fn unpack(base: &Path, sparse: bool, jobs: usize) -> bulkhaul_engine::job::Job {
    let mut files = files(&base.join("source"));
    (files.jobs, files.entry_events) = (jobs, false);
    decompression(DecompressOptions {
        files,
        sparse,
        ..DecompressOptions::default()
    })
    .unwrap()
}

/// Bytes of content that is there of an archive, as the last record of the file says, in whole parts of its digest.
fn parts_there(base: &Path) -> u64 {
    let Some(path) = begun(base, ALL) else { return 0 };
    let file = File::open(path).unwrap();
    let size = file.metadata().unwrap().len();
    let last = (size - 1) / progress::SLOT_BYTES * progress::SLOT_BYTES;
    let at = last - progress::SLOT_BYTES;
    let mut places = vec![0; usize::try_from(size - at).unwrap()];
    file.read_exact_at(&mut places, at).unwrap();
    let mark = progress::newest(&places).and_then(|record| record.marks[0].clone());
    mark.map_or(0, |mark| mark.blocks * PART_BYTES)
}

/// In the child: unpacks an archive, and dies on the way.
fn die_unpacking(words: &[String]) {
    let call = match words[2].as_str() {
        "write-back" => Call::WriteBack,
        _ => Call::SyncData,
    };
    let job = unpack(Path::new(&words[0]), words[1] == "sparse", 1);
    failpoint::arm(words[3].parse().ok().map(|nth| Plan {
        call: Some(call),
        nth,
        count: 1,
        effect: Effect::Exit,
    }));
    panic!("it lived: {:?}", job.run());
}

/// What is made of a big archive of pieces is gone on with, too: its records have moved on before its content reached them.
#[test]
fn what_is_unpacked_is_gone_on_with() {
    const TEST: &str = "resume::what_is_unpacked_is_gone_on_with";
    if let Some(words) = order() {
        return die_unpacking(&words);
    }
    // Write-back is begun for each eight MiB or little more; where the records moved on, so much was there.
    for (format, how, call, nth, least) in [
        (Format::Bgzf, "plain", "write-back", "5", 32 * MIB),
        (Format::Bgzf, "plain", "sync", "0", 48 * MIB),
        (Format::Bgzf, "other", "write-back", "5", 0),
        (Format::Gzip, "plain", "write-back", "5", 0),
        (Format::Xz, "plain", "write-back", "5", 32 * MIB),
        (Format::Zstd, "sparse", "write-back", "5", 16 * MIB),
    ] {
        let scratch = Scratch::new();
        let (base, log) = (scratch.path(), scratch.at("log"));
        let from = scratch.tree("source");
        lay_out_archive(base, format);
        let archive = from.at(format!("big.tsv{}", format.suffix()));
        let words = [&base.display().to_string(), how, call, nth].map(str::to_owned);
        let (code, said) = finish(again(TEST, &words, &log), &log);
        assert_eq!(code, Some(99), "{said}");
        let what = format!("{format:?} {how} {call}");
        assert!(archive.exists() && !from.at("big.tsv").exists(), "{what}");
        let mut there = parts_there(base);
        assert!(there >= least, "{what}: {there}");
        if how == "other" {
            crate::rig::set_time(&archive, 1_500_000_001, 0);
            there = 0;
        }
        let report = unpack(base, how == "sparse", 2).run().unwrap();
        assert!(report.is_complete(), "{what}: {report:?}");
        assert_eq!(report.totals.resumed_bytes, there, "{what}");
        assert_eq!(from.names(), ["big.tsv"], "{what}");
        let held = fs::read(from.at("big.tsv")).unwrap();
        let (random, zeros) = held.split_at(usize::try_from(RANDOM).unwrap());
        let block = content(5, usize::try_from(MIB).unwrap() + 7);
        assert!(
            random.chunks(block.len()).all(|piece| piece == &block[..piece.len()]),
            "{what}"
        );
        assert!(
            held.len() as u64 == ALL && zeros.iter().all(|byte| *byte == 0),
            "{what}"
        );
        if how == "sparse" {
            assert!(
                fs::metadata(from.at("big.tsv")).unwrap().blocks() * 512 < ALL / 2,
                "{what}"
            );
        }
    }
}

/// What was decoded before is proved with the rest: where it is not there any more as it was, all is made anew.
#[test]
fn what_was_unpacked_is_proved() {
    const TEST: &str = "resume::what_was_unpacked_is_proved";
    if let Some(words) = order() {
        return die_unpacking(&words);
    }
    let scratch = Scratch::new();
    let (base, log) = (scratch.path(), scratch.at("log"));
    let from = scratch.tree("source");
    lay_out_archive(base, Format::Bgzf);
    let words = [&base.display().to_string(), "plain", "write-back", "5"].map(str::to_owned);
    let (code, said) = finish(again(TEST, &words, &log), &log);
    assert_eq!(code, Some(99), "{said}");
    spoil(&begun(base, ALL).unwrap(), 3000);
    let there = parts_there(base);
    let report = unpack(base, false, 2).run().unwrap();
    assert!(report.is_complete() && there > 0, "{report:?}");
    let totals = report.totals;
    assert_eq!((totals.resumed_bytes, totals.copied_bytes), (there, ALL - there + ALL));
    let held = fs::read(from.at("big.tsv")).unwrap();
    assert_eq!(held[..5000], content(5, usize::try_from(MIB).unwrap() + 7)[..5000]);
}
