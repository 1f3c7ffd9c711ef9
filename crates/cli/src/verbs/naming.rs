//! Which jobs a verb is to work on.

use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use attachfs::{Error, Job, JobDocuments, JobNames, JobsAddress, NamedJobs, Queue, Task};

use crate::args::jobs::JobOptions;

/// A document of the service is shorter.
const LONGEST_DOCUMENT: u64 = 64 << 20;

/// Whether a document was read from standard input.
static INPUT_IS_READ: AtomicBool = AtomicBool::new(false);

/// Whether a text is meant as an address of jobs, right or wrong.
pub(super) fn is_job_address(text: &std::ffi::OsStr) -> bool {
    text.to_str().is_some_and(JobsAddress::is_one)
}

/// Reads the documents and puts together what was said.
pub(super) fn named(
    address: Option<&str>,
    options: &JobOptions,
    store: Option<&str>,
) -> Result<NamedJobs, Error> {
    let paths = [&options.queue_json, &options.job_json, &options.task_json];
    let from_input = paths.into_iter().flatten().filter(|path| is_input(path));
    if from_input.count() > 1 {
        return Err(input_is_read());
    }
    let documents = JobDocuments {
        queue: document(options.queue_json.as_deref(), Queue::from_json)?,
        job: document(options.job_json.as_deref(), Job::from_json)?,
        task: document(options.task_json.as_deref(), Task::from_json)?,
    };
    let names = JobNames {
        address: address.map(str::parse).transpose()?,
        farm: options.farm,
        queue: options.queue,
        job: options.job,
        step: options.step,
        task: options.task,
        action: options.session_action,
        store: store.map(str::to_owned),
        documents,
    };
    names.resolve()
}

/// Whether standard input is meant.
fn is_input(path: &Path) -> bool {
    path == Path::new("-")
}

fn input_is_read() -> Error {
    let advice = "give `-` for one document and files for the others";
    Error::usage("standard input can be read only once").advise(advice)
}

/// Reads a document from a file, or from standard input if that is `-`. That is so once in the life of the program: the next one is refused.
pub(super) fn document<T, E: std::error::Error + Send + Sync + 'static>(
    path: Option<&Path>,
    read: impl FnOnce(&[u8]) -> Result<T, E>,
) -> Result<Option<T>, Error> {
    let Some(path) = path else {
        return Ok(None);
    };
    let unread = |error| Error::usage(format!("cannot read {}", path.display())).because(error);
    if is_input(path) && INPUT_IS_READ.swap(true, Ordering::Relaxed) {
        return Err(input_is_read());
    }
    let mut bytes = Vec::new();
    let from: Box<dyn std::io::Read> = if is_input(path) {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(path).map_err(unread)?)
    };
    from.take(LONGEST_DOCUMENT + 1)
        .read_to_end(&mut bytes)
        .map_err(unread)?;
    if bytes.len() as u64 > LONGEST_DOCUMENT {
        return Err(Error::usage(format!(
            "{} is longer than a document may be, {LONGEST_DOCUMENT} bytes",
            path.display()
        )));
    }
    let found = read(&bytes);
    let found = found
        .map_err(|error| Error::usage(format!("cannot use {}", path.display())).because(error));
    found.map(Some)
}
