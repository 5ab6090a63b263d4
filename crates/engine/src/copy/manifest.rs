//! The manifest of a copy: what is in the destination now, by the digests of what the sources gave.
//!
//! Comes in: how it is made, and from the recorder each entry that arrived, with its digests; goes out: the manifest, which
//! appears under its name when it is whole and the copy is done. Promises: every entry that arrived has a line, counted on
//! both sides, or the run is not complete; the manifest does not list itself, nor an older one whose place it takes.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bulkhaul_formats::digest::Digest;
use bulkhaul_formats::manifest::Entry;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Identity, Kind};

use crate::bytes::output::Output;
use crate::copy::entry::Original;
use crate::copy::options::{ManifestTo, Rules};
use crate::error::{Fault, Refusal};
use crate::job::desk::Desk;
use crate::records::entry::Found;
use crate::records::intake::Intake;
use crate::records::manifest::{Making, Told};
use crate::records::sort::Sorters;
use crate::tree::path::{c_string, open_directory_path, show, split, trim};

/// Inodes with several links whose digests are kept: of others each name is read.
const DIGESTS_KEPT: usize = 1 << 16;

/// A manifest that is being made.
pub struct Manifest {
    to: ManifestTo,
    making: Making,
    sorters: Sorters,
    intake: Intake,
    output: Mutex<Option<Output>>,
    /// Where it will be, by its directory and its name there, where that is known already.
    place: Option<(Identity, CString)>,
    /// Of inodes with several links.
    known: Mutex<HashMap<Original, Vec<Digest>>>,
    /// Entries that arrived and have to be in it.
    due: AtomicU64,
}

impl Manifest {
    /// Looks whether it can be written. In a directory that this copy makes nobody can tell before.
    pub fn begin(to: &ManifestTo, rules: &Rules, desk: &Arc<Desk>) -> Result<Self, Refusal> {
        let making = Making::new(to.format, &to.algorithms)?;
        let output = match Output::create(&to.path, desk) {
            Ok(output) => Some(output),
            Err(_) if is_to_come(to, rules) => None,
            Err(refusal) => return Err(refusal),
        };
        let place = output.as_ref().map(Output::place).transpose()?.flatten();
        let sorters = Sorters::new(rules.asked.spill_directory.as_deref(), to.sort_memory, 1).counted(desk.steps());
        Ok(Self {
            to: to.clone(),
            making,
            intake: Intake::new(&sorters),
            sorters,
            output: Mutex::new(output),
            place,
            known: Mutex::default(),
            due: AtomicU64::new(0),
        })
    }

    /// How it is made.
    pub fn making(&self) -> &Making {
        &self.making
    }

    /// Whether a name in a directory is its own.
    pub fn is_at(&self, directory: Identity, name: &CStr) -> bool {
        let is_one = |(at, own): &(Identity, CString)| *at == directory && **own == *name;
        self.place.as_ref().is_some_and(is_one)
    }

    /// Whether it will be in a directory, of which the times then change.
    pub fn is_in(&self, directory: Identity) -> bool {
        self.place.as_ref().is_some_and(|(at, _)| *at == directory)
    }

    /// Whether it says something of entries of this kind.
    pub fn has(&self, kind: Kind) -> bool {
        kind == Kind::File || self.making.has_all_kinds()
    }

    /// The digests of an inode that has several links, where another name of it was read.
    pub fn known(&self, of: Original) -> Option<Vec<Digest>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&of).cloned()
    }

    /// Remembers them for its other names.
    pub fn remember(&self, of: Original, digests: &[Digest]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < DIGESTS_KEPT {
            known.insert(of, digests.to_vec());
        }
    }

    /// An entry arrived at a path and has to be in it: what was found out of it, where somebody did. The fault is that the
    /// form can't write it.
    pub fn note(&self, path: Vec<u8>, found: Option<Found>) -> Result<(), Fault> {
        let mut payload = Vec::new();
        let found = found.map(|(entry, links)| {
            let found = (Entry { path, ..entry }, links);
            self.making.record(&found, false, &mut payload).map(|()| found.0.path)
        });
        let key = found.transpose()?;
        self.due.fetch_add(1, Ordering::Relaxed);
        if let Some(key) = key {
            let mut sorter = self.intake.take_up();
            // Where there is no room for it, the copy goes on, and there is no manifest in the end.
            let _kept = self.intake.push(&mut sorter, (&key, &payload));
            self.intake.put_down(sorter);
        }
        Ok(())
    }

    /// The copy is over: writes the manifest, unless that was interrupted. False: it is not there, or not whole, and that was
    /// said.
    pub fn finish(self, desk: &Arc<Desk>, interrupted: bool) -> bool {
        let to = &self.to;
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner).take();
        let output = match output {
            None if interrupted => return false,
            None => Self::late(to, desk),
            Some(output) => Ok(output),
        };
        match output.and_then(|output| self.write(desk, output, interrupted)) {
            Ok(written) => written,
            Err(refusal) => {
                let why = format!("there is no manifest: {refusal}");
                desk.lose("manifest", || (self.to.path.clone(), why));
                false
            }
        }
    }

    /// In a directory that this copy has made.
    fn late(to: &ManifestTo, desk: &Arc<Desk>) -> Result<Output, Refusal> {
        let (directory, name) = split(&to.path);
        let look = || {
            let at = open_directory_path(directory, Follow::Yes)?;
            sys::stat(at.as_fd(), &c_string(name)?, Follow::No)
        };
        if look().is_ok() {
            let path = show(&to.path);
            return Err(Refusal::Output(format!(
                "{path}: the copy has brought something of that name"
            )));
        }
        Output::create(&to.path, desk)
    }

    /// False: it was stopped.
    fn write(&self, desk: &Arc<Desk>, mut output: Output, interrupted: bool) -> Result<bool, Refusal> {
        if interrupted {
            return output.discard().map(|()| false);
        }
        let mut lines = 0;
        let mut written = self.intake.sorted().and_then(|mut sorted| {
            let sorted = (&self.sorters, &mut sorted);
            self.making.write(desk, sorted, Some(&mut output), |told| match told {
                Told::Written(_) | Told::Again(_) | Told::Settled => lines += 1,
                Told::Differs(..) => {}
            })
        });
        let stopped = desk.cancel.is_draining();
        let due = self.due.load(Ordering::Relaxed);
        if written.is_ok() && !stopped && lines != due {
            written = Err(Refusal::Output(format!(
                "{due} entries arrived, and it had {lines} of them"
            )));
        }
        if written.is_err() || stopped {
            output.discard()?;
            return written.map(|()| false);
        }
        let _syncing = desk.syncing();
        output.finish()
    }
}

/// Whether a path lies in a destination, which may not be there yet.
fn is_to_come(to: &ManifestTo, rules: &Rules) -> bool {
    let (directory, _) = split(&to.path);
    let missing = open_directory_path(directory, Follow::Yes).err() == Some(Errno::NOENT);
    let within = |path: &[u8]| {
        let rest = directory.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    missing && rules.asked.destinations.iter().any(|there| within(trim(&there.path)))
}
