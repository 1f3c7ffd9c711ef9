//! A whole commit, new or resumed: [`commit`] finishes one that was interrupted, then takes the changes since from state to
//! state. Freezing and planning are in `plan.rs`, hashing in `hash.rs`, sending and publishing in `publish.rs`.

use std::sync::Arc;

use attachfs_store::{ManifestStore, Store};
use attachfs_transfer::{UploadOptions, Uploader};
use attachfs_vfs::Vfs;

use crate::account::Account;
use crate::error::CommitError;
use crate::hash::{Hashed, Purpose};
use crate::history::{Committed, commits};
use crate::open::OpenSession;
use crate::plan::LOOK_AGAIN;
use crate::preview::Preview;
use crate::publish::{Published, Uploaded, publish_as};
use crate::states::{Commit, CommitOptions, CommitStep, Observer, Terms, ask, unless_stopped};
use crate::unfinished::Unfinished;

/// The result of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was published; `None` if nothing had changed.
    pub published: Option<Published>,
    /// The session's last commit: this one, or an earlier one if nothing had changed. `None` if there
    /// was never a commit.
    pub last: Option<Committed>,
    /// An unfinished commit of an earlier run, which was finished first, if this run then published
    /// another one.
    pub resumed: Option<Published>,
    /// The numbers of this commit.
    pub account: Account,
}

/// Commits a session: finishes the commit of an earlier run, then commits the changes since.
pub async fn commit(
    session: &OpenSession,
    store: &Arc<dyn Store>,
    options: &CommitOptions,
    upload: UploadOptions,
    observer: &dyn Observer,
) -> Result<Outcome, CommitError> {
    let vfs = session.vfs();
    let _turn = unless_stopped(observer, vfs.commit_turn()).await??;
    let _refill = RefillReserve(vfs);
    let _paused = session.early().pause().await;
    let chunks: Arc<dyn attachfs_store::ChunkStore> = store.clone();
    let uploader = Uploader::new(chunks, upload);
    let resumed = match Unfinished::find(vfs) {
        Some(unfinished) => {
            let finished = unfinished.finish(session, store.as_ref(), &uploader, options, observer);
            match finished.await {
                // It is dropped: the next one says what it said.
                Err(failed) if failed.is_to_begin_anew && !options.only_resume => {
                    tracing::warn!(
                        error = &failed.error as &dyn std::error::Error,
                        "an interrupted commit is begun anew"
                    );
                    None
                }
                Err(failed) => return Err(failed.error),
                Ok(finished) => Some(finished),
            }
        }
        None => None,
    };
    // A diff after it would go over something else.
    if options.only_resume || (resumed.is_some() && options.expect_parent.is_some()) {
        let account = resumed
            .as_ref()
            .map_or_else(Account::default, |done| done.account.clone());
        let last = commits(vfs)?.pop();
        publish_too(session, store.as_ref(), options, last.as_ref()).await?;
        return Ok(Outcome {
            published: resumed,
            last,
            resumed: None,
            account,
        });
    }
    let terms = Terms::new(options);
    let uploaded = loop {
        match upload_all(session, &terms, &uploader, observer).await {
            Err(error) if may_pass(&error, &terms) => {
                let pause = session.early().meanwhile(pause(&terms));
                unless_stopped(observer, pause).await?;
            }
            // With the room of the reserve the commit may fit.
            Err(error) if error.is_full_disk() && vfs.release_reserve() => {}
            ended => break ended?,
        }
    };
    observer.step(CommitStep::Uploaded);
    // From the intent on a commit is always finished.
    ask(observer)?;
    let (published, account) = uploaded.publish(store.as_ref(), observer).await?;
    observer.step(CommitStep::Published);
    let last = commits(vfs)?.pop();
    publish_too(session, store.as_ref(), options, last.as_ref()).await?;
    Ok(match published {
        Some(published) => Outcome {
            published: Some(published),
            last,
            resumed,
            account,
        },
        None => {
            // What was published is the resumed one's, which alone had to send anything, and what was left out this one's.
            let account = match &resumed {
                Some(done) => Account {
                    added: done.account.added,
                    changed: done.account.changed,
                    deleted: done.account.deleted,
                    bytes: done.account.bytes,
                    uploaded_objects: done.account.uploaded_objects,
                    uploaded_bytes: done.account.uploaded_bytes,
                    ..account
                },
                None => account,
            };
            Outcome {
                published: resumed,
                last,
                resumed: None,
                account,
            }
        }
    })
}

/// Puts the last manifest under the other key, if there is one.
async fn publish_too(
    session: &OpenSession,
    store: &dyn ManifestStore,
    options: &CommitOptions,
    last: Option<&Committed>,
) -> Result<(), CommitError> {
    match (&options.publish_as, last) {
        (Some(key), Some(last)) => {
            publish_as(session.session(), store, last, key, options.format).await
        }
        _ => Ok(()),
    }
}

/// Fills the reserve again when it is dropped, so whenever a commit ends.
struct RefillReserve<'a>(&'a Vfs);

impl Drop for RefillReserve<'_> {
    fn drop(&mut self) {
        self.0.refill_reserve();
    }
}

/// A preview of a commit: hashes the changes since the last commit, and sends nothing. Nothing is
/// written to the session's disk.
pub async fn preview(
    session: &OpenSession,
    options: &CommitOptions,
    observer: &dyn Observer,
) -> Result<Preview, CommitError> {
    let _turn = unless_stopped(observer, session.vfs().commit_turn()).await??;
    preview_on(session, options, observer).await
}

/// The same, for who has the turn to commit.
pub(crate) async fn preview_on(
    session: &OpenSession,
    options: &CommitOptions,
    observer: &dyn Observer,
) -> Result<Preview, CommitError> {
    let terms = Terms::new(options);
    let hashed = waiting(session, &terms, Purpose::Preview, observer).await?;
    hashed.preview()
}

/// Hashes the changes, again as long as the commit waits for files that are written to.
pub(crate) async fn waiting(
    session: &OpenSession,
    terms: &Terms,
    purpose: Purpose,
    observer: &dyn Observer,
) -> Result<Commit<Hashed>, CommitError> {
    loop {
        match hash_all(session, terms, purpose, observer).await {
            Err(error) if may_pass(&error, terms) => {
                unless_stopped(observer, pause(terms)).await?;
            }
            hashed => return hashed,
        }
    }
}

async fn hash_all(
    session: &OpenSession,
    terms: &Terms,
    purpose: Purpose,
    observer: &dyn Observer,
) -> Result<Commit<Hashed>, CommitError> {
    let planned = Commit::plan_on(session.clone(), terms, observer).await?;
    planned.check_parent()?;
    observer.step(CommitStep::Planned);
    planned.hash(purpose, observer).await
}

async fn upload_all(
    session: &OpenSession,
    terms: &Terms,
    uploader: &Uploader,
    observer: &dyn Observer,
) -> Result<Commit<Uploaded>, CommitError> {
    let hashed = hash_all(session, terms, Purpose::Commit, observer).await?;
    observer.step(CommitStep::Hashed);
    // Also what was sent while the commit waited.
    let uploader = uploader.clone().expecting(session.early().objects());
    hashed.upload(&uploader, observer).await
}

/// Whether planning again a little later may succeed in time.
fn may_pass(error: &CommitError, terms: &Terms) -> bool {
    matches!(error, CommitError::Busy(_)) && !terms.remaining().is_zero()
}

async fn pause(terms: &Terms) {
    tokio::time::sleep(LOOK_AGAIN.min(terms.remaining())).await;
}
