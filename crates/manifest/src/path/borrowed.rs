//! Paths that are borrowed from the manifest that holds them.

use std::cmp::Ordering;
use std::fmt;

use super::{
    EscapedBytes, ManifestPath, ancestors_of, check_path, is_below, parent_of, utf16_order,
};

/// A [`ManifestPath`] that is borrowed from a manifest, where the paths of all entries lie together.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PathRef<'a>(pub(super) &'a [u8]);

impl<'a> PathRef<'a> {
    /// The path that `bytes` spell, where they were checked before.
    pub(crate) fn from_checked(bytes: &'a [u8]) -> Self {
        debug_assert_eq!(check_path(bytes), Ok(()));
        Self(bytes)
    }

    /// The bytes of the path.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The components, from the root down.
    pub fn components(self) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        self.0.split(|&b| b == b'/')
    }

    /// The directory that holds this path; `None` at the root.
    pub fn parent(self) -> Option<Self> {
        parent_of(self.0).map(Self)
    }

    /// The bytes of the last component.
    pub fn name(self) -> &'a [u8] {
        parent_of(self.0).map_or(self.0, |parent| &self.0[parent.len() + 1..])
    }

    /// Every directory above this path, the nearest first.
    pub fn ancestors(self) -> impl Iterator<Item = Self> {
        ancestors_of(self.0).map(Self)
    }

    /// Whether this path lies below `directory` (a path is not below itself).
    pub fn is_below(self, directory: PathRef<'_>) -> bool {
        is_below(self.0, directory.0)
    }

    /// What follows `directory` in this path, if it lies below it.
    pub fn within(self, directory: PathRef<'_>) -> Option<Self> {
        let rest = || Self(&self.0[directory.0.len() + 1..]);
        self.is_below(directory).then(rest)
    }

    /// The same path, to keep.
    pub fn to_owned(self) -> ManifestPath {
        ManifestPath(self.0.into())
    }
}

impl Ord for PathRef<'_> {
    /// UTF-16 code unit order of the whole path, separators included.
    fn cmp(&self, other: &Self) -> Ordering {
        utf16_order(self.0, other.0)
    }
}

impl PartialOrd for PathRef<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq<ManifestPath> for PathRef<'_> {
    fn eq(&self, other: &ManifestPath) -> bool {
        *self.0 == *other.0
    }
}

impl AsRef<[u8]> for PathRef<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

impl<'a> From<&'a ManifestPath> for PathRef<'a> {
    fn from(path: &'a ManifestPath) -> Self {
        path.borrowed()
    }
}

impl fmt::Display for PathRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        EscapedBytes(self.0).fmt(f)
    }
}

impl fmt::Debug for PathRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}
