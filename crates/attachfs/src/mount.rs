//! A mounted manifest, from the first look at its manifests to the end of its session.

mod left;
mod opening;
mod point;
mod request;
mod unused;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use attachfs_commit::{Observer, OpenSession};
use attachfs_fetch::Fetcher;
use attachfs_mount::{FastPath, MountOptions, Unmount};
use attachfs_session::{ControlServer, Session, SessionId, SessionMeta};
use attachfs_transfer::error_chain;
use attachfs_tree::BaseTree;
use attachfs_vfs::{Counted, Counters, Protected, Settings};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use self::opening::{Found, Opened, Opening};
pub(crate) use self::point::{absolute, not_mounted, place};
pub use self::request::{MountPoint, MountRequest, MountSession, Owner};
pub(crate) use self::unused::Unused;
use crate::arguments::CommitArguments;
use crate::cancel::{Cancellable, unless_cancelled};
use crate::counts::MountCounts;
use crate::doubts::watch_doubts;
use crate::early::EarlyUploads;
use crate::error::{Doing as _, Error};
use crate::joining::EndAsked;
use crate::letting_go::PATIENCE;
use crate::logs::LogPlace;
use crate::metrics::{self, MetricsListener};
use crate::opened::{OpenedSession, fetcher, naming_fsck};
use crate::places::Places;
use crate::prefetching::PrefetchStats;
use crate::probe::{Probed, probe};
use crate::remembering::{not_remembered, remember, remember_discarded};
use crate::remote::{CommitReport, Fetched, LastError, StatusReport, UnmountReport};
use crate::report::{ReportAtEnd, WrittenReport, check_files};
use crate::served::{Ended, ServedMount};
use crate::service::{Service, StepHook};
use crate::sources::Sources;
use crate::store::OpenStore;
use crate::traces::{MountTraces, OpenedTraces};

/// A manifest that this process has mounted. Dropping it without [`finish`](Self::finish) leaves the session to be
/// resumed.
#[derive(Debug)]
pub struct Mount {
    served: Arc<ServedMount>,
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

    /// Mounts. When it returns, the mount answers. The runtime that this is called on serves it from then on. Until the
    /// store has answered it can be cancelled, or dropped, and leaves nothing.
    pub async fn start(request: MountRequest, cancel: &CancellationToken) -> Result<Self, Error> {
        Self::supported()?;
        unless_cancelled(cancel, Self::start_now(request, cancel)).await
    }

    async fn start_now(request: MountRequest, cancel: &CancellationToken) -> Result<Self, Error> {
        let id = SessionId::from_random(random()?);
        let (dir, fresh) = match &request.session {
            MountSession::Resume { dir, .. } => (dir.clone(), false),
            MountSession::New {
                session_dir: Some(dir),
                ..
            } => (dir.clone(), true),
            MountSession::New {
                session_dir: None, ..
            } => (request.places.sessions().entry_of(&id), true),
        };
        // The path is shown to other processes, and the working directory may change.
        let dir = absolute(&dir)?;
        let mount_point = place(&request.mount_point, &dir, &request.places)?;
        check_files(&request.reports.files, &mount_point, &dir)?;
        let fast_path = request.fast_path();
        // A manifest that is not there is told before anything is made.
        let what = Found::find(request.session, &request.store.settings, cancel).await?;
        let mut traces = OpenedTraces::open(request.traces, &mount_point, &dir)?;
        traces.check_others(&request.reports.files)?;
        let parts = Parts {
            owner: request.owner,
            allow_other: request.allow_other,
            fast_path,
            fetcher: fetcher(&request.store, &request.places, request.reading)?,
            store: request.store,
            log: request.log,
            metrics: match request.metrics {
                Some(address) => Some(MetricsListener::bind(address).await?),
                None => None,
            },
            places: request.places,
            step_hook: request.step_hook,
            early_uploads: request.early_uploads,
            report_at_end: ReportAtEnd::new(request.reports),
        };
        let opening = Opening {
            id,
            dir: &dir,
            mount_point: &mount_point,
            owner: parts.owner.uid,
            store: &parts.store.settings,
            places: &parts.places,
            no_open: request.no_open,
            before_making: request.before_making,
        };
        let Opened {
            session,
            mut base,
            had_died,
        } = opening.open(what).await?;
        // A tree that turns out to be damaged is built again from the session: it has to be there.
        // Dropped after the session, which one process has at a time.
        let mut unused = Unused(fresh.then_some(dir));
        let mut session = session;
        let mut probed = None;
        if request.probe {
            probed = Some(probe(&parts.store, &parts.fetcher, &base.tree).await?);
        }
        traces.look_in_dir(session.meta())?;
        if !fresh {
            session.move_to(&mount_point)?;
        }
        let recording = traces.begin(&parts.fetcher)?;
        let mount = parts.mount(session, base.tree.clone(), mount_point, recording, fresh)?;
        unused.0 = None;
        if let Some(prefetching) = traces.prefetching(request.reading.prefetch) {
            let mounted = Arc::downgrade(mount.served.session.vfs());
            let task = tokio::spawn(prefetching.run(mounted, base.tree.clone()));
            mount.served.traces.prefetching(task);
        }
        // The thread is not joined.
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
        &self.served.session.meta.id
    }

    /// The session's directory.
    pub fn session_dir(&self) -> &Path {
        &self.dir
    }

    /// Where it is mounted.
    pub fn mount_point(&self) -> PathBuf {
        self.served.mounted.mount_point()
    }

    /// How it is.
    pub async fn status(&self) -> Result<StatusReport, Error> {
        self.served.status().await
    }

    /// The counts of bytes read and written, and of requests to the store.
    pub fn counters(&self) -> (Counters, Fetched) {
        (
            self.served.session.vfs().counters(),
            self.served.session.fetched(),
        )
    }

    /// What was fetched ahead of all reads.
    pub fn prefetched(&self) -> PrefetchStats {
        PrefetchStats::of(&self.served.session.vfs().fetcher().counters())
    }

    /// The address that answers with metrics, if that was asked for.
    pub fn metrics_url(&self) -> Option<String> {
        self.served.metrics_url()
    }

    /// The last read that failed.
    pub fn last_error(&self) -> Option<LastError> {
        self.served.session.last_error()
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

    /// Unmounts and seals, and says where else the mount still was. Fails if it is in use, unless
    /// `detach`.
    pub async fn unmount(&self, detach: bool) -> Result<Vec<String>, Error> {
        self.served.unmount(detach).await
    }

    /// Takes the mount away, as if it had never been: a session that was made for it goes too, one that was
    /// taken up is kept.
    pub async fn undo(self) -> Result<(), Error> {
        self.served.traces.give_up();
        self.served.report_at_end.give_up().await;
        self.served.unmount(true).await?;
        if self.fresh {
            self.mark_done().await;
        }
        self.finish().await.map(drop)
    }

    /// Writes the reports that were asked for, now that it is unmounted, and says what became of each.
    /// [`finish`](Self::finish) does so otherwise.
    pub async fn write_reports(&self) -> Vec<WrittenReport> {
        self.served.write_reports().await
    }

    /// Commits what was written. The mount may be in use.
    pub async fn commit(
        &self,
        arguments: &CommitArguments,
        observer: &dyn Observer,
        cancel: &CancellationToken,
    ) -> Result<CommitReport, Error> {
        let observer = Cancellable::new(observer, cancel);
        let commit = self.served.session.commit(arguments, &observer);
        observer.run(commit).await
    }

    /// Ends the process's part: seals the session if that was not done, waits for answers that are
    /// being given, and deletes the session if nothing of it is needed any more, or nothing at all is in it. Says what became of it,
    /// without what a client was told that had it unmounted.
    pub async fn finish(self) -> Result<UnmountReport, Error> {
        self.served.end_detached().await;
        self.served.end_early_upload().await;
        let ended = self.served.end.lock().await.as_ref().map(|end| end.ended);
        let sealed = if ended.is_none() && self.served.mounted.end().is_some() {
            self.served.seal().await
        } else {
            Ok(self.served.end_traces().await)
        };
        // Where nobody did so before, and could tell what became of them: the log does.
        let reports = self.served.write_reports().await;
        // A client that asked for the end is told why it failed before this process goes.
        self.control.shut_down().await;
        let trace_failure = sealed?;
        let ended = ended.unwrap_or(Ended::Sealed);
        let mut report = self.served.unmounted(ended).await;
        report.reports = reports;
        report.trace = report.trace.filter(|_| trace_failure.is_none());
        report.trace_failure = trace_failure;
        if report.kept {
            return Ok(report);
        }
        let is_discarded = ended == Ended::Discarded;
        if !is_discarded {
            report.log = self.served.keep_log();
        }
        let OpenedSession { session, meta, .. } = &self.served.session;
        if !meta.read_only {
            // No commit needs the room any more, and on a full disk what comes next does.
            session.vfs().release_reserve();
            // What it published is known from here on without it.
            let commits = session.vfs().commits();
            if !is_discarded {
                remember(&self.places, meta, &commits)?;
            } else if let Err(error) = remember_discarded(&self.places, meta, &commits) {
                not_remembered(&error);
            }
        }
        session.discard()?;
        self.places.sessions().remove(&self.served.session.meta.id);
        Ok(report)
    }

    /// Says that nothing of the session is needed any more: [`finish`](Self::finish) deletes it.
    pub async fn mark_done(&self) {
        *self.served.end.lock().await = Some(Ended::Done.into());
    }
}

/// What a mount is made of, beside its session and tree.
struct Parts {
    owner: Owner,
    allow_other: bool,
    fast_path: FastPath,
    store: OpenStore,
    fetcher: Arc<Fetcher>,
    log: LogPlace,
    metrics: Option<MetricsListener>,
    places: Places,
    step_hook: Option<StepHook>,
    early_uploads: EarlyUploads,
    report_at_end: ReportAtEnd,
}

impl Parts {
    fn mount(
        self,
        session: Session,
        tree: Arc<BaseTree>,
        mount_point: PathBuf,
        traces: MountTraces,
        fresh: bool,
    ) -> Result<Mount, Error> {
        let Self {
            owner,
            allow_other,
            fast_path,
            store,
            fetcher,
            log,
            metrics,
            places,
            step_hook,
            early_uploads,
            report_at_end,
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
            case_insensitive: meta.case_insensitive,
        };
        if mount_point.starts_with(&dir) {
            attachfs_durable::create_private_dir(&mount_point)?;
        }
        let session = if fresh {
            OpenSession::create(session, tree, fetcher, settings)?
        } else {
            OpenSession::recover(session, tree, fetcher, settings)
                .map_err(|error| naming_fsck(error, &meta.id))?
        };
        let sources = Arc::new(Sources::new(session.share_session()));
        session.vfs().set_sources(sources.of_file_system());
        let runtime = Handle::current();
        let session_id = Some(meta.id.clone());
        let options = MountOptions {
            mount_point,
            allow_other,
            fast_path,
            runtime: runtime.clone(),
            session: session_id,
        };
        let protected = Protected::new(session.vfs().clone(), meta.protect_inputs);
        let counted = Arc::new(Counted::new(Arc::new(protected)));
        let operations = counted.operations();
        let mounted = attachfs_mount::mount(counted, &options)
            .map_err(|error| not_mounted(error, &places))?;
        let own_log = log == LogPlace::Session;
        let log = match log {
            LogPlace::Session => dir.join("log").display().to_string(),
            LogPlace::Elsewhere(place) => place,
        };
        let opened = OpenedSession {
            session,
            meta,
            store,
            log: Some(log),
        };
        let early = early_uploads.start(&opened, step_hook, &runtime);
        let metrics = metrics.map(|listener| {
            let session = opened.meta.id.to_string();
            // The metrics server does not keep the file system alive.
            let (vfs, operations) = (Arc::downgrade(opened.vfs()), Arc::clone(&operations));
            let sent = Arc::clone(opened.session.early());
            listener.serve(&runtime, move || {
                let vfs = vfs.upgrade()?;
                let counts = MountCounts::of(&vfs, &operations);
                let text = metrics::text(&session, counts, sent.counts());
                text.inspect_err(|error| tracing::error!(%error, "metrics cannot be written"))
                    .ok()
            })
        });
        let served = Arc::new(ServedMount {
            session: opened,
            mounted,
            operations,
            early,
            metrics,
            end: Mutex::new(None),
            at_end: watch::Sender::new(None),
            end_asked: EndAsked::default(),
            cut_off: watch::Sender::new(false),
            places: places.clone(),
            dir: dir.clone(),
            own_log,
            adding: Arc::default(),
            reporting: Arc::default(),
            sources,
            traces,
            report_at_end,
        });
        watch_doubts(&served);
        let service = Arc::new(Service::new(served.clone(), step_hook));
        let control = ControlServer::start(&dir, &runtime, service)
            .doing(|| format!("cannot listen in {}", dir.display()));
        let control = control.and_then(|control| {
            let id = &served.session.meta.id;
            places.sessions().add(id, &dir)?;
            Ok(control)
        });
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
        Ok(Mount {
            served,
            control,
            places,
            dir,
            had_died: false,
            fresh,
            without_store: None,
        })
    }
}

pub(crate) fn random() -> Result<[u8; 16], Error> {
    attachfs_durable::random_bytes()
        .doing(|| "cannot get random bytes from the operating system".to_owned())
}
