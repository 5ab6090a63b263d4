//! What the rooms of an unpacking have in common: what is done, what became of an entry, and whether an entry is what it is
//! said to be. Pure.

use bulkhaul_formats::digest::Digest;
use bulkhaul_formats::manifest::{self, Kind as Listed};
use bulkhaul_formats::shards::Packed;
use bulkhaul_formats::tar::{Header, What};

use crate::entry::{Outcome, Reason};
use crate::error::{Cause, Fault, Operation, Side};
use crate::tree::spelling::TWO_FOR_ONE;

/// What is done with what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// It goes below this directory, which is made where it is not there.
    Into(Vec<u8>),
    /// It is only told.
    List,
    /// It is read, and its digests are compared.
    Verify,
}

impl Task {
    /// Where entries go, if they go anywhere.
    pub fn target(&self) -> Option<&[u8]> {
        match self {
            Self::Into(target) => Some(target),
            Self::List | Self::Verify => None,
        }
    }
}

/// What became of an entry.
pub struct Done {
    pub outcome: Outcome,
    pub reason: Option<Reason>,
    pub bytes: u64,
}

impl Done {
    /// It came to this, with so many bytes of content.
    pub fn of(outcome: Outcome, bytes: u64) -> Self {
        Self {
            outcome,
            reason: None,
            bytes,
        }
    }

    /// It is there already.
    pub fn unchanged(bytes: u64) -> Self {
        Self {
            reason: Some(Reason::Unchanged),
            ..Self::of(Outcome::Skipped, bytes)
        }
    }
}

/// A directory has the name of what is none.
pub fn directory_in_the_way() -> Fault {
    Fault::conflict(Operation::Create, 0, "a directory is in the way")
}

/// The target takes the name for one that has arrived.
pub fn met() -> Fault {
    Fault::conflict(Operation::Create, 0, TWO_FOR_ONE)
}

/// Whether content is what the index says of it.
pub fn compare(packed: &Packed, header: &Header, found: &[Digest]) -> Result<(), Fault> {
    if header.what != What::File {
        return Ok(());
    }
    let known = if header.data.is_none() {
        &packed.entry.digests
    } else {
        &packed.stored
    };
    if known.is_empty() || known.iter().any(|digest| found.contains(digest)) {
        return Ok(());
    }
    Err(Fault {
        operation: Operation::Read,
        side: Side::Source,
        cause: Cause::Unlike(
            "mismatch",
            "its content has another digest than its index says".to_owned(),
        ),
    })
}

/// A path of an archive as one below the target; nothing: the target itself.
pub fn inside(path: &[u8]) -> Result<Vec<u8>, Fault> {
    match manifest::inside(path) {
        Ok(path) => Ok(path),
        Err(manifest::PathError::Empty) => Ok(Vec::new()),
        Err(why) => Err(Fault {
            operation: Operation::Create,
            side: Side::Destination(0),
            cause: Cause::Outside(match why {
                manifest::PathError::Absolute => "its name is absolute, which may lead anywhere",
                manifest::PathError::Parent => "its name has '..', which may lead anywhere",
                manifest::PathError::Nul | manifest::PathError::Empty => "its name is none",
            }),
        }),
    }
}

/// What an entry is, as indexes say it.
pub fn listed(what: &What) -> Listed {
    match what {
        What::File | What::Link(_) => Listed::File,
        What::Directory => Listed::Directory,
        What::Symlink(_) => Listed::Symlink,
        What::Fifo => Listed::Fifo,
        What::Block(..) => Listed::Block,
        What::Char(..) => Listed::Char,
    }
}
