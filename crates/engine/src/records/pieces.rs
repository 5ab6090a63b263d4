//! What of a job is finished, written down as it comes, so that the next run of it goes on should this one die.
//!
//! Comes in: pieces, each with what was found of it; goes out: on the next run, what was found of the same piece. Whoever
//! uses it says what a piece is: a [`Piece`] is made of all that has to be the same for its finding to hold, as the path, the
//! size and the times of a file. Promises: what was not written whole, or is damaged, was never written; a record can't be
//! taken for that of another piece, nor a log for one of another work. Nothing is synced: what the power takes is done
//! again. Memory does not grow with the number of pieces. Where the log can't be written the job goes on without.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bulkhaul_formats::digest::{Blake3, xxh64};
use bulkhaul_sys::{Stat, Time};

use crate::bytes::transfer::BUFFER_BYTES;
use crate::job::desk::Desk;
use crate::records::sort::{Sorted, Sorters};

const MAGIC: &[u8; 8] = b"bhpiece1";
/// The magic, what work it is of, how many of the records are sorted, and a check.
const HEAD_BYTES: usize = 8 + KEY_BYTES + 8 + CHECK_BYTES;
const KEY_BYTES: usize = 16;
const CHECK_BYTES: usize = 8;
/// Records that wait to be written have no more than this, or are of no more work than that, or are no older.
const LOG_BYTES: usize = 16 * 1024;
const COST_BYTES: u64 = 16 * 1024 * 1024;
const LONGEST: Duration = Duration::from_millis(200);
/// While the directory of the job is not there yet, no more is kept.
const KEPT_BYTES: usize = 1024 * 1024;
/// A time that is no older says nothing: the clocks of file systems stand still for so long, some for two seconds, which have
/// no parts of them.
const TICK: Duration = Duration::from_millis(50);
const COARSE_TICK: Duration = Duration::from_secs(2);

/// A piece of work, by all that it depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece([u8; KEY_BYTES]);

impl Piece {
    /// Of these parts, each as long as it is.
    pub fn new(parts: &[&[u8]]) -> Self {
        let mut hasher = Blake3::default();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let mut key = [0; KEY_BYTES];
        key.copy_from_slice(&hasher.digest()[..KEY_BYTES]);
        Self(key)
    }

    /// The content of a file, as far as path, inode, size and times tell it, for what `of` says. Two sources may each have a
    /// file of one path, size and times.
    pub fn content(path: &[u8], stat: &Stat, of: &[u8]) -> Self {
        Self::new(&[path, &stat.id.ino.to_le_bytes(), &facts(stat), of])
    }
}

/// What tells that a file was written to: its size, and its times of modification and of change.
pub fn facts(stat: &Stat) -> [u8; 32] {
    let mut facts = [0; 32];
    facts[..8].copy_from_slice(&stat.size.to_le_bytes());
    for (at, time) in [(8, stat.mtime), (20, stat.ctime)] {
        facts[at..at + 8].copy_from_slice(&time.sec.to_le_bytes());
        facts[at + 8..at + 12].copy_from_slice(&time.nsec.to_le_bytes());
    }
    facts
}

/// Whether a time of a file would be another one, if that happened now which it tells of.
pub fn is_settled(time: Time) -> bool {
    let tick = if time.nsec == 0 { COARSE_TICK } else { TICK };
    let Ok(sec) = u64::try_from(time.sec) else {
        // It is of before 1970.
        return true;
    };
    let then = SystemTime::UNIX_EPOCH + Duration::new(sec, time.nsec);
    SystemTime::now().duration_since(then).is_ok_and(|age| age > tick)
}

/// What a job has to do with others that do parts of it.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// Logs of others, which have done some of it already. They stay.
    pub finished: Vec<Vec<u8>>,
    /// Its own stays too: it is a part itself.
    pub keep: bool,
}

/// The finished pieces of one job.
pub struct Pieces {
    path: PathBuf,
    desk: Arc<Desk>,
    /// What the records are of.
    work: Piece,
    value_bytes: usize,
    /// Those of earlier runs, in order, and how many.
    earlier: Option<(File, u64)>,
    log: Mutex<Log>,
}

struct Log {
    file: Option<File>,
    waiting: Vec<u8>,
    cost: u64,
    written: Instant,
    /// Nothing more is written.
    off: bool,
}

impl Pieces {
    /// The log at this path, which need not be there. `work`: what it is of; `value_bytes`: how much is found of each piece.
    pub fn open(path: &[u8], work: (&[u8], usize), sorters: &Sorters, desk: &Arc<Desk>) -> Self {
        Self::joined(path, &[], work, sorters, desk)
    }

    /// The same, which takes up what the logs of others have, if they are of the same work. These stay as they are.
    pub fn joined(
        path: &[u8],
        others: &[Vec<u8>],
        (work, value_bytes): (&[u8], usize),
        sorters: &Sorters,
        desk: &Arc<Desk>,
    ) -> Self {
        let mut pieces = Self {
            path: PathBuf::from(OsStr::from_bytes(path)),
            desk: Arc::clone(desk),
            work: Piece::new(&[work, &value_bytes.to_le_bytes()]),
            value_bytes,
            earlier: None,
            log: Mutex::new(Log {
                file: None,
                waiting: Vec::new(),
                cost: 0,
                written: Instant::now(),
                off: false,
            }),
        };
        match pieces.earlier(others, sorters) {
            Ok(earlier) => pieces.earlier = earlier,
            // What can't be read is not there.
            Err(error) => pieces.fail(&error),
        }
        pieces
    }

    fn record_bytes(&self) -> usize {
        KEY_BYTES + self.value_bytes + CHECK_BYTES
    }

    fn head(&self, sorted: u64) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(MAGIC);
        head[8..8 + KEY_BYTES].copy_from_slice(&self.work.0);
        head[8 + KEY_BYTES..16 + KEY_BYTES].copy_from_slice(&sorted.to_le_bytes());
        let check = xxh64(&head[..HEAD_BYTES - CHECK_BYTES]);
        head[HEAD_BYTES - CHECK_BYTES..].copy_from_slice(&check.to_le_bytes());
        head
    }

    /// A record's key and value, if it is whole.
    fn split<'r>(&self, record: &'r [u8]) -> Option<(&'r [u8], &'r [u8])> {
        let (body, check) = record.split_at_checked(KEY_BYTES + self.value_bytes)?;
        (check == xxh64(body).to_le_bytes()).then(|| body.split_at(KEY_BYTES))
    }

    /// A log of this work, read up to its records, and how many of these are sorted. None: it is of another work, or damaged.
    fn begun(&self, mut file: File) -> io::Result<Option<(File, u64)>> {
        let mut head = [0; HEAD_BYTES];
        let whole = read_full(&mut file, &mut head)? == HEAD_BYTES;
        let sorted: Option<[u8; 8]> = head[8 + KEY_BYTES..16 + KEY_BYTES].try_into().ok();
        let sorted = sorted.map_or(0, u64::from_le_bytes);
        Ok((whole && head == self.head(sorted)).then_some((file, sorted)))
    }

    /// What earlier runs have left, and others, in order.
    fn earlier(&mut self, others: &[Vec<u8>], sorters: &Sorters) -> io::Result<Option<(File, u64)>> {
        let own = match File::options().read(true).append(true).open(&self.path) {
            Ok(file) => {
                let begun = self.begun(file)?;
                if begun.is_none() {
                    fs::remove_file(&self.path)?;
                }
                begun
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if !others.is_empty() {
            let mut all: Vec<File> = own.into_iter().map(|(file, _)| file).collect();
            for path in others {
                // What can't be read is not there: it is done again.
                let begun = File::open(OsStr::from_bytes(path)).and_then(|file| self.begun(file));
                all.extend(begun.ok().flatten().map(|(file, _)| file));
            }
            return self.sorted(all, sorters).map(Some);
        }
        let Some((file, sorted)) = own else { return Ok(None) };
        let size = file.metadata()?.len();
        let records = (size - HEAD_BYTES as u64) / self.record_bytes() as u64;
        if records == sorted {
            file.set_len(HEAD_BYTES as u64 + records * self.record_bytes() as u64)?;
            self.log.get_mut().unwrap_or_else(PoisonError::into_inner).file = Some(file.try_clone()?);
            return Ok(Some((file, sorted)));
        }
        self.sorted(vec![file], sorters).map(Some)
    }

    /// The records of all these logs in order, in one, and how many.
    fn sorted(&mut self, logs: Vec<File>, sorters: &Sorters) -> io::Result<(File, u64)> {
        let sorted = self.sort(logs, sorters)?;
        let file = File::options().read(true).append(true).open(&self.path)?;
        self.log.get_mut().unwrap_or_else(PoisonError::into_inner).file = Some(file.try_clone()?);
        Ok((file, sorted))
    }

    /// Brings all records in order, in a new file that takes the place of the old one. How many there are.
    fn sort(&self, logs: Vec<File>, sorters: &Sorters) -> io::Result<u64> {
        let length = self.record_bytes();
        let mut sorter = sorters.sorter();
        let mut buffer = vec![0; BUFFER_BYTES / length * length];
        for mut file in logs {
            loop {
                let read = read_full(&mut file, &mut buffer)?;
                self.desk.step();
                for record in buffer[..read].chunks_exact(length) {
                    if let Some((key, value)) = self.split(record) {
                        sorter.push(key, value)?;
                    }
                }
                if read < buffer.len() {
                    break;
                }
            }
        }
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&name)?;
        let (mut records, mut before) = (0, Vec::new());
        let mut out = self.head(0).to_vec();
        let mut all = Sorted::merge(vec![sorter])?;
        while let Some((key, value)) = all.next()? {
            if before == key {
                continue;
            }
            before = key.to_vec();
            records += 1;
            put(&mut out, key, value);
            if out.len() >= BUFFER_BYTES {
                file.write_all(&out)?;
                out.clear();
            }
        }
        file.write_all(&out)?;
        file.write_all_at(&self.head(records), 0)?;
        fs::rename(&name, &self.path)?;
        Ok(records)
    }

    /// Whether an earlier run has left anything.
    pub fn has_earlier(&self) -> bool {
        self.earlier.is_some()
    }

    /// What an earlier run has found of a piece.
    pub fn find(&self, Piece(key): &Piece) -> Option<Vec<u8>> {
        let (file, records) = self.earlier.as_ref()?;
        let length = self.record_bytes();
        let mut record = vec![0; length];
        let (mut low, mut high) = (0, *records);
        let (mut least, mut most) = (0_u64, u64::MAX);
        let wanted = leading(key);
        while low < high {
            // Keys are spread evenly: it is most likely where its share of the way is.
            let span = u128::from(most - least).max(1);
            let share = u128::from(wanted.saturating_sub(least)) * u128::from(high - low) / span;
            let middle = (low + u64::try_from(share).unwrap_or(0)).min(high - 1);
            // What can't be read is not known.
            file.read_exact_at(&mut record, HEAD_BYTES as u64 + middle * length as u64)
                .ok()?;
            let (found, value) = self.split(&record)?;
            match found.cmp(&key[..]) {
                std::cmp::Ordering::Equal => return Some(value.to_vec()),
                std::cmp::Ordering::Less => (low, least) = (middle + 1, leading(found)),
                std::cmp::Ordering::Greater => (high, most) = (middle, leading(found)),
            }
        }
        None
    }

    /// A piece is finished, of so many bytes of work.
    pub fn add(&self, Piece(key): &Piece, value: &[u8], cost: u64) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.off || value.len() != self.value_bytes {
            return;
        }
        put(&mut log.waiting, key, value);
        log.cost += cost;
        if log.waiting.len() >= LOG_BYTES || log.cost >= COST_BYTES || log.written.elapsed() >= LONGEST {
            self.flush(&mut log);
        }
    }

    fn flush(&self, log: &mut Log) {
        log.written = Instant::now();
        if log.off || log.waiting.is_empty() {
            return;
        }
        if log.file.is_none() {
            let made = File::options()
                .append(true)
                .create_new(true)
                .mode(0o600)
                .open(&self.path);
            match made.and_then(|mut file| file.write_all(&self.head(0)).map(|()| file)) {
                Ok(file) => log.file = Some(file),
                // A job has a directory when it has taken some time.
                Err(error) if error.kind() == io::ErrorKind::NotFound && log.waiting.len() < KEPT_BYTES => return,
                Err(error) => {
                    log.off = true;
                    return self.fail(&error);
                }
            }
        }
        // In one call: whole records, whoever else writes there.
        let written = log.file.as_mut().map_or(Ok(()), |file| file.write_all(&log.waiting));
        log.waiting.clear();
        log.cost = 0;
        if let Err(error) = written {
            log.off = true;
            self.fail(&error);
        }
    }

    /// The run is over; `whole`: the job is, and nobody goes on with it.
    pub fn close(&self, whole: bool) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if !whole {
            return self.flush(&mut log);
        }
        if let Some(Err(error)) = log.file.take().map(|_| fs::remove_file(&self.path)) {
            self.fail(&error);
        }
    }

    fn fail(&self, error: &io::Error) {
        self.desk.note("finished", || {
            let path: &Path = &self.path;
            let what = format!("what is finished can't be written down, so the next run begins anew: {error}");
            (path.as_os_str().as_bytes().to_vec(), what)
        });
    }
}

/// Writes a record.
fn put(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let from = out.len();
    out.extend_from_slice(key);
    out.extend_from_slice(value);
    let check = xxh64(&out[from..]);
    out.extend_from_slice(&check.to_le_bytes());
}

/// The first bytes of a key as a number.
fn leading(key: &[u8]) -> u64 {
    key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Reads until the buffer is full or the file ends.
fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bulkhaul_sys::{self as sys, AsFd as _};
    use proptest::prelude::*;

    use super::*;

    const WORK: (&[u8], usize) = (b"test", 4);

    fn piece(number: u32) -> Piece {
        Piece::new(&[&number.to_le_bytes()])
    }

    /// Two sources may each have a file of one path and size, and file systems without inodes of their own give both one time.
    #[test]
    fn files_of_one_path_size_and_time_are_two() {
        let scratch = tempfile::tempdir().unwrap();
        let file = File::create(scratch.path().join("a")).unwrap();
        let stat = sys::stat_fd(file.as_fd()).unwrap();
        let mut other = stat;
        other.id.ino += 1;
        assert_ne!(Piece::content(b"a", &stat, b""), Piece::content(b"a", &other, b""));
        assert_eq!(Piece::content(b"a", &stat, b""), Piece::content(b"a", &stat, b""));
    }

    fn path() -> (tempfile::TempDir, Vec<u8>) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("pieces").into_os_string().into_encoded_bytes();
        (scratch, path)
    }

    proptest! {
        /// Runs that each find some, of which some die with a torn last record.
        #[test]
        fn what_was_found_is_found_again_and_nothing_else(
            runs in proptest::collection::vec((proptest::collection::vec(0_u32..500, 0..200), 0..30_usize), 1..5),
        ) {
            let (_scratch, path) = path();
            let (sorters, desk) = (Sorters::new(None, 0, 1), Arc::new(Desk::new(1)));
            let name = Path::new(OsStr::from_bytes(&path));
            let mut known = BTreeMap::new();
            for (numbers, torn) in runs {
                let pieces = Pieces::open(&path, WORK, &sorters, &desk);
                for (number, value) in &known {
                    prop_assert_eq!(pieces.find(&piece(*number)), Some(u32::to_le_bytes(*value).to_vec()));
                }
                for number in 500..600 {
                    prop_assert_eq!(pieces.find(&piece(number)), None);
                }
                for number in &numbers {
                    pieces.add(&piece(*number), &(number * 3).to_le_bytes(), 1);
                    known.insert(*number, number * 3);
                }
                pieces.close(false);
                if torn > 0 && !numbers.is_empty() {
                    let file = File::options().append(true).open(name).unwrap();
                    let size = file.metadata().unwrap().len();
                    file.write_all_at(&vec![7; torn % 27], size).unwrap();
                }
            }
            Pieces::open(&path, WORK, &sorters, &desk).close(true);
            prop_assert!(!name.exists());
        }
    }

    /// Parts of a job, of which one died with a torn last record, and one is of another work.
    #[test]
    fn what_others_have_found_is_found_and_stays() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name).into_os_string().into_encoded_bytes();
        let (sorters, desk) = (Sorters::new(None, 0, 1), Arc::new(Desk::new(1)));
        let fill = |name: &str, numbers: std::ops::Range<u32>, work| {
            let pieces = Pieces::open(&at(name), work, &sorters, &desk);
            numbers.for_each(|number| pieces.add(&piece(number), &number.to_le_bytes(), 0));
            pieces.close(false);
        };
        fill("one", 0..40, WORK);
        fill("two", 30..60, WORK);
        fill("other", 60..90, (b"other", 4));
        fill("own", 90..100, WORK);
        let torn = File::options().append(true).open(scratch.path().join("one")).unwrap();
        (&torn).write_all(b"torn").unwrap();
        let others = ["one", "absent", "two", "other"].map(at);
        let before = others.clone().map(|path| fs::read(OsStr::from_bytes(&path)).ok());
        for _ in 0..2 {
            let pieces = Pieces::joined(&at("own"), &others, WORK, &sorters, &desk);
            for number in 0..100_u32 {
                let expected = (!(60..90).contains(&number)).then(|| number.to_le_bytes().to_vec());
                assert_eq!(pieces.find(&piece(number)), expected, "{number}");
            }
            pieces.close(false);
        }
        Pieces::joined(&at("own"), &others, WORK, &sorters, &desk).close(true);
        assert!(!scratch.path().join("own").exists());
        assert_eq!(others.map(|path| fs::read(OsStr::from_bytes(&path)).ok()), before);
    }

    #[test]
    fn a_flipped_bit_another_work_and_a_log_that_is_none_are_nothing() {
        let (_scratch, path) = path();
        let (sorters, desk) = (Sorters::new(None, 0, 1), Arc::new(Desk::new(1)));
        let name = Path::new(OsStr::from_bytes(&path));
        let fill = || {
            let pieces = Pieces::open(&path, WORK, &sorters, &desk);
            (0..50).for_each(|number| pieces.add(&piece(number), &[1; 4], 0));
            pieces.close(false);
        };
        let found = |work| {
            let pieces = Pieces::open(&path, work, &sorters, &desk);
            let found = (0..50).filter(|number| pieces.find(&piece(*number)) == Some(vec![1; 4]));
            found.count()
        };
        fill();
        assert_eq!(found(WORK), 50);
        let whole = fs::read(name).unwrap();
        for at in (HEAD_BYTES..whole.len()).step_by(97) {
            let mut other = whole.clone();
            other[at] ^= 4;
            // Not sorted yet, as a run leaves it.
            other[..HEAD_BYTES].copy_from_slice(&Pieces::open(b"/absent/x", WORK, &sorters, &desk).head(0));
            fs::write(name, &other).unwrap();
            assert_eq!(found(WORK), 49, "{at}");
        }
        fs::write(name, &whole).unwrap();
        assert_eq!(found((b"other", 4)), 0);
        fill();
        assert_eq!(found((b"test", 5)), 0);
        fs::write(name, b"something else").unwrap();
        assert_eq!(found(WORK), 0);
        fill();
        assert_eq!(found(WORK), 50);
    }

    #[test]
    fn where_there_is_no_directory_nothing_is_said_until_it_comes() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("job");
        let path = directory.join("pieces").into_os_string().into_encoded_bytes();
        let (sorters, desk) = (Sorters::new(None, 0, 1), Arc::new(Desk::new(1)));
        let pieces = Pieces::open(&path, WORK, &sorters, &desk);
        pieces.add(&piece(1), &[1; 4], COST_BYTES);
        assert!(!directory.exists());
        fs::create_dir(&directory).unwrap();
        pieces.add(&piece(2), &[2; 4], COST_BYTES);
        pieces.close(false);
        let again = Pieces::open(&path, WORK, &sorters, &desk);
        assert_eq!(
            [1, 2].map(|number| again.find(&piece(number))),
            [Some(vec![1; 4]), Some(vec![2; 4])]
        );
    }

    #[test]
    fn a_time_that_is_too_new_says_nothing() {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let at = |sec: i64, nsec: u32| Time { sec, nsec };
        let sec = now.as_secs().cast_signed();
        assert!(!is_settled(at(sec, now.subsec_nanos().max(1))));
        assert!(is_settled(at(sec - 10, 1)) && is_settled(at(sec - 10, 0)) && is_settled(at(-1, 0)));
        assert!(!is_settled(at(sec - 1, 0)) && !is_settled(at(sec + 1000, 1)));
    }
}
