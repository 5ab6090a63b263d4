//! POSIX access control lists, as the extended attributes `system.posix_acl_*` hold them: what they mean for a mode, and how
//! archives write them.

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

const ATTRIBUTES: [(&[u8], &[u8]); 2] = [
    (b"system.posix_acl_access", b"SCHILY.acl.access"),
    (b"system.posix_acl_default", b"SCHILY.acl.default"),
];
/// Tags of entries, and how they are written; those for a named user or group twice.
const TAGS: [(u16, &str); 6] = [
    (0x01, "user"),
    (0x02, "user"),
    (0x04, "group"),
    (0x08, "group"),
    (0x10, "mask"),
    (0x20, "other"),
];
const NOBODY: u32 = u32::MAX;

/// The keyword under which archives have a list, by the name of its attribute.
pub fn keyword(attribute: &[u8]) -> Option<&'static [u8]> {
    let known = ATTRIBUTES.iter().find(|(name, _)| *name == attribute);
    known.map(|(_, keyword)| *keyword)
}

/// The name of the attribute, by the keyword.
pub fn attribute(keyword: &[u8]) -> Option<&'static [u8]> {
    let known = ATTRIBUTES.iter().find(|(_, known)| *known == keyword);
    known.map(|(name, _)| *name)
}

/// A list in its short text form (`acl(5)`), with numbers for names; `None` where the value is none.
pub fn to_text(value: &[u8]) -> Option<String> {
    Acl::parse(value)?;
    let mut text = String::new();
    for entry in value[HEADER_BYTES..].chunks_exact(ENTRY_BYTES) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let (_, name) = TAGS.iter().find(|(known, _)| *known == tag)?;
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let who = if matches!(tag, 0x02 | 0x08) {
            id.to_string()
        } else {
            String::new()
        };
        let bit = |bit: u8, letter: char| if entry[2] & bit == 0 { '-' } else { letter };
        let comma = if text.is_empty() { "" } else { "," };
        let bits = [bit(4, 'r'), bit(2, 'w'), bit(1, 'x')];
        text.push_str(&[comma, name, ":", &who, ":"].concat());
        text.extend(bits);
    }
    Some(text)
}

/// A list from its text form, entries apart by commas or lines, perhaps with a number behind a name (star); `None` where it
/// is none, or names somebody whose number it does not say.
pub fn from_text(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut entries = Vec::new();
    for entry in text.split([',', '\n']) {
        let entry = entry.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let mut fields = entry.split(':');
        let (who, name, bits, number) = (fields.next()?, fields.next()?, fields.next()?, fields.next());
        let named = u16::from(!name.is_empty());
        let tag = match who {
            "user" | "u" => 0x01 + named,
            "group" | "g" => 0x04 + 4 * named,
            "mask" | "m" if named == 0 => 0x10,
            "other" | "o" if named == 0 => 0x20,
            _ => return None,
        };
        let id = if named == 0 {
            NOBODY
        } else {
            number
                .and_then(|number| number.trim().parse().ok())
                .or_else(|| name.parse().ok())?
        };
        let bits = bits.trim().bytes().try_fold(0_u16, |sum, letter| match letter {
            b'r' => Some(sum | 4),
            b'w' => Some(sum | 2),
            b'x' => Some(sum | 1),
            b'-' => Some(sum),
            _ => None,
        })?;
        entries.push((tag, id, bits));
    }
    if entries.is_empty() {
        return None;
    }
    // The order that the kernel wants.
    entries.sort_unstable();
    let mut value = VERSION.to_le_bytes().to_vec();
    for (tag, id, bits) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&bits.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    Some(value)
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
    fn lists_as_text() {
        let text = "user::rw-,user:1000:rwx,group::r--,group:7:---,mask::rw-,other::---";
        let list = from_text(text.as_bytes()).unwrap();
        assert_eq!(to_text(&list).unwrap(), text);
        assert_eq!(Acl::parse(&list).unwrap().mode(), 0o660);
        // As star and GNU tar write it.
        let other = b"user::rw-\nother::---\nuser:lisa:rwx:1000\ngroup::r--\t#effective:r--\nmask::rw-\ng:7:---\n";
        assert_eq!(from_text(other), Some(list));
        for wrong in [
            &b""[..],
            b"user:lisa:rwx",
            b"user::rwz",
            b"nobody::rwx",
            b"\xff",
            b"other:7:rwx",
            b"user",
        ] {
            assert_eq!(from_text(wrong), None, "{wrong:?}");
        }
        for attribute in ["system.posix_acl_access", "system.posix_acl_default"] {
            assert_eq!(
                super::attribute(keyword(attribute.as_bytes()).unwrap()),
                Some(attribute.as_bytes())
            );
        }
    }

    #[test]
    fn what_is_no_list() {
        for bytes in [&b""[..], b"\x02\0\0", b"\x01\0\0\0", b"\x02\0\0\0\x01\0\x07\0\0\0\0"] {
            assert_eq!(Acl::parse(bytes), None, "{bytes:?}");
        }
        assert_eq!(Acl::parse(&VERSION.to_le_bytes()), Some(Acl::default()));
    }
}
