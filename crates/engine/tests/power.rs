//! Loop 3: the power goes while a copy runs.
//!
//! The copy runs in a child that stops before its Nth call; the file system is shut down under it, by the ioctl that XFS and
//! ext4 have for that, the child is killed, and the file system mounted again. Half of the cuts write the log first: then
//! names, sizes and times are on disk and the data is not, which is the worst that a power cut leaves.

use std::fs;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulkhaul_engine::bytes::transfer::Sparse;
use bulkhaul_engine::copy;
use bulkhaul_engine::copy::options::CopyOptions;
use bulkhaul_engine::report::Durability;
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};
use bulkhaul_sys::{self as sys, AsFd as _};

use crate::faults::assert_none;
use crate::rig::fault::{Facts, again, facts, finish, order, say, stopped};
use crate::rig::{Scratch, Tree, c_string, command, content, contents, has, has_staging, must, options, root};

/// Where the power goes, for each file system and way of syncing.
const POINTS: usize = 30;

/// How long whoever holds a mount may take to let go.
const PATIENCE: Duration = Duration::from_mins(2);

/// An image with a file system that can lose its power.
pub struct Disk {
    device: String,
    /// Where it is mounted.
    pub point: PathBuf,
    /// The file that is its medium.
    pub image: PathBuf,
}

impl Disk {
    /// `None`: it can't be had here, and that was printed.
    pub fn new(scratch: &Scratch, kind: &str) -> Option<Self> {
        if !root() {
            return None;
        }
        let make = format!("mkfs.{kind}");
        for program in [&*make, "xfs_io", "losetup"] {
            if !has(program) {
                println!("skip: there is no {program}");
                return None;
            }
        }
        let image = scratch.at("disk.image");
        fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
        must(&make, &[&"-q", &image]);
        Self::attach(scratch, &image, kind)
    }

    /// Mounts an image that holds a file system.
    pub fn attach(scratch: &Scratch, image: &Path, kind: &str) -> Option<Self> {
        let point = scratch.at("disk");
        fs::create_dir(&point).unwrap();
        // Another process may take the device that was found free.
        let attached = (0..20)
            .map(|_| command("losetup", &[&"--find", &"--show", &image]))
            .find(|o| o.status.success());
        let Some(attached) = attached else {
            println!("skip: there is no loop device");
            return None;
        };
        let device = String::from_utf8(attached.stdout).unwrap().trim().to_owned();
        let image = image.to_owned();
        let disk = Self { device, point, image };
        let mounted = command("mount", &[&"-t", &kind, &disk.device, &disk.point]);
        if !mounted.status.success() {
            println!("skip: {}", String::from_utf8_lossy(&mounted.stderr).trim());
            return None;
        }
        Some(disk)
    }

    /// Nothing is written from now on; with `log`, what is in the log is written first.
    pub fn cut(&self, log: bool) {
        let how = if log { "shutdown -f" } else { "shutdown" };
        must("xfs_io", &[&"-x", &"-c", &how, &self.point]);
    }

    /// The power is there again.
    pub fn restore(&self) {
        self.unmount();
        must("mount", &[&self.device, &self.point]);
    }

    /// What failed writes left of an ext4 is checked and mounted again.
    pub fn repair(&self) {
        self.unmount();
        // 1: it had to correct something.
        let checked = command("e2fsck", &[&"-fp", &self.device]);
        assert!(
            checked.status.code() < Some(4),
            "{}",
            String::from_utf8_lossy(&checked.stdout)
        );
        must("mount", &[&self.device, &self.point]);
    }

    fn unmount(&self) {
        // A process that another test starts holds all descriptors of this one until it is what it is to be, and whoever
        // copies the mount namespace holds the mount.
        let mut unmounted = false;
        let until = Instant::now() + PATIENCE;
        while !unmounted || !self.is_free() {
            let shown = self.point.display();
            assert!(Instant::now() < until, "{shown} can't be unmounted: {unmounted}");
            unmounted = unmounted || command("umount", &[&self.point]).status.success();
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether no file system uses the device, in whatever namespace: only then the next mount is a new one.
    fn is_free(&self) -> bool {
        const O_EXCL: i32 = 0o200;
        let opened = fs::OpenOptions::new()
            .read(true)
            .custom_flags(O_EXCL)
            .open(&self.device);
        opened.is_ok()
    }

    /// Writes everything that waits in memory.
    pub fn sync(&self) {
        let fd = sys::open_directory(sys::current_directory(), &c_string(&self.point), sys::Follow::No).unwrap();
        sys::sync_file_system(fd.as_fd()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = command("umount", &[&"-l", &self.point]);
        if !unmounted.status.success() {
            println!("{} stays mounted", self.point.display());
        }
        let detached = command("losetup", &[&"--detach", &self.device]);
        if !detached.status.success() {
            println!("{} stays: {}", self.device, String::from_utf8_lossy(&detached.stderr));
        }
    }
}

/// Files around the length of the tail that the skip test reads, longer ones, and holes.
fn fill(tree: &Tree) {
    let lengths = [
        1,
        4096,
        5000,
        65_535,
        65_536,
        65_537,
        70_000,
        200_000,
        300_000,
        1 << 20,
        3 << 20,
    ];
    for directory in ["", "d/", "d/e/", "old/"] {
        for (number, length) in lengths.into_iter().enumerate() {
            let seed = u8::try_from(directory.len() * 20 + number).unwrap();
            tree.file(format!("{directory}{length}"), content(seed, length));
        }
        let holes = fs::File::create(tree.at(format!("{directory}holes"))).unwrap();
        holes.set_len(600_000).unwrap();
        holes.write_all_at(&content(7, 100_000), 200_000).unwrap();
        let mut zeros = content(8, 400_000);
        zeros[100_000..300_000].fill(0);
        tree.file(format!("{directory}zeros"), zeros);
    }
    for (number, name) in tree.names().iter().enumerate().rev() {
        tree.time(name, 1_500_000_000, u32::try_from(number).unwrap());
    }
}

/// A file of which some cuts find parts that were written past the page cache.
fn fill_big(tree: &Tree) {
    let length = usize::try_from(2 * bulkhaul_engine::bytes::transfer::CHUNK_BYTES).unwrap() + 5000;
    tree.file("old/big", content(3, length));
    tree.time("old/big", 1_500_000_000, 3).time("old", 1_500_000_000, 2);
}

/// One cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    sync: Durability,
    sparse: Sparse,
    /// The destination holds other content under some of the names.
    existing: bool,
    log: bool,
}

impl Cut {
    fn of(number: usize, sync: Durability) -> Self {
        Self {
            sync,
            sparse: if number & 1 == 0 { Sparse::Auto } else { Sparse::Always },
            existing: number & 2 == 0,
            log: number & 4 == 0,
        }
    }

    fn options(self, source: &Path, to: &Path) -> CopyOptions {
        CopyOptions {
            jobs: 1,
            sync: self.sync,
            sparse: self.sparse,
            entry_events: false,
            ..options(&[contents(source)], to)
        }
    }

    /// What was there before, on disk.
    fn prepare(self, disk: &Disk, source: &Tree, to: &Path) -> Facts {
        if !self.existing {
            return Facts::new();
        }
        let tree = Tree::new(to.to_owned());
        for name in source.names().iter().filter(|name| name.starts_with("old/")) {
            // The same lengths: only content and time tell.
            let length = usize::try_from(fs::metadata(source.at(name)).unwrap().len()).unwrap();
            tree.file(name, content(77, length)).time(name, 1_400_000_000, 1);
        }
        disk.sync();
        facts(to)
    }
}

fn sync_of(word: &str) -> Durability {
    [Durability::None, Durability::Safe, Durability::All]
        .into_iter()
        .find(|s| s.text() == word)
        .unwrap()
}

/// In the child: copies, and stops on the way.
fn child(words: &[String]) {
    let [_, source, to, number, sync, nth] = words else {
        panic!("{words:?}")
    };
    let cut = Cut::of(number.parse().unwrap(), sync_of(sync));
    let job = copy::job(cut.options(Path::new(source), Path::new(to))).unwrap();
    let stop = |call, nth| Plan {
        call,
        nth,
        count: 1,
        effect: Effect::Stop,
    };
    failpoint::arm(match nth.as_str() {
        // Where the second sync would be, that of all of it.
        "durable" => Some(stop(Some(Call::SyncData), 1)),
        nth => nth.parse().ok().map(|nth| stop(None, nth)),
    });
    let report = job.run().unwrap();
    let calls = failpoint::disarm();
    assert!(report.is_complete(), "{report:?}");
    say(&format!(
        "complete after {} calls, sync {}",
        calls.len(),
        report.sync.text()
    ));
}

/// What differs from the source, extra names aside.
fn differences(wanted: &Facts, to: &Path) -> Vec<String> {
    if !to.exists() {
        return vec!["everything".to_owned()];
    }
    let now = facts(to);
    wanted
        .iter()
        .filter(|(name, fact)| now.get(*name) != Some(fact))
        .map(|(name, _)| name.clone())
        .collect()
}

fn power(this: &str, kind: &str, sync: Durability, fill: fn(&Tree)) {
    if let Some(words) = order() {
        return child(&words);
    }
    let scratch = Scratch::new();
    let Some(disk) = Disk::new(&scratch, kind) else { return };
    let source = scratch.tree("source");
    fill(&source);
    let wanted = facts(source.path());
    let log = scratch.at("log");
    let words = |to: &Path, number: usize, nth: &str| {
        let path = |path: &Path| path.display().to_string();
        let words = ["copy".to_owned(), path(source.path()), path(to), number.to_string()];
        words
            .into_iter()
            .chain([sync.text().to_owned(), nth.to_owned()])
            .collect::<Vec<_>>()
    };
    // How many calls each of the four ways to copy makes.
    let calls: Vec<usize> = (0..4)
        .map(|number| {
            let to = disk.point.join("count");
            Cut::of(number, sync).prepare(&disk, &source, &to);
            let (code, text) = finish(again(this, &words(&to, number, "-"), &log), &log);
            assert_eq!(code, Some(0), "{text}");
            fs::remove_dir_all(&to).unwrap();
            disk.sync();
            let count = text.split("complete after ").nth(1).unwrap().split(' ').next().unwrap();
            count.parse().unwrap()
        })
        .collect();
    let mut wrong = Vec::new();
    let (mut completed, mut unfinished, mut mistaken) = (0, 0, 0);
    for number in 0..POINTS {
        let cut = Cut::of(number, sync);
        // From the first call to beyond the last; 7 and 30 share no factor, so that all kinds of cuts are everywhere.
        let nth = calls[number % 4] * (number * 7 % POINTS + 1) / (POINTS - 4);
        let to = disk.point.join(format!("to-{number}"));
        let before = cut.prepare(&disk, &source, &to);
        let mut child = again(this, &words(&to, number, &nth.to_string()), &log)
            .spawn()
            .unwrap();
        let midway = stopped(&mut child);
        disk.cut(cut.log);
        if midway {
            child.kill().unwrap();
        }
        child.wait().unwrap();
        let text = fs::read_to_string(&log).unwrap();
        disk.restore();
        let complete = text.contains("complete after");
        assert!(midway || complete, "{text}");
        completed += usize::from(complete);
        let mut tell = |what: String| wrong.push(format!("{cut:?} at call {nth}, completed: {complete}: {what}"));
        let after = if to.exists() { facts(&to) } else { Facts::new() };
        unfinished += usize::from(!differences(&wanted, &to).is_empty());
        // What replaced something was synced before.
        for (name, old) in before.iter().filter(|(name, _)| name.contains('/')) {
            let now = after.get(name);
            let fine = now.is_some_and(|now| now.same_content(old) || now.same_content(&wanted[name]));
            if sync != Durability::None && !fine {
                tell(format!("{name} is neither old nor new: {now:?}"));
            }
        }
        if complete && sync == Durability::All && !differences(&wanted, &to).is_empty() {
            tell(format!("lost after success: {:?}", differences(&wanted, &to)));
        }
        let report = copy::job(cut.options(source.path(), &to)).unwrap().run().unwrap();
        if !report.is_complete() {
            tell(format!("the next run failed: {:?}", report.failures));
        }
        let left = differences(&wanted, &to);
        if sync == Durability::None {
            // Nothing was promised, and that was said. The other ways of syncing are proved by what happens without them.
            assert!(midway || text.contains("sync none"), "{text}");
            mistaken += usize::from(!left.is_empty());
        } else if !left.is_empty() {
            tell(format!("taken for finished: {left:?}"));
        }
        if has_staging(&disk.point) {
            tell("the next run left something unfinished".to_owned());
        }
        if sync == Durability::All {
            disk.cut(false);
            disk.restore();
            let lost = differences(&wanted, &to);
            if !lost.is_empty() {
                tell(format!("lost after the next run: {lost:?}"));
            }
        }
        fs::remove_dir_all(&to).unwrap();
        // Or the next cut brings it back.
        disk.sync();
    }
    println!(
        "{POINTS} cuts on {kind} with sync {}: {completed} after the end, {unfinished} lost something, {mistaken} mistaken",
        sync.text()
    );
    assert!(unfinished > 0 && completed > 0, "no cut was where it matters");
    assert!(
        sync != Durability::None || mistaken > 0,
        "without a sync the next run was not misled, so the cuts prove nothing"
    );
    assert_none(&wrong);
}

#[test]
fn safe_on_ext4() {
    power("power::safe_on_ext4", "ext4", Durability::Safe, fill);
}

#[test]
fn safe_on_xfs() {
    power("power::safe_on_xfs", "xfs", Durability::Safe, fill);
}

#[test]
fn all_on_ext4() {
    power("power::all_on_ext4", "ext4", Durability::All, fill);
}

#[test]
fn all_on_xfs() {
    power("power::all_on_xfs", "xfs", Durability::All, fill);
}

#[test]
fn none_on_xfs() {
    power("power::none_on_xfs", "xfs", Durability::None, fill);
}

#[test]
fn big_on_ext4() {
    power("power::big_on_ext4", "ext4", Durability::Safe, fill_big);
}

#[test]
fn big_on_xfs() {
    power("power::big_on_xfs", "xfs", Durability::All, fill_big);
}

/// The power goes while a big file is copied: what was synced is gone on with, and nothing else of it is trusted.
#[test]
fn what_was_synced_is_gone_on_with() {
    const TEST: &str = "power::what_was_synced_is_gone_on_with";
    const SYNCED: u64 = 256 << 20;
    const SIZE: u64 = SYNCED + (48 << 20) + 5000;
    if let Some(words) = order() {
        return child(&words);
    }
    for kind in ["ext4", "xfs"] {
        for log in [false, true] {
            let scratch = Scratch::new();
            let Some(disk) = Disk::new(&scratch, kind) else { return };
            let source = scratch.tree("source");
            let file = fs::File::create(source.at("big")).unwrap();
            let block = content(3, 1 << 20);
            for at in (0..SIZE).step_by(block.len()) {
                let part = usize::try_from(SIZE - at).unwrap().min(block.len());
                // The last of it is a hole.
                if at < SYNCED + (40 << 20) {
                    file.write_all_at(&block[..part], at).unwrap();
                }
            }
            file.set_len(SIZE).unwrap();
            source.time("big", 1_500_000_000, 3);
            let to = disk.point.join("to");
            fs::create_dir(&to).unwrap();
            disk.sync();
            let path = |path: &Path| path.display().to_string();
            // Some records after the sync.
            let words = ["copy", &path(source.path()), &path(&to), "0", "safe", "durable"].map(str::to_owned);
            let text = scratch.at("log");
            let mut child = again(TEST, &words, &text).spawn().unwrap();
            assert!(stopped(&mut child), "{}", fs::read_to_string(&text).unwrap());
            disk.cut(log);
            child.kill().unwrap();
            child.wait().unwrap();
            disk.restore();
            let cut = Cut::of(0, Durability::Safe);
            let report = copy::job(cut.options(source.path(), &to)).unwrap().run().unwrap();
            let what = format!("{kind}, log written: {log}: {:?}", report.totals);
            assert!(report.is_complete(), "{what}");
            // Up to where it was when it was synced, and no further: that was not known to be there.
            let resumed = report.totals.resumed_bytes;
            assert!((SYNCED..SYNCED + (16 << 20)).contains(&resumed), "{what}");
            assert!(
                fs::read(to.join("big")).unwrap() == fs::read(source.at("big")).unwrap(),
                "{what}"
            );
            assert!(!has_staging(&disk.point), "{what}");
        }
    }
}

/// The rig can lose data: a plain copy that nobody synced is not there afterwards.
#[test]
fn a_plain_copy_is_lost() {
    for kind in ["ext4", "xfs"] {
        let scratch = Scratch::new();
        let Some(disk) = Disk::new(&scratch, kind) else { return };
        let source = scratch.tree("source");
        let wanted = content(7, 1 << 16);
        fs::write(source.at("file"), &wanted).unwrap();
        for log in [false, true] {
            let to = disk.point.join(format!("to-{log}"));
            fs::copy(source.at("file"), &to).unwrap();
            // At once: what has waited for half a minute the kernel writes by itself, and all of it for whoever calls sync(2).
            disk.cut(log);
            disk.restore();
            let there = fs::read(&to).unwrap_or_default();
            assert!(there != wanted, "{kind}, log written: {log}: nothing was lost");
        }
    }
}
