//! `cargo xtask soak --faults`: a process is killed at each durable step and each step of a commit, over a store that fails, and all is as it
//! would have been without.
//!
//! A step at which no process halted is a failure, unless [`NOT_WALKED`] says why.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};
use attachfs_durable::steps::Step;

use super::halts::{Halt, OF_COMMITS};
use super::life::Life;
use super::steps::Random;
use super::{Summary, programs};
use crate::soak::reads::now;

/// Steps that no process of a walk comes to, and why.
const NOT_WALKED: [(Step, &str); 0] = [];

/// Fails at the first difference, or if a step was not reached.
pub(in crate::soak) fn run(seed: Option<u64>) -> Result<ExitCode> {
    let seed = seed.unwrap_or_else(|| now() % 1_000_000);
    println!("seed {seed}: `cargo xtask soak --faults --seed {seed}` does the same again");
    let (dir, programs) = programs()?;
    let mut random = Random::new(seed);
    let mut places: Vec<(String, Vec<Halt>)> = Vec::new();
    for step in OF_COMMITS {
        places.push((step.to_owned(), vec![Halt::at_commit(step)]));
    }
    for &step in Step::ALL {
        let later = 2 + random.below(20);
        let halts = vec![
            Halt::durable(step, 1, random.one_in(2)),
            Halt::durable(step, later, random.one_in(2)),
        ];
        places.push((format!("{step:?}"), halts));
    }
    let mut summary = Summary::default();
    let mut missing = Vec::new();
    let mut failures = Vec::new();
    for (name, halts) in places {
        let mut was_reached = false;
        for halt in halts {
            let own = random.next() % 1_000_000;
            let mut life = Life::begin(&programs, own, Some(halt.clone()), &mut summary)?;
            match life.walk(&mut summary) {
                Ok(reached) => {
                    println!(
                        "{halt}: {}",
                        if reached {
                            "killed there"
                        } else {
                            "nobody came there"
                        }
                    );
                    was_reached |= reached;
                    life.end()?;
                }
                Err(error) => {
                    println!("{halt}: BROKEN: {error:#}");
                    for step in life.last_steps() {
                        println!("  {step}");
                    }
                    failures.push(format!("{halt}: {error:#}"));
                    life.keep();
                    drop(life);
                    fs::rename(
                        dir.join("life"),
                        dir.join(format!("failed-{}", failures.len())),
                    )?;
                    was_reached = true;
                }
            }
        }
        let reason = NOT_WALKED
            .iter()
            .find(|(step, _)| format!("{step:?}") == name);
        match reason {
            None if !was_reached => missing.push(name),
            Some(_) if was_reached => {
                failures.push(format!("{name} is said not to be walked, and was"));
            }
            _ => {}
        }
    }
    summary.show();
    drop(programs);
    if failures.is_empty() && missing.is_empty() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot delete {}", dir.display()))?;
        println!("the walk passed");
        return Ok(ExitCode::SUCCESS);
    }
    println!("BROKEN: nobody came to: {}", missing.join(", "));
    for failure in &failures {
        println!("BROKEN: {failure}");
    }
    println!("seed {seed}; all is in {}", dir.display());
    Ok(ExitCode::FAILURE)
}
