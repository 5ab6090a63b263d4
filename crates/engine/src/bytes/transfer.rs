//! The way of one file's bytes: clone, `copy_file_range`, or read and write, through the page cache or past it.
//!
//! Comes in: two open files, the new one empty; goes out: the number of bytes that the new file holds, holes included.
//! The end of the source is where a read says so, not where its size did ([`Transfer::wrong_size`] tells where that is a
//! fault); what the kernel's copy does not do, read and write continue at the same offset. Whether the source stayed the
//! same meanwhile is for the caller to ask.

use std::cell::{Cell, OnceCell, RefCell};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bulkhaul_formats::digest::{Algorithm, Blake3, Digest, Hashers, PART_BYTES};
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, OwnedFd, Stat};

use crate::bytes::ledger::{Ledger, Part};
use crate::bytes::ways::{DIRECT_ALIGNMENT, Method, Methods, PIECE_BYTES};
use crate::error::{Fault, Operation, Side, Stopped};
use crate::job::desk::Desk;
use crate::report::counters::{Counters, Flight};
use crate::tree::medium::{has_sizes, is_block_device};

/// Bytes read at a time: larger was slower on page-cache copies.
pub const BUFFER_BYTES: usize = 256 * 1024;
/// Files shorter than this are read and written: the answer of a clone would cost more.
const KERNEL_COPY_BYTES: u64 = 256 * 1024;
/// Write-back of a long file is started whenever this much is new.
pub const WRITE_BACK_BYTES: u64 = 8 * 1024 * 1024;
/// Growing files from this size on get space reserved ahead on XFS, which would fill the holes that come later.
const RESERVED_AHEAD_BYTES: u64 = 64 * 1024;
/// Files from this size on may be written past the page cache where their content has to be on a disk of this machine in
/// the end: that saves a page of memory for each page of content, and the time that it takes to get and to clean it.
const DIRECT_BYTES: u64 = 2 * CHUNK_BYTES;
/// Bytes that are written past the page cache in one call.
const DIRECT_BUFFER_BYTES: usize = 1024 * 1024;
/// Zeros are looked for in blocks of this size, aligned in the file: the block size of most file systems.
const ZERO_BLOCK: usize = 4096;
static ZEROS: [u8; ZERO_BLOCK] = [0; ZERO_BLOCK];

/// The new file once more, for writes past the page cache.
pub struct Direct {
    file: OwnedFd,
    /// Room for one such write, and for its alignment.
    room: RefCell<Vec<u8>>,
}

/// The part of a file that is being copied.
#[derive(Clone, Copy, Default)]
struct Course {
    start: u64,
    end: u64,
    begun: Option<Instant>,
}

/// What a transfer has left behind itself, as offsets.
struct Behind {
    /// Up to here write-back was started.
    started: u64,
    /// Up to here no page is left.
    cleaned: u64,
}

/// What transfers to one destination go by, whatever the file.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// Number of the destination.
    pub destination: usize,
    /// Holes.
    pub sparse: Sparse,
    /// The content has to be on the medium in the end.
    pub lasting: bool,
    /// All of the source is taken in, so that the copy can be proved.
    pub proved: bool,
    /// All of the source is taken in, for these digests.
    pub digests: &'a [Algorithm],
    /// More is copied there than memory holds: long files leave no pages behind.
    pub crowded: bool,
    /// What the kernel can copy by itself.
    pub methods: &'a Methods,
    /// Whether to go on, and how fast.
    pub desk: &'a Desk,
}

impl Terms<'_> {
    /// Whether the BLAKE3 of the source is wanted, which parts that are read side by side add up to.
    pub fn in_parts(&self) -> bool {
        self.proved || self.digests.contains(&Algorithm::Blake3)
    }

    /// Digests that are wanted beside that, for which a file has to be read from front to back.
    pub fn in_order(&self) -> impl Iterator<Item = Algorithm> {
        let others = self.digests.iter().copied();
        others.filter(|algorithm| *algorithm != Algorithm::Blake3)
    }
}

/// One transfer.
pub struct Transfer<'a> {
    /// Read from here.
    from: BorrowedFd<'a>,
    /// Written here; empty in the beginning.
    to: BorrowedFd<'a>,
    /// The source's facts after it was opened.
    stat: Stat,
    /// Devices of both files.
    pair: (u64, u64),
    /// Number of the destination.
    destination: usize,
    /// Holes.
    sparse: Sparse,
    /// Start write-back early.
    write_back: bool,
    /// More is copied than memory holds: leave no pages behind.
    crowded: bool,
    /// What the kernel can do.
    methods: &'a Methods,
    /// Whether to go on, and how fast.
    desk: &'a Desk,
    /// Bytes written so far, for progress.
    progress: &'a AtomicU64,
    /// The same of this file.
    flight: &'a Flight,
    course: Cell<Course>,
    /// Where it is written down what of the file is there.
    ledger: Option<&'a Ledger>,
    /// Bytes that are to be read back then.
    to_read_back: u64,
    /// Takes in every byte of the source, holes included; then nothing is copied by the kernel alone.
    digest: RefCell<Option<Blake3>>,
    /// The same of other digests, where all is read from front to back.
    others: RefCell<Option<Hashers>>,
    /// Size that the new file was given before its content; 0 at first.
    sized: Cell<u64>,
    /// Whether the source goes on after its size, where a read has shown it.
    goes_on: Cell<Option<bool>>,
    /// Its content has to be on the medium in the end, and there is enough of it to think of the page cache.
    lasting: bool,
    /// Opened when it is needed; none where that can't be.
    direct: OnceCell<Option<Direct>>,
}

impl<'a> Transfer<'a> {
    /// From an open file to a new one. `stat`: the source's facts after it was opened; `to_device`: where the new one is.
    pub fn new(
        terms: Terms<'a>,
        counters: &'a Counters,
        (from, to): (BorrowedFd<'a>, BorrowedFd<'a>),
        stat: Stat,
        to_device: u64,
    ) -> Self {
        // To be proved, all of the source is read; its holes are found again as zeros.
        let others: Vec<_> = terms.in_order().collect();
        let holey =
            (terms.proved || !terms.digests.is_empty()) && stat.allocated < stat.size && terms.sparse == Sparse::Auto;
        let sparse = if holey { Sparse::Always } else { terms.sparse };
        Self {
            from,
            to,
            stat,
            pair: (stat.id.dev, to_device),
            destination: terms.destination,
            sparse,
            write_back: terms.lasting,
            crowded: stat.size >= WRITE_BACK_BYTES && terms.crowded,
            methods: terms.methods,
            desk: terms.desk,
            progress: counters.written(),
            flight: &counters.flight,
            course: Cell::default(),
            ledger: None,
            to_read_back: if terms.proved { stat.size } else { 0 },
            digest: RefCell::new(terms.in_parts().then(Blake3::default)),
            others: RefCell::new((!others.is_empty()).then(|| Hashers::new(&others))),
            sized: Cell::new(0),
            goes_on: Cell::new(None),
            lasting: terms.lasting && sparse != Sparse::Always && stat.size >= DIRECT_BYTES,
            direct: OnceCell::new(),
        }
    }

    /// It copies a part of the file that this worker has in hand, and writes down what is there.
    #[must_use]
    pub fn in_flight(self, flight: &'a Flight, ledger: Option<&'a Ledger>) -> Self {
        Self { flight, ledger, ..self }
    }

    /// The new file has this size already.
    #[must_use]
    pub fn sized(self, size: u64) -> Self {
        self.sized.set(size);
        self
    }

    fn read_fault(e: Errno) -> Stopped {
        Stopped::Fault(Fault::new(Operation::Read, Side::Source, e))
    }

    fn write_fault(&self, e: Errno) -> Stopped {
        Stopped::Fault(Fault::new(Operation::Write, Side::Destination(self.destination), e))
    }

    /// Whether the kernel may copy the content by itself.
    fn by_kernel(&self) -> bool {
        let filled = self.sparse == Sparse::Always || (self.is_holey() && self.sparse == Sparse::Never);
        self.stat.size >= KERNEL_COPY_BYTES && !filled && !self.takes_in()
    }

    /// Whether all of the source has to pass through here.
    fn takes_in(&self) -> bool {
        self.digest.borrow().is_some() || self.others.borrow().is_some()
    }

    fn is_holey(&self) -> bool {
        self.stat.allocated < self.stat.size
    }

    /// Whether parts of it may be copied side by side.
    pub fn is_divisible(&self) -> bool {
        is_long(self.stat.size) && has_sizes(self.from)
    }

    /// Whether to go on, and how fast.
    pub fn desk(&self) -> &'a Desk {
        self.desk
    }

    /// Begins with a chunk, which has a digest of its own where there is one.
    pub fn begin_chunk(&self, number: u64) {
        if let Some(digest) = self.digest.borrow_mut().as_mut() {
            *digest = Blake3::of_part(number);
        }
    }

    /// The digest so far.
    pub fn take_digest(&self) -> Option<Blake3> {
        self.digest.borrow_mut().as_mut().map(std::mem::take)
    }

    /// The other digests, of all that was read so far; none where none is wanted, or something was left out. After that
    /// nothing more is taken in.
    pub fn take_others(&self) -> Option<Vec<Digest>> {
        self.others.take().map(|mut others| others.finish())
    }

    /// Takes in what was read, in its order.
    fn take_in(&self, bytes: &[u8]) {
        if let Some(digest) = self.digest.borrow_mut().as_mut() {
            digest.update(bytes);
        }
        if let Some(others) = self.others.borrow_mut().as_mut() {
            others.update(bytes);
        }
    }

    /// Has the kernel share the content, where it can: the size of the new file in bytes then.
    pub fn share(&self) -> Result<Option<u64>, Stopped> {
        let size = self.stat.size;
        if !self.by_kernel() || !self.clone()? {
            return Ok(None);
        }
        self.count(size);
        Ok(Some(size))
    }

    /// Copies the content from front to back; answers the size of the new file in bytes.
    pub fn whole(&self, buffer: &mut [u8]) -> Result<u64, Stopped> {
        let size = self.stat.size;
        if (self.sparse == Sparse::Always && size >= RESERVED_AHEAD_BYTES) || self.past_the_cache().is_some() {
            self.make_room(size)?;
        }
        let mut end = self.part(0, size, buffer)?;
        // Files of /proc say that they are empty: only reading tells.
        if size == 0 || (end == size && self.goes_on()? && !has_sizes(self.from)) {
            end = self.read_write(end, None, buffer)?;
        }
        self.end_at(end)?;
        Ok(end)
    }

    /// The source, whose content ended at `end`, is not as long as its size says, where sizes say anything.
    pub fn wrong_size(&self, end: u64) -> Result<Option<Fault>, Stopped> {
        let size = self.stat.size;
        // No size is no lie: whatever there was has been read.
        if size == 0 || (end == size && !self.goes_on()?) || !has_sizes(self.from) {
            return Ok(None);
        }
        let ended = if end == size { size + 1 } else { end };
        Ok(Some(Fault::size(Side::Source, size, ended)))
    }

    /// Whether the source goes on after its size. Mostly the last read has told.
    fn goes_on(&self) -> Result<bool, Stopped> {
        if let Some(known) = self.goes_on.get() {
            return Ok(known);
        }
        let goes_on = sys::read_at(self.from, &mut [0], self.stat.size).map_err(Self::read_fault)? > 0;
        self.goes_on.set(Some(goes_on));
        Ok(goes_on)
    }

    /// Where the next data begins, from `start` on: what is before it is a hole. None: nothing but a hole follows.
    pub fn next_data(&self, start: u64) -> Result<Option<u64>, Stopped> {
        if !self.keeps_holes() {
            return Ok(Some(start));
        }
        match sys::seek_data(self.from, start) {
            Ok(Some(data)) if data < start => Err(Self::read_fault(Errno::IO)),
            Ok(data) => Ok(data),
            // No such thing here: everything is data.
            Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => Ok(Some(start)),
            Err(e) => Err(Self::read_fault(e)),
        }
    }

    /// Whether holes are looked for, and passed over.
    fn keeps_holes(&self) -> bool {
        self.is_holey() && self.sparse != Sparse::Never && !self.takes_in()
    }

    /// Copies the content from `start` to `end`; answers where the source ended, if before. The error may be that the run
    /// ends before.
    pub fn part(&self, start: u64, end: u64, buffer: &mut [u8]) -> Result<u64, Stopped> {
        self.course.set(Course {
            start,
            end,
            begun: None,
        });
        if self.keeps_holes() {
            self.extents(start, end, buffer)
        } else {
            self.stretch(start, end, buffer)
        }
    }

    /// Takes back what the file was given more than its content needs.
    fn end_at(&self, end: u64) -> Result<(), Stopped> {
        if self.sized.get() > 0 && self.sized.get() != end {
            self.set_size(end)?;
        }
        Ok(())
    }

    /// Gives the file its size before the first hole: a hole at the end needs it, and XFS would fill holes that a
    /// growing file leaves with space that it reserves ahead.
    pub fn make_room(&self, at_least: u64) -> Result<(), Stopped> {
        if self.sized.get() >= at_least {
            Ok(())
        } else {
            self.set_size(self.stat.size.max(at_least))
        }
    }

    fn set_size(&self, size: u64) -> Result<(), Stopped> {
        // Blocks that are there already are written past the page cache side by side. Where they can't be had, the size
        // comes all the same, and the blocks with the content.
        if size > self.sized.get()
            && !self.is_holey()
            && self.past_the_cache().is_some()
            && let Err(e @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) = sys::allocate(self.to, size)
        {
            return Err(self.write_fault(e));
        }
        sys::set_size(self.to, size).map_err(|e| self.write_fault(e))?;
        self.sized.set(size);
        Ok(())
    }

    fn count(&self, bytes: u64) {
        self.progress.fetch_add(bytes, Ordering::Relaxed);
        self.flight.moved(bytes);
        self.flight.wrote(bytes);
    }

    /// The part that is being copied has come to `at`, by so many bytes more.
    fn reached(&self, at: u64, bytes: u64) -> Result<(), Stopped> {
        self.count(bytes);
        match self.ledger {
            Some(ledger) => {
                let part = (Part::Done, self.course.get().start, at);
                ledger.enter(self.to, part, self.destination, self.desk)
            }
            None => Ok(()),
        }
    }

    /// Whether the part that is being copied, and has come to `at`, may go on.
    fn may_go_on(&self, at: u64) -> Result<(), Stopped> {
        let cancel = &self.desk.cancel;
        if !cancel.is_draining() {
            return Ok(());
        }
        let Course { start, end, begun } = self.course.get();
        let begun = begun.unwrap_or_else(Instant::now);
        let left = end.saturating_sub(at).saturating_add(self.to_read_back);
        if cancel.lets_end(begun, at.saturating_sub(start), left) {
            Ok(())
        } else {
            Err(Stopped::Aborted)
        }
    }

    fn clone(&self) -> Result<bool, Stopped> {
        let pair = self.pair;
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
    fn extents(&self, start: u64, end: u64, buffer: &mut [u8]) -> Result<u64, Stopped> {
        self.make_room(self.stat.size)?;
        let mut at = start;
        while at < end {
            let Some(data) = self.next_data(at)?.filter(|data| *data < end) else {
                break;
            };
            let hole = match sys::seek_hole(self.from, data) {
                Ok(hole) if hole > data => hole.min(end),
                // It must move on: a hole at once, or none known, and the rest is data.
                Ok(_) | Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS | Errno::NXIO) => end,
                Err(e) => return Err(Self::read_fault(e)),
            };
            let reached = self.stretch(data, hole, buffer)?;
            if reached < hole {
                return Ok(reached);
            }
            at = hole;
        }
        Ok(end)
    }

    /// Copies from `start` to `end`, piece by piece; answers where the source ended, if before.
    fn stretch(&self, start: u64, end: u64, buffer: &mut [u8]) -> Result<u64, Stopped> {
        let mut by_kernel = self.by_kernel();
        let mut at = start;
        let mut behind = Behind {
            started: start,
            cleaned: start,
        };
        while at < end {
            let most = self.ledger.map_or(PIECE_BYTES, |ledger| ledger.piece(at));
            let next = end.min(at + self.desk.pace.piece(most));
            self.may_go_on(at)?;
            self.desk.may_go_on(next - at)?;
            let began = Instant::now();
            let mut course = self.course.get();
            course.begun.get_or_insert(began);
            self.course.set(course);
            by_kernel = by_kernel && !self.methods.of(self.pair).no_range;
            let lasting = self
                .past_the_cache()
                .filter(|_| at.is_multiple_of(DIRECT_ALIGNMENT as u64));
            let method = match lasting {
                Some(method) => method,
                None if by_kernel => self.methods.of(self.pair).method(),
                None => Method::Plain,
            };
            let reached = match method {
                Method::Range => {
                    let reached = self.range(at, next)?;
                    // The end, or a file system that says so too early, or an error: reading tells, and names the side.
                    by_kernel = reached > at;
                    reached
                }
                Method::Plain | Method::Direct | Method::Waited => {
                    let reached = if method == Method::Direct {
                        self.read_and_write_directly(at, next, buffer)?
                    } else {
                        self.read_write(at, Some(next), buffer)?
                    };
                    if reached < next {
                        return Ok(reached);
                    }
                    if method == Method::Waited {
                        self.wait_for_write_back(at, next)?;
                    }
                    reached
                }
            };
            self.desk.read_less(next - reached);
            if by_kernel || lasting.is_some() {
                self.methods
                    .learn(self.pair, |p| p.spent(method, reached - at, began.elapsed()));
            }
            at = reached;
            self.clean_up(&mut behind, at)?;
        }
        Ok(at)
    }

    /// Has the kernel copy a piece; answers where it stopped.
    fn range(&self, at: u64, end: u64) -> Result<u64, Stopped> {
        let length = usize::try_from(end - at).unwrap_or(usize::MAX);
        match sys::copy_range(self.from, at, self.to, at, length) {
            Ok(n) => {
                self.reached(at + n as u64, n as u64)?;
                Ok(at + n as u64)
            }
            Err(e @ (Errno::NOSPC | Errno::DQUOT)) => Err(self.write_fault(e)),
            Err(e) => {
                if matches!(
                    e,
                    Errno::XDEV | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL | Errno::PERM
                ) {
                    self.methods.learn(self.pair, |p| p.no_range = true);
                }
                Ok(at)
            }
        }
    }

    /// Reads and writes from `at` to `end`, or to the end of the file if that comes first.
    fn read_write(&self, mut at: u64, end: Option<u64>, buffer: &mut [u8]) -> Result<u64, Stopped> {
        while end.is_none_or(|end| at < end) {
            self.may_go_on(at)?;
            let want = end.map_or(buffer.len(), |end| {
                usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len())
            });
            // One byte more than there should be tells whether there is.
            let last = end.is_some() && at + want as u64 == self.stat.size;
            let ask = if last { buffer.len().min(want + 1) } else { want };
            let n = sys::read_at(self.from, &mut buffer[..ask], at).map_err(Self::read_fault)?;
            if n == 0 {
                break;
            }
            if ask > want && n >= want {
                self.goes_on.set(Some(n > want));
            }
            let n = n.min(want);
            if end.is_none() {
                self.desk.may_go_on(n as u64)?;
            }
            self.take_in(&buffer[..n]);
            self.write(&buffer[..n], at)?;
            at += n as u64;
            self.reached(at, n as u64)?;
        }
        Ok(at)
    }

    /// How to write what has to be on the medium in the end, if in a way of its own.
    fn past_the_cache(&self) -> Option<Method> {
        if !self.lasting {
            return None;
        }
        self.methods.learn(self.pair, |pair| {
            pair.direct_works.get_or_insert_with(|| is_block_device(self.pair.1));
            pair.lasting()
        })
    }

    fn open_direct(&self) -> Option<Direct> {
        let file = sys::open_direct(self.to).ok()?;
        let room = RefCell::new(vec![0; DIRECT_BUFFER_BYTES + DIRECT_ALIGNMENT]);
        Some(Direct { file, room })
    }

    /// The same as [`Transfer::read_write`], past the page cache but for what is left over at the end.
    fn read_and_write_directly(&self, mut at: u64, end: u64, buffer: &mut [u8]) -> Result<u64, Stopped> {
        let Some(direct) = self.direct.get_or_init(|| self.open_direct()) else {
            self.methods.learn(self.pair, |p| p.direct_works = Some(false));
            return self.read_write(at, Some(end), buffer);
        };
        let mut room = direct.room.borrow_mut();
        let skip = room.as_ptr().align_offset(DIRECT_ALIGNMENT);
        let room = &mut room[skip..skip + DIRECT_BUFFER_BYTES];
        while at < end {
            self.may_go_on(at)?;
            let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(room.len());
            let n = sys::read_full_at(self.from, &mut room[..want], at).map_err(Self::read_fault)?;
            self.take_in(&room[..n]);
            let mut written = n - n % DIRECT_ALIGNMENT;
            match sys::write_all_at(direct.file.as_fd(), &room[..written], at) {
                Ok(()) => {}
                // Not like this, or not on this file system: whatever came of it is written again.
                Err(Errno::INVAL | Errno::NOTSUP) => {
                    self.methods.learn(self.pair, |p| p.direct_works = Some(false));
                    written = 0;
                }
                Err(e) => return Err(self.write_fault(e)),
            }
            sys::write_all_at(self.to, &room[written..n], at + written as u64).map_err(|e| self.write_fault(e))?;
            at += n as u64;
            self.reached(at, n as u64)?;
            if n < want {
                break;
            }
        }
        Ok(at)
    }

    fn wait_for_write_back(&self, start: u64, end: u64) -> Result<(), Stopped> {
        match sys::finish_write_back(self.to, start, end - start) {
            Ok(()) | Err(Errno::NOSYS | Errno::INVAL | Errno::NOTSUP) => Ok(()),
            // Told once: the sync would not hear of it again.
            Err(errno) => Err(self.write_fault(errno)),
        }
    }

    /// Writes a piece, leaving out blocks of zeros where that is asked for.
    fn write(&self, data: &[u8], at: u64) -> Result<(), Stopped> {
        let put = |from: usize, to: usize| {
            sys::write_all_at(self.to, &data[from..to], at + from as u64).map_err(|e| self.write_fault(e))
        };
        if self.sparse != Sparse::Always {
            return put(0, data.len());
        }
        let mut parts = stretches(data, at).peekable();
        if parts.peek() != Some(&(0..data.len())) {
            self.make_room(at + data.len() as u64)?;
        }
        parts.try_for_each(|part| put(part.start, part.end))
    }

    /// Starts write-back of what is new up to `at`; where memory is crowded, waits for what was started the time before,
    /// and gives up its pages on both sides.
    fn clean_up(&self, behind: &mut Behind, at: u64) -> Result<(), Stopped> {
        let Behind { started, cleaned } = *behind;
        if !(self.write_back || self.crowded) || at - started < WRITE_BACK_BYTES {
            return Ok(());
        }
        // Only a head start: an error is told by the sync that follows.
        match sys::start_write_back(self.to, started, at - started) {
            Ok(()) | Err(_) => behind.started = at,
        }
        if self.crowded && started > cleaned {
            self.wait_for_write_back(cleaned, started)?;
            for file in [self.from, self.to] {
                // What stays cached costs somebody else's pages, nothing worse.
                match sys::drop_cache(file, cleaned, started - cleaned) {
                    Ok(()) | Err(_) => behind.cleaned = started,
                }
            }
        }
        Ok(())
    }
}

/// Bytes that one worker copies before it looks for the next chunk. A file of less than two is nobody else's business.
pub const CHUNK_BYTES: u64 = PART_BYTES;

/// Whether a file of this size is copied in chunks, where sizes say anything.
pub fn is_long(size: u64) -> bool {
    size >= 2 * CHUNK_BYTES
}

/// Stretches of content that begins `at` this offset of a file, without the blocks of zeros between them.
pub fn stretches(data: &[u8], at: u64) -> impl Iterator<Item = Range<usize>> {
    let mut end = 0;
    std::iter::from_fn(move || {
        let mut start = end;
        while end < data.len() {
            // Blocks are aligned in the file: the first may be short.
            let past = usize::try_from((at + end as u64) % ZERO_BLOCK as u64).unwrap_or(0);
            let next = (end + ZERO_BLOCK - past).min(data.len());
            let zero = data[end..next] == ZEROS[..next - end];
            if zero && start < end {
                // It comes again, and is passed over then.
                return Some(start..end);
            }
            end = next;
            if zero {
                start = next;
            }
        }
        (start < end).then_some(start..end)
    })
}

/// What to do about holes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sparse {
    /// Holes of the source stay holes.
    #[default]
    Auto,
    /// Runs of zeros become holes too.
    Always,
    /// Holes are written out.
    Never,
}
