//! The state of the machine before a timed run.
//!
//! Two traps of virtual machines, each of which can cost more than what is measured:
//!
//! * The host takes back memory that is free. The first touch of such a page is several times slower than any later one, in
//!   programs as in the page cache. [`touch_and_free`] gets the memory back just before the run.
//! * ext4 creates files slowly for minutes after it has deleted many. A row that creates files must not delete files before it,
//!   on the same file system; what it made is left until all rows are done.

use std::hint::black_box;

use anyhow::{Context, Result};

use crate::cargo::{program, succeed};

const PAGE: usize = 4096;

/// Writes to each page of this many bytes and frees them.
pub(super) fn touch_and_free(bytes: u64) -> Result<()> {
    let size = usize::try_from(bytes).context("more memory than there are addresses")?;
    let mut memory = Vec::new();
    memory
        .try_reserve_exact(size)
        .with_context(|| format!("cannot touch {bytes} bytes of memory"))?;
    memory.resize(size, 0_u8);
    for page in memory.chunks_mut(PAGE) {
        page[0] = 1;
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
