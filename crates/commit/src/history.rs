//! The commits that a session has made, as its journal tells them.

use std::collections::HashMap;

use attachfs_manifest::ContentHash;
use attachfs_session::Session;
use attachfs_store::ManifestKey;
use attachfs_tree::Ino;
use attachfs_vfs::Vfs;
use attachfs_vfs::overlay::{CleanFile, CommitRecord, ScratchStamp};

use crate::error::CommitError;

/// A commit of a session that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// 1 for the first of the session.
    pub generation: u32,
    /// Where its manifest is.
    pub key: ManifestKey,
    /// The hash of the manifest's bytes.
    pub hash: ContentHash,
}

/// The commits of a session, the first one first.
pub fn commits(vfs: &Vfs) -> Result<Vec<Committed>, CommitError> {
    finished(&vfs.commits())
        .map(|commit| {
            Ok(Committed {
                generation: commit.generation,
                key: parse_key(commit.key)?,
                hash: commit.hash,
            })
        })
        .collect()
}

/// A commit that came to its end, as the journal has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished<'a> {
    /// 1 for the first of the session.
    pub generation: u32,
    /// The key of its manifest.
    pub key: &'a str,
    /// The hash of the manifest's bytes.
    pub hash: ContentHash,
    clean: &'a [CleanFile],
}

/// The commits that came to their end, in order: each has an intent, and a record that its manifest was published.
pub fn finished(records: &[CommitRecord]) -> impl Iterator<Item = Finished<'_>> {
    let mut intended = None;
    records.iter().filter_map(move |record| match record {
        CommitRecord::Intent {
            generation,
            key,
            hash,
            clean,
        } => {
            intended = Some(Finished {
                generation: *generation,
                key,
                hash: *hash,
                clean,
            });
            None
        }
        CommitRecord::Published { generation } => intended
            .take()
            .filter(|commit| commit.generation == *generation),
    })
}

/// The numbers of these commits.
pub(crate) fn numbers(records: &[CommitRecord]) -> Vec<u32> {
    finished(records).map(|commit| commit.generation).collect()
}

pub(crate) fn parse_key(key: &str) -> Result<ManifestKey, CommitError> {
    key.parse().map_err(|source| CommitError::Key {
        key: key.to_owned(),
        source,
    })
}

/// The bytes of a commit's manifest.
pub(crate) fn manifest_of(session: &Session, commit: &Committed) -> Result<Vec<u8>, CommitError> {
    let Committed {
        generation, hash, ..
    } = commit;
    Ok(Session::read_commit(session.dir(), *generation, *hash)?)
}

/// The scratch files that the last finished commit published, with the stamps that they had.
pub fn last_clean(records: &[CommitRecord]) -> HashMap<Ino, ScratchStamp> {
    let clean = last_published(records).1.into_iter();
    clean.map(|file| (file.ino, file.stamp)).collect()
}

/// The files that the last finished commit found clean, and its generation.
pub(crate) fn last_published(records: &[CommitRecord]) -> (u32, Vec<CleanFile>) {
    let last = finished(records).last();
    last.map_or_else(Default::default, |commit| {
        (commit.generation, commit.clean.to_vec())
    })
}
