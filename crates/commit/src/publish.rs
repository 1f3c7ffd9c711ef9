//! Publishing: the one step that other readers see.

use attachfs_manifest::ContentHash;
use attachfs_manifest::wire::{Format, encode_diff};
use attachfs_session::Session;
use attachfs_store::{ManifestKey, ManifestStore, Metadata, StoreError};
use attachfs_transfer::{PublishError, publish_manifest};
use attachfs_vfs::Vfs;
use attachfs_vfs::overlay::CommitRecord;
use bytes::Bytes;

use crate::account::Account;
use crate::error::CommitError;
use crate::generations::{Before, diff_of, encode_total, parent_hash, read_total};
use crate::history::{Committed, commits, manifest_of, parse_key};
use crate::open::OpenSession;
use crate::readback::read_back;
use crate::states::{Commit, CommitStep, Observer};
use crate::upload::Uploaded;

/// A manifest that is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Generation, key and hash.
    pub committed: Committed,
    /// The numbers of the commit; only those of changes if it was resumed after its uploads.
    pub account: Account,
}

/// The key of a session's commit.
fn key_of(session: &Session, generation: u32) -> Result<ManifestKey, CommitError> {
    parse_key(&format!(
        "attachfs/{}/{generation}.manifest",
        session.meta().id
    ))
}

impl Commit<Uploaded> {
    /// Publishes the manifest; `None` if there are no changes since the commit before.
    pub async fn publish(
        self,
        store: &dyn ManifestStore,
        observer: &dyn Observer,
    ) -> Result<(Option<Published>, Account), CommitError> {
        let Self {
            session: open,
            frozen,
            generation,
            terms,
            state,
        } = self;
        let Uploaded {
            before,
            node_changes,
            total,
            mut account,
            clean,
        } = state;
        let (session, vfs) = (open.session(), open.vfs());
        let tree = frozen.namespace().base();
        for change in &node_changes {
            account.count(change.before.as_ref(), change.after.as_ref());
        }
        if node_changes.is_empty() {
            vfs.accept(&terms.accepted)?;
            return Ok((None, account));
        }
        let mut layers = vfs.layers().map_err(Box::new)?;
        // A layer that was added later is not in the frozen copy.
        layers.truncate(tree.layers() as usize - 1);
        let parent = parent_hash(session, &layers, tree, &before)?;
        let bytes = encode_diff(
            &diff_of(tree, &node_changes, Some(parent))?,
            Format::V2025_12,
        )?;
        let earlier = commits(vfs)?;
        let goes_on = |commit: &&Committed| {
            before
                .since()
                .is_some_and(|first| first <= commit.generation)
        };
        let earlier = earlier.iter().filter(goes_on);
        let earlier = earlier.map(|commit| manifest_of(session, commit));
        let earlier: Vec<_> = earlier.collect::<Result<_, _>>()?;
        read_back(tree, &earlier, &bytes, &total)?;
        if let Some(key) = &terms.options.publish_as {
            // Checked before anything is published, so that another key can be given.
            check_free(store, key, ContentHash::of(&bytes)).await?;
        }
        // The reserve is for these writes.
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
        observer.step(CommitStep::Intended);
        send(store, &key, bytes.into()).await?;
        observer.step(CommitStep::Sent);
        vfs.accept(&terms.accepted)?;
        vfs.record_commit(CommitRecord::Published { generation })?;
        Ok((
            Some(Published {
                committed: Committed {
                    generation,
                    key,
                    hash,
                },
                account: account.clone(),
            }),
            account,
        ))
    }
}

/// Fails if a manifest with another hash is under a key.
async fn check_free(
    store: &dyn ManifestStore,
    key: &ManifestKey,
    expected: ContentHash,
) -> Result<(), CommitError> {
    let found = match store.get_manifest(key).await {
        Ok(stored) => ContentHash::of(&stored.bytes),
        Err(StoreError::NotFound { .. }) => return Ok(()),
        Err(source) => {
            let key = key.clone();
            return Err(PublishError::Store { key, source }.into());
        }
    };
    if found == expected {
        return Ok(());
    }
    let key = key.clone();
    Err(PublishError::Conflict {
        key,
        expected,
        found,
    }
    .into())
}

/// Puts the manifest of a finished commit under another key too.
pub(crate) async fn publish_as(
    session: &Session,
    store: &dyn ManifestStore,
    commit: &Committed,
    key: &ManifestKey,
) -> Result<(), CommitError> {
    let bytes = manifest_of(session, commit)?;
    send(store, key, bytes.into()).await
}

/// Sends a manifest to the session's own key.
async fn send(
    store: &dyn ManifestStore,
    key: &ManifestKey,
    bytes: Bytes,
) -> Result<(), CommitError> {
    publish_manifest(store, key, bytes, &Metadata::new()).await?;
    Ok(())
}

/// A commit with a recorded intent and no recorded end.
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

    /// Finishes the commit. Its chunks were confirmed before the intent was recorded.
    pub(crate) async fn finish(
        self,
        open: &OpenSession,
        store: &dyn ManifestStore,
        observer: &dyn Observer,
    ) -> Result<Published, CommitError> {
        let Self {
            generation,
            key,
            hash,
        } = self;
        let (session, vfs) = (open.session(), open.vfs());
        let bytes = Session::read_commit(session.dir(), generation, hash)?;
        let key = parse_key(&key)?;
        let account = account_of(vfs, session, generation)?;
        send(store, &key, bytes.into()).await?;
        observer.step(CommitStep::Sent);
        vfs.record_commit(CommitRecord::Published { generation })?;
        let committed = Committed {
            generation,
            key,
            hash,
        };
        Ok(Published { committed, account })
    }
}

fn account_of(vfs: &Vfs, session: &Session, generation: u32) -> Result<Account, CommitError> {
    let mut account = Account::default();
    let frozen = vfs.freeze().ok_or(CommitError::ReadOnly)?;
    let tree = frozen.namespace().base();
    let before = Before::load(session, generation - 1, tree)?;
    let after = read_total(session, generation)?;
    for change in before.node_changes(tree, &after) {
        account.count(change.before.as_ref(), change.after.as_ref());
    }
    Ok(account)
}
