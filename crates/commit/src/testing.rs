//! A session over a real store that tests write to by paths, and its content as a snapshot.

use std::num::NonZeroU64;
use std::ops::{ControlFlow, Deref};
use std::path::Path;
use std::sync::Arc;

use attachfs_fetch::{FetchOptions, Fetcher};
use attachfs_fixtures::{Base, content, manifest, session_id, session_meta};
use attachfs_manifest::wire::{Format, Manifest, decode};
use attachfs_manifest::{ChunkSize, ContentHash, Diff, File, LinkTarget, Node, Snapshot};
use attachfs_session::{Session, SessionMeta};
use attachfs_store::{ManifestKey, Payload, Store};
use attachfs_transfer::{Progress, ProgressEvent, UploadOptions};
use attachfs_tree::{BaseTree, Timestamp};
use attachfs_vfs::testing::{Paths, READ_WRITE, Shown};
use attachfs_vfs::{FsErrorKind, HandleId, SetAttr, SetTime, Settings, Vfs};

pub(crate) use attachfs_fixtures::{Given, copy_dir, path, seeded_bytes as bytes, tempdir};

use crate::{CommitError, CommitOptions, CommitStep, Observer, OpenSession, Outcome, commit};

pub(crate) const CHUNK: usize = 1000;
pub(crate) const CUT: ChunkSize = ChunkSize::Bytes(NonZeroU64::new(CHUNK as u64).unwrap());

/// A base whose bytes are in a store.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) snapshot: Snapshot,
    fetch: FetchOptions,
}

impl World {
    pub(crate) async fn new(store: Arc<dyn Store>, cut: ChunkSize, base: &[(&str, Given)]) -> Self {
        let base = Base::new(cut, base.iter().cloned());
        for object in base.objects {
            let hash = ContentHash::of(&object);
            store
                .put(hash, Payload::Bytes(object.into()))
                .await
                .unwrap();
        }
        Self {
            store,
            snapshot: base.snapshot,
            fetch: FetchOptions::default(),
        }
    }

    /// The same world, in which objects above this length are read in units.
    pub(crate) fn with_whole_objects_up_to(self, limit: u64) -> Self {
        let fetch = FetchOptions {
            whole_object_limit: limit,
            unit_len: 300,
            ..self.fetch
        };
        Self { fetch, ..self }
    }

    /// The same base over another store that has the same bytes.
    pub(crate) fn over(&self, store: Arc<dyn Store>) -> Self {
        Self {
            store,
            ..self.clone()
        }
    }

    pub(crate) fn manifest(&self) -> Vec<u8> {
        manifest(&self.snapshot)
    }

    fn fetcher(&self) -> Arc<Fetcher> {
        let store: Arc<dyn attachfs_store::ChunkStore> = self.store.clone();
        Arc::new(Fetcher::new(store, None, self.fetch.clone()))
    }

    fn tree(&self) -> Arc<BaseTree> {
        Arc::new(BaseTree::build(&self.snapshot).unwrap())
    }

    pub(crate) fn create(&self, dir: &Path) -> Fs {
        self.create_with(dir, false)
    }

    fn create_with(&self, dir: &Path, read_only: bool) -> Fs {
        let meta = SessionMeta {
            read_only,
            ..session_meta(&self.manifest())
        };
        let session = Session::create(dir, meta, &[self.manifest()]).unwrap();
        Fs::new(OpenSession::create(session, self.tree(), self.fetcher(), SETTINGS).unwrap())
    }

    pub(crate) fn recover(&self, dir: &Path) -> Fs {
        let session = Session::open(dir).unwrap();
        Fs::new(OpenSession::recover(session, self.tree(), self.fetcher(), SETTINGS).unwrap())
    }

    /// A diff that is in the store.
    pub(crate) async fn diff(&self, key: &ManifestKey) -> Diff {
        let bytes = self.store.get_manifest(key).await.unwrap();
        match decode(&bytes.bytes).unwrap() {
            (Format::V2025_12, Manifest::Diff(diff)) => diff,
            other => panic!("{other:?}"),
        }
    }

    /// The key of a commit of the test's session.
    pub(crate) fn key(generation: u32) -> ManifestKey {
        format!("attachfs/{}/{generation}.manifest", session_id())
            .parse()
            .unwrap()
    }

    /// Reads every byte of a snapshot through a mount of it, and compares.
    pub(crate) async fn assert_readable(&self, snapshot: &Snapshot) {
        let world = Self {
            snapshot: snapshot.clone(),
            ..self.clone()
        };
        let dir = tempfile::tempdir().unwrap();
        let fs = world.create_with(dir.path(), true);
        assert_eq!(fs.show(snapshot.chunk_size()).await, *snapshot);
    }
}

const SETTINGS: Settings = Settings {
    uid: 0,
    gid: 0,
    file_mode: 0o644,
    dir_mode: 0o755,
    created: Timestamp {
        seconds: 0,
        nanoseconds: 0,
    },
    case_insensitive: false,
};

/// A session used by paths.
#[derive(Debug, Clone)]
pub(crate) struct Fs {
    pub(crate) session: OpenSession,
    paths: Paths<Arc<Vfs>>,
}

impl Deref for Fs {
    type Target = Paths<Arc<Vfs>>;

    fn deref(&self) -> &Self::Target {
        &self.paths
    }
}

impl Fs {
    fn new(session: OpenSession) -> Self {
        let vfs = session.vfs().clone();
        Self {
            session,
            paths: Paths { vfs },
        }
    }

    /// Opens an existing file for writing, or makes a new one.
    pub(crate) fn open(&self, path: &str) -> Result<HandleId, FsErrorKind> {
        match self.stat(path) {
            Ok(_) => self.paths.open(path, READ_WRITE, false),
            Err(_) => self.create(path),
        }
    }

    pub(crate) fn write(&self, path: &str, offset: u64, data: &[u8]) -> Result<(), FsErrorKind> {
        let handle = self.open(path)?;
        let written = self.vfs.write(handle, offset, data);
        written.map_err(|error| error.kind())?;
        self.vfs.release(handle).unwrap();
        Ok(())
    }

    /// Sets when a file was changed last, in seconds since 1970.
    pub(crate) fn set_modified(&self, path: &str, seconds: i64) {
        let set = SetAttr {
            mtime: Some(SetTime::To(Timestamp {
                seconds,
                nanoseconds: 0,
            })),
            ..SetAttr::default()
        };
        self.vfs.setattr(self.stat(path).unwrap().ino, set).unwrap();
    }

    /// The whole content as a snapshot.
    pub(crate) async fn show(&self, cut: ChunkSize) -> Snapshot {
        let entries = self.tree().await.unwrap().into_iter();
        let entries = entries.filter_map(|(text, (attr, shown))| {
            let at = path(&text);
            let node = match shown {
                Shown::Dir => Node::Dir,
                Shown::Link(text) => Node::Symlink(LinkTarget::resolve(&at, &text).unwrap()),
                Shown::File(bytes) => Node::File(File {
                    size: attr.size,
                    mtime: attr.mtime.into(),
                    runnable: attr.perm & 0o111 != 0,
                    content: content(&bytes, cut).0,
                }),
                // For a manifest it is not there.
                Shown::Special(_) => return None,
            };
            Some((at, node))
        });
        Snapshot::new(cut, None, entries).unwrap()
    }
}

/// An observer that calls a function at each step.
pub(crate) struct At<F>(pub(crate) F);

impl<F: Fn(CommitStep) + Send + Sync> Progress for At<F> {
    fn update(&self, _: &ProgressEvent) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl<F: Fn(CommitStep) + Send + Sync> Observer for At<F> {
    fn step(&self, step: CommitStep) {
        (self.0)(step);
    }
}

pub(crate) async fn committed(
    world: &World,
    fs: &Fs,
    options: &CommitOptions,
) -> Result<Outcome, CommitError> {
    watched(world, fs, options, |_| {}).await
}

/// Commits, and calls a function at each step.
pub(crate) async fn watched(
    world: &World,
    fs: &Fs,
    options: &CommitOptions,
    at: impl Fn(CommitStep) + Send + Sync,
) -> Result<Outcome, CommitError> {
    let upload = UploadOptions::default();
    commit(&fs.session, &world.store, options, upload, &At(at)).await
}
