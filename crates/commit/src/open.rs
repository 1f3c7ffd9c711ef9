//! A session together with its open file system.

use std::sync::Arc;

use attachfs_durable::boot_id;
use attachfs_fetch::Fetcher;
use attachfs_session::{Session, SessionError};
use attachfs_tree::BaseTree;
use attachfs_vfs::overlay::{OverlayFiles, ScratchDir};
use attachfs_vfs::{OpenError, Settings, Vfs};

/// A session whose file system is open, to be mounted or committed.
#[derive(Debug, Clone)]
pub struct OpenSession {
    session: Arc<Session>,
    vfs: Arc<Vfs>,
}

/// Why a session's file system cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenSessionError {
    /// The session's directory.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The files in it.
    #[error(transparent)]
    Overlay(#[from] OpenError),
}

/// How a file system is opened from the files of an overlay.
type Open = fn(OverlayFiles, Arc<BaseTree>, Arc<Fetcher>, Settings) -> Result<Vfs, OpenError>;

impl OpenSession {
    /// Opens a new session, with nothing written yet. The file system of a read-only session is read-only.
    pub fn create(
        session: Session,
        base: Arc<BaseTree>,
        fetcher: Arc<Fetcher>,
        settings: Settings,
    ) -> Result<Self, OpenSessionError> {
        Self::open(session, base, fetcher, settings, Vfs::create)
    }

    /// Takes over the session of a process that has ended, with the result of all operations that
    /// had returned success. What that process left half done is removed.
    pub fn recover(
        session: Session,
        base: Arc<BaseTree>,
        fetcher: Arc<Fetcher>,
        settings: Settings,
    ) -> Result<Self, OpenSessionError> {
        let open = Self::open(session, base, fetcher, settings, Vfs::recover)?;
        // A read-only file system has no layers any more: they went with its process.
        if let Err(error) = open.session.sweep(open.vfs.layer_count()) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "what an earlier process left half done stays");
        }
        Ok(open)
    }

    /// Opens the session of a process that has ended, to look at it: nothing of the session changes, in memory or on
    /// disk.
    pub fn look(
        session: Session,
        base: Arc<BaseTree>,
        fetcher: Arc<Fetcher>,
        settings: Settings,
    ) -> Result<Self, OpenSessionError> {
        Self::open(session, base, fetcher, settings, Vfs::look)
    }

    fn open(
        session: Session,
        base: Arc<BaseTree>,
        fetcher: Arc<Fetcher>,
        settings: Settings,
        open: Open,
    ) -> Result<Self, OpenSessionError> {
        let vfs = if session.meta().read_only {
            Vfs::read_only(base, fetcher, settings)
        } else {
            open(overlay_files(&session)?, base, fetcher, settings)?
        };
        Ok(Self {
            session: Arc::new(session),
            vfs: Arc::new(vfs),
        })
    }

    /// The session, shared: for a caller that needs it for longer than this borrow.
    pub fn share_session(&self) -> Arc<Session> {
        Arc::clone(&self.session)
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The file system.
    pub fn vfs(&self) -> &Arc<Vfs> {
        &self.vfs
    }

    /// Deletes the session and everything in it that was not committed. Later operations on the file
    /// system fail.
    pub fn discard(&self) -> Result<(), SessionError> {
        self.vfs.abandon();
        self.session.discard()
    }
}

/// The files of a session's overlay.
pub fn overlay_files(session: &Session) -> Result<OverlayFiles, SessionError> {
    Ok(OverlayFiles {
        journal: session.journal_path(),
        scratch: match session.scratch_dir()? {
            Some(dir) => ScratchDir::Held(dir),
            None => ScratchDir::Missing(session.scratch_path()),
        },
        boot: boot_id(),
        max_scratch: session.meta().max_scratch,
        layers: session.layers_path(),
        reserve: session.reserve_path(),
        lock: session.lock(),
    })
}
