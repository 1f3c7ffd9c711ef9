//! A path of some system, as text.

use std::fmt;

use attachfs_manifest::{EscapedBytes, FoldedName, ManifestPath};

use crate::PathFormat;
use crate::split::{Split, components};

/// A path as Python's `PurePosixPath` or `PureWindowsPath` writes it: one separator between components, no component `.`, no
/// separator at the end. Components `..` stay, because what is above a link is not known from the text.
///
/// Two are equal if their texts are, on Windows too; [`ForeignPath::is_within`] is what leaves case out. They order by
/// their bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ForeignPath {
    /// The anchor, then the components.
    text: Vec<u8>,
    /// Length of the drive.
    drive: usize,
    /// Length of drive and root.
    anchor: usize,
    format: PathFormat,
}

/// A name that cannot be one name of a path in the format it is to be written in, so it would lead elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{}\" cannot be a name in a path of the format {format}",
    EscapedBytes(name)
)]
pub struct UnfitName {
    /// The name.
    pub name: Vec<u8>,
    /// The format.
    pub format: PathFormat,
}

impl ForeignPath {
    /// Takes a text apart. Every text is a path; the empty one is `.`, relative and without components.
    pub fn parse(format: PathFormat, text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        let split = Split::of(format, text);
        let mut path = Self {
            text: Vec::with_capacity(text.len() + 1),
            drive: split.drive.len(),
            anchor: split.drive.len() + split.root.len(),
            format,
        };
        path.text.extend_from_slice(&split.drive);
        path.text.extend_from_slice(split.root);
        for component in components(format, split.rest) {
            path.push(component);
        }
        path
    }

    /// The system's way to write it.
    pub fn format(&self) -> PathFormat {
        self.format
    }

    /// The path as it is written; `.` if there is nothing in it.
    pub fn as_bytes(&self) -> &[u8] {
        if self.text.is_empty() {
            b"."
        } else {
            &self.text
        }
    }

    /// The path as it is written; `None` if that is not UTF-8, as what was parsed of a `str` always is.
    pub fn to_str(&self) -> Option<&str> {
        str::from_utf8(self.as_bytes()).ok()
    }

    /// `C:`, `\\server\share` or nothing.
    pub fn drive(&self) -> &[u8] {
        &self.text[..self.drive]
    }

    /// The drive and the root behind it: `/`, `C:\`, `\\server\share\` or nothing, for example.
    pub fn anchor(&self) -> &[u8] {
        &self.text[..self.anchor]
    }

    /// The components behind the anchor.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
        let separator = self.format.separator();
        let all = self.text[self.anchor..].split(move |&byte| byte == separator);
        all.filter(|component| !component.is_empty())
    }

    /// Whether the path says where it leads without a working directory. On Windows that takes a drive or a share, and a root.
    pub fn is_absolute(&self) -> bool {
        let has_root = self.anchor > self.drive;
        has_root && (self.format == PathFormat::Posix || self.drive > 0)
    }

    /// Whether a component is `..`, so that the path may lead out of what is above it.
    pub fn has_parent_components(&self) -> bool {
        self.components().any(|component| component == b"..")
    }

    /// The path with a text behind it, as Python's `joinpath` does it: an absolute text replaces the path, and on Windows a root
    /// without a drive keeps the drive.
    #[must_use]
    pub fn join(&self, text: impl AsRef<[u8]>) -> Self {
        let other = Self::parse(self.format, text);
        let has_root = other.anchor > other.drive;
        if has_root && (other.drive > 0 || self.drive == 0) {
            return other;
        }
        if has_root {
            let mut joined = self.clone();
            joined.text.truncate(self.drive);
            joined.text.extend_from_slice(&other.text);
            joined.anchor = self.drive + other.anchor;
            return joined;
        }
        if other.drive > 0 && !self.is_same_name(self.drive(), other.drive()) {
            return other;
        }
        let mut joined = self.clone();
        for component in other.components() {
            joined.push(component);
        }
        joined
    }

    /// The path with names below it, each of which stays one name.
    pub fn below<'a>(
        &self,
        names: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<Self, UnfitName> {
        let more: usize = names.clone().map(|name| name.len() + 1).sum();
        let mut text = Vec::with_capacity(self.text.len() + more);
        text.extend_from_slice(&self.text);
        let mut path = Self { text, ..*self };
        for name in names {
            if !self.fits(name) {
                return Err(UnfitName {
                    name: name.to_vec(),
                    format: self.format,
                });
            }
            path.push(name);
        }
        Ok(path)
    }

    /// Where a manifest's entry is if this is the root of the manifest.
    pub fn entry(&self, path: &ManifestPath) -> Result<Self, UnfitName> {
        self.below(path.as_bytes().split(|&byte| byte == b'/'))
    }

    /// The directory that holds it; the path itself if there is none above it.
    #[must_use]
    pub fn parent(&self) -> Self {
        let mut parent = self.clone();
        let last = self.components().next_back().map_or(0, <[u8]>::len);
        let end = self.text.len() - last;
        // The separator before it, which the anchor may end with.
        parent.text.truncate(end.saturating_sub(1).max(self.anchor));
        parent
    }

    /// The path with each `..` and what is before it left out, as `os.path.normpath` does it: by text, as if there were no
    /// links. What is above a root is the root.
    #[must_use]
    pub fn normalized(&self) -> Self {
        let mut normal = self.clone();
        normal.text.truncate(self.anchor);
        let has_root = self.anchor > self.drive;
        for component in self.components() {
            if component != b".." {
                normal.push(component);
            } else if normal.components().next_back().is_some_and(|c| c != b"..") {
                normal = normal.parent();
            } else if !has_root {
                normal.push(component);
            }
        }
        normal
    }

    /// Whether the path is that directory or lies below it, by whole components. On Windows case does not count, and `C:\a`
    /// lies in `C:`.
    pub fn is_within(&self, directory: &Self) -> bool {
        self.names_below(directory).is_some()
    }

    /// The path from a directory that it [`is_within`](Self::is_within), with its own case and separators; `.` for the directory itself. `None` elsewhere.
    pub fn relative_to(&self, directory: &Self) -> Option<Vec<u8>> {
        let names: Vec<_> = self.names_below(directory)?.collect();
        Some(match names[..] {
            [] => b".".to_vec(),
            _ => names.join(&self.format.separator()),
        })
    }

    fn names_below(&self, directory: &Self) -> Option<impl Iterator<Item = &[u8]>> {
        if self.format != directory.format {
            return None;
        }
        // A drive without a root has all that is on the drive; no anchor at all has what is relative.
        let has_root = directory.anchor > directory.drive;
        let anchor = match (has_root, directory.drive) {
            (true, _) | (false, 0) => self.anchor(),
            (false, _) => self.drive(),
        };
        if !self.is_same_name(anchor, directory.anchor()) {
            return None;
        }
        let is_below_drive_alone = anchor.len() != self.anchor;
        if is_below_drive_alone && directory.components().next().is_some() {
            return None;
        }
        let mut names = self.components();
        let mut above = directory.components();
        let is_below = above.all(|name| names.next().is_some_and(|n| self.is_same_name(n, name)));
        is_below.then_some(names)
    }

    /// The deepest path that all of them are within, in the spelling of the first; `None` if they have no anchor in common,
    /// or there are none.
    pub fn common<'a>(mut paths: impl Iterator<Item = &'a Self>) -> Option<Self> {
        let first = paths.next()?;
        let mut names: Vec<&[u8]> = first.components().collect();
        for path in paths {
            let is_same_anchor = first.is_same_name(first.anchor(), path.anchor());
            if !is_same_anchor || first.format != path.format {
                return None;
            }
            let pairs = names.iter().zip(path.components());
            let same = pairs.take_while(|(one, other)| first.is_same_name(one, other));
            names.truncate(same.count());
        }
        let mut common = first.clone();
        common.text.truncate(common.anchor);
        for name in names {
            common.push(name);
        }
        Some(common)
    }

    /// Whether two names are the same on the path's system.
    fn is_same_name(&self, one: &[u8], other: &[u8]) -> bool {
        match self.format {
            PathFormat::Posix => one == other,
            PathFormat::Windows => one == other || FoldedName::of(one) == FoldedName::of(other),
        }
    }

    /// Whether a name stays one name where it is put between separators.
    fn fits(&self, name: &[u8]) -> bool {
        let is_split = name.iter().any(|&byte| self.format.separates(byte));
        // What is behind a colon is a path on another drive, or a stream of a file.
        let is_elsewhere = self.format == PathFormat::Windows && name.contains(&b':');
        !is_split && !is_elsewhere && !matches!(name, b"" | b".")
    }

    fn push(&mut self, component: &[u8]) {
        if self.text.len() > self.anchor {
            self.text.push(self.format.separator());
        }
        self.text.extend_from_slice(component);
    }
}

/// Safe to show; what is unusual comes out escaped, the separators of Windows do not.
impl fmt::Display for ForeignPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_escaped(f, self.format, self.as_bytes())
    }
}

impl fmt::Debug for ForeignPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A path as it may be shown: a separator is written as it is, all else as [`EscapedBytes`].
pub(crate) fn write_escaped(
    f: &mut fmt::Formatter<'_>,
    format: PathFormat,
    text: &[u8],
) -> fmt::Result {
    let separator = format.separator();
    for (number, part) in text.split(|&byte| byte == separator).enumerate() {
        if number > 0 {
            write!(f, "{}", char::from(separator))?;
        }
        write!(f, "{}", EscapedBytes(part))?;
    }
    Ok(())
}
