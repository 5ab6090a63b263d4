//! One entry a path.
//!
//! Comes in: entries sorted by the bytes of their paths; goes out: the same, those of one path as one that has what each
//! knows, or where they disagree. Holds one entry. Manifests come in any order: who reads one sorts it first (or takes it
//! as sorted, and sorts when `Problem::Order` comes).

use super::{Entry, Listed, ManifestError, Problem, text};

/// Merges the entries of one path.
#[derive(Debug, Default)]
pub struct Merge {
    held: Option<Listed>,
}

impl Merge {
    /// Takes the next entry, and gives the one before it when that is complete.
    pub fn push(&mut self, listed: Listed) -> Result<Option<Listed>, ManifestError> {
        let Some(held) = &mut self.held else {
            self.held = Some(listed);
            return Ok(None);
        };
        let refused = |problem| ManifestError {
            line: listed.line,
            problem,
        };
        match held.entry.path.cmp(&listed.entry.path) {
            std::cmp::Ordering::Less => Ok(self.held.replace(listed)),
            std::cmp::Ordering::Greater => Err(refused(Problem::Order(text(&listed.entry.path)))),
            std::cmp::Ordering::Equal => match held.entry.take_in(&listed.entry) {
                Ok(()) => Ok(None),
                Err(what) => Err(refused(Problem::Disagree {
                    path: text(&listed.entry.path),
                    what,
                    other: held.line,
                })),
            },
        }
    }

    /// The last entry.
    pub fn finish(&mut self) -> Option<Listed> {
        self.held.take()
    }
}

impl Entry {
    /// Takes what another entry of the same path knows; an error, with its name, where the two know different things.
    fn take_in(&mut self, other: &Self) -> Result<(), &'static str> {
        fn take<T: Clone + PartialEq>(
            mine: &mut Option<T>,
            theirs: Option<&T>,
            what: &'static str,
        ) -> Result<(), &'static str> {
            match (&mine, theirs) {
                (Some(mine), Some(theirs)) if mine != theirs => Err(what),
                (None, Some(theirs)) => {
                    *mine = Some(theirs.clone());
                    Ok(())
                }
                _ => Ok(()),
            }
        }
        for digest in &other.digests {
            match self
                .digests
                .binary_search_by_key(&digest.algorithm(), crate::digest::Digest::algorithm)
            {
                Ok(at) if self.digests[at] != *digest => return Err("digest"),
                Ok(_) => {}
                Err(at) => self.digests.insert(at, *digest),
            }
        }
        take(&mut self.kind, other.kind.as_ref(), "kind")?;
        take(&mut self.size, other.size.as_ref(), "size")?;
        take(&mut self.mtime, other.mtime.as_ref(), "time")?;
        take(&mut self.ctime, other.ctime.as_ref(), "time of change")?;
        take(&mut self.mode, other.mode.as_ref(), "mode")?;
        take(&mut self.uid, other.uid.as_ref(), "owner")?;
        take(&mut self.gid, other.gid.as_ref(), "group")?;
        take(&mut self.target, other.target.as_ref(), "target")?;
        take(&mut self.link_group, other.link_group.as_ref(), "group of links")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Algorithm, Hashers};

    fn listed(line: u64, path: &str, algorithm: Algorithm, content: &[u8]) -> Listed {
        let mut hashers = Hashers::new(&[algorithm]);
        hashers.update(content);
        Listed {
            line,
            entry: Entry::new(path.into(), hashers.finish()),
        }
    }

    #[test]
    fn what_agrees_becomes_one() {
        let mut merge = Merge::default();
        assert_eq!(merge.push(listed(4, "a", Algorithm::Md5, b"1")), Ok(None));
        assert_eq!(merge.push(listed(2, "a", Algorithm::Blake3, b"1")), Ok(None));
        assert_eq!(merge.push(listed(9, "a", Algorithm::Md5, b"1")), Ok(None));
        let mut sized = listed(10, "a", Algorithm::Md5, b"1");
        sized.entry.size = Some(1);
        assert_eq!(merge.push(sized.clone()), Ok(None));
        let whole = merge.push(listed(1, "a!", Algorithm::Md5, b"2")).unwrap().unwrap();
        let algorithms: Vec<_> = whole
            .entry
            .digests
            .iter()
            .map(crate::digest::Digest::algorithm)
            .collect();
        assert_eq!(
            (whole.line, whole.entry.size, algorithms),
            (4, Some(1), vec![Algorithm::Blake3, Algorithm::Md5])
        );
        assert_eq!(merge.finish().unwrap().line, 1);
        assert_eq!(merge.finish(), None);
    }

    #[test]
    fn what_disagrees_is_told_with_both_lines() {
        let mut merge = Merge::default();
        merge.push(listed(3, "a\n", Algorithm::Md5, b"1")).unwrap();
        let error = merge.push(listed(7, "a\n", Algorithm::Md5, b"2")).unwrap_err();
        assert_eq!(error.to_string(), "line 7: 'a\n' has another digest than in line 3");
        let mut other = listed(8, "a\n", Algorithm::Md5, b"1");
        other.entry.size = Some(1);
        merge.push(other.clone()).unwrap();
        other.entry.size = Some(2);
        let error = merge.push(other).unwrap_err();
        assert_eq!(error.to_string(), "line 8: 'a\n' has another size than in line 3");
    }

    #[test]
    fn unsorted_entries_are_told() {
        let mut merge = Merge::default();
        // By bytes: a slash sorts behind an exclamation mark.
        for path in ["a", "a!", "a/b", "b"] {
            merge.push(listed(1, path, Algorithm::Md5, b"")).unwrap();
        }
        let error = merge.push(listed(5, "a", Algorithm::Md5, b"")).unwrap_err();
        assert_eq!(error.problem, Problem::Order("a".into()));
    }
}
