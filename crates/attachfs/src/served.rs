//! A mount that this process serves: the session, what the kernel has of it, and how both end.
//!
//! The public [`Mount`](crate::Mount) and the control socket share it, since either may end it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use attachfs_commit::{EarlyUpload, Observer};
use attachfs_mount::{Holder, Mounted, UnmountError};
use attachfs_session::Failure;
use attachfs_transfer::{Silent, error_chain};
use attachfs_vfs::Operations;
use tokio::sync::{Mutex, watch};

use crate::arguments::{CommitArguments, UnmountArguments};
use crate::counts::MountCounts;
use crate::error::Error;
use crate::joining::EndAsked;
use crate::letting_go::{self, Held, let_go};
use crate::logs;
use crate::metrics::MetricsServer;
use crate::opened::OpenedSession;
use crate::places::Places;
use crate::prefetching::PrefetchStats;
use crate::remote::{Ending, StatusReport, UnmountReport};
use crate::report::ReportAtEnd;
use crate::sources::Sources;
use crate::stats::{CountedMount, MOST_OPEN_FILES, StatsReport};
use crate::traces::MountTraces;

/// What the control socket and the process's own end share.
#[derive(Debug)]
pub(crate) struct ServedMount {
    pub(crate) session: OpenedSession,
    pub(crate) mounted: Mounted,
    /// What is counted where the adapter passes.
    pub(crate) operations: Arc<Operations>,
    /// Who sends outputs before the commit, if anybody does.
    pub(crate) early: Option<EarlyUpload>,
    /// Who gives metrics, if that was asked for.
    pub(crate) metrics: Option<MetricsServer>,
    /// Held while the mount is being ended; says what became of the session.
    pub(crate) end: Mutex<Option<End>>,
    /// What is to be done when the last who uses a mount is done that was detached.
    pub(crate) at_end: watch::Sender<Option<UnmountArguments>>,
    /// Who asked for the end that is under way.
    pub(crate) end_asked: EndAsked,
    /// Set when the process is to end although someone still uses the mount.
    pub(crate) cut_off: watch::Sender<bool>,
    pub(crate) places: Places,
    pub(crate) dir: PathBuf,
    pub(crate) own_log: bool,
    /// Held while manifests are added: one addition at a time.
    pub(crate) adding: Arc<Mutex<()>>,
    /// Held while a report is made for a client: one at a time, because it takes memory for each object of the mount.
    pub(crate) reporting: Arc<Mutex<()>>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) traces: MountTraces,
    pub(crate) report_at_end: ReportAtEnd,
}

/// How a mount's session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was unmounted and sealed. What becomes of the session is still to be decided.
    Sealed,
    /// It is kept.
    Kept,
    /// Nothing of it is needed any more.
    Done,
    /// Its user wants nothing of it to be kept.
    Discarded,
}

/// How a mount's session ended, and what was told of that.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) ended: Ended,
    /// What was asked for, and what came of it: for who asks for the same while it is being done.
    told: Option<(UnmountArguments, UnmountReport)>,
}

impl From<Ended> for End {
    fn from(ended: Ended) -> Self {
        Self { ended, told: None }
    }
}

impl End {
    /// The report of an end that has come to what these arguments ask for.
    fn report_for(&self, arguments: &UnmountArguments) -> Option<UnmountReport> {
        let (asked, report) = self.told.as_ref()?;
        let is_same = arguments.commit.is_none() || arguments.commit == asked.commit;
        (is_same && report.commit_failure.is_none()).then(|| report.clone())
    }
}

/// How long the end of a mount waits until what stays in the session is durable.
const SAVED_WITHIN: Duration = Duration::from_secs(30);

impl ServedMount {
    /// How it is.
    pub(crate) async fn status(&self) -> Result<StatusReport, Error> {
        let mut status = self.session.status(true).await?;
        status.mount_point = self.mounted.mount_point();
        status.metrics = self.metrics_url();
        let early = self.early.as_ref();
        status.early_upload = early.map(|_| self.session.session.early().counts());
        status.ending = if self.mounted.end().is_some() {
            Some(Ending::Unmounting)
        } else {
            // Somebody else may have detached it, with umount(8).
            let is_detached = self.at_end.borrow().is_some() || !self.mounted.has_name()?;
            is_detached.then_some(Ending::Detached)
        };
        Ok(status)
    }

    /// What is counted of it.
    pub(crate) fn stats(&self) -> StatsReport {
        let of = CountedMount {
            session: self.session.meta.id.to_string(),
            mount_point: self.mounted.mount_point(),
            metrics: self.metrics_url(),
            trace_dropped: self.traces.dropped(),
        };
        let vfs = self.session.vfs();
        let counts = MountCounts::of(vfs, &self.operations);
        StatsReport::new(of, &counts, vfs.open_files(MOST_OPEN_FILES))
    }

    pub(crate) fn metrics_url(&self) -> Option<String> {
        self.metrics.as_ref().map(MetricsServer::url)
    }

    /// Unmounts in order: the kernel lets go, then the journal says so, durably. Nothing is written
    /// after that, even by processes that still use the detached mount.
    pub(crate) async fn unmount(self: &Arc<Self>, detach: bool) -> Result<Vec<String>, Error> {
        let mut end = self.end.lock().await;
        let held = let_go(self, detach).await?;
        self.seal().await?;
        end.get_or_insert(Ended::Sealed.into());
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
        let mut end = self.end.lock().await;
        if let Some(end) = &*end {
            if end.ended == Ended::Discarded {
                let id = &self.session.meta.id;
                return Err(Error::usage(format!("session {id} is being discarded")));
            }
            if let Some(report) = end.report_for(&arguments) {
                return Ok(report);
            }
        }
        let mount_point = self.mounted.mount_point();
        let (held, trace_failure) = if end.is_some() {
            (Vec::new(), None)
        } else {
            (let_go(self, detach).await?, self.seal().await?)
        };
        let end = end.get_or_insert(Ended::Kept.into());
        // Before the commit, which reads too.
        let reports = self.write_reports().await;
        // Nothing changes any more.
        let (status, all_outside) = match self.session.status_and_place(false).await {
            Ok(found) => found,
            // It is unmounted all the same, and the client should hear of both.
            Err(error) => {
                let report = UnmountReport {
                    kept: true,
                    commit_failure: Some(Failure::from(&error)),
                    held,
                    reports,
                    trace_failure,
                    log: logs::of_session(&self.dir).filter(|_| self.own_log),
                    ..UnmountReport::of(&self.session.meta.id, mount_point)
                };
                self.save().await;
                end.ended = Ended::Kept;
                end.told = Some((arguments, report.clone()));
                return Ok(report);
            }
        };
        let mut report = UnmountReport {
            uncommitted: status.uncommitted,
            all_outside,
            set_aside: status.set_aside,
            set_aside_in: status.set_aside_in,
            held,
            reports,
            reads_failed: self.session.vfs().counters().reads_failed,
            last_error: status.last_error,
            not_cached: self.session.fetched().not_cached,
            prefetch: PrefetchStats::of(&self.session.vfs().fetcher().counters()),
            trace: self.traces.file().filter(|_| trace_failure.is_none()),
            trace_failure,
            ..UnmountReport::of(&self.session.meta.id, mount_point)
        };
        let is_default = self.session.meta.commit_on_unmount;
        let asked = arguments.clone();
        // Who detached it may have asked for a commit, too.
        let asked_before = self.at_end.borrow().clone();
        let asked_before = asked_before.and_then(|arguments| arguments.commit);
        let commit = arguments
            .commit
            .or(asked_before)
            .or_else(|| is_default.then(CommitArguments::default));
        if let Some(arguments) = commit {
            match self.session.commit(&arguments, observer).await {
                Ok(commit) => {
                    report.uncommitted = if arguments.may_leave_more() {
                        self.session.status(false).await?.uncommitted
                    } else {
                        commit.account.left() as u64
                    };
                    report.commit = Some(commit);
                }
                // It is unmounted all the same, and the client should hear of both.
                Err(error) => {
                    report.commit_failure = Some(Failure::from(&error));
                }
            }
        }
        // A session to which nothing was written, or whose outputs are all in the store, is not needed any more. Of files that were set aside
        // only a person can tell whether they are needed.
        let is_done = !arguments.keep
            && report.uncommitted == 0
            && report.set_aside == 0
            && report.commit_failure.is_none()
            && !self.session.has_unfinished_commit();
        report.kept = !is_done;
        if report.kept {
            self.save().await;
        }
        end.ended = if is_done { Ended::Done } else { Ended::Kept };
        if report.reads_failed > 0 && self.own_log {
            report.log = if is_done {
                self.keep_log()
            } else {
                logs::of_session(&self.dir)
            };
        }
        end.told = Some((asked, report.clone()));
        Ok(report)
    }

    /// The report of a mount that a signal ended, or the kernel, and no client. Its session is kept if it holds a change, a commit or a
    /// file that was set aside.
    pub(crate) async fn unmounted(&self, ended: Ended) -> UnmountReport {
        let vfs = self.session.vfs();
        let id = &self.session.meta.id;
        let mut report = UnmountReport {
            kept: ended == Ended::Kept,
            reads_failed: vfs.counters().reads_failed,
            last_error: self.session.last_error(),
            not_cached: self.session.fetched().not_cached,
            prefetch: PrefetchStats::of(&vfs.fetcher().counters()),
            trace: self.traces.file(),
            ..UnmountReport::of(id, self.mounted.mount_point())
        };
        if self.session.meta.read_only || matches!(ended, Ended::Done | Ended::Discarded) {
            report.kept = false;
            return report;
        }
        let (status, all_outside) = match self.session.status_and_place(false).await {
            Ok(status) => status,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "what is in the session cannot be told: it is kept");
                report.kept = true;
                return report;
            }
        };
        report.uncommitted = status.uncommitted;
        report.set_aside = status.set_aside;
        report.set_aside_in = status.set_aside_in;
        report.all_outside = all_outside;
        let has_nothing = status.uncommitted == 0
            && status.set_aside == 0
            && status.commits == 0
            && !status.commit_unfinished
            && status.left_open.is_empty()
            && status.open.is_empty();
        report.kept = ended == Ended::Kept || !has_nothing;
        if report.kept {
            self.save().await;
        }
        report.commit_left_undone =
            ended == Ended::Sealed && !has_nothing && self.session.meta.commit_on_unmount;
        report
    }

    /// Takes the mount's name away although somebody uses it. If nobody does, it is unmounted in order at once; otherwise the report
    /// says who does, and [`end_detached`](Self::end_detached) does the rest.
    pub(crate) async fn detach(
        self: &Arc<Self>,
        mut arguments: UnmountArguments,
        observer: &dyn Observer,
    ) -> Result<UnmountReport, Error> {
        {
            let end = self.end.lock().await;
            if end.is_none() {
                let mount_point = self.mounted.mount_point();
                // What was asked for before is still wanted.
                let asked_before = self.at_end.borrow().clone();
                let asked_before = asked_before.and_then(|before| before.commit);
                arguments.commit = arguments.commit.or(asked_before);
                // Before the kernel lets go: from then on this process ends.
                let before = self.at_end.send_replace(Some(arguments.clone()));
                match letting_go::detach(self).await {
                    Ok(None) => {}
                    Ok(Some(users)) => {
                        let by_default = self.session.meta.commit_on_unmount;
                        return Ok(UnmountReport {
                            detached: true,
                            commit_to_come: by_default || arguments.commit.is_some(),
                            users: users.iter().map(ToString::to_string).collect(),
                            ..UnmountReport::of(&self.session.meta.id, mount_point)
                        });
                    }
                    Err(error) => {
                        self.at_end.send_replace(before);
                        return Err(error.into());
                    }
                }
            }
        }
        self.unmount_and_commit(false, arguments, observer).await
    }

    /// Does what was asked for when a mount was detached that has ended now.
    pub(crate) async fn end_detached(self: &Arc<Self>) {
        let arguments = self.at_end.borrow().clone();
        let Some(arguments) = arguments.filter(|_| self.mounted.end().is_some()) else {
            return;
        };
        if self.end.lock().await.is_some() {
            return;
        }
        let report = self.unmount_and_commit(false, arguments, &Silent).await;
        let failure = match &report {
            Ok(report) => report.commit_failure.as_ref().map(ToString::to_string),
            Err(error) => Some(error_chain(error)),
        };
        if let Some(failure) = failure {
            tracing::error!(
                failure,
                "the detached mount has ended, and is not committed"
            );
        }
    }

    /// Keeps the log of a session that is about to be deleted, if reads failed in it or its report, and says where.
    pub(crate) fn keep_log(&self) -> Option<PathBuf> {
        let has_failed =
            self.session.vfs().counters().reads_failed > 0 || self.report_at_end.has_failed();
        if !self.own_log || !has_failed {
            return None;
        }
        logs::keep_if_possible(&self.places, &self.dir, &self.session.meta.id)
    }

    /// Unmounts, and gives up the uncommitted changes: the process deletes them when it ends.
    pub(crate) async fn unmount_and_discard(self: &Arc<Self>) -> Result<(), Error> {
        let mut end = self.end.lock().await;
        let_go(self, false).await?;
        self.end_early_upload().await;
        self.end_traces().await;
        *end = Some(Ended::Discarded.into());
        Ok(())
    }

    /// Notes durably that the session was unmounted, and ends the traces after that: they may be on a disk that hangs. Gives the
    /// reason why the trace could not be written.
    pub(crate) async fn seal(&self) -> Result<Option<String>, Error> {
        self.end_early_upload().await;
        let sealed = self.session.vfs().seal();
        let trace_failure = self.end_traces().await;
        sealed?;
        Ok(trace_failure)
    }

    /// Makes what stays in the session durable. If that fails, nothing is lost unless the power is.
    async fn save(&self) {
        let vfs = Arc::clone(self.session.vfs());
        let saving = tokio::task::spawn_blocking(move || vfs.save());
        match tokio::time::timeout(SAVED_WITHIN, saving).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "what is in the session may be lost with the power");
            }
            // The disk hangs, or has much to write for others.
            Ok(Err(_)) | Err(_) => {
                tracing::warn!("what is in the session may still be lost with the power");
            }
        }
    }

    /// Sends no more outputs before the commit. What was sent stays known to it.
    pub(crate) async fn end_early_upload(&self) {
        if let Some(early) = &self.early {
            early.stop().await;
        }
    }

    /// Ends the recording of what is read, and what is fetched ahead. Nobody reads any more.
    /// Gives the reason why the trace could not be written.
    pub(crate) async fn end_traces(&self) -> Option<String> {
        self.traces.end(self.session.vfs().fetcher()).await
    }
}

impl Held for ServedMount {
    fn mounted(&self) -> &Mounted {
        &self.mounted
    }

    fn cut_off(&self) -> &watch::Sender<bool> {
        &self.cut_off
    }

    fn is_open(&self) -> bool {
        self.session.vfs().is_open()
    }

    fn end_writing(&self) {
        self.session.vfs().end_writing();
    }

    /// With what becomes of what was written.
    fn detached_before(&self, mount_point: PathBuf, holders: Vec<Holder>) -> Error {
        let id = self.session.meta.id.as_str();
        let id = id.get(..8).unwrap_or(id);
        let at_end = self.at_end.borrow().clone();
        let is_committed = self.session.meta.commit_on_unmount && at_end.is_some()
            || at_end.is_some_and(|arguments| arguments.commit.is_some());
        let advice = if self.session.meta.read_only {
            letting_go::ends_unused(id)
        } else if is_committed {
            format!(
                "session {id} has what is written, and is committed when nobody uses the mount any more; `attachfs umount --force {id}` cuts off who does"
            )
        } else {
            format!(
                "session {id} has what is written; `attachfs commit {id}` publishes it, `attachfs umount --force {id}` cuts off who uses the mount"
            )
        };
        let detached = UnmountError::Detached {
            mount_point,
            holders,
        };
        Error::from(detached).advise(advice)
    }
}
