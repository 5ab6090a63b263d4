//! The way into an archive.
//!
//! Comes in: content, read in its order; goes out: the blocks of an archive, each written after the one before it, and the
//! digest of what was read. With a ledger the archive is gone on with where a run that died has left it: of what is in it
//! already no more is read than the last part of its digest needs, unless there are others that need all.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhaul_formats::codec::{Codec, EncoderError, Frame, Gzi, PIECE_HEAD, SoFar};
use bulkhaul_formats::digest::{Algorithm, ContentDigest, Digest, Growing, Hashers, PART_BYTES};
use bulkhaul_formats::progress::Mark;
use bulkhaul_sys::{self as sys, BorrowedFd, Errno};

use crate::bytes::codec::blocks::{Blocks, Deed, Hand, Lead, Ready, Spot};
use crate::bytes::ledger::Ledger;
use crate::bytes::transfer::{BUFFER_BYTES, WRITE_BACK_BYTES};
use crate::error::{Cause, Fault, Operation, Side, Stopped};
use crate::job::desk::Desk;

/// What became of a file that was packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Bytes of content.
    pub read: u64,
    /// Bytes of the archive.
    pub written: u64,
    /// Digest of the content.
    pub content: ContentDigest,
    /// The others that were asked for.
    pub others: Vec<Digest>,
    /// Where the members of BGZF begin, where that was asked for.
    pub index: Option<Gzi>,
}

/// Packs all of `source`, from its beginning to where reading ends, into `output`, which is empty but for what its ledger, if
/// it has one, says is there; what that has past the archive's end stays there. `index`: of BGZF, where its members begin.
/// `others`: digests of the content beside BLAKE3.
pub fn pack(
    lead: Lead<'_>,
    source: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
    codec: Codec,
    (index, others): (bool, &[Algorithm]),
    ledger: Option<&Arc<Ledger>>,
) -> Result<Packed, Stopped> {
    let stat = sys::stat_fd(source).map_err(|errno| Fault::new(Operation::Stat, Side::Source, errno))?;
    let mut packing = Packing::new(codec, stat.size, (index, others), ledger);
    if let Some(ledger) = ledger
        && let Some(mark) = ledger.mark()
    {
        let there = mark.content;
        if packing.go_on(mark, (source, output), (stat.size, index), lead.desk)? {
            packing.take_in_again(source, lead.desk)?;
            lead.counters.resumed(there);
            lead.counters.flight.moved(there);
        } else {
            ledger.forget();
            ledger.save(output);
            packing = Packing::new(codec, stat.size, (index, others), Some(ledger));
        }
    }
    let packing = Arc::new(packing);
    let size = (
        stat.size - packing.source().at.min(stat.size),
        codec.block_bytes() as u64,
    );
    let (deed, counters, desk) = (Arc::clone(&packing), lead.counters, lead.desk);
    let packed = Blocks::lead(lead, deed, (source, Some(output)), size, codec.memory());
    packing.save(output, desk)?;
    packed?;
    let (packed, around) = packing.end(output)?;
    counters.written().fetch_add(around, Relaxed);
    counters.flight.wrote(around);
    Ok(packed)
}

/// A file on its way into an archive.
struct Packing {
    codec: Codec,
    ledger: Option<Arc<Ledger>>,
    source: Mutex<Source>,
    archive: Mutex<Archive>,
    /// Of parts of content that are read: where they end, and the subtrees of their digest up to there.
    subtrees: Mutex<VecDeque<(u64, Vec<ContentDigest>)>>,
}

/// What is read.
struct Source {
    at: u64,
    ended: bool,
    digest: Growing,
    others: Option<Hashers>,
    /// The end of what was read last, for the encoder of the next block.
    before: Vec<u8>,
}

/// What is written.
struct Archive {
    frame: Option<Frame>,
    at: u64,
    /// Up to here write-back was started.
    begun: u64,
    /// How far it has come, as the ledger is to say; after how much content that has other subtrees.
    mark: Option<Mark>,
}

fn write(output: BorrowedFd<'_>, bytes: &[u8], at: u64) -> Result<(), Stopped> {
    let fault = |errno| Fault::new(Operation::Write, Side::Destination(0), errno);
    Ok(sys::write_all_at(output, bytes, at).map_err(fault)?)
}

/// Has a buffer at least so many bytes; what it has already costs nothing.
fn make_room(buffer: &mut Vec<u8>, bytes: usize) {
    if buffer.len() < bytes {
        buffer.resize(bytes, 0);
    }
}

fn stopped(error: EncoderError) -> Stopped {
    match error {
        EncoderError::Stopped => Stopped::Aborted,
        EncoderError::Failed(_) => Stopped::Fault(Fault {
            operation: Operation::Work,
            side: Side::Source,
            cause: Cause::Encoder(error.to_string()),
        }),
    }
}

impl Packing {
    fn new(codec: Codec, size: u64, (index, others): (bool, &[Algorithm]), ledger: Option<&Arc<Ledger>>) -> Self {
        Self {
            codec,
            ledger: ledger.cloned(),
            subtrees: Mutex::default(),
            source: Mutex::new(Source {
                at: 0,
                ended: false,
                digest: Growing::default(),
                others: (!others.is_empty()).then(|| Hashers::new(others)),
                before: Vec::new(),
            }),
            archive: Mutex::new(Archive {
                frame: Some(Frame::new(codec, size, index)),
                at: 0,
                begun: 0,
                mark: None,
            }),
        }
    }

    /// Goes on with what is there, up to a mark. False: that is not to be had of it.
    fn go_on(
        &mut self,
        mark: Mark,
        (source, output): (BorrowedFd<'_>, BorrowedFd<'_>),
        (size, index): (u64, bool),
        desk: &Desk,
    ) -> Result<bool, Stopped> {
        let parts = mark.content.saturating_sub(1) / PART_BYTES;
        let Some(digest) = Growing::after(parts, &mark.subtrees).filter(|_| mark.content <= size) else {
            return Ok(false);
        };
        let so_far = SoFar {
            content: mark.content,
            blocks: mark.blocks,
            crc: mark.crc,
        };
        let mut frame = Frame::after(self.codec, size, index, so_far);
        let mut at = frame.head().len() as u64;
        let mut head = [0; PIECE_HEAD];
        while frame.wants_heads() && at < mark.archive {
            let verify = |errno| Fault::new(Operation::Verify, Side::Destination(0), errno);
            desk.may_go_on(0)?;
            let length = sys::read_full_at(output, &mut head, at).map_err(verify)?;
            match frame.pass(&head[..length]) {
                Some(bytes) => at += bytes,
                None => return Ok(false),
            }
        }
        if frame.wants_heads() && at != mark.archive {
            return Ok(false);
        }
        let mut before = vec![
            0;
            self.codec
                .primed_bytes()
                .min(usize::try_from(mark.content).unwrap_or(usize::MAX))
        ];
        let from = mark.content - before.len() as u64;
        let read = sys::read_full_at(source, &mut before, from)
            .map_err(|errno| Fault::new(Operation::Read, Side::Source, errno))?;
        if read < before.len() {
            return Ok(false);
        }
        let all = self.source().others.is_some();
        let mut archive = self.archive();
        (archive.at, archive.begun, archive.frame) = (mark.archive, mark.archive, Some(frame));
        archive.mark = Some(mark);
        drop(archive);
        let mut of = self.source();
        (of.digest, of.before) = (digest, before);
        // Where it is to be taken in from.
        of.at = if all { 0 } else { parts * PART_BYTES };
        Ok(true)
    }

    /// What is in the archive already is taken in once more, as far as digests need it.
    fn take_in_again(&self, file: BorrowedFd<'_>, desk: &Desk) -> Result<(), Stopped> {
        let end = self.archive().mark.as_ref().map_or(0, |mark| mark.content);
        let whole = end.saturating_sub(1) / PART_BYTES * PART_BYTES;
        let mut source = self.source();
        let mut buffer = vec![0; BUFFER_BYTES];
        while source.at < end {
            // Pieces end where parts do.
            let left = if source.at < whole { whole } else { end } - source.at;
            let want = desk.pace.piece(left.min(BUFFER_BYTES as u64));
            desk.may_go_on(want)?;
            let piece = &mut buffer[..usize::try_from(want).unwrap_or(BUFFER_BYTES)];
            let got = sys::read_full_at(file, piece, source.at)
                .map_err(|errno| Fault::new(Operation::Read, Side::Source, errno))?;
            if got < piece.len() {
                return Err(Fault::changed(Operation::Read).into());
            }
            if source.at >= whole {
                source.digest.update(piece);
            }
            if let Some(others) = &mut source.others {
                others.update(piece);
            }
            source.at += want;
        }
        Ok(())
    }

    /// Has the ledger say how far the archive has come.
    fn note(&self, output: Option<BorrowedFd<'_>>, desk: &Desk) -> Result<(), Stopped> {
        let (Some(ledger), Some(output)) = (&self.ledger, output) else {
            return Ok(());
        };
        let mark = self.archive().mark.clone();
        mark.map_or(Ok(()), |mark| ledger.reach(output, mark, 0, desk))
    }

    /// The same, at once.
    fn save(&self, output: BorrowedFd<'_>, desk: &Desk) -> Result<(), Stopped> {
        self.note(Some(output), desk)?;
        if let Some(ledger) = &self.ledger {
            ledger.save(output);
        }
        Ok(())
    }

    /// The subtrees of so much content that are to be noted.
    fn subtrees_at(&self, content: u64, before: Option<Mark>) -> Vec<ContentDigest> {
        let mut last = before.map_or_else(Vec::new, |mark| mark.subtrees);
        let mut noted = self.subtrees.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((_, subtrees)) = noted.pop_front_if(|(end, _)| *end < content) {
            last = subtrees;
        }
        last
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn archive(&self) -> MutexGuard<'_, Archive> {
        self.archive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what ends the archive. Answers too how many bytes are around the blocks.
    fn end(&self, output: BorrowedFd<'_>) -> Result<(Packed, u64), Stopped> {
        let (mut source, mut archive) = (self.source(), self.archive());
        if archive.at == 0 {
            archive.head(output)?;
        }
        let frame = archive.frame.take().ok_or(Stopped::Aborted)?;
        let head = frame.head().len() as u64;
        let end = frame.end();
        write(output, &end.tail, archive.at)?;
        if let Some(head) = end.head {
            write(output, &head, 0)?;
        }
        let packed = Packed {
            read: source.at,
            written: archive.at + end.tail.len() as u64,
            // Where it is not of what its size says, that is told by who asks how much was read.
            content: mem::take(&mut source.digest).digest().unwrap_or_default(),
            others: source.others.take().map_or_else(Vec::new, |mut others| others.finish()),
            index: end.index,
        };
        Ok((packed, head + end.tail.len() as u64))
    }
}

impl Deed for Packing {
    /// Reads the next block, after what its encoder is to see before it; none: there is no more.
    fn take(&self, hand: &mut Hand<'_>, _room: &mut Vec<u8>) -> Result<Option<Spot>, Stopped> {
        let mut source = self.source();
        if source.ended {
            return Ok(None);
        }
        let input = &mut hand.tools.input;
        let primed = source.before.len();
        make_room(input, primed);
        input[..primed].copy_from_slice(&source.before);
        let (block, mut end) = (self.codec.block_bytes(), primed);
        while !source.ended && end - primed < block {
            let want = (block - (end - primed)).min(BUFFER_BYTES);
            let want = usize::try_from(hand.desk.pace.piece(want as u64)).unwrap_or(want);
            hand.desk.may_go_on(want as u64)?;
            make_room(input, end + want);
            let room = &mut input[end..end + want];
            let got = sys::read_enough_at(hand.from, room, want, source.at).map_err(|errno| match errno {
                // It was a file when it was listed.
                Errno::ISDIR => Fault::changed(Operation::Read),
                errno => Fault::new(Operation::Read, Side::Source, errno),
            })?;
            hand.desk.pace.give_back((want - got) as u64);
            let new = &room[..got];
            source.digest.update(new);
            let whole = source.digest.whole_parts() * PART_BYTES;
            if self.ledger.is_some() && whole > 0 && whole >= source.at {
                let mut noted = self.subtrees.lock().unwrap_or_else(PoisonError::into_inner);
                noted.push_back((whole, source.digest.subtrees()));
            }
            if let Some(others) = &mut source.others {
                others.update(new);
            }
            end += got;
            source.at += got as u64;
            source.ended = got < want;
        }
        if end == primed {
            return Ok(None);
        }
        let keep = self.codec.primed_bytes().min(end);
        source.before.clear();
        source.before.extend_from_slice(&input[end - keep..end]);
        Ok(Some(Spot {
            before: primed,
            read: (end - primed) as u64,
            ..Spot::default()
        }))
    }

    /// Makes a block of what was read.
    fn work(&self, hand: &mut Hand<'_>, spot: Spot, mut bytes: Vec<u8>) -> Result<Ready, Stopped> {
        // Here, where nobody waits should it take long.
        self.note(hand.to, hand.desk)?;
        let cancel = &hand.desk.cancel;
        let (encoder, input) = hand.tools.encoder(self.codec).map_err(stopped)?;
        let (before, content) = input.split_at(spot.before);
        let content = content.split_at(usize::try_from(spot.read).unwrap_or(usize::MAX)).0;
        let block = encoder
            .block((before, content), &mut bytes, &|| !cancel.is_over())
            .map_err(stopped)?;
        Ok(Ready {
            bytes,
            block: Some(block),
            spot,
        })
    }

    fn hands(&self) -> u64 {
        u64::MAX
    }

    /// Writes a block, whose turn it is.
    fn put(&self, hand: &mut Hand<'_>, ready: &Ready) -> Result<(), Stopped> {
        let Some(output) = hand.to else { return Ok(()) };
        let mut archive = self.archive();
        if archive.at == 0 {
            archive.head(output)?;
        }
        if let (Some(block), Some(frame)) = (&ready.block, &mut archive.frame) {
            frame.add(block);
        }
        match (write(output, &ready.bytes, archive.at), &self.ledger) {
            (Err(Stopped::Fault(fault)), Some(ledger)) if fault.is_full() => {
                // The ledger is nobody's content.
                let fault = |errno| Fault::new(Operation::Write, Side::Destination(0), errno);
                ledger.give_up(output, archive.at).map_err(fault)?;
                write(output, &ready.bytes, archive.at)?;
            }
            (written, _) => written?,
        }
        archive.at += ready.bytes.len() as u64;
        if self.ledger.is_some() {
            let so_far = archive.frame.as_ref().map(Frame::so_far).unwrap_or_default();
            let before = archive.mark.take();
            archive.mark = Some(Mark {
                content: so_far.content,
                archive: archive.at,
                blocks: so_far.blocks,
                crc: so_far.crc,
                subtrees: self.subtrees_at(so_far.content, before),
            });
        }
        hand.counters.written().fetch_add(ready.bytes.len() as u64, Relaxed);
        hand.flight.wrote(ready.bytes.len() as u64);
        let new = archive.at - archive.begun;
        if new >= WRITE_BACK_BYTES {
            // Only a head start: an error is told by the sync that follows.
            match sys::start_write_back(output, archive.begun, new) {
                Ok(()) | Err(_) => archive.begun = archive.at,
            }
        }
        Ok(())
    }
}

impl Archive {
    fn head(&mut self, output: BorrowedFd<'_>) -> Result<(), Stopped> {
        let head = self.frame.as_ref().map(Frame::head).unwrap_or_default();
        write(output, &head, 0)?;
        self.at = head.len() as u64;
        Ok(())
    }
}
