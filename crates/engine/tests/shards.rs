//! Shards: what is packed comes back, each shard by itself too, wherever a run dies and whatever the target takes names for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use bulkhaul_engine::ArchiveFormat;
use bulkhaul_engine::pack::{self, PackOptions};
use bulkhaul_engine::unpack::{self, Task, UnpackOptions};
use bulkhaul_engine::walk::start::Root;
use bulkhaul_formats::tar::{self, Header, What};
use bulkhaul_sys::failpoint::{self, Effect, Plan};
use proptest::prelude::*;

use crate::rig::fault::{again, can_hold_everything, each, everything, exhaustive, facts, finish, order, say};
use crate::rig::{Copied, Scratch, Tree, compare, content, has_staging, listing, must, run};

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

fn packing(from: &Path, to: &Path, change: impl FnOnce(&mut PackOptions)) -> PackOptions {
    let mut options = PackOptions {
        sources: vec![Root {
            path: bytes(from),
            follow: true,
            contents: true,
            pin: None,
        }],
        destination: bytes(to),
        jobs: 2,
        entry_events: true,
        ..PackOptions::default()
    };
    change(&mut options);
    options
}

fn pack(from: &Path, to: &Path, change: impl FnOnce(&mut PackOptions)) -> Copied {
    run(&pack::job(packing(from, to, change)).unwrap()).unwrap()
}

fn unpacking(from: &Path, to: &Path, change: impl FnOnce(&mut UnpackOptions)) -> UnpackOptions {
    let mut options = UnpackOptions {
        archive: bytes(from),
        task: Task::Into(bytes(to)),
        jobs: 2,
        entry_events: true,
        ..UnpackOptions::default()
    };
    change(&mut options);
    options
}

fn unpack(from: &Path, to: &Path, change: impl FnOnce(&mut UnpackOptions)) -> Copied {
    run(&unpack::job(unpacking(from, to, change)).unwrap()).unwrap()
}

/// The shards of a directory, in their order.
fn shards(at: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path());
    let mut shards: Vec<PathBuf> = all.filter(|path| path.to_string_lossy().contains(".tar")).collect();
    shards.sort();
    shards
}

#[test]
fn one_of_everything_comes_back() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    if !can_hold_everything(scratch.path()) {
        return;
    }
    everything(&source);
    let wanted = facts(source.path());
    for (name, shard_bytes, compression) in [
        ("one", pack::SHARD_BYTES, None),
        ("many", 100_000, None),
        ("zstd", 100_000, Some(ArchiveFormat::Zstd)),
        ("bgzf", pack::SHARD_BYTES, Some(ArchiveFormat::Bgzf)),
    ] {
        let (shards, back) = (scratch.at(name), scratch.at(&format!("back-{name}")));
        let packed = pack(source.path(), &shards, |options| {
            (options.shard_bytes, options.compression) = (shard_bytes, compression);
        });
        let packed = packed.complete();
        for entry in &packed.entries {
            let at = [bytes(source.path()), entry.path.clone()].join(&b'/');
            assert_eq!(entry.source, at.strip_suffix(b"/").unwrap_or(&at));
            assert!(entry.destination.starts_with(&bytes(&shards.join("shard-"))));
        }
        let unpacked = unpack(&shards, &back, |_| {}).complete();
        assert_eq!(facts(&back), wanted, "{name}");
        for entry in &unpacked.entries {
            let at = [bytes(&back), entry.path.clone()].join(&b'/');
            assert!(entry.source.starts_with(&bytes(&shards.join("shard-"))));
            assert!(entry.destination == at || entry.path.is_empty());
        }
        let again = unpack(&shards, &back, |_| {}).complete();
        assert_eq!(again.counts(), "skipped 33 (unchanged 33)");
        assert_eq!(facts(&back), wanted, "{name}, again");
        let dry = unpack(&shards, &back, |options| options.dry_run = true).complete();
        assert_eq!(dry.report.totals.outcome_of(bulkhaul_engine::entry::Outcome::Copied), 0);
    }
}

/// In an append-only directory nothing can be renamed or removed: nothing is begun in it, and nothing is left.
#[test]
fn append_only_directories() {
    let scratch = Scratch::new();
    let Some(base) = scratch.file_system("ext4", "rw") else {
        return;
    };
    let source = scratch.tree("source");
    source
        .file("d/new", "content")
        .file("d/changed", "newer")
        .symlink("d/link", "new")
        .file("a/first", "x")
        .link("d/linked", "a/first");
    let shards = scratch.at("shards");
    pack(source.path(), &shards, |_| {}).complete();
    let to = Tree::new(base.join("to"));
    to.file("d/changed", "old").dir("shards");
    must("chattr", &[&"+a", &to.at("d"), &to.at("shards")]);
    let before = listing(&to.at("d"));
    for _ in 0..2 {
        let unpacked = unpack(&shards, to.path(), |_| {}).incomplete();
        let mut told: Vec<&str> = unpacked.report.failures.iter().map(|f| f.operation.text()).collect();
        told.sort_unstable();
        assert_eq!(
            told,
            ["create", "create", "link", "symlink"],
            "{:?}",
            unpacked.report.failures
        );
        let why = |f: &bulkhaul_engine::error::Failure| f.message.contains("append-only (chattr +a)");
        assert!(
            unpacked.report.failures.iter().all(why),
            "{:?}",
            unpacked.report.failures
        );
        assert_eq!(listing(&to.at("d")), before);
        let refused = pack::job(packing(source.path(), &to.at("shards"), |_| {})).unwrap();
        let refused = run(&refused).unwrap_err().to_string();
        assert!(refused.contains("append-only (chattr +a)"), "{refused}");
        assert!(to.at("shards").read_dir().unwrap().next().is_none());
    }
    must("chattr", &[&"-a", &to.at("d"), &to.at("shards")]);
    fs::remove_dir(to.at("shards")).unwrap();
    unpack(&shards, to.path(), |_| {}).complete();
    compare(source.path(), to.path());
}

/// What the target takes for one name is one of them; nothing of the other is there, under no name.
#[test]
fn names_that_meet_are_in_conflict() {
    let scratch = Scratch::new();
    let (source, real) = (scratch.tree("source"), scratch.tree("real"));
    for name in ["F", "f", "Dir/x", "dir/x", "dir/y", "other"] {
        source.file(name, name);
    }
    // Further names of a file that may not be there, though its name is.
    source.link("g", "f").link("h/G", "F").link("h/g", "F");
    for (number, name) in source.names().iter().enumerate() {
        source.time(name, 1_600_000_000 + i64::try_from(number).unwrap(), 5);
    }
    let shards = scratch.at("shards");
    pack(source.path(), &shards, |_| {}).complete();
    // By its name a dry run sees what it may not try.
    real.file("other", "other");
    let Some(disk) = scratch.faulty(real.path(), "fold") else {
        return;
    };
    let dry = unpack(&shards, &disk, |options| options.dry_run = true).incomplete();
    assert_eq!(dry.report.failure_kinds.get("conflict"), Some(&4), "{dry:?}");
    assert_eq!(real.names(), ["other"]);
    for jobs in [1, 2] {
        let done = unpack(&shards, &disk, |options| options.jobs = jobs).incomplete();
        assert!(done.report.failure_kinds["conflict"] >= 4, "{done:?}");
        let names = real.names();
        let folded: BTreeSet<String> = names.iter().map(|name| name.to_lowercase()).collect();
        assert_eq!(folded.len(), names.len(), "{names:?}");
        for name in &names {
            if !real.at(name).is_dir() {
                let content = String::from_utf8(real.read(name)).unwrap();
                let same = fs::metadata(source.at(&content)).unwrap().ino();
                let own = fs::metadata(source.at(name)).unwrap().ino();
                assert!(same == own, "{name} holds {content}");
            }
        }
    }
}

/// Links of one file whose names differ by case only meet nowhere: they are there already, and are two.
#[test]
fn links_that_differ_by_case_only_come_back() {
    let scratch = Scratch::new();
    let (source, shards, to) = (scratch.tree("source"), scratch.at("shards"), scratch.at("to"));
    source.file("X", "x").link("x", "X").file("d/README", "r");
    source.link("d/Readme", "d/README").link("d/readme", "d/README");
    pack(source.path(), &shards, |_| {}).complete();
    for dry_run in [true, false, true, false] {
        unpack(&shards, &to, |options| options.dry_run = dry_run).complete();
    }
    compare(source.path(), &to);
}

/// The second run finds nothing to do where a file system keeps whole seconds, or none of these.
#[test]
fn coarse_times_are_the_same_times() {
    let scratch = Scratch::new();
    let (source, real) = (scratch.tree("source"), scratch.tree("real"));
    source.file("a", "1").time("a", 1_600_000_000, 123_456_789);
    source.file("b", "2").time("b", 1 << 33, 5);
    source.symlink("l", "a").time("l", 1_600_000_001, 999_999_999);
    source.time("", 1_600_000_002, 1);
    pack(source.path(), &scratch.at("shards"), |_| {}).complete();
    let Some(disk) = scratch.faulty(real.path(), "granularity=1000000000,latest=2147483647") else {
        return;
    };
    // Each time all is told that it can't keep.
    let clamped = |done: &Copied| {
        let notes = done.report.notes.iter();
        notes.map(|note| (note.kind.clone(), note.count)).collect::<Vec<_>>()
    };
    let first = unpack(&scratch.at("shards"), &disk, |_| {}).complete();
    assert_eq!(clamped(&first), [("time".into(), 1)]);
    let again = unpack(&scratch.at("shards"), &disk, |_| {}).complete();
    assert_eq!(again.counts(), "skipped 4 (unchanged 4)");
    assert_eq!(clamped(&again), clamped(&first));
    let dry = unpack(&scratch.at("shards"), &disk, |options| options.dry_run = true).complete();
    assert_eq!(dry.counts(), "skipped 4 (unchanged 4)");
    source.file("a", "3").time("a", 1_600_000_002, 0);
    pack(source.path(), &scratch.at("shards"), |_| {}).complete();
    let other = unpack(&scratch.at("shards"), &disk, |_| {}).complete();
    assert_eq!(
        (other.entry("a").outcome.text(), &real.read("a")[..]),
        ("copied", &b"3"[..])
    );
}

/// Of a directory it is told whether this run made it, put it right or found it as it is to be; a dry run says the same.
#[test]
fn a_directory_that_is_there_was_not_made() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source.dir("d/e").file("d/f", "1");
    let (shards, to) = (scratch.at("shards"), scratch.at("to"));
    pack(source.path(), &shards, |_| {}).complete();
    let told = |wanted: &str| {
        for dry_run in [true, false] {
            let done = unpack(&shards, &to, |options| options.dry_run = dry_run).complete();
            assert_eq!(done.counts(), wanted, "dry run: {dry_run}");
        }
    };
    told("made 3, copied 1");
    told("skipped 4 (unchanged 4)");
    fs::set_permissions(to.join("d/e"), PermissionsExt::from_mode(0o700)).unwrap();
    told("metadata 1, skipped 3 (unchanged 3)");
    compare(source.path(), &to);
}

/// Nor is one made where something else has its name.
#[test]
fn a_directory_does_not_take_the_place_of_a_file() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source.file("d/f", "1");
    let (shards, to) = (scratch.at("shards"), scratch.tree("to"));
    pack(source.path(), &shards, |_| {}).complete();
    to.file("d", "mine");
    for dry_run in [true, false] {
        let done = unpack(&shards, to.path(), |options| options.dry_run = dry_run).incomplete();
        let failures = &done.report.failures;
        assert!(
            failures.iter().any(|failure| failure.path.ends_with(b"d")),
            "{failures:?}"
        );
    }
    assert_eq!(to.read("d"), b"mine");
}

fn child(words: &[String]) {
    let at = |name: &str| Path::new(&words[0]).join(name);
    let (from, to) = (at(&words[1]), at(&words[2]));
    let single = |from: &Path, to: &Path| match &words[1][..] {
        "source" => pack::job(packing(from, to, |options| {
            (options.jobs, options.entry_events, options.shard_bytes) = (1, false, 100_000);
        })),
        _ => unpack::job(unpacking(from, to, |options| {
            (options.jobs, options.entry_events) = (1, false);
        })),
    };
    let job = single(&from, &to).unwrap();
    if words[3] == "count" {
        failpoint::arm(None);
        assert!(job.run().unwrap().is_complete());
        return failpoint::disarm()
            .iter()
            .for_each(|call| say(&format!("call {call:?}")));
    }
    failpoint::arm(Some(Plan {
        call: None,
        nth: words[3].parse().unwrap(),
        count: 1,
        effect: Effect::Exit,
    }));
    panic!("it lived: {:?}", job.run());
}

/// The process dies at a call: what has its name is whole, and the same command goes on to the end.
#[test]
fn dies_at_every_call() {
    const TEST: &str = "shards::dies_at_every_call";
    if let Some(words) = order() {
        return child(&words);
    }
    let scratch = Scratch::new();
    if !can_hold_everything(scratch.path()) {
        return;
    }
    let source = scratch.tree("source");
    everything(&source);
    let wanted = facts(source.path());
    let start = |(from, to): (&str, &str), what: &str| {
        let log = scratch.at(&format!("{to}.log"));
        let words = [&scratch.path().display().to_string(), from, to, what].map(str::to_owned);
        finish(again(TEST, &words, &log), &log)
    };
    let healed = |from: &Path, to: &Path, packs: bool| {
        let job = if packs {
            pack::job(packing(from, to, |options| options.shard_bytes = 100_000))
        } else {
            unpack::job(unpacking(from, to, |_| {}))
        };
        run(&job.unwrap())
    };
    for (from, to) in [("source", "shards"), ("shards", "back")] {
        let packs = from == "source";
        let (code, text) = start((from, to), "count");
        assert_eq!(code, Some(0), "{text}");
        let calls: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("call ")).collect();
        let step = if exhaustive() { 1 } else { calls.len() / 24 + 1 };
        let points: Vec<usize> = (0..calls.len()).step_by(step).collect();
        let wrong = each(points.len(), |index| {
            let nth = points[index];
            let name = format!("{to}-{nth}");
            let (code, text) = start((from, &name), &nth.to_string());
            let target = scratch.at(&name);
            let mut wrong = Vec::new();
            if code != Some(99) {
                wrong.push(format!("{code:?}: {text}"));
            }
            if !packs && target.exists() {
                for (path, fact) in facts(&target) {
                    let whole = wanted.get(&path).is_some_and(|other| other.same_content(&fact));
                    if !whole && !path.contains(".bh-") {
                        wrong.push(format!("{path} is not whole"));
                    }
                }
            }
            let done = healed(&scratch.at(from), &target, packs);
            if !done.as_ref().is_ok_and(|done| done.report.is_complete()) {
                wrong.push(format!("it does not go on: {done:?}"));
            }
            if has_staging(&target) {
                wrong.push("something unfinished is left".to_owned());
            }
            let back = if packs {
                scratch.at(&format!("back-of-{nth}"))
            } else {
                target.clone()
            };
            if packs {
                let done = healed(&target, &back, false);
                if !done.as_ref().is_ok_and(|done| done.report.is_complete()) {
                    wrong.push(format!("it can't be unpacked: {done:?}"));
                }
                fs::remove_dir_all(&target).unwrap();
            }
            if facts(&back) != wanted {
                wrong.push("something else came back".to_owned());
            }
            fs::remove_dir_all(&back).unwrap();
            wrong
                .iter()
                .map(|what| format!("call {nth} {}: {what}", calls[nth]))
                .collect()
        });
        println!("{from}: {} of {} points tried", points.len(), calls.len());
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

/// Damage in a compressed shard costs what is in its own frame.
#[test]
fn a_damaged_frame_costs_its_own_entries() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    for seed in 0..12_u8 {
        source.file(format!("{seed:02}"), content(seed, 300_000 + usize::from(seed)));
    }
    for (name, format) in [("zstd", ArchiveFormat::Zstd), ("bgzf", ArchiveFormat::Bgzf)] {
        let at = scratch.at(name);
        pack(source.path(), &at, |options| options.compression = Some(format)).complete();
        let shard = shards(&at).pop().unwrap();
        let mut bytes = fs::read(&shard).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        fs::write(&shard, bytes).unwrap();
        for jobs in [1, 3] {
            let back = Tree::new(scratch.at(&format!("back-{name}-{jobs}")));
            let done = unpack(&at, back.path(), |options| options.jobs = jobs).incomplete();
            let (failed, there) = (done.report.failures.len(), back.names().len());
            assert!((1..=4).contains(&failed) && there == 12 - failed, "{done:?}");
            for name in back.names() {
                assert_eq!(back.read(&name), source.read(&name), "{name}");
            }
        }
        let verified = unpack(&at, source.path(), |options| options.task = Task::Verify).incomplete();
        assert!(verified.report.failures.len() <= 5, "{verified:?}");
    }
}

/// Whatever becomes of one name of a file in later states, its others have its content, and are names of one file.
#[test]
fn names_of_a_file_over_states() {
    for compression in [None, Some(ArchiveFormat::Zstd)] {
        let scratch = Scratch::new();
        let (source, outside) = (scratch.tree("source"), scratch.tree("outside"));
        for seed in 0..4_u8 {
            source.file(format!("{seed}/first"), content(seed, 300_000));
            source.link(format!("z{seed}/second"), format!("{seed}/first"));
            source.link(format!("z{seed}/third"), format!("{seed}/first"));
        }
        let shards_at = scratch.at("shards");
        let packed = || pack(source.path(), &shards_at, |options| options.compression = compression).complete();
        packed();
        // Nothing is done to a file when a directory above it gets another name, or goes elsewhere.
        fs::rename(source.at("1"), source.at("moved")).unwrap();
        fs::rename(source.at("2"), outside.at("2")).unwrap();
        fs::remove_file(source.at("3/first")).unwrap();
        packed();
        let wanted = facts(source.path());
        unpack(&shards_at, &scratch.at("back"), |_| {}).complete();
        assert_eq!(facts(&scratch.at("back")), wanted, "{compression:?}");
        // One of them alone brings the content.
        let one = Tree::new(scratch.at("one"));
        unpack(&shards_at, one.path(), |options| {
            options.only = vec![b"z2/third".to_vec()];
        })
        .complete();
        assert_eq!(
            (one.names(), one.read("z2/third")),
            (vec!["z2".to_owned(), "z2/third".to_owned()], content(2, 300_000))
        );
        // What a later shard has of a file, it has all of.
        let last = shards(&shards_at).pop().unwrap();
        unpack(&last, &scratch.at("last"), |_| {}).complete();
        let last = facts(&scratch.at("last"));
        assert_eq!(last["z1/third"], wanted["z1/third"]);
        assert_eq!(last["z1/third"].first, "moved/first");
    }
}

/// Where no index is, a further name brings the content of its file too.
#[test]
fn names_without_an_index() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source
        .file("first", "content")
        .link("d/second", "first")
        .link("third", "first");
    for compression in [None, Some(ArchiveFormat::Bgzf)] {
        let (shards, back) = (scratch.at("shards"), Tree::new(scratch.at("back")));
        pack(source.path(), &shards, |options| options.compression = compression).complete();
        fs::remove_file(shards.join("shard-00001.jsonl")).unwrap();
        let done = unpack(&shards, back.path(), |options| {
            options.only = vec![b"first".to_vec(), b"third".to_vec()];
        });
        assert_eq!(done.complete().counts(), "copied 1, linked 1");
        assert_eq!(back.read("third"), b"content");
        assert_eq!(facts(back.path())["third"].first, "first");
        fs::remove_dir_all(shards).unwrap();
        fs::remove_dir_all(back.path()).unwrap();
    }
}

/// A further name is one of what had the path of its file before it, as for GNU tar.
#[test]
fn names_in_an_archive_that_was_added_to() {
    let scratch = Scratch::new();
    let mut archive = Vec::new();
    let mut add = |path: &[u8], what: What, content: &[u8]| {
        let mut header = Header::new(path.to_vec(), what);
        (header.mode, header.size) = (0o644, content.len() as u64);
        tar::write(&header, &mut archive);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(tar::BLOCK), 0);
    };
    let link = |to: &[u8]| What::Link(to.to_vec());
    add(b"a", What::File, b"one");
    add(b"b", link(b"a"), b"");
    add(b"c", link(b"./a"), b"");
    add(b"twice", What::File, b"three");
    add(b"twice", link(b"twice"), b"");
    add(b"text", What::Symlink(b"a".to_vec()), b"");
    add(b"name", link(b"text"), b"");
    add(b"gone", What::File, b"four");
    add(b"there", link(b"gone"), b"");
    add(b"a", What::File, b"another");
    add(b"d", link(b"a"), b"");
    add(b"gone", What::Fifo, b"");
    archive.extend_from_slice(&tar::END);
    fs::write(scratch.at("added.tar"), archive).unwrap();
    let theirs = scratch.tree("theirs");
    must("tar", &[&"-xf", &scratch.at("added.tar"), &"-C", &theirs.path()]);
    for jobs in [1, 2] {
        let ours = Tree::new(scratch.at(&format!("ours-{jobs}")));
        unpack(&scratch.at("added.tar"), ours.path(), |options| {
            (options.jobs, options.owner) = (jobs, false);
        })
        .complete();
        assert_eq!(ours.names(), theirs.names());
        for (name, content) in [
            ("a", "another"),
            ("b", "one"),
            ("d", "another"),
            ("twice", "three"),
            ("there", "four"),
        ] {
            let read = [ours.read(name), theirs.read(name)];
            assert_eq!(read, [content.as_bytes(); 2], "{name}");
        }
        let first = |tree: &Tree, name: &str| facts(tree.path())[name].first.clone();
        for name in ["b", "c", "d", "name"] {
            assert_eq!(first(&ours, name), first(&theirs, name), "{name}");
        }
        fs::remove_dir_all(ours.path()).unwrap();
        let one = unpack(&scratch.at("added.tar"), ours.path(), |options| {
            (options.only, options.owner) = (vec![b"c".to_vec()], false);
        });
        one.complete();
        assert_eq!((ours.names(), ours.read("c")), (vec!["c".to_owned()], b"one".to_vec()));
    }
}

/// Names that lead out, links that do, and entries that are something else than before.
fn hostile() -> impl Strategy<Value = Vec<(Vec<u8>, What)>> {
    let part = prop::sample::select(vec!["a", "b", "..", ".", "", "outside", "victim"]);
    let path = (any::<bool>(), prop::collection::vec(part, 1..4));
    let path = path.prop_map(|(absolute, parts)| {
        let path = parts.join("/");
        if absolute { format!("/{path}") } else { path }.into_bytes()
    });
    let text = prop::sample::select(vec!["..", "../outside", "a", "/", "../../outside/victim", "b/.."]);
    let what = prop_oneof![
        3 => Just(What::File),
        1 => Just(What::Directory),
        2 => text.prop_map(|text| What::Symlink(text.into())),
        2 => path.clone().prop_map(What::Link),
        1 => Just(What::Fifo),
    ];
    prop::collection::vec((path, what), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if exhaustive() { 4096 } else { 64 }))]

    /// Whatever an archive says, nothing outside of the target is there, changed or gone, and all is accounted for.
    #[test]
    fn nothing_leads_out(entries in hostile(), hits in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..3)) {
        let scratch = Scratch::new();
        let outside = scratch.tree("outside");
        outside.file("victim", "mine");
        let mut archive = Vec::new();
        for (path, what) in entries {
            let mut header = Header::new(path, what);
            (header.mode, header.size) = (0o644, if header.what == What::File { 6 } else { 0 });
            tar::write(&header, &mut archive);
            if header.size > 0 {
                archive.extend_from_slice(b"theirs");
                archive.resize(archive.len().next_multiple_of(tar::BLOCK), 0);
            }
        }
        archive.extend_from_slice(&tar::END);
        for (index, value) in hits {
            let at = index.index(archive.len());
            archive[at] = value;
        }
        fs::write(scratch.at("evil.tar"), archive).unwrap();
        let before = facts(outside.path());
        for jobs in [1, 2] {
            let job = unpack::job(unpacking(&scratch.at("evil.tar"), &scratch.at("target"), |options| {
                (options.jobs, options.owner, options.entry_events) = (jobs, false, false);
            }));
            let report = job.unwrap().run().unwrap();
            prop_assert!(report.accounted);
            prop_assert_eq!(facts(outside.path()), before.clone());
            let mut names: Vec<_> = fs::read_dir(scratch.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            prop_assert_eq!(names, ["evil.tar", "outside", "target"]);
        }
    }
}

/// Entries of a tree by paths that are made up: the number of the file, whose further names come to be links.
fn made() -> impl Strategy<Value = BTreeMap<Vec<u8>, u8>> {
    let path = prop::collection::vec(0..3_u8, 1..5);
    prop::collection::btree_map(path, 0..12_u8, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if exhaustive() { 256 } else { 12 }))]

    /// Each shard restores on its own: its entries are whole, links of one file are in one shard, and the directories above
    /// have what they had.
    #[test]
    fn each_shard_restores_on_its_own(entries in made(), shard_bytes in 4_000..60_000_u64) {
        let scratch = Scratch::new();
        let source = scratch.tree("source");
        let mut first: BTreeMap<u8, String> = BTreeMap::new();
        for (path, number) in &entries {
            let names: Vec<String> = path.iter().map(|part| char::from(b'a' + part).to_string()).collect();
            // What others have as a directory is none.
            let path = format!("{}/{number}", names.join("/"));
            if let Some(first) = first.get(number) {
                source.link(&path, first);
            } else {
                source.file(&path, vec![b'0' + number; usize::from(*number) * 1500]);
                first.insert(*number, path);
            }
        }
        for name in source.names().iter().rev() {
            source.time(name, 1_500_000_000, 7);
        }
        source.time("", 1_500_000_000, 8);
        let wanted = facts(source.path());
        pack(source.path(), &scratch.at("shards"), |options| options.shard_bytes = shard_bytes).complete();
        let mut seen = BTreeSet::new();
        for (number, shard) in shards(&scratch.at("shards")).iter().enumerate() {
            let back = scratch.at(&format!("back-{number}"));
            unpack(shard, &back, |_| {}).complete();
            for (path, fact) in facts(&back) {
                prop_assert_eq!(Some(&fact), wanted.get(&path), "{} of {}", path, shard.display());
                seen.insert(path);
            }
        }
        prop_assert_eq!(seen.len(), wanted.len());
    }
}

#[test]
fn paths_of_twelve_thousand_bytes() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    // Deeper than the system takes in one call: made and looked at from where the last one ended.
    let name = "n".repeat(200);
    let steps = format!("for n in $(seq 60); do mkdir {name} && cd -P {name}; done && printf deep > file");
    must("sh", &[&"-c", &format!("cd {} && {steps}", source.path().display())]);
    pack(source.path(), &scratch.at("shards"), |_| {}).complete();
    let tar = scratch.at("shards").join("shard-00001.tar");
    let listed = must("tar", &[&"-tf", &tar]);
    assert!(
        listed
            .lines()
            .any(|path| path.len() > 12_000 && path.ends_with("/file"))
    );
    let back = scratch.at("back");
    unpack(&scratch.at("shards"), &back, |_| {}).complete();
    let again = unpack(&scratch.at("shards"), &back, |_| {}).complete();
    assert_eq!(again.counts(), "skipped 62 (unchanged 62)");
    let look = format!(
        "cd {} && for n in $(seq 60); do cd -P {name}; done && cat file",
        back.display()
    );
    assert_eq!(must("sh", &[&"-c", &look]), "deep");
}

/// A file of 8 EiB, less what no offset reaches, is mostly a hole.
#[test]
fn holes_of_eight_exbibytes() {
    const SIZE: u64 = i64::MAX.unsigned_abs();
    let scratch = Scratch::new();
    let Some(disk) = scratch.file_system("tmpfs", "") else {
        return;
    };
    let source = Tree::new(disk.join("source"));
    let file = fs::File::create(source.at("huge")).unwrap();
    if let Err(error) = file.set_len(SIZE) {
        println!("skip: no file is that long: {error}");
        return;
    }
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"middle", 1 << 62).unwrap();
    file.write_all_at(b"e", SIZE - 4097).unwrap();
    pack(source.path(), &scratch.at("shards"), |_| {}).complete();
    let back = Tree::new(disk.join("back"));
    unpack(&scratch.at("shards"), back.path(), |_| {}).complete();
    let (file, mut read) = (fs::File::open(back.at("huge")).unwrap(), [0; 8]);
    assert_eq!(file.metadata().unwrap().len(), SIZE);
    assert!(file.metadata().unwrap().blocks() < 1000);
    for (offset, text) in [
        (0, &b"begin\0\0\0"[..]),
        (1 << 62, b"middle\0\0"),
        (SIZE - 4097, b"e\0\0\0\0\0\0\0"),
    ] {
        file.read_exact_at(&mut read, offset).unwrap();
        assert_eq!(read, text);
    }
    let verified = unpack(&scratch.at("shards"), back.path(), |options| {
        options.task = Task::Verify;
    });
    verified.complete();
}

#[test]
fn seventy_thousand_links() {
    let scratch = Scratch::new();
    // Others have room for less: ext4 for 65,000, btrfs for 65,535. Each counts as an inode there.
    let Some(disk) = scratch.file_system("tmpfs", "nr_inodes=0") else {
        return;
    };
    let source = Tree::new(disk.join("source"));
    source.file("first", "content");
    for number in 1..70_000 {
        fs::hard_link(source.at("first"), source.at(number.to_string())).unwrap();
    }
    pack(source.path(), &scratch.at("shards"), |options| {
        options.shard_bytes = 1 << 20;
    })
    .complete();
    assert_eq!(shards(&scratch.at("shards")).len(), 1);
    let back = Tree::new(disk.join("back"));
    let done = unpack(&scratch.at("shards"), back.path(), |_| {}).complete();
    assert_eq!(done.counts(), "copied 1, linked 69999, metadata 1");
    assert_eq!(fs::metadata(back.at("first")).unwrap().nlink(), 70_000);
    // By GNU tar, too.
    let other = Tree::new(disk.join("other"));
    must(
        "tar",
        &[
            &"-xf",
            &scratch.at("shards").join("shard-00001.tar"),
            &"-C",
            &other.path(),
        ],
    );
    assert_eq!(fs::metadata(other.at("69999")).unwrap().nlink(), 70_000);
}
