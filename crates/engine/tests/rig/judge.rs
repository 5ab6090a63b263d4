//! Judges of what arrived: rsync, find, and staging names.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{Tree, has, must};

/// Asserts that rsync finds no difference between two trees: names, kinds, content, modes, owners, times to the
/// nanosecond, hard links, ACLs, extended attributes, devices.
pub fn compare(source: &Path, destination: &Path) {
    let differences = differences(source, destination);
    assert!(differences.is_empty(), "rsync finds differences:\n{differences}");
}

fn differences(source: &Path, destination: &Path) -> String {
    assert!(has("rsync"), "there is no rsync to compare with");
    let slash = |path: &Path| {
        let mut text = OsString::from(path);
        text.push("/");
        text
    };
    must(
        "rsync",
        &[
            &"-aniHAX",
            &"--checksum",
            &"--delete",
            &"--modify-window=-1",
            // XFS shows ACLs to root a second time under these names.
            &"--filter=-x trusted.SGI_ACL_*",
            &slash(source),
            &slash(destination),
        ],
    )
}

/// Everything that find tells of a tree, inode numbers and change times included: a tree that was touched at all has
/// another listing.
pub fn listing(path: &Path) -> String {
    let mut lines: Vec<String> = must("find", &[&path, &"-printf", &r"%P %y %i %m %U %G %n %s %T@ %C@ %l\n"])
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines.join("\n")
}

/// Whether an unfinished entry is anywhere in a tree.
pub fn has_staging(path: &Path) -> bool {
    Tree::new(path.to_owned())
        .names()
        .iter()
        .any(|name| name.contains(".bh-"))
}

/// Whether two paths are names of one inode.
pub fn same_path(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| fs::symlink_metadata(path).map(|m| (m.dev(), m.ino())).unwrap();
    id(one) == id(other)
}

/// The judge can find fault: one difference of each kind.
#[test]
fn rsync_tells_every_difference() {
    use super::{Scratch, set_time};
    type Spoil = fn(&Tree);
    let cases: [(&str, Spoil); 9] = [
        ("content under the same time", |t| {
            let time = super::modified(&t.at("a"));
            t.file("a", "X").time("a", time.0, time.1);
        }),
        ("a nanosecond", |t| {
            let time = super::modified(&t.at("a"));
            set_time(&t.at("a"), time.0, time.1 ^ 1);
        }),
        ("a directory's time", |t| set_time(&t.at("d"), 5, 5)),
        ("a symlink's time", |t| set_time(&t.at("l"), 5, 5)),
        ("mode", |t| {
            t.mode("a", 0o4711);
        }),
        ("xattr", |t| {
            t.xattr("a", "user.x", b"y");
        }),
        ("another entry", |t| {
            t.file("e", "");
        }),
        ("a missing entry", |t| fs::remove_file(t.at("d/b")).unwrap()),
        ("a hard link less", |t| {
            let time = super::modified(&t.at("a"));
            fs::remove_file(t.at("h")).unwrap();
            t.file("h", "x").time("h", time.0, time.1);
        }),
    ];
    for (what, spoil) in cases {
        let scratch = Scratch::new();
        let source = scratch.tree("source");
        source.file("a", "x").link("h", "a").file("d/b", "y").symlink("l", "t");
        must("cp", &[&"-a", &source.path(), &scratch.at("copy")]);
        compare(source.path(), &scratch.at("copy"));
        spoil(&Tree::new(scratch.at("copy")));
        assert_ne!(differences(source.path(), &scratch.at("copy")), "", "{what}");
    }
}

/// What a test leaves mounted goes when it panics.
#[test]
fn a_panic_leaves_nothing_behind() {
    let mut left = None;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let scratch = super::Scratch::new();
        left = Some(scratch.path().to_owned());
        scratch.file_system("ext4", "rw").expect("skipped");
        let source = scratch.tree("source");
        if let Some(faulty) = scratch.faulty(source.file("f", "x").path(), "hang") {
            // Nobody ever answers it.
            std::thread::spawn(move || fs::read(faulty.join("f")));
        }
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    let left = left.unwrap();
    assert!(!left.exists());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*left.to_string_lossy()));
}
