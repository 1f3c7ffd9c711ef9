//! A file system over a store in memory and a session's files, and its death.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use attachfs_durable::{CacheDir, CacheLimits};
use attachfs_fetch::{DiskCache, FetchOptions, Fetcher};
use attachfs_fixtures::{Base, CREATED, chunk_size, manifest, session_meta};
use attachfs_manifest::Snapshot;
use attachfs_session::{Session, SessionMeta};
use attachfs_store::fault::FaultStore;
use attachfs_store::record::RecordStore;
use attachfs_store::{CallKind, MemoryStore};
use attachfs_tree::{BaseTree, Special};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub(crate) use attachfs_fixtures::{Given, bytes, copy_dir, path, seeded_bytes as seeded, tempdir};

pub(crate) use crate::testing::{READ, READ_WRITE};

use crate::overlay::{OverlayFiles, ScratchDir};
use crate::testing::Paths;
use crate::{
    Attachment, FileSystem as _, FsError, FsErrorKind, HandleId, Invalidation, NodeId, OpenError,
    Passthrough, ReadOutcome, Settings, Vfs,
};

pub(crate) const CHUNK: u64 = 1000;

/// A base, and the store that has its bytes.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) memory: Arc<MemoryStore>,
    pub(crate) record: Arc<RecordStore>,
    pub(crate) fault: Arc<FaultStore>,
    pub(crate) tree: Arc<BaseTree>,
    snapshot: Snapshot,
}

type Open = fn(OverlayFiles, Arc<BaseTree>, Arc<Fetcher>, Settings) -> Result<Vfs, OpenError>;

impl World {
    pub(crate) fn new(base: &[(&str, Given)]) -> Self {
        Self::in_chunks(CHUNK, base)
    }

    /// A base whose files are cut into chunks of so many bytes.
    pub(crate) fn in_chunks(chunk: u64, base: &[(&str, Given)]) -> Self {
        let base = Base::new(chunk_size(chunk), base.iter().cloned());
        let memory = Arc::new(MemoryStore::new());
        for object in &base.objects {
            memory.insert(object.clone());
        }
        let fault = Arc::new(FaultStore::new(memory.clone()));
        Self {
            record: Arc::new(RecordStore::new(fault.clone())),
            fault,
            memory,
            tree: Arc::new(base.tree()),
            snapshot: base.snapshot,
        }
    }

    pub(crate) fn fetcher(&self) -> Arc<Fetcher> {
        let options = FetchOptions::default();
        Arc::new(Fetcher::new(self.record.clone(), None, options))
    }

    pub(crate) fn manifest(&self) -> Vec<u8> {
        manifest(&self.snapshot)
    }

    pub(crate) fn meta(&self) -> SessionMeta {
        session_meta(&self.manifest())
    }

    /// A new session.
    pub(crate) fn create(&self, dir: &Path) -> Kernel {
        let session = Session::create(dir, self.meta(), &[self.manifest()]).unwrap();
        self.open(&session, Vfs::create).unwrap()
    }

    /// A new session in which case does not count.
    pub(crate) fn create_ignoring_case(&self, dir: &Path) -> Kernel {
        let session = Session::create(dir, self.meta(), &[self.manifest()]).unwrap();
        let settings = Settings {
            case_insensitive: true,
            ..settings()
        };
        let (tree, fetcher) = (self.tree.clone(), self.fetcher());
        let vfs = Vfs::create(files(&session), tree, fetcher, settings);
        Kernel::new(vfs.unwrap())
    }

    /// A new session that keeps what it fetches in a disk cache.
    pub(crate) fn create_caching(&self, dir: &Path, cache: &Path, options: FetchOptions) -> Kernel {
        let session = Session::create(dir, self.meta(), &[self.manifest()]).unwrap();
        let limits = CacheLimits {
            max_bytes: Some(u64::MAX),
            min_free: Some(0),
        };
        let objects = CacheDir::new(cache).with_limits(limits).objects([1; 16]);
        let disk = DiskCache::start(objects.unwrap()).unwrap();
        let fetcher = Fetcher::new(self.record.clone(), Some(disk), options);
        let (tree, settings) = (self.tree.clone(), settings());
        let vfs = Vfs::create(files(&session), tree, Arc::new(fetcher), settings);
        Kernel::new(vfs.unwrap())
    }

    /// A session that another process left, taken over.
    pub(crate) fn recover(&self, dir: &Path) -> Result<Kernel, OpenError> {
        self.open(&Session::open(dir).unwrap(), Vfs::recover)
    }

    /// As [`recover`](Self::recover), after another start of the machine.
    pub(crate) fn recover_after_boot(&self, dir: &Path, boot: &str) -> Kernel {
        let session = Session::open(dir).unwrap();
        let files = OverlayFiles {
            boot: Some(boot.to_owned()),
            ..files(&session)
        };
        let vfs = Vfs::recover(files, self.tree.clone(), self.fetcher(), settings());
        Kernel::new(vfs.unwrap())
    }

    /// A session that another process left, to be looked at.
    pub(crate) fn look(&self, dir: &Path) -> Result<Kernel, OpenError> {
        self.open(&Session::open(dir).unwrap(), Vfs::look)
    }

    fn open(&self, session: &Session, open: Open) -> Result<Kernel, OpenError> {
        let vfs = open(
            files(session),
            self.tree.clone(),
            self.fetcher(),
            settings(),
        )?;
        Ok(Kernel::new(vfs))
    }

    /// A session as another process would find it if the process of `dir` were killed now.
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
        boot: Some("the first".to_owned()),
        max_scratch: None,
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
        created: CREATED,
        case_insensitive: false,
    }
}

/// The entry at a path, as a program sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    /// With its links.
    Dir(u32),
    File {
        bytes: Vec<u8>,
        links: u32,
        mode: u32,
    },
    Link(Vec<u8>),
    Special {
        special: Special,
        links: u32,
        mode: u32,
    },
}

/// Uses a file system by paths, on threads that may wait.
#[derive(Debug)]
pub(crate) struct Kernel {
    paths: Paths<Vfs>,
    runtime: Runtime,
}

impl Deref for Kernel {
    type Target = Paths<Vfs>;

    fn deref(&self) -> &Paths<Vfs> {
        &self.paths
    }
}

impl Kernel {
    pub(crate) fn new(vfs: Vfs) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        Self {
            paths: Paths { vfs },
            runtime,
        }
    }

    /// Attaches as a mount does that drops names at once; invalidations arrive in the channel.
    pub(crate) fn attach(&self) -> Receiver<Invalidation> {
        let sent = self.attach_silently();
        let (heard, received) = channel();
        std::thread::spawn(move || {
            for what in sent {
                match what {
                    Invalidation::Answer(acknowledgement) => acknowledgement.done(),
                    // The test may have heard enough.
                    what => drop(heard.send(what)),
                }
            }
        });
        received
    }

    /// Attaches as a mount does; nobody acknowledges the invalidations but the test.
    pub(crate) fn attach_silently(&self) -> Receiver<Invalidation> {
        let (invalidations, received) = channel();
        let runtime = self.runtime.handle().clone();
        let backing = Passthrough::default();
        backing.begin();
        self.vfs.attach(Attachment {
            invalidations,
            runtime,
            backing,
            tells_opens: true,
        });
        received
    }

    /// The directories and names of the invalidations since the last call.
    pub(crate) fn told(received: &Receiver<Invalidation>) -> Vec<(NodeId, String)> {
        let told = received.try_iter().filter_map(|told| match told {
            Invalidation::Name { parent, name, .. } => Some((parent, name.to_string())),
            Invalidation::Pages { .. }
            | Invalidation::Listing { .. }
            | Invalidation::Attributes { .. }
            | Invalidation::Answer(_) => None,
        });
        told.collect()
    }

    pub(crate) fn read(&self, handle: HandleId, offset: u64, len: u32) -> Result<Vec<u8>, FsError> {
        match self.vfs.read(handle, offset, len)? {
            ReadOutcome::Ready(bytes) => Ok(bytes.into()),
            ReadOutcome::Pending(bytes) => Ok(self.runtime.block_on(bytes)?.into()),
        }
    }

    /// Waits for what a read began to wait for.
    pub(crate) fn wait<T>(&self, read: impl Future<Output = T>) -> T {
        self.runtime.block_on(read)
    }

    /// Waits until the store is asked for nothing any more.
    pub(crate) fn idle(&self, record: &RecordStore) {
        self.runtime.block_on(async {
            // What was begun asks first.
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            record.wait_idle(CallKind::Get).await;
        });
    }

    pub(crate) fn write(
        &self,
        handle: HandleId,
        offset: u64,
        data: &[u8],
    ) -> Result<usize, FsErrorKind> {
        let written = self.vfs.write(handle, offset, data);
        written.map_err(|error| error.kind())
    }

    pub(crate) fn close(&self, handle: HandleId) {
        self.vfs.release(handle).unwrap();
    }

    /// A new file with these bytes, closed.
    pub(crate) fn put(&self, path: &str, data: &[u8]) {
        let handle = self.create(path).unwrap();
        assert_eq!(self.write(handle, 0, data), Ok(data.len()));
        self.close(handle);
    }

    /// Writes into a file that is there.
    pub(crate) fn patch(&self, path: &str, offset: u64, data: &[u8]) {
        let handle = self.open(path, READ_WRITE, false).unwrap();
        assert_eq!(self.write(handle, offset, data), Ok(data.len()));
        self.close(handle);
    }

    /// The bytes of a file.
    pub(crate) fn cat(&self, path: &str) -> Vec<u8> {
        let ino = self.stat(path).unwrap().ino;
        self.runtime.block_on(self.content(ino)).unwrap()
    }

    /// Everything below the root.
    pub(crate) fn dump(&self) -> BTreeMap<String, Shown> {
        use crate::testing::Shown as What;
        let tree = self.runtime.block_on(self.tree()).unwrap();
        let shown = tree.into_iter().map(|(path, (attr, what))| {
            let shown = match what {
                What::Dir => Shown::Dir(attr.nlink),
                What::Link(text) => Shown::Link(text),
                What::Special(special) => Shown::Special {
                    special,
                    links: attr.nlink,
                    mode: attr.perm,
                },
                What::File(bytes) => {
                    assert_eq!(attr.size, bytes.len() as u64, "size of {path}");
                    Shown::File {
                        bytes,
                        links: attr.nlink,
                        mode: attr.perm,
                    }
                }
            };
            (path, shown)
        });
        shown.collect()
    }
}
