//! Files of deleted objects, kept to be written over.
//!
//! On tmpfs a new page has to be found, emptied and, in a virtual machine, given by the host before a byte is copied into it, which
//! takes several times as long as the copy. A store far away does that on its own processors; here it would be measured as the
//! client's time.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::objects::STAGED;

/// An upload in parts, whose length nobody knows, is begun in a file that is at least so long.
const LARGE: u64 = 16 << 20;

/// How long the file should be that is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Room {
    /// Exactly so long: it is written over to its end.
    Exactly(u64),
    /// It is cut to its length later.
    Large,
}

/// The spare files of a server, by their lengths.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    next: AtomicU64,
    files: Mutex<BTreeMap<u64, Vec<PathBuf>>>,
}

impl Spare {
    /// Takes all files below `dir` into `root`, where no bucket has them, and removes `dir`.
    pub(crate) fn take(&self, root: &Path, dir: &Path) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_dir() {
                self.take(root, &entry.path())?;
                continue;
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let path = root.join(format!("{STAGED}spare.{number}"));
            fs::rename(entry.path(), &path)?;
            self.files.lock().entry(meta.len()).or_default().push(path);
        }
        fs::remove_dir(dir)
    }

    /// A file to write over, if there is one.
    pub(crate) fn give(&self, room: Room) -> Option<PathBuf> {
        let mut files = self.files.lock();
        let length = match room {
            Room::Exactly(length) => length,
            Room::Large => *files.range(LARGE..).next_back()?.0,
        };
        let of_length = files.get_mut(&length)?;
        let path = of_length.pop();
        if of_length.is_empty() {
            files.remove(&length);
        }
        path
    }
}
