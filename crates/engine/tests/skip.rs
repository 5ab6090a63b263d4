//! The skip rule: same size, same time as a double of seconds, same tail. What is skipped still gets its metadata right.

use std::fs;

use bulkhaul_engine::copy::options::CopyOptions;
use bulkhaul_engine::entry::{Changes, Outcome, Reason};
use bulkhaul_formats::digest::TAIL_BYTES;

use crate::rig::{Scratch, Tree, compare, content, contents, copy, modified, root};

const SEC: i64 = 1_700_000_000;
/// The least of those that are one time as a double.
const NSEC: u32 = 123_456_836;

/// How a file of the destination differs from its source.
struct Case {
    what: &'static str,
    /// Bytes from the end at which one byte differs.
    differs: Option<usize>,
    /// Nanoseconds by which its time is later.
    later: u32,
    /// How it is longer.
    longer: usize,
    change: fn(&mut CopyOptions),
    outcome: Outcome,
}

#[test]
fn same_size_time_and_tail() {
    use Outcome::{Copied, Metadata, Skipped};
    let size = usize::try_from(TAIL_BYTES).unwrap() + 4096;
    let case = |what, differs, later, longer, change, outcome| Case {
        what,
        differs,
        later,
        longer,
        change,
        outcome,
    };
    let cases = [
        case("all the same", None, 0, 0, |_| {}, Skipped),
        case("the head differs", Some(size), 0, 0, |_| {}, Skipped),
        case(
            "the head differs, full hash",
            Some(size),
            0,
            0,
            |o| o.full_hash = true,
            Copied,
        ),
        case("the last byte differs", Some(1), 0, 0, |_| {}, Copied),
        case("byte 65536 from the end differs", Some(65536), 0, 0, |_| {}, Copied),
        case("byte 65537 from the end differs", Some(65537), 0, 0, |_| {}, Skipped),
        case("a tail of 10, byte 10", Some(10), 0, 0, |o| o.hash_size = 10, Copied),
        case("a tail of 10, byte 11", Some(11), 0, 0, |o| o.hash_size = 10, Skipped),
        case(
            "a tail longer than the file",
            Some(size),
            0,
            0,
            |o| o.hash_size = 1 << 40,
            Copied,
        ),
        case(
            "no tail, the last byte differs",
            Some(1),
            0,
            0,
            |o| o.hash_size = 0,
            Skipped,
        ),
        case(
            "no tail, full hash",
            Some(1),
            0,
            0,
            |o| (o.hash_size, o.full_hash) = (0, true),
            Skipped,
        ),
        case("a microsecond", None, 1000, 0, |_| {}, Copied),
        case("a microsecond, no tail", None, 1000, 0, |o| o.hash_size = 0, Copied),
        case("below what a double tells", None, 100, 0, |_| {}, Metadata),
        case(
            "below what a double tells, and the tail",
            Some(1),
            100,
            0,
            |_| {},
            Copied,
        ),
        case("longer", None, 0, 1, |_| {}, Copied),
        case("longer, no tail", None, 0, 1, |o| o.hash_size = 0, Copied),
    ];
    for Case {
        what,
        differs,
        later,
        longer,
        change,
        outcome,
    } in cases
    {
        let scratch = Scratch::new();
        let (source, to) = (scratch.tree("source"), scratch.tree("to"));
        let data = content(1, size);
        let mut old = data.clone();
        if let Some(differs) = differs {
            old[size - differs] ^= 0xff;
        }
        old.resize(size + longer, 0);
        source.file("f", &data).time("f", SEC, NSEC);
        to.file("f", &old).time("f", SEC, NSEC + later);
        let before = fs::metadata(to.at("f")).unwrap();

        let dry = copy(&[contents(source.path())], to.path(), |o| {
            change(o);
            o.dry_run = true;
        });
        assert_eq!(dry.entry("f").outcome, outcome, "dry: {what}");
        let copied = copy(&[contents(source.path())], to.path(), change).complete();
        let entry = copied.entry("f");
        assert_eq!(entry.outcome, outcome, "{what}");
        assert_eq!(dry.entry("f").changes, entry.changes, "{what}");

        let expected = if outcome == Copied { &data } else { &old };
        assert!(to.read("f") == *expected, "{what}: content");
        assert_eq!(
            modified(&to.at("f")),
            (SEC, NSEC),
            "{what}: its nanoseconds are put right"
        );
        let totals = copied.report.totals;
        if outcome == Copied {
            assert_eq!(entry.bytes, size as u64, "{what}");
            assert_eq!((totals.copied_bytes, totals.skipped_files), (size as u64, 0), "{what}");
        } else {
            use std::os::unix::fs::MetadataExt as _;
            assert_eq!(
                fs::metadata(to.at("f")).unwrap().ino(),
                before.ino(),
                "{what}: written anew"
            );
            assert_eq!((totals.copied_bytes, totals.skipped_files), (0, 1), "{what}");
            assert_eq!(totals.skipped_bytes, size as u64, "{what}");
        }
        if outcome == Skipped {
            assert_eq!(entry.reason, Some(Reason::Unchanged), "{what}");
        }
    }
}

/// With read-back nothing is taken on trust: not what was written, not what is skipped.
#[test]
fn verify_reads_everything() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    let size = usize::try_from(TAIL_BYTES).unwrap() * 3;
    source
        .file("f", content(1, size))
        .file("empty", "")
        .file("small", "x")
        .symlink("l", "f")
        .link("hard", "f");
    for hash_size in [TAIL_BYTES, 0] {
        let to = scratch.tree("to");
        let verify = |o: &mut CopyOptions| (o.verify, o.hash_size) = (true, hash_size);
        let copied = copy(&[contents(source.path())], to.path(), verify).complete();
        let totals = copied.report.totals;
        // Both names of a hard link: that they are one file is not taken on trust either.
        assert_eq!((totals.verified_files, totals.verified_bytes), (4, 2 * size as u64 + 1));
        compare(source.path(), to.path());
        let again = copy(&[contents(source.path())], to.path(), verify).complete();
        assert_eq!(again.counts(), "skipped 6 (unchanged 6)");
        assert_eq!(again.report.totals.verified_files, 4);
        // The head has rotted, and size, time and tail are what they were.
        let (sec, nsec) = modified(&to.at("f"));
        let mut rotten = to.read("f");
        rotten[5] ^= 1;
        to.file("f", &rotten).time("f", sec, nsec);
        copy(&[contents(source.path())], to.path(), |o| o.hash_size = hash_size).complete();
        assert!(to.read("f") == rotten);
        copy(&[contents(source.path())], to.path(), verify).complete();
        compare(source.path(), to.path());
        fs::remove_dir_all(to.path()).unwrap();
    }
}

#[test]
fn empty_files_need_no_probe() {
    let scratch = Scratch::new();
    let (source, to) = (scratch.tree("source"), scratch.tree("to"));
    source.file("f", "").time("f", SEC, NSEC);
    to.file("f", "").time("f", SEC, NSEC);
    let copied = copy(&[contents(source.path())], to.path(), |_| {}).complete();
    assert_eq!(copied.entry("f").reason, Some(Reason::Unchanged));
}

#[test]
fn what_is_skipped_gets_its_metadata() {
    type Spoil = fn(&Tree);
    if !root() {
        return;
    }
    let cases: [(&str, Spoil, Changes); 8] = [
        (
            "mode",
            |t| {
                t.mode("f", 0o600);
            },
            Changes::MODE,
        ),
        (
            "owner",
            |t| {
                t.owner("f", 7, 1002);
            },
            Changes::OWNER,
        ),
        (
            "group",
            |t| {
                t.owner("f", 1001, 7);
            },
            Changes::GROUP,
        ),
        (
            "an attribute missing",
            |t| {
                crate::rig::must("setfattr", &[&"-x", &"user.one", &t.at("f")]);
            },
            Changes::XATTR,
        ),
        (
            "an attribute too many",
            |t| {
                t.xattr("f", "user.two", b"2");
            },
            Changes::XATTR,
        ),
        (
            "an attribute's value",
            |t| {
                t.xattr("f", "user.one", b"0");
            },
            Changes::XATTR,
        ),
        (
            "an ACL",
            |t| {
                crate::rig::must("setfacl", &[&"-m", &"u:5:r", &t.at("f")]);
            },
            Changes::ACL,
        ),
        (
            "its nanoseconds",
            |t| {
                t.time("f", SEC, NSEC + 50);
            },
            Changes::TIME,
        ),
    ];
    for (what, spoil, changes) in cases {
        let scratch = Scratch::new();
        let (source, to) = (scratch.tree("source"), scratch.tree("to"));
        for tree in [&source, &to] {
            tree.file("f", "content").mode("f", 0o4751).owner("f", 1001, 1002);
            tree.mode("f", 0o4751).xattr("f", "user.one", b"1").time("f", SEC, NSEC);
        }
        spoil(&to);
        to.time("f", SEC, modified(&to.at("f")).1);
        let copied = copy(&[contents(source.path())], to.path(), |_| {}).complete();
        let entry = copied.entry("f");
        assert_eq!(entry.outcome, Outcome::Metadata, "{what}");
        assert!(entry.changes.0 & changes.0 == changes.0, "{what}: {:?}", entry.changes);
        assert_eq!(entry.bytes, 0, "{what}");
        compare(source.path(), to.path());
        let again = copy(&[contents(source.path())], to.path(), |_| {}).complete();
        assert_eq!(again.counts(), "skipped 2 (unchanged 2)", "{what}");
    }
}
