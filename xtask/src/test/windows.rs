//! Windows, checked from Linux: lints for the whole product, and under Wine the tests of its platform half and the program itself.
//!
//! Everything is set up in `windows/` of the target folder, once: Rust's standard library for the target `x86_64-pc-windows-gnu`,
//! built from its sources if the toolchain does not have it, and a prefix for Wine. What a machine cannot have is said, and
//! the step is skipped.

mod journey;
mod machine;
mod standard_library;

use std::process::Command;

use anyhow::{Result, bail};

use super::steps::Outcome;
use crate::cargo::{TestCount, cargo, count_tests, succeed, target};

/// What the product is built for.
const TARGET: &str = "x86_64-pc-windows-gnu";

/// The crate whose code is checked with that of all it stands on: the whole product.
const PROGRAM: &str = "attachfs-cli";

/// Those whose tests are checked and run, too.
const TESTED: [&str; 4] = [
    "attachfs-durable",
    "attachfs-manifest",
    "attachfs-session",
    "attachfs-tree",
];

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
    succeed(built(&["clippy"], &[PROGRAM]).args(strict))?;
    succeed(built(&["clippy", "--tests"], &TESTED).args(strict))?;
    // With the program beside them, whose own tests are none of the library: so libraries are built once for both.
    let with_program = [&TESTED[..], &[PROGRAM]].concat();
    succeed(&mut built(&["build"], &with_program))?;
    let program = target().join("windows/build").join(TARGET);
    journey::take(&prefix, &program.join("debug/attachfs.exe"))?;
    let mut tests = built(&["test", "--lib", "--no-fail-fast"], &with_program);
    // What is pure was tried with all cases on Linux.
    let (success, count) = count_tests(tests.env("PROPTEST_CASES", "16"))?;
    let TestCount { passed, failed, .. } = count;
    if !success {
        bail!("{failed} failed under Wine");
    }
    if passed == 0 {
        bail!("no test ran under Wine");
    }
    Ok(Outcome::Passed(format!(
        "{passed} passed under Wine, and a folder came back"
    )))
}
