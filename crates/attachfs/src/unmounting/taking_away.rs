//! The mount of a process that does not answer.

use attachfs_session::{Failure, FailureClass, SessionEntry};

use crate::error::Error;
use crate::holder::NoAnswer;
use crate::remote::UnmountReport;

/// Takes the mount of a process away that does not answer, which is why it comes to this.
pub(super) fn take_away(
    found: &SessionEntry,
    why: Error,
    commit: bool,
) -> Result<UnmountReport, Error> {
    let Some(taken) = attachfs_mount::take_away(&found.meta.id)?.pop() else {
        return Err(why);
    };
    let process = why.cause::<NoAnswer>();
    let process = process.and_then(|no_answer| no_answer.process.as_ref());
    let commit = commit || found.meta.commit_on_unmount;
    let commit_failure = commit.then(|| {
        let sentence = "nothing was committed: the process that has the session does not answer";
        let error = Error::new(FailureClass::Incomplete, sentence);
        Failure::from(&error.advise("once that process has ended, the session can be committed"))
    });
    Ok(UnmountReport {
        commit_failure,
        process: process.map(|process| process.pid),
        still_waiting: !taken.aborted,
        ..UnmountReport::of(&found.meta.id, taken.mount_point)
    })
}
