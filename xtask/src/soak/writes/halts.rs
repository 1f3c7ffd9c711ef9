//! Places at which a process of the program halts by itself, to be killed there: steps of a commit, and durable steps.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use attachfs_durable::steps::Step;

use super::steps::Random;

/// The variable that the program reads.
const VARIABLE: &str = "ATTACHFS_HALT_AT";

/// The steps of a commit.
pub(super) const OF_COMMITS: [&str; 6] = [
    "Planned",
    "Hashed",
    "Uploaded",
    "Intended",
    "Sent",
    "Published",
];

/// The steps of what is sent before a commit.
pub(super) const EARLY: [&str; 2] = ["EarlyHashed", "EarlySent"];

/// A place: the name of a step, and for a durable one the how manyth it is and whether it halts behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Halt(String);

impl Halt {
    pub(super) fn of_commit(random: &mut Random) -> Self {
        Self(random.of(&OF_COMMITS).to_owned())
    }

    pub(super) fn at_commit(step: &str) -> Self {
        Self(step.to_owned())
    }

    pub(super) fn draw(random: &mut Random) -> Self {
        if random.one_in(3) {
            return Self::of_commit(random);
        }
        let most = random.of(&[1, 3, 100]);
        let number = 1 + random.below(most);
        Self::durable(random.of(Step::ALL), number, random.one_in(2))
    }

    pub(super) fn durable(step: Step, number: u64, is_after: bool) -> Self {
        let after = if is_after { ":after" } else { "" };
        Self(format!("{step:?}:{number}{after}"))
    }

    /// As [`Display`](fmt::Display) shows it.
    pub(super) fn printed(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(super) fn is_of_commit(&self) -> bool {
        OF_COMMITS.contains(&self.0.as_str())
    }

    pub(super) fn tell(&self, command: &mut Command) {
        command.env(VARIABLE, &self.0);
    }

    /// The name of the step.
    pub(super) fn name(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }

    /// What the process says when it halts.
    pub(super) fn said(&self) -> String {
        format!("halted at {}", self.name())
    }
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who reads in a log that a process halts.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    log: PathBuf,
    start: usize,
    said: Option<String>,
}

impl Watch {
    /// From the present end of the log on.
    pub(super) fn on(log: &Path, halt: Option<&Halt>) -> Self {
        Self {
            log: log.to_owned(),
            start: fs::metadata(log).map_or(0, |data| data.len() as usize),
            said: halt.map(Halt::said),
        }
    }

    pub(super) fn has_halted(&self) -> bool {
        let Some(said) = &self.said else {
            return false;
        };
        let log = fs::read(&self.log).unwrap_or_default();
        let since = log.get(self.start..).unwrap_or_default();
        String::from_utf8_lossy(since).contains(said)
    }
}
