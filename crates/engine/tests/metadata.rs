//! What a copy keeps: modes, owners, times to the nanosecond, attributes, ACLs, capabilities, hard links.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use bulkhaul_engine::Kind;
use bulkhaul_engine::copy::options::CopyOptions;
use bulkhaul_engine::entry::Outcome;

use crate::rig::{NOBODY, Scratch, Tree, apart, compare, contents, copy, has_staging, must, named, root, same_path};

/// A little of everything that a file system can hold.
fn everything(tree: &Tree) {
    for (index, mode) in [0, 0o400, 0o644, 0o755, 0o4755, 0o2755, 0o6711, 0o1777, 0o7777]
        .iter()
        .enumerate()
    {
        let name = format!("modes/{mode:o}");
        tree.file(&name, name.as_bytes())
            .owner(&name, 1000 + u32::try_from(index).unwrap(), 2000)
            .mode(&name, *mode);
        let name = format!("modes/d{mode:o}");
        tree.dir(&name)
            .file(format!("{name}/f"), "")
            .owner(&name, 1001, 2002)
            .mode(&name, *mode);
    }
    tree.symlink("link", "modes/644")
        .owner("link", 1003, 2003)
        .time("link", 981_173_106, 1);
    tree.symlink("dangling", "/nowhere/at/all")
        .symlink("to-directory", "modes");
    tree.special("fifo", Kind::Fifo, 0)
        .owner("fifo", 1004, 2004)
        .mode("fifo", 0o640);
    tree.special("socket", Kind::Socket, 0).mode("socket", 0o4777);
    // The numbers of /dev/null, which no file system on a loop device minds.
    tree.special("char", Kind::Char, 0x103)
        .owner("char", 1005, 2005)
        .mode("char", 0o666);
    tree.special("block", Kind::Block, 0x700).mode("block", 0o660);
    tree.file("xattr", "x")
        .xattr("xattr", "user.one", b"1")
        .xattr("xattr", "user.empty", b"");
    tree.xattr("xattr", "user.binary", &[0, 255, 10, 0])
        .dir("xattr-dir")
        .xattr("xattr-dir", "user.d", b"2");
    tree.file("acl", "x");
    must("setfacl", &[&"-m", &"u:1001:rwx,g:2001:r,m::rw", &tree.at("acl")]);
    tree.file("acl-dir/inside-before", "x");
    must(
        "setfacl",
        &[&"-m", &"u:1001:rwx,d:u:1002:rx,d:g:2002:rwx", &tree.at("acl-dir")],
    );
    // These inherit, and keep what they inherited.
    tree.file("acl-dir/inside", "x").dir("acl-dir/deeper");
    tree.file("capable", "x");
    must("setcap", &[&"cap_net_raw+ep", &tree.at("capable")]);
    tree.file("links/one", "linked")
        .link("links/two", "links/one")
        .link("other/three", "links/one");
    tree.file("read-only", "x")
        .xattr("read-only", "user.kept", b"1")
        .mode("read-only", 0o400);
    // Before 1970, after 2038, and the last nanosecond of a second.
    tree.file("old", "x")
        .time("old", -1_000_000, 1)
        .file("late", "x")
        .time("late", 4_000_000_000, 2);
    tree.file("ns", "x").time("ns", 1_500_000_000, 999_999_999);
    // Directories last: filling them set their times.
    for (index, name) in [
        "modes",
        "modes/d755",
        "xattr-dir",
        "links",
        "acl-dir",
        "acl-dir/deeper",
        "",
    ]
    .iter()
    .enumerate()
    {
        tree.time(name, 1_300_000_000, u32::try_from(index).unwrap() + 7);
    }
}

fn all_kept_on(kind: &str) {
    let scratch = Scratch::new();
    let Some(base) = scratch.file_system(kind, "rw") else {
        return;
    };
    let here = Tree::new(base.join("source"));
    everything(&here);
    let there = scratch.tree("source");
    everything(&there);
    for (source, to) in [
        (&here, base.join("same")),
        (&there, base.join("other")),
        (&here, scratch.at("back")),
    ] {
        let copied = copy(&[contents(source.path())], &to, |_| {}).complete();
        compare(source.path(), &to);
        assert_eq!(copied.notes(), Vec::<&str>::new());
        let totals = copied.report.totals;
        assert_eq!(totals.outcome_of(Outcome::Linked), 2);
        assert_eq!(
            totals.all_found(),
            totals.outcome_of(Outcome::Made) + totals.outcome_of(Outcome::Copied) + 2
        );
        // Again: all is there, nothing is touched.
        let before = crate::rig::listing(&to);
        let again = copy(&[contents(source.path())], &to, |_| {}).complete();
        let found = totals.all_found();
        assert_eq!(again.counts(), format!("skipped {found} (unchanged {found})"));
        assert_eq!(crate::rig::listing(&to), before);
        // Onto entries that all have other metadata.
        must("chmod", &[&"-R", &"u=rwx,go=", &to]);
        must("chown", &[&"-Rh", &"3000:3000", &to]);
        must("setfacl", &[&"-R", &"-m", &"u:9:r", &to]);
        let repaired = copy(&[contents(source.path())], &to, |_| {}).complete();
        compare(source.path(), &to);
        assert_eq!(repaired.report.totals.copied_bytes, 0);
    }
}

#[test]
fn all_kept_on_tmpfs() {
    all_kept_on("tmpfs");
}

#[test]
fn all_kept_on_ext4() {
    all_kept_on("ext4");
}

#[test]
fn all_kept_on_xfs() {
    all_kept_on("xfs");
}

#[test]
fn all_kept_on_btrfs() {
    all_kept_on("btrfs");
}

#[test]
fn inherited_acls_and_groups_do_not_leak() {
    type Prepare = fn(&Path);
    let cases: [(&str, Prepare); 3] = [
        ("default ACL", |to| {
            must("setfacl", &[&"-m", &"d:u:1009:rwx,d:g:2009:rwx,d:o::rwx", &to]);
        }),
        ("set-group-id", |to| {
            must("chown", &[&"0:2009", &to]);
            must("chmod", &[&"2775", &to]);
        }),
        ("both", |to| {
            must("chown", &[&"0:2009", &to]);
            must("chmod", &[&"2775", &to]);
            must("setfacl", &[&"-m", &"d:u:1009:rwx", &to]);
        }),
    ];
    if !root() {
        return;
    }
    for (what, prepare) in cases {
        for existing in [false, true] {
            let scratch = Scratch::new();
            let source = scratch.tree("source");
            everything(&source);
            fs::create_dir(scratch.at("to")).unwrap();
            prepare(&scratch.at("to"));
            if existing {
                // A directory of this name that inherited, with something in it.
                Tree::new(scratch.at("to/source/modes")).file("644", "old");
            }
            let before = fs::metadata(scratch.at("to")).unwrap();
            let before_acl = must("getfacl", &[&"-cp", &scratch.at("to")]);
            copy(&[named(source.path())], scratch.at("to"), |_| {}).complete();
            compare(source.path(), &scratch.at("to/source"));
            let after = fs::metadata(scratch.at("to")).unwrap();
            assert_eq!((after.mode(), after.gid()), (before.mode(), before.gid()), "{what}");
            assert_eq!(must("getfacl", &[&"-cp", &scratch.at("to")]), before_acl, "{what}");
        }
    }
}

/// Another way in: the destination is made in a directory with a default ACL.
#[test]
fn a_new_destination_inherits_nothing() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    everything(&source);
    let outer = scratch.tree("outer");
    must("setfacl", &[&"-m", &"d:u:1009:rwx,d:o::rwx", &outer.path()]);
    must("chown", &[&"0:2009", &outer.path()]);
    must("chmod", &[&"2775", &outer.path()]);
    copy(&[contents(source.path())], outer.path().join("to"), |_| {}).complete();
    compare(source.path(), &outer.path().join("to"));
}

#[test]
fn hard_links_within_a_run() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source
        .file("a/one", "x")
        .link("a/two", "a/one")
        .link("b/three", "a/one")
        .link("b/c/four", "a/one");
    source.file("alone", "y").file("pair", "z").link("b/pair", "pair");
    source.symlink("soft", "alone").link("soft-two", "soft");
    for jobs in [1, 4] {
        let to = scratch.at(&format!("to-{jobs}"));
        let copied = copy(&[contents(source.path())], &to, |o| o.jobs = jobs).complete();
        compare(source.path(), &to);
        assert_eq!(copied.report.totals.outcome_of(Outcome::Linked), 5);
        // What a link is counted as does not hide its bytes.
        assert_eq!(copied.report.totals.copied_bytes, 3);
        let again = copy(&[contents(source.path())], &to, |o| o.jobs = jobs).complete();
        let found = again.report.totals.all_found();
        assert_eq!(again.counts(), format!("skipped {found} (unchanged {found})"));
        compare(source.path(), &to);

        // A link that is broken in the destination is made again.
        for broken in ["a/one", "b/three", "b/c/four"] {
            let path = to.join(broken);
            let time = crate::rig::modified(&path);
            fs::remove_file(&path).unwrap();
            fs::write(&path, "x").unwrap();
            crate::rig::set_time(&path, time.0, time.1);
        }
        let again = copy(&[contents(source.path())], &to, |o| o.jobs = jobs).complete();
        assert!(
            again.report.totals.outcome_of(Outcome::Linked) >= 2,
            "{}",
            again.counts()
        );
        compare(source.path(), &to);
        // And one that is missing, too.
        fs::remove_file(to.join("b/three")).unwrap();
        let again = copy(&[contents(source.path())], &to, |o| o.jobs = jobs).complete();
        assert!(
            again.report.totals.outcome_of(Outcome::Linked) >= 1,
            "{}",
            again.counts()
        );
        assert!(same_path(&to.join("a/one"), &to.join("b/three")));
        compare(source.path(), &to);
        // All of them changed.
        let time = crate::rig::modified(&source.at("a/one"));
        fs::write(source.at("a/one"), "w").unwrap();
        crate::rig::set_time(&source.at("a/one"), time.0 + 1, 0);
        copy(&[contents(source.path())], &to, |o| o.jobs = jobs).complete();
        compare(source.path(), &to);
        assert!(!has_staging(&to));
    }
}

/// A link that can't be made (the first name is on another file system) becomes a copy.
#[test]
fn links_across_file_systems_are_copies() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source.file("a/one", "x").link("b/two", "a/one");
    let to = scratch.tree("to");
    to.dir("a").dir("b");
    let Some(other) = scratch.file_system("tmpfs", "rw") else {
        return;
    };
    assert!(Scratch::bind(&other, &to.at("b")));
    let copied = copy(&[contents(source.path())], to.path(), |_| {}).complete();
    assert_eq!((to.read("a/one"), to.read("b/two")), (b"x".to_vec(), b"x".to_vec()));
    assert_eq!(copied.report.totals.outcome_of(Outcome::Copied), 2);
}

#[test]
fn options_about_metadata() {
    type Change = fn(&mut CopyOptions);
    // What the options are; mode, owner and group of the copies of `f` (0640), `x` (04750) and `d` (0750); whether times
    // are kept.
    type Case = (&'static str, Change, [(u32, u32, u32); 3], bool);
    if !root() {
        return;
    }
    let cases: [Case; 7] = [
        (
            "all",
            |_| {},
            [(0o640, 1001, 2001), (0o4750, 1001, 2001), (0o750, 1001, 2001)],
            true,
        ),
        (
            "no owner",
            |o| o.owner = false,
            [(0o640, 0, 0), (0o750, 0, 0), (0o750, 0, 0)],
            true,
        ),
        (
            "another owner",
            |o| o.chown_user = Some(1005),
            [(0o640, 1005, 2001), (0o750, 1005, 2001), (0o750, 1005, 2001)],
            true,
        ),
        (
            "another group and no owner",
            |o| (o.chown_group, o.owner) = (Some(2005), false),
            [(0o640, 0, 2005), (0o750, 0, 2005), (0o750, 0, 2005)],
            true,
        ),
        (
            "chmod",
            |o| o.chmod = Some("D2775,F664".into()),
            [(0o664, 1001, 2001), (0o664, 1001, 2001), (0o2775, 1001, 2001)],
            true,
        ),
        (
            "chmod, relative",
            |o| o.chmod = Some("go-r,Fu+x".into()),
            [(0o700, 1001, 2001), (0o4710, 1001, 2001), (0o710, 1001, 2001)],
            true,
        ),
        (
            "content only",
            |o| o.content_only = true,
            [(0o640, 0, 0), (0o750, 0, 0), (0o750, 0, 0)],
            false,
        ),
    ];
    for (what, change, expected, times) in cases {
        let scratch = Scratch::new();
        let source = scratch.tree("source");
        source
            .file("f", "f")
            .file("x", "x")
            .file("d/g", "g")
            .xattr("f", "user.a", b"1");
        source.file("x", "x").special("fifo", Kind::Fifo, 0).symlink("l", "f");
        for (name, mode) in [("f", 0o640), ("x", 0o4750), ("d", 0o750)] {
            source
                .owner(name, 1001, 2001)
                .mode(name, mode)
                .time(name, 1_200_000_000, 3);
        }
        let to = scratch.tree("to");
        copy(&[contents(source.path())], to.path(), change).complete();
        for (name, expected) in ["f", "x", "d"].into_iter().zip(expected) {
            let seen = fs::metadata(to.at(name)).unwrap();
            let seen_as = (seen.permissions().mode() & 0o7777, seen.uid(), seen.gid());
            assert_eq!(seen_as, expected, "{what}: {name} has {:o}", seen_as.0);
            let kept = (seen.mtime(), seen.mtime_nsec()) == (1_200_000_000, 3);
            assert_eq!(kept, times, "{what}: time of {name}");
        }
        let attributes = must("getfattr", &[&"-d", &"--absolute-names", &to.at("f")]);
        assert_eq!(attributes.contains("user.a"), times, "{what}: {attributes}");
        if times {
            let again = copy(&[contents(source.path())], to.path(), change).complete();
            let found = again.report.totals.all_found();
            assert_eq!(again.counts(), format!("skipped {found} (unchanged {found})"), "{what}");
        }
    }
}

/// Content only: what was there keeps its metadata.
#[test]
fn content_only_leaves_metadata_alone() {
    let scratch = Scratch::new();
    let (source, to) = (scratch.tree("source"), scratch.tree("to"));
    source.file("d/f", "new content").mode("d/f", 0o600).mode("d", 0o700);
    to.file("d/f", "old")
        .mode("d/f", 0o755)
        .mode("d", 0o751)
        .mode("", 0o711);
    copy(&[contents(source.path())], to.path(), |o| o.content_only = true).complete();
    let mode = |name| fs::metadata(to.path().join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode(""), mode("d")), (0o711, 0o751));
    assert_eq!(to.read("d/f"), b"new content");
}

/// An unprivileged run keeps what it may, says once per kind what it could not, and is complete.
#[test]
fn nobody_copies_what_root_owns() {
    let list = ["plain", "setuid", "setgid", "d"];
    apart(
        "metadata::nobody_copies_what_root_owns",
        NOBODY,
        |scratch| {
            let source = scratch.tree("source");
            source
                .file("plain", "x")
                .mode("plain", 0o644)
                .file("setuid", "x")
                .mode("setuid", 0o4755);
            source
                .file("setgid", "x")
                .mode("setgid", 0o2755)
                .file("d/inside", "x")
                .symlink("link", "plain");
            source.mode("d", 0o2755).xattr("plain", "user.a", b"1");
            scratch.tree("to").owner("", 65534, 65534);
        },
        |at| {
            let copied = copy(&[named(at.join("source"))], at.join("to"), |_| {}).complete();
            assert_eq!(copied.counts(), "made 3, copied 4");
            assert_eq!(copied.notes(), ["group", "owner", "setid-dropped"]);
            let owner = copied.report.notes.iter().find(|n| n.kind == "owner").unwrap();
            assert_eq!(owner.count, 7);
            // What can't be had is no difference the second time.
            let again = copy(&[named(at.join("source"))], at.join("to"), |_| {}).complete();
            assert_eq!(again.counts(), "skipped 7 (unchanged 7)");
            let without = copy(&[named(at.join("source"))], at.join("to"), |o| o.owner = false).complete();
            assert_eq!(without.notes(), ["setid-dropped"]);
        },
        |scratch| {
            let to = scratch.tree("to/source");
            let mode = |name: &str| fs::metadata(to.at(name)).unwrap().mode() & 0o7777;
            let modes = list.map(mode);
            assert_eq!(modes[..3], [0o644, 0o755, 0o755]);
            assert_eq!(modes[3] & 0o777, 0o755);
            for name in list {
                let source = scratch.at("source").join(name);
                assert_eq!(
                    crate::rig::modified(&to.at(name)),
                    crate::rig::modified(&source),
                    "{name}"
                );
            }
            assert!(must("getfattr", &[&"-d", &"--absolute-names", &to.at("plain")]).contains("user.a"));
        },
    );
}

/// Directories that are closed to their own owner are worked in, and closed again.
#[test]
fn nobody_works_in_closed_directories() {
    apart(
        "metadata::nobody_works_in_closed_directories",
        NOBODY,
        |scratch| {
            let source = scratch.tree("source");
            source.file("read-only/f", "new").mode("read-only", 0o555);
            source.file("closed/f", "new").mode("closed", 0o755);
            for name in ["kept", "plain"] {
                let to = scratch.tree(name);
                to.file("read-only/f", "old!").mode("read-only", 0o500);
                to.file("closed/f", "old!").mode("closed", 0);
            }
            for name in ["source", "kept", "plain"] {
                must("chown", &[&"-R", &"65534:65534", &scratch.at(name)]);
            }
        },
        |at| {
            copy(&[contents(at.join("source"))], at.join("kept"), |_| {}).complete();
            copy(&[contents(at.join("source"))], at.join("plain"), |o| {
                o.content_only = true;
            })
            .complete();
        },
        |scratch| {
            compare(&scratch.at("source"), &scratch.at("kept"));
            let plain = scratch.tree("plain");
            assert_eq!(
                (plain.read("closed/f"), plain.read("read-only/f")),
                (b"new".to_vec(), b"new".to_vec())
            );
            let mode = |name: &str| fs::metadata(plain.at(name)).unwrap().mode() & 0o7777;
            assert_eq!((mode("read-only"), mode("closed")), (0o500, 0));
        },
    );
}

/// The group's bits of an entry with a list are the most that the list gives anybody. Without the list they would be the
/// group's own.
#[test]
fn without_its_list_nobody_gets_more() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let Some(base) = scratch.file_system("ext4", "rw") else {
        return;
    };
    let source = Tree::new(base.join("source"));
    source
        .file("f", "x")
        .file("d/x", "x")
        .file("wide", "x")
        .link("again", "f");
    source.special("fifo", Kind::Fifo, 0);
    for (name, mode) in [
        ("f", 0o600),
        ("d", 0o700),
        ("d/x", 0o750),
        ("wide", 0o664),
        ("fifo", 0o600),
    ] {
        source.mode(name, mode);
    }
    for name in ["f", "d", "d/x", "fifo"] {
        must("setfacl", &[&"-m", &"u:12:rwx", &source.at(name)]);
    }
    let modes = |to: &Tree| {
        ["f", "again", "d", "d/x", "wide", "fifo"].map(|name| fs::metadata(to.at(name)).unwrap().mode() & 0o7777)
    };
    let right = [0o600, 0o600, 0o700, 0o750, 0o664, 0o600];
    for (what, hash_size) in [("to", 64 << 10), ("by name", 0)] {
        let to = Tree::new(base.join(what));
        let without = |o: &mut CopyOptions| (o.acls, o.hash_size) = (false, hash_size);
        copy(&[contents(source.path())], to.path(), without).complete();
        assert_eq!(modes(&to), right);
        let again = copy(&[contents(source.path())], to.path(), without).complete();
        assert_eq!(again.counts(), "skipped 7 (unchanged 7)");
        // One that was widened before is put right, also in a dry run's words.
        to.mode("f", 0o660).mode("d", 0o770).mode("fifo", 0o660);
        for dry_run in [true, false] {
            let mended = copy(&[contents(source.path())], to.path(), |o| {
                without(o);
                o.dry_run = dry_run;
            });
            assert_eq!(mended.counts(), "metadata 3, skipped 4 (unchanged 4)");
        }
        assert_eq!(modes(&to), right);
    }
    // Changes of the mode begin with that.
    let to = Tree::new(base.join("changed"));
    let changes = |o: &mut CopyOptions| (o.acls, o.chmod) = (false, Some("o+r".into()));
    copy(&[contents(source.path())], to.path(), changes).complete();
    assert_eq!(modes(&to), right.map(|mode| mode | 0o004));
    // A move takes that for the mode.
    let to = Tree::new(base.join("moved"));
    copy(&[contents(source.path())], to.path(), |o| {
        (o.acls, o.remove_sources) = (false, true);
    })
    .complete();
    assert_eq!(modes(&to), right);
    assert!(!source.path().exists());
}

/// What takes the place of a file keeps what that had and nothing asked for: attributes too, and where it would be a name of
/// another file.
#[test]
fn what_is_replaced_leaves_what_was_its_own() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (source, to) = (scratch.tree("source"), scratch.tree("to"));
    source.file("f", "new").xattr("f", "user.of", b"source");
    to.file("f", "older")
        .xattr("f", "user.of", b"destination")
        .mode("f", 0o755);
    must("setcap", &[&"cap_net_raw+ep", &to.at("f")]);
    let without = |o: &mut CopyOptions| o.xattrs = false;
    copy(&[contents(source.path())], to.path(), without).complete();
    assert_eq!(to.read("f"), b"new");
    let list = must("getfattr", &[&"-d", &"-m", &"-", &to.at("f")]);
    assert!(list.contains("user.of=\"destination\""), "{list}");
    // Writing takes it away.
    assert!(!list.contains("security.capability"), "{list}");

    let (source, to) = (scratch.tree("linked"), scratch.tree("joined"));
    source
        .file("a", "x")
        .link("b", "a")
        .link("c", "a")
        .mode("a", 0o644)
        .owner("a", 5, 6);
    for (name, owner, mode) in [("a", 7, 0o604), ("b", 8, 0o600), ("c", 7, 0o604)] {
        to.file(name, "was").owner(name, owner, 9).mode(name, mode);
    }
    let without = |o: &mut CopyOptions| (o.permissions, o.owner, o.jobs) = (false, false, 1);
    for _ in 0..2 {
        let copied = copy(&[contents(source.path())], to.path(), without).complete();
        assert_eq!(copied.notes(), ["hard-link-copied"]);
        let facts = ["a", "b", "c"].map(|name| fs::metadata(to.at(name)).unwrap());
        let own = facts
            .each_ref()
            .map(|stat| (stat.uid(), stat.gid(), stat.mode() & 0o7777));
        assert_eq!(own, [(7, 9, 0o604), (8, 9, 0o600), (7, 9, 0o604)]);
        assert_eq!(["a", "b", "c"].map(|name| to.read(name)), [b"x"; 3]);
    }
    assert_eq!(
        fs::metadata(to.at("a")).unwrap().ino(),
        fs::metadata(to.at("c")).unwrap().ino(),
        "what loses nothing is linked"
    );
}
