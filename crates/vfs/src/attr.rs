//! The attributes that `stat` shows.

use attachfs_tree::{Attributes, Ino, Kind, Timestamp};

/// Owners, modes and times for everything that neither the manifest nor the job has set.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Owner of files whose owner was not changed.
    pub uid: u32,
    /// Group of files whose group was not changed.
    pub gid: u32,
    /// Permission bits of files; a runnable file has an execute bit for each of its read bits.
    pub file_mode: u32,
    /// Permission bits of directories.
    pub dir_mode: u32,
    /// The time of unchanged directories.
    pub created: Timestamp,
    /// Whether a name that is missing leads to one that differs only in case.
    pub case_insensitive: bool,
}

/// The attributes of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileAttr {
    /// Its number.
    pub ino: Ino,
    /// Its kind.
    pub kind: Kind,
    /// Length in bytes; of the text for a symbolic link.
    pub size: u64,
    /// Allocated space in units of 512 bytes.
    pub blocks: u64,
    /// Last access: as it was set, else `mtime`.
    pub atime: Timestamp,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of anything.
    pub ctime: Timestamp,
    /// Permission bits.
    pub perm: u32,
    /// How many names it has; of a directory, 2 and one for each directory in it.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Whether an adapter may keep them: nobody changes the file without asking the file system. Otherwise somebody may be writing
    /// to a mapping of it.
    pub lasting: bool,
}

impl Settings {
    /// The permission bits of an inode.
    pub fn perm(&self, kind: Kind, attributes: &Attributes) -> u32 {
        match (attributes.mode, kind) {
            (Some(mode), _) => mode,
            (None, Kind::Dir) => self.dir_mode,
            (None, Kind::Symlink) => 0o777,
            (None, Kind::File) if attributes.runnable => {
                self.file_mode | (self.file_mode & 0o444) >> 2
            }
            (None, Kind::File | Kind::Special(_)) => self.file_mode,
        }
    }
}
