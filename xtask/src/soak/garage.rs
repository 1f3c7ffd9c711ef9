//! `cargo xtask soak --garage`: a distributed S3 server of three nodes, one of which dies.
//!
//! Garage (AGPL) is a program of its own that is run beside the tests; nothing of it is linked or kept. It is
//! built from the Rust registry once, which takes long.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::cargo::{cargo, count_tests, succeed, target};

/// The version that is known to work.
const VERSION: &str = "2.5.0";

/// Builds Garage if it is not there, and runs the tests that need it.
pub(super) fn run() -> Result<ExitCode> {
    let home = target().join("peers/garage");
    let program = home.join("bin/garage");
    if !program.exists() {
        println!("building garage {VERSION}; this takes long, once");
        let mut build = cargo([
            "install",
            "garage",
            "--locked",
            "--quiet",
            "--version",
            VERSION,
        ]);
        build
            // Its speed is not measured, and SQLite is enough for a test.
            .args(["--debug", "--no-default-features"])
            .args(["--features", "bundled-libs,sqlite"])
            .arg("--root")
            .arg(&home)
            .env("CARGO_TARGET_DIR", home.with_file_name("garage-build"))
            .env("CARGO_PROFILE_DEV_DEBUG", "0");
        succeed(&mut build).context("garage cannot be built")?;
    }
    let mut tests = cargo([
        "test",
        "--locked",
        "--package",
        "attachfs-tests",
        "--test",
        "suite",
    ]);
    tests
        .args(["garage::", "--", "--ignored"])
        .env("ATTACHFS_GARAGE", &program);
    let (success, count) = count_tests(&mut tests)?;
    println!("tests: {} passed, {} failed", count.passed, count.failed);
    Ok(if success && count.passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
