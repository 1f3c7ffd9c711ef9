//! The program that is measured: built for release, with its own state, cache and store below the bench's folder.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::bucket::{Bucket, reach};
use crate::cargo::{cargo, shown, succeed, target};

/// The built program.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    home: PathBuf,
    /// Whether it runs without privilege, as [`NOBODY`].
    is_unprivileged: bool,
}

/// The user and the group that have nothing.
const NOBODY: u32 = 65534;

impl Program {
    /// Builds it. `home` is where it keeps what users have in their home directory.
    pub(crate) fn build(home: PathBuf) -> Result<Self> {
        let words = [
            "build",
            "--release",
            "--locked",
            "--package",
            "attachfs-cli",
        ];
        succeed(&mut cargo(words))?;
        Self::at(&target().join("release/attachfs"), home)
    }

    /// The program in this file.
    pub(crate) fn at(path: &Path, home: PathBuf) -> Result<Self> {
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot find {}", path.display()))?;
        Ok(Self {
            path,
            home,
            is_unprivileged: false,
        })
    }

    /// The same program, run by a user without privilege.
    pub(crate) fn unprivileged(&self, home: PathBuf) -> Self {
        Self {
            path: self.path.clone(),
            home,
            is_unprivileged: true,
        }
    }

    /// Where it caches what it fetches, unless it is told otherwise.
    pub(crate) fn cache(&self) -> PathBuf {
        self.home.join("cache/attachfs")
    }

    /// Lets the user of this program run a command, who alone can use its mounts.
    pub(crate) fn run_by_its_user(&self, command: &mut Command) {
        if self.is_unprivileged {
            command.uid(NOBODY).gid(NOBODY);
        }
    }

    /// Makes a directory, unless it is there, in which this program can write.
    pub(crate) fn make_dir(&self, dir: &Path) -> Result<()> {
        let owner = self.is_unprivileged.then_some(NOBODY);
        std::fs::create_dir_all(dir)
            // Without an owner it stays whose it is.
            .and_then(|()| std::os::unix::fs::chown(dir, owner, owner))
            .with_context(|| format!("cannot make {}", dir.display()))
    }

    /// A command line of it.
    pub(crate) fn command<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(words)
            .env("XDG_STATE_HOME", self.home.join("state"))
            .env("XDG_CACHE_HOME", self.home.join("cache"))
            .env("XDG_DATA_HOME", self.home.join("data"))
            .stdin(Stdio::null());
        self.run_by_its_user(&mut command);
        command
    }

    /// A command line that reaches this bucket's server, up to its verb.
    pub(crate) fn over_s3(&self, bucket: &Bucket) -> Command {
        let mut command = self.command(bucket.words());
        reach(&mut command, bucket);
        command
    }

    /// Starts to mount; it answers after [`Mount::wait_until_ready`]. In the foreground, which differs
    /// only in that the process's number is known from the start and that it ends with this program.
    pub(crate) fn start_mount(&self, what: &What<'_>, point: PathBuf) -> Result<Mount<'_>> {
        self.make_dir(&point)?;
        let mut command = match what.bucket {
            Some(bucket) => self.over_s3(bucket),
            None => self.command([]),
        };
        command.args(["mount", "--json", "--foreground"]);
        command.arg("--store").arg(what.store);
        command.arg("--session").arg(what.session);
        command.args(what.options).arg(what.manifest).arg(&point);
        self.start(command, point)
    }

    /// Starts to mount a session that was left, where it was.
    pub(crate) fn take_up(&self, session: &Path, point: PathBuf) -> Result<Mount<'_>> {
        let mut command = self.command(["mount", "--json", "--foreground", "--session"]);
        command.arg(session).arg(&point);
        self.start(command, point)
    }

    fn start(&self, mut command: Command, point: PathBuf) -> Result<Mount<'_>> {
        let process = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", shown(&command)))?;
        Ok(Mount {
            program: self,
            process,
            point,
            ended: false,
        })
    }
}

/// What to mount.
#[derive(Debug, Clone, Copy)]
pub(crate) struct What<'a> {
    pub(crate) manifest: &'a Path,
    /// A directory, or an `s3://` address.
    pub(crate) store: &'a OsStr,
    /// Of the address.
    pub(crate) bucket: Option<&'a Bucket>,
    /// More options of `mount`.
    pub(crate) options: &'a [&'a str],
    /// A directory that is not there: the session is new, and deleted if nothing is written to it.
    pub(crate) session: &'a Path,
}

/// A mount, ended when dropped.
#[derive(Debug)]
pub(crate) struct Mount<'a> {
    program: &'a Program,
    process: Child,
    point: PathBuf,
    ended: bool,
}

impl Mount<'_> {
    /// Where it is mounted.
    pub(crate) fn point(&self) -> &Path {
        &self.point
    }

    /// The number of the process that serves it.
    pub(crate) fn process(&self) -> u32 {
        self.process.id()
    }

    /// Returns when it answers.
    pub(crate) fn wait_until_ready(&mut self) -> Result<()> {
        let output = self.process.stdout.as_mut();
        let output = output.context("the output was not piped")?;
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .context("cannot hear the mount")?;
        if line.is_empty() {
            self.ended = true;
            let status = self.process.wait().context("cannot wait for the mount")?;
            bail!("the mount ended with {status} before it was ready");
        }
        Ok(())
    }

    /// Unmounts, and waits until its process has ended.
    pub(crate) fn unmount(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        self.ended = true;
        let mut umount = self.program.command(["umount"]);
        succeed(umount.arg(&self.point).stdout(Stdio::null()))?;
        self.hear_end()
    }

    /// Kills its process, as a machine does that has no memory left. The dead mount stays, and the session is left.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.ended = true;
        let killed = self.process.kill();
        killed.context("cannot kill the mount's process")?;
        self.process.wait().context("cannot wait for the mount")?;
        Ok(())
    }

    /// For who has unmounted it otherwise.
    pub(crate) fn wait_until_ended(mut self) -> Result<()> {
        self.ended = true;
        self.hear_end()
    }

    fn hear_end(&mut self) -> Result<()> {
        let status = self.process.wait().context("cannot wait for the mount")?;
        if !status.success() {
            bail!("the mount ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        if !self.ended
            && let Err(error) = self.end()
        {
            println!("a mount stays behind: {error:#}");
        }
    }
}
