//! The manifest: which files there are in trees, and the digests of their content, sorted by the bytes of their paths.
//!
//! Comes in: [`ManifestOptions`]; goes out: a [`Job`] that walks, hashes and writes the manifest, and sends an event for each
//! entry, in its order, where that is asked for. Promises: the same trees give the same bytes; the manifest appears under its
//! name when it is whole, and lists neither itself nor what the run uses; a file that changes while it is hashed, and what
//! could not be read or written down, is a failure in the report and is not in the manifest. Memory does not grow with the
//! number of entries, but for inodes of which not all links have come yet.

mod gather;

use std::collections::HashMap;
use std::sync::Arc;

use bulkhaul_formats::digest::Algorithm;
use bulkhaul_formats::manifest::{Entry, Format, Writer};
use bulkhaul_sys::{Errno, Identity, Kind, Time};

use self::gather::{Gather, Wanted};
use crate::bytes::output::Output;
use crate::entry::{Changes, Details, Outcome};
use crate::error::{Cause, Failure, Fault, Operation, Refusal, Side};
use crate::event::{EntryEvent, Event};
use crate::job::desk::{Desk, Phase};
use crate::job::resources::{Resources, Staff};
use crate::job::{Job, Work, process};
use crate::records::entry::{self, Links, kind_of};
use crate::records::sort::{SORT_BYTES, Sorted, Sorters};
use crate::report::{Durability, Report};
use crate::tree::descriptors::Budget;
use crate::tree::in_use::InUse;
use crate::tree::selection::{self, Selection};
use crate::walk::Walk;
use crate::walk::scout::{Ahead, Begin, Scout};
use crate::walk::start::{Boundary, Root, Start, check_roots, media, require_one};

/// A manifest, as asked for.
#[derive(Clone, Debug)]
pub struct ManifestOptions {
    /// What it is of; a path without a name (`.`, `..`, a slash at the end) stands for what is in it.
    pub sources: Vec<Root>,
    /// Exclude rules and their style.
    pub filter: Option<selection::Rules>,
    /// Don't enter other file systems.
    pub one_file_system: bool,
    /// Digests of each file; none: as the format has it.
    pub algorithms: Vec<Algorithm>,
    /// How it is written.
    pub format: Format,
    /// Where it goes; none: only events.
    pub output: Option<Vec<u8>>,
    /// Files and directories that the caller uses meanwhile: they are left out.
    pub in_use: Vec<Vec<u8>>,
    /// Directory for temporary files without a name, for what does not fit in memory; `None`: memory is used.
    pub spill_directory: Option<Vec<u8>>,
    /// Memory for sorting, in bytes.
    pub sort_memory: usize,
    /// Worker threads; 0: as many as serve best on the media.
    pub jobs: usize,
    /// What it may take of the machine.
    pub resources: Resources,
    /// Send an event for each entry, with its details.
    pub entry_events: bool,
}

impl Default for ManifestOptions {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            filter: None,
            one_file_system: false,
            algorithms: Vec::new(),
            format: Format::Sums,
            output: None,
            in_use: Vec::new(),
            spill_directory: None,
            sort_memory: SORT_BYTES,
            jobs: 0,
            resources: Resources::default(),
            entry_events: false,
        }
    }
}

/// The algorithms of a format where nobody says which: BLAKE3; those of hashdeep; the one that bags are to have (RFC 8493,
/// section 2.4).
fn customary(format: Format) -> Vec<Algorithm> {
    match format {
        Format::Sums | Format::SumsNul | Format::Json => vec![Algorithm::Blake3],
        Format::Hashdeep => vec![Algorithm::Sha256, Algorithm::Md5],
        Format::Bagit => vec![Algorithm::Sha512],
    }
}

/// A job that makes a manifest. Checks the options; touches nothing.
pub fn job(mut options: ManifestOptions) -> Result<Job, Refusal> {
    let process = process::process();
    let staff = Staff::of(options.jobs, process.processors)?;
    if options.algorithms.is_empty() {
        options.algorithms = customary(options.format);
    }
    // In the order of digests.
    options.algorithms.sort_unstable();
    options.algorithms.dedup();
    let writer =
        Writer::new(options.format, &options.algorithms).map_err(|why| Refusal::Usage(format!("algorithms: {why}")))?;
    let manifest = Manifest {
        staff,
        roots: check_roots(&options.sources)?,
        filter: Selection::of(options.filter.as_ref())?,
        writer,
        mode: 0o666 & !process.umask,
        options,
    };
    let resources = manifest.options.resources;
    Job::new(staff.most(), manifest).within(resources)
}

/// One manifest with its checked options.
struct Manifest {
    options: ManifestOptions,
    staff: Staff,
    roots: Vec<Root>,
    filter: Selection,
    writer: Writer,
    mode: u32,
}

/// Numbers for the links of one inode, in the order in which the first of them comes.
#[derive(Default)]
struct Groups {
    last: u64,
    /// Those that wait for other links: their number, and how many are still to come.
    open: HashMap<Identity, (u64, u32)>,
}

impl Groups {
    fn number(&mut self, Links { inode, number }: Links) -> u64 {
        let last = &mut self.last;
        let group = self.open.entry(inode).or_insert_with(|| {
            *last += 1;
            (*last, number)
        });
        group.1 -= 1;
        let (number, left) = *group;
        if left == 0 {
            self.open.remove(&inode);
        }
        number
    }
}

impl Manifest {
    fn write(
        &self,
        desk: &Desk,
        sorters: &Sorters,
        sorted: &mut Sorted,
        mut output: Option<&mut Output>,
    ) -> Result<(), Refusal> {
        let counters = &desk.counters[0];
        let (mut line, mut before, mut groups) = (Vec::new(), None, Groups::default());
        if let Some(output) = &mut output {
            self.writer.head(&mut line);
            output.write(&line)?;
        }
        while !desk.cancel.is_draining()
            && let Some((path, payload)) = sorted.next().map_err(|errno| sorters.refusal(errno))?
        {
            let (mut entry, links) = entry::decode(path, payload).ok_or_else(|| sorters.refusal(Errno::IO))?;
            let kind = kind_of(&entry);
            let size = entry.size.unwrap_or_default();
            // Two sources have this path. What is the same in all that is told stands once.
            if before.as_ref().is_some_and(|before: &Entry| before.path == entry.path) {
                if before.as_ref().is_some_and(|before| self.says_the_same(before, &entry)) {
                    counters.outcome(kind, Outcome::Listed, None, size);
                } else {
                    let fault = Fault {
                        operation: Operation::Write,
                        side: Side::Source,
                        cause: Cause::Collision(entry.path.clone()),
                    };
                    counters.outcome(kind, fault.outcome(), None, 0);
                    desk.fail(Failure::new(&fault, entry.path, kind, None));
                }
                continue;
            }
            before = Some(entry.clone());
            entry.link_group = links.map(|links| groups.number(links));
            counters.outcome(kind, Outcome::Listed, None, size);
            if let Some(output) = &mut output {
                line.clear();
                // Whoever gathered it has tried.
                let written = self.writer.entry(&entry, &mut line);
                written.map_err(|why| Refusal::Output(why.to_string()))?;
                output.write(&line)?;
            }
            if self.options.entry_events {
                desk.queue.push(Event::Entry(event(entry, kind)));
            }
        }
        Ok(())
    }

    /// Whether two entries of one path are one line.
    fn says_the_same(&self, a: &Entry, b: &Entry) -> bool {
        match self.options.format {
            Format::Json => a == b,
            Format::Sums | Format::SumsNul | Format::Hashdeep | Format::Bagit => a.digests == b.digests,
        }
    }
}

impl Work for Manifest {
    fn run(self: Box<Self>, desk: &Arc<Desk>) -> Result<Report, Refusal> {
        require_one(&self.roots)?;
        let options = &self.options;
        let (budget, most, _) = Budget::share(desk.counters.len());
        let crew = self.staff.crew(&media(&self.roots), most);
        desk.staff(crew.active());
        let output = options
            .output
            .as_ref()
            .map(|path| Output::create(path, self.mode, desk))
            .transpose()?;
        let wanted = Wanted {
            algorithms: &options.algorithms,
            writer: &self.writer,
            all_kinds: options.format == Format::Json,
            in_use: InUse::of(&options.in_use),
            output: output.as_ref().map(Output::place).transpose()?.flatten(),
        };
        desk.enter(Phase::Scanning);
        let sorters = Sorters::new(options.spill_directory.as_deref(), options.sort_memory, crew.active());
        let sorters = sorters.counted(desk.steps());
        let gather = Gather::new(desk, wanted, &sorters);
        let walk = Walk {
            filter: &self.filter,
            boundary: if options.one_file_system {
                Boundary::FileSystem
            } else {
                Boundary::None
            },
            across: &[],
            desk,
            crew: &crew,
            budget: &budget,
        };
        let scout = Scout::send(
            desk,
            Ahead {
                begin: Begin::Trees(self.roots.clone()),
                filter: options.filter.clone(),
                boundary: walk.boundary,
                passes: 1,
                to_read: Some(Box::new(|_, size| size)),
            },
        );
        walk.run(Start::Roots(&self.roots), &gather);
        drop(scout);
        let mut output = output;
        let written = gather.into_sorters().and_then(|all| {
            desk.enter(Phase::Closing);
            let mut sorted = Sorted::merge(all).map_err(|errno| sorters.refusal(errno))?;
            self.write(desk, &sorters, &mut sorted, output.as_mut())
        });
        let mut interrupted = desk.cancel.is_draining();
        match (output, &written) {
            (Some(output), Ok(())) if !interrupted => {
                let _syncing = desk.syncing();
                interrupted = !output.finish()?;
            }
            (Some(output), _) => output.discard()?,
            (None, _) => {}
        }
        written?;
        Ok(desk.report(Durability::None, desk.most_staff(), interrupted))
    }
}

fn event(entry: Entry, kind: Kind) -> EntryEvent {
    const SECOND: i128 = 1_000_000_000;
    let details = entry.mtime.map(|mtime| Details {
        size: entry.size.unwrap_or_default(),
        vague: false,
        mtime: Time {
            sec: i64::try_from(mtime.div_euclid(SECOND)).unwrap_or_default(),
            nsec: u32::try_from(mtime.rem_euclid(SECOND)).unwrap_or_default(),
        },
        mode: entry.mode.unwrap_or_default(),
        uid: entry.uid.unwrap_or_default(),
        gid: entry.gid.unwrap_or_default(),
        rdev: 0,
        xattrs: 0,
    });
    EntryEvent {
        outcome: Outcome::Listed,
        kind,
        source: entry.path.clone(),
        path: entry.path,
        destination: Vec::new(),
        bytes: 0,
        changes: Changes::default(),
        reason: None,
        target: entry.target,
        hash: None,
        digests: entry.digests,
        details,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_numbered_as_they_come_and_forgotten_when_all_have_come() {
        let links = |ino, number| Links {
            inode: Identity { dev: 1, ino },
            number,
        };
        let mut groups = Groups::default();
        let numbers: Vec<u64> = [(9, 2), (4, 3), (9, 2), (4, 3), (7, 2)]
            .into_iter()
            .map(|(ino, number)| groups.number(links(ino, number)))
            .collect();
        assert_eq!((numbers, groups.open.len()), (vec![1, 2, 1, 2, 3], 2));
    }
}
