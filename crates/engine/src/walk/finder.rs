//! The finder: turns a directory's sources into batches of entries, and counts every one that it sees.
//!
//! Comes in: a directory with open sources; goes out: batches of names that are not directories, and the names of the
//! subdirectories, which are remembered. Exclude rules and the rule that the later source wins are applied here, before
//! anything is done with a name. Memory: a stretch of names for each thread, and the names of subdirectories that wait.

use std::ffi::{CStr, CString};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bulkhaul_formats::lists::names::{FileList, Slice};
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind, OwnedFd};

use crate::error::{Cause, Fault, Operation, Side};
use crate::tree::listing::{Batch, LISTING_BYTES};
use crate::tree::path::{c_string, join};
use crate::tree::selection::Selection;
use crate::walk::node::Node;
use crate::walk::scope::{Below, Scope};
use crate::walk::visitor::{Hand, Met, Missed, Stretch, Task, Visitor};

/// Names from a list that make a batch.
const BATCH_NAMES: usize = 1024;

/// What one stretch of names has.
#[derive(Default)]
pub struct Found {
    files: Batch,
    below: Below,
}

/// Lists all sources of a directory, and has what they have worked on: by whoever is free, or here and now.
pub fn list<V: Visitor>(hand: &mut Hand<'_, V>, node: &Arc<Node<V::Data>>) {
    for source in 0..node.sources.len() {
        // Whoever stops the run stops the listing too.
        if !hand.desk.may_begin() {
            break;
        }
        let mut count = 0;
        let listed = match &node.sources[source].scope {
            Scope::Whole => list_whole(hand, node, source, &mut count),
            Scope::Names(named) => {
                let all = named.0.keys().map(CString::as_c_str);
                list_names(hand, node, source, all, |_| Scope::Whole, &mut count)
            }
            Scope::Listed(list, slice) => list_listed(hand, node, source, (list, *slice), &mut count),
            Scope::Itself => Ok(()),
        };
        if let Err(errno) = listed {
            hand.visitor.unlisted(&mut hand.worker, node, source, errno);
        }
        hand.visitor.listed(&mut hand.worker, node, source, count);
    }
    end(hand, node);
}

/// Lists a directory once more from the first name.
pub fn list_again<V: Visitor>(hand: &mut Hand<'_, V>, node: &Arc<Node<V::Data>>) {
    for source in 0..node.sources.len() {
        let rewound = node.source(source).and_then(|fd| sys::rewind_directory(fd.as_fd()));
        if let Err(errno) = rewound.and_then(|()| list_whole(hand, node, source, &mut 0)) {
            hand.visitor.unlisted(&mut hand.worker, node, source, errno);
        }
    }
    end(hand, node);
}

/// A directory has been listed: on to what is below it.
fn end<V: Visitor>(hand: &mut Hand<'_, V>, node: &Arc<Node<V::Data>>) {
    hand.visitor.listed_all(&mut hand.worker, node);
    hand.desk.listed();
    own_listed(hand, node);
}

/// All of a directory's own names are known.
pub fn own_listed<V: Visitor>(hand: &mut Hand<'_, V>, node: &Arc<Node<V::Data>>) {
    if !V::OWN_FIRST && !node.below().is_empty() {
        invite(hand, node);
    }
    hand.own_done(node);
}

/// Whoever is free may enter what is below a directory.
fn invite<V: Visitor>(hand: &Hand<'_, V>, node: &Arc<Node<V::Data>>) {
    node.pending.fetch_add(1, Ordering::AcqRel);
    hand.schedule.push(Task::Descend(Arc::clone(node)));
}

fn list_whole<V: Visitor>(
    hand: &mut Hand<'_, V>,
    node: &Arc<Node<V::Data>>,
    source: usize,
    count: &mut usize,
) -> sys::Result<()> {
    let fd = node.source(source)?;
    let parents = parents(hand, node, source);
    let mut more = true;
    while more && !hand.draining() {
        // The buffers are lent to the listing while this thread's other things are used.
        let (mut buffer, mut stretch) = (std::mem::take(&mut hand.listing), std::mem::take(&mut hand.stretch));
        buffer.reserve(LISTING_BYTES);
        stretch.clear();
        let read = sys::read_directory(fd.as_fd(), buffer.spare_capacity_mut(), |name, kind, inode| {
            stretch.push(name, kind, inode);
        });
        hand.listing = buffer;
        stretch.sort();
        // What came before an error is worked on all the same.
        more = *read.as_ref().unwrap_or(&false);
        let found = sift(hand, node, source, &fd, &parents, &mut stretch, None, count);
        hand.stretch = stretch;
        offer(hand, node, source, found, more);
        read?;
    }
    Ok(())
}

fn list_listed<V: Visitor>(
    hand: &mut Hand<'_, V>,
    node: &Arc<Node<V::Data>>,
    source: usize,
    (list, slice): (&Arc<FileList>, Slice),
    count: &mut usize,
) -> sys::Result<()> {
    let mut names: Vec<(CString, Scope)> = Vec::new();
    let mut children = list.children(slice).peekable();
    let fd = node.source(source)?;
    while children.peek().is_some() {
        names.clear();
        for child in children.by_ref().take(BATCH_NAMES) {
            let name = c_string(child.name)?;
            if !child.below.is_empty()
                && let Ok(stat) = sys::stat(fd.as_fd(), &name, Follow::No)
                && stat.kind != Kind::Directory
            {
                let why = if stat.kind == Kind::Symlink {
                    Cause::Outside("it is below a symlink, which is not followed")
                } else {
                    Cause::Errno(Errno::NOTDIR)
                };
                let path = join(&node.source_path(source), child.name);
                fail_below(hand, node.side, (path, why), list, child.below);
                if !child.listed {
                    continue;
                }
            }
            let scope = if child.listed && list.brings_contents() {
                Scope::Whole
            } else if child.below.is_empty() {
                Scope::Itself
            } else {
                Scope::Listed(Arc::clone(list), child.below)
            };
            names.push((name, scope));
        }
        let all = names.iter().map(|(name, _)| name.as_c_str());
        list_names(hand, node, source, all, |index| names[index].1.clone(), count)?;
    }
    Ok(())
}

/// Names of the list below something that is no directory: each of them can't be had.
fn fail_below<V: Visitor>(
    hand: &mut Hand<'_, V>,
    side: Side,
    (path, why): (Vec<u8>, Cause),
    list: &FileList,
    below: Slice,
) {
    if hand.visitor.ignores_missing() {
        return;
    }
    let mut levels = vec![(path, below)];
    while let Some((path, below)) = levels.pop() {
        for child in list.children(below) {
            let path = join(&path, child.name);
            if child.listed {
                let (operation, cause) = (Operation::Stat, why.clone());
                let fault = Fault { operation, side, cause }.of_named();
                hand.counters.found_in(side, Kind::File);
                let missed = Missed::at(&path);
                hand.visitor.fault(&mut hand.worker, &missed, Kind::File, &fault);
            }
            levels.push((path, child.below));
        }
    }
}

/// Names that nobody has listed; `scope`: what is taken of the one with this number, where it is a directory.
fn list_names<'n, V: Visitor>(
    hand: &mut Hand<'_, V>,
    node: &Arc<Node<V::Data>>,
    source: usize,
    all: impl Iterator<Item = &'n CStr>,
    scope: impl Fn(usize) -> Scope,
    count: &mut usize,
) -> sys::Result<()> {
    let fd = node.source(source)?;
    let parents = parents(hand, node, source);
    let (mut all, mut first) = (all.peekable(), 0);
    while all.peek().is_some() && !hand.draining() {
        let mut stretch = std::mem::take(&mut hand.stretch);
        stretch.clear();
        let before = first;
        for name in all.by_ref().take(BATCH_NAMES) {
            stretch.push(name, Kind::Unknown, 0);
            first += 1;
        }
        let scopes: &dyn Fn(usize) -> Scope = &|index| scope(before + index);
        let found = sift(hand, node, source, &fd, &parents, &mut stretch, Some(scopes), count);
        hand.stretch = stretch;
        offer(hand, node, source, found, all.peek().is_some());
    }
    Ok(())
}

/// The paths that exclude rules see above a directory's names; none where no rule needs one.
fn parents<V: Visitor>(hand: &Hand<'_, V>, node: &Node<V::Data>, source: usize) -> Vec<Vec<u8>> {
    parents_in(hand.filter, hand.working_directory, node, source)
}

fn parents_in<D>(filter: &Selection, working_directory: &[u8], node: &Node<D>, source: usize) -> Vec<Vec<u8>> {
    let paths = || {
        let mut paths = node.twins();
        paths.push(node.source_path(source));
        paths
    };
    filter.parents(|| node.relative_path(), paths, working_directory)
}

/// Whether the rules exclude an entry of a source of a directory.
pub fn excludes<D>(
    (filter, working_directory): (&Selection, &[u8]),
    node: &Node<D>,
    source: usize,
    target: &CStr,
    kind: Kind,
) -> bool {
    let parents = parents_in(filter, working_directory, node, source);
    excludes_below(filter, &parents, &node.sources[source].scope, target, kind)
}

/// The same with the paths above it at hand. rsync's rules are about names of the transfer, hpcp's of the source.
fn excludes_below(filter: &Selection, parents: &[Vec<u8>], scope: &Scope, target: &CStr, kind: Kind) -> bool {
    let name = if filter.is_about_paths() {
        scope.source_name(target)
    } else {
        target
    };
    filter.excludes(parents, name, kind)
}

/// Sorts names into files and subdirectories, which it answers, and what is left out. `scopes`: what is taken of those that
/// were not listed, but named.
#[allow(clippy::too_many_arguments, reason = "what a stretch is, and where it is from")]
fn sift<V: Visitor>(
    hand: &mut Hand<'_, V>,
    node: &Arc<Node<V::Data>>,
    source: usize,
    fd: &OwnedFd,
    parents: &[Vec<u8>],
    stretch: &mut Stretch,
    scopes: Option<&dyn Fn(usize) -> Scope>,
    count: &mut usize,
) -> Found {
    let (mut below, mut files, mut spelt) = (Below::default(), Vec::new(), Vec::new());
    let (visitor, scope) = (hand.visitor, &node.sources[source].scope);
    if !visitor.admits(&mut hand.worker, node, source, stretch.iter().map(|(_, name, _)| name)) {
        return Found::default();
    }
    let plain = node.sources.len() == 1;
    for (index, (offset, listed, mut kind)) in stretch.iter().enumerate() {
        *count += 1;
        let renamed;
        let (name, stranger) = match visitor.meet(&mut hand.worker, node, source, fd.as_fd(), listed) {
            Met::Entry => (listed, false),
            Met::Stranger => (listed, true),
            Met::Renamed(name) => {
                renamed = name;
                (renamed.as_c_str(), false)
            }
        };
        if kind == Kind::Unknown {
            match sys::stat(fd.as_fd(), scope.source_name(name), Follow::No) {
                Ok(stat) => kind = stat.kind,
                Err(Errno::NOENT) if visitor.ignores_missing() => continue,
                Err(errno) => {
                    let fault = Fault::new(Operation::Stat, node.side, errno);
                    let fault = match scope {
                        // Nobody has found it: a list has named it.
                        Scope::Listed(..) => fault.of_named(),
                        _ => fault,
                    };
                    hand.counters.found_in(node.side, Kind::File);
                    let missed = Missed::within(node, source, name);
                    visitor.fault(&mut hand.worker, &missed, Kind::File, &fault);
                    continue;
                }
            }
        }
        if stranger {
            visitor.stranger(&mut hand.worker, node, source, name, kind);
            continue;
        }
        if excludes_below(hand.filter, parents, scope, name, kind) {
            if node.side == Side::Source {
                hand.counters.excluded();
            }
            visitor.excluded(&mut hand.worker, node, source, name, kind);
            continue;
        }
        let mut merged = Vec::new();
        if !plain {
            match contenders(hand, node, source, name, kind) {
                Ok(Whose::Ours(sources)) => merged = sources,
                Ok(Whose::Theirs(winner, other)) => {
                    visitor.overridden(&mut hand.worker, node, (source, name, kind), (winner, other));
                    continue;
                }
                Err(errno) => {
                    hand.counters.found_in(node.side, kind);
                    let fault = Fault::new(Operation::Stat, node.side, errno);
                    let missed = Missed::within(node, source, name);
                    visitor.fault(&mut hand.worker, &missed, kind, &fault);
                    continue;
                }
            }
        }
        hand.counters.found_in(node.side, kind);
        if kind != Kind::Directory {
            if name.as_ptr() != listed.as_ptr() {
                spelt.push((files.len(), name.to_owned()));
            }
            files.push((offset, kind));
            continue;
        }
        hand.desk.unlisted();
        match scopes {
            None if plain => below.push_plain(name),
            scopes => below.push(name, merged, scopes.map_or(Scope::Whole, |scope| scope(index))),
        }
    }
    for (index, name) in spelt {
        files[index].0 = stretch.spell(&name);
    }
    let files = stretch.batch(files);
    Found { files, below }
}

/// Entries of kinds that are known, which nobody excludes.
pub fn take<V: Visitor>(hand: &mut Hand<'_, V>, node: &Arc<Node<V::Data>>, batch: &Batch, more: bool) {
    let mut found = Found::default();
    for (name, kind) in batch.iter() {
        hand.counters.found_in(node.side, kind);
        if kind == Kind::Directory {
            hand.desk.unlisted();
            found.below.push_plain(name);
        } else {
            found.files.push(name, kind);
        }
    }
    offer(hand, node, 0, found, more);
}

/// Whose a name is that several sources may bring.
enum Whose {
    /// This source's, with the directories that merge with it.
    Ours(Vec<usize>),
    /// That of another source, which has an entry of this kind.
    Theirs(usize, Kind),
}

/// Where several sources merge: which of them bring this name. The last one wins; directories of one name merge.
fn contenders<V: Visitor>(
    hand: &Hand<'_, V>,
    node: &Node<V::Data>,
    source: usize,
    target: &CStr,
    kind: Kind,
) -> sys::Result<Whose> {
    let rules = (hand.filter, hand.working_directory);
    let mut merged = Vec::new();
    for index in node.owners(target).into_iter().rev() {
        let found = if index == source {
            kind
        } else {
            let Some(name) = node.sources[index].scope.name_of(target) else {
                continue;
            };
            match sys::stat(node.source(index)?.as_fd(), name, Follow::No) {
                Ok(stat) if excludes(rules, node, index, target, stat.kind) => continue,
                Ok(stat) => stat.kind,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno),
            }
        };
        if merged.is_empty() {
            if index != source {
                return Ok(Whose::Theirs(index, found));
            }
        } else if found != Kind::Directory {
            continue;
        }
        merged.push(index);
        if found != Kind::Directory {
            break;
        }
    }
    merged.reverse();
    Ok(Whose::Ours(merged))
}

/// Works on a stretch of entries; where `more` are to come, whoever has nothing to do gets it.
fn offer<V: Visitor>(hand: &mut Hand<'_, V>, node: &Arc<Node<V::Data>>, source: usize, mut found: Found, more: bool) {
    if !found.below.is_empty() {
        node.below().append(&mut found.below);
        if more && !V::OWN_FIRST && hand.schedule.hungry() {
            invite(hand, node);
        }
    }
    if found.files.is_empty() {
    } else if more && hand.schedule.hungry() {
        hand.give_away(node, source, found.files);
    } else {
        hand.entries(node, source, found.files);
    }
}
