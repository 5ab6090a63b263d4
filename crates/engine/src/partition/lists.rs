//! Where the lists of parts go: files that are named by a template and a number, or one file that has all of them.
//!
//! Comes in: parts, one after the other, and their entries; goes out: each list under its name when it is whole, and an event
//! for it. Promises: lists of another run are never taken for those of this one. They are refused, or, where they are to be
//! replaced, removed before the first list of this run has its name.

use std::ffi::{CStr, CString};
use std::sync::Arc;

use bulkhaul_formats::lists::parts::{Listed, Writer};
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Identity, OwnedFd};

use super::pack::{Load, MOST_PARTS};
use super::record::Record;
use crate::bytes::output::Output;
use crate::entry::Outcome;
use crate::error::{Refusal, describe};
use crate::event::Event;
use crate::job::desk::Desk;
use crate::records::entry::listed_kind;
use crate::report::{PARTS_KEPT, Part, Parts};
use crate::tree::listing::{each, find_name};
use crate::tree::path::{join, open_directory_path, show, split};

/// Where lists go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nowhere: parts are only told.
    Nowhere,
    /// Each into a file of its own: this path, a dot, and the number.
    Template(Vec<u8>),
    /// All into one file.
    One(Vec<u8>),
}

/// The directory that lists lie in, and what their names begin with.
pub struct Place {
    directory: OwnedFd,
    id: Identity,
    stem: Vec<u8>,
}

impl Place {
    /// Of a template.
    fn of(template: &[u8]) -> sys::Result<Self> {
        let (above, stem) = split(template);
        let directory = open_directory_path(above, Follow::Yes)?;
        let id = sys::stat_fd(directory.as_fd())?.id;
        Ok(Self {
            directory,
            id,
            stem: stem.to_vec(),
        })
    }

    /// Whether a name in a directory is that of a list.
    pub fn has(&self, directory: Identity, name: &[u8]) -> bool {
        directory == self.id && self.is_list(name)
    }

    fn is_list(&self, name: &[u8]) -> bool {
        let number = name
            .strip_prefix(&self.stem[..])
            .and_then(|rest| rest.strip_prefix(b"."));
        number.is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
    }

    /// A list that is there.
    fn old(&self) -> sys::Result<Option<CString>> {
        find_name(&self.directory, |name: &CStr| self.is_list(name.to_bytes()))
    }

    /// Removes all lists that are there.
    fn clear(&self, desk: &Desk) -> sys::Result<()> {
        let listing = sys::open_directory(self.directory.as_fd(), c".", Follow::No)?;
        let mut names = Vec::new();
        each(
            listing.as_fd(),
            || desk.step(),
            |name, _| {
                if self.is_list(name.to_bytes()) {
                    names.push(name.to_owned());
                }
            },
        )?;
        for name in names {
            match sys::unlink(self.directory.as_fd(), &name) {
                Ok(()) | Err(Errno::NOENT) => desk.step(),
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

/// What all lists of a run have in common.
pub struct Lists {
    desk: Arc<Desk>,
    target: Target,
    place: Option<Arc<Place>>,
    /// The one list.
    one: Option<Output>,
    writer: Writer,
    /// What an entry costs, in bytes.
    cost: u64,
    /// No list of another run is there any more.
    cleared: bool,
    /// Parts that were begun.
    begun: u64,
    /// Those that are whole.
    parts: Parts,
}

/// A part whose list is being written.
pub struct OpenPart {
    number: u64,
    output: Option<Output>,
    path: Vec<u8>,
}

impl OpenPart {
    /// Gives a part up, because the run ends.
    pub fn give_up(self) -> Result<(), Refusal> {
        self.output.map_or(Ok(()), Output::discard)
    }
}

impl Lists {
    /// Looks at the place. Refuses one that can't be written, and lists that are there and are not to be replaced.
    pub fn open(
        desk: &Arc<Desk>,
        target: Target,
        replace: bool,
        (writer, cost): (Writer, u64),
    ) -> Result<Self, Refusal> {
        let (mut place, mut one) = (None, None);
        match &target {
            Target::Nowhere => {}
            Target::One(path) => one = Some(Output::create(path, desk)?),
            Target::Template(template) => {
                let failed = |errno| Refusal::List(format!("{}: {}", show(template), describe(errno)));
                // Whether a file can be made there is told now.
                Output::create(&named(template, 1), desk)?.discard()?;
                let found = Place::of(template).map_err(failed)?;
                if let Some(old) = found.old().map_err(failed)?
                    && !replace
                {
                    let old = join(split(template).0, old.to_bytes());
                    return Err(Refusal::List(format!(
                        "{}: a list of parts is there already, which somebody might take for one of this run; replace removes such lists",
                        show(&old)
                    )));
                }
                place = Some(Arc::new(found));
            }
        }
        Ok(Self {
            desk: Arc::clone(desk),
            target,
            place,
            one,
            writer,
            cost,
            cleared: !replace,
            begun: 0,
            parts: Parts::default(),
        })
    }

    /// Where lists lie by name.
    pub fn place(&self) -> Option<Arc<Place>> {
        self.place.clone()
    }

    /// Begins the next part.
    pub fn begin(&mut self) -> Result<OpenPart, Refusal> {
        self.begun += 1;
        let number = self.begun;
        if number > MOST_PARTS {
            return Err(Refusal::Output(format!("there would be more than {MOST_PARTS} parts")));
        }
        let (mut path, mut output) = (Vec::new(), None);
        if let Target::Template(template) = &self.target {
            path = named(template, number);
            if !self.cleared
                && let Some(place) = &self.place
            {
                let failed = |errno| {
                    let template = show(template);
                    Refusal::Output(format!(
                        "{template}: the lists that are there can't be removed: {}",
                        describe(errno)
                    ))
                };
                place.clear(&self.desk).map_err(failed)?;
                self.cleared = true;
            }
            output = Some(Output::create(&path, &self.desk)?);
        }
        Ok(OpenPart { number, output, path })
    }

    /// Adds an entry, and gives it its outcome where it has none. `range`: bytes of the ranges of a file that is to be split.
    pub fn write(
        &mut self,
        part: &mut OpenPart,
        (name, record): (&[u8], Record),
        range: Option<u64>,
        line: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let listed = Listed {
            path: name,
            kind: listed_kind(record.kind),
            size: record.bytes,
            link_group: (record.group > 0).then_some(record.group),
            range,
            unreadable: record.unreadable,
        };
        line.clear();
        self.writer.entry(part.number, &listed, line);
        match (&mut part.output, &mut self.one) {
            (Some(output), _) | (None, Some(output)) => output.write(line)?,
            (None, None) => {}
        }
        if !record.unreadable {
            self.desk.counters[0].outcome(record.kind, Outcome::Listed, None, record.bytes);
        }
        Ok(())
    }

    /// A part is whole: its list gets its name, and whoever reads the events is told. `load`: what is in it.
    pub fn end(&mut self, part: OpenPart, load: Load, split: u64) -> Result<(), Refusal> {
        let OpenPart { number, output, path } = part;
        if let Some(output) = output {
            let _syncing = self.desk.syncing();
            output.finish()?;
        }
        let cost = u64::try_from(load.cost(self.cost)).unwrap_or(u64::MAX);
        let part = Part {
            number,
            path,
            entries: load.entries,
            bytes: load.bytes,
            cost,
            split,
        };
        let parts = &mut self.parts;
        parts.number += 1;
        parts.entries += part.entries;
        parts.bytes = parts.bytes.saturating_add(part.bytes);
        parts.cost = parts.cost.saturating_add(part.cost);
        parts.split += part.split;
        if parts.first.len() < PARTS_KEPT {
            parts.first.push(part.clone());
        }
        self.desk.queue.push(Event::Part(part));
        Ok(())
    }

    /// The run has ended; `whole`: with all parts. Answers what became of the parts.
    pub fn close(mut self, whole: bool) -> Result<Parts, Refusal> {
        if let Some(one) = self.one.take() {
            if whole {
                let _syncing = self.desk.syncing();
                one.finish()?;
            } else {
                one.discard()?;
            }
        }
        Ok(self.parts)
    }
}

/// The name of a list.
fn named(template: &[u8], number: u64) -> Vec<u8> {
    [template, format!(".{number}").as_bytes()].concat()
}
