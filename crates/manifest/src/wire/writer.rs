//! Canonical JSON: what `json.dumps(sort_keys=True, separators=(",", ":"), ensure_ascii=True)`
//! writes. The keys are written in order by the caller.

/// Appends a string: ASCII as it is, everything outside 0x20 to 0x7e as an escape (DEL too), a byte
/// that is not UTF-8 as the lone surrogate that stands for it.
pub(super) fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    characters(out, text);
    out.push(b'"');
}

/// Appends the inside of a string.
pub(super) fn characters(out: &mut Vec<u8>, text: &[u8]) {
    if text.iter().all(|&byte| is_plain(byte)) {
        out.extend_from_slice(text);
        return;
    }
    for unit in crate::path::utf16_units(text) {
        match u8::try_from(unit) {
            Ok(byte) if is_plain(byte) => out.push(byte),
            Ok(byte @ (b'"' | b'\\')) => out.extend_from_slice(&[b'\\', byte]),
            Ok(b'\n') => out.extend_from_slice(b"\\n"),
            Ok(b'\r') => out.extend_from_slice(b"\\r"),
            Ok(b'\t') => out.extend_from_slice(b"\\t"),
            Ok(0x08) => out.extend_from_slice(b"\\b"),
            Ok(0x0c) => out.extend_from_slice(b"\\f"),
            _ => unicode_escape(out, unit),
        }
    }
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e) && !matches!(byte, b'"' | b'\\')
}

fn unicode_escape(out: &mut Vec<u8>, unit: u16) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(DIGITS[usize::from(unit >> shift & 15)]);
    }
}

/// Appends an unsigned number.
pub(super) fn unsigned(out: &mut Vec<u8>, mut number: u64) {
    /// Digits of the largest number of 64 bits.
    const LONGEST: usize = 20;
    let mut digits = [0; LONGEST];
    let mut start = LONGEST;
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends a signed number.
pub(super) fn signed(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    unsigned(out, number.unsigned_abs());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::Rules;
    use crate::wire::reader::Reader;

    fn written(text: &[u8]) -> String {
        let mut out = Vec::new();
        string(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn everything_but_printable_ascii_is_escaped() {
        assert_eq!(
            written("a/\"\\\n\r\t\u{8}\u{c}\0\u{1f}\u{7f}~\u{e9}\u{1f600}".as_bytes()),
            r#""a/\"\\\n\r\t\b\f\u0000\u001f\u007f~\u00e9\ud83d\ude00""#
        );
        assert_eq!(written(b"bad\xff\xfename"), r#""bad\udcff\udcfename""#);
    }

    #[test]
    fn numbers_are_plain_decimal() {
        for number in [0, 9, 10, i64::MAX, -1, i64::MIN] {
            let mut out = Vec::new();
            signed(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
        let mut out = Vec::new();
        unsigned(&mut out, u64::MAX);
        assert_eq!(out, u64::MAX.to_string().as_bytes());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_back(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let text = written(&bytes);
            prop_assert_eq!(&*Reader::new(&text, Rules::Strict).string().unwrap(), &bytes[..]);
        }

        #[test]
        fn any_text_is_read_back_by_serde_json(text in ".*") {
            let read: String = serde_json::from_str(&written(text.as_bytes())).unwrap();
            prop_assert_eq!(read, text);
        }
    }
}
