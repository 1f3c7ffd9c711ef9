//! Exit codes, and the last line that a failure prints.

use std::io::Write as _;
use std::process::ExitCode;

use attachfs::FailureClass;

/// How a verb failed, where the class alone does not say it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// As the error's class says.
    Error(anyhow::Error),
    /// `run`: the command's own code, or that of what went wrong around it.
    Code(u8),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// What `run` exits with if it failed itself.
pub(crate) const RUN_FAILED: u8 = 125;

/// What `run` exits with if its command cannot be run.
pub(crate) const NOT_RUNNABLE: u8 = 126;

/// The exit code of `run` if the command does not exist.
pub(crate) const NO_COMMAND: u8 = 127;

/// The exit code of a verb that found damaged bytes.
pub(crate) const INTEGRITY: u8 = 12;

/// The exit code of a verb that left something undone; the same command goes on.
pub(crate) const INCOMPLETE: u8 = 13;

/// The exit code of a verb that its user cancelled.
pub(crate) const CANCELLED: u8 = 15;

/// The exit code of a verb that left out files of a job, since they have no place on this machine.
pub(crate) const UNMAPPED: u8 = 16;

pub(crate) fn code(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Code(code)) => ExitCode::from(code),
        Err(Failure::Error(error)) => {
            report(&error);
            ExitCode::from(code_of(&error))
        }
    }
}

/// Ends the process because of a failure that keeps its other threads from ending.
#[expect(
    clippy::exit,
    reason = "a thread that the kernel lets wait cannot be asked to end"
)]
pub(crate) fn at_once(error: attachfs::Error) {
    let error = anyhow::Error::from(error);
    report(&error);
    std::process::exit(code_of(&error).into());
}

/// Prints an error with its causes as one line. Where that cannot be written, as on a full disk, the exit code still tells.
pub(crate) fn report(error: &anyhow::Error) {
    let line = crate::output::line_of(&chain(error));
    let _ = writeln!(std::io::stderr(), "attachfs: {line}");
}

/// An error, its causes and what to do about it, in one line.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let causes = attachfs::error_chain(error.as_ref());
    let error: Option<&attachfs::Error> = error.downcast_ref();
    match error.and_then(attachfs::Error::advice) {
        Some(advice) => format!("{causes}; {advice}"),
        None => causes,
    }
}

/// Says of a transfer that some files failed, with the exit code for it.
pub(crate) fn of_summary(summary: &attachfs::Summary) -> Result<(), Failure> {
    if summary.is_complete() {
        Ok(())
    } else {
        Err(Failure::Code(INCOMPLETE))
    }
}

fn code_of(error: &anyhow::Error) -> u8 {
    let class = error
        .downcast_ref::<attachfs::Error>()
        .map(attachfs::Error::class);
    code_of_class(class.unwrap_or(FailureClass::Other))
}

/// The exit code of a class of failure.
pub(crate) fn code_of_class(class: FailureClass) -> u8 {
    match class {
        FailureClass::Usage => 2,
        FailureClass::Mount => 10,
        FailureClass::Store => 11,
        FailureClass::Integrity => INTEGRITY,
        FailureClass::Incomplete => INCOMPLETE,
        FailureClass::Busy => 14,
        FailureClass::Cancelled => CANCELLED,
        FailureClass::Other => 1,
    }
}
