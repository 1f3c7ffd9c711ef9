//! Submissions in the background: the program starts itself again, and leaves when that is on its way.

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use attachfs::{
    BackgroundSubmission, Error, Progress, ProgressEvent, SubmissionState, SubmissionStatus,
};
use serde_json::json;

use super::preparing::{Sent, Typed, prepare, send};
use crate::args::Globals;
use crate::args::submit::Submit;
use crate::exit::{self, Failure};
use crate::output;
use crate::places::places;
use crate::progress::Shown;

/// How long the process may take to begin.
const BEGINS_WITHIN: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How often it is written down how far a submission is.
const EVERY: Duration = Duration::from_secs(1);

/// Starts the process, and prints the id of the submission when it is on its way.
pub(super) fn start(globals: &Globals, args: &Submit) -> Result<(), Failure> {
    refuse_standard_input(args)?;
    let submission = BackgroundSubmission::create(&places().state)?;
    let log = submission.create_log()?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut child = Command::new(program)
        .args(as_process(submission.id(), args.yes))
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot write to the log")?)
        .stderr(log)
        .spawn()
        .context("cannot start the background process")?;
    let until = Instant::now() + BEGINS_WITHIN;
    // It may be done already.
    while !submission.is_held()? && submission.status()?.state != SubmissionState::Done {
        let ended = child
            .try_wait()
            .context("cannot wait for the background process")?;
        if ended.is_some() || Instant::now() > until {
            break;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    if globals.json {
        let log = submission.log().display().to_string();
        let value = json!({ "submission": submission.id(), "pid": child.id(), "log": log });
        return Ok(output::print_json(&value)?);
    }
    Ok(output::print(&format!("{}\n", submission.id()))?)
}

/// The process in the background cannot read what was piped into its starter.
fn refuse_standard_input(args: &Submit) -> Result<(), Failure> {
    let is_piped = [&args.place.queue_json, &args.assets.storage_profile_json]
        .into_iter()
        .flatten()
        .any(|path| path == Path::new("-"));
    if is_piped {
        let why = "what goes on in the background cannot read standard input: name files";
        return Err(Error::usage(why).into());
    }
    Ok(())
}

/// The arguments of the process. What was asked is answered; what follows `--` is no option.
fn as_process(id: &str, yes: bool) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let options = arguments.iter().position(|argument| argument == "--");
    let at = options.unwrap_or(arguments.len());
    let mut more = vec!["--background-process".into(), id.into()];
    if !yes {
        more.push("--yes".into());
    }
    arguments.splice(at..at, more);
    arguments
}

/// In the process: submits, and writes down what came of it.
pub(super) async fn go_on(globals: &Globals, args: &Submit, id: &str) -> Result<(), Failure> {
    let submission = BackgroundSubmission::open(&places().state, id)?;
    let _lock = submission.hold()?;
    attachfs::leave_terminal().context("cannot leave the terminal")?;
    let result = submitted(globals, args, &submission).await;
    let status = match &result {
        Ok(sent) => SubmissionStatus {
            state: SubmissionState::Done,
            attachments_file: sent
                .saved_as
                .as_ref()
                .map(|path| path.display().to_string()),
            create_job: Some(sent.call.clone()),
            ..SubmissionStatus::default()
        },
        Err(failure) => SubmissionStatus {
            state: SubmissionState::Failed,
            failure: reason(failure),
            ..SubmissionStatus::default()
        },
    };
    submission.write(&status)?;
    result.map(drop)
}

async fn submitted(
    globals: &Globals,
    args: &Submit,
    submission: &BackgroundSubmission,
) -> Result<Sent, Failure> {
    let typed = Typed::read(args)?;
    let shown = Shown::cancellable(globals.json);
    let Some(prepared) = prepare(globals, args, typed, &shown)? else {
        return Err(Error::usage("a dry run does not go on in the background").into());
    };
    let prepared = prepared.with_caches(args)?;
    let document = submission.document();
    let output = args.output.as_deref().unwrap_or(&document);
    let told = Told {
        submission,
        last: Mutex::new(Instant::now()),
    };
    let cancel = shown.cancel();
    Ok(send(globals, args, &prepared, Some(output), &told, cancel).await?)
}

fn reason(failure: &Failure) -> Option<attachfs::Failure> {
    let Failure::Error(error) = failure else {
        return None;
    };
    Some(match error.downcast_ref::<Error>() {
        Some(error) => attachfs::Failure::from(error),
        None => attachfs::Failure::new(attachfs::FailureClass::Other, error.as_ref()),
    })
}

/// Writes down how far it is.
struct Told<'a> {
    submission: &'a BackgroundSubmission,
    last: Mutex<Instant>,
}

impl Progress for Told<'_> {
    fn update(&self, event: &ProgressEvent) -> ControlFlow<()> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= EVERY {
            *last = Instant::now();
            if let Err(error) = self.submission.write(&SubmissionStatus::of(event)) {
                // Who asks sees an older state; the submission itself goes on.
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "it is not written down how far the submission is"
                );
            }
        }
        ControlFlow::Continue(())
    }
}

/// Says how a submission is. Exit code 13 if it goes on or was interrupted, that of its failure if it failed.
pub(super) fn status(globals: &Globals, id: &str) -> Result<(), Failure> {
    let submission = BackgroundSubmission::open(&places().state, id)?;
    let status = submission.status()?;
    if globals.json {
        output::print_json(&status)?;
    } else {
        output::print(&text(&submission, &status))?;
    }
    match (status.state, status.failure) {
        (SubmissionState::Done, _) => Ok(()),
        (SubmissionState::Failed, Some(failure)) => {
            Err(Failure::Code(exit::code_of_class(failure.class)))
        }
        (SubmissionState::Failed, None) => Err(Failure::Code(1)),
        (SubmissionState::Running | SubmissionState::Interrupted, _) => {
            Err(Failure::Code(exit::INCOMPLETE))
        }
    }
}

fn text(submission: &BackgroundSubmission, status: &SubmissionStatus) -> String {
    let log = submission.log();
    let log = output::shown(&log);
    match status.state {
        SubmissionState::Running => {
            let of =
                |total: Option<u64>| total.map_or(String::new(), |total| format!(" of {total}"));
            format!(
                "running    {}{} done, {}\n",
                status.items_done,
                of(status.items_total),
                output::bytes(status.bytes_done)
            )
        }
        SubmissionState::Done => format!(
            "done       {}\n{}\n",
            output::line_of(status.attachments_file.as_deref().unwrap_or_default()),
            output::line_of(status.create_job.as_deref().unwrap_or_default())
        ),
        SubmissionState::Failed => {
            let failure = status.failure.as_ref();
            let why = failure.map(|failure| failure.text.clone());
            format!(
                "failed     {}\nlog        {log}\n",
                output::line_of(&why.unwrap_or_default())
            )
        }
        SubmissionState::Interrupted => {
            format!("interrupted: the same command goes on\nlog        {log}\n")
        }
    }
}
