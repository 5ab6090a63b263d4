//! The walk: everything is seen once, in order, whatever the tree's shape, the workers and the descriptors.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bulkhaul_engine::error::Fault;
use bulkhaul_engine::job::desk::Desk;
use bulkhaul_engine::pool::schedule::{Crew, Schedule};
use bulkhaul_engine::report::counters::Totals;
use bulkhaul_engine::tree::descriptors::{Budget, Slot};
use bulkhaul_engine::tree::selection::Selection;
use bulkhaul_engine::walk::Walk;
use bulkhaul_engine::walk::node::{Entered, Node, Origin, Source};
use bulkhaul_engine::walk::scope::{Named, Scope};
use bulkhaul_engine::walk::start::{Boundary, Root, Start};
use bulkhaul_engine::walk::visitor::{Entries, Missed, Next, Task, Visitor};
use bulkhaul_engine::{FilterStyle, Kind};
use bulkhaul_formats::lists::names::FileList;
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow};

use crate::rig::{Scratch, Tree, c_string, must};

/// Writes down what it is told, each worker in a book of its own.
#[derive(Default)]
struct Scribe {
    seen: Mutex<Vec<String>>,
    faults: Mutex<Vec<String>>,
    /// How often each directory is to be listed again.
    again: usize,
    open: AtomicUsize,
}

struct Book(Vec<String>);

fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

impl Visitor for Scribe {
    type Data = AtomicUsize;
    type Worker = Book;
    type Task = Infallible;

    fn worker(&self, _: usize) -> Book {
        Book(Vec::new())
    }

    fn finish(&self, book: Book) {
        self.seen.lock().unwrap().extend(book.0);
    }

    fn enter(&self, book: &mut Book, entered: &Entered<'_, AtomicUsize>) -> Option<AtomicUsize> {
        book.0.push(format!("{}/", show(&entered.relative_path())));
        self.open.fetch_add(1, Ordering::Relaxed);
        (entered.name != c"closed").then(AtomicUsize::default)
    }

    fn entries(&self, book: &mut Book, at: BorrowedFd<'_>, entries: &mut Entries<'_, Self>) {
        let base = show(&entries.node().relative_path());
        while let Some((name, kind)) = entries.next() {
            // The descriptor is that of the entry's directory.
            assert_eq!(sys::stat(at, name, Follow::No).unwrap().kind, kind);
            let slash = if base.is_empty() { "" } else { "/" };
            book.0.push(format!("{base}{slash}{}", show(name.to_bytes())));
        }
    }

    fn overridden(
        &self,
        book: &mut Book,
        node: &Arc<Node<AtomicUsize>>,
        (source, name, _): (usize, &CStr, Kind),
        (winner, _): (usize, Kind),
    ) {
        let path = show(&node.relative_path());
        book.0
            .push(format!("{path}/{} of {source}: {winner} has it", show(name.to_bytes())));
    }

    fn leave(&self, book: &mut Book, node: &Arc<Node<AtomicUsize>>) -> Next {
        if node.parent().is_some() {
            let above = node.parent_descriptor().unwrap();
            let found = sys::stat(above.as_fd(), node.name(), Follow::Yes).unwrap();
            assert_eq!(found.id, node.id());
        }
        if node.data().unwrap().fetch_add(1, Ordering::Relaxed) < self.again {
            return Next::Again;
        }
        book.0.push(format!("left {}", show(&node.relative_path())));
        Next::Up
    }

    fn fault(&self, _: &mut Book, missed: &Missed<'_, AtomicUsize>, kind: Kind, fault: &Fault) {
        let path = missed.path();
        let text = format!("{} {kind:?} {}", show(&path), fault.kind());
        self.faults.lock().unwrap().push(text);
    }

    fn unlisted(&self, _: &mut Book, node: &Arc<Node<AtomicUsize>>, _: usize, errno: Errno) {
        self.faults
            .lock()
            .unwrap()
            .push(format!("{} unlisted {errno:?}", show(&node.path())));
    }
}

struct Walked {
    seen: Vec<String>,
    faults: Vec<String>,
    totals: Totals,
}

impl Walked {
    /// What was found, sorted.
    fn found(&self) -> Vec<&str> {
        let mut found: Vec<_> = self
            .seen
            .iter()
            .map(String::as_str)
            .filter(|s| !s.starts_with("left "))
            .collect();
        found.sort_unstable();
        found
    }
}

struct Way {
    workers: usize,
    budget: usize,
    boundary: Boundary,
    filter: Selection,
    again: usize,
}

impl Default for Way {
    fn default() -> Self {
        Self {
            workers: 2,
            budget: 1000,
            boundary: Boundary::None,
            filter: Selection::default(),
            again: 0,
        }
    }
}

fn whole(path: &Path) -> Root {
    Root {
        path: path.as_os_str().as_bytes().to_vec(),
        follow: false,
        contents: false,
        pin: None,
    }
}

fn walk(roots: &[Root], way: &Way) -> Walked {
    let desk = Desk::new(way.workers);
    let scribe = Scribe {
        again: way.again,
        ..Scribe::default()
    };
    Walk {
        filter: &way.filter,
        boundary: way.boundary,
        across: &[],
        desk: &desk,
        crew: &Crew::Fixed(way.workers),
        budget: &Arc::new(Budget::new(way.budget)),
    }
    .run(Start::Roots(roots), &scribe);
    assert_eq!(desk.findings.failed(), 0);
    Walked {
        seen: scribe.seen.into_inner().unwrap(),
        faults: scribe.faults.into_inner().unwrap(),
        totals: Totals::of(&desk.counters),
    }
}

fn bushy(tree: &Tree) {
    for one in 0..12 {
        for two in 0..6 {
            tree.dir(format!("{one}/empty-{two}"));
            for three in 0..4 {
                tree.file(format!("{one}/{two}/{three}/file"), "x")
                    .symlink(format!("{one}/{two}/link-{three}"), "file");
            }
        }
    }
    for number in 0..5000 {
        tree.file(format!("wide/file-{number}"), "");
    }
}

/// As find sees it: a directory ends with a slash.
fn oracle(path: &Path) -> BTreeSet<String> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let text = must("find", &[&path, &"-printf", &"%y %P\\n"]);
    text.lines()
        .map(|line| {
            let (kind, below) = line.split_once(' ').unwrap();
            let slash = if kind == "d" { "/" } else { "" };
            let path = if below.is_empty() {
                name.to_owned()
            } else {
                format!("{name}/{below}")
            };
            path + slash
        })
        .collect()
}

#[test]
fn everything_once_and_each_directory_after_what_is_below_it() {
    let scratch = Scratch::new();
    let tree = scratch.tree("tree");
    bushy(&tree);
    let wanted = oracle(tree.path());
    for workers in [1, 2, 7] {
        for budget in [0, 3, 1000] {
            let walked = walk(
                &[whole(tree.path())],
                &Way {
                    workers,
                    budget,
                    ..Way::default()
                },
            );
            assert!(walked.faults.is_empty(), "{:?}", walked.faults);
            assert_eq!(walked.found(), wanted.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(walked.totals.all_found(), wanted.len() as u64);
            assert_eq!(walked.totals.found_of(Kind::Symlink), 12 * 6 * 4);
            if workers == 1 {
                for (at, line) in walked.seen.iter().enumerate() {
                    let Some(left) = line.strip_prefix("left ") else {
                        continue;
                    };
                    let below = format!("{left}/");
                    let late = walked.seen[at..].iter().find(|s| s.starts_with(&below));
                    assert_eq!(late, None, "after {left} was left");
                }
            }
        }
    }
}

#[test]
fn a_directory_is_listed_again_when_that_is_asked_for() {
    let scratch = Scratch::new();
    let tree = scratch.tree("tree");
    tree.file("a/b/file", "").file("a/c", "");
    let walked = walk(
        &[whole(tree.path())],
        &Way {
            again: 2,
            ..Way::default()
        },
    );
    let times = |line: &str| walked.seen.iter().filter(|s| *s == line).count();
    // Each level again three times for each time that it was entered.
    assert_eq!((times("tree/"), times("tree/a/"), times("tree/a/b/")), (1, 3, 9));
    assert_eq!((times("tree/a/b/file"), times("left tree")), (27, 1));
}

#[test]
fn roots_of_every_kind() {
    let scratch = Scratch::new();
    let tree = scratch.tree("tree");
    tree.file("d/e/file", "")
        .file("plain", "")
        .symlink("link", "d")
        .symlink("loose", "nowhere");
    let root = |name: &str, follow, contents| Root {
        follow,
        contents,
        ..whole(&tree.path().join(name))
    };
    for (roots, wanted) in [
        (vec![root("d", false, false)], &["d/", "d/e/", "d/e/file"][..]),
        (vec![root("d/", false, false)], &["d/", "d/e/", "d/e/file"]),
        (vec![root("d", false, true)], &["/", "e/", "e/file"]),
        (vec![root("d/.", false, true)], &["/", "e/", "e/file"]),
        (vec![root("d/e/..", false, true)], &["/", "e/", "e/file"]),
        (vec![root("link", false, false)], &["link"]),
        (vec![root("link", true, false)], &["link/", "link/e/", "link/e/file"]),
        (vec![root("loose", true, false)], &["loose"]),
        (
            vec![root("plain", true, false), root("d/e", true, false)],
            &["e/", "e/file", "plain"],
        ),
    ] {
        for budget in [0, 1000] {
            let walked = walk(
                &roots,
                &Way {
                    budget,
                    ..Way::default()
                },
            );
            assert!(walked.faults.is_empty(), "{:?}", walked.faults);
            assert_eq!(walked.found(), wanted);
        }
    }
    let base = scratch.path().display();
    let roots = [
        root("gone", false, false),
        root("gone/too", false, false),
        root("plain/x", false, false),
    ];
    let walked = walk(&roots, &Way::default());
    let mut faults = walked.faults.clone();
    faults.sort();
    let wanted = ["gone File missing", "gone/too File missing", "plain/x File missing"];
    assert_eq!(faults, wanted.map(|text| format!("{base}/tree/{text}")));
    assert_eq!(walked.totals.all_found(), 3);
    // Something else has its name.
    let pinned = Root {
        pin: Some(sys::Identity { dev: 1, ino: 1 }),
        ..root("d", false, false)
    };
    assert_eq!(
        walk(&[pinned], &Way::default()).faults,
        [format!("{base}/tree/d File changed")]
    );
}

#[test]
fn excluded_and_refused_directories_are_not_descended_into() {
    let scratch = Scratch::new();
    let tree = scratch.tree("tree");
    tree.file("closed/x", "")
        .file("logs/x", "")
        .file("d/logs/x", "")
        .file("d/a.log", "")
        .file("top.log", "");
    let absolute = tree.at("top.log");
    for (style, rules, wanted) in [
        (
            FilterStyle::Rsync,
            vec!["logs", "/tree/top.log"],
            &["tree/", "tree/closed/", "tree/d/", "tree/d/a.log"][..],
        ),
        (
            FilterStyle::Fnmatch,
            vec!["*/logs", absolute.to_str().unwrap()],
            &["tree/", "tree/closed/", "tree/d/", "tree/d/a.log"],
        ),
        (FilterStyle::Rsync, vec!["tree"], &[]),
    ] {
        let rules: Vec<_> = rules.iter().map(|r| r.as_bytes().to_vec()).collect();
        let filter = Selection::of(Some(&(style, rules))).unwrap();
        let walked = walk(
            &[whole(tree.path())],
            &Way {
                filter,
                ..Way::default()
            },
        );
        assert_eq!(walked.found(), wanted);
        assert_eq!(walked.totals.all_found(), wanted.len() as u64);
    }
}

#[test]
fn boundaries() {
    let scratch = Scratch::new();
    let tree = scratch.tree("tree");
    tree.file("a/file", "").dir("same").dir("other");
    let twin = scratch.tree("twin");
    twin.file("twin-file", "");
    let Some(other) = scratch.file_system("tmpfs", "") else {
        return;
    };
    Tree::new(other.clone()).file("other-file", "");
    if !Scratch::bind(twin.path(), &tree.at("same")) || !Scratch::bind(&other, &tree.at("other")) {
        return;
    }
    let base = tree.path().display();
    for (boundary, same, beyond) in [
        (Boundary::None, true, &[][..]),
        (Boundary::FileSystem, true, &["other"]),
        (Boundary::Mount, false, &["other", "same"]),
    ] {
        let walked = walk(
            &[whole(tree.path())],
            &Way {
                boundary,
                ..Way::default()
            },
        );
        assert_eq!(walked.found().contains(&"tree/same/twin-file"), same, "{boundary:?}");
        let mut faults = walked.faults.clone();
        faults.sort();
        let wanted: Vec<_> = beyond
            .iter()
            .map(|name| format!("{base}/{name} Directory other"))
            .collect();
        assert_eq!(faults, wanted);
        // Found they are, all the same.
        assert_eq!(walked.totals.found_of(Kind::Directory), 4);
    }
}

/// 5000 levels, a path of 15 kB, with room for few descriptors: down and up again in a time that grows with the depth only.
#[test]
fn the_deepest_tree() {
    const DEPTH: usize = 5000;
    let scratch = Scratch::new();
    let name = c_string("ab");
    let base = scratch.tree("tree");
    let mut at = sys::open_directory(sys::current_directory(), &c_string(base.path()), Follow::No).unwrap();
    for _ in 0..DEPTH {
        sys::make_directory(at.as_fd(), &name).unwrap();
        at = sys::open_directory(at.as_fd(), &name, Follow::No).unwrap();
    }
    sys::create_file(at.as_fd(), &CString::new("file").unwrap()).unwrap();
    for workers in [1, 3] {
        let walked = walk(
            &[whole(base.path())],
            &Way {
                workers,
                budget: 16,
                ..Way::default()
            },
        );
        assert!(walked.faults.is_empty(), "{:?}", walked.faults);
        assert_eq!(walked.totals.all_found(), DEPTH as u64 + 2);
        let longest = walked.found().iter().map(|s| s.len()).max().unwrap();
        assert_eq!(longest, "tree".len() + 3 * DEPTH + "/file".len());
    }
    must("rm", &[&"-rf", &base.path()]);
}

#[test]
fn what_cannot_be_opened_is_told() {
    crate::rig::apart(
        "walk::what_cannot_be_opened_is_told",
        crate::rig::NOBODY,
        |scratch| {
            let tree = scratch.tree("tree");
            tree.file("closed-to-all/x", "")
                .file("a", "")
                .mode("closed-to-all", 0o700)
                .mode("", 0o755);
        },
        |scratch| {
            let walked = walk(&[whole(&scratch.join("tree"))], &Way::default());
            let path = scratch.join("tree/closed-to-all");
            assert_eq!(walked.faults, [format!("{} Directory unreadable", path.display())]);
            assert_eq!(walked.found(), ["tree/", "tree/a"]);
        },
        |_| {},
    );
}

#[test]
fn a_cancelled_walk_ends() {
    let scratch = Scratch::new();
    let tree = scratch.tree("tree");
    tree.file("a/b", "");
    let desk = Desk::new(2);
    desk.cancel.drain();
    let scribe = Scribe::default();
    Walk {
        filter: &Selection::default(),
        boundary: Boundary::None,
        across: &[],
        desk: &desk,
        crew: &Crew::Fixed(2),
        budget: &Arc::new(Budget::new(8)),
    }
    .run(Start::Roots(&[whole(tree.path())]), &scribe);
    assert_eq!(Totals::of(&desk.counters).all_found(), 0);
    assert!(fs::exists(tree.at("a/b")).unwrap());
}

/// Walks one directory of these sources, with one worker, and answers what the scribe has.
fn walk_sources(sources: Vec<(&Path, Scope)>) -> Walked {
    let (desk, budget, scribe) = (Desk::new(1), Arc::new(Budget::new(100)), Scribe::default());
    let open = |(path, scope): (&Path, Scope)| {
        let fd = sys::open_directory(sys::current_directory(), &c_string(path), Follow::No).unwrap();
        let stat = sys::stat_fd(fd.as_fd()).unwrap();
        Source {
            slot: Slot::new(fd, stat.id, &budget),
            device: stat.id.dev,
            mount: 0,
            stat,
            scope,
            origin: Origin::Path(path.as_os_str().as_bytes().to_vec()),
        }
    };
    let sources: Vec<_> = sources.into_iter().map(open).collect();
    let schedule = Schedule::new(1);
    let walk = Walk {
        filter: &Selection::default(),
        boundary: Boundary::None,
        across: &[],
        desk: &desk,
        crew: &Crew::Fixed(1),
        budget: &budget,
    };
    desk.unlisted();
    schedule.push(Task::List(Arc::new(Node::top(
        sources.into(),
        AtomicUsize::default(),
        true,
    ))));
    walk.resume(&schedule, &scribe);
    Walked {
        seen: scribe.seen.into_inner().unwrap(),
        faults: scribe.faults.into_inner().unwrap(),
        totals: Totals::of(&desk.counters),
    }
}

#[test]
fn what_a_list_names_and_nothing_beside_it() {
    let scratch = Scratch::new();
    let tree = scratch.tree("tree");
    tree.file("a/b/file", "")
        .file("a/b/other", "")
        .file("a/c", "")
        .file("whole/in-it", "")
        .file("plain", "");
    let list = b"a/b/file\nwhole\ngone\nplain/below\n".to_vec();
    let list = Arc::new(FileList::parse(list, false, tree.path().as_os_str().as_bytes()).unwrap());
    let root = list.root();
    let walked = walk_sources(vec![(tree.path(), Scope::Listed(list, root))]);
    assert_eq!(walked.found(), ["a/", "a/b/", "a/b/file", "whole/"]);
    let base = tree.path().display();
    let mut faults = walked.faults.clone();
    faults.sort();
    let wanted = ["gone File missing", "plain/below File missing"];
    assert_eq!(faults, wanted.map(|text| format!("{base}/{text}")));
    // Two that can't be had, and nothing is counted twice.
    assert_eq!(walked.totals.all_found(), 6);
}

#[test]
fn the_last_source_wins_and_directories_merge() {
    let scratch = Scratch::new();
    let (one, two) = (scratch.tree("one"), scratch.tree("two"));
    one.file("d/a", "1")
        .file("d/same", "1")
        .file("x", "1")
        .file("only", "1");
    two.file("d/b", "2")
        .file("d/same", "2")
        .file("x", "2")
        .file("y", "2")
        .file("unnamed", "2");
    let named = ["d", "x", "y"].map(|name| (CString::new(name).unwrap(), CString::new(name).unwrap()));
    let named = Scope::Names(Arc::new(Named(named.into_iter().collect())));
    let walked = walk_sources(vec![(one.path(), Scope::Whole), (two.path(), named)]);
    assert!(walked.faults.is_empty(), "{:?}", walked.faults);
    let mut found = walked.found();
    found.retain(|line| !line.contains(" of "));
    assert_eq!(found, ["d/", "d/a", "d/b", "d/same", "only", "x", "y"]);
    let overridden: Vec<_> = walked.seen.iter().filter(|line| line.contains(" of ")).collect();
    assert_eq!(
        overridden,
        ["/d of 0: 1 has it", "/x of 0: 1 has it", "d/same of 0: 1 has it"]
    );
    assert_eq!(walked.totals.all_found(), 7);
}

#[test]
fn entries_come_in_the_order_of_their_inodes() {
    let scratch = Scratch::new();
    let tree = scratch.tree("tree");
    for number in 0..200 {
        tree.file(format!("{:x}", number * 7919 % 200), "");
    }
    let walked = walk_sources(vec![(tree.path(), Scope::Whole)]);
    let inode = |name: &&String| {
        let name = CString::new(name.as_str()).unwrap();
        let at = sys::open_directory(sys::current_directory(), &c_string(tree.path()), Follow::No).unwrap();
        sys::stat(at.as_fd(), &name, Follow::No).unwrap().id.ino
    };
    let inodes: Vec<_> = walked
        .seen
        .iter()
        .filter(|line| !line.starts_with("left "))
        .map(|name| inode(&name))
        .collect();
    assert_eq!(inodes.len(), 200);
    assert!(inodes.is_sorted(), "{inodes:?}");
}
