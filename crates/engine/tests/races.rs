//! Races: somebody without rights exchanges names in its own tree while root copies from it or into it.
//!
//! The attacker is this test program again, as nobody: it swaps a name with a symlink that leads outside, again and again.
//! Nothing outside may be read, written, made or changed in its metadata. Each race first proves itself: what uses paths,
//! written here, escapes in the same rig: a whole copy through directories, and what a race is about through the files
//! themselves. Where one does not within the time, the race is skipped and says so.

use std::fs::{self, Permissions};
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Uid, chmodat, chownat, linkat, openat, renameat,
    renameat_with, statat, symlinkat,
};

use bulkhaul_engine::remove::{Removal, RemoveOptions};

use crate::rig::fault::exhaustive;
use crate::rig::{
    NOBODY, Scratch, Tree, attempt, child, child_scratch, content, contents, has, listing, root, set_time,
};

const NOBODY_ID: u32 = 65534;
/// What is outside, and must stay there.
const SECRET: &[u8] = b"SECRET";

fn duration() -> Duration {
    Duration::from_secs(if exhaustive() { 10 } else { 2 })
}

/// Swaps that the engine has to see: ten times what a control needed to escape, these many at least and at most. A busy
/// machine swaps seldom.
const SWAPS: RangeInclusive<u64> = 50..=1000;

/// A control gets so long to escape: some windows are narrow.
const CONTROL: Duration = Duration::from_secs(30);

/// The attacker's process; it ends with this.
struct Attacker {
    child: Child,
    /// The names that it swaps, its end, and its count.
    scratch: PathBuf,
}

impl Attacker {
    /// Starts swapping the two names of each line. A first name of `*` stands for everything unfinished beside the second.
    fn start(test: &str, scratch: &Scratch, swaps: &[(&Path, &Path)]) -> Self {
        let lines = swaps.iter().map(|(a, b)| format!("{}\n{}\n", a.display(), b.display()));
        fs::write(scratch.at("swaps"), lines.collect::<String>()).unwrap();
        fs::write(scratch.at("swapped"), "").unwrap();
        give_away(&scratch.at("swapped"));
        Self {
            child: child(test, NOBODY, scratch),
            scratch: scratch.path().to_owned(),
        }
    }

    /// How often it has swapped.
    fn swapped(&self) -> u64 {
        let bytes = fs::read(self.scratch.join("swapped")).unwrap_or_default();
        bytes.try_into().map_or(0, u64::from_le_bytes)
    }

    /// Ends it.
    fn end(mut self) {
        fs::write(self.scratch.join("stop"), "").unwrap();
        let mut text = String::new();
        io::Read::read_to_string(self.child.stdout.as_mut().unwrap(), &mut text).unwrap();
        assert!(self.child.wait().unwrap().success(), "{text}");
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        // It may have ended already.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

fn exchange(one: &Path, other: &Path) -> bool {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok()
}

/// Makes sure that a link is what it was: the last one was taken away with the name that it was swapped for.
fn lay_bait(link: &Path, text: &Path, number: u64) {
    let laid = fs::read_link(link).is_ok_and(|now| now == text);
    // A directory of root's can only be moved out of the way.
    let free = laid
        || fs::remove_file(link).is_ok()
        || fs::rename(link, link.with_file_name(format!("taken-{number}"))).is_ok()
        || !link.exists();
    // Somebody else may have been faster; the next round tries again.
    if !laid && free && symlink(text, link).is_err() {
        println!("no bait at {}", link.display());
    }
}

/// In the child: swaps until it is told to stop, some minutes at most.
fn swap(scratch: &Path) {
    let text = fs::read_to_string(scratch.join("swaps")).unwrap();
    let lines: Vec<&Path> = text.lines().map(Path::new).collect();
    let texts: Vec<PathBuf> = lines
        .iter()
        .map(|path| fs::read_link(path).unwrap_or_default())
        .collect();
    let stop = scratch.join("stop");
    let counted = fs::File::options().write(true).open(scratch.join("swapped")).unwrap();
    let begin = Instant::now();
    let mut count = 0_u64;
    while !stop.exists() && begin.elapsed() < Duration::from_mins(4) {
        for (pair, texts) in lines.chunks(2).zip(texts.chunks(2)) {
            let (one, other) = (pair[0], pair[1]);
            if one != Path::new("*") {
                count += (0..64).map(|_| u64::from(exchange(one, other))).sum::<u64>();
                continue;
            }
            // What is unfinished has a new name each time: it is found, swapped, and perhaps swapped back.
            lay_bait(other, &texts[1], count);
            let names = fs::read_dir(other.parent().unwrap()).unwrap().filter_map(Result::ok);
            for name in names.filter(|n| n.file_name().as_encoded_bytes().starts_with(b".bh-")) {
                for _ in 0..2 {
                    count += u64::from(exchange(&name.path(), other));
                }
            }
        }
        counted.write_all_at(&count.to_le_bytes(), 0).unwrap();
    }
}

/// Gives a tree to nobody.
fn give_away(path: &Path) {
    lchown(path, Some(NOBODY_ID), Some(NOBODY_ID)).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give_away(&entry.unwrap().path());
        }
    }
}

/// A copy as it should not be: by paths. Answers how many entries failed.
fn by_paths(from: &Path, to: &Path) -> io::Result<u32> {
    if !to.exists() {
        fs::create_dir(to)?;
    }
    let mut failed = 0;
    for entry in fs::read_dir(from)? {
        let (path, target) = (entry.as_ref().unwrap().path(), to.join(entry?.file_name()));
        let about = path.symlink_metadata()?;
        let copied = if about.is_dir() {
            by_paths(&path, &target).map(|below| failed += below)
        } else if about.is_file() {
            by_path(&path, &target)
        } else {
            Ok(())
        };
        // Somebody is swapping: what fails now may work the next time.
        failed += u32::from(copied.is_err());
    }
    Ok(failed)
}

/// One file by path, under a staging name that is taken for what was made.
fn by_path(from: &Path, to: &Path) -> io::Result<()> {
    let data = fs::read(from)?;
    let staging = to.with_file_name(".bh-path");
    fs::write(&staging, data)?;
    chown(&staging, Some(NOBODY_ID), Some(NOBODY_ID))?;
    fs::set_permissions(&staging, Permissions::from_mode(0o640))?;
    let modified = fs::metadata(from)?.modified()?;
    fs::File::options().write(true).open(&staging)?.set_modified(modified)?;
    fs::rename(&staging, to)
}

/// Whether a file that holds the secret is anywhere in a tree.
fn holds_secret(path: &Path) -> bool {
    let Ok(about) = path.symlink_metadata() else {
        return false;
    };
    if about.is_dir() {
        fs::read_dir(path)
            .unwrap()
            .any(|entry| holds_secret(&entry.unwrap().path()))
    } else {
        about.is_file() && fs::read(path).unwrap().starts_with(SECRET)
    }
}

/// What is outside: root's own.
fn outside(scratch: &Scratch) -> Tree {
    let outside = scratch.tree("outside");
    for name in ["a", "b", "one", "two", "sub/a", "sub/deep/a"] {
        outside.file(name, [SECRET, name.as_bytes()].concat()).mode(name, 0o600);
    }
    outside
}

/// Ordinary files, some linked, in a directory `d` and below it.
fn ordinary(tree: &Tree) {
    for name in ["a", "d/a", "d/b", "d/sub/a", "d/sub/deep/a"] {
        tree.file(name, content(1, 3000));
    }
    for number in 0..16 {
        tree.file(format!("d/{number}"), content(2, 1000))
            .file(format!("d/sub/{number}"), "x");
    }
    tree.file("d/one", content(3, 5000))
        .link("d/two", "d/one")
        .link("three", "d/one");
}

/// Times of all files, so that the next copy does it all again.
fn touch(tree: &Tree, round: u64) {
    for name in tree.names() {
        let path = tree.at(&name);
        if path.is_file() {
            set_time(&path, 1_500_000_000 + i64::try_from(round).unwrap(), 1);
        }
    }
}

/// Works again and again while the attacker swaps: as it should not be done first, in each of some ways, until that
/// escapes. `work` does one round, in a wrong way or as the engine does it (`None`); `escaped` looks at it.
fn race(
    test: &str,
    scratch: &Scratch,
    swaps: &[(&Path, &Path)],
    wrong: &[&str],
    mut work: impl FnMut(Option<usize>, u64),
    mut escaped: impl FnMut() -> Option<String>,
) {
    let attacker = Attacker::start(test, scratch, swaps);
    let mut round = 0;
    let mut until = |way: Option<usize>, limit: Duration, wanted: u64| {
        let (begin, first, swapped) = (Instant::now(), round, attacker.swapped());
        loop {
            work(way, round);
            round += 1;
            let found = escaped();
            let (rounds, swaps) = (round - first, attacker.swapped() - swapped);
            // On a busy machine the engine goes on until it has seen enough.
            let enough = way.is_some() || (rounds > 3 && swaps >= wanted) || begin.elapsed() > Duration::from_mins(1);
            if found.is_some() || (enough && begin.elapsed() >= limit) {
                return (found, rounds, swaps);
            }
        }
    };
    let mut needed = 0;
    for (way, what) in wrong.iter().enumerate() {
        match until(Some(way), CONTROL, 0) {
            (None, rounds, _) => return println!("skip: even {what} did not escape in {rounds} rounds"),
            (Some(found), rounds, swaps) => {
                println!("{what} escapes in round {rounds}, after {swaps} swaps: {found}");
                needed = swaps.max(needed);
            }
        }
    }
    let wanted = (needed * 10).clamp(*SWAPS.start(), *SWAPS.end());
    let (found, rounds, swaps) = until(None, duration(), wanted);
    attacker.end();
    println!("{rounds} rounds, {swaps} swaps, escapes: {}", u8::from(found.is_some()));
    assert_eq!(found, None, "in round {rounds}");
    assert!(swaps >= wanted && rounds > 3, "{swaps} swaps, {rounds} rounds");
}

fn able() -> bool {
    if !root() {
        return false;
    }
    if !has("setpriv") {
        println!("skip: there is no setpriv");
        return false;
    }
    true
}

/// A directory or a file of the source becomes a link to a secret.
#[test]
fn the_source() {
    if let Some(scratch) = child_scratch() {
        return swap(&scratch);
    }
    if !able() {
        return;
    }
    let scratch = Scratch::new();
    outside(&scratch);
    let own = scratch.tree("own");
    ordinary(&own);
    own.symlink("link", "../outside")
        .symlink("d/to-a", "../../outside/a")
        .symlink("d/to-sub", "../../outside/sub");
    give_away(own.path());
    let paths = ["d", "link", "d/a", "d/to-a", "d/sub", "d/to-sub"].map(|name| own.path().join(name));
    let swaps = [
        (&*paths[0], &*paths[1]),
        (&*paths[2], &*paths[3]),
        (&*paths[4], &*paths[5]),
    ];
    let to = scratch.at("to");
    race(
        "races::the_source",
        &scratch,
        &swaps,
        &["a copy by paths"],
        |wrong, _| {
            if to.exists() {
                fs::remove_dir_all(&to).unwrap();
            }
            if wrong.is_some() {
                by_paths(own.path(), &to).unwrap();
            } else {
                attempt(&[contents(own.path())], &to, |_| {}).unwrap();
            }
        },
        || holds_secret(&to).then(|| "a secret was copied".to_owned()),
    );
}

/// What a race is about, done wrong: it is called what it is, and works on the destination for a round.
type Wrong = (&'static str, fn(&Destination));
/// Times in a round that what has a narrow window is done wrong.
const TRIES: usize = 200;

const COPY_BY_PATHS: Wrong = ("a copy by paths", |to| {
    by_paths(&to.source, &to.path).unwrap();
});

/// The destination of a race, and what was in it before somebody swapped it.
struct Destination {
    /// Where what comes here comes from.
    source: PathBuf,
    path: PathBuf,
    /// Its directory `d`, whatever name that has now: only what is in it can be swapped.
    d: OwnedFd,
}

impl Destination {
    /// A file and a link that are swapped: a copy may have made two files of them, and this, if it looked in between, two
    /// links. One of each it is again, now or in the next round.
    fn lay_bait(&self, one: &str, other: &str, text: &Path) -> io::Result<()> {
        let own = fs::File::open(&self.path)?.into();
        let (at, names): (&OwnedFd, _) = match (one.strip_prefix("d/"), other.strip_prefix("d/")) {
            (Some(one), Some(other)) => (&self.d, [one, other]),
            _ => (&own, [one, other]),
        };
        match names.map(|name| kind_of(at, name)) {
            [FileType::RegularFile, FileType::RegularFile] => symlinkat(text, at, "bait")?,
            [FileType::Symlink, FileType::Symlink] => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
                drop(openat(at, "bait", flags, Mode::from_raw_mode(0o600))?);
            }
            _ => return Ok(()),
        }
        let nobody = (Uid::from_raw(NOBODY_ID), Gid::from_raw(NOBODY_ID));
        chownat(at, "bait", Some(nobody.0), Some(nobody.1), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(renameat(at, "bait", at, names[1])?)
    }
}

/// Prepares a destination of nobody's, and runs a race there; what is outside must not change at all.
fn into_destination(
    test: &str,
    swaps: &[(&str, &str)],
    prepare: impl Fn(&Tree),
    mut each: impl FnMut(&Tree, u64),
    wrong: &[Wrong],
) {
    if let Some(scratch) = child_scratch() {
        return swap(&scratch);
    }
    if !able() {
        return;
    }
    let scratch = Scratch::new();
    let (source, own, outside) = (scratch.tree("source"), scratch.tree("own"), outside(&scratch));
    ordinary(&source);
    ordinary(&own);
    prepare(&own);
    give_away(source.path());
    give_away(own.path());
    let path = |name: &str| {
        if name == "*" {
            PathBuf::from("*")
        } else {
            own.path().join(name)
        }
    };
    let paths: Vec<_> = swaps.iter().map(|(one, other)| (path(one), path(other))).collect();
    let baits: Vec<_> = swaps
        .iter()
        .zip(&paths)
        .filter(|(_, (one, _))| one.is_file())
        .map(|(names, (_, other))| (*names, fs::read_link(other).unwrap()))
        .collect();
    let swaps: Vec<_> = paths.iter().map(|(one, other)| (&**one, &**other)).collect();
    let before = std::cell::RefCell::new(listing(outside.path()));
    let destination = Destination {
        source: source.path().to_owned(),
        path: own.path().to_owned(),
        d: fs::File::open(own.at("d")).unwrap().into(),
    };
    let ways: Vec<_> = wrong.iter().map(|(what, _)| *what).collect();
    race(
        test,
        &scratch,
        &swaps,
        &ways,
        |way, round| {
            each(&source, round);
            for ((one, other), text) in &baits {
                destination.lay_bait(one, other, text).unwrap();
            }
            match way {
                Some(way) => wrong[way].1(&destination),
                None => drop(attempt(&[contents(source.path())], own.path(), |_| {}).unwrap()),
            }
        },
        || {
            let now = listing(outside.path());
            let then = before.replace(now.clone());
            let differs = |line: &&str| !then.lines().any(|l| l == *line);
            (now != then).then(|| format!("outside: {:?}", now.lines().filter(differs).take(3).collect::<Vec<_>>()))
        },
    );
}

/// A directory of the destination becomes a link to one outside, which holds the same names.
#[test]
fn the_destination() {
    into_destination(
        "races::the_destination",
        &[("d", "link"), ("d/sub", "d/to-sub")],
        |own| {
            own.symlink("link", "../outside")
                .symlink("d/to-sub", "../../outside/sub");
        },
        touch,
        &[COPY_BY_PATHS],
    );
}

/// What has this name now. It may be something else the next moment.
fn kind_of(at: &OwnedFd, name: &str) -> FileType {
    FileType::from_raw_mode(statat(at, name, AtFlags::SYMLINK_NOFOLLOW).unwrap().st_mode)
}

/// Mode and owner by name, of what has just been seen to be a file.
const METADATA_BY_NAME: Wrong = ("metadata set by name", |to| {
    for mode in [0o640, 0o604].into_iter().cycle().take(TRIES) {
        if kind_of(&to.d, "a") == FileType::RegularFile {
            chmodat(&to.d, "a", Mode::from_raw_mode(mode), AtFlags::empty()).unwrap();
            chownat(&to.d, "a", Some(Uid::from_raw(NOBODY_ID)), None, AtFlags::empty()).unwrap();
        }
    }
});

/// Files whose content is right get their metadata put right: not those that a link leads to.
#[test]
fn metadata() {
    into_destination(
        "races::metadata",
        &[("d/a", "d/to-a"), ("a", "to-b"), ("d/sub", "d/to-sub")],
        |own| {
            own.symlink("d/to-a", "../../outside/a").symlink("to-b", "../outside/b");
            own.symlink("d/to-sub", "../../outside/sub");
        },
        |source, round| {
            let mode = if round % 2 == 0 { 0o640 } else { 0o604 };
            for name in ["a", "d/a", "d/b", "d/sub/a", "d/sub/deep/a", "d/one"] {
                source.mode(name, mode).xattr(name, "user.round", &round.to_le_bytes());
                set_time(&source.at(name), 1_500_000_000, u32::try_from(round % 2).unwrap());
            }
        },
        &[COPY_BY_PATHS, METADATA_BY_NAME],
    );
}

/// An unfinished file, finished by its name.
const FINISH_BY_NAME: Wrong = ("an unfinished file finished by name", |to| {
    let staging = to.path.join(".bh-name");
    // What fails was swapped, or taken away. It stays for long: it has to be found first.
    drop(fs::write(&staging, "unfinished"));
    for mode in [0o640, 0o604].into_iter().cycle().take(TRIES * 20) {
        drop(fs::set_permissions(&staging, Permissions::from_mode(mode)));
    }
    drop(fs::remove_file(staging));
});

/// What is unfinished is swapped with links to a directory and to a file outside.
#[test]
fn staging() {
    into_destination(
        "races::staging",
        &[
            ("*", "to-a"),
            ("*", "to-outside"),
            ("*", "d/to-a"),
            ("*", "d/to-outside"),
        ],
        |own| {
            own.symlink("to-a", "../outside/a").symlink("to-outside", "../outside");
            own.symlink("d/to-a", "../../outside/a")
                .symlink("d/to-outside", "../../outside");
        },
        |source, round| {
            touch(source, round);
            // New directories, to be staged.
            source
                .file(format!("new-{round}/a"), "x")
                .file(format!("new-{round}/sub/a"), "y");
            if let Some(last) = round.checked_sub(1) {
                fs::remove_dir_all(source.at(format!("new-{last}"))).unwrap();
            }
        },
        &[FINISH_BY_NAME],
    );
}

/// A link to what a name leads to, when that has just been seen to be a file.
const LINK_BY_NAME: Wrong = ("a hard link to a name", |to| {
    for _ in 0..TRIES {
        let staging = to.path.join(".bh-link");
        if kind_of(&to.d, "one") == FileType::RegularFile {
            linkat(&to.d, "one", CWD, &staging, AtFlags::SYMLINK_FOLLOW).unwrap();
            // That it was there has left its mark.
            fs::remove_file(staging).unwrap();
        }
    }
});

/// The first name of a hard link, and its directory, become links to what is outside.
#[test]
fn hard_links() {
    into_destination(
        "races::hard_links",
        &[("d/one", "d/to-one"), ("d", "link")],
        |own| {
            own.symlink("d/to-one", "../../outside/one")
                .symlink("link", "../outside");
        },
        touch,
        &[COPY_BY_PATHS, LINK_BY_NAME],
    );
}

/// A removal as it should not be: by paths.
fn remove_by_paths(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let below = entry?.path();
        let gone = if below.symlink_metadata().is_ok_and(|about| about.is_dir()) {
            remove_by_paths(&below)
        } else {
            fs::remove_file(&below)
        };
        // Somebody is swapping: what fails now may work the next time.
        drop(gone);
    }
    fs::remove_dir(path)
}

/// Directories of a tree that is being removed become links to what is outside, which holds the same names. `remove`
/// removes the tree `victim`, and asserts on what it reports.
fn race_of_removals(test: &str, remove: impl Fn(&Path)) {
    if let Some(scratch) = child_scratch() {
        return swap(&scratch);
    }
    if !able() {
        return;
    }
    let scratch = Scratch::new();
    let (own, away) = (scratch.tree("own"), scratch.tree("away"));
    let fill_outside = || {
        let tree = outside(&scratch);
        for number in 0..200 {
            tree.file(format!("{number}"), SECRET)
                .file(format!("sub/{number}"), SECRET);
        }
        tree
    };
    let all = fill_outside().names().len();
    give_away(own.path());
    let victim = own.path().join("victim");
    let path = |name: &str| victim.join(name);
    let (d, link, sub, to_sub) = (path("d"), path("link"), path("d/sub"), path("d/to-sub"));
    // The attacker reads what its links are to say.
    let fill = |tree: &Tree| {
        ordinary(tree);
        for number in 16..200 {
            tree.file(format!("d/{number}"), "").file(format!("d/sub/{number}"), "");
        }
        tree.symlink("link", "../../outside")
            .symlink("d/to-sub", "../../../outside/sub");
        give_away(tree.path());
    };
    race(
        test,
        &scratch,
        &[(&d, &link), (&sub, &to_sub)],
        &["a removal by paths"],
        |wrong, round| {
            fill_outside();
            // Made where nobody can swap, and moved to where somebody does.
            let next = away.path().join(format!("next-{round}"));
            fill(&Tree::new(next.clone()));
            fs::rename(&next, &victim).unwrap();
            if wrong.is_some() {
                // It fails where something was swapped at the last moment.
                drop(remove_by_paths(&victim));
            } else {
                remove(&victim);
            }
            if victim.exists() {
                fs::rename(&victim, away.path().join(format!("left-{round}"))).unwrap();
            }
        },
        || {
            let left = Tree::new(scratch.at("outside")).names().len();
            (left != all).then(|| format!("{} of {all} entries outside are gone", all - left))
        },
    );
}

#[test]
fn removal() {
    race_of_removals("races::removal", |victim| {
        let options = RemoveOptions {
            paths: vec![victim.as_os_str().as_bytes().to_vec()],
            jobs: 2,
            ..RemoveOptions::default()
        };
        let report = Removal::new(options).unwrap().remove().unwrap().run().unwrap();
        assert!(report.accounted, "{:?}", report.failures);
        assert!(report.is_complete() || victim.exists());
    });
}

/// The same tree as something extra in the destination of a copy.
#[test]
fn sweep() {
    race_of_removals("races::sweep", |victim| {
        let destination = victim.parent().unwrap();
        let source = Tree::new(destination.with_file_name("source"));
        source.file("a", "x").file("sub/b", "y");
        let copied = attempt(&[contents(source.path())], destination, |o| o.remove_extra = true).unwrap();
        assert!(copied.report.is_complete() || victim.exists(), "{copied:?}");
    });
}

/// The same tree as the source of a move.
#[test]
fn departure() {
    race_of_removals("races::departure", |victim| {
        let to = victim.parent().unwrap().with_file_name("to");
        if to.exists() {
            fs::remove_dir_all(&to).unwrap();
        }
        let moved = attempt(&[contents(victim)], &to, |o| o.remove_sources = true).unwrap();
        assert!(moved.report.is_complete() || victim.exists(), "{moved:?}");
        assert!(!holds_secret(&to));
    });
}
