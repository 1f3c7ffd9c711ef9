//! A session that this process has: mounted, or opened for a commit.

use std::sync::Arc;
use std::time::Duration;

use attachfs_commit::{CommitOptions, Observer, commit, commits, preview, touched};
use attachfs_fetch::{DiskCache, FetchOptions, Fetcher};
use attachfs_store::{ChunkStore, StoreAddress};
use attachfs_transfer::UploadOptions;
use attachfs_vfs::{Frozen, Session, SessionMeta, Settings, StoreSettings, Vfs};

use crate::index::ground_of;
use crate::remote::{
    CommitArguments, CommitReport, DiffArguments, DiffReport, Fetched, PublishedManifest,
    StatusReport,
};
use crate::store::OpenStore;
use crate::{Error, Places};

/// A file system and the store behind it.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) vfs: Arc<Vfs>,
    pub(crate) meta: SessionMeta,
    pub(crate) store: OpenStore,
}

/// The read side. What is in a directory on this machine needs no cache on this machine.
pub(crate) fn fetcher(store: &OpenStore, places: &Places) -> Result<Arc<Fetcher>, Error> {
    let cache = match store.store.address() {
        StoreAddress::Directory(_) => None,
        StoreAddress::S3 { .. } => {
            Some(DiskCache::open(&places.cache, &partition(&store.settings))?)
        }
    };
    let chunks: Arc<dyn ChunkStore> = store.store.clone();
    Ok(Arc::new(Fetcher::new(
        chunks,
        cache,
        FetchOptions::default(),
    )))
}

/// What tells stores apart that may hold different bytes under one hash.
pub(crate) fn partition(settings: &StoreSettings) -> String {
    format!(
        "{}|{}",
        settings.s3.endpoint_url.as_deref().unwrap_or_default(),
        settings.address
    )
}

impl Live {
    /// Takes over a session that no process has, to commit it.
    pub(crate) fn take_over(
        session: Session,
        store: OpenStore,
        places: &Places,
        settings: Settings,
    ) -> Result<Self, Error> {
        let meta = session.meta().clone();
        if meta.read_only {
            return Err(Error::ReadOnly);
        }
        let tree = ground_of(&session, places)?.tree;
        let vfs = Vfs::recover(session, tree, fetcher(&store, places)?, settings)?;
        Ok(Self {
            vfs: Arc::new(vfs),
            meta,
            store,
        })
    }

    pub(crate) async fn commit(
        &self,
        arguments: &CommitArguments,
        observer: &dyn Observer,
    ) -> Result<CommitReport, Error> {
        if self.meta.read_only {
            return Err(Error::ReadOnly);
        }
        let options = arguments.options(&self.meta)?;
        let store = &self.store.store;
        let upload = UploadOptions::default();
        let outcome = commit(&self.vfs, store, &options, upload, observer).await?;
        let publish = arguments.publish.as_ref();
        let session = self.vfs.session().ok_or(Error::ReadOnly)?;
        Ok(CommitReport::new(
            session,
            &outcome,
            publish,
            &store.address(),
        ))
    }

    /// What was committed so far.
    fn committed(&self) -> Result<Vec<PublishedManifest>, Error> {
        let Some(session) = self.vfs.session() else {
            return Ok(Vec::new());
        };
        let store = self.store.store.address();
        let commits = commits(&self.vfs)?;
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
        if self.meta.read_only {
            return Err(Error::ReadOnly);
        }
        let arguments = CommitArguments {
            skip_open: true,
            skip_links: true,
            ..CommitArguments::default()
        };
        let options = CommitOptions {
            wait: Duration::ZERO,
            ..arguments.options(&self.meta)?
        };
        let preview = if how.hash {
            preview(&self.vfs, &options, observer).await?
        } else {
            touched(&self.vfs, &options).await?
        };
        Ok(DiffReport::new(&self.meta, &preview, how.hash))
    }

    /// What was asked of the store since the mount.
    pub(crate) fn fetched(&self) -> Fetched {
        let counters = self.vfs.fetcher().counters();
        Fetched {
            requests: counters.objects_from_store + counters.blocks_from_store,
            bytes: counters.bytes_from_store,
            disk_hits: counters.disk_hits,
            damaged: counters.damaged + counters.wrong_length,
            missing: counters.missing,
        }
    }

    pub(crate) async fn status(&self, mounted: bool) -> Result<StatusReport, Error> {
        use attachfs_vfs::overlay::CommitRecord;
        let uncommitted = if self.meta.read_only {
            0
        } else {
            attachfs_commit::uncommitted(&self.vfs).await?
        };
        let frozen = self.vfs.freeze();
        let namespace = frozen.as_ref().map(Frozen::namespace);
        let open = frozen.iter().flat_map(Frozen::writers).map(|&ino| {
            let path = namespace.and_then(|namespace| namespace.path(ino));
            path.map_or_else(
                || format!("a deleted file ({ino})"),
                |path| path.to_string(),
            )
        });
        let unfinished = matches!(self.vfs.commits().last(), Some(CommitRecord::Intent { .. }));
        let committed = self.committed()?;
        Ok(StatusReport {
            session: self.meta.id.to_string(),
            mount_point: self.meta.mount_point.display().to_string(),
            mounted,
            pid: mounted.then(std::process::id),
            read_only: self.meta.read_only,
            store: self.meta.store.address.clone(),
            manifests: self
                .meta
                .manifests
                .iter()
                .map(|manifest| manifest.source.clone())
                .collect(),
            uncommitted,
            open: open.collect(),
            commits: committed.len() as u64,
            committed,
            commit_unfinished: unfinished,
            counters: Some(self.vfs.counters()),
            fetched: Some(self.fetched()),
        })
    }
}
