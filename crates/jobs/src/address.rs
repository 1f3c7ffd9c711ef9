//! How a person names a job, a step or a task: `deadline://FARM/QUEUE/JOB[/STEP[/TASK]]`.
//!
//! The address says nothing of a store: that is the queue's, or is given beside it.

use std::fmt;
use std::str::FromStr;

use attachfs_store::{KeyPrefix, ParseKeyError};

use crate::{FarmId, JobId, OutputPlace, ParseIdError, QueueId, StepId, TaskId};

const SCHEME: &str = "deadline://";

/// What of a job is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobPart {
    /// All of it.
    Whole,
    /// One step.
    Step(StepId),
    /// One task of a step.
    Task(StepId, TaskId),
}

/// A job, or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobAddress {
    /// The farm.
    pub farm: FarmId,
    /// The queue.
    pub queue: QueueId,
    /// The job.
    pub job: JobId,
    /// What of it.
    pub part: JobPart,
}

/// Why a text is not the address of a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseJobAddressError {
    /// It begins otherwise.
    #[error("{0:?} is not the address of a job: that begins with {SCHEME}")]
    Scheme(String),
    /// Ids are missing at its end.
    #[error("{0:?} names no {1}: the address of a job is {SCHEME}FARM/QUEUE/JOB[/STEP[/TASK]]")]
    Missing(String, &'static str),
    /// There is more than a task.
    #[error(
        "{0:?} has more than five parts: the address of a job is {SCHEME}FARM/QUEUE/JOB[/STEP[/TASK]]"
    )]
    TooLong(String),
    /// A part is not the id that belongs there.
    #[error("{address:?} is not the address of a job")]
    Id {
        /// The whole text.
        address: String,
        /// Which part, and why not.
        #[source]
        source: ParseIdError,
    },
}

impl JobAddress {
    /// The step, if one is meant.
    pub fn step(&self) -> Option<StepId> {
        match self.part {
            JobPart::Whole => None,
            JobPart::Step(step) | JobPart::Task(step, _) => Some(step),
        }
    }

    /// The task, if one is meant.
    pub fn task(&self) -> Option<TaskId> {
        match self.part {
            JobPart::Whole | JobPart::Step(_) => None,
            JobPart::Task(_, task) => Some(task),
        }
    }

    /// The folder that has the manifests of its outputs.
    pub fn outputs(&self) -> KeyPrefix {
        let Self {
            farm, queue, job, ..
        } = self;
        let below = match self.part {
            JobPart::Whole => String::new(),
            JobPart::Step(step) => format!("/{step}"),
            JobPart::Task(step, task) => format!("/{step}/{task}"),
        };
        prefix(format!("{farm}/{queue}/{job}{below}"))
    }

    /// Whether an output is one of what is meant.
    pub fn has(&self, place: &OutputPlace) -> bool {
        (place.farm, place.queue, place.job) == (self.farm, self.queue, self.job)
            && self.step().is_none_or(|step| step == place.step)
            && self.task().is_none_or(|task| Some(task) == place.task)
    }
}

/// All jobs of a store, of a farm or of a queue, or one job: `deadline://[FARM[/QUEUE[/JOB[/STEP[/TASK]]]]]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobsAddress {
    /// All that the store knows.
    All,
    /// A farm.
    Farm(FarmId),
    /// A queue.
    Queue(FarmId, QueueId),
    /// A job, or a part of one.
    Job(JobAddress),
}

impl JobsAddress {
    /// Whether a text is meant as an address of jobs, right or wrong.
    pub fn is_one(text: &str) -> bool {
        text.starts_with(SCHEME)
    }
}

impl fmt::Display for JobsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str(SCHEME),
            Self::Farm(farm) => write!(f, "{SCHEME}{farm}"),
            Self::Queue(farm, queue) => write!(f, "{SCHEME}{farm}/{queue}"),
            Self::Job(job) => job.fmt(f),
        }
    }
}

impl FromStr for JobsAddress {
    type Err = ParseJobAddressError;

    fn from_str(text: &str) -> Result<Self, ParseJobAddressError> {
        let ids = text
            .strip_prefix(SCHEME)
            .ok_or_else(|| ParseJobAddressError::Scheme(text.to_owned()))?;
        let ids = ids.strip_suffix('/').unwrap_or(ids);
        let mut parts = ids.split('/');
        match (parts.next(), parts.next(), parts.next()) {
            (None | Some(""), None, _) => Ok(Self::All),
            (Some(farm), None, _) => Ok(Self::Farm(id(text, farm)?)),
            (Some(farm), Some(queue), None) => Ok(Self::Queue(id(text, farm)?, id(text, queue)?)),
            _ => text.parse().map(Self::Job),
        }
    }
}

/// A folder that is named by ids, each of which is a part of a key as it is.
pub(crate) fn prefix(ids: String) -> KeyPrefix {
    let parsed: Result<KeyPrefix, ParseKeyError> = ids.parse();
    parsed.unwrap_or_else(|error| unreachable!("ids are parts of keys: {error}"))
}

impl fmt::Display for JobAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.outputs())
    }
}

impl FromStr for JobAddress {
    type Err = ParseJobAddressError;

    fn from_str(text: &str) -> Result<Self, ParseJobAddressError> {
        let wrong = || text.to_owned();
        let ids = text
            .strip_prefix(SCHEME)
            .ok_or_else(|| ParseJobAddressError::Scheme(wrong()))?;
        // A slash at the end is what completing a name in a shell leaves.
        let ids = ids.strip_suffix('/').unwrap_or(ids);
        let mut parts = ids.split('/').filter(|_| !ids.is_empty());
        let mut required = |what| {
            let part = parts.next();
            part.ok_or_else(|| ParseJobAddressError::Missing(wrong(), what))
        };
        let (farm, queue, job) = (required("farm")?, required("queue")?, required("job")?);
        let (step, task) = (parts.next(), parts.next());
        if parts.next().is_some() {
            return Err(ParseJobAddressError::TooLong(wrong()));
        }
        let part = match (step, task) {
            (None, _) => JobPart::Whole,
            (Some(step), None) => JobPart::Step(id(text, step)?),
            (Some(step), Some(task)) => JobPart::Task(id(text, step)?, id(text, task)?),
        };
        Ok(Self {
            farm: id(text, farm)?,
            queue: id(text, queue)?,
            job: id(text, job)?,
            part,
        })
    }
}

fn id<T: FromStr<Err = ParseIdError>>(
    address: &str,
    part: &str,
) -> Result<T, ParseJobAddressError> {
    part.parse().map_err(|source| ParseJobAddressError::Id {
        address: address.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef";

    fn job() -> String {
        format!("deadline://farm-{HEX}/queue-{HEX}/job-{HEX}")
    }

    #[test]
    fn an_address_reads_as_it_is_written() {
        let below = [
            String::new(),
            format!("/step-{HEX}"),
            format!("/step-{HEX}/task-{HEX}-12"),
        ];
        for below in below {
            let text = job() + &below;
            let address: JobAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(format!("{text}/").parse(), Ok(address));
            let folder = text.strip_prefix("deadline://").unwrap();
            assert_eq!(address.outputs().as_str(), folder);
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said() {
        let job = job();
        for (text, said) in [
            ("s3://bucket/x".to_owned(), "begins with deadline://"),
            ("deadline://".to_owned(), "names no farm"),
            (format!("deadline://farm-{HEX}"), "names no queue"),
            (
                format!("deadline://farm-{HEX}/queue-{HEX}/"),
                "names no job",
            ),
            (
                format!("{job}/step-{HEX}/task-{HEX}-1/x"),
                "more than five parts",
            ),
            (
                format!("deadline://queue-{HEX}/queue-{HEX}/job-{HEX}"),
                "is not the id of a farm",
            ),
            (format!("{job}/task-{HEX}-1"), "is not the id of a step"),
            (
                format!("{job}//task-{HEX}-1"),
                "\"\" is not the id of a step",
            ),
            (
                format!("{job}/step-{HEX}/task-{HEX}"),
                "is not the id of a task",
            ),
        ] {
            let error = text.parse::<JobAddress>().unwrap_err();
            let source = std::error::Error::source(&error);
            let told = format!(
                "{error} {}",
                source.map_or(String::new(), ToString::to_string)
            );
            assert!(told.contains(said), "{told}: {said}");
        }
    }

    #[test]
    fn an_address_names_everything_a_farm_a_queue_or_a_job() {
        let farm = format!("deadline://farm-{HEX}");
        let queue = format!("{farm}/queue-{HEX}");
        for (text, is) in [
            ("deadline://", "all"),
            (&farm, "farm"),
            (&queue, "queue"),
            (&job(), "job"),
        ] {
            let address: JobsAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            let found = match address {
                JobsAddress::All => "all",
                JobsAddress::Farm(_) => "farm",
                JobsAddress::Queue(..) => "queue",
                JobsAddress::Job(_) => "job",
            };
            assert_eq!(found, is);
            if is != "all" {
                assert_eq!(format!("{text}/").parse(), Ok(address));
            }
        }
        for wrong in ["s3://x", "deadline://x", "deadline://farm-1/"] {
            wrong.parse::<JobsAddress>().unwrap_err();
        }
    }

    #[test]
    fn an_output_belongs_to_the_job_its_step_and_its_task() {
        let whole: JobAddress = job().parse().unwrap();
        let task: JobAddress = format!("{}/step-{HEX}/task-{HEX}-1", job())
            .parse()
            .unwrap();
        let step = JobAddress {
            part: JobPart::Step(task.step().unwrap()),
            ..whole
        };
        let place = |number: Option<u64>| OutputPlace {
            farm: whole.farm,
            queue: whole.queue,
            job: whole.job,
            step: task.step().unwrap(),
            task: number.map(|number| format!("task-{HEX}-{number}").parse().unwrap()),
        };
        for (number, in_task) in [(Some(1), true), (Some(2), false), (None, false)] {
            assert!(whole.has(&place(number)) && step.has(&place(number)));
            assert_eq!(task.has(&place(number)), in_task);
        }
        let mut elsewhere = place(Some(1));
        elsewhere.job = format!("job-{}", "1".repeat(32)).parse().unwrap();
        assert!(!whole.has(&elsewhere) && !task.has(&elsewhere));
    }
}
