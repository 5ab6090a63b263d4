//! What manifests say and what is there, by path.
//!
//! Comes in: both, sorted; goes out: a [`Pair`] for each path, with its [`Finding`] as far as names, kinds and sizes tell it.

use bulkhaul_sys::{Errno, Kind};

use super::manifests::{Claim, Claims};
use crate::entry::{Reason, kind_text};
use crate::error::{Cause, Fault, Operation, Refusal, Side};
use crate::job::desk::Desk;
use crate::records::entry::kind_of;
use crate::records::record::{Record, path_key};
use crate::records::sort::{Sorted, Sorters};

/// What a manifest says, and what was found.
pub(super) struct Pair {
    pub(super) claim: Option<Claim>,
    pub(super) found: Option<Found>,
    /// Something above it could not be listed.
    unknown: bool,
    /// Something that a manifest names lies in it.
    holds: bool,
    pub(super) finding: Finding,
}

/// How the two are.
pub(super) enum Finding {
    /// As they should be.
    Same,
    /// Contents are to be read.
    Unread,
    /// No manifest names it.
    Extra,
    /// A manifest names it, and it is not there.
    Missing,
    /// It is not looked at.
    Skipped(Reason),
    /// It could not be looked at, and that was said.
    Failed,
    /// Something is wrong.
    Fault(Fault),
}

impl Pair {
    fn new(claim: Option<Claim>, found: Option<Found>, (unknown, holds): (bool, bool)) -> Self {
        Self {
            claim,
            found,
            unknown,
            holds,
            finding: Finding::Same,
        }
    }

    pub(super) fn path(&self) -> &[u8] {
        let found = self.found.as_ref().map(|found| &found.path[..]);
        found
            .or(self.claim.as_ref().map(|claim| &claim.entry.path[..]))
            .unwrap_or_default()
    }

    /// It is not asked for.
    pub(super) fn leave_out(&mut self) {
        let failed = self.found.as_ref().is_some_and(|found| found.failed);
        self.finding = if failed {
            Finding::Failed
        } else {
            Finding::Skipped(Reason::NotListed)
        };
    }

    /// The bytes that are to be read of it, where they are not known so many as `usual`; `None`: no content is.
    pub(super) fn unread(&self, usual: u64) -> Option<u64> {
        let found = self.found.as_ref().filter(|_| matches!(self.finding, Finding::Unread));
        found.map(|found| found.size.unwrap_or(usual))
    }

    /// As far as it can be told without content; `read`: whether that of a path is to be read; `keeps`: whether there can be an
    /// entry of a kind at all.
    pub(super) fn judge(&mut self, read: impl FnOnce(&[u8]) -> bool, keeps: impl FnOnce(Kind) -> bool) {
        self.finding = match (&self.claim, &self.found) {
            (_, Some(found)) if found.failed => Finding::Failed,
            (None, _) if self.holds => Finding::Same,
            (None, _) => Finding::Extra,
            (Some(claim), None) if !keeps(kind_of(&claim.entry)) => Finding::Skipped(Reason::NotAFile),
            (Some(_), None) if self.unknown => Finding::Skipped(Reason::NotCompared),
            (Some(_), None) => Finding::Missing,
            (Some(claim), Some(found)) => judged(claim, found, read),
        };
    }
}

fn judged(claim: &Claim, found: &Found, read: impl FnOnce(&[u8]) -> bool) -> Finding {
    let Claim { entry, place } = claim;
    let kind = kind_of(entry);
    if kind != found.kind {
        let [is, should] = [found.kind, kind].map(kind_text);
        return unlike("kind", format!("it is a {is}, and {place} says a {should}"));
    }
    if let (Some(target), Some(is)) = (&entry.target, &found.target)
        && target != is
    {
        let [is, should] = [is, target].map(|text| String::from_utf8_lossy(text));
        return unlike("mismatch", format!("it leads to {is}, and {place} says to {should}"));
    }
    if kind != Kind::File {
        return Finding::Same;
    }
    if let (Some(size), Some(is)) = (entry.size, found.size)
        && size != is
        && !found.vague
    {
        return unlike("mismatch", format!("it has {is} bytes, and {place} says {size}"));
    }
    if entry.digests.is_empty() || !read(&entry.path) {
        Finding::Same
    } else {
        Finding::Unread
    }
}

/// It is not what a manifest says.
pub(super) fn unlike(kind: &'static str, what: impl Into<String>) -> Finding {
    Finding::Fault(Fault {
        operation: Operation::Verify,
        side: Side::Source,
        cause: Cause::Unlike(kind, what.into()),
    })
}

/// What manifests say and what was found, by path.
pub(super) struct Join<'j> {
    desk: &'j Desk,
    sorters: &'j Sorters,
    claims: Claims,
    /// The next one, and its key.
    claim: Option<Claim>,
    claimed: Vec<u8>,
    sorted: Sorted,
    /// The same.
    record: Option<Found>,
    recorded: Vec<u8>,
    /// Path of the last directory that failed: what is below it nobody knows.
    failed: Option<Vec<u8>>,
    begun: bool,
}

/// What was found at a path.
pub(super) struct Found {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    failed: bool,
    /// `None`: nobody has asked yet.
    pub(super) size: Option<u64>,
    /// Its size may say nothing.
    vague: bool,
    target: Option<Vec<u8>>,
}

impl<'j> Join<'j> {
    pub(super) fn new(claims: Claims, sorted: Sorted, desk: &'j Desk, sorters: &'j Sorters) -> Self {
        Self {
            desk,
            sorters,
            claims,
            claim: None,
            claimed: Vec::new(),
            sorted,
            record: None,
            recorded: Vec::new(),
            failed: None,
            begun: false,
        }
    }

    fn next_claim(&mut self) -> Result<(), Refusal> {
        self.claim = self.claims.next(self.sorters)?;
        if let Some(claim) = &self.claim {
            path_key(&claim.entry.path, &mut self.claimed);
        }
        Ok(())
    }

    fn next_record(&mut self) -> Result<(), Refusal> {
        self.record = match self.sorted.next().map_err(|errno| self.sorters.refusal(errno))? {
            None => None,
            Some((key, payload)) => {
                let record = Record::decode(payload).ok_or_else(|| self.sorters.refusal(Errno::IO))?;
                let found = Found {
                    path: record.path.to_vec(),
                    kind: record.kind,
                    failed: record.failed,
                    size: record.details.map(|details| details.size),
                    vague: record.details.is_some_and(|details| details.vague),
                    target: record.target.map(<[u8]>::to_vec),
                };
                self.recorded.clear();
                self.recorded.extend_from_slice(key);
                Some(found)
            }
        };
        Ok(())
    }

    /// The next path; `None` at the end, and when the job was cancelled.
    pub(super) fn next(&mut self) -> Result<Option<Pair>, Refusal> {
        if self.desk.cancel.is_draining() {
            return Ok(None);
        }
        if !self.begun {
            self.begun = true;
            self.next_claim()?;
            self.next_record()?;
        }
        let order = match (&self.claim, &self.record) {
            (None, None) => return Ok(None),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(_), Some(_)) => self.claimed.cmp(&self.recorded),
        };
        let (mut claim, mut found) = (None, None);
        if order.is_le() {
            claim = self.claim.take();
            self.next_claim()?;
        }
        if order.is_ge() {
            found = self.record.take();
            self.next_record()?;
        }
        if let Some(found) = found.as_ref().filter(|found| found.failed) {
            self.failed = Some(found.path.clone());
        }
        let unknown = claim.as_ref().is_some_and(|claim| self.is_unknown(&claim.entry.path));
        // What a store has below a directory is all that says that there is one.
        let holds = found.as_ref().is_some_and(|found| self.is_next_in(found));
        Ok(Some(Pair::new(claim, found, (unknown, holds))))
    }

    /// Whether the next entry that manifests name lies in this one.
    fn is_next_in(&self, found: &Found) -> bool {
        let next = self.claim.as_ref().map(|claim| &claim.entry.path[..]);
        let below = next.and_then(|next| next.strip_prefix(&found.path[..]));
        found.kind == Kind::Directory && below.is_some_and(|below| below.starts_with(b"/"))
    }

    fn is_unknown(&self, path: &[u8]) -> bool {
        let Some(failed) = &self.failed else { return false };
        match path.strip_prefix(&failed[..]) {
            Some(rest) => failed.is_empty() || rest.is_empty() || rest.starts_with(b"/"),
            None => false,
        }
    }
}
