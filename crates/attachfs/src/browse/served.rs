//! A browse that this process serves: how it is, and how it ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use attachfs_browse::Browse;
use attachfs_fetch::{Doubt, Fetcher};
use attachfs_mount::{Holder, Mounted, UnmountError};
use attachfs_session::{Session, SessionMeta, Taint};
use tokio::sync::{Mutex, watch};

use crate::doubts::Doubted;
use crate::error::Error;
use crate::joining::EndAsked;
use crate::letting_go::{self, Held, let_go};
use crate::logs;
use crate::places::Places;
use crate::remote::{Ending, Fetched, LastError, StatusReport, UnmountReport};
use crate::store::OpenStore;

/// What the control socket and the process's own end share.
#[derive(Debug)]
pub(super) struct ServedBrowse {
    pub(super) session: Session,
    pub(super) store: OpenStore,
    pub(super) mounted: Mounted,
    fetcher: Arc<Fetcher>,
    browse: Arc<Browse>,
    own_log: bool,
    /// Where the log is, for people.
    log: String,
    /// Held while the mount is being ended.
    ending: Mutex<()>,
    /// Set once somebody has taken the mount's name away.
    detached: watch::Sender<bool>,
    /// Who asked for the end that is under way.
    pub(super) end_asked: EndAsked,
    /// Set when the process is to end although someone still uses the mount.
    pub(super) cut_off: watch::Sender<bool>,
}

/// How a mount is to be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Only if nobody uses it.
    IfUnused,
    /// Cut off who uses it.
    CutOff,
    /// Take its name away now; it ends when the last who uses it is done.
    Detach,
}

impl ServedBrowse {
    pub(super) fn new(
        session: Session,
        store: OpenStore,
        fetcher: Arc<Fetcher>,
        browse: Arc<Browse>,
        mounted: Mounted,
        own_log: bool,
        log: String,
    ) -> Self {
        Self {
            session,
            store,
            mounted,
            fetcher,
            browse,
            own_log,
            log,
            ending: Mutex::new(()),
            detached: watch::Sender::new(false),
            end_asked: EndAsked::default(),
            cut_off: watch::Sender::new(false),
        }
    }

    pub(super) fn meta(&self) -> &SessionMeta {
        self.session.meta()
    }

    pub(super) fn dir(&self) -> &Path {
        self.session.dir()
    }

    /// How it is. Asks nothing of the store.
    pub(super) fn status(&self) -> Result<StatusReport, Error> {
        let ending = if self.mounted.end().is_some() {
            Some(Ending::Unmounting)
        } else {
            // Somebody else may have detached it, with umount(8).
            let is_detached = *self.detached.borrow() || !self.mounted.has_name()?;
            is_detached.then_some(Ending::Detached)
        };
        Ok(StatusReport {
            mount_point: self.mounted.mount_point(),
            mounted: true,
            pid: Some(std::process::id()),
            ending,
            fetched: Some(Fetched::from(&self.fetcher.counters())),
            last_error: self.last_error(),
            log: Some(self.log.clone()),
            ..StatusReport::of(self.meta())
        })
    }

    fn last_error(&self) -> Option<LastError> {
        self.browse.last_failure().as_ref().map(LastError::from)
    }

    /// The report of its end, as far as that is known.
    pub(super) fn report(&self) -> UnmountReport {
        let last_error = self.last_error();
        UnmountReport {
            kept: false,
            reads_failed: self.browse.failures(),
            last_error,
            not_cached: self.fetcher.counters().disk_dropped_bytes,
            ..UnmountReport::of(&self.meta().id, self.mounted.mount_point())
        }
    }

    /// Unmounts. One that has ended already is reported as what it is.
    pub(super) async fn end(self: &Arc<Self>, how: End) -> Result<UnmountReport, Error> {
        let _ending = self.ending.lock().await;
        let mount_point = self.mounted.mount_point();
        let mut report = UnmountReport {
            mount_point,
            ..self.report()
        };
        if self.mounted.end().is_some() {
            return Ok(report);
        }
        match how {
            End::IfUnused | End::CutOff => {
                report.held = let_go(self, how == End::CutOff).await?;
            }
            End::Detach => {
                let before = self.detached.send_replace(true);
                match letting_go::detach(self).await {
                    Ok(None) => {}
                    Ok(Some(users)) => {
                        report.detached = true;
                        report.users = users.iter().map(ToString::to_string).collect();
                    }
                    Err(error) => {
                        self.detached.send_replace(before);
                        return Err(error.into());
                    }
                }
            }
        }
        Ok(report)
    }

    /// Keeps the log of a session that is about to be deleted, if something could not be shown or read, and says where.
    pub(super) fn keep_log(&self, places: &Places) -> Option<PathBuf> {
        if !self.own_log || self.browse.failures() == 0 {
            return None;
        }
        logs::keep_if_possible(places, self.dir(), &self.meta().id)
    }
}

impl Held for ServedBrowse {
    fn mounted(&self) -> &Mounted {
        &self.mounted
    }

    fn cut_off(&self) -> &watch::Sender<bool> {
        &self.cut_off
    }

    fn is_open(&self) -> bool {
        self.browse.is_open()
    }

    fn end_writing(&self) {
        // Nobody can write.
    }

    fn detached_before(&self, mount_point: PathBuf, holders: Vec<Holder>) -> Error {
        let id = self.meta().id.as_str();
        let id = id.get(..8).unwrap_or(id);
        let detached = UnmountError::Detached {
            mount_point,
            holders,
        };
        Error::from(detached).advise(letting_go::ends_unused(id))
    }
}

impl Doubted for ServedBrowse {
    fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    fn drop_cached(&self, doubt: &Doubt) {
        self.browse.drop_cached(doubt);
    }

    fn files_of(&self, doubt: &Doubt) -> Vec<String> {
        self.browse.files_of(doubt.hash, doubt.len)
    }

    fn taint(&self, _: Taint) {
        // Nothing is ever committed.
    }
}
