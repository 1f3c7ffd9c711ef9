//! `cargo xtask soak --faults`: a process is killed at each durable step and each step of a commit, over a store that fails, and all is as it
//! would have been without.
//!
//! Each place has a life of its own, or several ([`courses`]). A step at which no process halted in one of them is a failure, unless
//! [`NOT_WALKED`] says why.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use attachfs_durable::steps::Step;

use super::halts::{EARLY, Halt, OF_COMMITS};
use super::life::{Course, Left, Life, Walk};
use super::steps::Random;
use super::{Options, Summary, programs};
use crate::soak::reads::now;

/// Steps that no process of a walk comes to, and why.
const NOT_WALKED: [(Step, &str); 0] = [];

/// The lives in which a process comes to a step for certain.
fn courses(step: &str) -> &'static [Course] {
    match step {
        "EarlyHashed" | "EarlySent" => &[Course::Early],
        "GroupNames" | "DirName" => &[Course::InADirectory],
        "ScratchShorten" => &[Course::Shortened],
        "JournalUndo" => &[Course::RefusedRecord],
        "JournalCut" => &[Course::TakenUp(Left::TornRecord)],
        "JournalVersion" => &[Course::TakenUp(Left::EarlierVersion)],
        "ScratchLengthen" => &[Course::TakenUp(Left::ShortFile)],
        "AsideRename" | "AsideName" | "AsideGone" => {
            &[Course::TakenUp(Left::StrayFile), Course::Repaired]
        }
        "CompactedContent" | "CompactedRest" | "CompactedName" => &[Course::LongJournal],
        "StagedContent" | "StagedRename" | "StagedName" | "ScratchNames" => {
            &[Course::Usual, Course::Repaired]
        }
        "LogRename" | "LogNames" => &[Course::Ended],
        "OwnRemove" | "RegistryGone" => &[Course::Usual, Course::Ended],
        _ => &[Course::Usual],
    }
}

/// A place and the lives in which processes halt there.
struct Place {
    name: String,
    walked: Vec<(Course, Vec<Halt>)>,
}

impl Place {
    /// `text` is a step, or a place as it is printed.
    fn named(text: &str, random: &mut Random) -> Result<Self> {
        let name = text.split(':').next().unwrap_or_default();
        let of_commit = OF_COMMITS.iter().chain(&EARLY).find(|step| **step == name);
        let durable = Step::ALL.iter().find(|step| format!("{step:?}") == name);
        let halts = match (of_commit, durable) {
            (Some(step), _) => vec![Halt::at_commit(step)],
            (_, Some(step)) if text == name => vec![
                Halt::durable(*step, 1, random.one_in(2)),
                Halt::durable(*step, 2 + random.below(20), random.one_in(2)),
            ],
            (_, Some(_)) => vec![Halt::printed(text)],
            (None, None) => bail!("there is no step {name}"),
        };
        let mut walked: Vec<_> = courses(name)
            .iter()
            .map(|&course| (course, vec![halts[0].clone()]))
            .collect();
        // In the others a step is taken once or twice.
        if let (Course::Usual | Course::InADirectory, halting) = &mut walked[0] {
            halting.extend(halts[1..].iter().cloned());
        }
        Ok(Self {
            name: name.to_owned(),
            walked,
        })
    }
}

/// Fails at the end if there was a difference, or if a step was not reached.
pub(in crate::soak) fn run(options: &Options<'_>, at: Option<&str>) -> Result<ExitCode> {
    let seed = options.seed.unwrap_or_else(|| now() % 1_000_000);
    let all: Vec<String> = match at {
        Some(at) => vec![at.to_owned()],
        None => {
            let durable = Step::ALL.iter().map(|step| format!("{step:?}"));
            let of_commits = OF_COMMITS.iter().chain(&EARLY).map(ToString::to_string);
            of_commits.chain(durable).collect()
        }
    };
    println!(
        "seed {seed}: `cargo xtask soak --faults --seed {seed}` does the same again, with `--at STEP` at one step"
    );
    let (dir, programs) = programs(options.programs)?;
    let mut summary = Summary::default();
    let mut missing = Vec::new();
    let mut failures = Vec::new();
    for text in all {
        // The lives of a place are the same whether others are walked, too.
        let name = text.split(':').next().unwrap_or_default();
        let mut random = Random::new(name.bytes().fold(seed, |seed, byte| {
            seed.wrapping_mul(31).wrapping_add(u64::from(byte))
        }));
        let place = Place::named(&text, &mut random)?;
        for (course, halts) in place.walked {
            let mut was_reached = false;
            for halt in halts {
                let own = random.next() % 1_000_000;
                summary.lives += 1;
                let begun = std::time::Instant::now();
                let walk = Walk::to(halt.clone(), course);
                let mut life = Life::begin(&programs, own, Some(walk), &mut summary)?;
                let walked = life.walk(&mut summary);
                let took = begun.elapsed().as_secs();
                match walked {
                    Ok(reached) => {
                        let what = if reached {
                            "killed there"
                        } else {
                            "nobody came there"
                        };
                        println!("{halt} ({course:?}): {what}, {took} s");
                        was_reached |= reached;
                        life.end()?;
                    }
                    Err(error) => {
                        println!("{halt} ({course:?}): BROKEN: {error:#}");
                        for step in life.last_steps() {
                            println!("  {step}");
                        }
                        failures.push(format!("{halt} ({course:?}): {error:#}"));
                        life.keep();
                        drop(life);
                        let failed = dir.join(format!("failed-{}", failures.len()));
                        fs::rename(dir.join("life"), failed)?;
                        was_reached = true;
                    }
                }
            }
            let reason = NOT_WALKED
                .iter()
                .find(|(step, _)| format!("{step:?}") == place.name);
            match reason {
                None if !was_reached => missing.push(format!("{} ({course:?})", place.name)),
                Some(_) if was_reached => {
                    failures.push(format!("{} is said not to be walked, and was", place.name));
                }
                _ => {}
            }
        }
    }
    summary.show();
    drop(programs);
    if failures.is_empty() && missing.is_empty() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot delete {}", dir.display()))?;
        println!("the walk passed");
        return Ok(ExitCode::SUCCESS);
    }
    if !missing.is_empty() {
        println!("BROKEN: nobody came to: {}", missing.join(", "));
    }
    for failure in &failures {
        println!("BROKEN: {failure}");
    }
    println!("seed {seed}; all is in {}", dir.display());
    Ok(ExitCode::FAILURE)
}
