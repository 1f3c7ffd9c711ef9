//! A process as a message names it.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const LONGEST_SEARCH: Duration = Duration::from_secs(2);

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name, as the kernel keeps it: up to 15 bytes. Empty if it cannot be told.
    pub name: String,
    /// Whether a signal or a debugger stopped it.
    pub stopped: bool,
}

impl Process {
    /// What can be told of the process with this number.
    pub fn of(pid: u32) -> Self {
        let dir = Path::new("/proc").join(pid.to_string());
        let name = fs::read(dir.join("comm")).unwrap_or_default();
        let stat = fs::read(dir.join("stat")).unwrap_or_default();
        let stat = String::from_utf8_lossy(&stat);
        // The name before it may have brackets of its own.
        let state = stat.rsplit_once(") ").map(|(_, state)| state);
        Self {
            pid,
            name: String::from_utf8_lossy(name.trim_ascii_end()).into_owned(),
            stopped: state.is_some_and(|state| state.starts_with(['T', 't'])),
        }
    }

    /// The process that has a lock on this file, as far as `/proc` tells: one that has it open and
    /// locked.
    pub fn that_locks(file: &Path) -> Option<Self> {
        let until = Instant::now() + LONGEST_SEARCH;
        let path = file.canonicalize().ok()?;
        for process in fs::read_dir("/proc").ok()?.flatten() {
            if Instant::now() > until {
                return None;
            }
            let name = process.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // It ended, or belongs to someone else.
            let Ok(open) = fs::read_dir(process.path().join("fd")) else {
                continue;
            };
            for descriptor in open.flatten() {
                if fs::read_link(descriptor.path()).is_ok_and(|open| open == path) {
                    let about = process.path().join("fdinfo").join(descriptor.file_name());
                    let about = fs::read(about).unwrap_or_default();
                    if String::from_utf8_lossy(&about).contains("FLOCK") {
                        return Some(Self::of(pid));
                    }
                }
            }
        }
        None
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)?;
        let stopped = if self.stopped { ", stopped" } else { "" };
        match self.name.as_str() {
            "" => Ok(()),
            name => write!(f, " ({}{stopped})", name.escape_debug()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_a_lock_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(Process::that_locks(file.path()), None);
        file.as_file().try_lock().unwrap();
        let process = Process::that_locks(file.path()).unwrap();
        assert_eq!(process.pid, std::process::id());
        assert!(!process.name.is_empty());
        assert!(!process.stopped);
    }

    #[test]
    fn a_process_says_whether_it_is_stopped() {
        let process = Process {
            pid: 7,
            name: "attach\n".to_owned(),
            stopped: true,
        };
        assert_eq!(process.to_string(), r"process 7 (attach\n, stopped)");
    }
}
