//! What is to be done with one key: a pure function of both entries, what is remembered of them, and the options.

use bulkhaul_engine::Kind;
use bulkhaul_engine::entry::{Changes, Reason};

use crate::store::Entry;
use crate::sync::options::{Chosen, Compare, Conflict};
use crate::sync::state::Remembered;
use crate::times::{is_after, is_same};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    Skip(Reason),
    /// The content goes over.
    Copy(Changes),
    /// Something in the destination is in the way.
    Conflict(&'static str),
    /// Facts are to be asked for first.
    Facts,
    /// The contents are to be compared first.
    Content,
}

/// How it is decided.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// How two entries are told apart.
    pub compare: Compare,
    /// What becomes of what both sides have otherwise.
    pub conflict: Conflict,
}

/// Whether an entry of the source is wanted at all.
pub fn is_chosen(chosen: &Chosen, entry: &Entry) -> Option<bool> {
    let size =
        chosen.least.is_none_or(|least| entry.size >= least) && chosen.most.is_none_or(|most| entry.size <= most);
    if !size {
        return Some(false);
    }
    if chosen.since.is_none() && chosen.until.is_none() {
        return Some(true);
    }
    let changed = entry.changed()?;
    Some(
        chosen.since.is_none_or(|since| !is_after(since, changed))
            && chosen.until.is_none_or(|until| !is_after(changed, until)),
    )
}

/// What is to be done with a regular file of the source. `remembered`: what both sides were when they were the same.
/// `same`: what comparing the contents has found.
pub fn plan(
    source: &Entry,
    destination: Option<&Entry>,
    remembered: Option<&Remembered>,
    same: Option<bool>,
    rules: Rules,
) -> Plan {
    let Some(destination) = destination else {
        return Plan::Copy(Changes::NEW);
    };
    match (source.kind, destination.kind) {
        (Kind::File, Kind::File) => {}
        (_, Kind::Directory) => return Plan::Conflict("a directory is in the way"),
        _ => return Plan::Conflict("something that is no file is in the way"),
    }
    let mut changes = Changes::default();
    if source.size == destination.size {
        let known = remembered.filter(|_| rules.compare == Compare::State);
        if known.is_some_and(|known| known.is_of(source, destination)) {
            return Plan::Skip(Reason::Unchanged);
        }
        match (rules.compare, same) {
            (Compare::Size, _) | (Compare::Checksum | Compare::State, Some(true)) => {
                return Plan::Skip(Reason::Unchanged);
            }
            (Compare::Checksum, None) => return Plan::Content,
            (Compare::Always, _) | (Compare::Checksum | Compare::State, Some(false)) => {
                changes.insert(Changes::CONTENT);
            }
            (Compare::Mtime | Compare::State, _) => match has_same_time(source, destination) {
                None => return Plan::Facts,
                // A run that was killed may have brought it and not remembered it: what it kept aside is not to be replaced by that.
                Some(true) if known.is_some() => return Plan::Content,
                Some(true) => return Plan::Skip(Reason::Unchanged),
                Some(false) => changes.insert(known.map_or(Changes::TIME, |_| Changes::CONTENT)),
            },
        }
    } else {
        changes.insert(Changes::SIZE);
        changes.insert(Changes::CONTENT);
    }
    resolve(source, destination, changes, rules.conflict)
}

/// Whether both have one last change. A time that nobody gave an object is when it was written: what is no younger than that
/// was in it, if no sum that both have says otherwise. None: facts are missing.
fn has_same_time(source: &Entry, destination: &Entry) -> Option<bool> {
    let (theirs, ours) = (source.changed()?, destination.changed()?);
    let facts = destination.facts.as_ref()?;
    let agree = source.facts.as_ref()?.agree(facts);
    Some(match facts.mtime {
        Some(mtime) => agree != Some(false) && is_same(theirs, mtime),
        None => agree.unwrap_or(!is_after(theirs, ours)),
    })
}

fn resolve(source: &Entry, destination: &Entry, changes: Changes, conflict: Conflict) -> Plan {
    let copies = match conflict {
        Conflict::Source | Conflict::KeepBoth => true,
        Conflict::Destination => false,
        Conflict::Fail => return Plan::Conflict("both sides have it, and not the same"),
        Conflict::Larger => source.size > destination.size,
        Conflict::Newer => match (source.changed(), destination.changed()) {
            (Some(theirs), Some(ours)) => is_after(theirs, ours),
            _ => return Plan::Facts,
        },
    };
    if copies {
        Plan::Copy(changes)
    } else {
        Plan::Skip(Reason::Kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Facts;
    use bulkhaul_sys::Time;

    fn entry(size: u64, mtime: Option<i64>, written: i64, asked: bool) -> Entry {
        let time = |sec| Time { sec, nsec: 0 };
        Entry {
            key: b"k".to_vec(),
            kind: Kind::File,
            size,
            written: time(written),
            tag: Vec::new(),
            facts: asked.then(|| Facts {
                mtime: mtime.map(time),
                ..Facts::default()
            }),
            failed: false,
        }
    }

    #[test]
    fn what_differs_is_copied_and_what_does_not_is_not() {
        let rules = |compare, conflict| Rules { compare, conflict };
        let default = Rules::default();
        let local = entry(5, Some(100), 100, true);
        let decide = |destination: &Entry, rules| plan(&local, Some(destination), None, None, rules);
        assert_eq!(plan(&local, None, None, None, default), Plan::Copy(Changes::NEW));
        // The same size and a later change: by size nobody sees it.
        let stale = entry(5, Some(99), 500, true);
        assert_eq!(decide(&stale, default), Plan::Copy(Changes::TIME));
        assert_eq!(
            decide(&stale, rules(Compare::Size, Conflict::Source)),
            Plan::Skip(Reason::Unchanged)
        );
        assert_eq!(
            decide(&entry(5, Some(100), 500, true), default),
            Plan::Skip(Reason::Unchanged)
        );
        // Facts are asked for, never guessed.
        assert_eq!(decide(&entry(5, None, 500, false), default), Plan::Facts);
        // What nobody gave a time was written after the change, or before it.
        assert_eq!(
            decide(&entry(5, None, 500, true), default),
            Plan::Skip(Reason::Unchanged)
        );
        assert_eq!(decide(&entry(5, None, 50, true), default), Plan::Copy(Changes::TIME));
        assert_eq!(
            decide(&stale, rules(Compare::Checksum, Conflict::Source)),
            Plan::Content
        );
        let kept = Plan::Skip(Reason::Kept);
        assert_eq!(decide(&stale, rules(Compare::Mtime, Conflict::Destination)), kept);
        assert_eq!(
            decide(&entry(6, Some(1), 1, true), rules(Compare::Mtime, Conflict::Larger)),
            kept
        );
        assert_eq!(
            decide(&entry(5, Some(101), 1, true), rules(Compare::Mtime, Conflict::Newer)),
            kept
        );
        assert!(matches!(
            decide(&stale, rules(Compare::Mtime, Conflict::Newer)),
            Plan::Copy(_)
        ));
        assert!(matches!(
            decide(&stale, rules(Compare::Mtime, Conflict::Fail)),
            Plan::Conflict(_)
        ));
        let directory = Entry {
            kind: Kind::Directory,
            ..stale
        };
        assert!(matches!(decide(&directory, default), Plan::Conflict(_)));
    }

    #[test]
    fn what_a_killed_run_has_brought_is_not_brought_again() {
        let rules = Rules {
            compare: Compare::State,
            conflict: Conflict::Source,
        };
        let tagged = |entry: Entry, tag: &str| Entry {
            tag: tag.into(),
            ..entry
        };
        let (old, now) = (entry(5, Some(99), 99, true), entry(5, Some(100), 100, true));
        let remembered = Remembered::of(&old, &tagged(old.clone(), "old"));
        let decide = |there: &Entry, same| plan(&now, Some(there), remembered.as_ref(), same, rules);
        // It has the time that only whoever brought it has given it, or it has not.
        let (brought, theirs) = (
            tagged(now.clone(), "now"),
            tagged(entry(5, Some(7), 500, true), "other"),
        );
        assert_eq!(decide(&brought, None), Plan::Content);
        assert_eq!(decide(&brought, Some(true)), Plan::Skip(Reason::Unchanged));
        assert_eq!(decide(&brought, Some(false)), Plan::Copy(Changes::CONTENT));
        assert_eq!(decide(&theirs, None), Plan::Copy(Changes::CONTENT));
        assert_eq!(decide(&tagged(entry(5, None, 500, false), "other"), None), Plan::Facts);
    }

    #[test]
    fn age_and_size_choose() {
        let time = |sec| Some(Time { sec, nsec: 0 });
        let chosen = Chosen {
            since: time(50),
            until: time(100),
            least: Some(2),
            most: Some(5),
        };
        for (size, mtime, expected) in [
            (5, 100, true),
            (2, 50, true),
            (1, 60, false),
            (6, 60, false),
            (3, 49, false),
            (3, 101, false),
        ] {
            assert_eq!(
                is_chosen(&chosen, &entry(size, Some(mtime), 0, true)),
                Some(expected),
                "{size} {mtime}"
            );
        }
        assert_eq!(is_chosen(&chosen, &entry(3, None, 60, false)), None);
    }
}
