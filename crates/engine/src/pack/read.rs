//! Entries read, and made into blocks of a tar.
//!
//! Comes in: batches of entries, and the directories that they are in; goes out: blocks, and what the index says of each
//! entry. Every file is read once, to its end, with its digest; what changed meanwhile, or is not what was found, is a fault
//! and leaves no block behind. Nothing outside of the roots is reached: every path is gone by its names, through no link.

use std::ffi::CStr;

use bulkhaul_formats::digest::{Algorithm, Digest, Hashers};
use bulkhaul_formats::shards::Packed;
use bulkhaul_formats::tar::{self, Header, MOST_STRETCHES, Stretch, What};
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow, Identity, Kind, OwnedFd, Stat};

use super::order::{BATCH_BYTES, Batch, Item};
use crate::bytes::transfer::BUFFER_BYTES;
use crate::error::{Fault, Operation, Refusal, Side, Stopped, describe};
use crate::job::desk::Desk;
use crate::records::entry::{self, Facts};
use crate::tree::beneath::Beneath;
use crate::tree::metadata::{Held, Scratch, attributes};
use crate::tree::path::{c_string, open_directory_path, show, split, trim};
use crate::tree::times::nanoseconds;
use crate::walk::start::Root;

/// How often a file is read that changes meanwhile.
const ATTEMPTS: u32 = 2;
/// No file has more bytes.
const LARGEST: u64 = i64::MAX.unsigned_abs();

/// The directories that paths begin in.
pub struct Bases {
    /// Paths begin with these names, each in a directory of its own; the name of a root that stands for what is in it is
    /// empty.
    all: Vec<(Vec<u8>, OwnedFd, Vec<u8>)>,
}

impl Bases {
    /// Of these roots.
    pub fn open(roots: &[Root]) -> Result<Self, Refusal> {
        let mut all = Vec::new();
        for root in roots {
            let path = trim(&root.path);
            let (above, name) = if root.contents { (path, &b""[..]) } else { split(path) };
            match open_directory_path(above, Follow::Yes) {
                Ok(fd) => all.push((name.to_vec(), fd, above.to_vec())),
                // The walk says so of what is not there.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(Refusal::NoSource(format!("{}: {}", show(above), describe(errno)))),
            }
        }
        Ok(Self { all })
    }

    /// Which one a path begins in.
    fn of(&self, path: &[u8]) -> Option<usize> {
        let first = path.split(|byte| *byte == b'/').next().unwrap_or_default();
        let is_it = |(name, _, _): &(Vec<u8>, OwnedFd, Vec<u8>)| name.is_empty() || name == first;
        self.all.iter().position(is_it)
    }

    /// The full path of an entry, for messages.
    pub fn path(&self, path: &[u8]) -> Vec<u8> {
        match self.of(path) {
            Some(base) if path.is_empty() => self.all[base].2.clone(),
            Some(base) => crate::tree::path::join(&self.all[base].2, path),
            None => path.to_vec(),
        }
    }
}

/// The first link of an inode, of which more come.
#[derive(Clone, Debug)]
pub struct Leader {
    /// Their number.
    pub group: u64,
    /// Its path.
    pub path: Vec<u8>,
    /// Its inode.
    pub inode: Identity,
    /// What all of them show.
    pub facts: Facts,
    /// What the index says of its content.
    pub content: (u64, Vec<Digest>, Vec<Digest>),
}

/// An entry that was read.
pub struct Seen {
    /// What the index says of it.
    pub packed: Packed,
    /// It is a further link of what came before.
    pub is_link: bool,
}

/// What came of a batch.
#[derive(Default)]
pub struct Made {
    /// Blocks of a tar.
    pub blocks: Vec<u8>,
    /// Each entry by its place in the batch: what the index says, with the offset in the blocks, or why there is nothing.
    pub entries: Vec<Result<Seen, Fault>>,
    /// Bytes of content that were read.
    pub content: u64,
}

/// Takes blocks as they come.
pub type Put<'p> = dyn FnMut(&[u8]) -> Result<(), Stopped> + 'p;

/// What a worker reads with.
pub struct Reader<'r> {
    desk: &'r Desk,
    bases: &'r Bases,
    beneath: Vec<Beneath<'r>>,
    scratch: Scratch,
    buffer: Vec<u8>,
    /// Room for the blocks of a batch.
    room: Vec<u8>,
    digest: Hashers,
}

fn fault(operation: Operation, errno: Errno) -> Fault {
    match (operation, errno) {
        // It was something else, and lay elsewhere, when it was found.
        (Operation::Open | Operation::Stat | Operation::Read, Errno::LOOP | Errno::NOTDIR | Errno::ISDIR) => {
            Fault::changed(operation)
        }
        _ => Fault::new(operation, Side::Source, errno),
    }
}

impl<'r> Reader<'r> {
    /// For one worker.
    pub fn new(desk: &'r Desk, bases: &'r Bases) -> Self {
        Self {
            desk,
            bases,
            beneath: bases.all.iter().map(|(_, fd, _)| Beneath::new(fd)).collect(),
            scratch: Scratch::default(),
            buffer: vec![0; BUFFER_BYTES + 1],
            room: Vec::new(),
            digest: Hashers::new(&[Algorithm::Blake3]),
        }
    }

    /// Reads a batch that fits in memory. `leader`: the link that came before the first of them; it gets the last one.
    /// Nothing: it does not fit, since the first name of a large file can't be read, and another one stands for it.
    pub fn batch(&mut self, batch: &Batch, leader: &mut Option<Leader>) -> Result<Option<Made>, Stopped> {
        let mut made = Made {
            blocks: std::mem::take(&mut self.room),
            ..Made::default()
        };
        made.blocks.clear();
        for item in &batch.items {
            if item.content() > BATCH_BYTES && !is_link(item, leader.as_ref()) {
                return Ok(None);
            }
            let start = made.blocks.len();
            let mut attempt = 1;
            let read = loop {
                let blocks = &mut made.blocks;
                let read = self.once(item, leader, &mut |bytes| {
                    blocks.extend_from_slice(bytes);
                    Ok(())
                });
                match read {
                    Err(Stopped::Fault(fault)) => {
                        made.blocks.truncate(start);
                        if !fault.is_changed() || attempt == ATTEMPTS {
                            break Err(fault);
                        }
                        attempt += 1;
                    }
                    Err(Stopped::Aborted) => return Err(Stopped::Aborted),
                    Ok(seen) => break Ok(seen),
                }
            };
            made.entries.push(read.map(|mut seen| {
                seen.packed.offset = start as u64;
                seen.packed.length = (made.blocks.len() - start) as u64;
                if item.kind() == Kind::File && !seen.is_link {
                    made.content += seen.packed.entry.size.unwrap_or_default().min(seen.packed.length);
                }
                seen
            }));
        }
        Ok(Some(made))
    }

    /// Takes back the room of blocks that were put.
    pub fn reuse(&mut self, blocks: Vec<u8>) {
        self.room = blocks;
    }

    /// Reads one entry, once; what it put before a fault is to be taken back.
    pub fn once(&mut self, item: &Item, leader: &mut Option<Leader>, put: &mut Put<'_>) -> Result<Seen, Stopped> {
        let base = self.bases.of(&item.path);
        let (at, name) = match base.and_then(|base| self.beneath.get_mut(base)) {
            Some(beneath) => beneath
                .holder(&item.path)
                .map_err(|errno| fault(Operation::Open, errno))?,
            None => return Err(fault(Operation::Open, Errno::NOENT).into()),
        };
        let name =
            c_string(if name.is_empty() { b"." } else { name }).map_err(|errno| fault(Operation::Open, errno))?;
        let held = Held::Named(at.as_fd(), &name);
        let kind = item.kind();
        let mut file = None;
        let stat = if kind == Kind::File && !is_link(item, leader.as_ref()) {
            let open = sys::open_file(at.as_fd(), &name).map_err(|errno| fault(Operation::Open, errno))?;
            let stat = sys::stat_fd(open.as_fd()).map_err(|errno| fault(Operation::Stat, errno))?;
            file = Some(open);
            stat
        } else {
            sys::stat(at.as_fd(), &name, Follow::No).map_err(|errno| fault(Operation::Stat, errno))?
        };
        if stat.kind != kind || item.links.is_some_and(|links| links.inode != stat.id) {
            return Err(Fault::changed(Operation::Stat).into());
        }
        let mut path = item.path.clone();
        if path.is_empty() {
            path.push(b'.');
        }
        let mut header = Header {
            mode: stat.mode,
            uid: stat.uid.into(),
            gid: stat.gid.into(),
            mtime: nanoseconds(stat.mtime),
            ctime: Some(nanoseconds(stat.ctime)),
            ..Header::new(path, What::Directory)
        };
        let (found, _) = entry::of(&stat);
        let mut packed = Packed {
            entry: found,
            ..Packed::default()
        };
        packed.entry.path.clone_from(&item.path);
        packed.entry.link_group = Some(item.group).filter(|group| *group > 0);
        if let Some(leader) = leader.as_ref().filter(|leader| is_link(item, Some(leader))) {
            if (leader.inode, leader.facts) != (stat.id, entry::facts(&packed.entry)) {
                return Err(Fault::changed(Operation::Stat).into());
            }
            header.what = What::Link(leader.path.clone());
            (packed.entry.digests, packed.stored) = (leader.content.1.clone(), leader.content.2.clone());
            blocks_of(&header, put)?;
            return Ok(Seen { packed, is_link: true });
        }
        let held = file.as_ref().map_or(held, |file| Held::Open(file.as_fd()));
        let given = attributes(held, Side::Source, &mut self.scratch)?;
        header.xattrs = given
            .into_iter()
            .map(|(name, value)| (name.into_bytes(), value))
            .collect();
        header.what = what(kind, (at.as_fd(), &name), &stat)?;
        if let What::Symlink(text) = &header.what {
            packed.entry.target = Some(text.clone());
        }
        if matches!(kind, Kind::Block | Kind::Char) {
            packed.device = Some(sys::device_numbers(stat.rdev));
        }
        for shortfall in self.scratch.shortfalls.drain(..) {
            self.desk
                .note(&shortfall.kind, || (item.path.clone(), shortfall.message));
        }
        if let Some(file) = file {
            header.size = stat.size;
            header.data = holes(file.as_fd(), &stat).map_err(|errno| fault(Operation::Read, errno))?;
            blocks_of(&header, put)?;
            let digests = self.content(file.as_fd(), &stat, &header, put)?;
            if header.data.is_none() {
                packed.entry.digests = digests;
            } else {
                packed.stored = digests;
            }
        } else {
            blocks_of(&header, put)?;
        }
        if item.group > 0 {
            *leader = Some(Leader {
                group: item.group,
                path: item.path.clone(),
                inode: stat.id,
                facts: entry::facts(&packed.entry),
                content: (stat.size, packed.entry.digests.clone(), packed.stored.clone()),
            });
        }
        Ok(Seen { packed, is_link: false })
    }

    /// Reads the data of a file, all of it at the offsets that its header says.
    fn content(
        &mut self,
        file: BorrowedFd<'_>,
        stat: &Stat,
        header: &Header,
        put: &mut Put<'_>,
    ) -> Result<Vec<Digest>, Stopped> {
        let whole = [Stretch {
            offset: 0,
            length: stat.size,
        }];
        let stretches = header.data.as_deref().unwrap_or(&whole);
        // Whether it ends where it is said to.
        let mut ends = false;
        let read = (|| -> Result<(), Stopped> {
            for stretch in stretches {
                let mut done = 0;
                while done < stretch.length {
                    let most = (stretch.length - done).min(BUFFER_BYTES as u64);
                    let want = self.desk.pace.piece(most);
                    self.desk.may_read(want)?;
                    let (at, enough) = (stretch.offset + done, usize::try_from(want).unwrap_or(BUFFER_BYTES));
                    let is_last = at + want == stat.size && stat.size < LARGEST;
                    // One byte more tells without another call whether there is more.
                    let piece = &mut self.buffer[..enough + usize::from(is_last)];
                    let got = sys::read_enough_at(file, piece, enough, at);
                    let got = got.map_err(|errno| fault(Operation::Read, errno))?;
                    if got < enough {
                        return Err(Fault::size(Side::Source, stat.size, at + got as u64).into());
                    }
                    if got > enough {
                        return Err(Fault::size(Side::Source, stat.size, stat.size + 1).into());
                    }
                    ends |= is_last;
                    self.digest.update(&piece[..enough]);
                    put(&piece[..enough])?;
                    done += want;
                }
            }
            Ok(())
        })();
        // Whatever came of it: the next file begins anew.
        let digests = self.digest.finish();
        read?;
        put(&tar::END[..tar::padding(header.stored())])?;
        let more = match ends
            .then_some(0)
            .map_or_else(|| sys::read_full_at(file, &mut [0], stat.size), Ok)
        {
            // No offset reaches further.
            Err(Errno::INVAL) if stat.size >= LARGEST => 0,
            read => read.map_err(|errno| fault(Operation::Read, errno))?,
        };
        let after = sys::stat_fd(file).map_err(|errno| fault(Operation::Stat, errno))?;
        if (after.size, after.mtime, after.ctime) != (stat.size, stat.mtime, stat.ctime) {
            return Err(Fault::changed(Operation::Read).into());
        }
        if more > 0 {
            return Err(Fault::size(Side::Source, stat.size, stat.size + 1).into());
        }
        Ok(digests)
    }
}

/// What an entry is that is no further link.
fn what(kind: Kind, (at, name): (BorrowedFd<'_>, &CStr), stat: &Stat) -> Result<What, Fault> {
    let device = || sys::device_numbers(stat.rdev);
    Ok(match kind {
        Kind::Directory => What::Directory,
        Kind::Symlink => {
            let text = sys::read_link(at, name).map_err(|errno| match errno {
                Errno::INVAL => Fault::changed(Operation::Read),
                errno => fault(Operation::Read, errno),
            })?;
            What::Symlink(text.into_bytes())
        }
        Kind::Fifo => What::Fifo,
        Kind::Block => What::Block(device().0, device().1),
        Kind::Char => What::Char(device().0, device().1),
        Kind::File | Kind::Socket | Kind::Unknown => What::File,
    })
}

/// Puts all blocks of an entry that come before its content.
fn blocks_of(header: &Header, put: &mut Put<'_>) -> Result<(), Stopped> {
    let mut blocks = Vec::with_capacity(4 * tar::BLOCK);
    tar::write(header, &mut blocks);
    put(&blocks)
}

/// Whether an entry is a further link of what came before it.
fn is_link(item: &Item, leader: Option<&Leader>) -> bool {
    item.leader.is_some() && leader.is_some_and(|leader| leader.group == item.group)
}

/// The stretches of data of a file that has holes.
fn holes(file: BorrowedFd<'_>, stat: &Stat) -> sys::Result<Option<Vec<Stretch>>> {
    if stat.allocated >= stat.size {
        return Ok(None);
    }
    let (mut data, mut at) = (Vec::new(), 0);
    while at < stat.size {
        let begin = match sys::seek_data(file, at) {
            Ok(Some(begin)) => begin.max(at),
            Ok(None) => break,
            // It has no notion of holes.
            Err(Errno::INVAL | Errno::NOTSUP) if data.is_empty() => return Ok(None),
            Err(errno) => return Err(errno),
        };
        if begin >= stat.size {
            break;
        }
        let end = if data.len() + 1 < MOST_STRETCHES {
            sys::seek_hole(file, begin)?.clamp(begin + 1, stat.size)
        } else {
            stat.size
        };
        data.push(Stretch {
            offset: begin,
            length: end - begin,
        });
        at = end;
    }
    let is_whole = matches!(data[..], [Stretch { offset: 0, length }] if length == stat.size);
    Ok((!is_whole).then_some(data))
}
