//! `cargo xtask soak --fuzz`: libFuzzer over the readers of bytes from outside, one target after the other.
//!
//! What was found worth keeping is kept as `tests/fuzz/corpus/TARGET.tar.gz`, and every test run reads all of it again; each
//! run of the fuzzer begins with it. An input that breaks a law is left in the target folder and named.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::cargo::{cargo, program, root, succeed, target};

/// Instruments the code so that libFuzzer sees which branches an input reaches (as cargo-fuzz does, without a sanitizer:
/// the product has no `unsafe`, and the flags for one need a nightly compiler).
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

/// With a target named, flags do not reach build scripts and macros.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// The longest input, in bytes: what a reader does with more of the same is not new.
const LONGEST: u32 = 4096;

/// Runs each target for so many minutes; those whose name contains the filter, if there is one.
pub(super) fn run(minutes: u64, filter: Option<&str>) -> Result<ExitCode> {
    let folder = root().join("tests/fuzz");
    let names = names(&folder.join("fuzz_targets"))?;
    let mut broken = Vec::new();
    let mut ran = 0;
    build(&folder)?;
    for name in names
        .iter()
        .filter(|name| filter.is_none_or(|filter| name.contains(filter)))
    {
        println!("\n== {name}, {minutes} minutes");
        ran += 1;
        if !fuzz(&folder, name, minutes)? {
            broken.push(name.as_str());
        }
    }
    if ran == 0 {
        bail!(
            "no fuzz target has such a name; there are {}",
            names.join(", ")
        );
    }
    println!(
        "fuzz targets: {} passed, {} failed",
        ran - broken.len(),
        broken.len()
    );
    Ok(if broken.is_empty() {
        ExitCode::SUCCESS
    } else {
        println!("broken: {}", broken.join(", "));
        ExitCode::FAILURE
    })
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        names.extend(stem.map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

fn built() -> PathBuf {
    target().join("fuzz")
}

fn build(folder: &Path) -> Result<()> {
    let mut command = cargo(["build", "--release", "--locked", "--target", TRIPLE]);
    command
        .current_dir(folder)
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", built());
    succeed(&mut command)
}

/// Whether nothing was found.
fn fuzz(folder: &Path, name: &str, minutes: u64) -> Result<bool> {
    let binary = built().join(TRIPLE).join("release").join(name);
    let corpus = built().join("corpus").join(name);
    fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
    let kept = folder.join("corpus").join(format!("{name}.tar.gz"));
    if kept.exists() {
        let mut unpack = program("tar", ["-xzf"]);
        succeed(unpack.arg(&kept).arg("-C").arg(&corpus))?;
    }
    let found = built().join("found").join(format!("{name}-"));
    fs::create_dir_all(built().join("found")).context("cannot make a folder for what is found")?;
    let mut run = Command::new(&binary);
    run.arg(&corpus)
        .arg(format!("-max_total_time={}", 60 * minutes))
        .arg(format!("-max_len={LONGEST}"))
        .arg(format!("-artifact_prefix={}", found.display()))
        .args(["-timeout=60", "-rss_limit_mb=2048", "-print_final_stats=1"]);
    let status = run
        .status()
        .with_context(|| format!("cannot start {name}"))?;
    if !status.success() {
        println!("what breaks it is in {}*", found.display());
        return Ok(false);
    }
    keep(&binary, &corpus, &kept)?;
    Ok(true)
}

/// Packs the inputs that together reach all that was reached.
fn keep(binary: &Path, corpus: &Path, kept: &Path) -> Result<()> {
    let least = corpus.with_extension("least");
    if least.exists() {
        fs::remove_dir_all(&least).context("cannot remove the last selection")?;
    }
    fs::create_dir_all(&least).context("cannot make a folder for the selection")?;
    let mut merge = Command::new(binary);
    merge.arg("-merge=1").arg(&least).arg(corpus);
    succeed(&mut merge)?;
    fs::create_dir_all(kept.parent().context("the corpus has a folder")?)
        .context("cannot make the folder of the corpus")?;
    // The same inputs make the same file.
    let mut pack = program(
        "tar",
        ["--sort=name", "--mtime=@0", "--owner=0", "--group=0"],
    );
    pack.args(["--numeric-owner", "--use-compress-program=gzip -n9", "-cf"]);
    succeed(pack.arg(kept).arg("-C").arg(&least).arg("."))
}
