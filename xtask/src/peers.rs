//! The reference implementations that tests and measurements run beside ours (`tests/peers`), and a server: set up in the
//! target folder.
//!
//! What is in Python gets an environment of its own, made again when its requirements change; the driver over `openjd-snapshots` is
//! built from its own lock file. A machine without Python or without the registries can do without them, so that is an
//! answer ([`SetUp::Unavailable`]); a driver that does not compile is an error.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cargo::{cargo, program, root, succeed, target};
use crate::test::packages::{Installed, install_missing};

/// A reference implementation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// `deadline-job-attachments`, in Python.
    Python,
    /// `openjd-snapshots`, in Rust.
    Openjd,
}

/// What came of setting one up.
#[derive(Debug)]
pub(crate) enum SetUp {
    /// What the peer's variable has to name.
    Ready(PathBuf),
    /// Why this machine cannot have it.
    Unavailable(String),
}

impl Peer {
    pub(crate) const ALL: [Self; 2] = [Self::Python, Self::Openjd];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Openjd => "openjd",
        }
    }

    /// The variable by which tests find it.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::Python => "ATTACHFS_PYTHON",
            Self::Openjd => "ATTACHFS_OPENJD",
        }
    }

    /// Sets it up, or makes sure that it is.
    pub(crate) fn set_up(self) -> Result<SetUp> {
        match self {
            Self::Python => Environment::of(self.name()).set_up(),
            Self::Openjd => build_openjd(),
        }
    }

    /// What an earlier [`Peer::set_up`] left; nothing is made or asked for.
    pub(crate) fn ready(self) -> Option<PathBuf> {
        match self {
            Self::Python => Environment::of(self.name()).ready(),
            Self::Openjd => Some(openjd_driver()).filter(|driver| driver.exists()),
        }
    }
}

/// moto, a server that answers as AWS does, in Python: not a reference, but a second S3 to test stores with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moto;

impl Moto {
    pub(crate) const NAME: &'static str = "moto";

    /// The variable by which tests find it.
    const VARIABLE: &'static str = "ATTACHFS_MOTO";

    /// Sets it up, or makes sure that it is.
    pub(crate) fn set_up() -> Result<SetUp> {
        Environment::of(Self::NAME).set_up()
    }
}

/// A program that mounts buckets, from a Debian package of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mounter {
    Rclone,
    S3fs,
}

impl Mounter {
    pub(crate) const ALL: [Self; 2] = [Self::Rclone, Self::S3fs];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rclone => "rclone",
            Self::S3fs => "s3fs",
        }
    }

    /// Installs it, or makes sure that it is there.
    pub(crate) fn set_up(self) -> Result<SetUp> {
        let name = self.name();
        Ok(match install_missing(&[(name, name)])? {
            Installed::All(_) => SetUp::Ready(name.into()),
            Installed::Missing(reason) => SetUp::Unavailable(reason),
        })
    }
}

/// Sets the variables of the peers that are ready, of moto and of fsx, unless they are set already.
pub(crate) fn export(command: &mut std::process::Command) {
    let peers = Peer::ALL.map(|peer| (peer.variable(), peer.ready()));
    let moto = (Moto::VARIABLE, Environment::of(Moto::NAME).ready());
    let fsx = ("ATTACHFS_FSX", crate::soak::FSX.ready());
    for (variable, path) in peers.into_iter().chain([moto, fsx]) {
        if std::env::var_os(variable).is_none()
            && let Some(path) = path
        {
            command.env(variable, path);
        }
    }
}

fn folder(name: &str) -> PathBuf {
    target().join("peers").join(name)
}

/// A virtual environment and what is to be in it.
#[derive(Debug)]
struct Environment {
    folder: PathBuf,
    requirements: PathBuf,
}

impl Environment {
    fn of(name: &str) -> Self {
        let requirements = root().join("tests/peers").join(name);
        Self {
            folder: folder(name),
            requirements: requirements.join("requirements.txt"),
        }
    }

    fn python(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    /// Holds the requirements that were installed; written when they are.
    fn stamp(&self) -> PathBuf {
        self.folder.join("installed.txt")
    }

    fn ready(&self) -> Option<PathBuf> {
        let installed = fs::read(self.stamp()).ok()?;
        let is_current = fs::read(&self.requirements).ok()? == installed;
        let python = self.python();
        (is_current && starts(&python)).then_some(python)
    }

    fn set_up(&self) -> Result<SetUp> {
        if let Some(python) = self.ready() {
            return Ok(SetUp::Ready(python));
        }
        if let Some(reason) = unfit("python3") {
            return Ok(SetUp::Unavailable(reason));
        }
        let mut make = program("python3", ["-m", "venv", "--clear"]);
        if let Err(error) = succeed(make.arg(&self.folder)) {
            return Ok(SetUp::Unavailable(format!("{error:#}")));
        }
        let words = ["-m", "pip", "install", "--quiet", "--retries", "2"];
        let mut install = program(&self.python(), words);
        install.args(["--disable-pip-version-check", "--requirement"]);
        if let Err(error) = succeed(install.arg(&self.requirements)) {
            return Ok(SetUp::Unavailable(format!("{error:#}")));
        }
        let stamp = self.stamp();
        fs::copy(&self.requirements, &stamp)
            .with_context(|| format!("cannot write {}", stamp.display()))?;
        Ok(SetUp::Ready(self.python()))
    }
}

fn starts(name: &Path) -> bool {
    let output = program(name, ["--version"]).output();
    output.is_ok_and(|output| output.status.success())
}

/// Why an environment cannot be made with this Python, if it cannot.
fn unfit(python: &str) -> Option<String> {
    let runs = |code| {
        let output = program(python, ["-c", code]).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !runs("import sys; sys.exit(sys.version_info < (3, 10))") {
        return Some(format!("there is no {python} of version 3.10 or newer"));
    }
    if !runs("import ensurepip, venv") {
        return Some(format!(
            "{python} cannot make environments (Debian: apt-get install python3-venv)"
        ));
    }
    None
}

fn openjd_driver() -> PathBuf {
    folder(Peer::Openjd.name()).join("release/openjd-peer")
}

/// Takes some minutes, once: the crate always brings the AWS SDK with it. It asks for a newer compiler than it needs.
fn build_openjd() -> Result<SetUp> {
    let manifest = root().join("tests/peers/openjd/Cargo.toml");
    let mut build = cargo(["build", "--quiet", "--release", "--locked"]);
    build
        .args(["--ignore-rust-version", "--manifest-path"])
        .arg(&manifest)
        .arg("--target-dir")
        .arg(folder(Peer::Openjd.name()));
    if let Err(error) = succeed(&mut build) {
        // The one failure that is this machine's: its dependencies cannot be had.
        let mut fetch = cargo(["fetch", "--quiet", "--locked", "--manifest-path"]);
        if let Err(error) = succeed(fetch.arg(&manifest)) {
            return Ok(SetUp::Unavailable(format!("{error:#}")));
        }
        return Err(error);
    }
    Ok(SetUp::Ready(openjd_driver()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(folder: &Path, requirements: &str) -> Environment {
        let file = folder.join("requirements.txt");
        fs::write(&file, requirements).unwrap();
        Environment {
            folder: folder.join("environment"),
            requirements: file,
        }
    }

    /// As if `true` were Python: it can be started, and that is all that is asked of it.
    fn installed(environment: &Environment) {
        fs::create_dir_all(environment.folder.join("bin")).unwrap();
        std::os::unix::fs::symlink("/bin/true", environment.python()).unwrap();
        fs::copy(&environment.requirements, environment.stamp()).unwrap();
    }

    #[test]
    fn an_environment_is_ready_until_its_requirements_change() {
        let folder = tempfile::tempdir().unwrap();
        let made = environment(folder.path(), "xxhash==1");
        assert_eq!(made.ready(), None);
        installed(&made);
        assert_eq!(made.ready(), Some(made.python()));
        let changed = environment(folder.path(), "xxhash==2");
        assert_eq!(changed.ready(), None);
    }

    #[test]
    fn an_environment_whose_python_is_gone_is_not_ready() {
        let folder = tempfile::tempdir().unwrap();
        let made = environment(folder.path(), "");
        installed(&made);
        fs::remove_file(made.python()).unwrap();
        assert_eq!(made.ready(), None);
    }

    #[test]
    fn a_python_that_is_not_there_is_unfit_and_named() {
        let reason = unfit("no-such-python").unwrap();
        assert!(reason.contains("no-such-python"), "{reason}");
    }
}
