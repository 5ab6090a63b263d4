//! Two sides in one order, and what is to be said of each path.
//!
//! Comes in: records of both sides, sorted; goes out: a [`Verdict`] for each path, as far as records tell; where contents
//! have to, it is marked to be read.

use std::cmp::Ordering;

use bulkhaul_sys::Kind;

use crate::compare::options::{Checked, DiffForm};
use crate::compare::side::{Kept, Stream};
use crate::entry::{Changes, Reason};
use crate::error::{Failure, Refusal};
use crate::job::desk::Desk;
use crate::records::record::Record;
use crate::records::sort::Sorters;
use crate::tree::times::is_cut;

/// What was found out about one path.
#[derive(Default)]
pub struct Verdict {
    pub(crate) left: Option<Kept>,
    pub(crate) right: Option<Kept>,
    pub(crate) changes: Changes,
    /// Why it was not compared.
    pub(crate) reason: Option<Reason>,
    /// It is for the contents to tell.
    pub(crate) unread: bool,
    /// They could not be read.
    pub(crate) failure: Option<Failure>,
}

impl Verdict {
    /// Of both sides.
    pub(crate) fn bytes(&self) -> u64 {
        let records = [&self.left, &self.right].map(|kept| kept.as_ref().and_then(Kept::record));
        let details = records.into_iter().filter_map(|record| record?.details);
        details.map(|details| details.size).sum()
    }
}

/// What differs, as far as records tell.
fn differing(checked: &Checked, left: &Record<'_>, right: &Record<'_>) -> Changes {
    let mut changes = Changes::default();
    let vague = [left.kind, right.kind].contains(&Kind::Unknown);
    let directory = |record: &Record<'_>| record.kind == Kind::Directory;
    if left.kind != right.kind && (!vague || directory(left) != directory(right)) {
        changes.insert(Changes::KIND);
        return changes;
    }
    let differ = |left: Option<u64>, right: Option<u64>| matches!((left, right), (Some(l), Some(r)) if l != r);
    changes.insert_if(differ(left.hash, right.hash), Changes::CONTENT);
    if let (Some(left), Some(right)) = (left.target, right.target) {
        changes.insert_if(left != right, Changes::TARGET);
    }
    let (Some(l), Some(r)) = (&left.details, &right.details) else {
        return changes;
    };
    if left.kind == Kind::File && l.size != r.size && !(checked.reads() && (l.vague || r.vague)) {
        changes.insert(Changes::SIZE);
        changes.insert(Changes::CONTENT);
    }
    changes.insert_if(l.rdev != r.rdev, Changes::TARGET);
    // hpcp's lists tell no more of a link than its text.
    let told = left.kind != Kind::Symlink || !checked.tells_changes();
    if checked.options.metadata && told {
        let timed = checked.options.directory_times || !directory(left);
        let same = if checked.options.whole_seconds {
            l.mtime.sec == r.mtime.sec
        } else {
            // What can't be kept is nothing that a patch has to bring.
            let cut = checked.options.form == DiffForm::Changes && is_cut(l.mtime, r.mtime);
            cut || l.mtime.as_float().total_cmp(&r.mtime.as_float()).is_eq()
        };
        changes.insert_if(timed && !same, Changes::TIME);
        changes.insert_if(left.kind != Kind::Symlink && l.mode != r.mode, Changes::MODE);
        changes.insert_if(l.uid != r.uid, Changes::OWNER);
        changes.insert_if(l.gid != r.gid, Changes::GROUP);
        changes.insert_if(l.xattrs != r.xattrs, Changes::XATTR);
    }
    changes
}

/// Whether only their contents tell.
fn must_read(checked: &Checked, left: &Record<'_>, right: &Record<'_>, changes: Changes) -> bool {
    let file = |record: &Record<'_>| record.kind == Kind::File && record.details.is_some();
    let open = !changes.contains(Changes::CONTENT) && !changes.contains(Changes::KIND);
    open && checked.reads() && file(left) && file(right)
}

/// Two sorted sides as one sequence of verdicts.
pub struct Join<'j> {
    checked: &'j Checked,
    desk: &'j Desk,
    sorters: &'j Sorters,
    pub(crate) left: Stream,
    pub(crate) right: Stream,
    next_left: Option<Kept>,
    next_right: Option<Kept>,
    begun: bool,
}

impl<'j> Join<'j> {
    pub(crate) fn new(checked: &'j Checked, desk: &'j Desk, sorters: &'j Sorters, left: Stream, right: Stream) -> Self {
        Self {
            checked,
            desk,
            sorters,
            left,
            right,
            next_left: None,
            next_right: None,
            begun: false,
        }
    }

    /// The next verdict; `None` at the end, and when the job was cancelled.
    pub(crate) fn next(&mut self) -> Result<Option<Verdict>, Refusal> {
        if self.desk.cancel.is_draining() {
            return Ok(None);
        }
        if !self.begun {
            self.begun = true;
            self.next_left = self.left.next(self.desk, self.sorters)?;
            self.next_right = self.right.next(self.desk, self.sorters)?;
        }
        let order = match (&self.next_left, &self.next_right) {
            (None, None) => return Ok(None),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => left.key().cmp(right.key()),
        };
        let mut verdict = Verdict::default();
        if order != Ordering::Greater {
            verdict.left = self.next_left.take();
            self.left.consumed(verdict.left.as_ref());
            self.next_left = self.left.next(self.desk, self.sorters)?;
        }
        if order != Ordering::Less {
            verdict.right = self.next_right.take();
            self.right.consumed(verdict.right.as_ref());
            self.next_right = self.right.next(self.desk, self.sorters)?;
        }
        self.judge(&mut verdict);
        Ok(Some(verdict))
    }

    fn judge(&self, verdict: &mut Verdict) {
        let (left, right) = (verdict.left.as_ref(), verdict.right.as_ref());
        let records = (left.and_then(Kept::record), right.and_then(Kept::record));
        let (reason, changes, unread) = match records {
            (Some(left), Some(right)) if left.failed || right.failed => (Some(Reason::NotCompared), None, false),
            (Some(left), Some(right)) => {
                let changes = differing(self.checked, &left, &right);
                let unread = must_read(self.checked, &left, &right, changes);
                (None, Some(changes), unread)
            }
            (Some(one), None) if self.right.is_unknown(one.path) => (Some(Reason::NotCompared), None, false),
            (None, Some(one)) if self.left.is_unknown(one.path) => (Some(Reason::NotCompared), None, false),
            // What stands for all of one side is no entry of the other.
            (Some(one), None) | (None, Some(one)) if one.path.is_empty() && one.kind == Kind::Directory => {
                (None, None, false)
            }
            (Some(one), None) | (None, Some(one)) if one.failed => (Some(Reason::NotCompared), None, false),
            (Some(_), None) => (None, Some(Changes::NEW), false),
            (None, Some(_)) => (None, Some(Changes::EXTRA), false),
            (None, None) => (None, None, false),
        };
        verdict.unread = unread;
        verdict.reason = reason;
        verdict.changes = changes.unwrap_or_default();
    }
}
