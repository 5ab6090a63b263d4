//! The sources that a list names.
//!
//! Comes in: a list as [`crate::list`] or hpcp writes it, or a list of changes; goes out: paths, in its order, each once.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use bulkhaul_formats::lists::changes::{self, Change, Op};
use bulkhaul_formats::lists::hpcp::{self, Facts, Form, Listed};

use crate::error::Refusal;
use crate::job::desk::Cancel;
use crate::records::listfile::ListFile;
use crate::records::sort::{SORT_BYTES, Sorters};

/// The sources that a list names, in its order and as arguments: directories with a slash at their end. Hashes and link
/// texts are left off, but where a name with a colon is meant, which is there as it stands. What is in a directory that
/// the list names too comes with that, and is left out; so is what comes again. Of a change list these are the entries
/// that came or became others, but no directory that was there before: it would bring all that is in it. Of hpcp's older
/// list of differences, they are those without a mark.
pub fn listed_sources(path: &[u8], spill_directory: Option<&[u8]>) -> Result<Vec<Vec<u8>>, Refusal> {
    let sorters = Sorters::new(spill_directory, SORT_BYTES, 1);
    // Nobody stops this but with the process.
    let Some(list) = ListFile::open(path, &sorters, &Cancel::default())? else {
        return Ok(Vec::new());
    };
    let is_changes = list.is_changes()?;
    let form = if is_changes { Form::Names } else { list.survey()?.0 };
    let read = |number, line: &[u8]| {
        if is_changes {
            let change = changes::parse(line).map_err(|error| list.refusal(&format!("line {number}: {error}")))?;
            return Ok(change.and_then(came));
        }
        if line.starts_with(hpcp::REMOVED) {
            return Ok(None);
        }
        let listed = hpcp::parse(line, form).map_err(|error| list.refusal(&format!("line {number}: {error}")))?;
        let Some(mut listed) = listed else { return Ok(None) };
        if let (Facts::Symlink(target), false) = (&listed.facts, line.starts_with(b"\0")) {
            let whole = [&listed.path[..], b":", target].concat();
            if is_there(&whole) && !is_there(&listed.path) {
                listed.path = whole;
            }
        }
        if listed.path.is_empty() {
            listed.path = b".".to_vec();
        }
        Ok(Some(listed))
    };
    let mut directories = HashSet::new();
    list.each(|number, line| {
        if let Some(listed) = read(number, line)?.filter(|listed| listed.facts == Facts::Directory) {
            let above = above(&listed.path).any(|above| directories.contains(above));
            if !above {
                directories.insert(listed.path);
            }
        }
        Ok(())
    })?;
    let (mut paths, mut seen) = (Vec::new(), HashSet::new());
    list.each(|number, line| {
        let Some(listed) = read(number, line)? else {
            return Ok(());
        };
        if above(&listed.path).any(|above| directories.contains(above)) || !seen.insert(listed.path.clone()) {
            return Ok(());
        }
        let mut path = listed.path;
        if listed.facts == Facts::Directory && !path.ends_with(b"/") {
            path.push(b'/');
        }
        paths.push(path);
        Ok(())
    })?;
    Ok(paths)
}

/// What a change list says that there is and was not, or was not so.
pub fn came(change: Change) -> Option<Listed> {
    let facts = if change.directory {
        Facts::Directory
    } else {
        Facts::Nothing
    };
    let wanted = change.op == Op::Add || (change.op == Op::Modify && !change.directory);
    wanted.then_some(Listed {
        path: change.path,
        facts,
    })
}

/// The directories above a path, as the path spells them. Above every relative one is `.`.
pub fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(at, b)| **b == b'/' && *at > 0);
    let root = if path.starts_with(b"/") { &b"/"[..] } else { b"." };
    let own = (path != root && !path.starts_with(b"../") && path != b"..").then_some(root);
    slashes.map(|(at, _)| &path[..at]).chain(own)
}

fn is_there(path: &[u8]) -> bool {
    std::fs::symlink_metadata(OsStr::from_bytes(path)).is_ok()
}
