//! Whether a job's outputs can be trusted: its programs may have read bytes that the store had wrong, or the last changes may be lost.

use attachfs_session::Taint;

use crate::error::CommitError;
use crate::generations::NodeChange;
use crate::open::OpenSession;
use crate::states::CommitOptions;

/// The wrong objects of which programs of the session read bytes before that was known.
pub fn taints(session: &OpenSession) -> Result<Vec<Taint>, CommitError> {
    let mut taints = session.session().taints()?;
    // What was found a moment ago may not be written down yet.
    for doubt in session.vfs().fetcher().wrong_and_given() {
        let Some(found) = doubt.found else {
            continue;
        };
        if taints.iter().all(|taint| taint.object != doubt.hash) {
            let files = session.vfs().files_of(doubt.hash, doubt.len);
            taints.push(Taint {
                object: doubt.hash,
                found,
                files,
            });
        }
    }
    Ok(taints)
}

/// Stops a commit of such a session, unless it is asked for all the same, or nothing changed.
pub(crate) fn refuse_tainted(
    session: &OpenSession,
    options: &CommitOptions,
    changes: &[NodeChange],
) -> Result<(), CommitError> {
    if options.accept_tainted || changes.is_empty() {
        return Ok(());
    }
    let taints = taints(session)?;
    if taints.is_empty() {
        Ok(())
    } else {
        Err(CommitError::Tainted(taints))
    }
}

/// Stops a commit of a session whose journal was cut off, unless it is asked for all the same. That nothing seems to have changed may be due to
/// what was cut off.
pub(crate) fn refuse_cut(
    session: &OpenSession,
    options: &CommitOptions,
) -> Result<(), CommitError> {
    if options.accept_open || !session.session().is_cut()? {
        Ok(())
    } else {
        Err(CommitError::Cut)
    }
}
