//! An entry of a manifest in a form that a sort holds: bytes.
//!
//! Comes in: facts of an inode; goes out: the entry that manifests have of it. Comes in: an entry, and the inode of one that
//! has several links; goes out: a payload, and from it and the path, which is the key of the sort, the same again.

use bulkhaul_formats::digest::{Algorithm, Digest};
use bulkhaul_formats::manifest::{Entry, Kind};
use bulkhaul_sys::{self as sys, Identity, Stat};

use crate::entry::Details;
use crate::tree::times::{nanoseconds, time};

/// An inode with several links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Links {
    /// Which it is.
    pub inode: Identity,
    /// How many there are, in the trees and elsewhere.
    pub number: u32,
}

/// An entry, and its inode where that has several links.
pub type Found = (Entry, Option<Links>);

/// What all names of one file show: size, times, mode and owners.
pub type Facts = (u64, i128, i128, u32, u32, u32);
/// Bytes of the same in a key.
pub const FACTS_BYTES: usize = 52;

/// What an entry shows that all names of its file do. Numbers of inodes alone don't tell files apart: where several file
/// systems are seen as one, different files may have one number.
pub fn facts(entry: &Entry) -> Facts {
    (
        entry.size.unwrap_or_default(),
        entry.mtime.unwrap_or_default(),
        entry.ctime.unwrap_or_default(),
        entry.mode.unwrap_or_default(),
        entry.uid.unwrap_or_default(),
        entry.gid.unwrap_or_default(),
    )
}

/// The same behind what is in a key.
pub fn facts_key((size, mtime, ctime, mode, uid, gid): Facts, key: &mut Vec<u8>) {
    key.extend_from_slice(&size.to_be_bytes());
    key.extend_from_slice(&mtime.to_be_bytes());
    key.extend_from_slice(&ctime.to_be_bytes());
    for number in [mode, uid, gid] {
        key.extend_from_slice(&number.to_be_bytes());
    }
}

/// What the facts of an inode say, as manifests have it, without a path.
pub fn of(stat: &Stat) -> Found {
    let content = matches!(stat.kind, sys::Kind::File | sys::Kind::Symlink);
    let entry = Entry {
        kind: Some(listed_kind(stat.kind)),
        size: Some(if content { stat.size } else { 0 }),
        mtime: Some(nanoseconds(stat.mtime)),
        ctime: Some(nanoseconds(stat.ctime)),
        mode: Some(stat.mode),
        uid: Some(stat.uid),
        gid: Some(stat.gid),
        ..Entry::default()
    };
    let links = Links {
        inode: stat.id,
        number: stat.nlink,
    };
    let several = stat.kind != sys::Kind::Directory && stat.nlink > 1;
    (entry, several.then_some(links))
}

/// What an event tells of an entry that a manifest has.
pub fn details(entry: &Entry) -> Details {
    Details {
        size: entry.size.unwrap_or_default(),
        vague: false,
        mtime: time(entry.mtime.unwrap_or_default()),
        mode: entry.mode.unwrap_or_default(),
        uid: entry.uid.unwrap_or_default(),
        gid: entry.gid.unwrap_or_default(),
        rdev: 0,
        xattrs: 0,
    }
}

/// The kinds by their number in a record.
const KINDS: [Kind; 7] = [
    Kind::File,
    Kind::Directory,
    Kind::Symlink,
    Kind::Fifo,
    Kind::Socket,
    Kind::Block,
    Kind::Char,
];
const LINKS: u8 = 1;
const TARGET: u8 = 1 << 1;
const MTIME: u8 = 1 << 2;
const KIND: u8 = 1 << 3;
const SIZE: u8 = 1 << 4;
const CTIME: u8 = 1 << 5;
const MODE: u8 = 1 << 6;
const OWNER: u8 = 1 << 7;

/// Writes all of an entry but its path into `bytes`, behind what is there. Of its owners both are known, or none.
pub fn encode(entry: &Entry, links: Option<Links>, bytes: &mut Vec<u8>) {
    let kind = KINDS.iter().position(|kind| entry.kind == Some(*kind)).unwrap_or(0);
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    bytes.push(
        flag(links.is_some(), LINKS)
            | flag(entry.target.is_some(), TARGET)
            | flag(entry.mtime.is_some(), MTIME)
            | flag(entry.ctime.is_some(), CTIME)
            | flag(entry.mode.is_some(), MODE)
            | flag(entry.uid.is_some(), OWNER)
            | flag(entry.kind.is_some(), KIND)
            | flag(entry.size.is_some(), SIZE),
    );
    bytes.push(u8::try_from(kind).unwrap_or_default());
    bytes.extend_from_slice(&entry.size.unwrap_or_default().to_le_bytes());
    for time in [entry.mtime, entry.ctime] {
        bytes.extend_from_slice(&time.unwrap_or_default().to_le_bytes());
    }
    for number in [entry.mode, entry.uid, entry.gid] {
        bytes.extend_from_slice(&number.unwrap_or_default().to_le_bytes());
    }
    if let Some(Links { inode, number }) = links {
        bytes.extend_from_slice(&inode.dev.to_le_bytes());
        bytes.extend_from_slice(&inode.ino.to_le_bytes());
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.push(u8::try_from(entry.digests.len()).unwrap_or_default());
    for digest in &entry.digests {
        bytes.push(digest.algorithm() as u8);
        bytes.extend_from_slice(digest.bytes());
    }
    bytes.extend_from_slice(entry.target.as_deref().unwrap_or_default());
}

/// Reads what [`encode`] wrote; `None` where it did not.
pub fn decode(path: &[u8], bytes: &[u8]) -> Option<Found> {
    fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
        let (number, after) = rest.split_first_chunk()?;
        *rest = after;
        Some(number)
    }
    let (&[flags, kind], mut rest) = bytes.split_first_chunk()?;
    let rest = &mut rest;
    let known = |bit: u8| flags & bit != 0;
    let kind = *KINDS.get(usize::from(kind))?;
    let mut entry = Entry {
        kind: known(KIND).then_some(kind),
        size: Some(u64::from_le_bytes(*take(rest)?)).filter(|_| known(SIZE)),
        mtime: Some(i128::from_le_bytes(*take(rest)?)).filter(|_| known(MTIME)),
        ctime: Some(i128::from_le_bytes(*take(rest)?)).filter(|_| known(CTIME)),
        mode: Some(u32::from_le_bytes(*take(rest)?)).filter(|_| known(MODE)),
        uid: Some(u32::from_le_bytes(*take(rest)?)).filter(|_| known(OWNER)),
        gid: Some(u32::from_le_bytes(*take(rest)?)).filter(|_| known(OWNER)),
        ..Entry::new(path.to_vec(), Vec::new())
    };
    let links = if known(LINKS) {
        Some(Links {
            inode: Identity {
                dev: u64::from_le_bytes(*take(rest)?),
                ino: u64::from_le_bytes(*take(rest)?),
            },
            number: u32::from_le_bytes(*take(rest)?),
        })
    } else {
        None
    };
    let [digests] = *take(rest)?;
    for _ in 0..digests {
        let [algorithm] = *take(rest)?;
        let algorithm = *Algorithm::ALL.get(usize::from(algorithm))?;
        let (digest, after) = rest.split_at_checked(algorithm.digest_bytes())?;
        *rest = after;
        entry.digests.push(Digest::new(algorithm, digest)?);
    }
    entry.target = known(TARGET).then(|| rest.to_vec());
    Some((entry, links))
}

/// What an inode is, as manifests and lists say it.
pub fn listed_kind(kind: sys::Kind) -> Kind {
    match kind {
        sys::Kind::File | sys::Kind::Unknown => Kind::File,
        sys::Kind::Directory => Kind::Directory,
        sys::Kind::Symlink => Kind::Symlink,
        sys::Kind::Fifo => Kind::Fifo,
        sys::Kind::Socket => Kind::Socket,
        sys::Kind::Block => Kind::Block,
        sys::Kind::Char => Kind::Char,
    }
}

/// The kind that an entry says, or means.
pub fn kind_of(entry: &Entry) -> sys::Kind {
    match entry.kind {
        None | Some(Kind::File) => sys::Kind::File,
        Some(Kind::Directory) => sys::Kind::Directory,
        Some(Kind::Symlink) => sys::Kind::Symlink,
        Some(Kind::Fifo) => sys::Kind::Fifo,
        Some(Kind::Socket) => sys::Kind::Socket,
        Some(Kind::Block) => sys::Kind::Block,
        Some(Kind::Char) => sys::Kind::Char,
    }
}

#[cfg(test)]
mod tests {
    use bulkhaul_formats::digest::Hashers;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reads_back(
            path: Vec<u8>,
            kind: Option<usize>,
            size: Option<u64>,
            times: Option<(i128, i128)>,
            owner: (u32, u32, u32),
            target: Option<Vec<u8>>,
            links: Option<(u64, u64, u32)>,
            hashed: bool,
        ) {
            let algorithms = [Algorithm::Blake3, Algorithm::Md5];
            let mut hashers = Hashers::new(&algorithms);
            hashers.update(&path);
            let entry = Entry {
                kind: kind.map(|kind| KINDS[kind % KINDS.len()]),
                size,
                mtime: times.map(|(mtime, _)| mtime),
                ctime: times.map(|(_, ctime)| ctime),
                mode: Some(owner.0),
                uid: Some(owner.1),
                gid: Some(owner.2),
                target,
                ..Entry::new(path.clone(), if hashed { hashers.finish() } else { Vec::new() })
            };
            let links = links.map(|(dev, ino, number)| Links { inode: Identity { dev, ino }, number });
            let mut bytes = Vec::new();
            encode(&entry, links, &mut bytes);
            prop_assert_eq!(decode(&path, &bytes), Some((entry, links)));
        }
    }
}
