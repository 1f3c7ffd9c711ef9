//! `cargo xtask soak`: all tests in rounds, property tests with many more cases and new seeds each round.
//!
//! It finds what fails once in a hundred runs. The first failure ends it; its output is on the terminal and the seed of a failed
//! property is kept by the property's own file of regressions. With `--fuzz` it runs the fuzz targets instead, with `--garage` stores on three nodes of Garage,
//! with `--mutants` it shows for each durable step which test notices that it is left out, with `--reads` 32 readers read a mount whose
//! store and disk fail, with `--writes` random work in a mount is held against the same on a disk while its process is killed, with `--blender` Blender renders a frame from mounts, with `--hosts` it does so on one host while another browses what is done, with `--posix` suites that others wrote test a mount as a file system.

mod blender;
mod fuzz;
mod garage;
mod hosts;
mod mutants;
mod posix;
mod reads;
mod writes;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

pub(crate) use posix::FSX;
pub(crate) use reads::readers::{Work as Readers, work as be_readers};

use crate::cargo::{TestCount, cargo, count_tests};
use crate::test::packages::{self, Installed};

/// What `cargo xtask soak` may be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// No round begins after this time; with --fuzz the time of each target
    #[arg(long, default_value_t = 20)]
    minutes: u64,
    /// Fuzz the readers of bytes from outside; the filter chooses targets
    #[arg(long, conflicts_with_all = ["cases", "package"])]
    fuzz: bool,
    /// Run stores on Garage, a distributed S3 server, which is built first
    #[arg(long, conflicts_with_all = ["cases", "package", "fuzz", "filter"])]
    garage: bool,
    /// Leave out each durable step in turn, and name the tests that notice
    #[arg(long, conflicts_with_all = ["cases", "package", "fuzz", "garage"])]
    mutants: bool,
    /// Read a mount with 32 readers while its store and its disk fail; needs root
    #[arg(long, conflicts_with_all = ["cases", "package", "fuzz", "garage", "mutants", "filter"])]
    reads: bool,
    /// Work in a mount and on a disk alike while the mount's process is killed, its store fails and its disk fills; needs root
    #[arg(long, conflicts_with_all = ["cases", "package", "fuzz", "garage", "mutants", "reads", "filter"])]
    writes: bool,
    /// Kill processes at every durable step and step of a commit, over a store that fails; needs root
    #[arg(long, conflicts_with_all = ["cases", "package", "fuzz", "garage", "mutants", "reads", "writes", "filter"])]
    faults: bool,
    /// With --faults: only this step (JournalSync), or only at a place as it is printed (JournalSync:3:after)
    #[arg(long, value_name = "STEP", requires = "faults")]
    at: Option<String>,
    /// With --writes, --faults and --hosts: use attachfs and attachfs-fast-s3 of this directory as they are; otherwise they are built
    #[arg(long, value_name = "DIR", conflicts_with_all = ["cases", "package", "fuzz", "garage", "mutants", "reads", "blender", "posix"])]
    programs: Option<PathBuf>,
    /// Render a frame of a scene with linked libraries and textures from mounts, as from the disk; needs Blender, which is installed
    #[arg(long, conflicts_with_all = ["cases", "package", "fuzz", "garage", "mutants", "reads", "writes", "filter"])]
    blender: bool,
    /// Two hosts in network namespaces share a bucket: one renders a job with Blender, the other browses its frames; needs root
    #[arg(long, conflicts_with_all = ["cases", "package", "fuzz", "garage", "mutants", "reads", "writes", "blender", "filter"])]
    hosts: bool,
    /// Test a mount with pjdfstest and fsx, which are installed first; needs root. With numbers as the filter (080,215), these
    /// tests of xfstests and nothing else
    #[arg(long, conflicts_with_all = ["cases", "package", "fuzz", "garage", "mutants", "reads", "writes", "blender"])]
    posix: bool,
    /// With --posix: run the tests of xfstests, too, which is in this directory and built there
    #[arg(long, value_name = "DIR", requires = "posix")]
    xfstests: Option<PathBuf>,
    /// With --reads, --writes, --faults and --posix: what they print, to do the same again
    #[arg(long)]
    seed: Option<u64>,
    /// Cases of each property in each round
    #[arg(long, default_value_t = 4096)]
    cases: u32,
    /// Only the tests of this package
    #[arg(long)]
    package: Option<String>,
    /// Only tests whose name contains this
    filter: Option<String>,
}

/// Fails when a round does.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if options.garage {
        return garage::run();
    }
    if options.fuzz {
        return fuzz::run(options.minutes, options.filter.as_deref());
    }
    if options.reads {
        return reads::run(options.minutes, options.seed);
    }
    let of_writes = writes::Options {
        seed: options.seed,
        programs: options.programs.as_deref(),
    };
    if options.faults {
        return writes::walk::run(&of_writes, options.at.as_deref());
    }
    if options.writes {
        return writes::run(options.minutes, &of_writes);
    }
    if options.blender {
        return blender::run();
    }
    if options.hosts {
        return hosts::run(options.programs.as_deref());
    }
    if options.posix {
        return posix::run(&posix::Options {
            minutes: options.minutes,
            seed: options.seed,
            xfstests: options.xfstests.as_deref(),
            filter: options.filter.as_deref(),
        });
    }
    if options.mutants {
        return mutants::run(options.filter.as_deref());
    }
    // Too much to install for each run of `test`, which shows pages where a browser is already.
    let browser = packages::install_missing(&[("chromium", "chromium")])?;
    if let Installed::Missing(reason) = browser {
        println!("no page is shown in a browser: {reason}");
    }
    let end = Instant::now() + Duration::from_secs(60 * options.minutes);
    let mut rounds = 0_u64;
    let mut total = TestCount::default();
    let mut all_passed = true;
    while rounds == 0 || Instant::now() < end {
        rounds += 1;
        println!("\n== round {rounds}");
        let mut command = cargo(["test", "--locked"]);
        match &options.package {
            Some(package) => command.args(["--package", package]),
            None => command.arg("--workspace"),
        };
        crate::peers::export(&mut command);
        command
            .args(&options.filter)
            .env("PROPTEST_CASES", options.cases.to_string());
        let (success, count) = count_tests(&mut command)?;
        total.passed += count.passed;
        total.failed += count.failed;
        if !success {
            all_passed = false;
            break;
        }
    }
    println!("rounds: {rounds}");
    println!("tests: {} passed, {} failed", total.passed, total.failed);
    Ok(if all_passed && total.passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
