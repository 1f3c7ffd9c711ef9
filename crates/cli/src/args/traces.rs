//! What is recorded of the reads of a mount, and fetched ahead because of earlier recordings: options of `mount` and `run`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use attachfs::TraceOptions;
use clap::Args;

use super::values::parse_size;

/// Traces of what is read.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Traces")]
pub(crate) struct Traces {
    /// Record which bytes of the inputs are read, in which order, into this file. It is written when it is unmounted, and takes
    /// the place of another trace of yours and of no other file; two mounts at once need two files. What the kernel answers from its page cache is not seen: a
    /// trace has first reads. All reads go through the process that serves the mount then, as with --no-passthrough.
    #[arg(long, value_name = "FILE")]
    record_trace: Option<PathBuf>,
    /// Fetch what this trace of an earlier run names into the cache, behind what is read. May be given more than once. If traces
    /// name 90 of 100 bytes of what is mounted, all of it is fetched. What is not mounted is left out.
    #[arg(long, value_name = "FILE")]
    prefetch_trace: Vec<PathBuf>,
    /// Keep traces in this directory, by what is mounted: what the last runs with the same manifests read is fetched ahead, and
    /// what this one reads is added; all reads go through the process that serves the mount for that, as with --no-passthrough.
    /// Made if it is missing; a directory with other files is refused.
    #[arg(long, value_name = "DIR")]
    trace_dir: Option<PathBuf>,
    /// Fetch at most so much ahead because of traces or --prefetch all, such as 500MB or 20GiB. What is in the cache does
    /// not count. Default: what the cache has room for. Of a full cache traces replace up to half, whatever is said here.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    prefetch_bytes: Option<u64>,
    /// Stop fetching ahead after so many seconds. Default: an hour after the mount for traces, never with --prefetch all.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    prefetch_time: Option<u64>,
}

impl Traces {
    /// The options, with paths that stay good when the working directory changes.
    pub(crate) fn options(self) -> io::Result<TraceOptions> {
        let absolute = |path: Option<PathBuf>| path.map(std::path::absolute).transpose();
        let prefetch = self.prefetch_trace.iter();
        Ok(TraceOptions {
            record: absolute(self.record_trace)?,
            prefetch: prefetch
                .map(std::path::absolute)
                .collect::<io::Result<_>>()?,
            dir: absolute(self.trace_dir)?,
            most_bytes: self.prefetch_bytes,
            most_time: self.prefetch_time.map(Duration::from_secs),
        })
    }
}
