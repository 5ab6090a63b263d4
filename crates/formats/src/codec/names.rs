//! Names of archives, and the extensions that files are chosen by. Pure.
//!
//! Comes in: a name in a directory; goes out: the name that its archive or its content has beside it, and whether it ends
//! as was asked for. Promises: what [`archive_of`] adds [`content_of`] takes away.

use std::ffi::{CStr, CString};
use std::iter::successors;

use super::Format;

/// What an index of an archive ends with.
const INDEX: &[u8] = b".gzi";
/// What archives end with that can be read, and what comes in its place.
const SUFFIXES: [(&[u8], &[u8]); 7] = [
    (b".gz", b""),
    (b".bgz", b""),
    (b".xz", b""),
    (b".zst", b""),
    (b".tgz", b".tar"),
    (b".txz", b".tar"),
    (b".tzst", b".tar"),
];
/// What archives of other programs end with, and what reads them.
const FOREIGN: [(&[u8], &str); 6] = [
    (b".bz2", "bzip2; bunzip2 reads it"),
    (b".tbz2", "bzip2; bunzip2 reads it"),
    (b".z", "compress(1); uncompress reads it"),
    (b".lzma", "the old form of xz; unlzma reads it"),
    (b".lz4", "lz4; unlz4 reads it"),
    (b".lz", "lzip; lunzip reads it"),
];

fn ends_with(name: &[u8], end: &[u8]) -> bool {
    // A name that is nothing else has nothing that it could end.
    name.len() > end.len() && name[name.len() - end.len()..].eq_ignore_ascii_case(end)
}

fn with(name: &[u8], end: &[u8]) -> CString {
    // Both are parts of names, which have no NUL.
    CString::new([name, end].concat()).unwrap_or_default()
}

/// The name of the archive of a file.
pub fn archive_of(name: &CStr, format: Format) -> CString {
    with(name.to_bytes(), format.suffix().as_bytes())
}

/// The name of the index of an archive.
pub fn index_of(archive: &CStr) -> CString {
    with(archive.to_bytes(), INDEX)
}

/// The name of the archive that this is the index of, by its name.
pub fn indexed_by(name: &CStr) -> Option<CString> {
    let name = name.to_bytes();
    ends_with(name, INDEX).then(|| with(&name[..name.len() - INDEX.len()], b""))
}

/// The name of what an archive has in it; none where it is no archive's name.
pub fn content_of(name: &CStr) -> Option<CString> {
    let name = name.to_bytes();
    let (end, instead) = SUFFIXES.iter().find(|(end, _)| ends_with(name, end))?;
    Some(with(&name[..name.len() - end.len()], instead))
}

/// Names of archives that would have the same content as this one, and come before it.
pub fn earlier_archives(name: &CStr) -> Vec<CString> {
    let Some(content) = content_of(name) else {
        return Vec::new();
    };
    let small = ends_small(name);
    let spelt = |stem: &[u8], end: &[u8], capitals: u32| {
        let letter = |(at, byte): (usize, &u8)| {
            if capitals >> at & 1 == 0 {
                *byte
            } else {
                byte.to_ascii_uppercase()
            }
        };
        with(stem, &end.iter().enumerate().map(letter).collect::<Vec<u8>>())
    };
    let mut earlier = Vec::new();
    for (end, instead) in SUFFIXES {
        match content.to_bytes().strip_suffix(instead) {
            None | Some([]) => {}
            // What ends otherwise comes after all that end so.
            Some(stem) if small => earlier.push(with(stem, end)),
            // Each first letter is a dot.
            Some(stem) => earlier.extend(
                (0..1 << end.len())
                    .step_by(2)
                    .map(|capitals| spelt(stem, end, capitals)),
            ),
        }
    }
    earlier.retain(|other| turn(other) < turn(name));
    earlier
}

/// By what archives of one bare name take their turns: first those whose content is no archive, of them what ends in small
/// letters, and of them by their names.
pub fn turn(archive: &CStr) -> (usize, bool, CString) {
    let layers = successors(content_of(archive), |content| content_of(content)).count();
    (layers, !ends_small(archive), archive.to_owned())
}

fn ends_small(archive: &CStr) -> bool {
    SUFFIXES.iter().any(|(end, _)| archive.to_bytes().ends_with(end))
}

/// A name without all that archives end with.
pub fn bare(name: &CStr) -> CString {
    let mut bare = name.to_owned();
    while let Some(content) = content_of(&bare) {
        bare = content;
    }
    bare
}

/// Of what other program it is the archive, by its name, and what reads it.
pub fn foreign(name: &CStr) -> Option<&'static str> {
    let (_, what) = FOREIGN.iter().find(|(end, _)| ends_with(name.to_bytes(), end))?;
    Some(what)
}

/// Extensions that files are chosen by, each with its dot; none: all are.
#[derive(Debug, Default)]
pub struct Extensions(Vec<Vec<u8>>);

/// What is counted for files without an extension.
const NONE: &[u8] = b"";

impl Extensions {
    /// Of several parts perhaps, in any case, with or without the dot before. The error is one that is none.
    pub fn new(asked: &[Vec<u8>]) -> Result<Self, Vec<u8>> {
        let mut all = Vec::with_capacity(asked.len());
        for given in asked {
            let bare = given.strip_prefix(b".").unwrap_or(given).to_ascii_lowercase();
            if bare.is_empty() || bare.contains(&b'/') || bare.contains(&0) {
                return Err(given.clone());
            }
            all.push([b".", bare.as_slice()].concat());
        }
        // The longest that fits is a file's.
        all.sort_by_key(|extension| std::cmp::Reverse(extension.len()));
        all.dedup();
        Ok(Self(all))
    }

    /// The extension of a name, in small letters: the longest of those that were asked for, and none where it ends with none
    /// of them; where all files are chosen, what comes after the last dot.
    pub fn of(&self, name: &CStr) -> Option<Vec<u8>> {
        let name = name.to_bytes();
        if self.0.is_empty() {
            let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0);
            return Some(dot.map_or(NONE.to_vec(), |dot| name[dot + 1..].to_ascii_lowercase()));
        }
        let own = self.0.iter().find(|extension| ends_with(name, extension))?;
        Some(own[1..].to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn c(text: &str) -> CString {
        CString::new(text).unwrap()
    }

    #[test]
    fn an_archive_has_its_content_s_name_and_a_suffix() {
        for format in Format::ALL {
            for name in ["a", "a.tsv", ".hidden", "a.gz", "-", " ."] {
                assert_eq!(
                    content_of(&archive_of(&c(name), format)),
                    Some(c(name)),
                    "{format:?} {name}"
                );
            }
        }
        let cases = [
            ("a.tgz", Some("a.tar")),
            ("A.TSV.GZ", Some("A.TSV")),
            ("a.bgz", Some("a")),
            (".gz", None),
            ("gz", None),
            ("a.gz.gzi", None),
            ("a.bz2", None),
        ];
        for (name, content) in cases {
            assert_eq!(content_of(&c(name)), content.map(c), "{name}");
        }
        assert_eq!(indexed_by(&index_of(c"a.gz")), Some(c("a.gz")));
        assert_eq!(indexed_by(c".gzi"), None);
        assert!(foreign(c"a.BZ2").is_some() && foreign(c"a.Z").is_some() && foreign(c"a.gz").is_none());
    }

    #[test]
    fn archives_of_one_content() {
        let cases: [(&str, &[&str]); 7] = [
            ("a.gz", &["a.bgz"]),
            ("a.bgz", &[]),
            ("a.zst", &["a.gz", "a.bgz", "a.xz"]),
            ("a.tar.gz", &["a.tar.bgz"]),
            ("a.tgz", &["a.tar.gz", "a.tar.bgz", "a.tar.xz", "a.tar.zst"]),
            (".tar.gz", &[".tar.bgz"]),
            ("a.tsv", &[]),
        ];
        for (name, earlier) in cases {
            assert_eq!(
                earlier_archives(&c(name)),
                earlier.iter().map(|e| c(e)).collect::<Vec<_>>(),
                "{name}"
            );
        }
        let of_capitals = earlier_archives(c"a.GZ");
        let has = |name: &str| of_capitals.contains(&c(name));
        assert!(
            ["a.gz", "a.bgz", "a.xz", "a.zst", "a.BGZ", "a.BGz"]
                .iter()
                .all(|name| has(name))
        );
        assert!(
            !["a.GZ", "a.Gz", "a.gZ", "a.XZ", "a.tgz", "a"]
                .iter()
                .any(|name| has(name))
        );
        let mut turns = ["a.xz.gz", "a.GZ.gz", "a.GZ", "a.xz", "A.TGZ.gz", "a.gz", "a.Gz"].map(c);
        turns.sort_by_key(|name| turn(name));
        assert_eq!(
            turns,
            ["a.gz", "a.xz", "a.GZ", "a.Gz", "A.TGZ.gz", "a.GZ.gz", "a.xz.gz"].map(c)
        );
        for (name, without) in [("a.gz.xz", "a"), ("a.tgz", "a.tar"), ("a", "a"), (".gz.gz", ".gz")] {
            assert_eq!(bare(&c(name)), c(without));
        }
    }

    #[test]
    fn extensions_of_several_parts_in_any_case() {
        let all = Extensions::default();
        let some = Extensions::new(&[b".TSV".to_vec(), b"tar.foo".to_vec(), b"foo".to_vec()]).unwrap();
        let cases = [
            ("a.tsv", Some("tsv"), "tsv"),
            ("a.Tsv", Some("tsv"), "tsv"),
            ("a.tar.foo", Some("tar.foo"), "foo"),
            ("a.x.FOO", Some("foo"), "foo"),
            (".tsv", None, ""),
            ("tsv", None, ""),
            ("a.tsv.bak", None, "bak"),
            ("a.", None, ""),
        ];
        for (name, of_some, of_all) in cases {
            let text = |extensions: &Extensions| extensions.of(&c(name)).map(|e| String::from_utf8(e).unwrap());
            assert_eq!(text(&some), of_some.map(str::to_owned), "{name}");
            assert_eq!(text(&all).as_deref(), Some(of_all), "{name}");
        }
        for wrong in ["", ".", "a/b", "a\0"] {
            assert_eq!(Extensions::new(&[wrong.into()]).unwrap_err(), wrong.as_bytes());
        }
    }
}
