//! What is mounted where, as the kernel's table says it: nothing is asked of the mounts themselves, since a dead or
//! hanging one would not answer.

use std::io;
use std::path::PathBuf;

/// One mount that this process sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Where it is.
    pub point: PathBuf,
    /// The device that it shows, as `major:minor`: the same for all mounts of one file system.
    pub device: String,
    /// The kind of file system; of FUSE with its subtype (`fuse.sshfs`).
    pub kind: String,
}

/// All mounts; what is later covers what is earlier at the same place.
pub fn mounted() -> io::Result<Vec<Mounted>> {
    crate::platform::mounted()
}
