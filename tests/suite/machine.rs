//! One user's machine, made for one test: a home, a store, and the program itself over real mounts.
//!
//! Everything is below one temporary directory, whose path all processes that are started here carry in their environment. When the
//! test ends, however it ends, these processes are killed and what is mounted below the directory is detached. A test that takes
//! longer than [`LONGEST`] hangs: it is ended in the same way, so that its calls into a mount fail and it says where it was.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use attachfs_test_s3::{ACCESS_KEY, REGION, SECRET_KEY};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Running, Said, said};
use crate::programs::program;
use crate::server::Server;

/// A test that takes so long does not end at all.
const LONGEST: Duration = Duration::from_mins(4);
/// How long something may take that a test waits for.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The variable that tells which processes belong to a machine.
const MARK: &str = "ATTACHFS_SUITE";

const BUCKET: &str = "farm";
const PREFIX: &str = "some/DeadlineCloud";

/// The arguments of a program, of whatever type.
macro_rules! args {
    ($($argument:expr),* $(,)?) => {
        [$(std::ffi::OsString::from($argument)),*]
    };
}
pub(crate) use args;

/// Makes tests of functions that take a machine, over each kind of store.
macro_rules! on_both_stores {
    ($($test:ident),* $(,)?) => {
        crate::machine::on_both_stores![with_directory, with_s3: $($test),*];
    };
    ($directory:ident, $s3:ident: $($test:ident),*) => {
        mod on_a_directory {
            $(
                #[test]
                fn $test() {
                    crate::machine::Machine::$directory(super::$test);
                }
            )*
        }
        mod on_s3 {
            $(
                #[test]
                fn $test() {
                    crate::machine::Machine::$s3(super::$test);
                }
            )*
        }
    };
}
pub(crate) use on_both_stores;

/// The same of functions that mount.
macro_rules! mounting_from_both_stores {
    ($($test:ident),* $(,)?) => {
        crate::machine::on_both_stores![mounting_from_directory, mounting_from_s3: $($test),*];
    };
}
pub(crate) use mounting_from_both_stores;

/// Waits until something is so; polls, because what is waited for is another process's doing.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// A machine, and the store that its user works with.
pub(crate) struct Machine {
    folder: TempDir,
    server: Option<Server>,
    /// Ends the watch when it goes.
    alive: Option<Sender<()>>,
    watch: Option<JoinHandle<()>>,
}

impl Machine {
    /// Does a test over a directory store.
    pub(crate) fn with_directory(test: impl FnOnce(&Self)) {
        test(&Self::new(false));
    }

    /// Does a test over a store in S3.
    pub(crate) fn with_s3(test: impl FnOnce(&Self)) {
        test(&Self::new(true));
    }

    /// Does a test that mounts, over a directory store, unless this machine cannot mount.
    pub(crate) fn mounting_from_directory(test: impl FnOnce(&Self)) {
        if can_mount() {
            Self::with_directory(test);
        }
    }

    /// Does a test that mounts, over a store in S3, unless this machine cannot mount.
    pub(crate) fn mounting_from_s3(test: impl FnOnce(&Self)) {
        if can_mount() {
            Self::with_s3(test);
        }
    }

    fn new(s3: bool) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("attachfs-")
            .tempdir()
            .unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        let server = s3.then(|| Server::start(&folder.path().join("s3"), BUCKET));
        let (alive, ended) = channel();
        let watched = folder.path().to_owned();
        let watch = std::thread::spawn(move || {
            if ended.recv_timeout(LONGEST) == Err(RecvTimeoutError::Timeout) {
                end_processes_of(&watched);
            }
        });
        let machine = Self {
            folder,
            server,
            alive: Some(alive),
            watch: Some(watch),
        };
        if machine.server.is_none() {
            fs::create_dir(machine.path("store")).unwrap();
        }
        machine
    }

    /// A path on this machine.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new directory.
    pub(crate) fn dir(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A new file.
    pub(crate) fn file(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// The store's address.
    pub(crate) fn store(&self) -> String {
        match self.server {
            Some(_) => format!("s3://{BUCKET}/{PREFIX}"),
            None => self.path("store").to_str().unwrap().to_owned(),
        }
    }

    /// Where the store's objects lie as files, with either kind of store.
    pub(crate) fn store_files(&self) -> PathBuf {
        match self.server {
            Some(_) => self.path("s3").join(BUCKET).join(PREFIX),
            None => self.path("store"),
        }
    }

    /// Whether the store is in S3.
    pub(crate) fn is_s3(&self) -> bool {
        self.server.is_some()
    }

    /// The server of a store in S3.
    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().expect("the store is in S3")
    }

    /// The file that holds an object.
    pub(crate) fn object(&self, hash: &str) -> PathBuf {
        let name = format!("{hash}.xxh128");
        self.store_files().join("Data").join(name)
    }

    /// The files that hold the store's objects.
    pub(crate) fn objects(&self) -> BTreeSet<PathBuf> {
        let Ok(entries) = fs::read_dir(self.store_files().join("Data")) else {
            return BTreeSet::new();
        };
        let files = entries.map(|entry| entry.unwrap().path());
        files
            .filter(|file| file.extension().is_some_and(|of| of == "xxh128"))
            .collect()
    }

    /// The manifests that a session published: their names and bytes.
    pub(crate) fn published(&self, session: &str) -> Vec<(OsString, Vec<u8>)> {
        let dir = self.store_files().join("Manifests/attachfs").join(session);
        let Ok(entries) = fs::read_dir(dir) else {
            return Vec::new();
        };
        let mut found: Vec<_> = entries
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap()))
            .collect();
        found.sort();
        found
    }

    /// A program in this machine's environment, and in none of whoever runs the suite.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_ascii_lowercase();
            if ["aws_", "attachfs_", "xdg_"]
                .iter()
                .any(|of| text.starts_with(of))
                || text.ends_with("_proxy")
            {
                command.env_remove(name);
            }
        }
        command
            .stdin(Stdio::null())
            .current_dir(self.folder.path())
            .env(MARK, self.folder.path())
            .env("HOME", self.path("home"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_DATA_HOME", self.path("data"))
            .env("NO_PROXY", "127.0.0.1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            // Whether objects are kept must not depend on the disk that the tests run on.
            .env("ATTACHFS_CACHE_MIN_FREE", "0")
            .env("LC_ALL", "C");
        if self.server.is_some() {
            command
                .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
                .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        }
        command
    }

    /// `attachfs` with these arguments. Verbs that take a store are told how to reach the server; those on sessions know it.
    pub(crate) fn attachfs(&self, arguments: impl AsRef<[OsString]>) -> Command {
        let arguments = arguments.as_ref();
        let mut command = self.command(program("attachfs"));
        let session_verbs = [
            "umount", "list", "status", "stats", "report", "diff", "commit", "discard", "layers",
        ];
        let knows_it = arguments
            .first()
            .is_some_and(|verb| session_verbs.iter().any(|of| verb == of));
        if let Some(server) = &self.server
            && !knows_it
        {
            command.args(["--endpoint-url", server.endpoint(), "--region", REGION]);
        }
        command.args(arguments);
        command
    }

    /// Runs `attachfs` to its end.
    pub(crate) fn says(&self, arguments: impl AsRef<[OsString]>) -> Said {
        said(&mut self.attachfs(arguments))
    }

    /// Runs `attachfs`, which succeeds.
    pub(crate) fn ok(&self, arguments: impl AsRef<[OsString]>) -> Said {
        self.says(arguments).with_code(0)
    }

    /// Runs `attachfs`, which succeeds, with `--json`.
    pub(crate) fn json(&self, arguments: impl AsRef<[OsString]>) -> Value {
        let mut arguments = arguments.as_ref().to_vec();
        // After `--` come arguments of another program.
        let at = arguments.iter().position(|argument| argument == "--");
        arguments.insert(at.unwrap_or(arguments.len()), "--json".into());
        self.ok(arguments).json()
    }

    /// Starts a program that goes on for now.
    pub(crate) fn start(&self, command: Command) -> Running {
        Running::start(command, self.new_file("out"), self.new_file("err"))
    }

    fn new_file(&self, what: &str) -> PathBuf {
        let dir = self.dir("said");
        let number = fs::read_dir(&dir).unwrap().count();
        dir.join(format!("{number}.{what}"))
    }

    /// Makes a manifest of a folder in the store, with long files in pieces of 1 MiB.
    pub(crate) fn snapshot(&self, folder: &Path, name: impl AsRef<Path>) -> PathBuf {
        self.snapshot_in_pieces(folder, name, 1 << 20)
    }

    /// Makes a manifest of a folder in the store, with files in pieces of so many bytes.
    pub(crate) fn snapshot_in_pieces(
        &self,
        folder: &Path,
        name: impl AsRef<Path>,
        bytes: u64,
    ) -> PathBuf {
        let manifest = self.path(name);
        self.ok(args![
            "snapshot",
            folder,
            "-o",
            &manifest,
            "--store",
            self.store(),
            "--chunk-size",
            bytes.to_string(),
        ]);
        manifest
    }

    /// Mounts on a new directory of this name, from the machine's store.
    pub(crate) fn mount(&self, arguments: impl AsRef<[OsString]>, at: impl AsRef<Path>) -> Mount {
        Mount::of(&said(&mut self.mounting(arguments, at)).with_code(0))
    }

    /// The command that mounts on a new directory of this name, from the machine's store.
    pub(crate) fn mounting(
        &self,
        arguments: impl AsRef<[OsString]>,
        at: impl AsRef<Path>,
    ) -> Command {
        let at = self.dir(at);
        let mut command = self.attachfs(args!["mount", "--json", "--store", self.store()]);
        command.args(arguments.as_ref()).arg(at);
        command
    }

    /// Takes up a session, mounting it on a new directory of this name or where its mount is dead.
    pub(crate) fn resume(&self, session_dir: &Path, at: &Path) -> Mount {
        self.resume_with(&[], session_dir, at)
    }

    /// Takes up a session that was left, with these options.
    pub(crate) fn resume_with(&self, options: &[&str], session_dir: &Path, at: &Path) -> Mount {
        let mut arguments = args!["mount", "--json", "--session", session_dir, at].to_vec();
        arguments.splice(1..1, options.iter().map(OsString::from));
        Mount::of(&self.ok(arguments))
    }

    /// What is mounted below the machine's folder.
    pub(crate) fn mounts(&self) -> Vec<PathBuf> {
        mounts_below(self.folder.path())
    }

    /// The directories of the sessions that there are.
    pub(crate) fn sessions(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path("state/attachfs/sessions")) else {
            return Vec::new();
        };
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(watch) = self.watch.take() {
            let _ = watch.join();
        }
        end_processes_of(self.folder.path());
        for mount in mounts_below(self.folder.path()) {
            detach(&mount);
        }
    }
}

/// Whether there is FUSE here. In CI there has to be.
fn can_mount() -> bool {
    if Path::new("/dev/fuse").exists() {
        return true;
    }
    let must = std::env::var_os("CI").is_some();
    assert!(!must, "there is no /dev/fuse to test with");
    skipped("there is no /dev/fuse");
    false
}

/// Says why a test did nothing, or not all.
#[expect(
    clippy::print_stdout,
    reason = "the test's output says why it was skipped"
)]
pub(crate) fn skipped(reason: &str) {
    println!("skipped: {reason}");
}

/// Kills what a machine's folder is the mark of.
fn end_processes_of(folder: &Path) {
    let mut mark = format!("{MARK}=").into_bytes();
    mark.extend(folder.as_os_str().as_bytes());
    let Ok(processes) = fs::read_dir("/proc") else {
        return;
    };
    for process in processes.flatten() {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        let is_marked = environment.split(|&b| b == 0).any(|line| line == mark);
        let number = process
            .file_name()
            .to_str()
            .and_then(|pid| pid.parse().ok());
        if let (true, Some(pid)) = (is_marked, number.and_then(Pid::from_raw)) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    table
        .split(|&byte| byte == b'\n')
        // The machine's own paths have nothing that is escaped in the table.
        .filter_map(|line| line.split(|&byte| byte == b' ').nth(4))
        .map(|path| PathBuf::from(OsStr::from_bytes(path)))
        .filter(|path| path.starts_with(folder))
        .collect()
}

/// Takes a mount's name away.
pub(crate) fn detach(mount: &Path) {
    if rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH).is_err() {
        // Not root; who is not may still have no helper, and then the mount stays.
        let _ = Command::new("fusermount3").arg("-uz").arg(mount).output();
    }
}

/// A mount that a process in the background serves.
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) dir: PathBuf,
    pub(crate) session: String,
    pub(crate) session_dir: PathBuf,
    pub(crate) pid: u32,
}

impl Mount {
    /// What `mount --json` printed.
    pub(crate) fn of(said: &Said) -> Self {
        let ready = said.json();
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        Self {
            dir: text("mount_point").into(),
            session: text("session"),
            session_dir: text("session_dir").into(),
            pid: ready["pid"].as_u64().unwrap() as u32,
        }
    }

    /// Waits until the process knows that all files are closed, which is a moment after close(2).
    pub(crate) fn until_all_is_closed(&self, machine: &Machine) {
        until("all files are closed", || {
            let status = machine.json(args!["status", &self.session]);
            status["open"].as_array().unwrap().is_empty()
        });
    }

    /// Kills the process when all files are closed: a commit would ask about the others.
    pub(crate) fn kill_when_all_is_closed(&self, machine: &Machine) {
        self.until_all_is_closed(machine);
        crate::process::kill_and_wait(self.pid);
    }

    /// The mount's log so far.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(self.session_dir.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}
