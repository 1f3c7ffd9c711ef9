//! The end of a mount, as another process asks for it.
//!
//! ```text
//!     a process serves it     ask it: unmount, seal, commit          it goes on if nobody waits any more
//!     nobody does             detach the dead mount, commit          the process was killed
//!     the session is gone     tell what it published                 somebody else was quicker
//! ```
//!
//! Several may ask for the same end at once, and one may ask again after it was interrupted: who comes second waits for the first
//! and tells the same result. So all three are looked at again whenever one turns into another.

mod ended;
mod taking_away;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use attachfs_commit::Observer;
use attachfs_manifest::ContentHash;
use attachfs_session::{
    ControlClient, ControlError, Failure, FailureClass, Request, Session, SessionEntry,
    SessionError,
};
use attachfs_store::{ManifestKey, Metadata, S3Access};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::ended::discarded;
pub use self::ended::report_of_ended;
use self::taking_away::take_away;
use crate::arguments::{CommitArguments, UnmountArguments};
use crate::cancel::unless_cancelled;
use crate::client::{ask, connect};
use crate::error::Error;
use crate::holder::{NoAnswer, holder, no_answer, take};
use crate::joining::sentence;
use crate::logs;
use crate::manifests::stored;
use crate::message::value;
use crate::opened::{OpenedSession, require_writable};
use crate::places::Places;
use crate::remembering::remember;
use crate::remote::{CommitReport, UnmountReport};
use crate::session::{BEGINS_WITHIN, LOOK_AGAIN, diff_bytes, is_left_soon, is_there, unseen};
use crate::store::open_store;

/// How a mount is to be ended.
#[derive(Debug, Clone, Default)]
pub struct UnmountRequest {
    /// End it although somebody uses it, once `timeout` is over: who does is cut off. The mount of a process that does not answer is
    /// taken away.
    pub force: bool,
    /// Detach it now; it ends, and is committed, when the last who uses it is done.
    pub lazy: bool,
    /// How long to wait for those who use it.
    pub timeout: Duration,
    /// Commit also if it was not mounted so. If it was killed or interrupted while it was unmounted, its session is committed.
    pub commit: Option<CommitArguments>,
}

impl UnmountRequest {
    /// Fails if what is asked for cannot be had of a session, whatever becomes of its mount: to be told before anything is done.
    pub fn check(&self, found: &SessionEntry) -> Result<(), Error> {
        let Some(commit) = &self.commit else {
            return Ok(());
        };
        require_writable(&found.meta)?;
        commit.options(&found.meta).map(drop)
    }
}

/// Takes the bytes of the manifest that the session published last.
pub type Deliver<'a> = &'a (dyn Fn(&[u8]) -> Result<(), Error> + Sync);

/// How long the process that has a session without serving it may take: it commits it, or deletes it.
const HANDED_OVER_WITHIN: Duration = Duration::from_mins(1);
/// How long to wait for another process before that is said.
const SAID_AFTER: Duration = Duration::from_secs(1);
/// How often to look whether a mount is used no longer.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// Ends a mount: waits, seals, and commits if it was mounted so or `request` says so. `deliver` gets the manifest's bytes before the
/// session is deleted; if it fails, the session stays.
///
/// The process that has the session goes on to the end whatever `observer` says, and when this is cancelled: half an unmount is of no
/// use. The same call, made again, waits for it. Where that process had died, the session is committed here.
pub async fn unmount(
    found: &SessionEntry,
    places: &Places,
    access: &S3Access,
    request: &UnmountRequest,
    deliver: Option<Deliver<'_>>,
    observer: &dyn Observer,
    cancel: &CancellationToken,
) -> Result<UnmountReport, Error> {
    request.check(found)?;
    let ending = Ending {
        found,
        places,
        access,
        request,
        deliver,
        observer,
        cancel,
        asked: AtomicBool::new(false),
        said: AtomicBool::new(false),
    };
    // It is large, and callers would have it in theirs.
    let ended = unless_cancelled(cancel, Box::pin(ending.run())).await;
    ended.map_err(|error| ending.interrupted(error))
}

/// Who has a session that is to end.
enum Holder {
    /// A process that serves it.
    Served(ControlClient),
    /// Nobody.
    Nobody,
    /// It has been deleted.
    Gone,
}

struct Ending<'a> {
    found: &'a SessionEntry,
    places: &'a Places,
    access: &'a S3Access,
    request: &'a UnmountRequest,
    deliver: Option<Deliver<'a>>,
    observer: &'a dyn Observer,
    cancel: &'a CancellationToken,
    /// Whether the process that has the session was asked for its end.
    asked: AtomicBool,
    /// Whether it was said that another process is waited for.
    said: AtomicBool,
}

impl Ending<'_> {
    async fn run(&self) -> Result<UnmountReport, Error> {
        let request = self.request;
        // None is later than any time.
        let begun = Instant::now();
        let deadline = begun.checked_add(request.timeout);
        let mut broke_off = false;
        loop {
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let error = match self.attempt(request.force && is_late).await {
                Ok(report) => return Ok(report),
                Err(error) => error,
            };
            match error.cause() {
                Some(ControlError::NotBegun) if begun.elapsed() < HANDED_OVER_WITHIN => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                // A process that was killed a moment ago may still have had its socket: look again.
                Some(ControlError::Closed | ControlError::Connection(_)) if !broke_off => {
                    broke_off = true;
                }
                _ if error.cause::<NoAnswer>().is_some() => {
                    return if request.force {
                        take_away(self.found, error, request.commit.is_some())
                    } else {
                        Err(error)
                    };
                }
                _ if error.class() == FailureClass::Busy && !is_late => {
                    tokio::time::sleep(TRY_AGAIN).await;
                }
                // Another process ended it in this moment.
                _ if matches!(is_gone(self.found), Ok(true)) => return self.tell_ended().await,
                _ => return Err(error),
            }
        }
    }

    async fn attempt(&self, detach: bool) -> Result<UnmountReport, Error> {
        let since = Instant::now();
        loop {
            match self.holder().await? {
                Holder::Served(client) => return self.ask(client, detach).await,
                Holder::Gone => return self.tell_ended().await,
                Holder::Nobody => {}
            }
            match take(&self.found.dir) {
                // Another process was quicker: it is waited for.
                Err(error)
                    if error.class() == FailureClass::Busy
                        && since.elapsed() < HANDED_OVER_WITHIN => {}
                taken => return self.end_left(taken?).await,
            }
        }
    }

    /// Who has the session. One that another process is just beginning with, committing or deleting is waited for.
    async fn holder(&self) -> Result<Holder, Error> {
        let since = Instant::now();
        loop {
            if is_gone(self.found)? {
                return Ok(Holder::Gone);
            }
            if !Session::is_in_use(&self.found.dir)? {
                return Ok(Holder::Nobody);
            }
            if let Some(client) = connect(self.found)? {
                return Ok(Holder::Served(client));
            }
            let waited = since.elapsed();
            if waited >= SAID_AFTER
                && let Some(process) = holder(&self.found.dir)
                && !self.said.swap(true, Ordering::Relaxed)
            {
                let id = self.found.meta.id.as_str();
                self.observer.note(&sentence(id, &process));
            }
            let is_stopped = || holder(&self.found.dir).is_none_or(|process| process.stopped);
            if waited >= HANDED_OVER_WITHIN || (waited >= BEGINS_WITHIN && is_stopped()) {
                return Err(no_answer(self.found, None));
            }
            tokio::time::sleep(LOOK_AGAIN.max(waited / 10)).await;
        }
    }

    /// Asks the process that serves the mount.
    async fn ask(&self, client: ControlClient, detach: bool) -> Result<UnmountReport, Error> {
        let options = value(&UnmountArguments {
            commit: self.request.commit.clone(),
            keep: self.deliver.is_some(),
            lazy: self.request.lazy,
        })?;
        self.asked.store(true, Ordering::Relaxed);
        let request = Request::Unmount { detach, options };
        let asked = ask(self.found, client, request, Some(self.observer));
        let mut report: UnmountReport = asked.await?;
        if report.detached {
            return Ok(report);
        }
        if self.deliver.is_some() && report.commit.is_some() {
            self.hand_over(&mut report).await;
            if report.output_failure.is_none() {
                // The process has kept the session for the manifest, and ends now.
                is_left_soon(self.found).await?;
                self.discard_committed(&mut report).await?;
            }
            return Ok(report);
        }
        // It answered before it deleted the session. That may take long, and changes nothing of what it said.
        report.still_deleting = !is_left_soon(self.found).await?;
        report.kept |= !report.still_deleting && is_there(self.found);
        Ok(report)
    }

    /// Ends a session that no process has: the mount of one that was killed goes, and what was to be committed is.
    async fn end_left(&self, session: Session) -> Result<UnmountReport, Error> {
        let meta = &self.found.meta;
        let was_dead = attachfs_mount::detach_dead(&session)?;
        let by_default = meta.commit_on_unmount.then(CommitArguments::default);
        let wanted = self.request.commit.clone().or(by_default);
        let is_over = meta.read_only || wanted.is_none();
        // Of a browse there is nothing to look at, commit or discard afterwards: it goes in any case.
        if !was_dead && is_over && meta.browses.is_none() {
            let sentence = format!(
                "session {}, which an earlier mount left at {}, is not mounted",
                meta.id,
                meta.mount_point.display()
            );
            return Err(Error::usage(sentence)
                .advise("`attachfs status` shows what is in it; then commit or discard it"));
        }
        let mut report = UnmountReport {
            was_dead,
            was_left: !was_dead,
            ..UnmountReport::of(&meta.id, meta.mount_point.clone())
        };
        if meta.read_only {
            // The process that counted the failed reads is gone.
            report.log = logs::keep_if_possible(self.places, &self.found.dir, &meta.id);
            session.discard()?;
            self.places.sessions().remove(&meta.id);
            report.kept = false;
        } else if let Some(wanted) = wanted {
            // The mount is gone in any case, and who asked should hear of both.
            if let Err(error) = self.commit_left(session, &wanted, &mut report).await {
                report.commit_failure = Some(Failure::from(&error));
            }
        }
        Ok(report)
    }

    async fn commit_left(
        &self,
        session: Session,
        wanted: &CommitArguments,
        report: &mut UnmountReport,
    ) -> Result<(), Error> {
        let meta = &self.found.meta;
        let store = open_store(&meta.store.with(self.access), self.cancel).await?;
        let opened = OpenedSession::take_over(session, store, self.places, unseen(meta))?;
        let committed = opened.commit(wanted, self.observer).await;
        let status = opened.status(false).await?;
        report.uncommitted = status.uncommitted;
        report.set_aside = status.set_aside;
        report.set_aside_in = status.set_aside_in;
        report.commit = Some(committed?);
        self.hand_over(report).await;
        if report.output_failure.is_none() {
            self.discard_if_committed(&opened, report)?;
        }
        Ok(())
    }

    /// Tells what a session published that is gone: another process has ended it. Fails if it was to be committed, and somebody has discarded it.
    async fn tell_ended(&self) -> Result<UnmountReport, Error> {
        let meta = &self.found.meta;
        let sessions = self.places.sessions();
        let list = sessions.ended();
        let ended = list.find(meta.id.as_str())?;
        let wants_commit = self.request.commit.is_some() || meta.commit_on_unmount;
        if wants_commit && list.is_discarded(&meta.id)? {
            return Err(discarded(&meta.id, ended.as_ref()));
        }
        let mut report = match ended {
            Some(ended) => report_of_ended(&ended),
            // It had published nothing.
            None => UnmountReport {
                kept: false,
                ended: true,
                ..UnmountReport::of(&meta.id, meta.mount_point.clone())
            },
        };
        self.hand_over(&mut report).await;
        let publish = self.request.commit.as_ref();
        if let Some(key) = publish.and_then(|commit| commit.publish.as_ref())
            && let Some(commit) = &mut report.commit
        {
            commit.published = Some(self.publish_ended(key, commit).await?);
        }
        Ok(report)
    }

    /// Publishes the manifest of a deleted session under a second key. The process that deleted the session may have done so already.
    async fn publish_ended(
        &self,
        key: &ManifestKey,
        commit: &CommitReport,
    ) -> Result<String, Error> {
        let bytes = self.bytes_of(commit).await?.unwrap_or_default();
        let store = open_store(&self.found.meta.store.with(self.access), self.cancel).await?;
        let none = Metadata::new();
        attachfs_transfer::publish_manifest(store.store.as_ref(), key, bytes.into(), &none).await?;
        Ok(store.address_of(key))
    }

    /// Gives the manifest's bytes to who wants them. What goes wrong with that is told with the address of the manifest.
    async fn hand_over(&self, report: &mut UnmountReport) {
        let (Some(deliver), Some(commit)) = (self.deliver, &report.commit) else {
            return;
        };
        let delivered = match self.bytes_of(commit).await {
            Ok(Some(bytes)) => deliver(&bytes),
            // Nothing was ever committed.
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = delivered {
            let error = published_all_the_same(error, commit);
            report.output_failure = Some(Failure::from(&error));
        }
    }

    /// The bytes of the last manifest, as the session keeps them or, if that is gone, as they are in the store.
    async fn bytes_of(&self, commit: &CommitReport) -> Result<Option<Vec<u8>>, Error> {
        let Some(manifest) = &commit.manifest else {
            return Ok(None);
        };
        match diff_bytes(&self.found.dir, manifest) {
            Ok(bytes) => return self.handed_over(&bytes).map(Some),
            Err(error) if is_there(self.found) => return Err(error),
            // Another process deleted it.
            Err(_) => {}
        }
        let store = open_store(&self.found.meta.store.with(self.access), self.cancel).await?;
        let key: ManifestKey = manifest.key.parse()?;
        let bytes = stored(&key, &store).await?.bytes.to_vec();
        let found = ContentHash::of(&bytes);
        if found.to_string() != manifest.hash {
            let sentence = format!("{} has the hash {found} now", manifest.address);
            return Err(Error::new(FailureClass::Integrity, sentence));
        }
        self.handed_over(&bytes).map(Some)
    }

    /// The bytes of a diff in the format that was asked for.
    fn handed_over(&self, diff: &[u8]) -> Result<Vec<u8>, Error> {
        let commit = self.request.commit.as_ref();
        let format = commit.map(CommitArguments::format).unwrap_or_default();
        Ok(attachfs_commit::handed_over(diff, format)?)
    }

    /// Deletes a session that was kept for its manifest, if all of it is committed.
    async fn discard_committed(&self, report: &mut UnmountReport) -> Result<(), Error> {
        match self.holder().await? {
            Holder::Nobody => {}
            Holder::Served(_) => return Ok(()),
            Holder::Gone => {
                report.kept = false;
                return Ok(());
            }
        }
        let meta = &self.found.meta;
        let opened = async {
            let session = take(&self.found.dir)?;
            let store = open_store(&meta.store.with(self.access), self.cancel).await?;
            OpenedSession::take_over(session, store, self.places, unseen(meta))
        };
        let opened = match opened.await {
            // Another process ends it.
            Err(error) if error.class() == FailureClass::Busy => return Ok(()),
            opened => opened?,
        };
        let status = opened.status(false).await?;
        report.uncommitted = status.uncommitted;
        report.set_aside = status.set_aside;
        self.discard_if_committed(&opened, report)
    }

    fn discard_if_committed(
        &self,
        opened: &OpenedSession,
        report: &mut UnmountReport,
    ) -> Result<(), Error> {
        if report.uncommitted > 0 || report.set_aside > 0 || opened.has_unfinished_commit() {
            return Ok(());
        }
        // No commit needs the room any more, and on a full disk what comes next does.
        opened.vfs().release_reserve();
        // What it published is known from here on without it.
        remember(self.places, &opened.meta, &opened.vfs().commits())?;
        let meta = &self.found.meta;
        // The log of a mount that did not end in order may tell why.
        if report.log.is_some() || report.was_dead || report.was_left {
            report.log = logs::keep_if_possible(self.places, &self.found.dir, &meta.id);
        }
        opened.session.discard()?;
        self.places.sessions().remove(&meta.id);
        report.kept = false;
        Ok(())
    }

    /// What is so when nobody waits any longer: the process that has the session goes on.
    fn interrupted(&self, error: Error) -> Error {
        if error.class() != FailureClass::Cancelled || !self.asked.load(Ordering::Relaxed) {
            return error;
        }
        let id = self.found.meta.id.as_str();
        let id = id.get(..8).unwrap_or(id);
        let process = holder(&self.found.dir);
        let process =
            process.map_or_else(|| "its process".to_owned(), |process| process.to_string());
        let sentence = format!("{error}: {process} goes on unmounting and committing session {id}");
        Error::new(FailureClass::Cancelled, sentence).advise(format!(
            "the same command waits for it, and `attachfs status {id}` shows how it is"
        ))
    }
}

/// Says with an error that came after the manifest was published where that is.
fn published_all_the_same(error: Error, commit: &CommitReport) -> Error {
    match &commit.manifest {
        Some(manifest) => error.advise(format!("it is published as {}", manifest.address)),
        None => error,
    }
}

/// Whether a session is not in its directory any more.
fn is_gone(found: &SessionEntry) -> Result<bool, Error> {
    match Session::read_meta(&found.dir) {
        Ok(meta) => Ok(meta.id != found.meta.id),
        Err(SessionError::Missing(_)) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
