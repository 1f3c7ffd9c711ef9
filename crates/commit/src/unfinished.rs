//! A commit that was interrupted after its intent was recorded: its manifest may be in the store, or not.
//!
//! What it is follows from the bytes of its manifest, which the session has kept, and not from the mount: that may show something else by now.

use attachfs_manifest::wire::{Manifest, decode};
use attachfs_manifest::{Change, ContentHash, Diff, Node};
use attachfs_session::Session;
use attachfs_store::{ManifestKey, ManifestStore};
use attachfs_transfer::Uploader;
use attachfs_vfs::Vfs;
use attachfs_vfs::overlay::{CleanFile, CommitRecord};

use crate::account::Account;
use crate::error::CommitError;
use crate::generations::{Before, NodeChange};
use crate::history::{Committed, numbers, parse_key};
use crate::open::OpenSession;
use crate::publish::{Published, is_taken, named_objects, same_parent, send, stored_hash};
use crate::resend::{Resent, send_again};
use crate::states::{CommitOptions, CommitStep, Observer};

/// A commit with a recorded intent and no recorded end.
#[derive(Debug)]
pub(crate) struct Unfinished {
    generation: u32,
    key: String,
    hash: ContentHash,
    /// The files whose bytes it has.
    clean: Vec<CleanFile>,
}

impl Unfinished {
    /// The session's unfinished commit.
    pub(crate) fn find(vfs: &Vfs) -> Option<Self> {
        match vfs.commits().pop()? {
            CommitRecord::Intent {
                generation,
                key,
                hash,
                clean,
            } => Some(Self {
                generation,
                key,
                hash,
                clean,
            }),
            CommitRecord::Published { .. } => None,
        }
    }

    /// Finishes the commit, once the store has all its objects: that they were confirmed before the intent may be long ago, and what
    /// answered then may not have been the store. What the store lacks is sent again. Fails if another parent of its diff is expected, if its key is
    /// taken, and if nobody has the bytes of an object any more.
    pub(crate) async fn finish(
        self,
        open: &OpenSession,
        store: &dyn ManifestStore,
        uploader: &Uploader,
        options: &CommitOptions,
        observer: &dyn Observer,
    ) -> Result<Published, NotFinished> {
        let Self {
            generation,
            key,
            hash,
            clean,
        } = self;
        let (session, vfs) = (open.session(), open.vfs());
        let bytes = Session::read_commit(session.dir(), generation, hash)?;
        let key = parse_key(&key)?;
        let (_, Manifest::Diff(diff)) = decode(&bytes)? else {
            let damaged = CommitError::Damaged(format!("the commit \"{key}\" is no diff"));
            return Err(damaged.into());
        };
        if let (Some(expected), Some(found)) = (options.expect_parent, diff.parent()) {
            same_parent(expected, found)?;
        }
        let mut account = account_of(&diff, open)?;
        let files = diff.changes().filter_map(|(_, change)| match change {
            Change::Put(Node::File(file)) => Some(file),
            _ => None,
        });
        let named = named_objects(files, diff.chunk_size());
        let named: Vec<_> = named.into_iter().collect();
        let lacking = uploader.lacking(&named, observer).await?;
        if !lacking.is_empty() {
            let sent = send_again(open, &diff, &lacking, &clean, options, uploader, observer);
            match sent.await {
                Ok(Resent { report, lost }) if lost.is_empty() => {
                    account.uploaded_objects = report.uploaded.count;
                    account.uploaded_bytes = report.uploaded.bytes;
                }
                Ok(Resent { lost: objects, .. }) => {
                    let may_be_public = may_be_public(store, &key, hash).await;
                    let error = CommitError::Lost {
                        objects,
                        key,
                        may_be_public,
                    };
                    return Err(NotFinished::anew_unless(may_be_public, error));
                }
                Err(error @ CommitError::Busy(_)) => {
                    let may_be_public = may_be_public(store, &key, hash).await;
                    return Err(NotFinished::anew_unless(may_be_public, error));
                }
                Err(error) => return Err(error.into()),
            }
        }
        send(store, &key, bytes.into()).await?;
        observer.step(CommitStep::Sent);
        vfs.record_commit(CommitRecord::Published { generation })?;
        open.early().committed(clean.iter().map(|file| file.ino));
        let committed = Committed {
            generation,
            key,
            hash,
        };
        Ok(Published { committed, account })
    }
}

/// Why a commit was not finished.
#[derive(Debug)]
pub(crate) struct NotFinished {
    pub(crate) error: CommitError,
    /// Its manifest is not public, and never will be.
    pub(crate) is_to_begin_anew: bool,
}

impl NotFinished {
    /// A commit that was begun anew would be the sibling of one that readers may have seen.
    fn anew_unless(may_be_public: bool, error: CommitError) -> Self {
        Self {
            error,
            is_to_begin_anew: !may_be_public,
        }
    }
}

/// Whether readers may have a manifest. If the store does not tell, they may.
async fn may_be_public(store: &dyn ManifestStore, key: &ManifestKey, hash: ContentHash) -> bool {
    match stored_hash(store, key).await {
        Ok(found) => found == Some(hash),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "whether a manifest is in the store cannot be told");
            true
        }
    }
}

impl<E: Into<CommitError>> From<E> for NotFinished {
    fn from(error: E) -> Self {
        let error = error.into();
        let is_to_begin_anew = is_taken(&error);
        Self {
            error,
            is_to_begin_anew,
        }
    }
}

/// The numbers of a commit.
fn account_of(diff: &Diff, open: &OpenSession) -> Result<Account, CommitError> {
    let mut account = Account::default();
    let frozen = open.vfs().freeze().ok_or(CommitError::ReadOnly)?;
    let tree = frozen.namespace().base();
    let before = Before::load(open.session(), &numbers(&open.vfs().commits()), tree)?;
    for (path, change) in diff.changes() {
        let path = path.to_owned();
        let put = match change {
            // It is counted with what takes its place.
            Change::DeleteDir | Change::DeleteFile if diff.at(&path).len() > 1 => continue,
            Change::DeleteDir | Change::DeleteFile => None,
            Change::Put(node) => Some(node),
        };
        let was_there = before.at(tree, &path);
        // A diff also lists the directories above what it changes.
        if put == Some(Node::Dir) && was_there == Some(Node::Dir) {
            continue;
        }
        account.count(&NodeChange {
            path,
            before: was_there,
            after: put,
        });
    }
    Ok(account)
}
