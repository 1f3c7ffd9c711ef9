//! What is in sessions and not committed: how many paths changed, how much was written, and when for the last time.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use attachfs_commit::{OpenSession, last_clean};
use attachfs_durable::{FileStamp, OwnDir};
use attachfs_fetch::{FetchOptions, Fetcher};
use attachfs_manifest::ContentHash;
use attachfs_session::{Request, Session, SessionEntry};
use attachfs_store::{ChunkStore, ObjectMeta, ObjectPart, Payload, StoreError};
use attachfs_vfs::overlay::{Scratch, ScratchStamp};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::error::{Doing as _, Error};
use crate::index::base_of;
use crate::opened::naming_fsck;
use crate::places::Places;
use crate::remembering::commits_in;
use crate::remote::StatusReport;
use crate::session::{ask_if_served, unseen};

/// How long the disks and processes of all sessions together may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// What a session holds that is not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Uncommitted {
    /// The paths that changed, as [`StatusReport::uncommitted`] counts them; `None` if its process does not answer, or it cannot be opened,
    /// which is logged.
    pub paths: Option<u64>,
    /// The lengths of the files together that were written and that no commit has as they are.
    pub bytes: u64,
    /// When the session was changed for the last time, in seconds since 1970.
    pub changed: i64,
}

/// What each of these sessions holds; `None` for one that is read-only, and for one whose disk does not answer in time or that cannot be
/// looked at, which is logged. No content of a file is read, and no store asked.
pub async fn uncommitted_in(
    sessions: &[SessionEntry],
    places: &Places,
) -> Vec<Option<Uncommitted>> {
    let deadline = Instant::now() + ANSWERS_WITHIN;
    let begun: Vec<_> = sessions
        .iter()
        .map(|session| look_into(session, places))
        .collect();
    let mut found = Vec::new();
    for (written, paths) in begun {
        let Some(written) = in_time(deadline, written).await else {
            found.push(None);
            continue;
        };
        let paths = in_time(deadline, paths).await;
        found.push(Some(Uncommitted { paths, ..written }));
    }
    found
}

/// An answer of a thread that looks into a session.
type Answer<T> = oneshot::Receiver<Result<T, Error>>;

async fn in_time<T>(deadline: Instant, answer: Answer<T>) -> Option<T> {
    let answered = timeout_at(deadline, answer).await.ok()?.ok()?;
    answered
        .inspect_err(|error| {
            let error = error as &dyn std::error::Error;
            tracing::warn!(error, "it is not known what is uncommitted in a session");
        })
        .ok()
}

/// Looks on a thread, which is not waited for if a disk never answers.
fn look_into(session: &SessionEntry, places: &Places) -> (Answer<Uncommitted>, Answer<u64>) {
    let ((tell_written, written), (tell_paths, paths)) = (oneshot::channel(), oneshot::channel());
    if session.meta.read_only {
        return (written, paths);
    }
    let (session, places, runtime) = (session.clone(), places.clone(), Handle::current());
    let thread = std::thread::Builder::new().name("attachfs-look".to_owned());
    let started = thread.spawn(move || {
        // Nobody waits for an answer that comes too late.
        let _ = tell_written.send(written_in(&session));
        let _ = tell_paths.send(runtime.block_on(changed_paths(&session, &places)));
    });
    if let Err(error) = started {
        tracing::warn!(%error, "cannot look into a session");
    }
    (written, paths)
}

/// The files are found by their stamps: nothing is read but the journal.
fn written_in(session: &SessionEntry) -> Result<Uncommitted, Error> {
    let journal = session.journal_path();
    let doing = || format!("cannot look into the session {}", session.dir.display());
    let commits = commits_in(&journal).map_err(attachfs_vfs::OpenError::from)?;
    let clean = last_clean(&commits);
    let changed = FileStamp::at(&journal).doing(doing)?.modified().0;
    let mut found = Uncommitted {
        changed,
        ..Uncommitted::default()
    };
    let scratch = match OwnDir::open(&session.scratch_path()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        dir => Scratch::new(dir?),
    };
    for ino in scratch.inodes().doing(doing)? {
        let stamp = match FileStamp::at(&scratch.path(ino)) {
            // It was deleted a moment ago.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            stamp => stamp.doing(doing)?,
        };
        let is_clean = clean.get(&ino) == Some(&ScratchStamp::from(stamp));
        if !is_clean {
            found.bytes += stamp.size;
            found.changed = found.changed.max(stamp.modified().0);
        }
    }
    Ok(found)
}

/// Asks the process that has the session; without one the session is opened, which changes nothing in it.
async fn changed_paths(found: &SessionEntry, places: &Places) -> Result<u64, Error> {
    if let Some(status) = ask_if_served::<StatusReport>(found, Request::Status, None).await? {
        return Ok(status.uncommitted);
    }
    let session = Session::open(&found.dir)?;
    let tree = base_of(&session, places)?.tree;
    let fetcher = Fetcher::new(Arc::new(NotAsked), None, FetchOptions::default());
    let opened = OpenSession::look(session, tree, Arc::new(fetcher), unseen(&found.meta))
        .map_err(|error| naming_fsck(error, &found.meta.id))?;
    Ok(attachfs_commit::uncommitted(&opened, &[]).await?.paths)
}

/// The store of a session of which only the changes are counted: that needs no bytes of inputs, and waits for no network.
#[derive(Debug)]
struct NotAsked;

impl NotAsked {
    fn refuse<T>(chunk: ContentHash) -> Result<T, StoreError> {
        Err(StoreError::Unreachable {
            what: chunk.to_string(),
            source: "the session was opened without its store".into(),
        })
    }
}

#[async_trait]
impl ChunkStore for NotAsked {
    async fn get(&self, chunk: ContentHash, _: Range<u64>) -> Result<ObjectPart, StoreError> {
        Self::refuse(chunk)
    }

    async fn head(&self, chunk: ContentHash) -> Result<ObjectMeta, StoreError> {
        Self::refuse(chunk)
    }

    async fn put(&self, chunk: ContentHash, _: Payload) -> Result<(), StoreError> {
        Self::refuse(chunk)
    }
}
