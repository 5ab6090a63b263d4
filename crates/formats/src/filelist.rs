//! Lists of names to transfer (`--files-from`), as a tree to walk.
//!
//! Comes in: the bytes of a list, one name a line or NUL-terminated, and the absolute path of the source root. Goes out:
//! the names sorted by components, and views of one directory level at a time.

/// A list that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileListError {
    /// A NUL byte in a list of lines: no name holds one, so the list was made NUL-terminated.
    #[error("line {line} of the list holds a NUL byte: is it a NUL-terminated list?")]
    Nul {
        /// Counted from 1.
        line: usize,
    },
}

/// A checked list.
#[derive(Clone, Debug)]
pub struct FileList {}

/// The names below one directory of a list: a small value that only means something to its own list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    start: usize,
    end: usize,
    prefix: usize,
}

impl Slice {
    /// true: no listed name is below.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// One direct child of a directory level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child<'a> {
    /// One component.
    pub name: &'a [u8],
    /// The list holds this very name; false: it is only the parent of names below.
    pub listed: bool,
    /// The listed names below it.
    pub below: Slice,
}

impl FileList {
    /// Reads a list of names relative to `root`, or absolute and below it. `nul`: names end with NUL, not newline.
    pub fn parse(bytes: Vec<u8>, nul: bool, root: &[u8]) -> Result<Self, FileListError> {
        unimplemented!("{bytes:?} {nul} {root:?}")
    }

    /// Names that are outside of the root or have a `..` component, as written.
    pub fn outside(&self) -> &[Vec<u8>] {
        unimplemented!()
    }

    /// The list holds the root itself (`.`, or its absolute path).
    pub fn lists_root(&self) -> bool {
        unimplemented!()
    }

    /// Distinct names in the list, without the root itself.
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    /// true: no name but perhaps the root itself.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All names: the level of the root.
    pub fn root(&self) -> Slice {
        unimplemented!()
    }

    /// The direct children of a level, sorted by bytes.
    pub fn children(&self, slice: Slice) -> impl Iterator<Item = Child<'_>> + use<'_> {
        std::iter::from_fn(move || unimplemented!("{slice:?}"))
    }
}
