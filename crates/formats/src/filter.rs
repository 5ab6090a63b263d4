//! Exclude rules in two styles, decided one entry at a time.
//!
//! Comes in: rules as bytes, in order; then the parent path and the name of each entry. Goes out: whether the entry is
//! excluded. That nothing below an excluded directory is looked at is the walker's part, and that the transfer root itself
//! is not asked about, too. Promises: the decisions of rsync and of Python's fnmatch, which the tests compare, in a time
//! that no pattern can make exponential.

use crate::pattern::Pattern;

/// How rules are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As rsync's `--exclude`, against paths relative to the transfer root. A rule may start with `- ` or `+ ` (do not
    /// exclude); the first rule that matches decides; a rule `!` forgets those before it.
    Rsync,
    /// As Python's `fnmatch` (hpcp), against absolute paths: `?`, `*` and `[…]` match a slash too, characters are those of
    /// UTF-8, and every rule excludes.
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
pub struct Filter {
    rules: Vec<Rule>,
    absolute: bool,
}

#[derive(Clone, Debug)]
struct Rule {
    excludes: bool,
    directories_only: bool,
    subject: Subject,
    /// A directory's path ends with a slash when it is matched (rsync, patterns that end in `***`).
    directory_slash: bool,
    matcher: Matcher,
}

/// What a pattern is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Name,
    Path,
    /// The path and, where it does not match, what follows each of its slashes.
    AnyTail,
    /// This many last components of the path.
    Tail(usize),
    /// The path with a slash in front.
    SlashedPath,
}

#[derive(Clone, Debug)]
enum Matcher {
    Literal(Vec<u8>),
    Pattern(Pattern),
}

impl Matcher {
    fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Literal(literal) => text == literal,
            Self::Pattern(pattern) => pattern.matches(text),
        }
    }
}

impl Filter {
    /// Reads the rules in order. Empty rules mean nothing.
    pub fn parse(style: Style, rules: &[Vec<u8>]) -> Result<Self, FilterError> {
        let mut filter = Self {
            rules: Vec::new(),
            absolute: style == Style::Fnmatch,
        };
        for (index, text) in rules.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
            match style {
                Style::Fnmatch => filter.rules.push(Rule::fnmatch(text)),
                Style::Rsync if text == b"!" => filter.rules.clear(),
                Style::Rsync => {
                    let (sign, pattern) = match &text[..] {
                        [sign @ (b'-' | b'+'), b' ', pattern @ ..] => (*sign, pattern),
                        pattern => (b'-', pattern),
                    };
                    if pattern.is_empty() {
                        return Err(FilterError::EmptyPattern { number: index + 1 });
                    }
                    filter.rules.push(Rule::rsync(sign == b'-', pattern));
                }
            }
        }
        Ok(filter)
    }

    /// true: nothing is ever excluded.
    pub fn is_empty(&self) -> bool {
        !self.rules.iter().any(|rule| rule.excludes)
    }

    /// false: every rule is decided from the name alone, so [`Filter::excludes`] needs no `parent`.
    pub fn needs_parent(&self) -> bool {
        self.rules.iter().any(|rule| rule.subject != Subject::Name)
    }

    /// Whether the entry `name` of the directory `parent` is excluded. `parent` is relative to the transfer root without a
    /// leading slash (empty at the root) for [`Style::Rsync`], and absolute for [`Style::Fnmatch`]; it may be empty when
    /// [`Filter::needs_parent`] is false. A symlink is no directory, whatever it leads to.
    pub fn excludes(&self, parent: &[u8], name: &[u8], is_directory: bool) -> bool {
        // `/parent/name/`, made when a rule first asks for it: every subject but the name is a part of it.
        let mut slashed = Vec::new();
        for rule in &self.rules {
            if rule.directories_only && !is_directory {
                continue;
            }
            let matches = if rule.subject == Subject::Name {
                rule.matcher.matches(name)
            } else {
                if slashed.is_empty() {
                    slashed = join(parent, name);
                }
                let end = slashed.len() - usize::from(!(rule.directory_slash && is_directory));
                let start = usize::from(!self.absolute);
                rule.matches(&slashed[..end], start)
            };
            if matches {
                return rule.excludes;
            }
        }
        false
    }
}

/// `/parent/name/`, whether the parent is empty, relative, absolute or `/`.
fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    let parent = parent.strip_prefix(b"/").unwrap_or(parent);
    let mut path = Vec::with_capacity(parent.len() + name.len() + 3);
    for part in [parent, name] {
        path.push(b'/');
        path.extend_from_slice(part);
        if part.is_empty() {
            path.pop();
        }
    }
    path.push(b'/');
    path
}

impl Rule {
    fn rsync(excludes: bool, pattern: &[u8]) -> Self {
        let (directories_only, pattern) = match pattern {
            [pattern @ .., b'/'] if !pattern.is_empty() => (true, pattern),
            pattern => (false, pattern),
        };
        let wild = pattern.iter().any(|byte| b"*?[".contains(byte));
        let deep = pattern.windows(2).any(|pair| pair == b"**");
        let components = pattern.split(|&byte| byte == b'/').count();
        let (subject, pattern) = match pattern.strip_prefix(b"/") {
            Some(anchored) => (Subject::Path, anchored),
            None if components == 1 && !deep => (Subject::Name, pattern),
            None if !deep => (Subject::Tail(components), pattern),
            None if pattern.starts_with(b"**") => (Subject::SlashedPath, pattern),
            None => (Subject::AnyTail, pattern),
        };
        Self {
            excludes,
            directories_only,
            subject,
            directory_slash: pattern.ends_with(b"***"),
            matcher: if wild {
                Matcher::Pattern(Pattern::rsync(pattern))
            } else {
                Matcher::Literal(pattern.to_vec())
            },
        }
    }

    fn fnmatch(pattern: &[u8]) -> Self {
        let pattern = Pattern::fnmatch(pattern);
        let (subject, pattern) = match pattern.last_component() {
            Some(of_name) => (Subject::Name, of_name),
            None => (Subject::Path, pattern),
        };
        Self {
            excludes: true,
            directories_only: false,
            subject,
            directory_slash: false,
            matcher: Matcher::Pattern(pattern),
        }
    }

    /// Whether the path matches that begins at `start` of `slashed`.
    fn matches(&self, slashed: &[u8], start: usize) -> bool {
        let path = &slashed[start..];
        let separators = || {
            path.iter()
                .enumerate()
                .filter(|&(_, &byte)| byte == b'/')
                .map(|(at, _)| at)
        };
        match self.subject {
            Subject::Name | Subject::Path => self.matcher.matches(path),
            Subject::SlashedPath => self.matcher.matches(slashed),
            Subject::AnyTail => {
                self.matcher.matches(path) || separators().any(|at| self.matcher.matches(&path[at + 1..]))
            }
            Subject::Tail(components) => match (separators().count() + 1).checked_sub(components) {
                Some(0) => self.matcher.matches(path),
                Some(before) => separators()
                    .nth(before - 1)
                    .is_some_and(|at| self.matcher.matches(&path[at + 1..])),
                None => false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filter(style: Style, rules: &[&str]) -> Filter {
        let rules: Vec<_> = rules.iter().map(|rule| rule.as_bytes().to_vec()).collect();
        Filter::parse(style, &rules).unwrap()
    }

    /// A path, `true` for a directory, given with a trailing slash.
    fn excludes(filter: &Filter, path: &str) -> bool {
        let (path, is_directory) = path.strip_suffix('/').map_or((path, false), |path| (path, true));
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        filter.excludes(parent.as_bytes(), name.as_bytes(), is_directory)
    }

    #[test]
    fn rsync_rules() {
        for (rules, yes, no) in [
            (
                &["*.o"][..],
                &["a.o", "d/.o", "d/a.o/"][..],
                &["a.oo", "o", "a.o/x"][..],
            ),
            (&["a"], &["a", "d/a", "a/"], &["b", "a/b", "da"]),
            (&["/a"], &["a", "a/"], &["d/a"]),
            (&["a/"], &["a/", "d/a/"], &["a", "d/a"]),
            (&["d/a"], &["d/a", "x/d/a"], &["a", "dd/a", "d/a/b", "d/aa"]),
            (&["/d/a"], &["d/a"], &["x/d/a"]),
            (&["d/*"], &["d/a", "x/d/a"], &["d", "d/a/b", "a"]),
            (&["/*/a"], &["d/a"], &["a", "d/d/a"]),
            (&["d/**"], &["d/a", "d/a/b", "x/d/a"], &["d", "d/", "dd/a"]),
            (&["d/***"], &["d/", "d/a", "x/d/"], &["d", "dd/"]),
            (&["**/a"], &["a", "d/a", "d/d/a"], &["d/aa", "a/b"]),
            (&["/d/**/a"], &["d/x/a", "d/x/y/a"], &["d/a", "x/d/y/a"]),
            (&["a**"], &["a", "ab", "d/ab", "ab/c"], &["ba"]),
            (&["[a-c]?"], &["ax", "d/cy"], &["a", "dx", "axy"]),
            (&["[^a-c]"], &["d", "é/x"], &["a", "dd"]),
            (&["[[:digit:]]*"], &["1", "9a"], &["a1"]),
            (&[r"a\b"], &[r"a\b"], &["ab"]),
            (&[r"a\b*"], &["abc"], &[r"a\bc"]),
            (&[r"\[a]*"], &["[a]x"], &["ax"]),
            (&["[a"], &[], &["[a", "a"]),
            (&["+ a", "*"], &["b", "d/b"], &["a", "d/a"]),
            (&["a", "+ a"], &["a"], &["b"]),
            (&["- - a"], &["- a"], &["a"]),
            (&["a", "!", "b"], &["b"], &["a"]),
            (&["!a"], &["!a"], &["a"]),
            (&["", "a"], &["a"], &["b"]),
        ] {
            let filter = filter(Style::Rsync, rules);
            for path in yes {
                assert!(excludes(&filter, path), "{rules:?} excludes {path}");
            }
            for path in no {
                assert!(!excludes(&filter, path), "{rules:?} keeps {path}");
            }
        }
    }

    #[test]
    fn fnmatch_rules() {
        for (rules, yes, no) in [
            (
                &["*/logs"][..],
                &["/logs", "/a/logs", "/a/b/logs/"][..],
                &["/a/logs/x", "/a/xlogs"][..],
            ),
            (&["*/*.log"], &["/a.log", "/a/.log"], &["/a/b.logs"]),
            (&["*/logs/*"], &["/logs/a", "/a/logs/b/c"], &["/a/logs", "/logs/"]),
            (&["*/logs/"], &[], &["/logs", "/logs/", "/a/logs/"]),
            (&["*/a?b"], &["/a/b", "/x/axb", "/aéb"], &["/ab"]),
            (&["/data/*.tmp"], &["/data/a.tmp", "/data/b/c.tmp"], &["/other/a.tmp"]),
            (&["*/[!a]"], &["/b", "/x/é"], &["/a", "/bb"]),
            (&["*/[a"], &["/[a", "/x/[a"], &["/a"]),
            (&[r"*/a\*"], &[r"/a\b"], &["/a*"]),
            (&["*/a", "*/b"], &["/a", "/b"], &["/c"]),
        ] {
            let filter = filter(Style::Fnmatch, rules);
            for path in yes {
                assert!(excludes(&filter, path), "{rules:?} excludes {path}");
            }
            for path in no {
                assert!(!excludes(&filter, path), "{rules:?} keeps {path}");
            }
        }
        assert!(filter(Style::Fnmatch, &["/a"]).excludes(b"/", b"a", false));
    }

    #[test]
    fn the_parent_is_asked_for_only_where_it_matters() {
        for (style, rule, needed) in [
            (Style::Rsync, "a", false),
            (Style::Rsync, "*.o", false),
            (Style::Rsync, "a/", false),
            (Style::Rsync, "+ a", false),
            (Style::Rsync, "/a", true),
            (Style::Rsync, "a/b", true),
            (Style::Rsync, "a**", true),
            (Style::Fnmatch, "*/a", false),
            (Style::Fnmatch, "*/*.o", false),
            (Style::Fnmatch, "*/[ab]", false),
            (Style::Fnmatch, "*/a*", true),
            (Style::Fnmatch, "*/a?", true),
            (Style::Fnmatch, "*/[!a]", true),
            (Style::Fnmatch, "*/a/b", true),
            (Style::Fnmatch, "/a", true),
            (Style::Fnmatch, "*/", true),
        ] {
            assert_eq!(filter(style, &[rule]).needs_parent(), needed, "{style:?} {rule}");
        }
    }

    #[test]
    fn nothing_to_exclude() {
        for (rules, empty) in [
            (&[][..], true),
            (&["+ a"], true),
            (&["a", "!"], true),
            (&[""], true),
            (&["a"], false),
        ] {
            assert_eq!(filter(Style::Rsync, rules).is_empty(), empty, "{rules:?}");
        }
    }

    #[test]
    fn a_prefix_alone_is_refused() {
        for rule in ["- ", "+ "] {
            let parsed = Filter::parse(Style::Rsync, &[b"a".to_vec(), rule.into()]);
            assert_eq!(parsed.unwrap_err(), FilterError::EmptyPattern { number: 2 });
        }
    }

    proptest! {
        /// Deciding from the name alone is a shortcut, not another rule.
        #[test]
        fn names_decide_as_whole_paths_do(rest in r"([ab*?\[\]!]){0,5}", path in "(/[ab]{1,3}){1,4}") {
            let short = filter(Style::Fnmatch, &[&format!("*/{rest}")]);
            let whole = Pattern::fnmatch(format!("*/{rest}").as_bytes()).matches(path.as_bytes());
            prop_assert_eq!(excludes(&short, &path), whole);
        }
    }
}
