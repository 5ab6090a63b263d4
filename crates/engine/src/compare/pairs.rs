//! Files of both sides, read side by side where only their contents tell.
//!
//! Comes in: a verdict that is marked to be read; goes out: the same with what was read, now or by a run that died. Files are
//! found by their paths, and no link below a root is followed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind, OwnedFd, Stat};

use crate::bytes::probe::{self, Extent, Likeness};
use crate::bytes::transfer::BUFFER_BYTES;
use crate::compare::join::Verdict;
use crate::compare::options::{Checked, SideOptions};
use crate::compare::side::Kept;
use crate::entry::{Changes, Reason};
use crate::error::{Cause, Failure, Fault, Operation, Side, Stopped};
use crate::job::desk::Desk;
use crate::records::pieces::{Piece, Pieces, facts, is_settled};
use crate::report::counters::Counters;
use crate::tree::medium::has_sizes;
use crate::tree::path::{c_string, open_directory_path, split, trim};
use crate::walk::start::Root;

/// Reads pairs of files, found by their paths.
pub struct PairReader<'r> {
    checked: &'r Checked,
    desk: &'r Desk,
    counters: &'r Counters,
    /// What the job has read, and an earlier run of it.
    finished: Option<&'r Pieces>,
    left: Finder<'r>,
    right: Finder<'r>,
    buffer: Vec<u8>,
}

impl<'r> PairReader<'r> {
    pub(crate) fn new(
        checked: &'r Checked,
        (desk, counters): (&'r Desk, &'r Counters),
        finished: Option<&'r Pieces>,
    ) -> Self {
        Self {
            checked,
            desk,
            counters,
            finished,
            left: Finder::new(&checked.options.left),
            right: Finder::new(&checked.options.right),
            buffer: vec![0; 2 * BUFFER_BYTES],
        }
    }

    pub(crate) fn read(&mut self, pair: &mut Verdict) {
        pair.unread = false;
        if self.desk.cancel.is_draining() {
            pair.reason = Some(Reason::NotCompared);
            return;
        }
        let records = [&pair.left, &pair.right].map(|kept| kept.as_ref().and_then(Kept::record));
        let [Some(record), Some(other)] = records else { return };
        let sizes = [record, other].map(|record| record.details.map_or(0, |d| d.size));
        let answer = catch_unwind(AssertUnwindSafe(|| self.same(record.path, sizes)));
        match answer.unwrap_or_else(|panic| Err(Fault::panic(&*panic).into())) {
            Ok(true) => {}
            Ok(false) => {
                pair.changes.insert(Changes::CONTENT);
                pair.changes.insert_if(sizes[0] != sizes[1], Changes::SIZE);
            }
            // Given up on the way: nobody knows.
            Err(Stopped::Aborted) => pair.reason = Some(Reason::NotCompared),
            Err(Stopped::Fault(fault)) => {
                let side = match fault.side {
                    Side::Source => &self.checked.options.left,
                    Side::Destination(_) => &self.checked.options.right,
                };
                let path = side.full_path(record.path);
                // Both sides are only read: what is gone on either vanished.
                let fault = Fault {
                    side: Side::Source,
                    ..fault
                };
                pair.failure = Some(Failure::new(&fault, path, record.kind, None));
            }
        }
    }

    /// Whether two files are the same, which had these sizes when they were found.
    fn same(&mut self, path: &[u8], sizes: [u64; 2]) -> Result<bool, Stopped> {
        let mut extent = Extent::Tail {
            size: sizes[0],
            tail: sizes[0],
        };
        let mut open = |finder: &mut Finder<'_>, index: usize| {
            let side = if index == 0 { Side::Source } else { Side::Destination(0) };
            let fd = finder.open(path).map_err(|e| Fault::new(Operation::Open, side, e))?;
            let stat = sys::stat_fd(fd.as_fd()).map_err(|e| Fault::new(Operation::Stat, side, e))?;
            if stat.kind != Kind::File || stat.size != sizes[index] {
                return Err(Fault {
                    operation: Operation::Stat,
                    side,
                    cause: Cause::Changed,
                });
            }
            if stat.size == 0 || (stat.allocated == 0 && !has_sizes(fd.as_fd())) {
                extent = Extent::All;
            }
            Ok((fd, stat))
        };
        let [(left, one), (right, other)] = [open(&mut self.left, 0)?, open(&mut self.right, 1)?];
        if extent != Extent::All && sizes[0] != sizes[1] {
            return Ok(false);
        }
        let finished = self.finished.filter(|_| extent != Extent::All);
        let finished = finished.map(|pieces| (pieces, pair(path, [&one, &other])));
        if let Some((pieces, piece)) = &finished
            && let Some(found) = pieces.find(piece)
        {
            self.counters.resumes();
            self.counters.resumed(sizes[0]);
            return Ok(found == SAME);
        }
        let same = match probe::compare(left.as_fd(), right.as_fd(), extent, 0, self.desk, &mut self.buffer)? {
            Likeness::Same => true,
            Likeness::Different => false,
            Likeness::WrongSize(side, ended) => return Err(Fault::size(side, sizes[0], ended).into()),
        };
        if let Some((pieces, piece)) = &finished
            && is_settled(one.ctime)
            && is_settled(other.ctime)
        {
            pieces.add(piece, if same { SAME } else { OTHER }, 2 * sizes[0]);
        }
        Ok(same)
    }
}

/// What is written down of two files.
const SAME: &[u8] = &[1];
const OTHER: &[u8] = &[0];

/// That two files have one content, or not.
fn pair(path: &[u8], stats: [&Stat; 2]) -> Piece {
    let [left, right] = stats.map(|stat| [&stat.id.ino.to_le_bytes()[..], &facts(stat)].concat());
    Piece::new(&[path, &left, &right])
}

/// Opens files of a tree by their paths, without following a link below its root. Paths that come one after the other
/// are mostly of one directory, so that is kept.
pub struct Finder<'f> {
    root: Option<&'f Root>,
    directory: Option<(Vec<u8>, OwnedFd)>,
}

impl<'f> Finder<'f> {
    fn new(side: &'f SideOptions) -> Self {
        let root = match side {
            SideOptions::Trees(roots) => roots.first(),
            SideOptions::List { .. } => None,
        };
        Self { root, directory: None }
    }

    fn open(&mut self, path: &[u8]) -> sys::Result<OwnedFd> {
        let root = self.root.ok_or(Errno::NOENT)?;
        if path.is_empty() {
            let (directory, name) = split(&root.path);
            let at = open_directory_path(directory, Follow::Yes)?;
            return sys::open_file(at.as_fd(), &c_string(name)?);
        }
        let (parent, name) = split(path);
        if self.directory.as_ref().is_none_or(|(kept, _)| kept != parent) {
            let follow = if root.follow { Follow::Yes } else { Follow::No };
            let mut at = open_directory_path(trim(&root.path), follow)?;
            for component in parent.split(|b| *b == b'/').filter(|c| !c.is_empty()) {
                at = sys::open_directory(at.as_fd(), &c_string(component)?, Follow::No)?;
            }
            self.directory = Some((parent.to_vec(), at));
        }
        let (_, at) = self.directory.as_ref().ok_or(Errno::NOENT)?;
        sys::open_file(at.as_fd(), &c_string(name)?)
    }
}
