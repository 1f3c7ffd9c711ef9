//! A file system of its own for the rows that create many files: ext4, new, in a file on the disk that is measured.
//!
//! On one that is in use, creating a file is up to ten times slower in directories near which many were deleted in the last minutes
//! (ext4 does not give their inodes out again so soon), by a compiler for example. That would hit one side of a pair and not
//! the other.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cargo::{program, succeed};

/// Its size; the file takes up only what is written.
const SIZE: u64 = 16 << 30;
/// Bytes for each inode that it has room for: 4 million inodes.
const BYTES_EACH: &str = "4096";

/// The mounted file system; unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// Makes it in `image` and mounts it on `point`. Needs root.
    pub(crate) fn make(image: &Path, point: &Path) -> Result<Self> {
        let doing = || format!("cannot make {}", image.display());
        File::create(image)
            .and_then(|file| file.set_len(SIZE))
            .and_then(|()| fs::create_dir_all(point))
            .with_context(doing)?;
        let mut format = program("mkfs.ext4", ["-q", "-F", "-i", BYTES_EACH]);
        succeed(format.arg(image)).with_context(doing)?;
        // The kernel would go on formatting in the background otherwise.
        let mut mount = program("mount", ["-o", "loop,noinit_itable"]);
        succeed(mount.args([image, point])).context(
            "rows that create many files need root and loop devices; name others with --only",
        )?;
        Ok(Self(point.to_owned()))
    }

    /// Where it is mounted.
    pub(crate) fn dir(&self) -> &Path {
        &self.0
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = succeed(program("umount", []).arg(&self.0)) {
            println!("a file system stays mounted: {error:#}");
        }
    }
}
