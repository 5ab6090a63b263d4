//! The second half of a file's way: what was made of it is proved, gets its metadata and its name, and the file goes.
//!
//! Comes in: what a thread has written, some files at a time; goes out: the outcome of each. Order: content on the medium,
//! read back from there and compared with what the file gave, owner, attributes, mode, times, name, all of that on the
//! medium too, and last of all the file, if it is what it was. Killed at any moment it leaves the file, or what was proved,
//! or both. A sync of a file system serves all that wait for one; so files go in batches, each with the sync of the next.

use std::ffi::CStr;
use std::mem;
use std::sync::PoisonError;

use bulkhaul_formats::codec::names::index_of;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind, Node, OwnedFd, Stat};

use crate::bytes::codec::{How, Target, unpack};
use crate::bytes::probe::{self, Extent, Likeness};
use crate::bytes::proof::{begins_with, forget, gives_again, leave, read_ahead};
use crate::compress::index;
use crate::compress::make::{MADE, Step, begin, discard, dress, give_up, made, source, unchanged};
use crate::compress::options::Deed;
use crate::compress::worker::{Done, Hand, Made, Named, Place, Run};
use crate::entry::{Outcome, Reason};
use crate::error::{Cause, Failure, Fault, Operation, Side, Stopped};
use crate::tree::medium::is_original;
use crate::tree::metadata::{Subject, put_right};
use crate::tree::path::join;
use crate::tree::staging::{Staging, appear};

/// Files that wait at most.
const BATCH_FILES: usize = 512;
/// Bytes that wait at most, of what was written.
const BATCH_BYTES: u64 = 256 * 1024 * 1024;
/// What waits is at most this part of what the thread has ended before, or one file: whoever is killed does little of it again.
const SHARE: usize = 8;
/// From this many on, one sync of the file system costs less than one for each file.
const FILE_SYSTEM_SYNC_FILES: usize = 16;
/// Times that a file is read whose archive reads back differently.
const ATTEMPTS: u32 = 2;
/// Not the index of an archive.
const OTHER_INDEX: &str = "what has the name of its index is another";
/// Somebody else has made what has the name now.
const TAKEN: &str = "something got its name meanwhile, so both stay";

/// Takes in how far a file has come; where enough of them wait, they come further.
pub fn take(run: &Run<'_>, hand: &mut Hand<'_>, place: &Place, step: Result<Step, Stopped>) {
    let last = hand.made.last().map(|made| &made.place);
    let last = last.or(hand.named.last().map(|named| &named.place));
    let other = last.is_none_or(|last| last.node.id() != place.node.id());
    if hold(run, hand, place, step) {
        hand.waiting += 1;
        hand.directories += usize::from(other);
    }
    let files = (hand.ended / SHARE).clamp(1, BATCH_FILES);
    let bytes = (hand.ended_bytes / SHARE as u64).clamp(1, BATCH_BYTES);
    let full = hand.waiting >= files || hand.made_bytes >= bytes;
    if full || hand.directories >= run.directories {
        flush(run, hand);
    }
}

/// The same, and all wait. Whether this one does.
fn hold(run: &Run<'_>, hand: &mut Hand<'_>, place: &Place, step: Result<Step, Stopped>) -> bool {
    let end = match step {
        Ok(Step::Made(made)) => {
            hand.made_bytes += made.size;
            hand.made.push(made);
            return true;
        }
        Ok(Step::Named(named)) => {
            hand.named.push(named);
            return true;
        }
        Ok(Step::Waits) => return false,
        Ok(Step::Done(done)) => Ok(done),
        Err(stopped) if is_replaced(place, &stopped) => {
            run.desk.note(Reason::Vanished.text(), || {
                let what = "it went meanwhile, and what was to be made of it is there: another run was quicker";
                (place.path(Side::Source), what.to_owned())
            });
            Ok(Done::skipped(Reason::Vanished, 0))
        }
        Err(stopped) => Err(stopped),
    };
    run.record(hand, place, Kind::File, end);
    false
}

/// Whether a file has gone, and something has the name that was to take its place: who puts that there has proved it, or
/// somebody else has removed the file.
fn is_replaced(place: &Place, stopped: &Stopped) -> bool {
    let Stopped::Fault(Fault {
        side: Side::Source,
        cause,
        ..
    }) = stopped
    else {
        return false;
    };
    let look = |name: &CStr| sys::stat(place.at.as_fd(), name, Follow::No);
    let gone = match cause {
        Cause::Errno(Errno::NOENT) => true,
        // What is open goes by a rename in NFS and FUSE, and a server may know it no more.
        Cause::Changed | Cause::Errno(Errno::STALE) => matches!(look(&place.name), Err(Errno::NOENT)),
        _ => false,
    };
    gone && !place.target.is_empty() && look(&place.target).is_ok_and(|there| there.kind == Kind::File)
}

/// Ends the way of all files that wait.
pub fn finish(run: &Run<'_>, hand: &mut Hand<'_>) {
    while hand.waits() {
        flush(run, hand);
    }
}

/// Syncs what waits; then files go whose place is taken, and what was written is proved and gets its name.
fn flush(run: &Run<'_>, hand: &mut Hand<'_>) {
    let (made, named) = (mem::take(&mut hand.made), mem::take(&mut hand.named));
    hand.ended += mem::take(&mut hand.waiting);
    hand.ended_bytes += mem::take(&mut hand.made_bytes);
    hand.directories = 0;
    if run.desk.cancel.is_over() {
        // Both stay of what is proved, and the next run sees that.
        for made in &made {
            take_off(run, hand, made, &Stopped::Aborted);
        }
        return;
    }
    let synced = sync(run, &made, &named);
    for named in named {
        let synced = synced.contains(&named.kept.id.dev);
        let end = match index_existing(run, hand, &named) {
            Ok(indexed) => depart(run, &named, synced && !indexed),
            Err(stopped) => Err(stopped),
        };
        run.record(hand, &named.place, Kind::File, end);
    }
    let ahead = |made: &Made| {
        let is_synced = synced.contains(&made.id.dev);
        let opened = is_synced.then(|| sys::open_file(made.place.at.as_fd(), made.staging.as_c_str()).ok());
        opened.flatten().map(|new| read_ahead(new.as_fd(), made.size))
    };
    let forgotten: Vec<Option<u64>> = made.iter().map(ahead).collect();
    for (made, forgotten) in made.into_iter().zip(forgotten) {
        prove_or_again(run, hand, &made, forgotten);
    }
}

/// Syncs the file systems of what waits, where that serves and can be relied on; answers their devices.
fn sync(run: &Run<'_>, made: &[Made], named: &[Named]) -> Vec<u64> {
    let mut synced = Vec::new();
    if made.len() + named.len() < FILE_SYSTEM_SYNC_FILES {
        return synced;
    }
    let _syncing = run.desk.syncing();
    let waiting = made.iter().map(|made| (made.id.dev, &made.place));
    for (device, place) in waiting.chain(named.iter().map(|named| (named.kept.id.dev, &named.place))) {
        // An error of one thread's sync may be told to another; content is read back, and where this fails each file is
        // synced. Who shows files of another system may not pass it on.
        if !synced.contains(&device) && is_original(place.at.as_fd()) && sys::sync_file_system(place.at.as_fd()).is_ok()
        {
            synced.push(device);
        }
    }
    synced
}

/// Proves what was written; where it reads back differently, the file is read once more, and where something has its name by
/// now, it is compared with that.
fn prove_or_again(run: &Run<'_>, hand: &mut Hand<'_>, made: &Made, forgotten: Option<u64>) {
    let place = &made.place;
    let proved = prove(run, hand, made, forgotten);
    let stopped = match proved {
        Ok(named) => {
            hand.named.push(named);
            return;
        }
        Err(stopped) => stopped,
    };
    take_off(run, hand, made, &stopped);
    let again = matches!(
        &stopped,
        Stopped::Fault(Fault {
            cause: Cause::Mismatch | Cause::Conflict(TAKEN),
            ..
        })
    );
    let step = if again && made.attempt < ATTEMPTS {
        sys::open_file(place.at.as_fd(), &place.name)
            .map_err(|errno| source(Operation::Open)(errno).into())
            .and_then(|file| {
                unchanged(&file, &made.stat, Operation::Verify)?;
                begin(run, hand, place, (&file, &made.stat), made.attempt + 1)
            })
    } else {
        Err(stopped)
    };
    hold(run, hand, place, step);
}

/// Takes back what was written of a file, unless a later run can go on with it.
fn take_off(run: &Run<'_>, hand: &Hand<'_>, made: &Made, stopped: &Stopped) {
    give_up(run, hand, &made.place, (&made.staging, made.begun.as_ref()), stopped);
    if let Some(index) = &made.index {
        discard(run, &made.place, index);
    }
}

/// What was written is on the medium, and gives the content of the file: then it gets its metadata and its name.
fn prove(run: &Run<'_>, hand: &mut Hand<'_>, written: &Made, forgotten: Option<u64>) -> Result<Named, Stopped> {
    let Made {
        place,
        staging,
        stat,
        size,
        ..
    } = written;
    if run.desk.cancel.is_over() {
        return Err(Stopped::Aborted);
    }
    let at = place.at.as_fd();
    let flight = &hand.counters.flight;
    let _in_hand = flight.in_hand();
    flight.begin(*size);
    flight.staged();
    let new = sys::open_file(at, staging.as_c_str()).map_err(made(Operation::Open))?;
    let there = sys::stat_fd(new.as_fd()).map_err(made(Operation::Stat))?;
    let whole = there.size == *size || written.begun.is_some() && there.size > *size;
    if !whole || (there.id, there.kind) != (written.id, Kind::File) {
        return Err(Fault::conflict(Operation::Verify, 0, "it is not what was written").into());
    }
    let file = sys::open_file(at, &place.name).map_err(source(Operation::Open))?;
    unchanged(&file, stat, Operation::Verify)?;
    if forgotten.is_none() {
        let _syncing = run.desk.syncing();
        sys::sync_data(new.as_fd()).map_err(made(Operation::Sync))?;
    }
    if let Some(begun) = &written.begun {
        begun.ledger.synced(begun.file.as_fd());
    }
    let from_cache = forgotten.unwrap_or_else(|| forget(new.as_fd(), *size));
    if !gives_content(run, hand, written, &new)? {
        return Err(Fault {
            operation: Operation::Verify,
            side: MADE,
            cause: Cause::Mismatch,
        }
        .into());
    }
    leave(new.as_fd(), *size, from_cache);
    if matches!(run.rules.deed, Deed::Pack { twice: true, .. }) {
        let (was, desk) = ((written.bytes, written.content), (run.desk, &*hand.counters.flight));
        if !gives_again(file.as_fd(), was, desk, &mut hand.buffer)? {
            return Err(Fault {
                operation: Operation::Verify,
                side: Side::Source,
                cause: Cause::Mismatch,
            }
            .into());
        }
    }
    hand.counters.verified(*size, from_cache);
    unchanged(&file, stat, Operation::Verify)?;
    if let Some(begun) = &written.begun {
        // From here on there is no going on with it: all that may take long is over.
        let cut = begun.ledger.give_up(begun.file.as_fd(), *size);
        cut.map_err(made(Operation::Write))?;
    }
    dress(run, hand, (&file, stat), &new, true)?;
    run.tell_shortfalls(hand, place);
    if let Some(index) = &written.index {
        dress_index(run, hand, (&file, stat), place, index)?;
    }
    // Before it has its name: who knows open files by their names (FUSE) knows it no more after that.
    let kept = sys::stat_fd(new.as_fd()).map_err(made(Operation::Stat))?;
    if matches!(run.rules.deed, Deed::Unpack { .. }) {
        run.order.makes(place.node.id(), &place.target);
    }
    publish(run, hand, written, forgotten.is_some())?;
    Ok(Named {
        place: place.clone(),
        stat: *stat,
        kept,
        ours: true,
        done: Done {
            outcome: Outcome::Copied,
            reason: None,
            size: stat.size,
            bytes: *size,
        },
    })
}

/// Whether what was written is, or has in it, what the file gave.
fn gives_content(run: &Run<'_>, hand: &mut Hand<'_>, written: &Made, new: &OwnedFd) -> Result<bool, Stopped> {
    if !matches!(run.rules.deed, Deed::Pack { .. }) {
        let (content, desk) = ((written.bytes, written.content), (run.desk, &*hand.counters.flight));
        return begins_with(new.as_fd(), content, 0, desk, &mut hand.buffer);
    }
    let how = How {
        proof: true,
        bytes: written.size,
        ..How::default()
    };
    match hand.lend(run, |lead| unpack(lead, new.as_fd(), Target::Nothing, how)) {
        Ok(unpacked) => Ok((unpacked.content, unpacked.written) == (written.content, written.bytes)),
        // It was whole when it was written.
        Err(Stopped::Fault(Fault {
            cause: Cause::Damaged(_) | Cause::Foreign(_),
            ..
        })) => Ok(false),
        Err(stopped) => Err(stopped),
    }
}

/// Lets those read an index who may read its archive.
fn dress_index(
    run: &Run<'_>,
    hand: &mut Hand<'_>,
    (file, stat): (&OwnedFd, &Stat),
    place: &Place,
    index: &Staging,
) -> Result<(), Fault> {
    let new = sys::open_file(place.at.as_fd(), index.as_c_str()).map_err(made(Operation::Open))?;
    let now = sys::stat_fd(new.as_fd()).map_err(made(Operation::Stat))?;
    let node = Node::Open(new.as_fd());
    let copy = Subject {
        node,
        owner: (now.uid, now.gid),
        mode: now.mode,
        born: None,
        new: false,
        inherits: true,
        destination: 0,
    };
    let from = Some(Node::Open(file.as_fd()));
    put_right(&run.rules.keep_index, stat, from, copy, Some(node), &mut hand.scratch).map(drop)
}

/// An archive that was there already gets the index that was asked for, if it has none. Whether it did.
fn index_existing(run: &Run<'_>, hand: &mut Hand<'_>, named: &Named) -> Result<bool, Stopped> {
    let Named { place, kept, .. } = named;
    if named.ours || !matches!(run.rules.deed, Deed::Pack { index: true, .. }) {
        return Ok(false);
    }
    let (at, name) = (place.at.as_fd(), index_of(&place.target));
    let archive = sys::open_file(at, &place.target).map_err(made(Operation::Open))?;
    let now = sys::stat_fd(archive.as_fd()).map_err(made(Operation::Stat))?;
    if !now.is_same(kept) {
        return Err(Fault::conflict(Operation::Verify, 0, "it changed after it was compared, so both stay").into());
    }
    match sys::open_file(at, &name) {
        Ok(there) if index::is_of(&there, &archive, run.desk)? => return Ok(false),
        Ok(_) => return Err(Fault::conflict(Operation::Create, 0, OTHER_INDEX).into()),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(made(Operation::Open)(errno).into()),
    }
    let create = |name: &CStr| sys::create_file(at, name);
    let staged = run.stager.stage(&name, create);
    let (new, staging) = staged.map_err(made(Operation::Create))?;
    let written = index::write(&archive, now.size, &new, run.desk).and_then(|whole| {
        sys::close(new)
            .map_err(made(Operation::Write))
            .map(|()| whole)
            .map_err(Into::into)
    });
    let published = written.and_then(|whole| {
        if whole {
            dress_index(run, hand, (&archive, &now), place, &staging)?;
            return publish_index(run, hand, place, (&staging, &name), false);
        }
        run.desk.note("index", || {
            let text = "an archive that was there already is no BGZF, so it gets no index";
            (place.path(MADE), text.into())
        });
        discard(run, place, &staging);
        Ok(false)
    });
    if published.is_err() {
        discard(run, place, &staging);
    }
    published
}

/// Gives what is proved its name, its index first: whoever finds the archive finds that too. `synced`: what both hold is on
/// the medium.
fn publish(run: &Run<'_>, hand: &mut Hand<'_>, written: &Made, synced: bool) -> Result<(), Stopped> {
    let (place, at) = (&written.place, written.place.at.as_fd());
    let index = index_of(&place.target);
    let indexed = match &written.index {
        Some(staging) => publish_index(run, hand, place, (staging, &index), synced)?,
        None => false,
    };
    match appear(at, written.staging.as_c_str(), &place.target) {
        Ok(()) => Ok(()),
        Err(errno) => {
            if indexed {
                sys::unlink(at, &index).map_err(made(Operation::Remove))?;
            }
            Err(match errno {
                Errno::EXIST => Fault::conflict(Operation::Rename, 0, TAKEN),
                errno => made(Operation::Rename)(errno),
            }
            .into())
        }
    }
}

/// The same of an index. Whether it is new: one that a dead run left is the same.
fn publish_index(
    run: &Run<'_>,
    hand: &mut Hand<'_>,
    place: &Place,
    (staging, name): (&Staging, &CStr),
    synced: bool,
) -> Result<bool, Stopped> {
    let at = place.at.as_fd();
    let file = sys::open_file(at, staging.as_c_str()).map_err(made(Operation::Open))?;
    if !synced {
        let _syncing = run.desk.syncing();
        sys::sync_all(file.as_fd()).map_err(made(Operation::Sync))?;
    }
    match appear(at, staging.as_c_str(), name) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => {
            let there = sys::open_file(at, name).map_err(made(Operation::Open))?;
            let (one, other) = (file.as_fd(), there.as_fd());
            let same = probe::compare(one, other, Extent::All, 0, run.desk, &mut hand.buffer)?;
            if same != Likeness::Same {
                return Err(Fault::conflict(Operation::Rename, 0, OTHER_INDEX).into());
            }
            discard(run, place, staging);
            Ok(false)
        }
        Err(errno) => Err(made(Operation::Rename)(errno).into()),
    }
}

/// The place of a file is taken: it goes, unless it was to stay. `synced`: all that took its place is on the medium.
fn depart(run: &Run<'_>, named: &Named, synced: bool) -> Result<Done, Stopped> {
    let Named {
        place,
        stat,
        kept,
        ours,
        done,
    } = named;
    let at = place.at.as_fd();
    if !synced {
        sync_name(run, named)?;
    }
    if run.rules.asked.keep {
        return Ok(*done);
    }
    let stays = |what| Fault::conflict(Operation::Remove, 0, what);
    match sys::stat(at, &place.target, Follow::No) {
        Ok(now) if (now.id, now.size, now.mtime) == (kept.id, kept.size, kept.mtime) => {}
        Ok(_) => return Err(stays("it was replaced meanwhile, so both stay").into()),
        Err(Errno::NOENT) => return Err(stays("it was taken away meanwhile, so the other stays").into()),
        Err(errno) => return Err(made(Operation::Stat)(errno).into()),
    }
    match sys::stat(at, &place.name, Follow::No) {
        Ok(now) if now.is_same(stat) => {}
        Ok(_) => {
            // It is of what the file was before.
            if *ours {
                take_back(run, place)?;
            }
            return Err(Fault::changed(Operation::Verify).into());
        }
        // Somebody else took it away.
        Err(Errno::NOENT) => return Ok(*done),
        Err(errno) => return Err(source(Operation::Stat)(errno).into()),
    }
    if matches!(run.rules.deed, Deed::Unpack { .. }) {
        remove_index(run, place, stat)?;
    }
    match sys::unlink(at, &place.name) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(source(Operation::Remove)(errno).into()),
    }
    let mut written = run.written.lock().unwrap_or_else(PoisonError::into_inner);
    if !written.iter().any(|other| other.device() == place.device()) {
        written.push(place.clone());
    }
    Ok(*done)
}

/// What went does not come back after a power cut. Where that can't be had, the file is there beside what was made of it.
pub fn sync_all(run: &Run<'_>) {
    let written = run.written.lock().unwrap_or_else(PoisonError::into_inner);
    let _syncing = run.desk.syncing();
    for place in written.iter().filter(|_| !run.desk.cancel.is_draining()) {
        if let Err(errno) = sys::sync_file_system(place.at.as_fd()) {
            let fault = made(Operation::Sync)(errno);
            run.desk
                .fail(Failure::new(&fault, place.node.path(), Kind::Directory, None));
        }
    }
}

/// The index of an archive goes before it: alone it is of no use.
fn remove_index(run: &Run<'_>, place: &Place, stat: &Stat) -> Result<(), Stopped> {
    let (at, name) = (place.at.as_fd(), index_of(&place.name));
    let there = match sys::stat(at, &name, Follow::No) {
        Ok(there) => there,
        // As a rule there is none.
        Err(Errno::NOENT | Errno::NAMETOOLONG) => return Ok(()),
        Err(errno) => return Err(source(Operation::Stat)(errno).into()),
    };
    let archive = sys::open_file(at, &place.name).map_err(source(Operation::Open))?;
    unchanged(&archive, stat, Operation::Verify)?;
    let is_its = if there.kind == Kind::File && there.nlink == 1 {
        let index = sys::open_file(at, &name).map_err(source(Operation::Open))?;
        index::is_of(&index, &archive, run.desk)?
    } else {
        false
    };
    if is_its {
        sys::unlink(at, &name).map_err(source(Operation::Remove))?;
    } else {
        run.desk.note("index", || {
            let text = "what has the name of an archive's index is another, so it stays";
            (join(&place.node.path(), name.to_bytes()), text.into())
        });
    }
    Ok(())
}

/// The file changed after its archive was made, which goes again.
fn take_back(run: &Run<'_>, place: &Place) -> Result<(), Fault> {
    let at = place.at.as_fd();
    sys::unlink(at, &place.target).map_err(made(Operation::Remove))?;
    if matches!(run.rules.deed, Deed::Pack { index: true, .. }) {
        sys::unlink(at, &index_of(&place.target)).map_err(made(Operation::Remove))?;
    }
    Ok(())
}

/// What took the place of a file gets on the medium with its name.
fn sync_name(run: &Run<'_>, named: &Named) -> Result<(), Fault> {
    let (place, at) = (&named.place, named.place.at.as_fd());
    let _syncing = run.desk.syncing();
    let file = sys::open_file(at, &place.target).map_err(made(Operation::Open))?;
    sys::sync_all(file.as_fd()).map_err(made(Operation::Sync))?;
    match sys::sync_all(at) {
        // What has no sync of directories has nothing of theirs to lose, or can't be asked.
        Ok(()) | Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(()),
        Err(errno) => Err(made(Operation::Sync)(errno)),
    }
}
