//! A list of names that are walked instead of whole trees, as it is read.
//!
//! Comes in: a file, or what is no file and still being written; goes out: its names, below one root.

use bulkhaul_formats::lists::names::FileList;
use bulkhaul_sys::{self as sys, Way};

use crate::bytes::stream::{Stream, name_of};
use crate::error::{Refusal, describe};
use crate::job::desk::Desk;
use crate::tree::path::{join, show, trim};

/// A list of names to take instead of whole trees.
#[derive(Clone, Debug)]
pub struct FilesFrom {
    /// File that holds the list.
    pub path: Vec<u8>,
    /// Names end with NUL, not with a newline.
    pub nul: bool,
    /// A directory that is named brings what is in it.
    pub contents: bool,
}

impl FilesFrom {
    /// Why it is refused.
    pub fn refusal(&self, text: &str) -> Refusal {
        Refusal::Usage(format!("files-from {}: {text}", name_of(&self.path)))
    }

    /// Its names below `root`; none where the run was told to stop.
    pub fn read(&self, root: &[u8], desk: &Desk) -> Result<FileList, Refusal> {
        let refuse = |errno| self.refusal(&describe(errno));
        let mut bytes = Vec::new();
        // Somebody may still be writing it.
        let resting = desk.resting();
        let stream = Stream::open(&self.path, Way::In).map_err(refuse)?;
        let whole = stream.read_to_end(&desk.cancel, refuse, |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        drop(resting);
        if !whole {
            // Nothing is done any more.
            bytes.clear();
        }
        let root = trim(root);
        let root = if root.starts_with(b"/") {
            root.to_vec()
        } else {
            join(&sys::working_directory(), root)
        };
        let list = FileList::parse(bytes, self.nul, &root).map_err(|e| self.refusal(&e.to_string()))?;
        Ok(if self.contents { list.with_contents() } else { list })
    }

    /// The same; a name that leads out of `root` is refused.
    pub fn read_within(&self, root: &[u8], desk: &Desk) -> Result<FileList, Refusal> {
        let list = self.read(root, desk)?;
        match list.outside().first() {
            Some(outside) => Err(self.refusal(&format!("{} is not below {}", show(outside), show(root)))),
            None => Ok(list),
        }
    }
}
