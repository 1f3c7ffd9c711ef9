//! Steps that are timed, may be skipped with a reason, and are summed up at the end.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;

/// How a step ended that did not fail.
#[derive(Debug)]
pub(super) enum Outcome {
    /// With a note for the summary, possibly empty.
    Passed(String),
    /// With the reason why it could not be done here.
    Skipped(String),
}

impl Outcome {
    pub(super) fn passed() -> Self {
        Self::Passed(String::new())
    }
}

/// All steps so far; shown as a table.
#[derive(Debug, Default)]
pub(super) struct Summary {
    steps: Vec<Done>,
}

#[derive(Debug)]
struct Done {
    name: String,
    result: Result<Outcome>,
    time: Duration,
}

impl Summary {
    /// Does the step and keeps how it went.
    pub(super) fn add(&mut self, name: &str, step: impl FnOnce() -> Result<Outcome>) {
        println!("\n== {name}");
        let start = Instant::now();
        let result = step();
        if let Err(error) = &result {
            println!("{name} failed: {error:#}");
        }
        self.steps.push(Done {
            name: name.to_owned(),
            result,
            time: start.elapsed(),
        });
    }

    pub(super) fn failed(&self, name: &str) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| step.name == name && step.result.is_err())
    }

    pub(super) fn any_failed(&self) -> bool {
        self.steps.iter().any(|step| step.result.is_err())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            let (word, note) = match &step.result {
                Ok(Outcome::Passed(note)) => ("passed", note.clone()),
                Ok(Outcome::Skipped(reason)) => ("skipped", reason.clone()),
                Err(error) => ("FAILED", format!("{error:#}")),
            };
            let seconds = step.time.as_secs_f64();
            let line = format!("{:<11}{word:<8}{seconds:>7.1} s  {note}", step.name);
            writeln!(f, "{}", line.trim_end())?;
        }
        let total: Duration = self.steps.iter().map(|step| step.time).sum();
        write!(f, "{:<19}{:>7.1} s", "total", total.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_does_not_hide_behind_later_ones() {
        let mut summary = Summary::default();
        summary.add("build", || anyhow::bail!("no compiler"));
        summary.add("tests", || Ok(Outcome::passed()));
        assert!(summary.any_failed() && summary.failed("build") && !summary.failed("tests"));
        assert!(summary.to_string().contains("no compiler"));
    }

    #[test]
    fn a_skipped_step_is_no_failure_and_says_why() {
        let mut summary = Summary::default();
        summary.add("advisories", || {
            Ok(Outcome::Skipped("not reachable".to_owned()))
        });
        assert!(!summary.any_failed());
        assert!(summary.to_string().contains("not reachable"));
    }
}
