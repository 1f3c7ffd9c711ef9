//! A mounted manifest, from the first look at its manifests to the end of its session.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use attachfs_commit::{Observer, OpenSession};
use attachfs_fetch::Fetcher;
use attachfs_mount::{MountError, MountOf, MountOptions, Mounted, Place, Unmount, UnmountError};
use attachfs_session::{ControlServer, Failure, Session, SessionError, SessionId, SessionMeta};
use attachfs_transfer::error_chain;
use attachfs_tree::{BaseTree, LayerOptions, Timestamp};
use attachfs_vfs::{Counters, Settings};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};

use crate::control::{Service, StepHook, holder};
use crate::ended::{not_remembered, remember};
use crate::index::{ground, ground_of};
use crate::live::{Live, fetcher};
use crate::logs::{self, LogPlace};
use crate::manifests::ManifestBytes;
use crate::probe::{Probed, probe};
use crate::registry::{register, unregister};
use crate::remote::{
    CommitArguments, CommitReport, Fetched, LastError, StatusReport, UnmountArguments,
};
use crate::session::{UnmountReport, take};
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
    /// Prove first that the store can be read.
    pub probe: bool,
    /// Where the caller lets the log go.
    pub log: LogPlace,
    /// This machine.
    pub places: Places,
    /// Called at each step of a commit that is asked for through the control socket.
    pub step_hook: Option<StepHook>,
    /// Called when everything is read and nothing is made yet. Until then the process may simply end.
    pub before_making: Option<fn()>,
}

/// A mount of this process. Dropping it without [`finish`](Self::finish) leaves the session to be
/// resumed.
#[derive(Debug)]
pub struct Mount {
    active: Arc<Active>,
    control: ControlServer,
    places: Places,
    dir: PathBuf,
    had_died: bool,
    fresh: bool,
    without_store: Option<String>,
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
    places: Places,
    dir: PathBuf,
    own_log: bool,
}

/// How a mount's session ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ended {
    /// Nothing of it is needed any more.
    done: bool,
    /// Its user wants nothing of it to be kept.
    discarded: bool,
}

/// How long the kernel may take to let go.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take if nothing is open.
const LINGER: Duration = Duration::from_secs(3);
/// How long those who use a mount that is detached have before they are cut off.
const LAST_CALL: Duration = Duration::from_secs(1);

impl Mount {
    /// Mounts. When it returns, the mount answers. Runs on a tokio runtime, which then serves it. Until the
    /// store has answered it can be dropped, and leaves nothing.
    pub async fn start(request: MountRequest) -> Result<Self, Error> {
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
        let mount_point = place(&request.mount_point, &dir, &request.places)?;
        let parts = Parts {
            owner: request.owner,
            allow_other: request.allow_other,
            fetcher: fetcher(&request.store, &request.places)?,
            store: request.store,
            log: request.log,
            places: request.places,
            step_hook: request.step_hook,
        };
        let before_making = || {
            if let Some(hook) = request.before_making {
                hook();
            }
        };
        let mut had_died = false;
        let (session, mut ground) = match request.what {
            What::Resume { .. } => {
                let session = take(&dir)?;
                let ground = ground_of(&session, &parts.places)?;
                before_making();
                had_died = attachfs_mount::detach_dead(&session)?;
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
                before_making();
                (Session::create(&dir, meta, &bytes)?, ground)
            }
        };
        // A tree that turns out to be damaged is built again from the session: it has to be there.
        // Dropped after the session, which one process has at a time.
        let mut unused = Unused(fresh.then_some(dir));
        let mut session = session;
        let mut probed = None;
        if request.probe {
            probed = Some(probe(&parts.store, &parts.fetcher, &ground.tree).await?);
        }
        if !fresh {
            session.move_to(&mount_point)?;
        }
        let mount = parts.mount(session, ground.tree.clone(), mount_point, fresh)?;
        unused.0 = None;
        // Nobody waits for it.
        drop(ground.save_later());
        let without_store = match probed {
            Some(Probed::AllCached(why)) => Some(error_chain(&why)),
            Some(Probed::Answered) | None => None,
        };
        Ok(Self {
            had_died,
            without_store,
            ..mount
        })
    }

    /// Why the store cannot be read, if the mount was made all the same, because all objects are in the
    /// disk cache.
    pub fn without_store(&self) -> Option<&str> {
        self.without_store.as_deref()
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
    pub fn mount_point(&self) -> PathBuf {
        self.active.mounted.mount_point()
    }

    /// How it is.
    pub async fn status(&self) -> Result<StatusReport, Error> {
        self.active.live.status(true).await
    }

    /// What was read and written, and what was asked of the store for it.
    pub fn counters(&self) -> (Counters, Fetched) {
        (
            self.active.live.vfs().counters(),
            self.active.live.fetched(),
        )
    }

    /// The last read that failed.
    pub fn last_error(&self) -> Option<LastError> {
        self.active.live.last_error()
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

    /// Unmounts and seals, and says where else the mount still was. Fails if it is in use, unless
    /// `detach`.
    pub async fn unmount(&self, detach: bool) -> Result<Vec<String>, Error> {
        self.active.unmount(detach).await
    }

    /// Takes the mount away, as if it had never been: a session that was made for it goes too, one that was
    /// taken up is kept.
    pub async fn undo(self) -> Result<(), Error> {
        self.active.unmount(true).await?;
        if self.fresh {
            self.mark_done().await;
        }
        self.finish().await
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
        let sealed = if ended.is_none() && self.active.mounted.end().is_some() {
            self.active.live.vfs().seal()
        } else {
            Ok(())
        };
        // Whoever asked for the end is told why it failed before this process goes.
        self.control.shut_down().await;
        sealed?;
        let is_read_only = self.active.live.meta.read_only;
        let is_deleted = is_read_only || ended.as_ref().is_some_and(|ended| ended.done);
        if is_deleted && !ended.as_ref().is_some_and(|ended| ended.discarded) {
            self.active.keep_log();
        }
        let Live { session, meta, .. } = &self.active.live;
        if !is_read_only {
            let Some(Ended { discarded, .. }) = ended.filter(|ended| ended.done) else {
                return Ok(());
            };
            // No commit needs the room any more, and on a full disk what comes next does.
            session.vfs().release_reserve();
            // What it published is known from here on without it.
            match remember(&self.places, meta, &session.vfs().commits()) {
                Err(error) if discarded => not_remembered(&error),
                remembered => remembered?,
            }
        }
        session.discard()?;
        unregister(&self.places, &self.active.live.meta.id);
        Ok(())
    }

    /// Says that nothing of the session is needed any more: [`finish`](Self::finish) deletes it.
    pub async fn mark_done(&self) {
        *self.active.ended.lock().await = Some(Ended {
            done: true,
            discarded: false,
        });
    }
}

/// The directory of a new session that nothing was written to yet. If nothing comes of it, it is deleted.
#[derive(Debug)]
struct Unused(Option<PathBuf>);

impl Drop for Unused {
    fn drop(&mut self) {
        let Some(dir) = &self.0 else {
            return;
        };
        match Session::open(dir).and_then(|session| session.discard()) {
            Ok(()) | Err(SessionError::Missing(_)) => {}
            Err(error) => tracing::warn!(%error, "an unused session stays behind"),
        }
    }
}

/// Where to mount: absolute, and without symbolic links as far as no mount has to be asked for them.
fn place(mount_point: &MountPoint, session: &Path, places: &Places) -> Result<PathBuf, Error> {
    let path = match mount_point {
        MountPoint::At(path) => path,
        MountPoint::InSession => return Ok(session.join("mnt")),
    };
    let failed = |source| Error::Io {
        doing: "find",
        path: path.clone(),
        source,
    };
    let place = Place::of(path).map_err(failed)?;
    match place.mount {
        Some(mount) if mount.mount_point != place.path => {
            // The kernel will ask whoever serves that mount. One that is stopped never answers.
            if let MountOf::Session(id) = &mount.of {
                let dir = places.sessions().join(id.as_str());
                if let Some(process) = holder(&dir).filter(|process| process.stopped) {
                    return Err(Error::NoAnswer {
                        dir,
                        process: Some(process),
                        mounted: true,
                    });
                }
            }
            // If it cannot be found, mounting fails of the same and says so.
            path.canonicalize().or(Ok(place.path))
        }
        Some(_) => Ok(place.path),
        None => match place.path.symlink_metadata() {
            // Before a session is made for it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(MountError::Missing(path.clone()).into())
            }
            _ => Ok(place.path),
        },
    }
}

/// Whether there is a session in a directory, and no process has it.
fn is_left(dir: &Path) -> bool {
    Session::read_meta(dir).is_ok() && matches!(Session::is_in_use(dir), Ok(false))
}

/// Why a session was not mounted. A mount of a session that no process has is dead.
fn not_mounted(error: MountError, places: &Places) -> Error {
    match error {
        MountError::AlreadyMounted {
            mount_point,
            session: Some(id),
            ..
        } if is_left(&places.sessions().join(id.as_str())) => Error::DeadMount { mount_point, id },
        error => error.into(),
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
    fetcher: Arc<Fetcher>,
    log: LogPlace,
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
            fetcher,
            log,
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
        if mount_point.starts_with(&dir) {
            attachfs_durable::create_private_dir(&mount_point)?;
        }
        let session = if fresh {
            OpenSession::create(session, tree, fetcher, settings)?
        } else {
            OpenSession::recover(session, tree, fetcher, settings)?
        };
        let runtime = Handle::current();
        let session_id = Some(meta.id.clone());
        let options = MountOptions {
            mount_point,
            allow_other,
            runtime: runtime.clone(),
            session: session_id,
        };
        let mounted = attachfs_mount::mount(session.vfs().clone(), &options)
            .map_err(|error| not_mounted(error, &places))?;
        let own_log = log == LogPlace::Session;
        let log = match log {
            LogPlace::Session => dir.join("log").display().to_string(),
            LogPlace::Elsewhere(place) => place,
        };
        let live = Live {
            session,
            meta,
            store,
            log: Some(log),
        };
        let active = Arc::new(Active {
            live,
            mounted,
            ended: Mutex::new(None),
            cut_off: watch::Sender::new(false),
            places: places.clone(),
            dir: dir.clone(),
            own_log,
        });
        let service = Arc::new(Service::new(active.clone(), step_hook));
        let listening = |source| Error::Io {
            doing: "listen in",
            path: dir.clone(),
            source,
        };
        let control = ControlServer::start(&dir, &runtime, service).map_err(listening);
        let control = control.and_then(|control| {
            register(&places, &active.live.meta.id, &dir)?;
            Ok(control)
        });
        let control = match control {
            Ok(control) => control,
            Err(error) => {
                if let Err(left) = active.mounted.unmount(Unmount::Detach, PATIENCE) {
                    tracing::warn!(error = %left, "after a failure to mount");
                }
                return Err(error);
            }
        };
        Ok(Mount {
            active,
            control,
            places,
            dir,
            had_died: false,
            fresh,
            without_store: None,
        })
    }
}

impl Active {
    /// Unmounts in order: the kernel lets go, then the journal says so, durably. Nothing is written
    /// after that, even by those who still use a mount that was detached.
    pub(crate) async fn unmount(self: &Arc<Self>, detach: bool) -> Result<Vec<String>, Error> {
        let mut ended = self.ended.lock().await;
        let held = self.let_go(detach).await?;
        self.live.vfs().seal()?;
        ended.get_or_insert_default();
        Ok(held)
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
        let mount_point = self.mounted.mount_point();
        let held = self.let_go(detach).await?;
        self.live.vfs().seal()?;
        let ended = ended.get_or_insert_default();
        let status = self.live.status(false).await?;
        let mut report = UnmountReport {
            uncommitted: status.uncommitted,
            set_aside: status.set_aside,
            set_aside_in: status.set_aside_in,
            held,
            reads_failed: self.live.vfs().counters().reads_failed,
            last_error: status.last_error,
            ..UnmountReport::of(&self.live.meta.id, mount_point)
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
                    report.commit_failure = Some(Failure::new(error.class(), &error));
                }
            }
        }
        // What nothing was written to, or is all in the store, is not needed any more. Of what was set aside
        // nobody knows what it is.
        ended.done = !arguments.keep
            && report.uncommitted == 0
            && report.set_aside == 0
            && report.commit_failure.is_none();
        report.kept = !ended.done;
        if report.reads_failed > 0 && self.own_log {
            report.log = if ended.done {
                self.keep_log()
            } else {
                logs::of_session(&self.dir)
            };
        }
        Ok(report)
    }

    /// Keeps the log of a session that is about to be deleted, if reads failed in it, and says where.
    fn keep_log(&self) -> Option<PathBuf> {
        if !self.own_log || self.live.vfs().counters().reads_failed == 0 {
            return None;
        }
        logs::keep_if_possible(&self.places, &self.dir, &self.live.meta.id)
    }

    /// Unmounts, and gives up what was not committed: the process deletes it when it ends.
    pub(crate) async fn unmount_and_discard(self: &Arc<Self>) -> Result<(), Error> {
        let mut ended = self.ended.lock().await;
        self.let_go(false).await?;
        *ended = Some(Ended {
            done: true,
            discarded: true,
        });
        Ok(())
    }

    /// Unmounts, and says where else the mount still is: in other mount namespaces, where nobody can end
    /// it from here. Where nothing of it is open, it is cut off there.
    async fn let_go(self: &Arc<Self>, detach: bool) -> Result<Vec<String>, Error> {
        let (how, first) = if detach {
            (Unmount::Detach, LAST_CALL)
        } else {
            (Unmount::IfUnused, LINGER)
        };
        let since = Instant::now();
        let mut patience = first;
        loop {
            let copies = match self.try_unmount(how, patience).await {
                Ok(()) => return Ok(Vec::new()),
                Err(UnmountError::StillUsed { copies, .. })
                    if detach || !self.live.vfs().is_open() =>
                {
                    copies
                }
                // What was closed may not have been told yet.
                Err(UnmountError::StillUsed { .. }) if since.elapsed() < LINGER => continue,
                Err(UnmountError::StillUsed { copies, .. })
                    if copies.found.is_empty() && patience < PATIENCE =>
                {
                    patience = PATIENCE;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            // Its users can write nothing from here on, and are cut off when this process ends; what
            // they wrote is in the session.
            let vfs = self.live.vfs().clone();
            // Waits for the changes that are under way.
            let ended = tokio::task::spawn_blocking(move || vfs.end_writing()).await;
            if let Err(panic) = ended {
                std::panic::resume_unwind(panic.into_panic());
            }
            self.cut_off.send_replace(true);
            let unknown = copies.found.is_empty() && !detach;
            let held: Vec<String> = if unknown {
                vec![copies.to_string()]
            } else {
                copies.found.iter().map(ToString::to_string).collect()
            };
            for held in &held {
                tracing::warn!("the mount was also {held}, where it does not answer any more");
            }
            return Ok(held);
        }
    }

    async fn try_unmount(
        self: &Arc<Self>,
        how: Unmount,
        patience: Duration,
    ) -> Result<(), UnmountError> {
        let active = self.clone();
        let unmounted =
            tokio::task::spawn_blocking(move || active.mounted.unmount(how, patience)).await;
        match unmounted {
            Ok(result) => result,
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
