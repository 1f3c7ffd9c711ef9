//! A real mount of a small tree, for the tests of this crate.

pub(crate) mod lazy;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use attachfs_commit::OpenSession;
use attachfs_fetch::{FetchOptions, Fetcher};
use attachfs_fixtures::{Base, CREATED, chunk_size, session_meta};
use attachfs_session::{Session, SessionId, SessionMeta};
use attachfs_store::{ChunkStore, MemoryStore};
use attachfs_vfs::{Settings, Vfs};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub(crate) use attachfs_fixtures::Given;

use crate::{FastPath, MountError, MountOptions, Mounted, Unmount, mount};

/// Longer than any test takes unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const CHUNK: u64 = 1 << 16;

/// Whether this machine can mount. Where it cannot, tests that need a mount print that and pass,
/// except in CI.
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

pub(crate) fn file(bytes: impl Into<Vec<u8>>) -> Given {
    Given::File(bytes.into())
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
        created: CREATED,
        case_insensitive: false,
    }
}

impl Fixture {
    /// A file system that can be written, not mounted yet. `None` where nothing can be mounted.
    pub(crate) fn new<N: AsRef<str>>(inputs: impl IntoIterator<Item = (N, Given)>) -> Option<Self> {
        Self::with(inputs, None, true)
    }

    pub(crate) fn with<N: AsRef<str>>(
        inputs: impl IntoIterator<Item = (N, Given)>,
        scratch_dir: Option<PathBuf>,
        writable: bool,
    ) -> Option<Self> {
        if !can_mount() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(MemoryStore::new());
        let base = Base::new(chunk_size(CHUNK), inputs);
        for object in &base.objects {
            store.insert(object.clone());
        }
        let base = Arc::new(base.tree());
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
                id: new_session_id(),
                mount_point,
                owner: settings().uid,
                manifests: Vec::new(),
                scratch_dir,
                ..session_meta(b"")
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
    pub(crate) fn mounted<N: AsRef<str>>(
        inputs: impl IntoIterator<Item = (N, Given)>,
    ) -> Option<Self> {
        let mut fixture = Self::new(inputs)?;
        fixture.mount().unwrap();
        Some(fixture)
    }

    pub(crate) fn options(&self) -> MountOptions {
        MountOptions {
            mount_point: self.root(),
            allow_other: false,
            fast_path: FastPath::Passthrough,
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
