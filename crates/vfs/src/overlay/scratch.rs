//! Scratch files: the bytes that a job wrote, one file an inode, at the offsets of the file.
//!
//! ```text
//!     <scratch>/4000000000000000          one for each inode: 16 hexadecimal digits
//!     <scratch>/aside/4000000000000001    what nothing is known of, kept for a person to look at
//!     <scratch>/aside/4000000000000001.1
//! ```

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

    /// Uses a directory as it is, even if it is missing.
    pub(crate) fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
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

    /// Where [`set_aside`](Self::set_aside) puts files.
    pub fn aside(&self) -> PathBuf {
        self.dir.join("aside")
    }

    /// Moves a scratch file out of the way, durably, and says where it is now.
    pub(crate) fn set_aside(&self, ino: Ino) -> Result<PathBuf, DurableError> {
        let aside = self.aside();
        create_private_dir(&aside)?;
        let to = free_name(&aside.join(format!("{:016x}", ino.raw())));
        let from = self.path(ino);
        std::fs::rename(&from, &to).map_err(|source| DurableError {
            doing: "move aside",
            path: from,
            source,
        })?;
        sync_dir(&aside)?;
        sync_dir(&self.dir)?;
        Ok(to)
    }

    /// How many files were set aside.
    pub fn count_aside(&self) -> io::Result<u64> {
        match std::fs::read_dir(self.aside()) {
            Ok(entries) => Ok(entries.count() as u64),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// The inodes that have a scratch file. Files with other names are not this session's.
    pub fn inodes(&self) -> io::Result<Vec<Ino>> {
        let mut inodes = Vec::new();
        let entries = match std::fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(inodes),
            entries => entries?,
        };
        for entry in entries {
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

/// This path, or the first with a number behind it that nothing has. One process has the directory.
fn free_name(path: &Path) -> PathBuf {
    let numbered = (1..).map(|number| path.with_extension(number.to_string()));
    std::iter::once(path.to_owned())
        .chain(numbered)
        .find(|path| path.symlink_metadata().is_err())
        .unwrap_or_else(|| path.to_owned())
}
