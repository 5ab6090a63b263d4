//! What a copy remembers for its end: links that wait, extra entries, entries that come late, what failed.
//!
//! State without deeds: those who fill it and those who take from it import it, and not each other. What grows with the trees
//! is bounded, or bounded by what is wrong with them.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhaul_formats::digest::xxh64;
use bulkhaul_formats::spelling::of_any_spelling;
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Follow, Identity, Kind, OwnedFd, Stat, Time};

use crate::copy::dir::{Dir, Twinned as _};
use crate::copy::entry::Original;
use crate::entry::Outcome;
use crate::error::{Cause, Fault, Operation, Side};
use crate::report::Withheld;
use crate::sweep::guard::Guard;
use crate::tree::listing::Batch;
use crate::tree::path::{join, show};
use crate::tree::spelling::TWO_FOR_ONE;
use crate::walk::scope::Subdirectory;
use crate::walk::start::Part;

/// Links that wait for the end of the walk, symbolic and hard ones.
#[derive(Default)]
pub struct Waiting {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    undecided: Vec<Undecided>,
    tracked: Vec<Tracked>,
    /// By a file of the source and one of a destination: digests of the names that both of them have, and those are all in
    /// `names`.
    shared: HashMap<(Original, Identity), HashSet<u64>>,
    names: usize,
}

/// A relative link that has not been made: which destination has its target? Or an entry of which the copy has several
/// names, and needs other metadata: are those all names of this file?
pub struct Undecided {
    /// Its directory, which is not closed before it is done.
    pub dir: Arc<Dir>,
    /// Which of the directory's sources has it.
    pub source: usize,
    /// Its name.
    pub target: CString,
    /// What it is.
    pub kind: Kind,
}

/// A relative link that was made and may dangle.
pub struct Tracked {
    /// The directory that holds it, in the source.
    pub source: Vec<u8>,
    /// The same in the destination, relative to its root.
    pub directory: Vec<u8>,
    /// Which destination.
    pub destination: usize,
    /// Its text.
    pub text: Vec<u8>,
}

impl Waiting {
    /// Puts off a link until all else is there.
    pub fn put_off(&self, link: Undecided) {
        lock(&self.inner).undecided.push(link);
    }

    /// Puts off an entry that has the name `target` in directory `at` of a destination, where it leads to `copy`. False: as
    /// many names as may be in memory wait already.
    pub fn put_off_shared(&self, link: Undecided, of: Original, copy: Identity, at: Identity, most: usize) -> bool {
        let mut inner = lock(&self.inner);
        if inner.names >= most {
            return false;
        }
        let name = [&at.dev.to_ne_bytes(), &at.ino.to_ne_bytes(), link.target.to_bytes()].concat();
        inner.names += 1;
        inner.shared.entry((of, copy)).or_default().insert(xxh64(&name));
        inner.undecided.push(link);
        true
    }

    /// How many names a file of a destination has that are names of this file of the source, among those that wait or have
    /// waited.
    pub fn shared(&self, of: Original, copy: Identity) -> usize {
        lock(&self.inner).shared.get(&(of, copy)).map_or(0, HashSet::len)
    }

    /// Remembers a link whose target may have to be copied.
    pub fn track(&self, link: Tracked) {
        lock(&self.inner).tracked.push(link);
    }

    /// The links that were put off.
    pub fn take_undecided(&self) -> Vec<Undecided> {
        std::mem::take(&mut lock(&self.inner).undecided)
    }

    /// The links whose targets may have to be copied.
    pub fn take_tracked(&self) -> Vec<Tracked> {
        std::mem::take(&mut lock(&self.inner).tracked)
    }
}

/// Extra entries of one directory of one destination.
pub struct Extras {
    /// The directory.
    pub dir: Arc<Dir>,
    /// Which destination.
    pub twin: usize,
    /// Their names there.
    pub entries: Vec<Batch>,
}

impl Extras {
    /// A single one.
    pub fn one(dir: &Arc<Dir>, twin: usize, name: &CStr, kind: Kind) -> Self {
        let mut batch = Batch::default();
        batch.push(name, kind);
        Self {
            dir: Arc::clone(dir),
            twin,
            entries: vec![batch],
        }
    }

    /// For the walk; none where there is no such directory.
    pub fn part(&self) -> Result<Option<Part>, Fault> {
        let (dir, twin) = (&self.dir, self.twin);
        let fault = |operation, errno| Fault::new(operation, Side::Destination(twin), errno);
        let Some(fd) = dir.twin(twin).map_err(|e| fault(Operation::Open, e))? else {
            return Ok(None);
        };
        let (stat, mount) = sys::stat_mounted(fd.as_fd()).map_err(|e| fault(Operation::Stat, e))?;
        Ok(Some(Part {
            fd,
            stat,
            mount,
            side: Side::Destination(twin),
            path: dir.twin_path(twin),
            relative_path: dir.relative_path(),
            twins: dir.source_paths(),
            entries: self.entries.clone(),
        }))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was allowed to go, for what is in the way of entries: it goes when they are about to get their names.
pub struct Leave {
    /// What stays nevertheless.
    pub guard: Guard,
    /// How many entries may still go.
    pub left: AtomicU64,
    /// Threads for what is in the way of one entry.
    pub workers: usize,
}

/// What the walk has found out for the sweep.
#[derive(Default)]
pub struct Surplus {
    found: Mutex<Vec<Extras>>,
    /// Entries that wait until extra ones have gone.
    lates: Mutex<Vec<Late>>,
    leave: Mutex<Option<Arc<Leave>>>,
    withheld: Mutex<Option<Withheld>>,
    /// The same, where that has kept anything.
    told: Mutex<Option<Withheld>>,
    /// Removing has begun.
    begun: AtomicBool,
    /// Where nothing could be made: the first such directory with extra entries, and how many there are.
    spared: Mutex<Option<(Vec<u8>, u64)>>,
    /// Directories that something was copied into through a symlink in the destination, and all above them.
    reached: Mutex<Guard>,
    /// Directories that were named as sources, and the number of the source: they must still hold something.
    arguments: Mutex<Vec<(Arc<Dir>, usize)>>,
}

impl Surplus {
    /// Nothing extra is to be removed any more, for this reason. The first one counts.
    pub fn withhold(&self, kind: &'static str, why: impl Display) {
        let mut withheld = lock(&self.withheld);
        let what = if self.begun.load(Ordering::Relaxed) {
            "no more"
        } else {
            "nothing"
        };
        withheld.get_or_insert_with(|| Withheld {
            kind,
            what: "extra",
            message: format!("{why}, so {what} extra was removed"),
        });
    }

    /// Where extra entries stay because nothing could be made beside them.
    pub fn spared(&self) -> Option<Withheld> {
        let spared = lock(&self.spared);
        spared.as_ref().map(|(path, count)| {
            let path = show(path);
            let others = match count - 1 {
                0 => String::new(),
                1 => " and in another directory".into(),
                more => format!(" and in {more} other directories"),
            };
            Withheld {
                kind: "failed",
                what: "extra",
                message: format!("nothing could be made in {path}{others}, so nothing extra was removed there"),
            }
        })
    }

    /// These stay because nothing could be made beside them.
    pub fn spare(&self, extras: &Extras) {
        let mut spared = lock(&self.spared);
        spared.get_or_insert_with(|| (extras.dir.twin_path(extras.twin), 0)).1 += 1;
    }

    /// The same, because a name in a destination stands for two.
    pub fn withhold_for_spelling(&self, dir: &Dir, twin: usize, name: &CStr) {
        let path = join(&dir.twin_path(twin), name.to_bytes());
        let path = show(&path);
        self.withhold("spelling", format!("{path} answers to another spelling too"));
    }

    /// Why extra entries stay, if there were any.
    pub fn withheld(&self) -> Option<Withheld> {
        lock(&self.told).clone()
    }

    /// Something is copied into this directory, which a symlink in the destination leads to: it is in use, whatever names
    /// it has there.
    pub fn keep_reached(&self, directory: OwnedFd) -> sys::Result<()> {
        lock(&self.reached).climb_from(directory, "in use", "above what is in use")
    }

    /// An entry waits for the sweep.
    pub fn put_off(&self, late: Late) {
        lock(&self.lates).push(late);
    }

    /// As rsync: an input/output error of a source makes all deletes unsafe; what is missing, vanished or changed does not. A listing
    /// that failed does on either side.
    pub fn heed(&self, fault: &Fault) {
        let of_source = fault.side == Side::Source
            && fault.outcome() == Outcome::Failed
            && !matches!(fault.cause, Cause::Missing(_));
        if of_source || fault.operation == Operation::List || matches!(fault.cause, Cause::Panic(_)) {
            self.withhold("failed", FAILED);
        }
    }

    /// Extra entries of a directory were found.
    pub fn add(&self, extras: Extras) {
        lock(&self.found).push(extras);
    }

    /// All that was found since the last time, and what waits for it.
    pub fn take(&self) -> (Vec<Extras>, Vec<Late>) {
        (
            std::mem::take(&mut *lock(&self.found)),
            std::mem::take(&mut *lock(&self.lates)),
        )
    }

    /// What is in the way of the entries that waited may go.
    pub fn allow(&self, leave: Leave) {
        *lock(&self.leave) = Some(Arc::new(leave));
    }

    /// What the last ones that waited may go by.
    pub fn leave(&self) -> Option<Arc<Leave>> {
        lock(&self.leave).clone()
    }

    /// A directory was named as a source, and is not empty.
    pub fn add_argument(&self, dir: &Arc<Dir>, source: usize) {
        lock(&self.arguments).push((Arc::clone(dir), source));
    }

    /// The directories that were named as sources.
    pub fn arguments(&self) -> Vec<(Arc<Dir>, usize)> {
        lock(&self.arguments).clone()
    }

    /// What is in use because a symlink in a destination led there.
    pub fn reached(&self) -> Guard {
        lock(&self.reached).clone()
    }

    /// Removing begins.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// What was to go has gone, or was withheld: that is told. What fails from here on withholds what is found later.
    pub fn settle(&self) {
        let withheld = lock(&self.withheld).clone();
        let mut told = lock(&self.told);
        *told = told.take().or(withheld);
    }

    /// Whether nothing extra is to be removed any more.
    pub fn is_withheld(&self) -> bool {
        lock(&self.withheld).is_some()
    }
}

/// Why nothing goes where anything failed before.
pub const FAILED: &str = "something failed";

/// Failed entries that are remembered, eight bytes each; where more failed, a move removes nothing.
const FAILED_KEPT: usize = 1 << 20;

/// The entries that failed, by digests of their paths below the destination: a collision leaves one entry more. Where the
/// destination takes two names for one, all that it takes for them stay: the one that arrived would be the only one that is
/// left of its source, and in the next run the other one would take its place.
#[derive(Default)]
pub struct Failed(Mutex<HashSet<u64>>);

/// Digests of paths, as [`Failed`] remembers them.
pub struct FailedPaths(HashSet<u64>);

impl FailedPaths {
    /// Whether what has this path failed, or is one with something that did.
    pub fn has(&self, path: impl FnOnce() -> Vec<u8>) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let path = path();
        self.0.contains(&xxh64(&path)) || self.0.contains(&FailedPaths::folded(&path))
    }

    /// What stands for all spellings of a path.
    fn folded(path: &[u8]) -> u64 {
        !of_any_spelling(path)
    }
}

impl Failed {
    fn set(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This one failed.
    pub fn insert(&self, path: &[u8], fault: &Fault) {
        let folds = matches!(fault.cause, Cause::Conflict(TWO_FOR_ONE));
        let mut set = self.set();
        if set.len() <= FAILED_KEPT {
            set.insert(if folds { FailedPaths::folded(path) } else { xxh64(path) });
        }
    }

    /// What has been remembered; `None` where that was too much.
    pub fn take(&self) -> Option<FailedPaths> {
        let set = std::mem::take(&mut *self.set());
        (set.len() <= FAILED_KEPT).then_some(FailedPaths(set))
    }
}

/// Inodes that this run itself changed and that may be of the sources: their change times since then, so that this change
/// is not taken for somebody else's. Those are entries that a move which died took aside, and that have their names back, no
/// more than that move had workers; and files of which another name was replaced in a destination.
#[derive(Default)]
pub struct Restored(Mutex<HashMap<Identity, Time>>);

impl Restored {
    fn inodes(&self) -> MutexGuard<'_, HashMap<Identity, Time>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them.
    pub fn take(&self) -> HashMap<Identity, Time> {
        std::mem::take(&mut *self.inodes())
    }

    /// An entry with this name in a directory of a source was put back.
    pub fn insert(&self, at: BorrowedFd<'_>, name: &CStr) -> sys::Result<()> {
        let now = sys::stat(at, name, Follow::No)?;
        self.inodes().insert(now.id, now.ctime);
        Ok(())
    }

    /// A name of an inode with several was replaced, which looked so `before`. What somebody else changed since `since` stays
    /// their change.
    pub fn replaced(&self, before: &Stat, now: &Stat, since: Time) {
        let mut inodes = self.inodes();
        if before.ctime <= since || inodes.get(&before.id) == Some(&before.ctime) {
            inodes.insert(now.id, now.ctime);
        }
    }
}

/// An entry that waits until it is known whether what is in its way may go.
pub struct Late {
    /// Its directory, which is not closed before it has come.
    pub dir: Arc<Dir>,
    /// Itself.
    pub coming: Coming,
    /// Destinations in which something is in the way, and what.
    pub blocked: Vec<(usize, Kind)>,
    /// Those of them in which it may go; in a dry run, in which it would go whole.
    pub clear: Vec<usize>,
}

/// What waits.
pub enum Coming {
    /// A subdirectory.
    Directory(Subdirectory),
    /// Anything else.
    Entry {
        /// Which of the directory's sources has it.
        source: usize,
        /// Its name in the destination.
        target: CString,
        /// What it is.
        kind: Kind,
    },
}

impl Late {
    /// Its name in the destination.
    pub fn target(&self) -> &CStr {
        match &self.coming {
            Coming::Directory(sub) => &sub.target,
            Coming::Entry { target, .. } => target,
        }
    }
}
