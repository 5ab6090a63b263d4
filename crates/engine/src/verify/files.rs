//! Where the files are that a verification is about: below a directory of this machine, or where no walk gets.

use bulkhaul_formats::digest::{Digest, Hashers};
use bulkhaul_sys::{self as sys, AsFd as _, Kind, OwnedFd};

use crate::bytes::digests::digests;
use crate::error::{Fault, Operation, Side, Stopped};
use crate::job::desk::Desk;
use crate::records::ground::{Ground, Sight};
use crate::report::counters::Counters;
use crate::tree::beneath::Beneath;

/// Where they are.
#[derive(Clone, Copy)]
pub(super) enum Source<'s> {
    Here(&'s OwnedFd),
    Elsewhere(&'s dyn Ground),
}

/// The same, for one thread.
pub(super) enum Files<'f> {
    Here(Beneath<'f>),
    Elsewhere(&'f dyn Ground),
}

impl<'s> Source<'s> {
    pub(super) fn files(self) -> Files<'s> {
        match self {
            Self::Here(base) => Files::Here(Beneath::new(base)),
            Self::Elsewhere(ground) => Files::Elsewhere(ground),
        }
    }

    /// Whether there can be entries of a kind.
    pub(super) fn keeps(self, kind: Kind) -> bool {
        match self {
            Self::Here(_) => true,
            Self::Elsewhere(ground) => ground.keeps(kind),
        }
    }
}

impl Files<'_> {
    /// Kind and size of what is at a path, if there is anything.
    pub(super) fn look(&mut self, path: &[u8]) -> Option<(Kind, u64)> {
        match self {
            Self::Here(beneath) => beneath.stat(path).ok().map(|stat| (stat.kind, stat.size)),
            Self::Elsewhere(ground) => ground.look(path),
        }
    }

    /// The digests of a file of so many bytes, from wherever they come soonest.
    pub(super) fn digests(
        &mut self,
        (path, size): (&[u8], u64),
        hashers: &mut Hashers,
        run: (&Desk, &Counters),
        buffer: &mut [u8],
    ) -> Result<Vec<Digest>, Stopped> {
        match self {
            Self::Here(beneath) => {
                let fault = |operation| move |errno| Fault::new(operation, Side::Source, errno);
                let file = beneath.open(path).map_err(fault(Operation::Open))?;
                let stat = sys::stat_fd(file.as_fd()).map_err(fault(Operation::Stat))?;
                Ok(digests((file.as_fd(), &stat), &[], hashers, run, buffer)?.0)
            }
            Self::Elsewhere(ground) => {
                let sight = Sight {
                    path: path.to_vec(),
                    kind: Kind::File,
                    size,
                    version: Vec::new(),
                    failed: false,
                };
                Ok(ground.read(&sight, hashers, run)?.digests)
            }
        }
    }
}
