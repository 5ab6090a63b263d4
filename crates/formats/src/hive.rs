//! Partitions in paths, as Hive writes them: `KEY=VALUE` between slashes.
//!
//! Comes in: a path; goes out: its keys and values, conditions on them (`year=2023,month>=06`), and the order of values, in
//! which 9 comes before 10. Only directories are partitions: the last name of a path is a file's, also where it has a `=`,
//! and dots mean nothing. What `%` and two hexadecimal digits stand for in a value is decoded, as Hive encodes it.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::lists::natural::append_key;

/// The value that Hive gives what has none.
pub const NO_VALUE: &[u8] = b"__HIVE_DEFAULT_PARTITION__";

/// One directory of a path that is a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition<'p> {
    /// What stands before the first `=`.
    pub key: &'p [u8],
    /// What stands after it, decoded.
    pub value: Cow<'p, [u8]>,
    /// Where its name begins in the path.
    pub start: usize,
    /// Where the path of this directory ends, its slash included.
    pub end: usize,
}

/// The partitions of a path from the outside in. That of a directory ends with a slash.
pub fn partitions(path: &[u8]) -> impl Iterator<Item = Partition<'_>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let length = path[start..].iter().position(|byte| *byte == b'/')?;
        let name = &path[start..start + length];
        start += length + 1;
        Some((name, start))
    })
    .filter_map(|(name, end)| {
        let at = name.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
        Some(Partition {
            start: end - name.len() - 1,
            key: &name[..at],
            value: decoded(&name[at + 1..]),
            end,
        })
    })
}

fn decoded(value: &[u8]) -> Cow<'_, [u8]> {
    if !value.contains(&b'%') {
        return Cow::Borrowed(value);
    }
    let digit = |at: usize| value.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (mut out, mut at) = (Vec::with_capacity(value.len()), 0);
    while at < value.len() {
        match (value[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'%'));
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(out)
}

/// The order of two values: whole numbers by what they are (6 and 06 are one), before all else; other texts in natural order,
/// so that dates (2026-01-31) and versions (v9, v10) are in theirs.
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => natural_key(a).cmp(&natural_key(b)).then_with(|| a.cmp(b)),
    }
}

fn whole(value: &[u8]) -> Option<i128> {
    str::from_utf8(value).ok()?.parse().ok()
}

fn natural_key(value: &[u8]) -> Vec<u8> {
    let mut key = Vec::new();
    append_key(value, &mut key);
    key
}

/// What a value has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    key: Vec<u8>,
    /// Whether a value that is less, equal or greater will do.
    takes: [bool; 3],
    value: Vec<u8>,
}

/// Conditions that hold together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions(Vec<Condition>);

/// Signs, and whether a value that is less, equal or greater than what follows will do. Those of two letters come first.
const SIGNS: [(&str, [bool; 3]); 6] = [
    ("!=", [true, false, true]),
    ("<=", [true, true, false]),
    (">=", [false, true, true]),
    ("=", [false, true, false]),
    ("<", [true, false, false]),
    (">", [false, false, true]),
];

impl Conditions {
    /// Reads `KEY SIGN VALUE`, several with commas between; signs are `= != < <= > >=`. The error names what is none.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let shown = || String::from_utf8_lossy(text);
        let conditions = text.split(|byte| *byte == b',').map(|part| {
            let part = part.trim_ascii();
            let at = part.iter().position(|byte| b"=!<>".contains(byte));
            let (key, rest) = part.split_at(at.unwrap_or(part.len()));
            let sign = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign.as_bytes()));
            match sign {
                // Who writes == means another language, not a value that begins so.
                Some((sign, _)) if rest[sign.len()..].starts_with(b"=") => {
                    Err(format!("{}: write = for equal", shown()))
                }
                Some((sign, takes)) if !key.trim_ascii().is_empty() => Ok(Condition {
                    key: key.trim_ascii().to_vec(),
                    takes: *takes,
                    value: rest[sign.len()..].trim_ascii().to_vec(),
                }),
                _ => Err(format!(
                    "{}: write KEY=VALUE, with = != < <= > or >=, and commas between",
                    shown()
                )),
            }
        });
        conditions.collect::<Result<_, _>>().map(Self)
    }

    /// Whether a path lies in partitions for which all of them hold. Where a key comes twice, the inner one counts.
    pub fn hold(&self, path: &[u8]) -> bool {
        self.0.iter().all(|condition| {
            let found = partitions(path)
                .filter(|partition| partition.key == condition.key)
                .last();
            found.is_some_and(|partition| {
                let order = compare(&partition.value, &condition.value);
                let [less, equal, greater] = condition.takes;
                match order {
                    Ordering::Less => less,
                    Ordering::Equal => equal,
                    Ordering::Greater => greater,
                }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(path: &str) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        partitions(path.as_bytes())
            .map(|partition| (text(partition.key), text(&partition.value)))
            .collect()
    }

    #[test]
    fn paths_have_partitions() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<_> {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        for (path, expected) in [
            (
                "data/year=2023/month=01/f.parquet",
                &[("year", "2023"), ("month", "01")][..],
            ),
            ("data/v1.2/year=2023/x", &[("year", "2023")]),
            ("a=b=c/x", &[("a", "b=c")]),
            ("when=2023-01-01%2010%3A00/x", &[("when", "2023-01-01 10:00")]),
            ("year=2023/", &[("year", "2023")]),
            ("year=2023", &[]),
            ("x=1/k=v.csv", &[("x", "1")]),
            ("=a/b=/x%/y", &[("b", "")]),
        ] {
            assert_eq!(told(path), pairs(expected), "{path}");
        }
        let ends: Vec<usize> = partitions(b"d/a=1/e/b=2/f").map(|partition| partition.end).collect();
        assert_eq!(ends, [6, 12]);
    }

    #[test]
    fn values_have_an_order() {
        for list in [
            &["-2", "-1", "9", "10", "latest"][..],
            &["2025-12-31", "2026-01-31", "2026-02-01"],
            &["a", "a9", "a10", "b"],
            &["", "x"],
        ] {
            for (index, value) in list.iter().enumerate() {
                for (other, next) in list.iter().enumerate() {
                    let order = compare(value.as_bytes(), next.as_bytes());
                    assert_eq!(order, index.cmp(&other), "{value} {next}");
                }
            }
        }
        assert_eq!(compare(b"06", b"6"), Ordering::Equal);
    }

    #[test]
    fn conditions_hold_or_not() {
        let holds = |text: &str, path: &str| Conditions::parse(text.as_bytes()).unwrap().hold(path.as_bytes());
        let path = "d/year=2023/month=06/f";
        for (text, expected) in [
            ("year=2023,month>=06", true),
            ("year=2023, month > 6", false),
            ("month=6", true),
            ("month<10", true),
            ("month!=7", true),
            ("year<=2022", false),
            ("day=1", false),
            ("day!=1", false),
        ] {
            assert_eq!(holds(text, path), expected, "{text}");
        }
        for text in ["a==1", "", "year", "=1", "year=1,", "year~1"] {
            assert!(Conditions::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_order_is_one(a in "[-0-9a]{0,4}", b in "[-0-9a]{0,4}", c in "[-0-9a]{0,4}") {
            let of = |a: &str, b: &str| compare(a.as_bytes(), b.as_bytes());
            prop_assert_eq!(of(&a, &b), of(&b, &a).reverse());
            if of(&a, &b) != Ordering::Greater && of(&b, &c) != Ordering::Greater {
                prop_assert!(of(&a, &c) != Ordering::Greater);
            }
        }
    }
}
