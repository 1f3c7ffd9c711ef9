//! The programs and places of a soak of writes: the bucket, the disks, the mount's process, and commands that end in time.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::halts::Watch;
use crate::bench::bucket::Bucket;
use crate::bench::program::Program;
use crate::cargo::{program, shown, succeed};

/// Kills a process, if it is there.
pub(super) fn kill(pid: u32) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        // It may have ended.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) status: ExitStatus,
    pub(super) out: String,
    pub(super) err: String,
}

impl Said {
    pub(super) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub(super) fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("no JSON: {self:?}"))
    }
}

/// A command that runs, its output in files.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) child: Child,
    shown: String,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    pub(super) fn start(mut command: Command, dir: &Path) -> Result<Self> {
        let (out, err) = (dir.join("command.out"), dir.join("command.err"));
        let shown = shown(&command);
        command
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {shown}"))?;
        Ok(Self {
            child,
            shown,
            out,
            err,
        })
    }

    pub(super) fn has_said(&self, text: &str) -> bool {
        fs::read_to_string(&self.err).is_ok_and(|said| said.contains(text))
    }

    pub(super) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for its end; one that does not end is an error.
    pub(super) fn wait(mut self, at_most: Duration) -> Result<Said> {
        let end = Instant::now() + at_most;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > end {
                crate::soak::reads::show_stacks(self.child.id());
                self.child.kill()?;
                self.child.wait()?;
                bail!("{} did not end within {at_most:?}", self.shown);
            }
            thread::sleep(Duration::from_millis(2));
        };
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        Ok(Said {
            status,
            out: read(&self.out),
            err: read(&self.err),
        })
    }
}

/// A file system of its own in a file, with a ballast that fills it.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) point: PathBuf,
}

impl Disk {
    pub(super) fn make(dir: &Path, bytes: u64) -> Result<Self> {
        let (image, point) = (dir.join("disk.image"), dir.join("disk"));
        File::create(&image)?.set_len(bytes)?;
        fs::create_dir_all(&point)?;
        succeed(program("mkfs.ext4", ["-q", "-F", "-m", "0"]).arg(&image))?;
        let mut mount = program("mount", ["-o", "loop"]);
        succeed(mount.args([&image, &point])).context("needs root and loop devices")?;
        Ok(Self { point })
    }

    /// Leaves so many bytes free.
    pub(super) fn fill(&self, leave: u64) -> Result<()> {
        let stat = rustix::fs::statvfs(&self.point)?;
        let free = stat.f_bavail * stat.f_frsize;
        let ballast = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.point.join("ballast"))?;
        let mut length = ballast.metadata()?.len();
        let mut piece = free.saturating_sub(leave);
        // The file system needs some of it for itself.
        while piece >= 4096 {
            match rustix::fs::fallocate(
                &ballast,
                rustix::fs::FallocateFlags::empty(),
                length,
                piece,
            ) {
                Ok(()) => {
                    length += piece;
                    if leave > 0 {
                        break;
                    }
                }
                Err(rustix::io::Errno::NOSPC) => piece /= 2,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    pub(super) fn empty(&self) -> Result<()> {
        match fs::remove_file(self.point.join("ballast")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = succeed(program("umount", []).arg(&self.point)) {
            println!("a file system stays mounted: {error:#}");
        }
    }
}

/// A mount in the foreground; killed and taken away when dropped.
#[derive(Debug)]
pub(super) struct Mount {
    pub(super) process: Child,
    pub(super) point: PathBuf,
    pub(super) told: Value,
    /// It is dead, and what is mounted stays.
    pub(super) is_left: bool,
}

/// What became of a process that was to mount.
#[derive(Debug)]
pub(super) enum Started {
    Ready(Mount),
    Ended(Said),
    /// It halted before, and was killed.
    Halted,
}

impl Mount {
    /// Starts it, with the rest of the command line; `log` gets what it says.
    pub(super) fn start(
        mut command: Command,
        point: &Path,
        log: &Path,
        watch: Option<&Watch>,
    ) -> Result<Started> {
        match fs::create_dir(point) {
            // It may be that of a dead mount.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made.with_context(|| format!("cannot make {}", point.display()))?,
        }
        let log_file = OpenOptions::new().create(true).append(true).open(log)?;
        let before = log_file.metadata()?.len() as usize;
        let out = log.with_extension("out");
        command.stdout(File::create(&out)?).stderr(log_file);
        let mut mount = Self {
            process: command.spawn()?,
            point: point.to_owned(),
            told: Value::Null,
            is_left: true,
        };
        let end = Instant::now() + Duration::from_mins(2);
        loop {
            let told = fs::read_to_string(&out)?;
            if told.ends_with('\n') {
                mount.told = serde_json::from_str(&told)?;
                mount.is_left = false;
                return Ok(Started::Ready(mount));
            }
            if let Some(status) = mount.process.try_wait()? {
                let err = fs::read_to_string(log)
                    .unwrap_or_default()
                    .split_off(before);
                return Ok(Started::Ended(Said {
                    status,
                    out: told,
                    err,
                }));
            }
            if watch.is_some_and(Watch::has_halted) {
                return Ok(Started::Halted);
            }
            if Instant::now() > end {
                crate::soak::reads::show_stacks(mount.pid());
                bail!("a mount neither became ready nor ended");
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Kills it and waits until it is gone.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Waits until it has ended by itself.
    pub(super) fn wait(&mut self, at_most: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + at_most;
        loop {
            if let Some(status) = self.process.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                crate::soak::reads::show_stacks(self.pid());
                bail!("the mount's process does not end");
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !matches!(self.process.try_wait(), Ok(Some(_))) {
            // It may end at this moment; then there is nothing to kill or to unmount.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        if !self.is_left {
            detach(&self.point);
        }
    }
}

/// Takes away what is mounted there, if anything is.
pub(super) fn detach(point: &Path) {
    // Nothing may be mounted.
    let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
}

/// Commands of the program, over the bucket.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) program: Program,
    pub(super) bucket: Bucket,
    pub(super) dir: PathBuf,
}

/// The store of a soak.
pub(super) const STORE: &str = "soak";

impl Programs {
    /// A command that talks to the store.
    pub(super) fn command<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = self.program.over_s3(&self.bucket);
        command.args(words);
        command
    }

    pub(super) fn start(&self, command: Command) -> Result<Running> {
        Running::start(command, &self.dir)
    }

    /// Runs to the end, which must come.
    pub(super) fn said(&self, command: Command) -> Result<Said> {
        self.start(command)?.wait(Duration::from_mins(3))
    }

    /// Runs to the end, which must be success; what it said as JSON.
    pub(super) fn json(&self, command: Command) -> Result<Value> {
        let shown = shown(&command);
        let said = self.said(command)?;
        ensure!(
            said.status.success(),
            "{shown} ended with {}: {}",
            said.status,
            said.err
        );
        said.json()
    }

    /// Sets the faults of the store.
    pub(super) fn faults(&self, faults: &str) -> Result<()> {
        self.bucket
            .ask("POST", &format!("faults?{faults}"))
            .map(drop)
    }
}
