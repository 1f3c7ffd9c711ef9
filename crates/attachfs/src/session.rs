//! Verbs on a session, whether a process has it or not.

use std::path::Path;
use std::time::Duration;

use attachfs_commit::Observer;
use attachfs_manifest::ParseHashError;
use attachfs_session::{ControlClient, ControlError, Request, Session, SessionEntry, SessionMeta};
use attachfs_store::S3Access;
use attachfs_vfs::Settings;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::arguments::{CommitArguments, DiffArguments, Show};
use crate::cancel::{Cancellable, unless_cancelled};
use crate::client::{ask, connect};
use crate::error::Error;
use crate::holder::{no_answer, take, take_to_discard};
use crate::logs;
use crate::message::value;
use crate::opened::{OpenedSession, require_writable};
use crate::places::Places;
use crate::remembering::{not_remembered, remember_left};
use crate::remote::{CommitReport, DiffReport, PublishedManifest, RehearsalReport, StatusReport};
use crate::store::open_store;

/// A connection to the process that has the session, `None` if no process has it. A process that is just beginning or ending is given a
/// moment.
pub(crate) async fn serving(found: &SessionEntry) -> Result<Option<ControlClient>, Error> {
    let deadline = Instant::now() + BEGINS_WITHIN;
    while Session::is_in_use(&found.dir)? {
        if let Some(client) = connect(found)? {
            return Ok(Some(client));
        }
        if Instant::now() >= deadline {
            return Err(no_answer(found, None));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(None)
}

/// The answer of the process that has a session, `None` if no process has it. A process that ends and does not begin with the request is waited
/// for: then the session is without one, or another process has it.
pub(crate) async fn ask_if_served<T: DeserializeOwned>(
    found: &SessionEntry,
    request: Request,
    observer: Option<&dyn Observer>,
) -> Result<Option<T>, Error> {
    let deadline = Instant::now() + ENDS_WITHIN;
    while let Some(client) = serving(found).await? {
        match ask(found, client, request.clone(), observer).await {
            Err(error)
                if matches!(error.cause(), Some(ControlError::NotBegun))
                    && Instant::now() < deadline =>
            {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            answer => return answer.map(Some),
        }
    }
    Ok(None)
}

/// Fails with [`FailureClass::Usage`](crate::FailureClass::Usage) if `said`, what somebody typed, says something else than what the process of a
/// mount was started with: that process does the work, and would not hear of it. Does nothing if no process has the session.
pub async fn require_same_access(
    found: &SessionEntry,
    said: &S3Access,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    if *said == S3Access::default() {
        return Ok(());
    }
    unless_cancelled(cancel, async {
        let Some(used) = ask_if_served::<S3Access>(found, Request::Access, None).await? else {
            return Ok(());
        };
        let unused = said.options_beside(&used);
        if unused.is_empty() {
            return Ok(());
        }
        let (id, options) = (&found.meta.id, unused.join(", "));
        let sentence = format!(
            "session {id} is mounted, and its process goes on with what it was started with: {options} would not be used"
        );
        let advice = "options of S3 go with `mount`; leave them out here, or unmount, and mount it again with them";
        Err(Error::usage(sentence).advise(advice))
    })
    .await
}

/// The answer of the process that has a session, or of what is done here if none has it.
async fn served_or<T: DeserializeOwned>(
    found: &SessionEntry,
    request: Request,
    observer: &Cancellable<'_, dyn Observer + '_>,
    here: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let answer = async {
        match ask_if_served(found, request, Some(observer)).await? {
            Some(answer) => Ok(answer),
            None => here.await,
        }
    };
    observer.run(answer).await
}

/// How a session is.
pub async fn status(
    found: &SessionEntry,
    places: &Places,
    access: &S3Access,
    cancel: &CancellationToken,
) -> Result<StatusReport, Error> {
    unless_cancelled(cancel, async {
        if let Some(status) = ask_if_served(found, Request::Status, None).await? {
            Ok(status)
        } else if found.meta.read_only {
            Ok(left_read_only(found))
        } else {
            let session = look(found, places, access, cancel).await?;
            session.status(false).await
        }
    })
    .await
}

fn left_read_only(found: &SessionEntry) -> StatusReport {
    StatusReport {
        log: logs::of_session(&found.dir).map(|log| log.display().to_string()),
        ..StatusReport::of(&found.meta)
    }
}

/// What a commit would publish.
pub async fn diff(
    found: &SessionEntry,
    places: &Places,
    access: &S3Access,
    how: DiffArguments,
    observer: &dyn Observer,
    cancel: &CancellationToken,
) -> Result<DiffReport, Error> {
    require_writable(&found.meta)?;
    // What is wrong with them is told before anything is asked.
    how.chosen.patterns()?;
    let observer = Cancellable::new(observer, cancel);
    let options = value(&how)?;
    let here = async {
        let session = look(found, places, access, cancel).await?;
        session.diff(how, &observer).await
    };
    served_or(found, Request::Diff { options }, &observer, here).await
}

/// What [`commit`] would do with the same arguments, up to what it asks the store: nothing is sent, and nothing written.
pub async fn rehearse(
    found: &SessionEntry,
    places: &Places,
    access: &S3Access,
    arguments: &CommitArguments,
    observer: &dyn Observer,
    cancel: &CancellationToken,
) -> Result<RehearsalReport, Error> {
    require_writable(&found.meta)?;
    arguments.options(&found.meta)?;
    let observer = Cancellable::new(observer, cancel);
    let as_commit = arguments.clone();
    let options = value(&Show::Commit { as_commit })?;
    let here = async {
        let session = look(found, places, access, cancel).await?;
        session.rehearse(arguments, &observer).await
    };
    served_or(found, Request::Diff { options }, &observer, here).await
}

/// The bytes of a manifest that a session published, as they are kept in it, in the format that `arguments` ask for.
pub fn committed_bytes(
    dir: &Path,
    manifest: &PublishedManifest,
    arguments: &CommitArguments,
) -> Result<Vec<u8>, Error> {
    let bytes = diff_bytes(dir, manifest)?;
    Ok(attachfs_commit::handed_over(&bytes, arguments.format())?)
}

/// The bytes of the diff of a commit.
pub(crate) fn diff_bytes(dir: &Path, manifest: &PublishedManifest) -> Result<Vec<u8>, Error> {
    let hash = manifest.hash.parse().map_err(|error: ParseHashError| {
        Error::usage(format!("\"{}\" is no hash of a manifest", manifest.hash)).because(error)
    })?;
    Ok(Session::read_commit(dir, manifest.generation, hash)?)
}

/// Commits a session. It stays until it is discarded; committing it again publishes what changed
/// since, or says that nothing did.
pub async fn commit(
    found: &SessionEntry,
    places: &Places,
    access: &S3Access,
    arguments: &CommitArguments,
    observer: &dyn Observer,
    cancel: &CancellationToken,
) -> Result<CommitReport, Error> {
    require_writable(&found.meta)?;
    // What is wrong with it is told before anything is asked.
    arguments.options(&found.meta)?;
    let observer = Cancellable::new(observer, cancel);
    let options = value(arguments)?;
    let here = async {
        let session = open(found, places, access, cancel).await?;
        session.commit(arguments, &observer).await
    };
    served_or(found, Request::Commit { options }, &observer, here).await
}

/// How long a process may have a session before it answers, or after it stopped doing so.
pub(crate) const BEGINS_WITHIN: Duration = Duration::from_secs(3);
/// How long a process may take to end after it has answered.
pub(crate) const ENDS_WITHIN: Duration = Duration::from_secs(10);
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Waits until the process that had the session is done with it, so that the caller can go on with the session at
/// once. `false` if it takes long: a session with many files is not deleted in a moment.
pub(crate) async fn is_left_soon(found: &SessionEntry) -> Result<bool, Error> {
    let deadline = Instant::now() + ENDS_WITHIN;
    while found.dir.exists() && Session::is_in_use(&found.dir)? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(true)
}

/// Deletes a session and everything in it that was not committed. One that is mounted is unmounted
/// first, unless someone uses it. As [`unmount`](crate::unmount) it is cancelled only as far as this process waits for it.
pub async fn discard(
    found: &SessionEntry,
    places: &Places,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    unless_cancelled(cancel, discard_in_any_state(found, places)).await
}

async fn discard_in_any_state(found: &SessionEntry, places: &Places) -> Result<(), Error> {
    let options = Value::Null;
    let asked = ask_if_served::<()>(found, Request::Discard { options }, None);
    if asked.await?.is_none() {
        return discard_left(found, places);
    }
    if is_left_soon(found).await? && is_there(found) {
        // It answered before it deleted the session: what kept it from that is told here.
        discard_left(found, places)?;
    }
    Ok(())
}

fn discard_left(found: &SessionEntry, places: &Places) -> Result<(), Error> {
    let session = take_to_discard(&found.dir)?;
    attachfs_mount::detach_dead(&session)?;
    // The interrupted deletion has already recorded what the session published.
    if !Session::is_ending(&found.dir)? {
        let remembered = remember_left(places, &session).or_else(|_| {
            // On a full disk there is the room that is held for a commit.
            session.release_reserve()?;
            remember_left(places, &session)
        });
        if let Err(error) = remembered {
            not_remembered(&error);
        }
    }
    session.discard()?;
    places.sessions().remove(&found.meta.id);
    Ok(())
}

/// Whether the session is still in its directory.
pub(crate) fn is_there(found: &SessionEntry) -> bool {
    Session::read_meta(&found.dir).is_ok_and(|meta| meta.id == found.meta.id)
}

pub(crate) async fn open(
    found: &SessionEntry,
    places: &Places,
    access: &S3Access,
    cancel: &CancellationToken,
) -> Result<OpenedSession, Error> {
    let session = take(&found.dir)?;
    let store = open_store(&found.meta.store.with(access), cancel).await?;
    OpenedSession::take_over(session, store, places, unseen(&found.meta))
}

pub(crate) async fn look(
    found: &SessionEntry,
    places: &Places,
    access: &S3Access,
    cancel: &CancellationToken,
) -> Result<OpenedSession, Error> {
    let session = Session::open(&found.dir)?;
    let store = open_store(&found.meta.store.with(access), cancel).await?;
    OpenedSession::look(session, store, places, unseen(&found.meta))
}

/// Settings of a session that is not mounted: no process sees the owner and modes of its files.
pub(crate) fn unseen(meta: &SessionMeta) -> Settings {
    Settings {
        uid: meta.owner,
        gid: 0,
        file_mode: 0o644,
        dir_mode: 0o755,
        created: meta.created,
        case_insensitive: meta.case_insensitive,
    }
}
