//! A session that this process has open, with the store behind it: what can be done with one whether it is mounted, or
//! was only opened for a commit.

use std::sync::Arc;
use std::time::Duration;

use attachfs_commit::{
    CommitError, CommitOptions, Observer, OpenSession, OpenSessionError, commit, commits, preview,
    rehearse, touched,
};
use attachfs_durable::HashBytes;
use attachfs_fetch::{DiskCache, Fetcher};
use attachfs_manifest::ContentHash;
use attachfs_session::{Failure, FailureClass, Session, SessionId, SessionMeta};
use attachfs_store::{ChunkStore, StoreAddress};
use attachfs_transfer::UploadOptions;
use attachfs_tree::{BaseTree, Ino, InodeKind, Namespace};
use attachfs_vfs::overlay::CommitRecord;
use attachfs_vfs::{Frozen, OpenWriters, Settings, Vfs};

use crate::arguments::{CommitArguments, DiffArguments, OutgoingLinks};
use crate::error::{Error, not_told, would_stop};
use crate::index::base_of;
use crate::logs;
use crate::places::Places;
use crate::reading::ReadOptions;
use crate::remote::{
    CommitReport, DiffReport, Fetched, LastError, PublishedManifest, RehearsalReport, StatusReport,
};
use crate::store::OpenStore;

/// An open session with its store.
#[derive(Debug)]
pub(crate) struct OpenedSession {
    pub(crate) session: OpenSession,
    pub(crate) meta: SessionMeta,
    pub(crate) store: OpenStore,
    /// Where the log is, for people.
    pub(crate) log: Option<String>,
}

/// Fails of a session to which nothing can be written: there is nothing to commit.
pub(crate) fn require_writable(meta: &SessionMeta) -> Result<(), Error> {
    match &meta.browses {
        Some(jobs) => {
            let sentence = format!("session {} only shows outputs of {jobs}", meta.id);
            Err(Error::usage(format!(
                "{sentence}: there is nothing to commit"
            )))
        }
        None if meta.read_only => Err(Error::usage(
            "the session is read-only: there is nothing to commit",
        )),
        None => Ok(()),
    }
}

/// The read side of a session. A directory store is read without the disk cache: its objects are local files already.
pub(crate) fn fetcher(
    store: &OpenStore,
    places: &Places,
    reading: ReadOptions,
) -> Result<Arc<Fetcher>, Error> {
    let cache = match store.store.address() {
        StoreAddress::Directory(_) => None,
        StoreAddress::S3 { .. } => Some(disk_cache(store, places)?),
    };
    let chunks: Arc<dyn ChunkStore> = store.store.clone();
    Ok(Arc::new(Fetcher::new(chunks, cache, reading.of(store))))
}

/// The disk cache of a store's objects. A disk that is full, read-only or failing is no reason not to mount.
pub(crate) fn disk_cache(store: &OpenStore, places: &Places) -> Result<DiskCache, Error> {
    let (objects, not_yet) = places.cache.objects_or_later(partition(store))?;
    if let Some(error) = not_yet {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "going on without the disk cache; it is tried again later"
        );
    }
    Ok(DiskCache::start(objects)?)
}

/// The partition of the disk cache for a store: what tells stores apart that may hold different bytes under one
/// hash is the server (from the command line or a configuration file) and the exact address.
pub(crate) fn partition(store: &OpenStore) -> HashBytes {
    let name = format!(
        "{}|{}",
        store.bucket_url.as_deref().unwrap_or_default(),
        store.store.address()
    );
    *ContentHash::of(name.as_bytes()).as_bytes()
}

/// An error of opening a session, which says who can tell more if the session is damaged.
pub(crate) fn naming_fsck(error: OpenSessionError, id: &SessionId) -> Error {
    let error = Error::from(error);
    if error.class() != FailureClass::Integrity || error.advice().is_some() {
        return error;
    }
    error.advise(format!(
        "`attachfs fsck {id}` says what is damaged, and what can be saved"
    ))
}

/// As [`naming_fsck`], of what could not be read for a commit, or for who looks at what changed.
fn naming_lost(
    error: CommitError,
    id: &SessionId,
    tell: impl FnOnce(CommitError) -> Error,
) -> Error {
    let is_lost = matches!(error, CommitError::Written { .. });
    let error = tell(error);
    if !is_lost {
        return error;
    }
    error.advise(format!(
        "once it is not mounted, `attachfs fsck {id}` names every file whose bytes are damaged or missing; with --repair those that lost \
         theirs are empty, and a commit asks about them"
    ))
}

impl OpenedSession {
    /// An error of a look at what changed.
    fn not_told(&self, error: CommitError) -> Error {
        naming_lost(error, &self.meta.id, not_told)
    }

    /// Takes over a session that no process has, to commit it.
    pub(crate) fn take_over(
        session: Session,
        store: OpenStore,
        places: &Places,
        settings: Settings,
    ) -> Result<Self, Error> {
        Self::open(session, store, places, settings, OpenSession::recover)
    }

    /// Looks at a session that no process has. Nothing of it changes.
    pub(crate) fn look(
        session: Session,
        store: OpenStore,
        places: &Places,
        settings: Settings,
    ) -> Result<Self, Error> {
        Self::open(session, store, places, settings, OpenSession::look)
    }

    fn open(
        session: Session,
        store: OpenStore,
        places: &Places,
        settings: Settings,
        open: impl FnOnce(
            Session,
            Arc<BaseTree>,
            Arc<Fetcher>,
            Settings,
        ) -> Result<OpenSession, OpenSessionError>,
    ) -> Result<Self, Error> {
        let meta = session.meta().clone();
        require_writable(&meta)?;
        let log = logs::of_session(session.dir()).map(|log| log.display().to_string());
        let tree = base_of(&session, places)?.tree;
        let session = open(
            session,
            tree,
            fetcher(&store, places, ReadOptions::default())?,
            settings,
        )
        .map_err(|error| naming_fsck(error, &meta.id))?;
        Ok(Self {
            session,
            meta,
            store,
            log,
        })
    }

    /// The file system.
    pub(crate) fn vfs(&self) -> &Arc<Vfs> {
        self.session.vfs()
    }

    pub(crate) async fn commit(
        &self,
        arguments: &CommitArguments,
        observer: &dyn Observer,
    ) -> Result<CommitReport, Error> {
        require_writable(&self.meta)?;
        let options = arguments.options(&self.meta)?;
        let store = &self.store.store;
        let upload = UploadOptions::default();
        // Not in the futures of all that wait for it: it is large.
        let committing = Box::pin(commit(&self.session, store, &options, upload, observer));
        let outcome = committing
            .await
            .map_err(|error| naming_lost(error, &self.meta.id, Error::from))?;
        let publish = arguments.publish.as_ref();
        let (session, address) = (self.session.session(), store.address());
        Ok(CommitReport {
            nothing_to_resume: arguments.only_resume && outcome.published.is_none(),
            ..CommitReport::new(session, &outcome, publish, &address)
        })
    }

    /// The session's commits so far.
    fn committed(&self) -> Result<Vec<PublishedManifest>, Error> {
        let session = self.session.session();
        let store = self.store.store.address();
        let commits = commits(self.vfs())?;
        let shown = commits
            .iter()
            .map(|one| PublishedManifest::new(one, session, &store));
        Ok(shown.collect())
    }

    pub(crate) async fn diff(
        &self,
        how: DiffArguments,
        observer: &dyn Observer,
    ) -> Result<DiffReport, Error> {
        require_writable(&self.meta)?;
        let arguments = CommitArguments {
            skip_open: true,
            links: OutgoingLinks::Skip,
            chosen: how.chosen.clone(),
            ..CommitArguments::default()
        };
        let options = CommitOptions {
            wait: Duration::ZERO,
            skip_long: true,
            ..arguments.options(&self.meta)?
        };
        let is_hashed = how.hash;
        let preview = if is_hashed {
            Box::pin(preview(&self.session, &options, observer)).await
        } else {
            Box::pin(touched(&self.session, &options)).await
        };
        let preview = preview.map_err(|error| self.not_told(error))?;
        Ok(DiffReport::new(&self.meta, &preview, is_hashed))
    }

    /// What a commit would do.
    pub(crate) async fn rehearse(
        &self,
        arguments: &CommitArguments,
        observer: &dyn Observer,
    ) -> Result<RehearsalReport, Error> {
        require_writable(&self.meta)?;
        let options = arguments.options(&self.meta)?;
        let rehearsed = Box::pin(rehearse(&self.session, &options, observer)).await;
        let rehearsed = rehearsed.map_err(|error| self.not_told(error))?;
        let stop = rehearsed.stop;
        let stop = stop.map(|error| naming_lost(error, &self.meta.id, would_stop));
        Ok(RehearsalReport {
            diff: DiffReport::new(&self.meta, &rehearsed.preview, true),
            would_stop: stop.as_ref().map(Failure::from),
            would_resume: rehearsed.resumes,
        })
    }

    /// The requests to the store since the mount.
    pub(crate) fn fetched(&self) -> Fetched {
        Fetched::from(&self.vfs().fetcher().counters())
    }

    /// The last read that failed since the mount.
    pub(crate) fn last_error(&self) -> Option<LastError> {
        self.vfs().last_failed_read().as_ref().map(LastError::from)
    }

    /// Whether a commit was interrupted: its manifest may be in the store, and only this session knows.
    pub(crate) fn has_unfinished_commit(&self) -> bool {
        matches!(
            self.vfs().commits().last(),
            Some(CommitRecord::Intent { .. })
        )
    }

    pub(crate) async fn status(&self, mounted: bool) -> Result<StatusReport, Error> {
        Ok(self.status_and_place(mounted).await?.0)
    }

    /// How it is, and whether there is something that is not committed and all of it lies outside of the output directories, so that a commit
    /// leaves it again.
    pub(crate) async fn status_and_place(
        &self,
        mounted: bool,
    ) -> Result<(StatusReport, bool), Error> {
        let (uncommitted, all_outside) = if self.meta.read_only {
            (0, false)
        } else {
            let dirs = CommitArguments::default().options(&self.meta)?.output_dirs;
            let found = attachfs_commit::uncommitted(&self.session, &dirs).await;
            let found = found.map_err(|error| self.not_told(error))?;
            (found.paths, found.all_outside)
        };
        let frozen = self.vfs().freeze();
        let namespace = frozen.as_ref().map(Frozen::namespace);
        let name = |&ino: &Ino| {
            let path = namespace.and_then(|namespace| namespace.path(ino));
            path.map_or_else(
                || format!("a deleted file ({ino})"),
                |path| path.to_string(),
            )
        };
        let named = |inos: fn(&Frozen) -> &OpenWriters| {
            let mut names: Vec<String> = frozen.iter().flat_map(inos).map(name).collect();
            names.sort();
            names
        };
        let (set_aside, aside, unknown, unknown_in) = if self.meta.read_only {
            (0, None, 0, None)
        } else {
            let shown = |count, dir: std::path::PathBuf| {
                (count, (count > 0).then(|| dir.display().to_string()))
            };
            let (count, dir) = self.vfs().set_aside()?;
            let (set_aside, aside) = shown(count, dir);
            let (count, dir) = self.vfs().unknown()?;
            let (unknown, unknown_in) = shown(count, dir);
            (set_aside, aside, unknown, unknown_in)
        };
        let unfinished = self.has_unfinished_commit();
        let committed = self.committed()?;
        let status = StatusReport {
            mounted,
            pid: mounted.then(std::process::id),
            manifests: self
                .stack()?
                .manifests
                .into_iter()
                .map(|stacked| stacked.manifest.source)
                .collect(),
            uncommitted,
            open: named(Frozen::writers),
            left_open: named(Frozen::left_open),
            special: namespace.map(special).unwrap_or_default(),
            tainted: attachfs_commit::taints(&self.session)?,
            cut_off: !self.meta.read_only && self.session.session().is_cut()?,
            set_aside,
            set_aside_in: aside,
            unknown,
            unknown_in,
            commits: committed.len() as u64,
            committed,
            commit_unfinished: unfinished,
            counters: Some(self.vfs().counters()),
            fetched: Some(self.fetched()),
            last_error: self.last_error(),
            log: self.log.clone(),
            ..StatusReport::of(&self.meta)
        };
        Ok((status, all_outside))
    }
}

/// The names of FIFOs and sockets, in order.
fn special(namespace: &Namespace) -> Vec<String> {
    let touched = namespace.touched();
    let special = touched.filter(|(_, inode)| matches!(inode.kind, InodeKind::Special(_)));
    let paths = special.flat_map(|(ino, _)| namespace.paths(ino));
    let mut names: Vec<String> = paths.map(|path| path.to_string()).collect();
    names.sort();
    names
}
