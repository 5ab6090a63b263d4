//! Extended attributes of every namespace, what a destination refuses, and what a move does about it.

use std::fs;
use std::path::Path;

use bulkhaul_engine::Kind;
use bulkhaul_engine::copy::options::CopyOptions;
use bulkhaul_sys as sys;
use sys::failpoint::{self, Call};
use sys::{AsFd as _, Node};

use crate::rig::{Copied, NOBODY, Scratch, Tree, apart, c_string, command, compare, contents, copy, must, node, root};

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0; 1024];
    let node = node(path);
    let length = sys::get_xattr(Node::Path(node.as_fd()), &c_string(name), &mut value).ok()?;
    Some(value[..length].to_vec())
}

fn remove(path: &Path, name: &str) {
    sys::remove_xattr(Node::Path(node(path).as_fd()), &c_string(name)).unwrap();
}

/// Attributes of each kind on entries of each kind.
fn attributes(tree: &Tree) {
    tree.file("f", "x")
        .dir("d")
        .symlink("l", "f")
        .special("p", Kind::Fifo, 0)
        .file("bare", "x");
    for name in ["f", "d", "l", "p"] {
        tree.xattr(name, "trusted.one", b"1")
            .xattr(name, "trusted.overlay.opaque", b"y")
            .xattr(name, "security.other", b"2");
    }
    for name in ["f", "d"] {
        tree.xattr(name, "user.u", b"3")
            .xattr(name, "user.overlay.opaque", b"y");
    }
    tree.xattr("f", "security.ima", b"\x01\0\xff")
        .xattr("f", "security.selinux", b"system_u:object_r:etc_t:s0\0");
}

#[test]
fn root_keeps_every_namespace() {
    if !root() {
        return;
    }
    for kind in ["tmpfs", "ext4", "xfs", "btrfs"] {
        let scratch = Scratch::new();
        let Some(base) = scratch.file_system(kind, "rw") else {
            continue;
        };
        let source = scratch.tree("source");
        attributes(&source);
        let to = Tree::new(base.join("to"));
        // Into a new directory, and into one that was there.
        for existing in [false, true] {
            if existing {
                fs::remove_dir_all(to.path()).unwrap();
                fs::create_dir(to.path()).unwrap();
            }
            let copied = copy(&[contents(source.path())], to.path(), |_| {}).complete();
            assert_eq!(copied.notes(), Vec::<&str>::new(), "{kind}");
            // As rsync -X, run as root, has it.
            compare(source.path(), to.path());
            let again = copy(&[contents(source.path())], to.path(), |_| {}).complete();
            assert_eq!(again.counts(), "skipped 6 (unchanged 6)", "{kind}");
        }
        // What differs is put right: one that is missing, one that is other, one too many.
        remove(&to.at("f"), "trusted.one");
        to.xattr("d", "security.other", b"x").xattr("l", "trusted.more", b"x");
        to.xattr("bare", "trusted.more", b"x");
        let repaired = copy(&[contents(source.path())], to.path(), |_| {}).complete();
        assert_eq!(repaired.counts(), "metadata 4, skipped 2 (unchanged 2)", "{kind}");
        compare(source.path(), to.path());
    }
}

/// Properties of btrfs are attributes too, and what is made in a directory gets them.
#[test]
fn properties_of_btrfs() {
    let scratch = Scratch::new();
    let Some(base) = scratch.file_system("btrfs", "rw") else {
        return;
    };
    let source = Tree::new(base.join("source"));
    source
        .file("plain/f", "x")
        .file("packed/f", "x")
        .xattr("packed", "btrfs.compression", b"zstd")
        .xattr("packed/f", "btrfs.compression", b"lzo");
    let to = Tree::new(base.join("to"));
    to.xattr("", "btrfs.compression", b"zlib");
    to.dir("plain");
    for _ in 0..2 {
        copy(&[contents(source.path())], to.path(), |_| {}).complete();
        let property = |name: &str| attribute(&to.at(name), "btrfs.compression");
        assert_eq!(property("packed").as_deref(), Some(&b"zstd"[..]));
        assert_eq!(property("packed/f").as_deref(), Some(&b"lzo"[..]));
        for name in ["plain", "plain/f", ""] {
            assert_eq!(property(name), None, "{name}");
        }
    }
    let again = copy(&[contents(source.path())], to.path(), |_| {}).complete();
    assert_eq!(again.counts(), "skipped 5 (unchanged 5)");
    // Where there are none, one that was asked for is lost.
    let other = copy(&[contents(source.path())], scratch.at("elsewhere"), |_| {}).incomplete();
    assert_eq!(other.notes(), ["xattr:btrfs.compression"]);
}

/// What binds a file to its place is told by its name and never copied, and keeps nothing from moving.
#[test]
fn what_binds_a_file_to_its_place() {
    if !root() {
        return;
    }
    let bound = [
        "trusted.overlay.origin",
        "trusted.overlay.uuid",
        "trusted.overlay.impure",
        "user.overlay.origin",
        "trusted.lov",
        "trusted.lma",
        "trusted.link",
        "trusted.hsm",
        "trusted.glusterfs.dht",
        "trusted.gfid",
        "trusted.afr.volume-client-0",
        "security.evm",
    ];
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source.file("f", "x").xattr("f", "trusted.kept", b"1");
    for name in bound {
        source.xattr("f", name, b"there");
    }
    let mut notes: Vec<String> = bound.iter().map(|name| format!("dropped-xattr:{name}")).collect();
    notes.sort();
    let to = scratch.tree("to");
    for _ in 0..2 {
        let copied = copy(&[contents(source.path())], to.path(), |_| {}).complete();
        assert_eq!(copied.notes(), notes);
    }
    assert_eq!(attribute(&to.at("f"), "trusted.kept").as_deref(), Some(&b"1"[..]));
    for name in bound {
        assert_eq!(attribute(&to.at("f"), name), None, "{name}");
    }
    // The copy has its own, which is left alone.
    to.xattr("f", "trusted.gfid", b"here");
    copy(&[contents(source.path())], to.path(), |o| o.remove_sources = true).complete();
    assert_eq!(attribute(&to.at("f"), "trusted.gfid").as_deref(), Some(&b"here"[..]));
    assert!(!source.path().exists());
}

/// The upper directory of an overlay: what was deleted stays deleted, and what was replaced stays replaced.
#[test]
fn the_upper_directory_of_an_overlay() {
    let scratch = Scratch::new();
    let Some(base) = scratch.file_system("tmpfs", "rw") else {
        return;
    };
    let base = Tree::new(base);
    base.file("lower/gone", "x")
        .file("lower/changed", "old")
        .file("lower/replaced/below", "x")
        .file("lower/kept/f", "x");
    let mount = |upper: &str, work: &str, point: &str| {
        base.dir(upper).dir(work).dir(point);
        let at = |name: &str| base.at(name).display().to_string();
        let options = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at(upper), at(work));
        let mounted = command("mount", &[&"-t", &"overlay", &"-o", &options, &"none", &at(point)]);
        if !mounted.status.success() {
            println!("skip: {}", String::from_utf8_lossy(&mounted.stderr));
        }
        mounted.status.success()
    };
    if !mount("upper", "work", "one") {
        return;
    }
    let one = Tree::new(base.at("one"));
    fs::remove_file(one.at("gone")).unwrap();
    fs::remove_dir_all(one.at("replaced")).unwrap();
    one.file("replaced/new", "n").file("changed", "new").file("kept/g", "y");
    let shown = one.names();
    assert_eq!(
        shown,
        ["changed", "kept", "kept/f", "kept/g", "replaced", "replaced/new"]
    );
    must("umount", &[&one.path()]);
    for (turn, moves) in [false, true].into_iter().enumerate() {
        let upper = base.at(format!("upper-{turn}"));
        let copied = copy(&[contents(base.at("upper"))], &upper, |o| o.remove_sources = moves).complete();
        assert!(
            copied
                .notes()
                .iter()
                .all(|kind| kind.starts_with("dropped-xattr:trusted.overlay."))
        );
        let point = format!("point-{turn}");
        assert!(mount(&format!("upper-{turn}"), &format!("work-{turn}"), &point));
        let again = Tree::new(base.at(&point));
        assert_eq!(again.names(), shown, "moved: {moves}");
        assert_eq!(again.read("changed"), b"new");
        must("umount", &[&again.path()]);
    }
    assert!(!base.path().join("upper").exists());
}

/// A file system without attributes, empty. `None`: it can't be had here.
fn ramfs(scratch: &Scratch) -> Option<Tree> {
    let to = scratch.tree("ramfs");
    let mounted = root()
        && command("mount", &[&"-t", &"ramfs", &"none", &to.path()])
            .status
            .success();
    if !mounted {
        println!("skip: no ramfs can be mounted");
    }
    mounted.then_some(to)
}

fn stayed(copied: &Copied) -> Vec<String> {
    let mut messages: Vec<String> = copied
        .report
        .failures
        .iter()
        .filter(|failure| failure.kind == "not-kept")
        .map(|failure| failure.message.rsplit('/').next().unwrap().to_owned())
        .collect();
    messages.sort();
    messages
}

/// What is lost is told, and a move leaves the only entry that has it.
#[test]
fn a_move_keeps_what_the_destination_does_not_take() {
    let scratch = Scratch::new();
    let Some(to) = ramfs(&scratch) else { return };
    let source = scratch.tree("source");
    source
        .file("plain", "x")
        .file("f", "x")
        .xattr("f", "trusted.colour", b"green")
        .file("acl", "x")
        .file("d/inside", "x")
        .file("e/inside", "x")
        .symlink("l", "f")
        .file("linked", "y")
        .link("links/again", "linked");
    source
        .xattr("d", "trusted.colour", b"blue")
        .xattr("l", "trusted.colour", b"red")
        .xattr("linked", "security.x", b"1")
        .file("label", "x")
        .xattr("label", "security.selinux", b"policy\0");
    must("setfacl", &[&"-m", &"u:1001:rwx", &source.at("acl")]);
    let copied = copy(&[contents(source.path())], to.path(), |o| o.remove_sources = true).incomplete();
    assert_eq!(
        stayed(&copied),
        [
            "acl: its ACL was not kept, so it stays",
            "again: extended attribute security.x was not kept, so it stays",
            "d: extended attribute trusted.colour was not kept, so it stays",
            "f: extended attribute trusted.colour was not kept, so it stays",
            "l: extended attribute trusted.colour was not kept, so it stays",
            "linked: extended attribute security.x was not kept, so it stays",
        ]
    );
    assert_eq!(source.names(), ["acl", "d", "f", "l", "linked", "links", "links/again"]);
    let notes = &copied.report.notes;
    let told: Vec<_> = notes.iter().map(|n| (n.kind.as_str(), n.count, n.lost)).collect();
    assert_eq!(
        told,
        [
            ("acl", 1, true),
            ("xattr:security.selinux", 1, false),
            ("xattr:security.x", 1, true),
            ("xattr:trusted.colour", 3, true)
        ]
    );
    // Nobody wants them: then they go.
    let wanted = ["acl", "d", "e", "f", "l", "label", "linked", "links", "plain"];
    copy(&[contents(source.path())], to.path(), |o| {
        (o.remove_sources, o.xattrs, o.acls) = (true, false, false);
    })
    .complete();
    assert!(!source.path().exists());
    let there = to.names();
    assert_eq!(
        there.iter().filter(|name| !name.contains('/')).collect::<Vec<_>>(),
        wanted.iter().collect::<Vec<_>>()
    );
}

/// What an unprivileged run can't keep is a note, and stays in the source of a move.
#[test]
fn nobody_moves_what_only_root_can_keep() {
    apart(
        "attributes::nobody_moves_what_only_root_can_keep",
        NOBODY,
        |scratch| {
            for name in ["source", "to"] {
                scratch.tree(name).owner("", 65534, 65534);
            }
            let source = scratch.tree("source");
            for name in ["plain", "capable", "other"] {
                source.file(name, "x").mode(name, 0o644).owner(name, 65534, 65534);
            }
            source.owner("other", 1001, 65534);
            must("setcap", &[&"cap_net_raw+ep", &source.at("capable")]);
        },
        |at| {
            let copied = copy(&[contents(at.join("source"))], at.join("to"), |_| {}).complete();
            assert_eq!(copied.notes(), ["capability", "owner"]);
            let moved = copy(&[contents(at.join("source"))], at.join("to"), |o| {
                o.remove_sources = true;
            })
            .incomplete();
            assert_eq!(
                stayed(&moved),
                [
                    "capable: extended attribute security.capability was not kept, so it stays",
                    "other: its owner was not kept, so it stays"
                ]
            );
        },
        |scratch| {
            assert_eq!(scratch.tree("source").names(), ["capable", "other"]);
            assert_eq!(scratch.tree("to").names(), ["capable", "other", "plain"]);
        },
    );
}

/// A file system that has one owner and one mode for all, and takes others without a word.
#[test]
fn a_destination_that_drops_owners_and_modes() {
    let scratch = Scratch::new();
    let Some(to) = scratch.ntfs("rw") else { return };
    let source = scratch.tree("source");
    source.file("a", "x").owner("a", 1001, 2001).mode("a", 0o4640);
    source
        .file("b", "x")
        .mode("b", 0o600)
        .file("d/open", "x")
        .mode("d/open", 0o777);
    source.mode("d", 0o700);
    for name in ["a", "b", "d/open", "d", ""] {
        source.time(name, 1_000_000_000, 0);
    }
    for turn in 0..2 {
        let copied = copy(&[contents(source.path())], to.join("in"), |_| {}).incomplete();
        assert_eq!(copied.failures(&to), Vec::<String>::new());
        let notes = &copied.report.notes;
        let told: Vec<_> = notes.iter().map(|n| (n.kind.as_str(), n.count, n.lost)).collect();
        let all = [
            ("group", 1, true),
            ("mode", 4, true),
            ("owner", 1, true),
            ("setid-dropped", 1, false),
        ];
        assert_eq!(told, all, "turn {turn}");
        if turn > 0 {
            assert_eq!(copied.counts(), "skipped 5 (unchanged 5)");
        }
    }
    let moved = copy(&[contents(source.path())], to.join("in"), |o| {
        o.remove_sources = true;
    })
    .incomplete();
    assert_eq!(
        stayed(&moved),
        [
            "a: its owner was not kept, so it stays",
            "b: its mode was not kept, so it stays",
            "d: its mode was not kept, so it stays",
            "source: its mode was not kept, so it stays",
        ]
    );
    let unasked = copy(&[contents(source.path())], to.join("in"), |o| {
        (o.owner, o.permissions, o.remove_sources) = (false, false, true);
    })
    .complete();
    assert_eq!(unasked.notes(), Vec::<&str>::new());
    assert!(!source.path().exists());
}

/// Metadata that nobody wants costs no call, but to open a directory to others that was closed while it was filled.
#[test]
fn what_is_not_wanted_is_not_set() {
    apart(
        "attributes::what_is_not_wanted_is_not_set",
        &["env"],
        |scratch| {
            let source = scratch.tree("source");
            attributes(&source);
            source.file("d/g", "x").owner("d/g", 1001, 2001);
        },
        |at| {
            for content_only in [false, true] {
                failpoint::arm(None);
                copy(
                    &[contents(at.join("source"))],
                    at.join(format!("to-{content_only}")),
                    |o| {
                        o.content_only = content_only;
                        if !content_only {
                            (o.owner, o.permissions, o.acls, o.xattrs, o.times) = (false, false, false, false, false);
                        }
                    },
                )
                .complete();
                let calls = failpoint::disarm();
                let count = |call: Call| calls.iter().filter(|each| **each == call).count();
                for call in [
                    Call::SetOwner,
                    Call::SetTimes,
                    Call::SetXattr,
                    Call::GetXattr,
                    Call::RemoveXattr,
                ] {
                    assert_eq!(count(call), 0, "{call:?}");
                }
                // Two directories are made; what they give is asked of the one that holds them.
                assert_eq!((count(Call::SetMode), count(Call::ListXattrs)), (2, 1));
            }
        },
        |scratch| {
            for name in ["to-false", "to-true"] {
                assert_eq!(scratch.tree(name).names().len(), 6);
            }
        },
    );
}

/// Who refuses owners, modes, times or attributes, in words or without: the content arrives, what was refused is told once a
/// kind, and the run is not complete. Where nobody asks for it, nothing is said.
#[test]
fn a_destination_that_refuses_metadata() {
    type Case = (&'static str, &'static [&'static str], fn(&mut CopyOptions));
    let owner = |o: &mut CopyOptions| o.owner = false;
    let mode = |o: &mut CopyOptions| o.permissions = false;
    let attributes = |o: &mut CopyOptions| (o.acls, o.xattrs) = (false, false);
    let cases: [Case; 16] = [
        ("nochown=EPERM", &["group 4", "owner 4"], owner),
        ("nochown=EINVAL", &["group 4", "owner 4"], owner),
        ("nochown=ignored", &["group 4", "owner 4"], owner),
        ("squash=65534,nochown=EPERM", &["group 5", "owner 5"], owner),
        ("nochmod=EPERM", &["mode 4"], mode),
        ("nochmod=EOPNOTSUPP", &["mode 4"], mode),
        ("nochmod=ignored", &["mode 4"], mode),
        ("noxattr=EPERM", &["acl 1", "xattr:user.a 1"], attributes),
        ("noxattr=EOPNOTSUPP", &["acl 1", "xattr:user.a 1"], attributes),
        ("noutimens=EPERM", &["times 5"], |o| o.times = false),
        // As servers of SMB and NFS say it.
        ("nochown=EACCES", &["group 4", "owner 4"], owner),
        ("nochmod=EACCES", &["mode 4"], mode),
        ("noxattr=EACCES", &["acl 1", "xattr:user.a 1"], attributes),
        ("noutimens=EACCES", &["times 5"], |o| o.times = false),
        // As ext4 and XFS do of attributes that are larger than they have room for.
        ("noxattr=ENOSPC", &["acl 1", "xattr:user.a 1"], attributes),
        ("noxattr=E2BIG", &["acl 1", "xattr:user.a 1"], attributes),
    ];
    for (options, lost, unasked) in cases {
        let scratch = Scratch::new();
        let (source, below) = (scratch.tree("source"), scratch.tree("below"));
        let Some(to) = scratch.faulty(below.path(), options) else {
            return;
        };
        source.file("a", "x").file("d/b", "y").symlink("l", "a");
        source.xattr("a", "user.a", b"1").mode("a", 0o640);
        for name in ["a", "d/b", "d", "l"] {
            source.owner(name, 1001, 2001);
        }
        source.mode("d/b", 0o4755).mode("d", 0o751);
        must("setfacl", &[&"-m", &"u:1009:r", &source.at("d/b")]);
        let told = |copied: &Copied| -> Vec<String> {
            let notes = copied.report.notes.iter().filter(|note| note.lost);
            notes.map(|note| format!("{} {}", note.kind, note.count)).collect()
        };
        for turn in 0..2 {
            let copied = copy(&[contents(source.path())], to.join("in"), |_| {}).incomplete();
            assert_eq!(copied.failures(&to), Vec::<String>::new(), "{options}");
            assert_eq!(told(&copied), lost, "{options}, turn {turn}");
            assert_eq!(below.names(), ["in", "in/a", "in/d", "in/d/b", "in/l"], "{options}");
            assert_eq!(
                (below.read("in/a"), below.read("in/d/b")),
                (b"x".to_vec(), b"y".to_vec())
            );
            if turn > 0 && !options.starts_with("noutimens") {
                assert_eq!(copied.counts(), "skipped 5 (unchanged 5)", "{options}");
            }
        }
        if !options.starts_with("noutimens") {
            let moved = copy(&[contents(source.path())], to.join("in"), |o| o.remove_sources = true).incomplete();
            assert!(!stayed(&moved).is_empty(), "{options}: {moved:?}");
        }
        let again = copy(&[contents(source.path())], to.join("in"), unasked).complete();
        assert_eq!(told(&again), Vec::<String>::new(), "{options}");
        let anew = copy(&[contents(source.path())], to.join("new"), unasked).complete();
        let closed = anew.notes().contains(&"mode");
        // A new directory is closed until it is done, and there it can't be opened to others.
        assert_eq!(closed, options.starts_with("nochmod"), "{options}: {:?}", anew.notes());
    }
}
