//! What a scan found.

use std::fmt;
use std::path::PathBuf;

use attachfs_durable::FileStamp;
use attachfs_manifest::{LinkTarget, ManifestPath, Mtime};

/// Everything found below a folder.
#[derive(Debug, Clone)]
pub struct Scan {
    /// The folder, absolute and without symbolic links.
    pub root: PathBuf,
    /// What a manifest can hold, in the order of [`ManifestPath`]. Every entry's directories are
    /// entries themselves, and nothing lies below a file or a link.
    pub entries: Vec<ScannedEntry>,
    /// What was left out, in the same order.
    pub skipped: Vec<Skipped>,
}

impl Scan {
    /// How many regular files were found.
    pub fn file_count(&self) -> u64 {
        self.files().count() as u64
    }

    /// The sum of their lengths.
    pub fn byte_count(&self) -> u64 {
        self.files().map(|file| file.size).sum()
    }

    fn files(&self) -> impl Iterator<Item = &ScannedFile> {
        self.entries.iter().filter_map(|entry| match &entry.kind {
            EntryKind::File(file) => Some(file),
            EntryKind::Dir | EntryKind::Symlink(_) => None,
        })
    }
}

/// One thing that a manifest can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedEntry {
    /// Where it is in the manifest.
    pub path: ManifestPath,
    /// What it is.
    pub kind: EntryKind,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Dir,
    /// A regular file.
    File(ScannedFile),
    /// A symbolic link that stays one.
    Symlink(LinkTarget),
}

/// A regular file, as its metadata says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedFile {
    /// The file itself: absolute, no component of it is a symbolic link. Lies outside of the root if
    /// a link was replaced by what it points to.
    pub source: PathBuf,
    /// Length in bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: Mtime,
    /// Whether any execute bit is set.
    pub runnable: bool,
    /// Which file, and in what state: another state means that the bytes may be others.
    pub stamp: FileStamp,
}

/// Something that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Where it would be in the manifest.
    pub path: ManifestPath,
    /// Why it is not.
    pub reason: SkipReason,
}

/// Why something was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// Neither a file, a directory nor a link: FIFO, socket or device.
    Special,
    /// The policy leaves out such links.
    LinkExcluded,
    /// A link to be replaced by what it points to, which does not exist.
    LinkBroken,
    /// A link to be replaced by what it points to, which is itself or a directory that holds it.
    LinkCycle,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Special => "a FIFO, socket or device cannot be in a manifest",
            Self::LinkExcluded => "the symbolic link is left out as asked",
            Self::LinkBroken => "the symbolic link points to nothing that could take its place",
            Self::LinkCycle => "the symbolic link leads in a circle",
        })
    }
}
