//! The one step that others see.

use std::sync::Arc;

use attachfs_durable::read_own_file;
use attachfs_manifest::ContentHash;
use attachfs_manifest::wire::{Format, encode_diff};
use attachfs_store::{ManifestKey, ManifestStore, Metadata};
use attachfs_transfer::publish_manifest;
use attachfs_vfs::overlay::{CleanFile, CommitRecord};
use attachfs_vfs::{Session, SessionError, Vfs};
use bytes::Bytes;

use crate::generations::{Before, diff_of, encode_total, parent_hash};
use crate::{Account, Commit, CommitError, Observer, Step, Uploaded};

/// A manifest that is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Where.
    pub key: ManifestKey,
    /// The hash of its bytes.
    pub hash: ContentHash,
    /// What it says; of a commit that was resumed after its uploads, only the counts of changes.
    pub account: Account,
}

/// The key of a session's commit.
fn key_of(session: &Session, generation: u32) -> Result<ManifestKey, CommitError> {
    let key = format!("attachfs/{}/{generation}.manifest", session.meta().id);
    key.parse()
        .map_err(|_| CommitError::Damaged(format!("\"{key}\" is no key")))
}

impl Commit<Uploaded> {
    /// Publishes the manifest; `None` if nothing changed since the commit before.
    pub async fn publish(
        self,
        store: &dyn ManifestStore,
        observer: &dyn Observer,
    ) -> Result<(Option<Published>, Account), CommitError> {
        let Self {
            vfs,
            frozen,
            generation,
            terms,
            state,
        } = self;
        let Uploaded {
            steps,
            total,
            mut account,
            clean,
        } = state;
        let session = vfs.session().ok_or(CommitError::ReadOnly)?;
        let tree = frozen.namespace().base();
        for step in &steps {
            account.count(step.before.as_ref(), step.after.as_ref());
        }
        if steps.is_empty() {
            vfs.accept(&terms.accepted)?;
            return Ok((None, account));
        }
        let parent = parent_hash(session, tree, generation)?;
        let bytes = encode_diff(&diff_of(tree, &steps, Some(parent))?, Format::V2025_12)?;
        // This is what the room is held for.
        vfs.release_reserve();
        Session::write_durably(&session.commit_total(generation), &encode_total(&total))?;
        Session::write_durably(&session.commit_manifest(generation), &bytes)?;
        let hash = ContentHash::of(&bytes);
        let key = key_of(session, generation)?;
        let intent = CommitRecord::Intent {
            generation,
            key: key.to_string(),
            hash,
            clean,
        };
        vfs.record_commit(intent)?;
        vfs.refill_reserve();
        observer.step(Step::Intended);
        send(store, &key, bytes.into()).await?;
        observer.step(Step::Sent);
        vfs.accept(&terms.accepted)?;
        vfs.record_commit(CommitRecord::Published { generation })?;
        Ok((
            Some(Published {
                key,
                hash,
                account: account.clone(),
            }),
            account,
        ))
    }
}

/// Sends a manifest to a key that is its own.
async fn send(
    store: &dyn ManifestStore,
    key: &ManifestKey,
    bytes: Bytes,
) -> Result<(), CommitError> {
    publish_manifest(store, key, bytes, &Metadata::new()).await?;
    Ok(())
}

/// A commit whose intent is recorded and whose end is not.
#[derive(Debug)]
pub(crate) struct Unfinished {
    generation: u32,
    key: String,
    hash: ContentHash,
}

impl Unfinished {
    /// The session's unfinished commit.
    pub(crate) fn find(vfs: &Vfs) -> Option<Self> {
        match vfs.commits().pop()? {
            CommitRecord::Intent {
                generation,
                key,
                hash,
                clean: _,
            } => Some(Self {
                generation,
                key,
                hash,
            }),
            CommitRecord::Published { .. } => None,
        }
    }

    /// Finishes it. Its chunks were confirmed before the intent was recorded.
    pub(crate) async fn finish(
        self,
        vfs: &Arc<Vfs>,
        store: &dyn ManifestStore,
        observer: &dyn Observer,
    ) -> Result<Published, CommitError> {
        let Self {
            generation,
            key,
            hash,
        } = self;
        let session = vfs.session().ok_or(CommitError::ReadOnly)?;
        let path = session.commit_manifest(generation);
        let bytes = read_own_file(&path).map_err(SessionError::from)?;
        if ContentHash::of(&bytes) != hash {
            return Err(CommitError::Damaged(format!(
                "{} is not what was recorded",
                path.display()
            )));
        }
        let key: ManifestKey = key
            .parse()
            .map_err(|_| CommitError::Damaged(format!("\"{key}\" is no key")))?;
        let account = account_of(vfs, session, generation)?;
        send(store, &key, bytes.into()).await?;
        observer.step(Step::Sent);
        vfs.record_commit(CommitRecord::Published { generation })?;
        Ok(Published { key, hash, account })
    }
}

fn account_of(vfs: &Vfs, session: &Session, generation: u32) -> Result<Account, CommitError> {
    let mut account = Account::default();
    let before = Before::load(session, generation - 1)?;
    let after = Before::load(session, generation)?.into_total();
    let frozen = vfs.freeze().ok_or(CommitError::ReadOnly)?;
    for step in before.steps(frozen.namespace().base(), &after) {
        account.count(step.before.as_ref(), step.after.as_ref());
    }
    Ok(account)
}

/// The files that the last finished commit found clean, and its generation.
pub(crate) fn last_published(commits: &[CommitRecord]) -> (u32, Vec<CleanFile>) {
    let mut intended = Vec::new();
    let mut last = (0, Vec::new());
    for step in commits {
        match step {
            CommitRecord::Intent { clean, .. } => intended.clone_from(clean),
            CommitRecord::Published { generation } => {
                last = (*generation, std::mem::take(&mut intended));
            }
        }
    }
    last
}
