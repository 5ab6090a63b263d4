//! After all sources are done: relative symlinks that wait for what they lead to.
//!
//! Comes in: links that were put off; goes out: further roots for the walk, until nothing new comes of them.
//!
//! With several destinations a relative link belongs where its target is, which is only known in the end. With link
//! tracking, a link that dangles in the destination and does not in the source has its target copied too, when that lands
//! inside the destination; what would land outside is noted and left.

use std::collections::BTreeMap;
use std::sync::Arc;

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Node, OwnedFd};

use crate::copy::dir::{Dir, Presence, Twin, Twins};
use crate::copy::memory::Tracked;
use crate::copy::run::Run;
use crate::error::Fault;
use crate::tree::descriptors::Slot;
use crate::tree::metadata::{Heritage, Scratch};
use crate::tree::path::{c_string, join, open_directory_path};
use crate::walk::node::{Elsewhere, Origin, Source};
use crate::walk::scope::{Named, Scope};

/// Follows `text` from `directory` by its letters; `None` where it leaves the root.
fn resolve(directory: &[u8], text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for part in directory.split(|b| *b == b'/').chain(text.split(|b| *b == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            part => parts.push(part.to_vec()),
        }
    }
    Some(parts)
}

/// Roots for what tracked links lead to and the destination lacks. Links found there are tracked in turn.
pub fn roots(run: &Run) -> Vec<Arc<Dir>> {
    let mut roots = Vec::new();
    for link in run.waiting.take_tracked() {
        match root(run, &link) {
            Ok(Some(root)) => roots.push(root),
            Ok(None) => {}
            Err(errno) => run.desk.note("link-target", || {
                let cause = crate::error::describe(errno);
                (
                    join(&link.source, &link.text),
                    format!("the target of a link was not copied: {cause}"),
                )
            }),
        }
    }
    roots
}

fn root(run: &Run, link: &Tracked) -> sys::Result<Option<Arc<Dir>>> {
    let from = join(&link.source, &link.text);
    let cut = from.iter().rposition(|b| *b == b'/');
    let (parent, name) = (&from[..cut.unwrap_or(0)], &from[cut.map_or(0, |c| c + 1)..]);
    // A text that ends with a slash or dots names a directory by another word: by its letters it has no name here.
    if matches!(name, b"" | b"." | b"..") {
        return Ok(None);
    }
    let name = c_string(name)?;
    let source = match open_directory_path(parent, Follow::Yes) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    if sys::stat(source.as_fd(), &name, Follow::No).err() == Some(Errno::NOENT) {
        return Ok(None);
    }
    let Some(mut parts) = resolve(&link.directory, &link.text) else {
        run.desk.note("link-outside", || {
            (
                from.clone(),
                "the target of a link would land outside the destination".into(),
            )
        });
        return Ok(None);
    };
    let Some(last) = parts.pop() else { return Ok(None) };
    let target = c_string(&last)?;
    let base = open_directory_path(&run.targets[link.destination].path, Follow::Yes)?;
    let Some((fd, path)) = make_way(run, base, link.destination, &parts)? else {
        run.desk.note("link-target", || {
            (
                from.clone(),
                "the target of a link would land in a source, and was not copied".into(),
            )
        });
        return Ok(None);
    };
    if sys::stat(fd.as_fd(), &target, Follow::No).err() != Some(Errno::NOENT) {
        return Ok(None);
    }
    let from_stat = sys::stat_fd(source.as_fd())?;
    let to_stat = sys::stat_fd(fd.as_fd())?;
    let names = Named(BTreeMap::from([(target, name)]));
    let source = Source {
        slot: Slot::new(source, from_stat.id, &run.budget),
        stat: from_stat,
        scope: Scope::Names(Arc::new(names)),
        device: from_stat.id.dev,
        mount: 0,
        origin: Origin::Path(parent.to_vec()),
    };
    let heritage =
        Heritage::of(Node::Open(fd.as_fd()), &mut Scratch::default(), 0).map_err(|fault| errno_of(&fault))?;
    let twin = Twin {
        slot: Some(Slot::new(fd, to_stat.id, &run.budget)),
        presence: Presence::Existing(to_stat),
        fresh: false,
        heritage,
        ..Twin::imagined()
    };
    let mut twins: Vec<Option<Twin>> = run.targets.iter().map(|_| None).collect();
    let mut paths: Vec<Vec<u8>> = run.targets.iter().map(|t| t.path.clone()).collect();
    twins[link.destination] = Some(twin);
    paths[link.destination] = path;
    let mut root = Dir::top(source.into(), Twins::of_root(twins, paths, false), true);
    root.elsewhere = Some(Box::new(Elsewhere {
        relative_path: parts.iter().fold(Vec::new(), |path, part| join(&path, part)),
        twins: Vec::new(),
    }));
    Ok(Some(Arc::new(root)))
}

fn errno_of(fault: &Fault) -> Errno {
    match fault.cause {
        crate::error::Cause::Errno(errno) => errno,
        _ => Errno::IO,
    }
}

/// Opens a directory below the destination's root, making what is missing; never through a symlink. `None`: it lies in a source.
fn make_way(
    run: &Run,
    base: OwnedFd,
    destination: usize,
    parts: &[Vec<u8>],
) -> sys::Result<Option<(OwnedFd, Vec<u8>)>> {
    let mut at = base;
    let mut path = run.targets[destination].path.clone();
    for part in parts {
        let name = c_string(part)?;
        at = match sys::open_directory(at.as_fd(), &name, Follow::No) {
            Err(Errno::NOENT) => {
                sys::make_directory_as(at.as_fd(), &name, 0o777)?;
                sys::open_directory(at.as_fd(), &name, Follow::No)?
            }
            other => other?,
        };
        if run.given.has_directory(sys::stat_fd(at.as_fd())?.id) {
            return Ok(None);
        }
        path = join(&path, part);
    }
    Ok(Some((at, path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_resolve_by_their_letters() {
        let parts = |names: &[&str]| Some(names.iter().map(|n| n.as_bytes().to_vec()).collect::<Vec<_>>());
        assert_eq!(resolve(b"a/b", b"x"), parts(&["a", "b", "x"]));
        assert_eq!(resolve(b"a/b", b"../x/./y"), parts(&["a", "x", "y"]));
        assert_eq!(resolve(b"", b"x//y/"), parts(&["x", "y"]));
        assert_eq!(resolve(b"a", b"../.."), None);
        assert_eq!(resolve(b"", b"../x"), None);
    }
}
