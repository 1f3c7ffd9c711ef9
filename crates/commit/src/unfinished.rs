//! A commit that was interrupted after its intent was recorded: its manifest may be in the store, or not.

use attachfs_manifest::ContentHash;
use attachfs_manifest::wire::decode;
use attachfs_session::Session;
use attachfs_store::ManifestStore;
use attachfs_transfer::{TransferError, Uploader};
use attachfs_tree::Ino;
use attachfs_vfs::Vfs;
use attachfs_vfs::overlay::CommitRecord;

use crate::account::Account;
use crate::error::CommitError;
use crate::generations::{Before, read_total};
use crate::history::{Committed, numbers, parse_key};
use crate::open::OpenSession;
use crate::publish::{Published, is_taken, named_objects, same_parent, send, stored_hash};
use crate::states::{CommitStep, Observer};

/// A commit with a recorded intent and no recorded end.
#[derive(Debug)]
pub(crate) struct Unfinished {
    generation: u32,
    key: String,
    hash: ContentHash,
    /// The files whose bytes it has.
    files: Vec<Ino>,
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
                files: clean.into_iter().map(|file| file.ino).collect(),
            }),
            CommitRecord::Published { .. } => None,
        }
    }

    /// Finishes the commit, once the store has all its objects: that they were confirmed before the intent may be long ago, and what
    /// answered then may not have been the store. Fails if another parent of its diff is expected, if its key is taken, and if an object is missing.
    pub(crate) async fn finish(
        self,
        open: &OpenSession,
        store: &dyn ManifestStore,
        uploader: &Uploader,
        expected: Option<ContentHash>,
        observer: &dyn Observer,
    ) -> Result<Published, NotFinished> {
        let Self {
            generation,
            key,
            hash,
            files,
        } = self;
        let (session, vfs) = (open.session(), open.vfs());
        let bytes = Session::read_commit(session.dir(), generation, hash)?;
        if let (Some(expected), Some(found)) = (expected, decode(&bytes)?.1.parent()) {
            same_parent(expected, found)?;
        }
        let key = parse_key(&key)?;
        let (account, named) = whole(vfs, session, generation)?;
        if let Err(error) = uploader.confirm(&named, observer).await {
            let is_lacking = matches!(error, TransferError::Unconfirmed { .. });
            // A commit that was begun anew would be the sibling of one that readers may have seen. If the store does not say, it may be public.
            let is_unpublished = is_lacking
                && stored_hash(store, &key)
                    .await
                    .is_ok_and(|found| found != Some(hash));
            return Err(NotFinished {
                error: error.into(),
                is_to_begin_anew: is_unpublished,
            });
        }
        send(store, &key, bytes.into()).await?;
        observer.step(CommitStep::Sent);
        vfs.record_commit(CommitRecord::Published { generation })?;
        open.early().committed(files);
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

/// The numbers of a commit, and the objects that its diff names.
fn whole(
    vfs: &Vfs,
    session: &Session,
    generation: u32,
) -> Result<(Account, Vec<(ContentHash, u64)>), CommitError> {
    let mut account = Account::default();
    let frozen = vfs.freeze().ok_or(CommitError::ReadOnly)?;
    let tree = frozen.namespace().base();
    let before = Before::load(session, &numbers(&vfs.commits()), tree)?;
    let after = read_total(session, generation)?;
    let changes = before.node_changes(tree, &after);
    for change in &changes {
        account.count(change);
    }
    let named = named_objects(&changes, tree.chunk_size());
    Ok((account, named.into_iter().collect()))
}
