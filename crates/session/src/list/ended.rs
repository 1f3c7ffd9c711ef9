//! Sessions that have ended, so that the addresses of their manifests can still be found.
//!
//! ```text
//!     <state>/sessions-ended/     this user's alone
//!         <session id>.json       of each session that had published something when it was deleted
//!         <session id>.discarded  for a day, of each session that somebody discarded: empty
//! ```
//!
//! A commit prints the address of its manifest once. If that text got lost, or never arrived because the
//! connection broke, the address is found here after the session is gone, until the list is pruned.
//!
//! A command that waits for a session to commit it may find the session gone: the mark tells it whether the session was committed or
//! discarded.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use attachfs_durable::OwnDir;
use serde::{Deserialize, Serialize};

use super::dir::open;
use super::error::SessionListError;
use crate::session::LONGEST_DESCRIPTION;
use crate::session::{SessionId, SessionMeta};

/// The version of the file.
const FORMAT: u32 = 1;

/// How long the mark of a discarded session stays. No command waits longer for a session.
const DISCARDED_FOR: Duration = Duration::from_hours(24);

/// A session that was deleted and had published something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedSession {
    format: u32,
    /// Its id.
    pub session: SessionId,
    /// Where it was mounted.
    #[serde(with = "crate::path_json")]
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

/// The list of ended sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedSessions {
    dir: PathBuf,
}

impl EndedSessions {
    /// The list in a user's state directory.
    pub(super) fn in_state(state: &Path) -> Self {
        Self {
            dir: state.join("sessions-ended"),
        }
    }

    /// Writes down, durably, what a session published that is about to be deleted; nothing if it published
    /// nothing. `ended` is now, in seconds since 1970.
    pub fn add(
        &self,
        meta: &SessionMeta,
        commits: Vec<EndedCommit>,
        ended: i64,
    ) -> Result<(), SessionListError> {
        if commits.is_empty() {
            return Ok(());
        }
        let account = EndedSession {
            format: FORMAT,
            session: meta.id.clone(),
            mount_point: meta.mount_point.clone(),
            store: meta.store.address.clone(),
            created: meta.created.seconds,
            ended,
            commits,
        };
        let bytes = serde_json::to_vec_pretty(&account);
        let bytes = bytes.map_err(|source| SessionListError::Account {
            id: meta.id.clone(),
            source,
        })?;
        let dir = OwnDir::create(&self.dir)?;
        Ok(dir.publish(&file_name(&meta.id), &bytes)?)
    }

    /// Writes down, durably, that a session is about to be discarded, for others that wait to commit it. Forgets what was discarded more
    /// than a day ago.
    pub fn add_discarded(&self, id: &SessionId) -> Result<(), SessionListError> {
        let dir = OwnDir::create(&self.dir)?;
        let since = SystemTime::now()
            .checked_sub(DISCARDED_FOR)
            .and_then(|since| since.duration_since(SystemTime::UNIX_EPOCH).ok())
            .map_or(0, |since| since.as_nanos().cast_signed());
        for old in files(&dir, DISCARDED)? {
            let is_old = match dir.file_facts(&old) {
                Ok(facts) => facts.stamp.mtime_ns < since,
                // Another process has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(error.into()),
            };
            if is_old {
                dir.remove_file(&old)?;
            }
        }
        Ok(dir.publish(&format!("{id}{DISCARDED}"), &[])?)
    }

    /// Whether a session was discarded, not more than a day ago.
    pub fn is_discarded(&self, id: &SessionId) -> Result<bool, SessionListError> {
        let Some(dir) = open(&self.dir)? else {
            return Ok(false);
        };
        let name = format!("{id}{DISCARDED}");
        Ok(dir.kind(OsStr::new(&name))?.is_some())
    }

    /// The sessions that ended and had published something, the last one first. A file that cannot be read as one is
    /// passed over with a warning.
    pub fn all(&self) -> Result<Vec<EndedSession>, SessionListError> {
        let Some(dir) = open(&self.dir)? else {
            return Ok(Vec::new());
        };
        let mut ended = Vec::new();
        for name in files(&dir, ACCOUNT)? {
            let bytes = dir.read_at_most(&name, LONGEST_DESCRIPTION)?;
            match serde_json::from_slice::<EndedSession>(&bytes) {
                Ok(session) if session.format == FORMAT => ended.push(session),
                Ok(session) => tracing::warn!(
                    file = name,
                    format = session.format,
                    "another version of attachfs wrote this account of an ended session"
                ),
                Err(error) => tracing::warn!(
                    file = name,
                    error = &error as &dyn std::error::Error,
                    "this is no account of an ended session"
                ),
            }
        }
        ended.sort_by_key(|session| std::cmp::Reverse((session.ended, session.created)));
        Ok(ended)
    }

    /// The session that ended and has this id, or the only one whose id begins so; four digits are needed.
    pub fn find(&self, id: &str) -> Result<Option<EndedSession>, SessionListError> {
        if !SessionId::may_begin_with(id) {
            return Ok(None);
        }
        let mut ended = self.all()?;
        ended.retain(|session| session.session.as_str().starts_with(id));
        let first = ended.pop();
        Ok(first.filter(|_| ended.is_empty()))
    }

    /// Forgets all ended sessions with their addresses, and returns how many there were.
    pub(super) fn forget_all(&self) -> Result<usize, SessionListError> {
        let Some(dir) = open(&self.dir)? else {
            return Ok(0);
        };
        let accounts = files(&dir, ACCOUNT)?;
        for name in accounts.iter().chain(&files(&dir, DISCARDED)?) {
            dir.remove_file(name)?;
        }
        Ok(accounts.len())
    }
}

/// How the names of files end: what a session published, and that it was discarded.
const ACCOUNT: &str = ".json";
const DISCARDED: &str = ".discarded";

fn file_name(id: &SessionId) -> String {
    format!("{id}{ACCOUNT}")
}

/// The files of ended sessions whose names end so. Others are left alone.
fn files(dir: &OwnDir, end: &str) -> Result<Vec<String>, SessionListError> {
    let is_file = |name: &String| {
        let id = name.strip_suffix(end);
        id.is_some_and(|id| id.parse::<SessionId>().is_ok())
    };
    let names = dir.names()?.into_iter();
    let names = names.filter_map(|name| name.into_string().ok());
    Ok(names.filter(is_file).collect())
}
