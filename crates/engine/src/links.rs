//! Hard links within a run: which file of the destination stands for which inode of the source.
//!
//! Only files with more than one link come here. The first worker to claim an inode copies it; who comes later waits for
//! that copy, which is under way and waits for nobody, and links to it. An inode whose links have all been seen is
//! forgotten.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Identity, Kind, Stat};

use crate::act::Entry;
use crate::error::{Cause, Fault, Operation, Side};
use crate::event::Changes;
use crate::publish::publish;
use crate::report::{Outcome, Reason};
use crate::transfer::Stopped;
use crate::tree::{Dir, join};
use crate::worker::{Done, Worker};

/// Where a file of the destination is.
#[derive(Clone)]
pub struct Location {
    /// Its directory.
    pub dir: Arc<Dir>,
    /// Which destination.
    pub destination: usize,
    /// Its name.
    pub name: CString,
    /// Its inode, to tell whether another name is a link to it already.
    pub id: Identity,
}

enum State {
    Copying,
    Ready(Location),
}

struct Inode {
    state: State,
    /// Links of the source that have not been seen.
    left: u32,
}

/// What to do with a file that has several links.
pub enum Claim {
    /// Copy it, then say where it is with [`Links::ready`] or that it failed with [`Links::failed`].
    First,
    /// Link to this, then say so with [`Links::seen`].
    Link(Location),
}

/// The inodes of this run with more than one link.
#[derive(Default)]
pub struct Links {
    inodes: Mutex<HashMap<Identity, Inode>>,
    settled: Condvar,
}

impl Links {
    /// Claims an inode with `nlink` links; waits while another worker copies it.
    pub fn claim(&self, id: Identity, nlink: u32) -> Claim {
        let mut inodes = self.inodes.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match inodes.get_mut(&id) {
                None => {
                    inodes.insert(
                        id,
                        Inode {
                            state: State::Copying,
                            left: nlink.saturating_sub(1),
                        },
                    );
                    return Claim::First;
                }
                Some(inode) => {
                    if let State::Ready(location) = &inode.state {
                        return Claim::Link(location.clone());
                    }
                }
            }
            inodes = self.settled.wait(inodes).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Another name of the inode is done with.
    pub fn seen(&self, id: Identity) {
        let mut inodes = self.inodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inode) = inodes.get_mut(&id) {
            inode.left = inode.left.saturating_sub(1);
            if inode.left == 0 {
                inodes.remove(&id);
            }
        }
    }

    /// The first copy is complete.
    pub fn ready(&self, id: Identity, location: Location) {
        let mut inodes = self.inodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inode) = inodes.get_mut(&id) {
            inode.state = State::Ready(location);
        }
        self.settled.notify_all();
    }

    /// The first copy failed: who comes next is the first.
    pub fn failed(&self, id: Identity) {
        self.inodes.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        self.settled.notify_all();
    }
}

/// Holds the claim on an inode with several links; an end without a copy gives it to the next.
pub struct Claimed<'l> {
    /// Where it was claimed.
    pub links: &'l Links,
    /// The inode, while the claim holds.
    pub id: Option<Identity>,
}

impl Claimed<'_> {
    /// Leaves the inode to the next.
    pub fn give_up(&mut self) {
        if let Some(id) = self.id.take() {
            self.links.failed(id);
        }
    }

    /// The copy is complete.
    pub fn settle(&mut self, location: Location) {
        if let Some(id) = self.id.take() {
            self.links.ready(id, location);
        }
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Where a file of this run is.
pub fn location(entry: &Entry<'_>, destination: usize, id: Identity) -> Location {
    Location {
        dir: Arc::clone(entry.dir),
        destination,
        name: entry.target.to_owned(),
        id,
    }
}

impl Worker<'_> {
    /// Makes a hard link to the first copy. `None`: that can't be linked to from here, so this one is copied too.
    pub fn link(
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
            // The directory of the first name was merged into another meanwhile: look for it again.
            Err(Fault {
                cause: Cause::Errno(Errno::NOENT),
                ..
            }) => {
                return Err(Fault::new(Operation::Link, Side::Destination(index), Errno::STALE).into());
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
