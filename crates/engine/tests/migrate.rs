//! A copy in which files become archives: what others make of them, what the next run takes for done, whose name is whose,
//! and that whatever fails or dies, a name shows what it had or a whole archive.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use bulkhaul_engine::ArchiveFormat as Format;
use bulkhaul_engine::copy::options::{CopyOptions, ManifestTo, Packing};
use bulkhaul_engine::entry::{Outcome, Reason};
use bulkhaul_engine::error::{Refusal, symbol};
use bulkhaul_engine::report::Report;
use bulkhaul_engine::{Algorithm, FilterStyle, ManifestFormat, copy};
use bulkhaul_sys::Errno;
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};

use crate::compress::{content_of, text};
use crate::faults::assert_none;
use crate::power::Disk;
use crate::rig::fault::{again, each, finish, order, say, stopped, with_stops};
use crate::rig::{
    Copied, NOBODY, Scratch, Tree, apart, attempt, content, contents, has_staging, modified, must, named, options,
};

/// The names that end so become archives.
fn packing(extensions: &[&str]) -> Packing {
    Packing {
        format: Format::Bgzf,
        level: None,
        extensions: extensions.iter().map(|each| each.as_bytes().to_vec()).collect(),
        min_size: 0,
        index: false,
        memory: None,
        replace: true,
        verify_source: false,
    }
}

/// Migrates what is in a tree.
fn migrate(from: &Tree, to: &Path, change: impl FnOnce(&mut CopyOptions, &mut Packing)) -> Copied {
    let mut packing = packing(&["tsv"]);
    attempt(&[contents(from.path())], to, |options| {
        change(options, &mut packing);
        options.packing = Some(packing);
    })
    .unwrap()
}

fn plain(_: &mut CopyOptions, _: &mut Packing) {}

/// The content of each file below a directory, of archives what is in them, by the program that is made for it.
fn held(root: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut names = Tree::new(root.to_owned()).names();
    names.retain(|name| root.join(name).is_file());
    let of = |name: String| {
        let path = root.join(&name);
        let content = content_of(&path).or_else(|| fs::read(&path).ok());
        (name, content)
    };
    names.into_iter().map(of).collect()
}

#[test]
fn what_arrives_is_what_was_there() {
    let sizes = [0, 1, 65_279, 65_280, 65_281, 150_000, 9 << 20];
    for (format, suffix) in [
        (Format::Bgzf, "gz"),
        (Format::Gzip, "gz"),
        (Format::Xz, "xz"),
        (Format::Zstd, "zst"),
    ] {
        let scratch = Scratch::new();
        let from = scratch.tree("from");
        for (seed, size) in (1..).zip(sizes) {
            let name = format!("d/{size}.TSV");
            from.file(&name, text(seed, size))
                .mode(&name, 0o640)
                .time(&name, 1_500_000_000, 7 + u32::from(seed));
        }
        from.file("random.tsv", content(9, 100_000)).file("other.txt", "other");
        from.file("packed.tsv", [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3])
            .symlink("link.tsv", "random.tsv");
        let to = scratch.at("to");
        let with = |options: &mut CopyOptions, packing: &mut Packing| {
            packing.format = format;
            options.verify = true;
        };
        let report = migrate(&from, &to, with).complete().report;
        let mut wanted: BTreeMap<String, Option<Vec<u8>>> = (1..)
            .zip(sizes)
            .map(|(seed, size)| (format!("d/{size}.TSV.{suffix}"), Some(text(seed, size))))
            .collect();
        wanted.insert(format!("random.tsv.{suffix}"), Some(content(9, 100_000)));
        wanted.insert("other.txt".into(), Some("other".into()));
        // What is compressed already is copied as it is, and a link is a link.
        wanted.insert("packed.tsv".into(), Some(from.read("packed.tsv")));
        wanted.insert("link.tsv".into(), fs::read(from.at("random.tsv")).ok());
        assert!(fs::symlink_metadata(to.join("link.tsv")).unwrap().is_symlink());
        fs::remove_file(to.join("link.tsv")).unwrap();
        wanted.remove("link.tsv");
        assert_eq!(held(&to), wanted, "{format:?}");
        let archive = to.join(format!("d/65280.TSV.{suffix}"));
        assert_eq!(modified(&archive), modified(&from.at("d/65280.TSV")));
        assert_eq!(fs::metadata(&archive).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(modified(&to.join("d")), modified(&from.at("d")));
        let [sum] = &report.conversions[..] else {
            panic!("{:?}", report.conversions)
        };
        assert_eq!(
            (&sum.extension[..], sum.files, sum.before),
            (
                &b"tsv"[..],
                sizes.len() as u64 + 1,
                sizes.iter().sum::<usize>() as u64 + 100_000
            )
        );
        // What was written is the archives, and what was copied as it is.
        let plain = report.totals.copied_bytes - sum.after;
        assert_eq!(
            plain,
            (from.read("other.txt").len() + from.read("packed.tsv").len()) as u64
        );
        assert!(sum.after < sum.before && report.totals.verified_files == sizes.len() as u64 + 3);
        // Nothing is done again, whether the ends are compared or all of it.
        for verify in [false, true] {
            let again = migrate(&from, &to, |options, packing| {
                packing.format = format;
                options.verify = verify;
            })
            .complete();
            assert_eq!(again.report.totals.copied_bytes, 0, "{format:?} {again:#?}");
            assert_eq!(
                again.report.totals.file_outcomes[Outcome::Skipped as usize],
                sizes.len() as u64 + 3
            );
        }
    }
}

#[test]
fn an_archive_that_is_there_is_never_taken_by_its_name() {
    for format in Format::ALL {
        let scratch = Scratch::new();
        let from = scratch.tree("from");
        let to = scratch.at("to");
        let own = text(1, 300_000);
        from.file("a.tsv", &own).time("a.tsv", 1_500_000_000, 7);
        let with = |_: &mut CopyOptions, packing: &mut Packing| packing.format = format;
        migrate(&from, &to, with).complete();
        let archive = to.join(format!("a.tsv{}", format.suffix()));
        let whole = fs::read(&archive).unwrap();
        // The same end with another length, another end, and others that are not whole; all with the time of the source.
        let other = |content: &[u8]| {
            let stale = scratch.tree("stale");
            stale.file("a.tsv", content).time("a.tsv", 1_500_000_000, 7);
            let there = scratch.at("made");
            migrate(&stale, &there, with).complete();
            let made = fs::read(there.join(archive.file_name().unwrap())).unwrap();
            fs::remove_dir_all(&there).unwrap();
            made
        };
        let mut end = own.clone();
        *end.last_mut().unwrap() ^= 1;
        let short = whole[..whole.len() - 1].to_vec();
        let mut flipped = whole.clone();
        let at = flipped.len() - 40;
        flipped[at] ^= 1;
        for (what, content) in [
            ("longer", other(&[&own[..5], &own[..]].concat())),
            ("other end", other(&end)),
            ("cut short", short),
            ("flipped", flipped),
            ("no archive", own.clone()),
            ("empty", Vec::new()),
        ] {
            fs::write(&archive, content).unwrap();
            crate::rig::set_time(&archive, 1_500_000_000, 7);
            let again = migrate(&from, &to, with).complete();
            assert_eq!(
                again.entry(archive.file_name().unwrap().to_str().unwrap()).outcome,
                Outcome::Copied,
                "{what}"
            );
            assert_eq!(fs::read(&archive).unwrap(), whole, "{format:?} {what}");
        }
        // Only reading all of it finds what is other than its end.
        let mut begin = own.clone();
        begin[0] ^= 1;
        let content = other(&begin);
        fs::write(&archive, &content).unwrap();
        crate::rig::set_time(&archive, 1_500_000_000, 7);
        migrate(&from, &to, |options, packing| {
            packing.format = format;
            options.full_hash = true;
        })
        .complete();
        assert_eq!(fs::read(&archive).unwrap(), whole, "{format:?}");
        // With another time it is of something else, as in any copy.
        crate::rig::set_time(&archive, 1_400_000_000, 0);
        let again = migrate(&from, &to, with).complete();
        assert_eq!(again.report.totals.file_outcomes[Outcome::Copied as usize], 1);
    }
}

#[test]
fn a_name_is_never_taken_from_another_entry() {
    let scratch = Scratch::new();
    let (from, other) = (scratch.tree("from"), scratch.tree("other"));
    from.file("a.tsv", text(1, 1000)).file("a.tsv.gz", "somebody's");
    from.file("b.tsv", text(2, 1000)).dir("b.tsv.gz");
    from.file("c.tsv", text(3, 1000))
        .file("d.tsv", text(4, 1000))
        .file("d.tsv.gz.gzi", "an index?");
    other.file("c.tsv.gz", "of the other source");
    let to = scratch.at("to");
    let mut pack = packing(&[".TSV"]);
    pack.index = true;
    let copied = attempt(&[contents(from.path()), contents(other.path())], &to, |options| {
        options.packing = Some(pack.clone());
    });
    let copied = copied.unwrap().incomplete();
    let told = copied.failures(from.path());
    let of = |name: &str| format!("conflict create - {name}");
    assert_eq!(told, ["a.tsv", "b.tsv", "c.tsv", "d.tsv"].map(of));
    assert_eq!(fs::read(to.join("a.tsv.gz")).unwrap(), b"somebody's");
    assert_eq!(fs::read(to.join("c.tsv.gz")).unwrap(), b"of the other source");
    assert!(to.join("b.tsv.gz").is_dir() && !to.join("d.tsv.gz").exists());
    // What does not come takes no name.
    let copied = attempt(&[contents(from.path())], scratch.at("without"), |options| {
        options.packing = Some(packing(&["tsv"]));
        options.filter = Some((FilterStyle::Rsync, vec![b"*.gz".to_vec(), b"*.gzi".to_vec()]));
    });
    copied.unwrap().complete();
    assert_eq!(content_of(&scratch.at("without/a.tsv.gz")), Some(text(1, 1000)));
    // In the destination, what is no file stays.
    fs::create_dir(scratch.at("taken")).unwrap();
    fs::create_dir(scratch.at("taken/c.tsv.gz")).unwrap();
    let copied = migrate(&from, &scratch.at("taken"), |options, _| options.remove_extra = true).incomplete();
    assert!(
        copied
            .failures(&scratch.at("taken"))
            .contains(&"conflict create - c.tsv.gz".to_owned())
    );
    assert!(scratch.at("taken/c.tsv.gz").is_dir());
}

#[test]
fn an_archive_of_other_content_stays_where_nothing_is_replaced() {
    let scratch = Scratch::new();
    let from = scratch.tree("from");
    from.file("a.tsv", text(1, 1000)).file("plain", "new");
    let to = scratch.tree("to");
    to.file("plain", "old").time("plain", 1, 0);
    let with = |_: &mut CopyOptions, packing: &mut Packing| packing.replace = false;
    migrate(&from, to.path(), with).complete();
    assert_eq!(to.read("plain"), b"new");
    // Another time alone is put right.
    from.time("a.tsv", 1_500_000_000, 0);
    migrate(&from, to.path(), with).complete();
    assert_eq!(modified(&to.at("a.tsv.gz")), (1_500_000_000, 0));
    from.file("a.tsv", text(2, 1000));
    let before = to.read("a.tsv.gz");
    let copied = migrate(&from, to.path(), with).incomplete();
    assert_eq!(copied.failures(to.path()), ["conflict create - a.tsv.gz"]);
    assert_eq!(to.read("a.tsv.gz"), before);
}

#[test]
fn names_of_one_file_are_names_of_one_archive() {
    let scratch = Scratch::new();
    let from = scratch.tree("from");
    from.file("a.tsv", text(1, 5000))
        .link("b.tsv", "a.tsv")
        .link("d/c.dat", "a.tsv")
        .link("d/e.dat", "a.tsv");
    let to = scratch.at("to");
    for (verify, index) in [(false, false), (true, true), (false, true)] {
        let with = |options: &mut CopyOptions, packing: &mut Packing| {
            (options.verify, packing.index) = (verify, index);
        };
        migrate(&from, &to, with).complete();
        let inode = |name: &str| fs::metadata(to.join(name)).unwrap().ino();
        assert_eq!(inode("a.tsv.gz"), inode("b.tsv.gz"));
        assert_eq!(inode("d/c.dat"), inode("d/e.dat"));
        assert_ne!(inode("a.tsv.gz"), inode("d/c.dat"));
        assert_eq!(content_of(&to.join("b.tsv.gz")), Some(text(1, 5000)));
        assert_eq!(fs::read(to.join("d/e.dat")).unwrap(), text(1, 5000));
        for name in ["a.tsv.gz.gzi", "b.tsv.gz.gzi"] {
            assert_eq!(to.join(name).exists(), index, "{name}");
        }
        if index {
            assert_eq!(inode("a.tsv.gz.gzi"), inode("b.tsv.gz.gzi"));
            fs::remove_file(to.join("b.tsv.gz.gzi")).unwrap();
        }
    }
    // Another content has another index, for both.
    fs::write(from.at("a.tsv"), text(2, 300_000)).unwrap();
    migrate(&from, &to, |_, packing| packing.index = true).complete();
    let inode = |name: &str| fs::metadata(to.join(name)).unwrap().ino();
    assert_eq!(
        (inode("a.tsv.gz"), inode("a.tsv.gz.gzi")),
        (inode("b.tsv.gz"), inode("b.tsv.gz.gzi"))
    );
    let part = must("bgzip", &[&"-b", &"200000", &"-s", &"10", &to.join("b.tsv.gz")]);
    assert_eq!(part.as_bytes(), &text(2, 300_000)[200_000..200_010]);
}

#[test]
fn an_archive_of_a_source_is_not_extra() {
    let scratch = Scratch::new();
    let from = scratch.tree("from");
    from.file("a.tsv", text(1, 5000)).file("keep.txt", "k");
    let to = scratch.tree("to");
    to.file("gone.tsv.gz", "of what is gone")
        .file("a.tsv", "from an earlier copy");
    for dry_run in [true, false, false] {
        let copied = migrate(&from, to.path(), |options, packing| {
            options.remove_extra = true;
            packing.index = true;
            options.dry_run = dry_run;
        })
        .complete();
        let removed = copied.report.totals.file_outcomes[Outcome::Removed as usize];
        assert!(removed <= 1, "{copied:#?}");
    }
    assert_eq!(to.names(), ["a.tsv", "a.tsv.gz", "a.tsv.gz.gzi", "keep.txt"]);
}

#[test]
fn an_index_goes_with_its_archive() {
    let scratch = Scratch::new();
    let from = scratch.tree("from");
    let own = text(1, 300_000);
    from.file("d/a.tsv", &own)
        .mode("d/a.tsv", 0o600)
        .time("d/a.tsv", 1_500_000_000, 7);
    let to = scratch.at("to");
    let with = |_: &mut CopyOptions, packing: &mut Packing| packing.index = true;
    let (archive, index) = (to.join("d/a.tsv.gz"), to.join("d/a.tsv.gz.gzi"));
    let part = |from: usize| {
        let offset = from.to_string();
        must("bgzip", &[&"-b", &offset, &"-s", &"10", &archive])
    };
    migrate(&from, &to, with).complete();
    assert_eq!(part(200_000).as_bytes(), &own[200_000..200_010]);
    assert_eq!(fs::metadata(&index).unwrap().mode() & 0o777, 0o600);
    // Without it the archive is made once more; with another content both are new, and whole together.
    let before = fs::read(&index).unwrap();
    fs::remove_file(&index).unwrap();
    migrate(&from, &to, with).complete();
    assert_eq!(fs::read(&index).unwrap(), before);
    let other = text(2, 500_000);
    from.file("d/a.tsv", &other).time("d/a.tsv", 1_500_000_001, 0);
    // Also where it is not asked for.
    migrate(&from, &to, plain).complete();
    assert_eq!(part(400_000).as_bytes(), &other[400_000..400_010]);
    let again = migrate(&from, &to, with).complete();
    assert_eq!(again.report.totals.file_outcomes[Outcome::Copied as usize], 0);
}

#[test]
fn manifests_of_the_content_by_its_names_and_of_what_is_stored() {
    let scratch = Scratch::new();
    let from = scratch.tree("from");
    from.file("a.tsv", text(1, 300_000))
        .file("d/b.txt", "b")
        .link("d/c.tsv", "a.tsv");
    for algorithm in [Algorithm::Blake3, Algorithm::Sha256] {
        let [manifest, stored] = ["manifest", "stored"].map(|name| scratch.at(name));
        let to = |path: &Path| ManifestTo {
            path: path.as_os_str().as_encoded_bytes().to_vec(),
            format: ManifestFormat::Sums,
            algorithms: vec![algorithm],
            sort_memory: 1 << 20,
        };
        let program = if algorithm == Algorithm::Sha256 {
            "sha256sum"
        } else {
            "b3sum"
        };
        let there = scratch.at(program);
        for _ in 0..2 {
            let with = |options: &mut CopyOptions, _: &mut Packing| {
                (options.manifest, options.stored_manifest) = (Some(to(&manifest)), Some(to(&stored)));
            };
            migrate(&from, &there, with).complete();
            for (directory, manifest) in [(from.path(), &manifest), (&there, &stored)] {
                let check = format!("cd '{}' && {program} -c '{}'", directory.display(), manifest.display());
                assert_eq!(must("sh", &[&"-c", &check]).matches(": OK").count(), 3);
            }
        }
        fs::remove_file(&stored).unwrap();
        migrate(&from, &scratch.at("again"), |options, _| {
            options.stored_manifest = Some(to(&stored));
        })
        .complete();
        assert!(fs::read_to_string(&stored).unwrap().contains("a.tsv.gz"));
        fs::remove_dir_all(scratch.at("again")).unwrap();
    }
}

#[test]
fn what_can_not_be_is_refused_before_anything_is_done() {
    let scratch = Scratch::new();
    let from = scratch.tree("from");
    from.file("a.tsv", "a");
    let refused = |change: &dyn Fn(&mut CopyOptions, &mut Packing)| {
        let mut pack = packing(&["tsv"]);
        let mut options = options(&[contents(from.path())], scratch.at("to"));
        change(&mut options, &mut pack);
        options.packing = Some(pack);
        copy::job(options).err().map(|refusal| refusal.to_string())
    };
    let level = refused(&|_, packing| packing.level = Some(13));
    let extension = refused(&|_, packing| packing.extensions = vec![b"a/b".to_vec()]);
    let moved = refused(&|options, _| options.remove_sources = true);
    let twice = refused(&|_, packing| packing.verify_source = true);
    for (refused, why) in [
        (level, "level 13"),
        (extension, "extensions: 'a/b'"),
        (moved, "stays in its source"),
        (twice, "goes with verify"),
    ] {
        assert!(refused.is_some_and(|text| text.contains(why)), "{why}");
    }
    assert!(!scratch.at("to").exists());
}

#[test]
fn small_ones_single_ones_and_dry_runs() {
    let scratch = Scratch::new();
    let from = scratch.tree("from");
    from.file("small.tsv", text(1, 99)).file("large.tsv", text(2, 100));
    let to = scratch.at("to");
    let with = |dry_run: bool| {
        move |options: &mut CopyOptions, packing: &mut Packing| {
            packing.min_size = 100;
            options.dry_run = dry_run;
        }
    };
    let dry = migrate(&from, &to, with(true)).complete();
    assert!(!to.exists() && dry.entry("large.tsv.gz").outcome == Outcome::Copied);
    migrate(&from, &to, with(false)).complete();
    assert_eq!(Tree::new(to.clone()).names(), ["large.tsv.gz", "small.tsv"]);
    let one = attempt(&[named(from.at("large.tsv"))], &to, |options| {
        options.packing = Some(packing(&[]));
    });
    assert_eq!(
        one.unwrap().complete().entry("large.tsv.gz").reason,
        Some(Reason::Unchanged)
    );
}

/// The destination has an older archive, and one that is whole. No time is the clock's: a round one that is near another
/// makes a copy ask what the destination keeps of times, and those calls would come now and then.
fn lay_out(base: &Path) -> Tree {
    let from = Tree::new(base.join("from"));
    let dated = |sec| {
        for name in from.names().iter().rev().map(String::as_str).chain([""]) {
            from.time(name, sec, 1);
        }
    };
    from.file("d/old.tsv", text(1, 3000))
        .file("d/same.tsv", text(2, 2000))
        .file("plain.txt", "plain");
    dated(1_400_000_000);
    migrate(&from, &base.join("to"), |_, packing| packing.index = true).complete();
    from.file("d/old.tsv", text(3, 150_000))
        .file("e/new.tsv", text(4, 70_000));
    dated(1_500_000_000);
    for same in ["d/same.tsv", "plain.txt"] {
        from.time(same, 1_400_000_000, 1);
    }
    from
}

/// One worker, so that calls come in one order.
fn trial(base: &Path) -> Result<Report, Refusal> {
    trial_with(base, false)
}

fn trial_with(base: &Path, verify_source: bool) -> Result<Report, Refusal> {
    let mut pack = packing(&["tsv"]);
    (pack.index, pack.verify_source) = (true, verify_source);
    copy::job(CopyOptions {
        jobs: 1,
        verify: true,
        entry_events: false,
        packing: Some(pack),
        ..options(&[contents(base.join("from"))], base.join("to"))
    })?
    .run()
}

/// What no name may show: `strict`, everything has to be there.
fn spoilt(base: &Path, strict: bool) -> Option<String> {
    let source: BTreeMap<_, _> = held(&base.join("from"));
    for (name, content) in &source {
        let new = content.clone();
        let stored = if name == "plain.txt" {
            name.clone()
        } else {
            format!("{name}.gz")
        };
        let path = base.join("to").join(&stored);
        if !path.exists() {
            if strict || name != "e/new.tsv" {
                return Some(format!("{stored} is not there"));
            }
            continue;
        }
        let there = content_of(&path).or_else(|| fs::read(&path).ok());
        let old = (name == "d/old.tsv" && !strict).then(|| text(1, 3000));
        if there != new && there != old {
            return Some(format!("{stored} is spoilt"));
        }
        if strict && name != "plain.txt" {
            let output = crate::rig::command("bgzip", &[&"-b", &"1000", &"-s", &"9", &path]);
            if output.stdout != new.unwrap()[1000..1009] {
                return Some(format!("the index of {stored} is another"));
            }
        }
    }
    None
}

fn not_healed(base: &Path) -> Option<String> {
    match trial(base) {
        Ok(report) if report.is_complete() => spoilt(base, true).or_else(|| {
            let left = has_staging(&base.join("to"));
            left.then(|| "the next run left something".to_owned())
        }),
        Ok(report) => Some(format!("the next run failed: {:?}", report.failures)),
        Err(refusal) => Some(format!("the next run was refused: {refusal}")),
    }
}

fn calls(test: &str, scratch: &Path) -> Vec<String> {
    let log = scratch.join("count.log");
    let (code, said) = finish(
        again(test, &["count".into(), scratch.display().to_string()], &log),
        &log,
    );
    assert_eq!(code, Some(0), "{said}");
    let lines = said.lines().filter_map(|line| line.strip_prefix("call "));
    lines.map(str::to_owned).collect()
}

fn count(scratch: &Path) {
    let base = scratch.join("count");
    lay_out(&base);
    failpoint::arm(None);
    let report = trial(&base);
    let calls = failpoint::disarm();
    assert!(report.unwrap().is_complete());
    for call in calls {
        say(&format!("call {call:?}"));
    }
}

const ERRNOS: [Errno; 3] = [Errno::IO, Errno::NOSPC, Errno::ACCESS];
/// Points that one process tries, one after the other.
const BATCH: usize = 24;

#[test]
fn every_call_fails_once() {
    const TEST: &str = "migrate::every_call_fails_once";
    if let Some(words) = order() {
        let scratch = Path::new(&words[1]);
        if words[0] == "count" {
            return count(scratch);
        }
        let errno = ERRNOS[words[2].parse::<usize>().unwrap()];
        for nth in words[3].split(',').map(|nth| nth.parse::<usize>().unwrap()) {
            let base = scratch.join(format!("{}-{nth}", words[2]));
            lay_out(&base);
            failpoint::arm(Some(Plan {
                call: None,
                nth,
                count: 1,
                effect: Effect::Errno(errno),
            }));
            let result = trial(&base);
            failpoint::disarm();
            let wrong = match &result {
                Ok(report) if !report.accounted => Some(format!("{:?}", report.failures)),
                Ok(report) if report.is_complete() => spoilt(&base, true),
                _ => spoilt(&base, false),
            };
            if let Some(wrong) = wrong.or_else(|| not_healed(&base)) {
                say(&format!(
                    "wrong {nth} {wrong}; {:?}",
                    result.map(|report| report.failures)
                ));
            }
            fs::remove_dir_all(&base).unwrap();
        }
        return say("done");
    }
    let scratch = Scratch::new();
    let calls = calls(TEST, scratch.path());
    let mut batches = Vec::new();
    for errno in 0..ERRNOS.len() {
        // Each with other calls.
        let all: Vec<usize> = (errno..calls.len()).step_by(ERRNOS.len()).collect();
        batches.extend(all.chunks(BATCH).map(|batch| (errno, batch.to_vec())));
    }
    let wrong = each(batches.len(), |index| {
        let (errno, batch) = &batches[index];
        let list: Vec<String> = batch.iter().map(usize::to_string).collect();
        let words = [
            "try".into(),
            scratch.path().display().to_string(),
            errno.to_string(),
            list.join(","),
        ];
        let log = scratch.at(&format!("{index}.log"));
        let (code, said) = finish(again(TEST, &words, &log), &log);
        let wrong = said
            .lines()
            .filter_map(|line| line.strip_prefix("wrong ")?.split_once(' '));
        let mut wrong: Vec<String> = wrong
            .map(|(nth, what)| {
                let call = &calls[nth.parse::<usize>().unwrap()];
                format!("{} call {nth} {call}: {what}", symbol(ERRNOS[*errno]))
            })
            .collect();
        if code != Some(0) || !said.contains("done\n") {
            wrong.push(format!("{batch:?}: {code:?} {said}"));
        }
        wrong
    });
    assert_none(&wrong);
}

#[test]
fn death_at_every_call() {
    const TEST: &str = "migrate::death_at_every_call";
    if let Some(words) = order() {
        if words[0] == "count" {
            return count(Path::new(&words[1]));
        }
        failpoint::arm(Some(Plan {
            call: None,
            nth: words[2].parse().unwrap(),
            count: 1,
            effect: Effect::Exit,
        }));
        let report = trial(Path::new(&words[1]));
        panic!("it lived: {report:?}");
    }
    let scratch = Scratch::new();
    let calls = calls(TEST, scratch.path());
    let wrong = each(calls.len(), |nth| {
        let base = scratch.at(&nth.to_string());
        lay_out(&base);
        let log = scratch.at(&format!("{nth}.log"));
        let words = ["die".into(), base.display().to_string(), nth.to_string()];
        let (code, said) = finish(again(TEST, &words, &log), &log);
        let wrong = if code == Some(99) {
            spoilt(&base, false).or_else(|| not_healed(&base))
        } else {
            Some(format!("{code:?}: {said}"))
        };
        fs::remove_dir_all(&base).unwrap();
        let tell = |what| format!("call {nth} {}: {what}", calls[nth]);
        wrong.map(tell).into_iter().collect()
    });
    println!("{} points tried", calls.len());
    assert_none(&wrong);
}

/// A bit that flips in any read, or in all from one on: what was written is found wrong, and made once more. Only what the
/// source gave wrongly in its one reading nobody can see, unless it is read twice.
#[test]
fn a_flipped_bit_between_writing_and_reading_back_is_found() {
    const TEST: &str = "migrate::a_flipped_bit_between_writing_and_reading_back_is_found";
    if let Some(words) = order() {
        for (nth, count) in (0..200).flat_map(|nth| [(nth, 1), (nth, usize::MAX)]) {
            let base = Path::new(&words[0]).join(format!("{nth}-{count}"));
            lay_out(&base);
            failpoint::arm(Some(Plan {
                call: Some(Call::Read),
                nth,
                count,
                effect: Effect::Flip,
            }));
            let report = trial_with(&base, words[1] == "twice").unwrap();
            let hits = failpoint::hits();
            failpoint::disarm();
            let wrong = spoilt(&base, report.is_complete());
            fs::remove_dir_all(&base).unwrap();
            if hits == 0 {
                break;
            }
            let told = if report.is_complete() { "complete" } else { "told" };
            let right = if wrong.is_some() { "wrong" } else { "right" };
            say(&format!("{told} {count} {right}"));
        }
        return say("done");
    }
    // Of the two that become archives each is read in one piece.
    for (how, blind) in [("once", 2), ("twice", 0)] {
        let scratch = Scratch::new();
        let log = scratch.at("log");
        let words = [scratch.path().display().to_string(), how.to_owned()];
        let (code, said) = finish(again(TEST, &words, &log), &log);
        assert!(code == Some(0) && said.contains("done\n"), "{said}");
        let wrong = said.lines().filter(|line| line.ends_with("wrong"));
        assert_eq!(wrong.clone().count(), blind, "{how}: {said}");
        assert!(wrong.clone().all(|line| line.starts_with("complete 1 ")), "{said}");
        assert!(
            said.matches(&format!("told {} right", usize::MAX)).count() > 5,
            "{said}"
        );
    }
}

/// What a run that died has finished in a directory that nobody sees yet is not made again, nor its index.
#[test]
fn archives_of_a_directory_that_was_not_published_stay() {
    const TEST: &str = "migrate::archives_of_a_directory_that_was_not_published_stay";
    const FILES: u64 = 120;
    if let Some(words) = order() {
        failpoint::arm(Some(Plan {
            call: Some(Call::Create),
            nth: 200,
            count: 1,
            effect: Effect::Exit,
        }));
        let base = Path::new(&words[0]);
        let lived = migrate(&Tree::new(base.join("from")), &base.join("to"), |options, packing| {
            (options.jobs, packing.index) = (1, true);
        });
        panic!("it lived: {lived:?}");
    }
    let scratch = Scratch::new();
    let from = scratch.tree("from");
    for number in 0..FILES {
        from.file(format!("{number}.tsv"), text(u8::try_from(number).unwrap(), 5000));
    }
    let log = scratch.at("log");
    let (code, said) = finish(again(TEST, &[scratch.path().display().to_string()], &log), &log);
    assert_eq!(code, Some(99), "{said}");
    assert!(!scratch.at("to").exists());
    let with = |_: &mut CopyOptions, packing: &mut Packing| packing.index = true;
    let report = migrate(&from, &scratch.at("to"), with).complete().report;
    // Those that waited for their sync are made again.
    let kept = report.totals.file_outcomes[Outcome::Skipped as usize];
    assert!((60..FILES).contains(&kept), "{kept}");
    assert_eq!(Tree::new(scratch.at("to")).names().len() as u64, 2 * FILES);
    assert!(!has_staging(scratch.path()));
}

/// Where the power goes, on each kind of file system.
const CUTS: usize = 14;

/// The power goes at some calls: a name has its old archive or its new one, whole, and the next run does the rest.
#[test]
fn a_power_cut_costs_nothing() {
    const TEST: &str = "migrate::a_power_cut_costs_nothing";
    if let Some(words) = order() {
        failpoint::arm(words[1].parse().ok().map(|nth| Plan {
            call: None,
            nth,
            count: 1,
            effect: Effect::Stop,
        }));
        let report = trial(Path::new(&words[0])).unwrap();
        let calls = failpoint::disarm();
        assert!(report.is_complete());
        return say(&format!("calls {}", calls.len()));
    }
    let mut wrong = Vec::new();
    for kind in ["ext4", "xfs"] {
        let scratch = Scratch::new();
        let Some(disk) = Disk::new(&scratch, kind) else { return };
        let log = scratch.at("log");
        let lay_out = |name: &str| {
            let base = disk.point.join(name);
            lay_out(&base);
            disk.sync();
            base
        };
        let words = |base: &Path, nth: &str| [base.display().to_string(), nth.to_owned()];
        let (code, said) = finish(again(TEST, &words(&lay_out("count"), "-"), &log), &log);
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
        for number in 0..CUTS {
            let base = lay_out(&number.to_string());
            // To beyond the last, in another order on each.
            let nth = calls * (number * 5 % CUTS + 1) / (CUTS - 1);
            let mut child = again(TEST, &words(&base, &nth.to_string()), &log).spawn().unwrap();
            let midway = stopped(&mut child);
            disk.cut(number % 2 == 0);
            if midway {
                child.kill().unwrap();
            }
            child.wait().unwrap();
            disk.restore();
            let what = spoilt(&base, false).or_else(|| {
                // Without reading all of it again: nothing may be taken for finished that is not.
                let report = migrate(&Tree::new(base.join("from")), &base.join("to"), |options, packing| {
                    (options.jobs, packing.index) = (1, true);
                });
                let report = report.report;
                let failed = (!report.is_complete()).then(|| format!("the next run failed: {:?}", report.failures));
                let left = || has_staging(&base.join("to")).then(|| "the next run left something".to_owned());
                failed.or_else(|| spoilt(&base, true)).or_else(left)
            });
            wrong.extend(what.map(|what| format!("{kind} call {nth} of {calls}: {what}")));
            fs::remove_dir_all(&base).unwrap();
            disk.sync();
        }
    }
    assert_none(&wrong);
}

/// There is no room for an archive: it is told, what was there stays, and nothing is left.
#[test]
fn a_full_disk_costs_nothing() {
    let scratch = Scratch::new();
    let Some(disk) = scratch.file_system("tmpfs", "size=1m") else {
        return;
    };
    let from = scratch.tree("from");
    from.file("a.tsv", content(1, 600_000)).file("b.tsv", text(2, 5000));
    let to = disk.join("to");
    migrate(&from, &to, plain).complete();
    let before = fs::read(to.join("a.tsv.gz")).unwrap();
    from.file("a.tsv", content(3, 600_001))
        .file("c.tsv", content(4, 600_000));
    for verify in [false, true] {
        let copied = migrate(&from, &to, |options, _| options.verify = verify).incomplete();
        let told = copied.failures(&to);
        assert!(told.iter().all(|line| line.starts_with("no-space ")), "{told:?}");
        assert!(fs::read(to.join("a.tsv.gz")).unwrap() == before && !to.join("c.tsv.gz").exists());
        assert_eq!(content_of(&to.join("b.tsv.gz")), Some(text(2, 5000)));
        assert!(!has_staging(&disk));
    }
}

/// A file that goes on growing while it is read is told, and gets no archive, or one of all that it had at some time.
#[test]
fn a_file_that_grows_is_told_or_whole() {
    const TEST: &str = "migrate::a_file_that_grows_is_told_or_whole";
    if let Some(words) = order() {
        failpoint::arm(Some(Plan {
            call: Some(Call::StatFd),
            nth: words[1].parse().unwrap(),
            count: 1,
            effect: Effect::Stop,
        }));
        let report = trial(Path::new(&words[0])).unwrap();
        failpoint::disarm();
        return say(&format!("{} {:?}", report.is_complete(), report.failures));
    }
    let scratch = Scratch::new();
    let mut whole = 0;
    for nth in 0.. {
        let base = scratch.at(&nth.to_string());
        let from = Tree::new(base.join("from"));
        from.file("a.tsv", text(1, 50_000));
        let log = scratch.at("log");
        let words = [base.display().to_string(), nth.to_string()];
        let mut stops = 0;
        let said = with_stops(again(TEST, &words, &log), &log, |_| {
            stops += 1;
            let mut file = fs::OpenOptions::new().append(true).open(from.at("a.tsv")).unwrap();
            file.write_all(b"more").unwrap();
        });
        if stops == 0 {
            break;
        }
        let archive = content_of(&base.join("to/a.tsv.gz"));
        let grown = [text(1, 50_000), b"more".to_vec()].concat();
        let fits = archive
            .as_ref()
            .is_none_or(|there| *there == grown || *there == text(1, 50_000));
        assert!(
            fits && (archive.is_some() || said.contains("false ")),
            "call {nth}: {said}"
        );
        assert!(!has_staging(&base), "call {nth}: {said}");
        whole += usize::from(archive.as_ref() == Some(&grown));
    }
    assert!(whole > 2, "{whole}");
}

/// Who may not write into a directory is told so, and what is there stays as it is.
#[test]
fn in_a_directory_that_is_read_only_nothing_happens() {
    const TEST: &str = "migrate::in_a_directory_that_is_read_only_nothing_happens";
    let prepare = |scratch: &Scratch| {
        let from = scratch.tree("from");
        from.file("closed/a.tsv", text(1, 5000))
            .file("open/b.tsv", text(2, 5000));
        let to = scratch.tree("to");
        to.dir("closed").dir("open").mode("open", 0o777).mode("closed", 0o755);
    };
    let body = |scratch: &Path| {
        let from = Tree::new(scratch.join("from"));
        let to = scratch.join("to");
        let copied = migrate(&from, &to, |options, _| options.owner = false).incomplete();
        let told = copied.failures(&to);
        assert!(
            told.contains(&"permission create EACCES closed/a.tsv.gz".to_owned()),
            "{told:?}"
        );
    };
    let after = |scratch: &Scratch| {
        assert_eq!(Tree::new(scratch.at("to")).names(), ["closed", "open", "open/b.tsv.gz"]);
    };
    apart(TEST, NOBODY, prepare, body, after);
}
