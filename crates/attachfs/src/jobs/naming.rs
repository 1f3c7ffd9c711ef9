//! Which jobs a person means, and the store of their queue.
//!
//! ```text
//!     deadline://FARM/QUEUE/JOB[/STEP[/TASK]]      an address
//!     --farm --queue --job --step --task           ids
//!     get-queue, get-job, get-task                 documents, as `aws deadline` prints them
//! ```
//!
//! The three are put together, and one may be said several times as long as all say the same.

use std::fmt::Display;

use attachfs_jobs::{
    FarmId, Job, JobAddress, JobId, JobPart, JobsAddress, Queue, QueueId, SessionActionId, StepId,
    Task, TaskId,
};

use crate::error::Error;

/// What a person said.
#[derive(Debug, Clone, Default)]
pub struct JobNames {
    /// An address.
    pub address: Option<JobsAddress>,
    /// A farm.
    pub farm: Option<FarmId>,
    /// A queue.
    pub queue: Option<QueueId>,
    /// A job.
    pub job: Option<JobId>,
    /// A step of the job.
    pub step: Option<StepId>,
    /// A task of the step.
    pub task: Option<TaskId>,
    /// A session action: only what it wrote is meant.
    pub action: Option<SessionActionId>,
    /// The store, as it was typed. It is believed over the queue's document: a bucket may have been copied.
    pub store: Option<String>,
    /// Documents of the service.
    pub documents: JobDocuments,
}

/// What `aws deadline get-queue`, `get-job` and `get-task` printed.
#[derive(Debug, Clone, Default)]
pub struct JobDocuments {
    /// The queue.
    pub queue: Option<Queue>,
    /// The job.
    pub job: Option<Job>,
    /// The task.
    pub task: Option<Task>,
}

/// The jobs that are meant.
#[derive(Debug, Clone)]
pub struct NamedJobs {
    /// The address of the store that has their manifests.
    pub store: String,
    /// Which jobs.
    pub address: JobsAddress,
    /// The session action whose outputs are meant; `None` for the latest of each task.
    pub action: Option<SessionActionId>,
    /// What the service says of the queue, the job and the task.
    pub documents: JobDocuments,
}

impl NamedJobs {
    /// The one job that is meant, or the part of it. Fails if a whole queue or more is.
    pub fn job(&self) -> Result<JobAddress, Error> {
        match &self.address {
            JobsAddress::Job(job) => Ok(*job),
            other => Err(
                Error::usage(format!("{other} names no job")).advise(match other {
                    JobsAddress::Queue(..) => {
                        "say which with --job; `attachfs jobs` lists those of the queue"
                    }
                    _ => "say which with --farm, --queue and --job; `attachfs jobs` lists what is there",
                }),
            ),
        }
    }
}

impl JobNames {
    /// Puts together what was said.
    pub fn resolve(self) -> Result<NamedJobs, Error> {
        let (address_farm, address_queue, of_address) = match self.address {
            None | Some(JobsAddress::All) => (None, None, None),
            Some(JobsAddress::Farm(farm)) => (Some(farm), None, None),
            Some(JobsAddress::Queue(farm, queue)) => (Some(farm), Some(queue), None),
            Some(JobsAddress::Job(job)) => (Some(job.farm), Some(job.queue), Some(job)),
        };
        let JobDocuments { queue, job, task } = &self.documents;
        let farm = agreed(
            "farm",
            [self.farm, address_farm, queue.as_ref().map(|q| q.farm)],
        )?;
        let queue_id = [self.queue, address_queue, queue.as_ref().map(|q| q.queue)];
        let queue_id = agreed("queue", queue_id)?;
        let job_id = [
            self.job,
            of_address.map(|of| of.job),
            job.as_ref().map(|j| j.job),
        ];
        let job_id = agreed("job", job_id)?;
        let step = agreed(
            "step",
            [self.step, of_address.and_then(|of| of.step()), None],
        )?;
        let task_id = of_address.and_then(|of| of.task());
        let task_id = agreed("task", [self.task, task_id, task.as_ref().map(|t| t.task)])?;
        let latest = task.as_ref().and_then(|task| task.latest_action);
        let address = address(farm, queue_id, job_id, step, task_id)?;
        Ok(NamedJobs {
            store: self.store()?,
            address,
            action: self.action.or(latest),
            documents: self.documents,
        })
    }

    fn store(&self) -> Result<String, Error> {
        if let Some(store) = &self.store {
            return Ok(store.clone());
        }
        let how = "say it with --store s3://bucket/rootPrefix, or give what `aws deadline get-queue` prints with --queue-json";
        match &self.documents.queue {
            Some(queue) => match &queue.attachments {
                Some(settings) => Ok(settings.store().to_string()),
                None => {
                    let sentence = format!("the queue {} has no job attachments", queue.queue);
                    Err(Error::usage(sentence))
                }
            },
            None => Err(Error::usage("the store of the queue is not known").advise(how)),
        }
    }
}

fn address(
    farm: Option<FarmId>,
    queue: Option<QueueId>,
    job: Option<JobId>,
    step: Option<StepId>,
    task: Option<TaskId>,
) -> Result<JobsAddress, Error> {
    let part = match (step, task) {
        (None, None) => JobPart::Whole,
        (Some(step), None) => JobPart::Step(step),
        (Some(step), Some(task)) => JobPart::Task(step, task),
        (None, Some(task)) => {
            let sentence = format!("the step of {task} is not known");
            return Err(Error::usage(sentence).advise("say it with --step"));
        }
    };
    let missing = |above: &str, what: &dyn Display| {
        let sentence = format!("the {above} of {what} is not known");
        Error::usage(sentence).advise(format!("say it with --{above}"))
    };
    match (farm, queue, job) {
        (None, None, None) if part == JobPart::Whole => Ok(JobsAddress::All),
        (Some(farm), None, None) if part == JobPart::Whole => Ok(JobsAddress::Farm(farm)),
        (Some(farm), Some(queue), None) if part == JobPart::Whole => {
            Ok(JobsAddress::Queue(farm, queue))
        }
        (Some(farm), Some(queue), Some(job)) => Ok(JobsAddress::Job(JobAddress {
            farm,
            queue,
            job,
            part,
        })),
        (_, None, Some(job)) => Err(missing("queue", &job)),
        (None, Some(queue), _) => Err(missing("farm", &queue)),
        (_, _, None) => match (step, task) {
            (Some(step), _) => Err(missing("job", &step)),
            // Without a step no task gets as far as this.
            (None, _) => Err(missing("job", &"the step")),
        },
    }
}

/// What all say who say anything.
fn agreed<T: PartialEq + Display + Copy>(
    what: &str,
    said: [Option<T>; 3],
) -> Result<Option<T>, Error> {
    let mut said = said.into_iter().flatten();
    let Some(first) = said.next() else {
        return Ok(None);
    };
    match said.find(|other| *other != first) {
        None => Ok(Some(first)),
        Some(other) => Err(Error::usage(format!(
            "two {what}s are named, {first} and {other}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef";

    fn names(address: &str) -> JobNames {
        JobNames {
            address: (!address.is_empty()).then(|| address.parse().unwrap()),
            store: Some("s3://bucket/prefix".to_owned()),
            ..JobNames::default()
        }
    }

    #[test]
    fn addresses_ids_and_documents_are_put_together() {
        let queue = format!(
            r#"{{"farmId":"farm-{HEX}","queueId":"queue-{HEX}",
            "jobAttachmentSettings":{{"s3BucketName":"bucket","rootPrefix":"q/"}}}}"#
        );
        let job = format!(r#"{{"jobId":"job-{HEX}"}}"#);
        let task = format!(
            r#"{{"taskId":"task-{HEX}-1","latestSessionActionId":"sessionaction-{HEX}-2"}}"#
        );
        let names = JobNames {
            step: Some(format!("step-{HEX}").parse().unwrap()),
            documents: JobDocuments {
                queue: Some(Queue::from_json(queue.as_bytes()).unwrap()),
                job: Some(Job::from_json(job.as_bytes()).unwrap()),
                task: Some(Task::from_json(task.as_bytes()).unwrap()),
            },
            ..JobNames::default()
        };
        let named = names.clone().resolve().unwrap();
        // Each slash of the queue's prefix counts.
        assert_eq!(named.store, "s3://bucket/q/");
        let whole = format!("deadline://farm-{HEX}/queue-{HEX}/job-{HEX}/step-{HEX}/task-{HEX}-1");
        assert_eq!(named.address.to_string(), whole);
        assert_eq!(
            named.action.unwrap().to_string(),
            format!("sessionaction-{HEX}-2")
        );
        let again = JobNames {
            address: Some(whole.parse().unwrap()),
            store: Some("elsewhere".to_owned()),
            ..names
        };
        assert_eq!(again.resolve().unwrap().store, "elsewhere");
    }

    #[test]
    fn what_is_missing_or_contradicts_is_named() {
        let other = "1".repeat(32);
        let job = format!("deadline://farm-{HEX}/queue-{HEX}/job-{HEX}");
        let all = names("");
        for (names, said) in [
            (
                JobNames {
                    job: Some(format!("job-{other}").parse().unwrap()),
                    ..names(&job)
                },
                "two jobs are named",
            ),
            (
                JobNames {
                    job: Some(format!("job-{HEX}").parse().unwrap()),
                    ..all.clone()
                },
                "the queue of job-",
            ),
            (
                JobNames {
                    queue: Some(format!("queue-{HEX}").parse().unwrap()),
                    ..all.clone()
                },
                "the farm of queue-",
            ),
            (
                JobNames {
                    task: Some(format!("task-{HEX}-0").parse().unwrap()),
                    ..names(&job)
                },
                "the step of task-",
            ),
            (
                JobNames {
                    step: Some(format!("step-{HEX}").parse().unwrap()),
                    ..names(&format!("deadline://farm-{HEX}"))
                },
                "the job of step-",
            ),
            (
                JobNames {
                    store: None,
                    ..names(&job)
                },
                "the store of the queue is not known",
            ),
        ] {
            let error = names.resolve().unwrap_err();
            assert!(error.to_string().contains(said), "{error}: {said}");
            assert_eq!(error.class(), attachfs_session::FailureClass::Usage);
        }
        let queue = names(&format!("deadline://farm-{HEX}/queue-{HEX}"));
        let error = queue.resolve().unwrap().job().unwrap_err();
        assert!(error.to_string().ends_with("names no job"), "{error}");
    }
}
