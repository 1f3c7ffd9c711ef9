//! The two orders of paths in the formats, and the code units that both compare.

use std::cmp::Ordering;

/// The UTF-16 code units of bytes that are mostly UTF-8; a byte that is not becomes U+DC00 + byte.
pub(crate) fn utf16_units(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.utf8_chunks().flat_map(|chunk| {
        let invalid = chunk.invalid().iter().map(|&b| 0xdc00 + u16::from(b));
        chunk.valid().encode_utf16().chain(invalid)
    })
}

fn code_points(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.utf8_chunks().flat_map(|chunk| {
        let invalid = chunk.invalid().iter().map(|&b| 0xdc00 + u32::from(b));
        chunk.valid().chars().map(u32::from).chain(invalid)
    })
}

/// How many bytes two texts begin with alike. Neighbours in a manifest have most in common, so
/// this goes in steps of several.
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    const STEP: usize = 16;
    let (steps_a, steps_b) = (a.as_chunks::<STEP>().0, b.as_chunks::<STEP>().0);
    let steps = steps_a.iter().zip(steps_b).take_while(|(a, b)| a == b);
    let start = STEP * steps.count();
    let rest = a[start..].iter().zip(&b[start..]);
    start + rest.take_while(|(a, b)| a == b).count()
}

/// The order of two texts if their first difference decides it: it does where it lies between
/// ASCII bytes or at the end of one text before an ASCII byte. (Other bytes may complete a
/// sequence that begins before them.)
fn order_by_first_difference(a: &[u8], b: &[u8]) -> Option<Ordering> {
    let common = common_prefix(a, b);
    match (a.get(common), b.get(common)) {
        (None, None) => Some(Ordering::Equal),
        (a, b) if a.is_none_or(u8::is_ascii) && b.is_none_or(u8::is_ascii) => Some(a.cmp(&b)),
        _ => None,
    }
}

/// The order of the `files` and `paths` of the formats: by UTF-16 code units, whole path,
/// separators included (`key=lambda p: p.encode("utf-16_be", "surrogatepass")`).
pub(crate) fn utf16_order(a: &[u8], b: &[u8]) -> Ordering {
    order_by_first_difference(a, b).unwrap_or_else(|| utf16_units(a).cmp(utf16_units(b)))
}

/// The order of the `dirs` of 2025-12: by code points (`sorted(paths)`).
pub(crate) fn code_point_order(a: &[u8], b: &[u8]) -> Ordering {
    order_by_first_difference(a, b).unwrap_or_else(|| code_points(a).cmp(code_points(b)))
}
