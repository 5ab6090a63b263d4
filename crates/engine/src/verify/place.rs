//! Where the paths of manifests begin, and which manifests lie below a directory.
//!
//! Comes in: what was given as manifests, and where paths begin, if that was said; goes out: the directory that all of it is
//! about, and each manifest with its way from there. A directory stands for the manifests below it, which their names tell, and
//! whose paths begin where each lies; no link is followed to them.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use bulkhaul_formats::manifest::is_called_one;
use bulkhaul_formats::staging;
use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Kind};

use super::manifests::Given;
use crate::bytes::stream::{descriptor_of, name_of};
use crate::error::{Refusal, describe};
use crate::job::desk::Desk;
use crate::tree::listing;
use crate::tree::path::{c_string, join, open_beneath, open_directory_path, split, trim};
use crate::tree::selection::Selection;

/// Where a verification is, and its manifests.
pub(super) type Place = (Vec<u8>, Vec<Given>);

/// Finds it. `directory`: where paths begin, if that was said. `None`: the run is to stop.
pub(super) fn place(
    (manifests, directory): (&[Vec<u8>], Option<&[u8]>),
    filter: &Selection,
    desk: &Desk,
) -> Result<Option<Place>, Refusal> {
    let given = manifests.iter().map(|path| Ok((&path[..], is_tree(path)?)));
    let given: Vec<(&[u8], bool)> = given.collect::<Result<_, Refusal>>()?;
    let begins: Vec<&[u8]> = given
        .iter()
        .map(|(path, tree)| if *tree { trim(path) } else { split(path).0 })
        .collect();
    let (directory, prefixes) = match directory {
        Some(directory) => (directory.to_vec(), vec![Vec::new(); given.len()]),
        None if begins.iter().all(|begin| *begin == begins[0]) => (begins[0].to_vec(), vec![Vec::new(); given.len()]),
        None => common(manifests, &begins)?,
    };
    let mut all = Vec::new();
    for ((path, tree), prefix) in given.into_iter().zip(prefixes) {
        if !tree {
            let path = path.to_vec();
            all.push(Given { path, prefix });
            continue;
        }
        let mut found = below(path, &prefix, filter, desk)?;
        if desk.cancel.is_draining() {
            return Ok(None);
        }
        if found.is_empty() {
            let what = "no manifest lies below it that its name tells, as FILE.md5, SHA256SUMS or manifest-sha512.txt";
            return Err(Refusal::List(format!("{}: {what}", name_of(path))));
        }
        found.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        all.append(&mut found);
    }
    Ok(Some((directory, all)))
}

/// Whether a path leads to a directory. What leads nowhere is a source that is missing: it may have been either.
fn is_tree(path: &[u8]) -> Result<bool, Refusal> {
    if descriptor_of(path).is_some() {
        return Ok(false);
    }
    let stat = c_string(path).and_then(|path| sys::stat(sys::current_directory(), &path, Follow::Yes));
    match stat {
        Ok(stat) => Ok(stat.kind == Kind::Directory),
        Err(errno @ (Errno::NOENT | Errno::NOTDIR)) => {
            Err(Refusal::NoSource(format!("{}: {}", name_of(path), describe(errno))))
        }
        // Whoever opens it says why.
        Err(_) => Ok(false),
    }
}

/// The nearest directory that has all of these in it, and the way from there to each.
fn common(manifests: &[Vec<u8>], begins: &[&[u8]]) -> Result<(Vec<u8>, Vec<Vec<u8>>), Refusal> {
    let whole = |(path, begin): (&Vec<u8>, &&[u8])| {
        let begin = if begin.is_empty() { b"." } else { *begin };
        let found = Path::new(OsStr::from_bytes(begin)).canonicalize();
        found.map_err(|error| Refusal::List(format!("{}: {error}", name_of(path))))
    };
    let whole: Vec<PathBuf> = manifests.iter().zip(begins).map(whole).collect::<Result<_, _>>()?;
    let mut common = whole[0].clone();
    while !whole.iter().all(|each| each.starts_with(&common)) {
        common.pop();
    }
    let prefix = |each: &PathBuf| {
        let below = each.strip_prefix(&common).unwrap_or(each).components();
        below.fold(Vec::new(), |prefix, component| match component {
            Component::Normal(name) => [&prefix[..], name.as_bytes(), b"/"].concat(),
            _ => prefix,
        })
    };
    let prefixes = whole.iter().map(prefix).collect();
    Ok((common.as_os_str().as_bytes().to_vec(), prefixes))
}

/// The manifests below a directory, to which `prefix` leads from where the verification is.
fn below(tree: &[u8], prefix: &[u8], filter: &Selection, desk: &Desk) -> Result<Vec<Given>, Refusal> {
    let refused = |path: &[u8], errno| Refusal::List(format!("{}: {}", name_of(&join(tree, path)), describe(errno)));
    let base = open_directory_path(tree, Follow::Yes).map_err(|errno| refused(b"", errno))?;
    let (mut left, mut found) = (vec![Vec::new()], Vec::new());
    while let Some(directory) = left.pop() {
        if desk.cancel.is_draining() {
            break;
        }
        let listed = open_beneath(&base, &directory, false).and_then(|at| {
            let known = |name: &CStr, kind| match kind {
                Kind::Unknown => sys::stat(at.as_fd(), name, Follow::No).map_or(kind, |stat| stat.kind),
                kind => kind,
            };
            listing::each(
                at.as_fd(),
                || desk.step(),
                |name, kind| {
                    let (kind, path) = (known(name, kind), join(&directory, name.to_bytes()));
                    let here = [prefix, &path].concat();
                    let passed = staging::parse(name.to_bytes()).is_some() || filter.excludes_path(&here, kind);
                    match kind {
                        _ if passed => {}
                        Kind::Directory => left.push(path),
                        Kind::File if is_called_one(name.to_bytes()) => {
                            let parent = split(&here).0;
                            found.push(Given {
                                path: join(tree, &path),
                                prefix: if parent.is_empty() {
                                    Vec::new()
                                } else {
                                    [parent, b"/"].concat()
                                },
                            });
                        }
                        _ => {}
                    }
                },
            )
        });
        match listed {
            // The verification finds it so too, and says so.
            Ok(()) | Err(Errno::ACCESS | Errno::PERM | Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => {}
            Err(errno) => return Err(refused(&directory, errno)),
        }
    }
    Ok(found)
}
