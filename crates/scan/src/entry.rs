//! What a scan found.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use attachfs_durable::FileStamp;
use attachfs_manifest::{LinkTarget, ManifestPath, Mtime};

use crate::anchor::Folder;
use crate::os::Facts;

/// Everything found below a folder.
#[derive(Debug, Clone)]
pub struct Scan {
    /// The folder, absolute and without symbolic links; `/` for an absolute scan.
    pub root: PathBuf,
    /// What a manifest can hold, in the order of [`ManifestPath`]. Every entry's directories are
    /// entries themselves, and nothing lies below a file or a link.
    pub entries: Vec<ScannedEntry>,
    /// Chosen entries that were left out, in the same order.
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

    /// How many files and directories were left out because they could not be read.
    pub fn unreadable_count(&self) -> u64 {
        let unreadable = |skipped: &&Skipped| skipped.reason.is_unreadable();
        self.skipped.iter().filter(unreadable).count() as u64
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

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Dir,
    /// A regular file.
    File(ScannedFile),
    /// A symbolic link that stays one.
    Symlink(LinkTarget),
}

/// A regular file and its metadata. [`ScannedFile::source`] gives its path, most of which all files
/// of a directory share.
#[derive(Clone)]
pub struct ScannedFile {
    pub(crate) folder: Arc<Folder>,
    pub(crate) name_start: usize,
    pub(crate) name_len: u8,
    /// Whether any execute bit is set.
    pub runnable: bool,
    /// Length in bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: Mtime,
    /// Identity and state of the file: if it differs later, the bytes may have changed.
    pub stamp: FileStamp,
}

impl ScannedFile {
    /// The file that has this name in the folder's list of names.
    pub(crate) fn new(folder: Arc<Folder>, name: (usize, u8), facts: &Facts) -> Self {
        Self {
            folder,
            name_start: name.0,
            name_len: name.1,
            runnable: facts.runnable,
            size: facts.stamp.size,
            mtime: facts.mtime,
            stamp: facts.stamp,
        }
    }

    /// The same file with other metadata.
    pub(crate) fn with(&self, facts: &Facts) -> Self {
        let name = (self.name_start, self.name_len);
        Self::new(Arc::clone(&self.folder), name, facts)
    }
}

impl PartialEq for ScannedFile {
    fn eq(&self, other: &Self) -> bool {
        // The stamp has the length and the time.
        self.stamp == other.stamp
            && self.runnable == other.runnable
            && self.source() == other.source()
    }
}

impl Eq for ScannedFile {}

impl fmt::Debug for ScannedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScannedFile")
            .field("source", &self.source())
            .field("size", &self.size)
            .field("mtime", &self.mtime)
            .field("runnable", &self.runnable)
            .field("stamp", &self.stamp)
            .finish_non_exhaustive()
    }
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
    /// A link to be replaced by what it points to, which is itself or a directory that was walked through
    /// such a link already.
    LinkCycle,
    /// A link whose text has a name of more than 255 bytes, which no manifest can hold.
    LinkTooLong,
    /// Another file system is mounted there, or the link leads to one, and such are left out.
    OtherFileSystem,
    /// A file that may be missing is.
    Missing,
    /// It was gone when its turn came.
    Vanished,
    /// Something else was in its place when its turn came.
    Replaced,
    /// The system refused to read it.
    Unreadable(ErrorKind),
    /// Its path, the path of something in it or the target of the link is longer than a manifest
    /// can hold.
    Unrepresentable,
}

impl SkipReason {
    /// Whether the entry could not be read, or cannot be in a manifest. That is an error without
    /// [`skip_unreadable`](crate::ScanOptions::skip_unreadable).
    pub fn is_unreadable(self) -> bool {
        match self {
            Self::Vanished | Self::Replaced | Self::Unreadable(_) | Self::Unrepresentable => true,
            Self::Special
            | Self::LinkExcluded
            | Self::LinkBroken
            | Self::LinkCycle
            | Self::LinkTooLong
            | Self::OtherFileSystem
            | Self::Missing => false,
        }
    }
}

impl SkipReason {
    /// Whether the entry was left out because the caller asked for that.
    pub(crate) fn is_as_asked(self) -> bool {
        matches!(self, Self::LinkExcluded | Self::OtherFileSystem)
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Special => "a FIFO, socket or device cannot be in a manifest",
            Self::LinkExcluded => "the symbolic link is left out as asked",
            Self::LinkBroken => "the symbolic link points to nothing that could take its place",
            Self::LinkCycle => "the symbolic link leads in a circle",
            Self::LinkTooLong => {
                "the symbolic link leads to a name of more than 255 bytes, which cannot be in a manifest"
            }
            Self::OtherFileSystem => "it is on another file system, which is left out as asked",
            Self::Missing => "it does not exist, and is optional",
            Self::Vanished => "it vanished while the folder was being read",
            Self::Replaced => "it was replaced by something else while the folder was being read",
            Self::Unrepresentable => "a path there is longer than a manifest can hold",
            Self::Unreadable(kind) => return write!(f, "it cannot be read: {kind}"),
        })
    }
}
