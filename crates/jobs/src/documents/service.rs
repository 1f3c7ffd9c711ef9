//! What the service says of a queue, a job, a step and a task.

use std::collections::BTreeMap;
use std::str::FromStr;

use attachfs_store::{BucketName, RootPrefix, StoreAddress};
use serde_json::Value;

use super::attachments::Attachments;
use super::fields::{DocumentError, Field};
use super::syntax::{self, Syntax};
use crate::{FarmId, JobId, QueueId, SessionActionId, StepId, StorageProfileId, TaskId};

/// Reads JSON and what is in it.
fn read<T>(
    document: &'static str,
    bytes: &[u8],
    read: impl FnOnce(&Field<'_>) -> Result<T, DocumentError>,
) -> Result<T, DocumentError> {
    syntax::read(document, Syntax::Json, bytes, read)
}

pub(super) fn id<T: FromStr>(
    document: &Field<'_>,
    name: &str,
    expected: &'static str,
) -> Result<T, DocumentError> {
    document.get(name)?.parse(expected)
}

pub(super) fn if_there<T: FromStr>(
    document: &Field<'_>,
    name: &str,
    expected: &'static str,
) -> Result<Option<T>, DocumentError> {
    let field = document.get(name)?.if_there();
    field.map(|field| field.parse(expected)).transpose()
}

/// A text that may be left out.
fn name(document: &Field<'_>, name: &str) -> Result<Option<String>, DocumentError> {
    let field = document.get(name)?.if_there();
    field
        .map(|field| field.text().map(str::to_owned))
        .transpose()
}

/// Where a queue keeps attachments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentSettings {
    /// The bucket.
    pub bucket: BucketName,
    /// What every key begins with. Every slash counts: AWS's clients join `q/` and `Data` to `q//Data`.
    pub prefix: RootPrefix,
}

impl AttachmentSettings {
    /// The queue's store.
    pub fn store(&self) -> StoreAddress {
        StoreAddress::S3 {
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
        }
    }
}

/// Whether a text can be the root prefix of a queue: 1 to 63 letters, digits, `-`, `_` and `/`.
fn is_root_prefix(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/');
    (1..=63).contains(&text.len()) && text.bytes().all(fits)
}

/// What `aws deadline get-queue` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// The farm.
    pub farm: FarmId,
    /// The queue.
    pub queue: QueueId,
    /// What people call it.
    pub name: Option<String>,
    /// Where it keeps attachments; `None` if it has none.
    pub attachments: Option<AttachmentSettings>,
}

impl Queue {
    /// Reads the document.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DocumentError> {
        read("the queue's document", bytes, |queue| {
            let settings = queue.get("jobAttachmentSettings")?.if_there();
            // The service gives fields without text to a queue that has no settings.
            let is_set = |settings: &Field<'_>| {
                let bucket = settings.get("s3BucketName")?.if_there();
                bucket.map_or(Ok(false), |bucket| {
                    bucket.text().map(|text| !text.is_empty())
                })
            };
            let attachments = match settings {
                Some(settings) if is_set(&settings)? => {
                    let prefix = settings.get("rootPrefix")?;
                    if !is_root_prefix(prefix.text()?) {
                        return Err(prefix.wrong("1 to 63 letters, digits, '-', '_' and '/'"));
                    }
                    Some(AttachmentSettings {
                        bucket: id(&settings, "s3BucketName", "the name of a bucket")?,
                        prefix: prefix.parse("a root prefix")?,
                    })
                }
                _ => None,
            };
            Ok(Self {
                farm: id(queue, "farmId", "the id of a farm")?,
                queue: id(queue, "queueId", "the id of a queue")?,
                name: name(queue, "displayName")?,
                attachments,
            })
        })
    }
}

/// The value of a parameter of a job or a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parameter {
    /// A path, as it is on the machine that submitted.
    Path(String),
    /// Several paths.
    Paths(Vec<String>),
    /// A number, a text or the like.
    Other {
        /// What it is, `int` or `chunkInt` for example.
        kind: String,
        /// The value as text.
        text: String,
    },
}

fn parameters(document: &Field<'_>) -> Result<BTreeMap<String, Parameter>, DocumentError> {
    let Some(parameters) = document.get("parameters")?.if_there() else {
        return Ok(BTreeMap::new());
    };
    let mut all = BTreeMap::new();
    for (name, union) in parameters.fields()? {
        let members = union.fields()?;
        let [(kind, value)] = &members[..] else {
            return Err(union.wrong("an object of one field, the kind"));
        };
        let parameter = match kind.as_str() {
            "path" => Parameter::Path(value.text()?.to_owned()),
            "pathList" => Parameter::Paths(value.texts()?),
            _ => Parameter::Other {
                kind: (*kind).clone(),
                text: match value.value("a value")? {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                },
            },
        };
        all.insert(name.clone(), parameter);
    }
    Ok(all)
}

/// What `aws deadline get-job` prints. It does not say which farm and queue the job is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The job.
    pub job: JobId,
    /// What people call it.
    pub name: Option<String>,
    /// Its attachments, if it has any.
    pub attachments: Option<Attachments>,
    /// Its parameters by their names.
    pub parameters: BTreeMap<String, Parameter>,
    /// The storage profile of the machine that submitted, if it has one.
    pub storage_profile: Option<StorageProfileId>,
}

impl Job {
    /// Reads the document.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DocumentError> {
        read("the job's document", bytes, Self::read)
    }

    fn read(job: &Field<'_>) -> Result<Self, DocumentError> {
        let attachments = job.get("attachments")?.if_there();
        let attachments = match attachments {
            Some(attachments) if !attachments.object()?.is_empty() => {
                Some(Attachments::read(&attachments)?)
            }
            _ => None,
        };
        Ok(Self {
            job: id(job, "jobId", "the id of a job")?,
            name: name(job, "name")?,
            attachments,
            parameters: parameters(job)?,
            storage_profile: if_there(job, "storageProfileId", "the id of a storage profile")?,
        })
    }
}

/// What `aws deadline search-jobs` and `list-jobs` print, a bare list of jobs, or one job.
pub fn jobs(bytes: &[u8]) -> Result<Vec<Job>, DocumentError> {
    read("the document of jobs", bytes, |document| {
        if let Ok(jobs) = document.list() {
            return jobs.iter().map(Job::read).collect();
        }
        match document.get("jobs")?.if_there() {
            Some(jobs) => jobs.list()?.iter().map(Job::read).collect(),
            None => Ok(vec![Job::read(document)?]),
        }
    })
}

/// What `aws deadline get-step` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The step.
    pub step: StepId,
    /// What the template calls it.
    pub name: Option<String>,
}

impl Step {
    /// Reads the document.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DocumentError> {
        read("the step's document", bytes, |step| {
            Ok(Self {
                step: id(step, "stepId", "the id of a step")?,
                name: name(step, "name")?,
            })
        })
    }
}

/// What `aws deadline get-task` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The task.
    pub task: TaskId,
    /// The session action that ran it last, if it has run: its outputs are found by that, whatever clocks say.
    pub latest_action: Option<SessionActionId>,
    /// Its parameters by their names.
    pub parameters: BTreeMap<String, Parameter>,
}

impl Task {
    /// Reads the document.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DocumentError> {
        read("the task's document", bytes, |task| {
            Ok(Self {
                task: id(task, "taskId", "the id of a task")?,
                latest_action: if_there(
                    task,
                    "latestSessionActionId",
                    "the id of a session action",
                )?,
                parameters: parameters(task)?,
            })
        })
    }
}

/// The steps that a step depends on, as `aws deadline list-step-dependencies` prints them, in their order.
pub fn step_dependencies(bytes: &[u8]) -> Result<Vec<StepId>, DocumentError> {
    read("the document of a step's dependencies", bytes, |document| {
        let steps = document.get("dependencies")?.list()?;
        steps
            .iter()
            .map(|step| id(step, "stepId", "the id of a step"))
            .collect()
    })
}
