//! The files that are open, for reports.

use crate::Vfs;

/// A file that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenNode {
    /// The inode number that is shown.
    pub ino: u64,
    /// Its name as messages have it.
    pub path: String,
    /// How often it is open.
    pub handles: u64,
    /// How often it is open for writing.
    pub writers: u64,
}

impl Vfs {
    /// How many files are open.
    pub fn open_file_count(&self) -> u64 {
        self.handles.open_inode_count()
    }

    /// The files that are open, `most` of them: those that are written to first.
    pub fn open_files(&self, most: usize) -> Vec<OpenNode> {
        let mut open = self.handles.open_inodes();
        open.sort_by_key(|&(ino, _, writers)| (writers == 0, ino));
        let open = open.into_iter().take(most);
        open.map(|(ino, handles, writers)| OpenNode {
            ino: ino.raw(),
            path: self.describe(ino),
            handles,
            writers,
        })
        .collect()
    }
}
