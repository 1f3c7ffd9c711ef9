//! Submissions that go on in the background: what is written down of them, so that anybody can ask how far they are.
//!
//! ```text
//!     <state>/submissions/<id>/lock            held by the process as long as it lives
//!                              status.json     how far it is, and what came of it; replaced as a whole
//!                              log             what the process says
//!                              attachments.json
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};

use attachfs_durable::{FileLock, OwnDir, random_bytes};
use attachfs_session::{Failure, FailureClass};
use attachfs_transfer::ProgressEvent;
use serde::{Deserialize, Serialize};

use crate::error::{Doing as _, Error};

const LOCK: &str = "lock";
const STATUS: &str = "status.json";
const LOG: &str = "log";
const DOCUMENT: &str = "attachments.json";
/// No status is longer.
const LONGEST: u64 = 1 << 20;

/// How a submission in the background is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubmissionState {
    /// It goes on.
    #[default]
    Running,
    /// All is in the store.
    Done,
    /// It ended with an error.
    Failed,
    /// Its process is gone without a word: killed, or the machine went down. The same command goes on.
    Interrupted,
}

/// How far a submission in the background is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SubmissionStatus {
    /// How it is.
    pub state: SubmissionState,
    /// Files or objects that are done in the present phase.
    pub items_done: u64,
    /// How many there are, if it is known.
    pub items_total: Option<u64>,
    /// Bytes that are done in the present phase.
    pub bytes_done: u64,
    /// How many there are, if it is known.
    pub bytes_total: Option<u64>,
    /// Where the attachments document is, once it is done.
    pub attachments_file: Option<String>,
    /// The call that makes the job, once it is done.
    pub create_job: Option<String>,
    /// Why it failed.
    pub failure: Option<Failure>,
}

impl SubmissionStatus {
    /// One that goes on, and is as far as this.
    pub fn of(event: &ProgressEvent) -> Self {
        Self {
            items_done: event.items_done,
            items_total: event.items_total,
            bytes_done: event.bytes_done,
            bytes_total: event.bytes_total,
            ..Self::default()
        }
    }
}

/// What is written down of one submission.
#[derive(Debug)]
pub struct BackgroundSubmission {
    id: String,
    path: PathBuf,
    dir: OwnDir,
}

/// Held by the process of a submission.
#[derive(Debug)]
pub struct SubmissionLock(#[expect(dead_code, reason = "held until it is dropped")] FileLock);

impl BackgroundSubmission {
    /// A new one, below the directory for this user's state.
    pub fn create(state: &Path) -> Result<Self, Error> {
        let id = random_bytes::<8>().doing(|| "cannot make an id".to_owned())?;
        let id = format!("{:016x}", u64::from_be_bytes(id));
        let path = directory(state).join(&id);
        let dir = OwnDir::create(&path)?;
        let made = Self { id, path, dir };
        made.write(&SubmissionStatus::default())?;
        Ok(made)
    }

    /// The one with this id.
    pub fn open(state: &Path, id: &str) -> Result<Self, Error> {
        let is_id = id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit());
        let path = directory(state).join(id);
        if !is_id || !path.is_dir() {
            return Err(Error::usage(format!("there is no submission \"{id}\"")));
        }
        let dir = OwnDir::open(&path)?;
        let id = id.to_owned();
        Ok(Self { id, path, dir })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the document goes if no other place is said.
    pub fn document(&self) -> PathBuf {
        self.path.join(DOCUMENT)
    }

    /// The file that has what its process says.
    pub fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }

    /// Makes that file.
    pub fn create_log(&self) -> Result<File, Error> {
        Ok(self.dir.create_file(LOG)?)
    }

    /// Says that this process is the one that submits. Fails if another one is.
    pub fn hold(&self) -> Result<SubmissionLock, Error> {
        match self.dir.lock(LOCK)? {
            Some(lock) => Ok(SubmissionLock(lock)),
            None => Err(Error::new(
                FailureClass::Busy,
                format!("another process submits {}", self.id),
            )),
        }
    }

    /// Whether its process lives.
    pub fn is_held(&self) -> Result<bool, Error> {
        Ok(FileLock::is_held(&self.path.join(LOCK))?)
    }

    /// Writes down how it is.
    pub fn write(&self, status: &SubmissionStatus) -> Result<(), Error> {
        let bytes = serde_json::to_vec(status);
        let bytes = bytes.doing(|| "cannot write down how the submission is".to_owned())?;
        Ok(self.dir.publish(STATUS, &bytes)?)
    }

    /// How it is.
    pub fn status(&self) -> Result<SubmissionStatus, Error> {
        // Whether it lives is asked first: what ends meanwhile has written down how.
        let lives = self.is_held()?;
        let bytes = self.dir.read_at_most(STATUS, LONGEST)?;
        let status: SubmissionStatus = serde_json::from_slice(&bytes)
            .doing(|| format!("cannot read {}", self.path.join(STATUS).display()))?;
        if status.state == SubmissionState::Running && !lives {
            return Ok(SubmissionStatus {
                state: SubmissionState::Interrupted,
                ..status
            });
        }
        Ok(status)
    }
}

fn directory(state: &Path) -> PathBuf {
    state.join("submissions")
}
