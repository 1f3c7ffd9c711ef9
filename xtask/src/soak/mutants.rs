//! `cargo xtask soak --mutants`: every durable step is noticed by a test.
//!
//! The steps are those of `durable::steps`. Each is left out in turn, by its name, while the tests of the order
//! run; it survives if they all pass. They are built once: which step is left out is said by a variable that
//! test builds read.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use attachfs_durable::steps::{LEFT_OUT, Step};
use serde_json::Value;

use crate::cargo::{cargo, program, shown};

/// The packages whose tests say what is durable before what.
const PACKAGES: [&str; 5] = [
    "attachfs-durable",
    "attachfs-vfs",
    "attachfs-session",
    "attachfs-commit",
    "attachfs",
];

/// Such tests are in modules of these names.
const MODULES: [&str; 2] = ["ordering::", "compacting::"];

/// Leaves out each step whose name contains the filter, if there is one. Fails if a step survives.
pub(super) fn run(filter: Option<&str>) -> Result<ExitCode> {
    let programs = build()?;
    let always = failed(&programs, None)?;
    if !always.is_empty() {
        bail!("these tests fail anyway: {}", joined(&always));
    }
    let steps = Step::ALL.iter().map(|step| format!("{step:?}"));
    let steps: Vec<String> = steps
        .filter(|name| filter.is_none_or(|filter| name.contains(filter)))
        .collect();
    if steps.is_empty() {
        bail!("no durable step has such a name");
    }
    let width = steps.iter().map(String::len).max().unwrap_or_default();
    let mut survived = Vec::new();
    println!("\n{:width$}  noticed by", "left out");
    for step in &steps {
        let noticed = failed(&programs, Some(step))?;
        let more = match noticed.len() {
            0 | 1 => String::new(),
            many => format!(" and {} more", many - 1),
        };
        let first = noticed.first().map_or("NOBODY", String::as_str);
        println!("{step:width$}  {first}{more}");
        if noticed.is_empty() {
            survived.push(step.as_str());
        }
    }
    println!(
        "durable steps: {} noticed, {} survived",
        steps.len() - survived.len(),
        survived.len()
    );
    Ok(if survived.is_empty() {
        ExitCode::SUCCESS
    } else {
        println!("survived: {}", survived.join(", "));
        ExitCode::FAILURE
    })
}

/// Builds the test programs, and says where they are.
fn build() -> Result<Vec<PathBuf>> {
    let mut command = cargo(["test", "--locked", "--no-run", "--message-format=json"]);
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    command.arg("--lib");
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", shown(&command)))?;
    if !output.status.success() {
        bail!("{} ended with {}", shown(&command), output.status);
    }
    let mut programs = Vec::new();
    for line in output.stdout.split(|&byte| byte == b'\n') {
        let Ok(message) = serde_json::from_slice::<Value>(line) else {
            continue;
        };
        let is_test = message["profile"]["test"] == true;
        if let (true, Some(path)) = (is_test, message["executable"].as_str()) {
            programs.push(PathBuf::from(path));
        }
    }
    if programs.len() != PACKAGES.len() {
        bail!(
            "cargo made {} test programs, not one for each package",
            programs.len()
        );
    }
    Ok(programs)
}

/// The tests that fail while a step is left out.
fn failed(programs: &[PathBuf], step: Option<&str>) -> Result<BTreeSet<String>> {
    let mut failed = BTreeSet::new();
    for path in programs {
        let mut command = program(path, MODULES);
        if let Some(step) = step {
            command.env(LEFT_OUT, step);
        }
        let output = command
            .output()
            .with_context(|| format!("cannot start {}", shown(&command)))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let before = failed.len();
        failed.extend(said.lines().filter_map(failed_in).map(str::to_owned));
        if !output.status.success() && failed.len() == before {
            bail!("{} ended with {}:\n{said}", shown(&command), output.status);
        }
    }
    Ok(failed)
}

/// The test that a line of a test program says failed.
fn failed_in(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

fn joined(names: &BTreeSet<String>) -> String {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_test_is_known_by_its_line() {
        let name = failed_in("test tests::ordering::a_sync ... FAILED");
        assert_eq!(name, Some("tests::ordering::a_sync"));
        assert_eq!(failed_in("test tests::ordering::a_sync ... ok"), None);
        assert_eq!(failed_in("test result: FAILED. 1 passed"), None);
    }
}
