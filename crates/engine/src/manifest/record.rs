//! An entry of a manifest in a form that a sort holds: bytes.
//!
//! Comes in: an entry, and the inode of one that has several links; goes out: a payload, and from it and the path, which is
//! the key of the sort, the same again.

use bulkhaul_formats::digest::{Algorithm, Digest};
use bulkhaul_formats::manifest::{Entry, Kind};
use bulkhaul_sys::Identity;

/// An inode with several links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Links {
    /// Which it is.
    pub inode: Identity,
    /// How many there are, in the trees and elsewhere.
    pub number: u32,
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
const DIGESTS: u8 = 1 << 2;
const TIMES: u8 = 1 << 3;

/// Writes all of an entry but its path into `bytes`, which is emptied first. Of its times both are known, or none; what
/// else is not known counts as 0.
pub fn encode(entry: &Entry, links: Option<Links>, bytes: &mut Vec<u8>) {
    let kind = KINDS.iter().position(|kind| entry.kind == Some(*kind)).unwrap_or(0);
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    bytes.clear();
    bytes.push(u8::try_from(kind).unwrap_or_default());
    bytes.push(
        flag(links.is_some(), LINKS)
            | flag(entry.target.is_some(), TARGET)
            | flag(!entry.digests.is_empty(), DIGESTS)
            | flag(entry.mtime.is_some(), TIMES),
    );
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
    for digest in &entry.digests {
        bytes.extend_from_slice(digest.bytes());
    }
    bytes.extend_from_slice(entry.target.as_deref().unwrap_or_default());
}

/// Reads what [`encode`] wrote, of an entry that has digests of these algorithms or none; `None` where it did not.
pub fn decode(path: &[u8], bytes: &[u8], algorithms: &[Algorithm]) -> Option<(Entry, Option<Links>)> {
    fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
        let (number, after) = rest.split_first_chunk()?;
        *rest = after;
        Some(number)
    }
    let (&[kind, flags], mut rest) = bytes.split_first_chunk()?;
    let rest = &mut rest;
    let known = flags & TIMES != 0;
    let mut entry = Entry {
        kind: Some(*KINDS.get(usize::from(kind))?),
        size: Some(u64::from_le_bytes(*take(rest)?)),
        mtime: Some(i128::from_le_bytes(*take(rest)?)).filter(|_| known),
        ctime: Some(i128::from_le_bytes(*take(rest)?)).filter(|_| known),
        mode: Some(u32::from_le_bytes(*take(rest)?)),
        uid: Some(u32::from_le_bytes(*take(rest)?)),
        gid: Some(u32::from_le_bytes(*take(rest)?)),
        ..Entry::new(path.to_vec(), Vec::new())
    };
    let links = if flags & LINKS == 0 {
        None
    } else {
        Some(Links {
            inode: Identity {
                dev: u64::from_le_bytes(*take(rest)?),
                ino: u64::from_le_bytes(*take(rest)?),
            },
            number: u32::from_le_bytes(*take(rest)?),
        })
    };
    if flags & DIGESTS != 0 {
        for algorithm in algorithms {
            let (digest, after) = rest.split_at_checked(algorithm.digest_bytes())?;
            *rest = after;
            entry.digests.push(Digest::new(*algorithm, digest)?);
        }
    }
    entry.target = (flags & TARGET != 0).then(|| rest.to_vec());
    Some((entry, links))
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
            kind in 0..KINDS.len(),
            size: u64,
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
                kind: Some(KINDS[kind]),
                size: Some(size),
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
            prop_assert_eq!(decode(&path, &bytes, &algorithms), Some((entry, links)));
        }
    }
}
