//! A reader of JSON text that hands out one token after the other.
//!
//! Nothing is built but what the caller keeps, so a manifest of a million entries costs no more
//! than its entries. The grammar is RFC 8259, no more: no comments, no bare control characters, no
//! leading zeros. What it adds is the names of the formats: a lone surrogate U+DC80 to U+DCFF is a
//! byte that was not UTF-8 (Python's surrogateescape, PEP 383).

use std::borrow::Cow;

use super::Rules;

/// How deep values that nobody reads may be nested.
const DEEPEST: usize = 64;

/// Where a text stops being the JSON that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}, at byte {offset}")]
pub struct JsonError {
    problem: &'static str,
    offset: usize,
}

impl JsonError {
    /// Where in the text.
    pub fn offset(&self) -> usize {
        self.offset
    }
}

/// A place in a text.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    rules: Rules,
}

/// An array or object that is being read.
#[derive(Debug)]
pub(super) struct Open {
    is_first: bool,
}

/// A whole number in the text; which range it must be in is up to the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Integer {
    is_negative: bool,
    /// `u64::MAX` and [`is_huge`](Self::is_huge) if it does not fit.
    magnitude: u64,
    is_huge: bool,
}

/// The number does not fit into the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutOfRange;

impl Integer {
    fn value(self) -> Result<i128, OutOfRange> {
        let magnitude = i128::from(self.magnitude);
        match (self.is_huge, self.is_negative) {
            (true, _) => Err(OutOfRange),
            (false, true) => Ok(-magnitude),
            (false, false) => Ok(magnitude),
        }
    }
}

impl TryFrom<Integer> for i64 {
    type Error = OutOfRange;

    fn try_from(integer: Integer) -> Result<Self, OutOfRange> {
        Self::try_from(integer.value()?).map_err(|_| OutOfRange)
    }
}

impl TryFrom<Integer> for u64 {
    type Error = OutOfRange;

    fn try_from(integer: Integer) -> Result<Self, OutOfRange> {
        Self::try_from(integer.value()?).map_err(|_| OutOfRange)
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, rules: Rules) -> Self {
        Self {
            text: text.as_bytes(),
            at: 0,
            rules,
        }
    }

    pub(super) fn rules(&self) -> Rules {
        self.rules
    }

    /// What comes next, white space included.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.text[self.at..]
    }

    /// Whether `null` comes next.
    pub(super) fn is_null(&mut self) -> bool {
        self.peek() == Some(b'n')
    }

    /// Passes over bytes that the caller has read from [`rest`](Self::rest).
    pub(super) fn advance(&mut self, bytes: usize) {
        self.at += bytes;
    }

    fn fail<T>(&self, problem: &'static str) -> Result<T, JsonError> {
        let problem = if self.at >= self.text.len() {
            "the text ends too early"
        } else {
            problem
        };
        Err(JsonError {
            problem,
            offset: self.at,
        })
    }

    /// The first byte of the next token; nothing is consumed but white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8, problem: &'static str) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return self.fail(problem);
        }
        self.at += 1;
        Ok(())
    }

    pub(super) fn open_object(&mut self) -> Result<Open, JsonError> {
        self.take(b'{', "expected an object")?;
        Ok(Open { is_first: true })
    }

    pub(super) fn open_array(&mut self) -> Result<Open, JsonError> {
        self.take(b'[', "expected an array")?;
        Ok(Open { is_first: true })
    }

    /// The key of the object's next member; its value must be read next.
    pub(super) fn next_key(&mut self, open: &mut Open) -> Result<Option<Cow<'a, [u8]>>, JsonError> {
        if !self.goes_on(open, b'}')? {
            return Ok(None);
        }
        let key = self.string()?;
        self.take(b':', "expected a colon")?;
        Ok(Some(key))
    }

    /// Whether the array has another item, which must be read next.
    pub(super) fn next_item(&mut self, open: &mut Open) -> Result<bool, JsonError> {
        self.goes_on(open, b']')
    }

    fn goes_on(&mut self, open: &mut Open, close: u8) -> Result<bool, JsonError> {
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if !open.is_first => {
                self.at += 1;
                if self.peek() == Some(close) {
                    return self.fail("a comma before the end");
                }
                Ok(true)
            }
            Some(_) if std::mem::take(&mut open.is_first) => Ok(true),
            _ => self.fail("expected a comma or the end"),
        }
    }

    /// A string as bytes: UTF-8, except for the bytes that lone surrogates stand for.
    pub(super) fn string(&mut self) -> Result<Cow<'a, [u8]>, JsonError> {
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

    /// A number without a fraction or an exponent. Leniently also `true` and `false`, which are
    /// numbers in Python.
    pub(super) fn integer(&mut self) -> Result<Integer, JsonError> {
        const EXPECTED: &str = "expected an integer";
        if self.rules == Rules::Lenient
            && let Some(b't' | b'f') = self.peek()
        {
            let truth = self.boolean()?;
            return Ok(Integer {
                is_negative: false,
                magnitude: u64::from(truth),
                is_huge: false,
            });
        }
        let is_negative = self.peek() == Some(b'-');
        let start = self.at;
        self.at += usize::from(is_negative);
        let digits = self.digits(EXPECTED)?;
        if let Some(b'.' | b'e' | b'E') = self.text.get(self.at) {
            self.at = start;
            return self.fail(EXPECTED);
        }
        let mut magnitude: u64 = 0;
        let mut is_huge = false;
        for digit in digits {
            let next = magnitude
                .checked_mul(10)
                .and_then(|tens| tens.checked_add(u64::from(digit - b'0')));
            is_huge |= next.is_none();
            magnitude = next.unwrap_or(u64::MAX);
        }
        Ok(Integer {
            is_negative,
            magnitude,
            is_huge,
        })
    }

    /// `0`, or digits that do not begin with it.
    fn digits(&mut self, problem: &'static str) -> Result<&'a [u8], JsonError> {
        let start = self.at;
        let digits = self.some_digits(problem)?;
        if digits.len() > 1 && digits[0] == b'0' {
            self.at = start;
            return self.fail("a number that begins with 0");
        }
        Ok(digits)
    }

    fn some_digits(&mut self, problem: &'static str) -> Result<&'a [u8], JsonError> {
        let start = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start {
            return self.fail(problem);
        }
        Ok(&self.text[start..self.at])
    }

    fn any_number(&mut self) -> Result<(), JsonError> {
        const EXPECTED: &str = "expected a number";
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        self.digits(EXPECTED)?;
        if let Some(b'.') = self.text.get(self.at) {
            self.at += 1;
            self.some_digits(EXPECTED)?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.at += 1;
            }
            self.some_digits(EXPECTED)?;
        }
        Ok(())
    }

    pub(super) fn boolean(&mut self) -> Result<bool, JsonError> {
        match self.peek() {
            Some(b't') => self.word("true").map(|()| true),
            Some(b'f') => self.word("false").map(|()| false),
            _ => self.fail("expected true or false"),
        }
    }

    /// Takes `null`, if it comes next.
    pub(super) fn null(&mut self) -> bool {
        self.peek() == Some(b'n') && self.word("null").is_ok()
    }

    fn word(&mut self, word: &str) -> Result<(), JsonError> {
        if !self.text[self.at..].starts_with(word.as_bytes()) {
            return self.fail("expected a value");
        }
        self.at += word.len();
        Ok(())
    }

    /// Any value, which is checked to be one and dropped.
    pub(super) fn skip(&mut self) -> Result<(), JsonError> {
        self.skip_to_depth(DEEPEST)
    }

    fn skip_to_depth(&mut self, depth: usize) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'{' | b'[') if depth == 0 => self.fail("values nested too deeply"),
            Some(b'{') => {
                let mut object = self.open_object()?;
                while self.goes_on(&mut object, b'}')? {
                    self.skip_string()?;
                    self.take(b':', "expected a colon")?;
                    self.skip_to_depth(depth - 1)?;
                }
                Ok(())
            }
            Some(b'[') => {
                let mut array = self.open_array()?;
                while self.next_item(&mut array)? {
                    self.skip_to_depth(depth - 1)?;
                }
                Ok(())
            }
            Some(b'"') => self.skip_string(),
            Some(b'-' | b'0'..=b'9') => self.any_number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => self.fail("expected a value"),
        }
    }

    /// A string that nobody reads may hold any surrogates.
    fn skip_string(&mut self) -> Result<(), JsonError> {
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

    /// Checks that nothing but white space is left.
    pub(super) fn end(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.fail("more text after the end"),
        }
    }
}

/// How many bytes come before the first quote, backslash or control character.
pub(super) fn plain_len(text: &[u8]) -> usize {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    fn string(text: &str) -> Result<Vec<u8>, &'static str> {
        let read = Reader::new(text, Rules::Strict).string();
        read.map(Cow::into_owned).map_err(|error| error.problem)
    }

    #[test]
    fn escapes_are_the_characters_they_stand_for() {
        assert_eq!(
            string(r#""a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\u0041""#).unwrap(),
            "a\"\\/\u{8}\u{c}\n\r\t\u{e9}\u{1f600}A".as_bytes()
        );
        assert_eq!(
            string("\"\u{e9}\\n\u{e9}\"").unwrap(),
            "\u{e9}\n\u{e9}".as_bytes()
        );
    }

    #[test]
    fn a_lone_surrogate_is_the_byte_that_was_not_utf8() {
        assert_eq!(
            string(r#""bad\udcff\udcfename""#).unwrap(),
            b"bad\xff\xfename"
        );
        assert_eq!(string(r#""\udcc3\u00e9""#).unwrap(), b"\xc3\xc3\xa9");
    }

    #[test]
    fn a_string_that_would_be_written_differently_is_refused() {
        let spelled = Err("surrogates that spell a character");
        assert_eq!(string(r#""\udcc3\udca9""#), spelled);
        let nothing = Err("a surrogate that stands for no character and no byte");
        for text in [
            r#""\ud83d""#,
            r#""\ud83dx""#,
            r#""\ud83d\u0041""#,
            r#""\ud83d\ud83d\ude00""#,
            r#""\udc41""#,
            r#""\udd00""#,
        ] {
            assert_eq!(string(text), nothing, "{text}");
        }
    }

    #[test]
    fn integers_have_no_fraction_no_exponent_and_no_leading_zero() {
        let read = |text: &str| Reader::new(text, Rules::Strict).integer();
        assert_eq!(read("-1").map(i64::try_from), Ok(Ok(-1)));
        assert_eq!(read("-0").map(u64::try_from), Ok(Ok(0)));
        let least = i64::MIN.to_string();
        assert_eq!(read(&least).map(i64::try_from), Ok(Ok(i64::MIN)));
        let most = u64::MAX.to_string();
        assert_eq!(read(&most).map(u64::try_from), Ok(Ok(u64::MAX)));
        assert!(i64::try_from(read(&most).unwrap()).is_err());
        assert!(u64::try_from(read("-1").unwrap()).is_err());
        assert!(u64::try_from(read("18446744073709551616").unwrap()).is_err());
        for text in ["1.0", "1e3", "01", "-", "", "true", "\"1\""] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_first_character_that_does_not_stand_for_itself_is_found_wherever_it_is() {
        for special in ["\"", "\\", "\n", "\0", "\u{1f}"] {
            for before in 0..40 {
                let text = format!("{}{special}\"\u{e9}~\u{7f} !", "\u{7f}".repeat(before));
                assert_eq!(plain_len(text.as_bytes()), before, "{text:?}");
            }
        }
        assert_eq!(plain_len("\u{e9}\u{1f600}\u{80} #[]~".as_bytes()), 13);
    }

    #[test]
    fn values_nested_without_end_are_refused() {
        let text = "[".repeat(1_000_000);
        let error = Reader::new(&text, Rules::Strict).skip().unwrap_err();
        assert_eq!(error.problem, "values nested too deeply");
    }

    fn accepts(text: &str) -> bool {
        let mut reader = Reader::new(text, Rules::Strict);
        reader.skip().and_then(|()| reader.end()).is_ok()
    }

    proptest! {
        #[test]
        fn the_reader_takes_what_serde_json_takes(
            text in r#"([\[\]{}:, ]|"[a\\/u0-9]{0,6}"|-?[0-9.eE+-]{1,4}|true|false|nul{1,2}|"a":){0,12}"#
        ) {
            let expected = serde_json::from_str::<IgnoredAny>(&text).is_ok();
            prop_assert_eq!(accepts(&text), expected);
        }

        #[test]
        fn an_altered_document_is_taken_where_serde_json_takes_it(
            at in 0..80_usize, put in "[\\[\\]{}:,\"\\\\0-9a-z ]{0,2}", cut in 0..3_usize
        ) {
            let mut text = r#"{"a":[1,-2.5e+3,true,null,"x\u00e9\n"],"b":{"c":{},"d":[]},"e":0,"f":""}"#.to_owned();
            let at = at.min(text.len());
            let end = (at + cut).min(text.len());
            text.replace_range(at..end, &put);
            let expected = serde_json::from_str::<IgnoredAny>(&text).is_ok();
            prop_assert_eq!(accepts(&text), expected, "{}", text);
        }
    }
}
