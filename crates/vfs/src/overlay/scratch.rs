//! Scratch files: the bytes that a job wrote, one file an inode, at the offsets of the file.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use attachfs_durable::{DurableError, OwnDir, Space};
use attachfs_tree::Ino;

/// The directory of scratch files: `<dir>/<inode number, 16 hex digits>`. It is held open, and this user's
/// alone.
#[derive(Debug)]
pub struct Scratch {
    dir: OwnDir,
}

impl Scratch {
    /// Uses a directory.
    pub fn new(dir: OwnDir) -> Self {
        Self { dir }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The name of an inode's scratch file.
    fn name(ino: Ino) -> String {
        format!("{:016x}", ino.raw())
    }

    /// Whether a name is that of a scratch file.
    pub(crate) fn is_name(name: &str) -> bool {
        u64::from_str_radix(name, 16).is_ok_and(|raw| Self::name(Ino::from_raw(raw)) == name)
    }

    /// Where an inode's scratch file is, whether or not it has one.
    pub fn path(&self, ino: Ino) -> PathBuf {
        self.dir().join(Self::name(ino))
    }

    /// A new, empty scratch file. One that is there was left by a process that died before it
    /// recorded it, and is removed; what is written never goes into something that was there.
    pub fn create(&self, ino: Ino) -> io::Result<File> {
        let name = Self::name(ino);
        let mut created = self.dir.create_file(&name);
        if let Err(error) = &created
            && error.kind() == io::ErrorKind::AlreadyExists
        {
            self.remove(ino)?;
            created = self.dir.create_file(&name);
        }
        created.map_err(|error| error.source)
    }

    /// Opens a scratch file for reading and writing.
    pub fn open_file(&self, ino: Ino) -> io::Result<File> {
        let opened = self.dir.open_file_to_write(&Self::name(ino));
        opened.map_err(|error| error.source)
    }

    /// Opens a scratch file for reading.
    pub fn open_to_read(&self, ino: Ino) -> io::Result<File> {
        let opened = self.dir.open_file(&Self::name(ino));
        opened.map_err(|error| error.source)
    }

    /// Removes a scratch file; that there is none is fine.
    pub fn remove(&self, ino: Ino) -> io::Result<()> {
        let removed = self.dir.remove_file(&Self::name(ino));
        removed.map_err(|error| error.source)
    }

    /// Makes the names of new scratch files durable.
    pub fn sync_names(&self) -> Result<(), DurableError> {
        self.dir.sync()
    }

    /// The room for more.
    pub fn space(&self) -> Result<Space, DurableError> {
        self.dir.space()
    }

    /// The inodes that have a scratch file. Files with other names are not this session's.
    pub fn inodes(&self) -> io::Result<Vec<Ino>> {
        let names = self.dir.names().map_err(|error| error.source)?;
        let mut inodes = Vec::new();
        for name in names.iter().filter_map(|name| name.to_str()) {
            if Self::is_name(name)
                && let Ok(raw) = u64::from_str_radix(name, 16)
            {
                inodes.push(Ino::from_raw(raw));
            }
        }
        Ok(inodes)
    }
}
