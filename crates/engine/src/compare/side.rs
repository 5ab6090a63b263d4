//! One side of a comparison: a tree or a list, as records in the order of their paths.
//!
//! Comes in: roots, or the path of a list; goes out: a [`Stream`] of records that knows its own name and what of it failed.

use std::sync::Arc;

use bulkhaul_formats::lists::hpcp::{self, Facts, Form, Hash, Listed};
use bulkhaul_sys::{Errno, Kind};

use crate::compare::options::Checked;
use crate::entry::{Outcome, Reason};
use crate::error::Refusal;
use crate::job::desk::Desk;
use crate::records::facts::{FactFinder, Order, Wanted};
use crate::records::gather::Gather;
use crate::records::listfile::ListFile;
use crate::records::pieces::Pieces;
use crate::records::record::{Record, path_key};
use crate::records::sort::{Sorted, Sorter, Sorters};
use crate::tree::descriptors::Budget;
use crate::tree::path::split;
use crate::walk::Walk;
use crate::walk::start::{Boundary, Root, Start, media};

/// A side on its way: its records, and what of their paths is its own name.
pub struct Stream {
    sorted: Sorted,
    /// The name that all its paths begin with, with a slash after it, and that does not count.
    own: Vec<u8>,
    /// Key of the last record.
    last: Option<Vec<u8>>,
    /// Path of the last directory that failed: what is below it on the other side can't be compared.
    failed: Option<Vec<u8>>,
    pub(crate) entries: u64,
}

/// A record that is kept while its stream goes on.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its key without the side's own name.
    key: Vec<u8>,
    bytes: Vec<u8>,
    /// Bytes of its path that are the side's own name.
    own: usize,
}

impl Kept {
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// With its path below the side's own name.
    pub(crate) fn record(&self) -> Option<Record<'_>> {
        Record::decode(&self.bytes).map(|record| Record {
            path: record.path.get(self.own..).unwrap_or_default(),
            ..record
        })
    }

    /// The same; but what is a whole side and no directory has its own name.
    pub(crate) fn named(&self) -> Option<Record<'_>> {
        let whole = Record::decode(&self.bytes)?;
        let below = self.record()?;
        let name = if below.path.is_empty() && below.kind != Kind::Directory {
            whole.path
        } else {
            below.path
        };
        Some(Record { path: name, ..whole })
    }
}

/// Walks the trees of a side. `finished`: what the job has hashed, and the number of the side.
pub fn walk(
    checked: &Checked,
    (desk, sorters): (&Desk, &Sorters),
    (budget, most): (&Arc<Budget>, usize),
    roots: &[Root],
    (finished, side): (Option<&Pieces>, u8),
) -> Result<Stream, Refusal> {
    let options = &checked.options;
    let both = checked.both_trees();
    let told = checked.tells_changes();
    let wanted = Wanted {
        details: both || told,
        xattrs: (both && options.metadata || told) && options.xattrs,
        portable: told,
        tail: checked.tail(),
        specials: both && options.specials,
        order: Order::Paths,
    };
    let crew = checked.staff.crew(&media(roots), most);
    desk.staff(crew.active());
    let sorters = &sorters.anew(crew.active());
    let gather = Gather::new(
        desk,
        roots,
        FactFinder::new(desk, wanted).going_on(finished, side),
        sorters,
    );
    Walk {
        filter: &checked.filter,
        boundary: Boundary::of(options.one_file_system),
        across: &[],
        desk,
        crew: &crew,
        budget,
    }
    .run(Start::Roots(roots), &gather);
    let own = match roots {
        [root] if options.align && !root.contents => [split(&root.path).1, b"/"].concat(),
        _ => Vec::new(),
    };
    Ok(Stream::new(gather.sorted()?, own))
}

impl Stream {
    /// From all records of a side. `own`: its own name, see there.
    fn new(sorted: Sorted, own: Vec<u8>) -> Self {
        Self {
            sorted,
            own,
            last: None,
            failed: None,
            entries: 0,
        }
    }

    /// The same from one sorter.
    fn of(full: Sorter, own: Vec<u8>, sorters: &Sorters) -> Result<Self, Refusal> {
        let records = Sorted::merge(vec![full]).map_err(|errno| sorters.refusal(errno))?;
        Ok(Self::new(records, own))
    }

    /// The next record. A path that comes again is passed over.
    pub(crate) fn next(&mut self, desk: &Desk, sorters: &Sorters) -> Result<Option<Kept>, Refusal> {
        while let Some((key, payload)) = self.sorted.next().map_err(|errno| sorters.refusal(errno))? {
            let record = Record::decode(payload).ok_or_else(|| sorters.refusal(Errno::IO))?;
            if self.last.as_deref() == Some(key) {
                if !record.failed {
                    desk.counters[0].outcome(record.kind, Outcome::Skipped, Some(Reason::Overridden), 0);
                }
                continue;
            }
            self.last = Some(key.to_vec());
            self.entries += 1;
            let own = self.own.len();
            return Ok(Some(Kept {
                key: key.get(own..).unwrap_or_default().to_vec(),
                bytes: payload.to_vec(),
                own,
            }));
        }
        Ok(None)
    }

    /// A record of this side takes part in a verdict now.
    pub(crate) fn consumed(&mut self, kept: Option<&Kept>) {
        if let Some(record) = kept.and_then(Kept::record)
            && record.failed
            && !self.is_unknown(record.path)
        {
            self.failed = Some(record.path.to_vec());
        }
    }

    /// Whether nothing is known of this path on this side, because something above it failed.
    pub(crate) fn is_unknown(&self, path: &[u8]) -> bool {
        let Some(failed) = &self.failed else { return false };
        match path.strip_prefix(&failed[..]) {
            Some(rest) => failed.is_empty() || rest.is_empty() || rest.starts_with(b"/"),
            None => false,
        }
    }
}

/// Reads a list into a side.
pub fn read_list(
    desk: &Desk,
    sorters: &Sorters,
    path: &[u8],
    form: Option<Form>,
    align: bool,
) -> Result<Stream, Refusal> {
    let mut sorter = sorters.sorter();
    // Somebody may still be writing it.
    let resting = desk.resting();
    let Some(list) = ListFile::open(path, sorters, &desk.cancel)? else {
        return Stream::of(sorter, Vec::new(), sorters);
    };
    list.refuse_changes()?;
    let (told, own) = list.survey()?;
    drop(resting);
    let form = form.unwrap_or(told);
    let (mut key, mut payload) = (Vec::new(), Vec::new());
    list.each(|number, line| {
        let listed = hpcp::parse(line, form).map_err(|error| list.refusal(&format!("line {number}: {error}")))?;
        let Some(Listed { path, facts }) = listed else {
            return Ok(());
        };
        let (kind, hash, target) = match &facts {
            Facts::Nothing => (Kind::Unknown, None, None),
            Facts::Directory => (Kind::Directory, None, None),
            Facts::File(Hash::Xxh64(hash)) => (Kind::File, Some(*hash), None),
            Facts::File(Hash::Unknown) => (Kind::File, None, None),
            Facts::Symlink(target) => (Kind::Symlink, None, Some(&target[..])),
        };
        desk.counters[0].found(kind);
        let record = Record {
            hash,
            target,
            ..Record::new(&path, kind)
        };
        path_key(&path, &mut key);
        record.encode(&mut payload);
        sorter.push(&key, &payload).map_err(|errno| sorters.refusal(errno))
    })?;
    Stream::of(sorter, if align { own } else { Vec::new() }, sorters)
}
