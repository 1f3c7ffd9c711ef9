//! The operations that a file system was asked for: how many, how long they took, how they failed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use attachfs_store::{Count, Latencies, LatencyCounts};

use crate::{FsError, FsErrorKind};

/// An operation of a [`FileSystem`](crate::FileSystem).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the method of that name")]
pub enum Operation {
    Lookup,
    Getattr,
    Setattr,
    Getxattr,
    Setxattr,
    Listxattr,
    Removexattr,
    Readlink,
    MakeFile,
    Create,
    Mkdir,
    MakeSpecial,
    Symlink,
    Link,
    Unlink,
    Rmdir,
    Rename,
    Exchange,
    Open,
    Read,
    Write,
    Allocate,
    Seek,
    Fsync,
    Release,
    Opendir,
    Readdir,
    Readdirplus,
    Releasedir,
    Fsyncdir,
    Statfs,
}

impl Operation {
    /// All of them, in their order.
    pub const ALL: [Self; 31] = [
        Self::Lookup,
        Self::Getattr,
        Self::Setattr,
        Self::Getxattr,
        Self::Setxattr,
        Self::Listxattr,
        Self::Removexattr,
        Self::Readlink,
        Self::MakeFile,
        Self::Create,
        Self::Mkdir,
        Self::MakeSpecial,
        Self::Symlink,
        Self::Link,
        Self::Unlink,
        Self::Rmdir,
        Self::Rename,
        Self::Exchange,
        Self::Open,
        Self::Read,
        Self::Write,
        Self::Allocate,
        Self::Seek,
        Self::Fsync,
        Self::Release,
        Self::Opendir,
        Self::Readdir,
        Self::Readdirplus,
        Self::Releasedir,
        Self::Fsyncdir,
        Self::Statfs,
    ];

    /// Its name for reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Getattr => "getattr",
            Self::Setattr => "setattr",
            Self::Getxattr => "getxattr",
            Self::Setxattr => "setxattr",
            Self::Listxattr => "listxattr",
            Self::Removexattr => "removexattr",
            Self::Readlink => "readlink",
            Self::MakeFile => "mknod",
            Self::Create => "create",
            Self::Mkdir => "mkdir",
            Self::MakeSpecial => "make_special",
            Self::Symlink => "symlink",
            Self::Link => "link",
            Self::Unlink => "unlink",
            Self::Rmdir => "rmdir",
            Self::Rename => "rename",
            Self::Exchange => "exchange",
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Allocate => "fallocate",
            Self::Seek => "lseek",
            Self::Fsync => "fsync",
            Self::Release => "release",
            Self::Opendir => "opendir",
            Self::Readdir => "readdir",
            Self::Readdirplus => "readdirplus",
            Self::Releasedir => "releasedir",
            Self::Fsyncdir => "fsyncdir",
            Self::Statfs => "statfs",
        }
    }
}

const _: () = assert!(Operation::ALL.len() == Operation::Statfs as usize + 1);

/// Counts the operations of a file system. Adding costs two looks at the clock and a few relaxed atomic additions.
#[derive(Debug)]
pub struct Operations {
    since: Instant,
    of: [OneOperation; Operation::ALL.len()],
    /// Names that were looked up and are not there.
    names_missing: Count,
    bytes_read: Count,
    under_way: AtomicU64,
}

#[derive(Debug, Default)]
struct OneOperation {
    took: Latencies,
    failed: [Count; FsErrorKind::ALL.len()],
}

impl Default for Operations {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            of: std::array::from_fn(|_| OneOperation::default()),
            names_missing: Count::default(),
            bytes_read: Count::default(),
            under_way: AtomicU64::new(0),
        }
    }
}

/// One kind of operation up to a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationCounts {
    /// Which.
    pub operation: Operation,
    /// How long they took until their answer, failed ones included.
    pub took: LatencyCounts,
    /// How many failed, by kind; kinds of which there were none are left out.
    pub failed: Vec<(FsErrorKind, u64)>,
}

impl Operations {
    /// How long it has been counting.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// The operations that there were so far.
    pub fn so_far(&self) -> Vec<OperationCounts> {
        let all = Operation::ALL.iter().zip(&self.of);
        let counts = all.map(|(&operation, one)| {
            let failed = FsErrorKind::ALL.iter().zip(&one.failed);
            let failed = failed.map(|(&kind, count)| (kind, count.get()));
            OperationCounts {
                operation,
                took: one.took.so_far(),
                failed: failed.filter(|(_, count)| *count > 0).collect(),
            }
        });
        counts.filter(|counts| counts.took.count > 0).collect()
    }

    /// Bytes that reads were answered with, wherever they came from.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.get()
    }

    /// Look-ups of names that are not there. They are no failures.
    pub fn names_missing(&self) -> u64 {
        self.names_missing.get()
    }

    /// Operations that have no answer yet.
    pub fn under_way(&self) -> u64 {
        self.under_way.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
    }

    /// An operation that began then has its answer.
    pub(super) fn end(&self, operation: Operation, begun: Instant, failed: Option<&FsError>) {
        let one = &self.of[operation as usize];
        one.took.add(begun.elapsed());
        if let Some(error) = failed {
            one.failed[error.kind() as usize].add(1);
        }
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn note_missing(&self) {
        self.names_missing.add(1);
    }

    pub(super) fn note_read(&self, bytes: usize) {
        self.bytes_read.add(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_and_each_kind_of_error_has_its_own_place() {
        for (place, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, place);
        }
        for (place, kind) in FsErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
        }
    }
}
