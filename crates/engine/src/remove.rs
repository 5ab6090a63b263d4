//! Removal in bulk: trees go without a look at what is in them.
//!
//! Comes in: [`RemoveOptions`]; goes out: a [`Removal`], which makes a [`Job`] that removes, and one that only counts what
//! would go; what the latter looked at, the former insists on. Nothing is asked about that the listing tells already: one
//! call for each file, by the descriptor of its directory, and a directory goes with its last child.
//!
//! It does not begin where that would take `/`, the working directory, what the caller protects (the home directory), or
//! anything above these, whatever path leads there, nor at a mount point; it does not go past one; and it never follows
//! a symlink. What is excluded stays, and the directories above it. What refuses to go is a failure, and the rest goes.
//! A subvolume of btrfs is a directory, which goes when it is empty; one that is read-only (a snapshot that is kept) is
//! a failure, and nothing in it is tried. In a destination all of them stay.
//!
//! The [`Sweeper`] does it for other operations too: it removes what is extra in a destination.

use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use bulkhaul_formats::lists::names::FileList;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind};

use crate::bytes::stream::{NO_ENTRY, is_entry};
use crate::entry::{Outcome, Reason};
use crate::error::{Cause, Failure, Fault, Operation, Refusal, Side, describe};
use crate::job::desk::{Desk, Expected, Phase};
use crate::job::process::process;
use crate::job::resources::{Resources, Staff};
use crate::job::{Job, Work};
use crate::records::ordered::Ordered;
use crate::report::counters::Totals;
use crate::report::{Durability, Report};
use crate::sweep::guard::Guard;
use crate::sweep::limit::MaxDelete;
use crate::sweep::sweeper::{Mode, Sweeper};
use crate::tree::descriptors::Budget;
use crate::tree::path::{self, c_string, open_directory_path, show, split, trim};
use crate::tree::selection::{self, Selection};
use crate::walk::named::Named;
use crate::walk::names::FilesFrom;
use crate::walk::scout::{Ahead, Begin, Scout};
use crate::walk::start::{Boundary, Part, Parts, Root, Start, media};

/// Entries that a preview tells by name.
pub const PREVIEW_NAMES: u64 = 10;

/// A removal, as asked for.
#[derive(Clone, Debug, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an independent option of the command line"
)]
pub struct RemoveOptions {
    /// What to remove. A symlink goes itself.
    pub paths: Vec<Vec<u8>>,
    /// Only what a list names below the one path, and what is in it: the path itself stays, and what is not there any more is
    /// nothing to tell. For who removes a tree in parts, and all of it in the end.
    pub files_from: Option<FilesFrom>,
    /// Exclude rules and their style; rsync's see each path from its last component on.
    pub filter: Option<selection::Rules>,
    /// Worker threads; 0: as many as serve best on the media.
    pub jobs: usize,
    /// What it may take of the machine; looking first counts as well.
    pub resources: Resources,
    /// Count and tell, don't remove.
    pub dry_run: bool,
    /// List everything before anything goes; a listing error then leaves everything.
    pub list_first: bool,
    /// Remove nothing when it would be more than this.
    pub max_delete: Option<MaxDelete>,
    /// Directories that are not removed and not removed from above, beside `/` and the working directory.
    pub protected: Vec<Vec<u8>>,
    /// Files that the caller has open meanwhile, or is about to: they are not removed.
    pub in_use: Vec<Vec<u8>>,
    /// Directories that are removed though they are protected, and entered though something is mounted there.
    pub no_preserve_root: Vec<Vec<u8>>,
    /// A path that does not exist is no failure.
    pub ignore_missing: bool,
    /// Where a dry run puts what it tells in order, if memory should not hold it; `None`: memory is used.
    pub spill_directory: Option<Vec<u8>>,
    /// Send an event for each entry, in a dry run in the order of their paths.
    pub entry_events: bool,
}

/// Checked options.
struct Rules {
    options: RemoveOptions,
    filter: Selection,
    staff: Staff,
    /// What was looked at, by the first of the jobs that runs.
    looked: OnceLock<Looked>,
    /// What is there, once one of them has counted it.
    counted: OnceLock<Totals>,
}

/// A removal whose jobs agree on what is removed.
pub struct Removal(Arc<Rules>);

impl Removal {
    /// Checks the options; touches nothing.
    pub fn new(options: RemoveOptions) -> Result<Self, Refusal> {
        if options.paths.is_empty() {
            return Err(Refusal::Usage("nothing to remove is given".into()));
        }
        if let Some(from) = &options.files_from
            && options.paths.len() > 1
        {
            return Err(from.refusal("it goes with one path"));
        }
        for path in options.paths.iter().chain(&options.no_preserve_root) {
            path::check(path)?;
        }
        // Gone would be the way to it, `/dev/stdin`, for everybody.
        if let Some(path) = options.paths.iter().find(|path| !is_entry(path)) {
            return Err(Refusal::Usage(format!("{}: {NO_ENTRY}", show(path))));
        }
        let staff = Staff::of(options.jobs, process().processors)?;
        options.max_delete.map_or(Ok(()), MaxDelete::check)?;
        let filter = Selection::of(options.filter.as_ref())?;
        Ok(Self(Arc::new(Rules {
            options,
            filter,
            staff,
            looked: OnceLock::new(),
            counted: OnceLock::new(),
        })))
    }

    /// A job that counts what would go: entries, their bytes, and an event for each of the first few.
    pub fn preview(&self) -> Result<Job, Refusal> {
        self.job(true)
    }

    /// A job that removes: the very inodes that the preview found, if there was one.
    pub fn remove(&self) -> Result<Job, Refusal> {
        self.job(false)
    }

    fn job(&self, preview: bool) -> Result<Job, Refusal> {
        let rules = Arc::clone(&self.0);
        let resources = rules.options.resources;
        Job::new(rules.staff.most(), Remove { rules, preview }).within(resources)
    }
}

struct Remove {
    rules: Arc<Rules>,
    preview: bool,
}

impl Work for Remove {
    fn run(self: Box<Self>, desk: &Arc<Desk>) -> Result<Report, Refusal> {
        let rules = &*self.rules;
        let options = &rules.options;
        let looked = if let Some(looked) = rules.looked.get() {
            looked
        } else {
            let looked = look(options)?;
            rules.looked.get_or_init(|| looked)
        };
        let (budget, most, _) = Budget::share(desk.counters.len());
        let crew = rules.staff.crew(&media(&looked.roots), most);
        desk.staff(crew.active());
        let sweeper = Sweeper {
            desk,
            guard: &looked.guard,
            filter: &rules.filter,
            stager: None,
            budget: &budget,
            crew: &crew,
            mode: if options.dry_run || self.preview {
                Mode::Measure
            } else {
                Mode::Remove
            },
            tell: match (self.preview, options.entry_events) {
                (true, _) => PREVIEW_NAMES,
                (false, true) => u64::MAX,
                (false, false) => 0,
            },
            left: &AtomicU64::new(u64::MAX),
            witness: None,
        };
        desk.enter(Phase::Scanning);
        let listed = match (&options.files_from, &looked.roots[..]) {
            (Some(from), [root]) => Some((from.read_within(&root.path, desk)?, root)),
            _ => None,
        };
        let part = match &listed {
            Some((list, root)) => Some(Listed::of(list, root, desk)?),
            None => None,
        };
        let start = match &part {
            Some(part) => Start::Parts(part),
            None => Start::Roots(&looked.roots),
        };
        let mut left = AtomicU64::new(u64::MAX);
        if !self.preview && (options.list_first || options.max_delete.is_some()) {
            let totals = rehearse(&sweeper, start)?;
            left = within(&totals, options.max_delete, desk)?.into();
            self.rules.counted.get_or_init(|| totals);
        }
        for (path, fault) in &looked.missing {
            desk.counters[0].found(Kind::File);
            desk.counters[0].outcome(Kind::File, fault.outcome(), None, 0);
            desk.fail(Failure::new(fault, path.clone(), Kind::File, None));
        }
        let _scout = match (rules.counted.get(), sweeper.mode) {
            (Some(counted), _) => {
                desk.expect(Expected {
                    entries: counted.all_found(),
                    files: counted.found_of(Kind::File),
                    bytes: None,
                    to_do: desk.progress().0 + counted.all_found(),
                    estimated: false,
                });
                None
            }
            // A list says how much there is.
            (None, Mode::Remove) if part.is_none() => Some(Scout::send(desk, ahead(options, &looked.roots))),
            (None, _) => None,
        };
        if sweeper.mode == Mode::Remove {
            desk.enter(Phase::Removing);
        }
        let ordered = (options.dry_run && options.entry_events && !self.preview)
            .then(|| Ordered::hold(desk, options.spill_directory.as_deref()));
        Sweeper { left: &left, ..sweeper }.run(start);
        if let Some(ordered) = ordered {
            ordered.release(desk);
        }
        let interrupted = desk.cancel.is_draining();
        if self.preview && !interrupted {
            rules.counted.get_or_init(|| Totals::of(&desk.counters));
        }
        Ok(desk.report(Durability::None, desk.most_staff(), interrupted))
    }
}

/// What a list names, as far as nothing is mounted on the way there: whoever removes the whole says what stays.
struct Listed<'l> {
    named: Named<'l>,
    mount: u64,
}

impl<'l> Listed<'l> {
    fn of(list: &FileList, root: &'l Root, desk: &'l Desk) -> Result<Self, Refusal> {
        let named = Named::of(list, root, desk, false)?;
        let mount = named
            .mount()
            .map_err(|e| Refusal::NoSource(format!("{}: {}", show(&root.path), describe(e))))?;
        Ok(Self { named, mount })
    }
}

impl Parts for Listed<'_> {
    fn count(&self) -> usize {
        self.named.count()
    }

    fn open(&self, index: usize) -> Option<Part> {
        let part = self.named.open(index)?;
        let (_, mount) = sys::stat_mounted(part.fd.as_fd()).ok()?;
        (mount == self.mount).then_some(Part { mount, ..part })
    }
}

/// What a removal has to do with. It goes meanwhile, and nothing of it is read.
fn ahead(options: &RemoveOptions, roots: &[Root]) -> Ahead {
    Ahead {
        begin: Begin::Going(roots.to_vec()),
        filter: options.filter.clone(),
        boundary: Boundary::Mount,
        passes: 1,
        to_read: None,
    }
}

/// Counts what would go before anything goes. Refuses what can't be listed.
fn rehearse(sweeper: &Sweeper<'_>, start: Start<'_>) -> Result<Totals, Refusal> {
    let counted = Sweeper {
        mode: Mode::Count,
        ..*sweeper
    }
    .count(start, 0);
    match counted.failures.first() {
        Some(first) => Err(Refusal::Safety(format!(
            "nothing was removed: {} could not be listed, first {}",
            counted.failed, first.message
        ))),
        None => Ok(counted.totals),
    }
}

/// How many entries may go. Refuses more than `most`.
fn within(counted: &Totals, most: Option<MaxDelete>, desk: &Desk) -> Result<u64, Refusal> {
    let all = counted.all_found() + counted.reason_of(Reason::Excluded);
    let going = counted.outcome_of(Outcome::Removed);
    match most {
        Some(most) if most.forbids(going, all) && !desk.cancel.is_draining() => Err(Refusal::Safety(format!(
            "nothing was removed: {going} of {all} entries would go, and max-delete allows {}",
            most.of(all)
        ))),
        most => Ok(most.map_or(u64::MAX, |most| most.of(all))),
    }
}

/// What the arguments are.
struct Looked {
    roots: Vec<Root>,
    missing: Vec<(Vec<u8>, Fault)>,
    guard: Guard,
}

/// Looks at everything that is to be removed, before anything is.
fn look(options: &RemoveOptions) -> Result<Looked, Refusal> {
    let mut guard = Guard::read(&options.protected, &options.no_preserve_root)?;
    for path in &options.in_use {
        let refuse = |e| Refusal::Safety(format!("{}: it can't be protected: {}", show(path), describe(e)));
        guard.keep_file(path).map_err(refuse)?;
    }
    let mut roots: Vec<Root> = Vec::new();
    let mut missing = Vec::new();
    let (mut paths, mut directories) = (HashSet::new(), HashSet::new());
    for path in &options.paths {
        let (holder, name) = split(path);
        let fault = |operation, errno| (path.clone(), Fault::new(operation, Side::Source, errno));
        let looked = open_directory_path(holder, Follow::Yes)
            .map_err(|e| fault(Operation::Open, e))
            .and_then(|at| {
                let name =
                    c_string(if name.is_empty() { b"." } else { name }).map_err(|e| fault(Operation::Open, e))?;
                let stat = sys::stat(at.as_fd(), &name, Follow::No).map_err(|e| fault(Operation::Stat, e))?;
                let mounted = if stat.kind == Kind::Directory {
                    // A descriptor that only names it: it may be closed to us.
                    let node = sys::open_node(at.as_fd(), &name).map_err(|e| fault(Operation::Open, e))?;
                    let (_, mount) = sys::stat_mounted(node.as_fd()).map_err(|e| fault(Operation::Stat, e))?;
                    let (_, outer) = sys::stat_mounted(at.as_fd()).map_err(|e| fault(Operation::Stat, e))?;
                    mount != outer
                } else {
                    false
                };
                Ok((stat, mounted))
            });
        let (stat, mounted) = match looked {
            Ok(looked) => looked,
            Err((_, fault)) if options.ignore_missing && fault.cause == Cause::Errno(Errno::NOENT) => continue,
            Err((path, fault)) => {
                missing.push((path, fault.of_named()));
                continue;
            }
        };
        let slash = path.ends_with(b"/");
        if slash && stat.kind == Kind::Symlink {
            return Err(Refusal::Usage(format!(
                "{}: a symlink; without the slash the link is removed, and never what it leads to",
                show(path)
            )));
        }
        if slash && stat.kind != Kind::Directory {
            missing.push(fault(Operation::Open, Errno::NOTDIR));
            continue;
        }
        if stat.kind == Kind::Directory {
            if let Some(what) = guard.refuses(stat.id) {
                return Err(Refusal::Safety(format!(
                    "{}: it is {what}; nothing was removed",
                    show(path)
                )));
            }
            if mounted && !guard.named.contains(&stat.id) {
                return Err(Refusal::Safety(format!(
                    "{}: a file system is mounted there; nothing was removed",
                    show(path)
                )));
            }
            if matches!(name, b"." | b"..") {
                return Err(Refusal::Usage(format!(
                    "{}: a directory is removed by its own name; nothing was removed",
                    show(path)
                )));
            }
        }
        // The same argument twice is one.
        if !paths.insert(trim(path)) || (stat.kind == Kind::Directory && !directories.insert(stat.id)) {
            continue;
        }
        roots.push(Root {
            path: path.clone(),
            follow: false,
            contents: false,
            pin: Some(stat.id),
        });
    }
    if roots.is_empty()
        && let Some((path, fault)) = missing.first()
    {
        let cause = match fault.cause {
            Cause::Errno(errno) | Cause::Missing(errno) => describe(errno),
            _ => "it can't be reached".to_owned(),
        };
        return Err(Refusal::NoSource(format!("{}: {cause}", show(path))));
    }
    Ok(Looked { roots, missing, guard })
}
