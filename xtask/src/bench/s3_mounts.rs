//! Mounts over S3 by programs that everybody knows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::bucket::{Bucket, reach};
use crate::cargo::{program, shown, succeed};
use crate::peers::Mounter;

/// No mount takes longer than this to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks whether a mount is there.
const LOOK: Duration = Duration::from_millis(5);

/// A mount of another program; ended when dropped.
#[derive(Debug)]
pub(super) struct PeerMount {
    process: Child,
    point: PathBuf,
}

impl PeerMount {
    /// Mounts what is below a prefix, read-only, with an empty cache in `cache` where the program has one.
    pub(super) fn start(
        mounter: Mounter,
        bucket: &Bucket,
        prefix: &str,
        point: &Path,
        cache: &Path,
    ) -> Result<Self> {
        for dir in [point, cache] {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let mut command = match mounter {
            Mounter::Rclone => rclone(bucket, prefix, point, cache),
            Mounter::S3fs => s3fs(bucket, prefix, point, cache)?,
        };
        let process = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", shown(&command)))?;
        let mut mount = Self {
            process,
            point: point.to_owned(),
        };
        mount.wait_until_ready()?;
        Ok(mount)
    }

    /// The number of the process that serves it.
    pub(super) fn process(&self) -> u32 {
        self.process.id()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            if is_mounted(&self.point)? {
                return Ok(());
            }
            if let Some(status) = self.process.try_wait().context("cannot wait")? {
                bail!("a mount of a peer ended with {status}");
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "a mount of a peer does not answer"
            );
            std::thread::sleep(LOOK);
        }
    }

    fn end(&mut self) -> Result<()> {
        if is_mounted(&self.point)? {
            succeed(program("fusermount3", ["-u"]).arg(&self.point))?;
        } else {
            self.process.kill().context("cannot end a mount")?;
        }
        self.process.wait().context("cannot wait for a mount")?;
        Ok(())
    }
}

impl Drop for PeerMount {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            println!("a mount stays behind: {error:#}");
        }
    }
}

fn is_mounted(point: &Path) -> Result<bool> {
    let mounts = fs::read_to_string("/proc/mounts").context("cannot read the mounts")?;
    let point = point.to_string_lossy();
    Ok(mounts
        .lines()
        .any(|line| line.split(' ').nth(1) == Some(&point)))
}

/// As its users mount what they only read.
fn rclone(bucket: &Bucket, prefix: &str, point: &Path, cache: &Path) -> Command {
    let mut command = program("rclone", ["mount"]);
    reach(&mut command, bucket);
    command
        .arg(format!("b:{}/{prefix}", Bucket::NAME))
        .arg(point)
        .arg("--cache-dir")
        .arg(cache)
        .args(["--read-only", "--vfs-cache-mode", "full"])
        .args(["--dir-cache-time", "1h", "--use-server-modtime"])
        .env("RCLONE_CONFIG", "/dev/null")
        .env("RCLONE_CONFIG_B_TYPE", "s3")
        .env("RCLONE_CONFIG_B_PROVIDER", "Other")
        .env("RCLONE_CONFIG_B_ENV_AUTH", "true")
        // The server has no other lists.
        .env("RCLONE_CONFIG_B_LIST_VERSION", "2")
        .env(
            "RCLONE_CONFIG_B_ENDPOINT",
            format!("http://{}", bucket.host()),
        );
    command
}

fn s3fs(bucket: &Bucket, prefix: &str, point: &Path, cache: &Path) -> Result<Command> {
    let mut command = program("s3fs", []);
    reach(&mut command, bucket);
    let passwords = cache.join("passwords");
    Bucket::write_keys(&passwords)?;
    command
        .arg(format!("{}:/{prefix}", Bucket::NAME))
        .arg(point)
        .args(["-f", "-o", "ro,use_path_request_style,listobjectsv2"])
        .arg("-o")
        .arg(format!("url=http://{}", bucket.host()))
        .arg("-o")
        .arg(format!("passwd_file={}", passwords.display()));
    // They win over the file of keys.
    command
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY");
    Ok(command)
}
