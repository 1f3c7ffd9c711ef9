//! What goes wrong when: phases of one trouble each, with a time between them in which nothing does.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::inputs::mixed;
use super::readers::now;
use crate::bench::bucket::Bucket;
use crate::cargo::program;

/// A trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The server's faults, in thousandths of reads or keys.
    Store(&'static str, &'static str),
    /// The disk of the cache is full.
    FullDisk,
    /// Files of the cache are removed.
    Removed,
    /// Bytes of files of the cache are turned over. Not where the kernel reads these files by itself: what it reads of a local file it
    /// takes as it is.
    Damaged,
}

/// All of them, in the order in which they come.
pub(super) const ALL: [Trouble; 9] = [
    Trouble::Store(
        "everything",
        "forbidden=10&expired=10&missing=10&internal=20&slow_down=20&close=20&silence=5&cut=20&stall=5&trickle=5&renamed=20&wrong=20",
    ),
    Trouble::FullDisk,
    Trouble::Store("wrong and replaced objects", "wrong=150&renamed=150"),
    Trouble::Store(
        "hanging and broken answers",
        "stall=60&silence=60&trickle=60&close=100&cut=100",
    ),
    Trouble::Removed,
    Trouble::Store(
        "refusals",
        "forbidden=80&expired=80&missing=80&internal=150&slow_down=150",
    ),
    Trouble::Damaged,
    Trouble::Store("no answers", "silence=1000"),
    Trouble::Store("errors only", "internal=500&slow_down=500"),
];

/// Seconds for which the store or the disk fails.
pub(super) const LASTS: u64 = 10;
/// Seconds without a failure afterwards.
pub(super) const PAUSE: u64 = 16;

/// A trouble and its time, in milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Phase {
    pub(super) trouble: Trouble,
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Trouble {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Store(name, _) => name,
            Self::FullDisk => "full disk",
            Self::Removed => "removed cache",
            Self::Damaged => "damaged cache",
        }
    }

    /// Makes the trouble, waits, and ends it.
    pub(super) fn befall(self, seed: u64, bucket: &Bucket, cache: &Path) -> Result<Phase> {
        let start = now();
        let lasts = Duration::from_secs(LASTS);
        match self {
            Self::Store(_, rates) => {
                bucket.ask("POST", &format!("faults?seed={seed}&{rates}"))?;
                thread::sleep(lasts);
                bucket.ask("POST", "faults")?;
            }
            Self::FullDisk => {
                let ballast = cache.join("ballast");
                // It ends in an error, when the disk is full.
                let mut fill = program("dd", ["if=/dev/zero", "bs=1M", "status=none"]);
                let _ = fill
                    .arg(format!("of={}", ballast.display()))
                    .stderr(std::process::Stdio::null())
                    .status();
                thread::sleep(lasts);
                fs::remove_file(ballast)?;
            }
            Self::Removed => {
                for path in files(cache) {
                    // The cache removes files, too.
                    let _ = fs::remove_file(path);
                }
                thread::sleep(lasts);
            }
            Self::Damaged => {
                for round in 0..LASTS {
                    for (number, path) in (round..).zip(files(cache)) {
                        damage(&path, mixed(seed ^ mixed(number)));
                    }
                    thread::sleep(Duration::from_secs(1));
                }
            }
        }
        Ok(Phase {
            trouble: self,
            start,
            end: now(),
        })
    }
}

/// Turns a byte over, if the file is still there.
fn damage(path: &Path, drawn: u64) {
    let Ok(file) = OpenOptions::new().read(true).write(true).open(path) else {
        return;
    };
    let length = file.metadata().map_or(0, |data| data.len());
    let mut byte = [0];
    if let Some(at) = drawn.checked_rem(length)
        && file.read_exact_at(&mut byte, at).is_ok()
    {
        // A disk that fails to be written to is not what this is about.
        let _ = file.write_all_at(&[!byte[0]], at);
    }
}

/// All files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}
