//! What does not come from the source follows the destination: set-group-ID, group and default ACLs, as `mkdir` and `open`
//! have them.

use std::fs::{self, DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use bulkhaul_engine::copy::options::{CopyOptions, Directories};
use bulkhaul_engine::list::{self, ListOptions};
use bulkhaul_engine::pack::{self, PackOptions};
use bulkhaul_engine::walk::start::Root;

use crate::rig::{Scratch, Tree, contents, copy, must, named, root};

/// Directories that give something to what is made in them.
const PARENTS: [(&str, &[&str]); 6] = [
    ("plain", &[]),
    ("set-group-ID", &["chgrp 2009", "chmod 2775"]),
    ("open default ACL", &["setfacl -m d:u:1009:rwx,d:g:2009:rwx,d:o::rwx"]),
    ("closed default ACL", &["setfacl -m d:u::rwx,d:g::---,d:o::---"]),
    (
        "default ACL with a mask",
        &["setfacl -m d:u:1009:rwx,d:g::rx,d:m::rx,d:o::---"],
    ),
    (
        "both",
        &["chgrp 2009", "chmod 2770", "setfacl -m d:g:2009:rwx,d:o::---"],
    ),
];

fn prepare(directory: &Path, commands: &[&str]) {
    for words in commands {
        let mut words = words.split(' ');
        let program = words.next().unwrap();
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = Vec::new();
        let words: Vec<&str> = words.collect();
        arguments.extend(words.iter().map(|word| word as &dyn AsRef<std::ffi::OsStr>));
        arguments.push(&directory);
        must(program, &arguments);
    }
}

/// Mode, group and ACL of everything in a tree.
fn rights(tree: &Tree) -> Vec<String> {
    let mut names = tree.names();
    names.retain(|name| !fs::symlink_metadata(tree.at(name)).unwrap().is_symlink());
    let right = |name: &String| {
        let stat = fs::metadata(tree.at(name)).unwrap();
        let acl = must("getfacl", &[&"-cpE", &tree.at(name)]);
        format!(
            "{name}: {:o} {} {}\n{acl}",
            stat.mode() & 0o7777,
            stat.uid(),
            stat.gid()
        )
    };
    names.iter().map(right).collect()
}

fn make(path: &Path, mode: u32) {
    DirBuilder::new().mode(mode).create(path).unwrap();
}

fn open(path: &Path, mode: u32) {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .unwrap();
}

fn source(scratch: &Scratch) -> Tree {
    let source = scratch.tree("source");
    source
        .file("secret", "x")
        .mode("secret", 0o600)
        .file("shared", "x")
        .mode("shared", 0o666)
        .file("run", "x")
        .mode("run", 0o4755)
        .file("d/inside", "x")
        .mode("d/inside", 0o664)
        .file("d/deeper/f", "x")
        .mode("d/deeper", 0o777)
        .mode("d", 0o755);
    source
}

#[test]
fn content_alone_is_as_if_it_were_made_there() {
    if !root() {
        return;
    }
    for (what, commands) in PARENTS {
        for existing in [false, true] {
            let scratch = Scratch::new();
            let source = source(&scratch);
            let (to, plain) = (scratch.tree("to"), scratch.tree("plain"));
            for tree in [&to, &plain] {
                prepare(tree.path(), commands);
                if existing {
                    make(&tree.at("d"), 0o755);
                }
            }
            for (name, mode) in [("secret", 0o600), ("shared", 0o666), ("run", 0o755)] {
                open(&plain.at(name), mode);
            }
            if !existing {
                make(&plain.path().join("d"), 0o755);
            }
            make(&plain.path().join("d/deeper"), 0o777);
            open(&plain.at("d/inside"), 0o664);
            open(&plain.at("d/deeper/f"), 0o644);
            copy(&[contents(source.path())], to.path(), |o| o.content_only = true).complete();
            assert_eq!(rights(&to), rights(&plain), "{what}, existing: {existing}");
        }
    }
}

#[test]
fn made_directories_are_as_mkdir_makes_them() {
    type Case = (&'static str, fn(&mut CopyOptions));
    if !root() {
        return;
    }
    let cases: [Case; 2] = [("all", |_| {}), ("needed", |o| o.directories = Directories::Needed)];
    for (what, commands) in PARENTS {
        for (which, change) in cases {
            let scratch = Scratch::new();
            let source = source(&scratch);
            let (to, plain) = (scratch.tree("to"), scratch.tree("plain"));
            for tree in [&to, &plain] {
                prepare(tree.path(), commands);
            }
            // Parents of the destination, and the destination where it stands for nothing in the source.
            copy(&[named(source.at("secret"))], to.path().join("p/q/r"), change).complete();
            for name in ["p", "p/q", "p/q/r"] {
                make(&plain.path().join(name), 0o777);
            }
            // The file has what its source has.
            let secret = fs::metadata(to.at("p/q/r/secret")).unwrap();
            assert_eq!(secret.mode() & 0o7777, 0o600, "{what}, {which}");
            assert!(!must("getfacl", &[&"-cpE", &to.at("p/q/r/secret")]).contains("1009"));
            fs::remove_file(to.at("p/q/r/secret")).unwrap();
            if which == "needed" {
                copy(&[contents(source.path())], to.path(), change).complete();
                for name in ["d", "d/deeper"] {
                    make(&plain.path().join(name), 0o777);
                }
                for name in ["run", "secret", "shared", "d/inside", "d/deeper/f"] {
                    fs::remove_file(to.at(name)).unwrap();
                }
            }
            assert_eq!(rights(&to), rights(&plain), "{what}, {which}");
        }
    }
}

/// ACLs that are not kept from the source come from the destination, while the mode is the source's.
#[test]
fn without_acls_the_default_acl_stands() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let source = source(&scratch);
    must("setfacl", &[&"-m", &"u:1001:rwx", &source.at("d/inside")]);
    let to = scratch.tree("to");
    prepare(to.path(), &["setfacl -m d:u:1009:rwx,d:o::---"]);
    copy(&[contents(source.path())], to.path(), |o| o.acls = false).complete();
    for name in ["secret", "d", "d/deeper/f"] {
        let acl = must("getfacl", &[&"-cpE", &to.at(name)]);
        assert!(acl.contains("user:1009:rwx"), "{name}: {acl}");
        let mode = |tree: &Tree| fs::metadata(tree.at(name)).unwrap().mode();
        assert_eq!(mode(&to), mode(&source), "{name}");
    }
    assert!(!must("getfacl", &[&"-cpE", &to.at("d/inside")]).contains("1001"));
    let again = copy(&[contents(source.path())], to.path(), |o| o.acls = false).complete();
    assert_eq!(again.counts(), "skipped 8 (unchanged 8)");
}

/// What takes the place of a file has its owner, mode and ACL where the source's are not kept: as if it were written into.
#[test]
fn content_alone_changes_nobodys_rights() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source
        .file("f", "new content")
        .mode("f", 0o666)
        .file("acl", "new content");
    let to = scratch.tree("to");
    to.file("f", "old").owner("f", 1001, 2001).mode("f", 0o640);
    to.file("acl", "old");
    must("setfacl", &[&"-m", &"u:1009:rw,g::---,o::---", &to.at("acl")]);
    let before = rights(&to);
    copy(&[contents(source.path())], to.path(), |o| o.content_only = true).complete();
    assert_eq!(
        (to.read("f"), to.read("acl")),
        (b"new content".to_vec(), b"new content".to_vec())
    );
    assert_eq!(rights(&to), before);
}

/// Lists and shards, as any program would write them there.
#[test]
fn what_is_written_for_its_user_is_as_open_makes_it() {
    if !root() {
        return;
    }
    let bytes = |path: &Path| path.as_os_str().as_encoded_bytes().to_vec();
    for (what, commands) in PARENTS {
        let scratch = Scratch::new();
        let source = source(&scratch);
        let (to, plain) = (scratch.tree("to"), scratch.tree("plain"));
        for tree in [&to, &plain] {
            prepare(tree.path(), commands);
            open(&tree.at("shared"), 0o660);
            fs::write(tree.at("shared"), "old").unwrap();
        }
        let roots = vec![Root {
            path: bytes(source.path()),
            follow: false,
            contents: true,
            pin: None,
        }];
        for name in ["list", "shared"] {
            let options = ListOptions {
                sources: roots.clone(),
                output: Some(bytes(&to.at(name))),
                ..ListOptions::default()
            };
            list::job(options).unwrap().run().unwrap();
        }
        let options = PackOptions {
            sources: roots,
            destination: bytes(to.path()),
            ..PackOptions::default()
        };
        pack::job(options).unwrap().run().unwrap();
        for name in to.names().iter().filter(|name| *name != "shared") {
            open(&plain.at(name), 0o666);
        }
        assert_eq!(rights(&to), rights(&plain), "{what}");
    }
}
