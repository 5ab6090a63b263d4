//! What of the sources is taken: excludes, lists, one file system, directories only, room, and which destination.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bulkhaul_engine::bytes::transfer::Sparse;
use bulkhaul_engine::copy::options::{
    Collision, CopyOptions, DestinationArgument, Directories, FilesFrom, SourceArgument,
};
use bulkhaul_engine::entry::{Outcome, Reason};
use bulkhaul_engine::error::Refusal;
use bulkhaul_engine::{FilterStyle, Kind, copy};

use crate::rig::{
    Copied, Scratch, Tree, alone, attempt, compare, content, contents, copy, listing, modified, must, named, options,
    run,
};

fn rules(style: FilterStyle, rules: &[&str]) -> (FilterStyle, Vec<Vec<u8>>) {
    (style, rules.iter().map(|r| r.as_bytes().to_vec()).collect())
}

/// Rules on a whole copy, with rsync itself as the judge.
#[test]
fn excludes_as_rsync() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    for name in [
        "a.tmp",
        "keep.tmp",
        "top",
        "d/top",
        "d/a.tmp",
        "d/e/f.c",
        "cache/x",
        "d/cache/y",
        "cache-not/z",
    ] {
        source.file(name, name);
    }
    source
        .dir("empty/cache")
        .symlink("link.tmp", "x")
        .symlink("cachelink", "cache");
    let cases: [&[&str]; 9] = [
        &["*.tmp"],
        &["+ keep.tmp", "*.tmp"],
        &["/top"],
        &["cache/"],
        &["cache*"],
        &["d/**"],
        &["/d/e"],
        &["*.tmp", "!", "top"],
        &["+ */", "+ *.c", "*"],
    ];
    for (index, case) in cases.into_iter().enumerate() {
        let (to, oracle) = (
            scratch.at(&format!("to-{index}")),
            scratch.at(&format!("oracle-{index}")),
        );
        let mut arguments: Vec<String> = vec!["-aHAX".into(), "--modify-window=-1".into()];
        arguments.extend(case.iter().map(|rule| format!("--exclude={rule}")));
        arguments.extend([format!("{}/", source.path().display()), oracle.display().to_string()]);
        let arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = arguments.iter().map(|a| a as _).collect();
        must("rsync", &arguments);
        let copied = copy(&[contents(source.path())], &to, |o| {
            o.filter = Some(rules(FilterStyle::Rsync, case));
        })
        .complete();
        compare(&oracle, &to);
        // What is excluded is told, and counted apart.
        let totals = &copied.report.totals;
        let told = copied
            .entries
            .iter()
            .filter(|e| e.reason == Some(Reason::Excluded))
            .count() as u64;
        assert_eq!(told, totals.reasons[Reason::Excluded as usize], "{case:?}");
        assert!(told > 0, "{case:?}");
        assert_eq!(totals.all_found(), Tree::new(to).names().len() as u64 + 1, "{case:?}");
    }
}

/// Below an excluded directory nothing is looked at, not even where looking would fail.
#[test]
fn excluded_directories_are_not_descended_into() {
    crate::rig::apart(
        "selection::excluded_directories_are_not_descended_into",
        crate::rig::NOBODY,
        |scratch| {
            let source = scratch.tree("source");
            source
                .file("closed/f", "x")
                .mode("closed", 0o700)
                .file("d/open", "x")
                .file("d/closed/f", "x");
            source.mode("d/closed", 0o700);
            scratch.tree("outer").owner("", 65534, 65534);
        },
        |at| {
            let copied = copy(&[contents(at.join("source"))], at.join("outer/to"), |o| {
                o.filter = Some(rules(FilterStyle::Rsync, &["closed/"]));
            })
            .complete();
            assert_eq!(copied.counts(), "made 2, copied 1 (excluded 2)");
        },
        |scratch| assert_eq!(scratch.tree("outer/to").names(), ["d", "d/open"]),
    );
}

#[test]
fn excludes_as_fnmatch() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source
        .file("a.tmp", "x")
        .file("d/b.tmp", "x")
        .file("d/c", "x")
        .file("e/f", "x")
        .file("e/g/f", "x");
    let whole = |pattern: &str| format!("{}{pattern}", source.path().display());
    let cases = [
        ("*.tmp".to_owned(), vec!["d", "d/c", "e", "e/f", "e/g", "e/g/f"]),
        (whole("/e"), vec!["a.tmp", "d", "d/b.tmp", "d/c"]),
        (whole("/e/*"), vec!["a.tmp", "d", "d/b.tmp", "d/c", "e"]),
        (whole("/?/f"), vec!["a.tmp", "d", "d/b.tmp", "d/c", "e", "e/g", "e/g/f"]),
        (
            "e".to_owned(),
            vec!["a.tmp", "d", "d/b.tmp", "d/c", "e", "e/f", "e/g", "e/g/f"],
        ),
    ];
    for (pattern, names) in cases {
        let to = scratch.at("to");
        copy(&[contents(source.path())], &to, |o| {
            o.filter = Some(rules(FilterStyle::Fnmatch, &[&pattern]));
        })
        .complete();
        assert_eq!(Tree::new(to.clone()).names(), names, "{pattern}");
        fs::remove_dir_all(&to).unwrap();
    }
}

/// What is excluded from a later source does not stand for what an earlier one brings.
#[test]
fn excludes_and_several_sources() {
    let scratch = Scratch::new();
    let (one, two) = (scratch.tree("one"), scratch.tree("two"));
    one.file("x", "one").file("y", "one").file("d/z", "one");
    two.file("x", "two").file("y/inner", "two").file("d/z", "two");
    let cases = [
        (FilterStyle::Fnmatch, two.at("x").display().to_string(), "x", "one"),
        (FilterStyle::Fnmatch, two.at("d").display().to_string(), "d/z", "one"),
        (FilterStyle::Fnmatch, one.at("x").display().to_string(), "x", "two"),
        (FilterStyle::Rsync, "y/".to_owned(), "y", "one"),
    ];
    for (style, rule, name, expected) in cases {
        let to = scratch.at("to");
        copy(&[contents(one.path()), contents(two.path())], &to, |o| {
            o.filter = Some(rules(style, &[&rule]));
            o.on_collision = Collision::Last;
        })
        .complete();
        assert_eq!(
            fs::read(to.join(name)).ok().as_deref(),
            Some(expected.as_bytes()),
            "{rule}"
        );
        fs::remove_dir_all(&to).unwrap();
    }
    // Arguments are entries like others.
    let copied = copy(&[named(one.at("x")), named(one.at("d"))], scratch.at("named"), |o| {
        o.filter = Some(rules(FilterStyle::Rsync, &["x", "z"]));
    });
    assert_eq!(copied.complete().counts(), "made 1 (excluded 2)");
}

fn listed(scratch: &Scratch, source: &Tree, to: &Path, list: &[u8], nul: bool) -> Copied {
    fs::write(scratch.at("list"), list).unwrap();
    copy(&[contents(source.path())], to, |o| {
        o.files_from = Some(FilesFrom {
            path: scratch.at("list").into_os_string().into_encoded_bytes(),
            nul,
            contents: false,
        });
    })
}

#[test]
fn a_list_may_bring_what_is_in_its_directories() {
    let scratch = Scratch::new();
    let (source, to) = (scratch.tree("source"), scratch.tree("to"));
    for name in ["a", "d/e/f", "d/e/g/h", "d/other", "i/k/l", "i/m"] {
        source.file(name, name);
    }
    source.mode("d", 0o750).symlink("s", "d");
    // What is below one that comes whole says nothing more.
    fs::write(scratch.at("list"), "d/e\0d/e/f\0i/k/l\0s\0").unwrap();
    let from = FilesFrom {
        path: scratch.at("list").into_os_string().into_encoded_bytes(),
        nul: true,
        contents: true,
    };
    let copied = copy(&[contents(source.path())], to.path(), |o| o.files_from = Some(from)).complete();
    assert_eq!(copied.counts(), "made 6, copied 3, metadata 1");
    let mut names: Vec<_> = copied.entries.iter().map(|entry| entry.path.clone()).collect();
    names.sort();
    let names: Vec<_> = names
        .iter()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    assert_eq!(
        names,
        [".", "d", "d/e", "d/e/f", "d/e/g", "d/e/g/h", "i", "i/k", "i/k/l", "s"]
    );
    assert_eq!(fs::metadata(to.at("d")).unwrap().permissions().mode() & 0o7777, 0o750);
}

/// What it is, the list, whether NUL ends its names, what is there then, and the counts.
type Listed<'l> = (&'static str, &'l [u8], bool, &'static [&'static str], &'static str);

#[test]
fn files_from_a_list() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    for name in ["a", "b", "d/e/f", "d/e/g", "d/h", "i/j", "i/k/l", "new\nline"] {
        source.file(name, name);
    }
    source
        .symlink("s", "a")
        .mode("d", 0o750)
        .mode("d/e", 0o711)
        .time("d/e", 1_000_000_000, 1)
        .time("d", 1_000_000_001, 1);
    let absolute = format!("{}/d/h\n", source.path().display());
    let cases: [Listed; 8] = [
        ("one", b"a\n", false, &["a"], "made 1, copied 1"),
        ("no newline at the end", b"b\na", false, &["a", "b"], "made 1, copied 2"),
        (
            "implied parents",
            b"d/e/f\n",
            false,
            &["d", "d/e", "d/e/f"],
            "made 3, copied 1",
        ),
        (
            "a directory is not descended into",
            b"d\ni/\n",
            false,
            &["d", "i"],
            "made 3",
        ),
        (
            "a directory and something in it",
            b"i\ni/j\n",
            false,
            &["i", "i/j"],
            "made 2, copied 1",
        ),
        (
            "twice, and dots",
            b"a\n./a\n.//d/./h\n",
            false,
            &["a", "d", "d/h"],
            "made 2, copied 2",
        ),
        (
            "absolute",
            absolute.as_bytes(),
            false,
            &["d", "d/h"],
            "made 2, copied 1",
        ),
        ("NUL", b"new\nline\0s\0", true, &["new\nline", "s"], "made 2, copied 1"),
    ];
    for (what, list, nul, names, counts) in cases {
        let to = scratch.at("to");
        let copied = listed(&scratch, &source, &to, list, nul).complete();
        assert_eq!(Tree::new(to.clone()).names(), names, "{what}");
        assert_eq!(copied.counts(), counts, "{what}");
        for directory in ["d", "d/e"] {
            if to.join(directory).exists() {
                let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
                assert_eq!(
                    mode(&to.join(directory)),
                    mode(&source.at(directory)),
                    "{what}: {directory}"
                );
                assert_eq!(
                    modified(&to.join(directory)),
                    modified(&source.at(directory)),
                    "{what}: {directory}"
                );
            }
        }
        fs::remove_dir_all(&to).unwrap();
    }
}

/// A name that leads nowhere, or out of the source, is a failure; never silence, never something else instead.
#[test]
fn listed_names_that_cannot_be_had() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source
        .file("a", "x")
        .file("d/b", "x")
        .symlink("to-d", "d")
        .symlink("out", "..");
    fs::write(scratch.at("secret"), "s").unwrap();
    let cases: [(&str, &[u8], usize); 8] = [
        ("above", b"a\n../secret\n", 1),
        ("above, by a way round", b"a\nd/../../secret\n", 1),
        ("absolute, elsewhere", b"a\n/etc/hostname\n", 1),
        ("absent", b"a\ngone\nd/gone\n", 2),
        ("below a file", b"a\na/b\n", 1),
        ("below a file that is not listed", b"d/b/c\na\n", 1),
        ("below a link", b"a\nto-d/b\n", 1),
        ("below a link that leads out", b"a\nout/secret\n", 1),
    ];
    for (what, list, failures) in cases {
        let to = scratch.at("to");
        let copied = listed(&scratch, &source, &to, list, false).incomplete();
        assert_eq!(copied.report.failures.len(), failures, "{what}: {copied:?}");
        let names = Tree::new(to.clone()).names();
        assert!(names.contains(&"a".to_owned()), "{what}: {names:?}");
        assert!(
            !names.iter().any(|n| n.contains("secret") || n == "d/b"),
            "{what}: {names:?}"
        );
        fs::remove_dir_all(&to).unwrap();
    }
    let refused = attempt(&[contents(source.path())], scratch.at("to"), |o| {
        o.files_from = Some(FilesFrom {
            path: b"/no/such/list".to_vec(),
            nul: false,
            contents: false,
        });
    });
    assert!(matches!(refused, Err(Refusal::Usage(_))), "{refused:?}");
    assert!(!scratch.at("to").exists());
}

#[test]
fn one_file_system() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source.file("a", "x").dir("d/mounted").file("d/b", "x");
    let Some(other) = scratch.file_system("tmpfs", "rw") else {
        return;
    };
    fs::write(other.join("inside"), "x").unwrap();
    assert!(Scratch::bind(&other, &source.at("d/mounted")));
    copy(&[contents(source.path())], scratch.at("all"), |_| {}).complete();
    compare(source.path(), &scratch.at("all"));
    let copied = copy(&[contents(source.path())], scratch.at("one"), |o| {
        o.one_file_system = true;
    })
    .complete();
    assert_eq!(Tree::new(scratch.at("one")).names(), ["a", "d", "d/b", "d/mounted"]);
    assert_eq!(copied.counts(), "made 3, copied 2");
    // What is named itself is where its walk begins.
    let copied = copy(&[named(source.at("d/mounted"))], scratch.at("named"), |o| {
        o.one_file_system = true;
    })
    .complete();
    assert_eq!(copied.counts(), "made 1, copied 1");
}

#[test]
fn only_directories_or_only_those_that_are_needed() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source
        .file("a", "x")
        .file("d/b", "x")
        .dir("d/empty")
        .dir("p/q/empty")
        .symlink("l", "a")
        .mode("d", 0o700);
    source.time("d", 1_000_000_000, 5).time("p/q", 1_000_000_000, 5);
    let only = copy(&[contents(source.path())], scratch.at("only"), |o| {
        o.directories = Directories::Only;
    })
    .complete();
    let to = Tree::new(scratch.at("only"));
    assert_eq!(to.names(), ["d", "d/empty", "p", "p/q", "p/q/empty"]);
    assert_eq!(only.counts(), "made 6, skipped 3 (directories-only 3)");
    assert_eq!(modified(&to.at("p/q")), (1_000_000_000, 5));
    assert_eq!(fs::metadata(to.at("d")).unwrap().permissions().mode() & 0o777, 0o700);

    let needed = copy(&[contents(source.path())], scratch.at("needed"), |o| {
        o.directories = Directories::Needed;
    })
    .complete();
    let to = Tree::new(scratch.at("needed"));
    assert_eq!(to.names(), ["a", "d", "d/b", "l"]);
    assert_ne!(modified(&to.at("d")), (1_000_000_000, 5));
    assert_ne!(fs::metadata(to.at("d")).unwrap().permissions().mode() & 0o777, 0o700);
    // What is not there was not made: the root, d and l.
    assert_eq!(needed.report.totals.outcome_of(Outcome::Made), 3, "{}", needed.counts());
    let again = copy(&[contents(source.path())], to.path(), |o| {
        o.directories = Directories::Needed;
    })
    .complete();
    assert_eq!(again.report.totals.outcome_of(Outcome::Copied), 0);
    assert_eq!(to.names(), ["a", "d", "d/b", "l"]);

    // Where no mode is kept, what was closed stays so.
    copy(&[contents(source.path())], scratch.at("closed"), |o| {
        (o.directories, o.permissions) = (Directories::Needed, false);
    })
    .complete();
    let to = Tree::new(scratch.at("closed"));
    assert_eq!(fs::metadata(to.at("d")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn sources_that_do_not_fit() {
    let scratch = Scratch::new();
    let Some(small) = scratch.file_system("tmpfs", "size=4m") else {
        return;
    };
    let source = scratch.tree("source");
    source.file("a", content(1, 3 << 20)).file("b", content(2, 3 << 20));
    let before = listing(&small);
    let refused = attempt(&[contents(source.path())], small.join("to"), |o| o.require_space = true);
    assert!(matches!(refused, Err(Refusal::NoSpace(_))), "{refused:?}");
    let imagined = attempt(&[contents(source.path())], small.join("to"), |o| {
        (o.require_space, o.dry_run) = (true, true);
    });
    assert!(matches!(imagined, Err(Refusal::NoSpace(_))), "{imagined:?}");
    assert_eq!(listing(&small), before);
    // One of them fits, and is then not counted again.
    copy(&[named(source.at("a"))], small.join("to"), |o| o.require_space = true).complete();
    copy(&[named(source.at("a"))], small.join("to"), |o| o.require_space = true).complete();
}

/// Every entry needs an inode, but for another name of a file; a directory needs one in each destination.
#[test]
fn sources_with_more_entries_than_inodes() {
    alone("selection::sources_with_more_entries_than_inodes", || {
        let scratch = Scratch::new();
        let source = scratch.tree("source");
        for number in 0..20 {
            source.file(format!("d/{number}"), "x");
        }
        source.symlink("l", "/d").special("fifo", Kind::Fifo, 0);
        let sources = [contents(source.path())];
        let with = |inodes: &str| scratch.file_system("tmpfs", &format!("nr_inodes={inodes}"));
        let Some(small) = with("26") else { return };
        let refused = |to: &[&Path]| {
            let before: Vec<String> = to.iter().map(|to| listing(to)).collect();
            let refused = to_several(&sources, to, |o| o.require_space = true);
            assert_eq!(to.iter().map(|to| listing(to)).collect::<Vec<_>>(), before);
            match refused {
                Err(Refusal::NoSpace(message)) => message,
                other => panic!("{other:?}"),
            }
        };
        // The file system itself has one; the destination and what leads to it are made too.
        let deep = |to: &Path| attempt(&sources, to.join("a/b/to"), |o| o.require_space = true);
        let before = listing(&small);
        let message = deep(&small).unwrap_err().to_string();
        assert!(
            message.contains("26 entries are to be made, and 25 inodes are free"),
            "{message}"
        );
        assert_eq!(listing(&small), before);
        let right = with("27").unwrap();
        deep(&right).unwrap().complete();
        // What is there is not made again.
        deep(&right).unwrap().complete();

        let [one, other, fewer] = ["13", "13", "12"].map(|inodes| with(inodes).unwrap());
        assert_eq!(
            refused(&[&one, &fewer]),
            "24 entries are to be made, and 23 inodes are free"
        );
        // In order: what is no file looks for no other place.
        to_several(&sources, &[&one, &other], |o| (o.require_space, o.jobs) = (true, 1))
            .unwrap()
            .complete();
        let (wide, tight) = (with("1000").unwrap(), with("1").unwrap());
        assert_eq!(
            refused(&[&wide, &tight]),
            "1 entry is to be made, and 0 inodes are free"
        );
        // Two destinations on one file system have its inodes once.
        let shared = with("26").unwrap();
        let both = ["one", "other"].map(|name| shared.join(name));
        for path in &both {
            fs::create_dir(path).unwrap();
        }
        assert_eq!(
            refused(&[&both[0], &both[1]]),
            "24 entries are to be made, and 23 inodes are free"
        );
        // Another name is no other inode.
        source.link("d/again", "d/0");
        assert_eq!(
            refused(&[&both[0], &both[1]]),
            "24 entries are to be made, and 23 inodes are free"
        );
    });
}

fn to_several(
    sources: &[SourceArgument],
    to: &[&Path],
    change: impl FnOnce(&mut CopyOptions),
) -> Result<Copied, Refusal> {
    let mut options = options(sources, to[0]);
    options.destinations = to
        .iter()
        .map(|path| DestinationArgument {
            path: path.as_os_str().as_encoded_bytes().to_vec(),
            follow: true,
        })
        .collect();
    change(&mut options);
    run(&copy::job(options).unwrap())
}

/// Several destinations: each file in one of them, the next where one is full, and found again there.
#[test]
fn several_destinations() {
    let scratch = Scratch::new();
    let (Some(one), Some(two)) = (
        scratch.file_system("tmpfs", "size=4m"),
        scratch.file_system("tmpfs", "size=8m"),
    ) else {
        return;
    };
    let source = scratch.tree("source");
    for n in 0..16 {
        source.file(format!("d-{}/f-{n}", n % 3), content(n, 600 << 10));
    }
    let (one, two) = (one.join("to"), two.join("to"));
    let copied = to_several(&[contents(source.path())], &[&one, &two], |_| {})
        .unwrap()
        .complete();
    assert_eq!(copied.report.totals.outcome_of(Outcome::Copied), 16);
    let there = |path: &Path| Tree::new(path.to_owned()).names();
    let (in_one, in_two) = (there(&one), there(&two));
    for n in 0..16 {
        let name = format!("d-{}/f-{n}", n % 3);
        let places = [(&one, &in_one), (&two, &in_two)].map(|(to, names)| {
            let has = names.contains(&name);
            assert!(
                !has || fs::read(to.join(&name)).unwrap() == source.read(&name),
                "{name}"
            );
            usize::from(has)
        });
        assert_eq!(places.iter().sum::<usize>(), 1, "{name}");
    }
    assert!(in_one.len() > 4 && in_two.len() > 8);
    assert!(!in_one.iter().chain(&in_two).any(|n| n.contains(".bh-")));
    let again = to_several(&[contents(source.path())], &[&one, &two], |_| {})
        .unwrap()
        .complete();
    assert_eq!(again.report.totals.outcome_of(Outcome::Copied), 0, "{}", again.counts());
}

/// What relative links lead to comes along, when that lands inside of the destination.
#[test]
fn link_tracking() {
    // What it is, links of the named directory, what is there then, whether a note says that something stays out.
    type Case = (
        &'static str,
        &'static [(&'static str, &'static str)],
        &'static [&'static str],
        bool,
    );
    let cases: [Case; 8] = [
        (
            "a file beside",
            &[("l", "../data/f")],
            &["data", "data/f", "links", "links/l"],
            false,
        ),
        (
            "a directory beside",
            &[("l", "../data/d")],
            &["data", "data/d", "data/d/x", "links", "links/l"],
            false,
        ),
        (
            "a link that leads on",
            &[("l", "../data/next")],
            &["data", "data/f", "data/next", "links", "links/l"],
            false,
        ),
        (
            "two to one",
            &[("l", "../data/f"), ("m", "../data/f")],
            &["data", "data/f", "links", "links/l", "links/m"],
            false,
        ),
        ("nothing", &[("l", "../data/gone")], &["links", "links/l"], false),
        (
            "what is there",
            &[("l", "inside"), ("m", "l")],
            &["links", "links/l", "links/m"],
            false,
        ),
        ("absolute", &[("l", "/etc/hostname")], &["links", "links/l"], false),
        (
            "outside of the destination",
            &[("l", "../../beside/f")],
            &["links", "links/l"],
            true,
        ),
    ];
    for (what, links, names, outside) in cases {
        let scratch = Scratch::new();
        let source = scratch.tree("from/source");
        source
            .file("data/f", "f")
            .file("data/d/x", "x")
            .file("data/other", "o")
            .symlink("data/next", "f")
            .dir("links");
        scratch.tree("from/beside").file("f", "beside");
        for (name, text) in links {
            source.symlink(format!("links/{name}"), text);
        }
        let to = scratch.at("outer/to");
        let tracked = |o: &mut CopyOptions| o.link_tracking = true;
        let copied = copy(&[named(source.at("links"))], &to, tracked).complete();
        assert_eq!(Tree::new(to.clone()).names(), names, "{what}");
        assert_eq!(
            copied.notes() == ["link-outside"],
            outside,
            "{what}: {:?}",
            copied.notes()
        );
        assert_eq!(fs::read_dir(scratch.at("outer")).unwrap().count(), 1, "{what}");
        let again = copy(&[named(source.at("links"))], &to, tracked).complete();
        assert_eq!(
            again.report.totals.outcome_of(Outcome::Skipped),
            again.report.totals.all_found(),
            "{what}"
        );
        copy(&[named(source.at("links"))], scratch.at("plain"), |_| {}).complete();
        assert!(!scratch.at("plain/data").exists(), "{what}");
    }
}

#[test]
fn options_that_cannot_be() {
    type Change = fn(&mut CopyOptions);
    let cases: [(&str, Change); 9] = [
        ("no source", |o| o.sources.clear()),
        ("no destination", |o| o.destinations.clear()),
        ("an empty path", |o| o.sources[0].path.clear()),
        ("a NUL in a path", |o| o.destinations[0].path = b"a\0b".to_vec()),
        ("a name with a slash", |o| o.sources[0].name = Some(b"a/b".to_vec())),
        ("dots as a name", |o| o.sources[0].name = Some(b"..".to_vec())),
        ("too many jobs", |o| o.jobs = 1025),
        ("an exclude rule that is none", |o| {
            o.filter = Some(rules(FilterStyle::Rsync, &["- "]));
        }),
        ("a mode that is none", |o| o.chmod = Some("u+y".into())),
    ];
    for (what, change) in cases {
        let scratch = Scratch::new();
        scratch.tree("source").file("a", "x");
        let refused = attempt(&[named(scratch.at("source"))], scratch.at("to"), change);
        assert!(matches!(refused, Err(Refusal::Usage(_))), "{what}: {refused:?}");
        assert!(!scratch.at("to").exists(), "{what}");
    }
}

/// Holes take no room, unless they are filled.
#[test]
fn sparse_sources_that_fit() {
    let scratch = Scratch::new();
    let Some(small) = scratch.file_system("tmpfs", "size=4m") else {
        return;
    };
    let source = scratch.tree("source");
    source
        .file("data", content(1, 1 << 20))
        .file("sparse", content(2, 4096));
    let sparse = fs::File::options().write(true).open(source.at("sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    for (to, with) in [("auto", Sparse::Auto), ("always", Sparse::Always)] {
        let fits = |o: &mut CopyOptions| (o.require_space, o.sparse) = (true, with);
        copy(&[contents(source.path())], small.join(to), fits).complete();
        fs::remove_dir_all(small.join(to)).unwrap();
    }
    let refused = attempt(&[contents(source.path())], small.join("never"), |o| {
        (o.require_space, o.sparse) = (true, Sparse::Never);
    });
    assert!(matches!(refused, Err(Refusal::NoSpace(_))), "{refused:?}");
}

/// What keeps a name of a list out is said in words.
#[test]
fn names_that_leave_the_source() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    source.file("real/a", "x").symlink("link", "real").file("file", "x");
    fs::write(scratch.at("list"), "../list\n/etc\nlink/a\nfile/a\nreal/a\n").unwrap();
    let copied = copy(&[contents(source.path())], scratch.at("to"), |o| {
        o.files_from = Some(FilesFrom {
            path: scratch.at("list").into_os_string().into_encoded_bytes(),
            nul: false,
            contents: false,
        });
    })
    .incomplete();
    let mut said: Vec<_> = copied
        .report
        .failures
        .iter()
        .map(|f| (f.kind, f.message.clone()))
        .collect();
    said.sort();
    let at = |name: &str| source.path().join(name).display().to_string();
    let wanted = [
        ("missing", format!("stat {}: Not a directory", at("file/a"))),
        ("outside", "open ../list: it leaves the source".to_owned()),
        ("outside", "open /etc: it leaves the source".to_owned()),
        (
            "outside",
            format!("stat {}: it is below a symlink, which is not followed", at("link/a")),
        ),
    ];
    assert_eq!(said, wanted.map(|(kind, text)| (kind, text)));
    assert_eq!(Tree::new(scratch.at("to")).names(), ["real", "real/a"]);
}
