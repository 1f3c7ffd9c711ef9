//! Writing into a mount, and committing what was written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::harness::{Memory, PageCache, Row, Run, Side};
use super::process;
use super::stage::{Set, Stage, remove};
use super::work::{self, LARGE};
use crate::cargo::succeed;

/// 6,000 files a second.
const CREATING: Duration = Duration::from_millis(1667);
/// One write of the large file, in bytes.
const WHOLE: &str = "1048576";

pub(super) fn rows(stage: &Rc<Stage>) -> Vec<Row> {
    let row = |name: &str, compared: &str, touches, bar, (ours, other): (Side, Side)| Row {
        name: name.to_owned(),
        compared: compared.to_owned(),
        // Nothing of an earlier run is still being written back.
        page_cache: PageCache::Cold,
        touches,
        needs: vec![Set::Little],
        rival: None,
        ours,
        other,
        bar,
        memory: Memory::PEAK,
    };
    let same = "the same on the local disk";
    vec![
        row(
            "create, write, close 10,000 files of 4 KiB",
            same,
            LARGE,
            None,
            both(stage, Stage::fresh_on_disk, |dir| {
                work::command(["create"], &[dir])
            }),
        ),
        row(
            "create, write, close 10,000 files of 4 KiB",
            &format!("{:.3} s", CREATING.as_secs_f64()),
            LARGE,
            Some(1.0),
            {
                let create = |dir: &Path| work::command(["create"], &[dir]);
                let (ours, _) = both(stage, Stage::fresh_on_disk, create);
                let time = CREATING;
                (ours, Box::new(move || Ok(Run { time, memory: 0 })))
            },
        ),
        row(
            "write of 1 GiB",
            same,
            2 * LARGE,
            Some(1.0 / 0.8),
            both(stage, Stage::fresh, |dir| write_large(dir, "close", WHOLE)),
        ),
        row(
            "write of 1 GiB and fsync",
            same,
            2 * LARGE,
            Some(1.0 / 0.8),
            both(stage, Stage::fresh, |dir| write_large(dir, "sync", WHOLE)),
        ),
        row(
            "write of 1 GiB, 4 KiB at a time",
            same,
            2 * LARGE,
            Some(1.0 / 0.75),
            both(stage, Stage::fresh, |dir| write_large(dir, "close", "4096")),
        ),
        row(
            "commit of a file of 1 GiB",
            "copy and fsync",
            3 * LARGE,
            None,
            (committing(stage), copying(stage)),
        ),
    ]
}

fn write_large(dir: &Path, end: &str, piece: &str) -> Command {
    work::command(["write-large", end, piece], &[&dir.join("large")])
}

/// The same work in a mount and on the local disk. `place` gives a path that no run had before: for the session, which is where
/// the mount's files come to be, and for the local directory.
fn both(
    stage: &Rc<Stage>,
    place: fn(&Stage) -> Result<PathBuf>,
    work: fn(&Path) -> Command,
) -> (Side, Side) {
    let (mounted, local) = (Rc::clone(stage), Rc::clone(stage));
    let ours = move || {
        let mount = mounted.mount(Set::Little, &place(&mounted)?)?;
        let run = process::run_watching(mount.process(), &mut work(mount.point()))?;
        remove(&mount.point().join("large"))?;
        mount.unmount()?;
        Ok(run)
    };
    let other = move || {
        let dir = make_dir(place(&local)?)?;
        let run = process::run(&mut work(&dir))?;
        remove(&dir.join("large"))?;
        Ok(run)
    };
    (Box::new(ours), Box::new(other))
}

/// The session is unmounted and its file is on the disk; hashing, storing and publishing is timed.
fn committing(stage: &Rc<Stage>) -> Side {
    let stage = Rc::clone(stage);
    Box::new(move || {
        // A store of its own: what it has already is not stored again.
        let (session, store) = (stage.fresh()?, stage.fresh()?);
        stage.snapshot(Set::Little, &store)?;
        let mut mount = stage.start_mount(Set::Little, &store, &session, &[])?;
        mount.wait_until_ready()?;
        process::run(&mut write_large(mount.point(), "sync", WHOLE))?;
        mount.unmount()?;
        let run = process::run(stage.program().command(["commit"]).arg(&session))?;
        let mut discard = stage.program().command(["discard", "--yes"]);
        succeed(discard.arg(&session).stdout(Stdio::null()))?;
        remove(&store)?;
        Ok(run)
    })
}

fn copying(stage: &Rc<Stage>) -> Side {
    let stage = Rc::clone(stage);
    Box::new(move || {
        let dir = make_dir(stage.fresh()?)?;
        process::run(&mut write_large(&dir, "sync", WHOLE))?;
        let paths = [&dir.join("large"), &dir.join("copy")];
        let run = process::run(&mut work::command(["copy"], &paths.map(PathBuf::as_path)))?;
        remove(&dir)?;
        Ok(run)
    })
}

fn make_dir(dir: PathBuf) -> Result<PathBuf> {
    fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}
