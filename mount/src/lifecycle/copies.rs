//! Where else a mount is: what is bound to it or lies over it here, and its copies in the mount
//! namespaces of other processes. While one of them is there, the kernel does not let go.
//!
//! A help for the person who reads the message: it looks for a bounded time, and without root it sees
//! only the namespaces of processes of the same user.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use attachfs_durable::path_of_bytes;

use super::holders::escaped;
use super::mountinfo::{self, MountEntry};
use super::process::Process;

const MOST: usize = 16;
const LONGEST_SEARCH: Duration = Duration::from_secs(2);

/// A place where a mount is still, after it was unmounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elsewhere {
    /// A mount of the same in this mount namespace, or one that shows it as one of its layers.
    Here(PathBuf),
    /// In the mount namespace of another process.
    Namespace {
        /// One of the processes in it.
        process: Process,
        /// The path there.
        mount_point: PathBuf,
    },
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(path) => write!(f, "at {}", escaped(path)),
            Self::Namespace {
                process,
                mount_point,
            } => write!(
                f,
                "at {} in the mount namespace of {process}",
                escaped(mount_point)
            ),
        }
    }
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copies {
    /// The places.
    pub found: Vec<Elsewhere>,
    /// Whether there are namespaces that this user may not look at.
    pub unseen: bool,
}

impl fmt::Display for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, copy) in self.found.iter().enumerate() {
            write!(f, "{}{copy}", if position == 0 { "" } else { ", " })?;
        }
        match (self.found.is_empty(), self.unseen) {
            (false, _) => Ok(()),
            (true, true) => write!(
                f,
                "in the mount namespace of another user's process, which this user may not look at"
            ),
            (true, false) => write!(f, "in a mount namespace that no process shows"),
        }
    }
}

/// Other mounts of the same in this namespace, and overlays that have it as a layer.
pub(super) fn here(mount: &MountEntry, table: &[MountEntry]) -> Vec<PathBuf> {
    let is_copy = |entry: &&MountEntry| {
        entry.id != mount.id && (entry.is_copy_of(mount) || is_over(entry, &mount.mount_point))
    };
    let copies = table.iter().filter(is_copy).take(MOST);
    copies.map(|entry| entry.mount_point.clone()).collect()
}

/// Whether a mount is an overlay one of whose layers is at `path` or below it.
fn is_over(entry: &MountEntry, path: &Path) -> bool {
    if entry.fs_type != "overlay" {
        return false;
    }
    let options = ["lowerdir", "lowerdir+", "datadir+", "upperdir"];
    let layers = options.iter().flat_map(|option| entry.values(option));
    let mut layers = layers.flat_map(|layers| layers.split(|&byte| byte == b':'));
    layers.any(|layer| path_of_bytes(layer).starts_with(path))
}

/// Where `mount` is beside its own place.
pub(super) fn find(mount: &MountEntry) -> Copies {
    let until = Instant::now() + LONGEST_SEARCH;
    let mut copies = Copies::default();
    if let Ok(table) = mountinfo::read() {
        copies.found = here(mount, &table)
            .into_iter()
            .map(Elsewhere::Here)
            .collect();
    }
    let Ok(processes) = fs::read_dir("/proc") else {
        return copies;
    };
    let namespace = |process: &Path| fs::read_link(process.join("ns/mnt"));
    let mut seen: HashSet<PathBuf> = namespace(Path::new("/proc/self")).into_iter().collect();
    for process in processes.flatten() {
        if copies.found.len() >= MOST || Instant::now() > until {
            break;
        }
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let process = process.path();
        match namespace(&process) {
            Ok(namespace) => {
                if !seen.insert(namespace) {
                    continue;
                }
            }
            // It ended, or is a thread of the kernel.
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => continue,
            Err(_) => {
                copies.unseen = true;
                continue;
            }
        }
        let Ok(table) = fs::read(process.join(mountinfo::NAME)) else {
            continue;
        };
        let of_it = mountinfo::parse(&table);
        let first = of_it.into_iter().find(|entry| entry.is_copy_of(mount));
        copies.found.extend(first.map(|entry| Elsewhere::Namespace {
            process: Process::of(pid),
            mount_point: entry.mount_point,
        }));
    }
    copies
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_mounts_and_overlays_of_a_mount_are_its_copies_here() {
        let table = mountinfo::parse(
            b"2 1 0:40 / /m rw - fuse.attachfs attachfs:x rw\n\
              3 1 0:40 /dir /bound rw - fuse.attachfs attachfs:x rw\n\
              4 1 0:41 / /other rw - fuse.attachfs attachfs:y rw\n\
              5 1 0:42 / /over rw - overlay none rw,lowerdir=/a:/m/dir,upperdir=/u,workdir=/w\n\
              6 1 0:43 / /apart rw - overlay none rw,lowerdir=/mm:/a,upperdir=/u,workdir=/w\n",
        );
        let found = here(&table[0], &table);
        assert_eq!(found, [PathBuf::from("/bound"), PathBuf::from("/over")]);
    }

    #[test]
    fn a_copy_is_named_with_its_process() {
        let process = Process {
            pid: 123,
            name: "bash".to_owned(),
            stopped: false,
        };
        let copies = Copies {
            found: vec![
                Elsewhere::Here("/b".into()),
                Elsewhere::Namespace {
                    process,
                    mount_point: "/m".into(),
                },
            ],
            unseen: false,
        };
        assert_eq!(
            copies.to_string(),
            "at /b, at /m in the mount namespace of process 123 (bash)"
        );
    }
}
