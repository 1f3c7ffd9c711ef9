//! Names and paths as a manifest may hold them.
//!
//! Names are *bytes*: a Linux file name need not be UTF-8, and a manifest written on Linux carries
//! such bytes as lone surrogates (`\udc80` to `\udcff`, Python's surrogateescape), which [`wire`]
//! translates. Turning a [`Name`] into a file name of some platform is a second step, which can
//! fail there.
//!
//! [`wire`]: crate::wire

mod borrowed;
mod escaped;
mod folding;
mod order;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use borrowed::PathRef;
pub use escaped::EscapedBytes;
pub use folding::FoldedName;
pub(crate) use folding::folded;
pub(crate) use order::{code_point_order, common_prefix, utf16_order, utf16_units};

/// The longest component in bytes (`NAME_MAX` of Linux file systems).
const LONGEST_NAME: usize = 255;
/// The longest path in bytes (`PATH_MAX` of Linux, less its NUL).
const LONGEST_PATH: usize = 4095;

/// Why a text is not a name or a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No text at all.
    #[error("the path is empty")]
    Empty,
    /// Starts with `/`.
    #[error("the path is absolute")]
    Absolute,
    /// Two slashes in a row, or one at the end.
    #[error("the path has an empty component")]
    EmptyComponent,
    /// A component is `.`.
    #[error("the path has a component \".\"")]
    Dot,
    /// A component is `..`.
    #[error("the path has a component \"..\"")]
    DotDot,
    /// A NUL byte.
    #[error("the path has a NUL byte")]
    Nul,
    /// A name holds a slash.
    #[error("the name has a slash")]
    Slash,
    /// A component is longer than 255 bytes.
    #[error("a component of the path has {0} bytes, at most 255 are possible")]
    ComponentTooLong(usize),
    /// The path is longer than 4095 bytes.
    #[error("the path has {0} bytes, at most 4095 are possible")]
    TooLong(usize),
}

fn check_component(bytes: &[u8]) -> Result<(), PathError> {
    match bytes {
        b"" => Err(PathError::EmptyComponent),
        b"." => Err(PathError::Dot),
        b".." => Err(PathError::DotDot),
        _ if bytes.contains(&0) => Err(PathError::Nul),
        _ if bytes.len() > LONGEST_NAME => Err(PathError::ComponentTooLong(bytes.len())),
        _ => Ok(()),
    }
}

pub(crate) fn check_name(bytes: &[u8]) -> Result<(), PathError> {
    if bytes.is_empty() {
        return Err(PathError::Empty);
    }
    if bytes.contains(&b'/') {
        return Err(PathError::Slash);
    }
    check_component(bytes)
}

pub(crate) fn check_path(bytes: &[u8]) -> Result<(), PathError> {
    if bytes.is_empty() {
        return Err(PathError::Empty);
    }
    if bytes[0] == b'/' {
        return Err(PathError::Absolute);
    }
    check_length(bytes)?;
    bytes.split(|&b| b == b'/').try_for_each(check_component)
}

/// Checks that a path is not too long.
pub(crate) fn check_length(bytes: &[u8]) -> Result<(), PathError> {
    if bytes.len() > LONGEST_PATH {
        return Err(PathError::TooLong(bytes.len()));
    }
    Ok(())
}

/// [`check_path`] for a path that follows a checked one: what both begin with, up to its last slash,
/// was checked there.
pub(crate) fn check_path_after(before: &[u8], bytes: &[u8]) -> Result<(), PathError> {
    let common = &bytes[..common_prefix(before, bytes)];
    match common.iter().rposition(|&b| b == b'/') {
        Some(slash) if bytes.len() <= LONGEST_PATH => bytes[slash + 1..]
            .split(|&b| b == b'/')
            .try_for_each(check_component),
        _ => check_path(bytes),
    }
}

/// One component of a path: not empty, not `.` or `..`, no `/`, no NUL, at most 255 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Box<[u8]>")]
pub struct Name(Box<[u8]>);

impl Name {
    /// Checks a name.
    pub fn new(bytes: &[u8]) -> Result<Self, PathError> {
        check_name(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Box<[u8]>> for Name {
    type Error = PathError;

    fn try_from(bytes: Box<[u8]>) -> Result<Self, PathError> {
        check_name(&bytes)?;
        Ok(Self(bytes))
    }
}

impl AsRef<[u8]> for Name {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::borrow::Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        EscapedBytes(&self.0).fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A path below a manifest's root: components separated by `/`, each a valid [`Name`], at least
/// one of them, at most 4095 bytes in all.
///
/// Paths order by their UTF-16 code units, as the formats sort them.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Box<[u8]>")]
pub struct ManifestPath(Box<[u8]>);

impl ManifestPath {
    /// Checks a path.
    pub fn new(bytes: &[u8]) -> Result<Self, PathError> {
        check_path(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// The directory that `bytes` names, where `bytes` is what [`parent_of`] gave for some path.
    pub(crate) fn from_ancestor(bytes: &[u8]) -> Self {
        debug_assert_eq!(check_path(bytes), Ok(()));
        Self(bytes.into())
    }

    /// The path of `name` at the root.
    pub fn from_name(name: &Name) -> Self {
        Self(name.0.clone())
    }

    /// This path with `name` below it.
    pub fn join(&self, name: &Name) -> Result<Self, PathError> {
        self.append(&name.0)
    }

    /// This path moved below `prefix`.
    pub fn below(&self, prefix: &Self) -> Result<Self, PathError> {
        prefix.append(&self.0)
    }

    /// This path followed by `rest`, the checked bytes of a name or a path.
    fn append(&self, rest: &[u8]) -> Result<Self, PathError> {
        let len = self.0.len() + 1 + rest.len();
        if len > LONGEST_PATH {
            return Err(PathError::TooLong(len));
        }
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(rest);
        Ok(Self(bytes.into()))
    }

    /// The bytes of the path.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The components, from the root down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/')
    }

    /// The directory that holds this path; `None` at the root.
    pub fn parent(&self) -> Option<Self> {
        parent_of(&self.0).map(Self::from_ancestor)
    }

    /// The last component.
    pub fn name(&self) -> Name {
        let start = self
            .0
            .iter()
            .rposition(|&b| b == b'/')
            .map_or(0, |slash| slash + 1);
        Name(self.0[start..].into())
    }

    /// Every directory above this path, the nearest first.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(self.parent(), Self::parent)
    }

    /// Whether this path lies below `directory` (a path is not below itself).
    pub fn is_below(&self, directory: &Self) -> bool {
        is_below(&self.0, &directory.0)
    }

    /// The same path, borrowed.
    pub fn borrowed(&self) -> PathRef<'_> {
        PathRef(&self.0)
    }
}

/// Whether a component is what Windows calls a drive, a letter and a colon: the root of the paths of an
/// absolute manifest that was made there.
pub fn is_drive(component: &[u8]) -> bool {
    matches!(component, [letter, b':'] if letter.is_ascii_alphabetic())
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.len() > directory.len() && path.starts_with(directory) && path[directory.len()] == b'/'
}

/// Whether a path lies below a directory or is it. The empty path is the root.
pub(crate) fn is_within(path: &[u8], directory: &[u8]) -> bool {
    directory.is_empty() || path == directory || is_below(path, directory)
}

/// The directory of a path, as a slice of it; `None` at the root.
pub(crate) fn parent_of(path: &[u8]) -> Option<&[u8]> {
    let slash = path.iter().rposition(|&b| b == b'/')?;
    Some(&path[..slash])
}

/// Every directory above a path, the nearest first, as slices of it.
pub(crate) fn ancestors_of(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(parent_of(path), |directory| parent_of(directory))
}

impl Ord for ManifestPath {
    /// UTF-16 code unit order of the whole path, separators included.
    fn cmp(&self, other: &Self) -> Ordering {
        utf16_order(&self.0, &other.0)
    }
}

impl PartialOrd for ManifestPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl TryFrom<Box<[u8]>> for ManifestPath {
    type Error = PathError;

    fn try_from(bytes: Box<[u8]>) -> Result<Self, PathError> {
        check_path(&bytes)?;
        Ok(Self(bytes))
    }
}

impl AsRef<[u8]> for ManifestPath {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for ManifestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        EscapedBytes(&self.0).fmt(f)
    }
}

impl fmt::Debug for ManifestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}
