//! The S3 server of the rows of transfers, `tests/fast-s3`, and its bucket: on tmpfs, so that no disk is measured.
//!
//! The server is a process of its own, so that its memory and its time are nobody else's. Each run has a prefix of its own in the
//! bucket, which is deleted after it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

use super::stage::remove;
use crate::cargo::{cargo, program, shown, succeed, target};

/// Where Linux has a tmpfs.
const MEMORY: &str = "/dev/shm";
const REGION: &str = "us-west-2";
/// Any keys do: the server does not check them.
const KEY: &str = "bench-key";
const SECRET: &str = "bench-secret";
/// Servers of this process: each has objects of its own.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// A running server with one bucket; both end when dropped.
#[derive(Debug)]
pub(crate) struct Bucket {
    server: Child,
    endpoint: String,
    root: PathBuf,
}

impl Bucket {
    pub(crate) const NAME: &str = "bench";

    /// Builds the server and starts it, answering each request after so many milliseconds.
    pub(crate) fn start(delay_ms: u32) -> Result<Self> {
        let words = ["--release", "--locked", "--package", "attachfs-fast-s3"];
        succeed(cargo(["build"]).args(words))?;
        Self::start_built(&target().join("release/attachfs-fast-s3"), delay_ms)
    }

    /// Starts the server that is in this file.
    pub(crate) fn start_built(server: &Path, delay_ms: u32) -> Result<Self> {
        Self::start_at(server, "127.0.0.1", delay_ms)
    }

    /// The same, at this address of the machine.
    pub(crate) fn start_at(server: &Path, host: &str, delay_ms: u32) -> Result<Self> {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let root = in_memory(&format!("bucket-{number}"))?;
        fs::create_dir_all(root.join(Self::NAME))
            .with_context(|| format!("cannot make {}", root.display()))?;
        let mut command = program(server, []);
        command
            .arg(&root)
            .args(["--host", host, "--delay-ms", &delay_ms.to_string()]);
        let mut server = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", shown(&command)))?;
        let mut endpoint = String::new();
        let output = server.stdout.take().context("the output was not piped")?;
        BufReader::new(output)
            .read_line(&mut endpoint)
            .context("cannot hear the server")?;
        let endpoint = endpoint.trim().to_owned();
        let bucket = Self {
            server,
            endpoint,
            root,
        };
        ensure!(!bucket.endpoint.is_empty(), "the server did not start");
        Ok(bucket)
    }

    /// What a program over boto3 needs to find the server. That it names the account saves it a request.
    pub(crate) fn environment(&self) -> [(&'static str, &str); 6] {
        [
            ("AWS_ENDPOINT_URL", &self.endpoint),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_DEFAULT_REGION", REGION),
            ("AWS_ACCOUNT_ID", "000000000000"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]
    }

    /// What an `attachfs` command needs before its verb.
    pub(crate) fn words(&self) -> [&str; 4] {
        ["--endpoint-url", &self.endpoint, "--region", REGION]
    }

    /// A store in it.
    pub(crate) fn address(prefix: &str) -> String {
        format!("s3://{}/{prefix}", Self::NAME)
    }

    /// Fields of a request to the driver of `openjd-snapshots`.
    pub(crate) fn fields(&self, prefix: &str) -> serde_json::Value {
        serde_json::json!({
            "endpoint": self.endpoint,
            "region": REGION,
            "access_key": KEY,
            "secret_key": SECRET,
            "bucket": Self::NAME,
            "prefix": prefix,
        })
    }

    /// Fails unless so many objects are below the prefix.
    pub(crate) fn check(&self, prefix: &str, objects: usize) -> Result<()> {
        let dir = self.object(prefix).join("Data");
        let found = fs::read_dir(&dir)
            .with_context(|| format!("cannot list {}", dir.display()))?
            .count();
        ensure!(found == objects, "{found} objects instead of {objects}");
        Ok(())
    }

    /// Deletes what is below the prefix; the server writes later objects over it.
    pub(crate) fn delete(&self, prefix: &str) -> Result<()> {
        let path = format!("recycle?bucket={}&prefix={prefix}", Self::NAME);
        self.ask("POST", &path).map(drop)
    }

    /// From now on the server waits so long before each answer, and sends no connection more bytes a second; 0 is no limit.
    pub(crate) fn set_pace(&self, delay_ms: u32, bytes_per_s: u64) -> Result<()> {
        let path = format!("pace?delay_ms={delay_ms}&bytes_per_s={bytes_per_s}");
        self.ask("POST", &path).map(drop)
    }

    /// Counts from 0 again.
    pub(crate) fn reset_counters(&self) -> Result<()> {
        self.ask("POST", "reset").map(drop)
    }

    /// The bytes of objects that were sent since the last [`Self::reset_counters`].
    pub(crate) fn sent(&self) -> Result<u64> {
        let counters = self.ask("GET", "counters")?;
        let counters: serde_json::Value =
            serde_json::from_str(&counters).context("the server's counters are not JSON")?;
        let sent = counters["sent"].as_u64();
        sent.context("the server does not say what it sent")
    }

    /// Makes a request to the server itself, and gives the body of its answer.
    pub(crate) fn ask(&self, method: &str, path: &str) -> Result<String> {
        let host = self.host();
        let request = format!(
            "{method} /-/{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let mut answer = String::new();
        TcpStream::connect(host)
            .and_then(|mut server| {
                server.write_all(request.as_bytes())?;
                server.read_to_string(&mut answer)
            })
            .with_context(|| format!("cannot ask the server: {path}"))?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let status = head.lines().next().unwrap_or_default();
        ensure!(
            status.contains(" 200 ") || status.contains(" 204 "),
            "the server refused {path}: {status}"
        );
        Ok(body.to_owned())
    }

    /// Its address, as `127.0.0.1:PORT` for example.
    pub(crate) fn host(&self) -> &str {
        self.endpoint.trim_start_matches("http://")
    }

    /// Writes the keys into a file that only its owner can read, as `KEY:SECRET`.
    pub(crate) fn write_keys(path: &Path) -> Result<()> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| write!(file, "{KEY}:{SECRET}"))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Where the server keeps the object of this key.
    pub(crate) fn object(&self, key: &str) -> PathBuf {
        self.root.join(Self::NAME).join(key)
    }

    /// Gives the server files of these lengths to write over, so that the first run finds what later ones find.
    pub(crate) fn prepare(&self, lengths: impl IntoIterator<Item = u64>) -> Result<()> {
        const NAME: &str = "prepared";
        let dir = self.object(NAME);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        for (number, length) in lengths.into_iter().enumerate() {
            let path = dir.join(number.to_string());
            File::create(&path)
                .and_then(|mut file| io::copy(&mut io::repeat(0).take(length), &mut file))
                .with_context(|| format!("cannot fill {}", path.display()))?;
        }
        self.delete(NAME)
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // It ends with its input, which is closed here; one that does not is no reason to wait for ever.
        drop(self.server.stdin.take());
        if let Err(error) = self.server.kill().and_then(|()| self.server.wait()) {
            println!("a server stays behind: {error}");
        }
        if let Err(error) = remove(&self.root) {
            println!("files stay in memory: {error:#}");
        }
    }
}

/// A path of this process on tmpfs.
pub(crate) fn in_memory(name: &str) -> Result<PathBuf> {
    let dir = Path::new(MEMORY);
    ensure!(dir.is_dir(), "there is no {MEMORY} to keep objects in");
    Ok(dir.join(format!("attachfs-bench-{}-{name}", std::process::id())))
}

/// Adds what a program over boto3 needs, and takes away what would send it elsewhere.
pub(crate) fn reach(command: &mut Command, bucket: &Bucket) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command.envs(bucket.environment()).env(
        "NO_PROXY",
        bucket.host().split(':').next().unwrap_or_default(),
    );
}
