//! Which entries count, and which name brings the content of a file that has several.
//!
//! Comes in: entries of archives, in any order; goes out: those that count, in the order in which their content lies. Of
//! several of one path the last one counts, and none that a later state has removed. A further name is one of what had the
//! path of its file before it in the same archive. Where something else has that path in the end, or nothing, the first
//! further name that counts brings the content, and the others are names of that one.

use bulkhaul_formats::shards::{self, Line, Packed};
use bulkhaul_formats::spelling::of_any_spelling;
use bulkhaul_sys::{self as sys, Errno, Kind};

use crate::error::Refusal;
use crate::job::desk::Desk;
use crate::records::entry::kind_of;
use crate::records::record::path_key;
use crate::records::sort::{Sorted, Sorter, Sorters};

/// What is said of a path, or of a place in an archive; of one entry in this order.
mod said {
    /// A further name, elsewhere, is one of what has this path.
    pub(super) const NAMED: u8 = 0;
    /// A state has it no more.
    pub(super) const GONE: u8 = 1;
    /// An entry of which only further names are wanted.
    pub(super) const UNWANTED: u8 = 2;
    pub(super) const ENTRY: u8 = 3;
    /// A further name of a file whose place is known, and stands before it.
    pub(super) const LINK: u8 = 4;
    /// A further name of a file whose path is known.
    pub(super) const LINK_TO: u8 = 5;
}

/// State, archive and offset of an entry: the last one counts.
pub type Order = [u64; 3];

/// Where a file lies in its archive.
#[derive(Clone, Copy)]
pub struct Place {
    offset: u64,
    length: u64,
    frame: Option<(u64, u64)>,
}

impl Place {
    /// Of this entry.
    pub fn of(packed: &Packed) -> Self {
        Self {
            offset: packed.offset,
            length: packed.length,
            frame: packed.frame,
        }
    }

    fn bytes(self) -> Vec<u8> {
        let (at, skip) = self.frame.unwrap_or_default();
        bytes_of([self.offset, self.length, self.frame.is_some().into(), at, skip])
    }

    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let ([offset, length, framed, at, skip], rest) = numbers(bytes)?;
        let frame = (framed > 0).then_some((at, skip));
        Some((Self { offset, length, frame }, rest))
    }
}

fn bytes_of<const N: usize>(numbers: [u64; N]) -> Vec<u8> {
    numbers.map(u64::to_be_bytes).concat()
}

fn numbers<const N: usize>(bytes: &[u8]) -> Option<([u64; N], &[u8])> {
    let (numbers, rest) = bytes.split_at_checked(8 * N)?;
    let mut all = [0; N];
    for (number, bytes) in all.iter_mut().zip(numbers.as_chunks().0) {
        *number = u64::from_be_bytes(*bytes);
    }
    Some((all, rest))
}

fn line(packed: Packed) -> Vec<u8> {
    let mut line = Vec::new();
    shards::write(&Line::Entry(Box::new(packed)), &mut line);
    line
}

fn packed(line: &[u8]) -> Option<Packed> {
    match shards::parse(line) {
        Ok(Some(Line::Entry(packed))) => Some(*packed),
        _ => None,
    }
}

/// An entry that counts, as it is sorted.
fn entry(own: &[u8]) -> Vec<u8> {
    [&[said::ENTRY], own].concat()
}

/// Further names that wait until all files are there.
pub struct Later(Sorter);

impl Later {
    /// None yet.
    pub fn new(sorters: &Sorters) -> Self {
        Self(sorters.sorter())
    }

    /// One of what comes under the name `first`.
    pub fn push(&mut self, packed: &Packed, first: &[u8]) -> sys::Result<()> {
        let mut packed = packed.clone();
        packed.entry.target.get_or_insert_with(|| first.to_vec());
        self.0.push(&packed.entry.path.clone(), &entry(&line(packed)))
    }

    /// All of them, by their paths.
    pub fn all(self) -> sys::Result<Counting> {
        Ok(Counting::of(Sorted::merge(vec![self.0])?, false))
    }
}

/// Takes entries in.
pub struct Names<'n> {
    sorters: &'n Sorters,
    all: Sorter,
    key: Vec<u8>,
}

impl<'n> Names<'n> {
    /// Of nothing yet.
    pub fn new(sorters: &'n Sorters) -> Self {
        Self {
            sorters,
            all: sorters.sorter(),
            key: Vec::new(),
        }
    }

    fn push(&mut self, path: &[u8], order: Order, said: u8, rest: &[u8]) -> Result<(), Refusal> {
        path_key(path, &mut self.key);
        let pushed = self
            .all
            .push(&self.key, &[&bytes_of(order)[..], &[said], rest].concat());
        pushed.map_err(|errno| self.sorters.refusal(errno))
    }

    /// A state has this path no more.
    pub fn gone(&mut self, path: &[u8], state: u64) -> Result<(), Refusal> {
        self.push(path, [state, 0, 0], said::GONE, b"")
    }

    /// An entry; of one that is not `wanted`, further names may be.
    pub fn entry(&mut self, order: Order, packed: Packed, wanted: bool) -> Result<(), Refusal> {
        let said = if wanted { said::ENTRY } else { said::UNWANTED };
        self.push(&packed.entry.path.clone(), order, said, &line(packed))
    }

    /// A further name of the file that lies there.
    pub fn link(&mut self, order: Order, packed: Packed, file: Place) -> Result<(), Refusal> {
        let path = packed.entry.path.clone();
        self.push(&path, order, said::LINK, &[file.bytes(), line(packed)].concat())
    }

    /// A further name of what has the path `first` before it.
    pub fn link_to(&mut self, order: Order, packed: Packed, first: &[u8]) -> Result<(), Refusal> {
        let path = packed.entry.path.clone();
        self.push(first, order, said::NAMED, &path)?;
        self.push(&path, order, said::LINK_TO, &line(packed))
    }

    /// Those that count; each is counted as found. `by_spelling`: what some file system takes for one path comes together.
    pub fn count(self, by_spelling: bool, desk: &Desk) -> Result<Counting, Refusal> {
        let sorters = self.sorters;
        self.counted(by_spelling, desk).map_err(|errno| sorters.refusal(errno))
    }

    fn counted(self, by_spelling: bool, desk: &Desk) -> sys::Result<Counting> {
        let mut count = Count {
            desk,
            counted: self.sorters.sorter(),
            links: self.sorters.sorter(),
        };
        count.paths(Sorted::merge(vec![self.all])?)?;
        let links = std::mem::replace(&mut count.links, self.sorters.sorter());
        count.links(Sorted::merge(vec![links])?)?;
        let mut counting = Counting::of(Sorted::merge(vec![count.counted])?, false);
        if !by_spelling {
            return Ok(counting);
        }
        let mut spelt = self.sorters.sorter();
        while let Some(Counted { packed, .. }) = counting.next()? {
            let key = of_any_spelling(&packed.entry.path).to_be_bytes();
            spelt.push(&key, &entry(&line(packed)))?;
        }
        Ok(Counting::of(Sorted::merge(vec![spelt])?, true))
    }
}

/// What was said of a path last.
type Last = Option<(Order, u8, Vec<u8>)>;

/// What counts, so far.
struct Count<'d> {
    desk: &'d Desk,
    /// By archives, and where in them content lies.
    counted: Sorter,
    /// By archives, and where in them further names lie: what they are names of, and those that count.
    links: Sorter,
}

impl Count<'_> {
    /// All that is said of each path.
    fn paths(&mut self, mut all: Sorted) -> sys::Result<()> {
        let (mut path, mut last): (Vec<u8>, Last) = (Vec::new(), None);
        while let Some((key, payload)) = all.next()? {
            let (order, rest) = numbers::<3>(payload).ok_or(Errno::IO)?;
            let (said, rest) = rest.split_first().ok_or(Errno::IO)?;
            if key != path {
                self.settle(last.take())?;
                path = key.to_vec();
            }
            if *said != said::NAMED {
                last = Some((order, *said, rest.to_vec()));
            } else if let Some((before, said::UNWANTED | said::ENTRY, file)) = &last
                && before[1] == order[1]
            {
                let mut name = packed(file).ok_or(Errno::IO)?;
                let place = Place::of(&name);
                name.entry.path = rest.to_vec();
                let known = [&[said::NAMED][..], &place.bytes(), &line(name)].concat();
                self.links.push(&bytes_of([order[1], order[2]]), &known)?;
            }
        }
        self.settle(last)
    }

    /// The last that was said of a path.
    fn settle(&mut self, last: Last) -> sys::Result<()> {
        match last {
            Some(([_, archive, offset], said::LINK_TO, own)) => {
                let own = [&[said::LINK_TO][..], &own].concat();
                self.links.push(&bytes_of([archive, offset]), &own)
            }
            Some(([_, archive, _], said::ENTRY, own)) => self.entry(archive, &own),
            Some(([_, archive, _], said::LINK, rest)) => {
                let (file, own) = Place::read(&rest).ok_or(Errno::IO)?;
                self.link(archive, file, own)
            }
            _ => Ok(()),
        }
    }

    /// Further names whose files were looked for by their paths.
    fn links(&mut self, mut links: Sorted) -> sys::Result<()> {
        let mut known: Option<(Vec<u8>, Vec<u8>)> = None;
        while let Some((key, payload)) = links.next()? {
            let ([archive, _], _) = numbers::<2>(key).ok_or(Errno::IO)?;
            match payload.split_first().ok_or(Errno::IO)? {
                (&said::NAMED, rest) => known = Some((key.to_vec(), rest.to_vec())),
                (_, own) => match known.take().filter(|(other, _)| other == key) {
                    Some((_, known)) => {
                        let (file, name) = Place::read(&known).ok_or(Errno::IO)?;
                        // It lies where it is, and is what its file is.
                        let (mut name, own) = packed(name).zip(packed(own)).ok_or(Errno::IO)?;
                        (name.offset, name.length) = (own.offset, own.length);
                        self.link(archive, file, &line(name))?;
                    }
                    // It is told when it finds nothing below the target either.
                    None => self.entry(archive, own)?,
                },
            }
        }
        Ok(())
    }

    fn entry(&mut self, archive: u64, own: &[u8]) -> sys::Result<()> {
        let packed = self.found(own)?;
        self.counted.push(&bytes_of([archive, packed.offset, 0]), &entry(own))
    }

    fn link(&mut self, archive: u64, file: Place, own: &[u8]) -> sys::Result<()> {
        let packed = self.found(own)?;
        // Right behind its file.
        let key = bytes_of([archive, file.offset, packed.offset]);
        self.counted
            .push(&key, &[&[said::LINK][..], &file.bytes(), own].concat())
    }

    fn found(&self, own: &[u8]) -> sys::Result<Packed> {
        let packed = packed(own).ok_or(Errno::IO)?;
        let kind = kind_of(&packed.entry);
        self.desk.counters[0].found(kind);
        if kind == Kind::File {
            self.desk.counters[0].sized(packed.entry.size.unwrap_or_default(), 0);
        }
        Ok(packed)
    }
}

/// An entry that counts.
pub struct Counted {
    /// What is known of it. Of one that brings the content of a file: where that lies.
    pub packed: Packed,
    /// It is a further name of what comes under this one.
    pub first: Option<Vec<u8>>,
    /// What some file system takes for its path came right before.
    pub meets: bool,
}

/// All that count.
pub struct Counting {
    all: Sorted,
    by_spelling: bool,
    last: Vec<u8>,
    /// Where the file lies of which names may follow, and the name under which it comes.
    file: Option<([u64; 2], Vec<u8>)>,
}

impl Counting {
    /// `by_spelling`: keys are the same of what some file system takes for one path.
    fn of(all: Sorted, by_spelling: bool) -> Self {
        Self {
            all,
            by_spelling,
            last: Vec::new(),
            file: None,
        }
    }

    /// The next one.
    pub fn next(&mut self) -> sys::Result<Option<Counted>> {
        let Some((key, payload)) = self.all.next()? else {
            return Ok(None);
        };
        let (said, rest) = payload.split_first().ok_or(Errno::IO)?;
        let place = numbers::<2>(key).map(|(place, _)| place).unwrap_or_default();
        let (file, own) = match *said {
            said::LINK => Place::read(rest).map(|(file, own)| (Some(file), own)),
            _ => Some((None, rest)),
        }
        .ok_or(Errno::IO)?;
        let mut packed = packed(own).ok_or(Errno::IO)?;
        let mut first = None;
        match (file, &self.file) {
            (Some(_), Some((own, name))) if *own == place => {
                packed.entry.target = Some(name.clone());
                first = Some(name.clone());
            }
            (file, _) => {
                if let Some(file) = file {
                    (packed.offset, packed.length, packed.frame) = (file.offset, file.length, file.frame);
                }
                self.file = Some((place, packed.entry.path.clone()));
            }
        }
        let meets = self.by_spelling && self.last == key;
        self.last.clear();
        self.last.extend_from_slice(key);
        Ok(Some(Counted { packed, first, meets }))
    }
}
