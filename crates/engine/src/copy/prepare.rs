//! Everything that is looked at before the first write: sources, destinations, and whether one lies in the other.
//!
//! Comes in: options; goes out: the root of the run with open sources and twins, or a refusal. Several sources become one
//! root directory: directories whose contents are wanted are merged, entries that were named are picked out of theirs.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::sync::{Arc, OnceLock};

use bulkhaul_formats::lists::names::FileList;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Identity, Kind, Node, OwnedFd, Stat};

use crate::bytes::stream::{NO_ENTRY, descriptor_of, is_entry};
use crate::copy::dir::{Dir, Presence, Twin, Twins, show_what_takes_renamed};
use crate::copy::given::Given;
use crate::copy::memory::Restored;
use crate::copy::options::{Collision, CopyOptions, DestinationArgument, Directories, Rules, SourceArgument};
use crate::copy::target::{RootPlace, Target, room};
use crate::copy::views::{self, Probe, Probes};
use crate::error::{Cause, Fault, Operation, Refusal, Side, cause_of, describe};
use crate::job::desk::Desk;
use crate::tree::descriptors::{Budget, Slot};
use crate::tree::metadata::{Heritage, Scratch, inherit};
use crate::tree::mounts::{Mounts, has_ancestor};
use crate::tree::path::{c_string, join, nearest, open_directory_path, show, split, trim};
use crate::tree::protection::forbidden;
use crate::tree::spelling::Arrivals;
use crate::tree::staging::Stager;
use crate::walk::node::{Origin, Source, Sources};
use crate::walk::scope::{Named, Scope};

/// A run that may begin.
pub struct Prepared {
    /// Its root.
    pub root: Arc<Dir>,
    /// The destinations.
    pub targets: Vec<Target>,
    /// Where destinations that do not exist yet will appear.
    pub roots: Vec<Option<RootPlace>>,
    /// Inodes of the destinations.
    pub destination_ids: Vec<Identity>,
    /// What was given as sources.
    pub given: Given,
    /// Where relative paths start.
    pub working_directory: Vec<u8>,
    /// Sources that can't be had, while others can.
    pub missing: Vec<(Vec<u8>, Fault)>,
    /// Names of the list that lie outside the source.
    pub outside: Vec<Vec<u8>>,
    /// Sources that a move which died had taken aside.
    pub restored: Restored,
    /// Where something is deleted: what tells a destination in a source.
    pub probes: Probes,
}

/// One source argument, found.
enum Entry {
    Contents {
        path: Vec<u8>,
        fd: OwnedFd,
        stat: Stat,
    },
    Named {
        parent: Vec<u8>,
        /// The directory that holds it, where it is none itself.
        holder: Identity,
        name: CString,
        target: CString,
        stat: Stat,
        path: Vec<u8>,
        /// The target is what the destination was called, not the source.
        renamed: bool,
    },
}

/// Looks for a source argument. `goes`: a move, which may have died before with the entry taken aside.
fn find(argument: &SourceArgument, goes: Option<(Stager, &Restored)>) -> Result<Entry, Fault> {
    let fault = |operation, errno| Fault::new(operation, Side::Source, errno);
    let path = trim(&argument.path);
    // What ends in dots has no name of its own: it stands for its contents, unless it is given a name.
    let nameless = matches!(split(path).1, b"" | b"." | b"..");
    if argument.contents || (nameless && argument.name.is_none()) {
        let fd = open_directory_path(path, Follow::Yes).map_err(|e| fault(Operation::Open, e))?;
        let stat = sys::stat_fd(fd.as_fd()).map_err(|e| fault(Operation::Stat, e))?;
        return Ok(Entry::Contents {
            path: path.to_vec(),
            fd,
            stat,
        });
    }
    let (mut parent, mut name) = {
        let (p, n) = split(path);
        (p.to_vec(), n.to_vec())
    };
    let target = argument.name.clone().unwrap_or_else(|| name.clone());
    let at = open_directory_path(&parent, Follow::Yes).map_err(|e| fault(Operation::Open, e))?;
    let holder = sys::stat_fd(at.as_fd()).map_err(|e| fault(Operation::Stat, e))?.id;
    let c_name = c_string(if name.is_empty() { b"." } else { &name }).map_err(|e| fault(Operation::Open, e))?;
    let look = || sys::stat(at.as_fd(), &c_name, Follow::No);
    let mut stat = match (look(), goes) {
        (Err(Errno::NOENT), Some((stager, restored))) => match stager.put_back(&at, &c_name) {
            Ok(true) => restored.insert(at.as_fd(), &c_name).and_then(|()| look()),
            Ok(false) => Err(Errno::NOENT),
            Err(errno) => Err(errno),
        },
        (found, _) => found,
    }
    .map_err(|e| fault(Operation::Stat, e))?;
    if nameless || (argument.follow && stat.kind == Kind::Symlink) {
        let led = sys::stat(at.as_fd(), &c_name, Follow::Yes);
        if let Ok(led) = led
            && led.kind == Kind::Directory
        {
            let real =
                std::fs::canonicalize(OsStr::from_bytes(path)).map_err(|_| fault(Operation::Open, Errno::NOENT))?;
            let real = real.into_os_string().into_vec();
            let (p, n) = split(&real);
            if n.is_empty() {
                return Err(fault(Operation::Open, Errno::INVAL));
            }
            (parent, name) = (p.to_vec(), n.to_vec());
            stat = led;
        }
    }
    if !is_entry(path) {
        return Err(Fault {
            operation: Operation::Open,
            side: Side::Source,
            cause: Cause::Conflict(NO_ENTRY),
        });
    }
    let name = c_string(&name).map_err(|e| fault(Operation::Open, e))?;
    let target = c_string(&target).map_err(|e| fault(Operation::Open, e))?;
    Ok(Entry::Named {
        parent,
        holder,
        name,
        target,
        stat,
        path: path.to_vec(),
        renamed: argument.name.is_some(),
    })
}

/// Looks at everything, then makes the destinations that are absent, where this pass `writes`.
pub fn prepare(
    names: &NameList,
    (rules, writes): (&Rules, bool),
    desk: &Desk,
    budget: &Arc<Budget>,
    stager: Stager,
) -> Result<Prepared, Refusal> {
    let options = &rules.asked;
    let mut missing = Vec::new();
    let mut entries = Vec::new();
    let restored = Restored::default();
    let goes = (options.remove_sources && writes).then_some((stager, &restored));
    for argument in &options.sources {
        match find(argument, goes) {
            Ok(entry) => entries.push(entry),
            Err(fault) => missing.push((argument.path.clone(), fault.of_named())),
        }
    }
    if entries.is_empty()
        && let Some((path, fault)) = missing.first()
    {
        let text = format!("{}: {}", show(path), cause_of(fault));
        return Err(match fault.cause {
            Cause::Conflict(_) => Refusal::Usage(text),
            _ => Refusal::NoSource(text),
        });
    }
    let mounts = Mounts::read();
    let mut opened = Vec::new();
    for argument in &options.destinations {
        opened.push(Opened::look(argument, options)?);
    }
    for destination in &opened {
        for entry in &entries {
            let allow_nested = options.allow_nested && !options.remove_sources;
            refuse_overlap(entry, destination, allow_nested, &mounts)?;
            refuse_special(entry, destination)?;
        }
    }
    let given = given(&entries, &opened, &mounts);
    let listed = names.get(options, desk)?;
    // Who does not want it any more leaves everything as it is.
    let looks = !writes || desk.cancel.is_draining();
    let deletes = (options.remove_sources || options.remove_extra) && !looks;
    let probes = Probes::default();
    let probe = |destination: &Opened| {
        let shown = |probe: &Probe| entries.iter().find_map(|entry| shown_by(probe, entry, destination));
        let refused = if let Some(name) = destination.absent.first() {
            let name = c_string(name).map_err(|e| Refusal::NoDestination(describe(e)))?;
            views::probed(stager, (&destination.base, &name), desk, shown).flatten()
        } else {
            let probe = Probe::plant(stager, &destination.base);
            let refused = probe.iter().find_map(shown);
            probes.add(probe);
            refused
        };
        refused.map_or(Ok(()), |why| Err(Refusal::Safety(why)))
    };
    let refused = opened.iter().filter(|_| deletes).try_for_each(probe);
    let prepared = refused.and_then(|()| make(rules, looks, budget, stager, opened, entries, listed));
    match prepared {
        Ok(prepared) => {
            if deletes {
                let made = prepared.root.twins.iter().zip(&prepared.roots);
                probes.add(made.filter_map(|(twin, place)| plant_in(stager, twin.as_ref()?, place.as_ref()?)));
            }
            Ok(Prepared {
                given,
                missing,
                restored,
                probes,
                ..prepared
            })
        }
        Err(refusal) => {
            probes.pull();
            probes.tell(desk);
            Err(refusal)
        }
    }
}

/// What was given as sources.
fn given(entries: &[Entry], destinations: &[Opened], mounts: &Mounts) -> Given {
    let mut given = Given::default();
    for entry in entries {
        let (Entry::Contents { path, stat, .. } | Entry::Named { path, stat, .. }) = entry;
        if let (Entry::Named { holder, name, .. }, true) = (entry, stat.kind != Kind::Directory) {
            given.add(*holder, name.clone(), stat.id);
            continue;
        }
        given.add_directory(stat.id);
        // A destination in its source, where that is allowed, is none of it.
        let is_in = |at: &OwnedFd, path: &[u8]| matches!(mounts.is_below(at, path), Ok(true));
        let is_own = |part: &OwnedFd| {
            let mut nested = destinations.iter().filter(|other| is_in(&other.base, path));
            nested.any(|other| is_in(part, &other.path))
        };
        let parts = mounts.parts_of(path).into_iter().filter(|part| !is_own(part));
        for stat in parts.filter_map(|part| sys::stat_fd(part.as_fd()).ok()) {
            given.add_directory(stat.id);
        }
    }
    given
}

/// A probe in a destination that was made.
fn plant_in(stager: Stager, twin: &Twin, place: &RootPlace) -> Option<Probe> {
    let Presence::Staged(staging) = &twin.presence else {
        return None;
    };
    Probe::plant_below(stager, &*twin.slot.as_ref()?.current()?, staging, &place.name)
}

/// The root of the run, with destinations that are made now, unless it only `looks`.
fn make(
    rules: &Rules,
    looks: bool,
    budget: &Arc<Budget>,
    stager: Stager,
    opened: Vec<Opened>,
    mut entries: Vec<Entry>,
    listed: &Listed,
) -> Result<Prepared, Refusal> {
    if rules.asked.on_collision == Collision::First {
        // The last one wins.
        entries.reverse();
    }
    let is_entry = entries.iter().any(|e| matches!(e, Entry::Contents { .. }));
    let dressed = is_entry && rules.asked.directories != Directories::Needed;
    let mut twins = Vec::new();
    let mut roots = Vec::new();
    let mut targets = Vec::new();
    let mut destination_ids = Vec::new();
    for destination in opened {
        let path = destination.path.clone();
        let parents = destination.absent.len().saturating_sub(1);
        let refuse = |e: Errno| Refusal::NoDestination(format!("{}: {}", show(&path), describe(e)));
        let (twin, place) = destination.make(rules, (looks, dressed), budget, stager)?;
        if let Some(slot) = &twin.slot {
            destination_ids.push(slot.id());
        }
        let near = nearest(&path).map_err(refuse)?;
        let capacity = room(sys::capacity(near.as_fd()).ok(), sys::user_quota(near.as_fd()).ok());
        targets.push(Target::new(path, Some(near), capacity, parents));
        twins.push(Some(twin));
        roots.push(place);
    }
    for file in &rules.asked.placement {
        targets[file.destination].promise(file.room);
    }
    let sources = gather(entries, listed.names.as_ref(), budget)
        .map_err(|(path, e)| Refusal::NoSource(format!("{}: {}", show(&path), describe(e))))?;
    if rules.asked.rename {
        show_what_takes_renamed(&mut twins, &sources);
    }
    let paths = targets.iter().map(|t| t.path.clone()).collect();
    let twins = Twins::of_root(twins, paths, is_entry);
    let root = Dir::top(Sources::from(sources), twins, true);
    Ok(Prepared {
        root: Arc::new(root),
        targets,
        roots,
        destination_ids,
        given: Given::default(),
        working_directory: sys::working_directory(),
        missing: Vec::new(),
        outside: listed.outside.clone(),
        restored: Restored::default(),
        probes: Probes::default(),
    })
}

/// The sources of the root, in the order of the arguments: neighbours out of one directory share a descriptor.
fn gather(
    entries: Vec<Entry>,
    list: Option<&Arc<FileList>>,
    budget: &Arc<Budget>,
) -> Result<Vec<Source>, (Vec<u8>, Errno)> {
    let mut sources: Vec<Source> = Vec::new();
    let mut group: Option<(Vec<u8>, BTreeMap<CString, CString>)> = None;
    let close = |sources: &mut Vec<Source>, group: &mut Option<(Vec<u8>, BTreeMap<CString, CString>)>| {
        let Some((path, names)) = group.take() else {
            return Ok(());
        };
        let fd = open_directory_path(&path, Follow::Yes).map_err(|e| (path.clone(), e))?;
        let stat = sys::stat_fd(fd.as_fd()).map_err(|e| (path.clone(), e))?;
        sources.push(source(path, fd, stat, Scope::Names(Arc::new(Named(names))), budget));
        Ok(())
    };
    for entry in entries {
        match entry {
            Entry::Named {
                parent, name, target, ..
            } => {
                // The same name twice: the later one is a source of its own, and wins as such.
                if group
                    .as_ref()
                    .is_some_and(|(path, names)| *path != parent || names.contains_key(&target))
                {
                    close(&mut sources, &mut group)?;
                }
                group
                    .get_or_insert_with(|| (parent, BTreeMap::new()))
                    .1
                    .insert(target, name);
            }
            Entry::Contents { path, fd, stat } => {
                close(&mut sources, &mut group)?;
                let scope = match list {
                    Some(list) => Scope::Listed(Arc::clone(list), list.root()),
                    None => Scope::Whole,
                };
                sources.push(source(path, fd, stat, scope, budget));
            }
        }
    }
    close(&mut sources, &mut group)?;
    Ok(sources)
}

fn source(path: Vec<u8>, fd: OwnedFd, stat: Stat, scope: Scope, budget: &Arc<Budget>) -> Source {
    Source {
        slot: Slot::new(fd, stat.id, budget),
        device: stat.id.dev,
        mount: 0,
        stat,
        scope,
        origin: Origin::Path(path),
    }
}

/// The names to copy, where a list has them: read when they are first asked for, and kept, because a pipe gives them once.
#[derive(Default)]
pub struct NameList(OnceLock<Listed>);

/// A list, and the names in it that lie outside the source.
#[derive(Default)]
struct Listed {
    names: Option<Arc<FileList>>,
    outside: Vec<Vec<u8>>,
}

impl NameList {
    /// The list, where there is one and it has been read.
    pub fn names(&self) -> Option<&Arc<FileList>> {
        self.0.get()?.names.as_ref()
    }

    fn get(&self, options: &CopyOptions, desk: &Desk) -> Result<&Listed, Refusal> {
        if let Some(listed) = self.0.get() {
            return Ok(listed);
        }
        let listed = read_list(options, desk)?;
        Ok(self.0.get_or_init(|| listed))
    }
}

fn read_list(options: &CopyOptions, desk: &Desk) -> Result<Listed, Refusal> {
    let Some(from) = &options.files_from else {
        return Ok(Listed::default());
    };
    let list = from.read(&options.sources[0].path, desk)?;
    Ok(Listed {
        outside: list.outside().to_vec(),
        names: Some(Arc::new(list)),
    })
}

/// A destination that was looked at and not touched.
struct Opened {
    path: Vec<u8>,
    /// It exists.
    found: Option<(OwnedFd, Stat)>,
    /// The nearest directory that exists, and the names that are missing below it.
    base: OwnedFd,
    absent: Vec<Vec<u8>>,
}

impl Opened {
    fn look(argument: &DestinationArgument, options: &CopyOptions) -> Result<Self, Refusal> {
        let path = trim(&argument.path).to_vec();
        let refuse = |text: &str| Refusal::NoDestination(format!("{}: {text}", show(&path)));
        let follow = if argument.follow { Follow::Yes } else { Follow::No };
        match open_directory_path(&path, follow) {
            Ok(fd) => {
                let stat = sys::stat_fd(fd.as_fd()).map_err(|e| refuse(&describe(e)))?;
                let base = open_directory_path(&path, follow).map_err(|e| refuse(&describe(e)))?;
                return Ok(Self {
                    path,
                    found: Some((fd, stat)),
                    base,
                    absent: Vec::new(),
                });
            }
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(refuse("it is not a directory")),
            Err(errno) => return Err(refuse(&describe(errno))),
        }
        if !options.create_destination {
            return Err(refuse("it does not exist"));
        }
        let mut absent = Vec::new();
        let mut rest = path.clone();
        loop {
            let (parent, name) = {
                let (p, n) = split(&rest);
                (p.to_vec(), n.to_vec())
            };
            if name.is_empty() || name == b".." || name == b"." {
                return Err(refuse("it can't be made"));
            }
            absent.insert(0, name.clone());
            match open_directory_path(&parent, Follow::Yes) {
                Ok(base) => {
                    let c_name = c_string(&name).map_err(|e| refuse(&describe(e)))?;
                    return match sys::stat(base.as_fd(), &c_name, Follow::No) {
                        Err(Errno::NOENT) => Ok(Self {
                            path,
                            found: None,
                            base,
                            absent,
                        }),
                        Ok(stat) if stat.kind == Kind::Symlink => {
                            Err(refuse("a symlink that leads nowhere has its name"))
                        }
                        // Somebody has just made it.
                        Ok(_) => Self::look(argument, options),
                        Err(errno) => Err(refuse(&describe(errno))),
                    };
                }
                Err(Errno::NOENT) => rest = parent,
                Err(Errno::NOTDIR) => return Err(refuse("a part of the path is not a directory")),
                Err(errno) => return Err(refuse(&describe(errno))),
            }
        }
    }

    /// Makes what is missing, unless this run only `looks`: parents at once, the directory itself under its staging name.
    /// `dressed`: its metadata will come from a source.
    fn make(
        mut self,
        rules: &Rules,
        (looks, dressed): (bool, bool),
        budget: &Arc<Budget>,
        stager: Stager,
    ) -> Result<(Twin, Option<RootPlace>), Refusal> {
        let path = self.path.clone();
        let refuse = |e: Errno| Refusal::NoDestination(format!("{}: {}", show(&path), describe(e)));
        let fault = |f: Fault| Refusal::NoDestination(format!("{}: {}", show(&path), cause_of(&f)));
        let mut scratch = Scratch::default();
        if let Some((fd, stat)) = self.found {
            let heritage = if looks {
                Heritage::default()
            } else {
                Heritage::of(Node::Open(fd.as_fd()), &mut scratch, 0).map_err(fault)?
            };
            let twin = Twin {
                slot: Some(Slot::new(fd, stat.id, budget)),
                presence: Presence::Existing(stat),
                fresh: false,
                heritage,
                ..Twin::imagined()
            };
            return Ok((twin, None));
        }
        if self.absent.len() == 1
            && let Some(what) = forbidden(Some(&sys::stat_fd(self.base.as_fd()).map_err(refuse)?), None)
        {
            return Err(Refusal::NoDestination(format!("{}: {what}", show(&path))));
        }
        if looks {
            return Ok((Twin::imagined(), None));
        }
        let last = self.absent.pop().unwrap_or_default();
        for name in &self.absent {
            let name = c_string(name).map_err(refuse)?;
            match sys::make_directory_as(self.base.as_fd(), &name, 0o777) {
                Ok(()) => {
                    self.base = sys::open_directory(self.base.as_fd(), &name, Follow::No).map_err(refuse)?;
                }
                // Somebody else made it meanwhile.
                Err(Errno::EXIST) => {
                    self.base = sys::open_directory(self.base.as_fd(), &name, Follow::Yes).map_err(refuse)?;
                }
                Err(errno) => return Err(refuse(errno)),
            }
        }
        let name = c_string(&last).map_err(refuse)?;
        let made = stager.stage_directory(self.base.as_fd(), &name, 0).map_err(fault)?;
        let above = Heritage::of(Node::Open(self.base.as_fd()), &mut scratch, 0).map_err(fault)?;
        let keep = dressed.then_some(&rules.keep);
        let heritage = inherit(above, keep, made.fd.as_fd(), made.stat.mode, &mut scratch, 0).map_err(fault)?;
        Ok((
            Twin::staged(made, heritage, Arrivals::default(), budget),
            Some(RootPlace {
                parent: self.base,
                name,
            }),
        ))
    }
}

/// Why a source is refused that shows a probe: the destination is the source, or lies in it, seen in another way.
fn shown_by(probe: &Probe, entry: &Entry, destination: &Opened) -> Option<String> {
    let there = show(&destination.path);
    let overlap = |path| format!("{} and {there} overlap: the destination lies in the source", show(path));
    let shows = |path: &[u8]| open_directory_path(path, Follow::Yes).is_ok_and(|at| probe.shows_in(&at));
    let why = match entry {
        Entry::Contents { path, fd, .. } if probe.shows_in(fd) => match destination.found {
            Some(_) => format!("{} and {there} are the same directory", show(path)),
            None => overlap(path),
        },
        Entry::Named { path, stat, .. } if stat.kind == Kind::Directory && shows(path) => overlap(path),
        Entry::Named {
            path,
            parent,
            name,
            target,
            stat,
            ..
        } if destination.found.is_some() && name == target && shows(parent) => {
            let kind = crate::entry::kind_text(stat.kind);
            let there = show(&join(&destination.path, target.to_bytes()));
            format!("{}: {there} is the same {kind}", show(path))
        }
        _ => return None,
    };
    Some(why + ", seen in another way")
}

/// Refuses a copy of something onto or into itself.
fn refuse_overlap(entry: &Entry, destination: &Opened, allow_nested: bool, mounts: &Mounts) -> Result<(), Refusal> {
    let (path, stat, target) = match entry {
        Entry::Contents { path, stat, .. } => (path, stat, None),
        Entry::Named { path, stat, target, .. } => (path, stat, Some(target)),
    };
    let safety = |text: &str| {
        Err(Refusal::Safety(format!(
            "{} and {} {text}",
            show(path),
            show(&destination.path)
        )))
    };
    if let Some((fd, found)) = &destination.found {
        if stat.is_same(found) && target.is_none() {
            return safety("are the same directory");
        }
        if let Some(target) = target
            && let Ok(there) = sys::stat(fd.as_fd(), target, Follow::No)
            && there.is_same(stat)
        {
            let text = format!(
                "{} is the same {}",
                show(&join(&destination.path, target.to_bytes())),
                crate::entry::kind_text(stat.kind)
            );
            return Err(Refusal::Safety(format!("{}: {text}", show(path))));
        }
    }
    if stat.kind != Kind::Directory || allow_nested {
        return Ok(());
    }
    // What can't be found out is not taken for safe.
    let unknown = |e: Errno| {
        let cause = describe(e);
        Refusal::NoDestination(format!(
            "{}: whether it lies inside the source can't be told: {cause}",
            show(&destination.path)
        ))
    };
    if has_ancestor(&destination.base, stat).map_err(unknown)?
        || mounts.is_below(&destination.base, path).map_err(unknown)?
    {
        return safety("overlap: the destination lies inside the source");
    }
    Ok(())
}

/// Refuses a copy into the place of a device, FIFO or socket, or of a symlink to one, that the user named: who names it
/// means what it does with bytes.
fn refuse_special(entry: &Entry, destination: &Opened) -> Result<(), Refusal> {
    let (
        Entry::Named {
            stat,
            target,
            renamed: true,
            ..
        },
        Some((fd, _)),
    ) = (entry, &destination.found)
    else {
        return Ok(());
    };
    let directory: &[u8] = if destination.path == b"." {
        b""
    } else {
        &destination.path
    };
    let path = join(directory, target.to_bytes());
    let refuse = |what: &str| {
        let text = format!(
            "{}: {what}: a copy does not take its place (cat or dd write into it)",
            show(&path)
        );
        Err(Refusal::NoDestination(text))
    };
    let look = |follow| sys::stat(fd.as_fd(), target, follow).ok();
    let itself = look(Follow::No);
    // Its like is brought up to date, or stays as it is.
    let alike = itself.is_some_and(|itself| itself.kind == stat.kind && itself.rdev == stat.rdev);
    let text = || sys::read_link(fd.as_fd(), target).is_ok_and(|text| descriptor_of(text.to_bytes()).is_some());
    if descriptor_of(&path).is_some() || (!alike && text()) {
        return refuse("it is an open pipe or file");
    }
    match look(Follow::Yes).filter(|_| !alike).map(|there| there.kind) {
        Some(Kind::Fifo) => refuse("it is a FIFO"),
        Some(Kind::Socket) => refuse("it is a socket"),
        Some(Kind::Block | Kind::Char) => refuse("it is a device"),
        _ => Ok(()),
    }
}
