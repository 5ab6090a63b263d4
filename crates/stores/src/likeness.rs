//! What a file or directory of this machine is like beside its content and times, given to its copy on this machine.
//!
//! Comes in: descriptors of both; what becomes of owner, mode and attributes is the engine's metadata, as in its own copy.
//! What could not be kept is gathered until somebody takes it.

use std::mem;
use std::sync::{Mutex, OnceLock, PoisonError};

use bulkhaul_engine::Kind;
use bulkhaul_engine::error::{Fault, Operation, Side};
use bulkhaul_engine::job::process::process;
use bulkhaul_engine::tree::keep::Keep;
use bulkhaul_engine::tree::metadata::{Scratch, Shortfall, Subject, put_right};
use bulkhaul_engine::tree::path::{open_beneath, open_directory_path};
use bulkhaul_sys::{self as sys, BorrowedFd, Follow, Node, OwnedFd, Stat};

/// A directory stays open to who writes into it.
const OWNERS: u32 = 0o700;

/// The tree that copies are like.
pub struct Likeness {
    path: Vec<u8>,
    keep: Keep,
    root: OnceLock<Option<OwnedFd>>,
    scratch: Mutex<Scratch>,
}

impl Likeness {
    /// That of a tree. Looks at nothing yet.
    pub fn of(path: &[u8]) -> Self {
        let process = process();
        Self {
            path: path.to_vec(),
            keep: Keep {
                times: false,
                ..Keep::whole(process.umask, process.reach)
            },
            root: OnceLock::new(),
            scratch: Mutex::default(),
        }
    }

    /// A directory of the tree; none where it has no such.
    pub fn directory(&self, path: &[u8]) -> Option<OwnedFd> {
        let root = self
            .root
            .get_or_init(|| open_directory_path(&self.path, Follow::Yes).ok())
            .as_ref()?;
        open_beneath(root, path, false).ok()
    }

    /// Makes a copy like its original; `side`: where the copy is.
    pub fn give(&self, original: BorrowedFd<'_>, copy: BorrowedFd<'_>, side: Side) -> Result<(), Fault> {
        let stat = |fd, side| sys::stat_fd(fd).map_err(|errno| Fault::new(Operation::Stat, side, errno));
        let (found, now) = (stat(original, Side::Source)?, stat(copy, side)?);
        let is_directory = found.kind == Kind::Directory;
        let wanted = Stat {
            mode: found.mode | if is_directory { OWNERS } else { 0 },
            ..found
        };
        let subject = Subject {
            node: Node::Open(copy),
            owner: (now.uid, now.gid),
            mode: now.mode,
            born: None,
            new: true,
            inherits: true,
            destination: 0,
        };
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let node = Some(Node::Open(original));
        put_right(&self.keep, &wanted, node, subject, Some(subject.node), &mut scratch)?;
        if wanted.mode != found.mode {
            scratch.note(
                "mode",
                "a directory that its owner may not write into is one here that he may",
                false,
            );
        }
        if !is_directory && found.nlink > 1 {
            scratch.note("hard-links", "names of one file become files of their own", false);
        }
        Ok(())
    }

    /// What could not be kept since the last time.
    pub fn shortfalls(&self) -> Vec<Shortfall> {
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut scratch.shortfalls)
    }
}
