//! Mode changes in rsync's `--chmod` syntax.
//!
//! Comes in: text such as `D755,F644` or `u=rwX,go-w`; then the mode of each entry. Goes out: the mode to set.

/// Text that is not a mode change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a mode change such as D755, F644 or u=rwX,go-w")]
pub struct ChmodError {
    text: String,
}

/// A checked list of mode changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chmod {}

impl Chmod {
    /// Reads comma-separated changes. `umask` limits what clauses without any of `ugoa` change (as in chmod); 0: nothing.
    pub fn parse(text: &str, umask: u32) -> Result<Self, ChmodError> {
        unimplemented!("{text} {umask}")
    }

    /// The mode after the changes, in order. Bits outside 07777 (the file type) pass through.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        unimplemented!("{mode} {is_directory} {self:?}")
    }
}
