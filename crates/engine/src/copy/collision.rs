//! Two sources that bring one name: whether they bring the same.
//!
//! Comes in: the entries of both, of which not both are directories; goes out: nothing where content is equal, otherwise a
//! fault that names both. Metadata may differ: that of the source whose entry it becomes counts.

use std::ffi::CStr;

use bulkhaul_sys::{self as sys, AsFd as _, Follow, Kind};

use crate::bytes::probe::{self, Extent, Likeness};
use crate::copy::dir::Dir;
use crate::copy::worker::Worker;
use crate::error::{Cause, Fault, Operation, Side, Stopped};
use crate::tree::path::join;

/// Compares what source `ours` has under this name in the destination with what source `theirs` has, which is copied.
pub fn compare(worker: &mut Worker<'_>, dir: &Dir, target: &CStr, ours: usize, theirs: usize) -> Result<(), Stopped> {
    let fault = |operation, errno| Fault::new(operation, Side::Source, errno);
    let [our_name, their_name] = [ours, theirs].map(|source| dir.sources[source].scope.source_name(target));
    let at = |source: usize| dir.source(source).map_err(|e| fault(Operation::Open, e));
    let (our_at, their_at) = (at(ours)?, at(theirs)?);
    let stat = |fd, name| sys::stat(fd, name, Follow::No).map_err(|e| fault(Operation::Stat, e));
    let (our, their) = (stat(our_at.as_fd(), our_name)?, stat(their_at.as_fd(), their_name)?);
    let same = our.kind == their.kind
        && match our.kind {
            _ if our.id == their.id => true,
            Kind::File if our.size == their.size => {
                let open = |fd, name| sys::open_file(fd, name).map_err(|e| fault(Operation::Open, e));
                let (our, their) = (open(our_at.as_fd(), our_name)?, open(their_at.as_fd(), their_name)?);
                let (desk, buffer) = (&worker.run.desk, &mut worker.buffer);
                let likeness = probe::compare(our.as_fd(), their.as_fd(), Extent::All, 0, desk, buffer);
                likeness.map_err(of_sources)? == Likeness::Same
            }
            Kind::File => false,
            Kind::Symlink => {
                let text = |fd, name| sys::read_link(fd, name).map_err(|e| fault(Operation::Read, e));
                text(our_at.as_fd(), our_name)? == text(their_at.as_fd(), their_name)?
            }
            Kind::Block | Kind::Char => our.rdev == their.rdev,
            Kind::Directory | Kind::Fifo | Kind::Socket | Kind::Unknown => true,
        };
    let other = join(&dir.source_path(theirs), their_name.to_bytes());
    if dir.sources[ours].slot.id() == dir.sources[theirs].slot.id() && our_name == their_name {
        let path = || join(&dir.source_path(ours), our_name.to_bytes());
        worker
            .run
            .desk
            .note("named-twice", || (path(), "sources name it more than once".into()));
        return Ok(());
    }
    if same {
        let message = || {
            let other = String::from_utf8_lossy(&other);
            let stays = if worker.run.rules.asked.remove_sources {
                "; only what is copied leaves its source, so this one stays"
            } else {
                ""
            };
            format!("another source has the same under this name, which is copied: {other}{stays}")
        };
        let path = || join(&dir.source_path(ours), our_name.to_bytes());
        worker.run.desk.note("same-name", || (path(), message()));
        return Ok(());
    }
    Err(Fault {
        operation: Operation::Create,
        side: Side::Source,
        cause: Cause::Collision(other),
    }
    .into())
}

/// Both are sources: none lies in a destination.
fn of_sources(stopped: Stopped) -> Stopped {
    match stopped {
        Stopped::Fault(fault) => Fault {
            side: Side::Source,
            ..fault
        }
        .into(),
        Stopped::Aborted => Stopped::Aborted,
    }
}
