//! One file of a download, from the look at what is in its place to its name.
//!
//! ```text
//!     free      fetch -- verify -- name it, if the name is still free
//!     alike     of the same length: hash what is there; the same is skipped, and has its time and execute
//!               bit set if need be; anything else is a conflict
//!     taken     conflict: skip it | fetch and replace | fetch and name it "stem (N).suffix"
//! ```

use std::sync::Arc;

use attachfs_durable::HeldDir;
use attachfs_manifest::Content;

use super::compare::Likeness;
use super::conflict::{Occupant, Resolution, resolve};
use super::failure::{Failure, FileError, FileResult};
use super::large::large;
use super::naming::Target;
use super::report::Outcome;
use super::shared::Shared;
use super::small::small;
use super::step::{FileStep, Place};
use crate::error::TransferError;

/// A file that nothing is left to do for by now.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) size: u64,
    /// How many of its bytes were left by an earlier run.
    pub(super) resumed: u64,
    pub(super) outcome: Outcome,
}

/// What is to be done with a file whose place was looked at.
enum Then {
    Skip,
    Leave(String),
    Fetch(Target),
}

impl Then {
    /// Where a file is like this, if it is not another.
    fn of(likeness: Likeness) -> Option<Self> {
        match likeness {
            Likeness::Other => None,
            Likeness::Same => Some(Self::Skip),
            Likeness::Nearly(why) => Some(Self::Leave(why)),
        }
    }
}

/// Does what the plan says of a file. Fails only with what concerns everything.
pub(super) async fn file(shared: Arc<Shared>, step: FileStep) -> Result<Done, TransferError> {
    let size = step.file.size;
    let step = Arc::new(step);
    let (outcome, resumed) = match attempt(&shared, &step).await {
        Ok(done) => done,
        Err(Failure::Stop(error)) => return Err(error),
        Err(Failure::File(error)) => (Outcome::failed(&step.path, &error), None),
    };
    match (&outcome, resumed) {
        (Outcome::Waits, _) => {}
        (Outcome::Skipped | Outcome::Left(_), None) => shared.meter.known(size, 0),
        // What was fetched is counted.
        _ => shared.meter.finished(|| step.path.to_string()),
    }
    Ok(Done {
        size,
        resumed: resumed.unwrap_or(0),
        outcome,
    })
}

/// Says what became of it and, if it was fetched, how many bytes of it were left by an earlier run.
async fn attempt(shared: &Arc<Shared>, step: &Arc<FileStep>) -> FileResult<(Outcome, Option<u64>)> {
    let then = match step.place {
        Place::Free => Then::Fetch(Target::Free),
        Place::Taken(occupant) => at_conflict(shared, step, occupant).await?,
        Place::Alike(stamp) => {
            let likeness = reading(shared, step, move |shared, dir, step| {
                let comparison = &shared.naming.comparison;
                comparison.likeness(&dir, step.path.borrowed(), step, Some(stamp))
            });
            match Then::of(likeness.await?) {
                Some(then) => then,
                None => {
                    let then = at_conflict(shared, step, Occupant::File).await?;
                    if matches!(then, Then::Fetch(_)) {
                        ask_for_group(shared).await?;
                    }
                    then
                }
            }
        }
    };
    Ok(match then {
        Then::Skip => (Outcome::Skipped, None),
        Then::Leave(why) => (Outcome::left(&step.path, &why), None),
        Then::Fetch(target) => {
            let (outcome, resumed) = fetch(shared, step, target).await?;
            (outcome, Some(resumed))
        }
    })
}

async fn at_conflict(
    shared: &Arc<Shared>,
    step: &Arc<FileStep>,
    occupant: Occupant,
) -> FileResult<Then> {
    Ok(match resolve(shared.naming.conflict, occupant) {
        Resolution::Leave(why) => Then::Leave(why.to_owned()),
        Resolution::Replace => Then::Fetch(Target::Replace),
        Resolution::Refuse(why) => return Err(FileError::InTheWay(why.to_owned()).into()),
        Resolution::Copy => {
            let copied = reading(shared, step, |shared, dir, step| {
                shared.naming.copied_before(&dir, step)
            });
            Then::of(copied.await?).unwrap_or(Then::Fetch(Target::Copy))
        }
    })
}

/// Says how many bytes were left by an earlier run, too.
async fn fetch(
    shared: &Arc<Shared>,
    step: &Arc<FileStep>,
    target: Target,
) -> FileResult<(Outcome, u64)> {
    match &step.file.content {
        Content::Whole(object) if step.file.size <= shared.supply.block_bytes => {
            small(shared, step, *object, target).await
        }
        Content::Whole(_) | Content::Chunks(_) => large(shared, step, target).await,
        Content::Unhashed => Err(FileError::InTheWay("it has no hash".to_owned()).into()),
    }
}

/// Runs a step that reads what is in the place of a file: as many at once as write.
async fn reading<T: Send + 'static>(
    shared: &Arc<Shared>,
    step: &Arc<FileStep>,
    work: impl FnOnce(&Shared, HeldDir, &FileStep) -> FileResult<T> + Send + 'static,
) -> FileResult<T> {
    let _turn = shared.threads.turn().await;
    shared.in_place(step, work).await
}

/// Of files that might be the same nobody has asked before.
async fn ask_for_group(shared: &Arc<Shared>) -> FileResult<()> {
    let share = shared.permissions;
    if share.group.is_some() {
        let asking = Arc::clone(shared);
        let asked = shared
            .threads
            .blocking(move || asking.folder.may_give(share));
        asked.await?.map_err(TransferError::from)?;
    }
    Ok(())
}
