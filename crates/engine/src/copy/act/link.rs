//! Hard links: an entry with several links becomes a link to the first copy of its file, or is that copy.
//!
//! Comes in: an entry whose inode has other names; goes out: a link, or the claim to copy it. Only a link to the very inode that
//! this run copied stays.

use std::sync::Arc;

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Identity, Kind, Node, OwnedFd, Stat};

use crate::copy::act::{content, make, pack};
use crate::copy::dir::Twinned as _;
use crate::copy::entry::{Done, Entry, SourceEntry};
use crate::copy::links::{Claim, Claimed, First, Location};
use crate::copy::worker::Worker;
use crate::entry::{Changes, Outcome, Reason};
use crate::error::{Cause, Fault, Operation, Side, Stopped};
use crate::tree::metadata;
use crate::tree::path::{join, open_beneath, split};
use crate::tree::publish::DIRECTORY_IN_THE_WAY;
use crate::tree::staging::Staging;

/// Where a file of this run is.
pub fn location(entry: &Entry<'_>, destination: usize, id: Identity) -> Location {
    Location {
        dir: Arc::clone(entry.dir),
        destination,
        name: entry.target.to_owned(),
        id,
    }
}

/// An entry with several links: made a link to the first copy of its file, or `claimed`, to be copied. Waits while
/// another worker copies it, so no file may wait here for its sync.
pub fn link_or_claim(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    source: SourceEntry<'_>,
    stat: &Stat,
    there: &[(usize, Option<Stat>)],
    claimed: &mut Claimed<'_>,
) -> Result<Option<Done>, Stopped> {
    let of = entry.original(stat);
    let links = &worker.run.links;
    let (claim, spill) = links.claim(of, stat.nlink);
    links.note(&worker.run.desk, spill);
    let Claim::Link(first) = claim else {
        claimed.of = Some(of);
        return Ok(None);
    };
    let copied = |why: &str| {
        worker.run.desk.note("hard-link-copied", || {
            let path = join(&entry.dir.source_path(entry.source), entry.target.to_bytes());
            (path, format!("{why}, and was copied"))
        });
    };
    if would_lose(worker, entry, there, &first)? {
        links.note(&worker.run.desk, links.seen(of));
        copied("as a hard link it would have lost what it keeps of its own");
        return Ok(None);
    }
    let linked = link(worker, entry, source, stat, there, &first)?;
    if linked.is_some() {
        links.note(&worker.run.desk, links.seen(of));
    } else {
        // The next ones link to what is copied now.
        links.claim_anew(of, stat.nlink);
        claimed.of = Some(of);
        copied("could not be made a hard link");
    }
    Ok(linked)
}

/// The directory that holds the first copy. `None`: it is not there any more.
fn directory_of(worker: &Worker<'_>, first: &First) -> Result<Option<Arc<OwnedFd>>, Fault> {
    let index = first.destination();
    let there = match first {
        First::Near(location) => return location.dir.writable(index).map(|(_, fd)| Some(fd)),
        First::Far(there) => there,
    };
    let (_, base) = worker.run.links.root.writable(index)?;
    let fault = |operation, errno| Fault::new(operation, Side::Destination(index), errno);
    let mut paths = vec![there.directory.clone()];
    if !there.staging.is_empty() {
        // First: it may get its final name meanwhile, but not lose it.
        paths.insert(0, join(split(&there.directory).0, &there.staging));
    }
    for path in paths {
        let follow = worker.run.rules.asked.keep_dirlinks;
        let fd = match open_beneath(&base, &path, follow) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(errno) => return Err(fault(Operation::Open, errno)),
        };
        match sys::stat(fd.as_fd(), &there.name, Follow::No) {
            Ok(stat) if stat.id == there.id => return Ok(Some(Arc::new(fd))),
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(fault(Operation::Stat, errno)),
        }
    }
    Ok(None)
}

/// Whether a file of the destination keeps something of its own that a link in its place would not have.
fn would_lose(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    there: &[(usize, Option<Stat>)],
    first: &First,
) -> Result<bool, Fault> {
    let index = first.destination();
    let existing = there.iter().find(|(i, _)| *i == index).and_then(|(_, s)| s.as_ref());
    let other = |existing: &&Stat| existing.kind == Kind::File && existing.id != first.id();
    let (Some(rest), Some(existing), true) = (
        &worker.run.rules.keep_replaced,
        existing.filter(other),
        worker.run.pass.writes(),
    ) else {
        return Ok(false);
    };
    let Some(from) = directory_of(worker, first)? else {
        return Ok(false);
    };
    let open = |e| Fault::new(Operation::Open, Side::Destination(index), e);
    let (_, fd) = entry.dir.writable(index)?;
    let own = sys::open_node(fd.as_fd(), entry.target).map_err(open)?;
    let copy = sys::open_node(from.as_fd(), first.name()).map_err(open)?;
    let found = sys::stat_fd(copy.as_fd()).map_err(open)?;
    // Writing takes set-id bits away.
    let existing = Stat {
        mode: existing.mode & 0o1777,
        ..*existing
    };
    let nodes = (Node::Path(own.as_fd()), Node::Path(copy.as_fd()));
    let missing = metadata::missing(rest, &existing, &found, Some(nodes), index, &mut worker.scratch)?;
    Ok(missing.is_some())
}

/// Makes a hard link to the first copy. `None`: that can't be linked to from here, so this one is copied too.
pub fn link(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    source: SourceEntry<'_>,
    stat: &Stat,
    there: &[(usize, Option<Stat>)],
    first: &First,
) -> Result<Option<Done>, Stopped> {
    let (index, id) = (first.destination(), first.id());
    let existing = there.iter().find(|(i, _)| *i == index).and_then(|(_, s)| s.as_ref());
    let faced = entry.faces(index, existing);
    if faced.is_some_and(|faced| faced.kind == Kind::Directory) {
        return Err(Fault::conflict(Operation::Create, index, DIRECTORY_IN_THE_WAY).into());
    }
    let unchanged = Done {
        size: stat.size,
        ..Done::skipped(Reason::Unchanged)
    }
    .at(index);
    let is_linked = existing.is_some_and(|existing| existing.id == id);
    if !is_linked {
        let packed = entry.is_packed();
        make::permit(
            worker,
            (entry.dir, packed),
            (index, entry.target),
            Operation::Link,
            existing,
        )?;
    }
    let changes = if faced.is_some() {
        Changes::CONTENT
    } else {
        Changes::NEW
    };
    let done = Done {
        size: stat.size,
        target: Some(first.path()),
        ..Done::new(Outcome::Linked)
    }
    .with(changes)
    .at(index);
    let rules = &worker.run.rules;
    if !worker.run.pass.writes() {
        return Ok(Some(if is_linked { unchanged } else { done }));
    }
    let compares = stat.kind == Kind::File && (rules.asked.verify || rules.asked.remove_sources);
    if let Some(existing) = existing.filter(|_| is_linked) {
        make::take_over(entry, index, existing)?;
        if !compares && !entry.is_packed() {
            return Ok(Some(unchanged));
        }
    }
    if !there.iter().any(|(i, _)| *i == index) {
        return Ok(None);
    }
    let Some(from) = directory_of(worker, first)? else {
        return Ok(None);
    };
    if compares {
        let copy = content::same_content(worker, source, stat, (&from, first.name()), index, u64::MAX)?;
        if !copy.is_some_and(|copy| sys::stat_fd(copy.as_fd()).is_ok_and(|copy| copy.id == id)) {
            return Ok(None);
        }
    }
    if entry.is_packed() {
        pack::link_index(worker, entry, index, (&from, first.name()))?;
    }
    if is_linked {
        return Ok(Some(unchanged));
    }
    let made = make::make(worker, entry, index, Operation::Link, |fd, name| {
        sys::make_link(from.as_fd(), first.name(), fd.as_fd(), name)
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
    let (_, fd) = entry.dir.writable(index)?;
    let name = staging.as_ref().map_or(entry.target, Staging::as_c_str);
    // Its name may have been exchanged: what was linked is looked at, not what was meant.
    let made = sys::stat(fd.as_fd(), name, Follow::No);
    if !made.is_ok_and(|made| made.id == id) {
        make::discard(worker, entry.dir, index, entry.target, staging.as_ref());
        made.map_err(|e| Fault::new(Operation::Stat, Side::Destination(index), e))?;
        return Ok(None);
    }
    if let Some(staging) = &staging {
        let published = make::publish(worker, entry.dir, index, staging, entry.target, existing);
        // A rename between two links of one inode does nothing and leaves both.
        make::discard(worker, entry.dir, index, entry.target, Some(staging));
        published?;
    }
    Ok(Some(done))
}
