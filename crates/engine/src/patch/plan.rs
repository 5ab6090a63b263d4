//! What is to be done about each row, before anything is.
//!
//! Comes in: a step, and the target as it is; goes out: whether the step is to be done, is done already, or meets something
//! that the patch does not expect; and whether the patch has what it is to bring. Nothing changes here.
//!
//! Directories are judged when everything below them is: one goes only if the patch names all that is in it, and one that a
//! dead run has left unfinished is finished only then.

use std::ffi::{CStr, CString};

use bulkhaul_formats::lists::changes::{Inode, Op, State};
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow, Kind, OwnedFd, Stat};

use crate::error::{Cause, Fault, Operation, Side, Stopped};
use crate::job::desk::Desk;
use crate::patch::look::{Difference, Eyes};
use crate::patch::place::{Finder, Parent};
use crate::patch::rows::{Step, Was, kind_of};
use crate::tree::listing;
use crate::tree::path::{c_string, split};
use crate::tree::staging::{Owner, Stager};

/// What dead runs of hpcp leave beside a file: this, and digits.
const HPCP_STAGING: &[u8] = b".hpcp_tmp_";
const HPCP_STAGING_DIGITS: usize = 16;
/// The mode of a directory that is not finished.
pub const UNFINISHED: u32 = 0o700;

/// What is to be done about a step.
#[derive(Clone, Debug, Default)]
pub enum Verdict {
    /// It is to be done.
    #[default]
    Apply,
    /// It is done.
    Done,
    /// Something else is there, which may be overruled.
    Conflict(&'static str),
    /// The patch can't be applied to this target, or at all.
    Never(Fault),
    /// The run was told to stop.
    Stopped,
}

/// A step that was looked at.
pub struct Planned {
    pub(crate) step: Step,
    pub(crate) verdict: Verdict,
    /// Entries of the directory that is to go or to be finished, if it is one.
    entries: Option<u64>,
    /// It is there, as the patch expects it before or after.
    counts: bool,
    /// Bytes that what it brings takes, without holes.
    pub(crate) room: u64,
    /// What leads back, where that is asked for: the state that is there.
    pub(crate) before: Option<State>,
}

impl Planned {
    /// Not looked at yet.
    pub fn new(step: Step) -> Self {
        Self {
            step,
            verdict: Verdict::default(),
            entries: None,
            counts: false,
            room: 0,
            before: None,
        }
    }
}

/// Whether a name is that of an unfinished entry, of a dead run or of hpcp.
pub fn is_leftover(stager: Stager, name: &[u8]) -> bool {
    is_of_hpcp(name) || matches!(stager.owner(name), Some(Owner::Dead | Owner::Lockable))
}

/// Whether a name is that of a file which hpcp has not finished.
pub fn is_of_hpcp(name: &[u8]) -> bool {
    name.strip_prefix(HPCP_STAGING)
        .is_some_and(|digits| digits.len() == HPCP_STAGING_DIGITS && digits.iter().all(u8::is_ascii_hexdigit))
}

/// One thread's way to judge.
pub struct Planner<'p> {
    pub(crate) eyes: Eyes<'p>,
    pub(crate) target: Finder<'p>,
    pub(crate) payloads: Vec<Finder<'p>>,
    pub(crate) stager: Stager,
    /// The way back is to be written.
    pub(crate) undo: bool,
    pub(crate) desk: &'p Desk,
}

/// The directory of an entry, by a descriptor, and its name in it.
pub type Spot = (std::sync::Arc<OwnedFd>, CString);

impl Planner<'_> {
    /// Judges a step.
    pub fn judge(&mut self, planned: &mut Planned) {
        if !self.desk.may_begin() {
            planned.verdict = Verdict::Stopped;
            return;
        }
        planned.verdict = match self.verdict(planned) {
            Ok(verdict) => verdict,
            Err(Stopped::Aborted) => Verdict::Stopped,
            Err(Stopped::Fault(fault)) => Verdict::Never(fault),
        };
    }

    fn verdict(&mut self, planned: &mut Planned) -> Result<Verdict, Stopped> {
        let step = &planned.step;
        let side = Side::Destination(0);
        let (_, name) = split(step.path());
        let name = if name.is_empty() { b"." } else { name };
        let name = c_string(name).map_err(|e| Fault::new(Operation::Stat, side, e))?;
        let parent = self.target.parent(step.path(), step.links);
        let parent = match parent.map_err(|e| Fault::new(Operation::Open, side, e))? {
            Parent::Outside => {
                let fault = Fault::conflict(Operation::Open, 0, "a symlink on the way to it leads out of the target");
                return Ok(Verdict::Never(fault));
            }
            Parent::Missing => None,
            Parent::Here(at) => Some(at),
        };
        let stat = match &parent {
            None => None,
            Some(at) => match sys::stat(at.as_fd(), &name, Follow::No) {
                Err(Errno::NOENT) => None,
                other => Some(other.map_err(|e| Fault::new(Operation::Stat, side, e))?),
            },
        };
        planned.step.was = stat.as_ref().map(Was::of);
        let Some(at) = parent else {
            return self.without_parent(planned);
        };
        let spot = (at.as_fd(), name.as_c_str());
        let verdict = self.compare(planned, spot, stat.as_ref())?;
        if self.undo
            && matches!(verdict, Verdict::Apply | Verdict::Conflict(_))
            && let Some(stat) = &stat
        {
            planned.before = Some(self.eyes.state(spot, stat)?);
        }
        if planned.step.op() != Op::Remove && matches!(verdict, Verdict::Apply | Verdict::Conflict(_)) {
            planned.room = self.payload(&mut planned.step)?;
        }
        Ok(verdict)
    }

    /// The directory of an entry is not there; it may be one that the patch makes.
    fn without_parent(&mut self, planned: &mut Planned) -> Result<Verdict, Stopped> {
        let step = &mut planned.step;
        let depth = step.path().split(|b| *b == b'/').count();
        match step.op() {
            Op::Remove => Ok(Verdict::Done),
            // Something above it is of the patch.
            Op::Add if step.links < depth => {
                planned.room = self.payload(step)?;
                Ok(Verdict::Apply)
            }
            Op::Add | Op::Modify => {
                let fault = Fault::conflict(Operation::Open, 0, "the directory that it belongs in is not there");
                Ok(Verdict::Never(fault))
            }
        }
    }

    fn compare(
        &mut self,
        planned: &mut Planned,
        (at, name): (BorrowedFd<'_>, &CStr),
        stat: Option<&Stat>,
    ) -> Result<Verdict, Stopped> {
        let step = &planned.step;
        let side = Side::Destination(0);
        let new = self.eyes.difference((at, name), stat, &step.row.new, true, side)?;
        if new.is_none() {
            planned.counts = step.op() == Op::Add;
            return Ok(Verdict::Done);
        }
        let expected = match (step.op(), &step.instead) {
            // What is to come is there already.
            (Op::Remove, Some(instead))
                if stat.is_some_and(|stat| is_unfinished(stat, instead))
                    || self.eyes.difference((at, name), stat, instead, true, side)?.is_none() =>
            {
                return Ok(Verdict::Done);
            }
            // Its row of what goes says whether that is as it was.
            (Op::Add, Some(instead)) => {
                let same = stat.is_none_or(|stat| stat.kind == kind_of(instead));
                if stat.is_some_and(|stat| is_unfinished(stat, &step.row.new)) {
                    planned.entries = Some(self.entries(at, name)?);
                    planned.counts = true;
                    return Ok(Verdict::Apply);
                }
                return Ok(if same {
                    Verdict::Apply
                } else {
                    Verdict::Conflict(UNEXPECTED)
                });
            }
            (_, _) => &step.row.old,
        };
        let old = self.eyes.difference((at, name), stat, expected, true, side)?;
        let is_directory = stat.is_some_and(|stat| stat.kind == Kind::Directory);
        let Some(difference) = old else {
            planned.counts = step.op() == Op::Remove;
            if step.op() == Op::Remove && is_directory {
                planned.entries = Some(self.entries(at, name)?);
            }
            return Ok(Verdict::Apply);
        };
        let Some(stat) = stat else {
            return Ok(Verdict::Conflict(GONE));
        };
        if step.op() == Op::Add {
            if is_unfinished(stat, &step.row.new) {
                planned.entries = Some(self.entries(at, name)?);
                planned.counts = true;
                return Ok(Verdict::Apply);
            }
            return Ok(Verdict::Conflict(OCCUPIED));
        }
        if let (State::Directory(old), State::Directory(new)) = (&step.row.old, &step.row.new)
            && is_directory
            && is_between(stat, old, new)
        {
            return Ok(Verdict::Apply);
        }
        Ok(Verdict::Conflict(told(difference)))
    }

    /// How many entries a directory has, without what dead runs left.
    fn entries(&self, at: BorrowedFd<'_>, name: &CStr) -> Result<u64, Fault> {
        let fault = |operation| move |e| Fault::new(operation, Side::Destination(0), e);
        let directory = sys::open_directory(at, name, Follow::No).map_err(fault(Operation::Open))?;
        let mut entries = 0;
        let count = |name: &CStr, _| entries += u64::from(!is_leftover(self.stager, name.to_bytes()));
        listing::each(directory.as_fd(), || self.desk.step(), count).map_err(fault(Operation::List))?;
        Ok(entries)
    }

    /// The volume that has what a step brings, as the step tells it; answers the bytes that it takes. What is not there, or
    /// otherwise, keeps the patch from being applied.
    fn payload(&mut self, step: &mut Step) -> Result<u64, Stopped> {
        let mut found = None;
        for volume in 0..self.payloads.len() {
            if let Some(spot) = self.in_payload(step.path(), volume)? {
                found = Some((volume, spot));
                break;
            }
        }
        let Some((volume, (at, name, stat))) = found else {
            // A link is all that its row says.
            if step.kind() == Kind::Symlink {
                return Ok(0);
            }
            let text = "the patch does not have what it brings".to_owned();
            return Err(fault_of(Cause::Unlike("payload-missing", text)).into());
        };
        step.volume = volume;
        let damaged = |what: &str| {
            let text = format!("what the patch has of it is not what it says: {what} differs");
            Err(fault_of(Cause::Unlike("payload-damaged", text)).into())
        };
        if stat.kind != step.kind() {
            return damaged("its type");
        }
        let spot = (at.as_fd(), name.as_c_str());
        match &step.row.new {
            State::File { size, hash, inode, .. } => {
                let file = sys::open_file(spot.0, spot.1).map_err(|e| Fault::new(Operation::Open, Side::Source, e))?;
                let opened = sys::stat_fd(file.as_fd()).map_err(|e| Fault::new(Operation::Stat, Side::Source, e))?;
                if opened.kind != Kind::File || opened.size != *size {
                    return damaged("its size");
                }
                if let Some(sum) = hash
                    && *sum != self.eyes.sum(file.as_fd(), *size, sum.whole, Side::Source)?
                {
                    return damaged("its content");
                }
                if let Some(sum) = &inode.xattrs
                    && *sum != self.eyes.xattrs(spot, Side::Source)?
                {
                    return damaged("its extended attributes");
                }
            }
            State::Directory(inode) => {
                if let Some(sum) = &inode.xattrs
                    && *sum != self.eyes.xattrs(spot, Side::Source)?
                {
                    return damaged("its extended attributes");
                }
            }
            State::Symlink(text) => {
                let there = sys::read_link(spot.0, spot.1).map_err(|e| Fault::new(Operation::Read, Side::Source, e))?;
                if there.to_bytes() != text {
                    return damaged("its text");
                }
            }
            State::Absent | State::Unknown => {}
        }
        Ok(stat.allocated.min(step.bytes()))
    }

    /// Where a volume has an entry, if it has it.
    pub fn in_payload(
        &mut self,
        path: &[u8],
        volume: usize,
    ) -> Result<Option<(std::sync::Arc<OwnedFd>, CString, Stat)>, Fault> {
        let Some(finder) = self.payloads.get_mut(volume) else {
            return Ok(None);
        };
        let (_, name) = split(path);
        let fault = |operation| move |e| Fault::new(operation, Side::Source, e);
        let name = c_string(if name.is_empty() { b"." } else { name }).map_err(fault(Operation::Stat))?;
        match finder.parent(path, 0).map_err(fault(Operation::Open))? {
            Parent::Missing | Parent::Outside => Ok(None),
            Parent::Here(at) => match sys::stat(at.as_fd(), &name, Follow::No) {
                Ok(stat) => Ok(Some((at, name, stat))),
                Err(Errno::NOENT) => Ok(None),
                Err(errno) => Err(fault(Operation::Stat)(errno)),
            },
        }
    }
}

fn fault_of(cause: Cause) -> Fault {
    Fault {
        operation: Operation::Verify,
        side: Side::Source,
        cause,
    }
}

const UNEXPECTED: &str = "it is of another type than the patch expects";
const GONE: &str = "it is gone, and the patch changes it";
const OCCUPIED: &str = "something else is there, where the patch brings something new";
const UNNAMED: &str = "it holds something that the patch does not name";
const CONTENT: &str = "its content is neither what the patch expects nor what it brings";
const TEXT: &str = "its text is neither what the patch expects nor what it brings";
const MODE: &str = "its mode is not what the patch expects";
const OWNER: &str = "its owner is not what the patch expects";
const TIME: &str = "its time is not what the patch expects";
const XATTRS: &str = "its extended attributes are not what the patch expects";
/// All that may be in the way, and be overruled.
pub const CONFLICT_TEXTS: [&str; 10] = [
    UNEXPECTED, GONE, OCCUPIED, UNNAMED, CONTENT, TEXT, MODE, OWNER, TIME, XATTRS,
];

/// Whether a directory is one that is to come, as a run that died has left it.
fn is_unfinished(stat: &Stat, new: &State) -> bool {
    let State::Directory(inode) = new else { return false };
    stat.kind == Kind::Directory
        && [UNFINISHED, inode.mode | UNFINISHED].contains(&stat.mode)
        && [sys::user_id(), inode.uid].contains(&stat.uid)
}

/// Whether a directory is on its way from one state to the other, as a run that died has left it.
fn is_between(stat: &Stat, old: &Inode, new: &Inode) -> bool {
    let owned = [old.uid, new.uid].contains(&stat.uid) && [old.gid, new.gid].contains(&stat.gid);
    let mode = if old.xattrs == new.xattrs {
        [old.mode, new.mode].contains(&stat.mode)
    } else {
        stat.mode == UNFINISHED
    };
    owned && mode
}

/// In which way something is neither as the patch expects it nor as it leaves it.
fn told(difference: Difference) -> &'static str {
    match difference {
        Difference::Kind => UNEXPECTED,
        Difference::Content => CONTENT,
        Difference::Text => TEXT,
        Difference::Mode => MODE,
        Difference::Owner => OWNER,
        Difference::Time => TIME,
        Difference::Xattrs => XATTRS,
    }
}

/// Directories that wait for what is below them to be judged.
#[derive(Default)]
pub struct Waiting {
    open: Vec<(Planned, u64)>,
}

impl Waiting {
    /// Takes the next step in, in the order of paths; gives out those that are judged, to `done`.
    pub fn take<E>(&mut self, planned: Planned, mut done: impl FnMut(Planned) -> Result<(), E>) -> Result<(), E> {
        let path = planned.step.path();
        let below = |above: &Planned| {
            let rest = path.strip_prefix(above.step.path());
            // What comes in its place has the row after it.
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        while self.open.last().is_some_and(|(above, _)| !below(above)) {
            self.close(&mut done)?;
        }
        if let Some((above, children)) = self.open.last_mut()
            && planned.counts
            && split(path).0 == above.step.path()
            && planned.step.op() == above.step.op()
        {
            *children += 1;
        }
        if planned.entries.is_some() {
            self.open.push((planned, 0));
            return Ok(());
        }
        done(planned)
    }

    /// Nothing more comes.
    pub fn end<E>(&mut self, mut done: impl FnMut(Planned) -> Result<(), E>) -> Result<(), E> {
        while !self.open.is_empty() {
            self.close(&mut done)?;
        }
        Ok(())
    }

    fn close<E>(&mut self, done: &mut impl FnMut(Planned) -> Result<(), E>) -> Result<(), E> {
        let Some((mut planned, children)) = self.open.pop() else {
            return Ok(());
        };
        if planned.entries.is_some_and(|entries| entries > children) {
            planned.verdict = Verdict::Conflict(if planned.step.op() == Op::Remove {
                UNNAMED
            } else {
                OCCUPIED
            });
        }
        done(planned)
    }
}
