//! What exclude rules take out.
//!
//! Comes in: rules as given, then names and the paths above them; goes out: whether an entry is left out. rsync's rules see
//! names of the transfer, hpcp's full paths.

use std::ffi::CStr;

use bulkhaul_formats::filter::{Filter, Style};
use bulkhaul_sys::Kind;

use crate::error::Refusal;
use crate::tree::path::join;

/// Exclude rules as given: their style, and each of them.
pub type Rules = (Style, Vec<Vec<u8>>);

/// What is taken: all that no rule excludes.
#[derive(Debug, Default)]
pub struct Selection(Option<(Style, Filter)>);

impl Selection {
    /// Refuses rules that are none; without any, all is taken.
    pub fn of(rules: Option<&Rules>) -> Result<Self, Refusal> {
        let Some((style, rules)) = rules else {
            return Ok(Self(None));
        };
        let filter = Filter::parse(*style, rules).map_err(|e| Refusal::Usage(format!("exclude: {e}")))?;
        Ok(Self((!filter.is_empty()).then_some((*style, filter))))
    }

    /// Whether there is no rule.
    pub fn takes_all(&self) -> bool {
        self.0.is_none()
    }

    /// Whether rules are about paths of the source and of the destination, not about names of the transfer.
    pub fn is_about_paths(&self) -> bool {
        matches!(self.0, Some((Style::Fnmatch, _)))
    }

    /// The paths that rules see above a directory's names; none where no rule needs one. rsync's rules see `relative`,
    /// hpcp's the absolute forms of `paths`.
    pub fn parents(
        &self,
        relative: impl FnOnce() -> Vec<u8>,
        paths: impl FnOnce() -> Vec<Vec<u8>>,
        working_directory: &[u8],
    ) -> Vec<Vec<u8>> {
        match &self.0 {
            Some((Style::Rsync, filter)) if filter.needs_parent() => vec![relative()],
            Some((Style::Fnmatch, filter)) if filter.needs_parent() => {
                // What is absolute already stays as it is.
                let absolute = |path: Vec<u8>| match path.first() {
                    Some(b'/') => path,
                    _ => join(working_directory, &path),
                };
                paths().into_iter().map(absolute).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether a rule excludes a name below any of these paths.
    pub fn excludes(&self, parents: &[Vec<u8>], name: &CStr, kind: Kind) -> bool {
        let Some((_, filter)) = &self.0 else { return false };
        let below = |parent: &[u8]| filter.excludes(parent, name.to_bytes(), kind == Kind::Directory);
        match parents {
            [] => below(b""),
            parents => parents.iter().any(|parent| below(parent)),
        }
    }
}
