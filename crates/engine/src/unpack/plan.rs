//! What there is to unpack.
//!
//! Comes in: indexes, or archives where there are none, and the paths that are wanted; goes out: the entries that count
//! (`names`). A lost or damaged index is made anew from its shard, with a note.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bulkhaul_formats::filter::{Filter, Style};
use bulkhaul_formats::manifest::Kind as Listed;
use bulkhaul_formats::shards::{Line, Packed};
use bulkhaul_formats::tar::{Entry, Header, What};
use bulkhaul_sys::{Errno, Kind};

use super::archive::Archives;
use super::names::{Counting, Names, Place};
use super::words::{inside, listed};
use crate::entry::Outcome;
use crate::error::{Cause, Failure, Fault, Operation, Refusal, Side, Stopped};
use crate::job::desk::Desk;
use crate::records::entry::kind_of;
use crate::records::sort::Sorters;
use crate::tree::path::{self, show, split, trim};

const THE_TARGET: &str = "it is no directory, and has the name of the target";

/// Which paths are wanted.
pub struct Chosen(Vec<(Vec<u8>, Filter, AtomicBool)>);

impl Chosen {
    /// Those with all that is in them; none given: all.
    pub fn of(only: &[Vec<u8>]) -> Result<Self, Refusal> {
        let mut all = Vec::new();
        for wanted in only {
            path::check(wanted)?;
            let clean = trim(wanted.strip_prefix(b"./").unwrap_or(wanted));
            let is_pattern = clean.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['));
            // A pattern without a slash is one for names, wherever they are.
            let rule = if is_pattern && !clean.contains(&b'/') {
                clean.to_vec()
            } else {
                [b"/", clean].concat()
            };
            let filter = Filter::parse(Style::Rsync, &[rule]);
            let filter = filter.map_err(|why| Refusal::Usage(format!("{}: {why}", show(wanted))))?;
            all.push((clean.to_vec(), filter, AtomicBool::new(false)));
        }
        Ok(Self(all))
    }

    fn takes(&self, path: &[u8], is_directory: bool) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let mut taken = false;
        for (own, filter, seen) in &self.0 {
            // Whatever letters it has, it means itself.
            if path
                .strip_prefix(&own[..])
                .is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
            {
                seen.store(true, Relaxed);
                taken = true;
                continue;
            }
            let (mut at, mut directory) = (path, is_directory);
            loop {
                let (parent, name) = split(at);
                if !name.is_empty() && filter.excludes(parent, name, directory) {
                    seen.store(true, Relaxed);
                    taken = true;
                    break;
                }
                if parent.is_empty() {
                    break;
                }
                (at, directory) = (parent, true);
            }
        }
        taken
    }

    fn missing(&self) -> impl Iterator<Item = &[u8]> {
        let missing = self.0.iter().filter(|(.., seen)| !seen.load(Relaxed));
        missing.map(|(path, ..)| &path[..])
    }
}

/// The first name of a file of which more may come.
struct Leader {
    group: u64,
    file: Place,
}

struct Gather<'g> {
    desk: &'g Desk,
    chosen: &'g Chosen,
    names: Names<'g>,
    leader: Option<Leader>,
}

impl Gather<'_> {
    fn failed(&self, path: Vec<u8>, kind: Kind, fault: &Fault) {
        let counters = &self.desk.counters[0];
        counters.found(kind);
        counters.outcome(kind, fault.outcome(), None, 0);
        self.desk.fail(Failure::new(fault, path, kind, None));
    }

    /// An entry of an index, or of an archive that has none: with its header.
    fn entry(
        &mut self,
        (state, number): (u64, u64),
        mut packed: Packed,
        header: Option<&Header>,
    ) -> Result<(), Refusal> {
        let is_directory = packed.entry.kind == Some(Listed::Directory);
        let path = match inside(&packed.entry.path) {
            Ok(path) if path.is_empty() && !is_directory => Err(Fault::conflict(Operation::Create, 0, THE_TARGET)),
            other => other,
        };
        let path = match path {
            Ok(path) => path,
            Err(fault) => {
                self.failed(packed.entry.path.clone(), kind_of(&packed.entry), &fault);
                return Ok(());
            }
        };
        packed.entry.path = path;
        let taken = self.chosen.takes(&packed.entry.path, is_directory);
        let order = [state, number, packed.offset];
        let link = header.and_then(|header| match &header.what {
            What::Link(first) => Some(inside(first)),
            _ => None,
        });
        match (link, packed.entry.link_group, &self.leader) {
            (Some(_), ..) if !taken => Ok(()),
            // One that leads out is refused when it has its turn.
            (Some(Err(_)), ..) => self.names.entry(order, packed, taken),
            (Some(Ok(first)), ..) => self.names.link_to(order, packed, &first),
            (None, Some(group), Some(leader)) if leader.group == group => {
                let file = leader.file;
                if taken {
                    self.names.link(order, packed, file)
                } else {
                    Ok(())
                }
            }
            (None, group, _) => {
                self.leader = group.map(|group| Leader {
                    group,
                    file: Place::of(&packed),
                });
                // Where there is no index, further names of it may be wanted.
                if taken || header.is_some() {
                    self.names.entry(order, packed, taken)
                } else {
                    Ok(())
                }
            }
        }
    }

    /// An entry as an archive has it.
    fn scanned(&mut self, place: (u64, u64), name: &[u8], entry: &Entry) -> Result<(), Refusal> {
        let header = &entry.header;
        let mut packed = Packed {
            shard: name.to_vec(),
            offset: entry.offset,
            length: entry.end - entry.offset,
            ..Packed::default()
        };
        packed.entry.path.clone_from(&header.path);
        packed.entry.kind = Some(listed(&header.what));
        packed.entry.size = Some(header.size);
        packed.entry.mtime = Some(header.mtime);
        packed.entry.mode = Some(header.mode);
        packed.entry.uid = u32::try_from(header.uid).ok();
        packed.entry.gid = u32::try_from(header.gid).ok();
        if let What::Symlink(text) | What::Link(text) = &header.what {
            packed.entry.target = Some(text.clone());
        }
        self.entry(place, packed, Some(header))
    }

    /// All of an archive, entry by entry.
    fn scan(&mut self, archives: &Archives, place: (u64, u64), name: &[u8]) -> Result<(), Refusal> {
        let path = archives.path(name);
        let opened = match archives.get(name, false) {
            Ok(opened) => opened,
            Err(Stopped::Aborted) => return Ok(()),
            Err(Stopped::Fault(fault)) => {
                self.failed(path, Kind::File, &fault);
                return Ok(());
            }
        };
        let desk = self.desk;
        opened.scan(desk, |found| match found {
            Ok(entry) => self.scanned(place, name, &entry),
            Err(damage) => {
                let fault = Fault {
                    operation: Operation::Read,
                    side: Side::Source,
                    cause: Cause::Damaged(damage),
                };
                self.failed(path.clone(), Kind::File, &fault);
                Ok(())
            }
        })
    }

    /// The index of a shard. False: it is not whole.
    fn index(&mut self, archives: &Archives, (state, number): (u64, u64)) -> Result<bool, Refusal> {
        let Some(directory) = &archives.directory else {
            return Ok(false);
        };
        let Some(name) = directory.indexes.get(&number) else {
            return Ok(false);
        };
        // It is read twice: half of it is worth nothing.
        let mut is_whole = false;
        let look = directory.lines(name, self.desk, |line| {
            is_whole = matches!(line, Line::Shard(_));
            Ok(())
        });
        if look.is_err() || !is_whole {
            return Ok(false);
        }
        self.leader = None;
        directory.lines(name, self.desk, |line| match line {
            Line::Entry(packed) => self.entry((state, number), *packed, None),
            Line::Shard(_) | Line::State(..) | Line::Removed(_) => Ok(()),
        })?;
        Ok(true)
    }
}

/// What there is to unpack. `by_spelling`: what some file system takes for one path comes together.
pub fn plan(
    archives: &Archives,
    (chosen, by_spelling): (&Chosen, bool),
    sorters: &Sorters,
    desk: &Desk,
) -> Result<Counting, Refusal> {
    let mut gather = Gather {
        desk,
        chosen,
        names: Names::new(sorters),
        leader: None,
    };
    let mut numbers: Vec<u64> = archives.names.keys().copied().collect();
    if let Some(directory) = &archives.directory {
        numbers.extend(directory.indexes.keys());
        for (state, name) in &directory.states {
            directory.lines(name, desk, |line| match line {
                Line::Removed(path) => gather.names.gone(&path, *state),
                Line::Entry(_) | Line::Shard(_) | Line::State(..) => Ok(()),
            })?;
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    for number in numbers {
        let name = archives.names.get(&number);
        let state = name.and_then(|name| archives.sums.get(name)).map_or(1, |sum| sum.state);
        if gather.index(archives, (state, number))? {
            continue;
        }
        let Some(name) = name else { continue };
        if archives.directory.is_some() {
            let text = "its index is not there, or damaged: it was made anew from the shard".to_owned();
            desk.note("index-lost", || (archives.path(name), text));
        }
        gather.scan(archives, (state, number), name)?;
    }
    let counting = gather.names.count(by_spelling, desk)?;
    for missing in chosen.missing() {
        let fault = Fault {
            operation: Operation::Stat,
            side: Side::Source,
            cause: Cause::Missing(Errno::NOENT),
        };
        let counters = &desk.counters[0];
        counters.found(Kind::File);
        counters.outcome(Kind::File, Outcome::Failed, None, 0);
        desk.fail(Failure::new(
            &fault,
            missing.to_vec(),
            Kind::File,
            Some("the archive has no such entry"),
        ));
    }
    Ok(counting)
}
