//! What is in sessions that nobody looks after any more: how much was written, and when for the last time.

use std::io;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use attachfs_commit::last_clean;
use attachfs_durable::{FileStamp, OwnDir};
use attachfs_session::SessionEntry;
use attachfs_vfs::overlay::{Scratch, ScratchStamp};
use serde::Serialize;

use crate::error::{Doing as _, Error};
use crate::remembering::commits_in;

/// How long the disks of all sessions together may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// What a session holds that was written and not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Uncommitted {
    /// How many files were written and not committed since. Deletions, names and modes are not counted.
    pub files: u64,
    /// Their lengths together.
    pub bytes: u64,
    /// When the session was changed for the last time, in seconds since 1970.
    pub changed: i64,
}

/// What each of these sessions holds; `None` for one that is read-only, and for one whose disk does not answer in time or that cannot be
/// looked at, which is logged. Files are counted by their stamps: nothing is read but the journal.
pub fn uncommitted_in(sessions: &[SessionEntry]) -> Vec<Option<Uncommitted>> {
    let deadline = Instant::now() + ANSWERS_WITHIN;
    let begun = sessions.iter().map(|session| {
        let (sender, answer) = channel();
        if session.meta.read_only {
            return answer;
        }
        let looked_at = session.clone();
        let thread = std::thread::Builder::new().name("attachfs-look".to_owned());
        let started = thread.spawn(move || {
            // Nobody waits for an answer that comes too late.
            let _ = sender.send(uncommitted(&looked_at));
        });
        if let Err(error) = started {
            tracing::warn!(%error, "cannot look into a session");
        }
        answer
    });
    let begun: Vec<_> = begun.collect();
    let wait = |answer: std::sync::mpsc::Receiver<Result<Uncommitted, Error>>| {
        let patience = deadline.saturating_duration_since(Instant::now());
        let answered = answer.recv_timeout(patience).ok()?;
        answered
            .inspect_err(|error| {
                let error = error as &dyn std::error::Error;
                tracing::warn!(error, "it is not known what is uncommitted in a session");
            })
            .ok()
    };
    begun.into_iter().map(wait).collect()
}

fn uncommitted(session: &SessionEntry) -> Result<Uncommitted, Error> {
    let journal = session.journal_path();
    let doing = || format!("cannot look into the session {}", session.dir.display());
    let commits = commits_in(&journal).map_err(attachfs_vfs::OpenError::from)?;
    let clean = last_clean(&commits);
    let changed = FileStamp::at(&journal).doing(doing)?.modified().0;
    let mut found = Uncommitted {
        changed,
        ..Uncommitted::default()
    };
    let scratch = match OwnDir::open(&session.scratch_path()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        dir => Scratch::new(dir?),
    };
    for ino in scratch.inodes().doing(doing)? {
        let stamp = match FileStamp::at(&scratch.path(ino)) {
            // It was deleted a moment ago.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            stamp => stamp.doing(doing)?,
        };
        let is_clean = clean.get(&ino) == Some(&ScratchStamp::from(stamp));
        if !is_clean {
            found.files += 1;
            found.bytes += stamp.size;
            found.changed = found.changed.max(stamp.modified().0);
        }
    }
    Ok(found)
}
