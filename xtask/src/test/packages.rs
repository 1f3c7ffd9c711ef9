//! What the tests need of the machine: programs from Debian packages, and the FUSE device.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::exists;
use super::steps::Outcome;
use crate::cargo::{program, succeed};

/// A program that the tests start, and the package that has it.
const NEEDED: [(&str, &str); 3] = [("fusermount3", "fuse3"), ("rsync", "rsync"), ("vim", "vim")];

/// What became of packages that were missing.
pub(crate) enum Installed {
    /// All programs are there; these packages were installed for them.
    All(Vec<&'static str>),
    /// They are not, and this says why.
    Missing(String),
}

/// Installs what is missing if this is root on a Debian system, else says what is missing.
pub(super) fn install() -> Result<Outcome> {
    let installed = match install_missing(&NEEDED)? {
        Installed::All(packages) => packages,
        Installed::Missing(reason) => bail!("{reason}"),
    };
    if !Path::new("/dev/fuse").exists() {
        bail!(
            "there is no /dev/fuse: load the kernel's fuse module, or let the container have the device"
        );
    }
    Ok(if installed.is_empty() {
        Outcome::passed()
    } else {
        Outcome::Passed(format!("installed {}", installed.join(" ")))
    })
}

/// Installs the packages of programs that are not there, as far as that can be done here.
pub(crate) fn install_missing(needed: &[(&str, &'static str)]) -> Result<Installed> {
    let missing = || -> Vec<_> {
        let missing = needed.iter().filter(|(name, _)| !exists(name));
        missing
            .flat_map(|&(_, packages)| packages.split(' '))
            .collect()
    };
    let packages = missing();
    if packages.is_empty() {
        return Ok(Installed::All(packages));
    }
    let list = packages.join(" ");
    let root = std::fs::metadata("/proc/self")
        .context("cannot read /proc/self")?
        .uid()
        == 0;
    if !root || !exists("apt-get") {
        return Ok(Installed::Missing(format!(
            "missing packages: {list}; install them as root (Debian: apt-get install {list})"
        )));
    }
    let mut install = program("apt-get", ["install", "--yes", "--quiet"]);
    install
        .arg("--no-install-recommends")
        .args(&packages)
        .env("DEBIAN_FRONTEND", "noninteractive");
    let installed = succeed(&mut program("apt-get", ["update", "--quiet"]))
        .and_then(|()| succeed(&mut install));
    if let Err(error) = installed {
        return Ok(Installed::Missing(format!(
            "cannot install {list}: {error:#}"
        )));
    }
    let still = missing();
    if !still.is_empty() {
        let still = still.join(" ");
        return Ok(Installed::Missing(format!(
            "{still} do not have what they should"
        )));
    }
    Ok(Installed::All(packages))
}
