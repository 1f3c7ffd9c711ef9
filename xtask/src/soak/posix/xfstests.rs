//! xfstests, the tests that the file systems of Linux share: all of its group `generic`, in two mounts.
//!
//! ```text
//!     disk/test, disk/scratch      the two mounts; what is written to them lies on a disk of their own
//!     disk/home                    their sessions: xfstests mounts and unmounts both again and again, and finds what was there
//!     tests/posix/xfstests/        programs that xfstests starts in the place of mount, df and findmnt, and the one by which a test
//!                                  gets a scratch mount of a size
//! ```
//!
//! It is under the GPL, run beside the program, and no part of this project: somebody has it in a directory, where it is built, and where one line
//! is changed: it knows no FUSE file system of a size. Its tests want users that it names (fsgqa, fsgqa2, 123456-fsgqa), which are made.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::expected::{List, Verdict};
use crate::bench::disk::Disk;
use crate::bench::program::Program;
use crate::cargo::{program, root, shown, succeed};
use crate::test::packages::{Installed, install_missing};

/// How long one test may take, in seconds: some go on for 200 on purpose.
const LONGEST: &str = "600";
/// `timeout` ends with one of these if it ended the test.
const TIMED_OUT: [i32; 2] = [124, 137];
/// Where xfstests does not run a test that wants a file system of a size, and what it does instead.
const NOT_SIZED: &str = "_notrun \"Filesystem $FSTYP not supported in _scratch_mkfs_sized\"";
const SIZED: &str = "mkfs-sized $fssize";
/// Who the tests want to be.
const USERS: [&str; 3] = ["fsgqa", "fsgqa2", "123456-fsgqa"];
/// What it is built from and what its tests start, as far as that is in a package of Debian.
const PACKAGES: [(&str, &str); 12] = [
    (
        "libtool",
        "libtool libtool-bin automake pkg-config uuid-dev xfslibs-dev libacl1-dev libaio-dev libattr1-dev libcap-dev \
         libgdbm-dev libgdbm-compat-dev libssl-dev liburing-dev",
    ),
    ("make", "make"),
    ("gcc", "gcc libc6-dev"),
    ("setfattr", "attr"),
    ("setfacl", "acl"),
    ("setcap", "libcap2-bin"),
    ("xfs_io", "xfsprogs"),
    ("fio", "fio"),
    ("dbench", "dbench"),
    ("gawk", "gawk"),
    ("bc", "bc"),
    ("fuser", "psmisc"),
];

/// Runs all tests, or those of these numbers, with commas between them. Fails with what is not as listed.
pub(super) fn run(dir: &Path, built: &Path, checkout: &Path, filter: Option<&str>) -> Result<()> {
    let list = fs::read_to_string(root().join("tests/posix/xfstests.toml"))?;
    let list = List::read(&list)?;
    let checkout = checkout
        .canonicalize()
        .with_context(|| format!("cannot find {}", checkout.display()))?;
    build(&checkout)?;
    for user in USERS {
        make_user(user)?;
    }
    let disk = Disk::make(&dir.join("disk.img"), &dir.join("disk"))?;
    // What is deleted there is given back to the disk that the image lies on.
    succeed(program("mount", ["-o", "remount,discard"]).arg(disk.dir()))?;
    let stage = Stage::prepare(&checkout, built, disk.dir())?;
    let mut tests = list.to_run(&all_tests(&checkout)?)?;
    tests.retain(|test| filter.is_none_or(|chosen| chosen.split(',').any(|one| one == test)));
    ensure!(!tests.is_empty(), "no test has such a number");
    let told = stage.run_all(&list, &tests);
    let ended = stage.end();
    let (told, ()) = (told?, ended?);
    if !told.is_empty() {
        bail!("xfstests found what is not expected:\n{}", told.join("\n"));
    }
    Ok(())
}

/// Builds it where it is.
fn build(checkout: &Path) -> Result<()> {
    ensure!(
        checkout.join("check").exists() && checkout.join("tests/generic").is_dir(),
        "{} does not have xfstests",
        checkout.display()
    );
    if let Installed::Missing(reason) = install_missing(&PACKAGES)? {
        bail!("{reason}");
    }
    let rc = checkout.join("common/rc");
    let text = fs::read_to_string(&rc).with_context(|| format!("cannot read {}", rc.display()))?;
    if !text.contains(SIZED) {
        let with = text.replacen(NOT_SIZED, &format!("{SIZED} || {NOT_SIZED}"), 1);
        ensure!(
            with != text,
            "{} refuses sizes in another place",
            rc.display()
        );
        fs::write(&rc, with).with_context(|| format!("cannot write {}", rc.display()))?;
    }
    if checkout.join("ltp/fsstress").exists() && checkout.join("tests/generic/group.list").exists()
    {
        return Ok(());
    }
    println!("building xfstests: takes some minutes, once");
    let mut make = program("make", ["-j2"]);
    make.current_dir(checkout).stdout(Stdio::null());
    succeed(&mut make)
}

fn make_user(name: &str) -> Result<()> {
    let known = program("getent", ["passwd", name]).output();
    if known.context("cannot start getent")?.status.success() {
        return Ok(());
    }
    succeed(&mut program(
        "useradd",
        ["--badname", "--create-home", name],
    ))
}

/// The numbers of all tests of the group `generic`.
fn all_tests(checkout: &Path) -> Result<BTreeSet<String>> {
    let path = checkout.join("tests/generic/group.list");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Ok(lines
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect())
}

/// The two mounts, and how xfstests is told of them.
struct Stage<'a> {
    checkout: &'a Path,
    disk: &'a Path,
    program: Program,
    /// The name of the scratch mount's session.
    scratch: String,
}

impl<'a> Stage<'a> {
    /// Makes two sessions, which are not mounted.
    fn prepare(checkout: &'a Path, built: &Path, disk: &'a Path) -> Result<Self> {
        let mut stage = Self {
            checkout,
            disk,
            program: Program::at(built, disk.join("home"))?,
            scratch: String::new(),
        };
        let at = |name: &str| disk.join(name);
        for name in ["folder", "results", "said", "test", "scratch"] {
            fs::create_dir_all(at(name))?;
        }
        fs::write(at("folder/.input"), "an input, which no test looks at")?;
        let mut snapshot = stage.program.command(["snapshot", "--store"]);
        snapshot.arg(at("store")).arg("-o").arg(at("base.manifest"));
        succeed(snapshot.arg(at("folder")).stdout(Stdio::null()))?;
        let test = stage.new_session("test")?;
        stage.scratch = stage.new_session("scratch")?;
        let config = format!(
            "export FSTYP=fuse FUSE_SUBTYP=.attachfs RESULT_BASE={}\n\
             export TEST_DEV={test} TEST_DIR={}\n\
             export SCRATCH_DEV={} SCRATCH_MNT={}\n",
            at("results").display(),
            at("test").display(),
            stage.scratch,
            at("scratch").display(),
        );
        fs::write(stage.config(), config)?;
        Ok(stage)
    }

    fn config(&self) -> PathBuf {
        self.disk.join("local.config")
    }

    /// The name of a new session in the kernel's table of mounts. It stays while something is in it: xfstests deletes no file whose name begins
    /// with a dot.
    fn new_session(&self, name: &str) -> Result<String> {
        let mut mount = self.program.command(["mount", "--json", "--store"]);
        mount.arg(self.disk.join("store"));
        mount.arg(self.disk.join("base.manifest"));
        let point = self.disk.join(name);
        let output = mount.arg(&point).output();
        let output = output.with_context(|| format!("cannot start {}", shown(&mount)))?;
        ensure!(output.status.success(), "{} failed", shown(&mount));
        let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let session = said["session"].as_str().context("no session is named")?;
        fs::write(point.join(".kept"), "")?;
        self.unmount(&point)?;
        Ok(format!("attachfs:{session}"))
    }

    fn unmount(&self, point: &Path) -> Result<()> {
        let mut umount = self
            .program
            .command(["umount", "--force", "--timeout", "10"]);
        succeed(umount.arg(point).stdout(Stdio::null()))
    }

    /// Runs tests one after the other, and says of which what is not as listed.
    fn run_all(&self, list: &List, tests: &[String]) -> Result<Vec<String>> {
        let mut told = Vec::new();
        let (mut passed, mut failed, mut not_run) = (0, 0, 0);
        for test in tests {
            let verdict = self.run(test)?;
            match &verdict {
                Verdict::Passed => passed += 1,
                Verdict::Failed(_) => failed += 1,
                Verdict::NotRun(_) => not_run += 1,
            }
            if let Some(surprise) = list.surprise(test, &verdict) {
                println!("generic/{test}: {surprise}");
                told.push(format!("generic/{test}: {surprise}"));
            }
        }
        println!("xfstests: {passed} passed, {failed} failed, {not_run} not run");
        Ok(told)
    }

    /// Runs one test.
    fn run(&self, test: &str) -> Result<Verdict> {
        let errors = self.logged_errors()?;
        let said = self.disk.join("said").join(test);
        let not_run = self
            .disk
            .join("results/generic")
            .join(test)
            .with_extension("notrun");
        let mut check = program("timeout", ["--kill-after=10", LONGEST, "./check"]);
        check.arg(format!("generic/{test}"));
        let out = File::create(&said).with_context(|| format!("cannot make {}", said.display()))?;
        let err = out.try_clone()?;
        check.current_dir(self.checkout).stdout(out).stderr(err);
        let status = self.told_of_mounts(&mut check)?.status();
        let status = status.with_context(|| format!("cannot start {}", shown(&check)))?;
        let timed_out = status.code().is_none_or(|code| TIMED_OUT.contains(&code));
        if timed_out {
            self.unmount_both()?;
        }
        let logged = self.logged_errors()?.into_iter().skip(errors.len());
        let more: Vec<_> = logged.collect();
        if self.disk.join("home/state/sized.img").exists() {
            succeed(self.told_of_mounts(&mut program("mkfs-sized", []))?)?;
        }
        if timed_out {
            let found = format!("it did not end in {LONGEST} s");
            return Ok(Verdict::Failed(found));
        }
        let said = String::from_utf8_lossy(&fs::read(&said)?).into_owned();
        let verdict = verdict_of(test, &said, fs::read_to_string(&not_run).ok())?;
        if more.is_empty() || matches!(verdict, Verdict::Failed(_)) {
            return Ok(verdict);
        }
        let found = format!("errors were logged: {}", more.join("\n"));
        Ok(Verdict::Failed(found))
    }

    fn told_of_mounts<'c>(&self, command: &'c mut Command) -> Result<&'c mut Command> {
        let instead = root().join("tests/posix/xfstests");
        let rest = std::env::var_os("PATH").unwrap_or_default();
        let path =
            std::env::join_paths(std::iter::once(instead).chain(std::env::split_paths(&rest)))?;
        let like = self.program.command([]);
        let home = like
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        Ok(command
            .envs(home)
            .env("ATTACHFS", like.get_program())
            .env("HOST_OPTIONS", self.config())
            .env("SCRATCH_DEV", &self.scratch)
            .env("SCRATCH_MNT", self.disk.join("scratch"))
            .env("PATH", path))
    }

    /// The errors in the logs of both sessions.
    fn logged_errors(&self) -> Result<Vec<String>> {
        let mut errors = Vec::new();
        for session in fs::read_dir(self.disk.join("home/state/attachfs/sessions"))? {
            let log = session?.path().join("log");
            let text = fs::read(&log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines = text.lines().filter(|line| line.contains(" ERROR "));
            errors.extend(lines.map(str::to_owned));
        }
        Ok(errors)
    }

    fn unmount_both(&self) -> Result<()> {
        for name in ["scratch", "test"] {
            let point = self.disk.join(name);
            if is_mounted(&point)? {
                self.unmount(&point)?;
            }
        }
        Ok(())
    }

    /// Takes the mounts away. Fails if a process of one stays, which may take a while to end.
    fn end(&self) -> Result<()> {
        self.unmount_both()?;
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let used = program("fuser", ["--mount", "--verbose"])
                .arg(self.disk)
                .output()
                .context("cannot start fuser")?;
            // Its standard output has the numbers of processes, and a word for the disk's own mount.
            let users = String::from_utf8_lossy(&used.stdout);
            if !users
                .split_whitespace()
                .any(|user| user.parse::<u32>().is_ok())
            {
                return Ok(());
            }
            let said = String::from_utf8_lossy(&used.stderr);
            let table = said.lines().filter(|line| !line.starts_with("Cannot stat"));
            ensure!(
                Instant::now() < end,
                "a process that served a mount, or a test, is left:\n{}",
                table.collect::<Vec<_>>().join("\n")
            );
            thread::sleep(Duration::from_millis(200));
        }
    }
}

fn is_mounted(point: &Path) -> Result<bool> {
    let status = program("mountpoint", ["--quiet"]).arg(point).status();
    Ok(status.context("cannot start mountpoint")?.success())
}

/// What `check` found, by what it said, and by the file in which it writes why it did not run a test.
fn verdict_of(test: &str, said: &str, not_run: Option<String>) -> Result<Verdict> {
    if let Some(why) = not_run {
        return Ok(Verdict::NotRun(why.trim().to_owned()));
    }
    if said.lines().any(|line| line == "Passed all 1 tests") {
        return Ok(Verdict::Passed);
    }
    let failures = format!("Failures: generic/{test}");
    let lines = said.lines().map(str::trim_end);
    if !lines.clone().any(|line| line == failures) {
        bail!("xfstests did not run generic/{test}:\n{said}");
    }
    let begins = format!("generic/{test} ");
    let found: Vec<_> = lines
        .skip_while(|line| !line.starts_with(&begins))
        .take_while(|line| !line.starts_with("Ran: "))
        .collect();
    Ok(Verdict::Failed(found.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_what_check_says() {
        let passed = "generic/001  3s ...  2s\nRan: generic/001\nPassed all 1 tests\n";
        assert_eq!(verdict_of("001", passed, None).unwrap(), Verdict::Passed);
        let why = Some("no reflinks\n".to_owned());
        assert_eq!(
            verdict_of("001", passed, why).unwrap(),
            Verdict::NotRun("no reflinks".to_owned())
        );
        let failed = "FSTYP -- fuse\n\ngeneric/001       - output mismatch\n    +bad\nRan: generic/001\n\
                      Failures: generic/001\nFailed 1 of 1 tests\n";
        assert_eq!(
            verdict_of("001", failed, None).unwrap(),
            Verdict::Failed("generic/001       - output mismatch\n    +bad".to_owned())
        );
        assert!(verdict_of("001", "common/config: no TEST_DEV", None).is_err());
    }
}
