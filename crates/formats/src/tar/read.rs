//! Blocks as entries: of pax archives, and of those that GNU tar and older tars write.

use super::field::{self, Field};
use super::{BLOCK, Damage, EXTENSION_BYTES, Header, MOST_STRETCHES, Stretch, What, checksum, pax};
use crate::acl;
use crate::json::from_base64;

const SECOND: i128 = 1_000_000_000;
/// What libarchive calls extended attributes: names with `%XX` for some bytes, values in base64.
const LIBARCHIVE: &[u8] = b"LIBARCHIVE.xattr.";
const NO_MAP: &str = "a map of holes that is none";
const OLD_SPARSE: (usize, usize, usize, usize) = (386, 4, 482, 483);
const EXTENSION_SPARSE: (usize, usize) = (21, 504);

/// An entry, and where it is in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What is said of it.
    pub header: Header,
    /// Where its first block is.
    pub offset: u64,
    /// Where its content is.
    pub content: u64,
    /// Bytes of content in the archive.
    pub stored: u64,
    /// Where the next entry begins.
    pub end: u64,
}

/// What a block brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next block is wanted.
    More,
    /// An entry is known. Its content follows: [`Reader::seek`] behind it, to [`Entry::end`].
    Entry(Box<Entry>),
    /// The archive ends here.
    End,
}

/// Reads an archive, block by block. After [`Damage`] it looks for the next block that can be the first of an entry.
#[derive(Default)]
pub struct Reader {
    at: u64,
    /// Where the entry that is being read begins.
    begun: Option<u64>,
    state: State,
    globals: Vec<u8>,
    found: Found,
    zeros: bool,
    /// Blocks are passed over until one can be a header.
    lost: bool,
}

/// What was said of an entry before its own header.
#[derive(Default)]
struct Found {
    records: Vec<u8>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

#[derive(Default)]
enum State {
    #[default]
    Header,
    /// Of this type, with so many bytes still to come.
    Extension(u8, u64, Vec<u8>),
    /// The map of a file with holes: its bytes, how many numbers are known, the numbers.
    Map(Box<Entry>, Vec<u8>),
    /// More of the map in the form of old.
    OldMap(Box<Entry>),
}

impl Reader {
    /// Where the next block is in the archive.
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// Goes on with a block elsewhere, which begins an entry.
    pub fn seek(&mut self, offset: u64) {
        self.at = offset;
        self.reset();
    }

    /// Goes on with the next block from there on that can begin an entry.
    pub fn search(&mut self, offset: u64) {
        self.seek(offset);
        self.lost = true;
    }

    /// Whether it looks for a block that can begin an entry.
    pub fn is_searching(&self) -> bool {
        self.lost
    }

    fn reset(&mut self) {
        self.begun = None;
        self.state = State::Header;
        self.found = Found::default();
        self.zeros = false;
    }

    fn damaged<T>(&mut self, what: &'static str) -> Result<T, Damage> {
        let offset = self.begun.unwrap_or(self.at - BLOCK as u64);
        self.reset();
        self.lost = true;
        Err(Damage { offset, what })
    }

    /// Takes the next block.
    pub fn block(&mut self, block: &[u8; BLOCK]) -> Result<Step, Damage> {
        self.at += BLOCK as u64;
        match std::mem::take(&mut self.state) {
            State::Header => self.header(block),
            State::Extension(kind, left, mut bytes) => {
                let taken = left.min(BLOCK as u64);
                bytes.extend_from_slice(&block[..usize::try_from(taken).unwrap_or(BLOCK)]);
                if left > taken {
                    self.state = State::Extension(kind, left - taken, bytes);
                    return Ok(Step::More);
                }
                match kind {
                    b'g' => {
                        if self.globals.len() as u64 + bytes.len() as u64 > EXTENSION_BYTES {
                            return self.damaged("extended headers for all that are too large");
                        }
                        self.globals.extend_from_slice(&bytes);
                    }
                    b'x' => self.found.records = bytes,
                    b'L' => self.found.name = Some(until_nul(&bytes).to_vec()),
                    _ => self.found.link = Some(until_nul(&bytes).to_vec()),
                }
                Ok(Step::More)
            }
            State::Map(entry, mut bytes) => {
                bytes.extend_from_slice(block);
                self.map(entry, bytes)
            }
            State::OldMap(entry) => {
                let (number, more) = EXTENSION_SPARSE;
                self.old_map(entry, &block[..24 * number], block[more] != 0)
            }
        }
    }

    fn header(&mut self, block: &[u8; BLOCK]) -> Result<Step, Damage> {
        let offset = self.at - BLOCK as u64;
        if block.iter().all(|byte| *byte == 0) {
            if self.begun.is_some() {
                return self.damaged("an extended header of no entry");
            }
            // They may be content of what was lost.
            if self.lost {
                return Ok(Step::More);
            }
            if self.zeros {
                return Ok(Step::End);
            }
            self.zeros = true;
            return Ok(Step::More);
        }
        self.zeros = false;
        if !is_header(block) {
            if self.lost {
                return Ok(Step::More);
            }
            return self.damaged("no header where one is due");
        }
        self.lost = false;
        self.begun.get_or_insert(offset);
        let kind = block[field::TYPE];
        let Some(size) = number(block, field::SIZE).and_then(|size| u64::try_from(size).ok()) else {
            return self.damaged("a size that is no number");
        };
        if matches!(kind, b'x' | b'g' | b'X' | b'L' | b'K') {
            if size > EXTENSION_BYTES {
                return self.damaged("an extended header that is too large");
            }
            let kind = if kind == b'X' { b'x' } else { kind };
            if size > 0 {
                self.state = State::Extension(kind, size, Vec::new());
            }
            return Ok(Step::More);
        }
        if kind == b'V' {
            // The name of the volume.
            let end = size
                .checked_next_multiple_of(BLOCK as u64)
                .and_then(|bytes| self.at.checked_add(bytes));
            self.seek(end.unwrap_or(u64::MAX - BLOCK as u64 + 1));
            return Ok(Step::More);
        }
        let found = std::mem::take(&mut self.found);
        match entry(block, size, &found, &self.globals) {
            Ok(made) => self.made(made, block, offset),
            Err(what) => {
                // Its content is passed over: it may look like anything.
                let end = size
                    .checked_next_multiple_of(BLOCK as u64)
                    .and_then(|bytes| self.at.checked_add(bytes));
                let damage = self.damaged(what);
                if let Some(end) = end {
                    self.seek(end);
                    self.lost = false;
                }
                damage
            }
        }
    }

    fn made(&mut self, made: Made, block: &[u8; BLOCK], offset: u64) -> Result<Step, Damage> {
        let Made { header, stored, map } = made;
        let padded = stored.checked_next_multiple_of(BLOCK as u64);
        let Some(end) = padded.and_then(|bytes| self.at.checked_add(bytes)) else {
            return self.damaged("a size beyond all archives");
        };
        let entry = Box::new(Entry {
            header,
            offset: self.begun.unwrap_or(offset),
            content: self.at,
            stored,
            end,
        });
        match map {
            Map::None => self.done(entry),
            Map::Within => {
                self.state = State::Map(entry, Vec::new());
                Ok(Step::More)
            }
            Map::Old => {
                let (from, number, more, _) = OLD_SPARSE;
                self.old_map(entry, &block[from..from + 24 * number], block[more] != 0)
            }
        }
    }

    fn done(&mut self, mut entry: Box<Entry>) -> Result<Step, Damage> {
        if let Some(data) = &entry.header.data {
            let mut at = 0;
            for stretch in data {
                match stretch.offset.checked_add(stretch.length) {
                    Some(end) if stretch.offset >= at && end <= entry.header.size => at = end,
                    _ => return self.damaged(NO_MAP),
                }
            }
        }
        if entry.header.stored() != entry.stored && matches!(entry.header.what, What::File) {
            return self.damaged("a map of holes for other content");
        }
        if !matches!(entry.header.what, What::File) {
            entry.header.data = None;
        }
        self.reset();
        Ok(Step::Entry(entry))
    }

    /// Goes through the map that stands before the content: a number of stretches, then an offset and a length for each, a
    /// line a number.
    fn map(&mut self, mut entry: Box<Entry>, bytes: Vec<u8>) -> Result<Step, Damage> {
        let mut numbers = bytes.split_inclusive(|byte| *byte == b'\n').map(|line| match line {
            [digits @ .., b'\n'] => Some(pax::number::<u64>(digits)),
            _ => None,
        });
        let count = match numbers.next().flatten() {
            Some(Some(count)) => usize::try_from(count).unwrap_or(usize::MAX),
            Some(None) => return self.damaged(NO_MAP),
            None if bytes.len() > BLOCK => return self.damaged(NO_MAP),
            None => usize::MAX,
        };
        if count > MOST_STRETCHES && count != usize::MAX {
            return self.damaged("more holes in a file than are read");
        }
        let lines = bytes.split(|byte| *byte == b'\n').count() - 1;
        let whole = count.saturating_mul(2).saturating_add(1);
        if lines < whole {
            if bytes.len() as u64 >= entry.stored.next_multiple_of(BLOCK as u64) {
                return self.damaged(NO_MAP);
            }
            // Each of the digits of a number is one byte at least: what is longer is no such map.
            if bytes.len() / 40 > MOST_STRETCHES {
                return self.damaged(NO_MAP);
            }
            self.state = State::Map(entry, bytes);
            return Ok(Step::More);
        }
        let mut data = Vec::with_capacity(count);
        for _ in 0..count {
            match (numbers.next().flatten().flatten(), numbers.next().flatten().flatten()) {
                (Some(offset), Some(length)) => data.push(Stretch { offset, length }),
                _ => return self.damaged(NO_MAP),
            }
        }
        let Some(stored) = entry.stored.checked_sub(bytes.len() as u64) else {
            return self.damaged(NO_MAP);
        };
        entry.stored = stored;
        entry.content = self.at;
        entry.header.data = Some(data.into_iter().filter(|stretch| stretch.length > 0).collect());
        self.done(entry)
    }

    /// The same as GNU tar had it before: pairs of numbers in the header, and in blocks behind it.
    fn old_map(&mut self, mut entry: Box<Entry>, pairs: &[u8], more: bool) -> Result<Step, Damage> {
        let data = entry.header.data.get_or_insert_with(Vec::new);
        for pair in pairs.chunks_exact(24) {
            let of = |field: &[u8]| octal(field).and_then(|number| u64::try_from(number).ok());
            match (of(&pair[..12]), of(&pair[12..])) {
                (Some(_), Some(0)) => {}
                (Some(offset), Some(length)) if data.len() < MOST_STRETCHES => data.push(Stretch { offset, length }),
                _ => return self.damaged(NO_MAP),
            }
        }
        if more {
            self.state = State::OldMap(entry);
            return Ok(Step::More);
        }
        entry.content = self.at;
        match entry
            .stored
            .checked_next_multiple_of(BLOCK as u64)
            .and_then(|bytes| self.at.checked_add(bytes))
        {
            Some(end) => entry.end = end,
            None => return self.damaged("a size beyond all archives"),
        }
        self.done(entry)
    }
}

/// Where the first header of POSIX or GNU is in these bytes, at whatever place.
pub fn find_header(bytes: &[u8]) -> Option<usize> {
    let (magic, _) = field::MAGIC;
    let mut signs = bytes.windows(5).enumerate().filter(|(_, window)| *window == b"ustar");
    signs.find_map(|(at, _)| {
        let from = at.checked_sub(magic)?;
        let block = bytes.get(from..)?.first_chunk()?;
        is_header(block).then_some(from)
    })
}

/// Whether a block's sum is right; some old tars took its bytes as signed.
pub fn is_header(block: &[u8; BLOCK]) -> bool {
    let (from, length) = field::CHECKSUM;
    let Some(stated) = octal(&block[from..from + length]) else {
        return false;
    };
    let sum = i128::from(checksum(block));
    let high = block
        .iter()
        .enumerate()
        .filter(|(at, byte)| **byte >= 0x80 && !(from..from + length).contains(at));
    stated == sum || stated == sum - 256 * high.count() as i128
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0);
    &bytes[..end.unwrap_or(bytes.len())]
}

fn text(block: &[u8; BLOCK], (from, length): Field) -> &[u8] {
    until_nul(&block[from..from + length])
}

fn number(block: &[u8; BLOCK], (from, length): Field) -> Option<i128> {
    octal(&block[from..from + length])
}

/// A number of a field: octal digits between blanks and NULs, or base 256 where the first bit says so (GNU tar).
fn octal(field: &[u8]) -> Option<i128> {
    if let Some(first) = field.first().filter(|first| **first & 0x80 != 0) {
        let start = i128::from(first & 0x3f) - if first & 0x40 == 0 { 0 } else { 0x40 };
        // Twelve bytes are the longest.
        return Some(
            field[1..]
                .iter()
                .fold(start, |sum, byte| (sum << 8) | i128::from(*byte)),
        );
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_blank(byte)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(is_blank).unwrap_or(digits.len());
    digits[..end].iter().try_fold(0, |sum: i128, digit| {
        (b'0'..=b'7')
            .contains(digit)
            .then(|| sum * 8 + i128::from(digit - b'0'))
    })
}

/// What base64 says, without the signs that fill it up.
fn padded(value: &[u8]) -> Option<Vec<u8>> {
    let mut text = value.to_vec();
    text.resize(value.len().next_multiple_of(4), b'=');
    from_base64(&text)
}

/// A text with `%XX` for some bytes, without.
fn plain(text: &[u8]) -> Vec<u8> {
    let (mut plain, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((first, more)) = rest.split_first() {
        let digits = more.first_chunk::<2>().filter(|_| *first == b'%');
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        plain.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &more[2..] } else { more };
    }
    plain
}

/// Offsets and lengths by turns, as stretches.
fn stretches(numbers: &[u64]) -> Result<Vec<Stretch>, &'static str> {
    let (pairs, []) = numbers.as_chunks::<2>() else {
        return Err(NO_MAP);
    };
    if pairs.len() > MOST_STRETCHES {
        return Err("more holes in a file than are read");
    }
    let all = pairs.iter().map(|[offset, length]| Stretch {
        offset: *offset,
        length: *length,
    });
    Ok(all.filter(|stretch| stretch.length > 0).collect())
}

enum Map {
    None,
    Within,
    Old,
}

struct Made {
    header: Header,
    stored: u64,
    map: Map,
}

/// What extended headers say of an entry beside its header.
#[derive(Default)]
struct Said {
    path: Vec<u8>,
    link: Vec<u8>,
    stored: u64,
    /// Of a file with holes: its size, its name, and the version of the form.
    real: Option<u64>,
    name: Option<Vec<u8>>,
    version: (Option<u64>, Option<u64>),
    /// Of one in the forms of old: offsets and lengths by turns.
    map: Option<Vec<u64>>,
}

impl Said {
    /// Takes what records say. `unsaid`: keywords that count as not said.
    fn take(&mut self, records: &[u8], header: &mut Header, unsaid: &[&[u8]]) -> Result<(), &'static str> {
        let mut rest = records;
        while let Some(((keyword, value), more)) = pax::next(rest)? {
            rest = more;
            if unsaid.contains(&keyword) {
                continue;
            }
            let whole = || pax::number::<u64>(value);
            match keyword {
                b"path" => self.path = value.to_vec(),
                b"linkpath" => self.link = value.to_vec(),
                b"size" => self.stored = whole().ok_or("a size that is no number")?,
                b"uid" => header.uid = whole().ok_or("an owner that is no number")?,
                b"gid" => header.gid = whole().ok_or("a group that is no number")?,
                b"mtime" => header.mtime = pax::of_time(value).ok_or("a time that is no number")?,
                b"atime" => header.atime = pax::of_time(value),
                b"ctime" => header.ctime = pax::of_time(value),
                b"GNU.sparse.major" => self.version.0 = whole(),
                b"GNU.sparse.minor" => self.version.1 = whole(),
                b"GNU.sparse.name" => self.name = Some(value.to_vec()),
                b"GNU.sparse.realsize" | b"GNU.sparse.size" => {
                    self.real = Some(whole().ok_or("a size that is no number")?);
                }
                // Forms 0.0 and 0.1 have the map here.
                b"GNU.sparse.numblocks" => drop(self.map.get_or_insert_default()),
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                    self.map.get_or_insert_default().push(whole().ok_or(NO_MAP)?);
                }
                b"GNU.sparse.map" => {
                    let numbers = value.split(|byte| *byte == b',').filter(|digits| !digits.is_empty());
                    let numbers: Option<Vec<u64>> = numbers.map(pax::number).collect();
                    self.map = Some(numbers.ok_or(NO_MAP)?);
                }
                // GNU tar has this label as a text, and the system with a zero at its end.
                b"RHT.security.selinux" => {
                    let name = b"security.selinux".to_vec();
                    header.xattrs.retain(|(other, _)| *other != name);
                    header.xattrs.push((name, [value, b"\0"].concat()));
                }
                _ => {
                    let own = keyword.strip_prefix(LIBARCHIVE);
                    let said = match acl::attribute(keyword) {
                        Some(attribute) => Some((attribute.to_vec(), acl::from_text(value))),
                        None => match keyword.strip_prefix(b"SCHILY.xattr.") {
                            Some(name) => Some((name.to_vec(), Some(value.to_vec()))),
                            None => own.map(|name| (plain(name), padded(value))),
                        },
                    };
                    match said {
                        // libarchive says it in both ways, and this one is the younger.
                        Some((name, Some(_)))
                            if own.is_some() && header.xattrs.iter().any(|(other, _)| *other == name) => {}
                        Some((name, Some(value))) => {
                            header.xattrs.retain(|(other, _)| *other != name);
                            header.xattrs.push((name, value));
                        }
                        Some((_, None)) => header.lost.push(String::from_utf8_lossy(keyword).into_owned()),
                        None => {}
                    }
                }
            }
        }
        Ok(())
    }
}

/// The keywords of records without a value: these are as if nobody had said them, here or for all entries (POSIX). An attribute
/// may be empty.
fn unsaid(records: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    let (mut unsaid, mut rest) = (Vec::new(), records);
    while let Some(((keyword, value), more)) = pax::next(rest)? {
        rest = more;
        if value.is_empty() && !keyword.starts_with(b"SCHILY.") && !keyword.starts_with(LIBARCHIVE) {
            unsaid.push(keyword);
        }
    }
    Ok(unsaid)
}

/// An entry from its header, and from what was said of it before.
fn entry(block: &[u8; BLOCK], size: u64, found: &Found, globals: &[u8]) -> Result<Made, &'static str> {
    let is_gnu = &block[257..265] == b"ustar  \0";
    let is_pax = &block[257..262] == b"ustar" && !is_gnu;
    let mut path = text(block, field::NAME).to_vec();
    let prefix = text(block, field::PREFIX);
    if is_pax && !prefix.is_empty() {
        path = [prefix, b"/", &path[..]].concat();
    }
    path = found.name.clone().unwrap_or(path);
    let link = found.link.clone().unwrap_or_else(|| text(block, field::LINK).to_vec());
    let id = |field| number(block, field).and_then(|id| u64::try_from(id).ok());
    let device = |field| {
        id(field)
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or_default()
    };
    let mut header = Header::new(Vec::new(), What::File);
    header.mode = u32::try_from(id(field::MODE).ok_or("a mode that is no number")? & 0o7777).unwrap_or_default();
    header.uid = id(field::UID).ok_or("an owner that is no number")?;
    header.gid = id(field::GID).ok_or("a group that is no number")?;
    header.mtime = number(block, field::MTIME)
        .and_then(|seconds| seconds.checked_mul(SECOND))
        .ok_or("a time that is no number")?;
    let mut said = Said {
        path,
        link,
        stored: size,
        ..Said::default()
    };
    let unsaid = unsaid(&found.records)?;
    for records in [globals, &found.records[..]] {
        said.take(records, &mut header, &unsaid)?;
    }
    let Said {
        mut path,
        link,
        mut stored,
        mut real,
        name,
        version,
        map: numbers,
    } = said;
    if path.contains(&0) || link.contains(&0) {
        return Err("a name with a NUL");
    }
    let slash = path.ends_with(b"/");
    let (mut map, mut is_file) = (Map::None, false);
    header.what = match block[field::TYPE] {
        // So directories were said to be before there was a letter for them.
        0 | b'0' | b'7' if slash => What::Directory,
        0 | b'0' | b'7' => {
            is_file = true;
            What::File
        }
        b'S' => {
            is_file = true;
            map = Map::Old;
            let (_, _, _, at) = OLD_SPARSE;
            let size = octal(&block[at..at + 12]).and_then(|size| u64::try_from(size).ok());
            real = Some(size.ok_or("a size that is no number")?);
            What::File
        }
        b'1' => What::Link(link),
        b'2' => What::Symlink(link),
        b'3' => What::Char(device(field::MAJOR), device(field::MINOR)),
        b'4' => What::Block(device(field::MAJOR), device(field::MINOR)),
        b'5' | b'D' => What::Directory,
        b'6' => What::Fifo,
        _ => return Err("an entry of a type that is not known here"),
    };
    if is_file && let (Some(1), Some(0)) = version {
        map = Map::Within;
        path = name.unwrap_or(path);
    } else if is_file && let Some(numbers) = numbers {
        header.data = Some(stretches(&numbers)?);
        path = name.unwrap_or(path);
    } else if !matches!(version, (None | Some(0), _)) {
        return Err("a file with holes in a form that is not known here");
    }
    header.size = match map {
        _ if !is_file => 0,
        Map::None if header.data.is_none() => stored,
        Map::None | Map::Within | Map::Old => real.ok_or("a file with holes without its size")?,
    };
    // POSIX lets a hard link bring content; who did that has extended headers. Others say a size and have nothing, but for
    // directories that list what was in them (GNU tar, incremental).
    let brings = match header.what {
        What::Link(_) => !found.records.is_empty(),
        What::Directory => block[field::TYPE] == b'D',
        _ => is_file,
    };
    if !brings {
        stored = 0;
    }
    while path.len() > 1 && path.ends_with(b"/") {
        path.pop();
    }
    header.path = path;
    Ok(Made { header, stored, map })
}
