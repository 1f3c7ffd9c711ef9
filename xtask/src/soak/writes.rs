//! `cargo xtask soak --writes`: random work in a mount, the same on a disk, with kills, commits, a store that fails and a disk that is full.
//!
//! Each life is a session of a new base, from a seed of its own; in rounds workers do [`steps`], each in the mount and then on the disk, and
//! both must give the same ([`worker`]). Each round ends in an [`events::Event`]: the process is killed, unmounted, told to commit, and whatever had returned success
//! must be there afterwards ([`judge`]). What a commit published is mounted and must be what was there.

mod events;
mod halts;
mod judge;
mod life;
mod mounting;
mod side;
mod steps;
pub(super) mod walk;
mod worker;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::bench::bucket::Bucket;
use crate::bench::program::Program;
use crate::soak::reads::now;
use halts::Halt;
use life::Life;
use mounting::Programs;

/// What was done, for the end.
#[derive(Debug, Default)]
pub(super) struct Summary {
    lives: u64,
    rounds: u64,
    steps: u64,
    refused: u64,
    kinds: BTreeMap<&'static str, u64>,
    events: BTreeMap<String, u64>,
    /// Operations that the kernel did by itself after the process had died.
    after_death: u64,
    no_space: u64,
    kills: u64,
    compared: u64,
    /// Where processes halted and were killed.
    halts: BTreeMap<String, u64>,
    /// Steps that were under way at a kill.
    under_way: u64,
    /// Files that were sent before a commit.
    sent_early: u64,
    /// The most memory that a mount had.
    memory: u64,
}

impl Summary {
    fn count(&mut self, event: impl Into<String>) {
        *self.events.entry(event.into()).or_default() += 1;
    }

    fn halted(&mut self, halt: &Halt) {
        *self.halts.entry(halt.name().to_owned()).or_default() += 1;
    }

    fn show(&self) {
        fn list<K: std::fmt::Display>(map: &BTreeMap<K, u64>) -> String {
            let counts = map.iter().map(|(name, count)| format!("{name} {count}"));
            counts.collect::<Vec<_>>().join(", ")
        }
        println!(
            "\nlives {}, rounds {}, kills {}",
            self.lives, self.rounds, self.kills
        );
        println!("  compared {} times with the disk", self.compared);
        println!(
            "  operations {} ({} refused in both places alike): {}",
            self.steps,
            self.refused,
            list(&self.kinds)
        );
        println!("  events: {}", list(&self.events));
        println!("  halted and killed at: {}", list(&self.halts));
        println!(
            "  under way at a kill {}, done by the kernel after a kill {}",
            self.under_way, self.after_death
        );
        println!(
            "  without room {}, sent early {}, most memory of a mount {} MiB",
            self.no_space,
            self.sent_early,
            self.memory >> 20
        );
    }
}

/// What a soak of writes may be told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options<'a> {
    pub(super) seed: Option<u64>,
    /// Where the programs are, if they are not built.
    pub(super) programs: Option<&'a Path>,
}

/// A directory, and the programs with all of theirs in it.
fn programs(built: Option<&Path>) -> Result<(PathBuf, Programs)> {
    let (path, server) = match built {
        Some(built) => (built.join("attachfs"), built.join("attachfs-fast-s3")),
        None => super::reads::built()?,
    };
    let dir = std::env::temp_dir().join(format!("attachfs-soak-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let programs = Programs {
        bucket: Bucket::start_built(&server, 0)?,
        program: Program::at(&path, dir.join("home"))?,
        dir: dir.clone(),
    };
    Ok((dir, programs))
}

/// Fails at the first difference.
pub(super) fn run(minutes: u64, options: &Options<'_>) -> Result<ExitCode> {
    let seed = options.seed.unwrap_or_else(|| now() % 1_000_000);
    println!(
        "seed {seed}: `cargo xtask soak --writes --minutes {minutes} --seed {seed}` does the same again"
    );
    let (dir, programs) = programs(options.programs)?;
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let mut summary = Summary::default();
    let mut failure = None;
    while failure.is_none() && Instant::now() < end {
        let own = seed + summary.lives;
        println!("life of seed {own}");
        let mut life = Life::begin(&programs, own, None, &mut summary)?;
        let lived = life.live(end, &mut summary);
        summary.lives += 1;
        if let Err(error) = lived {
            life.keep();
            failure = Some((own, format!("{error:#}"), life.last_steps()));
        } else {
            life.end()?;
        }
    }
    summary.show();
    let told = programs.bucket.ask("GET", "faults")?;
    let told: serde_json::Value = serde_json::from_str(&told)?;
    println!("  faults of the store: {}", told["counts"]);
    drop(programs);
    let Some((own, failure, last)) = failure else {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot delete {}", dir.display()))?;
        println!("the soak passed");
        return Ok(ExitCode::SUCCESS);
    };
    println!("the last steps:");
    for step in last {
        println!("  {step}");
    }
    println!("BROKEN: {failure}\nseed {own}; all is in {}", dir.display());
    Ok(ExitCode::FAILURE)
}
