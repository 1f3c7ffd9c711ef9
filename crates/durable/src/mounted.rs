//! What is mounted where, as the system's own table says it: nothing is asked of the mounts themselves, since a dead or
//! hanging one would not answer.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

/// One mount that this process sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// The kernel's number of the mount, given again after it has gone. On Windows its place in the list.
    pub id: u64,
    /// The mount that it lies on; on Windows 0.
    pub parent: u64,
    /// The device that it shows, as `major:minor`: the same for all mounts of one file system. On Windows the name of
    /// the device.
    pub device: String,
    /// Where it is.
    pub point: PathBuf,
    /// The kind of file system; of FUSE with its subtype (`fuse.sshfs`). Empty on Windows, where only the file
    /// system itself could tell.
    pub kind: String,
    /// What is mounted; empty on Windows.
    pub source: OsString,
    /// What was said when it was mounted (`rw,user_id=0,group_id=0`); empty on Windows.
    pub options: OsString,
}

/// All mounts, in the order in which they were made: what is later covers what is earlier at the same place. On
/// Windows the drives.
pub fn mounted() -> io::Result<Vec<Mounted>> {
    crate::platform::mounted()
}

/// The mounts in a table that another process sees, as `/proc/PID/mountinfo` has it. Windows has no such tables: none.
pub fn mounts_of_table(table: &[u8]) -> Vec<Mounted> {
    crate::platform::mounts_of_table(table)
}
