//! The Windows half, checked from Linux: lints for all that is built there, and the tests that run under Wine.
//!
//! Everything is set up in `windows/` of the target folder, once: Rust's standard library for the target `x86_64-pc-windows-gnu`,
//! built from its sources if the toolchain does not have it, and a prefix for Wine. What a machine cannot have is said, and
//! the step is skipped.

mod machine;
mod standard_library;

use std::process::Command;

use anyhow::{Result, bail};

use super::steps::Outcome;
use crate::cargo::{TestCount, cargo, count_tests, succeed, target};

/// What the product is built for.
const TARGET: &str = "x86_64-pc-windows-gnu";

/// The crates whose code is checked. `session` and what stands on it has sockets, which have no Windows form yet.
const CHECKED: [&str; 10] = [
    "attachfs-durable",
    "attachfs-fetch",
    "attachfs-jobs",
    "attachfs-manifest",
    "attachfs-scan",
    "attachfs-store",
    "attachfs-store-s3",
    "attachfs-transfer",
    "attachfs-tree",
    "attachfs-vfs",
];

/// Those whose tests are checked and run, too.
const TESTED: [&str; 3] = ["attachfs-durable", "attachfs-manifest", "attachfs-tree"];

/// Lints and tests, or why there were none.
pub(super) fn check() -> Result<Outcome> {
    if let Some(reason) = machine::install()? {
        return Ok(Outcome::Skipped(reason));
    }
    let library = match standard_library::ready()? {
        Ok(library) => library,
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    let prefix = machine::prefix()?;
    let built = |arguments: &[&str], packages: &[&str]| -> Command {
        let mut command = cargo(arguments.iter().copied());
        command.args(["--locked", "--target", TARGET]);
        for package in packages {
            command.args(["--package", package]);
        }
        machine::build_with(&mut command);
        library.build_with(&mut command);
        prefix.run_with(&mut command);
        command.env("CARGO_TARGET_DIR", target().join("windows/build"));
        command
    };
    let strict = ["--", "-D", "warnings"];
    succeed(built(&["clippy"], &CHECKED).args(strict))?;
    succeed(built(&["clippy", "--tests"], &TESTED).args(strict))?;
    let mut tests = built(&["test", "--lib", "--no-fail-fast"], &TESTED);
    // What is pure was tried with all cases on Linux.
    let (success, count) = count_tests(tests.env("PROPTEST_CASES", "16"))?;
    let TestCount { passed, failed, .. } = count;
    if !success {
        bail!("{failed} failed under Wine");
    }
    if passed == 0 {
        bail!("no test ran under Wine");
    }
    Ok(Outcome::Passed(format!("{passed} passed under Wine")))
}
