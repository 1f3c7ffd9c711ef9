//! How a mount reads from its store: options of `mount` and `run`.

use std::num::NonZeroU64;
use std::time::Duration;

use attachfs::{Prefetch, ReadOptions};
use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use super::values::parse_size;

/// How a mount reads. `--max-bandwidth` bounds what all of it takes.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Reading")]
pub(crate) struct Reading {
    /// Fetch what a program will probably read next: what follows in a file that is read in order, backward or in equal
    /// steps, and the next files of a directory whose files are read one after the other. `off` fetches only
    /// what is read or a trace names (--prefetch-trace, --trace-dir), in units of 128 KiB of files longer than 8 MiB, and
    /// shorter ones whole. `all` also fetches everything that is mounted into the cache, behind what is read, until the cache
    /// is full.
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    prefetch: When,
    #[command(flatten)]
    bounds: ReadBounds,
    /// Read everything through the process that serves the mount. Otherwise, where the kernel and this user's rights allow
    /// it (CAP_SYS_ADMIN), the kernel reads files of one object of at least 256 KiB that lie complete in the cache by
    /// itself, as fast as local files: `stats` shows how often. Never with --verify strict, --record-trace or --trace-dir.
    #[arg(long, env = "ATTACHFS_NO_PASSTHROUGH", value_parser = BoolishValueParser::new())]
    no_passthrough: bool,
}

/// What a mount that reads may take, and how it verifies.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Reading")]
pub(crate) struct ReadBounds {
    /// When objects are verified. `usual`: those of up to 8 MiB before a byte of them is given out, longer ones when all
    /// of them has been read; if one is wrong then, a commit stops. `strict`: all of them before a byte is given out. Then the
    /// first read of a long file waits until its whole object was fetched, and one that fits neither into memory nor into the
    /// cache is fetched twice.
    #[arg(long, value_enum, value_name = "WHEN", default_value = "usual")]
    verify: Verify,
    /// How many seconds a read may wait for the store. One that gets at least --min-rate is waited for longer; one that
    /// does not is an I/O error then, and the log says why.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    op_timeout: u64,
    /// Memory for what is fetched: kept, on its way, or waiting to be written to the cache. Such as 500MB or 1GiB; at
    /// least 32MiB. At most half is used for reading ahead: more helps where the store is far away and the network is fast.
    /// Default: 192MiB.
    #[arg(long, value_name = "SIZE", value_parser = parse_target)]
    memory_target: Option<NonZeroU64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    Off,
    Auto,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Verify {
    Usual,
    Strict,
}

/// Two objects of 8 MiB on their way, and as much that is kept.
const LEAST_MEMORY: u64 = 32 << 20;

fn parse_target(text: &str) -> Result<NonZeroU64, String> {
    let bytes = parse_size(text)?;
    let enough = NonZeroU64::new(bytes).filter(|bytes| bytes.get() >= LEAST_MEMORY);
    enough.ok_or_else(|| "at least 32MiB are needed".to_owned())
}

impl From<Reading> for ReadOptions {
    fn from(said: Reading) -> Self {
        Self {
            prefetch: match said.prefetch {
                When::Off => Prefetch::Off,
                When::Auto => Prefetch::Auto,
                When::All => Prefetch::All,
            },
            no_passthrough: said.no_passthrough,
            ..Self::from(said.bounds)
        }
    }
}

/// Nothing is fetched ahead.
impl From<ReadBounds> for ReadOptions {
    fn from(said: ReadBounds) -> Self {
        Self {
            prefetch: Prefetch::Off,
            verifies_first: said.verify == Verify::Strict,
            op_timeout: Some(Duration::from_secs(said.op_timeout)),
            memory_target: said.memory_target,
            no_passthrough: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_memory_is_refused() {
        for bad in ["31MiB", "0", "much"] {
            parse_target(bad).unwrap_err();
        }
        assert_eq!(parse_target("32MiB").unwrap().get(), LEAST_MEMORY);
    }
}
