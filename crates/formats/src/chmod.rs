//! Mode changes in rsync's `--chmod` syntax.
//!
//! Comes in: comma-separated text such as `D755,F644` or `u=rwX,go-w`; then the mode of each entry. Goes out: the mode to
//! set. Promises: the results of rsync 3.5, which the tests compare, and bits outside 07777 untouched.
//!
//! A change is an optional `D` (directories only) or `F` (everything else only), then octal digits, or any of `ugoa`, one
//! of `+-=`, and either any of `rwxXst` or one of `ugo` to copy that class.

const USER: u32 = 0o100;
const GROUP: u32 = 0o010;
const OTHER: u32 = 0o001;
const EVERYONE: u32 = USER | GROUP | OTHER;
const SET_USER: u32 = 0o4000;
const SET_GROUP: u32 = 0o2000;
const STICKY: u32 = 0o1000;
const ALL_BITS: u32 = 0o7777;

/// Text that is not a mode change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a mode change: expected changes such as D755, F644 or u=rwX,go-w")]
pub struct ChmodError {
    text: String,
}

/// A checked list of mode changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chmod {
    changes: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    /// `Some(true)`: directories only; `Some(false)`: everything else only.
    directories: Option<bool>,
    /// Bits that are cleared first.
    clear: u32,
    operator: Operator,
    bits: Bits,
    /// The bits that the operator may touch: all, or without the umask where no class was named.
    within: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Set,
    Remove,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Bits {
    Fixed(u32),
    /// `X`: the execute bits among these only on a directory, or where the entry came with one.
    Conditional(u32),
    /// The permissions of the class at this bit position, for these classes.
    Copy {
        shift: u32,
        classes: u32,
    },
}

impl Chmod {
    /// Reads the changes. `umask` is what a change without any of `ugoa` leaves alone, as in chmod; with 0 it means `a`.
    pub fn parse(text: &str, umask: u32) -> Result<Self, ChmodError> {
        let changes = text.split(',').map(|part| Change::parse(part, umask));
        match changes.collect() {
            Some(changes) => Ok(Self { changes }),
            None => Err(ChmodError { text: text.into() }),
        }
    }

    /// The mode after the changes, in order. Bits outside 07777 (the file type) pass through.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let execute = is_directory || mode & EVERYONE != 0;
        self.changes
            .iter()
            .filter(|change| change.directories.is_none_or(|only| only == is_directory))
            .fold(mode, |mode, change| {
                let bits = change.within
                    & match change.bits {
                        Bits::Fixed(bits) => bits,
                        Bits::Conditional(bits) if execute => bits,
                        Bits::Conditional(bits) => bits & !EVERYONE,
                        Bits::Copy { shift, classes } => (mode >> shift & 7) * classes,
                    };
                match change.operator {
                    Operator::Set => mode & !change.clear | bits,
                    Operator::Remove => mode & !bits,
                }
            })
    }
}

impl Change {
    fn parse(text: &str, umask: u32) -> Option<Self> {
        let (directories, text) = match text.strip_prefix('D') {
            Some(rest) => (Some(true), rest),
            None => match text.strip_prefix('F') {
                Some(rest) => (Some(false), rest),
                None => (None, text),
            },
        };
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let mode = text.bytes().try_fold(0, |mode, digit| {
                let mode = mode * 8 + char::from(digit).to_digit(8)?;
                (mode <= ALL_BITS).then_some(mode)
            })?;
            return Some(Self {
                directories,
                clear: ALL_BITS,
                operator: Operator::Set,
                bits: Bits::Fixed(mode),
                within: ALL_BITS,
            });
        }
        let at = text.find(['+', '-', '='])?;
        let (classes, named) = Self::classes(&text[..at])?;
        let within = if named { ALL_BITS } else { ALL_BITS & !umask };
        let operator = text.as_bytes()[at];
        let (bits, special) = Self::bits(&text[at + 1..], &text[..at], classes, operator)?;
        Some(Self {
            directories,
            clear: if operator == b'=' { (classes * 7) | special } else { 0 },
            operator: if operator == b'-' {
                Operator::Remove
            } else {
                Operator::Set
            },
            bits,
            within,
        })
    }

    /// The classes as execute bits, and whether any was named.
    fn classes(text: &str) -> Option<(u32, bool)> {
        let classes = text.chars().try_fold(0, |classes, class| {
            Some(
                classes
                    | match class {
                        'u' => USER,
                        'g' => GROUP,
                        'o' => OTHER,
                        'a' => EVERYONE,
                        _ => return None,
                    },
            )
        })?;
        Some(if classes == 0 {
            (EVERYONE, false)
        } else {
            (classes, true)
        })
    }

    /// The bits that the letters after the operator stand for, and the special bits that `=` clears on top of the
    /// classes' permissions: those of the named classes, where the letters speak of special bits or copy a class.
    fn bits(letters: &str, named: &str, classes: u32, operator: u8) -> Option<(Bits, u32)> {
        let of_class = |class: char, bit: u32| if named.contains([class, 'a']) { bit } else { 0 };
        let set_id = of_class('u', SET_USER) | of_class('g', SET_GROUP);
        if let Some(shift) = match letters {
            "u" => Some(6),
            "g" => Some(3),
            "o" => Some(0),
            _ => None,
        } {
            let special = if named.is_empty() {
                ALL_BITS & !0o777
            } else {
                set_id | of_class('o', STICKY)
            };
            return Some((Bits::Copy { shift, classes }, special));
        }
        let (mut permissions, mut special, mut conditional) = (0, 0, false);
        for letter in letters.chars() {
            match letter {
                'r' => permissions |= 4,
                'w' => permissions |= 2,
                'x' => permissions |= 1,
                'X' => {
                    permissions |= 1;
                    conditional = operator != b'-';
                }
                's' => special |= if set_id == 0 { SET_USER } else { set_id },
                't' => special |= STICKY,
                _ => return None,
            }
        }
        let cleared = if special == 0 { 0 } else { set_id };
        let bits = (classes * permissions) | special;
        Some((
            if conditional {
                Bits::Conditional(bits)
            } else {
                Bits::Fixed(bits)
            },
            cleared,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_kind_is_changed() {
        let chmod = Chmod::parse("D755,F644", 0).unwrap();
        assert_eq!(chmod.apply(0o040_700, true), 0o040_755);
        assert_eq!(chmod.apply(0o100_777, false), 0o100_644);
    }

    #[test]
    fn no_class_means_all_but_the_umask() {
        for (text, umask, before, after) in [
            ("+w", 0o022, 0o444, 0o644),
            ("+w", 0, 0o444, 0o666),
            ("=rw", 0o027, 0o777, 0o640),
            ("-rwx", 0o022, 0o777, 0o022),
            ("a+w", 0o022, 0o444, 0o666),
            ("=u", 0o022, 0o6777, 0o755),
        ] {
            let chmod = Chmod::parse(text, umask).unwrap();
            assert_eq!(
                chmod.apply(before, false),
                after,
                "{text} umask {umask:03o} on {before:03o}"
            );
        }
    }

    #[test]
    fn changes_come_in_order_and_x_looks_at_the_first_mode() {
        for (text, before, directory, after) in [
            ("u=rwX,go-w", 0o666, false, 0o644),
            ("u=rwX,go-w", 0o666, true, 0o744),
            ("a-x,a+X", 0o755, false, 0o755),
            ("a-x,a+X", 0o644, false, 0o644),
            ("a-X", 0o755, false, 0o644),
            ("u=g,g=o", 0o752, false, 0o522),
            ("644,u+x", 0o7777, false, 0o744),
        ] {
            let chmod = Chmod::parse(text, 0).unwrap();
            assert_eq!(chmod.apply(before, directory), after, "{text} on {before:03o}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            ",",
            "a+r,",
            ",a+r",
            "u",
            "u+rw-x",
            "88",
            "08",
            "17777",
            "99999999999999999999",
            "D",
            "DF644",
            "FD+x",
            "rwx",
            "u755",
            "+-x",
            " a+x",
            "a+x ",
            "u=a",
            "u=gr",
            "u=go",
            "d755",
            "a,b",
            "u+é",
        ] {
            assert!(Chmod::parse(text, 0).is_err(), "{text:?}");
        }
    }
}
