//! Verbs on a session, whether a process has it or not.

use std::path::Path;
use std::time::{Duration, Instant};

use attachfs_commit::Observer;
use attachfs_mount::{ControlClient, ControlError, Failure, Request};
use attachfs_store::S3Access;
use attachfs_vfs::{Session, SessionMeta, Settings};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::control::{ask, value};
use crate::live::Live;
use crate::registry::{Found, SessionState, unregister};
use crate::remote::{
    CommitArguments, CommitReport, DiffArguments, DiffReport, PublishedManifest, StatusReport,
    UnmountArguments,
};
use crate::store::open_store;
use crate::{Error, Places};

/// Whether a process has the session, which then answers. One that is just beginning or ending is
/// given a moment.
async fn state(found: &Found) -> Result<SessionState, Error> {
    let deadline = Instant::now() + BEGINS_WITHIN;
    while Session::is_in_use(&found.dir)? {
        if ControlClient::connect(&found.dir)?.is_some() {
            return Ok(SessionState::InUse);
        }
        if Instant::now() >= deadline {
            return Err(Error::NoAnswer(found.dir.clone()));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(SessionState::Left)
}

/// How a session is.
pub async fn status(
    found: &Found,
    places: &Places,
    access: &S3Access,
) -> Result<StatusReport, Error> {
    match state(found).await? {
        SessionState::InUse => ask(found, Request::Status, None).await,
        SessionState::Left if found.meta.read_only => Ok(left_read_only(found)),
        SessionState::Left => open(found, places, access).await?.status(false).await,
    }
}

fn left_read_only(found: &Found) -> StatusReport {
    StatusReport {
        session: found.meta.id.to_string(),
        mount_point: found.meta.mount_point.display().to_string(),
        mounted: false,
        pid: None,
        read_only: true,
        store: found.meta.store.address.clone(),
        manifests: found
            .meta
            .manifests
            .iter()
            .map(|manifest| manifest.source.clone())
            .collect(),
        uncommitted: 0,
        open: Vec::new(),
        commits: 0,
        committed: Vec::new(),
        commit_unfinished: false,
        counters: None,
        fetched: None,
    }
}

/// What a commit would publish.
pub async fn diff(
    found: &Found,
    places: &Places,
    access: &S3Access,
    how: DiffArguments,
    observer: &dyn Observer,
) -> Result<DiffReport, Error> {
    match state(found).await? {
        SessionState::InUse => {
            let options = value(&how)?;
            ask(found, Request::Diff { options }, Some(observer)).await
        }
        SessionState::Left => {
            let live = open(found, places, access).await?;
            live.diff(how, observer).await
        }
    }
}

/// The bytes of a manifest that a session published, as they are kept in it.
pub fn committed_bytes(dir: &Path, manifest: &PublishedManifest) -> Result<Vec<u8>, Error> {
    let hash = manifest.hash.parse().map_err(|error| {
        Error::Usage(format!(
            "the hash of a manifest, {}: {error}",
            manifest.hash
        ))
    })?;
    Ok(Session::read_commit(dir, manifest.generation, hash)?)
}

/// Deletes a session that nobody has and all of which is committed; says whether it did.
pub async fn discard_committed(
    found: &Found,
    places: &Places,
    access: &S3Access,
) -> Result<bool, Error> {
    let live = open(found, places, access).await?;
    if live.status(false).await?.uncommitted > 0 {
        return Ok(false);
    }
    live.vfs.discard()?;
    unregister(places, &found.meta.id);
    Ok(true)
}

/// Commits a session. It stays until it is discarded; committing it again publishes what changed
/// since, or says that nothing did.
pub async fn commit(
    found: &Found,
    places: &Places,
    access: &S3Access,
    arguments: &CommitArguments,
    observer: &dyn Observer,
) -> Result<CommitReport, Error> {
    match state(found).await? {
        SessionState::InUse => {
            let options = value(arguments)?;
            ask(found, Request::Commit { options }, Some(observer)).await
        }
        SessionState::Left => {
            open(found, places, access)
                .await?
                .commit(arguments, observer)
                .await
        }
    }
}

/// What unmounting did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnmountReport {
    /// The session.
    pub session: String,
    /// Whether the session is kept, with what was not committed.
    pub kept: bool,
    /// Whether its process had died, and only the dead mount was removed.
    pub was_dead: bool,
    /// Paths that changed and were not committed.
    pub uncommitted: u64,
    /// What was committed, if the mount was made with that.
    pub commit: Option<CommitReport>,
    /// Why that commit stopped. The session is kept then.
    #[serde(default)]
    pub commit_failure: Option<Failure>,
}

/// Unmounts a session: waits, seals, and commits if it was mounted so or `arguments` say so. `detach`
/// does so even if someone uses the mount. Goes on to its end whatever `observer` says. Where the
/// process had died, nothing is committed.
pub async fn unmount(
    found: &Found,
    detach: bool,
    arguments: &UnmountArguments,
    observer: &dyn Observer,
) -> Result<UnmountReport, Error> {
    match try_unmount(found, detach, arguments, observer).await {
        // A process that was killed a moment ago may still have had its socket: look again.
        Err(Error::Control(ControlError::Closed | ControlError::Connection(_))) => {
            try_unmount(found, detach, arguments, observer).await
        }
        result => result,
    }
}

async fn try_unmount(
    found: &Found,
    detach: bool,
    arguments: &UnmountArguments,
    observer: &dyn Observer,
) -> Result<UnmountReport, Error> {
    match state(found).await? {
        SessionState::InUse => {
            let options = value(arguments)?;
            let request = Request::Unmount { detach, options };
            let report = ask(found, request, Some(observer)).await?;
            wait_until_left(found).await?;
            Ok(report)
        }
        SessionState::Left => {
            let session = Session::open(&found.dir)?;
            let was_dead = detach_dead(&found.meta)?;
            if !was_dead {
                return Err(Error::NotMounted(found.meta.id.to_string()));
            }
            let kept = !found.meta.read_only;
            if !kept {
                session.discard()?;
            }
            Ok(UnmountReport {
                session: found.meta.id.to_string(),
                kept,
                was_dead,
                uncommitted: 0,
                commit: None,
                commit_failure: None,
            })
        }
    }
}

/// How long a process may have a session before it answers, or after it stopped doing so.
const BEGINS_WITHIN: Duration = Duration::from_secs(3);
/// How long a process may take to end after it has answered.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Waits until the process that had the session is done with it, so that whoever asked can go on
/// with the session at once.
async fn wait_until_left(found: &Found) -> Result<(), Error> {
    let deadline = Instant::now() + ENDS_WITHIN;
    while found.dir.exists() && Session::is_in_use(&found.dir)? {
        if Instant::now() >= deadline {
            return Err(Error::NoAnswer(found.dir.clone()));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Removes the mount that a session's process left when it died. Whether there was one.
pub(crate) fn detach_dead(meta: &SessionMeta) -> Result<bool, Error> {
    use attachfs_mount::UnmountError;
    match attachfs_mount::detach_dead(&meta.mount_point, &meta.id) {
        Ok(()) => Ok(true),
        Err(UnmountError::NotDead { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Deletes a session and everything in it that was not committed. One that is mounted is unmounted
/// first, unless someone uses it.
pub async fn discard(found: &Found, places: &Places) -> Result<(), Error> {
    match state(found).await? {
        SessionState::InUse => {
            let options = Value::Null;
            ask::<()>(found, Request::Discard { options }, None).await?;
            wait_until_left(found).await
        }
        SessionState::Left => {
            let session = Session::open(&found.dir)?;
            detach_dead(&found.meta)?;
            session.discard()?;
            unregister(places, &found.meta.id);
            Ok(())
        }
    }
}

async fn open(found: &Found, places: &Places, access: &S3Access) -> Result<Live, Error> {
    let session = Session::open(&found.dir)?;
    let store = open_store(&found.meta.store.with(access)).await?;
    // Nobody sees owner and modes of an unmounted session.
    let settings = Settings {
        uid: found.meta.owner,
        gid: 0,
        file_mode: 0o644,
        dir_mode: 0o755,
        created: found.meta.created,
    };
    Live::take_over(session, store, places, settings)
}
