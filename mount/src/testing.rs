//! A real mount of a small tree, for the tests of this crate.

pub(crate) mod lazy;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use attachfs_commit::OpenSession;
use attachfs_fetch::{FetchOptions, Fetcher};
use attachfs_manifest::{
    ChunkSize, Content, ContentHash, File, LinkTarget, ManifestPath, Mtime, Node, Snapshot,
};
use attachfs_session::{Session, SessionId, SessionMeta, StoreSettings};
use attachfs_store::{ChunkStore, MemoryStore};
use attachfs_tree::{BaseTree, LayerOptions, Timestamp};
use attachfs_vfs::{Settings, Vfs};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{MountError, MountOptions, Mounted, Unmount, mount};

/// Longer than any test takes unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const CHUNK: u64 = 1 << 16;
/// The modification time of every input, in microseconds.
pub(crate) const MTIME: i64 = 1_700_000_000_123_456;
pub(crate) const CREATED: i64 = 1_710_000_000;

/// Whether this machine can mount. Where it cannot, tests that need it say so and pass, but not where
/// CI vouches for it.
pub(crate) fn can_mount() -> bool {
    match std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
    {
        Ok(_) => true,
        Err(error) => {
            assert!(
                std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                "/dev/fuse is needed here: {error}"
            );
            println!("skipped: /dev/fuse: {error}");
            false
        }
    }
}

/// What a test's tree holds.
pub(crate) enum Input {
    File(Vec<u8>),
    Runnable(Vec<u8>),
    Link(&'static str),
    Dir,
}

pub(crate) fn file(bytes: impl Into<Vec<u8>>) -> Input {
    Input::File(bytes.into())
}

/// Bytes that differ from chunk to chunk.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

/// A file system over a store in memory, and a session on disk.
pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) vfs: Arc<Vfs>,
    open: Option<OpenSession>,
    pub(crate) runtime: Runtime,
    mounted: Option<Mounted>,
}

pub(crate) fn path(text: &str) -> ManifestPath {
    ManifestPath::new(text.as_bytes()).unwrap()
}

/// A session of its own for each fixture: mounts are known by it.
fn new_session_id() -> SessionId {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    let process = u64::from(std::process::id());
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&process.to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    SessionId::from_random(bytes)
}

fn settings() -> Settings {
    Settings {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        file_mode: 0o644,
        dir_mode: 0o755,
        created: Timestamp {
            seconds: CREATED,
            nanoseconds: 0,
        },
    }
}

fn base(store: &MemoryStore, inputs: Vec<(String, Input)>) -> BaseTree {
    let content = |bytes: &[u8]| match bytes.len() as u64 {
        0..=CHUNK => Content::Whole(store.insert(bytes.to_vec())),
        _ => Content::Chunks(
            bytes
                .chunks(CHUNK as usize)
                .map(|chunk| store.insert(chunk.to_vec()))
                .collect(),
        ),
    };
    let node = |input| match input {
        Input::File(bytes) => Node::File(File {
            size: bytes.len() as u64,
            mtime: Mtime(MTIME),
            runnable: false,
            content: content(&bytes),
        }),
        Input::Runnable(bytes) => Node::File(File {
            size: bytes.len() as u64,
            mtime: Mtime(MTIME),
            runnable: true,
            content: content(&bytes),
        }),
        Input::Link(target) => Node::Symlink(LinkTarget::Below(path(target))),
        Input::Dir => Node::Dir,
    };
    let entries: Vec<_> = inputs
        .into_iter()
        .map(|(name, input)| (path(&name), node(input)))
        .collect();
    let chunk_size = ChunkSize::Bytes(std::num::NonZero::new(CHUNK).unwrap());
    BaseTree::build(&Snapshot::new(chunk_size, None, entries).unwrap()).unwrap()
}

impl Fixture {
    /// A file system that can be written, not mounted yet. `None` where nothing can be mounted.
    pub(crate) fn new<N: Into<String>>(
        inputs: impl IntoIterator<Item = (N, Input)>,
    ) -> Option<Self> {
        Self::with(inputs, None, true)
    }

    pub(crate) fn with<N: Into<String>>(
        inputs: impl IntoIterator<Item = (N, Input)>,
        scratch_dir: Option<PathBuf>,
        writable: bool,
    ) -> Option<Self> {
        if !can_mount() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(MemoryStore::new());
        let inputs = inputs
            .into_iter()
            .map(|(name, input)| (name.into(), input))
            .collect();
        let base = Arc::new(base(&store, inputs));
        let chunks: Arc<dyn ChunkStore> = store.clone();
        let options = FetchOptions {
            deadline: PATIENCE,
            ..FetchOptions::default()
        };
        let fetcher = Arc::new(Fetcher::new(chunks, None, options));
        let mount_point = dir.path().join("mnt");
        std::fs::create_dir(&mount_point).unwrap();
        let (vfs, open) = if writable {
            let meta = SessionMeta {
                format: SessionMeta::FORMAT,
                id: new_session_id(),
                program: "test".to_owned(),
                created: Timestamp {
                    seconds: CREATED,
                    nanoseconds: 0,
                },
                mount_point,
                owner: settings().uid,
                manifests: Vec::new(),
                parent: ContentHash::of(b""),
                layers: LayerOptions::default(),
                store: StoreSettings::default(),
                scratch_dir,
                read_only: false,
                output_dirs: Vec::new(),
                commit_on_unmount: false,
            };
            let session = Session::create(&dir.path().join("session"), meta, &[]).unwrap();
            let open = OpenSession::create(session, base, fetcher, settings()).unwrap();
            (open.vfs().clone(), Some(open))
        } else {
            let vfs = Vfs::read_only(base, fetcher, settings());
            (Arc::new(vfs), None)
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        Some(Self {
            dir,
            store,
            vfs,
            open,
            runtime,
            mounted: None,
        })
    }

    /// The same, mounted.
    pub(crate) fn mounted<N: Into<String>>(
        inputs: impl IntoIterator<Item = (N, Input)>,
    ) -> Option<Self> {
        let mut fixture = Self::new(inputs)?;
        fixture.mount().unwrap();
        Some(fixture)
    }

    pub(crate) fn options(&self) -> MountOptions {
        MountOptions {
            mount_point: self.root(),
            allow_other: false,
            runtime: self.runtime.handle().clone(),
            session: self
                .open
                .as_ref()
                .map(|open| open.session().meta().id.clone()),
        }
    }

    pub(crate) fn mount(&mut self) -> Result<(), MountError> {
        self.mounted = Some(mount(self.vfs.clone(), &self.options())?);
        Ok(())
    }

    /// The session's id.
    pub(crate) fn id(&self) -> SessionId {
        self.session().meta().id.clone()
    }

    pub(crate) fn session(&self) -> &Session {
        self.open.as_ref().unwrap().session()
    }

    pub(crate) fn mount_handle(&self) -> &Mounted {
        self.mounted.as_ref().unwrap()
    }

    /// The mount point.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// A path below the mount point.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub(crate) fn unmount(&self) {
        self.mount_handle()
            .unmount(Unmount::IfUnused, PATIENCE)
            .unwrap();
    }

    /// Runs a shell command in the mount.
    pub(crate) fn sh(&self, script: &str) -> Output {
        run(&self.root(), "sh", &["-ec", script])
    }
}

pub(crate) fn run(dir: &Path, program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
