//! The rig: scratch directories, file systems, trees, copies whose report is checked, and rsync as the judge.

pub mod fault;
mod judge;
mod tree;
mod world;

use std::ffi::{CString, OsStr};
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};

use bulkhaul_engine::copy;
use bulkhaul_engine::copy::options::{CopyOptions, DestinationArgument, SourceArgument};
use bulkhaul_engine::entry::{Outcome, Reason};
use bulkhaul_engine::error::{Refusal, symbol};
use bulkhaul_engine::event::{EntryEvent, Event};
use bulkhaul_engine::job::Job;
use bulkhaul_engine::report::Report;
use bulkhaul_sys as sys;
use tempfile::TempDir;

pub use judge::{compare, has_staging, listing, same_path};
pub use tree::{Tree, content, modified, node, set_time};

/// Runs a program to its end.
pub fn command(program: &str, arguments: &[&dyn AsRef<OsStr>]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    // System programs are where root's path has them.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command.output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// Runs a program that must succeed; answers what it printed.
pub fn must(program: &str, arguments: &[&dyn AsRef<OsStr>]) -> String {
    let output = command(program, arguments);
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a program can be found.
pub fn has(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
        .split(':')
        .any(|directory| Path::new(directory).join(program).is_file())
}

/// Whether this is root; says that the test is skipped where not.
pub fn root() -> bool {
    let root = sys::user_id() == 0;
    if !root {
        println!("skip: this needs root");
    }
    root
}

/// A directory of its own for a test; gone with it, and everything mounted below it too.
pub struct Scratch {
    directory: TempDir,
    /// Of file systems with faults.
    servers: Mutex<Vec<Child>>,
}

/// Loop devices are picked by looking for a free one: one at a time.
static MOUNTING: Mutex<()> = Mutex::new(());

impl Scratch {
    /// In memory where that is possible.
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let directory = tempfile::Builder::new()
            .prefix("bulkhaul-test-")
            .tempdir_in(base)
            .unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        Self {
            directory,
            servers: Mutex::default(),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A path in it.
    pub fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A new directory in it, to be filled.
    pub fn tree(&self, name: &str) -> Tree {
        Tree::new(self.at(name))
    }

    /// A new file system of its own, mounted: `tmpfs`, or `ext4`, `xfs` or `btrfs` in an image. `options` as of mount.
    /// `None`: it can't be had here, and that was printed.
    pub fn file_system(&self, kind: &str, options: &str) -> Option<PathBuf> {
        self.made_file_system(kind, &[], options)
    }

    /// The same, in an image that was made with these options of mkfs.
    pub fn made_file_system(&self, kind: &str, making: &[&str], options: &str) -> Option<PathBuf> {
        if !root() {
            return None;
        }
        let point = self.point(kind);
        let name = point.file_name().unwrap().to_str().unwrap();
        let mut arguments: Vec<String> = ["-t", kind, "-o"].map(str::to_owned).into();
        if kind == "tmpfs" {
            arguments.extend([format!("size=256m,{options}"), "none".to_owned()]);
        } else {
            let make = format!("mkfs.{kind}");
            if !has(&make) {
                println!("skip: there is no {make}");
                return None;
            }
            let image = self.at(&format!("{name}.image"));
            fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
            let mut all: Vec<&dyn AsRef<OsStr>> = vec![&"-q"];
            all.extend(making.iter().map(|each| each as &dyn AsRef<OsStr>));
            all.push(&image);
            must(&make, &all);
            arguments.extend([format!("loop,{options}"), image.display().to_string()]);
        }
        arguments.push(point.display().to_string());
        let one = MOUNTING.lock().unwrap_or_else(PoisonError::into_inner);
        let output = Command::new("mount").args(&arguments).output().unwrap();
        drop(one);
        if !output.status.success() {
            println!("skip: {}", String::from_utf8_lossy(&output.stderr).trim());
            return None;
        }
        Some(point)
    }

    /// A new directory for a mount.
    fn point(&self, kind: &str) -> PathBuf {
        let point = self.at(&format!("{kind}-{}", fs::read_dir(self.path()).unwrap().count()));
        fs::create_dir(&point).unwrap();
        point
    }

    /// Makes `there` show what is at `from`. False: that can't be done here, and that was printed.
    pub fn bind(from: &Path, there: &Path) -> bool {
        if !root() {
            return false;
        }
        fs::create_dir_all(there).unwrap();
        let output = command("mount", &[&"--bind", &from, &there]);
        if !output.status.success() {
            println!("skip: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        output.status.success()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for server in self.servers.get_mut().unwrap_or_else(PoisonError::into_inner) {
            // What waits for an answer of it gets an error.
            if let Err(error) = server.kill().and_then(|()| server.wait()) {
                println!("a server of faults stays: {error}");
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let below = |line: &&str| Path::new(line).starts_with(self.path());
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(below);
        // The last one mounted may lie on those before it. A loop device goes with its mount.
        for point in points.collect::<Vec<_>>().into_iter().rev() {
            let unmounted = command("umount", &[&"-l", &point]);
            if !unmounted.status.success() {
                println!("{point} stays mounted: {}", String::from_utf8_lossy(&unmounted.stderr));
            }
        }
    }
}

/// A source whose contents go into the destination.
pub fn contents(path: impl AsRef<OsStr>) -> SourceArgument {
    SourceArgument {
        contents: true,
        ..named(path)
    }
}

/// A source that goes into the destination under its own name.
pub fn named(path: impl AsRef<OsStr>) -> SourceArgument {
    SourceArgument {
        path: path.as_ref().as_bytes().to_vec(),
        contents: false,
        name: None,
        follow: false,
    }
}

/// A source that goes into the destination under another name.
pub fn renamed(path: impl AsRef<OsStr>, name: &str) -> SourceArgument {
    SourceArgument {
        name: Some(name.as_bytes().to_vec()),
        ..named(path)
    }
}

/// Options for a copy, with two workers, all else as by default.
pub fn options(sources: &[SourceArgument], destination: impl AsRef<OsStr>) -> CopyOptions {
    CopyOptions {
        sources: sources.to_vec(),
        destinations: vec![DestinationArgument {
            path: destination.as_ref().as_bytes().to_vec(),
            follow: true,
        }],
        jobs: 2,
        entry_events: true,
        ..CopyOptions::default()
    }
}

/// A copy that ran to its end, or was interrupted.
pub struct Copied {
    pub report: Report,
    /// The event of each entry that did not fail.
    pub entries: Vec<EntryEvent>,
}

impl std::fmt::Debug for Copied {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Report {
            totals,
            failures,
            notes,
            interrupted,
            withheld,
            ..
        } = &self.report;
        writeln!(formatter, "{}; found {}", self.counts(), totals.all_found())?;
        writeln!(
            formatter,
            "interrupted: {interrupted}, notes: {:?}, withheld: {:?}",
            notes.iter().map(|n| &n.message).collect::<Vec<_>>(),
            withheld.iter().map(|w| &w.message).collect::<Vec<_>>()
        )?;
        failures
            .iter()
            .take(10)
            .try_for_each(|failure| writeln!(formatter, "{}", failure.message))
    }
}

impl Copied {
    /// The outcomes that there are, in their order, and the reasons: `copied 2, made 1, skipped 1 (unchanged 1)`.
    pub fn counts(&self) -> String {
        let totals = &self.report.totals;
        let list = |pairs: Vec<(&str, u64)>| -> Vec<String> {
            let there = pairs.into_iter().filter(|(_, n)| *n > 0);
            there.map(|(text, n)| format!("{text} {n}")).collect()
        };
        let outcomes = list(Outcome::ALL.map(|o| (o.text(), totals.outcome_of(o))).into());
        let reasons = Reason::ALL.map(|r| (r.text(), totals.reasons[r as usize]));
        let reasons = list(reasons.into()).join(", ");
        let reasons = if reasons.is_empty() {
            reasons
        } else {
            format!(" ({reasons})")
        };
        outcomes.join(", ") + &reasons
    }

    /// The failures, sorted: kind, operation, errno if there is one, and the path below `base`.
    pub fn failures(&self, base: &Path) -> Vec<String> {
        let mut lines: Vec<String> = self
            .report
            .failures
            .iter()
            .map(|f| {
                let path = Path::new(OsStr::from_bytes(&f.path));
                let path = path.strip_prefix(base).unwrap_or(path).display();
                let errno = f.errno.map_or_else(|| "-".to_owned(), symbol);
                format!("{} {} {errno} {path}", f.kind, f.operation.text())
            })
            .collect();
        lines.sort();
        lines
    }

    /// The kinds of the notes.
    pub fn notes(&self) -> Vec<&str> {
        self.report.notes.iter().map(|n| n.kind.as_str()).collect()
    }

    /// What became of the entry with this path in the destination; panics where no event tells it.
    pub fn entry(&self, path: &str) -> &EntryEvent {
        self.entries
            .iter()
            .find(|e| e.path == path.as_bytes())
            .unwrap_or_else(|| panic!("no event for {path}"))
    }

    /// Asserts that everything arrived.
    pub fn complete(self) -> Self {
        assert!(self.report.is_complete(), "{self:#?}");
        self
    }

    /// Asserts that something did not arrive, and that the books agree on that.
    pub fn incomplete(self) -> Self {
        assert!(!self.report.is_complete(), "{self:#?}");
        assert!(self.report.accounted && !self.report.interrupted, "{self:#?}");
        self
    }

    /// What must hold for every copy.
    fn check(&self) {
        let Report {
            totals,
            failures,
            failure_kinds,
            ..
        } = &self.report;
        assert!(self.report.accounted, "not accounted for: {self:#?}");
        if !self.report.interrupted {
            assert_eq!(totals.all_found(), totals.all_outcomes(), "{self:#?}");
        }
        let failed: u64 = failure_kinds.values().sum();
        assert_eq!(failures.len() as u64, failed.min(1000));
        for outcome in Outcome::ALL {
            let told = self
                .entries
                .iter()
                .filter(|e| e.outcome == outcome && e.reason != Some(Reason::Excluded));
            let reported = failures.iter().filter(|f| f.outcome == outcome).count() as u64;
            let counted = totals.outcome_of(outcome);
            match outcome {
                Outcome::Changed | Outcome::Conflict | Outcome::Mismatched | Outcome::Failed => {
                    // A directory may fail in more than one way, and has one outcome.
                    assert!(counted <= reported || failed > 1000, "{outcome:?}: {self:#?}");
                }
                _ => assert_eq!(told.count() as u64, counted, "{outcome:?}: {self:#?}"),
            }
        }
    }
}

/// Runs a job to its end.
pub fn run(job: &Job) -> Result<Copied, Refusal> {
    watch(job, |_| {})
}

/// Runs a job to its end, its events read by another thread, which shows them to `seen` as they come.
pub fn watch(job: &Job, mut seen: impl FnMut(&Event) + Send) -> Result<Copied, Refusal> {
    job.queue().subscribe();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut entries = Vec::new();
            loop {
                let (sender, receiver) = mpsc::channel();
                job.queue().next(Box::new(move |batch| sender.send(batch).unwrap()));
                let batch = receiver.recv().unwrap();
                if batch.is_empty() {
                    return entries;
                }
                batch.iter().for_each(&mut seen);
                entries.extend(batch.into_iter().filter_map(|event| match event {
                    Event::Entry(entry) => Some(entry),
                    Event::Failure(_) | Event::Note(_) | Event::Question(_) | Event::Part(_) => None,
                }));
            }
        });
        let result = job.run();
        let entries = reader.join().unwrap();
        let copied = Copied {
            report: result?,
            entries,
        };
        copied.check();
        Ok(copied)
    })
}

/// Copies; a refusal is an answer.
pub fn attempt(
    sources: &[SourceArgument],
    destination: impl AsRef<OsStr>,
    change: impl FnOnce(&mut CopyOptions),
) -> Result<Copied, Refusal> {
    let mut options = options(sources, destination);
    change(&mut options);
    run(&copy::job(options)?)
}

/// Copies; a refusal ends the test.
pub fn copy(
    sources: &[SourceArgument],
    destination: impl AsRef<OsStr>,
    change: impl FnOnce(&mut CopyOptions),
) -> Copied {
    attempt(sources, destination, change).unwrap()
}

/// As a user that owns nothing and may nothing.
pub const NOBODY: &[&str] = &[
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=-all",
    "--bounding-set=-all",
];
/// With room for 64 descriptors.
pub const FEW_DESCRIPTORS: &[&str] = &["prlimit", "--nofile=64"];
/// Tells a child process where its scratch directory is, and that it is one.
const CHILD: &str = "BULKHAUL_TEST_CHILD";

/// Runs a test in two processes: `prepare` here, `body` in a child process under `wrapper`, then `after` here. The child
/// is this very test (`test` is its name), which comes here again.
pub fn apart(
    test: &str,
    wrapper: &[&str],
    prepare: impl FnOnce(&Scratch),
    body: impl FnOnce(&Path),
    after: impl FnOnce(&Scratch),
) {
    if let Some(scratch) = std::env::var_os(CHILD) {
        return body(Path::new(&scratch));
    }
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    prepare(&scratch);
    let child = child(test, wrapper, &scratch);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    // A name that no test has would pass too.
    assert!(
        output.status.success() && said.contains("1 passed"),
        "in the child process: {said}{errors}"
    );
    after(&scratch);
}

/// Runs all of a test in a child process that has no other test in it. A program that another test starts has what is open
/// here until it is running: so long what is removed gives no room back.
pub fn alone(test: &str, body: impl FnOnce()) {
    apart(test, &["env"], |_| (), |_| body(), |_| ());
}

/// Starts test `test` again in a child process under `wrapper`.
pub fn child(test: &str, wrapper: &[&str], scratch: &Scratch) -> Child {
    let own = std::env::current_exe().unwrap();
    // Whoever the child is, it must be able to run the program.
    let program = if own
        .ancestors()
        .skip(1)
        .all(|p| fs::metadata(p).unwrap().permissions().mode() & 1 == 1)
    {
        own
    } else {
        let copy = scratch.at("test-program");
        if !copy.exists() {
            // Not by this process: what it has open for writing, a child of another test has too for a moment, and what
            // somebody may write is not run (ETXTBSY).
            assert!(Command::new("cp").args([&own, &copy]).status().unwrap().success());
        }
        copy
    };
    let mut all: Vec<&OsStr> = wrapper.iter().map(OsStr::new).collect();
    all.extend([program.as_os_str(), OsStr::new("--exact"), OsStr::new(test)]);
    Command::new(all[0])
        .args(&all[1..])
        .args(["--nocapture", "--test-threads=1"])
        .env(CHILD, scratch.path())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Where a child process works; `None` in the process that the tests were started as.
pub fn child_scratch() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// A path or name for a system call.
pub fn c_string(path: impl AsRef<OsStr>) -> CString {
    CString::new(path.as_ref().as_bytes()).unwrap()
}
