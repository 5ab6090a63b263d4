//! Where a walk begins, and where it stops: paths that were given, or parts of directories that are open already.
//!
//! Comes in: arguments; goes out: the same, as roots that can be walked, and the media that they lie on.

use std::sync::Arc;

use bulkhaul_sys::{self as sys, AsFd as _, Errno, Follow, Identity, OwnedFd, Stat};

use crate::bytes::stream::{NO_ENTRY, is_entry};
use crate::error::{Refusal, Side, describe};
use crate::pool::tune::Medium;
use crate::tree::listing::Batch;
use crate::tree::medium::medium;
use crate::tree::path::{self, c_string, open_directory_path, show, split};

/// What the walk does not go past. It always enters its roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// Nothing.
    None,
    /// Another file system.
    FileSystem,
    /// Anything mounted, also from the same file system. A subvolume of btrfs is not mounted where it lies.
    Mount,
}

impl Boundary {
    /// Where `one_file_system` is asked for, or not.
    pub fn of(one_file_system: bool) -> Self {
        if one_file_system { Self::FileSystem } else { Self::None }
    }
}

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
    /// Its facts.
    pub stat: Stat,
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
pub fn check_roots(given: &[Root]) -> Result<Vec<Root>, Refusal> {
    let mut roots = given.to_vec();
    for root in &mut roots {
        path::check(&root.path)?;
        if !is_entry(&root.path) {
            return Err(Refusal::Usage(format!("{}: {NO_ENTRY}", show(&root.path))));
        }
        let nameless = root.path.ends_with(b"/") || matches!(split(&root.path).1, b"" | b"." | b"..");
        if nameless {
            (root.contents, root.follow) = (true, true);
        }
    }
    Ok(roots)
}

/// What holds the arguments; those that can't be opened say so when they are walked.
pub fn media(roots: &[Root]) -> Vec<Medium> {
    let (mut media, mut devices) = (Vec::new(), Vec::new());
    for root in roots {
        let follow = if root.follow { Follow::Yes } else { Follow::No };
        let opened = match open_directory_path(&root.path, follow) {
            // It is no directory, and lies where the one does that holds it.
            Err(Errno::NOTDIR | Errno::LOOP) => open_directory_path(split(&root.path).0, Follow::Yes),
            opened => opened,
        };
        let Ok(fd) = opened else { continue };
        if let Ok(stat) = sys::stat_fd(fd.as_fd())
            && !devices.contains(&stat.id.dev)
        {
            devices.push(stat.id.dev);
            media.push(medium(fd.as_fd()));
        }
    }
    media
}

/// Refuses where not one of the arguments is there; where one of several is not, the walk says so.
pub fn require_one(roots: &[Root]) -> Result<(), Refusal> {
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
