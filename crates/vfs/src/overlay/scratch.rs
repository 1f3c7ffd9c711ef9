//! Scratch files: the bytes that a job wrote, one file an inode, at the offsets of the file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use attachfs_durable::{DurableError, Space, create_private_dir, space, sync_dir};
use attachfs_tree::Ino;

/// The directory of scratch files: `<dir>/<inode number, 16 hex digits>`.
#[derive(Debug)]
pub struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    /// Uses a directory, creating it (0700) if need be.
    pub fn open(dir: &Path) -> Result<Self, DurableError> {
        create_private_dir(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where an inode's scratch file is, whether or not it has one.
    pub fn path(&self, ino: Ino) -> PathBuf {
        self.dir.join(format!("{:016x}", ino.raw()))
    }

    /// A new, empty scratch file. One that is there was left by a process that died before it
    /// recorded it, and is emptied.
    pub fn create(&self, ino: Ino) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.path(ino))
    }

    /// Opens a scratch file for reading and writing.
    pub fn open_file(&self, ino: Ino) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path(ino))
    }

    /// Opens a scratch file for reading.
    pub fn open_to_read(&self, ino: Ino) -> io::Result<File> {
        File::open(self.path(ino))
    }

    /// Removes a scratch file; that there is none is fine.
    pub fn remove(&self, ino: Ino) -> io::Result<()> {
        match std::fs::remove_file(self.path(ino)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes the names of new scratch files durable.
    pub fn sync_names(&self) -> Result<(), DurableError> {
        sync_dir(&self.dir)
    }

    /// The room for more.
    pub fn space(&self) -> Result<Space, DurableError> {
        space(&self.dir)
    }

    /// The inodes that have a scratch file. Files with other names are not this session's.
    pub fn inodes(&self) -> io::Result<Vec<Ino>> {
        let mut inodes = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let number = name
                .to_str()
                .and_then(|hex| u64::from_str_radix(hex, 16).ok());
            if let Some(ino) = number.map(Ino::from_raw)
                && self.path(ino).file_name() == Some(&name)
            {
                inodes.push(ino);
            }
        }
        Ok(inodes)
    }
}
