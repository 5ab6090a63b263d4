//! The state file: what both sides were when they were the same.
//!
//! Comes in: entries that are done with; goes out: what is remembered of each key, in the order of keys. A line is added for
//! each entry as it is done, and at the end the file is written anew, whole or not at all; a line that breaks off is none.
//! It belongs to two places: for others it is refused. Lines are `KEY TAB SIZE TAB STAMP TAB SIZE TAB STAMP`, of the source
//! and of the destination, with keys and stamps percent-encoded; a key alone is forgotten. Memory does not grow with it.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bulkhaul_engine::Errno;
use bulkhaul_engine::bytes::output::Output;
use bulkhaul_engine::error::Refusal;
use bulkhaul_engine::job::desk::Desk;
use bulkhaul_engine::records::sort::{SORT_BYTES, Sorted, Sorters};
use bulkhaul_engine::tree::path::show;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode, percent_encode};

use crate::store::Entry;

const HEAD: &str = "bulkhaul sync state 1";

/// What both sides were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    source: (u64, Vec<u8>),
    destination: (u64, Vec<u8>),
}

/// What changes whenever an entry does: the tag of an object, the last change of a file. None where nothing tells.
fn stamp(entry: &Entry) -> Option<Vec<u8>> {
    if !entry.tag.is_empty() {
        return Some([b"e", &entry.tag[..]].concat());
    }
    let time = entry.written;
    let own = entry.facts.as_ref()?.mtime == Some(time);
    own.then(|| format!("t{}.{:09}", time.sec, time.nsec).into_bytes())
}

impl Remembered {
    /// Of two entries that are the same now; none where a store tells nothing that would change.
    pub fn of(source: &Entry, destination: &Entry) -> Option<Self> {
        Some(Self {
            source: (source.size, stamp(source)?),
            destination: (destination.size, stamp(destination)?),
        })
    }

    /// Whether neither has changed since.
    pub fn is_of(&self, source: &Entry, destination: &Entry) -> bool {
        Self::of(source, destination).as_ref() == Some(self)
    }
}

fn encoded(bytes: &[u8]) -> String {
    percent_encode(bytes, NON_ALPHANUMERIC).to_string()
}

fn decoded(text: &str) -> Vec<u8> {
    percent_decode(text.as_bytes()).collect()
}

fn line(key: &[u8], remembered: Option<&Remembered>) -> String {
    let mut line = encoded(key);
    if let Some(Remembered { source, destination }) = remembered {
        for (size, stamp) in [source, destination] {
            line.extend(["\t", &size.to_string(), "\t", &encoded(stamp)]);
        }
    }
    line.push('\n');
    line
}

/// A key, and what is remembered of it.
type Line = (Vec<u8>, Option<Remembered>);

fn parse(line: &str) -> Option<Line> {
    let parts: Vec<&str> = line.split('\t').collect();
    match parts[..] {
        [key] => Some((decoded(key), None)),
        [key, size, stamp, other_size, other_stamp] => Some((
            decoded(key),
            Some(Remembered {
                source: (size.parse().ok()?, decoded(stamp)),
                destination: (other_size.parse().ok()?, decoded(other_stamp)),
            }),
        )),
        _ => None,
    }
}

/// A state file.
pub struct State {
    path: Vec<u8>,
    head: String,
    spill_directory: Option<Vec<u8>>,
    /// Where lines are added.
    added: Option<Mutex<File>>,
}

/// What is remembered, in the order of keys.
pub struct Known {
    sorted: Sorted,
    sorters: Sorters,
    next: Option<Line>,
}

impl State {
    /// Reads a file, if it is there, and opens it for more (`adds`). Refuses one of two other places, or of something else.
    pub fn open(
        path: &[u8],
        places: [&[u8]; 2],
        spill_directory: Option<&[u8]>,
        adds: bool,
    ) -> Result<(Self, Known), Refusal> {
        let head = format!("{HEAD}\t{}\t{}", encoded(places[0]), encoded(places[1]));
        let mut state = Self {
            path: path.to_vec(),
            head,
            spill_directory: spill_directory.map(<[u8]>::to_vec),
            added: None,
        };
        let known = state.known()?;
        if adds {
            let cannot = |error: std::io::Error| Refusal::NoStart(format!("{}: {error}", show(path)));
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .open(state.file())
                .map_err(cannot)?;
            let mut file = file;
            if file.metadata().map_err(cannot)?.len() == 0 {
                file.write_all(format!("{}\n", state.head).as_bytes()).map_err(cannot)?;
            } else if !known.1 {
                // The line that broke off ends here.
                file.write_all(b"\n").map_err(cannot)?;
            }
            state.added = Some(Mutex::new(file));
        }
        Ok((state, known.0))
    }

    fn file(&self) -> &Path {
        Path::new(std::ffi::OsStr::from_bytes(&self.path))
    }

    /// What is remembered, and whether the last line is whole.
    fn known(&self) -> Result<(Known, bool), Refusal> {
        let sorters = Sorters::new(self.spill_directory.as_deref(), SORT_BYTES / 4, 1);
        let mut sorter = sorters.sorter();
        let refuse = |text: String| Refusal::Usage(format!("{}: {text}", show(&self.path)));
        let mut whole = true;
        match File::open(self.file()) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(refuse(error.to_string())),
            Ok(file) => {
                let (mut reader, mut text, mut number) = (BufReader::new(file), Vec::new(), 0_u64);
                loop {
                    text.clear();
                    let got = reader
                        .read_until(b'\n', &mut text)
                        .map_err(|error| refuse(error.to_string()))?;
                    let line = str::from_utf8(&text).ok().and_then(|line| line.strip_suffix('\n'));
                    whole = got == 0 || text.ends_with(b"\n");
                    match (number, line) {
                        (0, _) if got == 0 => break,
                        (0, Some(line)) if line == self.head => {}
                        (0, Some(line)) if line.starts_with(HEAD) => {
                            return Err(refuse("this is the state of a sync between other places".into()));
                        }
                        (0, _) => return Err(refuse("this is no state file of a sync".into())),
                        _ if got == 0 => break,
                        (_, Some(line)) => {
                            // What broke off once is followed by more: it tells nothing.
                            if let Some((key, _)) = parse(line) {
                                let payload = [&number.to_be_bytes()[..], line.as_bytes()].concat();
                                sorter.push(&key, &payload).map_err(|errno| sorters.refusal(errno))?;
                            }
                        }
                        (_, None) => {}
                    }
                    number += 1;
                }
            }
        }
        let all = Sorted::merge(vec![sorter]).map_err(|errno| sorters.refusal(errno))?;
        let mut known = Known {
            sorted: all,
            sorters,
            next: None,
        };
        known.advance()?;
        Ok((known, whole))
    }

    /// Writes down what became of a key: what both sides are, or that nothing is known.
    pub fn add(&self, key: &[u8], remembered: Option<&Remembered>) -> Result<(), Refusal> {
        let Some(added) = &self.added else { return Ok(()) };
        let mut file = added.lock().unwrap_or_else(PoisonError::into_inner);
        let written = file.write_all(line(key, remembered).as_bytes());
        written.map_err(|error| Refusal::Output(format!("{}: {error}", show(&self.path))))
    }

    /// Writes the file anew, with one line a key.
    pub fn close(&self, desk: &Arc<Desk>) -> Result<(), Refusal> {
        if self.added.is_none() {
            return Ok(());
        }
        let (mut known, _) = self.known()?;
        let mut output = Output::create(&self.path, desk)?;
        output.write(format!("{}\n", self.head).as_bytes())?;
        while let Some((key, remembered)) = known.take()? {
            if remembered.is_some() {
                output.write(line(&key, remembered.as_ref()).as_bytes())?;
            }
        }
        output.finish().map(drop)
    }
}

impl Known {
    fn advance(&mut self) -> Result<(), Refusal> {
        let broken = |errno| self.sorters.refusal(errno);
        self.next = match self.sorted.next().map_err(broken)? {
            None => None,
            Some((_, payload)) => {
                let line = payload.get(8..).and_then(|line| str::from_utf8(line).ok());
                Some(line.and_then(parse).ok_or_else(|| self.sorters.refusal(Errno::IO))?)
            }
        };
        Ok(())
    }

    /// The next key, with what was said of it last.
    fn take(&mut self) -> Result<Option<Line>, Refusal> {
        let Some(mut last) = self.next.take() else {
            return Ok(None);
        };
        loop {
            self.advance()?;
            match &mut self.next {
                Some(next) if next.0 == last.0 => last = std::mem::take(next),
                _ => return Ok(Some(last)),
            }
        }
    }

    /// What is remembered of a key; keys are asked for in their order.
    pub fn of(&mut self, key: &[u8]) -> Result<Option<Remembered>, Refusal> {
        while self.next.as_ref().is_some_and(|(next, _)| &next[..] < key) {
            self.take()?;
        }
        if self.next.as_ref().is_none_or(|(next, _)| next != key) {
            return Ok(None);
        }
        Ok(self.take()?.and_then(|(_, remembered)| remembered))
    }
}
