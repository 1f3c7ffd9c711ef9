//! The formats: the only code that knows versions, field names and the order of bytes.
//!
//! Encoding is canonical: one snapshot has one text in each format, the one that the reference
//! implementations write, because a manifest is known by the hash of its text. Decoding is strict:
//! whatever could name a place outside the root, or mean two things, is refused with the entry that
//! does it. [`decode_lenient`] takes what the references take, as far as it can be held without
//! harm. `docs/formats.md` lists both.
//!
//! Nothing is built from a text but the result. The text is read twice where it does not tell its
//! version at its beginning or its end, and again only to say which entry is at fault.
//!
//! An absolute manifest is a snapshot, or diff, of the root `/`: its paths are held without the slash
//! that they begin with, and only [`Format`] tells that it is one.

mod error;
mod fast;
mod globs;
mod in_order;
mod reader;
mod v2023;
mod v2025;
mod writer;

#[cfg(test)]
mod foreign;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod readback;

use std::borrow::Cow;
use std::fmt;

pub use error::{DecodeError, EncodeError, EntryError, EntryPlace, FieldError, Note};
pub use globs::{GlobConfigError, decode_globs};
pub use in_order::read_in_order;
pub use reader::JsonError;

use crate::path::check_path;
use crate::{ContentHash, Diff, PathError, Snapshot};
use reader::Reader;

/// A version of the manifest formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Files only: no directories of their own, links, execute bits, chunks or deletions.
    V2023_03_03,
    /// Snapshots and diffs with all of those (`relative-manifest-*-beta-2025-12`).
    V2025_12,
    /// The same of the root directory of a machine (`absolute-manifest-*-beta-2025-12`).
    V2025_12Absolute,
    /// A draft of 2025-12 (`2025-12-04-beta`) that was used before it: read, never written.
    Draft2025_12_04,
}

impl Format {
    /// Whether paths are those of a machine's root directory.
    pub const fn is_absolute(self) -> bool {
        matches!(self, Self::V2025_12Absolute)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2023_03_03 => v2023::VERSION,
            Self::V2025_12 => "2025-12",
            Self::V2025_12Absolute => "2025-12 absolute",
            Self::Draft2025_12_04 => v2025::DRAFT,
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

impl Manifest {
    /// How large files are cut.
    pub fn chunk_size(&self) -> crate::ChunkSize {
        match self {
            Self::Snapshot(snapshot) => snapshot.chunk_size(),
            Self::Diff(diff) => diff.chunk_size(),
        }
    }

    /// The hash of the manifest that this one came from or applies to, if it says so.
    pub fn parent(&self) -> Option<ContentHash> {
        match self {
            Self::Snapshot(snapshot) => snapshot.parent(),
            Self::Diff(diff) => diff.parent(),
        }
    }

    /// The bytes of all files that are there or put.
    pub fn total_size(&self) -> u64 {
        match self {
            Self::Snapshot(snapshot) => snapshot.total_size(),
            Self::Diff(diff) => diff.total_size(),
        }
    }
}

/// How strictly a text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rules {
    Strict,
    Lenient,
}

/// Reads a manifest of any format.
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
    let noted = decode_noted(bytes)?;
    Ok((noted.format, noted.manifest))
}

/// A manifest that was read, and what in it was ignored.
#[derive(Debug, Clone)]
pub struct Noted {
    /// Which format it has.
    pub format: Format,
    /// What it holds.
    pub manifest: Manifest,
    /// What was ignored.
    pub note: Option<Note>,
}

/// [`decode`], which also tells what was ignored.
pub fn decode_noted(bytes: &[u8]) -> Result<Noted, DecodeError> {
    decode_by(bytes, Rules::Strict)
}

/// A manifest that was read leniently.
#[derive(Debug, Clone)]
pub struct Lenient {
    /// Which format it has.
    pub format: Format,
    /// What it holds.
    pub manifest: Manifest,
    /// What [`decode`] ignores too.
    pub note: Option<Note>,
    /// Why [`decode`] refuses it, if it does: the first reason.
    pub fault: Option<DecodeError>,
}

/// Reads a manifest as the reference implementations do, as far as the types can hold it: a wrong
/// `totalSize` is passed over, of keys and (in 2023-03-03) paths that are there twice the last counts,
/// paths are normalised as long as they stay below the root, `true` is the number 1, and in 2025-12
/// optional fields of the wrong type count as missing.
///
/// Hashes that cannot be a key, paths that leave the root and files that are used as directories are
/// refused all the same, and so is a manifest that says its version, or has a list of entries, twice.
pub fn decode_lenient(bytes: &[u8]) -> Result<Lenient, DecodeError> {
    let (read, fault) = match decode_noted(bytes) {
        Ok(read) => (read, None),
        Err(fault) => (decode_by(bytes, Rules::Lenient)?, Some(fault)),
    };
    Ok(Lenient {
        format: read.format,
        manifest: read.manifest,
        note: read.note,
        fault,
    })
}

fn decode_by(bytes: &[u8], rules: Rules) -> Result<Noted, DecodeError> {
    let text = std::str::from_utf8(bytes)?;
    let noted = |dialect: v2025::Dialect, read: v2025::Decoded| Noted {
        format: dialect.format(),
        manifest: read.manifest,
        note: read.note,
    };
    if let Some(dialect) = v2025::guess(text)
        && let Ok(read) = v2025::decode(text, dialect, rules)
        && read.version.as_deref() == Some(dialect.version().as_bytes())
    {
        return Ok(noted(dialect, read));
    }
    match detect(text, rules)? {
        Version::V2023 => Ok(Noted {
            format: Format::V2023_03_03,
            manifest: Manifest::Snapshot(v2023::decode(text, rules)?),
            note: None,
        }),
        Version::V2025(dialect) => Ok(noted(dialect, v2025::decode(text, dialect, rules)?)),
    }
}

/// Writes a snapshot.
///
/// 2025-12 holds every snapshot. 2023-03-03 has no place for links, chunks and files without a hash,
/// which are errors, nor for empty directories, execute bits and the parent's hash, which are left
/// out. The draft is not written.
pub fn encode_snapshot(snapshot: &Snapshot, format: Format) -> Result<Vec<u8>, EncodeError> {
    match format {
        Format::V2023_03_03 => v2023::encode(snapshot),
        Format::V2025_12 => v2025::encode_snapshot(snapshot, false),
        Format::V2025_12Absolute => v2025::encode_snapshot(snapshot, true),
        Format::Draft2025_12_04 => Err(EncodeError::Draft),
    }
}

/// Writes a diff. 2023-03-03 has no deletions, and the draft is not written.
pub fn encode_diff(diff: &Diff, format: Format) -> Result<Vec<u8>, EncodeError> {
    match format {
        Format::V2023_03_03 => Err(EncodeError::NoDiffs(format)),
        Format::V2025_12 => v2025::encode_diff(diff, false),
        Format::V2025_12Absolute => v2025::encode_diff(diff, true),
        Format::Draft2025_12_04 => Err(EncodeError::Draft),
    }
}

/// Writes what a manifest holds.
pub fn encode(manifest: &Manifest, format: Format) -> Result<Vec<u8>, EncodeError> {
    match manifest {
        Manifest::Snapshot(snapshot) => encode_snapshot(snapshot, format),
        Manifest::Diff(diff) => encode_diff(diff, format),
    }
}

enum Version {
    V2023,
    V2025(v2025::Dialect),
}

/// The version, from the first field that says one. What else is in the text is read later.
fn detect(text: &str, rules: Rules) -> Result<Version, DecodeError> {
    let mut reader = Reader::new(text, rules);
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
            if &*version == v2025::DRAFT.as_bytes() {
                return Ok(Version::V2025(v2025::Dialect::draft(text)?));
            }
        } else if let Some(dialect) = v2025::Dialect::of(&version) {
            return Ok(Version::V2025(dialect));
        }
        return Err(DecodeError::UnknownVersion(version.into()));
    }
    Err(DecodeError::NoVersion)
}

impl Rules {
    /// Fills a field that may be there once; leniently the last one counts, as in Python.
    fn once<T, E: Into<FieldError>>(
        self,
        slot: &mut Option<T>,
        value: Result<T, E>,
    ) -> Result<(), FieldError> {
        match (slot.replace(value.map_err(Into::into)?), self) {
            (None, _) | (Some(_), Self::Lenient) => Ok(()),
            (Some(_), Self::Strict) => Err(FieldError::Twice),
        }
    }

    /// The path that a text spells; leniently without what `.`, `..` and repeated slashes add to it.
    fn path(self, text: &[u8]) -> Result<Cow<'_, [u8]>, PathError> {
        match (check_path(text), self) {
            (Ok(()), _) => Ok(Cow::Borrowed(text)),
            (Err(error), Self::Strict) => Err(error),
            (Err(_), Self::Lenient) => {
                let normal = normalized(text)?;
                check_path(&normal)?;
                Ok(Cow::Owned(normal))
            }
        }
    }
}

/// A relative path without `.`, `..` and empty components; an error if it leads out of the root.
fn normalized(text: &[u8]) -> Result<Vec<u8>, PathError> {
    if text.starts_with(b"/") {
        return Err(PathError::Absolute);
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in text.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop().ok_or(PathError::DotDot)?;
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join(&b'/'))
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
    ContentHash::parse(text)
}

/// A size: 0 to `i64::MAX`.
fn read_size(reader: &mut Reader<'_>) -> Result<u64, FieldError> {
    i64::try_from(reader.integer()?)
        .ok()
        .and_then(|size| u64::try_from(size).ok())
        .ok_or(FieldError::Range("0 to 2^63 - 1"))
}

/// What `totalSize` says; leniently `None` if no total can be that number.
fn read_total_size(reader: &mut Reader<'_>, rules: Rules) -> Result<Option<u64>, FieldError> {
    match (u64::try_from(reader.integer()?), rules) {
        (Ok(total), _) => Ok(Some(total)),
        (Err(_), Rules::Lenient) => Ok(None),
        (Err(_), Rules::Strict) => Err(FieldError::Range("0 to 2^64 - 1")),
    }
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
