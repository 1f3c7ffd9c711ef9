//! `cargo xtask bench`: measurements as ratios between two ways to do the same work, in one run on one machine.
//!
//! [`harness`] takes the pairs, [`process`] runs one program and watches its memory, [`machine`] puts the machine into a known
//! state before each timed run, [`table`] prints. [`stage`] has the files and the program that is measured, [`mod@work`] is what other
//! programs do with a file system; [`report`] runs what times itself, the library and the reference implementations among them.
//! What is measured is data: each of the other modules gives a list of [`Row`]s. [`against`] takes these lists twice, to compare two
//! builds of the program.

mod against;
pub(crate) mod bucket;
mod calibration;
mod committing;
mod crates;
pub(crate) mod disk;
mod entries;
mod folders;
mod harness;
mod jobs;
mod machine;
mod manifests;
mod mapping;
mod mounting;
pub(crate) mod process;
pub(crate) mod program;
mod programs;
mod reading;
mod report;
mod s3_mounts;
mod s3_reading;
mod sides;
mod stage;
mod table;
mod tracing;
mod transfers;
mod work;
mod writing;

use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, Result};

use crate::cargo::target;
use crate::peers::SetUp;
use harness::{Rival, Row};
use program::Program;
use stage::Stage;
pub(crate) use work::Work;

/// What `cargo xtask bench` may be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often each pair is run
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Only rows whose name contains this; may be given more than once
    #[arg(long)]
    only: Vec<String>,
    /// Where the files of the runs are made: a folder on the disk to measure [default: bench in the target folder]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Measures this attachfs instead of the one that is built from here
    #[arg(long)]
    program: Option<PathBuf>,
    /// Compares with this earlier attachfs, and with nothing else: each row runs both programs in pairs, and may take 1.05 times as long
    #[arg(long, value_name = "PROGRAM", conflicts_with = "shrink")]
    against: Option<PathBuf>,
    /// Only the rows of manifests and transfers, with data sets of this part of their size: to see that they run, their figures say nothing
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000), hide = true)]
    shrink: u16,
}

/// Fails when a bar is missed.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut folder = options
        .dir
        .clone()
        .unwrap_or_else(|| target().join("bench"));
    if options.shrink > 1 {
        folder.push(format!("shrunk-{}", options.shrink));
    }
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let folder = folder
        .canonicalize()
        .with_context(|| format!("cannot find {}", folder.display()))?;
    let runs = folder.join("runs");
    let home = runs.join("home");
    let program = match &options.program {
        Some(path) => Program::at(path, home)?,
        None => Program::build(home)?,
    };
    let stage = Stage::new(&folder, &runs, program, options.shrink.into());
    let stage = Rc::new(stage);
    // What a run left that was killed.
    stage.clean()?;
    // The program would make it for its user alone, and others have to get through it.
    std::fs::create_dir_all(&runs).with_context(|| format!("cannot make {}", runs.display()))?;
    let mut results = Vec::new();
    let measured = match &options.against {
        None => {
            report::build_library()?;
            measure(options, &stage, rows(options, &stage), &mut results)
        }
        Some(earlier) => {
            let runs = folder.join("earlier-runs");
            let earlier = Program::at(earlier, runs.join("home"))?;
            let earlier = Rc::new(Stage::new(&folder, &runs, earlier, 1));
            earlier.clean()?;
            let rows = against::rows(&stage, &earlier);
            let measured = measure(options, &stage, rows, &mut results);
            earlier.clean()?;
            measured
        }
    };
    stage.clean()?;
    // What was measured is worth showing, also if a later row failed.
    println!("\n{}\n", machine::describe(&folder));
    println!("{}", table::markdown(&results));
    measured?;
    let missed = results
        .iter()
        .any(|result| result.verdict() == harness::Verdict::Missed);
    Ok(if missed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn rows(options: &Options, stage: &Rc<Stage>) -> Vec<Row> {
    let of_mounts = [
        calibration::rows(stage),
        mounting::rows(stage),
        reading::rows(stage),
        s3_reading::rows(stage),
        tracing::rows(stage),
        writing::rows(stage),
        programs::rows(stage),
        committing::rows(stage),
    ];
    let others = [
        manifests::rows(stage),
        mapping::rows(stage),
        jobs::rows(stage),
        folders::rows(stage),
        transfers::rows(stage),
    ];
    let of_mounts = of_mounts.into_iter().filter(|_| options.shrink == 1);
    of_mounts.chain(others).flatten().collect()
}

fn measure(
    options: &Options,
    stage: &Rc<Stage>,
    rows: Vec<Row>,
    results: &mut Vec<harness::Measured>,
) -> Result<()> {
    let wanted = |row: &Row| {
        let only = &options.only;
        only.is_empty() || only.iter().any(|part| row.name.contains(part.as_str()))
    };
    let mut rivals = Vec::new();
    for row in rows.into_iter().filter(wanted) {
        println!("{} ({}) ...", row.name, row.compared);
        if let Some(reason) = row
            .rival
            .map_or(Ok(None), |rival| absent(rival, &mut rivals))?
        {
            println!("  left out: {reason}");
            continue;
        }
        for &set in &row.needs {
            stage.prepare(set)?;
        }
        let measured = harness::measure(row, options.pairs)?;
        // At once: a run takes long, and may be ended before its table.
        println!("{}", table::line(&measured));
        results.push(measured);
    }
    Ok(())
}

/// Why a program of others cannot be had, if it cannot. Each is set up once.
fn absent(rival: Rival, set_up: &mut Vec<(Rival, SetUp)>) -> Result<Option<String>> {
    if !set_up.iter().any(|&(known, _)| known == rival) {
        set_up.push((rival, rival.set_up()?));
    }
    let found = set_up.iter().find(|&&(known, _)| known == rival);
    Ok(match found {
        Some((_, SetUp::Unavailable(reason))) => Some(reason.clone()),
        _ => None,
    })
}

/// `xtask bench-io`, the work of one run.
pub(crate) fn work(work: &Work) -> Result<ExitCode> {
    work::run(work)?;
    Ok(ExitCode::SUCCESS)
}
