//! Values of options of several verbs.

use std::num::NonZeroU64;

use clap::ValueEnum;

/// A format that is written.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum FormatName {
    /// Directories, links, execute bits, large files in chunks.
    #[value(name = "2025-12")]
    V2025,
    /// Files only; what every version of Deadline Cloud reads.
    #[value(name = "2023-03-03")]
    V2023,
}

/// What every option says that takes a size, once.
pub(super) const SIZES: &str = "Sizes: a number of bytes, or with a unit: K, M, G or T (also KiB, MiB, ...) of 1024, kB, MB, GB or TB of 1000; \
upper or lower case, as 500M, 10MB or 1GiB. Rates are sizes a second.";

/// A number of bytes, plain or with a unit: the one grammar of all options.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    const WRONG: &str =
        "not a size, such as 1000000, 500M (of 1024 x 1024 bytes), 10MB (10,000,000 bytes) or 1GiB";
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text[digits.len()..].trim_start();
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "ki" | "kib" => 1 << 10,
        "m" | "mi" | "mib" => 1 << 20,
        "g" | "gi" | "gib" => 1 << 30,
        "t" | "ti" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(WRONG.to_owned()),
    };
    // A leading sign is refused: only digits are taken.
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number = is_number.then(|| digits.parse::<u64>().ok()).flatten();
    let bytes = number.ok_or(WRONG)?.checked_mul(factor);
    bytes.ok_or_else(|| "more bytes than anything has".to_owned())
}

/// A size that is not 0: bytes a second, for example.
pub(super) fn parse_rate(text: &str) -> Result<NonZeroU64, String> {
    let bytes = parse_size(text)?;
    NonZeroU64::new(bytes).ok_or_else(|| "at least one byte a second has to pass".to_owned())
}

/// A size, or `none` for files in one piece.
pub(super) fn parse_chunk_size(text: &str) -> Result<attachfs::ChunkSize, String> {
    if text == "none" {
        return Ok(attachfs::ChunkSize::WholeFile);
    }
    let bytes = parse_size(text).map_err(|error| format!("{error}, nor `none`"))?;
    // What the formats can say, and what a file can have.
    let bytes = NonZeroU64::new(bytes).filter(|bytes| i64::try_from(bytes.get()).is_ok());
    let bytes = bytes.ok_or("neither 1 to 2^63 - 1 bytes, nor `none`")?;
    Ok(attachfs::ChunkSize::Bytes(bytes))
}

/// Permission bits in octal.
pub(super) fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("not permission bits in octal, such as 0644".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_unit_of_1024_or_of_1000() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("500B", 500),
            ("2K", 2048),
            ("3g", 3 << 30),
            ("1TiB", 1 << 40),
            ("2tib", 2 << 40),
            ("4Mi", 4 << 20),
            ("10KB", 10_000),
            ("10 MB", 10_000_000),
            ("7gb", 7_000_000_000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "G",
            "MB",
            "1.5G",
            "-1",
            "+1",
            "20000000T",
            "99999999999TB",
            "1 fathom",
            "1MBs",
            "ä",
            "1 2",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        parse_rate("0").unwrap_err();
        assert_eq!(parse_rate("10MB").map(NonZeroU64::get), Ok(10_000_000));
    }

    #[test]
    fn the_size_of_pieces_is_a_size_or_none() {
        let bytes = |bytes| Ok(attachfs::ChunkSize::Bytes(NonZeroU64::new(bytes).unwrap()));
        assert_eq!(parse_chunk_size("256M"), bytes(256 << 20));
        assert_eq!(parse_chunk_size("1000"), bytes(1000));
        assert_eq!(parse_chunk_size("none"), Ok(attachfs::ChunkSize::WholeFile));
        for bad in ["0", "all", "9223372036854775808"] {
            parse_chunk_size(bad).unwrap_err();
        }
    }
}
