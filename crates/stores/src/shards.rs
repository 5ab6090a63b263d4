//! Shards in a store: what `pack` makes and `unpack` reads, at a URL.
//!
//! Comes in: a URL; goes out: the engine's [`Shelf`] and [`Depot`] there. What is put is checked by the store, or read back,
//! and takes no other's place; what is read comes in the stretches that are wanted, all of the version that was found first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhaul_engine::Kind;
use bulkhaul_engine::error::{Cause, Failure, Fault, Operation, Refusal, Side, Stopped};
use bulkhaul_engine::job::Job;
use bulkhaul_engine::job::desk::Desk;
use bulkhaul_engine::pack::{self, PackOptions};
use bulkhaul_engine::records::shards::{Depot, Shelf, TAKEN, Taken, Volume};
use bulkhaul_engine::report::counters::Counters;
use bulkhaul_engine::unpack::{self, Place, UnpackOptions};
use bulkhaul_sys::{self as sys, BorrowedFd, Errno};

use crate::local::LocalOptions;
use crate::location::Location;
use crate::objects::probe_note;
use crate::s3::Config;
use crate::session::{JOBS, Session, SessionOptions};
use crate::store::{Entry, Facts, Part, Store, Summing, Sums};

/// Bytes that one request brings at most.
const STRETCH_BYTES: usize = 8 << 20;

/// How a store is reached.
#[derive(Clone, Default)]
pub struct Reach {
    /// Where it is, and who asks.
    pub config: Config,
    /// Requests.
    pub session: SessionOptions,
}

/// A job that packs to a URL. Checks the options; asks and touches nothing.
pub fn pack(options: PackOptions, reach: Reach) -> Result<Job, Refusal> {
    let place = Location::of_url(&options.destination)?;
    let find = move |desk: &Arc<Desk>| -> Result<Arc<dyn Depot>, Refusal> {
        Ok(Arc::new(Rack::open(&place, &reach, Side::Destination(0), desk)?))
    };
    pack::job_to(options, Some(Box::new(find)))
}

/// A job that unpacks what is at a URL, lists or verifies it. Checks the options; asks and touches nothing.
pub fn unpack(mut options: UnpackOptions, reach: Reach) -> Result<Job, Refusal> {
    Location::of_url(&options.archive)?;
    if options.jobs == 0 {
        options.jobs = JOBS;
    }
    let place = options.archive.clone();
    let find = move |desk: &Arc<Desk>| find(&place, &reach, desk);
    unpack::job_from(options, Some(Box::new(find)))
}

/// All shards below a URL, or the one file that it names.
fn find(text: &[u8], reach: &Reach, desk: &Arc<Desk>) -> Result<Place, Refusal> {
    if let Some((above, name)) = split(text) {
        let above = Rack::open(&Location::of_url(above)?, reach, Side::Source, desk)?;
        if matches!(above.entry(name), Ok(Some(entry)) if entry.kind == Kind::File) {
            return Ok(Place {
                only: Some(name.to_vec()),
                shelf: Arc::new(above),
            });
        }
    }
    Ok(Place {
        shelf: Arc::new(Rack::open(&Location::of_url(text)?, reach, Side::Source, desk)?),
        only: None,
    })
}

/// A URL as that of what holds it, and a name there.
fn split(url: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = url.iter().rposition(|byte| *byte == b'/')?;
    let (above, name) = (&url[..at], &url[at + 1..]);
    // What comes after the scheme is no name.
    (!name.is_empty() && !above.ends_with(b"/") && !above.ends_with(b":")).then_some((above, name))
}

/// What a store has below a URL.
struct Rack {
    session: Arc<Session>,
    store: Arc<dyn Store>,
    side: Side,
    /// What is known to be there: all that is read is of this version.
    known: Mutex<HashMap<Vec<u8>, Entry>>,
}

impl Rack {
    fn open(place: &Location, reach: &Reach, side: Side, desk: &Arc<Desk>) -> Result<Self, Refusal> {
        let session = Session::open(reach.session, Arc::clone(&desk.cancel))?;
        let store = place.open(&session, side, &reach.config, &LocalOptions::default())?;
        Ok(Self {
            session,
            store,
            side,
            known: Mutex::default(),
        })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Entry>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, name: &[u8]) -> Result<Option<Entry>, Stopped> {
        if let Some(known) = self.known().get(name) {
            return Ok(Some(known.clone()));
        }
        let found = self.store.stat(name)?;
        if let Some(found) = &found {
            self.known().insert(name.to_vec(), found.clone());
        }
        Ok(found)
    }

    /// Compares what the store has with what it was sent; what differs goes.
    fn read_back(&self, there: &Entry, sums: &Sums, desk: &Desk) -> Result<(), Stopped> {
        let (mut reading, mut back) = (self.store.read(there)?, Summing::new());
        let part_bytes = self.store.part_bytes(there.size);
        while let Some(part) = reading.next(part_bytes)? {
            desk.may_go_on(part.bytes.len() as u64)?;
            back.update(&part.bytes);
        }
        reading.close()?;
        let back = back.finish();
        if (back.bytes, &back.blake3) == (sums.bytes, &sums.blake3) {
            return Ok(());
        }
        let mut left = Ok(());
        let keys = std::slice::from_ref(&there.key);
        self.store.delete(keys, &mut |_, gone| left = gone.map(drop))?;
        left?;
        Err(Stopped::Fault(Fault {
            operation: Operation::Verify,
            side: self.side,
            cause: Cause::Unlike("mismatch", "what was read back is not what was sent".to_owned()),
        }))
    }
}

/// An object that is read.
struct Object {
    store: Arc<dyn Store>,
    entry: Entry,
}

impl Volume for Object {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Stopped> {
        let mut done = 0;
        while done < buffer.len() {
            let wanted = (buffer.len() - done).min(STRETCH_BYTES);
            let bytes = self.store.range(&self.entry, offset + done as u64, wanted as u64)?;
            buffer[done..done + bytes.len()].copy_from_slice(&bytes);
            done += bytes.len();
            if bytes.len() < wanted {
                break;
            }
        }
        Ok(done)
    }

    fn stretch(&self) -> usize {
        STRETCH_BYTES
    }
}

impl Shelf for Rack {
    fn path(&self, name: &[u8]) -> Vec<u8> {
        self.store.path(name)
    }

    fn names(&self, desk: &Desk, take: &mut dyn FnMut(&[u8])) -> Result<(), Refusal> {
        let mut all = self.store.list(desk)?;
        loop {
            match all.next() {
                Ok(Some(entry)) if entry.kind == Kind::File && !entry.key.contains(&b'/') => {
                    take(&entry.key);
                    self.known().insert(entry.key.clone(), entry);
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(stopped) => {
                    let path = self.store.path(b"");
                    let (text, passes) = match stopped {
                        Stopped::Fault(fault) => {
                            let failure = Failure::new(&fault, path, Kind::Directory, None);
                            (failure.message, failure.kind == "unavailable")
                        }
                        Stopped::Aborted => {
                            let text = format!("{}: it was told to stop", String::from_utf8_lossy(&path));
                            (text, false)
                        }
                    };
                    return Err(Refusal::of_place(self.side, text, passes));
                }
            }
        }
    }

    fn open(&self, name: &[u8]) -> Result<Box<dyn Volume>, Stopped> {
        let entry = self.entry(name)?;
        let entry = entry.ok_or_else(|| Fault::new(Operation::Open, Side::Source, Errno::NOENT))?;
        Ok(Box::new(Object {
            store: Arc::clone(&self.store),
            entry,
        }))
    }
}

impl Depot for Rack {
    fn put(
        &self,
        (name, taken): (&[u8], Taken),
        file: BorrowedFd<'_>,
        bytes: u64,
        (desk, counters): (&Desk, &Counters),
    ) -> Result<(), Stopped> {
        // Asked anew: what was found at first does not tell of others.
        if taken == Taken::Stays && self.store.stat(name)?.is_some() {
            return Err(Fault::conflict(Operation::Create, 0, TAKEN).into());
        }
        let mut writing = self
            .store
            .write(name, Some(bytes), &Facts::default(), taken == Taken::Goes)?;
        let (mut sums, mut at) = (Summing::new(), 0);
        let part_bytes = self.store.part_bytes(bytes);
        let mut send = || -> Result<(), Stopped> {
            while at < bytes {
                let wanted = part_bytes.min(bytes - at);
                desk.may_go_on(wanted)?;
                let lease = self.session.wait(self.session.lease(wanted))?;
                let mut part = vec![0; usize::try_from(wanted).unwrap_or_default()];
                let got = sys::read_full_at(file, &mut part, at)
                    .map_err(|errno| Fault::new(Operation::Read, self.side, errno))?;
                if got < part.len() {
                    return Err(Fault::size(self.side, bytes, at + got as u64).into());
                }
                sums.update(&part);
                at += wanted;
                writing.put(Part {
                    bytes: part.into(),
                    lease,
                })?;
                counters.flight.moved(wanted);
            }
            Ok(())
        };
        if let Err(stopped) = send() {
            writing.abort();
            return Err(stopped);
        }
        let sums = sums.finish();
        let there = writing.finish(&sums)?;
        let abilities = self.store.abilities();
        if abilities.probe_stays {
            desk.note("probe", || probe_note(&*self.store));
        }
        if !abilities.verifies {
            self.read_back(&there, &sums, desk)?;
            counters.verified(bytes, 0);
        }
        self.known().insert(name.to_vec(), there);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;

    /// A store in memory, behind the default of everything that a store may do better.
    fn rack() -> Rack {
        Rack {
            session: Session::open(SessionOptions::default(), Arc::default()).unwrap(),
            store: Arc::new(Memory::new(Side::Source)),
            side: Side::Source,
            known: Mutex::default(),
        }
    }

    #[test]
    fn urls_are_split_behind_their_scheme() {
        for (url, parts) in [
            ("s3://b/x/y.tar", Some(("s3://b/x", "y.tar"))),
            ("s3://b/y.tar", Some(("s3://b", "y.tar"))),
            ("s3://b", None),
            ("s3://b/x/", None),
            ("rclone:r:x", None),
        ] {
            let parts = parts.map(|(above, name): (&str, &str)| (above.as_bytes(), name.as_bytes()));
            assert_eq!(split(url.as_bytes()), parts, "{url}");
        }
    }

    #[test]
    fn stretches_are_what_is_there() {
        let (rack, desk) = (rack(), Desk::new(1));
        let length = 2 * usize::try_from(crate::session::PART_BYTES).unwrap() + 5;
        let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
        let put = |taken| {
            rack.put(
                (b"k", taken),
                sys::AsFd::as_fd(&file),
                length as u64,
                (&desk, &desk.counters[0]),
            )
        };
        assert!(put(Taken::Stays).is_ok());
        // Nothing is written over.
        assert!(matches!(
            put(Taken::Stays),
            Err(Stopped::Fault(Fault {
                cause: Cause::Conflict(TAKEN),
                ..
            }))
        ));
        let volume = rack.open(b"k").map_err(drop).unwrap();
        for (from, wanted) in [
            (0, 1),
            (0, length + 9),
            (5, 100),
            (length - 2, 9),
            (length, 4),
            (length + 7, 4),
        ] {
            let mut buffer = vec![0; wanted];
            let got = volume.read_at(&mut buffer, from as u64).map_err(drop).unwrap();
            let end = length.min(from + wanted);
            assert_eq!(
                &buffer[..got],
                &bytes[from.min(length)..end.max(from.min(length))],
                "{from} {wanted}"
            );
        }
        assert!(put(Taken::Goes).is_ok());
        assert!(rack.open(b"other").is_err());
    }
}
