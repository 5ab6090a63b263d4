//! Lists of names to transfer (`--files-from`), as a tree to walk.
//!
//! Comes in: the bytes of a list, one name a line or NUL-terminated, and the path of the source root. Goes out: the names
//! sorted by components, seen one directory level at a time. Promises: no name is lost (those outside of the root are
//! handed back as written), none appears twice, and beside the list's own bytes there are 16 bytes a name.

use std::cmp::Ordering;

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
pub struct FileList {
    /// The list as read, with the kept names normalised in place.
    arena: Vec<u8>,
    /// Where the names are in the arena, sorted by components, without duplicates.
    names: Vec<Span>,
    outside: Vec<Vec<u8>>,
    lists_root: bool,
    brings_contents: bool,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    end: usize,
}

impl Span {
    fn of(self, arena: &[u8]) -> &[u8] {
        &arena[self.start..self.end]
    }
}

/// The names below one directory of a list: a small value that only means something to its own list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    start: usize,
    end: usize,
    /// Bytes of the directory's own path and the slash after it.
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
    /// Reads a list of names relative to `root`, or absolute and below it. `nul`: names end with NUL instead of newline.
    /// `.` components and repeated and trailing slashes mean nothing, blank entries are ignored, every other byte
    /// (a carriage return too) belongs to the name.
    pub fn parse(mut bytes: Vec<u8>, nul: bool, root: &[u8]) -> Result<Self, FileListError> {
        if !nul && let Some(at) = bytes.iter().position(|&byte| byte == 0) {
            let line = bytes[..at].split(|&byte| byte == b'\n').count();
            return Err(FileListError::Nul { line });
        }
        let terminator = if nul { 0 } else { b'\n' };
        let mut list = Self {
            arena: Vec::new(),
            names: Vec::new(),
            outside: Vec::new(),
            lists_root: false,
            brings_contents: false,
        };
        let mut start = 0;
        while start < bytes.len() {
            let rest = &bytes[start..];
            let length = rest.iter().position(|&byte| byte == terminator).unwrap_or(rest.len());
            let entry = &mut bytes[start..start + length];
            if !entry.is_empty() {
                match normalise(entry, root) {
                    None => list.outside.push(entry.to_vec()),
                    Some(0) => list.lists_root = true,
                    Some(length) => list.names.push(Span {
                        start,
                        end: start + length,
                    }),
                }
            }
            start += length + 1;
        }
        list.names
            .sort_unstable_by(|a, b| by_components(a.of(&bytes), b.of(&bytes)));
        list.names.dedup_by(|a, b| a.of(&bytes) == b.of(&bytes));
        list.names.shrink_to_fit();
        list.arena = bytes;
        Ok(list)
    }

    /// With what is in the directories that it names.
    #[must_use]
    pub fn with_contents(self) -> Self {
        Self {
            brings_contents: true,
            ..self
        }
    }

    /// A directory that it names comes with what is in it; otherwise by itself.
    pub fn brings_contents(&self) -> bool {
        self.brings_contents
    }

    /// The entries that are outside of the root or have a `..` component, as written and in the list's order.
    pub fn outside(&self) -> &[Vec<u8>] {
        &self.outside
    }

    /// The list holds the root itself (`.` or its absolute path).
    pub fn lists_root(&self) -> bool {
        self.lists_root
    }

    /// Distinct names in the list, without the root itself.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// true: no name but perhaps the root itself.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// All names: the level of the root.
    pub fn root(&self) -> Slice {
        Slice {
            start: 0,
            end: self.names.len(),
            prefix: 0,
        }
    }

    /// The direct children of a level, each once, sorted by bytes.
    pub fn children(&self, level: Slice) -> impl Iterator<Item = Child<'_>> + use<'_> {
        let mut next = level.start;
        std::iter::from_fn(move || {
            if next >= level.end {
                return None;
            }
            let below_level = &self.names[next].of(&self.arena)[level.prefix..];
            let name = below_level.split(|&byte| byte == b'/').next().unwrap_or(below_level);
            let listed = name.len() == below_level.len();
            let end = self.end_of(name, next, level);
            let below = Slice {
                start: next + usize::from(listed),
                end,
                prefix: level.prefix + name.len() + 1,
            };
            next = end;
            Some(Child { name, listed, below })
        })
    }

    /// Where the names at or below the child `name`, which start at `start`, end. Doubles its step, so that a child with
    /// few names costs few comparisons and one with millions not many more.
    fn end_of(&self, name: &[u8], start: usize, level: Slice) -> usize {
        let belongs = |span: &Span| {
            let rest = span.of(&self.arena)[level.prefix..].strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        let mut step = 1;
        let mut known = start;
        while known + step < level.end && belongs(&self.names[known + step]) {
            known += step;
            step *= 2;
        }
        let limit = level.end.min(known + step);
        known + self.names[known..limit].partition_point(belongs)
    }
}

/// Rewrites an entry to its components below the root with single slashes between, at the entry's start, and returns
/// their length: 0 is the root itself. `None`, and nothing rewritten, when it leads out of the root.
fn normalise(entry: &mut [u8], root: &[u8]) -> Option<usize> {
    if components(entry).any(|component| component == b"..") {
        return None;
    }
    let mut above = if !entry.starts_with(b"/") {
        components(b"")
    } else if root.starts_with(b"/") {
        components(root)
    } else {
        return None;
    };
    let mut written = 0;
    let mut read = 0;
    while read < entry.len() {
        let end = entry[read..]
            .iter()
            .position(|&byte| byte == b'/')
            .map_or(entry.len(), |at| read + at);
        let component = &entry[read..end];
        if is_meaningful(component) {
            match above.next() {
                Some(expected) if component != expected => return None,
                Some(_) => {}
                None => {
                    if written > 0 {
                        entry[written] = b'/';
                        written += 1;
                    }
                    entry.copy_within(read..end, written);
                    written += end - read;
                }
            }
        }
        read = end + 1;
    }
    above.next().is_none().then_some(written)
}

/// The components of a path that mean something.
pub(crate) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/')
        .filter(|component| is_meaningful(component))
}

fn is_meaningful(component: &[u8]) -> bool {
    !component.is_empty() && component != b"."
}

/// Orders names so that everything below a directory follows it directly: as bytes, the slash before all others.
fn by_components(a: &[u8], b: &[u8]) -> Ordering {
    // No name holds a NUL, so the slash may take its place.
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    match a.iter().zip(b).find(|(a, b)| a != b) {
        Some((&a, &b)) => rank(a).cmp(&rank(b)),
        None => a.len().cmp(&b.len()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    /// The slow and plain form of a list: for each directory level, its children.
    #[derive(Debug, Default, PartialEq)]
    struct Tree {
        listed: bool,
        children: BTreeMap<Vec<u8>, Tree>,
    }

    fn tree(list: &FileList, level: Slice, listed: bool) -> Tree {
        let mut children = BTreeMap::new();
        let mut previous: Option<&[u8]> = None;
        for child in list.children(level) {
            assert!(previous < Some(child.name), "children are sorted and unique");
            previous = Some(child.name);
            assert!(child.listed || !child.below.is_empty(), "a child is listed or a parent");
            children.insert(child.name.to_vec(), tree(list, child.below, child.listed));
        }
        assert_eq!(level.is_empty(), children.is_empty());
        Tree { listed, children }
    }

    fn reference(names: &[Vec<u8>], root: &str) -> (Tree, Vec<Vec<u8>>) {
        let mut top = Tree::default();
        let mut outside = Vec::new();
        for name in names.iter().filter(|name| !name.is_empty()) {
            let text = String::from_utf8(name.clone()).unwrap();
            let parts = |text: &str| -> Vec<String> {
                text.split('/')
                    .filter(|part| !["", "."].contains(part))
                    .map(Into::into)
                    .collect()
            };
            let mut path = parts(&text);
            let prefix = parts(root);
            if path.contains(&"..".to_string()) || text.starts_with('/') && !path.starts_with(&prefix) {
                outside.push(name.clone());
                continue;
            }
            if text.starts_with('/') {
                path.drain(..prefix.len());
            }
            let node = path.iter().fold(&mut top, |node, part| {
                node.children.entry(part.clone().into()).or_default()
            });
            node.listed = true;
        }
        (top, outside)
    }

    fn parse(text: &[u8], root: &[u8]) -> FileList {
        FileList::parse(text.to_vec(), false, root).unwrap()
    }

    fn names(list: &FileList) -> Vec<String> {
        let name = |span: &Span| String::from_utf8_lossy(span.of(&list.arena)).into_owned();
        list.names.iter().map(name).collect()
    }

    #[test]
    fn entries_are_normalised() {
        for (text, expected) in [
            (&b"a"[..], &["a"][..]),
            (b"a\n", &["a"]),
            (b"\n\na\n\nb\n", &["a", "b"]),
            (b"./a//b/./c/\n", &["a/b/c"]),
            (b"b\na\nb\n./b\n", &["a", "b"]),
            (b"/src/root/x\n/src//root/./y/\n", &["x", "y"]),
            (b" a \r\n", &[" a \r"]),
            (b"a!b\na/b\na\nab\n", &["a", "a/b", "a!b", "ab"]),
            (b".a\n..a\n...\n", &["...", "..a", ".a"]),
            (b"", &[]),
        ] {
            let list = parse(text, b"/src/root/");
            assert_eq!(names(&list), expected, "{}", text.escape_ascii());
            assert!(list.outside().is_empty() && !list.lists_root());
            assert_eq!((list.len(), list.is_empty()), (expected.len(), expected.is_empty()));
        }
    }

    #[test]
    fn the_root_itself() {
        for text in [&b".\n"[..], b"./", b"/src", b"//src/.//"] {
            let list = parse(text, b"/src");
            assert!(list.lists_root() && list.is_empty(), "{}", text.escape_ascii());
        }
        let list = parse(b"/\n/etc/passwd\n", b"/");
        assert!(list.lists_root());
        assert_eq!(names(&list), ["etc/passwd"]);
    }

    #[test]
    fn what_leads_out_is_handed_back_as_written() {
        for text in [
            "..",
            "a/../b",
            "./a/..",
            "/src/..",
            "/srcs/a",
            "/sr",
            "/",
            "/other/src/a",
            "/src/./a//..",
        ] {
            let list = parse(text.as_bytes(), b"/src");
            assert_eq!(list.outside(), [text.as_bytes()]);
            assert!(list.is_empty() && !list.lists_root(), "{text}");
        }
        assert_eq!(
            parse(b"/src/a", b"src").outside(),
            [b"/src/a"],
            "a relative root has no absolute names"
        );
    }

    #[test]
    fn terminators() {
        let list = FileList::parse(b"a\nb\0c\0\0d".to_vec(), true, b"/").unwrap();
        assert_eq!(names(&list), ["a\nb", "c", "d"]);
        let refused = FileList::parse(b"a\nb\0c\0".to_vec(), false, b"/");
        assert_eq!(refused.unwrap_err(), FileListError::Nul { line: 2 });
    }

    #[test]
    fn levels() {
        let list = parse(b"d\nd/x/1\nd/y\nd!\ne/f/g\n\xff\n", b"/");
        let seen: Vec<_> = list.children(list.root()).collect();
        let shown: Vec<_> = seen
            .iter()
            .map(|child| (child.name, child.listed, child.below.is_empty()))
            .collect();
        assert_eq!(
            shown,
            [
                (&b"d"[..], true, false),
                (b"d!", true, true),
                (b"e", false, false),
                (b"\xff", true, true)
            ]
        );
        let below: Vec<_> = list
            .children(seen[0].below)
            .map(|child| (child.name, child.listed))
            .collect();
        assert_eq!(below, [(&b"x"[..], false), (b"y", true)]);
        assert_eq!(list.children(seen[1].below).count(), 0);
    }

    #[test]
    fn a_name_costs_sixteen_bytes() {
        assert_eq!(size_of::<Span>(), 16);
    }

    proptest! {
        #[test]
        fn as_the_reference(
            names in prop::collection::vec("(/|/r/s/|/r|)([ab.!/]|[.][.]/?){0,8}", 0..40),
            nul: bool,
        ) {
            let names: Vec<Vec<u8>> = names.into_iter().map(String::into_bytes).collect();
            let terminator = if nul { b"\0" } else { b"\n" };
            let list = FileList::parse(names.join(&terminator[..]), nul, b"/r/s").unwrap();
            let (expected, outside) = reference(&names, "/r/s");
            prop_assert_eq!(list.outside(), outside);
            prop_assert_eq!(tree(&list, list.root(), list.lists_root()), expected);
        }

        #[test]
        fn large_levels(counts in prop::collection::vec(0..70_usize, 1..8)) {
            // Groups of sizes around the powers of two, where the doubling search has its edges.
            let mut text = Vec::new();
            for (group, &count) in counts.iter().enumerate() {
                for entry in 0..count {
                    text.extend_from_slice(format!("{group}/{entry:03}\n").as_bytes());
                }
            }
            let list = parse(&text, b"/");
            let sizes: Vec<_> =
                list.children(list.root()).map(|child| list.children(child.below).count()).collect();
            let expected: Vec<_> = counts.into_iter().filter(|&count| count > 0).collect();
            prop_assert_eq!(sizes, expected);
        }
    }
}
