//! Prune: what is old enough, or all that is there, goes from a place.
//!
//! Comes in: [`PruneOptions`]; goes out: a [`Job`]. The place is listed to its end before it is decided, and decided before
//! anything goes; where not all is known, or more would go than may, nothing does. Partitions are directories `KEY=VALUE`; the
//! last ones of each group stay, in the order of their values ([`hive::compare`]). What is in no such partition stays.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use bulkhaul_engine::Kind;
use bulkhaul_engine::entry::{Changes, Outcome, Reason};
use bulkhaul_engine::error::{Failure, Fault, Refusal, Side, Stopped};
use bulkhaul_engine::event::EntryEvent;
use bulkhaul_engine::job::desk::{Desk, Phase};
use bulkhaul_engine::job::resources::Resources;
use bulkhaul_engine::job::{Job, Work};
use bulkhaul_engine::report::{Durability, Report, Withheld};
use bulkhaul_engine::sweep::limit::MaxDelete;
use bulkhaul_engine::tree::path::show;
use bulkhaul_formats::hive;

use crate::local::LocalOptions;
use crate::location::Location;
use crate::s3::Config;
use crate::session::{Session, SessionOptions};
use crate::store::{Abilities, Gone, Store};
use crate::sweep::{Doomed, Victim};

/// Partitions that are told apart; beyond it nothing is done. Each takes some 100 bytes.
const MOST_PARTITIONS: usize = 500_000;

/// What stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stays {
    /// Nothing.
    #[default]
    Nothing,
    /// The last partitions of each group.
    Last(Rule),
}

/// Which partitions stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Keys from the outside in; the order goes by their values, and by what is between them.
    pub keys: Vec<Vec<u8>>,
    /// So many.
    pub keep: u64,
    /// Partitions with one path up to this key's are a group, and the order goes by all that stands below it; none: those with
    /// one path above the first of the keys.
    pub within: Option<Vec<u8>>,
}

/// A removal, as asked for.
#[derive(Clone, Default)]
pub struct PruneOptions {
    /// URL or path: what is in it.
    pub place: Vec<u8>,
    /// How its store is reached.
    pub config: Config,
    /// What stays.
    pub stays: Stays,
    /// Remove nothing when it would be more than this.
    pub max_delete: Option<MaxDelete>,
    /// Do nothing; tell what would be done.
    pub dry_run: bool,
    /// Requests.
    pub session: SessionOptions,
    /// Batches at work at once; 0: as many as suit the place.
    pub jobs: usize,
    /// What it may take of the machine.
    pub resources: Resources,
    /// Directory for temporary files without a name; none: memory is used.
    pub spill_directory: Option<Vec<u8>>,
    /// An event for each partition, or, where all goes, for each entry.
    pub entry_events: bool,
}

/// A job that removes. Checks the options; asks and touches nothing.
pub fn job(options: PruneOptions) -> Result<Job, Refusal> {
    let place = Location::parse(&options.place)?;
    options.max_delete.map_or(Ok(()), MaxDelete::check)?;
    if let Stays::Last(rule) = &options.stays {
        if rule.keys.is_empty() || rule.keys.iter().any(|key| key.is_empty() || key.contains(&b'=')) {
            return Err(Refusal::Usage("key: write the name of a partition, as year".into()));
        }
        if rule.keep == 0 {
            return Err(Refusal::Usage("keep: keep 1 or more".into()));
        }
    }
    let workers = if options.jobs == 0 { place.jobs() } else { options.jobs };
    let resources = options.resources;
    Job::new(workers, Prune { options, place }).within(resources)
}

struct Prune {
    options: PruneOptions,
    place: Location,
}

impl Work for Prune {
    fn run(self: Box<Self>, desk: &Arc<Desk>) -> Result<Report, Refusal> {
        let session = Session::open(self.options.session, Arc::clone(&desk.cancel))?;
        let local = LocalOptions {
            spill_directory: self.options.spill_directory.clone(),
            ..LocalOptions::default()
        };
        let store = self.place.open(&session, Side::Source, &self.options.config, &local)?;
        prune(&self.options, &*store, desk)
    }
}

/// Where a key lies: the group, the values that the order goes by, and the partition.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place<'k> {
    group: &'k [u8],
    values: Values,
    partition: &'k [u8],
}

/// Values in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Values(Vec<Vec<u8>>);

impl Ord for Values {
    fn cmp(&self, other: &Self) -> Ordering {
        let pairs = self.0.iter().zip(&other.0);
        pairs
            .map(|(a, b)| hive::compare(a, b))
            .find(|order| order.is_ne())
            .unwrap_or_else(|| self.0.len().cmp(&other.0.len()))
    }
}

impl PartialOrd for Values {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Rule {
    fn words(&self) -> String {
        let keys: Vec<_> = self.keys.iter().map(|key| show(key)).collect();
        let within = self
            .within
            .as_ref()
            .map(|within| format!(" within one of {}", show(within)));
        format!("in a partition of {}{}", keys.join(", "), within.unwrap_or_default())
    }

    /// The order of two partitions of a group. It says that 6 and 06 are one.
    fn order(&self, one: &Partition, other: &Partition) -> Ordering {
        let values = |partition: &Partition| self.place(&partition.path).map(|place| place.values);
        values(one).cmp(&values(other))
    }

    /// Those of a group, in their order, that do not stay.
    fn old<'g>(&self, group: &'g [Partition]) -> &'g [Partition] {
        let mut old = group;
        for _ in 0..self.keep {
            let Some(last) = old.last() else { break };
            let are_one = old.iter().rev().take_while(|other| self.order(other, last).is_eq());
            old = &old[..old.len() - are_one.count()];
        }
        old
    }

    /// None: it is in no such partition, or in one without a value.
    fn place<'k>(&self, key: &'k [u8]) -> Option<Place<'k>> {
        let all: Vec<hive::Partition<'_>> = hive::partitions(key).collect();
        let mut last = None;
        let mut first = None;
        for wanted in &self.keys {
            let from = last.map_or(0, |at: usize| at + 1);
            let at = from
                + all
                    .get(from..)?
                    .iter()
                    .position(|partition| partition.key == &wanted[..])?;
            first.get_or_insert(at);
            last = Some(at);
        }
        let (first, last) = (first?, last?);
        let (group, from) = match &self.within {
            None => (all[first].start, first),
            Some(within) => {
                let at = all[..first]
                    .iter()
                    .rposition(|partition| partition.key == &within[..])?;
                (all[at].end, at + 1)
            }
        };
        let values = &all[from..=last];
        let has_none = |partition: &hive::Partition<'_>| matches!(&*partition.value, b"" | hive::NO_VALUE);
        if values.iter().any(has_none) {
            return None;
        }
        Some(Place {
            group: &key[..group],
            values: Values(values.iter().map(|partition| partition.value.to_vec()).collect()),
            partition: &key[..all[last].end],
        })
    }
}

/// What is in a partition.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    entries: u64,
    bytes: u64,
}

/// A partition that was found.
struct Partition {
    /// With the slash behind it.
    path: Box<[u8]>,
    sum: Sum,
}

impl Partition {
    fn name(&self) -> &[u8] {
        self.path.strip_suffix(b"/").unwrap_or(&self.path)
    }
}

/// Partitions by group: as they are listed, and then in their order.
type Groups = BTreeMap<Vec<u8>, Vec<Partition>>;

/// What is known when all is listed.
#[derive(Default)]
struct Found {
    groups: Groups,
    partitions: usize,
    entries: u64,
    partial: bool,
    interrupted: bool,
}

/// Prunes a store.
fn prune(options: &PruneOptions, store: &dyn Store, desk: &Arc<Desk>) -> Result<Report, Refusal> {
    let workers = desk.counters.len();
    desk.staff(workers);
    desk.enter(Phase::Scanning);
    let mut doomed = Doomed::new(options.spill_directory.as_deref(), desk);
    let mut found = find(options, store, desk, &mut doomed)?;
    let mut going: HashSet<&[u8]> = HashSet::new();
    let mut victims = doomed.entries;
    if let Stays::Last(rule) = &options.stays {
        for group in found.groups.values_mut() {
            group.sort_by(|one, other| rule.order(one, other).then_with(|| one.path.cmp(&other.path)));
        }
        victims = 0;
        for partition in found.groups.values().flat_map(|group| rule.old(group)) {
            going.insert(partition.name());
            victims += partition.sum.entries;
        }
        if found.groups.is_empty() && found.entries > 0 && !found.partial && !found.interrupted {
            // A slip in a name would look as if all were kept.
            desk.note("no-partition", || {
                (store.path(b""), format!("nothing is there {}", rule.words()))
            });
        }
    }
    let held = holds_back(options, &found, victims, desk);
    let mut withheld = None;
    if let Some((kind, message)) = held {
        withheld = Some(Withheld {
            kind,
            what: "extra",
            message,
        });
        going.clear();
    }
    let all = options.stays == Stays::Nothing && withheld.is_none();
    if victims > 0 && withheld.is_none() {
        desk.enter(Phase::Sweeping);
    }
    let goes = |key: &[u8]| match &options.stays {
        Stays::Nothing => all,
        Stays::Last(rule) => rule.place(key).is_some_and(|place| going.contains(place.partition)),
    };
    let sweep = Sweep {
        options,
        store,
        desk,
        failed: Mutex::default(),
    };
    doomed.sweep(workers, desk, |index, batch| sweep.take(index, batch, goes))?;
    let interrupted = found.interrupted || desk.cancel.is_draining();
    if options.entry_events && !interrupted {
        let failed = sweep.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for partition in found.groups.values().flatten() {
            let (name, bytes) = (partition.name(), partition.sum.bytes);
            match (going.contains(name), failed.contains(name)) {
                (true, true) => {}
                (true, false) => sweep.tell(name, Kind::Directory, Outcome::Removed, None, bytes),
                (false, _) => sweep.tell(name, Kind::Directory, Outcome::Skipped, Some(Reason::Kept), 0),
            }
        }
    }
    let mut report = desk.report(Durability::None, desk.most_staff(), interrupted);
    report.withheld.extend(withheld);
    Ok(report)
}

/// Lists all that is there; what may go is pushed.
fn find(options: &PruneOptions, store: &dyn Store, desk: &Desk, doomed: &mut Doomed) -> Result<Found, Refusal> {
    let counters = &desk.counters[0];
    let mut found = Found::default();
    let mut listing = store.list(desk)?;
    let Abilities { directories, walks, .. } = store.abilities();
    loop {
        if desk.cancel.is_draining() {
            found.interrupted = true;
            return Ok(found);
        }
        let entry = match listing.next() {
            Ok(None) => return Ok(found),
            Ok(Some(entry)) => entry,
            Err(Stopped::Aborted) => {
                found.interrupted = true;
                return Ok(found);
            }
            Err(Stopped::Fault(fault)) => {
                found.partial = true;
                desk.fail(Failure::new(&fault, store.path(b""), Kind::Directory, None));
                return Ok(found);
            }
        };
        // A walk has counted it.
        if !walks {
            counters.found(entry.kind);
            counters.sized(entry.size, entry.size);
        }
        if entry.failed {
            found.partial = true;
            continue;
        }
        found.entries += 1;
        if let Stays::Last(rule) = &options.stays {
            let Some(place) = rule.place(&entry.key) else {
                counters.outcome(entry.kind, Outcome::Skipped, Some(Reason::NotSelected), entry.size);
                continue;
            };
            let group = found.groups.entry(place.group.to_vec()).or_default();
            // What is in one partition is listed together.
            if group.last().is_none_or(|last| last.name() != place.partition) {
                group.push(Partition {
                    path: [place.partition, b"/"].concat().into(),
                    sum: Sum::default(),
                });
                found.partitions += 1;
            }
            if let Some(Partition { sum, .. }) = group.last_mut() {
                sum.entries += 1;
                sum.bytes += entry.size;
            }
            if found.partitions > MOST_PARTITIONS {
                let text = format!("there are more than {MOST_PARTITIONS} partitions: prune what is in one of them");
                return Err(Refusal::Safety(text));
            }
        }
        doomed.push(&entry, directories)?;
    }
}

/// Why nothing goes.
fn holds_back(options: &PruneOptions, found: &Found, victims: u64, desk: &Desk) -> Option<(&'static str, String)> {
    let because = |kind, why: &str| Some((kind, format!("{why}, so nothing was removed")));
    if found.interrupted {
        return because("interrupted", "it was stopped before its end");
    }
    if found.partial || desk.findings.failed() > 0 {
        return because("failed", "not all of what there is could be listed");
    }
    let (most, there) = (options.max_delete?, found.entries);
    most.forbids(victims, there).then_some(())?;
    let allowed = most.of(there);
    because(
        "max-delete",
        &format!("{victims} of {there} entries would go, and max-delete allows {allowed}"),
    )
}

/// Takes batches away.
struct Sweep<'s> {
    options: &'s PruneOptions,
    store: &'s dyn Store,
    desk: &'s Desk,
    /// Partitions of which something stays that was to go.
    failed: Mutex<HashSet<Vec<u8>>>,
}

impl Sweep<'_> {
    fn take(&self, index: usize, batch: &[Victim], goes: impl Fn(&[u8]) -> bool) {
        let counters = &self.desk.counters[index];
        let (going, staying): (Vec<&Victim>, Vec<&Victim>) = batch.iter().partition(|victim| goes(&victim.key));
        for victim in staying {
            counters.outcome(victim.kind, Outcome::Skipped, Some(Reason::Kept), victim.size);
        }
        let keys: Vec<Vec<u8>> = going.iter().map(|victim| victim.key.clone()).collect();
        let mut told = |key: &[u8], gone: Result<Gone, Fault>| {
            let victim = going.iter().find(|victim| victim.key == key);
            let (kind, size) = victim.map_or((Kind::File, 0), |victim| (victim.kind, victim.size));
            let (outcome, reason) = match &gone {
                Ok(Gone::Removed) => (Outcome::Removed, None),
                Ok(Gone::Vanished) => (Outcome::Skipped, Some(Reason::Vanished)),
                Ok(Gone::NotEmpty) => (Outcome::Skipped, Some(Reason::NotEmpty)),
                Err(fault) => (fault.outcome(), None),
            };
            counters.outcome(kind, outcome, reason, size);
            if let Err(fault) = &gone {
                self.stays(key);
                return self.desk.fail(Failure::new(fault, self.store.path(key), kind, None));
            }
            if self.options.entry_events && self.options.stays == Stays::Nothing {
                self.tell(key, kind, outcome, reason, size);
            }
        };
        if self.options.dry_run {
            for victim in &going {
                counters.planned(victim.size, 0, false);
                told(&victim.key, Ok(Gone::Removed));
            }
            return;
        }
        if keys.is_empty() {
            return;
        }
        match self.store.delete(&keys, &mut told) {
            Ok(()) => {}
            Err(Stopped::Aborted) => self.desk.cancel.drain(),
            Err(Stopped::Fault(fault)) => {
                let path = self.store.path(b"");
                self.desk.fail(Failure::new(&fault, path, Kind::Directory, None));
            }
        }
    }

    fn stays(&self, key: &[u8]) {
        if let Stays::Last(rule) = &self.options.stays
            && let Some(place) = rule.place(key)
        {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.insert(place.partition.to_vec());
        }
    }

    fn tell(&self, key: &[u8], kind: Kind, outcome: Outcome, reason: Option<Reason>, bytes: u64) {
        // A directory has its slash in the store only.
        let name = key.strip_suffix(b"/").unwrap_or(key);
        self.desk.tell(EntryEvent {
            outcome,
            kind,
            path: name.to_vec(),
            source: self.store.path(name),
            destination: self.store.path(name),
            bytes,
            changes: Changes::default(),
            reason,
            target: None,
            hash: None,
            digests: Vec::new(),
            details: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;
    use crate::store::Facts;

    fn kept(keys: &[&str], rule: Rule) -> (Vec<String>, Report) {
        let memory = Memory::new(Side::Source);
        for key in keys {
            memory.insert(key.as_bytes(), b"x", Facts::default());
        }
        let options = PruneOptions {
            stays: Stays::Last(rule),
            ..PruneOptions::default()
        };
        let report = prune(&options, &memory, &Arc::new(Desk::new(2))).unwrap();
        let left = memory.all().into_iter();
        (left.map(|(key, _)| String::from_utf8(key).unwrap()).collect(), report)
    }

    fn rule(keys: &[&str], keep: u64, within: Option<&str>) -> Rule {
        Rule {
            keys: keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
            keep,
            within: within.map(|within| within.as_bytes().to_vec()),
        }
    }

    #[test]
    fn the_last_ones_of_each_group_stay() {
        let keys = [
            "d/readme",
            "d/year=2022/month=9/a",
            "d/year=2022/month=10/a",
            "d/year=2022/month=10/b",
            "d/year=2023/month=1/a",
            "d/year=2023/month=__HIVE_DEFAULT_PARTITION__/a",
            "d/year=2023/month=/a",
            "e/year=2023/month=06/a",
            "e/year=2023/month=6/b",
            "e/year=2023/month=7/a",
        ];
        let always = [
            "d/readme",
            "d/year=2023/month=/a",
            "d/year=2023/month=__HIVE_DEFAULT_PARTITION__/a",
        ];
        let check = |rule: Rule, gone: &[&str]| {
            let (left, report) = kept(&keys, rule.clone());
            let expected: Vec<&str> = keys.iter().filter(|key| !gone.contains(key)).copied().collect();
            let mut sorted = expected.clone();
            sorted.sort_unstable();
            assert_eq!(left, sorted, "{rule:?}");
            assert!(report.is_complete() && report.accounted, "{rule:?}");
            assert_eq!(report.totals.outcome_of(Outcome::Removed), gone.len() as u64);
            assert!(always.iter().all(|key| left.iter().any(|left| left == key)));
        };
        let sixth = ["e/year=2023/month=06/a", "e/year=2023/month=6/b"];
        let ninth = "d/year=2022/month=9/a";
        let tenth = ["d/year=2022/month=10/a", "d/year=2022/month=10/b"];
        // In each directory that has months.
        check(rule(&["month"], 1, None), &[ninth, sixth[0], sixth[1]]);
        check(rule(&["month"], 2, None), &[]);
        check(rule(&["month"], 1, Some("year")), &[ninth, sixth[0], sixth[1]]);
        // Across years.
        check(
            rule(&["year", "month"], 1, None),
            &[ninth, tenth[0], tenth[1], sixth[0], sixth[1]],
        );
        check(rule(&["year", "month"], 2, None), &[ninth]);
        check(rule(&["day"], 1, None), &[]);
    }

    #[test]
    fn a_limit_keeps_all() {
        let memory = Memory::new(Side::Source);
        for key in ["y=1/a", "y=2/a", "y=3/a"] {
            memory.insert(key.as_bytes(), b"x", Facts::default());
        }
        let mut options = PruneOptions {
            stays: Stays::Last(rule(&["y"], 1, None)),
            max_delete: Some(MaxDelete::Percent(50)),
            ..PruneOptions::default()
        };
        let run = |options: &PruneOptions| prune(options, &memory, &Arc::new(Desk::new(1))).unwrap();
        let report = run(&options);
        assert_eq!((report.withheld.len(), memory.all().len()), (1, 3));
        assert!(report.accounted);
        options.max_delete = None;
        options.dry_run = true;
        assert_eq!(run(&options).totals.outcome_of(Outcome::Removed), 2);
        assert_eq!(memory.all().len(), 3);
        options.stays = Stays::Nothing;
        options.dry_run = false;
        assert_eq!(run(&options).totals.outcome_of(Outcome::Removed), 3);
        assert!(memory.all().is_empty());
    }
}
