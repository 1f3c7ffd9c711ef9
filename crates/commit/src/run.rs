//! The whole of a commit, new or resumed.

use std::sync::Arc;

use attachfs_store::Store;
use attachfs_transfer::{UploadOptions, Uploader};
use attachfs_vfs::Vfs;

use crate::publish::{Published, Unfinished};
use crate::{Account, Commit, CommitError, CommitOptions, Observer, Step};

/// How a commit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was published; `None` if nothing had changed.
    pub published: Option<Published>,
    /// A commit of an earlier run that was finished first, if this one published one more.
    pub resumed: Option<Published>,
    /// What this commit found.
    pub account: Account,
}

/// Commits a session: finishes what an earlier run began, then commits what changed since.
pub async fn commit(
    vfs: &Arc<Vfs>,
    store: &Arc<dyn Store>,
    options: &CommitOptions,
    upload: UploadOptions,
    observer: &dyn Observer,
) -> Result<Outcome, CommitError> {
    let _turn = vfs.commit_turn().await?;
    let resumed = match Unfinished::find(vfs) {
        Some(unfinished) => Some(unfinished.finish(vfs, store.as_ref(), observer).await?),
        None => None,
    };
    let chunks: Arc<dyn attachfs_store::ChunkStore> = store.clone();
    let uploader = Uploader::new(chunks, upload);
    let planned = Commit::plan(vfs.clone(), options).await?;
    observer.step(Step::Planned);
    let hashed = planned.hash(observer).await?;
    observer.step(Step::Hashed);
    let uploaded = hashed.upload(&uploader, observer).await?;
    observer.step(Step::Uploaded);
    let (published, account) = uploaded.publish(store.as_ref(), observer).await?;
    observer.step(Step::Published);
    Ok(match published {
        Some(published) => Outcome {
            published: Some(published),
            resumed,
            account,
        },
        None => {
            let account = resumed
                .as_ref()
                .map_or(account, |done| done.account.clone());
            Outcome {
                published: resumed,
                resumed: None,
                account,
            }
        }
    })
}

/// What a commit would say, without sending anything: the changes since the last commit, hashed.
pub async fn preview(
    vfs: &Arc<Vfs>,
    options: &CommitOptions,
    observer: &dyn Observer,
) -> Result<crate::Preview, CommitError> {
    let _turn = vfs.commit_turn().await?;
    let planned = Commit::plan(vfs.clone(), options).await?;
    observer.step(Step::Planned);
    planned.hash(observer).await?.preview()
}
