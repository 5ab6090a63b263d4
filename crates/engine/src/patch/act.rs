//! What is done about a step.
//!
//! Comes in: a step that was planned; goes out: what became of it. What is to appear is written under a staging name, proved
//! by the hash of its row as the medium gives it, and then renamed; what is there must still be what it was when it was
//! planned. A directory is made with its owner and mode; only where this user could not write into it, these come last.

use std::ffi::CStr;

use bulkhaul_formats::lists::changes::{Inode, Op, State};
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Follow, Kind, Node, OwnedFd, Stat};

use crate::bytes::proof::forget;
use crate::bytes::transfer::{Sparse, Terms, Transfer};
use crate::bytes::ways::Methods;
use crate::entry::Outcome;
use crate::error::{Cause, Fault, Operation, Side, Stopped};
use crate::job::desk::Desk;
use crate::patch::look::time;
use crate::patch::place::Parent;
use crate::patch::plan::{Planner, Spot, UNFINISHED, is_of_hpcp};
use crate::patch::rows::{Step, Was};
use crate::report::Durability;
use crate::report::counters::Counters;
use crate::sweep::leftovers;
use crate::tree::keep::Keep;
use crate::tree::listing;
use crate::tree::metadata::{Scratch, Subject, put_right};
use crate::tree::path::{c_string, split};
use crate::tree::publish::publish;
use crate::tree::staging::{Staging, appear};

/// What was written is not what the patch says.
const DAMAGED: &str = "payload-damaged";
const CHANGED: &str = "it has changed since the patch was planned";

/// What is there, which must be what was planned for.
fn still(step: &Step, (at, name): (BorrowedFd<'_>, &CStr)) -> Result<Option<Stat>, Fault> {
    let now = match sys::stat(at, name, Follow::No) {
        Err(Errno::NOENT) => None,
        other => Some(other.map_err(there(Operation::Stat))?),
    };
    let is = now.as_ref().map(Was::of);
    // What was there before may have gone, by a row of its own.
    let same = match (&step.was, &is) {
        (Some(was), Some(is)) => was.is(is),
        (was, is) => was.is_none() && is.is_none(),
    };
    if same || (is.is_none() && step.op() != Op::Modify) {
        return Ok(now);
    }
    Err(Fault::conflict(Operation::Stat, 0, CHANGED))
}

/// One thread at work.
pub struct Actor<'a> {
    pub(crate) planner: Planner<'a>,
    pub(crate) keep: &'a Keep,
    pub(crate) methods: &'a Methods,
    pub(crate) sync: Durability,
    /// The mount that the target is on: no tree goes beyond it.
    pub(crate) mount: u64,
    pub(crate) counters: &'a Counters,
    pub(crate) desk: &'a Desk,
    pub(crate) scratch: Scratch,
    pub(crate) buffer: Vec<u8>,
}

fn there(operation: Operation) -> impl Fn(Errno) -> Fault {
    move |errno| Fault::new(operation, Side::Destination(0), errno)
}

fn payload(operation: Operation) -> impl Fn(Errno) -> Fault {
    move |errno| Fault::new(operation, Side::Source, errno)
}

impl Actor<'_> {
    /// Does it.
    pub fn act(&mut self, step: &Step) -> Result<Outcome, Stopped> {
        if self.desk.cancel.is_over() {
            return Err(Stopped::Aborted);
        }
        let (at, name) = self.spot(step)?;
        let spot = (at.as_fd(), name.as_c_str());
        let now = still(step, spot)?;
        let outcome = match (step.op(), &step.row.new) {
            (Op::Remove, _) => self.remove(step, spot, now.as_ref())?,
            (_, State::Directory(inode)) => self.directory(step, inode, spot, now.as_ref())?,
            (_, State::Symlink(text)) => self.link(step, text, spot, now.as_ref())?,
            (_, State::File { .. }) => self.file(step, spot, now.as_ref())?,
            (_, State::Absent | State::Unknown) => return Err(there(Operation::Work)(Errno::INVAL).into()),
        };
        for short in std::mem::take(&mut self.scratch.shortfalls) {
            let first = || (step.path().to_vec(), short.message);
            if short.lost {
                self.desk.lose(&short.kind, first);
            } else {
                self.desk.note(&short.kind, first);
            }
        }
        Ok(outcome)
    }

    /// Looks whether it is done: what is there as a whole, without its content, which was proved before it got its name. A
    /// directory that this user had to write into gets its mode.
    pub fn prove(&mut self, step: &Step) -> Result<(), Stopped> {
        let differs = |what: &str| {
            let cause = Cause::Unlike("not-applied", format!("it is not what the patch makes of it: {what}"));
            Err(Fault {
                operation: Operation::Verify,
                side: Side::Destination(0),
                cause,
            }
            .into())
        };
        let (_, name) = split(step.path());
        let name = c_string(if name.is_empty() { b"." } else { name }).map_err(there(Operation::Stat))?;
        let parent = self
            .planner
            .target
            .parent(step.path(), step.links)
            .map_err(there(Operation::Open))?;
        let (Parent::Here(at), remove) = (parent, step.op() == Op::Remove) else {
            return if step.op() == Op::Remove {
                Ok(())
            } else {
                differs("it is not there")
            };
        };
        let mut stat = match sys::stat(at.as_fd(), &name, Follow::No) {
            Err(Errno::NOENT) if remove => return Ok(()),
            Err(Errno::NOENT) => return differs("it is not there"),
            other => other.map_err(there(Operation::Stat))?,
        };
        if remove {
            let same = step.was.is_some_and(|was| was.id == stat.id && was.kind == stat.kind);
            return if same { differs("it is still there") } else { Ok(()) };
        }
        if let (Op::Add, State::Directory(inode), false) = (step.op(), &step.row.new, self.keep.reach.privileged)
            && stat.mode != inode.mode
        {
            // What had to be written into first.
            let directory = sys::open_directory(at.as_fd(), &name, Follow::No).map_err(there(Operation::Open))?;
            sys::set_mode(Node::Open(directory.as_fd()), inode.mode).map_err(there(Operation::SetMode))?;
            stat.mode = inode.mode;
        }
        let spot = (at.as_fd(), name.as_c_str());
        match self
            .planner
            .eyes
            .difference(spot, Some(&stat), &step.row.new, false, Side::Destination(0))?
        {
            None => Ok(()),
            Some(difference) => differs(&format!("{difference:?}").to_lowercase()),
        }
    }

    fn spot(&mut self, step: &Step) -> Result<Spot, Fault> {
        let (_, name) = split(step.path());
        let name = c_string(if name.is_empty() { b"." } else { name }).map_err(there(Operation::Open))?;
        match self
            .planner
            .target
            .parent(step.path(), step.links)
            .map_err(there(Operation::Open))?
        {
            Parent::Here(at) => Ok((at, name)),
            Parent::Missing => Err(Fault::conflict(
                Operation::Open,
                0,
                "the directory that it belongs in is gone",
            )),
            Parent::Outside => Err(Fault::conflict(
                Operation::Open,
                0,
                "a symlink on the way to it leads out of the target",
            )),
        }
    }

    fn remove(
        &mut self,
        step: &Step,
        (at, name): (BorrowedFd<'_>, &CStr),
        now: Option<&Stat>,
    ) -> Result<Outcome, Stopped> {
        match now.map(|stat| stat.kind) {
            None => {}
            Some(Kind::Directory) => {
                let mut removed = sys::remove_directory(at, name);
                if matches!(removed, Err(Errno::NOTEMPTY | Errno::EXIST)) {
                    self.clear(at, name, step.path())?;
                    removed = if step.forced {
                        self.remove_tree(at, name)
                    } else {
                        sys::remove_directory(at, name)
                    };
                }
                match removed {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(Errno::NOTEMPTY | Errno::EXIST) => {
                        let what = "it holds something that the patch does not name";
                        return Err(Fault::conflict(Operation::Remove, 0, what).into());
                    }
                    Err(errno) => return Err(there(Operation::Remove)(errno).into()),
                }
            }
            Some(_) => match sys::unlink(at, name) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(there(Operation::Remove)(errno).into()),
            },
        }
        Ok(Outcome::Removed)
    }

    /// Takes away what dead runs have left in a directory.
    fn clear(&mut self, at: BorrowedFd<'_>, name: &CStr, path: &[u8]) -> Result<(), Fault> {
        let directory = sys::open_directory(at, name, Follow::No).map_err(there(Operation::Open))?;
        self.clear_directory(&directory, path)
    }

    /// The same beside what a step is about.
    pub fn clear_beside(&mut self, step: &Step) -> Result<(), Fault> {
        let (at, _) = self.spot(step)?;
        self.clear_directory(&at, split(step.path()).0)
    }

    fn clear_directory(&self, directory: &OwnedFd, path: &[u8]) -> Result<(), Fault> {
        leftovers::clear(
            directory,
            || path.to_vec(),
            Side::Destination(0),
            self.planner.stager,
            self.desk,
        )?;
        let mut of_hpcp = Vec::new();
        let take = |name: &CStr, kind| {
            if kind != Kind::Directory && is_of_hpcp(name.to_bytes()) {
                of_hpcp.push(name.to_owned());
            }
        };
        listing::each(directory.as_fd(), || self.desk.step(), take).map_err(there(Operation::List))?;
        for name in of_hpcp {
            match sys::unlink(directory.as_fd(), &name) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(there(Operation::Remove)(errno)),
            }
        }
        Ok(())
    }

    /// Removes a directory with all that is in it, but for what is mounted there.
    fn remove_tree(&self, at: BorrowedFd<'_>, name: &CStr) -> sys::Result<()> {
        let enter = |at: BorrowedFd<'_>, name: &CStr| {
            let directory = sys::open_directory(at, name, Follow::No)?;
            let (_, mount) = sys::stat_mounted(directory.as_fd())?;
            if mount == self.mount {
                Ok(directory)
            } else {
                Err(Errno::BUSY)
            }
        };
        // A stack instead of recursion: depth must not become stack.
        let mut stack = vec![(enter(at, name)?, name.to_owned())];
        while let Some((directory, _)) = stack.last() {
            self.desk.step();
            let mut entries = Vec::new();
            listing::each(
                directory.as_fd(),
                || self.desk.step(),
                |name, kind| entries.push((name.to_owned(), kind)),
            )?;
            let mut deeper = None;
            for (name, kind) in entries {
                let unlinked = if kind == Kind::Directory {
                    Err(Errno::ISDIR)
                } else {
                    sys::unlink(directory.as_fd(), &name)
                };
                match unlinked {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(Errno::ISDIR | Errno::PERM) => match sys::remove_directory(directory.as_fd(), &name) {
                        Ok(()) | Err(Errno::NOENT) => {}
                        Err(Errno::NOTEMPTY | Errno::EXIST) => {
                            deeper = Some((enter(directory.as_fd(), &name)?, name));
                            break;
                        }
                        Err(errno) => return Err(errno),
                    },
                    Err(errno) => return Err(errno),
                }
            }
            if deeper.is_some() {
                stack.extend(deeper);
                continue;
            }
            let Some((_, name)) = stack.pop() else { break };
            let up = stack.last().map_or(at, |(up, _)| up.as_fd());
            sys::remove_directory(up, &name)?;
        }
        Ok(())
    }

    /// What is in the way of something of another type goes, where that is forced; the answer is whether a file or link is to
    /// be replaced.
    fn make_way(&self, step: &Step, (at, name): (BorrowedFd<'_>, &CStr), now: Option<&Stat>) -> Result<bool, Fault> {
        match now {
            None => Ok(false),
            Some(stat) if stat.kind == Kind::Directory => {
                if !step.forced {
                    return Err(Fault::conflict(Operation::Rename, 0, "a directory is in the way"));
                }
                self.remove_tree(at, name).map_err(there(Operation::Remove))?;
                Ok(false)
            }
            Some(_) => Ok(true),
        }
    }

    fn directory(
        &mut self,
        step: &Step,
        inode: &Inode,
        (at, name): (BorrowedFd<'_>, &CStr),
        now: Option<&Stat>,
    ) -> Result<Outcome, Stopped> {
        if let Some(stat) = now.filter(|stat| stat.kind == Kind::Directory) {
            let directory = sys::open_directory(at, name, Follow::No).map_err(there(Operation::Open))?;
            let node = Node::Open(directory.as_fd());
            let mut stat = *stat;
            if matches!(&step.row.old, State::Directory(old) if old.xattrs != inode.xattrs) {
                // Attributes come one by one: until all have come it is seen as unfinished.
                sys::set_mode(node, UNFINISHED).map_err(there(Operation::SetMode))?;
                stat.mode = UNFINISHED;
            }
            self.dress(step, inode, (node, &stat), inode.mode, false)?;
            return Ok(if step.op() == Op::Add {
                Outcome::Made
            } else {
                Outcome::Metadata
            });
        }
        if now.is_some() {
            if !step.forced {
                return Err(Fault::conflict(Operation::MakeDirectory, 0, CHANGED).into());
            }
            sys::unlink(at, name).map_err(there(Operation::Remove))?;
        }
        // Its own mode comes last: until then it is seen as unfinished.
        match sys::make_directory(at, name) {
            Err(Errno::EXIST) => return Err(Fault::conflict(Operation::MakeDirectory, 0, CHANGED).into()),
            other => other.map_err(there(Operation::MakeDirectory))?,
        }
        let directory = sys::open_directory(at, name, Follow::No).map_err(there(Operation::Open))?;
        let stat = sys::stat_fd(directory.as_fd()).map_err(there(Operation::Stat))?;
        // Whoever is not root has to write into it first.
        let mode = if self.keep.reach.privileged {
            inode.mode
        } else {
            inode.mode | UNFINISHED
        };
        self.dress(step, inode, (Node::Open(directory.as_fd()), &stat), mode, true)?;
        Ok(Outcome::Made)
    }

    /// Gives an entry owner, attributes and mode of its row; of the payload come only the attributes.
    fn dress(
        &mut self,
        step: &Step,
        inode: &Inode,
        (node, stat): (Node<'_>, &Stat),
        mode: u32,
        new: bool,
    ) -> Result<(), Stopped> {
        let source = Stat {
            mode,
            uid: inode.uid,
            gid: inode.gid,
            ..*stat
        };
        let mut opened: Option<OwnedFd> = None;
        if let Some((at, name, _)) = self.planner.in_payload(step.path(), step.volume)? {
            opened = Some(sys::open_node(at.as_fd(), &name).map_err(payload(Operation::Open))?);
        }
        let from = opened.as_ref().map(|fd| Node::Path(fd.as_fd()));
        let subject = Subject {
            node,
            owner: (stat.uid, stat.gid),
            mode: stat.mode,
            born: None,
            new,
            inherits: true,
            destination: 0,
        };
        put_right(self.keep, &source, from, subject, Some(node), &mut self.scratch)?;
        Ok(())
    }

    fn link(
        &mut self,
        step: &Step,
        text: &[u8],
        (at, name): (BorrowedFd<'_>, &CStr),
        now: Option<&Stat>,
    ) -> Result<Outcome, Stopped> {
        let text = c_string(text).map_err(there(Operation::MakeSymlink))?;
        let replace = self.make_way(step, (at, name), now)?;
        let stager = self.planner.stager;
        let make = |staged: &CStr| sys::make_symlink(&text, at, staged);
        let ((), staging) = stager.stage(name, make).map_err(there(Operation::MakeSymlink))?;
        let result = self
            .dress_link(step, at, &staging)
            .and_then(|()| Self::name(at, &staging, name, replace));
        if result.is_err() {
            discard(at, &staging);
        }
        result.map(|()| Outcome::Made)
    }

    /// The owner of a link comes from the payload: rows do not tell it.
    fn dress_link(&mut self, step: &Step, at: BorrowedFd<'_>, staging: &Staging) -> Result<(), Stopped> {
        let Some((_, _, from)) = self.planner.in_payload(step.path(), step.volume)? else {
            return Ok(());
        };
        let node = sys::open_node(at, staging.as_c_str()).map_err(there(Operation::Open))?;
        let stat = sys::stat_fd(node.as_fd()).map_err(there(Operation::Stat))?;
        let node = Node::Path(node.as_fd());
        let subject = Subject {
            node,
            owner: (stat.uid, stat.gid),
            mode: stat.mode,
            born: None,
            new: true,
            inherits: false,
            destination: 0,
        };
        put_right(self.keep, &from, None, subject, Some(node), &mut self.scratch)?;
        sys::set_times(node, None, Some(from.mtime)).map_err(there(Operation::SetTimes))?;
        Ok(())
    }

    fn file(
        &mut self,
        step: &Step,
        (at, name): (BorrowedFd<'_>, &CStr),
        now: Option<&Stat>,
    ) -> Result<Outcome, Stopped> {
        let found = self.planner.in_payload(step.path(), step.volume)?;
        let Some((from_at, from_name, _)) = found else {
            return Err(payload(Operation::Open)(Errno::NOENT).into());
        };
        let from = sys::open_file(from_at.as_fd(), &from_name).map_err(payload(Operation::Open))?;
        let stager = self.planner.stager;
        let (to, staging) = stager
            .stage(name, |staged| sys::create_file(at, staged))
            .map_err(there(Operation::Create))?;
        let mut result = self.fill(step, &from, &to, (at, &staging));
        if result.is_ok() {
            result = match self.make_way(step, (at, name), now) {
                Ok(replace) => Self::name(at, &staging, name, replace),
                Err(fault) => Err(fault.into()),
            };
        }
        if result.is_err() {
            discard(at, &staging);
        }
        result.map(|()| Outcome::Copied)
    }

    fn fill(
        &mut self,
        step: &Step,
        from: &OwnedFd,
        to: &OwnedFd,
        (at, staging): (BorrowedFd<'_>, &Staging),
    ) -> Result<(), Stopped> {
        let State::File {
            size,
            mtime,
            hash,
            inode,
        } = &step.row.new
        else {
            return Err(there(Operation::Work)(Errno::INVAL).into());
        };
        let stat = sys::stat_fd(from.as_fd()).map_err(payload(Operation::Stat))?;
        if stat.kind != Kind::File || stat.size != *size {
            return Err(Fault::changed(Operation::Read).into());
        }
        let made = sys::stat_fd(to.as_fd()).map_err(there(Operation::Stat))?;
        let flight = &self.counters.flight;
        let _in_hand = flight.in_hand();
        flight.begin(*size);
        let terms = Terms {
            destination: 0,
            sparse: Sparse::Auto,
            lasting: self.sync != Durability::None,
            proved: false,
            digests: &[],
            crowded: false,
            methods: self.methods,
            desk: self.desk,
        };
        let transfer = Transfer::new(terms, self.counters, (from.as_fd(), to.as_fd()), stat, made.id.dev);
        let end = match transfer.share()? {
            Some(end) => end,
            None => transfer.whole(&mut self.buffer)?,
        };
        if let Some(fault) = transfer.wrong_size(end)? {
            return Err(fault.into());
        }
        self.dress(step, inode, (Node::Open(to.as_fd()), &made), inode.mode, true)?;
        if self.sync != Durability::None {
            let _syncing = self.desk.syncing();
            sys::sync_data(to.as_fd()).map_err(there(Operation::Sync))?;
        }
        if let Some(sum) = hash {
            let written = sys::open_file(at, staging.as_c_str()).map_err(there(Operation::Open))?;
            let from_cache = forget(written.as_fd(), *size);
            if *sum
                != self
                    .planner
                    .eyes
                    .sum(written.as_fd(), *size, sum.whole, Side::Destination(0))?
            {
                let text = "what was written is not what the patch says".to_owned();
                let cause = Cause::Unlike(DAMAGED, text);
                return Err(Fault {
                    operation: Operation::Verify,
                    side: Side::Destination(0),
                    cause,
                }
                .into());
            }
            self.counters.verified(*size, from_cache);
        }
        let mtime = time(*mtime).ok_or_else(|| there(Operation::SetTimes)(Errno::INVAL))?;
        sys::set_times(Node::Open(to.as_fd()), None, Some(mtime)).map_err(there(Operation::SetTimes))?;
        Ok(())
    }

    /// Gives what is finished its name. What is new takes nobody's place.
    fn name(at: BorrowedFd<'_>, staging: &Staging, name: &CStr, replace: bool) -> Result<(), Stopped> {
        if replace {
            return publish(at, staging, name, true, 0).map_err(Into::into);
        }
        appear(at, staging.as_c_str(), name).map_err(|errno| match errno {
            Errno::EXIST => Fault::conflict(Operation::Rename, 0, CHANGED).into(),
            errno => there(Operation::Rename)(errno).into(),
        })
    }
}

/// Takes away what could not be finished.
fn discard(at: BorrowedFd<'_>, staging: &Staging) {
    match sys::unlink(at, staging.as_c_str()) {
        // The next run takes it away.
        Ok(()) | Err(_) => {}
    }
}
