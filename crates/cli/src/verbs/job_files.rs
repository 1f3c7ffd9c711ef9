//! The files of a job, for verbs that take a manifest or a job.

use std::ffi::OsStr;

use attachfs::{CancellationToken, Error, JobFiles, JobFilesOf, LatestBy, OpenStore};

use super::naming::{document, is_job_address, named};
use super::stores::open_store;
use crate::args::Globals;
use crate::args::job_files::{JobFileOptions, Latest};
use crate::output::{count, remark};

/// Whether a job is meant, and not a manifest.
pub(super) fn is_job(manifest: Option<&OsStr>, options: &JobFileOptions) -> bool {
    manifest.is_some_and(is_job_address) || options.which.is_given()
}

/// Reads the files of a job, and says what is to be known of them.
pub(super) async fn read(
    globals: &Globals,
    address: Option<&str>,
    options: &JobFileOptions,
    store: Option<&str>,
) -> Result<(JobFiles, OpenStore), Error> {
    let meant = named(address, &options.which, store)?;
    meant.job()?;
    let steps = options.step_dependencies_json.as_deref();
    let steps = document(steps, attachfs::step_dependencies)?;
    let by = match options.latest_by {
        Latest::Modified => LatestBy::Modified,
        Latest::Name => LatestBy::Name,
    };
    let which = if options.inputs {
        JobFilesOf::Inputs(by, steps.unwrap_or_default())
    } else {
        JobFilesOf::Outputs(by)
    };
    let store = open_store(globals, &meant.store).await?;
    let never = CancellationToken::new();
    let files = attachfs::job_files(&store, &meant, &which, &never).await?;
    tell(&files, options.inputs);
    let files = match &options.asset_root {
        Some(root) => files.only(root)?,
        None => files,
    };
    Ok((files, store))
}

fn tell(files: &JobFiles, inputs: bool) {
    if files.roots.is_empty() {
        let what = if inputs { "inputs" } else { "outputs" };
        remark(&format!("{} has no {what} in this store", files.address));
    }
    if let Some(first) = files.differing.first() {
        remark(&format!(
            "of {} the latest run by the store's clock is another one than by the clocks of workers, which AWS's library takes (--latest-by name): {first}{}",
            count(files.differing.len() as u64, "task"),
            if files.differing.len() > 1 {
                " and others"
            } else {
                ""
            }
        ));
    }
    if files.foreign > 0 {
        remark(&format!(
            "{} passed over that are not those of outputs: `attachfs jobs` names them",
            count(files.foreign, "key")
        ));
    }
}
