//! The state of the machine before a timed run.
//!
//! Two traps of virtual machines, each of which can cost more than what is measured:
//!
//! * The host takes back memory that is free. The first touch of such a page is several times slower than any later one, in
//!   programs as in the page cache. [`touch_and_free`] gets the memory back just before the run.
//! * ext4 creates files slowly for minutes after it has deleted many. Rows that create files do so in [`super::disk`], where
//!   nothing is deleted.

use std::hint::black_box;
use std::path::Path;

use anyhow::{Context, Result};

use crate::cargo::{program, succeed};

const PAGE: usize = 4096;

/// Writes to each page of this many bytes and frees them.
pub(super) fn touch_and_free(bytes: u64) -> Result<()> {
    let size = usize::try_from(bytes).context("more memory than there are addresses")?;
    let mut memory = Vec::<u8>::new();
    memory
        .try_reserve_exact(size)
        .with_context(|| format!("cannot touch {bytes} bytes of memory"))?;
    for page in memory.spare_capacity_mut().chunks_mut(PAGE) {
        page[0].write(1);
    }
    black_box(&memory);
    Ok(())
}

/// Writes back what is dirty and empties the page cache. Needs root.
pub(super) fn drop_caches() -> Result<()> {
    const SWITCH: &str = "/proc/sys/vm/drop_caches";
    succeed(&mut program("sync", []))?;
    std::fs::write(SWITCH, "3").with_context(|| {
        format!("cannot write {SWITCH}: cold figures need root and a kernel that lets it")
    })
}

/// The machine in one line: processors, memory, kernel, and the file system that a folder is on. What cannot be found out is left
/// out.
pub(super) fn describe(folder: &Path) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = value(&read("/proc/cpuinfo"), "model name");
    let memory = value(&read("/proc/meminfo"), "MemTotal")
        .and_then(|text| text.strip_suffix(" kB")?.parse::<u64>().ok())
        .map(|kib| format!("{:.0} GiB of memory", kib as f64 / f64::from(1 << 20)));
    let kernel = format!("Linux {}", read("/proc/sys/kernel/osrelease").trim());
    let parts = [
        Some(format!("{cores} x {}", model.unwrap_or_default())),
        memory,
        Some(kernel),
        file_system(&read("/proc/mounts"), folder),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// From the text of `/proc/mounts`: the kind of the file system that the folder is on.
fn file_system(mounts: &str, folder: &Path) -> Option<String> {
    let kinds = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (_, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        folder.starts_with(point).then_some((point.len(), kind))
    });
    // The innermost; of those at one place the last, which covers the others.
    let (_, kind) = kinds.max_by_key(|&(length, _)| length)?;
    Some(kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_file_system_is_named() {
        let mounts =
            "a / ext4 rw 0 0\nb /mnt xfs rw 0 0\nc /mnt/x btrfs rw 0 0\nd /m tmpfs rw 0 0\n";
        let kind = |folder| file_system(mounts, Path::new(folder));
        assert_eq!(kind("/mnt/y/z").as_deref(), Some("xfs"));
        assert_eq!(kind("/home").as_deref(), Some("ext4"));
    }
}
