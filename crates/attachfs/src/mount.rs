//! A mounted manifest, from the first look at its manifests to the end of its session.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use attachfs_commit::Observer;
use attachfs_mount::{
    ControlServer, Failure, FailureKind, MountOptions, Mounted, Unmount, UnmountError,
};
use attachfs_tree::{BaseTree, LayerOptions, Timestamp};
use attachfs_vfs::{Counters, Session, SessionId, SessionMeta, Settings, Vfs};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};

use crate::control::{Service, StepHook};
use crate::index::{ground, ground_of};
use crate::live::{Live, fetcher};
use crate::manifests::ManifestBytes;
use crate::registry::{register, unregister};
use crate::remote::{CommitArguments, CommitReport, Fetched, StatusReport, UnmountArguments};
use crate::session::{UnmountReport, detach_dead};
use crate::store::OpenStore;
use crate::{Error, Places};

/// Who owns what a mount shows, and with which permissions.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    /// Owner of what was not given to someone else.
    pub uid: u32,
    /// Group likewise.
    pub gid: u32,
    /// Permission bits of files.
    pub file_mode: u32,
    /// Permission bits of directories.
    pub dir_mode: u32,
}

/// What is mounted.
#[derive(Debug, Clone)]
pub enum What {
    /// Manifests, in a new session.
    New {
        /// The lowest first.
        manifests: Vec<ManifestBytes>,
        /// How they are put together.
        layers: LayerOptions,
        /// Nobody can write.
        read_only: bool,
        /// The session's directory; below [`Places::sessions`] if `None`.
        session_dir: Option<PathBuf>,
        /// Where scratch files go; into the session if `None`.
        scratch_dir: Option<PathBuf>,
        /// Commit when it is unmounted.
        commit: bool,
        /// Commit only what is in or below these, and make them.
        output_dirs: Vec<String>,
    },
    /// A session that another process left.
    Resume {
        /// Its directory.
        dir: PathBuf,
    },
}

/// Where a new mount goes.
#[derive(Debug, Clone)]
pub enum MountPoint {
    /// An empty directory.
    At(PathBuf),
    /// A directory in the session's own.
    InSession,
}

/// How to mount.
#[derive(Debug, Clone)]
pub struct MountRequest {
    /// What.
    pub what: What,
    /// Where.
    pub mount_point: MountPoint,
    /// Owner and modes.
    pub owner: Owner,
    /// Whether other users may use it.
    pub allow_other: bool,
    /// The store.
    pub store: OpenStore,
    /// This machine.
    pub places: Places,
    /// Called at each step of a commit that is asked for through the control socket.
    pub step_hook: Option<StepHook>,
}

/// A mount of this process. Dropping it without [`finish`](Self::finish) leaves the session to be
/// resumed.
#[derive(Debug)]
pub struct Mount {
    active: Arc<Active>,
    control: ControlServer,
    places: Places,
    dir: PathBuf,
    /// Of a read-only mount; a writable file system has it itself.
    session: Option<Session>,
    had_died: bool,
}

/// What the control socket and the process's own end share.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) live: Live,
    pub(crate) mounted: Mounted,
    /// Held by whoever ends the mount; says what became of the session.
    ended: Mutex<Option<Ended>>,
    /// Set when the process is to end although someone still uses the mount.
    cut_off: watch::Sender<bool>,
}

/// How a mount's session ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ended {
    /// Nothing of it is needed any more.
    done: bool,
}

/// How long the kernel may take to let go.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long those who use a mount that is detached have before they are cut off.
const LAST_CALL: Duration = Duration::from_secs(1);

impl Mount {
    /// Mounts. When it returns, the mount answers. Runs on a tokio runtime, which then serves it.
    pub fn start(request: MountRequest) -> Result<Self, Error> {
        let id = SessionId::from_random(random()?);
        let (dir, fresh) = match &request.what {
            What::Resume { dir } => (dir.clone(), false),
            What::New {
                session_dir: Some(dir),
                ..
            } => (dir.clone(), true),
            What::New {
                session_dir: None, ..
            } => (request.places.sessions().join(id.as_str()), true),
        };
        // The working directory may change, and others are told of it.
        let dir = absolute(&dir)?;
        let mount_point = place(&request.mount_point, &dir)?;
        let parts = Parts {
            owner: request.owner,
            allow_other: request.allow_other,
            store: request.store,
            places: request.places,
            step_hook: request.step_hook,
        };
        let mut had_died = false;
        let (session, mut ground) = match request.what {
            What::Resume { .. } => {
                let mut session = Session::open(&dir)?;
                had_died = detach_dead(session.meta())?;
                let ground = ground_of(&session, &parts.places)?;
                session.move_to(&mount_point)?;
                (session, ground)
            }
            What::New {
                manifests,
                layers,
                read_only,
                scratch_dir,
                commit,
                output_dirs,
                ..
            } => {
                check_output_dirs(&output_dirs)?;
                let described: Vec<_> = manifests.iter().map(ManifestBytes::describe).collect();
                let ground = ground(&described, &layers, || Ok(&manifests), &dir, &parts.places)?;
                let meta = SessionMeta {
                    format: SessionMeta::FORMAT,
                    id,
                    program: env!("CARGO_PKG_VERSION").to_owned(),
                    created: now(),
                    mount_point: mount_point.clone(),
                    owner: parts.owner.uid,
                    manifests: described,
                    parent: ground.parent,
                    layers,
                    store: parts.store.settings.clone(),
                    scratch_dir,
                    output_dirs,
                    commit_on_unmount: commit,
                    read_only,
                };
                let bytes: Vec<_> = manifests
                    .into_iter()
                    .map(|manifest| manifest.bytes)
                    .collect();
                (Session::create(&dir, meta, &bytes)?, ground)
            }
        };
        let started = parts.mount(session, ground.tree.clone(), mount_point, fresh);
        if started.is_err() && fresh {
            // Nobody wrote to it.
            if let Err(error) = Session::open(&dir).and_then(|session| session.discard()) {
                tracing::warn!(%error, "an unused session stays behind");
            }
        }
        let mount = started?;
        // Nobody waits for it.
        drop(ground.save_later());
        Ok(Self { had_died, ..mount })
    }

    /// Whether the process that had the session before had died, and left a dead mount, which was taken
    /// away.
    pub fn had_died(&self) -> bool {
        self.had_died
    }

    /// The session's id.
    pub fn session_id(&self) -> &SessionId {
        &self.active.live.meta.id
    }

    /// The session's directory.
    pub fn session_dir(&self) -> &Path {
        &self.dir
    }

    /// Where it is mounted.
    pub fn mount_point(&self) -> &Path {
        self.active.mounted.mount_point()
    }

    /// How it is.
    pub async fn status(&self) -> Result<StatusReport, Error> {
        self.active.live.status(true).await
    }

    /// What was read and written, and what was asked of the store for it.
    pub fn counters(&self) -> (Counters, Fetched) {
        (self.active.live.vfs.counters(), self.active.live.fetched())
    }

    /// Waits until it is unmounted, by whomever. If someone still uses a mount that was detached, they
    /// are cut off when this process ends.
    pub async fn ended(&self) {
        let mut cut_off = self.active.cut_off.subscribe();
        tokio::select! {
            () = self.active.mounted.ended() => {}
            // The sender is not dropped before this mount is.
            _ = cut_off.wait_for(|cut_off| *cut_off) => {}
        }
    }

    /// Unmounts and seals. Fails if it is in use, unless `detach`.
    pub async fn unmount(&self, detach: bool) -> Result<(), Error> {
        self.active.unmount(detach).await
    }

    /// Commits what was written. The mount may be in use.
    pub async fn commit(
        &self,
        arguments: &CommitArguments,
        observer: &dyn Observer,
    ) -> Result<CommitReport, Error> {
        self.active.live.commit(arguments, observer).await
    }

    /// Ends the process's part: seals the session if that was not done, waits for answers that are
    /// being given, and deletes the session if nothing of it is needed any more.
    pub async fn finish(self) -> Result<(), Error> {
        let ended = self.active.ended.lock().await.clone();
        if ended.is_none() && self.active.mounted.end().is_some() {
            self.active.live.vfs.seal()?;
        }
        self.control.shut_down().await;
        match self.session {
            Some(session) => session.discard()?,
            None if ended.is_some_and(|ended| ended.done) => self.active.live.vfs.discard()?,
            None => return Ok(()),
        }
        unregister(&self.places, &self.active.live.meta.id);
        Ok(())
    }

    /// Says that nothing of the session is needed any more: [`finish`](Self::finish) deletes it.
    pub async fn mark_done(&self) {
        *self.active.ended.lock().await = Some(Ended { done: true });
    }
}

/// Where to mount: absolute, and without symbolic links if it can be looked at.
fn place(mount_point: &MountPoint, session: &Path) -> Result<PathBuf, Error> {
    match mount_point {
        MountPoint::At(path) => path.canonicalize().or_else(|_| absolute(path)),
        MountPoint::InSession => Ok(session.join("mnt")),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    let failed = |source| Error::Io {
        doing: "find",
        path: path.to_owned(),
        source,
    };
    std::path::absolute(path).map_err(failed)
}

/// Fails unless all output directories are paths in a mount.
pub(crate) fn check_output_dirs(dirs: &[String]) -> Result<(), Error> {
    for dir in dirs {
        crate::parse_path(dir)?;
    }
    Ok(())
}

/// What a mount is made of, beside its session and tree.
struct Parts {
    owner: Owner,
    allow_other: bool,
    store: OpenStore,
    places: Places,
    step_hook: Option<StepHook>,
}

impl Parts {
    fn mount(
        self,
        session: Session,
        tree: Arc<BaseTree>,
        mount_point: PathBuf,
        fresh: bool,
    ) -> Result<Mount, Error> {
        let Self {
            owner,
            allow_other,
            store,
            places,
            step_hook,
        } = self;
        let dir = session.dir().to_owned();
        let meta = SessionMeta {
            mount_point: mount_point.clone(),
            ..session.meta().clone()
        };
        let Owner {
            uid,
            gid,
            file_mode,
            dir_mode,
        } = owner;
        let settings = Settings {
            uid,
            gid,
            file_mode,
            dir_mode,
            created: meta.created,
        };
        let fetcher = fetcher(&store, &places)?;
        if mount_point.starts_with(&dir) {
            attachfs_durable::create_private_dir(&mount_point)?;
        }
        let (vfs, session) = match (meta.read_only, fresh) {
            (true, _) => (Vfs::read_only(tree, fetcher, settings), Some(session)),
            (false, true) => (Vfs::create(session, tree, fetcher, settings)?, None),
            (false, false) => (Vfs::recover(session, tree, fetcher, settings)?, None),
        };
        let vfs = Arc::new(vfs);
        let runtime = Handle::current();
        let session_id = Some(meta.id.clone());
        let options = MountOptions {
            mount_point,
            allow_other,
            runtime: runtime.clone(),
            session: session_id,
        };
        let mounted = attachfs_mount::mount(vfs.clone(), &options)?;
        let live = Live { vfs, meta, store };
        let active = Arc::new(Active {
            live,
            mounted,
            ended: Mutex::new(None),
            cut_off: watch::Sender::new(false),
        });
        let service = Arc::new(Service::new(active.clone(), step_hook));
        let listening = |source| Error::Io {
            doing: "listen in",
            path: dir.clone(),
            source,
        };
        let control = ControlServer::start(&dir, &runtime, service).map_err(listening)?;
        register(&places, &active.live.meta.id, &dir)?;
        Ok(Mount {
            active,
            control,
            places,
            dir,
            session,
            had_died: false,
        })
    }
}

impl Active {
    /// Unmounts in order: the kernel lets go, then the journal says so, durably. Nothing is written
    /// after that, even by those who still use a mount that was detached.
    pub(crate) async fn unmount(self: &Arc<Self>, detach: bool) -> Result<(), Error> {
        let mut ended = self.ended.lock().await;
        self.let_go(detach).await?;
        self.live.vfs.seal()?;
        ended.get_or_insert_default();
        Ok(())
    }

    /// Unmounts, and commits if the mount was made so. The session is not needed any more if all of
    /// it was committed.
    pub(crate) async fn unmount_and_commit(
        self: &Arc<Self>,
        detach: bool,
        arguments: UnmountArguments,
        observer: &dyn Observer,
    ) -> Result<UnmountReport, Error> {
        let mut ended = self.ended.lock().await;
        self.let_go(detach).await?;
        self.live.vfs.seal()?;
        let ended = ended.get_or_insert_default();
        let status = self.live.status(false).await?;
        let mut report = UnmountReport {
            session: status.session,
            kept: true,
            was_dead: false,
            uncommitted: status.uncommitted,
            commit: None,
            commit_failure: None,
        };
        let is_default = self.live.meta.commit_on_unmount;
        let commit = arguments
            .commit
            .or_else(|| is_default.then(CommitArguments::default));
        if let Some(arguments) = commit {
            match self.live.commit(&arguments, observer).await {
                Ok(commit) => {
                    let left = commit.account.left_out.len() + commit.account.open.len();
                    report.uncommitted = left as u64;
                    report.commit = Some(commit);
                }
                // It is unmounted all the same, and whoever asked should hear of both.
                Err(error) => {
                    let kind = FailureKind::from(error.class());
                    report.commit_failure = Some(Failure::new(kind, &error));
                }
            }
        }
        // What nothing was written to, or is all in the store, is not needed any more.
        ended.done = !arguments.keep && report.uncommitted == 0 && report.commit_failure.is_none();
        report.kept = !ended.done;
        Ok(report)
    }

    /// Unmounts, and gives up what was not committed: the process deletes it when it ends.
    pub(crate) async fn unmount_and_discard(self: &Arc<Self>) -> Result<(), Error> {
        let mut ended = self.ended.lock().await;
        self.let_go(false).await?;
        *ended = Some(Ended { done: true });
        Ok(())
    }

    async fn let_go(self: &Arc<Self>, detach: bool) -> Result<(), Error> {
        let (how, patience) = if detach {
            (Unmount::Detach, LAST_CALL)
        } else {
            (Unmount::IfUnused, PATIENCE)
        };
        let active = self.clone();
        let unmounted =
            tokio::task::spawn_blocking(move || active.mounted.unmount(how, patience)).await;
        match unmounted {
            // Its users can write nothing from here on, and are cut off when this process ends; what
            // they wrote is in the session.
            Ok(Err(UnmountError::StillUsed { .. })) if detach => {
                let vfs = self.live.vfs.clone();
                // Waits for the changes that are under way.
                let ended = tokio::task::spawn_blocking(move || vfs.end_writing()).await;
                if let Err(panic) = ended {
                    std::panic::resume_unwind(panic.into_panic());
                }
                self.cut_off.send_replace(true);
                Ok(())
            }
            Ok(result) => Ok(result?),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

fn random() -> Result<[u8; 16], Error> {
    let mut bytes = [0; 16];
    let failed = |source: rustix::io::Errno| Error::Io {
        doing: "get random bytes from",
        path: "the operating system".into(),
        source: source.into(),
    };
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).map_err(failed)?;
    Ok(bytes)
}

fn now() -> Timestamp {
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => Timestamp {
            seconds: since.as_secs() as i64,
            nanoseconds: since.subsec_nanos(),
        },
        Err(_) => Timestamp::default(),
    }
}
