//! The second half of a move: each source entry goes whose copy is proved.
//!
//! Comes in: a copy that has ended, with everything synced; goes out: the sources without what arrived. The same trees are
//! walked once more, and nothing is written: each entry is compared with what has its name in the destination, read from
//! the medium, immediately before it is removed by the descriptor of its directory. So nothing has to be remembered of
//! what the copy did, and what it skipped is proved like the rest. Directories go when they are empty, after everything
//! in them.
//!
//! Where a destination is the source, seen in another way (a bind or overlay mount, FUSE, a network file system of this very
//! host), an entry is its own copy, and neither device nor inode shows it. Preflight refuses what a probe shows. Beyond that,
//! where anything of the destination had the name of a source entry before the copy, or where an entry and its copy agree in
//! the change time, which nobody can set, each entry that is about to go is first renamed beside itself: if its copy goes
//! with it, or shows the change, it is the entry, and is put back. A run that dies between leaves the entry under a name that
//! the next run of the same move knows, and puts back.
//!
//! What stays: what failed in the copy, what a rule excludes, what another source overrode, what has metadata that was asked
//! for and that its copy has not, or a time that the destination can't keep, what has changed since the copy began (the
//! change time tells, which nobody can set) or while it is compared, and what has appeared meanwhile.
//! Killed at any moment it leaves each entry in the source, in the destination, or in both.

use std::ffi::{CStr, CString};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow, Kind, Node, OwnedFd, Stat, Time};

use crate::bytes::probe;
use crate::copy::act::content;
use crate::copy::departure::{Departure, ITS_TIME};
use crate::copy::dir::{Dir, Presence, Twinned as _};
use crate::copy::entry::{Done, Entry, SourceEntry, same_version};
use crate::copy::options::Directories;
use crate::copy::times;
use crate::copy::worker::Worker;
use crate::entry::Outcome;
use crate::error::{Cause, Fault, Operation, Side, Stopped};
use crate::sweep::guard::IN_USE;
use crate::tree::listing::{find_name, is_empty};
use crate::tree::metadata::{self, Held};
use crate::tree::path::{c_string, join, open_directory_path, split};
use crate::tree::staging::{Stager, appear};
use crate::walk::node::Origin;
use crate::walk::scope::Scope;

/// Why an entry stays that is its own copy.
const ITSELF: &str = "what has its name in the destination is the entry itself, seen in another way, so it stays";
/// How an entry of the destination compares.
enum Match {
    /// It is the same.
    Same(Stat),
    Different,
    /// Its content is the same, but not this.
    Short(String),
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

/// One entry that is not a directory: removed if it is proved.
pub fn depart(
    worker: &mut Worker<'_>,
    departure: &Departure,
    entry: &Entry<'_>,
    kind: Kind,
) -> Result<Option<Done>, Stopped> {
    let (dir, target) = (entry.dir, entry.target);
    let left_out = worker.run.rules.asked.directories == Directories::Only;
    if left_out || departure.has_failed(|| join(&dir.relative_path(), target.to_bytes())) {
        return Ok(Some(kept()));
    }
    let name = entry.name();
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
    if worker.run.in_use.contains(&stat.id) {
        let cause = Cause::Conflict(IN_USE);
        let (operation, side) = (Operation::Remove, Side::Source);
        return Err(Fault { operation, side, cause }.into());
    }
    let mut inode = departure.inode(stat.id);
    if stat.nlink < 2 {
        let mut ours = inode.remove(&stat.id);
        drop(inode);
        return depart_from(worker, departure, entry, &at, name, &stat, &mut ours).map(Some);
    }
    // Whoever held the lock may have removed another name.
    let stat = sys::stat(at.as_fd(), name, Follow::No).map_err(source_fault(Operation::Stat))?;
    let mut ours = inode.remove(&stat.id);
    let done = depart_from(worker, departure, entry, &at, name, &stat, &mut ours);
    inode.extend(ours.map(|changed| (stat.id, changed)));
    done.map(Some)
}

/// The same; `ours`: the change time that this walk gave an inode with several links, before and after.
fn depart_from(
    worker: &mut Worker<'_>,
    departure: &Departure,
    entry: &Entry<'_>,
    at: &OwnedFd,
    name: &CStr,
    stat: &Stat,
    ours: &mut Option<Time>,
) -> Result<Done, Stopped> {
    // One inode number may stand for several files: what is known of one says nothing about the others.
    let changed = *ours != Some(stat.ctime) && stat.ctime > departure.since;
    let node = match stat.kind {
        Kind::File => sys::open_file(at.as_fd(), name),
        _ => sys::open_node(at.as_fd(), name),
    }
    .map_err(source_fault(Operation::Open))?;
    let opened = sys::stat_fd(node.as_fd()).map_err(source_fault(Operation::Stat))?;
    if opened.id != stat.id || !same_version(&opened, stat) {
        return Err(Fault::changed(Operation::Remove).into());
    }
    let file = (stat.kind == Kind::File).then_some(&node);
    let mut found = Match::Absent;
    let mut place = 0;
    let source = SourceEntry {
        file,
        ..SourceEntry::named(at, name)
    };
    for index in 0..entry.dir.twins.len() {
        match copy_in(worker, entry, index, source, stat)? {
            Match::Absent => {}
            other => {
                found = other;
                place = index;
            }
        }
        if matches!(found, Match::Same(_) | Match::Itself) {
            break;
        }
    }
    let stays = |cause| Fault {
        operation: Operation::Remove,
        side: Side::Source,
        cause,
    };
    let copy = match found {
        Match::Same(copy) if !changed => copy,
        Match::Itself => return Err(stays(Cause::Conflict(ITSELF)).into()),
        Match::Absent if changed => {
            worker.run.desk.note("late", || {
                let path = join(&entry.dir.source_path(entry.source), name.to_bytes());
                (path, "it came after the copy began, so it stays in the source".into())
            });
            return Ok(kept());
        }
        Match::Same(_) | Match::Different | Match::Short(_) if changed => return Err(stays(Cause::Changed).into()),
        Match::Short(what) => return Err(stays(Cause::NotKept(what)).into()),
        Match::Absent => {
            return Err(stays(Cause::Conflict("its copy is not in the destination, so it stays")).into());
        }
        Match::Same(_) | Match::Different => return Err(stays(Cause::Mismatch).into()),
    };
    if times::lacks_time(worker, entry.dir, place, stat, &copy) {
        return Err(stays(Cause::NotKept(ITS_TIME.into())).into());
    }
    // The last look: by name, and by descriptor where there is one.
    let last = sys::stat(at.as_fd(), name, Follow::No).map_err(source_fault(Operation::Stat))?;
    if last.id != stat.id || last.kind != stat.kind || !same_version(&last, stat) {
        return Err(Fault::changed(Operation::Remove).into());
    }
    let alike = (copy.size, copy.mtime, copy.ctime) == (stat.size, stat.mtime, stat.ctime);
    let remove = |name: &CStr| sys::unlink(at.as_fd(), name).map_err(source_fault(Operation::Remove));
    let removed = if departure.doubtful || alike {
        remove_aside(
            worker,
            (at, name),
            stat,
            (entry.dir, entry.target),
            &[(place, copy)],
            remove,
        )
    } else {
        remove(name)
    };
    // Where nothing can be told of it, its other names count as changed, and stay.
    let now = sys::stat_fd(node.as_fd()).ok().filter(|now| now.nlink > 0);
    *ours = now.map(|now| now.ctime);
    removed?;
    Ok(Done::new(Outcome::Removed))
}

/// Takes an entry out of its place in the source, shows that each of its `copies`, by the number of their destination, is
/// another one, and removes it. Where that is not so, or can't be done, the entry is put back.
fn remove_aside<T>(
    worker: &Worker<'_>,
    (at, name): (&OwnedFd, &CStr),
    stat: &Stat,
    (dir, target): (&Dir, &CStr),
    copies: &[(usize, Stat)],
    remove: impl FnOnce(&CStr) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let aside = worker.run.stager.take_aside(at.as_fd(), name);
    let aside = aside.map_err(source_fault(Operation::Rename))?;
    let moved = sys::stat_anew(at.as_fd(), aside.as_c_str()).map_err(source_fault(Operation::Stat));
    let shown = moved.and_then(|moved| {
        if moved.id != stat.id {
            return Err(Fault::changed(Operation::Remove));
        }
        let mut copies = copies.iter();
        copies.try_for_each(|(index, copy)| show_other(stat, &moved, (dir, *index, target), copy))
    });
    let removed = shown.and_then(|()| remove(aside.as_c_str()));
    if removed.is_err() {
        appear(at.as_fd(), aside.as_c_str(), name).map_err(source_fault(Operation::Rename))?;
    }
    removed
}

/// Shows that a copy is not the entry itself, which was renamed: its facts before that, and now.
fn show_other(
    before: &Stat,
    moved: &Stat,
    (dir, index, target): (&Dir, usize, &CStr),
    copy: &Stat,
) -> Result<(), Fault> {
    let conflict = |what| Err(Fault::conflict(Operation::Remove, index, what));
    let (_, twin) = dir.writable(index)?;
    let there = sys::stat_anew(twin.as_fd(), target).and_then(|there| match there.kind {
        // Who answers from what it remembers has to look when it opens.
        Kind::File => sys::open_file(twin.as_fd(), target).and_then(|file| sys::stat_fd(file.as_fd())),
        _ => Ok(there),
    });
    match there {
        // Another name of the same file, which did not go with this one.
        Ok(there) if copy.id == before.id && there.id == moved.id && there.nlink > 1 => Ok(()),
        // What did not change with the entry is another one. Where a rename changes no time, those may be one that agree.
        Ok(there) if there.id == copy.id && same_version(&there, copy) => {
            if before.ctime == moved.ctime && before.ctime == copy.ctime {
                return conflict(ITSELF);
            }
            Ok(())
        }
        Ok(there) if there.ctime == moved.ctime => conflict(ITSELF),
        Ok(_) => conflict("its copy changed meanwhile, so it stays"),
        Err(Errno::NOENT | Errno::STALE) => conflict(ITSELF),
        Err(errno) => Err(Fault::new(Operation::Stat, Side::Destination(index), errno)),
    }
}

/// An entry that a move which died took aside gets its name back: the one that it was made from, as a destination has it.
/// `None`: none has.
pub fn put_back(worker: &Worker<'_>, dir: &Dir, at: BorrowedFd<'_>, aside: &CStr) -> Result<Option<CString>, Fault> {
    for index in 0..dir.twins.len() {
        let fault = |operation| move |errno| Fault::new(operation, Side::Destination(index), errno);
        let Some(twin) = dir.twin(index).map_err(fault(Operation::Open))? else {
            continue;
        };
        let is_of = |name: &CStr| Stager::is_of(aside.to_bytes(), name);
        let Some(name) = find_name(&twin, is_of).map_err(fault(Operation::List))? else {
            continue;
        };
        let restored = sys::stat_fd(at).and_then(|before| {
            appear(at, aside, &name)?;
            // That was no change of the directory: its copy has the time that it had before.
            sys::set_times(Node::Open(at), None, Some(before.mtime))?;
            worker.run.restored.insert(at, &name)
        });
        return match restored {
            Ok(()) => Ok(Some(name)),
            Err(Errno::EXIST) => Ok(None),
            Err(errno) => Err(source_fault(Operation::Rename)(errno)),
        };
    }
    Ok(None)
}

/// Compares a source entry with what has its name in destination `index`.
fn copy_in(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    index: usize,
    source: SourceEntry<'_>,
    stat: &Stat,
) -> Result<Match, Stopped> {
    let SourceEntry { at, name, .. } = source;
    let fault = |operation| move |errno| Fault::new(operation, Side::Destination(index), errno);
    let Some(twin) = entry.dir.twin(index).map_err(fault(Operation::Open))? else {
        return Ok(Match::Absent);
    };
    // What a client of a network or FUSE file system remembers of times differs from what it is told later.
    let look = || match sys::stat_anew(twin.as_fd(), entry.target) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(fault(Operation::Stat)(errno)),
    };
    let Some(found) = look()? else {
        return Ok(Match::Absent);
    };
    // With one name it is the entry. Another name is read like any copy: one inode number may stand for several files.
    if found.is_same(stat) && stat.nlink < 2 {
        return Ok(Match::Itself);
    }
    if found.kind != stat.kind {
        return Ok(Match::Different);
    }
    let mut compared = None;
    let same = match stat.kind {
        Kind::File => {
            if found.size == stat.size {
                compared = content::same_content(worker, source, stat, (&twin, entry.target), index, u64::MAX)?;
            }
            compared.is_some()
        }
        Kind::Symlink => {
            let text = sys::read_link(at.as_fd(), name).map_err(source_fault(Operation::Read))?;
            probe::same_link(&text, twin.as_fd(), entry.target, index)?
        }
        Kind::Block | Kind::Char => found.rdev == stat.rdev,
        Kind::Fifo | Kind::Socket => true,
        Kind::Directory | Kind::Unknown => false,
    };
    if same {
        let from = source
            .file
            .map_or(Held::Named(at.as_fd(), name), |file| Held::Open(file.as_fd()));
        let copy = compared
            .as_ref()
            .map_or(Held::Named(twin.as_fd(), entry.target), |fd| Held::Open(fd.as_fd()));
        if let Some(what) = lacks(worker, (stat, from), (&found, copy), index)? {
            return Ok(Match::Short(what));
        }
    }
    // What was compared must be what the name leads to.
    let after = look()?;
    let same = same && after.is_some_and(|after| after.id == found.id && same_version(&after, &found));
    Ok(match after.filter(|_| same) {
        Some(after) => Match::Same(after),
        None => Match::Different,
    })
}

/// What of the metadata of a source entry its copy in destination `index` does not have, though it was asked for.
fn lacks(
    worker: &mut Worker<'_>,
    (stat, source): (&Stat, Held<'_>),
    (found, copy): (&Stat, Held<'_>),
    index: usize,
) -> Result<Option<String>, Fault> {
    let keep = &worker.run.rules.keep;
    let stat = &metadata::without_list(keep, stat, source, &mut worker.scratch)?;
    let side = Side::Destination(index);
    let (mut here, mut there) = (None, None);
    let bare = metadata::is_bare(keep, source, Side::Source)? && metadata::is_bare(keep, copy, side)?;
    let nodes = if bare {
        None
    } else {
        let source = source.node(&mut here).map_err(source_fault(Operation::Open))?;
        let copy = copy
            .node(&mut there)
            .map_err(|e| Fault::new(Operation::Open, side, e))?;
        Some((source, copy))
    };
    metadata::missing(keep, stat, found, nodes, index, &mut worker.scratch)
}

/// The same of a directory, whose own metadata came from one of its sources.
fn directory_lacks(worker: &mut Worker<'_>, dir: &Dir) -> Result<Option<String>, Fault> {
    let winner = dir.winner();
    if !dir.is_entry || worker.run.rules.asked.directories == Directories::Needed {
        return Ok(None);
    }
    if directory_lacks_time(worker, dir) {
        return Ok(Some(ITS_TIME.into()));
    }
    let source = dir.source(winner).map_err(source_fault(Operation::Open))?;
    let mut missing = None;
    for index in 0..dir.twins.len() {
        let fault = |operation| move |errno| Fault::new(operation, Side::Destination(index), errno);
        let Some(twin) = dir.twin(index).map_err(fault(Operation::Open))? else {
            continue;
        };
        let found = sys::stat_fd(twin.as_fd()).map_err(fault(Operation::Stat))?;
        let (from, to) = (Held::Open(source.as_fd()), Held::Open(twin.as_fd()));
        missing = lacks(worker, (&dir.sources[winner].stat, from), (&found, to), index)?;
        if missing.is_none() {
            break;
        }
    }
    Ok(missing)
}

/// A directory whose children are done: removed from each of its sources where it is empty.
pub fn depart_directory(worker: &mut Worker<'_>, departure: &Departure, dir: &Arc<Dir>) {
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
            let lacks = if source == dir.winner() {
                directory_lacks(worker, dir)
            } else {
                Ok(None)
            };
            let gone = lacks.and_then(|lacks| match lacks {
                None => remove_source_directory(worker, departure, dir, source),
                Some(what) => Err(stays(dir, source, what)),
            });
            match gone {
                Ok(true) => removed += 1,
                Ok(false) => {}
                Err(fault) => worker.fail_directory(dir, source, &fault),
            }
        }
    }
    if dir.is_entry && !dir.recorded.swap(true, Ordering::AcqRel) {
        let outcome = if removed > 0 && removed == whole {
            Outcome::Removed
        } else {
            Outcome::Skipped
        };
        worker.record_directory(dir, &Done::new(outcome));
    }
}

/// Whether all copies of a directory lack its time.
fn directory_lacks_time(worker: &Worker<'_>, dir: &Dir) -> bool {
    let source = &dir.sources[dir.winner()].stat;
    let mut copies = dir
        .twins
        .iter()
        .enumerate()
        .filter_map(|(index, twin)| match &twin.as_ref()?.presence {
            Presence::Existing(copy) => Some((index, copy)),
            Presence::Staged(_) | Presence::Imagined => None,
        });
    copies.all(|(index, copy)| times::lacks_time(worker, dir, index, source, copy))
}

/// A directory that stays, for what its copy does not have, gets its time back as it was with all that was in it: the next
/// run looks at that.
fn stays(dir: &Dir, source: usize, what: String) -> Fault {
    let before = dir.sources[source].stat.mtime;
    let restored = dir
        .source(source)
        .map_err(source_fault(Operation::Open))
        .and_then(|at| {
            sys::set_times(Node::Open(at.as_fd()), None, Some(before)).map_err(source_fault(Operation::SetTimes))
        });
    restored.err().unwrap_or(Fault {
        operation: Operation::Remove,
        side: Side::Source,
        cause: Cause::NotKept(what),
    })
}

/// Whether it has gone.
fn remove_source_directory(
    worker: &Worker<'_>,
    departure: &Departure,
    dir: &Dir,
    source: usize,
) -> Result<bool, Fault> {
    let id = dir.sources[source].slot.id();
    let here = sys::stat(sys::current_directory(), c".", Follow::No).map_err(source_fault(Operation::Stat))?;
    if here.id == id {
        worker.run.desk.note("working-directory", || {
            (dir.source_path(source), "the working directory stays".into())
        });
        return Ok(false);
    }
    let (at, name) = match (&dir.sources[source].origin, &dir.parent) {
        (Origin::Name { parent, .. }, Some(above)) => (
            above.source(*parent).map_err(source_fault(Operation::Open))?,
            dir.name_in(source).to_owned(),
        ),
        (Origin::Path(path), _) => {
            let (above, name) = split(path);
            if matches!(name, b"" | b"." | b"..") {
                return Ok(false);
            }
            let at = open_directory_path(above, Follow::Yes).map_err(source_fault(Operation::Open))?;
            (Arc::new(at), c_string(name).map_err(source_fault(Operation::Open))?)
        }
        _ => return Ok(false),
    };
    let now = match sys::stat(at.as_fd(), &name, Follow::No) {
        // A link that was followed stays as well.
        Ok(now) if now.id != id || now.kind != Kind::Directory => return Ok(false),
        Ok(now) => now,
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(source_fault(Operation::Stat)(errno)),
    };
    let remove = |name: &CStr| sys::remove_directory(at.as_fd(), name).map_err(source_fault(Operation::Remove));
    let fd = dir.source(source).map_err(source_fault(Operation::Open))?;
    if !is_empty(&fd).map_err(source_fault(Operation::List))? {
        return Ok(false);
    }
    let above = dir.parent.as_deref().filter(|_| departure.doubtful);
    let mut copies = Vec::new();
    for (above, index) in above
        .iter()
        .flat_map(|above| (0..above.twins.len()).map(move |index| (above, index)))
    {
        let fault = |operation| move |errno| Fault::new(operation, Side::Destination(index), errno);
        if let Some(twin) = above.twin(index).map_err(fault(Operation::Open))? {
            match sys::stat_anew(twin.as_fd(), &dir.name) {
                Ok(copy) => copies.push((index, copy)),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(fault(Operation::Stat)(errno)),
            }
        }
    }
    let removed = match above {
        Some(above) => remove_aside(worker, (&at, &name), &now, (above, &dir.name), &copies, remove),
        None => remove(&name),
    };
    match removed {
        Ok(()) => Ok(true),
        // Something has come into it, or it is where something is mounted.
        Err(Fault {
            cause: Cause::Errno(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY),
            ..
        }) => Ok(false),
        Err(fault) => Err(fault),
    }
}
