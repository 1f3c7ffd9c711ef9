//! `cargo xtask soak --reads`: 32 readers of a mount whose store and whose cache's disk fail, by a seed.
//!
//! Half of the time the kernel reads complete files by itself, half of it the mount answers all reads. [`inputs`] are the files, [`readers`]
//! the process that reads, [`phases`] what goes wrong, [`judge`] what may come of that.

mod inputs;
mod judge;
mod phases;
pub(super) mod readers;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::bench::bucket::Bucket;
use crate::bench::process::anonymous_memory;
use crate::bench::program::Program;
use crate::cargo::{cargo, program, root, succeed, target};
use inputs::Input;
pub(super) use inputs::mixed;
use judge::{Keys, LONGEST, OP_TIMEOUT, Outcome, Told};
use phases::{PAUSE, Phase, Trouble};
use readers::Said;
pub(super) use readers::now;

/// How much more memory the mount may have in the end than when it was made: 8 MiB stay kept, and names, attributes and what the
/// allocator holds for later.
const MEMORY: u64 = 64 << 20;
/// The mount gives memory back after 30 quiet seconds, and threads end. Connections end after a minute without a request, for which
/// the pool looks once a minute.
const QUIET: Duration = Duration::from_secs(130);
/// How long the end of a mount may take.
const UNMOUNTED_WITHIN: Duration = Duration::from_mins(1);

/// Where all of it happens.
struct Stage {
    dir: PathBuf,
    program: Program,
    bucket: Bucket,
    manifest: PathBuf,
    inputs: Vec<Input>,
    keys: Keys,
    seed: u64,
}

/// Fails when a reader got what it may not, when something hangs, or when the mount keeps what it should give back.
pub(super) fn run(minutes: u64, seed: Option<u64>) -> Result<ExitCode> {
    let seed = seed.unwrap_or_else(|| readers::now() % 1_000_000);
    println!(
        "seed {seed}: `cargo xtask soak --reads --minutes {minutes} --seed {seed}` does the same again"
    );
    let dir = std::env::temp_dir().join(format!("attachfs-soak-{}", std::process::id()));
    let stage = Stage::prepare(dir.clone(), seed)?;
    let mut broken = Vec::new();
    for (name, options) in [
        ("with passthrough", &[][..]),
        ("without passthrough", &["--no-passthrough"][..]),
    ] {
        println!("\n== {name}");
        broken.extend(stage.soak(60 * minutes / 2, options)?);
    }
    let told = stage.told()?;
    println!("\nfaults: {:?}", told.counts);
    let kinds = [
        "forbidden",
        "expired",
        "missing",
        "internal",
        "slow_down",
        "close",
        "silence",
        "cut",
        "stall",
        "trickle",
        "renamed",
        "wrong",
    ];
    for kind in kinds {
        if told.counts.get(kind).is_none_or(|&count| count == 0) {
            broken.push(format!(
                "no read met the fault {kind}: the soak was too short"
            ));
        }
    }
    drop(stage);
    if broken.is_empty() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot delete {}", dir.display()))?;
        println!("the soak passed");
        return Ok(ExitCode::SUCCESS);
    }
    for what in broken.iter().take(50) {
        println!("BROKEN: {what}");
    }
    println!(
        "{} failures, seed {seed}; logs are in {}",
        broken.len(),
        dir.display()
    );
    Ok(ExitCode::FAILURE)
}

/// The program built for release if it is newer than all sources, else the one for debugging, which is built.
pub(super) fn built() -> Result<(PathBuf, PathBuf)> {
    let release = target().join("release");
    let made = |path: &Path| fs::metadata(path).and_then(|data| data.modified());
    let newest = ["crates", "mount", "tests/fast-s3"]
        .iter()
        .map(|dir| newest(&root().join(dir)));
    let newest = newest.max().flatten();
    let programs = |dir: &Path| (dir.join("attachfs"), dir.join("attachfs-fast-s3"));
    let (program, server) = programs(&release);
    let is_new = |path: &Path| made(path).is_ok_and(|made| newest.is_some_and(|at| made > at));
    if is_new(&program) && is_new(&server) {
        println!("program: {}", program.display());
        return Ok((program, server));
    }
    let words = [
        "build",
        "--locked",
        "-p",
        "attachfs-cli",
        "-p",
        "attachfs-fast-s3",
    ];
    succeed(&mut cargo(words))?;
    println!("program: built for debugging; the one for release is missing or old");
    Ok(programs(&target().join("debug")))
}

fn newest(dir: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(dir).ok()?.flatten();
    let times = entries.map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            newest(&path)
        } else {
            entry.metadata().and_then(|data| data.modified()).ok()
        }
    });
    times.max().flatten()
}

impl Stage {
    fn prepare(dir: PathBuf, seed: u64) -> Result<Self> {
        let (path, server) = built()?;
        let inputs = inputs::all(seed);
        inputs::write(&inputs, &dir.join("input"))?;
        let bucket = Bucket::start_built(&server, 0)?;
        let program = Program::at(&path, dir.join("home"))?;
        let manifest = dir.join("base.manifest");
        let mut snapshot = program.over_s3(&bucket);
        snapshot.arg("snapshot").arg(dir.join("input"));
        snapshot.arg("-o").arg(&manifest);
        snapshot.args(["--store", &Bucket::address("soak")]);
        succeed(snapshot.stdout(Stdio::null()))?;
        fs::remove_dir_all(dir.join("input"))?;
        let mut stage = Self {
            dir,
            program,
            bucket,
            manifest,
            inputs,
            keys: Keys::default(),
            seed,
        };
        let mut ls = stage.program.command(["ls", "-R", "--json"]);
        let listed = json(ls.arg(&stage.manifest))?;
        for line in listed.as_array().context("no list")? {
            if let (Some(path), Some(hash)) = (line["path"].as_str(), line["hash"].as_str()) {
                let key = format!("soak/Data/{hash}.xxh128");
                stage.keys.0.insert(path.to_owned(), key);
            }
        }
        Ok(stage)
    }

    fn told(&self) -> Result<Told> {
        let text = self.bucket.ask("GET", "faults")?;
        serde_json::from_str(&text).context("the server does not say its faults")
    }

    /// One mount, for so many seconds. Gives what is broken.
    fn soak(&self, seconds: u64, options: &[&str]) -> Result<Vec<String>> {
        let disk = Disk::make(&self.dir)?;
        let mount = self.mount(&disk.0, options)?;
        let pid = mount.process.id();
        let start = Counts::of(pid);
        let mut outcome = Outcome::default();
        let (phases, said, peak) = self.trouble(&mount, &disk.0, seconds)?;
        let told = self.told()?;
        let mut is_stuck = false;
        for said in &said {
            match said {
                Said::Count(count) => outcome.count(count, &phases),
                Said::Failed(failed) => outcome.failed(failed, &self.inputs, &phases),
                Said::Wrong(wrong) => {
                    outcome.wrong(wrong, &self.inputs, &self.keys, &told);
                }
                Said::Stuck(what) => {
                    is_stuck = true;
                    outcome.broken.push(format!("stuck: {what}"));
                }
            }
        }
        if is_stuck {
            show_stacks(pid);
            mount.abandon();
            return Ok(outcome.broken);
        }
        self.read_all(&mount.point, &mut outcome.broken);
        let stats = json(self.program.command(["stats", "--json"]).arg(&mount.point));
        if let Err(error) = stats {
            outcome.broken.push(format!("{error:#}"));
        }
        thread::sleep(QUIET);
        let end = Counts::of(pid);
        end.hold_against(&start, &mut outcome.broken);
        table(&outcome, &phases, [&start, &end], peak);
        self.finish(mount, &mut outcome.broken)?;
        Ok(outcome.broken)
    }

    fn mount(&self, cache: &Path, options: &[&str]) -> Result<Mount> {
        let point = self.dir.join("mount");
        fs::create_dir_all(&point)?;
        let session = self.dir.join("session");
        let mut command = self.program.over_s3(&self.bucket);
        command.args(["mount", "--json", "--foreground", "--store"]);
        command
            .arg(Bucket::address("soak"))
            .arg("--session")
            .arg(&session);
        command.arg("--cache-dir").arg(cache.join("cache"));
        command.args(["--max-cache-size", "64M", "--cache-min-free", "4M"]);
        command.args(["--op-timeout", &OP_TIMEOUT.to_string()]);
        command
            .arg("--log")
            .arg(self.dir.join(format!("log{}", options.len())));
        command.args(options).arg(&self.manifest).arg(&point);
        // In the foreground errors are said there, too.
        command.stderr(Stdio::null());
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().context("the output was not piped")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(!line.is_empty(), "the mount ended before it was ready");
        Ok(Mount {
            process,
            point,
            session,
        })
    }

    /// Lets the readers read, and makes trouble. Gives the phases, what the readers said, and the peak of memory.
    fn trouble(
        &self,
        mount: &Mount,
        disk: &Path,
        seconds: u64,
    ) -> Result<(Vec<Phase>, Vec<Said>, u64)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("soak-readers").arg(&mount.point);
        command.args(["--seed", &self.seed.to_string()]);
        command.args(["--seconds", &seconds.to_string()]);
        command.args(["--limit", &LONGEST.to_string()]);
        let mut helper = command.stdout(Stdio::piped()).spawn()?;
        let output = helper.stdout.take().context("the output was not piped")?;
        let (send, receive) = mpsc::channel();
        let pid = mount.process.id();
        let hearing = thread::spawn(move || {
            let mut said = Vec::new();
            let mut peak = 0;
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                peak = anonymous_memory(pid).unwrap_or(0).max(peak);
                if let Ok(one) = serde_json::from_str(&line) {
                    said.push(one);
                }
            }
            // Nobody listens any more after an error.
            let _ = send.send(());
            (said, peak)
        });
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut phases = Vec::new();
        let whole = Duration::from_secs(phases::LASTS + PAUSE);
        let is_passthrough = seconds > 0 && !mount_answers_all(mount);
        for (number, trouble) in (0..).zip(phases::ALL.iter().cycle()) {
            let harms_nobody = *trouble != Trouble::Damaged || !is_passthrough;
            if !harms_nobody {
                continue;
            }
            if Instant::now() + whole > end || receive.try_recv().is_ok() {
                break;
            }
            println!("  {}", trouble.name());
            let seed = inputs::mixed(self.seed ^ number);
            phases.push(trouble.befall(seed, &self.bucket, disk)?);
            thread::sleep(Duration::from_secs(PAUSE));
        }
        // The readers end by themselves: after their time and that of the longest read.
        let most = Duration::from_secs(2 * LONGEST);
        let left = end.saturating_duration_since(Instant::now()) + most;
        let ended = receive.recv_timeout(left);
        if ended.is_err() {
            show_stacks(pid);
            show_stacks(helper.id());
            helper.kill()?;
        }
        let status = helper.wait()?;
        let Ok((mut said, peak)) = hearing.join() else {
            bail!("what the readers said is lost");
        };
        if ended.is_err() || !status.success() {
            said.push(Said::Stuck(format!("the readers ended with {status}")));
        }
        Ok((phases, said, peak))
    }

    /// Reads everything; what is not right has a minute and a half to become so, since wrong objects are asked for again after 30 seconds.
    fn read_all(&self, point: &Path, broken: &mut Vec<String>) {
        let end = Instant::now() + Duration::from_secs(90);
        let mut left: Vec<&Input> = self.inputs.iter().collect();
        loop {
            left.retain(|input| {
                let read = fs::read(point.join(&input.path));
                !read.is_ok_and(|bytes| {
                    bytes.len() as u64 == input.size && input.differences(0, &bytes).is_empty()
                })
            });
            if left.is_empty() {
                return;
            }
            if Instant::now() > end {
                let names = left.iter().map(|input| input.path.as_str());
                let names = names.collect::<Vec<_>>().join(", ");
                broken.push(format!("not right in the end: {names}"));
                return;
            }
            thread::sleep(Duration::from_secs(2));
        }
    }

    /// Writes a file, commits, which is refused only if the session is tainted, and unmounts.
    fn finish(&self, mut mount: Mount, broken: &mut Vec<String>) -> Result<()> {
        fs::write(mount.point.join("output"), "made of it").context("cannot write an output")?;
        let status = json(self.program.command(["status", "--json"]).arg(&mount.point))?;
        let is_tainted = status["tainted"]
            .as_array()
            .is_some_and(|list| !list.is_empty());
        let mut commit = self.program.over_s3(&self.bucket);
        let commit = commit.arg("commit").arg(&mount.point).output()?;
        let code = commit.status.code();
        let expected = if is_tainted { 12 } else { 0 };
        println!("  tainted: {is_tainted}; commit: exit code {code:?}");
        if code != Some(expected) {
            let said = String::from_utf8_lossy(&commit.stderr).into_owned();
            broken.push(format!(
                "commit ended with {code:?}, not {expected}: {said}"
            ));
        }
        let start = Instant::now();
        let mut umount = self.program.command(["umount"]);
        let mut umount = umount.arg(&mount.point).stdout(Stdio::null()).spawn()?;
        let is_over = |process: &mut Child| process.try_wait().is_ok_and(|status| status.is_some());
        while !is_over(&mut umount) || !is_over(&mut mount.process) {
            if start.elapsed() > UNMOUNTED_WITHIN {
                broken.push("the mount does not end".to_owned());
                show_stacks(mount.process.id());
                // It may have ended since.
                let _ = umount.kill();
                mount.abandon();
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        println!("  unmounted after {:?}", start.elapsed());
        if mount.session.exists() {
            let mut discard = self.program.command(["discard", "--yes"]);
            succeed(discard.arg(&mount.session).stdout(Stdio::null()))?;
        }
        Ok(())
    }
}

/// Whether the mount was told to answer all reads itself.
fn mount_answers_all(mount: &Mount) -> bool {
    let words = fs::read(format!("/proc/{}/cmdline", mount.process.id())).unwrap_or_default();
    let mut words = words.split(|&byte| byte == 0);
    words.any(|word| word == b"--no-passthrough")
}

/// A mount, ended by force when something went wrong.
struct Mount {
    process: Child,
    point: PathBuf,
    session: PathBuf,
}

impl Mount {
    fn abandon(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if !matches!(self.process.try_wait(), Ok(Some(_))) {
            // It may end at this moment; then there is nothing to kill or to unmount.
            let _ = program("umount", ["-l"]).arg(&self.point).status();
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.end();
    }
}

/// A small file system for the cache.
struct Disk(PathBuf);

impl Disk {
    fn make(dir: &Path) -> Result<Self> {
        let (image, point) = (dir.join("disk.image"), dir.join("disk"));
        fs::File::create(&image)?.set_len(128 << 20)?;
        fs::create_dir_all(&point)?;
        succeed(program("mkfs.ext4", ["-q", "-F"]).arg(&image))?;
        let mut mount = program("mount", ["-o", "loop"]);
        succeed(mount.args([&image, &point])).context("needs root and loop devices")?;
        Ok(Self(point))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = succeed(program("umount", []).arg(&self.0)) {
            println!("a file system stays mounted: {error:#}");
        }
    }
}

/// What a process has.
#[derive(Debug)]
struct Counts {
    memory: u64,
    threads: usize,
    files: usize,
}

impl Counts {
    fn of(pid: u32) -> Self {
        let count = |what| fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
        Self {
            memory: anonymous_memory(pid).unwrap_or(0),
            threads: count("task"),
            files: count("fd"),
        }
    }

    /// The end may have little more than the start.
    fn hold_against(&self, start: &Self, broken: &mut Vec<String>) {
        let is_more = self.memory > start.memory + MEMORY
            || self.threads > start.threads + 8
            || self.files > start.files + 32;
        if is_more {
            broken.push(format!("the mount had {start:?} and has {self:?}"));
        }
    }
}

/// What all threads of a process wait for.
pub(super) fn show_stacks(pid: u32) {
    for entry in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let read = |name| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        println!(
            "{} {} {}\n{}",
            entry.path().display(),
            read("comm").trim(),
            read("wchan"),
            read("stack")
        );
    }
}

fn table(outcome: &Outcome, phases: &[Phase], [start, end]: [&Counts; 2], peak: u64) {
    let mut errors: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for ((name, errno), count) in &outcome.errors {
        errors
            .entry(name)
            .or_default()
            .push(format!("{count} of errno {errno}"));
    }
    println!("\n| trouble | times | errors | longest read |\n|---|---|---|---|");
    for (name, worst) in &outcome.worst {
        let times = phases
            .iter()
            .filter(|phase| phase.trouble.name() == *name)
            .count();
        let errors = errors
            .get(name)
            .map_or("0".to_owned(), |errors| errors.join(", "));
        let name = if name.is_empty() { "none" } else { name };
        println!("| {name} | {times} | {errors} | {worst} ms |");
    }
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "\n  {} operations, {} MiB that are right",
        outcome.reads,
        mib(outcome.bytes)
    );
    println!(
        "  {} reads of long objects had a byte that the store had wrong, before all was verified",
        outcome.excluded
    );
    println!(
        "  memory: {} MiB, at most {}, in the end {}",
        mib(start.memory),
        mib(peak),
        mib(end.memory)
    );
    println!(
        "  threads {} to {}, descriptors {} to {}",
        start.threads, end.threads, start.files, end.files
    );
}

pub(super) fn json(command: &mut Command) -> Result<Value> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{} ended with {}: {}",
        crate::cargo::shown(command),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("no JSON")
}
