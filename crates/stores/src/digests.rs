//! Digests of what a store has: what `manifest` and `verify` are about, at a URL.
//!
//! Comes in: a URL; goes out: the engine's [`Ground`] there. A content is read whole and of one version, in parts of which so
//! many wait as memory was given for; no sum that somebody kept is taken for it.

use std::sync::Arc;

use bulkhaul_engine::Kind;
use bulkhaul_engine::entry::{Outcome, Reason};
use bulkhaul_engine::error::{Cause, Failure, Fault, Operation, Refusal, Side, Stopped};
use bulkhaul_engine::job::Job;
use bulkhaul_engine::job::desk::Desk;
use bulkhaul_engine::manifest::{self, ManifestOptions};
use bulkhaul_engine::records::ground::{Ground, Sight, Taker};
use bulkhaul_engine::report::counters::Counters;
use bulkhaul_engine::tree::selection::Selection;
use bulkhaul_engine::tree::times::nanoseconds;
use bulkhaul_engine::verify::{self, VerifyOptions};
use bulkhaul_formats::digest::Hashers;
use bulkhaul_formats::manifest::{Entry as Line, Kind as Listed, inside};
use bulkhaul_sys::Time;

use crate::local::LocalOptions;
use crate::location::Location;
use crate::lone::Lone;
use crate::session::Session;
use crate::shards::Reach;
use crate::store::{Entry, Store as _};

/// A job that makes a manifest of what is below a URL, the one source. Checks the options; asks nothing yet.
pub fn manifest(mut options: ManifestOptions, reach: Reach) -> Result<Job, Refusal> {
    let [source] = &options.sources[..] else {
        return Err(Refusal::Usage("sources: one URL at a time".into()));
    };
    if options.update.is_some() {
        return Err(Refusal::Usage("update: of a URL all is read".into()));
    }
    let place = Location::of_url(&source.path)?;
    if options.jobs == 0 {
        options.jobs = place.jobs();
    }
    manifest::job_of(options, Some(Box::new(move |desk| open(&place, &reach, desk))))
}

/// A job that verifies what is below a URL, the directory. Checks the options; asks nothing yet.
pub fn verify(mut options: VerifyOptions, reach: Reach) -> Result<Job, Refusal> {
    let place = Location::of_url(options.directory.as_deref().unwrap_or_default())?;
    if options.jobs == 0 {
        options.jobs = place.jobs();
    }
    verify::job_of(options, Some(Box::new(move |desk| open(&place, &reach, desk))))
}

fn open(place: &Location, reach: &Reach, desk: &Arc<Desk>) -> Result<Box<dyn Ground>, Refusal> {
    let session = Session::open(reach.session, Arc::clone(&desk.cancel))?;
    let store = Lone::open((place, &reach.config), None, &session, &LocalOptions::default())?;
    Ok(Box::new(Kept(store)))
}

/// What a store keeps.
struct Kept(Arc<Lone>);

/// What can be said of an entry by its path: that has no place for some names.
fn sight_of(entry: &Entry) -> Result<Sight, Fault> {
    let path = entry.path();
    // A path stands for a key only where that comes out of it again.
    let same = inside(path).is_ok_and(|inside| inside == path);
    let marks = entry.key.ends_with(b"/") == (entry.kind == Kind::Directory);
    if same && marks {
        return Ok(Sight {
            path: path.to_vec(),
            kind: entry.kind,
            size: entry.size,
            version: entry.tag.clone(),
            failed: entry.failed,
        });
    }
    let what = "no path of a manifest stands for this name: it has empty parts, '.', '..' or NUL, or ends with a slash";
    Err(Fault {
        operation: Operation::List,
        side: Side::Source,
        cause: Cause::Answered("name", what.to_owned()),
    })
}

impl Ground for Kept {
    fn name(&self, path: &[u8]) -> Vec<u8> {
        self.0.path(path)
    }

    fn keeps(&self, kind: Kind) -> bool {
        kind == Kind::File || (kind == Kind::Directory && self.0.abilities().directories)
    }

    fn find(&self, desk: &Desk, filter: &Selection, take: Taker<'_>) -> Result<(), Refusal> {
        let counters = &desk.counters[0];
        let mut listing = self.0.list(desk)?;
        while !desk.cancel.is_draining() {
            let entry = match listing.next() {
                Ok(Some(entry)) => entry,
                Ok(None) | Err(Stopped::Aborted) => return Ok(()),
                Err(Stopped::Fault(fault)) => {
                    desk.fail(Failure::new(&fault, self.0.path(b""), Kind::Directory, None));
                    // What is missing may be what was not told.
                    return take(Sight {
                        path: Vec::new(),
                        kind: Kind::Directory,
                        size: 0,
                        version: Vec::new(),
                        failed: true,
                    });
                }
            };
            let path = entry.path();
            if filter.excludes_path(path, entry.kind) {
                counters.excluded();
                continue;
            }
            if path.is_empty() && entry.kind == Kind::Directory {
                // What marks the root.
                continue;
            }
            counters.found(entry.kind);
            if entry.kind == Kind::File {
                counters.sized(entry.size, entry.size);
            }
            if !self.keeps(entry.kind) {
                counters.outcome(entry.kind, Outcome::Skipped, Some(Reason::NotAFile), 0);
                continue;
            }
            match sight_of(&entry) {
                Ok(sight) => take(sight)?,
                Err(fault) => {
                    counters.outcome(entry.kind, Outcome::Failed, None::<Reason>, 0);
                    desk.fail(Failure::new(&fault, self.0.path(&entry.key), entry.kind, None));
                }
            }
        }
        Ok(())
    }

    fn look(&self, path: &[u8]) -> Option<(Kind, u64)> {
        let entry = self.0.stat(path).ok().flatten()?;
        Some((entry.kind, entry.size))
    }

    fn read(
        &self,
        sight: &Sight,
        hashers: &mut Hashers,
        (desk, counters): (&Desk, &Counters),
    ) -> Result<Line, Stopped> {
        let _reading = desk.reading();
        let read = self.content(sight, hashers, (desk, counters));
        // Whatever came of it: the next one begins anew.
        let digests = hashers.finish();
        Ok(Line { digests, ..read? })
    }
}

impl Kept {
    /// Reads a content into the hashers; answers what else is known of it.
    fn content(
        &self,
        sight: &Sight,
        hashers: &mut Hashers,
        (desk, counters): (&Desk, &Counters),
    ) -> Result<Line, Stopped> {
        let mut reading = self.0.read(&Entry {
            key: sight.path.clone(),
            kind: Kind::File,
            size: sight.size,
            written: Time::default(),
            tag: sight.version.clone(),
            facts: None,
            failed: false,
        })?;
        let (part_bytes, mut bytes) = (self.0.part_bytes(sight.size), 0);
        while let Some(part) = reading.next(part_bytes)? {
            desk.may_read(part.bytes.len() as u64)?;
            hashers.update(&part.bytes);
            counters.hashed(part.bytes.len() as u64);
            bytes += part.bytes.len() as u64;
        }
        let entry = reading.entry().clone();
        reading.close()?;
        if bytes != sight.size {
            return Err(Fault::size(Side::Source, sight.size, bytes).into());
        }
        let facts = entry.facts.clone().unwrap_or_default();
        let changed = entry.changed().filter(|time| *time != Time::default());
        let owners = facts.uid.zip(facts.gid);
        Ok(Line {
            kind: Some(Listed::File),
            size: Some(bytes),
            mtime: changed.map(nanoseconds),
            mode: facts.mode,
            uid: owners.map(|(uid, _)| uid),
            gid: owners.map(|(_, gid)| gid),
            ..Line::default()
        })
    }
}
