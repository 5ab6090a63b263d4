//! Shell patterns, read once and matched against many names.
//!
//! Comes in: a pattern in one of two grammars, then texts. Goes out: whether the whole text matches. Promises: a time of at
//! most text² × pattern, because only the last star of each kind is ever tried again.

/// The character of a byte that is not part of valid UTF-8: outside of Unicode, as in Python's surrogateescape.
const UNDECODED: u32 = 0xdc00;
const SLASH: u32 = b'/' as u32;

/// A checked pattern.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    tokens: Vec<Token>,
    /// Texts are read as characters of UTF-8, otherwise as bytes.
    characters: bool,
}

#[derive(Clone, Debug)]
enum Token {
    One(u32),
    OneOf(Set),
    /// Any number of characters but no slash.
    Star,
    /// Any number of characters.
    DeepStar,
}

/// A set of characters; without members and not negated it accepts none.
#[derive(Clone, Debug, Default)]
struct Set {
    negated: bool,
    /// false: a slash is never accepted.
    slash: bool,
    /// First and last characters of ranges.
    members: Vec<(u32, u32)>,
}

impl Token {
    fn accepts(&self, character: u32) -> bool {
        match self {
            Self::One(expected) => character == *expected,
            Self::OneOf(set) => {
                let holds = set
                    .members
                    .iter()
                    .any(|&(first, last)| (first..=last).contains(&character));
                holds != set.negated && (set.slash || character != SLASH)
            }
            Self::Star => character != SLASH,
            Self::DeepStar => true,
        }
    }
}

impl Pattern {
    /// A pattern as rsync's rules have it: `*`, `**`, `?`, `[…]` with `!` or `^`, ranges and POSIX classes, and backslash.
    /// Only `**` crosses a slash. A pattern that breaks off matches nothing.
    pub(crate) fn rsync(pattern: &[u8]) -> Self {
        let mut tokens = Vec::new();
        let mut rest = pattern;
        while let [first, after @ ..] = rest {
            rest = after;
            tokens.push(match first {
                b'\\' => match after {
                    [literal, after @ ..] => {
                        rest = after;
                        Token::One((*literal).into())
                    }
                    [] => Token::OneOf(Set::default()),
                },
                b'?' => Token::OneOf(Set {
                    negated: true,
                    ..Set::default()
                }),
                b'*' => {
                    let stars = after.iter().take_while(|&&byte| byte == b'*').count();
                    rest = &after[stars..];
                    if stars == 0 { Token::Star } else { Token::DeepStar }
                }
                b'[' => {
                    let (set, after) = rsync_set(after).unwrap_or_default();
                    rest = after;
                    Token::OneOf(set)
                }
                literal => Token::One((*literal).into()),
            });
        }
        Self {
            tokens,
            characters: false,
        }
    }

    /// A pattern as Python's `fnmatch` has it: `*`, `?` and `[…]` with `!`, all of which accept slashes, and no escapes.
    pub(crate) fn fnmatch(pattern: &[u8]) -> Self {
        let pattern: Vec<u32> = Characters(pattern).collect();
        let mut tokens = Vec::new();
        let mut at = 0;
        while at < pattern.len() {
            let character = pattern[at];
            at += 1;
            let set = if character == u32::from(b'[') {
                fnmatch_set(&pattern[at..])
            } else {
                None
            };
            if let Some((set, length)) = set {
                tokens.push(Token::OneOf(set));
                at += length;
            } else if character == u32::from(b'*') {
                tokens.push(Token::DeepStar);
            } else if character == u32::from(b'?') {
                tokens.push(Token::OneOf(Set {
                    negated: true,
                    slash: true,
                    members: Vec::new(),
                }));
            } else {
                tokens.push(Token::One(character));
            }
        }
        Self {
            tokens,
            characters: true,
        }
    }

    /// What follows `*/` at the start, where whether it matches depends only on a path's last component: one star at
    /// most, in front, and nothing else that accepts a slash.
    pub(crate) fn last_component(&self) -> Option<Self> {
        let [Token::DeepStar, Token::One(SLASH), rest @ ..] = &self.tokens[..] else {
            return None;
        };
        let fixed = if let [Token::DeepStar, fixed @ ..] = rest {
            fixed
        } else {
            rest
        };
        let within = !rest.is_empty() && !fixed.iter().any(|token| token.accepts(SLASH));
        within.then(|| Self {
            tokens: rest.to_vec(),
            characters: self.characters,
        })
    }

    /// Whether the pattern matches all of `text`.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        // Where to go on after a mismatch, for the last star of each kind: the token after it, and the text it has not
        // yet taken. An earlier star never helps: it has already led to the shortest way here.
        let mut star: Option<(&[Token], &[u8])> = None;
        let mut deep_star: Option<(&[Token], &[u8])> = None;
        let mut tokens = &self.tokens[..];
        let mut text = text;
        loop {
            match tokens {
                [Token::Star, after @ ..] => {
                    star = Some((after, text));
                    tokens = after;
                    continue;
                }
                [Token::DeepStar, after @ ..] => {
                    star = None;
                    deep_star = Some((after, text));
                    tokens = after;
                    continue;
                }
                [token, after @ ..] => match self.next(text) {
                    Some((character, rest)) if token.accepts(character) => {
                        tokens = after;
                        text = rest;
                        continue;
                    }
                    Some(_) => {}
                    // A star that takes more leaves even less.
                    None => return false,
                },
                [] if text.is_empty() => return true,
                [] => {}
            }
            if let Some((after, taken)) = star
                && let Some((character, rest)) = self.next(taken)
                && character != SLASH
            {
                star = Some((after, rest));
                (tokens, text) = (after, rest);
            } else if let Some((after, taken)) = deep_star
                && let Some((_, rest)) = self.next(taken)
            {
                star = None;
                deep_star = Some((after, rest));
                (tokens, text) = (after, rest);
            } else {
                return false;
            }
        }
    }

    fn next<'a>(&self, text: &'a [u8]) -> Option<(u32, &'a [u8])> {
        if self.characters {
            let mut characters = Characters(text);
            characters.next().map(|character| (character, characters.0))
        } else {
            text.split_first().map(|(&byte, rest)| (byte.into(), rest))
        }
    }
}

/// The characters of UTF-8 text; an undecodable byte is a character of its own.
struct Characters<'a>(&'a [u8]);

impl Iterator for Characters<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (&first, rest) = self.0.split_first()?;
        if first.is_ascii() {
            self.0 = rest;
            return Some(first.into());
        }
        // No character is longer than four bytes.
        let chunk = self.0[..self.0.len().min(4)].utf8_chunks().next()?;
        let (character, length) = match chunk.valid().chars().next() {
            Some(character) => (character.into(), character.len_utf8()),
            None => (UNDECODED + u32::from(first), 1),
        };
        self.0 = &self.0[length..];
        Some(character)
    }
}

/// The set after a `[` in rsync's grammar and what follows its `]`; `None` where it has no end or names no class.
fn rsync_set(pattern: &[u8]) -> Option<(Set, &[u8])> {
    let mut set = Set::default();
    let mut rest = pattern;
    if let [b'!' | b'^', after @ ..] = rest {
        set.negated = true;
        rest = after;
    }
    // The character that a dash would make a range from.
    let mut before: Option<u32> = None;
    let mut is_first = true;
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        if byte == b']' && !is_first {
            return Some((set, rest));
        }
        is_first = false;
        if let (b'-', Some(first), [next, ..]) = (byte, before, rest)
            && *next != b']'
        {
            let (last, after) = rsync_member(rest)?;
            rest = after;
            set.members.push((first, last));
            before = None;
            continue;
        }
        if let (b'[', [b':', class @ ..]) = (byte, rest) {
            let end = class.iter().position(|&byte| byte == b']')?;
            if let Some(name) = class[..end].strip_suffix(b":") {
                set.members.extend_from_slice(posix_class(name)?);
                rest = &class[end + 1..];
                before = None;
                continue;
            }
        }
        let member = if byte == b'\\' {
            let (&escaped, after) = rest.split_first()?;
            rest = after;
            escaped
        } else {
            byte
        };
        set.members.push((member.into(), member.into()));
        before = Some(member.into());
    }
}

/// One member of a set, perhaps escaped.
fn rsync_member(pattern: &[u8]) -> Option<(u32, &[u8])> {
    match pattern {
        [b'\\', escaped, rest @ ..] => Some(((*escaped).into(), rest)),
        [b'\\'] | [] => None,
        [member, rest @ ..] => Some(((*member).into(), rest)),
    }
}

/// The ranges of a POSIX class, in ASCII.
fn posix_class(name: &[u8]) -> Option<&'static [(u32, u32)]> {
    Some(match name {
        b"alnum" => &[(0x30, 0x39), (0x41, 0x5a), (0x61, 0x7a)],
        b"alpha" => &[(0x41, 0x5a), (0x61, 0x7a)],
        b"blank" => &[(0x09, 0x09), (0x20, 0x20)],
        b"cntrl" => &[(0x00, 0x1f), (0x7f, 0x7f)],
        b"digit" => &[(0x30, 0x39)],
        b"graph" => &[(0x21, 0x7e)],
        b"lower" => &[(0x61, 0x7a)],
        b"print" => &[(0x20, 0x7e)],
        b"punct" => &[(0x21, 0x2f), (0x3a, 0x40), (0x5b, 0x60), (0x7b, 0x7e)],
        b"space" => &[(0x09, 0x0d), (0x20, 0x20)],
        b"upper" => &[(0x41, 0x5a)],
        b"xdigit" => &[(0x30, 0x39), (0x41, 0x46), (0x61, 0x66)],
        _ => return None,
    })
}

/// The set after a `[` in fnmatch's grammar and how many characters it takes; `None` where the `[` is one itself because
/// no `]` follows.
fn fnmatch_set(pattern: &[u32]) -> Option<(Set, usize)> {
    let negated = pattern.first() == Some(&u32::from(b'!'));
    let start = usize::from(negated);
    // A `]` right at the start is a member.
    let end = start
        + 1
        + pattern
            .get(start + 1..)?
            .iter()
            .position(|&character| character == u32::from(b']'))?;
    let mut set = Set {
        negated,
        slash: true,
        members: Vec::new(),
    };
    let mut rest = &pattern[start..end];
    // Python drops a range that runs backwards before it looks for the negation: what follows at the start can be one.
    let written = rest.len();
    while let [first, dash, last, after @ ..] = rest
        && *dash == u32::from(b'-')
        && first > last
    {
        rest = after;
    }
    if let [first, after @ ..] = rest
        && !negated
        && rest.len() < written
        && *first == u32::from(b'!')
    {
        set.negated = true;
        rest = after;
    }
    while let [first, after @ ..] = rest {
        if let [dash, last, after @ ..] = after
            && *dash == u32::from(b'-')
        {
            set.members.push((*first, *last));
            rest = after;
        } else {
            set.members.push((*first, *first));
            rest = after;
        }
    }
    Some((set, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether the tokens match, by trying everything.
    fn slow(tokens: &[Token], text: &[u32]) -> bool {
        match (tokens, text) {
            ([], text) => text.is_empty(),
            ([token @ (Token::Star | Token::DeepStar), after @ ..], text) => {
                let reach = text.iter().take_while(|&&character| token.accepts(character)).count();
                (0..=reach).any(|taken| slow(after, &text[taken..]))
            }
            ([token, after @ ..], [first, rest @ ..]) => token.accepts(*first) && slow(after, rest),
            (_, []) => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn matching_as_by_trying_everything(
            pattern in r"([ab/?]|\*{1,3}|\[!a\]|\[a-\]|\\.|[*]a|é){0,9}",
            text in "([ab/]|é){0,12}",
        ) {
            for pattern in [Pattern::rsync(pattern.as_bytes()), Pattern::fnmatch(pattern.as_bytes())] {
                let units: Vec<u32> = if pattern.characters {
                    Characters(text.as_bytes()).collect()
                } else {
                    text.bytes().map(u32::from).collect()
                };
                prop_assert_eq!(pattern.matches(text.as_bytes()), slow(&pattern.tokens, &units));
            }
        }

        #[test]
        fn no_pattern_and_no_text_panics(pattern: Vec<u8>, set in r"\[[\[\]!^a:alph\\-]{0,12}", text: Vec<u8>) {
            for pattern in [&pattern, set.as_bytes()] {
                Pattern::rsync(pattern).matches(&text);
                Pattern::fnmatch(pattern).matches(&text);
            }
        }

        #[test]
        fn characters_are_those_of_utf8(text: Vec<u8>) {
            let decoded: Vec<u32> = Characters(&text).collect();
            let mut expected = Vec::new();
            for chunk in text.utf8_chunks() {
                expected.extend(chunk.valid().chars().map(u32::from));
                expected.extend(chunk.invalid().iter().map(|&byte| UNDECODED + u32::from(byte)));
            }
            prop_assert_eq!(decoded, expected);
        }
    }

    #[test]
    fn many_stars_do_not_explode() {
        // Trying everything would take longer than the universe has.
        let text = [b"a".repeat(4000), b"c".to_vec()].concat();
        for stars in ["*", "**"] {
            let pattern = [format!("a{stars}").repeat(60), "b".into()].concat();
            assert!(!Pattern::rsync(pattern.as_bytes()).matches(&text));
            assert!(!Pattern::fnmatch(pattern.as_bytes()).matches(&text));
        }
        let mixed = ["**a*a".repeat(20), "b".into()].concat();
        assert!(!Pattern::rsync(mixed.as_bytes()).matches(&text));
    }
}
