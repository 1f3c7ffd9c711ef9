//! What bounds the files that a job writes: options of `mount` and `run`.

use clap::Args as ClapArgs;

use super::values::parse_size;

#[derive(Debug, Clone, Copy, ClapArgs)]
pub(crate) struct ScratchBounds {
    /// The most that written files may take on this disk until they are committed; at least 1M. Beyond
    /// that, writing fails as on a full disk (ENOSPC); `df` shows what is left.
    ///
    /// Blocks on the disk count: holes are free, and what a file had before it was deleted or cut off is free again. All writes then
    /// come through this process, which takes two to four times as long for large files: without a bound the kernel writes
    /// most of them by itself. A session keeps this option; with another size it is taken up within that, during that mount.
    #[arg(long, value_name = "SIZE", value_parser = parse_bound)]
    pub(crate) max_scratch: Option<u64>,
}

/// With less hardly a file can be written, whatever the blocks of the disk.
const LEAST: u64 = 1 << 20;

fn parse_bound(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        bytes @ LEAST.. => Ok(bytes),
        _ => Err("less than 1M (1,048,576 bytes), with which hardly a file can be written; leave the option out for no bound".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_with_which_nothing_can_be_written_is_refused() {
        for bad in ["0", "10", "1K", "1MB", "1048575"] {
            assert!(
                parse_bound(bad).unwrap_err().contains("less than 1M"),
                "{bad}"
            );
        }
        assert_eq!(parse_bound("1M"), Ok(1 << 20));
        assert_eq!(parse_bound("10MB"), Ok(10_000_000));
    }
}
