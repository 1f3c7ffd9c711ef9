//! Sessions that have ended, for as long as somebody may want to know what they published.
//!
//! ```text
//!     <state>/sessions-ended/     this user's alone
//!         <session id>.json       of each session that had published something when it was deleted
//! ```
//!
//! The address of a manifest is said once, when it is published. Whoever lost it, or never heard it
//! because the connection broke, finds it here after the session is gone, until [`prune`](crate::prune).

use std::io;
use std::path::{Path, PathBuf};

use attachfs_commit::finished;
use attachfs_durable::OwnDir;
use attachfs_session::{Session, SessionId, SessionMeta};
use attachfs_store::{ManifestAddress, ManifestKey, StoreAddress};
use attachfs_vfs::overlay::{CommitRecord, Journal, JournalError, Record};
use serde::{Deserialize, Serialize};

use crate::{Error, Places};

/// The version of the file.
const FORMAT: u32 = 1;

/// A session that was deleted and had published something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedSession {
    format: u32,
    /// Its id.
    pub session: SessionId,
    /// Where it was mounted.
    #[serde(with = "attachfs_session::path_json")]
    pub mount_point: PathBuf,
    /// The store's address.
    pub store: String,
    /// When it began, in seconds since 1970.
    pub created: i64,
    /// When it was deleted, in seconds since 1970.
    pub ended: i64,
    /// What it published, the first commit first.
    pub commits: Vec<EndedCommit>,
}

/// What a session published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedCommit {
    /// Which of its commits, from 1 on.
    pub generation: u32,
    /// Where the manifest is, as `commit` said it.
    pub address: String,
    /// Its key in the store.
    pub key: String,
    /// The hash of its bytes.
    pub hash: String,
}

/// What the records of commits say was published.
fn published(records: &[CommitRecord], store: &str) -> Vec<EndedCommit> {
    let store: Option<StoreAddress> = store.parse().ok();
    let commits = finished(records).map(|commit| {
        let manifest: Option<ManifestKey> = commit.key.parse().ok();
        let address = store.clone().zip(manifest);
        EndedCommit {
            generation: commit.generation,
            address: address.map_or_else(
                || commit.key.to_owned(),
                |(store, key)| ManifestAddress { store, key }.to_string(),
            ),
            key: commit.key.to_owned(),
            hash: commit.hash.to_string(),
        }
    });
    commits.collect()
}

/// Writes down, durably, what a session published that is about to be deleted; nothing if it published
/// nothing.
pub(crate) fn remember(
    places: &Places,
    meta: &SessionMeta,
    steps: &[CommitRecord],
) -> Result<(), Error> {
    let commits = published(steps, &meta.store.address);
    if commits.is_empty() {
        return Ok(());
    }
    let ended = EndedSession {
        format: FORMAT,
        session: meta.id.clone(),
        mount_point: meta.mount_point.clone(),
        store: meta.store.address.clone(),
        created: meta.created.seconds,
        ended: attachfs_vfs::now().seconds,
        commits,
    };
    let bytes = serde_json::to_vec_pretty(&ended)
        .map_err(|error| Error::Usage(format!("the account of an ended session: {error}")))?;
    let dir = OwnDir::create(&places.ended_sessions())?;
    Ok(dir.publish(&file_name(&meta.id), &bytes)?)
}

/// Says that what a session published could not be written down, on a full disk for example. That must not
/// keep a session that its user gives up.
pub(crate) fn not_remembered(error: &Error) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "what the session published is not kept in the list of ended sessions"
    );
}

/// As [`remember`], for a session that no process has mounted.
pub(crate) fn remember_left(places: &Places, session: &Session) -> Result<(), Error> {
    let steps = match steps_in(&session.journal_path()) {
        // A read-only one has none, and half a session has none any more.
        Err(JournalError::Durable(error)) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        steps => steps.map_err(attachfs_vfs::OpenError::from)?,
    };
    remember(places, session.meta(), &steps)
}

/// The steps of commits that a journal has.
fn steps_in(journal: &Path) -> Result<Vec<CommitRecord>, JournalError> {
    let mut journal = Journal::read(journal)?;
    let mut steps = Vec::new();
    while let Some(record) = journal.next_record()? {
        if let Record::Commit(step) = record {
            steps.push(step);
        }
    }
    Ok(steps)
}

fn file_name(id: &SessionId) -> String {
    format!("{id}.json")
}

/// The sessions that ended and had published something, the last one first.
pub fn ended_sessions(places: &Places) -> Result<Vec<EndedSession>, Error> {
    let Some(dir) = open(places)? else {
        return Ok(Vec::new());
    };
    let mut ended = Vec::new();
    for name in files(&dir)? {
        match serde_json::from_slice::<EndedSession>(&dir.read(&name)?) {
            Ok(session) if session.format == FORMAT => ended.push(session),
            Ok(session) => tracing::warn!(
                file = name,
                format = session.format,
                "written by another version of attachfs"
            ),
            Err(error) => tracing::warn!(file = name, %error, "is not what an ended session left"),
        }
    }
    ended.sort_by_key(|session| std::cmp::Reverse((session.ended, session.created)));
    Ok(ended)
}

/// The session that ended and has this id, or the only one whose id begins so; four digits are needed.
pub fn find_ended(places: &Places, id: &str) -> Result<Option<EndedSession>, Error> {
    if id.len() < 4 {
        return Ok(None);
    }
    let mut ended = ended_sessions(places)?;
    ended.retain(|session| session.session.as_str().starts_with(id));
    let first = ended.pop();
    Ok(first.filter(|_| ended.is_empty()))
}

/// Forgets what ended sessions published, and says how many there were.
pub(crate) fn forget_ended(places: &Places) -> Result<usize, Error> {
    let Some(dir) = open(places)? else {
        return Ok(0);
    };
    let files = files(&dir)?;
    for name in &files {
        dir.remove_file(name)?;
    }
    Ok(files.len())
}

fn open(places: &Places) -> Result<Option<OwnDir>, Error> {
    match OwnDir::open(&places.ended_sessions()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        dir => Ok(Some(dir?)),
    }
}

/// The files of ended sessions. Others are left alone.
fn files(dir: &OwnDir) -> Result<Vec<String>, Error> {
    let is_file = |name: &String| {
        let id = name.strip_suffix(".json");
        id.is_some_and(|id| id.parse::<SessionId>().is_ok())
    };
    let names = dir.names()?.into_iter();
    let names = names.filter_map(|name| name.into_string().ok());
    Ok(names.filter(is_file).collect())
}
