//! Files that are too large for a commit: nothing is hashed before it is known that there are none.
//!
//! A sparse file may say that it has 8 EiB. The hashes of its chunks would fill any memory, and of one that is stored as a single object the
//! zeros would be hashed for years.

use std::cmp::Reverse;
use std::fmt;

use attachfs_manifest::{ChunkSize, ManifestPath};
use attachfs_transfer::{LONGEST_OBJECT, MOST_CHUNKS};
use attachfs_tree::FileContent;
use attachfs_vfs::Vfs;

use crate::error::CommitError;
use crate::plan::Unhashed;

/// A file that is too large for a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LargeFile {
    /// Its path.
    pub path: ManifestPath,
    /// Its length in bytes.
    pub size: u64,
}

impl fmt::Display for LargeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" has {} bytes", self.path, self.size)
    }
}

/// Fails if the written files of a commit are too large, and names those without which they are not.
pub(crate) fn check_sizes(
    vfs: &Vfs,
    files: &[Unhashed],
    chunk_size: ChunkSize,
) -> Result<(), CommitError> {
    let mut sizes = Vec::new();
    for file in files {
        let size = match &file.content {
            FileContent::Mapped(mapping) => mapping.size,
            FileContent::Base | FileContent::Scratch => {
                let stamp = vfs.scratch_stamp(file.ino);
                stamp.map_err(|error| file.not_read(error))?.size
            }
        };
        sizes.extend(file.paths().next().map(|path| (path, size)));
    }
    check(sizes, chunk_size)
}

/// [`check_sizes`] of files with these lengths.
pub(crate) fn check(
    files: impl IntoIterator<Item = (ManifestPath, u64)>,
    chunk_size: ChunkSize,
) -> Result<(), CommitError> {
    let files = files.into_iter();
    // Files that are one object each are bounded by how many there are.
    let mut large: Vec<(u64, LargeFile)> = files
        .map(|(path, size)| (chunk_size.count(size), LargeFile { path, size }))
        .filter(|(chunks, file)| *chunks > 1 || file.size > LONGEST_OBJECT)
        .collect();
    large.sort_by_key(|(chunks, file)| Reverse((*chunks, file.size)));
    let longest = match chunk_size {
        ChunkSize::WholeFile => LONGEST_OBJECT,
        ChunkSize::Bytes(chunk) if chunk.get() > LONGEST_OBJECT => LONGEST_OBJECT,
        ChunkSize::Bytes(_) => u64::MAX,
    };
    let mut chunks = large
        .iter()
        .fold(0, |sum: u64, (chunks, _)| sum.saturating_add(*chunks));
    let mut too_large = Vec::new();
    for (count, file) in large {
        if chunks > MOST_CHUNKS || file.size > longest {
            chunks -= count;
            too_large.push(file);
        }
    }
    if too_large.is_empty() {
        return Ok(());
    }
    Err(CommitError::TooLarge {
        files: too_large,
        chunk_size,
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::testing::path;

    const TIB: u64 = 1 << 40;

    /// The names of the files that are too large.
    fn too_large(files: &[(&str, u64)], chunk_size: ChunkSize) -> Vec<String> {
        let files = files.iter().map(|(name, size)| (path(name), *size));
        match check(files, chunk_size) {
            Ok(()) => Vec::new(),
            Err(CommitError::TooLarge { files, .. }) => {
                files.iter().map(|file| file.path.to_string()).collect()
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn the_largest_files_are_named_without_which_the_others_fit() {
        let cut = ChunkSize::DEFAULT;
        assert_eq!(too_large(&[("a", 0), ("b", 1024 * TIB)], cut), [""; 0]);
        assert_eq!(too_large(&[("a", 7 << 60), ("b", TIB)], cut), ["a"]);
        let files = [("a", 300 * TIB), ("b", 400 * TIB), ("c", 500 * TIB)];
        assert_eq!(too_large(&files, cut), ["c"]);
        assert_eq!(
            too_large(&[("a", u64::MAX), ("b", u64::MAX)], cut),
            ["a", "b"]
        );
        // A million small ones are no matter.
        let many: Vec<_> = (0..1_000_000).map(|_| ("f", 1 << 20)).collect();
        assert_eq!(too_large(&many, cut), [""; 0]);
    }

    #[test]
    fn a_file_that_is_one_object_is_no_longer_than_an_object_can_be() {
        let files = [("a", LONGEST_OBJECT), ("b", LONGEST_OBJECT + 1)];
        assert_eq!(too_large(&files, ChunkSize::WholeFile), ["b"]);
        let huge = ChunkSize::Bytes(NonZeroU64::new(1 << 62).unwrap());
        assert_eq!(too_large(&files, huge), ["b"]);
    }
}
