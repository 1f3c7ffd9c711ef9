//! Where a path leads, and what of a mount that is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use attachfs_session::SessionId;

use super::kernel;
use super::mountinfo::{self, MountEntry};
use super::source::MountSource;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Absolute, and without symbolic links up to the mount that it leads into.
    pub path: PathBuf,
    /// The FUSE mount that it leads into, unless that is the root of everything.
    pub mount: Option<FuseMount>,
}

/// A mount that a process serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FuseMount {
    /// Where it is.
    pub mount_point: PathBuf,
    /// What the table of mounts says is mounted, fit for a terminal.
    pub source: String,
    /// What that means.
    pub of: MountOf,
    /// The user who mounted it. Whoever mounts chooses the source, and not this.
    pub user: Option<u32>,
}

/// What a FUSE mount is a mount of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountOf {
    /// A session.
    Session(SessionId),
    /// No session, but ours.
    NoSession,
    /// Another program's.
    Other,
}

impl From<&MountEntry> for FuseMount {
    fn from(entry: &MountEntry) -> Self {
        Self {
            mount_point: entry.mount_point.clone(),
            source: MountSource::display(&entry.source),
            of: match MountSource::parse(entry) {
                Some(MountSource::Session(id)) => MountOf::Session(id),
                Some(MountSource::ReadOnly(_)) => MountOf::NoSession,
                None => MountOf::Other,
            },
            user: entry.user(),
        }
    }
}

impl FuseMount {
    /// Whether its process answers within `patience`, be it with an error.
    pub fn answers(&self, patience: Duration) -> bool {
        let (answered, answer) = mpsc::channel();
        let mount_point = self.mount_point.clone();
        // It may never come back: the kernel waits for the answer until this process ends.
        let asked = std::thread::Builder::new()
            .name("ask a mount".to_owned())
            .spawn(move || {
                kernel::ask(&mount_point);
                let _ = answered.send(());
            });
        asked.is_ok() && answer.recv_timeout(patience).is_ok()
    }
}

impl Place {
    /// Where `given` leads. What is missing, or may not be looked at, is taken as it is written.
    pub fn of(given: &Path) -> io::Result<Self> {
        kernel::place_of(given)
    }
}

/// The mount that the directory `path`, without links, is in.
pub(super) fn inside_of<'a>(table: &'a [MountEntry], path: &Path) -> Option<&'a MountEntry> {
    mounts_on_the_way(table, path).0
}

/// The same, and the last FUSE mount that whoever walks there comes through.
pub(super) fn mounts_on_the_way<'a>(
    table: &'a [MountEntry],
    path: &Path,
) -> (Option<&'a MountEntry>, Option<&'a MountEntry>) {
    let Some(mut inside) = mountinfo::root(table) else {
        return (None, None);
    };
    let mut fuse = None;
    let mut here = PathBuf::new();
    for component in path.components() {
        here.push(component);
        if here != Path::new("/")
            && let Some(entry) = mountinfo::entered(table, inside, &here)
        {
            inside = entry;
            fuse = Some(entry).filter(|entry| entry.is_fuse()).or(fuse);
        }
    }
    (Some(inside), fuse)
}
