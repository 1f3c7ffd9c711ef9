//! What programs do with many files: unpacking, looking what changed, building.
//!
//! Both sides find a new directory, in a mount and on the local disk, on a file system where nothing was deleted.

use std::path::Path;
use std::process::Command;
use std::rc::Rc;

use anyhow::Result;

use super::harness::{Memory, PageCache, Row};
use super::process;
use super::sides::{Pair, both};
use super::stage::{Set, Stage};
use crate::cargo::{cargo, program};

const GIB: u64 = 1 << 30;
/// As a version control system that nobody has configured.
const GIT: &str = "export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1; \
                   git() { command git -c user.name=bench -c user.email=bench@localhost -c gc.auto=0 \"$@\"; }; ";

pub(super) fn rows(stage: &Rc<Stage>) -> Vec<Row> {
    let row = |name: &str, needs, bar, pair: Pair| Row {
        name: name.to_owned(),
        compared: "the same on the local disk".to_owned(),
        page_cache: PageCache::Cold,
        touches: GIB,
        needs: vec![Set::Little, needs],
        rival: None,
        ours: pair.0,
        other: pair.1,
        bar: Some(bar),
        memory: Memory::PEAK,
    };
    let place = Stage::fresh_on_disk;
    vec![
        row(
            "untar of 5,000 files of 4 KiB",
            Set::Sources,
            6.0,
            both(stage, &[], place, |_, _| Ok(()), unpack),
        ),
        row(
            "git status of 5,000 files, five times",
            Set::Sources,
            2.0,
            both(stage, &[], place, keep_versions, |_, dir| {
                let times = "for time in 1 2 3 4 5; do git status --porcelain || exit; done";
                shell(times, dir)
            }),
        ),
        row(
            "cargo build of 11 crates",
            Set::Crates,
            1.3,
            both(stage, &[], place, copy_crates, |_, dir| build(dir)),
        ),
    ]
}

fn unpack(stage: &Stage, dir: &Path) -> Command {
    let mut unpack = program("tar", ["-x", "-f"]);
    unpack.arg(stage.dir(Set::Sources).join("tar"));
    unpack.arg("-C").arg(dir);
    unpack
}

fn shell(script: &str, dir: &Path) -> Command {
    let mut shell = program("sh", ["-e", "-c"]);
    shell.arg(format!("{GIT}{script}")).current_dir(dir);
    shell
}

/// Unpacks, commits, and looks for changes once.
fn keep_versions(stage: &Stage, dir: &Path) -> Result<()> {
    process::run(&mut unpack(stage, dir))?;
    let script = "git init -q; git add .; git commit -q -m first; git status --porcelain";
    process::run(&mut shell(script, dir)).map(drop)
}

fn copy_crates(stage: &Stage, dir: &Path) -> Result<()> {
    let mut copy = program("cp", ["-r"]);
    copy.arg(stage.dir(Set::Crates).join(".")).arg(dir);
    process::run(&mut copy).map(drop)
}

/// Its target folder is in the directory, too.
fn build(dir: &Path) -> Command {
    let mut build = cargo(["build", "--offline", "--quiet"]);
    build.current_dir(dir);
    for name in ["CARGO_TARGET_DIR", "CARGO_INCREMENTAL", "RUSTFLAGS"] {
        build.env_remove(name);
    }
    build
}
