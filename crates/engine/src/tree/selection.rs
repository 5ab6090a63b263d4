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

    /// Whether a rule excludes an entry by its path below the root, or a directory that it lies in.
    pub fn excludes_path(&self, path: &[u8], kind: Kind) -> bool {
        let Some((_, filter)) = &self.0 else { return false };
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends = ends.map(|(at, _)| at).chain([path.len()]);
        let mut start = 0;
        ends.into_iter().any(|end| {
            let (parent, name) = (&path[..start.max(1) - 1], &path[start..end]);
            start = end + 1;
            filter.excludes(parent, name, end < path.len() || kind == Kind::Directory)
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_an_excluded_directory_is_excluded() {
        let rules = [&b"/a/b/"[..], b"*.o", b"/top", b"c/d"].map(<[u8]>::to_vec);
        let selection = Selection::of(Some(&(Style::Rsync, rules.to_vec()))).unwrap();
        for (path, excluded) in [
            ("a", false),
            ("a/b", false),
            ("a/b/x", true),
            ("x/a/b/x", false),
            ("x.o", true),
            ("x.o/y", true),
            ("a/x.o", true),
            ("top", true),
            ("top/x", true),
            ("a/top", false),
            ("x/c/d", true),
            ("x/c/e", false),
        ] {
            assert_eq!(selection.excludes_path(path.as_bytes(), Kind::File), excluded, "{path}");
        }
        assert!(selection.excludes_path(b"a/b", Kind::Directory));
    }
}
