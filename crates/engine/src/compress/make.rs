//! The first half of a file's way: what is made of it, beside it, under a name that nobody takes for it; or what has the
//! name already, compared with it.
//!
//! Comes in: an open file with its facts; goes out: what was written and is to be proved, what is proved already, or why
//! nothing was made. The file is read once: the codec and the digest are fed from the same buffer. Promises: what fails on
//! its way leaves nothing.

use std::ffi::CStr;
use std::mem;
use std::sync::{Arc, PoisonError};

use bulkhaul_formats::codec::Gzi;
use bulkhaul_formats::codec::names::index_of;
use bulkhaul_formats::digest::ContentDigest;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Identity, Kind, Node, OwnedFd, Stat};

use crate::bytes::codec::{How, Target, has_units, pack, unpack, write_index};
use crate::bytes::digests::digests;
use crate::bytes::ledger::{Ledger, Manner};
use crate::bytes::proof::{forget, read_back};
use crate::bytes::transfer::is_long;
use crate::compress::options::Deed;
use crate::compress::order::Said;
use crate::compress::worker::{Begun, Done, Hand, Made, Named, Place, Run};
use crate::entry::{Outcome, Reason};
use crate::error::{Cause, Failure, Fault, Operation, Side, Stopped};
use crate::sweep::leftovers;
use crate::tree::full::explained;
use crate::tree::medium::has_sizes;
use crate::tree::metadata::{Subject, missing, put_right, set_times};
use crate::tree::path::join;
use crate::tree::protection::forbidden;
use crate::tree::staging::Staging;

/// The side of what is made: there is only one.
pub const MADE: Side = Side::Destination(0);

/// Permission bits of what is not finished.
const ITS_OWNERS: u32 = 0o600;

/// What has the name is not what would get it.
const OTHER_CONTENT: &str = "its content is another, so both stay";

/// How far a file has come.
#[allow(clippy::large_enum_variant, reason = "as a rule it is the large one")]
pub enum Step {
    /// Its turn comes when others are done.
    Waits,
    /// Nothing is left to do.
    Done(Done),
    /// Something is written, and to be proved.
    Made(Made),
    /// What has the name is proved.
    Named(Named),
}

/// A fault of the file that something is made of.
pub fn source(operation: Operation) -> impl Fn(Errno) -> Fault {
    move |errno| Fault::new(operation, Side::Source, errno)
}

/// A fault of what is made.
pub fn made(operation: Operation) -> impl Fn(Errno) -> Fault {
    move |errno| Fault::new(operation, MADE, errno)
}

/// An error where a file is not what it was.
pub fn unchanged(file: &OwnedFd, stat: &Stat, operation: Operation) -> Result<(), Fault> {
    let now = sys::stat_fd(file.as_fd()).map_err(source(Operation::Stat))?;
    if now.is_same(stat) {
        Ok(())
    } else if now.nlink == 0 {
        Err(source(operation)(Errno::NOENT))
    } else {
        Err(Fault::changed(operation))
    }
}

/// Makes the archive of a file, or the content of an archive, unless something has its name already. `attempt`: how often
/// the file has been read for it then.
pub fn begin(
    run: &Run<'_>,
    hand: &mut Hand<'_>,
    place: &Place,
    (file, stat): (&OwnedFd, &Stat),
    attempt: u32,
) -> Result<Step, Stopped> {
    let at = place.at.as_fd();
    let dry_run = run.rules.asked.dry_run;
    let said = dry_run.then(|| run.order.said(place.node.id(), &place.target));
    match (said.flatten(), sys::stat(at, &place.target, Follow::No)) {
        (Some(Said::ContentOf(first)), _) => return rehearse(run, hand, place, (file, stat), &first),
        (None, Ok(existing)) => return compare(run, hand, place, (file, stat), &existing),
        (Some(Said::Free), _) | (None, Err(Errno::NOENT)) => {}
        (None, Err(errno)) => return Err(made(Operation::Stat)(errno).into()),
    }
    permit(run, place, stat)?;
    if dry_run {
        return Ok(would(run, place, Outcome::Copied, stat));
    }
    clear(run, place)?;
    let flight = &hand.counters.flight;
    let _in_hand = flight.in_hand();
    flight.begin(stat.size);
    let (new, staging, begun) = stage(run, hand, place, (file, stat))?;
    flight.staged();
    let ledger = begun.as_ref().map(|begun| Arc::clone(&begun.ledger));
    let filled = fill(run, hand, place, (file, stat), (new, ledger.as_ref()))
        .map_err(|stopped| explained(stopped, at, &place.node.path(), stat.size));
    match &filled {
        Ok(Some(_)) => {}
        Err(stopped) => give_up(run, hand, place, (&staging, begun.as_ref()), stopped),
        Ok(None) => discard(run, place, &staging),
    }
    Ok(match filled? {
        Some(Filled {
            content,
            bytes,
            id,
            size,
            index,
        }) => Step::Made(Made {
            place: place.clone(),
            staging,
            stat: *stat,
            id,
            size,
            begun,
            content,
            bytes,
            index,
            attempt,
        }),
        None => Step::Done(Done::skipped(Reason::NotSmaller, stat.size)),
    })
}

/// What a dry run says of a file, and goes by where others depend on it.
fn would(run: &Run<'_>, place: &Place, outcome: Outcome, stat: &Stat) -> Step {
    let (directory, keep) = (place.node.id(), run.rules.asked.keep);
    if matches!(run.rules.deed, Deed::Unpack { .. }) {
        if !keep {
            run.order.say(directory, &place.name, Said::Free);
        }
        if outcome == Outcome::Copied {
            let said = Said::ContentOf(place.name.clone());
            run.order.say(directory, &place.target, said);
        }
    }
    Step::Done(match outcome {
        Outcome::Removed if keep => Done::skipped(Reason::Unchanged, stat.size),
        outcome => Done {
            outcome,
            reason: None,
            size: stat.size,
            bytes: 0,
        },
    })
}

/// A dry run has said that the content of another archive gets the name: this one is compared with that.
fn rehearse(
    run: &Run<'_>,
    hand: &mut Hand<'_>,
    place: &Place,
    (file, stat): (&OwnedFd, &Stat),
    first: &CStr,
) -> Result<Step, Stopped> {
    permit(run, place, stat)?;
    let flight = &hand.counters.flight;
    let _in_hand = flight.in_hand();
    flight.begin(stat.size);
    let mut content = |file: &OwnedFd| {
        hand.lend(run, |lead| unpack(lead, file.as_fd(), Target::Nothing, How::default()))
            .map(|unpacked| unpacked.content)
    };
    let there = sys::open_file(place.at.as_fd(), first).map_err(source(Operation::Open))?;
    let is = match content(&there) {
        Ok(is) => is,
        // It won't become it, and what comes next does.
        Err(Stopped::Fault(_)) => return Ok(would(run, place, Outcome::Copied, stat)),
        Err(stopped) => return Err(stopped),
    };
    if content(file)? == is {
        Ok(would(run, place, Outcome::Removed, stat))
    } else {
        Err(Fault::conflict(Operation::Create, 0, OTHER_CONTENT).into())
    }
}

/// A new file for what is made, under a name that nobody takes for it: of a big one, what a dead run has begun.
fn stage(
    run: &Run<'_>,
    hand: &Hand<'_>,
    place: &Place,
    (file, stat): (&OwnedFd, &Stat),
) -> Result<(OwnedFd, Staging, Option<Begun>), Fault> {
    let at = place.at.as_fd();
    let create = |name: &CStr| sys::create_file(at, name);
    let manner = match run.rules.deed {
        Deed::Pack { codec, .. } if is_long(stat.size) && has_sizes(file.as_fd()) => {
            Manner::archive(codec, stat.size, ITS_OWNERS, true)
        }
        Deed::Unpack { .. }
            if is_long(stat.size.saturating_mul(2)) && has_sizes(file.as_fd()) && has_units(file.as_fd())? =>
        {
            Manner::content(stat.size, ITS_OWNERS)
        }
        _ => {
            let staged = run.stager.stage(&place.target, create);
            return staged
                .map(|(new, staging)| (new, staging, None))
                .map_err(made(Operation::Create));
        }
    };
    let mut found = None;
    let fits = |new: &OwnedFd, there: &Stat| {
        found = Ledger::found(new.as_fd(), stat, there, manner);
        found.is_some()
    };
    let staged = run.stager.stage_file(at, (&place.target, None), create, fits);
    let (new, staging, locked) = staged.map_err(made(Operation::Create))?;
    if found.is_some() {
        hand.counters.resumes();
    }
    let begun = || -> sys::Result<Option<Begun>> {
        let there = sys::stat_fd(new.as_fd())?;
        let fresh = || locked.then(|| Ledger::new(new.as_fd(), stat, &there, manner)).flatten();
        let Some(ledger) = found.or_else(fresh).map(Arc::new) else {
            return Ok(None);
        };
        let file = sys::duplicate(new.as_fd())?;
        Ok(Some(Begun { file, ledger }))
    };
    match begun() {
        Ok(begun) => Ok((new, staging, begun)),
        Err(errno) => {
            discard(run, place, &staging);
            Err(made(Operation::Open)(errno))
        }
    }
}

/// What was made of a file is not to be, or not now: it goes, or where a later run can go on with it, it stays.
pub fn give_up(
    run: &Run<'_>,
    hand: &Hand<'_>,
    place: &Place,
    (staging, begun): (&Staging, Option<&Begun>),
    stopped: &Stopped,
) {
    match begun {
        Some(begun) if matches!(stopped, Stopped::Aborted) => {
            hand.counters.left_unfinished();
            // Closing alone would leave the lock to a child that was just started; more than that can't be done.
            match sys::unlock(begun.file.as_fd()) {
                Ok(()) | Err(_) => {}
            }
        }
        _ => discard(run, place, staging),
    }
}

/// What was written of a file.
struct Filled {
    content: ContentDigest,
    bytes: u64,
    id: Identity,
    size: u64,
    index: Option<Staging>,
}

/// Fills a new file. None: it would not be smaller.
fn fill(
    run: &Run<'_>,
    hand: &mut Hand<'_>,
    place: &Place,
    (file, stat): (&OwnedFd, &Stat),
    (new, ledger): (OwnedFd, Option<&Arc<Ledger>>),
) -> Result<Option<Filled>, Stopped> {
    let (content, bytes, size, index) = match &run.rules.deed {
        Deed::Pack {
            codec, index, force, ..
        } => {
            let packed = hand.lend(run, |lead| {
                pack(lead, file.as_fd(), new.as_fd(), *codec, (*index, &[]), ledger)
            })?;
            unchanged(file, stat, Operation::Read)?;
            if packed.read != stat.size && has_sizes(file.as_fd()) {
                return Err(Fault::size(Side::Source, stat.size, packed.read).into());
            }
            if packed.written >= packed.read && !force {
                return Ok(None);
            }
            (packed.content, packed.read, packed.written, packed.index)
        }
        Deed::Unpack { sparse } => {
            let into = sys::duplicate(new.as_fd()).map_err(made(Operation::Open))?;
            let how = How {
                sparse: *sparse,
                ..How::default()
            };
            let target = match ledger {
                Some(ledger) => Target::Begun(into, Arc::clone(ledger)),
                None => Target::File(into),
            };
            let unpacked = hand.lend(run, |lead| unpack(lead, file.as_fd(), target, how))?;
            unchanged(file, stat, Operation::Read)?;
            (unpacked.content, unpacked.written, unpacked.written, None)
        }
        // They make nothing.
        Deed::Test | Deed::Print(_) => return Ok(None),
    };
    let id = sys::stat_fd(new.as_fd()).map_err(made(Operation::Stat))?.id;
    // Network file systems tell at the close what they could not store.
    sys::close(new).map_err(made(Operation::Write))?;
    let index = index.map(|index| stage_index(run, place, &index)).transpose()?;
    Ok(Some(Filled {
        content,
        bytes,
        id,
        size,
        index,
    }))
}

/// Writes the index of an archive, under a name that nobody takes for it.
fn stage_index(run: &Run<'_>, place: &Place, index: &Gzi) -> Result<Staging, Fault> {
    let at = place.at.as_fd();
    let create = |name: &CStr| sys::create_file(at, name);
    let staged = run.stager.stage(&index_of(&place.target), create);
    let (file, staging) = staged.map_err(made(Operation::Create))?;
    if let Err(errno) = write_index(index, file.as_fd()).and_then(|()| sys::close(file)) {
        discard(run, place, &staging);
        return Err(made(Operation::Write)(errno));
    }
    Ok(staging)
}

/// Refuses what the flags of a file or of its directory forbid, before anything is written.
fn permit(run: &Run<'_>, place: &Place, stat: &Stat) -> Result<(), Fault> {
    let goes = (!run.rules.asked.keep).then_some(stat);
    match forbidden(Some(&place.node.sources[0].stat), goes) {
        Some(what) => Err(Fault {
            operation: Operation::Create,
            side: Side::Source,
            cause: Cause::Conflict(what),
        }),
        None => Ok(()),
    }
}

/// Before the first file of a directory is begun: what dead runs left there goes.
fn clear(run: &Run<'_>, place: &Place) -> Result<(), Fault> {
    let clear = || leftovers::clear_files(&place.at, MADE, run.stager, run.desk);
    if let Some(directory) = place.node.data() {
        if directory.cleared.get().is_none() {
            let left = clear()?;
            directory.cleared.get_or_init(|| left);
        }
        return Ok(());
    }
    let mut cleared = run.cleared.lock().unwrap_or_else(PoisonError::into_inner);
    let first = cleared.insert(place.node.id());
    drop(cleared);
    if first {
        clear()?;
    }
    Ok(())
}

/// Takes back what was written.
pub fn discard(run: &Run<'_>, place: &Place, staging: &Staging) {
    match sys::unlink(place.at.as_fd(), staging.as_c_str()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => {
            let path = join(&place.node.path(), staging.as_c_str().to_bytes());
            let fault = made(Operation::Remove)(errno);
            run.desk.fail(Failure::new(&fault, path, Kind::File, None));
        }
    }
}

/// What has the name of what would be made: the same content lets the file go, anything else is a conflict.
fn compare(
    run: &Run<'_>,
    hand: &mut Hand<'_>,
    place: &Place,
    (file, stat): (&OwnedFd, &Stat),
    existing: &Stat,
) -> Result<Step, Stopped> {
    let (asked, packs) = (&run.rules.asked, matches!(run.rules.deed, Deed::Pack { .. }));
    let conflict = |what| Fault::conflict(Operation::Create, 0, what);
    if existing.kind != Kind::File {
        return Err(conflict("something else has this name, so both stay").into());
    }
    permit(run, place, stat)?;
    if !asked.dry_run {
        clear(run, place)?;
    }
    let flight = &hand.counters.flight;
    let _in_hand = flight.in_hand();
    flight.begin(stat.size);
    let there = sys::open_file(place.at.as_fd(), &place.target).map_err(made(Operation::Open))?;
    // What was not written back yet can't be read from the medium.
    if !asked.dry_run {
        let _syncing = run.desk.syncing();
        sys::sync_data(there.as_fd()).map_err(made(Operation::Sync))?;
    }
    let from_cache = forget(there.as_fd(), existing.size);
    let how = How {
        proof: packs,
        ..How::default()
    };
    let archive = if packs { &there } else { file };
    let content = hand
        .lend(run, |lead| unpack(lead, archive.as_fd(), Target::Nothing, how))?
        .content;
    let same = if packs {
        let run = (run.desk, hand.counters);
        let read = digests((file.as_fd(), stat), &[], &mut hand.hashers, run, &mut hand.buffer);
        if matches!(
            &read,
            Err(Stopped::Fault(Fault {
                cause: Cause::Changed,
                ..
            }))
        ) {
            // It may have gone.
            unchanged(file, stat, Operation::Read)?;
        }
        let (digests, _) = read?;
        digests.first().is_some_and(|digest| *digest.bytes() == content)
    } else {
        unchanged(file, stat, Operation::Read)?;
        let (sizes, desk) = ((existing.size, from_cache), (run.desk, &*hand.counters.flight));
        let back = read_back(None, there.as_fd(), sizes, 0, desk, &mut hand.buffer)?;
        back.is_some_and(|back| back.digest == content)
    };
    let now = sys::stat_fd(there.as_fd()).map_err(made(Operation::Stat))?;
    if !now.is_same(existing) {
        // Another run may have taken it for its own, and the file away.
        unchanged(file, stat, Operation::Verify)?;
        return Err(conflict("it changed while it was compared, so both stay").into());
    }
    if !same {
        return Err(conflict(OTHER_CONTENT).into());
    }
    hand.counters.verified(existing.size, from_cache);
    if asked.dry_run {
        return Ok(would(run, place, Outcome::Removed, stat));
    }
    let done = if asked.keep {
        Done::skipped(Reason::Unchanged, stat.size)
    } else {
        Done {
            outcome: Outcome::Removed,
            reason: None,
            size: stat.size,
            bytes: 0,
        }
    };
    let indexes = matches!(run.rules.deed, Deed::Pack { index: true, .. });
    if asked.keep && !indexes {
        return Ok(Step::Done(done));
    }
    if !asked.keep {
        // With other names it may be somebody else's too.
        dress(run, hand, (file, stat), &there, existing.nlink < 2)?;
    }
    let kept = sys::stat_fd(there.as_fd()).map_err(made(Operation::Stat))?;
    Ok(Step::Named(Named {
        place: place.clone(),
        stat: *stat,
        kept,
        ours: false,
        done,
    }))
}

/// Gives what takes the place of a file all that this has besides its content. `alone`: it has no other names, and may be
/// changed. An error where it can't have it: then the file has to stay.
pub fn dress(
    run: &Run<'_>,
    hand: &mut Hand<'_>,
    (file, stat): (&OwnedFd, &Stat),
    new: &OwnedFd,
    alone: bool,
) -> Result<(), Fault> {
    let (keep, scratch) = (&run.rules.keep, &mut hand.scratch);
    let (from, to) = (Node::Open(file.as_fd()), Node::Open(new.as_fd()));
    let look = || sys::stat_fd(new.as_fd()).map_err(made(Operation::Stat));
    let lacks = |what: String| Fault {
        operation: Operation::Remove,
        side: Side::Source,
        cause: Cause::NotKept(what),
    };
    if alone {
        let now = look()?;
        let copy = Subject {
            node: to,
            owner: (now.uid, now.gid),
            mode: now.mode,
            born: None,
            new: false,
            inherits: true,
            destination: 0,
        };
        put_right(keep, stat, Some(from), copy, Some(to), scratch)?;
    }
    // What is missing says more than that it was refused.
    let told = mem::take(&mut scratch.shortfalls);
    if let Some(what) = missing(keep, stat, &look()?, Some((from, to)), 0, scratch)? {
        return Err(lacks(what));
    }
    scratch.shortfalls = told;
    // What has them is left as it is: another run may be comparing it.
    if alone && look()?.mtime != stat.mtime {
        set_times(keep, stat, to, 0, scratch)?;
    }
    // Some take times without a word, and drop them.
    if look()?.mtime == stat.mtime {
        Ok(())
    } else {
        Err(lacks("its time".to_owned()))
    }
}
