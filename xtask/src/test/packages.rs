//! What the tests need of the machine: programs from Debian packages, and the FUSE device.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::exists;
use super::steps::Outcome;
use crate::cargo::{program, succeed};

/// A program that the tests start, and the package that has it.
const NEEDED: [(&str, &str); 3] = [("fusermount3", "fuse3"), ("rsync", "rsync"), ("vim", "vim")];

/// Installs what is missing if this is root on a Debian system, else says what is missing.
pub(super) fn install() -> Result<Outcome> {
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|(name, _)| !exists(name))
        .map(|&(_, package)| package)
        .collect();
    if !missing.is_empty() {
        let list = missing.join(" ");
        let root = std::fs::metadata("/proc/self")
            .context("cannot read /proc/self")?
            .uid()
            == 0;
        if !root || !exists("apt-get") {
            bail!(
                "missing packages: {list}; install them as root (Debian: apt-get install {list})"
            );
        }
        succeed(&mut program("apt-get", ["update", "--quiet"]))?;
        let mut install = program("apt-get", ["install", "--yes", "--quiet"]);
        install
            .arg("--no-install-recommends")
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive");
        succeed(&mut install)?;
    }
    if !Path::new("/dev/fuse").exists() {
        bail!(
            "there is no /dev/fuse: load the kernel's fuse module, or let the container have the device"
        );
    }
    Ok(if missing.is_empty() {
        Outcome::passed()
    } else {
        Outcome::Passed(format!("installed {}", missing.join(" ")))
    })
}
