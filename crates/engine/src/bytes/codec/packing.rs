//! The way into an archive.
//!
//! Comes in: content, read in its order; goes out: the blocks of an archive, each written after the one before it, and the
//! digest of what was read.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhaul_formats::codec::{Codec, EncoderError, Frame, Gzi};
use bulkhaul_formats::digest::{Algorithm, Blake3, ContentDigest, Digest, Hashers};
use bulkhaul_sys::{self as sys, BorrowedFd, Errno};

use crate::bytes::codec::blocks::{Blocks, Deed, Hand, Lead, Ready, Spot};
use crate::bytes::transfer::{BUFFER_BYTES, WRITE_BACK_BYTES};
use crate::error::{Cause, Fault, Operation, Side, Stopped};

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

/// Packs all of `source`, from its beginning to where reading ends, into `output`, which is empty. `index`: of BGZF, where
/// its members begin. `others`: digests of the content beside BLAKE3.
pub fn pack(
    lead: Lead<'_>,
    source: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
    codec: Codec,
    (index, others): (bool, &[Algorithm]),
) -> Result<Packed, Stopped> {
    let stat = sys::stat_fd(source).map_err(|errno| Fault::new(Operation::Stat, Side::Source, errno))?;
    let packing = Arc::new(Packing::new(codec, stat.size, (index, others)));
    let size = (stat.size, codec.block_bytes() as u64);
    let (deed, counters) = (Arc::clone(&packing), lead.counters);
    Blocks::lead(lead, deed, (source, Some(output)), size, codec.memory())?;
    let (packed, around) = packing.end(output)?;
    counters.written().fetch_add(around, Relaxed);
    Ok(packed)
}

/// A file on its way into an archive.
struct Packing {
    codec: Codec,
    source: Mutex<Source>,
    archive: Mutex<Archive>,
}

/// What is read.
struct Source {
    at: u64,
    ended: bool,
    digest: Blake3,
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
}

fn write(output: BorrowedFd<'_>, bytes: &[u8], at: u64) -> Result<(), Stopped> {
    let fault = |errno| Fault::new(Operation::Write, Side::Destination(0), errno);
    Ok(sys::write_all_at(output, bytes, at).map_err(fault)?)
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
    fn new(codec: Codec, size: u64, (index, others): (bool, &[Algorithm])) -> Self {
        Self {
            codec,
            source: Mutex::new(Source {
                at: 0,
                ended: false,
                digest: Blake3::default(),
                others: (!others.is_empty()).then(|| Hashers::new(others)),
                before: Vec::new(),
            }),
            archive: Mutex::new(Archive {
                frame: Some(Frame::new(codec, size, index)),
                at: 0,
                begun: 0,
            }),
        }
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
            content: source.digest.digest(),
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
        input.clear();
        input.extend_from_slice(&source.before);
        let primed = input.len();
        let block = self.codec.block_bytes();
        while !source.ended && input.len() - primed < block {
            let from = input.len();
            let want = (block - (from - primed)).min(BUFFER_BYTES);
            let want = usize::try_from(hand.desk.pace.piece(want as u64)).unwrap_or(want);
            hand.desk.may_go_on(want as u64)?;
            input.resize(from + want, 0);
            let got =
                sys::read_enough_at(hand.from, &mut input[from..], want, source.at).map_err(|errno| match errno {
                    // It was a file when it was listed.
                    Errno::ISDIR => Fault::changed(Operation::Read),
                    errno => Fault::new(Operation::Read, Side::Source, errno),
                })?;
            hand.desk.pace.give_back((want - got) as u64);
            input.truncate(from + got);
            source.digest.update(&input[from..]);
            if let Some(others) = &mut source.others {
                others.update(&input[from..]);
            }
            source.at += got as u64;
            source.ended = got < want;
        }
        let length = input.len() - primed;
        if length == 0 {
            return Ok(None);
        }
        let keep = self.codec.primed_bytes().min(input.len());
        source.before.clear();
        source.before.extend_from_slice(&input[input.len() - keep..]);
        Ok(Some(Spot {
            before: primed,
            read: length as u64,
            ..Spot::default()
        }))
    }

    /// Makes a block of what was read.
    fn work(&self, hand: &mut Hand<'_>, spot: Spot, mut bytes: Vec<u8>) -> Result<Ready, Stopped> {
        let cancel = &hand.desk.cancel;
        let (encoder, input) = hand.tools.encoder(self.codec).map_err(stopped)?;
        let content = input.split_at(spot.before);
        let block = encoder
            .block(content, &mut bytes, &|| !cancel.is_over())
            .map_err(stopped)?;
        Ok(Ready {
            bytes,
            block: Some(block),
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
        write(output, &ready.bytes, archive.at)?;
        archive.at += ready.bytes.len() as u64;
        hand.counters.written().fetch_add(ready.bytes.len() as u64, Relaxed);
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
