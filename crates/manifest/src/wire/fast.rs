//! Pieces of text that every writer of the canonical form writes alike, read without looking for
//! anything else.
//!
//! A manifest of a million files is a million times the same few keys. These readers take exactly the
//! canonical spelling and give `None` for anything else, which the general reader then reads, or
//! refuses with the reason. They never accept what it would not.

use super::reader::plain_len;
use crate::{ContentHash, Mtime};

/// A place in the text of one entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Canonical<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Canonical<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// How many bytes were read.
    pub(super) fn len(self) -> usize {
        self.at
    }

    /// Passes over these bytes.
    pub(super) fn skip(&mut self, literal: &[u8]) -> Option<()> {
        let rest = self.text[self.at..].strip_prefix(literal)?;
        self.at = self.text.len() - rest.len();
        Some(())
    }

    /// 32 lower-case hexadecimal digits.
    pub(super) fn hash(&mut self) -> Option<ContentHash> {
        let digits = self.text[self.at..].first_chunk::<32>()?;
        let hash = ContentHash::from_hex(digits)?;
        self.at += digits.len();
        Some(hash)
    }

    /// The rest of a string without escapes, up to its quote, which is passed over.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let rest = &self.text[self.at..];
        let string = &rest[..plain_len(rest)];
        self.at += string.len();
        self.skip(b"\"")?;
        Some(string)
    }

    /// Up to 18 digits, which fit into any of the types, without a needless zero.
    pub(super) fn number(&mut self) -> Option<u64> {
        let rest = &self.text[self.at..];
        let mut number = 0;
        let mut len = 0;
        while let Some(digit) = rest.get(len).filter(|byte| byte.is_ascii_digit()) {
            number = 10 * number + u64::from(digit - b'0');
            len += 1;
            if len > 18 {
                return None;
            }
        }
        if len == 0 || len > 1 && rest[0] == b'0' {
            return None;
        }
        self.at += len;
        Some(number)
    }

    pub(super) fn mtime(&mut self) -> Option<Mtime> {
        let is_negative = self.skip(b"-").is_some();
        let micros = i64::try_from(self.number()?).ok()?;
        Some(Mtime(if is_negative { -micros } else { micros }))
    }
}

/// Hash, time, path and size as a writer may spell them, canonical or not.
#[cfg(test)]
pub(super) fn spellings()
-> impl proptest::strategy::Strategy<Value = (String, String, String, String)> {
    let number =
        "-?(0|[0-9]{1,3}|9{17,20}|1000000000000000000|9223372036854775807)|1\\.0|1e3|true| 1";
    (
        "[0-9a-f]{32}|[0-9a-fA-F]{31,33}|[0-9a-g]{32}",
        number,
        "[a\u{e9}\u{7f}\u{1f600}$/.]{0,9}|[ab\\\\\"u0-9]{0,9}|\\\\u00e9|\\\\udcff",
        number,
    )
}
