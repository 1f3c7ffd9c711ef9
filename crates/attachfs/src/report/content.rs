//! What a report says, and how it is put together.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use attachfs_store::RequestKind;
use attachfs_vfs::{FileTotal, InputAccount, MissingAccount, Operations, Vfs};
use serde::{Deserialize, Serialize};

use super::money::{Money, Prices};
use crate::counts::MountCounts;
use crate::sources::ShownManifest;
use crate::stats::{ByteStats, ProcessStats, RequestStats};

/// The version of the report's format.
pub(super) const FORMAT: u32 = 1;
/// Entries of each list.
pub(super) const MOST_LISTED: usize = 2000;
/// Bytes of the paths in each list.
pub(super) const LONGEST_LIST: usize = 4 << 20;
/// Parts of the time of a mount.
const STEPS: u64 = 60;

/// What was used of a mount's inputs since the mount was made.
///
/// What the kernel answers by itself, from its page cache, from names that it remembers or from a local file, never reaches
/// attachfs: so this tells of first reads, and a file that was opened counts as used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UseReport {
    /// The version of this format. The first field: a file is known by it.
    pub attachfs_report: u32,
    /// The session.
    pub session: String,
    /// Where it is or was mounted.
    #[serde(with = "attachfs_session::path_json")]
    pub mount_point: PathBuf,
    /// The store.
    pub store: String,
    /// The manifests, the lowest first.
    pub manifests: Vec<ShownManifest>,
    /// When the report was made, in seconds since 1970.
    pub made: i64,
    /// How long it had been mounted then, in milliseconds.
    pub mounted_ms: u64,
    /// Whether the mount had ended.
    pub ended: bool,
    /// Sums over all inputs.
    pub inputs: InputSums,
    /// Files that were opened or read, those of which most was read first. Up to 2,000.
    pub read: Vec<ReadFile>,
    /// Files that nobody opened for reading, the longest first. Up to 2,000.
    pub never_read: Vec<UnreadFile>,
    /// Names that were looked up and are not there.
    pub missing: MissingSums,
    /// When files were used first.
    pub timeline: Timeline,
    /// Bytes, by where they came from.
    pub bytes: ByteStats,
    /// Requests to the store.
    pub requests: RequestStats,
    /// Reads that failed.
    pub reads_failed: u64,
    /// What a download of everything takes at least: each object once, with one request.
    pub full_download: Transfer,
    /// What was fetched from the store.
    pub fetched: Transfer,
    /// What was not fetched of that; less than nothing if more was.
    pub saved: Saved,
    /// What it cost, if prices were given.
    #[serde(default)]
    pub money: Option<Money>,
}

/// Files and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// How many.
    pub files: u64,
    /// Their lengths together.
    pub bytes: u64,
}

impl From<FileTotal> for Files {
    fn from(total: FileTotal) -> Self {
        Self {
            files: total.count,
            bytes: total.bytes,
        }
    }
}

/// Sums over the files of the manifests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputSums {
    /// All that are shown.
    pub shown: Files,
    /// How many were opened or read.
    pub used_files: u64,
    /// The part of these of which no read came here.
    pub only_opened_files: u64,
    /// Those that nobody opened for reading.
    pub never_read: Files,
    /// Bytes that reads asked for, those asked for again included.
    pub bytes_asked: u64,
    /// Bytes that were given to programs, each once, and not what reads that failed asked for; without the files that are counted in `files_without_detail`.
    pub bytes_read: u64,
    /// The part of these that was given to programs and has not been verified: parts of objects longer than 8 MiB of which
    /// not all was read.
    pub bytes_unverified: u64,
    /// Used files of which nothing else is kept, because there are more than 100,000.
    pub files_without_detail: u64,
}

/// A file that was opened or read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadFile {
    /// Its path.
    pub path: String,
    /// Its length in the manifest.
    pub size: u64,
    /// How often it was opened for reading.
    pub opens: u64,
    /// Bytes that reads asked for, those asked for again included.
    pub bytes_asked: u64,
    /// Bytes in `ranges`.
    pub bytes_read: u64,
    /// The bytes that were given to programs, each range with its first byte and the one behind its last. Up to 32.
    pub ranges: Vec<(u64, u64)>,
    /// Whether all bytes in `ranges` were read; otherwise there were too many ranges, and close ones were joined.
    pub ranges_exact: bool,
    /// Bytes that were given to programs and have not been verified.
    pub bytes_unverified: u64,
    /// When it was used first, in milliseconds since the mount.
    pub first_ms: u64,
}

/// A file that nobody opened for reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadFile {
    /// Its path.
    pub path: String,
    /// Its length.
    pub size: u64,
}

/// Names that were looked up and are not there. The kernel remembers them, so later look-ups are seldom counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingSums {
    /// How many.
    pub names: u64,
    /// Look-ups of further names, because there are more than 10,000.
    pub other_lookups: u64,
    /// Those that were looked up most often first. Up to 2,000.
    pub listed: Vec<MissingFile>,
}

/// A name that was looked up and is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingFile {
    /// Its path.
    pub path: String,
    /// How often it was looked up.
    pub lookups: u64,
    /// When first, in milliseconds since the mount.
    pub first_ms: u64,
    /// The process that looked it up first, if it could be told.
    pub process: Option<ProcessStats>,
}

/// How many files were used first in each part of the time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// How long each part is, in milliseconds.
    pub step_ms: u64,
    /// Files that were used first in each part.
    pub first_uses: Vec<u64>,
}

/// What is transferred from a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// GET requests.
    pub requests: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The difference between two transfers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// GET requests.
    pub requests: i64,
    /// Bytes.
    pub bytes: i64,
}

impl Transfer {
    pub(super) fn less(self, other: Self) -> Saved {
        let less = |one: u64, other: u64| {
            let (one, other) = (i128::from(one), i128::from(other));
            i64::try_from(one - other).unwrap_or(if one < other { i64::MIN } else { i64::MAX })
        };
        Saved {
            requests: less(self.requests, other.requests),
            bytes: less(self.bytes, other.bytes),
        }
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// As many entries as fit.
pub(super) fn bounded<T>(entries: impl Iterator<Item = T>, path: impl Fn(&T) -> &str) -> Vec<T> {
    let mut left = LONGEST_LIST;
    let fits = entries.take(MOST_LISTED).map_while(|entry| {
        left = left.checked_sub(path(&entry).len())?;
        Some(entry)
    });
    fits.collect()
}

impl Timeline {
    pub(super) fn of(first_uses: &[Duration], age: Duration) -> Self {
        let step_ms = ms(age).div_ceil(STEPS).max(1);
        let mut timeline = Self {
            step_ms,
            first_uses: vec![0; STEPS as usize],
        };
        for first in first_uses {
            let step = (ms(*first) / step_ms).min(STEPS - 1);
            timeline.first_uses[step as usize] += 1;
        }
        timeline
    }
}

/// What a report is made of, beside the counts: taken while the session is at hand.
#[derive(Debug, Clone)]
pub(crate) struct ReportedMount {
    pub(crate) session: String,
    pub(crate) mount_point: PathBuf,
    pub(crate) store: String,
    pub(crate) manifests: Vec<ShownManifest>,
    pub(crate) ended: bool,
}

impl UseReport {
    /// Makes the report. Walks through all of the base.
    pub(crate) fn new(of: ReportedMount, vfs: &Vfs, operations: &Operations) -> Self {
        let inputs = vfs.input_account(MOST_LISTED);
        let missing = vfs.missing_names(MOST_LISTED);
        Self::of(of, inputs, missing, &MountCounts::of(vfs, operations))
    }

    fn of(
        of: ReportedMount,
        inputs: InputAccount,
        missing: MissingAccount,
        counts: &MountCounts,
    ) -> Self {
        let fetched = Transfer {
            requests: counts.requests.map_or_else(
                || counts.fetch.objects_from_store + counts.fetch.ranges_from_store,
                |requests| requests.of(RequestKind::Get),
            ),
            bytes: counts.fetch.bytes_from_store,
        };
        let full_download = Transfer {
            requests: inputs.objects.count,
            bytes: inputs.objects.bytes,
        };
        let range = |range: &Range<u64>| (range.start, range.end);
        let read = inputs.most_read.into_iter().map(|file| ReadFile {
            bytes_read: file.ranges.iter().map(|part| part.end - part.start).sum(),
            path: file.path,
            size: file.size,
            opens: file.opens,
            bytes_asked: file.asked,
            ranges: file.ranges.iter().map(range).collect(),
            ranges_exact: !file.is_rough,
            bytes_unverified: file.unverified,
            first_ms: ms(file.first),
        });
        let never_read = inputs.longest_unused.into_iter().map(|file| UnreadFile {
            path: file.path,
            size: file.size,
        });
        let listed = missing.names.into_iter().map(|name| MissingFile {
            path: name.path,
            lookups: name.lookups,
            first_ms: ms(name.first),
            process: name.asker.map(|asker| ProcessStats {
                pid: asker.pid,
                name: asker.name,
            }),
        });
        Self {
            attachfs_report: FORMAT,
            session: of.session,
            mount_point: of.mount_point,
            store: of.store,
            manifests: of.manifests,
            made: attachfs_vfs::now().seconds,
            mounted_ms: ms(inputs.age),
            ended: of.ended,
            inputs: InputSums {
                shown: inputs.shown.into(),
                used_files: inputs.used,
                only_opened_files: inputs.only_opened,
                never_read: inputs.unused.into(),
                bytes_asked: inputs.asked,
                bytes_read: inputs.covered,
                bytes_unverified: inputs.unverified,
                files_without_detail: inputs.without_detail,
            },
            read: bounded(read, |file| &file.path),
            never_read: bounded(never_read, |file| &file.path),
            missing: MissingSums {
                names: missing.count,
                other_lookups: missing.other_lookups,
                listed: bounded(listed, |file| &file.path),
            },
            timeline: Timeline::of(&inputs.first_uses, inputs.age),
            bytes: ByteStats::from(counts),
            requests: RequestStats::from(counts),
            reads_failed: counts.files.reads_failed,
            full_download,
            fetched,
            saved: full_download.less(fetched),
            money: None,
        }
    }

    /// Says what it cost. Does nothing if no price is given.
    pub fn price(&mut self, prices: Prices) {
        let transfer = |of: Transfer| (of.requests, of.bytes);
        let money = prices.money(transfer(self.fetched), transfer(self.full_download));
        self.money = money.or(self.money);
    }
}
