//! Races: somebody without rights exchanges names in its own tree while root copies from it or into it.
//!
//! The attacker is this test program again, as nobody: it swaps a name with a symlink that leads outside, again and again.
//! Nothing outside may be read, written, made or changed in its metadata. Each race first proves itself: a copy that uses
//! paths, written here, escapes in the same rig; where it does not within the time, the race is skipped and says so.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};

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

/// The attacker's process; it ends with this.
struct Attacker {
    child: Child,
    stop: PathBuf,
}

impl Attacker {
    /// Starts swapping the two names of each line. A first name of `*` stands for everything unfinished beside the second.
    fn start(test: &str, scratch: &Scratch, swaps: &[(&Path, &Path)]) -> Self {
        let lines = swaps.iter().map(|(a, b)| format!("{}\n{}\n", a.display(), b.display()));
        fs::write(scratch.at("swaps"), lines.collect::<String>()).unwrap();
        Self {
            child: child(test, NOBODY, scratch),
            stop: scratch.at("stop"),
        }
    }

    /// Ends it; answers how often it swapped.
    fn end(mut self) -> u64 {
        fs::write(&self.stop, "").unwrap();
        let mut text = String::new();
        io::Read::read_to_string(self.child.stdout.as_mut().unwrap(), &mut text).unwrap();
        let count = text
            .split("swapped ")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next());
        count.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
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

/// In the child: swaps until it is told to stop, a minute at most.
fn swap(scratch: &Path) {
    let text = fs::read_to_string(scratch.join("swaps")).unwrap();
    let lines: Vec<&Path> = text.lines().map(Path::new).collect();
    let texts: Vec<PathBuf> = lines
        .iter()
        .map(|path| fs::read_link(path).unwrap_or_default())
        .collect();
    let stop = scratch.join("stop");
    let begin = Instant::now();
    let mut count = 0_u64;
    while !stop.exists() && begin.elapsed() < Duration::from_mins(1) {
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
    }
    println!("swapped {count} times");
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

/// Copies again and again while the attacker swaps; first by paths. `copy` does one round, `escaped` looks at it.
fn race(
    test: &str,
    scratch: &Scratch,
    swaps: &[(&Path, &Path)],
    mut copy: impl FnMut(bool, u64),
    mut escaped: impl FnMut() -> Option<String>,
) {
    let attacker = Attacker::start(test, scratch, swaps);
    let mut rounds = [0, 0];
    let mut found = None;
    for (turn, paths) in [true, false].into_iter().enumerate() {
        let begin = Instant::now();
        // Some windows are narrow: the proof of the rig may take longer.
        let limit = if paths { duration() * 4 } else { duration() };
        while begin.elapsed() < limit && found.is_none() {
            copy(paths, rounds[0] + rounds[1]);
            rounds[turn] += 1;
            found = escaped();
        }
        if paths {
            match found.take() {
                None => {
                    println!("skip: even a copy by paths did not escape in {} rounds", rounds[0]);
                    return;
                }
                Some(what) => println!("a copy by paths escapes in round {}: {what}", rounds[0]),
            }
        }
    }
    let swapped = attacker.end();
    println!(
        "{} rounds, {swapped} swaps, escapes: {}",
        rounds[1],
        u8::from(found.is_some())
    );
    assert_eq!(found, None, "in round {}", rounds[1]);
    assert!(swapped > 1000 && rounds[1] > 3, "{swapped} swaps, {} rounds", rounds[1]);
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
        |paths, _| {
            if to.exists() {
                fs::remove_dir_all(&to).unwrap();
            }
            if paths {
                by_paths(own.path(), &to).unwrap();
            } else {
                attempt(&[contents(own.path())], &to, |_| {}).unwrap();
            }
        },
        || holds_secret(&to).then(|| "a secret was copied".to_owned()),
    );
}

/// Prepares a destination of nobody's, and runs a race there; what is outside must not change at all.
fn into_destination(test: &str, swaps: &[(&str, &str)], prepare: impl Fn(&Tree), mut each: impl FnMut(&Tree, u64)) {
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
    let swaps: Vec<_> = paths.iter().map(|(one, other)| (&**one, &**other)).collect();
    let before = std::cell::RefCell::new(listing(outside.path()));
    race(
        test,
        &scratch,
        &swaps,
        |paths, round| {
            each(&source, round);
            if paths {
                by_paths(source.path(), own.path()).unwrap();
            } else {
                attempt(&[contents(source.path())], own.path(), |_| {}).unwrap();
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
    );
}

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
    );
}

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
    );
}

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

/// Directories of a tree that is being removed become links to what is outside, which holds the same names.
#[test]
fn removal() {
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
        "races::removal",
        &scratch,
        &[(&d, &link), (&sub, &to_sub)],
        |paths, round| {
            fill_outside();
            // Made where nobody can swap, and moved to where somebody does.
            let next = away.path().join(format!("next-{round}"));
            fill(&Tree::new(next.clone()));
            fs::rename(&next, &victim).unwrap();
            if paths {
                // It fails where something was swapped at the last moment.
                drop(remove_by_paths(&victim));
            } else {
                let options = RemoveOptions {
                    paths: vec![victim.as_os_str().as_bytes().to_vec()],
                    jobs: 2,
                    ..RemoveOptions::default()
                };
                let report = Removal::new(options).unwrap().remove().run().unwrap();
                assert!(report.accounted, "{:?}", report.failures);
                assert!(report.is_complete() || victim.exists());
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
