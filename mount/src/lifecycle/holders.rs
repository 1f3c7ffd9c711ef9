//! Who keeps a mount busy, as far as `/proc` tells.
//!
//! A help for the person who reads the message, not a decision: it looks for a bounded time, and
//! without root it sees only processes of the same user.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::mountinfo;

const MOST: usize = 16;
const LONGEST_SEARCH: Duration = Duration::from_secs(2);

/// Someone who uses a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A process.
    Process {
        /// Its number.
        pid: u32,
        /// Its name, as the kernel keeps it: up to 15 bytes.
        name: String,
        /// What it does there.
        using: Use,
    },
    /// Another mount below.
    Mount(PathBuf),
}

/// How a process uses a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Use {
    /// It works in it.
    WorkingDirectory,
    /// Its root is in it.
    Root,
    /// Its program is in it.
    Program,
    /// It has a file or directory open.
    Open(PathBuf),
    /// It has a file mapped into memory.
    Mapped(PathBuf),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, name, using } => {
                write!(f, "{} (process {pid}, {using})", name.escape_debug())
            }
            Self::Mount(path) => write!(f, "the mount {}", escaped(path)),
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WorkingDirectory => write!(f, "working directory"),
            Self::Root => write!(f, "root directory"),
            Self::Program => write!(f, "program"),
            Self::Open(path) => write!(f, "{} open", escaped(path)),
            Self::Mapped(path) => write!(f, "{} mapped", escaped(path)),
        }
    }
}

/// A path that a job chose, fit for a terminal.
pub(super) fn escaped(path: &Path) -> String {
    path.to_string_lossy().escape_debug().to_string()
}

/// Whoever uses the mount at `mount_point`, whose device is `device` (`major:minor`): one entry a
/// process.
pub(super) fn find(mount_point: &Path, device: &str) -> Vec<Holder> {
    let until = Instant::now() + LONGEST_SEARCH;
    let mut holders = mounts_below(mount_point);
    let Ok(processes) = fs::read_dir("/proc") else {
        return holders;
    };
    for process in processes.flatten() {
        if holders.len() >= MOST || Instant::now() > until {
            break;
        }
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(using) = use_of(&process.path(), mount_point, device) {
            let name = name_of(&process.path());
            holders.push(Holder::Process { pid, name, using });
        }
    }
    holders
}

fn mounts_below(mount_point: &Path) -> Vec<Holder> {
    let below = |entry: &mountinfo::MountEntry| {
        entry.mount_point != mount_point && entry.mount_point.starts_with(mount_point)
    };
    match mountinfo::read() {
        Ok(table) => {
            let below = table.into_iter().filter(below).take(MOST);
            below
                .map(|entry| Holder::Mount(entry.mount_point))
                .collect()
        }
        Err(error) => {
            tracing::debug!(%error, "cannot read the table of mounts");
            Vec::new()
        }
    }
}

/// Processes come and go, and those of others show nothing: both are no use that we can see.
fn use_of(process: &Path, mount_point: &Path, device: &str) -> Option<Use> {
    let inside = |link: &OsStr| {
        let path = fs::read_link(process.join(link)).ok()?;
        path.starts_with(mount_point).then_some(path)
    };
    for (link, using) in [
        ("cwd", Use::WorkingDirectory),
        ("root", Use::Root),
        ("exe", Use::Program),
    ] {
        if inside(OsStr::new(link)).is_some() {
            return Some(using);
        }
    }
    for file in fs::read_dir(process.join("fd")).ok()?.flatten() {
        let link = Path::new("fd").join(file.file_name());
        if let Some(path) = inside(link.as_os_str()) {
            return Some(Use::Open(path));
        }
    }
    mapped(process, device)
}

fn mapped(process: &Path, device: &str) -> Option<Use> {
    let mut found = None;
    mappings(process, &device_of_maps(device)?, |_, path| {
        found = Some(Use::Mapped(PathBuf::from(path)));
        false
    });
    found
}

/// The name of a process, as the kernel keeps it.
pub(super) fn name_of(process: &Path) -> String {
    let name = fs::read(process.join("comm")).unwrap_or_default();
    String::from_utf8_lossy(name.trim_ascii_end()).into_owned()
}

/// A device (`major:minor`) as `maps` has it: in hexadecimal.
pub(super) fn device_of_maps(device: &str) -> Option<String> {
    let (major, minor) = device.split_once(':')?;
    let (major, minor) = (major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?);
    Some(format!("{major:02x}:{minor:02x}"))
}

/// Tells inode number and path of each of a process's mappings of files of the device, until `found` has enough:
/// `7f..-7f.. r--s 00000000 00:2d 17    /mnt/a`.
pub(super) fn mappings(process: &Path, device: &str, mut found: impl FnMut(u64, &str) -> bool) {
    let Ok(maps) = fs::File::open(process.join("maps")) else {
        return;
    };
    for line in BufReader::new(maps).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let mut fields = line.splitn(6, ' ');
        if fields.nth(3) != Some(device) {
            continue;
        }
        let ino = fields.next().and_then(|ino| ino.parse().ok());
        let path = fields.next().unwrap_or_default().trim_start();
        if !found(ino.unwrap_or_default(), path) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_DEVICE: &str = "4095:0";

    #[test]
    fn a_process_that_has_a_file_open_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("held");
        let _held = fs::File::create(&path).unwrap();
        let holders = find(dir.path(), NO_DEVICE);
        let me = std::process::id();
        let found = holders.iter().any(|holder| {
            matches!(holder, Holder::Process { pid, using: Use::Open(open), .. } if *pid == me && *open == path)
        });
        assert!(found, "{holders:?}");
    }

    #[test]
    fn nobody_uses_a_directory_that_was_just_made() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(find(dir.path(), NO_DEVICE), []);
    }

    #[test]
    fn a_name_that_a_job_chose_reaches_the_message_escaped() {
        let using = Use::Open(PathBuf::from("/mnt/a\u{1b}[31m"));
        let holder = Holder::Process {
            pid: 7,
            name: "cp\n".to_owned(),
            using,
        };
        assert_eq!(
            holder.to_string(),
            r"cp\n (process 7, /mnt/a\u{1b}[31m open)"
        );
    }
}
