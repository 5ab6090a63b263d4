//! Loop 1: every call of a copy fails once, with each errno.
//!
//! The tree holds one of everything, there is one worker, and for each call the copy runs in a process that makes this call
//! fail. Then: complete is only what is complete; otherwise a failure names path, operation and errno; every name is as it
//! was or complete; and the next copy converges and leaves nothing unfinished.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use bulkhaul_engine::copy;
use bulkhaul_engine::error::{describe, symbol};
use bulkhaul_sys::Errno;
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};

use crate::rig::fault::{
    Facts, Shape, Trial, again, can_hold_everything, each, everything, exhaustive, facts, finish, lay_out, order, say,
};
use crate::rig::{Scratch, Tree, compare, contents, has, listing, options};

const ERRNOS: [Errno; 6] = [
    Errno::IO,
    Errno::NOSPC,
    Errno::ACCESS,
    Errno::STALE,
    Errno::INTR,
    Errno::MFILE,
];
/// Points that one process tries, one after the other.
const BATCH: usize = 48;

/// Whether a call fails once, or everything from it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lasting {
    Once,
    ForGood,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    shape: Shape,
    errno: Errno,
    lasting: Lasting,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in Shape::ALL {
        for errno in ERRNOS {
            cases.push((shape, errno, Lasting::Once));
        }
        // An interrupted call is made again: an interruption for good would be a hang, as with a kernel that never lets go.
        cases.push((shape, Errno::IO, Lasting::ForGood));
        cases.push((shape, Errno::NOSPC, Lasting::ForGood));
    }
    cases
        .into_iter()
        .map(|(shape, errno, lasting)| Case { shape, errno, lasting })
        .collect()
}

/// The calls that an undisturbed copy makes, in their order.
pub fn calls(this: &str, base: &Path, shape: Shape) -> Vec<String> {
    let words = ["count".into(), base.display().to_string(), format!("{shape:?}")];
    let log = base.join("count.log");
    let (code, text) = finish(again(this, &words, &log), &log);
    assert_eq!(code, Some(0), "{text}");
    text.lines()
        .filter_map(|line| line.strip_prefix("call "))
        .map(str::to_owned)
        .collect()
}

pub fn shape_of(word: &str) -> Shape {
    Shape::ALL.into_iter().find(|s| format!("{s:?}") == word).unwrap()
}

/// In the child that counts.
pub fn count(scratch: &Path, shape: Shape) {
    let source = Tree::new(scratch.join("source"));
    let wanted = facts(source.path());
    let trial = Trial::new(&source, scratch.join(format!("count-{shape:?}")), shape);
    failpoint::arm(None);
    let report = trial.copy();
    let calls = failpoint::disarm();
    assert!(report.unwrap().is_complete());
    assert_eq!(trial.unlike(&wanted), None);
    trial.clear();
    for call in calls {
        say(&format!("call {call:?}"));
    }
}

/// One point, in the child: what is wrong.
fn attempt(trial: &Trial, case: Case, nth: usize, wanted: &Facts) -> Option<String> {
    let count = if case.lasting == Lasting::Once { 1 } else { usize::MAX };
    failpoint::arm(Some(Plan {
        call: None,
        nth,
        count,
        effect: Effect::Errno(case.errno),
    }));
    let result = trial.copy();
    let calls = failpoint::disarm();
    if calls.len() <= nth {
        return Some("it was not reached".to_owned());
    }
    let unsaid = match &result {
        Ok(report) if report.is_complete() => {
            let unlike = trial.unlike_as_told(wanted, report);
            return unlike.map(|text| format!("complete, but {text}"));
        }
        Ok(report) if report.notes.iter().any(|note| note.lost) => {
            // What was refused of metadata costs no content. From then on more may fail, and is told.
            let words = describe(case.errno);
            let said = report.notes.iter().any(|n| n.lost && n.message.contains(&words));
            let unsaid = (!said || !report.accounted).then(|| format!("not told: {:?}", report.notes));
            return unsaid.or_else(|| trial.spoilt_in_content(wanted));
        }
        Ok(report) => {
            let said = report
                .failures
                .iter()
                .any(|f| f.errno == Some(case.errno) && !f.path.is_empty() && f.message.contains(f.operation.text()));
            let accounted = report.accounted || report.failures.iter().any(|f| f.kind == "panic");
            (!said || !accounted).then(|| format!("accounted: {accounted}, said: {:?}", report.failures))
        }
        Err(refusal) => {
            let text = refusal.to_string();
            (!text.contains(&describe(case.errno))).then(|| format!("refused without the cause: {text}"))
        }
    };
    unsaid.or_else(|| trial.spoilt(wanted))
}

fn child(words: &[String]) {
    let scratch = Path::new(&words[1]);
    if words[0] == "count" {
        return count(scratch, shape_of(&words[2]));
    }
    let source = Tree::new(scratch.join("source"));
    let wanted = facts(source.path());
    let number = |at: usize| words[at].parse::<usize>().unwrap();
    let case = cases()[number(2)];
    for nth in words[3].split(',').map(|n| n.parse().unwrap()) {
        say(&format!("at {nth}"));
        let trial = Trial::new(&source, scratch.join(format!("{}-{nth}", number(2))), case.shape);
        if let Some(wrong) = attempt(&trial, case, nth, &wanted) {
            say(&format!("wrong {nth} {wrong}"));
        }
    }
    say("done");
}

/// Makes every call fail, or every `step`th, in copies below `base`, in those cases that are `chosen`.
fn fail_calls(this: &str, base: &Path, step: usize, chosen: impl Fn(Case) -> bool) {
    let (source, wanted, before) = lay_out(base);
    let calls = Shape::ALL.map(|shape| calls(this, base, shape));
    let calls_of = |shape: Shape| &calls[shape as usize];
    let mut batches = Vec::new();
    let mut points = 0;
    for (number, case) in cases().into_iter().enumerate().filter(|(_, case)| chosen(*case)) {
        // Other calls for each errno, where they are not all tried.
        let all: Vec<usize> = (number % step..calls_of(case.shape).len()).step_by(step).collect();
        points += all.len();
        batches.extend(all.chunks(BATCH).map(|batch| (number, case, batch.to_vec())));
    }
    let wrong = each(batches.len(), |index| {
        let (number, case, batch) = &batches[index];
        let list: Vec<String> = batch.iter().map(usize::to_string).collect();
        let words = [
            "try".into(),
            base.display().to_string(),
            number.to_string(),
            list.join(","),
        ];
        let log = base.join(format!("{index}.log"));
        let (code, text) = finish(again(this, &words, &log), &log);
        let name = |nth: usize| {
            let errno = symbol(case.errno);
            format!(
                "{:?} {errno} {:?} call {nth} {}",
                case.shape,
                case.lasting,
                calls_of(case.shape)[nth]
            )
        };
        let mut wrong = Vec::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("wrong ")) {
            let (nth, what) = line.split_once(' ').unwrap();
            wrong.push(format!("{}: {what}", name(nth.parse().unwrap())));
        }
        if code != Some(0) || !text.contains("done\n") {
            wrong.push(format!("{:?} {}: {code:?} {text}", case.shape, symbol(case.errno)));
            return wrong;
        }
        for (turn, nth) in batch.iter().enumerate() {
            let trial = Trial::found(&source, base.join(format!("{number}-{nth}")), case.shape, &before);
            if let Some(what) = trial.not_healed(&wanted) {
                wrong.push(format!("{}: {what}", name(*nth)));
            } else if turn == 0 && case.shape == Shape::Absent {
                // The judge that is not ours agrees.
                compare(source.path(), &trial.to);
            }
            trial.clear();
        }
        wrong
    });
    println!(
        "{points} points tried, in copies of {:?} calls",
        calls.each_ref().map(Vec::len)
    );
    assert_none(&wrong);
}

#[test]
fn every_call_fails_once() {
    const TEST: &str = "faults::every_call_fails_once";
    if let Some(words) = order() {
        return child(&words);
    }
    let scratch = Scratch::new();
    if can_hold_everything(scratch.path()) {
        fail_calls(TEST, scratch.path(), 1, |_| true);
    }
}

/// Where files are cloned, copies make other calls.
#[test]
fn calls_fail_where_blocks_are_shared() {
    const TEST: &str = "faults::calls_fail_where_blocks_are_shared";
    if let Some(words) = order() {
        return child(&words);
    }
    let scratch = Scratch::new();
    for kind in ["xfs", "btrfs"] {
        if let Some(base) = scratch.file_system(kind, "rw")
            && can_hold_everything(&base)
        {
            let step = if exhaustive() { 1 } else { 6 };
            let chosen = |case: Case| case.lasting == Lasting::Once && [Errno::IO, Errno::NOSPC].contains(&case.errno);
            fail_calls(TEST, &base, step, chosen);
        }
    }
}

/// Asserts that nothing was wrong anywhere; says the first of it.
pub fn assert_none(wrong: &[String]) {
    let first = wrong[..wrong.len().min(20)].join("\n");
    assert!(
        wrong.is_empty(),
        "wrong at {} points, beginning with:\n{first}",
        wrong.len()
    );
}

/// What is released makes no call fail: neither can it, nor does it hold what could.
#[test]
fn the_released_addon_has_no_failpoints() {
    let holds = |path: &Path| {
        let (program, marker) = (fs::read(path).unwrap(), failpoint::BULKHAUL_FAILPOINTS);
        program.windows(marker.len()).any(|window| window == marker)
    };
    assert!(
        holds(&std::env::current_exe().unwrap()),
        "the marker is not found where it is"
    );
    let binding = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bindings/node");
    let entries = fs::read_dir(binding).unwrap().map(|e| e.unwrap().path());
    let addons: Vec<_> = entries.filter(|p| p.extension().is_some_and(|e| e == "node")).collect();
    if addons.is_empty() {
        println!("skip: the addon has not been built");
    }
    for addon in addons {
        assert!(!holds(&addon), "{} holds failpoints", addon.display());
    }
}

type Spoil = fn(&Tree);

/// The rig finds what it looks for: copies that lie about a read, and destinations that somebody spoilt.
#[test]
fn the_rig_finds_faults() {
    const TEST: &str = "faults::the_rig_finds_faults";
    if let Some(words) = order() {
        let scratch = Path::new(&words[0]);
        let source = Tree::new(scratch.join("source"));
        let trial = Trial::new(&source, scratch.join("trial"), Shape::Existing);
        failpoint::arm(Some(Plan {
            call: Some(Call::Read),
            nth: 0,
            count: usize::MAX,
            effect: Effect::Flip,
        }));
        assert!(trial.copy().unwrap().is_complete());
        failpoint::disarm();
        return say(&format!("unlike {:?}", trial.unlike(&facts(source.path()))));
    }
    let scratch = Scratch::new();
    if !can_hold_everything(scratch.path()) {
        return;
    }
    let source = scratch.tree("source");
    everything(&source);
    let wanted = facts(source.path());
    let log = scratch.at("log");
    let (code, text) = finish(again(TEST, &[scratch.path().display().to_string()], &log), &log);
    assert!(
        code == Some(0) && text.contains("unlike Some("),
        "a flipped bit is not found: {text}"
    );

    let spoils: [(&str, Spoil); 6] = [
        ("a partial file", |t| {
            t.file("long", "begin");
        }),
        ("an old file that is cut", |t| {
            t.file("replaced", "ol");
        }),
        ("a strange name", |t| {
            t.file("d/strange", "");
        }),
        ("a new file with another mode", |t| {
            t.mode("file", 0o600);
        }),
        ("an old file that is gone", |t| {
            fs::remove_file(t.at("existing/somebody's")).unwrap();
        }),
        ("a new link that leads elsewhere", |t| {
            fs::remove_file(t.at("d/e/up")).unwrap();
            t.symlink("d/e/up", "down");
        }),
    ];
    for (number, (what, spoil)) in spoils.into_iter().enumerate() {
        let trial = Trial::new(&source, scratch.at(&format!("spoilt-{number}")), Shape::Existing);
        assert!(trial.copy().unwrap().is_complete(), "{what}");
        assert_eq!((trial.spoilt(&wanted), trial.unlike(&wanted)), (None, None), "{what}");
        spoil(&Tree::new(trial.to.clone()));
        assert!(trial.spoilt(&wanted).is_some(), "{what}");
        assert!(trial.unlike(&wanted).is_some(), "{what}");
        trial.clear();
    }
}

/// A copy into its own source is refused although the calls that find that out fail, one or several.
#[test]
fn an_overlap_is_refused_whatever_fails() {
    const TEST: &str = "faults::an_overlap_is_refused_whatever_fails";
    if let Some(words) = order() {
        let scratch = Path::new(&words[0]);
        let (source, to) = (scratch.join("source"), scratch.join("source/d/to"));
        let undisturbed = listing(&source);
        for (nth, count) in (0..48).flat_map(|nth| [1, 2, 4, 8, 16, 32].map(|count| (nth, count))) {
            failpoint::arm(Some(Plan {
                call: None,
                nth,
                count,
                effect: Effect::Errno(Errno::ACCESS),
            }));
            let result = copy::job(options(&[contents(&source)], &to)).unwrap().run();
            failpoint::disarm();
            if result.is_ok() || listing(&source) != undisturbed {
                say(&format!("wrong: {count} calls from {nth} on: {result:?}"));
                return;
            }
        }
        return say("done");
    }
    let scratch = Scratch::new();
    scratch.tree("source").file("a", "x").dir("d/to");
    let log = scratch.at("log");
    let (_, text) = finish(again(TEST, &[scratch.path().display().to_string()], &log), &log);
    assert!(text.contains("done\n"), "{text}");
}

/// Calls that strace makes fail, and how many of each are tried; all of them where every point is asked for.
const TRACED: [&str; 17] = [
    "copy_file_range",
    "pwrite64",
    "renameat2",
    "fchmod",
    "fchownat,fchown",
    "utimensat",
    "fdatasync",
    "mkdirat",
    "linkat",
    "symlinkat",
    "mknodat",
    "ftruncate",
    "unlinkat",
    "getdents64",
    "flistxattr",
    "fsetxattr",
    "flock",
];
const TRACED_POINTS: usize = 3;

/// The same from outside, where nothing of ours takes part: strace makes the Nth call of a kind fail.
#[test]
fn calls_that_strace_makes_fail() {
    const TEST: &str = "faults::calls_that_strace_makes_fail";
    if let Some(words) = order() {
        let (source, base) = (Tree::new((&words[0]).into()), Path::new(&words[1]).to_owned());
        let trial = Trial::found(&source, base, Shape::Existing, &Facts::new());
        return match trial.copy() {
            Ok(report) => {
                let said = report.failures.iter().map(|f| f.errno.map_or_else(String::new, symbol));
                let lost = report.notes.iter().filter(|note| note.lost);
                say(&format!(
                    "complete {}, {:?}, lost {:?}",
                    report.is_complete(),
                    said.collect::<Vec<_>>(),
                    lost.map(|note| &note.message).collect::<Vec<_>>()
                ));
            }
            Err(refusal) => say(&format!("refused: {refusal}")),
        };
    }
    let scratch = Scratch::new();
    if !can_hold_everything(scratch.path()) {
        return;
    }
    if !has("strace") {
        println!("skip: there is no strace");
        return;
    }
    let source = scratch.tree("source");
    everything(&source);
    let wanted = facts(source.path());
    let errnos = [Errno::IO, Errno::NOSPC, Errno::STALE];
    let cases: Vec<_> = TRACED
        .iter()
        .flat_map(|call| errnos.map(|errno| (*call, errno)))
        .collect();
    let tried = AtomicUsize::new(0);
    let wrong = each(cases.len(), |number| {
        let (call, errno) = cases[number];
        let mut wrong = Vec::new();
        for when in 1.. {
            if !exhaustive() && when > TRACED_POINTS {
                break;
            }
            let trial = Trial::new(&source, scratch.at(&format!("{number}-{when}")), Shape::Existing);
            let (trace, log) = (
                scratch.at(&format!("{number}.trace")),
                scratch.at(&format!("{number}.log")),
            );
            let base = trial.to.parent().unwrap().display().to_string();
            let plain = again(TEST, &[source.path().display().to_string(), base], &log);
            let mut traced = Command::new("strace");
            let inject = format!("inject={call}:error={}:when={when}", symbol(errno));
            traced
                .args(["-f", "-o"])
                .arg(&trace)
                .args(["-e", &format!("trace={call}"), "-e", &inject]);
            traced.arg(plain.get_program()).args(plain.get_args());
            traced.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
            let output = File::create(&log).unwrap();
            traced
                .stdin(Stdio::null())
                .stderr(output.try_clone().unwrap())
                .stdout(output);
            let (code, text) = finish(traced, &log);
            let injected = fs::read_to_string(&trace).unwrap().matches("(INJECTED)").count();
            fs::remove_file(&trace).unwrap();
            let complete = text.contains("complete true");
            let told = text.contains(&symbol(errno)) || text.contains(&describe(errno));
            let what = if code != Some(0) || !(complete || told) {
                Some(text)
            } else {
                let unlike = || complete.then(|| trial.unlike(&wanted)).flatten();
                // What was refused of metadata costs no content.
                let spoilt = || {
                    if text.contains("lost [\"") {
                        trial.spoilt_in_content(&wanted)
                    } else {
                        trial.spoilt(&wanted)
                    }
                };
                unlike().or_else(spoilt).or_else(|| trial.not_healed(&wanted))
            };
            wrong.extend(what.map(|what| format!("{call} {} {when}: {what}", symbol(errno))));
            trial.clear();
            if injected == 0 {
                // Past the last of them. The first must have been hit.
                if when == 1 {
                    wrong.push(format!("{call} is not called, or not seen"));
                }
                break;
            }
            tried.fetch_add(1, Ordering::Relaxed);
        }
        wrong
    });
    println!("{} points tried in {} kinds of calls", tried.into_inner(), TRACED.len());
    assert_none(&wrong);
}
