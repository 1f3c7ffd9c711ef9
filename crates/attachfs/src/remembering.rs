//! What a session published, written down before it is deleted.

use std::io;
use std::path::Path;

use attachfs_commit::finished;
use attachfs_session::{EndedCommit, Session, SessionMeta};
use attachfs_store::{ManifestAddress, ManifestKey, StoreAddress};
use attachfs_vfs::overlay::{CommitRecord, Journal, JournalError, Record};

use crate::error::Error;
use crate::places::Places;

/// Writes down, durably, what a session published that is about to be deleted; nothing if it published
/// nothing.
pub(crate) fn remember(
    places: &Places,
    meta: &SessionMeta,
    records: &[CommitRecord],
) -> Result<(), Error> {
    let commits = published(records, &meta.store.address);
    let now = attachfs_vfs::now().seconds;
    Ok(places.sessions().ended().add(meta, commits, now)?)
}

/// Writes down, durably, that a session is about to be deleted with all that was not committed, and what it published.
pub(crate) fn remember_discarded(
    places: &Places,
    meta: &SessionMeta,
    records: &[CommitRecord],
) -> Result<(), Error> {
    let remembered = remember(places, meta, records);
    // Whether or not the first could be written.
    places.sessions().ended().add_discarded(&meta.id)?;
    remembered
}

/// What the records of commits say was published.
fn published(records: &[CommitRecord], store: &str) -> Vec<EndedCommit> {
    let commits = finished(records).map(|commit| EndedCommit {
        generation: commit.generation,
        address: address_of(commit.key, store).unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "the key of a manifest is written down instead of its address"
            );
            commit.key.to_owned()
        }),
        key: commit.key.to_owned(),
        hash: commit.hash.to_string(),
    });
    commits.collect()
}

fn address_of(key: &str, store: &str) -> Result<String, Error> {
    let (store, key): (StoreAddress, ManifestKey) = (store.parse()?, key.parse()?);
    Ok(ManifestAddress { store, key }.to_string())
}

/// Says that what a session published could not be written down, on a full disk for example. That must not
/// keep a session that its user gives up.
pub(crate) fn not_remembered(error: &Error) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "what the session published is not kept in the list of ended sessions"
    );
}

/// As [`remember_discarded`], for a session that no process has mounted.
pub(crate) fn remember_left(places: &Places, session: &Session) -> Result<(), Error> {
    let records = match commits_in(&session.journal_path()) {
        // A read-only session has no journal, and a half deleted one has none any more.
        Err(JournalError::Durable(error)) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        records => records.map_err(attachfs_vfs::OpenError::from)?,
    };
    remember_discarded(places, session.meta(), &records)
}

/// The records of commits that a journal has.
pub(crate) fn commits_in(journal: &Path) -> Result<Vec<CommitRecord>, JournalError> {
    let mut journal = Journal::read(journal)?;
    let mut commits = Vec::new();
    while let Some(record) = journal.next_record()? {
        if let Record::Commit(commit) = record {
            commits.push(commit);
        }
    }
    Ok(commits)
}
