//! A manifest of many entries as text: rendered frames, a thousand in each directory of a shot.
//!
//! ```text
//! shots/sq000/sh0000/beauty/v003/beauty.1001.exr ... beauty.2000.exr
//! shots/sq000/sh0010/beauty/v003/beauty.1001.exr ...
//! ```
//!
//! It is written by hand, so that neither side has made what both are measured with: 2023-03-03, canonical, 140 bytes an
//! entry. That it is canonical is checked in every run that encodes it, by all sides.

use std::io::{self, Write};

use super::work::Numbers;

/// Of the rows.
pub(super) const ENTRIES: usize = 1_000_000;
const FRAMES_EACH: usize = 1000;
const FIRST_FRAME: usize = 1001;
const SHOTS_EACH: usize = 20;
/// In a year of which it does not matter which, in microseconds.
const FIRST_MTIME: usize = 1_750_000_000_000_000;
/// What a frame takes to render, in microseconds.
const BETWEEN: usize = 41_000_017;

/// The path of an entry. They are in order, by bytes and by UTF-16 alike.
pub(super) fn path(number: usize) -> String {
    let (dir, frame) = (number / FRAMES_EACH, number % FRAMES_EACH);
    let (sequence, shot) = (dir / SHOTS_EACH, dir % SHOTS_EACH * 10);
    let frame = FIRST_FRAME + frame;
    format!("shots/sq{sequence:03}/sh{shot:04}/beauty/v003/beauty.{frame:04}.exr")
}

/// Writes the whole text.
pub(super) fn write(count: usize, out: &mut impl Write) -> io::Result<()> {
    write!(
        out,
        r#"{{"hashAlg":"xxh128","manifestVersion":"2023-03-03","paths":["#
    )?;
    let mut numbers = Numbers::new();
    let mut total = 0;
    for number in 0..count {
        let hash = u128::from(numbers.next()) << 64 | u128::from(numbers.next());
        let mtime = FIRST_MTIME + number * BETWEEN;
        // 1 to 17 million.
        let size = 1_000_000 + numbers.next() % 16_000_000;
        total += size;
        let separator = if number == 0 { "" } else { "," };
        write!(
            out,
            r#"{separator}{{"hash":"{hash:032x}","mtime":{mtime},"path":"{}","size":{size}}}"#,
            path(number)
        )?;
    }
    write!(out, r#"],"totalSize":{total}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_in_order_and_no_two_are_equal() {
        let paths: Vec<_> = (0..ENTRIES).step_by(7).map(path).collect();
        assert!(paths.is_sorted_by(|a, b| a < b));
        assert_eq!(
            path(ENTRIES - 1),
            "shots/sq049/sh0190/beauty/v003/beauty.2000.exr"
        );
    }

    #[test]
    fn the_text_has_all_entries_and_their_sum() {
        let mut text = Vec::new();
        write(2, &mut text).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let entries = value["paths"].as_array().unwrap();
        assert_eq!(entries.len(), 2);
        let sum: u64 = entries
            .iter()
            .map(|entry| entry["size"].as_u64().unwrap())
            .sum();
        assert_eq!(value["totalSize"], sum);
    }
}
