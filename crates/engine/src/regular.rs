//! Regular files: whether one is there already, its copy, its links, and the end of its way.
//!
//! Comes in: an entry that a listing called a file; goes out: what was done, at once or with its sync. The way is content,
//! owner, attributes, mode, ACLs and capabilities, the sync if one is due, times, name (design.md section 4).

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::sync::Arc;

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Identity, Kind, Node, OwnedFd, Stat};

use crate::act::Entry;
use crate::error::{Cause, Fault, Operation, Side};
use crate::event::Changes;
use crate::links::{Claim, Links, Location};
use crate::metadata::{self, Copy, put_right};
use crate::options::Sync;
use crate::plan::{Action, plan};
use crate::probe;
use crate::publish::{Staging, publish};
use crate::report::{Outcome, Reason};
use crate::transfer::{Stopped, Transfer};
use crate::tree::{Dir, join};
use crate::worker::{Done, Worker};

/// Files whose sync is gathered before it is waited for; each holds a descriptor.
const SYNC_BATCH: usize = 32;

/// A file that is written and waits for its sync.
pub struct Finished {
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

/// Where a file's content has to go.
struct Place {
    destination: usize,
    replace: bool,
    changes: Changes,
}

/// What the destinations said about a file.
enum Settled {
    /// Nothing is left to do.
    Done(Done),
    /// It has to be copied, to the first of these that has room.
    Copy(Vec<Place>),
}

impl Worker<'_> {
    /// One regular file. `None`: its outcome comes later, with its sync.
    pub fn regular(&mut self, entry: &Entry<'_>, at: &OwnedFd, name: &CStr) -> Result<Option<Done>, Stopped> {
        let there = Self::existing(entry)?;
        let open = |e| Fault::new(Operation::Open, Side::Source, e);
        let look = |e| Fault::new(Operation::Stat, Side::Source, e);
        // Where nothing can be there already, the file is opened at once: its facts come with it.
        let mut file = None;
        let stat = if there.iter().all(|(_, s)| s.is_none()) && !self.run.rules.dry_run {
            let fd = file.insert(sys::open_file(at.as_fd(), name).map_err(open)?);
            sys::stat_fd(fd.as_fd()).map_err(look)?
        } else {
            sys::stat(at.as_fd(), name, Follow::No).map_err(look)?
        };
        if stat.kind != Kind::File {
            return Err(Fault::changed(Operation::Open).into());
        }
        self.counters.sized(stat.size, stat.allocated);
        let mut claimed = Claimed {
            links: &self.run.links,
            id: None,
        };
        if stat.nlink > 1 {
            // Nobody may wait for a file that waits here for its sync.
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
        let places = match self.settle(entry, at, name, &stat, &there, &mut claimed)? {
            Settled::Done(done) => {
                return Ok(Some(Done {
                    size: stat.size,
                    ..done
                }));
            }
            Settled::Copy(places) => places,
        };
        let file = match file {
            Some(file) => file,
            None => sys::open_file(at.as_fd(), name).map_err(open)?,
        };
        let finished = self.copy_to_first_with_room(entry, &file, &stat, &places)?;
        if claimed.id.is_some() {
            // Others wait for this one, so it is not left for later.
            let index = finished.destination;
            let id = sys::stat_fd(finished.file.as_fd())
                .map_err(|e| Fault::new(Operation::Stat, Side::Destination(index), e))?
                .id;
            let done = self.finish(&finished)?;
            claimed.settle(location(entry, index, id));
            return Ok(Some(done));
        }
        if self.sync_due(&finished) {
            self.unsynced.push(finished);
            if self.unsynced.len() >= self.run.sync_batch.min(SYNC_BATCH) {
                self.flush();
            }
            return Ok(None);
        }
        self.finish(&finished).map(Some)
    }

    /// Asks every destination: the same file in any of them settles it, a different one is replaced where it is.
    fn settle(
        &mut self,
        entry: &Entry<'_>,
        at: &OwnedFd,
        name: &CStr,
        stat: &Stat,
        there: &[(usize, Option<Stat>)],
        claimed: &mut Claimed<'_>,
    ) -> Result<Settled, Stopped> {
        let (mut places, mut stale) = (Vec::new(), None);
        for &(destination, ref existing) in there {
            let mut action = plan(stat, existing.as_ref(), self.run.rules.tail);
            if action == Action::Probe {
                let same = self.same_content(entry, at, name, stat, destination)?;
                action = if same {
                    Action::Keep
                } else {
                    Action::Replace(Changes::CONTENT)
                };
            }
            match (action, existing) {
                (Action::Skip(reason), _) => return Ok(Settled::Done(Done::skipped(reason).at(destination))),
                (Action::Keep, Some(existing)) => {
                    let done = self.keep_file(entry, at, name, stat, destination, existing)?;
                    claimed.settle(location(entry, destination, existing.id));
                    return Ok(Settled::Done(done));
                }
                (Action::Conflict(what), _) => {
                    return Err(Fault::conflict(Operation::Create, destination, what).into());
                }
                (Action::Replace(changes), _) => {
                    stale.get_or_insert(Place {
                        destination,
                        replace: true,
                        changes,
                    });
                }
                _ => places.push(Place {
                    destination,
                    replace: false,
                    changes: Changes::NEW,
                }),
            }
        }
        let places = stale.map_or(places, |place| vec![place]);
        let Some(first) = places.first().filter(|_| self.run.rules.dry_run) else {
            return Ok(Settled::Copy(places));
        };
        self.counters.planned(stat.allocated.max(stat.size));
        claimed.settle(location(entry, first.destination, stat.id));
        let done = Done {
            bytes: stat.size,
            ..Done::new(Outcome::Copied)
        };
        Ok(Settled::Done(done.with(first.changes).at(first.destination)))
    }

    /// Copies to the first place that has room.
    fn copy_to_first_with_room(
        &mut self,
        entry: &Entry<'_>,
        file: &OwnedFd,
        stat: &Stat,
        places: &[Place],
    ) -> Result<Finished, Stopped> {
        for (turn, place) in places.iter().enumerate() {
            let last = turn + 1 == places.len();
            if !last && self.run.is_full(place.destination) {
                continue;
            }
            match self.copy_file(entry, file, stat, place) {
                Err(Stopped::Fault(Fault {
                    cause: Cause::Errno(Errno::NOSPC | Errno::DQUOT),
                    ..
                })) if !last => {
                    self.run.fill(place.destination);
                }
                result => return result,
            }
        }
        Err(Fault::conflict(Operation::Create, 0, "no destination is left for this directory").into())
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

    /// Writes a file; its times, sync and name come with [`Worker::finish`].
    fn copy_file(
        &mut self,
        entry: &Entry<'_>,
        file: &OwnedFd,
        stat: &Stat,
        place: &Place,
    ) -> Result<Finished, Stopped> {
        let index = place.destination;
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
                replace: place.replace,
                stat: *stat,
                done: Done {
                    bytes,
                    size: stat.size,
                    ..Done::new(Outcome::Copied)
                }
                .with(place.changes)
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
        let (twin, twin_fd) = Self::twin(entry.dir, index)?;
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
            sized: Cell::new(0),
        }
        .run(&mut self.buffer)?;
        drop(twin_fd);
        let after = sys::stat_fd(file.as_fd()).map_err(|e| Fault::new(Operation::Stat, Side::Source, e))?;
        if (after.size, after.mtime, after.ctime) != (stat.size, stat.mtime, stat.ctime) {
            return Err(Fault::changed(Operation::Read).into());
        }
        let owner = if let Some(owner) = twin.creates.get() {
            *owner
        } else {
            let made =
                sys::stat_fd(new.as_fd()).map_err(|e| Fault::new(Operation::Stat, Side::Destination(index), e))?;
            *twin.creates.get_or_init(|| (made.uid, made.gid))
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
    fn finish(&mut self, finished: &Finished) -> Result<Done, Stopped> {
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
        } = finished;
        let side = Side::Destination(*destination);
        let result = (|| {
            if self.sync_due(finished) {
                sys::sync_data(file.as_fd()).map_err(|e| Fault::new(Operation::Sync, side, e))?;
            }
            metadata::set_times(&self.run.rules.keep, stat, Node::Open(file.as_fd()), *destination)?;
            if let Some(staging) = staging {
                let (_, fd) = Self::twin(dir, *destination)?;
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
            let result = self.finish(&finished);
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
        let (_, from) = Self::twin(&first.dir, index)?;
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
            let (_, fd) = Self::twin(entry.dir, index)?;
            let published = publish(fd.as_fd(), staging, entry.target, existing.is_some(), index);
            // A rename between two links of one inode does nothing and leaves both.
            self.discard(entry.dir, index, entry.target, Some(staging));
            published?;
        }
        Ok(Some(done))
    }
}

/// Where a file of this run is.
fn location(entry: &Entry<'_>, destination: usize, id: Identity) -> Location {
    Location {
        dir: Arc::clone(entry.dir),
        destination,
        name: entry.target.to_owned(),
        id,
    }
}
