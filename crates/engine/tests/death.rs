//! Loop 2: the process dies at every call of a copy.
//!
//! After each death every name is as it was or complete, what is unfinished has a staging name and is not taken for data,
//! and the next copy converges and leaves nothing unfinished.

use std::path::Path;

use bulkhaul_engine::copy;
use bulkhaul_engine::copy::options::CopyOptions;
use bulkhaul_engine::entry::Reason;
use bulkhaul_engine::report::Durability;
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};

use crate::faults::{assert_none, calls, count, shape_of};
use crate::rig::fault::{Shape, Trial, again, can_hold_everything, each, facts, finish, lay_out, order, stopped};
use crate::rig::{Scratch, Tree, compare, content, contents, has_staging, options};

fn child(words: &[String]) {
    let (scratch, shape) = (Path::new(&words[1]), shape_of(&words[2]));
    if words[0] == "count" {
        return count(scratch, shape);
    }
    let source = Tree::new(scratch.join("source"));
    let nth = words[3].parse().unwrap();
    let trial = Trial::new(&source, scratch.join(format!("{shape:?}-{nth}")), shape);
    failpoint::arm(Some(Plan {
        call: None,
        nth,
        count: 1,
        effect: Effect::Exit,
    }));
    let report = trial.copy();
    panic!("it lived: {report:?}");
}

#[test]
fn at_every_call() {
    const TEST: &str = "death::at_every_call";
    if let Some(words) = order() {
        return child(&words);
    }
    let scratch = Scratch::new();
    if !can_hold_everything(scratch.path()) {
        return;
    }
    let (source, wanted, before) = lay_out(scratch.path());
    let calls = Shape::ALL.map(|shape| calls(TEST, scratch.path(), shape));
    let spilled = |calls: &Vec<String>| calls.iter().any(|call| call == "Unnamed");
    assert_eq!(calls.each_ref().map(spilled), Shape::ALL.map(|s| s == Shape::Absent));
    let mut points = Vec::new();
    for (shape, calls) in Shape::ALL.into_iter().zip(&calls) {
        points.extend(calls.iter().enumerate().map(|(nth, call)| (shape, nth, call)));
    }
    let wrong = each(points.len(), |index| {
        let (shape, nth, call) = points[index];
        let name = format!("{shape:?}-{nth}");
        let log = scratch.at(&format!("{name}.log"));
        let words = [
            "die".into(),
            scratch.path().display().to_string(),
            format!("{shape:?}"),
            nth.to_string(),
        ];
        let (code, text) = finish(again(TEST, &words, &log), &log);
        let trial = Trial::found(&source, scratch.at(&name), shape, &before);
        let found = if code == Some(99) {
            let mistaken = || (nth % 8 == 0).then(|| mistaken(&trial)).flatten();
            trial
                .spoilt(&wanted)
                .or_else(mistaken)
                .or_else(|| trial.not_healed(&wanted))
        } else {
            Some(format!("{code:?}: {text}"))
        };
        trial.clear();
        found
            .map(|what| format!("{shape:?} call {nth} {call}: {what}"))
            .into_iter()
            .collect()
    });
    println!("{} points tried", points.len());
    assert_none(&wrong);
}

/// What of a dead run's destination is taken for data when it is a source itself.
fn mistaken(trial: &Trial) -> Option<String> {
    if !trial.to.exists() {
        return None;
    }
    let unfinished = facts(&trial.to)
        .into_keys()
        .filter(|name| name.contains(".bh-"))
        .count() as u64;
    let to = trial.to.with_file_name("onward");
    let report = copy::job(options(&[contents(&trial.to)], &to)).unwrap().run().unwrap();
    let skipped = report.totals.reasons[Reason::StagingName as usize];
    let wrong = !report.is_complete() || has_staging(&to) || skipped != unfinished;
    std::fs::remove_dir_all(&to).unwrap();
    wrong.then(|| format!("{unfinished} unfinished, {skipped} skipped: {:?}", report.failures))
}

/// Of a new tree nothing is written twice but the file that was at work, however often the process dies.
#[test]
fn again_and_again() {
    const TEST: &str = "death::again_and_again";
    const FILES: usize = 40;
    /// Files that a process makes.
    const EACH: usize = 12;
    if let Some(words) = order() {
        let base = Path::new(&words[0]);
        failpoint::arm(Some(Plan {
            call: Some(Call::Create),
            nth: EACH,
            count: 1,
            effect: Effect::Stop,
        }));
        let options = CopyOptions {
            jobs: 1,
            sync: Durability::Safe,
            entry_events: false,
            ..options(&[contents(base.join("s"))], base.join("d"))
        };
        let report = copy::job(options).unwrap().run().unwrap();
        assert!(report.is_complete(), "{:?}", report.failures);
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.tree("s");
    for number in 0..FILES {
        source.file(number.to_string(), content(1, 100_000 + number));
    }
    let whole = || {
        let there = Tree::new(scratch.path().to_owned());
        let names = there.names().into_iter().filter(|name| !name.starts_with("s/"));
        let is_whole = |name: &String| {
            let number = name.rsplit('/').next().and_then(|name| name.parse::<usize>().ok());
            number.is_some_and(|number| there.read(name) == content(1, 100_000 + number))
        };
        names.filter(is_whole).count()
    };
    let log = scratch.at("log");
    let mut deaths = 0;
    loop {
        let mut child = again(TEST, &[scratch.path().display().to_string()], &log)
            .spawn()
            .unwrap();
        let midway = stopped(&mut child);
        if midway {
            child.kill().unwrap();
        }
        let status = child.wait().unwrap();
        if !midway {
            assert!(status.success(), "{}", std::fs::read_to_string(&log).unwrap());
            break;
        }
        deaths += 1;
        assert!(
            whole() >= deaths * (EACH - 1),
            "{} whole files after {deaths} deaths",
            whole()
        );
    }
    assert!(deaths >= FILES / EACH - 1, "it died {deaths} times");
    compare(source.path(), &scratch.at("d"));
}
