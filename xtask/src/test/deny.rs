//! `cargo deny` over `deny.toml`, with a pinned version of its own in the target folder.
//!
//! Advisories need a database from the network. Where that cannot be had the step is skipped, not failed: a machine without it
//! can still check everything else.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::steps::Outcome;
use crate::cargo::{cargo, program, succeed, target};

const VERSION: &str = "0.20.2";

/// What cargo-deny says when its database cannot be had, as opposed to what it finds in it.
const NO_DATABASE: &str = "failed to fetch advisory database";

/// Licences, banned and duplicate crates, and where crates come from.
pub(super) fn check() -> Result<Outcome> {
    let mut command = program(
        &installed()?,
        ["--log-level", "warn", "check", "--hide-inclusion-graph"],
    );
    succeed(command.args(["licenses", "bans", "sources"]))?;
    Ok(Outcome::passed())
}

/// Known vulnerabilities and yanked crates.
pub(super) fn check_advisories() -> Result<Outcome> {
    let mut command = program(
        &installed()?,
        ["check", "--hide-inclusion-graph", "advisories"],
    );
    let output = command.output().context("cannot start cargo-deny")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(Outcome::passed());
    }
    if said.contains(NO_DATABASE) {
        println!("{said}");
        return Ok(Outcome::Skipped(
            "the advisory database cannot be reached from here".to_owned(),
        ));
    }
    println!("{said}");
    bail!("cargo deny check advisories ended with {}", output.status);
}

/// The path of cargo-deny, installed now if it is missing or of another version.
fn installed() -> Result<PathBuf> {
    let tools = target().join("tools");
    let path = tools.join("bin/cargo-deny");
    let version = program(&path, ["--version"]).output();
    let expected = format!("cargo-deny {VERSION}");
    if version.is_ok_and(|output| output.stdout.trim_ascii() == expected.as_bytes()) {
        return Ok(path);
    }
    println!("installing {expected}: takes some minutes, once");
    let mut install = cargo(["install", "--quiet", "--locked", "--force", "cargo-deny"]);
    install
        .args(["--version", VERSION, "--root"])
        .arg(&tools)
        // Its own temporary build folder, which cargo removes.
        .env_remove("CARGO_TARGET_DIR");
    succeed(&mut install)?;
    Ok(path)
}
