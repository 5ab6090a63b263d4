//! Destinations that keep times coarsely, or not all of them: what is the same there, and what is lost.

use std::fs;
use std::path::{Path, PathBuf};

use bulkhaul_engine::copy as engine;
use bulkhaul_engine::copy::options::CopyOptions;
use bulkhaul_engine::entry::Outcome;
use bulkhaul_engine::event::Event;
use bulkhaul_sys::Kind;
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};

use crate::rig::fault::{again, order, say, with_stops};
use crate::rig::{Copied, Scratch, Tree, content, contents, copy, modified, node, options, set_time, watch};

const SEC: i64 = 1_700_000_001;
/// 1900, 2040, 2500.
const FAR: [(&str, i64); 3] = [
    ("1900", -2_208_988_800),
    ("2040", 2_208_988_800),
    ("2500", 16_725_225_600),
];

type Change = fn(&mut CopyOptions);
/// A file system, options of its mkfs, what becomes of [`FAR`], and nanoseconds of 5 that it keeps.
type System = (&'static str, &'static [&'static str], [i64; 3], u32);

/// Small inodes of ext4 have no room for parts of a second, nor for what comes after January 2038.
fn whole_seconds(scratch: &Scratch) -> Option<PathBuf> {
    scratch.made_file_system("ext4", &["-I", "128"], "noatime")
}

/// One of each kind, and times of all sorts that every file system has room for.
fn fill(source: &Tree) {
    let nanoseconds = [0, 1, 999_999_999, 500_000_000, 100, 123_456_789];
    for (number, nsec) in nanoseconds.into_iter().enumerate() {
        let name = format!("d/{number}");
        source
            .file(&name, content(1, number * 40_000))
            .time(&name, SEC + i64::try_from(number).unwrap(), nsec);
    }
    source
        .link("d/again", "d/5")
        .symlink("link", "d/5")
        .special("fifo", Kind::Fifo, 0);
    for name in ["link", "fifo", "d", ""] {
        source.time(name, SEC, 123_456_789);
    }
}

fn inodes(to: &Path) -> Vec<(String, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let names = Tree::new(to.to_owned()).names();
    let inode = |name: String| (name.clone(), fs::symlink_metadata(to.join(&name)).unwrap().ino());
    names.into_iter().map(inode).collect()
}

#[test]
fn what_a_coarse_destination_has_is_not_copied_again() {
    let scratch = Scratch::new();
    let Some(to) = whole_seconds(&scratch).map(|at| at.join("to")) else {
        return;
    };
    let source = scratch.tree("source");
    fill(&source);
    let first = copy(&[contents(source.path())], &to, |_| {}).complete();
    assert_eq!(first.notes(), Vec::<&str>::new(), "a fraction of a second is no loss");
    assert_eq!(modified(&to.join("d/1")), (SEC + 1, 0));
    let (there, all) = (inodes(&to), "skipped 11 (unchanged 11)");
    let changes: [Change; 4] = [|_| {}, |o| o.dry_run = true, |o| o.hash_size = 0, |o| o.verify = true];
    for change in changes {
        let again = copy(&[contents(source.path())], &to, change).complete();
        assert_eq!(again.counts(), all);
        assert_eq!(again.notes(), Vec::<&str>::new());
        assert_eq!(inodes(&to), there);
    }
    // Whatever is another second is another time.
    source
        .time("d/3", SEC + 4, 0)
        .time("link", SEC + 1, 0)
        .time("d", SEC - 1, 999_999_999);
    let again = copy(&[contents(source.path())], &to, |_| {}).complete();
    assert_eq!(again.counts(), "copied 1, metadata 2, skipped 8 (unchanged 8)");
    // Another size, another content.
    source.file("d/3", content(1, 5)).time("d/3", SEC + 4, 1);
    source.file("d/4", content(2, 4 * 40_000)).time("d/4", SEC + 4, 100);
    source.time("d", SEC - 1, 999_999_999);
    let again = copy(&[contents(source.path())], &to, |_| {}).complete();
    assert_eq!(again.counts(), "copied 2, skipped 9 (unchanged 9)");
    assert_eq!(copy(&[contents(source.path())], &to, |_| {}).counts(), all);
}

#[test]
fn an_interrupted_copy_goes_on_there() {
    let scratch = Scratch::new();
    let Some(to) = whole_seconds(&scratch).map(|at| at.join("to")) else {
        return;
    };
    let source = scratch.tree("source");
    for number in 0..40 {
        let name = format!("{number:02}");
        source.file(&name, content(1, 9)).time(&name, SEC, 123_456_789);
    }
    let mut once = options(&[contents(source.path())], &to);
    once.jobs = 1;
    let job = engine::job(once).unwrap();
    let mut seen = 0;
    let copied = watch(&job, |event| {
        seen += usize::from(matches!(event, Event::Entry(_)));
        if seen == 10 {
            job.drain();
        }
    })
    .unwrap();
    let done = copied.report.totals.outcome_of(Outcome::Copied);
    let again = copy(&[contents(source.path())], &to, |_| {}).complete();
    let left = again.report.totals.outcome_of(Outcome::Copied);
    assert_eq!(done + left, 40, "{}", again.counts());
}

/// The times of a destination below which these ones of the source became others: the note counts them.
fn noted(copied: &Copied) -> u64 {
    let note = copied.report.notes.iter().find(|note| note.kind == "time");
    note.map_or(0, |note| note.count)
}

#[test]
fn times_out_of_range_are_told_and_equal() {
    let scratch = Scratch::new();
    let (short, far) = (i64::from(i32::MAX), 15_032_385_535);
    let systems: [System; 4] = [
        ("ext4", &["-I", "128"], [i64::from(i32::MIN), short, short], 0),
        ("ext4", &["-I", "256"], [i64::from(i32::MIN), FAR[1].1, far], 5),
        ("xfs", &["-m", "bigtime=0"], [i64::from(i32::MIN), short, short], 5),
        ("tmpfs", &[], FAR.map(|(_, sec)| sec), 5),
    ];
    let source = scratch.tree("source");
    for (name, sec) in FAR {
        source.file(name, name).time(name, sec, 5);
    }
    source.dir("d").symlink("l", "d").file("usual", "x");
    for (name, sec) in [("d", FAR[2].1), ("l", FAR[0].1), ("usual", SEC), ("", SEC)] {
        source.time(name, sec, 5);
    }
    for (kind, making, stored, fraction) in systems {
        let Some(to) = scratch
            .made_file_system(kind, making, "noatime")
            .map(|at| at.join("to"))
        else {
            continue;
        };
        // The directory is as the last, the symlink as the first.
        let all = [0, 1, 2, 2, 0];
        let expected = all.iter().filter(|at| stored[**at] != FAR[**at].1).count() as u64;
        let first = copy(&[contents(source.path())], &to, |_| {}).complete();
        assert_eq!(noted(&first), expected, "{kind} {making:?}: {first:?}");
        for (at, name) in all.into_iter().zip(["1900", "2040", "2500", "d", "l"]) {
            let nsec = if stored[at] == FAR[at].1 { fraction } else { 0 };
            assert_eq!(
                modified(&to.join(name)),
                (stored[at], nsec),
                "{kind} {making:?}: {name}"
            );
        }
        assert_eq!(modified(&to.join("usual")), (SEC, fraction));
        for dry_run in [true, false] {
            let again = copy(&[contents(source.path())], &to, |o| o.dry_run = dry_run).complete();
            assert_eq!(again.counts(), "skipped 7 (unchanged 7)", "{kind} {making:?}");
            assert_eq!(noted(&again), expected, "{kind} {making:?}");
        }
    }
}

#[test]
fn a_note_says_what_became_of_a_time() {
    let scratch = Scratch::new();
    let Some(to) = whole_seconds(&scratch) else {
        return;
    };
    let source = scratch.tree("source");
    source.file("f", "x").time("f", FAR[2].1, 0);
    let copied = copy(&[contents(source.path())], to.join("to"), |_| {}).complete();
    let note = &copied.report.notes[0];
    assert_eq!(
        note.message,
        "the destination can't keep its time: 2500-01-01T00:00:00Z became 2038-01-19T03:14:07Z"
    );
    assert!(note.path.ends_with(b"/to/f"));
    // Nobody wants the times.
    let plain = copy(&[contents(source.path())], to.join("plain"), |o| o.content_only = true).complete();
    assert_eq!(plain.notes(), Vec::<&str>::new());
}

#[test]
fn a_move_leaves_what_only_the_source_has() {
    let scratch = Scratch::new();
    let Some(to) = whole_seconds(&scratch).map(|at| at.join("to")) else {
        return;
    };
    let source = scratch.tree("source");
    source
        .file("f", "x")
        .file("d/2500", "y")
        .file("d/e/f", "z")
        .file("2500/f", "f");
    for (name, sec) in [("f", SEC), ("d/2500", FAR[2].1), ("2500", FAR[2].1), ("d/e/f", SEC)] {
        source.time(name, sec, 5);
    }
    let moves = |o: &mut CopyOptions| o.remove_sources = true;
    for removed in [4, 0] {
        let copied = copy(&[contents(source.path())], &to, moves).incomplete();
        assert_eq!(source.names(), ["2500", "d", "d/2500"]);
        assert_eq!(modified(&source.at("2500")), (FAR[2].1, 5), "its own time is there yet");
        assert_eq!(modified(&source.at("d/2500")), (FAR[2].1, 5));
        // The root and d hold what stays.
        assert_eq!(
            (copied.report.removed_sources, copied.report.kept_sources),
            (removed, 4)
        );
        assert_eq!(
            copied.failures(source.path()),
            ["not-kept remove - 2500", "not-kept remove - d/2500"]
        );
        assert_eq!(noted(&copied), 2);
    }
    let copied = copy(&[contents(source.path())], &to, |o| {
        moves(o);
        o.accept_time_loss = true;
    })
    .complete();
    assert_eq!(copied.report.removed_sources, 4);
    assert!(!source.path().exists());
    assert_eq!(noted(&copied), 2);
    assert_eq!(
        Tree::new(to).names(),
        ["2500", "2500/f", "d", "d/2500", "d/e", "d/e/f", "f"]
    );
}

/// A time that is only coarser there is no loss, and keeps nothing back.
#[test]
fn a_move_takes_fractions_along() {
    let scratch = Scratch::new();
    let Some(to) = whole_seconds(&scratch).map(|at| at.join("to")) else {
        return;
    };
    let source = scratch.tree("source");
    fill(&source);
    copy(&[contents(source.path())], &to, |_| {}).complete();
    copy(&[contents(source.path())], &to, |o| o.remove_sources = true).complete();
    assert!(!source.path().exists());
}

/// Where nanoseconds are kept, a whole second is another time: nobody knows what was written in it.
#[test]
fn a_fine_destination_is_compared_finely() {
    let scratch = Scratch::new();
    for kind in ["", "ext4"] {
        let to = if kind.is_empty() {
            Some(scratch.at("to"))
        } else {
            scratch.file_system(kind, "noatime")
        };
        let Some(to) = to.map(Tree::new) else { continue };
        let source = scratch.tree(&format!("source{kind}"));
        let names = ["whole", "tenths", "milli", "micro"];
        let coarser = [0, 100_000_000, 123_000_000, 123_456_000];
        for (name, nsec) in names.into_iter().zip(coarser) {
            source.file(name, "new").time(name, SEC, 123_456_789);
            to.file(name, "old").time(name, SEC, nsec);
        }
        source.file("far", "new").time("far", FAR[1].1, 0);
        to.file("far", "old").time("far", i64::from(i32::MAX), 0);
        // Not even the end is compared: only time and size tell.
        let copied = copy(&[contents(source.path())], to.path(), |o| o.hash_size = 0).complete();
        assert_eq!(
            copied.report.totals.outcome_of(Outcome::Copied),
            5,
            "{kind}: {}",
            copied.counts()
        );
        for name in names {
            assert_eq!(to.read(name), b"new");
            assert_eq!(modified(&to.at(name)), (SEC, 123_456_789));
        }
        // What is there was not touched to find out: nothing else is in the way.
        assert_eq!(
            to.names().iter().filter(|name| name.as_str() != "lost+found").count(),
            5
        );
        let _kept_open = node(to.path());
        set_time(&source.at("whole"), SEC, 123_456_790);
        let finer = copy(&[contents(source.path())], to.path(), |_| {}).complete();
        assert_eq!(finer.entry("whole").outcome, Outcome::Metadata);
    }
}

/// What keeps times to two seconds, to hundreds of nanoseconds, or not at all, by a server that finds files by name only.
#[test]
fn servers_keep_what_they_like() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    fill(&source);
    source
        .file("first", "x")
        .time("first", 0, 0)
        .file("last", "y")
        .time("last", 5_000_000_000, 5);
    source.time("", SEC, 123_456_789);
    let fat = "granularity=2000000000,earliest=315532800,latest=4354819199";
    for (number, (options, lost)) in [
        (fat, 2),
        ("granularity=1000000000,latest=2147483647", 1),
        ("granularity=10000000", 0),
        ("granularity=100", 0),
    ]
    .into_iter()
    .enumerate()
    {
        let below = scratch.tree(&format!("below{number}"));
        let Some(at) = scratch.faulty(below.path(), options) else {
            return;
        };
        let to = at.join("to");
        let first = copy(&[contents(source.path())], &to, |_| {}).complete();
        assert_eq!(noted(&first), lost, "{options}: {first:?}");
        let there = inodes(&below.at("to"));
        for dry_run in [true, false] {
            let again = copy(&[contents(source.path())], &to, |o| o.dry_run = dry_run).complete();
            assert_eq!(again.counts(), "skipped 13 (unchanged 13)", "{options}");
            assert_eq!(noted(&again), lost, "{options}");
        }
        assert_eq!(
            inodes(&below.at("to")),
            there,
            "{options}: nothing is left of what was asked"
        );
        // Another size is another file.
        source.file("d/3", content(1, 9)).time("d/3", SEC + 3, 500_000_000);
        source.time("d", SEC, 123_456_789);
        let changed = copy(&[contents(source.path())], &to, |_| {}).complete();
        assert_eq!(changed.counts(), "copied 1, skipped 12 (unchanged 12)", "{options}");
        source
            .file("d/3", content(1, 120_000))
            .time("d/3", SEC + 3, 500_000_000);
        source.time("d", SEC, 123_456_789);
    }
}

#[test]
fn times_that_are_cut_with_the_name_are_the_same() {
    let scratch = Scratch::new();
    let (source, below) = (scratch.tree("source"), scratch.tree("below"));
    source.file("d/f", "content").time("d/f", SEC, 123_456_789);
    source.time("d", SEC, 0).time("", SEC, 0);
    // What is new there gets its name by a link, and what replaces another by being renamed.
    below.file("to/d/f", "other content");
    let Some(at) = scratch.faulty(below.path(), "cuts") else {
        return;
    };
    let to = at.join("to");
    let first = copy(&[contents(source.path())], &to, |_| {}).complete();
    assert_eq!(first.notes(), Vec::<&str>::new());
    assert_eq!(modified(&to.join("d/f")), (SEC, 0));
    let there = inodes(&below.at("to"));
    let again = copy(&[contents(source.path())], &to, |_| {}).complete();
    assert_eq!(again.counts(), "skipped 3 (unchanged 3)");
    assert_eq!(inodes(&below.at("to")), there, "nothing is left of what was asked");
    // No more is lost than the parts of a second.
    copy(&[contents(source.path())], &to, |o| o.remove_sources = true).complete();
    assert_eq!(fs::read_dir(source.path()).map(Iterator::count).unwrap_or_default(), 0);
    // Where it came to be in a new directory.
    source.file("new/f", "content").time("new/f", SEC, 123_456_789);
    let moved = copy(&[contents(source.path())], &to, |o| o.remove_sources = true).complete();
    assert_eq!(moved.notes(), Vec::<&str>::new());
    assert_eq!(fs::read_dir(source.path()).map(Iterator::count).unwrap_or_default(), 0);
}

#[test]
fn a_server_that_ignores_times_is_found_out() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source.file("a", "a").file("d/b", "b");
    for name in ["a", "d/b", "d", ""] {
        source.time(name, SEC, 0);
    }
    let below = scratch.tree("below");
    let Some(at) = scratch.faulty(below.path(), "noutimens=ignored") else {
        return;
    };
    let copied = copy(&[contents(source.path())], at.join("to"), |o| o.jobs = 1).incomplete();
    assert_eq!(copied.notes(), ["times"]);
    let moved = copy(&[contents(source.path())], at.join("moved"), |o| {
        o.remove_sources = true;
    })
    .incomplete();
    assert_eq!(source.names(), ["a", "d", "d/b"]);
    assert_eq!(moved.report.removed_sources, 0);
    let accept = |o: &mut CopyOptions| (o.remove_sources, o.accept_time_loss) = (true, true);
    copy(&[contents(source.path())], at.join("moved"), accept).complete();
    assert!(!source.path().exists());
}

/// What all times past a limit become says nothing of the content, whoever asks for how much of it.
#[test]
fn a_time_out_of_range_proves_nothing() {
    let scratch = Scratch::new();
    let Some(base) = whole_seconds(&scratch) else { return };
    let source = scratch.tree("source");
    let last = i64::from(i32::MAX);
    for (at, (hash_size, dry_run)) in [(64 << 10, false), (0, false), (64 << 10, true)]
        .into_iter()
        .enumerate()
    {
        let to = Tree::new(base.join(at.to_string()));
        let with = |o: &mut CopyOptions| o.hash_size = hash_size;
        source.file("late", vec![0; 200_000]).time("late", FAR[1].1, 5);
        source.file("early", vec![0; 200_000]).time("early", FAR[0].1 - 9, 0);
        source.file("usual", "x").time("usual", SEC, 0).time("", SEC, 0);
        copy(&[contents(source.path())], to.path(), with).complete();
        assert_eq!(modified(&to.at("late")).0, last);
        let again = copy(&[contents(source.path())], to.path(), with).complete();
        assert_eq!(again.counts(), "skipped 4 (unchanged 4)");
        let mut changed = vec![0; 200_000];
        changed[0] = b'X';
        source.file("late", &changed).time("late", FAR[2].1, 0);
        source
            .file("early", &changed)
            .time("early", FAR[0].1 - 20, 0)
            .time("", SEC, 0);
        let again = copy(&[contents(source.path())], to.path(), |o| {
            with(o);
            o.dry_run = dry_run;
        })
        .complete();
        assert_eq!(
            again.counts(),
            "copied 2, skipped 2 (unchanged 2)",
            "{hash_size} {dry_run}"
        );
        if !dry_run {
            assert_eq!((to.read("late"), to.read("early")), (changed.clone(), changed));
        }
    }
}

/// A time that every file system has room for, and that was dropped, is lost as one that was refused; who accepts the loss
/// of times loses none.
#[test]
fn times_that_are_dropped_or_refused() {
    for options in ["noutimens=ignored", "noutimens=EPERM"] {
        let scratch = Scratch::new();
        let (source, below) = (scratch.tree("source"), scratch.tree("below"));
        source.file("a", "a").file("d/b", "b").symlink("l", "a");
        source.file("late", "x").time("late", FAR[2].1, 0);
        for name in ["a", "d/b", "l", "d", ""] {
            source.time(name, SEC, 0);
        }
        let Some(at) = scratch.faulty(below.path(), options) else {
            return;
        };
        let told = |copied: &Copied| -> Vec<String> {
            let notes = copied.report.notes.iter().filter(|note| note.lost);
            notes.map(|note| format!("{} {}", note.kind, note.count)).collect()
        };
        let refused = options.ends_with("EPERM");
        let lost = if refused { "times 6" } else { "times 5" };
        for turn in 0..2 {
            let copied = copy(&[contents(source.path())], at.join("to"), |_| {}).incomplete();
            assert_eq!(told(&copied), [lost], "{options}, turn {turn}");
            assert_eq!(copied.failures(&at), Vec::<String>::new());
        }
        let without = copy(&[contents(source.path())], at.join("without"), |o| o.times = false).complete();
        assert_eq!(without.notes(), Vec::<&str>::new());
        let accept = |o: &mut CopyOptions| (o.remove_sources, o.accept_time_loss) = (true, true);
        let moved = copy(&[contents(source.path())], at.join("to"), accept).complete();
        assert_eq!(told(&moved), Vec::<String>::new(), "{options}");
        assert!(moved.notes().contains(&"times"), "{options}");
        assert!(!source.path().exists(), "{options}");
    }
}

#[test]
fn a_directory_that_others_write_into_meanwhile_has_lost_nothing() {
    const TEST: &str = "times::a_directory_that_others_write_into_meanwhile_has_lost_nothing";
    if let Some(words) = order() {
        failpoint::arm(Some(Plan {
            call: Some(Call::StatFd),
            nth: words[1].parse().unwrap(),
            count: 1,
            effect: Effect::Stop,
        }));
        let base = Path::new(&words[0]);
        let mut options = options(&[contents(base.join("s"))], base.join("d"));
        options.jobs = 1;
        let report = engine::job(options).unwrap().run().unwrap();
        failpoint::disarm();
        return say(&format!("{} {:?}", report.is_complete(), report.notes));
    }
    let scratch = Scratch::new();
    for nth in 0.. {
        let base = scratch.tree(&nth.to_string());
        base.file("s/a", "a").time("s", SEC, 5).dir("d");
        let log = scratch.at("log");
        let words = [base.path().display().to_string(), nth.to_string()];
        let mut stops = 0;
        let said = with_stops(again(TEST, &words, &log), &log, |_| {
            stops += 1;
            base.file("d/of another", "");
        });
        if stops == 0 {
            assert!(nth > 3);
            break;
        }
        assert!(said.contains("true "), "call {nth}: {said}");
    }
}
