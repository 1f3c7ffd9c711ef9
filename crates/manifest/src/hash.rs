//! Content hashes: XXH3-128, the only algorithm the formats know (`"hashAlg":"xxh128"`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

/// The XXH3-128 hash of some bytes, big-endian as its hexadecimal text reads.
///
/// A hash names an object in the store and a file in the cache, so nothing else may get that far:
/// the only ways to make one are to hash bytes or to parse exactly 32 lower-case hex digits.
/// It detects damage, not tampering.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContentHash([u8; 16]);

/// Why a text is not a [`ContentHash`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseHashError {
    /// Not 32 characters long.
    #[error("a content hash has 32 hexadecimal digits, this text has {0} bytes")]
    Length(usize),
    /// A character outside `0-9a-f`.
    #[error("a content hash has only the digits 0-9 and a-f, byte {position} is something else")]
    Digit {
        /// Offset of the first offending byte.
        position: usize,
    },
}

impl ContentHash {
    /// Hashes bytes that are in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(xxhash_rust::xxh3::xxh3_128(bytes).to_be_bytes())
    }

    /// The hash whose bytes these are.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes, in the order in which the hexadecimal text shows them.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The 32 lower-case hexadecimal digits, without an allocation.
    pub fn to_hex(self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 32];
        for (i, byte) in self.0.iter().enumerate() {
            hex[2 * i] = DIGITS[usize::from(byte >> 4)];
            hex[2 * i + 1] = DIGITS[usize::from(byte & 15)];
        }
        hex
    }
}

/// The value of each hexadecimal digit in lower case, 0xff for any other byte.
const DIGIT_VALUES: [u8; 256] = {
    let mut values = [0xff; 256];
    let digits = b"0123456789abcdef";
    let mut value = 0;
    while value < digits.len() {
        values[digits[value] as usize] = value as u8;
        value += 1;
    }
    values
};

impl ContentHash {
    /// The hash with these digits; `None` if they are not all `0-9a-f`.
    pub(crate) fn from_hex(digits: &[u8; 32]) -> Option<Self> {
        let mut bytes = [0; 16];
        let mut all = 0;
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            let [high, low] = pair.map(|digit| DIGIT_VALUES[usize::from(digit)]);
            all |= high | low;
            *byte = high << 4 | low & 15;
        }
        (all < 16).then_some(Self(bytes))
    }

    /// The hash that a text spells.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, ParseHashError> {
        let digits: &[u8; 32] = text
            .try_into()
            .map_err(|_| ParseHashError::Length(text.len()))?;
        Self::from_hex(digits).ok_or_else(|| {
            let is_digit = |&digit: &u8| DIGIT_VALUES[usize::from(digit)] < 16;
            let position = digits.iter().take_while(|digit| is_digit(digit)).count();
            ParseHashError::Digit { position }
        })
    }
}

impl FromStr for ContentHash {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<Self, ParseHashError> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.to_hex()).expect("hexadecimal digits are ASCII"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Hashes bytes that arrive piece by piece.
#[derive(Clone, Default)]
pub struct Hasher(Xxh3);

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds so many bytes that are zero.
    pub fn update_zeros(&mut self, mut len: u64) {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while len > 0 {
            let part = len.min(ZEROS.len() as u64);
            self.update(&ZEROS[..part as usize]);
            len -= part;
        }
    }

    /// The hash of everything added so far.
    pub fn finish(&self) -> ContentHash {
        ContentHash(self.0.digest128().to_be_bytes())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_hash_is_the_hash_again() {
        let text = "a96faf705af16834e6c632b61e964e1f";
        let hash: ContentHash = text.parse().unwrap();
        assert_eq!(hash, ContentHash::of(b"a"));
        assert_eq!(hash.to_string(), text);
    }

    #[test]
    fn hashing_piece_by_piece_gives_the_hash_of_the_whole() {
        let mut hasher = Hasher::new();
        hasher.update(b"hello ");
        hasher.update(b"world\n");
        assert_eq!(hasher.finish(), ContentHash::of(b"hello world\n"));
    }

    #[test]
    fn zeros_that_are_only_counted_have_the_hash_of_zeros() {
        for len in [0, 1, 65_536, 200_000] {
            let mut hasher = Hasher::new();
            hasher.update_zeros(len);
            assert_eq!(hasher.finish(), ContentHash::of(&vec![0; len as usize]));
        }
    }

    #[test]
    fn only_32_lower_case_digits_are_a_hash() {
        for (text, error) in [
            ("", ParseHashError::Length(0)),
            (
                "a96faf705af16834e6c632b61e964e1",
                ParseHashError::Length(31),
            ),
            (
                "A96faf705af16834e6c632b61e964e1f",
                ParseHashError::Digit { position: 0 },
            ),
            (
                "../f705af16834e6c632b61e964e1f00",
                ParseHashError::Digit { position: 0 },
            ),
            (
                "a96faf705af16834e6c632b61e964e1\n",
                ParseHashError::Digit { position: 31 },
            ),
        ] {
            assert_eq!(text.parse::<ContentHash>(), Err(error), "{text}");
        }
    }
}
