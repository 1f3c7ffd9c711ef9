//! A mounted manifest, from the first look at its manifests to the end of its session.

mod point;
mod request;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use attachfs_commit::{Observer, OpenSession};
use attachfs_fetch::Fetcher;
use attachfs_mount::{MountOptions, Unmount};
use attachfs_session::{ControlServer, Session, SessionError, SessionId, SessionMeta};
use attachfs_transfer::error_chain;
use attachfs_tree::BaseTree;
use attachfs_vfs::{Counters, Settings};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};

use self::point::{absolute, not_mounted, place};
pub use self::request::{MountPoint, MountRequest, MountSession, Owner};
use crate::ended::{not_remembered, remember};
use crate::holder::take;
use crate::index::{base_of, open_base};
use crate::live::{Live, fetcher};
use crate::logs::LogPlace;
use crate::manifests::ManifestBytes;
use crate::probe::{Probed, probe};
use crate::registry::{register, unregister};
use crate::remote::{CommitArguments, CommitReport, Fetched, LastError, StatusReport};
use crate::served::{Ended, PATIENCE, ServedMount};
use crate::service::{Service, StepHook};
use crate::store::OpenStore;
use crate::{Error, Places};

/// A mount of this process. Dropping it without [`finish`](Self::finish) leaves the session to be
/// resumed.
#[derive(Debug)]
pub struct Mount {
    active: Arc<ServedMount>,
    control: ControlServer,
    places: Places,
    dir: PathBuf,
    had_died: bool,
    fresh: bool,
    without_store: Option<String>,
}

impl Mount {
    /// Fails where the platform has no mounts.
    pub fn supported() -> Result<(), Error> {
        Ok(attachfs_mount::supported()?)
    }

    /// Mounts. When it returns, the mount answers. Runs on a tokio runtime, which then serves it. Until the
    /// store has answered it can be dropped, and leaves nothing.
    pub async fn start(request: MountRequest) -> Result<Self, Error> {
        Self::supported()?;
        let id = SessionId::from_random(random()?);
        let (dir, fresh) = match &request.session {
            MountSession::Resume { dir } => (dir.clone(), false),
            MountSession::New {
                session_dir: Some(dir),
                ..
            } => (dir.clone(), true),
            MountSession::New {
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
        let (session, mut base) = match request.session {
            MountSession::Resume { .. } => {
                let session = take(&dir)?;
                let base = base_of(&session, &parts.places)?;
                before_making();
                had_died = attachfs_mount::detach_dead(&session)?;
                (session, base)
            }
            MountSession::New {
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
                let base = open_base(&described, &layers, || Ok(&manifests), &dir, &parts.places)?;
                let meta = SessionMeta {
                    format: SessionMeta::FORMAT,
                    id,
                    program: env!("CARGO_PKG_VERSION").to_owned(),
                    created: attachfs_vfs::now(),
                    mount_point: mount_point.clone(),
                    owner: parts.owner.uid,
                    manifests: described,
                    parent: base.parent,
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
                (Session::create(&dir, meta, &bytes)?, base)
            }
        };
        // A tree that turns out to be damaged is built again from the session: it has to be there.
        // Dropped after the session, which one process has at a time.
        let mut unused = Unused(fresh.then_some(dir));
        let mut session = session;
        let mut probed = None;
        if request.probe {
            probed = Some(probe(&parts.store, &parts.fetcher, &base.tree).await?);
        }
        if !fresh {
            session.move_to(&mount_point)?;
        }
        let mount = parts.mount(session, base.tree.clone(), mount_point, fresh)?;
        unused.0 = None;
        // Nobody waits for it.
        drop(base.save_later());
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
        let active = Arc::new(ServedMount {
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

fn random() -> Result<[u8; 16], Error> {
    attachfs_durable::random_bytes().map_err(|source| Error::Io {
        doing: "get random bytes from",
        path: "the operating system".into(),
        source,
    })
}
