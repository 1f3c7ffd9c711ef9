//! What an unmount reports if another command has ended or discarded its session.

use attachfs_commit::Account;
use attachfs_session::{EndedSession, SessionId};

use crate::error::Error;
use crate::remote::{CommitReport, PublishedManifest, UnmountReport};

/// What an unmount says of a session that has ended: where its last manifest is.
pub fn report_of_ended(ended: &EndedSession) -> UnmountReport {
    let commit = ended.commits.last().map(|last| CommitReport {
        session: ended.session.to_string(),
        manifest: Some(PublishedManifest {
            hash: last.hash.clone(),
            address: last.address.clone(),
            key: last.key.clone(),
            generation: last.generation,
            time: Some(ended.ended),
        }),
        unchanged: true,
        nothing_to_resume: false,
        published: None,
        resumed: None,
        account: Account::default(),
    });
    UnmountReport {
        kept: false,
        ended: true,
        commit,
        ..UnmountReport::of(&ended.session, ended.mount_point.clone())
    }
}

/// The error of an unmount that was to commit a session which another command has discarded. `ended`: what the session had published before.
pub(super) fn discarded(id: &SessionId, ended: Option<&EndedSession>) -> Error {
    let sentence = format!("nothing was committed: session {id} was discarded by another command");
    let error = Error::usage(sentence);
    match ended {
        Some(_) => error.advise(format!(
            "`attachfs status {id}` shows what it had published before"
        )),
        None => error,
    }
}
