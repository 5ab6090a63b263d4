//! POSIX access control lists, as the extended attributes `system.posix_acl_*` hold them: what they mean for a mode.

/// The only version of the form that there is (`linux/posix_acl_xattr.h`).
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 4;
const ENTRY_BYTES: usize = 8;

/// What a list says to its owner, its group, the mask over all that are named, and everybody else: bits as in `rwx`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    /// The owner.
    pub user: u32,
    /// The owning group.
    pub group: u32,
    /// The most that groups and named users get; `None`: nobody is named.
    pub mask: Option<u32>,
    /// Everybody else.
    pub other: u32,
}

impl Acl {
    /// Reads the value of an attribute; `None` where it is not one.
    pub fn parse(value: &[u8]) -> Option<Self> {
        const USER_OWNER: u16 = 0x01;
        const GROUP_OWNER: u16 = 0x04;
        const MASK: u16 = 0x10;
        const OTHER: u16 = 0x20;
        let (header, entries) = value.split_first_chunk::<HEADER_BYTES>()?;
        if u32::from_le_bytes(*header) != VERSION || entries.len() % ENTRY_BYTES != 0 {
            return None;
        }
        let mut acl = Self::default();
        for entry in entries.chunks_exact(ENTRY_BYTES) {
            let bits = u32::from(u16::from_le_bytes([entry[2], entry[3]])) & 0o7;
            match u16::from_le_bytes([entry[0], entry[1]]) {
                USER_OWNER => acl.user = bits,
                GROUP_OWNER => acl.group = bits,
                MASK => acl.mask = Some(bits),
                OTHER => acl.other = bits,
                _ => {}
            }
        }
        Some(acl)
    }

    /// The mode of an entry with this list: the group's bits are those of the mask.
    pub fn mode(self) -> u32 {
        self.user << 6 | self.mask.unwrap_or(self.group) << 3 | self.other
    }

    /// The mode that gives nobody more where the list itself can't be had: the owning group may have less than the mask.
    pub fn mode_without(self) -> u32 {
        self.user << 6 | (self.group & self.mask.unwrap_or(self.group)) << 3 | self.other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(entries: &[(u16, u16)]) -> Vec<u8> {
        let mut value = VERSION.to_le_bytes().to_vec();
        for (tag, bits) in entries {
            value.extend(tag.to_le_bytes());
            value.extend(bits.to_le_bytes());
            value.extend(u32::MAX.to_le_bytes());
        }
        value
    }

    #[test]
    fn modes_of_lists() {
        // user::rw-, user:N:rwx, group::r--, mask::rw-, other::---
        let named = Acl::parse(&value(&[(1, 6), (2, 7), (4, 4), (0x10, 6), (0x20, 0)])).unwrap();
        assert_eq!((named.mode(), named.mode_without()), (0o660, 0o640));
        let plain = Acl::parse(&value(&[(1, 7), (4, 5), (0x20, 1)])).unwrap();
        assert_eq!((plain.mode(), plain.mode_without()), (0o751, 0o751));
        // The mask takes away from the group, too.
        let narrow = Acl::parse(&value(&[(1, 7), (4, 7), (0x10, 1), (0x20, 0)])).unwrap();
        assert_eq!((narrow.mode(), narrow.mode_without()), (0o710, 0o710));
    }

    #[test]
    fn what_is_no_list() {
        for bytes in [&b""[..], b"\x02\0\0", b"\x01\0\0\0", b"\x02\0\0\0\x01\0\x07\0\0\0\0"] {
            assert_eq!(Acl::parse(bytes), None, "{bytes:?}");
        }
        assert_eq!(Acl::parse(&VERSION.to_le_bytes()), Some(Acl::default()));
    }
}
