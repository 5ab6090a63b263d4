//! Everything that the workers of one copy share, and the pieces of work that they take.
//!
//! Nothing is done here: who takes a task is the walk, and [`crate::copy::perform`].

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bulkhaul_sys::{self as sys, AsFd as _, Follow, Identity, Kind, Stat, Time};

use crate::bytes::chunks::Chunks;
use crate::bytes::codec::{Blocks, Memory};
use crate::bytes::transfer::Terms;
use crate::bytes::ways::Methods;
use crate::copy::departure::Pass;
use crate::copy::dir::{Dir, Tries, Twinned as _, Twins};
use crate::copy::given::Given;
use crate::copy::links::Links;
use crate::copy::manifest::Manifest;
use crate::copy::memory::{Failed, Late, Restored, Surplus, Undecided, Waiting};
use crate::copy::options::Rules;
use crate::copy::target::{RootPlace, Target};
use crate::copy::ties::Ties;
use crate::copy::views::Probes;
use crate::job::desk::Desk;
use crate::pool::schedule::{Crew, Schedule};
use crate::records::pieces::{Piece, Pieces, facts, is_settled};
use crate::report::Durability;
use crate::report::conversions::Conversions;
use crate::report::counters::Counters;
use crate::tree::descriptors::Budget;
use crate::tree::path::join;
use crate::tree::staging::Stager;
use crate::walk;

/// A piece of work, beside those of the walk.
pub enum Task {
    /// Chunks of a big file that another worker has.
    Chunks(Arc<Chunks>),
    /// Blocks of one that becomes an archive, or is in one.
    Blocks(Arc<Blocks>),
    /// A symlink that was put off until its target's place is known.
    Link(Undecided),
    /// A directory whose extra entries have gone, or stay: it waited for that.
    Close(Arc<Dir>),
    /// An entry that waited for something in its way to go.
    Late(Late),
}

/// Everything that the workers of one copy share.
pub struct Run {
    /// The checked options.
    pub rules: Rules,
    /// Makes and recognises staging names.
    pub stager: Stager,
    /// What is to be done.
    pub schedule: Schedule<walk::visitor::Task<Twins, Task>>,
    /// Directories that may be open.
    pub budget: Arc<Budget>,
    /// Files that may wait for their sync at once in one worker.
    pub sync_batch: usize,
    /// Where the run is watched from.
    pub desk: Arc<Desk>,
    /// Worker threads.
    pub crew: Crew,
    /// What the kernel can copy by itself.
    pub methods: Methods,
    /// Hard links.
    pub links: Links,
    /// Symlinks that wait for the end.
    pub waiting: Waiting,
    /// What the destinations have and no source has.
    pub surplus: Surplus,
    /// What did not arrive.
    pub failed: Failed,
    /// Something of a destination had the name of a source entry: it may be that entry, seen in another way.
    pub doubtful: AtomicBool,
    /// What changed in the sources through this run itself.
    pub restored: Restored,
    /// When it began.
    pub since: Time,
    /// Where something is deleted: what tells a destination in a source.
    pub probes: Probes,
    /// What keeps directories from being renamed as a whole.
    pub ties: Ties,
    /// What it is for.
    pub pass: Pass,
    /// Whoever was asked about extra entries has agreed that sources go too.
    pub agreed: AtomicBool,
    /// One for each worker.
    pub counters: Arc<[Counters]>,
    /// The destinations.
    pub targets: Vec<Target>,
    /// Where destinations that this run makes will appear.
    pub roots: Vec<Option<RootPlace>>,
    /// Inodes of the destinations: never descended into as a source.
    pub destination_ids: Vec<Identity>,
    /// What was given as sources: nothing is written into it.
    pub given: Given,
    /// Inodes of files that the caller has open: they stay, and nothing takes their place.
    pub in_use: Vec<Identity>,
    /// The manifest of what arrives, where there is to be one.
    pub manifest: Option<Manifest>,
    /// The same of what is stored of it.
    pub stored: Option<Manifest>,
    /// What codecs may take.
    pub memory: Arc<Memory>,
    /// Sums of what became archives.
    pub conversions: Conversions,
    /// What the job has proved, and an earlier run of it, where everything is proved.
    pub pieces: Option<Pieces>,
    /// Where relative paths start.
    pub working_directory: Vec<u8>,
}

impl Run {
    /// Something of the copy's own is to be done.
    pub fn push(&self, task: Task) {
        self.schedule.push(walk::visitor::Task::Other(task));
    }

    /// A directory that was opened is to be listed.
    pub fn push_listing(&self, dir: Arc<Dir>) {
        self.schedule.push(walk::visitor::Task::List(dir));
    }

    /// Something in a destination has the name of a source entry. Before sources go, it must be shown to be another one.
    pub fn doubt(&self) {
        if self.rules.asked.remove_sources && !self.doubtful.load(Ordering::Relaxed) {
            self.doubtful.store(true, Ordering::Relaxed);
        }
    }

    /// The manifests that there are to be.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.manifest.iter().chain(&self.stored)
    }

    /// One of the manifests, where they say something of an entry of this kind: not of themselves, nor of older ones in their
    /// places.
    pub fn noting(&self, (dir, source, target): (&Dir, usize, &CStr), kind: Kind) -> Option<&Manifest> {
        let from = &dir.sources[source];
        let (at, name) = (from.slot.id(), from.scope.source_name(target));
        let manifest = self.manifests().next().filter(|manifest| manifest.has(kind));
        manifest.filter(|_| !self.manifests().any(|manifest| manifest.is_at(at, name)))
    }

    /// Whether an earlier run has proved that a destination has the content of a file, and neither was written to since.
    pub fn has_proved(&self, (dir, target): (&Dir, &CStr), stat: &Stat, (index, there): (usize, &Stat)) -> bool {
        let pieces = self.pieces.as_ref().filter(|pieces| pieces.has_earlier());
        pieces.is_some_and(|pieces| pieces.find(&proved((dir, target), stat, (index, there))).is_some())
    }

    /// A file has its name, and its content was proved. What can't be looked at is proved again by the next run.
    pub fn note_proved(&self, (dir, target): (&Dir, &CStr), stat: &Stat, index: usize) {
        let Some(pieces) = &self.pieces else { return };
        let Ok(Some(twin)) = dir.twin(index) else { return };
        let Ok(there) = sys::stat(twin.as_fd(), target, Follow::No) else {
            return;
        };
        // Who writes there changes its time of modification.
        if stat.size > 0 && is_settled(stat.ctime) && is_settled(there.mtime) {
            pieces.add(&proved((dir, target), stat, (index, &there)), &[], stat.size);
        }
    }

    /// What transfers to a destination go by.
    pub fn terms(&self, destination: usize) -> Terms<'_> {
        let rules = &self.rules;
        Terms {
            destination,
            sparse: rules.asked.sparse,
            lasting: rules.sync != Durability::None || rules.asked.verify,
            proved: rules.asked.verify,
            digests: self
                .manifests()
                .next()
                .map_or(&[], |manifest| manifest.making().algorithms()),
            crowded: self.targets[destination].is_crowded(rules.memory),
            methods: &self.methods,
            desk: &self.desk,
        }
    }

    /// What came of what was to be made in a directory of a destination, and in all of it.
    pub fn tries<'t>(&'t self, dir: &'t Dir, index: usize) -> impl Iterator<Item = &'t Tries> {
        let twin = dir.twins[index].as_ref().map(|twin| &twin.tries);
        twin.into_iter().chain([&self.targets[index].tries])
    }
}

/// That a destination has the content of a file.
fn proved((dir, target): (&Dir, &CStr), stat: &Stat, (index, there): (usize, &Stat)) -> Piece {
    let path = join(&dir.relative_path(), target.to_bytes());
    let place = [index as u64, there.id.ino].map(u64::to_le_bytes);
    Piece::new(&[&path, &facts(stat), place.as_flattened(), &facts(there)])
}
