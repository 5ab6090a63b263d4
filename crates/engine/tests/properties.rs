//! Properties: the plan against a table, and random trees copied over random trees against a model.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bulkhaul_engine::Kind;
use bulkhaul_engine::bytes::transfer::Sparse;
use bulkhaul_engine::copy::options::{Collision, CopyOptions};
use bulkhaul_engine::copy::plan::{Action, plan};
use bulkhaul_engine::entry::{Changes, KINDS, Outcome, Reason};
use bulkhaul_engine::tree::times::Kept;
use bulkhaul_sys::{Identity, Protection, Stat, Time};
use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::rig::{Scratch, contents, copy, has_staging, listing, modified, set_time};

fn stat() -> impl Strategy<Value = Stat> {
    let time = (0..2_i64, prop::sample::select(vec![0_u32, 40, 2000, 500_000_000]));
    (0..KINDS.len(), 0..3_u64, time, 1..3_u64, 0..4_u64).prop_map(|(kind, size, (sec, nsec), rdev, ino)| Stat {
        kind: KINDS[kind],
        mode: 0o644,
        uid: 0,
        gid: 0,
        nlink: 1,
        size,
        allocated: size,
        id: Identity { dev: 1, ino },
        rdev,
        atime: Time::default(),
        mtime: Time {
            sec: 1_700_000_000 + sec,
            nsec,
        },
        ctime: Time::default(),
        protection: Protection::None,
    })
}

fn whole_second(time: Time) -> Time {
    Time { nsec: 0, ..time }
}

/// What is to be done, by a table; the first row that fits decides. `whole`: the destination keeps whole seconds.
fn by_table(source: &Stat, existing: &Stat, tail: u64, whole: bool) -> &'static str {
    let file = source.kind == Kind::File;
    let device = matches!(source.kind, Kind::Block | Kind::Char);
    let nanoseconds = |t: Time| i128::from(t.sec) * 1_000_000_000 + i128::from(t.nsec);
    // 40 nanoseconds are less than a double tells at this time, a microsecond is more.
    let apart = (nanoseconds(source.mtime) - nanoseconds(existing.mtime)).abs() >= 1000;
    let kept = whole && existing.mtime == whole_second(source.mtime);
    let rows = [
        (source.is_same(existing), "same file"),
        (existing.kind == Kind::Directory, "conflict"),
        (source.kind != existing.kind, "replace"),
        (source.kind == Kind::Symlink, "probe"),
        (device && source.rdev != existing.rdev, "replace"),
        (!file, "keep"),
        (source.size != existing.size || (apart && !kept), "replace"),
        (source.size == 0 || tail == 0, "keep"),
    ];
    rows.into_iter()
        .find(|(fits, _)| *fits)
        .map_or("probe", |(_, answer)| answer)
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn plan_follows_the_table(
        source in stat(),
        existing in stat(),
        tail in prop::sample::select(vec![0, 1, u64::MAX]),
        whole in any::<bool>(),
    ) {
        // Directories are not planned here.
        prop_assume!(source.kind != Kind::Directory);
        let (kept, existing) = if whole {
            let mtime = whole_second(existing.mtime);
            (Kept::learn(|time| Ok(whole_second(time))), Stat { mtime, ..existing })
        } else {
            (Kept::UNKNOWN, existing)
        };
        let answer = match plan(&source, Some(&existing), tail, &kept) {
            Action::Create => "create",
            Action::Replace(changes) => {
                prop_assert!(!changes.is_empty());
                prop_assert_eq!(changes.0 & Changes::NEW.0, 0);
                let size = source.kind == Kind::File && existing.kind == Kind::File && source.size != existing.size;
                prop_assert_eq!(changes.0 & Changes::SIZE.0 != 0, size);
                "replace"
            }
            Action::Probe => "probe",
            Action::Compare => "compare",
            Action::Keep => "keep",
            Action::Skip(Reason::SameFile) => "same file",
            Action::Skip(_) => "skip",
            Action::Conflict(_) => "conflict",
        };
        prop_assert_eq!(answer, by_table(&source, &existing, tail, whole));
        prop_assert_eq!(plan(&source, None, tail, &kept), Action::Create);
    }
}

/// A file of a small tree: three bytes of `tail`, and something before them if it is long.
#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    head: u8,
    tail: u8,
    long: bool,
    time: u8,
    mode: u32,
}

/// An entry of a small tree. Times are seconds after a fixed one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    File(File),
    Directory { entries: Entries, time: u8, mode: u32 },
    Symlink { text: u8, time: u8 },
    Fifo { time: u8, mode: u32 },
}

type Entries = BTreeMap<String, Item>;

const EPOCH: i64 = 1_600_000_000;
/// Bytes at the end of a file that `tail` fills.
const TAIL: usize = 3;

impl File {
    fn content(&self) -> Vec<u8> {
        let mut content = vec![self.head; if self.long { 9 } else { 0 }];
        content.extend([self.tail; TAIL]);
        content
    }

    /// The skip rule: size, time, and the last `tail` bytes.
    fn passes_for(&self, other: &File, tail: u64) -> bool {
        let there = |file: &File| {
            file.content()
                .into_iter()
                .rev()
                .take(usize::try_from(tail).unwrap_or(usize::MAX))
                .collect::<Vec<_>>()
        };
        (self.long, self.time) == (other.long, other.time) && there(self) == there(other)
    }
}

fn item() -> impl Strategy<Value = Item> {
    let mode = || prop::sample::select(vec![0o600, 0o644]);
    let leaf = prop_oneof![
        4 => (0..2_u8, 0..2_u8, any::<bool>(), 0..2_u8, mode())
            // A short file has no head: equal files are equal items.
            .prop_map(|(head, tail, long, time, mode)| File { head: head * u8::from(long), tail, long, time, mode })
            .prop_map(Item::File),
        1 => (0..2_u8, 0..2_u8).prop_map(|(text, time)| Item::Symlink { text, time }),
        1 => (0..2_u8, mode()).prop_map(|(time, mode)| Item::Fifo { time, mode }),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let mode = prop::sample::select(vec![0o700, 0o755]);
        (entries(inner), 0..2_u8, mode).prop_map(|(entries, time, mode)| Item::Directory { entries, time, mode })
    })
}

fn entries(item: impl Strategy<Value = Item>) -> impl Strategy<Value = Entries> {
    prop::collection::btree_map("[a-d]", item, 0..5)
}

fn tree() -> impl Strategy<Value = Item> {
    (entries(item()), 0..2_u8).prop_map(|(entries, time)| Item::Directory {
        entries,
        time,
        mode: 0o755,
    })
}

/// Makes an entry.
fn make(path: &Path, item: &Item) {
    let (time, mode) = match item {
        Item::File(file) => {
            fs::write(path, file.content()).unwrap();
            (file.time, Some(file.mode))
        }
        Item::Directory { entries, time, mode } => {
            fs::create_dir(path).unwrap();
            for (name, item) in entries {
                make(&path.join(name), item);
            }
            (*time, Some(*mode))
        }
        Item::Symlink { text, time } => {
            std::os::unix::fs::symlink(format!("text-{text}"), path).unwrap();
            (*time, None)
        }
        Item::Fifo { time, mode } => {
            let path = crate::rig::c_string(path);
            bulkhaul_sys::make_node(bulkhaul_sys::current_directory(), &path, Kind::Fifo, 0).unwrap();
            (*time, Some(*mode))
        }
    };
    if let Some(mode) = mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    set_time(path, EPOCH + i64::from(time), 77);
}

/// Reads an entry back; panics at what no model makes.
fn read(path: &Path) -> Item {
    let stat = fs::symlink_metadata(path).unwrap();
    let (sec, nsec) = modified(path);
    assert_eq!(nsec, 77, "{}", path.display());
    let time = u8::try_from(sec - EPOCH).unwrap();
    let mode = stat.permissions().mode() & 0o7777;
    if stat.is_dir() {
        let names = fs::read_dir(path)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap());
        let entries = names.map(|name| (name.clone(), read(&path.join(name)))).collect();
        Item::Directory { entries, time, mode }
    } else if stat.is_symlink() {
        let text = fs::read_link(path).unwrap();
        let text = text.to_str().unwrap().strip_prefix("text-").unwrap().parse().unwrap();
        Item::Symlink { text, time }
    } else if stat.is_file() {
        let bytes = fs::read(path).unwrap();
        let long = bytes.len() > TAIL;
        let file = File {
            head: bytes[0] * u8::from(long),
            tail: bytes[bytes.len() - 1],
            long,
            time,
            mode,
        };
        assert_eq!(bytes, file.content(), "{}", path.display());
        Item::File(file)
    } else {
        Item::Fifo { time, mode }
    }
}

/// What a copy is to count.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    outcomes: BTreeMap<&'static str, u64>,
    overridden: u64,
}

impl Counts {
    fn add(&mut self, outcome: &'static str) {
        *self.outcomes.entry(outcome).or_default() += 1;
    }

    fn remove(&mut self, item: &Item) {
        *self.outcomes.entry("removed").or_default() += size(item);
    }
}

fn directory(item: &Item) -> Option<&Entries> {
    match item {
        Item::Directory { entries, .. } => Some(entries),
        _ => None,
    }
}

/// Entries in a tree, itself counted.
fn size(item: &Item) -> u64 {
    1 + directory(item).map_or(0, |entries| entries.values().map(size).sum())
}

/// The model of a copy: `sources` merge into `to`; `tail` bytes decide what is the same. `mirror`: what is extra goes.
fn merge(sources: &[&Entries], to: &mut Entries, tail: u64, mirror: bool, counts: &mut Counts) {
    let mut names: Vec<&String> = sources.iter().flat_map(|s| s.keys()).collect();
    names.sort();
    names.dedup();
    if mirror {
        let extra = to.extract_if(.., |name, _| !names.contains(&name));
        extra.for_each(|(_, item)| counts.remove(&item));
    }
    for name in names {
        let having: Vec<&Item> = sources.iter().filter_map(|s| s.get(name)).collect();
        let winner = having[having.len() - 1];
        counts.overridden += having.len() as u64 - 1;
        let mut existing = to.get(name).cloned();
        if let Some(old) = existing.take_if(|old| mirror && directory(old).is_some() != directory(winner).is_some()) {
            counts.remove(&old);
        }
        let existing_directory = existing.as_ref().and_then(directory).is_some();
        let (outcome, result) = match (winner, existing) {
            (Item::Directory { .. }, Some(_)) if !existing_directory => ("conflict", None),
            (Item::Directory { time, mode, .. }, existing) => {
                let merged: Vec<&Entries> = having.iter().filter_map(|i| directory(i)).collect();
                let mut entries = existing.as_ref().and_then(directory).cloned().unwrap_or_default();
                merge(&merged, &mut entries, tail, mirror, counts);
                let outcome = match existing {
                    None => "made",
                    Some(Item::Directory { time: t, mode: m, .. }) if (t, m) == (*time, *mode) => "skipped",
                    Some(_) => "metadata",
                };
                let (time, mode) = (*time, *mode);
                (outcome, Some(Item::Directory { entries, time, mode }))
            }
            _ if existing_directory => ("conflict", None),
            (Item::File(file), Some(Item::File(old))) if file.passes_for(&old, tail) => {
                let outcome = if file.mode == old.mode { "skipped" } else { "metadata" };
                let mode = file.mode;
                (outcome, Some(Item::File(File { mode, ..old })))
            }
            (Item::File(_), _) => ("copied", Some(winner.clone())),
            (Item::Symlink { text, time }, Some(Item::Symlink { text: x, time: t })) if *text == x => {
                (if *time == t { "skipped" } else { "metadata" }, Some(winner.clone()))
            }
            (Item::Fifo { .. }, Some(old @ Item::Fifo { .. })) => (
                if *winner == old { "skipped" } else { "metadata" },
                Some(winner.clone()),
            ),
            (Item::Symlink { .. } | Item::Fifo { .. }, _) => ("made", Some(winner.clone())),
        };
        counts.add(outcome);
        if let Some(result) = result {
            to.insert(name.clone(), result);
        }
    }
}

proptest! {
    // Each case makes trees and copies them several times.
    #![proptest_config(Config { cases: Config::default().cases / 3, failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_copy_is_its_model(
        sources in prop::collection::vec(tree(), 1..3),
        to in prop::option::of(tree()),
        jobs in 1..4_usize,
        (tail, full_hash) in prop::sample::select(vec![(0_u64, false), (3, false), (3, true), (65536, false)]),
        (verify, remove_extra) in any::<(bool, bool)>(),
        sparse in prop::sample::select(vec![Sparse::Auto, Sparse::Always, Sparse::Never]),
    ) {
        let scratch = Scratch::new();
        let mut arguments = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            let path = scratch.at(&format!("source-{index}"));
            make(&path, source);
            arguments.push(contents(path));
        }
        let destination = scratch.at("to");
        if let Some(to) = &to {
            make(&destination, to);
        }
        let change = |o: &mut CopyOptions| {
            (o.hash_size, o.full_hash, o.verify) = (tail, full_hash, verify);
            (o.jobs, o.sparse, o.remove_extra) = (jobs, sparse, remove_extra);
            o.on_collision = Collision::Last;
        };

        // The root is an entry like any other.
        let wrap = |item: &Item| Entries::from([("root".to_owned(), item.clone())]);
        let wrapped: Vec<Entries> = sources.iter().map(wrap).collect();
        let mut model = to.as_ref().map(wrap).unwrap_or_default();
        let mut counts = Counts::default();
        let decides = if full_hash || verify { u64::MAX } else { tail };
        let merged: Vec<_> = wrapped.iter().collect();
        // An empty source keeps what is extra.
        let mirror = remove_extra && sources.iter().all(|source| size(source) > 1);
        let mut would = Counts::default();
        merge(&merged, &mut model.clone(), decides, remove_extra, &mut would);
        let withheld = !mirror && would.outcomes.contains_key("removed");
        merge(&merged, &mut model, decides, mirror, &mut counts);
        // Arguments merge without one standing for the other.
        counts.overridden -= sources.len() as u64 - 1;

        let before = listing(scratch.path());
        let dry = copy(&arguments, &destination, |o| { change(o); o.dry_run = true; });
        prop_assert_eq!(listing(scratch.path()), before);
        let real = copy(&arguments, &destination, change);
        prop_assert_eq!(dry.counts(), real.counts());

        let totals = &real.report.totals;
        let mut counted = Counts { overridden: totals.reasons[Reason::Overridden as usize], ..Counts::default() };
        for outcome in Outcome::ALL {
            let mut n = totals.outcome_of(outcome);
            if outcome == Outcome::Skipped {
                n -= counted.overridden;
            }
            if n > 0 {
                counted.outcomes.insert(outcome.text(), n);
            }
        }
        prop_assert_eq!(&counted, &counts);
        prop_assert_eq!(&read(&destination), &model["root"]);
        prop_assert!(!has_staging(scratch.path()));
        let conflicts = counts.outcomes.get("conflict").copied().unwrap_or(0);
        prop_assert_eq!(real.report.is_complete(), conflicts == 0 && !withheld);
        prop_assert_eq!(real.report.failure_kinds.get("conflict").copied().unwrap_or(0), conflicts);

        // Complete means the same, by another judge: a copy of one source leaves nothing to do for rsync.
        if real.report.is_complete() && sources.len() == 1 && decides == u64::MAX {
            let (from, into) = (scratch.at("source-0/."), scratch.at("to/"));
            let delete = if mirror { "--delete" } else { "--recursive" };
            prop_assert_eq!(crate::rig::must("rsync", &[&"-aniHAX", &"--checksum", &delete, &from, &into]), "");
        }
        // And again: nothing is left but the conflicts.
        let again = copy(&arguments, &destination, change);
        let totals = &again.report.totals;
        prop_assert_eq!(totals.outcome_of(Outcome::Skipped) + conflicts, totals.all_found(), "{}", again.counts());
    }
}
