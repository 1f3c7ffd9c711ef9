//! The formats: the only code that knows versions, field names and the order of bytes.
//!
//! Encoding is canonical: one snapshot has one text in each format, the one that the reference
//! implementations write, because a manifest is known by the hash of its text. Decoding is strict:
//! whatever could name a place outside the root, or mean two things, is refused with the entry that
//! does it. `docs/formats.md` lists where that is stricter than the references.
//!
//! Nothing is built from a text but the result. The text is read twice where the version comes
//! after the entries (2025-12), and again only to say which entry is at fault.

mod error;
mod globs;
mod reader;
mod v2023;
mod v2025;
mod writer;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod hostile;

use std::borrow::Cow;
use std::fmt;

pub use error::{DecodeError, EncodeError, EntryError, EntryPlace, FieldError};
pub use globs::{GlobConfigError, decode_globs};
pub use reader::JsonError;

use crate::{ContentHash, Diff, Snapshot};
use reader::Reader;

/// A version of the manifest formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Files only: no directories of their own, links, execute bits, chunks or deletions.
    V2023_03_03,
    /// Snapshots and diffs with all of those (`relative-manifest-*-beta-2025-12`).
    V2025_12,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2023_03_03 => "2023-03-03",
            Self::V2025_12 => "2025-12",
        })
    }
}

/// What a manifest holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// Everything below a root.
    Snapshot(Snapshot),
    /// What changed.
    Diff(Diff),
}

/// Reads a manifest of any supported format.
///
/// What the types cannot hold is refused, and so are: duplicate paths and keys of one object, hashes
/// that are not 32 lower-case hex digits, sizes above `i64::MAX`, links whose target is outside the
/// root, and, in 2023-03-03, a `totalSize` that is not the sum of the sizes. In 2025-12 the
/// references write into `totalSize` what their caller says, so there it only has to be a number
/// that is not negative, and it is not kept. Times before 1970 are read in both formats. Unknown
/// fields are ignored.
///
/// Memory is bounded by the length of `bytes`: a small text cannot stand for a huge manifest.
pub fn decode(bytes: &[u8]) -> Result<(Format, Manifest), DecodeError> {
    let text = std::str::from_utf8(bytes)?;
    match detect(text)? {
        Version::V2023 => {
            let snapshot = v2023::decode(text)?;
            Ok((Format::V2023_03_03, Manifest::Snapshot(snapshot)))
        }
        Version::V2025(kind) => Ok((Format::V2025_12, v2025::decode(text, kind)?)),
    }
}

/// Writes a snapshot.
///
/// 2025-12 holds every snapshot. 2023-03-03 has no place for links, chunks and files without a hash,
/// which are errors, nor for empty directories, execute bits and the parent's hash, which are left
/// out.
pub fn encode_snapshot(snapshot: &Snapshot, format: Format) -> Result<Vec<u8>, EncodeError> {
    match format {
        Format::V2023_03_03 => v2023::encode(snapshot),
        Format::V2025_12 => Ok(v2025::encode_snapshot(snapshot)),
    }
}

/// Writes a diff, always as `relative-manifest-diff-beta-2025-12`: no other format has deletions.
pub fn encode_diff(diff: &Diff) -> Result<Vec<u8>, EncodeError> {
    Ok(v2025::encode_diff(diff))
}

enum Version {
    V2023,
    V2025(v2025::Kind),
}

/// The version, from the first field that says one. What else is in the text is read later.
fn detect(text: &str) -> Result<Version, DecodeError> {
    /// Drafts of 2025-12 that named themselves in `manifestVersion`.
    const DRAFTS: [&str; 2] = ["2025-12-04-beta", "2025-12-04"];
    let mut reader = Reader::new(text);
    let mut manifest = reader.open_object()?;
    while let Some(key) = reader.next_key(&mut manifest)? {
        let (field, is_manifest_version) = match &*key {
            b"manifestVersion" => ("manifestVersion", true),
            b"specificationVersion" => ("specificationVersion", false),
            _ => {
                reader.skip()?;
                continue;
            }
        };
        let version = reader
            .string()
            .map_err(|error| DecodeError::field(field, error))?;
        if is_manifest_version {
            if &*version == v2023::VERSION.as_bytes() {
                return Ok(Version::V2023);
            }
            if let Some(draft) = DRAFTS.iter().find(|draft| draft.as_bytes() == &*version) {
                return Err(DecodeError::NotYet(draft));
            }
        } else if let Some(kind) = v2025::Kind::of(&version)? {
            return Ok(Version::V2025(kind));
        }
        return Err(DecodeError::UnknownVersion(version.into()));
    }
    Err(DecodeError::NoVersion)
}

/// Fills a field that may be there once.
fn once<T, E: Into<FieldError>>(
    slot: &mut Option<T>,
    value: Result<T, E>,
) -> Result<(), FieldError> {
    let value = value.map_err(Into::into)?;
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(FieldError::Twice),
    }
}

fn read_hash_algorithm(reader: &mut Reader<'_>) -> Result<(), FieldError> {
    match reader.string()? {
        name if &*name == b"xxh128" => Ok(()),
        name => Err(FieldError::HashAlgorithm(name.into())),
    }
}

fn read_hash(reader: &mut Reader<'_>) -> Result<ContentHash, FieldError> {
    Ok(parse_hash(&reader.string()?)?)
}

fn parse_hash(text: &[u8]) -> Result<ContentHash, crate::ParseHashError> {
    String::from_utf8_lossy(text).parse()
}

/// A size: 0 to `i64::MAX`.
fn read_size(reader: &mut Reader<'_>) -> Result<u64, FieldError> {
    i64::try_from(reader.integer()?)
        .ok()
        .and_then(|size| u64::try_from(size).ok())
        .ok_or(FieldError::Range("0 to 2^63 - 1"))
}

fn read_total_size(reader: &mut Reader<'_>) -> Result<u64, FieldError> {
    u64::try_from(reader.integer()?).map_err(|_| FieldError::Range("0 to 2^64 - 1"))
}

fn read_mtime(reader: &mut Reader<'_>) -> Result<crate::Mtime, FieldError> {
    let mtime = i64::try_from(reader.integer()?);
    mtime
        .map(crate::Mtime)
        .map_err(|_| FieldError::Range("-2^63 to 2^63 - 1"))
}

/// The string under `key` in the object that comes next, however damaged the rest of it is: for
/// messages.
fn peek_string<'a>(mut reader: Reader<'a>, key: &[u8]) -> Option<Cow<'a, [u8]>> {
    let mut entry = reader.open_object().ok()?;
    while let Some(found) = reader.next_key(&mut entry).ok()? {
        if *found == *key {
            return reader.string().ok();
        }
        reader.skip().ok()?;
    }
    None
}
