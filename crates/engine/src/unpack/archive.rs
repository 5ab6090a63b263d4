//! The archives that entries are read from: shards of a directory, or one tar file, perhaps compressed.
//!
//! Comes in: file names and places in them; goes out: headers and content. A compressed archive is unpacked once, into a file
//! without a name, before anything of it is read. What is not as its index says is damage, and told as that.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bulkhaul_formats::codec::{Damage, HEAD_BYTES, Kind as Packing, recognise};
use bulkhaul_formats::digest::{Algorithm, Digest, Hashers};
use bulkhaul_formats::shards::{Line, Packed};
use bulkhaul_formats::tar::{self, Entry, Reader, Step, Stretch};
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind, OwnedFd};

use super::words::listed;
use crate::bytes::codec::{How, Lead, Memory, Target, Tools, unpack};
use crate::bytes::output::unnamed_file;
use crate::bytes::transfer::BUFFER_BYTES;
use crate::error::{Cause, Failure, Fault, Operation, Refusal, Side, Stopped, describe};
use crate::job::desk::Desk;
use crate::job::process;
use crate::records::shards::ShardDirectory;
use crate::report::counters::Counters;
use crate::tree::path::{c_string, join, nearest, open_directory_path, show, split};

/// Archives that are open at once.
const OPEN: usize = 8;
/// Bytes of headers that are read at once.
const WINDOW_BYTES: usize = 64 * 1024;

/// What is known of a shard beside its index.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    /// The state that it came with.
    pub state: u64,
    /// Its bytes, and their digests.
    pub size: u64,
    pub digests: Vec<Digest>,
}

/// All archives of a run.
pub struct Archives {
    /// Where they are.
    at: OwnedFd,
    path: Vec<u8>,
    /// The shards of a directory; none of a file.
    pub directory: Option<ShardDirectory>,
    /// The names of all archives, by number.
    pub names: BTreeMap<u64, Vec<u8>>,
    pub sums: BTreeMap<Vec<u8>, Sum>,
    proved: BTreeMap<Vec<u8>, bool>,
    scratch: Vec<u8>,
    open: Mutex<VecDeque<(Vec<u8>, Arc<Opened>)>>,
    desk: Arc<Desk>,
}

/// One of them.
pub struct Opened {
    file: OwnedFd,
    path: Vec<u8>,
    /// All of it is as its index says.
    pub is_proved: bool,
}

fn fault(operation: Operation, errno: Errno) -> Fault {
    Fault::new(operation, Side::Source, errno)
}

fn damaged(offset: u64, what: &'static str) -> Fault {
    Fault {
        operation: Operation::Read,
        side: Side::Source,
        cause: Cause::Damaged(Damage { offset, what }),
    }
}

impl Archives {
    /// Looks what there is.
    pub fn open(path: &[u8], scratch: Vec<u8>, desk: &Arc<Desk>) -> Result<Self, Refusal> {
        let missing = |errno| Refusal::NoSource(format!("{}: {}", show(path), describe(errno)));
        let mut archives = Self {
            at: open_directory_path(b".", Follow::Yes).map_err(missing)?,
            path: Vec::new(),
            directory: None,
            names: BTreeMap::new(),
            sums: BTreeMap::new(),
            proved: BTreeMap::new(),
            scratch,
            open: Mutex::default(),
            desk: Arc::clone(desk),
        };
        match open_directory_path(path, Follow::Yes) {
            Ok(at) => {
                let there = ShardDirectory::open(path, desk)?.ok_or_else(|| missing(Errno::NOENT))?;
                if there.shards.is_empty() && there.indexes.is_empty() {
                    return Err(Refusal::NoSource(format!("{}: there are no shards in it", show(path))));
                }
                (archives.at, archives.path) = (at, path.to_vec());
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
            }
            Err(Errno::NOTDIR) => {
                let (above, name) = split(path);
                archives.at = open_directory_path(above, Follow::Yes).map_err(missing)?;
                archives.path = above.to_vec();
                archives.names.insert(1, name.to_vec());
                // It is there, and a file.
                archives.get(name).map_err(|fault| {
                    let failure = Failure::new(&fault, path.to_vec(), Kind::File, None);
                    Refusal::NoSource(failure.message)
                })?;
            }
            Err(errno) => return Err(missing(errno)),
        }
        Ok(archives)
    }

    /// Where they are, for messages.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// An archive by its name.
    pub fn get(&self, name: &[u8]) -> Result<Arc<Opened>, Fault> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, opened)) = open.iter().find(|(own, _)| own == name) {
            return Ok(Arc::clone(opened));
        }
        let opened = Arc::new(self.opened(name)?);
        if open.len() >= OPEN {
            open.pop_front();
        }
        open.push_back((name.to_vec(), Arc::clone(&opened)));
        Ok(opened)
    }

    fn raw(&self, name: &[u8]) -> Result<OwnedFd, Fault> {
        let name = c_string(name).map_err(|errno| fault(Operation::Open, errno))?;
        // Who names a file may name it by a link; what lies among shards is none.
        let file = match self.directory {
            Some(_) => sys::open_file(self.at.as_fd(), &name),
            None => sys::open_stream(self.at.as_fd(), &name, sys::Way::In),
        };
        let file = file.map_err(|errno| fault(Operation::Open, errno))?;
        let stat = sys::stat_fd(file.as_fd()).map_err(|errno| fault(Operation::Stat, errno))?;
        if stat.kind != Kind::File {
            return Err(damaged(0, "it is no regular file"));
        }
        Ok(file)
    }

    fn opened(&self, name: &[u8]) -> Result<Opened, Fault> {
        let mut file = self.raw(name)?;
        let mut head = [0; HEAD_BYTES];
        let got = sys::read_full_at(file.as_fd(), &mut head, 0).map_err(|errno| fault(Operation::Read, errno))?;
        match recognise(&head[..got]) {
            Some(Packing::Archive(_)) => file = self.unpacked(&file)?,
            Some(Packing::Foreign(format)) => {
                return Err(Fault {
                    operation: Operation::Read,
                    side: Side::Source,
                    cause: Cause::Foreign(Some(format)),
                });
            }
            Some(Packing::Compressed(_)) | None => {}
        }
        Ok(Opened {
            file,
            path: join(&self.path, name),
            is_proved: self.proved.get(name).copied().unwrap_or(false),
        })
    }

    /// The content of a compressed archive, in a file without a name.
    fn unpacked(&self, archive: &OwnedFd) -> Result<OwnedFd, Fault> {
        let side = Side::Destination(0);
        let made = nearest(&self.scratch).and_then(|at| unnamed_file(&at));
        let file = made.map_err(|errno| Fault::new(Operation::Create, side, errno))?;
        let target = sys::duplicate(file.as_fd()).map_err(|errno| Fault::new(Operation::Create, side, errno))?;
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
        match unpack(lead, archive.as_fd(), Target::File(target), how) {
            Ok(_) => Ok(file),
            Err(Stopped::Fault(fault)) => Err(fault),
            Err(Stopped::Aborted) => Err(fault(Operation::Read, Errno::INTR)),
        }
    }

    /// Reads all shards whose sums are known, and compares them. One that differs is told; its entries are looked at one by
    /// one then.
    pub fn prove(&mut self, desk: &Desk) {
        let mut buffer = vec![0; BUFFER_BYTES];
        let names: Vec<Vec<u8>> = self.names.values().cloned().collect();
        for name in names {
            let Some(sum) = self.sums.get(&name).filter(|sum| !sum.digests.is_empty()) else {
                continue;
            };
            let read = self.raw(&name).map_err(Stopped::from).and_then(|file| {
                let (mut hashers, mut at) = (Hashers::new(&[Algorithm::Blake3]), 0);
                loop {
                    desk.may_read(buffer.len() as u64)?;
                    let got = sys::read_full_at(file.as_fd(), &mut buffer, at)
                        .map_err(|errno| fault(Operation::Read, errno))?;
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
                    let path = join(&self.path, &name);
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

/// Reads blocks ahead.
struct Window<'w> {
    file: &'w OwnedFd,
    bytes: Vec<u8>,
    at: u64,
}

impl Window<'_> {
    /// The block at a place; nothing: the archive ends before it does.
    fn block(&mut self, offset: u64) -> Result<Option<[u8; tar::BLOCK]>, Fault> {
        let end = self.at + self.bytes.len() as u64;
        if offset < self.at || offset + tar::BLOCK as u64 > end {
            self.bytes.resize(WINDOW_BYTES, 0);
            let got = sys::read_full_at(self.file.as_fd(), &mut self.bytes, offset)
                .map_err(|errno| fault(Operation::Read, errno))?;
            self.bytes.truncate(got);
            self.at = offset;
        }
        let from = usize::try_from(offset - self.at).unwrap_or(usize::MAX);
        Ok(self.bytes.get(from..).and_then(|rest| rest.first_chunk()).copied())
    }
}

impl Opened {
    fn window(&self) -> Window<'_> {
        Window {
            file: &self.file,
            bytes: Vec::new(),
            at: 0,
        }
    }

    /// What the archive says of an entry that an index has.
    pub fn header(&self, packed: &Packed) -> Result<Entry, Fault> {
        let (mut window, mut reader) = (self.window(), Reader::default());
        reader.seek(packed.offset);
        loop {
            let block = window.block(reader.offset())?;
            let Some(block) = block else {
                return Err(damaged(packed.offset, "it is cut short"));
            };
            match reader.block(&block) {
                Ok(Step::More) if reader.offset() <= packed.offset.saturating_add(packed.length) => {}
                Ok(Step::Entry(entry)) if entry.end - entry.offset == packed.length => {
                    let kind = packed.entry.kind;
                    if kind.is_some_and(|kind| kind != listed(&entry.header.what)) && packed.entry.link_group.is_none()
                    {
                        return Err(damaged(packed.offset, "another entry is where the index has this one"));
                    }
                    return Ok(*entry);
                }
                Ok(_) => return Err(damaged(packed.offset, "another entry is where the index has this one")),
                Err(damage) => return Err(damaged(damage.offset, damage.what)),
            }
        }
    }

    /// Reads the content of a file, and hands it on with its place in the file. Answers its digests.
    pub fn content(
        &self,
        entry: &Entry,
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
                    let got = sys::read_full_at(self.file.as_fd(), piece, at)
                        .map_err(|errno| fault(Operation::Read, errno))?;
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

    /// All entries, one after the other, and what is damaged between them.
    pub fn scan(
        &self,
        desk: &Desk,
        mut take: impl FnMut(Result<Entry, Damage>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let (mut window, mut reader) = (self.window(), Reader::default());
        let mut some = false;
        while !desk.cancel.is_draining() {
            let block = window.block(reader.offset());
            let block = block.map_err(|fault| {
                Refusal::NoSource(Failure::new(&fault, self.path.clone(), Kind::File, None).message)
            })?;
            let Some(block) = block else {
                let offset = reader.offset();
                let what = if some {
                    "it ends without its end: it was cut short"
                } else {
                    "it is no tar archive"
                };
                return take(Err(Damage { offset, what }));
            };
            desk.step();
            match reader.block(&block) {
                Ok(Step::More) => {}
                Ok(Step::End) => return Ok(()),
                Ok(Step::Entry(entry)) => {
                    some = true;
                    reader.seek(entry.end);
                    take(Ok(*entry))?;
                }
                Err(damage) => take(Err(damage))?,
            }
        }
        Ok(())
    }
}
