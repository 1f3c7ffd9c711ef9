//! What goes to the store: first every chunk, sent or confirmed, then the manifest, which is the one step that other
//! readers see.
//!
//! [`Commit<Hashed>::upload`](Commit::upload) is the only way to an [`Uploaded`], and [`publish`](Commit::publish) exists only on
//! that. Before the PUT the intent is durable in the journal; [`Unfinished`](crate::unfinished::Unfinished) is an intent whose commit was interrupted. An intent is dropped by the
//! next one: if another manifest has its key, its own can never be published, and the commit gets the next free number.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;

use attachfs_durable::{path_of_bytes, read_own_file};
use attachfs_manifest::wire::{Format, Manifest, encode_diff};
use attachfs_manifest::{ChunkSize, ContentHash, File, Node};
use attachfs_session::{Session, SessionError};
use attachfs_store::{ManifestKey, ManifestStore, Metadata, StoreError};
use attachfs_transfer::{ChunkSource, PublishError, TransferError, Uploader, publish_manifest};
use attachfs_tree::LayeredBase;
use attachfs_vfs::overlay::{CleanFile, CommitRecord};
use bytes::Bytes;

use crate::account::Account;
use crate::error::{CommitError, OpenFile};
use crate::generations::{Before, NodeChange, diff_of, encode_total, parent_hash};
use crate::handed::{handed_over, of_files};
use crate::hash::{Hashed, HashedFile};
use crate::history::{Committed, commits, manifest_of, numbers, parse_key};
use crate::node::Changes;
use crate::open::OpenSession;
use crate::plan::{Planned, leave_out};
use crate::readback::read_back;
use crate::states::{Commit, CommitStep, HandedFormat, Observer};
use crate::tainted::{refuse_cut, refuse_tainted};

/// The state of a commit all of whose chunks are confirmed to be in the store. Only this can be
/// published.
#[derive(Debug)]
pub struct Uploaded {
    /// The result of the earlier commits.
    pub(crate) before: Before,
    /// Since the commit before.
    pub(crate) node_changes: Vec<NodeChange>,
    /// All changes relative to the base.
    pub(crate) total: Changes,
    pub(crate) account: Account,
    pub(crate) clean: Vec<CleanFile>,
}

/// The error of an upload with the file's path in the mount instead of that of its scratch file.
fn in_the_mount(error: TransferError, scratch: &HashMap<PathBuf, HashedFile>) -> TransferError {
    let in_mount = |path: PathBuf| {
        let file = scratch.get(&path);
        let shown = file.and_then(|file| file.paths.first());
        shown.map_or(path, |shown| path_of_bytes(shown.as_bytes()))
    };
    match error {
        TransferError::Read { path, source } => TransferError::Read {
            path: in_mount(path),
            source,
        },
        TransferError::Store { path, source } => TransferError::Store {
            path: in_mount(path),
            source,
        },
        TransferError::TooLarge { path, size } => TransferError::TooLarge {
            path: in_mount(path),
            size,
        },
        error => error,
    }
}

impl Commit<Hashed> {
    /// Sends written objects that the store lacks, and confirms that the kept objects of the base
    /// are still there.
    pub async fn upload(
        self,
        uploader: &Uploader,
        observer: &dyn Observer,
    ) -> Result<Commit<Uploaded>, CommitError> {
        let Self {
            session,
            frozen,
            generation,
            terms,
            state,
        } = self;
        let Hashed {
            mut changes,
            mut left,
            mut account,
            mut clean,
            mut written,
            mut scratch,
            assemblies,
        } = state;
        let tree = frozen.namespace().base();
        let chunk_size = tree.chunk_size();
        let earlier = numbers(&session.vfs().commits());
        let before = Before::load(session.session(), &earlier, tree)?;
        let (total, node_changes, named, sent, report) = loop {
            let total = before.keep(tree, changes.clone(), &left);
            let node_changes = before.node_changes(tree, &total);
            refuse_tainted(&session, &terms.options, &node_changes)?;
            refuse_cut(&session, &terms.options)?;
            if terms.options.format == HandedFormat::Files && !node_changes.is_empty() {
                // What cannot be written is told before anything is sent.
                of_files(&Manifest::Diff(diff_of(tree, &node_changes, None)?))?;
            }
            let files = node_changes
                .iter()
                .filter_map(|change| match &change.after {
                    Some(Node::File(file)) => Some(file),
                    _ => None,
                });
            let named = named_objects(files, chunk_size);
            let wanted = written
                .iter()
                .filter(|chunk| named.contains_key(&chunk.hash));
            let wanted: Vec<ChunkSource> = wanted.cloned().collect();
            let sent: HashSet<ContentHash> = wanted.iter().map(|chunk| chunk.hash).collect();
            let (file, path) = match uploader.upload_missing(wanted, observer).await {
                Ok(report) => break (total, node_changes, named, sent, report),
                Err(TransferError::Changed { path }) => match scratch.remove(&path) {
                    Some(file) => (file, path),
                    None => return Err(TransferError::Changed { path }.into()),
                },
                Err(error) => return Err(in_the_mount(error, &scratch).into()),
            };
            if !terms.leaves_out() {
                let open = file.paths.into_iter().map(OpenFile::from);
                return Err(CommitError::Busy(open.collect()));
            }
            changes.retain(|(changed, _)| !file.paths.contains(changed));
            clean.retain(|clean| clean.ino != file.ino);
            written.retain(|chunk| chunk.source.path != path);
            leave_out(file.paths, &mut left, &mut account);
        };
        drop(assemblies);
        let kept = named.into_iter().filter(|(hash, _)| !sent.contains(hash));
        let kept: Vec<_> = kept.collect();
        uploader.confirm(&kept, observer).await?;
        account.uploaded_objects = report.uploaded.count;
        account.uploaded_bytes = report.uploaded.bytes;
        account.early_objects = report.expected.count;
        account.early_bytes = report.expected.bytes;
        account.present_objects = report.already_there.count + kept.len() as u64;
        account.present_bytes =
            report.already_there.bytes + kept.iter().map(|&(_, len)| len).sum::<u64>();
        Ok(Commit {
            session,
            frozen,
            generation,
            terms,
            state: Uploaded {
                before,
                node_changes,
                total,
                account,
                clean,
            },
        })
    }
}

/// The objects of some files, and their lengths.
pub(crate) fn named_objects(
    files: impl IntoIterator<Item = impl Borrow<File>>,
    chunk_size: ChunkSize,
) -> HashMap<ContentHash, u64> {
    let mut named = HashMap::new();
    for file in files {
        named.extend(objects(file.borrow(), chunk_size));
    }
    named
}

/// The objects of a file and their lengths.
pub(crate) fn objects(
    file: &File,
    chunk_size: ChunkSize,
) -> impl Iterator<Item = (ContentHash, u64)> {
    let cut = if file.content.hashes().len() > 1 {
        chunk_size
    } else {
        ChunkSize::WholeFile
    };
    file.content
        .hashes()
        .iter()
        .copied()
        .zip(cut.ranges(file.size).map(|range| range.end - range.start))
}

/// A manifest that is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Generation, key and hash.
    pub committed: Committed,
    /// The numbers of the commit; only those of changes if it was resumed after its uploads.
    pub account: Account,
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
            account.count(change);
        }
        if node_changes.is_empty() {
            vfs.accept(&terms.accepted)?;
            forget_accepted_cut(session)?;
            open.early().nothing_new(clean);
            return Ok((None, account));
        }
        // What was read meanwhile counts, too.
        refuse_tainted(&open, &terms.options, &node_changes)?;
        let bytes = diff_manifest(&open, tree, &before, &node_changes)?;
        read_back(tree, &earlier_manifests(&open, &before)?, &bytes, &total)?;
        if let Some(key) = &terms.options.publish_as {
            // Checked before anything is published, so that another key can be given.
            let handed = handed_over(&bytes, terms.options.format)?;
            check_free(store, key, ContentHash::of(&handed)).await?;
        }
        if terms.options.format == HandedFormat::Files {
            account.name_dropped(&node_changes);
        }
        let bytes = Bytes::from(bytes);
        let total = encode_total(&total);
        let last = generation.saturating_add(MOST_TAKEN);
        let mut number = generation;
        let committed = loop {
            number = next_free(session, number, &bytes)?;
            // The reserve is for these writes.
            vfs.release_reserve();
            Session::write_durably(&session.commit_total(number), &total)?;
            Session::write_durably(&session.commit_manifest(number), &bytes)?;
            let committed = Committed {
                generation: number,
                key: key_of(session, number)?,
                hash: ContentHash::of(&bytes),
            };
            // An intent before this one is dropped by it.
            vfs.record_commit(CommitRecord::Intent {
                generation: number,
                key: committed.key.to_string(),
                hash: committed.hash,
                clean: clean.clone(),
            })?;
            vfs.refill_reserve();
            observer.step(CommitStep::Intended);
            match send(store, &committed.key, bytes.clone()).await {
                Ok(()) => break committed,
                Err(error) if is_taken(&error) && number < last => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the commit gets another number"
                    );
                    number = next_unpublished(session, store, number + 1, last).await?;
                }
                Err(error) => return Err(error),
            }
        };
        observer.step(CommitStep::Sent);
        vfs.accept(&terms.accepted)?;
        vfs.record_commit(CommitRecord::Published { generation: number })?;
        forget_accepted_cut(session)?;
        let hashed = clean.iter().map(|file| file.ino);
        open.early().committed(hashed);
        let published = Published {
            committed,
            account: account.clone(),
        };
        Ok((Some(published), account))
    }
}

/// A commit came so far: if the journal was cut off, that was accepted.
fn forget_accepted_cut(session: &Session) -> Result<(), SessionError> {
    if session.is_cut()? {
        session.forget_cut()?;
    }
    Ok(())
}

/// How many numbers of commits are tried that the store has already.
const MOST_TAKEN: u32 = 1000;

/// The first number from this one on under which the session keeps no other manifest: its journal may have lost the commit that it is of.
fn next_free(session: &Session, from: u32, bytes: &[u8]) -> Result<u32, CommitError> {
    for number in from.. {
        let kept = match read_own_file(&session.commit_manifest(number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(number),
            kept => kept.map_err(SessionError::from)?,
        };
        if kept == bytes {
            return Ok(number);
        }
    }
    Err(CommitError::Damaged(format!(
        "{} has no free number for a commit",
        session.dir().display()
    )))
}

/// The first number from this one on, up to `last`, of which the store has no manifest, or does not say.
async fn next_unpublished(
    session: &Session,
    store: &dyn ManifestStore,
    from: u32,
    last: u32,
) -> Result<u32, CommitError> {
    for number in from..last {
        // Where the store cannot be asked, sending tells.
        if store.get_manifest(&key_of(session, number)?).await.is_err() {
            return Ok(number);
        }
    }
    Ok(last)
}

/// The hash of the manifest under a key; `None` if there is none.
pub(crate) async fn stored_hash(
    store: &dyn ManifestStore,
    key: &ManifestKey,
) -> Result<Option<ContentHash>, CommitError> {
    match store.get_manifest(key).await {
        Ok(stored) => Ok(Some(ContentHash::of(&stored.bytes))),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(source) => {
            let key = key.clone();
            Err(PublishError::Store { key, source }.into())
        }
    }
}

/// Whether another manifest has the key: that of a commit which the session does not know of any more, because its journal lost it, or because
/// the session was restored from a copy. The manifest that was to be there was never published, and never will be.
pub(crate) fn is_taken(error: &CommitError) -> bool {
    matches!(
        error,
        CommitError::Publish(PublishError::Conflict { .. } | PublishError::OtherMetadata { .. })
    )
}

/// The changes as a diff manifest, whose parent is what readers have without it.
pub(crate) fn diff_manifest(
    open: &OpenSession,
    tree: &LayeredBase,
    before: &Before,
    node_changes: &[NodeChange],
) -> Result<Vec<u8>, CommitError> {
    let diff = diff_of(tree, node_changes, Some(parent_of(open, tree, before)?))?;
    Ok(encode_diff(&diff, Format::V2025_12)?)
}

/// The hash of what readers have without the next diff.
fn parent_of(
    open: &OpenSession,
    tree: &LayeredBase,
    before: &Before,
) -> Result<ContentHash, CommitError> {
    let mut layers = open.vfs().layers().map_err(Box::new)?;
    // A layer that was added later is not in the frozen copy.
    layers.truncate(tree.layers() as usize - 1);
    parent_hash(open.session(), &layers, tree, before)
}

impl Commit<Planned> {
    /// Fails if another parent is expected than the next diff will have. Nothing was sent before.
    pub(crate) fn check_parent(&self) -> Result<(), CommitError> {
        let Some(expected) = self.terms.options.expect_parent else {
            return Ok(());
        };
        let tree = self.frozen.namespace().base();
        let earlier = numbers(&self.session.vfs().commits());
        let before = Before::load(self.session.session(), &earlier, tree)?;
        same_parent(expected, parent_of(&self.session, tree, &before)?)
    }
}

pub(crate) fn same_parent(expected: ContentHash, found: ContentHash) -> Result<(), CommitError> {
    if found == expected {
        return Ok(());
    }
    Err(CommitError::Parent { expected, found })
}

/// The manifests of the earlier commits that the next one goes on from.
pub(crate) fn earlier_manifests(
    open: &OpenSession,
    before: &Before,
) -> Result<Vec<Vec<u8>>, CommitError> {
    let goes_on = |commit: &&Committed| {
        before
            .since()
            .is_some_and(|first| first <= commit.generation)
    };
    let commits = commits(open.vfs())?;
    let earlier = commits.iter().filter(goes_on);
    earlier
        .map(|commit| manifest_of(open.session(), commit))
        .collect()
}

/// The key of a session's commit.
fn key_of(session: &Session, generation: u32) -> Result<ManifestKey, CommitError> {
    parse_key(&format!(
        "attachfs/{}/{generation}.manifest",
        session.meta().id
    ))
}

/// Fails if a manifest with another hash is under a key.
async fn check_free(
    store: &dyn ManifestStore,
    key: &ManifestKey,
    expected: ContentHash,
) -> Result<(), CommitError> {
    let found = match stored_hash(store, key).await? {
        Some(found) if found != expected => found,
        _ => return Ok(()),
    };
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
    format: HandedFormat,
) -> Result<(), CommitError> {
    let bytes = handed_over(&manifest_of(session, commit)?, format)?;
    send(store, key, bytes.into()).await
}

/// Sends a manifest.
pub(crate) async fn send(
    store: &dyn ManifestStore,
    key: &ManifestKey,
    bytes: Bytes,
) -> Result<(), CommitError> {
    publish_manifest(store, key, bytes, &Metadata::new()).await?;
    Ok(())
}
