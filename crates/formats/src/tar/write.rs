//! Entries as blocks.

use super::field::{self, Field};
use super::{BLOCK, Header, Stretch, What, checksum, pax};
use crate::acl;

/// The name of an extended header: whoever does not know these finds a file of that name.
const EXTENDED_NAME: &[u8] = b"PaxHeaders/entry";
/// What no octal field holds.
const LARGEST_ID: u64 = 0o7_777_777;
const LARGEST_SIZE: u64 = 0o77_777_777_777;
const SECOND: i128 = 1_000_000_000;

/// Zeros after so many bytes of content, up to the next block.
pub fn padding(bytes: u64) -> usize {
    let over = usize::try_from(bytes % BLOCK as u64).unwrap_or_default();
    if over == 0 { 0 } else { BLOCK - over }
}

/// Appends all blocks of an entry that come before its content: of a file [`Header::stored`] bytes follow, and their
/// [`padding`].
pub fn write(header: &Header, archive: &mut Vec<u8>) {
    let mut records = Vec::new();
    let mut stored = header.stored();
    let mut path = header.path.clone();
    if matches!(header.what, What::Directory) {
        path.push(b'/');
    }
    let link = match &header.what {
        What::Link(link) | What::Symlink(link) => &link[..],
        _ => b"",
    };
    let is_text = std::str::from_utf8(&path).is_ok() && std::str::from_utf8(link).is_ok();
    let long = path.len() > field::NAME.1 || link.len() > field::LINK.1;
    let map = map(header);
    stored = stored.saturating_add(map.len() as u64);
    if long && !is_text {
        pax::put(b"hdrcharset", b"BINARY", &mut records);
    }
    if map.is_empty() {
        if path.len() > field::NAME.1 {
            pax::put(b"path", &path, &mut records);
        }
    } else {
        pax::put(b"GNU.sparse.major", b"1", &mut records);
        pax::put(b"GNU.sparse.minor", b"0", &mut records);
        pax::put(b"GNU.sparse.name", &path, &mut records);
        pax::put(b"GNU.sparse.realsize", header.size.to_string().as_bytes(), &mut records);
        path = b"GNUSparseFile/entry".to_vec();
    }
    if link.len() > field::LINK.1 {
        pax::put(b"linkpath", link, &mut records);
    }
    for (keyword, number, largest) in [
        (&b"uid"[..], header.uid, LARGEST_ID),
        (b"gid", header.gid, LARGEST_ID),
        (b"size", stored, LARGEST_SIZE),
    ] {
        if number > largest {
            pax::put(keyword, number.to_string().as_bytes(), &mut records);
        }
    }
    let is_whole = header.mtime % SECOND == 0 && (0..=i128::from(LARGEST_SIZE)).contains(&(header.mtime / SECOND));
    let mtime = Some(header.mtime).filter(|_| !is_whole);
    for (keyword, time) in [
        (&b"mtime"[..], mtime),
        (b"atime", header.atime),
        (b"ctime", header.ctime),
    ] {
        if let Some(time) = time {
            pax::put(keyword, pax::time(time).as_bytes(), &mut records);
        }
    }
    for (name, value) in &header.xattrs {
        let text = acl::keyword(name).and_then(|keyword| Some((keyword, acl::to_text(value)?)));
        match text {
            Some((keyword, text)) => pax::put(keyword, text.as_bytes(), &mut records),
            None => pax::put(&[b"SCHILY.xattr.", &name[..]].concat(), value, &mut records),
        }
    }
    if !records.is_empty() {
        let extended = block(EXTENDED_NAME, b'x', records.len() as u64, |_| {});
        archive.extend_from_slice(&extended);
        archive.extend_from_slice(&records);
        archive.resize(archive.len() + padding(records.len() as u64), 0);
    }
    let (kind, device) = match header.what {
        What::File => (b'0', None),
        What::Link(_) => (b'1', None),
        What::Symlink(_) => (b'2', None),
        What::Char(major, minor) => (b'3', Some((major, minor))),
        What::Block(major, minor) => (b'4', Some((major, minor))),
        What::Directory => (b'5', None),
        What::Fifo => (b'6', None),
    };
    let own = block(&path, kind, stored, |block| {
        put(block, field::MODE, u64::from(header.mode & 0o7777));
        put(block, field::UID, header.uid);
        put(block, field::GID, header.gid);
        let seconds = if mtime.is_none() { header.mtime / SECOND } else { 0 };
        put(block, field::MTIME, u64::try_from(seconds).unwrap_or_default());
        text(block, field::LINK, link);
        if let Some((major, minor)) = device {
            put(block, field::MAJOR, major.into());
            put(block, field::MINOR, minor.into());
        }
    });
    archive.extend_from_slice(&own);
    archive.extend_from_slice(&map);
}

/// What stands before the data of a file with holes: a number of stretches, then an offset and a length for each, a line a
/// number; nothing for others.
fn map(header: &Header) -> Vec<u8> {
    let Some(data) = header.data.as_ref().filter(|_| matches!(header.what, What::File)) else {
        return Vec::new();
    };
    // A hole at the end needs an end: GNU tar takes the size of the file from there.
    let end = data.last().map_or(0, |last| last.offset + last.length);
    let last = (end < header.size).then_some(Stretch {
        offset: header.size,
        length: 0,
    });
    let mut map = (data.len() + usize::from(last.is_some())).to_string().into_bytes();
    map.push(b'\n');
    for stretch in data.iter().chain(&last) {
        for number in [stretch.offset, stretch.length] {
            map.extend_from_slice(number.to_string().as_bytes());
            map.push(b'\n');
        }
    }
    map.resize(map.len() + padding(map.len() as u64), 0);
    map
}

/// A header block.
fn block(name: &[u8], kind: u8, size: u64, fill: impl FnOnce(&mut [u8; BLOCK])) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    text(&mut block, field::NAME, name);
    for (field, number) in [
        (field::MODE, 0o644),
        (field::UID, 0),
        (field::GID, 0),
        (field::MTIME, 0),
    ] {
        put(&mut block, field, number);
    }
    put(&mut block, field::SIZE, size);
    block[field::TYPE] = kind;
    text(&mut block, field::MAGIC, b"ustar\x0000");
    fill(&mut block);
    // Six digits, a NUL and a blank.
    let (sum, (from, length)) = (checksum(&block), field::CHECKSUM);
    octal(&mut block[from..from + length - 2], sum.into());
    block[from + length - 1] = b' ';
    block
}

/// As much of a text as the field has room for.
fn text(block: &mut [u8; BLOCK], (from, length): Field, text: &[u8]) {
    let length = length.min(text.len());
    block[from..from + length].copy_from_slice(&text[..length]);
}

/// A number in octal digits and a NUL; one that is too large stands in the extended header, and here is 0.
fn put(block: &mut [u8; BLOCK], (from, length): Field, number: u64) {
    let digits = length - 1;
    let fits = 3 * digits >= 64 || number >> (3 * digits) == 0;
    octal(&mut block[from..from + digits], if fits { number } else { 0 });
}

/// The last octal digits of a number, as many as there is room for.
fn octal(room: &mut [u8], mut number: u64) {
    for digit in room.iter_mut().rev() {
        *digit = b'0' + (number.to_le_bytes()[0] & 7);
        number >>= 3;
    }
}
