//! Regular files: whether one is there already, its copy, and the end of its way.
//!
//! Comes in: an entry that a listing called a file; goes out: what was done, at once or with its sync. The way is content,
//! owner, attributes, mode, ACLs and capabilities, the sync if one is due, times, name (design.md section 4).

use std::ffi::CStr;
use std::sync::Arc;

use bulkhaul_formats::digest::xxh64;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Identity, Kind, Node, OwnedFd, Stat};

use crate::bytes::chunks::Chunks;
use crate::bytes::proof::{ReadBack, forget, leave, read_ahead, read_back};
use crate::bytes::transfer::{Sparse, WRITE_BACK_BYTES, is_long};
use crate::copy::act::archive;
use crate::copy::act::begin::{Begun, begin};
use crate::copy::act::content::{Place, dress_file, fill_file, in_chunks, same_content};
use crate::copy::act::link::{self, location};
use crate::copy::act::make::{self, Fit};
use crate::copy::act::note;
use crate::copy::act::pack;
use crate::copy::dir::{Twin, Twinned as _};
use crate::copy::entry::{Done, Entry, Finished, Names, Proof, SourceEntry, Unfinished, same_version};
use crate::copy::links::Claimed;
use crate::copy::plan::{Action, plan};
use crate::copy::run::Run;
use crate::copy::times;
use crate::copy::worker::Worker;
use crate::entry::{Changes, Outcome};
use crate::error::{Cause, Fault, Operation, Side, Stopped};
use crate::report::Durability;
use crate::tree::medium::has_sizes;
use crate::tree::metadata::{Held, without_list};
use crate::tree::times::Kept;

/// What waits under staging names is at most this part of what was synced before, or one file.
const SHARE: usize = 8;
/// Files whose sync is gathered before it is waited for; each holds a descriptor.
const SYNC_BATCH: usize = 32;
/// The same where files are read back: a sync of the whole file system serves all of them.
const VERIFY_BATCH: usize = 512;
/// From this many on, one sync of the file system costs less than one for each file.
const FILE_SYSTEM_SYNC_FILES: usize = 16;
/// Bytes that wait for their sync at most before it is waited for.
const BATCH_BYTES: u64 = 256 * 1024 * 1024;
/// Times that a file which changes under the copy is tried.
const CHANGED_ATTEMPTS: u32 = 3;
/// Times that a file which reads back differently is copied.
const MISMATCH_ATTEMPTS: u32 = 2;

/// What the destinations said about a file.
enum Settled {
    /// Nothing is left to do.
    Done(Done),
    /// It has to be copied, to the first of these that has room.
    Copy(Vec<Place>),
    /// It is put off.
    Waits,
}

/// One regular file. `there`: what has its name. `None`: its outcome comes later, with its sync.
pub fn regular(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    at: &OwnedFd,
    name: &CStr,
    there: &[(usize, Option<Stat>)],
) -> Result<Option<Done>, Stopped> {
    let open = |e| Fault::new(Operation::Open, Side::Source, e);
    let look = |e| Fault::new(Operation::Stat, Side::Source, e);
    let missing = there.iter().all(|(_, s)| s.is_none());
    // Where its content will be read, the file is opened at once: its facts come with it.
    let mut file = None;
    if (missing && worker.run.pass.writes()) || (!missing && worker.run.rules.tail > 0) {
        file = match sys::open_file(at.as_fd(), name) {
            Ok(fd) => Some(fd),
            // What may not be read may still be empty, and there.
            Err(Errno::ACCESS) if !missing => None,
            Err(errno) => return Err(open(errno).into()),
        };
    }
    let mut stat = match &file {
        Some(fd) => sys::stat_fd(fd.as_fd()),
        None => sys::stat(at.as_fd(), name, Follow::No),
    }
    .map_err(look)?;
    if stat.kind != Kind::File {
        return Err(Fault::changed(Operation::Open).into());
    }
    if !entry.again {
        worker.counters.sized(stat.size, stat.allocated);
    }
    let source = SourceEntry {
        at,
        name,
        file: file.as_ref(),
        packed: entry.is_packed(),
    };
    let mut claimed = Claimed::none(&worker.run.links, &worker.run.desk);
    if stat.nlink > 1 {
        // Nobody may wait for a file that waits here for its sync.
        flush(worker);
        let linked = link::link_or_claim(worker, entry, source, &stat, there, &mut claimed)?;
        if let Some(done) = linked {
            return note::kept(worker, entry, source, &stat, done).map(Some);
        }
    }
    let places = match settle(worker, entry, source, &stat, there, &mut claimed)? {
        Settled::Done(done) => {
            let done = Done {
                size: stat.size,
                ..done
            };
            return note::kept(worker, entry, source, &stat, done).map(Some);
        }
        Settled::Copy(places) => places,
        Settled::Waits => return Ok(None),
    };
    let mut file = match file {
        Some(file) => file,
        None => sys::open_file(at.as_fd(), name).map_err(open)?,
    };
    let counters = worker.counters;
    let in_hand = counters.flight.in_hand();
    let mut attempt = 1;
    let finished = loop {
        match copy_to_first_with_room(worker, entry, &file, &stat, &places) {
            Err(Stopped::Fault(fault)) if fault.is_changed() && attempt < CHANGED_ATTEMPTS => {
                attempt += 1;
                file = sys::open_file(at.as_fd(), name).map_err(open)?;
                let now = sys::stat_fd(file.as_fd()).map_err(look)?;
                if now.kind != Kind::File {
                    return Err(Fault::changed(Operation::Open).into());
                }
                claimed.becomes(entry.original(&now));
                stat = now;
            }
            result => break result?,
        }
    };
    if claimed.of.is_some() {
        // Others wait for this one, so it is not left for later.
        let index = finished.destination;
        let (done, id) = finish(worker, finished)?;
        claimed.settle(location(entry, index, id));
        return Ok(Some(done));
    }
    if sync_due(worker, &finished) && entry.last.is_none() {
        drop(in_hand);
        counters.flight.put_off(to_read_back(&finished));
        let is_staged = finished.staging.is_some();
        worker.unsynced_bytes += finished.end;
        worker.unsynced.push(finished);
        if is_full(worker, is_staged) {
            flush(worker);
        }
        return Ok(None);
    }
    finish(worker, finished).map(|(done, _)| Some(done))
}

/// Whether as many files wait for their sync as may: of those that have a staging name, which are lost with the process, only a
/// part of what this worker has ended before.
fn is_full(worker: &Worker<'_>, is_staged: bool) -> bool {
    let room = if worker.run.rules.asked.verify {
        VERIFY_BATCH
    } else {
        SYNC_BATCH
    };
    let (mut files, mut bytes) = (worker.run.sync_batch.min(room), BATCH_BYTES);
    if is_staged {
        files = files.min(worker.synced / SHARE);
        bytes = bytes.min(worker.synced_bytes / SHARE as u64);
    }
    worker.unsynced.len() >= files || worker.unsynced_bytes >= bytes
}

/// Bytes of a written file that are to be read back.
fn to_read_back(finished: &Finished) -> u64 {
    finished.proof.as_ref().map_or(0, |_| finished.end)
}

/// The plan for a file. What is not replaced may have another time and still be the same, and so may what is `left` by a run
/// that died. `packed`: it is an archive, whose size says nothing of that of its content, and which is always looked into.
fn planned(
    worker: &Worker<'_>,
    stat: &Stat,
    (existing, packed, left): (Option<&Stat>, bool, bool),
    kept: &Kept,
) -> Action {
    let as_content = |there: &Stat| Stat {
        size: if packed { stat.size } else { there.size },
        ..*there
    };
    match plan(stat, existing.map(as_content).as_ref(), worker.run.rules.tail, kept) {
        Action::Keep if packed => Action::Probe,
        Action::Replace(changes)
            if (left || !make::replaces(worker, packed))
                && !changes.contains(Changes::SIZE)
                && !changes.contains(Changes::KIND) =>
        {
            Action::Compare
        }
        action => action,
    }
}

/// Whether what is there of a file was left by a run that died, where nobody sees it: of its size it may be whole, and have no
/// time only because it was not synced yet, or because its time was about to be set. What needs no sync has its time at once.
fn is_left(worker: &Worker<'_>, entry: &Entry<'_>, destination: usize, stat: &Stat) -> bool {
    let twin = entry.dir.twins[destination].as_ref();
    stat.size > worker.run.rules.tail && twin.is_some_and(|twin| twin.is_hidden() && !twin.fresh)
}

/// What is there of a file gets its time next, which says that it is finished.
fn sync_left(worker: &Worker<'_>, file: &OwnedFd, destination: usize) -> Result<(), Fault> {
    if worker.run.rules.sync == Durability::None {
        return Ok(());
    }
    let _syncing = worker.run.desk.syncing();
    sys::sync_data(file.as_fd()).map_err(|e| Fault::new(Operation::Sync, Side::Destination(destination), e))
}

/// Asks every destination: the same file in any of them settles it, a different one is replaced where it is.
fn settle(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    source: SourceEntry<'_>,
    stat: &Stat,
    there: &[(usize, Option<Stat>)],
    claimed: &mut Claimed<'_>,
) -> Result<Settled, Stopped> {
    let (mut places, mut stale) = (Vec::new(), None);
    for &(destination, ref existing) in there {
        let kept = times::kept_of(worker, entry.dir, destination, stat, existing.as_ref());
        let faced = entry.faces(destination, existing.as_ref());
        let left = is_left(worker, entry, destination, stat) && !source.packed;
        let planned = planned(worker, stat, (faced, source.packed, left), &kept);
        let (mut action, compared) = decided(worker, entry, source, stat, (destination, existing.as_ref()), planned)?;
        if let (Action::Keep, Some(existing)) = (action, existing) {
            if let Some(file) = compared.as_ref().filter(|_| left && planned == Action::Compare) {
                worker.counters.resumes();
                worker.counters.resumed(stat.size);
                sync_left(worker, file, destination)?;
            }
            let held = source
                .file
                .map_or(Held::Named(source.at.as_fd(), source.name), |f| Held::Open(f.as_fd()));
            match make::keep(worker, entry, stat, held, compared.as_ref(), destination, existing)? {
                Fit::Done(done) => {
                    if compared.is_some() && !source.packed {
                        worker.run.note_proved((entry.dir, entry.target), stat, destination);
                    }
                    claimed.settle(location(entry, destination, existing.id));
                    return Ok(Settled::Done(done));
                }
                Fit::Replace(changes) => action = Action::Replace(changes),
                Fit::Waits => return Ok(Settled::Waits),
            }
        }
        match action {
            Action::Skip(reason) => {
                if let Some(twin) = &entry.dir.twins[destination] {
                    twin.left.take(entry.target);
                }
                return Ok(Settled::Done(Done::skipped(reason).at(destination)));
            }
            Action::Conflict(what) => {
                return Err(Fault::conflict(Operation::Create, destination, what).into());
            }
            Action::Replace(changes) => {
                let changes = make::all_changes(worker, entry, stat, (destination, existing.as_ref()), changes);
                stale.get_or_insert(Place {
                    destination,
                    replaces: *existing,
                    changes,
                });
            }
            _ => places.push(Place {
                destination,
                // A directory, where it is anything.
                replaces: *existing,
                changes: Changes::NEW,
            }),
        }
    }
    if worker.run.rules.asked.scatter && !places.is_empty() {
        // By chance, but the same in a dry run and the next time.
        let chance = xxh64(&[stat.id.ino.to_ne_bytes(), stat.id.dev.to_ne_bytes()].concat());
        let turn = chance % places.len() as u64;
        places.rotate_left(usize::try_from(turn).unwrap_or_default());
    }
    if !worker.run.rules.placed.is_empty() {
        place(worker.run, stat, &mut places);
    }
    let mut places = stale.map_or(places, |place| vec![place]);
    let mut refused = None;
    places.retain(|place| {
        let permitted = make::permit(
            worker,
            (entry.dir, entry.is_packed()),
            (place.destination, entry.target),
            Operation::Create,
            place.replaces.as_ref(),
        );
        refused = permitted.err();
        refused.is_none()
    });
    if let Some(fault) = refused.filter(|_| places.is_empty()) {
        return Err(fault.into());
    }
    let Some(first) = places.first().filter(|_| !worker.run.pass.writes()) else {
        return Ok(Settled::Copy(places));
    };
    worker.counters.planned(
        stat.size,
        needed(worker, source, stat),
        first.changes.contains(Changes::NEW),
    );
    claimed.settle(location(entry, first.destination, stat.id));
    let done = Done {
        bytes: stat.size,
        ..Done::new(Outcome::Copied)
    };
    Ok(Settled::Done(done.with(first.changes).at(first.destination)))
}

/// Puts the place first that a file was given, else those that have room for it beside the files that were given one.
fn place(run: &Run, stat: &Stat, places: &mut [Place]) {
    let given = run.rules.placed.get(&(stat.id.ino, stat.size));
    let given = given.filter(|given| places.iter().any(|place| place.destination == given.destination));
    if let Some(given) = given {
        run.targets[given.destination].redeem(given.room);
        places.sort_by_key(|place| place.destination != given.destination);
    } else {
        places.sort_by_key(|place| !run.targets[place.destination].holds(stat.allocated));
    }
}

/// What is to be done when what decides was read, and the file that was found to be the same, open.
fn decided(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    source: SourceEntry<'_>,
    stat: &Stat,
    (destination, existing): (usize, Option<&Stat>),
    mut action: Action,
) -> Result<(Action, Option<OwnedFd>), Stopped> {
    let mut compared = None;
    let tail = match action {
        Action::Compare => u64::MAX,
        _ => worker.run.rules.tail,
    };
    let reads =
        matches!(action, Action::Probe | Action::Compare) || (action == Action::Keep && worker.run.rules.asked.verify);
    let known = |there: &Stat| {
        worker
            .run
            .has_proved((entry.dir, entry.target), stat, (destination, there))
    };
    if reads && existing.is_some_and(known) {
        worker.counters.resumes();
        worker.counters.resumed(stat.size);
        action = Action::Keep;
    } else if reads {
        let (_, twin) = entry.dir.writable(destination)?;
        compared = same_content(worker, source, stat, (&twin, entry.target), destination, tail)?;
        action = if compared.is_some() {
            Action::Keep
        } else {
            Action::Replace(Changes::CONTENT)
        };
    }
    // A file of /proc says that it is empty; what is there is.
    if action == Action::Keep
        && stat.size == 0
        && let Some(file) = source.file
        && sys::read_full_at(file.as_fd(), &mut [0], 0).map_err(|e| Fault::new(Operation::Read, Side::Source, e))? > 0
    {
        action = Action::Replace(Changes::CONTENT);
    }
    Ok((action, compared))
}

/// Bytes that a copy will take. A file that takes less than its size is packed, or it has holes, and those stay holes.
fn needed(worker: &Worker<'_>, source: SourceEntry<'_>, stat: &Stat) -> u64 {
    if stat.allocated >= stat.size || worker.run.rules.asked.sparse == Sparse::Never {
        return stat.allocated.max(stat.size);
    }
    let opened = match source.file {
        Some(_) => None,
        None => sys::open_file(source.at.as_fd(), source.name).ok(),
    };
    let file = source.file.or(opened.as_ref());
    let data = file.and_then(|file| data_bytes(file, stat.size).ok());
    data.unwrap_or(stat.size).max(stat.allocated)
}

/// Bytes of a file that are no holes.
fn data_bytes(file: &OwnedFd, size: u64) -> sys::Result<u64> {
    let (mut at, mut bytes) = (0, 0);
    while let Some(data) = sys::seek_data(file.as_fd(), at)?.filter(|data| *data >= at && *data < size) {
        at = sys::seek_hole(file.as_fd(), data)?.min(size).max(data + 1);
        bytes += at - data;
    }
    Ok(bytes)
}

/// Copies to the first place that has room.
fn copy_to_first_with_room(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    file: &OwnedFd,
    stat: &Stat,
    places: &[Place],
) -> Result<Finished, Stopped> {
    for (turn, place) in places.iter().enumerate() {
        let last = turn + 1 == places.len();
        if !last && worker.run.targets[place.destination].is_full() {
            continue;
        }
        match copy_file(worker, entry, file, stat, place) {
            Err(Stopped::Fault(Fault {
                cause: Cause::Errno(Errno::NOSPC | Errno::DQUOT) | Cause::Full(..),
                ..
            })) if !last => {
                worker.run.targets[place.destination].fill();
            }
            result => return result,
        }
    }
    Err(Fault::conflict(Operation::Create, 0, "no destination is left for this directory").into())
}

/// Writes a file; its times, sync and name come with [`Worker::finish`].
fn copy_file(
    worker: &mut Worker<'_>,
    entry: &Entry<'_>,
    file: &OwnedFd,
    stat: &Stat,
    place: &Place,
) -> Result<Finished, Stopped> {
    if worker.run.desk.cancel.is_draining() {
        return Err(Stopped::Aborted);
    }
    let flight = &worker.counters.flight;
    flight.begin(stat.size.saturating_mul(1 + u64::from(worker.run.rules.asked.verify)));
    let index = place.destination;
    let keep = &worker.run.rules.keep;
    let original = stat;
    let stat = &without_list(keep, stat, Held::Open(file.as_fd()), &mut worker.scratch)?;
    // What a dead run left in a directory that nobody sees is nobody's.
    let hidden = entry.dir.twins[index].as_ref().is_some_and(Twin::is_hidden);
    let replaced = place.replaced_file().filter(|_| !hidden);
    let bits = keep.made_with(replaced.map_or(stat.mode, |old| old.mode));
    let Begun {
        file: new,
        staging,
        replaces,
        unfinished,
    } = if is_long(stat.size) && (!entry.is_packed() || has_sizes(file.as_fd())) {
        begin(worker, entry, (file, stat), place, bits)?
    } else {
        let (file, staging) = make::make_file(worker, entry, (index, place.replaces.as_ref()), bits)?;
        Begun {
            file,
            staging,
            replaces: place.replaces,
            unfinished: None,
        }
    };
    flight.staged();
    let there = unfinished.as_ref().map_or(0, Unfinished::bytes);
    let filled = if entry.is_packed() {
        pack::fill(worker, entry, (file, stat), place, (&new, unfinished.as_ref()))
    } else {
        let needed = stat.allocated.saturating_sub(there);
        worker.run.targets[index].reserve(needed, &worker.run.desk);
        fill_file(worker, entry, file, stat, index, (&new, unfinished.as_ref()))
    };
    let mut beside = None;
    let mut result = filled.and_then(|filled| {
        beside = filled.index;
        let digests = note::of_copied(worker, &filled.content);
        let noted = note::copied(worker, entry, (file, original), digests, filled.content.end)?;
        let stored = note::stored(worker, entry, &new, index)?;
        Ok((filled.bytes, filled.proof, noted, stored))
    });
    if unfinished.is_none()
        && result.is_ok()
        && let Err(fault) = dress_file(
            worker,
            entry,
            (file, stat),
            (index, replaces.as_ref()),
            (&new, bits, None),
        )
    {
        result = Err(fault.into());
    }
    match result {
        Ok((end, proof, noted, stored)) => Ok(Finished {
            dir: Arc::clone(entry.dir),
            source: entry.source,
            found: entry.found.to_owned(),
            target: entry.target.to_owned(),
            destination: index,
            file: new,
            staging,
            replaces,
            stat: *stat,
            end,
            index: beside,
            unfinished,
            done: Done {
                bytes: end.saturating_sub(there),
                size: stat.size,
                stored,
                ..Done::new(Outcome::Copied)
            }
            .with(place.changes)
            .at(index)
            .noted(noted),
            proof,
            attempt: 1,
            forgotten: None,
        }),
        Err(stopped) => {
            let stopped = worker.explain(stopped, stat.size);
            if let Some(beside) = &beside {
                pack::discard_index(worker, entry, index, beside);
            }
            if !make::stays(worker, &stopped, unfinished.as_ref()) {
                // Its space is wanted at once, also where a program that is just being started holds the descriptor; if
                // this fails, the space comes with the last descriptor.
                match sys::set_size(new.as_fd(), 0) {
                    Ok(()) | Err(_) => {}
                }
            }
            let made = (staging.as_ref(), unfinished.as_ref(), flight.all_written());
            make::give_up(worker, (entry.dir, index), entry.target, made, &stopped);
            Err(stopped)
        }
    }
}

/// Whether the skip test could take this file for finished after a power cut when it is not (design.md section 4),
/// or whether it is to be read back from the medium.
fn sync_due(worker: &Worker<'_>, finished: &Finished) -> bool {
    let rules = &worker.run.rules;
    // Of an archive only the end is decoded to tell whether it is there.
    let packed = finished.entry().is_packed();
    let mistakable =
        rules.sync != Durability::None && (packed || finished.replaces.is_some() || rules.tail < finished.stat.size);
    (finished.stat.size > 0 || packed) && (mistakable || finished.proof.is_some())
}

/// The end of a file's way: sync if one is due, proof, times, name. Answers the new file's inode too.
fn finish(worker: &mut Worker<'_>, mut finished: Finished) -> Result<(Done, Identity), Stopped> {
    let id = loop {
        match prove(worker, &finished) {
            Ok(id) => break id,
            Err(stopped) => {
                let stopped = worker.explain(stopped, finished.stat.size);
                if let Some(index) = &finished.index {
                    pack::discard_index(worker, &finished.entry(), finished.destination, index);
                }
                make::give_up(
                    worker,
                    (&finished.dir, finished.destination),
                    &finished.target,
                    (
                        finished.staging.as_ref(),
                        finished.unfinished.as_ref(),
                        finished.done.bytes,
                    ),
                    &stopped,
                );
                let again = matches!(&stopped, Stopped::Fault(fault) if fault.cause == Cause::Mismatch);
                if !again || finished.attempt >= MISMATCH_ATTEMPTS {
                    return Err(stopped);
                }
            }
        }
        finished = copy_again(worker, &finished)?;
    };
    let indexed = match &finished.index {
        Some(index) => pack::publish_index(worker, &finished.entry(), finished.destination, index),
        None => Ok(()),
    };
    let packed = finished.entry().is_packed();
    let Finished {
        dir,
        target,
        destination,
        file,
        staging,
        replaces,
        unfinished,
        done,
        stat,
        proof,
        ..
    } = finished;
    let write = |e| Fault::new(Operation::Write, Side::Destination(destination), e);
    // Network file systems tell at the close what they could not store.
    let closed = sys::close(file).map_err(|e| Stopped::from(write(e)));
    let named = closed.and(indexed).and_then(|()| match &staging {
        None => Ok(()),
        Some(staging) => make::publish(worker, &dir, destination, staging, &target, replaces.as_ref()),
    });
    if let Err(stopped) = named {
        let made = (staging.as_ref(), None, done.bytes);
        make::give_up(worker, (&dir, destination), &target, made, &stopped);
        return Err(stopped);
    }
    // Until it had its name, nobody was to take it over.
    drop(unfinished);
    if proof.is_some() && !packed {
        worker.run.note_proved((&dir, &target), &stat, destination);
    }
    Ok((done, id))
}

/// Durability if one is due, proof if it was asked for, what a big file still lacks, times.
fn prove(worker: &mut Worker<'_>, finished: &Finished) -> Result<Identity, Stopped> {
    if worker.run.desk.cancel.is_over() {
        return Err(Stopped::Aborted);
    }
    let destination = finished.destination;
    let side = Side::Destination(destination);
    let file = finished.file.as_fd();
    if sync_due(worker, finished) && finished.forgotten.is_none() {
        let syncing = worker.run.desk.syncing();
        sys::sync_data(file).map_err(|e| Fault::new(Operation::Sync, side, e))?;
        if let Some(index) = &finished.index {
            sys::sync_data(index.file.as_fd()).map_err(|e| Fault::new(Operation::Sync, side, e))?;
        }
        drop(syncing);
        if finished.stat.size >= WRITE_BACK_BYTES && worker.run.targets[destination].is_crowded(worker.run.rules.memory)
        {
            forget(file, 0);
        }
    }
    if let Some(Proof { source, digest }) = &finished.proof {
        let from_cache = finished.forgotten.unwrap_or_else(|| forget(file, finished.end));
        let back = if finished.entry().is_packed() {
            archive::read_back(worker, finished, from_cache)?
        } else if is_long(finished.end) && has_sizes(source.as_fd()) {
            let ledger = finished.unfinished.as_ref().and_then(|of| of.ledger.as_ref());
            if let Some(ledger) = ledger {
                ledger.synced(file);
            }
            let (files, end) = ((source, &finished.file), finished.end);
            let (same, found) = in_chunks(worker, destination, |lead| Chunks::same(lead, files, end, ledger, true))?;
            leave(file, end, from_cache);
            // Where only a part of it was read by this run, that it is the same as its source is all there is to know.
            let digest = found.or(*digest).unwrap_or_default();
            same.then_some(ReadBack {
                digest,
                bytes: end,
                from_cache,
            })
        } else {
            // Files of /proc say that they are empty, and are made anew at each read.
            let again = (finished.stat.size > 0).then(|| source.as_fd());
            let (sizes, desk) = (
                (finished.end, from_cache),
                (&*worker.run.desk, &*worker.counters.flight),
            );
            read_back(again, file, sizes, destination, desk, &mut worker.buffer)?
        };
        let stat = sys::stat_fd(source.as_fd()).map_err(|e| Fault::new(Operation::Stat, Side::Source, e))?;
        if !same_version(&stat, &finished.stat) {
            return Err(Fault::changed(Operation::Verify).into());
        }
        let back = back.filter(|back| digest.as_ref().is_none_or(|digest| back.digest == *digest));
        let back = back.ok_or(Fault {
            operation: Operation::Verify,
            side,
            cause: Cause::Mismatch,
        })?;
        worker.counters.verified(back.bytes, back.from_cache);
    }
    if let Some(of) = &finished.unfinished {
        // From here on there is no going on with it: all that may take long is over.
        sys::set_size(file, finished.end).map_err(|e| Fault::new(Operation::Write, side, e))?;
        let entry = finished.entry();
        let (place, new) = (
            (destination, finished.replaces.as_ref()),
            (&finished.file, of.bits, Some(of)),
        );
        dress_file(worker, &entry, (&of.source, &finished.stat), place, new)?;
    }
    times::set_times(worker, &finished.dir, destination, &finished.stat, Node::Open(file))?;
    if finished.stat.nlink < 2 {
        // Nobody asks for it.
        return Ok(finished.stat.id);
    }
    sys::stat_fd(file)
        .map(|s| s.id)
        .map_err(|e| Fault::new(Operation::Stat, side, e).into())
}

/// A second copy of a file whose first one read back differently.
fn copy_again(worker: &mut Worker<'_>, finished: &Finished) -> Result<Finished, Stopped> {
    let open = |e| Fault::new(Operation::Open, Side::Source, e);
    let entry = finished.entry();
    let at = entry.dir.source(entry.source).map_err(open)?;
    let file = sys::open_file(at.as_fd(), entry.name()).map_err(open)?;
    let stat = sys::stat_fd(file.as_fd()).map_err(|e| Fault::new(Operation::Stat, Side::Source, e))?;
    if stat.id != finished.stat.id {
        return Err(Fault::changed(Operation::Open).into());
    }
    let place = Place {
        destination: finished.destination,
        replaces: finished.replaces,
        changes: finished.done.changes,
    };
    let again = copy_file(worker, &entry, &file, &stat, &place)?;
    Ok(Finished {
        attempt: finished.attempt + 1,
        ..again
    })
}

/// Waits for the files whose sync was put off: their write-back is under way, so most of it is done.
pub fn flush(worker: &mut Worker<'_>) {
    let mut batch = std::mem::take(&mut worker.unsynced);
    worker.synced += batch.len();
    worker.synced_bytes += std::mem::take(&mut worker.unsynced_bytes);
    let counters = worker.counters;
    // Who stops has no time for what others have written there.
    let wanted = !worker.run.desk.cancel.is_draining();
    if wanted && worker.run.rules.asked.verify && batch.len() >= FILE_SYSTEM_SYNC_FILES {
        // An error of one worker's sync may be told to another; it can't be missed, because all is read back.
        let synced = |fd: &OwnedFd| sys::sync_file_system(fd.as_fd()).is_ok();
        let targets = &worker.run.targets;
        let syncing = worker.run.desk.syncing();
        let synced: Vec<bool> = targets
            .iter()
            .map(|t| t.file_system.as_ref().is_some_and(synced))
            .collect();
        drop(syncing);
        for finished in batch.iter_mut().filter(|f| synced[f.destination]) {
            finished.forgotten = Some(read_ahead(finished.file.as_fd(), finished.end));
        }
    }
    for finished in batch {
        let _in_hand = counters.flight.take_up(to_read_back(&finished));
        let (dir, source) = (Arc::clone(&finished.dir), finished.source);
        let (found, target) = (finished.found.clone(), finished.target.clone());
        let result = finish(worker, finished).map(|(done, _)| done);
        let names = Names {
            found: &found,
            target: &target,
        };
        worker.record(&dir, source, names, Kind::File, result);
    }
}
