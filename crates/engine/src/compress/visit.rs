//! The visitor of the walk: what is done with each entry that it finds.
//!
//! Comes in: names in open directories; goes out: files on their way, and the outcome of all that is left alone: what is not
//! asked for by its name or size, what is compressed already, what has several names, and what is no file.

use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bulkhaul_formats::codec::{self, names};
use bulkhaul_formats::staging;
use bulkhaul_sys::{self as sys, AsFd as _, BorrowedFd, Errno, Kind, OwnedFd, Stat};

use crate::bytes::codec::{Blocks, How, Target, is_compressed, kind_of, unpack};
use crate::bytes::proof::forget;
use crate::bytes::stream::Stream;
use crate::compress::make::{MADE, Step, begin, made, source, unchanged};
use crate::compress::options::Deed;
use crate::compress::replace::{finish, take};
use crate::compress::worker::{Directory, Done, Hand, Place, Run};
use crate::entry::{Outcome, Reason};
use crate::error::{Cause, Failure, Fault, Operation, Side, Stopped};
use crate::job::desk::Desk;
use crate::sweep::leftovers::{self, Left};
use crate::tree::path::join;
use crate::walk::node::{Entered, Node};
use crate::walk::visitor::{self, Entries, Missed, Next, Visitor};

/// Why an archive does not become its content.
const NAMELESS: &str = "its name does not end as that of an archive, so that its content has none";

impl<'r> Visitor for Run<'r> {
    type Data = Directory;
    type Worker = Hand<'r>;
    type Task = Arc<Blocks>;

    fn worker(&self, index: usize) -> Hand<'r> {
        let desk: &'r Desk = self.desk;
        Hand::new(&desk.counters[index])
    }

    fn finish(&self, mut hand: Hand<'r>) {
        // What a panic loses has no outcome: the books will not balance, and the report says so.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| finish(self, &mut hand))) {
            self.failed(&mut hand, self.desk, &Fault::panic(&*panic));
        }
    }

    fn perform(hand: &mut visitor::Hand<'_, Self>, blocks: Arc<Blocks>) {
        let (schedule, counters) = (hand.schedule, hand.worker.counters);
        blocks.help(hand.desk, counters, &mut hand.worker.tools, || schedule.crowded());
    }

    fn enter(&self, hand: &mut Hand<'r>, entered: &Entered<'_, Directory>) -> Option<Directory> {
        // What was named is taken, whatever it is called.
        let reason = if self.in_use.has(entered.stat.id) || self.in_use.awaits(entered.parent.id(), entered.name) {
            Some(Reason::InUse)
        } else if entered.root.is_none() && self.arguments.name_directory(entered.stat.id) {
            Some(Reason::Overridden)
        } else if entered.root.is_none() && staging::parse(entered.name.to_bytes()).is_some() {
            Some(Reason::StagingName)
        } else {
            None
        };
        if let Some(reason) = reason {
            let paths = || (entered.relative_path(), entered.path());
            self.pass_by(hand, Kind::Directory, reason, paths);
            return None;
        }
        Some(Directory::default())
    }

    fn entries(&self, hand: &mut Hand<'r>, _at: BorrowedFd<'_>, entries: &mut Entries<'_, Self>) {
        let node = Arc::clone(entries.node());
        let opened = node.source(0);
        while let Some((name, kind)) = entries.next() {
            let name = name.to_owned();
            let at = match &opened {
                Ok(at) => Arc::clone(at),
                Err(errno) => {
                    let path = join(&node.path(), name.to_bytes());
                    self.fail(hand, path, kind, &source(Operation::Open)(*errno));
                    continue;
                }
            };
            let mut place = Place {
                node: Arc::clone(&node),
                at,
                name,
                target: CString::default(),
                extension: Vec::new(),
            };
            let twice = !node.holds_arguments() && self.arguments.name(node.id(), place.at.as_fd(), &place.name);
            if twice {
                let done = Done::skipped(Reason::Overridden, 0);
                self.record(hand, &place, kind, Ok(done));
            } else if kind == Kind::File {
                let step = deal(self, hand, &mut place);
                take(self, hand, &place, step);
            } else {
                let done = leave_alone(self, &place, kind);
                self.record(hand, &place, kind, Ok(done));
            }
        }
    }

    fn leave(&self, hand: &mut Hand<'r>, node: &Arc<Node<Directory>>) -> Next {
        if let Some(outcome) = node.failed.get() {
            hand.counters.outcome(Kind::Directory, *outcome, None, 0);
        } else {
            let paths = || (node.relative_path(), node.path());
            self.pass_by(hand, Kind::Directory, Reason::NotAFile, paths);
        }
        clear_begun(self, node);
        self.order.leaves(node.id());
        Next::Up
    }

    fn fault(&self, hand: &mut Hand<'r>, missed: &Missed<'_, Directory>, kind: Kind, fault: &Fault) {
        if fault.cause == Cause::Errno(Errno::XDEV) {
            let paths = || (missed.path(), missed.path());
            self.pass_by(hand, kind, Reason::OtherFileSystem, paths);
        } else {
            self.fail(hand, missed.path(), kind, fault);
        }
    }

    fn unlisted(&self, _hand: &mut Hand<'r>, node: &Arc<Node<Directory>>, _source: usize, errno: Errno) {
        let fault = source(Operation::List)(errno);
        node.failed.get_or_init(|| fault.outcome());
        self.desk.fail(Failure::new(&fault, node.path(), Kind::Directory, None));
    }
}

/// All files of a directory have begun: what dead runs have begun there, and nobody has gone on with, goes.
fn clear_begun(run: &Run<'_>, node: &Arc<Node<Directory>>) {
    let cleared = node.data().and_then(|directory| directory.cleared.get());
    if cleared != Some(&Left::Begun) || run.desk.cancel.is_draining() {
        return;
    }
    let fault = match node.source(0) {
        Ok(at) => leftovers::clear_begun(&at, MADE, run.stager, run.desk).err(),
        Err(errno) => Some(made(Operation::Open)(errno)),
    };
    if let Some(fault) = fault {
        run.desk.fail(Failure::new(&fault, node.path(), Kind::Directory, None));
    }
}

/// What is no file.
fn leave_alone(run: &Run<'_>, place: &Place, kind: Kind) -> Done {
    let (reason, what) = match kind {
        Kind::Symlink => (
            Reason::Symlink,
            "a symlink is left alone, and so is what it leads to, unless that is found by itself, or named with a slash at its end",
        ),
        _ => (Reason::Special, "what is no regular file is left alone"),
    };
    // What was named was meant, whatever it is called.
    if place.node.holds_arguments() || run.rules.choose(&place.name, false).is_some() {
        run.desk
            .note(reason.text(), || (place.path(Side::Source), what.to_owned()));
    }
    Done::skipped(reason, 0)
}

/// A file: looked at, and begun where it is meant.
fn deal(run: &Run<'_>, hand: &mut Hand<'_>, place: &mut Place) -> Result<Step, Stopped> {
    let skip = |reason, size| Ok(Step::Done(Done::skipped(reason, size)));
    if staging::parse(place.name.to_bytes()).is_some() {
        return skip(Reason::StagingName, 0);
    }
    if run.in_use.awaits(place.node.id(), &place.name) {
        return skip(Reason::InUse, 0);
    }
    let named = place.node.holds_arguments();
    let Some(chosen) = run.rules.choose(&place.name, named) else {
        if named {
            refuse(run, place)?;
        }
        tell_foreign(run, place);
        return skip(Reason::OtherSuffix, 0);
    };
    (place.target, place.extension) = (chosen.target, chosen.extension);
    if matches!(run.rules.deed, Deed::Unpack { .. }) {
        if run.order.made(place.node.id(), &place.name) {
            return skip(Reason::InUse, 0);
        }
        if run
            .order
            .puts_off(&place.node, place.at.as_fd(), &place.name, &place.target)
        {
            return Ok(Step::Waits);
        }
    }
    let opened = sys::open_file(place.at.as_fd(), &place.name);
    let file = opened.map_err(|errno| match errno {
        // It was a file when it was listed.
        Errno::LOOP => Fault::changed(Operation::Open),
        errno => source(Operation::Open)(errno),
    })?;
    let stat = sys::stat_fd(file.as_fd()).map_err(source(Operation::Stat))?;
    if stat.kind != Kind::File {
        return Err(Fault::changed(Operation::Open).into());
    }
    if run.in_use.has(stat.id) {
        return skip(Reason::InUse, 0);
    }
    hand.counters.sized(stat.size, stat.allocated);
    if stat.size < run.rules.asked.min_size {
        return skip(Reason::TooSmall, stat.size);
    }
    if let Some(stream) = &run.output {
        return print(run, hand, (&file, &stat), stream).map(Step::Done);
    }
    match &run.rules.deed {
        Deed::Test => return test(run, hand, (&file, &stat)).map(Step::Done),
        Deed::Pack { .. } if is_compressed((place.at.as_fd(), &place.name), file.as_fd())? => {
            return skip(Reason::Compressed, stat.size);
        }
        Deed::Pack { .. } | Deed::Unpack { .. } | Deed::Print(_) => {}
    }
    if stat.nlink > 1 {
        run.desk.note(Reason::SeveralNames.text(), || {
            let what = "a file with several names (hard links) is left alone";
            (place.path(Side::Source), what.into())
        });
        return skip(Reason::SeveralNames, stat.size);
    }
    match begin(run, hand, place, (&file, &stat), 1) {
        // What waits to go makes room.
        Err(Stopped::Fault(Fault {
            cause: Cause::Errno(Errno::NOSPC | Errno::DQUOT) | Cause::Full(..),
            ..
        })) if hand.waits() => {
            finish(run, hand);
            begin(run, hand, place, (&file, &stat), 1)
        }
        step => step,
    }
}

/// An archive that an argument names, and whose content gets no name here, is no success.
fn refuse(run: &Run<'_>, place: &Place) -> Result<(), Fault> {
    if !matches!(run.rules.deed, Deed::Unpack { .. }) || names::content_of(&place.name).is_some() {
        return Ok(());
    }
    let file = sys::open_file(place.at.as_fd(), &place.name).map_err(source(Operation::Open))?;
    let cause = match kind_of(file.as_fd(), Operation::Read, Side::Source)? {
        Some(codec::Kind::Archive(_)) => Cause::Conflict(NAMELESS),
        Some(codec::Kind::Foreign(program)) => Cause::Foreign(Some(program)),
        Some(codec::Kind::Compressed(_)) | None => return Ok(()),
    };
    Err(Fault {
        operation: Operation::Read,
        side: Side::Source,
        cause,
    })
}

/// Says who reads an archive that is not read here.
fn tell_foreign(run: &Run<'_>, place: &Place) {
    if matches!(run.rules.deed, Deed::Unpack { .. } | Deed::Test)
        && let Some(what) = names::foreign(&place.name)
    {
        run.desk.note("foreign", || {
            let text = format!("an archive of another program is left alone: {what}");
            (place.path(Side::Source), text)
        });
    }
}

/// Reads an archive, from the medium where that can be had.
fn test(run: &Run<'_>, hand: &mut Hand<'_>, (file, stat): (&OwnedFd, &Stat)) -> Result<Done, Stopped> {
    let flight = &hand.counters.flight;
    let _in_hand = flight.in_hand();
    flight.begin(stat.size);
    let from_cache = forget(file.as_fd(), stat.size);
    let bytes = read(run, hand, (file, stat), Target::Nothing)?;
    hand.counters.verified(stat.size, from_cache);
    Ok(Done {
        outcome: Outcome::Same,
        reason: None,
        size: stat.size,
        bytes,
    })
}

/// Writes the content of an archive to a stream.
fn print(
    run: &Run<'_>,
    hand: &mut Hand<'_>,
    (file, stat): (&OwnedFd, &Stat),
    stream: &Arc<Stream>,
) -> Result<Done, Stopped> {
    let flight = &hand.counters.flight;
    let _in_hand = flight.in_hand();
    flight.begin(stat.size);
    let bytes = match read(run, hand, (file, stat), Target::Stream(Arc::clone(stream))) {
        // Its reader has left, and has what was wanted.
        Err(Stopped::Aborted) if !run.desk.cancel.is_draining() => 0,
        read => read?,
    };
    Ok(Done {
        outcome: Outcome::Copied,
        reason: None,
        size: stat.size,
        bytes,
    })
}

/// Unpacks an archive that stays as it is; answers the bytes of its content.
fn read(run: &Run<'_>, hand: &mut Hand<'_>, (file, stat): (&OwnedFd, &Stat), target: Target) -> Result<u64, Stopped> {
    let unpacked = hand.lend(run, |lead| unpack(lead, file.as_fd(), target, How::default()))?;
    unchanged(file, stat, Operation::Read)?;
    Ok(unpacked.written)
}
