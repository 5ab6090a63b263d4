//! Lists and comparisons: what is written reads back, nothing is left out in silence, and rsync agrees on what differs.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use bulkhaul_engine::compare::options::{CompareOptions, Content, DiffForm, SideOptions};
use bulkhaul_engine::entry::Outcome;
use bulkhaul_engine::error::{Refusal, symbol};
use bulkhaul_engine::list::{self, ListOptions};
use bulkhaul_engine::report::Report;
use bulkhaul_engine::walk::start::Root;
use bulkhaul_engine::{FilterStyle, Kind, compare};
use bulkhaul_formats::digest::xxh64;
use bulkhaul_formats::lists::hpcp::Form;
use bulkhaul_sys::Errno;
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};

use crate::rig::fault::{again, finish, order, say, with_stops};
use crate::rig::{NOBODY, Scratch, Tree, apart, command, content, has, must, root};

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

fn source(path: impl AsRef<Path>) -> Root {
    Root {
        path: bytes(path.as_ref()),
        follow: false,
        contents: false,
        pin: None,
    }
}

fn contents(path: &Path) -> SideOptions {
    SideOptions::Trees(vec![Root {
        contents: true,
        ..source(path)
    }])
}

fn list_file(path: &Path) -> SideOptions {
    SideOptions::List {
        path: bytes(path),
        form: None,
    }
}

/// Lists into `L` of the scratch directory; answers the report and the lines.
fn list(scratch: &Scratch, sources: &[Root], change: impl FnOnce(&mut ListOptions)) -> (Report, String) {
    let output = scratch.at("L");
    let mut options = ListOptions {
        sources: sources.to_vec(),
        output: Some(bytes(&output)),
        spill_directory: Some(bytes(scratch.path())),
        ..ListOptions::default()
    };
    change(&mut options);
    let report = list::job(options).unwrap().run().unwrap();
    assert!(report.accounted, "{report:?}");
    (report, fs::read_to_string(output).unwrap())
}

/// The comparison, and what the file of changes holds.
fn compare(
    scratch: &Scratch,
    left: SideOptions,
    right: SideOptions,
    change: impl FnOnce(&mut CompareOptions),
) -> (Report, Vec<u8>) {
    let output = scratch.at("D");
    let mut options = CompareOptions::new(left, right);
    options.output = Some(bytes(&output));
    options.spill_directory = Some(bytes(scratch.path()));
    change(&mut options);
    let report = compare::job(options).unwrap().run().unwrap();
    assert!(report.accounted, "{report:?}");
    (report, fs::read(output).unwrap())
}

fn counts(report: &Report) -> (u64, u64, u64) {
    let d = report.differences;
    (d.left, d.right, d.changed)
}

fn sample(tree: &Tree) {
    tree.file("a", "a\n")
        .file("B", "b\n")
        .file("a10", "c\n")
        .file("a9", "c\n");
    tree.file("d2/q", "q\n")
        .file("d2/x:y", "q\n")
        .file("d10/q", "q\n")
        .file("empty", "");
    tree.symlink("ln", "a")
        .symlink("dang", "/nowhere")
        .dir("D3")
        .special("fifo", Kind::Fifo, 0);
    tree.file("long", content(7, 70_000));
}

/// Names of every kind, in directories of such names.
fn strange(tree: &Tree) {
    let names: [&[u8]; 12] = [
        b"new\nline",
        b"\xff\xfe",
        b" lead",
        b"trail ",
        b"\r",
        b"back\\slash",
        b"a:0123456789abcdef",
        b"a:",
        b"-dash",
        b"\\n",
        "É\u{a0}".as_bytes(),
        b"\t",
    ];
    for name in names {
        let name = OsStr::from_bytes(name);
        tree.file(name, name.as_bytes());
        for below in names {
            let path = [b"in ", name.as_bytes(), b"/", below].concat();
            tree.file(OsStr::from_bytes(&path), below);
        }
        tree.symlink(OsStr::from_bytes(&[b"to ", name.as_bytes()].concat()), name);
    }
    tree.symlink("slashed", "d/").symlink("coloned", "a:b");
}

#[test]
fn as_hpcp_writes_it() {
    let scratch = Scratch::new();
    let tree = scratch.tree("s");
    sample(&tree);
    let (report, lines) = list(&scratch, &[source(tree.path())], |_| {});
    assert!(report.is_complete());
    let tail = xxh64(&content(7, 70_000)[70_000 - 65_536..]);
    // Hashes and order as hpcp 9.79 gives them for this tree.
    let expected = format!(
        "s/\ns/a9:90c11e1f45ee3d36\ns/a10:90c11e1f45ee3d36\ns/a:fbbde8981eccc855\ns/B:afc37974405adf22\ns/d2/\n\
         s/d2/q:e61ffece6f07201d\ns/d2/x:y:e61ffece6f07201d\ns/D3/\ns/d10/\ns/d10/q:e61ffece6f07201d\ns/dang:/nowhere\n\
         s/empty:ef46db3751d8e999\ns/ln:a\ns/long:{tail:016x}\n"
    );
    assert_eq!(lines, expected);
    assert_eq!(report.totals.outcome_of(Outcome::Listed), 15);
    assert_eq!(report.notes[0].kind, "special");

    let names =
        "s/\ns/a\ns/a9\ns/a10\ns/B\ns/d2/\ns/d2/q\ns/d2/x:y\ns/D3/\ns/d10/\ns/d10/q\ns/dang\ns/empty\ns/ln\ns/long\n";
    assert_eq!(list(&scratch, &[source(tree.path())], |o| o.hashes = false).1, names);
    let (_, below) = list(&scratch, &[source(tree.at("d2/"))], |o| o.hash_size = 0);
    assert_eq!(below, "./\nq:\nx:y:\n");
    let (_, whole) = list(&scratch, &[source(tree.at("long")), source(tree.at("ln"))], |o| {
        o.full_hash = true;
    });
    assert_eq!(whole, format!("ln:a\nlong:{:016x}\n", xxh64(&content(7, 70_000))));
    let (report, some) = list(&scratch, &[source(tree.path())], |o| {
        o.hashes = false;
        o.filter = Some((
            FilterStyle::Rsync,
            vec![b"d*".to_vec(), b"/s/a*".to_vec(), b"D3".to_vec()],
        ));
    });
    assert_eq!(some, "s/\ns/B\ns/empty\ns/ln\ns/long\n");
    assert!(report.is_complete());
    // A list of links alone is not in doubt about what it is.
    assert_eq!(list(&scratch, &[source(tree.at("ln"))], |_| {}).1, "\0ln\0>a\n");
}

#[test]
fn any_name_reads_back() {
    let scratch = Scratch::new();
    let tree = scratch.tree("s");
    strange(&tree);
    for hashes in [true, false] {
        let (report, lines) = list(&scratch, &[source(tree.path())], |o| o.hashes = hashes);
        let entries = report.totals.outcome_of(Outcome::Listed);
        assert_eq!(lines.lines().count() as u64, entries);
        for sources in [contents(tree.path()), SideOptions::Trees(vec![source(tree.path())])] {
            let (report, changes) = compare(&scratch, list_file(&scratch.at("L")), sources, |_| {});
            assert_eq!(
                (counts(&report), report.totals.outcome_of(Outcome::Same)),
                ((0, 0, 0), 2 * entries)
            );
            assert!(changes.is_empty());
        }
        fs::write(
            scratch.at("L2"),
            lines
                .lines()
                .rev()
                .map(|l| format!("  {l}\r\n"))
                .filter(|l| !l.contains('\0'))
                .collect::<String>(),
        )
        .unwrap();
        let (report, _) = compare(
            &scratch,
            list_file(&scratch.at("L")),
            list_file(&scratch.at("L2")),
            |_| {},
        );
        assert_eq!(
            counts(&report).0 + report.differences.right_entries,
            entries,
            "two lists"
        );
    }
    // NUL ends a name: no need to escape.
    let output = scratch.at("N");
    let (_, _) = list(
        &scratch,
        &[Root {
            contents: true,
            ..source(tree.path())
        }],
        |_| {},
    );
    let options = ListOptions {
        sources: vec![Root {
            contents: true,
            ..source(tree.path())
        }],
        output: Some(bytes(&output)),
        nul: true,
        ..ListOptions::default()
    };
    list::job(options).unwrap().run().unwrap();
    let listed = fs::read(output).unwrap();
    let mut listed: Vec<&[u8]> = listed.split(|b| *b == 0).filter(|n| !n.is_empty()).collect();
    let found = std::process::Command::new("find")
        .args([".", "-printf", "%P\\0"])
        .current_dir(tree.path())
        .output()
        .unwrap();
    let mut found: Vec<&[u8]> = found.stdout.split(|b| *b == 0).filter(|n| !n.is_empty()).collect();
    found.push(b".");
    listed.sort_unstable();
    found.sort_unstable();
    assert!(listed == found);
}

#[test]
fn more_than_memory_holds() {
    let scratch = Scratch::new();
    let tree = scratch.tree("s");
    for number in 0..3000 {
        tree.file(format!("d{}/f{number}", number % 30), number.to_string());
    }
    let wide = list(&scratch, &[source(tree.path())], |_| {}).1;
    let narrow = list(&scratch, &[source(tree.path())], |o| o.sort_memory = 10_000).1;
    assert!(wide == narrow && wide.lines().count() == 3031);
    fs::rename(scratch.at("L"), scratch.at("M")).unwrap();
    tree.file("d7/new", "").file("d7/f7", "other");
    fs::remove_file(tree.at("d29/f29")).unwrap();
    let (report, changes) = compare(&scratch, list_file(&scratch.at("M")), contents(tree.path()), |o| {
        o.sort_memory = 10_000;
    });
    assert_eq!(counts(&report), (1, 1, 1));
    assert_eq!(changes, b"d7/f7\nd7/new\n-\0d29/f29\n-\0d7/f7\n");
}

#[test]
fn two_trees() {
    let scratch = Scratch::new();
    let (left, right) = (scratch.tree("l"), scratch.tree("r"));
    sample(&left);
    must("cp", &[&"-a", &left.at("."), &right.path()]);
    let same = |report: &Report| counts(report) == (0, 0, 0) && report.is_complete();
    for content in [Content::Nothing, Content::Tail, Content::Whole] {
        let (report, changes) = compare(&scratch, contents(left.path()), contents(right.path()), |o| {
            (o.content, o.metadata, o.xattrs) = (content, true, true);
        });
        assert!(same(&report) && changes.is_empty(), "{report:?}");
        // Root, 12 entries that are no FIFO and one that is, on each side; the directories too.
        assert_eq!(report.totals.outcome_of(Outcome::Same), 2 * 16);
    }
    fs::remove_file(right.at("ln")).unwrap();
    right
        .file("new", "n")
        .file("sub/deep", "n")
        .symlink("ln", "B")
        .file("B", "b?")
        .mode("a9", 0o600);
    right.file("long", [&content(8, 100)[..], &content(7, 70_000)[100..]].concat());
    fs::remove_dir_all(right.at("d10")).unwrap();
    must("touch", &[&"-r", &left.at("long"), &right.at("long")]);
    let tail = |o: &mut CompareOptions| o.content = Content::Tail;
    let (report, changes) = compare(&scratch, contents(left.path()), contents(right.path()), tail);
    assert_eq!(counts(&report), (2, 3, 2));
    let expected = b"B\nln\nnew\nsub/\nsub/deep\n-\0B\n-\0d10/\n-\0d10/q\n-\0ln\n";
    assert_eq!(changes, expected);
    assert!(!report.failures.iter().any(|_| true) && report.is_complete());
    // Only the whole content shows what changed in the beginning of a file.
    let whole = |o: &mut CompareOptions| (o.content, o.metadata) = (Content::Whole, true);
    let job = |change: &dyn Fn(&mut CompareOptions)| {
        let mut options = CompareOptions::new(contents(left.path()), contents(right.path()));
        options.spill_directory = Some(bytes(scratch.path()));
        options.entry_events = true;
        change(&mut options);
        compare::job(options).unwrap()
    };
    let mut seen = Vec::new();
    let report = watch_all(&job(&whole), &mut seen);
    assert_eq!(counts(&report), (2, 3, 5), "{seen:?}");
    for line in [
        "B content time",
        "a9 mode",
        "ln time target",
        "long content",
        "new extra",
        "d10/q new",
    ] {
        let there = seen.iter().any(|s| s == line);
        assert!(there, "{line}: {seen:?}");
    }
    if has("rsync") {
        // rsync compares the other way round: what a copy of the left side would do to the right one.
        let output = command(
            "rsync",
            &[
                &"-ni",
                &"--modify-window=-1",
                &"-rlptgoDH",
                &"--checksum",
                &"--delete",
                &left.at("."),
                &right.path(),
            ],
        );
        let said = String::from_utf8(output.stdout).unwrap();
        let mut theirs: Vec<&str> = said
            .lines()
            .filter_map(|l| l.split_once(' '))
            .map(|(_, n)| n.trim())
            .collect();
        let mut ours: Vec<String> = seen.iter().map(|s| s.split(' ').next().unwrap().to_owned()).collect();
        for name in &mut theirs {
            *name = name.split(" -> ").next().unwrap().trim_end_matches('/');
        }
        theirs.sort_unstable();
        ours.sort_unstable();
        let theirs: Vec<&str> = theirs
            .into_iter()
            .map(|n| if n == "." { "." } else { n.trim_start_matches("./") })
            .collect();
        assert_eq!(ours, theirs, "{said}");
    }
}

/// Runs a comparison; `seen` gets each entry's path and changes.
fn watch_all(job: &bulkhaul_engine::job::Job, seen: &mut Vec<String>) -> Report {
    use bulkhaul_engine::event::Event;
    use std::sync::mpsc;
    job.queue().subscribe();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut lines = Vec::new();
            loop {
                let (sender, receiver) = mpsc::channel();
                job.queue().next(Box::new(move |batch| sender.send(batch).unwrap()));
                let batch = receiver.recv().unwrap();
                if batch.is_empty() {
                    return lines;
                }
                for event in batch {
                    if let Event::Entry(entry) = event {
                        let changes: Vec<_> = entry.changes.names().collect();
                        lines.push(format!(
                            "{} {}",
                            String::from_utf8_lossy(&entry.path),
                            changes.join(" ")
                        ));
                    }
                }
            }
        });
        let report = job.run().unwrap();
        *seen = reader.join().unwrap();
        report
    })
}

#[test]
fn what_can_not_be_read_is_no_difference_and_no_success() {
    apart(
        "lists::what_can_not_be_read_is_no_difference_and_no_success",
        NOBODY,
        |scratch| {
            for name in ["l", "r"] {
                let tree = scratch.tree(name);
                tree.file("shut/x", "x")
                    .file("shut/y/z", "x")
                    .file("open", "x")
                    .file("secret", "x")
                    .file("shut!", "x");
            }
            let left = Tree::new(scratch.at("l"));
            left.mode("shut", 0o000).mode("secret", 0o000);
            scratch.tree("out").mode("", 0o777);
        },
        |scratch| {
            let at = |name: &str| scratch.join(name);
            let options = ListOptions {
                sources: vec![source(at("l"))],
                output: Some(bytes(&at("out/L"))),
                spill_directory: Some(bytes(&at("out"))),
                ..ListOptions::default()
            };
            let report = list::job(options).unwrap().run().unwrap();
            assert!(report.accounted && !report.is_complete());
            assert_eq!(
                (
                    report.failure_kinds["unreadable"],
                    report.totals.outcome_of(Outcome::Failed)
                ),
                (2, 2)
            );
            let hash = "5c80c09683041123";
            assert_eq!(
                fs::read_to_string(at("out/L")).unwrap(),
                format!("l/\nl/open:{hash}\nl/shut!:{hash}\n")
            );
            let other = |left: &str, right: &str| {
                let mut options = CompareOptions::new(contents(&at(left)), contents(&at(right)));
                options.spill_directory = Some(bytes(&at("out")));
                let report = compare::job(options).unwrap().run().unwrap();
                assert!(report.accounted && !report.is_complete(), "{report:?}");
                assert_eq!(counts(&report), (0, 0, 0), "{report:?}");
                assert_eq!(
                    report.totals.reasons[bulkhaul_engine::entry::Reason::NotCompared as usize],
                    5
                );
            };
            other("l", "r");
            other("r", "l");
        },
        |scratch| {
            must("chmod", &[&"-R", &"u+rwx", &scratch.at("l")]);
        },
    );
}

/// A call that fails at any moment gives no list, or a list and a failure; never a shorter list that looks whole.
#[test]
fn no_fault_makes_a_list_shorter_in_silence() {
    const NAME: &str = "lists::no_fault_makes_a_list_shorter_in_silence";
    if let Some(words) = order() {
        let base = Path::new(&words[0]).to_owned();
        let (call, nth) = (&words[1], words[2].parse().unwrap());
        let calls = [
            ("list", Call::ReadDirectory),
            ("opendir", Call::OpenDirectory),
            ("open", Call::OpenFile),
            ("read", Call::Read),
            ("stat", Call::StatFd),
            ("end", Call::SeekEnd),
            ("write", Call::Write),
            ("unnamed", Call::Unnamed),
            ("rename", Call::Rename),
        ];
        let (_, call) = calls.iter().find(|(name, _)| name == call).unwrap();
        let output = base.join(format!("out-{}-{nth}", words[1]));
        let options = ListOptions {
            sources: vec![source(base.join("s"))],
            output: Some(bytes(&output)),
            spill_directory: Some(bytes(&base)),
            jobs: 1,
            sort_memory: 300,
            ..ListOptions::default()
        };
        let job = list::job(options).unwrap();
        failpoint::arm(Some(Plan {
            call: Some(*call),
            nth,
            count: 1,
            effect: Effect::Errno(Errno::IO),
        }));
        let result = job.run();
        let made = failpoint::disarm().iter().filter(|c| *c == call).count();
        let whole = fs::read(base.join("whole")).unwrap();
        let listed = fs::read(&output).ok();
        match result {
            Ok(report) if report.is_complete() => assert!(listed.unwrap() == whole, "a shorter list looks whole"),
            Ok(report) => assert!(report.accounted && !report.failures.is_empty()),
            Err(refusal) => assert!(listed.is_none(), "{refusal}: a list is there all the same"),
        }
        let left = fs::read_dir(&base).unwrap().map(|e| e.unwrap().file_name());
        assert!(
            !left.into_iter().any(|n| n.as_bytes().starts_with(b".bh-")),
            "something is left"
        );
        say(if made > nth { "hit" } else { "past" });
        return;
    }
    let scratch = Scratch::new();
    let tree = scratch.tree("s");
    sample(&tree);
    let (report, _) = list(&scratch, &[source(tree.path())], |_| {});
    assert!(report.is_complete());
    fs::rename(scratch.at("L"), scratch.at("whole")).unwrap();
    for call in [
        "list", "opendir", "open", "read", "stat", "end", "write", "unnamed", "rename",
    ] {
        for nth in 0.. {
            let log = scratch.at("log");
            let words = [scratch.path().display().to_string(), call.to_owned(), nth.to_string()];
            let (code, text) = finish(again(NAME, &words, &log), &log);
            assert_eq!(code, Some(0), "{call} {nth}: {text}");
            if !text.contains("hit") {
                assert!(nth > 0, "{call} is never made: {text}");
                break;
            }
        }
    }
}

/// A list of several buffers is written behind whoever makes its lines; an error there is told all the same.
#[test]
fn no_fault_shortens_a_long_list() {
    const NAME: &str = "lists::no_fault_shortens_a_long_list";
    let job = |base: &Path| {
        list::job(ListOptions {
            sources: vec![source(base.join("s"))],
            output: Some(bytes(&base.join("L"))),
            jobs: 1,
            ..ListOptions::default()
        })
        .unwrap()
    };
    if let Some(words) = order() {
        let (base, nth) = (Path::new(&words[0]), words[1].parse().unwrap());
        failpoint::arm(Some(Plan {
            call: Some(Call::Write),
            nth,
            count: 1,
            effect: Effect::Errno(Errno::NOSPC),
        }));
        let result = job(base).run();
        let hit = failpoint::disarm().iter().filter(|call| **call == Call::Write).count() > nth;
        let names: Vec<_> = fs::read_dir(base).unwrap().map(|e| e.unwrap().file_name()).collect();
        let left = names
            .iter()
            .filter(|name| !["s", "log"].contains(&name.to_str().unwrap()));
        if hit {
            let Err(Refusal::NoStart(text) | Refusal::Output(text)) = result else {
                panic!("write {nth} failed, and nobody says so");
            };
            assert!(text.contains("No space left"), "{text}");
            assert_eq!(left.count(), 0, "{names:?}");
        } else {
            assert!(result.unwrap().is_complete());
            assert_eq!(fs::read_to_string(base.join("L")).unwrap().lines().count(), 3001);
        }
        return say(if hit { "hit" } else { "past" });
    }
    let scratch = Scratch::new();
    let tree = scratch.tree("s");
    for number in 0..3000 {
        tree.file(format!("{number:0200}"), "");
    }
    let mut writes = 0;
    loop {
        let log = scratch.at("log");
        let words = [scratch.path().display().to_string(), writes.to_string()];
        let (code, text) = finish(again(NAME, &words, &log), &log);
        assert_eq!(code, Some(0), "{writes}: {text}");
        if !text.contains("hit") {
            break;
        }
        writes += 1;
    }
    assert!(writes > 2, "a list of {writes} buffers");
}

/// The end is all that is asked of a file of which nothing else is wanted; what can't be is not believed.
#[test]
fn an_end_that_is_nowhere_is_not_believed() {
    const NAME: &str = "lists::an_end_that_is_nowhere_is_not_believed";
    if let Some(words) = order() {
        let base = Path::new(&words[0]);
        failpoint::arm(Some(Plan {
            call: Some(Call::SeekEnd),
            nth: 0,
            count: usize::MAX,
            effect: Effect::Answer(words[1].parse().unwrap()),
        }));
        let report = reader("list", base).run().unwrap();
        say(&format!("complete {}", report.is_complete()));
        return say(&format!("{:?}", report.failure_kinds));
    }
    let scratch = Scratch::new();
    scratch.tree("s").file("f", "content").file("g", "");
    let whole = format!("s/\ns/f:{:016x}\ns/g:{:016x}\n", xxh64(b"content"), xxh64(b""));
    for (end, told, listed) in [
        (0, "complete true\n{}\n", whole.as_str()),
        (8, "complete false\n{\"changed\": 2}\n", "s/\n"),
    ] {
        let log = scratch.at("log");
        let words = [scratch.path().display().to_string(), end.to_string()];
        let (code, text) = finish(again(NAME, &words, &log), &log);
        assert!(code == Some(0) && text.contains(told), "{end}: {text}");
        assert_eq!(fs::read_to_string(scratch.at("L")).unwrap(), listed, "{end}");
    }
}

#[test]
fn a_file_that_becomes_something_else_is_told() {
    const NAME: &str = "lists::a_file_that_becomes_something_else_is_told";
    if let Some(words) = order() {
        let job = reader("list", Path::new(&words[0]));
        failpoint::arm(Some(Plan {
            call: Some(Call::OpenFile),
            nth: 0,
            count: 1,
            effect: Effect::Stop,
        }));
        let report = job.run().unwrap();
        say(&format!("accounted {}", report.accounted));
        return say(&format!("{:?}", report.failure_kinds));
    }
    let scratch = Scratch::new();
    // The null device is 1, 3; only root may make it. Unlike it, a disk has an end.
    let mut kinds = vec!["directory", "symlink", "fifo"];
    kinds.extend(root().then_some("device"));
    let disk = scratch.file_system("ext4", "defaults");
    let disk = disk.map(|point| fs::metadata(point).unwrap().dev());
    kinds.extend(disk.map(|_| "disk"));
    for kind in kinds {
        let base = scratch.at(kind);
        let tree = Tree::new(base.join("s"));
        tree.file("f", "content");
        let (log, words) = (scratch.at("log"), [base.display().to_string()]);
        let text = with_stops(again(NAME, &words, &log), &log, |_| {
            fs::remove_file(tree.at("f")).unwrap();
            match kind {
                "directory" => tree.dir("f"),
                "symlink" => tree.symlink("f", "/etc/hostname"),
                "fifo" => tree.special("f", Kind::Fifo, 0),
                "disk" => tree.special("f", Kind::Block, disk.unwrap()),
                _ => tree.special("f", Kind::Char, (1 << 8) | 3),
            };
        });
        assert!(text.contains("accounted true\n{\"changed\": 1}\n"), "{kind}: {text}");
        assert_eq!(fs::read_to_string(base.join("L")).unwrap(), "s/\n", "{kind}");
    }
}

/// What is read while something of it vanishes.
const READERS: [&str; 4] = ["list", "left", "right", "whole"];

fn reader(work: &str, base: &Path) -> bulkhaul_engine::job::Job {
    let side = |name: &str| contents(&base.join(name));
    let compared = |content| CompareOptions {
        jobs: 1,
        content,
        spill_directory: Some(bytes(base)),
        ..CompareOptions::new(side("s"), side("t"))
    };
    match work {
        "list" => list::job(ListOptions {
            sources: vec![source(base.join("s"))],
            output: Some(bytes(&base.join("L"))),
            spill_directory: Some(bytes(base)),
            jobs: 1,
            ..ListOptions::default()
        }),
        "whole" => compare::job(compared(Content::Whole)),
        _ => compare::job(compared(Content::Tail)),
    }
    .unwrap()
}

#[test]
fn a_directory_that_vanishes_is_told() {
    const NAME: &str = "lists::a_directory_that_vanishes_is_told";
    // From these on the directory on the left has been found; it is gone before the call.
    let calls = [(Call::ReadDirectory, 1), (Call::OpenFile, 0), (Call::Read, 0)];
    if let Some(words) = order() {
        let call = calls
            .iter()
            .find(|(call, _)| format!("{call:?}") == words[1])
            .unwrap()
            .0;
        let job = reader(&words[0], Path::new(&words[3]));
        failpoint::arm(Some(Plan {
            call: Some(call),
            nth: words[2].parse().unwrap(),
            count: 1,
            effect: Effect::Stop,
        }));
        let report = job.run().unwrap();
        say(&format!(
            "complete {}, accounted {}",
            report.is_complete(),
            report.accounted
        ));
        say(&format!(
            "{} differences",
            report.differences.left + report.differences.right + report.differences.changed
        ));
        for f in &report.failures {
            say(&format!(
                "failure {} {} {} {}",
                f.kind,
                f.outcome.text(),
                f.errno.map_or_else(String::new, symbol),
                f.message
            ));
        }
        return;
    }
    let scratch = Scratch::new();
    let mut told = 0;
    for work in READERS {
        let gone = if matches!(work, "right" | "whole") {
            "t/d10"
        } else {
            "s/d10"
        };
        for (call, first) in calls {
            for nth in first.. {
                let base = scratch.at(&format!("{work}-{call:?}-{nth}"));
                for side in ["s", "t"] {
                    sample(&Tree::new(base.join(side)));
                }
                let words = [
                    work.to_owned(),
                    format!("{call:?}"),
                    nth.to_string(),
                    base.display().to_string(),
                ];
                let (log, mut stopped) = (scratch.at("log"), false);
                let text = with_stops(again(NAME, &words, &log), &log, |_| {
                    fs::remove_dir_all(base.join(gone)).unwrap();
                    stopped = true;
                });
                let what = format!("{work} {call:?} {nth}: {text}");
                // On the right it may have gone before anybody looked: that is a difference, of it and what is in it.
                let early = gone == "t/d10" && text.contains("complete true") && text.contains("\n2 differences\n");
                assert!(text.contains("accounted true"), "{what}");
                assert!(early || text.contains("\n0 differences\n"), "{what}");
                let failures: Vec<&str> = text.lines().filter(|line| line.starts_with("failure ")).collect();
                if text.contains("complete true") {
                    assert!(failures.is_empty(), "{what}");
                    if work == "list" {
                        let listed = fs::read_to_string(base.join("L")).unwrap();
                        assert!(
                            listed.contains("s/d10/\n") && listed.contains("s/d10/q:"),
                            "{what}: {listed}"
                        );
                    }
                } else {
                    told += 1;
                    assert!(stopped && !failures.is_empty(), "{what}");
                    for failure in failures {
                        let place = format!("/{gone}");
                        assert!(failure.starts_with("failure vanished changed ENOENT "), "{what}");
                        assert!(failure.contains(&place) && failure.contains("No such file"), "{what}");
                    }
                }
                if !stopped {
                    assert!(nth > first, "{what}");
                    break;
                }
            }
        }
    }
    assert!(told >= READERS.len() * 3, "{told} of the runs had something to tell");
}

#[test]
fn sources_that_are_missing_or_go() {
    let scratch = Scratch::new();
    let tree = scratch.tree("s");
    sample(&tree);
    let job = |sources: &[Root]| {
        list::job(ListOptions {
            sources: sources.to_vec(),
            output: Some(bytes(&scratch.at("L"))),
            ..ListOptions::default()
        })
    };
    let nowhere = source(scratch.at("nowhere"));
    assert!(matches!(
        job(std::slice::from_ref(&nowhere)).unwrap().run(),
        Err(Refusal::NoSource(_))
    ));
    assert!(matches!(job(&[]).unwrap().run(), Err(Refusal::Usage(_))));
    let report = job(&[nowhere, source(tree.path())]).unwrap().run().unwrap();
    assert!(report.accounted && !report.is_complete());
    assert_eq!(report.failure_kinds["missing"], 1);
    let output = |path: &Path| ListOptions {
        sources: vec![source(tree.path())],
        output: Some(bytes(path)),
        ..ListOptions::default()
    };
    fs::create_dir(scratch.at("dir")).unwrap();
    for path in [scratch.at("no/such/L"), scratch.at("dir")] {
        assert!(matches!(list::job(output(&path)).unwrap().run(), Err(Refusal::List(_))));
    }
    let missing = CompareOptions::new(list_file(&scratch.at("missing")), contents(tree.path()));
    assert!(matches!(compare::job(missing).unwrap().run(), Err(Refusal::List(_))));
    fs::write(scratch.at("bad"), "s/\n\0s/a\n").unwrap();
    let bad = CompareOptions::new(list_file(&scratch.at("bad")), contents(tree.path()));
    let Err(Refusal::List(text)) = compare::job(bad).unwrap().run() else {
        panic!("a list that can't be read was read");
    };
    assert!(text.contains("line 2"), "{text}");
}

#[test]
fn sides_of_one_entry_and_of_many() {
    let scratch = Scratch::new();
    let (s, t) = (scratch.tree("s"), scratch.tree("t"));
    sample(&s);
    must("cp", &[&"-a", &s.path(), &t.at("s")]);
    let trees = |roots: &[Root]| SideOptions::Trees(roots.to_vec());
    // Two files of different names.
    let (report, _) = compare(
        &scratch,
        trees(&[source(s.at("a9"))]),
        trees(&[source(s.at("a10"))]),
        |_| {},
    );
    assert_eq!(counts(&report), (0, 0, 0));
    let (report, changes) = compare(
        &scratch,
        trees(&[source(s.at("a"))]),
        trees(&[source(s.at("B"))]),
        |o| o.content = Content::Whole,
    );
    assert_eq!((counts(&report), &changes[..]), ((0, 0, 1), &b"B\n-\0a\n"[..]));
    // A file and a directory.
    let (report, _) = compare(&scratch, trees(&[source(s.at("a"))]), contents(s.path()), |_| {});
    assert_eq!(counts(&report).2, 1);
    // As hpcp compares `s -d t/`: names below t, and t itself is nobody's entry.
    let (report, _) = compare(&scratch, trees(&[source(s.path())]), contents(t.path()), |o| {
        o.align = false;
    });
    assert_eq!(counts(&report), (0, 0, 0));
    let both = [source(s.at("d2")), source(s.at("d10"))];
    let (report, changes) = compare(&scratch, trees(&both), contents(&t.at("s")), |o| {
        (o.align, o.form, o.specials) = (false, DiffForm::Tar, false);
    });
    assert_eq!(counts(&report), (0, 9, 0));
    assert_eq!(
        changes,
        b"B\n--no-recursion\nD3/\na\na10\na9\ndang\nempty\nln\nlong\n".to_vec(),
        "{}",
        changes.escape_ascii()
    );
    // Names alone, whatever the hashes.
    list(&scratch, &[source(s.path())], |o| o.hashes = false);
    t.file("s/B", "other");
    let names = SideOptions::List {
        path: bytes(&scratch.at("L")),
        form: Some(Form::Names),
    };
    let (report, _) = compare(&scratch, names, trees(&[source(t.at("s"))]), |_| {});
    assert_eq!(counts(&report), (0, 0, 0));
}

/// The hash of a file is that of its content: where reading does not end where its size says, it is told as changed, with
/// both numbers.
#[test]
fn a_file_that_is_not_as_long_as_its_size_says() {
    const TEST: &str = "lists::a_file_that_is_not_as_long_as_its_size_says";
    const LENGTH: u64 = 300_000;
    let lies = [
        ("tail", 0, "it ended after 234464 bytes, and its size is 300000"),
        ("tail", 65_537, "it goes on after 300000 bytes, which is its size"),
        ("full", 0, "it ended after 0 bytes, and its size is 300000"),
        ("content", 0, "it ended after 0 bytes, and its size is 300000"),
    ];
    if let Some(words) = order() {
        let (left, right) = (Path::new(&words[0]), Path::new(&words[1]));
        let job = match &words[2][..] {
            "content" => {
                let mut options = CompareOptions::new(contents(left), contents(right));
                options.content = Content::Whole;
                compare::job(options).unwrap()
            }
            way => list::job(ListOptions {
                sources: vec![source(left)],
                full_hash: way == "full",
                ..ListOptions::default()
            })
            .unwrap(),
        };
        failpoint::arm(Some(Plan {
            call: Some(Call::Read),
            nth: 0,
            count: usize::MAX,
            effect: Effect::Answer(words[3].parse().unwrap()),
        }));
        let report = job.run().unwrap();
        failpoint::disarm();
        assert!(
            report.accounted && report.totals.outcome_of(Outcome::Changed) > 0,
            "{report:?}"
        );
        return report.failures.iter().for_each(|failure| say(&failure.message));
    }
    let scratch = Scratch::new();
    let trees = ["left", "right"].map(|name| {
        let tree = scratch.tree(name);
        tree.file("f", content(1, usize::try_from(LENGTH).unwrap()));
        tree.path().display().to_string()
    });
    for (way, answer, told) in lies {
        let log = scratch.at("log");
        let words = [&trees[..], &[way.to_owned(), answer.to_string()]].concat();
        let (code, text) = finish(again(TEST, &words, &log), &log);
        assert!(code == Some(0), "{way}: {text}");
        assert!(
            text.contains(&format!("read {}/f: {told}\n", trees[0])),
            "{way}: {text}"
        );
    }
}

/// What says that it is empty, or a page long, is read to its end, as a copy of it is: in lists, and on either side of a
/// comparison.
#[test]
fn files_that_are_made_when_they_are_read() {
    let scratch = Scratch::new();
    let copies = scratch.tree("copies");
    let stated = [
        ("/proc/version", 0),
        ("/proc/sys/kernel/ostype", 0),
        ("/sys/kernel/mm/ksm/run", 4096),
    ];
    for (path, size) in stated {
        let Ok(about) = fs::metadata(path) else {
            println!("skip: there is no {path}");
            continue;
        };
        assert_eq!(about.len(), size, "{path}");
        let name = Path::new(path).file_name().unwrap().to_str().unwrap();
        let bytes = fs::read(path).unwrap();
        for hash_size in [64 << 10, 3] {
            let (report, text) = list(&scratch, &[source(path)], |o| {
                o.hash_size = hash_size;
                o.entry_events = true;
            });
            let tail = &bytes[bytes.len().saturating_sub(usize::try_from(hash_size).unwrap())..];
            assert_eq!(text, format!("{name}:{:016x}\n", xxh64(tail)), "{path}");
            assert_eq!(report.totals.done_bytes, bytes.len() as u64, "{path}");
        }
        let copy = copies.file(name, &bytes).at(name);
        let short = copies.file("short", &bytes[1..]).at("short");
        for content in [Content::Tail, Content::Whole] {
            let of = |right: &Path| {
                let sides = [Path::new(path), right].map(|path| SideOptions::Trees(vec![source(path)]));
                let [left, right] = sides;
                let (report, _) = compare(&scratch, left, right, |o| o.content = content);
                assert!(report.failures.is_empty(), "{report:?}");
                counts(&report)
            };
            assert_eq!(of(&copy), (0, 0, 0), "{path} {content:?}");
            assert_eq!(of(&short), (0, 0, 1), "{path} {content:?}");
            assert_eq!(of(Path::new(path)), (0, 0, 0), "{path} {content:?}");
        }
    }
}

/// What gives its content once is no two lists; nothing is read then.
#[test]
fn two_lists_that_are_one() {
    let scratch = Scratch::new();
    must("mkfifo", &[&scratch.at("fifo")]);
    fs::hard_link(scratch.at("fifo"), scratch.at("again")).unwrap();
    let refused = |left: &Path, right: &Path| {
        let options = CompareOptions::new(list_file(left), list_file(right));
        let refused = bulkhaul_engine::compare::job(options).unwrap().run();
        matches!(refused, Err(Refusal::Usage(message)) if message.contains("which can be read once"))
    };
    assert!(refused(Path::new("/dev/stdin"), Path::new("/proc/self/fd/0")));
    assert!(refused(&scratch.at("fifo"), &scratch.at("again")));
    // A file can be read as often as one likes.
    fs::write(scratch.at("L"), "a\nb\n").unwrap();
    assert!(!refused(&scratch.at("L"), &scratch.at("L")));
}

/// What takes the place of a list keeps that one's mode, owner and attributes, as if it had been written into; and a list
/// that can't be begun is told before anything is.
#[test]
fn the_place_of_a_list() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let scratch = Scratch::new();
    let tree = scratch.tree("t");
    tree.file("a", "x");
    let at = scratch.at("L");
    let write = |at: &Path| {
        list::job(ListOptions {
            output: Some(bytes(at)),
            sources: vec![source(tree.path())],
            ..ListOptions::default()
        })
        .unwrap()
        .run()
    };
    fs::write(&at, "old").unwrap();
    fs::set_permissions(&at, fs::Permissions::from_mode(0o4600)).unwrap();
    let root = bulkhaul_sys::user_id() == 0;
    if root {
        std::os::unix::fs::chown(&at, Some(65534), Some(65534)).unwrap();
    }
    must("setfattr", &[&"-n", &"user.a", &"-v", &"1", &at]);
    let before = fs::metadata(&at).unwrap();
    write(&at).unwrap();
    let after = fs::metadata(&at).unwrap();
    assert_ne!((after.ino(), after.len()), (before.ino(), before.len()));
    assert_eq!(
        (after.mode() & 0o7777, after.uid(), after.gid()),
        (0o600, before.uid(), before.gid())
    );
    assert!(must("getfattr", &[&"-d", &at]).contains("user.a=\"1\""));
    if root {
        // The group's bits are those of the list.
        must("setfacl", &[&"-m", &"u:12:rw", &at]);
        write(&at).unwrap();
        assert_eq!(fs::metadata(&at).unwrap().mode() & 0o7777, 0o660);
        let list = must("getfacl", &[&"-np", &at]);
        assert!(list.contains("user:12:rw-") && list.contains("group::---"), "{list}");
    }
    assert!(matches!(write(&scratch.at("no/such/L")), Err(Refusal::List(_))));
}
