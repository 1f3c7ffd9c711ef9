//! Why something was not mounted or unmounted, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use attachfs_session::SessionId;

use super::copies::Copies;
use super::holders::Holder;

/// Why a file system was not mounted. Nothing is mounted then.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The platform has no mounts.
    #[error(
        "this platform has no mounts yet: `attachfs download` places the files of a manifest in a folder"
    )]
    NotHere,
    /// The mount point does not exist.
    #[error("the mount point {} does not exist; create it as an empty directory", .0.display())]
    Missing(PathBuf),
    /// The mount point is something else than a directory.
    #[error("the mount point {} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// The mount would hide what is there.
    #[error("the mount point {} is not empty, and mounting would hide what is in it; use an empty directory", .0.display())]
    NotEmpty(PathBuf),
    /// Something else that a process serves is mounted there.
    #[error("{} is already the mount point of {source_name}; unmount it (if its process is gone, with `fusermount3 -u`) or use another directory", mount_point.display())]
    AlreadyMounted {
        /// The mount point.
        mount_point: PathBuf,
        /// What is mounted, as mountinfo says it.
        source_name: String,
        /// The session that it is of, if it is ours. If no process has that session, the mount is
        /// dead, and [`detach_dead`](crate::detach_dead) removes it.
        session: Option<SessionId>,
    },
    /// The kernel has no FUSE, or the container does not show it.
    #[error(
        "there is no /dev/fuse; as root, load it with `modprobe fuse`, or give it to the container with `--device /dev/fuse --cap-add SYS_ADMIN`"
    )]
    NoDevice,
    /// This user may not open the device.
    #[error("no permission to open /dev/fuse; as root, run `chmod 666 /dev/fuse`")]
    DevicePermission(#[source] io::Error),
    /// Users other than root need the helper.
    #[error(
        "mounting as this user needs the program fusermount3; install the package fuse3, or mount as root"
    )]
    NoHelper(#[source] io::Error),
    /// The machine's administrator does not allow it.
    #[error(
        "--allow-other is for root only on this machine; as root, put the line `user_allow_other` into /etc/fuse.conf"
    )]
    AllowOther,
    /// The helper refused.
    #[error("fusermount3 did not mount {}: {message}", mount_point.display())]
    Helper {
        /// The mount point.
        mount_point: PathBuf,
        /// What it said.
        message: String,
    },
    /// The operating system refused.
    #[error("cannot {doing} {}", mount_point.display())]
    Io {
        /// A verb.
        doing: &'static str,
        /// The mount point.
        mount_point: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why a file system is still mounted.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// Someone uses it.
    #[error("{} is in use{}", mount_point.display(), HolderList(holders))]
    Busy {
        /// The mount point.
        mount_point: PathBuf,
        /// By whom, as far as that could be found out.
        holders: Vec<Holder>,
    },
    /// Something else was mounted over it.
    #[error("{} is covered by another mount, of {source_name}; unmount that first", mount_point.display())]
    Covered {
        /// The mount point.
        mount_point: PathBuf,
        /// What covers it.
        source_name: String,
    },
    /// It has no name here any more, and is still used, or held elsewhere.
    #[error("{} was unmounted, but {}", mount_point.display(), Still { copies, holders, after: *after })]
    StillUsed {
        /// The mount point.
        mount_point: PathBuf,
        /// How long its end was waited for.
        after: Duration,
        /// By whom, as far as that could be found out.
        holders: Vec<Holder>,
        /// Where it still is.
        copies: Copies,
    },
    /// It had no name here any more when its end was asked for, and is still used.
    #[error("{} was detached already, and is still used{}", mount_point.display(), HolderList(holders))]
    Detached {
        /// Where it was.
        mount_point: PathBuf,
        /// By whom, as far as that could be found out.
        holders: Vec<Holder>,
    },
    /// Users other than root need the helper.
    #[error(
        "unmounting as this user needs the program fusermount3; install the package fuse3, or unmount as root"
    )]
    NoHelper(#[source] io::Error),
    /// The helper refused.
    #[error("fusermount3 did not unmount {}: {message}", mount_point.display())]
    Helper {
        /// The mount point.
        mount_point: PathBuf,
        /// What it said.
        message: String,
    },
    /// The operating system refused.
    #[error("cannot {doing} {}", mount_point.display())]
    Io {
        /// A verb.
        doing: &'static str,
        /// The mount point.
        mount_point: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// ` by cp (17, /mnt/a open), bash (3, working directory)`
struct HolderList<'a>(&'a [Holder]);

impl fmt::Display for HolderList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, holder) in self.0.iter().enumerate() {
            write!(f, "{} {holder}", if position == 0 { " by" } else { "," })?;
        }
        Ok(())
    }
}

/// What keeps a mount that has no name any more.
struct Still<'a> {
    copies: &'a Copies,
    holders: &'a [Holder],
    after: Duration,
}

impl fmt::Display for Still<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.holders.is_empty() {
            return write!(f, "it is also mounted {}", self.copies);
        }
        let (seconds, held) = (self.after.as_secs(), HolderList(self.holders));
        write!(f, "is still used after {seconds} s{held}")?;
        if self.copies.found.is_empty() {
            return Ok(());
        }
        write!(f, "; it is also mounted {}", self.copies)
    }
}
