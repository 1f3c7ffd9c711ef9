//! A reader of JSON text that hands out one token after the other.
//!
//! Nothing is built but what the caller keeps, so a manifest of a million entries costs no more
//! than its entries. The grammar is RFC 8259, no more: no comments, no bare control characters, no
//! leading zeros. What it adds is the names of the formats: a lone surrogate U+DC80 to U+DCFF is a
//! byte that was not UTF-8 (Python's surrogateescape, PEP 383).

mod number;
mod string;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use super::Rules;

pub(super) use string::plain_len;

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

    /// Checks that nothing but white space is left.
    pub(super) fn end(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.fail("more text after the end"),
        }
    }
}
