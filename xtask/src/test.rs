//! `cargo xtask test`: set-up, checks and all tests, as CI runs them.
//!
//! A failed step does not stop the steps that can still say something; the run fails at its end. The suites drive the debug
//! build, so that everything is compiled once.

mod deny;
pub(crate) mod packages;
mod peers;
mod steps;
mod windows;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::cargo::{TestCount, cargo, count_tests, program, succeed, target};
use steps::{Outcome, Summary};

/// What `cargo xtask test` may be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only these steps, as a list with commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<Step>,
}

/// In the order in which they run: what fails fastest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Debian packages and the FUSE device
    Packages,
    /// Formatting
    Format,
    /// Lints
    Clippy,
    /// Documentation builds without warnings
    Docs,
    /// Licences, bans and sources of dependencies
    Deny,
    /// Known vulnerabilities of dependencies
    Advisories,
    /// The programs and all test programs
    Build,
    /// The reference implementations that tests run
    Peers,
    /// All tests
    Tests,
    /// Lints for Windows, and the tests that run under Wine
    Windows,
}

/// The exit code is that of a failure if any step failed.
pub(crate) fn run(options: &Options) -> ExitCode {
    let mut summary = Summary::default();
    let mut count = None;
    for &step in Step::value_variants() {
        if !options.only.is_empty() && !options.only.contains(&step) {
            continue;
        }
        let name = name(step);
        if step == Step::Tests && summary.failed("build") {
            summary.add(&name, || {
                Ok(Outcome::Skipped("the build failed".to_owned()))
            });
            continue;
        }
        summary.add(&name, || match step {
            Step::Packages => packages::install(),
            Step::Format => format(),
            Step::Clippy => clippy(),
            Step::Docs => docs(),
            Step::Deny => deny::check(),
            Step::Advisories => deny::check_advisories(),
            Step::Build => passes(&mut cargo([
                "build",
                "--locked",
                "--workspace",
                "--all-targets",
            ])),
            Step::Peers => peers::set_up(),
            Step::Tests => tests(&mut count),
            Step::Windows => windows::check(),
        });
    }
    println!("\n{summary}");
    if let Some(count) = count {
        println!(
            "tests: {} passed, {} failed, {} skipped",
            count.passed, count.failed, count.ignored
        );
    }
    if summary.any_failed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn name(step: Step) -> String {
    let value = step.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

fn passes(command: &mut std::process::Command) -> Result<Outcome> {
    succeed(command)?;
    Ok(Outcome::passed())
}

/// The workspace, and the peer that is not part of it.
fn format() -> Result<Outcome> {
    succeed(&mut cargo(["fmt", "--all", "--check"]))?;
    let mut peer = cargo(["fmt", "--check", "--manifest-path"]);
    passes(peer.arg("tests/peers/openjd/Cargo.toml"))
}

fn clippy() -> Result<Outcome> {
    let mut command = cargo(["clippy", "--locked", "--workspace", "--all-targets"]);
    passes(command.args(["--", "-D", "warnings"]))
}

fn docs() -> Result<Outcome> {
    let mut command = cargo(["doc", "--locked", "--workspace", "--no-deps"]);
    passes(command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// All tests, with the programs and the peers that the steps before made.
fn tests(count: &mut Option<TestCount>) -> Result<Outcome> {
    let mut command = cargo(["test", "--locked", "--workspace", "--no-fail-fast"]);
    for (variable, name) in [
        ("ATTACHFS_BIN", "attachfs"),
        ("ATTACHFS_RENDER_BIN", "render"),
    ] {
        let built = target().join("debug").join(name);
        if std::env::var_os(variable).is_none() && built.exists() {
            command.env(variable, built);
        }
    }
    crate::peers::export(&mut command);
    let (success, counted) = count_tests(&mut command)?;
    *count = Some(counted);
    if !success {
        bail!("{} failed", counted.failed);
    }
    if counted.passed == 0 {
        bail!("no test ran");
    }
    Ok(Outcome::Passed(format!("{} passed", counted.passed)))
}

/// Whether a program can be started at all.
fn exists(name: &str) -> bool {
    program(name, ["--version"]).output().is_ok()
}
