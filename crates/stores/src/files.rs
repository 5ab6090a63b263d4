//! A store, file by file: for whoever wants one at a time, and not a job.
//!
//! Comes in: [`FilesOptions`], then keys; goes out: what is in one directory, what is known of one entry, and contents, part by
//! part. Promises are those of the stores: what is read is what the store has, or an error; what is written appears when
//! [`Writer::finish`] has answered, and not before; whoever goes away leaves nothing. Each call waits.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use bulkhaul_engine::error::{Cause, Failure, Fault, Operation, Refusal, Side, Stopped};
use bulkhaul_engine::job::desk::Cancel;
use bulkhaul_engine::{Errno, Kind};
use bytes::Bytes;

use crate::local::LocalOptions;
use crate::location::Location;
use crate::s3::Config;
use crate::session::{Session, SessionOptions};
use crate::store::{Entry, Facts, Part, Reading, Store, Summing, Writing};

/// A store that is opened.
#[derive(Clone, Default)]
pub struct FilesOptions {
    /// The URL.
    pub place: Vec<u8>,
    /// How it is reached.
    pub config: Config,
    /// Requests.
    pub session: SessionOptions,
}

/// A store.
#[derive(Clone)]
pub struct Files {
    session: Arc<Session>,
    store: Arc<dyn Store>,
}

impl Files {
    /// Checks the options; asks nothing yet.
    pub fn open(options: &FilesOptions) -> Result<Self, Refusal> {
        let place = Location::parse(&options.place)?;
        place.says(&options.config.headers)?;
        let session = Session::open(options.session, Arc::new(Cancel::default()))?;
        let store = place.open(&session, Side::Source, &options.config, &LocalOptions::default())?;
        Ok(Self { session, store })
    }

    fn failure(&self, stopped: Stopped, key: &[u8]) -> Failure {
        let fault = match stopped {
            Stopped::Fault(fault) => fault,
            Stopped::Aborted => Fault::new(Operation::Work, Side::Source, Errno::CANCELED),
        };
        Failure::new(&fault, self.store.path(key), Kind::File, None)
    }

    /// What is in a directory, whose key is empty or ends with a slash: its files, and its directories with a slash at the end.
    pub fn list(&self, directory: &[u8]) -> Result<Vec<Entry>, Failure> {
        self.store
            .directory(directory)
            .map_err(|stopped| self.failure(stopped, directory))
    }

    /// One entry; none where there is none.
    pub fn stat(&self, key: &[u8]) -> Result<Option<Entry>, Failure> {
        self.store.stat(key).map_err(|stopped| self.failure(stopped, key))
    }

    /// Begins to read one, from a byte to another, or to its end. Nothing is asked before the first part is wanted.
    pub fn read(&self, key: &[u8], from: u64, to: Option<u64>) -> Result<Reader, Failure> {
        let (ask, asked) = sync_channel(0);
        let (tell, told) = sync_channel(0);
        let (files, path) = (self.clone(), key.to_vec());
        self.thread(key, move || {
            let mut parts = None;
            while let Ok(()) = asked.recv() {
                let part = files.part(&mut parts, &path, (from, to));
                let part = part.map_err(|stopped| files.failure(stopped, &path));
                if tell.send(part).is_err() {
                    return;
                }
            }
        })?;
        Ok(Reader(Mutex::new((ask, told))))
    }

    /// Begins to write one, of any length. Nothing is sent before there is a part.
    pub fn write(&self, key: &[u8], facts: &Facts) -> Result<Writer, Failure> {
        let (ask, asked) = sync_channel(0);
        let (tell, told) = sync_channel(0);
        let (files, path, facts) = (self.clone(), key.to_vec(), facts.clone());
        self.thread(key, move || {
            let mut growing = Growing {
                files: &files,
                key: &path,
                facts: &facts,
                held: Vec::new(),
                writing: None,
                sums: Summing::new(),
            };
            while let Ok(bytes) = asked.recv() {
                let done = match bytes {
                    Some(bytes) => growing.put(bytes).map(|()| None),
                    None => growing.finish().map(Some),
                };
                let done = done.map_err(|stopped| files.failure(stopped, &path));
                let ends = done.is_err();
                if tell.send(done).is_err() || ends {
                    break;
                }
            }
            growing.leave();
        })?;
        Ok(Writer(Mutex::new((ask, told))))
    }

    fn thread(&self, key: &[u8], work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
        let thread = std::thread::Builder::new().name("bulkhaul-file".into());
        thread.spawn(work).map(drop).map_err(|error| {
            let errno = error.raw_os_error().map_or(Errno::AGAIN, Errno::from_raw_os_error);
            self.failure(Fault::new(Operation::Work, Side::Source, errno).into(), key)
        })
    }

    fn part<'s>(
        &'s self,
        parts: &mut Option<Parts<'s>>,
        key: &[u8],
        (from, to): (u64, Option<u64>),
    ) -> Result<Option<Bytes>, Stopped> {
        if parts.is_none() {
            let entry = self.store.stat(key)?;
            let entry = entry.ok_or_else(|| Fault::new(Operation::Open, Side::Source, Errno::NOENT).of_named())?;
            *parts = Some(Parts {
                reading: self.store.read(&entry)?,
                sums: Summing::new(),
                at: 0,
            });
        }
        let Some(open) = parts else { return Ok(None) };
        let entry = open.reading.entry().clone();
        let end = to.unwrap_or(u64::MAX);
        while open.at < end {
            let Some(part) = open.reading.next(self.store.part_bytes(entry.size))? else {
                // All of it came: it has to be what the store says that it is.
                let sums = std::mem::take(&mut open.sums).finish();
                let whole = sums.bytes == entry.size && sums.fit(&entry.facts.unwrap_or_default());
                open.at = end;
                if !whole {
                    let fault = Fault {
                        operation: Operation::Read,
                        side: Side::Source,
                        cause: Cause::Mismatch,
                    };
                    return Err(fault.into());
                }
                break;
            };
            open.sums.update(&part.bytes);
            let start = open.at;
            open.at += part.bytes.len() as u64;
            let cut = |byte: u64| usize::try_from(byte.clamp(start, open.at) - start).unwrap_or(0);
            let wanted = part.bytes.slice(cut(from)..cut(end.max(from)));
            if !wanted.is_empty() {
                return Ok(Some(wanted));
            }
        }
        Ok(None)
    }
}

/// An entry that is being read.
struct Parts<'s> {
    reading: Box<dyn Reading + 's>,
    sums: Summing,
    /// Bytes that came.
    at: u64,
}

/// An entry that is being written, while nobody knows how long it will be.
struct Growing<'s> {
    files: &'s Files,
    key: &'s [u8],
    facts: &'s Facts,
    /// What is no part yet.
    held: Vec<u8>,
    writing: Option<Box<dyn Writing + 's>>,
    sums: Summing,
}

impl<'s> Growing<'s> {
    fn put(&mut self, bytes: Bytes) -> Result<(), Stopped> {
        self.sums.update(&bytes);
        self.held.extend_from_slice(&bytes);
        drop(bytes);
        let part_bytes = usize::try_from(self.files.session.options.part).unwrap_or(usize::MAX);
        // The last part may be as long as all others: it is kept until it is known whether it is the last.
        while self.held.len() > part_bytes {
            let rest = self.held.split_off(part_bytes);
            let part = std::mem::replace(&mut self.held, rest);
            self.send(part, None)?;
        }
        Ok(())
    }

    fn send(&mut self, part: Vec<u8>, size: Option<u64>) -> Result<(), Stopped> {
        let writing = if let Some(writing) = &mut self.writing {
            writing
        } else {
            let store: &'s dyn Store = &*self.files.store;
            self.writing.insert(store.write(self.key, size, self.facts, true)?)
        };
        if part.is_empty() {
            return Ok(());
        }
        let session = &self.files.session;
        let lease = session.wait(session.lease(part.len() as u64))?;
        writing.put(Part {
            bytes: part.into(),
            lease,
        })
    }

    /// What comes first is the last, where it is the only one: then its size is known.
    fn finish(&mut self) -> Result<Entry, Stopped> {
        let sums = std::mem::take(&mut self.sums).finish();
        let last = std::mem::take(&mut self.held);
        self.send(last, Some(sums.bytes))?;
        let Some(writing) = self.writing.take() else {
            return Err(Fault::new(Operation::Write, Side::Source, Errno::INVAL).into());
        };
        writing.finish(&sums)
    }

    fn leave(self) {
        if let Some(writing) = self.writing {
            writing.abort();
        }
    }
}

/// A part of a content; none at its end.
type Given = Result<Option<Bytes>, Failure>;

/// What comes back of a content, part by part.
pub struct Reader(Mutex<(SyncSender<()>, Receiver<Given>)>);

impl Reader {
    /// The next part; none at its end. One call at a time.
    pub fn next(&self) -> Given {
        let line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match line.0.send(()) {
            Ok(()) => line.1.recv().unwrap_or(Ok(None)),
            Err(_) => Ok(None),
        }
    }
}

/// What becomes of a content: an entry, when it has ended.
type Grown = Result<Option<Entry>, Failure>;

/// Takes a content in, part by part. Whoever lets it go before its end leaves nothing.
pub struct Writer(Mutex<(SyncSender<Option<Bytes>>, Receiver<Grown>)>);

impl Writer {
    /// More, of any length.
    pub fn put(&self, bytes: Bytes) -> Result<(), Failure> {
        self.ask(Some(bytes)).map(drop)
    }

    /// The end: it appears, and is answered as the store has it.
    pub fn finish(&self) -> Grown {
        self.ask(None)
    }

    fn ask(&self, bytes: Option<Bytes>) -> Grown {
        let line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = || {
            let fault = Fault::new(Operation::Write, Side::Source, Errno::PIPE);
            Err(Failure::new(&fault, Vec::new(), Kind::File, None))
        };
        match line.0.send(bytes) {
            Ok(()) => line.1.recv().unwrap_or_else(|_| over()),
            Err(_) => over(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;

    fn files() -> Files {
        let session = Session::open(SessionOptions::default(), Arc::default()).unwrap();
        let store = Arc::new(Memory::new(Side::Source));
        Files { session, store }
    }

    fn content(files: &Files, from: u64, to: Option<u64>) -> Vec<u8> {
        let reader = files.read(b"k", from, to).unwrap();
        let mut all = Vec::new();
        while let Some(part) = reader.next().unwrap() {
            all.extend_from_slice(&part);
        }
        all
    }

    #[test]
    fn contents_of_any_length_come_back() {
        let part = usize::try_from(SessionOptions::default().part).unwrap();
        for length in [0, 1, part - 1, part, part + 1, 2 * part] {
            let files = files();
            let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let writer = files.write(b"k", &Facts::default()).unwrap();
            for chunk in bytes.chunks(3_000_000) {
                writer.put(Bytes::copy_from_slice(chunk)).unwrap();
            }
            assert!(files.stat(b"k").unwrap().is_none());
            assert_eq!(writer.finish().unwrap().unwrap().size, length as u64);
            assert!(content(&files, 0, None) == bytes, "{length}");
            for (from, to) in [
                (0, 1),
                (1, 5),
                (length.saturating_sub(2), length),
                (3, 3),
                (length, length + 5),
            ] {
                let wanted = &bytes[from.min(length)..to.min(length).max(from.min(length))];
                assert!(
                    content(&files, from as u64, Some(to as u64)) == wanted,
                    "{length} {from} {to}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_finished_is_not_there() {
        let files = files();
        let writer = files.write(b"k", &Facts::default()).unwrap();
        writer.put(Bytes::from_static(b"x")).unwrap();
        drop(writer);
        assert!(files.stat(b"k").unwrap().is_none());
        let reader = files.read(b"k", 0, None).unwrap();
        assert_eq!(reader.next().unwrap_err().kind, "missing");
    }
}
