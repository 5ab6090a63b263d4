//! Calls that lie, media that forget, and sources that change.
//!
//! Calls lie by failpoints in a child process: they answer 0, an error in the middle of a file, less than was asked for,
//! more than was done, a hole where there is data, or a bit that is another. A medium lies when its image is changed under
//! the cache. A source changes while its reader is stopped between two calls. What has to be found by `--verify` is first
//! shown to go unseen without it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bulkhaul_engine::bytes::transfer::Sparse;
use bulkhaul_engine::copy;
use bulkhaul_engine::copy::options::CopyOptions;
use bulkhaul_engine::entry::Outcome;
use bulkhaul_engine::error::symbol;
use bulkhaul_engine::report::Durability;
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};
use bulkhaul_sys::{self as sys, AsFd as _, Errno};

use crate::faults::assert_none;
use crate::power::Disk;
use crate::rig::fault::{again, each, facts, finish, order, say, with_stops};
use crate::rig::{Scratch, Tree, attempt, compare, content, contents, copy, has, must, named, options, root, set_time};

const FOR_GOOD: usize = usize::MAX;
const MIB: u64 = 1 << 20;
/// Bytes that one read gives.
const SHORT: usize = 3000;

/// What comes of a lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// The copy says that it is complete, and it is.
    Whole,
    /// It says so, and it is not: nobody could see this.
    Fooled,
    /// It says what failed, and leaves what was there: kind and operation of the failure.
    Told(&'static str),
}

/// A call that lies.
#[derive(Clone, Copy)]
struct Lie {
    what: &'static str,
    /// Directory of the source.
    source: &'static str,
    change: Change,
    call: Call,
    nth: usize,
    count: usize,
    effect: Effect,
    expected: Expected,
}

impl Lie {
    /// Told by every call of a kind, and of no consequence.
    fn new(what: &'static str, source: &'static str, call: Call, effect: Effect) -> Self {
        Self {
            what,
            source,
            change: as_it_is,
            call,
            nth: 0,
            count: FOR_GOOD,
            effect,
            expected: Expected::Whole,
        }
    }

    /// By one call only.
    fn once(self, nth: usize) -> Self {
        Self { nth, count: 1, ..self }
    }

    /// By a call and all after it.
    fn from(self, nth: usize) -> Self {
        Self { nth, ..self }
    }

    fn with(self, change: Change) -> Self {
        Self { change, ..self }
    }

    fn comes_to(self, expected: Expected) -> Self {
        Self { expected, ..self }
    }
}

fn as_it_is(_: &mut CopyOptions) {}

fn verify(options: &mut CopyOptions) {
    options.verify = true;
}

/// Holes are searched for, so everything is read and written.
fn by_reading(options: &mut CopyOptions) {
    options.sparse = Sparse::Always;
}

type Change = fn(&mut CopyOptions);

/// About copies inside the kernel, and about how much was done.
fn lies_about_amounts() -> Vec<Lie> {
    let nothing = Effect::Answer(0);
    let mut lies = vec![
        Lie::new("copies nothing", "long", Call::CopyRange, nothing),
        Lie::new("copies nothing", "long", Call::CopyRange, nothing).once(0),
        Lie::new("copies nothing", "longer", Call::CopyRange, nothing).from(1),
        Lie::new("copies half", "longer", Call::CopyRange, Effect::Short),
    ];
    for errno in [
        Errno::XDEV,
        Errno::IO,
        Errno::INVAL,
        Errno::NOTSUP,
        Errno::PERM,
        Errno::NOENT,
        Errno::NOSYS,
    ] {
        let fails = Lie::new("fails", "longer", Call::CopyRange, Effect::Errno(errno));
        lies.extend([fails, fails.from(1), fails.once(1)]);
    }
    for change in [by_reading as Change, verify] {
        lies.push(Lie::new("reads half", "long", Call::Read, Effect::Short).with(change));
        lies.push(Lie::new("writes half", "long", Call::Write, Effect::Short).with(change));
    }
    let all = Lie::new("writes half and says all", "long", Call::Write, Effect::Lie);
    lies.push(all.once(1).with(by_reading).comes_to(Expected::Fooled));
    lies.extend((0..3).map(|nth| all.once(nth).with(verify)));
    lies.push(all.with(verify).comes_to(Expected::Told("mismatch verify")));
    lies
}

/// About holes.
fn lies_about_holes() -> Vec<Lie> {
    let (nothing, size) = (Effect::Answer(0), Effect::Answer(2 * MIB));
    let back = Lie::new("goes back", "holes", Call::SeekData, nothing).from(1);
    let mut lies = vec![back.comes_to(Expected::Told("io read"))];
    for change in [as_it_is as Change, by_reading, verify] {
        lies.push(Lie::new("finds no hole", "holes", Call::SeekHole, size).with(change));
        lies.push(Lie::new("finds holes at once", "holes", Call::SeekHole, nothing).with(change));
    }
    for (change, expected) in [(as_it_is as Change, Expected::Fooled), (verify, Expected::Whole)] {
        let over_all = Lie::new("finds a hole over all", "holes", Call::SeekData, size).once(0);
        let some = Lie::new("finds a hole over some", "holes", Call::SeekData, Effect::Answer(MIB)).once(0);
        let to_the_end = Effect::Errno(Errno::NXIO);
        let rest = Lie::new("finds a hole to the end", "holes", Call::SeekData, to_the_end).once(1);
        lies.extend([over_all, some, rest].map(|lie| lie.with(change).comes_to(expected)));
    }
    lies
}

/// About what was read.
fn lies_about_content() -> Vec<Lie> {
    let flips = Lie::new("flips a bit", "long", Call::Read, Effect::Flip);
    let mut lies = vec![flips.once(1).with(by_reading).comes_to(Expected::Fooled)];
    // Three reads to copy, then both are read again.
    lies.extend((0..9).map(|nth| flips.once(nth).with(verify)));
    lies
}

/// About where the source ends: once, and it is read again; always, and it is reported.
fn lies_about_the_end() -> Vec<Lie> {
    let told = Expected::Told("changed read");
    let early = Effect::Answer(0);
    let ways: [(&str, Change, usize); 5] = [
        ("short", as_it_is, 0),
        ("short", verify, 0),
        ("long", by_reading, 1),
        ("long", verify, 2),
        // In chunks.
        ("longer", by_reading, 100),
    ];
    let mut lies = Vec::new();
    for (source, change, nth) in ways {
        let ends = Lie::new("ends early", source, Call::Read, early).with(change);
        lies.extend([ends.once(nth), ends.from(nth).comes_to(told)]);
    }
    // After a copy within the kernel one byte is asked for.
    let more = [("short", SHORT as u64 + 1), ("long", 1)];
    for (source, answer) in more {
        let goes_on = Lie::new("goes on", source, Call::Read, Effect::Answer(answer));
        lies.extend([goes_on.once(0), goes_on.comes_to(told)]);
    }
    lies
}

fn lies() -> Vec<Lie> {
    [
        lies_about_amounts(),
        lies_about_holes(),
        lies_about_content(),
        lies_about_the_end(),
    ]
    .concat()
}

/// In the child: one copy with a plan, and what came of it.
fn copy_armed(source: &Path, to: &Path, change: impl FnOnce(&mut CopyOptions), plan: Plan) {
    let mut options = CopyOptions {
        jobs: 1,
        entry_events: false,
        ..options(&[contents(source)], to)
    };
    change(&mut options);
    let job = copy::job(options).unwrap();
    failpoint::arm(Some(plan));
    let report = job.run().unwrap();
    let calls = failpoint::disarm();
    let counted = calls
        .iter()
        .filter(|c| plan.call.is_none_or(|call| call == **c))
        .count();
    if counted <= plan.nth {
        say("not reached");
    }
    assert!(report.accounted, "{report:?}");
    for failure in &report.failures {
        let errno = failure.errno.map_or_else(|| "-".to_owned(), symbol);
        say(&format!("failed {} {} {errno}", failure.kind, failure.operation.text()));
    }
    let totals = &report.totals;
    say(&format!(
        "complete {}, copied {}, verified {} of which from the cache {}",
        report.is_complete(),
        totals.outcome_of(Outcome::Copied),
        totals.verified_bytes,
        totals.verified_from_cache
    ));
}

/// Sources for lies, below `base`.
fn sources(base: &Scratch) {
    let short = base.tree("source/short");
    short.file("f", content(6, SHORT));
    let long = base.tree("source/long");
    long.file("f", content(1, 700_000));
    // More than one call copies it.
    let longer = base.tree("source/longer");
    longer.file("f", content(2, 40 << 20));
    let holes = base.tree("source/holes");
    let file = File::create(holes.at("f")).unwrap();
    file.set_len(2 * MIB).unwrap();
    for (seed, at) in [(3, 0), (4, MIB), (5, MIB + MIB / 2)] {
        file.write_all_at(&content(seed, 100_000), at).unwrap();
    }
    for tree in [&short, &long, &longer, &holes] {
        tree.time("f", 1_500_000_000, 1).time("", 1_500_000_000, 2);
    }
}

/// Asks a source's facts, with the destination of one file that was there before.
fn outcome(source: &Path, to: &Path, complete: bool, text: &str, expected: Expected) -> Option<String> {
    let same = fs::read(source.join("f")).unwrap() == fs::read(to.join("f")).unwrap() && facts(source) == facts(to);
    let old = fs::read(to.join("f")).unwrap() == b"old";
    let fine = match expected {
        Expected::Whole => complete && same,
        Expected::Fooled => complete && !same,
        Expected::Told(what) => !complete && old && text.contains(&format!("failed {what}")),
    };
    let left = Tree::new(to.to_owned()).names() != ["f"];
    (!fine || left).then(|| format!("complete: {complete}, same: {same}, old: {old}, something left: {left}: {text}"))
}

#[test]
fn calls_that_lie() {
    const TEST: &str = "lies::calls_that_lie";
    let lies = lies();
    if let Some(words) = order() {
        let number: usize = words[1].parse().unwrap();
        let lie = &lies[number];
        let base = Path::new(&words[0]);
        let plan = Plan {
            call: Some(lie.call),
            nth: lie.nth,
            count: lie.count,
            effect: lie.effect,
        };
        let source = base.join("source").join(lie.source);
        return copy_armed(&source, &base.join(format!("to-{number}")), lie.change, plan);
    }
    let scratch = Scratch::new();
    sources(&scratch);
    let wrong = each(lies.len(), |number| {
        let lie = &lies[number];
        let to = scratch.tree(&format!("to-{number}"));
        to.file("f", "old");
        let log = scratch.at(&format!("{number}.log"));
        let words = [scratch.path().display().to_string(), number.to_string()];
        let (code, text) = finish(again(TEST, &words, &log), &log);
        let source = scratch.at("source").join(lie.source);
        // What it does tells; a function may have several addresses.
        let mut options = options(&[], to.path());
        (lie.change)(&mut options);
        let verified = options.verify;
        // Who reads everything asks for no holes.
        let reached =
            !text.contains("not reached") || (verified && matches!(lie.call, Call::SeekData | Call::SeekHole));
        let found = if code == Some(0) && reached {
            outcome(&source, to.path(), text.contains("complete true"), &text, lie.expected)
        } else {
            Some(text)
        };
        fs::remove_dir_all(to.path()).unwrap();
        let Lie {
            what,
            call,
            nth,
            expected,
            ..
        } = lie;
        let name = format!(
            "{call:?} {what} from {nth} on, {:?}, verify: {verified}, expected {expected:?}",
            lie.effect
        );
        found.map(|text| format!("{name}: {text}")).into_iter().collect()
    });
    println!("{} lies told", lies.len());
    assert_none(&wrong);
}

/// Flips a bit wherever an image holds `pattern`; answers in how many places.
fn flip_in_image(image: &Path, pattern: &[u8]) -> usize {
    let file = File::options().read(true).write(true).open(image).unwrap();
    let length = file.metadata().unwrap().len();
    let mut block = vec![0; 4 << 20];
    let mut found = 0;
    // File data begins at a block, so a block-sized step misses nothing.
    for start in (0..length).step_by(block.len()) {
        let n = file.read_at(&mut block, start).unwrap();
        for (at, place) in (start..).step_by(1024).zip(block[..n].chunks(1024)) {
            if place.starts_with(pattern) {
                file.write_all_at(&[pattern[0] ^ 1], at).unwrap();
                found += 1;
            }
        }
    }
    found
}

/// The medium changes a bit after a file was written to it, once or always: the first time it is copied again.
fn a_bit_on_the_medium(this: &str, kind: &str) {
    if let Some(words) = order() {
        let plan = Plan {
            call: Some(Call::DropCache),
            nth: 0,
            count: FOR_GOOD,
            effect: Effect::Stop,
        };
        let verified = words[2] == "verify";
        // Without proof there is nothing to stop at but the end of the file's way.
        let call = if verified { Call::DropCache } else { Call::Close };
        return copy_armed(
            Path::new(&words[0]),
            Path::new(&words[1]),
            |o| {
                o.verify = verified;
                o.sync = Durability::All;
            },
            Plan {
                call: Some(call),
                ..plan
            },
        );
    }
    let scratch = Scratch::new();
    let Some(disk) = Disk::new(&scratch, kind) else { return };
    let source = scratch.tree("source");
    source
        .file("f", content(6, 300_000))
        .time("f", 1_500_000_000, 1)
        .time("", 1_500_000_000, 2);
    let pattern = &source.read("f")[4096 * 7..][..512];
    let log = scratch.at("log");
    for (how, times, expected) in [
        ("plain", 1, Expected::Fooled),
        ("verify", 1, Expected::Whole),
        ("verify", FOR_GOOD, Expected::Told("mismatch verify")),
    ] {
        let to = Tree::new(disk.point.join(format!("{how}-{times}")));
        to.file("f", "old");
        disk.sync();
        let words = [source.path(), to.path()].map(|p| p.display().to_string());
        let words = [&words[..], &[how.to_owned()]].concat();
        let mut flipped = Vec::new();
        let text = with_stops(again(this, &words, &log), &log, |turn| {
            if turn < times {
                disk.sync();
                flipped.push(flip_in_image(&disk.image, pattern));
            }
        });
        assert!(flipped[0] > 0, "{kind}: the pattern is not in the image: {text}");
        assert!(how == "plain" || text.contains("from the cache 0"), "{kind}: {text}");
        // What is looked at comes from the medium too.
        disk.restore();
        let complete = text.contains("complete true");
        let wrong = outcome(source.path(), to.path(), complete, &text, expected);
        assert_eq!(wrong, None, "{kind}, {how}, {times} times: flipped {flipped:?}");
        fs::remove_dir_all(to.path()).unwrap();
        disk.sync();
        // What was removed must not be found again.
        let zeros = disk.point.join("zeros");
        File::create(&zeros)
            .unwrap()
            .write_all_at(&vec![0; 64 << 20], 0)
            .unwrap();
        disk.sync();
        fs::remove_file(zeros).unwrap();
    }
}

#[test]
fn a_bit_on_the_medium_of_ext4() {
    a_bit_on_the_medium("lies::a_bit_on_the_medium_of_ext4", "ext4");
}

#[test]
fn a_bit_on_the_medium_of_xfs() {
    a_bit_on_the_medium("lies::a_bit_on_the_medium_of_xfs", "xfs");
}

/// What the skip test took for unchanged is proved too: a bit before the tail has changed on the medium since.
#[test]
fn a_bit_in_what_is_skipped() {
    for kind in ["ext4", "xfs"] {
        let scratch = Scratch::new();
        let Some(disk) = Disk::new(&scratch, kind) else { return };
        let source = scratch.tree("source");
        source.file("f", content(6, 300_000));
        let to = disk.point.join("to");
        let verified = |o: &mut CopyOptions| o.verify = true;
        let first = copy(&[contents(source.path())], &to, verified).complete();
        assert_eq!(first.report.totals.verified_bytes, 300_000, "{kind}");
        assert_eq!(first.report.totals.verified_from_cache, 0, "{kind}");
        assert_eq!(
            flip_in_image(&disk.image, &source.read("f")[8192..][..512]),
            1,
            "{kind}"
        );
        let unseen = copy(&[contents(source.path())], &to, |_| {}).complete();
        assert_eq!(unseen.counts(), "skipped 2 (unchanged 2)", "{kind}");
        let seen = copy(&[contents(source.path())], &to, verified).complete();
        assert_eq!(
            seen.report.totals.outcome_of(Outcome::Copied),
            1,
            "{kind}: {}",
            seen.counts()
        );
        disk.restore();
        compare(source.path(), &to);
    }
}

/// What happens to a source while it is read.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// Other bytes in place; size and modification time as before. Only the change time tells.
    Overwritten,
    Truncated,
    Extended,
    /// Another file takes the name.
    Replaced,
    Removed,
}

const HAPPENINGS: [Happening; 5] = [
    Happening::Overwritten,
    Happening::Truncated,
    Happening::Extended,
    Happening::Replaced,
    Happening::Removed,
];

impl Happening {
    fn happen(self, source: &Tree, turn: usize) {
        let path = source.at("f");
        let other = content(u8::try_from(20 + turn % 200).unwrap(), 700_000);
        match self {
            Self::Overwritten => {
                File::options()
                    .write(true)
                    .open(&path)
                    .unwrap()
                    .write_all_at(&other, 0)
                    .unwrap();
                set_time(&path, 1_500_000_000, 1);
            }
            Self::Truncated => {
                let length = fs::metadata(&path).unwrap().len();
                File::options()
                    .write(true)
                    .open(&path)
                    .unwrap()
                    .set_len(length * 9 / 10)
                    .unwrap();
                set_time(&path, 1_500_000_000, 1);
            }
            Self::Extended => {
                let length = fs::metadata(&path).unwrap().len();
                let file = File::options().write(true).open(&path).unwrap();
                file.write_all_at(&other[..1000], length).unwrap();
                set_time(&path, 1_500_000_000, 1);
            }
            Self::Replaced => {
                source.file("new", &other).time("new", 1_500_000_000, 1);
                fs::rename(source.at("new"), &path).unwrap();
            }
            Self::Removed => {
                if path.exists() {
                    fs::remove_file(&path).unwrap();
                }
            }
        }
    }
}

/// A source that changes between two reads is read again; one that goes on changing is reported, and what was there stays.
#[test]
fn sources_that_change() {
    const TEST: &str = "lies::sources_that_change";
    if let Some(words) = order() {
        let reading = words[2] == "Read";
        let plan = Plan {
            call: Some(if reading { Call::Read } else { Call::CopyRange }),
            nth: usize::from(reading),
            count: FOR_GOOD,
            effect: Effect::Stop,
        };
        let change = if reading { by_reading } else { as_it_is };
        return copy_armed(Path::new(&words[0]), Path::new(&words[1]), change, plan);
    }
    for how in ["Read", "CopyRange"] {
        for happening in HAPPENINGS {
            for times in [1, FOR_GOOD] {
                let what = format!("{happening:?} {times} times, {how}");
                let scratch = Scratch::new();
                let (source, to) = (scratch.tree("source"), scratch.tree("to"));
                source
                    .file("f", content(1, 700_000))
                    .time("f", 1_500_000_000, 1)
                    .file("still", "x");
                to.file("f", "old");
                let log = scratch.at("log");
                let words = [source.path(), to.path()].map(|p| p.display().to_string());
                let words = [&words[..], &[how.to_owned()]].concat();
                let text = with_stops(again(TEST, &words, &log), &log, |turn| {
                    if turn < times {
                        happening.happen(&source, turn);
                    }
                });
                assert!(text.contains("complete "), "{what}: {text}");
                assert_eq!(to.read("still"), b"x", "{what}");
                assert_eq!(to.names(), ["f", "still"], "{what}");
                let lasting = times > 1 || matches!(happening, Happening::Removed);
                if lasting {
                    let kind = if matches!(happening, Happening::Removed) {
                        "failed "
                    } else {
                        "failed changed read"
                    };
                    assert!(text.contains("complete false") && text.contains(kind), "{what}: {text}");
                    assert_eq!(to.read("f"), b"old", "{what}");
                } else {
                    assert!(text.contains("complete true"), "{what}: {text}");
                    assert!(to.read("f") == source.read("f"), "{what}: another content");
                }
            }
        }
    }
}

/// A file system whose files end before their sizes, or after them: each is told with both numbers, and what was there stays;
/// a move leaves it where it is.
#[test]
fn sizes_that_lie() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    for size in [SHORT, 700_000] {
        let bad = format!("{size}.bad");
        source.file(&bad, content(1, size)).file(format!("{size}.good"), "good");
        source.time(&bad, 1_500_000_000, 0);
        for (fault, stated, told) in [
            (
                "larger=7",
                size + 7,
                format!("it ended after {size} bytes, and its size is"),
            ),
            (
                "short=7",
                size,
                format!("it ended after {} bytes, and its size is", size - 7),
            ),
            (
                "smaller=7",
                size - 7,
                format!("it goes on after {} bytes, which is its size", size - 7),
            ),
        ] {
            let Some(seen) = scratch.faulty(source.path(), &format!("{fault},only={size}.bad")) else {
                return;
            };
            let changes: [Change; 4] = [as_it_is, verify, by_reading, |o| o.remove_sources = true];
            for change in changes {
                let to = scratch.tree("to");
                // What the skip test would take for unchanged.
                let there = content(1, size)[..size.min(stated)].to_vec();
                let there = [there, vec![0; stated.saturating_sub(size)]].concat();
                to.file(&bad, there).time(&bad, 1_500_000_000, 0);
                let copied = copy(
                    &[named(seen.join(&bad)), named(seen.join(format!("{size}.good")))],
                    to.path(),
                    change,
                );
                let copied = copied.incomplete();
                let what = format!("{size} {fault}: {copied:?}");
                assert_eq!(copied.report.totals.outcome_of(Outcome::Changed), 1, "{what}");
                let told = format!("read {}: {told}", seen.join(&bad).display());
                assert!(copied.report.failures[0].message.starts_with(&told), "{what}");
                assert_eq!(to.names(), [bad.clone(), format!("{size}.good")], "{what}");
                assert_eq!(to.read(&bad).len(), stated, "{what}");
                assert!(source.at(&bad).exists(), "{what}");
                source.file(format!("{size}.good"), "good");
                fs::remove_dir_all(to.path()).unwrap();
            }
        }
    }
}

/// Files of /proc say that they are empty, and each reading of some is another.
#[test]
fn files_of_proc() {
    let scratch = Scratch::new();
    for name in ["version", "self/status", "cpuinfo", "self/cmdline"] {
        for change in [as_it_is as Change, verify, by_reading] {
            let to = scratch.tree("to");
            let file = Path::new("/proc").join(name);
            copy(&[named(&file)], to.path(), change).complete();
            let length = to.read(file.file_name().unwrap()).len();
            let expected = fs::read(&file).unwrap().len();
            // Numbers in it may be longer or shorter by now.
            assert!(
                length > 0 && length.abs_diff(expected) < 64,
                "{name}: {length} of {expected}"
            );
            fs::remove_dir_all(to.path()).unwrap();
        }
    }
}

/// A source that shows itself below itself comes to an end.
#[test]
fn loops_of_bind_mounts() {
    for (what, below) in [("itself", ""), ("a directory above", "d")] {
        let scratch = Scratch::new();
        let source = scratch.tree("source");
        source.file("a", "x").file("d/e/b", "y").dir("d/e/loop");
        if !Scratch::bind(&source.path().join(below), &source.at("d/e/loop")) {
            return;
        }
        let copied = attempt(&[contents(source.path())], scratch.at("to"), |_| {})
            .unwrap()
            .complete();
        compare(source.path(), &scratch.at("to"));
        assert!(copied.report.totals.all_found() < 20, "{what}: {}", copied.counts());
        let alone = attempt(&[contents(source.path())], scratch.at("alone"), |o| {
            o.one_file_system = true;
        });
        alone.unwrap().complete();
        // Into a directory of the source, seen through the loop.
        let inside = source.at("d/e/loop").join("to");
        let refused = attempt(&[contents(source.path())], &inside, |_| {});
        assert!(refused.is_err(), "{what}: {refused:?}");
    }
}

/// A disk whose reads and writes can be made to fail: an image behind nbdkit's error filter.
struct BadDisk {
    nbdfuse: Child,
    disk: Disk,
    fails: [PathBuf; 2],
    fuse: PathBuf,
}

impl BadDisk {
    /// `None`: it can't be had here, and that was printed.
    fn new(scratch: &Scratch) -> Option<Self> {
        for program in ["nbdkit", "nbdfuse", "mkfs.ext4", "losetup"] {
            if !has(program) {
                println!("skip: there is no {program}");
                return None;
            }
        }
        if !root() || !Path::new("/dev/fuse").exists() {
            println!("skip: no FUSE here");
            return None;
        }
        let (image, fuse) = (scratch.at("bad.image"), scratch.at("fuse"));
        File::create(&image).unwrap().set_len(100 << 20).unwrap();
        must("mkfs.ext4", &[&"-q", &image]);
        fs::create_dir(&fuse).unwrap();
        let fails = ["pread", "pwrite"].map(|call| scratch.at(call));
        let path = |path: &Path| path.display().to_string();
        let mut command = Command::new("nbdfuse");
        command
            .arg(fuse.join("disk"))
            .args(["--command", "nbdkit", "-s", "--exit-with-parent", "--filter=error"]);
        command.args(["file", &path(&image)]);
        for (call, file) in ["pread", "pwrite"].into_iter().zip(&fails) {
            let file = format!("error-{call}-file={}", path(file));
            command.args([format!("error-{call}=EIO"), format!("error-{call}-rate=100%"), file]);
        }
        let mut nbdfuse = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let there = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            fuse.join("disk").exists()
        });
        let disk = there
            .then(|| Disk::attach(scratch, &fuse.join("disk"), "ext4"))
            .flatten();
        let Some(disk) = disk else {
            println!("skip: nbdfuse does not serve");
            nbdfuse.kill().unwrap();
            nbdfuse.wait().unwrap();
            return None;
        };
        Some(Self {
            nbdfuse,
            disk,
            fails,
            fuse,
        })
    }

    fn fail(&self, reads: bool, writes: bool) {
        for (fails, file) in [reads, writes].into_iter().zip(&self.fails) {
            if fails {
                File::create(file).unwrap();
                // FUSE keeps pages of the image, which would be read instead.
                sys::drop_cache(File::open(self.fuse.join("disk")).unwrap().as_fd(), 0, 0).unwrap();
            } else if file.exists() {
                fs::remove_file(file).unwrap();
            }
        }
    }

    fn end(mut self) {
        self.fail(false, false);
        drop(self.disk);
        must("umount", &[&"-l", &self.fuse]);
        self.nbdfuse.wait().unwrap();
    }
}

/// What the disk does not take is told by the sync; what it does not give, by the read. Neither is repeated as if nothing
/// had been.
#[test]
fn a_disk_that_fails() {
    let scratch = Scratch::new();
    let Some(bad) = BadDisk::new(&scratch) else { return };
    let source = scratch.tree("source");
    source
        .file("d/f", content(6, 300_000))
        .file("d/g", content(7, 200_000))
        .file("small", "x");
    let to = bad.disk.point.join("to");
    for change in [as_it_is as Change, verify, |o| o.sync = Durability::All] {
        bad.fail(false, true);
        // The control: a write that the disk refuses is a failed sync, and without one nobody hears of it.
        let plain = bad.disk.point.join("plain");
        fs::write(&plain, content(1, 5000)).unwrap();
        assert!(File::open(&plain).unwrap().sync_all().is_err(), "the disk takes it");
        let copied = attempt(&[contents(source.path())], &to, change);
        match copied {
            Ok(copied) => {
                let failures = copied.incomplete().failures(&to);
                assert!(
                    failures
                        .iter()
                        .any(|f| f.starts_with("io ") || f.starts_with("read-only ")),
                    "{failures:?}"
                );
            }
            Err(refusal) => println!("refused: {refusal}"),
        }
        bad.fail(false, false);
        // The journal was aborted; the file system is repaired by mounting it anew.
        bad.disk.repair();
        attempt(&[contents(source.path())], &to, change).unwrap().complete();
        compare(source.path(), &to);
        // Now the other way: the source is what can't be read.
        bad.disk.restore();
        let back = scratch.tree("back");
        back.file("d/f", "old");
        let list = fs::read_dir(to.join("d")).unwrap().count();
        assert_eq!(list, 2);
        bad.fail(true, false);
        let copied = attempt(&[contents(&to)], back.path(), change).unwrap().incomplete();
        let failures = copied.failures(&to);
        assert!(failures.iter().any(|f| f == "io read EIO d/f"), "{failures:?}");
        assert_eq!(back.read("d/f"), b"old");
        bad.fail(false, false);
        bad.disk.restore();
        attempt(&[contents(&to)], back.path(), change).unwrap().complete();
        compare(source.path(), back.path());
        for tree in [&to, back.path()] {
            fs::remove_dir_all(tree).unwrap();
        }
        bad.disk.sync();
    }
    bad.end();
}
