//! Jobs in a bucket whose server waits 20 ms before each answer: what is listed, what of a job is seen first, and what is fetched again.
//!
//! ```text
//!     a queue of 10 jobs, each with a step of 10,000 tasks that ran once: 100,000 manifests of one file each
//! ```
//! The bars are absolute: AWS's library lists a job without a wait for others, and reads one manifest after the other.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::fs::{XattrFlags, fsetxattr};
use serde_json::{Value, json};

use super::bucket::Bucket;
use super::harness::{Memory, PageCache, Row, Run, Side};
use super::manifests::text;
use super::process::{self, peak_while};
use super::stage::{Stage, remove};
use crate::cargo::succeed;

const DELAY_MS: u32 = 20;
const JOBS: usize = 10;
const TASKS: usize = 10_000;
const PREFIX: &str = "jobs";
const FARM: &str = "farm-00000000000000000000000000000001";
const QUEUE: &str = "queue-00000000000000000000000000000002";
const ROOT: &str = "/proj/film";
/// What every frame has, and its hash.
const FRAME: &[u8] = b"a";
const HASH: &str = "a96faf705af16834e6c632b61e964e1f";
/// What stands for the root in keys: no program computes it, the manifests tell the root.
const ROOT_HASH: &str = "00000000000000000000000000000003";
const MIB: u64 = 1 << 20;

pub(super) fn rows(stage: &Rc<Stage>) -> Vec<Row> {
    let queue = Rc::new(Queue::default());
    let row = |name: &str, seconds: u64, memory: Option<u64>, ours: Side| {
        let time = Duration::from_secs(seconds);
        Row {
            name: format!("{name} at {DELAY_MS} ms a request"),
            compared: format!("{seconds} s"),
            page_cache: PageCache::Warm,
            touches: 500 * MIB,
            needs: Vec::new(),
            rival: None,
            ours,
            other: Box::new(move || Ok(Run { time, memory: 0 })),
            bar: Some(1.0),
            memory: Memory {
                bar: memory,
                ..Memory::PEAK
            },
        }
    };
    let side = |work: fn(&Stage, &Queue) -> Result<Run>| -> Side {
        let (stage, queue) = (Rc::clone(stage), Rc::clone(&queue));
        Box::new(move || work(&stage, &queue))
    };
    vec![
        row(
            "browse of a job with 10,000 tasks, until all of latest/ is listed,",
            3,
            None,
            side(browsing),
        ),
        row(
            "jobs of a queue with 100,000 manifests",
            10,
            Some(100 * MIB),
            side(listing),
        ),
        row(
            "sync-output with nothing new after 10,000 session actions",
            2,
            None,
            side(syncing),
        ),
    ]
}

/// The bucket, filled when it is needed first, and what was synced from it.
#[derive(Default)]
struct Queue {
    bucket: OnceCell<Bucket>,
    synced: OnceCell<PathBuf>,
}

impl Queue {
    fn bucket(&self) -> Result<&Bucket> {
        if let Some(bucket) = self.bucket.get() {
            return Ok(bucket);
        }
        let bucket = Bucket::start(0)?;
        fill(&bucket)?;
        bucket.set_pace(DELAY_MS, 0)?;
        Ok(self.bucket.get_or_init(|| bucket))
    }
}

/// A command line that reaches the bucket, with its store.
fn over_s3<'a>(
    stage: &Stage,
    bucket: &Bucket,
    words: impl IntoIterator<Item = &'a str>,
) -> Command {
    let mut command = stage.program().over_s3(bucket);
    command
        .args(words)
        .args(["--store", &Bucket::address(PREFIX)]);
    command
}

fn job(number: usize) -> String {
    format!("job-{number:032x}")
}

fn address(number: usize) -> String {
    format!("deadline://{FARM}/{QUEUE}/{}", job(number))
}

fn browsing(stage: &Stage, queue: &Queue) -> Result<Run> {
    let bucket = queue.bucket()?;
    let (cache, point) = (stage.fresh()?, stage.mount_point());
    stage.program().make_dir(&point)?;
    let start = Instant::now();
    let words = [
        "browse",
        "--json",
        "--cache-dir",
        text(&cache)?,
        &address(0),
    ];
    let mut browse = over_s3(stage, bucket, words);
    let output = browse.arg(&point).stderr(Stdio::inherit()).output()?;
    ensure!(
        output.status.success(),
        "browse ended with {}",
        output.status
    );
    let said: Value = serde_json::from_slice(&output.stdout).context("browse printed no JSON")?;
    let process = said["pid"].as_u64().context("browse told no process")?;
    let (memory, listed) = peak_while(u32::try_from(process)?, || frames_in(&point));
    let time = start.elapsed();
    let mut umount = stage.program().command(["umount"]);
    succeed(umount.arg(&point).stdout(Stdio::null()))?;
    remove(&cache)?;
    let listed = listed?;
    ensure!(listed == TASKS, "{listed} of {TASKS} frames were listed");
    Ok(Run { time, memory })
}

/// How many frames `latest/` has, listed from the top.
fn frames_in(point: &Path) -> Result<usize> {
    let mut count = 0;
    for root in fs::read_dir(point.join("latest"))? {
        for frame in fs::read_dir(root?.path().join("frames"))? {
            frame?;
            count += 1;
        }
    }
    Ok(count)
}

fn listing(stage: &Stage, queue: &Queue) -> Result<Run> {
    let bucket = queue.bucket()?;
    let address = format!("deadline://{FARM}/{QUEUE}");
    let mut jobs = over_s3(stage, bucket, ["jobs", "--json", &address]);
    let (run, said) = process::run_hearing(&mut jobs)?;
    let last = job(JOBS - 1);
    ensure!(said.contains(&last), "{last} is not listed: {said}");
    Ok(run)
}

fn syncing(stage: &Stage, queue: &Queue) -> Result<Run> {
    let bucket = queue.bucket()?;
    let sync = |dir: &Path| -> Result<Command> {
        let (to, checkpoint) = (dir.join("synced"), dir.join("checkpoint"));
        fs::create_dir_all(&to)?;
        let mapped = format!("{ROOT}={}", text(&to)?);
        let words = ["sync-output", &address(0), "--map-root", &mapped];
        let mut sync = over_s3(stage, bucket, words);
        sync.arg("--checkpoint-dir").arg(checkpoint);
        Ok(sync)
    };
    let dir = match queue.synced.get() {
        Some(dir) => dir,
        None => {
            let dir = stage.fresh()?;
            bucket.set_pace(0, 0)?;
            succeed(sync(&dir)?.stdout(Stdio::null()))?;
            bucket.set_pace(DELAY_MS, 0)?;
            let found = fs::read_dir(dir.join("synced/frames"))?.count();
            ensure!(found == TASKS, "{found} of {TASKS} frames were synced");
            queue.synced.get_or_init(|| dir)
        }
    };
    process::run(&mut sync(dir)?)
}

/// Writes the manifests where the server has its objects, as it would write them.
fn fill(bucket: &Bucket) -> Result<()> {
    let object = |key: &str| bucket.object(&format!("{PREFIX}/{key}"));
    let data = object(&format!("Data/{HASH}.xxh128"));
    fs::create_dir_all(data.parent().context("no folder")?)?;
    fs::write(&data, FRAME)?;
    for number in 0..JOBS {
        let step = format!(
            "Manifests/{FARM}/{QUEUE}/{}/step-{number:032x}",
            job(number)
        );
        for task in 0..TASKS {
            let (minute, second) = (task / 60 % 60, task % 60);
            let time = format!(
                "2025-01-31T{:02}:{minute:02}:{second:02}.000000Z",
                task / 3600
            );
            let action = format!("sessionaction-{number:032x}-{task}");
            let key =
                format!("{step}/task-{number:032x}-{task}/{time}_{action}/{ROOT_HASH}_output");
            let path = object(&key);
            fs::create_dir_all(path.parent().context("no folder")?)?;
            let manifest = json!({
                "hashAlg": "xxh128",
                "manifestVersion": "2023-03-03",
                "paths": [{
                    "hash": HASH,
                    "mtime": 1_700_000_000_000_000_u64,
                    "path": format!("frames/frame_{task:05}.exr"),
                    "size": FRAME.len(),
                }],
                "totalSize": FRAME.len(),
            });
            let mut file = File::create(&path)?;
            file.write_all(manifest.to_string().as_bytes())?;
            // As tests/fast-s3 keeps what a client says of an object.
            let said = format!("x-amz-meta-asset-root:{ROOT}\n");
            let name = "user.attachfs.fast-s3";
            fsetxattr(&file, name, said.as_bytes(), XattrFlags::empty())?;
        }
    }
    Ok(())
}
