//! A session over a store in memory, and the part of a kernel that walks paths and tries again.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use attachfs_durable::{create_private_dir, make_private};
use attachfs_fetch::{FetchOptions, Fetcher};
use attachfs_manifest::wire::{Format, encode_snapshot};
use attachfs_manifest::{
    ChunkSize, Content, ContentHash, File, LinkTarget, ManifestPath, Mtime, Node, Snapshot,
};
use attachfs_session::{BaseManifest, Session, SessionId, SessionMeta, StoreSettings};
use attachfs_store::MemoryStore;
use attachfs_store::fault::FaultStore;
use attachfs_store::record::RecordStore;
use attachfs_tree::{BaseTree, Ino, Kind, LayerOptions, Timestamp};
use tempfile::TempDir;

use crate::overlay::{OverlayFiles, ScratchDir};
use crate::{
    Access, Attachment, FileAttr, FileSystem, FsError, FsErrorKind, HandleId, Invalidation, NodeId,
    ReadOutcome, SetAttr, Settings, Vfs,
};

pub(crate) const CHUNK: u64 = 1000;

pub(crate) const READ_WRITE: Access = Access {
    read: true,
    write: true,
};
pub(crate) const READ: Access = Access {
    read: true,
    write: false,
};

/// What a base has at a path.
#[derive(Debug, Clone)]
pub(crate) enum Given {
    Dir,
    File(Vec<u8>),
    #[cfg_attr(not(unix), expect(dead_code, reason = "for tests with links"))]
    Link(&'static str),
}

/// A directory in memory where there is one: these tests kill processes, they do not cut power, and
/// syncing to a disk is slow.
pub(crate) fn tempdir() -> TempDir {
    let in_memory = || TempDir::new_in("/dev/shm");
    // Wine keeps no lists of rights there.
    let dir = if cfg!(windows) {
        TempDir::new()
    } else {
        in_memory().or_else(|_| TempDir::new())
    };
    let dir = dir.unwrap();
    // Else it would take what the directory above hands down.
    #[cfg(windows)]
    make_private(dir.path()).unwrap();
    dir
}

/// Bytes of which no two chunks are the same.
pub(crate) fn bytes(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at * 31 + at / 256 * 17 + 1) as u8)
        .collect()
}

pub(crate) fn path(text: &str) -> ManifestPath {
    ManifestPath::new(text.as_bytes()).unwrap()
}

/// A base, and the store that has its bytes.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) memory: Arc<MemoryStore>,
    pub(crate) record: Arc<RecordStore>,
    pub(crate) fault: Arc<FaultStore>,
    pub(crate) snapshot: Snapshot,
    pub(crate) tree: Arc<BaseTree>,
}

impl World {
    pub(crate) fn new(base: &[(&str, Given)]) -> Self {
        let memory = Arc::new(MemoryStore::new());
        let chunk_size = ChunkSize::Bytes(NonZeroU64::new(CHUNK).unwrap());
        let node = |given: &Given| match given {
            Given::Dir => Node::Dir,
            Given::Link(target) => Node::Symlink(LinkTarget::Below(path(target))),
            Given::File(bytes) => {
                let hashes: Vec<_> = chunk_size
                    .ranges(bytes.len() as u64)
                    .map(|range| {
                        memory.insert(bytes[range.start as usize..range.end as usize].to_vec())
                    })
                    .collect();
                Node::File(File {
                    size: bytes.len() as u64,
                    mtime: Mtime(1_600_000_000_000_000),
                    runnable: false,
                    content: match hashes[..] {
                        [whole] => Content::Whole(whole),
                        _ => Content::Chunks(hashes.into()),
                    },
                })
            }
        };
        let entries = base.iter().map(|(text, given)| (path(text), node(given)));
        let snapshot = Snapshot::new(chunk_size, None, entries.collect::<Vec<_>>()).unwrap();
        let fault = Arc::new(FaultStore::new(memory.clone()));
        Self {
            record: Arc::new(RecordStore::new(fault.clone())),
            fault,
            memory,
            tree: Arc::new(BaseTree::build(&snapshot).unwrap()),
            snapshot,
        }
    }

    pub(crate) fn fetcher(&self) -> Arc<Fetcher> {
        Arc::new(Fetcher::new(
            self.record.clone(),
            None,
            FetchOptions::default(),
        ))
    }

    pub(crate) fn manifest(&self) -> Vec<u8> {
        encode_snapshot(&self.snapshot, Format::V2025_12).unwrap()
    }

    pub(crate) fn meta(&self) -> SessionMeta {
        let hash = ContentHash::of(&self.manifest());
        SessionMeta {
            format: SessionMeta::FORMAT,
            id: SessionId::from_random([7; 16]),
            program: "test".to_owned(),
            created: settings().created,
            mount_point: "/mnt".into(),
            owner: 0,
            manifests: vec![BaseManifest {
                source: "base".to_owned(),
                hash,
                at: None,
            }],
            parent: hash,
            layers: LayerOptions::default(),
            store: StoreSettings::default(),
            scratch_dir: None,
            output_dirs: Vec::new(),
            commit_on_unmount: false,
            read_only: false,
        }
    }

    pub(crate) fn create(&self, dir: &Path) -> Kernel {
        let session = Session::create(dir, self.meta(), &[self.manifest()]).unwrap();
        let files = files(&session);
        let vfs = Vfs::create(files, self.tree.clone(), self.fetcher(), settings());
        Kernel::new(vfs.unwrap())
    }

    pub(crate) fn recover(&self, dir: &Path) -> Result<Kernel, crate::OpenError> {
        let files = files(&Session::open(dir).unwrap());
        let vfs = Vfs::recover(files, self.tree.clone(), self.fetcher(), settings())?;
        Ok(Kernel::new(vfs))
    }

    /// Looks at a session.
    pub(crate) fn look(&self, dir: &Path) -> Result<Kernel, crate::OpenError> {
        let files = files(&Session::open(dir).unwrap());
        let vfs = Vfs::look(files, self.tree.clone(), self.fetcher(), settings())?;
        Ok(Kernel::new(vfs))
    }

    /// What another process would find if the one that has `dir` were killed now.
    pub(crate) fn after_kill(&self, dir: &Path) -> (TempDir, Kernel) {
        let copy = tempdir();
        copy_dir(dir, copy.path());
        let kernel = self.recover(copy.path()).unwrap();
        (copy, kernel)
    }
}

/// The files of a session's overlay.
pub(crate) fn files(session: &Session) -> OverlayFiles {
    OverlayFiles {
        journal: session.journal_path(),
        scratch: match session.scratch_dir().unwrap() {
            Some(dir) => ScratchDir::Held(dir),
            None => ScratchDir::Missing(session.scratch_path()),
        },
        layers: session.layers_path(),
        reserve: session.reserve_path(),
        lock: session.lock(),
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        uid: 0,
        gid: 0,
        file_mode: 0o644,
        dir_mode: 0o755,
        created: Timestamp {
            seconds: 1_600_000_000,
            nanoseconds: 0,
        },
    }
}

/// Copies a directory with the times of its files.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    create_private_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            match fs::copy(entry.path(), &to) {
                // A scratch file of a deleted file.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                copied => copied.unwrap(),
            };
            make_private(&to).unwrap();
            let times = fs::FileTimes::new().set_modified(modified.unwrap());
            fs::File::options()
                .write(true)
                .open(&to)
                .unwrap()
                .set_times(times)
                .unwrap();
        }
    }
}

/// What stands at a path, as far as a program can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    Dir,
    File {
        bytes: Vec<u8>,
        links: u32,
        mode: u32,
    },
    Link(Vec<u8>),
}

/// Walks paths as a kernel does; caches nothing.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) vfs: Vfs,
    runtime: tokio::runtime::Runtime,
}

type Answer<T> = Result<T, FsErrorKind>;

fn kind(error: FsError) -> FsErrorKind {
    error.kind()
}

fn split(text: &str) -> (&str, &[u8]) {
    match text.rsplit_once('/') {
        Some((dir, name)) => (dir, name.as_bytes()),
        None => ("", text.as_bytes()),
    }
}

impl Kernel {
    pub(crate) fn new(vfs: Vfs) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        Self { vfs, runtime }
    }

    /// As a mount begins: invalidations come out of the channel.
    pub(crate) fn attach(&self) -> Receiver<Invalidation> {
        let (invalidations, received) = channel();
        let runtime = self.runtime.handle().clone();
        self.vfs.attach(Attachment {
            invalidations,
            runtime,
        });
        received
    }

    /// The directories and names that were told since.
    pub(crate) fn told(received: &Receiver<Invalidation>) -> Vec<(NodeId, String)> {
        let told = received.try_iter().filter_map(|told| match told {
            Invalidation::Name { parent, name, .. } => Some((parent, name.to_string())),
            Invalidation::Pages { .. } => None,
        });
        told.collect()
    }

    pub(crate) fn stat(&self, text: &str) -> Answer<FileAttr> {
        let mut at = self.vfs.getattr(Ino::ROOT).map_err(kind)?;
        for name in text.split('/').filter(|name| !name.is_empty()) {
            if at.kind != Kind::Dir {
                return Err(FsErrorKind::NotADirectory);
            }
            at = self.vfs.lookup(at.ino, name.as_bytes()).map_err(kind)?;
        }
        Ok(at)
    }

    fn parent<'a>(&self, text: &'a str) -> Answer<(Ino, &'a [u8])> {
        let (dir, name) = split(text);
        let dir = self.stat(dir)?;
        if dir.kind != Kind::Dir {
            return Err(FsErrorKind::NotADirectory);
        }
        Ok((dir.ino, name))
    }

    /// Does something at a path's inode.
    fn at<T>(&self, text: &str, act: impl Fn(Ino) -> Result<T, FsError>) -> Answer<T> {
        act(self.stat(text)?.ino).map_err(kind)
    }

    pub(crate) fn open(&self, text: &str, access: Access, truncate: bool) -> Answer<HandleId> {
        self.at(text, |ino| Ok(self.vfs.open(ino, access, truncate)?.handle))
    }

    pub(crate) fn create(&self, text: &str) -> Answer<HandleId> {
        let (dir, name) = self.parent(text)?;
        if self.vfs.lookup(dir, name).is_ok() {
            return Err(FsErrorKind::Exists);
        }
        let created = self.vfs.create_file(dir, name, 0o644, (0, 0), READ_WRITE);
        Ok(created.map_err(kind)?.1.handle)
    }

    pub(crate) fn read(&self, handle: HandleId, offset: u64, len: u32) -> Result<Vec<u8>, FsError> {
        match self.vfs.read(handle, offset, len)? {
            ReadOutcome::Ready(bytes) => Ok(bytes.into()),
            ReadOutcome::Pending(bytes) => Ok(self.runtime.block_on(bytes)?.into()),
        }
    }

    pub(crate) fn write(&self, handle: HandleId, offset: u64, data: &[u8]) -> Answer<usize> {
        self.vfs.write(handle, offset, data).map_err(kind)
    }

    pub(crate) fn close(&self, handle: HandleId) {
        self.vfs.release(handle).unwrap();
    }

    pub(crate) fn truncate(&self, text: &str, size: u64) -> Answer<FileAttr> {
        let set = SetAttr {
            size: Some(size),
            ..SetAttr::default()
        };
        self.at(text, |ino| self.vfs.setattr(ino, set))
    }

    pub(crate) fn chmod(&self, text: &str, mode: u32) -> Answer<FileAttr> {
        let set = SetAttr {
            mode: Some(mode),
            ..SetAttr::default()
        };
        self.at(text, |ino| self.vfs.setattr(ino, set))
    }

    pub(crate) fn mkdir(&self, text: &str) -> Answer<()> {
        let (dir, name) = self.parent(text)?;
        let made = self.vfs.mkdir(dir, name, 0o755, (0, 0));
        made.map(drop).map_err(kind)
    }

    pub(crate) fn rmdir(&self, text: &str) -> Answer<()> {
        let (dir, name) = self.parent(text)?;
        self.vfs.rmdir(dir, name).map_err(kind)
    }

    pub(crate) fn unlink(&self, text: &str) -> Answer<()> {
        let (dir, name) = self.parent(text)?;
        self.vfs.unlink(dir, name).map_err(kind)
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> Answer<()> {
        let (from, to) = (self.parent(from)?, self.parent(to)?);
        self.vfs.rename(from, to, false).map_err(kind)
    }

    pub(crate) fn link(&self, from: &str, to: &str) -> Answer<()> {
        let (dir, name) = self.parent(to)?;
        self.at(from, |ino| self.vfs.link(ino, dir, name).map(drop))
    }

    pub(crate) fn symlink(&self, text: &str, target: &str) -> Answer<()> {
        let (dir, name) = self.parent(text)?;
        let made = self.vfs.symlink(dir, name, target.as_bytes(), (0, 0));
        made.map(drop).map_err(kind)
    }

    /// A new file with these bytes, closed.
    pub(crate) fn put(&self, text: &str, data: &[u8]) {
        let handle = self.create(text).unwrap();
        assert_eq!(self.write(handle, 0, data), Ok(data.len()));
        self.close(handle);
    }

    /// Writes into a file that is there.
    pub(crate) fn patch(&self, text: &str, offset: u64, data: &[u8]) {
        let handle = self.open(text, READ_WRITE, false).unwrap();
        assert_eq!(self.write(handle, offset, data), Ok(data.len()));
        self.close(handle);
    }

    pub(crate) fn cat(&self, text: &str) -> Vec<u8> {
        let handle = self.open(text, READ, false).unwrap();
        let mut bytes = Vec::new();
        loop {
            let read = self.read(handle, bytes.len() as u64, 1 << 20).unwrap();
            if read.is_empty() {
                break;
            }
            bytes.extend(read);
        }
        self.close(handle);
        bytes
    }

    /// Everything below the root.
    pub(crate) fn dump(&self) -> BTreeMap<String, Shown> {
        let mut shown = BTreeMap::new();
        let mut open = vec![(String::new(), Ino::ROOT)];
        while let Some((above, dir)) = open.pop() {
            let handle = self.vfs.opendir(dir).unwrap();
            let view = self.vfs.dir_view(handle).unwrap();
            for offset in 2.. {
                let Some(entry) = view.entry(offset) else {
                    break;
                };
                let name = std::str::from_utf8(entry.name).unwrap();
                let at = if above.is_empty() {
                    name.to_owned()
                } else {
                    format!("{above}/{name}")
                };
                let attr = self.vfs.entry_attr(&view, &entry).unwrap();
                let what = match entry.kind {
                    Kind::Dir => {
                        open.push((at.clone(), entry.ino));
                        Shown::Dir
                    }
                    Kind::Symlink => Shown::Link(self.vfs.readlink(entry.ino).unwrap()),
                    Kind::File => {
                        let bytes = self.cat(&at);
                        assert_eq!(attr.size, bytes.len() as u64, "size of {at}");
                        Shown::File {
                            bytes,
                            links: attr.nlink,
                            mode: attr.perm,
                        }
                    }
                };
                shown.insert(at, what);
            }
            self.vfs.releasedir(handle).unwrap();
        }
        shown
    }
}
