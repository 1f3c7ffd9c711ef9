//! Values of options of several verbs.

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

/// Bytes, or `none` for files in one piece.
pub(super) fn parse_chunk_size(text: &str) -> Result<attachfs::ChunkSize, String> {
    if text == "none" {
        return Ok(attachfs::ChunkSize::WholeFile);
    }
    let bytes = text.parse().ok().filter(|&bytes: &std::num::NonZeroU64| {
        // What the formats can say, and what a file can have.
        i64::try_from(bytes.get()).is_ok()
    });
    let bytes = bytes.ok_or("neither a number of bytes, 1 to 2^63 - 1, nor `none`")?;
    Ok(attachfs::ChunkSize::Bytes(bytes))
}

/// Permission bits in octal.
pub(super) fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("not permission bits in octal, such as 0644".to_owned()),
    }
}
