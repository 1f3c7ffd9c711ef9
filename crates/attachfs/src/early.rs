//! Whether and how outputs are sent while the job goes on.

use std::num::NonZeroU64;
use std::sync::Arc;

use attachfs_commit::{EarlyOptions, EarlyUpload};
use attachfs_store::ChunkStore;
use tokio::runtime::Handle;

use crate::arguments::{ChosenPaths, CommitArguments};
use crate::error::{Doing as _, Error};
use crate::opened::OpenedSession;
use crate::service::StepHook;

/// What is sent of a job's outputs while it goes on: where output directories are declared, what is written and closed there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EarlyUploads {
    /// Nothing: all of it is left to the commit.
    pub off: bool,
    /// At most so many bytes a second, on average.
    pub max_rate: Option<NonZeroU64>,
    /// Only what these patterns choose.
    pub chosen: ChosenPaths,
}

impl EarlyUploads {
    /// Starts to send outputs, unless nothing is to be sent: nobody says what the outputs are, or nothing can be written. If it
    /// cannot be started, all of them are left to the commit.
    pub(crate) fn start(
        &self,
        session: &OpenedSession,
        step: Option<StepHook>,
        runtime: &Handle,
    ) -> Option<EarlyUpload> {
        let meta = &session.meta;
        if self.off || meta.read_only || meta.output_dirs.is_empty() {
            return None;
        }
        let started = self.start_now(session, step, runtime.clone());
        let not_started = |error: &Error| {
            let error = error as &dyn std::error::Error;
            tracing::warn!(error, "outputs are left to the commit");
        };
        started.inspect_err(not_started).ok()
    }

    fn start_now(
        &self,
        session: &OpenedSession,
        step: Option<StepHook>,
        runtime: Handle,
    ) -> Result<EarlyUpload, Error> {
        let commit = CommitArguments {
            chosen: self.chosen.clone(),
            ..CommitArguments::default()
        };
        let options = EarlyOptions {
            commit: commit.options(&session.meta)?,
            max_rate: self.max_rate,
            quiet: EarlyOptions::QUIET,
            step,
        };
        let store: Arc<dyn ChunkStore> = session.store.store.clone();
        EarlyUpload::start(&session.session, store, options, runtime)
            .doing(|| "cannot start the thread that sends outputs before the commit".to_owned())
    }
}
