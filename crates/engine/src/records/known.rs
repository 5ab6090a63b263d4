//! An older manifest, in which paths are looked up.
//!
//! Comes in: a manifest of the form jsonl, which is sorted by the bytes of the paths; goes out: what it says of a path. It is
//! read once to see that it is whole and in order, and then searched where it lies: it takes no memory, however long it is.

use bulkhaul_formats::manifest::{Entry, Format, Kind, LINE_BYTES, Listed, Reader, recognise};

use crate::error::Refusal;
use crate::job::desk::Cancel;
use crate::records::listfile::ListFile;
use crate::records::sort::Sorters;

/// Bytes that are read to have a line; more where it is longer.
const LOOK_BYTES: usize = 1024;

/// An older manifest.
pub struct Known {
    list: ListFile,
    bytes: u64,
    /// Regular files in it.
    pub files: u64,
}

impl Known {
    /// Reads it to its end. `None`: the run is to stop. Refuses what has no times, is damaged, or is not in order.
    pub fn open(path: &[u8], sorters: &Sorters, cancel: &Cancel) -> Result<Option<Self>, Refusal> {
        let Some(list) = ListFile::open(path, sorters, cancel)? else {
            return Ok(None);
        };
        let (mut bytes, mut files, mut reader) = (0, 0, None::<Reader>);
        let mut before: Option<Vec<u8>> = None;
        list.pieces(|piece| {
            if reader.is_none() {
                let format = recognise(path, piece).map(|recognised| recognised.format);
                if format != Some(Format::Json) {
                    return Err(list.refusal("it is no manifest of the form jsonl: others have no times to go by"));
                }
            }
            let reader = reader.get_or_insert_with(|| Reader::new(Format::Json, None));
            bytes += piece.len() as u64;
            for listed in reader.read(piece) {
                let Listed { line, entry } = listed.map_err(|error| list.refusal(&error.to_string()))?;
                if before.as_ref().is_some_and(|before| *before >= entry.path) {
                    return Err(list.refusal(&format!("line {line}: the paths are not in order")));
                }
                files += u64::from(matches!(entry.kind, None | Some(Kind::File)));
                before = Some(entry.path);
            }
            Ok(!cancel.is_draining())
        })?;
        if cancel.is_draining() {
            return Ok(None);
        }
        // A last line without an end was written by nobody here.
        let unended = reader.map(|mut reader| reader.finish()).transpose();
        match unended.map_err(|error| list.refusal(&error.to_string()))? {
            None => Err(list.refusal("nothing is listed")),
            Some(Some(_)) => Err(list.refusal("its last line has no end")),
            Some(None) => Ok(Some(Self { list, bytes, files })),
        }
    }

    /// What it says of a path.
    pub fn find(&self, path: &[u8]) -> Result<Option<Entry>, Refusal> {
        let (mut low, mut high) = (0, self.bytes);
        let mut line = Vec::new();
        while low < high {
            let middle = low + (high - low) / 2;
            let start = if middle == low {
                low
            } else {
                self.next_line(middle, &mut line)?
            };
            if start >= high {
                // No line begins between the two.
                high = middle;
                continue;
            }
            self.line(start, &mut line)?;
            let mut reader = Reader::new(Format::Json, None);
            let listed = reader.read(&line).next().transpose();
            let listed = listed.map_err(|error| self.list.refusal(&error.to_string()))?;
            match listed.map(|Listed { entry, .. }| entry) {
                Some(entry) if entry.path == path => return Ok(Some(entry)),
                Some(entry) if entry.path[..] > *path => high = middle.min(start),
                // The line that says what this is comes before all others.
                Some(_) | None => low = start + line.len() as u64,
            }
        }
        Ok(None)
    }

    /// Where the first line begins that begins at `at` or behind it.
    fn next_line(&self, at: u64, line: &mut Vec<u8>) -> Result<u64, Refusal> {
        self.line(at - 1, line)?;
        Ok(at - 1 + line.len() as u64)
    }

    /// The bytes from an offset on, the next newline included.
    fn line(&self, at: u64, line: &mut Vec<u8>) -> Result<(), Refusal> {
        line.clear();
        loop {
            let from = line.len();
            line.resize(from + LOOK_BYTES.max(from), 0);
            let read = self.list.read_at(&mut line[from..], at + from as u64)?;
            line.truncate(from + read);
            if let Some(end) = line[from..].iter().position(|byte| *byte == b'\n') {
                line.truncate(from + end + 1);
                return Ok(());
            }
            if read == 0 || line.len() > 2 * LINE_BYTES {
                return Err(self.list.refusal("it has changed while it was in use"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use bulkhaul_formats::manifest::Writer;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_is_there_and_nothing_else(
            names in proptest::collection::btree_map("[a-c/!]{0,6}x", 0_u64..9, 1..40),
            others in proptest::collection::vec("[a-c/!]{0,6}x", 1..10),
            long in 0..3000_usize,
        ) {
            let writer = Writer::new(Format::Json, &[]);
            let Ok(writer) = writer else { return Ok(()) };
            let mut text = Vec::new();
            writer.head(&mut text);
            let mut known = std::collections::BTreeMap::new();
            for (name, size) in names {
                // Lines of all lengths.
                let path = bulkhaul_formats::manifest::inside(format!("{name}{}", "y".repeat(long * usize::from(size == 0))).as_bytes());
                let Ok(path) = path else { continue };
                known.insert(path, size);
            }
            prop_assume!(!known.is_empty());
            for (path, size) in &known {
                let entry = Entry { kind: Some(Kind::Directory), size: Some(*size), ..Entry::new(path.clone(), Vec::new()) };
                writer.entry(&entry, &mut text).unwrap();
            }
            let scratch = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(scratch.path(), &text).unwrap();
            let sorters = Sorters::new(None, 0, 1);
            let found = Known::open(scratch.path().as_os_str().as_bytes(), &sorters, &Cancel::default());
            let Ok(Some(found)) = found else { panic!("it is whole") };
            let size_of = |path: &[u8]| found.find(path).unwrap().map(|entry| entry.size.unwrap_or_default());
            for (path, size) in &known {
                prop_assert_eq!(size_of(path), Some(*size));
            }
            for other in others {
                prop_assert_eq!(size_of(other.as_bytes()), known.get(other.as_bytes()).copied());
            }
        }
    }
}
