//! Which processes have which files of a mount open, as far as `/proc` tells.
//!
//! A help for people, as `holders.rs` is: without root it sees processes of the same user only. Files are known by their numbers
//! (`fdinfo`, `maps`), so neither renaming nor deleting one hides who has it, and the mount itself is never asked.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::holders::{device_of_maps, mappings, name_of};
use super::mountinfo;

/// How long the search may take.
const LONGEST_SEARCH: Duration = Duration::from_secs(2);

/// A file that a process has open or mapped into memory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenBy {
    /// The inode number of the file.
    pub ino: u64,
    /// The process.
    pub pid: u32,
    /// Its name, as the kernel keeps it: up to 15 bytes.
    pub name: String,
}

/// Who has files of the mount at `mount_point` open, each process once for each file. What is not found within two seconds is
/// left out.
pub fn open_by(mount_point: &Path) -> io::Result<Vec<OpenBy>> {
    let table = mountinfo::read()?;
    let here = table
        .iter()
        .rfind(|entry| entry.mount_point == mount_point)
        .ok_or(io::ErrorKind::NotFound)?;
    let mut search = Search {
        device: device_of_maps(&here.device),
        mounts: table
            .iter()
            .filter(|entry| entry.device == here.device)
            .map(|entry| entry.id)
            .collect(),
        found: BTreeSet::new(),
    };
    let (done, found) = channel();
    // Looking at a process that is stuck may block: the caller must not wait for that.
    std::thread::Builder::new()
        .name("attachfs-open".to_owned())
        .spawn(move || {
            search.all();
            // The caller may wait no longer.
            let _ = done.send(search.found);
        })?;
    let found = found.recv_timeout(LONGEST_SEARCH * 2).unwrap_or_default();
    Ok(found.into_iter().collect())
}

struct Search {
    /// The mount's device as `maps` has it.
    device: Option<String>,
    /// The mount and its bind mounts.
    mounts: Vec<u64>,
    found: BTreeSet<OpenBy>,
}

impl Search {
    fn all(&mut self) {
        let until = Instant::now() + LONGEST_SEARCH;
        let Ok(processes) = fs::read_dir("/proc") else {
            return;
        };
        for process in processes.flatten() {
            if Instant::now() > until {
                return;
            }
            let name = process.file_name();
            if let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) {
                self.process(pid, &process.path());
            }
        }
    }

    /// Processes come and go, and those of others show nothing: both have nothing open that we can see.
    fn process(&mut self, pid: u32, process: &Path) {
        let mut files = BTreeSet::new();
        let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten();
        for descriptor in descriptors.flatten() {
            // Sockets and pipes have no path.
            if fs::read_link(descriptor.path()).is_ok_and(|link| link.is_absolute())
                && let Ok(info) =
                    fs::read_to_string(process.join("fdinfo").join(descriptor.file_name()))
            {
                files.extend(self.file_of(&info));
            }
        }
        if let Some(device) = &self.device {
            mappings(process, device, |ino, _| {
                files.insert(ino);
                true
            });
        }
        if files.is_empty() {
            return;
        }
        let name = name_of(process);
        self.found.extend(files.into_iter().map(|ino| OpenBy {
            ino,
            pid,
            name: name.clone(),
        }));
    }

    /// The number of the file that `fdinfo` speaks of, if it is in the mount. Kernels before 5.14 do not tell it.
    fn file_of(&self, info: &str) -> Option<u64> {
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            line?.trim().parse::<u64>().ok()
        };
        let mount = field("mnt_id:")?;
        self.mounts.contains(&mount).then(|| field("ino:"))?
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_file_that_this_process_has_open_is_found_by_its_number() {
        let table = mountinfo::read().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(dir.path()).unwrap().join("held");
        let held = fs::File::create(&path).unwrap();
        let ino = held.metadata().unwrap().ino();
        // It keeps a name, so that no other file gets its number when it is closed.
        fs::rename(&path, dir.path().join("renamed")).unwrap();
        let below = table
            .iter()
            .filter(|entry| path.starts_with(&entry.mount_point));
        let mount = below
            .max_by_key(|entry| entry.mount_point.as_os_str().len())
            .unwrap();
        let pid = std::process::id();
        let is_it = |open: &OpenBy| open.ino == ino && open.pid == pid && !open.name.is_empty();
        let found = open_by(&mount.mount_point).unwrap();
        assert!(found.iter().any(is_it), "{found:?}");
        drop(held);
        let found = open_by(&mount.mount_point).unwrap();
        assert!(!found.iter().any(is_it), "{found:?}");
    }

    #[test]
    fn where_nothing_is_mounted_nothing_is_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let error = open_by(dir.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
