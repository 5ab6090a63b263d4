//! The way out of an archive.
//!
//! Comes in: an archive, read in its order and cut into pieces that are decoded side by side, or where it has none, decoded by
//! one worker after the other, so that one writes while the next decodes; goes out: its content, each piece in its place, and
//! the digest of it; or whether that is what a file gives, from some place on. With a ledger the content is gone on with where
//! a run that died has left it: pieces that are there already are read and not decoded.

use std::mem;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhaul_formats::codec::{Damage, Format, Kind, Long, Piece, Scanner};
use bulkhaul_formats::digest::{ContentDigest, Growing, PART_BYTES};
use bulkhaul_formats::progress::Mark;
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, OwnedFd};

use crate::bytes::codec::blocks::{Blocks, Deed, Hand, Lead, Ready, Spot};
use crate::bytes::codec::kind_of;
use crate::bytes::ledger::Ledger;
use crate::bytes::stream::Stream;
use crate::bytes::transfer::{BUFFER_BYTES, WRITE_BACK_BYTES, stretches};
use crate::error::{Cause, Fault, Operation, Side, Stopped};
use crate::job::desk::Desk;

/// Content that is decoded in one turn of a worker, unless one unit has more.
const GROUP_BYTES: usize = 1024 * 1024;
/// Units of BGZF are no larger, nor are those that need no more memory than the least.
const SMALL_BYTES: usize = 128 * 1024;
/// A block of xz has at most so many bytes on each side, as the largest of ours, and a frame of zstd likewise; both may have
/// the least in any case. What is larger is decoded from front to back.
const MOST_IN_BLOCK: usize = 65 * 1024 * 1024;
const MOST_IN_FRAME: usize = 33 * 1024 * 1024;
const LEAST_IN_UNIT: usize = 1024 * 1024;
/// What a decoder needs that looks back as far as that of `xz -9`.
const DECODER_BYTES: u64 = 66 * 1024 * 1024;
/// Who decodes, and who writes and takes in what was decoded before: more have nothing to do with what has no units.
const LONG_HANDS: u64 = 2;
/// A worker has at most this part of all memory for one unit.
const SHARES: u64 = 8;

/// Where unpacked content goes.
pub enum Target {
    /// Nowhere: it is only looked at.
    Nothing,
    /// Into a file, which is empty.
    File(OwnedFd),
    /// Into one that is empty but for what its ledger says is there; what it has past the content's end stays there.
    Begun(OwnedFd, Arc<Ledger>),
    /// To somebody who reads it.
    Stream(Arc<Stream>),
}

/// How to unpack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// Blocks of zeros become holes.
    pub sparse: bool,
    /// The archive was made by this run: other implementations than made it decode it, and what goes wrong is said of the
    /// destination.
    pub proof: bool,
    /// So many bytes are the archive's, and what follows is not; 0: all are.
    pub bytes: u64,
}

/// What was in an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Bytes of the archive.
    pub read: u64,
    /// Bytes of content, holes included.
    pub written: u64,
    /// Digest of the content.
    pub content: ContentDigest,
    /// What it is.
    pub format: Format,
}

/// Unpacks all of an archive. The cache is not given up before: [`crate::bytes::proof::forget`] does that.
pub fn unpack(lead: Lead<'_>, archive: BorrowedFd<'_>, target: Target, how: How) -> Result<Unpacked, Stopped> {
    let side = if how.proof { Side::Destination(0) } else { Side::Source };
    let stat = sys::stat_fd(archive).map_err(|errno| Fault::new(Operation::Stat, side, errno))?;
    let mut unpacking = Unpacking::new(archive, (how, side), None, lead.memory.bytes())?;
    let (file, ledger) = match target {
        Target::Nothing => (None, None),
        Target::File(file) => (Some(file), None),
        Target::Begun(file, ledger) => (Some(file), Some(ledger)),
        Target::Stream(stream) => {
            unpacking.stream = Some(stream);
            (None, None)
        }
    };
    let output = file.as_ref().map(OwnedFd::as_fd);
    if let (Some(ledger), Some(output)) = (ledger, output) {
        if let Some(mark) = ledger.mark() {
            if unpacking.go_on(&mark) {
                lead.counters.resumed(unpacking.from);
                lead.counters.flight.moved(mark.content);
            } else {
                // Of what becomes a hole nothing is written.
                let cut = sys::set_size(output, 0);
                cut.map_err(|errno| Fault::new(Operation::Write, Side::Destination(0), errno))?;
                ledger.forget();
                ledger.save(output);
            }
        }
        unpacking.ledger = Some(ledger);
    }
    let (unpacking, desk) = (Arc::new(unpacking), lead.desk);
    let done = unpacking.run(lead, (archive, stat.size), output);
    unpacking.save(output, desk)?;
    done?;
    unpacking.end(output)
}

/// Whether a file is an archive of pieces that are decoded each by itself, so that what is made of it can be gone on with.
pub fn has_units(archive: BorrowedFd<'_>) -> Result<bool, Fault> {
    Ok(match kind_of(archive, Operation::Read, Side::Source)? {
        Some(Kind::Archive(format)) => format != Format::Gzip,
        Some(Kind::Foreign(_) | Kind::Compressed(_)) | None => false,
    })
}

/// Whether an archive in a destination has in it what a source has, of so many bytes, from byte `from` on: of what is before
/// that only the length counts, and it is not decoded where it need not be. `proof`: by other implementations than made it.
pub fn has_same(
    lead: Lead<'_>,
    archive: BorrowedFd<'_>,
    (source, bytes): (BorrowedFd<'_>, u64),
    from: u64,
    proof: bool,
) -> Result<bool, Stopped> {
    let side = Side::Destination(0);
    let stat = sys::stat_fd(archive).map_err(|errno| Fault::new(Operation::Stat, side, errno))?;
    let open = |errno| Fault::new(Operation::Open, Side::Source, errno);
    let like = sys::duplicate(source).map_err(open)?;
    let how = How {
        proof,
        ..How::default()
    };
    let same = Unpacking::new(archive, (how, side), Some(like), lead.memory.bytes()).and_then(|mut unpacking| {
        unpacking.from = from;
        let unpacking = Arc::new(unpacking);
        unpacking.run(lead, (archive, stat.size), None).map(|()| unpacking)
    });
    match same {
        Ok(unpacking) if unpacking.archive().scanner.content() != bytes => Ok(false),
        // Where it goes on, it is not what its size says.
        Ok(_) => {
            let read = |errno| Fault::new(Operation::Read, Side::Source, errno);
            Ok(sys::read_at(source, &mut [0], bytes).map_err(read)? == 0)
        }
        Err(Stopped::Fault(Fault {
            cause: Cause::Mismatch | Cause::Damaged(_) | Cause::Foreign(_),
            ..
        })) => Ok(false),
        Err(stopped) => Err(stopped),
    }
}

/// An archive on its way out.
struct Unpacking {
    how: How,
    /// Where the archive is.
    side: Side,
    format: Format,
    most: usize,
    memory: u64,
    /// There are no units for now.
    is_long: AtomicBool,
    archive: Mutex<Archive>,
    content: Mutex<Content>,
    stream: Option<Arc<Stream>>,
    ledger: Option<Arc<Ledger>>,
    /// What content is compared with.
    like: Option<OwnedFd>,
    /// Content before this is compared with nothing, or is there already.
    from: u64,
}

/// What reading on a side is for.
fn operation(side: Side) -> Operation {
    match side {
        Side::Source => Operation::Read,
        Side::Destination(_) => Operation::Verify,
    }
}

/// What is read.
struct Archive {
    scanner: Scanner,
    /// Bytes that were read and not passed over yet.
    window: Vec<u8>,
    start: usize,
    /// Where the window ends in the archive.
    at: u64,
    /// It reaches to the archive's end.
    last: bool,
    /// What is being decoded from front to back.
    long: Option<Long>,
    ended: bool,
}

/// What came out.
#[derive(Default)]
struct Content {
    at: u64,
    digest: Growing,
    /// Up to here write-back was started.
    begun: u64,
    /// How far it has come, as the ledger is to say.
    mark: Option<Mark>,
}

impl Unpacking {
    /// Looks what an archive is, and refuses what is none.
    fn new(
        archive: BorrowedFd<'_>,
        (how, side): (How, Side),
        like: Option<OwnedFd>,
        memory: u64,
    ) -> Result<Self, Stopped> {
        let operation = operation(side);
        let foreign = |what| Fault {
            operation,
            side,
            cause: Cause::Foreign(what),
        };
        let format = match kind_of(archive, operation, side)? {
            Some(Kind::Archive(format)) => format,
            Some(Kind::Foreign(name)) => return Err(foreign(Some(name)).into()),
            Some(Kind::Compressed(_)) | None => return Err(foreign(None).into()),
        };
        let share = usize::try_from(memory / SHARES).unwrap_or(usize::MAX);
        let most = match format {
            Format::Bgzf | Format::Gzip => SMALL_BYTES,
            Format::Xz => share.clamp(LEAST_IN_UNIT, MOST_IN_BLOCK),
            Format::Zstd => share.clamp(LEAST_IN_UNIT, MOST_IN_FRAME),
        };
        Ok(Self {
            how,
            side,
            format,
            most,
            memory,
            is_long: AtomicBool::new(false),
            archive: Mutex::new(Archive {
                scanner: Scanner::new(format, most),
                window: Vec::new(),
                start: 0,
                at: 0,
                last: false,
                long: None,
                ended: false,
            }),
            content: Mutex::default(),
            stream: None,
            ledger: None,
            like,
            from: 0,
        })
    }

    /// Goes on with what is there, up to a mark. False: that is not to be had of it.
    fn go_on(&mut self, mark: &Mark) -> bool {
        let Some(digest) = Growing::after(mark.blocks, &mark.subtrees) else {
            return false;
        };
        // From here on the digest needs it.
        self.from = mark.blocks.saturating_mul(PART_BYTES);
        let content = self.content.get_mut().unwrap_or_else(PoisonError::into_inner);
        (content.digest, content.at, content.begun) = (digest, self.from, self.from);
        true
    }

    /// Has the ledger say how far the content has come.
    fn note(&self, output: Option<BorrowedFd<'_>>, desk: &Desk) -> Result<(), Stopped> {
        let (Some(ledger), Some(output)) = (&self.ledger, output) else {
            return Ok(());
        };
        let mark = self.content().mark.clone();
        mark.map_or(Ok(()), |mark| ledger.reach(output, mark, 0, desk))
    }

    /// The same, at once.
    fn save(&self, output: Option<BorrowedFd<'_>>, desk: &Desk) -> Result<(), Stopped> {
        self.note(output, desk)?;
        if let (Some(ledger), Some(output)) = (&self.ledger, output) {
            ledger.save(output);
        }
        Ok(())
    }

    /// Has all of it unpacked.
    fn run(
        self: &Arc<Self>,
        lead: Lead<'_>,
        (archive, size): (BorrowedFd<'_>, u64),
        output: Option<BorrowedFd<'_>>,
    ) -> Result<(), Stopped> {
        let (deed, block) = (Arc::clone(self), BUFFER_BYTES as u64);
        Blocks::lead(lead, deed, (archive, output), (size, block), self.memory())
    }

    /// Bytes of memory that one worker needs.
    fn memory(&self) -> u64 {
        let decoder = match self.format {
            Format::Bgzf | Format::Gzip => 0,
            Format::Xz | Format::Zstd => DECODER_BYTES,
        };
        // The window, the archive, its content, and content that waits for its turn.
        decoder + 4 * self.most.max(GROUP_BYTES) as u64
    }

    fn archive(&self) -> MutexGuard<'_, Archive> {
        self.archive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, cause: Cause) -> Stopped {
        Stopped::Fault(Fault {
            operation: operation(self.side),
            side: self.side,
            cause,
        })
    }

    fn damaged(&self, damage: Damage) -> Stopped {
        self.fault(Cause::Damaged(damage))
    }

    /// Whether content that ends here matters to nobody.
    fn passes_over(&self, end: u64) -> bool {
        end <= self.from
    }

    /// Compares content from this place on with what it is to be.
    fn compare(&self, hand: &Hand<'_>, bytes: &[u8], place: u64, like: &OwnedFd) -> Result<(), Stopped> {
        let skip = usize::try_from(self.from.saturating_sub(place)).unwrap_or(usize::MAX);
        let mut at = place + skip as u64;
        let mut buffer = vec![0; BUFFER_BYTES.min(bytes.len())];
        for piece in bytes.get(skip..).unwrap_or_default().chunks(BUFFER_BYTES) {
            hand.desk.may_go_on(piece.len() as u64)?;
            let own = &mut buffer[..piece.len()];
            let got = sys::read_full_at(like.as_fd(), own, at)
                .map_err(|errno| Fault::new(Operation::Read, Side::Source, errno))?;
            if own[..got] != *piece {
                return Err(self.fault(Cause::Mismatch));
            }
            at += got as u64;
        }
        Ok(())
    }

    /// Reads on, until the window has so many bytes or reaches to the end.
    fn fill(&self, archive: &mut Archive, hand: &Hand<'_>, bytes: usize) -> Result<(), Stopped> {
        archive.window.drain(..archive.start);
        archive.start = 0;
        let enough = bytes.max(GROUP_BYTES);
        while archive.window.len() < enough && !archive.last {
            let from = archive.window.len();
            let left = match self.how.bytes {
                0 => u64::MAX,
                bytes => bytes.saturating_sub(archive.at),
            };
            let want = hand.desk.pace.piece(left.min(BUFFER_BYTES as u64));
            let want = usize::try_from(want).unwrap_or(BUFFER_BYTES);
            hand.desk.may_go_on(want as u64)?;
            archive.window.resize(from + want, 0);
            let got = sys::read_enough_at(hand.from, &mut archive.window[from..], want, archive.at)
                .map_err(|errno| Fault::new(operation(self.side), self.side, errno))?;
            hand.desk.pace.give_back((want - got) as u64);
            archive.window.truncate(from + got);
            archive.at += got as u64;
            archive.last = got < want || got as u64 == left;
        }
        Ok(())
    }

    /// Decodes a stretch of something long; nothing: it ended.
    fn decode(&self, archive: &mut Archive, hand: &Hand<'_>, bytes: &mut Vec<u8>) -> Result<(), Stopped> {
        bytes.resize(GROUP_BYTES, 0);
        let mut written = 0;
        while let Some(long) = &mut archive.long
            && written < bytes.len()
        {
            let input = &archive.window[archive.start..];
            let step = long
                .step(input, archive.last, &mut bytes[written..])
                .map_err(|(at, what)| {
                    let offset = archive.scanner.offset() + at as u64;
                    self.damaged(Damage { offset, what })
                })?;
            archive.start += step.read;
            archive.scanner.passed(step.read as u64, step.written as u64);
            written += step.written;
            if step.ended {
                archive.long = None;
            } else if (step.read, step.written) == (0, 0) {
                if archive.last {
                    let offset = archive.scanner.offset();
                    let what = "it was cut short";
                    return Err(self.damaged(Damage { offset, what }));
                }
                let more = archive.window.len() - archive.start + 1;
                self.fill(archive, hand, more)?;
            }
        }
        bytes.truncate(written);
        Ok(())
    }

    /// Writes content to its place in the file, if there is one.
    fn write(&self, hand: &Hand<'_>, bytes: &[u8], place: u64) -> Result<(), Stopped> {
        let Some(output) = hand.to else { return Ok(()) };
        let fault = |errno| Fault::new(Operation::Write, Side::Destination(0), errno);
        if let Some(ledger) = &self.ledger {
            ledger.make_room(output, place + bytes.len() as u64).map_err(fault)?;
        }
        let put = |from: usize, to: usize| {
            let at = place + from as u64;
            sys::write_all_at(output, &bytes[from..to], at).map_err(fault)
        };
        if self.how.sparse {
            for part in stretches(bytes, place) {
                put(part.start, part.end)?;
            }
        } else {
            put(0, bytes.len())?;
        }
        Ok(())
    }

    /// What came out. The file has its full size, also where it ends with a hole.
    fn end(&self, output: Option<BorrowedFd<'_>>) -> Result<Unpacked, Stopped> {
        let (archive, mut content) = (self.archive(), self.content());
        if let Some(output) = output.filter(|_| self.how.sparse) {
            let fault = |errno| Fault::new(Operation::Write, Side::Destination(0), errno);
            sys::set_size(output, content.at).map_err(fault)?;
            if let Some(ledger) = &self.ledger {
                ledger.save(output);
            }
        }
        Ok(Unpacked {
            read: archive.scanner.offset(),
            written: content.at,
            // None: less is in it now than a run before has found.
            content: mem::take(&mut content.digest)
                .digest()
                .ok_or_else(|| Fault::changed(operation(self.side)))?,
            format: self.format,
        })
    }
}

impl Deed for Unpacking {
    /// Takes the next units into the hand, or decodes the next stretch of what has none into `room`.
    fn take(&self, hand: &mut Hand<'_>, room: &mut Vec<u8>) -> Result<Option<Spot>, Stopped> {
        let mut archive = self.archive();
        let (mut begun, mut before) = (archive.scanner.offset(), archive.scanner.content());
        hand.tools.input.clear();
        hand.tools.units.clear();
        let mut decoded = false;
        while !archive.ended && archive.scanner.content() - before < GROUP_BYTES as u64 {
            if archive.long.is_some() {
                if !hand.tools.units.is_empty() || decoded {
                    break;
                }
                self.decode(&mut archive, hand, room)?;
                decoded = !room.is_empty();
                continue;
            }
            if decoded {
                break;
            }
            let Archive {
                scanner,
                window,
                start,
                last,
                ..
            } = &mut *archive;
            match scanner
                .next(&window[*start..], *last)
                .map_err(|damage| self.damaged(damage))?
            {
                Piece::Skip(bytes) => *start += bytes,
                Piece::Unit(unit) => {
                    let end = *start + unit.archive;
                    if self.passes_over(scanner.content()) {
                        (*start, begun, before) = (end, scanner.offset(), scanner.content());
                        continue;
                    }
                    hand.tools.input.extend_from_slice(&window[*start..end]);
                    hand.tools.units.push(unit);
                    *start = end;
                }
                Piece::Long(format) => {
                    let offset = scanner.offset();
                    let long = Long::new(format, self.how.proof, self.memory);
                    archive.long = Some(long.map_err(|what| self.damaged(Damage { offset, what }))?);
                }
                Piece::More(bytes) => self.fill(&mut archive, hand, bytes)?,
                Piece::End => archive.ended = true,
            }
        }
        self.is_long.store(archive.long.is_some(), Relaxed);
        if hand.tools.units.is_empty() && !decoded {
            return Ok(None);
        }
        Ok(Some(Spot {
            archive: begun,
            content: before,
            before: 0,
            read: archive.scanner.offset() - begun,
        }))
    }

    /// Decodes the units that were taken, if they are not decoded yet, and writes what is in them.
    fn work(&self, hand: &mut Hand<'_>, spot: Spot, mut bytes: Vec<u8>) -> Result<Ready, Stopped> {
        // Here, where nobody waits should it take long.
        self.note(hand.to, hand.desk)?;
        let tools = &mut *hand.tools;
        let length = tools.units.iter().map(|unit| unit.content).sum();
        tools.decoded(length);
        if !tools.units.is_empty() {
            bytes.resize(length, 0);
        }
        let (mut archive, mut content) = (&tools.input[..], &mut bytes[..]);
        let mut offset = spot.archive;
        for unit in &tools.units {
            let (own, rest) = archive.split_at(unit.archive);
            let (room, other) = mem::take(&mut content).split_at_mut(unit.content);
            let decoded = tools.decoder.unit(self.format, unit, own, room, self.how.proof);
            decoded.map_err(|what| self.damaged(Damage { offset, what }))?;
            offset += unit.archive as u64;
            (archive, content) = (rest, other);
        }
        match &self.like {
            Some(like) => self.compare(hand, &bytes, spot.content, like)?,
            None => self.write(hand, &bytes, spot.content)?,
        }
        let block = None;
        Ok(Ready { bytes, block, spot })
    }

    fn hands(&self) -> u64 {
        if self.is_long.load(Relaxed) {
            LONG_HANDS
        } else {
            u64::MAX
        }
    }

    /// Takes in content, whose turn it is.
    fn put(&self, hand: &mut Hand<'_>, ready: &Ready) -> Result<(), Stopped> {
        if self.like.is_some() {
            return Ok(());
        }
        let mut content = self.content();
        let Spot { content: place, .. } = ready.spot;
        // The first may begin with what is there already.
        let there = usize::try_from(self.from.saturating_sub(place)).unwrap_or(usize::MAX);
        let new = ready.bytes.get(there..).unwrap_or_default();
        content.digest.update(new);
        content.at = place + ready.bytes.len() as u64;
        if self.ledger.is_some() {
            content.mark = Some(Mark {
                content: ready.spot.archive + ready.spot.read,
                archive: content.at,
                blocks: content.digest.whole_parts(),
                crc: 0,
                subtrees: content.digest.subtrees(),
            });
        }
        if let Some(stream) = &self.stream {
            let fault = |errno| Fault::new(Operation::Write, Side::Destination(0), errno);
            if !stream.write_all(&ready.bytes, hand.desk).map_err(fault)? {
                return Err(Stopped::Aborted);
            }
        }
        let waits = content.at - content.begun;
        if let Some(output) = hand.to.filter(|_| waits >= WRITE_BACK_BYTES) {
            // Only a head start: an error is told by the sync that follows.
            match sys::start_write_back(output, content.begun, waits) {
                Ok(()) | Err(_) => content.begun = content.at,
            }
        }
        if hand.to.is_some() || self.stream.is_some() {
            let written = hand.counters.written();
            written.fetch_add(new.len() as u64, Relaxed);
        }
        Ok(())
    }
}
