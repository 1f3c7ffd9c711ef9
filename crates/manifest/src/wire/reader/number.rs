//! Numbers in JSON text.

use super::{JsonError, Reader, Rules};

/// A whole number in the text; which range it must be in is up to the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wire) struct Integer {
    is_negative: bool,
    /// `u64::MAX` and [`is_huge`](Self::is_huge) if it does not fit.
    magnitude: u64,
    is_huge: bool,
}

/// The number does not fit into the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wire) struct OutOfRange;

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
    /// A number without a fraction or an exponent. Leniently also `true` and `false`, which are
    /// numbers in Python.
    pub(in crate::wire) fn integer(&mut self) -> Result<Integer, JsonError> {
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

    pub(super) fn any_number(&mut self) -> Result<(), JsonError> {
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
}
