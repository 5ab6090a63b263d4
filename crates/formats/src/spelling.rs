//! The spellings of a name that look alike: what stands for all of them that some file system takes for one, and what a name
//! is in the other normal forms of Unicode.
//!
//! Comes in: a name or a path; goes out: a digest that is the same for names which differ only by case, by the form of their
//! letters (composed, decomposed, compatible), or by characters that show nothing. It is coarser than any one file system
//! (ext4 and f2fs with casefold, APFS, HFS+, NTFS, ZFS with normalization): whoever keeps what has one digest loses nothing.

use unicode_normalization::UnicodeNormalization as _;

use crate::digest::xxh64;

/// Code points that Unicode has as `Default_Ignorable_Code_Point` (`DerivedCoreProperties.txt`, 16.0): casefolding
/// directories of Linux pass over them.
const IGNORABLE: [(u32, u32); 17] = [
    (0x00AD, 0x00AD),
    (0x034F, 0x034F),
    (0x061C, 0x061C),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFF8),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
];

fn shows(char: char) -> bool {
    let code = u32::from(char);
    !IGNORABLE.iter().any(|(first, last)| (*first..=*last).contains(&code))
}

/// The digest; never 0. Bytes that are no text count as one sign each.
#[must_use]
pub fn of_any_spelling(name: &[u8]) -> u64 {
    if name.is_ascii() {
        return xxh64(&name.to_ascii_lowercase()) | 1;
    }
    let text = String::from_utf8_lossy(name);
    // What has no other small letter may have one behind its great one: ẞ, ß, SS, ss.
    let folded = text
        .nfkd()
        .filter(|char| shows(*char))
        .flat_map(char::to_lowercase)
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase);
    xxh64(folded.nfkd().collect::<String>().as_bytes()) | 1
}

/// A path as text of the composed and of the decomposed form has it, each with the name of the form, where that is another one.
#[must_use]
pub fn other_forms(path: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let Some(text) = std::str::from_utf8(path).ok().filter(|text| !text.is_ascii()) else {
        return Vec::new();
    };
    let forms: [(_, String); 2] = [("NFC", text.nfc().collect()), ("NFD", text.nfd().collect())];
    let forms = forms.into_iter().filter(|(_, other)| other != text);
    forms.map(|(form, other)| (form, other.into_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::{of_any_spelling, other_forms};

    #[test]
    fn a_path_in_other_forms() {
        let composed = "\u{e9}t\u{e9}/\u{ac00}".as_bytes().to_vec();
        let decomposed = "e\u{301}te\u{301}/\u{1100}\u{1161}".as_bytes().to_vec();
        assert_eq!(other_forms(&composed), [("NFD", decomposed.clone())]);
        assert_eq!(other_forms(&decomposed), [("NFC", composed.clone())]);
        let mixed = "\u{e9}te\u{301}/\u{ac00}".as_bytes();
        assert_eq!(other_forms(mixed), [("NFC", composed), ("NFD", decomposed)]);
        for same in [&b"ete"[..], "\u{df}".as_bytes(), b"\xc3", b"\xe9"] {
            assert_eq!(other_forms(same), []);
        }
    }

    #[test]
    fn spellings_of_one_name_are_one() {
        for spellings in [
            vec!["photo", "PHOTO", "Photo"],
            vec!["caf\u{e9}", "cafe\u{301}", "CAF\u{c9}"],
            vec!["stra\u{df}e", "STRASSE", "strasse", "stra\u{1e9e}e"],
            vec!["\u{212b}", "\u{c5}", "A\u{30a}", "a\u{30a}"],
            vec!["\u{ac00}", "\u{1100}\u{1161}"],
            vec!["\u{fb01}le", "file"],
            vec!["a\u{200d}b", "ab", "A\u{fe0f}B"],
            vec!["\u{3a3}", "\u{3c3}", "\u{3c2}"],
        ] {
            let mut digests: Vec<_> = spellings.iter().map(|name| of_any_spelling(name.as_bytes())).collect();
            digests.dedup();
            assert_eq!(digests.len(), 1, "{spellings:?}");
        }
    }

    #[test]
    fn other_names_are_others() {
        let names = [
            "a", "b", "a/b", "ab", "\u{e9}", "e", "1", "10", "", "\u{4e00}", "\u{4e8c}",
        ];
        let mut digests: Vec<_> = names.iter().map(|name| of_any_spelling(name.as_bytes())).collect();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), names.len());
        assert_eq!(
            of_any_spelling(b"\xff"),
            of_any_spelling(b"\xfe"),
            "no text: taken for one, which is safe"
        );
    }
}
