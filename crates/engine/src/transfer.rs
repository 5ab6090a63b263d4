//! The way of one file's bytes: clone, `copy_file_range`, or read and write.
//!
//! Comes in: two open files, the new one empty; goes out: the number of bytes that the new file holds, holes included.
//! The end of the source is where a read says so, not where its size did; what the kernel's copy does not do, read and
//! write continue at the same offset. Whether the source stayed the same meanwhile is for the caller to ask.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bulkhaul_formats::digest::Blake3;
use bulkhaul_sys::{self as sys, BorrowedFd, Errno, Stat};

use crate::error::{Fault, Operation, Side};
use crate::job::Cancel;
use crate::options::Sparse;

/// Bytes read at a time: larger was slower on page-cache copies.
pub const BUFFER_BYTES: usize = 256 * 1024;
/// Files shorter than this are read and written: the answer of a clone would cost more.
const KERNEL_COPY_BYTES: u64 = 256 * 1024;
/// Bytes that one `copy_file_range` is asked for, so that progress moves and cancelling works.
const RANGE_BYTES: u64 = 16 * 1024 * 1024;
/// Write-back of a long file is started whenever this much is new.
const WRITE_BACK_BYTES: u64 = 8 * 1024 * 1024;
/// Growing files from this size on get space reserved ahead on XFS, which would fill the holes that come later.
const RESERVED_AHEAD_BYTES: u64 = 64 * 1024;
/// Zeros are looked for in blocks of this size, aligned in the file: the block size of most file systems.
const ZERO_BLOCK: usize = 4096;
static ZEROS: [u8; ZERO_BLOCK] = [0; ZERO_BLOCK];

/// What has been found out about a pair of devices.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    no_clone: bool,
    no_range: bool,
}

/// What the kernel can do between which devices; learnt from its refusals.
#[derive(Debug, Default)]
pub struct Methods(Mutex<HashMap<(u64, u64), Pair>>);

impl Methods {
    fn of(&self, pair: (u64, u64)) -> Pair {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&pair)
            .copied()
            .unwrap_or_default()
    }

    fn learn(&self, pair: (u64, u64), change: impl FnOnce(&mut Pair)) {
        change(
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(pair)
                .or_default(),
        );
    }
}

/// How a transfer ended short.
#[derive(Debug)]
pub enum Stopped {
    /// A call failed.
    Fault(Fault),
    /// The run was aborted.
    Aborted,
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// One transfer.
pub struct Transfer<'a> {
    /// Read from here.
    pub from: BorrowedFd<'a>,
    /// Written here; empty.
    pub to: BorrowedFd<'a>,
    /// The source's facts after it was opened.
    pub stat: &'a Stat,
    /// Device of the new file.
    pub to_device: u64,
    /// Number of the destination.
    pub destination: usize,
    /// Holes.
    pub sparse: Sparse,
    /// Start write-back early.
    pub write_back: bool,
    /// What the kernel can do.
    pub methods: &'a Methods,
    /// Whether to go on.
    pub cancel: &'a Cancel,
    /// Bytes written so far, for progress.
    pub progress: &'a AtomicU64,
    /// Takes in every byte of the source, holes included; then nothing is copied by the kernel alone.
    pub digest: RefCell<Option<Blake3>>,
    /// Size that the new file was given before its content; 0 at first.
    pub sized: Cell<u64>,
}

impl Transfer<'_> {
    fn read_fault(e: Errno) -> Stopped {
        Stopped::Fault(Fault::new(Operation::Read, Side::Source, e))
    }

    fn write_fault(&self, e: Errno) -> Stopped {
        Stopped::Fault(Fault::new(Operation::Write, Side::Destination(self.destination), e))
    }

    /// Copies the content; answers the size of the new file in bytes.
    pub fn run(&self, buffer: &mut [u8]) -> Result<u64, Stopped> {
        let size = self.stat.size;
        let holey = size > 0 && self.stat.allocated < size;
        let pair = (self.stat.id.dev, self.to_device);
        let proved = self.digest.borrow().is_some();
        let filled = self.sparse == Sparse::Always || (holey && self.sparse == Sparse::Never);
        let by_kernel = size >= KERNEL_COPY_BYTES && !filled && !proved;
        if by_kernel && self.clone(pair)? {
            self.count(size);
            return Ok(size);
        }
        if self.sparse == Sparse::Always && size >= RESERVED_AHEAD_BYTES {
            self.make_room(size)?;
        }
        let end = if holey && self.sparse != Sparse::Never && !proved {
            self.extents(pair, by_kernel, buffer)?
        } else {
            self.stretch(pair, by_kernel, 0, size, buffer)?
        };
        // Files of /proc say that they are empty: only reading tells. For all others the caller asks whether the
        // size is still what it was, which saves a read that would only confirm the end.
        let end = if size == 0 {
            self.read_write(0, None, buffer)?
        } else {
            end
        };
        if self.sized.get() > 0 && self.sized.get() != end {
            self.set_size(end)?;
        }
        Ok(end)
    }

    /// Gives the file its size before the first hole: a hole at the end needs it, and XFS would fill holes that a
    /// growing file leaves with space that it reserves ahead.
    fn make_room(&self, at_least: u64) -> Result<(), Stopped> {
        if self.sized.get() >= at_least {
            Ok(())
        } else {
            self.set_size(self.stat.size.max(at_least))
        }
    }

    fn set_size(&self, size: u64) -> Result<(), Stopped> {
        sys::set_size(self.to, size).map_err(|e| self.write_fault(e))?;
        self.sized.set(size);
        Ok(())
    }

    fn count(&self, bytes: u64) {
        self.progress.fetch_add(bytes, Ordering::Relaxed);
    }

    fn clone(&self, pair: (u64, u64)) -> Result<bool, Stopped> {
        if self.methods.of(pair).no_clone {
            return Ok(false);
        }
        match sys::clone_file(self.from, self.to) {
            Ok(()) => Ok(true),
            Err(e @ (Errno::NOSPC | Errno::DQUOT)) => Err(self.write_fault(e)),
            Err(Errno::NOTSUP | Errno::NOTTY | Errno::XDEV | Errno::NOSYS | Errno::PERM) => {
                self.methods.learn(pair, |p| p.no_clone = true);
                Ok(false)
            }
            // This file can't be cloned (an odd length on some file systems, a swap file): read it.
            Err(_) => Ok(false),
        }
    }

    /// Copies data between holes; what is skipped stays a hole. Answers the end that was reached.
    fn extents(&self, pair: (u64, u64), by_kernel: bool, buffer: &mut [u8]) -> Result<u64, Stopped> {
        let size = self.stat.size;
        self.make_room(size)?;
        let mut at = 0;
        while at < size {
            let data = match sys::seek_data(self.from, at) {
                Ok(Some(data)) if data < at => return Err(Self::read_fault(Errno::IO)),
                Ok(Some(data)) => data.min(size),
                Ok(None) => size,
                // No such thing here: everything is data.
                Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => at,
                Err(e) => return Err(Self::read_fault(e)),
            };
            if data >= size {
                break;
            }
            let hole = match sys::seek_hole(self.from, data) {
                Ok(hole) if hole > data => hole.min(size),
                // It must move on: a hole at once, or none known, and the rest is data.
                Ok(_) | Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS | Errno::NXIO) => size,
                Err(e) => return Err(Self::read_fault(e)),
            };
            let end = self.stretch(pair, by_kernel, data, hole, buffer)?;
            if end < hole {
                return Ok(end);
            }
            at = hole;
        }
        Ok(size)
    }

    /// Copies from `start` to `end`; answers where the source ended, if before.
    fn stretch(
        &self,
        pair: (u64, u64),
        by_kernel: bool,
        start: u64,
        end: u64,
        buffer: &mut [u8],
    ) -> Result<u64, Stopped> {
        let mut at = start;
        let mut written_back = start;
        while by_kernel && at < end && !self.methods.of(pair).no_range {
            self.check()?;
            let length = usize::try_from((end - at).min(RANGE_BYTES)).unwrap_or(usize::MAX);
            match sys::copy_range(self.from, at, self.to, at, length) {
                // The end, or a file system that says so too early: reading tells.
                Ok(0) => break,
                Ok(n) => {
                    at += n as u64;
                    self.count(n as u64);
                    written_back = self.start_write_back(written_back, at);
                }
                Err(e @ (Errno::NOSPC | Errno::DQUOT)) => return Err(self.write_fault(e)),
                Err(e) => {
                    if matches!(
                        e,
                        Errno::XDEV | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL | Errno::PERM
                    ) {
                        self.methods.learn(pair, |p| p.no_range = true);
                    }
                    // Also an I/O error: reading will name the side.
                    break;
                }
            }
        }
        if at < end {
            self.read_write(at, Some(end), buffer)
        } else {
            Ok(at)
        }
    }

    /// Reads and writes from `at` to `end`, or to the end of the file if that comes first.
    fn read_write(&self, mut at: u64, end: Option<u64>, buffer: &mut [u8]) -> Result<u64, Stopped> {
        let mut written_back = at;
        while end.is_none_or(|end| at < end) {
            self.check()?;
            let want = end.map_or(buffer.len(), |end| {
                usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len())
            });
            let n = sys::read_at(self.from, &mut buffer[..want], at).map_err(Self::read_fault)?;
            if n == 0 {
                break;
            }
            if let Some(digest) = self.digest.borrow_mut().as_mut() {
                digest.update(&buffer[..n]);
            }
            self.write(&buffer[..n], at)?;
            at += n as u64;
            self.count(n as u64);
            written_back = self.start_write_back(written_back, at);
        }
        Ok(at)
    }

    /// Writes a piece, leaving out blocks of zeros where that is asked for.
    fn write(&self, data: &[u8], at: u64) -> Result<(), Stopped> {
        let put = |from: usize, to: usize| {
            sys::write_all_at(self.to, &data[from..to], at + from as u64).map_err(|e| self.write_fault(e))
        };
        if self.sparse != Sparse::Always {
            return put(0, data.len());
        }
        let (mut start, mut end) = (0, 0);
        while end < data.len() {
            // Blocks are aligned in the file: the first may be short.
            let past = usize::try_from((at + end as u64) % ZERO_BLOCK as u64).unwrap_or(0);
            let next = (end + ZERO_BLOCK - past).min(data.len());
            if data[end..next] == ZEROS[..next - end] {
                self.make_room(at + data.len() as u64)?;
                if start < end {
                    put(start, end)?;
                }
                start = next;
            }
            end = next;
        }
        if start < end { put(start, end) } else { Ok(()) }
    }

    fn start_write_back(&self, from: u64, to: u64) -> u64 {
        if !self.write_back || to - from < WRITE_BACK_BYTES {
            return from;
        }
        // Only a head start: an error is told by the sync that follows.
        match sys::start_write_back(self.to, from, to - from) {
            Ok(()) | Err(_) => to,
        }
    }

    fn check(&self) -> Result<(), Stopped> {
        if self.cancel.is_aborted() {
            Err(Stopped::Aborted)
        } else {
            Ok(())
        }
    }
}
