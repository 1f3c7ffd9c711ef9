//! `cargo deny` over `deny.toml`, with a pinned version of its own in the target folder.
//!
//! Advisories need a database from the network. Where that cannot be had the step is skipped, not failed: a machine without it
//! can still check everything else.

use anyhow::{Context, Result, bail};

use super::steps::Outcome;
use crate::cargo::{program, succeed};
use crate::tools::Tool;

const DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
};

/// What cargo-deny says when its database cannot be had, as opposed to what it finds in it.
const NO_DATABASE: &str = "failed to fetch advisory database";

/// Licences, banned and duplicate crates, and where crates come from.
pub(super) fn check() -> Result<Outcome> {
    let mut command = program(
        &DENY.installed()?,
        ["--log-level", "warn", "check", "--hide-inclusion-graph"],
    );
    succeed(command.args(["licenses", "bans", "sources"]))?;
    Ok(Outcome::passed())
}

/// Known vulnerabilities and yanked crates.
pub(super) fn check_advisories() -> Result<Outcome> {
    let mut command = program(
        &DENY.installed()?,
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
