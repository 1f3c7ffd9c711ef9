//! What is expected of each test of xfstests: `tests/posix/xfstests.toml`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// What came of one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed,
    /// xfstests says why it did not run it.
    NotRun(String),
    /// What was found.
    Failed(String),
}

/// What is expected of a test that the list names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Failure,
    NotRun,
    /// It is not run here.
    LeftOut,
    /// The machine decides: it passes, fails or is not run.
    Anything,
}

/// Tests for which the same is expected, for one reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    reason: String,
    tests: Vec<String>,
}

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Listed {
    expected_failures: Vec<Group>,
    not_run: Vec<Group>,
    left_out: Vec<Group>,
    machine_decides: Vec<Group>,
}

/// What is expected of all tests. One that is not named has to pass.
#[derive(Debug)]
pub(super) struct List {
    tests: BTreeMap<String, (Expected, String)>,
}

impl List {
    /// Reads the file. Fails if it names a test twice, or gives no reason.
    pub(super) fn read(text: &str) -> Result<Self> {
        let listed: Listed = toml::from_str(text).context("the list of xfstests is damaged")?;
        let mut tests = BTreeMap::new();
        for (expected, groups) in [
            (Expected::Failure, listed.expected_failures),
            (Expected::NotRun, listed.not_run),
            (Expected::LeftOut, listed.left_out),
            (Expected::Anything, listed.machine_decides),
        ] {
            for Group {
                reason,
                tests: named,
            } in groups
            {
                ensure!(
                    !reason.trim().is_empty(),
                    "{named:?} are listed without a reason"
                );
                for test in named {
                    let entry = (expected, reason.clone());
                    if tests.insert(test.clone(), entry).is_some() {
                        bail!("generic/{test} is listed twice");
                    }
                }
            }
        }
        Ok(Self { tests })
    }

    /// Of all tests that there are, those to run. Fails if the list names one that is not there.
    pub(super) fn to_run(&self, all: &BTreeSet<String>) -> Result<Vec<String>> {
        let gone: Vec<_> = self
            .tests
            .keys()
            .filter(|&test| !all.contains(test))
            .collect();
        ensure!(
            gone.is_empty(),
            "tests are listed that this xfstests does not have: {gone:?}"
        );
        let is_run =
            |test: &&String| !matches!(self.tests.get(*test), Some((Expected::LeftOut, _)));
        Ok(all.iter().filter(is_run).cloned().collect())
    }

    /// What is told of a verdict that is not as expected.
    pub(super) fn surprise(&self, test: &str, verdict: &Verdict) -> Option<String> {
        let (expected, reason) = match self.tests.get(test) {
            Some((expected, reason)) => (Some(*expected), reason.as_str()),
            None => (None, ""),
        };
        match (expected, verdict) {
            (None, Verdict::Passed)
            | (Some(Expected::Failure), Verdict::Failed(_))
            | (Some(Expected::NotRun), Verdict::NotRun(_))
            | (Some(Expected::Anything | Expected::LeftOut), _) => None,
            (_, Verdict::Failed(found)) => Some(format!("it fails: {found}")),
            (_, Verdict::NotRun(why)) => Some(format!("it is not run: {why}")),
            (Some(Expected::NotRun), Verdict::Passed) => {
                Some(format!("it runs and passes, and is listed: \"{reason}\""))
            }
            (Some(Expected::Failure), Verdict::Passed) => {
                Some(format!("it passes, and is listed: \"{reason}\""))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "
        expected_failures = [{ reason = 'no atime', tests = ['003'] }]
        not_run = [{ reason = 'no reflinks', tests = ['110', '111'] }]
        left_out = [{ reason = 'an hour', tests = ['476'] }]
        machine_decides = [{ reason = 'limits', tests = ['394'] }]
    ";

    fn failed() -> Verdict {
        Verdict::Failed("output mismatch".to_owned())
    }

    fn not_run() -> Verdict {
        Verdict::NotRun("no".to_owned())
    }

    #[test]
    fn what_is_not_as_listed_is_told() {
        let list = List::read(LIST).unwrap();
        let is_told = |test, verdict| list.surprise(test, &verdict).is_some();
        let of =
            |test| [Verdict::Passed, failed(), not_run()].map(|verdict| is_told(test, verdict));
        assert_eq!(of("001"), [false, true, true]);
        assert_eq!(of("003"), [true, false, true]);
        assert_eq!(of("110"), [true, true, false]);
        assert_eq!(of("394"), [false; 3]);
        let told = list.surprise("003", &Verdict::Passed).unwrap();
        assert!(told.contains("no atime"), "{told}");
    }

    #[test]
    fn what_is_left_out_is_not_run_and_what_is_not_there_is_an_error() {
        let list = List::read(LIST).unwrap();
        let mut all: BTreeSet<_> = ["001", "003", "110", "111", "394", "476"]
            .map(str::to_owned)
            .into();
        let run = list.to_run(&all).unwrap();
        assert_eq!(run, ["001", "003", "110", "111", "394"]);
        all.remove("110");
        let error = list.to_run(&all).unwrap_err();
        assert!(error.to_string().contains("110"), "{error}");
    }

    #[test]
    fn a_test_is_listed_once_with_a_reason() {
        let twice = LIST.replace("'394'", "'003'");
        assert!(List::read(&twice).is_err());
        let without = LIST.replace("'no atime'", "' '");
        assert!(List::read(&without).is_err());
    }

    #[test]
    fn the_list_of_the_project_can_be_read() {
        let path = crate::cargo::root().join("tests/posix/xfstests.toml");
        List::read(&std::fs::read_to_string(path).unwrap()).unwrap();
    }
}
