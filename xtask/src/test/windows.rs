//! Windows, checked from Linux: lints for the whole product, and under Wine the tests of its platform half and the program itself.
//!
//! It is built once, by the compiler that lints while it compiles.
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

/// The crates whose tests are checked and run, too.
const TESTED: [&str; 5] = [
    "attachfs-durable",
    "attachfs-manifest",
    "attachfs-session",
    "attachfs-tree",
    "attachfs-vfs",
];

/// Parts of the names of tests that compute for long or wait for the disk thousands of times, and try nothing that
/// platforms do differently: Linux is enough for them.
const LONG: [&str; 7] = [
    "a_few_links_do_not_stand_for_more",
    "a_journal_cut_anywhere",
    "a_small_text_cannot_stand_for",
    "creating_and_syncing_threads",
    "directories_as_deep_as_a_path",
    "paths_of_a_thousand_directories",
    "tests::racing::",
];

/// Parts of the names of tests of what only Linux has: that the kernel reads files by itself. A file that is held so is locked, which
/// keeps nobody there from writing to it, as the tests do.
const LINUX: [&str; 1] = ["tests::backed::"];

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
        command
            .env("CARGO_TARGET_DIR", target().join("windows/build"))
            // Lints what is of the workspace, and compiles it.
            .env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver")
            .env("CARGO_INCREMENTAL", "0")
            // Nobody debugs here.
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .env("CARGO_PROFILE_TEST_DEBUG", "false");
        command
    };
    // All at once: so libraries are built once, with the features that tests want of them.
    let with_program = [&TESTED[..], &[PROGRAM]].concat();
    let targets = ["--lib", "--bins", "--tests"];
    succeed(built(&["build"], &with_program).args(targets))?;
    let program = target().join("windows/build").join(TARGET);
    journey::take(&prefix, &program.join("debug/attachfs.exe"))?;
    let mut tests = built(&["test", "--no-fail-fast"], &with_program);
    tests.args(["--lib", "--bins", "--"]);
    let skipped = LONG.iter().chain(&LINUX);
    tests.args(skipped.flat_map(|part| ["--skip", part]));
    // What is pure was tried with all cases on Linux.
    tests.env("PROPTEST_CASES", "16");
    let mut counted = count_tests(&mut tests)?;
    if !counted.0 && counted.1.failed == 0 {
        println!(
            "a program failed and none of its tests: Wine kills one that is slow to end, so all run again"
        );
        counted = count_tests(&mut tests)?;
    }
    let (success, TestCount { passed, failed, .. }) = counted;
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
