//! The one step that others see.

use attachfs_manifest::ContentHash;
use attachfs_manifest::wire::{Format, encode_diff};
use attachfs_session::Session;
use attachfs_store::{ManifestKey, ManifestStore, Metadata, StoreError};
use attachfs_transfer::{PublishError, publish_manifest};
use attachfs_vfs::Vfs;
use attachfs_vfs::overlay::{CleanFile, CommitRecord};
use bytes::Bytes;

use crate::generations::{Before, diff_of, encode_total, parent_hash};
use crate::readback::read_back;
use crate::{Account, Commit, CommitError, Observer, OpenSession, Step, Uploaded};

/// A manifest that is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Which, and where.
    pub committed: Committed,
    /// What it says; of a commit that was resumed after its uploads, only the counts of changes.
    pub account: Account,
}

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

fn parse_key(key: &str) -> Result<ManifestKey, CommitError> {
    key.parse().map_err(|source| CommitError::Key {
        key: key.to_owned(),
        source,
    })
}

/// The key of a session's commit.
fn key_of(session: &Session, generation: u32) -> Result<ManifestKey, CommitError> {
    parse_key(&format!(
        "attachfs/{}/{generation}.manifest",
        session.meta().id
    ))
}

impl Commit<Uploaded> {
    /// Publishes the manifest; `None` if nothing changed since the commit before.
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
            steps,
            total,
            mut account,
            clean,
        } = state;
        let (session, vfs) = (open.session(), open.vfs());
        let tree = frozen.namespace().base();
        for step in &steps {
            account.count(step.before.as_ref(), step.after.as_ref());
        }
        if steps.is_empty() {
            vfs.accept(&terms.accepted)?;
            return Ok((None, account));
        }
        let mut layers = vfs.layers().map_err(Box::new)?;
        // One that was added since is not in what was frozen.
        layers.truncate(tree.layers() as usize - 1);
        let parent = parent_hash(session, &layers, tree, generation)?;
        let bytes = encode_diff(&diff_of(tree, &steps, Some(parent))?, Format::V2025_12)?;
        let earlier = commits(vfs)?;
        let earlier = earlier.iter().map(|commit| manifest_of(session, commit));
        let earlier: Vec<_> = earlier.collect::<Result<_, _>>()?;
        read_back(tree, &earlier, &bytes, &total)?;
        if let Some(key) = &terms.options.publish_as {
            // Before anything is published, so that another key can be given.
            check_free(store, key, ContentHash::of(&bytes)).await?;
        }
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

/// The bytes of a commit's manifest.
pub(crate) fn manifest_of(session: &Session, commit: &Committed) -> Result<Vec<u8>, CommitError> {
    let Committed {
        generation, hash, ..
    } = commit;
    Ok(Session::read_commit(session.dir(), *generation, *hash)?)
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

/// Puts the manifest of a finished commit under another key, too.
pub(crate) async fn publish_as(
    session: &Session,
    store: &dyn ManifestStore,
    commit: &Committed,
    key: &ManifestKey,
) -> Result<(), CommitError> {
    let bytes = manifest_of(session, commit)?;
    send(store, key, bytes.into()).await
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
        observer.step(Step::Sent);
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
    let before = Before::load(session, generation - 1)?;
    let after = Before::load(session, generation)?.into_total();
    let frozen = vfs.freeze().ok_or(CommitError::ReadOnly)?;
    for step in before.steps(frozen.namespace().base(), &after) {
        account.count(step.before.as_ref(), step.after.as_ref());
    }
    Ok(account)
}

/// The files that the last finished commit found clean, and its generation.
pub(crate) fn last_published(records: &[CommitRecord]) -> (u32, Vec<CleanFile>) {
    let last = finished(records).last();
    last.map_or_else(Default::default, |commit| {
        (commit.generation, commit.clean.to_vec())
    })
}
