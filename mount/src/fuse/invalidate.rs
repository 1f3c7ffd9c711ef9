//! Tells the kernel to drop names, pages and attributes of files from its caches.
//!
//! Never on an event loop, attributes alone excepted: the kernel takes the directory's or the page's lock for it, and the holder of that
//! lock may be waiting for an event loop's answer.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use attachfs_vfs::Invalidation;
use fuser::{INodeNo, Notifier};

/// With a negative offset the kernel drops a file's attributes and keeps its pages.
pub(super) const ATTRIBUTES_ALONE: i64 = -1;

/// The thread that sends invalidations. It ends when all senders are dropped.
#[derive(Debug)]
pub(super) struct Invalidator {
    thread: JoinHandle<()>,
}

/// An invalidation and its time; ordered by time, then by arrival.
#[derive(Debug, PartialEq, Eq)]
struct Waiting {
    due: Instant,
    number: u64,
    what: Invalidation,
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Invalidator {
    pub(super) fn start(kernel: Notifier) -> io::Result<(Self, Sender<Invalidation>)> {
        let (sender, told) = channel();
        let thread = std::thread::Builder::new()
            .name("invalidate".to_owned())
            .spawn(move || run(&told, &kernel))?;
        Ok((Self { thread }, sender))
    }

    /// Waits for the thread to end: the file system was detached, and the kernel has no caches of
    /// it any more.
    pub(super) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the thread that invalidates names and pages panicked");
        }
    }
}

fn run(told: &Receiver<Invalidation>, kernel: &Notifier) {
    let mut waiting: BinaryHeap<Reverse<Waiting>> = BinaryHeap::new();
    for number in 0.. {
        let next = match waiting.peek() {
            None => told.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(Reverse(Waiting { due, .. })) => {
                told.recv_timeout(due.saturating_duration_since(Instant::now()))
            }
        };
        match next {
            Ok(what) => {
                let due = Instant::now() + what.after();
                waiting.push(Reverse(Waiting { due, number, what }));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while let Some(Reverse(Waiting { due, .. })) = waiting.peek()
            && *due <= Instant::now()
            && let Some(Reverse(Waiting { what, .. })) = waiting.pop()
        {
            tell(kernel, &what);
        }
    }
}

fn tell(kernel: &Notifier, what: &Invalidation) {
    let told = match what {
        Invalidation::Name { parent, name, .. } => {
            kernel.inval_entry(INodeNo(parent.0), OsStr::from_bytes(name.as_bytes()))
        }
        Invalidation::Pages { node, range } => {
            let (offset, len) = extent(range);
            kernel.inval_inode(INodeNo(node.0), offset, len)
        }
        // The kernel keeps a listing as the pages of its directory.
        Invalidation::Listing { dir, .. } => kernel.inval_inode(INodeNo(dir.0), 0, 0),
        Invalidation::Attributes { node } => {
            kernel.inval_inode(INodeNo(node.0), ATTRIBUTES_ALONE, 0)
        }
        Invalidation::Answer(acknowledgement) => {
            acknowledgement.done();
            Ok(())
        }
    };
    if let Err(error) = told {
        // The connection has ended, or the kernel does not know the name or the file: either way
        // nothing is cached.
        tracing::debug!(%error, ?what, "not invalidated");
    }
}

/// A range as the kernel takes it: length 0 means to the end.
fn extent(range: &Range<u64>) -> (i64, i64) {
    let offset = i64::try_from(range.start).unwrap_or(i64::MAX);
    let len = match range.end {
        u64::MAX => 0,
        end => i64::try_from(end.saturating_sub(range.start)).unwrap_or(0),
    };
    (offset, len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_to_the_end_has_no_length() {
        assert_eq!(extent(&(4096..u64::MAX)), (4096, 0));
        assert_eq!(extent(&(0..10)), (0, 10));
    }
}
