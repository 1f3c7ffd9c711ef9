//! Strings in JSON text.

use std::borrow::Cow;

use super::{JsonError, Reader};

impl<'a> Reader<'a> {
    /// A string as bytes: UTF-8, except for the bytes that lone surrogates stand for.
    pub(in crate::wire) fn string(&mut self) -> Result<Cow<'a, [u8]>, JsonError> {
        self.take(b'"', "expected a string")?;
        let start = self.at;
        self.plain_characters();
        let plain = &self.text[start..self.at];
        match self.text.get(self.at) {
            Some(b'"') => {
                self.at += 1;
                Ok(Cow::Borrowed(plain))
            }
            Some(b'\\') => self.escaped_string(plain.to_vec()).map(Cow::Owned),
            _ => self.fail("a control character in a string"),
        }
    }

    /// Skips the characters that stand for themselves.
    fn plain_characters(&mut self) {
        self.at += plain_len(&self.text[self.at..]);
    }

    /// The rest of a string whose first escape comes next.
    fn escaped_string(&mut self, mut bytes: Vec<u8>) -> Result<Vec<u8>, JsonError> {
        let mut lone = 0;
        loop {
            match self.text.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.at += 1;
                    lone += usize::from(self.escape(&mut bytes)?);
                }
                Some(0x20..) => {
                    let start = self.at;
                    self.plain_characters();
                    bytes.extend_from_slice(&self.text[start..self.at]);
                }
                _ => return self.fail("a control character in a string"),
            }
        }
        let not_utf8: usize = bytes.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
        if lone != not_utf8 {
            // Written again, these bytes would come out as the character they spell.
            return self.fail("surrogates that spell a character");
        }
        self.at += 1;
        Ok(bytes)
    }

    /// One escape after its backslash. Says whether it was a lone surrogate.
    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<bool, JsonError> {
        let plain = match self.text.get(self.at) {
            Some(&byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape(bytes);
            }
            _ => return self.fail("an unknown escape"),
        };
        self.at += 1;
        bytes.push(plain);
        Ok(false)
    }

    fn unicode_escape(&mut self, bytes: &mut Vec<u8>) -> Result<bool, JsonError> {
        let mut unit = self.four_digits()?;
        if let 0xdc80..=0xdcff = unit {
            bytes.push((unit - 0xdc00) as u8);
            return Ok(true);
        }
        if let 0xd800..=0xdbff = unit
            && self.text[self.at..].starts_with(b"\\u")
        {
            self.at += 2;
            let low = self.four_digits()?;
            if let 0xdc00..=0xdfff = low {
                unit = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
            }
        }
        match char::from_u32(unit) {
            Some(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            None => return self.fail("a surrogate that stands for no character and no byte"),
        }
        Ok(false)
    }

    fn four_digits(&mut self) -> Result<u32, JsonError> {
        let mut unit = 0;
        for _ in 0..4 {
            let byte = self.text.get(self.at).copied().map(char::from);
            let digit = byte.and_then(|byte| byte.to_digit(16));
            let Some(digit) = digit else {
                return self.fail("expected four hexadecimal digits");
            };
            unit = unit << 4 | digit;
            self.at += 1;
        }
        Ok(unit)
    }

    /// A string that nobody reads may hold any surrogates.
    pub(super) fn skip_string(&mut self) -> Result<(), JsonError> {
        self.take(b'"', "expected a string")?;
        loop {
            self.plain_characters();
            match self.text.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => self.at += 1,
                _ => return self.fail("a control character in a string"),
            }
            match self.text.get(self.at) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
                Some(b'u') => {
                    self.at += 1;
                    self.four_digits()?;
                }
                _ => return self.fail("an unknown escape"),
            }
        }
        self.at += 1;
        Ok(())
    }
}

/// How many bytes come before the first quote, backslash or control character.
pub(in crate::wire) fn plain_len(text: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES << 7;
    /// The high bit of each byte that is below `n` (at most 0x80). A byte above one that is below it
    /// may be reported too, so only the lowest is sure.
    const fn below(word: u64, n: u64) -> u64 {
        word.wrapping_sub(ONES * n) & !word & HIGH
    }
    let (words, _) = text.as_chunks::<8>();
    for (i, bytes) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*bytes);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        let found = below(word, 0x20) | quote | backslash;
        if found != 0 {
            return 8 * i + found.trailing_zeros() as usize / 8;
        }
    }
    let start = 8 * words.len();
    let rest = &text[start..];
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    start + rest.iter().position(special).unwrap_or(rest.len())
}
