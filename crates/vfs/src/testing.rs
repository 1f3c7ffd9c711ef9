//! A file system used by paths, for tests: walks to each name anew, as a kernel without a cache does.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use attachfs_tree::{Ino, Kind, Special};

use crate::{
    Access, FileAttr, FsError, FsErrorKind, HandleId, ReadOutcome, SetAttr, SetXattr, Vfs,
};

/// For reading and writing.
pub const READ_WRITE: Access = Access {
    read: true,
    write: true,
    sync: false,
};

/// For reading.
pub const READ: Access = Access {
    read: true,
    write: false,
    sync: false,
};

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// A directory.
    Dir,
    /// A file with these bytes.
    File(Vec<u8>),
    /// A symbolic link with this text.
    Link(Vec<u8>),
    /// A FIFO or a socket.
    Special(Special),
}

/// A file system whose operations take paths, `/` between the names and none in front.
#[derive(Debug, Clone)]
pub struct Paths<V> {
    /// The file system, owned or shared.
    pub vfs: V,
}

type Answer<T> = Result<T, FsErrorKind>;

fn kind(error: FsError) -> FsErrorKind {
    error.kind()
}

impl<V: Borrow<Vfs>> Paths<V> {
    fn vfs(&self) -> &Vfs {
        self.vfs.borrow()
    }

    /// What stat(2) says of a path.
    pub fn stat(&self, path: &str) -> Answer<FileAttr> {
        let mut at = self.vfs().getattr(Ino::ROOT).map_err(kind)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if at.kind != Kind::Dir {
                return Err(FsErrorKind::NotADirectory);
            }
            at = self.vfs().lookup(at.ino, name.as_bytes()).map_err(kind)?;
        }
        Ok(at)
    }

    /// The directory that a path is in, and its name there.
    fn parent<'a>(&self, path: &'a str) -> Answer<(Ino, &'a [u8])> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = self.stat(dir)?;
        if dir.kind != Kind::Dir {
            return Err(FsErrorKind::NotADirectory);
        }
        Ok((dir.ino, name.as_bytes()))
    }

    /// Opens what is at a path.
    pub fn open(&self, path: &str, access: Access, truncate: bool) -> Answer<HandleId> {
        let ino = self.stat(path)?.ino;
        let opened = self.vfs().open(ino, access, truncate);
        Ok(opened.map_err(kind)?.handle)
    }

    /// Makes a new file, and opens it for reading and writing.
    pub fn create(&self, path: &str) -> Answer<HandleId> {
        let (dir, name) = self.parent(path)?;
        if self.vfs().lookup(dir, name).is_ok() {
            return Err(FsErrorKind::Exists);
        }
        let created = self.vfs().create_file(dir, name, 0o644, (0, 0), READ_WRITE);
        Ok(created.map_err(kind)?.1.handle)
    }

    fn set(&self, path: &str, set: SetAttr) -> Answer<()> {
        let ino = self.stat(path)?.ino;
        self.vfs().setattr(ino, set).map(drop).map_err(kind)
    }

    /// Cuts or lengthens a file.
    pub fn truncate(&self, path: &str, size: u64) -> Answer<()> {
        let set = SetAttr {
            size: Some(size),
            ..SetAttr::default()
        };
        self.set(path, set)
    }

    /// Sets the permission bits.
    pub fn chmod(&self, path: &str, mode: u32) -> Answer<()> {
        let set = SetAttr {
            mode: Some(mode),
            ..SetAttr::default()
        };
        self.set(path, set)
    }

    /// Makes a directory.
    pub fn mkdir(&self, path: &str) -> Answer<()> {
        let (dir, name) = self.parent(path)?;
        let made = self.vfs().mkdir(dir, name, 0o755, (0, 0));
        made.map(drop).map_err(kind)
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, path: &str) -> Answer<()> {
        let (dir, name) = self.parent(path)?;
        self.vfs().rmdir(dir, name).map_err(kind)
    }

    /// Removes the name of a file or a link.
    pub fn unlink(&self, path: &str) -> Answer<()> {
        let (dir, name) = self.parent(path)?;
        self.vfs().unlink(dir, name).map_err(kind)
    }

    /// Renames, replacing what has the new name.
    pub fn rename(&self, from: &str, to: &str) -> Answer<()> {
        let (from, to) = (self.parent(from)?, self.parent(to)?);
        self.vfs().rename(from, to, false).map_err(kind)
    }

    /// Has what is at two paths change places.
    pub fn exchange(&self, one: &str, other: &str) -> Answer<()> {
        let (one, other) = (self.parent(one)?, self.parent(other)?);
        self.vfs().exchange(one, other).map_err(kind)
    }

    /// Sets an extended attribute.
    pub fn set_xattr(&self, path: &str, name: &str, value: &[u8]) -> Answer<()> {
        let node = self.vfs().node_of(self.stat(path)?.ino);
        let set = (self.vfs()).set_xattr(node, name.as_bytes(), value, SetXattr::Always);
        set.map_err(kind)
    }

    /// Removes an extended attribute.
    pub fn remove_xattr(&self, path: &str, name: &str) -> Answer<()> {
        let node = self.vfs().node_of(self.stat(path)?.ino);
        let removed = self.vfs().remove_xattr(node, name.as_bytes());
        removed.map_err(kind)
    }

    /// The extended attributes that were set.
    pub fn xattrs(&self, path: &str) -> Answer<Vec<(String, Vec<u8>)>> {
        let ino = self.stat(path)?.ino;
        let namespace = self.vfs().namespace.read();
        let all = namespace.xattrs(ino);
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        Ok(all
            .map(|(name, value)| (text(name), value.to_vec()))
            .collect())
    }

    /// Gives a file a second name.
    pub fn link(&self, from: &str, to: &str) -> Answer<()> {
        let (dir, name) = self.parent(to)?;
        let ino = self.stat(from)?.ino;
        self.vfs().link(ino, dir, name).map(drop).map_err(kind)
    }

    /// Makes a symbolic link.
    pub fn symlink(&self, path: &str, target: &str) -> Answer<()> {
        let (dir, name) = self.parent(path)?;
        let made = self.vfs().symlink(dir, name, target.as_bytes(), (0, 0));
        made.map(drop).map_err(kind)
    }

    /// Makes a FIFO or a socket.
    pub fn make_special(&self, path: &str, special: Special) -> Answer<()> {
        let (dir, name) = self.parent(path)?;
        let made = self.vfs().make_special(dir, name, special, 0o644, (0, 0));
        made.map(drop).map_err(kind)
    }

    /// All bytes of a file.
    pub async fn content(&self, ino: Ino) -> Result<Vec<u8>, FsError> {
        let handle = self.vfs().open(ino, READ, false)?.handle;
        let mut bytes = Vec::new();
        loop {
            let more = match self.vfs().read(handle, bytes.len() as u64, 1 << 20)? {
                ReadOutcome::Ready(more) => more,
                ReadOutcome::Pending(more) => more.await?,
            };
            if more.is_empty() {
                break;
            }
            bytes.extend(more);
        }
        self.vfs().release(handle)?;
        Ok(bytes)
    }

    /// Everything below the root, by its path.
    pub async fn tree(&self) -> Result<BTreeMap<String, (FileAttr, Shown)>, FsError> {
        let mut shown = BTreeMap::new();
        let mut open = vec![(String::new(), Ino::ROOT)];
        while let Some((above, dir)) = open.pop() {
            let handle = self.vfs().opendir(dir)?.handle;
            let view = self.vfs().dir_view(handle)?;
            // The first two are the directory itself and the one above.
            for entry in (2..).map_while(|offset| view.entry(offset)) {
                let path = format!("{above}{}", String::from_utf8_lossy(entry.name));
                let Some(attr) = self.vfs().entry_attr(&view, &entry) else {
                    // Removed since the directory was opened.
                    continue;
                };
                let what = match entry.kind {
                    Kind::Dir => {
                        open.push((format!("{path}/"), entry.ino));
                        Shown::Dir
                    }
                    Kind::Symlink => Shown::Link(self.vfs().readlink(entry.ino)?),
                    Kind::File => Shown::File(self.content(entry.ino).await?),
                    Kind::Special(special) => Shown::Special(special),
                };
                shown.insert(path, (attr, what));
            }
            self.vfs().releasedir(handle)?;
        }
        Ok(shown)
    }
}
