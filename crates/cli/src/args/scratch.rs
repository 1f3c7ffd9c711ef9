//! What bounds the files that a job writes: options of `mount` and `run`.

use clap::Args as ClapArgs;

use super::cache::parse_size;

#[derive(Debug, Clone, Copy, ClapArgs)]
pub(crate) struct ScratchBounds {
    /// The most that written files may take on this disk until they are committed: bytes, or with K, M, G or T (of 1024). Beyond
    /// that, writing fails as on a full disk (ENOSPC); `df` shows what is left.
    ///
    /// Blocks on the disk count: holes are free, and what a file had before it was deleted or cut off is free again. All writes then
    /// come through this process, which takes two to four times as long for large files: without a bound the kernel writes
    /// most of them by itself. A session keeps this option; with another size it is taken up within that, during that mount.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_scratch: Option<u64>,
}
