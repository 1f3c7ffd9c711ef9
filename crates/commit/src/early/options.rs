//! What is sent before a commit, and how.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::states::{CommitOptions, CommitStep};

/// What is sent before a commit, and how.
#[derive(Debug, Clone)]
pub struct EarlyOptions {
    /// What the commit will take: its output directories and patterns.
    pub commit: CommitOptions,
    /// At most so many bytes a second, within one file too if the store can be slowed.
    pub max_rate: Option<NonZeroU64>,
    /// A file is sent when it has not changed for so long.
    pub quiet: Duration,
    /// Called at each step, before it goes on.
    pub step: Option<fn(CommitStep)>,
}

impl EarlyOptions {
    /// Long enough that a program that writes a file anew at once has begun to.
    pub const QUIET: Duration = Duration::from_secs(2);
}
