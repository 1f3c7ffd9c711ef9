//! A session over a real store, written to by path, and what it shows as a snapshot.

use std::fs;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use attachfs_fetch::{FetchOptions, Fetcher};
use attachfs_manifest::wire::{Format, Manifest, decode, encode_snapshot};
use attachfs_manifest::{
    ChunkSize, Content, ContentHash, Diff, File, LinkTarget, ManifestPath, Mtime, Node, Snapshot,
};
use attachfs_session::{BaseManifest, Session, SessionId, SessionMeta, StoreSettings};
use attachfs_store::{ManifestKey, Payload, Store};
use attachfs_transfer::{Progress, ProgressEvent, UploadOptions};
use attachfs_tree::{BaseTree, Ino, Kind, LayerOptions, Timestamp};
use attachfs_vfs::{Access, FileAttr, FsError, HandleId, ReadOutcome, SetAttr, Settings, Vfs};
use tempfile::TempDir;

use crate::{CommitError, CommitOptions, Observer, OpenSession, Outcome, Step, commit};

pub(crate) const CHUNK: usize = 1000;
pub(crate) const CUT: ChunkSize = ChunkSize::Bytes(NonZeroU64::new(CHUNK as u64).unwrap());

/// A directory in memory where there is one: these tests kill processes, they do not cut power.
pub(crate) fn tempdir() -> TempDir {
    TempDir::new_in("/dev/shm")
        .or_else(|_| TempDir::new())
        .unwrap()
}

/// What a base has at a path.
#[derive(Debug, Clone)]
pub(crate) enum Given {
    Dir,
    File(Vec<u8>),
    Link(&'static str),
}

/// Bytes of which no two chunks are the same; other ones for another seed.
pub(crate) fn bytes(seed: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at * 31 + at / 256 * 17 + seed * 7 + 1) as u8)
        .collect()
}

pub(crate) fn path(text: &str) -> ManifestPath {
    ManifestPath::new(text.as_bytes()).unwrap()
}

pub(crate) fn content(bytes: &[u8], cut: ChunkSize) -> (Content, Vec<&[u8]>) {
    let objects: Vec<&[u8]> = cut
        .ranges(bytes.len() as u64)
        .map(|range| &bytes[range.start as usize..range.end as usize])
        .collect();
    let hashes: Vec<_> = objects.iter().map(|bytes| ContentHash::of(bytes)).collect();
    let content = match hashes[..] {
        [whole] => Content::Whole(whole),
        _ => Content::Chunks(hashes.into()),
    };
    (content, objects)
}

/// A base whose bytes are in a store.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) snapshot: Snapshot,
    format: Format,
    fetch: FetchOptions,
}

impl World {
    pub(crate) async fn new(store: Arc<dyn Store>, cut: ChunkSize, base: &[(&str, Given)]) -> Self {
        let mut entries = Vec::new();
        for (text, given) in base {
            let node = match given {
                Given::Dir => Node::Dir,
                Given::Link(target) => Node::Symlink(LinkTarget::Below(path(target))),
                Given::File(bytes) => {
                    let (content, objects) = content(bytes, cut);
                    for object in objects {
                        let payload = Payload::Bytes(object.to_vec().into());
                        store.put(ContentHash::of(object), payload).await.unwrap();
                    }
                    Node::File(File {
                        size: bytes.len() as u64,
                        mtime: Mtime(1_600_000_000_000_000),
                        runnable: false,
                        content,
                    })
                }
            };
            entries.push((path(text), node));
        }
        let format = match cut {
            ChunkSize::WholeFile => Format::V2023_03_03,
            ChunkSize::Bytes(_) => Format::V2025_12,
        };
        Self {
            store,
            snapshot: Snapshot::new(cut, None, entries).unwrap(),
            format,
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
        encode_snapshot(&self.snapshot, self.format).unwrap()
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
        let hash = ContentHash::of(&self.manifest());
        let meta = SessionMeta {
            format: SessionMeta::FORMAT,
            id: SessionId::from_random([7; 16]),
            program: "test".to_owned(),
            created: Timestamp::default(),
            mount_point: "/mnt/scene".into(),
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
            read_only,
        };
        let session = Session::create(dir, meta, &[self.manifest()]).unwrap();
        Fs(OpenSession::create(session, self.tree(), self.fetcher(), SETTINGS).unwrap())
    }

    pub(crate) fn recover(&self, dir: &Path) -> Fs {
        let session = Session::open(dir).unwrap();
        Fs(OpenSession::recover(session, self.tree(), self.fetcher(), SETTINGS).unwrap())
    }

    /// A diff that is in the store.
    pub(crate) async fn diff(&self, key: &ManifestKey) -> Diff {
        let bytes = self.store.get_manifest(key).await.unwrap();
        match decode(&bytes.bytes).unwrap() {
            (Format::V2025_12, Manifest::Diff(diff)) => diff,
            other => panic!("{other:?}"),
        }
    }

    /// The key of a commit of the one session that there is.
    pub(crate) fn key(generation: u32) -> ManifestKey {
        format!(
            "attachfs/{}/{generation}.manifest",
            SessionId::from_random([7; 16])
        )
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
};

const READ_WRITE: Access = Access {
    read: true,
    write: true,
};

/// Copies a directory with the times of its files: what a killed process leaves.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            let modified = entry.metadata().unwrap().modified().unwrap();
            fs::copy(entry.path(), &to).unwrap();
            let file = fs::File::options().write(true).open(&to).unwrap();
            file.set_times(fs::FileTimes::new().set_modified(modified))
                .unwrap();
        }
    }
}

/// A file system used by paths.
#[derive(Debug, Clone)]
pub(crate) struct Fs(pub(crate) OpenSession);

impl Fs {
    pub(crate) fn vfs(&self) -> &Vfs {
        self.0.vfs()
    }

    pub(crate) fn find(&self, text: &str) -> Result<FileAttr, FsError> {
        let mut at = self.vfs().getattr(Ino::ROOT)?;
        for name in text.split('/').filter(|name| !name.is_empty()) {
            at = self.vfs().lookup(at.ino, name.as_bytes())?;
        }
        Ok(at)
    }

    fn parent<'a>(&self, text: &'a str) -> Result<(Ino, &'a [u8]), FsError> {
        let (dir, name) = text.rsplit_once('/').unwrap_or(("", text));
        Ok((self.find(dir)?.ino, name.as_bytes()))
    }

    /// Opens for writing what is there, or a new file.
    pub(crate) fn open(&self, text: &str) -> Result<HandleId, FsError> {
        let opened = match self.find(text) {
            Ok(attr) => self.vfs().open(attr.ino, READ_WRITE, false)?,
            Err(_) => {
                let (dir, name) = self.parent(text)?;
                self.vfs()
                    .create_file(dir, name, 0o644, (0, 0), READ_WRITE)?
                    .1
            }
        };
        Ok(opened.handle)
    }

    pub(crate) fn write(&self, text: &str, offset: u64, data: &[u8]) -> Result<(), FsError> {
        let handle = self.open(text)?;
        self.vfs().write(handle, offset, data)?;
        self.vfs().release(handle).map(drop)
    }

    fn set(&self, text: &str, set: SetAttr) -> Result<(), FsError> {
        self.vfs().setattr(self.find(text)?.ino, set).map(drop)
    }

    pub(crate) fn truncate(&self, text: &str, size: u64) -> Result<(), FsError> {
        let size = Some(size);
        self.set(
            text,
            SetAttr {
                size,
                ..SetAttr::default()
            },
        )
    }

    pub(crate) fn chmod(&self, text: &str, mode: u32) -> Result<(), FsError> {
        let mode = Some(mode);
        self.set(
            text,
            SetAttr {
                mode,
                ..SetAttr::default()
            },
        )
    }

    pub(crate) fn mkdir(&self, text: &str) -> Result<(), FsError> {
        let (dir, name) = self.parent(text)?;
        self.vfs().mkdir(dir, name, 0o755, (0, 0)).map(drop)
    }

    pub(crate) fn rmdir(&self, text: &str) -> Result<(), FsError> {
        let (dir, name) = self.parent(text)?;
        self.vfs().rmdir(dir, name)
    }

    pub(crate) fn unlink(&self, text: &str) -> Result<(), FsError> {
        let (dir, name) = self.parent(text)?;
        self.vfs().unlink(dir, name)
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), FsError> {
        self.vfs()
            .rename(self.parent(from)?, self.parent(to)?, false)
    }

    pub(crate) fn link(&self, from: &str, to: &str) -> Result<(), FsError> {
        let (dir, name) = self.parent(to)?;
        self.vfs().link(self.find(from)?.ino, dir, name).map(drop)
    }

    pub(crate) fn symlink(&self, text: &str, target: &str) -> Result<(), FsError> {
        let (dir, name) = self.parent(text)?;
        let made = self.vfs().symlink(dir, name, target.as_bytes(), (0, 0));
        made.map(drop)
    }

    async fn read(&self, ino: Ino) -> Vec<u8> {
        let access = Access {
            read: true,
            write: false,
        };
        let handle = self.vfs().open(ino, access, false).unwrap().handle;
        let mut bytes = Vec::new();
        loop {
            let outcome = self
                .vfs()
                .read(handle, bytes.len() as u64, 1 << 20)
                .unwrap();
            let more = match outcome {
                ReadOutcome::Ready(more) => more,
                ReadOutcome::Pending(more) => more.await.unwrap(),
            };
            if more.is_empty() {
                break;
            }
            bytes.extend(more);
        }
        self.vfs().release(handle).unwrap();
        bytes
    }

    /// Everything that is there, as a manifest says it.
    pub(crate) async fn show(&self, cut: ChunkSize) -> Snapshot {
        let mut entries = Vec::new();
        let mut open = vec![(String::new(), Ino::ROOT)];
        while let Some((above, dir)) = open.pop() {
            let handle = self.vfs().opendir(dir).unwrap();
            let view = self.vfs().dir_view(handle).unwrap();
            for entry in (2..).map_while(|offset| view.entry(offset)) {
                let name = std::str::from_utf8(entry.name).unwrap();
                let at = format!("{above}{name}");
                let node = match entry.kind {
                    Kind::Dir => {
                        open.push((format!("{at}/"), entry.ino));
                        Node::Dir
                    }
                    Kind::Symlink => {
                        let text = self.vfs().readlink(entry.ino).unwrap();
                        Node::Symlink(LinkTarget::resolve(&path(&at), &text).unwrap())
                    }
                    Kind::File => {
                        let bytes = self.read(entry.ino).await;
                        let attr = self.vfs().getattr(entry.ino).unwrap();
                        Node::File(File {
                            size: attr.size,
                            mtime: attr.mtime.into(),
                            runnable: attr.perm & 0o111 != 0,
                            content: content(&bytes, cut).0,
                        })
                    }
                };
                entries.push((path(&at), node));
            }
            self.vfs().releasedir(handle).unwrap();
        }
        Snapshot::new(cut, None, entries).unwrap()
    }
}

/// Does something at each step.
pub(crate) struct At<F>(pub(crate) F);

impl<F: Fn(Step) + Send + Sync> Progress for At<F> {
    fn update(&self, _: &ProgressEvent) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl<F: Fn(Step) + Send + Sync> Observer for At<F> {
    fn step(&self, step: Step) {
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

/// Commits, and does something at each step.
pub(crate) async fn watched(
    world: &World,
    fs: &Fs,
    options: &CommitOptions,
    at: impl Fn(Step) + Send + Sync,
) -> Result<Outcome, CommitError> {
    let upload = UploadOptions::default();
    commit(&fs.0, &world.store, options, upload, &At(at)).await
}
