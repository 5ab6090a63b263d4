//! Exclude rules in two styles, decided one entry at a time.
//!
//! Comes in: rules as bytes, in order; then the parent path and name of each entry. Goes out: whether the entry is
//! excluded; that nothing below an excluded directory is looked at is the walker's part.

/// How rules are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As rsync's `--exclude`, against paths relative to the transfer root.
    Rsync,
    /// As Python's `fnmatch` (hpcp), against absolute paths.
    Fnmatch,
}

/// A rule that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// `+ ` or `- ` with nothing after it.
    #[error("exclude rule {number} has a prefix and no pattern")]
    EmptyPattern {
        /// Counted from 1.
        number: usize,
    },
}

/// Checked rules.
#[derive(Clone, Debug, Default)]
pub struct Filter {}

impl Filter {
    /// Reads the rules in order.
    pub fn parse(style: Style, rules: &[Vec<u8>]) -> Result<Self, FilterError> {
        unimplemented!("{style:?} {rules:?}")
    }

    /// true: nothing is ever excluded.
    pub fn is_empty(&self) -> bool {
        unimplemented!()
    }

    /// Whether the entry `name` in the directory `parent` is excluded. `parent` is relative to the transfer root without
    /// leading slash (empty at the root) for [`Style::Rsync`], absolute for [`Style::Fnmatch`]; it may be empty when
    /// [`Filter::needs_parent`] is false.
    pub fn excludes(&self, parent: &[u8], name: &[u8], is_directory: bool) -> bool {
        unimplemented!("{parent:?} {name:?} {is_directory}")
    }

    /// false: every rule is decided from the name alone, so no path need be built.
    pub fn needs_parent(&self) -> bool {
        unimplemented!()
    }
}
