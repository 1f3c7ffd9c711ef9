//! Outputs of jobs as folders, mounted and served by this process.
//!
//! ```text
//!     BrowseMount     the mount, from the first look at its place to its end            browse.rs
//!       |-- session   a directory with its description, its socket and its log: nothing is ever written to the mount
//!       |-- left      what the mounts of killed processes left at the same place        browse/left.rs
//!       `-- served    status and end, asked by this process or by another one           browse/served.rs, browse/service.rs
//! ```
//!
//! It is a session like that of any mount, so the verbs on sessions find it: [`list`](crate::sessions) and [`status`](crate::session::status)
//! show it, [`unmount`](crate::unmount()) ends it. There is nothing to commit, and nothing of it is kept.

mod left;
mod listed;
mod request;
mod served;
mod service;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use attachfs_browse::{Browse, BrowseOptions};
use attachfs_fetch::Prefetch;
use attachfs_manifest::ContentHash;
use attachfs_mount::{FastPath, MountOptions, Unmount};
use attachfs_session::{ControlServer, Session, SessionId, SessionMeta};
use attachfs_tree::LayerOptions;
use attachfs_vfs::Settings;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use self::left::take_left;
pub use self::listed::{JobListError, parse_job_list};
pub use self::request::{BrowseRequest, browsed, given_inputs, mappings};
use self::served::{End, ServedBrowse};
use self::service::BrowseService;
use crate::cancel::unless_cancelled;
use crate::doubts::watch_doubts;
use crate::error::{Doing as _, Error};
use crate::letting_go::PATIENCE;
use crate::logs::LogPlace;
use crate::mount::{MountPoint, Unused};
use crate::mount::{absolute, not_mounted, place, random};
use crate::opened::fetcher;
use crate::places::Places;
use crate::reading::ReadOptions;
use crate::remote::{StatusReport, UnmountReport};

/// Outputs of jobs that this process has mounted. Dropping it takes the mount away; [`finish`](Self::finish) also removes its session.
#[derive(Debug)]
pub struct BrowseMount {
    served: Arc<ServedBrowse>,
    control: ControlServer,
    places: Places,
    had_died: bool,
}

impl BrowseMount {
    /// Mounts. When it returns, the mount answers; nothing is asked of the store before somebody looks. The runtime that this is called
    /// on serves it from then on. What a browse whose process died left at the mount point is taken away. Until the mount is made it can
    /// be cancelled, or dropped, and leaves nothing.
    pub async fn start(request: BrowseRequest, cancel: &CancellationToken) -> Result<Self, Error> {
        crate::Mount::supported()?;
        unless_cancelled(cancel, async { Self::start_now(request) }).await
    }

    fn start_now(request: BrowseRequest) -> Result<Self, Error> {
        let BrowseRequest {
            scope,
            latest_by,
            refresh,
            mappings,
            inputs,
            mount_point,
            owner,
            allow_other,
            store,
            reading,
            log,
            places,
            before_making,
        } = request;
        let id = SessionId::from_random(random()?);
        let dir = absolute(&places.sessions().entry_of(&id))?;
        let mount_point = place(&MountPoint::At(mount_point), &dir, &places)?;
        let meta = SessionMeta {
            format: SessionMeta::FORMAT,
            id: id.clone(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            created: attachfs_vfs::now(),
            mount_point: mount_point.clone(),
            owner: owner.uid,
            manifests: Vec::new(),
            parent: ContentHash::of(b""),
            layers: LayerOptions::default(),
            store: store.settings.clone(),
            scratch_dir: None,
            max_scratch: None,
            output_dirs: Vec::new(),
            commit_on_unmount: false,
            read_only: true,
            case_insensitive: false,
            protect_inputs: false,
            browses: Some(scope.to_string()),
        };
        let reading = ReadOptions {
            prefetch: Prefetch::Off,
            ..reading
        };
        let fetcher = fetcher(&store, &places, reading)?;
        let usual = BrowseOptions::new(
            scope,
            Settings {
                uid: owner.uid,
                gid: owner.gid,
                file_mode: owner.file_mode,
                dir_mode: owner.dir_mode,
                created: meta.created,
                case_insensitive: false,
            },
        );
        let options = BrowseOptions {
            latest_by,
            refresh,
            deadline: reading.op_timeout.unwrap_or(usual.deadline),
            mappings,
            inputs,
            ..usual
        };
        let browse = Browse::new(store.store.clone(), (*fetcher).clone(), options);
        let browse = Arc::new(browse);
        if let Some(hook) = before_making {
            hook();
        }
        let had_died = take_left(&places, &mount_point)?;
        let session = Session::begin(&dir)?.finish(meta)?;
        // Dropped after the session, which one process has at a time.
        let mut unused = Unused(Some(dir.clone()));
        let runtime = Handle::current();
        let options = MountOptions {
            mount_point,
            allow_other,
            fast_path: FastPath::None,
            runtime: runtime.clone(),
            session: Some(id.clone()),
        };
        // Moved in here, so that it is dropped before `unused` where this fails.
        let session = session;
        let mounted = attachfs_mount::mount(Arc::clone(&browse), &options)
            .map_err(|error| not_mounted(error, &places))?;
        let own_log = log == LogPlace::Session;
        let log = match log {
            LogPlace::Session => dir.join("log").display().to_string(),
            LogPlace::Elsewhere(place) => place,
        };
        let served = ServedBrowse::new(session, store, fetcher, browse, mounted, own_log, log);
        let served = Arc::new(served);
        watch_doubts(&served);
        let service = Arc::new(BrowseService::new(Arc::clone(&served)));
        let control = ControlServer::start(&dir, &runtime, service)
            .doing(|| format!("cannot listen in {}", dir.display()));
        let control = match control {
            Ok(control) => control,
            Err(error) => {
                if let Err(left) = served.mounted.unmount(Unmount::Detach, PATIENCE) {
                    let error = &left as &dyn std::error::Error;
                    tracing::warn!(error, "what was mounted stays after a failure");
                }
                return Err(error);
            }
        };
        unused.0 = None;
        Ok(Self {
            served,
            control,
            places,
            had_died,
        })
    }

    /// Whether a browse whose process had died was at the mount point, and was taken away.
    pub fn had_died(&self) -> bool {
        self.had_died
    }

    /// The session's id.
    pub fn session_id(&self) -> &SessionId {
        &self.served.meta().id
    }

    /// The session's directory: its description, the control socket and the log.
    pub fn session_dir(&self) -> &Path {
        self.served.dir()
    }

    /// Where it is mounted.
    pub fn mount_point(&self) -> PathBuf {
        self.served.mounted.mount_point()
    }

    /// What it shows, for people.
    pub fn shows(&self) -> &str {
        self.served.meta().browses.as_deref().unwrap_or_default()
    }

    /// How it is.
    pub fn status(&self) -> Result<StatusReport, Error> {
        self.served.status()
    }

    /// Waits until it is unmounted, here, through the control socket, or by umount(8). Processes that still use a mount
    /// that was detached are cut off when this process ends.
    pub async fn ended(&self) {
        let mut cut_off = self.served.cut_off.subscribe();
        tokio::select! {
            () = self.served.mounted.ended() => {}
            // The sender is not dropped before this mount is.
            _ = cut_off.wait_for(|cut_off| *cut_off) => {}
        }
    }

    /// Unmounts, and says where else the mount still was. Fails if it is in use, unless `detach`.
    pub async fn unmount(&self, detach: bool) -> Result<Vec<String>, Error> {
        let how = if detach { End::CutOff } else { End::IfUnused };
        Ok(self.served.end(how).await?.held)
    }

    /// Takes the mount away, as if it had never been.
    pub async fn undo(self) -> Result<(), Error> {
        self.served.end(End::CutOff).await?;
        self.finish().await.map(drop)
    }

    /// Ends the process's part: waits for answers that are being given, and deletes the session. Its log is kept if something could
    /// not be read.
    pub async fn finish(self) -> Result<UnmountReport, Error> {
        // A client that asked for the end is told of it before this process goes.
        self.control.shut_down().await;
        let meta = self.served.meta();
        let report = UnmountReport {
            log: self.served.keep_log(&self.places),
            ..self.served.report()
        };
        self.served.session.discard()?;
        self.places.sessions().remove(&meta.id);
        Ok(report)
    }
}
