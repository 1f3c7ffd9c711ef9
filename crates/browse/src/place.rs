//! Where a directory is: one of the folders that jobs are sorted into, or a directory of a root.

use std::sync::Arc;

use attachfs_jobs::{ActionTime, JobAddress, SessionActionId, StepId, TaskId};
use attachfs_manifest::ContentHash;

/// What wrote the outputs in one folder of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    /// One task.
    Task(TaskId),
    /// A session action that ran several tasks.
    Action(ActionTime, SessionActionId),
}

/// Which manifests of a job are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum View {
    Latest,
    Part(StepId, Part),
    Run(ActionTime, SessionActionId),
    Inputs,
}

/// What a view has below one root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Content {
    pub(crate) job: JobAddress,
    pub(crate) view: View,
    /// The hash in the keys that stands for the root.
    pub(crate) root: ContentHash,
}

/// What a directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A folder for each job.
    Jobs,
    /// The views of a job.
    Job(JobAddress),
    Steps(JobAddress),
    Step(JobAddress, StepId),
    Runs(JobAddress),
    /// A folder for each root of a view.
    Roots(JobAddress, View),
    /// A directory of a root, by its path in it; the root itself has the empty path.
    In(Content, Box<[u8]>),
}

/// A directory of the mount.
#[derive(Debug)]
pub(crate) struct Dir {
    pub(crate) place: Place,
    /// From the mount point; empty for that itself.
    pub(crate) path: Box<[u8]>,
    /// The directory it is in; `None` for the mount point.
    pub(crate) parent: Option<Arc<Dir>>,
}

impl Dir {
    /// The path of something in it.
    pub(crate) fn below(&self, name: &[u8]) -> Box<[u8]> {
        joined(&self.path, name)
    }
}

/// A path and a name below it.
pub(crate) fn joined(path: &[u8], name: &[u8]) -> Box<[u8]> {
    match path {
        [] => name.into(),
        path => [path, name].join(&b'/').into(),
    }
}
