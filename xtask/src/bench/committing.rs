//! Committing what was written in a mount, and recovering it after a kill.
//!
//! Ours is the program from its start to its end. What was written is in the page cache. Where a server is asked, it is that of the
//! transfers: near, or 20 ms away while it is timed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::bucket::Bucket;
use super::harness::{Memory, PageCache, Rival, Row, Run, Side};
use super::manifests::PYTHON;
use super::mounting::wait_for_tree;
use super::process::{self, peak_while};
use super::program::Mount;
use super::stage::{Set, Stage, remove};
use super::transfers::{self, Caches, FAR_MS, Server, Who};
use super::work::{self, LARGE};
use super::writing::write_large;
use crate::cargo::{program, succeed};
use crate::peers::Peer;

/// An input of [`Set::Entries`].
const INPUT: &str = "shots/sq000/sh0000/beauty/v003/beauty.1001.exr";
/// A declared output directory: what is in it may be uploaded early.
const OUTPUTS: &str = "outputs";
/// The fewest records that a recovery reads.
const RECORDS: u64 = 100_000;
/// How often a session is made that has so many.
const TRIES: u32 = 3;

pub(super) fn rows(stage: &Rc<Stage>) -> Vec<Row> {
    let near = Rc::new(Server::new(0));
    let row = |name: &str, compared: &str, needs: &[Set], bar, (ours, other): (Side, Side)| Row {
        name: name.to_owned(),
        compared: compared.to_owned(),
        page_cache: PageCache::Warm,
        touches: 3 * LARGE,
        needs: needs.to_vec(),
        rival: None,
        ours,
        other,
        bar,
        memory: Memory::PEAK,
    };
    let within = |name: &str, seconds: u64, needs: &[Set], ours: Side| {
        let time = Duration::from_secs(seconds);
        let other: Side = Box::new(move || Ok(Run { time, memory: 0 }));
        row(
            name,
            &format!("{seconds} s"),
            needs,
            Some(1.0),
            (ours, other),
        )
    };
    vec![
        Row {
            // Nothing of an earlier run is still being written back.
            page_cache: PageCache::Cold,
            ..row(
                "commit of a file of 1 GiB",
                "copy and fsync",
                &[Set::Little],
                None,
                (committing(stage), copying(stage)),
            )
        },
        Row {
            touches: 8 * LARGE,
            rival: Some(Rival::Library(Peer::Python)),
            ..row(
                "commit of 4 outputs of 1 GiB",
                &format!("their upload by {PYTHON}"),
                &[Set::Little, Set::Four],
                Some(1.0 / 4.0),
                (
                    committing_four(stage, &near),
                    transfers::side(
                        stage,
                        &near,
                        transfers::Work::Upload(Set::Four, Caches::Empty),
                        Who::Other(Peer::Python),
                    ),
                ),
            )
        },
        within(
            &format!("commit of 60,000 outputs of 101 B at {FAR_MS} ms a request"),
            60,
            &[Set::Little, Set::Tiny],
            committing_many(stage, &near, Upload::AtTheEnd),
        ),
        within(
            &format!(
                "commit of 60,000 outputs of 101 B at {FAR_MS} ms a request, after the last write, with early upload"
            ),
            20,
            &[Set::Little, Set::Tiny],
            committing_many(stage, &near, Upload::Early),
        ),
        within(
            "commit of 1 changed file of 1,000,000, mounted",
            1,
            &[Set::Entries],
            committing_one(stage, State::Mounted),
        ),
        within(
            "commit of 1 changed file of 1,000,000, unmounted",
            1,
            &[Set::Entries],
            committing_one(stage, State::Unmounted),
        ),
        within(
            "recovery of 100,000 journal records: mount of the session, until it is ready",
            1,
            &[Set::Little],
            recovering(stage),
        ),
    ]
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
        process::run(&mut write_large(mount.point(), "sync", "1048576"))?;
        mount.unmount()?;
        let run = process::run(stage.program().command(["commit"]).arg(&session))?;
        discard(&stage, &session)?;
        remove(&store)?;
        Ok(run)
    })
}

fn discard(stage: &Stage, session: &Path) -> Result<()> {
    let mut discard = stage.program().command(["discard", "--yes"]);
    succeed(discard.arg(session).stdout(Stdio::null()))
}

fn copying(stage: &Rc<Stage>) -> Side {
    let stage = Rc::clone(stage);
    Box::new(move || {
        let dir = stage.fresh()?;
        stage.program().make_dir(&dir)?;
        process::run(&mut write_large(&dir, "sync", "1048576"))?;
        let paths = [&dir.join("large"), &dir.join("copy")];
        let run = process::run(&mut work::command(["copy"], &paths.map(PathBuf::as_path)))?;
        remove(&dir)?;
        Ok(run)
    })
}

/// A mount over S3 with a new prefix, which is the name of the session.
struct OverS3<'a> {
    bucket: &'a Bucket,
    prefix: String,
    mount: Mount<'a>,
}

fn mount_over_s3<'a>(
    stage: &'a Stage,
    bucket: &'a Bucket,
    session: &Path,
    options: &[&str],
) -> Result<OverS3<'a>> {
    let prefix = session.file_name().context("a session without a name")?;
    let prefix = prefix.to_string_lossy().into_owned();
    stage.snapshot_to_s3(Set::Little, bucket, &prefix)?;
    let mount = stage.mount_over_s3(Set::Little, bucket, &prefix, session, options)?;
    Ok(OverS3 {
        bucket,
        prefix,
        mount,
    })
}

impl OverS3<'_> {
    /// Commits, and makes sure that the bucket has so many objects then, the mounted one included.
    fn commit(&self, stage: &Stage, what: &Path, objects: usize) -> Result<Run> {
        let mut commit = stage.program().over_s3(self.bucket);
        // A file is closed a moment after the program that wrote it has ended.
        commit.args(["commit", "--wait", "5"]).arg(what);
        let run = process::run(&mut commit)?;
        self.bucket.check(&self.prefix, objects)?;
        Ok(run)
    }
}

fn committing_four(stage: &Rc<Stage>, server: &Rc<Server>) -> Side {
    let (stage, server) = (Rc::clone(stage), Rc::clone(server));
    Box::new(move || {
        server.prepare(&stage, Set::Four)?;
        let over = mount_over_s3(&stage, server.bucket()?, &stage.fresh()?, &[])?;
        let mut copy = program("cp", []);
        copy.args(stage.four()).arg(over.mount.point());
        process::run(&mut copy)?;
        let run = over.commit(&stage, over.mount.point(), stage.files(Set::Four) + 1)?;
        over.bucket.delete(&over.prefix)?;
        over.mount.unmount()?;
        Ok(run)
    })
}

/// When outputs are uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upload {
    /// By the commit.
    AtTheEnd,
    /// While the job runs, as far as it gets.
    Early,
}

/// The sessions lie where nothing is deleted.
fn committing_many(stage: &Rc<Stage>, server: &Rc<Server>, upload: Upload) -> Side {
    let (stage, server) = (Rc::clone(stage), Rc::clone(server));
    Box::new(move || {
        server.prepare(&stage, Set::Tiny)?;
        let bucket = server.bucket()?;
        let options: &[&str] = match upload {
            Upload::AtTheEnd => &[],
            Upload::Early => &["--output-dir", OUTPUTS],
        };
        let over = mount_over_s3(&stage, bucket, &stage.fresh_on_disk()?, options)?;
        if upload == Upload::Early {
            bucket.set_pace(FAR_MS, 0)?;
        }
        let outputs = over.mount.point().join(OUTPUTS);
        process::run(&mut work::command(["create", "tiny"], &[&outputs]))?;
        bucket.set_pace(FAR_MS, 0)?;
        let run = over.commit(&stage, over.mount.point(), stage.files(Set::Tiny) + 1)?;
        bucket.set_pace(0, 0)?;
        bucket.delete(&over.prefix)?;
        over.mount.unmount()?;
        Ok(run)
    })
}

/// Where a session is when it is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Mounted,
    Unmounted,
}

fn committing_one(stage: &Rc<Stage>, state: State) -> Side {
    let stage = Rc::clone(stage);
    Box::new(move || {
        let (session, store) = (stage.fresh()?, stage.fresh()?);
        stage.program().make_dir(&store)?;
        let mut mount = stage.start_mount(Set::Entries, &store, &session, &[])?;
        mount.wait_until_ready()?;
        wait_for_tree(&stage.program().cache())?;
        let input = mount.point().join(INPUT);
        fs::write(&input, "rendered again")
            .with_context(|| format!("cannot write {}", input.display()))?;
        let point = mount.point().to_owned();
        let commit = |what: &Path| {
            let mut commit = stage.program().command(["commit", "--wait", "5"]);
            process::run(commit.arg(what))
        };
        let run = match state {
            State::Mounted => {
                let run = commit(&point)?;
                mount.unmount()?;
                run
            }
            State::Unmounted => {
                mount.unmount()?;
                let run = commit(&session)?;
                discard(&stage, &session)?;
                run
            }
        };
        remove(&store)?;
        Ok(run)
    })
}

/// All of what a job waits for after a kill: taking the dead mount away and making a new one are part of it.
fn recovering(stage: &Rc<Stage>) -> Side {
    let stage = Rc::clone(stage);
    Box::new(move || {
        let (session, point) = killed(&stage)?;
        let start = Instant::now();
        let mut again = stage.program().take_up(&session, point)?;
        let (memory, ready) = peak_while(again.process(), || {
            again.wait_until_ready().map(|()| start.elapsed())
        });
        let time = ready?;
        let mut list: Command = work::command(["list", "1000"], &[&again.point().join("d0050")]);
        process::run(&mut list)?;
        again.unmount()?;
        Ok(Run { time, memory })
    })
}

/// A session and its dead mount. The journal is compacted now and then while files are made, which leaves hardly a record to recover: the
/// session is another one then.
fn killed(stage: &Stage) -> Result<(PathBuf, PathBuf)> {
    let mut found = 0;
    for _ in 0..TRIES {
        let session = stage.fresh_on_disk()?;
        let mount = stage.mount(Set::Little, &session)?;
        let point = mount.point().to_owned();
        process::run(&mut work::command(["create", "recorded"], &[&point]))?;
        mount.kill()?;
        let mut check = stage.program().command(["fsck", "--json"]);
        let checked = check.arg(&session).output().context("cannot run fsck")?;
        let checked: Checked =
            serde_json::from_slice(&checked.stdout).context("cannot read what fsck says")?;
        if checked.records >= RECORDS {
            return Ok((session, point));
        }
        found = checked.records;
        let mut again = stage.program().take_up(&session, point)?;
        again.wait_until_ready()?;
        again.unmount()?;
    }
    bail!("{TRIES} journals had fewer than {RECORDS} records, the last one {found}")
}

/// What is used of fsck's answer.
#[derive(Debug, Deserialize)]
struct Checked {
    records: u64,
}
