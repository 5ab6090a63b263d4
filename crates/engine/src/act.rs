//! The workers: each takes directories and batches, and carries out what the plan says, entry by entry.
//!
//! Comes in: a batch of names in a directory with open descriptors; goes out: an outcome for every one of them. A file's
//! way is: content, owner, attributes, mode, ACLs and capabilities, the sync if one is due, times, name. Whatever stops
//! on that way leaves no name behind.

use std::ffi::{CStr, CString};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Identity, Kind, Node, OwnedFd, Stat};

use crate::copy::{Run, Task};
use crate::entries::{Batch, LISTING_BYTES};
use crate::error::{Cause, Failure, Fault, Operation, Side};
use crate::event::{Changes, EntryEvent, Event};
use crate::links::{Claim, Links, Location};
use crate::metadata::{self, Copy, Scratch, put_right};
use crate::options::{Directories, Sync};
use crate::plan::{Action, differences, plan};
use crate::probe;
use crate::publish::{Staging, publish};
use crate::report::{Counters, Outcome, Reason};
use crate::transfer::{BUFFER_BYTES, Stopped, Transfer};
use crate::tree::{Dir, Twin, join};

/// Files whose sync is gathered before it is waited for; each holds a descriptor.
const SYNC_BATCH: usize = 32;

/// What became of an entry.
#[derive(Clone, Debug)]
pub struct Done {
    /// Outcome.
    pub outcome: Outcome,
    /// Why it was skipped.
    pub reason: Option<Reason>,
    /// What differed.
    pub changes: Changes,
    /// Bytes of content written, or that would be.
    pub bytes: u64,
    /// Size of the source file in bytes.
    pub size: u64,
    /// Text of a symlink, or path of a hard link's first name.
    pub target: Option<Vec<u8>>,
    /// Which destination.
    pub destination: usize,
}

impl Done {
    /// An outcome and nothing else.
    pub fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            reason: None,
            changes: Changes::default(),
            bytes: 0,
            size: 0,
            target: None,
            destination: 0,
        }
    }

    fn with(self, changes: Changes) -> Self {
        Self { changes, ..self }
    }

    fn at(self, destination: usize) -> Self {
        Self { destination, ..self }
    }
}

/// A thread's own things.
pub struct Worker<'r> {
    /// The run that it works for.
    pub run: &'r Run,
    /// Its counters.
    pub counters: &'r Counters,
    /// Room for a listing.
    pub listing: Vec<u8>,
    buffer: Vec<u8>,
    /// Room for attributes.
    pub scratch: Scratch,
    unsynced: Vec<Finished>,
}

/// A file that is written and waits for its sync.
struct Finished {
    dir: Arc<Dir>,
    source: usize,
    target: CString,
    destination: usize,
    file: OwnedFd,
    /// `None`: it was written under its final name, inside a staged directory.
    staging: Option<Staging>,
    replace: bool,
    stat: Stat,
    done: Done,
}

/// An entry of the source that is being worked on.
struct Entry<'e> {
    dir: &'e Arc<Dir>,
    source: usize,
    target: &'e CStr,
}

/// Holds the claim on an inode with several links; an end without a copy gives it to the next.
struct Claimed<'l> {
    links: &'l Links,
    id: Option<Identity>,
}

impl Claimed<'_> {
    fn settle(&mut self, location: Location) {
        if let Some(id) = self.id.take() {
            self.links.ready(id, location);
        }
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.links.failed(id);
        }
    }
}

impl<'r> Worker<'r> {
    /// A worker with buffers of its own.
    pub fn new(run: &'r Run, counters: &'r Counters) -> Self {
        Self {
            run,
            counters,
            listing: Vec::with_capacity(LISTING_BYTES),
            buffer: vec![0; BUFFER_BYTES],
            scratch: Scratch::default(),
            unsynced: Vec::new(),
        }
    }

    /// Runs one task. A panic costs the entry that it happened in, not the run.
    pub fn perform(&mut self, task: Task) {
        match task {
            Task::List(dir) => self.list(&dir),
            Task::Descend(dir) => self.descend(&dir),
            Task::Files(dir, batch) => {
                self.files(&dir, batch);
                self.own_done(&dir);
            }
        }
    }

    /// Works on the files of a batch; gives half of the rest to whoever has nothing to do.
    pub fn files(&mut self, dir: &Arc<Dir>, mut batch: Batch) {
        let mut index = 0;
        while index < batch.len() && !self.run.cancel.is_draining() {
            if batch.len() - index > 2 && self.run.schedule.hungry() {
                let rest = batch.split_off(index + 1);
                self.run.give_away(dir, rest);
            }
            let (target, kind) = batch.get(index);
            self.file(dir, batch.source, target, kind);
            index += 1;
        }
        self.flush();
    }

    fn file(&mut self, dir: &Arc<Dir>, source: usize, target: &CStr, kind: Kind) {
        let result = catch_unwind(AssertUnwindSafe(|| self.entry(&Entry { dir, source, target }, kind)));
        let result = result.unwrap_or_else(|panic| {
            let text = panic
                .downcast_ref::<&str>()
                .map(ToString::to_string)
                .or_else(|| panic.downcast_ref::<String>().cloned());
            let cause = Cause::Panic(text.unwrap_or_else(|| "panic".into()));
            Err(Stopped::Fault(Fault {
                operation: Operation::Work,
                side: Side::Source,
                cause,
            }))
        });
        match result {
            // Its outcome comes with its sync.
            Ok(None) => {}
            Ok(Some(done)) => self.record(dir, source, target, kind, Ok(done)),
            Err(stopped) => self.record(dir, source, target, kind, Err(stopped)),
        }
    }

    /// The recorder: every entry that was found ends here, once.
    pub fn record(&mut self, dir: &Arc<Dir>, source: usize, target: &CStr, kind: Kind, result: Result<Done, Stopped>) {
        // Shows that the count check notices (copy.rs, tests).
        #[cfg(test)]
        if target.to_bytes() == b"planted-loss" {
            return;
        }
        match result {
            Ok(done) => {
                self.counters.outcome(kind, done.outcome, done.reason, done.size);
                self.tell(dir, source, target, kind, &done);
            }
            Err(Stopped::Fault(fault)) => {
                self.counters.outcome(kind, fault.outcome(), None, 0);
                let path = self.path_of(dir, source, target, fault.side);
                self.fail(&fault, path, kind);
            }
            // No outcome: the run is reported as interrupted.
            Err(Stopped::Aborted) => {}
        }
        self.tell_shortfalls(dir, target);
    }

    /// Reports a fault with its path.
    pub fn fail(&self, fault: &Fault, path: Vec<u8>, kind: Kind) {
        let hint = self.run.hint(fault);
        let failure = Failure::new(fault, path, kind, hint.as_deref());
        self.run.findings.fail(&failure);
        self.run.queue.push(Event::Failure(failure));
    }

    /// What could not be kept of the current entry, once for each kind.
    pub fn tell_shortfalls(&mut self, dir: &Dir, target: &CStr) {
        for short in std::mem::take(&mut self.scratch.shortfalls) {
            self.run.note(&short.kind, || {
                (join(&dir.twin_path(0), target.to_bytes()), short.message)
            });
        }
    }

    fn path_of(&self, dir: &Dir, source: usize, target: &CStr, side: Side) -> Vec<u8> {
        match side {
            Side::Source => {
                let name = dir.sources[source].scope.name_of(target).unwrap_or(target);
                join(&dir.source_path(source), name.to_bytes())
            }
            Side::Destination(index) => join(&dir.twin_path(index), target.to_bytes()),
        }
    }

    /// Sends the event of one entry, where somebody asked for them.
    pub fn tell(&self, dir: &Dir, source: usize, target: &CStr, kind: Kind, done: &Done) {
        if !self.run.rules.entry_events {
            return;
        }
        self.run.queue.push(Event::Entry(EntryEvent {
            outcome: done.outcome,
            kind,
            path: join(&dir.relative_path(), target.to_bytes()),
            source: self.path_of(dir, source, target, Side::Source),
            destination: self.path_of(dir, source, target, Side::Destination(done.destination)),
            bytes: done.bytes,
            changes: done.changes,
            reason: done.reason,
            target: done.target.clone(),
        }));
    }

    /// One entry that is not a directory. `None`: its outcome comes later, with its sync.
    fn entry(&mut self, entry: &Entry<'_>, kind: Kind) -> Result<Option<Done>, Stopped> {
        if self.run.rules.directories == Directories::Only {
            return Ok(Some(Done::skipped(Reason::DirectoriesOnly)));
        }
        let source = &entry.dir.sources[entry.source];
        let name = source.scope.name_of(entry.target).unwrap_or(entry.target);
        let at = entry
            .dir
            .source(entry.source)
            .map_err(|e| Fault::new(Operation::Open, Side::Source, e))?;
        if kind == Kind::File {
            return self.regular(entry, &at, name);
        }
        let stat = sys::stat(at.as_fd(), name, Follow::No).map_err(|e| Fault::new(Operation::Stat, Side::Source, e))?;
        if stat.kind != kind {
            return Err(Stopped::Fault(Fault {
                operation: Operation::Stat,
                side: Side::Source,
                cause: Cause::Changed,
            }));
        }
        let node = sys::open_node(at.as_fd(), name).map_err(|e| Fault::new(Operation::Open, Side::Source, e))?;
        let text = match kind {
            Kind::Symlink => {
                Some(sys::read_link(at.as_fd(), name).map_err(|e| Fault::new(Operation::Read, Side::Source, e))?)
            }
            _ => None,
        };
        self.special(entry, &stat, &node, text.as_deref()).map(Some)
    }

    /// What has this name in each destination: where it was looked up, and the facts.
    fn existing(&self, entry: &Entry<'_>) -> Result<Vec<(usize, Option<Stat>)>, Fault> {
        let mut there = Vec::with_capacity(entry.dir.twins.len());
        for (index, twin) in entry.dir.twins.iter().enumerate() {
            let Some(twin) = twin else { continue };
            let known = match (
                twin.fresh,
                entry
                    .dir
                    .twin(index)
                    .map_err(|e| Fault::new(Operation::Open, Side::Destination(index), e))?,
            ) {
                (false, Some(fd)) => match sys::stat(fd.as_fd(), entry.target, Follow::No) {
                    Ok(stat) => Some(stat),
                    Err(Errno::NOENT) => None,
                    Err(errno) => return Err(Fault::new(Operation::Stat, Side::Destination(index), errno)),
                },
                _ => None,
            };
            there.push((index, known));
        }
        Ok(there)
    }

    fn regular(&mut self, entry: &Entry<'_>, at: &OwnedFd, name: &CStr) -> Result<Option<Done>, Stopped> {
        let there = self.existing(entry)?;
        let open = |e| Fault::new(Operation::Open, Side::Source, e);
        // Where nothing can be there already, the file is opened at once: its facts come with it.
        let mut file = None;
        let stat = if there.iter().all(|(_, s)| s.is_none()) && !self.run.rules.dry_run {
            let fd = sys::open_file(at.as_fd(), name).map_err(open)?;
            let stat = sys::stat_fd(fd.as_fd()).map_err(|e| Fault::new(Operation::Stat, Side::Source, e))?;
            file = Some(fd);
            stat
        } else {
            sys::stat(at.as_fd(), name, Follow::No).map_err(|e| Fault::new(Operation::Stat, Side::Source, e))?
        };
        if stat.kind != Kind::File {
            return Err(Stopped::Fault(Fault {
                operation: Operation::Open,
                side: Side::Source,
                cause: Cause::Changed,
            }));
        }
        self.counters.sized(stat.size, stat.allocated);
        let mut claimed = Claimed {
            links: &self.run.links,
            id: None,
        };
        if stat.nlink > 1 {
            self.flush();
            match self.run.links.claim(stat.id, stat.nlink) {
                Claim::First => claimed.id = Some(stat.id),
                Claim::Link(first) => {
                    if let Some(done) = self.link(entry, &stat, &there, &first)? {
                        return Ok(Some(done));
                    }
                }
            }
        }
        // The same file in any destination settles it; a different one is replaced where it is.
        let mut place = None;
        for (index, existing) in &there {
            let mut action = plan(&stat, existing.as_ref(), self.run.rules.tail);
            if action == Action::Probe {
                action = if self.same_content(entry, at, name, &stat, *index)? {
                    Action::Keep
                } else {
                    Action::Replace(Changes::CONTENT)
                };
            }
            match (action, existing) {
                (Action::Skip(reason), _) => {
                    return Ok(Some(
                        Done {
                            size: stat.size,
                            ..Done::skipped(reason)
                        }
                        .at(*index),
                    ));
                }
                (Action::Keep, Some(existing)) => {
                    let done = self.keep_file(entry, at, name, &stat, *index, existing)?;
                    claimed.settle(self.location(entry, *index, existing.id));
                    return Ok(Some(done));
                }
                (Action::Conflict(what), _) => return Err(Fault::conflict(Operation::Create, *index, what).into()),
                (Action::Replace(changes), _) => place = place.or(Some((*index, true, changes))),
                _ => {}
            }
        }
        if self.run.rules.dry_run {
            let (index, _, changes) = place.unwrap_or((there.first().map_or(0, |t| t.0), false, Changes::NEW));
            self.counters.planned(stat.allocated.max(stat.size));
            claimed.settle(self.location(entry, index, stat.id));
            return Ok(Some(
                Done {
                    bytes: stat.size,
                    size: stat.size,
                    ..Done::new(Outcome::Copied)
                }
                .with(changes)
                .at(index),
            ));
        }
        let file = match file {
            Some(file) => file,
            None => sys::open_file(at.as_fd(), name).map_err(open)?,
        };
        let mut tried = Err(Stopped::Fault(Fault::conflict(
            Operation::Create,
            0,
            "no destination is left for this directory",
        )));
        let order: Vec<(usize, bool, Changes)> = match place {
            Some(place) => vec![place],
            None => there.iter().map(|(index, _)| (*index, false, Changes::NEW)).collect(),
        };
        for (turn, (index, replace, changes)) in order.iter().enumerate() {
            let last = turn + 1 == order.len();
            if !last && self.run.is_full(*index) {
                continue;
            }
            tried = self.copy_file(entry, &file, &stat, *index, *replace, *changes);
            match &tried {
                Err(Stopped::Fault(Fault {
                    cause: Cause::Errno(Errno::NOSPC | Errno::DQUOT),
                    ..
                })) if !last => {
                    self.run.fill(*index);
                }
                _ => break,
            }
        }
        let finished = tried?;
        if claimed.id.is_some() {
            // Others wait for this one, so it is not left for later.
            let id = sys::stat_fd(finished.file.as_fd())
                .map_err(|e| Fault::new(Operation::Stat, Side::Destination(finished.destination), e))?
                .id;
            let index = finished.destination;
            let done = self.finish(finished, true)?;
            claimed.settle(self.location(entry, index, id));
            return Ok(Some(done));
        }
        if self.sync_due(&finished) {
            self.unsynced.push(finished);
            if self.unsynced.len() >= self.run.sync_batch.min(SYNC_BATCH) {
                self.flush();
            }
            return Ok(None);
        }
        self.finish(finished, false).map(Some)
    }

    fn location(&self, entry: &Entry<'_>, destination: usize, id: Identity) -> Location {
        Location {
            dir: Arc::clone(entry.dir),
            destination,
            name: entry.target.to_owned(),
            id,
        }
    }

    fn same_content(
        &mut self,
        entry: &Entry<'_>,
        at: &OwnedFd,
        name: &CStr,
        stat: &Stat,
        index: usize,
    ) -> Result<bool, Fault> {
        let side = Side::Destination(index);
        let Some(twin) = entry
            .dir
            .twin(index)
            .map_err(|e| Fault::new(Operation::Open, side, e))?
        else {
            return Ok(false);
        };
        let source = sys::open_file(at.as_fd(), name).map_err(|e| Fault::new(Operation::Open, Side::Source, e))?;
        let existing = match sys::open_file(twin.as_fd(), entry.target) {
            Ok(fd) => fd,
            // What may not be read can't be trusted; it may still be replaced.
            Err(Errno::ACCESS | Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(Fault::new(Operation::Open, side, errno)),
        };
        probe::same_tail(
            source.as_fd(),
            existing.as_fd(),
            stat.size,
            self.run.rules.tail,
            index,
            &mut self.buffer,
        )
    }

    /// The content is there: puts the metadata right.
    fn keep_file(
        &mut self,
        entry: &Entry<'_>,
        at: &OwnedFd,
        name: &CStr,
        stat: &Stat,
        index: usize,
        existing: &Stat,
    ) -> Result<Done, Fault> {
        let node = sys::open_node(at.as_fd(), name).map_err(|e| Fault::new(Operation::Open, Side::Source, e))?;
        let done = self.keep(entry, stat, Node::Path(node.as_fd()), index, existing)?;
        Ok(Done {
            size: stat.size,
            ..done
        })
    }

    fn keep(
        &mut self,
        entry: &Entry<'_>,
        stat: &Stat,
        source: Node<'_>,
        index: usize,
        existing: &Stat,
    ) -> Result<Done, Fault> {
        let keep = &self.run.rules.keep;
        let side = Side::Destination(index);
        let mut changes = differences(stat, existing, keep);
        let twin = entry
            .dir
            .twin(index)
            .map_err(|e| Fault::new(Operation::Open, side, e))?;
        if let Some(twin) = twin {
            let node = sys::open_node(twin.as_fd(), entry.target).map_err(|e| Fault::new(Operation::Open, side, e))?;
            if sys::stat_fd(node.as_fd())
                .map_err(|e| Fault::new(Operation::Stat, side, e))?
                .id
                != existing.id
            {
                return Err(Fault::new(Operation::Open, side, Errno::STALE));
            }
            let copy = Copy {
                node: Node::Path(node.as_fd()),
                owner: (existing.uid, existing.gid),
                mode: existing.mode,
                new: false,
                inherits_acl: false,
                destination: index,
            };
            let act = !self.run.rules.dry_run;
            let time = changes.0 & Changes::TIME.0 != 0;
            let seen = put_right(keep, stat, Some(source), copy, act, &mut self.scratch)?;
            changes.insert(seen);
            if act && time {
                metadata::set_times(keep, stat, copy.node, index)?;
            }
        }
        Ok(if changes.is_empty() {
            Done::skipped(Reason::Unchanged).at(index)
        } else {
            Done::new(Outcome::Metadata).with(changes).at(index)
        })
    }

    /// Makes an entry: under its final name where nobody sees it yet, otherwise under a staging name.
    fn make<T>(
        &self,
        entry: &Entry<'_>,
        index: usize,
        operation: Operation,
        mut make: impl FnMut(&OwnedFd, &CStr) -> sys::Result<T>,
    ) -> Result<(T, Option<Staging>), Fault> {
        let fault = |e| Fault::new(operation, Side::Destination(index), e);
        let (twin, fd) = self.twin(entry.dir, index)?;
        if twin.fresh {
            return match make(&fd, entry.target) {
                Ok(made) => Ok((made, None)),
                Err(Errno::EXIST) => Err(Fault::conflict(
                    operation,
                    index,
                    "the destination takes two names of the source for one",
                )),
                Err(errno) => Err(fault(errno)),
            };
        }
        let (made, staging) = self
            .run
            .stager
            .stage(entry.target, |name| make(&fd, name))
            .map_err(fault)?;
        Ok((made, Some(staging)))
    }

    fn twin<'d>(&self, dir: &'d Dir, index: usize) -> Result<(&'d Twin, Arc<OwnedFd>), Fault> {
        let stale = |e| Fault::new(Operation::Open, Side::Destination(index), e);
        let fd = dir.twin(index).map_err(stale)?.ok_or_else(|| stale(Errno::STALE))?;
        let twin = dir.twins[index].as_ref().ok_or_else(|| stale(Errno::STALE))?;
        Ok((twin, fd))
    }

    /// Takes back what was made; a directory with something unfinished in it must not be published.
    fn discard(&self, dir: &Dir, index: usize, target: &CStr, staging: Option<&Staging>) {
        let removed = self.twin(dir, index).and_then(|(twin, fd)| {
            let name = staging.map_or(target, Staging::as_c_str);
            match sys::unlink(fd.as_fd(), name) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(errno) => {
                    if twin.fresh {
                        twin.tainted.store(true, Ordering::Release);
                    }
                    Err(Fault::new(Operation::Remove, Side::Destination(index), errno))
                }
            }
        });
        if let Err(fault) = removed {
            self.fail(&fault, join(&dir.twin_path(index), target.to_bytes()), Kind::File);
        }
    }

    /// Writes a file; its times, sync and name come with [`Worker::finish`].
    fn copy_file(
        &mut self,
        entry: &Entry<'_>,
        file: &OwnedFd,
        stat: &Stat,
        index: usize,
        replace: bool,
        changes: Changes,
    ) -> Result<Finished, Stopped> {
        self.run.reserve(index, stat.allocated);
        let (new, staging) = self.make(entry, index, Operation::Create, |fd, name| {
            sys::create_file(fd.as_fd(), name)
        })?;
        let result = self.fill_file(entry, file, stat, index, &new);
        match result {
            Ok(bytes) => Ok(Finished {
                dir: Arc::clone(entry.dir),
                source: entry.source,
                target: entry.target.to_owned(),
                destination: index,
                file: new,
                staging,
                replace,
                stat: *stat,
                done: Done {
                    bytes,
                    size: stat.size,
                    ..Done::new(Outcome::Copied)
                }
                .with(changes)
                .at(index),
            }),
            Err(stopped) => {
                self.discard(entry.dir, index, entry.target, staging.as_ref());
                Err(stopped)
            }
        }
    }

    fn fill_file(
        &mut self,
        entry: &Entry<'_>,
        file: &OwnedFd,
        stat: &Stat,
        index: usize,
        new: &OwnedFd,
    ) -> Result<u64, Stopped> {
        let rules = &self.run.rules;
        let (twin, twin_fd) = self.twin(entry.dir, index)?;
        let bytes = Transfer {
            from: file.as_fd(),
            to: new.as_fd(),
            stat,
            to_device: twin.slot.as_ref().map_or(0, |s| s.id().dev),
            destination: index,
            sparse: rules.sparse,
            write_back: rules.sync != Sync::None,
            methods: &self.run.methods,
            cancel: &self.run.cancel,
            progress: self.counters.written(),
        }
        .run(&mut self.buffer)?;
        drop(twin_fd);
        let after = sys::stat_fd(file.as_fd()).map_err(|e| Fault::new(Operation::Stat, Side::Source, e))?;
        if (after.size, after.mtime, after.ctime) != (stat.size, stat.mtime, stat.ctime) {
            return Err(Stopped::Fault(Fault {
                operation: Operation::Read,
                side: Side::Source,
                cause: Cause::Changed,
            }));
        }
        let owner = match twin.creates.get() {
            Some(owner) => *owner,
            None => {
                let made =
                    sys::stat_fd(new.as_fd()).map_err(|e| Fault::new(Operation::Stat, Side::Destination(index), e))?;
                *twin.creates.get_or_init(|| (made.uid, made.gid))
            }
        };
        let copy = Copy {
            node: Node::Open(new.as_fd()),
            owner,
            mode: 0o600,
            new: true,
            inherits_acl: twin.default_acl,
            destination: index,
        };
        put_right(
            &rules.keep,
            stat,
            Some(Node::Open(file.as_fd())),
            copy,
            true,
            &mut self.scratch,
        )?;
        Ok(bytes)
    }

    /// Whether the skip test could take this file for finished after a power cut when it is not (design.md section 4).
    fn sync_due(&self, finished: &Finished) -> bool {
        let rules = &self.run.rules;
        rules.sync != Sync::None && finished.stat.size > 0 && (finished.replace || rules.tail < finished.stat.size)
    }

    /// The end of a file's way: sync if one is due, times, name.
    fn finish(&mut self, finished: Finished, may_sync: bool) -> Result<Done, Stopped> {
        let Finished {
            dir,
            target,
            destination,
            file,
            staging,
            replace,
            stat,
            done,
            ..
        } = &finished;
        let side = Side::Destination(*destination);
        let result = (|| {
            if may_sync && self.sync_due(&finished) {
                sys::sync_data(file.as_fd()).map_err(|e| Fault::new(Operation::Sync, side, e))?;
            }
            metadata::set_times(&self.run.rules.keep, stat, Node::Open(file.as_fd()), *destination)?;
            if let Some(staging) = staging {
                let (_, fd) = self.twin(dir, *destination)?;
                publish(fd.as_fd(), staging, target, *replace, *destination)?;
            }
            Ok(())
        })();
        match result {
            Ok(()) => Ok(done.clone()),
            Err(fault) => {
                self.discard(dir, *destination, target, staging.as_ref());
                Err(Stopped::Fault(fault))
            }
        }
    }

    /// Waits for the files whose sync was put off: their write-back is under way, so most of it is done.
    pub fn flush(&mut self) {
        for finished in std::mem::take(&mut self.unsynced) {
            let (dir, source, target) = (Arc::clone(&finished.dir), finished.source, finished.target.clone());
            let result = self.finish(finished, true);
            self.record(&dir, source, &target, Kind::File, result);
        }
    }

    /// Makes a hard link to the first copy. `None`: that can't be linked to from here, so this one is copied too.
    fn link(
        &mut self,
        entry: &Entry<'_>,
        stat: &Stat,
        there: &[(usize, Option<Stat>)],
        first: &Location,
    ) -> Result<Option<Done>, Stopped> {
        let index = first.destination;
        let existing = there.iter().find(|(i, _)| *i == index).and_then(|(_, s)| s.as_ref());
        let first_path = join(&first.dir.relative_path(), first.name.to_bytes());
        match existing {
            Some(existing) if existing.id == first.id && !self.run.rules.dry_run => {
                return Ok(Some(
                    Done {
                        size: stat.size,
                        ..Done::skipped(Reason::Unchanged)
                    }
                    .at(index),
                ));
            }
            Some(existing) if existing.kind == Kind::Directory => {
                return Err(Fault::conflict(Operation::Link, index, "a directory is in the way").into());
            }
            _ => {}
        }
        let changes = if existing.is_some() {
            Changes::CONTENT
        } else {
            Changes::NEW
        };
        let done = Done {
            size: stat.size,
            target: Some(first_path),
            ..Done::new(Outcome::Linked)
        }
        .with(changes)
        .at(index);
        if self.run.rules.dry_run {
            let same = existing.is_some_and(|e| e.id == first.id);
            return Ok(Some(if same {
                Done {
                    size: stat.size,
                    ..Done::skipped(Reason::Unchanged)
                }
            } else {
                done
            }));
        }
        if !there.iter().any(|(i, _)| *i == index) {
            return Ok(None);
        }
        let (_, from) = self.twin(&first.dir, index)?;
        let made = self.make(entry, index, Operation::Link, |fd, name| {
            sys::make_link(from.as_fd(), &first.name, fd.as_fd(), name)
        });
        let staging = match made {
            Ok(((), staging)) => staging,
            // Too many links, or no links here at all: a copy keeps the content.
            Err(Fault {
                cause: Cause::Errno(Errno::MLINK | Errno::XDEV | Errno::PERM | Errno::NOTSUP | Errno::NOSYS),
                ..
            }) => {
                return Ok(None);
            }
            Err(fault) => return Err(fault.into()),
        };
        if let Some(staging) = &staging {
            let (_, fd) = self.twin(entry.dir, index)?;
            let published = publish(fd.as_fd(), staging, entry.target, existing.is_some(), index);
            // A rename between two links of one inode does nothing and leaves both.
            self.discard(entry.dir, index, entry.target, Some(staging));
            published?;
        }
        Ok(Some(done))
    }

    /// A symlink, FIFO, socket or device.
    fn special(
        &mut self,
        entry: &Entry<'_>,
        stat: &Stat,
        source: &OwnedFd,
        text: Option<&CStr>,
    ) -> Result<Done, Stopped> {
        let there = self.existing(entry)?;
        let target = text.map(|t| t.to_bytes().to_vec());
        let mut place = None;
        for (index, existing) in &there {
            let mut action = plan(stat, existing.as_ref(), self.run.rules.tail);
            if let (Action::Probe, Some(text)) = (action, text) {
                let (_, fd) = self.twin(entry.dir, *index)?;
                action = if probe::same_link(text, fd.as_fd(), entry.target, *index)? {
                    Action::Keep
                } else {
                    Action::Replace(Changes::TARGET)
                };
            }
            match (action, existing) {
                (Action::Skip(reason), _) => return Ok(Done::skipped(reason).at(*index)),
                (Action::Keep, Some(existing)) => {
                    let done = self.keep(entry, stat, Node::Path(source.as_fd()), *index, existing)?;
                    return Ok(Done { target, ..done });
                }
                (Action::Conflict(what), _) => return Err(Fault::conflict(Operation::Create, *index, what).into()),
                (Action::Replace(changes), _) => place = place.or(Some((*index, true, changes))),
                _ => {}
            }
        }
        let (index, replace, changes) = match place.or_else(|| there.first().map(|t| (t.0, false, Changes::NEW))) {
            Some(place) => place,
            None => {
                return Err(Fault::conflict(Operation::Create, 0, "no destination is left for this directory").into());
            }
        };
        let done = Done {
            target,
            ..Done::new(Outcome::Made)
        }
        .with(changes)
        .at(index);
        if self.run.rules.dry_run {
            return Ok(done);
        }
        let operation = if text.is_some() {
            Operation::MakeSymlink
        } else {
            Operation::MakeNode
        };
        let ((), staging) = self.make(entry, index, operation, |fd, name| match text {
            Some(text) => sys::make_symlink(text, fd.as_fd(), name),
            None => sys::make_node(fd.as_fd(), name, stat.kind, stat.rdev),
        })?;
        let result = self.dress_special(entry, stat, source, index, staging.as_ref(), replace);
        if let Err(fault) = result {
            self.discard(entry.dir, index, entry.target, staging.as_ref());
            return Err(fault.into());
        }
        Ok(done)
    }

    /// Metadata, times and name of a new symlink or node.
    fn dress_special(
        &mut self,
        entry: &Entry<'_>,
        stat: &Stat,
        source: &OwnedFd,
        index: usize,
        staging: Option<&Staging>,
        replace: bool,
    ) -> Result<(), Fault> {
        let side = Side::Destination(index);
        let (twin, fd) = self.twin(entry.dir, index)?;
        let name = staging.map_or(entry.target, Staging::as_c_str);
        let node = sys::open_node(fd.as_fd(), name).map_err(|e| Fault::new(Operation::Open, side, e))?;
        let made = sys::stat_fd(node.as_fd()).map_err(|e| Fault::new(Operation::Stat, side, e))?;
        let copy = Copy {
            node: Node::Path(node.as_fd()),
            owner: (made.uid, made.gid),
            mode: made.mode,
            new: true,
            inherits_acl: twin.default_acl && stat.kind != Kind::Symlink,
            destination: index,
        };
        let keep = &self.run.rules.keep;
        put_right(
            keep,
            stat,
            Some(Node::Path(source.as_fd())),
            copy,
            true,
            &mut self.scratch,
        )?;
        metadata::set_times(keep, stat, copy.node, index)?;
        match staging {
            Some(staging) => publish(fd.as_fd(), staging, entry.target, replace, index),
            None => Ok(()),
        }
    }
}
