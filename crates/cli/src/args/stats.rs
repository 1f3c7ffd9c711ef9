//! Options of `stats`, and of the metrics of a mount.

use std::path::PathBuf;

use clap::Args as ClapArgs;

/// Show what is counted of a mount: throughput, latencies, where bytes came from, requests, open files.
///
/// All numbers are since the mount was made, except for the open files and the fetches, which are those of this moment.
/// What the kernel answers from its page cache never reaches attachfs and is not counted. Percentiles are up to a quarter too long.
/// Processes are those that this user can see: as root all, otherwise one's own.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  attachfs stats /mnt/scene
  attachfs stats --watch /mnt/scene                      (q or Ctrl-C ends it)
  attachfs stats --watch --json /mnt/scene >stats.jsonl")]
pub(crate) struct Stats {
    /// The mount point, a path in the mount, or the session's id (four digits of it will do) or directory.
    #[arg(value_name = "MOUNTPOINT|SESSION")]
    pub(crate) session: PathBuf,
    /// Go on, and show it anew each second until the mount ends: as a live view on a terminal, otherwise one table after the
    /// other. With --json, one object a line.
    #[arg(short, long)]
    pub(crate) watch: bool,
}

/// Metrics of a mount.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub(crate) struct Metrics {
    /// Give metrics for Prometheus at http://ADDRESS/metrics for as long as it is mounted: a loopback address and a port,
    /// such as 127.0.0.1:9400. With port 0 any free one is taken; `status` and `stats` say which. Every user of this
    /// machine can read them; no names of files are in them.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) metrics_addr: Option<attachfs::MetricsAddress>,
}
