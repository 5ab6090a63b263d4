//! Moves: a source entry goes when its copy is proved, and not before.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bulkhaul_engine::copy::options::{CopyOptions, Directories, FilesFrom, SourceArgument};
use bulkhaul_engine::error::Refusal;
use bulkhaul_engine::event::Event;
use bulkhaul_engine::report::Report;
use bulkhaul_engine::sweep::limit::MaxDelete;
use bulkhaul_engine::tree::staging::Stager;
use bulkhaul_engine::{FilterStyle, copy};
use bulkhaul_sys::Errno;
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};

use crate::faults::assert_none;
use crate::rig::fault::{Facts, again, can_hold_everything, each, everything, exhaustive, facts, finish, order, say};
use crate::rig::{
    Copied, NOBODY, Scratch, Tree, apart, attempt, content, contents, copy, has_staging, modified, named, options,
    root, set_time, watch,
};

fn transfer(sources: &[SourceArgument], to: &Path, change: impl FnOnce(&mut CopyOptions)) -> Copied {
    copy(sources, to, |o| {
        o.remove_sources = true;
        change(o);
    })
}

fn counted(copied: &Copied) -> (u64, u64) {
    (copied.report.removed_sources, copied.report.kept_sources)
}

#[test]
fn everything_goes() {
    let scratch = Scratch::new();
    if !can_hold_everything(scratch.path()) {
        return;
    }
    for (number, jobs) in [1, 2, 7].into_iter().enumerate() {
        let source = scratch.tree(&format!("s{number}"));
        everything(&source);
        let wanted = facts(source.path());
        let to = scratch.at(&format!("d{number}"));
        let copied = transfer(&[contents(source.path())], &to, |o| o.jobs = jobs).complete();
        assert_eq!(facts(&to), wanted);
        assert!(!source.path().exists());
        assert_eq!(counted(&copied), (copied.report.totals.found.iter().sum(), 0));
        assert_eq!(copied.report.sync.text(), "all");
    }
}

#[test]
fn single_entries_and_named_trees_go() {
    let scratch = Scratch::new();
    let source = scratch.tree("s");
    source
        .file("f", "1")
        .symlink("l", "f")
        .file("tree/sub/a", "2")
        .dir("tree/empty")
        .file("stays", "x");
    let wanted = facts(source.path());
    let sources = [named(source.at("f")), named(source.at("l")), named(source.at("tree"))];
    let copied = transfer(&sources, &scratch.at("d"), |_| {}).complete();
    assert_eq!(source.names(), ["stays"]);
    assert_eq!(counted(&copied), (6, 0));
    for (name, fact) in facts(&scratch.at("d")) {
        assert!(name.is_empty() || fact == wanted[&name], "{name}");
    }
}

#[test]
fn what_was_there_already_is_proved_first() {
    let scratch = Scratch::new();
    let (source, to) = (scratch.tree("s"), scratch.tree("d"));
    // Equal in size, time and tail, but not at the head: the skip test takes it for the same, a move must not.
    let (old, mut new) = (content(1, 200_000), content(1, 200_000));
    new[5] ^= 1;
    source
        .file("head", &new)
        .time("head", 1_500_000_000, 1)
        .file("same", "x")
        .time("same", 5, 5);
    to.file("head", &old)
        .time("head", 1_500_000_000, 1)
        .file("same", "x")
        .time("same", 5, 5);
    let copied = transfer(&[contents(source.path())], to.path(), |_| {}).complete();
    assert_eq!(to.read("head"), new);
    assert!(!source.path().exists());
    assert_eq!(copied.counts(), "copied 1, metadata 1, skipped 1 (unchanged 1)");
}

#[test]
fn links_go_together() {
    let scratch = Scratch::new();
    let source = scratch.tree("s");
    for number in 0..50_u8 {
        source.file(format!("a/{number}"), content(number, 3000));
        for place in ["b", "c/d", "e"] {
            source.link(format!("{place}/{number}"), format!("a/{number}"));
        }
    }
    let wanted = facts(source.path());
    transfer(&[contents(source.path())], &scratch.at("d"), |o| o.jobs = 7).complete();
    assert!(!source.path().exists());
    assert_eq!(facts(&scratch.at("d")), wanted);
}

#[test]
fn what_did_not_go_over_stays() {
    let scratch = Scratch::new();
    let (one, two, to) = (scratch.tree("one"), scratch.tree("two"), scratch.tree("d"));
    one.file("both", "loser")
        .file("own", "1")
        .file("x.log", "x")
        .file("d/x.log", "x")
        .file("d/a", "1");
    two.file("both", "winner").file("way", "file");
    to.dir("way");
    let copied = transfer(&[contents(one.path()), contents(two.path())], to.path(), |o| {
        o.filter = Some((FilterStyle::Rsync, vec![b"*.log".to_vec()]));
    })
    .incomplete();
    assert_eq!(one.names(), ["both", "d", "d/x.log", "x.log"]);
    // Of two that are not the same neither goes.
    assert_eq!(two.names(), ["both", "way"]);
    assert_eq!(to.read("both"), b"winner");
    assert_eq!(
        copied.failures(scratch.path()),
        ["collision create - one/both", "conflict create - d/way"]
    );
    // Directories alone: no file was copied, so none goes, though the same is there.
    let three = scratch.tree("three");
    three.file("own", "1").dir("empty");
    transfer(&[contents(three.path())], to.path(), |o| {
        o.directories = Directories::Only;
    })
    .complete();
    assert_eq!(three.names(), ["own"]);
}

/// What happens between the copy and the removal: the question is the moment.
#[test]
fn what_changes_meanwhile_stays() {
    type Spoil = fn(&Path, &Path);
    let cases: [(&str, &[&str], Spoil); 8] = [
        ("appended", &["changed"], |s, _| {
            fs::write(s.join("a"), "12345 more").unwrap();
        }),
        ("rewritten under the same time", &["changed"], |s, _| {
            let (sec, nsec) = modified(&s.join("a"));
            fs::write(s.join("a"), "54321").unwrap();
            set_time(&s.join("a"), sec, nsec);
        }),
        ("replaced by the same", &["changed"], |s, _| {
            let (sec, nsec) = modified(&s.join("a"));
            fs::write(s.join("new"), "12345").unwrap();
            set_time(&s.join("new"), sec, nsec);
            fs::rename(s.join("new"), s.join("a")).unwrap();
        }),
        ("given another mode", &["changed"], |s, _| {
            fs::set_permissions(s.join("a"), fs::Permissions::from_mode(0o600)).unwrap();
        }),
        ("another kind", &["changed"], |s, _| {
            fs::remove_file(s.join("a")).unwrap();
            std::os::unix::fs::symlink("12345", s.join("a")).unwrap();
        }),
        ("late", &[], |s, _| fs::write(s.join("late"), "x").unwrap()),
        ("its copy damaged", &["mismatch"], |_, d| {
            let (sec, nsec) = modified(&d.join("a"));
            fs::write(d.join("a"), "12344").unwrap();
            set_time(&d.join("a"), sec, nsec);
        }),
        ("its copy removed", &["conflict"], |_, d| {
            fs::remove_file(d.join("a")).unwrap();
        }),
    ];
    for (what, kinds, spoil) in cases {
        let scratch = Scratch::new();
        let (source, to) = (scratch.tree("s"), scratch.tree("d"));
        source.file("a", "12345").file("b", "x").symlink("c", "b");
        let mut options = options(&[contents(source.path())], to.path());
        (options.remove_sources, options.confirm) = (true, true);
        let job = copy::job(options).unwrap();
        let copied = watch(&job, |event| {
            if let Event::Question(asked) = event {
                let [victims] = &asked[..] else { panic!("{asked:?}") };
                assert_eq!((victims.what, victims.entries, victims.bytes), ("sources", 4, 6));
                // The directories keep their times: on a busy machine two seconds may have gone by, and then these differ too.
                let directories = [source.path(), to.path()].map(|path| (path, modified(path)));
                spoil(source.path(), to.path());
                for (path, (sec, nsec)) in directories {
                    set_time(path, sec, nsec);
                }
                job.answer(true);
            }
        })
        .unwrap();
        let failed: Vec<_> = copied.report.failure_kinds.keys().copied().collect();
        assert_eq!(failed, kinds, "{what}: {copied:?}");
        let stays = if what == "late" { "late" } else { "a" };
        assert_eq!(source.names(), [stays], "{what}");
        assert_eq!(
            copied.notes(),
            if what == "late" { vec!["late"] } else { vec![] },
            "{what}"
        );
        assert_eq!(counted(&copied).1, 2, "{what}");
    }
}

#[test]
fn nothing_goes_that_is_not_synced() {
    const TEST: &str = "r#move::nothing_goes_that_is_not_synced";
    if let Some(words) = order() {
        let base = Path::new(&words[0]);
        failpoint::arm(Some(Plan {
            call: Some(Call::SyncFileSystem),
            nth: 0,
            count: usize::MAX,
            effect: Effect::Errno(Errno::IO),
        }));
        let report = moved(&base.join("s"), &base.join("d"), 2, false).unwrap();
        failpoint::disarm();
        assert_eq!(report.withheld[0].kind, "not-synced");
        assert!(!report.is_complete() && report.removed_sources == 0);
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.tree("s");
    source.file("a", "1").file("sub/b", "2");
    let log = scratch.at("log");
    let words = [scratch.path().display().to_string()];
    let (code, text) = finish(again(TEST, &words, &log), &log);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(source.names(), ["a", "sub", "sub/b"]);
}

#[test]
fn refused() {
    let scratch = Scratch::new();
    let source = scratch.tree("s");
    source.file("a", "1").file("sub/b", "2");
    let cases = [
        (contents(source.path()), source.path().to_owned()),
        (contents(source.path()), source.at("sub")),
        (named(source.path()), scratch.path().to_owned()),
        (named(source.path()), source.at("sub")),
        (named(source.at("a")), source.path().to_owned()),
    ];
    for (from, to) in cases {
        let refused = attempt(std::slice::from_ref(&from), &to, |o| {
            (o.remove_sources, o.allow_nested) = (true, true);
        });
        assert_eq!(refused.unwrap_err().code(), "SAFETY", "{from:?} {}", to.display());
    }
    assert_eq!(source.names(), ["a", "sub", "sub/b"]);
}

#[test]
fn the_limit_holds_for_sources() {
    for (limit, goes) in [
        (MaxDelete::Entries(3), false),
        (MaxDelete::Entries(4), true),
        (MaxDelete::Percent(99), false),
        (MaxDelete::Percent(100), true),
    ] {
        let scratch = Scratch::new();
        let source = scratch.tree("s");
        source.file("a", "1").file("sub/b", "2");
        let copied = transfer(&[contents(source.path())], &scratch.at("d"), |o| {
            o.max_delete = Some(limit);
        });
        assert_eq!(copied.report.is_complete(), goes, "{limit}");
        assert_eq!(source.path().exists(), !goes, "{limit}");
        assert_eq!(Tree::new(scratch.at("d")).names(), ["a", "sub", "sub/b"]);
    }
}

#[test]
fn a_dry_run_leaves_everything() {
    let scratch = Scratch::new();
    let source = scratch.tree("s");
    source.file("a", "1");
    transfer(&[contents(source.path())], &scratch.at("d"), |o| o.dry_run = true).complete();
    assert_eq!(source.names(), ["a"]);
    assert!(!scratch.at("d").exists());
}

/// Between file systems, where nothing is shared, and proofs come from the medium.
#[test]
fn to_another_file_system() {
    let scratch = Scratch::new();
    if !can_hold_everything(scratch.path()) {
        return;
    }
    for kind in ["ext4", "xfs"] {
        let Some(point) = scratch.file_system(kind, "rw") else {
            continue;
        };
        for (number, (from, to)) in [(scratch.path(), &*point), (&*point, scratch.path()), (&*point, &*point)]
            .into_iter()
            .enumerate()
        {
            let source = Tree::new(from.join(format!("from-{kind}-{number}")));
            everything(&source);
            let wanted = facts(source.path());
            let to = to.join(format!("to-{kind}-{number}"));
            transfer(&[contents(source.path())], &to, |_| {}).complete();
            // XFS shows ACLs to root a second time.
            let now = facts(&to);
            assert!(now.keys().eq(wanted.keys()) && now.iter().all(|(name, fact)| fact.same_content(&wanted[name])));
            assert!(!source.path().exists());
        }
    }
}

// Faults.

/// One worker where the order of calls matters.
fn moved(from: &Path, to: &Path, jobs: usize, rename: bool) -> Result<Report, Refusal> {
    let options = CopyOptions {
        remove_sources: true,
        rename,
        jobs,
        entry_events: false,
        ..options(&[contents(from)], to)
    };
    copy::job(options)?.run()
}

/// What is moved, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// One of everything, into a destination that holds something.
    Copied,
    /// The same, and what can be renamed is.
    Renamed,
    /// A few files, into a directory that is made, two levels down.
    New,
}

impl Way {
    fn fill(self, source: &Tree) {
        match self {
            Self::Copied | Self::Renamed => everything(source),
            Self::New => drop(source.file("a", "one").file("d/b", "two")),
        }
    }
}

/// What is left there unfinished.
fn unfinished(base: &Path) -> Option<String> {
    has_staging(base).then(|| format!("something unfinished is left: {:?}", Tree::new(base.to_owned()).names()))
}

/// A source and a destination in a directory of their own.
struct Trial {
    base: PathBuf,
    way: Way,
}

impl Trial {
    fn new(base: PathBuf, way: Way) -> Self {
        let source = Tree::new(base.join("s"));
        way.fill(&source);
        let trial = Self { base, way };
        if way == Way::New {
            return trial;
        }
        let to = Tree::new(trial.to());
        to.file("replaced", "old")
            .file("existing/inner", "old, too")
            .symlink("link", "elsewhere");
        let (sec, nsec) = modified(&source.at("unchanged"));
        to.file("unchanged", source.read("unchanged"))
            .time("unchanged", sec, nsec);
        trial
    }

    fn to(&self) -> PathBuf {
        self.base.join(if self.way == Way::New { "made/d" } else { "d" })
    }

    fn run(&self) -> Result<Report, Refusal> {
        moved(&self.base.join("s"), &self.to(), 1, self.way == Way::Renamed)
    }

    /// What is in neither place as it was.
    fn lost(&self, wanted: &Facts) -> Option<String> {
        let there = |path: PathBuf| if path.exists() { facts(&path) } else { Facts::new() };
        let (from, to) = (there(self.base.join("s")), there(self.to()));
        let lost = wanted.iter().find(|(name, fact)| {
            // A directory in an unfinished one is there under another name as long as the source has it.
            let has = |facts: &Facts| facts.get(*name).is_some_and(|now| now.same_content(fact));
            !has(&from) && !has(&to)
        });
        lost.map(|(name, _)| format!("{name} is lost"))
    }

    /// What is wrong after a move again, without a fault.
    fn not_healed(&self, wanted: &Facts) -> Option<String> {
        let gone = !self.base.join("s").exists();
        match self.run() {
            Err(refusal) if !gone => return Some(format!("the next run was refused: {refusal}")),
            Ok(report) if !report.is_complete() => return Some(format!("the next run: {:?}", report.failures)),
            _ => {}
        }
        let left = self.base.join("s");
        if left.exists() {
            return Some(format!("{:?} stays", Tree::new(left).names()));
        }
        let now = facts(&self.to());
        let differs = wanted
            .iter()
            .find(|(name, fact)| !now.get(*name).is_some_and(|now| now.same_content(fact)));
        differs
            .map(|(name, _)| format!("{name} differs"))
            .or_else(|| unfinished(&self.base))
    }

    fn clear(self) {
        fs::remove_dir_all(self.base).unwrap();
    }
}

/// The number of calls of an undisturbed move.
fn count(name: &str, scratch: &Scratch) -> usize {
    let words = ["count".to_owned(), scratch.at("count").display().to_string()];
    let log = scratch.at("count.log");
    let (code, text) = finish(again(name, &words, &log), &log);
    assert_eq!(code, Some(0), "{text}");
    let calls = text
        .split("calls ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    calls.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

fn count_in_child(base: &str, way: Way) {
    let trial = Trial::new(base.into(), way);
    failpoint::arm(None);
    let report = trial.run().unwrap();
    let calls = failpoint::disarm();
    assert!(report.is_complete(), "{:?}", report.failures);
    assert!(!trial.base.join("s").exists());
    say(&format!("calls {}", calls.len()));
}

/// Points that one process tries, one after the other.
const BATCH: usize = 48;
const ERRNOS: [Errno; 3] = [Errno::IO, Errno::STALE, Errno::ACCESS];

#[test]
fn every_call_fails_once() {
    fail_at_every_call("r#move::every_call_fails_once", Way::Copied);
}

#[test]
fn every_call_of_renaming_fails_once() {
    fail_at_every_call("r#move::every_call_of_renaming_fails_once", Way::Renamed);
}

fn fail_at_every_call(name: &str, way: Way) {
    if let Some(words) = order() {
        if words[0] == "count" {
            return count_in_child(&words[1], way);
        }
        let wanted = facts(Path::new(&words[1]));
        let errno = ERRNOS[words[3].parse::<usize>().unwrap()];
        for nth in words[4].split(',').map(|n| n.parse().unwrap()) {
            let trial = Trial::new(Path::new(&words[2]).join(format!("{nth}-{}", words[3])), way);
            failpoint::arm(Some(Plan {
                call: None,
                nth,
                count: 1,
                effect: Effect::Errno(errno),
            }));
            let result = trial.run();
            let calls = failpoint::disarm();
            let hidden = match &result {
                Ok(report) if report.is_complete() && trial.base.join("s").exists() => {
                    let left = Tree::new(trial.base.join("s")).names();
                    (report.kept_sources == 0).then(|| format!("complete, and {left:?} stay"))
                }
                _ => None,
            };
            let wrong = trial.lost(&wanted).or(hidden).or_else(|| trial.not_healed(&wanted));
            if let Some(wrong) = wrong {
                let call = calls.get(nth);
                say(&format!(
                    "wrong {nth} {call:?} {errno:?}: {wrong}; {:?}",
                    result.map(|r| r.failures)
                ));
            }
            trial.clear();
        }
        return say("done");
    }
    let scratch = Scratch::new();
    if !can_hold_everything(scratch.path()) {
        return;
    }
    let source = scratch.tree("source");
    way.fill(&source);
    let calls = count(name, &scratch);
    let errnos = if exhaustive() { ERRNOS.len() } else { 1 };
    let batches = calls.div_ceil(BATCH);
    let wrong = each(batches * errnos, |index| {
        let (batch, errno) = (index % batches, index / batches);
        let points: Vec<_> = (batch * BATCH..((batch + 1) * BATCH).min(calls))
            .map(|n| n.to_string())
            .collect();
        let words = [
            "fail".to_owned(),
            source.path().display().to_string(),
            scratch.path().display().to_string(),
            errno.to_string(),
            points.join(","),
        ];
        let log = scratch.at(&format!("{batch}-{errno}.log"));
        let (code, text) = finish(again(name, &words, &log), &log);
        let mut wrong: Vec<String> = text
            .lines()
            .filter(|l| l.contains("wrong "))
            .map(str::to_owned)
            .collect();
        if code != Some(0) || !text.contains("done") {
            wrong.push(format!("{points:?}: {code:?} {text}"));
        }
        wrong
    });
    println!("{} points tried", calls * errnos);
    assert_none(&wrong);
}

#[test]
fn death_at_every_call() {
    die_at_every_call("r#move::death_at_every_call", Way::Copied);
}

#[test]
fn death_at_every_call_of_renaming() {
    die_at_every_call("r#move::death_at_every_call_of_renaming", Way::Renamed);
}

/// Nobody lists the directories above a destination that was made: nothing stays there.
#[test]
fn death_at_every_call_on_the_way_to_what_is_new() {
    die_at_every_call("r#move::death_at_every_call_on_the_way_to_what_is_new", Way::New);
}

fn die_at_every_call(name: &str, way: Way) {
    if let Some(words) = order() {
        if words[0] == "count" {
            return count_in_child(&words[1], way);
        }
        let trial = Trial::new(PathBuf::from(&words[1]), way);
        failpoint::arm(Some(Plan {
            call: None,
            nth: words[2].parse().unwrap(),
            count: 1,
            effect: Effect::Exit,
        }));
        panic!("it lived: {:?}", trial.run());
    }
    let scratch = Scratch::new();
    if !can_hold_everything(scratch.path()) {
        return;
    }
    let source = scratch.tree("source");
    way.fill(&source);
    let wanted = facts(source.path());
    let calls = count(name, &scratch);
    let wrong = each(calls, |nth| {
        let base = scratch.at(&nth.to_string());
        let log = scratch.at(&format!("{nth}.log"));
        let words = ["die".to_owned(), base.display().to_string(), nth.to_string()];
        let (code, text) = finish(again(name, &words, &log), &log);
        let trial = Trial { base, way };
        let found = if code == Some(99) {
            trial.lost(&wanted).or_else(|| trial.not_healed(&wanted))
        } else {
            Some(format!("{code:?}: {text}"))
        };
        trial.clear();
        found.map(|what| format!("call {nth}: {what}")).into_iter().collect()
    });
    println!("{calls} points tried");
    assert_none(&wrong);
}

/// A mode that was asked for, and that the copy has not, for whatever reason, keeps the source.
#[test]
fn set_id_bits_that_the_copy_has_not() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source.file("both", "x").file("plain", "x").file("d/group", "x");
    for name in ["both", "plain", "d", "d/group"] {
        source.owner(name, 5, 6);
    }
    source.mode("both", 0o6755).mode("d", 0o2755).mode("d/group", 0o2755);
    let with = |o: &mut CopyOptions| (o.remove_sources, o.owner) = (true, false);
    let moved = copy(&[contents(source.path())], scratch.at("to"), with).incomplete();
    assert_eq!(source.names(), ["both", "d", "d/group"]);
    assert_eq!(
        moved.failures(source.path()),
        ["not-kept remove - both", "not-kept remove - d/group"]
    );
    // Who does not want them says so.
    let copied = copy(&[contents(source.path())], scratch.at("to"), |o| {
        with(o);
        o.chmod = Some("ug-s".into());
    });
    assert_eq!(copied.report.removed_sources, 4, "{copied:?}");
    assert!(!source.path().exists());
}

/// Another name of the very entry is a copy that can't be told from it by device and inode, and keeps what it holds.
#[test]
fn a_copy_that_is_another_name() {
    let scratch = Scratch::new();
    for jobs in [1, 3] {
        let at = scratch.at(&jobs.to_string());
        let (source, to) = (Tree::new(at.join("s")), Tree::new(at.join("d")));
        source
            .file("a", "x")
            .file("b", "y")
            .link("c", "b")
            .symlink("l", "a")
            .file("e/f", "z");
        to.dir("e");
        for name in ["a", "b", "l", "e/f"] {
            fs::hard_link(source.at(name), to.at(name)).unwrap();
        }
        let moved = transfer(&[contents(source.path())], to.path(), |o| o.jobs = jobs).complete();
        assert_eq!(counted(&moved), (7, 0));
        assert!(!source.path().exists());
        assert_eq!(to.names(), ["a", "b", "c", "e", "e/f", "l"]);
        assert_eq!(
            ["a", "b", "c", "e/f"].map(|name| to.read(name)),
            [b"x", b"y", b"y", b"z"]
        );
    }
}

/// What is the entry itself, and has no other name, stays, and that is said.
#[test]
fn a_copy_that_is_the_entry_is_told() {
    let scratch = Scratch::new();
    let (source, to) = (scratch.tree("s"), scratch.tree("d"));
    source.file("sub/a", "x").file("b", "y");
    to.symlink("sub", source.at("sub"));
    let moved = transfer(&[contents(source.path())], to.path(), |o| o.keep_dirlinks = true).incomplete();
    assert_eq!(source.names(), ["sub", "sub/a"]);
    assert_eq!(moved.failures(scratch.path()), ["conflict open - d/sub"]);
    assert_eq!((to.read("b"), to.read("sub/a")), (b"y".to_vec(), b"x".to_vec()));
}

/// Putting a copy in the place of another name of a source entry changes that entry's time of change, and is no change.
#[test]
fn names_that_are_crossed() {
    for (turn, jobs) in [1, 3].into_iter().enumerate() {
        let scratch = Scratch::new();
        let (source, to) = (scratch.tree("s"), scratch.tree("d"));
        source.file("a", "first").file("b", "second one").file("c", "3");
        set_time(&source.at("c"), 1_000_000_000 + i64::try_from(turn).unwrap(), 0);
        for (from, there) in [("a", "b"), ("b", "c"), ("c", "a")] {
            fs::hard_link(source.at(from), to.at(there)).unwrap();
        }
        let moved = transfer(&[contents(source.path())], to.path(), |o| o.jobs = jobs).complete();
        assert_eq!(counted(&moved), (4, 0));
        assert_eq!(to.read("a"), b"first");
        assert_eq!((to.read("b"), to.read("c")), (b"second one".to_vec(), b"3".to_vec()));
    }
}

/// What is excluded is there too, and the directory that holds it stays.
#[test]
fn the_limit_counts_what_goes_of_what_is_there() {
    let cases: [(&str, MaxDelete, bool); 4] = [
        ("excluded", MaxDelete::Percent(19), true),
        ("excluded", MaxDelete::Percent(18), false),
        ("listed", MaxDelete::Entries(2), true),
        ("listed", MaxDelete::Entries(1), false),
    ];
    for (what, limit, goes) in cases {
        for dry_run in [true, false] {
            let scratch = Scratch::new();
            let source = scratch.tree("s");
            for number in 0..10 {
                source.file(format!("k{number}"), "x");
            }
            fs::write(scratch.at("list"), "k0\nk9\n").unwrap();
            let moved = transfer(&[contents(source.path())], &scratch.at("d"), |o| {
                (o.max_delete, o.dry_run) = (Some(limit), dry_run);
                if what == "excluded" {
                    let rules = [&b"k[1-8]"[..]].map(<[u8]>::to_vec);
                    o.filter = Some((FilterStyle::Rsync, rules.into()));
                } else {
                    o.files_from = Some(FilesFrom {
                        path: scratch.at("list").into_os_string().into_encoded_bytes(),
                        nul: false,
                        contents: false,
                    });
                }
            });
            // What a dry run says is what the real one does.
            assert_eq!(moved.report.is_complete(), goes, "{what} {limit} {dry_run}: {moved:?}");
            assert_eq!(
                counted(&moved),
                if goes { (2, 1) } else { (0, 0) },
                "{what} {limit} {dry_run}"
            );
            let all = if what == "excluded" { 11 } else { 3 };
            let said = moved.report.withheld.first().map(|withheld| withheld.message.clone());
            let wanted = format!("2 of {all} entries would go, which is more than {limit}, so no source was removed");
            assert_eq!(said, (!goes).then_some(wanted));
            assert_eq!(source.names().len(), if goes && !dry_run { 8 } else { 10 });
        }
    }
}

/// Directories go with all that is in them, or stay with what stays.
#[test]
fn a_dry_run_says_what_would_leave() {
    for dry_run in [true, false] {
        let scratch = Scratch::new();
        let (source, to) = (scratch.tree("s"), scratch.tree("d"));
        source
            .file("whole/deep/a", "1")
            .file("part/b", "2")
            .file("part/c.tmp", "3")
            .file("held/x", "4");
        source.dir("empty").symlink("part/l", "b");
        to.dir("held/x");
        let moved = transfer(&[contents(source.path())], to.path(), |o| {
            o.dry_run = dry_run;
            o.filter = Some((FilterStyle::Rsync, vec![b"*.tmp".to_vec()]));
        })
        .incomplete();
        // whole, deep and a, b and l, and what is empty.
        assert_eq!(counted(&moved), (6, 4), "{dry_run}");
        let left = source.names().len();
        assert_eq!(left, if dry_run { 10 } else { 4 }, "{:?}", source.names());
    }
}

#[test]
fn a_file_in_use_stays_in_the_source() {
    let scratch = Scratch::new();
    let source = scratch.tree("s");
    source.file("d/log", "told").file("d/a", "x");
    let moved = transfer(&[contents(source.path())], &scratch.at("to"), |o| {
        o.in_use = vec![source.at("d/log").into_os_string().into_encoded_bytes()];
    })
    .incomplete();
    assert_eq!(moved.failures(source.path()), ["conflict remove - d/log"]);
    assert_eq!(source.names(), ["d", "d/log"]);
}

/// A move that died while an entry was aside, some time ago: the next run gives it its name back, and goes on to the end.
/// The directory's time is what it was before that.
#[test]
fn what_was_aside_is_no_change_of_its_directory() {
    const TEST: &str = "r#move::what_was_aside_is_no_change_of_its_directory";
    if let Some(words) = order() {
        let directory = File::open(&words[0]).unwrap();
        assert!(Stager::new().take_aside(directory.as_fd(), c"a").is_ok());
        return;
    }
    let scratch = Scratch::new();
    let (source, to) = (scratch.tree("s"), scratch.tree("d"));
    source.file("sub/a", "12345").file("sub/b", "x");
    copy(&[named(source.path())], to.path(), |_| {}).complete();
    let (sub, log) = (source.at("sub"), scratch.at("log"));
    let (code, text) = finish(again(TEST, &[sub.display().to_string()], &log), &log);
    assert_eq!(code, Some(0), "{text}");
    assert!(!source.at("sub/a").exists());
    set_time(&sub, 1_500_000_000, 0);
    let moved = copy(&[named(source.path())], to.path(), |o| o.remove_sources = true).complete();
    assert!(!source.path().exists(), "{moved:?} {:?}", source.names());
    assert_eq!(modified(&to.at("s/sub")), (1_500_000_000, 0));
}

/// A bit that flips in any read, or in all from one on: an entry goes where its copy is what it is, and stays otherwise.
#[test]
fn a_flipped_bit_costs_nothing() {
    const TEST: &str = "r#move::a_flipped_bit_costs_nothing";
    if let Some(words) = order() {
        let step = if exhaustive() { 1 } else { 5 };
        for (nth, count) in (0..).step_by(step).flat_map(|nth| [(nth, 1), (nth, usize::MAX)]) {
            let trial = Trial::new(Path::new(&words[0]).join(format!("{nth}-{count}")), Way::Copied);
            let wanted = facts(&trial.base.join("s"));
            failpoint::arm(Some(Plan {
                call: Some(Call::Read),
                nth,
                count,
                effect: Effect::Flip,
            }));
            let report = trial.run().unwrap();
            let hits = failpoint::hits();
            failpoint::disarm();
            let lost = trial.lost(&wanted);
            trial.clear();
            if hits == 0 {
                break;
            }
            let told = if report.is_complete() { "complete" } else { "told" };
            say(&format!(
                "{told} {count} {nth} {}",
                lost.unwrap_or_else(|| "right".into())
            ));
        }
        return say("done");
    }
    let scratch = Scratch::new();
    if !can_hold_everything(scratch.path()) {
        return;
    }
    let log = scratch.at("log");
    let (code, said) = finish(again(TEST, &[scratch.path().display().to_string()], &log), &log);
    assert!(code == Some(0) && said.contains("done\n"), "{said}");
    let tried = |line: &&str| line.starts_with("complete ") || line.starts_with("told ");
    let wrong: Vec<String> = said
        .lines()
        .filter(|line| tried(line) && !line.ends_with(" right"))
        .map(str::to_owned)
        .collect();
    assert!(said.lines().filter(tried).count() > 4, "{said}");
    assert_none(&wrong);
}

/// What has no room stays, whole, and nothing unfinished is left.
#[test]
fn a_full_disk_costs_nothing() {
    let scratch = Scratch::new();
    let Some(disk) = scratch.file_system("tmpfs", "size=1m") else {
        return;
    };
    let source = scratch.tree("s");
    let sizes = [("a", 300_000), ("b", 900_000), ("c/d", 10_000), ("e", 600_000)];
    for (seed, (name, size)) in (1..).zip(sizes) {
        source.file(name, content(seed, size));
    }
    let to = disk.join("d");
    let copied = transfer(&[contents(source.path())], &to, |o| o.jobs = 1).incomplete();
    let told = copied.failures(&to);
    assert!(
        !told.is_empty() && told.iter().all(|line| line.starts_with("no-space ")),
        "{told:?}"
    );
    for (seed, (name, size)) in (1..).zip(sizes) {
        let places = [source.at(name), to.join(name)].map(|path| fs::read(path).ok());
        let whole = places.iter().flatten().all(|there| *there == content(seed, size));
        assert!(whole && places.iter().flatten().count() == 1, "{name}: {told:?}");
    }
    assert!(!has_staging(&disk));
}

/// Who may not write into a directory moves nothing into it, and out of it only what can go: the rest is told, and stays.
#[test]
fn in_directories_that_are_read_only_nothing_is_lost() {
    const TEST: &str = "r#move::in_directories_that_are_read_only_nothing_is_lost";
    let prepare = |scratch: &Scratch| {
        let source = scratch.tree("s");
        source
            .file("closed/a", "a")
            .file("open/b", "b")
            .file("open/there/c", "c");
        let to = scratch.tree("d");
        to.dir("open/there").mode("open/there", 0o755);
        for (tree, name) in [
            (&source, ""),
            (&source, "open"),
            (&source, "open/there"),
            (&to, ""),
            (&to, "open"),
        ] {
            tree.mode(name, 0o777);
        }
        for name in ["closed/a", "open/b", "open/there/c"] {
            source.owner(name, 65534, 65534);
        }
    };
    let body = |scratch: &Path| {
        let to = scratch.join("d");
        let copied = transfer(&[contents(scratch.join("s"))], &to, |o| o.owner = false).incomplete();
        assert!(copied.report.kept_sources > 1, "{copied:?}");
    };
    let after = |scratch: &Scratch| {
        let names = |tree: &str| Tree::new(scratch.at(tree)).names();
        let has = |tree: &str, name: &str| names(tree).contains(&name.to_owned());
        assert!(has("s", "closed/a") && has("s", "open/there/c") && !has("d", "open/there/c"));
        assert!(
            has("d", "open/b") && !has("s", "open/b"),
            "{:?} {:?}",
            names("s"),
            names("d")
        );
        assert!(!has_staging(scratch.path()));
    };
    apart(TEST, NOBODY, prepare, body, after);
}
