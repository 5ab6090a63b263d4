//! What a file system keeps of a time: whole seconds or finer, and from when to when.
//!
//! Comes in: a time that an entry is to have, and the one that was read back; goes out: whether they are the same as far
//! as that file system can tell, and whether more was lost than its granularity. What it keeps is learnt by example, once
//! for each device, on a file that goes at once; and only where a time was found other than it was set, or
//! than it is in the source. Nothing counts as the same that is not what the file system made of such a time when it was
//! asked: where it could not be asked, or gave answers without a rule, only equal times are equal.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bulkhaul_sys::{self as sys, AsFd as _, Node, OwnedFd, Replace, Stat, Time};

use crate::tree::staging::Stager;

/// Nanoseconds of a second.
const SECOND: i128 = 1_000_000_000;
/// No file system is coarser: FAT.
const COARSEST: i128 = 2 * SECOND;
/// Times of coarser file systems are whole multiples of this: of what NTFS and SMB keep.
const FINEST: u32 = 100;
/// Granularities that a dry run, which may not ask, believes in.
const BELIEVED: [i128; 6] = [COARSEST, SECOND, SECOND / 100, 1_000_000, 1_000, FINEST as i128];
/// Seconds that every file system keeps: FAT begins in 1980 and ext3 ends in January 2038, wherever the host is.
const USUAL: Range<i64> = 315_705_600..2_147_310_000;
/// A second, in 2001, that is a whole multiple of every granularity.
const EVEN: i64 = 1_000_000_000;
/// Seconds that are asked for, to see where a file system ends: as a signed and as an unsigned number of 32 bits, and two
/// that lie past what ext4 and XFS have room for.
const LATE: [i64; 4] = [i32::MAX as i64, u32::MAX as i64, 1 << 34, 1 << 40];
/// The same downwards: NFS begins in 1970, and 32 bits in 1901.
const EARLY: [i64; 3] = [0, i32::MIN as i64, -(1 << 40)];

/// A time as one number, as manifests have it.
pub fn nanoseconds(time: Time) -> i128 {
    i128::from(time.sec) * SECOND + i128::from(time.nsec)
}

/// The time of such a number; past what a time can say: the last, or the first.
pub fn time(nanoseconds: i128) -> Time {
    let sec = i64::try_from(nanoseconds.div_euclid(SECOND));
    Time {
        sec: sec.unwrap_or(if nanoseconds < 0 { i64::MIN } else { i64::MAX }),
        nsec: u32::try_from(nanoseconds.rem_euclid(SECOND)).unwrap_or_default(),
    }
}

fn seconds(sec: i64) -> Time {
    Time { sec, nsec: 0 }
}

/// Whether every file system keeps this second.
pub fn is_usual(time: Time) -> bool {
    USUAL.contains(&time.sec)
}

/// Whether the earlier of two times is what a coarser file system keeps of the other, as far as digits tell.
pub fn is_cut(one: Time, other: Time) -> bool {
    let (cut, whole) = (nanoseconds(one.min(other)), nanoseconds(one.max(other)));
    cut == whole || BELIEVED.into_iter().any(|grain| whole - whole.rem_euclid(grain) == cut)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rounding {
    Down,
    Up,
    /// It was not asked, or its answers show no rule.
    Unknown,
}

/// What a file system makes of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// In nanoseconds.
    granularity: i128,
    rounding: Rounding,
    /// What earlier times become, where that is known.
    earliest: Option<Time>,
    /// What later times become, where that is known.
    latest: Option<Time>,
}

impl Kept {
    /// Nothing is known: equal is what is equal.
    pub const UNKNOWN: Self = Self {
        granularity: 1,
        rounding: Rounding::Unknown,
        earliest: None,
        latest: None,
    };

    /// Learns it from what a file system makes of some times. `ask` sets a time and answers what is read back.
    pub fn learn(mut ask: impl FnMut(Time) -> sys::Result<Time>) -> Self {
        // Whoever refuses one of these may still keep others.
        let mut ask = |wanted| ask(wanted).ok();
        let even = nanoseconds(seconds(EVEN));
        let shown = [even - 1, even + 1].map(|at| (time(at), ask(time(at))));
        let [before, after] = shown.map(|(_, answer)| answer.map(nanoseconds));
        let by = |granularity, rounding| Self {
            granularity,
            rounding,
            ..Self::UNKNOWN
        };
        let kept = [
            before.map(|before| by(even - before, Rounding::Down)),
            after.map(|after| by(after - even, Rounding::Up)),
        ];
        let explains = |kept: &Self| {
            (1..=COARSEST).contains(&kept.granularity)
                && shown
                    .iter()
                    .all(|(asked, answer)| *answer == Some(kept.rounded(*asked)))
        };
        let mut kept = kept.into_iter().flatten().find(explains).unwrap_or(Self::UNKNOWN);
        kept.latest = kept.limit(&mut ask, &LATE);
        kept.earliest = kept.limit(&mut ask, &EARLY);
        kept
    }

    /// What all times past some limit become; `None` where there is no limit as far as the seconds of `ladder` reach, or
    /// something else becomes of them.
    fn limit(&self, mut ask: impl FnMut(Time) -> Option<Time>, ladder: &[i64]) -> Option<Time> {
        let mut last = EVEN;
        for sec in ladder {
            let (answer, whole) = (ask(seconds(*sec)), self.rounded(seconds(*sec)));
            if answer != Some(whole) {
                let between = answer.filter(|limit| (last.min(*sec)..=last.max(*sec)).contains(&limit.sec))?;
                let other = seconds(between.sec.midpoint(*sec));
                return (ask(other) == answer).then_some(between);
            }
            last = whole.sec;
        }
        None
    }

    /// What a dry run takes a file system for, which it may not ask: one that made `existing` of `source`, if there is
    /// such a one and the change time, which nobody sets, is not finer.
    pub fn assumed(source: Time, existing: &Stat) -> Self {
        let (wanted, there) = (nanoseconds(source), nanoseconds(existing.mtime));
        let changed = nanoseconds(existing.ctime);
        let beyond = |limit: i64, sign: i128| {
            let limit = i128::from(limit) * SECOND;
            (there - limit) * sign >= 0 && (wanted - there) * sign > 0
        };
        let believed = BELIEVED
            .into_iter()
            .find(|each| wanted - wanted.rem_euclid(*each) == there && changed % each == 0);
        Self {
            granularity: believed.unwrap_or(1),
            rounding: believed.map_or(Rounding::Unknown, |_| Rounding::Down),
            earliest: beyond(USUAL.start, -1).then_some(existing.mtime),
            latest: beyond(USUAL.end, 1).then_some(existing.mtime),
        }
    }

    /// A time as finely as it is kept, were it in range.
    fn rounded(&self, wanted: Time) -> Time {
        let at = nanoseconds(wanted);
        let down = at - at.rem_euclid(self.granularity);
        match self.rounding {
            Rounding::Unknown => wanted,
            Rounding::Up if down < at => time(down + self.granularity),
            Rounding::Down | Rounding::Up => time(down),
        }
    }

    /// What a time becomes.
    fn stored(&self, wanted: Time) -> Time {
        let limited = self.latest.map_or(wanted, |latest| wanted.min(latest));
        self.rounded(self.earliest.map_or(limited, |earliest| limited.max(earliest)))
    }

    /// Whether a time is that of the source, or what the file system makes of it.
    pub fn is_same(&self, source: Time, existing: Time) -> bool {
        source == existing || self.stored(source) == existing
    }

    /// Whether a time becomes what all times past a limit become.
    pub fn is_limited(&self, source: Time) -> bool {
        self.latest.is_some_and(|latest| source > latest) || self.earliest.is_some_and(|earliest| source < earliest)
    }

    /// Whether of a time that is `stored` as this more is lost than the granularity takes.
    pub(crate) fn is_lost(&self, source: Time, stored: Time) -> bool {
        let off = |other| (nanoseconds(source) - nanoseconds(other)).abs();
        match self.rounding {
            Rounding::Unknown => off(stored) >= COARSEST,
            Rounding::Down | Rounding::Up => off(stored) > off(self.rounded(source)),
        }
    }
}

/// Whether what is there may be what a coarse or short file system made of the source's time.
pub fn is_doubtful(source: Time, existing: Time) -> bool {
    let is_rounded = || existing.nsec.is_multiple_of(FINEST) && is_near(source, existing);
    source != existing && (!is_usual(source) || is_rounded())
}

/// Whether two times are no further apart than the coarsest file system rounds.
pub fn is_near(one: Time, other: Time) -> bool {
    (nanoseconds(one) - nanoseconds(other)).abs() < COARSEST
}

/// What is known of the times of one destination.
#[derive(Debug, Default)]
pub struct Clock {
    /// A device on which a usual time was found as it was set; asked at every file, so that it takes no lock.
    pub(crate) trusted: AtomicU64,
    /// By device: most destinations lie on one.
    known: Mutex<HashMap<u64, Kept>>,
}

impl Clock {
    fn devices(&self) -> MutexGuard<'_, HashMap<u64, Kept>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a device was found to keep.
    pub(crate) fn known(&self, device: u64) -> Kept {
        self.devices().get(&device).copied().unwrap_or(Kept::UNKNOWN)
    }

    /// What a device keeps, learnt on a new file of `directory` when it is first asked. A file that can't be made is tried
    /// for the next time.
    pub(crate) fn kept(&self, device: u64, directory: &OwnedFd, stager: Stager) -> Kept {
        let mut known = self.devices();
        if let Some(kept) = known.get(&device) {
            return *kept;
        }
        let before = sys::stat_fd(directory.as_fd());
        let made = match sys::create_unnamed(directory.as_fd()) {
            Ok(file) => Ok((file, None)),
            // It has a name while it is asked: FUSE servers find it by that.
            Err(_) => stager
                .stage(c"times", |name| sys::create_file(directory.as_fd(), name))
                .map(|(file, name)| (file, Some(name))),
        };
        let Ok((file, name)) = made else {
            return Kept::UNKNOWN;
        };
        let kept = Kept::learn(|wanted| {
            sys::set_times(Node::Open(file.as_fd()), None, Some(wanted))?;
            let Some(name) = &name else {
                return Ok(sys::stat_fd(file.as_fd())?.mtime);
            };
            // As what replaces another gets its name: encfs sets times anew then, and only their seconds.
            let (at, name) = (directory.as_fd(), name.as_c_str());
            stager.stage(c"times with another name", |other| {
                sys::rename(at, name, at, other, Replace::Yes)?;
                sys::rename(at, other, at, name, Replace::Yes)
            })?;
            Ok(sys::stat_anew(at, name)?.mtime)
        });
        // A name that stays is a leftover for the next run; no second one is made.
        let gone = name
            .as_ref()
            .is_none_or(|name| sys::unlink(directory.as_fd(), name.as_c_str()).is_ok());
        let kept = if gone { kept } else { Kept::UNKNOWN };
        if let (Some(_), Ok(before)) = (&name, before) {
            // Who compares the directory's own time later finds that which it had.
            match sys::set_times(Node::Open(directory.as_fd()), None, Some(before.mtime)) {
                Ok(()) | Err(_) => {}
            }
        }
        known.insert(device, kept);
        kept
    }
}

#[cfg(test)]
mod tests {
    use bulkhaul_sys::{Errno, Identity, Kind, Protection};

    use super::*;

    const NOW: i64 = 1_790_000_001;

    fn at(sec: i64, nsec: u32) -> Time {
        Time { sec, nsec }
    }

    #[test]
    fn what_is_cut_is_no_finer_than_a_grain() {
        let exact = at(3, 123_456_789);
        for cut in [
            (2, 0),
            (3, 0),
            (3, 120_000_000),
            (3, 123_000_000),
            (3, 123_456_700),
            (3, 123_456_789),
        ] {
            assert!(
                is_cut(at(cut.0, cut.1), exact) && is_cut(exact, at(cut.0, cut.1)),
                "{cut:?}"
            );
        }
        for other in [(1, 0), (3, 1), (3, 100_000_000), (3, 123_456_788), (4, 0)] {
            assert!(
                !is_cut(at(other.0, other.1), exact) && !is_cut(exact, at(other.0, other.1)),
                "{other:?}"
            );
        }
        assert!(is_cut(at(-4, 0), at(-3, 5)) && !is_cut(at(-2, 0), at(-3, 5)));
    }

    /// A file system that keeps multiples of some nanoseconds between two seconds.
    fn system(granularity: i128, up: bool, range: Range<i64>) -> impl Fn(Time) -> sys::Result<Time> {
        move |wanted| {
            let at = nanoseconds(wanted).clamp(i128::from(range.start) * SECOND, i128::from(range.end) * SECOND);
            let down = at - at.rem_euclid(granularity);
            Ok(time(if up && down < at { down + granularity } else { down }))
        }
    }

    const ALL: Range<i64> = -(1 << 50)..1 << 50;

    #[test]
    fn what_a_file_system_keeps_is_learnt() {
        let short = i64::from(i32::MIN)..i64::from(i32::MAX);
        let fat = 315_532_800..4_354_819_198;
        let cases: [(&str, i128, bool, Range<i64>); 10] = [
            ("tmpfs", 1, false, ALL),
            ("ext4", 1, false, short.start..15_032_385_535),
            ("ext4, small inodes", SECOND, false, short.clone()),
            ("xfs", 1, false, short.start..16_299_260_424),
            ("fat", COARSEST, false, fat.clone()),
            ("fat that rounds up", COARSEST, true, fat.clone()),
            ("coarse and short", COARSEST, false, short.start..short.end - 1),
            ("nfs", 1, false, 0..i64::from(u32::MAX)),
            ("ntfs", 100, false, -11_644_473_600..ALL.end),
            ("exfat", SECOND / 100, false, fat),
        ];
        for (what, granularity, up, range) in cases {
            let kept = Kept::learn(system(granularity, up, range.clone()));
            let rounding = if up { Rounding::Up } else { Rounding::Down };
            assert_eq!((kept.granularity, kept.rounding), (granularity, rounding), "{what}");
            let (earliest, latest) = (range.start > ALL.start, range.end < ALL.end);
            assert_eq!(kept.earliest, earliest.then_some(seconds(range.start)), "{what}");
            assert_eq!(kept.latest, latest.then_some(seconds(range.end)), "{what}");
            says_what_happens(what, &kept, granularity, up, &range);
        }
    }

    /// Of any time it says what a file system does with it, where its limits were found.
    fn says_what_happens(what: &str, kept: &Kept, granularity: i128, up: bool, range: &Range<i64>) {
        let set = system(granularity, up, range.clone());
        let bases = [-1, 0, 1, EVEN, NOW, NOW + 1, LATE[0], LATE[1], range.start, range.end];
        let known = |sec: &i64| range.contains(sec) || if *sec < 0 { kept.earliest } else { kept.latest }.is_some();
        for sec in bases.into_iter().flat_map(|base| base - 1..=base + 1).filter(known) {
            for nsec in [0, 1, 99, 100, 101, 9_999_999, 10_000_000, 500_000_000, 999_999_999] {
                let wanted = at(sec, nsec);
                let stored = set(wanted).unwrap();
                let what = format!("{what}: {wanted:?} as {stored:?}");
                assert!(kept.is_same(wanted, stored), "{what}");
                assert!(is_doubtful(wanted, stored) || wanted == stored, "{what}");
                let lost = (nanoseconds(wanted) - nanoseconds(stored)).abs() >= granularity;
                assert!(!lost || kept.is_lost(wanted, stored), "{what}");
                assert!(!range.contains(&sec) || !kept.is_lost(wanted, stored), "{what}");
                let other = time(nanoseconds(stored) + granularity);
                assert!(other == wanted || !kept.is_same(wanted, other), "{what}: {other:?}");
            }
        }
    }

    #[test]
    fn answers_without_a_rule_teach_nothing() {
        type Stores = fn(Time) -> sys::Result<Time>;
        let cases: [(&str, Stores); 5] = [
            ("the time of the question", |_| Ok(at(NOW, 5))),
            ("nothing", |_| Err(Errno::PERM)),
            ("to the nearest second", |t| {
                Ok(seconds(t.sec + i64::from(t.nsec >= 500_000_000)))
            }),
            ("half a minute", |t| Ok(seconds(t.sec - t.sec.rem_euclid(30)))),
            ("one of the two", |t| {
                if t.nsec == 1 {
                    Err(Errno::IO)
                } else {
                    Ok(seconds(t.sec))
                }
            }),
        ];
        for (what, stores) in cases {
            let kept = Kept::learn(stores);
            assert_eq!(kept.rounding, Rounding::Unknown, "{what}");
            assert!(
                kept.is_same(at(NOW, 7), at(NOW, 7)) && !kept.is_same(at(NOW, 7), seconds(NOW)),
                "{what}"
            );
            assert!(!kept.is_lost(at(NOW, 7), seconds(NOW)), "{what}: a fraction is no loss");
            assert!(kept.is_lost(at(NOW, 7), at(NOW + 2, 7)), "{what}");
        }
        // Times that wrap around, or that are refused, show no limit.
        let wraps = |t: Time| Ok(at(t.sec & 0x7fff_ffff, t.nsec));
        let refuses = |t: Time| {
            if LATE[0] >= t.sec && t.sec >= EARLY[0] {
                Ok(t)
            } else {
                Err(Errno::INVAL)
            }
        };
        for kept in [Kept::learn(wraps), Kept::learn(refuses)] {
            assert_eq!((kept.granularity, kept.earliest, kept.latest), (1, None, None));
            assert!(kept.is_lost(seconds(1 << 33), seconds(0)));
        }
    }

    #[test]
    fn most_times_leave_no_doubt() {
        for (source, existing, doubtful) in [
            (at(NOW, 5), at(NOW, 5), false),
            (at(NOW, 5), at(NOW, 0), true),
            (at(NOW, 5), at(NOW - 1, 0), true),
            (at(NOW, 5), at(NOW + 2, 0), true),
            (at(NOW, 5), at(NOW - 2, 0), false),
            (at(NOW, 5), at(NOW, 50), false),
            (at(NOW, 250), at(NOW, 200), true),
            (at(NOW, 5), at(NOW - 3600, 0), false),
            (at(1 << 33, 0), at(NOW, 5), true),
            (at(0, 0), at(USUAL.start, 0), true),
        ] {
            assert_eq!(is_doubtful(source, existing), doubtful, "{source:?} {existing:?}");
        }
    }

    #[test]
    fn a_dry_run_believes_what_it_sees() {
        let id = Identity { dev: 1, ino: 1 };
        let with = |mtime, ctime| Stat {
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            nlink: 1,
            size: 1,
            allocated: 1,
            id,
            rdev: 0,
            protection: Protection::None,
            atime: mtime,
            mtime,
            ctime,
        };
        let (max, then) = (i64::from(i32::MAX), at(NOW + 9, 0));
        for (source, mtime, ctime, same) in [
            (at(NOW, 5), at(NOW, 0), then, true),
            // Whoever keeps a finer time of change would have kept one of the content.
            (at(NOW, 5), at(NOW, 0), at(NOW + 9, 77), false),
            (at(NOW, 5), at(NOW - 1, 0), then, true),
            (at(NOW, 5), at(NOW + 1, 0), then, false),
            (at(NOW + 1, 5), at(NOW - 1, 0), then, false),
            (at(NOW, 123_456_789), at(NOW, 123_456_700), at(NOW, 700), true),
            (at(NOW, 123_456_789), at(NOW, 120_000_000), at(NOW, 10_000_000), true),
            (at(1 << 34, 5), seconds(max), then, true),
            (at(1 << 34, 5), seconds(NOW), then, false),
            (seconds(max), at(1 << 34, 0), then, false),
            (at(-(1 << 40), 5), seconds(-(1 << 31)), then, true),
            (seconds(0), seconds(315_532_800), then, true),
            (seconds(0), seconds(NOW), then, false),
        ] {
            let kept = Kept::assumed(source, &with(mtime, ctime));
            assert_eq!(kept.is_same(source, mtime), same, "{source:?} {mtime:?}");
        }
    }
}
