//! Where a walk begins: paths that were given, or parts of directories that are open already.
//!
//! Comes in: arguments; goes out: the same, as roots that can be walked.

use std::sync::Arc;

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Identity, OwnedFd};

use crate::error::{Refusal, Side, describe};
use crate::tree::listing::Batch;
use crate::tree::path::{self, c_string, open_directory_path, show, split};

/// One argument: a directory, or anything else.
#[derive(Clone, Debug)]
pub struct Root {
    /// Its path as given.
    pub path: Vec<u8>,
    /// A symlink to a directory is followed.
    pub follow: bool,
    /// It stands for what is in it: exclude rules and relative paths begin below it, and it is not excluded itself.
    pub contents: bool,
    /// The inode that it must be, where it was looked at before.
    pub pin: Option<Identity>,
}

/// Entries of a directory that somebody else has listed: they are walked, and the directory itself is not.
pub struct Part {
    /// The directory. It stays open until everything below it is done.
    pub fd: Arc<OwnedFd>,
    /// Its inode.
    pub id: Identity,
    /// The mount that it lies on.
    pub mount: u64,
    /// The tree that it is in.
    pub side: Side,
    /// Its full path.
    pub path: Vec<u8>,
    /// What relative paths begin with.
    pub relative_path: Vec<u8>,
    /// Its full paths in other trees: exclude rules about full paths know it by these too, and events name the last one.
    pub twins: Vec<Vec<u8>>,
    /// The entries, directories among them, of kinds that are known, and without what rules exclude.
    pub entries: Vec<Batch>,
}

/// Parts of directories, each opened when its turn comes.
pub trait Parts: Sync {
    /// How many.
    fn count(&self) -> usize;

    /// Number `index`. None: nothing of it is begun, and why was said.
    fn open(&self, index: usize) -> Option<Part>;
}

/// What a walk begins with.
#[derive(Clone, Copy)]
pub enum Start<'w> {
    /// Arguments.
    Roots(&'w [Root]),
    /// Entries of directories.
    Parts(&'w dyn Parts),
}

impl Start<'_> {
    pub(crate) fn count(self) -> usize {
        match self {
            Start::Roots(roots) => roots.len(),
            Start::Parts(parts) => parts.count(),
        }
    }
}

/// Arguments that can be walked: a path without a name of its own stands for what is in it.
pub(crate) fn check_roots(given: &[Root]) -> Result<Vec<Root>, Refusal> {
    let mut roots = given.to_vec();
    for root in &mut roots {
        path::check(&root.path)?;
        let nameless = root.path.ends_with(b"/") || matches!(split(&root.path).1, b"" | b"." | b"..");
        if nameless {
            (root.contents, root.follow) = (true, true);
        }
    }
    Ok(roots)
}

/// Refuses where not one of the arguments is there; where one of several is not, the walk says so.
pub(crate) fn require_one(roots: &[Root]) -> Result<(), Refusal> {
    let look = |root: &Root| {
        let (directory, name) = split(&root.path);
        let at = open_directory_path(directory, Follow::Yes)?;
        let name = c_string(if name.is_empty() { b"." } else { name })?;
        sys::stat(at.as_fd(), &name, Follow::No).map(drop)
    };
    let mut first: Option<(&Root, Errno)> = None;
    for root in roots {
        match look(root) {
            Ok(()) => return Ok(()),
            Err(errno) => {
                first.get_or_insert((root, errno));
            }
        }
    }
    match first {
        Some((root, errno)) => {
            let path = show(&root.path);
            Err(Refusal::NoSource(format!("{path}: {}", describe(errno))))
        }
        None => Err(Refusal::Usage("nothing is given to list".into())),
    }
}
