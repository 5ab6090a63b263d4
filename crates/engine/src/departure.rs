//! The second half of a move: each source entry goes whose copy is proved.
//!
//! Comes in: a copy that has ended, with everything synced; goes out: the sources without what arrived. The same trees are
//! walked once more, and nothing is written: each entry is compared with what has its name in the destination, read from
//! the medium, immediately before it is removed by the descriptor of its directory. So nothing has to be remembered of
//! what the copy did, and what it skipped is proved like the rest. Directories go when they are empty, after everything
//! in them.
//!
//! What stays: what failed in the copy, what a rule excludes, what another source overrode, what has changed since the
//! copy began (the change time tells, which nobody can set) or while it is compared, and what has appeared meanwhile.
//! Killed at any moment it leaves each entry in the source, in the destination, or in both.

use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bulkhaul_formats::digest::xxh64;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Identity, Kind, OwnedFd, Stat, Time};

use crate::act::Entry;
use crate::error::{Cause, Fault, Operation, Side};
use crate::options::Directories;
use crate::preflight::split;
use crate::probe;
use crate::regular::{Source, same_version};
use crate::report::{Counters, Outcome, Reason, Totals, Withheld};
use crate::transfer::Stopped;
use crate::tree::{Dir, Origin, Presence, Scope, c_string, join, open_directory_path};
use crate::worker::{Done, Worker};

/// Failed entries that are remembered, eight bytes each; where more failed, a move removes nothing.
const FAILED_KEPT: usize = 1 << 20;
/// Locks for inodes with several links: names of one inode are removed one after the other.
const INODE_LOCKS: usize = 64;

/// The entries that failed, by digests of their paths below the destination: a collision leaves one entry more.
#[derive(Default)]
pub struct Failed(Mutex<HashSet<u64>>);

impl Failed {
    fn set(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This one failed.
    pub fn insert(&self, path: &[u8]) {
        let mut set = self.set();
        if set.len() <= FAILED_KEPT {
            set.insert(xxh64(path));
        }
    }

    /// What has been remembered; `None` where that was too much.
    fn take(&self) -> Option<HashSet<u64>> {
        let set = std::mem::take(&mut *self.set());
        (set.len() <= FAILED_KEPT).then_some(set)
    }
}

/// A name of an inode has been removed, and others are there.
struct Left {
    /// Its change time since then: that change was ours.
    changed: Time,
    /// What it was proved equal to, and in which destination.
    proved: (usize, Identity),
}

/// What the second walk knows.
pub struct Departure {
    /// When the copy began.
    since: Time,
    failed: HashSet<u64>,
    inodes: Box<[Mutex<HashMap<Identity, Left>>]>,
}

/// This moment.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time {
        sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nsec: since.subsec_nanos(),
    }
}

impl Departure {
    /// After a copy that began at `since`; `None` where too much failed to remember.
    pub fn after(since: Time, failed: &Failed) -> Option<Self> {
        Some(Self {
            since,
            failed: failed.take()?,
            inodes: (0..INODE_LOCKS).map(|_| Mutex::default()).collect(),
        })
    }

    /// Whether this did not arrive.
    pub fn has_failed(&self, path: impl FnOnce() -> Vec<u8>) -> bool {
        !self.failed.is_empty() && self.failed.contains(&xxh64(&path()))
    }

    fn inode(&self, id: Identity) -> MutexGuard<'_, HashMap<Identity, Left>> {
        let lock = usize::try_from(id.ino % INODE_LOCKS as u64).unwrap_or_default();
        self.inodes[lock].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a move removed.
#[derive(Default)]
pub struct Departed {
    /// Entries that have gone.
    pub removed: u64,
    /// Entries that stay.
    pub kept: u64,
    /// The walk and its outcomes agree.
    pub accounted: bool,
    /// It was cancelled before it was through.
    pub interrupted: bool,
    /// Why nothing was begun.
    pub withheld: Option<Withheld>,
}

impl Departed {
    /// Nothing was begun.
    pub fn withheld(kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            accounted: true,
            withheld: Some(Withheld {
                kind,
                what: "sources",
                message: message.into(),
            }),
            ..Self::default()
        }
    }

    /// From the books of the second walk.
    pub fn of(counters: &[Counters], interrupted: bool) -> Self {
        let totals = Totals::of(counters);
        let removed = totals.outcome_of(Outcome::Removed);
        Self {
            removed,
            kept: totals.all_outcomes() - removed,
            accounted: interrupted || totals.all_found() == totals.all_outcomes(),
            interrupted,
            withheld: None,
        }
    }
}

/// How an entry of the destination compares.
enum Copy {
    /// It is the same: its inode.
    Same(Identity),
    Different,
    /// It is the very entry that is to go.
    Itself,
    Absent,
}

fn kept() -> Done {
    Done::new(Outcome::Skipped)
}

fn source_fault(operation: Operation) -> impl Fn(Errno) -> Fault {
    move |errno| Fault::new(operation, Side::Source, errno)
}

impl Worker<'_> {
    /// One entry that is not a directory: removed if it is proved.
    pub fn depart(&mut self, departure: &Departure, entry: &Entry<'_>, kind: Kind) -> Result<Option<Done>, Stopped> {
        let (dir, target) = (entry.dir, entry.target);
        let left_out = self.run.rules.directories == Directories::Only;
        if left_out || departure.has_failed(|| join(&dir.relative_path(), target.to_bytes())) {
            return Ok(Some(kept()));
        }
        let name = dir.sources[entry.source].scope.name_of(target).unwrap_or(target);
        let at = dir.source(entry.source).map_err(source_fault(Operation::Open))?;
        let stat = match sys::stat(at.as_fd(), name, Follow::No) {
            Ok(stat) => stat,
            // Somebody else took it away.
            Err(Errno::NOENT) => return Ok(Some(kept())),
            Err(errno) => return Err(source_fault(Operation::Stat)(errno).into()),
        };
        if stat.kind != kind {
            return Err(Fault::changed(Operation::Remove).into());
        }
        let mut inode = departure.inode(stat.id);
        if stat.nlink < 2 {
            let before = inode.remove(&stat.id);
            drop(inode);
            return self
                .depart_from(departure, entry, &at, name, &stat, before)
                .map(|(done, _)| Some(done));
        }
        // Whoever held the lock may have removed another name.
        let stat = sys::stat(at.as_fd(), name, Follow::No).map_err(source_fault(Operation::Stat))?;
        let before = inode.remove(&stat.id);
        let (done, left) = self.depart_from(departure, entry, &at, name, &stat, before)?;
        inode.extend(left.map(|left| (stat.id, left)));
        Ok(Some(done))
    }

    /// The same; `before`: of an inode that had more links. Answers what is to be remembered of it.
    fn depart_from(
        &mut self,
        departure: &Departure,
        entry: &Entry<'_>,
        at: &OwnedFd,
        name: &CStr,
        stat: &Stat,
        before: Option<Left>,
    ) -> Result<(Done, Option<Left>), Stopped> {
        let changed = match &before {
            Some(before) => before.changed != stat.ctime,
            None => stat.ctime > departure.since,
        };
        let proved = before.as_ref().map(|before| before.proved);
        let file = match stat.kind {
            Kind::File => Some(sys::open_file(at.as_fd(), name).map_err(source_fault(Operation::Open))?),
            _ => None,
        };
        if let Some(file) = &file {
            let opened = sys::stat_fd(file.as_fd()).map_err(source_fault(Operation::Stat))?;
            if opened.id != stat.id || !same_version(&opened, stat) {
                return Err(Fault::changed(Operation::Remove).into());
            }
        }
        let mut found = Copy::Absent;
        let mut place = 0;
        for index in 0..entry.dir.twins.len() {
            let known = proved.filter(|(twin, _)| *twin == index).map(|(_, id)| id);
            match self.copy_in(entry, index, at, name, stat, file.as_ref(), known)? {
                Copy::Absent => {}
                other => {
                    found = other;
                    place = index;
                }
            }
            if matches!(found, Copy::Same(_) | Copy::Itself) {
                break;
            }
        }
        let stays = |cause| Fault {
            operation: Operation::Remove,
            side: Side::Source,
            cause,
        };
        let id = match found {
            Copy::Same(id) if !changed => id,
            Copy::Itself => return Ok((kept(), before)),
            Copy::Absent if changed => {
                self.run.desk.note("late", || {
                    let path = join(&entry.dir.source_path(entry.source), name.to_bytes());
                    (path, "it came after the copy began, so it stays in the source".into())
                });
                return Ok((kept(), before));
            }
            Copy::Same(_) | Copy::Different if changed => return Err(stays(Cause::Changed).into()),
            Copy::Absent => {
                return Err(stays(Cause::Conflict("its copy is not in the destination, so it stays")).into());
            }
            Copy::Same(_) | Copy::Different => return Err(stays(Cause::Mismatch).into()),
        };
        // The last look: by name, and by descriptor where there is one.
        let last = sys::stat(at.as_fd(), name, Follow::No).map_err(source_fault(Operation::Stat))?;
        if last.id != stat.id || last.kind != stat.kind || !same_version(&last, stat) {
            return Err(Fault::changed(Operation::Remove).into());
        }
        sys::unlink(at.as_fd(), name).map_err(source_fault(Operation::Remove))?;
        // Where nothing can be told of it, its other names count as changed, and stay.
        let now = file
            .filter(|_| stat.nlink > 1)
            .and_then(|file| sys::stat_fd(file.as_fd()).ok());
        let left = now.filter(|now| now.nlink > 0).map(|now| Left {
            changed: now.ctime,
            proved: (place, id),
        });
        Ok((Done::new(Outcome::Removed), left))
    }

    /// Compares a source entry with what has its name in destination `index`. `known`: an inode that it is equal to.
    #[allow(clippy::too_many_arguments, reason = "both sides of one comparison")]
    fn copy_in(
        &mut self,
        entry: &Entry<'_>,
        index: usize,
        at: &OwnedFd,
        name: &CStr,
        stat: &Stat,
        file: Option<&OwnedFd>,
        known: Option<Identity>,
    ) -> Result<Copy, Stopped> {
        let fault = |operation| move |errno| Fault::new(operation, Side::Destination(index), errno);
        let Some(twin) = entry.dir.twin(index).map_err(fault(Operation::Open))? else {
            return Ok(Copy::Absent);
        };
        let look = || match sys::stat(twin.as_fd(), entry.target, Follow::No) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(fault(Operation::Stat)(errno)),
        };
        let Some(found) = look()? else {
            return Ok(Copy::Absent);
        };
        if found.id == stat.id {
            return Ok(Copy::Itself);
        }
        if found.kind != stat.kind {
            return Ok(Copy::Different);
        }
        let same = match (stat.kind, file) {
            (Kind::File, Some(_)) if known == Some(found.id) => true,
            (Kind::File, Some(_)) => {
                let source = Source { at, name, file };
                found.size == stat.size && self.same_content(entry, source, stat, index)?.is_some()
            }
            (Kind::Symlink, _) => {
                let text = sys::read_link(at.as_fd(), name).map_err(source_fault(Operation::Read))?;
                probe::same_link(&text, twin.as_fd(), entry.target, index)?
            }
            (Kind::Block | Kind::Char, _) => found.rdev == stat.rdev,
            (Kind::Fifo | Kind::Socket, _) => true,
            _ => false,
        };
        // What was compared must be what the name leads to.
        let after = look()?;
        let same = same && after.is_some_and(|after| after.id == found.id && same_version(&after, &found));
        Ok(if same { Copy::Same(found.id) } else { Copy::Different })
    }

    /// A directory whose children are done: removed from each of its sources where it is empty.
    pub fn depart_directory(&mut self, departure: &Departure, dir: &Arc<Dir>) {
        let arrived = dir
            .twins
            .iter()
            .flatten()
            .any(|twin| matches!(twin.presence, Presence::Existing(_)));
        let mut removed = 0;
        let mut whole = 0;
        if arrived && !departure.has_failed(|| dir.relative_path()) {
            for source in 0..dir.sources.len() {
                if !matches!(dir.sources[source].scope, Scope::Whole) {
                    continue;
                }
                whole += 1;
                match self.remove_source_directory(dir, source) {
                    Ok(true) => removed += 1,
                    Ok(false) => {}
                    Err(fault) => self.fail_directory(dir, source, &fault),
                }
            }
        }
        if dir.is_entry && !dir.recorded.swap(true, std::sync::atomic::Ordering::AcqRel) {
            let outcome = if removed > 0 && removed == whole {
                Outcome::Removed
            } else {
                Outcome::Skipped
            };
            self.counters.outcome(Kind::Directory, outcome, None::<Reason>, 0);
        }
    }

    /// Whether it has gone.
    fn remove_source_directory(&self, dir: &Dir, source: usize) -> Result<bool, Fault> {
        let id = dir.sources[source].slot.id();
        let here = sys::stat(sys::current_directory(), c".", Follow::No).map_err(source_fault(Operation::Stat))?;
        if here.id == id {
            self.run.desk.note("working-directory", || {
                (dir.source_path(source), "the working directory stays".into())
            });
            return Ok(false);
        }
        let (at, name) = match (&dir.sources[source].origin, &dir.parent) {
            (Origin::Name { parent, name }, Some(above)) => (
                above.source(*parent).map_err(source_fault(Operation::Open))?,
                name.clone(),
            ),
            (Origin::Path(path), _) => {
                let (above, name) = split(path);
                if matches!(name, b"" | b"." | b"..") {
                    return Ok(false);
                }
                let at = open_directory_path(above, Follow::Yes).map_err(source_fault(Operation::Open))?;
                (Arc::new(at), c_string(name).map_err(source_fault(Operation::Open))?)
            }
            (Origin::Name { .. }, None) => return Ok(false),
        };
        match sys::stat(at.as_fd(), &name, Follow::No) {
            // A link that was followed stays as well.
            Ok(now) if now.id != id || now.kind != Kind::Directory => return Ok(false),
            Ok(_) => {}
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(source_fault(Operation::Stat)(errno)),
        }
        match sys::remove_directory(at.as_fd(), &name) {
            Ok(()) => Ok(true),
            // Something stays in it, or it is where something is mounted.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY) => Ok(false),
            Err(errno) => Err(source_fault(Operation::Remove)(errno)),
        }
    }
}
