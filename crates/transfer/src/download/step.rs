//! The single things that a plan has to do.

use attachfs_durable::FileStamp;
use attachfs_manifest::{
    ChunkLayout, ChunkSize, Content, ContentHash, File, Hasher, LinkTarget, ManifestPath,
};

use super::conflict::Occupant;
use super::failure::{FileError, FileResult};
use super::paths::parent_bytes;

/// What the place of a file is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Free,
    /// There is a file of the right length.
    Alike(FileStamp),
    Taken(Occupant),
}

/// A file to be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileStep {
    pub(super) path: ManifestPath,
    pub(super) file: File,
    pub(super) place: Place,
    /// The swap that it waits for: something is to be deleted at this path, which is its own or above it.
    pub(super) swap: Option<ManifestPath>,
}

impl FileStep {
    /// The path of the directory in which it is fetched; empty for the root. One that waits for its own
    /// directory is fetched beside what is in that one's place.
    pub(super) fn fetched_in(&self) -> &[u8] {
        parent_bytes(self.swap.as_ref().unwrap_or(&self.path).borrowed())
    }

    /// What the file is going to be: its place, its bytes, its permissions. By this another run finds what
    /// was fetched of it.
    pub(super) fn key(&self) -> ContentHash {
        let mut hasher = Hasher::new();
        hasher.update(self.path.as_bytes());
        hasher.update(&[0, self.file.runnable.into()]);
        hasher.update(&self.file.size.to_le_bytes());
        for hash in self.file.content.hashes() {
            hasher.update(hash.as_bytes());
        }
        hasher.finish()
    }

    /// By what it is known while it is fetched at once, being one object. Only one that waits is of use to
    /// another run.
    pub(super) fn key_at_once(&self, object: ContentHash) -> ContentHash {
        if self.swap.is_some() {
            self.key()
        } else {
            object
        }
    }

    /// How the file is cut: one that is longer than a chunk may be one object all the same.
    pub(super) fn cut(&self, chunk_size: ChunkSize) -> ChunkSize {
        match &self.file.content {
            Content::Whole(_) if chunk_size.count(self.file.size) > 1 => ChunkSize::WholeFile,
            _ => chunk_size,
        }
    }

    /// How the file's bytes lie in objects.
    pub(super) fn layout(&self, chunk_size: ChunkSize) -> FileResult<ChunkLayout<'_>> {
        ChunkLayout::new(self.file.size, chunk_size, &self.file.content)
            .map_err(|error| FileError::InTheWay(error.to_string()).into())
    }
}

/// A link to be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LinkStep {
    pub(super) path: ManifestPath,
    pub(super) target: LinkTarget,
    /// What is in its place.
    pub(super) taken: Option<Occupant>,
}

/// Something to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Deletion {
    pub(super) path: ManifestPath,
    pub(super) is_dir: bool,
    /// Of what is meant: anything else stays.
    pub(super) stamp: FileStamp,
}

/// Something takes the place of something else, which a diff deletes for it. What comes there are these
/// directories and links, and the files that name the swap.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Swap {
    pub(super) deletions: Vec<Deletion>,
    pub(super) dirs: Vec<ManifestPath>,
    pub(super) links: Vec<LinkStep>,
}
