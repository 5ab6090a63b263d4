//! The finder: turns a directory's sources into batches of entries, and counts every one that it sees.
//!
//! Comes in: a directory with open sources; goes out: batches of names that are not directories, and the names of the
//! subdirectories, which are remembered until the directory's own files are done. Exclude rules, staging names and the
//! rule that the later source wins are applied here, before anything is planned.

use std::ffi::{CStr, CString};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bulkhaul_formats::digest::xxh64;
use bulkhaul_formats::lists::names::{FileList, Slice};
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind, OwnedFd};

use crate::copy::act::depart;
use crate::copy::collision;
use crate::copy::dir::Dir;
use crate::copy::entry::Done;
use crate::copy::extra;
use crate::copy::memory::FAILED;
use crate::copy::options::Collision;
use crate::copy::worker::Worker;
use crate::entry::{Outcome, Reason};
use crate::error::{Cause, Fault, Operation, Side};
use crate::tree::listing::Batch;
use crate::tree::path::join;
use crate::tree::staging::Owner;
use crate::walk::scope::Scope;

/// Names from a list that make a batch.
const BATCH_NAMES: usize = 1024;

/// One name as a listing gave it.
struct Found {
    offset: u32,
    kind: Kind,
    /// 0 where it was not listed.
    inode: u64,
    scope: Option<Scope>,
}

/// Who works on a batch of names of one source.
pub type Take = fn(&mut Worker<'_>, &Arc<Dir>, usize, Batch);

/// Lists all sources of a directory, and has what they have taken on: by whoever is free, or here and now.
pub fn list(worker: &mut Worker<'_>, dir: &Arc<Dir>, take: Take) {
    for source in 0..dir.sources.len() {
        // Whoever stops the run stops the listing too.
        if !worker.run.desk.may_begin() {
            break;
        }
        let before = worker.seen.len();
        let result = match &dir.sources[source].scope {
            Scope::Whole => list_whole(worker, take, dir, source),
            Scope::Names(names) => {
                let names = Arc::clone(names);
                list_names(
                    worker,
                    take,
                    dir,
                    source,
                    names.0.keys().map(|n| (n.as_c_str(), Scope::Whole)),
                )
            }
            Scope::Listed(list, slice) => {
                let (list, slice) = (Arc::clone(list), *slice);
                list_listed(worker, take, dir, source, &list, slice)
            }
            Scope::Itself => Ok(()),
        };
        if let Err(errno) = result {
            worker.fail_directory(dir, source, &Fault::new(Operation::List, Side::Source, errno));
        }
        extra::note_listed(worker, dir, source, worker.seen.len() - before);
    }
    extra::note_extras(worker, dir);
    worker.run.desk.listed();
}

fn list_whole(worker: &mut Worker<'_>, take: Take, dir: &Arc<Dir>, source: usize) -> sys::Result<()> {
    let fd = dir.source(source)?;
    let parents = filter_parents(worker, dir, source);
    loop {
        if worker.run.desk.cancel.is_draining() {
            return Ok(());
        }
        let mut names = Vec::new();
        let mut found = Vec::new();
        let more = sys::read_directory(fd.as_fd(), worker.listing.spare_capacity_mut(), |name, kind, inode| {
            found.push(Found {
                offset: u32::try_from(names.len()).unwrap_or(u32::MAX),
                kind,
                inode,
                scope: None,
            });
            names.extend_from_slice(name.to_bytes_with_nul());
        })?;
        // As they lie on the medium: a listing of hashed names jumps from one end to the other.
        // Names of one inode by their order, so that the same one comes first each time.
        let name_of = |found: &Found| names.get(found.offset as usize..).unwrap_or_default();
        found.sort_unstable_by(|a, b| a.inode.cmp(&b.inode).then_with(|| name_of(a).cmp(name_of(b))));
        let batch = sift(worker, dir, source, &fd, &parents, &names, found);
        offer(worker, take, dir, source, batch, more);
        if !more {
            return Ok(());
        }
    }
}

fn list_listed(
    worker: &mut Worker<'_>,
    take: Take,
    dir: &Arc<Dir>,
    source: usize,
    list: &Arc<FileList>,
    slice: Slice,
) -> sys::Result<()> {
    let mut names: Vec<(std::ffi::CString, Scope)> = Vec::new();
    let mut children = list.children(slice).peekable();
    let fd = dir.source(source)?;
    while children.peek().is_some() {
        names.clear();
        for child in children.by_ref().take(BATCH_NAMES) {
            if !child.below.is_empty()
                && let Ok(stat) = sys::stat(fd.as_fd(), &crate::tree::path::c_string(child.name)?, Follow::No)
                && stat.kind != Kind::Directory
            {
                let why = if stat.kind == Kind::Symlink {
                    Cause::Outside("it is below a symlink, which is not followed")
                } else {
                    Cause::Errno(Errno::NOTDIR)
                };
                let path = join(&dir.source_path(source), child.name);
                fail_below(worker, (path, why), list, child.below);
                if !child.listed {
                    continue;
                }
            }
            let scope = if child.below.is_empty() {
                Scope::Itself
            } else {
                Scope::Listed(Arc::clone(list), child.below)
            };
            names.push((crate::tree::path::c_string(child.name)?, scope));
        }
        list_names(
            worker,
            take,
            dir,
            source,
            names.iter().map(|(n, s)| (n.as_c_str(), s.clone())),
        )?;
    }
    Ok(())
}

/// Names of the list below something that is no directory: each of them can't be had, and the copy says so.
fn fail_below(worker: &mut Worker<'_>, (path, why): (Vec<u8>, Cause), list: &FileList, below: Slice) {
    if worker.run.departure.is_some() {
        return;
    }
    let mut levels = vec![(path, below)];
    while let Some((path, below)) = levels.pop() {
        for child in list.children(below) {
            let path = join(&path, child.name);
            if child.listed {
                let fault = Fault {
                    operation: Operation::Stat,
                    side: Side::Source,
                    cause: why.clone(),
                };
                let fault = fault.of_named();
                worker.record_missing(&fault, path.clone());
            }
            levels.push((path, child.below));
        }
    }
}

fn list_names<'n>(
    worker: &mut Worker<'_>,
    take: Take,
    dir: &Arc<Dir>,
    source: usize,
    all: impl Iterator<Item = (&'n CStr, Scope)>,
) -> sys::Result<()> {
    let fd = dir.source(source)?;
    let parents = filter_parents(worker, dir, source);
    let mut all = all.peekable();
    while all.peek().is_some() && !worker.run.desk.cancel.is_draining() {
        let mut names = Vec::new();
        let mut found = Vec::new();
        for (name, scope) in all.by_ref().take(BATCH_NAMES) {
            found.push(Found {
                offset: u32::try_from(names.len()).unwrap_or(u32::MAX),
                kind: Kind::Unknown,
                inode: 0,
                scope: Some(scope),
            });
            names.extend_from_slice(name.to_bytes_with_nul());
        }
        let batch = sift(worker, dir, source, &fd, &parents, &names, found);
        offer(worker, take, dir, source, batch, all.peek().is_some());
    }
    Ok(())
}

/// The path that exclude rules see above a directory's names; none where no rule needs it.
fn filter_parents(worker: &Worker<'_>, dir: &Dir, source: usize) -> Vec<Vec<u8>> {
    worker.run.rules.filter.parents(
        || dir.relative_path(),
        || vec![dir.source_path(source)],
        &worker.run.working_directory,
    )
}

/// Whether the rules exclude an entry of a source directory.
pub fn excludes(worker: &Worker<'_>, dir: &Dir, source: usize, target: &CStr, kind: Kind) -> bool {
    let parents = filter_parents(worker, dir, source);
    excludes_below(worker, &parents, &dir.sources[source].scope, target, kind)
}

/// The same with the path above it at hand. rsync's rules are about names of the transfer, hpcp's of the source.
fn excludes_below(worker: &Worker<'_>, parents: &[Vec<u8>], scope: &Scope, target: &CStr, kind: Kind) -> bool {
    let filter = &worker.run.rules.filter;
    let name = if filter.is_about_paths() {
        scope.source_name(target)
    } else {
        target
    };
    filter.excludes(parents, name, kind)
}

/// Sorts names into files, which it answers, subdirectories, which it remembers, and what is left out.
fn sift(
    worker: &mut Worker<'_>,
    dir: &Arc<Dir>,
    source: usize,
    fd: &Arc<OwnedFd>,
    parents: &[Vec<u8>],
    listed: &[u8],
    found: Vec<Found>,
) -> Batch {
    let mut batch = Batch::default();
    let name_at = |offset: u32| CStr::from_bytes_until_nul(&listed[offset as usize..]).unwrap_or_default();
    let is_probe = |name: &CStr| worker.run.stager.owner(name.to_bytes()).is_some() && worker.run.probes.have(name);
    if found.iter().any(|found| is_probe(name_at(found.offset))) {
        let what = "it is a destination, seen in another way";
        worker.fail_directory(dir, source, &Fault::conflict(Operation::List, 0, what));
        return batch;
    }
    let plain = dir.sources.len() == 1;
    for Found {
        offset,
        mut kind,
        scope,
        ..
    } in found
    {
        let mut name = name_at(offset);
        let owner = worker.run.stager.owner(name.to_bytes());
        let restored;
        if let (Some(Owner::Aside), true) = (owner, worker.run.rules.asked.remove_sources) {
            restored = take_back(worker, dir, source, fd, name);
            name = restored.as_deref().unwrap_or(name);
        }
        if worker.run.rules.asked.remove_extra {
            worker.seen.push(xxh64(name.to_bytes()));
        }
        if kind == Kind::Unknown {
            let real = dir.sources[source].scope.source_name(name);
            match sys::stat(fd.as_fd(), real, Follow::No) {
                Ok(stat) => kind = stat.kind,
                // The copy has told what was missing, and what has gone since needs no removal.
                Err(Errno::NOENT) if worker.run.departure.is_some() => continue,
                Err(errno) => {
                    worker.counters.found(Kind::File);
                    let path = || join(&dir.relative_path(), name.to_bytes());
                    let told = worker.run.departure.as_ref().is_some_and(|d| d.has_failed(path));
                    let fault = Fault::new(Operation::Stat, Side::Source, errno);
                    let fault = match scope {
                        // Nobody has found it: a list has named it.
                        Some(Scope::Itself | Scope::Listed(..)) => fault.of_named(),
                        _ => fault,
                    };
                    let result = if told {
                        Ok(Done::new(Outcome::Skipped))
                    } else {
                        Err(fault.into())
                    };
                    worker.record(dir, source, name, Kind::File, result);
                    continue;
                }
            }
        }
        if owner.is_some() && worker.run.stager.owner(name.to_bytes()).is_some() {
            pass_over(worker, dir, source, name, kind, Reason::StagingName);
            continue;
        }
        if excludes_below(worker, parents, &dir.sources[source].scope, name, kind) {
            worker.counters.excluded();
            dir.stays.store(true, Ordering::Release);
            worker.tell(dir, source, name, kind, &Done::skipped(Reason::Excluded));
            continue;
        }
        let mut sources = Vec::new();
        if !plain {
            match contenders(worker, dir, source, name, kind) {
                Ok(Whose::Ours(merged)) => sources = merged,
                Ok(Whose::Theirs(winner, other)) => {
                    overridden(worker, dir, (source, kind), name, (winner, other));
                    continue;
                }
                Err(errno) => {
                    worker.counters.found(kind);
                    let fault = Fault::new(Operation::Stat, Side::Source, errno);
                    worker.record(dir, source, name, kind, Err(fault.into()));
                    continue;
                }
            }
        }
        worker.counters.found(kind);
        if kind == Kind::Directory {
            worker.run.desk.unlisted();
            let mut below = dir.below.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match scope {
                None if plain => below.push_plain(name),
                scope => below.push(name, sources, scope.unwrap_or(Scope::Whole)),
            }
        } else {
            batch.push(name, kind);
        }
    }
    batch
}

/// The name of an entry that a move which died took aside. `None`: it keeps the other one, and that was said.
fn take_back(worker: &Worker<'_>, dir: &Arc<Dir>, source: usize, fd: &OwnedFd, aside: &CStr) -> Option<CString> {
    if worker.run.rules.asked.dry_run && worker.run.departure.is_none() {
        return None;
    }
    let path = || join(&dir.source_path(source), aside.to_bytes());
    match depart::put_back(worker, dir, fd, aside) {
        Ok(Some(name)) => return Some(name),
        Ok(None) => {
            let what = "a move that was interrupted took this aside, and its own name is not known";
            worker.run.surplus.withhold("failed", FAILED);
            worker.run.desk.note("aside", || (path(), what.into()));
        }
        Err(fault) => worker.fail(&fault, path(), Kind::Unknown),
    }
    None
}

/// An entry that is seen and left alone.
fn pass_over(worker: &mut Worker<'_>, dir: &Arc<Dir>, source: usize, name: &CStr, kind: Kind, reason: Reason) {
    worker.counters.found(kind);
    worker.record(dir, source, name, kind, Ok(Done::skipped(reason)));
}

/// An entry of a source that another one wins over. Directories merge; anything else that is not the same may be a failure.
fn overridden(
    worker: &mut Worker<'_>,
    dir: &Arc<Dir>,
    (source, kind): (usize, Kind),
    name: &CStr,
    (winner, other): (usize, Kind),
) {
    let merge = kind == Kind::Directory && other == Kind::Directory;
    let told = worker.run.departure.is_some();
    if merge || told || worker.run.rules.asked.on_collision != Collision::Fail {
        return pass_over(worker, dir, source, name, kind, Reason::Overridden);
    }
    worker.counters.found(kind);
    let compared = collision::compare(worker, dir, name, source, winner);
    let result = compared.map(|()| Done::skipped(Reason::Overridden));
    worker.record(dir, source, name, kind, result);
}

/// Whose a name is that several sources may bring.
enum Whose {
    /// This source's, with the directories that merge with it.
    Ours(Vec<usize>),
    /// That of another source, which has an entry of this kind.
    Theirs(usize, Kind),
}

/// Where several sources merge: which of them bring this name. The last one wins; directories of one name merge.
fn contenders(worker: &Worker<'_>, dir: &Dir, source: usize, target: &CStr, kind: Kind) -> sys::Result<Whose> {
    let mut merged = Vec::new();
    for index in dir.owners(target).into_iter().rev() {
        let found = if index == source {
            kind
        } else {
            let Some(name) = dir.sources[index].scope.name_of(target) else {
                continue;
            };
            match sys::stat(dir.source(index)?.as_fd(), name, Follow::No) {
                Ok(stat) if excludes(worker, dir, index, target, stat.kind) => continue,
                Ok(stat) => stat.kind,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno),
            }
        };
        if merged.is_empty() {
            if index != source {
                return Ok(Whose::Theirs(index, found));
            }
        } else if found != Kind::Directory {
            continue;
        }
        merged.push(index);
        if found != Kind::Directory {
            break;
        }
    }
    merged.reverse();
    Ok(Whose::Ours(merged))
}

/// Works on a batch, or gives it to somebody who has nothing to do while the listing goes on.
fn offer(worker: &mut Worker<'_>, take: Take, dir: &Arc<Dir>, source: usize, batch: Batch, more: bool) {
    if batch.is_empty() {
        return;
    }
    if more && worker.run.schedule.hungry() {
        worker.run.give_away(dir, source, batch);
    } else {
        take(worker, dir, source, batch);
    }
}
