//! Extra entries: what is in a directory of the destination and in none of the sources that were copied into it.
//!
//! Comes in: the names that the listings of a directory's sources gave; goes out, when all sources are done: the removal
//! of what the destination has besides. What is extra is decided while the sources are listed, against all of them, and
//! only in directories that stand for source directories as wholes. Nothing is removed until everything is listed. Then
//! it is all or nothing: a failure to list, a source that is missing, empty, or not where it was, the limit, or a no of
//! whoever is asked keep every entry; so does a file system that takes two spellings for one name. Each directory with extra entries is closed after they have gone, so its times are
//! those of the source.
//!
//! Never removed: what exclude rules name, unfinished entries of live runs and other hosts, mounts and what lies below
//! them, and directories that hold a source, a destination or the working directory. A directory that holds such a thing
//! stays too. Names are reached by the descriptor of the directory that holds them, and no link is followed.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bulkhaul_formats::digest::xxh64;
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow, Identity, Kind, OwnedFd};

use crate::copy::{Run, Task};
use crate::error::{Cause, Fault, Operation, Side};
use crate::event::{VICTIMS_SHOWN, Victims};
use crate::publish::Owner;
use crate::report::{Outcome, Reason, Withheld};
use crate::tree::{Dir, Origin, Presence, Scope, c_string, join};
use crate::worker::{Done, Worker};

/// Depth from which on the directories above the current one are closed and found again by `..`.
const OPEN_LEVELS: usize = 2;

/// Extra entries of one directory of one destination.
pub struct Extras {
    dir: Arc<Dir>,
    twin: usize,
    /// Names, each ended by NUL.
    names: Vec<u8>,
}

impl Extras {
    fn names(&self) -> impl Iterator<Item = &CStr> {
        let ended = self.names.split_inclusive(|b| *b == 0);
        ended.filter_map(|name| CStr::from_bytes_with_nul(name).ok())
    }
}

/// What the walk has found out for the sweep.
#[derive(Default)]
pub struct Surplus {
    found: Mutex<Vec<Extras>>,
    withheld: Mutex<Option<Withheld>>,
    /// Entries of the destinations that were looked at.
    listed: AtomicU64,
    /// Directories that were named as sources, and the number of the source: they must still hold something.
    arguments: Mutex<Vec<(Arc<Dir>, usize)>>,
    /// Inodes that hold a source, a destination or the working directory, or are one.
    protected: Mutex<HashSet<Identity>>,
}

impl Surplus {
    /// Nothing extra is to be removed any more. The first reason counts.
    pub fn withhold(&self, kind: &'static str, message: impl Into<String>) {
        let mut withheld = self.withheld.lock().unwrap_or_else(PoisonError::into_inner);
        withheld.get_or_insert_with(|| Withheld {
            kind,
            what: "extra",
            message: message.into(),
        });
    }

    /// Why extra entries stay, if there were any.
    pub fn withheld(&self) -> Option<Withheld> {
        self.withheld.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As rsync: an input/output error of a source makes all deletes unsafe; what vanished or changed does not. A listing
    /// that failed does on either side.
    pub fn heed(&self, fault: &Fault) {
        let of_source = fault.side == Side::Source && fault.outcome() == Outcome::Failed;
        if of_source || fault.operation == Operation::List || matches!(fault.cause, Cause::Panic(_)) {
            self.withhold("failed", "something failed, so nothing extra was removed");
        }
    }

    fn is_withheld(&self) -> bool {
        self.withheld.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// What became of a name that the sweep came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Gone,
    /// It would go, but nothing is removed now.
    WouldGo,
    Stays,
}

/// What a visit is about.
struct Visit<'v> {
    at: BorrowedFd<'v>,
    name: &'v CStr,
    kind: Kind,
    /// Path below the directory that was swept.
    path: &'v [u8],
    /// A directory that holds something that stays.
    holds: bool,
}

/// One directory on the way down.
struct Level {
    fd: Option<Arc<OwnedFd>>,
    id: Identity,
    mount: Option<u64>,
    name: CString,
    /// Its path below the directory that was swept.
    path: Vec<u8>,
    below: Vec<CString>,
    holds: bool,
    /// Something of it has gone since it was listed.
    moved: bool,
}

/// Whether a name with its letters' case turned leads to the same entry: a file system that does not tell them apart shows
/// names in another spelling than the source's.
fn has_two_spellings(at: BorrowedFd<'_>, name: &CStr) -> sys::Result<bool> {
    let turn = |b: &u8| if b.is_ascii_alphabetic() { b ^ 0x20 } else { *b };
    let turned: Vec<u8> = name.to_bytes().iter().map(turn).collect();
    if turned == name.to_bytes() {
        return Ok(false);
    }
    let id = |name: &CStr| match sys::stat(at, name, Follow::No) {
        Ok(stat) => Ok(Some(stat.id)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    };
    let other = id(&c_string(&turned)?)?;
    Ok(other.is_some() && other == id(name)?)
}

fn mount_of(fd: BorrowedFd<'_>) -> sys::Result<Option<u64>> {
    match sys::mount_id(fd) {
        Ok(id) => Ok(Some(id)),
        Err(Errno::NOSYS) => Ok(None),
        Err(errno) => Err(errno),
    }
}

impl Worker<'_> {
    /// A directory whose sources have all been listed: what its twins have besides waits for the sweep.
    pub fn note_extras(&mut self, dir: &Arc<Dir>) {
        let mut seen = std::mem::take(&mut self.seen);
        if self.run.rules.remove_extra && is_mirror(dir) && !self.run.desk.cancel.is_draining() {
            seen.sort_unstable();
            for twin in 0..dir.twins.len() {
                if let Err(fault) = self.find_extras(dir, twin, &seen) {
                    self.fail_directory(dir, dir.winner(), &fault);
                }
            }
        }
        seen.clear();
        self.seen = seen;
    }

    /// A source that was listed, and how many names it gave. One that was named as an argument must not be empty.
    pub fn note_listed(&self, dir: &Arc<Dir>, source: usize, names: usize) {
        if !self.run.rules.remove_extra || !is_argument(dir, source) || self.run.desk.cancel.is_draining() {
            return;
        }
        let surplus = &self.run.surplus;
        if names == 0 {
            let path = String::from_utf8_lossy(&dir.source_path(source)).into_owned();
            surplus.withhold("empty-source", format!("{path} is empty, so nothing extra was removed"));
        } else {
            let mut arguments = surplus.arguments.lock().unwrap_or_else(PoisonError::into_inner);
            arguments.push((Arc::clone(dir), source));
        }
    }

    fn find_extras(&mut self, dir: &Arc<Dir>, twin: usize, seen: &[u64]) -> Result<(), Fault> {
        let fault = |operation, errno| Fault::new(operation, Side::Destination(twin), errno);
        if !matches!(&dir.twins[twin], Some(t) if matches!(t.presence, Presence::Existing(_))) {
            return Ok(());
        }
        let Some(fd) = dir.twin(twin).map_err(|e| fault(Operation::Open, e))? else {
            return Ok(());
        };
        let (mut names, mut listed) = (Vec::new(), 0);
        sys::rewind_directory(fd.as_fd()).map_err(|e| fault(Operation::List, e))?;
        let mut found: Vec<(CString, Kind)> = Vec::new();
        let mut more = true;
        while more {
            more = sys::read_directory(fd.as_fd(), self.listing.spare_capacity_mut(), |name, kind, _| {
                if self.run.stager.owner(name.to_bytes()).is_none() {
                    listed += 1;
                    if seen.binary_search(&xxh64(name.to_bytes())).is_err() {
                        found.push((name.to_owned(), kind));
                    }
                }
            })
            .map_err(|e| fault(Operation::List, e))?;
            for (name, kind) in found.drain(..) {
                let kind = match kind {
                    Kind::Unknown => match sys::stat(fd.as_fd(), &name, Follow::No) {
                        Ok(stat) => stat.kind,
                        Err(Errno::NOENT) => continue,
                        Err(errno) => return Err(fault(Operation::Stat, errno)),
                    },
                    kind => kind,
                };
                if self.protects(dir, twin, name.to_bytes(), kind) {
                    continue;
                }
                if has_two_spellings(fd.as_fd(), &name).map_err(|e| fault(Operation::Stat, e))? {
                    // It may be what was just copied.
                    let path = String::from_utf8_lossy(&join(&dir.twin_path(twin), name.to_bytes())).into_owned();
                    let message = format!("{path} answers to another spelling too, so nothing extra was removed");
                    self.run.surplus.withhold("spelling", message);
                }
                names.extend_from_slice(name.to_bytes_with_nul());
            }
        }
        self.run.surplus.listed.fetch_add(listed, Ordering::Relaxed);
        if !names.is_empty() {
            // Not closed before they are gone: the directory's times come after that.
            dir.pending.fetch_add(1, Ordering::AcqRel);
            let extras = Extras {
                dir: Arc::clone(dir),
                twin,
                names,
            };
            let mut found = self.run.surplus.found.lock().unwrap_or_else(PoisonError::into_inner);
            found.push(extras);
        }
        Ok(())
    }

    /// Whether exclude rules keep an entry of the destination: `path` is its path below the twin. hpcp's rules are about
    /// full paths, on either side.
    fn protects(&self, dir: &Dir, twin: usize, path: &[u8], kind: Kind) -> bool {
        let Some((style, filter)) = &self.run.rules.filter else {
            return false;
        };
        let (above, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(cut) => (&path[..cut], &path[cut + 1..]),
            None => (&path[..0], path),
        };
        let below = |base: Vec<u8>| if above.is_empty() { base } else { join(&base, above) };
        let named = |parent: &[u8]| filter.excludes(parent, name, kind == Kind::Directory);
        match style {
            crate::FilterStyle::Rsync => named(&below(dir.relative_path())),
            crate::FilterStyle::Fnmatch => {
                let bases = (0..dir.sources.len())
                    .map(|s| dir.source_path(s))
                    .chain([dir.twin_path(twin)]);
                bases
                    .map(|base| join(&self.run.working_directory, &base))
                    .any(|base| named(&below(base)))
            }
        }
    }

    /// The extra entries of a directory go, or not; then it is closed.
    pub fn sweep(&mut self, extras: &Extras, go: bool) {
        let dir = &extras.dir;
        let go = go && !self.run.surplus.is_withheld() && !self.run.desk.cancel.is_draining();
        let removed = if go { self.remove_extras(extras) } else { Ok(()) };
        if let Err(fault) = removed {
            self.fail_directory(dir, dir.winner(), &fault);
        }
        self.child_done(dir);
    }

    fn remove_extras(&mut self, extras: &Extras) -> Result<(), Fault> {
        let (dir, twin) = (&extras.dir, extras.twin);
        let fault = |operation, errno| Fault::new(operation, Side::Destination(twin), errno);
        for source in 0..dir.sources.len() {
            dir.source_anew(source)
                .map_err(|e| Fault::new(Operation::Open, Side::Source, e))?;
        }
        let Some(fd) = dir.twin(twin).map_err(|e| fault(Operation::Open, e))? else {
            return Ok(());
        };
        let dry = self.run.rules.dry_run;
        for name in extras.names() {
            if self.run.desk.cancel.is_draining() || self.run.surplus.is_withheld() {
                return Ok(());
            }
            self.each_extra(dir, twin, &fd, name, &mut |worker, visit| {
                worker.counters.extra();
                let done = if visit.holds {
                    Ok(Done::skipped(Reason::NotEmpty))
                } else if dry {
                    Ok(Done::new(Outcome::Removed))
                } else if visit.kind == Kind::Directory {
                    match sys::remove_directory(visit.at, visit.name) {
                        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY) => Ok(Done::skipped(Reason::NotEmpty)),
                        Err(Errno::NOENT) | Ok(()) => Ok(Done::new(Outcome::Removed)),
                        Err(errno) => Err(fault(Operation::Remove, errno)),
                    }
                } else {
                    match sys::unlink(visit.at, visit.name) {
                        Err(Errno::NOENT) | Ok(()) => Ok(Done::new(Outcome::Removed)),
                        Err(errno) => Err(fault(Operation::Remove, errno)),
                    }
                };
                worker.record_extra(dir, twin, &visit, done)
            })?;
        }
        Ok(())
    }

    /// The recorder of extra entries.
    fn record_extra(&mut self, dir: &Arc<Dir>, twin: usize, visit: &Visit<'_>, result: Result<Done, Fault>) -> Fate {
        match result {
            Ok(done) => {
                self.counters.extra_outcome(done.outcome, done.reason);
                let gone = done.outcome == Outcome::Removed;
                self.tell_path(dir, [(dir.winner(), visit.path), (twin, visit.path)], visit.kind, &done);
                match gone {
                    true if self.run.rules.dry_run => Fate::WouldGo,
                    true => Fate::Gone,
                    false => Fate::Stays,
                }
            }
            Err(fault) => {
                self.counters.extra_outcome(fault.outcome(), None);
                self.fail(&fault, join(&dir.twin_path(twin), visit.path), visit.kind);
                Fate::Stays
            }
        }
    }

    /// Visits an extra entry and everything below it, children first. Depth is neither stack nor open descriptors.
    fn each_extra(
        &mut self,
        dir: &Arc<Dir>,
        twin: usize,
        fd: &Arc<OwnedFd>,
        name: &CStr,
        visit: &mut dyn FnMut(&mut Self, Visit<'_>) -> Fate,
    ) -> Result<(), Fault> {
        let fault = |operation, errno| Fault::new(operation, Side::Destination(twin), errno);
        let base = sys::stat_fd(fd.as_fd()).map_err(|e| fault(Operation::Stat, e))?;
        let kind = match sys::stat(fd.as_fd(), name, Follow::No) {
            Ok(stat) => stat.kind,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(fault(Operation::Stat, errno)),
        };
        if kind != Kind::Directory {
            visit(
                self,
                Visit {
                    at: fd.as_fd(),
                    name,
                    kind,
                    path: name.to_bytes(),
                    holds: false,
                },
            );
            return Ok(());
        }
        // The first level stands for the swept directory itself.
        let mut levels = vec![Level {
            fd: Some(Arc::clone(fd)),
            id: base.id,
            mount: mount_of(fd.as_fd()).map_err(|e| fault(Operation::Stat, e))?,
            name: CString::default(),
            path: Vec::new(),
            below: vec![name.to_owned()],
            holds: false,
            moved: false,
        }];
        loop {
            let depth = levels.len() - 1;
            let next = levels[depth].below.pop();
            if let Some(name) = next.filter(|_| !self.run.desk.cancel.is_draining()) {
                match self.enter_extra(&levels[depth], &name, twin)? {
                    Some(mut level) => {
                        self.list_extra(dir, twin, &mut level, visit)?;
                        if depth > OPEN_LEVELS {
                            levels[depth].fd = None;
                        }
                        levels.push(level);
                    }
                    None => levels[depth].holds = true,
                }
                continue;
            }
            let Some(mut level) = levels.pop().filter(|_| depth > 0) else {
                return Ok(());
            };
            let parent = &mut levels[depth - 1];
            let own = level.fd.take().ok_or_else(|| fault(Operation::Open, Errno::STALE))?;
            if parent.fd.is_none() {
                let up = sys::open_directory(own.as_fd(), c"..", Follow::No).map_err(|e| fault(Operation::Open, e))?;
                let id = sys::stat_fd(up.as_fd()).map_err(|e| fault(Operation::Stat, e))?.id;
                if id != parent.id {
                    return Err(fault(Operation::Open, Errno::STALE));
                }
                parent.fd = Some(Arc::new(up));
            }
            if self.run.desk.cancel.is_draining() {
                continue;
            }
            let at = parent.fd.as_ref().ok_or_else(|| fault(Operation::Open, Errno::STALE))?;
            if level.moved && !level.holds && !is_empty(&own).map_err(|e| fault(Operation::List, e))? {
                // It filled again, or a network file system left a name: once more.
                level.moved = false;
                level.fd = Some(own);
                self.list_extra(dir, twin, &mut level, visit)?;
                levels.push(level);
                continue;
            }
            let fate = visit(
                self,
                Visit {
                    at: at.as_fd(),
                    name: &level.name,
                    kind: Kind::Directory,
                    path: &level.path,
                    holds: level.holds,
                },
            );
            parent.holds |= fate == Fate::Stays;
            parent.moved |= fate == Fate::Gone;
        }
    }

    /// Opens an extra directory. `None`: it is not to be entered.
    fn enter_extra(&self, above: &Level, name: &CStr, twin: usize) -> Result<Option<Level>, Fault> {
        let fault = |operation, errno| Fault::new(operation, Side::Destination(twin), errno);
        let at = above.fd.as_ref().ok_or_else(|| fault(Operation::Open, Errno::STALE))?;
        let fd = match sys::open_directory(at.as_fd(), name, Follow::No) {
            Ok(fd) => fd,
            // Somebody was faster, or put something else there.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(fault(Operation::Open, errno)),
        };
        let id = sys::stat_fd(fd.as_fd()).map_err(|e| fault(Operation::Stat, e))?.id;
        let mount = mount_of(fd.as_fd()).map_err(|e| fault(Operation::Stat, e))?;
        let path = join(&above.path, name.to_bytes());
        let protected = self
            .run
            .surplus
            .protected
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if id.dev != above.id.dev || mount != above.mount || protected.contains(&id) {
            return Ok(None);
        }
        Ok(Some(Level {
            fd: Some(Arc::new(fd)),
            id,
            mount,
            name: name.to_owned(),
            path,
            below: Vec::new(),
            holds: false,
            moved: false,
        }))
    }

    /// Visits what an extra directory holds; directories are remembered.
    fn list_extra(
        &mut self,
        dir: &Arc<Dir>,
        twin: usize,
        level: &mut Level,
        visit: &mut dyn FnMut(&mut Self, Visit<'_>) -> Fate,
    ) -> Result<(), Fault> {
        let fault = |operation, errno| Fault::new(operation, Side::Destination(twin), errno);
        let fd = level.fd.clone().ok_or_else(|| fault(Operation::Open, Errno::STALE))?;
        sys::rewind_directory(fd.as_fd()).map_err(|e| fault(Operation::List, e))?;
        let mut more = true;
        while more && !self.run.desk.cancel.is_draining() {
            let mut found: Vec<(CString, Kind)> = Vec::new();
            more = sys::read_directory(fd.as_fd(), self.listing.spare_capacity_mut(), |name, kind, _| {
                found.push((name.to_owned(), kind));
            })
            .map_err(|e| fault(Operation::List, e))?;
            for (name, kind) in found {
                let kind = match kind {
                    Kind::Unknown => match sys::stat(fd.as_fd(), &name, Follow::No) {
                        Ok(stat) => stat.kind,
                        Err(Errno::NOENT) => continue,
                        Err(errno) => return Err(fault(Operation::Stat, errno)),
                    },
                    kind => kind,
                };
                let path = join(&level.path, name.to_bytes());
                let held = matches!(
                    self.run.stager.owner(name.to_bytes()),
                    Some(Owner::Live | Owner::Foreign)
                );
                if held || self.protects(dir, twin, &path, kind) {
                    level.holds = true;
                } else if kind == Kind::Directory {
                    level.below.push(name);
                } else {
                    let fate = visit(
                        self,
                        Visit {
                            at: fd.as_fd(),
                            name: &name,
                            kind,
                            path: &path,
                            holds: false,
                        },
                    );
                    level.holds |= fate == Fate::Stays;
                    level.moved |= fate == Fate::Gone;
                }
            }
        }
        Ok(())
    }

    /// Counts what would go.
    fn count_extras(&mut self, extras: &Extras, victims: &mut Victims) -> Result<(), Fault> {
        let (dir, twin) = (&extras.dir, extras.twin);
        let fault = |operation, errno| Fault::new(operation, Side::Destination(twin), errno);
        let Some(fd) = dir.twin(twin).map_err(|e| fault(Operation::Open, e))? else {
            return Ok(());
        };
        let sized = self.run.rules.confirm;
        let mut wrong = None;
        for name in extras.names() {
            self.each_extra(dir, twin, &fd, name, &mut |_, visit| {
                if visit.holds {
                    return Fate::Stays;
                }
                victims.entries += 1;
                if sized && victims.first.len() < VICTIMS_SHOWN {
                    victims.first.push(join(&dir.twin_path(twin), visit.path));
                }
                if sized && visit.kind == Kind::File {
                    match sys::stat(visit.at, visit.name, Follow::No) {
                        Ok(stat) => victims.bytes += stat.size,
                        Err(Errno::NOENT) => {}
                        Err(errno) => wrong = Some(fault(Operation::Stat, errno)),
                    }
                }
                Fate::WouldGo
            })?;
        }
        dir.put_down();
        wrong.map_or(Ok(()), Err)
    }
}

fn is_empty(directory: &OwnedFd) -> sys::Result<bool> {
    let mut buffer = [const { std::mem::MaybeUninit::uninit() }; 4096];
    let mut empty = true;
    sys::rewind_directory(directory.as_fd())?;
    sys::read_directory(directory.as_fd(), &mut buffer, |_, _, _| empty = false)?;
    Ok(empty)
}

/// Whether a directory stands for source directories as wholes: only then can anything in its twins be extra.
fn is_mirror(dir: &Dir) -> bool {
    let mut scopes = dir.sources.iter().map(|source| &source.scope);
    let known = scopes
        .clone()
        .all(|scope| matches!(scope, Scope::Whole | Scope::Names(_)));
    known && scopes.any(|scope| matches!(scope, Scope::Whole))
}

/// Whether a source of a directory is an argument itself.
fn is_argument(dir: &Dir, source: usize) -> bool {
    let source = &dir.sources[source];
    if !matches!(source.scope, Scope::Whole) {
        return false;
    }
    match (&source.origin, &dir.parent) {
        (Origin::Name { parent, .. }, Some(above)) => matches!(above.sources[*parent].scope, Scope::Names(_)),
        _ => true,
    }
}

/// All sources are done: decides about the extra entries, and has them removed or left. Every directory that waits for
/// that is closed in either case.
pub fn sweep(run: &Run, root: &Dir) {
    let found = std::mem::take(&mut *run.surplus.found.lock().unwrap_or_else(PoisonError::into_inner));
    if found.is_empty() {
        // There was nothing to withhold.
        *run.surplus.withheld.lock().unwrap_or_else(PoisonError::into_inner) = None;
        return;
    }
    run.desk.enter(crate::job::Phase::Sweeping);
    let go = decide(run, root, &found);
    for extras in found {
        run.schedule.push(Task::Sweep(extras, go));
    }
    run.drive();
}

fn decide(run: &Run, root: &Dir, found: &[Extras]) -> bool {
    let surplus = &run.surplus;
    if run.desk.cancel.is_draining() {
        surplus.withhold("interrupted", "interrupted, so nothing extra was removed");
    }
    if surplus.is_withheld() {
        return false;
    }
    let gone = |path: Vec<u8>, why: String| {
        let path = String::from_utf8_lossy(&path).into_owned();
        surplus.withhold("source-gone", format!("{path}: {why}, so nothing extra was removed"));
        false
    };
    let arguments = std::mem::take(&mut *surplus.arguments.lock().unwrap_or_else(PoisonError::into_inner));
    for (dir, source) in &arguments {
        match dir.source_anew(*source).and_then(|fd| is_empty(&fd)) {
            Ok(false) => {}
            Ok(true) => return gone(dir.source_path(*source), "it has been emptied".into()),
            Err(errno) => return gone(dir.source_path(*source), crate::error::describe(errno)),
        }
    }
    for extras in found {
        for source in 0..extras.dir.sources.len() {
            if let Err(errno) = extras.dir.source_anew(source) {
                return gone(extras.dir.source_path(source), crate::error::describe(errno));
            }
        }
    }
    let mut worker = Worker::new(run, &run.counters[0]);
    match protected(run, root) {
        Ok(ids) => *surplus.protected.lock().unwrap_or_else(PoisonError::into_inner) = ids,
        Err(errno) => {
            let why = crate::error::describe(errno);
            surplus.withhold(
                "failed",
                format!("what must stay can't be told ({why}), so nothing extra was removed"),
            );
            return false;
        }
    }
    let mut victims = Victims {
        what: "extra",
        ..Victims::default()
    };
    for extras in found {
        if let Err(fault) = worker.count_extras(extras, &mut victims) {
            worker.fail_directory(&extras.dir, extras.dir.winner(), &fault);
            surplus.withhold("failed", "something failed, so nothing extra was removed");
            return false;
        }
        if run.desk.cancel.is_draining() {
            surplus.withhold("interrupted", "interrupted, so nothing extra was removed");
            return false;
        }
    }
    let below = victims
        .entries
        .saturating_sub(found.iter().map(|e| e.names().count() as u64).sum());
    let all = surplus.listed.load(Ordering::Relaxed) + below;
    if let Some(limit) = run.rules.max_delete.filter(|limit| limit.forbids(victims.entries, all)) {
        let n = victims.entries;
        let message =
            format!("{n} of {all} entries are extra, which is more than {limit}, so nothing extra was removed");
        surplus.withhold("max-delete", message);
        return false;
    }
    if run.rules.confirm && !run.rules.dry_run && victims.entries > 0 && !run.desk.ask(victims) {
        surplus.withhold("declined", "the answer was no, so nothing extra was removed");
        return false;
    }
    true
}

/// The sources, the destinations and the working directory, and everything that they lie in.
fn protected(run: &Run, root: &Dir) -> sys::Result<HashSet<Identity>> {
    let mut ids: HashSet<Identity> = run.destination_ids.iter().copied().collect();
    let mut begin = vec![sys::open_directory(sys::current_directory(), c".", Follow::No)?];
    for source in 0..root.sources.len() {
        begin.push(sys::duplicate(root.source_anew(source)?.as_fd())?);
    }
    for fd in begin {
        let mut at = fd;
        loop {
            let id = sys::stat_fd(at.as_fd())?.id;
            let up = sys::open_node(at.as_fd(), c"..")?;
            let last = sys::stat_fd(up.as_fd())?.id == id;
            ids.insert(id);
            if last {
                break;
            }
            at = up;
        }
    }
    Ok(ids)
}
