//! A manifest that is being made.
//!
//! Comes in: the form and the digests that are wanted, and entries, in any order and from any thread; goes out: records for a
//! sort, and from that the lines of the manifest, sorted by the bytes of the paths. Promises: the same entries give the same
//! bytes; what the form can't write is known when its record is made. Memory does not grow with the number of entries, but
//! for inodes of which not all links have come yet.

use std::collections::HashMap;

use bulkhaul_formats::digest::Algorithm;
use bulkhaul_formats::manifest::{Entry, Format, Writer};
use bulkhaul_sys::{Errno, Identity};

use crate::bytes::output::Output;
use crate::error::{Cause, Fault, Operation, Refusal, Side};
use crate::job::desk::Desk;
use crate::records::entry::{self, Facts, Found, Links, facts};
use crate::records::sort::{Sorted, Sorters};

/// How a manifest is made.
#[derive(Debug)]
pub struct Making {
    format: Format,
    algorithms: Vec<Algorithm>,
    writer: Writer,
}

/// The algorithms of a format where nobody says which: BLAKE3; those of hashdeep; the one that bags are to have (RFC 8493,
/// section 2.4).
fn customary(format: Format) -> Vec<Algorithm> {
    match format {
        Format::Sums | Format::SumsNul | Format::Json => vec![Algorithm::Blake3],
        Format::Hashdeep => vec![Algorithm::Sha256, Algorithm::Md5],
        Format::Bagit => vec![Algorithm::Sha512],
    }
}

/// What became of an entry when the manifest was written.
pub enum Told {
    /// It has its line.
    Written(Entry),
    /// What has its path in another source says the same, and has the line.
    Again(Entry),
    /// What has its path in another source has the line, and says something else.
    Differs(Entry, Fault),
    /// It has its line, and its outcome already.
    Settled,
}

/// Numbers for the links of one file, in the order in which the first of them comes. What tells files apart is the number of
/// the inode and what all names of a file show: different files may have one number.
#[derive(Default)]
struct Groups {
    last: u64,
    /// Those that wait for other links: their number, and how many are still to come.
    open: HashMap<(Identity, Facts), (u64, u32)>,
}

impl Groups {
    fn number(&mut self, entry: &Entry, Links { inode, number }: Links) -> u64 {
        let (file, last) = ((inode, facts(entry)), &mut self.last);
        let group = self.open.entry(file).or_insert_with(|| {
            *last += 1;
            (*last, number)
        });
        group.1 -= 1;
        let (number, left) = *group;
        if left == 0 {
            self.open.remove(&file);
        }
        number
    }
}

impl Making {
    /// In this form; without algorithms: with those that are customary there. Refuses digests that the form has no place for.
    pub fn new(format: Format, algorithms: &[Algorithm]) -> Result<Self, Refusal> {
        let mut algorithms = match algorithms {
            [] => customary(format),
            given => given.to_vec(),
        };
        // In the order of digests.
        algorithms.sort_unstable();
        algorithms.dedup();
        let writer = Writer::new(format, &algorithms).map_err(|why| Refusal::Usage(format!("algorithms: {why}")))?;
        Ok(Self {
            format,
            algorithms,
            writer,
        })
    }

    /// Whether it says the same of an entry as this other one.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.format, &self.algorithms) == (other.format, &other.algorithms)
    }

    /// The digests of each file.
    pub fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    /// Whether it says something of entries of all kinds; otherwise of regular files only.
    pub fn has_all_kinds(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes the payload of an entry's record, whose key is the path; the fault is that the form can't write it. `settled`: it
    /// has its outcome.
    pub fn record(&self, (entry, links): &Found, settled: bool, payload: &mut Vec<u8>) -> Result<(), Fault> {
        payload.clear();
        self.writer.entry(entry, payload).map_err(|why| Fault {
            operation: Operation::Write,
            side: Side::Source,
            cause: Cause::Unwritable(why.to_string()),
        })?;
        payload.clear();
        payload.push(u8::from(settled));
        entry::encode(entry, *links, payload);
        Ok(())
    }

    /// Writes all entries of a sort, and tells of each. Stops when the run is to stop.
    pub fn write(
        &self,
        desk: &Desk,
        (sorters, sorted): (&Sorters, &mut Sorted),
        mut output: Option<&mut Output>,
        mut told: impl FnMut(Told),
    ) -> Result<(), Refusal> {
        let (mut line, mut before, mut groups) = (Vec::new(), None::<Entry>, Groups::default());
        if let Some(output) = &mut output {
            self.writer.head(&mut line);
            output.write(&line)?;
        }
        while !desk.cancel.is_draining()
            && let Some((path, payload)) = sorted.next().map_err(|errno| sorters.refusal(errno))?
        {
            let decoded = payload.split_first();
            let decoded = decoded.and_then(|(settled, rest)| Some((*settled != 0, entry::decode(path, rest)?)));
            let (settled, (mut entry, links)) = decoded.ok_or_else(|| sorters.refusal(Errno::IO))?;
            // Two sources have this path. What is the same in all that is told stands once.
            if let Some(before) = before.as_ref().filter(|before| before.path == entry.path) {
                told(if settled {
                    Told::Settled
                } else if self.says_the_same(before, &entry) {
                    Told::Again(entry)
                } else {
                    let fault = Fault {
                        operation: Operation::Write,
                        side: Side::Source,
                        cause: Cause::Collision(entry.path.clone()),
                    };
                    Told::Differs(entry, fault)
                });
                continue;
            }
            before = Some(entry.clone());
            entry.link_group = links.map(|links| groups.number(&entry, links));
            if let Some(output) = &mut output {
                line.clear();
                // Whoever made the record has tried.
                let written = self.writer.entry(&entry, &mut line);
                written.map_err(|why| Refusal::Output(why.to_string()))?;
                output.write(&line)?;
            }
            told(if settled { Told::Settled } else { Told::Written(entry) });
        }
        Ok(())
    }

    /// Whether two entries of one path are one line.
    fn says_the_same(&self, a: &Entry, b: &Entry) -> bool {
        match self.format {
            Format::Json => a == b,
            Format::Sums | Format::SumsNul | Format::Hashdeep | Format::Bagit => a.digests == b.digests,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_numbered_as_they_come_and_forgotten_when_all_have_come() {
        let mut groups = Groups::default();
        let mut numbers = |all: &[(u64, u32, u64)]| -> Vec<u64> {
            let number = |(ino, number, size): &(u64, u32, u64)| {
                let size = Some(*size);
                let entry = Entry {
                    size,
                    ..Entry::default()
                };
                let inode = Identity { dev: 1, ino: *ino };
                groups.number(&entry, Links { inode, number: *number })
            };
            all.iter().map(number).collect()
        };
        let one = numbers(&[(9, 2, 0), (4, 3, 0), (9, 2, 0), (4, 3, 0), (7, 2, 0)]);
        // Where several file systems are seen as one, other files have numbers that are taken.
        let other = numbers(&[(5, 2, 10), (5, 2, 11), (5, 2, 10), (5, 2, 11)]);
        assert_eq!((one, other), (vec![1, 2, 1, 2, 3], vec![4, 5, 4, 5]));
        assert_eq!(groups.open.len(), 2);
    }
}
