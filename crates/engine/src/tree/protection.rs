//! What flags of entries forbid (`chattr(1)`).
//!
//! Comes in: facts, or a path; goes out: a sentence that says why something may not be done there.

use bulkhaul_sys::{self as sys, AsFd as _, Follow, Protection, Stat};

use crate::tree::path::{c_string, open_directory_path, split};

/// Why something may not be done with what has a path, where its flags or those of its directory say so.
pub fn protection(path: &[u8]) -> Option<&'static str> {
    let (directory, name) = split(path);
    let at = open_directory_path(directory, Follow::Yes).ok()?;
    let itself = c_string(name).and_then(|name| sys::stat(at.as_fd(), &name, Follow::No));
    forbidden(sys::stat_fd(at.as_fd()).ok().as_ref(), itself.ok().as_ref())
}

/// Why nothing may be made in a directory, or take the place of what has its name there: their flags forbid it.
pub fn forbidden(directory: Option<&Stat>, existing: Option<&Stat>) -> Option<&'static str> {
    let directory = directory.and_then(|stat| match stat.protection {
        Protection::None => None,
        Protection::AppendOnly => Some("its directory is append-only (chattr +a): nothing gets its name or goes in it"),
        Protection::Immutable => Some("its directory is immutable (chattr +i)"),
    });
    directory.or_else(|| existing.and_then(|stat| protected(stat.protection)))
}

/// Why an entry stays as it is: its flags forbid the rest.
pub fn protected(protection: Protection) -> Option<&'static str> {
    match protection {
        Protection::None => None,
        Protection::AppendOnly => Some("it is append-only (chattr +a)"),
        Protection::Immutable => Some("it is immutable (chattr +i)"),
    }
}
