//! The fault rig: a tree that holds one of everything, the facts that trees are compared by, and copies in child processes
//! that are armed with a plan of failpoints.
//!
//! A plan is one for a whole process, so a test that uses it starts this very test again ([`again`]); the child finds its
//! order in [`order`]. rsync compares better and costs a hundred times more: here thousands of trees are compared.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bulkhaul_engine::copy;
use bulkhaul_engine::copy::options::CopyOptions;
use bulkhaul_engine::error::Refusal;
use bulkhaul_engine::report::{Durability, Report};
use bulkhaul_formats::digest::xxh64;
use bulkhaul_sys::{self as sys, AsFd as _, Kind, Node};
use rustix::process::{Pid, Signal, kill_process};

use super::{Tree, c_string, content, contents, node, options};

/// What is known of one entry. Access and change times are nobody's promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    kind: char,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    rdev: u64,
    size: u64,
    digest: u64,
    text: PathBuf,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first name of the same inode.
    pub first: String,
}

impl Fact {
    /// Whether both hold the same, whoever owns it.
    pub fn same_content(&self, other: &Self) -> bool {
        (self.kind, self.size, self.digest, &self.text, self.rdev)
            == (other.kind, other.size, other.digest, &other.text, other.rdev)
    }

    fn without_links(&self) -> Self {
        Self {
            first: String::new(),
            ..self.clone()
        }
    }

    /// What it holds, whoever owns it.
    fn without_metadata(&self) -> Self {
        Self {
            mode: 0,
            owner: (0, 0),
            modified: (0, 0),
            xattrs: BTreeMap::new(),
            ..self.without_links()
        }
    }
}

/// The facts of a tree by path below it; the root has an empty path.
pub type Facts = BTreeMap<String, Fact>;

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let (mut list, mut value) = ([0; 1024], [0; 1024]);
    let used = rustix::fs::llistxattr(path, &mut list).unwrap_or(0);
    let names = list[..used].split_inclusive(|b| *b == 0);
    names
        .map(|name| {
            let text = std::ffi::CStr::from_bytes_with_nul(name).unwrap();
            let length = rustix::fs::lgetxattr(path, text, &mut value).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect()
}

/// Reads everything about a tree. An unfinished entry is told by its name, what is in it is not looked at.
pub fn facts(root: &Path) -> Facts {
    let mut facts = Facts::new();
    let mut inodes: BTreeMap<(u64, u64), Vec<String>> = BTreeMap::new();
    let mut left = vec![(root.to_owned(), String::new())];
    while let Some((path, name)) = left.pop() {
        let about = fs::symlink_metadata(&path).unwrap();
        let kind = about.file_type();
        let unfinished = name.rsplit('/').next().unwrap().starts_with(".bh-");
        let mut fact = Fact {
            kind: '?',
            mode: about.mode() & 0o7777,
            owner: (about.uid(), about.gid()),
            modified: (about.mtime(), about.mtime_nsec()),
            rdev: about.rdev(),
            size: about.size(),
            digest: 0,
            text: PathBuf::new(),
            xattrs: BTreeMap::new(),
            first: name.clone(),
        };
        if !unfinished {
            fact.xattrs = xattrs(&path);
            if about.nlink() > 1 && !kind.is_dir() {
                inodes.entry((about.dev(), about.ino())).or_default().push(name.clone());
            }
        }
        if kind.is_dir() {
            (fact.kind, fact.size) = ('d', 0);
            if !unfinished {
                for entry in fs::read_dir(&path).unwrap().map(Result::unwrap) {
                    let below = entry.file_name().into_string().unwrap();
                    let below = if name.is_empty() {
                        below
                    } else {
                        format!("{name}/{below}")
                    };
                    left.push((entry.path(), below));
                }
            }
        } else if kind.is_file() {
            (fact.kind, fact.digest) = ('f', xxh64(&fs::read(&path).unwrap()));
        } else if kind.is_symlink() {
            (fact.kind, fact.text) = ('l', fs::read_link(&path).unwrap());
        } else {
            (fact.kind, fact.size) = ('s', 0);
        }
        facts.insert(name, fact);
    }
    for mut names in inodes.into_values() {
        names.sort();
        for name in &names {
            facts.get_mut(name).unwrap().first.clone_from(&names[0]);
        }
    }
    facts
}

/// A user attribute, an ACL and file capabilities as the kernel takes them.
const ACL: &[u8] = &[
    2, 0, 0, 0, // version 2
    1, 0, 6, 0, 255, 255, 255, 255, // owner rw-
    2, 0, 4, 0, 233, 3, 0, 0, // user 1001 r--
    4, 0, 4, 0, 255, 255, 255, 255, // group r--
    16, 0, 4, 0, 255, 255, 255, 255, // mask r--
    32, 0, 0, 0, 255, 255, 255, 255, // others ---
];
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Fills a source with one of everything.
pub fn everything(tree: &Tree) {
    let long = content(2, 300 << 10);
    tree.file("file", content(1, 3000))
        .mode("file", 0o640)
        .owner("file", 12, 34);
    tree.file("long", &long).mode("long", 0o4755).owner("long", 12, 34);
    let holes = fs::File::create(tree.at("holes")).unwrap();
    holes.set_len(320 << 10).unwrap();
    holes.write_all_at(&content(3, 8192), 0).unwrap();
    holes.write_all_at(&content(4, 8192), 200 << 10).unwrap();
    tree.file("pair-a", content(5, 5000))
        .link("pair-b", "pair-a")
        .link("d/pair-c", "pair-a");
    tree.file("d/twin-a", content(15, 3000))
        .link("d/twin-b", "d/twin-a")
        .link("d/e/twin-c", "d/twin-a");
    tree.symlink("link", "file")
        .owner("link", 12, 34)
        .special("fifo", Kind::Fifo, 0)
        .mode("fifo", 0o620);
    tree.file("xattr", "x").xattr("xattr", "user.colour", b"green");
    tree.file("acl", "y").xattr("acl", "system.posix_acl_access", ACL);
    tree.file("capable", "z")
        .mode("capable", 0o755)
        .xattr("capable", "security.capability", CAPABILITY);
    tree.file("d/inside", content(6, 100))
        .file("d/e/deep", content(7, 70_000));
    tree.symlink("d/e/up", "../..")
        .special("d/e/fifo", Kind::Fifo, 0)
        .link("d/e/fifo-too", "d/e/fifo")
        .link("d/e/up-too", "d/e/up")
        .dir("empty");
    tree.file("replaced", content(8, 4000))
        .file("replaced-long", content(9, 80_000));
    tree.file("unchanged", content(10, 2000))
        .file("metadata", content(11, 2000))
        .mode("metadata", 0o604);
    tree.file("existing/inner", content(12, 1000))
        .file("existing/new", content(13, 1000));
    tree.file("existing/sub/new", content(14, 1000));
    let names = tree.names();
    // From below, so that no directory changes again.
    for (number, name) in names.iter().enumerate().rev() {
        tree.time(name, 1_500_000_000, u32::try_from(number).unwrap() + 1);
    }
    tree.mode("d/e", 0o2750)
        .mode("existing", 0o751)
        .time("d/e", 1_400_000_000, 1);
    tree.time("existing", 1_400_000_000, 2).time("", 1_400_000_000, 3);
}

/// Fills a destination with what an earlier copy, and somebody else, left there.
pub fn earlier(tree: &Tree, source: &Tree) {
    tree.file("replaced", "old")
        .file("replaced-long", content(99, 80_000))
        .file("existing/inner", "old, too");
    tree.file("existing/somebody's", "own")
        .file("pair-b", "no link")
        .symlink("link", "elsewhere");
    for same in ["unchanged", "metadata"] {
        let (sec, nsec) = super::modified(&source.at(same));
        tree.file(same, source.read(same)).time(same, sec, nsec);
    }
    tree.xattr("metadata", "user.gone", b"soon").mode("existing", 0o700);
    for name in [
        "replaced",
        "replaced-long",
        "existing/inner",
        "existing/somebody's",
        "pair-b",
        "link",
        "existing",
        "",
    ] {
        tree.time(name, 1_300_000_000, 1);
    }
}

/// Where the copy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Into a directory that holds what [`earlier`] put there.
    Existing,
    /// Into one that is made, two levels down. What is known of hard links is kept in a file.
    Absent,
    /// As [`Shape::Existing`], read back afterwards, and everything synced.
    Verified,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Existing, Self::Absent, Self::Verified];

    fn exists(self) -> bool {
        self != Self::Absent
    }

    fn destination(self, base: &Path) -> PathBuf {
        base.join(if self.exists() { "to" } else { "made/to" })
    }
}

/// One trial in a directory of its own: a destination, and what was there before.
pub struct Trial {
    /// The destination.
    pub to: PathBuf,
    shape: Shape,
    source: PathBuf,
    base: PathBuf,
    before: Facts,
}

impl Trial {
    /// Prepares the destination of a copy of `source` below `base`, which is made.
    pub fn new(source: &Tree, base: PathBuf, shape: Shape) -> Self {
        fs::create_dir(&base).unwrap();
        let to = shape.destination(&base);
        let mut before = Facts::new();
        if shape.exists() {
            earlier(&Tree::new(to.clone()), source);
            before = facts(&to);
        }
        Self {
            to,
            shape,
            source: source.path().to_owned(),
            base,
            before,
        }
    }

    /// The same trial, seen from the process that the copy did not run in. `shape` and `source` are those of before.
    pub fn found(source: &Tree, base: PathBuf, shape: Shape, before: &Facts) -> Self {
        Self {
            to: shape.destination(&base),
            shape,
            source: source.path().to_owned(),
            base,
            before: if shape.exists() { before.clone() } else { Facts::new() },
        }
    }

    /// Options of its copy: one worker, so that calls come in one order.
    pub fn options(&self) -> CopyOptions {
        let verify = self.shape == Shape::Verified;
        CopyOptions {
            jobs: 1,
            sync: if verify { Durability::All } else { Durability::Safe },
            verify,
            links_in_memory: if self.shape.exists() { usize::MAX } else { 0 },
            spill_directory: Some(self.base.as_os_str().as_bytes().to_vec()),
            entry_events: false,
            ..options(&[contents(&self.source)], &self.to)
        }
    }

    /// Copies; a refusal is an answer.
    pub fn copy(&self) -> Result<Report, Refusal> {
        copy::job(self.options())?.run()
    }

    /// What is wrong with the destination after a copy that may have failed or died anywhere.
    pub fn spoilt(&self, wanted: &Facts) -> Option<String> {
        self.spoilt_as(wanted, Fact::without_links)
    }

    /// The same where the destination did not keep metadata, and that was told.
    pub fn spoilt_in_content(&self, wanted: &Facts) -> Option<String> {
        self.spoilt_as(wanted, Fact::without_metadata)
    }

    fn spoilt_as(&self, wanted: &Facts, seen: fn(&Fact) -> Fact) -> Option<String> {
        if !self.to.exists() {
            return (!self.before.is_empty()).then(|| "the destination is gone".to_owned());
        }
        let now = facts(&self.to);
        for (name, fact) in &now {
            let base = name.rsplit('/').next().unwrap();
            if base.starts_with(".bh-") {
                continue;
            }
            let fact = seen(fact);
            let (old, new) = (self.before.get(name), wanted.get(name));
            let as_it_was = old.is_some_and(|f| seen(f) == fact);
            let complete = new.is_some_and(|f| seen(f) == fact);
            // Directories get their metadata in the end; so does what was there with the right content.
            let growing = fact.kind == 'd' && new.or(old).is_some_and(|f| f.kind == 'd');
            let kept = matches!((old, new), (Some(o), Some(n)) if o.same_content(n) && n.same_content(&fact));
            if !as_it_was && !complete && !growing && !kept {
                return Some(format!(
                    "{name} is neither old nor complete: {fact:?}, old {old:?}, new {new:?}"
                ));
            }
        }
        let lost = self.before.keys().find(|name| !now.contains_key(*name));
        lost.map(|name| format!("{name} was lost"))
    }

    /// What differs from a complete copy.
    pub fn unlike(&self, wanted: &Facts) -> Option<String> {
        self.differs(wanted, Fact::clone)
    }

    /// What differs from a complete copy whose report says whether some files were copied instead of linked.
    pub fn unlike_as_told(&self, wanted: &Facts, report: &Report) -> Option<String> {
        let told = report
            .notes
            .iter()
            .any(|n| n.kind == "hard-link-copied" || n.kind == "hard-links");
        self.differs(wanted, if told { Fact::without_links } else { Fact::clone })
    }

    fn differs(&self, wanted: &Facts, seen: fn(&Fact) -> Fact) -> Option<String> {
        if !self.to.exists() {
            return Some("there is no destination".to_owned());
        }
        let now = facts(&self.to);
        let mut wanted = wanted.clone();
        for (name, fact) in &self.before {
            wanted.entry(name.clone()).or_insert_with(|| fact.clone());
        }
        for name in now.keys().chain(wanted.keys()) {
            if now.get(name).map(seen) != wanted.get(name).map(seen) {
                return Some(format!("{name}: {:?}, wanted {:?}", now.get(name), wanted.get(name)));
            }
        }
        None
    }

    /// What is wrong after a copy again, without a fault: it must converge.
    pub fn not_healed(&self, wanted: &Facts) -> Option<String> {
        match self.copy() {
            Err(refusal) => Some(format!("the next run was refused: {refusal}")),
            Ok(report) if !report.is_complete() => Some(format!("the next run failed: {:?}", report.failures)),
            Ok(_) if super::has_staging(&self.base) => Some(format!(
                "the next run left {:?}",
                Tree::new(self.base.clone()).names().iter().find(|n| n.contains(".bh-"))
            )),
            Ok(_) => self.unlike(wanted).map(|text| format!("after the next run: {text}")),
        }
    }

    /// Removes everything.
    pub fn clear(self) {
        fs::remove_dir_all(&self.base).unwrap();
    }
}

/// What a loop begins with, below `base`: a source with one of everything, what a copy of it must be, and what is in the
/// destination before.
pub fn lay_out(base: &Path) -> (Tree, Facts, Facts) {
    let source = Tree::new(base.join("source"));
    everything(&source);
    let wanted = facts(source.path());
    let before = Trial::new(&source, base.join("before"), Shape::Existing).before;
    (source, wanted, before)
}

/// Tells a child process what to do.
const ORDER: &str = "BULKHAUL_FAULT_ORDER";

/// The order of this process, word by word; `None` in the process that the tests were started as.
pub fn order() -> Option<Vec<String>> {
    let order = std::env::var(ORDER).ok()?;
    Some(order.split('\n').map(str::to_owned).collect())
}

/// Whether every point is to be tried.
pub fn exhaustive() -> bool {
    std::env::var_os("BULKHAUL_EXHAUSTIVE").is_some()
}

/// A command that starts test `test` again with an order, its output in the file `log`.
pub fn again(test: &str, order: &[String], log: &Path) -> Command {
    let file = fs::File::create(log).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ORDER, order.join("\n"));
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stderr(file.try_clone().unwrap())
        .stdout(file);
    command
}

/// Runs a child to its end; answers its code, if it ended by itself, and what it printed.
pub fn finish(mut command: Command, log: &Path) -> (Option<i32>, String) {
    let mut child = command.spawn().unwrap();
    let begin = Instant::now();
    let mut pause = Duration::from_micros(500);
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if begin.elapsed() > Duration::from_mins(2) {
            child.kill().unwrap();
            child.wait().unwrap();
            println!("a child hung");
            break None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(4));
    };
    let text = String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
    fs::remove_file(log).unwrap();
    (code, text)
}

/// Waits until a child has stopped itself, or has ended.
pub fn stopped(child: &mut Child) -> bool {
    let begin = Instant::now();
    loop {
        let state = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        // After the name, which ends with the last parenthesis.
        if state.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')) {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(
            begin.elapsed() < Duration::from_mins(1),
            "the child neither stops nor ends"
        );
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Runs a child that stops itself now and then; each time `body` is done, then it goes on. Answers what it printed.
pub fn with_stops(mut command: Command, log: &Path, mut body: impl FnMut(usize)) -> String {
    let mut child = command.spawn().unwrap();
    let id = Pid::from_child(&child);
    let mut turn = 0;
    while stopped(&mut child) {
        body(turn);
        turn += 1;
        kill_process(id, Signal::CONT).unwrap();
    }
    fs::read_to_string(log).unwrap()
}

/// Prints a line of a child for its parent.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

/// Does something for each number below `count`, on as many threads as there are processors; answers what was wrong.
pub fn each(count: usize, body: impl Fn(usize) -> Vec<String> + std::marker::Sync) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let workers = sys::processors().min(8);
    std::thread::scope(|scope| {
        let work = || {
            let mut wrong = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                // One fault of the engine shows at many points.
                if number >= count || wrong.len() > 200 {
                    return wrong;
                }
                wrong.extend(body(number));
            }
        };
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// The attributes that [`everything`] needs are not to be had everywhere. False: that was printed.
pub fn can_hold_everything(directory: &Path) -> bool {
    if !super::root() {
        return false;
    }
    let probe = directory.join("attribute-probe");
    fs::write(&probe, "").unwrap();
    let kept = ["user.colour", "system.posix_acl_access", "security.capability"]
        .iter()
        .zip([b"green".as_slice(), ACL, CAPABILITY]);
    let node = node(&probe);
    let mut able = true;
    for (name, value) in kept {
        if let Err(errno) = sys::set_xattr(Node::Path(node.as_fd()), &c_string(name), value) {
            println!("skip: {} takes no {name}: {errno}", directory.display());
            able = false;
        }
    }
    fs::remove_file(probe).unwrap();
    able
}
