//! The counters behind a report: each worker has its own, and readers add them up.
//!
//! Comes in: entries found, and outcomes; goes out: sums at any moment. Adding costs no worker another's cache line.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use bulkhaul_sys::Kind;

use crate::entry::{KINDS, Outcome, Reason, kind_index};
use crate::error::Side;
use crate::report::standouts::Standouts;

/// Bytes that a file of each class of sizes has at most; larger ones are one class more.
pub const SIZE_CLASSES: [u64; 8] = [0, 4 << 10, 64 << 10, 1 << 20, 16 << 20, 256 << 20, 4 << 30, 64 << 30];

/// Files of one class of sizes, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SizeClass {
    /// How many.
    pub files: u64,
    /// Apparent bytes of them.
    pub bytes: u64,
}

/// One worker's counters; 128 bytes apart so that no two workers share a cache line (or its neighbour).
#[derive(Default)]
#[repr(align(128))]
pub struct Counters {
    found: [AtomicU64; KINDS.len()],
    extras: AtomicU64,
    there: AtomicU64,
    outcomes: [AtomicU64; Outcome::ALL.len()],
    file_outcomes: [AtomicU64; Outcome::ALL.len()],
    directory_outcomes: [AtomicU64; Outcome::ALL.len()],
    reasons: [AtomicU64; Reason::ALL.len()],
    sizes: [AtomicU64; SIZE_CLASSES.len() + 1],
    size_bytes: [AtomicU64; SIZE_CLASSES.len() + 1],
    allocated_bytes: AtomicU64,
    copied_bytes: AtomicU64,
    taken_back: AtomicU64,
    skipped_files: AtomicU64,
    skipped_bytes: AtomicU64,
    done_bytes: AtomicU64,
    planned_bytes: AtomicU64,
    planned_room: AtomicU64,
    planned_inodes: AtomicU64,
    added_files: AtomicU64,
    updated_files: AtomicU64,
    verified_files: AtomicU64,
    verified_bytes: AtomicU64,
    verified_from_cache: AtomicU64,
    hashed_bytes: AtomicU64,
    leaving: AtomicU64,
    resumed_files: AtomicU64,
    resumed_bytes: AtomicU64,
    unfinished: AtomicU64,
    /// The files that this worker has begun and not ended.
    pub flight: Arc<Flight>,
    /// What stands out of what it came to.
    pub standouts: Standouts,
}

/// The files that a worker has begun and not ended: the one in its hands, of which others may copy parts, and those that
/// wait for their sync.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Flight {
    /// One more than the bytes that the file in hand has to be moved and read back; 0: there is none.
    to_move: AtomicU64,
    /// How many of them were.
    moved: AtomicU64,
    /// Bytes that were written of it.
    written: AtomicU64,
    /// What was made of it has a name that nobody takes for it.
    staged: AtomicBool,
    waiting: AtomicU64,
    /// Bytes that are to be read back of those that wait.
    waiting_bytes: AtomicU64,
}

/// A file is in a worker's hands for as long as this lives.
pub struct InHand<'f>(&'f Flight);

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.0.to_move.store(0, Relaxed);
        self.0.staged.store(false, Relaxed);
    }
}

impl Flight {
    /// What is begun is in hand until the answer goes.
    pub fn in_hand(&self) -> InHand<'_> {
        InHand(self)
    }

    /// A file is begun, of which so many bytes are to be moved and read back.
    pub fn begin(&self, bytes: u64) {
        self.moved.store(0, Relaxed);
        self.written.store(0, Relaxed);
        self.staged.store(false, Relaxed);
        self.to_move.store(bytes.saturating_add(1), Relaxed);
    }

    /// So many bytes of the file in hand were moved.
    pub fn moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Relaxed);
    }

    /// Something was made of the file in hand that stays unfinished where nobody comes back to it.
    pub fn staged(&self) {
        self.staged.store(true, Relaxed);
    }

    /// So many bytes of the file in hand were written.
    pub fn wrote(&self, bytes: u64) {
        self.written.fetch_add(bytes, Relaxed);
    }

    /// Bytes of the file in hand that were written.
    pub fn all_written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// All of the file in hand is still to be moved.
    pub fn begin_anew(&self) {
        self.moved.store(0, Relaxed);
    }

    /// Bytes of the file in hand that were moved.
    pub fn all_moved(&self) -> u64 {
        self.moved.load(Relaxed)
    }

    /// The file in hand is to wait, and to be read back by so many bytes then.
    pub fn put_off(&self, bytes: u64) {
        add(&self.waiting, 1);
        add(&self.waiting_bytes, bytes);
    }

    /// A file that waited is in hand again.
    pub fn take_up(&self, bytes: u64) -> InHand<'_> {
        self.waiting.fetch_sub(1, Relaxed);
        self.waiting_bytes.fetch_sub(bytes, Relaxed);
        self.begin(bytes);
        self.staged();
        self.in_hand()
    }
}

/// Files that were begun and not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// How many.
    pub files: u64,
    /// Bytes of them that are still to be copied or read back.
    pub bytes: u64,
}

impl InFlight {
    /// Adds up.
    pub fn of(counters: &[Counters]) -> Self {
        let mut sum = Self::default();
        for Counters { flight, .. } in counters {
            let to_move = flight.to_move.load(Relaxed);
            sum.files += u64::from(to_move > 0) + flight.waiting.load(Relaxed);
            let left = to_move.saturating_sub(1).saturating_sub(flight.all_moved());
            sum.bytes += left + flight.waiting_bytes.load(Relaxed);
        }
        sum
    }
}

/// The class of a size.
fn class_of(size: u64) -> usize {
    SIZE_CLASSES.partition_point(|most| *most < size)
}

fn add(counter: &AtomicU64, n: u64) {
    // Only the owning worker writes, so a plain load and store would do; fetch_add keeps it right if that changes.
    counter.fetch_add(n, Relaxed);
}

impl Counters {
    /// The finder saw an entry.
    pub fn found(&self, kind: Kind) {
        add(&self.found[kind_index(kind)], 1);
    }

    /// The same in the tree on this side: all that is looked for in a destination is extra.
    pub fn found_in(&self, side: Side, kind: Kind) {
        match side {
            Side::Source => self.found(kind),
            Side::Destination(_) => add(&self.extras, 1),
        }
    }

    /// Names of a source were found in a destination too.
    pub fn found_there(&self, names: u64) {
        add(&self.there, names);
    }

    /// The recorder closes an extra entry of a destination.
    pub fn extra_outcome(&self, outcome: Outcome, reason: Option<Reason>) {
        add(&self.outcomes[outcome as usize], 1);
        if let Some(reason) = reason {
            add(&self.reasons[reason as usize], 1);
        }
    }

    /// The size of a regular file became known: apparent bytes, and allocated ones where they were asked for.
    pub fn sized(&self, size: u64, allocated: u64) {
        let class = class_of(size);
        add(&self.sizes[class], 1);
        add(&self.size_bytes[class], size);
        add(&self.allocated_bytes, allocated);
    }

    /// Such a file had more bytes than its size says, as where sizes say nothing.
    pub fn grew(&self, size: u64, more: u64) {
        add(&self.size_bytes[class_of(size)], more);
    }

    /// Regular files whose sizes became known to this worker, and their apparent bytes.
    pub fn all_sized(&self) -> (u64, u64) {
        let sum = |all: &[AtomicU64]| all.iter().map(|each| each.load(Relaxed)).sum();
        (sum(&self.sizes), sum(&self.size_bytes))
    }

    /// A dry run found something to make, of so many bytes, for which it wants so much `room`; `new`: nothing has its name,
    /// so it needs an inode more.
    pub fn planned(&self, bytes: u64, room: u64, new: bool) {
        add(&self.planned_bytes, bytes);
        add(&self.planned_room, room);
        add(&self.planned_inodes, u64::from(new));
    }

    /// A file was copied, or would be; `new`: nothing had its name.
    pub fn brought(&self, new: bool) {
        add(if new { &self.added_files } else { &self.updated_files }, 1);
    }

    /// An entry arrived, and a move may take it out of the source.
    pub fn leaves(&self) {
        add(&self.leaving, 1);
    }

    /// A file is gone on with that a dead run has begun.
    pub fn resumes(&self) {
        add(&self.resumed_files, 1);
    }

    /// Bytes of such a file were there.
    pub fn resumed(&self, bytes: u64) {
        add(&self.resumed_bytes, bytes);
    }

    /// A file was begun and stays unfinished.
    pub fn left_unfinished(&self) {
        add(&self.unfinished, 1);
        self.flight.staged.store(false, Relaxed);
    }

    /// A file was proved: its bytes, and how many of them the cache gave instead of the medium.
    pub fn verified(&self, bytes: u64, from_cache: u64) {
        add(&self.verified_files, 1);
        add(&self.verified_bytes, bytes);
        add(&self.verified_from_cache, from_cache);
    }

    /// Bytes of a file were read into its digests.
    pub fn hashed(&self, bytes: u64) {
        add(&self.hashed_bytes, bytes);
    }

    /// Where bytes of content are counted as they are written.
    pub fn written(&self) -> &AtomicU64 {
        &self.copied_bytes
    }

    /// Its worker does not come back: what it has begun stays unfinished.
    pub fn leave_behind(&self) {
        let Flight { staged, waiting, .. } = &*self.flight;
        add(
            &self.unfinished,
            u64::from(staged.load(Relaxed)) + waiting.load(Relaxed),
        );
    }

    /// So many bytes that were written are taken back, because their file failed.
    pub fn took_back(&self, bytes: u64) {
        add(&self.taken_back, bytes);
    }

    /// The recorder closes an entry. `size` is a file's size in bytes.
    pub fn outcome(&self, kind: Kind, outcome: Outcome, reason: Option<Reason>, size: u64) {
        add(&self.outcomes[outcome as usize], 1);
        if let Some(reason) = reason {
            add(&self.reasons[reason as usize], 1);
        }
        if kind == Kind::Directory {
            add(&self.directory_outcomes[outcome as usize], 1);
        }
        if matches!(kind, Kind::File) {
            add(&self.file_outcomes[outcome as usize], 1);
            add(&self.done_bytes, size);
            if matches!(outcome, Outcome::Skipped | Outcome::Metadata) {
                add(&self.skipped_files, 1);
                add(&self.skipped_bytes, size);
            }
        }
    }

    /// An entry that an exclude rule took out before it was counted as found.
    pub fn excluded(&self) {
        add(&self.reasons[Reason::Excluded as usize], 1);
    }
}

/// A counter that all threads add to at once, each in a place of its own: one place would go from processor to processor
/// with every file, and with it whatever lies beside it.
#[derive(Debug)]
pub struct Steps([Place; PLACES]);

/// Far enough from the next one to share no cache line with it, nor a pair of lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Place(AtomicU64);

/// Threads beyond so many share places.
const PLACES: usize = 64;

impl Default for Steps {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Place::default()))
    }
}

impl Steps {
    /// Adds so many.
    pub fn add(&self, steps: u64) {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static PLACE: usize = THREADS.fetch_add(1, Relaxed) % PLACES;
        }
        // A thread that is ending has no place any more.
        let place = PLACE.try_with(|place| *place).unwrap_or_default();
        self.0[place].0.fetch_add(steps, Relaxed);
    }

    /// Takes so many back that were added before.
    pub fn take_back(&self, steps: u64) {
        self.add(steps.wrapping_neg());
    }

    /// All of them.
    pub fn sum(&self) -> u64 {
        let places = self.0.iter();
        places.fold(0, |sum, place| sum.wrapping_add(place.0.load(Relaxed)))
    }
}

/// Sums over all workers at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Entries found, by [`KINDS`].
    pub found: [u64; KINDS.len()],
    /// Extra entries of the destination that the sweep came to.
    pub extras: u64,
    /// Names of sources that a mirror's destination had already.
    pub there: u64,
    /// Entries by [`Outcome`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// Regular files by [`Outcome`].
    pub file_outcomes: [u64; Outcome::ALL.len()],
    /// Directories by [`Outcome`].
    pub directory_outcomes: [u64; Outcome::ALL.len()],
    /// Skipped entries by [`Reason`].
    pub reasons: [u64; Reason::ALL.len()],
    /// Regular files whose sizes are known, by [`SIZE_CLASSES`].
    pub sizes: [SizeClass; SIZE_CLASSES.len() + 1],
    /// Apparent bytes of regular files.
    pub found_bytes: u64,
    /// Allocated bytes of regular files, where they were asked for: what only the end is read of is not.
    pub allocated_bytes: u64,
    /// Bytes of content written.
    pub copied_bytes: u64,
    /// Those of them that were taken back.
    pub taken_back: u64,
    /// Files that needed no content.
    pub skipped_files: u64,
    /// Their bytes.
    pub skipped_bytes: u64,
    /// Bytes of files that have an outcome.
    pub done_bytes: u64,
    /// Bytes of files that a dry run would write.
    pub planned_bytes: u64,
    /// The room that they take.
    pub planned_room: u64,
    /// New entries, apart from directories and hard links, that a dry run would make.
    pub planned_inodes: u64,
    /// Files that a copy or a sync brought, and nothing had their names.
    pub added_files: u64,
    /// Files that a copy or a sync brought, and something had their names.
    pub updated_files: u64,
    /// Files that were read back and match.
    pub verified_files: u64,
    /// Their bytes.
    pub verified_bytes: u64,
    /// How many of these the cache gave instead of the medium.
    pub verified_from_cache: u64,
    /// Bytes that were read into digests of a manifest.
    pub hashed_bytes: u64,
    /// Entries that a move may take out of the source, now that they arrived.
    pub leaving: u64,
    /// Files that a dead run had begun and this one went on with.
    pub resumed_files: u64,
    /// Bytes of them that were there, and are not counted as written.
    pub resumed_bytes: u64,
    /// Files that were begun when the operation was told to stop, and stay as they are under a name of their own.
    pub unfinished: u64,
}

impl Totals {
    /// Adds up.
    pub fn of(counters: &[Counters]) -> Self {
        let mut sum = Self::default();
        let fold = |into: &mut [u64], from: &[AtomicU64]| {
            for (i, f) in into.iter_mut().zip(from) {
                *i += f.load(Relaxed);
            }
        };
        for c in counters {
            fold(&mut sum.found, &c.found);
            fold(&mut sum.outcomes, &c.outcomes);
            fold(&mut sum.file_outcomes, &c.file_outcomes);
            fold(&mut sum.directory_outcomes, &c.directory_outcomes);
            fold(&mut sum.reasons, &c.reasons);
            sum.extras += c.extras.load(Relaxed);
            sum.there += c.there.load(Relaxed);
            for ((class, files), bytes) in sum.sizes.iter_mut().zip(&c.sizes).zip(&c.size_bytes) {
                let bytes = bytes.load(Relaxed);
                class.files += files.load(Relaxed);
                class.bytes += bytes;
                sum.found_bytes += bytes;
            }
            sum.allocated_bytes += c.allocated_bytes.load(Relaxed);
            sum.copied_bytes += c.copied_bytes.load(Relaxed);
            sum.taken_back += c.taken_back.load(Relaxed);
            sum.skipped_files += c.skipped_files.load(Relaxed);
            sum.skipped_bytes += c.skipped_bytes.load(Relaxed);
            sum.done_bytes += c.done_bytes.load(Relaxed);
            sum.planned_bytes += c.planned_bytes.load(Relaxed);
            sum.planned_room += c.planned_room.load(Relaxed);
            sum.planned_inodes += c.planned_inodes.load(Relaxed);
            sum.added_files += c.added_files.load(Relaxed);
            sum.updated_files += c.updated_files.load(Relaxed);
            sum.verified_files += c.verified_files.load(Relaxed);
            sum.verified_bytes += c.verified_bytes.load(Relaxed);
            sum.verified_from_cache += c.verified_from_cache.load(Relaxed);
            sum.hashed_bytes += c.hashed_bytes.load(Relaxed);
            sum.leaving += c.leaving.load(Relaxed);
            sum.resumed_files += c.resumed_files.load(Relaxed);
            sum.resumed_bytes += c.resumed_bytes.load(Relaxed);
            sum.unfinished += c.unfinished.load(Relaxed);
        }
        sum
    }

    /// Bytes of content that were written and stay.
    pub fn kept_bytes(&self) -> u64 {
        self.copied_bytes.saturating_sub(self.taken_back)
    }

    /// What the workers did, as their throughput is measured: bytes moved, hashed or read back, and entries found and done with.
    pub fn work(&self) -> (u64, u64) {
        let bytes = self.copied_bytes + self.verified_bytes + self.hashed_bytes;
        (bytes, self.all_found() + self.all_outcomes())
    }

    /// A number that grows with whatever is found, moved or done.
    pub fn moves(&self) -> u64 {
        let bytes = [
            self.found_bytes,
            self.copied_bytes,
            self.verified_bytes,
            self.hashed_bytes,
            self.planned_bytes,
            self.resumed_bytes,
        ];
        let all = bytes
            .iter()
            .chain(&self.reasons)
            .fold(0, |sum: u64, n| sum.wrapping_add(*n));
        all.wrapping_add(self.all_found()).wrapping_add(self.all_outcomes())
    }

    /// Entries of a kind that were found.
    pub fn found_of(&self, kind: Kind) -> u64 {
        self.found[kind_index(kind)]
    }

    /// Entries with an outcome.
    pub fn outcome_of(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    /// Entries that were skipped for this reason.
    pub fn reason_of(&self, reason: Reason) -> u64 {
        self.reasons[reason as usize]
    }

    /// All entries found, on either side.
    pub fn all_found(&self) -> u64 {
        self.found.iter().sum::<u64>() + self.extras
    }

    /// All outcomes recorded.
    pub fn all_outcomes(&self) -> u64 {
        self.outcomes.iter().sum()
    }
}
