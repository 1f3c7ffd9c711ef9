//! The files of a job, for verbs that take a manifest or a job.

use std::ffi::OsStr;

use attachfs::{
    CancellationToken, Error, FoundFiles, JobFiles, OpenStore, find_job_files, step_dependencies,
};

use super::naming::{document, is_job_address, named};
use super::stores::open_store;
use crate::args::Globals;
use crate::args::job_files::{JobFileOptions, OfJob};
use crate::output;

/// What is meant where a manifest or a job can be named.
pub(super) enum Meant<'a> {
    /// A manifest.
    Manifest(&'a OsStr),
    /// A job; its address, unless options name it.
    Job(Option<&'a str>),
}

impl<'a> Meant<'a> {
    /// The manifest or the address may come first in `typed`. What comes behind it is given, too.
    pub(super) fn of(
        typed: &[Option<&'a OsStr>],
        options: &JobFileOptions,
    ) -> Result<(Self, Option<&'a OsStr>), Error> {
        let mut typed = typed.iter().copied().flatten();
        let first = typed.next();
        let (meant, behind) = match first {
            Some(first) if is_job_address(first) => (Self::Job(first.to_str()), typed.next()),
            first if options.job.is_given() => (Self::Job(None), first),
            Some(first) => (Self::Manifest(first), typed.next()),
            None => {
                return Err(Error::usage("no manifest and no job is named")
                    .advise("name a file, an s3:// address, or deadline://FARM/QUEUE/JOB"));
            }
        };
        match typed.next() {
            Some(more) => Err(Error::usage(format!(
                "the options name a job, and {} is one name too many",
                more.display()
            ))),
            None => Ok((meant, behind)),
        }
    }
}

/// Which files of a job are meant.
pub(super) fn chosen(of: &OfJob) -> Result<JobFiles, Error> {
    let latest_by = of.latest_by.into();
    if !of.inputs {
        return Ok(JobFiles::Outputs(latest_by));
    }
    let path = of.step_dependencies_json.as_deref();
    Ok(JobFiles::Inputs {
        dependencies: document(path, step_dependencies)?.unwrap_or_default(),
        latest_by,
    })
}

/// Reads the files of a job, and says what is to be known of them.
pub(super) async fn read(
    globals: &Globals,
    address: Option<&str>,
    options: &JobFileOptions,
    store: Option<&str>,
) -> Result<(FoundFiles, OpenStore), Error> {
    let meant = named(address, &options.job, store)?;
    meant.job()?;
    let files = chosen(&options.of_job)?;
    let store = open_store(globals, &meant.store).await?;
    let found = find_job_files(&meant, &files, &store, &CancellationToken::new()).await?;
    tell(&found, &files, &meant.store);
    let found = match &options.asset_root {
        Some(root) => found.only(root)?,
        None => found,
    };
    Ok((found, store))
}

/// Says what is worth knowing of what was found.
pub(super) fn tell(found: &FoundFiles, files: &JobFiles, store: &str) {
    if found.is_empty() {
        let what = match files {
            JobFiles::Outputs(_) => "outputs",
            JobFiles::Inputs { .. } => "inputs",
        };
        output::remark(&format!("{} has no {what} in {store}", found.address));
    }
    for differs in &found.differing {
        let (time, action) = differs.by_modified;
        let (other_time, other) = differs.by_name;
        let task = differs
            .place
            .task
            .map_or_else(|| differs.place.step.to_string(), |task| task.to_string());
        output::remark(&format!(
            "{task}: the run that was written last is {action} of {time}, and the last by the workers' clocks is {other} \
             of {other_time}; --latest-by chooses"
        ));
    }
    if found.foreign > 0 {
        output::remark(&format!(
            "{} among the outputs that are no keys of outputs are passed over",
            output::count(found.foreign, "key")
        ));
    }
}
