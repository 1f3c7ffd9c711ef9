//! Names without regard to case.
//!
//! Unicode's simple case folding, character by character: `A` and `a`, `É` and `é`, `Σ`, `σ` and `ς` are the same, `ß` and
//! `ss` are not, nor are an accented letter and a letter with an accent behind it. Windows compares names in this manner, with a
//! table of its own that has fewer characters. A byte that is not UTF-8 stands for itself.

use icu_casemap::CaseMapper;

/// What names have in common that differ only in case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FoldedName(Box<[u8]>);

impl FoldedName {
    /// The folded form of a name.
    pub fn of(name: &[u8]) -> Self {
        if name.is_ascii() {
            return Self(name.to_ascii_lowercase().into());
        }
        let mut folded = Vec::with_capacity(name.len());
        for part in parts(name) {
            match part {
                Part::Char(c) => folded.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
                Part::Byte(byte) => folded.push(byte),
            }
        }
        Self(folded.into())
    }

    /// The folded form as bytes, of which two are the same if the names are.
    pub fn into_bytes(self) -> Box<[u8]> {
        self.0
    }
}

/// The folded characters of a name as numbers that differ where [`FoldedName`]s do.
pub(crate) fn folded(name: &[u8]) -> impl Iterator<Item = u32> {
    parts(name).map(|part| match part {
        Part::Char(c) => u32::from(c),
        // No character has such a number.
        Part::Byte(byte) => 0xdc00 + u32::from(byte),
    })
}

/// A part of a folded name.
enum Part {
    Char(char),
    /// Not UTF-8.
    Byte(u8),
}

fn parts(name: &[u8]) -> impl Iterator<Item = Part> {
    let mapper = CaseMapper::new();
    name.utf8_chunks().flat_map(move |chunk| {
        let valid = chunk.valid().chars();
        let valid = valid.map(move |c| Part::Char(mapper.simple_fold(c)));
        let invalid = chunk.invalid().iter();
        valid.chain(invalid.map(|&byte| Part::Byte(byte)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_same(one: &[u8], other: &[u8]) -> bool {
        let by_name = FoldedName::of(one) == FoldedName::of(other);
        assert_eq!(by_name, folded(one).eq(folded(other)), "{one:?} {other:?}");
        by_name
    }

    #[test]
    fn case_is_the_only_difference_that_does_not_count() {
        for (one, other) in [
            ("Wood.EXR", "wood.exr"),
            ("ÉTÉ", "été"),
            ("ΣΑΣ", "σας"),
            ("ДЫМ", "дым"),
            ("\u{212a}elvin", "kelvin"),
            ("ǅ", "ǆ"),
        ] {
            assert!(is_same(one.as_bytes(), other.as_bytes()), "{one} {other}");
        }
        for (one, other) in [
            ("a", "b"),
            ("ß", "ss"),
            ("é", "e\u{301}"),
            ("i", "\u{131}"),
            ("İ", "i"),
            ("wood", "wood "),
        ] {
            assert!(!is_same(one.as_bytes(), other.as_bytes()), "{one} {other}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_stand_for_themselves() {
        assert!(is_same(b"A\xffB", b"a\xffb"));
        assert!(!is_same(b"A\xffB", b"a\xfeb"));
        assert!(!is_same(b"\xc3", "é".as_bytes()));
    }
}
