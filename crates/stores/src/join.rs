//! Two listings side by side.
//!
//! Comes in: both, in the order of the bytes of their keys; goes out: each key once, with what either side has under it. A
//! listing that ends in an error says so when what it told before has been taken.

use std::cmp::Ordering;

use bulkhaul_engine::Kind;
use bulkhaul_engine::error::Stopped;

use crate::objects::is_probe;
use crate::store::{Entry, Listing};

/// A listing with one entry in sight.
struct Side<'l> {
    listing: Box<dyn Listing + 'l>,
    next: Option<Entry>,
    begun: bool,
    /// What came instead of an entry, until it is said: a listing says it once.
    broken: Option<Stopped>,
}

impl<'l> Side<'l> {
    fn new(listing: Box<dyn Listing + 'l>) -> Self {
        Self {
            listing,
            next: None,
            begun: false,
            broken: None,
        }
    }

    /// Looks at the next one, if nobody has.
    fn look(&mut self) {
        if self.begun {
            return;
        }
        self.begun = true;
        loop {
            match self.listing.next() {
                // Another worker, or another run, may be asking right now.
                Ok(Some(entry)) if is_probe(&entry.key) => continue,
                Ok(next) => self.next = next,
                Err(stopped) => self.broken = Some(stopped),
            }
            return;
        }
    }

    fn take(&mut self) -> Option<Entry> {
        self.begun = false;
        self.next.take()
    }
}

/// Both sides.
pub struct Join<'l> {
    source: Side<'l>,
    /// None: it can't be listed, or not any more.
    destination: Option<Side<'l>>,
    directories: bool,
}

/// A key.
#[derive(Debug)]
pub struct Met {
    /// What the source has under it; none: only the destination has it.
    pub source: Option<Entry>,
    /// What the destination has; none also where that is not known.
    pub destination: Option<Entry>,
}

/// Why there is no next key for now.
#[derive(Debug)]
pub enum Broken {
    /// Nothing more is known of the source.
    Source(Stopped),
    /// Nothing more is known of the destination; the source goes on.
    Destination(Stopped),
}

impl<'l> Join<'l> {
    /// From their beginnings. `directories`: the destination has directories of its own, also where the source names only what
    /// is in them.
    pub fn new(source: Box<dyn Listing + 'l>, destination: Box<dyn Listing + 'l>, directories: bool) -> Self {
        Self {
            source: Side::new(source),
            destination: Some(Side::new(destination)),
            directories,
        }
    }

    /// Whether the destination is known as far as this.
    pub fn knows_destination(&self) -> bool {
        self.destination.is_some()
    }

    /// The next key of the source, when this one was taken.
    pub fn source_next(&mut self) -> Option<&Entry> {
        self.source.look();
        self.source.next.as_ref()
    }

    /// The next key; none when both sides have ended.
    pub fn next(&mut self) -> Result<Option<Met>, Broken> {
        self.source.look();
        if let Some(stopped) = self.source.broken.take() {
            return Err(Broken::Source(stopped));
        }
        if let Some(destination) = &mut self.destination {
            destination.look();
            if let Some(stopped) = destination.broken.take() {
                self.destination = None;
                return Err(Broken::Destination(stopped));
            }
        }
        let theirs = self.source.next.as_ref();
        let ours = self.destination.as_ref().and_then(|side| side.next.as_ref());
        let order = match (theirs, ours) {
            (None, None) => return Ok(None),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(theirs), Some(ours)) => theirs.key.cmp(&ours.key),
        };
        // What is below a directory makes it one of the source too.
        let implied = ours.is_some_and(|ours| {
            self.directories
                && ours.kind == Kind::Directory
                && theirs.is_some_and(|theirs| theirs.key.starts_with(&ours.key))
        });
        let mut ours = || self.destination.as_mut().and_then(Side::take);
        let (source, destination) = match order {
            Ordering::Less => (self.source.take(), None),
            Ordering::Equal => (self.source.take(), ours()),
            Ordering::Greater if implied => {
                ours();
                return self.next();
            }
            Ordering::Greater => (None, ours()),
        };
        Ok(Some(Met { source, destination }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhaul_engine::error::{Fault, Operation};
    use bulkhaul_sys::Time;

    struct Keys(Vec<&'static str>, bool);

    impl Listing for Keys {
        fn next(&mut self) -> Result<Option<Entry>, Stopped> {
            if self.0.is_empty() {
                let ends = Fault::changed(Operation::List);
                return if self.1 { Err(ends.into()) } else { Ok(None) };
            }
            let key = self.0.remove(0);
            Ok(Some(Entry {
                key: key.into(),
                kind: if key.ends_with('/') {
                    Kind::Directory
                } else {
                    Kind::File
                },
                size: 0,
                written: Time { sec: 0, nsec: 0 },
                tag: Vec::new(),
                facts: None,
                failed: false,
            }))
        }
    }

    fn told(mut join: Join<'_>) -> Vec<String> {
        let mut told = Vec::new();
        loop {
            // Whoever looks ahead takes nothing away, an error neither.
            join.source_next();
            let text = |entry: &Entry| String::from_utf8_lossy(&entry.key).into_owned();
            told.push(match join.next() {
                Ok(None) => return told,
                Ok(Some(Met { source, destination })) => match (source, destination) {
                    (Some(theirs), None) => text(&theirs),
                    (Some(theirs), Some(_)) => format!("={}", text(&theirs)),
                    (None, ours) => format!("-{}", ours.as_ref().map(text).unwrap_or_default()),
                },
                Err(Broken::Source(_)) => {
                    told.push("!".into());
                    return told;
                }
                Err(Broken::Destination(_)) => "?".into(),
            });
        }
    }

    #[test]
    fn each_key_comes_once() {
        let join = |theirs: &[&'static str], ours: &[&'static str], broken: (bool, bool)| {
            told(Join::new(
                Box::new(Keys(theirs.to_vec(), broken.0)),
                Box::new(Keys(ours.to_vec(), broken.1)),
                true,
            ))
        };
        let whole = (false, false);
        assert_eq!(
            join(&["a", "a!", "a/b", "c"], &["a", "a/b", "b"], whole),
            ["=a", "a!", "=a/b", "-b", "c"]
        );
        // A directory that something of the source is in is no extra one.
        assert_eq!(
            join(&["d/e/f"], &["d/", "d/e/", "d/g/", "h/"], whole),
            ["d/e/f", "-d/g/", "-h/"]
        );
        assert_eq!(join(&[], &["x"], whole), ["-x"]);
        assert_eq!(join(&["a", "b"], &["a"], (true, false)), ["=a", "b", "!"]);
        assert_eq!(join(&["a", "b"], &["a"], (false, true)), ["=a", "?", "b"]);
    }
}
