//! The options of a commit, the states that it goes through, and the observer of its steps.

use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use attachfs_manifest::{ContentHash, ManifestPath};
use attachfs_store::ManifestKey;
use attachfs_transfer::{Phase, Progress, ProgressEvent, Reporter, Silent, TransferError};
use attachfs_tree::Ino;
use attachfs_vfs::Frozen;

use crate::choice::Patterns;
use crate::error::CommitError;
use crate::open::OpenSession;

/// What to do with symbolic links that lead out of the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Links {
    /// Stop and list them.
    #[default]
    Stop,
    /// Leave them out.
    Skip,
    /// Put them as they are, which no manifest of relative paths can hold: stop and say so.
    Keep,
    /// Put what they show, as the user who commits sees it.
    Collapse,
}

/// How to commit.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// How long to wait for files that are open for writing.
    pub wait: Duration,
    /// Leave out files that are still open then, instead of stopping, and those that were open when an
    /// earlier process of the session ended.
    pub skip_open: bool,
    /// Publish files that were open for writing when an earlier process of the session ended, as they
    /// are.
    pub accept_open: bool,
    /// Publish although programs were given bytes of the base that the store had wrong.
    pub accept_tainted: bool,
    /// Symbolic links that lead out.
    pub links: Links,
    /// Leave out paths that are too long for a manifest, instead of stopping: for who only looks.
    pub skip_long: bool,
    /// Only what is in or below these, and the directories that lead there; everything if empty.
    pub output_dirs: Vec<ManifestPath>,
    /// Of these only what the patterns choose.
    pub patterns: Patterns,
    /// Absolute links into this directory count as links below the root.
    pub mount_point: Option<PathBuf>,
    /// Where the manifest is put in the store beside its own key. The same manifest may be there
    /// already; another one stops the commit.
    pub publish_as: Option<ManifestKey>,
    /// The format of the manifest that is put there.
    pub format: HandedFormat,
    /// Stop before anything is sent unless this is the hash of what the diff goes over.
    pub expect_parent: Option<ContentHash>,
    /// Only finish a commit that was interrupted; the changes since stay.
    pub only_resume: bool,
}

/// The format of a manifest that is handed over beside the session's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HandedFormat {
    /// The session's own diff, 2025-12.
    #[default]
    Diff,
    /// The new and changed files as 2023-03-03, for AWS's library.
    Files,
}

/// The steps of a commit, as an [`Observer`] hears of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommitStep {
    /// The changes are known.
    Planned,
    /// Everything has its hash.
    Hashed,
    /// Every chunk is confirmed to be in the store.
    Uploaded,
    /// The intent to publish is durable; the manifest was not sent.
    Intended,
    /// The store has the manifest; the journal does not say so yet.
    Sent,
    /// Done.
    Published,
    /// Before a commit: a file of the job is hashed, and not sent.
    EarlyHashed,
    /// Before a commit: the objects of a file of the job are in the store.
    EarlySent,
}

/// Hears of a commit's steps, and of the progress of hashing and uploading.
pub trait Observer: Progress {
    /// A step was reached. The commit goes on when this returns.
    fn step(&self, step: CommitStep);

    /// Something that who waits should know, as a sentence. Says nothing by itself.
    fn note(&self, _text: &str) {}
}

/// Nobody watches.
impl Observer for Silent {
    fn step(&self, _step: CommitStep) {}
}

/// How often who watches a commit is asked whether to go on with it, while it waits.
const ASKED_EVERY: Duration = Duration::from_millis(200);

/// Fails if who watches wants to stop.
pub(crate) fn ask(observer: &dyn Observer) -> Result<(), CommitError> {
    let mut reporter = Reporter::new(observer, Instant::now());
    let asked = reporter.tell(Instant::now(), ProgressEvent::of(Phase::Commit));
    asked.map_err(|cancelled| TransferError::from(cancelled).into())
}

/// Waits for something, until who watches wants to stop: its client is gone, say.
pub(crate) async fn unless_stopped<T>(
    observer: &dyn Observer,
    waiting: impl Future<Output = T>,
) -> Result<T, CommitError> {
    let mut waiting = pin!(waiting);
    loop {
        match tokio::time::timeout(ASKED_EVERY, waiting.as_mut()).await {
            Ok(done) => return Ok(done),
            Err(_still_waiting) => ask(observer)?,
        }
    }
}

/// A commit in one of its states.
#[derive(Debug)]
pub struct Commit<S> {
    pub(crate) session: OpenSession,
    pub(crate) frozen: Frozen,
    pub(crate) generation: u32,
    pub(crate) terms: Terms,
    pub(crate) state: S,
}

/// The options of a commit, and when it began.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) options: CommitOptions,
    begun: Instant,
    /// The files that are published although they were open for writing when an earlier process ended.
    pub(crate) accepted: Vec<Ino>,
}

impl Terms {
    pub(crate) fn new(options: &CommitOptions) -> Self {
        Self {
            options: options.clone(),
            begun: Instant::now(),
            accepted: Vec::new(),
        }
    }

    /// The same, with the files that are published although an earlier process left them open.
    pub(crate) fn accepting(self, accepted: Vec<Ino>) -> Self {
        Self { accepted, ..self }
    }

    /// How much longer to wait for files that are written to.
    pub(crate) fn remaining(&self) -> Duration {
        self.options.wait.saturating_sub(self.begun.elapsed())
    }

    /// Whether files that are written to are left out now: the time to wait for them is over, and
    /// `skip_open` is set.
    pub(crate) fn leaves_out(&self) -> bool {
        self.options.skip_open && self.remaining().is_zero()
    }
}
