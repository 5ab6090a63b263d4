//! The archives that entries are read from: shards of a directory, or one tar file, perhaps compressed.
//!
//! Comes in: file names and places in them; goes out: headers and content. Of a compressed shard the frames are read that an
//! index knows. Where none does, as in archives of others, it is unpacked once, into a file without a name, before anything
//! of it is read; of one that is damaged, all that can be had (`salvage`). What is not as its index says is damage, and told
//! as that.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bulkhaul_formats::codec::{Damage, Format, HEAD_BYTES, Kind as Packing, recognise};
use bulkhaul_formats::digest::{Algorithm, Digest, Hashers};
use bulkhaul_formats::shards::{Line, Packed};
use bulkhaul_formats::tar::{self, BLOCK, Entry, Reader, Step, Stretch, What};
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind, OwnedFd};

use super::salvage::{Gap, salvage};
use super::tape::{Tape, damaged};
use super::words::listed;
use crate::bytes::codec::{How, Lead, Memory, Target, Tools, unpack};
use crate::bytes::output::unnamed_file;
use crate::bytes::transfer::BUFFER_BYTES;
use crate::error::{Cause, Failure, Fault, Operation, Refusal, Side, Stopped, describe};
use crate::job::desk::Desk;
use crate::job::process;
use crate::records::shards::{Directory, ShardDirectory, Shelf, Volume};
use crate::report::counters::Counters;
use crate::tree::path::{nearest, open_directory_path, show, split};

/// Archives that are open at once.
const OPEN: usize = 8;
const LOST: &str = "what is compressed there is lost";

/// What is known of a shard beside its index.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    /// The state that it came with.
    pub state: u64,
    /// Its bytes, and their digests.
    pub size: u64,
    pub digests: Vec<Digest>,
}

/// Where archives are: all that are shards there, or only the one of this name.
pub struct Place {
    /// Where they lie.
    pub shelf: Arc<dyn Shelf>,
    /// The one.
    pub only: Option<Vec<u8>>,
}

/// Finds a place that is no path of this machine.
pub type Find = Box<dyn FnOnce(&Arc<Desk>) -> Result<Place, Refusal> + Send>;

/// The name of an archive, whether it is read by its frames, and it.
type Open = (Vec<u8>, bool, Arc<Opened>);

/// All archives of a run.
pub struct Archives {
    shelf: Arc<dyn Shelf>,
    /// The shards of a place; none of one file.
    pub directory: Option<ShardDirectory>,
    /// The names of all archives, by number.
    pub names: BTreeMap<u64, Vec<u8>>,
    pub sums: BTreeMap<Vec<u8>, Sum>,
    proved: BTreeMap<Vec<u8>, bool>,
    scratch: Vec<u8>,
    /// Several archives in a row are taken for one.
    ignore_zeros: bool,
    open: Mutex<VecDeque<Open>>,
    desk: Arc<Desk>,
}

/// One of them.
pub struct Opened {
    volume: Box<dyn Volume>,
    /// Its path, for messages.
    pub path: Vec<u8>,
    /// What its frames are, where it is read by them.
    frames: Option<Format>,
    /// What is missing of one that was unpacked aside.
    gaps: Arc<[Gap]>,
    ignore_zeros: bool,
    /// All of it is as its index says.
    pub is_proved: bool,
}

fn fault(operation: Operation, errno: Errno) -> Fault {
    Fault::new(operation, Side::Source, errno)
}

/// The content of an archive that was unpacked aside, with its gaps.
struct Aside(OwnedFd, Arc<[Gap]>);

impl Volume for Aside {
    fn read_at(&self, mut buffer: &mut [u8], offset: u64) -> Result<usize, Stopped> {
        let next = self.1.partition_point(|gap| gap.to <= offset);
        if let Some(gap) = self.1.get(next) {
            let Some(before) = gap.from.checked_sub(offset).filter(|before| *before > 0) else {
                return Err(damaged(gap.from, LOST).into());
            };
            let most = usize::try_from(before).unwrap_or(usize::MAX).min(buffer.len());
            buffer = &mut buffer[..most];
        }
        let got = sys::read_full_at(self.0.as_fd(), buffer, offset);
        Ok(got.map_err(|errno| fault(Operation::Read, errno))?)
    }

    fn stretch(&self) -> usize {
        0
    }
}

/// A path of this machine.
fn here(path: &[u8]) -> Result<Place, Refusal> {
    let missing = |errno| Refusal::NoSource(format!("{}: {}", show(path), describe(errno)));
    let (at, path, only) = match open_directory_path(path, Follow::Yes) {
        Ok(at) => (at, path, None),
        Err(Errno::NOTDIR) => {
            let (above, name) = split(path);
            let at = open_directory_path(above, Follow::Yes).map_err(missing)?;
            (at, above, Some(name.to_vec()))
        }
        Err(errno) => return Err(missing(errno)),
    };
    Ok(Place {
        shelf: Arc::new(Directory::new(at, path, only.is_some())),
        only,
    })
}

impl Archives {
    /// Looks what there is.
    pub fn open(
        path: &[u8],
        find: Option<Find>,
        (scratch, ignore_zeros): (Vec<u8>, bool),
        desk: &Arc<Desk>,
    ) -> Result<Self, Refusal> {
        let Place { shelf, only } = match find {
            Some(find) => find(desk)?,
            None => here(path)?,
        };
        let mut archives = Self {
            shelf: Arc::clone(&shelf),
            directory: None,
            names: BTreeMap::new(),
            sums: BTreeMap::new(),
            proved: BTreeMap::new(),
            scratch,
            ignore_zeros,
            open: Mutex::default(),
            desk: Arc::clone(desk),
        };
        if let Some(name) = only {
            // It is there, and a file.
            if let Err(stopped) = archives.get(&name, false) {
                let failure = Failure::new(&of(stopped), path.to_vec(), Kind::File, None);
                return Err(Refusal::NoSource(failure.message));
            }
            archives.names.insert(1, name);
            return Ok(archives);
        }
        let there = ShardDirectory::of(shelf, desk)?;
        if there.shards.is_empty() && there.indexes.is_empty() {
            return Err(Refusal::NoSource(format!("{}: there are no shards in it", show(path))));
        }
        archives.names = there.shards.clone();
        for name in there.states.values().chain(there.indexes.values()) {
            let sums = &mut archives.sums;
            let read = there.lines(name, desk, |line| {
                if let Line::Shard(shard) = line {
                    let (state, size, digests) = (shard.state, shard.size, shard.digests);
                    sums.insert(shard.name, Sum { state, size, digests });
                }
                Ok(())
            });
            // An index that can't be read is made anew; what it says is told when its turn comes.
            if read.is_err() {
                desk.step();
            }
        }
        archives.directory = Some(there);
        Ok(archives)
    }

    /// The path of an archive, for messages.
    pub fn path(&self, name: &[u8]) -> Vec<u8> {
        self.shelf.path(name)
    }

    /// The archive that has an entry.
    pub fn of(&self, packed: &Packed) -> Result<Arc<Opened>, Stopped> {
        self.get(&packed.shard, packed.frame.is_some())
    }

    /// An archive by its name. `framed`: an index knows its frames.
    pub fn get(&self, name: &[u8], framed: bool) -> Result<Arc<Opened>, Stopped> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((.., opened)) = open.iter().find(|(own, by, _)| (&own[..], *by) == (name, framed)) {
            return Ok(Arc::clone(opened));
        }
        let opened = Arc::new(self.opened(name, framed)?);
        if open.len() >= OPEN {
            open.pop_front();
        }
        open.push_back((name.to_vec(), framed, Arc::clone(&opened)));
        Ok(opened)
    }

    fn opened(&self, name: &[u8], by_frames: bool) -> Result<Opened, Stopped> {
        let mut volume = self.shelf.open(name)?;
        let mut head = [0; HEAD_BYTES];
        let got = volume.read_at(&mut head, 0)?;
        let (mut frames, mut gaps) = (None, Arc::from([]));
        // The name tells what a shard is, however it begins.
        let named = [Format::Zstd, Format::Bgzf]
            .into_iter()
            .filter(|format| self.directory.is_some() && name.ends_with(format.suffix().as_bytes()));
        match named.map(Packing::Archive).next().or_else(|| recognise(&head[..got])) {
            Some(Packing::Archive(found)) if by_frames => frames = Some(found),
            Some(Packing::Archive(found)) => {
                let file;
                (file, gaps) = self.unpacked(&*volume, found)?;
                volume = Box::new(Aside(file, Arc::clone(&gaps)));
            }
            Some(Packing::Foreign(format)) => {
                return Err(Stopped::Fault(Fault {
                    operation: Operation::Read,
                    side: Side::Source,
                    cause: Cause::Foreign(Some(format)),
                }));
            }
            Some(Packing::Compressed(_)) | None => {}
        }
        Ok(Opened {
            volume,
            path: self.path(name),
            frames,
            gaps,
            ignore_zeros: self.ignore_zeros,
            is_proved: self.proved.get(name).copied().unwrap_or(false),
        })
    }

    /// A file without a name.
    fn aside(&self) -> Result<OwnedFd, Fault> {
        let made = nearest(&self.scratch).and_then(|at| unnamed_file(&at));
        made.map_err(|errno| Fault::new(Operation::Create, Side::Destination(0), errno))
    }

    /// What is elsewhere, in a file of this machine.
    fn fetched(&self, volume: &dyn Volume) -> Result<OwnedFd, Stopped> {
        let (file, mut buffer, mut at) = (self.aside()?, vec![0; volume.stretch().max(BUFFER_BYTES)], 0);
        loop {
            self.desk.may_go_on(buffer.len() as u64)?;
            let got = volume.read_at(&mut buffer, at)?;
            sys::write_all_at(file.as_fd(), &buffer[..got], at)
                .map_err(|errno| Fault::new(Operation::Write, Side::Destination(0), errno))?;
            at += got as u64;
            if got < buffer.len() {
                return Ok(file);
            }
        }
    }

    /// The content of a compressed archive, in a file without a name; where it is damaged, what there is of it.
    fn unpacked(&self, archive: &dyn Volume, format: Format) -> Result<(OwnedFd, Arc<[Gap]>), Stopped> {
        let fetched = match archive.file() {
            Some(_) => None,
            None => Some(self.fetched(archive)?),
        };
        let given = fetched.as_ref().map(OwnedFd::as_fd).or(archive.file());
        let given = given.ok_or_else(|| fault(Operation::Open, Errno::BADF))?;
        let file = self.aside()?;
        let create = |errno| Fault::new(Operation::Create, Side::Destination(0), errno);
        let target = sys::duplicate(file.as_fd()).map_err(create)?;
        let (counters, mut tools) = (Counters::default(), Tools::default());
        let lead = Lead {
            desk: &self.desk,
            counters: &counters,
            memory: &Memory::new(process::memory() / 4),
            tools: &mut tools,
            invite: &|_| {},
        };
        let how = How {
            sparse: true,
            ..How::default()
        };
        match unpack(lead, given, Target::File(target), how) {
            Err(Stopped::Fault(fault)) if matches!(fault.cause, Cause::Damaged(_) | Cause::Foreign(_)) => {
                let there = fetched.map(|fetched| Aside(fetched, Arc::from([])));
                let (file, volume) = (
                    self.aside()?,
                    there.as_ref().map_or(archive, |there| there as &dyn Volume),
                );
                match salvage(volume, format, &file, &self.desk)? {
                    Some(gaps) => Ok((file, gaps.into())),
                    None => Err(fault.into()),
                }
            }
            unpacked => unpacked.map(|_| (file, Arc::from([]))),
        }
    }

    /// Reads all shards whose sums are known, and compares them. One that differs is told; its entries are looked at one by
    /// one then.
    pub fn prove(&mut self, desk: &Desk) {
        let names: Vec<Vec<u8>> = self.names.values().cloned().collect();
        for name in names {
            let Some(sum) = self.sums.get(&name).filter(|sum| !sum.digests.is_empty()) else {
                continue;
            };
            let read = self.shelf.open(&name).and_then(|file| {
                let (mut hashers, mut at) = (Hashers::new(&[Algorithm::Blake3]), 0);
                let mut buffer = vec![0; file.stretch().max(BUFFER_BYTES)];
                loop {
                    desk.may_read(buffer.len() as u64)?;
                    let got = file.read_at(&mut buffer, at)?;
                    desk.read_less((buffer.len() - got) as u64);
                    desk.counters[0].hashed(got as u64);
                    hashers.update(&buffer[..got]);
                    at += got as u64;
                    if got < buffer.len() {
                        break;
                    }
                }
                if hashers.finish() == sum.digests && at == sum.size {
                    return Ok(());
                }
                let what = "it is not what was packed: its entries are looked at one by one".to_owned();
                Err(Stopped::Fault(Fault {
                    operation: Operation::Verify,
                    side: Side::Source,
                    cause: Cause::Unlike("mismatch", what),
                }))
            });
            match read {
                Ok(()) => drop(self.proved.insert(name, true)),
                Err(Stopped::Fault(fault)) => {
                    let path = self.path(&name);
                    desk.counters[0].found(Kind::File);
                    desk.counters[0].outcome(Kind::File, fault.outcome(), None, 0);
                    desk.fail(Failure::new(&fault, path, Kind::File, None));
                }
                Err(Stopped::Aborted) => return,
            }
        }
        // What was opened before knows nothing of that.
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Takes content, with its place in the file.
pub type Put<'p> = dyn FnMut(&[u8], u64) -> Result<(), Fault> + 'p;

/// What somebody hears who can't go on.
fn of(stopped: Stopped) -> Fault {
    match stopped {
        Stopped::Fault(fault) => fault,
        Stopped::Aborted => fault(Operation::Read, Errno::CANCELED),
    }
}

impl Opened {
    /// To read it with.
    pub fn tape(&self) -> Tape {
        Tape::new(self.frames)
    }

    /// What the archive says of an entry that an index has.
    pub fn header(&self, tape: &mut Tape, packed: &Packed) -> Result<Entry, Stopped> {
        let other = || damaged(packed.offset, "another entry is where the index has this one");
        let mut reader = Reader::default();
        reader.seek(packed.offset);
        tape.seek(packed)?;
        loop {
            let block = tape.block(&*self.volume, reader.offset())?;
            let Some(block) = block else {
                return Err(damaged(packed.offset, "it is cut short").into());
            };
            match reader.block(&block) {
                Ok(Step::More) if reader.offset() <= packed.offset.saturating_add(packed.length) => {}
                Ok(Step::Entry(entry)) if entry.end - entry.offset == packed.length => {
                    let (kind, what) = (packed.entry.kind, &entry.header.what);
                    let is_link = matches!(what, What::Link(_));
                    if !is_link && kind.is_some_and(|kind| kind != listed(what)) {
                        return Err(other().into());
                    }
                    return Ok(*entry);
                }
                Ok(_) => return Err(other().into()),
                Err(damage) => return Err(damaged(damage.offset, damage.what).into()),
            }
        }
    }

    /// Reads the content of a file, and hands it on with its place in the file. Answers its digests.
    pub fn content(
        &self,
        (tape, entry): (&mut Tape, &Entry),
        digest: &mut Hashers,
        desk: &Desk,
        put: &mut Put<'_>,
    ) -> Result<Vec<Digest>, Stopped> {
        let whole = [Stretch {
            offset: 0,
            length: entry.stored,
        }];
        let stretches = entry.header.data.as_deref().unwrap_or(&whole);
        let most = usize::try_from(entry.stored).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
        let mut buffer = vec![0; most];
        let mut read = || -> Result<(), Stopped> {
            let mut at = entry.content;
            for stretch in stretches {
                let mut done = 0;
                while done < stretch.length {
                    let want = desk.pace.piece((stretch.length - done).min(buffer.len() as u64));
                    desk.may_go_on(want)?;
                    let piece = &mut buffer[..usize::try_from(want).unwrap_or(most)];
                    let got = tape.read(&*self.volume, piece, at)?;
                    if got < piece.len() {
                        return Err(damaged(at + got as u64, "it is cut short").into());
                    }
                    digest.update(piece);
                    put(piece, stretch.offset + done)?;
                    (at, done) = (at + want, done + want);
                }
            }
            Ok(())
        };
        let result = read();
        let digests = digest.finish();
        result.map(|()| digests)
    }

    /// The first gap in some content.
    fn gap(&self, offset: u64, bytes: u64) -> Option<Gap> {
        let next = self.gaps.partition_point(|gap| gap.to <= offset);
        self.gaps.get(next).copied().filter(|gap| gap.from < offset + bytes)
    }

    /// Something follows the end of an archive.
    fn trails(
        &self,
        offset: u64,
        block: &[u8; BLOCK],
        desk: &Desk,
        mut take: impl FnMut(Result<Entry, Damage>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        if tar::is_header(block) {
            let what = "another archive begins behind the end of this one: with --ignore-zeros it is taken too";
            return take(Err(Damage { offset, what }));
        }
        let text = format!("what follows the end of the archive at byte {offset} is no archive, and is left alone");
        desk.note("trailing", || (self.path.clone(), text));
        Ok(())
    }

    /// All entries, one after the other, and what is damaged between them.
    pub fn scan(
        &self,
        desk: &Desk,
        mut take: impl FnMut(Result<Entry, Damage>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let (mut own, mut reader) = (self.tape(), Reader::default());
        let (mut some, mut ended) = (false, false);
        // All of it is wanted, though not all content.
        own.until(u64::MAX);
        while !desk.cancel.is_draining() {
            let block = own.block(&*self.volume, reader.offset());
            if let (Err(_), Some(gap)) = (&block, self.gap(reader.offset(), BLOCK as u64)) {
                let offset = gap.from;
                take(Err(Damage { offset, what: LOST }))?;
                reader.search(gap.to.next_multiple_of(BLOCK as u64));
                continue;
            }
            let block = block.map_err(|stopped| {
                Refusal::NoSource(Failure::new(&of(stopped), self.path.clone(), Kind::File, None).message)
            })?;
            let Some(block) = block else {
                // What is missing was told.
                if ended || (some && reader.is_searching()) {
                    return Ok(());
                }
                let offset = reader.offset();
                let what = if some {
                    "it ends without its end: it was cut short"
                } else {
                    "it is no tar archive"
                };
                return take(Err(Damage { offset, what }));
            };
            desk.step();
            if ended && !self.ignore_zeros && block.iter().any(|byte| *byte != 0) {
                return self.trails(reader.offset(), &block, desk, take);
            }
            match reader.block(&block) {
                Ok(Step::More) => {}
                Ok(Step::End) => ended = true,
                Ok(Step::Entry(entry)) => {
                    some = true;
                    // Where nobody knows how much is missing, its end is not where it is said to be.
                    match self
                        .gap(entry.offset, entry.end - entry.offset)
                        .filter(|gap| !gap.is_exact)
                    {
                        Some(gap) => reader.search(gap.to.next_multiple_of(BLOCK as u64)),
                        None => reader.seek(entry.end),
                    }
                    take(Ok(*entry))?;
                }
                Err(damage) => take(Err(damage))?,
            }
        }
        Ok(())
    }
}
