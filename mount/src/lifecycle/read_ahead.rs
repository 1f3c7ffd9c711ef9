//! How far the kernel reads ahead of a program that reads a file from its start to its end.
//!
//! A FUSE mount begins with 128 KiB: each of these requests costs a way to the daemon and back.
//! More has to be asked for in `/sys`, which is for root; for others it stays as it is.

use std::io;
use std::path::{Path, PathBuf};

/// Four of the longest requests: while one is read, others are answered.
/// More gains little, and a page fault in a mapped file reads as much.
const KIB: u64 = 4096;

/// Raises the read-ahead of the mount with this device number, `major:minor`. Failing to is slow and not wrong.
pub(super) fn raise(device: &str) {
    let setting: PathBuf = ["/sys/class/bdi", device, "read_ahead_kb"].iter().collect();
    if let Err(error) = raise_to(KIB, &setting) {
        tracing::debug!(%error, path = %setting.display(), "the kernel's read-ahead stays as it is");
    }
}

fn raise_to(kib: u64, setting: &Path) -> io::Result<()> {
    let present = std::fs::read_to_string(setting)?;
    let present: u64 = present.trim().parse().map_err(io::Error::other)?;
    // An administrator's rule may want more.
    if present < kib {
        std::fs::write(setting, kib.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_raised_and_never_lowered() {
        let temp = tempfile::tempdir().unwrap();
        let setting = temp.path().join("read_ahead_kb");
        for (before, after) in [("128\n", "4096"), ("8192\n", "8192\n")] {
            std::fs::write(&setting, before).unwrap();
            raise_to(KIB, &setting).unwrap();
            assert_eq!(std::fs::read_to_string(&setting).unwrap(), after);
        }
    }
}
