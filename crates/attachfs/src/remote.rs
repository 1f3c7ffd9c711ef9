//! What travels through the control socket, and what the same verbs give without one.

mod reads;

use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use attachfs_commit::{Account, Committed, EarlyCounts, Outcome, Preview};
use attachfs_manifest::{Content, Node};
use attachfs_session::{Failure, Session, SessionId, SessionMeta, Taint};
use attachfs_store::{ManifestAddress, ManifestKey, StoreAddress};
use attachfs_vfs::Counters;
use serde::{Deserialize, Serialize};

pub use self::reads::{Fetched, LastError};
use crate::prefetching::PrefetchStats;
use crate::report::WrittenReport;

/// A manifest that was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedManifest {
    /// The hash of its bytes.
    pub hash: String,
    /// Where it is: a file, or an `s3://` address.
    pub address: String,
    /// Its key in the store, below `Manifests/`.
    #[serde(default)]
    pub key: String,
    /// Which commit of the session it is of; 1 for the first.
    #[serde(default)]
    pub generation: u32,
    /// When it was made, in seconds since 1970, if that is known.
    #[serde(default)]
    pub time: Option<i64>,
}

impl PublishedManifest {
    pub(crate) fn new(committed: &Committed, session: &Session, store: &StoreAddress) -> Self {
        let Committed {
            generation,
            key,
            hash,
        } = committed;
        let kept = session.commit_manifest(*generation);
        let made = std::fs::metadata(kept).and_then(|meta| meta.modified());
        let since = made
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Self {
            hash: hash.to_string(),
            address: address_of(store, key),
            key: key.to_string(),
            generation: *generation,
            time: since.and_then(|since| i64::try_from(since.as_secs()).ok()),
        }
    }
}

fn address_of(store: &StoreAddress, key: &ManifestKey) -> String {
    let (store, key) = (store.clone(), key.clone());
    ManifestAddress { store, key }.to_string()
}

/// How a commit ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommitReport {
    /// The session.
    pub session: String,
    /// The session's last manifest: published by this commit, or by an earlier one if nothing has changed since.
    /// `None` if nothing was ever committed.
    pub manifest: Option<PublishedManifest>,
    /// Whether nothing was published: nothing that it was to take had changed since the last commit, or since the mount if
    /// there was none. `account` has what it was not to take.
    #[serde(default)]
    pub unchanged: bool,
    /// Whether only an interrupted commit was to be finished, and there was none.
    #[serde(default)]
    pub nothing_to_resume: bool,
    /// Where the manifest was put as well, if that was asked for.
    #[serde(default)]
    pub published: Option<String>,
    /// What an earlier, interrupted commit published at last.
    pub resumed: Option<PublishedManifest>,
    /// The counts.
    pub account: Account,
}

impl CommitReport {
    pub(crate) fn new(
        session: &Session,
        outcome: &Outcome,
        publish: Option<&ManifestKey>,
        store: &StoreAddress,
    ) -> Self {
        let shown = |committed: &Committed| PublishedManifest::new(committed, session, store);
        let resumed = outcome.resumed.as_ref().map(|resumed| &resumed.committed);
        let last = outcome.last.as_ref();
        Self {
            session: session.meta().id.to_string(),
            manifest: last.map(shown),
            unchanged: outcome.published.is_none(),
            nothing_to_resume: false,
            published: last.and(publish).map(|key| address_of(store, key)),
            resumed: resumed.map(shown),
            account: outcome.account.clone(),
        }
    }
}

/// How a session is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Its id.
    pub session: String,
    /// Where it is or was mounted.
    #[serde(with = "attachfs_session::path_json")]
    pub mount_point: PathBuf,
    /// Whether it is mounted now.
    pub mounted: bool,
    /// The process that has it.
    pub pid: Option<u32>,
    /// Whether the mount is read-only.
    pub read_only: bool,
    /// The jobs whose outputs it shows; `None` if it shows manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub browses: Option<String>,
    /// The store.
    pub store: String,
    /// The manifests, the lowest first.
    pub manifests: Vec<String>,
    /// Paths that changed and are not committed; directories and deletions included.
    pub uncommitted: u64,
    /// Files that are open for writing.
    pub open: Vec<String>,
    /// Files that were open for writing when an earlier process of the session died, or cut its users
    /// off: they may be half written.
    #[serde(default)]
    pub left_open: Vec<String>,
    /// FIFOs and sockets: no manifest can hold them, and a commit leaves them out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub special: Vec<String>,
    /// Wrong objects of which programs read bytes before that was known.
    #[serde(default)]
    pub tainted: Vec<Taint>,
    /// Whether the journal was damaged and cut off there, and nobody has accepted what is left: a commit asks.
    #[serde(default)]
    pub cut_off: bool,
    /// Scratch files that no record speaks of, and that were set aside.
    #[serde(default)]
    pub set_aside: u64,
    /// The directory they are in, if there are any.
    #[serde(default)]
    pub set_aside_in: Option<String>,
    /// Scratch files that no record speaks of, and that will be set aside when the session is taken up.
    #[serde(default)]
    pub unknown: u64,
    /// The directory they are in, if there are any.
    #[serde(default)]
    pub unknown_in: Option<String>,
    /// Commits that were published.
    pub commits: u64,
    /// Their manifests, the first one first.
    #[serde(default)]
    pub committed: Vec<PublishedManifest>,
    /// Whether a commit was begun and not finished.
    pub commit_unfinished: bool,
    /// What its process is doing to end it.
    #[serde(default)]
    pub ending: Option<Ending>,
    /// The counts of reads and writes since the mount.
    pub counters: Option<Counters>,
    /// The requests to the store since the mount.
    pub fetched: Option<Fetched>,
    /// The last read that failed since the mount.
    #[serde(default)]
    pub last_error: Option<LastError>,
    /// What was sent of the outputs before a commit; `None` if nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_upload: Option<EarlyCounts>,
    /// Where the log is: a file, or what else the mount was made with.
    #[serde(default)]
    pub log: Option<String>,
    /// The address that answers with metrics, if there is one.
    #[serde(default)]
    pub metrics: Option<String>,
}

impl StatusReport {
    /// A session of which no more is known than its description.
    pub(crate) fn of(meta: &SessionMeta) -> Self {
        let manifests = meta.manifests.iter();
        Self {
            session: meta.id.to_string(),
            mount_point: meta.mount_point.clone(),
            mounted: false,
            pid: None,
            read_only: meta.read_only,
            browses: meta.browses.clone(),
            store: meta.store.address.clone(),
            manifests: manifests.map(|manifest| manifest.source.clone()).collect(),
            uncommitted: 0,
            open: Vec::new(),
            left_open: Vec::new(),
            special: Vec::new(),
            tainted: Vec::new(),
            cut_off: false,
            set_aside: 0,
            set_aside_in: None,
            unknown: 0,
            unknown_in: None,
            commits: 0,
            committed: Vec::new(),
            commit_unfinished: false,
            ending: None,
            counters: None,
            fetched: None,
            last_error: None,
            early_upload: None,
            log: None,
            metrics: None,
        }
    }
}

/// How the end of a mount goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It is detached, and ends when the last who uses it is done.
    Detached,
    /// It is unmounted, and being committed if that was asked for.
    Unmounting,
}

/// A changed path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedLine {
    /// `added`, `changed` or `deleted`.
    pub change: String,
    /// `dir`, `file` or `symlink`.
    pub kind: String,
    /// Where.
    pub path: String,
    /// Length of a file in bytes, of what is there or, deleted, was there.
    pub size: Option<u64>,
    /// The file was written to, and its bytes were not compared: they may be the same as before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub maybe_same: bool,
}

/// What a commit would publish.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiffReport {
    /// The session.
    pub session: String,
    /// Path by path.
    pub changes: Vec<ChangedLine>,
    /// The counts.
    pub account: Account,
    /// Whether the written files were read and hashed.
    #[serde(default)]
    pub hashed: bool,
}

/// What a commit would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RehearsalReport {
    /// What it would publish. If it would stop: the changes without those that stop it.
    #[serde(flatten)]
    pub diff: DiffReport,
    /// Why it would stop.
    #[serde(default)]
    pub would_stop: Option<Failure>,
    /// Whether it would first finish a commit that was interrupted.
    #[serde(default)]
    pub would_resume: bool,
}

impl DiffReport {
    pub(crate) fn new(meta: &SessionMeta, preview: &Preview, hashed: bool) -> Self {
        let is_unhashed = |node: &Node| {
            node.as_file()
                .is_some_and(|file| file.content == Content::Unhashed)
        };
        let line = |changed: &attachfs_commit::Changed| {
            let (kind, size) = match changed.after.as_ref().or(changed.before.as_ref()) {
                Some(Node::Dir) | None => ("dir", None),
                Some(Node::File(file)) => ("file", Some(file.size)),
                Some(Node::Symlink(_)) => ("symlink", None),
            };
            let change = match (&changed.before, &changed.after) {
                (None, _) => "added",
                (Some(_), Some(_)) => "changed",
                (Some(_), None) => "deleted",
            };
            ChangedLine {
                change: change.to_owned(),
                kind: kind.to_owned(),
                path: changed.path.to_string(),
                size,
                maybe_same: changed.after.as_ref().is_some_and(is_unhashed)
                    && size.is_some()
                    && changed
                        .before
                        .as_ref()
                        .and_then(Node::as_file)
                        .map(|file| file.size)
                        == size,
            }
        };
        Self {
            session: meta.id.to_string(),
            changes: preview.changes.iter().map(line).collect(),
            account: preview.account.clone(),
            hashed,
        }
    }
}

/// What unmounting did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnmountReport {
    /// The session.
    pub session: String,
    /// Where it was mounted.
    #[serde(default, with = "attachfs_session::path_json")]
    pub mount_point: PathBuf,
    /// Whether the session is kept, with the uncommitted changes.
    pub kept: bool,
    /// Whether its process had died, and the dead mount was removed.
    pub was_dead: bool,
    /// Whether it was not mounted any more: an unmount had been interrupted, and its commit was made now.
    #[serde(default)]
    pub was_left: bool,
    /// Whether another process had ended the session when it was asked for; `commit` has its last manifest.
    #[serde(default)]
    pub ended: bool,
    /// Whether it is detached and still used: its process ends it, and commits it if that was asked for, when nobody uses it any more.
    #[serde(default)]
    pub detached: bool,
    /// Whether a commit is to come when a mount that is detached ends.
    #[serde(default)]
    pub commit_to_come: bool,
    /// Who uses a mount that is detached, for people.
    #[serde(default)]
    pub users: Vec<String>,
    /// Paths that changed and were not committed.
    pub uncommitted: u64,
    /// Whether they all lie outside of the output directories: a commit leaves them, unless it is told to commit everything.
    #[serde(default)]
    pub all_outside: bool,
    /// Scratch files that no record speaks of. The session is kept for them.
    #[serde(default)]
    pub set_aside: u64,
    /// The directory they are in, if there are any.
    #[serde(default)]
    pub set_aside_in: Option<String>,
    /// The commit, if the mount was made with `--commit`.
    pub commit: Option<CommitReport>,
    /// Whether the mount was made with `--commit` and nothing was committed, because it was not ended by a request to unmount.
    #[serde(default)]
    pub commit_left_undone: bool,
    /// Why that commit stopped. The session is kept then.
    #[serde(default)]
    pub commit_failure: Option<Failure>,
    /// Why the manifest of the commit was not handed over to who wanted its bytes. The session is kept then.
    #[serde(default)]
    pub output_failure: Option<Failure>,
    /// Where else the mount was at that moment, for people: it does not answer there any more.
    #[serde(default)]
    pub held: Vec<String>,
    /// The process that did not answer, so that its mount was taken away. It still has the session,
    /// and it is not known what is uncommitted.
    #[serde(default)]
    pub process: Option<u32>,
    /// Reads that failed while it was mounted.
    #[serde(default)]
    pub reads_failed: u64,
    /// The last of them.
    #[serde(default)]
    pub last_error: Option<LastError>,
    /// Bytes that the disk cache did not keep, because its disk was too slow, full or failing.
    #[serde(default)]
    pub not_cached: u64,
    /// What was fetched ahead of all reads while it was mounted.
    #[serde(default)]
    pub prefetch: PrefetchStats,
    /// Why the trace of the mount was not written, if one was to be.
    #[serde(default)]
    pub trace_failure: Option<String>,
    /// The file that the trace of the mount was written to, if one was named.
    #[serde(default, with = "attachfs_session::path_json::option")]
    pub trace: Option<PathBuf>,
    /// The reports that were to be written.
    #[serde(default)]
    pub reports: Vec<WrittenReport>,
    /// Where its log is now, if reads failed and it is in a file of its own.
    #[serde(default)]
    pub log: Option<PathBuf>,
    /// Whether the process goes on deleting the session; then nothing of it is needed any more unless it is `kept`.
    #[serde(default)]
    pub still_deleting: bool,
    /// Whether what waited for that process goes on waiting until it ends.
    #[serde(default)]
    pub still_waiting: bool,
}

impl UnmountReport {
    /// Of a session that was unmounted and is kept, with nothing else to tell.
    pub(crate) fn of(session: &SessionId, mount_point: PathBuf) -> Self {
        Self {
            session: session.to_string(),
            mount_point,
            kept: true,
            was_dead: false,
            was_left: false,
            ended: false,
            detached: false,
            commit_to_come: false,
            users: Vec::new(),
            uncommitted: 0,
            all_outside: false,
            set_aside: 0,
            set_aside_in: None,
            commit: None,
            commit_left_undone: false,
            commit_failure: None,
            output_failure: None,
            held: Vec::new(),
            process: None,
            reads_failed: 0,
            last_error: None,
            not_cached: 0,
            prefetch: PrefetchStats::default(),
            trace_failure: None,
            trace: None,
            reports: Vec::new(),
            log: None,
            still_deleting: false,
            still_waiting: false,
        }
    }
}
