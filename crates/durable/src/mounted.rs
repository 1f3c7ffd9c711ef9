//! The mounts, read from the system's own table: the mounts themselves are not accessed, since a dead or hanging one
//! would not answer.

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
    pub mount_point: PathBuf,
    /// The kind of file system; of FUSE with its subtype (`fuse.sshfs`). Empty on Windows, where only the file
    /// system itself could tell.
    pub fs_type: String,
    /// What is mounted; empty on Windows.
    pub source: OsString,
    /// The options that it was mounted with (`rw,user_id=0,group_id=0`); empty on Windows.
    pub options: OsString,
}

impl Mounted {
    /// Whether a process, not the kernel, serves it.
    pub fn is_fuse(&self) -> bool {
        self.fs_type == "fuse" || self.fs_type.starts_with("fuse.")
    }

    /// Whether both are the same mount, whatever their paths: the path changes when a directory
    /// above it is renamed.
    pub fn is(&self, other: &Self) -> bool {
        self.id == other.id && self.is_copy_of(other)
    }

    /// Whether the same process serves both: one is a bind mount of the other, or its copy in another
    /// mount namespace.
    pub fn is_copy_of(&self, other: &Self) -> bool {
        self.is_fuse() && self.device == other.device && self.source == other.source
    }

    /// The values of an option: `lowerdir` may be there several times.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let options = self.options.as_encoded_bytes().split(|&byte| byte == b',');
        options.filter_map(move |option| option.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    }

    /// The user who mounted it, of a FUSE mount. The kernel sets this, unlike the source.
    pub fn user(&self) -> Option<u32> {
        str::from_utf8(self.values("user_id").next()?)
            .ok()?
            .parse()
            .ok()
    }
}

/// All mounts, in the order in which they were made: a later mount covers an earlier one at the same place. On
/// Windows the drives.
pub fn mounted() -> io::Result<Vec<Mounted>> {
    crate::platform::mounted()
}

/// The mounts in a table that another process sees, as `/proc/PID/mountinfo` has it. Windows has no such tables: none.
pub fn mounts_of_table(table: &[u8]) -> Vec<Mounted> {
    crate::platform::mounts_of_table(table)
}
