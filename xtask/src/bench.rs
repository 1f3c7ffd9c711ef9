//! `cargo xtask bench`: measurements as ratios between two ways to do the same work, in one run on one machine.
//!
//! [`harness`] takes the pairs, [`process`] runs one program and watches its memory, [`machine`] puts the machine into a known
//! state before each timed run, [`table`] prints. What is measured is data: each group below gives a list of [`Row`]s.

mod calibration;
mod harness;
mod machine;
mod process;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cargo::target;
use harness::Row;

/// What `cargo xtask bench` may be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often each pair is run
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Only rows whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Where the files of the runs are made: a folder on the disk to measure [default: bench in the target folder]
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Fails when a bar is missed.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let folder = options
        .dir
        .clone()
        .unwrap_or_else(|| target().join("bench"));
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let wanted = |row: &Row| match &options.only {
        Some(part) => row.name.contains(part.as_str()),
        None => true,
    };
    let mut results = Vec::new();
    for row in calibration::rows(&folder)?.into_iter().filter(wanted) {
        println!("{} ...", row.name);
        results.push(harness::measure(row, options.pairs)?);
    }
    println!("\n{}", table::markdown(&results));
    let missed = results
        .iter()
        .any(|result| result.verdict() == harness::Verdict::Missed);
    Ok(if missed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
