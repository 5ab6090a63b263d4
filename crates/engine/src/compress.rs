//! Compression in place, and back: files become archives beside themselves and go, or archives their content.
//!
//! Comes in: [`CompressOptions`] or [`DecompressOptions`]; goes out: a [`Job`]. Each file is read once, by a codec and a
//! digest at once, and what is made of it is written under a name that nobody takes for it, synced, read back from the
//! medium and compared with the digest; then it gets owner, mode, attributes, ACLs and times of the file, and its name,
//! which nothing else may have; then all that is synced, and the file goes, if it is still what was read. Whatever has the
//! name already is compared by its content: the same lets the file go, anything else is a conflict, and both stay.
//!
//! Killed at any moment it leaves the file, or what was proved, or both, and what dead runs left unfinished goes with the
//! next one. Symlinks, special files and files with several names are left alone. A big file is worked on by all who have
//! nothing else to do; memory is bounded.

mod index;
mod make;
pub mod options;
mod order;
mod replace;
mod visit;
mod worker;

use std::collections::HashSet;
use std::ffi::CStr;
use std::sync::{Arc, Mutex};

use bulkhaul_formats::lists::names::FileList;
use bulkhaul_sys::{self as sys, AsFd as _, Follow, Kind, Way};

use self::options::{CompressOptions, DecompressOptions, Deed, Rules};
use self::order::Order;
use self::worker::{Directory, Run};
use crate::bytes::codec::Memory;
use crate::bytes::stream::{Stream, name_of};
use crate::error::{Cause, Failure, Fault, Operation, Refusal, Side, describe};
use crate::job::desk::{Desk, Phase};
use crate::job::{Job, Work, process};
use crate::pool::schedule::Schedule;
use crate::records::ordered::Ordered;
use crate::report::conversions::Conversions;
use crate::report::{Durability, Report};
use crate::tree::descriptors::{Budget, Slot};
use crate::tree::in_use::InUse;
use crate::tree::listing::Batch;
use crate::tree::path::{c_string, open_directory_path, show, split, trim};
use crate::tree::staging::Stager;
use crate::walk::Walk;
use crate::walk::arguments::Arguments;
use crate::walk::node::{Node, Origin, Source, Sources};
use crate::walk::scope::Scope;
use crate::walk::scout::{Ahead, Begin, Scout, ToRead};
use crate::walk::start::{Boundary, Start, media, require_one};
use crate::walk::visitor::Task;

/// A job that compresses. Checks the options; touches nothing.
pub fn compression(options: CompressOptions) -> Result<Job, Refusal> {
    job(options.check(&process::process())?)
}

/// A job that decompresses, or only reads. Checks the options; touches nothing.
pub fn decompression(options: DecompressOptions) -> Result<Job, Refusal> {
    job(options.check(&process::process())?)
}

fn job(rules: Rules) -> Result<Job, Refusal> {
    let resources = rules.asked.resources;
    let (most, rules) = (rules.staff.most(), Arc::new(rules));
    Job::new(most, Replacement { rules }).within(resources)
}

/// One run with its checked options.
struct Replacement {
    rules: Arc<Rules>,
}

impl Work for Replacement {
    fn run(self: Box<Self>, desk: &Arc<Desk>) -> Result<Report, Refusal> {
        let rules = &*self.rules;
        let asked = &rules.asked;
        require_one(&rules.roots)?;
        let arguments = Arc::new(Arguments::distinct(&rules.roots));
        let list = asked.files_from.as_ref();
        let list = list.map(|from| from.read(&rules.roots[0].path, desk).map(Arc::new));
        let list = list.transpose()?;
        let output = match &rules.deed {
            Deed::Print(path) => {
                require_file(&rules.roots[0].path)?;
                Some(Arc::new(stream(path)?))
            }
            Deed::Pack { .. } | Deed::Unpack { .. } | Deed::Test => None,
        };
        // How many workers share the rest is known when their media are.
        let (budget, _, sets) = Budget::share(1);
        let most = sets.min(desk.counters.len());
        let memory = Memory::new(rules.memory);
        let crew = rules
            .staff
            .crew(&media(&rules.roots), self.within_memory(&memory, most, desk));
        desk.staff(crew.active());
        desk.enter(Phase::Scanning);
        let schedule = Schedule::new(crew.most());
        let run = Run {
            desk,
            rules,
            schedule: &schedule,
            memory,
            stager: Stager::new(),
            in_use: InUse::of(&asked.in_use),
            arguments: &arguments,
            order: Order::default(),
            conversions: Conversions::default(),
            output,
            directories: (sets / crew.most()).max(1),
            cleared: Mutex::new(HashSet::new()),
            written: Mutex::default(),
        };
        let walk = Walk {
            filter: &rules.filter,
            boundary: Boundary::of(self.rules.asked.one_file_system),
            across: &[],
            desk,
            crew: &crew,
            budget: &budget,
        };
        let ordered =
            (asked.dry_run && asked.entry_events).then(|| Ordered::hold(desk, asked.spill_directory.as_deref()));
        let scout = Scout::send(desk, self.ahead(list.as_ref(), &arguments));
        match &list {
            None => walk.run_on(Start::Roots(arguments.roots()), &schedule, &run),
            Some(list) => {
                let top = self.listed(list, &budget)?;
                desk.counters[0].found(Kind::Directory);
                tell_outside(desk, list);
                desk.unlisted();
                schedule.push(Task::List(Arc::new(top)));
                walk.resume(&schedule, &run);
            }
        }
        loop {
            let round = run.order.round();
            if round.is_empty() {
                break;
            }
            for (node, name) in round {
                let mut batch = Batch::default();
                batch.push(&name, Kind::File);
                schedule.push(Task::Entries(node, 0, batch));
            }
            walk.resume(&schedule, &run);
        }
        drop(scout);
        desk.enter(Phase::Closing);
        replace::sync_all(&run);
        if let Some(ordered) = ordered {
            ordered.release(desk);
        }
        let conversions = run.conversions.into_sums();
        let sync = match rules.deed {
            Deed::Pack { .. } | Deed::Unpack { .. } => Durability::All,
            Deed::Test | Deed::Print(_) => Durability::None,
        };
        let report = desk.report(sync, desk.most_staff(), desk.cancel.is_draining());
        Ok(Report { conversions, ..report })
    }
}

impl Replacement {
    /// How many workers the memory is enough for, of `most`.
    fn within_memory(&self, memory: &Memory, most: usize, desk: &Desk) -> usize {
        let Deed::Pack { codec, .. } = &self.rules.deed else {
            return most;
        };
        most.min(memory.enough_for(self.rules.staff.steady(most), codec.memory(), desk))
    }

    /// What it has to do with. Its time goes with the bytes that are read of files.
    fn ahead(&self, list: Option<&Arc<FileList>>, arguments: &Arc<Arguments>) -> Ahead {
        let roots = &self.rules.roots;
        Ahead {
            begin: match list {
                Some(list) => Begin::Listed(roots[0].path.clone(), Arc::clone(list)),
                None => Begin::Distinct(Arc::clone(arguments)),
            },
            filter: self.rules.asked.filter.clone(),
            boundary: Boundary::of(self.rules.asked.one_file_system),
            passes: 1,
            to_read: Some(self.to_read()),
        }
    }

    /// Bytes that are read of a file of this name and size: it, and what is made of it, taken for a quarter or four times as
    /// much.
    fn to_read(&self) -> ToRead {
        let rules = Arc::clone(&self.rules);
        Box::new(move |name: &CStr, size: u64| {
            if size < rules.asked.min_size || rules.choose(name, false).is_none() {
                return 0;
            }
            match rules.deed {
                Deed::Pack { twice, .. } => size
                    .saturating_add(size / 4)
                    .saturating_add(if twice { size } else { 0 }),
                Deed::Unpack { .. } => size.saturating_mul(5),
                Deed::Test | Deed::Print(_) => size,
            }
        })
    }

    /// The directory that the names of a list are below.
    fn listed(&self, list: &Arc<FileList>, budget: &Arc<Budget>) -> Result<Node<Directory>, Refusal> {
        let path = trim(&self.rules.roots[0].path);
        let refuse = |errno| Refusal::NoSource(format!("{}: {}", show(path), describe(errno)));
        let fd = open_directory_path(path, Follow::Yes).map_err(refuse)?;
        let stat = sys::stat_fd(fd.as_fd()).map_err(refuse)?;
        let source = Source {
            slot: Slot::new(fd, stat.id, budget),
            device: stat.id.dev,
            mount: 0,
            stat,
            scope: Scope::Listed(Arc::clone(list), list.root()),
            origin: Origin::Path(path.to_vec()),
        };
        Ok(Node::top(Sources::from(source), Directory::default(), true))
    }
}

/// Names of a list that are not below its directory: nobody can have them.
fn tell_outside(desk: &Desk, list: &FileList) {
    for path in list.outside() {
        let fault = Fault {
            operation: Operation::Open,
            side: Side::Source,
            cause: Cause::Outside("it leaves the directory"),
        };
        desk.counters[0].found(Kind::File);
        desk.counters[0].outcome(Kind::File, fault.outcome(), None, 0);
        desk.fail(Failure::new(&fault, path.clone(), Kind::File, None));
    }
}

/// A stream for content. What a file has by its name would be written over in part.
fn stream(path: &[u8]) -> Result<Stream, Refusal> {
    let refuse = |why: &str| Refusal::Output(format!("{} can't be written into: {why}", name_of(path)));
    let stream = Stream::open(path, Way::Out).map_err(|errno| refuse(&describe(errno)))?;
    match stream.into_file() {
        Ok(_file) => Err(refuse("it is a file; redirect standard output")),
        Err(stream) => Ok(stream),
    }
}

/// Refuses what is no file: the content of one goes to a stream.
fn require_file(path: &[u8]) -> Result<(), Refusal> {
    let (above, name) = split(path);
    let looked = open_directory_path(above, Follow::Yes).and_then(|at| {
        let name = c_string(if name.is_empty() { b"." } else { name })?;
        sys::stat(at.as_fd(), &name, Follow::No)
    });
    match looked {
        Ok(stat) if stat.kind == Kind::File => Ok(()),
        Ok(_) => Err(Refusal::Usage(format!(
            "{}: it is no file, and output takes the content of one",
            show(path)
        ))),
        Err(errno) => Err(Refusal::NoSource(format!("{}: {}", show(path), describe(errno)))),
    }
}
