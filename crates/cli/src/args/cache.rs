//! `attachfs cache`, as typed, and what bounds the cache.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use attachfs::CacheLimits;
use clap::{Args, Subcommand};

use super::values::parse_size;

/// How much room the cache may take. From the environment too, so that a machine's administrator says it once for all
/// mounts that share the cache.
#[derive(Debug, Clone, Args)]
pub(crate) struct CacheBounds {
    /// The most that the cache may take, of all stores together. What was
    /// used longest ago goes first, but nothing that is open or pinned. Default: half of its disk.
    #[arg(
        long,
        value_name = "SIZE",
        value_parser = parse_size,
        env = "ATTACHFS_MAX_CACHE_SIZE",
        help_heading = "Cache"
    )]
    pub(crate) max_cache_size: Option<u64>,
    /// What stays free on the cache's disk, whatever the cache could use. Default: a tenth of the disk, at most
    /// 10G; on disks over 200G a twentieth, at most 50G.
    #[arg(
        long,
        value_name = "SIZE",
        value_parser = parse_size,
        env = "ATTACHFS_CACHE_MIN_FREE",
        help_heading = "Cache"
    )]
    pub(crate) cache_min_free: Option<u64>,
}

impl CacheBounds {
    pub(crate) fn limits(&self) -> CacheLimits {
        CacheLimits {
            max_bytes: self.max_cache_size,
            min_free: self.cache_min_free,
        }
    }
}

/// A number and a unit: `90s`, `45m`, `12h`, `30d`.
fn parse_age(text: &str) -> Result<Duration, String> {
    const WRONG: &str = "not a time, such as 90s, 45m, 12h or 30d";
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds: u64 = match &text[number.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(WRONG.to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|error| format!("{WRONG}: {error}"))?;
    let seconds = number.checked_mul(seconds);
    // A hundred years; what is longer was meant otherwise.
    let seconds = seconds.filter(|&seconds| seconds <= 100 * 366 * 86_400);
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| WRONG.to_owned())
}

/// Look after the cache on this machine: see it, make room, verify, fill it ahead of a job, keep things in it.
///
/// Mounts keep what they fetch from S3 here, and all mounts of one user share it. It can be deleted at any
/// time: that costs requests, never correctness. Mounts keep it within its bounds by themselves.
///
/// A disk under it that says nothing for 20 seconds ends these verbs with exit code 14. A mount goes on without it when it is
/// full or failing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  attachfs cache info
  attachfs cache warm --store s3://bucket/DeadlineCloud scene.manifest     (before the job comes)
  attachfs cache pin --store s3://bucket/DeadlineCloud plugins.manifest    (never make room with these)
  attachfs cache gc --max-size 50G
  attachfs cache gc --older-than 30d -n
  attachfs cache verify")]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    pub(crate) verb: CacheVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheVerb {
    Info(Info),
    Gc(Gc),
    Verify(Verify),
    Warm(Warm),
    Pin(Pin),
    Unpin(Unpin),
}

/// Where the cache is.
#[derive(Debug, Clone, Args)]
pub(crate) struct CachePlace {
    /// The cache directory. Default: $XDG_CACHE_HOME/attachfs.
    #[arg(long, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
}

/// Show the content of the cache: objects, bytes, pins, limits, free space.
///
/// Everything in it is looked at, which takes a few seconds with a million objects.
#[derive(Debug, Args)]
pub(crate) struct Info {
    #[command(flatten)]
    pub(crate) place: CachePlace,
    #[command(flatten)]
    pub(crate) bounds: CacheBounds,
}

/// Make room: remove the objects that were used longest ago.
///
/// Without --max-size and --older-than down to the bounds. What a mount has open and what is pinned stays, and is
/// counted. Only files that attachfs made are removed.
#[derive(Debug, Args)]
pub(crate) struct Gc {
    #[command(flatten)]
    pub(crate) place: CachePlace,
    #[command(flatten)]
    pub(crate) bounds: CacheBounds,
    /// Leave at most this much. 0 removes everything.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_size: Option<u64>,
    /// Remove objects that were not used for so long, `30d` or `12h` for example, however much room there is.
    #[arg(long, value_name = "TIME", value_parser = parse_age)]
    pub(crate) older_than: Option<Duration>,
    /// Only say what would be removed.
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

/// Read and hash everything in the cache, and remove damaged objects.
///
/// Of a large object of which some is missing the parts are checked that are there. Exit code 12 if something was
/// damaged. Reads through mounts need no such thing: they find damage themselves.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) place: CachePlace,
}

/// Manifests and the store of their objects.
#[derive(Debug, Clone, Args)]
pub(crate) struct Cached {
    /// The manifests: files, s3:// addresses, or `-` for standard input.
    #[arg(value_name = "MANIFEST", required = true)]
    pub(crate) manifests: Vec<OsString>,
    /// Where the objects are: s3://bucket/prefix. Default: the store of an s3:// manifest. A store that is a
    /// directory is read without the cache.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,
    /// Only files that match this pattern. May be given more than once. Patterns are those of `download`, held
    /// against the manifest's path with a slash before it.
    #[arg(short, long, value_name = "GLOB", help_heading = "Choosing files")]
    pub(crate) include: Vec<OsString>,
    /// Not the files that match this pattern. May be given more than once.
    #[arg(short, long, value_name = "GLOB", help_heading = "Choosing files")]
    pub(crate) exclude: Vec<OsString>,
}

/// Fetch what the cache lacks of manifests, so that a job reads from the local disk.
///
/// Only what is missing is fetched, so the same command goes on after an interruption. Exit code 13 if something is
/// not in the cache afterwards, 12 if the store has something wrong.
#[derive(Debug, Args)]
pub(crate) struct Warm {
    #[command(flatten)]
    pub(crate) cached: Cached,
    #[command(flatten)]
    pub(crate) place: CachePlace,
    #[command(flatten)]
    pub(crate) bounds: CacheBounds,
}

/// Keep the objects of manifests in the cache until they are unpinned.
///
/// Nothing is fetched: what is in the cache stays, and what comes later. `cache warm` fetches the rest. Pinned
/// objects count against the cache's bounds, and leave less room for others.
#[derive(Debug, Args)]
pub(crate) struct Pin {
    #[command(flatten)]
    pub(crate) cached: Cached,
    #[command(flatten)]
    pub(crate) place: CachePlace,
}

/// Unpin manifests: their objects may be evicted again.
#[derive(Debug, Args)]
pub(crate) struct Unpin {
    /// Manifests that were pinned, or ids of pins as `cache info` shows them.
    #[arg(value_name = "MANIFEST|ID", required = true)]
    pub(crate) pins: Vec<OsString>,
    /// Only their pins for this store: s3://bucket/prefix. Default: for whichever.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,
    #[command(flatten)]
    pub(crate) place: CachePlace,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_a_unit() {
        assert_eq!(parse_age("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_age("2d"), Ok(Duration::from_hours(48)));
        for text in ["", "5", "d", "1w", "-1d", "99999999d"] {
            assert!(parse_age(text).is_err(), "{text}");
        }
        let error = parse_age("-1d").unwrap_err();
        assert!(error.ends_with("invalid digit found in string"), "{error}");
    }
}
