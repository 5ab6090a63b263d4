//! A thread's buffers, and the recorder of what becomes of each entry.
//!
//! Comes in: a file with the directory that it lies in, and what became of it; goes out: its one outcome in the books, its
//! event, its failure, and notes of what could not be kept of it.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::sync::{Arc, Mutex, OnceLock};

use bulkhaul_formats::digest::{Algorithm, ContentDigest, Hashers};
use bulkhaul_sys::{Identity, Kind, OwnedFd, Stat};

use crate::bytes::codec::{Blocks, Lead, Memory, Tools};
use crate::bytes::ledger::Ledger;
use crate::bytes::stream::Stream;
use crate::bytes::transfer::BUFFER_BYTES;
use crate::compress::options::{Deed, Rules};
use crate::compress::order::Order;
use crate::entry::{Changes, Outcome, Reason};
use crate::error::{Failure, Fault, Side, Stopped};
use crate::event::EntryEvent;
use crate::job::desk::Desk;
use crate::pool::schedule::Schedule;
use crate::report::conversions::Conversions;
use crate::report::counters::Counters;
use crate::sweep::leftovers::Left;
use crate::tree::in_use::InUse;
use crate::tree::metadata::Scratch;
use crate::tree::path::join;
use crate::tree::staging::{Stager, Staging};
use crate::walk::arguments::Arguments;
use crate::walk::node::Node;
use crate::walk::visitor::Task;

/// What all threads of a run go by.
pub struct Run<'r> {
    /// Counters, events, and the wish to stop.
    pub desk: &'r Desk,
    /// What is asked.
    pub rules: &'r Rules,
    /// Who has nothing to do helps with a big file.
    pub schedule: &'r Schedule<Task<Directory, Arc<Blocks>>>,
    /// What codecs may take.
    pub memory: Arc<Memory>,
    /// Who makes names of what is not finished.
    pub stager: Stager,
    /// What the run itself uses.
    pub in_use: InUse,
    /// What arguments name.
    pub arguments: &'r Arguments,
    /// Which archives wait for others.
    pub order: Order<Directory>,
    /// Sums by extension.
    pub conversions: Conversions,
    /// Where content goes instead of beside its archive.
    pub output: Option<Arc<Stream>>,
    /// Directories that a thread may hold open for files that wait.
    pub directories: usize,
    /// Directories whose leftovers went, where the walk does not enter them.
    pub cleared: Mutex<HashSet<Identity>>,
    /// A directory of each device from which something went.
    pub written: Mutex<Vec<Place>>,
}

/// A directory on its way.
#[derive(Default)]
pub struct Directory {
    /// Set where it could not be listed to its end.
    pub failed: OnceLock<Outcome>,
    /// What dead runs left in it has gone, but for this.
    pub cleared: OnceLock<Left>,
}

/// What a thread has for itself.
pub struct Hand<'r> {
    /// Its part of the books.
    pub counters: &'r Counters,
    /// An encoder and a decoder.
    pub tools: Tools,
    /// For metadata.
    pub scratch: Scratch,
    /// For content.
    pub buffer: Vec<u8>,
    /// For content too.
    pub hashers: Hashers,
    /// Written, and to be proved.
    pub made: Vec<Made>,
    /// Bytes of these.
    pub made_bytes: u64,
    /// Files that came to wait since the last sync.
    pub waiting: usize,
    /// Files that have waited before that.
    pub ended: usize,
    /// Bytes that were written of these.
    pub ended_bytes: u64,
    /// The directories that are open for them.
    pub directories: usize,
    /// Proved and under their names; what they were made of is to go.
    pub named: Vec<Named>,
}

impl<'r> Hand<'r> {
    /// For one thread.
    pub fn new(counters: &'r Counters) -> Self {
        Self {
            counters,
            tools: Tools::default(),
            scratch: Scratch::default(),
            buffer: vec![0; BUFFER_BYTES],
            hashers: Hashers::new(&[Algorithm::Blake3]),
            made: Vec::new(),
            made_bytes: 0,
            waiting: 0,
            ended: 0,
            ended_bytes: 0,
            directories: 0,
            named: Vec::new(),
        }
    }

    /// Whether files wait for a sync.
    pub fn waits(&self) -> bool {
        !self.made.is_empty() || !self.named.is_empty()
    }

    /// What a codec is lent of it.
    pub fn lend<T>(&mut self, run: &Run<'_>, deed: impl FnOnce(Lead<'_>) -> T) -> T {
        let invite = |blocks: &Arc<Blocks>| {
            if run.schedule.hungry() {
                run.schedule.push(Task::Other(Arc::clone(blocks)));
            }
        };
        deed(Lead {
            desk: run.desk,
            counters: self.counters,
            memory: &run.memory,
            tools: &mut self.tools,
            invite: &invite,
        })
    }
}

/// A file, and the name that what is made of it gets beside it.
#[derive(Clone)]
pub struct Place {
    /// Its directory.
    pub node: Arc<Node<Directory>>,
    /// The same, open.
    pub at: Arc<OwnedFd>,
    /// Its name there.
    pub name: CString,
    /// The other name; empty where nothing is made.
    pub target: CString,
    /// What it is counted under.
    pub extension: Vec<u8>,
}

impl Place {
    /// The full path of the file, or of what is made of it.
    pub fn path(&self, side: Side) -> Vec<u8> {
        join(&self.node.path(), self.name_on(side).to_bytes())
    }

    /// The device that its directory is on.
    pub fn device(&self) -> u64 {
        self.node.id().dev
    }

    fn name_on(&self, side: Side) -> &CStr {
        match side {
            Side::Source => &self.name,
            Side::Destination(_) => &self.target,
        }
    }
}

/// What was written of a file, under a name that nobody takes for it.
pub struct Made {
    /// Where.
    pub place: Place,
    /// Its name for now.
    pub staging: Staging,
    /// The file that it was made of, before it was read.
    pub stat: Stat,
    /// Its own inode.
    pub id: Identity,
    /// Its bytes.
    pub size: u64,
    /// Of a big one: it has more than these until it is proved, and may be gone on with.
    pub begun: Option<Begun>,
    /// Digest of the content.
    pub content: ContentDigest,
    /// Bytes of the content.
    pub bytes: u64,
    /// The index of an archive, under a name of its own for now.
    pub index: Option<Staging>,
    /// How often the file was read for it.
    pub attempt: u32,
}

/// A big file that is not proved yet.
pub struct Begun {
    /// Open to be written into; holds the lock of its name.
    pub file: OwnedFd,
    /// What of it is there.
    pub ledger: Arc<Ledger>,
}

/// What is proved and has its name; what it was made of is to go, or stays where that was asked for.
pub struct Named {
    /// Where.
    pub place: Place,
    /// What it was made of.
    pub stat: Stat,
    /// What stays.
    pub kept: Stat,
    /// This run made it.
    pub ours: bool,
    /// What to say when it is gone.
    pub done: Done,
}

/// What became of a file.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// In a word.
    pub outcome: Outcome,
    /// Why it was skipped.
    pub reason: Option<Reason>,
    /// Its size.
    pub size: u64,
    /// Bytes of what was made of it.
    pub bytes: u64,
}

impl Done {
    /// It was left alone.
    pub fn skipped(reason: Reason, size: u64) -> Self {
        Self {
            outcome: Outcome::Skipped,
            reason: Some(reason),
            size,
            bytes: 0,
        }
    }
}

impl Run<'_> {
    /// The recorder: every entry ends here, and once.
    pub fn record(&self, hand: &mut Hand<'_>, place: &Place, kind: Kind, end: Result<Done, Stopped>) {
        match end {
            Ok(done) => {
                hand.counters.outcome(kind, done.outcome, done.reason, done.size);
                if done.outcome == Outcome::Copied {
                    self.conversions.add(&place.extension, done.size, done.bytes);
                }
                if self.rules.asked.entry_events {
                    self.tell(place, kind, &done);
                }
            }
            Err(Stopped::Fault(fault)) => self.fail(hand, place.path(fault.side), kind, &fault),
            // No outcome: the run is reported as interrupted.
            Err(Stopped::Aborted) => {}
        }
        self.tell_shortfalls(hand, place);
    }

    /// What could not be kept of the current entry, once for each kind.
    pub fn tell_shortfalls(&self, hand: &mut Hand<'_>, place: &Place) {
        for short in std::mem::take(&mut hand.scratch.shortfalls) {
            let first = || (place.path(Side::Destination(0)), short.message);
            if short.lost {
                self.desk.lose(&short.kind, first);
            } else {
                self.desk.note(&short.kind, first);
            }
        }
    }

    /// An entry that can't be had, or was not dealt with: its outcome and its failure.
    pub fn fail(&self, hand: &Hand<'_>, path: Vec<u8>, kind: Kind, fault: &Fault) {
        hand.counters.outcome(kind, fault.outcome(), None, 0);
        self.desk.fail(Failure::new(fault, path, kind, None));
    }

    /// An entry that is no file and is left alone: its outcome. `paths`: its relative one, and its full one.
    pub fn pass_by(&self, hand: &Hand<'_>, kind: Kind, reason: Reason, paths: impl FnOnce() -> (Vec<u8>, Vec<u8>)) {
        let done = Done::skipped(reason, 0);
        hand.counters.outcome(kind, done.outcome, done.reason, 0);
        if self.rules.asked.entry_events {
            let (path, source) = paths();
            self.desk.tell(event(kind, &done, path, source));
        }
    }

    fn tell(&self, place: &Place, kind: Kind, done: &Done) {
        let made = !matches!(self.rules.deed, Deed::Test | Deed::Print(_)) && done.outcome == Outcome::Copied;
        let side = if made { Side::Destination(0) } else { Side::Source };
        let path = join(&place.node.relative_path(), place.name_on(side).to_bytes());
        let mut event = event(kind, done, path, place.path(Side::Source));
        if self.rules.asked.dry_run {
            event.bytes = done.size; // what would be read: nobody knows what it becomes
        }
        if made {
            (event.destination, event.changes) = (place.path(side), Changes::NEW);
        }
        self.desk.tell(event);
    }
}

fn event(kind: Kind, done: &Done, path: Vec<u8>, source: Vec<u8>) -> EntryEvent {
    EntryEvent {
        outcome: done.outcome,
        kind,
        path,
        source,
        destination: Vec::new(),
        bytes: done.bytes,
        changes: Changes::default(),
        reason: done.reason,
        target: None,
        hash: None,
        digests: Vec::new(),
        details: None,
    }
}
