//! `stats`: what is counted of a mount, as its process tells it, and which processes have its files open, as this machine does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use attachfs_fetch::FetchCounters;
use attachfs_mount::OpenBy;
use attachfs_session::{Request, SessionEntry};
use attachfs_store::{LatencyCounts, RequestKind};
use attachfs_vfs::OpenNode;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::cancel::unless_cancelled;
use crate::counts::MountCounts;
use crate::error::Error;
use crate::prefetching::PrefetchStats;
use crate::session::ask_if_served;

/// So many open files are told by name.
pub(crate) const MOST_OPEN_FILES: usize = 1000;

/// What is counted of a mount. All numbers are since it was made, but for those of this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsReport {
    /// The session.
    pub session: String,
    /// Where it is mounted.
    #[serde(with = "attachfs_session::path_json")]
    pub mount_point: PathBuf,
    /// The process that serves it.
    pub pid: u32,
    /// How long it has been mounted, in milliseconds.
    pub mounted_ms: u64,
    /// The address that answers with metrics, if there is one.
    #[serde(default)]
    pub metrics: Option<String>,
    /// Operations of the kinds that there were.
    pub operations: Vec<OperationStats>,
    /// Operations without an answer at this moment.
    pub operations_under_way: u64,
    /// Look-ups of names that are not there. They are no failures.
    pub names_missing: u64,
    /// Bytes, by where they came from.
    pub bytes: ByteStats,
    /// Requests to the store.
    pub requests: RequestStats,
    /// Fetches at this moment.
    pub fetches: FetchStats,
    /// The disk cache.
    pub cache: CacheStats,
    /// What was fetched ahead of all reads.
    #[serde(default)]
    pub prefetch: PrefetchStats,
    /// Reads that the trace of this mount lacks, because too many came at once. Nothing if none is recorded.
    #[serde(default)]
    pub trace_dropped: Option<u64>,
    /// Files that the kernel reads by itself.
    #[serde(default)]
    pub passthrough: PassthroughStats,
    /// Whether the kernel opens files by itself: the operations are those of first reads, and an open file here is one that
    /// was read within the last seconds.
    #[serde(default)]
    pub no_open: bool,
    /// How many files are open at this moment.
    pub open_file_count: u64,
    /// They, up to 1,000: those that are written to first.
    pub open_files: Vec<OpenFileStats>,
}

/// One kind of operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationStats {
    /// `read`, `lookup` ..
    pub operation: String,
    /// How many, failed ones included.
    pub count: u64,
    /// Failed ones by the kind of their error, `io` for example.
    pub failed: BTreeMap<String, u64>,
    /// How long they took.
    pub took: TimeStats,
}

/// How long things took, in microseconds. Percentiles are up to a quarter too long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeStats {
    /// All of them together.
    pub total_us: u64,
    /// Half of them took at most so long.
    pub p50_us: u64,
    /// 99 of 100 took at most so long.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl From<&LatencyCounts> for TimeStats {
    fn from(counts: &LatencyCounts) -> Self {
        // Rounded up: nothing takes no time.
        let micros = |time: Duration| time.as_nanos().div_ceil(1000) as u64;
        let within = |share| counts.within(share).map_or(0, micros);
        Self {
            total_us: micros(counts.total),
            p50_us: within(0.5),
            p99_us: within(0.99),
            max_us: micros(counts.longest),
        }
    }
}

/// Bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteStats {
    /// That reads were answered with. Reads that the kernel answers from its page cache, or itself from files of the disk cache,
    /// are not among them.
    pub read: u64,
    /// The part of these that is of the manifests' files.
    pub read_of_base: u64,
    /// That were written.
    pub written: u64,
    /// That reads found in this process's memory.
    pub from_memory: u64,
    /// That came from the disk cache into memory.
    pub from_disk: u64,
    /// That came from the store.
    pub from_store: u64,
}

impl From<&MountCounts> for ByteStats {
    fn from(counts: &MountCounts) -> Self {
        Self {
            read: counts.bytes_read,
            read_of_base: counts.files.bytes_read,
            written: counts.files.bytes_written,
            from_memory: counts.fetch.bytes_from_memory,
            from_disk: counts.fetch.bytes_from_disk,
            from_store: counts.fetch.bytes_from_store,
        }
    }
}

/// Requests to the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestStats {
    /// By kind: `get`, `head` .., repeated ones included. Empty if the store does not count them.
    pub made: BTreeMap<String, u64>,
    /// Requests that failed and were made again, and bodies that broke off and whose rest was asked for.
    pub retries: u64,
    /// How long the store took to begin its answers to reads.
    pub first_byte: TimeStats,
    /// Objects that were not what they should be, or had another length.
    pub damaged: u64,
    /// Objects that were not in the store.
    pub missing: u64,
    /// Requests that failed otherwise.
    pub failed: u64,
    /// Reads that took longer than the deadline.
    pub timed_out: u64,
}

impl From<&MountCounts> for RequestStats {
    fn from(counts: &MountCounts) -> Self {
        let made = counts.requests.map(|requests| {
            let all = RequestKind::ALL.map(|kind| (kind.name().to_owned(), requests.of(kind)));
            all.into_iter().filter(|(_, count)| *count > 0).collect()
        });
        let fetch = &counts.fetch;
        Self {
            made: made.unwrap_or_default(),
            retries: counts.retries(),
            first_byte: TimeStats::from(&counts.first_byte),
            damaged: fetch.damaged + fetch.wrong_length,
            missing: fetch.missing,
            failed: fetch.failed,
            timed_out: fetch.timed_out,
        }
    }
}

/// Fetches at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchStats {
    /// Requests to the store under way.
    pub in_flight: u64,
    /// Fetches that wait for their turn or for memory.
    pub waiting: u64,
}

/// The disk cache, in objects and units of large objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheStats {
    /// Found there.
    pub hits: u64,
    /// Written.
    pub written: u64,
    /// Not written, since the disk was too slow, too full, or failed.
    pub dropped: u64,
    /// Bytes of those that were not written: they are fetched again when they are read.
    #[serde(default)]
    pub dropped_bytes: u64,
    /// Removed to make room.
    pub evicted: u64,
    /// Files that were damaged, and deleted.
    pub damaged: u64,
    /// Times the disk failed.
    pub failed: u64,
    /// Files whose chunks were joined to one for the kernel to read.
    #[serde(default)]
    pub joined: u64,
    /// Bytes that were copied for that.
    #[serde(default)]
    pub joined_copied_bytes: u64,
    /// Bytes whose blocks on the disk are shared for that.
    #[serde(default)]
    pub joined_cloned_bytes: u64,
}

impl From<&FetchCounters> for CacheStats {
    fn from(fetch: &FetchCounters) -> Self {
        Self {
            hits: fetch.disk_hits,
            written: fetch.disk_written,
            dropped: fetch.disk_dropped,
            dropped_bytes: fetch.disk_dropped_bytes,
            evicted: fetch.disk_evicted,
            damaged: fetch.disk_damaged,
            failed: fetch.disk_failed,
            joined: fetch.disk_joined,
            joined_copied_bytes: fetch.disk_joined_copied,
            joined_cloned_bytes: fetch.disk_joined_cloned,
        }
    }
}

/// Files that lie complete in the disk cache and that the kernel reads by itself, and files of the job that it reads and writes by
/// itself: no operation and no byte that is read or written so is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassthroughStats {
    /// Whether it can, as far as is known.
    pub used: bool,
    /// How often one of the cache was opened.
    pub opens: u64,
    /// How often one of the job's was opened.
    #[serde(default)]
    pub scratch_opens: u64,
    /// How often the kernel did not take one.
    pub refused: u64,
}

/// A file that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFileStats {
    /// Its inode number.
    pub ino: u64,
    /// Its path in the mount.
    pub path: String,
    /// How often it is open.
    pub handles: u64,
    /// How often it is open for writing.
    pub writers: u64,
    /// The processes that have it, as far as they can be seen: without root, those of the same user.
    #[serde(default)]
    pub processes: Vec<ProcessStats>,
}

/// A process that has a file open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessStats {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

impl From<OpenNode> for OpenFileStats {
    fn from(open: OpenNode) -> Self {
        let OpenNode {
            ino,
            path,
            handles,
            writers,
        } = open;
        Self {
            ino,
            path,
            handles,
            writers,
            processes: Vec::new(),
        }
    }
}

/// Which mount a report is of.
#[derive(Debug)]
pub(crate) struct CountedMount {
    pub(crate) session: String,
    pub(crate) mount_point: PathBuf,
    pub(crate) metrics: Option<String>,
    pub(crate) trace_dropped: Option<u64>,
}

impl StatsReport {
    /// The report of this process's mount.
    pub(crate) fn new(of: CountedMount, counts: &MountCounts, open: Vec<OpenNode>) -> Self {
        let operations = counts.operations.iter().map(|of| OperationStats {
            operation: of.operation.name().to_owned(),
            count: of.took.count,
            failed: of
                .failed
                .iter()
                .map(|(kind, count)| (kind.name().to_owned(), *count))
                .collect(),
            took: TimeStats::from(&of.took),
        });
        Self {
            session: of.session,
            mount_point: of.mount_point,
            pid: std::process::id(),
            mounted_ms: u64::try_from(counts.age.as_millis()).unwrap_or(u64::MAX),
            metrics: of.metrics,
            operations: operations.collect(),
            operations_under_way: counts.operations_under_way,
            names_missing: counts.names_missing,
            bytes: ByteStats::from(counts),
            requests: RequestStats::from(counts),
            fetches: FetchStats {
                in_flight: counts.under_way.requests,
                waiting: counts.under_way.waiting,
            },
            cache: CacheStats::from(&counts.fetch),
            prefetch: PrefetchStats::of(&counts.fetch),
            trace_dropped: of.trace_dropped,
            passthrough: PassthroughStats {
                used: counts.uses_passthrough,
                opens: counts.files.passthrough_opens,
                scratch_opens: counts.files.passthrough_scratch_opens,
                refused: counts.files.passthrough_refused,
            },
            no_open: !counts.hears_of_opens,
            open_file_count: counts.open_files,
            open_files: open.into_iter().map(OpenFileStats::from).collect(),
        }
    }

    /// Adds the processes to the files that they have open.
    fn name_processes(&mut self, found: Vec<OpenBy>) {
        let mut of_file: BTreeMap<u64, Vec<ProcessStats>> = BTreeMap::new();
        for OpenBy { ino, pid, name } in found {
            let processes = of_file.entry(ino).or_default();
            processes.push(ProcessStats { pid, name });
        }
        for file in &mut self.open_files {
            file.processes = of_file.remove(&file.ino).unwrap_or_default();
        }
    }
}

/// What is counted of a mount. Fails with [`FailureClass::Usage`](crate::FailureClass::Usage) if the session is not mounted.
pub async fn stats(found: &SessionEntry, cancel: &CancellationToken) -> Result<StatsReport, Error> {
    unless_cancelled(cancel, async {
        let asked = ask_if_served::<StatsReport>(found, Request::Stats, None);
        let Some(mut report) = asked.await? else {
            let id = &found.meta.id;
            let sentence = format!("session {id} is not mounted: nothing is counted of it");
            return Err(Error::usage(sentence).advise("`attachfs list` shows what is mounted"));
        };
        if !report.open_files.is_empty() {
            let mount_point = report.mount_point.clone();
            let looked = tokio::task::spawn_blocking(move || attachfs_mount::open_by(&mount_point));
            match looked.await {
                Ok(Ok(open)) => report.name_processes(open),
                // The files are told without their processes.
                Ok(Err(error)) => tracing::debug!(%error, "cannot see who has files open"),
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
        Ok(report)
    })
    .await
}
