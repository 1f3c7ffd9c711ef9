//! The keys of input and output manifests.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use attachfs_manifest::ContentHash;
use attachfs_paths::{PathFormat, input_root_hash, output_root_hash};
use attachfs_store::{ManifestKey, ParseKeyError};
use jiff::Timestamp;

use crate::{FarmId, JobId, ParseIdError, QueueId, SessionActionId, StepId, SubmissionId, TaskId};

const INPUTS: &str = "Inputs";
const INPUT: &str = "_input";
const OUTPUT: &str = "_output";

/// Why a key is not that of a job's manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseJobKeyError {
    /// Other parts than such keys have.
    #[error("{0:?} is not the key of a job's manifest")]
    Form(String),
    /// A part that is not the id that belongs there.
    #[error("{key:?} is not the key of a job's manifest")]
    Id {
        /// The key.
        key: String,
        /// What is wrong.
        #[source]
        source: ParseIdError,
    },
    /// A time that is none.
    #[error("{key:?} is not the key of a job's manifest")]
    Time {
        /// The key.
        key: String,
        /// What is wrong.
        #[source]
        source: ParseTimeError,
    },
}

impl ParseJobKeyError {
    /// What is wrong, without the key.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Form(_) => "it does not have the parts of a job's manifest".to_owned(),
            Self::Id { source, .. } => source.to_string(),
            Self::Time { source, .. } => source.to_string(),
        }
    }
}

/// The beginning of the year 1, the first that Python writes; in microseconds since 1970.
const FIRST: i64 = -62_135_596_800_000_000;

/// When a session action began, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionTime(i64);

/// Why a text is not the time of a session action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time as 2025-01-31T12:00:00.000000Z is")]
pub struct ParseTimeError(String);

impl ActionTime {
    /// From microseconds since 1970; `None` outside of the years that can be written.
    pub fn from_micros(micros: i64) -> Option<Self> {
        Timestamp::from_microsecond(micros).ok()?;
        (micros >= FIRST).then_some(Self(micros))
    }

    /// Microseconds since 1970.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// The same time as the system has it.
    pub fn system_time(self) -> SystemTime {
        let distance = Duration::from_micros(self.0.unsigned_abs());
        if self.0 < 0 {
            SystemTime::UNIX_EPOCH - distance
        } else {
            SystemTime::UNIX_EPOCH + distance
        }
    }
}

/// As Python's `%Y-%m-%dT%H:%M:%S.%fZ`: in UTC, to the microsecond.
impl fmt::Display for ActionTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = Timestamp::from_microsecond(self.0).map_err(|_| fmt::Error)?;
        write!(f, "{time:.6}")
    }
}

impl FromStr for ActionTime {
    type Err = ParseTimeError;

    fn from_str(text: &str) -> Result<Self, ParseTimeError> {
        let refused = || ParseTimeError(text.to_owned());
        let time: Timestamp = text.parse().map_err(|_| refused())?;
        let time = Self::from_micros(time.as_microsecond()).ok_or_else(refused)?;
        // One time has one text: it is a part of a key.
        if time.to_string() == text {
            Ok(time)
        } else {
            Err(refused())
        }
    }
}

/// The key of an input manifest: what one submission put in for one root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InputKey {
    /// The farm.
    pub farm: FarmId,
    /// The queue.
    pub queue: QueueId,
    /// Made for this one manifest.
    pub submission: SubmissionId,
    /// Stands for the root.
    pub root: ContentHash,
}

impl InputKey {
    /// The key for the manifest of a root, which is taken as Python's `Path` writes it on the system that has it.
    pub fn new(
        farm: FarmId,
        queue: QueueId,
        submission: SubmissionId,
        format: PathFormat,
        root: &str,
    ) -> Self {
        Self {
            farm,
            queue,
            submission,
            root: input_root_hash(format, root),
        }
    }

    /// As the store has it.
    pub fn manifest_key(&self) -> Result<ManifestKey, ParseKeyError> {
        let Self {
            farm,
            queue,
            submission,
            root,
        } = self;
        format!("{farm}/{queue}/{INPUTS}/{submission}/{root}{INPUT}").parse()
    }
}

impl TryFrom<&ManifestKey> for InputKey {
    type Error = ParseJobKeyError;

    fn try_from(key: &ManifestKey) -> Result<Self, ParseJobKeyError> {
        let parts: Vec<_> = key.as_str().split('/').collect();
        let [farm, queue, INPUTS, submission, name] = parts[..] else {
            return Err(ParseJobKeyError::Form(key.to_string()));
        };
        Ok(Self {
            farm: id(key, farm)?,
            queue: id(key, queue)?,
            submission: id(key, submission)?,
            root: hash(key, name, INPUT)?,
        })
    }
}

/// Whose output it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputPlace {
    /// The farm.
    pub farm: FarmId,
    /// The queue.
    pub queue: QueueId,
    /// The job.
    pub job: JobId,
    /// The step.
    pub step: StepId,
    /// The task; `None` where a session action runs several tasks of a step.
    pub task: Option<TaskId>,
}

/// The key of an output manifest: what one session action made below one root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OutputKey {
    /// Whose output.
    pub place: OutputPlace,
    /// When the session action began.
    pub time: ActionTime,
    /// The session action.
    pub action: SessionActionId,
    /// Stands for the file-system location and the root.
    pub root: ContentHash,
}

impl OutputKey {
    /// The key for what was made below a root, which is taken as it is written in the job.
    pub fn new(
        place: OutputPlace,
        time: ActionTime,
        action: SessionActionId,
        location: Option<&str>,
        root: &str,
    ) -> Self {
        Self {
            place,
            time,
            action,
            root: output_root_hash(location, root),
        }
    }

    /// As the store has it.
    pub fn manifest_key(&self) -> Result<ManifestKey, ParseKeyError> {
        let Self {
            place,
            time,
            action,
            root,
        } = self;
        let OutputPlace {
            farm,
            queue,
            job,
            step,
            task,
        } = place;
        let task = task.map(|task| format!("/{task}")).unwrap_or_default();
        format!("{farm}/{queue}/{job}/{step}{task}/{time}_{action}/{root}{OUTPUT}").parse()
    }
}

impl TryFrom<&ManifestKey> for OutputKey {
    type Error = ParseJobKeyError;

    fn try_from(key: &ManifestKey) -> Result<Self, ParseJobKeyError> {
        let form = || ParseJobKeyError::Form(key.to_string());
        let parts: Vec<_> = key.as_str().split('/').collect();
        let (farm, queue, job, step, task, action, name) = match parts[..] {
            [farm, queue, job, step, action, name] => (farm, queue, job, step, None, action, name),
            [farm, queue, job, step, task, action, name] => {
                (farm, queue, job, step, Some(task), action, name)
            }
            _ => return Err(form()),
        };
        let (time, action) = action.split_once('_').ok_or_else(form)?;
        Ok(Self {
            place: OutputPlace {
                farm: id(key, farm)?,
                queue: id(key, queue)?,
                job: id(key, job)?,
                step: id(key, step)?,
                task: task.map(|task| id(key, task)).transpose()?,
            },
            time: time.parse().map_err(|source| ParseJobKeyError::Time {
                key: key.to_string(),
                source,
            })?,
            action: id(key, action)?,
            root: hash(key, name, OUTPUT)?,
        })
    }
}

fn id<T: FromStr<Err = ParseIdError>>(
    key: &ManifestKey,
    part: &str,
) -> Result<T, ParseJobKeyError> {
    part.parse().map_err(|source| ParseJobKeyError::Id {
        key: key.to_string(),
        source,
    })
}

fn hash(key: &ManifestKey, name: &str, end: &str) -> Result<ContentHash, ParseJobKeyError> {
    let hash = name.strip_suffix(end).and_then(|hash| hash.parse().ok());
    hash.ok_or_else(|| ParseJobKeyError::Form(key.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef";

    fn parsed<T: FromStr<Err: fmt::Debug>>(start: &str) -> T {
        format!("{start}{HEX}").parse().unwrap()
    }

    fn place(task: Option<TaskId>) -> OutputPlace {
        OutputPlace {
            farm: parsed("farm-"),
            queue: parsed("queue-"),
            job: parsed("job-"),
            step: parsed("step-"),
            task,
        }
    }

    #[test]
    fn an_output_key_reads_as_it_is_written() {
        let task: TaskId = format!("task-{HEX}-7").parse().unwrap();
        let action: SessionActionId = format!("sessionaction-{HEX}-1").parse().unwrap();
        let time = ActionTime::from_micros(1_700_000_000_123_456).unwrap();
        for (task, below) in [(Some(task), format!("{task}/")), (None, String::new())] {
            let key = OutputKey::new(place(task), time, action, Some("Loc 1"), "/proj");
            let text = key.manifest_key().unwrap();
            assert_eq!(
                text.as_str(),
                format!(
                    "farm-{HEX}/queue-{HEX}/job-{HEX}/step-{HEX}/{below}\
                     2023-11-14T22:13:20.123456Z_{action}/\
                     4655e6b1a9a636557b7493d9359dc460_output"
                )
            );
            assert_eq!(OutputKey::try_from(&text), Ok(key));
            InputKey::try_from(&text).unwrap_err();
        }
    }

    #[test]
    fn an_input_key_reads_as_it_is_written() {
        let key = InputKey::new(
            parsed("farm-"),
            parsed("queue-"),
            parsed(""),
            PathFormat::Posix,
            "/proj/",
        );
        let text = key.manifest_key().unwrap();
        assert_eq!(
            text.as_str(),
            format!("farm-{HEX}/queue-{HEX}/Inputs/{HEX}/731442b4ddb4a5b53a932cb24fb47f14_input")
        );
        assert_eq!(InputKey::try_from(&text), Ok(key));
        OutputKey::try_from(&text).unwrap_err();
    }

    #[test]
    fn a_root_has_one_text_on_its_system() {
        let root = |root: &str| {
            let format = PathFormat::of_root(root);
            InputKey::new(parsed("farm-"), parsed("queue-"), parsed(""), format, root).root
        };
        for (given, text) in [
            ("/a//b/./c/..", "/a/b/c/.."),
            ("C:/r/", r"C:\r"),
            (r"\\server\share\a\\b\", r"\\server\share\a\b"),
        ] {
            assert_eq!(root(given), ContentHash::of(text.as_bytes()), "{given}");
        }
    }

    #[test]
    fn a_time_has_one_text() {
        for (micros, text) in [
            (1_500_000, "1970-01-01T00:00:01.500000Z"),
            (1_735_689_599_999_000, "2024-12-31T23:59:59.999000Z"),
            (1_000_000_000_000_000, "2001-09-09T01:46:40.000000Z"),
        ] {
            let time = ActionTime::from_micros(micros).unwrap();
            assert_eq!(time.to_string(), text);
            assert_eq!(text.parse(), Ok(time));
        }
        for bad in [
            "",
            "2024-12-31T23:59:59Z",
            "2024-12-31T23:59:59.999000+00:00",
        ] {
            bad.parse::<ActionTime>().unwrap_err();
        }
    }
}
