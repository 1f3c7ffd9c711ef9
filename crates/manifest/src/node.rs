//! What a manifest says of one path.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{ContentHash, ManifestPath};

/// A modification time in microseconds since the Unix epoch, rounded down (`st_mtime_ns // 1000`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mtime(pub i64);

impl Mtime {
    /// From seconds and nanoseconds, as `stat` gives them.
    pub const fn from_unix(seconds: i64, nanoseconds: i64) -> Self {
        Self(
            seconds
                .saturating_mul(1_000_000)
                .saturating_add(nanoseconds.div_euclid(1000)),
        )
    }

    /// Whole seconds and the nanoseconds beyond them (0 to 999,999,000).
    pub const fn to_unix(self) -> (i64, u32) {
        (
            self.0.div_euclid(1_000_000),
            (self.0.rem_euclid(1_000_000) * 1000) as u32,
        )
    }
}

/// Where the bytes of a file are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// One object holds the whole file.
    Whole(ContentHash),
    /// Objects of the manifest's chunk size, the last one shorter; at least two.
    Chunks(Arc<[ContentHash]>),
    /// Not known: a legal state of a 2025-12 manifest, but nothing to mount or upload.
    Unhashed,
}

impl Content {
    /// The objects, in order; none if they are not known.
    pub fn hashes(&self) -> &[ContentHash] {
        match self {
            Self::Whole(hash) => std::slice::from_ref(hash),
            Self::Chunks(hashes) => hashes,
            Self::Unhashed => &[],
        }
    }
}

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Length in bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: Mtime,
    /// Whether any execute bit is set. Always `false` in 2023-03-03.
    pub runnable: bool,
    /// Where the bytes are.
    pub content: Content,
}

/// What a symbolic link points to. In a relative manifest the target is a path from the manifest's
/// *root*, not from the link; [`LinkTarget::Root`] is the root itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LinkTarget {
    /// The root directory.
    Root,
    /// A path below the root.
    Below(ManifestPath),
}

impl LinkTarget {
    /// The text that `readlink` gives for a link at `link`: the way from the link's directory.
    pub fn relative_to(&self, link: &ManifestPath) -> Vec<u8> {
        let from: Vec<&[u8]> = link.components().collect();
        let from = &from[..from.len() - 1];
        let to: Vec<&[u8]> = match self {
            Self::Root => Vec::new(),
            Self::Below(path) => path.components().collect(),
        };
        let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
        let mut parts: Vec<&[u8]> = vec![b".."; from.len() - common];
        parts.extend(&to[common..]);
        if parts.is_empty() {
            return b".".to_vec();
        }
        parts.join(&b'/')
    }

    /// The target of a link at `link` whose text is `text`, or `None` if the text leads out of the
    /// root or is absolute. Purely lexical: links on the way are not followed.
    pub fn resolve(link: &ManifestPath, text: &[u8]) -> Option<Self> {
        if text.is_empty() || text[0] == b'/' {
            return None;
        }
        let mut parts: Vec<&[u8]> = link.components().collect();
        parts.pop();
        for part in text.split(|&b| b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop()?;
                }
                _ => parts.push(part),
            }
        }
        if parts.is_empty() {
            return Some(Self::Root);
        }
        ManifestPath::new(&parts.join(&b'/')).ok().map(Self::Below)
    }
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Node {
    /// A directory.
    Dir,
    /// A regular file.
    File(File),
    /// A symbolic link.
    Symlink(LinkTarget),
}

impl Node {
    /// The file, if it is one.
    pub fn as_file(&self) -> Option<&File> {
        match self {
            Self::File(file) => Some(file),
            Self::Dir | Self::Symlink(_) => None,
        }
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        matches!(self, Self::Dir)
    }

    /// What it is, in words, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Dir => "a directory",
            Self::File(_) => "a file",
            Self::Symlink(_) => "a symbolic link",
        }
    }
}

/// What a [`Diff`](crate::Diff) says of a path.
///
/// A file and a link replace each other by `Put` alone. Where a directory becomes a file or link,
/// or the reverse, the path has two changes: the deletion of what was there and the `Put`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The path is now this. A directory that is already there stays as it is.
    Put(Node),
    /// A directory is gone; everything in it has its own entry.
    DeleteDir,
    /// A file or symbolic link is gone.
    DeleteFile,
}

impl Change {
    /// What is put, if something is.
    pub fn as_put(&self) -> Option<&Node> {
        match self {
            Self::Put(node) => Some(node),
            Self::DeleteDir | Self::DeleteFile => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ManifestPath {
        ManifestPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn times_before_the_epoch_round_down() {
        assert_eq!(Mtime::from_unix(-1, 999_999_999), Mtime(-1));
        assert_eq!(Mtime(-1).to_unix(), (-1, 999_999_000));
        assert_eq!(
            Mtime::from_unix(1_700_000_000, 123_456_789),
            Mtime(1_700_000_000_123_456)
        );
        assert_eq!(Mtime::from_unix(i64::MAX, 0), Mtime(i64::MAX));
    }

    #[test]
    fn a_target_is_told_from_the_directory_of_its_link() {
        for (link, target, text) in [
            ("l", "a", "a"),
            ("d/l", "a", "../a"),
            ("d/l", "d/a", "a"),
            ("d/e/l", "d/f/a", "../f/a"),
            ("d/l", "d", "."),
            ("d/e/l", "d", ".."),
        ] {
            let target = LinkTarget::Below(path(target));
            assert_eq!(
                target.relative_to(&path(link)),
                text.as_bytes(),
                "{link} {text}"
            );
            assert_eq!(
                LinkTarget::resolve(&path(link), text.as_bytes()),
                Some(target)
            );
        }
        assert_eq!(LinkTarget::Root.relative_to(&path("l")), b".");
        assert_eq!(LinkTarget::Root.relative_to(&path("d/e/l")), b"../..");
        assert_eq!(
            LinkTarget::resolve(&path("d/l"), b"./../"),
            Some(LinkTarget::Root)
        );
    }

    #[test]
    fn a_target_outside_the_root_is_none() {
        for text in ["", "/a", "../../a", "..//../a", "a/../../.."] {
            assert_eq!(
                LinkTarget::resolve(&path("d/l"), text.as_bytes()),
                None,
                "{text}"
            );
        }
    }
}
