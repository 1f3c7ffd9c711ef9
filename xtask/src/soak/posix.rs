//! `cargo xtask soak --posix`: what others wrote to find out whether a file system is one, over a mount.
//!
//! ```text
//!     pjdfstest   names, modes, owners, times and errors of system calls, as several users
//!     fsx         random reads and writes, mappings, lengths and holes of one file, with its own memory of what it wrote:
//!                 in a new file, and in an input that is written in place
//!     xfstests    what the file systems of Linux share (`xfstests.rs`), if there is a directory with it
//! ```
//!
//! They are run beside the program and not linked. What is expected to fail is listed with its reason in
//! `tests/posix/pjdfstest.toml` and `tests/posix/xfstests.toml`; anything else that fails, and anything listed that passes, fails the soak.

mod expected;
mod xfstests;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};

use super::reads::built;
use crate::bench::program::{Mount, Program, What};
use crate::cargo::{program, root, shown, succeed};
use crate::tools::Tool;

const PJDFSTEST: Tool = Tool {
    name: "pjdfstest",
    version: "0.2.2",
};
pub(crate) const FSX: Tool = Tool {
    name: "fsx",
    version: "0.3.2",
};

/// Operations of fsx on one file.
const OPERATIONS: &str = "20000";
/// The length of the input that fsx writes in place, in bytes.
const INPUT: usize = 256 << 10;

/// What is run.
pub(super) struct Options<'a> {
    /// How long fsx is run.
    pub(super) minutes: u64,
    /// The first seed of fsx.
    pub(super) seed: Option<u64>,
    /// Where xfstests is.
    pub(super) xfstests: Option<&'a Path>,
    /// These tests of xfstests, and nothing else: numbers with commas between them.
    pub(super) filter: Option<&'a str>,
}

/// Runs pjdfstest once, fsx with one seed after the other for so many minutes, and xfstests once. Fails if one of them does.
pub(super) fn run(options: &Options<'_>) -> Result<ExitCode> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "pjdfstest works as several users: run this as root"
    );
    let dir = std::env::temp_dir().join(format!("attachfs-posix-{}", std::process::id()));
    fs::create_dir_all(dir.join("home"))?;
    // Other users go through it to the mount.
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
    let (built, _) = built()?;
    let mut results = Vec::new();
    if options.filter.is_none() {
        headers()?;
        let (pjdfstest, fsx) = (PJDFSTEST.installed()?, FSX.installed()?);
        let bench = Bench::prepare(&dir, &built)?;
        results.push(bench.names(&pjdfstest));
        results.push(bench.bytes(&fsx, options.minutes, options.seed));
    }
    match options.xfstests {
        Some(checkout) => results.push(xfstests::run(&dir, &built, checkout, options.filter)),
        None => println!("skipped: xfstests, which is in no directory that --xfstests names"),
    }
    for result in &results {
        if let Err(error) = result {
            println!("BROKEN: {error:#}");
        }
    }
    if results.iter().any(Result::is_err) {
        println!("files are in {}", dir.display());
        return Ok(ExitCode::FAILURE);
    }
    fs::remove_dir_all(&dir).with_context(|| format!("cannot delete {}", dir.display()))?;
    println!("the soak passed");
    Ok(ExitCode::SUCCESS)
}

/// The header and library that pjdfstest is built with.
fn headers() -> Result<()> {
    if Path::new("/usr/include/sys/acl.h").exists() {
        return Ok(());
    }
    let words = ["install", "--yes", "--quiet", "libacl1-dev"];
    let mut install = program("apt-get", words);
    succeed(install.env("DEBIAN_FRONTEND", "noninteractive"))
        .context("pjdfstest is built with libacl (Debian: libacl1-dev)")
}

struct Bench {
    dir: PathBuf,
    program: Program,
}

impl Bench {
    fn prepare(dir: &Path, built: &Path) -> Result<Self> {
        let bench = Self {
            dir: dir.to_owned(),
            program: Program::at(built, dir.join("home"))?,
        };
        let folder = dir.join("folder");
        fs::create_dir_all(&folder)?;
        let input: Vec<u8> = (0..INPUT).map(|at| (at * 7 + (at >> 9)) as u8).collect();
        fs::write(folder.join("input"), input)?;
        let mut snapshot = bench.program.command(["snapshot"]);
        snapshot.arg(&folder).arg("-o").arg(bench.manifest());
        snapshot.arg("--store").arg(bench.store());
        succeed(snapshot.stdout(Stdio::null()))?;
        Ok(bench)
    }

    fn manifest(&self) -> PathBuf {
        self.dir.join("base.manifest")
    }

    fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// A new session, mounted for all users.
    fn mount(&self, name: &str) -> Result<Mount<'_>> {
        let (manifest, store) = (self.manifest(), self.store());
        let session = self.dir.join(format!("{name}-session"));
        let what = What {
            manifest: &manifest,
            store: store.as_os_str(),
            bucket: None,
            options: &["--allow-other"],
            session: &session,
        };
        let mut mount = self.program.start_mount(&what, self.dir.join(name))?;
        mount.wait_until_ready()?;
        Ok(mount)
    }

    /// What pjdfstest finds.
    fn names(&self, pjdfstest: &Path) -> Result<()> {
        let mount = self.mount("names")?;
        let other = self.dir.join("other-disk");
        fs::create_dir_all(&other)?;
        let mut test = program(pjdfstest, ["--configuration-file"]);
        test.arg(root().join("tests/posix/pjdfstest.toml"));
        test.arg("--path").arg(mount.point());
        test.arg("--secondary-fs").arg(&other);
        let tested = test.env("NO_COLOR", "1").status();
        let tested = tested.with_context(|| format!("cannot start {}", shown(&test)))?;
        mount.unmount()?;
        ensure!(tested.success(), "pjdfstest found what is not expected");
        Ok(())
    }

    /// What fsx finds, in a new file and in an input.
    fn bytes(&self, fsx: &Path, minutes: u64, seed: Option<u64>) -> Result<()> {
        let mount = self.mount("bytes")?;
        let config = root().join("tests/posix/fsx.toml");
        let in_place = self.dir.join("in-place.toml");
        fs::write(&in_place, in_place_of(&fs::read_to_string(&config)?))?;
        let end = Instant::now() + Duration::from_secs(60 * minutes);
        let mut seed = match seed {
            Some(seed) => seed,
            None => SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)?
                .as_secs(),
        };
        let mut rounds = 0_u64;
        while rounds == 0 || Instant::now() < end {
            for (config, file) in [(&config, "new"), (&in_place, "input")] {
                let mut test = program(fsx, ["-N", OPERATIONS, "-S", &seed.to_string()]);
                test.arg("-f").arg(config).arg("-P").arg(&self.dir);
                test.arg(mount.point().join(file));
                let output = test.output();
                let output = output.with_context(|| format!("cannot start {}", shown(&test)))?;
                if !output.status.success() {
                    println!("{}", String::from_utf8_lossy(&output.stderr));
                    bail!("fsx found a difference in \"{file}\" with --seed {seed}");
                }
            }
            rounds += 1;
            seed += 1;
        }
        mount.unmount()?;
        println!(
            "fsx: {rounds} seeds, the last {}, {OPERATIONS} operations on each of two files",
            seed - 1
        );
        Ok(())
    }
}

/// The same operations for a file that is there and keeps its length.
fn in_place_of(config: &str) -> String {
    let kept = config.lines().filter(|line| {
        let changes_length = ["close_open", "truncate", "posix_fallocate"];
        !changes_length.iter().any(|name| line.starts_with(name))
    });
    let kept: String = kept.flat_map(|line| [line, "\n"]).collect();
    kept.replacen("[opsize]", "blockmode = true\n\n[opsize]", 1)
        .replacen("[weights]", "[weights]\nclose_open = 0\ntruncate = 0", 1)
}
