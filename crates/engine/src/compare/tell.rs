//! What becomes of a verdict: it goes to the books, to who reads events, and to the file of changes.
//!
//! Comes in: verdicts, in order; goes out: an outcome for each entry of either side, and the counts.

use crate::compare::changes::ChangesFile;
use crate::compare::join::Verdict;
use crate::compare::options::Checked;
use crate::compare::side::Kept;
use crate::entry::Outcome;
use crate::error::Refusal;
use crate::event::{EntryEvent, Event};
use crate::job::desk::Desk;
use crate::report::Differences;

/// Tells verdicts: to the books, to who reads events, and to the file of changes.
pub struct Teller<'t> {
    pub(crate) checked: &'t Checked,
    pub(crate) desk: &'t Desk,
    pub(crate) counts: Differences,
    pub(crate) changes: Option<ChangesFile<'t>>,
}

impl Teller<'_> {
    pub(crate) fn tell(&mut self, verdict: &Verdict) -> Result<(), Refusal> {
        let records = [&verdict.left, &verdict.right].map(|kept| kept.as_ref().and_then(Kept::named));
        let different = verdict.failure.is_none() && !verdict.changes.is_empty();
        let outcome = match &verdict.failure {
            Some(failure) => failure.outcome,
            None if verdict.reason.is_some() => Outcome::Skipped,
            None if different => Outcome::Different,
            None => Outcome::Same,
        };
        for record in records.iter().flatten().filter(|record| !record.failed) {
            let size = record.details.map_or(0, |d| d.size);
            self.desk.counters[0].outcome(record.kind, outcome, verdict.reason, size);
        }
        if let Some(failure) = &verdict.failure {
            self.desk.fail(failure.clone());
        }
        if !different {
            return Ok(());
        }
        match records {
            [Some(_), Some(_)] => self.counts.changed += 1,
            [Some(_), None] => self.counts.left += 1,
            [None, _] => self.counts.right += 1,
        }
        let [left, right] = records;
        if let Some(changes) = &mut self.changes {
            changes.add(left.as_ref(), right.as_ref())?;
        }
        if let (true, Some(one)) = (self.checked.options.entry_events, left.or(right)) {
            let kept = verdict.left.as_ref().or(verdict.right.as_ref());
            let below = kept.and_then(Kept::record).map_or(&[][..], |record| record.path);
            self.desk.queue.push(Event::Entry(EntryEvent {
                outcome,
                kind: one.kind,
                path: if one.path.is_empty() {
                    b".".to_vec()
                } else {
                    one.path.to_vec()
                },
                source: self.checked.options.left.full_path(below),
                destination: self.checked.options.right.full_path(below),
                bytes: 0,
                changes: verdict.changes,
                reason: None,
                target: one.target.map(<[u8]>::to_vec),
                hash: None,
                digests: Vec::new(),
                details: None,
            }));
        }
        Ok(())
    }
}
